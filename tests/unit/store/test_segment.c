/* Segments, manifests, the writer's lock and blobs, on files in memory. */
#include "store/blob.h"
#include "store/lock.h"
#include "store/segment.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define KIND SEGMENT_KIND('T', 'E', 'S', 'T')

static struct file_system *make_fs(uint64_t seed)
{
    struct file_system *fs = file_system_memory_new(seed);
    assert_int_equal(file_make_directory(fs, "/s"), RC_OK);
    assert_int_equal(file_sync_directory(fs, ""), RC_OK);
    return fs;
}

static enum rc write_segment(struct file_system *fs, uint32_t version)
{
    struct segment_writer *writer;
    enum rc rc = segment_create(fs, "/s/one.seg", KIND, version, &writer, NULL);
    if (rc != RC_OK)
        return rc;
    segment_begin(writer, 1, 0);
    rc = segment_write(writer, "abc", 3);
    segment_begin(writer, 1, 1);
    for (int i = 0; i < 300000 && rc == RC_OK; i += 10)
        rc = segment_write(writer, "0123456789", 10);
    assert_int_equal(segment_section_bytes(writer), 300000);
    segment_begin(writer, 2, 0);
    int64_t bytes;
    return segment_seal(writer, &bytes);
}

static void reads_what_was_written(void **state)
{
    struct file_system *fs = make_fs(1);
    assert_int_equal(write_segment(fs, 3), RC_OK);
    struct segment *segment;
    struct err err = {0};
    assert_int_equal(segment_open(fs, "/s/one.seg", KIND, 3, &segment, &err), RC_OK);
    assert_int_equal(segment_content_version(segment), 3);
    struct str s;
    assert_int_equal(segment_section(segment, 1, 0, &s), RC_OK);
    assert_true(str_eq(s, STR("abc")));
    assert_int_equal(segment_section(segment, 1, 1, &s), RC_OK);
    assert_int_equal(s.n, 300000);
    assert_memory_equal(s.p + 299990, "0123456789", 10);
    assert_int_equal((uintptr_t)s.p % 64, 0);
    assert_int_equal(segment_section(segment, 2, 0, &s), RC_OK);
    assert_int_equal(s.n, 0);
    assert_int_equal(segment_section(segment, 2, 1, &s), RC_NOT_FOUND);
    segment_close(segment);

    assert_int_equal(segment_open(fs, "/s/one.seg", KIND, 2, &segment, &err), RC_INVALID);
    assert_non_null(strstr(err.message, "newer version"));
    assert_int_equal(segment_open(fs, "/s/one.seg", KIND + 1, 3, &segment, &err), RC_INVALID);
    file_system_free(fs);
}

static void notices_damage(void **state)
{
    struct file_system *fs = make_fs(1);
    assert_int_equal(write_segment(fs, 1), RC_OK);
    struct file *file;
    int64_t n;
    assert_int_equal(file_open(fs, "/s/one.seg", FILE_READ | FILE_WRITE, &file, NULL), RC_OK);
    assert_int_equal(file_size(file, &n), RC_OK);
    int opened = 0, refused = 0;
    for (int64_t at = 0; at < n;
         at = at < 200 || at >= n - 300 ? at + 1 : MIN(at + 9973, n - 300)) {
        char byte, other;
        size_t got;
        assert_int_equal(file_read_at(file, &byte, 1, at, &got), RC_OK);
        other = (char)(byte ^ 0x40);
        assert_int_equal(file_write_at(file, &(struct iovec){&other, 1}, 1, at), RC_OK);
        struct segment *segment;
        if (segment_open(fs, "/s/one.seg", KIND, 1, &segment, NULL) == RC_OK) {
            struct str a, b;
            bool good = segment_section(segment, 1, 0, &a) == RC_OK &&
                        segment_section(segment, 1, 1, &b) == RC_OK;
            if (good)
                assert_true(str_eq(a, STR("abc")) && memcmp(b.p + 5, "5678901234", 10) == 0);
            opened++;
            segment_close(segment);
        } else {
            refused++;
        }
        assert_int_equal(file_write_at(file, &(struct iovec){&byte, 1}, 1, at), RC_OK);
    }
    assert_true(opened > 20 && refused > 100);
    file_close(file);
    file_system_free(fs);
}

/* Whatever happens, the manifest is one of those stored, and not older than the last acknowledged.
 */
static void manifest_is_old_or_new(void **state)
{
    int newer = 0;
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct file_system *fs = make_fs(seed);
        char content[32];
        int acknowledged = -1;
        file_system_fail_after(fs, 3 + seed % 40);
        for (int i = 0; !file_system_failed(fs); i++) {
            memset(content, 'a' + i, sizeof(content));
            if (manifest_store(fs, "/s", "manifest", KIND, 1, str_make(content, sizeof(content)),
                               NULL) == RC_OK)
                acknowledged = i;
        }
        file_system_crash(fs);
        struct buf buf;
        buf_init(&buf, 1000);
        enum rc rc = manifest_load(fs, "/s", "manifest", KIND, 1, &buf, NULL);
        if (acknowledged < 0 && rc == RC_NOT_FOUND) {
            buf_fini(&buf);
            file_system_free(fs);
            continue;
        }
        assert_int_equal(rc, RC_OK);
        assert_int_equal(buf_len(&buf), 32);
        int found = buf_str(&buf).p[0] - 'a';
        assert_true(found == acknowledged || found == acknowledged + 1);
        newer += found != acknowledged;
        buf_fini(&buf);
        file_system_free(fs);
    }
    assert_true(newer > 0);
}

static void lock_has_one_holder_and_rising_epochs(void **state)
{
    struct file_system *fs = make_fs(2);
    uint64_t last = 0;
    for (int i = 0; i < 5; i++) {
        struct writer_lock *lock, *second;
        uint64_t epoch;
        struct err err = {0};
        assert_int_equal(writer_lock_take(fs, "/s", &lock, &epoch, &err), RC_OK);
        assert_true(epoch > last);
        last = epoch;
        assert_int_equal(writer_lock_take(fs, "/s", &second, &epoch, &err), RC_CONFLICT);
        assert_non_null(strstr(err.message, "another process"));
        if (i % 2)
            file_system_crash(fs);
        writer_lock_release(lock);
    }
    file_system_free(fs);
}

static void blobs_are_whole_or_absent(void **state)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct file_system *fs = make_fs(seed);
        struct blob_store *store;
        assert_int_equal(blob_store_open(fs, "/s/blob", &store, NULL), RC_OK);
        assert_int_equal(file_sync_directory(fs, "/s"), RC_OK);
        file_system_fail_after(fs, 1 + seed % 17);
        char content[5000];
        memset(content, (int)seed, sizeof(content));
        struct blob_id ids[2];
        enum rc first = blob_put(store, str_make(content, 5000), &ids[0]);
        enum rc second = blob_put(store, str_make(content, 4000), &ids[1]);
        file_system_crash(fs);
        blob_store_close(store);
        assert_int_equal(blob_store_open(fs, "/s/blob", &store, NULL), RC_OK);
        enum rc found = first == RC_OK || first == RC_IO ? blob_verify(store, &ids[0]) : RC_BUG;
        assert_true(found == RC_OK || (first != RC_OK && found == RC_NOT_FOUND));
        if (second == RC_OK)
            assert_int_equal(blob_verify(store, &ids[1]), RC_OK);
        blob_store_close(store);
        file_system_free(fs);
    }
}

static void blobs_are_bounded_and_checked(void **state)
{
    struct file_system *fs = make_fs(1);
    struct blob_store *store;
    struct blob_writer *writer;
    struct blob_id id, other;
    assert_int_equal(blob_store_open(fs, "/s/blob", &store, NULL), RC_OK);
    assert_int_equal(blob_begin(store, 10, &writer, NULL), RC_OK);
    assert_int_equal(blob_write(writer, "01234567", 8), RC_OK);
    assert_int_equal(blob_write(writer, "89a", 3), RC_LIMIT);
    blob_abandon(writer);
    assert_int_equal(blob_put(store, STR("same"), &id), RC_OK);
    assert_int_equal(blob_put(store, STR("same"), &other), RC_OK);
    assert_memory_equal(&id, &other, sizeof(id));
    assert_int_equal(blob_begin(store, 10, &writer, NULL), RC_OK);
    assert_int_equal(blob_write(writer, "other", 5), RC_OK);
    assert_int_equal(blob_finish(writer, &id, &other), RC_CORRUPT);
    assert_int_equal(blob_remove(store, &id), RC_OK);
    assert_int_equal(blob_remove(store, &id), RC_NOT_FOUND);
    blob_store_close(store);
    file_system_free(fs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_was_written),
        cmocka_unit_test(notices_damage),
        cmocka_unit_test(manifest_is_old_or_new),
        cmocka_unit_test(lock_has_one_holder_and_rising_epochs),
        cmocka_unit_test(blobs_are_whole_or_absent),
        cmocka_unit_test(blobs_are_bounded_and_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
