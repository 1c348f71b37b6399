/* Rows of projects, users, members, sessions, invitations. */
#include "store/account.h"
#include "base/limits.h"
#include "store/sql.h"

#define ROWS_MAX 10000 /* of one answer */

/* A growing list of rows in an arena: doubled by copying. */
static void *list_grow(struct arena *arena, void *items, size_t count, size_t *capacity,
                       size_t item_bytes, struct err *err)
{
    if (count < *capacity)
        return items;
    if (count >= ROWS_MAX) {
        err_set(err, ERR_TOO_LARGE, "There are more than %d rows.", ROWS_MAX);
        return NULL;
    }
    *capacity = MAX(16, 2 * *capacity);
    void *grown = arena_calloc(arena, *capacity * item_bytes);
    if (!grown)
        err_set(err, ERR_TOO_LARGE, "The answer is too large.");
    else if (count)
        memcpy(grown, items, count * item_bytes);
    return grown;
}

static struct sql_value opt_i64(int64_t value) { return value ? sql_i64(value) : sql_null(); }

/* ---- projects ---- */

enum rc project_insert(struct db_txn *txn, struct id id, struct str name, struct err *err)
{
    return sql_exec(txn, "INSERT INTO projects(id, name, created_ns) VALUES (?1, ?2, ?3)",
                    SQL_BIND(sql_id(&id), sql_text(name), sql_i64(db_txn_now_ns(txn))), err);
}

enum rc project_find(struct db_txn *txn, struct str name, struct id *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn, "SELECT id FROM projects WHERE name = ?1",
                           SQL_BIND(sql_text(name)), err);

    if (rc == RC_OK)
        *out = sql_column_id(&rows, 0);
    sql_end(&rows);
    return rc == RC_END ? RC_NOT_FOUND : rc;
}

enum rc project_rows(struct db_txn *txn, struct arena *arena, struct project_row **out,
                     size_t *count, struct err *err)
{
    struct project_row *list = NULL;
    struct sql_rows rows;
    size_t capacity = 0;
    enum rc rc = sql_query(txn, "SELECT id, name, created_ns FROM projects ORDER BY name",
                           SQL_NO_BINDS, &rows, err);

    *count = 0;
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK) {
        list = list_grow(arena, list, *count, &capacity, sizeof *list, err);
        if (!list) {
            rc = RC_LIMIT;
            break;
        }
        struct project_row *row = &list[(*count)++];
        row->id = sql_column_id(&rows, 0);
        row->created_ns = sql_column_i64(&rows, 2);
        rc = sql_column_copy(&rows, 1, arena, &row->name, err);
    }
    sql_end(&rows);
    *out = list;
    return rc == RC_END ? RC_OK : rc;
}

/* ---- users ---- */

#define USER_COLUMNS "u.id, u.email, u.name, u.password, u.created_ns, u.last_seen_ns"

static enum rc user_from_row(const struct sql_rows *rows, struct arena *arena, struct user_row *out,
                             struct err *err)
{
    out->id = sql_column_id(rows, 0);
    out->created_ns = sql_column_i64(rows, 4);
    out->last_seen_ns = sql_column_i64(rows, 5);
    enum rc rc = sql_column_copy(rows, 1, arena, &out->email, err);
    if (rc == RC_OK)
        rc = sql_column_copy(rows, 2, arena, &out->name, err);
    if (rc == RC_OK)
        rc = sql_column_copy(rows, 3, arena, &out->password, err);
    return rc;
}

enum rc user_insert(struct db_txn *txn, const struct user_row *user, struct err *err)
{
    return sql_exec(txn,
                    "INSERT INTO users(id, email, name, password, created_ns, last_seen_ns)"
                    " VALUES (?1, lower(?2), ?3, ?4, ?5, ?5)",
                    SQL_BIND(sql_id(&user->id), sql_text(user->email), sql_text(user->name),
                             sql_text(user->password), sql_i64(db_txn_now_ns(txn))),
                    err);
}

enum rc user_set_password(struct db_txn *txn, struct id user, struct str hash, struct err *err)
{
    return sql_exec(txn, "UPDATE users SET password = ?2 WHERE id = ?1",
                    SQL_BIND(sql_id(&user), sql_text(hash)), err);
}

enum rc user_set_seen(struct db_txn *txn, struct id user, struct err *err)
{
    return sql_exec(txn, "UPDATE users SET last_seen_ns = ?2 WHERE id = ?1",
                    SQL_BIND(sql_id(&user), sql_i64(db_txn_now_ns(txn))), err);
}

static enum rc user_one(struct db_txn *txn, const char *text, struct sql_binds binds,
                        struct arena *arena, struct user_row *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn, text, binds, err);

    if (rc == RC_OK)
        rc = user_from_row(&rows, arena, out, err);
    sql_end(&rows);
    return rc == RC_END ? RC_NOT_FOUND : rc;
}

enum rc user_find(struct db_txn *txn, struct str email, struct arena *arena, struct user_row *out,
                  struct err *err)
{
    return user_one(txn, "SELECT " USER_COLUMNS " FROM users u WHERE u.email = lower(?1)",
                    SQL_BIND(sql_text(email)), arena, out, err);
}

enum rc user_get(struct db_txn *txn, struct id user, struct arena *arena, struct user_row *out,
                 struct err *err)
{
    return user_one(txn, "SELECT " USER_COLUMNS " FROM users u WHERE u.id = ?1",
                    SQL_BIND(sql_id(&user)), arena, out, err);
}

/* ---- members ---- */

enum rc member_upsert(struct db_txn *txn, struct id project, struct id user, const char *role,
                      struct err *err)
{
    return sql_exec(
        txn,
        "INSERT INTO members(project, user_id, role, created_ns) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT(project, user_id) DO UPDATE SET role = excluded.role",
        SQL_BIND(sql_id(&project), sql_id(&user), sql_z(role), sql_i64(db_txn_now_ns(txn))), err);
}

enum rc member_delete(struct db_txn *txn, struct id project, struct id user, struct err *err)
{
    return sql_exec(txn, "DELETE FROM members WHERE project = ?1 AND user_id = ?2",
                    SQL_BIND(sql_id(&project), sql_id(&user)), err);
}

enum rc member_rows(struct db_txn *txn, struct id project, struct id user, struct arena *arena,
                    struct member_row **out, size_t *count, struct err *err)
{
    struct member_row *list = NULL;
    struct sql_rows rows;
    size_t capacity = 0;
    enum rc rc =
        sql_query(txn,
                  "SELECT " USER_COLUMNS ", m.project, p.name, m.role, m.created_ns FROM members m"
                  " JOIN users u ON u.id = m.user_id JOIN projects p ON p.id = m.project"
                  " WHERE (?1 IS NULL OR m.project = ?1) AND (?2 IS NULL OR m.user_id = ?2)"
                  " ORDER BY p.name, u.email",
                  SQL_BIND(sql_id(&project), sql_id(&user)), &rows, err);

    *count = 0;
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK) {
        list = list_grow(arena, list, *count, &capacity, sizeof *list, err);
        if (!list) {
            rc = RC_LIMIT;
            break;
        }
        struct member_row *row = &list[(*count)++];
        row->project = sql_column_id(&rows, 6);
        row->created_ns = sql_column_i64(&rows, 9);
        rc = user_from_row(&rows, arena, &row->user, err);
        if (rc == RC_OK)
            rc = sql_column_copy(&rows, 7, arena, &row->project_name, err);
        if (rc == RC_OK)
            rc = sql_column_copy(&rows, 8, arena, &row->role, err);
    }
    sql_end(&rows);
    *out = list;
    return rc == RC_END ? RC_OK : rc;
}

/* ---- sessions ---- */

enum rc session_insert(struct db_txn *txn, const struct session_row *session, struct err *err)
{
    return sql_exec(
        txn,
        "INSERT INTO sessions(digest, id, project, user_id, key_id, role, name, client_ip, "
        "client_agent,"
        " created_ns, expires_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        SQL_BIND(sql_blob(session->digest, sizeof session->digest), sql_id(&session->id),
                 sql_id(&session->project), sql_id(&session->user), sql_id(&session->key),
                 sql_text(session->role), sql_text(session->name), sql_text(session->client_ip),
                 sql_text(session->client_agent), sql_i64(db_txn_now_ns(txn)),
                 sql_i64(session->expires_ns)),
        err);
}

enum rc session_delete(struct db_txn *txn, struct id session, struct err *err)
{
    return sql_exec(txn, "DELETE FROM sessions WHERE id = ?1", SQL_BIND(sql_id(&session)), err);
}

enum rc session_delete_of_user(struct db_txn *txn, struct id project, struct id user,
                               struct err *err)
{
    return sql_exec(txn, "DELETE FROM sessions WHERE project = ?1 AND user_id = ?2",
                    SQL_BIND(sql_id(&project), sql_id(&user)), err);
}

enum rc session_delete_expired(struct db_txn *txn, struct err *err)
{
    return sql_exec(txn, "DELETE FROM sessions WHERE expires_ns <= ?1",
                    SQL_BIND(sql_i64(db_txn_now_ns(txn))), err);
}

enum rc session_set_project(struct db_txn *txn, struct id session, struct id project,
                            struct err *err)
{
    return sql_exec(txn, "UPDATE sessions SET project = ?2 WHERE id = ?1",
                    SQL_BIND(sql_id(&session), sql_id(&project)), err);
}

enum rc session_each(struct db_txn *txn,
                     enum rc (*each)(void *arg, const struct session_row *session, struct err *err),
                     void *arg, struct err *err)
{
    struct sql_rows rows;
    enum rc rc =
        sql_query(txn,
                  "SELECT s.digest, s.id, s.project, s.user_id, s.key_id,"
                  " CASE WHEN s.user_id IS NULL THEN s.role ELSE COALESCE(m.role, '') END,"
                  " s.name, s.client_ip, s.client_agent, s.created_ns, s.expires_ns FROM sessions s"
                  " LEFT JOIN members m ON m.project = s.project AND m.user_id = s.user_id"
                  " WHERE s.expires_ns > ?1",
                  SQL_BIND(sql_i64(db_txn_now_ns(txn))), &rows, err);

    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK) {
        struct session_row row = {
            .id = sql_column_id(&rows, 1),
            .project = sql_column_id(&rows, 2),
            .user = sql_column_id(&rows, 3),
            .key = sql_column_id(&rows, 4),
            .role = sql_column_str(&rows, 5),
            .name = sql_column_str(&rows, 6),
            .client_ip = sql_column_str(&rows, 7),
            .client_agent = sql_column_str(&rows, 8),
            .created_ns = sql_column_i64(&rows, 9),
            .expires_ns = sql_column_i64(&rows, 10),
        };
        struct str digest = sql_column_str(&rows, 0);
        memcpy(row.digest, digest.p, MIN(digest.n, sizeof row.digest));
        rc = each(arg, &row, err);
    }
    sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

/* ---- invitations ---- */

#define INVITE_COLUMNS                                                                             \
    "id, project, digest, first_run, email, role, author, created_ns, expires_ns, used_ns"

enum rc invite_insert(struct db_txn *txn, const struct invite_row *invite, struct err *err)
{
    return sql_exec(
        txn,
        "INSERT INTO invites(" INVITE_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        SQL_BIND(sql_id(&invite->id), sql_id(&invite->project),
                 sql_blob(invite->digest, sizeof invite->digest), sql_i64(invite->first_run),
                 sql_text(invite->email), sql_text(invite->role), sql_text(invite->author),
                 sql_i64(db_txn_now_ns(txn)), sql_i64(invite->expires_ns),
                 opt_i64(invite->used_ns)),
        err);
}

static enum rc invite_from_row(const struct sql_rows *rows, struct arena *arena,
                               struct invite_row *out, struct err *err)
{
    struct str digest = sql_column_str(rows, 2);

    out->id = sql_column_id(rows, 0);
    out->project = sql_column_id(rows, 1);
    memcpy(out->digest, digest.p, MIN(digest.n, sizeof out->digest));
    out->first_run = sql_column_i64(rows, 3) != 0;
    out->created_ns = sql_column_i64(rows, 7);
    out->expires_ns = sql_column_i64(rows, 8);
    out->used_ns = sql_column_i64(rows, 9);
    enum rc rc = sql_column_copy(rows, 4, arena, &out->email, err);
    if (rc == RC_OK)
        rc = sql_column_copy(rows, 5, arena, &out->role, err);
    if (rc == RC_OK)
        rc = sql_column_copy(rows, 6, arena, &out->author, err);
    return rc;
}

enum rc invite_find(struct db_txn *txn, const uint8_t digest[SHA256_BYTES], struct arena *arena,
                    struct invite_row *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn, "SELECT " INVITE_COLUMNS " FROM invites WHERE digest = ?1",
                           SQL_BIND(sql_blob(digest, SHA256_BYTES)), err);

    if (rc == RC_OK)
        rc = invite_from_row(&rows, arena, out, err);
    sql_end(&rows);
    return rc == RC_END ? RC_NOT_FOUND : rc;
}

enum rc invite_first_run_exists(struct db_txn *txn, bool *out, struct err *err)
{
    int64_t count;
    enum rc rc = sql_get_i64(txn, "SELECT COUNT(*) FROM invites WHERE first_run = 1", SQL_NO_BINDS,
                             0, &count, err);

    *out = count > 0;
    return rc;
}

enum rc invite_use(struct db_txn *txn, struct id invite, struct err *err)
{
    return sql_exec(txn, "UPDATE invites SET used_ns = ?2 WHERE id = ?1",
                    SQL_BIND(sql_id(&invite), sql_i64(db_txn_now_ns(txn))), err);
}

enum rc invite_delete(struct db_txn *txn, struct id project, struct id invite, struct err *err)
{
    enum rc rc = sql_exec(
        txn,
        "DELETE FROM invites WHERE project = ?1 AND id = ?2 AND used_ns IS NULL AND first_run = 0",
        SQL_BIND(sql_id(&project), sql_id(&invite)), err);

    return rc == RC_OK && sql_changes(txn) == 0 ? RC_NOT_FOUND : rc;
}

enum rc invite_rows(struct db_txn *txn, struct id project, struct arena *arena,
                    struct invite_row **out, size_t *count, struct err *err)
{
    struct invite_row *list = NULL;
    struct sql_rows rows;
    size_t capacity = 0;
    enum rc rc =
        sql_query(txn,
                  "SELECT " INVITE_COLUMNS " FROM invites WHERE project = ?1 AND used_ns IS NULL"
                  " AND expires_ns > ?2 AND first_run = 0 ORDER BY created_ns DESC",
                  SQL_BIND(sql_id(&project), sql_i64(db_txn_now_ns(txn))), &rows, err);

    *count = 0;
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK) {
        list = list_grow(arena, list, *count, &capacity, sizeof *list, err);
        rc = list ? invite_from_row(&rows, arena, &list[(*count)++], err) : RC_LIMIT;
    }
    sql_end(&rows);
    *out = list;
    return rc == RC_END ? RC_OK : rc;
}
