/* A schema and a value, one line each: compiling and checking end, whatever they are. */
#include "text/json.h"
#include "text/json_schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena arena;
    struct json_schema *schema;
    struct json_schema_problem problem;
    yyjson_doc *doc;
    struct str text = str_make(data, n);
    ssize_t line = str_find_char(text, '\n');
    if (line < 0)
        return 0;
    arena_init(&arena, 64 << 20);
    if (json_schema_compile(str_slice(text, 0, (size_t)line), &arena, &schema, NULL) == RC_OK &&
        json_read(str_slice(text, (size_t)line + 1, n), &arena, &doc, NULL) == RC_OK) {
        enum rc rc = json_schema_check(schema, yyjson_doc_get_root(doc), &problem);
        ASSERT(rc == RC_OK || rc == RC_INVALID || rc == RC_LIMIT);
    }
    arena_fini(&arena);
    return 0;
}
