/* Jinja2's expressions: a recursive-descent parser with Jinja2's precedences (jinja2/parser.py). */
#include "text/template_parse.h"
#include <stdarg.h>
#include <stdio.h>

void *parser_fail(struct parser *p, size_t at, const char *fmt, ...)
{
    char text[ERR_MESSAGE_BYTES_MAX];
    va_list args;
    if (p->failed)
        return NULL;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    p->failed = true;
    (void)!template_fail_at(p->lexer.source, at, p->err, "%s", text);
    return NULL;
}

void *parser_no_memory(struct parser *p)
{
    if (!p->failed)
        err_set(p->err, ERR_TOO_LARGE, "the template is too long");
    p->failed = true;
    return NULL;
}

struct node *parser_node(struct parser *p, enum node_op op)
{
    struct node *node = ARENA_NEW(p->arena, struct node);
    if (!node)
        return parser_no_memory(p);
    node->op = (uint8_t)op;
    node->at = p->lexer.token.at;
    return node;
}

bool parser_next(struct parser *p)
{
    p->failed = p->failed || template_lex_token(&p->lexer) != RC_OK;
    return !p->failed;
}

bool parser_is_name(const struct parser *p, const char *name)
{
    return p->lexer.token.type == TOKEN_NAME && str_eq(p->lexer.token.text, str_from(name));
}

bool parser_take(struct parser *p, int type)
{
    return p->lexer.token.type == type && parser_next(p);
}

bool parser_expect(struct parser *p, int type, const char *what)
{
    if (p->lexer.token.type != type) {
        parser_fail(p, p->lexer.token.at, "%s is expected here", what);
        return false;
    }
    return parser_next(p);
}

bool parser_enter(struct parser *p)
{
    if (p->depth++ < TEMPLATE_NESTING_MAX)
        return true;
    parser_fail(p, p->lexer.token.at, "nested more than %d deep", TEMPLATE_NESTING_MAX);
    return false;
}

/* ---- names ---- */

static struct scope_name *find_name(const struct scope *scope, struct str name)
{
    for (struct scope_name *n = scope->names; n; n = n->next)
        if (str_eq(n->name, name))
            return n;
    return NULL;
}

static struct scope_name *add_name(struct parser *p, struct function_scope *function,
                                   struct scope *scope, struct str name)
{
    struct scope_name *n = ARENA_NEW(p->arena, struct scope_name);
    if (!n)
        return parser_no_memory(p);
    if (function->slot_count >= TEMPLATE_SLOTS_MAX)
        return parser_fail(p, p->lexer.token.at, "more than %d names", TEMPLATE_SLOTS_MAX);
    *n = (struct scope_name){
        .name = name, .slot = (uint16_t)function->slot_count++, .next = scope->names};
    scope->names = n;
    return n;
}

static struct scope_name *resolve(struct parser *p, struct str name, uint16_t *functions)
{
    struct function_scope *f = p->function, *last = f;
    struct scope_name *n = NULL;
    *functions = 0;
    for (; f; f = f->outer) {
        for (struct scope *s = f->scope; s && !n; s = s->outer)
            n = find_name(s, name);
        if (n)
            break;
        last = f;
        *functions += f->outer != NULL;
    }
    if (!n) { /* a name from outside: the template's own frame has it */
        if ((n = add_name(p, last, &p->globals, name)))
            p->global_count++;
    }
    return n;
}

static bool add_copy(struct parser *p, struct scope *scope, struct slot_copy copy)
{
    if (scope->copy_count == scope->copy_capacity) {
        uint16_t capacity = (uint16_t)(scope->copy_capacity * 2 + 4);
        struct slot_copy *grown = ARENA_NEW_ARRAY(p->arena, struct slot_copy, capacity);
        if (!grown) {
            parser_no_memory(p);
            return false;
        }
        if (scope->copy_count)
            memcpy(grown, scope->copies, scope->copy_count * sizeof(copy));
        scope->copies = grown;
        scope->copy_capacity = capacity;
    }
    scope->copies[scope->copy_count++] = copy;
    return true;
}

bool parser_declare(struct parser *p, struct str name, bool copied, uint16_t *slot)
{
    struct scope *scope = p->function->scope;
    struct slot_copy copy;
    struct scope_name *n = find_name(scope, name);
    if (!n && scope == &p->globals) {
        if (!(n = add_name(p, p->function, scope, name)))
            return false;
        p->global_count++;
    } else if (!n) {
        struct scope_name *outside = copied ? resolve(p, name, &copy.outer_functions) : NULL;
        if (copied && !outside)
            return false;
        copy.outer_slot = outside ? outside->slot : 0;
        if (!(n = add_name(p, p->function, scope, name)))
            return false;
        copy.slot = n->slot;
        if (copied && !add_copy(p, scope, copy))
            return false;
    }
    n->stored = true;
    *slot = n->slot;
    return true;
}

void parser_scope_begin(struct parser *p, struct scope *scope)
{
    *scope = (struct scope){.outer = p->function->scope};
    p->function->scope = scope;
}

void parser_scope_end(struct parser *p, struct node *node)
{
    node->copies = p->function->scope->copies;
    node->copy_count = p->function->scope->copy_count;
    p->function->scope = p->function->scope->outer;
}

static struct node *name_node(struct parser *p, struct str name)
{
    struct node *node = parser_node(p, NODE_NAME);
    struct scope_name *n = node ? resolve(p, name, &node->functions) : NULL;
    if (str_eq(name, STR("varargs")))
        p->function->uses_varargs = true;
    else if (str_eq(name, STR("kwargs")))
        p->function->uses_kwargs = true;
    else if (str_eq(name, STR("caller")))
        p->function->uses_caller = true;
    if (!n)
        return NULL;
    n->read |= !n->stored;
    node->slot = n->slot;
    node->name = name;
    return node;
}

/* ---- expressions ---- */

static struct node *parse_unary(struct parser *p, bool with_filters);

static struct node *constant_node(struct parser *p, struct value value)
{
    struct node *node = parser_node(p, NODE_CONSTANT);
    if (node)
        node->constant = value;
    return node;
}

/* A growing list of nodes. */
struct node_list {
    struct node **items;
    size_t count, capacity;
};

static bool add_node(struct parser *p, struct node_list *list, struct node *node)
{
    if (!node)
        return false;
    if (list->count == UINT8_MAX) {
        parser_fail(p, node->at, "more than %d items", UINT8_MAX);
        return false;
    }
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 4;
        struct node **grown = ARENA_NEW_ARRAY(p->arena, struct node *, capacity);
        if (!grown) {
            parser_no_memory(p);
            return false;
        }
        if (list->count)
            memcpy(grown, list->items, list->count * sizeof(*grown));
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] = node;
    return true;
}

static struct node *finish_list(struct node *node, const struct node_list *list)
{
    node->items = list->items;
    node->count = (uint8_t)list->count;
    return node;
}

/* "a" "b" is one text. */
static struct node *parse_text(struct parser *p)
{
    struct node *node = constant_node(p, value_text(p->lexer.token.text));
    if (!node || !parser_next(p))
        return NULL;
    while (p->lexer.token.type == TOKEN_TEXT) {
        struct str joined = arena_concat(p->arena, value_str(&node->constant), p->lexer.token.text);
        if (!joined.p)
            return parser_no_memory(p);
        node->constant = value_text(joined);
        if (!parser_next(p))
            return NULL;
    }
    return node;
}

static struct node *parse_number(struct parser *p)
{
    struct value value = {.kind = VALUE_FLOAT};
    if (p->lexer.token.type == TOKEN_INT) {
        value.kind = VALUE_INT;
        if (str_to_i64(p->lexer.token.text, &value.integer) != RC_OK)
            return parser_fail(p, p->lexer.token.at, "the number is too large");
    } else if (str_to_double(p->lexer.token.text, &value.number) != RC_OK) {
        return parser_fail(p, p->lexer.token.at, "the number is too large");
    }
    struct node *node = constant_node(p, value);
    return node && parser_next(p) ? node : NULL;
}

static struct node *parse_name(struct parser *p)
{
    static const struct {
        const char *name;
        struct value value;
    } constants[] = {
        {"true", {.kind = VALUE_BOOL, .boolean = true}},
        {"True", {.kind = VALUE_BOOL, .boolean = true}},
        {"false", {.kind = VALUE_BOOL}},
        {"False", {.kind = VALUE_BOOL}},
        {"none", {.kind = VALUE_NONE}},
        {"None", {.kind = VALUE_NONE}},
    };
    struct node *node = NULL;
    for (size_t i = 0; i < COUNT_OF(constants) && !node; i++)
        if (parser_is_name(p, constants[i].name) && !(node = constant_node(p, constants[i].value)))
            return NULL;
    if (!node)
        node = name_node(p, p->lexer.token.text);
    return node && parser_next(p) ? node : NULL;
}

/* Items up to the closing bracket, which is taken. */
static struct node *parse_items(struct parser *p, enum node_op op, int close, const char *what)
{
    struct node_list list = {0};
    struct node *node = parser_node(p, op);
    if (!node || !parser_next(p))
        return NULL;
    while (p->lexer.token.type != close) {
        if (list.count && !parser_expect(p, ',', "\",\""))
            return NULL;
        if (p->lexer.token.type == close)
            break;
        if (!add_node(p, &list, parse_expression(p)))
            return NULL;
        if (op == NODE_DICT &&
            (!parser_expect(p, ':', "\":\"") || !add_node(p, &list, parse_expression(p))))
            return NULL;
    }
    return parser_expect(p, close, what) ? finish_list(node, &list) : NULL;
}

static struct node *parse_primary(struct parser *p)
{
    struct node *node;
    if (!parser_enter(p))
        return NULL;
    switch (p->lexer.token.type) {
    case TOKEN_NAME: node = parse_name(p); break;
    case TOKEN_TEXT: node = parse_text(p); break;
    case TOKEN_INT:
    case TOKEN_FLOAT: node = parse_number(p); break;
    case '[': node = parse_items(p, NODE_LIST, ']', "\"]\""); break;
    case '{': node = parse_items(p, NODE_DICT, '}', "\"}\""); break;
    case '(':
        node = NULL;
        if (parser_next(p) && (node = parse_tuple(p, true)) && !parser_expect(p, ')', "\")\""))
            node = NULL;
        break;
    default: node = parser_fail(p, p->lexer.token.at, "a value is expected here");
    }
    p->depth--;
    return node;
}

bool parse_arguments(struct parser *p, struct arguments **out)
{
    struct node_list values = {0};
    struct str names[TEMPLATE_ARGS_MAX];
    size_t positional = 0;
    *out = ARENA_NEW(p->arena, struct arguments);
    if (!*out)
        parser_no_memory(p);
    if (!*out || !parser_expect(p, '(', "\"(\""))
        return false;
    while (p->lexer.token.type != ')') {
        if (values.count && !parser_expect(p, ',', "\",\""))
            return false;
        if (p->lexer.token.type == ')')
            break;
        struct str name = STR_EMPTY;
        if (p->lexer.token.type == TOKEN_NAME) {
            if (template_lex_peek(&p->lexer) != RC_OK)
                return !(p->failed = true);
            if (p->lexer.ahead.type == '=') {
                name = p->lexer.token.text;
                if (!parser_next(p) || !parser_next(p))
                    return false;
            }
        }
        if (!name.n && values.count > positional) {
            parser_fail(p, p->lexer.token.at, "a positional argument after a named one");
            return false;
        }
        if (values.count == TEMPLATE_ARGS_MAX) {
            parser_fail(p, p->lexer.token.at, "more than %d arguments", TEMPLATE_ARGS_MAX);
            return false;
        }
        names[values.count] = name;
        positional += !name.n;
        if (!add_node(p, &values, parse_expression(p)))
            return false;
    }
    struct str *copy = ARENA_NEW_ARRAY(p->arena, struct str, values.count - positional + 1);
    if (!copy) {
        parser_no_memory(p);
        return false;
    }
    if (values.count > positional)
        memcpy(copy, names + positional, (values.count - positional) * sizeof(*copy));
    **out = (struct arguments){values.items, copy, (uint16_t)positional, (uint16_t)values.count};
    return parser_expect(p, ')', "\")\"");
}

static struct node *parse_attribute(struct parser *p, struct node *left)
{
    struct node *node = parser_node(p, NODE_ATTRIBUTE);
    if (!node || !parser_next(p))
        return NULL;
    node->left = left;
    if (p->lexer.token.type == TOKEN_INT) { /* list.0 */
        node->op = NODE_ITEM;
        return (node->right = parse_number(p)) ? node : NULL;
    }
    node->name = p->lexer.token.text;
    node->method_id = (uint8_t)template_loop_attribute(node->name);
    if (!parser_expect(p, TOKEN_NAME, "a name"))
        return NULL;
    if (p->lexer.token.type == '(') {
        node->op = NODE_METHOD;
        for (int owner = METHOD_OF_TEXT; owner <= METHOD_OF_DICT; owner++)
            node->method[owner] = template_method_find(owner, node->name);
        if (!parse_arguments(p, &node->arguments))
            return NULL;
    }
    return node;
}

/* x[1], x["a"], x[1:2:3] */
static struct node *parse_subscript(struct parser *p, struct node *left)
{
    struct node *node = parser_node(p, NODE_ITEM), *bounds[3] = {0};
    size_t at = 0;
    if (!node || !parser_next(p))
        return NULL;
    node->left = left;
    while (p->lexer.token.type != ']' && at < 3) {
        if (p->lexer.token.type != ':' && !(bounds[at] = parse_expression(p)))
            return NULL;
        if (p->lexer.token.type != ':')
            break;
        node->op = NODE_SLICE;
        at++;
        if (!parser_next(p))
            return NULL;
    }
    if (!parser_expect(p, ']', "\"]\""))
        return NULL;
    if (node->op == NODE_ITEM) {
        node->right = bounds[0];
        return bounds[0] ? node : parser_fail(p, node->at, "an index is missing");
    }
    if (!(node->items = ARENA_NEW_ARRAY(p->arena, struct node *, 3)))
        return parser_no_memory(p);
    memcpy(node->items, bounds, sizeof(bounds));
    return node;
}

/* Bounds the chains a.b.c…, which nest to the left without recursion here but with it later. */
static bool chain_allowed(struct parser *p, int *links)
{
    if (++*links <= TEMPLATE_NESTING_MAX)
        return true;
    parser_fail(p, p->lexer.token.at, "more than %d in a row", TEMPLATE_NESTING_MAX);
    return false;
}

static struct node *parse_postfix(struct parser *p, struct node *left)
{
    int links = 0;
    while (left) {
        struct node *node;
        switch (p->lexer.token.type) {
        case '.': left = parse_attribute(p, left); break;
        case '[': left = parse_subscript(p, left); break;
        case '(':
            if (!(node = parser_node(p, NODE_CALL)) || !parse_arguments(p, &node->arguments))
                return NULL;
            node->left = left;
            left = node;
            break;
        default: return left;
        }
        if (!chain_allowed(p, &links))
            return NULL;
    }
    return NULL;
}

static struct arguments *no_arguments(struct parser *p)
{
    struct arguments *none = ARENA_NEW(p->arena, struct arguments);
    return none ? none : parser_no_memory(p);
}

static struct node *parse_filter(struct parser *p, struct node *left)
{
    struct node *node = parser_node(p, NODE_FILTER);
    struct str name = p->lexer.token.text;
    if (!node || !parser_expect(p, TOKEN_NAME, "a filter's name"))
        return NULL;
    node->left = left;
    if (!(node->function = template_filter_find(name)))
        return parser_fail(p, node->at, "there is no filter \"%.*s\"", STR_ARG(name));
    if (p->lexer.token.type == '(')
        return parse_arguments(p, &node->arguments) ? node : NULL;
    return (node->arguments = no_arguments(p)) ? node : NULL;
}

static bool begins_test_argument(const struct parser *p)
{
    switch (p->lexer.token.type) {
    case TOKEN_NAME:
        return !parser_is_name(p, "else") && !parser_is_name(p, "or") &&
               !parser_is_name(p, "and") && !parser_is_name(p, "is") && !parser_is_name(p, "if") &&
               !parser_is_name(p, "not") && !parser_is_name(p, "in") &&
               !parser_is_name(p, "recursive");
    case TOKEN_TEXT:
    case TOKEN_INT:
    case TOKEN_FLOAT:
    case '[':
    case '{': return true;
    default: return false;
    }
}

/* `is [not] name`, `is name(…)`, `is name value` */
static struct node *parse_test(struct parser *p, struct node *left)
{
    struct node *node = parser_node(p, NODE_TEST);
    if (!node)
        return NULL;
    node->left = left;
    if (parser_is_name(p, "not")) {
        node->negated = true;
        if (!parser_next(p))
            return NULL;
    }
    struct str name = p->lexer.token.text;
    if (!parser_expect(p, TOKEN_NAME, "a test's name"))
        return NULL;
    if (!(node->function = template_test_find(name)))
        return parser_fail(p, node->at, "there is no test \"%.*s\"", STR_ARG(name));
    if (p->lexer.token.type == '(')
        return parse_arguments(p, &node->arguments) ? node : NULL;
    if (!(node->arguments = no_arguments(p)))
        return NULL;
    if (begins_test_argument(p)) {
        struct node_list list = {0};
        if (!add_node(p, &list, parse_postfix(p, parse_primary(p))))
            return NULL;
        *node->arguments = (struct arguments){list.items, NULL, 1, 1};
    }
    return node;
}

struct node *parse_filters(struct parser *p, struct node *left)
{
    int links = 0;
    while (left && chain_allowed(p, &links)) {
        if (p->lexer.token.type == '|') {
            left = parser_next(p) ? parse_filter(p, left) : NULL;
        } else if (parser_is_name(p, "is")) {
            left = parser_next(p) ? parse_test(p, left) : NULL;
        } else if (p->lexer.token.type == '(') {
            struct node *call = parser_node(p, NODE_CALL);
            if (!call || !parse_arguments(p, &call->arguments))
                return NULL;
            call->left = left;
            left = call;
        } else {
            return left;
        }
    }
    return NULL;
}

static struct node *operation(struct parser *p, enum node_op op, struct node *left,
                              struct node *right)
{
    struct node *node = left && right ? parser_node(p, op) : NULL;
    if (!node)
        return NULL;
    node->at = left->at;
    node->left = left;
    node->right = right;
    return node;
}

static struct node *parse_unary(struct parser *p, bool with_filters)
{
    struct node *node;
    int sign = p->lexer.token.type;
    if (!parser_enter(p))
        return NULL;
    if (sign == '-' || sign == '+') {
        node = parser_next(p) ? parse_unary(p, false) : NULL;
        node = operation(p, sign == '-' ? NODE_MINUS : NODE_PLUS, node, node);
    } else {
        node = parse_primary(p);
    }
    p->depth--;
    node = parse_postfix(p, node);
    return with_filters ? parse_filters(p, node) : node;
}

static struct node *parse_power(struct parser *p)
{
    struct node *left = parse_unary(p, true);
    int links = 0;
    while (left && p->lexer.token.type == TOKEN_POWER && chain_allowed(p, &links))
        left = parser_next(p) ? operation(p, NODE_POWER, left, parse_unary(p, true)) : NULL;
    return left;
}

static struct node *parse_product(struct parser *p)
{
    struct node *left = parse_power(p);
    int links = 0;
    while (left && chain_allowed(p, &links)) {
        enum node_op op;
        switch (p->lexer.token.type) {
        case '*': op = NODE_MULTIPLY; break;
        case '/': op = NODE_DIVIDE; break;
        case TOKEN_FLOOR_DIVIDE: op = NODE_FLOOR_DIVIDE; break;
        case '%': op = NODE_REMAINDER; break;
        default: return left;
        }
        left = parser_next(p) ? operation(p, op, left, parse_power(p)) : NULL;
    }
    return NULL;
}

static struct node *parse_concat(struct parser *p)
{
    struct node *left = parse_product(p);
    struct node_list list = {0};
    if (!left || p->lexer.token.type != '~')
        return left;
    struct node *node = parser_node(p, NODE_CONCAT);
    if (!node || !add_node(p, &list, left))
        return NULL;
    while (p->lexer.token.type == '~')
        if (!parser_next(p) || !add_node(p, &list, parse_product(p)))
            return NULL;
    return finish_list(node, &list);
}

static struct node *parse_sum(struct parser *p)
{
    struct node *left = parse_concat(p);
    int links = 0;
    while (left && (p->lexer.token.type == '+' || p->lexer.token.type == '-') &&
           chain_allowed(p, &links)) {
        enum node_op op = p->lexer.token.type == '+' ? NODE_ADD : NODE_SUBTRACT;
        left = parser_next(p) ? operation(p, op, left, parse_concat(p)) : NULL;
    }
    return p->failed ? NULL : left;
}

/* The comparison that stands here; `not in` takes two words. -1: none. */
static int take_comparison(struct parser *p)
{
    int op;
    switch (p->lexer.token.type) {
    case TOKEN_EQUAL: op = COMPARE_EQUAL; break;
    case TOKEN_UNEQUAL: op = COMPARE_UNEQUAL; break;
    case '<': op = COMPARE_LESS; break;
    case TOKEN_AT_MOST: op = COMPARE_AT_MOST; break;
    case '>': op = COMPARE_ABOVE; break;
    case TOKEN_AT_LEAST: op = COMPARE_AT_LEAST; break;
    case TOKEN_NAME:
        if (parser_is_name(p, "in")) {
            op = COMPARE_IN;
            break;
        }
        if (!parser_is_name(p, "not"))
            return -1;
        if (template_lex_peek(&p->lexer) != RC_OK) {
            p->failed = true;
            return -1;
        }
        if (p->lexer.ahead.type != TOKEN_NAME || !str_eq(p->lexer.ahead.text, STR("in")))
            return -1;
        op = COMPARE_NOT_IN;
        if (!parser_next(p))
            return -1;
        break;
    default: return -1;
    }
    return parser_next(p) ? op : -1;
}

static struct node *parse_comparison(struct parser *p)
{
    struct node *left = parse_sum(p);
    struct node_list list = {0};
    uint8_t operators[UINT8_MAX];
    int op = left ? take_comparison(p) : -1;
    if (!left || p->failed)
        return NULL;
    if (op < 0)
        return left;
    struct node *node = parser_node(p, NODE_COMPARE);
    if (!node)
        return NULL;
    node->left = left;
    for (; op >= 0; op = take_comparison(p)) {
        if (!add_node(p, &list, parse_sum(p)))
            return NULL;
        operators[list.count - 1] = (uint8_t)op;
    }
    struct str copy = arena_copy(p->arena, str_make(operators, list.count));
    if (!copy.p)
        return parser_no_memory(p);
    node->operators = (const uint8_t *)copy.p;
    return p->failed ? NULL : finish_list(node, &list);
}

static struct node *parse_not(struct parser *p)
{
    if (!parser_is_name(p, "not"))
        return parse_comparison(p);
    struct node *inner = NULL;
    if (parser_enter(p) && parser_next(p))
        inner = parse_not(p);
    p->depth--;
    return operation(p, NODE_NOT, inner, inner);
}

static struct node *parse_and(struct parser *p)
{
    struct node *left = parse_not(p);
    int links = 0;
    while (left && parser_is_name(p, "and") && chain_allowed(p, &links))
        left = parser_next(p) ? operation(p, NODE_AND, left, parse_not(p)) : NULL;
    return p->failed ? NULL : left;
}

static struct node *parse_or(struct parser *p)
{
    struct node *left = parse_and(p);
    int links = 0;
    while (left && parser_is_name(p, "or") && chain_allowed(p, &links))
        left = parser_next(p) ? operation(p, NODE_OR, left, parse_and(p)) : NULL;
    return p->failed ? NULL : left;
}

struct node *parse_expression(struct parser *p)
{
    struct node *left, *choice;
    if (!parser_enter(p))
        return NULL;
    left = parse_or(p);
    int links = 0;
    while (left && parser_is_name(p, "if") && chain_allowed(p, &links)) {
        choice = parser_next(p) ? operation(p, NODE_CHOICE, left, parse_or(p)) : NULL;
        if (choice && parser_is_name(p, "else") &&
            (!parser_next(p) || !(choice->third = parse_expression(p))))
            choice = NULL;
        left = choice;
    }
    p->depth--;
    return p->failed ? NULL : left;
}

static bool ends_tuple(const struct parser *p)
{
    int type = p->lexer.token.type;
    return type == TOKEN_CLOSE || type == ')' || parser_is_name(p, "in") || type == '=';
}

struct node *parse_tuple(struct parser *p, bool with_choice)
{
    struct node_list list = {0};
    struct node *node, *tuple = parser_node(p, NODE_TUPLE);
    if (!tuple)
        return NULL;
    if (ends_tuple(p))
        return tuple;
    node = with_choice ? parse_expression(p) : parse_or(p);
    if (!node || p->lexer.token.type != ',')
        return node;
    if (!add_node(p, &list, node))
        return NULL;
    while (p->lexer.token.type == ',') {
        if (!parser_next(p))
            return NULL;
        if (ends_tuple(p))
            break;
        if (!add_node(p, &list, with_choice ? parse_expression(p) : parse_or(p)))
            return NULL;
    }
    return finish_list(tuple, &list);
}

/* One target. Its node is a NODE_NAME, or NODE_ATTRIBUTE for namespace.name. */
static struct node *parse_target(struct parser *p, bool namespaces)
{
    struct node *node = parser_node(p, NODE_NAME);
    struct str name = p->lexer.token.text;
    if (!node || !parser_expect(p, TOKEN_NAME, "a name"))
        return NULL;
    if (namespaces && p->lexer.token.type == '.') {
        node->op = NODE_ATTRIBUTE;
        if (!parser_next(p) || !(node->left = name_node(p, name)))
            return NULL;
        node->name = p->lexer.token.text;
        return parser_expect(p, TOKEN_NAME, "a name") ? node : NULL;
    }
    node->name = name;
    return node;
}

bool parse_targets(struct parser *p, bool namespaces, struct node ***targets, uint8_t *count)
{
    struct node_list list = {0};
    bool bracket = parser_take(p, '(');
    do {
        if (list.count && (ends_tuple(p) || p->lexer.token.type == ')'))
            break;
        if (!add_node(p, &list, parse_target(p, namespaces)))
            return false;
    } while (parser_take(p, ','));
    if (bracket && !parser_expect(p, ')', "\")\""))
        return false;
    *targets = list.items;
    *count = (uint8_t)list.count;
    return !p->failed;
}
