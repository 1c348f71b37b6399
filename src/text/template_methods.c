/* Methods of texts, lists and mappings, as Python has them. The first argument is the receiver. */
#include "text/template_private.h"
#include "base/utf8.h"
#include <utf8proc.h>

static enum rc need_text(struct render *r, const struct value *v, const char *what)
{
    if (v->kind == VALUE_TEXT)
        return RC_OK;
    return render_fail(r, ERR_INVALID, "%s needs a text, not %s", what, value_kind_name(v));
}

static bool is_space(uint32_t c)
{
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

static bool in_set(struct str s, const struct value *set)
{
    uint32_t c = 0;
    if (set->kind == VALUE_TEXT)
        return str_find(value_str(set), s) >= 0;
    utf8_next(s, &c);
    return is_space(c);
}

struct str template_strip(struct str s, const struct value *set, bool left, bool right)
{
    uint32_t c;
    while (left && s.n) {
        size_t n = MAX(utf8_next(s, &c), 1u);
        if (!in_set(str_slice(s, 0, n), set))
            break;
        s = str_slice(s, n, s.n);
    }
    while (right && s.n) {
        size_t n = 1;
        while (n < s.n && (s.p[s.n - n] & 0xc0) == 0x80)
            n++;
        if (!in_set(str_slice(s, s.n - n, s.n), set))
            break;
        s.n -= n;
    }
    return s;
}

static enum rc strip(struct render *r, struct value *args, bool left, bool right, struct value *out)
{
    if (args[1].kind != VALUE_TEXT && args[1].kind != VALUE_MISSING && args[1].kind != VALUE_NONE)
        return render_fail(r, ERR_INVALID, "strip takes a text with characters");
    *out = value_text(template_strip(value_str(&args[0]), &args[1], left, right));
    return render_spend(r, args[0].n / 64);
}

static enum rc text_strip(struct render *r, struct value *args, size_t count, struct value *out)
{
    return strip(r, args, true, true, out);
}

static enum rc text_lstrip(struct render *r, struct value *args, size_t count, struct value *out)
{
    return strip(r, args, true, false, out);
}

static enum rc text_rstrip(struct render *r, struct value *args, size_t count, struct value *out)
{
    return strip(r, args, false, true, out);
}

/* Case by code point; `first` only the first letter is raised, the others lowered. */
enum rc template_change_case(struct render *r, struct str s, enum template_case to,
                             struct value *out)
{
    char *p = arena_alloc(r->arena, s.n * 2 + 1);
    size_t n = 0;
    bool raise = true;
    enum rc rc = render_spend(r, s.n / 32);
    if (rc != RC_OK)
        return rc;
    if (!p)
        return render_no_memory(r);
    while (s.n) {
        uint32_t c = 0;
        size_t bytes = utf8_next(s, &c);
        if (bytes == 0)
            break;
        bool letter =
            c < 0x80 ? (c | 0x20) >= 'a' && (c | 0x20) <= 'z'
                     : utf8proc_tolower((int)c) != (int)c || utf8proc_toupper((int)c) != (int)c;
        bool up = to == CASE_UPPER || ((to == CASE_TITLE || to == CASE_CAPITAL) && raise);
        int changed = up ? utf8proc_toupper((int)c) : utf8proc_tolower((int)c);
        raise = to == CASE_TITLE && !letter;
        size_t made = utf8_encode((uint32_t)changed, p + n);
        n += made;
        s = str_slice(s, bytes, s.n);
    }
    *out = value_text(str_make(p, n));
    return RC_OK;
}

static enum rc text_upper(struct render *r, struct value *args, size_t count, struct value *out)
{
    return template_change_case(r, value_str(&args[0]), CASE_UPPER, out);
}

static enum rc text_lower(struct render *r, struct value *args, size_t count, struct value *out)
{
    return template_change_case(r, value_str(&args[0]), CASE_LOWER, out);
}

static enum rc text_title(struct render *r, struct value *args, size_t count, struct value *out)
{
    return template_change_case(r, value_str(&args[0]), CASE_TITLE, out);
}

static enum rc text_capitalize(struct render *r, struct value *args, size_t count,
                               struct value *out)
{
    return template_change_case(r, value_str(&args[0]), CASE_CAPITAL, out);
}

static int64_t limit_of(const struct value *v)
{
    return v->kind == VALUE_INT && v->integer >= 0 ? v->integer : INT64_MAX;
}

static enum rc split_spaces(struct render *r, struct str s, int64_t limit, struct value_list *list)
{
    struct value none = value_none();
    enum rc rc = RC_OK;
    for (s = template_strip(s, &none, true, false); s.n && rc == RC_OK;
         s = template_strip(s, &none, true, false)) {
        size_t end = 0;
        uint32_t c;
        while (end < s.n && (list->count < limit)) {
            size_t n = MAX(utf8_next(str_slice(s, end, s.n), &c), 1u);
            if (is_space(c))
                break;
            end += n;
        }
        if (list->count >= limit) {
            s = template_strip(s, &none, false, true);
            end = s.n;
        }
        rc = value_list_add(r, list, value_text(str_slice(s, 0, end)));
        s = str_slice(s, end, s.n);
    }
    return rc;
}

static ssize_t find_last(struct str s, struct str needle)
{
    for (size_t at = s.n - needle.n + 1; needle.n <= s.n && at-- > 0;)
        if (memcmp(s.p + at, needle.p, needle.n) == 0)
            return (ssize_t)at;
    return -1;
}

static enum rc text_split(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct str rest = value_str(&args[0]), separator = value_str(&args[1]);
    int64_t limit = limit_of(&args[2]);
    enum rc rc = value_list_new(r, 4, out);
    if (rc == RC_OK)
        rc = render_spend(r, rest.n / 64);
    if (rc != RC_OK)
        return rc;
    if (args[1].kind == VALUE_MISSING || args[1].kind == VALUE_NONE)
        return split_spaces(r, rest, limit, out->list);
    if ((rc = need_text(r, &args[1], "split")) != RC_OK)
        return rc;
    if (separator.n == 0)
        return render_fail(r, ERR_INVALID, "split needs a separator that is not empty");
    while (rc == RC_OK && out->list->count < limit) {
        ssize_t at = str_find(rest, separator);
        if (at < 0)
            break;
        rc = value_list_add(r, out->list, value_text(str_slice(rest, 0, (size_t)at)));
        rest = str_slice(rest, (size_t)at + separator.n, rest.n);
    }
    return rc == RC_OK ? value_list_add(r, out->list, value_text(rest)) : rc;
}

static enum rc text_rsplit(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct str rest = value_str(&args[0]), separator = value_str(&args[1]);
    int64_t limit = limit_of(&args[2]);
    if (args[1].kind != VALUE_TEXT || separator.n == 0)
        return render_fail(r, ERR_INVALID, "rsplit needs a separator");
    enum rc rc = value_list_new(r, 4, out);
    while (rc == RC_OK && out->list->count < limit) {
        ssize_t at = find_last(rest, separator);
        if (at < 0)
            break;
        rc = value_list_add(r, out->list,
                            value_text(str_slice(rest, (size_t)at + separator.n, rest.n)));
        rest = str_slice(rest, 0, (size_t)at);
        if (rc == RC_OK)
            rc = render_spend(r, rest.n / 64);
    }
    if (rc == RC_OK)
        rc = value_list_add(r, out->list, value_text(rest));
    if (rc != RC_OK)
        return rc;
    struct value *items = out->list->items;
    for (uint32_t i = 0, k = out->list->count - 1; i < k; i++, k--) {
        struct value swapped = items[i];
        items[i] = items[k];
        items[k] = swapped;
    }
    return RC_OK;
}

static enum rc text_splitlines(struct render *r, struct value *args, size_t count,
                               struct value *out)
{
    struct str rest = value_str(&args[0]);
    bool keep = value_is_true(&args[1]);
    enum rc rc = value_list_new(r, 4, out);
    while (rc == RC_OK && rest.n) {
        size_t end = 0, next;
        while (end < rest.n && rest.p[end] != '\n' && rest.p[end] != '\r')
            end++;
        next = end + (end < rest.n);
        if (next < rest.n && rest.p[end] == '\r' && rest.p[next] == '\n')
            next++;
        rc = value_list_add(r, out->list, value_text(str_slice(rest, 0, keep ? next : end)));
        rest = str_slice(rest, next, rest.n);
    }
    return rc;
}

/* startswith and endswith: a text or a tuple of texts. */
static enum rc text_affix(struct render *r, struct value *args, bool start, struct value *out)
{
    struct value *items = &args[1];
    uint32_t n = 1;
    enum rc rc = RC_OK;
    bool found = false;
    if (value_is_list(&args[1]))
        rc = value_items(r, &args[1], &items, &n);
    for (uint32_t i = 0; i < n && rc == RC_OK; i++) {
        rc = need_text(r, &items[i], start ? "startswith" : "endswith");
        found |= rc == RC_OK && (start ? str_starts(value_str(&args[0]), value_str(&items[i]))
                                       : str_ends(value_str(&args[0]), value_str(&items[i])));
    }
    *out = value_bool(found);
    return rc;
}

static enum rc text_startswith(struct render *r, struct value *args, size_t count,
                               struct value *out)
{
    return text_affix(r, args, true, out);
}

static enum rc text_endswith(struct render *r, struct value *args, size_t count, struct value *out)
{
    return text_affix(r, args, false, out);
}

static enum rc text_removeprefix(struct render *r, struct value *args, size_t count,
                                 struct value *out)
{
    struct str s = value_str(&args[0]), affix = value_str(&args[1]);
    enum rc rc = need_text(r, &args[1], "removeprefix");
    *out = value_text(rc == RC_OK && str_starts(s, affix) ? str_slice(s, affix.n, s.n) : s);
    return rc;
}

static enum rc text_removesuffix(struct render *r, struct value *args, size_t count,
                                 struct value *out)
{
    struct str s = value_str(&args[0]), affix = value_str(&args[1]);
    enum rc rc = need_text(r, &args[1], "removesuffix");
    *out = value_text(rc == RC_OK && str_ends(s, affix) ? str_slice(s, 0, s.n - affix.n) : s);
    return rc;
}

static enum rc write_replaced(struct render *r, struct str s, struct str old, struct str new,
                              int64_t limit)
{
    enum rc rc = RC_OK;
    while (rc == RC_OK && limit-- > 0 && (s.n || old.n == 0)) {
        ssize_t at = old.n ? str_find(s, old) : 0;
        if (at < 0)
            break;
        rc = render_write(r, str_slice(s, 0, (size_t)at));
        if (rc == RC_OK)
            rc = render_write(r, new);
        s = str_slice(s, (size_t)at + old.n, s.n);
        if (old.n == 0) { /* between all characters */
            uint32_t c;
            size_t n = utf8_next(s, &c);
            if (n == 0)
                break;
            if (rc == RC_OK)
                rc = render_write(r, str_slice(s, 0, n));
            s = str_slice(s, n, s.n);
        }
        if (rc == RC_OK)
            rc = render_spend(r, 1);
    }
    return rc == RC_OK ? render_write(r, s) : rc;
}

enum rc template_replace(struct render *r, struct str s, struct str old, struct str new,
                         int64_t limit, struct value *out)
{
    struct str text;
    size_t start = render_capture_begin(r);
    enum rc rc = write_replaced(r, s, old, new, limit);
    if (rc == RC_OK)
        rc = render_spend(r, s.n / 64);
    if (rc != RC_OK) {
        render_capture_abandon(r, start);
        return rc;
    }
    rc = render_capture_end(r, start, &text);
    *out = value_text(text);
    return rc;
}

static enum rc text_replace(struct render *r, struct value *args, size_t count, struct value *out)
{
    enum rc rc = need_text(r, &args[1], "replace");
    if (rc == RC_OK)
        rc = need_text(r, &args[2], "replace");
    return rc == RC_OK ? template_replace(r, value_str(&args[0]), value_str(&args[1]),
                                          value_str(&args[2]), limit_of(&args[3]), out)
                       : rc;
}

static int64_t character_index(struct str s, ssize_t offset)
{
    struct value before = value_text(str_slice(s, 0, (size_t)MAX(offset, 0)));
    return offset < 0 ? -1 : value_length(&before);
}

static enum rc text_find(struct render *r, struct value *args, size_t count, struct value *out)
{
    enum rc rc = need_text(r, &args[1], "find");
    if (rc == RC_OK)
        *out = value_int(character_index(value_str(&args[0]),
                                         str_find(value_str(&args[0]), value_str(&args[1]))));
    return rc == RC_OK ? render_spend(r, args[0].n / 64) : rc;
}

static enum rc text_rfind(struct render *r, struct value *args, size_t count, struct value *out)
{
    enum rc rc = need_text(r, &args[1], "rfind");
    if (rc == RC_OK)
        *out = value_int(character_index(value_str(&args[0]),
                                         find_last(value_str(&args[0]), value_str(&args[1]))));
    return rc == RC_OK ? render_spend(r, args[0].n / 64) : rc;
}

static enum rc text_index(struct render *r, struct value *args, size_t count, struct value *out)
{
    enum rc rc = text_find(r, args, count, out);
    return rc == RC_OK && out->integer < 0
               ? render_fail(r, ERR_INVALID, "index: the text is not there")
               : rc;
}

static enum rc text_count(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct str rest = value_str(&args[0]), part = value_str(&args[1]);
    int64_t found = 0;
    enum rc rc = need_text(r, &args[1], "count");
    if (rc == RC_OK && part.n == 0)
        found = value_length(&args[0]) + 1;
    for (ssize_t at; rc == RC_OK && part.n && (at = str_find(rest, part)) >= 0; found++)
        rest = str_slice(rest, (size_t)at + part.n, rest.n);
    *out = value_int(found);
    return rc == RC_OK ? render_spend(r, args[0].n / 64) : rc;
}

enum rc template_join(struct render *r, const struct value *items, size_t count,
                      struct str separator, bool any, struct value *out)
{
    struct str text;
    size_t start = render_capture_begin(r);
    enum rc rc = RC_OK;
    for (size_t i = 0; i < count && rc == RC_OK; i++) {
        if (i)
            rc = render_write(r, separator);
        if (rc == RC_OK && !any)
            rc = need_text(r, &items[i], "join");
        if (rc == RC_OK)
            rc = value_write(r, &items[i]);
    }
    if (rc != RC_OK) {
        render_capture_abandon(r, start);
        return rc;
    }
    rc = render_capture_end(r, start, &text);
    *out = value_text(text);
    return rc;
}

static enum rc text_join(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct value *items;
    uint32_t n;
    enum rc rc = value_items(r, &args[1], &items, &n);
    return rc == RC_OK ? template_join(r, items, n, value_str(&args[0]), false, out) : rc;
}

static enum rc check_characters(struct render *r, struct value *args, bool digits, bool letters,
                                struct value *out)
{
    struct str s = value_str(&args[0]);
    bool all = s.n > 0;
    while (s.n && all) {
        uint32_t c = 0;
        size_t n = MAX(utf8_next(s, &c), 1u);
        utf8proc_category_t category = utf8proc_category((int)c);
        all = (digits && category == UTF8PROC_CATEGORY_ND) ||
              (letters && category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO);
        s = str_slice(s, n, s.n);
    }
    *out = value_bool(all);
    return render_spend(r, args[0].n / 32);
}

static enum rc text_isdigit(struct render *r, struct value *args, size_t count, struct value *out)
{
    return check_characters(r, args, true, false, out);
}

static enum rc text_isalpha(struct render *r, struct value *args, size_t count, struct value *out)
{
    return check_characters(r, args, false, true, out);
}

static enum rc text_isalnum(struct render *r, struct value *args, size_t count, struct value *out)
{
    return check_characters(r, args, true, true, out);
}

static enum rc text_isspace(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct value none = value_none();
    *out = value_bool(args[0].n && !template_strip(value_str(&args[0]), &none, true, false).n);
    return RC_OK;
}

enum rc template_is_case(struct render *r, const struct value *v, bool upper, struct value *out)
{
    struct str s = value_str(v);
    bool any = false, all = true;
    while (s.n && all) {
        uint32_t c = 0;
        size_t n = MAX(utf8_next(s, &c), 1u);
        bool is_upper = utf8proc_tolower((int)c) != (int)c,
             is_lower = utf8proc_toupper((int)c) != (int)c;
        any |= upper ? is_upper : is_lower;
        all = upper ? !is_lower : !is_upper;
        s = str_slice(s, n, s.n);
    }
    *out = value_bool(any && all);
    return render_spend(r, v->n / 32);
}

static enum rc text_isupper(struct render *r, struct value *args, size_t count, struct value *out)
{
    return template_is_case(r, &args[0], true, out);
}

static enum rc text_islower(struct render *r, struct value *args, size_t count, struct value *out)
{
    return template_is_case(r, &args[0], false, out);
}

/* "{} {0}".format(…) without format specifications. */
static enum rc write_format(struct render *r, struct str s, struct value *args, size_t count)
{
    size_t next = 1;
    enum rc rc = RC_OK;
    for (size_t i = 0; i < s.n && rc == RC_OK; i++) {
        char c = s.p[i];
        if ((c == '{' || c == '}') && i + 1 < s.n && s.p[i + 1] == c) {
            rc = render_write(r, str_slice(s, i, i + 1));
            i++;
            continue;
        }
        if (c != '{') {
            size_t end = i;
            while (end < s.n && s.p[end] != '{' && s.p[end] != '}')
                end++;
            if (end == i)
                return render_fail(r, ERR_INVALID, "format: a single \"}\"");
            rc = render_write(r, str_slice(s, i, end));
            i = end - 1;
            continue;
        }
        ssize_t end = str_find_char(str_slice(s, i, s.n), '}');
        struct str field = end > 0 ? str_slice(s, i + 1, i + (size_t)end) : STR("?");
        uint64_t index;
        if (field.n == 0)
            index = next++;
        else if (str_to_u64(field, &index) == RC_OK)
            index++;
        else
            return render_fail(r, ERR_INVALID, "format: only {} and {0} are supported");
        if (index >= count)
            return render_fail(r, ERR_INVALID, "format: more fields than values");
        rc = value_write(r, &args[index]);
        i += (size_t)end;
    }
    return rc;
}

static enum rc text_format(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct str text;
    size_t start = render_capture_begin(r);
    enum rc rc = write_format(r, value_str(&args[0]), args, count);
    if (rc != RC_OK) {
        render_capture_abandon(r, start);
        return rc;
    }
    rc = render_capture_end(r, start, &text);
    *out = value_text(text);
    return rc;
}

/* ---- lists ---- */

static enum rc own_list(struct render *r, const struct value *v)
{
    if (v->kind == VALUE_LIST && !v->list->tuple)
        return RC_OK;
    return render_fail(r, ERR_INVALID, "only lists that the template made can be changed");
}

static enum rc list_append(struct render *r, struct value *args, size_t count, struct value *out)
{
    enum rc rc = own_list(r, &args[0]);
    *out = value_none();
    return rc == RC_OK ? value_list_add(r, args[0].list, args[1]) : rc;
}

static enum rc list_extend(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct value *items;
    uint32_t n;
    enum rc rc = own_list(r, &args[0]);
    if (rc == RC_OK)
        rc = value_items(r, &args[1], &items, &n);
    *out = value_none();
    for (uint32_t i = 0; rc == RC_OK && i < n; i++)
        rc = value_list_add(r, args[0].list, items[i]);
    return rc;
}

static enum rc list_pop(struct render *r, struct value *args, size_t count, struct value *out)
{
    enum rc rc = own_list(r, &args[0]);
    if (rc != RC_OK)
        return rc;
    struct value_list *list = args[0].list;
    int64_t at = args[1].kind == VALUE_INT ? args[1].integer : -1;
    at += at < 0 ? list->count : 0;
    if (at < 0 || at >= list->count)
        return render_fail(r, ERR_INVALID, "pop: there is no such item");
    *out = list->items[at];
    memmove(list->items + at, list->items + at + 1,
            (list->count - 1 - (size_t)at) * sizeof(*list->items));
    list->count--;
    return render_spend(r, list->count / 16);
}

static enum rc list_find(struct render *r, struct value *args, int64_t *first, int64_t *found)
{
    struct value *items;
    uint32_t n;
    enum rc rc = value_items(r, &args[0], &items, &n);
    *found = 0;
    *first = -1;
    for (uint32_t i = 0; rc == RC_OK && i < n; i++) {
        if (!value_equal(r, &items[i], &args[1]))
            continue;
        *first = *first < 0 ? i : *first;
        ++*found;
    }
    return rc;
}

static enum rc list_index(struct render *r, struct value *args, size_t count, struct value *out)
{
    int64_t first, found;
    enum rc rc = list_find(r, args, &first, &found);
    *out = value_int(first);
    return rc == RC_OK && first < 0 ? render_fail(r, ERR_INVALID, "index: it is not in the list")
                                    : rc;
}

static enum rc list_count(struct render *r, struct value *args, size_t count, struct value *out)
{
    int64_t first, found;
    enum rc rc = list_find(r, args, &first, &found);
    *out = value_int(found);
    return rc;
}

/* ---- mappings ---- */

static enum rc dict_get(struct render *r, struct value *args, size_t count, struct value *out)
{
    if (args[1].kind == VALUE_TEXT && value_member(&args[0], value_str(&args[1]), out))
        return RC_OK;
    if (args[1].kind != VALUE_TEXT) {
        enum rc rc = value_item(r, &args[0], &args[1], out);
        if (rc != RC_OK || out->kind != VALUE_UNDEFINED)
            return rc;
    }
    *out = args[2].kind == VALUE_MISSING ? value_none() : args[2];
    return RC_OK;
}

static enum rc dict_items(struct render *r, struct value *args, size_t count, struct value *out)
{
    return value_pairs(r, &args[0], out);
}

static enum rc dict_part(struct render *r, struct value *args, size_t part, struct value *out)
{
    enum rc rc = value_pairs(r, &args[0], out);
    for (uint32_t i = 0; rc == RC_OK && i < out->list->count; i++)
        out->list->items[i] = out->list->items[i].list->items[part];
    return rc;
}

static enum rc dict_keys(struct render *r, struct value *args, size_t count, struct value *out)
{
    return dict_part(r, args, 0, out);
}

static enum rc dict_values(struct render *r, struct value *args, size_t count, struct value *out)
{
    return dict_part(r, args, 1, out);
}

/* ---- tables ---- */

static const struct template_function text_methods[] = {
    {"capitalize", "self", text_capitalize},
    {"count", "self,sub", text_count},
    {"endswith", "self,suffix", text_endswith},
    {"find", "self,sub", text_find},
    {"format", "self,...", text_format},
    {"index", "self,sub", text_index},
    {"isalnum", "self", text_isalnum},
    {"isalpha", "self", text_isalpha},
    {"isdigit", "self", text_isdigit},
    {"islower", "self", text_islower},
    {"isspace", "self", text_isspace},
    {"isupper", "self", text_isupper},
    {"join", "self,iterable", text_join},
    {"lower", "self", text_lower},
    {"lstrip", "self,chars=", text_lstrip},
    {"removeprefix", "self,prefix", text_removeprefix},
    {"removesuffix", "self,suffix", text_removesuffix},
    {"replace", "self,old,new,count=", text_replace},
    {"rfind", "self,sub", text_rfind},
    {"rsplit", "self,sep=,maxsplit=", text_rsplit},
    {"rstrip", "self,chars=", text_rstrip},
    {"split", "self,sep=,maxsplit=", text_split},
    {"splitlines", "self,keepends=", text_splitlines},
    {"startswith", "self,prefix", text_startswith},
    {"strip", "self,chars=", text_strip},
    {"title", "self", text_title},
    {"upper", "self", text_upper},
};

static const struct template_function list_methods[] = {
    {"append", "self,item", list_append},  {"count", "self,item", list_count},
    {"extend", "self,items", list_extend}, {"index", "self,item", list_index},
    {"pop", "self,index=", list_pop},
};

static const struct template_function dict_methods[] = {
    {"get", "self,key,default=", dict_get},
    {"items", "self", dict_items},
    {"keys", "self", dict_keys},
    {"values", "self", dict_values},
};

static const struct {
    const struct template_function *functions;
    size_t count;
    const char *others; /* that Python has, too: attributes of these names are no members */
} owners[] = {
    [METHOD_OF_TEXT] = {text_methods, COUNT_OF(text_methods),
                        " casefold center encode expandtabs format_map isascii isdecimal "
                        "isidentifier isnumeric isprintable istitle ljust maketrans partition "
                        "rindex rjust rpartition swapcase translate zfill "},
    [METHOD_OF_LIST] = {list_methods, COUNT_OF(list_methods),
                        " clear copy insert remove reverse sort "},
    [METHOD_OF_DICT] = {dict_methods, COUNT_OF(dict_methods),
                        " clear copy fromkeys pop popitem setdefault update "},
};

const struct template_function *template_method_find(enum method_owner owner, struct str name)
{
    for (size_t i = 0; i < owners[owner].count; i++)
        if (str_eq(str_from(owners[owner].functions[i].name), name))
            return &owners[owner].functions[i];
    return NULL;
}

bool template_method_known(enum method_owner owner, struct str name)
{
    struct str rest = str_from(owners[owner].others), part;
    if (template_method_find(owner, name))
        return true;
    while (str_split(&rest, ' ', &part))
        if (name.n && str_eq(part, name))
            return true;
    return false;
}
