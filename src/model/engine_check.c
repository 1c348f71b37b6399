/* Is a model file what it was when it was registered? A file whose bytes were flipped loads and
 * answers garbage, so the hash is compared whenever size or time have changed. Runs on a worker: a
 * hash of a large file takes seconds. */
#include "base/hash.h"
#include "model/engine_private.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (1 << 20)

static int64_t mtime_ns(const struct stat *st)
{
    return st->st_mtim.tv_sec * 1000000000ll + st->st_mtim.tv_nsec;
}

enum rc file_sha256(const char *path, char out[65], struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
    char *piece = xmalloc(PIECE_BYTES);
    struct sha256 *sha = sha256_new();
    ssize_t n;
    while ((n = read(fd, piece, PIECE_BYTES)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0)
            sha256_update(sha, piece, (size_t)n);
    int failure = n < 0 ? errno : 0;
    close(fd);
    free(piece);
    uint8_t digest[SHA256_BYTES];
    sha256_final(sha, digest);
    hex_encode(digest, sizeof(digest), out);
    if (failure)
        return err_set(err, ERR_INTERNAL, "%s: %s", path, strerror(failure));
    return RC_OK;
}

void file_check_run(struct work *work)
{
    struct file_check *check = CONTAINER_OF(work, struct file_check, work);
    struct stat st;
    if (stat(check->path, &st) != 0) {
        err_set(&check->err, ERR_ENGINE_FAILED, "the model file %s cannot be read: %s", check->path,
                strerror(errno));
        return;
    }
    check->seen_bytes = st.st_size;
    check->seen_mtime_ns = mtime_ns(&st);
    bool as_recorded =
        st.st_size == check->file_bytes && check->seen_mtime_ns == check->file_mtime_ns;
    if (as_recorded || !check->sha256.n)
        return;
    char hex[SHA256_HEX_BYTES];
    if (file_sha256(check->path, hex, &check->err) != RC_OK)
        return;
    if (!str_eq(str_from(hex), check->sha256))
        err_set(
            &check->err, ERR_ENGINE_FAILED,
            "the model file %s was changed or damaged: its SHA-256 is %s, on record is %.*s. Pull "
            "or add it again",
            check->path, hex, STR_ARG(check->sha256));
}
