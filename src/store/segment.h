/* Immutable files of named sections, and the manifest that says which of them exist.
 *
 * A segment has a versioned header, sections aligned to 64 bytes, each with its own checksum, and a
 * table of them at the end. It is written to `NAME.tmp`, synced, renamed: a segment is whole or not
 * there. Readers map it; a section's checksum is verified when the section is first asked for.
 * What may change about a segment later (rows deleted) is a small file of its own, never the
 * segment.
 *
 * A manifest is one small file that is replaced atomically: the root from which everything else is
 * found. Files that it does not name are leftovers and may be removed. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "io/file.h"

#define SEGMENT_VERSION      1
#define SEGMENT_SECTIONS_MAX 256
#define SEGMENT_ALIGN_BYTES  64
#define SEGMENT_KIND(a, b, c, d)                                                                   \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

/* ---- writing: one thread ---- */
struct segment_writer;

/* `version` is the version of what the owner puts into the sections (its own number space). */
enum rc segment_create(struct file_system *fs, const char *path, uint32_t kind, uint32_t version,
                       struct segment_writer **out, struct err *err) MUST_CHECK;
/* Sections are written one after the other; each (tag, index) once. */
void segment_begin(struct segment_writer *writer, uint32_t tag, uint32_t index);
enum rc segment_write(struct segment_writer *writer, const void *p, size_t n) MUST_CHECK;
/* Bytes of the current section so far. */
uint64_t segment_section_bytes(const struct segment_writer *writer);
/* Syncs, renames to its name, syncs the directory; frees the writer in any case. */
enum rc segment_seal(struct segment_writer *writer, int64_t *bytes) MUST_CHECK;
void segment_abandon(struct segment_writer *writer);

/* ---- reading: any thread ---- */
struct segment;

/* RC_CORRUPT; RC_INVALID: another kind, or newer than `version` (named in err). */
enum rc segment_open(struct file_system *fs, const char *path, uint32_t kind, uint32_t version,
                     struct segment **out, struct err *err) MUST_CHECK;
/* The same over bytes that the caller keeps: for fuzzing. */
enum rc segment_open_bytes(struct str bytes, uint32_t kind, uint32_t version, struct segment **out,
                           struct err *err) MUST_CHECK;
void segment_close(struct segment *segment);
/* RC_NOT_FOUND; RC_CORRUPT: its checksum is wrong. The bytes stay mapped until segment_close. */
enum rc segment_section(const struct segment *segment, uint32_t tag, uint32_t index,
                        struct str *out) MUST_CHECK;
/* Without verifying: for sections whose parts carry checksums of their own. */
enum rc segment_section_raw(const struct segment *segment, uint32_t tag, uint32_t index,
                            struct str *out) MUST_CHECK;
uint32_t segment_content_version(const struct segment *segment);
int64_t segment_bytes(const struct segment *segment);

/* ---- manifest ---- */

/* Replaces `directory`/`name` by the content: after RC_OK the new one is there, after a failure or
 * a crash the old or the new one, whole. */
enum rc manifest_store(struct file_system *fs, const char *directory, const char *name,
                       uint32_t kind, uint32_t version, struct str content,
                       struct err *err) MUST_CHECK;
/* Appends the content to `out`. RC_NOT_FOUND, RC_CORRUPT, RC_INVALID as segment_open. */
enum rc manifest_load(struct file_system *fs, const char *directory, const char *name,
                      uint32_t kind, uint32_t version, struct buf *out, struct err *err) MUST_CHECK;
