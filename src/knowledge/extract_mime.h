/* MIME's encodings. */
#pragma once
#include "knowledge/extract_reader.h"

/* A body by its Content-Transfer-Encoding; unknown ones stay as they are. Broken base64 gives what
 * could be decoded. */
enum rc mime_decode_body(struct reader *reader, struct str body, struct str encoding,
                         struct str *out) MUST_CHECK;
/* A header's value: unfolded, =?charset?q?…?= (RFC 2047) decoded, valid UTF-8. */
enum rc mime_decode_words(struct reader *reader, struct str value, struct str *out) MUST_CHECK;
/* A message within a message; *parts counts over all of them. */
enum rc read_message(struct reader *reader, struct str bytes, unsigned nesting,
                     unsigned *parts) MUST_CHECK;
