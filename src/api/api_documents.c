/* /api/collections/{name}/documents and …/chunks: what is in a collection, and how it gets in. */
#include "api/api_knowledge.h"
#include "base/limits.h"
#include "http/multipart.h"
#include "knowledge/chunk_edit.h"
#include "knowledge/filter.h"
#include "text/json_tree.h"

#define DOCUMENT_NAME_BYTES_MAX 1024

static enum rc full(struct api_call *call)
{
    return err_set(&call->err, ERR_TOO_LARGE, "the answer is too large; ask for fewer items");
}

/* ---- showing ---- */

static void put_json(struct api_call *call, yyjson_mut_val *o, const char *name, struct str json)
{
    yyjson_doc *doc = NULL;
    if (json.n == 0 || json_read(json, call->arena, &doc, NULL) != RC_OK)
        yyjson_mut_obj_add_null(call->doc, o, name);
    else
        yyjson_mut_obj_add_val(call->doc, o, name,
                               yyjson_val_mut_copy(call->doc, yyjson_doc_get_root(doc)));
}

yyjson_mut_val *api_encode_document(struct api_call *call, const struct document_row *row)
{
    char hex[SHA256_HEX_BYTES];
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    api_put_id(call, o, "id", "doc", row->id);
    api_put_str(call, o, "name", row->name);
    api_put_str(call, o, "source", row->source);
    api_put_str(call, o, "state", str_from(document_state_name(row->state)));
    api_put_str(call, o, "error", row->error.n ? row->error : STR_EMPTY);
    api_put_str(call, o, "error_code", row->error_code.n ? row->error_code : STR_EMPTY);
    api_put_str(call, o, "format", row->format.n ? row->format : STR_EMPTY);
    api_put_str(call, o, "content_type", row->content_type);
    hex_encode(row->sha256, SHA256_BYTES, hex);
    yyjson_mut_obj_add_strcpy(call->doc, o, "sha256", hex);
    yyjson_mut_obj_add_sint(call->doc, o, "bytes", row->bytes);
    yyjson_mut_obj_add_sint(call->doc, o, "chunks", row->chunks);
    yyjson_mut_obj_add_sint(call->doc, o, "tokens", row->tokens);
    yyjson_mut_obj_add_sint(call->doc, o, "pages", row->pages);
    yyjson_mut_obj_add_sint(call->doc, o, "text_bytes", row->text_bytes);
    put_json(call, o, "attributes", row->attributes);
    put_json(call, o, "tags", row->tags);
    put_json(call, o, "chunking", row->chunking);
    api_put_time(call, o, "created_at", row->created_ns);
    api_put_time(call, o, "updated_at", row->updated_ns);
    return o;
}

yyjson_mut_val *api_encode_attributes(struct api_call *call, yyjson_val *payload)
{
    size_t i, n;
    yyjson_val *key, *value;
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    yyjson_obj_foreach(payload, i, n, key, value)
    {
        if (yyjson_get_str(key)[0] != '_' && !yyjson_equals_str(key, "tags"))
            yyjson_mut_obj_add(o, yyjson_val_mut_copy(call->doc, key),
                               yyjson_val_mut_copy(call->doc, value));
    }
    return o;
}

/* ---- finding ---- */

bool api_may_see(const struct api_call *call, yyjson_val *tags)
{
    size_t i, n;
    yyjson_val *tag;
    if (call->all_access || yyjson_arr_size(tags) == 0)
        return true;
    yyjson_arr_foreach(tags, i, n, tag)
    {
        for (size_t own = 0; own < call->access_tag_count; own++)
            if (str_eq(json_text(tag), call->access_tags[own]))
                return true;
    }
    return false;
}

enum rc api_check_document(struct api_call *call, const struct document_row *row)
{
    yyjson_doc *tags = NULL;
    enum rc rc = row->tags.n ? json_read(row->tags, call->arena, &tags, &call->err) : RC_OK;
    if (rc == RC_OK && !api_may_see(call, yyjson_doc_get_root(tags)))
        return err_set(&call->err, ERR_NOT_FOUND, "there is no such document in this collection");
    return rc;
}

static enum rc read_document_id(struct api_call *call, struct id *id)
{
    if (id_parse(call->params[1], "doc", id) == RC_OK)
        return RC_OK;
    return err_set(&call->err, ERR_NOT_FOUND, "'%.*s' is not a document's id (doc_…)",
                   (int)MIN(call->params[1].n, (size_t)64), call->params[1].p);
}

static enum rc find_document(struct api_call *call, struct collection *collection,
                             struct document_row *row)
{
    struct db_txn *txn = call->txn;
    struct id id;
    enum rc rc = api_find_collection(call, collection);
    if (rc == RC_OK)
        rc = read_document_id(call, &id);
    if (rc == RC_OK && !call->txn)
        rc = db_read_begin(call->services->db, &txn, &call->err);
    if (rc != RC_OK)
        return rc;
    rc = document_row_get(txn, collection->row.project, collection->row.id, id, call->arena, row,
                          &call->err);
    if (!call->txn)
        db_read_end(txn);
    return rc == RC_OK ? api_check_document(call, row) : rc;
}

static enum rc read_states(struct api_call *call, unsigned *states)
{
    struct str rest = api_query(call, "state"), part;
    *states = 0;
    while (str_split(&rest, ',', &part)) {
        enum document_state state;
        if (document_state_parse(part, &state) != RC_OK)
            return err_set_field(&call->err, ERR_BAD_FIELD, "state",
                                 "'%.*s' is no state of a document", (int)MIN(part.n, (size_t)32),
                                 part.p);
        *states |= 1u << state;
    }
    return RC_OK;
}

enum rc api_documents_list(struct api_call *call)
{
    struct collection collection;
    struct document_filter filter = {.search = api_query(call, "q")};
    struct document_row *rows;
    struct str cursor = api_query(call, "cursor");
    struct id after = {{0}};
    char next[ID_TEXT_BYTES_MAX];
    size_t count, limit;
    enum rc rc = api_query_limit(call, &limit);
    if (rc == RC_OK)
        rc = read_states(call, &filter.states);
    if (rc == RC_OK && cursor.n && id_parse(cursor, "doc", &after) != RC_OK)
        rc = err_set_field(&call->err, ERR_BAD_FIELD, "cursor", "this is no cursor of such a list");
    if (rc == RC_OK)
        rc = api_find_collection(call, &collection);
    if (rc != RC_OK)
        return rc;
    filter.project = collection.row.project;
    filter.collection = collection.row.id;
    rc =
        document_row_list(call->txn, &filter, after, limit, call->arena, &rows, &count, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++) {
        if (api_check_document(call, &rows[i]) != RC_OK) { /* not for this caller */
            call->err = (struct err){0};
            continue;
        }
        if (!yyjson_mut_arr_append(items, api_encode_document(call, &rows[i])))
            return full(call);
    }
    size_t n = count == limit ? id_format(rows[count - 1].id, "doc", next) : 0;
    api_list_end(call, n ? str_make(next, n) : STR_EMPTY);
    return RC_OK;
}

enum rc api_documents_get(struct api_call *call)
{
    struct collection collection;
    struct document_row row;
    enum rc rc = find_document(call, &collection, &row);
    if (rc == RC_OK)
        call->answer = api_encode_document(call, &row);
    return rc;
}

/* ---- adding ---- */

/* Fields that a form or a JSON body may hold beside the content. */
static enum rc read_extras(struct api_call *call, yyjson_val *attributes, yyjson_val *tags,
                           yyjson_val *chunking, struct document_new *document)
{
    struct chunk_options options = {0};
    enum rc rc =
        attributes_read(attributes, "attributes", call->arena, &document->attributes, &call->err);
    if (rc == RC_OK)
        rc = tags_read(tags, "tags", call->arena, &document->tags, &call->err);
    if (rc == RC_OK && chunking && !yyjson_is_null(chunking)) {
        options.tokens_max = 250;
        rc = collection_decode_chunking(chunking, "chunking", &options, &call->err);
        if (rc == RC_OK)
            document->chunking = json_write(chunking, call->arena);
    }
    return rc;
}

static yyjson_val *parse_field(struct api_call *call, struct str text)
{
    yyjson_doc *doc;
    return text.n && json_read(text, call->arena, &doc, &call->err) == RC_OK
               ? yyjson_doc_get_root(doc)
               : NULL;
}

/* A name is a path without what could be mistaken for one of this machine. */
static enum rc check_name(struct api_call *call, struct str name)
{
    if (name.n == 0 || name.n > DOCUMENT_NAME_BYTES_MAX || memchr(name.p, 0, name.n))
        return err_set_field(&call->err, ERR_BAD_FIELD, "name",
                             "a document needs a name of at most %d bytes",
                             DOCUMENT_NAME_BYTES_MAX);
    return RC_OK;
}

struct added {
    yyjson_mut_val *items;
    struct job_row job;
};

static enum rc add_one(struct api_call *call, const struct collection *collection,
                       struct document_new *document, struct added *added)
{
    struct document_row row;
    struct job_row job;
    bool duplicate;
    enum rc rc = check_name(call, document->name);
    document->author = call->principal->name;
    if (rc == RC_OK && !document->tags.n && collection->spec.tag_count) {
        yyjson_mut_doc *doc = json_tree_new(call->arena);
        yyjson_mut_val *tags = doc ? yyjson_mut_arr(doc) : NULL;
        for (size_t i = 0; tags && i < collection->spec.tag_count; i++)
            yyjson_mut_arr_append(tags, json_new_text(doc, collection->spec.tags[i]));
        rc = json_write_tree(tags, call->arena, &document->tags, &call->err);
    }
    if (rc == RC_OK)
        rc = knowledge_add(call->services->knowledge, collection, document, call->arena, &row, &job,
                           &duplicate, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *o = api_encode_document(call, &row);
    yyjson_mut_obj_add_bool(call->doc, o, "duplicate", duplicate);
    yyjson_mut_arr_append(added->items, o);
    if (!duplicate)
        added->job = job;
    return RC_OK;
}

static enum rc add_form(struct api_call *call, const struct collection *collection,
                        struct added *added)
{
    struct str boundary = multipart_boundary(call->body_type);
    struct document_new shared = {.source = STR("upload")};
    yyjson_val *attributes = NULL, *tags = NULL, *chunking = NULL;
    struct str name = STR_EMPTY;
    struct multipart form;
    struct multipart_part part;
    size_t files = 0;
    enum rc rc;
    /* Fields first: they hold for all files, wherever they stand. */
    multipart_init(&form, call->raw_body, boundary);
    while ((rc = multipart_next(&form, &part)) == RC_OK) {
        if (part.filename.p)
            files++;
        else if (str_eq(part.name, STR("attributes")))
            attributes = parse_field(call, part.body);
        else if (str_eq(part.name, STR("tags")))
            tags = parse_field(call, part.body);
        else if (str_eq(part.name, STR("chunking")))
            chunking = parse_field(call, part.body);
        else if (str_eq(part.name, STR("name")))
            name = part.body;
    }
    if (rc != RC_END || call->err.code != ERR_NONE)
        return call->err.code ? RC_INVALID
                              : err_set(&call->err, ERR_INVALID, "the form is damaged");
    if (files == 0)
        return err_set_field(&call->err, ERR_MISSING_FIELD, "file", "the form holds no file");
    rc = read_extras(call, attributes, tags, chunking, &shared);
    multipart_init(&form, call->raw_body, boundary);
    while (rc == RC_OK && multipart_next(&form, &part) == RC_OK) {
        if (!part.filename.p)
            continue;
        struct document_new document = shared;
        document.name = files == 1 && name.n ? name : part.filename;
        document.content_type = part.content_type;
        document.content = part.body;
        rc = add_one(call, collection, &document, added);
    }
    return rc;
}

static enum rc add_json(struct api_call *call, const struct collection *collection,
                        struct added *added)
{
    struct document_new document = {.source = STR("text"),
                                    .name = json_get_text(call->body, "name"),
                                    .content_type = json_get_text(call->body, "content_type"),
                                    .content = json_get_text(call->body, "text")};
    enum rc rc = api_need_body(call);
    if (rc == RC_OK && document.content.n == 0)
        return err_set_field(&call->err, ERR_MISSING_FIELD, "text",
                             "send a form with files, or {\"name\", \"text\"}");
    if (rc == RC_OK)
        rc = read_extras(call, yyjson_obj_get(call->body, "attributes"),
                         yyjson_obj_get(call->body, "tags"), yyjson_obj_get(call->body, "chunking"),
                         &document);
    return rc == RC_OK ? add_one(call, collection, &document, added) : rc;
}

enum rc api_documents_add(struct api_call *call)
{
    struct collection collection;
    struct added added = {0};
    enum rc rc = api_find_collection(call, &collection);
    if (rc != RC_OK)
        return rc;
    added.items = api_list_begin(call);
    rc = str_starts(call->body_type, STR("multipart/")) ? add_form(call, &collection, &added)
                                                        : add_json(call, &collection, &added);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *job =
        id_is_zero(added.job.id) ? yyjson_mut_null(call->doc) : job_encode(&added.job, call->doc);
    yyjson_mut_obj_add_val(call->doc, call->answer, "job", job);
    call->status = 202;
    return RC_OK;
}

/* ---- changing, deleting ---- */

/* {"attributes", "tags"}: carried to the document's chunks before the answer. */
enum rc api_documents_patch(struct api_call *call)
{
    struct collection collection;
    struct document_row row;
    struct document_new extras = {0};
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = find_document(call, &collection, &row);
    if (rc == RC_OK)
        rc = read_extras(call, yyjson_obj_get(call->body, "attributes"),
                         yyjson_obj_get(call->body, "tags"), NULL, &extras);
    if (rc == RC_OK)
        rc =
            knowledge_patch_document(call->services->knowledge, &collection, row.id,
                                     extras.attributes, extras.tags, call->arena, &row, &call->err);
    if (rc == RC_OK)
        call->answer = api_encode_document(call, &row);
    return rc;
}

enum rc api_documents_delete(struct api_call *call)
{
    struct collection collection;
    struct document_row row;
    enum rc rc = find_document(call, &collection, &row);
    if (rc == RC_OK)
        rc = knowledge_delete_document(call->services->knowledge, &collection, &row, &call->err);
    call->status = 204;
    return rc;
}

enum rc api_documents_ingest(struct api_call *call)
{
    struct collection collection;
    struct document_row row;
    struct job_row job;
    enum rc rc = find_document(call, &collection, &row);
    if (rc == RC_OK)
        rc = knowledge_requeue(call->services->knowledge, &collection, row.id, 0,
                               call->principal->name, call->arena, &job, &call->err);
    if (rc != RC_OK)
        return rc;
    call->status = 202;
    call->answer = job_encode(&job, call->doc);
    return call->answer ? RC_OK : full(call);
}

/* ---- contents ---- */

enum rc api_read_blob(struct api_call *call, const uint8_t sha256[SHA256_BYTES], struct str *out)
{
    struct blob_id id;
    struct file *file;
    int64_t bytes;
    size_t got = 0;
    memcpy(id.sha256, sha256, SHA256_BYTES);
    enum rc rc = blob_get(knowledge_blobs(call->services->knowledge), &id, &file);
    if (rc != RC_OK)
        return err_set(&call->err, ERR_NOT_FOUND, "the file's content is not there any more");
    rc = file_size(file, &bytes);
    char *p = rc == RC_OK ? arena_alloc(call->arena, (size_t)bytes + 1) : NULL;
    if (rc == RC_OK && !p)
        rc = err_set(&call->err, ERR_TOO_LARGE, "the file is too large to be shown");
    if (rc == RC_OK && bytes > 0)
        rc = file_read_at(file, p, (size_t)bytes, 0, &got);
    file_close(file);
    *out = str_make(p, got);
    return rc;
}

enum rc api_answer_blob(struct api_call *call, const uint8_t sha256[SHA256_BYTES],
                        struct str content_type)
{
    enum rc rc = api_read_blob(call, sha256, &call->raw_answer);
    call->content_type = content_type;
    return rc;
}

/* Only types that a browser shows without running anything; the rest is a download. */
static struct str safe_type(const struct document_row *row)
{
    if (str_eq(row->format, STR("pdf")))
        return STR("application/pdf");
    return STR("application/octet-stream");
}

enum rc api_documents_file(struct api_call *call)
{
    struct collection collection;
    struct document_row row;
    enum rc rc = find_document(call, &collection, &row);
    return rc == RC_OK ? api_answer_blob(call, row.sha256, safe_type(&row)) : rc;
}

enum rc api_documents_text(struct api_call *call)
{
    struct collection collection;
    struct document_row row;
    enum rc rc = find_document(call, &collection, &row);
    if (rc == RC_OK && !row.has_text)
        return err_set(&call->err, ERR_NOT_FOUND, "no text of this document is there (%s)",
                       document_state_name(row.state));
    return rc == RC_OK ? api_answer_blob(call, row.text_sha256, STR("text/plain; charset=utf-8"))
                       : rc;
}

/* ---- chunks ---- */

static yyjson_mut_val *encode_chunk(struct api_call *call, const struct chunk_view *chunk)
{
    static const struct {
        const char *from, *to;
    } members[] = {{PAYLOAD_DOCUMENT, "document_id"},
                   {PAYLOAD_NAME, "document"},
                   {PAYLOAD_ORDINAL, "ordinal"},
                   {PAYLOAD_PAGE, "page"},
                   {PAYLOAD_PAGE_LAST, "page_last"},
                   {PAYLOAD_BEGIN, "begin"},
                   {PAYLOAD_END, "end"},
                   {PAYLOAD_CONTEXT, "context"},
                   {PAYLOAD_RECTS, "rects"},
                   {PAYLOAD_EDITED, "edited"}};
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    api_put_str(call, o, "id", chunk->id);
    api_put_str(call, o, "text", chunk->text);
    api_put_str(call, o, "title", chunk->title);
    yyjson_mut_obj_add_bool(call->doc, o, "disabled", chunk->disabled);
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        yyjson_val *value = yyjson_obj_get(chunk->payload, members[i].from);
        yyjson_mut_obj_add_val(call->doc, o, members[i].to,
                               value ? yyjson_val_mut_copy(call->doc, value)
                                     : yyjson_mut_null(call->doc));
    }
    yyjson_mut_obj_add_val(call->doc, o, "attributes", api_encode_attributes(call, chunk->payload));
    return o;
}

enum rc api_chunks_list(struct api_call *call)
{
    struct collection collection;
    struct document_row row;
    struct chunk_view *chunks;
    int64_t first;
    size_t limit, count;
    char next[24];
    enum rc rc = api_query_limit(call, &limit);
    if (rc == RC_OK)
        rc = api_query_i64(call, "cursor", 0, &first);
    if (rc == RC_OK && first < 0)
        rc = err_set_field(&call->err, ERR_BAD_FIELD, "cursor", "this is no cursor of such a list");
    if (rc == RC_OK)
        rc = find_document(call, &collection, &row);
    if (rc == RC_OK)
        rc = chunk_list(call->services->knowledge, &collection, &row, (size_t)first, limit,
                        call->arena, &chunks, &count, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++)
        if (!yyjson_mut_arr_append(items, encode_chunk(call, &chunks[i])))
            return full(call);
    int n = snprintf(next, sizeof(next), "%lld", (long long)(first + (int64_t)limit));
    bool more = first + (int64_t)limit < row.chunks;
    api_list_end(call, more ? str_make(next, (size_t)n) : STR_EMPTY);
    return RC_OK;
}

enum rc api_chunks_get(struct api_call *call)
{
    struct collection collection;
    struct chunk_view chunk;
    enum rc rc = api_find_collection(call, &collection);
    if (rc == RC_OK)
        rc = chunk_get(call->services->knowledge, &collection, call->params[1], call->arena, &chunk,
                       &call->err);
    if (rc == RC_OK && !api_may_see(call, yyjson_obj_get(chunk.payload, "tags")))
        rc = err_set(&call->err, ERR_NOT_FOUND, "there is no such chunk in this collection");
    if (rc == RC_OK)
        call->answer = encode_chunk(call, &chunk);
    return rc;
}

/* {"text", "disabled"} */
enum rc api_chunks_patch(struct api_call *call)
{
    struct collection collection;
    struct chunk_view chunk;
    enum rc rc = api_need_body(call);
    if (rc != RC_OK)
        return rc;
    yyjson_val *text = yyjson_obj_get(call->body, "text"),
               *disabled = yyjson_obj_get(call->body, "disabled");
    if ((text && !yyjson_is_str(text)) || (disabled && !yyjson_is_bool(disabled)))
        return err_set_field(&call->err, ERR_BAD_FIELD,
                             text && !yyjson_is_str(text) ? "text" : "disabled",
                             "'text' is a text, 'disabled' is true or false");
    rc = api_find_collection(call, &collection);
    if (rc == RC_OK)
        rc = chunk_change(call->services->knowledge, &collection, call->params[1],
                          text ? str_make(yyjson_get_str(text), yyjson_get_len(text)) : STR_EMPTY,
                          disabled ? yyjson_get_bool(disabled) : -1, call->arena, &chunk,
                          &call->err);
    if (rc == RC_OK)
        call->answer = encode_chunk(call, &chunk);
    return rc;
}
