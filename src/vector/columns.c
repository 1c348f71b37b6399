/* Columns: a dictionary of the JSON values of each member, and a code a row. An expression is cut
 * at and, or, not into conditions on one member each, which the same evaluator answers as for a
 * row: so both ways agree. */
#include "vector/columns.h"
#include "base/map.h"
#include "text/json.h"
#include <stdlib.h>

#define MEMBERS_MAX     64
#define VALUES_MAX      65536 /* of texts, lists and objects; numbers may be more */
#define ARENA_BYTES_MAX (4ull << 30)
#define ROW_BYTES_MAX   (2u << 20)

struct column {
    struct str name;
    uint32_t *codes;                  /* by row; 0: not there or null */
    yyjson_val **values;              /* by code; [0] is NULL */
    uint32_t count, capacity, others; /* others: values that are no numbers */
    struct map by_text;
    bool given_up;
};

struct columns {
    uint32_t rows;
    struct column columns[MEMBERS_MAX];
    size_t count;
    bool complete; /* no member was left out */
    struct map by_name;
    struct arena arena;
};

/* ---- making ---- */

static struct column *column_of(struct columns *c, struct str name)
{
    struct column *column = map_get(&c->by_name, name);
    if (column)
        return column;
    if (c->count == MEMBERS_MAX) {
        c->complete = false;
        return NULL;
    }
    column = &c->columns[c->count];
    column->name = arena_copy(&c->arena, name);
    if (!column->name.p)
        return NULL;
    c->count++;
    column->codes = xcalloc(c->rows + 1, sizeof(uint32_t));
    column->count = 1;
    column->capacity = 16;
    column->values = xcalloc(column->capacity, sizeof(*column->values));
    map_put(&c->by_name, column->name, column);
    return column;
}

static void give_up(struct column *column)
{
    column->given_up = true;
    free(column->codes);
    free(column->values);
    map_fini(&column->by_text);
    column->codes = NULL;
    column->values = NULL;
}

static enum rc add_value(struct columns *c, struct column *column, yyjson_val *value, uint32_t row,
                         struct arena *scratch)
{
    struct str text = json_write(value, scratch);
    if (!text.p)
        return RC_LIMIT;
    uintptr_t code = (uintptr_t)map_get(&column->by_text, text);
    if (!code) {
        yyjson_doc *doc;
        struct str copy = arena_copy(&c->arena, text);
        column->others += !yyjson_is_num(value);
        if (column->others > VALUES_MAX) {
            give_up(column);
            return RC_OK;
        }
        if (!copy.p || json_read(copy, &c->arena, &doc, NULL) != RC_OK)
            return RC_LIMIT;
        if (column->count == column->capacity) {
            column->capacity *= 2;
            column->values = xrealloc(column->values, column->capacity * sizeof(*column->values));
        }
        code = column->count++;
        column->values[code] = yyjson_doc_get_root(doc);
        map_put(&column->by_text, copy, (void *)code);
    }
    column->codes[row] = (uint32_t)code;
    return RC_OK;
}

static enum rc add_row(struct columns *c, struct str payload, uint32_t row, struct arena *scratch)
{
    yyjson_doc *doc;
    yyjson_val *name, *value;
    size_t i, n;
    if (!payload.n)
        return RC_OK;
    if (json_read(payload, scratch, &doc, NULL) != RC_OK)
        return RC_LIMIT;
    yyjson_obj_foreach(yyjson_doc_get_root(doc), i, n, name, value)
    {
        struct column *column = column_of(c, json_text(name));
        /* Of a name given twice the first counts, as for who reads the row. */
        if (!column || column->given_up || column->codes[row] || yyjson_is_null(value) ||
            yyjson_obj_getn(yyjson_doc_get_root(doc), json_text(name).p, json_text(name).n) !=
                value)
            continue;
        enum rc rc = add_value(c, column, value, row, scratch);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

enum rc columns_new(const struct rows_segment *rows, struct columns **out)
{
    struct columns *c = xcalloc(1, sizeof(*c));
    struct arena scratch;
    enum rc rc = RC_OK;
    c->rows = rows_segment_count(rows);
    c->complete = true;
    arena_init(&c->arena, ARENA_BYTES_MAX);
    arena_init(&scratch, ROW_BYTES_MAX);
    for (uint32_t row = 0; rc == RC_OK && row < c->rows; row++) {
        struct index_row item;
        arena_reset(&scratch);
        rc = rows_segment_row(rows, row, &item);
        if (rc == RC_OK)
            rc = add_row(c, item.payload, row, &scratch);
    }
    arena_fini(&scratch);
    for (size_t i = 0; i < c->count; i++)
        map_fini(&c->columns[i].by_text);
    if (rc == RC_OK)
        *out = c;
    else
        columns_free(c);
    return rc;
}

void columns_free(struct columns *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++) {
        free(c->columns[i].codes);
        free(c->columns[i].values);
        map_fini(&c->columns[i].by_text);
    }
    map_fini(&c->by_name);
    arena_fini(&c->arena);
    free(c);
}

size_t columns_bytes(const struct columns *c)
{
    size_t bytes = sizeof(*c) + c->arena.used_bytes;
    for (size_t i = 0; i < c->count; i++)
        if (!c->columns[i].given_up)
            bytes += (c->rows + 1) * sizeof(uint32_t) +
                     c->columns[i].capacity * sizeof(*c->columns[i].values);
    return bytes;
}

/* ---- asking ---- */

bool columns_filter(const struct columns *c, struct str member, columns_test *test, void *arg,
                    uint64_t *bits)
{
    const struct column *column = map_get(&c->by_name, member);
    bool known = true;
    if (!column && c->complete) { /* no row has it */
        bool passes = test(arg, NULL, &known);
        if (known && !passes)
            memset(bits, 0, (c->rows + 63) / 64 * sizeof(*bits));
        return known;
    }
    if (!column || column->given_up)
        return false;
    uint8_t *passes = malloc(column->count);
    for (uint32_t code = 0; passes && known && code < column->count; code++)
        passes[code] = test(arg, column->values[code], &known);
    for (uint32_t row = 0; passes && known && row < c->rows; row += 64) {
        uint64_t word = 0;
        for (uint32_t i = 0; i < MIN(64u, c->rows - row); i++)
            word |= (uint64_t)passes[column->codes[row + i]] << i;
        bits[row / 64] &= word;
    }
    known &= passes != NULL;
    free(passes);
    return known;
}

struct condition {
    const struct expression *expression;
    yyjson_val *value;
    struct arena scratch;
};

static void look_up(void *arg, const struct str *path, size_t path_count,
                    struct expression_value *out)
{
    expression_from_json(((struct condition *)arg)->value, path + 1, path_count - 1, out);
}

static bool test_condition(void *arg, yyjson_val *value, bool *known)
{
    struct condition *condition = arg;
    struct expression_value result;
    arena_reset(&condition->scratch);
    condition->value = value;
    if (expression_evaluate(condition->expression, look_up, condition, &condition->scratch,
                            &result) != RC_OK)
        *known = false;
    return *known && expression_truth(&result);
}

static bool filter_one(const struct columns *c, const struct expression *filter, struct str member,
                       uint64_t *bits)
{
    struct condition condition = {.expression = filter};
    arena_init(&condition.scratch, ROW_BYTES_MAX);
    bool known = columns_filter(c, member, test_condition, &condition, bits);
    arena_fini(&condition.scratch);
    return known;
}

/* Writes which rows pass into `out`, all of them. */
static bool filter_tree(const struct columns *c, const struct expression *filter, uint64_t *out,
                        struct arena *arena)
{
    struct str member = STR_EMPTY;
    size_t words = (c->rows + 63) / 64, members = expression_members(filter, &member);
    enum expression_shape shape = expression_shape(filter);
    if (members < 2) {
        memset(out, 0xff, words * sizeof(*out));
        return filter_one(c, filter, member, out);
    }
    if (shape == EXPRESSION_OTHER)
        return false;
    if (!filter_tree(c, expression_operand(filter, 0), out, arena))
        return false;
    if (shape == EXPRESSION_NOT) {
        for (size_t w = 0; w < words; w++)
            out[w] = ~out[w];
        return true;
    }
    uint64_t *other = ARENA_NEW_ARRAY(arena, uint64_t, words + 1);
    if (!other || !filter_tree(c, expression_operand(filter, 1), other, arena))
        return false;
    for (size_t w = 0; w < words; w++)
        out[w] = shape == EXPRESSION_AND ? out[w] & other[w] : out[w] | other[w];
    return true;
}

bool columns_filter_expression(const struct columns *c, const struct expression *filter,
                               uint64_t *bits)
{
    size_t words = (c->rows + 63) / 64;
    struct arena arena;
    arena_init(&arena, 64u << 20);
    uint64_t *passes = ARENA_NEW_ARRAY(&arena, uint64_t, words + 1);
    bool known = passes && filter_tree(c, filter, passes, &arena);
    for (size_t w = 0; known && w < words; w++)
        bits[w] &= passes[w];
    arena_fini(&arena);
    return known;
}
