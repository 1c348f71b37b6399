/* JSON trees: any two documents are sorted, merged and compared; a difference is empty for equals
 * only. */
#include "text/json_tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str text = str_make(data, n), first;
    struct arena arena;
    struct err err;
    yyjson_doc *a, *b;

    /* Two documents, divided by a zero byte; or one, compared with itself. */
    ssize_t zero = str_find_char(text, 0);
    struct str second = zero < 0 ? text : str_slice(text, (size_t)zero + 1, n);
    first = str_slice(text, 0, zero < 0 ? n : (size_t)zero);
    arena_init(&arena, 64 * 1024 * 1024);
    if (json_read(first, &arena, &a, &err) == RC_OK &&
        json_read(second, &arena, &b, &err) == RC_OK) {
        yyjson_mut_doc *doc = json_tree_new(&arena);
        yyjson_val *x = yyjson_doc_get_root(a), *y = yyjson_doc_get_root(b);
        yyjson_doc *sorted = json_freeze(json_sorted(doc, x), &arena);
        struct str once, twice;
        if (sorted && json_write_tree(json_sorted(doc, x), &arena, &once, &err) == RC_OK &&
            json_write_tree(json_sorted(doc, yyjson_doc_get_root(sorted)), &arena, &twice, &err) ==
                RC_OK)
            ASSERT(str_eq(once, twice));
        yyjson_doc *other = json_freeze(json_sorted(doc, y), &arena);
        struct str out;
        if (sorted && other) {
            yyjson_val *p = yyjson_doc_get_root(sorted), *q = yyjson_doc_get_root(other);
            ASSERT(yyjson_mut_arr_size(json_diff(doc, p, p)) == 0);
            ASSERT((yyjson_mut_arr_size(json_diff(doc, p, q)) == 0) == yyjson_equals(p, q));
        }
        (void)!json_write_tree(yyjson_merge_patch(doc, x, y), &arena, &out, &err);
    }
    arena_fini(&arena);
    return 0;
}
