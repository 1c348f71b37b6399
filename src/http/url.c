/* Absolute URLs as a configuration or an environment variable holds them: RFC 3986's shape, with
 * what no upstream address needs (user information but for proxies, fragments) refused clearly. */
#include "http/message.h"
#include <stdio.h>

static bool port_parse(struct str s, uint16_t *port)
{
    uint64_t value;
    if (str_to_u64(s, &value) != RC_OK || value == 0 || value > UINT16_MAX)
        return false;
    *port = (uint16_t)value;
    return true;
}

/* Letters, digits and what names and IPv6 literals need; anything else could end up in a Host line.
 */
static bool host_valid(struct str host, bool bracketed)
{
    for (size_t i = 0; i < host.n; i++) {
        char c = host.p[i], lower = c | 0x20;
        bool plain = (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '.';
        bool extra = bracketed ? c == ':' || c == '%' : c == '-' || c == '_';
        if (!plain && !extra)
            return false;
    }
    return host.n > 0 && host.n <= 255;
}

static bool authority_parse(struct str authority, struct url *out)
{
    ssize_t at = str_rfind_char(authority, '@');
    if (at >= 0) {
        out->user = str_slice(authority, 0, (size_t)at);
        authority = str_slice(authority, (size_t)at + 1, authority.n);
    }
    if (authority.n > 0 && authority.p[0] == '[') {
        ssize_t close = str_find_char(authority, ']');
        if (close < 0)
            return false;
        out->host = str_slice(authority, 1, (size_t)close);
        authority = str_slice(authority, (size_t)close + 1, authority.n);
        if (!host_valid(out->host, true))
            return false;
    } else {
        ssize_t colon = str_find_char(authority, ':');
        size_t n = colon < 0 ? authority.n : (size_t)colon;
        out->host = str_slice(authority, 0, n);
        authority = str_slice(authority, n, authority.n);
        if (!host_valid(out->host, false))
            return false;
    }
    if (authority.n == 0)
        return true;
    return authority.p[0] == ':' && port_parse(str_slice(authority, 1, authority.n), &out->port);
}

enum rc url_parse(struct str s, struct url *out, struct err *err)
{
    *out = (struct url){.path = STR("/")};
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= 0x20 || (unsigned char)s.p[i] == 0x7f)
            return err_set(err, ERR_INVALID, "the address holds a space or control character");
    if (str_starts(s, STR("unix:"))) {
        out->scheme = str_slice(s, 0, 4);
        out->host = str_slice(s, 5, s.n);
        if (out->host.n < 2 || out->host.p[0] != '/')
            return err_set(err, ERR_INVALID, "\"%.*s\": write unix:/path/of/the.sock", STR_ARG(s));
        return RC_OK;
    }
    if (s.n >= 7 && str_eq_nocase(str_slice(s, 0, 7), STR("http://"))) {
        out->scheme = STR("http");
        out->port = 80;
    } else if (s.n >= 8 && str_eq_nocase(str_slice(s, 0, 8), STR("https://"))) {
        out->scheme = STR("https");
        out->port = 443;
    } else {
        return err_set(err, ERR_INVALID,
                       "\"%.*s\" does not start with http://, https:// or unix:", STR_ARG(s));
    }
    struct str rest = str_slice(s, out->scheme.n + 3, s.n);
    size_t end = 0;
    while (end < rest.n && rest.p[end] != '/' && rest.p[end] != '?' && rest.p[end] != '#')
        end++;
    if (!authority_parse(str_slice(rest, 0, end), out))
        return err_set(err, ERR_INVALID, "\"%.*s\": the host or the port is not valid", STR_ARG(s));
    if (end < rest.n && rest.p[end] == '/')
        out->path = str_slice(rest, end, rest.n);
    else if (end < rest.n)
        return err_set(err, ERR_INVALID, "\"%.*s\": a path must start with /", STR_ARG(s));
    if (str_find_char(out->path, '#') >= 0)
        return err_set(err, ERR_INVALID, "\"%.*s\": leave the #fragment away", STR_ARG(s));
    return RC_OK;
}

bool url_is_listed(const struct url *url, const struct str *globs, size_t count)
{
    char text[512];
    int n = snprintf(text, sizeof(text), "%.*s:%u", STR_ARG(url->host), url->port);
    struct str host = str_make(text, MIN((size_t)n, sizeof(text) - 1));
    for (size_t i = 0; i < count; i++)
        if (str_matches_glob(host, globs[i]))
            return true;
    return false;
}
