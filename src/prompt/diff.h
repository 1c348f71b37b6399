/* What differs between two texts, word by word: for people who compare versions. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

enum diff_op { DIFF_EQUAL, DIFF_INSERT, DIFF_DELETE };

struct diff_part {
    enum diff_op op;
    struct str text; /* of `after`; of `before` for DIFF_DELETE */
};

/* Parts in order; joined without the inserted ones they give `before`, without the deleted ones
 * `after`. Texts of some thousand changed words are compared word by word, longer ones as a whole.
 */
enum rc diff_words(struct str before, struct str after, struct arena *arena,
                   struct diff_part **parts, size_t *count, struct err *err) MUST_CHECK;
