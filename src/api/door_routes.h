/* The objects that OpenAI's clients manage: files and vector stores, which are collections under
 * OpenAI's names. The same frame as routes.h, errors and answers in OpenAI's shapes, described by
 * OpenAI's own document. Included several times, so it has no guard. */
API_ROUTE(POST, "/v1/files", KNOWLEDGE_WRITE, WORK, door_files_create)
API_ROUTE(GET, "/v1/files", KNOWLEDGE_READ, READ, door_files_list)
API_ROUTE(GET, "/v1/files/{id}", KNOWLEDGE_READ, READ, door_files_get)
API_ROUTE(DELETE, "/v1/files/{id}", KNOWLEDGE_WRITE, WORK, door_files_delete)
API_ROUTE(GET, "/v1/files/{id}/content", KNOWLEDGE_READ, WORK, door_files_content)
API_ROUTE(POST, "/v1/vector_stores", KNOWLEDGE_WRITE, WORK, door_stores_create)
API_ROUTE(GET, "/v1/vector_stores", KNOWLEDGE_READ, READ, door_stores_list)
API_ROUTE(GET, "/v1/vector_stores/{id}", KNOWLEDGE_READ, READ, door_stores_get)
API_ROUTE(POST, "/v1/vector_stores/{id}", KNOWLEDGE_WRITE, WRITE, door_stores_update)
API_ROUTE(DELETE, "/v1/vector_stores/{id}", KNOWLEDGE_WRITE, WORK, door_stores_delete)
API_ROUTE(POST, "/v1/vector_stores/{id}/search", KNOWLEDGE_READ, WORK, door_stores_search)
API_ROUTE(POST, "/v1/vector_stores/{id}/files", KNOWLEDGE_WRITE, WORK, door_store_files_create)
API_ROUTE(GET, "/v1/vector_stores/{id}/files", KNOWLEDGE_READ, READ, door_store_files_list)
API_ROUTE(GET, "/v1/vector_stores/{id}/files/{file}", KNOWLEDGE_READ, READ, door_store_files_get)
API_ROUTE(POST, "/v1/vector_stores/{id}/files/{file}", KNOWLEDGE_WRITE, WORK,
          door_store_files_update)
API_ROUTE(DELETE, "/v1/vector_stores/{id}/files/{file}", KNOWLEDGE_WRITE, WORK,
          door_store_files_delete)
API_ROUTE(GET, "/v1/vector_stores/{id}/files/{file}/content", KNOWLEDGE_READ, WORK,
          door_store_files_content)
API_ROUTE(POST, "/v1/vector_stores/{id}/file_batches", KNOWLEDGE_WRITE, WORK,
          door_store_batches_create)
API_ROUTE(GET, "/v1/vector_stores/{id}/file_batches/{batch}", KNOWLEDGE_READ, READ,
          door_store_batches_get)
API_ROUTE(POST, "/v1/vector_stores/{id}/file_batches/{batch}/cancel", KNOWLEDGE_WRITE, WRITE,
          door_store_batches_cancel)
API_ROUTE(GET, "/v1/vector_stores/{id}/file_batches/{batch}/files", KNOWLEDGE_READ, READ,
          door_store_batches_files)
