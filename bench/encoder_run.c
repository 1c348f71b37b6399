/* Encodes the lines of a file with the built-in encoder, for bench/encoder.py:
 *   encoder_run FOLDER PRECISION TEXTS THREADS SECONDS [VECTORS]
 * Rounds over all texts until SECONDS have passed, each thread taking parts of 32; prints texts per
 * second and processor time. VECTORS receives the vectors as f32. */
#include "base/clock.h"
#include "bench.h"
#include "encoder/encoder.h"
#include <pthread.h>
#include <stdatomic.h>

#define PART 32

static struct encoder *encoder;
static struct str *texts;
static size_t text_count;
static float *vectors;
static atomic_size_t next_part;
static size_t part_end; /* of this round */

static void *run(void *arg)
{
    UNUSED(arg);
    size_t parts = (text_count + PART - 1) / PART;
    struct err err;
    for (size_t part; (part = atomic_fetch_add(&next_part, 1)) < part_end;) {
        size_t at = part % parts * PART, count = MIN(PART, text_count - at);
        if (encoder_encode(encoder, texts + at, count, vectors + at * encoder_dimension(encoder),
                           NULL, &err)) {
            fprintf(stderr, "%s\n", err.message);
            exit(1);
        }
    }
    return NULL;
}

/* One round over all texts. */
static void round_of(size_t threads)
{
    pthread_t started[64];
    atomic_store(&next_part, 0);
    part_end = (text_count + PART - 1) / PART;
    for (size_t i = 1; i < threads; i++)
        pthread_create(&started[i], NULL, run, NULL);
    run(NULL);
    for (size_t i = 1; i < threads; i++)
        pthread_join(started[i], NULL);
}

static void read_texts(const char *path)
{
    char *line = NULL;
    size_t room = 0, capacity = 0;
    FILE *file = fopen(path, "r");
    for (ssize_t n; file && (n = getline(&line, &room, file)) > 0;) {
        if (text_count == capacity)
            texts = xrealloc(texts, (capacity = capacity * 2 + 64) * sizeof(*texts));
        char *copy = xmalloc((size_t)n + 1);
        memcpy(copy, line, (size_t)n + 1);
        texts[text_count++] = str_make(copy, (size_t)n - (copy[n - 1] == '\n'));
    }
    if (!text_count) {
        fprintf(stderr, "%s: no texts\n", path);
        exit(1);
    }
    free(line);
    fclose(file);
}

int main(int argc, char **argv)
{
    static const char *const PRECISIONS[] = {"f32", "bf16", "int8"};
    struct err err;
    int precision = 0;
    if (argc < 6)
        return 2;
    while (precision < 2 && strcmp(PRECISIONS[precision], argv[2]) != 0)
        precision++;
    if (encoder_open(argv[1], (enum encoder_precision)precision, &encoder, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    read_texts(argv[3]);
    vectors = xcalloc(text_count, encoder_dimension(encoder) * sizeof(float));
    size_t threads = MIN((size_t)atoi(argv[4]), 64), rounds = 0;
    double seconds = atof(argv[5]);
    round_of(threads); /* warms up, and makes the vectors */
    double cpu_s = bench_process_cpu_s();
    int64_t start = clock_monotonic_ns(), now = start;
    while ((double)(now - start) / 1e9 < seconds) {
        round_of(threads);
        rounds++;
        now = clock_monotonic_ns();
    }
    if (rounds)
        printf("%.3f texts/s %.6f cpu-s/text\n",
               (double)(rounds * text_count) / ((double)(now - start) / 1e9),
               (bench_process_cpu_s() - cpu_s) / (double)(rounds * text_count));
    if (argc > 6) {
        FILE *file = fopen(argv[6], "w");
        if (!file || fwrite(vectors, encoder_dimension(encoder) * sizeof(float), text_count,
                            file) != text_count)
            return 1;
        fclose(file);
    }
    return 0;
}
