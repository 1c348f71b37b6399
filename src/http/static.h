/* The files of the console, embedded in the program. The table is made at build time by
 * scripts/embed.c from web/dist, or from scripts/no-console where the console was not built. */
#pragma once
#include "base/arena.h"

struct static_file {
    struct str path; /* "/index.html", "/assets/index-Bx3f.js" */
    struct str content_type;
    struct str brotli; /* the contents, compressed */
    struct str etag;   /* quoted, of the contents */
    size_t bytes;      /* of the contents, uncompressed */
    bool immutable;    /* the path changes with the contents: may be cached for ever */
};

/* Sorted by path, bytewise. */
extern const struct static_file static_files[];
extern const size_t static_file_count;

const struct static_file *static_find(struct str path); /* NULL: no such file */
/* The contents, for the few clients that do not take brotli, and for a page that is filled in
 * before it is sent. .p NULL: past the arena's cap. */
struct str static_unpack(const struct static_file *file, struct arena *arena) MUST_CHECK;
