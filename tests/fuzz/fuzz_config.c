/* Configuration: any bytes as YAML, then every definition that comes out of it through its decoder,
 * and the document through writing and reading again. */
#include "gateway/config.h"
#include "govern/key.h"
#include "govern/manifest.h"
#include "text/json_tree.h"
#include "text/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What was read can be written, and read again as the same. */
static void round_trip(yyjson_val *root, struct arena *arena)
{
    struct buf out;
    struct err err;
    yyjson_doc *again;

    buf_init(&out, 8 * 1024 * 1024);
    if (yaml_write(root, &out) == RC_OK &&
        yaml_read(buf_str(&out), arena, NULL, &again, &err) == RC_OK)
        ASSERT(yyjson_equals(yyjson_doc_get_root(again), root));
    buf_fini(&out);
}

static void decode_all(yyjson_val *root, struct arena *arena)
{
    struct object object = {.kind = OBJECT_KEY, .name = STR("key_00000000000000000000000000")};
    struct provider provider;
    struct route route;
    struct limits limits;
    struct map providers;
    struct key key;
    struct err err;
    struct id project = {{1}};
    size_t i, count;
    yyjson_val *name, *value;

    map_init(&providers);
    yyjson_obj_foreach(yyjson_obj_get(root, "providers"), i, count, name, value)
    {
        struct provider *kept = ARENA_NEW(arena, struct provider);
        if (kept && provider_decode(project, json_text(name), value, arena, kept, &err) == RC_OK)
            map_put(&providers, kept->name, kept);
    }
    (void)!provider_decode(project, STR("p"), root, arena, &provider, &err);
    yyjson_obj_foreach(yyjson_obj_get(root, "routes"), i, count, name, value)
    {
        if (route_decode(project, json_text(name), value, &providers, arena, &route, &err) == RC_OK)
            ASSERT(route.target_count > 0 && route.targets[0].provider != NULL);
    }
    yyjson_arr_foreach(yyjson_obj_get(root, "keys"), i, count, value)
    {
        if (key_decode(&object, value, arena, &key, &err) == RC_OK)
            (void)key_allows_model(&key, STR("gpt-5"));
        (void)!limits_decode(yyjson_obj_get(value, "limits"), yyjson_obj_get(value, "budget"),
                             &limits, &err);
    }
    map_fini(&providers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct manifest manifest;
    struct arena arena;
    struct err err;
    yyjson_doc *doc;

    arena_init(&arena, 64 * 1024 * 1024);
    if (yaml_read(str_make(data, n), &arena, NULL, &doc, &err) == RC_OK) {
        yyjson_val *root = yyjson_doc_get_root(doc);
        round_trip(root, &arena);
        decode_all(root, &arena);
        if (manifest_read(root, &arena, &manifest, &err) == RC_OK)
            (void)!manifest_check(&manifest, &arena, &err);
    }
    arena_fini(&arena);
    return 0;
}
