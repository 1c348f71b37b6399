/* The control database under power losses, failing syncs and full disks.
 *
 * Each seed is a history of several lives. In each, transactions as db.c makes them (savepoints,
 * one commit; the settings of sqlite.c) put in batches of rows and take batches out, while another
 * connection reads and the log is folded back at random, until the power fails; then the file is
 * opened again and must agree with what was promised:
 *   - what was committed is there whole, or gone if that was committed;
 *   - a batch is there whole or not at all, what was rolled back not at all;
 *   - SQLite finds nothing wrong with the file.
 *
 * (kill -9 of the real program, its batching included: tests/crash/crash_control.c.) */
#include "base/rand.h"
#include "power.h"
#include "sqlite_files.h"
#include "store/sqlite.h"

#define PATH        "/data/control.db"
#define BATCHES_MAX 400
#define ROWS_MAX    6
#define BODY_MAX    3000

enum fate {
    FATE_ABSENT,
    FATE_PRESENT,
    FATE_MAYBE, /* asked for, and the answer got lost with the power */
};

struct history {
    struct power_history power;
    struct db_txn *writer, *reader;
    unsigned next_batch;
    uint8_t fates[BATCHES_MAX]; /* enum fate */
};

static unsigned rows_of(unsigned batch) { return 1 + batch * 2654435761u % ROWS_MAX; }

/* A row's body: its length and bytes follow from what it is. */
static struct str body_of(unsigned batch, unsigned row, char body[BODY_MAX])
{
    size_t n = (batch * 40503u + row * 9973u) % BODY_MAX;
    memset(body, (int)('a' + (batch + row) % 26), n);
    return str_make(body, n);
}

/* ---- acting ---- */

static enum rc put_in(struct history *h, unsigned batch)
{
    char body[BODY_MAX];
    enum rc rc = RC_OK;
    for (unsigned row = 0; rc == RC_OK && row < rows_of(batch); row++)
        rc = sql_exec(h->writer, "INSERT INTO parts (batch, part, body) VALUES (?1, ?2, ?3)",
                      SQL_BIND(sql_i64(batch), sql_i64(row), sql_text(body_of(batch, row, body))),
                      NULL);
    return rc;
}

static enum rc take_out(struct history *h, unsigned batch)
{
    return sql_exec(h->writer, "DELETE FROM parts WHERE batch = ?1", SQL_BIND(sql_i64(batch)),
                    NULL);
}

/* One transaction of several pieces, some of them undone. */
static void act_write(struct history *h)
{
    unsigned touched[8], count = 0;
    uint8_t after[8];
    enum rc rc = sqlite_run(h->writer, "BEGIN IMMEDIATE;", NULL);
    for (uint64_t n = 1 + rand_below(4); rc == RC_OK && n > 0; n--) {
        bool out = rand_below(4) == 0 && h->next_batch > 0, undone = rand_below(5) == 0;
        unsigned batch = out ? (unsigned)rand_below(h->next_batch) : h->next_batch;
        bool again = false;
        for (unsigned i = 0; i < count; i++)
            again = again || touched[i] == batch;
        if (again || batch >= BATCHES_MAX)
            continue;
        h->next_batch += !out;
        rc = sqlite_run(h->writer, "SAVEPOINT piece;", NULL);
        if (rc == RC_OK)
            rc = out ? take_out(h, batch) : put_in(h, batch);
        if (rc == RC_OK && undone)
            rc = sqlite_run(h->writer, "ROLLBACK TO piece;", NULL);
        if (rc == RC_OK)
            rc = sqlite_run(h->writer, "RELEASE piece;", NULL);
        touched[count] = batch;
        after[count++] = undone ? h->fates[batch] : out ? FATE_ABSENT : FATE_PRESENT;
    }
    if (rc == RC_OK)
        rc = sqlite_run(h->writer, "COMMIT;", NULL);
    bool undone = rc != RC_OK && sqlite_run(h->writer, "ROLLBACK;", NULL) == RC_OK;
    for (unsigned i = 0; i < count && !undone; i++) {
        uint8_t *fate = &h->fates[touched[i]];
        *fate = rc == RC_OK || *fate == after[i] ? after[i] : FATE_MAYBE;
    }
}

static void act(struct history *h)
{
    int64_t count;
    enum rc rc = RC_OK;
    switch (rand_below(12)) {
    case 0: rc = sqlite_run(h->writer, "PRAGMA wal_checkpoint(PASSIVE);", NULL); break;
    case 1: rc = sqlite_run(h->writer, "PRAGMA wal_checkpoint(TRUNCATE);", NULL); break;
    case 2: file_system_fail_syncs(h->power.fs, (int)rand_below(3)); break;
    case 3:
        file_system_set_space(h->power.fs, rand_below(4) ? -1 : (int64_t)rand_below(900000));
        break;
    case 4:
        if (h->reader)
            rc =
                sql_get_i64(h->reader, "SELECT count(*) FROM parts", SQL_NO_BINDS, 0, &count, NULL);
        break;
    default: act_write(h);
    }
    UNUSED(rc); /* with the power gone, everything fails */
}

/* ---- checking ---- */

static bool check_batch(struct history *h, unsigned batch)
{
    char body[BODY_MAX];
    struct sql_rows rows;
    struct err err = {0};
    unsigned found = 0;
    enum rc rc = sql_query(h->writer, "SELECT body FROM parts WHERE batch = ?1 ORDER BY part",
                           SQL_BIND(sql_i64(batch)), &rows, &err);
    while (rc == RC_OK && (rc = sql_next(&rows, &err)) == RC_OK) {
        if (found < rows_of(batch) &&
            !str_eq(sql_column_str(&rows, 0), body_of(batch, found, body))) {
            sql_end(&rows);
            return power_problem(&h->power, "batch %u: row %u is not whole", batch, found);
        }
        found++;
    }
    if (rc != RC_END)
        return power_problem(&h->power, "reading: %s", err.message);
    if (found != 0 && found != rows_of(batch))
        return power_problem(&h->power, "batch %u is there in part", batch);
    if (h->fates[batch] != FATE_MAYBE && (h->fates[batch] == FATE_PRESENT) != (found > 0))
        return power_problem(&h->power, "batch %u %s", batch, found ? "came back" : "is lost");
    h->fates[batch] = found ? FATE_PRESENT : FATE_ABSENT;
    return true;
}

static bool check(struct history *h)
{
    struct sql_rows rows;
    struct err err = {0};
    enum rc rc = sql_first(&rows, h->writer, "PRAGMA integrity_check", SQL_NO_BINDS, &err);
    if (rc != RC_OK)
        return power_problem(&h->power, "integrity: %s", err.message);
    bool good = str_eq(sql_column_str(&rows, 0), STR("ok"));
    sql_end(&rows);
    if (!good)
        return power_problem(&h->power, "SQLite finds the file damaged");
    for (unsigned batch = 0; good && batch < h->next_batch; batch++)
        good = check_batch(h, batch);
    return good;
}

/* ---- a life ---- */

static enum rc history_open(struct history *h, struct err *err)
{
    enum rc rc = sqlite_open(PATH, true, &h->writer, err);
    if (rc == RC_OK)
        rc = sqlite_run(h->writer,
                        "PRAGMA wal_autocheckpoint=30;"
                        "CREATE TABLE IF NOT EXISTS parts (batch INTEGER, part INTEGER, body TEXT,"
                        " PRIMARY KEY (batch, part)) WITHOUT ROWID;",
                        err);
    if (rc == RC_OK)
        rc = sqlite_open(PATH, false, &h->reader, err);
    return rc;
}

static void history_end(struct history *h)
{
    file_system_fail(h->power.fs); /* closing must not write what a dead process could not */
    if (h->reader)
        sqlite_close(h->reader);
    if (h->writer)
        sqlite_close(h->writer);
    h->reader = h->writer = NULL;
    sqlite_files_forget();
    file_system_crash(h->power.fs);
}

static bool live(struct power_history *power)
{
    struct history *h = CONTAINER_OF(power, struct history, power);
    struct err err = {0};
    sqlite_files_use(power->fs);
    file_system_set_space(power->fs, -1);
    if (rand_below(6) == 0) { /* the power fails while it opens */
        file_system_fail_after(power->fs, 1 + rand_below(20));
        enum rc rc = history_open(h, &err);
        UNUSED(rc);
        history_end(h);
        err = (struct err){0};
    }
    bool good =
        history_open(h, &err) == RC_OK ? check(h) : power_problem(power, "open: %s", err.message);
    file_system_fail_after(power->fs, 1 + rand_below(400));
    for (int step = 0; good && step < 80 && !file_system_failed(power->fs); step++)
        act(h);
    history_end(h);
    return good;
}

int main(void)
{
    static const struct power_sim sim = {.history_bytes = sizeof(struct history), .live = live};
    return power_main(&sim);
}
