/* Changes. Callers prepare a record each and queue it; the first becomes the leader, writes all
 * that wait into the log, syncs once, applies them in order to a new view and publishes it: group
 * commit. A change is in memory exactly if it is in the log, so what a restart finds is what was
 * seen. */
#include "vector/index_private.h"
#include "base/utf8.h"
#include "text/json.h"
#include <math.h>
#include <stdlib.h>

#define TAILS_WAITING_MAX 8  /* beyond, who adds rows helps to seal */
#define PARTS_SPARE       64 /* of a view: room for one group's tails */
#define GROUP_CHANGES_MAX 256
#define GROUP_ROWS_MAX    (2 * INDEX_BATCH_ROWS_MAX)
#define GROUP_BYTES_MAX   (64u * 1024 * 1024)
#define FILTER_BYTES_MAX  (256u * 1024 * 1024) /* memory of one delete_where */

struct index_change {
    struct index_change *next;
    uint16_t type;
    struct buf record;
    size_t rows;                    /* of an upsert */
    const struct expression *where; /* the record is made from it by the leader */
    uint64_t seq;
    size_t deleted;
    bool done;
    enum rc rc;
    struct err err;
};

/* ---- what may go in ---- */

static enum rc check_vectors(const struct index *index, const struct index_row *row,
                             const char *field, struct err *err)
{
    for (size_t v = 0; v < index->config.vector_count; v++) {
        const struct index_vector_field *vf = &index->config.vectors[v];
        double sum = 0;
        if (!row->vectors[v])
            continue;
        for (unsigned d = 0; d < vf->dimension; d++)
            sum += (double)row->vectors[v][d] * row->vectors[v][d];
        if (!isfinite(sum))
            return err_set_field(err, ERR_BAD_FIELD, field,
                                 "the vector holds a number that is "
                                 "not finite");
        if (sum == 0 && vf->metric == METRIC_COSINE)
            return err_set_field(err, ERR_BAD_FIELD, field,
                                 "the vector is zero, which has no direction: cosine needs one");
    }
    return RC_OK;
}

static enum rc check_row(const struct index *index, const struct index_row *row, size_t number,
                         struct arena *arena, struct err *err)
{
    char field[64];
    snprintf(field, sizeof(field), "rows[%zu]", number);
    if (row->id.n == 0 || row->id.n > INDEX_ID_BYTES_MAX || !utf8_valid(row->id))
        return err_set_field(err, ERR_BAD_FIELD, field, "the id has 1 to %d bytes of UTF-8",
                             INDEX_ID_BYTES_MAX);
    if (row->payload.n > INDEX_PAYLOAD_BYTES_MAX)
        return err_set_field(err, ERR_TOO_LARGE, field, "the payload has at most %d bytes",
                             INDEX_PAYLOAD_BYTES_MAX);
    if (row->payload.n) {
        yyjson_doc *doc;
        enum rc rc = json_read(row->payload, arena, &doc, err);
        if (rc != RC_OK)
            return rc;
        if (!yyjson_is_obj(yyjson_doc_get_root(doc)))
            return err_set_field(err, ERR_BAD_FIELD, field, "the payload is a JSON object");
    }
    for (size_t t = 0; t < index->config.text_count; t++)
        if (row->texts[t].n > INDEX_TEXT_BYTES_MAX || !utf8_valid(row->texts[t]))
            return err_set_field(err, ERR_BAD_FIELD, field, "a text has at most %d bytes of UTF-8",
                                 INDEX_TEXT_BYTES_MAX);
    return check_vectors(index, row, field, err);
}

/* ---- applying ---- */

static void kill_id(struct index_view *view, struct str id, size_t *deleted)
{
    size_t part;
    uint32_t row;
    if (!index_view_find(view, id, &part, &row))
        return;
    index_view_kill(view, part, row);
    if (deleted)
        ++*deleted;
}

static struct index_tail *growing_tail(struct index *index, struct index_view *view)
{
    struct index_part *last = view->count ? view->parts[view->count - 1].part : NULL;
    if (last && last->tail && !index_tail_is_full(last->tail))
        return last->tail;
    ASSERT(view->count < INDEX_PARTS_MAX);
    struct index_tail *tail = index_tail_new(index);
    view->parts[view->count++] = (struct index_view_part){.part = index_part_new(tail, NULL)};
    return tail;
}

/* Takes the memory, whose `record` it is. */
static enum rc apply_upsert(struct index *index, struct index_view *view, char *memory,
                            struct str record, uint64_t seq)
{
    struct rows_reader reader;
    struct index_row row;
    enum rc rc = rows_read_upsert(record, &index->shape, &reader);
    struct index_tail *keeper = NULL;
    if (rc == RC_OK) {
        keeper = growing_tail(index, view);
        index_tail_keep(keeper, memory);
        index->next_row = MAX(index->next_row, reader.first_row + reader.count);
    } else {
        free(memory);
    }
    while (rc == RC_OK && (rc = rows_next_row(&reader, &row)) == RC_OK) {
        kill_id(view, row.id, NULL);
        struct index_tail *tail = growing_tail(index, view);
        if (tail != keeper) { /* the record goes on in the next tail, with memory of its own */
            char *copy = xmalloc(record.n);
            memcpy(copy, record.p, record.n);
            struct str same = str_make(copy, record.n);
            uint32_t read = reader.read - 1;
            keeper->log_seq = seq - 1; /* not all of this one is in it */
            keeper = tail;
            index_tail_keep(tail, copy);
            rc = rows_read_upsert(same, &index->shape, &reader);
            for (uint32_t i = 0; rc == RC_OK && i <= read; i++)
                rc = rows_next_row(&reader, &row);
            if (rc != RC_OK)
                break;
        }
        index_tail_append(tail, index, &row, reader.first_row + reader.read - 1, seq);
        struct index_view_part *vp = &view->parts[view->count - 1];
        vp->rows = tail->rows;
        vp->disabled = tail->disabled;
    }
    return rc == RC_END ? RC_OK : rc;
}

static enum rc apply_delete(struct index_view *view, struct str record, size_t *deleted)
{
    struct rows_reader reader;
    struct str id;
    enum rc rc = rows_read_delete(record, &reader);
    while (rc == RC_OK && (rc = rows_next_id(&reader, &id)) == RC_OK)
        kill_id(view, id, deleted);
    return rc == RC_END ? RC_OK : rc;
}

enum rc index_replay(struct index *index, struct index_view *view, const struct log_record *record)
{
    if (record->type == ROWS_DELETE)
        return apply_delete(view, record->payload, NULL);
    if (record->type != ROWS_UPSERT)
        return RC_CORRUPT;
    char *memory = malloc(record->payload.n + 1);
    if (!memory)
        return RC_LIMIT;
    memcpy(memory, record->payload.p, record->payload.n);
    return apply_upsert(index, view, memory, str_make(memory, record->payload.n), record->seq);
}

static void apply(struct index *index, struct index_view *view, struct index_change *change)
{
    enum rc rc;
    if (change->type == ROWS_DELETE) {
        rc = apply_delete(view, buf_str(&change->record), &change->deleted);
    } else {
        struct str record = buf_str(&change->record);
        char *memory = change->record.p; /* record.start is 0: nothing was consumed */
        change->record = (struct buf){0};
        rc = apply_upsert(index, view, memory, record, change->seq);
    }
    ASSERT(rc == RC_OK); /* we have encoded it ourselves */
}

/* ---- the leader ---- */

void index_lead(struct index *index)
{
    pthread_mutex_lock(&index->leading);
    while (index->has_leader)
        pthread_cond_wait(&index->led, &index->leading);
    index->has_leader = true;
    pthread_mutex_unlock(&index->leading);
}

void index_unlead(struct index *index)
{
    pthread_mutex_lock(&index->leading);
    index->has_leader = false;
    pthread_cond_broadcast(&index->led);
    pthread_mutex_unlock(&index->leading);
}

/* The ids of the rows that match now, as a delete record. */
static enum rc make_where(struct index *index, struct index_change *change)
{
    struct index_matcher matcher = {
        .filter = change->where, .all_tags = true, .disabled_too = true};
    struct arena arena;
    size_t count = 0, capacity = 0;
    struct str *ids = NULL;
    enum rc rc = RC_OK;
    arena_init(&arena, FILTER_BYTES_MAX);
    for (size_t p = 0; rc == RC_OK && p < index->view->count; p++) {
        const struct index_view_part *vp = &index->view->parts[p];
        uint64_t *bits;
        size_t matching;
        rc = index_match(vp, &matcher, &arena, &bits, &matching);
        for (uint32_t row = 0; rc == RC_OK && row < vp->rows; row++) {
            struct index_row item;
            if (bits && !bitmap_get(bits, row))
                continue;
            if (count == capacity) {
                capacity = MAX((size_t)64, capacity * 2);
                ids = xrealloc(ids, capacity * sizeof(*ids));
            }
            rc = index_part_row(vp->part, row, &item);
            ids[count++] = item.id;
        }
    }
    if (rc == RC_OK)
        rc = rows_encode_delete(ids, count, &change->record);
    free(ids);
    arena_fini(&arena);
    if (rc == RC_LIMIT)
        return err_set(&change->err, ERR_TOO_LARGE, "too many rows match: delete them in parts");
    if (rc == RC_CORRUPT)
        err_set(&change->err, ERR_INTERNAL, "rows of the index are damaged on disk");
    return rc;
}

static enum rc log_failed(enum rc rc, struct err *err)
{
    if (rc == RC_FULL)
        return err_set(err, ERR_DISK_FULL, "the disk is full: nothing was changed");
    err_set(err, ERR_INTERNAL, "the index's log could not be written");
    return rc;
}

static void fail_all(struct index_change *group, enum rc rc)
{
    for (struct index_change *change = group; change; change = change->next)
        if (change->rc == RC_OK)
            change->rc = log_failed(rc, &change->err);
}

/* What a failed sync has left goes first, alone: a batch that cannot be written is discarded, and
 * no record that was applied may be in it. */
static enum rc settle(struct index *index)
{
    uint64_t synced;
    if (!index->sync_failed)
        return RC_OK;
    enum rc rc = log_write(index->log);
    if (rc == RC_OK)
        rc = log_sync(index->log, &synced);
    index->sync_failed = rc != RC_OK;
    return rc;
}

/* Writes, syncs, applies and publishes a list of changes. */
static void commit(struct index *index, struct index_change *group)
{
    uint64_t next_row = index->next_row, synced;
    enum rc rc = settle(index);
    if (rc != RC_OK) {
        fail_all(group, rc);
        return;
    }
    if (index->view->count > INDEX_PARTS_MAX - PARTS_SPARE) {
        for (struct index_change *change = group; change; change = change->next)
            change->rc = err_set(&change->err, ERR_OVERLOADED,
                                 "rows wait to be sealed and cannot be: is the disk full?");
        return;
    }
    if (group->where)
        group->rc = make_where(index, group);
    for (struct index_change *change = group; change; change = change->next) {
        if (change->rc != RC_OK)
            continue;
        if (change->type == ROWS_UPSERT) {
            rows_set_first(&change->record, next_row);
            next_row += change->rows;
        }
        change->seq = log_append(index->log, change->type, buf_str(&change->record), NULL);
    }
    rc = log_write(index->log);
    if (rc != RC_OK) {
        log_discard(index->log);
        fail_all(group, rc);
        return;
    }
    /* A failed sync leaves the records in the log's care: they are written again and may last, so
     * they are applied all the same, and the callers told that it is not sure. */
    rc = log_sync(index->log, &synced);
    index->sync_failed = rc != RC_OK;
    struct index_view *view = index_view_copy(index->view);
    for (struct index_change *change = group; change; change = change->next)
        if (change->rc == RC_OK)
            apply(index, view, change);
    index_view_publish(index, view);
    if (rc != RC_OK)
        fail_all(group, rc);
}

/* Takes what waits, up to a bound; a change that looks at the rows first goes alone. */
static struct index_change *take_group(struct index *index)
{
    struct index_change *group = index->waiting, *last = group;
    size_t count = 1, bytes = buf_len(&group->record), rows = group->rows;
    while (!group->where && last->next && !last->next->where && count < GROUP_CHANGES_MAX &&
           bytes + buf_len(&last->next->record) <= GROUP_BYTES_MAX &&
           rows + last->next->rows <= GROUP_ROWS_MAX) {
        last = last->next;
        count++;
        rows += last->rows;
        bytes += buf_len(&last->record);
    }
    index->waiting = last->next;
    if (!index->waiting)
        index->waiting_end = &index->waiting;
    last->next = NULL;
    return group;
}

/* Queues the change and returns when it was made or has failed. */
static enum rc change_make(struct index *index, struct index_change *change, struct err *err)
{
    pthread_mutex_lock(&index->leading);
    *index->waiting_end = change;
    index->waiting_end = &change->next;
    while (!change->done) {
        if (index->has_leader) {
            pthread_cond_wait(&index->led, &index->leading);
            continue;
        }
        index->has_leader = true;
        struct index_change *next, *group = take_group(index);
        pthread_mutex_unlock(&index->leading);
        commit(index, group);
        pthread_mutex_lock(&index->leading);
        for (; group; group = next) {
            next = group->next;
            group->done = true;
        }
        index->has_leader = false;
        pthread_cond_broadcast(&index->led);
    }
    pthread_mutex_unlock(&index->leading);
    buf_fini(&change->record);
    if (change->rc != RC_OK && err)
        *err = change->err;
    return change->rc;
}

/* ---- the interface ---- */

enum rc index_upsert(struct index *index, const struct index_row *rows, size_t count,
                     struct err *err)
{
    struct index_change change = {.type = ROWS_UPSERT, .rows = count};
    struct arena arena;
    enum rc rc = RC_OK;
    if (count == 0)
        return RC_OK;
    if (count > INDEX_BATCH_ROWS_MAX)
        return err_set(err, ERR_TOO_LARGE, "at most %d rows at once", INDEX_BATCH_ROWS_MAX);
    arena_init(&arena, 4 << 20);
    for (size_t i = 0; rc == RC_OK && i < count; i++) {
        rc = check_row(index, &rows[i], i, &arena, err);
        arena_reset(&arena);
    }
    arena_fini(&arena);
    if (rc != RC_OK)
        return rc;
    buf_init(&change.record, ROWS_RECORD_BYTES_MAX);
    rc = rows_encode_upsert(&index->shape, rows, count, &change.record);
    if (rc != RC_OK) {
        buf_fini(&change.record);
        return err_set(err, ERR_TOO_LARGE, "the rows have more than %u MiB: send them in parts",
                       ROWS_RECORD_BYTES_MAX >> 20);
    }
    rc = change_make(index, &change, err);
    if (rc == RC_OK && index_tails_waiting(index) >= TAILS_WAITING_MAX) {
        enum rc sealed = index_seal(index, NULL, NULL, NULL); /* back-pressure */
        UNUSED(sealed);                                       /* the rows are in the log */
    }
    return rc;
}

enum rc index_delete(struct index *index, const struct str *ids, size_t count, size_t *deleted,
                     struct err *err)
{
    struct index_change change = {.type = ROWS_DELETE};
    if (deleted)
        *deleted = 0;
    for (size_t i = 0; i < count; i++)
        if (ids[i].n > INDEX_ID_BYTES_MAX)
            return err_set_field(err, ERR_BAD_FIELD, "ids", "an id has at most %d bytes",
                                 INDEX_ID_BYTES_MAX);
    if (count == 0)
        return RC_OK;
    buf_init(&change.record, ROWS_RECORD_BYTES_MAX);
    if (rows_encode_delete(ids, count, &change.record) != RC_OK) {
        buf_fini(&change.record);
        return err_set(err, ERR_TOO_LARGE, "too many ids: send them in parts");
    }
    enum rc rc = change_make(index, &change, err);
    if (deleted)
        *deleted = change.deleted;
    return rc;
}

enum rc index_delete_where(struct index *index, const struct expression *filter, size_t *deleted,
                           struct err *err)
{
    struct index_change change = {.type = ROWS_DELETE, .where = filter};
    ASSERT(filter);
    buf_init(&change.record, ROWS_RECORD_BYTES_MAX);
    enum rc rc = change_make(index, &change, err);
    if (deleted)
        *deleted = change.deleted;
    return rc;
}
