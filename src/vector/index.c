/* Opening and closing an index, its settings and figures. */
#include "vector/index_private.h"
#include "vector/index_manifest.h"
#include <stdio.h>
#include <stdlib.h>

#define NAMES_BYTES_MAX (64 * 1024)
#define OPEN_BYTES_MAX  (8u * 1024 * 1024)
#define LOG_FILE_BYTES  (64ll * 1024 * 1024)
#define ROWS_LOG_KIND   LOG_KIND('V', 'R', 'O', 'W')

/* ---- making ---- */

static enum rc make_folder(struct file_system *fs, const char *folder, struct err *err)
{
    char path[INDEX_PATH_BYTES_MAX];
    snprintf(path, sizeof(path), "%s/rows", folder);
    enum rc rc = file_make_directory(fs, folder);
    if (rc == RC_OK)
        rc = file_make_directory(fs, path);
    if (rc == RC_OK)
        rc = file_sync_directory(fs, folder);
    snprintf(path, sizeof(path), "%s", folder);
    char *slash = strrchr(path, '/');
    if (rc == RC_OK && slash) {
        *slash = '\0';
        rc = file_sync_directory(fs, path);
    }
    if (rc != RC_OK)
        err_set(err, ERR_INTERNAL, "%s: the index's folder cannot be made", folder);
    return rc;
}

/* The manifest of an index that is there, or of the new one. */
static enum rc load_or_make(struct index *index, const struct index_config *config,
                            struct arena *arena, struct index_manifest *manifest, struct err *err)
{
    enum rc rc = index_manifest_load(index->fs, index->folder, arena, manifest, err);
    if (rc == RC_OK && config && !index_config_same(config, &manifest->config)) {
        err_set(err, ERR_CONFLICT, "%s holds an index with other fields", index->folder);
        return RC_CONFLICT;
    }
    if (rc != RC_NOT_FOUND)
        return rc;
    if (!config)
        return err_set(err, ERR_NOT_FOUND, "there is no index in %s", index->folder);
    rc = index_config_check(config, err);
    if (rc != RC_OK)
        return rc;
    *manifest = (struct index_manifest){.next_row = 1, .next_file = 1};
    rc = index_config_copy(config, arena, &manifest->config);
    return rc == RC_OK ? index_manifest_store(index->fs, index->folder, manifest, err) : rc;
}

static void take_ranking(struct index *index)
{
    index->ranking = (struct words_ranking){
        .fields = index->config.text_count, .k1 = index->config.k1, .b = index->config.b};
    for (size_t t = 0; t < index->config.text_count; t++)
        index->ranking.weights[t] = index->config.texts[t].weight;
}

static enum rc take_manifest(struct index *index, const struct index_manifest *manifest)
{
    enum rc rc = index_config_copy(&manifest->config, &index->names, &index->config);
    const struct index_config *config = &index->config;
    index->shape.vector_count = config->vector_count;
    index->shape.text_count = config->text_count;
    for (size_t v = 0; v < config->vector_count; v++)
        index->shape.dimensions[v] = config->vectors[v].dimension;
    index->next_row = manifest->next_row;
    index->next_file = manifest->next_file;
    index->watermark = manifest->watermark;
    take_ranking(index);
    return rc;
}

/* ---- opening ---- */

struct replay {
    struct index *index;
    struct index_view *view;
};

static enum rc replay_each(void *arg, const struct log_record *record)
{
    struct replay *replay = arg;
    return index_replay(replay->index, replay->view, record);
}

static enum rc open_segments(struct index *index, const struct index_manifest *manifest,
                             struct index_view *view, struct err *err)
{
    enum rc rc = manifest->segment_count < INDEX_PARTS_MAX ? RC_OK : RC_CORRUPT;
    for (size_t i = 0; rc == RC_OK && i < manifest->segment_count; i++) {
        struct index_segment *segment;
        rc = index_segment_open(index, manifest->segments[i].id, &segment, err);
        if (rc != RC_OK)
            break;
        struct index_view_part *vp = &view->parts[view->count++];
        *vp = (struct index_view_part){.part = index_part_new(NULL, segment),
                                       .rows = rows_segment_count(segment->rows),
                                       .disabled = rows_segment_disabled(segment->rows)};
        segment->dead_file = manifest->segments[i].dead;
        if (segment->dead_file) {
            rc = index_dead_load(index, segment->id, segment->dead_file, vp->rows, &vp->dead, err);
            segment->dead_stored = rc == RC_OK ? vp->dead->count : 0;
        }
    }
    return rc;
}

static enum rc open_log(struct index *index, struct index_view *view, struct err *err)
{
    char path[INDEX_PATH_BYTES_MAX];
    struct replay replay = {.index = index, .view = view};
    struct log_recovery recovery;
    snprintf(path, sizeof(path), "%s/rows", index->folder);
    struct log_options options = {.fs = index->fs,
                                  .directory = path,
                                  .kind = ROWS_LOG_KIND,
                                  .epoch = index->epoch,
                                  .start_seq = index->watermark + 1,
                                  .file_bytes_max = LOG_FILE_BYTES};
    enum rc rc = log_open(&options, replay_each, &replay, &recovery, &index->log, err);
    if (rc == RC_CORRUPT)
        err_set(err, ERR_INTERNAL, "%s: a record of the index's log is damaged", index->folder);
    return rc;
}

static enum rc open_rows(struct index *index, const struct index_manifest *manifest,
                         struct err *err)
{
    struct index_view *view = xcalloc(1, sizeof(*view));
    view->refs = 1;
    index->view = view;
    index_remove_leftovers(index, manifest);
    enum rc rc = open_segments(index, manifest, view, err);
    return rc == RC_OK ? open_log(index, view, err) : rc;
}

static struct index *index_new(struct file_system *fs, const char *folder)
{
    struct index *index = xcalloc(1, sizeof(*index));
    index->fs = fs;
    index->folder = xstrdup(folder);
    index->waiting_end = &index->waiting;
    arena_init(&index->names, NAMES_BYTES_MAX);
    pthread_mutex_init(&index->leading, NULL);
    pthread_cond_init(&index->led, NULL);
    pthread_mutex_init(&index->viewing, NULL);
    pthread_mutex_init(&index->sealing, NULL);
    pthread_mutex_init(&index->merging, NULL);
    index->tail_rows_max = INDEX_TAIL_ROWS_MAX;
    return index;
}

enum rc index_open(struct file_system *fs, const char *folder, const struct index_config *config,
                   struct index **out, struct err *err)
{
    struct index *index = index_new(fs, folder);
    struct index_manifest manifest;
    struct arena arena;
    enum rc rc = RC_OK;
    *out = NULL;
    arena_init(&arena, OPEN_BYTES_MAX);
    if (config)
        rc = make_folder(fs, folder, err);
    else
        rc = index_manifest_load(fs, folder, &arena, &manifest, err);
    if (rc == RC_OK)
        rc = writer_lock_take(fs, folder, &index->lock, &index->epoch, err);
    if (rc == RC_OK)
        rc = load_or_make(index, config, &arena, &manifest, err);
    if (rc == RC_OK)
        rc = take_manifest(index, &manifest);
    if (rc == RC_OK)
        rc = analyzer_new(index->config.language, &index->analyzer, err);
    if (rc == RC_OK)
        rc = open_rows(index, &manifest, err);
    arena_fini(&arena);
    if (rc == RC_OK)
        *out = index;
    else
        index_close(index);
    return rc;
}

void index_close(struct index *index)
{
    if (!index)
        return;
    ASSERT(!index->has_leader && !index->waiting);
    if (index->view)
        index_view_release(index->view);
    if (index->log)
        log_close(index->log);
    writer_lock_release(index->lock);
    analyzer_free(index->analyzer);
    for (struct index_scratch *next, *scratch = index->scratches; scratch; scratch = next) {
        next = scratch->next;
        index_scratch_free(scratch);
    }
    arena_fini(&index->names);
    pthread_mutex_destroy(&index->leading);
    pthread_cond_destroy(&index->led);
    pthread_mutex_destroy(&index->viewing);
    pthread_mutex_destroy(&index->sealing);
    pthread_mutex_destroy(&index->merging);
    free(index->folder);
    free(index);
}

/* ---- settings and figures ---- */

const struct index_config *index_config_of(const struct index *index) { return &index->config; }

enum rc index_set_ranking(struct index *index, double k1, double b, const double *text_weights,
                          struct err *err)
{
    index_lead(index);
    struct index_config config = index->config;
    config.k1 = k1 == 0 ? INDEX_K1_DEFAULT : k1;
    config.b = b == 0 ? INDEX_B_DEFAULT : b;
    for (size_t t = 0; text_weights && t < config.text_count; t++)
        config.texts[t].weight = text_weights[t];
    enum rc rc = index_config_check(&config, err);
    if (rc == RC_OK)
        rc = index_store_view(index, index->view, &config, index->watermark, err);
    if (rc == RC_OK) {
        pthread_mutex_lock(&index->viewing);
        index->config.k1 = config.k1; /* only what nobody reads without the lock */
        index->config.b = config.b;
        for (size_t t = 0; t < config.text_count; t++)
            index->config.texts[t].weight = config.texts[t].weight;
        take_ranking(index);
        pthread_mutex_unlock(&index->viewing);
    }
    index_unlead(index);
    return rc;
}

void index_stats(struct index *index, struct index_stats *out)
{
    struct index_view *view = index_view_take(index);
    *out = (struct index_stats){.disk_bytes = (uint64_t)log_bytes(index->log),
                                .sealing = atomic_load(&index->is_sealing)};
    for (size_t p = 0; p < view->count; p++) {
        const struct index_view_part *vp = &view->parts[p];
        uint32_t dead = vp->dead ? vp->dead->count : 0;
        out->rows += vp->rows - dead;
        out->deleted += dead;
        if (vp->part->segment) {
            struct columns *columns = atomic_load(&vp->part->segment->columns);
            out->segments++;
            out->memory_bytes += columns ? columns_bytes(columns) : 0;
            out->disk_bytes += (uint64_t)index_segment_bytes(vp->part->segment);
            continue;
        }
        out->tail_rows += vp->rows - dead;
        pthread_rwlock_rdlock(&vp->part->tail->lock);
        out->memory_bytes += (uint64_t)index_tail_bytes(vp->part->tail);
        pthread_rwlock_unlock(&vp->part->tail->lock);
    }
    index_view_release(view);
}

/* ---- a copy ---- */

#define SNAPSHOT_ROWS 256

static enum rc copy_part(const struct index_view_part *vp, struct index *copy, struct err *err)
{
    struct index_row rows[SNAPSHOT_ROWS];
    size_t count = 0;
    enum rc rc = RC_OK;
    for (uint32_t row = 0; rc == RC_OK && row <= vp->rows; row++) {
        if (count == SNAPSHOT_ROWS || (row == vp->rows && count > 0)) {
            rc = index_upsert(copy, rows, count, err);
            count = 0;
        }
        if (rc == RC_OK && row < vp->rows && !index_is_dead(vp, row))
            rc = index_part_row(vp->part, row, &rows[count++]);
    }
    if (rc == RC_CORRUPT)
        err_set(err, ERR_INTERNAL, "rows of the index are damaged on disk");
    return rc;
}

enum rc index_snapshot(struct index *index, const char *folder, struct err *err)
{
    struct index *copy;
    pthread_mutex_lock(&index->viewing);
    struct index_config config = index->config;
    pthread_mutex_unlock(&index->viewing);
    enum rc rc = index_open(index->fs, folder, &config, &copy, err);
    if (rc != RC_OK)
        return rc;
    struct index_view *view = index_view_take(index);
    for (size_t p = 0; rc == RC_OK && p < view->count; p++)
        rc = copy_part(&view->parts[p], copy, err);
    index_view_release(view);
    index_close(copy);
    return rc;
}
