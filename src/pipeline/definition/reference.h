/* The variables that a template or an expression reads, found without running it: dotted paths
 * such as start.question or draft.usage.total. Words of the language, function and filter names,
 * texts in quotes and names that a template binds itself (for, set) are left out. */
#pragma once
#include "pipeline/definition/document.h"

#define REFERENCE_STEPS_MAX 8

struct reference {
    struct str steps[REFERENCE_STEPS_MAX];
    size_t count; /* steps beyond the maximum are cut */
};

typedef void reference_visit(void *arg, const struct reference *reference);
void reference_each(struct str text, enum text_kind kind, reference_visit *visit, void *arg);
/* The text is one path and nothing else: an expression that passes a value on. */
bool reference_is_path(struct str expression, struct reference *out);
