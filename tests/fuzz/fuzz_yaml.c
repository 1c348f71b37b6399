/* The quick reader of YAML's common part against libyaml: whatever it takes, libyaml takes, and
 * both read the same. */
#include "text/yaml_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str text = str_make(data, n);
    struct arena arena;
    struct err err;
    yyjson_doc *quick, *full;

    arena_init(&arena, 64 * 1024 * 1024);
    if (n <= YAML_BYTES_MAX && yaml_read_common(text, &arena, &quick)) {
        ASSERT(yaml_read_full(text, &arena, NULL, &full, &err) == RC_OK);
        ASSERT(yyjson_equals(yyjson_doc_get_root(quick), yyjson_doc_get_root(full)));
    }
    arena_fini(&arena);
    return 0;
}
