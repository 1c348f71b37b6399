/* libyaml composes the document; a walk turns its nodes into a yyjson tree. See yaml.h. */
#include "text/yaml_private.h"
#include "text/json_tree.h"
#include <stdlib.h>
#include <yaml.h>

struct walk {
    yaml_document_t *document;
    struct arena *arena;
    struct yaml_lines *lines;
    yyjson_mut_doc *doc;
    struct err *err;
    size_t nodes;
};

static enum rc refuse(struct walk *walk, const yaml_node_t *node, const char *what)
{
    return err_set(walk->err, ERR_INVALID, "line %zu: %s", node->start_mark.line + 1, what);
}

static enum rc no_memory(struct walk *walk)
{
    return err_set(walk->err, ERR_TOO_LARGE, "the YAML text is too large");
}

static struct str node_text(const yaml_node_t *node)
{
    return str_make(node->data.scalar.value, node->data.scalar.length);
}

static void keep_line(struct walk *walk, struct str path, const yaml_node_t *node)
{
    if (walk->lines && path.p)
        map_put(&walk->lines->by_path, path, (void *)(uintptr_t)(node->start_mark.line + 1));
}

static bool text_is_one_of(struct str s, const char *const *words)
{
    for (; *words; words++)
        if (str_eq(s, str_from(*words)))
            return true;
    return false;
}

yyjson_mut_val *yaml_plain_scalar(yyjson_mut_doc *doc, struct str s)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    int64_t integer;
    double number;
    if (s.n <= 5 && text_is_one_of(s, nulls))
        return yyjson_mut_null(doc);
    if (s.n <= 5 && text_is_one_of(s, trues))
        return yyjson_mut_true(doc);
    if (s.n <= 5 && text_is_one_of(s, falses))
        return yyjson_mut_false(doc);
    bool numeric =
        (s.p[0] >= '0' && s.p[0] <= '9') || s.p[0] == '-' || s.p[0] == '+' || s.p[0] == '.';
    if (numeric && str_to_i64(s, &integer) == RC_OK)
        return yyjson_mut_sint(doc, integer);
    if (numeric && str_to_double(s, &number) == RC_OK)
        return yyjson_mut_real(doc, number);
    return json_new_text(doc, s);
}

static enum rc walk_node(struct walk *walk, int id, struct str path, int depth,
                         yyjson_mut_val **out);

static enum rc walk_sequence(struct walk *walk, const yaml_node_t *node, struct str path, int depth,
                             yyjson_mut_val *array)
{
    size_t index = 0;
    for (yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++) {
        yyjson_mut_val *value;
        struct str inner =
            walk->lines ? arena_printf(walk->arena, "%.*s[%zu]", STR_ARG(path), index++) : path;
        enum rc rc = walk_node(walk, *item, inner, depth + 1, &value);
        if (rc != RC_OK)
            return rc;
        yyjson_mut_arr_append(array, value);
    }
    return RC_OK;
}

static enum rc walk_members(struct walk *walk, const yaml_node_t *node, struct str path, int depth,
                            struct map *names, yyjson_mut_val *object)
{
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
        yyjson_mut_val *value;
        if (key->type != YAML_SCALAR_NODE)
            return refuse(walk, key, "a key must be a text");
        struct str name = node_text(key);
        if (str_eq(name, STR("<<")))
            return refuse(walk, key, "merge keys (<<) are not supported; write the members out");
        if (map_put(names, name, (void *)key))
            return err_set(walk->err, ERR_INVALID, "line %zu: '%.*s' stands here twice",
                           key->start_mark.line + 1, STR_ARG(name));
        struct str inner = walk->lines ? arena_printf(walk->arena, "%.*s%s%.*s", STR_ARG(path),
                                                      path.n ? "." : "", STR_ARG(name))
                                       : path;
        enum rc rc = walk_node(walk, pair->value, inner, depth + 1, &value);
        if (rc != RC_OK)
            return rc;
        keep_line(walk, inner, key);
        yyjson_mut_obj_add(object, json_new_text(walk->doc, name), value);
    }
    return RC_OK;
}

static enum rc walk_mapping(struct walk *walk, const yaml_node_t *node, struct str path, int depth,
                            yyjson_mut_val *object)
{
    struct map names; /* a name given twice is refused */
    map_init(&names);
    enum rc rc = walk_members(walk, node, path, depth, &names, object);
    map_fini(&names);
    return rc;
}

static enum rc walk_node(struct walk *walk, int id, struct str path, int depth,
                         yyjson_mut_val **out)
{
    const yaml_node_t *node = yaml_document_get_node(walk->document, id);
    enum rc rc = RC_OK;
    if (depth > YAML_DEPTH_MAX)
        return refuse(walk, node, "nested too deeply");
    if (++walk->nodes > YAML_NODES_MAX)
        return refuse(walk, node, "too many values, aliases counted");
    switch (node->type) {
    case YAML_SCALAR_NODE:
        *out = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE
                   ? yaml_plain_scalar(walk->doc, node_text(node))
                   : json_new_text(walk->doc, node_text(node));
        break;
    case YAML_SEQUENCE_NODE:
        *out = yyjson_mut_arr(walk->doc);
        rc = walk_sequence(walk, node, path, depth, *out);
        break;
    case YAML_MAPPING_NODE:
        *out = yyjson_mut_obj(walk->doc);
        rc = walk_mapping(walk, node, path, depth, *out);
        break;
    default: return refuse(walk, node, "a value is missing");
    }
    if (rc == RC_OK && (!*out || !path.p))
        rc = no_memory(walk);
    if (rc == RC_OK)
        keep_line(walk, path, node);
    return rc;
}

/* The tree borrows the document's texts: it is frozen before they go. */
static enum rc read_document(yaml_parser_t *parser, struct walk *walk, yyjson_doc **out)
{
    yaml_document_t document;
    if (!yaml_parser_load(parser, &document))
        return err_set(walk->err, ERR_INVALID, "line %zu: %s", parser->problem_mark.line + 1,
                       parser->problem ? parser->problem : "this is not YAML");
    yyjson_mut_val *root = yyjson_mut_obj(walk->doc);
    enum rc rc = RC_OK;
    walk->document = &document;
    if (yaml_document_get_root_node(&document))
        rc = walk_node(walk, 1, STR(""), 0, &root);
    if (rc == RC_OK && !(*out = json_freeze(root, walk->arena)))
        rc = no_memory(walk);
    yaml_document_delete(&document);
    return rc;
}

enum rc yaml_read_full(struct str text, struct arena *arena, struct yaml_lines *lines,
                       yyjson_doc **out, struct err *err)
{
    struct walk walk = {.arena = arena, .lines = lines, .doc = json_tree_new(arena), .err = err};
    yaml_parser_t parser;
    if (!walk.doc || !yaml_parser_initialize(&parser))
        return err_set(err, ERR_TOO_LARGE, "no memory for the YAML text");
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.p, text.n);
    enum rc rc = read_document(&parser, &walk, out);
    yaml_parser_delete(&parser);
    return rc;
}

enum rc yaml_read(struct str text, struct arena *arena, struct yaml_lines *lines, yyjson_doc **out,
                  struct err *err)
{
    if (lines)
        map_init(&lines->by_path);
    if (text.n > YAML_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the YAML text is larger than %d bytes", YAML_BYTES_MAX);
    if (!lines && yaml_read_common(text, arena, out))
        return RC_OK;
    return yaml_read_full(text, arena, lines, out, err);
}

int yaml_line_of(const struct yaml_lines *lines, struct str path)
{
    for (;;) {
        void *line = map_get(&lines->by_path, path);
        if (line)
            return (int)(uintptr_t)line;
        if (path.n == 0)
            return 0;
        do
            path.n--;
        while (path.n && path.p[path.n] != '.' && path.p[path.n] != '[');
    }
}

void yaml_lines_fini(struct yaml_lines *lines) { map_fini(&lines->by_path); }

/* ---- writing ---- */

static int write_bytes(void *arg, unsigned char *bytes, size_t n)
{
    return buf_append(arg, str_make(bytes, n)) == RC_OK;
}

static bool emit(yaml_emitter_t *emitter, yaml_event_t *event, int made)
{
    return made && yaml_emitter_emit(emitter, event);
}

static bool emit_scalar(yaml_emitter_t *emitter, struct str s, bool quoted)
{
    yaml_event_t event;
    yaml_scalar_style_t style = quoted                   ? YAML_DOUBLE_QUOTED_SCALAR_STYLE
                                : memchr(s.p, '\n', s.n) ? YAML_LITERAL_SCALAR_STYLE
                                                         : YAML_ANY_SCALAR_STYLE;
    int made =
        yaml_scalar_event_initialize(&event, NULL, NULL, (yaml_char_t *)s.p, (int)s.n, 1, 1, style);
    return emit(emitter, &event, made);
}

/* Texts that a reader would take for something else are quoted. */
static bool emit_text(yaml_emitter_t *emitter, yyjson_val *value)
{
    struct str s = json_text(value);
    static const char *const words[] = {"",     "~",    "null",  "Null",  "NULL",  "true",
                                        "True", "TRUE", "false", "False", "FALSE", "yes",
                                        "no",   "on",   "off",   "y",     "n",     NULL};
    bool number_like = s.n && strchr("0123456789+-.", s.p[0]);
    return emit_scalar(emitter, s.p ? s : STR(""), number_like || text_is_one_of(s, words));
}

static bool emit_value(yaml_emitter_t *emitter, yyjson_val *value)
{
    yaml_event_t event;
    size_t i, count;
    yyjson_val *key, *item;
    bool ok;
    if (yyjson_is_str(value))
        return emit_text(emitter, value);
    if (yyjson_is_arr(value)) {
        ok = emit(
            emitter, &event,
            yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE));
        yyjson_arr_foreach(value, i, count, item) ok = ok && emit_value(emitter, item);
        return ok && emit(emitter, &event, yaml_sequence_end_event_initialize(&event));
    }
    if (yyjson_is_obj(value)) {
        ok = emit(
            emitter, &event,
            yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE));
        yyjson_obj_foreach(value, i, count, key, item) ok =
            ok && emit_text(emitter, key) && emit_value(emitter, item);
        return ok && emit(emitter, &event, yaml_mapping_end_event_initialize(&event));
    }
    size_t n = 0;
    char *text = yyjson_val_write(value, 0, &n);
    ok = text && emit_scalar(emitter, str_make(text, n), false);
    free(text); /* libyaml keeps a copy */
    return ok;
}

enum rc yaml_write(yyjson_val *value, struct buf *out)
{
    yaml_emitter_t emitter;
    yaml_event_t event;
    if (!yaml_emitter_initialize(&emitter))
        return RC_LIMIT;
    yaml_emitter_set_output(&emitter, write_bytes, out);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, 100);
    bool ok =
        emit(&emitter, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING)) &&
        emit(&emitter, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1)) &&
        emit_value(&emitter, value) &&
        emit(&emitter, &event, yaml_document_end_event_initialize(&event, 1)) &&
        emit(&emitter, &event, yaml_stream_end_event_initialize(&event));
    yaml_emitter_delete(&emitter);
    return ok ? RC_OK : RC_LIMIT;
}
