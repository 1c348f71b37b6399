/* Reading an app's file: its frame, names of nodes, containers, edges, variables. See
 * dify_private.h for how an import goes. */
#include "pipeline/files/dify_private.h"
#include "base/hash.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES_MAX 40

/* ---- notes and names ---- */

void dify_note(struct dify *d, bool lost, const char *field, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    findings_add(d->notes, d->current ? d->current->name : STR_EMPTY, str_from(field), !lost,
                 lost ? "not_mapped" : "changed", "%s", text);
}

struct dify_node *dify_find(struct dify *d, struct str id) { return map_get(&d->by_id, id); }

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_plain(struct str text, size_t bytes_max)
{
    bool plain = text.n > 0 && text.n <= bytes_max && is_letter(text.p[0]);
    for (size_t i = 0; plain && i < text.n; i++)
        plain = is_letter(text.p[i]) || (text.p[i] >= '0' && text.p[i] <= '9');
    return plain;
}

/* Letters, digits and underscores of it; what was left out is told apart by a digest. */
static struct str make_plain(struct dify *d, struct str text, const char *prefix)
{
    char out[NAME_BYTES_MAX];
    size_t n = 0;
    for (size_t i = 0; i < text.n && n < sizeof(out); i++)
        if (is_letter(text.p[i]) || (text.p[i] >= '0' && text.p[i] <= '9'))
            out[n++] = text.p[i];
        else if (n && out[n - 1] != '_')
            out[n++] = '_';
    return arena_printf(d->arena, "%s%.*s_%04x", prefix, (int)n, out,
                        (unsigned)(hash_xxh3(text.p, text.n) & 0xffff));
}

struct str dify_identifier(struct dify *d, struct str text)
{
    return is_plain(text, NODE_ID_BYTES_MAX) ? text : make_plain(d, text, "v_");
}

struct str dify_port(struct dify *d, struct str id)
{
    bool digits = id.n > 0 && id.n <= NAME_BYTES_MAX;
    for (size_t i = 0; digits && i < id.n; i++)
        digits = id.p[i] >= '0' && id.p[i] <= '9';
    if (digits)
        return arena_printf(d->arena, "c%.*s", STR_ARG(id));
    return is_plain(id, NODE_ID_BYTES_MAX) ? id : make_plain(d, id, "c_");
}

/* What neither an expression nor a template can take for a variable. */
static bool is_taken_word(struct str name)
{
    static const char *const words[] = {
        "sys",   "env",    "conversation", "item", "index", "and",   "or",   "not",   "in",
        "is",    "if",     "else",         "elif", "for",   "set",   "true", "false", "null",
        "none",  "loop",   "block",        "raw",  "macro", "call",  "do",   "range", "dict",
        "break", "filter", "matches",      "text", "lower", "upper", "min",  "max",   "contains",
        "with",  "length", "number",       "end",  "import"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (str_eq(name, str_from(words[i])))
            return true;
    return false;
}

struct str dify_new_name(struct dify *d, struct str text, const char *otherwise)
{
    char out[NAME_BYTES_MAX];
    size_t n = 0;
    for (size_t i = 0; i < text.n && n < sizeof(out); i++) {
        char c = text.p[i];
        c = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
        if (is_letter(c) || (n && c >= '0' && c <= '9'))
            out[n++] = c;
        else if (n && out[n - 1] != '_')
            out[n++] = '_';
    }
    while (n && out[n - 1] == '_')
        n--;
    struct str base = arena_copy(d->arena, n ? str_make(out, n) : str_from(otherwise));
    bool bad = is_taken_word(base) || (str_eq(base, STR("start")) && d->start);
    struct str name = bad ? arena_printf(d->arena, "%.*s_1", STR_ARG(base)) : base;
    for (int i = 2; name.p && map_get(&d->by_name, name); i++)
        name = arena_printf(d->arena, "%.*s_%d", STR_ARG(base), i);
    if (name.p)
        map_put(&d->by_name, name, d);
    return name;
}

/* ---- reading nodes ---- */

static bool is_dropped(struct str type)
{
    return str_eq(type, STR("iteration-start")) || str_eq(type, STR("loop-start")) ||
           str_eq(type, STR("start-placeholder"));
}

static bool is_entry(struct str type)
{
    return str_eq(type, STR("start")) || str_starts(type, STR("trigger-"));
}

static void name_node(struct dify *d, struct dify_node *node)
{
    const char *otherwise = node->rule && node->rule->to ? node->rule->to : "node";
    if (is_entry(node->type) && !d->start) {
        d->start = node;
        node->name = STR("start");
        map_put(&d->by_name, node->name, d);
    } else {
        node->name = dify_new_name(d, node->title, otherwise);
    }
    node->last = node->name;
    bool extracts = json_get_bool(yyjson_obj_get(node->data, "extract_by"), "enabled", false);
    if (str_eq(node->type, STR("list-operator")) && extracts)
        node->last = dify_new_name(d, arena_concat(d->arena, node->name, STR("_item")), "item");
}

static void read_node(struct dify *d, yyjson_val *outer)
{
    yyjson_val *data = yyjson_obj_get(outer, "data");
    struct dify_node *node = &d->nodes[d->count];
    *node = (struct dify_node){.id = dify_id_text(d, yyjson_obj_get(outer, "id")),
                               .type = json_get_text(data, "type"),
                               .title = json_get_text(data, "title"),
                               .outer = outer,
                               .data = data,
                               .parent = NO_NODE};
    if (!node->id.n || map_get(&d->by_id, node->id))
        return; /* an id twice: the file is broken there, edges say so */
    if (str_eq(json_get_text(outer, "type"), STR("custom-note")))
        node->type = STR("note");
    node->rule = dify_rule_find(node->type);
    node->dropped = is_dropped(node->type);
    if (!node->dropped)
        name_node(d, node);
    map_put(&d->by_id, node->id, node);
    d->count++;
}

/* Whose child it is: said in three ways, of which any will do. */
static void find_parent(struct dify *d, struct dify_node *node)
{
    yyjson_val *says[] = {yyjson_obj_get(node->data, "iteration_id"),
                          yyjson_obj_get(node->data, "loop_id"),
                          yyjson_obj_get(node->outer, "parentId")};
    for (size_t i = 0; i < COUNT_OF(says) && node->parent == NO_NODE; i++) {
        struct dify_node *parent = dify_find(d, dify_id_text(d, says[i]));
        bool container =
            parent && (str_eq(parent->type, STR("iteration")) || str_eq(parent->type, STR("loop")));
        if (container && parent != node)
            node->parent = (size_t)(parent - d->nodes);
    }
}

/* ---- what never runs ---- */

static struct str edge_end(struct dify *d, yyjson_val *edge, const char *which)
{
    return dify_id_text(d, yyjson_obj_get(edge, which));
}

static void mark_reached(struct dify *d, yyjson_val *edges)
{
    size_t i, n;
    yyjson_val *edge;
    for (bool again = true; again;) {
        again = false;
        yyjson_arr_foreach(edges, i, n, edge)
        {
            struct dify_node *from = dify_find(d, edge_end(d, edge, "source")),
                             *to = dify_find(d, edge_end(d, edge, "target"));
            again = again || (from && to && from->reached && !to->reached);
            if (from && to && from->reached)
                to->reached = true;
        }
    }
}

/* A container's children start at its own start node, or, in old files, at the one it names. */
static void find_reached(struct dify *d, yyjson_val *edges)
{
    for (size_t i = 0; i < d->count; i++) {
        struct dify_node *node = &d->nodes[i];
        bool inner_start = str_ends(node->type, STR("-start"));
        struct str first = dify_id_text(d, yyjson_obj_get(node->data, "start_node_id"));
        node->reached = node->reached || node == d->start || (inner_start && node->dropped);
        if (first.n && dify_find(d, first))
            dify_find(d, first)->reached = true;
    }
    mark_reached(d, edges);
    for (size_t i = 0; i < d->count; i++) {
        struct dify_node *node = &d->nodes[i];
        if (node->reached || node->dropped || str_eq(node->type, STR("note")))
            continue;
        d->current = node;
        dify_note(d, false, "", "nothing leads there: it never runs and is left out");
        node->dropped = true;
    }
    d->current = NULL;
}

/* ---- making nodes ---- */

static void put_position(struct dify *d, yyjson_mut_val *o, const struct dify_node *node)
{
    yyjson_val *position = yyjson_obj_get(node->outer, "position");
    yyjson_mut_val *out = yyjson_mut_obj_add_obj(d->doc, o, "position");
    yyjson_mut_obj_add_int(d->doc, out, "x", json_get_int(position, "x", 0));
    yyjson_mut_obj_add_int(d->doc, out, "y", json_get_int(position, "y", 0));
}

yyjson_mut_val *dify_add_node(struct dify *d, struct dify_node *beside, struct str name,
                              const char *type, yyjson_mut_val **config)
{
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, d->out_nodes);
    json_set_text(d->doc, o, "id", name);
    yyjson_mut_obj_add_str(d->doc, o, "type", type);
    if (beside->title.n)
        json_set_text(d->doc, o, "title", beside->title);
    put_position(d, o, beside);
    if (beside->parent != NO_NODE && !d->nodes[beside->parent].dropped)
        json_set_text(d->doc, o, "parent", d->nodes[beside->parent].name);
    *config = yyjson_mut_obj_add_obj(d->doc, o, "config");
    return o;
}

void dify_add_edge(struct dify *d, struct str from, struct str port, struct str to)
{
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, d->out_edges);
    json_set_text(d->doc, o, "from", from);
    if (!str_eq(port, STR("out")))
        json_set_text(d->doc, o, "port", port);
    json_set_text(d->doc, o, "to", to);
}

static void put_default(struct dify *d, struct dify_node *node)
{
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(d->doc, node->mapped, "default");
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_obj_get(node->data, "default_value"), i, n, item)
    {
        yyjson_val *value = yyjson_obj_get(item, "value");
        struct str key = dify_output_name(node, json_get_text(item, "key")),
                   text = str_trim(json_text(value));
        yyjson_doc *doc;
        struct err err = {0};
        bool typed = text.n && !str_eq(json_get_text(item, "type"), STR("string"));
        if (typed && json_read(text, d->arena, &doc, &err) == RC_OK)
            value = yyjson_doc_get_root(doc);
        if (key.n)
            yyjson_mut_obj_add(o, json_new_text(d->doc, key), yyjson_val_mut_copy(d->doc, value));
    }
}

/* Retry and what is done about errors, where our type offers it. */
static void put_errors(struct dify *d, struct dify_node *node, const struct node_type *type)
{
    struct str strategy = json_get_text(node->data, "error_strategy");
    yyjson_val *retry = yyjson_obj_get(node->data, "retry_config");
    bool retries = json_get_bool(retry, "retry_enabled", false);
    if (!type->errors)
        return;
    if (retries) {
        yyjson_mut_val *o = yyjson_mut_obj_add_obj(d->doc, node->mapped, "retry");
        yyjson_mut_obj_add_int(d->doc, o, "max",
                               MAX(0, MIN(json_get_int(retry, "max_retries", 3), 10)));
        yyjson_mut_obj_add_int(d->doc, o, "interval_ms",
                               MAX(0, MIN(json_get_int(retry, "retry_interval", 1000), 60000)));
    }
    if (str_eq(strategy, STR("fail-branch")))
        yyjson_mut_obj_add_str(d->doc, node->mapped, "on_error", "branch");
    if (str_eq(strategy, STR("default-value"))) {
        yyjson_mut_obj_add_str(d->doc, node->mapped, "on_error", "default");
        put_default(d, node);
    }
}

/* Text of a note: as it is, or gathered from the tree that the editor keeps. */
static void gather_text(yyjson_val *value, struct buf *out)
{
    size_t i, n;
    yyjson_val *key, *item;
    yyjson_arr_foreach(value, i, n, item) gather_text(item, out);
    yyjson_obj_foreach(value, i, n, key, item)
    {
        if (yyjson_equals_str(key, "text") && yyjson_is_str(item))
            (void)!buf_append(out, json_text(item));
        else if (yyjson_is_ctn(item))
            gather_text(item, out);
    }
    if (str_eq(json_get_text(value, "type"), STR("paragraph")))
        (void)!buf_append_char(out, '\n');
}

/* So that no template begins in it. */
static struct str harmless(struct dify *d, struct str text)
{
    char *out = arena_alloc(d->arena, 2 * text.n + 1);
    size_t n = 0;
    for (size_t i = 0; out && i < text.n && n < 60000; i++) {
        if (i && text.p[i - 1] == '{' && strchr("{%#", text.p[i]) && text.p[i])
            out[n++] = ' ';
        out[n++] = text.p[i];
    }
    return str_make(out, n);
}

static void put_note(struct dify *d, struct dify_node *node)
{
    yyjson_mut_val *config;
    struct str text = json_get_text(node->data, "text");
    struct err err = {0};
    yyjson_doc *doc;
    struct buf out;
    dify_add_node(d, node, node->name, "note", &config);
    buf_init(&out, 65536);
    if (text.n && text.p[0] == '{' && json_read(text, d->arena, &doc, &err) == RC_OK) {
        gather_text(yyjson_doc_get_root(doc), &out);
        text = arena_copy(d->arena, buf_str(&out));
    }
    buf_fini(&out);
    json_set_text(d->doc, config, "text", harmless(d, str_trim(text)));
    for (int i = 0; i < 2; i++) {
        static const char *const names[] = {"width", "height"};
        yyjson_val *size = yyjson_obj_get(node->data, names[i]);
        if (yyjson_is_num(size))
            yyjson_mut_obj_add_val(d->doc, config, names[i], yyjson_val_mut_copy(d->doc, size));
    }
}

/* What has no counterpart stays on the canvas as a note with what it held. */
static void put_unknown(struct dify *d, struct dify_node *node)
{
    yyjson_mut_val *config;
    const char *why = node->rule && node->rule->why ? node->rule->why : NULL;
    dify_add_node(d, node, node->name, "note", &config);
    struct str raw = json_write(node->data, d->arena);
    json_set_text(d->doc, config, "text",
                  arena_printf(d->arena, "Not imported: %.*s \"%.*s\"\n%.*s", STR_ARG(node->type),
                               STR_ARG(node->title), STR_ARG(harmless(d, raw))));
    dify_note(d, true, "", "%.*s: %s", STR_ARG(node->type),
              why ? why : "nodes of this type are not known here");
}

static void map_node(struct dify *d, struct dify_node *node)
{
    yyjson_mut_val *config;
    d->current = node;
    const struct node_type *type =
        node->rule && node->rule->to ? node_type_find(str_from(node->rule->to)) : NULL;
    if (str_eq(node->type, STR("note"))) {
        put_note(d, node);
    } else if (!type) {
        put_unknown(d, node);
        node->dropped = true;
    } else {
        node->mapped = dify_add_node(d, node, node->name, node->rule->to, &config);
        node->rule->map(d, node, config);
        put_errors(d, node, type);
    }
    d->current = NULL;
}

/* ---- edges ---- */

static struct str map_port(struct dify *d, const struct dify_node *node, struct str handle)
{
    if (!handle.n || str_eq(handle, STR("source")))
        return STR("out");
    if (str_eq(handle, STR("fail-branch")))
        return STR("error");
    if (str_eq(node->type, STR("if-else")) && str_eq(handle, STR("false")))
        return STR("else");
    if (str_eq(handle, STR("__timeout")))
        return STR("timeout");
    return dify_port(d, handle);
}

/* What leaves each node, as a chain through `next`. */
struct edge_list {
    struct edge {
        size_t to, next; /* next: NO_NODE at the end */
    } *items;
    size_t *first; /* of each node */
    size_t count;
};

/* Whether a way leads from `from` to `to` over the edges that are there. */
static bool leads_to(struct dify *d, const struct edge_list *edges, size_t from, size_t to)
{
    bool *seen = xcalloc(d->count, 1);
    size_t *stack = xcalloc(d->count, sizeof(*stack)), depth = 0;
    bool found = from == to;
    stack[depth++] = from; /* each node at most once */
    seen[from] = true;
    while (depth && !found)
        for (size_t at = edges->first[stack[--depth]]; at != NO_NODE; at = edges->items[at].next) {
            size_t next = edges->items[at].to;
            found = found || next == to;
            if (!seen[next])
                stack[depth++] = next;
            seen[next] = true;
        }
    free(seen);
    free(stack);
    return found;
}

static void map_edge(struct dify *d, yyjson_val *json, struct edge_list *edges)
{
    struct str ends[2] = {edge_end(d, json, "source"), edge_end(d, json, "target")};
    struct dify_node *from = dify_find(d, ends[0]), *to = dify_find(d, ends[1]);
    if (!from || !to) {
        dify_note(d, false, "", "an edge from '%.*s' to '%.*s' is dropped: one of them is missing",
                  STR_ARG(ends[0]), STR_ARG(ends[1]));
        return;
    }
    if (from->dropped || to->dropped || from->parent != to->parent)
        return; /* a container's own start, or what was left out and told */
    size_t a = (size_t)(from - d->nodes), b = (size_t)(to - d->nodes);
    if (leads_to(d, edges, b, a)) {
        d->current = from;
        dify_note(d, false, "", "its edge to '%.*s' closes a circle and is dropped",
                  STR_ARG(to->name));
        d->current = NULL;
        return;
    }
    edges->items[edges->count] = (struct edge){b, edges->first[a]};
    edges->first[a] = edges->count++;
    dify_add_edge(d, from->last,
                  map_port(d, from, dify_id_text(d, yyjson_obj_get(json, "sourceHandle"))),
                  to->name);
}

static void map_edges(struct dify *d, yyjson_val *list)
{
    struct edge_list edges = {.items =
                                  ARENA_NEW_ARRAY(d->arena, struct edge, yyjson_arr_size(list) + 1),
                              .first = ARENA_NEW_ARRAY(d->arena, size_t, d->count + 1)};
    size_t i, n;
    yyjson_val *edge;
    for (i = 0; edges.first && i < d->count; i++)
        edges.first[i] = NO_NODE;
    if (edges.items && edges.first)
        yyjson_arr_foreach(list, i, n, edge) map_edge(d, edge, &edges);
}

/* ---- variables, features ---- */

static void put_variables(struct dify *d, yyjson_mut_val *out, const char *name, yyjson_val *list)
{
    yyjson_mut_val *items = yyjson_mut_obj_add_arr(d->doc, out, name);
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(list, i, n, item)
    {
        struct str type = json_get_text(item, "value_type");
        yyjson_val *value = yyjson_obj_get(item, "value");
        bool secret = str_eq(type, STR("secret")) && !json_text(value).n;
        bool number = str_eq(type, STR("number")) || str_eq(type, STR("integer")) ||
                      str_eq(type, STR("float"));
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, items);
        json_set_text(d->doc, o, "name", dify_identifier(d, json_get_text(item, "name")));
        yyjson_mut_obj_add_str(d->doc, o, "type",
                               number                           ? "number"
                               : str_starts(type, STR("array")) ? "array"
                               : str_eq(type, STR("object"))    ? "object"
                               : str_eq(type, STR("boolean"))   ? "boolean"
                                                                : "string");
        if (value)
            yyjson_mut_obj_add_val(d->doc, o, "value", yyjson_val_mut_copy(d->doc, value));
        if (secret)
            dify_note(d, true, "variables", "the secret '%.*s' is not in the file: set it",
                      STR_ARG(json_get_text(item, "name")));
    }
}

static void note_features(struct dify *d)
{
    static const char *const switches[] = {"suggested_questions_after_answer", "speech_to_text",
                                           "text_to_speech", "sensitive_word_avoidance"};
    yyjson_val *features = yyjson_obj_get(d->workflow, "features");
    if (json_get_text(features, "opening_statement").n)
        dify_note(d, false, "features",
                  "the opening statement is left out: set it where the "
                  "pipeline is shown");
    for (size_t i = 0; i < COUNT_OF(switches); i++)
        if (json_get_bool(yyjson_obj_get(features, switches[i]), "enabled", false))
            dify_note(d, false, "features", "%s is left out", switches[i]);
}

/* The question and files that Dify's chat gives besides the start's inputs. */
static void put_implied_inputs(struct dify *d)
{
    yyjson_mut_val *config = d->start ? yyjson_mut_obj_get(d->start->mapped, "config") : NULL;
    yyjson_mut_val *inputs = yyjson_mut_obj_get(config, "inputs"), *item;
    bool query = d->chat, files = d->uses_files;
    size_t i, n;
    yyjson_mut_arr_foreach(inputs, i, n, item)
    {
        yyjson_mut_val *name = yyjson_mut_obj_get(item, "name");
        query = query && !yyjson_mut_equals_str(name, "query");
        files = files && !yyjson_mut_equals_str(name, "files");
    }
    if (query) {
        item = yyjson_mut_arr_add_obj(d->doc, inputs);
        yyjson_mut_obj_add_str(d->doc, item, "name", "query");
        yyjson_mut_obj_add_str(d->doc, item, "type", "string");
        yyjson_mut_obj_add_bool(d->doc, item, "long", true);
        yyjson_mut_obj_add_bool(d->doc, item, "required", d->uses_query);
    }
    if (files) {
        item = yyjson_mut_arr_add_obj(d->doc, inputs);
        yyjson_mut_obj_add_str(d->doc, item, "name", "files");
        yyjson_mut_obj_add_str(d->doc, item, "type", "array");
    }
}

/* ---- the whole ---- */

static yyjson_mut_val *report_nodes(struct dify *d)
{
    yyjson_mut_val *list = yyjson_mut_arr(d->doc);
    for (size_t i = 0; i < d->count; i++) {
        const struct dify_node *node = &d->nodes[i];
        if (!node->name.n)
            continue;
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, list);
        json_set_text(d->doc, o, "id", node->name);
        json_set_text(d->doc, o, "title", node->title);
        json_set_text(d->doc, o, "from", node->type);
        if (str_eq(node->type, STR("note")))
            yyjson_mut_obj_add_str(d->doc, o, "to", "note");
        else if (!node->dropped && node->rule)
            yyjson_mut_obj_add_str(d->doc, o, "to", node->rule->to);
        else
            yyjson_mut_obj_add_null(d->doc, o, "to");
    }
    return list;
}

static yyjson_mut_val *convert(struct dify *d, yyjson_val *root)
{
    yyjson_val *graph = yyjson_obj_get(d->workflow, "graph"), *item;
    yyjson_val *nodes = yyjson_obj_get(graph, "nodes"), *edges = yyjson_obj_get(graph, "edges");
    size_t i, n;
    yyjson_mut_val *out = yyjson_mut_obj(d->doc);
    yyjson_mut_obj_add_int(d->doc, out, "schema", 1);
    json_set_text(d->doc, out, "description",
                  json_get_text(yyjson_obj_get(root, "app"), "description"));
    d->out_nodes = yyjson_mut_obj_add_arr(d->doc, out, "nodes");
    d->out_edges = yyjson_mut_obj_add_arr(d->doc, out, "edges");
    d->models = yyjson_mut_arr(d->doc);
    d->collections = yyjson_mut_arr(d->doc);
    yyjson_arr_foreach(nodes, i, n, item) read_node(d, item);
    for (i = 0; i < d->count; i++)
        find_parent(d, &d->nodes[i]);
    find_reached(d, edges);
    for (i = 0; i < d->count;
         i++) /* first: what reads from them must know that they are not there */
        if (!d->nodes[i].dropped && d->nodes[i].rule && d->nodes[i].rule->to &&
            !node_type_find(str_from(d->nodes[i].rule->to)))
            d->nodes[i].rule = NULL;
    for (i = 0; i < d->count; i++)
        if (!d->nodes[i].dropped)
            map_node(d, &d->nodes[i]);
    map_edges(d, edges);
    put_implied_inputs(d);
    yyjson_mut_val *variables = yyjson_mut_obj_add_obj(d->doc, out, "variables");
    put_variables(d, variables, "environment",
                  yyjson_obj_get(d->workflow, "environment_variables"));
    put_variables(d, variables, "conversation",
                  yyjson_obj_get(d->workflow, "conversation_variables"));
    note_features(d);
    return out;
}

bool dify_is_file(yyjson_val *root)
{
    return yyjson_is_obj(yyjson_obj_get(root, "app")) &&
           (yyjson_is_obj(yyjson_obj_get(root, "workflow")) ||
            json_get_text(yyjson_obj_get(root, "app"), "mode").n);
}

static enum rc check_frame(yyjson_val *root, struct err *err)
{
    yyjson_val *app = yyjson_obj_get(root, "app");
    struct str mode = json_get_text(app, "mode"), kind = json_get_text(root, "kind");
    yyjson_val *graph = yyjson_obj_get(yyjson_obj_get(root, "workflow"), "graph");
    if (kind.n && !str_eq(kind, STR("app")))
        return err_set_field(err, ERR_UNSUPPORTED, "kind",
                             "files of kind '%.*s' hold no app: only kind 'app' can be imported",
                             STR_ARG(kind));
    if (!str_eq(mode, STR("workflow")) && !str_eq(mode, STR("advanced-chat")))
        return err_set_field(err, ERR_UNSUPPORTED, "app.mode",
                             "an app of mode '%.*s' has no graph: only 'workflow' and "
                             "'advanced-chat' can be imported",
                             STR_ARG(mode));
    if (!yyjson_is_arr(yyjson_obj_get(graph, "nodes")))
        return err_set_field(err, ERR_MISSING_FIELD, "workflow.graph.nodes",
                             "the app has no graph");
    if (yyjson_arr_size(yyjson_obj_get(graph, "nodes")) > DIFY_NODES_MAX ||
        yyjson_arr_size(yyjson_obj_get(graph, "edges")) > 4 * DIFY_NODES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the app has more than %d nodes", DIFY_NODES_MAX);
    return RC_OK;
}

static void note_version(struct dify *d, yyjson_val *root)
{
    struct str version = json_get_text(root, "version"), major, minor;
    int64_t number;
    bool known = str_split(&version, '.', &major) && str_split(&version, '.', &minor) &&
                 str_eq(major, STR("0")) && str_to_i64(minor, &number) == RC_OK && number >= 3 &&
                 number <= 7;
    if (!known)
        dify_note(d, false, "version",
                  "versions 0.3 to 0.7 of the format are known; this is '%.*s'",
                  STR_ARG(json_get_text(root, "version")));
}

enum rc dify_read(yyjson_val *root, const struct import_options *options, struct arena *arena,
                  struct pipeline_file *out, struct err *err)
{
    enum rc rc = check_frame(root, err);
    if (rc != RC_OK)
        return rc;
    yyjson_val *app = yyjson_obj_get(root, "app"), *workflow = yyjson_obj_get(root, "workflow");
    size_t count = yyjson_arr_size(yyjson_obj_get(yyjson_obj_get(workflow, "graph"), "nodes"));
    struct dify d = {.arena = arena,
                     .doc = json_tree_new(arena),
                     .options = options,
                     .notes = ARENA_NEW(arena, struct findings),
                     .workflow = workflow,
                     .nodes = ARENA_NEW_ARRAY(arena, struct dify_node, count + 1),
                     .chat = str_eq(json_get_text(app, "mode"), STR("advanced-chat"))};
    if (!d.doc || !d.notes || !d.nodes)
        return err_set(err, ERR_TOO_LARGE, "the app is too large");
    map_init(&d.by_id);
    map_init(&d.by_name);
    findings_init(d.notes, arena);
    note_version(&d, root);
    yyjson_mut_val *definition = convert(&d, root);
    yyjson_doc *docs[4] = {json_freeze(definition, arena), json_freeze(report_nodes(&d), arena),
                           json_freeze(d.models, arena), json_freeze(d.collections, arena)};
    map_fini(&d.by_id);
    map_fini(&d.by_name);
    if (!docs[0] || !docs[1] || !docs[2] || !docs[3])
        return err_set(err, ERR_TOO_LARGE, "the app is too large");
    *out = (struct pipeline_file){
        .format = PIPELINE_FILE_DIFY,
        .name = pipeline_file_name(json_get_text(app, "name"), arena),
        .definition = yyjson_doc_get_root(docs[0]),
        .nodes = yyjson_doc_get_root(docs[1]),
        .notes = d.notes,
        .models = yyjson_doc_get_root(docs[2]),
        .collections = yyjson_doc_get_root(docs[3]),
    };
    return RC_OK;
}
