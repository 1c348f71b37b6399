/* Words: the query parser over arbitrary text, and a words file that lies. The file is a small
 * valid one whose sections are changed as the input says and written again with right checksums, so
 * that the reader gets to see the lies.
 *
 * Input: u8 number of changes, each section u8 · place u16 · value u8; then the query. */
#include "vector/words_search.h"
#include "vector/words_segment.h"
#include <stdio.h>
#include <stdlib.h>

#define ROWS        300
#define TAG_COUNT   8 /* words_layout.h */
#define SECTION_MAX (64 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct {
    struct file_system *fs;
    struct analyzer *analyzer;
    struct words_memory *memory;
    struct words_scratch *scratch;
    struct str sections[TAG_COUNT + 1];
    struct segment *valid;
} base;

static void make_base(void)
{
    struct segment_writer *writer;
    int64_t bytes;
    base.fs = file_system_memory_new(1);
    base.scratch = words_scratch_new();
    base.memory = words_memory_new(1, ROWS);
    enum rc rc = analyzer_new(STR("english"), &base.analyzer, NULL);
    for (int row = 0; row < ROWS; row++) {
        char text[64];
        snprintf(text, sizeof(text), "common word number %d and %d", row % 7, row);
        words_memory_add(base.memory, base.analyzer, &(struct str){text, strlen(text)});
    }
    if (rc == RC_OK)
        rc = file_make_directory(base.fs, "/w");
    if (rc == RC_OK)
        rc = segment_create(base.fs, "/w/a", WORDS_SEGMENT_KIND, WORDS_SEGMENT_VERSION, &writer,
                            NULL);
    if (rc == RC_OK)
        rc = words_segment_write(writer, base.memory, 1, STR("english"));
    if (rc == RC_OK)
        rc = segment_seal(writer, &bytes);
    if (rc == RC_OK)
        rc = segment_open(base.fs, "/w/a", WORDS_SEGMENT_KIND, WORDS_SEGMENT_VERSION, &base.valid,
                          NULL);
    for (uint32_t tag = 1; tag <= TAG_COUNT && rc == RC_OK; tag++)
        rc = segment_section(base.valid, tag, 0, &base.sections[tag]);
    ASSERT(rc == RC_OK);
}

/* The checked sections (the last two) get new sums as they are written. */
static enum rc write_section(struct segment_writer *writer, uint32_t tag, const char *p, size_t n)
{
    struct checked_writer checked;
    if (tag < TAG_COUNT - 1) {
        segment_begin(writer, tag, 0);
        return n ? segment_write(writer, p, n) : RC_OK;
    }
    checked_begin(&checked, writer, tag);
    enum rc rc = checked_write(&checked, p, n);
    enum rc ended = checked_end(&checked);
    return rc == RC_OK ? ended : rc;
}

static enum rc write_changed(const uint8_t *changes, size_t count)
{
    struct segment_writer *writer;
    int64_t bytes;
    enum rc rc =
        segment_create(base.fs, "/w/b", WORDS_SEGMENT_KIND, WORDS_SEGMENT_VERSION, &writer, NULL);
    ASSERT(rc == RC_OK);
    for (uint32_t tag = 1; tag <= TAG_COUNT; tag++) {
        static char copy[SECTION_MAX];
        size_t n = base.sections[tag].n;
        ASSERT(n <= sizeof(copy));
        memcpy(copy, base.sections[tag].p, n);
        for (size_t i = 0; i < count; i++) {
            const uint8_t *c = changes + 4 * i;
            if (1u + c[0] % TAG_COUNT == tag && n)
                copy[(c[1] | (size_t)c[2] << 8) % n] = (char)c[3];
        }
        if (rc == RC_OK)
            rc = write_section(writer, tag, copy, n);
    }
    if (rc == RC_OK)
        return segment_seal(writer, &bytes);
    segment_abandon(writer);
    return rc;
}

static void search(const struct words_source *source, const struct words_stats *stats,
                   struct str text)
{
    struct words_hit hits[10];
    struct words_top top = {.hits = hits, .k = 10};
    struct words_ranking ranking = {.fields = 1, .k1 = 1.2, .b = 0.75, .weights = {1}};
    struct words_query query;
    struct words_part *part;
    struct words_plan *plan;
    struct arena arena;
    arena_init(&arena, 8 << 20);
    enum rc rc = words_query_parse(text, base.analyzer, &arena, &query);
    if (rc == RC_OK)
        rc = words_part_prepare(source, &query, 1, &arena, &part);
    if (rc == RC_OK)
        rc = words_plan_make(&part, 1, &query, stats, &ranking, &arena, &plan);
    if (rc == RC_OK)
        rc = words_part_search(part, 0, plan, NULL, &arena, base.scratch, &top);
    for (size_t i = 0; rc == RC_OK && i < top.count; i++)
        ASSERT(hits[i].row < ROWS);
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct segment *file;
    struct words_stats stats;
    if (!base.fs)
        make_base();
    size_t count = n ? MIN((size_t)data[0], (n - 1) / 4) : 0;
    struct str text = n ? str_make(data + 1 + 4 * count, n - 1 - 4 * count) : STR_EMPTY;
    struct words_source source = {.memory = base.memory, .rows = ROWS};
    words_memory_stats(base.memory, &stats);
    search(&source, &stats, text);
    if (count == 0)
        return 0;
    enum rc rc = write_changed(data + 1, count);
    if (rc == RC_OK)
        rc = segment_open(base.fs, "/w/b", WORDS_SEGMENT_KIND, WORDS_SEGMENT_VERSION, &file, NULL);
    ASSERT(rc == RC_OK);
    source = (struct words_source){.rows = ROWS};
    struct words_segment *words = NULL;
    if (words_segment_open(file, 1, ROWS, STR("english"), &words) == RC_OK) {
        source.segment = words;
        search(&source, &stats, text);
        search(&source, &stats, STR("common \"word number\" numb* 3 17"));
        words_segment_close(words);
    }
    return 0;
}
