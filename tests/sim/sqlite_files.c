/* See sqlite_files.h. Does what SQLite's own layer for Unix does, in the same order: a new file's
 * directory is synced with the file's first sync, a deletion when SQLite asks for it. */
#include "sqlite_files.h"
#include "base/rand.h"
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#define PATH_BYTES_MAX 128
#define REGIONS_MAX    64
#define NODES_MAX      8

/* What all connections to one file share: its locks, and the memory beside its log. */
struct node {
    char path[PATH_BYTES_MAX];
    int shared;
    const void *reserved, *exclusive;
    void *regions[REGIONS_MAX];
    int readers[SQLITE_SHM_NLOCK];
    bool writer[SQLITE_SHM_NLOCK];
};

struct opened {
    struct sqlite3_file base;
    struct file *file;
    struct node *node;
    int level; /* SQLITE_LOCK_... */
    uint16_t shm_shared, shm_exclusive;
    bool nameless; /* its name is not yet on the disk */
};

static struct file_system *files;
static struct node nodes[NODES_MAX];

static int code_of(enum rc rc, int otherwise)
{
    return rc == RC_OK ? SQLITE_OK : rc == RC_FULL ? SQLITE_FULL : otherwise;
}

static struct node *node_of(const char *path)
{
    for (size_t i = 0; i < NODES_MAX; i++) {
        if (nodes[i].path[0] == '\0')
            snprintf(nodes[i].path, sizeof(nodes[i].path), "%s", path);
        if (strcmp(nodes[i].path, path) == 0)
            return &nodes[i];
    }
    abort();
}

static enum rc sync_folder_of(const char *path)
{
    char folder[PATH_BYTES_MAX];
    snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(path, '/') - path), path);
    return file_sync_directory(files, folder);
}

/* ---- a file ---- */

static int do_close(sqlite3_file *base)
{
    file_close(((struct opened *)base)->file);
    return SQLITE_OK;
}

static int do_read(sqlite3_file *base, void *p, int n, sqlite3_int64 at)
{
    size_t got = 0;
    enum rc rc = file_read_at(((struct opened *)base)->file, p, (size_t)n, at, &got);
    if (rc != RC_OK && rc != RC_END)
        return SQLITE_IOERR_READ;
    memset((char *)p + got, 0, (size_t)n - got);
    return got == (size_t)n ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int do_write(sqlite3_file *base, const void *p, int n, sqlite3_int64 at)
{
    struct iovec part = {(void *)p, (size_t)n};
    return code_of(file_write_at(((struct opened *)base)->file, &part, 1, at), SQLITE_IOERR_WRITE);
}

static int do_truncate(sqlite3_file *base, sqlite3_int64 n)
{
    return code_of(file_truncate(((struct opened *)base)->file, n), SQLITE_IOERR_TRUNCATE);
}

static int do_sync(sqlite3_file *base, int flags)
{
    struct opened *opened = (struct opened *)base;
    enum rc rc = file_sync(opened->file);
    if (rc == RC_OK && opened->nameless) {
        rc = sync_folder_of(opened->node->path);
        opened->nameless = rc != RC_OK;
    }
    return code_of(rc, SQLITE_IOERR_FSYNC);
}

static int do_size(sqlite3_file *base, sqlite3_int64 *n)
{
    int64_t bytes = 0;
    enum rc rc = file_size(((struct opened *)base)->file, &bytes);
    *n = bytes;
    return code_of(rc, SQLITE_IOERR_FSTAT);
}

static int do_unlock(sqlite3_file *base, int level)
{
    struct opened *opened = (struct opened *)base;
    struct node *node = opened->node;
    if (node->exclusive == opened)
        node->exclusive = NULL;
    if (node->reserved == opened)
        node->reserved = NULL;
    if (level == SQLITE_LOCK_NONE && opened->level > SQLITE_LOCK_NONE)
        node->shared--;
    opened->level = MIN(opened->level, level);
    return SQLITE_OK;
}

static int do_lock(sqlite3_file *base, int level)
{
    struct opened *opened = (struct opened *)base;
    struct node *node = opened->node;
    bool mine = opened->level > SQLITE_LOCK_NONE;
    if (level <= opened->level)
        return SQLITE_OK;
    if (node->exclusive && node->exclusive != opened)
        return SQLITE_BUSY;
    if (level >= SQLITE_LOCK_RESERVED && node->reserved && node->reserved != opened)
        return SQLITE_BUSY;
    if (level == SQLITE_LOCK_EXCLUSIVE && node->shared > mine)
        return SQLITE_BUSY;
    node->shared += !mine;
    if (level >= SQLITE_LOCK_RESERVED)
        node->reserved = opened;
    if (level == SQLITE_LOCK_EXCLUSIVE)
        node->exclusive = opened;
    opened->level = level;
    return SQLITE_OK;
}

static int do_check_reserved(sqlite3_file *base, int *out)
{
    *out = ((struct opened *)base)->node->reserved != NULL;
    return SQLITE_OK;
}

static int do_control(sqlite3_file *base, int what, void *arg) { return SQLITE_NOTFOUND; }
static int do_sector(sqlite3_file *base) { return 4096; }
/* A torn write spoils no bytes but its own. */
static int do_traits(sqlite3_file *base) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

/* ---- the memory beside the log ---- */

static int do_shm_map(sqlite3_file *base, int region, int bytes, int extend, void volatile **out)
{
    struct node *node = ((struct opened *)base)->node;
    if (region >= REGIONS_MAX)
        return SQLITE_IOERR_SHMMAP;
    if (!node->regions[region] && extend)
        node->regions[region] = xcalloc(1, (size_t)bytes);
    *out = node->regions[region];
    return SQLITE_OK;
}

static int do_shm_lock(sqlite3_file *base, int first, int n, int flags)
{
    struct opened *opened = (struct opened *)base;
    struct node *node = opened->node;
    uint16_t mask = (uint16_t)(((1u << n) - 1) << first);
    for (int i = first; i < first + n && flags & SQLITE_SHM_LOCK; i++) {
        bool shares = opened->shm_shared >> i & 1, owns = opened->shm_exclusive >> i & 1;
        if (flags & SQLITE_SHM_SHARED ? node->writer[i] && !owns
                                      : (node->writer[i] && !owns) || node->readers[i] > shares)
            return SQLITE_BUSY;
    }
    for (int i = first; i < first + n; i++) {
        uint16_t bit = (uint16_t)(1u << i);
        if (flags & SQLITE_SHM_SHARED)
            node->readers[i] +=
                (flags & SQLITE_SHM_LOCK ? 1 : 0) - (opened->shm_shared & bit ? 1 : 0);
        else
            node->writer[i] = flags & SQLITE_SHM_LOCK;
    }
    uint16_t *held = flags & SQLITE_SHM_SHARED ? &opened->shm_shared : &opened->shm_exclusive;
    *held = (uint16_t)(flags & SQLITE_SHM_LOCK ? *held | mask : *held & ~mask);
    return SQLITE_OK;
}

static void do_shm_barrier(sqlite3_file *base) {}

static int do_shm_unmap(sqlite3_file *base, int delete)
{
    struct node *node = ((struct opened *)base)->node;
    for (int i = 0; i < REGIONS_MAX && delete; i++) {
        free(node->regions[i]);
        node->regions[i] = NULL;
    }
    return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = do_close,
    .xRead = do_read,
    .xWrite = do_write,
    .xTruncate = do_truncate,
    .xSync = do_sync,
    .xFileSize = do_size,
    .xLock = do_lock,
    .xUnlock = do_unlock,
    .xCheckReservedLock = do_check_reserved,
    .xFileControl = do_control,
    .xSectorSize = do_sector,
    .xDeviceCharacteristics = do_traits,
    .xShmMap = do_shm_map,
    .xShmLock = do_shm_lock,
    .xShmBarrier = do_shm_barrier,
    .xShmUnmap = do_shm_unmap,
};

/* ---- the file system ---- */

static bool exists(const char *path)
{
    struct file *file;
    if (file_open(files, path, FILE_READ, &file, NULL) != RC_OK)
        return false;
    file_close(file);
    return true;
}

static int do_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *out)
{
    struct opened *opened = (struct opened *)base;
    bool is_new = !exists(path);
    *opened = (struct opened){0};
    enum rc rc =
        file_open(files, path,
                  FILE_READ | FILE_WRITE | (flags & SQLITE_OPEN_CREATE ? (unsigned)FILE_CREATE : 0),
                  &opened->file, NULL);
    if (rc != RC_OK)
        return code_of(rc, SQLITE_CANTOPEN);
    opened->node = node_of(path);
    opened->nameless = is_new;
    opened->base.pMethods = &methods;
    if (out)
        *out = flags;
    return SQLITE_OK;
}

static int do_delete(sqlite3_vfs *vfs, const char *path, int sync_folder)
{
    if (!exists(path))
        return SQLITE_IOERR_DELETE_NOENT;
    enum rc rc = file_remove(files, path);
    if (rc == RC_OK && sync_folder)
        rc = sync_folder_of(path);
    return code_of(rc, SQLITE_IOERR_DELETE);
}

static int do_access(sqlite3_vfs *vfs, const char *path, int flags, int *out)
{
    *out = exists(path);
    return SQLITE_OK;
}

static int do_full_path(sqlite3_vfs *vfs, const char *path, int n, char *out)
{
    snprintf(out, (size_t)n, "%s", path);
    return SQLITE_OK;
}

static int do_randomness(sqlite3_vfs *vfs, int n, char *out)
{
    for (int i = 0; i < n; i++)
        out[i] = (char)rand_below(256);
    return n;
}

static int do_sleep(sqlite3_vfs *vfs, int us) { return us; }

static int do_time(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
    *out = 212700000000000;
    return SQLITE_OK;
}

void sqlite_files_use(struct file_system *fs)
{
    static sqlite3_vfs vfs = {
        .iVersion = 2,
        .szOsFile = sizeof(struct opened),
        .mxPathname = PATH_BYTES_MAX,
        .zName = "capstan-files",
        .xOpen = do_open,
        .xDelete = do_delete,
        .xAccess = do_access,
        .xFullPathname = do_full_path,
        .xRandomness = do_randomness,
        .xSleep = do_sleep,
        .xCurrentTimeInt64 = do_time,
    };
    files = fs;
    sqlite3_vfs_register(&vfs, 1);
}

void sqlite_files_forget(void)
{
    for (size_t i = 0; i < NODES_MAX; i++) {
        for (size_t r = 0; r < REGIONS_MAX; r++)
            free(nodes[i].regions[r]);
        nodes[i] = (struct node){0};
    }
}
