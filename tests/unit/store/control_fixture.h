/* A control database in a temporary folder, for tests. */
#pragma once
#include "store/object.h"
#include "store/sql.h"
#include "text/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

struct control_fixture {
    char folder[64], path[96];
    struct secret_box *box;
    struct db *db;
    struct arena arena;
    struct id project, other;
};

static inline enum rc fixture_projects(void *arg, struct db_txn *txn, struct err *err)
{
    struct control_fixture *f = arg;
    enum rc rc =
        sql_exec(txn, "INSERT INTO projects(id, name, created_ns) VALUES (?1, 'default', 0)",
                 SQL_BIND(sql_id(&f->project)), err);
    if (rc == RC_OK)
        rc = sql_exec(txn, "INSERT INTO projects(id, name, created_ns) VALUES (?1, 'other', 0)",
                      SQL_BIND(sql_id(&f->other)), err);
    return rc;
}

static inline void fixture_open(struct control_fixture *f)
{
    struct err err = {0};
    struct db_options options = {.path = f->path, .readers = 2, .secrets = f->box};

    if (db_open(&options, &f->db, &err) != RC_OK)
        fail_msg("%s", err.message);
}

static inline void fixture_start(struct control_fixture *f)
{
    struct err err = {0};
    char secrets[96];

    *f = (struct control_fixture){.folder = "/tmp/capstan-test-XXXXXX"};
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/control.db", f->folder);
    snprintf(secrets, sizeof secrets, "%s/secret", f->folder);
    assert_int_equal(secret_box_open(secrets, &f->box, &err), RC_OK);
    arena_init(&f->arena, 64 * 1024 * 1024);
    fixture_open(f);
    f->project = id_new();
    f->other = id_new();
    assert_int_equal(db_write_wait(f->db, fixture_projects, f, &err), RC_OK);
}

static inline void fixture_end(struct control_fixture *f)
{
    char command[128];

    db_close(f->db);
    secret_box_free(f->box);
    arena_fini(&f->arena);
    snprintf(command, sizeof command, "rm -rf '%s'", f->folder);
    assert_int_equal(system(command), 0);
}

static inline yyjson_val *fixture_json(struct control_fixture *f, const char *text)
{
    yyjson_doc *doc;
    struct err err = {0};

    if (json_read(str_from(text), &f->arena, &doc, &err) != RC_OK)
        fail_msg("%s", err.message);
    return yyjson_doc_get_root(doc);
}
