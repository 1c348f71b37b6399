/* JSON trees that are made or changed (yyjson's mutable documents) inside an arena. A NULL value or
 * document means that the arena is full; yyjson's functions pass NULL on, so check once at the end.
 */
#pragma once
#include "text/json.h"

/* An empty document that allocates from the arena: never freed by itself. */
yyjson_mut_doc *json_tree_new(struct arena *arena);
/* Compact text; ERR_TOO_LARGE also for a NULL value. */
enum rc json_write_tree(const yyjson_mut_val *value, struct arena *arena, struct str *out,
                        struct err *err) MUST_CHECK;
/* The same value whatever the order of its objects' keys: sorted bytewise, at every depth. Of a
 * name given twice only the first member stays, which is the one that look-ups find. */
yyjson_mut_val *json_sorted(yyjson_mut_doc *doc, yyjson_val *value);
/* An immutable copy. */
yyjson_doc *json_freeze(yyjson_mut_val *value, struct arena *arena);

/* What differs: a list of {"path", "before", "after"}, null where there is nothing; lists are
 * compared by position. Names are there once (json_sorted), values nest at most LIMIT_JSON_DEPTH
 * deep; `doc` comes from json_tree_new. */
yyjson_mut_val *json_diff(yyjson_mut_doc *doc, yyjson_val *before, yyjson_val *after);

/* Texts are borrowed: they must live as long as the document. .p NULL gives "". */
static inline yyjson_mut_val *json_new_text(yyjson_mut_doc *doc, struct str s)
{
    return yyjson_mut_strn(doc, s.n ? s.p : "", s.n);
}

/* `key` is borrowed, too. */
static inline void json_set_text(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key,
                                 struct str s)
{
    yyjson_mut_obj_add_val(doc, object, key, json_new_text(doc, s));
}
