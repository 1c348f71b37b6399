/* Scripts are put into a folder of their own before they run, since one calls another by its place
 * beside itself; the folder goes when the script has ended. */
#include "model/script.h"
#include "base/clock.h"
#include "base/log.h"
#include "model/engine_private.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANCEL_GRACE_NS (5 * NS_PER_S)
#define ARGUMENTS_MAX   24
#define PATH_BYTES_MAX  1024

struct script {
    char name[64];
    char folder[PATH_BYTES_MAX];
    struct child *child;
    struct script_calls calls;
    void *arg;
    bool cancelled;
    char last_words[ERR_MESSAGE_BYTES_MAX]; /* last line on its standard error */
};

static enum rc write_text(const char *folder, const struct script_text *text, struct err *err)
{
    char path[PATH_BYTES_MAX + 64];
    snprintf(path, sizeof(path), "%s/%s", folder, text->name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    bool ok = fd >= 0 && write(fd, text->text.p, text->text.n) == (ssize_t)text->text.n;
    int failure = errno;
    if (fd >= 0)
        ok = close(fd) == 0 && ok;
    if (!ok)
        return err_set(err, ERR_INTERNAL, "%s cannot be written: %s", path, strerror(failure));
    return RC_OK;
}

static void remove_folder(const char *folder)
{
    char path[PATH_BYTES_MAX + 64];
    for (size_t i = 0; i < script_text_count; i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, script_texts[i].name);
        unlink(path);
    }
    rmdir(folder);
}

static enum rc put_texts(struct script *script, const char *directory, struct err *err)
{
    snprintf(script->folder, sizeof(script->folder), "%s/.scripts-XXXXXX", directory);
    if (!mkdtemp(script->folder)) {
        int failure = errno;
        script->folder[0] = 0;
        return err_set(err, ERR_INTERNAL, "%s: no folder can be made: %s", directory,
                       strerror(failure));
    }
    for (size_t i = 0; i < script_text_count; i++) {
        enum rc rc = write_text(script->folder, &script_texts[i], err);
        if (rc)
            return rc;
    }
    return RC_OK;
}

static void script_free(struct script *script)
{
    if (script->folder[0])
        remove_folder(script->folder);
    free(script);
}

/* "progress 3 10 fetching it" */
static bool take_progress(struct script *script, struct str line)
{
    struct str rest = line, word, done, total;
    int64_t done_n, total_n;
    if (!str_starts(line, STR("progress ")) || !str_split(&rest, ' ', &word) ||
        !str_split(&rest, ' ', &done) || !str_split(&rest, ' ', &total) ||
        str_to_i64(done, &done_n) != RC_OK || str_to_i64(total, &total_n) != RC_OK)
        return false;
    if (script->calls.progress && !script->cancelled)
        script->calls.progress(script->arg, done_n, total_n, rest);
    return true;
}

static void script_line(void *owner, struct child *child, bool is_stderr, struct str line)
{
    struct script *script = owner;
    if (!is_stderr && take_progress(script, line))
        return;
    if (is_stderr && line.n)
        snprintf(script->last_words, sizeof(script->last_words), "%.*s", STR_ARG(line));
    log_event(LOG_INFO, "script_output", LOG_Z("script", script->name), LOG_STR("line", line));
}

static void script_ended(void *owner, struct child *child, int status, const char *reason)
{
    struct script *script = owner;
    struct err err = {0};
    if (script->cancelled)
        err_set(&err, ERR_CANCELLED, "cancelled");
    else if (status != 0)
        err_set(&err, ERR_INTERNAL, "%s failed: %s", script->name,
                script->last_words[0] ? script->last_words
                : reason && reason[0] ? reason
                                      : "no reason given");
    script->calls.done(script->arg, err.code == ERR_NONE ? NULL : &err);
    script_free(script);
}

static const struct child_owner SCRIPT_CALLS = {.line = script_line, .ended = script_ended};

static enum rc run(struct script *script, struct loop *loop, const struct script_options *options,
                   struct err *err)
{
    const char *argv[ARGUMENTS_MAX + 3], *envp[ENGINE_ENVP_MAX + 1];
    char path[PATH_BYTES_MAX + 64];
    struct arena arena;
    size_t argc = 0, env_count;
    snprintf(path, sizeof(path), "%s/%s", script->folder, options->name);
    argv[argc++] = "/bin/sh";
    argv[argc++] = path;
    for (const char *const *next = options->arguments; *next; next++) {
        ASSERT(argc < ARGUMENTS_MAX + 2);
        argv[argc++] = *next;
    }
    argv[argc] = NULL;
    arena_init(&arena, 64 * 1024);
    if (engine_environment(&arena, envp, ENGINE_ENVP_MAX, &env_count) == RC_OK)
        script->child = child_start(loop, &(struct child_options){.argv = argv, .envp = envp},
                                    &SCRIPT_CALLS, script, err);
    else
        err_set(err, ERR_INTERNAL, "the environment is too large");
    arena_fini(&arena);
    return script->child ? RC_OK : err->rc;
}

struct script *script_start(struct loop *loop, const struct script_options *options,
                            const struct script_calls *calls, void *arg, struct err *err)
{
    struct script *script = xcalloc(1, sizeof(*script));
    snprintf(script->name, sizeof(script->name), "%s", options->name);
    script->calls = *calls;
    script->arg = arg;
    if (put_texts(script, options->directory, err) != RC_OK ||
        run(script, loop, options, err) != RC_OK) {
        script_free(script);
        return NULL;
    }
    return script;
}

void script_cancel(struct script *script)
{
    script->cancelled = true;
    child_end(script->child, CANCEL_GRACE_NS);
}
