/* Reading presets.yaml. It is a part of the program: what is wrong in it stops the first test. */
#include "pipeline/tools/presets.h"
#include "text/json_tree.h"
#include "text/yaml.h"

extern const struct str pipeline_presets_yaml; /* presets.yaml, embedded by the build */

struct reading {
    const struct preset_services *services;
    struct arena *arena;
    yyjson_mut_doc *doc;
};

static struct str address_of(const struct preset_services *services, struct str name)
{
    return str_eq(name, STR("wikipedia")) ? services->wikipedia
           : str_eq(name, STR("arxiv"))   ? services->arxiv
           : str_eq(name, STR("search"))  ? services->search
                                          : STR_EMPTY;
}

/* "{wikipedia}/w/api.php" with the address in it. */
static struct str fill_text(struct reading *r, struct str text)
{
    static const char *const names[] = {"wikipedia", "arxiv", "search"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct str mark = arena_printf(r->arena, "{%s}", names[i]);
        struct str address = address_of(r->services, str_from(names[i]));
        if (mark.p && str_starts(text, mark))
            return arena_printf(r->arena, "%.*s%.*s", STR_ARG(address),
                                STR_ARG(str_slice(text, mark.n, text.n)));
    }
    return text;
}

static yyjson_mut_val *fill(struct reading *r, yyjson_val *value)
{
    size_t i, n;
    yyjson_val *key, *item;
    if (yyjson_is_str(value))
        return json_new_text(r->doc, fill_text(r, json_text(value)));
    if (yyjson_is_arr(value)) {
        yyjson_mut_val *list = yyjson_mut_arr(r->doc);
        yyjson_arr_foreach(value, i, n, item) yyjson_mut_arr_append(list, fill(r, item));
        return list;
    }
    if (!yyjson_is_obj(value))
        return yyjson_val_mut_copy(r->doc, value);
    yyjson_mut_val *o = yyjson_mut_obj(r->doc);
    yyjson_obj_foreach(value, i, n, key, item)
        yyjson_mut_obj_add(o, json_new_text(r->doc, json_text(key)), fill(r, item));
    return o;
}

enum rc presets_json(const struct preset_services *services, struct arena *arena, struct str *out,
                     struct err *err)
{
    struct reading r = {services, arena, json_tree_new(arena)};
    yyjson_doc *parsed;
    yyjson_val *item;
    size_t i, n;
    enum rc rc = yaml_read(pipeline_presets_yaml, arena, NULL, &parsed, err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *root = yyjson_mut_obj(r.doc),
                   *items = yyjson_mut_obj_add_arr(r.doc, root, "items");
    yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(parsed), "presets"), i, n, item)
    {
        yyjson_mut_val *o = fill(&r, item);
        struct str service = json_get_text(item, "service");
        yyjson_mut_obj_add_bool(r.doc, o, "available",
                                !service.n || address_of(services, service).n > 0);
        yyjson_mut_arr_append(items, o);
    }
    yyjson_mut_obj_add_null(r.doc, root, "next_cursor");
    return json_write_tree(root, arena, out, err);
}
