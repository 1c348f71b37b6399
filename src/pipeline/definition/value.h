/* Values of a run: immutable JSON, packed into one block each and counted. A tree of yyjson's
 * immutable values is one run of 16-byte cells whose distances are relative, so a subtree is copied
 * as bytes: values are put together from others without walking them.
 *
 * value_ref and value_unref may be called by any thread; everything else belongs to one. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "text/expression.h"
#include <yyjson.h>

struct value;

/* A packed copy, texts included. */
struct value *value_new(const yyjson_val *tree);
/* From JSON text; NULL: it is none, or larger than `bytes_max`. */
struct value *value_parse(struct str json, size_t bytes_max);
struct value *value_ref(struct value *value);      /* NULL passes */
void value_unref(struct value *value);             /* NULL passes */
yyjson_val *value_json(const struct value *value); /* NULL for NULL */
size_t value_bytes(const struct value *value);

/* Puts a tree together, cell by cell. Texts are borrowed until it is packed. */
struct maker {
    yyjson_val *cells;
    size_t count, capacity;
    struct arena *arena; /* of the cells */
    size_t open[32];     /* cells of the containers that are open */
    size_t items[32];    /* values in them so far, keys not counted */
    int depth;
    bool failed; /* the arena's cap, or too deep: sticky */
};

void maker_init(struct maker *maker, struct arena *arena);
void maker_object(struct maker *maker);
void maker_array(struct maker *maker);
void maker_end(struct maker *maker); /* of the object or array */
void maker_key(struct maker *maker, struct str key);
void maker_text(struct maker *maker, struct str text);
void maker_number(struct maker *maker, double number); /* whole ones as integers */
void maker_int(struct maker *maker, int64_t number);
void maker_bool(struct maker *maker, bool boolean);
void maker_null(struct maker *maker);
void maker_tree(struct maker *maker, const yyjson_val *tree); /* NULL: null */
void maker_expression(struct maker *maker, const struct expression_value *value);
/* The tree, valid as long as the arena, or NULL when it failed. */
yyjson_val *maker_take(struct maker *maker);
/* The same, packed. */
struct value *maker_pack(struct maker *maker);
