/* Templates: any text is compiled or refused with a message; what compiles renders or fails within
 * its bounds. The first byte picks the syntax. */
#include "text/json.h"
#include "text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena arena, scratch;
    struct template *template;
    struct err err = {0};
    struct buf out;
    yyjson_doc *doc;
    struct template_limits limits = {.steps_max = 20000, .output_max = 1 << 16};
    if (n == 0)
        return 0;
    struct template_options options = {.syntax =
                                           data[0] == 'm' ? TEMPLATE_MUSTACHE : TEMPLATE_JINJA,
                                       .trim_blocks = data[0] & 1,
                                       .lstrip_blocks = data[0] & 1,
                                       .strict = data[0] == 's'};
    arena_init(&arena, 16 << 20);
    arena_init(&scratch, 16 << 20);
    buf_init(&out, 1 << 20);
    struct str values =
        STR("{\"a\":\"t\xc3\xa9xt\",\"n\":3,\"f\":1.5,\"l\":[1,\"x\",{\"k\":null}],"
            "\"o\":{\"b\":true},\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    ASSERT(json_read(values, &arena, &doc, NULL) == RC_OK);
    enum rc rc = template_compile(str_make(data + 1, n - 1), &options, &arena, &template, &err);
    if (rc == RC_OK)
        rc = template_render(template, yyjson_doc_get_root(doc), &limits, &scratch, &out, &err);
    ASSERT(rc == RC_OK || (err.code != ERR_NONE && err.message[0]));
    buf_fini(&out);
    arena_fini(&scratch);
    arena_fini(&arena);
    return 0;
}
