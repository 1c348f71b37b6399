/* See problem.h. */
#include "api/problem.h"
#include "base/clock.h"
#include "text/json.h"
#include <yyjson.h>

void api_respond_problem(struct http_request *request, const struct err *err)
{
    yyjson_alc alc = json_arena_alc(request->arena);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(&alc);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *error = yyjson_mut_obj_add_obj(doc, root, "error");
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_str(doc, error, "code", err_code_name(err->code));
    yyjson_mut_obj_add_str(doc, error, "message", err->message);
    if (err->field[0])
        yyjson_mut_obj_add_str(doc, error, "field", err->field);
    else
        yyjson_mut_obj_add_null(doc, error, "field");
    struct str id = request->id;
    yyjson_mut_obj_add_strn(doc, error, "request_id", id.p, id.n);
    struct str body = STR_EMPTY;
    body.p = yyjson_mut_write_opts(doc, 0, &alc, &body.n, NULL);
    if (err->retry_after_ms > 0)
        http_respond_header(
            request, STR("retry-after"),
            arena_printf(request->arena, "%lld", (long long)((err->retry_after_ms + 999) / 1000)));
    http_respond_header(request, STR("cache-control"), STR("no-store"));
    http_respond(request, err_http_status(err->code), STR("application/json"), body);
}
