/* Expressions: any text is parsed or refused with a message; what parses can be evaluated. */
#include "text/expression.h"
#include "text/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void look_up(void *arg, const struct str *path, size_t path_count,
                    struct expression_value *out)
{
    expression_from_json(arg, path, path_count, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena arena;
    struct expression *expression;
    struct expression_value value = {0};
    struct err err = {0};
    yyjson_doc *doc;
    arena_init(&arena, 16 << 20);
    struct str names =
        STR("{\"a\":\"text\",\"n\":3,\"l\":[1,\"x\",{\"k\":null}],\"o\":{\"b\":true}}");
    ASSERT(json_read(names, &arena, &doc, NULL) == RC_OK);
    if (expression_parse(str_make(data, n), &arena, &expression, &err) == RC_OK)
        (void)!expression_evaluate(expression, look_up, yyjson_doc_get_root(doc), &arena, &value);
    else
        ASSERT(err.code != ERR_NONE && err.message[0]);
    arena_fini(&arena);
    return 0;
}
