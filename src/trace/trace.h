/* The store of call records: append log → sealed column segments, one view over both.
 *
 * Loops submit finished calls; one writer thread appends them to the log, one thread syncs it, one
 * seals, compacts and retires segments. Queries run on workers (they block on memory and disk,
 * never on the writer) and see a consistent snapshot that includes every call submitted before they
 * began. Every function that reads takes the project first: rows of other projects are never
 * touched. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "base/limits.h"
#include "io/file.h"
#include "io/loop.h"
#include "trace/call.h"

struct trace_store;

enum trace_durability {
    TRACE_ASYNC, /* durable within 50 ms of trace_submit */
    TRACE_SYNC,  /* as ASYNC; besides, the gateway passes a waiter and holds back the last byte */
};

struct trace_options {
    struct file_system *fs; /* NULL: the real one */
    const char *directory;  /* made when missing */
    enum trace_durability durability;
    size_t queue_bytes_max;     /* submitted and not yet written; 0: 64 MiB */
    size_t unsynced_bytes_max;  /* written and not yet durable; 0: 64 MiB */
    uint32_t tail_rows_max;     /* rows in memory before they are sealed; 0: 32768 */
    int64_t tail_bytes_max;     /* the same in bytes of log; 0: 64 MiB */
    int64_t commit_interval_ns; /* 0: 20 ms */
    bool no_threads; /* simulation: the owner drives the store with trace_step_… (trace/store.h) */
};

/* RC_CONFLICT: another process is the writer (says so). RC_INVALID: written by a newer version,
 * named. RC_CORRUPT: the manifest is damaged. Damaged records are skipped, counted and logged, not
 * an error. */
enum rc trace_open(const struct trace_options *options, struct trace_store **out,
                   struct err *err) MUST_CHECK;
/* Writes and syncs what was submitted, seals the tail when it is worth it, gives up the lock,
 * frees. No query may be running and nothing may be submitted any more. */
void trace_close(struct trace_store *store);

/* ---- submitting ---- */

/* Told on its own loop when the record it was submitted with is durable, or cannot be made so. */
struct trace_waiter {
    struct task task;  /* .run is set by the owner; called on `home` */
    struct loop *home; /* NULL: task.run is called on a thread of the store */
    enum rc result; /* RC_OK: durable; else it is not (RC_FULL, RC_IO, RC_LIMIT) and was counted */
    uint64_t seq;   /* private */
    struct trace_waiter *next; /* private */
};

/* Tells a waiter: for whoever takes records over (trace_release). Any thread. */
void trace_waiter_finish(struct trace_waiter *waiter, enum rc result);

/* Copies the record (one serialisation) and queues it; any loop, no locks, no system call in the
 * common case. Fields are stored as far as `record->capture` allows: CAPTURE_NONE stores nothing
 * but the spend, CAPTURE_METADATA no headers and bodies. `waiter` may be NULL. When memory for the
 * queue is used up the record is counted as lost and the waiter told. */
void trace_submit(struct trace_store *store, const struct call_record *record,
                  struct trace_waiter *waiter);
/* The same with a record that another process encoded (record_encode) and handed over. */
enum rc trace_submit_encoded(struct trace_store *store, struct str bytes,
                             struct trace_waiter *waiter) MUST_CHECK;
/* Hand-over to another process, first half: everything submitted is made durable, the lock is given
 * up and the files are closed. From now on each submitted record goes, encoded, to `forward`
 * (called on the submitting thread), which copies it and tells the waiter (may be NULL) by
 * trace_waiter_finish; queries see what was there. Blocks. */
enum rc trace_release(struct trace_store *store,
                      void (*forward)(void *arg, struct str bytes, struct trace_waiter *waiter),
                      void *arg, struct err *err) MUST_CHECK;
/* Blocks until everything submitted before is durable; RC_FULL, RC_IO or RC_TIMEOUT when it cannot
 * be. */
enum rc trace_flush(struct trace_store *store, int64_t timeout_ns) MUST_CHECK;

/* ---- reading: workers ---- */

enum trace_rows { TRACE_ROWS_CALLS, TRACE_ROWS_SPANS, TRACE_ROWS_ALL };

/* Empty texts, zero ids and -1 mean "any". */
struct trace_filter {
    enum trace_rows rows; /* calls (the default), spans of other origin, or both */
    struct str trace;     /* the 16 bytes of its id */
    struct str span_name;
    bool links;       /* of trace_list: rows have span_id, parent_id and error_message, too */
    struct str model; /* matches the model that answered or the one requested */
    struct str provider, route, user, session;
    struct str prompt;              /* "NAME": all versions of it; "NAME@3": that one */
    struct str tag_name, tag_value; /* value empty: any value of that name */
    struct id key;
    unsigned status_mask;                   /* 1u << CALL_OK | …; 0: any */
    int operation;                          /* enum call_operation or -1 */
    int64_t from_ns, to_ns;                 /* started_wall_ns in [from, to); 0: open */
    int64_t latency_min_ns, latency_max_ns; /* total, inclusive; -1: open */
    int64_t cost_min_pico,
        cost_max_pico; /* inclusive; -1: open; unknown costs never match a bound */
    struct str text;   /* occurs (ASCII case ignored) in the bodies or the error message */
};

void trace_filter_init(struct trace_filter *filter); /* matches everything */

/* One row of a list: what the columns hold. In `call` bodies, headers, attempts, checks, client and
 * response ids are empty; trace_get has them. */
struct trace_row {
    uint64_t seq; /* order of ending; the cursor of a page is the last row's seq */
    struct call_record call;
    struct call_tag tags[LIMIT_TAGS];
};

struct trace_page {
    struct trace_row **rows;
    size_t count;
    uint64_t next_seq; /* pass as `before_seq` for the next page; 0: there is no more */
    bool incomplete;   /* a search in texts used up its budget: ask on with next_seq */
    uint64_t rows_scanned;
};

/* Newest first (by end of call), rows with seq < before_seq (0: from the newest). Results live in
 * `arena`; RC_LIMIT: the arena is too small. */
enum rc trace_list(struct trace_store *store, struct id project, const struct trace_filter *filter,
                   uint64_t before_seq, size_t limit, struct arena *arena, struct trace_page *page,
                   struct err *err) MUST_CHECK;
/* How many calls match (without `text`). */
enum rc trace_count(struct trace_store *store, struct id project, const struct trace_filter *filter,
                    uint64_t *count, struct err *err) MUST_CHECK;
/* The whole record; its texts live in `arena`. RC_NOT_FOUND also for another project's call. */
enum rc trace_get(struct trace_store *store, struct id project, struct id call, struct arena *arena,
                  struct call_record *record, struct err *err) MUST_CHECK;

/* ---- statistics: workers ---- */

enum trace_group {
    TRACE_GROUP_NONE,
    TRACE_GROUP_MODEL,
    TRACE_GROUP_PROVIDER,
    TRACE_GROUP_ROUTE,
    TRACE_GROUP_KEY, /* `name` is the id's 16 bytes */
    TRACE_GROUP_USER,
    TRACE_GROUP_STATUS, /* `name` is call_status_name() */
    TRACE_GROUP_PROMPT, /* `name` is "NAME@3" */
    TRACE_GROUP_COUNT
};

struct trace_quantiles {
    int64_t p50_ns, p90_ns, p99_ns; /* -1: no values; within 1.6 % */
};

struct trace_sums {
    uint64_t calls, errors; /* errors: CALL_ERROR */
    uint64_t by_status[CALL_STATUS_COUNT];
    uint64_t calls_unpriced;
    uint64_t tokens[USAGE_BUCKET_COUNT];
    __int128 cost_pico;
    struct trace_quantiles latency, first_token;
};

struct trace_series_point {
    int64_t at_ns; /* start of the step */
    struct trace_sums sums;
};

struct trace_group_sums {
    struct str name;
    struct trace_sums sums;
};

struct trace_stats_query {
    struct trace_filter filter; /* `text` must be empty */
    int64_t step_ns; /* 0: no series; else needs filter.from_ns and to_ns, ≤ 2000 steps */
    enum trace_group group_by;
    size_t groups_max; /* largest by calls; the rest is summed under the empty name; 0: 100 */
};

struct trace_stats {
    struct trace_sums totals;
    struct trace_series_point *series;
    size_t series_count;
    struct trace_group_sums *groups; /* most calls first */
    size_t group_count;
};

enum rc trace_stats(struct trace_store *store, struct id project,
                    const struct trace_stats_query *query, struct arena *arena,
                    struct trace_stats *stats, struct err *err) MUST_CHECK;

const char *call_status_name(enum call_status status); /* "ok", "error", "cancelled", … */

/* ---- spend: never deleted, exact; any thread, short lock ---- */

enum spend_by {
    SPEND_BY_PROJECT, /* value: empty */
    SPEND_BY_KEY,     /* the id's 16 bytes */
    SPEND_BY_USER,
    SPEND_BY_TAG, /* name=value */
    SPEND_BY_MODEL,
    SPEND_BY_PROVIDER,
    SPEND_BY_ROUTE, /* calls of a route by its name */
    SPEND_BY_COUNT
};

struct spend_sum {
    __int128 cost_pico;
    uint64_t calls, calls_unpriced, tokens_in, tokens_out;
};

struct spend_entry {
    int32_t day; /* days since 1970, UTC, of the call's start */
    struct str value;
    struct spend_sum sum;
};

/* Sum over days [day_from, day_to]. */
enum rc trace_spend_sum(struct trace_store *store, struct id project, enum spend_by by,
                        struct str value, int32_t day_from, int32_t day_to,
                        struct spend_sum *sum) MUST_CHECK;
/* By value (per_day false: `day` is 0) or by day and value; in no order. */
enum rc trace_spend_list(struct trace_store *store, struct id project, enum spend_by by,
                         bool per_day, int32_t day_from, int32_t day_to, struct arena *arena,
                         struct spend_entry **entries, size_t *count) MUST_CHECK;

/* ---- deleting: any thread; blocks until durable ---- */

/* The call is invisible at once; its bytes leave the disk at the next rewrite of its segment, which
 * is started now. RC_NOT_FOUND when there is none. */
enum rc trace_erase_call(struct trace_store *store, struct id project, struct id call,
                         struct err *err) MUST_CHECK;
/* All calls of an end user up to now; *count tells how many. */
enum rc trace_erase_user(struct trace_store *store, struct id project, struct str user,
                         uint64_t *count, struct err *err) MUST_CHECK;

/* What is kept of a project; 0: no bound. Enforced by the store's own thread within a minute. A
 * zero project id sets the default of projects without an own setting. */
void trace_set_retention(struct trace_store *store, struct id project, int64_t age_ns_max,
                         int64_t bytes_max);

/* ---- for /metrics and the console ---- */
struct trace_counters {
    uint64_t submitted, stored;
    uint64_t lost_queue; /* no room in the queue: the disk is too slow, or full */
    uint64_t lost_disk;  /* written but not made durable, or found damaged when opened */
    uint64_t rows, segments;
    uint64_t rows_deleted;
    int64_t queue_bytes, log_bytes, segment_bytes;
    int64_t sync_ns_last, sync_ns_max;
    uint64_t write_failures, sync_failures, seal_failures;
    bool disk_full; /* now */
};
void trace_counters(const struct trace_store *store, struct trace_counters *out);
