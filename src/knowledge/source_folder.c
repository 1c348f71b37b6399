/* Files of a folder on the server. Only what lies below a folder that the administrator named may
 * be read: the path is resolved and compared at each sync, and the walk follows no symbolic link,
 * so nothing leads out of it. A file's version is its size and time of change. Hidden files and
 * folders stay out. */
#include "knowledge/source_private.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_DEPTH_MAX 32

static bool is_below(struct str path, struct str root)
{
    while (root.n > 1 && root.p[root.n - 1] == '/')
        root.n--;
    if (str_eq(root, STR("/")))
        return true;
    return str_starts(path, root) && (path.n == root.n || path.p[root.n] == '/');
}

static bool is_allowed(const struct knowledge *knowledge, struct str path)
{
    for (size_t i = 0; i < knowledge->source_directory_count; i++) {
        char resolved[PATH_MAX], named[PATH_MAX];
        snprintf(named, sizeof(named), "%.*s", STR_ARG(knowledge->source_directories[i]));
        if (realpath(named, resolved) && is_below(path, str_from(resolved)))
            return true;
    }
    return false;
}

enum rc source_folder_check(const struct knowledge *knowledge, struct str path, char out[PATH_MAX],
                            struct err *err)
{
    char named[PATH_MAX];
    if (path.n >= sizeof(named) || memchr(path.p, '\0', path.n))
        return err_set(err, ERR_INVALID, "the folder's path is too long");
    snprintf(named, sizeof(named), "%.*s", STR_ARG(path));
    bool found = realpath(named, out) != NULL;
    /* The same words for what is forbidden and what is not there: it is not told apart. */
    if (found && is_allowed(knowledge, str_from(out)))
        return RC_OK;
    return err_set(err, ERR_FORBIDDEN,
                   "'%.*s' is not there, or not below a folder that the administrator named "
                   "(knowledge.directories in capstan.yaml)",
                   (int)MIN(path.n, (size_t)200), path.p);
}

/* ---- walking ---- */

struct walk {
    struct source_sync *sync;
    char path[SOURCE_KEY_BYTES_MAX + 1]; /* below the root */
    size_t n;
};

static enum rc visit_file(struct walk *walk, const struct stat *info, struct err *err)
{
    struct source_sync *sync = walk->sync;
    char marker[64];
    int n = snprintf(marker, sizeof(marker), "%lld-%lld.%09ld", (long long)info->st_size,
                     (long long)info->st_mtim.tv_sec, info->st_mtim.tv_nsec);
    struct str key = str_make(walk->path, walk->n);
    if (!source_wants(&sync->spec, key))
        return RC_OK;
    return sync_visit(sync, key, str_make(marker, (size_t)n), NULL, err);
}

static enum rc walk_folder(struct walk *walk, int fd, int depth_left, struct err *err);

static enum rc walk_entry(struct walk *walk, int folder, const char *name, int depth_left,
                          struct err *err)
{
    struct stat info;
    size_t before = walk->n, n = strlen(name);
    enum rc rc = RC_OK;
    if (name[0] == '.' || before + n + 2 > sizeof(walk->path) ||
        fstatat(folder, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return RC_OK;
    memcpy(walk->path + before, name, n + 1);
    walk->n += n;
    if (S_ISREG(info.st_mode)) {
        rc = visit_file(walk, &info, err);
    } else if (S_ISDIR(info.st_mode) && depth_left > 0) {
        int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        memcpy(walk->path + walk->n++, "/", 2);
        if (fd >= 0)
            rc = walk_folder(walk, fd, depth_left - 1, err);
        else
            walk->sync->unsure = true; /* what is in it cannot be known */
    }
    walk->n = before;
    walk->path[before] = '\0';
    return rc;
}

/* Takes the descriptor. */
static enum rc walk_folder(struct walk *walk, int fd, int depth_left, struct err *err)
{
    struct dirent *entry;
    enum rc rc = RC_OK;
    DIR *folder = fdopendir(fd);
    if (!folder) {
        close(fd);
        return err_set(err, ERR_INTERNAL, "the folder cannot be read: %s", strerror(errno));
    }
    for (;;) {
        errno = 0;
        entry = readdir(folder);
        if (!entry)
            break;
        rc = walk_entry(walk, dirfd(folder), entry->d_name, depth_left, err);
        if (rc != RC_OK)
            break;
    }
    if (rc == RC_OK && !entry && errno)
        walk->sync->unsure = true;
    closedir(folder);
    return rc;
}

static enum rc open_root(struct source_sync *sync, int *fd, struct err *err)
{
    char path[PATH_MAX];
    enum rc rc = source_folder_check(sync->knowledge, sync->spec.path, path, err);
    if (rc != RC_OK)
        return rc;
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0)
        return err_set(err, ERR_INVALID, "'%.200s' cannot be read: %s", path, strerror(errno));
    return RC_OK;
}

static enum rc list_folder(struct source_sync *sync, struct err *err)
{
    struct walk walk = {.sync = sync};
    int fd;
    enum rc rc = open_root(sync, &fd, err);
    return rc == RC_OK ? walk_folder(&walk, fd, FOLDER_DEPTH_MAX, err) : rc;
}

/* ---- reading ---- */

/* Step by step, so that no folder on the way is a link either. Takes `fd`. */
static int open_below(int fd, struct str path)
{
    char name[NAME_MAX + 1];
    struct str rest = path, part;
    while (fd >= 0 && str_split(&rest, '/', &part)) {
        int folder = fd;
        bool last = rest.n == 0;
        snprintf(name, sizeof(name), "%.*s", STR_ARG(part));
        fd = openat(folder, name,
                    O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (last ? O_NONBLOCK : O_DIRECTORY));
        int kept = errno;
        close(folder);
        errno = kept;
    }
    return fd;
}

static enum rc read_whole(int fd, struct buf *out, struct err *err)
{
    struct stat info;
    if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode))
        return err_set(err, ERR_INVALID, "it is no regular file");
    if (info.st_size > SOURCE_FILE_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "it is larger than %d MB",
                       SOURCE_FILE_BYTES_MAX / (1024 * 1024));
    for (;;) {
        char *p;
        if (buf_reserve(out, 64 * 1024, &p) != RC_OK)
            return err_set(err, ERR_TOO_LARGE, "it is larger than %d MB",
                           SOURCE_FILE_BYTES_MAX / (1024 * 1024));
        ssize_t n = read(fd, p, 64 * 1024);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_INTERNAL, "it cannot be read: %s", strerror(errno));
        if (n == 0)
            return RC_OK;
        buf_added(out, (size_t)n);
    }
}

static enum rc read_file(struct source_sync *sync, const struct source_item_row *item,
                         struct source_content *out, struct err *err)
{
    int fd;
    enum rc rc = open_root(sync, &fd, err);
    if (rc != RC_OK)
        return rc;
    fd = open_below(fd, item->key);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        return err_set(err, ERR_NOT_FOUND, "it is not there any more");
    if (fd < 0)
        return err_set(err, ERR_INVALID, "it cannot be read: %s", strerror(errno));
    buf_init(&out->body, SOURCE_FILE_BYTES_MAX + 64 * 1024);
    rc = read_whole(fd, &out->body, err);
    close(fd);
    return rc;
}

const struct source_kind_calls SOURCE_CALLS_DIRECTORY = {.list = list_folder, .read = read_file};
