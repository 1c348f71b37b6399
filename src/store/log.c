/* The append log: see log.h for the contract and docs/design/log.md for the format.
 *
 * Invariants:
 * - pending ⊂ memory; written records are also kept in memory (`unsynced`) until a sync covered
 * them, because after a failed sync the page cache may hold anything;
 * - files are ordered by generation; where two hold the same sequence number the later file is
 * right;
 * - a file's header is written with its first batch, so a file without a valid header holds nothing
 *   that was ever durable. */
#include "store/log.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/rand.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_BYTES_MAX_DEFAULT (64ll * 1024 * 1024)
#define BATCH_BYTES_FIRST      (64 * 1024)
#define SPARE_BYTES_MAX        (4u * 1024 * 1024)
#define SPARE_BYTES_IDLE       (1024 * 1024) /* kept by an idle log */
#define WINDOW_BYTES           (256 * 1024)
#define PATH_BYTES_MAX         4096
#define LOCATION_OFFSET_BITS   40

static const char log_magic[8] = {'C', 'A', 'P', 'L', 'O', 'G', '\r', '\n'};

struct log_header_disk {
    char magic[8];
    uint32_t version, features;
    uint32_t kind, salt;
    uint64_t generation, first_seq, epoch;
    uint32_t reserved[3];
    uint32_t crc; /* of all before it */
};
_Static_assert(sizeof(struct log_header_disk) == LOG_HEADER_BYTES, "format");

struct record_header_disk {
    uint32_t crc; /* of the salt, the rest of this header and the payload */
    uint32_t n;   /* bytes of payload; then padding to 8 */
    uint64_t seq;
    uint32_t lag; /* seq − durable seq, saturated */
    uint16_t type, reserved;
};
_Static_assert(sizeof(struct record_header_disk) == LOG_RECORD_HEADER_BYTES, "format");

/* A file of the log that exists on disk. */
struct log_file {
    struct list node;
    int references; /* one of the list, one of each reader */
    struct file *file;
    uint64_t generation, first_seq, last_seq;
    uint32_t salt;
    int64_t bytes;
    bool name_synced, dirty;
};

/* Consecutive records as they are on disk. */
struct batch {
    struct list node;
    char *p;
    size_t n, capacity;
    uint64_t first_seq, count;
    bool begins_file; /* a file's header comes before the records */
};

/* A record that is written again; its owner is told when that has succeeded. */
struct move {
    uint64_t seq, location;
};

struct log {
    struct log_options options;
    char *directory;
    /* writer's */
    struct batch pending;
    uint64_t generation_next;
    uint64_t next_seq;
    uint32_t salt;      /* of the file that the pending batch goes to */
    int64_t offset;     /* where the pending batch begins in it */
    bool new_file;      /* that file does not exist yet */
    struct move *moves; /* of records in the pending batch that have an old place, too */
    size_t move_count, move_capacity;
    /* shared */
    pthread_mutex_t mutex;
    struct list files;        /* struct log_file, by generation */
    struct log_file *current; /* that the pending batch goes to; NULL: a new one */
    struct list unsynced;     /* struct batch, by seq */
    struct list spare;        /* struct batch: memory of synced ones, for the next */
    size_t spare_bytes;
    uint64_t written_seq;
    bool sync_failed; /* rewrite `unsynced` before anything else */
    atomic_uint_fast64_t synced_seq;
    atomic_int_fast64_t unsynced_bytes;
};

/* ---- format ---- */

static uint32_t record_crc(uint32_t salt, const struct record_header_disk *header,
                           const char *payload)
{
    uint32_t crc = hash_crc32c(0, &salt, sizeof(salt));
    crc = hash_crc32c(crc, (const char *)header + 4, sizeof(*header) - 4);
    return hash_crc32c(crc, payload, header->n);
}

static size_t record_bytes_on_disk(size_t payload_bytes)
{
    return LOG_RECORD_HEADER_BYTES + ALIGN_UP(payload_bytes, 8);
}

enum rc log_parse_header(struct str file, struct log_header *header)
{
    struct log_header_disk disk;
    if (file.n < sizeof(disk))
        return RC_CORRUPT;
    memcpy(&disk, file.p, sizeof(disk));
    if (memcmp(disk.magic, log_magic, sizeof(log_magic)) != 0 ||
        disk.crc != hash_crc32c(0, &disk, sizeof(disk) - 4))
        return RC_CORRUPT;
    *header = (struct log_header){.version = disk.version,
                                  .features = disk.features,
                                  .kind = disk.kind,
                                  .salt = disk.salt,
                                  .generation = disk.generation,
                                  .first_seq = disk.first_seq,
                                  .epoch = disk.epoch};
    return disk.version > LOG_VERSION || disk.features != 0 ? RC_INVALID : RC_OK;
}

enum rc log_parse_record(struct str bytes, uint32_t salt, struct log_record *record,
                         size_t *record_bytes)
{
    struct record_header_disk header;
    if (bytes.n < sizeof(header))
        return RC_END;
    memcpy(&header, bytes.p, sizeof(header));
    if (header.n > LOG_RECORD_BYTES_MAX || header.n > bytes.n - sizeof(header) || header.seq == 0)
        return RC_END;
    const char *payload = bytes.p + sizeof(header);
    if (header.crc != record_crc(salt, &header, payload))
        return RC_END;
    record->seq = header.seq;
    record->synced = header.seq > header.lag ? header.seq - header.lag : 0;
    record->type = header.type;
    record->payload = str_make(payload, header.n);
    *record_bytes = MIN(record_bytes_on_disk(header.n), bytes.n);
    return RC_OK;
}

static uint64_t location_make(uint64_t generation, int64_t offset)
{
    ASSERT(offset < (int64_t)1 << LOCATION_OFFSET_BITS);
    return generation << LOCATION_OFFSET_BITS | (uint64_t)offset;
}

/* ---- batches ---- */

static void batch_free(struct batch *batch)
{
    free(batch->p);
    free(batch);
}

/* The functions on spare batches: with the mutex held, or by the only user. */
static void spare_release(struct log *log, size_t bytes_kept)
{
    LIST_FOR_EACH_SAFE (batch, &log->spare, struct batch, node) {
        if (log->spare_bytes <= bytes_kept)
            break;
        list_remove(&batch->node);
        log->spare_bytes -= batch->capacity;
        batch_free(batch);
    }
}

static void spare_put(struct log *log, struct batch *batch)
{
    if (log->spare_bytes + batch->capacity > SPARE_BYTES_MAX) {
        batch_free(batch);
        return;
    }
    log->spare_bytes += batch->capacity;
    list_push_back(&log->spare, &batch->node);
}

static struct batch *spare_take(struct log *log)
{
    if (list_empty(&log->spare))
        return NULL;
    struct batch *batch = LIST_FIRST(&log->spare, struct batch, node);
    list_remove(&batch->node);
    log->spare_bytes -= batch->capacity;
    return batch;
}

/* ---- files ---- */

static void log_path(const struct log *log, uint64_t generation, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/%016" PRIx64 ".log", log->directory, generation);
}

static struct log_file *log_file_add(struct log *log, struct file *file,
                                     const struct log_header *header)
{
    struct log_file *lf = xcalloc(1, sizeof(*lf));
    lf->references = 1;
    lf->file = file;
    lf->generation = header->generation;
    lf->first_seq = header->first_seq;
    lf->last_seq = header->first_seq - 1;
    lf->salt = header->salt;
    list_push_back(&log->files, &lf->node);
    return lf;
}

/* With the mutex held, or by the only user. */
static void log_file_unref(struct log_file *lf)
{
    if (--lf->references > 0)
        return;
    file_close(lf->file);
    free(lf);
}

static void log_file_remove(struct log *log, struct log_file *lf)
{
    char path[PATH_BYTES_MAX];
    log_path(log, lf->generation, path);
    /* A file that comes back, or stays, is recognised as not needed when the log is opened. */
    if (file_remove(log->options.fs, path) != RC_OK)
        return;
    list_remove(&lf->node);
    log_file_unref(lf);
}

/* ---- recovery ---- */

struct generations {
    uint64_t *items;
    size_t count;
};

static enum rc collect_generation(void *arg, const char *name)
{
    struct generations *g = arg;
    uint64_t generation;
    char end[8] = "";
    if (strlen(name) != 20 || sscanf(name, "%16" SCNx64 "%4s", &generation, end) != 2 ||
        strcmp(end, ".log") != 0)
        return RC_OK;
    g->items = xrealloc(g->items, (g->count + 1) * sizeof(*g->items));
    g->items[g->count++] = generation;
    return RC_OK;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Opens one file and puts it on the list. A file whose header is not valid holds nothing. */
static enum rc recover_header(struct log *log, uint64_t generation, struct log_recovery *recovery,
                              struct err *err)
{
    char path[PATH_BYTES_MAX];
    log_path(log, generation, path);
    struct file *file;
    enum rc rc = file_open(log->options.fs, path, FILE_READ | FILE_WRITE, &file, err);
    if (rc != RC_OK)
        return rc;
    char head[LOG_HEADER_BYTES];
    size_t got;
    struct log_header header;
    rc = file_read_at(file, head, sizeof(head), 0, &got);
    if (rc == RC_OK)
        rc = log_parse_header(str_make(head, got), &header);
    if (rc == RC_OK && (header.kind != log->options.kind || header.generation != generation)) {
        err_set(err, ERR_INTERNAL, "%s is a log of another kind", path);
        rc = RC_INVALID;
    } else if (rc == RC_INVALID) {
        err_set(err, ERR_INTERNAL,
                "%s was written by a newer version (format %u, features %x; this program reads "
                "format %d): install that version again, or use another data directory",
                path, header.version, header.features, LOG_VERSION);
    }
    if (rc == RC_OK) {
        struct log_file *lf = log_file_add(log, file, &header);
        rc = file_size(file, &lf->bytes);
        recovery->files++;
        return rc;
    }
    file_close(file);
    if (rc == RC_CORRUPT) {
        recovery->files_dropped++;
        enum rc removed = file_remove(log->options.fs, path);
        UNUSED(removed); /* harmless where it stays */
        rc = RC_OK;
    }
    return rc;
}

struct scan {
    struct log *log;
    enum rc (*each)(void *arg, const struct log_record *record);
    void *arg;
    struct log_recovery *recovery;
    uint64_t expected; /* next sequence number */
    bool ended;        /* a torn record was met and nothing behind it counts */
};

/* Behind a break, at `expected`: is there a whole record that proves that records were durable
 * which are missing? Returns its offset, or -1. */
static int64_t find_proof(struct str bytes, size_t from, uint32_t salt, uint64_t expected)
{
    struct log_record record;
    size_t n;
    for (size_t at = ALIGN_UP(from, 8); at + LOG_RECORD_HEADER_BYTES <= bytes.n; at += 8) {
        struct record_header_disk header;
        memcpy(&header, bytes.p + at, sizeof(header));
        if (header.seq < expected || header.seq - expected > UINT32_MAX)
            continue;
        struct str rest = str_make(bytes.p + at, bytes.n - at);
        if (log_parse_record(rest, salt, &record, &n) == RC_OK && record.synced >= expected)
            return (int64_t)at;
    }
    return -1;
}

/* Reads a file's records up to, not including, `limit`: from there a later file is right. */
static enum rc scan_file(struct scan *scan, struct log_file *lf, struct str bytes, uint64_t limit)
{
    size_t at = LOG_HEADER_BYTES;
    while (at < bytes.n) {
        struct log_record record;
        size_t n;
        enum rc rc = log_parse_record(str_make(bytes.p + at, bytes.n - at), lf->salt, &record, &n);
        bool gap = rc == RC_OK && record.seq > scan->expected;
        if (gap && record.synced < scan->expected)
            rc = RC_END;
        if (rc != RC_OK) {
            int64_t proof = find_proof(bytes, at + 8, lf->salt, scan->expected);
            if (proof < 0)
                break;
            at = (size_t)proof;
            continue;
        }
        if (record.seq >= limit)
            break;
        record.location = location_make(lf->generation, (int64_t)at);
        at += n;
        if (record.seq < scan->expected)
            continue;
        scan->recovery->records_lost += record.seq - scan->expected;
        scan->recovery->records++;
        scan->expected = record.seq + 1;
        lf->last_seq = record.seq;
        rc = scan->each ? scan->each(scan->arg, &record) : RC_OK;
        if (rc != RC_OK)
            return rc;
    }
    scan->recovery->bytes_dropped += (int64_t)(bytes.n - MIN(at, bytes.n));
    return RC_OK;
}

/* The first sequence number that a later file holds. */
static uint64_t log_file_limit(struct log *log, struct log_file *lf)
{
    uint64_t limit = UINT64_MAX;
    for (struct list *n = lf->node.next; n != &log->files; n = n->next)
        limit = MIN(limit, LIST_ENTRY(n, struct log_file, node)->first_seq);
    return limit;
}

static enum rc recover_file(struct scan *scan, struct log_file *lf)
{
    uint64_t limit = log_file_limit(scan->log, lf);
    if (limit <= scan->expected) { /* everything in it is old, or said again by a later file */
        log_file_remove(scan->log, lf);
        scan->recovery->files_dropped++;
        return RC_OK;
    }
    const void *p;
    size_t n;
    enum rc rc = file_map(lf->file, &p, &n);
    if (rc != RC_OK)
        return rc;
    uint64_t before = scan->expected;
    rc = scan_file(scan, lf, str_make(p, n), limit);
    file_unmap(lf->file, p, n);
    /* What was read may still be in the page cache only: it counts from now on, so it must last. */
    if (rc == RC_OK && scan->expected > before)
        rc = file_sync(lf->file);
    lf->name_synced = true;
    return rc;
}

static enum rc log_recover(struct log *log, struct scan *scan, struct err *err)
{
    struct generations g = {0};
    enum rc rc = file_list(log->options.fs, log->directory, collect_generation, &g);
    if (rc != RC_OK)
        err_set(err, ERR_INTERNAL, "%s: cannot be listed (%s)", log->directory, rc_name(rc));
    if (g.count > 1)
        qsort(g.items, g.count, sizeof(*g.items), compare_u64);
    for (size_t i = 0; i < g.count && rc == RC_OK; i++) {
        log->generation_next = g.items[i] + 1;
        rc = recover_header(log, g.items[i], scan->recovery, err);
    }
    free(g.items);
    LIST_FOR_EACH_SAFE (lf, &log->files, struct log_file, node)
        if (rc == RC_OK)
            rc = recover_file(scan, lf);
    if (rc == RC_OK)
        rc = file_sync_directory(log->options.fs, log->directory);
    return rc;
}

enum rc log_open(const struct log_options *options,
                 enum rc (*each)(void *arg, const struct log_record *record), void *arg,
                 struct log_recovery *recovery, struct log **out, struct err *err)
{
    ASSERT(options->start_seq >= 1);
    struct log *log = xcalloc(1, sizeof(*log));
    log->options = *options;
    log->directory = xstrdup(options->directory);
    if (log->options.file_bytes_max == 0)
        log->options.file_bytes_max = FILE_BYTES_MAX_DEFAULT;
    pthread_mutex_init(&log->mutex, NULL);
    list_init(&log->files);
    list_init(&log->unsynced);
    list_init(&log->spare);
    log->generation_next = 1;
    *recovery = (struct log_recovery){0};
    struct scan scan = {
        .log = log, .each = each, .arg = arg, .recovery = recovery, .expected = options->start_seq};
    enum rc rc = log_recover(log, &scan, err);
    log->next_seq = scan.expected;
    log->written_seq = scan.expected - 1;
    atomic_store(&log->synced_seq, log->written_seq);
    log_rotate(log);
    if (rc == RC_OK) {
        *out = log;
    } else {
        if (err && err->code == ERR_NONE)
            err_set(err, ERR_INTERNAL, "%s: %s while the log was read", log->directory,
                    rc_name(rc));
        log_close(log);
    }
    return rc;
}

void log_close(struct log *log)
{
    if (!log)
        return;
    LIST_FOR_EACH_SAFE (batch, &log->unsynced, struct batch, node)
        batch_free(batch);
    spare_release(log, 0);
    LIST_FOR_EACH_SAFE (lf, &log->files, struct log_file, node) {
        list_remove(&lf->node);
        ASSERT(lf->references == 1);
        log_file_unref(lf);
    }
    free(log->pending.p);
    free(log->moves);
    free(log->directory);
    pthread_mutex_destroy(&log->mutex);
    free(log);
}

/* ---- appending ---- */

static char *batch_reserve(struct batch *batch, size_t n)
{
    if (batch->n + n > batch->capacity) {
        batch->capacity = MAX(MAX(batch->capacity * 2, BATCH_BYTES_FIRST), batch->n + n);
        batch->p = xrealloc(batch->p, batch->capacity);
    }
    char *at = batch->p + batch->n;
    batch->n += n;
    return at;
}

/* Where the pending batch goes: a file that exists already, or the next one. */
static uint64_t pending_generation(const struct log *log)
{
    return log->new_file ? log->generation_next : log->current->generation;
}

static void pending_begin_file(struct log *log)
{
    log->pending.begins_file = true;
    struct log_header_disk header = {.version = LOG_VERSION,
                                     .kind = log->options.kind,
                                     .salt = log->salt,
                                     .generation = pending_generation(log),
                                     .first_seq = log->next_seq,
                                     .epoch = log->options.epoch};
    memcpy(header.magic, log_magic, sizeof(header.magic));
    header.crc = hash_crc32c(0, &header, sizeof(header) - 4);
    memcpy(batch_reserve(&log->pending, sizeof(header)), &header, sizeof(header));
}

void log_rotate(struct log *log)
{
    ASSERT(log->pending.count == 0);
    pthread_mutex_lock(&log->mutex);
    log->current = NULL; /* complete: it may be dropped */
    pthread_mutex_unlock(&log->mutex);
    log->new_file = true;
    log->salt = (uint32_t)rand_u64();
    log->offset = 0;
}

uint64_t log_append(struct log *log, uint16_t type, struct str payload, uint64_t *location)
{
    ASSERT(payload.n <= LOG_RECORD_BYTES_MAX);
    if (log->pending.count == 0) {
        log->pending.n = 0;
        log->pending.first_seq = log->next_seq;
        log->pending.begins_file = false;
        if (log->offset == 0)
            pending_begin_file(log);
    }
    uint64_t seq = log->next_seq++;
    struct record_header_disk header = {.n = (uint32_t)payload.n, .seq = seq, .type = type};
    header.lag = (uint32_t)MIN(seq - atomic_load(&log->synced_seq), UINT32_MAX);
    header.crc = record_crc(log->salt, &header, payload.p);
    if (location)
        *location = location_make(pending_generation(log), log->offset + (int64_t)log->pending.n);
    size_t n = record_bytes_on_disk(payload.n);
    char *at = batch_reserve(&log->pending, n);
    memcpy(at, &header, sizeof(header));
    if (payload.n > 0)
        memcpy(at + sizeof(header), payload.p, payload.n);
    memset(at + sizeof(header) + payload.n, 0, n - sizeof(header) - payload.n);
    log->pending.count++;
    return seq;
}

size_t log_pending_bytes(const struct log *log)
{
    return log->pending.count > 0 ? log->pending.n : 0;
}

uint64_t log_discard(struct log *log)
{
    uint64_t count = log->pending.count;
    log->next_seq -= count;
    log->pending.count = 0;
    log->pending.n = 0;
    return count;
}

/* ---- writing ---- */

static enum rc log_create_file(struct log *log, uint64_t first_seq)
{
    char path[PATH_BYTES_MAX];
    log_path(log, log->generation_next, path);
    struct file *file;
    enum rc rc = file_open(log->options.fs, path,
                           FILE_READ | FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, &file, NULL);
    if (rc != RC_OK)
        return rc;
    struct log_header header = {
        .generation = log->generation_next, .first_seq = first_seq, .salt = log->salt};
    log->generation_next++;
    pthread_mutex_lock(&log->mutex);
    log->current = log_file_add(log, file, &header);
    pthread_mutex_unlock(&log->mutex);
    log->new_file = false;
    log->offset = 0;
    return RC_OK;
}

static enum rc log_write_batch(struct log *log, const struct batch *batch)
{
    struct iovec part = {batch->p, batch->n};
    enum rc rc = file_write_at(log->current->file, &part, 1, log->offset);
    if (rc != RC_OK)
        return rc;
    pthread_mutex_lock(&log->mutex);
    log->offset += (int64_t)batch->n;
    log->current->bytes = log->offset;
    log->current->last_seq = batch->first_seq + batch->count - 1;
    log->current->dirty = true;
    log->written_seq = MAX(log->written_seq, log->current->last_seq);
    pthread_mutex_unlock(&log->mutex);
    return RC_OK;
}

static void moves_add(struct log *log, uint64_t seq, uint64_t location)
{
    if (log->move_count == log->move_capacity) {
        log->move_capacity = MAX(64, log->move_capacity * 2);
        log->moves = xrealloc(log->moves, log->move_capacity * sizeof(*log->moves));
    }
    log->moves[log->move_count++] = (struct move){seq, location};
}

/* Until the pending batch is written, the old places are the ones that can be read. */
static void moves_tell(struct log *log)
{
    for (size_t i = 0; i < log->move_count && log->options.moved; i++)
        log->options.moved(log->options.arg, log->moves[i].seq, log->moves[i].location);
    log->move_count = 0;
}

/* Puts the batch's records, which some other file holds, at the end of the pending ones. */
static void pending_take_again(struct log *log, const struct batch *batch)
{
    size_t at = batch->begins_file ? LOG_HEADER_BYTES : 0;
    for (uint64_t i = 0; i < batch->count; i++) {
        struct record_header_disk header;
        memcpy(&header, batch->p + at, sizeof(header));
        uint64_t location;
        struct str payload = str_make(batch->p + at + sizeof(header), header.n);
        uint64_t seq = log_append(log, header.type, payload, &location);
        ASSERT(seq == header.seq);
        moves_add(log, seq, location);
        at += record_bytes_on_disk(header.n);
    }
}

/* After a failed sync: everything not durable becomes pending again, in a new file. */
static void log_take_back(struct log *log)
{
    struct batch last = log->pending;
    struct list again;
    list_init(&again);
    pthread_mutex_lock(&log->mutex);
    LIST_FOR_EACH_SAFE (batch, &log->unsynced, struct batch, node) {
        list_remove(&batch->node);
        list_push_back(&again, &batch->node);
    }
    log->sync_failed = false;
    log->written_seq = atomic_load(&log->synced_seq);
    struct batch *first = LIST_FIRST(&again, struct batch, node);
    LIST_FOR_EACH (lf, &log->files, struct log_file, node)
        lf->dirty = false;
    pthread_mutex_unlock(&log->mutex);

    log->pending = (struct batch){0};
    log->move_count = 0; /* all places are new again */
    log->next_seq = first ? first->first_seq : last.count > 0 ? last.first_seq : log->next_seq;
    log_rotate(log);
    LIST_FOR_EACH_SAFE (batch, &again, struct batch, node) {
        pending_take_again(log, batch);
        batch_free(batch);
    }
    if (last.count > 0)
        pending_take_again(log, &last);
    free(last.p);
}

enum rc log_write(struct log *log)
{
    pthread_mutex_lock(&log->mutex);
    bool take_back = log->sync_failed;
    pthread_mutex_unlock(&log->mutex);
    if (take_back)
        log_take_back(log);
    if (log->pending.count == 0)
        return RC_OK;
    enum rc rc = RC_OK;
    if (log->new_file)
        rc = log_create_file(log, log->pending.first_seq);
    if (rc == RC_OK)
        rc = log_write_batch(log, &log->pending);
    if (rc != RC_OK)
        return rc;
    moves_tell(log);
    pthread_mutex_lock(&log->mutex);
    struct batch *written = spare_take(log), next = {0};
    if (written)
        next = (struct batch){.p = written->p, .capacity = written->capacity};
    else
        written = xmalloc(sizeof(*written));
    *written = log->pending;
    log->pending = next;
    list_push_back(&log->unsynced, &written->node);
    int64_t bytes = 0;
    LIST_FOR_EACH (batch, &log->unsynced, struct batch, node)
        bytes += (int64_t)batch->n;
    atomic_store(&log->unsynced_bytes, bytes);
    pthread_mutex_unlock(&log->mutex);
    if (log->offset >= log->options.file_bytes_max)
        log_rotate(log);
    return RC_OK;
}

/* ---- syncing ---- */

static void release_synced(struct log *log, uint64_t seq)
{
    LIST_FOR_EACH_SAFE (batch, &log->unsynced, struct batch, node) {
        if (batch->first_seq + batch->count - 1 > seq)
            break;
        list_remove(&batch->node);
        atomic_fetch_sub(&log->unsynced_bytes, (int64_t)batch->n);
        spare_put(log, batch);
    }
    if (list_empty(&log->unsynced))
        spare_release(log, SPARE_BYTES_IDLE);
}

/* One file, without the mutex while the disk works. */
static enum rc log_sync_file(struct log *log, struct log_file *lf)
{
    lf->references++;
    lf->dirty = false;
    bool sync_name = !lf->name_synced;
    pthread_mutex_unlock(&log->mutex);
    enum rc rc = file_sync(lf->file);
    if (rc == RC_OK && sync_name)
        rc = file_sync_directory(log->options.fs, log->directory);
    pthread_mutex_lock(&log->mutex);
    if (rc == RC_OK)
        lf->name_synced = true;
    log_file_unref(lf);
    return rc;
}

enum rc log_sync(struct log *log, uint64_t *seq)
{
    enum rc rc = RC_OK;
    pthread_mutex_lock(&log->mutex);
    uint64_t target = log->written_seq;
    if (log->sync_failed)
        rc = RC_IO;
    LIST_FOR_EACH_SAFE (lf, &log->files, struct log_file, node)
        if (rc == RC_OK && lf->dirty)
            rc = log_sync_file(log, lf);
    if (rc == RC_OK) {
        atomic_store(&log->synced_seq, target);
        release_synced(log, target);
    } else {
        log->sync_failed = true;
    }
    *seq = atomic_load(&log->synced_seq);
    pthread_mutex_unlock(&log->mutex);
    return rc;
}

void log_drop_before(struct log *log, uint64_t seq)
{
    pthread_mutex_lock(&log->mutex);
    LIST_FOR_EACH_SAFE (lf, &log->files, struct log_file, node)
        if (lf != log->current && !lf->dirty && lf->last_seq < seq)
            log_file_remove(log, lf);
    pthread_mutex_unlock(&log->mutex);
}

/* ---- reading ---- */

static struct log_file *log_file_take(struct log *log, uint64_t generation)
{
    struct log_file *found = NULL;
    pthread_mutex_lock(&log->mutex);
    LIST_FOR_EACH (lf, &log->files, struct log_file, node)
        if (lf->generation == generation)
            found = lf;
    if (found)
        found->references++;
    pthread_mutex_unlock(&log->mutex);
    return found;
}

/* Replaces what the window holds by at most `n` bytes of the file. */
static enum rc window_fill(struct log_window *window, struct log_file *lf, int64_t offset, size_t n)
{
    if (window->capacity < n) {
        free(window->p);
        window->p = malloc(n);
        window->capacity = window->p ? n : 0;
    }
    window->n = 0;
    window->generation = lf->generation;
    window->offset = offset;
    window->salt = lf->salt;
    return window->p ? file_read_at(lf->file, window->p, n, offset, &window->n) : RC_LIMIT;
}

/* The record at `offset` of the window's file, if all of it is in the window. */
static bool window_take(struct log_window *window, int64_t offset, struct log_record *record)
{
    size_t record_bytes, at = (size_t)(offset - window->offset);
    if (offset < window->offset || at >= window->n)
        return false;
    struct str bytes = str_make(window->p + at, window->n - at);
    if (log_parse_record(bytes, window->salt, record, &record_bytes) != RC_OK)
        return false;
    window->next_offset = offset + (int64_t)record_bytes;
    return true;
}

static enum rc read_record(struct log_file *lf, int64_t offset, struct log_window *window,
                           struct log_record *record)
{
    struct record_header_disk header;
    size_t got;
    enum rc rc = file_read_at(lf->file, &header, sizeof(header), offset, &got);
    if (rc != RC_OK)
        return rc;
    if (got < sizeof(header) || header.n > LOG_RECORD_BYTES_MAX)
        return RC_CORRUPT;
    rc = window_fill(window, lf, offset, record_bytes_on_disk(header.n));
    return rc != RC_OK ? rc : window_take(window, offset, record) ? RC_OK : RC_CORRUPT;
}

enum rc log_read(struct log *log, uint64_t location, struct log_window *window,
                 struct log_record *record)
{
    uint64_t generation = location >> LOCATION_OFFSET_BITS;
    int64_t offset = (int64_t)(location & (((uint64_t)1 << LOCATION_OFFSET_BITS) - 1));
    bool same_file = window->p && window->generation == generation;
    bool one_after_the_other = same_file && offset == window->next_offset;
    record->location = location;
    if (same_file && window_take(window, offset, record))
        return RC_OK;
    struct log_file *lf = log_file_take(log, generation);
    if (!lf)
        return RC_NOT_FOUND;
    enum rc rc = RC_OK;
    if (one_after_the_other)
        rc = window_fill(window, lf, offset, WINDOW_BYTES);
    if (rc == RC_OK && !(one_after_the_other && window_take(window, offset, record)))
        rc = read_record(lf, offset, window, record);
    pthread_mutex_lock(&log->mutex);
    log_file_unref(lf);
    pthread_mutex_unlock(&log->mutex);
    return rc;
}

void log_window_fini(struct log_window *window)
{
    free(window->p);
    *window = (struct log_window){0};
}

uint64_t log_next_seq(const struct log *log) { return log->next_seq; }

uint64_t log_synced_seq(const struct log *log) { return atomic_load(&log->synced_seq); }

int64_t log_unsynced_bytes(const struct log *log) { return atomic_load(&log->unsynced_bytes); }

int64_t log_bytes(const struct log *log)
{
    struct log *l = (struct log *)log;
    int64_t sum = 0;
    pthread_mutex_lock(&l->mutex);
    LIST_FOR_EACH (lf, &l->files, struct log_file, node)
        sum += lf->bytes;
    pthread_mutex_unlock(&l->mutex);
    return sum;
}
