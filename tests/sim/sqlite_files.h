/* SQLite on the files of io/file.h: so that the control database, too, can lose its power. */
#pragma once
#include "io/file.h"

/* What SQLite opens from now on lies in `fs`. One file system at a time, one thread. */
void sqlite_files_use(struct file_system *fs);
/* After a power loss, when all connections are closed: locks and shared memory are gone, too. */
void sqlite_files_forget(void);
