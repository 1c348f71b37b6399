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
static bool tags_allow(yyjson_val *payload, const struct index_matcher *m)
{
    yyjson_val *tags = yyjson_obj_get(payload, "tags"), *tag;
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
    *out = rc == RC_OK && tags_allow(looking.payload, matcher) &&
           (!matcher->filter || expression_test(matcher->filter, look_up, &looking, scratch));
    return rc;
}

enum rc index_match(const struct index_view_part *vp, const struct index_matcher *matcher,
                    struct arena *arena, uint64_t **out, size_t *count)
{
    bool disabled = vp->disabled && !matcher->disabled_too;
    *out = NULL;
    *count = vp->rows;
    if (!vp->dead && !disabled && !matcher->filter && matcher->all_tags)
        return RC_OK;
    uint64_t *bits = ARENA_NEW_ARRAY(arena, uint64_t, (vp->rows + 63) / 64 + 1);
    struct arena scratch;
    enum rc rc = bits ? RC_OK : RC_LIMIT;
    *count = 0;
    arena_init(&scratch, ROW_BYTES_MAX);
    for (uint32_t row = 0; rc == RC_OK && row < vp->rows; row++) {
        bool matches;
        rc = index_match_row(vp, row, matcher, &scratch, &matches);
        if (matches) {
            bitmap_set(bits, row);
            ++*count;
        }
        arena_reset(&scratch);
    }
    arena_fini(&scratch);
    *out = bits;
    return rc;
}
