/* Views: what readers see. Taking one is a reference under a mutex that is held for nanoseconds;
 * parts and dead sets are shared between views by reference. */
#include "text/json.h"
#include "vector/index_private.h"
#include <stdlib.h>

struct index_part *index_part_new(struct index_tail *tail, struct index_segment *segment)
{
    struct index_part *part = xcalloc(1, sizeof(*part));
    part->refs = 1;
    part->tail = tail;
    part->segment = segment;
    return part;
}

void index_part_release(struct index_part *part)
{
    if (atomic_fetch_sub(&part->refs, 1) > 1)
        return;
    if (part->tail)
        index_tail_free(part->tail);
    index_segment_close(part->segment);
    free(part);
}

static void dead_release(struct index_dead *dead)
{
    if (dead && atomic_fetch_sub(&dead->refs, 1) == 1)
        free(dead);
}

struct index_view *index_view_take(struct index *index)
{
    pthread_mutex_lock(&index->viewing);
    struct index_view *view = index->view;
    atomic_fetch_add(&view->refs, 1);
    pthread_mutex_unlock(&index->viewing);
    return view;
}

void index_view_release(struct index_view *view)
{
    if (atomic_fetch_sub(&view->refs, 1) > 1)
        return;
    for (size_t i = 0; i < view->count; i++)
        index_view_forget(&view->parts[i]);
    free(view);
}

void index_view_forget(struct index_view_part *vp)
{
    index_part_release(vp->part);
    dead_release(vp->dead);
}

struct index_view *index_view_copy(const struct index_view *view)
{
    struct index_view *copy = xmalloc(sizeof(*copy));
    memcpy(copy, view, sizeof(*copy));
    copy->refs = 1;
    for (size_t i = 0; i < copy->count; i++) {
        atomic_fetch_add(&copy->parts[i].part->refs, 1);
        if (copy->parts[i].dead)
            atomic_fetch_add(&copy->parts[i].dead->refs, 1);
    }
    return copy;
}

void index_view_publish(struct index *index, struct index_view *view)
{
    pthread_mutex_lock(&index->viewing);
    struct index_view *old = index->view;
    index->view = view;
    pthread_mutex_unlock(&index->viewing);
    if (old)
        index_view_release(old);
}

/* A dead set that only this view has, with room for `rows`. */
static struct index_dead *dead_own(struct index_dead *dead, uint32_t rows)
{
    if (dead && atomic_load(&dead->refs) == 1 && dead->bits >= rows)
        return dead;
    uint32_t bits = (uint32_t)ALIGN_UP(rows, 64);
    struct index_dead *own = xcalloc(1, sizeof(*own) + bits / 8);
    own->refs = 1;
    own->bits = bits;
    if (dead) {
        own->count = dead->count;
        memcpy(own->words, dead->words, MIN(dead->bits, bits) / 8);
    }
    dead_release(dead);
    return own;
}

void index_view_kill(struct index_view *view, size_t part, uint32_t row)
{
    struct index_view_part *vp = &view->parts[part];
    uint32_t capacity = vp->part->tail ? vp->part->tail->rows_max : vp->rows;
    vp->dead = dead_own(vp->dead, capacity);
    ASSERT(!bitmap_get(vp->dead->words, row));
    bitmap_set(vp->dead->words, row);
    vp->dead->count++;
}

/* The map knows the latest row of an id; an older view may have to look for the one before. */
static bool tail_find(struct index_tail *tail, struct str id, uint32_t rows, uint32_t *row)
{
    pthread_rwlock_rdlock(&tail->lock);
    uintptr_t found = (uintptr_t)map_get(&tail->ids, id);
    pthread_rwlock_unlock(&tail->lock);
    if (found == 0)
        return false;
    *row = (uint32_t)found - 1;
    if (*row < rows)
        return true;
    for (*row = rows; *row > 0;)
        if (str_eq(tail->items[--*row].id, id))
            return true;
    return false;
}

bool index_view_find(const struct index_view *view, struct str id, size_t *part, uint32_t *row)
{
    for (size_t i = view->count; i-- > 0;) {
        const struct index_view_part *vp = &view->parts[i];
        struct index_tail *tail = vp->part->tail;
        bool found = tail ? tail_find(tail, id, vp->rows, row)
                          : rows_segment_find(vp->part->segment->rows, id, row);
        if (!found || index_is_dead(vp, *row))
            continue;
        *part = i;
        return true;
    }
    return false;
}

/* ---- rows of a part ---- */

enum rc index_part_row(const struct index_part *part, uint32_t row, struct index_row *out)
{
    if (part->segment)
        return rows_segment_row(part->segment->rows, row, out);
    *out = part->tail->items[row];
    return RC_OK;
}

uint64_t index_part_number(const struct index_part *part, uint32_t row)
{
    return part->segment ? rows_segment_number(part->segment->rows, row) : part->tail->numbers[row];
}

bool index_part_disabled(const struct index_part *part, uint32_t row)
{
    return part->segment ? rows_segment_is_disabled(part->segment->rows, row)
                         : part->tail->items[row].disabled;
}

enum rc index_part_payload(const struct index_part *part, uint32_t row, struct arena *arena,
                           yyjson_val **out)
{
    struct index_row item;
    *out = NULL;
    if (part->tail) {
        *out = yyjson_doc_get_root(part->tail->payloads[row]);
        return RC_OK;
    }
    enum rc rc = rows_segment_row(part->segment->rows, row, &item);
    if (rc != RC_OK || item.payload.n == 0)
        return rc;
    yyjson_alc alc = json_arena_alc(arena);
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)item.payload.p, item.payload.n,
                                       YYJSON_READ_NOFLAG, &alc, NULL);
    *out = yyjson_doc_get_root(doc);
    return doc ? RC_OK : RC_LIMIT; /* it was valid when it was put in */
}
