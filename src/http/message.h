/* What HTTP/1 and HTTP/2, server and client share: methods, headers, targets. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

struct http_header {
    struct str name; /* as received; compare without case */
    struct str value;
};

struct http_headers {
    struct http_header *items;
    size_t count, capacity;
    uint64_t names; /* a bit for each name there is (http_name_bit), so that most look-ups end at
                       once; 0: not known */
};

/* The same bit for the same name, however it is spelled. */
static inline uint64_t http_name_bit(struct str name)
{
    unsigned last = name.n ? (unsigned char)name.p[name.n - 1] | 0x20u : 0;
    return 1ull << ((last * 5 + name.n * 3) & 63);
}

/* First value of the name, or .p NULL. */
struct str http_header_get(const struct http_headers *headers, struct str name);
/* Appends; RC_LIMIT past LIMIT_HEADER_COUNT or the arena's cap. Texts are not copied. RC_INVALID
 * for CR, LF or NUL in them. */
enum rc http_header_add(struct http_headers *headers, struct arena *arena, struct str name,
                        struct str value) MUST_CHECK;
const char *http_status_text(int status);
bool http_is_token(struct str s);       /* RFC 9110, section 5.6.2: methods, header names */
bool http_is_field_value(struct str s); /* no control characters but tab */
/* Is the token an element of a comma-separated header value? Parameters (";q=1") are left aside. */
bool http_list_has(struct str list, struct str token);

/* An absolute URL, cut up (no copies). */
struct url {
    struct str scheme; /* "http", "https", "unix" */
    struct str user;   /* "name:password", percent-encoded, or empty: proxies only */
    struct str host;   /* without brackets; the path of a Unix socket */
    uint16_t port;     /* filled from the scheme where absent */
    struct str path;   /* path and query, "/" at least */
};
enum rc url_parse(struct str s, struct url *out, struct err *err) MUST_CHECK;
/* Whether one of these globs matches its HOST:PORT. */
bool url_is_listed(const struct url *url, const struct str *globs, size_t count);

/* Query and form values: percent-decoded copy in the arena; .p NULL when absent. */
struct str http_query_get(struct str query, struct str name, struct arena *arena);
struct str http_percent_decode(struct str s, bool plus_is_space, struct arena *arena);
struct str http_percent_encode(struct str s, struct arena *arena);
