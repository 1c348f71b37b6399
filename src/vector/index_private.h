/* What the files of the index share. Private to src/vector/index_*.c.
 *
 * Rows lie in parts: tails (in memory; the last one grows) and sealed segments, in the order of
 * their numbers. A view is an immutable list of parts with what is dead in each: readers take a
 * reference and see one moment. One thread at a time leads (index_lead): it alone writes the log,
 * changes tails and publishes views. */
#pragma once
#include "base/map.h"
#include "store/lock.h"
#include "store/log.h"
#include "vector/index.h"
#include "vector/columns.h"
#include "vector/index_manifest.h"
#include "vector/rows_segment.h"
#include "vector/words_search.h"
#include "vector/words_segment.h"
#include <pthread.h>
#include <stdatomic.h>

#define INDEX_TAIL_ROWS_MAX  8192
#define INDEX_TAIL_BYTES_MAX (64ll * 1024 * 1024)
#define INDEX_PARTS_MAX      256
#define INDEX_PATH_BYTES_MAX 4096

/* Which row each vector belongs to: not all rows have one of every name. */
struct index_slots {
    uint32_t *rows; /* slot → row */
    uint32_t count;
    _Atomic bool identity; /* slot = row; in a tail it may cease while readers look */
};

struct index_dead { /* copied before it changes, once published */
    _Atomic uint32_t refs;
    uint32_t count, bits;
    uint64_t words[];
};

struct index_tail {
    uint32_t rows_max, rows; /* rows: the leader's; others know theirs from the view */
    int64_t bytes;           /* of what the rows hold */
    struct index_row *items; /* these four: one a row */
    uint64_t *numbers;
    yyjson_doc **payloads; /* NULL: empty */
    struct tail_block *blocks;
    struct dense_tail *dense[INDEX_VECTORS_MAX];
    struct index_slots slots[INDEX_VECTORS_MAX];
    uint32_t disabled;
    uint64_t log_seq;      /* of the record its last row came with */
    pthread_rwlock_t lock; /* over ids and words */
    struct map ids;        /* → row + 1, the latest of the id */
    struct words_memory *words;
};

/* A sealed segment: the rows, and what is made of them. */
struct index_segment {
    uint64_t id;
    struct file_system *fs;
    char *folder;
    bool obsolete; /* its files go with it */
    struct rows_segment *rows;
    struct words_segment *words;     /* NULL: no texts */
    pthread_mutex_t columns_lock;    /* while they are made */
    struct columns *_Atomic columns; /* NULL: nobody has asked */
    struct segment *vector_files[INDEX_VECTORS_MAX];
    struct dense *dense[INDEX_VECTORS_MAX]; /* NULL: no row has one */
    struct index_slots slots[INDEX_VECTORS_MAX];
    uint64_t dead_file;   /* generation; 0: none */
    uint32_t dead_stored; /* rows in it */
};

/* One of the two. */
struct index_part {
    _Atomic uint32_t refs;
    struct index_tail *tail;
    struct index_segment *segment;
};

struct index_view_part {
    struct index_part *part;
    struct index_dead *dead; /* NULL: none */
    uint32_t rows;
    uint32_t disabled; /* some of the rows are */
};

struct index_view {
    _Atomic uint32_t refs;
    size_t count;
    struct index_view_part parts[INDEX_PARTS_MAX];
};

struct index_scratch { /* one per searching thread */
    struct index_scratch *next;
    struct dense_scratch *dense;
    struct words_scratch *words;
    struct analyzer *analyzer;
};

struct index {
    struct file_system *fs;
    char *folder;
    struct index_config config; /* texts in `names` */
    struct arena names;
    struct rows_shape shape;
    struct writer_lock *lock;
    uint64_t epoch;
    struct log *log;

    pthread_mutex_t leading; /* over the three below */
    pthread_cond_t led;
    bool has_leader;
    struct index_change *waiting, **waiting_end;
    /* the leader's */
    uint64_t next_row, next_file;
    uint64_t watermark;
    bool sync_failed; /* the log holds records that were applied and may not be durable */
    struct analyzer *analyzer;
    uint32_t tail_rows_max; /* of tails to come: tests set it */

    pthread_mutex_t sealing, merging; /* one of each at a time; taken before the lead */
    _Atomic bool is_sealing;

    pthread_mutex_t viewing; /* over the pointer, the ranking and the scratches */
    struct index_view *view;
    struct words_ranking ranking;
    struct index_scratch *scratches;
};

/* ---- index_view.c ---- */
struct index_view *index_view_take(struct index *index);
void index_view_release(struct index_view *view);
/* A copy to change and publish: the leader's. */
struct index_view *index_view_copy(const struct index_view *view);
/* Gives back what the part of a view holds. */
void index_view_forget(struct index_view_part *vp);
void index_view_publish(struct index *index, struct index_view *view);
struct index_part *index_part_new(struct index_tail *tail, struct index_segment *segment);
void index_part_release(struct index_part *part);
/* Marks a row dead in a view that is not published. */
void index_view_kill(struct index_view *view, size_t part, uint32_t row);
static inline bool index_is_dead(const struct index_view_part *vp, uint32_t row)
{
    return vp->dead && row < vp->dead->bits && (vp->dead->words[row / 64] >> (row % 64) & 1);
}
/* The live row of this id. */
bool index_view_find(const struct index_view *view, struct str id, size_t *part, uint32_t *row);

/* ---- rows of a part, whatever it is: RC_CORRUPT ---- */
enum rc index_part_row(const struct index_part *part, uint32_t row,
                       struct index_row *out) MUST_CHECK;
uint64_t index_part_number(const struct index_part *part, uint32_t row);
bool index_part_disabled(const struct index_part *part, uint32_t row);
/* The payload's members; *out NULL: it has none. RC_LIMIT. */
enum rc index_part_payload(const struct index_part *part, uint32_t row, struct arena *arena,
                           yyjson_val **out) MUST_CHECK;

/* ---- index_segment.c ---- */
/* Writes the segment's files from the rows of the parts that are not dead. maps[i][row]: its new
 * row, or UINT32_MAX; the caller frees them. RC_CANCELLED. */
enum rc index_segment_build(struct index *index, const struct index_view_part *parts, size_t count,
                            uint64_t id, uint32_t **maps, bool (*cancelled)(void *arg), void *arg,
                            struct err *err) MUST_CHECK;
/* Opens it; words and vectors that are missing or damaged are made again. */
enum rc index_segment_open(struct index *index, uint64_t id, struct index_segment **out,
                           struct err *err) MUST_CHECK;
void index_segment_close(struct index_segment *segment);
int64_t index_segment_bytes(const struct index_segment *segment);
/* The dead rows of a segment in a file of their own. */
enum rc index_dead_store(struct index *index, uint64_t id, uint64_t generation,
                         const struct index_dead *dead, struct err *err) MUST_CHECK;
enum rc index_dead_load(struct index *index, uint64_t id, uint64_t generation, uint32_t rows,
                        struct index_dead **out, struct err *err) MUST_CHECK;
void index_dead_remove(struct index *index, uint64_t id, uint64_t generation);
/* Removes what the manifest does not name. */
void index_remove_leftovers(struct index *index, const struct index_manifest *manifest);

/* ---- index_maintain.c ---- */
/* Makes the manifest of a view durable, with the files of dead rows that it needs. */
enum rc index_store_view(struct index *index, const struct index_view *view,
                         const struct index_config *config, uint64_t watermark,
                         struct err *err) MUST_CHECK;
/* Tails that are full and wait. */
size_t index_tails_waiting(struct index *index);
enum rc index_seal(struct index *index, bool (*cancelled)(void *arg), void *arg,
                   struct err *err) MUST_CHECK;
/* A damaged words file that a query met is made again. */
enum rc index_repair(struct index *index, struct err *err) MUST_CHECK;

/* ---- index_tail.c ---- */
struct index_tail *index_tail_new(const struct index *index);
void index_tail_free(struct index_tail *tail);
bool index_tail_is_full(const struct index_tail *tail);
/* A record whose rows are appended next; takes the memory. */
void index_tail_keep(struct index_tail *tail, char *memory);
uint32_t index_tail_append(struct index_tail *tail, const struct index *index,
                           const struct index_row *row, uint64_t number, uint64_t log_seq);
int64_t index_tail_bytes(const struct index_tail *tail);

/* ---- index_write.c ---- */
/* Waits for and takes the lead. */
void index_lead(struct index *index);
void index_unlead(struct index *index);
/* A record of the log, at opening: into the view that is being made. */
enum rc index_replay(struct index *index, struct index_view *view,
                     const struct log_record *record) MUST_CHECK;

/* ---- index_filter.c ---- */
struct index_matcher {
    const struct expression *filter; /* NULL: all */
    const struct str *tags;          /* NULL with all_tags */
    size_t tag_count;
    bool all_tags;
    bool disabled_too;
};
/* Bitmap of the part's rows that are alive and match; *count of them. *out NULL: all rows.
 * RC_LIMIT, RC_CORRUPT. */
enum rc index_match(const struct index_view_part *vp, const struct index_matcher *matcher,
                    struct arena *arena, uint64_t **out, size_t *count) MUST_CHECK;
/* The same for one row. */
enum rc index_match_row(const struct index_view_part *vp, uint32_t row,
                        const struct index_matcher *matcher, struct arena *scratch,
                        bool *out) MUST_CHECK;

/* ---- index_search.c ---- */
struct index_scratch *index_scratch_take(struct index *index);
void index_scratch_give(struct index *index, struct index_scratch *scratch);
void index_scratch_free(struct index_scratch *scratch);

static inline bool bitmap_get(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}
static inline void bitmap_set(uint64_t *bits, uint32_t i) { bits[i / 64] |= 1ull << (i % 64); }
static inline void bitmap_clear(uint64_t *bits, uint32_t i) { bits[i / 64] &= ~(1ull << (i % 64)); }
