/* Files of the operating system, and the dispatch to whichever implementation a file system has.
 *
 * Every call is blocking, so only workers and writer threads come here. Several threads may use one
 * file at once: positions are always explicit. Interrupted and partial transfers are finished here.
 */
#include "io/file_calls.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITE_PARTS_MAX 64

struct real_file {
    struct file base;
    int fd;
};

static enum rc rc_from_errno(int e)
{
    switch (e) {
    case ENOENT: return RC_NOT_FOUND;
    case EEXIST: return RC_CONFLICT;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return RC_FULL;
    case EACCES:
    case EPERM:
    case EROFS: return RC_DENIED;
    default: return RC_IO;
    }
}

static enum rc real_open(struct file_system *fs, const char *path, unsigned flags,
                         struct file **out, struct err *err)
{
    int mode = O_CLOEXEC | O_NOCTTY;
    mode |= flags & FILE_WRITE ? (flags & FILE_READ ? O_RDWR : O_WRONLY) : O_RDONLY;
    mode |= flags & FILE_CREATE ? O_CREAT : 0;
    mode |= flags & FILE_EXCLUSIVE ? O_EXCL : 0;
    mode |= flags & FILE_TRUNCATE ? O_TRUNC : 0;
    int fd = open(path, mode, 0640);
    if (fd < 0) {
        enum rc rc = rc_from_errno(errno);
        err_set(err, rc == RC_FULL ? ERR_DISK_FULL : ERR_INTERNAL, "%s: %s", path, strerror(errno));
        return rc;
    }
    struct real_file *file = xcalloc(1, sizeof(*file));
    file->base.fs = fs;
    file->fd = fd;
    *out = &file->base;
    return RC_OK;
}

static void real_close(struct file *base)
{
    struct real_file *file = (struct real_file *)base;
    close(file->fd);
    free(file);
}

static enum rc real_read_at(struct file *base, void *p, size_t n, int64_t offset, size_t *got)
{
    struct real_file *file = (struct real_file *)base;
    *got = 0;
    while (*got < n) {
        ssize_t r = pread(file->fd, (char *)p + *got, n - *got, offset + (int64_t)*got);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return rc_from_errno(errno);
        if (r == 0)
            break;
        *got += (size_t)r;
    }
    return RC_OK;
}

/* Drops the first `n` bytes from `parts`; returns how many parts are used up. */
static int parts_consume(struct iovec *parts, int count, size_t n)
{
    int done = 0;
    while (done < count && n >= parts[done].iov_len)
        n -= parts[done++].iov_len;
    if (done < count) {
        parts[done].iov_base = (char *)parts[done].iov_base + n;
        parts[done].iov_len -= n;
    }
    return done;
}

static enum rc real_write_at(struct file *base, const struct iovec *parts, int count,
                             int64_t offset)
{
    struct real_file *file = (struct real_file *)base;
    struct iovec left[WRITE_PARTS_MAX];
    ASSERT(count <= WRITE_PARTS_MAX);
    memcpy(left, parts, (size_t)count * sizeof(*parts));
    int at = parts_consume(left, count, 0);
    while (at < count) {
        ssize_t r = pwritev(file->fd, left + at, count - at, offset);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return rc_from_errno(errno);
        if (r == 0)
            return RC_FULL;
        offset += r;
        at += parts_consume(left + at, count - at, (size_t)r);
    }
    return RC_OK;
}

static enum rc real_size(struct file *base, int64_t *bytes)
{
    struct stat st;
    if (fstat(((struct real_file *)base)->fd, &st) != 0)
        return rc_from_errno(errno);
    *bytes = st.st_size;
    return RC_OK;
}

static enum rc real_truncate(struct file *base, int64_t bytes)
{
    return ftruncate(((struct real_file *)base)->fd, bytes) == 0 ? RC_OK : rc_from_errno(errno);
}

static enum rc real_sync(struct file *base)
{
    return fdatasync(((struct real_file *)base)->fd) == 0 ? RC_OK : rc_from_errno(errno);
}

static enum rc real_map(struct file *base, const void **p, size_t *n)
{
    int64_t bytes = 0;
    enum rc rc = real_size(base, &bytes);
    if (rc != RC_OK)
        return rc;
    if (bytes == 0)
        return RC_END;
    void *map = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, ((struct real_file *)base)->fd, 0);
    if (map == MAP_FAILED)
        return rc_from_errno(errno);
    *p = map;
    *n = (size_t)bytes;
    return RC_OK;
}

static void real_unmap(struct file *base, const void *p, size_t n)
{
    UNUSED(base);
    int failed = munmap((void *)p, n);
    ASSERT(!failed);
}

/* flock rather than fcntl: it belongs to this open file, so two stores in one process exclude each
 * other as well, and closing some other descriptor of the file does not drop it. */
static enum rc real_lock(struct file *base)
{
    if (flock(((struct real_file *)base)->fd, LOCK_EX | LOCK_NB) == 0)
        return RC_OK;
    return errno == EWOULDBLOCK ? RC_CONFLICT : rc_from_errno(errno);
}

static enum rc real_rename(struct file_system *fs, const char *from, const char *to)
{
    return rename(from, to) == 0 ? RC_OK : rc_from_errno(errno);
}

static enum rc real_remove(struct file_system *fs, const char *path)
{
    return unlink(path) == 0 ? RC_OK : rc_from_errno(errno);
}

static enum rc real_make_directory(struct file_system *fs, const char *path)
{
    return mkdir(path, 0750) == 0 || errno == EEXIST ? RC_OK : rc_from_errno(errno);
}

static enum rc real_sync_directory(struct file_system *fs, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return rc_from_errno(errno);
    enum rc rc = fsync(fd) == 0 ? RC_OK : rc_from_errno(errno);
    close(fd);
    return rc;
}

static enum rc real_list(struct file_system *fs, const char *path,
                         enum rc (*each)(void *arg, const char *name), void *arg)
{
    DIR *dir = opendir(path);
    if (!dir)
        return rc_from_errno(errno);
    enum rc rc = RC_OK;
    struct dirent *entry;
    while (rc == RC_OK && (errno = 0, entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = each(arg, entry->d_name);
    }
    if (rc == RC_OK && errno != 0)
        rc = rc_from_errno(errno);
    closedir(dir);
    return rc;
}

static void real_free(struct file_system *fs) { UNUSED(fs); }

struct file_system *file_system_real(void)
{
    static const struct file_calls calls = {
        .free = real_free,
        .open = real_open,
        .close = real_close,
        .read_at = real_read_at,
        .write_at = real_write_at,
        .size = real_size,
        .truncate = real_truncate,
        .sync = real_sync,
        .map = real_map,
        .unmap = real_unmap,
        .lock = real_lock,
        .rename = real_rename,
        .remove = real_remove,
        .make_directory = real_make_directory,
        .sync_directory = real_sync_directory,
        .list = real_list,
    };
    static struct file_system real = {.calls = &calls};
    return &real;
}

void file_system_free(struct file_system *fs)
{
    if (fs)
        fs->calls->free(fs);
}

enum rc file_open(struct file_system *fs, const char *path, unsigned flags, struct file **out,
                  struct err *err)
{
    return fs->calls->open(fs, path, flags, out, err);
}

void file_close(struct file *file)
{
    if (file)
        file->fs->calls->close(file);
}

enum rc file_read_at(struct file *file, void *p, size_t n, int64_t offset, size_t *got)
{
    return file->fs->calls->read_at(file, p, n, offset, got);
}

enum rc file_write_at(struct file *file, const struct iovec *parts, int count, int64_t offset)
{
    return file->fs->calls->write_at(file, parts, count, offset);
}

enum rc file_size(struct file *file, int64_t *bytes) { return file->fs->calls->size(file, bytes); }

enum rc file_truncate(struct file *file, int64_t bytes)
{
    return file->fs->calls->truncate(file, bytes);
}

enum rc file_sync(struct file *file) { return file->fs->calls->sync(file); }

enum rc file_map(struct file *file, const void **p, size_t *n)
{
    return file->fs->calls->map(file, p, n);
}

void file_unmap(struct file *file, const void *p, size_t n) { file->fs->calls->unmap(file, p, n); }

enum rc file_lock(struct file *file) { return file->fs->calls->lock(file); }

enum rc file_rename(struct file_system *fs, const char *from, const char *to)
{
    return fs->calls->rename(fs, from, to);
}

enum rc file_remove(struct file_system *fs, const char *path)
{
    return fs->calls->remove(fs, path);
}

enum rc file_make_directory(struct file_system *fs, const char *path)
{
    return fs->calls->make_directory(fs, path);
}

enum rc file_sync_directory(struct file_system *fs, const char *path)
{
    return fs->calls->sync_directory(fs, path);
}

enum rc file_list(struct file_system *fs, const char *path,
                  enum rc (*each)(void *arg, const char *name), void *arg)
{
    return fs->calls->list(fs, path, each, arg);
}
