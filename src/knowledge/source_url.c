/* See source_url.h. Works on texts that url_parse has taken apart; the result is always parsed once
 * more before anybody uses it. */
#include "knowledge/source_url.h"
#include "base/buf.h"
#include "http/message.h"
#include <ctype.h>

static bool has_scheme(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == ':')
            return i > 0;
        if (!isalnum((unsigned char)c) && c != '+' && c != '-' && c != '.')
            return false;
    }
    return false;
}

/* Drops "." and ".." (RFC 3986, 5.2.4); `path` begins with a slash and has no query. */
static enum rc put_path(struct buf *out, struct str path)
{
    size_t root = out->end;
    enum rc rc = RC_OK;
    struct str rest = str_slice(path, 1, path.n);
    while (rc == RC_OK) {
        ssize_t slash = str_find_char(rest, '/');
        struct str part = slash < 0 ? rest : str_slice(rest, 0, (size_t)slash);
        bool last = slash < 0;
        if (str_eq(part, STR(".."))) {
            while (out->end > root && out->p[--out->end] != '/')
                ;
            if (last)
                rc = buf_append_char(out, '/');
        } else if (str_eq(part, STR("."))) {
            if (last)
                rc = buf_append_char(out, '/');
        } else {
            rc = buf_append_char(out, '/');
            if (rc == RC_OK)
                rc = buf_append(out, part);
        }
        if (last)
            return rc;
        rest = str_slice(rest, (size_t)slash + 1, rest.n);
    }
    return rc;
}

/* What may not stand in an address is percent-encoded; control characters were dropped before. */
static enum rc put_encoded(struct buf *out, struct str s)
{
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool plain = c > ' ' && c < 0x7f && !strchr("\"<>\\^`{|}", c);
        rc = plain ? buf_append_char(out, (char)c) : buf_printf(out, "%%%02X", c);
    }
    return rc;
}

static enum rc put_authority(struct buf *out, const struct url *url)
{
    bool https = str_eq_nocase(url->scheme, STR("https"));
    bool v6 = str_find_char(url->host, ':') >= 0;
    enum rc rc = buf_printf(out, "%s://%s", https ? "https" : "http", v6 ? "[" : "");
    for (size_t i = 0; rc == RC_OK && i < url->host.n; i++)
        rc = buf_append_char(out, (char)tolower((unsigned char)url->host.p[i]));
    if (rc == RC_OK && v6)
        rc = buf_append_char(out, ']');
    if (rc == RC_OK && url->port != (https ? 443 : 80))
        rc = buf_printf(out, ":%u", url->port);
    return rc;
}

/* `target` is the path and query of the result, with whatever dots. */
static enum rc put_target(struct buf *out, struct str target)
{
    struct buf path;
    ssize_t query = str_find_char(target, '?');
    struct str before = query < 0 ? target : str_slice(target, 0, (size_t)query);
    buf_init(&path, out->bytes_max);
    enum rc rc = put_path(&path, before);
    if (rc == RC_OK)
        rc = put_encoded(out, buf_len(&path) ? buf_str(&path) : STR("/"));
    buf_fini(&path);
    return rc == RC_OK && query >= 0 ? put_encoded(out, str_slice(target, (size_t)query, target.n))
                                     : rc;
}

/* Tabs and line feeds inside a reference mean nothing (WHATWG), a space is %20; the fragment is not
 * sent. */
static struct str clean_reference(struct str reference, struct arena *arena)
{
    struct str trimmed = str_trim(reference);
    ssize_t fragment = str_find_char(trimmed, '#');
    if (fragment >= 0)
        trimmed = str_slice(trimmed, 0, (size_t)fragment);
    char *p = arena_alloc(arena, 3 * trimmed.n + 1);
    size_t n = 0;
    for (size_t i = 0; p && i < trimmed.n; i++) {
        unsigned char c = (unsigned char)trimmed.p[i];
        if (c == ' ') {
            memcpy(p + n, "%20", 3);
            n += 3;
        } else if (c > ' ' && c != 0x7f) {
            p[n++] = (char)c;
        }
    }
    return p ? str_make(p, n) : STR_EMPTY;
}

static enum rc join(const struct url *base, struct str reference, struct buf *out)
{
    enum rc rc = put_authority(out, base);
    if (rc != RC_OK)
        return rc;
    if (reference.n && reference.p[0] == '/')
        return put_target(out, reference);
    ssize_t query = str_find_char(base->path, '?');
    struct str path = query < 0 ? base->path : str_slice(base->path, 0, (size_t)query);
    struct buf target;
    buf_init(&target, out->bytes_max);
    if (reference.n == 0)
        rc = buf_append(&target, base->path);
    else if (reference.p[0] == '?')
        rc = buf_append(&target, path);
    else
        rc = buf_append(&target, str_slice(path, 0, (size_t)(str_rfind_char(path, '/') + 1)));
    if (rc == RC_OK)
        rc = buf_append(&target, reference);
    if (rc == RC_OK)
        rc = put_target(out, buf_str(&target));
    buf_fini(&target);
    return rc;
}

enum rc source_url_resolve(struct str base, struct str reference, size_t bytes_max,
                           struct arena *arena, struct str *out)
{
    struct url url;
    struct buf made;
    if (reference.n > bytes_max)
        return RC_LIMIT;
    struct str cleaned = clean_reference(reference, arena);
    if (!cleaned.p)
        return RC_LIMIT;
    buf_init(&made, bytes_max);
    enum rc rc = RC_OK;
    if (has_scheme(cleaned)) {
        rc = url_parse(cleaned, &url, NULL);
        if (rc == RC_OK && str_eq(url.scheme, STR("unix")))
            rc = RC_INVALID;
        if (rc == RC_OK)
            rc = put_authority(&made, &url);
        if (rc == RC_OK)
            rc = put_target(&made, url.path);
    } else if (str_starts(cleaned, STR("//"))) {
        struct str scheme = str_starts(base, STR("https:")) ? STR("https:") : STR("http:");
        struct str whole = arena_concat(arena, scheme, cleaned);
        rc = whole.p ? url_parse(whole, &url, NULL) : RC_LIMIT;
        if (rc == RC_OK)
            rc = put_authority(&made, &url);
        if (rc == RC_OK)
            rc = put_target(&made, url.path);
    } else {
        rc = url_parse(base, &url, NULL);
        if (rc == RC_OK)
            rc = join(&url, cleaned, &made);
    }
    if (rc == RC_OK) {
        *out = arena_copy(arena, buf_str(&made));
        rc = !out->p ? RC_LIMIT : url_parse(*out, &url, NULL);
    }
    buf_fini(&made);
    return rc;
}

struct str source_url_origin(struct str url)
{
    struct url parts;
    if (url_parse(url, &parts, NULL) != RC_OK)
        return STR_EMPTY;
    /* Without a path or query in the text there is nothing to cut. */
    ssize_t start = str_find(url, STR("://"));
    size_t i = (size_t)start + 3;
    while (i < url.n && url.p[i] != '/' && url.p[i] != '?')
        i++;
    return str_slice(url, 0, i);
}

struct str source_url_path(struct str url)
{
    struct str origin = source_url_origin(url);
    struct str rest = str_slice(url, origin.n, url.n);
    return rest.n && rest.p[0] == '/' ? rest : STR("/");
}
