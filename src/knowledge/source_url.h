/* Addresses of the web as a crawler needs them: references resolved against the page they stand on,
 * written in one form, so that the same page has one address. RFC 3986. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

/* `reference` as it stands in a page of address `base`, made absolute: dot segments removed, host
 * in lower case, the scheme's own port and the fragment dropped, spaces and bytes beyond ASCII
 * percent-encoded. RC_INVALID: not http or https, or no address at all; RC_LIMIT: longer than
 * `bytes_max` or no memory. No message. */
enum rc source_url_resolve(struct str base, struct str reference, size_t bytes_max,
                           struct arena *arena, struct str *out) MUST_CHECK;
/* Scheme, host and port: "https://example.org", "http://example.org:8080". */
struct str source_url_origin(struct str url);
/* Path and query, "/" at least. */
struct str source_url_path(struct str url);
