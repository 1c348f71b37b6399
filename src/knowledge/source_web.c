/* Sources on the web: a list of addresses, a sitemap, a crawl. A page's version is its ETag or
 * Last-Modified, asked for with a conditional request; without either its content is compared. */
#include "knowledge/source_private.h"
#include "knowledge/source_url.h"
#include "base/clock.h"
#include <stdlib.h>
#include <zlib.h>

#define SITEMAP_BYTES_MAX (50 * 1024 * 1024) /* unpacked, as the protocol says */
#define SITEMAPS_MAX      500
#define ROBOTS_BYTES_MAX  (2 * 1024 * 1024)

/* ---- one page ---- */

/* Entity tags are in quotes; a marker of our own is not and is never sent. */
static bool is_entity_tag(struct str etag)
{
    return str_starts(etag, STR("\"")) || str_starts(etag, STR("W/\""));
}

static enum rc answer_failed(int status, struct err *err)
{
    if (status == 404 || status == 410)
        return err_set(err, ERR_NOT_FOUND, "the server answered with status %d", status);
    return err_set(err, ERR_UPSTREAM, "the server answered with status %d", status);
}

static enum rc fetch_page(struct source_sync *sync, const struct source_item_row *item,
                          bool same_origin, struct source_content *out, struct err *err)
{
    struct http_header headers[4];
    struct fetch_answer answer;
    size_t count = 0;
    headers[count++] = (struct http_header){STR("accept"), STR("*/*")};
    if (is_entity_tag(item->etag))
        headers[count++] = (struct http_header){STR("if-none-match"), item->etag};
    if (item->modified.n)
        headers[count++] = (struct http_header){STR("if-modified-since"), item->modified};
    const struct fetch_request request = {.url = item->key,
                                          .headers = headers,
                                          .header_count = count,
                                          .bytes_max = SOURCE_FILE_BYTES_MAX,
                                          .same_origin = same_origin};
    enum rc rc = source_fetch(sync, &request, &answer, err);
    if (rc != RC_OK)
        return rc;
    out->body = answer.body;
    out->unchanged = answer.status == 304;
    out->content_type = answer.content_type;
    out->etag = answer.etag;
    out->modified = answer.modified;
    out->address = answer.url;
    if (out->unchanged || (answer.status >= 200 && answer.status < 300))
        return RC_OK;
    buf_release(&out->body);
    return answer_failed(answer.status, err);
}

static enum rc read_page(struct source_sync *sync, const struct source_item_row *item,
                         struct source_content *out, struct err *err)
{
    return fetch_page(sync, item, false, out, err);
}

/* ---- a list of addresses ---- */

static enum rc list_urls(struct source_sync *sync, struct err *err)
{
    enum rc rc = RC_OK;
    sync->total = (int64_t)sync->spec.url_count;
    for (size_t i = 0; rc == RC_OK && i < sync->spec.url_count; i++) {
        struct str url;
        if (source_url_resolve(STR_EMPTY, sync->spec.urls[i], SOURCE_KEY_BYTES_MAX, &sync->arena,
                               &url) == RC_OK)
            rc = sync_visit(sync, url, STR_EMPTY, NULL, err);
    }
    return rc;
}

const struct source_kind_calls SOURCE_CALLS_URLS = {
    .list = list_urls, .read = read_page, .keys_are_urls = true};

/* ---- sitemaps ---- */

/* Sitemaps are often stored packed. */
static enum rc unpack(struct buf *body, struct err *err)
{
    struct buf out;
    struct str in = buf_str(body);
    z_stream stream = {.next_in = (Bytef *)in.p, .avail_in = (uInt)in.n};
    int status = Z_OK;
    enum rc rc = RC_OK;
    if (in.n < 2 || (uint8_t)in.p[0] != 0x1f || (uint8_t)in.p[1] != 0x8b)
        return RC_OK;
    if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK)
        return err_set(err, ERR_OVERLOADED, "there is no memory to unpack the sitemap");
    buf_init(&out, SITEMAP_BYTES_MAX);
    while (rc == RC_OK && status == Z_OK) {
        char *p;
        rc = buf_reserve(&out, MIN(64 * 1024, SITEMAP_BYTES_MAX - buf_len(&out)), &p);
        if (rc != RC_OK || buf_len(&out) >= SITEMAP_BYTES_MAX) {
            rc = err_set(err, ERR_TOO_LARGE, "the sitemap is larger than 50 MB unpacked");
            break;
        }
        stream.next_out = (Bytef *)p;
        stream.avail_out = (uInt)MIN(64 * 1024, SITEMAP_BYTES_MAX - buf_len(&out));
        uInt room = stream.avail_out;
        status = inflate(&stream, Z_NO_FLUSH);
        buf_added(&out, room - stream.avail_out);
    }
    inflateEnd(&stream);
    if (rc == RC_OK && status != Z_STREAM_END)
        rc = err_set(err, ERR_INVALID, "the sitemap is no whole gzip file");
    buf_fini(body);
    *body = out;
    return rc;
}

static enum rc read_sitemap(struct source_sync *sync, struct str url, struct sitemap *out,
                            struct err *err)
{
    const struct fetch_request request = {.url = url, .bytes_max = SITEMAP_BYTES_MAX};
    struct fetch_answer answer;
    arena_reset(&sync->scratch);
    enum rc rc = source_fetch(sync, &request, &answer, err);
    if (rc == RC_OK && (answer.status < 200 || answer.status >= 300))
        rc = answer_failed(answer.status, err);
    if (rc == RC_OK)
        rc = unpack(&answer.body, err);
    if (rc == RC_OK)
        rc = sitemap_parse(buf_str(&answer.body), &sync->arena, out, err);
    buf_fini(&answer.body);
    if (rc != RC_OK && rc != RC_CANCELLED)
        err_prefix(err, "the sitemap %.*s", (int)MIN(url.n, (size_t)200), url.p);
    return rc;
}

static enum rc visit_sitemap(struct source_sync *sync, const struct sitemap *sitemap,
                             struct str base, struct err *err)
{
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < sitemap->count; i++) {
        const struct sitemap_entry *entry = &sitemap->entries[i];
        struct str url, marker = STR_EMPTY;
        if (source_url_resolve(base, entry->url, SOURCE_KEY_BYTES_MAX, &sync->arena, &url) !=
                RC_OK ||
            !source_wants(&sync->spec, url))
            continue;
        if (entry->modified.n)
            marker = arena_printf(&sync->arena, "lastmod:%.*s",
                                  (int)MIN(entry->modified.n, (size_t)64), entry->modified.p);
        rc = sync_visit(sync, url, marker, NULL, err);
    }
    return rc;
}

/* An index names sitemaps, and those name pages; a deeper nesting is not followed. */
static enum rc list_sitemap(struct source_sync *sync, struct err *err)
{
    struct sitemap top, inner;
    enum rc rc = read_sitemap(sync, sync->spec.url, &top, err);
    if (rc != RC_OK || !top.is_index) {
        if (rc == RC_OK)
            sync->total = (int64_t)top.count;
        return rc == RC_OK ? visit_sitemap(sync, &top, sync->spec.url, err) : rc;
    }
    if (top.count > SITEMAPS_MAX)
        sync->truncated = true;
    for (size_t i = 0; rc == RC_OK && i < MIN(top.count, (size_t)SITEMAPS_MAX); i++) {
        struct str url;
        if (source_url_resolve(sync->spec.url, top.entries[i].url, SOURCE_KEY_BYTES_MAX,
                               &sync->arena, &url) != RC_OK)
            continue;
        rc = read_sitemap(sync, url, &inner, err);
        if (rc == RC_OK && !inner.is_index)
            rc = visit_sitemap(sync, &inner, url, err);
    }
    return rc;
}

const struct source_kind_calls SOURCE_CALLS_SITEMAP = {
    .list = list_sitemap, .read = read_page, .keys_are_urls = true};

/* ---- crawling ---- */

struct crawl_page {
    struct str url;
    int64_t depth;
};

/* Pages found, in the order of finding: breadth first. */
struct crawl {
    struct robots robots;
    struct crawl_page *pages;
    size_t count, capacity;
    struct map known;
};

static enum rc read_robots(struct source_sync *sync, struct crawl *crawl, struct err *err)
{
    struct str origin = source_url_origin(sync->spec.url), url;
    struct fetch_answer answer;
    url = arena_printf(&sync->arena, "%.*s/robots.txt", STR_ARG(origin));
    if (!url.p)
        return err_set(err, ERR_TOO_LARGE, "there is no memory to crawl");
    const struct fetch_request request = {.url = url, .bytes_max = ROBOTS_BYTES_MAX};
    enum rc rc = source_fetch(sync, &request, &answer, err);
    if (rc == RC_OK && answer.status >= 500)
        rc = err_set(err, ERR_UPSTREAM, "robots.txt cannot be read (status %d), so nothing may be",
                     answer.status);
    if (rc == RC_OK && answer.status >= 200 && answer.status < 300)
        rc = robots_parse(buf_str(&answer.body), STR("capstan"), &sync->arena, &crawl->robots, err);
    buf_fini(&answer.body);
    if (rc == RC_OK && crawl->robots.delay_s > 0)
        sync->spec.rate_per_s = MIN(sync->spec.rate_per_s, 1 / crawl->robots.delay_s);
    return rc;
}

static enum rc put_page(struct source_sync *sync, struct crawl *crawl, struct str url,
                        int64_t depth, struct err *err)
{
    if (map_get(&crawl->known, url))
        return RC_OK;
    if (crawl->count >= SOURCE_ITEMS_MAX) {
        sync->truncated = true;
        return RC_OK;
    }
    if (crawl->count == crawl->capacity) {
        crawl->capacity = MAX(crawl->capacity * 2, (size_t)256);
        crawl->pages = xrealloc(crawl->pages, crawl->capacity * sizeof(*crawl->pages));
    }
    struct str copy = arena_copy(&sync->arena, url);
    if (!copy.p)
        return err_set(err, ERR_TOO_LARGE, "the site has more links than there is memory for");
    crawl->pages[crawl->count++] = (struct crawl_page){copy, depth};
    map_put(&crawl->known, copy, crawl);
    return RC_OK;
}

/* Pictures, programs and the like are not documents; nothing of them is kept. */
static bool is_document(struct str content_type)
{
    static const char *const others[] = {"image/",
                                         "video/",
                                         "audio/",
                                         "font/",
                                         "text/css",
                                         "text/javascript",
                                         "application/javascript",
                                         "application/x-javascript",
                                         "application/wasm"};
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        size_t n = strlen(others[i]);
        if (str_eq_nocase(str_slice(content_type, 0, n), str_make(others[i], n)))
            return false;
    }
    return true;
}

static bool is_html(struct str content_type)
{
    return content_type.n == 0 || str_eq_nocase(str_slice(content_type, 0, 9), STR("text/html")) ||
           str_eq_nocase(str_slice(content_type, 0, 21), STR("application/xhtml+xml"));
}

static enum rc read_crawled(struct source_sync *sync, const struct source_item_row *item,
                            struct source_content *out, struct err *err)
{
    struct page_links links;
    enum rc rc = fetch_page(sync, item, true, out, err);
    if (rc != RC_OK || out->unchanged)
        return rc;
    if (!is_document(out->content_type)) {
        buf_release(&out->body);
        return err_set(err, ERR_NOT_FOUND, "it is no document (%.*s)",
                       (int)MIN(out->content_type.n, (size_t)80), out->content_type.p);
    }
    if (!is_html(out->content_type))
        return RC_OK;
    rc = links_parse(buf_str(&out->body), &sync->scratch, &links, err);
    if (rc == RC_OK && links.noindex)
        rc = err_set(err, ERR_NOT_FOUND, "the page asks not to be indexed");
    return rc;
}

static enum rc follow_links(struct source_sync *sync, struct crawl *crawl,
                            const struct source_item *item, int64_t depth, struct err *err)
{
    struct page_links links;
    struct str body, content_type, origin = source_url_origin(sync->spec.url);
    enum rc rc = sync_item_body(sync, item, &body, &content_type, err);
    if (rc != RC_OK || body.n == 0 || !is_html(content_type))
        return rc;
    rc = links_parse(body, &sync->scratch, &links, err);
    if (rc != RC_OK || links.nofollow)
        return rc;
    struct str base = sync->content.address.n ? sync->content.address : item->row.key, url;
    if (links.base.p &&
        source_url_resolve(base, links.base, SOURCE_KEY_BYTES_MAX, &sync->scratch, &url) == RC_OK)
        base = url;
    for (size_t i = 0; rc == RC_OK && i < links.count; i++) {
        if (sync_is_cancelled(sync))
            return sync_cancelled(err);
        if (source_url_resolve(base, links.references[i], SOURCE_KEY_BYTES_MAX, &sync->scratch,
                               &url) != RC_OK ||
            !str_eq(source_url_origin(url), origin) ||
            !robots_allow(&crawl->robots, source_url_path(url)) || !source_wants(&sync->spec, url))
            continue;
        rc = put_page(sync, crawl, url, depth, err);
    }
    return rc;
}

static enum rc visit_pages(struct source_sync *sync, struct crawl *crawl, struct err *err)
{
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < crawl->count; i++) {
        struct source_item *item;
        const struct crawl_page page = crawl->pages[i];
        pthread_mutex_lock(&sync->lock);
        sync->total = (int64_t)MIN(crawl->count, (size_t)sync->spec.items_max);
        pthread_mutex_unlock(&sync->lock);
        arena_reset(&sync->scratch);
        buf_release(&sync->content.body);
        sync->content = (struct source_content){.body = sync->content.body};
        rc = sync_visit(sync, page.url, STR_EMPTY, &item, err);
        if (rc != RC_OK || !item)
            continue;
        /* What a page that cannot be read now would have led to is not known. */
        bool failed = item->row.state == SOURCE_ITEM_FAILED;
        if (failed && !id_is_zero(item->row.document))
            sync->unsure = true;
        if (page.depth < sync->spec.depth)
            rc = follow_links(sync, crawl, item, page.depth + 1, err);
        if (failed && i == 0 && id_is_zero(item->row.document))
            rc = err_set(err, ERR_UPSTREAM, "the first page cannot be read: %.*s",
                         STR_ARG(item->row.error));
    }
    return rc;
}

static enum rc list_crawl(struct source_sync *sync, struct err *err)
{
    struct crawl *crawl = xcalloc(1, sizeof(*crawl));
    struct str first;
    sync->kind = crawl;
    map_init(&crawl->known);
    enum rc rc =
        source_url_resolve(STR_EMPTY, sync->spec.url, SOURCE_KEY_BYTES_MAX, &sync->arena, &first);
    if (rc != RC_OK)
        return err_set(err, ERR_INVALID, "the first page's address cannot be used");
    sync->spec.url = first;
    rc = read_robots(sync, crawl, err);
    if (rc == RC_OK && !robots_allow(&crawl->robots, source_url_path(first)))
        rc = err_set(err, ERR_FORBIDDEN, "the site's robots.txt does not allow to read %.*s",
                     (int)MIN(first.n, (size_t)300), first.p);
    if (rc == RC_OK)
        rc = put_page(sync, crawl, first, 0, err);
    return rc == RC_OK ? visit_pages(sync, crawl, err) : rc;
}

static void close_crawl(struct source_sync *sync)
{
    struct crawl *crawl = sync->kind;
    if (!crawl)
        return;
    map_fini(&crawl->known);
    free(crawl->pages);
    free(crawl);
}

const struct source_kind_calls SOURCE_CALLS_CRAWL = {
    .list = list_crawl, .read = read_crawled, .close = close_crawl, .keys_are_urls = true};
