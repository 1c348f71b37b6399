/* Which rows of a part match: alive, not disabled, the access tags, the filter. */
#include "vector/index_private.h"
#include "text/json.h"

#define ROW_BYTES_MAX (2u << 20) /* to look at one row */

struct looking {
    yyjson_val *payload;
};

static void look_up(void *arg, const struct str *path, size_t path_count,
                    struct expression_value *out)
{
    expression_from_json(((struct looking *)arg)->payload, path, path_count, out);
}

static bool has_tag(yyjson_val *tag, const struct index_matcher *m)
{
    for (size_t i = 0; i < m->tag_count; i++)
        if (str_eq(json_text(tag), m->tags[i]))
            return yyjson_is_str(tag);
    return false;
}

/* A row without tags is everybody's; one whose tags make no sense is nobody's. */
static bool tags_allow(yyjson_val *tags, const struct index_matcher *m)
{
    yyjson_val *tag;
    size_t i, n;
    if (m->all_tags || !tags || yyjson_is_null(tags))
        return true;
    if (yyjson_is_str(tags))
        return has_tag(tags, m);
    if (!yyjson_is_arr(tags))
        return false;
    yyjson_arr_foreach(tags, i, n, tag)
    {
        if (has_tag(tag, m))
            return true;
    }
    return yyjson_arr_size(tags) == 0;
}

enum rc index_match_row(const struct index_view_part *vp, uint32_t row,
                        const struct index_matcher *matcher, struct arena *scratch, bool *out)
{
    struct looking looking;
    *out = false;
    if (index_is_dead(vp, row) ||
        (!matcher->disabled_too && vp->disabled && index_part_disabled(vp->part, row)))
        return RC_OK;
    *out = true;
    if (!matcher->filter && matcher->all_tags)
        return RC_OK;
    enum rc rc = index_part_payload(vp->part, row, scratch, &looking.payload);
    *out = rc == RC_OK && tags_allow(yyjson_obj_get(looking.payload, "tags"), matcher) &&
           (!matcher->filter || expression_test(matcher->filter, look_up, &looking, scratch));
    return rc;
}

/* ---- a whole part ---- */

/* The rows that are alive and not disabled. */
static void start_bits(const struct index_view_part *vp, const struct index_matcher *matcher,
                       uint64_t *bits)
{
    uint32_t words = (vp->rows + 63) / 64;
    for (uint32_t w = 0; w < words; w++)
        bits[w] = ~(vp->dead && w < vp->dead->bits / 64 ? vp->dead->words[w] : 0);
    if (vp->rows % 64)
        bits[words - 1] &= (1ull << (vp->rows % 64)) - 1;
    for (uint32_t row = 0; vp->disabled && !matcher->disabled_too && row < vp->rows; row++)
        if (index_part_disabled(vp->part, row))
            bitmap_clear(bits, row);
}

static enum rc match_each(const struct index_view_part *vp, const struct index_matcher *matcher,
                          uint64_t *bits)
{
    struct arena scratch;
    enum rc rc = RC_OK;
    arena_init(&scratch, ROW_BYTES_MAX);
    for (uint32_t row = 0; rc == RC_OK && row < vp->rows; row++) {
        bool matches;
        if (!bitmap_get(bits, row))
            continue;
        arena_reset(&scratch);
        rc = index_match_row(vp, row, matcher, &scratch, &matches);
        if (!matches)
            bitmap_clear(bits, row);
    }
    arena_fini(&scratch);
    return rc;
}

static enum rc columns_of(struct index_segment *segment, struct columns **out)
{
    enum rc rc = RC_OK;
    *out = atomic_load(&segment->columns);
    if (*out)
        return RC_OK;
    pthread_mutex_lock(&segment->columns_lock);
    *out = atomic_load(&segment->columns);
    if (!*out)
        rc = columns_new(segment->rows, out);
    if (rc == RC_OK)
        atomic_store(&segment->columns, *out);
    pthread_mutex_unlock(&segment->columns_lock);
    return rc;
}

static bool test_tags(void *arg, yyjson_val *value, bool *known)
{
    UNUSED(known);
    return tags_allow(value, arg);
}

/* By columns as far as they have an answer; what is left of the rows, one by one. */
static enum rc match_segment(const struct index_view_part *vp, const struct index_matcher *matcher,
                             uint64_t *bits)
{
    struct index_matcher left = *matcher;
    struct columns *columns;
    enum rc rc = columns_of(vp->part->segment, &columns);
    if (rc != RC_OK)
        return rc;
    if (!left.all_tags && columns_filter(columns, STR("tags"), test_tags, &left, bits))
        left.all_tags = true;
    if (left.filter && columns_filter_expression(columns, left.filter, bits))
        left.filter = NULL;
    return left.filter || !left.all_tags ? match_each(vp, &left, bits) : RC_OK;
}

enum rc index_match(const struct index_view_part *vp, const struct index_matcher *matcher,
                    struct arena *arena, uint64_t **out, size_t *count)
{
    bool disabled = vp->disabled && !matcher->disabled_too;
    bool conditions = matcher->filter || !matcher->all_tags;
    *out = NULL;
    *count = vp->rows;
    if (!vp->dead && !disabled && !conditions)
        return RC_OK;
    uint64_t *bits = ARENA_NEW_ARRAY(arena, uint64_t, (vp->rows + 63) / 64 + 1);
    if (!bits)
        return RC_LIMIT;
    start_bits(vp, matcher, bits);
    enum rc rc = RC_OK;
    if (conditions)
        rc = vp->part->segment ? match_segment(vp, matcher, bits) : match_each(vp, matcher, bits);
    *count = 0;
    for (uint32_t w = 0; w < (vp->rows + 63) / 64; w++)
        *count += (size_t)__builtin_popcountll(bits[w]);
    *out = bits;
    return rc;
}
