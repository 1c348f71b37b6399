/* Content codings of answers: which one a client takes, and a whole body in it. */
#pragma once
#include "base/arena.h"

enum http_coding { HTTP_CODING_IDENTITY, HTTP_CODING_GZIP, HTTP_CODING_BROTLI };

/* What to use by an Accept-Encoding header (RFC 9110, section 12.5.3): brotli before gzip where
 * both are as welcome, identity without the header. Nothing else is ever chosen. */
enum http_coding http_accepted_coding(struct str accept_encoding);
/* "br", "gzip"; empty for identity. */
struct str http_coding_name(enum http_coding coding);
/* The body in that coding, in the arena. .p NULL: no memory, or it would not become smaller. Takes
 * some 10 ms a megabyte: not for loops. */
struct str http_encode(enum http_coding coding, struct str body, struct arena *arena) MUST_CHECK;
