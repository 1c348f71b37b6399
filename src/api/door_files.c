/* /v1/files: uploaded files, in OpenAI's shape.
 * https://platform.openai.com/docs/api-reference/files */
#include "api/door_objects.h"
#include "base/clock.h"
#include "http/multipart.h"
#include "text/json.h"

#define FILE_EXPIRES_S_MIN 3600
#define FILE_EXPIRES_S_MAX 2592000
#define FILES_LIMIT_MAX    10000
#define FILE_USES_MAX      1000

/* ---- shapes ---- */

enum rc door_read_page(struct api_call *call, const char *prefix, size_t limit_max,
                       struct door_page *out)
{
    struct str after = api_query(call, "after"), order = api_query(call, "order");
    int64_t limit;
    *out = (struct door_page){0};
    enum rc rc = api_query_i64(call, "limit", (int64_t)MIN(limit_max, (size_t)20), &limit);
    if (rc != RC_OK)
        return rc;
    if (limit < 1 || (size_t)limit > limit_max)
        return err_set_field(&call->err, ERR_BAD_FIELD, "limit", "'limit' must be 1 to %zu",
                             limit_max);
    if (order.n && !str_eq(order, STR("asc")) && !str_eq(order, STR("desc")))
        return err_set_field(&call->err, ERR_BAD_FIELD, "order", "'order' is asc or desc");
    rc = after.n == 0 ? RC_OK
         : prefix     ? id_parse(after, prefix, &out->after)
                      : file_id_parse(after, &out->after);
    if (rc != RC_OK)
        return err_set_field(&call->err, ERR_BAD_FIELD, "after", "'after' is no id of such a list");
    out->limit = (size_t)limit;
    out->ascending = str_eq(order, STR("asc"));
    return RC_OK;
}

yyjson_mut_val *door_list_begin(struct api_call *call)
{
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_str(call->doc, call->answer, "object", "list");
    return yyjson_mut_obj_add_arr(call->doc, call->answer, "data");
}

void door_list_end(struct api_call *call, struct str first, struct str last, bool more)
{
    api_put_str(call, call->answer, "first_id", first.n ? first : STR_EMPTY);
    api_put_str(call, call->answer, "last_id", last.n ? last : STR_EMPTY);
    yyjson_mut_obj_add_bool(call->doc, call->answer, "has_more", more);
}

void door_put_seconds(struct api_call *call, yyjson_mut_val *o, const char *name, int64_t ns)
{
    if (ns)
        yyjson_mut_obj_add_sint(call->doc, o, name, ns / NS_PER_S);
    else
        yyjson_mut_obj_add_null(call->doc, o, name);
}

void door_answer_deleted(struct api_call *call, struct str id, const char *object)
{
    call->answer = yyjson_mut_obj(call->doc);
    api_put_str(call, call->answer, "id", id);
    yyjson_mut_obj_add_str(call->doc, call->answer, "object", object);
    yyjson_mut_obj_add_true(call->doc, call->answer, "deleted");
}

static yyjson_mut_val *encode_file(struct api_call *call, const struct file_row *row)
{
    char id[ID_TEXT_BYTES_MAX];
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_strncpy(call->doc, o, "id", id, file_id_format(row->id, id));
    yyjson_mut_obj_add_str(call->doc, o, "object", "file");
    yyjson_mut_obj_add_sint(call->doc, o, "bytes", row->bytes);
    door_put_seconds(call, o, "created_at", row->created_ns);
    if (row->expires_ns)
        door_put_seconds(call, o, "expires_at", row->expires_ns);
    api_put_str(call, o, "filename", row->name);
    api_put_str(call, o, "purpose", row->purpose);
    yyjson_mut_obj_add_str(call->doc, o, "status", "processed");
    return o;
}

/* ---- handlers ---- */

static enum rc read_expiry(struct api_call *call, struct str text, int64_t *ns)
{
    int64_t seconds;
    if (text.n == 0)
        return RC_OK;
    if (str_to_i64(text, &seconds) != RC_OK || seconds < FILE_EXPIRES_S_MIN ||
        seconds > FILE_EXPIRES_S_MAX)
        return err_set_field(&call->err, ERR_BAD_FIELD, "expires_after[seconds]",
                             "a file expires after %d to %d seconds", FILE_EXPIRES_S_MIN,
                             FILE_EXPIRES_S_MAX);
    *ns = seconds * NS_PER_S;
    return RC_OK;
}

static enum rc read_upload(struct api_call *call, struct file_row *row, struct str *content)
{
    struct multipart form;
    struct multipart_part part;
    struct str expires = STR_EMPTY;
    enum rc rc;
    content->p = NULL;
    multipart_init(&form, call->raw_body, multipart_boundary(call->body_type));
    while ((rc = multipart_next(&form, &part)) == RC_OK) {
        if (str_eq(part.name, STR("file")) && part.filename.p) {
            row->name = part.filename.n ? part.filename : STR("file");
            row->content_type = part.content_type;
            *content = part.body;
        } else if (str_eq(part.name, STR("purpose"))) {
            row->purpose = part.body;
        } else if (str_eq(part.name, STR("expires_after[seconds]"))) {
            expires = part.body;
        }
    }
    if (rc != RC_END)
        return err_set(&call->err, ERR_INVALID, "send the file as multipart/form-data");
    if (!content->p)
        return err_set_field(&call->err, ERR_MISSING_FIELD, "file", "the form holds no file");
    if (row->purpose.n == 0 || row->purpose.n > 64)
        return err_set_field(&call->err, ERR_MISSING_FIELD, "purpose",
                             "say what the file is for: assistants, user_data, …");
    return read_expiry(call, expires, &row->expires_ns);
}

enum rc door_files_create(struct api_call *call)
{
    struct file_row row = {.project = call->principal->project};
    struct str content;
    enum rc rc = read_upload(call, &row, &content);
    if (rc == RC_OK)
        rc = knowledge_add_file(call->services->knowledge, &row, content, &call->err);
    if (rc == RC_OK)
        call->answer = encode_file(call, &row);
    return rc;
}

static enum rc read_id(struct api_call *call, struct id *id)
{
    if (file_id_parse(call->params[0], id) == RC_OK)
        return RC_OK;
    return err_set(&call->err, ERR_NOT_FOUND, "No such File object: %.*s",
                   (int)MIN(call->params[0].n, (size_t)64), call->params[0].p);
}

enum rc door_files_list(struct api_call *call)
{
    struct door_page page;
    struct file_row *rows;
    char first[ID_TEXT_BYTES_MAX], last[ID_TEXT_BYTES_MAX];
    size_t count;
    enum rc rc = door_read_page(call, NULL, FILES_LIMIT_MAX, &page);
    if (rc == RC_OK)
        rc = file_row_list(call->txn, call->principal->project, api_query(call, "purpose"),
                           page.after, page.ascending, page.limit + 1, call->arena, &rows, &count,
                           &call->err);
    if (rc != RC_OK)
        return rc;
    bool more = count > page.limit;
    count = MIN(count, page.limit);
    yyjson_mut_val *data = door_list_begin(call);
    for (size_t i = 0; i < count; i++)
        yyjson_mut_arr_append(data, encode_file(call, &rows[i]));
    size_t a = count ? file_id_format(rows[0].id, first) : 0,
           b = count ? file_id_format(rows[count - 1].id, last) : 0;
    door_list_end(call, str_make(first, a), str_make(last, b), more);
    return RC_OK;
}

enum rc door_files_get(struct api_call *call)
{
    struct file_row row;
    struct id id;
    enum rc rc = read_id(call, &id);
    if (rc == RC_OK)
        rc = file_row_get(call->txn, call->principal->project, id, call->arena, &row, &call->err);
    if (rc == RC_OK)
        call->answer = encode_file(call, &row);
    return rc;
}

static enum rc find_file(struct api_call *call, struct file_row *row)
{
    struct db_txn *txn;
    struct id id;
    enum rc rc = read_id(call, &id);
    if (rc == RC_OK)
        rc = db_read_begin(call->services->db, &txn, &call->err);
    if (rc != RC_OK)
        return rc;
    rc = file_row_get(txn, call->principal->project, id, call->arena, row, &call->err);
    db_read_end(txn);
    return rc;
}

/* It also leaves the vector stores that it is in. */
enum rc door_files_delete(struct api_call *call)
{
    struct file_row row;
    enum rc rc = find_file(call, &row);
    if (rc == RC_OK)
        rc = knowledge_delete_file(call->services->knowledge, &row, call->arena, &call->err);
    if (rc == RC_OK)
        door_answer_deleted(call, call->params[0], "file");
    return rc;
}

enum rc door_files_content(struct api_call *call)
{
    struct file_row row;
    enum rc rc = find_file(call, &row);
    return rc == RC_OK ? api_answer_blob(call, row.sha256, STR("application/octet-stream")) : rc;
}
