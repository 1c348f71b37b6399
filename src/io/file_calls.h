/* What an implementation of io/file.h provides. Private to src/io/file*.c. */
#pragma once
#include "io/file.h"

struct file_calls {
    void (*free)(struct file_system *fs);
    enum rc (*open)(struct file_system *fs, const char *path, unsigned flags, struct file **out,
                    struct err *err);
    void (*close)(struct file *file);
    enum rc (*read_at)(struct file *file, void *p, size_t n, int64_t offset, size_t *got);
    enum rc (*write_at)(struct file *file, const struct iovec *parts, int count, int64_t offset);
    enum rc (*size)(struct file *file, int64_t *bytes);
    enum rc (*truncate)(struct file *file, int64_t bytes);
    enum rc (*sync)(struct file *file);
    enum rc (*map)(struct file *file, const void **p, size_t *n);
    void (*unmap)(struct file *file, const void *p, size_t n);
    enum rc (*lock)(struct file *file);
    enum rc (*rename)(struct file_system *fs, const char *from, const char *to);
    enum rc (*remove)(struct file_system *fs, const char *path);
    enum rc (*make_directory)(struct file_system *fs, const char *path);
    enum rc (*sync_directory)(struct file_system *fs, const char *path);
    enum rc (*list)(struct file_system *fs, const char *path,
                    enum rc (*each)(void *arg, const char *name), void *arg);
};

struct file_system {
    const struct file_calls *calls;
};

struct file {
    struct file_system *fs;
};
