/* Files in memory that lose what was not synced: power loss as a test can repeat it.
 *
 * Each file has two contents: what reads see, and what would survive now. Writes and truncations
 * since the last sync are kept as a list; each directory change since the last sync of the
 * directory too. A crash applies a part of them that the seed chooses: whole, not at all, or some
 * of a write's sectors, not necessarily in order, and leaves zeros or rubbish where a size survived
 * but its data did not. That is worse than most file systems are, and no worse than POSIX permits;
 * a rename is atomic, a sector of 512 bytes is never torn.
 *
 * A failed sync forgets the changes it should have kept (as Linux does): a later sync that succeeds
 * does not bring them back. All calls may come from any thread. */
#include "io/file_calls.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define SECTOR_BYTES 512

/* A write or truncation that no sync has covered. */
struct change {
    struct change *next;
    bool truncate;
    int64_t offset; /* of the write; the size of a truncation */
    size_t n;
    char data[];
};

struct image {
    char *p;
    size_t n, capacity;
};

struct inode {
    int references; /* names (live and surviving), pending directory changes, open files */
    bool directory;
    struct image live, durable;
    struct change *changes, **changes_end;
    struct memory_file *locked_by;
};

struct name {
    char *path;
    struct inode *inode;
};

struct names {
    struct name *items;
    size_t count, capacity;
};

/* A directory change that no sync of the directory has covered. */
struct name_change {
    struct name_change *next;
    char *from, *to;     /* from NULL: link; to NULL: unlink; both: rename */
    struct inode *inode; /* what `to` names */
};

struct memory_system {
    struct file_system base;
    pthread_mutex_t mutex;
    uint64_t random;
    uint64_t generation; /* crashes so far; files of an earlier one are dead */
    struct names live, durable;
    struct name_change *name_changes, **name_changes_end;
    int64_t space_bytes;   /* < 0: no bound */
    uint64_t changes_left; /* until the power fails; 0: never */
    bool failed;
    bool ignore_syncs;
    int fail_syncs;
};

struct memory_file {
    struct file base;
    struct inode *inode;
    unsigned flags;
    uint64_t generation;
};

static struct memory_system *system_of(struct file_system *fs)
{
    return (struct memory_system *)fs;
}

/* splitmix64: the whole behaviour follows from the seed. */
static uint64_t next_random(struct memory_system *m)
{
    uint64_t z = (m->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t random_below(struct memory_system *m, uint64_t n)
{
    return n ? next_random(m) % n : 0;
}

/* ---- contents ---- */

static void image_resize(struct image *image, size_t n)
{
    if (n > image->capacity) {
        image->capacity = MAX(n, image->capacity * 2);
        image->p = xrealloc(image->p, image->capacity);
    }
    if (n > image->n)
        memset(image->p + image->n, 0, n - image->n);
    image->n = n;
}

static void image_write(struct image *image, size_t offset, const void *p, size_t n)
{
    if (offset + n > image->n)
        image_resize(image, offset + n);
    if (n > 0)
        memcpy(image->p + offset, p, n);
}

static void changes_free(struct inode *inode)
{
    while (inode->changes) {
        struct change *next = inode->changes->next;
        free(inode->changes);
        inode->changes = next;
    }
    inode->changes_end = &inode->changes;
}

static struct inode *inode_new(void)
{
    struct inode *inode = xcalloc(1, sizeof(*inode));
    inode->changes_end = &inode->changes;
    return inode;
}

static void inode_unref(struct inode *inode)
{
    ASSERT(inode->references > 0);
    if (--inode->references > 0)
        return;
    changes_free(inode);
    free(inode->live.p);
    free(inode->durable.p);
    free(inode);
}

static void inode_add_change(struct inode *inode, bool truncate, int64_t offset, const void *p,
                             size_t n)
{
    struct change *change = xmalloc(sizeof(*change) + n);
    *change = (struct change){.truncate = truncate, .offset = offset, .n = n};
    if (n > 0)
        memcpy(change->data, p, n);
    *inode->changes_end = change;
    inode->changes_end = &change->next;
}

static void inode_settle(struct inode *inode)
{
    for (struct change *c = inode->changes; c; c = c->next) {
        if (c->truncate)
            image_resize(&inode->durable, (size_t)c->offset);
        else
            image_write(&inode->durable, (size_t)c->offset, c->data, c->n);
    }
    changes_free(inode);
}

/* ---- names ---- */

static struct name *names_find(struct names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->items[i].path, path) == 0)
            return &names->items[i];
    return NULL;
}

static void names_remove(struct names *names, const char *path)
{
    struct name *name = names_find(names, path);
    if (!name)
        return;
    inode_unref(name->inode);
    free(name->path);
    *name = names->items[--names->count];
}

static void names_put(struct names *names, const char *path, struct inode *inode)
{
    inode->references++;
    names_remove(names, path);
    if (names->count == names->capacity) {
        names->capacity = MAX(16, names->capacity * 2);
        names->items = xrealloc(names->items, names->capacity * sizeof(*names->items));
    }
    names->items[names->count++] = (struct name){xstrdup(path), inode};
}

static void names_clear(struct names *names)
{
    while (names->count > 0)
        names_remove(names, names->items[names->count - 1].path);
}

static void names_apply(struct names *names, const char *from, const char *to, struct inode *inode)
{
    if (to)
        names_put(names, to, inode);
    if (from)
        names_remove(names, from);
}

static void name_change_free(struct name_change *change)
{
    if (change->inode)
        inode_unref(change->inode);
    free(change->from);
    free(change->to);
    free(change);
}

/* Makes a change of names live, and remembers that it would not survive yet. */
static void names_change(struct memory_system *m, const char *from, const char *to,
                         struct inode *inode)
{
    struct name_change *change = xcalloc(1, sizeof(*change));
    change->from = from ? xstrdup(from) : NULL;
    change->to = to ? xstrdup(to) : NULL;
    change->inode = inode;
    if (inode)
        inode->references++;
    *m->name_changes_end = change;
    m->name_changes_end = &change->next;
    names_apply(&m->live, from, to, inode);
}

static bool is_inside(const char *path, const char *directory)
{
    size_t n = strlen(directory);
    return path && strncmp(path, directory, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

/* ---- failing ---- */

/* Called before each change: false when the power is off, or goes off with this very change. */
static bool power_holds(struct memory_system *m)
{
    if (m->failed)
        return false;
    if (m->changes_left > 0 && --m->changes_left == 0)
        m->failed = true;
    return !m->failed;
}

static bool file_alive(struct memory_file *file)
{
    struct memory_system *m = system_of(file->base.fs);
    return !m->failed && file->generation == m->generation;
}

/* One write as the disk has it after the crash: all, nothing, or some of its sectors. */
static void crash_apply_write(struct memory_system *m, struct image *image, const struct change *c)
{
    uint64_t how = random_below(m, 4);
    if (how == 0)
        return;
    size_t at = 0;
    while (at < c->n) {
        size_t in_sector = ((size_t)c->offset + at) % SECTOR_BYTES;
        size_t n = MIN(SECTOR_BYTES - in_sector, c->n - at);
        if (how < 3 || random_below(m, 2))
            image_write(image, (size_t)c->offset + at, c->data + at, n);
        at += n;
    }
}

static void inode_crash(struct memory_system *m, struct inode *inode)
{
    inode->locked_by = NULL;
    struct image image = {0};
    image_write(&image, 0, inode->durable.p, inode->durable.n);
    size_t size_max = inode->durable.n;
    for (struct change *c = inode->changes; c; c = c->next) {
        if (!c->truncate)
            crash_apply_write(m, &image, c);
        else if (random_below(m, 2))
            image_resize(&image, (size_t)c->offset);
        size_max = MAX(size_max, (size_t)c->offset + c->n);
    }
    if (size_max > image.n &&
        random_below(m, 3) == 0) { /* the size came through, its data did not */
        size_t from = image.n;
        image_resize(&image, from + 1 + random_below(m, size_max - from));
        if (random_below(m, 2))
            for (size_t i = from; i < image.n; i++)
                image.p[i] = (char)next_random(m);
    }
    changes_free(inode);
    free(inode->live.p);
    free(inode->durable.p);
    inode->durable = image;
    inode->live = (struct image){0};
    image_write(&inode->live, 0, image.p, image.n);
}

void file_system_crash(struct file_system *fs)
{
    struct memory_system *m = system_of(fs);
    pthread_mutex_lock(&m->mutex);
    uint64_t how = random_below(m, 3); /* no pending name survives, all do, or any */
    while (m->name_changes) {
        struct name_change *change = m->name_changes;
        m->name_changes = change->next;
        if (how == 1 || (how == 2 && random_below(m, 2)))
            names_apply(&m->durable, change->from, change->to, change->inode);
        name_change_free(change);
    }
    m->name_changes_end = &m->name_changes;
    names_clear(&m->live);
    for (size_t i = 0; i < m->durable.count; i++)
        inode_crash(m, m->durable.items[i].inode);
    for (size_t i = 0; i < m->durable.count; i++)
        names_put(&m->live, m->durable.items[i].path, m->durable.items[i].inode);
    m->generation++;
    m->failed = false;
    m->changes_left = 0;
    pthread_mutex_unlock(&m->mutex);
}

/* ---- calls ---- */

static bool parent_exists(struct memory_system *m, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return true;
    for (size_t i = 0; i < m->live.count; i++) {
        const struct name *name = &m->live.items[i];
        if (name->inode->directory && strlen(name->path) == (size_t)(slash - path) &&
            strncmp(name->path, path, (size_t)(slash - path)) == 0)
            return true;
    }
    return false;
}

static enum rc open_locked(struct memory_system *m, const char *path, unsigned flags,
                           struct inode **out)
{
    if (m->failed)
        return RC_IO;
    struct name *name = names_find(&m->live, path);
    if (name && (flags & FILE_CREATE) && (flags & FILE_EXCLUSIVE))
        return RC_CONFLICT;
    if (!name) {
        if (!(flags & FILE_CREATE) || !parent_exists(m, path))
            return RC_NOT_FOUND;
        if (!power_holds(m))
            return RC_IO;
        struct inode *inode = inode_new();
        names_change(m, NULL, path, inode);
        *out = inode;
        return RC_OK;
    }
    if ((flags & FILE_TRUNCATE) && name->inode->live.n > 0) {
        if (!power_holds(m))
            return RC_IO;
        inode_add_change(name->inode, true, 0, NULL, 0);
        name->inode->live.n = 0;
    }
    *out = name->inode;
    return RC_OK;
}

static enum rc memory_open(struct file_system *fs, const char *path, unsigned flags,
                           struct file **out, struct err *err)
{
    struct memory_system *m = system_of(fs);
    struct inode *inode = NULL;
    pthread_mutex_lock(&m->mutex);
    enum rc rc = open_locked(m, path, flags, &inode);
    if (rc == RC_OK) {
        struct memory_file *file = xcalloc(1, sizeof(*file));
        file->base.fs = fs;
        file->inode = inode;
        file->flags = flags;
        file->generation = m->generation;
        inode->references++;
        *out = &file->base;
    } else {
        err_set(err, ERR_INTERNAL, "%s: %s", path, rc_name(rc));
    }
    pthread_mutex_unlock(&m->mutex);
    return rc;
}

static void memory_close(struct file *base)
{
    struct memory_file *file = (struct memory_file *)base;
    struct memory_system *m = system_of(base->fs);
    pthread_mutex_lock(&m->mutex);
    if (file->inode->locked_by == file)
        file->inode->locked_by = NULL;
    inode_unref(file->inode);
    pthread_mutex_unlock(&m->mutex);
    free(file);
}

static enum rc memory_read_at(struct file *base, void *p, size_t n, int64_t offset, size_t *got)
{
    struct memory_file *file = (struct memory_file *)base;
    struct memory_system *m = system_of(base->fs);
    *got = 0;
    pthread_mutex_lock(&m->mutex);
    enum rc rc = file_alive(file) ? RC_OK : RC_IO;
    const struct image *image = &file->inode->live;
    if (rc == RC_OK && (size_t)offset < image->n) {
        *got = MIN(n, image->n - (size_t)offset);
        memcpy(p, image->p + offset, *got);
    }
    pthread_mutex_unlock(&m->mutex);
    return rc;
}

static int64_t bytes_used(const struct memory_system *m)
{
    int64_t sum = 0;
    for (size_t i = 0; i < m->live.count; i++)
        sum += (int64_t)m->live.items[i].inode->live.n;
    return sum;
}

/* Writes as much of the part as the space allows: RC_FULL after a prefix, as a real disk does. */
static enum rc write_part(struct memory_system *m, struct inode *inode, const void *p, size_t n,
                          int64_t offset)
{
    int64_t growth = offset + (int64_t)n - (int64_t)inode->live.n;
    enum rc rc = RC_OK;
    if (m->space_bytes >= 0 && growth > 0) {
        int64_t over = bytes_used(m) + growth - m->space_bytes;
        if (over > 0) {
            n -= MIN(n, (size_t)over);
            rc = RC_FULL;
        }
    }
    if (n > 0) {
        image_write(&inode->live, (size_t)offset, p, n);
        inode_add_change(inode, false, offset, p, n);
    }
    return rc;
}

static enum rc memory_write_at(struct file *base, const struct iovec *parts, int count,
                               int64_t offset)
{
    struct memory_file *file = (struct memory_file *)base;
    struct memory_system *m = system_of(base->fs);
    ASSERT(file->flags & FILE_WRITE);
    pthread_mutex_lock(&m->mutex);
    enum rc rc = file_alive(file) ? RC_OK : RC_IO;
    bool cut = rc == RC_OK && !power_holds(m); /* the power fails in the middle of this write */
    for (int i = 0; i < count && rc == RC_OK; i++) {
        size_t n = parts[i].iov_len;
        if (cut) { /* never in the middle of a sector */
            int64_t end = offset + (int64_t)random_below(m, n + 1);
            n = (size_t)MAX(end / SECTOR_BYTES * SECTOR_BYTES - offset, 0);
        }
        rc = write_part(m, file->inode, parts[i].iov_base, n, offset);
        offset += (int64_t)n;
        if (n < parts[i].iov_len)
            break;
    }
    pthread_mutex_unlock(&m->mutex);
    return cut ? RC_IO : rc;
}

static enum rc memory_size(struct file *base, int64_t *bytes)
{
    struct memory_file *file = (struct memory_file *)base;
    struct memory_system *m = system_of(base->fs);
    pthread_mutex_lock(&m->mutex);
    enum rc rc = file_alive(file) ? RC_OK : RC_IO;
    *bytes = (int64_t)file->inode->live.n;
    pthread_mutex_unlock(&m->mutex);
    return rc;
}

static enum rc memory_truncate(struct file *base, int64_t bytes)
{
    struct memory_file *file = (struct memory_file *)base;
    struct memory_system *m = system_of(base->fs);
    pthread_mutex_lock(&m->mutex);
    enum rc rc = file_alive(file) && power_holds(m) ? RC_OK : RC_IO;
    if (rc == RC_OK) {
        inode_add_change(file->inode, true, bytes, NULL, 0);
        image_resize(&file->inode->live, (size_t)bytes);
    }
    pthread_mutex_unlock(&m->mutex);
    return rc;
}

static enum rc memory_sync(struct file *base)
{
    struct memory_file *file = (struct memory_file *)base;
    struct memory_system *m = system_of(base->fs);
    pthread_mutex_lock(&m->mutex);
    enum rc rc = file_alive(file) && power_holds(m) ? RC_OK : RC_IO;
    if (rc == RC_OK && m->fail_syncs > 0) {
        m->fail_syncs--;
        changes_free(file->inode);
        rc = RC_IO;
    } else if (rc == RC_OK && !m->ignore_syncs) {
        inode_settle(file->inode);
    }
    pthread_mutex_unlock(&m->mutex);
    return rc;
}

/* A copy: what is mapped is never changed afterwards by the code that maps. */
static enum rc memory_map(struct file *base, const void **p, size_t *n)
{
    struct memory_file *file = (struct memory_file *)base;
    struct memory_system *m = system_of(base->fs);
    pthread_mutex_lock(&m->mutex);
    enum rc rc = !file_alive(file) ? RC_IO : file->inode->live.n == 0 ? RC_END : RC_OK;
    if (rc == RC_OK) {
        *n = file->inode->live.n;
        void *copy = aligned_alloc(4096, ALIGN_UP(*n, 4096));
        ASSERT(copy);
        memcpy(copy, file->inode->live.p, *n);
        *p = copy;
    }
    pthread_mutex_unlock(&m->mutex);
    return rc;
}

static void memory_unmap(struct file *base, const void *p, size_t n)
{
    UNUSED(base);
    UNUSED(n);
    free((void *)p);
}

static enum rc memory_lock(struct file *base)
{
    struct memory_file *file = (struct memory_file *)base;
    struct memory_system *m = system_of(base->fs);
    pthread_mutex_lock(&m->mutex);
    enum rc rc = !file_alive(file)                                          ? RC_IO
                 : file->inode->locked_by && file->inode->locked_by != file ? RC_CONFLICT
                                                                            : RC_OK;
    if (rc == RC_OK)
        file->inode->locked_by = file;
    pthread_mutex_unlock(&m->mutex);
    return rc;
}

static enum rc memory_rename(struct file_system *fs, const char *from, const char *to)
{
    struct memory_system *m = system_of(fs);
    pthread_mutex_lock(&m->mutex);
    struct name *name = names_find(&m->live, from);
    enum rc rc = m->failed ? RC_IO : !name ? RC_NOT_FOUND : power_holds(m) ? RC_OK : RC_IO;
    if (rc == RC_OK)
        names_change(m, from, to, name->inode);
    pthread_mutex_unlock(&m->mutex);
    return rc;
}

static enum rc memory_remove(struct file_system *fs, const char *path)
{
    struct memory_system *m = system_of(fs);
    pthread_mutex_lock(&m->mutex);
    enum rc rc = m->failed                     ? RC_IO
                 : !names_find(&m->live, path) ? RC_NOT_FOUND
                 : power_holds(m)              ? RC_OK
                                               : RC_IO;
    if (rc == RC_OK)
        names_change(m, path, NULL, NULL);
    pthread_mutex_unlock(&m->mutex);
    return rc;
}

static enum rc memory_make_directory(struct file_system *fs, const char *path)
{
    struct memory_system *m = system_of(fs);
    pthread_mutex_lock(&m->mutex);
    enum rc rc = m->failed ? RC_IO : RC_OK;
    if (rc == RC_OK && !names_find(&m->live, path)) {
        if (!parent_exists(m, path)) {
            rc = RC_NOT_FOUND;
        } else if (!power_holds(m)) {
            rc = RC_IO;
        } else {
            struct inode *inode = inode_new();
            inode->directory = true;
            names_change(m, NULL, path, inode);
        }
    }
    pthread_mutex_unlock(&m->mutex);
    return rc;
}

static enum rc memory_sync_directory(struct file_system *fs, const char *path)
{
    struct memory_system *m = system_of(fs);
    pthread_mutex_lock(&m->mutex);
    enum rc rc = power_holds(m) ? RC_OK : RC_IO;
    struct name_change **at = &m->name_changes;
    while (rc == RC_OK && !m->ignore_syncs && *at) {
        struct name_change *change = *at;
        if (!is_inside(change->to, path) && !is_inside(change->from, path)) {
            at = &change->next;
            continue;
        }
        names_apply(&m->durable, change->from, change->to, change->inode);
        *at = change->next;
        name_change_free(change);
    }
    m->name_changes_end = &m->name_changes;
    while (*m->name_changes_end)
        m->name_changes_end = &(*m->name_changes_end)->next;
    pthread_mutex_unlock(&m->mutex);
    return rc;
}

static enum rc memory_list(struct file_system *fs, const char *path,
                           enum rc (*each)(void *arg, const char *name), void *arg)
{
    struct memory_system *m = system_of(fs);
    char **found = NULL;
    size_t count = 0;
    pthread_mutex_lock(&m->mutex);
    enum rc rc = m->failed ? RC_IO : names_find(&m->live, path) ? RC_OK : RC_NOT_FOUND;
    for (size_t i = 0; i < m->live.count && rc == RC_OK; i++) {
        const char *at = m->live.items[i].path;
        if (!is_inside(at, path))
            continue;
        found = xrealloc(found, (count + 1) * sizeof(*found));
        found[count++] = xstrdup(at + strlen(path) + 1);
    }
    pthread_mutex_unlock(&m->mutex);
    for (size_t i = 0; i < count; i++) {
        if (rc == RC_OK)
            rc = each(arg, found[i]);
        free(found[i]);
    }
    free(found);
    return rc;
}

static void memory_free(struct file_system *fs)
{
    struct memory_system *m = system_of(fs);
    while (m->name_changes) {
        struct name_change *change = m->name_changes;
        m->name_changes = change->next;
        name_change_free(change);
    }
    names_clear(&m->live);
    names_clear(&m->durable);
    free(m->live.items);
    free(m->durable.items);
    pthread_mutex_destroy(&m->mutex);
    free(m);
}

struct file_system *file_system_memory_new(uint64_t seed)
{
    static const struct file_calls calls = {
        .free = memory_free,
        .open = memory_open,
        .close = memory_close,
        .read_at = memory_read_at,
        .write_at = memory_write_at,
        .size = memory_size,
        .truncate = memory_truncate,
        .sync = memory_sync,
        .map = memory_map,
        .unmap = memory_unmap,
        .lock = memory_lock,
        .rename = memory_rename,
        .remove = memory_remove,
        .make_directory = memory_make_directory,
        .sync_directory = memory_sync_directory,
        .list = memory_list,
    };
    struct memory_system *m = xcalloc(1, sizeof(*m));
    m->base.calls = &calls;
    m->random = seed;
    m->space_bytes = -1;
    m->name_changes_end = &m->name_changes;
    pthread_mutex_init(&m->mutex, NULL);
    return &m->base;
}

void file_system_fail_after(struct file_system *fs, uint64_t changes)
{
    system_of(fs)->changes_left = changes;
}

void file_system_fail(struct file_system *fs) { system_of(fs)->failed = true; }

bool file_system_failed(const struct file_system *fs)
{
    return ((const struct memory_system *)fs)->failed;
}

void file_system_set_space(struct file_system *fs, int64_t bytes)
{
    system_of(fs)->space_bytes = bytes;
}

void file_system_ignore_syncs(struct file_system *fs) { system_of(fs)->ignore_syncs = true; }

void file_system_fail_syncs(struct file_system *fs, int count)
{
    system_of(fs)->fail_syncs = count;
}
