/* See session.h. A session is in memory while a run has it or waits for it; without a database
 * (tests, benches) it stays. */
#include "pipeline/engine/session.h"
#include "pipeline/engine/journal.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/engine/run_private.h"
#include "store/conversation_table.h"
#include "text/json.h"
#include <stdlib.h>

#define KEY_BYTES_MAX 1024

struct session {
    struct id holder; /* the run that has it; zero: nobody */
    struct list waiting;
    size_t waiting_count;
    bool loaded;
    struct value *variables, *messages; /* NULL: none yet */
    struct id last_run;                 /* that left it so */
    size_t key_bytes;
    char key[];
};

/* A run's place; lives until it has left. */
struct turn {
    struct task task;
    struct list node; /* session->waiting, or detached */
    struct run *run;  /* NULL: gone while something was under way */
    struct loop *home;
    struct sessions *all;
    struct session *session;
    struct id run_id;
    struct work load;
    struct db_work store;
    struct arena arena; /* of what is loaded or stored */
    struct conversation_row row;
    struct err err;
    bool held, busy; /* busy: a task of it is under way */
    bool found;
};

struct sessions {
    pthread_mutex_t lock;
    struct pipelines *pipelines;
    struct map by_key;
};

struct sessions *sessions_new(struct pipelines *pipelines)
{
    struct sessions *sessions = xcalloc(1, sizeof(*sessions));
    pthread_mutex_init(&sessions->lock, NULL);
    map_init(&sessions->by_key);
    sessions->pipelines = pipelines;
    return sessions;
}

static void session_free(struct session *session)
{
    value_unref(session->variables);
    value_unref(session->messages);
    free(session);
}

void sessions_free(struct sessions *sessions)
{
    MAP_FOR_EACH (slot, &sessions->by_key)
        session_free(slot->value);
    map_fini(&sessions->by_key);
    pthread_mutex_destroy(&sessions->lock);
    free(sessions);
}

/* ---- the table; under its lock ---- */

static struct session *find(struct sessions *sessions, struct id project, struct str pipeline,
                            struct str session)
{
    size_t bytes = sizeof(project.bytes) + pipeline.n + 1 + session.n;
    struct session *made = xcalloc(1, sizeof(*made) + bytes);
    char *at = made->key;
    memcpy(at, project.bytes, sizeof(project.bytes));
    at += sizeof(project.bytes);
    memcpy(at, pipeline.p, pipeline.n);
    at += pipeline.n + 1; /* a zero parts them */
    memcpy(at, session.p, session.n);
    made->key_bytes = bytes;
    struct session *known = map_get(&sessions->by_key, str_make(made->key, bytes));
    if (known) {
        free(made);
        return known;
    }
    list_init(&made->waiting);
    made->loaded = !sessions->pipelines->options.db;
    map_put(&sessions->by_key, str_make(made->key, bytes), made);
    return made;
}

static void drop_unused(struct sessions *sessions, struct session *session)
{
    if (!id_is_zero(session->holder) || !list_empty(&session->waiting) ||
        !sessions->pipelines->options.db)
        return;
    map_remove(&sessions->by_key, str_make(session->key, session->key_bytes));
    session_free(session);
}

/* The next who waits has it. */
static void pass_on(struct sessions *sessions, struct session *session)
{
    session->holder = (struct id){0};
    if (list_empty(&session->waiting)) {
        drop_unused(sessions, session);
        return;
    }
    struct turn *turn = LIST_FIRST(&session->waiting, struct turn, node);
    list_remove(&turn->node);
    session->waiting_count--;
    session->holder = turn->run_id;
    turn->held = turn->busy = true;
    loop_post(turn->home, &turn->task);
}

void sessions_reserve(struct sessions *sessions, struct id project, struct str pipeline,
                      struct str session, struct id run)
{
    pthread_mutex_lock(&sessions->lock);
    find(sessions, project, pipeline, session)->holder = run;
    pthread_mutex_unlock(&sessions->lock);
}

void sessions_give_up(struct sessions *sessions, struct id project, struct str pipeline,
                      struct str name, struct id run)
{
    pthread_mutex_lock(&sessions->lock);
    struct session *session = find(sessions, project, pipeline, name);
    if (id_eq(session->holder, run))
        pass_on(sessions, session);
    else
        drop_unused(sessions, session);
    pthread_mutex_unlock(&sessions->lock);
}

/* ---- what a run sees ---- */

/* Declared variables with the session's values. */
static struct value *see_variables(struct run *run, yyjson_val *kept)
{
    struct maker maker;
    size_t i, n;
    yyjson_val *key, *value;
    maker_init(&maker, &run->loop->scratch);
    maker_object(&maker);
    yyjson_obj_foreach(value_json(run->flow.plan->conversation), i, n, key, value)
    {
        yyjson_val *of = yyjson_obj_getn(kept, yyjson_get_str(key), yyjson_get_len(key));
        maker_key(&maker, json_text(key));
        maker_tree(&maker, of ? of : value);
    }
    maker_end(&maker);
    return maker_pack(&maker);
}

static size_t count_dialogue(yyjson_val *messages)
{
    size_t i, n, count = 0;
    yyjson_val *item;
    yyjson_arr_foreach(messages, i, n, item) count +=
        !str_eq(json_get_text(item, "role"), STR("system"));
    return count;
}

static void put_message(struct maker *maker, const char *role, struct str content)
{
    maker_object(maker);
    maker_key(maker, STR("role"));
    maker_text(maker, str_from(role));
    maker_key(maker, STR("content"));
    maker_text(maker, content);
    maker_end(maker);
}

/* sys with the session's messages before the question; a caller who sends the dialogue himself is
 * believed. */
static void see_messages(struct run *run, yyjson_val *kept)
{
    yyjson_val *sys = value_json(run->flow.sys), *own = yyjson_obj_get(sys, "messages"), *key,
               *value;
    struct maker maker;
    size_t i, n;
    if (count_dialogue(own) > 1)
        return;
    maker_init(&maker, &run->loop->scratch);
    maker_object(&maker);
    yyjson_obj_foreach(sys, i, n, key, value)
    {
        maker_key(&maker, json_text(key));
        if (!str_eq(json_text(key), STR("messages"))) {
            maker_tree(&maker, value);
            continue;
        }
        size_t m, count;
        yyjson_val *item;
        maker_array(&maker);
        yyjson_arr_foreach(kept, m, count, item) maker_tree(&maker, item);
        yyjson_arr_foreach(own, m, count, item) maker_tree(&maker, item);
        if (yyjson_arr_size(own) == 0)
            put_message(&maker, "user", json_get_text(sys, "query"));
        maker_end(&maker);
    }
    maker_end(&maker);
    struct value *seen = maker_pack(&maker);
    if (!seen)
        return;
    value_unref(run->flow.sys);
    run->flow.sys = seen;
}

static void see(struct run *run, yyjson_val *variables, yyjson_val *messages)
{
    struct value *seen = see_variables(run, variables);
    if (seen) {
        value_unref(run->flow.conversation);
        run->flow.conversation = seen;
    }
    see_messages(run, messages);
    value_unref(run->said);
    run->said = messages ? value_new(messages) : NULL;
    arena_reset(&run->loop->scratch);
}

/* Found by the run, and told to the journal: it goes on from there after a crash. */
static void see_session(struct run *run, const struct session *session)
{
    see(run, value_json(session->variables), value_json(session->messages));
    struct maker maker;
    maker_init(&maker, &run->loop->scratch);
    maker_object(&maker);
    maker_key(&maker, STR("variables"));
    maker_tree(&maker, value_json(session->variables));
    maker_key(&maker, STR("messages"));
    maker_tree(&maker, value_json(session->messages));
    maker_end(&maker);
    struct value *found = maker_pack(&maker);
    journal_note_session(run, found);
    value_unref(found);
    arena_reset(&run->loop->scratch);
}

/* ---- taking turns ---- */

static void turn_free(struct turn *turn)
{
    arena_fini(&turn->arena);
    free(turn);
}

static void leave(struct turn *turn)
{
    struct sessions *all = turn->all;
    pthread_mutex_lock(&all->lock);
    if (!list_detached(&turn->node)) {
        list_remove(&turn->node);
        turn->session->waiting_count--;
        drop_unused(all, turn->session);
    } else if (turn->held) {
        pass_on(all, turn->session);
    }
    pthread_mutex_unlock(&all->lock);
    turn->held = false;
}

static void load_run(struct work *work)
{
    struct turn *turn = CONTAINER_OF(work, struct turn, load);
    struct db_txn *txn;
    struct str key = str_make(turn->session->key, turn->session->key_bytes);
    struct id project;
    memcpy(project.bytes, key.p, sizeof(project.bytes));
    struct str rest = str_slice(key, sizeof(project.bytes), key.n);
    size_t name = strlen(rest.p);
    if (db_read_begin(turn->all->pipelines->options.db, &txn, &turn->err) != RC_OK)
        return;
    enum rc rc = conversation_table_get(txn, project, str_slice(rest, 0, name),
                                        str_slice(rest, name + 1, rest.n), &turn->arena, &turn->row,
                                        &turn->err);
    turn->found = rc == RC_OK;
    db_read_end(txn);
}

static void load_done(struct work *work)
{
    struct turn *turn = CONTAINER_OF(work, struct turn, load);
    struct session *session = turn->session;
    struct run *run = turn->run;
    turn->busy = false;
    if (turn->err.code == ERR_NONE && !session->loaded) {
        session->loaded = true;
        if (turn->found) {
            session->variables = value_parse(turn->row.variables, RUN_VALUE_BYTES_MAX);
            session->messages = value_parse(turn->row.messages, RUN_VALUE_BYTES_MAX);
            session->last_run = turn->row.last_run;
        }
    }
    arena_reset(&turn->arena);
    if (!run) {
        leave(turn);
        turn_free(turn);
    } else if (turn->err.code != ERR_NONE) {
        run_fail(run, &turn->err, STR_EMPTY);
    } else {
        see_session(run, session);
        run_has_turn(run);
    }
}

/* The session is the run's. RC_AGAIN: it must be read first. */
static enum rc begin_turn(struct turn *turn, struct err *err)
{
    struct run *run = turn->run;
    struct value *known =
        run->taken_up && run->replay ? map_get(run->replay, STR(SESSION_PATH)) : NULL;
    yyjson_val *out = yyjson_obj_get(value_json(known), "out");
    if (out) {
        see(run, yyjson_obj_get(out, "variables"), yyjson_obj_get(out, "messages"));
        return RC_OK;
    }
    if (turn->session->loaded) {
        see_session(run, turn->session);
        return RC_OK;
    }
    turn->load = (struct work){.home = turn->home, .work = load_run, .done = load_done};
    turn->busy = true;
    if (worker_submit(turn->all->pipelines->options.workers, &turn->load) == RC_OK)
        return RC_AGAIN;
    turn->busy = false;
    return err_set(err, ERR_OVERLOADED, "The server has too much to do: try again soon.");
}

static void turn_comes(struct task *task)
{
    struct turn *turn = CONTAINER_OF(task, struct turn, task);
    struct err err = {0};
    turn->busy = false;
    if (!turn->run) {
        leave(turn);
        turn_free(turn);
        return;
    }
    enum rc rc = begin_turn(turn, &err);
    if (rc == RC_OK)
        run_has_turn(turn->run);
    else if (rc != RC_AGAIN)
        run_fail(turn->run, &err, STR_EMPTY);
}

enum rc session_enter(struct run *run, struct err *err)
{
    struct sessions *all = run->loop->all->sessions;
    enum rc rc = RC_OK;
    if (!run->flow.plan->has_conversation || !run->session.n || run->only ||
        run->pipeline.n + run->session.n > KEY_BYTES_MAX)
        return RC_OK;
    struct turn *turn = xcalloc(1, sizeof(*turn));
    turn->task.run = turn_comes;
    turn->run = run;
    turn->run_id = run->id;
    turn->home = run->loop->loop;
    turn->all = all;
    list_init(&turn->node);
    arena_init(&turn->arena, 4 * RUN_VALUE_BYTES_MAX);
    pthread_mutex_lock(&all->lock);
    struct session *session = turn->session =
        find(all, run->principal.project, run->pipeline, run->session);
    if (id_is_zero(session->holder) || id_eq(session->holder, run->id)) {
        session->holder = run->id;
        turn->held = true;
    } else if (session->waiting_count >= SESSION_QUEUE_MAX) {
        rc = err_set(err, ERR_OVERLOADED, "%d runs of this session wait for their turn",
                     SESSION_QUEUE_MAX);
    } else {
        list_push_back(&session->waiting, &turn->node);
        session->waiting_count++;
        rc = RC_AGAIN;
    }
    pthread_mutex_unlock(&all->lock);
    if (rc != RC_OK && rc != RC_AGAIN) {
        turn_free(turn);
        return rc;
    }
    run->turn = turn;
    return rc == RC_OK ? begin_turn(turn, err) : rc;
}

/* ---- leaving ---- */

/* What was said, with this run's question and answer; the oldest goes first. */
static struct value *said_now(struct run *run)
{
    yyjson_val *before = value_json(run->said), *item;
    struct str query = json_get_text(value_json(run->flow.sys), "query");
    size_t i, n, count = yyjson_arr_size(before);
    struct maker maker;
    if (!query.n)
        return value_ref(run->said);
    size_t skip = count + 2 > SESSION_MESSAGES_MAX ? count + 2 - SESSION_MESSAGES_MAX : 0;
    if (value_bytes(run->said) > SESSION_BYTES_MAX)
        skip = MAX(skip, count / 2);
    maker_init(&maker, &run->loop->scratch);
    maker_array(&maker);
    yyjson_arr_foreach(before, i, n, item)
    {
        if (i >= skip)
            maker_tree(&maker, item);
    }
    put_message(&maker, "user", query);
    put_message(&maker, "assistant", buf_str(&run->flow.text));
    maker_end(&maker);
    struct value *said = maker_pack(&maker);
    arena_reset(&run->loop->scratch);
    return said ? said : value_ref(run->said);
}

static enum rc store_write(struct db_work *work, struct db_txn *txn, struct err *err)
{
    return conversation_table_put(txn, &CONTAINER_OF(work, struct turn, store)->row, err);
}

static void store_done(struct db_work *work)
{
    struct turn *turn = CONTAINER_OF(work, struct turn, store);
    struct run *run = turn->run;
    turn->busy = false;
    if (run) { /* its end goes to the journal before the next run's first word */
        run->turn = NULL;
        session_stored(run, work->rc == RC_OK ? NULL : &work->err);
    }
    leave(turn);
    turn_free(turn);
}

/* False: it is known already, or cannot be stored. */
static bool store(struct turn *turn)
{
    struct run *run = turn->run;
    struct session *session = turn->session;
    struct db *db = turn->all->pipelines->options.db;
    if (id_eq(session->last_run, run->id))
        return false; /* it had ended before the crash, but for its last line in the journal */
    value_unref(session->variables);
    value_unref(session->messages);
    session->variables = value_ref(run->flow.conversation);
    session->messages = said_now(run);
    session->last_run = run->id;
    session->loaded = true;
    if (!db)
        return false;
    turn->row = (struct conversation_row){
        .project = run->principal.project,
        .last_run = run->id,
        .pipeline = arena_copy(&turn->arena, run->pipeline),
        .session = arena_copy(&turn->arena, run->session),
        .variables = json_write(value_json(session->variables), &turn->arena),
        .messages =
            session->messages ? json_write(value_json(session->messages), &turn->arena) : STR("[]"),
    };
    turn->store = (struct db_work){.home = turn->home, .write = store_write, .done = store_done};
    turn->busy = db_write(db, &turn->store) == RC_OK;
    return turn->busy;
}

bool session_leave(struct run *run, bool keep)
{
    struct turn *turn = run->turn;
    if (!turn)
        return true;
    return !(keep && turn->held && !turn->busy && store(turn));
}

void session_forget(struct run *run)
{
    struct turn *turn = run->turn;
    if (!turn)
        return;
    run->turn = NULL;
    turn->run = NULL;
    if (turn->busy)
        return; /* what is under way frees it */
    leave(turn);
    turn_free(turn);
}
