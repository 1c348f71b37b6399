/* Content-addressed files: what is put in is found again by its SHA-256. Placing is atomic: a blob
 * is whole and durable under its name, or not there. Blocking: workers and writer threads; any
 * number of them at once. */
#pragma once
#include "base/err.h"
#include "base/hash.h"
#include "io/file.h"

struct blob_store;
struct blob_writer;

struct blob_id {
    uint8_t sha256[SHA256_BYTES];
};

/* Makes the directory when missing and removes what unfinished writers of an earlier process left.
 */
enum rc blob_store_open(struct file_system *fs, const char *directory, struct blob_store **out,
                        struct err *err) MUST_CHECK;
void blob_store_close(struct blob_store *store);

/* For large contents: write the parts, then finish. `bytes_max` bounds the whole (RC_LIMIT). */
enum rc blob_begin(struct blob_store *store, int64_t bytes_max, struct blob_writer **out,
                   struct err *err) MUST_CHECK;
enum rc blob_write(struct blob_writer *writer, const void *p, size_t n) MUST_CHECK;
/* Durable on RC_OK; frees the writer in any case. The same content twice is stored once. `expected`
 * may be NULL; RC_CORRUPT when the content is another. */
enum rc blob_finish(struct blob_writer *writer, const struct blob_id *expected,
                    struct blob_id *id) MUST_CHECK;
void blob_abandon(struct blob_writer *writer);

enum rc blob_put(struct blob_store *store, struct str content, struct blob_id *id) MUST_CHECK;
/* RC_NOT_FOUND; the caller closes the file. */
enum rc blob_get(struct blob_store *store, const struct blob_id *id, struct file **out) MUST_CHECK;
/* Where it lies, for children that read it; there or not. */
#define BLOB_PATH_BYTES_MAX 4096
void blob_locate(const struct blob_store *store, const struct blob_id *id,
                 char out[BLOB_PATH_BYTES_MAX]);
/* Reads it all and compares its hash: RC_CORRUPT. */
enum rc blob_verify(struct blob_store *store, const struct blob_id *id) MUST_CHECK;
/* RC_NOT_FOUND when it was not there. */
enum rc blob_remove(struct blob_store *store, const struct blob_id *id) MUST_CHECK;
