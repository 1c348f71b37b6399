/* A collection's encoder is fetched by itself: the first run that finds documents queued and no
 * encoder begins the catalogue's pull, as the user would, and looks once a second whether it is
 * there (ingest_job.c). See knowledge_private.h. */
#include "encoder/encoder.h"
#include "knowledge/knowledge_private.h"
#include "model/catalogue.h"

/* Without the precision: "NAME:int8" is the model NAME. */
static struct str model_of(struct str encoder)
{
    ssize_t colon = str_rfind_char(encoder, ':');
    return colon >= 0 ? str_slice(encoder, 0, (size_t)colon) : encoder;
}

static bool can_be_fetched(struct str model)
{
    const struct catalogue_entry *entry = catalogue_find(model);
    return entry && entry->file_count > 0;
}

bool knowledge_encoder_missing(struct knowledge *knowledge, const struct collection_spec *spec)
{
    return collection_has_encoder(spec) && knowledge->encoders &&
           !encoders_has(knowledge->encoders, spec->encoder);
}

enum rc knowledge_find_fetch(struct db_txn *txn, struct id project, struct str encoder,
                             struct arena *arena, struct job_row *job, struct err *err)
{
    struct str model = model_of(encoder);
    struct str params = arena_printf(arena, "{\"name\":\"%.*s\"}", STR_ARG(model));
    if (!params.p)
        return err_set(err, ERR_OVERLOADED, "no memory for the encoder's name");
    return job_table_find_open(txn, project, STR("model_pull"), params, arena, job, err);
}

static enum rc begin_pull(struct knowledge *knowledge, struct db_txn *txn, struct id project,
                          struct str encoder, struct arena *arena, struct job_row *job,
                          struct err *err)
{
    enum rc rc = knowledge_find_fetch(txn, project, encoder, arena, job, err);
    if (rc != RC_NOT_FOUND)
        return rc;
    struct str params = arena_printf(arena, "{\"name\":\"%.*s\"}", STR_ARG(model_of(encoder)));
    return job_submit(knowledge->jobs, txn, project, "model_pull", params, STR("capstan"), arena,
                      job, err);
}

static void say_progress(struct knowledge *knowledge, struct job_row *job, struct str encoder,
                         struct arena *arena, struct encoder_fetch *fetch)
{
    job_refresh(knowledge->jobs, job, arena);
    if (job->total > 0)
        snprintf(fetch->message, sizeof(fetch->message),
                 "fetching the encoder %.*s: %lld of %lld MB", STR_ARG(encoder),
                 (long long)(job->done / 1000000), (long long)(job->total / 1000000));
    else
        snprintf(fetch->message, sizeof(fetch->message), "fetching the encoder %.*s",
                 STR_ARG(encoder));
}

enum rc encoder_fetch_check(struct knowledge *knowledge, struct db_txn *txn,
                            const struct collection *collection, struct arena *arena,
                            struct encoder_fetch *fetch, struct err *err)
{
    struct str encoder = collection->spec.encoder;
    struct job_row job;
    fetch->waits = false;
    fetch->failed[0] = 0;
    if (!knowledge_encoder_missing(knowledge, &collection->spec) ||
        !can_be_fetched(model_of(encoder)))
        return RC_OK;
    const struct document_filter queued = {.project = collection->row.project,
                                           .collection = collection->row.id,
                                           .states = 1u << DOCUMENT_QUEUED};
    struct document_counts counts;
    enum rc rc = document_rows_count(txn, &queued, &counts, err);
    if (rc != RC_OK || counts.total == 0) /* nothing needs it */
        return rc;
    rc = id_is_zero(fetch->pull)
             ? begin_pull(knowledge, txn, collection->row.project, encoder, arena, &job, err)
             : job_table_get(txn, collection->row.project, fetch->pull, arena, &job, err);
    if (rc != RC_OK)
        return rc;
    fetch->pull = job.id;
    fetch->waits = str_eq(job.state, STR("queued")) || str_eq(job.state, STR("running"));
    if (fetch->waits)
        say_progress(knowledge, &job, encoder, arena, fetch);
    else
        snprintf(fetch->failed, sizeof(fetch->failed),
                 "its encoder %.*s could not be fetched: %.*s. Try again, or add it by hand under "
                 "Models",
                 STR_ARG(encoder), STR_ARG(str_slice(job.error.n ? job.error : job.state, 0, 300)));
    return RC_OK;
}
