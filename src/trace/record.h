/* A call record as bytes: what the loop encodes once, the log holds, segments compress and an
 * upgrade hands over. A fixed head, then fields [number u8][length varint][bytes]; unknown fields
 * are skipped. */
#pragma once
#include "base/limits.h"
#include "trace/call.h"

/* Types of records in the trace log. */
enum record_type {
    RECORD_CALL = 1,  /* a call, with what its capture allows */
    RECORD_SPEND = 2, /* a call whose capture is `none`: only what it cost, and whom */
    RECORD_ERASE = 3, /* calls to forget: struct record_erase */
};

#define RECORD_VERSION   1
#define RECORD_BYTES_MAX (4u * 1024 * 1024)

enum record_type record_type_of(const struct call_record *record);
/* An upper bound of what record_encode writes. */
size_t record_encode_bytes_max(const struct call_record *record);
/* Returns the bytes written. Leaves out what record->capture does not allow. */
size_t record_encode(const struct call_record *record, char *out);
/* The texts point into `bytes`; record->tags points to `tags`, record->attempts to `attempts`
 * (NULL: attempts are skipped). RC_CORRUPT: not a record; RC_INVALID: of a newer version. */
enum rc record_decode(struct str bytes, struct call_record *record,
                      struct call_tag tags[LIMIT_TAGS], struct call_attempt *attempts) MUST_CHECK;

/* What RECORD_ERASE says: calls of the project that ended before the record. */
struct record_erase {
    struct id project;
    struct id call;  /* zero: by user */
    struct str user; /* empty: by call */
};
#define RECORD_ERASE_BYTES_MAX (32 + 1024)

size_t record_erase_encode(const struct record_erase *erase, char out[RECORD_ERASE_BYTES_MAX]);
enum rc record_erase_decode(struct str bytes, struct record_erase *erase) MUST_CHECK;
