/* kill -9 on an index, as often as CRASH_ROUNDS says (default 20).
 *
 * A child opens the index on a real disk; two threads put in and delete rows of their own ids and
 * tell through a pipe what was acknowledged, a third seals and merges all the time. It is killed at
 * a random moment. Then the index is opened here: each id is as the last acknowledged change left
 * it or as the one change after that, which was on its way; none is there twice; all are found.
 * kill -9 leaves the page cache alone, so this proves less than tests/sim/sim_index.c, but of the
 * real thing: threads, files, locks. */
#include "base/log.h"
#include "base/rand.h"
#include "vector/index_private.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS   2
#define IDS       300 /* of each thread */
#define BATCH     5
#define DIMENSION 8

/* A thread's change number n touches ids n·BATCH … + BATCH − 1 (modulo IDS); each seventh deletes.
 */
struct told {
    uint32_t thread;
    uint32_t number;
};

static const struct index_config config = {
    .vectors = {{.name = STR_INIT(""), .dimension = DIMENSION, .metric = METRIC_L2}},
    .vector_count = 1,
    .texts = {{STR_INIT("text"), 1}},
    .text_count = 1,
};

struct changing {
    struct index *index;
    uint32_t thread, from;
    int fd;
};

static void fail(const char *what, uint64_t number)
{
    fprintf(stderr, "%s: %llu\n", what, (unsigned long long)number);
    exit(1);
}

static struct index *open_index(const char *folder)
{
    struct index *index;
    struct err err = {0};
    if (index_open(file_system_real(), folder, &config, &index, &err) != RC_OK) {
        fprintf(stderr, "open: %s\n", err.message);
        exit(1);
    }
    return index;
}

static bool is_delete(uint32_t number) { return number % 7 == 3; }

static enum rc make_change(struct index *index, uint32_t thread, uint32_t number)
{
    struct index_row rows[BATCH];
    struct str ids[BATCH];
    char texts[BATCH][32], names[BATCH][32];
    float vectors[BATCH][DIMENSION];
    for (uint32_t i = 0; i < BATCH; i++) {
        snprintf(names[i], sizeof(names[i]), "t%u-%u", thread, (number * BATCH + i) % IDS);
        snprintf(texts[i], sizeof(texts[i]), "change %u", number);
        for (int d = 0; d < DIMENSION; d++)
            vectors[i][d] = (float)(number + (uint32_t)d);
        ids[i] = str_from(names[i]);
        rows[i] = (struct index_row){
            .id = ids[i], .vectors = {vectors[i]}, .texts = {str_from(texts[i])}};
    }
    return is_delete(number) ? index_delete(index, ids, BATCH, NULL, NULL)
                             : index_upsert(index, rows, BATCH, NULL);
}

static void *change(void *arg)
{
    struct changing *c = arg;
    for (uint32_t number = c->from;; number++) {
        struct told told = {c->thread, number};
        if (make_change(c->index, c->thread, number) != RC_OK ||
            write(c->fd, &told, sizeof(told)) != sizeof(told))
            _exit(1);
    }
    return NULL;
}

static void child(const char *folder, int fd, const uint32_t *next)
{
    pthread_t threads[THREADS];
    struct changing changing[THREADS];
    struct index *index = open_index(folder);
    index->tail_rows_max = 60;
    for (uint32_t t = 0; t < THREADS; t++) {
        changing[t] = (struct changing){index, t, next[t], fd};
        if (pthread_create(&threads[t], NULL, change, &changing[t]) != 0)
            _exit(1);
    }
    for (;;) {
        if (index_maintain(index, NULL, NULL, NULL) != RC_OK)
            _exit(1);
        usleep(500);
    }
}

/* One life of a child; acknowledged[t]: the next number after the last that was. */
static void live(const char *folder, const uint32_t *next, uint32_t *acknowledged)
{
    int fds[2];
    struct told told;
    if (pipe(fds) != 0)
        exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        child(folder, fds[1], next);
    }
    close(fds[1]);
    usleep(1000 + (useconds_t)rand_below(120000));
    kill(pid, SIGKILL);
    while (read(fds[0], &told, sizeof(told)) == (ssize_t)sizeof(told))
        acknowledged[told.thread] = MAX(acknowledged[told.thread], told.number + 1);
    close(fds[0]);
    waitpid(pid, NULL, 0);
}

/* The last change below `end` that touched the id, or -1. */
static int64_t last_change(uint32_t id, uint32_t end)
{
    for (int64_t number = (int64_t)end - 1; number >= 0 && number > (int64_t)end - 2 - IDS;
         number--)
        for (uint32_t i = 0; i < BATCH; i++)
            if (((uint64_t)number * BATCH + i) % IDS == id)
                return number;
    return -1;
}

static bool agrees(int64_t number, const struct index_row *row)
{
    char text[32];
    if (number < 0 || is_delete((uint32_t)number))
        return row == NULL;
    snprintf(text, sizeof(text), "change %u", (uint32_t)number);
    return row && str_eq(row->texts[0], str_from(text)) && row->vectors[0] &&
           row->vectors[0][0] == (float)number;
}

/* Each id against what it may be; sets next[t] behind what is there. */
static uint64_t check(struct index *index, const uint32_t *acknowledged, uint32_t *next)
{
    struct arena arena;
    uint64_t there = 0;
    arena_init(&arena, 1 << 20);
    for (uint32_t t = 0; t < THREADS; t++) {
        bool made = false, missing = false; /* the change that was on its way */
        for (uint32_t id = 0; id < IDS; id++) {
            char name[32];
            struct index_row row;
            arena_reset(&arena);
            snprintf(name, sizeof(name), "t%u-%u", t, id);
            enum rc rc = index_get(index, str_from(name), &arena, &row, NULL);
            const struct index_row *found = rc == RC_OK ? &row : NULL;
            there += found != NULL;
            int64_t before = last_change(id, acknowledged[t]);
            int64_t after = last_change(id, acknowledged[t] + 1);
            bool as_before = agrees(before, found), as_after = agrees(after, found);
            if (!as_before && !as_after)
                fail("an id is not as it was left, change", acknowledged[t]);
            made |= !as_before;
            missing |= !as_after;
        }
        if (made && missing)
            fail("a change was made in part", acknowledged[t]);
        next[t] = acknowledged[t] + made;
    }
    arena_fini(&arena);
    return there;
}

static void check_found(struct index *index, uint64_t there)
{
    struct arena arena;
    struct index_hits hits;
    struct index_stats stats;
    struct index_query query = {
        .text = STR("change"), .k = INDEX_K_MAX, .all_tags = true, .score_min = -1e30};
    arena_init(&arena, 16 << 20);
    index_stats(index, &stats);
    if (stats.rows != there)
        fail("rows there instead of ids", stats.rows);
    if (index_search(index, &query, &arena, &hits, NULL) != RC_OK || hits.count != there)
        fail("rows found", hits.count);
    arena_fini(&arena);
}

int main(void)
{
    char root[] = "/tmp/capstan-crash-XXXXXX", folder[64], command[96];
    uint64_t rounds = getenv("CRASH_ROUNDS") ? strtoull(getenv("CRASH_ROUNDS"), NULL, 10) : 20;
    uint32_t acknowledged[THREADS] = {0}, next[THREADS] = {0};
    log_set_level(LOG_ERROR + 1);
    rand_seed((uint64_t)getpid());
    if (!mkdtemp(root))
        return 1;
    snprintf(folder, sizeof(folder), "%s/index", root);
    for (uint64_t round = 0; round < rounds; round++) {
        live(folder, next, acknowledged);
        struct index *index = open_index(folder);
        check_found(index, check(index, acknowledged, next));
        index_close(index);
        for (uint32_t t = 0; t < THREADS; t++)
            acknowledged[t] = next[t];
    }
    printf("%llu kills, %u changes acknowledged\n", (unsigned long long)rounds,
           acknowledged[0] + acknowledged[1]);
    snprintf(command, sizeof(command), "rm -rf %s", root);
    return system(command) != 0 || acknowledged[0] + acknowledged[1] == 0;
}
