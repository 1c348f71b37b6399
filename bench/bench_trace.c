/* The store of call records beside SQLite, with the same records on the same disk in the same run.
 *
 *   trace_append         records a second and core: 1.7 KB records, durable within 50 ms, sealed
 * and merged; CPU of all threads counts. SQLite: WAL, synchronous=FULL, a commit each 50 ms, the
 * same columns and bodies. trace_record_bytes   bytes on disk for such a record. trace_submit CPU
 * of trace_submit on the submitting thread. trace_filter         count of calls by model, status
 * and latency over all rows, warm, one core. trace_group_by       calls, errors, tokens, cost and
 * latency quantiles by model, the same way. trace_page           the newest 50 of a rare end user.
 * SQLite answers the same questions over a tenth of the rows, without an index (as the store has
 * none) and without quantiles; its times are scaled by ten. TRACE_BENCH_ROWS (default 10,000,000),
 * TRACE_BENCH_APPEND (default 300,000), TRACE_BENCH_FOLDER (default /tmp). */
#include "../tests/unit/trace/make_record.h"
#include "bench.h"
#include "trace/store.h"

#define BODIES     2048
#define BODY_BYTES 1024
#define REPEAT     7

static const char words[] = "the of and to in a is that for it as was with be by on not he this "
                            "are or his from at which but have "
                            "an had they you were their one all we can her has there been if more "
                            "when will would who so no she other "
                            "its may these what them than some him time into only do such my new "
                            "about out also two any up first could "
                            "our then most see me should after said your very between made many "
                            "over did down because each through "
                            "where before must much back good how own system well even people "
                            "state world years work life long number "
                            "part place case question answer model request response token customer "
                            "order invoice payment account error "
                            "please summary document section paragraph language function value "
                            "result example table column return "
                            "information following different however important available "
                            "development government possible against";

struct bodies {
    struct made_record records[BODIES];
    char request[BODIES][BODY_BYTES], response[BODIES][BODY_BYTES];
};

/* Words drawn with the frequencies of language (Zipf): what a compressor meets in prose, at worst.
 */
static size_t prose(char *out, size_t n)
{
    static const char *list[256];
    static size_t lengths[256], count;
    for (const char *at = words; count < 256 && *at && (count == 0 || at[-1] == ' ');) {
        lengths[count] = strcspn(at, " ");
        list[count++] = at;
        at += lengths[count - 1];
        at += *at == ' ';
    }
    size_t at = 0;
    while (at + 32 < n) {
        double u = rand_unit();
        size_t k = (size_t)((double)count * u * u * u);
        memcpy(out + at, list[k], lengths[k]);
        at += lengths[k];
        out[at++] = rand_below(12) ? ' ' : '.';
    }
    return at;
}

static struct bodies *make_bodies(void)
{
    struct bodies *b = xcalloc(1, sizeof(*b));
    rand_seed(42);
    for (size_t i = 0; i < BODIES; i++) {
        make_record(i, &b->records[i]);
        struct call_record *c = &b->records[i].call;
        c->project = make_project(0);
        char text[BODY_BYTES];
        size_t n = prose(text, 560 + rand_below(140));
        int k = snprintf(
            b->request[i], BODY_BYTES,
            "{\"model\":\"%.*s\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a "
            "helpful "
            "assistant.\"},{\"role\":\"user\",\"content\":\"%.*s\"}],\"temperature\":0.%u}",
            STR_ARG(c->model), (int)n, text, (unsigned)rand_below(10));
        c->request_body = str_make(b->request[i], (size_t)k);
        n = prose(text, 560 + rand_below(140));
        k = snprintf(
            b->response[i], BODY_BYTES,
            "{\"id\":\"chatcmpl-%016llx\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,"
            "\"message\":{\"role\":\"assistant\",\"content\":\"%.*s\"},\"finish_reason\":\"stop\"}]"
            ","
            "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u}}",
            (unsigned long long)rand_u64(), (int)n, text, (unsigned)rand_below(900),
            (unsigned)rand_below(900));
        c->response_body = str_make(b->response[i], (size_t)k);
    }
    return b;
}

static struct call_record *next_record(struct bodies *b, uint64_t number)
{
    struct call_record *c = &b->records[number % BODIES].call;
    c->id = make_id(number);
    c->started_wall_ns = MAKE_START_NS + (int64_t)number * NS_PER_MS;
    return c;
}

static struct trace_store *open_store(const char *directory)
{
    struct trace_options options = {.directory = directory};
    struct trace_store *store;
    struct err err = {0};
    if (trace_open(&options, &store, &err) != RC_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    return store;
}

/* Submits as fast as the store keeps up: nothing may be lost. Returns the submitting thread's CPU.
 */
static double submit_all(struct trace_store *store, struct bodies *b, uint64_t count,
                         enum capture capture)
{
    struct trace_counters counters;
    int64_t cpu = 0;
    for (uint64_t i = 0; i < count;) {
        int64_t before = clock_thread_cpu_ns();
        for (uint64_t end = MIN(i + 500, count); i < end; i++) {
            struct call_record *c = next_record(b, i);
            c->capture = capture;
            trace_submit(store, c, NULL);
        }
        cpu += clock_thread_cpu_ns() - before;
        while (trace_counters(store, &counters), counters.queue_bytes > (8 << 20))
            usleep(2000);
    }
    if (trace_flush(store, 120 * NS_PER_S) != RC_OK) {
        fprintf(stderr, "records cannot be made durable\n");
        exit(1);
    }
    return (double)cpu / 1e9;
}

static void remove_folder(const char *folder)
{
    char command[4200];
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    if (system(command) != 0)
        exit(1);
}

/* ---- SQLite ---- */

static void must(int rc, sqlite3 *db)
{
    if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW) {
        fprintf(stderr, "sqlite: %s\n", sqlite3_errmsg(db));
        exit(1);
    }
}

static sqlite3 *sqlite_open(const char *path)
{
    sqlite3 *db;
    must(sqlite3_open(path, &db), NULL);
    must(sqlite3_exec(db,
                      "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                      "CREATE TABLE call(id BLOB, started INT, project BLOB, model TEXT, requested "
                      "TEXT, provider TEXT,"
                      " route TEXT, key BLOB, user TEXT, session TEXT, status INT, http INT, total "
                      "INT, first INT,"
                      " cost INT, input INT, cached INT, output INT, finish TEXT, request TEXT, "
                      "response TEXT)",
                      NULL, NULL, NULL),
         db);
    return db;
}

static void bind_text(sqlite3_stmt *s, int at, struct str text)
{
    sqlite3_bind_text(s, at, text.p ? text.p : "", (int)text.n, SQLITE_STATIC);
}

static void sqlite_insert(sqlite3_stmt *s, const struct call_record *c, bool bodies)
{
    sqlite3_bind_blob(s, 1, c->id.bytes, 16, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, c->started_wall_ns);
    sqlite3_bind_blob(s, 3, c->project.bytes, 16, SQLITE_STATIC);
    bind_text(s, 4, c->model);
    bind_text(s, 5, c->model_requested);
    bind_text(s, 6, c->provider);
    bind_text(s, 7, c->route);
    sqlite3_bind_blob(s, 8, c->key.bytes, 16, SQLITE_STATIC);
    bind_text(s, 9, c->user);
    bind_text(s, 10, c->session);
    sqlite3_bind_int(s, 11, c->status);
    sqlite3_bind_int(s, 12, c->http_status);
    sqlite3_bind_int64(s, 13, c->total_ns);
    sqlite3_bind_int64(s, 14, c->first_token_ns);
    sqlite3_bind_int64(s, 15, c->cost_pico == COST_UNKNOWN ? 0 : c->cost_pico);
    sqlite3_bind_int64(s, 16, (int64_t)c->usage.tokens[USAGE_INPUT]);
    sqlite3_bind_int64(s, 17, (int64_t)c->usage.tokens[USAGE_CACHED_INPUT]);
    sqlite3_bind_int64(s, 18, (int64_t)c->usage.tokens[USAGE_OUTPUT]);
    bind_text(s, 19, c->finish_reason);
    bind_text(s, 20, bodies ? c->request_body : STR_EMPTY);
    bind_text(s, 21, bodies ? c->response_body : STR_EMPTY);
    sqlite3_step(s);
    sqlite3_reset(s);
}

/* Inserts with a commit each 50 ms; returns the CPU seconds. */
static double sqlite_fill(sqlite3 *db, struct bodies *b, uint64_t count, bool bodies)
{
    sqlite3_stmt *s;
    must(sqlite3_prepare_v2(db,
                            "INSERT INTO call VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                            -1, &s, NULL),
         db);
    double cpu = bench_process_cpu_s();
    must(sqlite3_exec(db, "BEGIN", NULL, NULL, NULL), db);
    int64_t committed = clock_monotonic_ns();
    for (uint64_t i = 0; i < count; i++) {
        sqlite_insert(s, next_record(b, i), bodies);
        if (i % 64 == 0 && clock_monotonic_ns() - committed > 50 * NS_PER_MS) {
            must(sqlite3_exec(db, "COMMIT; BEGIN", NULL, NULL, NULL), db);
            committed = clock_monotonic_ns();
        }
    }
    must(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), db);
    cpu = bench_process_cpu_s() - cpu;
    sqlite3_finalize(s);
    return cpu;
}

/* The best of several runs, in ms of CPU. */
static double sqlite_query_ms(sqlite3 *db, const char *sql)
{
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        sqlite3_stmt *s;
        must(sqlite3_prepare_v2(db, sql, -1, &s, NULL), db);
        int64_t before = clock_thread_cpu_ns();
        while (sqlite3_step(s) == SQLITE_ROW)
            ;
        best = MIN(best, (double)(clock_thread_cpu_ns() - before) / 1e6);
        sqlite3_finalize(s);
    }
    return best;
}

/* ---- figures ---- */

static void bench_append(const char *folder, struct bodies *b, uint64_t count)
{
    char directory[4096], settings[128];
    snprintf(directory, sizeof(directory), "%s/append", folder);
    snprintf(settings, sizeof(settings), "%llu records of 1.7 KB, async, sealed and merged",
             (unsigned long long)count);
    double cpu = bench_process_cpu_s();
    struct trace_store *store = open_store(directory);
    double submit_s = submit_all(store, b, count, CAPTURE_FULL);
    struct trace_counters counters, sealed;
    trace_counters(store, &counters);
    trace_close(store); /* seals, and merges */
    cpu = bench_process_cpu_s() - cpu;
    if (counters.lost_queue + counters.lost_disk > 0) {
        fprintf(stderr, "records were lost\n");
        exit(1);
    }
    store = open_store(directory);
    trace_counters(store, &sealed);
    trace_close(store);
    snprintf(directory, sizeof(directory), "%s/append.db", folder);
    sqlite3 *db = sqlite_open(directory);
    double sqlite_cpu = sqlite_fill(db, b, count / 4, true) * 4;
    sqlite3_int64 sqlite_bytes = 0;
    sqlite3_stmt *s;
    must(sqlite3_prepare_v2(db,
                            "SELECT page_count*page_size FROM pragma_page_count, pragma_page_size",
                            -1, &s, NULL),
         db);
    if (sqlite3_step(s) == SQLITE_ROW)
        sqlite_bytes = sqlite3_column_int64(s, 0) * 4;
    sqlite3_finalize(s);
    sqlite3_close(db);
    bench_report("trace_append", (double)count / cpu, "records/s/core", "sqlite",
                 (double)count / sqlite_cpu, settings);
    bench_report("trace_record_bytes", (double)sealed.segment_bytes / (double)sealed.rows, "bytes",
                 "sqlite", (double)sqlite_bytes / (double)count, settings);
    bench_report("trace_submit", submit_s * 1e9 / (double)count, "ns", "goal", 2000, settings);
}

static double count_ms(struct trace_store *store, const struct trace_filter *f, uint64_t *count)
{
    double best = 1e9;
    for (int i = 0; i < REPEAT; i++) {
        int64_t before = clock_thread_cpu_ns();
        if (trace_count(store, make_project(0), f, count, NULL) != RC_OK)
            exit(1);
        best = MIN(best, (double)(clock_thread_cpu_ns() - before) / 1e6);
    }
    return best;
}

static double stats_ms(struct trace_store *store, const struct trace_stats_query *q)
{
    double best = 1e9;
    for (int i = 0; i < REPEAT; i++) {
        struct arena arena;
        struct trace_stats stats;
        arena_init(&arena, 16 << 20);
        int64_t before = clock_thread_cpu_ns();
        if (trace_stats(store, make_project(0), q, &arena, &stats, NULL) != RC_OK)
            exit(1);
        best = MIN(best, (double)(clock_thread_cpu_ns() - before) / 1e6);
        arena_fini(&arena);
    }
    return best;
}

static double page_ms(struct trace_store *store, const struct trace_filter *f)
{
    double best = 1e9;
    for (int i = 0; i < REPEAT; i++) {
        struct arena arena;
        struct trace_page page;
        arena_init(&arena, 16 << 20);
        int64_t before = clock_thread_cpu_ns();
        if (trace_list(store, make_project(0), f, 0, 50, &arena, &page, NULL) != RC_OK)
            exit(1);
        best = MIN(best, (double)(clock_thread_cpu_ns() - before) / 1e6);
        arena_fini(&arena);
    }
    return best;
}

static void bench_queries(const char *folder, struct bodies *b, uint64_t rows)
{
    char path[4096], settings[128];
    snprintf(path, sizeof(path), "%s/query", folder);
    struct trace_store *store = open_store(path);
    submit_all(store, b, rows, CAPTURE_METADATA);
    struct trace_counters counters;
    uint64_t segments = 0, still = 0;
    while (still < 10) { /* until it has merged what there is to merge */
        usleep(200000);
        trace_counters(store, &counters);
        still = counters.segments == segments ? still + 1 : 0;
        segments = counters.segments;
    }
    snprintf(settings, sizeof(settings), "%llu rows in %llu segments, warm, one core",
             (unsigned long long)rows, (unsigned long long)segments);
    snprintf(path, sizeof(path), "%s/query.db", folder);
    sqlite3 *db = sqlite_open(path);
    sqlite_fill(db, b, rows / 10, false);

    struct trace_filter f;
    uint64_t count;
    trace_filter_init(&f);
    f.model = STR("gpt-5");
    f.status_mask = 1u << CALL_ERROR;
    f.latency_min_ns = 3 * NS_PER_S;
    double sqlite_ms =
        10 * sqlite_query_ms(db,
                             "SELECT count(*) FROM call WHERE (model='gpt-5' OR requested='gpt-5') "
                             "AND status=1 AND total>=3000000000");
    bench_report("trace_filter", count_ms(store, &f, &count), "ms", "sqlite", sqlite_ms, settings);

    struct trace_stats_query q = {.group_by = TRACE_GROUP_MODEL};
    trace_filter_init(&q.filter);
    sqlite_ms =
        10 * sqlite_query_ms(
                 db, "SELECT model, count(*), sum(status=1), sum(cost), sum(input), sum(cached), "
                     "sum(output) FROM call GROUP BY model");
    bench_report("trace_group_by", stats_ms(store, &q), "ms", "sqlite", sqlite_ms, settings);
    q.filter.status_mask = 1u << CALL_OK;
    bench_report("trace_group_by_filtered", stats_ms(store, &q), "ms", "sqlite", sqlite_ms,
                 settings);

    trace_filter_init(&f);
    f.user = STR("user-7");
    f.status_mask = 1u << CALL_ERROR;
    f.latency_min_ns = 4900 * NS_PER_MS;
    sqlite_ms =
        10 * sqlite_query_ms(
                 db, "SELECT * FROM call WHERE user='user-7' AND status=1 AND total>=4900000000 "
                     "ORDER BY rowid DESC LIMIT 50");
    bench_report("trace_page", page_ms(store, &f), "ms", "sqlite", sqlite_ms, settings);
    sqlite3_close(db);
    trace_close(store);
}

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

int main(void)
{
    char folder[4096];
    const char *root = getenv("TRACE_BENCH_FOLDER");
    snprintf(folder, sizeof(folder), "%s/capstan-bench-XXXXXX", root ? root : "/tmp");
    if (!mkdtemp(folder))
        return 1;
    struct bodies *b = make_bodies();
    bench_append(folder, b, setting("TRACE_BENCH_APPEND", 300000));
    bench_queries(folder, b, setting("TRACE_BENCH_ROWS", 10000000));
    remove_folder(folder);
    free(b);
    return 0;
}
