/* Changes to JSON text that keep all other bytes: where the members of an object stand is found in
 * one pass over the bytes, then values are replaced, members inserted, renamed or removed, and the
 * result is a list of pieces of which most point into the source. Nothing is parsed into a tree or
 * written anew, so that what a provider signed, ordered or spelled in its own way reaches the other
 * side unchanged. */
#pragma once
#include "base/arena.h"

#define JSON_EDITS_MAX 4096

struct json_member {
    struct str name;  /* as written between the quotes, escapes included */
    size_t name_from; /* offset of the opening quote */
    size_t value_from, value_to;
};

struct json_object {
    struct str source;
    size_t open, close; /* offsets of its braces */
    struct json_member *members;
    size_t count;
};

/* Indexes the object that `source` is (spaces around allowed). RC_INVALID: not an object, or
 * broken; RC_LIMIT: the arena's cap. What stands inside values is only skipped over, not checked:
 * give it text that a parser has accepted. */
enum rc json_index(struct str source, struct arena *arena, struct json_object *out) MUST_CHECK;
/* The member of that name (escapes in the source's name are understood), or NULL. A name given
 * twice: the last one, which most parsers take. */
const struct json_member *json_member_find(const struct json_object *object, struct str name);
/* How often the name occurs. */
size_t json_member_count(const struct json_object *object, struct str name);
static inline struct str json_member_value(const struct json_object *object,
                                           const struct json_member *member)
{
    return str_slice(object->source, member->value_from, member->value_to);
}
/* Offset after the value that starts at `from` (no leading space), or 0 when it is broken. */
size_t json_skip_value(struct str source, size_t from);

/* Steps through the items of the array that starts at `from` (its bracket). */
struct json_items {
    struct str source;
    size_t at; /* 0: ended */
};
struct json_items json_items_begin(struct str source, size_t from);
/* False at the end, and where the array is broken. */
bool json_items_next(struct json_items *items, size_t *from, size_t *to);

struct json_edit_step {
    size_t from, to; /* bytes [from, to) of the source … */
    struct str with; /* … are replaced by these */
};

struct json_edit {
    const struct json_object *object;
    struct arena *arena;
    struct json_edit_step *steps; /* sorted, disjoint */
    size_t count, capacity;
    struct str inserted; /* new members, joined by commas; they go to the front */
    bool *removed;       /* by member; NULL: none */
};

void json_edit_init(struct json_edit *edit, const struct json_object *object, struct arena *arena);
/* Replaces bytes [from, to) of the source; the same range again: the later text wins. RC_CONFLICT:
 * overlaps an earlier change; RC_LIMIT. */
enum rc json_edit_range(struct json_edit *edit, size_t from, size_t to, struct str with) MUST_CHECK;
/* Gives the member this value (JSON text): replaced where it stands (every occurrence), else
 * inserted. The value must stay valid as long as the pieces. */
enum rc json_edit_set(struct json_edit *edit, struct str name, struct str value) MUST_CHECK;
/* Without effect where there is no such member; undone by json_edit_set. */
enum rc json_edit_remove(struct json_edit *edit, struct str name) MUST_CHECK;
enum rc json_edit_rename(struct json_edit *edit, struct str name, struct str new_name) MUST_CHECK;
/* The changed text: at most `pieces_max` pieces; joined by copying in the arena where it takes
 * more. Once, last. */
enum rc json_edit_finish(struct json_edit *edit, struct str *pieces, size_t pieces_max,
                         size_t *count) MUST_CHECK;
