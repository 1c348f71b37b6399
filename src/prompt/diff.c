/* Word diff: the common beginning and end are set aside, what is between is compared by the longest
 * common subsequence of words and spaces, a table of at most CELLS_MAX cells. */
#include "prompt/diff.h"

#define CELLS_MAX (4u << 20)

struct words {
    struct str *items;
    size_t count;
};

static bool is_word(char c)
{
    return c == '_' || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
           (c & 0x80);
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* Words, runs of spaces, and everything else by character. */
static enum rc split(struct str s, struct arena *arena, struct words *out)
{
    out->count = 0;
    out->items = ARENA_NEW_ARRAY(arena, struct str, s.n + 1);
    if (!out->items)
        return RC_LIMIT;
    for (size_t i = 0; i < s.n;) {
        size_t start = i++;
        while (i < s.n && ((is_word(s.p[start]) && is_word(s.p[i])) ||
                           (is_space(s.p[start]) && s.p[start] == s.p[i])))
            i++;
        out->items[out->count++] = str_slice(s, start, i);
    }
    return RC_OK;
}

struct output {
    struct diff_part *parts;
    size_t count;
};

/* Neighbours of the same kind become one part: they lie side by side in their text. */
static void put(struct output *out, enum diff_op op, struct str text)
{
    struct diff_part *last = out->count ? &out->parts[out->count - 1] : NULL;
    if (text.n == 0)
        return;
    if (last && last->op == op && last->text.p + last->text.n == text.p)
        last->text.n += text.n;
    else
        out->parts[out->count++] = (struct diff_part){op, text};
}

static void put_all(struct output *out, enum diff_op op, const struct str *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put(out, op, items[i]);
}

/* length[i][k]: of the longest common subsequence of a[i …) and b[k …). */
static enum rc compare(const struct str *a, size_t n, const struct str *b, size_t m,
                       struct arena *arena, struct output *out)
{
    size_t width = m + 1;
    if (n == 0 || m == 0 || (n + 1) * width > CELLS_MAX) {
        put_all(out, DIFF_DELETE, a, n);
        put_all(out, DIFF_INSERT, b, m);
        return RC_OK;
    }
    uint16_t *length = arena_calloc(arena, (n + 1) * width * sizeof(*length));
    if (!length)
        return RC_LIMIT;
    for (size_t i = n; i-- > 0;)
        for (size_t k = m; k-- > 0;)
            length[i * width + k] =
                str_eq(a[i], b[k]) ? (uint16_t)MIN(length[(i + 1) * width + k + 1] + 1, UINT16_MAX)
                                   : MAX(length[(i + 1) * width + k], length[i * width + k + 1]);
    size_t i = 0, k = 0;
    while (i < n && k < m) {
        if (str_eq(a[i], b[k])) {
            put(out, DIFF_EQUAL, b[k]);
            i++;
            k++;
        } else if (length[(i + 1) * width + k] >= length[i * width + k + 1]) {
            put(out, DIFF_DELETE, a[i++]);
        } else {
            put(out, DIFF_INSERT, b[k++]);
        }
    }
    put_all(out, DIFF_DELETE, a + i, n - i);
    put_all(out, DIFF_INSERT, b + k, m - k);
    return RC_OK;
}

enum rc diff_words(struct str before, struct str after, struct arena *arena,
                   struct diff_part **parts, size_t *count, struct err *err)
{
    struct words a, b;
    struct output out = {0};
    size_t start = 0, end = 0;
    enum rc rc = split(before, arena, &a);
    if (rc == RC_OK)
        rc = split(after, arena, &b);
    if (rc == RC_OK)
        out.parts = ARENA_NEW_ARRAY(arena, struct diff_part, a.count + b.count + 1);
    if (rc != RC_OK || !out.parts)
        return err_set(err, ERR_TOO_LARGE, "The texts are too long to be compared.");
    while (start < a.count && start < b.count && str_eq(a.items[start], b.items[start]))
        start++;
    while (end < a.count - start && end < b.count - start &&
           str_eq(a.items[a.count - 1 - end], b.items[b.count - 1 - end]))
        end++;
    put_all(&out, DIFF_EQUAL, b.items, start);
    rc = compare(a.items + start, a.count - start - end, b.items + start, b.count - start - end,
                 arena, &out);
    if (rc != RC_OK)
        return err_set(err, ERR_TOO_LARGE, "The texts are too long to be compared.");
    put_all(&out, DIFF_EQUAL, b.items + b.count - end, end);
    *parts = out.parts;
    *count = out.count;
    return RC_OK;
}
