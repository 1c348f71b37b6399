/* Mustache as prompts use it: {{name}}, {{a.b}}, {{{name}}} and {{&name}} (the same: nothing is
 * escaped), sections {{#list}} … {{/list}}, inverted sections {{^list}}, comments {{! … }}. A tag
 * alone on its line takes the line with it where it prints nothing. Partials and other delimiters
 * are refused. */
#include "text/template_private.h"
#include "base/utf8.h"
#include "text/json.h"
#include <stdio.h>

#define SECTIONS_MAX   32 /* within each other */
#define PATH_MAX_PARTS 16

enum tag_kind { TAG_TEXT, TAG_NAME, TAG_SECTION, TAG_INVERTED, TAG_END };

struct mustache {
    enum tag_kind kind;
    struct str text;       /* TAG_TEXT: it; else the name */
    uint32_t at;           /* in the source */
    struct mustache *body; /* of a section */
    struct mustache *next;
};

struct reader {
    struct str source;
    size_t at;
    struct arena *arena;
    struct template *template;
    struct err *err;
    size_t variable_capacity;
};

static bool blank(char c) { return c == ' ' || c == '\t'; }

/* Does the tag [open, close) stand alone on its line? Then the line's bounds. */
static bool alone(struct str s, size_t open, size_t close, size_t *start, size_t *end)
{
    *start = open;
    *end = close;
    while (*start > 0 && blank(s.p[*start - 1]))
        --*start;
    while (*end < s.n && blank(s.p[*end]))
        ++*end;
    if ((*start > 0 && s.p[*start - 1] != '\n') ||
        (*end < s.n && s.p[*end] != '\n' && s.p[*end] != '\r'))
        return false;
    *end += *end < s.n && s.p[*end] == '\r';
    *end += *end < s.n && s.p[*end] == '\n';
    return true;
}

static enum rc add(struct reader *reader, struct mustache ***last, enum tag_kind kind,
                   struct str text, size_t at)
{
    struct mustache *tag = ARENA_NEW(reader->arena, struct mustache);
    if (!tag)
        return err_set(reader->err, ERR_TOO_LARGE, "the template is too long");
    *tag = (struct mustache){.kind = kind, .text = text, .at = (uint32_t)at};
    **last = tag;
    *last = &tag->next;
    return RC_OK;
}

/* The first part of a path is a variable; inside sections it may also be a member of theirs. */
static enum rc note_variable(struct reader *reader, struct str name)
{
    struct template *t = reader->template;
    ssize_t dot = str_find_char(name, '.');
    struct str first = dot > 0 ? str_slice(name, 0, (size_t)dot) : name;
    if (str_eq(name, STR(".")))
        return RC_OK;
    for (size_t i = 0; i < t->variable_count; i++)
        if (str_eq(t->variables[i], first))
            return RC_OK;
    if (t->variable_count == reader->variable_capacity) {
        size_t capacity = reader->variable_capacity * 2 + 8;
        struct str *grown = ARENA_NEW_ARRAY(reader->arena, struct str, capacity);
        if (!grown)
            return err_set(reader->err, ERR_TOO_LARGE, "the template is too long");
        if (t->variable_count)
            memcpy(grown, t->variables, t->variable_count * sizeof(*grown));
        t->variables = grown;
        reader->variable_capacity = capacity;
    }
    t->variables[t->variable_count++] = first;
    return RC_OK;
}

static enum rc read_tag(struct reader *reader, size_t open, enum tag_kind *kind, struct str *name,
                        size_t *close)
{
    struct str s = reader->source, rest = str_slice(s, open, s.n);
    bool triple = str_starts(rest, STR("{{{"));
    ssize_t end = str_find(rest, triple ? STR("}}}") : STR("}}"));
    if (end < 0)
        return template_fail_at(s, open, reader->err, "the tag has no end: }}");
    *name = str_trim(str_slice(rest, triple ? 3 : 2, (size_t)end));
    *close = open + (size_t)end + (triple ? 3 : 2);
    *kind = TAG_NAME;
    char sign = name->n ? name->p[0] : '\0';
    if (!triple && sign && strchr("#^/&!>=", sign)) {
        *kind = sign == '#'   ? TAG_SECTION
                : sign == '^' ? TAG_INVERTED
                : sign == '/' ? TAG_END
                : sign == '!' ? TAG_TEXT
                              : TAG_NAME;
        if (sign == '>' || sign == '=')
            return template_fail_at(s, open, reader->err,
                                    "partials and other delimiters are not supported");
        *name = str_trim(str_slice(*name, 1, name->n));
    }
    if (name->n == 0 && *kind != TAG_TEXT)
        return template_fail_at(s, open, reader->err, "the tag has no name");
    return RC_OK;
}

/* Up to the end tag of `section`, or to the end of the source. */
static enum rc read_body(struct reader *reader, struct str section, int depth,
                         struct mustache **first)
{
    struct mustache **last = first;
    struct str s = reader->source;
    size_t begin = reader->at;
    while (true) {
        ssize_t found = str_find(str_slice(s, reader->at, s.n), STR("{{"));
        size_t open = found < 0 ? s.n : reader->at + (size_t)found, close = 0, start, end;
        enum tag_kind kind = TAG_TEXT;
        struct str name;
        enum rc rc;
        if (found < 0) {
            if (section.p)
                return template_fail_at(s, begin, reader->err, "{{#%.*s}} has no {{/%.*s}}",
                                        STR_ARG(section), STR_ARG(section));
            rc = reader->at < s.n
                     ? add(reader, &last, TAG_TEXT, str_slice(s, reader->at, s.n), reader->at)
                     : RC_OK;
            reader->at = s.n;
            return rc;
        }
        if ((rc = read_tag(reader, open, &kind, &name, &close)) != RC_OK)
            return rc;
        bool line = kind != TAG_NAME && alone(s, open, close, &start, &end);
        size_t text_end = line ? MAX(start, reader->at) : open;
        if (text_end > reader->at)
            rc = add(reader, &last, TAG_TEXT, str_slice(s, reader->at, text_end), reader->at);
        reader->at = line ? end : close;
        if (rc != RC_OK)
            return rc;
        if (kind == TAG_END && (!section.p || !str_eq(section, name)))
            return template_fail_at(s, open, reader->err, "{{/%.*s}} closes nothing",
                                    STR_ARG(name));
        if (kind == TAG_END)
            return RC_OK;
        if (kind == TAG_TEXT) /* a comment */
            continue;
        if ((rc = add(reader, &last, kind, name, open)) != RC_OK ||
            (rc = note_variable(reader, name)) != RC_OK)
            return rc;
        struct mustache *tag = CONTAINER_OF(last, struct mustache, next);
        if (kind != TAG_NAME && depth >= SECTIONS_MAX)
            return template_fail_at(s, open, reader->err, "sections nest too deep");
        if (kind != TAG_NAME && (rc = read_body(reader, name, depth + 1, &tag->body)) != RC_OK)
            return rc;
    }
}

enum rc template_parse_mustache(struct template *t, struct arena *arena, struct err *err)
{
    struct reader reader = {.source = t->source, .arena = arena, .template = t, .err = err};
    if (t->source.n > UINT32_MAX / 2 || !utf8_valid(t->source))
        return err_set(err, ERR_INVALID, "the template is too long or not valid UTF-8");
    return read_body(&reader, STR_EMPTY, 0, &t->mustache);
}

/* ---- rendering ---- */

struct context {
    yyjson_val *value;
    const struct context *outer;
};

/* The first part is looked for from the innermost section outwards, the others within it. */
static yyjson_val *look_up(const struct context *context, struct str name)
{
    struct str part;
    yyjson_val *found = NULL;
    if (str_eq(name, STR(".")))
        return context->value;
    if (!str_split(&name, '.', &part))
        return NULL;
    for (; context && !found; context = context->outer)
        found = yyjson_obj_getn(context->value, part.p, part.n);
    for (int parts = 0; found && parts < PATH_MAX_PARTS && str_split(&name, '.', &part); parts++)
        found = yyjson_obj_getn(found, part.p, part.n);
    return found;
}

static bool holds(yyjson_val *value)
{
    if (!value || yyjson_is_null(value) || yyjson_is_false(value))
        return false;
    return !yyjson_is_arr(value) || yyjson_arr_size(value) > 0;
}

static enum rc write_value(struct render *r, const struct mustache *tag, yyjson_val *value)
{
    char name[ERR_FIELD_BYTES_MAX];
    if (yyjson_is_str(value))
        return render_write(r, json_text(value));
    if (!value && r->template->options.strict) {
        snprintf(name, sizeof(name), "%.*s", STR_ARG(tag->text));
        return err_set_field(r->err, ERR_BAD_FIELD, name, "the template needs a value for \"%s\"",
                             name);
    }
    if (!value || yyjson_is_null(value))
        return RC_OK;
    struct str text = json_write(value, r->arena);
    return text.p ? render_write(r, text) : render_no_memory(r);
}

static enum rc run(struct render *r, const struct mustache *tag, const struct context *context)
{
    enum rc rc = RC_OK;
    for (; tag && rc == RC_OK; tag = tag->next) {
        yyjson_val *value = tag->kind == TAG_TEXT ? NULL : look_up(context, tag->text), *item;
        struct context inner = {value, context};
        size_t index, count;
        if ((rc = render_spend(r, 1)) != RC_OK)
            break;
        r->at = tag->at;
        if (tag->kind == TAG_TEXT) {
            rc = render_write(r, tag->text);
        } else if (tag->kind == TAG_NAME) {
            rc = write_value(r, tag, value);
        } else if (tag->kind == TAG_INVERTED) {
            if (!holds(value))
                rc = run(r, tag->body, context);
        } else if (yyjson_is_arr(value)) {
            yyjson_arr_foreach(value, index, count, item)
            {
                inner.value = item;
                if (rc == RC_OK)
                    rc = run(r, tag->body, &inner);
            }
        } else if (holds(value)) {
            rc = run(r, tag->body, &inner);
        }
    }
    return rc;
}

enum rc template_run_mustache(struct render *r, yyjson_val *values)
{
    struct context context = {values, NULL};
    return run(r, r->template->mustache, &context);
}
