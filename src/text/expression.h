/* Expressions: conditions over named values, for route rules, metadata filters and pipelines'
 * branches. Total and bounded: no loops, no assignments, no user functions; every expression ends,
 * in time linear in its length and its values', and a value that is not there is null, not an
 * error.
 *
 *   or       a or b, a || b                  comparison  == != < <= > >= in, not in, matches,
 * contains and      a and b, a && b                 arithmetic  + - * / %   (numbers; + joins
 * texts) not      not a, !a                       literals    "text" 'text' 12 1.5 true false null
 * [1, 2] paths    header.x-team   metadata["team"]   tags.tier   body.messages[0].role calls
 * lower(x) upper(x) length(x) starts_with(x, y) ends_with(x, y) contains(x, y) number(x) text(x)
 * exists(x) matches(x, "glob*") default(x, y) min(x, y) max(x, y)
 *
 * Comparisons of different types are false (!= true); null, false, 0, "" and [] count as false. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include <yyjson.h>

#define EXPRESSION_BYTES_MAX 4096
#define EXPRESSION_DEPTH_MAX 32
#define EXPRESSION_PATH_MAX  16 /* steps of a path */

enum expression_type {
    EXPRESSION_NULL,
    EXPRESSION_BOOL,
    EXPRESSION_NUMBER,
    EXPRESSION_TEXT,
    EXPRESSION_LIST,
    EXPRESSION_JSON, /* an object or array of a document; paths go on into it */
};

struct expression_value {
    enum expression_type type;
    bool boolean;
    double number;
    struct str text;
    struct expression_value *items;
    size_t item_count;
    yyjson_val *json;
};

struct expression; /* parsed, immutable, in the arena it was parsed into; any number of threads */

/* Where names get their values. `path` has 1 to EXPRESSION_PATH_MAX steps (header.x-team: 2; list
 * indices as digits). Sets *out, or leaves it null. */
typedef void expression_lookup(void *arg, const struct str *path, size_t path_count,
                               struct expression_value *out);

/* ERR_BAD_FIELD with the column and what was expected. `text` is not copied: it must live as long.
 */
enum rc expression_parse(struct str text, struct arena *arena, struct expression **out,
                         struct err *err) MUST_CHECK;
/* RC_LIMIT: the scratch arena's cap. */
enum rc expression_evaluate(const struct expression *expression, expression_lookup *lookup,
                            void *arg, struct arena *scratch,
                            struct expression_value *out) MUST_CHECK;
/* The same as a condition; false where it cannot be evaluated. */
bool expression_test(const struct expression *expression, expression_lookup *lookup, void *arg,
                     struct arena *scratch);
/* Whether a value counts as true. */
bool expression_truth(const struct expression_value *value);
/* For lookups: a JSON value followed along the path's remaining steps. */
void expression_from_json(yyjson_val *value, const struct str *path, size_t path_count,
                          struct expression_value *out);

/* ---- for those that answer expressions from columns ---- */
enum expression_shape { EXPRESSION_AND, EXPRESSION_OR, EXPRESSION_NOT, EXPRESSION_OTHER };
enum expression_shape expression_shape(const struct expression *expression);
/* Of and, or (0, 1) and not (0). */
const struct expression *expression_operand(const struct expression *expression, size_t number);
/* How many different first steps its paths have, up to 2; *one: one of them. */
size_t expression_members(const struct expression *expression, struct str *one);
