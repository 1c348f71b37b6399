/* The keeper of call records: seals frozen tails into parts, merges small parts, rewrites parts
 * with erased rows, enforces retention, and publishes each change by a new manifest.
 *
 * A change is prepared on disk first (new part, new spend files, new lists of deleted rows), then
 * the manifest that names it all replaces the old one, then memory follows, then what is no longer
 * named is removed. Whenever power fails, the manifest found is the old or the new one, and both
 * are complete. */
#include "base/clock.h"
#include "base/log.h"
#include "trace/query.h"
#include "trace/store.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MANIFEST_NAME      "manifest"
#define MANIFEST_KIND      SEGMENT_KIND('T', 'R', 'C', 'E')
#define MANIFEST_VERSION   1
#define MANIFEST_BYTES_MAX (64u * 1024 * 1024)
#define MERGE_PARTS_MIN    4
#define MERGE_PARTS_MAX    16
/* A record that cannot be read for so long shall not keep all others from being sealed. */
#define SALVAGE_AFTER_FAILURES 20
#define RETENTION_EVERY_NS     (60 * NS_PER_S)
#define RETRY_EVERY_NS         (5 * NS_PER_S)

struct manifest_disk {
    uint64_t epoch, sealed_seq, part_next, deletes_next;
    uint32_t part_count, spend_count;
};

struct manifest_part_disk {
    uint64_t id, deletes_generation;
};

struct manifest_spend_disk {
    int64_t period;
    uint64_t generation;
};

/* ---- manifest ---- */

static enum rc put(struct buf *buf, const void *p, size_t n)
{
    return buf_append(buf, str_make(p, n));
}

/* The generation of a period as the manifest shall say it. */
static uint64_t spend_generation(const struct spend_book_entry *entry,
                                 const struct spend_change *change)
{
    for (size_t i = 0; change && i < change->count; i++)
        if (change->entries[i].period == entry->period)
            return change->entries[i].generation;
    return entry->generation;
}

static enum rc put_spends(struct trace_store *store, const struct spend_change *change,
                          struct buf *buf, uint32_t *count)
{
    enum rc rc = RC_OK;
    *count = 0;
    for (size_t i = 0; i < store->book.count && rc == RC_OK; i++, ++*count) {
        const struct spend_book_entry *entry = &store->book.entries[i];
        struct manifest_spend_disk disk = {entry->period, spend_generation(entry, change)};
        rc = put(buf, &disk, sizeof(disk));
    }
    for (size_t i = 0; change && i < change->count && rc == RC_OK; i++) {
        const struct spend_book_entry *entry = &change->entries[i];
        if (spend_book_find(&store->book, entry->period))
            continue;
        struct manifest_spend_disk disk = {entry->period, entry->generation};
        rc = put(buf, &disk, sizeof(disk));
        ++*count;
    }
    return rc;
}

enum rc trace_manifest_store(struct trace_store *store, const struct part_entry *parts,
                             size_t count, uint64_t sealed_seq, const struct spend_change *spend,
                             struct err *err)
{
    struct buf buf;
    buf_init(&buf, MANIFEST_BYTES_MAX);
    struct manifest_disk head = {.epoch = store->epoch,
                                 .sealed_seq = sealed_seq,
                                 .part_next = store->part_next,
                                 .deletes_next = store->deletes_next,
                                 .part_count = (uint32_t)count};
    enum rc rc = put(&buf, &head, sizeof(head));
    for (size_t i = 0; i < count && rc == RC_OK; i++) {
        struct manifest_part_disk disk = {part_id(parts[i].part), parts[i].deletes_generation};
        rc = put(&buf, &disk, sizeof(disk));
    }
    if (rc == RC_OK)
        rc = put_spends(store, spend, &buf, &head.spend_count);
    if (rc == RC_OK) {
        memcpy(buf.p + buf.start, &head, sizeof(head));
        rc = manifest_store(store->fs, store->directory, MANIFEST_NAME, MANIFEST_KIND,
                            MANIFEST_VERSION, buf_str(&buf), err);
    }
    buf_fini(&buf);
    return rc;
}

/* ---- opening ---- */

struct known_files {
    struct trace_store *store;
    struct map names; /* of files that the manifest needs; keys are owned here */
    char **owned;
    size_t count;
};

static void known_add(struct known_files *known, const char *name)
{
    known->owned = xrealloc(known->owned, (known->count + 1) * sizeof(*known->owned));
    char *copy = known->owned[known->count++] = xstrdup(name);
    map_put(&known->names, str_from(copy), copy);
}

/* Removes what an interrupted change left behind. */
static enum rc remove_leftover(void *arg, const char *name)
{
    struct known_files *known = arg;
    struct str s = str_from(name);
    bool ours =
        str_starts(s, STR("part-")) || str_starts(s, STR("spend-")) || str_ends(s, STR(".tmp"));
    if (!ours || map_get(&known->names, s))
        return RC_OK;
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", known->store->directory, name);
    enum rc rc = file_remove(known->store->fs, path);
    return rc == RC_NOT_FOUND ? RC_OK : rc;
}

/* A part that cannot be read is left on disk, and left out: that is said, and counted. */
static enum rc open_part(struct trace_store *store, const struct manifest_part_disk *disk,
                         struct err *err)
{
    struct part_entry entry = {.deletes_generation = disk->deletes_generation};
    enum rc rc = part_open(store->fs, store->directory, disk->id, &entry.part, err);
    if (rc == RC_OK && disk->deletes_generation != 0) {
        rc = part_deletes_load(store->fs, store->directory, entry.part, disk->deletes_generation,
                               err);
        entry.deletes_stored = atomic_load(&part_rows(entry.part)->deleted_count);
        if (rc != RC_OK) /* better to hide its rows than to show erased ones */
            rowset_unref(part_rows(entry.part));
    }
    if (rc == RC_CORRUPT || rc == RC_NOT_FOUND) {
        atomic_fetch_add(&store->lost_disk, 1);
        log_event(LOG_ERROR, "trace_part_damaged", LOG_I64("part", (int64_t)disk->id),
                  LOG_Z("reason", err && err->code != ERR_NONE ? err->message : rc_name(rc)));
        if (err)
            *err = (struct err){0};
        return RC_OK;
    }
    if (rc != RC_OK)
        return rc;
    store->parts = xrealloc(store->parts, (store->part_count + 1) * sizeof(*store->parts));
    store->parts[store->part_count++] = entry;
    return RC_OK;
}

static bool take(struct str *bytes, void *out, size_t n)
{
    if (bytes->n < n)
        return false;
    memcpy(out, bytes->p, n);
    *bytes = str_make(bytes->p + n, bytes->n - n);
    return true;
}

static enum rc read_manifest(struct trace_store *store, struct str bytes, struct known_files *known,
                             struct err *err)
{
    struct manifest_disk head;
    if (!take(&bytes, &head, sizeof(head)))
        return RC_CORRUPT;
    store->sealed_seq = head.sealed_seq;
    store->part_next = head.part_next;
    store->deletes_next = head.deletes_next;
    enum rc rc = RC_OK;
    for (uint32_t i = 0; i < head.part_count && rc == RC_OK; i++) {
        struct manifest_part_disk disk;
        char name[64];
        if (!take(&bytes, &disk, sizeof(disk)))
            return RC_CORRUPT;
        part_file_name(disk.id, name);
        known_add(known, name);
        part_deletes_name(disk.id, disk.deletes_generation, name);
        known_add(known, name);
        rc = open_part(store, &disk, err);
    }
    for (uint32_t i = 0; i < head.spend_count && rc == RC_OK; i++) {
        struct manifest_spend_disk disk;
        char name[64];
        if (!take(&bytes, &disk, sizeof(disk)))
            return RC_CORRUPT;
        spend_file_name((int32_t)disk.period, disk.generation, name);
        known_add(known, name);
        spend_book_add(&store->book, (int32_t)disk.period, disk.generation);
    }
    return rc;
}

enum rc trace_manifest_load(struct trace_store *store, struct err *err)
{
    struct buf buf;
    struct known_files known = {.store = store};
    map_init(&known.names);
    buf_init(&buf, MANIFEST_BYTES_MAX);
    enum rc rc = manifest_load(store->fs, store->directory, MANIFEST_NAME, MANIFEST_KIND,
                               MANIFEST_VERSION, &buf, err);
    if (rc == RC_OK)
        rc = read_manifest(store, buf_str(&buf), &known, err);
    else if (rc == RC_NOT_FOUND)
        rc = RC_OK; /* the first time */
    if (rc == RC_OK) {
        if (err)
            *err = (struct err){0};
        rc = file_list(store->fs, store->directory, remove_leftover, &known);
    }
    if (rc != RC_OK && err && err->code == ERR_NONE)
        err_set(err, ERR_INTERNAL, "%s/%s: %s", store->directory, MANIFEST_NAME, rc_name(rc));
    for (size_t i = 0; i < known.count; i++)
        free(known.owned[i]);
    free(known.owned);
    map_fini(&known.names);
    buf_fini(&buf);
    return rc;
}

/* ---- one change of the set of parts ---- */

/* `removed` parts [at, at + removed) are replaced by `added` (may be NULL); `sealed` is a frozen
 * tail that the change takes up, or NULL. */
struct change {
    size_t at, removed;
    struct part *added;
    struct tail *sealed;
    uint64_t sealed_seq;
    const struct part_input *inputs; /* that `added` was built from */
    size_t input_count;
};

/* Rows deleted while the part was being built. */
static void carry_deletes(const struct change *change)
{
    uint32_t to = 0;
    for (size_t k = 0; k < change->input_count; k++) {
        const struct part_input *input = &change->inputs[k];
        for (uint32_t row = 0; row < input->count; row++) {
            if (input->kept && !(input->kept[row / 64] >> row % 64 & 1))
                continue;
            if (change->added && rowset_is_deleted(input->rows, row))
                rowset_delete(part_rows(change->added), to);
            to++;
        }
    }
}

static enum rc store_deletes(struct trace_store *store, struct part_entry *parts, size_t count,
                             struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t deleted = atomic_load(&part_rows(parts[i].part)->deleted_count);
        if (deleted == parts[i].deletes_stored)
            continue;
        uint64_t generation = store->deletes_next++;
        enum rc rc =
            part_deletes_store(store->fs, store->directory, parts[i].part, generation, err);
        if (rc != RC_OK)
            return rc;
        parts[i].deletes_generation = generation;
        parts[i].deletes_stored = deleted;
    }
    return RC_OK;
}

static void remove_file(struct trace_store *store, const char *name)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", store->directory, name);
    enum rc rc = file_remove(store->fs, path);
    UNUSED(rc); /* else it is a leftover for the next opening */
}

/* Files that the old list of parts names and the new one does not. */
static void remove_unnamed(struct trace_store *store, const struct part_entry *old,
                           size_t old_count, const struct part_entry *new, size_t new_count)
{
    for (size_t i = 0; i < old_count; i++) {
        const struct part_entry *same = NULL;
        for (size_t k = 0; k < new_count && !same; k++)
            if (new[k].part == old[i].part)
                same = &new[k];
        char name[64];
        if (!same) {
            part_file_name(part_id(old[i].part), name);
            remove_file(store, name);
        }
        if (old[i].deletes_generation &&
            (!same || same->deletes_generation != old[i].deletes_generation)) {
            part_deletes_name(part_id(old[i].part), old[i].deletes_generation, name);
            remove_file(store, name);
        }
    }
}

/* Memory follows the manifest. */
static void change_apply(struct trace_store *store, const struct change *change,
                         struct part_entry *parts, size_t count, struct spend_change *spend)
{
    struct part_entry *old = store->parts;
    size_t old_count = store->part_count;
    pthread_mutex_lock(&store->mutex);
    struct tail *frozen[VIEW_TAILS_MAX];
    size_t frozen_count = trace_frozen(store, frozen), left = 0;
    for (size_t i = 0; i < frozen_count; i++)
        if (frozen[i] != change->sealed)
            frozen[left++] = frozen[i];
    store->parts = parts;
    store->part_count = count;
    store->sealed_seq = change->sealed_seq;
    spend_book_apply(&store->book, spend);
    trace_view_publish(store, frozen, left);
    pthread_mutex_unlock(&store->mutex);
    remove_unnamed(store, old, old_count, parts, count);
    for (size_t i = change->at; i < change->at + change->removed; i++)
        rowset_unref(part_rows(old[i].part));
    free(old);
    log_drop_before(store->log, store->sealed_seq + 1);
}

/* Publishes the change; takes `change->added` in any case. */
static enum rc change_publish(struct trace_store *store, const struct change *change,
                              struct err *err)
{
    pthread_mutex_lock(&store->checkpoint);
    carry_deletes(change);
    size_t count = 0;
    struct part_entry *parts = xcalloc(store->part_count + 2, sizeof(*parts));
    for (size_t i = 0; i < store->part_count; i++) {
        if (i == change->at && change->added)
            parts[count++] = (struct part_entry){.part = change->added};
        if (i < change->at || i >= change->at + change->removed)
            parts[count++] = store->parts[i];
    }
    if (change->at >= store->part_count && change->added)
        parts[count++] = (struct part_entry){.part = change->added};
    struct spend_change spend = {0};
    enum rc rc = store_deletes(store, parts, count, err);
    if (rc == RC_OK)
        rc = spend_book_prepare(&store->book, change->sealed ? tail_spend(change->sealed) : NULL,
                                &spend, err);
    if (rc == RC_OK)
        rc = trace_manifest_store(store, parts, count, change->sealed_seq, &spend, err);
    if (rc == RC_OK) {
        change_apply(store, change, parts, count, &spend);
    } else {
        /* Files are left: the manifest that names them may have been placed before it failed. */
        spend_change_fini(&spend);
        free(parts);
        if (change->added)
            rowset_unref(part_rows(change->added));
    }
    pthread_mutex_unlock(&store->checkpoint);
    return rc;
}

/* Builds a part of the inputs and publishes it in the place of parts [at, at + removed). */
static enum rc replace_parts(struct trace_store *store, struct change *change,
                             struct part_input *inputs, size_t count, struct err *err)
{
    struct part_built built;
    uint64_t id = store->part_next++;
    enum rc rc = part_build(store->fs, store->directory, id, inputs, count,
                            store->seal_failures_row >= SALVAGE_AFTER_FAILURES, &built, err);
    if (rc == RC_OK && built.rows > 0)
        rc = part_open(store->fs, store->directory, id, &change->added, err);
    if (rc != RC_OK)
        return rc;
    if (built.records_unreadable > 0) {
        atomic_fetch_add(&store->lost_disk, built.records_unreadable);
        log_event(LOG_ERROR, "trace_bodies_lost", LOG_I64("records", built.records_unreadable));
    }
    change->inputs = inputs;
    change->input_count = count;
    return change_publish(store, change, err);
}

/* ---- sealing ---- */

enum rc trace_seal(struct trace_store *store, struct err *err)
{
    struct tail *frozen[VIEW_TAILS_MAX];
    pthread_mutex_lock(&store->mutex);
    size_t count = trace_frozen(store, frozen);
    if (count > 0)
        rowset_ref(tail_rows(frozen[0]));
    pthread_mutex_unlock(&store->mutex);
    if (count == 0)
        return RC_NOT_FOUND;
    struct rowset *rows = tail_rows(frozen[0]);
    struct change change = {.at = store->part_count,
                            .sealed = frozen[0],
                            .sealed_seq = MAX(store->sealed_seq, rows->last_seq)};
    struct part_input input;
    part_input_init(&input, rows, tail_count(frozen[0]));
    enum rc rc = replace_parts(store, &change, &input, 1, err);
    part_input_fini(&input);
    rowset_unref(rows);
    return rc;
}

/* ---- merging ---- */

/* Small parts of about the same size: each row is rewritten once for every factor of four. */
static unsigned part_tier(const struct part_entry *entry)
{
    unsigned tier = 0;
    for (uint32_t rows = part_rows(entry->part)->row_count; rows >= 4096; rows /= 4)
        tier++;
    return tier;
}

/* A run of parts to merge: [*at, *at + *count). */
static bool find_merge(const struct trace_store *store, size_t *at, size_t *count)
{
    for (*at = 0; *at < store->part_count; ++*at) {
        unsigned tier = part_tier(&store->parts[*at]);
        uint32_t rows = 0;
        for (*count = 0; *at + *count < store->part_count && *count < MERGE_PARTS_MAX; ++*count) {
            const struct part_entry *entry = &store->parts[*at + *count];
            uint32_t more = part_rows(entry->part)->row_count;
            if (part_tier(entry) > tier || rows + more > PART_ROWS_MAX ||
                atomic_load(&part_rows(entry->part)->damaged))
                break;
            rows += more;
        }
        if (*count >= MERGE_PARTS_MIN)
            return true;
    }
    return false;
}

static enum rc merge_parts(struct trace_store *store, size_t at, size_t count, struct err *err)
{
    struct part_input inputs[MERGE_PARTS_MAX];
    for (size_t i = 0; i < count; i++) {
        struct rowset *rows = part_rows(store->parts[at + i].part);
        part_input_init(&inputs[i], rows, rows->row_count);
    }
    struct change change = {.at = at, .removed = count, .sealed_seq = store->sealed_seq};
    enum rc rc = replace_parts(store, &change, inputs, count, err);
    for (size_t i = 0; i < count; i++)
        part_input_fini(&inputs[i]);
    return rc;
}

/* A part with rows deleted is rewritten at once: what was erased shall leave the disk. */
static bool find_rewrite(const struct trace_store *store, size_t *at)
{
    for (*at = 0; *at < store->part_count; ++*at) {
        struct rowset *rows = part_rows(store->parts[*at].part);
        if (atomic_load(&rows->deleted_count) > 0 && !atomic_load(&rows->damaged))
            return true;
    }
    return false;
}

/* ---- erasing ---- */

/* The names of erased end users leave the book's files, when no other change took them along. */
static enum rc write_forgotten(struct trace_store *store, struct err *err)
{
    struct change change = {.at = store->part_count, .sealed_seq = store->sealed_seq};
    return change_publish(store, &change, err);
}

static bool has_forgotten(struct trace_store *store)
{
    pthread_mutex_lock(&store->checkpoint);
    bool has = store->book.forgotten_count > 0;
    pthread_mutex_unlock(&store->checkpoint);
    return has;
}

static void forget_user(struct trace_store *store, struct id project, struct str user)
{
    spend_book_forget_user(&store->book, project, user);
    pthread_mutex_lock(&store->mutex);
    for (size_t i = 0; i < store->view->count; i++)
        if (!part_of(store->view->rows[i]))
            spend_forget_user(tail_spend(tail_of(store->view->rows[i])), project, user);
    pthread_mutex_unlock(&store->mutex);
}

struct erase_scan {
    struct rowset *rows;
    uint64_t before_seq;
    uint64_t count;
};

static enum rc erase_row(void *arg, uint32_t row)
{
    struct erase_scan *scan = arg;
    int64_t seq;
    enum rc rc = rowset_value(scan->rows, COLUMN_SEQ, row, &seq);
    if (rc == RC_OK && (uint64_t)seq < scan->before_seq)
        scan->count += rowset_delete(scan->rows, row);
    return rc;
}

void trace_apply_erase(struct trace_store *store, const struct record_erase *erase, uint64_t seq,
                       uint64_t *count)
{
    *count = 0;
    pthread_mutex_lock(&store->checkpoint);
    /* Nobody changes the view now: the keeper would need the checkpoint, and the writer is us. */
    struct trace_view *view = store->view;
    for (size_t i = 0; i < view->count; i++) {
        struct rowset *rows = view->rows[i];
        uint32_t n = part_of(rows) ? rows->row_count : tail_count(tail_of(rows));
        struct erase_scan scan = {.rows = rows, .before_seq = seq};
        enum rc rc =
            id_is_zero(erase->call)
                ? query_each_of_user(rows, n, erase->project, erase->user, erase_row, &scan)
                : query_each_of_id(rows, n, erase->project, erase->call, erase_row, &scan);
        if (rc == RC_CORRUPT)
            trace_mark_damaged(store, rows);
        *count += scan.count;
    }
    if (id_is_zero(erase->call))
        forget_user(store, erase->project, erase->user);
    atomic_fetch_add(&store->rows_deleted, *count);
    pthread_mutex_unlock(&store->checkpoint);
}

/* ---- retention ---- */

void trace_set_retention(struct trace_store *store, struct id project, int64_t age_ns_max,
                         int64_t bytes_max)
{
    pthread_mutex_lock(&store->mutex);
    size_t i = 0;
    while (i < store->retention_count && !id_eq(store->retentions[i].project, project))
        i++;
    if (i == store->retention_count)
        store->retentions =
            xrealloc(store->retentions, ++store->retention_count * sizeof(*store->retentions));
    store->retentions[i] = (struct retention){project, age_ns_max, bytes_max};
    store->retained_at_ns = 0;
    store->keeper_nudged = true;
    pthread_cond_signal(&store->wake_keeper);
    pthread_mutex_unlock(&store->mutex);
}

static struct retention retention_of(struct trace_store *store, struct str project)
{
    struct retention found = {0};
    pthread_mutex_lock(&store->mutex);
    for (size_t i = 0; i < store->retention_count; i++) {
        const struct retention *r = &store->retentions[i];
        bool own = str_eq(str_make(r->project.bytes, 16), project);
        if (own || (id_is_zero(r->project) && id_is_zero(found.project)))
            found = *r;
        if (own)
            break;
    }
    pthread_mutex_unlock(&store->mutex);
    return found;
}

/* What of each project is kept, counted from the newest part backwards. */
struct kept_bytes {
    struct map by_project; /* project's 16 bytes → struct kept */
};

struct kept {
    char project[16];
    int64_t bytes;
};

static struct kept *kept_of(struct kept_bytes *all, struct str project)
{
    struct kept *kept = map_get(&all->by_project, project);
    if (!kept) {
        kept = xcalloc(1, sizeof(*kept));
        memcpy(kept->project, project.p, MIN(project.n, sizeof(kept->project)));
        map_put(&all->by_project, str_make(kept->project, sizeof(kept->project)), kept);
    }
    return kept;
}

/* Deletes the part's rows of one project that are too old, or too many bytes back. A row counts
 * with its share of the part's file. */
static enum rc retire_rows(struct trace_store *store, struct part *part, struct str project,
                           uint32_t code, struct kept_bytes *all)
{
    struct retention limit = retention_of(store, project);
    if (limit.age_ns_max == 0 && limit.bytes_max == 0)
        return RC_OK;
    struct rowset *rows = part_rows(part);
    int64_t row_bytes = MAX(part_bytes(part) / rows->row_count, 1);
    int64_t oldest = limit.age_ns_max > 0 ? clock_wall_ns() - limit.age_ns_max : INT64_MIN;
    if (limit.bytes_max == 0 && rows->started_min_ns >= oldest)
        return RC_OK;
    struct kept *kept = kept_of(all, project);
    for (uint32_t row = rows->row_count; row-- > 0;) {
        struct column_view projects, started;
        enum rc rc = rows->calls->text_view(rows, TEXT_PROJECT, row / GRANULE_ROWS, &projects);
        if (rc == RC_OK)
            rc = rows->calls->view(rows, COLUMN_STARTED_NS, row / GRANULE_ROWS, &started);
        if (rc != RC_OK)
            return rc;
        if (view_code(&projects, row % GRANULE_ROWS) != code || rowset_is_deleted(rows, row))
            continue;
        bool old = view_value(&started, row % GRANULE_ROWS) < oldest;
        bool over = limit.bytes_max > 0 && kept->bytes + row_bytes > limit.bytes_max;
        if (old || over)
            atomic_fetch_add(&store->rows_deleted, rowset_delete(rows, row));
        else
            kept->bytes += row_bytes;
    }
    return RC_OK;
}

static void retire_part(struct trace_store *store, struct part *part, struct kept_bytes *all)
{
    struct rowset *rows = part_rows(part);
    uint32_t count;
    bool sorted;
    enum rc rc = rows->calls->texts(rows, TEXT_PROJECT, &count, &sorted);
    for (uint32_t code = 0; code < count && rc == RC_OK; code++)
        rc = retire_rows(store, part, rows->calls->text(rows, TEXT_PROJECT, code), code, all);
    if (rc == RC_CORRUPT)
        trace_mark_damaged(store, rows);
}

/* Marks what is to go; find_rewrite then finds the parts. Parts wholly gone vanish with that. */
static void retire(struct trace_store *store)
{
    pthread_mutex_lock(&store->mutex);
    int64_t now = clock_monotonic_ns();
    bool due = store->retention_count > 0 &&
               (store->retained_at_ns == 0 || now - store->retained_at_ns >= RETENTION_EVERY_NS);
    store->retained_at_ns = due ? now : store->retained_at_ns;
    pthread_mutex_unlock(&store->mutex);
    if (!due)
        return;
    struct kept_bytes all;
    map_init(&all.by_project);
    for (size_t i = store->part_count; i-- > 0;)
        retire_part(store, store->parts[i].part, &all);
    MAP_FOR_EACH (slot, &all.by_project)
        free(slot->value);
    map_fini(&all.by_project);
}

/* ---- thread ---- */

bool trace_step_keep(struct trace_store *store)
{
    struct err err = {0};
    size_t at, count;
    enum rc rc = trace_seal(store, &err);
    if (rc == RC_NOT_FOUND) {
        retire(store);
        if (find_rewrite(store, &at))
            rc = merge_parts(store, at, 1, &err);
        else if (has_forgotten(store))
            rc = write_forgotten(store, &err);
        else if (find_merge(store, &at, &count))
            rc = merge_parts(store, at, count, &err);
    }
    store->seal_failures_row = rc == RC_OK || rc == RC_NOT_FOUND ? 0 : store->seal_failures_row + 1;
    if (rc == RC_OK) {
        /* The writer may wait for a tail to be sealed. */
        ring_wake(store->ring);
        return true;
    }
    if (rc != RC_NOT_FOUND && atomic_fetch_add(&store->seal_failures, 1) == 0)
        log_event(LOG_ERROR, "trace_seal_failed", LOG_Z("reason", err.message));
    return false;
}

void *trace_keeper_main(void *arg)
{
    struct trace_store *store = arg;
    for (;;) {
        bool again = trace_step_keep(store);
        pthread_mutex_lock(&store->mutex);
        int64_t due =
            clock_monotonic_ns() +
            (atomic_load(&store->seal_failures) > 0 ? RETRY_EVERY_NS : RETENTION_EVERY_NS);
        struct timespec until = {due / NS_PER_S, due % NS_PER_S};
        while (!again && !store->stopping && !store->keeper_nudged)
            if (pthread_cond_timedwait(&store->wake_keeper, &store->mutex, &until) != 0)
                break;
        bool stopping = store->stopping;
        store->keeper_nudged = false;
        pthread_mutex_unlock(&store->mutex);
        if (stopping)
            return NULL;
    }
}
