/* The reader of segments and parts over arbitrary bytes. Checksums would stop nearly every input at
 * the door, so they are made right first: what is tested is that nothing behind them is trusted. */
#include "base/hash.h"
#include "store/segment.h"
#include "trace/filter.h"
#include "trace/part.h"
#include "trace/part_format.h"
#include <stdlib.h>

#define HEADER_BYTES  64
#define FOOTER_BYTES  32
#define SECTION_BYTES 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void put_hash(char *at, const void *p, size_t n)
{
    uint64_t hash = hash_xxh3(p, n);
    memcpy(at, &hash, sizeof(hash));
}

/* Header, sections, blocks and table get the checksums that belong to their bytes. */
static void mend(char *p, size_t n)
{
    uint64_t table, count;
    put_hash(p + HEADER_BYTES - 8, p, HEADER_BYTES - 8);
    memcpy(&table, p + n - FOOTER_BYTES, 8);
    memcpy(&count, p + n - FOOTER_BYTES + 8, 8);
    if (count > SEGMENT_SECTIONS_MAX || table > n - FOOTER_BYTES ||
        n - FOOTER_BYTES - table != count * SECTION_BYTES)
        return;
    for (uint64_t i = 0; i < count; i++) {
        char *section = p + table + i * SECTION_BYTES;
        uint64_t offset, bytes;
        memcpy(&offset, section + 8, 8);
        memcpy(&bytes, section + 16, 8);
        if (offset <= table && bytes <= table - offset)
            put_hash(section + 24, p + offset, bytes);
    }
    char *covered = malloc(count * SECTION_BYTES + 16);
    memcpy(covered, p + table, count * SECTION_BYTES);
    memcpy(covered + count * SECTION_BYTES, p + n - FOOTER_BYTES, 16);
    put_hash(p + n - FOOTER_BYTES + 16, covered, count * SECTION_BYTES + 16);
    free(covered);
}

static void read_rows(struct rowset *rows)
{
    static struct call_record call;
    struct call_tag tags[LIMIT_TAGS];
    struct record_reader reader;
    struct str bytes;
    uint64_t seq;
    record_reader_init(&reader);
    for (uint32_t row = 0; row < rows->row_count; row += 1 + rows->row_count / 16) {
        enum rc rc = rowset_row(rows, row, &seq, &call, tags);
        if (rc == RC_OK)
            rc = rows->calls->record(rows, row, &reader, &bytes);
        UNUSED(rc);
    }
    record_reader_fini(&reader);
}

static void filter_rows(struct rowset *rows)
{
    struct trace_filter wanted;
    struct filter filter;
    uint8_t mask[GRANULE_ROWS];
    uint32_t count;
    trace_filter_init(&wanted);
    wanted.model = STR("gpt-5");
    wanted.tag_name = STR("env");
    wanted.latency_min_ns = 1000000;
    struct id project = {{0x50}};
    if (filter_compile(&filter, rows, project, &wanted) != RC_OK)
        return;
    for (uint32_t g = 0; g < granule_count(rows->row_count); g++)
        if (filter_apply(&filter, rows, g, granule_rows(rows->row_count, g), mask, &count) != RC_OK)
            break;
    filter_fini(&filter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < HEADER_BYTES + FOOTER_BYTES)
        return 0;
    char *copy = aligned_alloc(64, ALIGN_UP(n, 64));
    memcpy(copy, data, n);
    mend(copy, n);
    struct part *part;
    if (part_open_bytes(str_make(copy, n), &part, NULL) == RC_OK) {
        read_rows(part_rows(part));
        filter_rows(part_rows(part));
        rowset_unref(part_rows(part));
    }
    free(copy);
    return 0;
}
