/* Headers, status lines, percent-encoding: what both sides and both versions of HTTP share. Nothing
 * here keeps state; any thread. */
#include "http/message.h"
#include "base/limits.h"

struct str http_header_get(const struct http_headers *headers, struct str name)
{
    if (headers->names && !(headers->names & http_name_bit(name)))
        return STR_EMPTY;
    for (size_t i = 0; i < headers->count; i++)
        if (headers->items[i].name.n == name.n && str_eq_nocase(headers->items[i].name, name))
            return headers->items[i].value;
    return STR_EMPTY;
}

/* RFC 9110, section 5.6.2. */
static const bool token_byte[256] = {
    ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['!'] = true,  ['#'] = true,
    ['$'] = true,         ['%'] = true,         ['&'] = true,         ['\''] = true, ['*'] = true,
    ['+'] = true,         ['-'] = true,         ['.'] = true,         ['^'] = true,  ['_'] = true,
    ['`'] = true,         ['|'] = true,         ['~'] = true,
};

bool http_is_token(struct str s)
{
    bool all = s.n > 0;
    for (size_t i = 0; i < s.n; i++)
        all &= token_byte[(unsigned char)s.p[i]];
    return all;
}

/* Of eight bytes: is any a control character? */
static bool any_control(const char *p)
{
    const uint64_t ones = 0x0101010101010101ull, high = 0x8080808080808080ull;
    uint64_t word;
    memcpy(&word, p, 8);
    uint64_t deleted = word ^ 0x7f * ones;
    return ((((word - 0x20 * ones) & ~word) | ((deleted - ones) & ~deleted)) & high) != 0;
}

/* Eight bytes at a time, the last ones twice: every header that is sent goes through here. */
bool http_is_field_value(struct str s)
{
    size_t i = 0;
    if (LIKELY(s.n >= 8)) {
        for (; i + 8 <= s.n && !any_control(s.p + i); i += 8)
            ;
        if (i + 8 > s.n && !any_control(s.p + s.n - 8))
            return true;
    }
    for (; i < s.n; i++) /* a short one; or a tab, or worse: look closely */
        if (((unsigned char)s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] == 0x7f)
            return false;
    return true;
}

enum rc http_header_add(struct http_headers *headers, struct arena *arena, struct str name,
                        struct str value)
{
    if (!http_is_token(name) || !http_is_field_value(value))
        return RC_INVALID;
    if (headers->count == headers->capacity) {
        size_t capacity = headers->capacity ? headers->capacity * 2 : 8;
        if (headers->count >= LIMIT_HEADER_COUNT)
            return RC_LIMIT;
        struct http_header *items = arena_alloc(arena, capacity * sizeof(*items));
        if (!items)
            return RC_LIMIT;
        if (headers->count > 0)
            memcpy(items, headers->items, headers->count * sizeof(*items));
        headers->items = items;
        headers->capacity = capacity;
    }
    if (headers->count == 0 || headers->names)
        headers->names |= http_name_bit(name);
    headers->items[headers->count++] = (struct http_header){.name = name, .value = value};
    return RC_OK;
}

bool http_list_has(struct str list, struct str token)
{
    struct str part;
    while (str_split(&list, ',', &part)) {
        ssize_t parameters = str_find_char(part, ';');
        if (parameters >= 0)
            part.n = (size_t)parameters;
        if (str_eq_nocase(str_trim(part), token))
            return true;
    }
    return false;
}

const char *http_status_text(int status)
{
    switch (status) {
    case 100: return "Continue";
    case 101: return "Switching Protocols";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 402: return "Payment Required";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 416: return "Range Not Satisfiable";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 424: return "Failed Dependency";
    case 425: return "Too Early";
    case 426: return "Upgrade Required";
    case 428: return "Precondition Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 451: return "Unavailable For Legal Reasons";
    case 499: return "Client Closed Request";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 507: return "Insufficient Storage";
    case 529: return "Site Overloaded";
    }
    return status < 200   ? "Informational"
           : status < 300 ? "Success"
           : status < 400 ? "Redirect"
                          : "Error";
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct str http_percent_decode(struct str s, bool plus_is_space, struct arena *arena)
{
    char *out = arena_alloc(arena, s.n + 1);
    if (!out)
        return STR_EMPTY;
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%') {
            int high = s.n - i > 2 ? hex_digit(s.p[i + 1]) : -1;
            int low = s.n - i > 2 ? hex_digit(s.p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return STR_EMPTY;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        out[n++] = c;
    }
    out[n] = 0;
    return str_make(out, n);
}

struct str http_percent_encode(struct str s, struct arena *arena)
{
    static const char digits[] = "0123456789ABCDEF";
    char *out = arena_alloc(arena, 3 * s.n + 1);
    if (!out)
        return STR_EMPTY;
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        char lower = (char)(c | 0x20);
        if ((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
            c == '_' || c == '~') {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = digits[c >> 4];
            out[n++] = digits[c & 15];
        }
    }
    out[n] = 0;
    return str_make(out, n);
}

struct str http_query_get(struct str query, struct str name, struct arena *arena)
{
    struct str pair;
    while (str_split(&query, '&', &pair)) {
        ssize_t equals = str_find_char(pair, '=');
        struct str key = equals < 0 ? pair : str_make(pair.p, (size_t)equals);
        struct str value =
            equals < 0 ? str_make(pair.p + pair.n, 0) : str_slice(pair, (size_t)equals + 1, pair.n);
        if (str_find_char(key, '%') >= 0 || str_find_char(key, '+') >= 0)
            key = http_percent_decode(key, true, arena);
        if (key.p && str_eq(key, name))
            return http_percent_decode(value, true, arena);
    }
    return STR_EMPTY;
}
