/* An append-only log of records with sequence numbers: call records, vectors' rows and run
 * journals.
 *
 * A directory of files `<generation>.log`. A record is appended to a batch in memory (log_append),
 * the batch is written (log_write) and synced (log_sync); only then is it durable. Appending,
 * writing and rotating belong to one thread; syncing may be another's, so that a slow disk delays
 * acknowledgements but not visibility; reading and the counters are anybody's.
 *
 * Recovery takes the longest run of whole records. What follows a torn record is dropped when
 * nothing proves that it had been synced (each record says how far the log was durable when it was
 * appended); where something does prove it, the damage is skipped and counted. docs/design/log.md
 * has the format. */
#pragma once
#include "base/err.h"
#include "io/file.h"

#define LOG_VERSION             1
#define LOG_HEADER_BYTES        64
#define LOG_RECORD_HEADER_BYTES 24
#define LOG_RECORD_BYTES_MAX    (256u * 1024 * 1024) /* payload */

struct log;

struct log_record {
    uint64_t seq;    /* 1, 2, 3, … over the life of the log */
    uint64_t synced; /* the log was durable up to here when this record was appended */
    uint16_t type;   /* the owner's */
    struct str payload;
    uint64_t location; /* for log_read */
};

struct log_options {
    struct file_system *fs;
    const char *directory; /* exists */
    uint32_t kind;         /* four letters, LOG_KIND: a log of another kind is refused */
    uint64_t epoch;        /* of the writer's lock (store/lock.h), kept for diagnosis */
    uint64_t start_seq; /* records before it are no longer needed: not read, files removed; ≥ 1 */
    int64_t file_bytes_max; /* rotates by itself beyond; 0: 64 MiB */
    /* A record moved because its first place could not be synced. Called by log_write. May be NULL.
     */
    void (*moved)(void *arg, uint64_t seq, uint64_t location);
    void *arg;
};

#define LOG_KIND(a, b, c, d)                                                                       \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

struct log_recovery {
    uint64_t records;      /* read */
    uint64_t records_lost; /* had been durable and are damaged now */
    int64_t bytes_dropped; /* torn tail */
    uint32_t files, files_dropped;
};

/* Opens or makes the log and hands out its records from start_seq on, in order, each once. A result
 * other than RC_OK from `each` ends the opening with it. The payload is valid during the call. */
enum rc log_open(const struct log_options *options,
                 enum rc (*each)(void *arg, const struct log_record *record), void *arg,
                 struct log_recovery *recovery, struct log **out, struct err *err) MUST_CHECK;
/* Does not write or sync what is pending. */
void log_close(struct log *log);

/* ---- one thread ---- */
/* Adds a record to the batch; cannot fail. *location may be NULL. */
uint64_t log_append(struct log *log, uint16_t type, struct str payload, uint64_t *location);
size_t log_pending_bytes(const struct log *log);
/* Hands the batch to the operating system. On failure nothing is lost: call it again later. */
enum rc log_write(struct log *log) MUST_CHECK;
/* Forgets the batch that could not be written; returns how many records it held. Their sequence
 * numbers are used again. */
uint64_t log_discard(struct log *log);
/* The next record starts a new file. */
void log_rotate(struct log *log);

/* ---- one other thread, or the same ---- */
/* Makes durable what was written when it was called; *seq: all up to here is. After a failure the
 * next log_write writes the records in question again, into a new file. */
enum rc log_sync(struct log *log, uint64_t *seq) MUST_CHECK;
/* Removes files whose records all lie before `seq`. */
void log_drop_before(struct log *log, uint64_t seq);

/* ---- any thread ---- */
/* A piece of the log in memory. Who reads records one after the other gets them in large pieces;
 * all zero at first, `log_window_fini` at the end. One thread. */
struct log_window {
    char *p;
    size_t n, capacity;
    uint64_t generation; /* of the file it is from */
    int64_t offset;      /* of the piece in that file */
    int64_t next_offset; /* behind the record read last */
    uint32_t salt;
};

void log_window_fini(struct log_window *window);
/* Reads one record; the payload lies in the window until its next use. RC_CORRUPT, RC_NOT_FOUND
 * (its file was dropped), RC_IO. */
enum rc log_read(struct log *log, uint64_t location, struct log_window *window,
                 struct log_record *record) MUST_CHECK;
uint64_t log_next_seq(const struct log *log);
uint64_t log_synced_seq(const struct log *log);
/* Written and not yet durable, also while they wait to be written again: held in memory. */
int64_t log_unsynced_bytes(const struct log *log);
int64_t log_bytes(const struct log *log); /* on disk */

/* ---- for tools and fuzzing: the reader alone, over a file's bytes ---- */
struct log_header {
    uint32_t version, features, kind, salt;
    uint64_t generation, first_seq, epoch;
};
/* RC_CORRUPT; RC_INVALID: a newer version or an unknown required feature. */
enum rc log_parse_header(struct str file, struct log_header *header) MUST_CHECK;
/* The record at the front of `bytes`: RC_END when none begins there (torn, damaged, or the end). */
enum rc log_parse_record(struct str bytes, uint32_t salt, struct log_record *record,
                         size_t *record_bytes) MUST_CHECK;
