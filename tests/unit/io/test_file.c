/* Both implementations of io/file.h answer alike; the one in memory loses at a crash what was not
 * synced, and only that. */
#include "io/file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
    struct file_system *fs;
    char root[64];
};

static int make_real(void **state)
{
    static struct place place;
    place.fs = file_system_real();
    strcpy(place.root, "/tmp/capstan-file-XXXXXX");
    assert_non_null(mkdtemp(place.root));
    *state = &place;
    return 0;
}

static int remove_real(void **state)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", ((struct place *)*state)->root);
    return system(command);
}

static int make_memory(void **state)
{
    static struct place place;
    place.fs = file_system_memory_new(1);
    strcpy(place.root, "/data");
    assert_int_equal(file_make_directory(place.fs, place.root), RC_OK);
    *state = &place;
    return 0;
}

static int free_memory(void **state)
{
    file_system_free(((struct place *)*state)->fs);
    return 0;
}

static char *path_in(struct place *place, const char *name)
{
    static char paths[4][128];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, 128, "%s/%s", place->root, name);
    return path;
}

static enum rc count_names(void *arg, const char *name)
{
    (*(int *)arg)++;
    return RC_OK;
}

static void write_text(struct file *file, const char *text, int64_t offset)
{
    struct iovec part = {(char *)text, strlen(text)};
    assert_int_equal(file_write_at(file, &part, 1, offset), RC_OK);
}

static void behaves_as_files_do(void **state)
{
    struct place *place = *state;
    struct file *file, *again;
    struct err err = {0};
    assert_int_equal(file_open(place->fs, path_in(place, "a"), FILE_READ, &file, &err),
                     RC_NOT_FOUND);
    assert_int_not_equal(err.code, ERR_NONE);
    unsigned flags = FILE_READ | FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE;
    assert_int_equal(file_open(place->fs, path_in(place, "a"), flags, &file, NULL), RC_OK);
    assert_int_equal(file_open(place->fs, path_in(place, "a"), flags, &again, NULL), RC_CONFLICT);

    struct iovec parts[] = {{"hello", 5}, {"", 0}, {" world", 6}};
    assert_int_equal(file_write_at(file, parts, 3, 3), RC_OK);
    char bytes[32];
    size_t got;
    assert_int_equal(file_read_at(file, bytes, sizeof(bytes), 0, &got), RC_OK);
    assert_int_equal(got, 14);
    assert_memory_equal(bytes, "\0\0\0hello world", 14);
    assert_int_equal(file_read_at(file, bytes, sizeof(bytes), 14, &got), RC_OK);
    assert_int_equal(got, 0);

    const void *p;
    size_t n;
    assert_int_equal(file_map(file, &p, &n), RC_OK);
    assert_int_equal(n, 14);
    assert_memory_equal((const char *)p + 3, "hello", 5);
    file_unmap(file, p, n);

    int64_t bytes_now;
    assert_int_equal(file_truncate(file, 8), RC_OK);
    assert_int_equal(file_size(file, &bytes_now), RC_OK);
    assert_int_equal(bytes_now, 8);
    assert_int_equal(file_sync(file), RC_OK);

    assert_int_equal(file_open(place->fs, path_in(place, "a"), FILE_READ, &again, NULL), RC_OK);
    assert_int_equal(file_lock(file), RC_OK);
    assert_int_equal(file_lock(again), RC_CONFLICT);
    file_close(file);
    assert_int_equal(file_lock(again), RC_OK);
    file_close(again);

    assert_int_equal(file_rename(place->fs, path_in(place, "a"), path_in(place, "b")), RC_OK);
    assert_int_equal(file_rename(place->fs, path_in(place, "a"), path_in(place, "b")),
                     RC_NOT_FOUND);
    assert_int_equal(file_make_directory(place->fs, path_in(place, "sub")), RC_OK);
    assert_int_equal(file_make_directory(place->fs, path_in(place, "sub")), RC_OK);
    assert_int_equal(
        file_open(place->fs, path_in(place, "sub/c"), FILE_WRITE | FILE_CREATE, &file, NULL),
        RC_OK);
    assert_int_equal(file_map(file, &p, &n), RC_END);
    file_close(file);
    int names = 0;
    assert_int_equal(file_list(place->fs, place->root, count_names, &names), RC_OK);
    assert_int_equal(names, 2);
    assert_int_equal(file_sync_directory(place->fs, place->root), RC_OK);
    assert_int_equal(file_remove(place->fs, path_in(place, "b")), RC_OK);
    assert_int_equal(file_remove(place->fs, path_in(place, "b")), RC_NOT_FOUND);
    assert_int_equal(
        file_open(place->fs, path_in(place, "no/c"), FILE_WRITE | FILE_CREATE, &file, NULL),
        RC_NOT_FOUND);
}

/* What was synced with its directory is there after every crash; what was not, in some. */
static void crash_keeps_what_was_synced(void **state)
{
    int kept = 0, lost = 0, renamed = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct file_system *fs = file_system_memory_new(seed);
        struct file *file;
        assert_int_equal(file_make_directory(fs, "/d"), RC_OK);
        assert_int_equal(file_sync_directory(fs, ""), RC_OK);
        assert_int_equal(file_open(fs, "/d/a", FILE_READ | FILE_WRITE | FILE_CREATE, &file, NULL),
                         RC_OK);
        write_text(file, "durable", 0);
        assert_int_equal(file_sync(file), RC_OK);
        assert_int_equal(file_sync_directory(fs, "/d"), RC_OK);
        write_text(file, "volatile", 100);
        assert_int_equal(file_rename(fs, "/d/a", "/d/b"), RC_OK);
        file_system_crash(fs);
        char bytes[128];
        size_t got;
        assert_int_equal(file_read_at(file, bytes, 1, 0, &got), RC_IO);
        file_close(file);

        bool is_b = file_open(fs, "/d/b", FILE_READ, &file, NULL) == RC_OK;
        if (!is_b)
            assert_int_equal(file_open(fs, "/d/a", FILE_READ, &file, NULL), RC_OK);
        renamed += is_b;
        assert_int_equal(file_read_at(file, bytes, sizeof(bytes), 0, &got), RC_OK);
        assert_true(got >= 7);
        assert_memory_equal(bytes, "durable", 7);
        if (got == 108 && memcmp(bytes + 100, "volatile", 8) == 0)
            kept++;
        else
            lost++;
        file_close(file);
        file_system_free(fs);
    }
    assert_true(kept > 20 && lost > 20 && renamed > 20 && renamed < 280);
}

static void fails_where_told(void **state)
{
    struct file_system *fs = file_system_memory_new(7);
    struct file *file;
    assert_int_equal(file_make_directory(fs, "/d"), RC_OK);
    assert_int_equal(file_open(fs, "/d/a", FILE_READ | FILE_WRITE | FILE_CREATE, &file, NULL),
                     RC_OK);
    file_system_set_space(fs, 10);
    struct iovec part = {"0123456789ab", 12};
    assert_int_equal(file_write_at(file, &part, 1, 0), RC_FULL);
    int64_t n;
    assert_int_equal(file_size(file, &n), RC_OK);
    assert_int_equal(n, 10);
    file_system_set_space(fs, -1);
    file_system_fail_syncs(fs, 1);
    assert_int_equal(file_sync(file), RC_IO);
    assert_int_equal(file_sync(file), RC_OK);
    file_system_fail_after(fs, 2);
    assert_int_equal(file_write_at(file, &part, 1, 0), RC_OK);
    assert_int_equal(file_write_at(file, &part, 1, 0), RC_IO);
    assert_true(file_system_failed(fs));
    assert_int_equal(file_sync(file), RC_IO);
    file_close(file);
    file_system_crash(fs);
    assert_false(file_system_failed(fs));
    file_system_free(fs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(behaves_as_files_do, make_real, remove_real),
        cmocka_unit_test_setup_teardown(behaves_as_files_do, make_memory, free_memory),
        cmocka_unit_test(crash_keeps_what_was_synced),
        cmocka_unit_test(fails_where_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
