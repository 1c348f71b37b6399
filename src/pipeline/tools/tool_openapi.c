/* OpenAPI 3 documents as tools: each operation becomes a function whose parameters are those of the
 * operation and of its JSON (or form) body. References inside the document are followed, to a
 * depth; a schema that contains itself ends there as `{}`, which takes anything. */
#include "pipeline/tools/tool.h"
#include "base/map.h"
#include "http/message.h"
#include "text/json_schema.h"
#include "text/json_tree.h"

#define REFERENCES_MAX 12 /* one inside the other */
#define DEPTH_MAX      32
#define CELLS_MAX      200000 /* of all schemas together: references multiply */

struct reading {
    struct tool *tool;
    yyjson_val *root;
    struct str server;
    struct arena *arena;
    yyjson_mut_doc *doc;
    size_t cells;
    struct err *err;
    struct map names; /* of all operations, wanted or not: they stay what they are */
};

static enum rc full(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the document is too large");
}

/* The value that a reference leads to, or the value itself; NULL: nowhere, or outside. */
static yyjson_val *follow(const struct reading *r, yyjson_val *value)
{
    for (int i = 0; i < REFERENCES_MAX; i++) {
        struct str reference = json_get_text(value, "$ref");
        if (!reference.n)
            return value;
        if (!str_starts(reference, STR("#/")))
            return NULL;
        value = yyjson_ptr_getn(r->root, reference.p + 1, reference.n - 1);
    }
    return NULL;
}

/* What a model need not read. */
static bool is_noise(struct str keyword)
{
    return str_eq(keyword, STR("example")) || str_eq(keyword, STR("examples")) ||
           str_eq(keyword, STR("xml")) || str_eq(keyword, STR("externalDocs")) ||
           str_eq(keyword, STR("discriminator"));
}

/* A copy in which references are replaced by what they lead to. `names`: the object's keys are
 * names, not keywords. */
static yyjson_mut_val *expand(struct reading *r, yyjson_val *value, bool names, int references,
                              int depth)
{
    size_t i, n;
    yyjson_val *key, *item;
    bool referred = json_get_text(value, "$ref").n > 0;
    value = follow(r, value);
    references += referred;
    if (!value || references > REFERENCES_MAX || depth > DEPTH_MAX || ++r->cells > CELLS_MAX)
        return yyjson_mut_obj(r->doc);
    if (yyjson_is_obj(value)) {
        yyjson_mut_val *out = yyjson_mut_obj(r->doc);
        yyjson_obj_foreach(value, i, n, key, item)
        {
            struct str name = json_text(key);
            if (!names && is_noise(name))
                continue;
            bool inner = !names && (str_eq(name, STR("properties")) ||
                                    str_eq(name, STR("patternProperties")));
            yyjson_mut_obj_add(out, yyjson_mut_strn(r->doc, name.p, name.n),
                               expand(r, item, inner, references, depth + 1));
        }
        return out;
    }
    if (yyjson_is_arr(value)) {
        yyjson_mut_val *out = yyjson_mut_arr(r->doc);
        yyjson_arr_foreach(value, i, n, item)
            yyjson_mut_arr_append(out, expand(r, item, false, references, depth + 1));
        return out;
    }
    return yyjson_val_mut_copy(r->doc, value);
}

/* ---- one operation ---- */

struct operation {
    struct reading *r;
    struct tool_function *function;
    yyjson_mut_val *properties, *required;
    size_t capacity;
};

static void place(struct operation *o, struct str name, enum tool_place where)
{
    if (o->function->placed_count < o->capacity)
        o->function->parameters_placed[o->function->placed_count++] =
            (struct tool_parameter){name, where};
}

static bool is_known(const struct operation *o, struct str name)
{
    return yyjson_mut_obj_getn(o->properties, name.p, name.n) != NULL;
}

static void add_property(struct operation *o, struct str name, yyjson_mut_val *schema,
                         bool required)
{
    yyjson_mut_doc *doc = o->r->doc;
    yyjson_mut_obj_add(o->properties, yyjson_mut_strn(doc, name.p, name.n), schema);
    if (required)
        yyjson_mut_arr_add_strn(doc, o->required, name.p, name.n);
}

static void add_parameters(struct operation *o, yyjson_val *list)
{
    static const struct {
        struct str in;
        enum tool_place place;
    } places[] = {{STR_INIT("path"), TOOL_IN_URL},
                  {STR_INIT("query"), TOOL_IN_QUERY},
                  {STR_INIT("header"), TOOL_IN_HEADER}};
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(list, i, n, item)
    {
        yyjson_val *parameter = follow(o->r, item);
        struct str name = json_get_text(parameter, "name"), in = json_get_text(parameter, "in");
        if (!name.n || is_known(o, name))
            continue; /* an operation's own parameter goes before its path's */
        for (size_t p = 0; p < COUNT_OF(places); p++) {
            if (!str_eq(in, places[p].in))
                continue;
            yyjson_mut_val *schema = expand(o->r, yyjson_obj_get(parameter, "schema"), false, 0, 0);
            struct str words = json_get_text(parameter, "description");
            if (words.n && !yyjson_mut_obj_get(schema, "description"))
                yyjson_mut_obj_add_strn(o->r->doc, schema, "description", words.p, words.n);
            add_property(o, name, schema, json_get_bool(parameter, "required", false));
            place(o, name, places[p].place);
        }
    }
}

/* An object's members become parameters of their own, unless one has a parameter's name. */
static bool add_members(struct operation *o, yyjson_mut_val *schema)
{
    yyjson_mut_val *members = yyjson_mut_obj_get(schema, "properties"),
                   *required = yyjson_mut_obj_get(schema, "required"), *key, *value, *name;
    size_t i, n, k, m;
    if (!yyjson_mut_is_obj(members))
        return false;
    yyjson_mut_obj_foreach(members, i, n, key, value)
    {
        if (is_known(o, str_make(yyjson_mut_get_str(key), yyjson_mut_get_len(key))))
            return false;
    }
    yyjson_mut_obj_foreach(members, i, n, key, value)
    {
        struct str text = str_make(yyjson_mut_get_str(key), yyjson_mut_get_len(key));
        bool needed = false;
        yyjson_mut_arr_foreach(required, k, m, name) needed |=
            yyjson_mut_equals_strn(name, text.p, text.n);
        add_property(o, text, yyjson_mut_val_mut_copy(o->r->doc, value), needed);
        place(o, text, TOOL_IN_BODY);
    }
    return true;
}

/* The body as JSON ("application/json; charset=utf-8", "application/merge-patch+json"), or else as
 * a form; NULL: neither. */
static yyjson_val *find_media(yyjson_val *content, bool *form)
{
    yyjson_val *key, *media, *found = NULL;
    size_t i, n;
    *form = false;
    yyjson_obj_foreach(content, i, n, key, media)
    {
        struct str type = json_text(key), rest = type;
        str_split(&rest, ';', &type);
        type = str_trim(type);
        if (str_eq_nocase(type, STR("application/json")) || str_ends(type, STR("+json"))) {
            *form = false;
            return media;
        }
        if (str_eq_nocase(type, STR("application/x-www-form-urlencoded"))) {
            *form = true;
            found = media;
        }
    }
    return found;
}

static void add_body(struct operation *o, yyjson_val *given)
{
    yyjson_val *body = follow(o->r, given),
               *media = find_media(yyjson_obj_get(body, "content"), &o->function->form);
    if (!media)
        return;
    yyjson_mut_val *schema = expand(o->r, yyjson_obj_get(media, "schema"), false, 0, 0);
    if (add_members(o, schema) || o->function->form || is_known(o, STR("body")))
        return;
    o->function->body_is_argument = true;
    add_property(o, STR("body"), schema, json_get_bool(body, "required", false));
    place(o, STR("body"), TOOL_IN_BODY);
}

static enum rc finish_schema(struct operation *o, struct err *err)
{
    struct tool_function *function = o->function;
    yyjson_mut_doc *doc = o->r->doc;
    yyjson_mut_val *schema = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_str(doc, schema, "type", "object");
    yyjson_mut_obj_add_val(doc, schema, "properties", o->properties);
    if (yyjson_mut_arr_size(o->required))
        yyjson_mut_obj_add_val(doc, schema, "required", o->required);
    enum rc rc = json_write_tree(schema, o->r->arena, &function->parameters, err);
    /* A schema of another dialect than ours is told to the model and checked by the service. */
    if (rc == RC_OK &&
        json_schema_compile(function->parameters, o->r->arena, &function->schema, NULL) != RC_OK)
        function->schema = NULL;
    return rc;
}

static struct str operation_name(struct reading *r, yyjson_val *operation, struct str method,
                                 struct str path)
{
    struct str id = json_get_text(operation, "operationId");
    return id.n ? id : arena_printf(r->arena, "%.*s%.*s", STR_ARG(method), STR_ARG(path));
}

/* As functions may be called; names that are cut or differ in other letters only get a number. */
static struct str unique_name(struct reading *r, struct str name)
{
    struct str shown = tool_function_name(name, r->arena);
    for (int k = 2; shown.p && map_get(&r->names, shown); k++)
        shown = tool_function_name(arena_printf(r->arena, "%d_%.*s", k, STR_ARG(name)), r->arena);
    if (shown.p)
        map_put(&r->names, shown, r);
    return shown;
}

static enum rc add_operation(struct reading *r, struct str method, struct str path,
                             yyjson_val *item, yyjson_val *operation)
{
    struct tool *tool = r->tool;
    struct str name = operation_name(r, operation, method, path);
    struct str shown = name.p ? unique_name(r, name) : STR_EMPTY;
    if (!shown.p)
        return full(r->err);
    if (!tool_wants(tool, name) && !tool_wants(tool, shown))
        return RC_OK;
    if (tool->function_count == TOOL_FUNCTIONS_MAX)
        return err_set_field(r->err, ERR_BAD_FIELD, "operations",
                             "The document has more than %d operations: choose some of them.",
                             TOOL_FUNCTIONS_MAX);
    struct tool_function *function = &tool->functions[tool->function_count++];
    struct str summary = json_get_text(operation, "summary"),
               words = json_get_text(operation, "description");
    struct operation o = {r, function, yyjson_mut_obj(r->doc), yyjson_mut_arr(r->doc), 128};
    function->name = shown;
    function->description = words.n ? words : summary;
    function->method = method;
    function->url = arena_printf(r->arena, "%.*s%.*s", STR_ARG(r->server), STR_ARG(path));
    function->safe = str_eq(method, STR("GET")) || str_eq(method, STR("HEAD"));
    function->parameters_placed = ARENA_NEW_ARRAY(r->arena, struct tool_parameter, o.capacity);
    if (!function->name.p || !function->url.p || !function->parameters_placed || !o.properties)
        return full(r->err);
    add_parameters(&o, yyjson_obj_get(operation, "parameters"));
    add_parameters(&o, yyjson_obj_get(item, "parameters"));
    add_body(&o, yyjson_obj_get(operation, "requestBody"));
    return finish_schema(&o, r->err);
}

/* ---- the document ---- */

/* The first server's address, its variables at their defaults; the tool's own goes before it. */
static enum rc find_server(struct reading *r)
{
    yyjson_val *server = yyjson_arr_get_first(yyjson_obj_get(r->root, "servers")), *key, *variable;
    struct str url = r->server.n ? r->server : json_get_text(server, "url");
    size_t i, n;
    yyjson_obj_foreach(yyjson_obj_get(server, "variables"), i, n, key, variable)
    {
        struct str mark = arena_printf(r->arena, "{%.*s}", STR_ARG(json_text(key)));
        ssize_t at = mark.p ? str_find(url, mark) : -1;
        if (at >= 0)
            url = arena_printf(r->arena, "%.*s%.*s%.*s", (int)at, url.p,
                               STR_ARG(json_get_text(variable, "default")),
                               STR_ARG(str_slice(url, (size_t)at + mark.n, url.n)));
    }
    while (url.n && url.p[url.n - 1] == '/')
        url.n--;
    if (!str_starts(url, STR("http://")) && !str_starts(url, STR("https://")))
        return err_set_field(r->err, ERR_BAD_FIELD, "server",
                             "The document does not say where its service is: give the server's "
                             "address.");
    r->server = url;
    return RC_OK;
}

enum rc tool_read_openapi(struct tool *tool, yyjson_val *document, struct str server,
                          struct arena *arena, struct err *err)
{
    static const struct {
        const char *member;
        struct str method;
    } methods[] = {{"get", STR_INIT("GET")},       {"post", STR_INIT("POST")},
                   {"put", STR_INIT("PUT")},       {"patch", STR_INIT("PATCH")},
                   {"delete", STR_INIT("DELETE")}, {"head", STR_INIT("HEAD")}};
    struct reading r = {tool, document, server, arena, json_tree_new(arena), 0, err, {0}};
    size_t i, n;
    yyjson_val *path, *given;
    if (!str_starts(json_get_text(document, "openapi"), STR("3.")))
        return err_set_field(err, ERR_BAD_FIELD, "document", "This is no OpenAPI 3 document.");
    enum rc rc = find_server(&r);
    tool->functions = ARENA_NEW_ARRAY(arena, struct tool_function, TOOL_FUNCTIONS_MAX);
    if (rc != RC_OK || !tool->functions || !r.doc)
        return rc != RC_OK ? rc : full(err);
    map_init(&r.names);
    yyjson_obj_foreach(yyjson_obj_get(document, "paths"), i, n, path, given)
    {
        yyjson_val *item = follow(&r, given);
        for (size_t m = 0; rc == RC_OK && m < COUNT_OF(methods); m++) {
            yyjson_val *operation = yyjson_obj_get(item, methods[m].member);
            if (yyjson_is_obj(operation))
                rc = add_operation(&r, methods[m].method, json_text(path), item, operation);
        }
    }
    map_fini(&r.names);
    if (rc == RC_OK && tool->function_count == 0)
        rc = err_set_field(err, ERR_BAD_FIELD, tool->only_count ? "operations" : "document",
                           "The document has no such operation.");
    return rc;
}
