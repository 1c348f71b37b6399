/* A run: one execution of a plan. A state machine on one loop; what it waits for (models, services,
 * people, time) holds no thread and no stack. */
#pragma once
#include "gateway/scope.h"
#include "http/server.h" /* enum proceed */
#include "pipeline/definition/plan.h"

struct pipeline_loop;
struct run;

/* The journal has their numbers. */
enum run_status {
    RUN_RUNNING,
    RUN_WAITING,
    RUN_SUCCEEDED,
    RUN_FAILED,
    RUN_CANCELLED,
    RUN_QUEUED, /* it has not begun: for a place (gate.h) or its turn (session.h) */
};
const char *run_status_name(enum run_status status);
enum rc run_status_parse(struct str name, enum run_status *out) MUST_CHECK;

/* Who started it and is told. On the run's loop; `ended` is the last, the run is freed after it. */
struct run_owner {
    /* Its start is as durable as its pipeline's journal says: it can be told to others. May be
     * NULL; not called when it ends before. */
    void (*begun)(void *arg, struct run *run);
    enum proceed (*text)(void *arg, struct str text); /* of the answer; may be NULL */
    void (*ended)(void *arg, const struct run *run);
    void *arg;
};

struct run_request {
    struct plan *plan; /* referenced by the run */
    struct str pipeline;
    int64_t version;     /* 0: a draft */
    const char *trigger; /* a name that run_trigger knows: static text */
    struct id id;        /* zero: a new one */
    const struct principal *principal;
    const struct key *key; /* may be NULL */
    struct str session, user, query;
    yyjson_val *inputs;   /* object or NULL */
    yyjson_val *messages; /* list or NULL */
    struct trace_context trace;
    int64_t deadline_ns; /* monotonic; 0: by the plan's settings */
    int64_t budget_pico; /* COST_UNKNOWN: by the plan's settings */
    bool inside;         /* part of a call that was admitted */
    bool recorded;       /* survives the process from its start, whatever the journal mode */
    struct map *replay;  /* recording.h; the run's when it was started; NULL: none */
    bool offline;        /* what would go outside is in `replay`, or the run fails */
    struct str only;     /* this node alone runs, on `values`; empty: all */
    yyjson_val *values;  /* {node id: outputs}, of a container around it {"item", "index", …} */
    struct id origin;    /* the run that this one repeats; zero: none */
    struct run_owner owner;
};

/* ERR_BAD_FIELD for inputs that the start does not declare so. Nothing is told from within. */
struct run *run_start(struct pipeline_loop *loop, const struct run_request *request,
                      struct err *err);
/* Ends it now, with `ended`, unless it has ended. The owner may be forgotten first. */
void run_cancel(struct run *run, const char *why);
void run_forget_owner(struct run *run);
void run_resume(struct run *run); /* after the owner's `text` said STOP */

/* ---- what an owner reads in `ended` ---- */
struct id run_id(const struct run *run);
enum run_status run_status(const struct run *run);
const struct err *run_error(const struct run *run); /* NULL: none */
struct str run_failed_node(const struct run *run);
struct str run_text(const struct run *run);       /* the whole answer */
yyjson_val *run_outputs(const struct run *run);   /* object or NULL */
yyjson_val *run_citations(const struct run *run); /* list or NULL */
uint64_t run_input_tokens(const struct run *run);
uint64_t run_output_tokens(const struct run *run);
/* {"id", "status", "outputs", "text", "error", …} */
void run_encode(const struct run *run, struct buf *out);
/* The same without inputs and nodes. */
void run_encode_result(const struct run *run, struct buf *out);
/* Its events from now on; the bus is the run's: take a reference. */
struct event_bus *run_watch(struct run *run);
/* Somebody answers what it waits for: a form's {"action", "values"}, or an input. `path` may
 * be empty where it waits in one place only. ERR_CONFLICT. */
enum rc run_answer_wait(struct run *run, struct str path, yyjson_val *answer, struct str by,
                        struct err *err) MUST_CHECK;
