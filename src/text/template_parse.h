/* The compiler of Jinja2 templates: its state, shared by the expressions (template_parse.c) and the
 * statements (template_block.c). */
#pragma once
#include "text/template_lex.h"

struct scope_name {
    struct str name;
    uint16_t slot;
    bool stored, read; /* in the template's own scope: set by it before; read before that */
    struct scope_name *next;
};

/* A part of a function with names of its own: a loop's body, a macro, a block. */
struct scope {
    struct scope *outer; /* in the same function */
    struct scope_name *names;
    struct slot_copy *copies;
    uint16_t copy_count, copy_capacity;
};

struct function_scope {
    struct function_scope *outer;
    struct scope *scope; /* the innermost */
    uint32_t slot_count;
    bool uses_varargs, uses_kwargs, uses_caller;
};

struct parser {
    struct template_lexer lexer;
    struct template *template;
    struct arena *arena;
    struct err *err;
    struct function_scope *function;
    struct scope globals;
    uint32_t global_count;
    int depth, loops; /* loops: in this function, for break */
    bool failed;
};

/* All of these return NULL or false after an error, which is then in `err`. */
struct node *parse_expression(struct parser *p);
/* A list of expressions is a tuple; `x if y` only where `with_choice`. */
struct node *parse_tuple(struct parser *p, bool with_choice);
/* A left side's names: x, or x, y; for `set` also namespace.name. */
bool parse_targets(struct parser *p, bool namespaces, struct node ***targets, uint8_t *count);
struct node *parse_filters(struct parser *p, struct node *left);
bool parse_arguments(struct parser *p, struct arguments **out);

struct node *parser_node(struct parser *p, enum node_op op);
void *parser_fail(struct parser *p, size_t at, const char *fmt, ...) PRINTF_LIKE(3, 4);
void *parser_no_memory(struct parser *p);
bool parser_next(struct parser *p);
bool parser_is_name(const struct parser *p, const char *name);
bool parser_expect(struct parser *p, int type, const char *what);
bool parser_take(struct parser *p, int type); /* true: it was there and is taken */
bool parser_enter(struct parser *p);          /* one level of nesting more */
/* Names. A slot that the current scope sets; copies of what it has outside are made at its start.
 */
bool parser_declare(struct parser *p, struct str name, bool copied, uint16_t *slot);
void parser_scope_begin(struct parser *p, struct scope *scope);
void parser_scope_end(struct parser *p, struct node *node);
