/* Content-addressed directory: `ab/abcdef….blob` after the hash, `tmp-N` while being written. A
 * blob is written under a temporary name, synced, renamed, and both directories are synced, in this
 * order. */
#include "store/blob.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define PATH_BYTES_MAX BLOB_PATH_BYTES_MAX
#define READ_BYTES     (256 * 1024)

struct blob_store {
    struct file_system *fs;
    char *directory;
    atomic_uint_fast64_t temporary_next;
};

struct blob_writer {
    struct blob_store *store;
    struct file *file;
    char path[PATH_BYTES_MAX];
    int64_t bytes, bytes_max;
    struct sha256 *hash;
};

static void blob_directory(const struct blob_store *store, const struct blob_id *id,
                           char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/%02x", store->directory, id->sha256[0]);
}

static void blob_path(const struct blob_store *store, const struct blob_id *id,
                      char out[PATH_BYTES_MAX])
{
    char hex[SHA256_HEX_BYTES];
    hex_encode(id->sha256, sizeof(id->sha256), hex);
    snprintf(out, PATH_BYTES_MAX, "%s/%.2s/%s.blob", store->directory, hex, hex);
}

void blob_locate(const struct blob_store *store, const struct blob_id *id,
                 char out[BLOB_PATH_BYTES_MAX])
{
    blob_path(store, id, out);
}

static enum rc remove_temporary(void *arg, const char *name)
{
    struct blob_store *store = arg;
    if (strncmp(name, "tmp-", 4) != 0)
        return RC_OK;
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof(path), "%s/%s", store->directory, name);
    return file_remove(store->fs, path);
}

enum rc blob_store_open(struct file_system *fs, const char *directory, struct blob_store **out,
                        struct err *err)
{
    struct blob_store *store = xcalloc(1, sizeof(*store));
    store->fs = fs;
    store->directory = xstrdup(directory);
    enum rc rc = file_make_directory(fs, directory);
    if (rc == RC_OK)
        rc = file_list(fs, directory, remove_temporary, store);
    if (rc != RC_OK) {
        err_set(err, ERR_INTERNAL, "%s: %s", directory, rc_name(rc));
        blob_store_close(store);
        return rc;
    }
    *out = store;
    return RC_OK;
}

void blob_store_close(struct blob_store *store)
{
    if (!store)
        return;
    free(store->directory);
    free(store);
}

enum rc blob_begin(struct blob_store *store, int64_t bytes_max, struct blob_writer **out,
                   struct err *err)
{
    struct blob_writer *writer = xcalloc(1, sizeof(*writer));
    writer->store = store;
    writer->bytes_max = bytes_max;
    snprintf(writer->path, sizeof(writer->path), "%s/tmp-%llu", store->directory,
             (unsigned long long)atomic_fetch_add(&store->temporary_next, 1));
    enum rc rc = file_open(store->fs, writer->path, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE,
                           &writer->file, err);
    if (rc != RC_OK) {
        free(writer);
        return rc;
    }
    writer->hash = sha256_new();
    *out = writer;
    return RC_OK;
}

enum rc blob_write(struct blob_writer *writer, const void *p, size_t n)
{
    if ((int64_t)n > writer->bytes_max - writer->bytes)
        return RC_LIMIT;
    struct iovec part = {(void *)p, n};
    enum rc rc = file_write_at(writer->file, &part, 1, writer->bytes);
    if (rc != RC_OK)
        return rc;
    sha256_update(writer->hash, p, n);
    writer->bytes += (int64_t)n;
    return RC_OK;
}

static void writer_free(struct blob_writer *writer)
{
    file_close(writer->file);
    free(writer);
}

static enum rc blob_place(struct blob_writer *writer, const struct blob_id *id)
{
    struct file_system *fs = writer->store->fs;
    char directory[PATH_BYTES_MAX], path[PATH_BYTES_MAX];
    blob_directory(writer->store, id, directory);
    blob_path(writer->store, id, path);
    enum rc rc = file_sync(writer->file);
    if (rc == RC_OK)
        rc = file_make_directory(fs, directory);
    if (rc == RC_OK)
        rc = file_rename(fs, writer->path, path);
    if (rc == RC_OK)
        rc = file_sync_directory(fs, directory);
    return rc == RC_OK ? file_sync_directory(fs, writer->store->directory) : rc;
}

enum rc blob_finish(struct blob_writer *writer, const struct blob_id *expected, struct blob_id *id)
{
    sha256_final(writer->hash, id->sha256);
    bool other = expected && memcmp(expected, id, sizeof(*id)) != 0;
    enum rc rc = other ? RC_CORRUPT : blob_place(writer, id);
    if (rc != RC_OK) {
        enum rc removed = file_remove(writer->store->fs, writer->path);
        UNUSED(removed); /* else at the next opening */
    }
    writer_free(writer);
    return rc;
}

void blob_abandon(struct blob_writer *writer)
{
    if (!writer)
        return;
    uint8_t unused[SHA256_BYTES];
    sha256_final(writer->hash, unused);
    enum rc rc = file_remove(writer->store->fs, writer->path);
    UNUSED(rc); /* else at the next opening */
    writer_free(writer);
}

enum rc blob_put(struct blob_store *store, struct str content, struct blob_id *id)
{
    struct blob_writer *writer;
    enum rc rc = blob_begin(store, (int64_t)content.n, &writer, NULL);
    if (rc != RC_OK)
        return rc;
    rc = blob_write(writer, content.p, content.n);
    if (rc != RC_OK) {
        blob_abandon(writer);
        return rc;
    }
    return blob_finish(writer, NULL, id);
}

enum rc blob_get(struct blob_store *store, const struct blob_id *id, struct file **out)
{
    char path[PATH_BYTES_MAX];
    blob_path(store, id, path);
    return file_open(store->fs, path, FILE_READ, out, NULL);
}

enum rc blob_verify(struct blob_store *store, const struct blob_id *id)
{
    struct file *file;
    enum rc rc = blob_get(store, id, &file);
    if (rc != RC_OK)
        return rc;
    struct sha256 *hash = sha256_new();
    char *block = xmalloc(READ_BYTES);
    size_t got = READ_BYTES;
    for (int64_t at = 0; rc == RC_OK && got == READ_BYTES; at += READ_BYTES) {
        rc = file_read_at(file, block, READ_BYTES, at, &got);
        if (rc == RC_OK)
            sha256_update(hash, block, got);
    }
    struct blob_id found;
    sha256_final(hash, found.sha256);
    free(block);
    file_close(file);
    if (rc == RC_OK && memcmp(&found, id, sizeof(found)) != 0)
        rc = RC_CORRUPT;
    return rc;
}

enum rc blob_remove(struct blob_store *store, const struct blob_id *id)
{
    char path[PATH_BYTES_MAX];
    blob_path(store, id, path);
    return file_remove(store->fs, path);
}
