/* Expressions: a recursive-descent parser into a tree in the arena, and an evaluator over it. Both
 * are bounded by the text's length and EXPRESSION_DEPTH_MAX; the evaluator also by a number of
 * steps, so that lists and globs of hostile sizes cost no more than a request may. */
#include "text/expression.h"
#include "text/json.h"
#include <math.h>
#include <stdio.h>

#define STEPS_MAX      100000
#define LIST_ITEMS_MAX 256

enum node_kind {
    NODE_LITERAL,
    NODE_LIST,
    NODE_PATH,
    NODE_CALL,
    NODE_NOT,
    NODE_MINUS,
    NODE_AND,
    NODE_OR,
    NODE_EQUAL,
    NODE_UNEQUAL,
    NODE_LESS,
    NODE_AT_MOST,
    NODE_ABOVE,
    NODE_AT_LEAST,
    NODE_IN,
    NODE_NOT_IN,
    NODE_MATCHES,
    NODE_CONTAINS,
    NODE_ADD,
    NODE_SUBTRACT,
    NODE_MULTIPLY,
    NODE_DIVIDE,
    NODE_REMAINDER,
};

struct expression {
    enum node_kind kind;
    struct expression_value value; /* literal */
    struct str path[EXPRESSION_PATH_MAX];
    size_t path_count;
    int function;              /* index into functions */
    struct expression **items; /* operands, arguments, list */
    size_t item_count;
};

/* ---- functions ---- */

struct evaluation {
    expression_lookup *lookup;
    void *arg;
    struct arena *scratch;
    long steps;
    enum rc rc;
};

typedef void function_body(struct evaluation *e, const struct expression_value *args, size_t count,
                           struct expression_value *out);

static struct expression_value of_bool(bool value)
{
    return (struct expression_value){.type = EXPRESSION_BOOL, .boolean = value};
}

static struct expression_value of_number(double value)
{
    return isfinite(value) ? (struct expression_value){.type = EXPRESSION_NUMBER, .number = value}
                           : (struct expression_value){0};
}

static struct expression_value of_text(struct str text)
{
    return (struct expression_value){.type = EXPRESSION_TEXT, .text = text};
}

static bool both_texts(const struct expression_value *a, const struct expression_value *b)
{
    return a->type == EXPRESSION_TEXT && b->type == EXPRESSION_TEXT;
}

static bool spend(struct evaluation *e, size_t steps)
{
    e->steps -= (long)MIN(steps, (size_t)STEPS_MAX + 1);
    if (e->steps < 0)
        e->rc = RC_LIMIT;
    return e->steps >= 0;
}

static void change_case(struct evaluation *e, struct str text, bool upper,
                        struct expression_value *out)
{
    char *copy = arena_alloc(e->scratch, text.n + 1);
    if (!copy || !spend(e, text.n / 64)) {
        e->rc = RC_LIMIT;
        return;
    }
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        bool letter = upper ? c >= 'a' && c <= 'z' : c >= 'A' && c <= 'Z';
        copy[i] = letter ? (char)(c ^ 0x20) : c;
    }
    *out = of_text(str_make(copy, text.n));
}

static void call_lower(struct evaluation *e, const struct expression_value *args, size_t count,
                       struct expression_value *out)
{
    if (args[0].type == EXPRESSION_TEXT)
        change_case(e, args[0].text, false, out);
}

static void call_upper(struct evaluation *e, const struct expression_value *args, size_t count,
                       struct expression_value *out)
{
    if (args[0].type == EXPRESSION_TEXT)
        change_case(e, args[0].text, true, out);
}

/* Characters of a text, items of a list or array, members of an object. */
static void call_length(struct evaluation *e, const struct expression_value *args, size_t count,
                        struct expression_value *out)
{
    const struct expression_value *v = &args[0];
    double length = 0;
    if (v->type == EXPRESSION_TEXT) {
        for (size_t i = 0; i < v->text.n; i++)
            length += (v->text.p[i] & 0xc0) != 0x80;
        spend(e, v->text.n / 64);
    } else if (v->type == EXPRESSION_LIST) {
        length = (double)v->item_count;
    } else if (v->type == EXPRESSION_JSON) {
        length =
            (double)(yyjson_is_arr(v->json) ? yyjson_arr_size(v->json) : yyjson_obj_size(v->json));
    } else {
        return;
    }
    *out = of_number(length);
}

static void call_starts_with(struct evaluation *e, const struct expression_value *args,
                             size_t count, struct expression_value *out)
{
    *out = of_bool(both_texts(&args[0], &args[1]) && str_starts(args[0].text, args[1].text));
}

static void call_ends_with(struct evaluation *e, const struct expression_value *args, size_t count,
                           struct expression_value *out)
{
    *out = of_bool(both_texts(&args[0], &args[1]) && str_ends(args[0].text, args[1].text));
}

static bool holds(struct evaluation *e, const struct expression_value *whole,
                  const struct expression_value *part);

static void call_contains(struct evaluation *e, const struct expression_value *args, size_t count,
                          struct expression_value *out)
{
    *out = of_bool(holds(e, &args[0], &args[1]));
}

static void call_matches(struct evaluation *e, const struct expression_value *args, size_t count,
                         struct expression_value *out)
{
    bool fits = both_texts(&args[0], &args[1]) && spend(e, args[0].text.n / 16) &&
                str_matches_glob(args[0].text, args[1].text);
    *out = of_bool(fits);
}

static void call_number(struct evaluation *e, const struct expression_value *args, size_t count,
                        struct expression_value *out)
{
    double value;
    if (args[0].type == EXPRESSION_NUMBER)
        *out = args[0];
    else if (args[0].type == EXPRESSION_BOOL)
        *out = of_number(args[0].boolean);
    else if (args[0].type == EXPRESSION_TEXT &&
             str_to_double(str_trim(args[0].text), &value) == RC_OK)
        *out = of_number(value);
}

static void call_text(struct evaluation *e, const struct expression_value *args, size_t count,
                      struct expression_value *out)
{
    const struct expression_value *v = &args[0];
    struct str text = STR_EMPTY;
    if (v->type == EXPRESSION_TEXT)
        text = v->text;
    else if (v->type == EXPRESSION_BOOL)
        text = v->boolean ? STR("true") : STR("false");
    else if (v->type == EXPRESSION_NUMBER)
        text = arena_printf(e->scratch, "%.15g", v->number);
    else if (v->type == EXPRESSION_JSON)
        text = json_write(v->json, e->scratch);
    else
        return;
    if (text.p || v->type == EXPRESSION_TEXT)
        *out = of_text(text);
    else
        e->rc = RC_LIMIT;
}

static void call_exists(struct evaluation *e, const struct expression_value *args, size_t count,
                        struct expression_value *out)
{
    *out = of_bool(args[0].type != EXPRESSION_NULL);
}

static void call_default(struct evaluation *e, const struct expression_value *args, size_t count,
                         struct expression_value *out)
{
    *out = args[0].type == EXPRESSION_NULL ? args[1] : args[0];
}

static void call_min(struct evaluation *e, const struct expression_value *args, size_t count,
                     struct expression_value *out)
{
    if (args[0].type == EXPRESSION_NUMBER && args[1].type == EXPRESSION_NUMBER)
        *out = of_number(MIN(args[0].number, args[1].number));
}

static void call_max(struct evaluation *e, const struct expression_value *args, size_t count,
                     struct expression_value *out)
{
    if (args[0].type == EXPRESSION_NUMBER && args[1].type == EXPRESSION_NUMBER)
        *out = of_number(MAX(args[0].number, args[1].number));
}

static const struct function {
    struct str name;
    size_t args;
    function_body *body;
} functions[] = {
    {STR_INIT("lower"), 1, call_lower},
    {STR_INIT("upper"), 1, call_upper},
    {STR_INIT("length"), 1, call_length},
    {STR_INIT("starts_with"), 2, call_starts_with},
    {STR_INIT("ends_with"), 2, call_ends_with},
    {STR_INIT("contains"), 2, call_contains},
    {STR_INIT("number"), 1, call_number},
    {STR_INIT("text"), 1, call_text},
    {STR_INIT("exists"), 1, call_exists},
    {STR_INIT("matches"), 2, call_matches},
    {STR_INIT("default"), 2, call_default},
    {STR_INIT("min"), 2, call_min},
    {STR_INIT("max"), 2, call_max},
};
#define ARGS_MAX 2

/* ---- parsing ---- */

struct parser {
    struct str text;
    size_t at;
    int depth;
    struct arena *arena;
    struct err *err;
    enum rc rc;
};

static struct expression *parse_or(struct parser *p);

static void *fail(struct parser *p, const char *what)
{
    if (p->rc == RC_OK)
        p->rc = err_set(p->err, ERR_BAD_FIELD, "column %zu: %s", p->at + 1, what);
    return NULL;
}

static struct expression *node_new(struct parser *p, enum node_kind kind)
{
    struct expression *node = ARENA_NEW(p->arena, struct expression);
    if (!node) {
        p->rc = err_set(p->err, ERR_TOO_LARGE, "the expression needs more memory than it may use");
        return NULL;
    }
    node->kind = kind;
    return node;
}

static bool add_item(struct parser *p, struct expression *node, struct expression *item)
{
    if (!item)
        return false;
    if ((node->item_count & (node->item_count - 1)) == 0) { /* full at each power of two */
        size_t wanted = node->item_count ? node->item_count * 2 : 1;
        struct expression **items = ARENA_NEW_ARRAY(p->arena, struct expression *, wanted);
        if (!items) {
            p->rc =
                err_set(p->err, ERR_TOO_LARGE, "the expression needs more memory than it may use");
            return false;
        }
        if (node->item_count)
            memcpy(items, node->items, node->item_count * sizeof(*items));
        node->items = items;
    }
    node->items[node->item_count++] = item;
    return true;
}

static struct expression *binary(struct parser *p, enum node_kind kind, struct expression *left,
                                 struct expression *right)
{
    struct expression *node = left && right ? node_new(p, kind) : NULL;
    return node && add_item(p, node, left) && add_item(p, node, right) ? node : NULL;
}

static void skip_space(struct parser *p)
{
    while (p->at < p->text.n && memchr(" \t\r\n", p->text.p[p->at], 4))
        p->at++;
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Names may hold dashes, as headers do: subtraction needs spaces after a name. */
static bool is_name(char c) { return is_name_start(c) || is_digit(c) || c == '-'; }

static char peek(struct parser *p)
{
    skip_space(p);
    return p->at < p->text.n ? p->text.p[p->at] : 0;
}

/* Takes the sign if it stands here. */
static bool take(struct parser *p, const char *sign)
{
    size_t n = strlen(sign);
    skip_space(p);
    if (p->text.n - p->at < n || memcmp(p->text.p + p->at, sign, n) != 0)
        return false;
    p->at += n;
    return true;
}

static struct str name_at(struct parser *p)
{
    size_t end = p->at;
    while (end < p->text.n && is_name(p->text.p[end]))
        end++;
    return str_slice(p->text, p->at, end);
}

static bool take_word(struct parser *p, const char *word)
{
    skip_space(p);
    if (p->at >= p->text.n || !is_name_start(p->text.p[p->at]) ||
        !str_eq(name_at(p), str_from(word)))
        return false;
    p->at += strlen(word);
    return true;
}

static bool parse_quoted(struct parser *p, struct str *out)
{
    char quote = p->text.p[p->at];
    char *to = arena_alloc(p->arena, p->text.n - p->at + 1);
    size_t n = 0, at = p->at + 1;
    if (!to) {
        p->rc = err_set(p->err, ERR_TOO_LARGE, "the expression needs more memory than it may use");
        return false;
    }
    for (; at < p->text.n && p->text.p[at] != quote; at++) {
        char c = p->text.p[at];
        if (c == '\\' && ++at < p->text.n) {
            c = p->text.p[at];
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
        }
        if (at < p->text.n)
            to[n++] = c;
    }
    if (at >= p->text.n) {
        fail(p, "the text's closing quote is missing");
        return false;
    }
    p->at = at + 1;
    *out = str_make(to, n);
    return true;
}

static struct expression *parse_number(struct parser *p)
{
    size_t end = p->at;
    double value;
    while (end < p->text.n && (is_digit(p->text.p[end]) || p->text.p[end] == '.'))
        end++;
    if (str_to_double(str_slice(p->text, p->at, end), &value) != RC_OK)
        return fail(p, "this is no number");
    p->at = end;
    struct expression *node = node_new(p, NODE_LITERAL);
    if (node)
        node->value = of_number(value);
    return node;
}

static struct expression *parse_items(struct parser *p, struct expression *node, const char *close)
{
    if (!node || take(p, close))
        return node;
    do {
        if (node->item_count == LIST_ITEMS_MAX)
            return fail(p, "too many items");
        if (!add_item(p, node, parse_or(p)))
            return NULL;
    } while (take(p, ","));
    return take(p, close) ? node : fail(p, close[0] == ')' ? "expected , or )" : "expected , or ]");
}

static struct expression *parse_call(struct parser *p, struct str name)
{
    size_t index = 0;
    while (index < COUNT_OF(functions) && !str_eq(functions[index].name, name))
        index++;
    if (index == COUNT_OF(functions))
        return fail(p, "there is no such function");
    struct expression *node = node_new(p, NODE_CALL);
    if (!node)
        return NULL;
    node->function = (int)index;
    p->at++;
    node = parse_items(p, node, ")");
    if (node && node->item_count != functions[index].args)
        return fail(p, functions[index].args == 1 ? "the function takes one argument"
                                                  : "the function takes two arguments");
    return node;
}

/* .name, [index] and ["name"] after the first name. */
static struct expression *parse_path(struct parser *p, struct expression *node)
{
    while (p->at < p->text.n) {
        char c = p->text.p[p->at];
        struct str step = STR_EMPTY;
        if (c != '.' && c != '[')
            break;
        if (node->path_count == EXPRESSION_PATH_MAX)
            return fail(p, "the path has too many steps");
        p->at++;
        if (c == '.') {
            step = name_at(p);
            p->at += step.n;
        } else if (peek(p) == '"' || peek(p) == '\'') {
            if (!parse_quoted(p, &step))
                return NULL;
        } else {
            size_t from = p->at;
            while (p->at < p->text.n && is_digit(p->text.p[p->at]))
                p->at++;
            step = str_slice(p->text, from, p->at);
        }
        if (!step.n || (c == '[' && !take(p, "]")))
            return fail(p, c == '.' ? "expected a name after the point"
                                    : "expected a number or a text in brackets");
        node->path[node->path_count++] = step;
    }
    return node;
}

static struct expression *parse_name(struct parser *p)
{
    struct str name = name_at(p);
    size_t start = p->at;
    p->at += name.n;
    bool is_true = str_eq(name, STR("true")), is_null = str_eq(name, STR("null"));
    if (is_true || is_null || str_eq(name, STR("false"))) {
        struct expression *node = node_new(p, NODE_LITERAL);
        if (node && !is_null)
            node->value = of_bool(is_true);
        return node;
    }
    if (p->at < p->text.n && p->text.p[p->at] == '(') {
        struct expression *node = parse_call(p, name);
        if (!node && p->at == start + name.n)
            p->at = start;
        return node;
    }
    struct expression *node = node_new(p, NODE_PATH);
    if (!node)
        return NULL;
    node->path[node->path_count++] = name;
    return parse_path(p, node);
}

static struct expression *parse_value(struct parser *p)
{
    char c = peek(p);
    if (c == '(') {
        p->at++;
        struct expression *node = parse_or(p);
        return node && !take(p, ")") ? fail(p, "expected )") : node;
    }
    if (c == '[') {
        p->at++;
        return parse_items(p, node_new(p, NODE_LIST), "]");
    }
    if (c == '"' || c == '\'') {
        struct str text;
        struct expression *node = parse_quoted(p, &text) ? node_new(p, NODE_LITERAL) : NULL;
        if (node)
            node->value = of_text(text);
        return node;
    }
    if (is_digit(c))
        return parse_number(p);
    if (is_name_start(c))
        return parse_name(p);
    return fail(p, c ? "expected a value" : "the expression ends where a value should follow");
}

static struct expression *parse_unary(struct parser *p)
{
    enum node_kind kind = NODE_NOT;
    skip_space(p);
    bool not = take_word(p, "not");
    if (!not&&peek(p) == '!' && !(p->at + 1 < p->text.n && p->text.p[p->at + 1] == '='))
        not = take(p, "!");
    if (!not&&take(p, "-")) {
        kind = NODE_MINUS;
        not = true;
    }
    if (!not)
        return parse_value(p);
    if (++p->depth > EXPRESSION_DEPTH_MAX)
        return fail(p, "nested too deeply");
    struct expression *node = node_new(p, kind);
    bool ok = node && add_item(p, node, parse_unary(p));
    p->depth--;
    return ok ? node : NULL;
}

static struct expression *parse_product(struct parser *p)
{
    struct expression *left = parse_unary(p);
    while (left) {
        if (take(p, "*"))
            left = binary(p, NODE_MULTIPLY, left, parse_unary(p));
        else if (take(p, "/"))
            left = binary(p, NODE_DIVIDE, left, parse_unary(p));
        else if (take(p, "%"))
            left = binary(p, NODE_REMAINDER, left, parse_unary(p));
        else
            break;
    }
    return left;
}

static struct expression *parse_sum(struct parser *p)
{
    struct expression *left = parse_product(p);
    while (left) {
        if (take(p, "+"))
            left = binary(p, NODE_ADD, left, parse_product(p));
        else if (take(p, "-"))
            left = binary(p, NODE_SUBTRACT, left, parse_product(p));
        else
            break;
    }
    return left;
}

static struct expression *parse_comparison(struct parser *p)
{
    static const struct {
        const char *sign;
        enum node_kind kind;
    } signs[] = {{"==", NODE_EQUAL},    {"!=", NODE_UNEQUAL}, {"<=", NODE_AT_MOST},
                 {">=", NODE_AT_LEAST}, {"<", NODE_LESS},     {">", NODE_ABOVE}},
      words[] = {{"in", NODE_IN}, {"matches", NODE_MATCHES}, {"contains", NODE_CONTAINS}};
    struct expression *left = parse_sum(p);
    if (!left)
        return NULL;
    for (size_t i = 0; i < COUNT_OF(signs); i++)
        if (take(p, signs[i].sign))
            return binary(p, signs[i].kind, left, parse_sum(p));
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (take_word(p, words[i].sign))
            return binary(p, words[i].kind, left, parse_sum(p));
    if (!take_word(p, "not"))
        return left;
    return take_word(p, "in") ? binary(p, NODE_NOT_IN, left, parse_sum(p)) : fail(p, "expected in");
}

static struct expression *parse_and(struct parser *p)
{
    struct expression *left = parse_comparison(p);
    while (left && (take(p, "&&") || take_word(p, "and")))
        left = binary(p, NODE_AND, left, parse_comparison(p));
    return left;
}

static struct expression *parse_or(struct parser *p)
{
    if (++p->depth > EXPRESSION_DEPTH_MAX)
        return fail(p, "nested too deeply");
    struct expression *left = parse_and(p);
    while (left && (take(p, "||") || take_word(p, "or")))
        left = binary(p, NODE_OR, left, parse_and(p));
    p->depth--;
    return left;
}

enum rc expression_parse(struct str text, struct arena *arena, struct expression **out,
                         struct err *err)
{
    struct parser p = {.text = text, .arena = arena, .err = err};
    if (text.n > EXPRESSION_BYTES_MAX)
        return err_set(err, ERR_BAD_FIELD, "an expression has at most %d bytes",
                       EXPRESSION_BYTES_MAX);
    struct expression *root = parse_or(&p);
    if (root && peek(&p))
        root = fail(&p, "expected an operator or the end");
    if (!root)
        return p.rc ? p.rc : err_set(err, ERR_BAD_FIELD, "not an expression");
    *out = root;
    return RC_OK;
}

/* ---- evaluation ---- */

bool expression_truth(const struct expression_value *v)
{
    switch (v->type) {
    case EXPRESSION_BOOL: return v->boolean;
    case EXPRESSION_NUMBER: return v->number != 0;
    case EXPRESSION_TEXT: return v->text.n > 0;
    case EXPRESSION_LIST: return v->item_count > 0;
    case EXPRESSION_JSON:
        return yyjson_is_arr(v->json) ? yyjson_arr_size(v->json) > 0 : yyjson_obj_size(v->json) > 0;
    default: return false;
    }
}

static bool equal(struct evaluation *e, const struct expression_value *a,
                  const struct expression_value *b)
{
    if (a->type != b->type || !spend(e, 1))
        return false;
    switch (a->type) {
    case EXPRESSION_BOOL: return a->boolean == b->boolean;
    case EXPRESSION_NUMBER: return a->number == b->number;
    case EXPRESSION_TEXT: return str_eq(a->text, b->text);
    case EXPRESSION_JSON: return yyjson_equals(a->json, b->json);
    case EXPRESSION_LIST:
        if (a->item_count != b->item_count)
            return false;
        for (size_t i = 0; i < a->item_count; i++)
            if (!equal(e, &a->items[i], &b->items[i]))
                return false;
        return true;
    default: return true;
    }
}

static bool holds(struct evaluation *e, const struct expression_value *whole,
                  const struct expression_value *part)
{
    if (both_texts(whole, part))
        return spend(e, whole->text.n / 16) && str_find(whole->text, part->text) >= 0;
    for (size_t i = 0; whole->type == EXPRESSION_LIST && i < whole->item_count; i++)
        if (equal(e, &whole->items[i], part))
            return true;
    if (whole->type != EXPRESSION_JSON)
        return false;
    if (yyjson_is_obj(whole->json))
        return part->type == EXPRESSION_TEXT &&
               yyjson_obj_getn(whole->json, part->text.p, part->text.n) != NULL;
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(whole->json, i, n, item)
    {
        struct expression_value value = {0};
        expression_from_json(item, NULL, 0, &value);
        if (equal(e, &value, part))
            return true;
    }
    return false;
}

/* -1, 0, 1; 2 where the two have no order. */
static int order(const struct expression_value *a, const struct expression_value *b)
{
    if (both_texts(a, b)) {
        int sign = str_cmp(a->text, b->text);
        return (sign > 0) - (sign < 0);
    }
    if (a->type != EXPRESSION_NUMBER || b->type != EXPRESSION_NUMBER)
        return 2;
    return (a->number > b->number) - (a->number < b->number);
}

static struct expression_value compute(struct evaluation *e, enum node_kind kind,
                                       const struct expression_value *a,
                                       const struct expression_value *b)
{
    if (kind == NODE_ADD && both_texts(a, b)) {
        struct str joined = arena_concat(e->scratch, a->text, b->text);
        if (!joined.p || !spend(e, joined.n / 64)) {
            e->rc = RC_LIMIT;
            return (struct expression_value){0};
        }
        return of_text(joined);
    }
    if (a->type != EXPRESSION_NUMBER || b->type != EXPRESSION_NUMBER)
        return (struct expression_value){0};
    switch (kind) {
    case NODE_ADD: return of_number(a->number + b->number);
    case NODE_SUBTRACT: return of_number(a->number - b->number);
    case NODE_MULTIPLY: return of_number(a->number * b->number);
    case NODE_DIVIDE: return of_number(a->number / b->number);
    default: return of_number(fmod(a->number, b->number));
    }
}

static struct expression_value compare(struct evaluation *e, enum node_kind kind,
                                       const struct expression_value *a,
                                       const struct expression_value *b)
{
    int sign = order(a, b);
    switch (kind) {
    case NODE_EQUAL: return of_bool(equal(e, a, b));
    case NODE_UNEQUAL: return of_bool(!equal(e, a, b));
    case NODE_LESS: return of_bool(sign == -1);
    case NODE_AT_MOST: return of_bool(sign == -1 || sign == 0);
    case NODE_ABOVE: return of_bool(sign == 1);
    case NODE_AT_LEAST: return of_bool(sign == 1 || sign == 0);
    case NODE_IN: return of_bool(holds(e, b, a));
    case NODE_NOT_IN: return of_bool(!holds(e, b, a));
    case NODE_CONTAINS: return of_bool(holds(e, a, b));
    case NODE_MATCHES:
        return of_bool(both_texts(a, b) && spend(e, a->text.n / 16) &&
                       str_matches_glob(a->text, b->text));
    default: return compute(e, kind, a, b);
    }
}

static void evaluate(struct evaluation *e, const struct expression *node,
                     struct expression_value *out);

static void evaluate_list(struct evaluation *e, const struct expression *node,
                          struct expression_value *out)
{
    struct expression_value *items =
        ARENA_NEW_ARRAY(e->scratch, struct expression_value, MAX(node->item_count, (size_t)1));
    if (!items) {
        e->rc = RC_LIMIT;
        return;
    }
    for (size_t i = 0; i < node->item_count; i++)
        evaluate(e, node->items[i], &items[i]);
    *out = (struct expression_value){
        .type = EXPRESSION_LIST, .items = items, .item_count = node->item_count};
}

static void evaluate_call(struct evaluation *e, const struct expression *node,
                          struct expression_value *out)
{
    struct expression_value args[ARGS_MAX] = {0};
    ASSERT(node->item_count <= ARGS_MAX);
    for (size_t i = 0; i < node->item_count; i++)
        evaluate(e, node->items[i], &args[i]);
    if (e->rc == RC_OK)
        functions[node->function].body(e, args, node->item_count, out);
}

static void evaluate(struct evaluation *e, const struct expression *node,
                     struct expression_value *out)
{
    struct expression_value a = {0}, b = {0};
    *out = (struct expression_value){0};
    if (e->rc != RC_OK || !spend(e, 1))
        return;
    switch (node->kind) {
    case NODE_LITERAL: *out = node->value; return;
    case NODE_LIST: evaluate_list(e, node, out); return;
    case NODE_PATH: e->lookup(e->arg, node->path, node->path_count, out); return;
    case NODE_CALL: evaluate_call(e, node, out); return;
    default: break;
    }
    evaluate(e, node->items[0], &a);
    if (node->kind == NODE_NOT) {
        *out = of_bool(!expression_truth(&a));
    } else if (node->kind == NODE_MINUS) {
        if (a.type == EXPRESSION_NUMBER)
            *out = of_number(-a.number);
    } else if (node->kind == NODE_AND || node->kind == NODE_OR) {
        bool decided = expression_truth(&a) == (node->kind == NODE_OR);
        if (!decided)
            evaluate(e, node->items[1], &b);
        *out = of_bool(decided ? expression_truth(&a) : expression_truth(&b));
    } else {
        evaluate(e, node->items[1], &b);
        if (e->rc == RC_OK)
            *out = compare(e, node->kind, &a, &b);
    }
}

enum rc expression_evaluate(const struct expression *expression, expression_lookup *lookup,
                            void *arg, struct arena *scratch, struct expression_value *out)
{
    struct evaluation e = {.lookup = lookup, .arg = arg, .scratch = scratch, .steps = STEPS_MAX};
    evaluate(&e, expression, out);
    return e.rc;
}

bool expression_test(const struct expression *expression, expression_lookup *lookup, void *arg,
                     struct arena *scratch)
{
    struct expression_value value = {0};
    return expression_evaluate(expression, lookup, arg, scratch, &value) == RC_OK &&
           expression_truth(&value);
}

void expression_from_json(yyjson_val *value, const struct str *path, size_t path_count,
                          struct expression_value *out)
{
    for (size_t i = 0; i < path_count; i++) {
        uint64_t index;
        if (yyjson_is_obj(value))
            value = yyjson_obj_getn(value, path[i].p, path[i].n);
        else if (yyjson_is_arr(value) && str_to_u64(path[i], &index) == RC_OK)
            value = yyjson_arr_get(value, (size_t)index);
        else
            value = NULL;
    }
    *out = (struct expression_value){0};
    if (yyjson_is_bool(value))
        *out = of_bool(yyjson_get_bool(value));
    else if (yyjson_is_num(value))
        *out = of_number(yyjson_get_num(value));
    else if (yyjson_is_str(value))
        *out = of_text(json_text(value));
    else if (yyjson_is_ctn(value))
        *out = (struct expression_value){.type = EXPRESSION_JSON, .json = value};
}

/* ---- structure ---- */

enum expression_shape expression_shape(const struct expression *expression)
{
    switch (expression->kind) {
    case NODE_AND: return EXPRESSION_AND;
    case NODE_OR: return EXPRESSION_OR;
    case NODE_NOT: return EXPRESSION_NOT;
    default: return EXPRESSION_OTHER;
    }
}

const struct expression *expression_operand(const struct expression *expression, size_t number)
{
    ASSERT(expression_shape(expression) != EXPRESSION_OTHER && number < expression->item_count);
    return expression->items[number];
}

size_t expression_members(const struct expression *expression, struct str *one)
{
    size_t count = 0;
    if (expression->kind == NODE_PATH) {
        *one = expression->path[0];
        return 1;
    }
    for (size_t i = 0; i < expression->item_count && count < 2; i++) {
        struct str other = STR_EMPTY;
        size_t n = expression_members(expression->items[i], &other);
        if (n == 0 || (n == 1 && count == 1 && str_eq(other, *one)))
            continue;
        count = n == 1 && count == 0 ? 1 : 2;
        *one = other;
    }
    return count;
}
