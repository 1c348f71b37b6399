/* Console sessions as every request meets them: the cookie's name and the CSRF token. */
#pragma once
#include "base/str.h"

#define SESSION_COOKIE_NAME "capstan_session"
#define SESSION_CSRF_BYTES  33 /* 32 hex digits and a NUL */

/* The token that unsafe requests by this cookie must carry: HMAC-SHA256(cookie, "csrf"), cut. */
void session_csrf_token(struct str cookie, char out[SESSION_CSRF_BYTES]);
bool session_csrf_matches(struct str cookie, struct str token); /* constant time */
