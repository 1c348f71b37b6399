/* Rows of projects, users, members, sessions and invitations. Only rows: rules, secrets and the
 * audit log are the business of src/govern, which is the only caller. Texts that are read live in
 * the arena. */
#pragma once
#include "base/hash.h"
#include "store/db.h"

struct project_row {
    struct id id;
    struct str name;
    int64_t created_ns;
};

enum rc project_insert(struct db_txn *txn, struct id id, struct str name,
                       struct err *err) MUST_CHECK;
/* RC_NOT_FOUND without an error's text. */
enum rc project_find(struct db_txn *txn, struct str name, struct id *out,
                     struct err *err) MUST_CHECK;
/* All, by name. */
enum rc project_rows(struct db_txn *txn, struct arena *arena, struct project_row **out,
                     size_t *count, struct err *err) MUST_CHECK;

struct user_row {
    struct id id;
    struct str email, name, password; /* password: its hash */
    int64_t created_ns, last_seen_ns;
};

enum rc user_insert(struct db_txn *txn, const struct user_row *user, struct err *err) MUST_CHECK;
enum rc user_set_password(struct db_txn *txn, struct id user, struct str hash,
                          struct err *err) MUST_CHECK;
enum rc user_set_seen(struct db_txn *txn, struct id user, struct err *err) MUST_CHECK;
/* RC_NOT_FOUND without an error's text. E-mails are compared in lower case. */
enum rc user_find(struct db_txn *txn, struct str email, struct arena *arena, struct user_row *out,
                  struct err *err) MUST_CHECK;
enum rc user_get(struct db_txn *txn, struct id user, struct arena *arena, struct user_row *out,
                 struct err *err) MUST_CHECK;

struct member_row {
    struct user_row user;
    struct id project;
    struct str project_name, role;
    int64_t created_ns;
};

/* Makes or changes it. */
enum rc member_upsert(struct db_txn *txn, struct id project, struct id user, const char *role,
                      struct err *err) MUST_CHECK;
enum rc member_delete(struct db_txn *txn, struct id project, struct id user,
                      struct err *err) MUST_CHECK;
/* Members of a project (user zero), or projects of a user (project zero), or the one (both). */
enum rc member_rows(struct db_txn *txn, struct id project, struct id user, struct arena *arena,
                    struct member_row **out, size_t *count, struct err *err) MUST_CHECK;

struct session_row {
    uint8_t digest[SHA256_BYTES]; /* of the cookie */
    struct id id, project;
    struct id user, key; /* zero: none */
    struct str role;     /* of sessions without user and key; of users the member's role counts */
    struct str name, client_ip, client_agent;
    int64_t created_ns, expires_ns;
};

enum rc session_insert(struct db_txn *txn, const struct session_row *session,
                       struct err *err) MUST_CHECK;
enum rc session_delete(struct db_txn *txn, struct id session, struct err *err) MUST_CHECK;
enum rc session_delete_of_user(struct db_txn *txn, struct id project, struct id user,
                               struct err *err) MUST_CHECK;
enum rc session_delete_expired(struct db_txn *txn, struct err *err) MUST_CHECK;
enum rc session_set_project(struct db_txn *txn, struct id session, struct id project,
                            struct err *err) MUST_CHECK;
/* Every session that has not expired, with its user's role in the session's project ("": no member
 * any more). Texts are valid during the call. */
enum rc session_each(struct db_txn *txn,
                     enum rc (*each)(void *arg, const struct session_row *session, struct err *err),
                     void *arg, struct err *err) MUST_CHECK;

struct invite_row {
    struct id id, project;
    uint8_t digest[SHA256_BYTES];
    bool first_run;
    struct str email, role, author;
    int64_t created_ns, expires_ns, used_ns; /* used_ns 0: open */
};

enum rc invite_insert(struct db_txn *txn, const struct invite_row *invite,
                      struct err *err) MUST_CHECK;
/* RC_NOT_FOUND without an error's text. */
enum rc invite_find(struct db_txn *txn, const uint8_t digest[SHA256_BYTES], struct arena *arena,
                    struct invite_row *out, struct err *err) MUST_CHECK;
/* Whether there ever was a first-run link. */
enum rc invite_first_run_exists(struct db_txn *txn, bool *out, struct err *err) MUST_CHECK;
enum rc invite_use(struct db_txn *txn, struct id invite, struct err *err) MUST_CHECK;
/* RC_NOT_FOUND when there is no open one of that id. */
enum rc invite_delete(struct db_txn *txn, struct id project, struct id invite,
                      struct err *err) MUST_CHECK;
/* Open ones of the project, newest first; first-run links are not among them. */
enum rc invite_rows(struct db_txn *txn, struct id project, struct arena *arena,
                    struct invite_row **out, size_t *count, struct err *err) MUST_CHECK;
