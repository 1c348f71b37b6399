/* kill -9 on the store of call records, as often as CRASH_ROUNDS says (default 20).
 *
 * A child opens the store on a real disk and submits records as fast as it can, telling through a
 * pipe which ones it was told are durable; it is killed at a random moment, often while it seals or
 * merges. Then the store is opened here: what was durable is there, nothing is there twice or torn,
 * and spend is the records' sum. kill -9 leaves the page cache alone, so this proves less than
 * tests/sim/sim_store.c, but of the real thing: threads, files, locks. */
#include "../unit/trace/make_record.h"
#include "base/log.h"
#include "trace/store.h"
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct acknowledged {
    struct trace_waiter waiter;
    uint64_t number;
    int fd;
};

static struct trace_store *open_store(const char *directory, uint32_t tail_rows)
{
    struct trace_options options = {.directory = directory, .tail_rows_max = tail_rows};
    struct trace_store *store;
    struct err err = {0};
    if (trace_open(&options, &store, &err) != RC_OK) {
        fprintf(stderr, "open: %s\n", err.message);
        exit(1);
    }
    return store;
}

static void told(struct task *task)
{
    struct acknowledged *a = CONTAINER_OF(task, struct acknowledged, waiter.task);
    if (a->waiter.result == RC_OK &&
        write(a->fd, &a->number, sizeof(a->number)) != sizeof(a->number))
        _exit(1);
    free(a);
}

static void child(const char *directory, int fd, uint64_t from)
{
    struct trace_store *store = open_store(directory, 500);
    struct trace_counters counters;
    struct made_record m;
    for (uint64_t number = from;; number++) {
        make_record(number, &m);
        struct acknowledged *a = xcalloc(1, sizeof(*a));
        a->waiter.task.run = told;
        a->number = number;
        a->fd = fd;
        trace_submit(store, &m.call, &a->waiter);
        while (number % 64 == 0 &&
               (trace_counters(store, &counters), counters.queue_bytes > 300000))
            usleep(200);
    }
}

/* One life of a child; *durable: all numbers below were acknowledged (they come in order). */
static void live(const char *directory, uint64_t from, uint64_t *durable)
{
    int fds[2];
    if (pipe(fds) != 0)
        exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        child(directory, fds[1], from);
    }
    close(fds[1]);
    usleep(1000 + (useconds_t)rand_below(150000));
    kill(pid, SIGKILL);
    uint64_t number;
    while (read(fds[0], &number, sizeof(number)) == (ssize_t)sizeof(number))
        *durable = MAX(*durable, number + 1);
    close(fds[0]);
    waitpid(pid, NULL, 0);
}

static void fail(const char *what, uint64_t number)
{
    fprintf(stderr, "%s: %llu\n", what, (unsigned long long)number);
    exit(1);
}

/* Checks the records from the newest down to `from` (older ones were checked before); returns one
 * past the newest number. */
static uint64_t check(struct trace_store *store, uint64_t from, uint64_t durable)
{
    uint64_t newest = from, rows = 0;
    struct made_record m;
    struct call_record *got = xmalloc(sizeof(*got));
    for (uint64_t number = from;; number++) {
        struct arena arena;
        make_record(number, &m);
        arena_init(&arena, 1 << 20);
        enum rc rc = trace_get(store, m.call.project, m.call.id, &arena, got, NULL);
        if (rc == RC_OK &&
            (!str_eq(got->request_body, m.call.request_body) || got->cost_pico != m.call.cost_pico))
            fail("not whole", number);
        arena_fini(&arena);
        if (rc != RC_OK)
            break;
        newest = number + 1;
    }
    if (newest < durable)
        fail("durable and lost", newest);
    free(got);
    struct trace_counters counters;
    trace_counters(store, &counters);
    rows = counters.rows;
    if (rows != newest || counters.lost_disk > 0)
        fail("rows there instead of records", rows);
    return newest;
}

static void check_spend(struct trace_store *store, uint64_t count)
{
    static __int128 cost[2];
    static uint64_t calls[2], at;
    struct made_record m;
    for (; at < count; at++) {
        make_record(at, &m);
        int project = id_eq(m.call.project, make_project(1));
        cost[project] += m.call.cost_pico == COST_UNKNOWN ? 0 : m.call.cost_pico;
        calls[project]++;
    }
    for (int project = 0; project < 2; project++) {
        struct spend_sum sum;
        enum rc rc = trace_spend_sum(store, make_project((uint64_t)project), SPEND_BY_PROJECT,
                                     STR_EMPTY, 0, INT32_MAX, &sum);
        if (rc != RC_OK || sum.cost_pico != cost[project] || sum.calls != calls[project])
            fail("spend is not the records' sum, calls", sum.calls);
    }
}

int main(void)
{
    char root[] = "/tmp/capstan-crash-XXXXXX", directory[64], command[96];
    uint64_t rounds = getenv("CRASH_ROUNDS") ? strtoull(getenv("CRASH_ROUNDS"), NULL, 10) : 20;
    uint64_t count = 0, durable = 0;
    log_set_level(LOG_ERROR + 1);
    rand_seed(clock_monotonic_ns());
    if (!mkdtemp(root))
        return 1;
    snprintf(directory, sizeof(directory), "%s/trace", root);
    for (uint64_t round = 0; round < rounds; round++) {
        live(directory, count, &durable);
        struct trace_store *store = open_store(directory, 500);
        uint64_t before = count;
        count = check(store, before > 0 ? before - 1 : 0, durable);
        check_spend(store, count);
        trace_close(store);
    }
    printf("%llu kills, %llu records, none lost\n", (unsigned long long)rounds,
           (unsigned long long)count);
    snprintf(command, sizeof(command), "rm -rf %s", root);
    return system(command) != 0;
}
