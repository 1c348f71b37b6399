/* Every reader of documents: the first byte chooses the format, the rest is the file. What a reader
 * accepts must pass the stream's checks and be cut without losing a byte, by a strategy that the
 * first byte chooses too. A file of the corpus is named
 * after its format. */
#include "knowledge/chunk.h"
#include "knowledge/extract_reader.h"
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct {
    int format;
    const char *file_name;
} KINDS[] = {
    {EXTRACT_TEXT, "a.txt"},       {EXTRACT_MARKDOWN, "a.md"}, {EXTRACT_HTML, "a.html"},
    {EXTRACT_PDF_LAYOUT, "a.pdf"}, {EXTRACT_DOCX, "a.docx"},   {EXTRACT_PPTX, "a.pptx"},
    {EXTRACT_XLSX, "a.xlsx"},      {EXTRACT_ODT, "a.odt"},     {EXTRACT_CSV, "a.csv"},
    {EXTRACT_JSON, "a.json"},      {EXTRACT_JSONL, "a.jsonl"}, {EXTRACT_EPUB, "a.epub"},
    {EXTRACT_EMAIL, "a.eml"},      {EXTRACT_CODE, "a.py"},     {EXTRACT_CODE, "a.java"},
    {EXTRACT_SUBTITLES, "a.srt"},  {EXTRACT_OCR, "a.tsv"},
};

static const struct extract_limits LIMITS = {
    .input_bytes = 1 << 20, .text_bytes = 1 << 20, .blocks = 20000, .pages = 200};

static bool is_white(char c) { return c == ' ' || c == '\n' || c == '\t'; }

static void check_chunks(const struct extracted *document, unsigned seed, struct arena *arena)
{
    struct chunk_options options = {.strategy = seed % (CHUNK_STATIC + 1),
                                    .tokens_max = 1 + seed % 40,
                                    .overlap_tokens = seed % 7};
    struct chunk *chunks;
    struct err err = {0};
    size_t count, after = 0;
    if (chunk_document(document, &options, arena, &chunks, &count, &err) != RC_OK) {
        ASSERT(err.code == ERR_TOO_LARGE);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t at = after; at < chunks[i].begin; at++)
            ASSERT(is_white(document->text.p[at]));
        ASSERT(chunks[i].begin < chunks[i].end && chunks[i].end <= document->text.n);
        after = MAX(after, chunks[i].end);
    }
    for (size_t at = after; at < document->text.n; at++)
        ASSERT(is_white(document->text.p[at]));
}

static void check_stream(const struct reader *reader, unsigned seed, struct arena *arena)
{
    int fd = memfd_create("stream", MFD_CLOEXEC);
    ASSERT(fd >= 0 && extract_stream_write(fd, reader, RC_OK));
    off_t n = lseek(fd, 0, SEEK_END);
    char *bytes = arena_alloc(arena, (size_t)n);
    ASSERT(bytes && pread(fd, bytes, (size_t)n, 0) == n);
    close(fd);
    struct extracted document;
    struct err err = {0};
    struct extract_limits limits = reader->limits;
    ASSERT(extract_stream_read(str_make(bytes, (size_t)n), &limits, &document, &err) == RC_OK);
    check_chunks(&document, seed, arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    struct arena arena;
    struct err err = {0};
    struct reader reader;
    size_t kind = data[0] % COUNT_OF(KINDS);
    arena_init(&arena, 256 << 20);
    reader_init(&reader, &arena, &LIMITS, &err);
    reader.file_name = str_from(KINDS[kind].file_name);
    struct str bytes = str_make(data + 1, n - 1);
    if (kind != 3)
        charset_prepare(bytes);
    if (read_format(&reader, (enum extract_format)KINDS[kind].format, bytes) == RC_OK)
        check_stream(&reader, data[0] / COUNT_OF(KINDS) * 31 + (unsigned)n, &arena);
    else
        ASSERT(err.code != ERR_NONE && err.message[0]);
    reader_fini(&reader);
    arena_fini(&arena);
    return 0;
}
