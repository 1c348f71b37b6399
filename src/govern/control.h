/* From the control database to what the hot path reads: the snapshot is built anew, or mended,
 * after each change, on the control writer's thread, before the change is answered. */
#pragma once
#include "gateway/snapshot.h"
#include "store/db.h"

#define SNAPSHOT_BYTES_MAX (512ll * 1024 * 1024)

/* Reads everything. An object that cannot take effect (a secret's variable is gone, its provider
 * was skipped) is left out and logged as `object_skipped`: the rest of the installation goes on. */
enum rc control_build_snapshot(struct db_txn *txn, struct snapshot **out,
                               struct err *err) MUST_CHECK;

/* The same as building anew, at the price of what has changed: for `changed` of db.h, when since
 * `base` only routes, keys and limits have. RC_AGAIN: build it anew. */
enum rc control_mend_snapshot(struct db_txn *txn, struct snapshot *base, struct snapshot **out,
                              struct err *err) MUST_CHECK;
/* Builds and publishes now, and after each change from now on. Once, before others write. */
enum rc control_start_publishing(struct db *db, struct err *err) MUST_CHECK;
/* The same again soon, any thread, without waiting: once a minute, since sessions end and
 * environment and files change. A failure is logged. */
void control_publish_soon(struct db *db);
