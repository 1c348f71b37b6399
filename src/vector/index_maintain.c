/* Maintenance: full tails become segments, segments of one size are merged, dead rows are dropped.
 * The work is done beside readers and writers; only the exchange of parts takes the lead, and only
 * after the manifest that names the new segment is durable. */
#include "vector/index_private.h"
#include <stdlib.h>

#define MERGE_SEGMENTS 6 /* of about one size */
#define MERGE_ROWS_MAX (4u * 1024 * 1024)
#define SIZE_STEP      8  /* between two sizes */
#define DEAD_SHARE     10 /* percent at which a segment is written anew */
#define SEAL_SHARE     4  /* a tail this part full is worth a segment */

/* ---- the manifest ---- */

/* Dead rows are stored when they have changed. They may be told of by records that come behind the
 * watermark: so these must be durable first. */
static enum rc store_dead(struct index *index, const struct index_view *view, struct err *err)
{
    enum rc rc = RC_OK;
    for (size_t p = 0; rc == RC_OK && p < view->count; p++) {
        struct index_segment *s = view->parts[p].part->segment;
        const struct index_dead *dead = view->parts[p].dead;
        if (!s || !dead || dead->count == s->dead_stored)
            continue;
        uint64_t generation = index->next_file++;
        rc = index_dead_store(index, s->id, generation, dead, err);
        if (rc == RC_OK) {
            s->dead_file = generation;
            s->dead_stored = dead->count;
        }
    }
    return rc;
}

static enum rc sync_log(struct index *index, struct err *err)
{
    uint64_t synced = log_synced_seq(index->log);
    enum rc rc = RC_OK;
    if (synced + 1 < log_next_seq(index->log)) {
        rc = log_write(index->log);
        if (rc == RC_OK)
            rc = log_sync(index->log, &synced);
    }
    if (rc != RC_OK)
        err_set(err, ERR_INTERNAL, "the index's log could not be made durable");
    return rc;
}

enum rc index_store_view(struct index *index, const struct index_view *view,
                         const struct index_config *config, uint64_t watermark, struct err *err)
{
    struct index_manifest manifest = {
        .config = *config, .next_row = index->next_row, .watermark = watermark};
    struct index_manifest_segment segments[INDEX_PARTS_MAX];
    enum rc rc = sync_log(index, err);
    if (rc == RC_OK)
        rc = store_dead(index, view, err);
    for (size_t p = 0; p < view->count; p++) {
        const struct index_segment *s = view->parts[p].part->segment;
        if (s)
            segments[manifest.segment_count++] =
                (struct index_manifest_segment){s->id, s->dead_file};
    }
    manifest.segments = segments;
    manifest.next_file = index->next_file;
    return rc == RC_OK ? index_manifest_store(index->fs, index->folder, &manifest, err) : rc;
}

/* Files of dead rows that the manifest named before and no longer does. */
struct stale {
    uint64_t id, generation;
};

static size_t note_dead_files(const struct index_view *view, struct stale *out)
{
    size_t n = 0;
    for (size_t p = 0; p < view->count; p++) {
        const struct index_segment *s = view->parts[p].part->segment;
        if (s && s->dead_file)
            out[n++] = (struct stale){s->id, s->dead_file};
    }
    return n;
}

static void remove_stale(struct index *index, const struct index_view *view,
                         const struct stale *stale, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < view->count; p++) {
            const struct index_segment *s = view->parts[p].part->segment;
            if (s && s->id == stale[i].id && s->dead_file != stale[i].generation)
                index_dead_remove(index, stale[i].id, stale[i].generation);
        }
}

/* ---- the exchange ---- */

struct exchange {
    const struct index_view_part *old; /* as they were when the segment was built */
    size_t count;
    uint32_t **maps;
    struct index_segment *segment;
};

/* Rows that died while the segment was being built. */
static void carry_dead(struct index_view *view, size_t at, const struct index_view *before,
                       size_t first, const struct exchange *x)
{
    for (size_t i = 0; i < x->count; i++)
        for (uint32_t row = 0; row < x->old[i].rows; row++)
            if (x->maps[i][row] != UINT32_MAX && index_is_dead(&before->parts[first + i], row))
                index_view_kill(view, at, x->maps[i][row]);
}

static struct index_view *exchanged(struct index *index, const struct exchange *x, size_t first,
                                    struct index_part *part)
{
    struct index_view *view = index_view_copy(index->view);
    for (size_t i = 0; i < x->count; i++)
        index_view_forget(&view->parts[first + i]);
    size_t behind = first + x->count;
    memmove(&view->parts[first + 1], &view->parts[behind],
            (view->count - behind) * sizeof(view->parts[0]));
    view->count -= x->count - 1;
    atomic_fetch_add(&part->refs, 1);
    view->parts[first] =
        (struct index_view_part){.part = part,
                                 .rows = rows_segment_count(x->segment->rows),
                                 .disabled = rows_segment_disabled(x->segment->rows)};
    carry_dead(view, first, index->view, first, x);
    return view;
}

/* Puts the segment in the place of the parts, which lie side by side in every view. */
static enum rc exchange(struct index *index, const struct exchange *x, struct err *err)
{
    struct stale stale[INDEX_PARTS_MAX];
    size_t first = 0;
    index_lead(index);
    while (first < index->view->count && index->view->parts[first].part != x->old[0].part)
        first++;
    ASSERT(first + x->count <= index->view->count);
    struct index_part *part = index_part_new(NULL, x->segment);
    struct index_view *view = exchanged(index, x, first, part);
    uint64_t watermark = index->watermark;
    for (size_t i = 0; i < x->count; i++)
        if (x->old[i].part->tail)
            watermark = MAX(watermark, x->old[i].part->tail->log_seq);
    size_t stale_count = note_dead_files(index->view, stale);
    enum rc rc = index_store_view(index, view, &index->config, watermark, err);
    if (rc == RC_OK) {
        for (size_t i = 0; i < x->count; i++)
            if (x->old[i].part->segment)
                x->old[i].part->segment->obsolete = true;
        remove_stale(index, view, stale, stale_count);
        index->watermark = watermark;
        index_view_publish(index, view);
        log_drop_before(index->log, watermark + 1);
    } else {
        /* The manifest may have got through all the same: the files stay for the next opening. */
        index_view_release(view);
    }
    index_part_release(part);
    index_unlead(index);
    return rc;
}

static enum rc rebuild(struct index *index, const struct index_view_part *parts, size_t count,
                       bool (*cancelled)(void *arg), void *arg, struct err *err)
{
    struct exchange x = {.old = parts, .count = count};
    x.maps = xcalloc(count, sizeof(*x.maps));
    index_lead(index);
    uint64_t id = index->next_file++;
    index_unlead(index);
    enum rc rc = index_segment_build(index, parts, count, id, x.maps, cancelled, arg, err);
    if (rc == RC_OK)
        rc = index_segment_open(index, id, &x.segment, err);
    if (rc == RC_OK)
        rc = exchange(index, &x, err);
    for (size_t i = 0; i < count; i++)
        free(x.maps[i]);
    free(x.maps);
    return rc;
}

/* ---- sealing ---- */

size_t index_tails_waiting(struct index *index)
{
    struct index_view *view = index_view_take(index);
    size_t n = 0;
    for (size_t p = 0; p + 1 < view->count; p++)
        n += view->parts[p].part->tail != NULL;
    index_view_release(view);
    return n;
}

/* Ends the growing tail if it is worth a segment: rows go into a new one from now on. */
static void end_tail(struct index *index)
{
    index_lead(index);
    struct index_view *now = index->view;
    struct index_part *last = now->count ? now->parts[now->count - 1].part : NULL;
    if (last && last->tail && now->count < INDEX_PARTS_MAX &&
        (last->tail->rows >= MAX(last->tail->rows_max / SEAL_SHARE, 1u) ||
         last->tail->bytes >= INDEX_TAIL_BYTES_MAX / SEAL_SHARE)) {
        struct index_view *view = index_view_copy(now);
        view->parts[view->count++] =
            (struct index_view_part){.part = index_part_new(index_tail_new(index), NULL)};
        if (log_pending_bytes(index->log) == 0)
            log_rotate(index->log);
        index_view_publish(index, view);
    }
    index_unlead(index);
}

enum rc index_seal(struct index *index, bool (*cancelled)(void *arg), void *arg, struct err *err)
{
    enum rc rc = RC_OK;
    pthread_mutex_lock(&index->sealing);
    atomic_store(&index->is_sealing, true);
    end_tail(index);
    for (bool more = true; rc == RC_OK && more;) {
        struct index_view *view = index_view_take(index);
        size_t p = 0; /* the oldest tail: the watermark moves in order */
        while (p < view->count && !view->parts[p].part->tail)
            p++;
        more = p + 1 < view->count;
        if (more)
            rc = rebuild(index, &view->parts[p], 1, cancelled, arg, err);
        index_view_release(view);
    }
    atomic_store(&index->is_sealing, false);
    pthread_mutex_unlock(&index->sealing);
    return rc;
}

/* ---- merging ---- */

static uint32_t alive(const struct index_view_part *vp)
{
    return vp->rows - (vp->dead ? vp->dead->count : 0);
}

static unsigned size_of(const struct index *index, uint32_t rows)
{
    unsigned size = 0;
    for (uint64_t step = index->tail_rows_max; rows > step; step *= SIZE_STEP)
        size++;
    return size;
}

/* Segments side by side that are worth one: enough of a size or smaller, or one full of dead rows.
 */
static size_t choose(const struct index *index, const struct index_view *view, size_t *first)
{
    size_t segments = 0;
    while (segments < view->count && view->parts[segments].part->segment)
        segments++;
    for (unsigned size = 0; size < 10; size++) {
        size_t run = 0;
        uint64_t rows = 0;
        for (size_t p = 0; p <= segments; p++) {
            if (p < segments && size_of(index, alive(&view->parts[p])) <= size) {
                run++;
                rows += alive(&view->parts[p]);
                continue;
            }
            if (run >= MERGE_SEGMENTS && rows <= MERGE_ROWS_MAX) {
                *first = p - run;
                return run;
            }
            run = 0;
            rows = 0;
        }
    }
    for (size_t p = 0; p < segments; p++) {
        const struct index_view_part *vp = &view->parts[p];
        if (vp->dead && (uint64_t)vp->dead->count * 100 >= (uint64_t)vp->rows * DEAD_SHARE) {
            *first = p;
            return 1;
        }
    }
    return 0;
}

static enum rc merge(struct index *index, bool (*cancelled)(void *arg), void *arg, struct err *err)
{
    enum rc rc = RC_OK;
    pthread_mutex_lock(&index->merging);
    for (bool more = true; rc == RC_OK && more;) {
        struct index_view *view = index_view_take(index);
        size_t first, count = choose(index, view, &first);
        more = count > 0;
        if (more)
            rc = rebuild(index, &view->parts[first], count, cancelled, arg, err);
        index_view_release(view);
    }
    pthread_mutex_unlock(&index->merging);
    return rc;
}

enum rc index_maintain(struct index *index, bool (*cancelled)(void *arg), void *arg,
                       struct err *err)
{
    enum rc rc = index_seal(index, cancelled, arg, err);
    return rc == RC_OK ? merge(index, cancelled, arg, err) : rc;
}

/* ---- repair ---- */

/* All segments are written anew from their rows: damage is rare, and which of them it was is not
 * worth knowing. */
enum rc index_repair(struct index *index, struct err *err)
{
    enum rc rc = RC_OK;
    pthread_mutex_lock(&index->merging);
    struct index_view *view = index_view_take(index);
    for (size_t p = 0; rc == RC_OK && p < view->count; p++)
        if (view->parts[p].part->segment && alive(&view->parts[p]) > 0)
            rc = rebuild(index, &view->parts[p], 1, NULL, NULL, err);
    index_view_release(view);
    pthread_mutex_unlock(&index->merging);
    return rc;
}
