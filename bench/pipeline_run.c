/* The engine in memory, for bench/pipeline.py: no journal, no server, one loop.
 *
 *   pipeline_run nodes RUNS   start -> ten templates -> end: median nanoseconds a node
 *   pipeline_run echo RUNS    start -> template -> answer: runs a CPU second
 *
 * Prints JSON. */
#include "base/clock.h"
#include "pipeline/engine/loop_private.h"
#include "bench.h"
#include <stdlib.h>

#define NODES_OF_CHAIN 12 /* start, ten templates, end */
#define BATCH          100

struct bench {
    struct loop *loop;
    struct pipeline_loop *pipelines;
    struct plan *plan;
    yyjson_val *inputs;
    long under_way;
};

static void fail(const char *what, const struct err *err)
{
    fprintf(stderr, "pipeline_run: %s: %s\n", what, err ? err->message : "");
    exit(1);
}

static struct str make_chain(struct arena *arena)
{
    struct str nodes = STR("{\"id\":\"start\",\"type\":\"start\",\"config\":{\"inputs\":[{\"name\":"
                           "\"query\",\"type\":\"string\"}]}}"),
               edges = STR("{\"from\":\"start\",\"to\":\"t0\"}");
    for (int i = 0; i < 10; i++) {
        nodes = arena_printf(arena,
                             "%.*s,{\"id\":\"t%d\",\"type\":\"template\",\"config\":{\"text\":"
                             "\"{{ start.query }} %d\"}}",
                             STR_ARG(nodes), i, i);
        edges = arena_printf(arena,
                             i < 9 ? "%.*s,{\"from\":\"t%d\",\"to\":\"t%d\"}"
                                   : "%.*s,{\"from\":\"t%d\",\"to\":\"done\"}",
                             STR_ARG(edges), i, i + 1);
    }
    return arena_printf(
        arena,
        "{\"schema\":1,\"nodes\":[%.*s,{\"id\":\"done\",\"type\":\"end\",\"config\":"
        "{\"outputs\":[{\"name\":\"text\",\"value\":\"t9.output\"}]}}],\"edges\":"
        "[%.*s]}",
        STR_ARG(nodes), STR_ARG(edges));
}

static const char echo[] =
    "{\"schema\":1,\"nodes\":[{\"id\":\"start\",\"type\":\"start\",\"config\":{\"inputs\":[{"
    "\"name\":\"query\",\"type\":\"string\"}]}},{\"id\":\"make\",\"type\":\"template\",\"config\":{"
    "\"text\":\"You said: {{ start.query }}\"}},{\"id\":\"say\",\"type\":\"answer\",\"config\":{"
    "\"text\":\"{{ make.output }}\"}}],\"edges\":[{\"from\":\"start\",\"to\":\"make\"},{\"from\":"
    "\"make\",\"to\":\"say\"}]}";

static void on_ended(void *arg, const struct run *run)
{
    struct bench *bench = arg;
    if (run_status(run) != RUN_SUCCEEDED)
        fail("a run failed", run_error(run));
    if (--bench->under_way == 0)
        loop_stop(bench->loop);
}

/* BATCH runs at once; returns the thread's nanoseconds of processor time for all. */
static int64_t run_batch(struct bench *bench)
{
    const struct principal principal = {.name = STR("bench")};
    const struct run_request request = {.plan = bench->plan,
                                        .pipeline = STR("bench"),
                                        .trigger = "api",
                                        .principal = &principal,
                                        .inputs = bench->inputs,
                                        .budget_pico = COST_UNKNOWN,
                                        .owner = {.ended = on_ended, .arg = bench}};
    struct err err = {0};
    int64_t begun = clock_thread_cpu_ns();
    bench->under_way = BATCH;
    for (int i = 0; i < BATCH; i++)
        if (!run_start(bench->pipelines, &request, &err))
            fail("a run was not started", &err);
    loop_run(bench->loop);
    return clock_thread_cpu_ns() - begun;
}

static int by_size(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static void stop_here(struct task *task)
{
    UNUSED(task);
    loop_stop(loop_current());
}

int main(int argc, char **argv)
{
    if (argc != 3)
        fail("nodes|echo RUNS", NULL);
    bool chain = strcmp(argv[1], "nodes") == 0;
    long batches = MAX(atol(argv[2]) / BATCH, 2l);
    struct pipelines_options options = {0};
    struct bench bench = {.loop = loop_new(0)};
    struct pipelines *pipelines;
    struct arena arena;
    struct err err = {0};
    arena_init(&arena, 1 << 20);
    struct str spec = chain ? make_chain(&arena) : str_from(echo);
    if (pipelines_open(&options, &pipelines, &err) != RC_OK ||
        plan_compile(spec, &bench.plan, &err) != RC_OK)
        fail("it cannot begin", &err);
    bench.pipelines = pipeline_loop_new(pipelines, bench.loop, NULL, NULL);
    yyjson_doc *doc = yyjson_read("{\"query\":\"How are you today?\"}", 30, 0);
    bench.inputs = yyjson_doc_get_root(doc);
    int64_t *each = xcalloc((size_t)batches, sizeof(*each)), sum = 0;
    run_batch(&bench); /* warms up */
    for (long i = 0; i < batches; i++)
        sum += each[i] = run_batch(&bench);
    qsort(each, (size_t)batches, sizeof(*each), by_size);
    printf("{\"node_ns_median\": %.1f, \"runs_a_cpu_second\": %.0f}\n",
           (double)each[batches / 2] / BATCH / (chain ? NODES_OF_CHAIN : 3),
           (double)batches * BATCH * NS_PER_S / (double)sum);
    free(each);
    yyjson_doc_free(doc);
    plan_unref(bench.plan);
    struct task last = {.run = stop_here};
    loop_post(bench.loop, &last); /* behind the runs that free themselves */
    loop_run(bench.loop);
    pipeline_loop_free(bench.pipelines);
    pipelines_close(pipelines);
    loop_free(bench.loop);
    arena_fini(&arena);
    return 0;
}
