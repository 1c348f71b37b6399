/* What of the configuration file is in force: one digest for each of its objects, kept from one
 * load to the next, so that a reload checks and writes only what has changed. Only the file changes
 * its objects, so what was written once stands until the next load. One thread at a time. */
#pragma once
#include "govern/manifest.h"

struct applied {
    struct manifest_digest *digests; /* sorted */
    size_t count;
};

void applied_init(struct applied *applied);
void applied_fini(struct applied *applied);
/* Gives the items of the project `name` their digests and marks those that are in force; returns
 * how many are. The scratch arena holds the values of references meanwhile. */
size_t applied_mark(const struct applied *applied, struct str name, struct manifest *manifest,
                    struct arena *scratch);
/* These items are in force now, and no others. Call it once for each project, then applied_sort. */
void applied_add(struct applied *applied, const struct manifest *manifest);
void applied_sort(struct applied *applied);
