/* What the files of vector stores share: stores (door_stores.c), their files and batches
 * (door_store_files.c). */
#pragma once
#include "api/door_objects.h"

/* The store named by the path's first parameter. */
enum rc door_find_store(struct api_call *call, struct collection *out) MUST_CHECK;
bool door_store_expired(const struct collection_row *row);
void door_put_counts(struct api_call *call, yyjson_mut_val *o,
                     const struct document_counts *counts);
/* OpenAI's chunking strategy as ours, JSON; empty: the collection's. */
enum rc door_read_chunking(struct api_call *call, yyjson_val *json, struct str *out) MUST_CHECK;
/* Files by their ids, all with the same attributes (JSON) and chunking. */
enum rc door_add_files(struct api_call *call, const struct collection *collection,
                       yyjson_val *file_ids, struct str chunking, struct str attributes,
                       struct id batch) MUST_CHECK;
