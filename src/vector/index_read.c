/* Rows by id and in order, and the values that a payload member has. */
#include "vector/index_private.h"
#include "text/json.h"
#include <stdlib.h>

#define WORK_BYTES_MAX (256u * 1024 * 1024)

static enum rc copy_row(const struct index *index, const struct index_row *row, struct arena *arena,
                        struct index_row *out)
{
    *out = (struct index_row){.disabled = row->disabled};
    out->id = arena_copy(arena, row->id);
    out->payload = arena_copy(arena, row->payload);
    bool good = out->id.p && out->payload.p;
    for (size_t t = 0; t < index->config.text_count; t++) {
        out->texts[t] = arena_copy(arena, row->texts[t]);
        good &= out->texts[t].p != NULL;
    }
    for (size_t v = 0; v < index->config.vector_count; v++) {
        if (!row->vectors[v])
            continue;
        size_t n = index->config.vectors[v].dimension * sizeof(float);
        float *copy = arena_alloc(arena, n);
        good &= copy != NULL;
        if (copy)
            memcpy(copy, row->vectors[v], n);
        out->vectors[v] = copy;
    }
    return good ? RC_OK : RC_LIMIT;
}

static enum rc failed(enum rc rc, struct err *err)
{
    if (rc == RC_LIMIT)
        return err_set(err, ERR_TOO_LARGE, "the answer needs more memory than it may use");
    if (rc == RC_CORRUPT)
        err_set(err, ERR_INTERNAL, "rows of the index are damaged on disk");
    return rc;
}

enum rc index_get(struct index *index, struct str id, struct arena *arena, struct index_row *out,
                  struct err *err)
{
    struct index_view *view = index_view_take(index);
    size_t part;
    uint32_t at;
    enum rc rc = RC_NOT_FOUND;
    if (index_view_find(view, id, &part, &at)) {
        struct index_row row;
        rc = index_part_row(view->parts[part].part, at, &row);
        if (rc == RC_OK)
            rc = copy_row(index, &row, arena, out);
    }
    index_view_release(view);
    if (rc == RC_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "there is no row \"%.*s\"", STR_ARG(id));
    return failed(rc, err);
}

/* The first row of the part whose number is above `after`. */
static uint32_t first_after(const struct index_view_part *vp, uint64_t after)
{
    uint32_t low = 0, high = vp->rows;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (index_part_number(vp->part, middle) <= after)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum rc index_scroll(struct index *index, const struct expression *filter, uint64_t *cursor,
                     size_t limit, struct arena *arena, struct index_row **out, size_t *count,
                     struct err *err)
{
    struct index_matcher matcher = {.filter = filter, .all_tags = true, .disabled_too = true};
    struct index_view *view = index_view_take(index);
    struct arena scratch;
    uint64_t after = *cursor;
    bool more = false;
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct index_row, MAX(limit, (size_t)1));
    enum rc rc = *out ? RC_OK : RC_LIMIT;
    arena_init(&scratch, 2u << 20);
    for (size_t p = 0; rc == RC_OK && !more && p < view->count; p++) {
        const struct index_view_part *vp = &view->parts[p];
        for (uint32_t at = first_after(vp, after); rc == RC_OK && at < vp->rows; at++) {
            struct index_row row;
            arena_reset(&scratch);
            bool matches;
            rc = index_match_row(vp, at, &matcher, &scratch, &matches);
            if (!matches)
                continue;
            if (*count == limit) {
                more = true;
                break;
            }
            rc = index_part_row(vp->part, at, &row);
            if (rc == RC_OK)
                rc = copy_row(index, &row, arena, &(*out)[(*count)++]);
            *cursor = index_part_number(vp->part, at);
        }
    }
    if (!more)
        *cursor = 0;
    arena_fini(&scratch);
    index_view_release(view);
    return failed(rc, err);
}

/* ---- facets ---- */

struct counting {
    struct map counts; /* value → struct index_facet */
    struct arena *arena;
    struct arena row; /* of one row */
    bool failed;
};

static void count_value(struct counting *c, yyjson_val *value)
{
    struct str text = yyjson_is_str(value) ? json_text(value) : json_write(value, &c->row);
    struct index_facet *facet = map_get(&c->counts, text);
    if (!facet) {
        facet = ARENA_NEW(c->arena, struct index_facet);
        if (facet)
            facet->value = arena_copy(c->arena, text);
        if (!facet || !facet->value.p) {
            c->failed = true;
            return;
        }
        map_put(&c->counts, facet->value, facet);
    }
    facet->count++;
}

static enum rc count_row(struct counting *c, const struct index_part *part, uint32_t row,
                         struct str member)
{
    yyjson_val *payload, *item;
    size_t i, n;
    arena_reset(&c->row);
    enum rc rc = index_part_payload(part, row, &c->row, &payload);
    if (rc != RC_OK)
        return rc;
    yyjson_val *value = yyjson_obj_getn(payload, member.p, member.n);
    if (yyjson_is_arr(value)) {
        yyjson_arr_foreach(value, i, n, item)
        {
            if (!yyjson_is_ctn(item) && !yyjson_is_null(item))
                count_value(c, item);
        }
    } else if (value && !yyjson_is_obj(value) && !yyjson_is_null(value)) {
        count_value(c, value);
    }
    return c->failed ? RC_LIMIT : RC_OK;
}

static int by_count(const void *a, const void *b)
{
    const struct index_facet *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return str_cmp(x->value, y->value);
}

enum rc index_facets(struct index *index, const struct expression *filter, struct str member,
                     size_t limit, struct arena *arena, struct index_facet **out, size_t *count,
                     struct err *err)
{
    struct index_matcher matcher = {.filter = filter, .all_tags = true};
    struct index_view *view = index_view_take(index);
    struct arena work;
    struct counting counting = {.arena = &work};
    enum rc rc = RC_OK;
    arena_init(&work, WORK_BYTES_MAX);
    arena_init(&counting.row, 2u << 20);
    map_init(&counting.counts);
    for (size_t p = 0; rc == RC_OK && p < view->count; p++) {
        const struct index_view_part *vp = &view->parts[p];
        uint64_t *bits;
        size_t matching;
        rc = index_match(vp, &matcher, &work, &bits, &matching);
        for (uint32_t row = 0; rc == RC_OK && row < vp->rows; row++)
            if (!bits || bitmap_get(bits, row))
                rc = count_row(&counting, vp->part, row, member);
    }
    struct index_facet *all = xcalloc(counting.counts.count + 1, sizeof(*all));
    size_t n = 0;
    MAP_FOR_EACH (slot, &counting.counts)
        all[n++] = *(struct index_facet *)slot->value;
    qsort(all, n, sizeof(*all), by_count);
    *count = MIN(n, limit);
    *out = ARENA_NEW_ARRAY(arena, struct index_facet, *count + 1);
    if (rc == RC_OK && (!*out || counting.failed))
        rc = RC_LIMIT;
    for (size_t i = 0; rc == RC_OK && i < *count; i++) {
        (*out)[i] = (struct index_facet){arena_copy(arena, all[i].value), all[i].count};
        rc = (*out)[i].value.p ? RC_OK : RC_LIMIT;
    }
    free(all);
    map_fini(&counting.counts);
    arena_fini(&counting.row);
    arena_fini(&work);
    index_view_release(view);
    return failed(rc, err);
}
