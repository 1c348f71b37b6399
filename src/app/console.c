/* See console.h. The page gets a fresh nonce in place of __CSP_NONCE__ and a policy that allows
 * nothing but what is embedded; assets carry a hash in their name and may be kept for ever. */
#include "app/console.h"
#include "api/problem.h"
#include "base/hash.h"
#include "base/rand.h"
#include "http/static.h"

#define NONCE_BYTES 16
#define NONCE_MARK  "__CSP_NONCE__"

/* Every occurrence of the mark in the page replaced; both have bounds of their own. */
static struct str fill_nonce(struct str page, struct str nonce, struct arena *arena)
{
    char *out = arena_alloc(arena, page.n + page.n / sizeof(NONCE_MARK) * nonce.n + 1);
    size_t n = 0;
    if (!out)
        return STR_EMPTY;
    ssize_t at;
    while ((at = str_find(page, STR(NONCE_MARK))) >= 0) {
        memcpy(out + n, page.p, (size_t)at);
        memcpy(out + n + at, nonce.p, nonce.n);
        n += (size_t)at + nonce.n;
        page = str_slice(page, (size_t)at + sizeof(NONCE_MARK) - 1, page.n);
    }
    memcpy(out + n, page.p, page.n);
    return str_make(out, n + page.n);
}

static void put_security_headers(struct http_request *request)
{
    http_respond_header(request, STR("x-content-type-options"), STR("nosniff"));
    http_respond_header(request, STR("referrer-policy"), STR("no-referrer"));
    http_respond_header(request, STR("cross-origin-opener-policy"), STR("same-origin"));
}

static void respond_page(struct http_request *request, const struct static_file *file)
{
    uint8_t secret[NONCE_BYTES];
    char nonce[2 * NONCE_BYTES + 1];
    rand_secret(secret, sizeof(secret));
    hex_encode(secret, sizeof(secret), nonce);
    struct str page = static_unpack(file, request->arena);
    page = fill_nonce(page, str_from(nonce), request->arena);
    struct str policy = arena_printf(request->arena,
                                     "default-src 'none'; script-src 'self' 'nonce-%s'; style-src "
                                     "'self' 'nonce-%s'; img-src 'self' data: blob:;"
                                     " font-src 'self'; connect-src 'self'; base-uri 'none'; "
                                     "form-action 'self'; frame-ancestors 'none'",
                                     nonce, nonce);
    if (!page.p || !policy.p) {
        struct err err = {0};
        err_set(&err, ERR_OVERLOADED, "no memory for this page");
        api_respond_problem(request, &err);
        return;
    }
    put_security_headers(request);
    http_respond_header(request, STR("content-security-policy"), policy);
    http_respond_header(request, STR("cache-control"), STR("no-store"));
    http_respond(request, 200, file->content_type, page);
}

static void respond_asset(struct http_request *request, const struct static_file *file)
{
    put_security_headers(request);
    http_respond_header(request, STR("etag"), file->etag);
    http_respond_header(request, STR("vary"), STR("accept-encoding"));
    http_respond_header(request, STR("cache-control"),
                        file->immutable ? STR("public, max-age=31536000, immutable")
                                        : STR("no-cache"));
    if (str_eq(http_header_get(&request->headers, STR("if-none-match")), file->etag)) {
        http_respond(request, 304, STR_EMPTY, STR_EMPTY);
        return;
    }
    if (str_find(http_header_get(&request->headers, STR("accept-encoding")), STR("br")) >= 0) {
        http_respond_header(request, STR("content-encoding"), STR("br"));
        http_respond(request, 200, file->content_type, file->brotli);
        return;
    }
    http_respond(request, 200, file->content_type, static_unpack(file, request->arena));
}

bool console_handle(struct http_request *request)
{
    if (!str_eq(request->method, STR("GET")) && !str_eq(request->method, STR("HEAD")))
        return false;
    const struct static_file *file = static_find(request->path);
    const struct static_file *page = static_find(STR("/index.html"));
    if (file && file != page)
        respond_asset(request, file);
    else if (str_starts(request->path, STR("/assets/")) || !page)
        return false;
    else
        respond_page(request, page);
    return true;
}
