/* Which format a file has: by its first bytes where they say so, then by its name, then by its
 * content type, then text if it looks like text. */
#include "base/utf8.h"
#include "knowledge/extract.h"

static const struct {
    enum extract_format format;
    const char *name;
} FORMATS[] = {
    {EXTRACT_UNKNOWN, "unknown"},   {EXTRACT_TEXT, "text"},
    {EXTRACT_MARKDOWN, "markdown"}, {EXTRACT_HTML, "html"},
    {EXTRACT_PDF, "pdf"},           {EXTRACT_DOCX, "docx"},
    {EXTRACT_PPTX, "pptx"},         {EXTRACT_XLSX, "xlsx"},
    {EXTRACT_ODT, "odt"},           {EXTRACT_CSV, "csv"},
    {EXTRACT_JSON, "json"},         {EXTRACT_JSONL, "jsonl"},
    {EXTRACT_EPUB, "epub"},         {EXTRACT_EMAIL, "email"},
    {EXTRACT_CODE, "code"},         {EXTRACT_SUBTITLES, "subtitles"},
};

static const struct {
    enum extract_format format;
    const char *endings; /* separated by spaces */
} ENDINGS[] = {
    {EXTRACT_TEXT, "txt text log rst adoc asciidoc org tex srt.txt"},
    {EXTRACT_MARKDOWN, "md markdown mdown mkd mdx"},
    {EXTRACT_HTML, "html htm xhtml shtml"},
    {EXTRACT_PDF, "pdf"},
    {EXTRACT_DOCX, "docx docm dotx"},
    {EXTRACT_PPTX, "pptx pptm ppsx"},
    {EXTRACT_XLSX, "xlsx xlsm xltx"},
    {EXTRACT_ODT, "odt ott"},
    {EXTRACT_CSV, "csv tsv tab"},
    {EXTRACT_JSON, "json geojson ipynb"},
    {EXTRACT_JSONL, "jsonl ndjson"},
    {EXTRACT_EPUB, "epub"},
    {EXTRACT_EMAIL, "eml"},
    {EXTRACT_CODE,
     "c h cc cpp cxx hpp hh cs java kt kts scala go rs swift m mm py pyi rb php pl pm js mjs cjs "
     "jsx ts tsx vue svelte lua r jl sh bash zsh fish ps1 sql hs ml ex exs erl clj dart zig nim "
     "groovy gradle proto graphql css scss less yaml yml toml ini cfg conf xml cmake mk tf"},
    {EXTRACT_SUBTITLES, "srt vtt"},
};

static const struct {
    enum extract_format format;
    const char *type;
} TYPES[] = {
    {EXTRACT_MARKDOWN, "text/markdown"},
    {EXTRACT_HTML, "text/html"},
    {EXTRACT_HTML, "application/xhtml+xml"},
    {EXTRACT_PDF, "application/pdf"},
    {EXTRACT_CSV, "text/csv"},
    {EXTRACT_CSV, "text/tab-separated-values"},
    {EXTRACT_JSON, "application/json"},
    {EXTRACT_JSONL, "application/x-ndjson"},
    {EXTRACT_JSONL, "application/jsonl"},
    {EXTRACT_EPUB, "application/epub+zip"},
    {EXTRACT_EMAIL, "message/rfc822"},
    {EXTRACT_SUBTITLES, "text/vtt"},
    {EXTRACT_SUBTITLES, "application/x-subrip"},
    {EXTRACT_CODE, "text/x-"},
    {EXTRACT_CODE, "application/javascript"},
    {EXTRACT_CODE, "text/javascript"},
    {EXTRACT_DOCX, "application/vnd.openxmlformats-officedocument.wordprocessingml"},
    {EXTRACT_PPTX, "application/vnd.openxmlformats-officedocument.presentationml"},
    {EXTRACT_XLSX, "application/vnd.openxmlformats-officedocument.spreadsheetml"},
    {EXTRACT_ODT, "application/vnd.oasis.opendocument.text"},
};

const char *extract_format_name(enum extract_format format)
{
    for (size_t i = 0; i < COUNT_OF(FORMATS); i++)
        if (FORMATS[i].format == format)
            return FORMATS[i].name;
    return FORMATS[0].name;
}

/* A zip archive: what is in it says more than its name. */
static enum extract_format detect_archive(struct str bytes)
{
    static const struct {
        enum extract_format format;
        struct str mark;
    } marks[] = {
        {EXTRACT_EPUB, STR_INIT("mimetypeapplication/epub+zip")},
        {EXTRACT_ODT, STR_INIT("mimetypeapplication/vnd.oasis.opendocument.text")},
        {EXTRACT_DOCX, STR_INIT("word/document")},
        {EXTRACT_PPTX, STR_INIT("ppt/presentation")},
        {EXTRACT_XLSX, STR_INIT("xl/workbook")},
        {EXTRACT_EPUB, STR_INIT("META-INF/container.xml")},
    };
    for (size_t i = 0; i < COUNT_OF(marks); i++)
        if (str_find(bytes, marks[i].mark) >= 0)
            return marks[i].format;
    return EXTRACT_UNKNOWN;
}

static bool contains_nocase(struct str s, struct str lower)
{
    for (size_t i = 0; i + lower.n <= s.n; i++)
        if (str_eq_nocase(str_slice(s, i, i + lower.n), lower))
            return true;
    return false;
}

static enum extract_format detect_by_bytes(struct str bytes)
{
    if (str_find(str_slice(bytes, 0, 1024), STR("%PDF-")) >= 0)
        return EXTRACT_PDF;
    if (str_starts(bytes, STR("PK\x03\x04")))
        return detect_archive(bytes);
    return EXTRACT_UNKNOWN;
}

static enum extract_format detect_by_name(struct str name)
{
    ssize_t dot = str_rfind_char(name, '.');
    if (dot < 0)
        return EXTRACT_UNKNOWN;
    struct str ending = str_slice(name, (size_t)dot + 1, name.n);
    for (size_t i = 0; i < COUNT_OF(ENDINGS); i++) {
        struct str rest = str_from(ENDINGS[i].endings), one;
        while (str_split(&rest, ' ', &one))
            if (str_eq_nocase(ending, one))
                return ENDINGS[i].format;
    }
    return EXTRACT_UNKNOWN;
}

static enum extract_format detect_by_type(struct str type)
{
    for (size_t i = 0; i < COUNT_OF(TYPES); i++) {
        struct str prefix = str_from(TYPES[i].type);
        if (type.n >= prefix.n && str_eq_nocase(str_slice(type, 0, prefix.n), prefix))
            return TYPES[i].format;
    }
    return EXTRACT_UNKNOWN;
}

/* Text has few control characters, unless it is UTF-16. */
static bool looks_like_text(struct str bytes)
{
    struct str head = str_slice(bytes, 0, 8192);
    if (str_starts(head, STR("\xff\xfe")) || str_starts(head, STR("\xfe\xff")))
        return true;
    size_t controls = 0, zeros = 0;
    for (size_t i = 0; i < head.n; i++) {
        unsigned char c = (unsigned char)head.p[i];
        zeros += c == 0;
        controls += c < 0x20 && c != '\n' && c != '\r' && c != '\t' && c != '\f' && c != 0x1b;
    }
    bool utf16 = zeros > head.n / 4 && zeros < head.n * 5 / 8 && controls - zeros < head.n / 50 + 1;
    return head.n && (utf16 || controls <= head.n / 100);
}

static enum extract_format detect_text(struct str bytes)
{
    struct str head = str_trim(str_slice(bytes, 0, 2048));
    if (contains_nocase(str_slice(head, 0, 512), STR("<!doctype html")) ||
        contains_nocase(str_slice(head, 0, 512), STR("<html")))
        return EXTRACT_HTML;
    if (str_starts(head, STR("WEBVTT")))
        return EXTRACT_SUBTITLES;
    if (str_starts(head, STR("{\"")) || str_starts(head, STR("[{")))
        return EXTRACT_JSON;
    static const struct str mail[] = {STR_INIT("Received: "), STR_INIT("Return-Path: "),
                                      STR_INIT("MIME-Version: "), STR_INIT("Delivered-To: ")};
    for (size_t i = 0; i < COUNT_OF(mail); i++)
        if (str_starts(head, mail[i]))
            return EXTRACT_EMAIL;
    return EXTRACT_TEXT;
}

static bool is_binary_format(enum extract_format format)
{
    return format == EXTRACT_PDF || format == EXTRACT_DOCX || format == EXTRACT_PPTX ||
           format == EXTRACT_XLSX || format == EXTRACT_ODT || format == EXTRACT_EPUB;
}

enum extract_format extract_detect(struct str bytes, struct str file_name, struct str content_type)
{
    enum extract_format format = detect_by_bytes(bytes);
    if (format != EXTRACT_UNKNOWN)
        return format;
    format = detect_by_name(file_name);
    if (format == EXTRACT_UNKNOWN)
        format = detect_by_type(content_type);
    /* A name that promises a container, over bytes that are none, counts: its reader says what is
     * wrong. A name of a text format over binary bytes does not. */
    if (is_binary_format(format))
        return format;
    if (!looks_like_text(bytes))
        return bytes.n || format == EXTRACT_UNKNOWN ? EXTRACT_UNKNOWN : format;
    return format != EXTRACT_UNKNOWN ? format : detect_text(bytes);
}
