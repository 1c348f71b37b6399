/* /v1/vector_stores/{id}/files and …/file_batches: the documents of a collection that were made of
 * uploaded files. https://platform.openai.com/docs/api-reference/vector-stores-files */
#include "api/door_stores.h"
#include "base/clock.h"
#include "knowledge/chunk_edit.h"
#include "knowledge/filter.h"
#include "text/json_tree.h"

#define FILES_LIMIT_MAX 100
#define BATCH_FILES_MAX 2000

/* ---- shapes ---- */

static const char *status_of(enum document_state state)
{
    switch (state) {
    case DOCUMENT_READY:
    case DOCUMENT_NO_TEXT: return "completed";
    case DOCUMENT_FAILED: return "failed";
    case DOCUMENT_CANCELLED: return "cancelled";
    default: return "in_progress";
    }
}

static const char *error_of(struct str code)
{
    if (str_eq(code, STR("unsupported_media_type")))
        return "unsupported_file";
    return str_starts(code, STR("invalid")) || str_eq(code, STR("request_too_large"))
               ? "invalid_file"
               : "server_error";
}

static void put_chunking(struct api_call *call, yyjson_mut_val *o, const struct document_row *row)
{
    yyjson_doc *doc = NULL;
    if (row->chunking.n && json_read(row->chunking, call->arena, &doc, NULL) != RC_OK)
        doc = NULL;
    yyjson_val *chunking = yyjson_doc_get_root(doc);
    yyjson_mut_val *strategy = yyjson_mut_obj_add_obj(call->doc, o, "chunking_strategy");
    if (!str_eq(json_get_text(chunking, "strategy"), STR("static"))) {
        yyjson_mut_obj_add_str(call->doc, strategy, "type", "other");
        return;
    }
    yyjson_mut_obj_add_str(call->doc, strategy, "type", "static");
    yyjson_mut_val *how = yyjson_mut_obj_add_obj(call->doc, strategy, "static");
    yyjson_mut_obj_add_sint(call->doc, how, "max_chunk_size_tokens",
                            json_get_int(chunking, "tokens_max", 0));
    yyjson_mut_obj_add_sint(call->doc, how, "chunk_overlap_tokens",
                            json_get_int(chunking, "overlap_tokens", 0));
}

static yyjson_mut_val *encode_file(struct api_call *call, const struct document_row *row)
{
    char id[ID_TEXT_BYTES_MAX];
    yyjson_doc *attributes = NULL;
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_strncpy(call->doc, o, "id", id, file_id_format(row->file, id));
    yyjson_mut_obj_add_str(call->doc, o, "object", "vector_store.file");
    yyjson_mut_obj_add_sint(call->doc, o, "usage_bytes",
                            row->state == DOCUMENT_READY ? row->text_bytes : 0);
    door_put_seconds(call, o, "created_at", row->created_ns);
    api_put_id(call, o, "vector_store_id", "vs", row->collection);
    yyjson_mut_obj_add_str(call->doc, o, "status", status_of(row->state));
    if (row->state == DOCUMENT_FAILED) {
        yyjson_mut_val *error = yyjson_mut_obj_add_obj(call->doc, o, "last_error");
        yyjson_mut_obj_add_str(call->doc, error, "code", error_of(row->error_code));
        api_put_str(call, error, "message", row->error);
    } else {
        yyjson_mut_obj_add_null(call->doc, o, "last_error");
    }
    put_chunking(call, o, row);
    if (row->attributes.n && json_read(row->attributes, call->arena, &attributes, NULL) == RC_OK)
        yyjson_mut_obj_add_val(call->doc, o, "attributes",
                               yyjson_val_mut_copy(call->doc, yyjson_doc_get_root(attributes)));
    else
        yyjson_mut_obj_add_obj(call->doc, o, "attributes");
    return o;
}

/* ---- adding ---- */

static enum rc add_file(struct api_call *call, const struct collection *collection,
                        struct str file_id, struct str chunking, struct str attributes,
                        struct id batch, struct document_row *row)
{
    struct file_row file;
    struct blob_id blob;
    struct db_txn *txn;
    struct job_row job;
    struct id id;
    bool duplicate;
    if (file_id_parse(file_id, &id) != RC_OK)
        return err_set_field(&call->err, ERR_BAD_FIELD, "file_id", "No such File object: %.*s",
                             (int)MIN(file_id.n, (size_t)64), file_id.p);
    enum rc rc = db_read_begin(call->services->db, &txn, &call->err);
    if (rc != RC_OK)
        return rc;
    rc = file_row_get(txn, call->principal->project, id, call->arena, &file, &call->err);
    db_read_end(txn);
    if (rc != RC_OK)
        return rc;
    memcpy(blob.sha256, file.sha256, SHA256_BYTES);
    const struct document_new document = {.name = file.name,
                                          .source = STR("file"),
                                          .content_type = file.content_type,
                                          .blob = &blob,
                                          .bytes = file.bytes,
                                          .attributes = attributes.n ? attributes : STR("{}"),
                                          .chunking = chunking,
                                          .file = id,
                                          .batch = batch,
                                          .author = call->principal->name};
    return knowledge_add(call->services->knowledge, collection, &document, call->arena, row, &job,
                         &duplicate, &call->err);
}

enum rc door_add_files(struct api_call *call, const struct collection *collection,
                       yyjson_val *file_ids, struct str chunking, struct str attributes,
                       struct id batch)
{
    struct document_row row;
    yyjson_val *one;
    size_t i, n;
    enum rc rc = RC_OK;
    if (!yyjson_is_arr(file_ids) || yyjson_arr_size(file_ids) > BATCH_FILES_MAX)
        return err_set_field(&call->err, ERR_BAD_FIELD, "file_ids",
                             "'file_ids' is a list of at most %d ids", BATCH_FILES_MAX);
    yyjson_arr_foreach(file_ids, i, n, one) if (rc == RC_OK) rc =
        add_file(call, collection, json_text(one), chunking, attributes, batch, &row);
    return rc;
}

enum rc door_store_files_create(struct api_call *call)
{
    struct collection collection;
    struct str chunking, attributes;
    struct document_row row;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = door_find_store(call, &collection);
    if (rc == RC_OK)
        rc = door_read_chunking(call, yyjson_obj_get(call->body, "chunking_strategy"), &chunking);
    if (rc == RC_OK)
        rc = attributes_read(yyjson_obj_get(call->body, "attributes"), "attributes", call->arena,
                             &attributes, &call->err);
    if (rc == RC_OK)
        rc = add_file(call, &collection, json_get_text(call->body, "file_id"), chunking, attributes,
                      (struct id){{0}}, &row);
    if (rc == RC_OK)
        call->answer = encode_file(call, &row);
    return rc;
}

/* ---- listing ---- */

static enum rc read_status(struct api_call *call, unsigned *states)
{
    struct str filter = api_query(call, "filter");
    const unsigned working = 1u << DOCUMENT_QUEUED | 1u << DOCUMENT_PARSING |
                             1u << DOCUMENT_CHUNKING | 1u << DOCUMENT_EMBEDDING;
    *states = filter.n == 0                        ? 0
              : str_eq(filter, STR("in_progress")) ? working
              : str_eq(filter, STR("completed"))   ? 1u << DOCUMENT_READY | 1u << DOCUMENT_NO_TEXT
              : str_eq(filter, STR("failed"))      ? 1u << DOCUMENT_FAILED
              : str_eq(filter, STR("cancelled"))   ? 1u << DOCUMENT_CANCELLED
                                                   : ~0u;
    return *states != ~0u
               ? RC_OK
               : err_set_field(&call->err, ERR_BAD_FIELD, "filter",
                               "'filter' is in_progress, completed, failed or cancelled");
}

static enum rc list_files(struct api_call *call, const struct collection *collection,
                          struct id batch)
{
    struct document_filter filter = {.project = collection->row.project,
                                     .collection = collection->row.id,
                                     .batch = batch,
                                     .only_files = true};
    struct door_page page;
    struct document_row *rows, after = {0};
    char first[ID_TEXT_BYTES_MAX], last[ID_TEXT_BYTES_MAX];
    size_t count;
    enum rc rc = door_read_page(call, NULL, FILES_LIMIT_MAX, &page);
    if (rc == RC_OK)
        rc = read_status(call, &filter.states);
    if (rc == RC_OK && !id_is_zero(page.after) &&
        document_row_find_file(call->txn, collection->row.id, page.after, call->arena, &after,
                               &call->err) != RC_OK)
        rc = err_set_field(&call->err, ERR_BAD_FIELD, "after", "'after' is no file of this store");
    filter.ascending = page.ascending;
    if (rc == RC_OK)
        rc = document_row_list(call->txn, &filter, after.id, page.limit + 1, call->arena, &rows,
                               &count, &call->err);
    if (rc != RC_OK)
        return rc;
    bool more = count > page.limit;
    count = MIN(count, page.limit);
    yyjson_mut_val *data = door_list_begin(call);
    for (size_t i = 0; i < count; i++)
        yyjson_mut_arr_append(data, encode_file(call, &rows[i]));
    size_t a = count ? file_id_format(rows[0].file, first) : 0,
           b = count ? file_id_format(rows[count - 1].file, last) : 0;
    door_list_end(call, str_make(first, a), str_make(last, b), more);
    return RC_OK;
}

enum rc door_store_files_list(struct api_call *call)
{
    struct collection collection;
    enum rc rc = door_find_store(call, &collection);
    return rc == RC_OK ? list_files(call, &collection, (struct id){{0}}) : rc;
}

/* ---- one file ---- */

static enum rc find_file(struct api_call *call, struct collection *collection,
                         struct document_row *row)
{
    struct db_txn *txn = call->txn;
    struct id id;
    enum rc rc = door_find_store(call, collection);
    if (rc == RC_OK && file_id_parse(call->params[1], &id) != RC_OK)
        rc =
            err_set(&call->err, ERR_NOT_FOUND, "No file found with id '%.*s' in this vector store.",
                    (int)MIN(call->params[1].n, (size_t)64), call->params[1].p);
    if (rc == RC_OK && !call->txn)
        rc = db_read_begin(call->services->db, &txn, &call->err);
    if (rc != RC_OK)
        return rc;
    rc = document_row_find_file(txn, collection->row.id, id, call->arena, row, &call->err);
    if (!call->txn)
        db_read_end(txn);
    if (rc == RC_NOT_FOUND)
        return err_set(&call->err, ERR_NOT_FOUND,
                       "No file found with id '%.*s' in this vector store.",
                       STR_ARG(call->params[1]));
    return rc == RC_OK ? api_check_document(call, row) : rc;
}

enum rc door_store_files_get(struct api_call *call)
{
    struct collection collection;
    struct document_row row;
    enum rc rc = find_file(call, &collection, &row);
    if (rc == RC_OK)
        call->answer = encode_file(call, &row);
    return rc;
}

enum rc door_store_files_update(struct api_call *call)
{
    struct collection collection;
    struct document_row row;
    struct str attributes;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = find_file(call, &collection, &row);
    if (rc == RC_OK)
        rc = attributes_read(yyjson_obj_get(call->body, "attributes"), "attributes", call->arena,
                             &attributes, &call->err);
    if (rc != RC_OK)
        return rc;
    rc = knowledge_patch_document(call->services->knowledge, &collection, row.id,
                                  attributes.n ? attributes : STR("{}"), STR_EMPTY, call->arena,
                                  &row, &call->err);
    if (rc == RC_OK)
        call->answer = encode_file(call, &row);
    return rc;
}

enum rc door_store_files_delete(struct api_call *call)
{
    struct collection collection;
    struct document_row row;
    enum rc rc = find_file(call, &collection, &row);
    if (rc == RC_OK)
        rc = knowledge_delete_document(call->services->knowledge, &collection, &row, &call->err);
    if (rc == RC_OK)
        door_answer_deleted(call, call->params[1], "vector_store.file.deleted");
    return rc;
}

enum rc door_store_files_content(struct api_call *call)
{
    struct collection collection;
    struct document_row row;
    struct str text = STR_EMPTY;
    enum rc rc = find_file(call, &collection, &row);
    if (rc == RC_OK && row.has_text)
        rc = api_read_blob(call, row.text_sha256, &text);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_str(call->doc, call->answer, "object", "vector_store.file_content.page");
    yyjson_mut_val *data = yyjson_mut_obj_add_arr(call->doc, call->answer, "data");
    if (text.n) {
        yyjson_mut_val *part = yyjson_mut_arr_add_obj(call->doc, data);
        yyjson_mut_obj_add_str(call->doc, part, "type", "text");
        api_put_str(call, part, "text", text);
    }
    yyjson_mut_obj_add_false(call->doc, call->answer, "has_more");
    yyjson_mut_obj_add_null(call->doc, call->answer, "next_page");
    return RC_OK;
}

/* ---- batches ---- */

static enum rc encode_batch(struct api_call *call, struct db_txn *txn,
                            const struct batch_row *batch)
{
    const struct document_filter filter = {
        .project = batch->project, .collection = batch->collection, .batch = batch->id};
    struct document_counts counts;
    enum rc rc = document_rows_count(txn, &filter, &counts, &call->err);
    if (rc != RC_OK)
        return rc;
    int64_t ended = counts.states[DOCUMENT_READY] + counts.states[DOCUMENT_NO_TEXT] +
                    counts.states[DOCUMENT_FAILED] + counts.states[DOCUMENT_CANCELLED];
    yyjson_mut_val *o = call->answer = yyjson_mut_obj(call->doc);
    api_put_id(call, o, "id", "vsfb", batch->id);
    yyjson_mut_obj_add_str(call->doc, o, "object", "vector_store.files_batch");
    door_put_seconds(call, o, "created_at", batch->created_ns);
    api_put_id(call, o, "vector_store_id", "vs", batch->collection);
    yyjson_mut_obj_add_str(call->doc, o, "status",
                           batch->cancelled       ? "cancelled"
                           : ended < counts.total ? "in_progress"
                                                  : "completed");
    door_put_counts(call, o, &counts);
    return RC_OK;
}

static enum rc insert_batch(void *arg, struct db_txn *txn, struct err *err)
{
    struct batch_row *batch = arg;
    batch->created_ns = db_txn_now_ns(txn);
    return batch_row_insert(txn, batch, err);
}

/* `files`: each with attributes and chunking of its own. */
static enum rc add_each(struct api_call *call, const struct collection *collection,
                        yyjson_val *files, struct id batch)
{
    struct document_row row;
    struct str chunking, attributes;
    yyjson_val *one;
    size_t i, n;
    enum rc rc = RC_OK;
    if (yyjson_arr_size(files) == 0 || yyjson_arr_size(files) > BATCH_FILES_MAX)
        return err_set_field(&call->err, ERR_MISSING_FIELD, "file_ids",
                             "give 'file_ids' or 'files', at most %d", BATCH_FILES_MAX);
    yyjson_arr_foreach(files, i, n, one)
    {
        if (rc == RC_OK)
            rc = door_read_chunking(call, yyjson_obj_get(one, "chunking_strategy"), &chunking);
        if (rc == RC_OK)
            rc = attributes_read(yyjson_obj_get(one, "attributes"), "attributes", call->arena,
                                 &attributes, &call->err);
        if (rc == RC_OK)
            rc = add_file(call, collection, json_get_text(one, "file_id"), chunking, attributes,
                          batch, &row);
    }
    return rc;
}

static enum rc answer_batch(struct api_call *call, const struct batch_row *batch)
{
    struct db_txn *txn = call->txn;
    enum rc rc = txn ? RC_OK : db_read_begin(call->services->db, &txn, &call->err);
    if (rc != RC_OK)
        return rc;
    rc = encode_batch(call, txn, batch);
    if (!call->txn)
        db_read_end(txn);
    return rc;
}

enum rc door_store_batches_create(struct api_call *call)
{
    struct collection collection;
    struct batch_row batch = {.project = call->principal->project, .id = id_new()};
    struct str chunking, attributes;
    enum rc rc = api_need_body(call);
    yyjson_val *ids = rc == RC_OK ? yyjson_obj_get(call->body, "file_ids") : NULL;
    if (rc == RC_OK)
        rc = door_find_store(call, &collection);
    if (rc == RC_OK)
        rc = door_read_chunking(call, yyjson_obj_get(call->body, "chunking_strategy"), &chunking);
    if (rc == RC_OK)
        rc = attributes_read(yyjson_obj_get(call->body, "attributes"), "attributes", call->arena,
                             &attributes, &call->err);
    if (rc != RC_OK)
        return rc;
    batch.collection = collection.row.id;
    rc = db_write_wait(call->services->db, insert_batch, &batch, &call->err);
    if (rc == RC_OK)
        rc = ids ? door_add_files(call, &collection, ids, chunking, attributes, batch.id)
                 : add_each(call, &collection, yyjson_obj_get(call->body, "files"), batch.id);
    return rc == RC_OK ? answer_batch(call, &batch) : rc;
}

static enum rc find_batch(struct api_call *call, struct collection *collection,
                          struct batch_row *batch)
{
    struct id id;
    enum rc rc = door_find_store(call, collection);
    if (rc == RC_OK && id_parse(call->params[1], "vsfb", &id) != RC_OK)
        rc = err_set(&call->err, ERR_NOT_FOUND, "there is no such file batch in this vector store");
    return rc == RC_OK ? batch_row_get(call->txn, collection->row.id, id, batch, &call->err) : rc;
}

enum rc door_store_batches_get(struct api_call *call)
{
    struct collection collection;
    struct batch_row batch;
    enum rc rc = find_batch(call, &collection, &batch);
    return rc == RC_OK ? answer_batch(call, &batch) : rc;
}

/* What is under way is finished; what waits is not begun. */
enum rc door_store_batches_cancel(struct api_call *call)
{
    struct collection collection;
    struct batch_row batch;
    enum rc rc = find_batch(call, &collection, &batch);
    if (rc == RC_OK)
        rc = batch_row_cancel(call->txn, batch.id, &call->err);
    if (rc == RC_OK)
        rc = document_rows_set_state(call->txn, collection.row.id, batch.id, 1u << DOCUMENT_QUEUED,
                                     DOCUMENT_CANCELLED, &call->err);
    batch.cancelled = true;
    return rc == RC_OK ? answer_batch(call, &batch) : rc;
}

enum rc door_store_batches_files(struct api_call *call)
{
    struct collection collection;
    struct batch_row batch;
    enum rc rc = find_batch(call, &collection, &batch);
    return rc == RC_OK ? list_files(call, &collection, batch.id) : rc;
}
