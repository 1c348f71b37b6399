/* Files behind an interface. The second implementation (file_memory.c) keeps files in memory and,
 * at a seeded crash, drops, reorders or tears whatever was not synced: data, size, rename,
 * directory entry. All storage code goes through here, so that power loss can be tested. Blocking:
 * workers and writer threads only. */
#pragma once
#include "base/err.h"
#include "base/str.h"
#include <sys/uio.h>

struct file_system;
struct file;

enum { FILE_READ = 1, FILE_WRITE = 2, FILE_CREATE = 4, FILE_EXCLUSIVE = 8, FILE_TRUNCATE = 16 };

struct file_system *file_system_real(void);
struct file_system *file_system_memory_new(uint64_t seed);
void file_system_free(struct file_system *fs);
/* Memory only: lose what was not synced, in a way the seed chooses. Files still open answer RC_IO
 * from now on and must be closed; the file system can be used again at once. */
void file_system_crash(struct file_system *fs);
/* Memory only: the power is off from now on; what is still open can be closed, without effect. */
void file_system_fail(struct file_system *fs);
/* Memory only: power fails at the n-th change (write, sync, rename, …) from now: that one and all
 * later calls give RC_IO until file_system_crash. A failing write may have been done in part. */
void file_system_fail_after(struct file_system *fs, uint64_t changes);
bool file_system_failed(const struct file_system *fs); /* has the point been reached? */
/* Memory only: the files may hold `bytes` in total; writes beyond give RC_FULL. < 0: no bound. */
void file_system_set_space(struct file_system *fs, int64_t bytes);
/* Memory only, to prove that tests notice: syncs report success and do nothing. */
void file_system_ignore_syncs(struct file_system *fs);
/* Memory only: the next `count` syncs fail with RC_IO, and what they should have kept may be lost.
 */
void file_system_fail_syncs(struct file_system *fs, int count);

enum rc file_open(struct file_system *fs, const char *path, unsigned flags, struct file **out,
                  struct err *err) MUST_CHECK;
void file_close(struct file *file);
enum rc file_read_at(struct file *file, void *p, size_t n, int64_t offset, size_t *got) MUST_CHECK;
enum rc file_write_at(struct file *file, const struct iovec *parts, int count,
                      int64_t offset) MUST_CHECK;
enum rc file_size(struct file *file, int64_t *bytes) MUST_CHECK;
enum rc file_truncate(struct file *file, int64_t bytes) MUST_CHECK;
enum rc file_sync(struct file *file) MUST_CHECK; /* data and what is needed to find it: fdatasync */
/* Read-only mapping of the whole file; RC_END when empty. */
enum rc file_map(struct file *file, const void **p, size_t *n) MUST_CHECK;
void file_unmap(struct file *file, const void *p, size_t n);
enum rc
file_lock(struct file *file) MUST_CHECK; /* exclusive, whole file; RC_CONFLICT: another holds it */

enum rc file_rename(struct file_system *fs, const char *from, const char *to) MUST_CHECK;
enum rc file_remove(struct file_system *fs, const char *path) MUST_CHECK;
enum rc file_make_directory(struct file_system *fs,
                            const char *path) MUST_CHECK; /* existing is fine */
enum rc file_sync_directory(struct file_system *fs, const char *path) MUST_CHECK;
/* Names without . and .., in no order. */
enum rc file_list(struct file_system *fs, const char *path,
                  enum rc (*each)(void *arg, const char *name), void *arg) MUST_CHECK;
