/* /api/session and /api/projects: signing in and out, and where one works. */
#include "api/handlers.h"
#include "base/clock.h"
#include "govern/account.h"
#include "govern/password.h"
#include "govern/session.h"
#include "text/json.h"
#include <stdio.h>

/* ---- the cookie ---- */

static enum rc set_cookie(struct api_call *call, const struct sign_in *in)
{
    int64_t seconds = (in->expires_wall_ns - clock_wall_ns()) / NS_PER_S;

    call->set_cookie = arena_printf(
        call->arena, "%s=%s; Path=/; HttpOnly; SameSite=Lax; Max-Age=%lld%s", SESSION_COOKIE_NAME,
        in->cookie, (long long)seconds, call->tls ? "; Secure" : "");
    return call->set_cookie.p ? RC_OK
                              : err_set(&call->err, ERR_TOO_LARGE, "The request is too large.");
}

/* The token is needed for the next unsafe request, so it comes with the sign-in. */
static void answer_signed_in(struct api_call *call, const struct sign_in *in)
{
    char csrf[SESSION_CSRF_BYTES];
    yyjson_mut_val *o = call->answer = yyjson_mut_obj(call->doc);

    session_csrf_token(str_from(in->cookie), csrf);
    api_put_id(call, o, "session_id", "ses", in->session);
    api_put_str(call, o, "csrf", str_from(csrf));
    api_put_time(call, o, "expires_at", in->expires_wall_ns);
}

/* ---- signing in: on a worker, since passwords take their time ---- */

struct sign_in_work {
    struct api_call *call;
    struct client_info client;
    struct user_row user;           /* by password */
    const struct principal *by_key; /* by key */
    struct str token;               /* by link or invitation */
    struct str email, name, password_hash;
    bool known; /* `user` has proved to be the one who accepts */
    struct sign_in in;
};

static enum rc write_by_password(void *arg, struct db_txn *txn, struct err *err)
{
    struct sign_in_work *work = arg;

    return account_open_session(txn, &work->user, &work->client, work->call->arena, &work->in, err);
}

static enum rc write_by_key(void *arg, struct db_txn *txn, struct err *err)
{
    struct sign_in_work *work = arg;

    return account_open_session_by_key(txn, work->by_key, &work->client, &work->in, err);
}

static enum rc write_by_link(void *arg, struct db_txn *txn, struct err *err)
{
    struct sign_in_work *work = arg;

    return account_open_session_by_link(txn, work->token, &work->client, work->call->arena,
                                        &work->in, err);
}

static enum rc check_password(struct sign_in_work *work, struct str email, struct str password)
{
    struct api_call *call = work->call;
    struct db_txn *txn;
    enum rc rc = db_read_begin(call->services->db, &txn, &call->err);

    if (rc != RC_OK)
        return rc;
    rc = account_check_password(txn, email, password, call->client_ip, call->arena, &work->user,
                                &call->err);
    db_read_end(txn);
    return rc;
}

static enum rc check_key(struct sign_in_work *work, struct str secret)
{
    const struct snapshot *snapshot = snapshot_current();
    const struct key *key = snapshot ? snapshot_find_key(snapshot, secret) : NULL;

    if (!key || key->revoked || (key->expires_wall_ns && key->expires_wall_ns <= clock_wall_ns()))
        return err_set_field(&work->call->err, ERR_UNAUTHENTICATED, "key",
                             "The key is not known here, or no longer valid.");
    work->by_key = &key->principal; /* valid until this thread asks for the snapshot again */
    return RC_OK;
}

enum rc api_session_create(struct api_call *call)
{
    struct sign_in_work work = {.call = call, .client = {call->client_ip, call->client_agent}};
    enum rc (*write)(void *arg, struct db_txn *txn, struct err *err) = NULL;
    enum rc rc = api_need_body(call);

    if (rc != RC_OK)
        return rc;
    struct str key = json_get_text(call->body, "key"), email = json_get_text(call->body, "email");
    work.token = json_get_text(call->body, "token");
    if (key.n) {
        rc = check_key(&work, key);
        write = write_by_key;
    } else if (email.n) {
        rc = check_password(&work, email, json_get_text(call->body, "password"));
        write = write_by_password;
    } else if (work.token.n) {
        write = write_by_link;
    } else {
        return err_set(&call->err, ERR_MISSING_FIELD,
                       "Sign in with 'key', with 'email' and 'password', or with 'token'.");
    }
    if (rc == RC_OK)
        rc = db_write_wait(call->services->db, write, &work, &call->err);
    if (rc == RC_OK)
        rc = set_cookie(call, &work.in);
    if (rc != RC_OK)
        return rc;
    answer_signed_in(call, &work.in);
    call->status = 201;
    return RC_OK;
}

/* ---- accepting an invitation ---- */

static enum rc write_accept(void *arg, struct db_txn *txn, struct err *err)
{
    struct sign_in_work *work = arg;

    return account_accept_invite(txn, work->token, work->email, work->name, work->password_hash,
                                 work->known ? &work->user : NULL, &work->client, work->call->arena,
                                 &work->in, err);
}

/* The invitation, and whether its e-mail has an account already. */
static enum rc find_invited(struct sign_in_work *work, struct str *email)
{
    struct api_call *call = work->call;
    struct invite_row invite;
    struct db_txn *txn;
    enum rc rc = db_read_begin(call->services->db, &txn, &call->err);

    if (rc != RC_OK)
        return rc;
    rc = account_find_invite(txn, work->token, call->arena, &invite, &call->err);
    if (rc == RC_OK && !email->n)
        *email = invite.email;
    if (rc == RC_OK) {
        rc = user_find(txn, *email, call->arena, &work->user, &call->err);
        work->known = rc == RC_OK;
    }
    db_read_end(txn);
    return rc == RC_NOT_FOUND && call->err.code == ERR_NONE ? RC_OK : rc;
}

enum rc api_invites_accept(struct api_call *call)
{
    struct sign_in_work work = {.call = call, .client = {call->client_ip, call->client_agent}};
    enum rc rc = api_need_body(call);

    if (rc != RC_OK)
        return rc;
    struct str password = json_get_text(call->body, "password");
    work.token = json_get_text(call->body, "token");
    work.email = json_get_text(call->body, "email");
    work.name = json_get_text(call->body, "name");
    rc = find_invited(&work, &work.email);
    if (rc == RC_OK)
        rc = work.known ? check_password(&work, work.email, password)
                        : password_hash(password, call->arena, &work.password_hash, &call->err);
    if (rc == RC_OK)
        rc = db_write_wait(call->services->db, write_accept, &work, &call->err);
    if (rc == RC_OK)
        rc = set_cookie(call, &work.in);
    if (rc != RC_OK)
        return rc;
    answer_signed_in(call, &work.in);
    call->status = 201;
    return RC_OK;
}

/* ---- who am I ---- */

static void put_permissions(struct api_call *call, yyjson_mut_val *o)
{
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(call->doc, o, "permissions");

    for (int i = 0; i < PERMISSION_COUNT; i++)
        if (call->principal->permissions & (1ull << i))
            yyjson_mut_arr_add_str(call->doc, list, permission_name((enum permission)i));
}

static enum rc put_user(struct api_call *call, yyjson_mut_val *o)
{
    struct user_row user;

    if (id_is_zero(call->principal->user)) {
        yyjson_mut_obj_add_null(call->doc, o, "user");
        return RC_OK;
    }
    enum rc rc = user_get(call->txn, call->principal->user, call->arena, &user, &call->err);
    if (rc != RC_OK)
        return rc == RC_NOT_FOUND
                   ? err_set(&call->err, ERR_UNAUTHENTICATED, "The user is gone: sign in again.")
                   : rc;
    yyjson_mut_val *u = yyjson_mut_obj_add_obj(call->doc, o, "user");
    api_put_id(call, u, "id", "usr", user.id);
    api_put_str(call, u, "name", user.name);
    api_put_str(call, u, "email", user.email);
    return RC_OK;
}

static void put_project(struct api_call *call, yyjson_mut_val *o, struct id id, struct str name)
{
    api_put_id(call, o, "id", "prj", id);
    api_put_str(call, o, "name", name);
}

/* The projects that the principal may work in: a user's memberships, else the one of key or link.
 */
static enum rc put_projects(struct api_call *call, yyjson_mut_val *o)
{
    struct member_row *members;
    struct project_row *projects;
    size_t count;
    enum rc rc = project_rows(call->txn, call->arena, &projects, &count, &call->err);

    for (size_t i = 0; rc == RC_OK && i < count; i++)
        if (id_eq(projects[i].id, call->principal->project))
            put_project(call, yyjson_mut_obj_add_obj(call->doc, o, "project"), projects[i].id,
                        projects[i].name);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(call->doc, o, "projects");
    if (rc != RC_OK)
        return rc;
    if (id_is_zero(call->principal->user)) {
        yyjson_mut_arr_append(list,
                              yyjson_mut_val_mut_copy(call->doc, yyjson_mut_obj_get(o, "project")));
        return RC_OK;
    }
    rc = member_rows(call->txn, (struct id){{0}}, call->principal->user, call->arena, &members,
                     &count, &call->err);
    for (size_t i = 0; rc == RC_OK && i < count; i++)
        put_project(call, yyjson_mut_arr_add_obj(call->doc, list), members[i].project,
                    members[i].project_name);
    return rc;
}

enum rc api_session_get(struct api_call *call)
{
    char csrf[SESSION_CSRF_BYTES] = "";
    yyjson_mut_val *o = call->answer = yyjson_mut_obj(call->doc);
    enum rc rc = put_user(call, o);

    if (rc != RC_OK)
        return rc;
    api_put_id(call, o, "key_id", "key", call->principal->key);
    rc = put_projects(call, o);
    api_put_str(call, o, "role", str_from(role_name(call->principal->role)));
    api_put_str(call, o, "name", call->principal->name);
    put_permissions(call, o);
    if (call->cookie_session.n)
        session_csrf_token(call->cookie_session, csrf);
    api_put_str(call, o, "csrf", str_from(csrf));
    api_put_str(call, o, "version", STR(CAPSTAN_VERSION));
    return rc;
}

enum rc api_session_delete(struct api_call *call)
{
    call->set_cookie = STR(SESSION_COOKIE_NAME "=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    return account_close_session(call->txn, call->principal, call->client_ip, &call->err);
}

/* By name or id. */
enum rc api_session_switch(struct api_call *call)
{
    struct project_row *projects;
    size_t count;
    struct id id;
    enum rc rc = api_need_body(call);

    if (rc != RC_OK)
        return rc;
    struct str name = json_get_text(call->body, "project");
    if (id_parse(name, "prj", &id) == RC_OK) {
        rc = project_rows(call->txn, call->arena, &projects, &count, &call->err);
        for (size_t i = 0; rc == RC_OK && i < count; i++)
            if (id_eq(projects[i].id, id))
                name = projects[i].name;
    }
    return rc == RC_OK
               ? account_switch_project(call->txn, call->principal, name, call->arena, &call->err)
               : rc;
}

/* ---- projects ---- */

enum rc api_projects_list(struct api_call *call)
{
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    enum rc rc = put_projects(call, o);

    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_val(call->doc, call->answer, "items",
                           yyjson_mut_val_mut_copy(call->doc, yyjson_mut_obj_get(o, "projects")));
    api_list_end(call, STR_EMPTY);
    return RC_OK;
}

enum rc api_projects_create(struct api_call *call)
{
    struct actor actor = api_actor(call);
    struct str secret;
    struct id id;
    enum rc rc = api_need_body(call);

    if (rc != RC_OK)
        return rc;
    struct str name = json_get_text(call->body, "name");
    rc = account_create_project(call->txn, call->principal, &actor, name, call->arena, &id, &secret,
                                &call->err);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    put_project(call, call->answer, id, name);
    if (secret.n)
        api_put_str(call, call->answer, "secret", secret);
    call->status = 201;
    return RC_OK;
}
