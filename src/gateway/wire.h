/* Wire formats: reading and writing requests, answers and streams of OpenAI chat, OpenAI Responses
 * and Anthropic messages. Pure functions over bytes and arenas: no sockets, no clock, no
 * configuration but what is passed in. The gateway core (call.c) uses only this header; the formats
 * themselves are files under provider/, each of which reads and writes the internal event model
 * (event.h).
 *
 * Same format at door and upstream: bytes pass unchanged but for the ranges that must change.
 * Different formats: translated by way of the event model. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "gateway/config.h"
#include "gateway/check.h"
#include "http/message.h"
#include "text/json_edit.h"
#include "trace/usage.h"

enum wire_format {
    WIRE_OPENAI_CHAT,
    WIRE_ANTHROPIC,
    WIRE_OPENAI_RESPONSES,
    WIRE_OPENAI_COMPLETIONS, /* passed through only */
    WIRE_OPENAI_EMBEDDINGS,  /* passed through only */
    WIRE_OPAQUE,             /* other endpoints that name a model in JSON: passed through */
    WIRE_FORMAT_COUNT
};

/* What the gateway must know of a request, found in one pass; texts point into `body` or the arena.
 */
struct wire_search;
struct wire_request {
    enum wire_format format;    /* the door's */
    struct str body;            /* as received */
    yyjson_doc *doc;            /* parsed body; allocated from the arena */
    struct json_object members; /* where the body's members stand: what splicing needs */
    struct str model;
    bool stream;
    bool usage_asked;      /* stream_options.include_usage */
    bool store_false;      /* "store": false */
    struct str user;       /* user, metadata.user_id, safety_identifier */
    struct str session;    /* metadata.session_id and the like */
    struct call_tag *tags; /* metadata's other string values */
    size_t tag_count;
    int64_t output_tokens_max;      /* max_tokens and kin; 0: not given */
    uint64_t input_tokens_estimate; /* about bytes/4: for reserving limits and budgets */
    int choices;                    /* n; 1 */
    bool has_tools, has_images;
    const struct wire_search *search; /* what its file_search tool found; NULL: nothing was asked */
};

/* What a search inside the process found for a Responses request's file_search tool: shown as an
 * output item of its own before the answer, and as annotations where the answer says "[n]". */
struct wire_citation {
    struct str file_id, filename;
};
struct wire_search {
    struct str queries, results;           /* JSON lists; results may be null */
    const struct wire_citation *citations; /* [0] is "[1]" */
    size_t citation_count;
};
/* Does a Responses request ask for a search in vector stores of ours? */
bool wire_wants_search(const struct wire_request *request);

/* ERR_BAD_JSON, ERR_MISSING_FIELD (model, messages), ERR_BAD_FIELD with the path. */
enum rc wire_read_request(enum wire_format door, struct str body, struct arena *arena,
                          struct wire_request *out, struct err *err) MUST_CHECK;

/* How to ask one target. */
struct wire_upstream {
    enum wire_format format;        /* what is spoken to the target */
    const struct provider_row *row; /* known differences */
    struct str model;               /* the name the target knows */
    struct str params;              /* JSON object merged over the request */
    bool stream;             /* ask for a stream (engines: always, also for a whole answer) */
    bool template_has_tools; /* engines: false = tools must be emulated by a schema, or refused */
};

struct wire_call {
    struct str
        path; /* "/v1/messages": appended to the base URL; empty (WIRE_OPAQUE): the door's own */
    struct str body[4]; /* parts, some of them pointing into the received body */
    size_t body_parts;
    struct http_headers
        headers; /* content-type, anthropic-version, authorization style of the row … */
};

/* The upstream request: spliced or translated. ERR_UNSUPPORTED with field and remedy for what the
 * target's format cannot express. `secret`: the provider's key for the row's credential header. */
enum rc wire_write_request(const struct wire_request *request, const struct wire_upstream *upstream,
                           struct str secret, struct arena *arena, struct wire_call *out,
                           struct err *err) MUST_CHECK;
/* Runs the route's checks on the request's texts. Where one masks, `request` is read anew from a
 * changed body in the arena (all other bytes stay). ERR_CHECK_BLOCKED; findings are added to the
 * report. */
enum rc wire_check_request(struct wire_request *request, const struct check *checks,
                           size_t check_count, struct arena *arena, struct check_report *report,
                           struct err *err) MUST_CHECK;
/* Which format to speak to a target so that the least is translated. */
enum wire_format wire_choose_format(enum wire_format door, const struct provider_row *row);

/* How many tokens the request has, counted here with the model's vocabulary (text/tokenizer.h:
 * loads it at its first use, some 50 ms: call from a worker, or load it before). *estimated:
 * another vendor's vocabulary, tools or media. For targets that have no endpoint of their own for
 * it. */
enum rc wire_count_tokens(const struct wire_request *request, struct str model, struct arena *arena,
                          uint64_t *tokens, bool *estimated, struct err *err) MUST_CHECK;
/* Anthropic's answer to count_tokens; an estimate says so. .p NULL: the arena's cap. */
struct str wire_write_token_count(uint64_t tokens, bool estimated, struct arena *arena);

/* ---- the answer ---- */
enum wire_verdict {
    WIRE_HOLD,   /* nothing content-bearing was written yet: another target may still be tried */
    WIRE_FLOW,   /* content went out */
    WIRE_DONE,   /* the answer is complete (terminal event or whole body) */
    WIRE_FAILED, /* the upstream reported an error in a 200, or sent what is not its format: see err
                  */
};

/* Everything known of an answer at its end. */
struct wire_outcome {
    struct usage usage;
    struct str finish_reason; /* OpenAI's words: stop, length, tool_calls, content_filter */
    struct str response_model, response_id;
    bool content_seen;
    const struct check_report *checks; /* what output checks found; NULL: none ran */
};

struct wire_answer_options {
    const struct wire_request *request;
    const struct wire_upstream *upstream;
    struct str model_shown;    /* replaces the model's name in the answer when not empty */
    const struct route *route; /* checks on output; may be NULL */
    int64_t now_s;             /* unix seconds for `created` where translated */
    /* Bytes for the client: body bytes of the door's format (SSE frames or a whole JSON). Called
     * from inside wire_answer_data and wire_answer_end only; bytes are valid during the call. */
    void (*write)(void *arg, struct str bytes);
    /* Instead of `write`, a whole answer that lies in the arena and stays. NULL: `write` is called.
     */
    void (*write_whole)(void *arg, struct str bytes);
    void *arg;
};

struct wire_answer; /* one answer being relayed; lives in the arena */

/* NULL: the arena's cap was reached. Memory: constant for same-format streams, which do not look
 * into the arena while content flows: it may be parked. */
struct wire_answer *wire_answer_new(struct arena *arena, const struct wire_answer_options *options);
/* Upstream body bytes as they came, any cut. Held-back frames (opening events without content) are
 * kept and written once content follows. */
enum wire_verdict wire_answer_data(struct wire_answer *answer, struct str bytes,
                                   struct err *err) MUST_CHECK;
/* The upstream's body ended: whole answers are written now; a stream that ended without its
 * terminal event gives WIRE_FAILED with ERR_UPSTREAM_PROTOCOL. */
enum wire_verdict wire_answer_end(struct wire_answer *answer, struct err *err) MUST_CHECK;
/* After a failure in the middle of a stream: an error event in the door's format, so that clients
 * see it. */
void wire_answer_break(struct wire_answer *answer, const struct err *err);
/* Whether it still looks into the parsed request; else only its plain members are needed. */
bool wire_answer_needs_document(const struct wire_answer *answer);
void wire_answer_outcome(const struct wire_answer *answer, struct wire_outcome *out);
/* Frees the answer, and what else does not live in the arena. */
void wire_answer_fini(struct wire_answer *answer);

/* ---- errors ---- */
/* An upstream's error body (any known shape, or text) as our error: code by status and type (rate,
 * overload, context length, content filter, …), message kept. */
void wire_read_error(enum wire_format upstream, int status, struct str body, struct err *err);
/* The door's error object. */
struct str wire_write_error(enum wire_format door, const struct err *err, struct str request_id,
                            struct arena *arena);
