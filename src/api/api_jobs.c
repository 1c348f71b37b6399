/* /api/jobs: long work, its progress, and asking it to stop. */
#include "api/handlers.h"
#include "job/job.h"
#include <stdio.h>

static enum rc read_job_id(struct api_call *call, struct id *id)
{
    if (id_parse(call->params[0], "job", id) == RC_OK)
        return RC_OK;
    return err_set(&call->err, ERR_NOT_FOUND, "'%.*s' is not a job's id (job_…)",
                   STR_ARG(call->params[0]));
}

enum rc api_jobs_list(struct api_call *call)
{
    struct job_row *rows;
    size_t count, limit;
    int64_t before;
    if (api_query_limit(call, &limit) != RC_OK ||
        api_query_i64(call, "cursor", 0, &before) != RC_OK)
        return RC_INVALID;
    enum rc rc = job_table_list(call->txn, call->principal->project, api_query(call, "state"),
                                before, limit, call->arena, &rows, &count, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++) {
        job_refresh(call->services->jobs, &rows[i], call->arena);
        yyjson_mut_arr_append(items, job_encode(&rows[i], call->doc));
    }
    char cursor[24];
    int n =
        count ? snprintf(cursor, sizeof(cursor), "%lld", (long long)rows[count - 1].created_ns) : 0;
    api_list_end(call, count == limit ? str_make(cursor, (size_t)n) : STR_EMPTY);
    return RC_OK;
}

enum rc api_jobs_get(struct api_call *call)
{
    struct job_row row;
    struct id id;
    if (read_job_id(call, &id) != RC_OK)
        return RC_NOT_FOUND;
    enum rc rc =
        job_table_get(call->txn, call->principal->project, id, call->arena, &row, &call->err);
    if (rc != RC_OK)
        return rc;
    job_refresh(call->services->jobs, &row, call->arena);
    call->answer = job_encode(&row, call->doc);
    return RC_OK;
}

enum rc api_jobs_cancel(struct api_call *call)
{
    struct job_row row;
    struct id id;
    if (read_job_id(call, &id) != RC_OK)
        return RC_NOT_FOUND;
    const struct actor actor = api_actor(call);
    enum rc rc = job_cancel(call->services->jobs, call->txn, call->principal->project, id,
                            call->arena, &row, &call->err);
    if (rc == RC_OK)
        rc = audit_write(call->txn, &actor, call->principal->project, "cancel", STR("job"),
                         call->params[0], STR_EMPTY, STR_EMPTY, &call->err);
    call->answer = job_encode(&row, call->doc);
    return rc;
}
