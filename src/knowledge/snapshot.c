/* Snapshots of a collection's rows: consistent copies beside the indexes, in
 * INDEXES/snapshots/COLLECTION/NAME, and going back to one of them. For collections whose rows
 * callers brought: documents' rows say more than chunks alone could bring back.
 *
 * A copy is made in a folder that ends in ".part" and gets its name when it is complete, so what a
 * killed process leaves is no snapshot; the next one of the collection removes it. Going back makes
 * the next generation's index from the copy and switches in one transaction, as a rebuild does. */
#include "knowledge/snapshot.h"
#include "base/clock.h"
#include "knowledge/knowledge_private.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_BYTES_MAX (KNOWLEDGE_PATH_BYTES_MAX + 256)
#define PART_SUFFIX      ".part"
#define REMOVE_DEPTH     4

static void folder_of(struct knowledge *knowledge, struct id collection, char out[FOLDER_BYTES_MAX])
{
    char id[ID_TEXT_BYTES_MAX];
    id_format(collection, "coll", id);
    snprintf(out, FOLDER_BYTES_MAX, "%s/snapshots/%s", knowledge->index_folder, id);
}

/* Names stand in paths. */
static bool name_is_good(struct str name)
{
    bool ok = name.n > 0 && name.n <= SNAPSHOT_NAME_BYTES_MAX && name.p[0] != '.' &&
              !str_ends(name, STR(PART_SUFFIX));
    for (size_t i = 0; ok && i < name.n; i++) {
        char c = name.p[i];
        ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '-' || c == '_' || c == '.';
    }
    return ok;
}

static enum rc check_kind(const struct collection *collection, struct err *err)
{
    if (collection->spec.dimension)
        return RC_OK;
    return err_set(err, ERR_CONFLICT,
                   "snapshots are of collections of vectors that callers bring; documents are "
                   "backed up with the data folder");
}

static enum rc find_snapshot(struct knowledge *knowledge, const struct collection *collection,
                             struct str name, char path[FOLDER_BYTES_MAX], struct err *err)
{
    struct stat info;
    folder_of(knowledge, collection->row.id, path);
    size_t n = strlen(path);
    if (name_is_good(name))
        snprintf(path + n, FOLDER_BYTES_MAX - n, "/%.*s", STR_ARG(name));
    if (!name_is_good(name) || stat(path, &info) < 0 || !S_ISDIR(info.st_mode))
        return err_set_field(err, ERR_NOT_FOUND, "snapshot", "there is no snapshot '%.*s'",
                             (int)MIN(name.n, (size_t)SNAPSHOT_NAME_BYTES_MAX), name.p);
    return RC_OK;
}

static void remove_unfinished(const char *folder)
{
    char path[FOLDER_BYTES_MAX + 300];
    struct dirent *entry;
    DIR *dir = opendir(folder);
    while (dir && (entry = readdir(dir)))
        if (str_ends(str_from(entry->d_name), STR(PART_SUFFIX))) {
            snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
            knowledge_remove_folder(path, REMOVE_DEPTH);
        }
    if (dir)
        closedir(dir);
}

static enum rc make_folder(struct knowledge *knowledge, const char *folder, struct err *err)
{
    char parent[FOLDER_BYTES_MAX];
    struct file_system *fs = file_system_real();
    snprintf(parent, sizeof(parent), "%s/snapshots", knowledge->index_folder);
    if (file_make_directory(fs, parent) == RC_OK && file_make_directory(fs, folder) == RC_OK &&
        file_sync_directory(fs, parent) == RC_OK)
        return RC_OK;
    return err_set(err, ERR_INTERNAL, "the folder of snapshots could not be made: %s",
                   strerror(errno));
}

/* The copy under its final name, durable with its folder. */
static enum rc keep_part(const char *part, const char *path, const char *folder, struct err *err)
{
    struct file_system *fs = file_system_real();
    if (file_rename(fs, part, path) != RC_OK || file_sync_directory(fs, folder) != RC_OK)
        return err_set(err, ERR_INTERNAL, "the snapshot could not be stored: %s", strerror(errno));
    return RC_OK;
}

enum rc knowledge_snapshot(struct knowledge *knowledge, const struct collection *collection,
                           struct arena *arena, struct str *name, struct err *err)
{
    char folder[FOLDER_BYTES_MAX], path[FOLDER_BYTES_MAX + 64], part[FOLDER_BYTES_MAX + 72];
    char text[CLOCK_ISO_BYTES_MAX];
    struct index *index;
    enum rc rc = check_kind(collection, err);
    if (rc != RC_OK)
        return rc;
    size_t n = clock_format_iso(clock_wall_ns(), 3, text);
    for (size_t i = 0; i < n; i++) /* a name of a file on every system */
        text[i] = text[i] == ':' ? '-' : text[i];
    *name = arena_copy(arena, str_make(text, n));
    if (!name->p)
        return err_set(err, ERR_OVERLOADED, "no memory for this request");
    folder_of(knowledge, collection->row.id, folder);
    pthread_mutex_lock(&knowledge->snapshot_lock);
    remove_unfinished(folder);
    snprintf(path, sizeof(path), "%s/%s", folder, text);
    snprintf(part, sizeof(part), "%s" PART_SUFFIX, path);
    rc = make_folder(knowledge, folder, err);
    if (rc == RC_OK)
        rc = knowledge_index_get(knowledge, collection, &index, err);
    if (rc == RC_OK) {
        rc = index_snapshot(index, part, err);
        knowledge_index_put(knowledge, index);
        if (rc == RC_OK)
            rc = keep_part(part, path, folder, err);
        if (rc != RC_OK)
            knowledge_remove_folder(part, REMOVE_DEPTH);
    }
    pthread_mutex_unlock(&knowledge->snapshot_lock);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    const struct snapshot_info *x = a, *y = b;
    return -str_cmp(x->name, y->name);
}

enum rc knowledge_snapshots(struct knowledge *knowledge, const struct collection *collection,
                            struct arena *arena, struct snapshot_info **out, size_t *count,
                            struct err *err)
{
    char folder[FOLDER_BYTES_MAX], path[FOLDER_BYTES_MAX + 300];
    struct dirent *entry;
    folder_of(knowledge, collection->row.id, folder);
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct snapshot_info, SNAPSHOTS_MAX);
    if (!*out)
        return err_set(err, ERR_OVERLOADED, "no memory for this request");
    DIR *dir = opendir(folder);
    while (dir && *count < SNAPSHOTS_MAX && (entry = readdir(dir))) {
        struct stat info;
        if (!name_is_good(str_from(entry->d_name)))
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (stat(path, &info) < 0)
            continue;
        (*out)[(*count)++] = (struct snapshot_info){
            .name = arena_copy(arena, str_from(entry->d_name)),
            .created_ns = (int64_t)info.st_mtim.tv_sec * NS_PER_S + info.st_mtim.tv_nsec};
    }
    if (dir)
        closedir(dir);
    qsort(*out, *count, sizeof(**out), by_name);
    return RC_OK;
}

enum rc knowledge_snapshot_delete(struct knowledge *knowledge, const struct collection *collection,
                                  struct str name, struct err *err)
{
    char path[FOLDER_BYTES_MAX];
    enum rc rc = find_snapshot(knowledge, collection, name, path, err);
    if (rc == RC_OK)
        knowledge_remove_folder(path, REMOVE_DEPTH);
    return rc;
}

void knowledge_snapshots_forget(struct knowledge *knowledge, struct id collection)
{
    char folder[FOLDER_BYTES_MAX];
    folder_of(knowledge, collection, folder);
    knowledge_remove_folder(folder, REMOVE_DEPTH + 1);
}

/* ---- going back ---- */

struct restore {
    const struct collection *collection;
    const struct actor *actor;
    struct str snapshot;
    struct arena *arena;
    int64_t generation;
};

/* ERR_CONFLICT when something else has switched meanwhile. */
static enum rc switch_write(void *arg, struct db_txn *txn, struct err *err)
{
    struct restore *restore = arg;
    const struct collection_row *from = &restore->collection->row;
    struct collection_row row;
    enum rc rc = collection_row_get(txn, from->project, from->id, restore->arena, &row, err);
    if (rc == RC_OK && row.generation != from->generation)
        return err_set(err, ERR_CONFLICT, "the collection was rebuilt meanwhile: try again");
    row.generation = restore->generation;
    if (rc == RC_OK)
        rc = collection_row_update(txn, &row, err);
    struct str after =
        arena_printf(restore->arena, "{\"snapshot\":\"%.*s\"}", STR_ARG(restore->snapshot));
    return rc == RC_OK ? audit_write(txn, restore->actor, row.project, "restore", STR("collection"),
                                     row.name, STR_EMPTY, after, err)
                       : rc;
}

enum rc knowledge_restore(struct knowledge *knowledge, const struct collection *collection,
                          const struct actor *actor, struct str name, struct arena *arena,
                          struct err *err)
{
    char path[FOLDER_BYTES_MAX], target[FOLDER_BYTES_MAX];
    struct index *copy;
    struct restore restore = {collection, actor, name, arena, collection->row.generation + 1};
    enum rc rc = check_kind(collection, err);
    if (rc == RC_OK)
        rc = find_snapshot(knowledge, collection, name, path, err);
    if (rc != RC_OK)
        return rc;
    pthread_mutex_lock(&knowledge->snapshot_lock);
    knowledge_index_path(knowledge, collection->row.id, restore.generation, target);
    knowledge_remove_folder(target, REMOVE_DEPTH); /* of one that failed */
    rc = index_open(file_system_real(), path, NULL, &copy, err);
    if (rc == RC_OK) {
        rc = index_snapshot(copy, target, err);
        index_close(copy);
    }
    if (rc == RC_OK)
        rc = db_write_wait(knowledge->db, switch_write, &restore, err);
    if (rc == RC_OK)
        knowledge_forget_generation(knowledge, collection->row.id, collection->row.generation);
    else
        knowledge_remove_folder(target, REMOVE_DEPTH);
    pthread_mutex_unlock(&knowledge->snapshot_lock);
    return rc;
}
