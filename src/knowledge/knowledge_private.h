/* What the files of src/knowledge share: the service, its open indexes, its runs. */
#pragma once
#include "knowledge/knowledge.h"
#include <pthread.h>

#define KNOWLEDGE_PATH_BYTES_MAX 4096
#define OPEN_INDEXES_MAX         128 /* beyond, those that nobody uses are closed */
#define INGEST_RUNS_MAX          64

struct open_index {
    struct list node;
    struct id collection;
    int64_t generation;
    struct index *index; /* NULL: being opened */
    int users;
    bool dropped; /* the last user removes its folder */
    bool changed; /* written to since the last maintenance */
    int64_t used_ns;
};

struct ingest_run;

/* A document that a run works on. From the claim until the end of its work is decided, both on the
 * control writer's thread, no other run takes it, and who deletes it leaves the end to this one:
 * two at once would write over each other's chunks. */
struct ingest_claim {
    struct list node; /* of knowledge.under_way; its lock; alone: not claimed */
    struct id document;
};

/* What a collection waits for when its encoder is not on this machine. */
struct encoder_fetch {
    struct id pull; /* the job; zero: none was found or begun yet */
    bool waits;
    char failed[512]; /* why it cannot be had; empty: it can still come */
    char message[256];
};
/* Write transaction. Is the encoder here? If it is of the catalogue, a job that fetches it is
 * looked for, or begun; *fetch says what has become of it. Encoders that nobody can fetch do not
 * wait: their documents fail and say so. */
enum rc encoder_fetch_check(struct knowledge *knowledge, struct db_txn *txn,
                            const struct collection *collection, struct arena *arena,
                            struct encoder_fetch *fetch, struct err *err);

struct knowledge {
    struct loop *loop;
    struct http_client *client; /* that loop's, from knowledge_attach on */
    struct gateway_loop *gateway;
    struct worker_pool *workers;
    struct db *db;
    struct jobs *jobs;
    struct event_bus *events;
    struct encoders *encoders;
    struct blob_store *blobs;
    char index_folder[KNOWLEDGE_PATH_BYTES_MAX];
    pthread_mutex_t lock; /* indexes, runs */
    pthread_cond_t opened;
    struct list indexes;
    size_t index_count;
    struct list runs;                           /* ingest_run.node */
    struct list under_way;                      /* ingest_claim.node */
    struct list rebuilds;                       /* rebuild.node; jobs' loop */
    struct list tunes;                          /* tune.node; jobs' loop */
    struct list syncs;                          /* source_sync.node; lock */
    pthread_cond_t synced;                      /* a sync's thread has ended */
    size_t sync_threads;                        /* lock: those that have not */
    char work_folder[KNOWLEDGE_PATH_BYTES_MAX]; /* of syncs' clones; empty: none */
    const struct str *allowed_hosts, *source_directories;
    size_t allowed_host_count, source_directory_count;
    struct timer tick_timer;
    struct db_work tick_work;
    struct work expire_work; /* what the tick found to have expired, on a worker */
    struct arena tick_arena;
    struct collection_row *expired_collections;
    struct file_row *expired_files;
    size_t expired_collection_count, expired_file_count;
    /* Uploads hold it shared from the blob to its row; who removes a blob holds it alone, so that
     * none is removed in between. */
    pthread_rwlock_t blob_lock;
    /* Attributes of documents are changed one at a time, and nothing is deleted meanwhile: written
     * chunks must not outlive their document. */
    pthread_rwlock_t patch_lock;
    pthread_mutex_t snapshot_lock; /* one is made, or gone back to, at a time */
    struct timer maintain_timer;
    struct work maintain_work;
    bool maintaining;
    volatile bool stopping;
    bool released; /* to another process: no index is opened any more; lock */
};

/* The folder of an index; out: KNOWLEDGE_PATH_BYTES_MAX + 96. */
void knowledge_index_path(const struct knowledge *knowledge, struct id collection,
                          int64_t generation, char *out);
void knowledge_register_ingest(struct knowledge *knowledge);
/* Are there runs that will still look for queued documents of it? Control writer's thread. */
bool ingest_still_looks(struct knowledge *knowledge, struct id collection);
void ingest_stop_all(struct knowledge *knowledge);

/* Control writer's thread. */
bool ingest_is_under_way(struct knowledge *knowledge, struct id document);
void ingest_release(struct knowledge *knowledge,
                    struct ingest_claim *claim); /* may be done twice */
/* One document from its file to its chunks; the row is brought up to date. Worker. RC_CANCELLED:
 * queued again. */
enum rc ingest_document(struct knowledge *knowledge, const struct collection *collection,
                        struct document_row *row, struct ingest_claim *claim,
                        volatile bool *cancelled, struct err *err);
/* The same into an index that is not in force yet: no row is written, nobody is told. */
enum rc ingest_beside(struct knowledge *knowledge, const struct collection *target,
                      struct document_row *row, volatile bool *cancelled, struct err *err);
/* The chunks, the row and the blobs of a document in state `deleting`, in an order that a crash
 * does not break. */
enum rc document_end_deletion(struct knowledge *knowledge, const struct collection *collection,
                              const struct document_row *row, struct err *err);
/* An index that is not in force goes, with its folder. */
void knowledge_forget_generation(struct knowledge *knowledge, struct id collection,
                                 int64_t generation);
void knowledge_register_rebuild(struct knowledge *knowledge);
/* With what is in it, at most `depth_left` folders deep. */
void knowledge_remove_folder(const char *path, int depth_left);
void knowledge_register_sync(struct knowledge *knowledge);
/* On the loop. */
void sync_stop_all(struct knowledge *knowledge);
void knowledge_tick_init(struct knowledge *knowledge);
/* Starts the tick that begins the syncs whose time has come. On the loop. */
void knowledge_tick_begin(struct knowledge *knowledge);
void knowledge_tick_stop(struct knowledge *knowledge);
void rebuild_stop_all(struct knowledge *knowledge);
void knowledge_register_tune(struct knowledge *knowledge);
void tune_stop_all(struct knowledge *knowledge);
/* The collection as its definition says now, for the next generation. */
enum rc collection_get_wanted(struct db_txn *txn, struct id project, struct id id,
                              struct arena *arena, struct collection *out,
                              struct err *err) MUST_CHECK;
enum rc ingest_delete_chunks(struct index *index, struct id document, struct err *err) MUST_CHECK;
