/* /api/members and /api/invites: who belongs to the project. */
#include "api/handlers.h"
#include "govern/account.h"
#include "text/json.h"

static enum rc read_role(struct api_call *call, enum role *role)
{
    if (role_parse(json_get_text(call->body, "role"), role) == RC_OK)
        return RC_OK;
    return err_set_field(&call->err, ERR_BAD_FIELD, "role",
                         "'role' must be one of: viewer, editor, admin, owner.");
}

static enum rc read_user_id(struct api_call *call, struct id *id)
{
    if (id_parse(call->params[0], "usr", id) == RC_OK)
        return RC_OK;
    return err_set(&call->err, ERR_NOT_FOUND, "'%.*s' is not a member's id (usr_…).",
                   STR_ARG(call->params[0]));
}

static void put_member(struct api_call *call, yyjson_mut_val *o, const struct member_row *member)
{
    api_put_id(call, o, "id", "usr", member->user.id);
    api_put_str(call, o, "name", member->user.name);
    api_put_str(call, o, "email", member->user.email);
    api_put_str(call, o, "role", member->role);
    api_put_time(call, o, "created_at", member->created_ns);
    api_put_time(call, o, "last_seen_at", member->user.last_seen_ns);
}

enum rc api_members_list(struct api_call *call)
{
    struct member_row *members;
    size_t count;
    enum rc rc = member_rows(call->txn, call->principal->project, (struct id){{0}}, call->arena,
                             &members, &count, &call->err);

    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++)
        put_member(call, yyjson_mut_arr_add_obj(call->doc, items), &members[i]);
    api_list_end(call, STR_EMPTY);
    return RC_OK;
}

static enum rc answer_member(struct api_call *call, struct id user)
{
    struct member_row *members;
    size_t count;
    enum rc rc = member_rows(call->txn, call->principal->project, user, call->arena, &members,
                             &count, &call->err);

    if (rc == RC_OK && count == 0)
        return err_set(&call->err, ERR_NOT_FOUND, "There is no such member in this project.");
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    put_member(call, call->answer, &members[0]);
    return RC_OK;
}

enum rc api_members_get(struct api_call *call)
{
    struct id user;
    enum rc rc = read_user_id(call, &user);

    return rc == RC_OK ? answer_member(call, user) : rc;
}

enum rc api_members_patch(struct api_call *call)
{
    struct actor actor = api_actor(call);
    enum role role;
    struct id user;
    enum rc rc = api_need_body(call);

    if (rc == RC_OK)
        rc = read_user_id(call, &user);
    if (rc == RC_OK)
        rc = read_role(call, &role);
    if (rc == RC_OK)
        rc = account_set_role(call->txn, call->principal, &actor, user, role, call->arena,
                              &call->err);
    return rc == RC_OK ? answer_member(call, user) : rc;
}

enum rc api_members_delete(struct api_call *call)
{
    struct actor actor = api_actor(call);
    struct id user;
    enum rc rc = read_user_id(call, &user);

    return rc == RC_OK ? account_remove_member(call->txn, call->principal, &actor, user,
                                               call->arena, &call->err)
                       : rc;
}

/* ---- invitations ---- */

static void put_invite(struct api_call *call, yyjson_mut_val *o, const struct invite_row *invite)
{
    api_put_id(call, o, "id", "inv", invite->id);
    api_put_str(call, o, "email", invite->email.n ? invite->email : STR_EMPTY);
    api_put_str(call, o, "role", invite->role);
    api_put_str(call, o, "author", invite->author);
    api_put_time(call, o, "created_at", invite->created_ns);
    api_put_time(call, o, "expires_at", invite->expires_ns);
}

enum rc api_invites_list(struct api_call *call)
{
    struct invite_row *invites;
    size_t count;
    enum rc rc =
        invite_rows(call->txn, call->principal->project, call->arena, &invites, &count, &call->err);

    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++)
        put_invite(call, yyjson_mut_arr_add_obj(call->doc, items), &invites[i]);
    api_list_end(call, STR_EMPTY);
    return RC_OK;
}

/* The token stands behind #, so that it reaches no server's log. */
enum rc api_invites_create(struct api_call *call)
{
    struct actor actor = api_actor(call);
    char token[ACCOUNT_SECRET_BYTES];
    struct invite_row invite;
    enum role role;
    enum rc rc = api_need_body(call);

    if (rc == RC_OK)
        rc = read_role(call, &role);
    if (rc == RC_OK)
        rc = account_invite(call->txn, call->principal, &actor, json_get_text(call->body, "email"),
                            role, token, &invite, &call->err);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    put_invite(call, call->answer, &invite);
    api_put_str(call, call->answer, "url",
                arena_printf(call->arena, "%.*s/#invite=%s", STR_ARG(call->base_url), token));
    call->status = 201;
    return RC_OK;
}

enum rc api_invites_delete(struct api_call *call)
{
    struct actor actor = api_actor(call);
    struct id id;

    if (id_parse(call->params[0], "inv", &id) != RC_OK)
        return err_set(&call->err, ERR_NOT_FOUND, "'%.*s' is not an invitation's id (inv_…).",
                       STR_ARG(call->params[0]));
    return account_withdraw_invite(call->txn, call->principal, &actor, id, &call->err);
}
