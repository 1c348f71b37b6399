/* Who asks: a key or a console session becomes a principal, from the snapshot alone. See api.h. */
#include "api/api.h"
#include "base/clock.h"
#include "base/hash.h"
#include "gateway/seen.h"
#include "govern/session.h"

#define BASIC_BYTES_MAX 1024

/* Langfuse's clients send "Basic base64(public id:secret)". The public id is checked below. */
static struct str basic_secret(const struct http_request *request, struct str encoded,
                               struct str *public_id)
{
    char *text = encoded.n < BASIC_BYTES_MAX ? arena_alloc(request->arena, encoded.n + 1) : NULL;
    ssize_t n = text ? base64_decode(str_trim(encoded), text, encoded.n) : -1;
    struct str both = str_make(text, n > 0 ? (size_t)n : 0);
    ssize_t colon = str_find_char(both, ':');
    if (colon <= 0)
        return STR_EMPTY;
    *public_id = str_slice(both, 0, (size_t)colon);
    return str_slice(both, (size_t)colon + 1, both.n);
}

/* The secret of the request's key: Authorization: Bearer or Basic, Vext's Apikey: Api-Key,
 * else Anthropic's x-api-key. */
static struct str request_secret(const struct http_request *request, struct str *public_id)
{
    struct str authorization = http_header_get(&request->headers, STR("authorization"));
    if (authorization.n > 6 && str_eq_nocase(str_slice(authorization, 0, 6), STR("basic ")))
        return basic_secret(request, str_slice(authorization, 6, authorization.n), public_id);
    if (authorization.n > 7 && str_eq_nocase(str_slice(authorization, 0, 7), STR("bearer ")))
        return str_trim(str_slice(authorization, 7, authorization.n));
    struct str vext = http_header_get(&request->headers, STR("apikey"));
    if (vext.n > 8 && str_eq_nocase(str_slice(vext, 0, 8), STR("api-key ")))
        return str_trim(str_slice(vext, 8, vext.n));
    return http_header_get(&request->headers, STR("x-api-key"));
}

struct str api_request_cookie(const struct http_request *request, struct str name)
{
    struct str rest = http_header_get(&request->headers, STR("cookie"));
    struct str part;
    while (str_split(&rest, ';', &part)) {
        part = str_trim(part);
        if (part.n > name.n && part.p[name.n] == '=' && str_starts(part, name))
            return str_slice(part, name.n + 1, part.n);
    }
    return STR_EMPTY;
}

static bool method_is_safe(struct str method)
{
    return str_eq(method, STR("GET")) || str_eq(method, STR("HEAD")) ||
           str_eq(method, STR("OPTIONS"));
}

static bool is_public_id(struct str public_id, const struct key *key)
{
    char text[ID_TEXT_BYTES_MAX];
    return str_eq(public_id, str_make(text, id_format(key->id, "pk", text)));
}

static enum rc authenticate_key(const struct http_request *request, const struct snapshot *snapshot,
                                struct str secret, struct str public_id, struct principal *out,
                                struct key **key, struct err *err)
{
    struct key *found = snapshot_find_key(snapshot, secret);
    if (found && public_id.n && !is_public_id(public_id, found))
        return err_set(err, ERR_UNAUTHENTICATED,
                       "the public id does not belong to this secret: the key's page shows it");
    if (!found || found->revoked)
        return err_set(
            err, ERR_UNAUTHENTICATED,
            "the key is not known here or was revoked; make one under Keys in the console");
    if (found->expires_wall_ns && found->expires_wall_ns <= loop_wall_ns(request->loop))
        return err_set(err, ERR_KEY_EXPIRED, "the key '%.*s' has expired; make a new one",
                       STR_ARG(found->name));
    seen_key_used(found->slot, loop_wall_ns(request->loop));
    *out = found->principal;
    *key = found;
    return RC_OK;
}

enum rc api_authenticate(const struct http_request *request, const struct snapshot *snapshot,
                         struct principal *out, struct key **key, struct err *err)
{
    *key = NULL;
    struct str public_id = STR_EMPTY, secret = request_secret(request, &public_id);
    if (secret.n)
        return authenticate_key(request, snapshot, secret, public_id, out, key, err);
    struct str cookie = api_request_cookie(request, STR(SESSION_COOKIE_NAME));
    if (!cookie.n)
        return err_set(err, ERR_UNAUTHENTICATED,
                       "no key: send it as 'Authorization: Bearer KEY' (or x-api-key), or sign in");
    const struct principal *found =
        snapshot_find_session(snapshot, cookie, loop_wall_ns(request->loop));
    if (!found)
        return err_set(err, ERR_UNAUTHENTICATED, "the session has ended; sign in again");
    struct str token = http_header_get(&request->headers, STR("x-csrf-token"));
    if (!method_is_safe(request->method) && !session_csrf_matches(cookie, token))
        return err_set(err, ERR_CSRF,
                       "the header X-CSRF-Token must carry the 'csrf' value of GET /api/session");
    *out = *found;
    return RC_OK;
}
