/* A scanner over the bytes between {{ }} and {% %}, or over a whole expression. It need not
 * understand the grammar, only where names stand; both parsers have the last word. */
#include "pipeline/definition/reference.h"

#define BOUND_NAMES_MAX 32

struct scanner {
    struct str text;
    size_t at;
    bool jinja;
    struct str bound[BOUND_NAMES_MAX]; /* by for, set, macro */
    size_t bound_count;
    reference_visit *visit;
    void *arg;
};

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_name(char c) { return is_name_start(c) || (c >= '0' && c <= '9'); }

static bool is_one_of(struct str name, const char *const *words)
{
    for (; *words; words++)
        if (str_eq(name, str_from(*words)))
            return true;
    return false;
}

static const char *const shared_words[] = {"and", "or", "not", "in", "true", "false", NULL};
static const char *const expression_words[] = {"null", "matches", "contains", NULL};
static const char *const jinja_words[] = {
    "is",        "if",     "else",  "elif",     "endif",     "for",    "endfor", "set", "endset",
    "block",     "none",   "None",  "True",     "False",     "loop",   "filter", "raw", "endfilter",
    "recursive", "macro",  "call",  "endmacro", "endcall",   "caller", "break",  "do",  "continue",
    "endraw",    "ignore", "range", "dict",     "namespace", NULL};

static bool is_word(const struct scanner *s, struct str name)
{
    if (is_one_of(name, shared_words))
        return true;
    return is_one_of(name, s->jinja ? jinja_words : expression_words);
}

static bool is_bound(const struct scanner *s, struct str name)
{
    for (size_t i = 0; i < s->bound_count; i++)
        if (str_eq(s->bound[i], name))
            return true;
    return false;
}

static void skip_spaces(struct scanner *s, size_t end)
{
    while (s->at < end && (s->text.p[s->at] == ' ' || s->text.p[s->at] == '\n' ||
                           s->text.p[s->at] == '\t' || s->text.p[s->at] == '\r'))
        s->at++;
}

static struct str take_name(struct scanner *s, size_t end)
{
    size_t from = s->at;
    while (s->at < end && is_name(s->text.p[s->at]))
        s->at++;
    return str_slice(s->text, from, s->at);
}

/* Behind an opening quote: behind the closing one. */
static void skip_quoted(struct scanner *s, size_t end, char quote)
{
    while (s->at < end && s->text.p[s->at] != quote)
        s->at += s->text.p[s->at] == '\\' ? 2 : 1;
    s->at++;
}

/* Names that `for a, b in`, `set a` and `macro a(b)` bind. */
static void take_bound(struct scanner *s, size_t end)
{
    for (;;) {
        skip_spaces(s, end);
        if (s->at >= end || !is_name_start(s->text.p[s->at]))
            return;
        struct str name = take_name(s, end);
        if (str_eq(name, STR("in")))
            return;
        if (s->bound_count < BOUND_NAMES_MAX)
            s->bound[s->bound_count++] = name;
        skip_spaces(s, end);
        if (s->at >= end || (s->text.p[s->at] != ',' && s->text.p[s->at] != '('))
            return;
        s->at++;
    }
}

/* ".name", "[0]" and "['name']" behind a name. False: something that is no plain step follows. */
static bool take_step(struct scanner *s, size_t end, struct str *step)
{
    size_t saved = s->at;
    if (s->at + 1 < end && s->text.p[s->at] == '.' && is_name(s->text.p[s->at + 1])) {
        s->at++;
        *step = take_name(s, end);
        return true;
    }
    if (s->at < end && s->text.p[s->at] == '[') {
        s->at++;
        char quote = s->at < end ? s->text.p[s->at] : 0;
        bool quoted = quote == '"' || quote == '\'';
        s->at += quoted;
        *step = take_name(s, end);
        if (quoted && s->at < end && s->text.p[s->at] == quote)
            s->at++;
        if (step->n && s->at < end && s->text.p[s->at] == ']' &&
            (quoted || !is_name_start(step->p[0]))) {
            s->at++;
            return true;
        }
        s->at = saved;
    }
    return false;
}

static void take_reference(struct scanner *s, size_t end, struct str name)
{
    struct reference reference = {.steps = {name}, .count = 1};
    struct str step;
    while (take_step(s, end, &step)) {
        if (reference.count < REFERENCE_STEPS_MAX)
            reference.steps[reference.count++] = step;
    }
    size_t behind = s->at;
    skip_spaces(s, end);
    bool is_call = s->at < end && s->text.p[s->at] == '(';
    bool is_keyword = s->at + 1 < end && s->text.p[s->at] == '=' && s->text.p[s->at + 1] != '=';
    s->at = behind;
    if (is_call && reference.count == 1)
        return; /* a function */
    if (is_call)
        reference.count--; /* a method of the value */
    if (s->jinja && is_keyword && reference.count == 1)
        return; /* an argument's name */
    s->visit(s->arg, &reference);
}

static void scan_code(struct scanner *s, size_t end)
{
    bool filter = false; /* behind | or is: the next name is no variable */
    while (s->at < end) {
        char c = s->text.p[s->at];
        if (c == '"' || c == '\'') {
            s->at++;
            skip_quoted(s, end, c);
        } else if (is_name_start(c)) {
            struct str name = take_name(s, end);
            if (s->jinja && !filter &&
                (str_eq(name, STR("for")) || str_eq(name, STR("set")) ||
                 str_eq(name, STR("macro"))))
                take_bound(s, end);
            else if (!filter && !is_word(s, name) && !is_bound(s, name))
                take_reference(s, end, name);
            filter = s->jinja && (str_eq(name, STR("is")) || (filter && str_eq(name, STR("not"))));
        } else if (c >= '0' && c <= '9') {
            while (s->at < end && (is_name(s->text.p[s->at]) || s->text.p[s->at] == '.'))
                s->at++;
        } else {
            if (c == '|' && s->jinja)
                filter = true;
            else if (c != ' ' && c != '\n' && c != '\t' && c != '\r')
                filter = false;
            if (c == '.') { /* a step behind ) or ] */
                s->at++;
                (void)take_name(s, end);
                continue;
            }
            s->at++;
        }
    }
}

void reference_each(struct str text, enum text_kind kind, reference_visit *visit, void *arg)
{
    struct scanner s = {.text = text, .jinja = kind == TEXT_TEMPLATE, .visit = visit, .arg = arg};
    if (kind == TEXT_EXPRESSION) {
        scan_code(&s, text.n);
        return;
    }
    while (s.at < text.n) {
        struct str rest = str_slice(text, s.at, text.n);
        ssize_t open = str_find_char(rest, '{');
        if (open < 0 || (size_t)open + 1 >= rest.n)
            return;
        char next = rest.p[open + 1];
        s.at += (size_t)open + 1;
        if (next != '{' && next != '%' && next != '#')
            continue;
        struct str closing = next == '{' ? STR("}}") : next == '%' ? STR("%}") : STR("#}");
        s.at++;
        ssize_t close = str_find(str_slice(text, s.at, text.n), closing);
        if (close < 0)
            return;
        size_t end = s.at + (size_t)close;
        if (next != '#')
            scan_code(&s, end);
        s.at = end + 2;
    }
}

static void keep_reference(void *arg, const struct reference *reference)
{
    struct reference *out = arg;
    if (out->count == 0)
        *out = *reference;
}

bool reference_is_path(struct str expression, struct reference *out)
{
    struct str text = str_trim(expression);
    *out = (struct reference){.count = 0};
    for (size_t i = 0; i < text.n; i++)
        if (!is_name(text.p[i]) && text.p[i] != '.')
            return false;
    reference_each(text, TEXT_EXPRESSION, keep_reference, out);
    return out->count > 0;
}
