/* Splices in JSON that a parser accepts: the result is JSON, too, with the members as set. */
#include "text/json.h"
#include "text/json_edit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena arena;
    struct json_object object;
    struct json_edit edit;
    struct str pieces[4], joined = STR("");
    size_t count;
    yyjson_doc *doc;
    arena_init(&arena, 64 << 20);
    struct str source = str_make(data, n);
    bool parses = json_read(source, &arena, &doc, NULL) == RC_OK;
    enum rc rc = json_index(source, &arena, &object);
    if (rc == RC_OK && parses) {
        json_edit_init(&edit, &object, &arena);
        rc = json_edit_set(&edit, STR("model"), STR("\"x\""));
        if (rc == RC_OK)
            rc = json_edit_remove(&edit, STR("a"));
        if (rc == RC_OK)
            rc = json_edit_rename(&edit, STR("b"), STR("c"));
        if (rc == RC_OK)
            rc = json_edit_finish(&edit, pieces, COUNT_OF(pieces), &count);
        for (size_t i = 0; rc == RC_OK && i < count; i++)
            joined = arena_concat(&arena, joined, pieces[i]);
        ASSERT(rc == RC_OK && json_read(joined, &arena, &doc, NULL) == RC_OK);
        yyjson_val *root = yyjson_doc_get_root(doc);
        ASSERT(str_eq(json_get_text(root, "model"), STR("x")) && !yyjson_obj_get(root, "a"));
    } else if (parses) {
        ASSERT(!yyjson_is_obj(yyjson_doc_get_root(doc)));
    }
    arena_fini(&arena);
    return 0;
}
