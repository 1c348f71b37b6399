/* The text side of the index for bench/text.py: puts the lines of a file into an index of words,
 * seals and merges it, then asks the lines of another file, one after the other, in one thread.
 *
 *   text_run FOLDER DOCUMENTS QUERIES
 *
 * Prints JSON: seconds of this thread for putting in (durable batches of 1,000) and for
 * maintenance, searches a second and percentiles by the thread's processor time, and for each
 * query the lines found (the ids), for comparing. */
#include "base/clock.h"
#include "vector/index.h"
#include "bench.h"
#include <math.h>

#define BATCH     1000
#define ROUNDS    3
#define K         10
#define SHOWN     200 /* queries whose hits are printed */
#define LINES_MAX (1u << 20)

struct lines {
    char *text;
    struct str *items;
    size_t count;
};

static void fail(const char *what, const struct err *err)
{
    fprintf(stderr, "text_run: %s: %s\n", what, err ? err->message : "");
    exit(1);
}

static void read_lines(const char *path, struct lines *out)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path, NULL);
    fseek(file, 0, SEEK_END);
    size_t n = (size_t)ftell(file);
    rewind(file);
    out->text = malloc(n + 1);
    out->items = malloc(LINES_MAX * sizeof(*out->items));
    if (!out->text || !out->items || fread(out->text, 1, n, file) != n)
        fail(path, NULL);
    fclose(file);
    struct str rest = str_make(out->text, n), line;
    while (out->count < LINES_MAX && str_split(&rest, '\n', &line))
        if (line.n)
            out->items[out->count++] = line;
}

static double put_in(struct index *index, const struct lines *documents)
{
    static struct index_row rows[BATCH];
    static char ids[BATCH][16];
    struct err err = {0};
    int64_t start = clock_thread_cpu_ns();
    for (size_t at = 0; at < documents->count; at += BATCH) {
        size_t n = MIN((size_t)BATCH, documents->count - at);
        for (size_t i = 0; i < n; i++) {
            snprintf(ids[i], sizeof(ids[i]), "%zu", at + i);
            rows[i] =
                (struct index_row){.id = str_from(ids[i]), .texts = {documents->items[at + i]}};
        }
        if (index_upsert(index, rows, n, &err) != RC_OK)
            fail("upsert", &err);
    }
    return (double)(clock_thread_cpu_ns() - start) / 1e9;
}

static void ask(struct index *index, struct str text, struct arena *arena, struct index_hits *hits)
{
    struct err err = {0};
    struct index_query query = {.text = text, .k = K, .all_tags = true, .score_min = -INFINITY};
    arena_reset(arena);
    if (index_search(index, &query, arena, hits, &err) != RC_OK)
        fail("search", &err);
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_hits(struct index *index, const struct lines *queries, struct arena *arena)
{
    struct index_hits hits;
    printf("\"hits\":[");
    for (size_t q = 0; q < MIN(queries->count, (size_t)SHOWN); q++) {
        ask(index, queries->items[q], arena, &hits);
        printf("%s[", q ? "," : "");
        for (size_t i = 0; i < hits.count; i++)
            printf("%s[%.*s,%.6f]", i ? "," : "", STR_ARG(hits.items[i].id), hits.items[i].score);
        printf("]");
    }
    printf("]}\n");
}

int main(int argc, char **argv)
{
    struct lines documents = {0}, queries = {0};
    struct index_config config = {.texts = {{STR("text"), 1}}, .text_count = 1};
    struct index *index;
    struct index_hits hits;
    struct arena arena;
    struct err err = {0};
    if (argc != 4)
        fail("usage: text_run FOLDER DOCUMENTS QUERIES", NULL);
    read_lines(argv[2], &documents);
    read_lines(argv[3], &queries);
    if (index_open(file_system_real(), argv[1], &config, &index, &err) != RC_OK)
        fail("open", &err);
    double put_s = put_in(index, &documents);
    int64_t start = clock_thread_cpu_ns();
    if (index_maintain(index, NULL, NULL, &err) != RC_OK)
        fail("maintain", &err);
    double maintain_s = (double)(clock_thread_cpu_ns() - start) / 1e9;
    arena_init(&arena, 16 << 20);
    double *times_us = malloc(queries.count * sizeof(double)), best_s = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        start = clock_thread_cpu_ns();
        for (size_t q = 0; q < queries.count; q++) {
            int64_t began = clock_thread_cpu_ns();
            ask(index, queries.items[q], &arena, &hits);
            times_us[q] = (double)(clock_thread_cpu_ns() - began) / 1e3;
        }
        best_s = fmin(best_s, (double)(clock_thread_cpu_ns() - start) / 1e9);
    }
    qsort(times_us, queries.count, sizeof(double), by_number);
    struct index_stats stats;
    index_stats(index, &stats);
    printf("{\"documents\":%zu,\"put_s\":%.3f,\"maintain_s\":%.3f,\"segments\":%llu,"
           "\"tail_rows\":%llu,\"disk_bytes\":%llu,\"searches_per_s\":%.1f,\"p50_us\":%.2f,"
           "\"p99_us\":%.2f,",
           documents.count, put_s, maintain_s, (unsigned long long)stats.segments,
           (unsigned long long)stats.tail_rows, (unsigned long long)stats.disk_bytes,
           (double)queries.count / best_s, times_us[queries.count / 2],
           times_us[queries.count * 99 / 100]);
    print_hits(index, &queries, &arena);
    arena_fini(&arena);
    index_close(index);
    return 0;
}
