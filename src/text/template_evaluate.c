/* The interpreter of compiled Jinja2 templates. Every evaluation takes one of the rendering's steps
 * and one level of its depth, so that time and C stack are bounded; memory is by the arena. */
#include "text/template_private.h"
#include "text/json.h"
#include <stdarg.h>
#include <stdio.h>

static enum rc evaluate(struct render *r, struct frame *frame, const struct node *node,
                        struct value *out) MUST_CHECK;
static enum rc execute(struct render *r, struct frame *frame, const struct node *node,
                       enum node_op *jump) MUST_CHECK;

/* ---- state ---- */

enum rc render_fail(struct render *r, enum err_code code, const char *fmt, ...)
{
    char text[ERR_MESSAGE_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    size_t line = 1;
    for (size_t i = 0; i < MIN(r->at, r->template->source.n); i++)
        line += r->template->source.p[i] == '\n';
    return err_set(r->err, code, "line %zu: %s", line, text);
}

enum rc render_no_memory(struct render *r)
{
    err_set(r->err, ERR_TOO_LARGE, "the template computes more than its memory holds");
    return RC_LIMIT;
}

enum rc render_spend(struct render *r, size_t steps)
{
    r->steps -= (int64_t)MIN(steps, (size_t)INT32_MAX);
    if (LIKELY(r->steps >= 0))
        return RC_OK;
    err_set(r->err, ERR_TOO_LARGE, "the template takes more steps than allowed");
    return RC_LIMIT;
}

enum rc render_write(struct render *r, struct str s)
{
    if (r->captures)
        return buf_append(&r->capture, s) == RC_OK ? RC_OK : render_no_memory(r);
    if (s.n > r->out_max || buf_append(r->out, s) != RC_OK) {
        err_set(r->err, ERR_TOO_LARGE, "the template writes more than allowed");
        return RC_LIMIT;
    }
    r->out_max -= s.n;
    return RC_OK;
}

size_t render_capture_begin(struct render *r)
{
    r->captures++;
    return buf_len(&r->capture);
}

void render_capture_abandon(struct render *r, size_t start)
{
    r->captures--;
    r->capture.end = r->capture.start + start;
}

enum rc render_capture_end(struct render *r, size_t start, struct str *out)
{
    size_t n = buf_len(&r->capture) - start;
    *out = arena_copy(r->arena, str_make(r->capture.p + r->capture.start + start, n));
    render_capture_abandon(r, start);
    return out->p ? RC_OK : render_no_memory(r);
}

static enum rc enter(struct render *r)
{
    if (UNLIKELY(++r->depth > TEMPLATE_DEPTH_MAX)) {
        err_set(r->err, ERR_TOO_LARGE, "the template nests too deep");
        return RC_LIMIT;
    }
    return render_spend(r, 1);
}

/* ---- calls ---- */

static struct frame *frame_new(struct render *r, struct frame *outer, size_t slots)
{
    struct frame *frame = arena_calloc(r->arena, sizeof(*frame) + slots * sizeof(frame->slots[0]));
    if (frame)
        frame->outer = outer;
    return frame;
}

static struct value *slot_of(struct frame *frame, uint16_t functions, uint16_t slot)
{
    while (functions--)
        frame = frame->outer;
    return &frame->slots[slot];
}

static void copy_slots(struct frame *frame, const struct node *node)
{
    for (size_t i = 0; i < node->copy_count; i++)
        frame->slots[node->copies[i].slot] =
            *slot_of(frame, node->copies[i].outer_functions, node->copies[i].outer_slot);
}

/* What is left over of a macro's call: varargs, kwargs, caller, or an error. */
static enum rc bind_rest(struct render *r, struct frame *frame, const struct node *macro,
                         const struct value *values, size_t positional, const struct str *names,
                         size_t count)
{
    const struct parameters *p = macro->parameters;
    struct value rest;
    enum rc rc;
    if (positional > p->count && !p->varargs_slot)
        return render_fail(r, ERR_INVALID, "macro \"%.*s\" takes at most %u arguments",
                           STR_ARG(macro->name), p->count);
    if (p->varargs_slot) {
        if ((rc = value_list_new(r, 4, &rest)) != RC_OK)
            return rc;
        rest.list->tuple = true;
        for (size_t i = p->count; i < positional; i++)
            if ((rc = value_list_add(r, rest.list, values[i])) != RC_OK)
                return rc;
        frame->slots[p->varargs_slot] = rest;
    }
    if (p->kwargs_slot) {
        if ((rc = value_dict_new(r, 4, &rest)) != RC_OK)
            return rc;
        frame->slots[p->kwargs_slot] = rest;
    }
    for (size_t i = positional; i < count; i++) {
        size_t at = 0;
        while (at < p->count && !str_eq(p->names[at], names[i - positional]))
            at++;
        if (at < p->count && at >= positional)
            frame->slots[p->slots[at]] = values[i];
        else if (at == p->count && str_eq(names[i - positional], STR("caller")) && p->caller_slot)
            frame->slots[p->caller_slot] = values[i];
        else if (at == p->count && p->kwargs_slot)
            rc = value_dict_put(r, rest.dict, value_text(names[i - positional]), values[i]);
        else
            return render_fail(r, ERR_INVALID, "macro \"%.*s\" takes no argument \"%.*s\"",
                               STR_ARG(macro->name), STR_ARG(names[i - positional]));
    }
    return RC_OK;
}

static enum rc call_macro(struct render *r, const struct value_macro *macro,
                          const struct value *values, size_t positional, const struct str *names,
                          size_t count, struct value *out)
{
    const struct node *node = macro->node;
    const struct parameters *p = node->parameters;
    struct frame *frame = frame_new(r, macro->frame, p->slot_count);
    enum node_op jump = NODE_TEXT;
    enum rc rc;
    if (!frame)
        return render_no_memory(r);
    if (++r->calls > TEMPLATE_CALLS_MAX) {
        err_set(r->err, ERR_TOO_LARGE, "macros call each other too deep");
        return RC_LIMIT;
    }
    for (size_t i = 0; i < p->count; i++)
        frame->slots[p->slots[i]] =
            i < positional ? values[i] : (struct value){.kind = VALUE_MISSING};
    if ((rc = bind_rest(r, frame, node, values, positional, names, count)) != RC_OK)
        return rc;
    for (size_t i = 0; i < p->count; i++) {
        struct value *slot = &frame->slots[p->slots[i]];
        if (slot->kind != VALUE_MISSING)
            continue;
        *slot = value_undefined(p->names[i]);
        if (p->defaults[i] && (rc = evaluate(r, frame, p->defaults[i], slot)) != RC_OK)
            return rc;
    }
    copy_slots(frame, node);
    size_t start = render_capture_begin(r);
    rc = execute(r, frame, node->body, &jump);
    r->calls--;
    if (rc != RC_OK) {
        render_capture_abandon(r, start);
        return rc;
    }
    struct str text;
    rc = render_capture_end(r, start, &text);
    *out = value_text(text);
    return rc;
}

/* Where a named argument goes in "a,b=,c="; -1: nowhere. `required`: how many must be there. */
static int parameter_index(const char *parameters, struct str name, int *count, int *required)
{
    struct str rest = str_from(parameters), part;
    int found = -1;
    *count = *required = 0;
    while (str_split(&rest, ',', &part)) {
        if (str_eq(part, STR("...")))
            break;
        bool optional = str_ends(part, STR("="));
        if (name.n && str_eq(str_slice(part, 0, part.n - optional), name))
            found = *count;
        ++*count;
        *required += !optional;
    }
    return found;
}

enum rc render_call_function(struct render *r, const struct template_function *function,
                             struct value *values, size_t positional, const struct str *names,
                             size_t count, struct value *out)
{
    struct value args[TEMPLATE_ARGS_MAX + 2];
    int known, required;
    bool open = str_ends(str_from(function->parameters), STR("..."));
    parameter_index(function->parameters, STR_EMPTY, &known, &required);
    if (positional > TEMPLATE_ARGS_MAX + 1 || (positional > (size_t)known && !open))
        return render_fail(r, ERR_INVALID, "%s takes at most %d arguments", function->name, known);
    size_t given = MAX(positional, (size_t)known);
    for (size_t i = 0; i < given; i++)
        args[i] = i < positional ? values[i] : (struct value){.kind = VALUE_MISSING};
    for (size_t i = positional; i < count; i++) {
        int at = parameter_index(function->parameters, names[i - positional], &known, &required);
        if (at < 0 || args[at].kind != VALUE_MISSING)
            return render_fail(r, ERR_INVALID, "%s takes no argument \"%.*s\"", function->name,
                               STR_ARG(names[i - positional]));
        args[at] = values[i];
    }
    for (int i = 0; i < required; i++)
        if (args[i].kind == VALUE_MISSING)
            return render_fail(r, ERR_INVALID, "%s needs %d arguments", function->name, required);
    return function->body(r, args, given, out);
}

/* namespace(a=1), dict(a=1): the only functions with any names. */
static enum rc call_with_any_names(struct render *r, const struct template_function *function,
                                   struct value *values, size_t positional, const struct str *names,
                                   size_t count, struct value *out)
{
    enum rc rc = render_call_function(r, function, values, positional, NULL, positional, out);
    for (size_t i = positional; i < count && rc == RC_OK; i++)
        rc = value_dict_put(r, out->dict, value_text(names[i - positional]), values[i]);
    return rc;
}

enum rc render_call(struct render *r, const struct value *callee, struct value *values,
                    size_t positional, const struct str *names, size_t count, struct value *out)
{
    switch (callee->kind) {
    case VALUE_MACRO: return call_macro(r, callee->macro, values, positional, names, count, out);
    case VALUE_FUNCTION:
        if (str_eq(str_from(callee->function->name), STR("namespace")) ||
            str_eq(str_from(callee->function->name), STR("dict")))
            return call_with_any_names(r, callee->function, values, positional, names, count, out);
        return render_call_function(r, callee->function, values, positional, names, count, out);
    case VALUE_METHOD:
        if (!callee->method->function || positional >= TEMPLATE_ARGS_MAX)
            return render_fail(r, ERR_INVALID, "the method \"%.*s\" is not supported",
                               STR_ARG(callee->method->name));
        memmove(values + 1, values, count * sizeof(*values)); /* there is room: see call_node */
        values[0] = callee->method->receiver;
        return render_call_function(r, callee->method->function, values, positional + 1, names,
                                    count + 1, out);
    case VALUE_UNDEFINED:
        return render_fail(r, ERR_INVALID, "\"%.*s\" is undefined", STR_ARG(value_str(callee)));
    default:
        return render_fail(r, ERR_INVALID, "a value of type %s cannot be called",
                           value_kind_name(callee));
    }
}

/* Evaluates into `values`, which has room for `first` more in front. */
static enum rc evaluate_arguments(struct render *r, struct frame *frame,
                                  const struct arguments *arguments, struct value *values)
{
    enum rc rc = RC_OK;
    for (size_t i = 0; i < arguments->count && rc == RC_OK; i++)
        rc = evaluate(r, frame, arguments->values[i], &values[i]);
    return rc;
}

static enum rc call_loop(struct render *r, struct value_loop *loop, enum loop_attribute attribute,
                         struct value *values, size_t count, struct value *out)
{
    if (count == 0)
        return render_fail(r, ERR_INVALID, "loop.cycle and loop.changed need a value");
    if (attribute == LOOP_CYCLE) {
        *out = values[loop->index % count];
        return RC_OK;
    }
    *out = value_bool(loop->changed.kind == VALUE_UNDEFINED ||
                      !value_equal(r, &loop->changed, &values[0]));
    loop->changed = values[0];
    return RC_OK;
}

/* left.name(…): a built-in method is called without making a value of it first. */
static enum rc call_method(struct render *r, struct frame *frame, const struct node *node,
                           struct value *out)
{
    const struct arguments *a = node->arguments;
    struct value values[TEMPLATE_ARGS_MAX + 1], callee;
    const struct template_function *function = NULL;
    enum rc rc = evaluate(r, frame, node->left, &values[0]);
    if (rc == RC_OK)
        rc = evaluate_arguments(r, frame, a, values + 1);
    if (rc != RC_OK)
        return rc;
    r->at = node->at;
    if (values[0].kind == VALUE_TEXT)
        function = node->method[METHOD_OF_TEXT];
    else if (value_is_list(&values[0]))
        function = node->method[METHOD_OF_LIST];
    else if (value_is_mapping(&values[0]))
        function = node->method[METHOD_OF_DICT];
    else if (values[0].kind == VALUE_LOOP) {
        enum loop_attribute attribute = template_loop_attribute(node->name);
        if (attribute == LOOP_CYCLE || attribute == LOOP_CHANGED)
            return call_loop(r, values[0].loop, attribute, values + 1, a->count, out);
    }
    if (function)
        return render_call_function(r, function, values, (size_t)a->positional + 1, a->names,
                                    (size_t)a->count + 1, out);
    rc = value_attribute(r, &values[0], node->name, &callee);
    if (rc != RC_OK)
        return rc;
    memmove(values, values + 1, a->count * sizeof(*values));
    return render_call(r, &callee, values, a->positional, a->names, a->count, out);
}

static enum rc call_node(struct render *r, struct frame *frame, const struct node *node,
                         const struct value *caller, struct value *out)
{
    const struct arguments *a = node->arguments;
    struct value values[TEMPLATE_ARGS_MAX + 2], callee;
    struct str names[TEMPLATE_ARGS_MAX + 1];
    const struct str *given = a->names;
    size_t count = a->count;
    enum rc rc = node->op == NODE_METHOD ? evaluate(r, frame, node->left, &values[0])
                                         : evaluate(r, frame, node->left, &callee);
    if (rc == RC_OK && node->op == NODE_METHOD) {
        struct value left = values[0];
        rc = value_attribute(r, &left, node->name, &callee);
    }
    if (rc == RC_OK)
        rc = evaluate_arguments(r, frame, a, values);
    if (rc != RC_OK)
        return rc;
    r->at = node->at;
    if (caller) {
        size_t named = count - a->positional;
        if (named)
            memcpy(names, a->names, named * sizeof(*names));
        names[named] = STR("caller");
        values[count++] = *caller;
        given = names;
    }
    return render_call(r, &callee, values, a->positional, given, count, out);
}

/* A filter or test over `first`. */
static enum rc apply_filter(struct render *r, struct frame *frame, const struct node *node,
                            const struct value *first, struct value *out)
{
    struct value values[TEMPLATE_ARGS_MAX + 1];
    const struct arguments *a = node->arguments;
    values[0] = *first;
    enum rc rc = evaluate_arguments(r, frame, a, values + 1);
    if (rc != RC_OK)
        return rc;
    r->at = node->at;
    rc = render_call_function(r, node->function, values, (size_t)a->positional + 1, a->names,
                              (size_t)a->count + 1, out);
    if (rc == RC_OK && node->negated)
        *out = value_bool(!out->boolean);
    return rc;
}

static enum rc filter_node(struct render *r, struct frame *frame, const struct node *node,
                           struct value *out)
{
    struct value first;
    enum rc rc = evaluate(r, frame, node->left, &first);
    return rc == RC_OK ? apply_filter(r, frame, node, &first, out) : rc;
}

/* Filters one after the other, of which the innermost takes the value in *v where `text` stands. */
static enum rc filter_chain(struct render *r, struct frame *frame, const struct node *node,
                            const struct node *text, struct value *v)
{
    struct value first;
    if (node == text)
        return RC_OK;
    enum rc rc = filter_chain(r, frame, node->left, text, v);
    first = *v;
    return rc == RC_OK ? apply_filter(r, frame, node, &first, v) : rc;
}

/* ---- expressions ---- */

static enum rc compare(struct render *r, enum compare_op op, const struct value *a,
                       const struct value *b, bool *out)
{
    int order = 0;
    enum rc rc;
    switch (op) {
    case COMPARE_EQUAL: *out = value_equal(r, a, b); return RC_OK;
    case COMPARE_UNEQUAL: *out = !value_equal(r, a, b); return RC_OK;
    case COMPARE_IN: return value_contains(r, b, a, out);
    case COMPARE_NOT_IN:
        rc = value_contains(r, b, a, out);
        *out = !*out;
        return rc;
    default: break;
    }
    rc = value_order(r, a, b, &order);
    *out = op == COMPARE_LESS      ? order < 0
           : op == COMPARE_AT_MOST ? order <= 0
           : op == COMPARE_ABOVE   ? order > 0
                                   : order >= 0;
    return rc;
}

static enum rc compare_node(struct render *r, struct frame *frame, const struct node *node,
                            struct value *out)
{
    struct value a, b;
    bool holds = true;
    enum rc rc = evaluate(r, frame, node->left, &a);
    for (size_t i = 0; i < node->count && rc == RC_OK && holds; i++) {
        if ((rc = evaluate(r, frame, node->items[i], &b)) != RC_OK)
            break;
        r->at = node->at;
        rc = compare(r, node->operators[i], &a, &b, &holds);
        a = b;
    }
    *out = value_bool(holds);
    return rc;
}

static enum rc concat_node(struct render *r, struct frame *frame, const struct node *node,
                           struct value *out)
{
    size_t start = render_capture_begin(r);
    enum rc rc = RC_OK;
    for (size_t i = 0; i < node->count && rc == RC_OK; i++) {
        struct value item;
        rc = evaluate(r, frame, node->items[i], &item);
        if (rc == RC_OK)
            rc = value_write(r, &item);
    }
    if (rc != RC_OK) {
        render_capture_abandon(r, start);
        return rc;
    }
    struct str text;
    rc = render_capture_end(r, start, &text);
    *out = value_text(text);
    return rc;
}

static enum rc list_node(struct render *r, struct frame *frame, const struct node *node,
                         struct value *out)
{
    enum rc rc = node->op == NODE_DICT ? value_dict_new(r, node->count / 2u, out)
                                       : value_list_new(r, node->count, out);
    if (rc == RC_OK && node->op == NODE_TUPLE)
        out->list->tuple = true;
    for (size_t i = 0; i < node->count && rc == RC_OK; i++) {
        struct value item, value;
        if ((rc = evaluate(r, frame, node->items[i], &item)) != RC_OK)
            break;
        if (node->op != NODE_DICT)
            rc = value_list_add(r, out->list, item);
        else if ((rc = evaluate(r, frame, node->items[++i], &value)) == RC_OK)
            rc = value_dict_put(r, out->dict, item, value);
    }
    return rc;
}

static enum rc slice_node(struct render *r, struct frame *frame, const struct node *node,
                          struct value *out)
{
    struct value left, bounds[3];
    enum rc rc = evaluate(r, frame, node->left, &left);
    for (size_t i = 0; i < 3 && rc == RC_OK; i++) {
        bounds[i] = value_none();
        if (node->items[i])
            rc = evaluate(r, frame, node->items[i], &bounds[i]);
    }
    r->at = node->at;
    return rc == RC_OK ? value_slice(r, &left, bounds, out) : rc;
}

/* loop.index and its like. */
static void loop_value(const struct value_loop *loop, enum loop_attribute attribute,
                       struct value *out)
{
    switch (attribute) {
    case LOOP_INDEX: *out = value_int((int64_t)loop->index + 1); break;
    case LOOP_INDEX0: *out = value_int(loop->index); break;
    case LOOP_REVINDEX: *out = value_int((int64_t)loop->count - loop->index); break;
    case LOOP_REVINDEX0: *out = value_int((int64_t)loop->count - loop->index - 1); break;
    case LOOP_FIRST: *out = value_bool(loop->index == 0); break;
    case LOOP_LAST: *out = value_bool(loop->index + 1 == loop->count); break;
    case LOOP_LENGTH: *out = value_int(loop->count); break;
    case LOOP_DEPTH: *out = value_int((int64_t)loop->depth + 1); break;
    case LOOP_DEPTH0: *out = value_int(loop->depth); break;
    case LOOP_PREVIOUS:
        *out = loop->index ? loop->items[loop->index - 1] : value_undefined(STR("previtem"));
        break;
    case LOOP_NEXT:
        *out = loop->index + 1 < loop->count ? loop->items[loop->index + 1]
                                             : value_undefined(STR("nextitem"));
        break;
    default: *out = value_undefined(STR("loop"));
    }
}

static enum rc attribute_node(struct render *r, struct frame *frame, const struct node *node,
                              struct value *out)
{
    struct value left;
    enum rc rc = evaluate(r, frame, node->left, &left);
    if (rc != RC_OK)
        return rc;
    if (left.kind == VALUE_LOOP) {
        loop_value(left.loop, node->method_id, out);
        return RC_OK;
    }
    r->at = node->at;
    return value_attribute(r, &left, node->name, out);
}

static enum rc sign_node(struct render *r, const struct node *node, struct value *v)
{
    if (v->kind == VALUE_BOOL)
        *v = value_int(v->boolean);
    r->at = node->at;
    if (v->kind == VALUE_FLOAT) {
        v->number = node->op == NODE_MINUS ? -v->number : v->number;
        return RC_OK;
    }
    if (v->kind != VALUE_INT || v->integer == INT64_MIN)
        return render_fail(r, ERR_INVALID, "a number is needed for the sign, not %s",
                           value_kind_name(v));
    v->integer = node->op == NODE_MINUS ? -v->integer : v->integer;
    return RC_OK;
}

/* Nodes with two operands that are both evaluated. */
static enum rc binary_node(struct render *r, struct frame *frame, const struct node *node,
                           struct value *out)
{
    struct value a, b;
    enum rc rc = evaluate(r, frame, node->left, &a);
    if (rc == RC_OK)
        rc = evaluate(r, frame, node->right, &b);
    if (rc != RC_OK)
        return rc;
    r->at = node->at;
    return node->op == NODE_ITEM ? value_item(r, &a, &b, out)
                                 : value_binary(r, node->op, &a, &b, out);
}

static enum rc choice_node(struct render *r, struct frame *frame, const struct node *node,
                           struct value *out)
{
    enum rc rc = evaluate(r, frame, node->right, out);
    if (rc != RC_OK)
        return rc;
    if (value_is_true(out))
        return evaluate(r, frame, node->left, out);
    if (node->third)
        return evaluate(r, frame, node->third, out);
    *out = value_undefined(STR("the condition's other side"));
    return RC_OK;
}

static enum rc evaluate_node(struct render *r, struct frame *frame, const struct node *node,
                             struct value *out)
{
    enum rc rc;
    switch ((enum node_op)node->op) {
    case NODE_CONSTANT: *out = node->constant; return RC_OK;
    case NODE_NAME:
        *out = *slot_of(frame, node->functions, node->slot);
        if (out->kind == VALUE_UNDEFINED && !out->p)
            *out = value_undefined(node->name);
        return RC_OK;
    case NODE_ATTRIBUTE: return attribute_node(r, frame, node, out);
    case NODE_SLICE: return slice_node(r, frame, node, out);
    case NODE_CALL: return call_node(r, frame, node, NULL, out);
    case NODE_METHOD: return call_method(r, frame, node, out);
    case NODE_FILTER:
    case NODE_TEST: return filter_node(r, frame, node, out);
    case NODE_NOT:
        rc = evaluate(r, frame, node->left, out);
        *out = value_bool(rc == RC_OK && !value_is_true(out));
        return rc;
    case NODE_MINUS:
    case NODE_PLUS:
        rc = evaluate(r, frame, node->left, out);
        return rc == RC_OK ? sign_node(r, node, out) : rc;
    case NODE_AND:
    case NODE_OR:
        rc = evaluate(r, frame, node->left, out);
        return rc != RC_OK || value_is_true(out) == (node->op == NODE_OR)
                   ? rc
                   : evaluate(r, frame, node->right, out);
    case NODE_COMPARE: return compare_node(r, frame, node, out);
    case NODE_CONCAT: return concat_node(r, frame, node, out);
    case NODE_CHOICE: return choice_node(r, frame, node, out);
    case NODE_LIST:
    case NODE_TUPLE:
    case NODE_DICT: return list_node(r, frame, node, out);
    default: return binary_node(r, frame, node, out);
    }
}

static enum rc evaluate(struct render *r, struct frame *frame, const struct node *node,
                        struct value *out)
{
    enum rc rc = enter(r);
    if (rc == RC_OK)
        rc = evaluate_node(r, frame, node, out);
    r->depth--;
    return rc;
}

/* ---- statements ---- */

static enum rc assign(struct render *r, struct frame *frame, const struct node *target,
                      struct value value)
{
    struct value namespace;
    if (target->op == NODE_NAME) {
        frame->slots[target->slot] = value;
        return RC_OK;
    }
    enum rc rc = evaluate(r, frame, target->left, &namespace);
    if (rc != RC_OK)
        return rc;
    r->at = target->at;
    if (namespace.kind != VALUE_NAMESPACE)
        return render_fail(r, ERR_INVALID, "only a namespace's members can be set");
    return value_dict_put(r, namespace.dict, value_text(target->name), value);
}

/* Several targets take a list apart. */
static enum rc assign_all(struct render *r, struct frame *frame, const struct node *node,
                          const struct value *value)
{
    struct value *items;
    uint32_t count;
    enum rc rc;
    if (node->count == 1)
        return assign(r, frame, node->items[0], *value);
    if ((rc = value_items(r, value, &items, &count)) != RC_OK)
        return rc;
    r->at = node->at;
    if (count != node->count)
        return render_fail(r, ERR_INVALID, "%u values for %u names", count, node->count);
    for (size_t i = 0; i < count && rc == RC_OK; i++)
        rc = assign(r, frame, node->items[i], items[i]);
    return rc;
}

/* `for x in y if …`: only the items for which it holds. */
static enum rc select_items(struct render *r, struct frame *frame, const struct node *node,
                            struct value *items, uint32_t *count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *count; i++) {
        struct value holds;
        enum rc rc = assign_all(r, frame, node, &items[i]);
        if (rc == RC_OK)
            rc = evaluate(r, frame, node->right, &holds);
        if (rc != RC_OK)
            return rc;
        if (value_is_true(&holds))
            items[kept++] = items[i];
    }
    *count = kept;
    return RC_OK;
}

static enum rc for_node(struct render *r, struct frame *frame, const struct node *node,
                        enum node_op *jump)
{
    struct value over, *items;
    struct value_loop *loop = ARENA_NEW(r->arena, struct value_loop);
    enum rc rc = loop ? evaluate(r, frame, node->left, &over) : render_no_memory(r);
    if (rc != RC_OK)
        return rc;
    r->at = node->at;
    uint32_t count;
    if ((rc = value_items(r, &over, &items, &count)) != RC_OK)
        return rc;
    if (node->right) {
        struct value *copy = ARENA_NEW_ARRAY(r->arena, struct value, (size_t)count + 1);
        if (!copy)
            return render_no_memory(r);
        if (count)
            memcpy(copy, items, count * sizeof(*items));
        items = copy;
        if ((rc = select_items(r, frame, node, items, &count)) != RC_OK)
            return rc;
    }
    *loop = (struct value_loop){.items = items, .count = count};
    for (uint32_t i = 0; i < count && rc == RC_OK; i++) {
        enum node_op inner = NODE_TEXT;
        loop->index = i;
        copy_slots(frame, node);
        frame->slots[node->slot] = (struct value){.kind = VALUE_LOOP, .loop = loop};
        if ((rc = assign_all(r, frame, node, &items[i])) == RC_OK)
            rc = execute(r, frame, node->body, &inner);
        if (inner == NODE_BREAK)
            break;
    }
    if (rc == RC_OK && count == 0 && node->third)
        rc = execute(r, frame, node->third, jump);
    return rc;
}

static enum rc if_node(struct render *r, struct frame *frame, const struct node *node,
                       enum node_op *jump)
{
    for (;; node = node->third) {
        struct value condition;
        enum rc rc = evaluate(r, frame, node->left, &condition);
        if (rc != RC_OK)
            return rc;
        if (value_is_true(&condition))
            return execute(r, frame, node->body, jump);
        if (!node->negated) /* no `elif` */
            return execute(r, frame, node->third, jump);
    }
}

static enum rc output_node(struct render *r, struct frame *frame, const struct node *node)
{
    struct value value;
    enum rc rc = evaluate(r, frame, node->left, &value);
    if (rc != RC_OK)
        return rc;
    if (value.kind == VALUE_TEXT)
        return render_write(r, value_str(&value));
    if (value.kind == VALUE_UNDEFINED && r->template->options.strict) {
        char name[ERR_FIELD_BYTES_MAX];
        snprintf(name, sizeof(name), "%.*s", STR_ARG(value_str(&value)));
        return err_set_field(r->err, ERR_BAD_FIELD, name, "the template needs a value for \"%s\"",
                             name);
    }
    r->at = node->at;
    return value_write(r, &value);
}

/* The output of a block as a text, put where the node's filters expect it. */
static enum rc block_text(struct render *r, struct frame *frame, const struct node *node,
                          struct value *out)
{
    enum node_op jump = NODE_TEXT;
    size_t start = render_capture_begin(r);
    copy_slots(frame, node);
    enum rc rc = execute(r, frame, node->body, &jump);
    if (rc != RC_OK) {
        render_capture_abandon(r, start);
        return rc;
    }
    struct str text;
    rc = render_capture_end(r, start, &text);
    *out = value_text(text);
    return rc == RC_OK ? filter_chain(r, frame, node->left, node->right, out) : rc;
}

static enum rc define_macro(struct render *r, struct frame *frame, const struct node *node,
                            struct value *out)
{
    struct value_macro *macro = ARENA_NEW(r->arena, struct value_macro);
    if (!macro)
        return render_no_memory(r);
    *macro = (struct value_macro){node, frame};
    *out = (struct value){.kind = VALUE_MACRO, .macro = macro};
    return RC_OK;
}

static enum rc call_block(struct render *r, struct frame *frame, const struct node *node)
{
    struct value caller, text;
    enum rc rc = define_macro(r, frame, node->right, &caller);
    if (rc == RC_OK)
        rc = call_node(r, frame, node->left, &caller, &text);
    return rc == RC_OK ? value_write(r, &text) : rc;
}

static enum rc execute_node(struct render *r, struct frame *frame, const struct node *node,
                            enum node_op *jump)
{
    struct value value;
    enum rc rc;
    switch ((enum node_op)node->op) {
    case NODE_TEXT: return render_write(r, node->name);
    case NODE_OUTPUT: return output_node(r, frame, node);
    case NODE_IF: return if_node(r, frame, node, jump);
    case NODE_FOR: return for_node(r, frame, node, jump);
    case NODE_SET:
        rc = evaluate(r, frame, node->left, &value);
        return rc == RC_OK ? assign_all(r, frame, node, &value) : rc;
    case NODE_STORE:
        rc = block_text(r, frame, node, &value);
        return rc == RC_OK ? assign_all(r, frame, node, &value) : rc;
    case NODE_FILTERED:
        rc = block_text(r, frame, node, &value);
        return rc == RC_OK ? value_write(r, &value) : rc;
    case NODE_MACRO: return define_macro(r, frame, node, &frame->slots[node->slot]);
    case NODE_CALL_BLOCK: return call_block(r, frame, node);
    case NODE_SCOPE: copy_slots(frame, node); return execute(r, frame, node->body, jump);
    default: *jump = node->op; return RC_OK;
    }
}

static enum rc execute(struct render *r, struct frame *frame, const struct node *node,
                       enum node_op *jump)
{
    enum rc rc = enter(r);
    for (; node && rc == RC_OK && *jump == NODE_TEXT; node = node->next) {
        rc = execute_node(r, frame, node, jump);
        if (rc == RC_OK)
            rc = render_spend(r, 1);
    }
    r->depth--;
    return rc;
}

enum rc template_run_jinja(struct render *r, yyjson_val *values)
{
    const struct parameters *globals = r->template->globals;
    struct frame *frame = frame_new(r, NULL, r->template->slot_count);
    enum node_op jump = NODE_TEXT;
    if (!frame)
        return render_no_memory(r);
    for (size_t i = 0; i < globals->count; i++) {
        struct str name = globals->names[i];
        yyjson_val *given = yyjson_obj_getn(values, name.p, name.n);
        const struct template_function *function = given ? NULL : template_global_find(name);
        if (given)
            frame->slots[globals->slots[i]] = value_from_json(given);
        else if (function)
            frame->slots[globals->slots[i]] =
                (struct value){.kind = VALUE_FUNCTION, .function = function};
    }
    return execute(r, frame, r->template->body, &jump);
}
