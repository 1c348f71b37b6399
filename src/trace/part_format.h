/* The sections of a part and their layout; shared by the code that writes and the code that reads.
 */
#pragma once
#include "store/segment.h"
#include "trace/rowset.h"

#define PART_KIND          SEGMENT_KIND('C', 'A', 'L', 'L')
#define DELETES_KIND       SEGMENT_KIND('D', 'E', 'L', 'S')
#define BLOCK_BYTES_TARGET (128 * 1024)
#define BLOCK_BYTES_MAX    (16 * 1024 * 1024)

enum {
    SECTION_META = SEGMENT_KIND('M', 'E', 'T', 'A'),
    SECTION_INT = SEGMENT_KIND('I', 'N', 'T', 'S'),  /* index: enum column */
    SECTION_TEXT = SEGMENT_KIND('T', 'E', 'X', 'T'), /* codes; index: enum text_column */
    SECTION_DICT = SEGMENT_KIND('D', 'I', 'C', 'T'), /* index: enum text_column */
    SECTION_IDS = SEGMENT_KIND('I', 'D', 'E', 'N'),
    SECTION_BLOCKS = SEGMENT_KIND('B', 'L', 'K', 'S'), /* table of blocks */
    SECTION_BODY = SEGMENT_KIND('B', 'O', 'D', 'Y'),   /* blocks, each with its hash in the table */
};

struct part_meta_disk {
    uint32_t rows, granule_rows;
    uint64_t first_seq, last_seq;
    int64_t started_min_ns, started_max_ns;
    uint64_t raw_bytes; /* of all records */
};

struct zone_disk {
    int64_t min, max;
};

/* Followed by a zone for each granule, then the codes of all rows. */
struct column_disk {
    uint32_t rows;
    uint8_t width, reserved[3];
    int64_t base;
    uint64_t scale;
};

struct block_disk {
    uint64_t offset; /* in SECTION_BODY */
    uint32_t bytes, raw_bytes;
    uint32_t first_row, rows;
    uint64_t hash; /* XXH3 of the compressed bytes */
};
