/* Zip archives for readers: the list at the end, and single files inflated within bounds. Nothing
 * is ever written to disk, so names are only names; those that climb ("../x") are left out. */
#pragma once
#include "knowledge/extract_reader.h"

struct zip_entry {
    struct str name;
    uint32_t packed_bytes, bytes, crc;
    uint32_t at; /* of its local header */
    uint16_t method;
};

struct zip {
    struct reader *reader;
    struct str bytes;
    struct zip_entry *entries;
    size_t count;
    uint64_t inflated_bytes; /* all so far: bounded */
};

/* ERR_INVALID: broken or encrypted; ERR_TOO_LARGE: too many entries. */
enum rc zip_open(struct reader *reader, struct str bytes, struct zip *zip) MUST_CHECK;
/* The first entry of that name; NULL: there is none. */
const struct zip_entry *zip_find(const struct zip *zip, struct str name);
/* Arena memory. ERR_TOO_LARGE: more than it says, more than allowed, or a bomb's ratio. */
enum rc zip_inflate(struct zip *zip, const struct zip_entry *entry, struct str *out) MUST_CHECK;
/* Both; an absent file gives RC_OK and an empty text. */
enum rc zip_read(struct zip *zip, struct str name, struct str *out) MUST_CHECK;
