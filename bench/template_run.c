/* Renders templates for the differential test and the bench beside Jinja2. Reads a JSON list of
 * {"template", "values", "trim_blocks", "lstrip_blocks", "rounds"} and writes a list of {"output"}
 * or {"error"}, with the processor time of one compilation and of one rendering. */
#include "base/clock.h"
#include "text/json.h"
#include "text/json_writer.h"
#include "text/template.h"
#include <stdio.h>
#include <stdlib.h>

#define INPUT_BYTES_MAX (64u << 20)

static struct str read_all(FILE *file)
{
    char *p = xmalloc(INPUT_BYTES_MAX);
    size_t n = fread(p, 1, INPUT_BYTES_MAX, file);
    return str_make(p, n);
}

static void run_case(yyjson_val *one, struct json_writer *w)
{
    struct template_options options = {.syntax = TEMPLATE_JINJA,
                                       .trim_blocks = json_get_bool(one, "trim_blocks", false),
                                       .lstrip_blocks = json_get_bool(one, "lstrip_blocks", false)};
    struct arena compiled, scratch;
    struct template *template;
    struct err err = {0};
    struct buf out;
    int64_t rounds = json_get_int(one, "rounds", 1), compile_ns, render_ns = 0;
    arena_init(&compiled, 64 << 20);
    arena_init(&scratch, 256 << 20);
    buf_init(&out, 64 << 20);
    int64_t start = clock_thread_cpu_ns();
    enum rc rc =
        template_compile(json_get_text(one, "template"), &options, &compiled, &template, &err);
    compile_ns = clock_thread_cpu_ns() - start;
    start = clock_thread_cpu_ns();
    for (int64_t i = 0; i < rounds && rc == RC_OK; i++) {
        buf_clear(&out);
        arena_reset(&scratch);
        rc = template_render(template, yyjson_obj_get(one, "values"), NULL, &scratch, &out, &err);
    }
    render_ns = (clock_thread_cpu_ns() - start) / MAX(rounds, 1);
    json_begin_object(w);
    if (rc == RC_OK)
        json_put_string(w, "output", buf_str(&out));
    else
        json_put_text(w, "error", err.message);
    json_put_int(w, "compile_ns", compile_ns);
    json_put_int(w, "render_ns", render_ns);
    json_end_object(w);
    buf_fini(&out);
    arena_fini(&scratch);
    arena_fini(&compiled);
}

int main(void)
{
    struct arena arena;
    yyjson_doc *doc;
    yyjson_val *one;
    struct buf out;
    struct err err;
    size_t index, count;
    struct str text = read_all(stdin);
    arena_init(&arena, 1u << 30);
    buf_init(&out, 1u << 30);
    if (json_read(text, &arena, &doc, &err) != RC_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    struct json_writer w = json_writer_to(&out);
    json_begin_array(&w);
    yyjson_arr_foreach(yyjson_doc_get_root(doc), index, count, one) run_case(one, &w);
    json_end_array(&w);
    fwrite(out.p + out.start, 1, buf_len(&out), stdout);
    buf_fini(&out);
    arena_fini(&arena);
    return 0;
}
