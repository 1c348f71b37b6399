/* Objects of an S3-compatible bucket: ListObjectsV2 page by page, GetObject for what is new. An
 * object's version is its ETag from the listing, so what has not changed costs nothing. */
#include "knowledge/source_private.h"
#include "knowledge/source_url.h"
#include "base/clock.h"

#define PAGE_BYTES_MAX (16 * 1024 * 1024)
#define PAGES_MAX      10000

/* As the signature wants it: all but unreserved characters encoded; '/' as told. */
static struct str encode(struct str s, bool keep_slash, struct arena *arena)
{
    static const char digits[] = "0123456789ABCDEF";
    char *p = arena_alloc(arena, 3 * s.n + 1);
    size_t n = 0;
    for (size_t i = 0; p && i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == '~' || (c == '/' && keep_slash);
        if (plain) {
            p[n++] = (char)c;
            continue;
        }
        p[n++] = '%';
        p[n++] = digits[c >> 4];
        p[n++] = digits[c & 15];
    }
    return p ? str_make(p, n) : STR_EMPTY;
}

static enum rc full(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "there is no memory to ask the bucket");
}

/* The address of a key, or of the bucket, split as the signature wants it. */
struct target {
    struct str origin, host, path;
};

static enum rc make_target(struct source_sync *sync, struct str key, struct target *out,
                           struct err *err)
{
    const struct source_spec *spec = &sync->spec;
    struct arena *arena = &sync->scratch;
    struct str origin = source_url_origin(spec->endpoint), encoded = encode(key, true, arena);
    ssize_t host = str_find(origin, STR("://"));
    if (!encoded.p && key.n)
        return full(err);
    struct str scheme = str_slice(origin, 0, (size_t)host + 3);
    struct str authority = str_slice(origin, (size_t)host + 3, origin.n);
    if (spec->path_style) {
        out->host = authority;
        out->path = arena_printf(arena, "/%.*s/%.*s", STR_ARG(spec->bucket), STR_ARG(encoded));
        if (key.n == 0)
            out->path = arena_printf(arena, "/%.*s", STR_ARG(spec->bucket));
    } else {
        out->host = arena_printf(arena, "%.*s.%.*s", STR_ARG(spec->bucket), STR_ARG(authority));
        out->path = arena_printf(arena, "/%.*s", STR_ARG(encoded));
    }
    out->origin = arena_concat(arena, scheme, out->host);
    return out->host.p && out->path.p && out->origin.p ? RC_OK : full(err);
}

static enum rc ask(struct source_sync *sync, struct str key, struct str query, size_t bytes_max,
                   struct fetch_answer *answer, struct err *err)
{
    struct arena *arena = &sync->scratch;
    struct target target = {0};
    struct s3_signature signature;
    struct http_header headers[3];
    size_t count = 0;
    enum rc rc = make_target(sync, key, &target, err);
    if (rc != RC_OK)
        return rc;
    if (sync->spec.access_key_id.n) {
        const struct s3_request request = {.method = STR("GET"),
                                           .host = target.host,
                                           .path = target.path,
                                           .query = query.p ? query : STR(""),
                                           .region = sync->spec.region,
                                           .access_key_id = sync->spec.access_key_id,
                                           .secret_access_key = sync->secret,
                                           .now_ns = clock_wall_ns()};
        if ((rc = s3_sign(&request, arena, &signature, err)) != RC_OK)
            return rc;
        headers[count++] = (struct http_header){STR("x-amz-date"), str_from(signature.date)};
        headers[count++] =
            (struct http_header){STR("x-amz-content-sha256"), str_from(signature.content_sha256)};
        headers[count++] = (struct http_header){STR("authorization"), signature.authorization};
    }
    struct str url = arena_printf(arena, "%.*s%.*s%s%.*s", STR_ARG(target.origin),
                                  STR_ARG(target.path), query.n ? "?" : "", STR_ARG(query));
    if (!url.p)
        return full(err);
    const struct fetch_request request = {.url = url,
                                          .headers = headers,
                                          .header_count = count,
                                          .bytes_max = bytes_max,
                                          .no_redirect = true};
    return source_fetch(sync, &request, answer, err);
}

/* What the service says when it refuses. */
static enum rc refused(struct source_sync *sync, struct fetch_answer *answer, struct err *err)
{
    struct str code, message;
    bucket_error_parse(buf_str(&answer->body), &sync->scratch, &code, &message);
    enum err_code kind = answer->status == 404 ? ERR_NOT_FOUND : ERR_UPSTREAM;
    enum rc rc = code.n ? err_set(err, kind, "the bucket answered with status %d, %.*s: %.*s",
                                  answer->status, (int)MIN(code.n, (size_t)80), code.p,
                                  (int)MIN(message.n, (size_t)200), message.p)
                        : err_set(err, kind, "the bucket answered with status %d", answer->status);
    buf_fini(&answer->body);
    return rc;
}

static enum rc list_page(struct source_sync *sync, struct str token, struct bucket_page *page,
                         struct err *err)
{
    struct arena *arena = &sync->scratch;
    struct fetch_answer answer;
    arena_reset(arena);
    struct str prefix = encode(sync->spec.prefix, false, arena), next = encode(token, false, arena);
    /* The names in the order in which they are signed. */
    struct str query = arena_printf(arena, "%s%.*s%slist-type=2&max-keys=1000&prefix=%.*s",
                                    token.n ? "continuation-token=" : "", STR_ARG(next),
                                    token.n ? "&" : "", STR_ARG(prefix));
    if (!query.p)
        return full(err);
    enum rc rc = ask(sync, STR_EMPTY, query, PAGE_BYTES_MAX, &answer, err);
    if (rc != RC_OK)
        return rc;
    if (answer.status != 200) {
        rc = refused(sync, &answer, err);
        return rc == RC_NOT_FOUND && err ? err->rc = RC_INVALID : rc; /* the bucket, not an item */
    }
    rc = bucket_page_parse(buf_str(&answer.body), &sync->arena, page, err);
    buf_fini(&answer.body);
    return rc;
}

static enum rc list_bucket(struct source_sync *sync, struct err *err)
{
    struct str token = STR_EMPTY;
    for (int pages = 0; pages < PAGES_MAX; pages++) {
        struct bucket_page page;
        enum rc rc = list_page(sync, token, &page, err);
        for (size_t i = 0; rc == RC_OK && i < page.count; i++) {
            const struct bucket_object *object = &page.objects[i];
            /* Names that end in a slash stand for folders. */
            bool folder = object->key.n == 0 || object->key.p[object->key.n - 1] == '/';
            if (!folder && source_wants(&sync->spec, object->key))
                rc = sync_visit(sync, object->key, object->etag, NULL, err);
        }
        if (rc != RC_OK || page.next.n == 0)
            return rc;
        token = page.next;
    }
    sync->truncated = true;
    return RC_OK;
}

static enum rc read_object(struct source_sync *sync, const struct source_item_row *item,
                           struct source_content *out, struct err *err)
{
    struct fetch_answer answer;
    enum rc rc = ask(sync, item->key, STR_EMPTY, SOURCE_FILE_BYTES_MAX, &answer, err);
    if (rc != RC_OK)
        return rc;
    if (answer.status != 200)
        return refused(sync, &answer, err);
    out->body = answer.body;
    /* Buckets give everything that has no better type this one; the name says more. */
    bool known = !str_eq_nocase(answer.content_type, STR("binary/octet-stream")) &&
                 !str_eq_nocase(answer.content_type, STR("application/octet-stream"));
    out->content_type = known ? answer.content_type : STR("");
    out->address = arena_printf(&sync->scratch, "s3://%.*s/%.*s", STR_ARG(sync->spec.bucket),
                                STR_ARG(item->key));
    return RC_OK;
}

const struct source_kind_calls SOURCE_CALLS_S3 = {.list = list_bucket, .read = read_object};
