/* What the handlers of collections, documents, chunks and OpenAI's vector stores share. */
#pragma once
#include "api/handlers.h"
#include "knowledge/knowledge.h"
#include "knowledge/retrieve.h"

/* The collection named by the path's first parameter, by the call's transaction or, without one,
 * by its own. */
enum rc api_find_collection(struct api_call *call, struct collection *out) MUST_CHECK;
/* A row as the API shows it. */
yyjson_mut_val *api_encode_document(struct api_call *call, const struct document_row *row);
/* The attributes of a chunk's payload (all but ours) as an object. */
yyjson_mut_val *api_encode_attributes(struct api_call *call, yyjson_val *payload);
/* The bytes of a blob as the raw answer. */
enum rc api_answer_blob(struct api_call *call, const uint8_t sha256[SHA256_BYTES],
                        struct str content_type) MUST_CHECK;
/* A whole blob into the arena. */
enum rc api_read_blob(struct api_call *call, const uint8_t sha256[SHA256_BYTES],
                      struct str *out) MUST_CHECK;
/* How to search, from the body. */
enum rc api_read_query(struct api_call *call, struct retrieve_query *query) MUST_CHECK;
/* Access: may the caller see what carries these tags (a JSON list; NULL or empty: everybody may)?
 */
bool api_may_see(const struct api_call *call, yyjson_val *tags);
/* The same for a document; what may not be seen is ERR_NOT_FOUND. */
enum rc api_check_document(struct api_call *call, const struct document_row *row) MUST_CHECK;
/* The caller's rights in a query, and its last use noted now and then. */
void api_fill_access(struct api_call *call, struct retrieve_query *query);
/* A vector from a JSON list of numbers. */
enum rc api_read_vector(struct api_call *call, yyjson_val *json, const char *field,
                        const float **vector, size_t *dimension) MUST_CHECK;
