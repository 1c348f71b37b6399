/* The record of a call: one request to a model, a span in OpenTelemetry's terms. The gateway fills
 * this struct while the call runs (texts live in the request's arena); trace_submit copies it. */
#pragma once
#include "base/err.h"
#include "base/id.h"
#include "trace/usage.h"

enum call_status {
    CALL_OK,
    CALL_ERROR,     /* upstream or we failed */
    CALL_CANCELLED, /* the client left */
    CALL_REFUSED,   /* by us, before any upstream: limits, budget, policy, bad request */
    CALL_BLOCKED,   /* by a check on input or output */
    CALL_STATUS_COUNT
};

enum call_operation {
    OPERATION_CHAT, /* chat completions, messages, responses */
    OPERATION_COMPLETION,
    OPERATION_EMBEDDING,
    OPERATION_COUNT_TOKENS,
    OPERATION_AUDIO,
    OPERATION_IMAGE,
    OPERATION_MODERATION,
    OPERATION_RERANK,
    OPERATION_OTHER,
    OPERATION_SPAN, /* no call: a step of a trace that another program reported */
    OPERATION_COUNT
};

enum call_door {
    DOOR_OPENAI_CHAT,
    DOOR_OPENAI_RESPONSES,
    DOOR_ANTHROPIC_MESSAGES,
    DOOR_OPENAI_OTHER,
    DOOR_INTERNAL,
    DOOR_COUNT
};
enum call_cache { CALL_CACHE_OFF, CALL_CACHE_MISS, CALL_CACHE_HIT };
enum capture { CAPTURE_INHERIT, CAPTURE_NONE, CAPTURE_METADATA, CAPTURE_FULL };

/* One attempt at a target. */
struct call_attempt {
    struct str provider, model;
    int64_t started_ns; /* since the call's start */
    int64_t duration_ns;
    int http_status;     /* 0: no answer */
    enum err_code error; /* ERR_NONE: this attempt answered */
    struct str reason;   /* why it was tried or failed, for people */
};

#define CALL_ATTEMPTS_MAX 16

struct call_tag {
    struct str name, value;
};

struct call_record {
    struct id id, project;
    uint8_t trace_id[16], span_id[8], parent_id[8]; /* W3C; parent all zero: a root */
    int64_t started_wall_ns;

    enum call_door door;
    enum call_operation operation;
    enum call_status status;
    int http_status; /* what the client got */
    enum err_code error;
    struct str error_message;

    struct str model_requested; /* what the caller named */
    struct str prompt;          /* "NAME@3": its version that was called; empty: none */
    struct str route;           /* empty: provider/model was named */
    struct str provider, model; /* the target that answered, or the last tried */
    struct str response_model, response_id;
    struct str finish_reason;

    struct id key; /* zero: a console session or internal call */
    struct str key_name;
    struct id user_account;   /* console user, zero if none */
    struct str user, session; /* the caller's end user and conversation */
    const struct call_tag *tags;
    size_t tag_count;

    bool stream;
    enum call_cache cache;
    enum capture capture;

    int64_t queue_ns, connect_ns, first_token_ns, total_ns; /* durations; -1: did not happen */
    struct usage usage;
    int64_t cost_pico;                             /* COST_UNKNOWN: no price */
    int64_t bucket_price_pico[USAGE_BUCKET_COUNT]; /* per token; COST_UNKNOWN where none */

    const struct call_attempt *attempts;
    size_t attempt_count; /* at most CALL_ATTEMPTS_MAX */
    struct str checks;    /* JSON array of what checks found, or empty */

    struct str client_ip, client_agent;
    struct str request_headers; /* JSON object without credentials; capture full */
    struct str request_body;    /* as received, cut at LIMIT_CAPTURE_BYTES; capture full */
    struct str response_body;   /* whole answer, or the stream's bytes; capture full */
    struct str response_events; /* the stream's bytes packed (stream_pack.h), instead of those; who
                                   reads a call gets response_body */
    bool request_cut, response_cut;

    /* OPERATION_SPAN: what it is called, what kind it says it is ("span", "generation", "tool" …),
     * and its other attributes, events and links as a JSON object (capture full). Its input and
     * output are the bodies; tokens and cost are what it states. */
    struct str span_name, span_kind, span_attributes;
};
