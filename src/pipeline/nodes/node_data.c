/* Variable assigner and list operator. */
#include "pipeline/engine/loop_private.h"
#include "pipeline/engine/run_private.h"
#include "text/json.h"
#include <stdlib.h>

#define LIST_ITEMS_MAX 100000

/* ---- assigner ---- */

enum operation {
    ASSIGN_SET,
    ASSIGN_CLEAR,
    ASSIGN_APPEND,
    ASSIGN_EXTEND,
    ASSIGN_ADD,
    ASSIGN_SUBTRACT,
    ASSIGN_MULTIPLY,
    ASSIGN_DIVIDE,
    ASSIGN_REMOVE_FIRST,
    ASSIGN_REMOVE_LAST,
};

static const char *const operation_names[] = {"set",          "clear",      "append",   "extend",
                                              "add",          "subtract",   "multiply", "divide",
                                              "remove_first", "remove_last"};

struct change {
    size_t loop; /* node, or NO_NODE: a conversation variable */
    struct str name;
    enum operation operation;
    struct plan_expression value;
};

struct assigner_config {
    struct change *changes;
    size_t count;
};

static enum rc assigner_compile(struct plan_build *build, struct err *err)
{
    yyjson_val *list = yyjson_obj_get(build->node->document->config, "assignments"), *item;
    struct arena *arena = &build->plan->arena;
    struct assigner_config *config = build->node->config = ARENA_NEW(arena, struct assigner_config);
    size_t i, n;
    if (!config ||
        !(config->changes = ARENA_NEW_ARRAY(arena, struct change, yyjson_arr_size(list) + 1)))
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    yyjson_arr_foreach(list, i, n, item)
    {
        struct change *change = &config->changes[config->count++];
        struct reference path;
        struct str operation = json_get_text(item, "operation");
        reference_is_path(json_get_text(item, "variable"), &path);
        change->loop = plan_find_node(build->plan, path.steps[0]);
        change->name = path.steps[1];
        while (!str_eq(operation, str_from(operation_names[change->operation])))
            change->operation++;
        enum rc rc =
            plan_expression_compile(build, json_get_text(item, "value"), &change->value, err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

static void put_list(struct maker *maker, yyjson_val *list, size_t skip_first, size_t skip_last)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(list, i, n, item) if (i >= skip_first && i + skip_last < n)
        maker_tree(maker, item);
}

/* Past numbers and lists only; false: the operation does not fit the values. */
static bool put_changed(struct maker *maker, enum operation operation, yyjson_val *old,
                        const struct expression_value *value)
{
    double a = yyjson_get_num(old), b = value->number;
    switch (operation) {
    case ASSIGN_SET: maker_expression(maker, value); return true;
    case ASSIGN_CLEAR:
        if (yyjson_is_arr(old)) {
            maker_array(maker);
            maker_end(maker);
        } else if (yyjson_is_obj(old)) {
            maker_object(maker);
            maker_end(maker);
        } else if (yyjson_is_str(old)) {
            maker_text(maker, STR(""));
        } else if (yyjson_is_num(old)) {
            maker_int(maker, 0);
        } else {
            maker_null(maker);
        }
        return true;
    case ASSIGN_APPEND:
    case ASSIGN_EXTEND:
    case ASSIGN_REMOVE_FIRST:
    case ASSIGN_REMOVE_LAST:
        if (old && !yyjson_is_arr(old) && !yyjson_is_null(old))
            return false;
        maker_array(maker);
        put_list(maker, old, operation == ASSIGN_REMOVE_FIRST, operation == ASSIGN_REMOVE_LAST);
        if (operation == ASSIGN_APPEND)
            maker_expression(maker, value);
        else if (operation == ASSIGN_EXTEND && value->type == EXPRESSION_JSON)
            put_list(maker, value->json, 0, 0);
        else if (operation == ASSIGN_EXTEND && value->type == EXPRESSION_LIST)
            for (size_t i = 0; i < value->item_count; i++)
                maker_expression(maker, &value->items[i]);
        maker_end(maker);
        return true;
    default: break;
    }
    if ((old && !yyjson_is_num(old) && !yyjson_is_null(old)) || value->type != EXPRESSION_NUMBER ||
        (operation == ASSIGN_DIVIDE && b == 0))
        return false;
    maker_number(maker, operation == ASSIGN_ADD        ? a + b
                        : operation == ASSIGN_SUBTRACT ? a - b
                        : operation == ASSIGN_MULTIPLY ? a * b
                                                       : a / b);
    return true;
}

/* The object with one member changed. */
static struct value *changed_object(struct arena *scratch, yyjson_val *object,
                                    const struct change *change,
                                    const struct expression_value *value)
{
    struct maker maker;
    size_t i, n;
    yyjson_val *key, *old;
    bool found = false, fits = true;
    maker_init(&maker, scratch);
    maker_object(&maker);
    yyjson_obj_foreach(object, i, n, key, old)
    {
        maker_key(&maker, json_text(key));
        if (!str_eq(json_text(key), change->name)) {
            maker_tree(&maker, old);
            continue;
        }
        found = true;
        fits &= put_changed(&maker, change->operation, old, value);
    }
    if (!found) {
        maker_key(&maker, change->name);
        fits &= put_changed(&maker, change->operation, NULL, value);
    }
    if (!fits)
        return NULL;
    maker_end(&maker);
    return maker_pack(&maker);
}

/* Where the variable lives: the flow's conversation, or the nearest round of its loop. */
static struct value **find_object(struct frame *frame, const struct change *change)
{
    const struct plan *plan = frame->flow->plan;
    if (change->loop == NO_NODE)
        return &frame->flow->conversation;
    const struct plan_level *level = &plan->levels[plan->nodes[change->loop].inner_level];
    while (frame && frame->level != level)
        frame = frame->parent;
    return frame ? &frame->vars : NULL;
}

static void assigner_run(struct step *step)
{
    const struct assigner_config *config = step->plan->config;
    struct arena *scratch = &step->run->loop->scratch;
    struct err err = {0};
    struct maker nothing;
    for (size_t i = 0; i < config->count && err.code == ERR_NONE; i++) {
        const struct change *change = &config->changes[i];
        struct value **object = find_object(step->frame, change), *changed = NULL;
        struct expression_value value;
        if (run_evaluate(step->frame, &change->value, NULL, scratch, &value, &err) != RC_OK)
            break;
        if (object)
            changed = changed_object(scratch, value_json(*object), change, &value);
        if (!changed) {
            err_set(&err, ERR_INVALID, "'%s' does not fit the value of %.*s",
                    operation_names[change->operation], STR_ARG(change->name));
            break;
        }
        value_unref(*object);
        *object = changed;
    }
    if (err.code != ERR_NONE) {
        step_failed(step, &err);
        return;
    }
    maker_init(&nothing, scratch);
    maker_object(&nothing);
    maker_end(&nothing);
    step_done(step, maker_pack(&nothing), STR("out"));
}

const struct node_operations assigner_operations = {.compile = assigner_compile,
                                                    .run = assigner_run};

/* ---- list operator ---- */

struct list_config {
    struct plan_expression list, filter, sort_by;
    bool descending;
    size_t first; /* SIZE_MAX: all */
};

static enum rc list_compile(struct plan_build *build, struct err *err)
{
    yyjson_val *json = build->node->document->config;
    struct list_config *config = build->node->config =
        ARENA_NEW(&build->plan->arena, struct list_config);
    if (!config)
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    config->descending = str_eq(json_get_text(json, "order"), STR("descending"));
    config->first = (size_t)json_get_int(json, "first", -1);
    enum rc rc = plan_expression_compile(build, json_get_text(json, "list"), &config->list, err);
    if (rc == RC_OK)
        rc = plan_expression_compile(build, json_get_text(json, "filter"), &config->filter, err);
    if (rc == RC_OK)
        rc = plan_expression_compile(build, json_get_text(json, "sort_by"), &config->sort_by, err);
    return rc;
}

struct list_item {
    yyjson_val *value;
    struct expression_value key;
    size_t index;
    bool descending;
};

/* Numbers before texts before the rest; equal keys keep their order. */
static int compare_items(const void *left, const void *right)
{
    const struct list_item *a = left, *b = right;
    int order = 0;
    if (a->key.type != b->key.type)
        order = a->key.type < b->key.type ? -1 : 1;
    else if (a->key.type == EXPRESSION_NUMBER)
        order = (a->key.number > b->key.number) - (a->key.number < b->key.number);
    else if (a->key.type == EXPRESSION_TEXT)
        order = str_cmp(a->key.text, b->key.text);
    if (a->descending)
        order = -order;
    return order ? order : (a->index > b->index) - (a->index < b->index);
}

static yyjson_val *local_values(struct arena *scratch, yyjson_val *item, size_t index)
{
    struct maker maker;
    maker_init(&maker, scratch);
    maker_object(&maker);
    maker_key(&maker, STR("item"));
    maker_tree(&maker, item);
    maker_key(&maker, STR("index"));
    maker_int(&maker, (int64_t)index);
    maker_end(&maker);
    return maker_take(&maker);
}

static enum rc read_items(struct step *step, yyjson_val *list, struct list_item *items,
                          size_t *count, struct err *err)
{
    const struct list_config *config = step->plan->config;
    struct arena *scratch = &step->run->loop->scratch;
    size_t i, n;
    yyjson_val *item;
    *count = 0;
    yyjson_arr_foreach(list, i, n, item)
    {
        struct expression_value keep, key = {0};
        yyjson_val *local = local_values(scratch, item, i);
        enum rc rc = local ? run_evaluate(step->frame, &config->filter, local, scratch, &keep, err)
                           : err_set(err, ERR_TOO_LARGE, "the list is too large");
        if (rc == RC_OK)
            rc = run_evaluate(step->frame, &config->sort_by, local, scratch, &key, err);
        if (rc != RC_OK)
            return rc;
        if (config->filter.expression && !expression_value_holds(&keep))
            continue;
        items[*count] = (struct list_item){item, key, i, config->descending};
        (*count)++;
    }
    if (config->sort_by.expression)
        qsort(items, *count, sizeof(*items), compare_items);
    *count = MIN(*count, config->first);
    return RC_OK;
}

/* A list that an expression gives; NULL: it gives none, err tells. */
yyjson_val *evaluate_list(struct step *step, const struct plan_expression *expression,
                          struct err *err)
{
    struct arena *scratch = &step->run->loop->scratch;
    struct expression_value value;
    struct maker maker;
    if (run_evaluate(step->frame, expression, NULL, scratch, &value, err) != RC_OK)
        return NULL;
    maker_init(&maker, scratch);
    if (value.type == EXPRESSION_NULL) {
        maker_array(&maker);
        maker_end(&maker);
    } else {
        maker_expression(&maker, &value);
    }
    yyjson_val *list = maker_take(&maker);
    if (yyjson_is_arr(list) && yyjson_arr_size(list) <= LIST_ITEMS_MAX)
        return list;
    err_set(err, list && !yyjson_is_arr(list) ? ERR_INVALID : ERR_TOO_LARGE,
            list && !yyjson_is_arr(list) ? "the value is no list" : "the list is too large");
    return NULL;
}

static void list_run(struct step *step)
{
    struct arena *scratch = &step->run->loop->scratch;
    const struct list_config *config = step->plan->config;
    struct err err = {0};
    struct maker maker;
    size_t count;
    yyjson_val *list = evaluate_list(step, &config->list, &err);
    struct list_item *items =
        list ? arena_alloc(scratch, (yyjson_arr_size(list) + 1) * sizeof(*items)) : NULL;
    if (list && !items)
        err_set(&err, ERR_TOO_LARGE, "the list is too large");
    if (!items || read_items(step, list, items, &count, &err) != RC_OK) {
        step_failed(step, &err);
        return;
    }
    maker_init(&maker, scratch);
    maker_object(&maker);
    maker_key(&maker, STR("result"));
    maker_array(&maker);
    for (size_t i = 0; i < count; i++)
        maker_tree(&maker, items[i].value);
    maker_end(&maker);
    maker_key(&maker, STR("first"));
    maker_tree(&maker, count ? items[0].value : NULL);
    maker_key(&maker, STR("last"));
    maker_tree(&maker, count ? items[count - 1].value : NULL);
    maker_key(&maker, STR("count"));
    maker_int(&maker, (int64_t)count);
    maker_end(&maker);
    step_done(step, maker_pack(&maker), STR("out"));
}

const struct node_operations list_operations = {.compile = list_compile, .run = list_run};
