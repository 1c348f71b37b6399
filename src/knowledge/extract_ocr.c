/* Scans: pages drawn by pdftoppm, read by tesseract, both confined, one pipe; a page at a time, so
 * that each has its own limits. What tesseract prints is a table of words with places, which our
 * confined reader turns into blocks (read_ocr), as it does with pdftotext's print-out. */
#include "base/buf.h"
#include "base/clock.h"
#include "knowledge/extract_run.h"
#include "knowledge/extract_reader.h"
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#define PDFTOPPM          "/usr/bin/pdftoppm"
#define TESSERACT         "/usr/bin/tesseract"
#define LANGUAGES_FOLDER  "/usr/share/tesseract-ocr/5/tessdata"
#define PAGES_MAX         200
#define DOTS_PER_INCH     200
#define PAGE_DOTS_MAX     6000
#define PICTURE_SIDE      "1600" /* dots: what models look at */
#define TABLE_BYTES_MAX   (4 << 20)
#define TOOL_MEMORY_BYTES (1536ll << 20)
#define LANGUAGES_MAX     4
#define WORD_CONFIDENCE   30 /* percent; below, it is a stain */
#define POINTS_PER_INCH   72.0f

/* ---- the server's side ---- */

bool extract_ocr_available(void)
{
    return access(PDFTOPPM, X_OK) == 0 && access(TESSERACT, X_OK) == 0;
}

enum rc extract_draw_page(int fd, size_t number, size_t bytes_max,
                          const struct extract_limits *limits, struct arena *arena, struct str *out,
                          struct err *err)
{
    char text[24];
    if (access(PDFTOPPM, X_OK) != 0)
        return err_set(err, ERR_MEDIA_TYPE,
                       "pages are drawn by pdftoppm: install the package poppler-utils");
    snprintf(text, sizeof(text), "%zu", number);
    const char *argv[] = {PDFTOPPM,    "-q",         "-f",    text, "-l", text,
                          "-scale-to", PICTURE_SIDE, "-jpeg", "-",  NULL};
    const char *envp[] = {"LC_ALL=C", NULL};
    struct sandbox_command command = {.argv = argv,
                                      .envp = envp,
                                      .confinement = {.profile = SANDBOX_CODE,
                                                      .cpu_s_max = limits->cpu_s,
                                                      .memory_bytes_max = TOOL_MEMORY_BYTES,
                                                      .file_bytes_max = 1,
                                                      .open_files_max = 64},
                                      .input_fd = fd,
                                      .wall_ns = limits->wall_s * NS_PER_S,
                                      .output_bytes_max = bytes_max,
                                      .error_bytes_max = 4096};
    struct sandbox_result result;
    extract_watch_cancel(&command, limits);
    lseek(fd, 0, SEEK_SET);
    enum rc rc = sandbox_run(&command, arena, &result, err);
    if (rc == RC_OK && (result.status != 0 || result.output.n == 0))
        rc = err_set(err, ERR_INVALID, "page %zu cannot be drawn: %.*s", number,
                     STR_ARG(str_slice(str_trim(result.error), 0, 200)));
    *out = rc == RC_OK ? result.output : STR_EMPTY;
    return rc;
}

/* "eng+deu": what is installed, English first. */
static void installed_languages(char *out, size_t out_bytes)
{
    DIR *folder = opendir(LANGUAGES_FOLDER);
    size_t n = (size_t)snprintf(out, out_bytes, "eng");
    int count = 1;
    for (struct dirent *item; folder && count < LANGUAGES_MAX && (item = readdir(folder));) {
        struct str name = str_from(item->d_name), ending = STR(".traineddata");
        if (!str_ends(name, ending) || str_starts(name, STR("eng.")) ||
            str_starts(name, STR("osd.")))
            continue;
        struct str language = str_slice(name, 0, name.n - ending.n);
        if (n + language.n + 2 >= out_bytes)
            break;
        n += (size_t)snprintf(out + n, out_bytes - n, "+%.*s", STR_ARG(language));
        count++;
    }
    if (folder)
        closedir(folder);
}

static int dots_per_inch(const struct extract_page *page)
{
    float longest = MAX(page->width, page->height);
    float most = longest > 0 ? PAGE_DOTS_MAX * POINTS_PER_INCH / longest : DOTS_PER_INCH;
    return (int)MAX(20, MIN(most, DOTS_PER_INCH));
}

/* One page's table, appended after a line that says which page it is. */
static enum rc read_page(int fd, size_t number, const struct extract_page *page,
                         const struct extract_limits *limits, struct buf *tables, struct err *err)
{
    char number_text[24], dots[24], languages[128];
    int dpi = dots_per_inch(page);
    snprintf(number_text, sizeof(number_text), "%zu", number);
    snprintf(dots, sizeof(dots), "%d", dpi);
    installed_languages(languages, sizeof(languages));
    const char *draw[] = {PDFTOPPM, "-q", "-f",    number_text, "-l", number_text,
                          "-r",     dots, "-gray", "-",         NULL};
    const char *read[] = {TESSERACT, "stdin",   "stdout", "--dpi", dots,
                          "-l",      languages, "tsv",    NULL};
    const char *envp[] = {"LC_ALL=C", "OMP_THREAD_LIMIT=1", NULL};
    const struct confinement confinement = {.profile = SANDBOX_CODE,
                                            .cpu_s_max = limits->cpu_s,
                                            .memory_bytes_max = TOOL_MEMORY_BYTES,
                                            .file_bytes_max = 1,
                                            .open_files_max = 64};
    struct sandbox_command feeder = {
        .argv = draw, .envp = envp, .confinement = confinement, .input_fd = fd};
    struct sandbox_command command = {.argv = read,
                                      .envp = envp,
                                      .confinement = confinement,
                                      .feeder = &feeder,
                                      .wall_ns = limits->wall_s * NS_PER_S,
                                      .output_bytes_max = TABLE_BYTES_MAX,
                                      .error_bytes_max = 4096};
    extract_watch_cancel(&command, limits);
    struct arena arena;
    struct sandbox_result result;
    arena_init(&arena, TABLE_BYTES_MAX * 2);
    lseek(fd, 0, SEEK_SET);
    enum rc rc = sandbox_run(&command, &arena, &result, err);
    if (rc == RC_OK && result.status != 0)
        rc = err_set(err, ERR_INVALID, "tesseract: %.*s",
                     STR_ARG(str_slice(str_trim(result.error), 0, 200)));
    if (rc == RC_OK &&
        (buf_printf(tables, "#page %.2f %.2f %d\n", page->width, page->height, dpi) != RC_OK ||
         buf_append(tables, result.output) != RC_OK))
        rc = err_set(err, ERR_TOO_LARGE, "the scan holds too much text");
    arena_fini(&arena);
    return rc;
}

enum rc extract_ocr(int fd, struct extract_input *input, struct arena *arena,
                    struct extracted *document, struct err *err)
{
    struct buf tables;
    struct sandbox_result result;
    struct str title = document->title;
    size_t pages = document->page_count;
    if (pages > PAGES_MAX)
        return err_set(err, ERR_TOO_LARGE, "a scan of %zu pages; at most %d are read", pages,
                       PAGES_MAX);
    buf_init(&tables, (size_t)input->limits->text_bytes * 8);
    enum rc rc = RC_OK;
    for (size_t i = 0; i < pages && rc == RC_OK; i++)
        rc = read_page(fd, i + 1, &document->pages[i], input->limits, &tables, err);
    if (rc == RC_OK) {
        struct extract_input read = *input;
        read.format = EXTRACT_OCR;
        read.feeder = NULL;
        read.bytes = buf_str(&tables);
        rc = extract_run(&read, arena, document, &result, err);
        document->title = title;
    }
    buf_fini(&tables);
    return rc;
}

/* ---- behind the walls ---- */

enum {
    COLUMN_LEVEL,
    COLUMN_BLOCK = 2,
    COLUMN_PARAGRAPH,
    COLUMN_LEFT = 6,
    COLUMN_TOP,
    COLUMN_WIDTH,
    COLUMN_HEIGHT,
    COLUMN_CONFIDENCE,
    COLUMN_TEXT,
    COLUMN_COUNT
};

struct ocr {
    struct reader *reader;
    struct buf text; /* of the paragraph */
    struct extract_rect rect;
    float points_per_dot;
    int64_t block, paragraph;
};

static enum rc flush(struct ocr *ocr)
{
    enum rc rc = reader_add(ocr->reader, BLOCK_TEXT, 0, buf_str(&ocr->text), &ocr->rect);
    buf_clear(&ocr->text);
    return rc;
}

static float number(struct str text)
{
    double value;
    return str_to_double(text, &value) == RC_OK ? (float)MAX(-1e5, MIN(value, 1e5)) : 0;
}

static int64_t integer(struct str text)
{
    int64_t value;
    return str_to_i64(text, &value) == RC_OK ? value : 0;
}

static enum rc begin_page(struct ocr *ocr, struct str line)
{
    struct str part, values[4] = {STR_EMPTY};
    for (size_t i = 0; i < COUNT_OF(values) && str_split(&line, ' ', &part); i++)
        values[i] = part;
    enum rc rc = flush(ocr);
    ocr->points_per_dot = POINTS_PER_INCH / MAX(number(values[3]), 1);
    ocr->block = ocr->paragraph = -1;
    return rc == RC_OK ? reader_add_page(ocr->reader, number(values[1]), number(values[2])) : rc;
}

static void widen(struct ocr *ocr, const struct str *columns)
{
    float scale = ocr->points_per_dot, x0 = number(columns[COLUMN_LEFT]) * scale,
          y0 = number(columns[COLUMN_TOP]) * scale, x1 = x0 + number(columns[COLUMN_WIDTH]) * scale,
          y1 = y0 + number(columns[COLUMN_HEIGHT]) * scale;
    if (!buf_len(&ocr->text))
        ocr->rect = (struct extract_rect){x0, y0, x1, y1};
    ocr->rect.x0 = MIN(ocr->rect.x0, x0);
    ocr->rect.y0 = MIN(ocr->rect.y0, y0);
    ocr->rect.x1 = MAX(ocr->rect.x1, x1);
    ocr->rect.y1 = MAX(ocr->rect.y1, y1);
}

static enum rc add_word(struct ocr *ocr, const struct str *columns)
{
    struct str word = str_trim(columns[COLUMN_TEXT]);
    if (!str_eq(columns[COLUMN_LEVEL], STR("5")) || !word.n ||
        number(columns[COLUMN_CONFIDENCE]) < WORD_CONFIDENCE)
        return RC_OK;
    int64_t block = integer(columns[COLUMN_BLOCK]), paragraph = integer(columns[COLUMN_PARAGRAPH]);
    enum rc rc = RC_OK;
    if (block != ocr->block || paragraph != ocr->paragraph)
        rc = flush(ocr);
    ocr->block = block;
    ocr->paragraph = paragraph;
    widen(ocr, columns);
    if (rc == RC_OK && buf_len(&ocr->text))
        rc = buf_append_char(&ocr->text, ' ');
    return rc == RC_OK ? buf_append(&ocr->text, word) : rc;
}

enum rc read_ocr(struct reader *reader, struct str bytes)
{
    struct ocr ocr = {.reader = reader, .block = -1};
    struct str text, line, part;
    enum rc rc = charset_decode(reader, bytes, STR("utf-8"), &text);
    buf_init(&ocr.text, (size_t)reader->limits.text_bytes);
    while (rc == RC_OK && str_split(&text, '\n', &line)) {
        struct str columns[COLUMN_COUNT] = {STR_EMPTY};
        if (str_starts(line, STR("#page "))) {
            rc = begin_page(&ocr, line);
            continue;
        }
        for (size_t i = 0; i < COLUMN_COUNT && str_split(&line, '\t', &part); i++)
            columns[i] = part;
        rc = add_word(&ocr, columns);
    }
    if (rc == RC_OK)
        rc = flush(&ocr);
    reader->no_text = rc == RC_OK && !reader->block_count;
    buf_fini(&ocr.text);
    return rc == RC_LIMIT && !reader->err->code ? reader_no_memory(reader) : rc;
}
