/* The process's pipelines: its loops, its journal, and taking up what an earlier process left. */
#include "pipeline/engine/pipeline.h"
#include "base/log.h"
#include "pipeline/nodes/code_pool.h"
#include "pipeline/engine/run_index.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/tools/mcp_client.h"
#include "pipeline/engine/open_run.h"
#include "pipeline/engine/plans.h"
#include "text/json.h"
#include <stdlib.h>

enum rc pipelines_open(const struct pipelines_options *options, struct pipelines **out,
                       struct err *err)
{
    struct pipelines *pipelines = xcalloc(1, sizeof(*pipelines));
    pipelines->options = *options;
    pipelines->index = run_index_new();
    pipelines->plans = plan_cache_new();
    pipelines->gate = gate_new(&options->limits);
    pipelines->sessions = sessions_new(pipelines);
    pipelines->code = code_pool_new(&(struct code_pool_options){
        .programs = {options->node, options->python}, .children_max = options->code_children});
    enum rc rc = options->directory ? journal_open(pipelines, &pipelines->journal, err) : RC_OK;
    if (rc != RC_OK)
        pipelines_close(pipelines);
    else
        *out = pipelines;
    return rc;
}

void pipelines_close(struct pipelines *pipelines)
{
    if (!pipelines)
        return;
    journal_close(pipelines->journal);
    for (int i = 0; i < pipelines->loop_count; i++) {
        struct pipeline_loop *loop = pipelines->loops[i];
        ASSERT(list_empty(&loop->runs));
        map_fini(&loop->by_id);
        slab_fini(&loop->steps);
        free(loop);
    }
    code_pool_free(pipelines->code);
    plan_cache_free(pipelines->plans);
    sessions_free(pipelines->sessions);
    gate_free(pipelines->gate);
    run_index_free(pipelines->index);
    free(pipelines);
}

struct pipeline_loop *pipeline_loop_new(struct pipelines *pipelines, struct loop *loop,
                                        struct http_client *client, struct gateway_loop *gateway)
{
    struct pipeline_loop *self = xcalloc(1, sizeof(*self));
    self->all = pipelines;
    self->loop = loop;
    self->client = client;
    self->gateway = gateway;
    list_init(&self->runs);
    map_init(&self->by_id);
    map_init(&self->mcp_sessions);
    slab_init(&self->steps, sizeof(struct step), PIPELINE_STEPS_MAX);
    arena_init(&self->scratch, SCRATCH_BYTES_MAX);
    ASSERT(loop_index(loop) < PIPELINE_LOOPS_MAX);
    pipelines->loops[loop_index(loop)] = self;
    pipelines->loop_count = MAX(pipelines->loop_count, loop_index(loop) + 1);
    return self;
}

struct pipeline_loop *pipelines_loop(struct pipelines *pipelines, int index)
{
    return index >= 0 && index < pipelines->loop_count ? pipelines->loops[index] : NULL;
}

struct run_index *pipelines_index(struct pipelines *pipelines) { return pipelines->index; }

const struct mcp_stdio_server *pipelines_mcp_servers(const struct pipelines *pipelines,
                                                     size_t *count)
{
    *count = pipelines->options.mcp_server_count;
    return pipelines->options.mcp_servers;
}

const struct preset_services *pipelines_services(const struct pipelines *pipelines)
{
    return &pipelines->options.services;
}

struct loop *pipeline_loop_loop(struct pipeline_loop *loop) { return loop->loop; }

void pipeline_loop_free(struct pipeline_loop *loop)
{
    LIST_FOR_EACH_SAFE (run, &loop->runs, struct run, node)
        run_abandon(run);
    mcp_sessions_free(loop);
    arena_fini(&loop->scratch);
}

struct run *pipeline_loop_find(struct pipeline_loop *loop, struct id id)
{
    return map_get(&loop->by_id, str_make(id.bytes, sizeof(id.bytes)));
}

enum rc pipelines_read_run(struct pipelines *pipelines, uint64_t location, struct str *json,
                           void **block)
{
    return pipelines->journal && location
               ? journal_read_end(pipelines->journal, location, json, block)
               : RC_NOT_FOUND;
}

void pipelines_settle(struct pipelines *pipelines)
{
    if (pipelines->journal)
        journal_settle(pipelines->journal);
    code_pool_stop(pipelines->code);
}

/* ---- handing over ---- */

struct release {
    struct task task;
    struct pipeline_loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
};

static void release_loop(struct task *task)
{
    struct release *release = CONTAINER_OF(task, struct release, task);
    LIST_FOR_EACH_SAFE (run, &release->loop->runs, struct run, node)
        if (run->recorded && !run->finishing)
            run_hand_over(run);
    pthread_mutex_lock(&release->lock);
    release->done = true;
    pthread_cond_signal(&release->ended);
    pthread_mutex_unlock(&release->lock);
}

void pipelines_release(struct pipelines *pipelines)
{
    for (int i = 0; i < pipelines->loop_count; i++) {
        struct release release = {.task.run = release_loop,
                                  .loop = pipelines->loops[i],
                                  .lock = PTHREAD_MUTEX_INITIALIZER,
                                  .ended = PTHREAD_COND_INITIALIZER};
        loop_post(release.loop->loop, &release.task);
        pthread_mutex_lock(&release.lock);
        while (!release.done)
            pthread_cond_wait(&release.ended, &release.lock);
        pthread_mutex_unlock(&release.lock);
    }
    if (pipelines->journal)
        journal_release(pipelines->journal);
}

/* ---- taking up ---- */

static void read_hex(yyjson_val *json, const char *name, void *out, size_t n)
{
    if (hex_decode(json_get_text(json, name), out, n) != RC_OK)
        memset(out, 0, n);
}

/* NULL: its definition is lost or no longer understood, err tells. */
static struct plan *open_plan(struct plan **last, const struct open_run *open, struct err *err)
{
    uint8_t hash[SHA256_BYTES];
    struct plan *plan;
    read_hex(value_json(open->start), "definition", hash, sizeof(hash));
    if (*last && memcmp((*last)->hash, hash, sizeof(hash)) == 0)
        return *last;
    if (!open->spec.n)
        err_set(err, ERR_INTERNAL, "the run's definition is lost");
    else if (plan_compile(open->spec, &plan, err) == RC_OK) {
        plan_unref(*last);
        *last = plan;
        return plan;
    }
    return NULL;
}

static void no_end(void *arg, const struct run *run)
{
    UNUSED(arg);
    UNUSED(run);
}

static void take_up(struct pipeline_loop *loop, struct plan *plan, struct open_run *open)
{
    yyjson_val *json = value_json(open->start);
    struct run_identity identity = {.id = open->head.id, .started_wall_ns = open->head.started_ns};
    struct principal principal = {
        .project = open->head.project,
        .role = (enum role)json_get_int(json, "role", ROLE_NONE),
        .permissions = yyjson_get_uint(yyjson_obj_get(json, "permissions")),
        .name = json_get_text(json, "principal"),
    };
    struct key key = {0};
    struct run_request request = {
        .plan = plan,
        .pipeline = open->head.pipeline,
        .version = open->head.version,
        .trigger = run_trigger(open->head.trigger),
        .principal = &principal,
        .key = &key,
        .session = json_get_text(json, "session"),
        .user = json_get_text(json, "user"),
        .query = json_get_text(json, "query"),
        .messages = yyjson_obj_get(json, "messages"),
        .budget_pico = json_get_int(json, "budget_pico", COST_UNKNOWN),
        .inside = json_get_bool(json, "inside", false),
        .owner = {.ended = no_end},
    };
    read_hex(json, "key_id", principal.key.bytes, 16);
    read_hex(json, "user_id", principal.user.bytes, 16);
    read_hex(json, "key", key.secret_sha256, SHA256_BYTES);
    read_hex(json, "trace", request.trace.trace_id, 16);
    read_hex(json, "parent", request.trace.parent_id, 8);
    read_hex(json, "origin", request.origin.bytes, 16);
    identity.start = value_new(yyjson_obj_get(json, "inputs"));
    struct map *replay = open->replay;
    open->replay = NULL;
    run_take_up(loop, &request, &identity, replay);
    value_unref(identity.start);
}

static void take_up_all(struct task *task)
{
    struct pipeline_loop *loop = CONTAINER_OF(task, struct pipeline_loop, take_up_task);
    struct pipelines *all = loop->all;
    struct plan *last = NULL;
    struct open_run *open;
    int64_t count = 0, lost = 0;
    while ((open = journal_take_open(all->journal, loop_index(loop->loop)))) {
        struct err err = {0};
        struct plan *plan = open_plan(&last, open, &err);
        if (plan) {
            take_up(loop, plan, open);
            count++;
        } else {
            journal_give_up(all->journal, &open->head, &err);
            sessions_give_up(all->sessions, open->head.project, open->head.pipeline,
                             json_get_text(value_json(open->start), "session"), open->head.id);
            lost++;
        }
        open_run_free(open);
    }
    plan_unref(last);
    if (count + lost)
        log_event(LOG_INFO, "runs_taken_up", LOG_I64("count", count), LOG_I64("lost", lost));
}

void pipelines_begin(struct pipelines *pipelines)
{
    if (pipelines->journal)
        journal_list_open(pipelines->journal, pipelines->loop_count);
    for (int i = 0; i < pipelines->loop_count && pipelines->journal; i++) {
        struct pipeline_loop *loop = pipelines->loops[i];
        loop->take_up_task.run = take_up_all;
        loop_post(loop->loop, &loop->take_up_task);
    }
}
