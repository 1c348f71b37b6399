/* Templates to begin with: files of pipelines (file.h) that are part of the program, each with
 * words about it, sample inputs, and a recorded run that `capstan pipeline test --gallery` replays.
 */
#pragma once
#include "base/str.h"

struct gallery_entry {
    const char *name;
    struct str text; /* the file */
};

extern const struct gallery_entry GALLERY[];
extern const size_t GALLERY_COUNT;
const struct gallery_entry *gallery_find(struct str name); /* NULL: there is none */
