/* /api/collections/{name}/sources: where a collection's documents come from by themselves. A source
 * is named by its name or its id (src_…). */
#include "api/api_knowledge.h"
#include "knowledge/source.h"
#include "text/json_tree.h"

static enum rc full(struct api_call *call)
{
    return err_set(&call->err, ERR_TOO_LARGE, "the answer is too large; ask for fewer items");
}

static enum rc find_source(struct api_call *call, struct collection *collection,
                           struct source_row *out)
{
    struct id id;
    enum rc rc = api_find_collection(call, collection);
    if (rc != RC_OK)
        return rc;
    if (id_parse(call->params[1], "src", &id) == RC_OK)
        return source_row_get(call->txn, collection->row.project, collection->row.id, id,
                              call->arena, out, &call->err);
    rc = source_row_find(call->txn, collection->row.project, collection->row.id, call->params[1],
                         call->arena, out, &call->err);
    if (rc == RC_NOT_FOUND)
        return err_set(&call->err, ERR_NOT_FOUND, "the collection has no source '%.*s'",
                       (int)MIN(call->params[1].n, (size_t)100), call->params[1].p);
    return rc;
}

/* ---- showing ---- */

/* The state follows from the job: "idle", "queued", "syncing", "removing". */
static enum rc put_job(struct api_call *call, yyjson_mut_val *o, const struct source_row *row)
{
    struct job_row job;
    const char *state = "idle";
    yyjson_mut_val *shown = NULL;
    struct err ignored;
    if (!id_is_zero(row->job) &&
        job_table_get(call->txn, row->project, row->job, call->arena, &job, &ignored) == RC_OK) {
        job_refresh(call->services->jobs, &job, call->arena);
        shown = job_encode(&job, call->doc);
        if (!job.finished_ns)
            state = row->removing                      ? "removing"
                    : str_eq(job.state, STR("queued")) ? "queued"
                                                       : "syncing";
    }
    yyjson_mut_obj_add_str(call->doc, o, "state", state);
    yyjson_mut_obj_add_val(call->doc, o, "job", shown ? shown : yyjson_mut_null(call->doc));
    return RC_OK;
}

static void put_last_sync(struct api_call *call, yyjson_mut_val *o, const struct source_row *row)
{
    yyjson_mut_val *last = yyjson_mut_obj_add_obj(call->doc, o, "last_sync");
    yyjson_mut_obj_add_sint(call->doc, last, "number", row->sync);
    api_put_time(call, last, "started_at", row->started_ns);
    api_put_time(call, last, "finished_at", row->finished_ns);
    yyjson_mut_obj_add_sint(call->doc, last, "added", row->added);
    yyjson_mut_obj_add_sint(call->doc, last, "changed", row->changed);
    yyjson_mut_obj_add_sint(call->doc, last, "unchanged", row->unchanged);
    yyjson_mut_obj_add_sint(call->doc, last, "deleted", row->deleted);
    yyjson_mut_obj_add_sint(call->doc, last, "failed", row->failed);
    api_put_str(call, last, "error", row->error.n ? row->error : STR_EMPTY);
}

static yyjson_mut_val *encode_source(struct api_call *call, const struct source_row *row)
{
    yyjson_mut_val *definition, *o = yyjson_mut_obj(call->doc);
    if (source_show(row, call->doc, call->arena, &definition, &call->err) != RC_OK)
        return NULL;
    api_put_id(call, o, "id", "src", row->id);
    api_put_str(call, o, "name", row->name);
    api_put_str(call, o, "kind", row->kind);
    yyjson_mut_obj_add_val(call->doc, o, "definition", definition);
    if (put_job(call, o, row) != RC_OK)
        return NULL;
    put_last_sync(call, o, row);
    if (row->every_ns)
        api_put_ms(call, o, "every_ms", row->every_ns);
    else
        yyjson_mut_obj_add_null(call->doc, o, "every_ms");
    api_put_time(call, o, "next_sync_at", row->next_ns);
    api_put_str(call, o, "author", row->author);
    api_put_time(call, o, "created_at", row->created_ns);
    api_put_time(call, o, "updated_at", row->updated_ns);
    return o;
}

static enum rc answer_source(struct api_call *call, const struct source_row *row, int status)
{
    call->status = status;
    call->answer = encode_source(call, row);
    return call->answer ? RC_OK : full(call);
}

enum rc api_sources_list(struct api_call *call)
{
    struct collection collection;
    struct source_row *rows;
    struct id after = {{0}};
    size_t limit, count;
    char next[ID_TEXT_BYTES_MAX];
    struct str cursor = api_query(call, "cursor");
    enum rc rc = api_query_limit(call, &limit);
    if (rc == RC_OK && cursor.n && id_parse(cursor, "src", &after) != RC_OK)
        rc = err_set_field(&call->err, ERR_BAD_FIELD, "cursor", "is not a cursor of this list");
    if (rc == RC_OK)
        rc = api_find_collection(call, &collection);
    if (rc == RC_OK)
        rc = source_row_list(call->txn, collection.row.project, collection.row.id, after, limit,
                             call->arena, &rows, &count, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++)
        if (!yyjson_mut_arr_append(items, encode_source(call, &rows[i])))
            return full(call);
    size_t n = count == limit ? id_format(rows[count - 1].id, "src", next) : 0;
    api_list_end(call, n ? arena_copy(call->arena, str_make(next, n)) : STR_EMPTY);
    return RC_OK;
}

enum rc api_sources_get(struct api_call *call)
{
    struct collection collection;
    struct source_row row;
    enum rc rc = find_source(call, &collection, &row);
    return rc == RC_OK ? answer_source(call, &row, 200) : rc;
}

/* ---- changing ---- */

enum rc api_sources_create(struct api_call *call)
{
    struct collection collection;
    struct source_row row;
    struct job_row job;
    const struct actor actor = api_actor(call);
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = api_find_collection(call, &collection);
    if (rc == RC_OK)
        rc = source_create(call->services->knowledge, call->txn, &actor, &collection, call->body,
                           call->principal->name, call->arena, &row, &job, &call->err);
    return rc == RC_OK ? answer_source(call, &row, 201) : rc;
}

enum rc api_sources_patch(struct api_call *call)
{
    struct collection collection;
    struct source_row row;
    const struct actor actor = api_actor(call);
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = find_source(call, &collection, &row);
    if (rc == RC_OK)
        rc = source_patch(call->services->knowledge, call->txn, &actor, &row, call->body,
                          call->arena, &call->err);
    return rc == RC_OK ? answer_source(call, &row, 200) : rc;
}

static enum rc answer_job(struct api_call *call, const struct job_row *job)
{
    call->status = 202;
    call->answer = job_encode(job, call->doc);
    return call->answer ? RC_OK : full(call);
}

/* ?documents=keep leaves what it brought in the collection. */
enum rc api_sources_delete(struct api_call *call)
{
    struct collection collection;
    struct source_row row;
    struct job_row job;
    const struct actor actor = api_actor(call);
    struct str documents = api_query(call, "documents");
    bool keep = str_eq(documents, STR("keep"));
    if (documents.n && !keep && !str_eq(documents, STR("delete")))
        return err_set_field(&call->err, ERR_BAD_FIELD, "documents", "is keep or delete");
    enum rc rc = find_source(call, &collection, &row);
    if (rc == RC_OK)
        rc = source_remove(call->services->knowledge, call->txn, &actor, &row, keep,
                           call->principal->name, call->arena, &job, &call->err);
    if (rc != RC_OK)
        return rc;
    if (!keep)
        return answer_job(call, &job);
    call->status = 204;
    return RC_OK;
}

enum rc api_sources_sync(struct api_call *call)
{
    struct collection collection;
    struct source_row row;
    struct job_row job;
    enum rc rc = find_source(call, &collection, &row);
    if (rc == RC_OK)
        rc = source_sync(call->services->knowledge, call->txn, &row, call->principal->name,
                         call->arena, &job, &call->err);
    return rc == RC_OK ? answer_job(call, &job) : rc;
}

/* What it has brought so far stays; the next sync goes on from there. */
enum rc api_sources_stop(struct api_call *call)
{
    struct collection collection;
    struct source_row row;
    struct job_row job;
    enum rc rc = find_source(call, &collection, &row);
    if (rc == RC_OK && id_is_zero(row.job))
        rc = err_set(&call->err, ERR_CONFLICT, "the source is not being synced");
    if (rc == RC_OK)
        rc = job_cancel(call->services->jobs, call->txn, row.project, row.job, call->arena, &job,
                        &call->err);
    return rc == RC_OK ? answer_job(call, &job) : rc;
}

/* ---- items ---- */

static yyjson_mut_val *encode_item(struct api_call *call, const struct source_item_row *item)
{
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    api_put_str(call, o, "key", item->key);
    yyjson_mut_obj_add_str(call->doc, o, "state", source_item_state_name(item->state));
    api_put_id(call, o, "document_id", "doc", item->document);
    api_put_str(call, o, "error", item->error.n ? item->error : STR_EMPTY);
    yyjson_mut_obj_add_sint(call->doc, o, "bytes", item->bytes);
    yyjson_mut_obj_add_sint(call->doc, o, "sync", item->sync);
    api_put_time(call, o, "updated_at", item->updated_ns);
    return o;
}

enum rc api_sources_items(struct api_call *call)
{
    struct collection collection;
    struct source_row row;
    struct source_item_row *items;
    struct str rest = api_query(call, "state"), part;
    unsigned states = 0;
    size_t limit, count;
    enum rc rc = api_query_limit(call, &limit);
    while (rc == RC_OK && str_split(&rest, ',', &part)) {
        enum source_item_state state;
        if (source_item_state_parse(part, &state) != RC_OK)
            rc = err_set_field(&call->err, ERR_BAD_FIELD, "state", "is ok, again or failed");
        else
            states |= 1u << state;
    }
    if (rc == RC_OK && !call->all_access) /* names of documents that tags may hide */
        rc = err_set(&call->err, ERR_FORBIDDEN, "a key needs knowledge.write to see the items");
    if (rc == RC_OK)
        rc = find_source(call, &collection, &row);
    if (rc == RC_OK)
        rc = source_item_list(call->txn, row.project, row.id, states, api_query(call, "cursor"),
                              limit, call->arena, &items, &count, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *list = api_list_begin(call);
    for (size_t i = 0; i < count; i++)
        if (!yyjson_mut_arr_append(list, encode_item(call, &items[i])))
            return full(call);
    api_list_end(call, count == limit ? items[count - 1].key : STR_EMPTY);
    return RC_OK;
}
