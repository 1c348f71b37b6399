/* CSRF tokens of console sessions: derived from the cookie's secret, so that nothing is stored. */
#include "govern/session.h"
#include "base/hash.h"

void session_csrf_token(struct str cookie, char out[SESSION_CSRF_BYTES])
{
    uint8_t mac[SHA256_BYTES];
    hash_hmac_sha256(cookie, STR("csrf"), mac);
    hex_encode(mac, (SESSION_CSRF_BYTES - 1) / 2, out);
}

bool session_csrf_matches(struct str cookie, struct str token)
{
    char expected[SESSION_CSRF_BYTES];
    session_csrf_token(cookie, expected);
    return str_eq_secret(str_make(expected, SESSION_CSRF_BYTES - 1), token);
}
