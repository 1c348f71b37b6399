/* What calls cost, by project × day × {all, key, user, tag, model, provider}: exact sums that
 * retention never touches. Erasing an end user takes the sums under the user's name away; what the
 * user's calls added to all others stays.
 *
 * A `struct spend` is a table of sums. Each tail has one with what its records add; the book holds
 * what sealed records added, in one file per period of SPEND_PERIOD_DAYS days and one of totals
 * over all time. A checkpoint writes the periods that a tail touches and is published by the same
 * manifest as the tail's segment: so every record is counted exactly once, whenever power fails. */
#pragma once
#include "base/buf.h"
#include "base/map.h"
#include "io/file.h"
#include "trace/trace.h"

#define SPEND_PERIOD_DAYS  32
#define SPEND_DAY_TOTAL    INT32_MIN /* the day of a sum over all time */
#define SPEND_PERIOD_TOTAL INT32_MIN /* the period whose file holds those */

struct spend;

struct spend *spend_new(void);
void spend_free(struct spend *spend);
void spend_add_call(struct spend *spend, const struct call_record *call);
/* Adds what `from` holds of the days of a period; for SPEND_PERIOD_TOTAL all of it, over all days.
 */
void spend_merge(struct spend *into, const struct spend *from, int32_t period);
void spend_add_sum(struct spend_sum *into, const struct spend_sum *more);
/* Takes away what is kept under the end user's name. */
void spend_forget_user(struct spend *spend, struct id project, struct str user);

struct spend_key {
    struct id project;
    enum spend_by by;
    int32_t day;
    struct str value;
};
void spend_put(struct spend *spend, const struct spend_key *key, const struct spend_sum *sum);
void spend_each(const struct spend *spend,
                void (*each)(void *arg, const struct spend_key *key, const struct spend_sum *sum),
                void *arg);
/* Adds what the table holds of days [from, to] to *sum. */
void spend_sum_days(const struct spend *spend, struct id project, enum spend_by by,
                    struct str value, int32_t from, int32_t to, struct spend_sum *sum);
size_t spend_count(const struct spend *spend);
int32_t spend_period(int32_t day);

enum rc spend_encode(const struct spend *spend, struct buf *out) MUST_CHECK;
enum rc spend_decode(struct str bytes, struct spend *into) MUST_CHECK; /* RC_CORRUPT */

/* ---- the book ---- */

struct spend_book_entry {
    int32_t period;
    uint64_t generation;  /* of its file */
    struct spend *loaded; /* or NULL: on disk only */
};

/* An end user whose name shall leave the book. */
struct spend_forgotten {
    struct id project;
    char *user; /* owned */
    size_t user_bytes;
};

struct spend_book {
    struct file_system *fs;
    const char *directory;
    struct spend_book_entry *entries; /* by period */
    size_t count;
    uint64_t generation_next;
    /* No table shows them any more; their files still do, until the next change writes all anew. */
    struct spend_forgotten *forgotten;
    size_t forgotten_count;
};

void spend_book_init(struct spend_book *book, struct file_system *fs, const char *directory);
void spend_book_fini(struct spend_book *book);
void spend_book_add(struct spend_book *book, int32_t period, uint64_t generation);
struct spend_book_entry *spend_book_find(struct spend_book *book, int32_t period);
/* The table of one period, read when it is not loaded; *own: the caller frees it. */
enum rc spend_book_read(const struct spend_book *book, const struct spend_book_entry *entry,
                        struct spend **out, bool *own, struct err *err) MUST_CHECK;
void spend_book_forget_user(struct spend_book *book, struct id project, struct str user);
void spend_file_name(int32_t period, uint64_t generation, char out[64]);

/* What a checkpoint changes (`delta`: what a sealed tail adds, or NULL): prepared and written
 * first, then, when the manifest that names the new files is durable, applied. */
struct spend_change {
    struct spend_book_entry *entries; /* new generations, loaded */
    size_t count;
};
enum rc spend_book_prepare(struct spend_book *book, const struct spend *delta,
                           struct spend_change *change, struct err *err) MUST_CHECK;
/* Takes what was prepared; removes the files that are no longer named. */
void spend_book_apply(struct spend_book *book, struct spend_change *change);
void spend_change_fini(struct spend_change *change);
