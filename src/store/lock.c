/* The writer's lock: a file `lock` that holds the last epoch, under the system's file lock. The 16
 * bytes never cross a sector, so they are either the old or the new ones after a power loss. */
#include "store/lock.h"
#include "base/hash.h"
#include <stdio.h>
#include <stdlib.h>

struct writer_lock {
    struct file *file;
};

struct lock_disk {
    char magic[4];
    uint32_t crc; /* of the epoch */
    uint64_t epoch;
};

static enum rc epoch_advance(struct file *file, const char *path, uint64_t *epoch, struct err *err)
{
    struct lock_disk disk = {0};
    size_t got;
    enum rc rc = file_read_at(file, &disk, sizeof(disk), 0, &got);
    if (rc != RC_OK)
        return rc;
    if (got == sizeof(disk) && (memcmp(disk.magic, "CLCK", 4) != 0 ||
                                disk.crc != hash_crc32c(0, &disk.epoch, sizeof(disk.epoch)))) {
        err_set(err, ERR_INTERNAL,
                "%s is damaged: restore it, or remove it when no other program "
                "uses this directory",
                path);
        return RC_CORRUPT;
    }
    *epoch = (got == sizeof(disk) ? disk.epoch : 0) + 1;
    memcpy(disk.magic, "CLCK", 4);
    disk.epoch = *epoch;
    disk.crc = hash_crc32c(0, &disk.epoch, sizeof(disk.epoch));
    struct iovec part = {&disk, sizeof(disk)};
    rc = file_write_at(file, &part, 1, 0);
    return rc == RC_OK ? file_sync(file) : rc;
}

enum rc writer_lock_take(struct file_system *fs, const char *directory, struct writer_lock **out,
                         uint64_t *epoch, struct err *err)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/lock", directory);
    struct file *file;
    enum rc rc = file_open(fs, path, FILE_READ | FILE_WRITE | FILE_CREATE, &file, err);
    if (rc != RC_OK)
        return rc;
    rc = file_lock(file);
    if (rc == RC_CONFLICT)
        err_set(err, ERR_CONFLICT,
                "%s is in use by another process: stop it first, or choose another "
                "data directory",
                directory);
    if (rc == RC_OK)
        rc = epoch_advance(file, path, epoch, err);
    if (rc == RC_OK)
        rc = file_sync_directory(fs, directory);
    if (rc != RC_OK) {
        if (err && err->code == ERR_NONE)
            err_set(err, rc == RC_FULL ? ERR_DISK_FULL : ERR_INTERNAL, "%s: %s", path, rc_name(rc));
        file_close(file);
        return rc;
    }
    *out = xcalloc(1, sizeof(**out));
    (*out)->file = file;
    return RC_OK;
}

void writer_lock_release(struct writer_lock *lock)
{
    if (!lock)
        return;
    file_close(lock->file);
    free(lock);
}
