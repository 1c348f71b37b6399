/* /api/feedback: what people and programs say about an answer (thumbs, a number or a category, a
 * comment, the answer as it should have been), kept as scores of a call or a run. Said again by the
 * same author under the same name, it replaces what he said before. */
#include "api/handlers.h"
#include "api/scores.h"
#include "base/clock.h"
#include "pipeline/engine/pipeline.h"
#include "pipeline/engine/run_index.h"
#include "text/json_tree.h"
#include "trace/trace.h"

#define NAME_BYTES_MAX 128
#define TEXT_BYTES_MAX (64 * 1024)

/* ---- reading ---- */

static enum rc read_text(yyjson_val *body, const char *name, size_t bytes_max, struct str *out,
                         struct err *err)
{
    yyjson_val *value = yyjson_obj_get(body, name);
    if (!value || yyjson_is_null(value))
        return RC_OK;
    if (!yyjson_is_str(value) || yyjson_get_len(value) > bytes_max)
        return err_set_field(err, ERR_BAD_FIELD, name, "'%s' is a text of at most %zu bytes.", name,
                             bytes_max);
    *out = json_text(value);
    return RC_OK;
}

static void set_value(struct score_row *row, const char *type, double value)
{
    row->type = str_from(type);
    row->has_value = true;
    row->value = value;
}

static enum rc read_value(yyjson_val *value, struct score_row *row, struct err *err)
{
    struct str text = json_text(value);
    if (str_eq(text, STR("up")) || str_eq(text, STR("down")))
        set_value(row, "boolean", str_eq(text, STR("up")));
    else if (yyjson_is_bool(value))
        set_value(row, "boolean", yyjson_get_bool(value));
    else if (yyjson_is_num(value))
        set_value(row, "numeric", yyjson_get_num(value));
    else if (text.n && text.n <= NAME_BYTES_MAX) {
        row->type = STR("categorical");
        row->text = text;
    } else if (value && !yyjson_is_null(value))
        return err_set_field(err, ERR_BAD_FIELD, "value",
                             "'value' is up, down, true, false, a number or a short text.");
    return RC_OK;
}

/* It must be there: feedback on a mistyped id would be lost. */
static enum rc find_target(struct api_services *services, struct str text, struct arena *arena,
                           struct score_row *row, struct err *err)
{
    struct run_index_row run;
    struct id id;
    row->target_id = text;
    if (id_parse(text, "run", &id) == RC_OK) {
        row->target = STR("run");
        if (run_index_get(pipelines_index(services->pipelines), row->project, id, arena, &run) ==
            RC_OK)
            return RC_OK;
        return err_set_field(err, ERR_NOT_FOUND, "id", "There is no such run.");
    }
    if (id_parse(text, "call", &id) != RC_OK)
        return err_set_field(err, ERR_BAD_FIELD, "id", "'id' is that of a run or of a call.");
    struct call_record *record = ARENA_NEW(arena, struct call_record);
    row->target = STR("call");
    if (!record)
        return err_set(err, ERR_OVERLOADED, "no memory for this request");
    return trace_get(services->trace, row->project, id, arena, record, err);
}

enum rc scores_read_feedback(struct api_services *services, struct id project, yyjson_val *body,
                             struct str author, const char *source, struct arena *arena,
                             struct score_row *out, struct err *err)
{
    struct str corrected = STR_EMPTY;
    *out = (struct score_row){.project = project,
                              .id = id_new(),
                              .name = STR("feedback"),
                              .type = STR("text"),
                              .source = str_from(source),
                              .author = author};
    enum rc rc = read_text(body, "name", NAME_BYTES_MAX, &out->name, err);
    if (rc == RC_OK)
        rc = read_text(body, "comment", TEXT_BYTES_MAX, &out->comment, err);
    if (rc == RC_OK)
        rc = read_text(body, "corrected", TEXT_BYTES_MAX, &corrected, err);
    if (rc == RC_OK)
        rc = read_value(yyjson_obj_get(body, "value"), out, err);
    if (rc == RC_OK && corrected.n && out->text.n)
        rc = err_set_field(err, ERR_BAD_FIELD, "corrected",
                           "A category and a corrected answer are two scores.");
    if (rc == RC_OK && corrected.n)
        out->text = corrected;
    if (rc == RC_OK && !out->has_value && !out->text.n && !out->comment.n)
        rc = err_set_field(err, ERR_MISSING_FIELD, "value",
                           "Say something: 'value', 'comment' or 'corrected'.");
    if (rc == RC_OK)
        rc = find_target(services, json_get_text(body, "id"), arena, out, err);
    out->key = arena_printf(arena, "%.*s/%.*s/%.*s", STR_ARG(out->target_id), STR_ARG(out->name),
                            STR_ARG(author));
    return rc;
}

/* ---- showing ---- */

static yyjson_mut_val *encode(struct api_call *call, const struct score_row *row)
{
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    bool category = str_eq(row->type, STR("categorical"));
    api_put_id(call, o, "id", "score", row->id);
    api_put_str(call, o, "target", row->target);
    api_put_str(call, o, "target_id", row->target_id);
    api_put_str(call, o, "observation", row->observation.n ? row->observation : STR_EMPTY);
    api_put_str(call, o, "name", row->name);
    api_put_str(call, o, "type", row->type);
    if (category)
        api_put_str(call, o, "value", row->text);
    else if (!row->has_value)
        yyjson_mut_obj_add_null(call->doc, o, "value");
    else if (str_eq(row->type, STR("boolean")))
        yyjson_mut_obj_add_bool(call->doc, o, "value", row->value != 0);
    else
        yyjson_mut_obj_add_real(call->doc, o, "value", row->value);
    api_put_str(call, o, "corrected", !category && row->text.n ? row->text : STR_EMPTY);
    api_put_str(call, o, "comment", row->comment.n ? row->comment : STR_EMPTY);
    api_put_str(call, o, "source", row->source);
    api_put_str(call, o, "author", row->author);
    api_put_time(call, o, "created_at", row->created_ns);
    api_put_time(call, o, "updated_at", row->updated_ns);
    return o;
}

enum rc api_feedback_list(struct api_call *call)
{
    struct score_row *rows;
    size_t limit, count;
    struct score_filter filter = {.target_id = api_query(call, "id"),
                                  .other_id = api_query(call, "trace"),
                                  .name = api_query(call, "name")};
    enum rc rc = api_query_limit(call, &limit);
    if (rc == RC_OK)
        rc = api_query_i64(call, "cursor", 0, &filter.before_ns);
    if (rc == RC_OK)
        rc = score_table_list(call->txn, call->principal->project, &filter, limit, call->arena,
                              &rows, &count, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count && i < limit; i++)
        yyjson_mut_arr_append(items, encode(call, &rows[i]));
    api_list_end(call, count > limit ? arena_printf(call->arena, "%lld",
                                                    (long long)rows[limit - 1].created_ns)
                                     : STR_EMPTY);
    return RC_OK;
}

/* ---- changing ---- */

struct saying {
    struct score_row row;
    struct arena *arena;
};

static enum rc write_score(void *arg, struct db_txn *txn, struct err *err)
{
    struct saying *saying = arg;
    saying->row.created_ns = saying->row.updated_ns = db_txn_now_ns(txn);
    return score_table_put(txn, &saying->row, saying->arena, err);
}

/* On a worker: the call is looked for in the trace store, which may read files. */
enum rc api_feedback_create(struct api_call *call)
{
    struct saying saying = {.arena = call->arena};
    bool console = !id_is_zero(call->principal->session);
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = scores_read_feedback(call->services, call->principal->project, call->body,
                                  call->principal->name, console ? "console" : "api", call->arena,
                                  &saying.row, &call->err);
    if (rc == RC_OK)
        rc = db_write_wait(call->services->db, write_score, &saying, &call->err);
    if (rc != RC_OK)
        return rc;
    call->status = 201;
    call->answer = encode(call, &saying.row);
    return RC_OK;
}

enum rc api_feedback_delete(struct api_call *call)
{
    bool deleted;
    enum rc rc = score_table_delete(call->txn, call->principal->project, call->params[0], &deleted,
                                    &call->err);
    if (rc == RC_OK && !deleted)
        rc = err_set(&call->err, ERR_NOT_FOUND, "There is no such score.");
    return rc;
}
