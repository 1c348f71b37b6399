/* The extractor's child: `capstan extract-child FORMAT NAME LIMITS…`, started by extract.c with the
 * document as standard input and the stream to the server as standard output. It loads the bytes,
 * raises its walls, and only then looks at them. */
#include "io/sandbox.h"
#include "knowledge/extract_reader.h"
#include "knowledge/extract_run.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARENA_BYTES_MAX (768ull << 20)
#define PIPE_BYTES      65536

enum rc read_format(struct reader *reader, enum extract_format format, struct str bytes)
{
    switch ((int)format) {
    case EXTRACT_TEXT: return read_text(reader, bytes);
    case EXTRACT_MARKDOWN: return read_markdown(reader, bytes);
    case EXTRACT_HTML: return read_html(reader, bytes);
    case EXTRACT_PDF_LAYOUT: return read_pdf_layout(reader, bytes);
    case EXTRACT_OCR: return read_ocr(reader, bytes);
    case EXTRACT_DOCX: return read_docx(reader, bytes);
    case EXTRACT_PPTX: return read_pptx(reader, bytes);
    case EXTRACT_XLSX: return read_xlsx(reader, bytes);
    case EXTRACT_ODT: return read_odt(reader, bytes);
    case EXTRACT_CSV: return read_csv(reader, bytes);
    case EXTRACT_JSON: return read_json(reader, bytes);
    case EXTRACT_JSONL: return read_json_lines(reader, bytes);
    case EXTRACT_EPUB: return read_epub(reader, bytes);
    case EXTRACT_EMAIL: return read_email(reader, bytes);
    case EXTRACT_CODE: return read_code(reader, bytes);
    case EXTRACT_SUBTITLES: return read_subtitles(reader, bytes);
    default: return err_set(reader->err, ERR_MEDIA_TYPE, "there is no reader for this format");
    }
}

/* Whoever cuts the file short while it is read ends this process and no other. */
static enum rc map_file(off_t bytes, struct str *out, struct err *err)
{
    *out = STR("");
    if (bytes == 0)
        return RC_OK;
    void *p = mmap(NULL, (size_t)bytes, PROT_READ, MAP_PRIVATE, STDIN_FILENO, 0);
    if (p == MAP_FAILED)
        return err_set(err, ERR_TOO_LARGE, "the file does not fit into memory");
    *out = str_make(p, (size_t)bytes);
    return RC_OK;
}

static enum rc read_pipe(const struct extract_limits *limits, struct str *out, struct err *err)
{
    struct buf bytes;
    buf_init(&bytes, (size_t)limits->input_bytes);
    ssize_t n;
    do {
        char *p;
        if (buf_reserve(&bytes, PIPE_BYTES, &p) != RC_OK)
            return err_set(err, ERR_TOO_LARGE, "the file holds more than its reader may take");
        n = read(STDIN_FILENO, p, PIPE_BYTES);
        if (n > 0)
            buf_added(&bytes, (size_t)n);
    } while (n > 0 || (n < 0 && errno == EINTR));
    *out = buf_str(&bytes); /* kept until the end */
    return RC_OK;
}

static bool parse_numbers(char **argv, int64_t *const *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (str_to_i64(str_from(argv[i]), numbers[i]) != RC_OK)
            return false;
    return true;
}

bool extract_is_child(int argc, char **argv)
{
    return argc > 1 && strcmp(argv[1], EXTRACT_CHILD_COMMAND) == 0;
}

int extract_child_main(int argc, char **argv)
{
    struct extract_limits limits = {0};
    int64_t format;
    int64_t *const numbers[] = {&format, &limits.input_bytes, &limits.text_bytes, &limits.blocks,
                                &limits.pages};
    if (argc != 3 + (int)COUNT_OF(numbers) || !parse_numbers(argv + 3, numbers, COUNT_OF(numbers)))
        return EXIT_FAILURE;
    struct arena arena;
    arena_init(&arena, ARENA_BYTES_MAX);
    struct err err = {0};
    struct reader reader;
    reader_init(&reader, &arena, &limits, &err);
    reader.file_name = str_from(argv[2]);
    struct str bytes = STR_EMPTY;
    /* A pipe carries what another confined child made, so it is read behind the walls. */
    struct stat st;
    bool is_file = fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode);
    enum rc rc = is_file ? map_file(st.st_size, &bytes, &err) : RC_OK;
    if (rc == RC_OK && is_file)
        charset_prepare(bytes);
    int locked = sandbox_lock();
    if (locked)
        rc = err_set(&err, ERR_FORBIDDEN, "the reader cannot be confined: %s", strerror(locked));
    if (rc == RC_OK && !is_file)
        rc = read_pipe(&limits, &bytes, &err);
    if (rc == RC_OK)
        rc = read_format(&reader, (enum extract_format)format, bytes);
    _exit(extract_stream_write(STDOUT_FILENO, &reader, rc) ? EXIT_SUCCESS : EXIT_FAILURE);
}
