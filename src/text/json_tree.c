/* Making and rearranging JSON trees. */
#include "text/json_tree.h"
#include <stdlib.h>

yyjson_doc *json_freeze(yyjson_mut_val *value, struct arena *arena)
{
    yyjson_alc alc = json_arena_alc(arena);

    return value ? yyjson_mut_val_imut_copy(value, &alc) : NULL;
}

struct member {
    yyjson_val *key, *value;
};

/* By name; of the same name, in the document's order. */
static int member_compare(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    int order = str_cmp(json_text(x->key), json_text(y->key));

    return order ? order : x->key < y->key ? -1 : x->key > y->key;
}

static yyjson_mut_val *object_sorted(yyjson_mut_doc *doc, yyjson_val *value)
{
    size_t count = yyjson_obj_size(value), i, n;
    struct member *members = doc->alc.malloc(doc->alc.ctx, (count + 1) * sizeof *members);
    yyjson_mut_val *object = yyjson_mut_obj(doc);
    yyjson_val *k, *v;

    if (!members || !object)
        return NULL;
    yyjson_obj_foreach(value, i, n, k, v) members[i] = (struct member){k, v};
    qsort(members, count, sizeof *members, member_compare);
    for (i = 0; i < count; i++) {
        if (i > 0 && str_eq(json_text(members[i].key), json_text(members[i - 1].key)))
            continue; /* nobody reads it: look-ups find the first */
        if (!yyjson_mut_obj_add(object, json_new_text(doc, json_text(members[i].key)),
                                json_sorted(doc, members[i].value)))
            return NULL;
    }
    return object;
}

yyjson_mut_val *json_sorted(yyjson_mut_doc *doc, yyjson_val *value)
{
    size_t i, n;
    yyjson_val *element;

    if (yyjson_is_obj(value))
        return object_sorted(doc, value);
    if (!yyjson_is_arr(value))
        return yyjson_val_mut_copy(doc, value);
    yyjson_mut_val *array = yyjson_mut_arr(doc);
    yyjson_arr_foreach(value, i, n, element)
    {
        if (!yyjson_mut_arr_append(array, json_sorted(doc, element)))
            return NULL;
    }
    return array;
}

enum rc json_write_tree(const yyjson_mut_val *value, struct arena *arena, struct str *out,
                        struct err *err)
{
    yyjson_alc alc = json_arena_alc(arena);

    out->p =
        value ? yyjson_mut_val_write_opts(value, YYJSON_WRITE_NOFLAG, &alc, &out->n, NULL) : NULL;
    return out->p ? RC_OK : err_set(err, ERR_TOO_LARGE, "The JSON document is too large.");
}

yyjson_mut_doc *json_tree_new(struct arena *arena)
{
    yyjson_alc alc = json_arena_alc(arena);

    return yyjson_mut_doc_new(&alc);
}

/* ---- differences ---- */

struct diffing {
    yyjson_mut_doc *doc;
    yyjson_mut_val *list;
    struct arena *arena;
};

static void diff_add(struct diffing *diffing, struct str path, yyjson_val *before,
                     yyjson_val *after)
{
    yyjson_mut_doc *doc = diffing->doc;
    yyjson_mut_val *entry = yyjson_mut_arr_add_obj(doc, diffing->list);

    json_set_text(doc, entry, "path", path);
    yyjson_mut_obj_add_val(doc, entry, "before",
                           before ? yyjson_val_mut_copy(doc, before) : yyjson_mut_null(doc));
    yyjson_mut_obj_add_val(doc, entry, "after",
                           after ? yyjson_val_mut_copy(doc, after) : yyjson_mut_null(doc));
}

static void diff_walk(struct diffing *diffing, struct str path, yyjson_val *before,
                      yyjson_val *after);

static void diff_objects(struct diffing *diffing, struct str path, yyjson_val *before,
                         yyjson_val *after)
{
    size_t i, n;
    yyjson_val *key, *value;

    yyjson_obj_foreach(before, i, n, key, value)
    {
        struct str name = json_text(key);
        struct str inner = arena_printf(diffing->arena, "%.*s%s%.*s", STR_ARG(path),
                                        path.n ? "." : "", STR_ARG(name));
        diff_walk(diffing, inner, value, yyjson_obj_getn(after, name.p, name.n));
    }
    yyjson_obj_foreach(after, i, n, key, value)
    {
        struct str name = json_text(key);
        if (yyjson_obj_getn(before, name.p, name.n))
            continue;
        diff_add(diffing,
                 arena_printf(diffing->arena, "%.*s%s%.*s", STR_ARG(path), path.n ? "." : "",
                              STR_ARG(name)),
                 NULL, value);
    }
}

static void diff_lists(struct diffing *diffing, struct str path, yyjson_val *before,
                       yyjson_val *after)
{
    size_t count = MAX(yyjson_arr_size(before), yyjson_arr_size(after));

    for (size_t i = 0; i < count; i++)
        diff_walk(diffing, arena_printf(diffing->arena, "%.*s[%zu]", STR_ARG(path), i),
                  yyjson_arr_get(before, i), yyjson_arr_get(after, i));
}

static void diff_walk(struct diffing *diffing, struct str path, yyjson_val *before,
                      yyjson_val *after)
{
    if (yyjson_is_obj(before) && yyjson_is_obj(after))
        diff_objects(diffing, path, before, after);
    else if (yyjson_is_arr(before) && yyjson_is_arr(after))
        diff_lists(diffing, path, before, after);
    else if (!before || !after || !yyjson_equals(before, after))
        diff_add(diffing, path, before, after);
}

yyjson_mut_val *json_diff(yyjson_mut_doc *doc, yyjson_val *before, yyjson_val *after)
{
    struct diffing diffing = {doc, yyjson_mut_arr(doc), doc->alc.ctx};

    diff_walk(&diffing, STR(""), before, after);
    return diffing.list;
}
