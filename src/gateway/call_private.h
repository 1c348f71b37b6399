/* What the files of the gateway core share: gateway.c (one loop's gateway), call.c (admission,
 * end), call_attempt.c (asking targets), call_answer.c (relaying), call_record.c (identification,
 * record). Nothing else includes this. */
#pragma once
#include "gateway/balance.h"
#include "gateway/breaker.h"
#include "gateway/cache.h"
#include "gateway/defaults.h"
#include "gateway/embedder.h"
#include "gateway/gateway.h"
#include "gateway/inner_private.h"
#include "gateway/limit.h"
#include "gateway/price.h"
#include "gateway/resolve.h"
#include "gateway/slots.h"
#include "gateway/snapshot.h"
#include "base/slab.h"
#include "io/loop.h"
#include "model/engine.h"
#include "model/model.h"
#include "trace/stream_pack.h"
#include "trace/trace.h"

/* States of a call and the legal moves between them (call.c). */
#define CALL_STATES(STATE)                                                                         \
    STATE(NEW)        /* being admitted */                                                         \
    STATE(ENGINE)     /* a local engine is asked for: it may have to start */                      \
    STATE(WAITING)    /* for the time of the next attempt */                                       \
    STATE(ASKING)     /* a target was asked; nothing content-bearing has come */                   \
    STATE(RELAYING)   /* content goes to the sink */                                               \
    STATE(COUNTING)   /* a worker counts the request's tokens */                                   \
    STATE(REPLAYING)  /* an answer from the cache goes to the sink */                              \
    STATE(COMMITTING) /* all is there but the last piece, which waits for the record */            \
    STATE(ENDED)

enum call_state {
#define STATE(name) CALL_##name,
    CALL_STATES(STATE)
#undef STATE
        CALL_STATE_COUNT
};

/* Why an attempt failed, as far as it decides what comes next. */
enum failure {
    FAILURE_REQUEST,    /* the request's own fault: no other target would answer */
    FAILURE_RATE,       /* 429 */
    FAILURE_CREDENTIAL, /* our key was refused: another key may do */
    FAILURE_OVERLOAD,   /* 503, 529 */
    FAILURE_CONTEXT,    /* too long for this model */
    FAILURE_CONTENT_FILTER,
    FAILURE_ERROR, /* no connection, 5xx, not its format */
    FAILURE_TIMEOUT,
    FAILURE_UNSUPPORTED, /* this target's format cannot express the request */
};

/* A snapshot as long as calls of this loop use it: counted by the loop alone. */
struct snapshot_hold {
    struct snapshot *snapshot;
    size_t calls;
    struct map origins; /* provider's address → struct http_origin */
    struct map prices;  /* provider's address and model → struct price_entry: looked up once */
};

struct gateway_loop {
    struct loop *loop;
    struct http_client *client;
    struct gateway_metrics *metrics;
    struct list calls; /* open ones */
    struct list ready; /* those whose next step may not happen inside a callback */
    struct task step;  /* deferred: hands out `ready` */
    bool step_posted;
    struct slab slab;    /* of calls: what a parked one still holds */
    struct list flowing; /* streams whose requests are to be parked, the longest flowing first */
    struct timer park;
    size_t call_count;
    uint32_t key_turn;
    struct snapshot_hold *hold; /* of the current snapshot */
    struct buf gathered;        /* what one piece of the upstream becomes: one write to the sink */
    struct err err;    /* for functions that rarely fail: calls keep their own only if they did */
    struct timer tick; /* days and months of the limits; first loop only */
};

extern struct gateway_options gateway_options; /* set once by gateway_init */

/* The attempt under way. */
struct attempt {
    const struct target *target;
    struct http_exchange *exchange;
    struct embed_call *embed; /* an encoder at work on a worker, instead of an exchange */
    struct inner_call *inner; /* an answer from inside the process, instead of an exchange */
    struct engine_request *engine_request;
    struct engine_lease *lease;
    struct wire_answer *answer; /* NULL: bytes pass unread */
    struct wire_upstream upstream;
    struct buf error_body; /* of an answer that is not 2xx */
    int64_t started_ns, first_content_ns;
    int64_t retry_after_ns;
    uint32_t provider_key_slot;
    int status;            /* 0: no head yet */
    bool admitted;         /* by the breaker: must be reported */
    enum failure failure;  /* with `over` */
    bool recorded;         /* its line in the record is open */
    bool over;             /* failed from inside a callback: the rest is dropped */
    bool complete;         /* the answer's terminal event has come */
    bool overflow;         /* one piece became more than may be gathered */
    bool pass_error;       /* the error's text may go to the client as it is */
    struct str error_type; /* its content type */
};

struct call {
    uint32_t magic;
    enum call_state state;
    struct list node;
    struct gateway_loop *gateway;
    const struct scope *scope;
    struct call_request *request; /* this, limits and record lie in the arena: they may be parked */
    struct call_sink sink;
    void *sink_arg;
    struct snapshot_hold *hold;
    const struct project *project;
    struct resolved resolved;
    struct wire_request wire;
    struct arena parsed;     /* the request's document, until the target was asked */
    bool released;           /* it was given back: the next attempt reads the request again */
    struct str prompt_model; /* "prompt/NAME@label" as the caller said, or empty */
    struct check_report *input_checks; /* NULL: no checks ran */
    struct limit_holds *limits;
    const struct price_model *price; /* of the target asked last */
    struct price_context price_context;

    /* targets, in the order to try */
    uint8_t order[BALANCE_TARGETS_MAX];
    size_t order_count, order_at;
    int tries; /* at the current target */
    int attempts_in_all;
    struct attempt attempt;

    struct timer timer; /* backoff and all deadlines: fires at the nearest */
    int64_t between_ns; /* the route's, or the default */
    int64_t total_due_ns, first_token_due_ns, between_due_ns, wake_due_ns; /* 0: none */
    struct list ready_node; /* in gateway->ready: call_step runs at the end of the turn */

    /* the answer */
    struct str content_type;
    struct str whole; /* a whole answer as collected, in the arena */
    size_t whole_capacity;
    struct stream_pack events; /* a stream's bytes, for the record */
    struct buf kept;           /* the answer's bytes for the cache, or a record of another kind */
    struct buf last;           /* durability sync: the piece that waits for the record */
    bool head_sent, stopped, caching, kept_cut;
    bool flows;          /* bytes go on as they come; else they are collected in `whole` */
    int passed_status;   /* of a target's error that goes to the client unchanged; 0: none */
    int64_t upstream_ns; /* time that targets took */
    uint64_t answer_bytes;
    struct cache_key cache_key;
    const struct cache_entry *cached;
    size_t cached_at;
    struct err *err; /* why the last attempt failed, or the call; in the arena; NULL: nothing did */
    struct commit *commit;
    struct count *count;                /* what a worker is busy with for this call */
    struct call_attempt *attempt_lines; /* what record.attempts points to; grows 1, 4, 16 */
    size_t attempt_capacity;
    struct call_record *record;
    bool captures; /* the record wants the answer's bytes */
    bool may_park; /* on gateway->flowing */
    struct list flowing_node;
};

#define CALL_MAGIC 0xca11ca11

/* ---- gateway.c ---- */
struct snapshot_hold *hold_take(struct gateway_loop *gateway);
void hold_give(struct gateway_loop *gateway, struct snapshot_hold *hold);
/* Where a provider is asked; NULL: err tells. */
struct http_origin *gateway_origin(struct call *call, const struct provider *provider,
                                   struct str base_url, struct err *err);
const struct price_model *gateway_price(struct call *call, const struct target *target);

/* Runs `call_step` at the end of the loop's turn: for what must not happen inside a callback. */
void call_post(struct call *call);

/* ---- call.c ---- */
void call_move(struct call *call, enum call_state state);
/* The call is over: settles, records, tells. `err` NULL: the answer is complete. */
void call_finish(struct call *call, const struct err *err);
/* The next step of a call that was posted. */
void call_step(struct call *call);
/* Keeps a copy of `err` as the call's. */
void call_keep_err(struct call *call, const struct err *err);
/* (Re)arms the timer for the nearest deadline. */
void call_arm(struct call *call);

/* ---- call_attempt.c ---- */
/* Asks the next target, or ends the call when there is none. */
void attempt_next(struct call *call);
/* The attempt under way failed because of `err`. Decides what comes next. */
void attempt_failed(struct call *call, enum failure failure, const struct err *err);
/* Ends what is still under way, without judging the target. */
void attempt_abandon(struct call *call);
void attempt_report(struct call *call, bool failed);
/* The line in the record of the attempt under way, if there is one, is finished. */
void attempt_close(struct call *call, const struct err *err);

/* ---- call_park.c ---- */
/* A stream began to flow: after a while its request, record and limits are parked. */
void park_later(struct call *call);
/* Before anything but the flow touches the arena. Harmless when nothing is parked. */
static inline void call_wake(struct call *call) { arena_wake(call->scope->arena); }
/* The call ends. */
void park_forget(struct call *call);
void park_timer_fired(struct timer *timer);

/* ---- embed.c ---- */
enum rc embed_begin(struct call *call, const struct wire_call *wire, struct err *err) MUST_CHECK;
void embed_close(struct embed_call *embed);

/* ---- call_answer.c ---- */
extern const struct http_exchange_owner answer_exchange;
/* `write` and `write_whole` of wire_answer_options. */
void answer_write(void *arg, struct str bytes);
void answer_write_whole(void *arg, struct str bytes);
/* Sends head and body of an answer that is there whole. */
void answer_send_whole(struct call *call);
void answer_replay(struct call *call);
/* The pieces held back for durability. */
void answer_send_last(struct call *call);
void answer_break(struct call *call, const struct err *err);

/* ---- call_request.c ---- */
/* Reads the request: JSON by wire.h; of a multipart body only the model's name. */
enum rc request_read(struct call *call, struct err *err) MUST_CHECK;
/* The target was asked: gives the memory of the parsed request back, most of what a call would hold
 * while it waits and flows. The few that need another attempt read it again. */
void request_release(struct call *call);
enum rc request_again(struct call *call, struct err *err) MUST_CHECK;
/* A multipart request with the target's model in place of the one named. */
enum rc request_write_multipart(struct call *call, struct str secret, struct wire_call *out,
                                struct err *err) MUST_CHECK;

/* ---- call_count.c ---- */
/* Answers count_tokens without asking the target. */
void count_begin(struct call *call);
void count_cancel(struct call *call);

/* ---- call_rules.c ---- */
/* Does the target's `when` hold for this call? */
bool rules_hold(struct call *call, const struct target *target);

/* ---- call_record.c ---- */
/* Id, key, project, trace context: known before the request is read. */
void record_begin_call(struct call *call);
/* User, session and tags, from the request. */
enum rc record_identify(struct call *call, struct err *err) MUST_CHECK;
/* What may be stored: the strictest of route, key, request and project. */
void record_set_capture(struct call *call);
/* Usage, cost, finish, bodies: at the end. */
void record_complete(struct call *call);
