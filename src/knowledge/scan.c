/* See scan.h. */
#include "knowledge/scan.h"
#include "base/clock.h"
#include "base/rand.h"
#include "knowledge/extract_reader.h"
#include "knowledge/extract_run.h"
#include "knowledge/outside.h"
#include "text/json_tree.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define CALL_ARENA_BYTES_MAX  (96 * 1024 * 1024)
#define CALL_ANSWER_BYTES_MAX (8 * 1024 * 1024)
#define FILE_ARENA_BYTES_MAX  (64 * 1024)
#define FILE_ANSWER_BYTES_MAX (64 * 1024 * 1024)
#define PICTURE_BYTES_MAX     (16 * 1024 * 1024)
#define NO_TEXT               "[no text]"
#define INSTRUCTIONS                                                                               \
    "Transcribe this page of a scanned document as Markdown, in its own language and reading "     \
    "order. Keep headings, lists and tables; say in one sentence what a figure shows. Write "      \
    "nothing that does not stand on the page. If there is nothing to read on it, answer " NO_TEXT

bool scan_goes_out(const struct collection_scans *scans)
{
    return scans->by == SCANS_VISION || scans->by == SCANS_DOCLING || scans->by == SCANS_TIKA;
}

/* Our reader's blocks of a text that somebody else made. */
static enum rc read_as(const struct scan *scan, enum extract_format format, struct str text,
                       struct extracted *out, struct err *err)
{
    struct extract_limits limits;
    struct sandbox_result result;
    extract_limits_fill(&limits, &(struct extract_limits){.cancelled = scan->cancelled});
    const struct extract_input input = {
        .format = (int)format, .file_name = scan->file_name, .limits = &limits, .bytes = text};
    *out = (struct extracted){0};
    return extract_run(&input, scan->arena, out, &result, err);
}

/* ---- a model that sees ---- */

struct str scan_picture_type(struct str bytes)
{
    if (str_starts(bytes, STR("\x89PNG\r\n\x1a\n")))
        return STR("image/png");
    if (str_starts(bytes, STR("\xff\xd8\xff")))
        return STR("image/jpeg");
    if (str_starts(bytes, STR("GIF87a")) || str_starts(bytes, STR("GIF89a")))
        return STR("image/gif");
    if (str_starts(bytes, STR("RIFF")) && str_eq(str_slice(bytes, 8, 12), STR("WEBP")))
        return STR("image/webp");
    return STR_EMPTY;
}

/* "data:image/png;base64,…" */
static struct str picture_address(struct str picture, struct arena *arena)
{
    struct str type = scan_picture_type(picture);
    size_t room = type.n + 16 + (picture.n + 2) / 3 * 4 + 1;
    char *out = arena_alloc(arena, room);
    if (!out)
        return STR_EMPTY;
    size_t n = (size_t)snprintf(out, room, "data:%.*s;base64,", STR_ARG(type));
    return str_make(out, n + base64_encode(picture.p, picture.n, out + n));
}

static enum rc make_question(struct str route, struct str picture, struct arena *arena,
                             struct str *out, struct err *err)
{
    struct str address = picture_address(picture, arena);
    yyjson_mut_doc *doc = address.p ? json_tree_new(arena) : NULL;
    yyjson_mut_val *root = doc ? yyjson_mut_obj(doc) : NULL;
    if (!root)
        return err_set(err, ERR_TOO_LARGE, "the picture is too large to be sent");
    json_set_text(doc, root, "model", route);
    yyjson_mut_val *messages = yyjson_mut_obj_add_arr(doc, root, "messages");
    yyjson_mut_val *message = yyjson_mut_arr_add_obj(doc, messages);
    yyjson_mut_obj_add_str(doc, message, "role", "user");
    yyjson_mut_val *content = yyjson_mut_obj_add_arr(doc, message, "content");
    yyjson_mut_val *words = yyjson_mut_arr_add_obj(doc, content);
    yyjson_mut_obj_add_str(doc, words, "type", "text");
    yyjson_mut_obj_add_str(doc, words, "text", INSTRUCTIONS);
    yyjson_mut_val *image = yyjson_mut_arr_add_obj(doc, content);
    yyjson_mut_obj_add_str(doc, image, "type", "image_url");
    json_set_text(doc, yyjson_mut_obj_add_obj(doc, image, "image_url"), "url", address);
    return json_write_tree(root, arena, out, err);
}

/* "```markdown\n…\n```" around the whole. */
static struct str without_fence(struct str text)
{
    text = str_trim(text);
    ssize_t lf = str_find_char(text, '\n');
    if (lf < 0 || !str_starts(text, STR("```")) || !str_ends(text, STR("\n```")))
        return text;
    struct str word = str_trim(str_slice(text, 3, (size_t)lf));
    if (word.n && !str_eq(word, STR("markdown")) && !str_eq(word, STR("md")))
        return text;
    return (size_t)lf + 1 <= text.n - 4 ? str_trim(str_slice(text, (size_t)lf + 1, text.n - 4))
                                        : STR_EMPTY;
}

enum rc scan_read_completion(struct str body, struct arena *arena, struct str *out, struct err *err)
{
    yyjson_doc *doc;
    enum rc rc = json_read(body, arena, &doc, err);
    if (rc != RC_OK)
        return err_set(err, ERR_UPSTREAM_PROTOCOL, "its answer is no chat completion");
    yyjson_val *choice = yyjson_arr_get_first(yyjson_obj_get(yyjson_doc_get_root(doc), "choices"));
    yyjson_val *content = yyjson_obj_get(yyjson_obj_get(choice, "message"), "content");
    if (!yyjson_is_str(content))
        return err_set(err, ERR_UPSTREAM_PROTOCOL, "its answer holds no text");
    if (str_eq(json_get_text(choice, "finish_reason"), STR("length")))
        return err_set(err, ERR_UPSTREAM,
                       "its answer was cut off: let the route's model write more tokens");
    *out = without_fence(json_text(content));
    if (str_eq(*out, STR(NO_TEXT)))
        *out = STR_EMPTY;
    return RC_OK;
}

static enum rc ask_page(const struct scan *scan, struct str picture, struct str *text,
                        struct err *err)
{
    const struct collection_scans *scans = &scan->collection->spec.scans;
    const struct collection_row *row = &scan->collection->row;
    struct outside *outside =
        outside_new(scan->knowledge, CALL_ARENA_BYTES_MAX, CALL_ANSWER_BYTES_MAX);
    struct arena *arena = outside_arena(outside);
    struct str body, answer;
    enum rc rc = make_question(scans->route, picture, arena, &body, err);
    if (rc == RC_OK)
        rc = outside_ask(outside, row->project, row->name, body, scans->timeout_s * NS_PER_S,
                         scan->cancelled, &answer, err);
    if (rc == RC_OK)
        rc = scan_read_completion(answer, scan->arena, text, err);
    outside_free(outside);
    return rc;
}

static enum rc page_failed(const struct scan *scan, size_t number, enum rc rc, struct err *err)
{
    const struct collection_scans *scans = &scan->collection->spec.scans;
    if (rc == RC_CANCELLED || !err)
        return rc;
    struct err why = *err;
    const char *remedy =
        why.code == ERR_MODEL_NOT_FOUND ? "; set scans.route to a route or model that is there"
        : why.code == ERR_TIMEOUT       ? "; raise scans.timeout_s, or choose a faster route"
        : why.code == ERR_BUDGET || why.code == ERR_RATE_LIMIT
            ? "; raise the limit, then take the document in again"
            : "; see the call's record, then take the document in again";
    return err_set(err, why.code, "page %zu could not be read by %.*s: %s%s", number,
                   STR_ARG(scans->route), why.message, remedy);
}

/* Pages one after the other: their blocks get their page, and stand in one text. */
static enum rc join_pages(const struct scan *scan, const struct extracted *pages, size_t count,
                          struct extracted *out, struct err *err)
{
    size_t bytes = 0, blocks = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += pages[i].text.n + 1;
        blocks += pages[i].block_count;
    }
    char *text = arena_alloc(scan->arena, bytes + 1);
    out->blocks = ARENA_NEW_ARRAY(scan->arena, struct extract_block, blocks + 1);
    out->block_count = 0;
    if (!text || !out->blocks || bytes > UINT32_MAX)
        return err_set(err, ERR_TOO_LARGE, "the scan holds too much text");
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (pages[i].block_count == 0)
            continue;
        if (at)
            text[at++] = '\n';
        for (size_t b = 0; b < pages[i].block_count; b++) {
            struct extract_block *block = &out->blocks[out->block_count++];
            *block = pages[i].blocks[b];
            block->begin += (uint32_t)at;
            block->end += (uint32_t)at;
            block->page = out->page_count ? (uint32_t)i + 1 : 0;
        }
        memcpy(text + at, pages[i].text.p, pages[i].text.n);
        at += pages[i].text.n;
    }
    out->text = str_make(text, at);
    out->no_text = out->block_count == 0;
    return RC_OK;
}

static enum rc read_page(const struct scan *scan, size_t number, struct str picture,
                         struct extracted *out, struct err *err)
{
    struct str text = STR_EMPTY;
    *out = (struct extracted){0};
    enum rc rc = __atomic_load_n(scan->cancelled, __ATOMIC_RELAXED)
                     ? err_set(err, ERR_CANCELLED, "cancelled")
                     : ask_page(scan, picture, &text, err);
    if (rc != RC_OK)
        return page_failed(scan, number, rc, err);
    return text.n ? read_as(scan, EXTRACT_MARKDOWN, text, out, err) : RC_OK;
}

static enum rc read_picture(const struct scan *scan, int fd, struct extracted *document,
                            struct err *err)
{
    struct extracted page;
    char *bytes = arena_alloc(scan->arena, PICTURE_BYTES_MAX);
    ssize_t n = bytes ? pread(fd, bytes, PICTURE_BYTES_MAX, 0) : -1;
    if (n < 0)
        return err_set(err, ERR_TOO_LARGE, "the picture cannot be read");
    struct str picture = str_make(bytes, (size_t)n);
    if (scan_picture_type(picture).n == 0)
        return err_set(err, ERR_MEDIA_TYPE,
                       "no reader for this kind of file: models see PDF, PNG, JPEG, GIF and WebP");
    if (n == PICTURE_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "a picture is sent with %d MiB at most: make it smaller",
                       PICTURE_BYTES_MAX >> 20);
    enum rc rc = read_page(scan, 1, picture, &page, err);
    return rc == RC_OK ? join_pages(scan, &page, 1, document, err) : rc;
}

static enum rc read_pages(const struct scan *scan, int fd, struct extracted *document,
                          struct err *err)
{
    const struct collection_scans *scans = &scan->collection->spec.scans;
    size_t count = document->page_count;
    if (count > scans->pages_max)
        return err_set(err, ERR_TOO_LARGE,
                       "a scan of %zu pages; at most %zu are sent to a route: raise "
                       "scans.pages_max, or split the file",
                       count, scans->pages_max);
    struct extracted *pages = ARENA_NEW_ARRAY(scan->arena, struct extracted, count);
    struct arena arena;
    struct extract_limits limits;
    enum rc rc = pages ? RC_OK : err_set(err, ERR_TOO_LARGE, "the scan has too many pages");
    extract_limits_fill(&limits, &(struct extract_limits){.cancelled = scan->cancelled});
    arena_init(&arena, 2 * PICTURE_BYTES_MAX);
    for (size_t i = 0; rc == RC_OK && i < count; i++) {
        struct str picture;
        rc = extract_draw_page(fd, i + 1, PICTURE_BYTES_MAX, &limits, &arena, &picture, err);
        if (rc == RC_OK)
            rc = read_page(scan, i + 1, picture, &pages[i], err);
        arena_reset(&arena);
    }
    arena_fini(&arena);
    return rc == RC_OK ? join_pages(scan, pages, count, document, err) : rc;
}

static enum rc read_by_route(const struct scan *scan, struct extracted *document, struct err *err)
{
    int fd = open(scan->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, ERR_INVALID, "the file cannot be opened: %s", strerror(errno));
    enum rc rc = document->page_count ? read_pages(scan, fd, document, err)
                                      : read_picture(scan, fd, document, err);
    close(fd);
    return rc;
}

/* ---- Docling, Tika ---- */

enum rc scan_read_docling(struct str body, struct arena *arena, struct str *out, struct err *err)
{
    yyjson_doc *doc;
    if (json_read(body, arena, &doc, NULL) != RC_OK)
        return err_set(err, ERR_UPSTREAM_PROTOCOL, "its answer is no JSON");
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *error = yyjson_arr_get_first(yyjson_obj_get(root, "errors"));
    yyjson_val *text = yyjson_obj_get(yyjson_obj_get(root, "document"), "md_content");
    if (str_eq(json_get_text(root, "status"), STR("failure")) ||
        (!yyjson_is_str(text) && yyjson_is_obj(error)))
        return err_set(err, ERR_UPSTREAM, "it could not convert the file: %.*s",
                       STR_ARG(str_slice(json_get_text(error, "error_message"), 0, 200)));
    if (!yyjson_is_str(text))
        return err_set(err, ERR_UPSTREAM_PROTOCOL, "its answer holds no document.md_content");
    *out = json_text(text);
    return RC_OK;
}

/* A name that stands between quotes in a header. */
static struct str quoted_name(struct str name, struct arena *arena)
{
    char *out = arena_alloc(arena, name.n + 1);
    for (size_t i = 0; out && i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        out[i] = c < 0x20 || c == 0x7f || c == '"' || c == '\\' ? '_' : (char)c;
    }
    return out ? str_make(out, name.n) : STR_EMPTY;
}

static enum rc fill_docling(const struct scan *scan, struct str file, struct arena *arena,
                            struct outside_request *request, struct http_header *headers)
{
    struct str base = scan->collection->spec.scans.address,
               name = quoted_name(scan->file_name, arena),
               mark = arena_printf(arena, "capstan-%016llx%016llx", (unsigned long long)rand_u64(),
                                   (unsigned long long)rand_u64());
    headers[0] = (struct http_header){
        STR("content-type"),
        arena_printf(arena, "multipart/form-data; boundary=%.*s", STR_ARG(mark))};
    headers[1] = (struct http_header){STR("accept"), STR("application/json")};
    request->method = STR("POST");
    request->url = arena_printf(arena, "%.*s/v1/convert/file", STR_ARG(base));
    request->body[0] =
        arena_printf(arena,
                     "--%.*s\r\ncontent-disposition: form-data; name=\"to_formats\"\r\n\r\nmd\r\n"
                     "--%.*s\r\ncontent-disposition: form-data; name=\"image_export_mode\"\r\n\r\n"
                     "placeholder\r\n"
                     "--%.*s\r\ncontent-disposition: form-data; name=\"files\"; filename=\"%.*s\""
                     "\r\ncontent-type: application/octet-stream\r\n\r\n",
                     STR_ARG(mark), STR_ARG(mark), STR_ARG(mark), STR_ARG(name));
    request->body[1] = file;
    request->body[2] = arena_printf(arena, "\r\n--%.*s--\r\n", STR_ARG(mark));
    return headers[0].value.p && request->url.p && request->body[0].p && request->body[2].p
               ? RC_OK
               : RC_LIMIT;
}

static enum rc fill_tika(const struct scan *scan, struct str file, struct arena *arena,
                         struct outside_request *request, struct http_header *headers)
{
    struct str base = scan->collection->spec.scans.address;
    headers[0] = (struct http_header){STR("accept"), STR("text/html")};
    headers[1] = (struct http_header){STR("content-type"), STR("application/octet-stream")};
    request->method = STR("PUT");
    request->url = arena_printf(arena, "%.*s/tika", STR_ARG(base));
    request->body[0] = file;
    return request->url.p ? RC_OK : RC_LIMIT;
}

/* What its status says, in words that help. */
static enum rc check_status(int status, struct str body, struct err *err)
{
    struct str said = str_trim(str_slice(body, 0, 200));
    if (status / 100 == 2)
        return RC_OK;
    if (status == 413)
        return err_set(err, ERR_TOO_LARGE,
                       "the file is too large for it (status 413): raise its limit, or split the "
                       "file");
    if (status == 415 || status == 422)
        return err_set(err, ERR_MEDIA_TYPE,
                       "it cannot read this file (status %d): the file is encrypted, broken or of "
                       "a kind that it does not know",
                       status);
    if (status / 100 == 3 || status == 404 || status == 405)
        return err_set(err, ERR_UPSTREAM,
                       "it answered with status %d: scans.address must be its own base address",
                       status);
    return err_set(err, ERR_UPSTREAM,
                   "it answered with status %d: see its log, then take the document in again%s%.*s",
                   status, said.n ? "; it said: " : "", STR_ARG(said));
}

static enum rc service_failed(const struct collection_scans *scans, enum rc rc, struct err *err)
{
    if (rc == RC_CANCELLED || !err)
        return rc;
    struct err why = *err;
    const char *remedy =
        why.code == ERR_FORBIDDEN
            ? "; an administrator allows it with knowledge.http_allow in capstan.yaml"
        : why.code == ERR_TIMEOUT               ? "; raise scans.timeout_s"
        : rc == RC_DOWN || why.code == ERR_NONE ? "; start it, or correct scans.address"
                                                : "";
    return err_set(err, why.code == ERR_NONE ? ERR_UPSTREAM : why.code, "%s at %.*s: %s%s",
                   scans->by == SCANS_DOCLING ? "Docling" : "Tika",
                   (int)MIN(scans->address.n, (size_t)200), scans->address.p, why.message, remedy);
}

static enum rc ask_service(const struct scan *scan, struct outside *outside, struct str *text,
                           struct err *err)
{
    const struct collection_scans *scans = &scan->collection->spec.scans;
    bool docling = scans->by == SCANS_DOCLING;
    struct arena *arena = outside_arena(outside);
    struct http_header *headers = ARENA_NEW_ARRAY(arena, struct http_header, 2);
    struct outside_request request = {
        .timeout_ns = scans->timeout_s * NS_PER_S, .headers = headers, .header_count = 2};
    struct str file, answer;
    int status;
    enum rc rc = outside_map_file(outside, scan->path, &file, err);
    if (rc != RC_OK)
        return rc;
    if (!headers || (docling ? fill_docling(scan, file, arena, &request, headers)
                             : fill_tika(scan, file, arena, &request, headers)) != RC_OK)
        return err_set(err, ERR_TOO_LARGE, "no memory for this request");
    rc = outside_fetch(outside, &request, scan->cancelled, &status, &answer, err);
    if (rc == RC_OK)
        rc = check_status(status, answer, err);
    if (rc == RC_OK && docling)
        rc = scan_read_docling(answer, scan->arena, text, err);
    else if (rc == RC_OK && !(*text = arena_copy(scan->arena, answer)).p && answer.n)
        rc = err_set(err, ERR_TOO_LARGE, "there is no memory for its answer");
    return rc;
}

static enum rc read_by_service(const struct scan *scan, struct extracted *document, struct err *err)
{
    const struct collection_scans *scans = &scan->collection->spec.scans;
    struct outside *outside =
        outside_new(scan->knowledge, FILE_ARENA_BYTES_MAX, FILE_ANSWER_BYTES_MAX);
    struct str text = STR_EMPTY;
    enum rc rc = ask_service(scan, outside, &text, err);
    outside_free(outside);
    if (rc != RC_OK)
        return service_failed(scans, rc, err);
    document->no_text = str_trim(text).n == 0;
    if (document->no_text)
        return RC_OK;
    struct extracted read;
    rc = read_as(scan, scans->by == SCANS_DOCLING ? EXTRACT_MARKDOWN : EXTRACT_HTML, text, &read,
                 err);
    if (rc != RC_OK)
        return rc;
    read.format = document->format;
    read.title = document->title.n ? document->title : read.title;
    read.no_text = read.block_count == 0;
    if (document->page_count) { /* blocks name none of them */
        read.pages = document->pages;
        read.page_count = document->page_count;
    }
    *document = read;
    return RC_OK;
}

enum rc scan_read(const struct scan *scan, struct extracted *document, struct err *err)
{
    return scan->collection->spec.scans.by == SCANS_VISION ? read_by_route(scan, document, err)
                                                           : read_by_service(scan, document, err);
}
