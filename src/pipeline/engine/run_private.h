/* The engine's own view of runs, for the files of this folder.
 *
 * A frame is one pass over a level of a plan: the top, one item of an iteration, one round of a
 * loop, or the top of another pipeline that a node runs. Of each node in it the frame knows how far
 * it is. Steps are nodes that are ready or under way. Invariants: a node has at most one step in a
 * frame; run->steps holds the steps that were begun, run->ready those that were not;
 * frame->active counts both, and a frame whose count falls to zero has ended. */
#pragma once
#include "gateway/gateway.h"
#include "pipeline/engine/operations.h"
#include "pipeline/engine/pipeline.h"
#include "pipeline/engine/run.h"

#define RUN_MAGIC           0x52554e21
#define RUN_VALUE_BYTES_MAX (16 * 1024 * 1024) /* of one node's outputs */
#define RUN_TEXT_BYTES_MAX  (4 * 1024 * 1024)  /* of the answer */
#define RUN_STEPS_MAX       10000              /* unless the settings say otherwise */
#define RUN_TIME_NS_MAX     (3600 * NS_PER_S)  /* the same; waiting for people does not count */
#define RUN_PUMP_STEPS      256                /* in one turn of the loop */
#define RUN_FRAMES_KEPT     64                 /* ended frames whose nodes the history shows */
#define RUN_KEPT_BYTES_MAX  (256 * 1024)

enum node_state { NODE_IDLE, NODE_READY, NODE_RUNNING, NODE_DONE, NODE_FAILED, NODE_SKIPPED };

struct snapshot;

#define SLOT_PORT_OUT  0
#define SLOT_PORT_NONE UINT16_MAX /* a port without an edge */

struct node_slot {
    struct value *out;  /* object; of a failed node: error_code, error_message */
    uint16_t undecided; /* edges that lead here and may still be taken */
    uint8_t state;      /* enum node_state */
    uint8_t attempts;
    bool taken, handled; /* handled: failed, and the run went on by its policy */
    uint16_t port;       /* where it left: 1 + index of an edge, or SLOT_PORT_… */
    uint32_t started_ms; /* since the run's start */
    int32_t duration_us; /* -1: not ended */
};

/* What belongs to one plan's execution inside a run. */
struct flow {
    struct plan *plan;
    struct value *sys, *conversation;
    struct value *outputs;   /* of its end nodes, merged; may be NULL */
    struct value *citations; /* of its answers, a list; may be NULL */
    struct buf text;         /* of its answers */
    struct frame *frame;     /* of its top level */
};

struct frame {
    struct list node;     /* run->frames, or run->kept */
    struct frame *parent; /* NULL: the run's top */
    struct step *owner;   /* the container's; NULL: the run's top */
    struct flow *flow;
    const struct plan_level *level;
    uint32_t index;
    uint32_t active;
    bool ended;
    char *path;             /* of an ended frame that is kept: "each#3/" */
    struct value *item;     /* of an iteration */
    struct value *vars;     /* of a loop: object */
    struct flow *dead_flow; /* freed with the frame, the last that knows it */
    struct node_slot slots[];
};

struct step {
    struct list node;
    struct run *run;
    struct frame *frame;
    const struct plan_node *plan;
    struct timer timer; /* between attempts, and the time-out */
    int64_t started_ns;
    void *work;           /* of its operations */
    struct str partial;   /* text so far, for answers that pass it on */
    struct value *record; /* what the journal says of it: {"wait": …}; NULL: nothing */
    uint8_t attempt;
    bool begun;    /* its operations have it */
    bool retrying; /* the timer runs until the next attempt */
    bool paused;   /* what it streams was told to stop */
    bool counted;  /* in run->busy */
};

struct answer_state {
    uint32_t segment, decider;
    size_t sent; /* bytes of the current segment */
    bool queued;
};

struct run {
    uint32_t magic;
    struct id id;
    struct list node; /* pipeline_loop->runs */
    struct pipeline_loop *loop;
    struct flow flow;
    struct list steps, ready, frames, kept;
    struct run_owner owner;
    struct principal principal;
    uint8_t key_digest[SHA256_BYTES];   /* all zero: none */
    struct str pipeline, session, user; /* in one block with name */
    char *texts;
    const char *trigger;
    int64_t version;
    struct trace_context trace;
    struct value *inputs; /* as given */
    struct value *start;  /* as the start put them out */
    int64_t started_ns, started_wall_ns, ended_ns;
    int64_t deadline_ns, budget_pico, spent_pico;
    uint64_t input_tokens, output_tokens;
    uint32_t steps_taken, steps_max, kept_count;
    size_t kept_bytes;
    struct answer_state *answers; /* one for each of the plan's answers at the top, or NULL */
    uint32_t *answer_queue;
    uint32_t answer_queued, answer_at;
    size_t answer_begun; /* length of the text when the current answer began */
    struct timer deadline;
    struct task pump_task, free_task;
    struct err *err; /* NULL: none */
    char failed_node[NODE_ID_BYTES_MAX + 1];
    enum run_status status;
    bool inside, recorded, pumping, pump_posted, finishing, ended, abandoned;
    bool taken_up, offline;       /* of an earlier process; nothing may go outside */
    struct id origin;             /* the run that it repeats; zero: none */
    const struct plan_node *only; /* the one node that runs; NULL: all */
    struct value *values;         /* what that sees: {node id: outputs} */
    struct ticket *ticket;        /* its place at the gate; NULL: none is needed */
    struct turn *turn;            /* its turn in its session; NULL: it has none */
    struct value *said;           /* in the session before it; NULL: nothing */
    uint32_t busy;                /* steps under way, containers not counted */
    uint32_t waits;               /* steps that wait for people or inputs */
    struct map *replay;           /* results that are known: path → struct value; or NULL */
    struct run_journal *journal;  /* its dealings with the journal; NULL: none yet */
    struct event_bus *events;     /* NULL: nobody watches */
};

/* ---- engine (run.c) ---- */
void run_pump(struct run *run);
void run_fail(struct run *run, const struct err *err, struct str node);
void step_done(struct step *step, struct value *outputs, struct str port); /* takes the value */
void step_failed(struct step *step, const struct err *err);
/* Its memory, when nothing of it is on its way any more. */
void run_release(struct run *run);
/* A new frame on `level` of the flow, nothing in it ready. */
struct frame *frame_new(struct step *owner, struct flow *flow, size_t level, uint32_t index);
void node_make_ready(struct frame *frame, const struct plan_node *node);
/* The same with its entries ready. */
struct frame *frame_begin(struct step *owner, struct flow *flow, size_t level, uint32_t index,
                          struct value *item, struct value *vars);
/* Ends it and everything in it without telling its owner. */
void frame_drop(struct run *run, struct frame *frame);
struct node_slot *frame_slot(const struct frame *frame, const struct plan_node *node);
/* "each#3/inner": names a step in journal and history. */
void step_path(const struct frame *frame, const struct plan_node *node, struct buf *out);
struct flow *flow_new(struct plan *plan);
void flow_free(struct flow *flow);
/* Its start's outputs from what was given: types, defaults, what is required. */
struct value *flow_read_inputs(const struct plan *plan, yyjson_val *given, struct str query,
                               struct arena *scratch, struct err *err);
/* The same for each attempt at this step of this run, also after a crash; .p NULL: the arena is
 * full. (node_http.c) */
struct str step_idempotency_key(const struct step *step, struct arena *arena);
bool frame_is_within(const struct frame *frame, const struct frame *outer);
/* Tokens and money of a call. */
void run_count_call(struct run *run, const struct call_record *record);
/* The key that the run was started with, as it is now; *out NULL: none. *held: to be unreferenced
 * by the caller when done, if not NULL. ERR_UNAUTHENTICATED: it was revoked. */
enum rc run_find_key(const struct run *run, struct snapshot **held, const struct key **out,
                     struct err *err) MUST_CHECK;

/* ---- values (run_value.c) ---- */
/* The value of a path's first step as the step sees it; NULL: there is none. */
yyjson_val *run_source(struct frame *frame, const struct source *source, yyjson_val *local,
                       struct arena *scratch);
yyjson_val *run_path(struct frame *frame, const struct source *source, const struct reference *path,
                     struct arena *scratch);
enum rc run_render(struct frame *frame, const struct plan_text *text, struct arena *scratch,
                   struct buf *out, struct err *err) MUST_CHECK;
/* `local`: {"item", "index"} of a list operator, or NULL. */
enum rc run_evaluate(struct frame *frame, const struct plan_expression *expression,
                     yyjson_val *local, struct arena *scratch, struct expression_value *out,
                     struct err *err) MUST_CHECK;
bool expression_value_holds(const struct expression_value *value);
/* The text of a plain value as templates print it; false: it needs the engine. */
bool plain_text(yyjson_val *value, struct arena *scratch, struct str *out);

/* ---- answers (run_answer.c) ---- */
void answers_begin(struct run *run);
void answers_advance(struct run *run);
void answers_emit(struct run *run, struct str text);

/* ---- events (run_events.c) ---- */
/* What a step's calls belong to: the run's trace, under the node's span. */
struct trace_context step_trace(const struct step *step);
void run_tell(struct run *run, const char *name, struct buf *data);
void run_tell_node(struct step *step, const char *name);

/* ---- what containers share (node_container.c) ---- */
#define FLOW_DEPTH_MAX 8 /* pipelines and agents, one inside the other */
/* Frames inside the step's own are gone when this returns. */
void step_drop_frames(struct step *step);
/* `sys` of a pipeline that runs inside another. */
struct value *flow_inner_sys(const struct flow *outer, struct str pipeline, int64_t version,
                             struct arena *arena);
int frame_flow_depth(const struct frame *frame);

/* ---- what nodes share (node_basic.c) ---- */
struct assignment {
    struct str name;
    struct plan_expression value;
};

struct assignments {
    struct assignment *items;
    size_t count;
};

enum rc assignments_compile(struct plan_build *build, yyjson_val *list, struct assignments *out,
                            struct err *err) MUST_CHECK;
/* name: value of each, into an object that is open. */
enum rc assignments_put(struct frame *frame, const struct assignments *assignments,
                        struct maker *maker, struct err *err) MUST_CHECK;
/* {name: text} */
struct value *value_of_text(struct arena *scratch, struct str name, struct str text);
/* A list that an expression gives, in the loop's scratch; NULL: it gives none, err tells. */
yyjson_val *evaluate_list(struct step *step, const struct plan_expression *expression,
                          struct err *err);
/* A declared input's value, checked, as a member of an open object. */
enum rc input_put(struct maker *maker, yyjson_val *input, yyjson_val *given,
                  struct err *err) MUST_CHECK;
