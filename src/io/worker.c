/* The worker pool: a bounded queue under one lock. What runs here takes far longer than the lock is
 * held, so nothing cleverer is needed. */
#include "io/worker.h"
#include "base/arena.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

struct worker_pool {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct task *first, **end; /* the queue: tasks inside works */
    size_t queued, queue_max;
    bool closing;
    int thread_count;
    pthread_t threads[];
};

static struct work *worker_take(struct worker_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->first == NULL && !pool->closing)
        pthread_cond_wait(&pool->changed, &pool->lock);
    struct task *task = pool->first;
    if (task) {
        pool->first = task->next;
        if (pool->first == NULL)
            pool->end = &pool->first;
        pool->queued--;
    }
    pthread_mutex_unlock(&pool->lock);
    return task ? CONTAINER_OF(task, struct work, task) : NULL;
}

static void worker_done(struct task *task)
{
    struct work *work = CONTAINER_OF(task, struct work, task);
    work->done(work);
}

static void *worker_main(void *arg)
{
    struct worker_pool *pool = arg;
    for (;;) {
        struct work *work = worker_take(pool);
        if (work == NULL)
            break;
        bool awaited = work->done != NULL; /* else `work` frees it */
        work->work(work);
        if (awaited) {
            work->task.run = worker_done;
            loop_post(work->home, &work->task);
        }
    }
    arena_thread_exit();
    return NULL;
}

/* Signals are for the main thread and the loops. */
static void worker_start(struct worker_pool *pool, int index)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&pool->threads[index], NULL, worker_main, pool);
    ASSERT(rc == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    char name[24];
    snprintf(name, sizeof(name), "worker-%d", index);
    name[15] = '\0'; /* the kernel's bound */
    pthread_setname_np(pool->threads[index], name);
}

struct worker_pool *worker_pool_new(int threads, size_t queue_max)
{
    ASSERT(threads > 0);
    struct worker_pool *pool =
        xcalloc(1, sizeof(*pool) + (size_t)threads * sizeof(pool->threads[0]));
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    pool->end = &pool->first;
    pool->queue_max = queue_max;
    pool->thread_count = threads;
    for (int i = 0; i < threads; i++)
        worker_start(pool, i);
    return pool;
}

void worker_pool_free(struct worker_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    ASSERT(pool->queued == 0);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

enum rc worker_submit(struct worker_pool *pool, struct work *work)
{
    if (work->home == NULL)
        work->home = loop_current();
    ASSERT(work->home != NULL || work->done == NULL);
    pthread_mutex_lock(&pool->lock);
    bool full = pool->queued >= pool->queue_max;
    ASSERT(!pool->closing);
    if (!full) {
        work->task.next = NULL;
        *pool->end = &work->task;
        pool->end = &work->task.next;
        pool->queued++;
        pthread_cond_signal(&pool->changed);
    }
    pthread_mutex_unlock(&pool->lock);
    return full ? RC_LIMIT : RC_OK;
}
