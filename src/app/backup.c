/* See backup.h. Everything is copied to DIRECTORY.partial, synced, and renamed when complete. The
 * call records are immutable segments, an append log whose torn tail its reader skips, and a
 * manifest that names them: they are copied until the manifest was the same before and after, so
 * that no segment of it is missing. */
#include "app/backup.h"
#include "store/db.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES_MAX 4096
#define TRACE_TRIES    10

struct backup {
    struct backup_options options;
};

struct backup_run {
    struct work work;
    struct backup *backup;
    struct job_run *job;
    char directory[PATH_BYTES_MAX];
    struct err err;
};

static enum rc fail(struct err *err, const char *what, const char *path)
{
    int error = errno;
    return err_set(err, error == ENOSPC ? ERR_DISK_FULL : ERR_INTERNAL, "%s %s: %s", what, path,
                   strerror(error));
}

/* RC_NOT_FOUND: the source went away meanwhile. */
static enum rc copy_file(const char *from, const char *to, struct err *err)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return errno == ENOENT ? RC_NOT_FOUND : fail(err, "cannot read", from);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t n = out < 0 ? -1 : 1;
    while (n > 0)
        n = copy_file_range(in, NULL, out, NULL, 64 << 20, 0);
    enum rc rc = n < 0 || fsync(out) < 0 ? fail(err, "cannot write", to) : RC_OK;
    close(in);
    if (out >= 0)
        close(out);
    return rc;
}

static enum rc sync_folder(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum rc rc = fd < 0 || fsync(fd) < 0 ? fail(err, "cannot sync", path) : RC_OK;
    if (fd >= 0)
        close(fd);
    return rc;
}

static enum rc copy_folder(const char *from, const char *to, struct err *err);

static enum rc copy_entry(const char *from, const char *to, const char *name, struct err *err)
{
    char source[PATH_BYTES_MAX], target[PATH_BYTES_MAX];
    struct stat info;
    snprintf(source, sizeof(source), "%s/%s", from, name);
    snprintf(target, sizeof(target), "%s/%s", to, name);
    if (lstat(source, &info) < 0)
        return errno == ENOENT ? RC_NOT_FOUND : fail(err, "cannot read", source);
    if (S_ISDIR(info.st_mode))
        return copy_folder(source, target, err);
    return S_ISREG(info.st_mode) ? copy_file(source, target, err) : RC_OK;
}

static enum rc copy_folder(const char *from, const char *to, struct err *err)
{
    struct dirent *entry;
    DIR *folder = opendir(from);
    enum rc rc = RC_OK;
    if (!folder)
        return errno == ENOENT ? RC_OK : fail(err, "cannot read", from);
    if (mkdir(to, 0700) < 0 && errno != EEXIST)
        rc = fail(err, "cannot make", to);
    while (rc == RC_OK && (entry = readdir(folder)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = copy_entry(from, to, entry->d_name, err);
    closedir(folder);
    return rc == RC_OK ? sync_folder(to, err) : rc;
}

/* Which manifest it is: each change replaces the file. */
static uint64_t manifest_stamp(const char *trace)
{
    char path[PATH_BYTES_MAX];
    struct stat info = {0};
    snprintf(path, sizeof(path), "%s/manifest", trace);
    if (stat(path, &info) < 0)
        return 0;
    return (uint64_t)info.st_ino * 31 + (uint64_t)info.st_mtim.tv_sec * 1000000007 +
           (uint64_t)info.st_mtim.tv_nsec;
}

static enum rc remove_tree(const char *path)
{
    char inner[PATH_BYTES_MAX];
    struct dirent *entry;
    DIR *folder = opendir(path);
    while (folder && (entry = readdir(folder))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
        if (unlink(inner) < 0 && remove_tree(inner) != RC_OK)
            break;
    }
    if (folder)
        closedir(folder);
    return rmdir(path) == 0 || errno == ENOENT ? RC_OK : RC_IO;
}

static enum rc copy_trace(const char *data, const char *to, struct err *err)
{
    char source[PATH_BYTES_MAX], target[PATH_BYTES_MAX];
    snprintf(source, sizeof(source), "%s/trace", data);
    snprintf(target, sizeof(target), "%s/trace", to);
    for (int i = 0; i < TRACE_TRIES; i++) {
        uint64_t stamp = manifest_stamp(source);
        enum rc rc = copy_folder(source, target, err);
        if (rc == RC_OK && stamp == manifest_stamp(source))
            return RC_OK;
        if (rc != RC_OK && rc != RC_NOT_FOUND)
            return rc;
        if (remove_tree(target) != RC_OK)
            return fail(err, "cannot clear", target);
    }
    return err_set(err, ERR_OVERLOADED,
                   "the call records changed too fast to be copied; try again later");
}

static enum rc copy_all(struct backup_run *run, const char *partial)
{
    static const char *const folders[] = {"secret", "blob"};
    const struct backup_options *options = &run->backup->options;
    char from[PATH_BYTES_MAX], to[PATH_BYTES_MAX];
    if (mkdir(partial, 0700) < 0)
        return fail(&run->err, "cannot make", partial);
    snprintf(to, sizeof(to), "%s/control.db", partial);
    enum rc rc = db_backup(options->db, to, &run->err);
    for (size_t i = 0; rc == RC_OK && i < COUNT_OF(folders); i++) {
        snprintf(from, sizeof(from), "%s/%s", options->data_directory, folders[i]);
        snprintf(to, sizeof(to), "%s/%s", partial, folders[i]);
        rc = copy_folder(from, to, &run->err);
    }
    if (rc == RC_OK)
        rc = copy_trace(options->data_directory, partial, &run->err);
    return rc == RC_OK ? sync_folder(partial, &run->err) : rc;
}

static void run_work(struct work *work)
{
    struct backup_run *run = CONTAINER_OF(work, struct backup_run, work);
    char partial[PATH_BYTES_MAX];
    snprintf(partial, sizeof(partial), "%s.partial", run->directory);
    if (access(run->directory, F_OK) == 0) {
        err_set_field(&run->err, ERR_CONFLICT, "directory", "%s exists already", run->directory);
        return;
    }
    if (copy_all(run, partial) == RC_OK && rename(partial, run->directory) < 0)
        fail(&run->err, "cannot put in place", run->directory);
    if (run->err.code != ERR_NONE && remove_tree(partial) != RC_OK)
        err_prefix(&run->err, "(what was copied is left in %s) ", partial);
}

static void run_done(struct work *work)
{
    struct backup_run *run = CONTAINER_OF(work, struct backup_run, work);
    job_finish(run->job, STR_EMPTY, run->err.code == ERR_NONE ? NULL : &run->err);
    free(run);
}

static void *job_start(void *arg, struct job_run *job, yyjson_val *params)
{
    struct backup *backup = arg;
    struct backup_run *run = xcalloc(1, sizeof(*run));
    const char *directory = yyjson_get_str(yyjson_obj_get(params, "directory"));
    run->backup = backup;
    run->job = job;
    snprintf(run->directory, sizeof(run->directory) - 16, "%s", directory ? directory : "");
    run->work = (struct work){.home = backup->options.loop, .work = run_work, .done = run_done};
    job_progress(job, 0, 0, "bytes", STR("copying"));
    if (worker_submit(backup->options.workers, &run->work) == RC_OK)
        return run;
    err_set(&run->err, ERR_OVERLOADED, "too much work is waiting");
    run_done(&run->work);
    return NULL;
}

static void job_cancelled(void *arg, void *handle)
{
    UNUSED(arg);
    UNUSED(handle); /* a copy is short: it ends by itself */
}

struct backup *backup_new(const struct backup_options *options)
{
    struct backup *backup = xcalloc(1, sizeof(*backup));
    backup->options = *options;
    jobs_register(options->jobs, &(struct job_kind){.name = "backup",
                                                    .attempts_max = 1,
                                                    .parallel_max = 1,
                                                    .start = job_start,
                                                    .cancel = job_cancelled,
                                                    .arg = backup});
    return backup;
}

void backup_free(struct backup *backup) { free(backup); }
