/* Segments and manifests: see segment.h for the contract, docs/design/segment.md for the format.
 *
 * Layout: header (64 bytes) · sections, each aligned to 64 · table of sections · footer (32 bytes).
 * The footer is written last and its checksum covers the table, so a file that ends in a valid
 * footer was written completely. */
#include "store/segment.h"
#include "base/hash.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#define PATH_BYTES_MAX     4096
#define WRITE_BUFFER_BYTES (1024 * 1024)
#define MANIFEST_BYTES_MAX (1024ll * 1024 * 1024)

static const char segment_magic[8] = {'C', 'A', 'P', 'S', 'E', 'G', '\r', '\n'};
static const char footer_magic[8] = {'C', 'A', 'P', 'E', 'N', 'D', '\r', '\n'};
static const char manifest_magic[8] = {'C', 'A', 'P', 'M', 'A', 'N', '\r', '\n'};

struct header_disk {
    char magic[8];
    uint32_t version, features; /* of the container */
    uint32_t kind, content_version;
    uint64_t content_bytes; /* manifest: what follows the header; segment: 0 */
    uint64_t content_hash;  /* manifest: XXH3 of it; segment: 0 */
    uint32_t reserved[4];
    uint64_t hash; /* XXH3 of all before it */
};
_Static_assert(sizeof(struct header_disk) == 64, "format");

struct section_disk {
    uint32_t tag, index;
    uint64_t offset, bytes;
    uint64_t hash; /* XXH3 of the bytes */
};
_Static_assert(sizeof(struct section_disk) == 32, "format");

struct footer_disk {
    uint64_t table_offset;
    uint64_t section_count;
    uint64_t hash; /* XXH3 of the table and the two fields above */
    char magic[8];
};
_Static_assert(sizeof(struct footer_disk) == 32, "format");

struct segment_writer {
    struct file_system *fs;
    struct file *file;
    char *path, *path_temporary;
    int64_t offset; /* of the buffer's first byte */
    char *buffer;
    size_t buffered;
    struct section_disk sections[SEGMENT_SECTIONS_MAX];
    size_t section_count;
    XXH3_state_t *hash; /* of the section being written */
    enum rc failed;     /* the first failure of a write */
};

struct segment {
    struct file *file; /* NULL: bytes of the caller */
    struct str bytes;
    const struct section_disk *table;
    size_t section_count;
    uint32_t content_version;
    _Atomic uint8_t *verified; /* by section: 0 not yet, 1 good, 2 bad */
};

/* ---- shared by both ---- */

static void header_make(struct header_disk *header, const char magic[8], uint32_t kind,
                        uint32_t version, struct str content)
{
    *header =
        (struct header_disk){.version = SEGMENT_VERSION, .kind = kind, .content_version = version};
    memcpy(header->magic, magic, sizeof(header->magic));
    if (content.p) {
        header->content_bytes = content.n;
        header->content_hash = hash_xxh3(content.p, content.n);
    }
    header->hash = hash_xxh3(header, offsetof(struct header_disk, hash));
}

static enum rc header_check(const struct header_disk *header, const char magic[8], uint32_t kind,
                            uint32_t version, const char *path, struct err *err)
{
    if (memcmp(header->magic, magic, sizeof(header->magic)) != 0 ||
        header->hash != hash_xxh3(header, offsetof(struct header_disk, hash))) {
        err_set(err, ERR_INTERNAL, "%s is damaged (header)", path);
        return RC_CORRUPT;
    }
    if (header->kind != kind) {
        err_set(err, ERR_INTERNAL, "%s is of another kind (%.4s)", path,
                (const char *)&header->kind);
        return RC_INVALID;
    }
    if (header->version > SEGMENT_VERSION || header->features != 0 ||
        header->content_version > version) {
        err_set(err, ERR_INTERNAL,
                "%s was written by a newer version (format %u.%u, features %x; this program reads "
                "%d.%u): install that version again, or use another data directory",
                path, header->version, header->content_version, header->features, SEGMENT_VERSION,
                version);
        return RC_INVALID;
    }
    return RC_OK;
}

/* The directory part of a path, for syncing it. */
static void path_directory(const char *path, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s", path);
    char *slash = strrchr(out, '/');
    ASSERT(slash);
    *slash = '\0';
}

static char *path_join(const char *a, const char *b)
{
    size_t n = strlen(a) + strlen(b) + 1;
    char *path = xmalloc(n);
    snprintf(path, n, "%s%s", a, b);
    return path;
}

/* ---- writing ---- */

static enum rc writer_flush(struct segment_writer *writer)
{
    if (writer->failed == RC_OK && writer->buffered > 0) {
        struct iovec part = {writer->buffer, writer->buffered};
        writer->failed = file_write_at(writer->file, &part, 1, writer->offset);
        writer->offset += (int64_t)writer->buffered;
        writer->buffered = 0;
    }
    return writer->failed;
}

static enum rc writer_put(struct segment_writer *writer, const void *p, size_t n)
{
    const char *at = p;
    while (n > 0 && writer->failed == RC_OK) {
        size_t part = MIN(n, WRITE_BUFFER_BYTES - writer->buffered);
        memcpy(writer->buffer + writer->buffered, at, part);
        writer->buffered += part;
        at += part;
        n -= part;
        if (writer->buffered == WRITE_BUFFER_BYTES)
            writer_flush(writer);
    }
    return writer->failed;
}

static uint64_t writer_position(const struct segment_writer *writer)
{
    return (uint64_t)writer->offset + writer->buffered;
}

static void writer_end_section(struct segment_writer *writer)
{
    if (writer->section_count == 0)
        return;
    struct section_disk *section = &writer->sections[writer->section_count - 1];
    if (section->bytes == UINT64_MAX) {
        section->bytes = writer_position(writer) - section->offset;
        section->hash = XXH3_64bits_digest(writer->hash);
    }
}

static void writer_align(struct segment_writer *writer)
{
    static const char zeros[SEGMENT_ALIGN_BYTES];
    uint64_t at = writer_position(writer);
    enum rc rc = writer_put(writer, zeros, ALIGN_UP(at, SEGMENT_ALIGN_BYTES) - at);
    UNUSED(rc); /* kept in writer->failed */
}

enum rc segment_create(struct file_system *fs, const char *path, uint32_t kind, uint32_t version,
                       struct segment_writer **out, struct err *err)
{
    struct segment_writer *writer = xcalloc(1, sizeof(*writer));
    writer->fs = fs;
    writer->path = xstrdup(path);
    writer->path_temporary = path_join(path, ".tmp");
    writer->buffer = xmalloc(WRITE_BUFFER_BYTES);
    writer->hash = XXH3_createState();
    ASSERT(writer->hash);
    enum rc rc =
        file_open(fs, writer->path_temporary, FILE_READ | FILE_WRITE | FILE_CREATE | FILE_TRUNCATE,
                  &writer->file, err);
    if (rc != RC_OK) {
        segment_abandon(writer);
        return rc;
    }
    struct header_disk header;
    header_make(&header, segment_magic, kind, version, STR_EMPTY);
    rc = writer_put(writer, &header, sizeof(header));
    ASSERT(rc == RC_OK); /* it is in the buffer */
    *out = writer;
    return RC_OK;
}

void segment_begin(struct segment_writer *writer, uint32_t tag, uint32_t index)
{
    ASSERT(writer->section_count < SEGMENT_SECTIONS_MAX);
    writer_end_section(writer);
    writer_align(writer);
    writer->sections[writer->section_count++] = (struct section_disk){
        .tag = tag, .index = index, .offset = writer_position(writer), .bytes = UINT64_MAX};
    XXH3_64bits_reset(writer->hash);
}

enum rc segment_write(struct segment_writer *writer, const void *p, size_t n)
{
    ASSERT(writer->section_count > 0);
    if (n == 0)
        return writer->failed;
    XXH3_64bits_update(writer->hash, p, n);
    return writer_put(writer, p, n);
}

uint64_t segment_section_bytes(const struct segment_writer *writer)
{
    ASSERT(writer->section_count > 0);
    return writer_position(writer) - writer->sections[writer->section_count - 1].offset;
}

static void writer_free(struct segment_writer *writer)
{
    file_close(writer->file);
    XXH3_freeState(writer->hash);
    free(writer->buffer);
    free(writer->path_temporary);
    free(writer->path);
    free(writer);
}

void segment_abandon(struct segment_writer *writer)
{
    if (!writer)
        return;
    if (writer->file) {
        enum rc rc = file_remove(writer->fs, writer->path_temporary);
        UNUSED(rc); /* leftovers are removed when the owner opens */
    }
    writer_free(writer);
}

enum rc segment_seal(struct segment_writer *writer, int64_t *bytes)
{
    writer_end_section(writer);
    writer_align(writer);
    struct footer_disk footer = {.table_offset = writer_position(writer),
                                 .section_count = writer->section_count};
    memcpy(footer.magic, footer_magic, sizeof(footer.magic));
    size_t table_bytes = writer->section_count * sizeof(writer->sections[0]);
    XXH3_64bits_reset(writer->hash);
    XXH3_64bits_update(writer->hash, writer->sections, table_bytes);
    XXH3_64bits_update(writer->hash, &footer, offsetof(struct footer_disk, hash));
    footer.hash = XXH3_64bits_digest(writer->hash);
    enum rc rc = writer_put(writer, writer->sections, table_bytes);
    if (rc == RC_OK)
        rc = writer_put(writer, &footer, sizeof(footer));
    if (rc == RC_OK)
        rc = writer_flush(writer);
    if (rc == RC_OK)
        rc = file_sync(writer->file);
    if (rc == RC_OK)
        rc = file_rename(writer->fs, writer->path_temporary, writer->path);
    if (rc != RC_OK) {
        segment_abandon(writer);
        return rc;
    }
    char directory[PATH_BYTES_MAX];
    path_directory(writer->path, directory);
    rc = file_sync_directory(writer->fs, directory);
    *bytes = writer->offset;
    writer_free(writer);
    return rc;
}

/* ---- reading ---- */

static enum rc segment_check(struct segment *segment, const char *path, uint32_t kind,
                             uint32_t version, struct err *err)
{
    struct str bytes = segment->bytes;
    struct footer_disk footer;
    if (bytes.n < sizeof(struct header_disk) + sizeof(footer)) {
        err_set(err, ERR_INTERNAL, "%s is damaged (length)", path);
        return RC_CORRUPT;
    }
    const struct header_disk *header = (const void *)bytes.p;
    enum rc rc = header_check(header, segment_magic, kind, version, path, err);
    if (rc != RC_OK)
        return rc;
    memcpy(&footer, bytes.p + bytes.n - sizeof(footer), sizeof(footer));
    uint64_t table_end = bytes.n - sizeof(footer);
    bool fits =
        memcmp(footer.magic, footer_magic, sizeof(footer_magic)) == 0 &&
        footer.section_count <= SEGMENT_SECTIONS_MAX && footer.table_offset % 8 == 0 &&
        footer.table_offset <= table_end &&
        table_end - footer.table_offset == footer.section_count * sizeof(struct section_disk);
    if (fits) {
        XXH3_state_t *hash = XXH3_createState();
        ASSERT(hash);
        XXH3_64bits_reset(hash);
        XXH3_64bits_update(hash, bytes.p + footer.table_offset, table_end - footer.table_offset);
        XXH3_64bits_update(hash, &footer, offsetof(struct footer_disk, hash));
        fits = XXH3_64bits_digest(hash) == footer.hash;
        XXH3_freeState(hash);
    }
    segment->table = fits ? (const void *)(bytes.p + footer.table_offset) : NULL;
    segment->section_count = fits ? footer.section_count : 0;
    segment->content_version = header->content_version;
    for (size_t i = 0; i < segment->section_count; i++) {
        const struct section_disk *s = &segment->table[i];
        fits = fits && s->offset % SEGMENT_ALIGN_BYTES == 0 && s->offset <= footer.table_offset &&
               s->bytes <= footer.table_offset - s->offset;
    }
    if (!fits) {
        err_set(err, ERR_INTERNAL, "%s is damaged (table of sections)", path);
        return RC_CORRUPT;
    }
    return RC_OK;
}

static enum rc segment_attach(struct file *file, struct str bytes, const char *path, uint32_t kind,
                              uint32_t version, struct segment **out, struct err *err)
{
    struct segment *segment = xcalloc(1, sizeof(*segment));
    segment->file = file;
    segment->bytes = bytes;
    enum rc rc = segment_check(segment, path, kind, version, err);
    if (rc != RC_OK) {
        segment_close(segment);
        return rc;
    }
    segment->verified = xcalloc(MAX(segment->section_count, 1), 1);
    *out = segment;
    return RC_OK;
}

enum rc segment_open(struct file_system *fs, const char *path, uint32_t kind, uint32_t version,
                     struct segment **out, struct err *err)
{
    struct file *file;
    enum rc rc = file_open(fs, path, FILE_READ, &file, err);
    if (rc != RC_OK)
        return rc;
    const void *p;
    size_t n;
    rc = file_map(file, &p, &n);
    if (rc != RC_OK) {
        err_set(err, ERR_INTERNAL, "%s cannot be mapped (%s)", path, rc_name(rc));
        file_close(file);
        return rc == RC_END ? RC_CORRUPT : rc;
    }
    return segment_attach(file, str_make(p, n), path, kind, version, out, err);
}

enum rc segment_open_bytes(struct str bytes, uint32_t kind, uint32_t version, struct segment **out,
                           struct err *err)
{
    ASSERT((uintptr_t)bytes.p % 8 == 0);
    return segment_attach(NULL, bytes, "segment", kind, version, out, err);
}

void segment_close(struct segment *segment)
{
    if (!segment)
        return;
    if (segment->file) {
        file_unmap(segment->file, segment->bytes.p, segment->bytes.n);
        file_close(segment->file);
    }
    free((void *)segment->verified);
    free(segment);
}

static const struct section_disk *section_find(const struct segment *segment, uint32_t tag,
                                               uint32_t index)
{
    for (size_t i = 0; i < segment->section_count; i++)
        if (segment->table[i].tag == tag && segment->table[i].index == index)
            return &segment->table[i];
    return NULL;
}

enum rc segment_section_raw(const struct segment *segment, uint32_t tag, uint32_t index,
                            struct str *out)
{
    const struct section_disk *section = section_find(segment, tag, index);
    if (!section)
        return RC_NOT_FOUND;
    *out = str_make(segment->bytes.p + section->offset, section->bytes);
    return RC_OK;
}

enum rc segment_section(const struct segment *segment, uint32_t tag, uint32_t index,
                        struct str *out)
{
    const struct section_disk *section = section_find(segment, tag, index);
    if (!section)
        return RC_NOT_FOUND;
    *out = str_make(segment->bytes.p + section->offset, section->bytes);
    /* Two threads may verify the same section at once: they find the same. */
    _Atomic uint8_t *verified = &segment->verified[section - segment->table];
    uint8_t state = atomic_load_explicit(verified, memory_order_relaxed);
    if (state == 0) {
        state = hash_xxh3(out->p, out->n) == section->hash ? 1 : 2;
        atomic_store_explicit(verified, state, memory_order_relaxed);
    }
    return state == 1 ? RC_OK : RC_CORRUPT;
}

uint32_t segment_content_version(const struct segment *segment) { return segment->content_version; }

int64_t segment_bytes(const struct segment *segment) { return (int64_t)segment->bytes.n; }

/* ---- manifest ---- */

static enum rc write_whole(struct file_system *fs, const char *path,
                           const struct header_disk *header, struct str content, struct err *err)
{
    struct file *file;
    enum rc rc = file_open(fs, path, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, &file, err);
    if (rc != RC_OK)
        return rc;
    struct iovec parts[2] = {{(void *)header, sizeof(*header)}, {(void *)content.p, content.n}};
    rc = file_write_at(file, parts, content.n > 0 ? 2 : 1, 0);
    if (rc == RC_OK)
        rc = file_sync(file);
    file_close(file);
    if (rc != RC_OK)
        err_set(err, rc == RC_FULL ? ERR_DISK_FULL : ERR_INTERNAL, "%s: %s", path, rc_name(rc));
    return rc;
}

enum rc manifest_store(struct file_system *fs, const char *directory, const char *name,
                       uint32_t kind, uint32_t version, struct str content, struct err *err)
{
    ASSERT((int64_t)content.n <= MANIFEST_BYTES_MAX);
    char path[PATH_BYTES_MAX], temporary[PATH_BYTES_MAX];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    snprintf(temporary, sizeof(temporary), "%s/%s.tmp", directory, name);
    struct header_disk header;
    header_make(&header, manifest_magic, kind, version, content.p ? content : STR(""));
    enum rc rc = write_whole(fs, temporary, &header, content, err);
    if (rc != RC_OK)
        return rc;
    rc = file_rename(fs, temporary, path);
    if (rc == RC_OK)
        rc = file_sync_directory(fs, directory);
    if (rc != RC_OK)
        err_set(err, ERR_INTERNAL, "%s cannot be replaced (%s)", path, rc_name(rc));
    return rc;
}

static enum rc manifest_read(struct file *file, const char *path, uint32_t kind, uint32_t version,
                             struct buf *out, struct err *err)
{
    struct header_disk header = {0};
    size_t got;
    enum rc rc = file_read_at(file, &header, sizeof(header), 0, &got);
    if (rc != RC_OK)
        return rc;
    rc = header_check(&header, manifest_magic, kind, version, path, err);
    if (rc != RC_OK)
        return rc;
    char *p;
    if ((int64_t)header.content_bytes > MANIFEST_BYTES_MAX ||
        buf_reserve(out, header.content_bytes, &p) != RC_OK)
        return RC_LIMIT;
    rc = file_read_at(file, p, header.content_bytes, sizeof(header), &got);
    if (rc != RC_OK)
        return rc;
    if (got != header.content_bytes || hash_xxh3(p, got) != header.content_hash) {
        err_set(err, ERR_INTERNAL, "%s is damaged (content)", path);
        return RC_CORRUPT;
    }
    buf_added(out, got);
    return RC_OK;
}

enum rc manifest_load(struct file_system *fs, const char *directory, const char *name,
                      uint32_t kind, uint32_t version, struct buf *out, struct err *err)
{
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    struct file *file;
    enum rc rc = file_open(fs, path, FILE_READ, &file, err);
    if (rc != RC_OK)
        return rc;
    rc = manifest_read(file, path, kind, version, out, err);
    file_close(file);
    return rc;
}
