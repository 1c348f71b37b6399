/* Jinja2's statements, and the compiler's entry. */
#include "text/template_parse.h"

struct body { /* statements under way */
    struct node *first, **last;
};

static bool parse_body(struct parser *p, struct node **body, const char *const *ends);

static bool append(struct body *body, struct node *node)
{
    if (!node)
        return false;
    *body->last = node;
    body->last = &node->next;
    return true;
}

/* After the name of an end tag, or of one that takes nothing. */
static bool at_close(struct parser *p)
{
    if (p->lexer.token.type == TOKEN_CLOSE)
        return true;
    parser_fail(p, p->lexer.token.at, "%%} is expected here");
    return false;
}

static bool store_targets(struct parser *p, struct node *const *targets, size_t count, bool copied)
{
    for (size_t i = 0; i < count; i++)
        if (targets[i]->op == NODE_NAME &&
            !parser_declare(p, targets[i]->name, copied, &targets[i]->slot))
            return false;
    return true;
}

static struct node *parse_if(struct parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    struct node *node = parser_node(p, NODE_IF), *branch = node;
    while (branch) {
        if (!(branch->left = parse_tuple(p, true)) || !at_close(p) ||
            !parse_body(p, &branch->body, ends))
            return NULL;
        if (parser_is_name(p, "endif"))
            break;
        bool again = parser_is_name(p, "elif");
        if (!parser_next(p))
            return NULL;
        if (!again) {
            if (!at_close(p) || !parse_body(p, &branch->third, last))
                return NULL;
            break;
        }
        branch->negated = true;
        if (!(branch->third = parser_node(p, NODE_IF)))
            return NULL;
        branch = branch->third;
    }
    return node && parser_next(p) && at_close(p) ? node : NULL;
}

static struct node *parse_for(struct parser *p)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    static const char *const last[] = {"endfor", NULL};
    struct node *node = parser_node(p, NODE_FOR);
    struct scope scope;
    if (!node || !parse_targets(p, false, &node->items, &node->count))
        return NULL;
    if (!parser_is_name(p, "in"))
        return parser_fail(p, p->lexer.token.at, "\"in\" is expected here");
    if (!parser_next(p) || !(node->left = parse_tuple(p, false)))
        return NULL;
    parser_scope_begin(p, &scope);
    uint16_t loop_slot;
    if (!store_targets(p, node->items, node->count, false) ||
        !parser_declare(p, STR("loop"), false, &loop_slot))
        return NULL;
    node->slot = loop_slot;
    if (parser_is_name(p, "if") && (!parser_next(p) || !(node->right = parse_expression(p))))
        return NULL;
    if (parser_is_name(p, "recursive"))
        return parser_fail(p, p->lexer.token.at, "recursive loops are not supported: use a macro");
    p->loops++;
    bool parsed = at_close(p) && parse_body(p, &node->body, ends);
    p->loops--;
    if (!parsed)
        return NULL;
    parser_scope_end(p, node);
    if (parser_is_name(p, "else") &&
        (!parser_next(p) || !at_close(p) || !parse_body(p, &node->third, last)))
        return NULL;
    return parser_next(p) && at_close(p) ? node : NULL;
}

/* {% set x = … %}, {% set x, y = … %}, {% set x %} … {% endset %}, {% set x | filter %} … */
static struct node *parse_set(struct parser *p)
{
    static const char *const ends[] = {"endset", NULL};
    struct node *node = parser_node(p, NODE_SET);
    if (!node || !parse_targets(p, true, &node->items, &node->count))
        return NULL;
    if (parser_take(p, '=')) {
        node->left = parse_tuple(p, true);
        return node->left && at_close(p) && store_targets(p, node->items, node->count, true) ? node
                                                                                             : NULL;
    }
    struct node *text = parser_node(p, NODE_CONSTANT);
    struct scope scope;
    node->op = NODE_STORE;
    if (!text || p->failed || !(node->left = parse_filters(p, text)) || !at_close(p))
        return NULL;
    node->right = text;
    parser_scope_begin(p, &scope);
    if (!parse_body(p, &node->body, ends))
        return NULL;
    parser_scope_end(p, node);
    return parser_next(p) && at_close(p) && store_targets(p, node->items, node->count, true) ? node
                                                                                             : NULL;
}

/* (a, b=1) of a macro; the names are declared in its scope. */
static bool parse_parameters(struct parser *p, struct parameters *parameters)
{
    struct str names[TEMPLATE_ARGS_MAX];
    uint16_t slots[TEMPLATE_ARGS_MAX];
    struct node *defaults[TEMPLATE_ARGS_MAX];
    size_t n = 0;
    if (!parser_expect(p, '(', "\"(\""))
        return false;
    while (p->lexer.token.type != ')') {
        if (n && !parser_expect(p, ',', "\",\""))
            return false;
        if (p->lexer.token.type == ')')
            break;
        if (n == TEMPLATE_ARGS_MAX) {
            parser_fail(p, p->lexer.token.at, "more than %d arguments", TEMPLATE_ARGS_MAX);
            return false;
        }
        names[n] = p->lexer.token.text;
        defaults[n] = NULL;
        if (!parser_expect(p, TOKEN_NAME, "a name") ||
            !parser_declare(p, names[n], false, &slots[n]))
            return false;
        if (p->lexer.token.type == '=' && (!parser_next(p) || !(defaults[n] = parse_expression(p))))
            return false;
        n++;
    }
    parameters->count = (uint16_t)n;
    parameters->names = ARENA_NEW_ARRAY(p->arena, struct str, n + 1);
    parameters->slots = ARENA_NEW_ARRAY(p->arena, uint16_t, n + 1);
    parameters->defaults = ARENA_NEW_ARRAY(p->arena, struct node *, n + 1);
    if (!parameters->names || !parameters->slots || !parameters->defaults) {
        parser_no_memory(p);
        return false;
    }
    if (n) {
        memcpy(parameters->names, names, n * sizeof(*names));
        memcpy(parameters->slots, slots, n * sizeof(*slots));
        memcpy(parameters->defaults, defaults, n * sizeof(*defaults));
    }
    return parser_next(p);
}

/* A macro's parameters and body, up to the end tag, which stays. */
static bool parse_function(struct parser *p, struct node *node, bool parameters,
                           const char *const *ends)
{
    struct function_scope function = {.outer = p->function};
    struct scope scope = {0};
    struct parameters *made = ARENA_NEW(p->arena, struct parameters);
    int loops = p->loops;
    uint16_t first;
    if (!made) {
        parser_no_memory(p);
        return false;
    }
    node->parameters = made;
    function.scope = &scope;
    function.slot_count = 1; /* slot 0 is nobody's, so that 0 can say "not used" */
    p->function = &function;
    p->loops = 0;
    if ((parameters && !parse_parameters(p, made)) || !at_close(p) ||
        !parser_declare(p, STR("varargs"), false, &first) ||
        !parser_declare(p, STR("kwargs"), false, &made->kwargs_slot) ||
        !parser_declare(p, STR("caller"), false, &made->caller_slot) ||
        !parse_body(p, &node->body, ends))
        return false;
    made->varargs_slot = function.uses_varargs ? first : 0;
    if (!function.uses_kwargs)
        made->kwargs_slot = 0;
    made->slot_count = (uint16_t)function.slot_count;
    node->copies = scope.copies;
    node->copy_count = scope.copy_count;
    p->loops = loops;
    p->function = function.outer;
    return true;
}

static struct node *parse_macro(struct parser *p)
{
    static const char *const ends[] = {"endmacro", NULL};
    struct node *node = parser_node(p, NODE_MACRO);
    if (!node)
        return NULL;
    node->name = p->lexer.token.text;
    /* Declared first: it may call itself. */
    if (!parser_expect(p, TOKEN_NAME, "a name") ||
        !parser_declare(p, node->name, false, &node->slot) || !parse_function(p, node, true, ends))
        return NULL;
    if (parser_next(p) && p->lexer.token.type == TOKEN_NAME && !parser_next(p))
        return NULL;
    return at_close(p) ? node : NULL;
}

static struct node *parse_call(struct parser *p)
{
    static const char *const ends[] = {"endcall", NULL};
    struct node *node = parser_node(p, NODE_CALL_BLOCK);
    struct node *caller = node ? parser_node(p, NODE_MACRO) : NULL;
    if (!caller)
        return NULL;
    if (p->lexer.token.type == '(')
        return parser_fail(p, p->lexer.token.at, "a caller with arguments is not supported");
    if (!(node->left = parse_expression(p)))
        return NULL;
    if (node->left->op != NODE_CALL && node->left->op != NODE_METHOD)
        return parser_fail(p, node->left->at, "a call is expected here");
    caller->name = STR("caller");
    node->right = caller;
    return parse_function(p, caller, false, ends) && parser_next(p) && at_close(p) ? node : NULL;
}

static struct node *parse_filter_block(struct parser *p)
{
    static const char *const ends[] = {"endfilter", NULL};
    struct node *node = parser_node(p, NODE_FILTERED), *text = parser_node(p, NODE_CONSTANT);
    struct scope scope;
    if (!node || !text)
        return NULL;
    /* As if a bar stood before the first name. */
    p->lexer.ahead = p->lexer.token;
    p->lexer.have_ahead = true;
    p->lexer.token.type = '|';
    node->right = text;
    if (!(node->left = parse_filters(p, text)) || !at_close(p))
        return NULL;
    parser_scope_begin(p, &scope);
    if (!parse_body(p, &node->body, ends))
        return NULL;
    parser_scope_end(p, node);
    return parser_next(p) && at_close(p) ? node : NULL;
}

/* {% generation %} marks what a model wrote, for training; {% with a = 1 %} sets names. */
static struct node *parse_scope(struct parser *p, bool with)
{
    static const char *const with_ends[] = {"endwith", NULL}, *const ends[] = {"endgeneration",
                                                                               NULL};
    struct node *node = parser_node(p, NODE_SCOPE), *first = NULL, **last = &first;
    struct scope scope;
    if (!node)
        return NULL;
    parser_scope_begin(p, &scope);
    while (with && p->lexer.token.type != TOKEN_CLOSE) {
        struct node *set = parser_node(p, NODE_SET);
        if (!set || (first && !parser_expect(p, ',', "\",\"")) ||
            !parse_targets(p, false, &set->items, &set->count) || !parser_expect(p, '=', "\"=\""))
            return NULL;
        p->function->scope = scope.outer; /* the values do not see each other's names */
        set->left = parse_expression(p);
        p->function->scope = &scope;
        if (!set->left || !store_targets(p, set->items, set->count, false))
            return NULL;
        *last = set;
        last = &set->next;
    }
    if (!at_close(p) || !parse_body(p, last, with ? with_ends : ends))
        return NULL;
    node->body = first;
    parser_scope_end(p, node);
    return parser_next(p) && at_close(p) ? node : NULL;
}

static struct node *parse_jump(struct parser *p, enum node_op op, const char *name)
{
    if (p->loops == 0)
        return parser_fail(p, p->lexer.token.at, "\"%s\" outside of a loop", name);
    return at_close(p) ? parser_node(p, op) : NULL;
}

static struct node *parse_statement(struct parser *p)
{
    struct str name = p->lexer.token.text;
    size_t at = p->lexer.token.at;
    if (!parser_expect(p, TOKEN_NAME, "the name of a statement"))
        return NULL;
    if (str_eq(name, STR("if")))
        return parse_if(p);
    if (str_eq(name, STR("for")))
        return parse_for(p);
    if (str_eq(name, STR("set")))
        return parse_set(p);
    if (str_eq(name, STR("macro")))
        return parse_macro(p);
    if (str_eq(name, STR("call")))
        return parse_call(p);
    if (str_eq(name, STR("filter")))
        return parse_filter_block(p);
    if (str_eq(name, STR("with")) || str_eq(name, STR("generation")))
        return parse_scope(p, name.n == 4);
    if (str_eq(name, STR("break")))
        return parse_jump(p, NODE_BREAK, "break");
    if (str_eq(name, STR("continue")))
        return parse_jump(p, NODE_CONTINUE, "continue");
    if (str_starts(name, STR("end")) || str_starts(name, STR("el")))
        return parser_fail(p, at, "\"%.*s\" has no beginning", STR_ARG(name));
    return parser_fail(p, at, "there is no statement \"%.*s\"", STR_ARG(name));
}

static bool add_text(struct parser *p, struct body *body, struct str text)
{
    struct node *node;
    if (text.n == 0)
        return true;
    if (!(node = parser_node(p, NODE_TEXT)))
        return false;
    node->name = text;
    return append(body, node);
}

static bool add_output(struct parser *p, struct body *body)
{
    struct node *node = parser_node(p, NODE_OUTPUT);
    if (!node || !(node->left = parse_tuple(p, true)))
        return false;
    if (p->lexer.token.type != TOKEN_CLOSE) {
        parser_fail(p, p->lexer.token.at, "}} is expected here");
        return false;
    }
    return append(body, node);
}

/* Statements up to one of the end tags, whose name is then the current token; `ends` NULL: to the
 * template's end. */
static bool parse_body(struct parser *p, struct node **first, const char *const *ends)
{
    struct body body = {.last = &body.first};
    bool done = false;
    size_t start = p->lexer.at;
    if (!parser_enter(p))
        return false;
    while (!done) {
        struct str text;
        enum template_part part;
        if (template_lex_part(&p->lexer, &text, &part) != RC_OK)
            return !(p->failed = true);
        if (!add_text(p, &body, text))
            return false;
        switch (part) {
        case PART_TEXT: break;
        case PART_VARIABLE:
            if (!add_output(p, &body))
                return false;
            break;
        case PART_BLOCK:
            for (size_t i = 0; ends && ends[i]; i++)
                done |= parser_is_name(p, ends[i]);
            if (!done && !append(&body, parse_statement(p)))
                return false;
            break;
        case PART_END:
            if (ends) {
                parser_fail(p, start, "this block has no {%% %s %%}", ends[ends[1] ? 1 : 0]);
                return false;
            }
            done = true;
        }
    }
    p->depth--;
    *first = body.first;
    return true;
}

/* The names of the template's own frame, for filling it, and those that come from outside. */
static bool list_globals(struct parser *p)
{
    struct template *t = p->template;
    struct parameters *globals = ARENA_NEW(p->arena, struct parameters);
    size_t count = p->global_count, at = count;
    if (!globals)
        return false;
    globals->names = ARENA_NEW_ARRAY(p->arena, struct str, count + 1);
    globals->slots = ARENA_NEW_ARRAY(p->arena, uint16_t, count + 1);
    t->variables = ARENA_NEW_ARRAY(p->arena, struct str, count + 1);
    bool *read = ARENA_NEW_ARRAY(p->arena, bool, count + 1);
    if (!globals->names || !globals->slots || !t->variables || !read)
        return false;
    for (struct scope_name *n = p->globals.names; n; n = n->next) {
        at--;
        globals->names[at] = n->name;
        globals->slots[at] = n->slot;
        read[at] = n->read && !template_global_find(n->name);
    }
    for (size_t i = 0; i < count; i++)
        if (read[i])
            t->variables[t->variable_count++] = globals->names[i];
    globals->count = (uint16_t)count;
    t->globals = globals;
    return true;
}

enum rc template_parse_jinja(struct template *t, struct arena *arena, struct err *err)
{
    struct parser p = {.template = t, .arena = arena, .err = err};
    struct function_scope function = {.scope = &p.globals, .slot_count = 1};
    p.function = &function;
    enum rc rc = template_lex_start(&p.lexer, t->source, &t->options, arena, err);
    if (rc != RC_OK)
        return rc;
    if (!parse_body(&p, &t->body, NULL))
        return err && err->rc != RC_OK ? err->rc : RC_INVALID;
    t->slot_count = (uint16_t)function.slot_count;
    t->source = p.lexer.source;
    return list_globals(&p) ? RC_OK : err_set(err, ERR_TOO_LARGE, "the template is too long");
}
