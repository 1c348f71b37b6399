/* Zip by its central directory (PKWARE APPNOTE 4.3), methods "stored" and "deflate". Each number of
 * the file is checked against the file's size; a file is inflated to exactly the size it announces,
 * and that size is bounded beforehand, alone, as a ratio, and summed over the archive. Archives
 * with 64-bit sizes are refused: no document needs them. */
#include "knowledge/extract_zip.h"
#include <zlib.h>

#define ENTRIES_MAX       20000
#define END_BYTES         22
#define DIRECTORY_BYTES   46
#define LOCAL_BYTES       30
#define COMMENT_BYTES_MAX 65535
#define ENTRY_BYTES_MAX   (256u << 20)
#define ARCHIVE_BYTES_MAX (512ull << 20)
#define RATIO_MAX         200 /* of inflated to packed, for what is large: */
#define RATIO_BYTES_MIN   (16u << 20)
#define NAME_BYTES_MAX    1024

static uint32_t le16(struct str s, size_t at)
{
    const unsigned char *p = (const unsigned char *)s.p + at;
    return p[0] | (uint32_t)p[1] << 8;
}

static uint32_t le32(struct str s, size_t at) { return le16(s, at) | le16(s, at + 2) << 16; }

static enum rc broken(struct zip *zip, const char *how)
{
    return err_set(zip->reader->err, ERR_INVALID, "the archive is broken: %s", how);
}

/* The end record, searched backwards over a comment. */
static bool find_end(struct str bytes, size_t *at)
{
    if (bytes.n < END_BYTES)
        return false;
    size_t last = bytes.n - END_BYTES, first = last - MIN(last, COMMENT_BYTES_MAX);
    for (size_t i = last + 1; i-- > first;)
        if (memcmp(bytes.p + i, "PK\5\6", 4) == 0) {
            *at = i;
            return true;
        }
    return false;
}

static bool name_climbs(struct str name)
{
    struct str part;
    if (!name.n || name.n > NAME_BYTES_MAX || name.p[0] == '/' || memchr(name.p, 0, name.n) ||
        memchr(name.p, '\\', name.n))
        return true;
    while (str_split(&name, '/', &part))
        if (str_eq(part, STR("..")))
            return true;
    return false;
}

enum rc zip_open(struct reader *reader, struct str bytes, struct zip *zip)
{
    *zip = (struct zip){.reader = reader, .bytes = bytes};
    size_t end;
    if (!find_end(bytes, &end))
        return broken(zip, "it has no list of files");
    size_t count = le16(bytes, end + 10), at = le32(bytes, end + 16);
    if (count > ENTRIES_MAX || at == UINT32_MAX)
        return err_set(reader->err, ERR_TOO_LARGE, "the archive holds too many files");
    zip->entries = ARENA_NEW_ARRAY(reader->arena, struct zip_entry, count + 1);
    if (!zip->entries)
        return reader_no_memory(reader);
    for (size_t i = 0; i < count; i++) {
        if (at > end || end - at < DIRECTORY_BYTES || memcmp(bytes.p + at, "PK\1\2", 4) != 0)
            return broken(zip, "its list of files is cut short");
        size_t name_bytes = le16(bytes, at + 28);
        size_t step = DIRECTORY_BYTES + name_bytes + le16(bytes, at + 30) + le16(bytes, at + 32);
        if (step > end - at)
            return broken(zip, "its list of files is cut short");
        if (le16(bytes, at + 8) & 1)
            return err_set(reader->err, ERR_INVALID, "the file is encrypted");
        struct zip_entry entry = {
            .name = str_slice(bytes, at + DIRECTORY_BYTES, at + DIRECTORY_BYTES + name_bytes),
            .method = (uint16_t)le16(bytes, at + 10),
            .crc = le32(bytes, at + 16),
            .packed_bytes = le32(bytes, at + 20),
            .bytes = le32(bytes, at + 24),
            .at = le32(bytes, at + 42)};
        if (!name_climbs(entry.name))
            zip->entries[zip->count++] = entry;
        at += step;
    }
    return RC_OK;
}

const struct zip_entry *zip_find(const struct zip *zip, struct str name)
{
    for (size_t i = 0; i < zip->count; i++)
        if (str_eq(zip->entries[i].name, name))
            return &zip->entries[i];
    return NULL;
}

static enum rc check_size(struct zip *zip, const struct zip_entry *entry)
{
    struct err *err = zip->reader->err;
    if (entry->bytes > ENTRY_BYTES_MAX || zip->inflated_bytes + entry->bytes > ARCHIVE_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the archive unpacks to more than may be read");
    if (entry->bytes > RATIO_BYTES_MIN && entry->bytes / RATIO_MAX > entry->packed_bytes)
        return err_set(err, ERR_TOO_LARGE, "the archive unpacks to more than %d times its size",
                       RATIO_MAX);
    return RC_OK;
}

/* To exactly the announced size: one byte more or less is an error. */
static bool inflate_raw(struct str packed, char *out, size_t n)
{
    z_stream stream = {.next_in = (Bytef *)packed.p,
                       .avail_in = (uInt)packed.n,
                       .next_out = (Bytef *)out,
                       .avail_out = (uInt)n + 1};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
        return false;
    int rc = inflate(&stream, Z_FINISH);
    bool exact = rc == Z_STREAM_END && stream.total_out == n;
    inflateEnd(&stream);
    return exact;
}

enum rc zip_inflate(struct zip *zip, const struct zip_entry *entry, struct str *out)
{
    struct str bytes = zip->bytes;
    size_t at = entry->at;
    if (at > bytes.n || bytes.n - at < LOCAL_BYTES || memcmp(bytes.p + at, "PK\3\4", 4) != 0)
        return broken(zip, "a file is not where its list says");
    size_t from = at + LOCAL_BYTES + le16(bytes, at + 26) + le16(bytes, at + 28);
    if (from > bytes.n || bytes.n - from < entry->packed_bytes)
        return broken(zip, "a file is cut short");
    enum rc rc = check_size(zip, entry);
    if (rc != RC_OK)
        return rc;
    struct str packed = str_slice(bytes, from, from + entry->packed_bytes);
    char *p = arena_alloc(zip->reader->arena, (size_t)entry->bytes + 1);
    if (!p)
        return reader_no_memory(zip->reader);
    if (entry->method == 0 && packed.n == entry->bytes)
        memcpy(p, packed.p, packed.n);
    else if (entry->method != 8 || !inflate_raw(packed, p, entry->bytes))
        return broken(zip, "a file cannot be unpacked");
    if (crc32(0, (const Bytef *)p, entry->bytes) != entry->crc)
        return broken(zip, "a checksum is wrong");
    zip->inflated_bytes += entry->bytes;
    *out = str_make(p, entry->bytes);
    return RC_OK;
}

enum rc zip_read(struct zip *zip, struct str name, struct str *out)
{
    const struct zip_entry *entry = zip_find(zip, name);
    *out = STR_EMPTY;
    return entry ? zip_inflate(zip, entry, out) : RC_OK;
}
