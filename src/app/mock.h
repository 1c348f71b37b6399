/* `capstan mock`: a scripted upstream that speaks OpenAI's chat, completions, responses, embeddings
 * and models, and Anthropic's messages. What it does with a call is said by a script of
 * `name=value` pairs: the command's own options, then the request's `x-mock` header, then what
 * stands behind `?` in the model's name ("gpt-mock?status=429&retry_after=2"), the later overriding
 * the earlier. Nothing is random but `jitter` and `error_rate`, so tests can predict every byte. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/id.h"
#include "http/server.h"
#include "text/json_writer.h"
#include <yyjson.h>

/* Every setting of a script: MOCK_INT(name, default, meaning), MOCK_NS for durations, MOCK_TEXT. */
#define MOCK_SETTINGS                                                                              \
    MOCK_NS(latency, "before the first byte of the answer")                                        \
    MOCK_NS(jitter, "random addition to latency, at most")                                         \
    MOCK_NS(event_delay, "between two events of a stream; 0: all at once")                         \
    MOCK_INT(tokens, 16, "tokens of the text, a word each")                                        \
    MOCK_TEXT(text, "the text itself, in pieces of 4 bytes")                                       \
    MOCK_INT(echo, 0, "1: the text is the last message")                                           \
    MOCK_INT(reasoning, 0, "tokens of reasoning before the text")                                  \
    MOCK_INT(cached, 0, "input tokens said to come from a cache")                                  \
    MOCK_INT(input_tokens, -1, "input tokens said; -1: a quarter of its bytes")                    \
    MOCK_INT(tools, 0, "calls of the first tool offered; made also where one is required")         \
    MOCK_INT(tool_rounds, -1, "answers with text after so many rounds of tool calls")              \
    MOCK_TEXT(arguments, "their arguments, instead of a sample of the schema")                     \
    MOCK_TEXT(finish, "finish reason, instead of the right one")                                   \
    MOCK_INT(no_usage, 0, "1: no usage is told")                                                   \
    MOCK_INT(status, 0, "an error with this status")                                               \
    MOCK_TEXT(error, "an error: rate, quota, overload, context, filter, auth or server")           \
    MOCK_INT(retry_after, -1, "seconds, with an error")                                            \
    MOCK_INT(error_rate, 0, "so many of 1000 calls fail with `status` or 500")                     \
    MOCK_INT(fail_first, 0, "only the first calls with this `id` fail")                            \
    MOCK_TEXT(id, "what fail_first counts by; default: the whole script")                          \
    MOCK_INT(disconnect, 0, "1: the connection closes without an answer")                          \
    MOCK_INT(hang, 0, "1: no answer at all")                                                       \
    MOCK_INT(disconnect_at, -1, "closes before this event; whole answers: after half")             \
    MOCK_INT(stall_at, -1, "nothing more from this event on")                                      \
    MOCK_INT(malformed_at, -1, "this event is broken JSON; whole answers are, too")                \
    MOCK_INT(error_at, -1, "this event is an error")                                               \
    MOCK_INT(crlf, 0, "1: lines of a stream end with CR LF")                                       \
    MOCK_INT(comments, 0, "1: a comment before each event of a stream")

struct mock_script {
#define MOCK_NS(name, meaning)             int64_t name;
#define MOCK_INT(name, otherwise, meaning) int64_t name;
#define MOCK_TEXT(name, meaning)           struct str name;
    MOCK_SETTINGS
#undef MOCK_NS
#undef MOCK_INT
#undef MOCK_TEXT
    struct str source; /* the request's own part, as given */
};

void mock_script_init(struct mock_script *script);
/* "latency=20ms&status=429" (also separated by ';' or ','; values percent-encoded). Values are
 * copied. */
enum rc mock_script_parse(struct mock_script *script, struct str text, struct arena *arena,
                          struct err *err) MUST_CHECK;
void mock_script_print_help(void);

/* How an error is named, by kind. */
struct mock_error {
    int status, anthropic_status;
    const char *kind, *openai_type, *openai_code, *anthropic_type, *message;
};
const struct mock_error *mock_error_of(const struct mock_script *script); /* NULL: none asked for */

struct mock_call;

/* A wire format: a whole answer, or a stream of `event_count` events, made one at a time. */
struct mock_format {
    const char *path; /* the end of the request's path */
    /* Reads the request into the call; what is wrong with it, or NULL. */
    const char *(*begin)(struct mock_call *call);
    void (*whole)(struct mock_call *call, struct json_writer *w);
    void (*event)(struct mock_call *call, size_t index, struct buf *out);
    void (*error)(struct json_writer *w, const struct mock_error *error, int status);
    /* An error in the middle of a stream. */
    void (*error_event)(struct buf *out, const struct mock_error *error);
    bool anthropic;
};
extern const struct mock_format MOCK_CHAT, MOCK_COMPLETIONS, MOCK_RESPONSES, MOCK_MESSAGES;

struct mock_call {
    struct http_request *request;
    struct mock_server *server;
    const struct mock_format *format;
    struct arena *arena;
    struct mock_script script;
    yyjson_val *body; /* the request's, an object */
    struct str model; /* without the script */
    bool stream, include_usage, logprobs;
    int64_t choices;
    /* What is answered. */
    struct str text;
    struct str *pieces, *reasoning_pieces, *argument_pieces;
    size_t piece_count, reasoning_count, argument_count;
    int64_t tool_calls;
    struct str tool_name, arguments;
    uint64_t input_tokens, output_tokens;
    int64_t created_s;
    char id[ID_TEXT_BYTES_MAX]; /* without prefix */
    /* Streaming. */
    size_t event, event_count;
    bool stopped; /* the client does not read */
    struct timer timer;
    struct buf frame;
    void (*next)(struct mock_call *call); /* what the timer does */
};

/* Makes text, reasoning, tool calls and usage of the call; `last_message` is what echo answers,
 * `tool_name` the tool that may be called, if any. What is wrong, or NULL. */
const char *mock_call_prepare(struct mock_call *call, struct str last_message, struct str tool_name,
                              yyjson_val *tool_schema, bool tool_required);
struct str mock_call_reasoning(const struct mock_call *call);
/* Tokens of what a request says, the same however it is to be answered. */
uint64_t mock_input_tokens(yyjson_val *body, struct arena *arena);
/* A JSON text that a schema accepts: each property with the simplest value of its type. */
struct str mock_sample(yyjson_val *schema, struct arena *arena);
/* Text of a message's content: a string, or the texts of its parts. */
struct str mock_content_text(yyjson_val *content, struct arena *arena);

/* Starts an event: "event: NAME" (NULL: none) and "data: "; then the data is written, then the end.
 */
struct json_writer mock_event_begin(struct buf *out, const char *name);
void mock_event_end(struct json_writer *w);

/* Answers that are not calls. */
void mock_answer_models(struct http_request *request, struct arena *arena);
void mock_answer_embeddings(struct http_request *request, yyjson_val *body, struct arena *arena);
void mock_answer_count_tokens(struct http_request *request, yyjson_val *body, struct arena *arena);
/* JSON, written into the arena. */
void mock_answer_json(struct http_request *request, int status, const struct buf *json);

/* Counts over all loops. */
struct mock_stats {
    _Atomic uint64_t requests, streams, events, cancelled, open;
    _Atomic int64_t cancelled_at_ns; /* the last; UTC */
};
extern struct mock_stats mock_stats;
/* Of the calls with this name, is this one of the first `n`? */
bool mock_is_among_first(struct str name, int64_t n);
/* Runs the call; frees it when the request ends. */
void mock_call_run(struct mock_call *call);
