/* Documents to text: what a file says, in reading order, with its structure and, where the format
 * has them, the places on its pages.
 *
 * Extraction runs in a confined child (io/sandbox): a hostile file costs its own error. The child
 * writes what it finds as a bounded stream of blocks, which this process only checks and copies. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

enum extract_format {
    EXTRACT_UNKNOWN,
    EXTRACT_TEXT,
    EXTRACT_MARKDOWN,
    EXTRACT_HTML,
    EXTRACT_PDF,
    EXTRACT_DOCX,
    EXTRACT_PPTX,
    EXTRACT_XLSX,
    EXTRACT_ODT,
    EXTRACT_CSV,
    EXTRACT_JSON,
    EXTRACT_JSONL,
    EXTRACT_EPUB,
    EXTRACT_EMAIL,
    EXTRACT_CODE,
    EXTRACT_SUBTITLES,
};
/* By content first, then by name and content type. */
enum extract_format extract_detect(struct str bytes, struct str file_name, struct str content_type);
const char *extract_format_name(enum extract_format format);

enum block_kind {
    BLOCK_TEXT,
    BLOCK_HEADING,
    BLOCK_LIST_ITEM,
    BLOCK_TABLE_ROW,
    BLOCK_CODE,
    BLOCK_QUOTE
};

struct extract_rect {
    float x0, y0, x1, y1; /* points from the page's top left corner */
};

struct extract_block {
    enum block_kind kind;
    uint8_t level;            /* heading 1 … 6, list depth; table rows: 1 is a header row */
    uint32_t page;            /* from 1; 0: the format has no pages */
    uint32_t begin, end;      /* bytes in `text` */
    struct extract_rect rect; /* zero: not known */
};

struct extract_page {
    float width, height; /* points */
};

struct extracted {
    enum extract_format format;
    struct str text; /* UTF-8, the blocks' texts joined by newlines */
    struct extract_block *blocks;
    size_t block_count;
    struct extract_page *pages;
    size_t page_count;
    struct str title, language; /* empty: not known */
    bool no_text;               /* a scan: needs OCR */
};

struct extract_limits {
    int64_t input_bytes, text_bytes, blocks, pages; /* 0: the defaults */
    int64_t cpu_s, wall_s;
    bool no_ocr;                    /* scans stay without text */
    const volatile bool *cancelled; /* looked at ten times a second; NULL: never */
};

/* Extracts the file at `path` (regular file, opened for reading by the caller's right). Blocks: a
 * worker's task. ERR_MEDIA_TYPE: no reader for it; ERR_TOO_LARGE; ERR_INVALID: broken, says how;
 * ERR_FORBIDDEN: confinement failed its self-test, nothing is extracted. */
enum rc extract_file(const char *path, struct str file_name, struct str content_type,
                     const struct extract_limits *limits, struct arena *arena,
                     struct extracted *out, struct err *err) MUST_CHECK;

/* The child is the program itself, started again: the main function of every program that calls
 * extract_file begins with
 *
 *     if (extract_is_child(argc, argv))
 *         return extract_child_main(argc, argv);
 */
bool extract_is_child(int argc, char **argv);
int extract_child_main(int argc, char **argv);
