/* See value.h. What is used of yyjson's layout: a container's `ofs` is the distance to its next
 * sibling, a tag holds type and length; both are what its unsafe_… functions show. */
#include "pipeline/definition/value.h"
#include "text/json.h"
#include <math.h>
#include <stdlib.h>

struct value {
    uint32_t references;
    uint32_t cell_count;
    size_t bytes;
    yyjson_val cells[]; /* the texts lie behind them */
};

static size_t tree_cells(const yyjson_val *tree)
{
    return (size_t)(unsafe_yyjson_get_next((yyjson_val *)tree) - (yyjson_val *)tree);
}

static bool has_text(const yyjson_val *cell)
{
    uint8_t type = unsafe_yyjson_get_type((void *)cell);
    return type == YYJSON_TYPE_STR || type == YYJSON_TYPE_RAW;
}

struct value *value_new(const yyjson_val *tree)
{
    size_t count = tree_cells(tree), texts = 0;
    for (size_t i = 0; i < count; i++)
        if (has_text(&tree[i]))
            texts += unsafe_yyjson_get_len((void *)&tree[i]) + 1;
    size_t bytes = sizeof(struct value) + count * sizeof(yyjson_val) + texts;
    struct value *value = xmalloc(bytes);
    value->references = 1;
    value->cell_count = (uint32_t)count;
    value->bytes = bytes;
    memcpy(value->cells, tree, count * sizeof(yyjson_val));
    char *at = (char *)(value->cells + count);
    for (size_t i = 0; i < count; i++) {
        yyjson_val *cell = &value->cells[i];
        if (!has_text(cell))
            continue;
        size_t n = unsafe_yyjson_get_len(cell);
        memcpy(at, cell->uni.str, n);
        at[n] = 0;
        cell->uni.str = at;
        at += n + 1;
    }
    return value;
}

struct value *value_parse(struct str json, size_t bytes_max)
{
    struct arena arena;
    struct value *value = NULL;
    yyjson_doc *doc;
    arena_init(&arena, bytes_max);
    if (json_read(json, &arena, &doc, NULL) == RC_OK)
        value = value_new(yyjson_doc_get_root(doc));
    arena_fini(&arena);
    return value;
}

struct value *value_ref(struct value *value)
{
    if (value)
        __atomic_fetch_add(&value->references, 1, __ATOMIC_RELAXED);
    return value;
}

void value_unref(struct value *value)
{
    if (value && __atomic_fetch_sub(&value->references, 1, __ATOMIC_ACQ_REL) == 1)
        free(value);
}

yyjson_val *value_json(const struct value *value)
{
    return value ? (yyjson_val *)value->cells : NULL;
}

size_t value_bytes(const struct value *value) { return value ? value->bytes : 0; }

/* ---- putting together ---- */

void maker_init(struct maker *maker, struct arena *arena)
{
    maker->cells = NULL;
    maker->count = maker->capacity = 0;
    maker->arena = arena;
    maker->depth = 0;
    maker->failed = false;
}

static yyjson_val *take_cells(struct maker *maker, size_t count)
{
    if (maker->failed)
        return NULL;
    if (maker->count + count > maker->capacity) {
        size_t capacity = MAX(MAX(2 * maker->capacity, maker->count + count), (size_t)16);
        yyjson_val *cells = arena_alloc(maker->arena, capacity * sizeof(yyjson_val));
        maker->failed = !cells;
        if (!cells)
            return NULL;
        if (maker->count)
            memcpy(cells, maker->cells, maker->count * sizeof(yyjson_val));
        maker->cells = cells;
        maker->capacity = capacity;
    }
    maker->count += count;
    return &maker->cells[maker->count - count];
}

static yyjson_val *take_value(struct maker *maker, size_t cells)
{
    if (maker->depth)
        maker->items[maker->depth - 1]++;
    return take_cells(maker, cells);
}

static void put(struct maker *maker, uint64_t tag, uint64_t bits)
{
    yyjson_val *cell = take_value(maker, 1);
    if (cell) {
        cell->tag = tag;
        cell->uni.u64 = bits;
    }
}

static void begin(struct maker *maker, uint8_t type)
{
    if (maker->depth == (int)COUNT_OF(maker->open))
        maker->failed = true;
    put(maker, type, 0);
    if (maker->failed)
        return;
    maker->open[maker->depth] = maker->count - 1;
    maker->items[maker->depth++] = 0;
}

void maker_object(struct maker *maker) { begin(maker, YYJSON_TYPE_OBJ); }
void maker_array(struct maker *maker) { begin(maker, YYJSON_TYPE_ARR); }

void maker_end(struct maker *maker)
{
    if (maker->failed)
        return;
    ASSERT(maker->depth > 0);
    maker->depth--;
    yyjson_val *cell = &maker->cells[maker->open[maker->depth]];
    cell->tag |= (uint64_t)maker->items[maker->depth] << YYJSON_TAG_BIT;
    cell->uni.ofs = (maker->count - maker->open[maker->depth]) * sizeof(yyjson_val);
}

static void put_text(yyjson_val *cell, struct str text)
{
    if (!cell)
        return;
    cell->tag = YYJSON_TYPE_STR | (uint64_t)text.n << YYJSON_TAG_BIT;
    cell->uni.str = text.n ? text.p : "";
}

void maker_key(struct maker *maker, struct str key) { put_text(take_cells(maker, 1), key); }
void maker_text(struct maker *maker, struct str text) { put_text(take_value(maker, 1), text); }

void maker_int(struct maker *maker, int64_t number)
{
    put(maker, YYJSON_TYPE_NUM | (number < 0 ? YYJSON_SUBTYPE_SINT : YYJSON_SUBTYPE_UINT),
        (uint64_t)number);
}

void maker_number(struct maker *maker, double number)
{
    uint64_t bits;
    if (fabs(number) < 9007199254740992.0 && trunc(number) == number) {
        maker_int(maker, (int64_t)number);
        return;
    }
    memcpy(&bits, &number, sizeof(bits));
    put(maker, YYJSON_TYPE_NUM | YYJSON_SUBTYPE_REAL, bits);
}

void maker_bool(struct maker *maker, bool boolean)
{
    put(maker, YYJSON_TYPE_BOOL | (boolean ? YYJSON_SUBTYPE_TRUE : YYJSON_SUBTYPE_FALSE), 0);
}

void maker_null(struct maker *maker) { put(maker, YYJSON_TYPE_NULL, 0); }

void maker_tree(struct maker *maker, const yyjson_val *tree)
{
    if (!tree) {
        maker_null(maker);
        return;
    }
    size_t count = tree_cells(tree);
    yyjson_val *cells = take_value(maker, count);
    if (cells)
        memcpy(cells, tree, count * sizeof(yyjson_val));
}

void maker_expression(struct maker *maker, const struct expression_value *value)
{
    switch (value->type) {
    case EXPRESSION_NULL: maker_null(maker); break;
    case EXPRESSION_BOOL: maker_bool(maker, value->boolean); break;
    case EXPRESSION_NUMBER: maker_number(maker, value->number); break;
    case EXPRESSION_TEXT: maker_text(maker, value->text); break;
    case EXPRESSION_JSON: maker_tree(maker, value->json); break;
    case EXPRESSION_LIST:
        maker_array(maker);
        for (size_t i = 0; i < value->item_count && !maker->failed; i++)
            maker_expression(maker, &value->items[i]);
        maker_end(maker);
        break;
    }
}

yyjson_val *maker_take(struct maker *maker)
{
    ASSERT(maker->failed || maker->depth == 0);
    return maker->failed || maker->count == 0 ? NULL : maker->cells;
}

struct value *maker_pack(struct maker *maker)
{
    yyjson_val *tree = maker_take(maker);
    return tree ? value_new(tree) : NULL;
}
