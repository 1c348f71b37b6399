/* Decoding definitions (routes, providers, keys …) from JSON: members by type, within bounds, with
 * errors that name their place ("targets[0].provider"). A value is read through a `struct place`,
 * which knows its path. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include <yyjson.h>

/* A value and where it stands. The path is put together only for an error's message, so a place
 * refers to the one it is in, which must live as long. */
struct place {
    yyjson_val *value;          /* NULL: absent */
    const struct place *parent; /* NULL: the root */
    struct str name;            /* of a member, or the root's path; empty in a list */
    size_t index;               /* in a list */
};

enum decode_need { DECODE_OPTIONAL, DECODE_REQUIRED };

void decode_root(struct place *at, yyjson_val *value, const char *path);
/* The member `name`, null counting as absent; ERR_MISSING_FIELD when required and absent. */
enum rc decode_member(const struct place *object, const char *name, enum decode_need need,
                      struct place *out, struct err *err) MUST_CHECK;
void decode_element(const struct place *array, size_t index, yyjson_val *value, struct place *out);
/* ERR_BAD_FIELD at this place. */
enum rc decode_refuse(const struct place *at, struct err *err, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/* Type checks; absent values pass. */
enum rc decode_expect_object(const struct place *at, struct err *err) MUST_CHECK;
enum rc decode_expect_list(const struct place *at, size_t count_max, struct err *err) MUST_CHECK;
/* Every member's name is in `names` (NULL ends it): a typing error is told, not ignored. */
enum rc decode_only(const struct place *object, const char *const *names,
                    struct err *err) MUST_CHECK;

/* Members by type. An absent optional one leaves *out as it is. Texts point into the document. */
enum rc decode_str(const struct place *object, const char *name, enum decode_need need,
                   size_t bytes_max, struct str *out, struct err *err) MUST_CHECK;
enum rc decode_bool(const struct place *object, const char *name, bool *out,
                    struct err *err) MUST_CHECK;
enum rc decode_i64(const struct place *object, const char *name, int64_t min, int64_t max,
                   int64_t *out, struct err *err) MUST_CHECK;
/* A duration: member `name` ("20s", or a number of seconds) or `name`_ms (a number). Not negative.
 */
enum rc decode_duration(const struct place *object, const char *name, int64_t *ns,
                        struct err *err) MUST_CHECK;
/* Dollars as a number or decimal string into pico-dollars, exactly; `null` and absence leave *pico.
 */
enum rc decode_dollars(const struct place *object, const char *name, int64_t *pico,
                       struct err *err) MUST_CHECK;
/* "12.5" → 12500000000000; ERR-less: RC_INVALID, RC_LIMIT. More than 12 decimals are refused. */
enum rc dollars_parse(struct str text, int64_t *pico) MUST_CHECK;
/* One of `words` (NULL ends the list): its index. */
enum rc decode_word(const struct place *object, const char *name, const char *const *words,
                    int *out, struct err *err) MUST_CHECK;
/* An array of texts, copied into the arena. */
enum rc decode_texts(const struct place *object, const char *name, size_t count_max,
                     size_t bytes_max, struct arena *arena, struct str **out, size_t *count,
                     struct err *err) MUST_CHECK;
