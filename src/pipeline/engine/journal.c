/* The journal's writer, and what runs tell it. See journal.h.
 *
 * Loops append under a short lock to one queue of bytes; the writer takes the whole queue, appends,
 * writes and syncs it, then posts those who wait to their loops. */
#include "pipeline/engine/journal.h"
#include "base/clock.h"
#include "base/log.h"
#include "pipeline/engine/run_index.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/engine/open_run.h"
#include "store/lock.h"
#include "text/json.h"
#include "text/json_writer.h"
#include <stdlib.h>

#define QUEUE_BYTES_MAX  (256 * 1024 * 1024)
#define SYNC_INTERVAL_NS (20 * NS_PER_MS) /* of what nobody waits for */
#define DROP_INTERVAL_NS (10 * NS_PER_S)
#define FILE_BYTES_MAX   (64ll * 1024 * 1024)
#define DROP_BYTES_MIN   (4 * FILE_BYTES_MAX) /* smaller journals are left alone */
#define RECORD_OUT_MAX   (24 * 1024 * 1024)

struct journal_op;

struct journal {
    struct pipelines *pipelines;
    struct log *log;
    struct writer_lock *writer;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct buf queue, taken; /* records as [u16 type][u32 bytes][payload] */
    struct buf ends;         /* struct written_end: appended to the log, not yet written */
    struct journal_op *waiting, **waiting_end;
    pthread_t thread;
    bool stopping, unsynced;
    uint64_t epoch; /* the sequence number at which files were last dropped; atomic */
    int64_t synced_ns, dropped_ns;
    struct open_runs open;
};

enum op_kind { OP_START, OP_RESULT, OP_INTENT, OP_END };

/* Somebody waits until what he appended is durable. */
struct journal_op {
    struct task task;
    struct journal_op *next; /* in the writer's hands */
    struct list node;        /* run->journal */
    struct loop *home;
    enum op_kind kind;
    struct run *run; /* NULL: forgotten */
    struct step *step;
    struct value *outputs;
    struct str port; /* of the plan, or static */
    void (*go)(struct step *step);
    enum rc rc;
};

struct run_journal {
    struct list ops;
};

/* ---- heads ---- */

struct packed_head {
    uint8_t id[16], project[16];
    int64_t started_ns, ended_ns, version, cost_pico;
    uint64_t input_tokens, output_tokens;
    uint8_t status, trigger_bytes, pipeline_bytes, zero[5];
};

size_t run_head_encode(const struct run_head *head, char out[RUN_HEAD_BYTES_MAX])
{
    struct packed_head packed = {
        .started_ns = head->started_ns,
        .ended_ns = head->ended_ns,
        .version = head->version,
        .cost_pico = head->cost_pico,
        .input_tokens = head->input_tokens,
        .output_tokens = head->output_tokens,
        .status = head->status,
        .trigger_bytes = (uint8_t)MIN(head->trigger.n, (size_t)32),
        .pipeline_bytes = (uint8_t)MIN(head->pipeline.n, (size_t)200),
    };
    memcpy(packed.id, head->id.bytes, 16);
    memcpy(packed.project, head->project.bytes, 16);
    memcpy(out, &packed, sizeof(packed));
    size_t n = sizeof(packed);
    if (packed.pipeline_bytes)
        memcpy(out + n, head->pipeline.p, packed.pipeline_bytes);
    n += packed.pipeline_bytes;
    if (packed.trigger_bytes)
        memcpy(out + n, head->trigger.p, packed.trigger_bytes);
    return n + packed.trigger_bytes;
}

enum rc run_head_decode(struct str bytes, struct run_head *head, struct str *rest)
{
    struct packed_head packed;
    if (bytes.n < sizeof(packed))
        return RC_CORRUPT;
    memcpy(&packed, bytes.p, sizeof(packed));
    size_t n = sizeof(packed);
    if (bytes.n - n < (size_t)packed.pipeline_bytes + packed.trigger_bytes ||
        packed.status > RUN_QUEUED)
        return RC_CORRUPT;
    *head = (struct run_head){
        .started_ns = packed.started_ns,
        .ended_ns = packed.ended_ns,
        .version = packed.version,
        .cost_pico = packed.cost_pico,
        .input_tokens = packed.input_tokens,
        .output_tokens = packed.output_tokens,
        .status = packed.status,
        .pipeline = str_make(bytes.p + n, packed.pipeline_bytes),
        .trigger = str_make(bytes.p + n + packed.pipeline_bytes, packed.trigger_bytes),
    };
    memcpy(head->id.bytes, packed.id, 16);
    memcpy(head->project.bytes, packed.project, 16);
    n += (size_t)packed.pipeline_bytes + packed.trigger_bytes;
    *rest = str_slice(bytes, n, bytes.n);
    return RC_OK;
}

static void fill_head(const struct run *run, struct run_head *head)
{
    *head = (struct run_head){
        .id = run->id,
        .project = run->principal.project,
        .started_ns = run->started_wall_ns,
        .ended_ns = run->ended_ns ? loop_wall_ns(run->loop->loop) : 0,
        .version = run->version,
        .cost_pico = run->spent_pico,
        .input_tokens = run->input_tokens,
        .output_tokens = run->output_tokens,
        .status = (uint8_t)run->status,
        .pipeline = run->pipeline,
        .trigger = str_from(run->trigger),
    };
}

/* ---- appending ---- */

struct record_head {
    uint32_t bytes;
    uint16_t type, zero;
};

/* `op` waits for it, or NULL. False: the disk is far behind. */
static bool append(struct journal *journal, enum journal_type type, struct str front,
                   struct str body, struct journal_op *op)
{
    struct record_head head = {.bytes = (uint32_t)(front.n + body.n), .type = (uint16_t)type};
    char *at;
    pthread_mutex_lock(&journal->lock);
    bool first = buf_len(&journal->queue) == 0;
    bool room =
        !journal->stopping && buf_reserve(&journal->queue, sizeof(head) + head.bytes, &at) == RC_OK;
    if (room) {
        memcpy(at, &head, sizeof(head));
        memcpy(at + sizeof(head), front.p, front.n);
        if (body.n)
            memcpy(at + sizeof(head) + front.n, body.p, body.n);
        buf_added(&journal->queue, sizeof(head) + head.bytes);
    }
    if (room && op) {
        *journal->waiting_end = op;
        journal->waiting_end = &op->next;
    }
    if (first && room)
        pthread_cond_signal(&journal->wake);
    pthread_mutex_unlock(&journal->lock);
    return room;
}

static void op_done(struct task *task)
{
    struct journal_op *op = CONTAINER_OF(task, struct journal_op, task);
    struct run *run = op->run;
    struct err err = {0};
    if (op->rc != RC_OK)
        err_set(&err, op->rc == RC_FULL ? ERR_DISK_FULL : ERR_INTERNAL,
                "the journal of runs cannot be written");
    if (run)
        list_remove(&op->node);
    if (!run || (op->kind == OP_RESULT && !op->step)) {
        value_unref(op->outputs);
    } else if (op->kind == OP_END) {
        run_ended(run);
    } else if (err.code != ERR_NONE) {
        value_unref(op->outputs);
        run_fail(run, &err, STR_EMPTY);
    } else if (op->kind == OP_START) {
        run_begin(run);
    } else if (op->kind == OP_RESULT) {
        journal_result_durable(op->step, op->outputs, op->port, NULL);
    } else if (op->step) {
        op->go(op->step);
        if (!run->finishing)
            run_pump(run);
    }
    free(op);
}

static struct journal_op *op_new(struct run *run, struct step *step, enum op_kind kind)
{
    struct journal_op *op = xcalloc(1, sizeof(*op));
    if (!run->journal) {
        run->journal = xcalloc(1, sizeof(*run->journal));
        list_init(&run->journal->ops);
    }
    op->task.run = op_done;
    op->home = run->loop->loop;
    op->run = run;
    op->step = step;
    op->kind = kind;
    list_push_back(&run->journal->ops, &op->node);
    return op;
}

/* Appends and waits. False: it cannot be appended, and nothing will be told. */
static bool append_and_wait(struct run *run, struct step *step, enum op_kind kind,
                            enum journal_type type, struct str front, struct str body,
                            struct journal_op **out)
{
    struct journal_op *op = op_new(run, step, kind);
    if (append(run->loop->all->journal, type, front, body, op)) {
        *out = op;
        return true;
    }
    list_remove(&op->node);
    free(op);
    return false;
}

void journal_forget_step(struct step *step)
{
    if (!step->run->journal)
        return;
    LIST_FOR_EACH (op, &step->run->journal->ops, struct journal_op, node)
        if (op->step == step)
            op->step = NULL;
}

void journal_forget_run(struct run *run)
{
    if (run->replay) {
        replay_free(run->replay);
        run->replay = NULL;
    }
    if (!run->journal)
        return;
    LIST_FOR_EACH_SAFE (op, &run->journal->ops, struct journal_op, node) {
        list_remove(&op->node);
        op->run = NULL;
        op->step = NULL;
    }
    free(run->journal);
    run->journal = NULL;
}

/* ---- what runs tell ---- */

static struct str id_front(const struct run *run)
{
    return str_make(run->id.bytes, sizeof(run->id.bytes));
}

/* Once an epoch: files are dropped only at its start, so that whatever holds this epoch's first
 * record holds the definition, too. */
static void note_definition(struct journal *journal, struct plan *plan)
{
    uint64_t epoch = __atomic_load_n(&journal->epoch, __ATOMIC_ACQUIRE);
    if (__atomic_exchange_n(&plan->journal_epoch, epoch, __ATOMIC_RELAXED) == epoch)
        return;
    if (!append(journal, JOURNAL_DEFINITION, str_make(plan->hash, sizeof(plan->hash)), plan->spec,
                NULL))
        __atomic_store_n(&plan->journal_epoch, 0, __ATOMIC_RELAXED);
}

static void put_hex(struct json_writer *w, const char *name, const void *bytes, size_t n)
{
    char hex[2 * SHA256_BYTES + 1];
    hex_encode(bytes, n, hex);
    json_put_string(w, name, str_from(hex));
}

static void encode_start(struct run *run, struct json_writer *w)
{
    json_begin_object(w);
    put_hex(w, "definition", run->flow.plan->hash, SHA256_BYTES);
    json_put_value(w, "inputs", value_json(run->start));
    json_put_string(w, "session", run->session);
    json_put_string(w, "user", run->user);
    json_put_value(w, "query", yyjson_obj_get(value_json(run->flow.sys), "query"));
    json_put_value(w, "messages", yyjson_obj_get(value_json(run->flow.sys), "messages"));
    json_put_string(w, "principal", run->principal.name);
    json_put_uint(w, "permissions", run->principal.permissions);
    json_put_int(w, "role", run->principal.role);
    put_hex(w, "key_id", run->principal.key.bytes, 16);
    put_hex(w, "user_id", run->principal.user.bytes, 16);
    put_hex(w, "key", run->key_digest, SHA256_BYTES);
    put_hex(w, "trace", run->trace.trace_id, 16);
    put_hex(w, "parent", run->trace.parent_id, 8);
    json_put_bool(w, "inside", run->inside);
    json_put_int(w, "budget_pico", run->budget_pico);
    put_hex(w, "origin", run->origin.bytes, 16);
    if (run->replay) {
        json_key(w, "known");
        json_begin_array(w);
        MAP_FOR_EACH (slot, run->replay)
            json_value(w, value_json(slot->value));
        json_end_array(w);
    }
    json_end_object(w);
}

bool journal_start(struct run *run)
{
    struct journal *journal = run->loop->all->journal;
    enum journal_mode mode = run->flow.plan->document->journal;
    char front[RUN_HEAD_BYTES_MAX];
    struct run_head head;
    struct journal_op *op;
    struct buf body;
    fill_head(run, &head);
    if (!journal) {
        run_index_begin(run->loop->all->index, &head, loop_index(run->loop->loop), 0);
        return true;
    }
    bool wait = run->recorded || mode == JOURNAL_SYNC;
    run->recorded |= mode != JOURNAL_EXIT;
    run_index_begin(run->loop->all->index, &head, loop_index(run->loop->loop),
                    run->recorded ? __atomic_load_n(&journal->epoch, __ATOMIC_ACQUIRE) : 0);
    if (!run->recorded)
        return true;
    note_definition(journal, run->flow.plan);
    buf_init(&body, RECORD_OUT_MAX);
    struct json_writer w = json_writer_to(&body);
    encode_start(run, &w);
    struct str head_text = str_make(front, run_head_encode(&head, front));
    bool good =
        w.rc == RC_OK &&
        (wait ? append_and_wait(run, NULL, OP_START, JOURNAL_START, head_text, buf_str(&body), &op)
              : append(journal, JOURNAL_START, head_text, buf_str(&body), NULL));
    buf_fini(&body);
    if (!good) {
        struct err err = {0};
        err_set(&err, ERR_OVERLOADED, "the journal of runs is too far behind");
        run_fail(run, &err, STR_EMPTY);
        return false;
    }
    return !wait;
}

static bool encode_result(struct step *step, struct value *outputs, struct str port,
                          const struct err *err, struct buf *body)
{
    struct buf path;
    buf_init(&path, 8192);
    step_path(step->frame, step->plan, &path);
    struct json_writer w = json_writer_to(body);
    json_begin_object(&w);
    json_put_string(&w, "p", buf_str(&path));
    if (err) {
        json_key(&w, "err");
        json_begin_object(&w);
        json_put_int(&w, "code", err->code);
        json_put_string(&w, "message", str_from(err->message));
        json_end_object(&w);
    } else {
        json_put_string(&w, "port", port);
        json_put_value(&w, "out", value_json(outputs));
    }
    json_end_object(&w);
    buf_fini(&path);
    return w.rc == RC_OK;
}

bool journal_result(struct step *step, struct value *outputs, struct str port,
                    const struct err *err)
{
    struct run *run = step->run;
    struct journal *journal = run->loop->all->journal;
    bool wait = !err && run->flow.plan->document->journal == JOURNAL_SYNC;
    struct journal_op *op = NULL;
    struct buf body;
    if (!journal || !run->recorded)
        return true;
    buf_init(&body, RECORD_OUT_MAX);
    bool good = encode_result(step, outputs, port, err, &body);
    if (good && wait)
        good = append_and_wait(run, step, OP_RESULT, JOURNAL_RESULT, id_front(run), buf_str(&body),
                               &op);
    else if (good)
        good = append(journal, JOURNAL_RESULT, id_front(run), buf_str(&body), NULL);
    buf_fini(&body);
    if (op) {
        op->outputs = outputs;
        op->port = port;
    }
    if (!good && !err) { /* going on would do it again after a crash */
        struct err problem = {0};
        err_set(&problem, ERR_OVERLOADED, "the journal of runs is too far behind");
        value_unref(outputs);
        run_fail(run, &problem, step->plan->id);
        return false;
    }
    return !op;
}

static bool append_path(struct step *step, enum journal_type type, struct str member,
                        struct str json, struct journal_op *op)
{
    struct buf path, body;
    buf_init(&path, 8192);
    buf_init(&body, RECORD_OUT_MAX);
    step_path(step->frame, step->plan, &path);
    struct json_writer w = json_writer_to(&body);
    json_begin_object(&w);
    json_put_string(&w, "p", buf_str(&path));
    if (json.n) {
        json_key_str(&w, member);
        json_raw(&w, json);
    }
    json_end_object(&w);
    bool good = w.rc == RC_OK && append(step->run->loop->all->journal, type, id_front(step->run),
                                        buf_str(&body), op);
    buf_fini(&path);
    buf_fini(&body);
    return good;
}

void journal_intent(struct step *step, void (*go)(struct step *step))
{
    struct run *run = step->run;
    struct err err = {0};
    if (!run->loop->all->journal || !run->recorded) {
        go(step);
        return;
    }
    struct journal_op *op = op_new(run, step, OP_INTENT);
    op->go = go;
    if (append_path(step, JOURNAL_INTENT, STR_EMPTY, STR_EMPTY, op))
        return;
    list_remove(&op->node);
    free(op);
    err_set(&err, ERR_OVERLOADED, "the journal of runs is too far behind");
    if (step->plan->operations->cancel)
        step->plan->operations->cancel(step); /* what it was about to send */
    step_failed(step, &err);
}

void journal_note_session(struct run *run, const struct value *found)
{
    struct buf body;
    if (!run->loop->all->journal || !run->recorded)
        return;
    buf_init(&body, RECORD_OUT_MAX);
    struct json_writer w = json_writer_to(&body);
    json_begin_object(&w);
    json_put_text(&w, "p", SESSION_PATH);
    json_put_value(&w, "out", value_json(found));
    json_end_object(&w);
    if (w.rc == RC_OK)
        (void)append(run->loop->all->journal, JOURNAL_RESULT, id_front(run), buf_str(&body), NULL);
    buf_fini(&body);
}

void journal_note_wait(struct step *step, struct str wait)
{
    if (step->run->loop->all->journal && step->run->recorded)
        (void)append_path(step, JOURNAL_WAIT, STR("wait"), wait, NULL);
}

bool journal_end(struct run *run)
{
    struct journal *journal = run->loop->all->journal;
    bool wait = journal && run->flow.plan->document->journal == JOURNAL_SYNC;
    char front[RUN_HEAD_BYTES_MAX];
    struct run_head head;
    struct journal_op *op;
    struct buf body;
    fill_head(run, &head);
    if (!journal) {
        run_index_end(run->loop->all->index, &head, STR_EMPTY);
        return true;
    }
    buf_init(&body, RECORD_OUT_MAX);
    run_encode(run, &body);
    run_index_end(run->loop->all->index, &head, buf_str(&body));
    struct str head_text = str_make(front, run_head_encode(&head, front));
    bool waits = false;
    if (wait)
        waits = append_and_wait(run, NULL, OP_END, JOURNAL_END, head_text, buf_str(&body), &op);
    else
        (void)append(journal, JOURNAL_END, head_text, buf_str(&body), NULL);
    buf_fini(&body);
    return !waits;
}

void journal_give_up(struct journal *journal, const struct run_head *from, const struct err *err)
{
    char front[RUN_HEAD_BYTES_MAX], id[ID_TEXT_BYTES_MAX];
    struct run_head head = *from;
    struct buf body;
    head.status = RUN_FAILED;
    head.ended_ns = clock_wall_ns();
    run_index_end(journal->pipelines->index, &head, STR_EMPTY);
    buf_init(&body, 8192);
    struct json_writer w = json_writer_to(&body);
    json_begin_object(&w);
    json_put_string(&w, "id", str_make(id, id_format(head.id, "run", id)));
    json_put_string(&w, "pipeline", head.pipeline);
    json_put_text(&w, "status", run_status_name(RUN_FAILED));
    json_key(&w, "error");
    json_begin_object(&w);
    json_put_text(&w, "code", err_code_name(err->code));
    json_put_text(&w, "message", err->message);
    json_end_object(&w);
    json_end_object(&w);
    (void)append(journal, JOURNAL_END, str_make(front, run_head_encode(&head, front)),
                 buf_str(&body), NULL);
    buf_fini(&body);
}

bool journal_replay(struct step *step)
{
    struct buf path;
    struct err err = {0};
    buf_init(&path, 8192);
    step_path(step->frame, step->plan, &path);
    struct value *known = map_get(step->run->replay, buf_str(&path));
    buf_fini(&path);
    yyjson_val *json = value_json(known), *out = yyjson_obj_get(json, "out"),
               *problem = yyjson_obj_get(json, "err");
    if (out) {
        const struct plan_node *node = step->plan;
        struct str said = json_get_text(json, "port"), port = STR("out");
        for (size_t i = 0; i < node->edge_count; i++)
            if (str_eq(node->edges[i].port, said))
                port = node->edges[i].port;
        if (str_eq(said, port) || node->edge_count == 0)
            step_replayed(step, value_new(out), port);
        else
            step_replayed(step, value_new(out), STR("")); /* a port that leads nowhere */
        return true;
    }
    if (problem) {
        err_set(&err,
                (enum err_code)MIN(json_get_int(problem, "code", ERR_INTERNAL), ERR_CODE_COUNT - 1),
                "%.*s", STR_ARG(json_get_text(problem, "message")));
        step->attempt = UINT8_MAX;
        step_failed(step, &err);
        return true;
    }
    step->record = value_ref(known); /* {"wait"} or an intent: its operations decide */
    return false;
}

/* ---- the writer ---- */

static void take_queue(struct journal *journal, struct journal_op **ops)
{
    struct buf taken = journal->taken;
    journal->taken = journal->queue;
    journal->queue = taken;
    *ops = journal->waiting;
    journal->waiting = NULL;
    journal->waiting_end = &journal->waiting;
}

struct written_end {
    struct id id;
    uint64_t location, seq;
};

static void append_taken(struct journal *journal)
{
    struct str rest = buf_str(&journal->taken);
    while (rest.n) {
        struct record_head head;
        uint64_t location, seq;
        struct run_head run;
        struct str json;
        memcpy(&head, rest.p, sizeof(head));
        struct str payload = str_slice(rest, sizeof(head), sizeof(head) + head.bytes);
        seq = log_append(journal->log, head.type, payload, &location);
        if (head.type == JOURNAL_END && run_head_decode(payload, &run, &json) == RC_OK) {
            const struct written_end end = {run.id, location, seq};
            /* One that is not noted stays in memory, in the index. */
            (void)!buf_append(&journal->ends, str_make(&end, sizeof(end)));
        }
        rest = str_slice(rest, sizeof(head) + head.bytes, rest.n);
    }
    buf_clear(&journal->taken);
}

/* From now on they are read from the log: not before it has them, so that a run can be looked at at
 * any moment. */
static void locate_ends(struct journal *journal)
{
    struct str rest = buf_str(&journal->ends);
    for (; rest.n; rest = str_slice(rest, sizeof(struct written_end), rest.n)) {
        struct written_end end;
        memcpy(&end, rest.p, sizeof(end));
        run_index_locate(journal->pipelines->index, end.id, end.location, end.seq);
    }
    buf_clear(&journal->ends);
}

static void write_round(struct journal *journal, struct journal_op *ops)
{
    uint64_t seq;
    int64_t now = clock_monotonic_ns();
    append_taken(journal);
    enum rc rc = log_write(journal->log);
    if (rc == RC_OK)
        locate_ends(journal);
    journal->unsynced = true;
    if (rc == RC_OK && (ops || now - journal->synced_ns >= SYNC_INTERVAL_NS || journal->stopping)) {
        rc = log_sync(journal->log, &seq);
        journal->synced_ns = now;
        journal->unsynced = false;
    }
    if (rc != RC_OK)
        log_event(LOG_ERROR, "run_journal_failed", LOG_Z("reason", rc_name(rc)));
    while (ops) {
        struct journal_op *op = ops;
        ops = op->next;
        op->rc = rc;
        loop_post(op->home, &op->task);
    }
    if (now - journal->dropped_ns >= DROP_INTERVAL_NS && log_bytes(journal->log) > DROP_BYTES_MIN) {
        uint64_t next = log_next_seq(journal->log);
        journal->dropped_ns = now;
        __atomic_store_n(&journal->epoch, next, __ATOMIC_RELEASE);
        log_drop_before(journal->log, run_index_needed_seq(journal->pipelines->index, next));
    }
}

bool journal_step(struct journal *journal)
{
    struct journal_op *ops;
    uint64_t seq;
    pthread_mutex_lock(&journal->lock);
    bool any = buf_len(&journal->queue) > 0;
    take_queue(journal, &ops);
    pthread_mutex_unlock(&journal->lock);
    if (any)
        write_round(journal, ops);
    else if (journal->unsynced && log_sync(journal->log, &seq) == RC_OK)
        journal->unsynced = false;
    return any;
}

static void *writer_main(void *arg)
{
    struct journal *journal = arg;
    pthread_mutex_lock(&journal->lock);
    while (!journal->stopping || buf_len(&journal->queue)) {
        if (buf_len(&journal->queue) == 0) {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += SYNC_INTERVAL_NS;
            until.tv_sec += until.tv_nsec / NS_PER_S;
            until.tv_nsec %= NS_PER_S;
            if (!journal->unsynced)
                pthread_cond_wait(&journal->wake, &journal->lock);
            else if (pthread_cond_timedwait(&journal->wake, &journal->lock, &until) == 0)
                continue;
            if (!journal->unsynced && !journal->stopping)
                continue;
        }
        pthread_mutex_unlock(&journal->lock);
        journal_step(journal);
        pthread_mutex_lock(&journal->lock);
    }
    pthread_mutex_unlock(&journal->lock);
    return NULL;
}

/* ---- life ---- */

static enum rc read_record(void *arg, const struct log_record *record)
{
    struct journal *journal = arg;
    struct run_head head;
    struct str rest;
    switch (record->type) {
    case JOURNAL_END:
        if (run_head_decode(record->payload, &head, &rest) != RC_OK)
            break;
        open_runs_end(&journal->open, head.id);
        run_index_end(journal->pipelines->index, &head, STR_EMPTY);
        run_index_locate(journal->pipelines->index, head.id, record->location, record->seq);
        break;
    default: open_runs_add(&journal->open, record); break;
    }
    return RC_OK;
}

enum rc journal_open(struct pipelines *pipelines, struct journal **out, struct err *err)
{
    struct journal *journal = xcalloc(1, sizeof(*journal));
    struct log_recovery recovery;
    struct log_options options = {.fs = pipelines->options.fs ? pipelines->options.fs
                                                              : file_system_real(),
                                  .directory = pipelines->options.directory,
                                  .kind = JOURNAL_KIND,
                                  .start_seq = 1,
                                  .file_bytes_max = FILE_BYTES_MAX};
    journal->pipelines = pipelines;
    pthread_mutex_init(&journal->lock, NULL);
    pthread_cond_init(&journal->wake, NULL);
    buf_init(&journal->queue, QUEUE_BYTES_MAX);
    buf_init(&journal->taken, QUEUE_BYTES_MAX);
    buf_init(&journal->ends, QUEUE_BYTES_MAX);
    journal->waiting_end = &journal->waiting;
    open_runs_init(&journal->open);
    enum rc rc =
        writer_lock_take(options.fs, options.directory, &journal->writer, &options.epoch, err);
    if (rc == RC_OK)
        rc = log_open(&options, read_record, journal, &recovery, &journal->log, err);
    if (rc != RC_OK) {
        if (journal->writer)
            writer_lock_release(journal->writer);
        open_runs_fini(&journal->open);
        free(journal);
        return rc;
    }
    journal->epoch = log_next_seq(journal->log);
    *out = journal;
    if (!pipelines->options.no_threads) {
        int failed = pthread_create(&journal->thread, NULL, writer_main, journal);
        ASSERT(!failed);
    }
    return RC_OK;
}

void journal_release(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    journal->stopping = true;
    pthread_cond_signal(&journal->wake);
    pthread_mutex_unlock(&journal->lock);
    if (!journal->pipelines->options.no_threads)
        pthread_join(journal->thread, NULL);
    else
        while (journal_step(journal))
            ;
    writer_lock_release(journal->writer);
    journal->writer = NULL;
}

void journal_settle(struct journal *journal)
{
    if (journal->writer)
        journal_release(journal);
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    journal_settle(journal);
    log_close(journal->log);
    buf_fini(&journal->queue);
    buf_fini(&journal->taken);
    buf_fini(&journal->ends);
    open_runs_fini(&journal->open);
    pthread_cond_destroy(&journal->wake);
    pthread_mutex_destroy(&journal->lock);
    free(journal);
}

void journal_list_open(struct journal *journal, int loops)
{
    open_runs_split(&journal->open, loops);
    for (int i = 0; i < loops; i++)
        LIST_FOR_EACH (open, &journal->open.of_loop[i], struct open_run, node) {
            run_index_begin(journal->pipelines->index, &open->head, i, open->seq);
            if (map_get(open->replay, STR(SESSION_PATH)))
                sessions_reserve(journal->pipelines->sessions, open->head.project,
                                 open->head.pipeline,
                                 json_get_text(value_json(open->start), "session"), open->head.id);
        }
}

struct open_run *journal_take_open(struct journal *journal, int loop)
{
    return open_runs_take(&journal->open, loop);
}

enum rc journal_read_end(struct journal *journal, uint64_t location, struct str *json, void **block)
{
    struct log_window window = {0};
    struct log_record record;
    struct run_head head;
    struct str text;
    enum rc rc = log_read(journal->log, location, &window, &record);
    if (rc == RC_OK)
        rc = run_head_decode(record.payload, &head, &text);
    if (rc == RC_OK) {
        char *copy = *block = xmalloc(text.n + 1);
        memcpy(copy, text.p, text.n);
        *json = str_make(copy, text.n);
    }
    log_window_fini(&window);
    return rc;
}
