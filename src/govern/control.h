/* From the control database to what the hot path reads: the snapshot is built anew after each change, on the
 * control writer's thread, before the change is answered. */
#pragma once
#include "gateway/snapshot.h"
#include "store/db.h"

#define SNAPSHOT_BYTES_MAX (512ll * 1024 * 1024)

/* Reads everything. An object that cannot take effect (a secret's variable is gone, its provider was
 * skipped) is left out and logged as `object_skipped`: the rest of the installation goes on. */
enum rc control_build_snapshot(struct db_txn *txn, struct snapshot **out, struct err *err) MUST_CHECK;

/* Builds and publishes now, and after each change from now on. */
enum rc control_start_publishing(struct db *db, struct err *err) MUST_CHECK;
/* Once a minute or so, any thread: sessions end, environment and files are read anew. */
enum rc control_publish(struct db *db, struct err *err) MUST_CHECK;
