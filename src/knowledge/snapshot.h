/* Snapshots of collections of raw vectors. All functions block: for workers. */
#pragma once
#include "knowledge/knowledge.h"

#define SNAPSHOTS_MAX           1000
#define SNAPSHOT_NAME_BYTES_MAX 64

struct snapshot_info {
    struct str name;
    int64_t created_ns;
};

/* A consistent copy; changes go on meanwhile. Its name, the time, goes into the arena.
 * ERR_CONFLICT: a collection of documents. */
enum rc knowledge_snapshot(struct knowledge *knowledge, const struct collection *collection,
                           struct arena *arena, struct str *name, struct err *err) MUST_CHECK;
/* Newest first. */
enum rc knowledge_snapshots(struct knowledge *knowledge, const struct collection *collection,
                            struct arena *arena, struct snapshot_info **out, size_t *count,
                            struct err *err) MUST_CHECK;
/* The rows are as they were in the snapshot, which stays; what was changed since is lost.
 * ERR_NOT_FOUND. */
enum rc knowledge_restore(struct knowledge *knowledge, const struct collection *collection,
                          const struct actor *actor, struct str name, struct arena *arena,
                          struct err *err) MUST_CHECK;
enum rc knowledge_snapshot_delete(struct knowledge *knowledge, const struct collection *collection,
                                  struct str name, struct err *err) MUST_CHECK;
/* All of a collection that is gone. */
void knowledge_snapshots_forget(struct knowledge *knowledge, struct id collection);
