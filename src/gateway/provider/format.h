/* What a wire format implements: reading and writing requests, reading an upstream's answer into
 * events, writing events as a door's answer. One table of functions per format; a new provider
 * format is one new table. Pure: no sockets, no clock. */
#pragma once
#include "gateway/event.h"
#include "gateway/provider_table.h"
#include "gateway/wire.h"
#include "http/sse.h"
#include "text/json.h"
#include "text/json_writer.h"

/* An upstream's answer on its way into events. */
struct event_reader {
    const struct wire_upstream *upstream;
    struct arena *arena;   /* lives as long as the answer */
    struct arena *scratch; /* for one stream event: emptied between two */
    enum rc (*emit)(void *arg, const struct event *event);
    void *arg;
    struct err *err; /* where problems are told; set for each call */
    struct usage usage;
    void *state; /* the format's own; made on first use */
    bool done;   /* the terminal event came: later ones are ignored */
};

/* A door's answer being written from events. */
struct event_writer {
    const struct wire_request *request;
    struct str model; /* shown to the client */
    int64_t now_s;
    struct arena *arena;
    struct json_writer json;           /* to the buffer that goes to the client */
    const struct event_answer *answer; /* what came so far, this event included */
    void *state;
};

struct provider_format {
    /* A door's request into the model. ERR_BAD_FIELD, ERR_UNSUPPORTED. */
    enum rc (*read_request)(const struct wire_request *in, struct arena *arena,
                            struct event_request *out, struct err *err);
    /* The model as an upstream's request. ERR_UNSUPPORTED with field and remedy. */
    enum rc (*write_request)(const struct event_request *request,
                             const struct wire_upstream *upstream, struct arena *arena,
                             struct json_writer *w, struct err *err);
    /* One event of an upstream's stream; RC_INVALID: its content broke a rule or reported an error.
     */
    enum rc (*read_event)(struct event_reader *reader, const struct sse_event *event);
    enum rc (*read_whole)(struct event_reader *reader, yyjson_val *root);
    /* The upstream's stream ended: completes where nothing essential is missing, else RC_INVALID.
     */
    enum rc (*read_end)(struct event_reader *reader);
    /* Events for the door, as stream events. */
    enum rc (*write_event)(struct event_writer *writer, const struct event *event);
    enum rc (*write_whole)(struct event_writer *writer, const struct event_answer *answer);
};

extern const struct provider_format openai_chat_format, openai_responses_format, anthropic_format;
/* NULL for formats that only pass. */
const struct provider_format *provider_format_of(enum wire_format format);

/* ---- helpers that the formats share (provider/format.c) ---- */

/* Sets an error about message `index`: field "messages[2].content". */
enum rc format_bad(struct err *err, enum err_code code, const char *field, const char *message);
enum rc format_out_of_memory(struct err *err);
/* A scalar's JSON text, or empty where it is absent, null or no number. */
struct str format_number(yyjson_val *object, const char *name, struct arena *arena);
/* stop: text or array of texts. */
enum rc format_read_stops(yyjson_val *value, struct arena *arena, struct event_request *out);
/* "data:image/png;base64,…" into media type and data; false where it is no such URL. */
bool format_split_data_url(struct str url, struct str *media_type, struct str *data);
/* Writes the part's medium as a URL (data: where it holds bytes). */
void format_put_media_url(struct json_writer *w, const char *name, const struct part *part);
/* Target parameters over the written request: "{…}" with the members of `params` set. */
enum rc format_merge_params(struct str body, struct str params, struct arena *arena,
                            struct str *out);
/* A tool call's arguments as the text of a JSON object: what is none, as when the model was cut off
 * in its middle, becomes {"input": text}. .p NULL: the arena's cap. */
struct str format_arguments(const struct part *part, struct arena *arena);
/* Text as a JSON string; .p NULL: the arena's cap. */
struct str format_quote(struct str s, struct arena *arena);
/* The free text in the arguments of a custom tool called through a function {"input": text}. */
struct str format_custom_input(struct str arguments, struct arena *arena);
extern const struct str format_custom_schema;

/* Answers: events with the fields that their kind needs. */
enum rc format_start(struct event_reader *reader, struct str id, struct str model);
enum rc format_begin(struct event_reader *reader, int choice, int part, enum part_kind kind,
                     struct str id, struct str name);
enum rc format_delta(struct event_reader *reader, int choice, int part, enum part_kind kind,
                     struct str text, struct str logprobs);
enum rc format_end(struct event_reader *reader, int choice, int part, enum part_kind kind);
enum rc format_finish(struct event_reader *reader, int choice, enum finish finish,
                      struct str stop_sequence);
enum rc format_usage(struct event_reader *reader);
enum rc format_done(struct event_reader *reader);
/* "the provider's answer …": RC_INVALID. */
enum rc format_protocol_error(struct event_reader *reader, const char *what);
/* Parses a stream event's data; NULL: not JSON (the error is set). */
yyjson_val *format_parse(struct event_reader *reader, struct str data);

/* Signatures in foreign fields carry the format they came from, so that they go back to that one
 * only: "capstan.anthropic:…". Wrapping one's own changes nothing. */
struct str format_wrap_signature(enum wire_format door, enum wire_format signed_by, bool redacted,
                                 struct str id, struct str signature, struct arena *arena);
void format_unwrap_signature(enum wire_format door, struct str wrapped, struct part *part);
