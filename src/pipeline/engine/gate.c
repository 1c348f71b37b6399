/* See gate.h. */
#include "pipeline/engine/gate.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/engine/run_private.h"
#include <stdlib.h>

#define QUEUE_DEFAULT 10000

struct gate_pipeline {
    int64_t running, queued;
    size_t key_bytes;
    char key[]; /* project, name */
};

struct gate_project {
    struct list node; /* gate->waiting, while somebody waits; else detached */
    struct list queue;
    struct id id;
    int64_t running, queued;
};

struct ticket {
    struct task task;
    struct list node; /* project->queue, or detached: it has its place */
    struct run *run;  /* NULL: gone while its place was being told */
    struct loop *home;
    struct gate_project *project;
    struct gate_pipeline *pipeline;
    int64_t runs_max; /* of the pipeline */
    bool counted, posted;
};

struct gate {
    pthread_mutex_t lock;
    struct gate_limits limits;
    int64_t running;
    struct map projects, pipelines; /* made once, kept */
    struct list waiting;            /* projects, next in turn first */
};

struct gate *gate_new(const struct gate_limits *limits)
{
    struct gate *gate = xcalloc(1, sizeof(*gate));
    pthread_mutex_init(&gate->lock, NULL);
    gate->limits = *limits;
    if (!gate->limits.queue_max)
        gate->limits.queue_max = QUEUE_DEFAULT;
    map_init(&gate->projects);
    map_init(&gate->pipelines);
    list_init(&gate->waiting);
    return gate;
}

void gate_free(struct gate *gate)
{
    MAP_FOR_EACH (slot, &gate->projects)
        free(slot->value);
    MAP_FOR_EACH (slot, &gate->pipelines)
        free(slot->value);
    map_fini(&gate->projects);
    map_fini(&gate->pipelines);
    pthread_mutex_destroy(&gate->lock);
    free(gate);
}

static struct gate_project *find_project(struct gate *gate, struct id id)
{
    struct gate_project *project = map_get(&gate->projects, str_make(id.bytes, sizeof(id.bytes)));
    if (project)
        return project;
    project = xcalloc(1, sizeof(*project));
    project->id = id;
    list_init(&project->node);
    list_init(&project->queue);
    map_put(&gate->projects, str_make(project->id.bytes, sizeof(project->id.bytes)), project);
    return project;
}

static struct gate_pipeline *find_pipeline(struct gate *gate, struct id project, struct str name)
{
    size_t bytes = sizeof(project.bytes) + name.n;
    struct gate_pipeline *made = xcalloc(1, sizeof(*made) + bytes);
    memcpy(made->key, project.bytes, sizeof(project.bytes));
    memcpy(made->key + sizeof(project.bytes), name.p, name.n);
    made->key_bytes = bytes;
    struct gate_pipeline *known = map_get(&gate->pipelines, str_make(made->key, bytes));
    if (known) {
        free(made);
        return known;
    }
    map_put(&gate->pipelines, str_make(made->key, bytes), made);
    return made;
}

static bool has_room(int64_t running, int64_t max) { return !max || running < max; }

static bool fits(const struct gate *gate, const struct ticket *ticket)
{
    return has_room(gate->running, gate->limits.runs_max) &&
           has_room(ticket->project->running, gate->limits.project_runs_max) &&
           has_room(ticket->pipeline->running, ticket->runs_max);
}

static void count(struct gate *gate, struct ticket *ticket, bool in)
{
    int64_t by = in ? 1 : -1;
    if (ticket->counted == in)
        return;
    ticket->counted = in;
    gate->running += by;
    ticket->project->running += by;
    ticket->pipeline->running += by;
}

static void unqueue(struct ticket *ticket)
{
    list_remove(&ticket->node);
    ticket->project->queued--;
    ticket->pipeline->queued--;
    if (list_empty(&ticket->project->queue))
        list_remove(&ticket->project->node);
}

static void tell_admitted(struct task *task)
{
    struct ticket *ticket = CONTAINER_OF(task, struct ticket, task);
    ticket->posted = false;
    if (ticket->run)
        run_admitted(ticket->run);
    else
        free(ticket);
}

/* The project's first that fits goes; false: none does. */
static bool grant_one(struct gate *gate, struct gate_project *project)
{
    LIST_FOR_EACH (ticket, &project->queue, struct ticket, node) {
        if (!fits(gate, ticket))
            continue;
        unqueue(ticket);
        count(gate, ticket, true);
        ticket->posted = true;
        loop_post(ticket->home, &ticket->task);
        return true;
    }
    return false;
}

/* A place for each project in turn, until nobody who waits fits any more. */
static void grant(struct gate *gate)
{
    bool again = !list_empty(&gate->waiting);
    while (again) {
        again = false;
        LIST_FOR_EACH (project, &gate->waiting, struct gate_project, node) {
            if (!grant_one(gate, project))
                continue;
            if (!list_detached(&project->node)) { /* its turn is over */
                list_remove(&project->node);
                list_push_back(&gate->waiting, &project->node);
            }
            again = true;
            break;
        }
    }
}

static enum rc check_queue(const struct gate *gate, const struct ticket *ticket,
                           int64_t pipeline_queue_max, struct err *err)
{
    if (pipeline_queue_max && ticket->pipeline->queued >= pipeline_queue_max)
        return err_set(err, ERR_OVERLOADED,
                       "%lld runs of this pipeline wait for their turn: try again later",
                       (long long)ticket->pipeline->queued);
    if (ticket->project->queued >= gate->limits.queue_max)
        return err_set(err, ERR_OVERLOADED,
                       "%lld runs of this project wait for their turn: try again later",
                       (long long)ticket->project->queued);
    return RC_OK;
}

static bool is_open(const struct gate *gate, const struct document *document)
{
    return !document->runs_max && !gate->limits.runs_max && !gate->limits.project_runs_max;
}

enum rc gate_check(struct gate *gate, const struct run_request *request, struct err *err)
{
    const struct document *document = request->plan->document;
    struct ticket ticket = {.runs_max = document->runs_max};
    enum rc rc = RC_OK;
    if (is_open(gate, document) || request->only.n)
        return RC_OK;
    pthread_mutex_lock(&gate->lock);
    ticket.project = find_project(gate, request->principal->project);
    ticket.pipeline = find_pipeline(gate, request->principal->project, request->pipeline);
    if (!fits(gate, &ticket))
        rc = check_queue(gate, &ticket, document->queue_max, err);
    pthread_mutex_unlock(&gate->lock);
    return rc;
}

static enum rc enqueue(struct gate *gate, struct ticket *ticket, int64_t pipeline_queue_max,
                       struct err *err)
{
    enum rc rc = check_queue(gate, ticket, pipeline_queue_max, err);
    if (rc != RC_OK)
        return rc;
    if (list_empty(&ticket->project->queue))
        list_push_back(&gate->waiting, &ticket->project->node);
    list_push_back(&ticket->project->queue, &ticket->node);
    ticket->project->queued++;
    ticket->pipeline->queued++;
    return RC_AGAIN;
}

enum rc gate_enter(struct gate *gate, struct run *run, struct err *err)
{
    const struct document *document = run->flow.plan->document;
    enum rc rc = RC_OK;
    if (is_open(gate, document))
        return RC_OK;
    struct ticket *ticket = xcalloc(1, sizeof(*ticket));
    ticket->task.run = tell_admitted;
    ticket->run = run;
    ticket->home = run->loop->loop;
    ticket->runs_max = document->runs_max;
    list_init(&ticket->node);
    pthread_mutex_lock(&gate->lock);
    ticket->project = find_project(gate, run->principal.project);
    ticket->pipeline = find_pipeline(gate, run->principal.project, run->pipeline);
    if (fits(gate, ticket))
        count(gate, ticket, true);
    else
        rc = enqueue(gate, ticket, document->queue_max, err);
    pthread_mutex_unlock(&gate->lock);
    if (rc == RC_OK || rc == RC_AGAIN)
        run->ticket = ticket;
    else
        free(ticket);
    return rc;
}

void gate_leave(struct gate *gate, struct run *run)
{
    struct ticket *ticket = run->ticket;
    if (!ticket)
        return;
    run->ticket = NULL;
    pthread_mutex_lock(&gate->lock);
    if (!list_detached(&ticket->node))
        unqueue(ticket);
    count(gate, ticket, false);
    bool posted = ticket->posted;
    ticket->run = NULL; /* tell_admitted runs on this loop: not now */
    grant(gate);
    pthread_mutex_unlock(&gate->lock);
    if (!posted)
        free(ticket);
}

void gate_pause(struct gate *gate, struct run *run, bool pause)
{
    if (!run->ticket || run->ticket->counted == !pause)
        return;
    pthread_mutex_lock(&gate->lock);
    count(gate, run->ticket, !pause);
    if (pause)
        grant(gate);
    pthread_mutex_unlock(&gate->lock);
}
