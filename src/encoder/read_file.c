/* Reading a small file of a model folder into an arena. */
#include "encoder/read_file.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static enum rc read_fd(int fd, const char *path, size_t bytes_max, struct arena *arena,
                       struct str *out, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "%s: not a file", path);
    if ((uint64_t)st.st_size > bytes_max)
        return err_set(err, ERR_TOO_LARGE, "%s: larger than %zu bytes", path, bytes_max);
    size_t size = (size_t)st.st_size, at = 0;
    char *p = arena_alloc(arena, size + 1);
    if (!p)
        return err_set(err, ERR_TOO_LARGE, "%s: too large", path);
    while (at < size) {
        ssize_t n = read(fd, p + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, ERR_INTERNAL, "%s: %s", path, n ? strerror(errno) : "cut off");
        at += (size_t)n;
    }
    p[size] = 0;
    *out = str_make(p, size);
    return RC_OK;
}

enum rc read_file_if_there(const char *folder, const char *name, size_t bytes_max,
                           struct arena *arena, struct str *out, struct err *err)
{
    char path[PATH_MAX];
    *out = STR_EMPTY;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return RC_OK;
        return err_set(err, ERR_INTERNAL, "%s: %s", path, strerror(errno));
    }
    enum rc rc = read_fd(fd, path, bytes_max, arena, out, err);
    close(fd);
    return rc;
}
