/* Models that are answered inside the process: pipelines and knowledge collections. The gateway
 * does for them what it does for every model — key, limits, checks, record, the door's format,
 * streamed or whole — and asks here where it would ask an upstream.
 *
 * An answerer gets the request as an OpenAI chat body, whatever the door was, and answers with
 * pieces of text; what it spends by calls of its own is on their records, which are children of
 * this one. */
#pragma once
#include "gateway/scope.h"
#include "http/server.h" /* enum proceed */
#include <yyjson.h>

struct gateway_loop;
struct inner_call; /* one answer under way; the gateway's */

struct inner_request {
    struct gateway_loop *gateway; /* of the loop, for calls of its own */
    const struct scope *scope;    /* lives until the end; its trace context is this call's span */
    struct str name;              /* after the prefix: "NAME@label" */
    yyjson_val *body;             /* messages, user, metadata, parameters */
    yyjson_val *door_body;        /* the request as it came, in the door's format; or NULL */
    struct str session, user;     /* as the record has them, or empty */
};

/* All on the call's loop. */
struct inner_model {
    struct str prefix; /* "pipeline/" */
    /* Begins; what it returns is passed below. The end comes by inner_end, never from within. */
    void *(*start)(void *arg, struct inner_call *call, const struct inner_request *request);
    void (*resume)(void *answer); /* after STOP */
    void (*cancel)(void *answer); /* nobody wants it any more: no inner_… call afterwards */
    void *arg;
};

#define INNER_MODELS_MAX 4

/* Before the loops run. */
void gateway_register_inner(const struct inner_model *model);

/* The answerer of Responses requests with a file_search tool; its name is the model that they name.
 */
#define INNER_FILE_SEARCH "file_search/"
struct wire_search;
/* What was found, before the first text; copied. */
enum rc inner_search(struct inner_call *call, const struct wire_search *search) MUST_CHECK;

/* A piece of the answer's text. STOP: nothing more until `resume`. */
enum proceed inner_text(struct inner_call *call, struct str text);
/* Anything else as members of the last chunk, a JSON object: {"citations": […]}. Before the end. */
void inner_extra(struct inner_call *call, struct str json);
/* err NULL: complete. Tokens as the calls made inside counted them; 0: not known. */
void inner_end(struct inner_call *call, const char *finish_reason, uint64_t input_tokens,
               uint64_t output_tokens, const struct err *err);
