/* The log: order, recovery of a torn tail, damage in the middle, failed syncs, full disks. */
#include "base/rand.h"
#include "store/log.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define KIND LOG_KIND('T', 'E', 'S', 'T')

struct seen {
    uint64_t count, first, last;
    bool ordered, intact;
};

/* Record `seq` holds its own number and a length that follows from it. */
static size_t payload_make(uint64_t seq, char out[600])
{
    size_t n = 8 + seq * 37 % 500;
    memset(out, (int)(seq & 255), n);
    memcpy(out, &seq, 8);
    return n;
}

static enum rc see(void *arg, const struct log_record *record)
{
    struct seen *seen = arg;
    char expected[600];
    size_t n = payload_make(record->seq, expected);
    if (seen->count++ == 0) {
        *seen = (struct seen){.count = 1, .first = record->seq, .ordered = true, .intact = true};
    } else {
        seen->ordered = seen->ordered && record->seq > seen->last;
    }
    seen->last = record->seq;
    seen->intact =
        seen->intact && (record->type == 7 ||
                         (record->payload.n == n && memcmp(record->payload.p, expected, n) == 0));
    return RC_OK;
}

static struct log *open_log(struct file_system *fs, uint64_t start_seq, struct seen *seen,
                            struct log_recovery *recovery)
{
    struct log_options options = {.fs = fs,
                                  .directory = "/log",
                                  .kind = KIND,
                                  .start_seq = start_seq,
                                  .file_bytes_max = 20000};
    struct log *log;
    struct err err = {0};
    *seen = (struct seen){.ordered = true, .intact = true};
    enum rc rc = log_open(&options, see, seen, recovery, &log, &err);
    if (rc != RC_OK)
        fail_msg("log_open: %s %s", rc_name(rc), err.message);
    assert_true(seen->ordered && seen->intact);
    return log;
}

static void append(struct log *log, int count)
{
    for (int i = 0; i < count; i++) {
        char payload[600];
        size_t n = payload_make(log_next_seq(log), payload);
        log_append(log, 1, str_make(payload, n), NULL);
    }
}

static void write_and_sync(struct log *log)
{
    uint64_t seq;
    assert_int_equal(log_write(log), RC_OK);
    assert_int_equal(log_sync(log, &seq), RC_OK);
    assert_int_equal(seq, log_next_seq(log) - 1);
}

static struct file_system *make_fs(uint64_t seed)
{
    struct file_system *fs = file_system_memory_new(seed);
    assert_int_equal(file_make_directory(fs, "/log"), RC_OK);
    assert_int_equal(file_sync_directory(fs, ""), RC_OK);
    return fs;
}

/* One window for records in order, over the ends of files, and out of order. */
static void records_are_read_through_a_window(void **state)
{
    struct file_system *fs = make_fs(1);
    struct seen seen;
    struct log_recovery recovery;
    struct log *log = open_log(fs, 1, &seen, &recovery);
    uint64_t locations[301];
    for (uint64_t seq = 1; seq <= 300; seq++) {
        char payload[600];
        log_append(log, 1, str_make(payload, payload_make(seq, payload)), &locations[seq]);
        if (seq % 10 == 0)
            write_and_sync(log);
    }
    struct log_window window = {0};
    for (uint64_t i = 0; i < 900; i++) {
        uint64_t seq = i < 600 ? i % 300 + 1 : i * 7919 % 300 + 1;
        struct log_record record;
        char expected[600];
        size_t n = payload_make(seq, expected);
        assert_int_equal(log_read(log, locations[seq], &window, &record), RC_OK);
        assert_int_equal(record.seq, seq);
        assert_int_equal(record.location, locations[seq]);
        assert_int_equal(record.payload.n, n);
        assert_memory_equal(record.payload.p, expected, n);
    }
    log_window_fini(&window);
    log_close(log);
    file_system_free(fs);
}

static void keeps_order_over_files(void **state)
{
    struct file_system *fs = make_fs(1);
    struct seen seen;
    struct log_recovery recovery;
    struct log *log = open_log(fs, 1, &seen, &recovery);
    assert_int_equal(seen.count, 0);
    for (int i = 0; i < 50; i++) {
        append(log, 20);
        write_and_sync(log);
    }
    log_close(log);
    log = open_log(fs, 1, &seen, &recovery);
    assert_int_equal(seen.count, 1000);
    assert_true(recovery.files > 5);
    assert_int_equal(recovery.records_lost, 0);
    assert_int_equal(recovery.bytes_dropped, 0);

    append(log, 1);
    uint64_t location;
    log_append(log, 7, STR("found again"), &location);
    write_and_sync(log);
    struct log_record record;
    struct log_window window = {0};
    assert_int_equal(log_read(log, location, &window, &record), RC_OK);
    assert_int_equal(record.seq, 1002);
    assert_int_equal(record.type, 7);
    assert_true(str_eq(record.payload, STR("found again")));
    log_window_fini(&window);

    log_drop_before(log, 900);
    log_close(log);
    log = open_log(fs, 900, &seen, &recovery);
    assert_int_equal(seen.first, 900);
    assert_true(recovery.files < 5);
    log_close(log);
    file_system_free(fs);
}

/* Cuts and flips at every place of the last file: never a wrong record, never a missing synced one.
 */
static void drops_a_torn_tail(void **state)
{
    for (int cut = 0; cut < 400; cut++) {
        struct file_system *fs = make_fs(1);
        struct seen seen;
        struct log_recovery recovery;
        struct log *log = open_log(fs, 1, &seen, &recovery);
        append(log, 3);
        write_and_sync(log);
        append(log, 5);
        assert_int_equal(log_write(log), RC_OK);
        int64_t bytes = log_bytes(log);
        log_close(log);
        struct file *file;
        assert_int_equal(
            file_open(fs, "/log/0000000000000001.log", FILE_READ | FILE_WRITE, &file, NULL), RC_OK);
        if (cut % 2) {
            assert_int_equal(file_truncate(file, bytes - cut), RC_OK);
        } else {
            struct iovec part = {"\xff\x00\xff", 3};
            assert_int_equal(file_write_at(file, &part, 1, bytes - cut - 3), RC_OK);
        }
        file_close(file);
        log = open_log(fs, 1, &seen, &recovery);
        assert_true(seen.count >= 3 && seen.count <= 8);
        assert_int_equal(seen.last, seen.count);
        assert_int_equal(recovery.records_lost, 0);
        append(log, 4);
        write_and_sync(log);
        log_close(log);
        uint64_t expected = seen.count + 4;
        log_close(open_log(fs, 1, &seen, &recovery));
        assert_int_equal(seen.count, expected);
        file_system_free(fs);
    }
}

static void skips_and_counts_damage(void **state)
{
    struct file_system *fs = make_fs(1);
    struct seen seen;
    struct log_recovery recovery;
    struct log *log = open_log(fs, 1, &seen, &recovery);
    uint64_t location;
    append(log, 10);
    log_append(log, 1, STR("to be damaged"), &location);
    write_and_sync(log);
    append(log, 10);
    write_and_sync(log);
    log_close(log);
    struct file *file;
    assert_int_equal(
        file_open(fs, "/log/0000000000000001.log", FILE_READ | FILE_WRITE, &file, NULL), RC_OK);
    struct iovec part = {"X", 1};
    assert_int_equal(file_write_at(file, &part, 1, (int64_t)(location & 0xffffff) + 26), RC_OK);
    file_close(file);
    log = open_log(fs, 1, &seen, &recovery);
    assert_int_equal(seen.count, 20);
    assert_int_equal(seen.last, 21);
    assert_int_equal(recovery.records_lost, 1);
    assert_int_equal(log_next_seq(log), 22);
    log_close(log);
    file_system_free(fs);
}

static void count_move(void *arg, uint64_t seq, uint64_t location) { (*(int *)arg)++; }

static void writes_again_after_a_failed_sync(void **state)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct file_system *fs = make_fs(seed);
        int moves = 0;
        struct log_options options = {.fs = fs,
                                      .directory = "/log",
                                      .kind = KIND,
                                      .start_seq = 1,
                                      .moved = count_move,
                                      .arg = &moves};
        struct log_recovery recovery;
        struct log *log;
        assert_int_equal(log_open(&options, NULL, NULL, &recovery, &log, NULL), RC_OK);
        append(log, 5);
        write_and_sync(log);
        append(log, 5);
        assert_int_equal(log_write(log), RC_OK);
        append(log, 2);
        uint64_t seq;
        file_system_fail_syncs(fs, 1);
        assert_int_equal(log_sync(log, &seq), RC_IO);
        assert_int_equal(seq, 5);
        assert_int_equal(log_sync(log, &seq), RC_IO); /* until they are written again */
        write_and_sync(log);
        assert_int_equal(log_synced_seq(log), 12);
        assert_int_equal(moves, 7);
        append(log, 3); /* never synced */
        assert_int_equal(log_write(log), RC_OK);
        file_system_crash(fs);
        log_close(log);
        struct seen seen;
        log_close(open_log(fs, 1, &seen, &recovery));
        assert_true(seen.count >= 12 && seen.count <= 15);
        assert_int_equal(recovery.records_lost, 0);
        file_system_free(fs);
    }
}

static void survives_a_full_disk(void **state)
{
    struct file_system *fs = make_fs(3);
    struct seen seen;
    struct log_recovery recovery;
    struct log *log = open_log(fs, 1, &seen, &recovery);
    file_system_set_space(fs, 3000);
    int refused = 0;
    for (int i = 0; i < 20; i++) {
        append(log, 1);
        enum rc rc = log_write(log);
        assert_true(rc == RC_OK || rc == RC_FULL);
        refused += rc == RC_FULL;
    }
    assert_true(refused > 5);
    assert_true(log_pending_bytes(log) > 0);
    file_system_set_space(fs, -1);
    write_and_sync(log);
    file_system_set_space(fs, 0);
    append(log, 4);
    assert_int_equal(log_write(log), RC_FULL);
    assert_int_equal(log_discard(log), 4);
    file_system_set_space(fs, -1);
    append(log, 1);
    write_and_sync(log);
    log_close(log);
    log_close(open_log(fs, 1, &seen, &recovery));
    assert_int_equal(seen.count, 21);
    file_system_free(fs);
}

static void refuses_what_is_not_its_own(void **state)
{
    struct file_system *fs = make_fs(3);
    struct seen seen;
    struct log_recovery recovery;
    struct log *log = open_log(fs, 1, &seen, &recovery);
    append(log, 1);
    write_and_sync(log);
    log_close(log);
    struct log_options options = {
        .fs = fs, .directory = "/log", .kind = LOG_KIND('E', 'L', 'S', 'E'), .start_seq = 1};
    struct err err = {0};
    assert_int_equal(log_open(&options, NULL, NULL, &recovery, &log, &err), RC_INVALID);
    assert_non_null(strstr(err.message, "another kind"));
    file_system_free(fs);
}

/* Power fails at a random change: synced records are all there, none twice, none torn. */
static void survives_power_losses(void **state)
{
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct file_system *fs = make_fs(seed);
        uint64_t durable = 0;
        rand_seed(seed);
        for (int life = 0; life < 4; life++) {
            struct seen seen;
            struct log_recovery recovery;
            struct log *log = open_log(fs, 1, &seen, &recovery);
            assert_true(seen.count >= durable);
            assert_int_equal(seen.last, seen.count);
            assert_int_equal(recovery.records_lost, 0);
            durable = seen.count;
            file_system_fail_after(fs, 1 + rand_below(60));
            while (!file_system_failed(fs)) {
                uint64_t seq;
                append(log, (int)rand_below(12));
                if (log_write(log) != RC_OK)
                    break;
                if (rand_below(3) == 0 && log_sync(log, &seq) == RC_OK)
                    durable = seq;
            }
            file_system_crash(fs);
            log_close(log);
        }
        file_system_free(fs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_order_over_files),
        cmocka_unit_test(records_are_read_through_a_window),
        cmocka_unit_test(drops_a_torn_tail),
        cmocka_unit_test(skips_and_counts_damage),
        cmocka_unit_test(writes_again_after_a_failed_sync),
        cmocka_unit_test(survives_a_full_disk),
        cmocka_unit_test(refuses_what_is_not_its_own),
        cmocka_unit_test(survives_power_losses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
