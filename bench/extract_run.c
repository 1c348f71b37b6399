/* Reads one document again and again for bench/extract.py: extract_run FILE ROUNDS prints, as
 * JSON, the bytes of text, the chunks, and the processor time of one reading and one cutting; and
 * of one whole extraction, child and all, as ingestion does it. */
#include "base/clock.h"
#include "knowledge/chunk.h"
#include "knowledge/extract_reader.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARENA_BYTES_MAX (2048ull << 20)
#define WHOLE_ROUNDS    5

static struct str map_file(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        perror(path);
        exit(1);
    }
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    return str_make(p, (size_t)st.st_size);
}

static void fail(const struct err *err)
{
    fprintf(stderr, "extract_run: %s\n", err->message);
    exit(1);
}

/* One reading within this process, without walls: what the child does with its bytes. */
static struct extracted read_once(enum extract_format format, struct str bytes, const char *name,
                                  struct arena *arena, struct reader *reader)
{
    struct err err = {0};
    reader_init(reader, arena, NULL, &err);
    reader->file_name = str_from(name);
    if (read_format(reader, format, bytes) != RC_OK)
        fail(&err);
    return (struct extracted){.text = buf_str(&reader->text),
                              .blocks = reader->blocks,
                              .block_count = reader->block_count,
                              .pages = reader->pages,
                              .page_count = reader->page_count};
}

static double children_cpu_s(void)
{
    struct rusage own, children;
    getrusage(RUSAGE_SELF, &own);
    getrusage(RUSAGE_CHILDREN, &children);
    const struct timeval times[] = {own.ru_utime, own.ru_stime, children.ru_utime,
                                    children.ru_stime};
    double sum = 0;
    for (size_t i = 0; i < COUNT_OF(times); i++)
        sum += (double)times[i].tv_sec + (double)times[i].tv_usec / 1e6;
    return sum;
}

/* Processor seconds of ours and the children's for one extraction. */
static double whole_s(const char *path, struct arena *arena)
{
    struct extracted document;
    struct err err = {0};
    double start = 0;
    for (int i = -1; i < WHOLE_ROUNDS; i++) { /* the first one includes the self-test */
        arena_reset(arena);
        if (extract_file(path, str_from(path), STR_EMPTY, NULL, arena, &document, &err) != RC_OK)
            fail(&err);
        if (i < 0)
            start = children_cpu_s();
    }
    return (children_cpu_s() - start) / WHOLE_ROUNDS;
}

int main(int argc, char **argv)
{
    if (extract_is_child(argc, argv))
        return extract_child_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    if (argc != 3)
        return 2;
    int rounds = atoi(argv[2]);
    const char *path = argv[1];
    struct str bytes = map_file(path);
    enum extract_format format = extract_detect(bytes, str_from(path), STR_EMPTY);
    struct arena arena;
    arena_init(&arena, ARENA_BYTES_MAX);
    int64_t read_ns = 0, chunk_ns = 0;
    size_t text_bytes = 0, chunk_count = 0;
    for (int i = 0; i < rounds; i++) {
        struct reader reader;
        struct chunk *chunks;
        struct err err = {0};
        arena_reset(&arena);
        int64_t start = clock_thread_cpu_ns();
        struct extracted document = read_once(format, bytes, path, &arena, &reader);
        int64_t middle = clock_thread_cpu_ns();
        struct chunk_options options = {.tokens_max = 250, .overlap_tokens = 25};
        if (chunk_document(&document, &options, &arena, &chunks, &chunk_count, &err) != RC_OK)
            fail(&err);
        chunk_ns += clock_thread_cpu_ns() - middle;
        read_ns += middle - start;
        text_bytes = document.text.n;
        reader_fini(&reader);
    }
    printf("{\"format\":\"%s\",\"bytes\":%zu,\"text_bytes\":%zu,\"chunks\":%zu,\"read_s\":%.9f,"
           "\"chunk_s\":%.9f,\"whole_s\":%.9f}\n",
           extract_format_name(format), bytes.n, text_bytes, chunk_count,
           (double)read_ns / 1e9 / rounds, (double)chunk_ns / 1e9 / rounds, whole_s(path, &arena));
    arena_fini(&arena);
    return 0;
}
