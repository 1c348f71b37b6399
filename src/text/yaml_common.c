/* The part of YAML that large configurations are written in, read in one pass: block mappings and
 * sequences, flow collections, comments, plain and simply quoted scalars on one line, printable
 * ASCII. Whatever else there is (anchors, tags, block scalars, several documents, escapes, tabs,
 * continued lines, anything wrong) makes it give up, and libyaml reads the whole text instead. So
 * it may be narrow, but it must never be mistaken: where YAML's rules are subtle it gives up. */
#include "base/map.h"
#include "text/json_tree.h"
#include "text/yaml_private.h"

#define KEY_BYTES_MAX 512 /* libyaml's bound is 1,024 */
#define SMALL_MAPPING 8   /* members looked through one by one for one given twice */

struct reader {
    const char *at, *end;
    const char *line; /* begin of the line that `at` is in */
    yyjson_mut_doc *doc;
    size_t nodes;
    bool unsure;
};

static yyjson_mut_val *give_up(struct reader *r)
{
    r->unsure = true;
    return NULL;
}

static char peek(const struct reader *r) { return r->at < r->end ? *r->at : '\0'; }

static char peek_at(const struct reader *r, size_t n)
{
    return (size_t)(r->end - r->at) > n ? r->at[n] : '\0';
}

static int column(const struct reader *r) { return (int)(r->at - r->line); }

/* Of a plain scalar, wherever it stands. */
static const bool WORD[256] = {
    ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['_'] = true,
    ['.'] = true,         ['/'] = true,         ['+'] = true,         ['-'] = true,
    ['='] = true,         ['('] = true,         [')'] = true,         [';'] = true,
};

static bool is_word(char c) { return WORD[(unsigned char)c]; }

static bool starts_plain(const struct reader *r)
{
    char c = peek(r);
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '/' || (c == '-' && peek_at(r, 1) >= '0' && peek_at(r, 1) <= '9');
}

static bool is_space_or_end(char c) { return c == ' ' || c == '\n' || c == '\0'; }

/* Spaces, and a comment behind them, up to the end of the line. */
static void skip_spaces(struct reader *r)
{
    const char *from = r->at;
    while (peek(r) == ' ')
        r->at++;
    if (peek(r) == '#' && (r->at > from || r->at == r->line)) {
        const char *newline = memchr(r->at, '\n', (size_t)(r->end - r->at));
        r->at = newline ? newline : r->end;
    }
}

/* To the next line with something on it, behind its indentation. */
static void skip_lines(struct reader *r)
{
    for (;;) {
        skip_spaces(r);
        if (peek(r) != '\n')
            return;
        r->line = ++r->at;
    }
}

/* ---- scalars ---- */

/* Ends before ": ", " #", and what is no part of a plain scalar; spaces at the end are left out. */
static struct str plain_text(struct reader *r)
{
    const char *from = r->at, *last = r->at;
    for (;;) {
        char c = peek(r), next = peek_at(r, 1);
        if (is_word(c) || (c == ':' && is_word(next)))
            last = ++r->at;
        else if (c == ' ' && (next == ' ' || is_word(next)))
            r->at++;
        else
            break;
    }
    r->at = last;
    return str_make(from, (size_t)(last - from));
}

static struct str quoted_text(struct reader *r)
{
    char quote = *r->at++;
    const char *from = r->at;
    while (r->at < r->end && *r->at != quote && *r->at != '\\' && *r->at != '\n')
        r->at++;
    struct str text = str_make(from, (size_t)(r->at - from));
    if (peek(r) != quote || peek_at(r, 1) == '\'')
        give_up(r);
    else
        r->at++;
    return text;
}

static bool at_quote(const struct reader *r) { return peek(r) == '"' || peek(r) == '\''; }

static yyjson_mut_val *text_value(struct reader *r, struct str s)
{
    return json_new_text(r->doc, s); /* borrowed from the input */
}

static yyjson_mut_val *scalar(struct reader *r, bool *plain)
{
    *plain = false;
    if (at_quote(r))
        return text_value(r, quoted_text(r));
    if (!starts_plain(r))
        return give_up(r);
    *plain = true;
    return yaml_plain_scalar(r->doc, plain_text(r));
}

/* A name and its colon. */
static struct str read_key(struct reader *r)
{
    bool quoted = at_quote(r);
    struct str key = STR_EMPTY;
    if (!quoted && !starts_plain(r)) {
        give_up(r);
        return key;
    }
    key = quoted ? quoted_text(r) : plain_text(r);
    if (r->unsure || peek(r) != ':' || !is_space_or_end(peek_at(r, 1)) || key.n > KEY_BYTES_MAX ||
        str_eq(key, STR("<<")))
        give_up(r);
    else
        r->at++;
    return key;
}

/* ---- collections ---- */

struct members {
    yyjson_mut_val *object;
    struct map names; /* used from SMALL_MAPPING on */
};

static void keep_names(struct members *members)
{
    yyjson_mut_obj_iter iter = yyjson_mut_obj_iter_with(members->object);
    yyjson_mut_val *name;
    while ((name = yyjson_mut_obj_iter_next(&iter)))
        map_put(&members->names, str_make(yyjson_mut_get_str(name), yyjson_mut_get_len(name)),
                name);
}

/* A name given twice is an error, which the other reader words. */
static void add_member(struct reader *r, struct members *members, struct str key,
                       yyjson_mut_val *value)
{
    if (r->unsure)
        return;
    size_t count = yyjson_mut_obj_size(members->object);
    bool twice;
    if (count < SMALL_MAPPING) {
        twice = yyjson_mut_obj_getn(members->object, key.p, key.n);
    } else {
        if (members->names.count == 0)
            keep_names(members);
        twice = map_put(&members->names, key, r) != NULL;
    }
    if (twice || !yyjson_mut_obj_add(members->object, text_value(r, key), value))
        give_up(r);
}

static yyjson_mut_val *flow_value(struct reader *r, int depth);

/* Behind an entry: a comma, or the closing bracket. */
static bool flow_goes_on(struct reader *r, char close)
{
    skip_lines(r);
    if (r->unsure || (peek(r) != ',' && peek(r) != close)) {
        give_up(r);
        return false;
    }
    if (*r->at++ == close)
        return false;
    skip_lines(r);
    return true;
}

static bool flow_begins(struct reader *r, char close)
{
    r->at++;
    skip_lines(r);
    if (peek(r) != close)
        return true;
    r->at++;
    return false;
}

static yyjson_mut_val *flow_mapping(struct reader *r, int depth)
{
    struct members members = {.object = yyjson_mut_obj(r->doc)};
    bool more = flow_begins(r, '}');
    while (more) {
        struct str key = read_key(r);
        skip_lines(r);
        yyjson_mut_val *value = r->unsure ? NULL : flow_value(r, depth + 1);
        add_member(r, &members, key, value);
        more = flow_goes_on(r, '}');
    }
    map_fini(&members.names);
    return members.object;
}

static yyjson_mut_val *flow_sequence(struct reader *r, int depth)
{
    yyjson_mut_val *array = yyjson_mut_arr(r->doc);
    bool more = flow_begins(r, ']');
    while (more) {
        if (!yyjson_mut_arr_append(array, flow_value(r, depth + 1)))
            give_up(r);
        more = flow_goes_on(r, ']');
    }
    return array;
}

static bool count_node(struct reader *r, int depth)
{
    if (++r->nodes > YAML_NODES_MAX || depth > YAML_DEPTH_MAX)
        give_up(r);
    return !r->unsure;
}

static yyjson_mut_val *flow_value(struct reader *r, int depth)
{
    bool plain;
    if (!count_node(r, depth))
        return NULL;
    if (peek(r) == '{')
        return flow_mapping(r, depth);
    if (peek(r) == '[')
        return flow_sequence(r, depth);
    return scalar(r, &plain); /* a plain one that goes on in the next line has no comma behind it */
}

static yyjson_mut_val *block_value(struct reader *r, int parent, int depth);

/* What stands behind a colon or a dash, up to the end of its line (a flow may take several). `own`:
 * the column of the collection: what stands further right in the next line would continue it. */
static yyjson_mut_val *inline_value(struct reader *r, int own, int depth)
{
    bool plain;
    yyjson_mut_val *value;
    if (!count_node(r, depth))
        return NULL;
    if (peek(r) == '{')
        value = flow_mapping(r, depth);
    else if (peek(r) == '[')
        value = flow_sequence(r, depth);
    else
        value = scalar(r, &plain);
    if (r->unsure)
        return NULL;
    skip_spaces(r);
    if (peek(r) != '\n' && r->at < r->end)
        return give_up(r);
    skip_lines(r);
    return r->at < r->end && column(r) > own ? give_up(r) : value;
}

static bool at_dash(const struct reader *r)
{
    return peek(r) == '-' && is_space_or_end(peek_at(r, 1));
}

/* At its first name; the others stand in the same column. */
static yyjson_mut_val *block_mapping(struct reader *r, int depth)
{
    struct members members = {.object = yyjson_mut_obj(r->doc)};
    int own = column(r);
    do {
        struct str key = read_key(r);
        yyjson_mut_val *value;
        skip_spaces(r);
        if (!r->unsure && r->at < r->end && peek(r) != '\n')
            value = inline_value(r, own, depth + 1);
        else
            value = r->unsure ? NULL : block_value(r, own, depth + 1);
        add_member(r, &members, key, value);
    } while (!r->unsure && r->at < r->end && column(r) == own && !at_dash(r));
    map_fini(&members.names);
    if (!r->unsure && r->at < r->end && column(r) > own)
        return give_up(r);
    return members.object;
}

/* "- name: …": a mapping that begins behind the dash? */
static bool begins_mapping(const struct reader *r)
{
    struct reader ahead = *r;
    if (!at_quote(r) && !starts_plain(r))
        return false;
    (void)(at_quote(r) ? quoted_text(&ahead) : plain_text(&ahead));
    return !ahead.unsure && peek(&ahead) == ':';
}

static yyjson_mut_val *block_sequence(struct reader *r, int depth)
{
    yyjson_mut_val *array = yyjson_mut_arr(r->doc);
    int own = column(r);
    do {
        yyjson_mut_val *value;
        r->at++;
        skip_spaces(r);
        if (r->at == r->end || peek(r) == '\n')
            return give_up(r);
        if (begins_mapping(r))
            value = count_node(r, depth + 1) ? block_mapping(r, depth + 1) : NULL;
        else
            value = inline_value(r, own, depth + 1);
        if (r->unsure || !yyjson_mut_arr_append(array, value))
            return give_up(r);
    } while (r->at < r->end && column(r) == own && at_dash(r));
    return r->at < r->end && column(r) > own ? give_up(r) : array;
}

/* Behind "name:" at the end of its line. A sequence may stand in the mapping's own column. */
static yyjson_mut_val *block_value(struct reader *r, int parent, int depth)
{
    skip_lines(r);
    if (!count_node(r, depth))
        return NULL;
    bool nested = r->at < r->end && (column(r) > parent || (column(r) == parent && at_dash(r)));
    if (!nested)
        return yyjson_mut_null(r->doc);
    if (at_dash(r))
        return block_sequence(r, depth);
    return begins_mapping(r) ? block_mapping(r, depth) : give_up(r);
}

static bool printable(struct str text)
{
    bool all = true;
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        all &= (c >= 0x20 && c <= 0x7e) || c == '\n';
    }
    return all;
}

bool yaml_read_common(struct str text, struct arena *arena, yyjson_doc **out)
{
    struct reader r = {.at = text.p, .end = text.p + text.n, .line = text.p};
    if (!text.n || !printable(text) || !(r.doc = json_tree_new(arena)))
        return false;
    skip_lines(&r);
    if (r.at == r.end || column(&r) != 0 || !begins_mapping(&r) || !count_node(&r, 0))
        return false;
    yyjson_mut_val *root = block_mapping(&r, 0);
    *out = r.unsure || r.at < r.end ? NULL : json_freeze(root, arena);
    return *out != NULL;
}
