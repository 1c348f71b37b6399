/* Chunks by hand: shown, changed, taken out of the results; attributes of a document carried to all
 * its chunks. Workers. */
#pragma once
#include "knowledge/knowledge.h"

struct chunk_view {
    struct str id, text, title;
    bool disabled;
    yyjson_val *payload;
};

/* ERR_NOT_FOUND. */
enum rc chunk_get(struct knowledge *knowledge, const struct collection *collection, struct str id,
                  struct arena *arena, struct chunk_view *out, struct err *err) MUST_CHECK;
/* Chunks of the document from `first` on, at most `limit`, in their order. */
enum rc chunk_list(struct knowledge *knowledge, const struct collection *collection,
                   const struct document_row *document, size_t first, size_t limit,
                   struct arena *arena, struct chunk_view **out, size_t *count,
                   struct err *err) MUST_CHECK;
/* text.p NULL: as it is; disabled < 0: as it is. The new text is encoded. */
enum rc chunk_change(struct knowledge *knowledge, const struct collection *collection,
                     struct str id, struct str text, int disabled, struct arena *arena,
                     struct chunk_view *out, struct err *err) MUST_CHECK;
/* The document's attributes and tags (JSON) become those of its chunks. */
enum rc chunks_set_attributes(struct knowledge *knowledge, const struct collection *collection,
                              const struct document_row *document, struct err *err) MUST_CHECK;
