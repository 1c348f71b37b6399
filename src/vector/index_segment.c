/* Files of a segment: `ID.rows` is the truth, `ID.words` and `ID.vectors-N` are made of it and can
 * be made again; `ID.dead-G` says which rows are dead (the G-th time that it was written). */
#include "vector/index_private.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define VECTORS_KIND    SEGMENT_KIND('V', 'V', 'E', 'C')
#define VECTORS_VERSION 1
#define DEAD_KIND       SEGMENT_KIND('V', 'D', 'E', 'D')
#define DEAD_VERSION    1
#define DEAD_BYTES_MAX  (512u * 1024 * 1024)
#define TAG_SLOTS       SEGMENT_KIND('S', 'L', 'O', 'T')
#define CANCEL_ROWS     1024 /* between two looks at whether to go on */

struct building {
    struct index *index;
    uint64_t id;
    bool (*cancelled)(void *arg);
    void *arg;
    struct err *err;
};

static void name_file(char path[INDEX_PATH_BYTES_MAX], const char *folder, uint64_t id,
                      const char *what, size_t number)
{
    if (strcmp(what, "vectors") == 0)
        snprintf(path, INDEX_PATH_BYTES_MAX, "%s/%016" PRIx64 ".vectors-%zu", folder, id, number);
    else
        snprintf(path, INDEX_PATH_BYTES_MAX, "%s/%016" PRIx64 ".%s", folder, id, what);
}

static enum rc check_cancel(const struct building *b, size_t row)
{
    return row % CANCEL_ROWS == 0 && b->cancelled && b->cancelled(b->arg) ? RC_CANCELLED : RC_OK;
}

/* ---- rows ---- */

static enum rc build_rows(struct building *b, const struct index_view_part *parts, size_t count,
                          uint32_t **maps)
{
    char path[INDEX_PATH_BYTES_MAX];
    struct rows_writer *writer;
    size_t rows = 0;
    for (size_t p = 0; p < count; p++)
        rows += parts[p].rows - (parts[p].dead ? parts[p].dead->count : 0);
    name_file(path, b->index->folder, b->id, "rows", 0);
    enum rc rc = rows_writer_new(b->index->fs, path, &b->index->shape, rows, &writer, b->err);
    if (rc != RC_OK)
        return rc;
    uint32_t next = 0;
    for (size_t p = 0; p < count && rc == RC_OK; p++) {
        maps[p] = xmalloc((parts[p].rows + 1) * sizeof(uint32_t));
        for (uint32_t row = 0; rc == RC_OK && row < parts[p].rows; row++) {
            struct index_row item;
            maps[p][row] = UINT32_MAX;
            if (index_is_dead(&parts[p], row))
                continue;
            rc = check_cancel(b, next);
            if (rc == RC_OK)
                rc = index_part_row(parts[p].part, row, &item);
            if (rc == RC_OK)
                rc = rows_writer_add(writer, &item, index_part_number(parts[p].part, row));
            maps[p][row] = next++;
        }
    }
    if (rc == RC_OK)
        return rows_writer_seal(writer);
    rows_writer_abandon(writer);
    return rc;
}

/* ---- words ---- */

static enum rc analyse_rows(struct building *b, const struct rows_segment *rows,
                            struct words_memory *memory)
{
    struct analyzer *analyzer;
    enum rc rc = analyzer_new(b->index->config.language, &analyzer, b->err);
    if (rc != RC_OK)
        return rc;
    for (uint32_t row = 0; rc == RC_OK && row < rows_segment_count(rows); row++) {
        struct index_row item;
        rc = check_cancel(b, row);
        if (rc == RC_OK)
            rc = rows_segment_row(rows, row, &item);
        if (rc == RC_OK)
            words_memory_add(memory, analyzer, item.texts);
    }
    analyzer_free(analyzer);
    return rc;
}

static enum rc build_words(struct building *b, const struct rows_segment *rows)
{
    char path[INDEX_PATH_BYTES_MAX];
    const struct index_config *config = &b->index->config;
    struct segment_writer *writer;
    int64_t bytes;
    struct words_memory *memory =
        words_memory_new(config->text_count, rows_segment_count(rows) + 1);
    enum rc rc = analyse_rows(b, rows, memory);
    name_file(path, b->index->folder, b->id, "words", 0);
    if (rc == RC_OK)
        rc = segment_create(b->index->fs, path, WORDS_SEGMENT_KIND, WORDS_SEGMENT_VERSION, &writer,
                            b->err);
    if (rc == RC_OK) {
        rc = words_segment_write(writer, memory, config->text_count, config->language);
        if (rc == RC_OK)
            rc = segment_seal(writer, &bytes);
        else
            segment_abandon(writer);
    }
    words_memory_free(memory);
    return rc;
}

/* ---- vectors ---- */

static void to_unit(float *vector, unsigned dimension)
{
    double sum = 0;
    for (unsigned d = 0; d < dimension; d++)
        sum += (double)vector[d] * vector[d];
    float scale = sum > 0 ? (float)(1 / sqrt(sum)) : 0;
    for (unsigned d = 0; d < dimension; d++)
        vector[d] *= scale;
}

/* The vectors of a name, in the order of the rows that have one. The caller frees both. */
static enum rc gather_vectors(struct building *b, const struct rows_segment *rows, size_t v,
                              float **vectors, uint32_t **slots, uint32_t *count)
{
    const struct index_vector_field *field = &b->index->config.vectors[v];
    uint32_t n = rows_segment_count(rows);
    enum rc rc = RC_OK;
    *count = 0;
    *vectors = malloc((size_t)n * field->dimension * sizeof(float) + 64);
    *slots = malloc(((size_t)n + 1) * sizeof(uint32_t));
    if (!*vectors || !*slots)
        return RC_LIMIT;
    for (uint32_t row = 0; rc == RC_OK && row < n; row++) {
        struct index_row item;
        float *to = *vectors + (size_t)*count * field->dimension;
        rc = rows_segment_row(rows, row, &item);
        if (rc != RC_OK || !item.vectors[v])
            continue;
        memcpy(to, item.vectors[v], field->dimension * sizeof(float));
        if (field->metric == METRIC_COSINE)
            to_unit(to, field->dimension);
        (*slots)[(*count)++] = row;
    }
    return rc;
}

static enum rc write_vectors(struct building *b, struct segment_writer *writer, size_t v,
                             const float *vectors, const uint32_t *slots, uint32_t count,
                             bool identity)
{
    const struct index_vector_field *field = &b->index->config.vectors[v];
    struct dense_options options = {
        .dimension = field->dimension, .metric = field->metric, .seed = b->id};
    segment_begin(writer, TAG_SLOTS, 0);
    enum rc rc = segment_write(writer, &count, sizeof(count));
    if (rc == RC_OK && !identity && count)
        rc = segment_write(writer, slots, count * sizeof(*slots));
    if (rc == RC_OK && count)
        rc = dense_build(writer, vectors, count, &options, b->cancelled, b->arg, b->err);
    return rc;
}

static enum rc build_vectors(struct building *b, const struct rows_segment *rows, size_t v)
{
    char path[INDEX_PATH_BYTES_MAX];
    struct segment_writer *writer;
    float *vectors = NULL;
    uint32_t *slots = NULL, count;
    int64_t bytes;
    enum rc rc = gather_vectors(b, rows, v, &vectors, &slots, &count);
    name_file(path, b->index->folder, b->id, "vectors", v);
    if (rc == RC_OK)
        rc = segment_create(b->index->fs, path, VECTORS_KIND, VECTORS_VERSION, &writer, b->err);
    if (rc == RC_OK) {
        bool identity = count == rows_segment_count(rows);
        rc = write_vectors(b, writer, v, vectors, slots, count, identity);
        if (rc == RC_OK)
            rc = segment_seal(writer, &bytes);
        else
            segment_abandon(writer);
    }
    free(vectors);
    free(slots);
    return rc;
}

/* ---- opening ---- */

static enum rc open_rows(struct index *index, uint64_t id, struct rows_segment **out,
                         struct err *err)
{
    char path[INDEX_PATH_BYTES_MAX];
    struct segment *file;
    name_file(path, index->folder, id, "rows", 0);
    enum rc rc = segment_open(index->fs, path, ROWS_SEGMENT_KIND, ROWS_SEGMENT_VERSION, &file, err);
    if (rc == RC_OK) {
        rc = rows_segment_open(file, &index->shape, out);
        if (rc != RC_OK)
            err_set(err, ERR_INTERNAL, "%s: rows of the index are damaged", path);
    }
    return rc;
}

static enum rc open_words(struct index *index, struct index_segment *s, struct err *err)
{
    char path[INDEX_PATH_BYTES_MAX];
    struct segment *file;
    name_file(path, index->folder, s->id, "words", 0);
    enum rc rc =
        segment_open(index->fs, path, WORDS_SEGMENT_KIND, WORDS_SEGMENT_VERSION, &file, err);
    if (rc != RC_OK)
        return rc;
    rc = words_segment_open(file, index->config.text_count, rows_segment_count(s->rows),
                            index->config.language, &s->words);
    return rc == RC_OK ? RC_OK : RC_CORRUPT;
}

static enum rc open_slots(struct index_segment *s, size_t v, uint32_t *count)
{
    struct str section;
    struct index_slots *slots = &s->slots[v];
    enum rc rc = segment_section(s->vector_files[v], TAG_SLOTS, 0, &section);
    uint32_t rows = rows_segment_count(s->rows);
    if (rc != RC_OK || section.n < sizeof(*count))
        return RC_CORRUPT;
    memcpy(count, section.p, sizeof(*count));
    slots->count = *count;
    slots->identity = section.n == sizeof(*count) && (*count == rows || *count == 0);
    if (slots->identity)
        return RC_OK;
    if (section.n != (1 + (size_t)*count) * sizeof(uint32_t) || *count > rows)
        return RC_CORRUPT;
    slots->rows = xmalloc(*count * sizeof(uint32_t));
    memcpy(slots->rows, section.p + sizeof(*count), *count * sizeof(uint32_t));
    for (uint32_t i = 0; i < *count; i++)
        if (slots->rows[i] >= rows)
            return RC_CORRUPT;
    return RC_OK;
}

static enum rc open_vectors(struct index *index, struct index_segment *s, size_t v, struct err *err)
{
    char path[INDEX_PATH_BYTES_MAX];
    uint32_t count = 0;
    name_file(path, index->folder, s->id, "vectors", v);
    enum rc rc =
        segment_open(index->fs, path, VECTORS_KIND, VECTORS_VERSION, &s->vector_files[v], err);
    if (rc != RC_OK)
        return rc;
    rc = open_slots(s, v, &count);
    if (rc == RC_OK && count)
        rc = dense_open(s->vector_files[v], &s->dense[v], err);
    if (rc == RC_OK && count && dense_count(s->dense[v]) != count)
        rc = RC_CORRUPT;
    return rc;
}

static void close_vectors(struct index_segment *s, size_t v)
{
    if (s->dense[v])
        dense_close(s->dense[v]);
    if (s->vector_files[v])
        segment_close(s->vector_files[v]);
    free(s->slots[v].rows);
    s->dense[v] = NULL;
    s->vector_files[v] = NULL;
    s->slots[v] = (struct index_slots){0};
}

/* What is made of the rows; a file that is missing or damaged is made again, once. One that a newer
 * version wrote is refused. */
static enum rc open_made(struct index *index, struct index_segment *s, struct err *err)
{
    struct building b = {.index = index, .id = s->id, .err = err};
    enum rc rc = RC_OK;
    if (index->config.text_count) {
        rc = open_words(index, s, err);
        if (rc == RC_CORRUPT || rc == RC_NOT_FOUND) {
            rc = build_words(&b, s->rows);
            if (rc == RC_OK)
                rc = open_words(index, s, err);
        }
    }
    for (size_t v = 0; rc == RC_OK && v < index->config.vector_count; v++) {
        rc = open_vectors(index, s, v, err);
        if (rc == RC_CORRUPT || rc == RC_NOT_FOUND) {
            close_vectors(s, v);
            rc = build_vectors(&b, s->rows, v);
            if (rc == RC_OK)
                rc = open_vectors(index, s, v, err);
        }
    }
    return rc;
}

enum rc index_segment_open(struct index *index, uint64_t id, struct index_segment **out,
                           struct err *err)
{
    struct index_segment *s = xcalloc(1, sizeof(*s));
    s->id = id;
    s->fs = index->fs;
    s->folder = xstrdup(index->folder);
    pthread_mutex_init(&s->columns_lock, NULL);
    enum rc rc = open_rows(index, id, &s->rows, err);
    if (rc == RC_OK)
        rc = open_made(index, s, err);
    if (rc == RC_OK)
        *out = s;
    else
        index_segment_close(s);
    return rc;
}

static void remove_file(struct file_system *fs, const char *path)
{
    enum rc rc = file_remove(fs, path);
    UNUSED(rc); /* what stays is removed at the next opening */
}

void index_segment_close(struct index_segment *s)
{
    char path[INDEX_PATH_BYTES_MAX];
    if (!s)
        return;
    rows_segment_close(s->rows);
    words_segment_close(s->words);
    columns_free(atomic_load(&s->columns));
    pthread_mutex_destroy(&s->columns_lock);
    for (size_t v = 0; v < INDEX_VECTORS_MAX; v++)
        close_vectors(s, v);
    for (int kind = 0; s->obsolete && kind < 2 + INDEX_VECTORS_MAX; kind++) {
        name_file(path, s->folder, s->id,
                  kind == 0   ? "rows"
                  : kind == 1 ? "words"
                              : "vectors",
                  (size_t)(kind - 2));
        remove_file(s->fs, path);
    }
    if (s->obsolete && s->dead_file) {
        snprintf(path, sizeof(path), "%s/%016" PRIx64 ".dead-%" PRIu64, s->folder, s->id,
                 s->dead_file);
        remove_file(s->fs, path);
    }
    free(s->folder);
    free(s);
}

int64_t index_segment_bytes(const struct index_segment *s)
{
    int64_t bytes = rows_segment_bytes(s->rows);
    if (s->words)
        bytes += words_segment_bytes(s->words);
    for (size_t v = 0; v < INDEX_VECTORS_MAX; v++)
        bytes += s->vector_files[v] ? segment_bytes(s->vector_files[v]) : 0;
    return bytes;
}

/* ---- building ---- */

enum rc index_segment_build(struct index *index, const struct index_view_part *parts, size_t count,
                            uint64_t id, uint32_t **maps, bool (*cancelled)(void *arg), void *arg,
                            struct err *err)
{
    struct building b = {.index = index, .id = id, .cancelled = cancelled, .arg = arg, .err = err};
    struct rows_segment *rows = NULL;
    enum rc rc = build_rows(&b, parts, count, maps);
    if (rc == RC_OK)
        rc = open_rows(index, id, &rows, err);
    if (rc == RC_OK && index->config.text_count)
        rc = build_words(&b, rows);
    for (size_t v = 0; rc == RC_OK && v < index->config.vector_count; v++)
        rc = build_vectors(&b, rows, v);
    rows_segment_close(rows);
    return rc;
}

/* ---- dead rows ---- */

static void name_dead(char name[64], uint64_t id, uint64_t generation)
{
    snprintf(name, 64, "%016" PRIx64 ".dead-%" PRIu64, id, generation);
}

enum rc index_dead_store(struct index *index, uint64_t id, uint64_t generation,
                         const struct index_dead *dead, struct err *err)
{
    char name[64];
    name_dead(name, id, generation);
    return manifest_store(index->fs, index->folder, name, DEAD_KIND, DEAD_VERSION,
                          str_make(dead->words, dead->bits / 8), err);
}

enum rc index_dead_load(struct index *index, uint64_t id, uint64_t generation, uint32_t rows,
                        struct index_dead **out, struct err *err)
{
    char name[64];
    struct buf content;
    name_dead(name, id, generation);
    buf_init(&content, DEAD_BYTES_MAX);
    enum rc rc =
        manifest_load(index->fs, index->folder, name, DEAD_KIND, DEAD_VERSION, &content, err);
    uint32_t bits = (uint32_t)ALIGN_UP(rows, 64);
    if (rc == RC_OK && buf_len(&content) != bits / 8)
        rc = RC_CORRUPT;
    if (rc == RC_OK) {
        struct index_dead *dead = xcalloc(1, sizeof(*dead) + bits / 8);
        dead->refs = 1;
        dead->bits = bits;
        memcpy(dead->words, buf_str(&content).p, bits / 8);
        for (uint32_t row = 0; row < rows; row++)
            dead->count += bitmap_get(dead->words, row);
        *out = dead;
    } else {
        err_set(err, ERR_INTERNAL, "%s/%s is missing or damaged", index->folder, name);
        rc = RC_CORRUPT;
    }
    buf_fini(&content);
    return rc;
}

void index_dead_remove(struct index *index, uint64_t id, uint64_t generation)
{
    char path[INDEX_PATH_BYTES_MAX];
    snprintf(path, sizeof(path), "%s/%016" PRIx64 ".dead-%" PRIu64, index->folder, id, generation);
    remove_file(index->fs, path);
}

/* ---- leftovers ---- */

struct leftovers {
    struct index *index;
    const struct index_manifest *manifest;
};

static bool is_named(const struct index_manifest *manifest, uint64_t id, const char *rest)
{
    for (size_t i = 0; i < manifest->segment_count; i++) {
        char dead[64];
        if (manifest->segments[i].id != id)
            continue;
        snprintf(dead, sizeof(dead), ".dead-%" PRIu64, manifest->segments[i].dead);
        return strcmp(rest, ".rows") == 0 || strcmp(rest, ".words") == 0 ||
               strncmp(rest, ".vectors-", 9) == 0 || strcmp(rest, dead) == 0;
    }
    return false;
}

static enum rc look_at(void *arg, const char *name)
{
    struct leftovers *l = arg;
    char path[INDEX_PATH_BYTES_MAX];
    if (strspn(name, "0123456789abcdef") != 16 || name[16] != '.')
        return RC_OK;
    if (strchr(name + 17, '.') == NULL &&
        is_named(l->manifest, strtoull(name, NULL, 16), name + 16))
        return RC_OK;
    snprintf(path, sizeof(path), "%s/%s", l->index->folder, name);
    remove_file(l->index->fs, path);
    return RC_OK;
}

void index_remove_leftovers(struct index *index, const struct index_manifest *manifest)
{
    struct leftovers l = {index, manifest};
    enum rc rc = file_list(index->fs, index->folder, look_at, &l);
    UNUSED(rc); /* they only take space */
}
