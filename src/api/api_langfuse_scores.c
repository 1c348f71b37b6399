/* Langfuse's scores, as its clients send them: one by one, and in the batches of the ingestion
 * interface, where each event is answered for itself. They are kept beside what /api/feedback says:
 * a trace's id is the calls' and runs' trace_id. */
#include "api/handlers.h"
#include "api/scores.h"
#include "base/clock.h"
#include "text/json_tree.h"

#define ID_BYTES_MAX   256
#define TEXT_BYTES_MAX (64 * 1024)

/* ---- reading ---- */

static enum rc refuse(struct api_call *call, const char *field, const char *why)
{
    return err_set_field(&call->err, ERR_BAD_FIELD, field, "%s: %s", field, why);
}

static enum rc read_value(struct api_call *call, yyjson_val *body, struct score_row *row)
{
    struct str type = json_get_text(body, "dataType");
    yyjson_val *value = yyjson_obj_get(body, "value");
    struct str text = json_text(value);
    if (yyjson_is_num(value)) {
        row->type = str_eq(type, STR("BOOLEAN")) ? STR("boolean") : STR("numeric");
        row->has_value = true;
        row->value = yyjson_get_num(value);
    } else if (yyjson_is_str(value) && text.n <= TEXT_BYTES_MAX) {
        bool category = !type.n || str_eq(type, STR("CATEGORICAL"));
        row->type = category ? STR("categorical") : STR("text");
        row->text = text;
    } else {
        return refuse(call, "value", "a number or a text is needed");
    }
    return RC_OK;
}

static enum rc read_score(struct api_call *call, yyjson_val *body, struct score_row *row)
{
    struct str trace = json_get_text(body, "traceId"), session = json_get_text(body, "sessionId");
    *row = (struct score_row){.project = call->principal->project,
                              .id = id_new(),
                              .key = json_get_text(body, "id"),
                              .target = trace.n ? STR("trace") : STR("session"),
                              .target_id = trace.n ? trace : session,
                              .observation = json_get_text(body, "observationId"),
                              .name = json_get_text(body, "name"),
                              .comment = json_get_text(body, "comment"),
                              .source = STR("langfuse"),
                              .author = call->principal->name,
                              .created_ns = db_txn_now_ns(call->txn),
                              .updated_ns = db_txn_now_ns(call->txn)};
    if (!row->name.n || row->name.n > ID_BYTES_MAX)
        return refuse(call, "name", "a name is needed");
    if (!row->target_id.n || row->target_id.n > ID_BYTES_MAX)
        return refuse(call, "traceId", "the id of a trace or of a session is needed");
    if (row->key.n > ID_BYTES_MAX || row->observation.n > ID_BYTES_MAX ||
        row->comment.n > TEXT_BYTES_MAX)
        return refuse(call, "comment", "it is too long");
    return read_value(call, body, row);
}

enum rc api_langfuse_score_create(struct api_call *call)
{
    struct score_row row;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = read_score(call, call->body, &row);
    if (rc == RC_OK)
        rc = score_table_put(call->txn, &row, call->arena, &call->err);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    api_put_str(call, call->answer, "id", row.key);
    return RC_OK;
}

/* ---- showing ---- */

static yyjson_mut_val *encode(struct api_call *call, const struct score_row *row)
{
    static const struct {
        const char *type, *name;
    } types[] = {{"boolean", "BOOLEAN"},
                 {"numeric", "NUMERIC"},
                 {"categorical", "CATEGORICAL"},
                 {"text", "TEXT"}};
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    bool trace = str_eq(row->target, STR("trace"));
    api_put_str(call, o, "id", row->key);
    api_put_str(call, o, "traceId", trace ? row->target_id : STR_EMPTY);
    api_put_str(call, o, "sessionId",
                str_eq(row->target, STR("session")) ? row->target_id : STR_EMPTY);
    api_put_str(call, o, "observationId", row->observation.n ? row->observation : STR_EMPTY);
    api_put_str(call, o, "name", row->name);
    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (str_eq(row->type, str_from(types[i].type)))
            yyjson_mut_obj_add_str(call->doc, o, "dataType", types[i].name);
    if (row->has_value)
        yyjson_mut_obj_add_real(call->doc, o, "value", row->value);
    else
        yyjson_mut_obj_add_int(call->doc, o, "value", 0);
    api_put_str(call, o, "stringValue", row->text.n ? row->text : STR_EMPTY);
    api_put_str(call, o, "comment", row->comment.n ? row->comment : STR_EMPTY);
    yyjson_mut_obj_add_obj(call->doc, o, "metadata");
    yyjson_mut_obj_add_str(call->doc, o, "source", "API");
    yyjson_mut_obj_add_str(call->doc, o, "environment", "default");
    api_put_time(call, o, "timestamp", row->created_ns);
    api_put_time(call, o, "createdAt", row->created_ns);
    api_put_time(call, o, "updatedAt", row->updated_ns);
    return o;
}

enum rc api_langfuse_score_get(struct api_call *call)
{
    struct score_row row;
    enum rc rc = score_table_get(call->txn, call->principal->project, call->params[0], call->arena,
                                 &row, &call->err);
    if (rc == RC_OK)
        call->answer = encode(call, &row);
    return rc;
}

enum rc api_langfuse_score_delete(struct api_call *call)
{
    bool deleted;
    enum rc rc = score_table_delete(call->txn, call->principal->project, call->params[0], &deleted,
                                    &call->err);
    if (rc == RC_OK && !deleted)
        rc = err_set(&call->err, ERR_NOT_FOUND, "There is no such score.");
    return rc;
}

/* Pages by number: those of a trace or of a name are few; page * limit is bounded. */
enum rc api_langfuse_scores_list(struct api_call *call)
{
    struct score_row *rows;
    size_t count;
    int64_t page, limit;
    struct score_filter filter = {.target_id = api_query(call, "traceId"),
                                  .name = api_query(call, "name")};
    enum rc rc = api_query_i64(call, "page", 1, &page);
    if (rc == RC_OK)
        rc = api_query_i64(call, "limit", 50, &limit);
    limit = MAX(1, MIN(limit, 100));
    page = MAX(1, MIN(page, 100));
    if (!filter.target_id.n)
        filter.target_id = api_query(call, "sessionId");
    if (rc == RC_OK)
        rc = score_table_list(call->txn, call->principal->project, &filter, (size_t)(page * limit),
                              call->arena, &rows, &count, &call->err);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_val *data = yyjson_mut_obj_add_arr(call->doc, call->answer, "data");
    for (size_t i = (size_t)((page - 1) * limit); i < count && i < (size_t)(page * limit); i++)
        yyjson_mut_arr_append(data, encode(call, &rows[i]));
    yyjson_mut_val *meta = yyjson_mut_obj_add_obj(call->doc, call->answer, "meta");
    yyjson_mut_obj_add_sint(call->doc, meta, "page", page);
    yyjson_mut_obj_add_sint(call->doc, meta, "limit", limit);
    yyjson_mut_obj_add_uint(call->doc, meta, "totalItems", count);
    yyjson_mut_obj_add_sint(call->doc, meta, "totalPages", ((int64_t)count + limit - 1) / limit);
    return RC_OK;
}

/* ---- batches ---- */

static void put_outcome(struct api_call *call, yyjson_mut_val *list, yyjson_val *event, int status,
                        const char *message)
{
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, list);
    api_put_str(call, o, "id", json_get_text(event, "id"));
    yyjson_mut_obj_add_int(call->doc, o, "status", status);
    if (message)
        yyjson_mut_obj_add_strcpy(call->doc, o, "message", message);
}

/* Scores are kept; traces of the old kind are told that they are not. */
enum rc api_langfuse_ingestion(struct api_call *call)
{
    size_t i, n;
    yyjson_val *event;
    call->status = 207;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_val *successes = yyjson_mut_obj_add_arr(call->doc, call->answer, "successes"),
                   *errors = yyjson_mut_obj_add_arr(call->doc, call->answer, "errors");
    yyjson_arr_foreach(yyjson_obj_get(call->body, "batch"), i, n, event)
    {
        struct score_row row;
        call->err = (struct err){0};
        if (!str_eq(json_get_text(event, "type"), STR("score-create"))) {
            put_outcome(call, errors, event, 501, "Capstan does not keep these events");
            continue;
        }
        enum rc rc = read_score(call, yyjson_obj_get(event, "body"), &row);
        if (rc == RC_OK &&
            (rc = score_table_put(call->txn, &row, call->arena, &call->err)) != RC_OK)
            return rc;
        if (rc == RC_OK)
            put_outcome(call, successes, event, 201, NULL);
        else
            put_outcome(call, errors, event, 400, call->err.message);
    }
    call->err = (struct err){0};
    return RC_OK;
}
