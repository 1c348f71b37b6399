/* The control database's schema, as a table of steps. A step that was released is never changed. */
#pragma once
#include "store/sqlite.h"

/* Runs the steps that are missing, each in its own transaction. `path` is the file's, for the
 * backup. */
enum rc migrations_run(struct db_txn *connection, const char *path, struct err *err) MUST_CHECK;
int64_t migrations_version(void); /* of this program */
