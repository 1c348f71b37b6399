/* What the files of wire*.c share; nothing else includes this. */
#pragma once
#include "base/limits.h"
#include "gateway/event.h"
#include "gateway/provider_table.h"
#include "gateway/wire.h"
#include "http/sse.h"
#include "text/json.h"
#include "text/json_writer.h"

static inline bool wire_has_quirk(const struct wire_upstream *upstream, unsigned quirk)
{
    return upstream->row && (upstream->row->quirks & quirk);
}

/* Tools must be emulated by a JSON schema: the engine would drop them silently. */
static inline bool wire_emulates_tools(const struct wire_request *request,
                                       const struct wire_upstream *upstream)
{
    return request->has_tools && wire_has_quirk(upstream, PROVIDER_TEMPLATE_TOOLS) &&
           !upstream->template_has_tools;
}

/* wire_pass.c: an answer in the door's own format, whose bytes go through. */
struct wire_pass;
struct wire_pass *wire_pass_new(struct arena *arena, const struct wire_answer_options *options);
enum wire_verdict wire_pass_data(struct wire_pass *pass, struct str bytes, struct err *err);
enum wire_verdict wire_pass_end(struct wire_pass *pass, struct err *err);
void wire_pass_outcome(const struct wire_pass *pass, struct wire_outcome *out);
void wire_pass_fini(struct wire_pass *pass);

/* wire_translate.c: an answer by way of the event model. */
struct wire_translation;
struct wire_translation *wire_translation_new(struct arena *arena,
                                              const struct wire_answer_options *options);
enum wire_verdict wire_translation_data(struct wire_translation *translation, struct str bytes,
                                        struct err *err);
enum wire_verdict wire_translation_end(struct wire_translation *translation, struct err *err);
void wire_translation_break(struct wire_translation *translation, const struct err *err);
void wire_translation_outcome(const struct wire_translation *translation, struct wire_outcome *out);
void wire_translation_fini(struct wire_translation *translation);
enum rc wire_translate_request(const struct wire_request *request,
                               const struct wire_upstream *upstream, struct arena *arena,
                               struct str *body, struct err *err) MUST_CHECK;

/* wire_usage.c: the usage objects of each format as disjoint buckets. */
void wire_read_usage(enum wire_format format, const struct provider_row *row, yyjson_val *usage,
                     struct usage *out);
/* The format's finish or stop reason in OpenAI's words (chat's pass as they are); static or the
 * text itself. */
struct str wire_finish_name(struct str reason);
/* A complete Responses answer says nothing: tool_calls where its last output is one, else stop. */
struct str wire_responses_finish(yyjson_val *response);
/* The error event that a stream of that format ends with. */
struct str wire_error_frame(enum wire_format door, const struct err *err, struct arena *arena);
