/* What the template files share: values, the tree that a source is compiled to, and the state of
 * one rendering. Names are resolved when compiling: each function (the template itself, each macro)
 * has a frame of numbered slots, and a name is "so many functions out, that slot". */
#pragma once
#include "base/map.h"
#include "text/template.h"

#define TEMPLATE_NESTING_MAX 128  /* of brackets, blocks and operators in a source */
#define TEMPLATE_DEPTH_MAX   1500 /* of evaluations within each other: bounds the C stack */
#define TEMPLATE_CALLS_MAX   100  /* macros within each other */
#define TEMPLATE_SLOTS_MAX   4096
#define TEMPLATE_ARGS_MAX    32

/* ---- values ---- */

enum value_kind {
    VALUE_UNDEFINED, /* text: the name that was not found, for messages */
    VALUE_MISSING,   /* an argument that was not given */
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT,
    VALUE_TEXT,
    VALUE_ARRAY,  /* of the JSON that was passed in */
    VALUE_OBJECT, /* likewise */
    VALUE_LIST,   /* made by the template; also tuples */
    VALUE_DICT,
    VALUE_NAMESPACE,
    VALUE_LOOP,
    VALUE_MACRO,
    VALUE_FUNCTION,
    VALUE_METHOD,
};

struct value {
    uint8_t kind;
    bool safe;  /* text marked by `safe`: what is added to it gets HTML's escapes, as in Jinja2 */
    uint32_t n; /* text: bytes */
    union {
        bool boolean;
        int64_t integer;
        double number;
        const char *p;
        yyjson_val *json;
        struct value_list *list;
        struct value_dict *dict; /* also namespaces */
        struct value_loop *loop;
        struct value_macro *macro;
        const struct template_function *function;
        struct value_method *method;
    };
};

struct value_list {
    struct value *items;
    uint32_t count, capacity;
    bool tuple; /* only printed differently */
};

struct value_dict {
    struct value *keys, *values; /* in the order of insertion */
    uint32_t count, capacity;
};

struct value_loop {
    const struct value *items;
    uint32_t index, count, depth;
    struct value changed; /* what loop.changed() saw last */
};

struct value_method {
    struct value receiver;
    const struct template_function *function; /* NULL: a name that Python has and we have not */
    struct str name;
};

struct value_macro {
    const struct node *node;
    struct frame *frame; /* in which it was defined */
};

static inline struct value value_bool(bool b)
{
    return (struct value){.kind = VALUE_BOOL, .boolean = b};
}
static inline struct value value_int(int64_t i)
{
    return (struct value){.kind = VALUE_INT, .integer = i};
}
static inline struct value value_float(double d)
{
    return (struct value){.kind = VALUE_FLOAT, .number = d};
}
static inline struct value value_text(struct str s)
{
    return (struct value){.kind = VALUE_TEXT, .n = (uint32_t)s.n, .p = s.p};
}
static inline struct value value_none(void) { return (struct value){.kind = VALUE_NONE}; }
static inline struct value value_undefined(struct str name)
{
    return (struct value){.kind = VALUE_UNDEFINED, .n = (uint32_t)name.n, .p = name.p};
}
static inline struct str value_str(const struct value *v) { return str_make(v->p, v->n); }
struct value value_from_json(yyjson_val *json);

/* ---- the tree ---- */

enum node_op {
    /* expressions */
    NODE_CONSTANT,
    NODE_NAME,
    NODE_ATTRIBUTE, /* left.name */
    NODE_ITEM,      /* left[right] */
    NODE_SLICE,     /* left[items[0]:items[1]:items[2]] */
    NODE_CALL,      /* left(…) */
    NODE_METHOD,    /* left.name(…) */
    NODE_FILTER,    /* function with left as its first argument */
    NODE_TEST,
    NODE_NOT,
    NODE_MINUS,
    NODE_PLUS,
    NODE_AND,
    NODE_OR,
    NODE_COMPARE, /* left, then items with the operators in operators: a < b < c */
    NODE_ADD,
    NODE_SUBTRACT,
    NODE_MULTIPLY,
    NODE_DIVIDE,
    NODE_FLOOR_DIVIDE,
    NODE_REMAINDER,
    NODE_POWER,
    NODE_CONCAT, /* all items as texts */
    NODE_CHOICE, /* left if right else third */
    NODE_LIST,
    NODE_TUPLE,
    NODE_DICT, /* items: key, value, key, value … */
    /* statements */
    NODE_TEXT,
    NODE_OUTPUT,
    NODE_IF,    /* left; body; third: the else branch, or the `elif` where negated */
    NODE_FOR,   /* items: targets; left: of what; right: condition; body; third: else */
    NODE_SET,   /* items: targets; left: value */
    NODE_STORE, /* body's output, through the filters of left, into items[0] */
    NODE_MACRO,
    NODE_CALL_BLOCK, /* left: the call; right: the macro that is its caller */
    NODE_FILTERED,   /* left, in which constant stands for the body's output */
    NODE_SCOPE,      /* with and generation; items: targets, values: their values */
    NODE_BREAK,
    NODE_CONTINUE,
};

enum compare_op {
    COMPARE_EQUAL,
    COMPARE_UNEQUAL,
    COMPARE_LESS,
    COMPARE_AT_MOST,
    COMPARE_ABOVE,
    COMPARE_AT_LEAST,
    COMPARE_IN,
    COMPARE_NOT_IN,
};

/* At the start of a scope a name that it sets has the value that it has outside. */
struct slot_copy {
    uint16_t slot, outer_functions, outer_slot;
};

struct arguments {
    struct node **values; /* positional ones first */
    const struct str *names;
    uint16_t positional, count;
};

struct parameters { /* of a macro */
    struct str *names;
    uint16_t *slots;
    struct node **defaults; /* NULL: none */
    uint16_t count, slot_count;
    uint16_t varargs_slot, kwargs_slot, caller_slot; /* 0: not used */
};

struct node {
    uint8_t op;
    uint8_t count;             /* of items */
    uint16_t slot, functions;  /* name: its place; for: the slot of `loop`, 0 where not used */
    uint32_t at;               /* offset in the source, for messages */
    struct node *left, *right; /* operands */
    struct node *third;
    struct node *body; /* first statement of a block */
    struct node *next; /* next statement */
    union {
        struct value constant;
        struct str name; /* attribute, method, text of NODE_TEXT */
        const struct template_function *function;
    };
    union {
        struct node **items;
        const struct template_function *method[3]; /* of texts, lists, dicts */
    };
    union {
        struct arguments *arguments;
        struct parameters *parameters;
        const uint8_t *operators;
    };
    struct slot_copy *copies; /* of a scope */
    uint16_t copy_count;
    uint8_t method_id; /* attribute of a loop: enum loop_attribute */
    bool negated;      /* `is not`; an `if` with an `elif` */
};

struct template
{
    struct template_options options;
    struct str source;
    struct node *body;          /* Jinja2 */
    struct mustache *mustache;  /* Mustache */
    struct parameters *globals; /* names of the template's frame: names[i] has slots[i] */
    uint16_t slot_count;
    struct str *variables;
    size_t variable_count;
};

/* ---- functions ---- */

struct render;
typedef enum rc function_body(struct render *r, struct value *args, size_t count,
                              struct value *out);

struct template_function {
    const char *name;
    const char *parameters; /* "a,b=,c=": with "=" may be left out (VALUE_MISSING); "...": more */
    function_body *body;
};

const struct template_function *template_filter_find(struct str name);
const struct template_function *template_test_find(struct str name);
const struct template_function *template_global_find(struct str name);
enum method_owner { METHOD_OF_TEXT, METHOD_OF_LIST, METHOD_OF_DICT };
const struct template_function *template_method_find(enum method_owner owner, struct str name);
/* Does Python's type have a method of that name? Then an attribute is that and not a member. */
bool template_method_known(enum method_owner owner, struct str name);

/* Parts of methods that filters share. */
enum template_case { CASE_LOWER, CASE_UPPER, CASE_TITLE, CASE_CAPITAL };
struct render;
enum rc template_change_case(struct render *r, struct str s, enum template_case to,
                             struct value *out) MUST_CHECK;
/* `set` a text: its characters; anything else: white space. */
struct str template_strip(struct str s, const struct value *set, bool left, bool right);
enum rc template_replace(struct render *r, struct str s, struct str old, struct str new,
                         int64_t limit, struct value *out) MUST_CHECK;
/* any: other values than texts, too */
enum rc template_join(struct render *r, const struct value *items, size_t count,
                      struct str separator, bool any, struct value *out) MUST_CHECK;
enum rc template_is_case(struct render *r, const struct value *v, bool upper,
                         struct value *out) MUST_CHECK;

/* ---- rendering ---- */

struct frame {
    struct frame *outer; /* of the function in which this one was defined */
    struct value slots[];
};

struct render {
    const struct template *template;
    struct arena *arena;
    struct buf *out;
    size_t out_max;     /* bytes that may still go there */
    struct buf capture; /* stack of texts under way: macros, blocks, conversions */
    int captures, depth, calls;
    int64_t steps;
    uint32_t at; /* of what is evaluated, for messages */
    struct err *err;
};

enum rc render_fail(struct render *r, enum err_code code, const char *fmt, ...)
    PRINTF_LIKE(3, 4) MUST_CHECK;
enum rc render_no_memory(struct render *r) MUST_CHECK;
enum rc render_spend(struct render *r, size_t steps) MUST_CHECK;
enum rc render_write(struct render *r, struct str s) MUST_CHECK;
/* What is written between begin and end becomes a text; abandon where it failed. */
size_t render_capture_begin(struct render *r);
enum rc render_capture_end(struct render *r, size_t start, struct str *out) MUST_CHECK;
void render_capture_abandon(struct render *r, size_t start);
/* Calls a macro, function or method. `names[i]` belongs to values[positional + i]. */
enum rc render_call(struct render *r, const struct value *callee, struct value *values,
                    size_t positional, const struct str *names, size_t count,
                    struct value *out) MUST_CHECK;
enum rc render_call_function(struct render *r, const struct template_function *function,
                             struct value *values, size_t positional, const struct str *names,
                             size_t count, struct value *out) MUST_CHECK;

bool value_is_true(const struct value *v);
bool value_is_number(const struct value *v, double *out);
bool value_is_list(const struct value *v);
bool value_is_mapping(const struct value *v);
const char *value_kind_name(const struct value *v);
int64_t value_length(const struct value *v); /* -1: has none */
bool value_equal(struct render *r, const struct value *a, const struct value *b);
/* <0, 0, >0; ERR_INVALID for types that have no order */
enum rc value_order(struct render *r, const struct value *a, const struct value *b,
                    int *out) MUST_CHECK;
enum rc value_contains(struct render *r, const struct value *in, const struct value *what,
                       bool *out) MUST_CHECK;
/* Python's str() into the output; the text itself for texts. */
enum rc value_write(struct render *r, const struct value *v) MUST_CHECK;
enum rc value_write_repr(struct render *r, const struct value *v) MUST_CHECK;
enum rc value_to_text(struct render *r, const struct value *v, struct str *out) MUST_CHECK;
struct json_style {
    struct str item_separator, key_separator;
    int indent; /* < 0: on one line */
    bool sort_keys, ascii;
};
enum rc value_write_json(struct render *r, const struct value *v, const struct json_style *style,
                         int level) MUST_CHECK;
/* The items that a `for` sees. */
enum rc value_items(struct render *r, const struct value *v, struct value **items,
                    uint32_t *count) MUST_CHECK;
enum rc value_attribute(struct render *r, const struct value *v, struct str name,
                        struct value *out) MUST_CHECK;
enum rc value_item(struct render *r, const struct value *v, const struct value *key,
                   struct value *out) MUST_CHECK;
/* bounds: NULL or none: open */
enum rc value_slice(struct render *r, const struct value *v, const struct value bounds[3],
                    struct value *out) MUST_CHECK;
bool value_member(const struct value *v, struct str name, struct value *out);
enum rc value_list_new(struct render *r, uint32_t capacity, struct value *out) MUST_CHECK;
enum rc value_list_add(struct render *r, struct value_list *list, struct value item) MUST_CHECK;
enum rc value_dict_new(struct render *r, uint32_t capacity, struct value *out) MUST_CHECK;
enum rc value_dict_put(struct render *r, struct value_dict *dict, struct value key,
                       struct value value) MUST_CHECK;
/* The pairs of a mapping, as tuples. */
enum rc value_pairs(struct render *r, const struct value *v, struct value *out) MUST_CHECK;
enum rc value_binary(struct render *r, enum node_op op, const struct value *a,
                     const struct value *b, struct value *out) MUST_CHECK;
enum rc value_escape_html(struct render *r, struct str s, struct str *out) MUST_CHECK;
/* Python's text % values. */
enum rc value_format_percent(struct render *r, struct str format, const struct value *args,
                             size_t count, struct value *out) MUST_CHECK;

enum loop_attribute {
    LOOP_NONE,
    LOOP_INDEX,
    LOOP_INDEX0,
    LOOP_REVINDEX,
    LOOP_REVINDEX0,
    LOOP_FIRST,
    LOOP_LAST,
    LOOP_LENGTH,
    LOOP_PREVIOUS,
    LOOP_NEXT,
    LOOP_DEPTH,
    LOOP_DEPTH0,
    LOOP_CYCLE,
    LOOP_CHANGED,
};
enum loop_attribute template_loop_attribute(struct str name);

/* ---- parts of the compiler ---- */

enum rc template_parse_jinja(struct template *t, struct arena *arena, struct err *err) MUST_CHECK;
enum rc template_parse_mustache(struct template *t, struct arena *arena,
                                struct err *err) MUST_CHECK;
enum rc template_run_jinja(struct render *r, yyjson_val *values) MUST_CHECK;
enum rc template_run_mustache(struct render *r, yyjson_val *values) MUST_CHECK;
/* ERR_INVALID with the line and column of `at`. */
enum rc template_fail_at(struct str source, size_t at, struct err *err, const char *fmt, ...)
    PRINTF_LIKE(4, 5) MUST_CHECK;
