/* The writer's lock of a directory: one process (and one store in it) writes, and each holder has a
 * higher epoch than the one before, which goes into what it writes. */
#pragma once
#include "base/err.h"
#include "io/file.h"

struct writer_lock;

/* RC_CONFLICT: another holds it; the message says what to do. The epoch is durable on return. */
enum rc writer_lock_take(struct file_system *fs, const char *directory, struct writer_lock **out,
                         uint64_t *epoch, struct err *err) MUST_CHECK;
void writer_lock_release(struct writer_lock *lock);
