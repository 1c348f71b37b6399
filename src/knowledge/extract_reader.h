/* Inside the extractor's child: what a format's reader gets and where it puts what it finds. All of
 * this runs on hostile input and behind walls; a reader allocates from the arena, which has a cap,
 * and ends with the process, so it frees nothing. One thread. */
#pragma once
#include "base/buf.h"
#include "knowledge/extract.h"

#define READ_DEPTH_MAX 256 /* of nested elements, parts, archives' folders */

struct reader {
    struct extract_limits limits; /* none of them 0 */
    struct str file_name;
    struct arena *arena;
    struct err *err;
    /* What was found so far. */
    struct buf text;
    struct extract_block *blocks;
    size_t block_count, block_capacity;
    struct extract_page *pages;
    size_t page_count, page_capacity;
    struct str title, language;
    bool no_text;
    unsigned depth; /* of parts within parts */
};

void reader_init(struct reader *reader, struct arena *arena, const struct extract_limits *limits,
                 struct err *err);
void reader_fini(struct reader *reader);

/* Appends a block; blank text is left out. `text` is UTF-8 (else RC_INVALID); control characters
 * become spaces; white space around it is cut, except before the first line of code. The page is
 * the last one added. RC_LIMIT with ERR_TOO_LARGE at a limit. */
enum rc reader_add(struct reader *reader, enum block_kind kind, unsigned level, struct str text,
                   const struct extract_rect *rect) MUST_CHECK;
enum rc reader_add_page(struct reader *reader, float width, float height) MUST_CHECK;
/* Keeps a copy, cleaned and cut; the first one counts. */
void reader_set_title(struct reader *reader, struct str title);
void reader_set_language(struct reader *reader, struct str language);
/* "this file needs more memory than its reader may take" */
enum rc reader_no_memory(struct reader *reader);

/* One per format; bytes as in the file. */
enum rc read_text(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_markdown(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_html(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_pdf_layout(struct reader *reader, struct str bytes) MUST_CHECK; /* pdftotext's XHTML */
enum rc read_ocr(struct reader *reader, struct str bytes) MUST_CHECK; /* tesseract's tables */
enum rc read_docx(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_pptx(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_xlsx(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_odt(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_csv(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_json(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_json_lines(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_epub(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_email(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_code(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_subtitles(struct reader *reader, struct str bytes) MUST_CHECK;
enum rc read_format(struct reader *reader, enum extract_format format, struct str bytes) MUST_CHECK;

/* HTML of which every part is wanted (a chapter, a mail): nothing is dropped as boilerplate. Does
 * not set the title. `charset` may be empty. */
enum rc read_html_part(struct reader *reader, struct str bytes, struct str charset) MUST_CHECK;

/* ---- encodings ---- */

/* Before the walls: opens converters for the encodings that these bytes name (the C library loads
 * them from files). */
void charset_prepare(struct str bytes);
/* To UTF-8: a byte order mark, else what was declared (may be empty), else UTF-8 or UTF-16 by its
 * looks, else Windows-1252. What cannot be converted becomes U+FFFD. The result may point into
 * `bytes`. */
enum rc charset_decode(struct reader *reader, struct str bytes, struct str declared,
                       struct str *out) MUST_CHECK;

/* ---- the stream from the child to the server ---- */

/* Writes what was found, or the error when rc is not RC_OK. False: the other side has gone. */
bool extract_stream_write(int fd, const struct reader *reader, enum rc rc);
/* Checks a stream and points into it; `bytes` is 16-byte aligned and outlives `out`. What the child
 * reports as its error becomes ours; a stream that breaks a rule is ERR_INVALID. */
enum rc extract_stream_read(struct str bytes, const struct extract_limits *limits,
                            struct extracted *out, struct err *err) MUST_CHECK;
size_t extract_stream_bytes_max(const struct extract_limits *limits);

/* What the child is asked to read: a format, or one of the server's own intermediate forms. */
enum { EXTRACT_PDF_LAYOUT = EXTRACT_PDF, EXTRACT_OCR = 100 };

void extract_limits_fill(struct extract_limits *limits, const struct extract_limits *given);
