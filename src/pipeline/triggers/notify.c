/* Telling a webhook that a run has ended. The job is there before the run begins and waits for it,
 * so no end is lost; what cannot be delivered is tried again with the jobs' backoff. The message is
 * signed as Standard Webhooks say: headers webhook-id, webhook-timestamp, webhook-signature. */
#include "base/clock.h"
#include "pipeline/engine/await.h"
#include "pipeline/tools/connector.h"
#include "pipeline/triggers/triggers_private.h"
#include "text/json.h"
#include "text/json_writer.h"
#include <stdio.h>
#include <stdlib.h>

#define NOTIFY_ATTEMPTS_MAX 12 /* the last some forty minutes after the first */
#define START_GRACE_NS      (60 * NS_PER_S)
#define MESSAGE_BYTES_MAX   (16 * 1024 * 1024)
#define NOTIFY_ARENA_BYTES  (96 * 1024 * 1024)
#define KIND                "run_webhook"

struct notice {
    struct triggers *all;
    struct job_run *job;
    struct await *await;
    struct fetch *fetch;
    struct arena arena;
    struct str url, secret;
};

static struct str secret_context(struct id project, struct arena *arena)
{
    char id[ID_TEXT_BYTES_MAX];
    id_format(project, "proj", id);
    return arena_printf(arena, "%s/" KIND, id);
}

enum rc triggers_notify(struct triggers *all, struct db_txn *txn, struct id project, struct str url,
                        struct str secret, struct str author, struct arena *arena,
                        struct job_row *out, struct err *err)
{
    struct str sealed = STR_EMPTY;
    struct url parsed;
    struct buf params;
    enum rc rc = url_parse(url, &parsed, err);
    if (rc != RC_OK ||
        (!str_eq(parsed.scheme, STR("https")) && !str_eq(parsed.scheme, STR("http"))))
        return err_set_field(err, ERR_BAD_FIELD, "webhook.url",
                             "The webhook's address is no http: or https: address.");
    if (secret.n < TRIGGER_SECRET_BYTES_MIN)
        return err_set_field(err, ERR_BAD_FIELD, "webhook.secret",
                             "A secret of %d characters or more signs the message.",
                             TRIGGER_SECRET_BYTES_MIN);
    rc = secret_seal(db_txn_secrets(txn), secret_context(project, arena), secret, arena, &sealed,
                     err);
    if (rc != RC_OK)
        return rc;
    buf_init(&params, 64 * 1024);
    struct json_writer w = json_writer_to(&params);
    json_begin_object(&w);
    json_put_string(&w, "url", url);
    json_put_string(&w, "secret", sealed);
    json_end_object(&w);
    struct str text = w.rc == RC_OK ? arena_copy(arena, buf_str(&params)) : STR_EMPTY;
    buf_fini(&params);
    if (!text.p)
        return err_set_field(err, ERR_BAD_FIELD, "webhook.url", "The address is too long.");
    return job_submit(all->options.jobs, txn, project, KIND, text, author, arena, out, err);
}

static void notice_end(struct notice *notice, const struct err *err)
{
    char text[64];
    int n =
        notice->fetch ? snprintf(text, sizeof(text), "{\"status\":%d}", notice->fetch->status) : 0;
    struct fetch *fetch = notice->fetch;
    job_finish(notice->job, str_make(text, (size_t)n), err);
    fetch_free(fetch);
    arena_fini(&notice->arena);
    free(notice);
}

static void on_delivered(void *arg, struct fetch *fetch, const struct err *err)
{
    struct notice *notice = arg;
    struct err problem = {0};
    if (err)
        problem = *err;
    else if (fetch->status < 200 || fetch->status > 299)
        err_set(&problem, ERR_UPSTREAM, "the webhook answered with status %d", fetch->status);
    notice_end(notice, problem.code == ERR_NONE ? NULL : &problem);
}

/* The run without its inputs and nodes, which may be large. */
static struct str make_message(struct notice *notice, yyjson_val *run)
{
    size_t i, n;
    yyjson_val *key, *value;
    struct buf out;
    char iso[CLOCK_ISO_BYTES_MAX];
    buf_init(&out, MESSAGE_BYTES_MAX);
    struct json_writer w = json_writer_to(&out);
    json_begin_object(&w);
    json_put_text(&w, "type", "run.finished");
    json_put_string(
        &w, "timestamp",
        str_make(iso, clock_format_iso(loop_wall_ns(notice->all->options.loop), 3, iso)));
    json_key(&w, "data");
    json_begin_object(&w);
    yyjson_obj_foreach(run, i, n, key, value)
    {
        if (yyjson_equals_str(key, "nodes") || yyjson_equals_str(key, "inputs"))
            continue;
        json_key_str(&w, json_text(key));
        json_value(&w, value);
    }
    json_end_object(&w);
    json_end_object(&w);
    struct str text = w.rc == RC_OK ? arena_copy(&notice->arena, buf_str(&out)) : STR_EMPTY;
    buf_fini(&out);
    return text;
}

static enum rc add_headers(struct notice *notice, struct fetch *fetch, struct err *err)
{
    char id[ID_TEXT_BYTES_MAX];
    int64_t at_s = loop_wall_ns(notice->all->options.loop) / NS_PER_S;
    struct str name = str_make(id, id_format(job_run_id(notice->job), "run", id));
    struct str signature = webhook_sign(notice->secret, name, at_s, fetch->body, &fetch->arena);
    struct str time = arena_printf(&fetch->arena, "%lld", (long long)at_s);
    const struct http_header headers[] = {{STR("content-type"), STR("application/json")},
                                          {STR("webhook-id"), arena_copy(&fetch->arena, name)},
                                          {STR("webhook-timestamp"), time},
                                          {STR("webhook-signature"), signature}};
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < COUNT_OF(headers); i++)
        rc = headers[i].value.p ? fetch_add_header(fetch, headers[i].name, headers[i].value, err)
                                : err_set(err, ERR_TOO_LARGE, "the message is too large");
    return rc;
}

static void deliver(struct notice *notice, yyjson_val *run)
{
    struct triggers *all = notice->all;
    struct err err = {0};
    struct fetch *fetch = notice->fetch = fetch_new();
    fetch->method = STR("POST");
    fetch->url = notice->url;
    fetch->body = make_message(notice, run);
    fetch->repeatable = true; /* its id is the same each time */
    enum rc rc = fetch->body.p ? add_headers(notice, fetch, &err)
                               : err_set(&err, ERR_TOO_LARGE, "the run's result is too large");
    if (rc == RC_OK)
        rc = fetch_prepare(fetch,
                           pipelines_loop(all->options.pipelines, loop_index(all->options.loop)),
                           STR_EMPTY, &err);
    if (rc == RC_OK)
        fetch_send(fetch, on_delivered, notice);
    else
        notice_end(notice, &err);
}

static void on_awaited(void *arg, enum await_end end, struct str json)
{
    struct notice *notice = arg;
    struct err err = {0};
    yyjson_doc *doc;
    notice->await = NULL;
    if (end == AWAIT_ENDED && json_read(json, &notice->arena, &doc, NULL) == RC_OK) {
        deliver(notice, yyjson_doc_get_root(doc));
        return;
    }
    err_set(&err, ERR_NOT_FOUND, "the run did not begin, or its record is gone");
    notice_end(notice, &err);
}

static void *notify_start(void *arg, struct job_run *job, yyjson_val *params)
{
    struct triggers *all = arg;
    struct notice *notice = xcalloc(1, sizeof(*notice));
    struct err err = {0};
    struct id project = job_run_project(job);
    notice->all = all;
    notice->job = job;
    arena_init(&notice->arena, NOTIFY_ARENA_BYTES);
    notice->url = arena_copy(&notice->arena, json_get_text(params, "url"));
    if (secret_resolve(all->options.secrets, secret_context(project, &notice->arena),
                       json_get_text(params, "secret"), &notice->arena, &notice->secret,
                       &err) != RC_OK) {
        notice_end(notice, &err);
        return NULL;
    }
    notice->await =
        await_run(all->options.pipelines, all->options.loop, all->options.workers, project,
                  job_run_id(job), INT64_MAX, START_GRACE_NS, on_awaited, notice);
    return notice;
}

static void notify_cancel(void *arg, void *handle)
{
    struct notice *notice = handle;
    struct err err = {0};
    UNUSED(arg);
    if (notice->await)
        await_cancel(notice->await);
    err_set(&err, ERR_CANCELLED, "cancelled");
    notice_end(notice, &err);
}

void notify_register(struct triggers *all)
{
    jobs_register(all->options.jobs, &(struct job_kind){.name = KIND,
                                                        .attempts_max = NOTIFY_ATTEMPTS_MAX,
                                                        .start = notify_start,
                                                        .cancel = notify_cancel,
                                                        .arg = all});
}
