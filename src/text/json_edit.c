/* Splicing JSON text. Pure functions over bytes; any thread. */
#include "text/json_edit.h"
#include "base/limits.h"
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

static size_t skip_space(struct str s, size_t at)
{
    while (at < s.n && (s.p[at] == ' ' || s.p[at] == '\n' || s.p[at] == '\r' || s.p[at] == '\t'))
        at++;
    return at;
}

/* `from` is at the opening quote; returns the offset after the closing one, 0 when there is none.
 * Most strings are short: sixteen bytes at a time, without a call. */
static size_t skip_string(struct str s, size_t from)
{
    size_t at = from + 1;
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
    while (at + 16 <= s.n) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(s.p + at));
        int hits = _mm_movemask_epi8(
            _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, slash)));
        if (!hits) {
            at += 16;
            continue;
        }
        at += (size_t)__builtin_ctz((unsigned)hits);
        if (s.p[at] == '"')
            return at + 1;
        at += 2;
    }
#endif
    for (; at < s.n; at++) {
        if (s.p[at] == '"')
            return at + 1;
        at += s.p[at] == '\\';
    }
    return 0;
}

static size_t skip_container(struct str s, size_t from)
{
    int depth = 0;
    for (size_t at = from; at < s.n;) {
        char c = s.p[at];
        if (c == '"') {
            at = skip_string(s, at);
            if (!at)
                return 0;
            continue;
        }
        at++;
        if (c == '{' || c == '[') {
            if (++depth > LIMIT_JSON_DEPTH)
                return 0;
        } else if (c == '}' || c == ']') {
            if (--depth == 0)
                return at;
        }
    }
    return 0;
}

static bool ends_scalar(char c)
{
    return c == ',' || c == '}' || c == ']' || c == ' ' || c == '\n' || c == '\r' || c == '\t' ||
           c == ':' || c == '"';
}

size_t json_skip_value(struct str s, size_t from)
{
    if (from >= s.n)
        return 0;
    if (s.p[from] == '"')
        return skip_string(s, from);
    if (s.p[from] == '{' || s.p[from] == '[')
        return skip_container(s, from);
    size_t at = from;
    while (at < s.n && !ends_scalar(s.p[at]))
        at++;
    return at == from ? 0 : at;
}

static struct json_member *member_add(struct json_object *object, size_t *capacity,
                                      struct arena *arena)
{
    if (object->count == *capacity) {
        size_t grown = *capacity ? *capacity * 2 : 16;
        struct json_member *members = ARENA_NEW_ARRAY(arena, struct json_member, grown);
        if (!members)
            return NULL;
        if (object->count)
            memcpy(members, object->members, object->count * sizeof(*members));
        object->members = members;
        *capacity = grown;
    }
    return &object->members[object->count++];
}

enum rc json_index(struct str source, struct arena *arena, struct json_object *out)
{
    *out = (struct json_object){.source = source};
    size_t capacity = 0, at = skip_space(source, 0);
    if (at >= source.n || source.p[at] != '{')
        return RC_INVALID;
    out->open = at;
    at = skip_space(source, at + 1);
    for (bool first = true;; first = false) {
        if (at < source.n && source.p[at] == '}' && (first || out->count > 0))
            break;
        if (!first) {
            if (at >= source.n || source.p[at] != ',')
                return RC_INVALID;
            at = skip_space(source, at + 1);
        }
        if (at >= source.n || source.p[at] != '"')
            return RC_INVALID;
        struct json_member *member = member_add(out, &capacity, arena);
        if (!member)
            return RC_LIMIT;
        member->name_from = at;
        size_t after = skip_string(source, at);
        if (!after)
            return RC_INVALID;
        member->name = str_slice(source, at + 1, after - 1);
        at = skip_space(source, after);
        if (at >= source.n || source.p[at] != ':')
            return RC_INVALID;
        member->value_from = skip_space(source, at + 1);
        member->value_to = json_skip_value(source, member->value_from);
        if (!member->value_to)
            return RC_INVALID;
        at = skip_space(source, member->value_to);
    }
    out->close = at;
    return skip_space(source, at + 1) == source.n ? RC_OK : RC_INVALID;
}

struct json_items json_items_begin(struct str source, size_t from)
{
    bool array = from < source.n && source.p[from] == '[';
    return (struct json_items){source, array ? from + 1 : 0};
}

bool json_items_next(struct json_items *items, size_t *from, size_t *to)
{
    struct str s = items->source;
    if (!items->at)
        return false;
    size_t at = skip_space(s, items->at);
    items->at = 0;
    if (at < s.n && s.p[at] == ',')
        at = skip_space(s, at + 1);
    if (at >= s.n || s.p[at] == ']')
        return false;
    *from = at;
    *to = json_skip_value(s, at);
    items->at = *to;
    return *to != 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Names that we look for are ASCII: a \u escape beyond it can match none of them. */
static bool escaped_name_matches(struct str written, struct str name)
{
    size_t at = 0;
    for (size_t i = 0; i < written.n; i++, at++) {
        int c = (unsigned char)written.p[i];
        if (c == '\\') {
            if (++i >= written.n)
                return false;
            c = (unsigned char)written.p[i];
            static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
            const char *simple = c ? strchr(from, c) : NULL;
            if (simple) {
                c = to[simple - from];
            } else if (c == 'u') {
                if (i + 4 >= written.n)
                    return false;
                int value = 0;
                for (int k = 1; k <= 4; k++) {
                    int digit = hex_digit(written.p[i + (size_t)k]);
                    if (digit < 0)
                        return false;
                    value = value * 16 + digit;
                }
                if (value > 127)
                    return false;
                c = value;
                i += 4;
            }
        }
        if (at >= name.n || (unsigned char)name.p[at] != c)
            return false;
    }
    return at == name.n;
}

static inline bool name_matches(struct str written, struct str name)
{
    if (written.n == name.n)
        return memcmp(written.p, name.p, name.n) == 0;
    /* An escape is longer than what it stands for. */
    return UNLIKELY(written.n > name.n && memchr(written.p, '\\', written.n)) &&
           escaped_name_matches(written, name);
}

const struct json_member *json_member_find(const struct json_object *object, struct str name)
{
    for (size_t i = object->count; i-- > 0;)
        if (name_matches(object->members[i].name, name))
            return &object->members[i];
    return NULL;
}

size_t json_member_count(const struct json_object *object, struct str name)
{
    size_t count = 0;
    for (size_t i = 0; i < object->count; i++)
        count += name_matches(object->members[i].name, name);
    return count;
}

void json_edit_init(struct json_edit *edit, const struct json_object *object, struct arena *arena)
{
    *edit = (struct json_edit){.object = object, .arena = arena};
}

static enum rc make_room(struct json_edit *edit)
{
    if (edit->count < edit->capacity)
        return RC_OK;
    size_t wanted = edit->capacity ? edit->capacity * 2 : 8;
    struct json_edit_step *steps = ARENA_NEW_ARRAY(edit->arena, struct json_edit_step, wanted);
    if (!steps || edit->count >= JSON_EDITS_MAX)
        return RC_LIMIT;
    if (edit->count)
        memcpy(steps, edit->steps, edit->count * sizeof(*steps));
    edit->steps = steps;
    edit->capacity = wanted;
    return RC_OK;
}

enum rc json_edit_range(struct json_edit *edit, size_t from, size_t to, struct str with)
{
    ASSERT(from <= to && to <= edit->object->source.n);
    enum rc rc = make_room(edit);
    if (rc)
        return rc;
    size_t at = edit->count;
    while (at > 0 && edit->steps[at - 1].from > from)
        at--;
    if (at > 0 && from < to && edit->steps[at - 1].from == from && edit->steps[at - 1].to == to) {
        edit->steps[at - 1].with = with;
        return RC_OK;
    }
    if (at > 0 && edit->steps[at - 1].to > from)
        return RC_CONFLICT;
    if (at < edit->count && edit->steps[at].from < to)
        return RC_CONFLICT;
    memmove(&edit->steps[at + 1], &edit->steps[at], (edit->count - at) * sizeof(edit->steps[0]));
    edit->steps[at] = (struct json_edit_step){from, to, with};
    edit->count++;
    return RC_OK;
}

static enum rc insert_member(struct json_edit *edit, struct str name, struct str value)
{
    struct str text =
        arena_printf(edit->arena, "%s\"%.*s\":", edit->inserted.n ? "," : "", STR_ARG(name));
    if (text.p)
        text = arena_concat(edit->arena, text, value);
    if (text.p)
        text = arena_concat(edit->arena, edit->inserted, text);
    if (!text.p)
        return RC_LIMIT;
    edit->inserted = text;
    return RC_OK;
}

enum rc json_edit_set(struct json_edit *edit, struct str name, struct str value)
{
    const struct json_object *object = edit->object;
    bool found = false;
    for (size_t i = 0; i < object->count; i++) {
        const struct json_member *member = &object->members[i];
        if (!name_matches(member->name, name))
            continue;
        found = true;
        if (edit->removed)
            edit->removed[i] = false;
        enum rc rc = json_edit_range(edit, member->value_from, member->value_to, value);
        if (rc)
            return rc;
    }
    return found ? RC_OK : insert_member(edit, name, value);
}

enum rc json_edit_remove(struct json_edit *edit, struct str name)
{
    const struct json_object *object = edit->object;
    for (size_t i = 0; i < object->count; i++) {
        if (!name_matches(object->members[i].name, name))
            continue;
        if (!edit->removed)
            edit->removed = ARENA_NEW_ARRAY(edit->arena, bool, object->count);
        if (!edit->removed)
            return RC_LIMIT;
        edit->removed[i] = true;
    }
    return RC_OK;
}

/* A removed member takes one comma with it: the one before it where a member before it stays, else
 * the one after. */
static enum rc apply_removals(struct json_edit *edit, bool *any_kept)
{
    const struct json_object *object = edit->object;
    *any_kept = false;
    for (size_t i = 0; i < object->count; i++) {
        const struct json_member *member = &object->members[i];
        if (!edit->removed || !edit->removed[i]) {
            *any_kept = true;
            continue;
        }
        size_t from = member->name_from, to = member->value_to;
        if (*any_kept)
            from = object->members[i - 1].value_to;
        else if (i + 1 < object->count)
            to = object->members[i + 1].name_from;
        enum rc rc = json_edit_range(edit, from, to, STR_EMPTY);
        if (rc)
            return rc;
    }
    return RC_OK;
}

static enum rc apply_insertions(struct json_edit *edit)
{
    bool any_kept = false;
    for (size_t i = 0; i < edit->object->count && !any_kept; i++)
        any_kept = !edit->removed || !edit->removed[i];
    struct str text = edit->inserted;
    if (any_kept)
        text = arena_concat(edit->arena, text, STR(","));
    size_t at = edit->object->open + 1;
    return text.p ? json_edit_range(edit, at, at, text) : RC_LIMIT;
}

enum rc json_edit_rename(struct json_edit *edit, struct str name, struct str new_name)
{
    const struct json_object *object = edit->object;
    for (size_t i = 0; i < object->count; i++) {
        const struct json_member *member = &object->members[i];
        if (!name_matches(member->name, name))
            continue;
        size_t from = member->name_from + 1;
        enum rc rc = json_edit_range(edit, from, from + member->name.n, new_name);
        if (rc)
            return rc;
    }
    return RC_OK;
}

static size_t add_piece(struct str *pieces, size_t count, size_t max, struct str piece)
{
    if (piece.n == 0)
        return count;
    if (count < max)
        pieces[count] = piece;
    return count + 1;
}

enum rc json_edit_finish(struct json_edit *edit, struct str *pieces, size_t pieces_max,
                         size_t *count)
{
    bool any_kept;
    enum rc rc = edit->inserted.n ? apply_insertions(edit) : RC_OK;
    if (!rc)
        rc = apply_removals(edit, &any_kept);
    if (rc)
        return rc;
    struct str source = edit->object->source;
    size_t n = 0, at = 0, bytes = source.n;
    for (size_t i = 0; i < edit->count; i++) {
        const struct json_edit_step *step = &edit->steps[i];
        n = add_piece(pieces, n, pieces_max, str_slice(source, at, step->from));
        n = add_piece(pieces, n, pieces_max, step->with);
        bytes += step->with.n - (step->to - step->from);
        at = step->to;
    }
    n = add_piece(pieces, n, pieces_max, str_slice(source, at, source.n));
    *count = n;
    if (n <= pieces_max)
        return RC_OK;
    char *joined = arena_alloc(edit->arena, bytes);
    if (!joined)
        return RC_LIMIT;
    char *to = joined;
    at = 0;
    for (size_t i = 0; i < edit->count; i++) {
        const struct json_edit_step *step = &edit->steps[i];
        to = mempcpy(to, source.p + at, step->from - at);
        if (step->with.n)
            to = mempcpy(to, step->with.p, step->with.n);
        at = step->to;
    }
    to = mempcpy(to, source.p + at, source.n - at);
    ASSERT((size_t)(to - joined) == bytes);
    pieces[0] = str_make(joined, bytes);
    *count = 1;
    return RC_OK;
}
