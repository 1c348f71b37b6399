/* See await.h. */
#include "pipeline/engine/await.h"
#include "base/clock.h"
#include "pipeline/engine/run_index.h"
#include <stdlib.h>

#define LOOK_NS     (20 * NS_PER_MS) /* at first; each look doubles it */
#define LOOK_NS_MAX (500 * NS_PER_MS)
#define ARENA_BYTES (64 * 1024 * 1024)

struct await {
    struct pipelines *pipelines;
    struct loop *loop;
    struct worker_pool *workers;
    struct id project, run;
    int64_t until_ns, grace_until_ns, look_ns;
    struct timer timer;
    struct work work;
    struct arena arena;
    struct str json;
    void *block;
    await_told *told; /* NULL: cancelled while a worker reads */
    void *arg;
    bool reading;
};

static void await_free(struct await *await)
{
    timer_stop(&await->timer);
    arena_fini(&await->arena);
    free(await->block);
    free(await);
}

static void finish(struct await *await, enum await_end end)
{
    if (await->told)
        await->told(await->arg, end, await->json);
    await_free(await);
}

static void read_run(struct work *work)
{
    struct await *await = CONTAINER_OF(work, struct await, work);
    struct run_index_row row;
    enum rc rc = run_index_get(pipelines_index(await->pipelines), await->project, await->run,
                               &await->arena, &row);
    if (rc == RC_OK && row.json.n)
        await->json = row.json;
    else if (rc == RC_OK)
        (void)!pipelines_read_run(await->pipelines, row.location, &await->json, &await->block);
}

static void read_done(struct work *work)
{
    struct await *await = CONTAINER_OF(work, struct await, work);
    finish(await, await->json.n ? AWAIT_ENDED : AWAIT_GONE);
}

static void look(struct await *await)
{
    struct run_index_row row;
    int64_t now = loop_now_ns(await->loop);
    arena_reset(&await->arena);
    enum rc rc = run_index_get(pipelines_index(await->pipelines), await->project, await->run,
                               &await->arena, &row);
    bool open = rc == RC_OK && row.loop >= 0;
    bool may_come = rc == RC_NOT_FOUND && now < await->grace_until_ns;
    if (rc == RC_OK && !open) {
        await->work = (struct work){.home = await->loop, .work = read_run, .done = read_done};
        await->reading = worker_submit(await->workers, &await->work) == RC_OK;
        if (await->reading)
            return;
    } else if (!may_come && (!open || now >= await->until_ns)) {
        finish(await, open ? AWAIT_OPEN : AWAIT_GONE);
        return;
    }
    timer_start(await->loop, &await->timer, await->look_ns);
    await->look_ns = MIN(2 * await->look_ns, LOOK_NS_MAX);
}

static void on_timer(struct timer *timer) { look(CONTAINER_OF(timer, struct await, timer)); }

struct await *await_run(struct pipelines *pipelines, struct loop *loop, struct worker_pool *workers,
                        struct id project, struct id run, int64_t wait_ns, int64_t grace_ns,
                        await_told *told, void *arg)
{
    struct await *await = xcalloc(1, sizeof(*await));
    int64_t now = loop_now_ns(loop);
    *await = (struct await){
        .pipelines = pipelines,
        .loop = loop,
        .workers = workers,
        .project = project,
        .run = run,
        .until_ns = wait_ns > INT64_MAX - now ? INT64_MAX : now + wait_ns,
        .grace_until_ns = now + grace_ns,
        .look_ns = LOOK_NS,
        .told = told,
        .arg = arg,
    };
    arena_init(&await->arena, ARENA_BYTES);
    timer_init(&await->timer, on_timer);
    timer_start(loop, &await->timer, 0);
    return await;
}

void await_cancel(struct await *await)
{
    await->told = NULL;
    if (!await->reading)
        await_free(await);
}
