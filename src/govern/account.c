/* Sign-in, sessions, projects, invitations, members. */
#include "govern/account.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/rand.h"
#include "govern/key.h"
#include "govern/password.h"
#include "govern/throttle.h"
#include "text/json_tree.h"
#include <stdio.h>

#define EMAIL_BYTES_MAX 254

static void secret_make(char out[ACCOUNT_SECRET_BYTES], uint8_t digest[SHA256_BYTES])
{
    uint8_t random[32];
    char text[48];

    rand_secret(random, sizeof random);
    base64_encode(random, sizeof random, text);
    for (char *p = text; *p; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
    memcpy(out, text, ACCOUNT_SECRET_BYTES - 1); /* without the padding */
    out[ACCOUNT_SECRET_BYTES - 1] = 0;
    hash_sha256(out, ACCOUNT_SECRET_BYTES - 1, digest);
}

static struct str role_text(enum role role) { return str_from(role_name(role)); }

static bool email_valid(struct str email)
{
    ssize_t at = str_find_char(email, '@');

    if (at <= 0 || email.n > EMAIL_BYTES_MAX || (size_t)at + 1 >= email.n)
        return false;
    for (size_t i = 0; i < email.n; i++)
        if ((unsigned char)email.p[i] <= ' ' || email.p[i] == 0x7f ||
            strchr("<>\"\\,;", email.p[i]))
            return false;
    return true;
}

/* {"role": …} and the like for the audit log; empty when the arena is full, which the entry
 * survives. */
static struct str json_pair(struct arena *arena, const char *a, struct str a_value, const char *b,
                            struct str b_value)
{
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *root = doc ? yyjson_mut_obj(doc) : NULL;
    struct str out = STR_EMPTY;

    json_set_text(doc, root, a, a_value);
    if (b)
        json_set_text(doc, root, b, b_value);
    return json_write_tree(root, arena, &out, NULL) == RC_OK ? out : STR_EMPTY;
}

/* ---- sessions ---- */

static enum rc session_open(struct db_txn *txn, struct session_row *row, const struct actor *actor,
                            const struct client_info *client, struct sign_in *out, struct err *err)
{
    row->id = id_new();
    row->client_ip = client->ip;
    row->client_agent = str_slice(client->agent, 0, 256);
    row->expires_ns = db_txn_now_ns(txn) + SESSION_NS;
    secret_make(out->cookie, row->digest);
    out->session = row->id;
    out->project = row->project;
    out->expires_wall_ns = row->expires_ns;
    enum rc rc = session_delete_expired(txn, err);
    if (rc == RC_OK)
        rc = session_insert(txn, row, err);
    if (rc == RC_OK)
        rc = audit_write(txn, actor, row->project, "sign_in", STR("session"), row->name, STR_EMPTY,
                         STR_EMPTY, err);
    if (rc == RC_OK)
        db_txn_mark_changed(txn);
    return rc;
}

enum rc account_check_password(struct db_txn *txn, struct str email, struct str password,
                               struct str client_ip, struct arena *arena, struct user_row *out,
                               struct err *err)
{
    struct user_row user = {.email = email};
    enum rc rc = user_find(txn, email, arena, &user, err);

    if (rc != RC_OK && rc != RC_NOT_FOUND)
        return rc;
    rc = throttle_admit(client_ip, user.email, err); /* as stored: upper case is no way around */
    if (rc != RC_OK)
        return rc;
    if (!password_matches(user.password, password)) {
        throttle_failed(client_ip, user.email);
        return err_set(err, ERR_UNAUTHENTICATED, "The e-mail or the password is wrong.");
    }
    throttle_succeeded(user.email);
    *out = user;
    return RC_OK;
}

enum rc account_open_session(struct db_txn *txn, const struct user_row *user,
                             const struct client_info *client, struct arena *arena,
                             struct sign_in *out, struct err *err)
{
    struct actor actor = {
        .type = "user", .id = user->id, .name = user->email, .client_ip = client->ip};
    struct session_row row = {.user = user->id, .name = user->email};
    struct member_row *members;
    size_t count;
    enum rc rc = member_rows(txn, (struct id){{0}}, user->id, arena, &members, &count, err);

    if (rc == RC_OK && count == 0)
        return err_set(err, ERR_FORBIDDEN,
                       "You are no member of any project: ask an admin for an invitation.");
    if (rc == RC_OK)
        rc = user_set_seen(txn, user->id, err);
    if (rc != RC_OK)
        return rc;
    row.project = members[0].project;
    row.role = members[0].role;
    return session_open(txn, &row, &actor, client, out, err);
}

enum rc account_open_session_by_key(struct db_txn *txn, const struct principal *principal,
                                    const struct client_info *client, struct sign_in *out,
                                    struct err *err)
{
    struct actor actor = principal_actor(principal, client->ip);
    struct session_row row = {.project = principal->project,
                              .key = principal->key,
                              .role = role_text(principal->role),
                              .name = principal->name};

    return session_open(txn, &row, &actor, client, out, err);
}

enum rc account_find_invite(struct db_txn *txn, struct str token, struct arena *arena,
                            struct invite_row *out, struct err *err)
{
    uint8_t digest[SHA256_BYTES];

    hash_sha256(token.p, token.n, digest);
    enum rc rc = invite_find(txn, digest, arena, out, err);
    if (rc == RC_NOT_FOUND ||
        (rc == RC_OK && (out->used_ns || out->expires_ns <= db_txn_now_ns(txn))))
        return err_set(err, ERR_NOT_FOUND,
                       "This link was used already or has expired: ask for a new one.");
    return rc;
}

enum rc account_open_session_by_link(struct db_txn *txn, struct str token,
                                     const struct client_info *client, struct arena *arena,
                                     struct sign_in *out, struct err *err)
{
    struct actor actor = {
        .type = "session", .name = STR("first-run link"), .client_ip = client->ip};
    struct invite_row invite;
    enum rc rc = account_find_invite(txn, token, arena, &invite, err);

    if (rc == RC_OK && !invite.first_run)
        return err_set(err, ERR_INVALID,
                       "This is an invitation: accept it with your name, e-mail and a password.");
    if (rc == RC_OK)
        rc = invite_use(txn, invite.id, err);
    if (rc != RC_OK)
        return rc;
    struct session_row row = {.project = invite.project, .role = invite.role, .name = actor.name};
    return session_open(txn, &row, &actor, client, out, err);
}

enum rc account_close_session(struct db_txn *txn, const struct principal *principal,
                              struct str client_ip, struct err *err)
{
    struct actor actor = principal_actor(principal, client_ip);
    enum rc rc;

    if (id_is_zero(principal->session))
        return err_set(err, ERR_INVALID, "There is no session to end: you came with a key.");
    rc = session_delete(txn, principal->session, err);
    if (rc == RC_OK)
        rc = audit_write(txn, &actor, principal->project, "sign_out", STR("session"),
                         principal->name, STR_EMPTY, STR_EMPTY, err);
    if (rc == RC_OK)
        db_txn_mark_changed(txn);
    return rc;
}

enum rc account_switch_project(struct db_txn *txn, const struct principal *principal,
                               struct str project, struct arena *arena, struct err *err)
{
    struct member_row *members;
    size_t count, at = 0;

    if (id_is_zero(principal->user))
        return err_set(err, ERR_INVALID, "Only a user's session can change its project.");
    enum rc rc = member_rows(txn, (struct id){{0}}, principal->user, arena, &members, &count, err);
    if (rc != RC_OK)
        return rc;
    while (at < count && !str_eq(members[at].project_name, project))
        at++;
    if (at == count)
        return err_set_field(err, ERR_NOT_FOUND, "project",
                             "You are no member of a project '%.*s'.", STR_ARG(project));
    rc = session_set_project(txn, principal->session, members[at].project, err);
    if (rc == RC_OK)
        db_txn_mark_changed(txn);
    return rc;
}

/* ---- projects ---- */

static bool project_name_valid(struct str name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
            return false;
    }
    return name.n > 0 && name.n <= 64;
}

/* The key with an owner's rights that a project without people begins with. */
static enum rc owner_key(struct db_txn *txn, struct id project, const struct actor *actor,
                         struct arena *arena, struct str *secret, struct err *err)
{
    static const char definition[] =
        "{\"name\":\"first key\",\"scopes\":[\"owner\"],\"models\":[\"*\"]}";
    const struct principal owner = {.project = project,
                                    .role = ROLE_OWNER,
                                    .permissions = role_permissions(ROLE_OWNER),
                                    .name = actor->name};
    struct object key;
    yyjson_doc *doc;
    enum rc rc = json_read(str_from(definition), arena, &doc, err);

    return rc == RC_OK
               ? key_create(txn, &owner, actor, yyjson_doc_get_root(doc), arena, secret, &key, err)
               : rc;
}

enum rc account_create_project(struct db_txn *txn, const struct principal *principal,
                               const struct actor *actor, struct str name, struct arena *arena,
                               struct id *out, struct str *secret, struct err *err)
{
    enum rc rc = principal_require(principal, PERMISSION_PROJECT_WRITE, err);

    *secret = STR_EMPTY;
    if (rc != RC_OK)
        return rc;
    if (!project_name_valid(name))
        return err_set_field(err, ERR_BAD_FIELD, "name",
                             "A project's name has 1 to 64 characters out of a-z 0-9 - _.");
    struct id id = id_new();
    rc = project_insert(txn, id, name, err);
    if (rc == RC_CONFLICT)
        return err_set_field(err, ERR_CONFLICT, "name", "There is already a project '%.*s'.",
                             STR_ARG(name));
    if (rc == RC_OK)
        rc = id_is_zero(principal->user)
                 ? owner_key(txn, id, actor, arena, secret, err)
                 : member_upsert(txn, id, principal->user, role_name(ROLE_OWNER), err);
    if (rc == RC_OK)
        rc = audit_write(txn, actor, id, "create", STR("project"), name, STR_EMPTY, STR_EMPTY, err);
    if (rc != RC_OK)
        return rc;
    db_txn_mark_changed(txn);
    *out = id;
    return RC_OK;
}

/* ---- invitations ---- */

static enum rc role_within(const struct principal *principal, enum role role, struct err *err)
{
    if (role <= principal->role)
        return RC_OK;
    return err_set_field(err, ERR_FORBIDDEN, "role", "You cannot give the role %s: yours is %s.",
                         role_name(role), role_name(principal->role));
}

enum rc account_invite(struct db_txn *txn, const struct principal *principal,
                       const struct actor *actor, struct str email, enum role role,
                       char token[ACCOUNT_SECRET_BYTES], struct invite_row *out, struct err *err)
{
    char id_text[ID_TEXT_BYTES_MAX];
    struct arena arena;
    enum rc rc = role_within(principal, role, err);

    if (rc == RC_OK && email.n && !email_valid(email))
        rc = err_set_field(err, ERR_BAD_FIELD, "email", "'email' is not an e-mail address.");
    if (rc != RC_OK)
        return rc;
    *out = (struct invite_row){
        .id = id_new(),
        .project = principal->project,
        .email = email,
        .role = role_text(role),
        .author = principal->name,
        .created_ns = db_txn_now_ns(txn),
        .expires_ns = db_txn_now_ns(txn) + INVITE_NS,
    };
    secret_make(token, out->digest);
    rc = invite_insert(txn, out, err);
    if (rc != RC_OK)
        return rc;
    arena_init(&arena, 16 * 1024);
    size_t n = id_format(out->id, "inv", id_text);
    rc = audit_write(txn, actor, out->project, "create", STR("invite"), str_make(id_text, n),
                     STR_EMPTY, json_pair(&arena, "email", email, "role", out->role), err);
    arena_fini(&arena);
    return rc;
}

enum rc account_withdraw_invite(struct db_txn *txn, const struct principal *principal,
                                const struct actor *actor, struct id invite, struct err *err)
{
    char id_text[ID_TEXT_BYTES_MAX];
    size_t n = id_format(invite, "inv", id_text);
    enum rc rc = invite_delete(txn, principal->project, invite, err);

    if (rc == RC_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "There is no open invitation %s.", id_text);
    if (rc != RC_OK)
        return rc;
    return audit_write(txn, actor, principal->project, "delete", STR("invite"),
                       str_make(id_text, n), STR_EMPTY, STR_EMPTY, err);
}

/* The user who accepts: a new one, or the known one who proved to be it. */
static enum rc accepting_user(struct db_txn *txn, struct str email, struct str name,
                              struct str password_hash, const struct user_row *known,
                              struct arena *arena, struct user_row *out, struct err *err)
{
    enum rc rc = user_find(txn, email, arena, out, err);

    if (rc == RC_OK) {
        if (known && id_eq(known->id, out->id))
            return RC_OK;
        return err_set_field(
            err, ERR_CONFLICT, "email",
            "There is already an account with this e-mail: accept with its password.");
    }
    if (rc != RC_NOT_FOUND)
        return rc;
    if (!email_valid(email))
        return err_set_field(err, ERR_BAD_FIELD, "email", "'email' is not an e-mail address.");
    if (name.n == 0 || name.n > LIMIT_NAME_BYTES)
        return err_set_field(err, ERR_BAD_FIELD, "name", "A name has 1 to %d bytes.",
                             LIMIT_NAME_BYTES);
    *out =
        (struct user_row){.id = id_new(), .email = email, .name = name, .password = password_hash};
    return user_insert(txn, out, err);
}

enum rc account_accept_invite(struct db_txn *txn, struct str token, struct str email,
                              struct str name, struct str password_hash,
                              const struct user_row *known, const struct client_info *client,
                              struct arena *arena, struct sign_in *out, struct err *err)
{
    struct invite_row invite;
    struct user_row user;
    enum rc rc = account_find_invite(txn, token, arena, &invite, err);

    if (rc == RC_OK && invite.email.n && !str_eq_nocase(invite.email, email))
        return err_set_field(err, ERR_FORBIDDEN, "email",
                             "The invitation is for another e-mail address.");
    if (rc == RC_OK)
        rc = accepting_user(txn, email, name, password_hash, known, arena, &user, err);
    if (rc == RC_OK)
        rc = invite_use(txn, invite.id, err);
    if (rc == RC_OK)
        rc = member_upsert(txn, invite.project, user.id, arena_copy(arena, invite.role).p, err);
    if (rc != RC_OK)
        return rc;
    struct actor actor = {
        .type = "user", .id = user.id, .name = user.email, .client_ip = client->ip};
    rc = audit_write(txn, &actor, invite.project, "join", STR("member"), user.email, STR_EMPTY,
                     json_pair(arena, "role", invite.role, "invited_by", invite.author), err);
    if (rc != RC_OK)
        return rc;
    struct session_row row = {
        .project = invite.project, .user = user.id, .role = invite.role, .name = user.email};
    return session_open(txn, &row, &actor, client, out, err);
}

/* ---- members ---- */

/* The member to be changed, whose role is not above the changer's. */
static enum rc member_for_change(struct db_txn *txn, const struct principal *principal,
                                 struct id user, bool stays_owner, struct arena *arena,
                                 struct member_row *out, enum role *role, struct err *err)
{
    struct member_row *members;
    size_t count, owners = 0;
    enum role each;
    enum rc rc =
        member_rows(txn, principal->project, (struct id){{0}}, arena, &members, &count, err);
    const struct member_row *found = NULL;

    if (rc != RC_OK)
        return rc;
    for (size_t i = 0; i < count; i++) {
        owners += role_parse(members[i].role, &each) == RC_OK && each == ROLE_OWNER;
        if (id_eq(members[i].user.id, user))
            found = &members[i];
    }
    if (!found || role_parse(found->role, role) != RC_OK)
        return err_set(err, ERR_NOT_FOUND, "There is no such member in this project.");
    *out = *found;
    rc = role_within(principal, *role, err);
    if (rc == RC_OK && *role == ROLE_OWNER && !stays_owner && owners == 1)
        rc = err_set(err, ERR_CONFLICT,
                     "This is the project's last owner: make somebody else an owner first.");
    return rc;
}

enum rc account_set_role(struct db_txn *txn, const struct principal *principal,
                         const struct actor *actor, struct id user, enum role role,
                         struct arena *arena, struct err *err)
{
    struct member_row member;
    enum role old;
    enum rc rc = role_within(principal, role, err);

    if (rc == RC_OK)
        rc = member_for_change(txn, principal, user, role == ROLE_OWNER, arena, &member, &old, err);
    if (rc == RC_OK)
        rc = member_upsert(txn, principal->project, user, role_name(role), err);
    if (rc == RC_OK)
        rc = audit_write(txn, actor, principal->project, "update", STR("member"), member.user.email,
                         json_pair(arena, "role", member.role, NULL, STR_EMPTY),
                         json_pair(arena, "role", role_text(role), NULL, STR_EMPTY), err);
    if (rc == RC_OK)
        db_txn_mark_changed(txn);
    return rc;
}

enum rc account_remove_member(struct db_txn *txn, const struct principal *principal,
                              const struct actor *actor, struct id user, struct arena *arena,
                              struct err *err)
{
    struct member_row member;
    enum role old;
    enum rc rc = member_for_change(txn, principal, user, false, arena, &member, &old, err);

    if (rc == RC_OK)
        rc = session_delete_of_user(txn, principal->project, user, err);
    if (rc == RC_OK)
        rc = member_delete(txn, principal->project, user, err);
    if (rc == RC_OK)
        rc = audit_write(txn, actor, principal->project, "delete", STR("member"), member.user.email,
                         json_pair(arena, "role", member.role, NULL, STR_EMPTY), STR_EMPTY, err);
    if (rc == RC_OK)
        db_txn_mark_changed(txn);
    return rc;
}

/* ---- first start ---- */

enum rc account_ensure_project(struct db_txn *txn, struct arena *arena, struct err *err)
{
    struct project_row *projects;
    size_t count;
    enum rc rc = project_rows(txn, arena, &projects, &count, err);

    if (rc != RC_OK || count > 0)
        return rc;
    db_txn_mark_changed(txn);
    return project_insert(txn, id_new(), STR("default"), err);
}

static enum rc first_link(struct db_txn *txn, struct id project, char token[ACCOUNT_SECRET_BYTES],
                          struct err *err)
{
    struct invite_row invite = {.id = id_new(),
                                .project = project,
                                .first_run = true,
                                .role = role_text(ROLE_OWNER),
                                .author = STR("capstan"),
                                .expires_ns = db_txn_now_ns(txn) + INVITE_NS};

    secret_make(token, invite.digest);
    return invite_insert(txn, &invite, err);
}

enum rc account_first_start(struct db_txn *txn, struct arena *arena, struct first_start *out,
                            struct err *err)
{
    struct actor actor = ACTOR_SYSTEM;
    struct id project;
    bool done;
    enum rc rc = invite_first_run_exists(txn, &done, err);

    *out = (struct first_start){.is_first = !done};
    if (rc != RC_OK || done)
        return rc;
    rc = account_ensure_project(txn, arena, err);
    if (rc == RC_OK)
        rc = project_find(txn, STR("default"), &project, err);
    if (rc == RC_OK)
        rc = owner_key(txn, project, &actor, arena, &out->key, err);
    return rc == RC_OK ? first_link(txn, project, out->token, err) : rc;
}
