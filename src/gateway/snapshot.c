/* Publication of configuration snapshots. One pointer is current; each loop compares it with its
 * own once a turn (one load) and, when it differs, changes over under a lock that is held for a few
 * instructions. A snapshot is freed by whoever drops the last reference: a loop, a call that
 * outlived several configurations, or the publisher. */
#include "gateway/snapshot.h"
#include "base/hash.h"
#include "gateway/price.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static pthread_mutex_t publish_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct snapshot *) published; /* changed under the lock */
static uint64_t version_last;                /* under the lock */

struct thread_view {
    struct snapshot *held;
    bool by_turn; /* a loop re-reads it */
};
static _Thread_local struct thread_view view;

static void view_refresh(void)
{
    if (atomic_load_explicit(&published, memory_order_acquire) == view.held)
        return;
    struct snapshot *old = view.held;
    pthread_mutex_lock(&publish_lock);
    view.held = atomic_load_explicit(&published, memory_order_relaxed);
    if (view.held)
        snapshot_ref(view.held);
    pthread_mutex_unlock(&publish_lock);
    if (old)
        snapshot_unref(old);
}

static void on_turn(struct loop *loop, void *arg)
{
    UNUSED(loop);
    UNUSED(arg);
    view_refresh();
}

void snapshot_attach(struct loop *loop)
{
    view.by_turn = true;
    loop_on_turn(loop, on_turn, NULL);
    view_refresh();
}

void snapshot_detach(void)
{
    struct snapshot *held = view.held;

    view = (struct thread_view){NULL, false};
    if (held)
        snapshot_unref(held);
}

struct snapshot *snapshot_current(void)
{
    if (!view.by_turn || !view.held)
        view_refresh();
    return view.held;
}

void snapshot_publish(struct snapshot *snapshot)
{
    pthread_mutex_lock(&publish_lock);
    struct snapshot *old = atomic_load_explicit(&published, memory_order_relaxed);
    if (snapshot)
        snapshot->version = ++version_last;
    atomic_store_explicit(&published, snapshot, memory_order_release);
    pthread_mutex_unlock(&publish_lock);
    if (old)
        snapshot_unref(old);
}

/* ---- life ---- */

struct snapshot *snapshot_new(size_t arena_bytes_max)
{
    struct snapshot *snapshot = xcalloc(1, sizeof *snapshot);

    arena_init(&snapshot->arena, arena_bytes_max);
    map_init(&snapshot->keys);
    map_init(&snapshot->projects);
    map_init(&snapshot->sessions);
    map_init(&snapshot->triggers);
    snapshot->references = snapshot->arena_references = 1;
    return snapshot;
}

struct snapshot *snapshot_ref(struct snapshot *snapshot)
{
    int before = __atomic_fetch_add(&snapshot->references, 1, __ATOMIC_RELAXED);

    ASSERT(before > 0);
    return snapshot;
}

/* Iterates, since bases may stand behind each other. */
static void arena_unref(struct snapshot *snapshot)
{
    while (snapshot && __atomic_fetch_sub(&snapshot->arena_references, 1, __ATOMIC_ACQ_REL) == 1) {
        struct snapshot *base = snapshot->base;
        for (size_t i = 0; !base && i < snapshot->project_count; i++)
            if (snapshot->project_list[i]->price_overrides)
                price_table_fini(snapshot->project_list[i]->price_overrides);
        free(snapshot->project_list);
        arena_fini(&snapshot->arena);
        free(snapshot);
        snapshot = base;
    }
}

static void snapshot_free(struct snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->project_count; i++) {
        struct project *project = snapshot->project_list[i];
        map_fini(&project->routes);
        map_fini(&project->providers);
        map_fini(&project->limits);
        map_fini(&project->local_models);
        map_fini(&project->prompts);
        map_fini(&project->tools);
        map_fini(&project->inner_names);
    }
    map_fini(&snapshot->keys);
    map_fini(&snapshot->projects);
    map_fini(&snapshot->sessions);
    map_fini(&snapshot->triggers);
    arena_unref(snapshot);
}

void snapshot_unref(struct snapshot *snapshot)
{
    int before = __atomic_fetch_sub(&snapshot->references, 1, __ATOMIC_ACQ_REL);

    ASSERT(before > 0);
    if (before == 1)
        snapshot_free(snapshot);
}

static void keep_project(struct snapshot *snapshot, struct project *project)
{
    if (snapshot->project_count == snapshot->project_capacity) {
        snapshot->project_capacity = MAX(4, 2 * snapshot->project_capacity);
        snapshot->project_list = xrealloc(
            snapshot->project_list, snapshot->project_capacity * sizeof *snapshot->project_list);
    }
    snapshot->project_list[snapshot->project_count++] = project;
    map_put(&snapshot->projects, str_make(project->id.bytes, sizeof project->id.bytes), project);
}

struct project *snapshot_add_project(struct snapshot *snapshot, struct id id, struct str name)
{
    struct project *project = ARENA_NEW(&snapshot->arena, struct project);

    if (!project)
        return NULL;
    project->id = id;
    project->name = arena_copy(&snapshot->arena, name);
    if (!project->name.p)
        return NULL;
    map_init(&project->routes);
    map_init(&project->providers);
    map_init(&project->limits);
    map_init(&project->local_models);
    map_init(&project->prompts);
    map_init(&project->tools);
    map_init(&project->inner_names);
    keep_project(snapshot, project);
    return project;
}

struct snapshot *snapshot_copy(struct snapshot *base, size_t arena_bytes_max)
{
    struct snapshot *snapshot = snapshot_new(arena_bytes_max);

    snapshot->base = base;
    snapshot->mended = base->mended + 1;
    __atomic_fetch_add(&base->arena_references, 1, __ATOMIC_RELAXED);
    map_copy(&snapshot->keys, &base->keys);
    map_copy(&snapshot->sessions, &base->sessions);
    map_copy(&snapshot->triggers, &base->triggers);
    for (size_t i = 0; i < base->project_count; i++) {
        const struct project *old = base->project_list[i];
        struct project *project = ARENA_NEW(&snapshot->arena, struct project);
        if (!project) {
            snapshot_unref(snapshot);
            return NULL;
        }
        *project = *old;
        map_copy(&project->routes, &old->routes);
        map_copy(&project->providers, &old->providers);
        map_copy(&project->limits, &old->limits);
        map_copy(&project->local_models, &old->local_models);
        map_copy(&project->prompts, &old->prompts);
        map_copy(&project->tools, &old->tools);
        map_copy(&project->inner_names, &old->inner_names);
        keep_project(snapshot, project);
    }
    return snapshot;
}

/* ---- look-ups ---- */

struct project *snapshot_project(const struct snapshot *snapshot, struct id id)
{
    return map_get(&snapshot->projects, str_make(id.bytes, sizeof id.bytes));
}

struct key *snapshot_find_key(const struct snapshot *snapshot, struct str secret)
{
    uint8_t digest[SHA256_BYTES];

    hash_sha256(secret.p, secret.n, digest);
    return map_get(&snapshot->keys, str_make(digest, sizeof digest));
}

struct principal *snapshot_find_session(const struct snapshot *snapshot, struct str cookie,
                                        int64_t wall_ns)
{
    uint8_t digest[SHA256_BYTES];

    hash_sha256(cookie.p, cookie.n, digest);
    struct principal *principal = map_get(&snapshot->sessions, str_make(digest, sizeof digest));
    if (principal && principal->expires_wall_ns && principal->expires_wall_ns <= wall_ns)
        return NULL;
    return principal;
}
