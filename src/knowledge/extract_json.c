/* JSON and JSON Lines as text that can be found: one "path: value" line per value. Each item of a
 * list at the top, each member of an object at the top, and each line of JSON Lines is a block. */
#include "knowledge/extract_reader.h"
#include <stdio.h>
#include <yyjson.h>

#define PATH_BYTES_MAX 512

struct json {
    struct reader *reader;
    struct buf text; /* of the block */
    char path[PATH_BYTES_MAX];
    unsigned depth;
};

static enum rc add_value(struct json *json, yyjson_val *value, size_t path_bytes);

static size_t extend_path(struct json *json, size_t n, const char *fmt, struct str name)
{
    if (n >= PATH_BYTES_MAX - 1)
        return n;
    int more = snprintf(json->path + n, PATH_BYTES_MAX - n, fmt, STR_ARG(name));
    return MIN(n + (size_t)MAX(more, 0), PATH_BYTES_MAX - 1);
}

static enum rc add_members(struct json *json, yyjson_val *object, size_t path_bytes)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    yyjson_val *key;
    enum rc rc = RC_OK;
    while (rc == RC_OK && (key = yyjson_obj_iter_next(&iter))) {
        struct str name = str_make(yyjson_get_str(key), yyjson_get_len(key));
        size_t n = extend_path(json, path_bytes, path_bytes ? ".%.*s" : "%.*s", name);
        rc = add_value(json, yyjson_obj_iter_get_val(key), n);
    }
    return rc;
}

static enum rc add_items(struct json *json, yyjson_val *list, size_t path_bytes)
{
    yyjson_arr_iter iter = yyjson_arr_iter_with(list);
    yyjson_val *item;
    enum rc rc = RC_OK;
    while (rc == RC_OK && (item = yyjson_arr_iter_next(&iter)))
        rc = add_value(json, item, path_bytes); /* the list's name says enough */
    return rc;
}

static enum rc add_scalar(struct json *json, yyjson_val *value, size_t path_bytes)
{
    struct str path = str_make(json->path, path_bytes), text = STR_EMPTY;
    char number[64];
    if (yyjson_is_str(value))
        text = str_make(yyjson_get_str(value), yyjson_get_len(value));
    else if (yyjson_is_raw(value))
        text = str_make(yyjson_get_raw(value), yyjson_get_len(value));
    else if (yyjson_is_bool(value))
        text = yyjson_get_bool(value) ? STR("true") : STR("false");
    else if (yyjson_is_num(value))
        text = str_make(number,
                        (size_t)snprintf(number, sizeof(number), "%.17g", yyjson_get_num(value)));
    if (!text.n)
        return RC_OK; /* null and "" say nothing */
    enum rc rc = RC_OK;
    if (path.n)
        rc = buf_append(&json->text, path);
    if (rc == RC_OK && path.n)
        rc = buf_append(&json->text, STR(": "));
    if (rc == RC_OK)
        rc = buf_append(&json->text, text);
    return rc == RC_OK ? buf_append_char(&json->text, '\n') : rc;
}

static enum rc add_value(struct json *json, yyjson_val *value, size_t path_bytes)
{
    if (++json->depth > READ_DEPTH_MAX)
        return err_set(json->reader->err, ERR_INVALID, "its JSON nests deeper than %d",
                       READ_DEPTH_MAX);
    enum rc rc = yyjson_is_obj(value)   ? add_members(json, value, path_bytes)
                 : yyjson_is_arr(value) ? add_items(json, value, path_bytes)
                                        : add_scalar(json, value, path_bytes);
    json->depth--;
    return rc;
}

static enum rc flush(struct json *json, enum rc rc)
{
    if (rc == RC_OK)
        rc = reader_add(json->reader, BLOCK_TEXT, 0, buf_str(&json->text), NULL);
    buf_clear(&json->text);
    return rc;
}

/* The top of a document: blocks are its items or members. */
static enum rc add_top(struct json *json, yyjson_val *top)
{
    enum rc rc = RC_OK;
    yyjson_val *item;
    if (yyjson_is_arr(top)) {
        yyjson_arr_iter iter = yyjson_arr_iter_with(top);
        while (rc == RC_OK && (item = yyjson_arr_iter_next(&iter)))
            rc = flush(json, add_value(json, item, 0));
    } else if (yyjson_is_obj(top)) {
        yyjson_obj_iter iter = yyjson_obj_iter_with(top);
        while (rc == RC_OK && (item = yyjson_obj_iter_next(&iter))) {
            struct str name = str_make(yyjson_get_str(item), yyjson_get_len(item));
            size_t n = extend_path(json, 0, "%.*s", name);
            if (str_eq(name, STR("title")))
                reader_set_title(json->reader,
                                 str_from(yyjson_get_str(yyjson_obj_iter_get_val(item))));
            rc = flush(json, add_value(json, yyjson_obj_iter_get_val(item), n));
        }
    } else {
        rc = flush(json, add_value(json, top, 0));
    }
    return rc;
}

/* Numbers stay as they are written. */
static yyjson_doc *parse(struct str text, yyjson_read_err *error)
{
    return yyjson_read_opts((char *)(text.n ? text.p : ""), text.n,
                            YYJSON_READ_NUMBER_AS_RAW | YYJSON_READ_ALLOW_TRAILING_COMMAS |
                                YYJSON_READ_ALLOW_COMMENTS,
                            NULL, error);
}

static size_t line_of(struct str text, size_t at)
{
    size_t line = 1;
    for (size_t i = 0; i < MIN(at, text.n); i++)
        line += text.p[i] == '\n';
    return line;
}

enum rc read_json(struct reader *reader, struct str bytes)
{
    struct str text;
    enum rc rc = charset_decode(reader, bytes, STR_EMPTY, &text);
    if (rc != RC_OK)
        return rc;
    yyjson_read_err error;
    yyjson_doc *doc = parse(text, &error);
    if (!doc)
        return err_set(reader->err, ERR_INVALID, "its JSON is broken in line %zu: %s",
                       line_of(text, error.pos), error.msg);
    struct json json = {.reader = reader};
    buf_init(&json.text, (size_t)reader->limits.text_bytes);
    rc = add_top(&json, yyjson_doc_get_root(doc));
    buf_fini(&json.text);
    yyjson_doc_free(doc);
    return rc == RC_LIMIT && !reader->err->code ? reader_no_memory(reader) : rc;
}

enum rc read_json_lines(struct reader *reader, struct str bytes)
{
    struct str text, line;
    enum rc rc = charset_decode(reader, bytes, STR_EMPTY, &text);
    struct json json = {.reader = reader};
    buf_init(&json.text, (size_t)reader->limits.text_bytes);
    for (size_t number = 1; rc == RC_OK && str_split(&text, '\n', &line); number++) {
        line = str_trim(line);
        if (!line.n)
            continue;
        yyjson_read_err error;
        yyjson_doc *doc = parse(line, &error);
        if (!doc) {
            rc = err_set(reader->err, ERR_INVALID, "its JSON is broken in line %zu: %s", number,
                         error.msg);
            break;
        }
        json.depth = 0;
        rc = flush(&json, add_value(&json, yyjson_doc_get_root(doc), 0));
        yyjson_doc_free(doc);
    }
    buf_fini(&json.text);
    return rc == RC_LIMIT && !reader->err->code ? reader_no_memory(reader) : rc;
}
