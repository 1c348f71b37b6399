/* Sitemaps and the answers of S3: small, flat XML, read by expat with document types refused, so
 * that no entity can be declared. Only the text of elements one level below an entry counts. */
#include "knowledge/source_private.h"
#include <expat.h>

#define DEPTH_MAX      16
#define TEXT_BYTES_MAX 4096

struct reading {
    XML_Parser parser;
    struct arena *arena;
    const char *names[DEPTH_MAX]; /* of the open elements; unknown ones "" */
    int depth;
    char text[TEXT_BYTES_MAX]; /* of the innermost element */
    size_t text_bytes;
    /* An element has ended: its name, the name around it, its text. */
    enum rc (*element)(struct reading *reading, const char *around, const char *name,
                       struct str text);
    void *out;
    size_t capacity;
    enum rc rc;
};

/* Every name that means something to us; comparing is by pointer from then on. */
static const char *const KNOWN[] = {
    "urlset", "sitemapindex",          "url",      "sitemap", "loc",  "lastmod",
    "Key",    "ListBucketResult",      "Contents", "ETag",    "Size", "IsTruncated",
    "Error",  "NextContinuationToken", "Code",     "Message", NULL};

static const char *known_name(const char *name)
{
    const char *colon = strrchr(name, ':');
    const char *local = colon ? colon + 1 : name;
    for (const char *const *known = KNOWN; *known; known++)
        if (strcmp(*known, local) == 0)
            return *known;
    return "";
}

static bool is(const char *name, const char *what) { return strcmp(name, what) == 0; }

static void stop(struct reading *reading, enum rc rc)
{
    if (rc == RC_OK || reading->rc != RC_OK)
        return;
    reading->rc = rc;
    XML_StopParser(reading->parser, XML_FALSE);
}

static void opened(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    struct reading *reading = arg;
    UNUSED(attributes);
    if (reading->depth >= DEPTH_MAX) {
        stop(reading, RC_INVALID);
        return;
    }
    reading->names[reading->depth++] = known_name(name);
    reading->text_bytes = 0;
}

static void closed(void *arg, const XML_Char *name)
{
    struct reading *reading = arg;
    UNUSED(name);
    if (reading->rc != RC_OK || reading->depth == 0)
        return;
    int depth = --reading->depth;
    struct str text = str_make(reading->text, reading->text_bytes);
    stop(reading, reading->element(reading, depth ? reading->names[depth - 1] : "",
                                   reading->names[depth], text));
    reading->text_bytes = 0;
}

/* A text that is longer than any that means something is cut, and then refused as what it is. */
static void characters(void *arg, const XML_Char *text, int n)
{
    struct reading *reading = arg;
    size_t room = sizeof(reading->text) - reading->text_bytes, take = MIN((size_t)n, room);
    memcpy(reading->text + reading->text_bytes, text, take);
    reading->text_bytes += take;
}

static void document_type(void *arg, const XML_Char *name, const XML_Char *system,
                          const XML_Char *public_id, int internal)
{
    UNUSED(name);
    UNUSED(system);
    UNUSED(public_id);
    UNUSED(internal);
    stop(arg, RC_DENIED);
}

static enum rc run(struct reading *reading, struct str xml, struct err *err)
{
    reading->parser = XML_ParserCreate(NULL);
    if (!reading->parser)
        return err_set(err, ERR_OVERLOADED, "there is no memory to read XML");
    XML_SetUserData(reading->parser, reading);
    XML_SetElementHandler(reading->parser, opened, closed);
    XML_SetCharacterDataHandler(reading->parser, characters);
    XML_SetStartDoctypeDeclHandler(reading->parser, document_type);
    enum XML_Status status = XML_Parse(reading->parser, xml.p, (int)xml.n, 1);
    enum XML_Error error = XML_GetErrorCode(reading->parser);
    unsigned long line = XML_GetCurrentLineNumber(reading->parser);
    XML_ParserFree(reading->parser);
    if (reading->rc == RC_DENIED)
        return err_set(err, ERR_INVALID, "the XML declares a document type, which is refused");
    if (reading->rc == RC_LIMIT)
        return err_set(err, ERR_TOO_LARGE, "the XML has more entries than there may be");
    if (reading->rc != RC_OK)
        return err_set(err, ERR_INVALID, "the XML nests too deeply");
    if (status != XML_STATUS_OK)
        return err_set(err, ERR_INVALID, "line %lu is not XML: %s", line, XML_ErrorString(error));
    return RC_OK;
}

static bool fits_parser(struct str xml, struct err *err)
{
    if (xml.n > 0 && xml.n <= SOURCE_FILE_BYTES_MAX)
        return true;
    err_set(err, ERR_INVALID, xml.n ? "the XML is too large" : "the XML is empty");
    return false;
}

static enum rc keep(struct reading *reading, struct str text, struct str *out)
{
    *out = arena_copy(reading->arena, text);
    return out->p ? RC_OK : RC_LIMIT;
}

/* ---- sitemaps ---- */

static enum rc sitemap_element(struct reading *reading, const char *around, const char *name,
                               struct str text)
{
    struct sitemap *out = reading->out;
    bool entry = is(around, "url") || is(around, "sitemap");
    if (reading->depth == 0 && !is(name, "urlset") && !is(name, "sitemapindex"))
        out->count = 0; /* some other XML */
    if (reading->depth == 0)
        out->is_index = is(name, "sitemapindex");
    struct sitemap_entry *now = &out->entries[out->count];
    if (entry && is(name, "loc"))
        return keep(reading, str_trim(text), &now->url);
    if (entry && is(name, "lastmod"))
        return keep(reading, str_trim(text), &now->modified);
    if (!is(name, "url") && !is(name, "sitemap"))
        return RC_OK;
    if (now->url.n == 0) {
        *now = (struct sitemap_entry){0};
        return RC_OK;
    }
    return ++out->count < reading->capacity ? RC_OK : RC_LIMIT;
}

enum rc sitemap_parse(struct str xml, struct arena *arena, struct sitemap *out, struct err *err)
{
    struct reading reading = {.arena = arena,
                              .element = sitemap_element,
                              .out = out,
                              .capacity = SITEMAP_ENTRIES_MAX + 1};
    *out = (struct sitemap){
        .entries = ARENA_NEW_ARRAY(arena, struct sitemap_entry, SITEMAP_ENTRIES_MAX + 2)};
    if (!out->entries)
        return err_set(err, ERR_TOO_LARGE, "there is no memory for the sitemap");
    return fits_parser(xml, err) ? run(&reading, xml, err) : RC_INVALID;
}

/* ---- S3 ---- */

static enum rc bucket_element(struct reading *reading, const char *around, const char *name,
                              struct str text)
{
    struct bucket_page *out = reading->out;
    struct bucket_object *now = &out->objects[out->count];
    if (is(around, "ListBucketResult") && is(name, "NextContinuationToken"))
        return keep(reading, text, &out->next);
    if (is(around, "Contents")) {
        if (is(name, "Key"))
            return keep(reading, text, &now->key);
        if (is(name, "ETag"))
            return keep(reading, text, &now->etag);
        if (is(name, "Size") && str_to_i64(text, &now->bytes) != RC_OK)
            now->bytes = -1;
        return RC_OK;
    }
    if (!is(name, "Contents"))
        return RC_OK;
    if (now->key.n == 0) {
        *now = (struct bucket_object){0};
        return RC_OK;
    }
    return ++out->count < reading->capacity ? RC_OK : RC_LIMIT;
}

enum rc bucket_page_parse(struct str xml, struct arena *arena, struct bucket_page *out,
                          struct err *err)
{
    struct reading reading = {
        .arena = arena, .element = bucket_element, .out = out, .capacity = BUCKET_PAGE_MAX + 1};
    *out = (struct bucket_page){
        .objects = ARENA_NEW_ARRAY(arena, struct bucket_object, BUCKET_PAGE_MAX + 2)};
    if (!out->objects)
        return err_set(err, ERR_TOO_LARGE, "there is no memory for the bucket's objects");
    return fits_parser(xml, err) ? run(&reading, xml, err) : RC_INVALID;
}

struct bucket_error {
    struct str code, message;
};

static enum rc error_element(struct reading *reading, const char *around, const char *name,
                             struct str text)
{
    struct bucket_error *out = reading->out;
    if (is(around, "Error") && is(name, "Code"))
        return keep(reading, text, &out->code);
    return is(around, "Error") && is(name, "Message") ? keep(reading, text, &out->message) : RC_OK;
}

void bucket_error_parse(struct str xml, struct arena *arena, struct str *code, struct str *message)
{
    struct bucket_error error = {0};
    struct reading reading = {.arena = arena, .element = error_element, .out = &error};
    bool good = fits_parser(xml, NULL) && run(&reading, xml, NULL) == RC_OK;
    *code = good ? error.code : STR_EMPTY;
    *message = good ? error.message : STR_EMPTY;
}
