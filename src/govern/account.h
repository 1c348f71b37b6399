/* People and how they get in: projects, members, invitations, console sessions. Each change writes
 * its audit entry in the same transaction; each secret (cookie, link) is told once and stored as a
 * digest. */
#pragma once
#include "govern/principal.h"
#include "store/account.h"

#define SESSION_NS           (30 * 86400LL * 1000000000LL)
#define INVITE_NS            (7 * 86400LL * 1000000000LL)
#define ACCOUNT_SECRET_BYTES 44 /* 32 random bytes in URL-safe base 64, and a NUL */

/* ---- signing in ---- */

struct client_info {
    struct str ip, agent;
};

struct sign_in {
    char cookie[ACCOUNT_SECRET_BYTES];
    struct id session, project;
    int64_t expires_wall_ns;
};

/* Worker: some 30 ms. ERR_UNAUTHENTICATED, the same whether the user or the password is wrong, and
 * after about the same time. ERR_RATE_LIMIT after too many failures of an address or for an e-mail.
 */
enum rc account_check_password(struct db_txn *txn, struct str email, struct str password,
                               struct str client_ip, struct arena *arena, struct user_row *out,
                               struct err *err) MUST_CHECK;
/* Write: a session in the user's first project. */
enum rc account_open_session(struct db_txn *txn, const struct user_row *user,
                             const struct client_info *client, struct arena *arena,
                             struct sign_in *out, struct err *err) MUST_CHECK;
/* Write: a session that may do what the key may, and ends with it. `principal` is the key's. */
enum rc account_open_session_by_key(struct db_txn *txn, const struct principal *principal,
                                    const struct client_info *client, struct sign_in *out,
                                    struct err *err) MUST_CHECK;
/* Write: by the first-run link, an owner's session without a user; used up by it. */
enum rc account_open_session_by_link(struct db_txn *txn, struct str token,
                                     const struct client_info *client, struct arena *arena,
                                     struct sign_in *out, struct err *err) MUST_CHECK;
enum rc account_close_session(struct db_txn *txn, const struct principal *principal,
                              struct str client_ip, struct err *err) MUST_CHECK;
/* The session goes on in another project of its user. */
enum rc account_switch_project(struct db_txn *txn, const struct principal *principal,
                               struct str project, struct arena *arena, struct err *err) MUST_CHECK;

/* ---- projects ---- */
/* A user becomes its owner; who comes by key or link gets its first key, told once (*secret, else
 * empty). */
enum rc account_create_project(struct db_txn *txn, const struct principal *principal,
                               const struct actor *actor, struct str name, struct arena *arena,
                               struct id *out, struct str *secret, struct err *err) MUST_CHECK;

/* ---- members and invitations ---- */

/* A one-time token for `role`, at most the inviter's own. `email` may be empty. */
enum rc account_invite(struct db_txn *txn, const struct principal *principal,
                       const struct actor *actor, struct str email, enum role role,
                       char token[ACCOUNT_SECRET_BYTES], struct invite_row *out,
                       struct err *err) MUST_CHECK;
enum rc account_withdraw_invite(struct db_txn *txn, const struct principal *principal,
                                const struct actor *actor, struct id invite,
                                struct err *err) MUST_CHECK;
/* What the token invites to; ERR_NOT_FOUND when it is unknown, used or expired. */
enum rc account_find_invite(struct db_txn *txn, struct str token, struct arena *arena,
                            struct invite_row *out, struct err *err) MUST_CHECK;
/* Write: makes the user (`password` is its hash, made on a worker), the membership and a session.
 * Of an e-mail that is known already the membership is added when `known` is that user (who gave
 * his password). */
enum rc account_accept_invite(struct db_txn *txn, struct str token, struct str email,
                              struct str name, struct str password_hash,
                              const struct user_row *known, const struct client_info *client,
                              struct arena *arena, struct sign_in *out, struct err *err) MUST_CHECK;
/* Nobody gives or takes a role above his own; the last owner stays. */
enum rc account_set_role(struct db_txn *txn, const struct principal *principal,
                         const struct actor *actor, struct id user, enum role role,
                         struct arena *arena, struct err *err) MUST_CHECK;
enum rc account_remove_member(struct db_txn *txn, const struct principal *principal,
                              const struct actor *actor, struct id user, struct arena *arena,
                              struct err *err) MUST_CHECK;

/* ---- first start ---- */

struct first_start {
    bool is_first;
    struct str key;                   /* the first key's secret, with an owner's rights */
    char token[ACCOUNT_SECRET_BYTES]; /* of the first-run link */
};

/* Makes the project `default` when there is no project yet. */
enum rc account_ensure_project(struct db_txn *txn, struct arena *arena, struct err *err) MUST_CHECK;
/* Once in a database's life: the first key and the first-run link. Call it last before both are
 * shown, so that a start which fails does not lose them. */
enum rc account_first_start(struct db_txn *txn, struct arena *arena, struct first_start *out,
                            struct err *err) MUST_CHECK;
