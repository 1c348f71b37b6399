/* The steps of the schema. Types are those of SQLite's STRICT tables that PostgreSQL has too (BLOB
 * as BYTEA, INTEGER as BIGINT); times are nanoseconds, ids 16 bytes. Every table names its project,
 * but for `meta`, and for `users`, who are members of projects. */
#include "store/migrations.h"
#include "base/clock.h"
#include "base/log.h"
#include <inttypes.h>
#include <stdio.h>

struct migration {
    int64_t version;
    const char *sql;
};

static const struct migration MIGRATIONS[] = {
    {1,
     "CREATE TABLE projects(id BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ns INTEGER NOT "
     "NULL) STRICT;"

     /* Configuration objects: the current state of each. `version` counts its changes. */
     "CREATE TABLE objects(project BLOB NOT NULL REFERENCES projects(id), kind TEXT NOT NULL,"
     " name TEXT NOT NULL, id BLOB NOT NULL UNIQUE, origin TEXT NOT NULL, version INTEGER NOT NULL,"
     " hash BLOB NOT NULL, spec TEXT NOT NULL, author TEXT NOT NULL, message TEXT NOT NULL,"
     " created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL, PRIMARY KEY(project, kind, name))"
     " STRICT, WITHOUT ROWID;" /* in the order in which the snapshot reads it */
     /* Immutable; kept when the object is deleted. */
     "CREATE TABLE object_versions(project BLOB NOT NULL REFERENCES projects(id), kind TEXT NOT "
     "NULL,"
     " name TEXT NOT NULL, version INTEGER NOT NULL, hash BLOB NOT NULL, spec TEXT NOT NULL,"
     " author TEXT NOT NULL, message TEXT NOT NULL, created_ns INTEGER NOT NULL,"
     " PRIMARY KEY(project, kind, name, version)) STRICT;"
     /* A label points to one version, or to several by weight. */
     "CREATE TABLE object_labels(project BLOB NOT NULL REFERENCES projects(id), kind TEXT NOT NULL,"
     " name TEXT NOT NULL, label TEXT NOT NULL, version INTEGER NOT NULL, weight INTEGER NOT NULL,"
     " PRIMARY KEY(project, kind, name, label, version)) STRICT;"
     /* Labels of a kind that only principals with more rights may move. */
     "CREATE TABLE protected_labels(project BLOB NOT NULL REFERENCES projects(id), kind TEXT NOT "
     "NULL,"
     " label TEXT NOT NULL, PRIMARY KEY(project, kind, label)) STRICT;"

     /* Who changed what: a chain, each entry holding the digest of the one before. */
     "CREATE TABLE audit(seq INTEGER PRIMARY KEY, project BLOB NOT NULL, at_ns INTEGER NOT NULL,"
     " actor_type TEXT NOT NULL, actor_id BLOB, actor_name TEXT NOT NULL, client_ip TEXT NOT NULL,"
     " action TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, before_json TEXT, after_json "
     "TEXT,"
     " previous BLOB NOT NULL, hash BLOB NOT NULL) STRICT;"
     "CREATE INDEX audit_project ON audit(project, seq);"

     "CREATE TABLE users(id BLOB PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL,"
     " password TEXT NOT NULL, created_ns INTEGER NOT NULL, last_seen_ns INTEGER NOT NULL) STRICT;"
     "CREATE TABLE members(project BLOB NOT NULL REFERENCES projects(id),"
     " user_id BLOB NOT NULL REFERENCES users(id), role TEXT NOT NULL, created_ns INTEGER NOT NULL,"
     " PRIMARY KEY(project, user_id)) STRICT;"
     "CREATE INDEX members_user ON members(user_id);"
     /* `digest` is SHA-256 of the cookie. Without a user: made by the first-run link or by a key.
      */
     "CREATE TABLE sessions(digest BLOB PRIMARY KEY, id BLOB NOT NULL UNIQUE,"
     " project BLOB NOT NULL REFERENCES projects(id), user_id BLOB REFERENCES users(id), key_id "
     "BLOB,"
     " role TEXT NOT NULL, name TEXT NOT NULL, client_ip TEXT NOT NULL, client_agent TEXT NOT NULL,"
     " created_ns INTEGER NOT NULL, expires_ns INTEGER NOT NULL) STRICT;"
     "CREATE INDEX sessions_user ON sessions(user_id);"
     "CREATE TABLE invites(id BLOB PRIMARY KEY, project BLOB NOT NULL REFERENCES projects(id),"
     " digest BLOB NOT NULL UNIQUE, first_run INTEGER NOT NULL, email TEXT NOT NULL, role TEXT NOT "
     "NULL,"
     " author TEXT NOT NULL, created_ns INTEGER NOT NULL, expires_ns INTEGER NOT NULL,"
     " used_ns INTEGER) STRICT;"

     "CREATE TABLE jobs(id BLOB PRIMARY KEY, project BLOB NOT NULL REFERENCES projects(id),"
     " kind TEXT NOT NULL, state TEXT NOT NULL, params TEXT NOT NULL, done INTEGER NOT NULL,"
     " total INTEGER NOT NULL, unit TEXT NOT NULL, message TEXT NOT NULL, result TEXT, error TEXT,"
     " attempt INTEGER NOT NULL, attempts_max INTEGER NOT NULL, run_after_ns INTEGER NOT NULL,"
     " lease_epoch INTEGER NOT NULL, lease_until_ns INTEGER NOT NULL, cancel_asked INTEGER NOT "
     "NULL,"
     " author TEXT NOT NULL, created_ns INTEGER NOT NULL, started_ns INTEGER, finished_ns INTEGER) "
     "STRICT;"
     "CREATE INDEX jobs_due ON jobs(state, run_after_ns);"
     "CREATE INDEX jobs_project ON jobs(project, created_ns);"
     /* A job of `kind` is made each `every_ns`; a background duty is one, too. */
     "CREATE TABLE schedules(project BLOB NOT NULL REFERENCES projects(id), name TEXT NOT NULL,"
     " kind TEXT NOT NULL, params TEXT NOT NULL, every_ns INTEGER NOT NULL, next_ns INTEGER NOT "
     "NULL,"
     " PRIMARY KEY(project, name)) STRICT;"},
    {2,
     /* Knowledge. A collection's definition is an object of the same id; here is its state. */
     "CREATE TABLE collections(project BLOB NOT NULL REFERENCES projects(id), id BLOB PRIMARY KEY,"
     " name TEXT NOT NULL, generation INTEGER NOT NULL, built_version INTEGER NOT NULL,"
     " expires_days INTEGER NOT NULL,"
     " metadata TEXT NOT NULL, vector_name TEXT NOT NULL, created_ns INTEGER NOT NULL,"
     " used_ns INTEGER NOT NULL, UNIQUE(project, name)) STRICT;"
     "CREATE TABLE documents(project BLOB NOT NULL REFERENCES projects(id), id BLOB PRIMARY KEY,"
     " collection BLOB NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL,"
     " content_type TEXT NOT NULL, sha256 BLOB NOT NULL, text_sha256 BLOB, bytes INTEGER NOT NULL,"
     " format TEXT NOT NULL, state TEXT NOT NULL, error TEXT NOT NULL, error_code TEXT NOT NULL,"
     " chunks INTEGER NOT NULL, tokens INTEGER NOT NULL, pages INTEGER NOT NULL,"
     " text_bytes INTEGER NOT NULL, attributes TEXT NOT NULL, tags TEXT NOT NULL,"
     " chunking TEXT NOT NULL, file BLOB, batch BLOB, created_ns INTEGER NOT NULL,"
     " updated_ns INTEGER NOT NULL) STRICT;"
     "CREATE INDEX documents_collection ON documents(collection, id);"
     "CREATE INDEX documents_state ON documents(collection, state, id);"
     "CREATE INDEX documents_name ON documents(collection, name);"
     "CREATE INDEX documents_content ON documents(sha256);"
     "CREATE INDEX documents_text ON documents(text_sha256);"
     "CREATE TABLE files(project BLOB NOT NULL REFERENCES projects(id), id BLOB PRIMARY KEY,"
     " name TEXT NOT NULL, purpose TEXT NOT NULL, content_type TEXT NOT NULL,"
     " bytes INTEGER NOT NULL, sha256 BLOB NOT NULL, created_ns INTEGER NOT NULL,"
     " expires_ns INTEGER NOT NULL) STRICT;"
     "CREATE INDEX files_project ON files(project, id);"
     "CREATE INDEX files_content ON files(sha256);"
     "CREATE TABLE file_batches(project BLOB NOT NULL REFERENCES projects(id), id BLOB PRIMARY KEY,"
     " collection BLOB NOT NULL, cancelled INTEGER NOT NULL, created_ns INTEGER NOT NULL) STRICT;"},
    {3,
     /* A pipeline and its draft; what is published are object_versions of kind pipeline. */
     "CREATE TABLE pipelines(project BLOB NOT NULL REFERENCES projects(id), name TEXT NOT NULL,"
     " id BLOB NOT NULL UNIQUE, draft TEXT NOT NULL, author TEXT NOT NULL, revision INTEGER NOT "
     "NULL, created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL, PRIMARY KEY(project, name))"
     " STRICT;"},
    {4,
     /* Where a collection's documents come from by themselves, and what was found there. */
     "CREATE TABLE sources(project BLOB NOT NULL REFERENCES projects(id), id BLOB PRIMARY KEY,"
     " collection BLOB NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, definition TEXT NOT NULL,"
     " every_ns INTEGER NOT NULL, next_ns INTEGER NOT NULL, sync INTEGER NOT NULL,"
     " syncing INTEGER NOT NULL, removing INTEGER NOT NULL, job BLOB, cursor TEXT NOT NULL,"
     " error TEXT NOT NULL, added INTEGER NOT NULL, changed INTEGER NOT NULL,"
     " unchanged INTEGER NOT NULL, deleted INTEGER NOT NULL, failed INTEGER NOT NULL,"
     " started_ns INTEGER NOT NULL, finished_ns INTEGER NOT NULL, created_ns INTEGER NOT NULL,"
     " updated_ns INTEGER NOT NULL, author TEXT NOT NULL, UNIQUE(collection, name)) STRICT;"
     "CREATE INDEX sources_due ON sources(next_ns);"
     "CREATE TABLE source_items(project BLOB NOT NULL REFERENCES projects(id),"
     " source BLOB NOT NULL, key TEXT NOT NULL, document BLOB, etag TEXT NOT NULL,"
     " modified TEXT NOT NULL, sync INTEGER NOT NULL, state TEXT NOT NULL, error TEXT NOT NULL,"
     " bytes INTEGER NOT NULL, updated_ns INTEGER NOT NULL, PRIMARY KEY(source, key)) STRICT;"
     "CREATE INDEX source_items_document ON source_items(source, document);"},
    {5,
     /* The judged questions of a collection, one JSON list: read and written whole. */
     "CREATE TABLE question_sets(project BLOB NOT NULL REFERENCES projects(id),"
     " collection BLOB NOT NULL, questions TEXT NOT NULL, updated_ns INTEGER NOT NULL,"
     " PRIMARY KEY(project, collection)) STRICT;"},
    {6,
     /* What conversations with pipelines keep from run to run (pipeline/engine/session.h). */
     "CREATE TABLE conversations(project BLOB NOT NULL REFERENCES projects(id), pipeline TEXT NOT "
     "NULL, session TEXT NOT NULL, variables TEXT NOT NULL, messages TEXT NOT NULL,"
     " last_run BLOB NOT NULL, updated_ns INTEGER NOT NULL,"
     " PRIMARY KEY(project, pipeline, session)) STRICT;"},
    {7,
     /* When schedules run; what they are are objects of kind trigger. */
     "CREATE TABLE trigger_times(project BLOB NOT NULL REFERENCES projects(id), id BLOB PRIMARY "
     "KEY,"
     " next_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL, last_run BLOB, fired INTEGER NOT NULL,"
     " missed INTEGER NOT NULL) STRICT;"
     "CREATE INDEX trigger_times_next ON trigger_times(next_ns);"
     /* What is said about answers. `key`: the sayer's id of it, so that he may say it anew. */
     "CREATE TABLE scores(project BLOB NOT NULL REFERENCES projects(id), id BLOB PRIMARY KEY,"
     " key TEXT NOT NULL, target TEXT NOT NULL, target_id TEXT NOT NULL, observation TEXT NOT NULL,"
     " name TEXT NOT NULL, type TEXT NOT NULL, value REAL, text TEXT NOT NULL,"
     " comment TEXT NOT NULL, source TEXT NOT NULL, author TEXT NOT NULL,"
     " created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL, UNIQUE(project, key)) STRICT;"
     "CREATE INDEX scores_target ON scores(project, target_id, created_ns);"
     "CREATE INDEX scores_created ON scores(project, created_ns);"},
};

int64_t migrations_version(void) { return MIGRATIONS[COUNT_OF(MIGRATIONS) - 1].version; }

static enum rc version_read(struct db_txn *txn, int64_t *version, struct err *err)
{
    enum rc rc = sqlite_run(
        txn, "CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;",
        err);

    *version = 0;
    if (rc != RC_OK)
        return rc;
    return sql_get_i64(txn, "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'schema'",
                       SQL_NO_BINDS, 0, version, err);
}

static enum rc version_write(struct db_txn *txn, int64_t version, struct err *err)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRId64, version);
    return sql_exec(txn,
                    "INSERT INTO meta(name, value) VALUES ('schema', ?1)"
                    " ON CONFLICT(name) DO UPDATE SET value = excluded.value",
                    SQL_BIND(sql_z(text)), err);
}

static enum rc step_run(struct db_txn *txn, const struct migration *step, struct err *err)
{
    enum rc rc = sqlite_run(txn, "BEGIN IMMEDIATE", err);

    if (rc != RC_OK)
        return rc;
    rc = sqlite_run(txn, step->sql, err);
    if (rc == RC_OK)
        rc = version_write(txn, step->version, err);
    if (rc == RC_OK)
        rc = sqlite_run(txn, "COMMIT", err);
    if (rc != RC_OK)
        (void)!sqlite_run(txn, "ROLLBACK", NULL);
    return rc;
}

enum rc migrations_run(struct db_txn *connection, const char *path, struct err *err)
{
    char backup[1100];
    int64_t version;
    enum rc rc = version_read(connection, &version, err);

    if (rc == RC_OK && version > migrations_version())
        return err_set(err, ERR_INVALID,
                       "%s has schema %" PRId64 ", made by a newer Capstan; this one knows %" PRId64
                       ". Run the newer program, or restore the backup it made.",
                       path, version, migrations_version());
    if (rc == RC_OK && version > 0 && version < migrations_version()) {
        snprintf(backup, sizeof backup, "%s.v%" PRId64 ".bak", path, version);
        rc = sqlite_copy_to(connection, backup, err);
        log_event(LOG_INFO, "schema_backup", LOG_Z("file", backup));
    }
    for (size_t i = 0; rc == RC_OK && i < COUNT_OF(MIGRATIONS); i++)
        if (MIGRATIONS[i].version > version)
            rc = step_run(connection, &MIGRATIONS[i], err);
    return rc;
}
