/* The bytes of an event stream, packed. The events of a model's answer differ from one another in a
 * few bytes of some hundred: each is kept as how much it has in common with the one before, at its
 * beginning and at its end, and what stands between. Costs some 30 ns an event, and saves ten times
 * that in writing, checking and compressing the record, besides the memory of an open stream.
 *
 * Packed: for each event [bytes of the beginning varint][bytes of the end varint][bytes between
 * varint][bytes between]. An event is what ends with an empty line, or with the piece it came in;
 * behind one of more than STREAM_PACK_EVENT_BYTES_MAX the next has nothing in common. */
#pragma once
#include "base/buf.h"

#define STREAM_PACK_EVENT_BYTES_MAX 4096

struct stream_pack {
    struct buf out;
    struct buf last; /* the event before; empty: none to compare with */
    size_t bytes;    /* of the stream, so far */
};

/* Takes no memory yet. RC_LIMIT from then on where `packed_bytes_max` would be passed. */
void stream_pack_init(struct stream_pack *pack, size_t packed_bytes_max);
void stream_pack_fini(struct stream_pack *pack);
/* Any pieces; best are whole events. After a failure the piece is missing, partly. */
enum rc stream_pack_add(struct stream_pack *pack, struct str piece) MUST_CHECK;

/* How many bytes it unpacks to; RC_CORRUPT: not packed bytes, or more than `bytes_max`. */
enum rc stream_unpacked_bytes(struct str packed, size_t bytes_max, size_t *bytes) MUST_CHECK;
/* Writes exactly these bytes, of packed bytes that stream_unpacked_bytes has taken. */
void stream_unpack(struct str packed, char *out);
