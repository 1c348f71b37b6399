/* People: sign-in, links, invitations, roles, projects. */
#include "govern_fixture.h"
#include "govern/password.h"
#include "govern/throttle.h"
#include "base/clock.h"

static const struct client_info browser = {STR_INIT("192.0.2.1"), STR_INIT("test")};

static void expect_ok(enum rc rc, const struct err *err)
{
    if (rc != RC_OK)
        fail_msg("%s (%s)", err->message, err->field);
}

static int start(void **state)
{
    throttle_reset();
    return govern_start(state);
}

static struct principal *session_of(const char *cookie)
{
    return snapshot_find_session(snapshot_current(), str_from(cookie), clock_wall_ns());
}

struct link_step {
    struct str token;
    struct sign_in in;
};

static enum rc use_link(struct db_txn *txn, void *arg, struct err *err)
{
    struct link_step *step = arg;

    return account_open_session_by_link(txn, step->token, &browser, &g.control.arena, &step->in,
                                        err);
}

static enum rc sign_out(struct db_txn *txn, void *arg, struct err *err)
{
    return account_close_session(txn, arg, STR("::1"), err);
}

static void test_first_run_link(void **state)
{
    struct link_step step = {.token = str_from(g.first.token)};
    struct err err = {0};

    UNUSED(state);
    expect_ok(govern_write(use_link, &step, &err), &err);
    struct principal *principal = session_of(step.in.cookie);
    assert_non_null(principal);
    assert_int_equal(principal->role, ROLE_OWNER);
    assert_true(id_is_zero(principal->user));
    assert_int_equal(govern_write(use_link, &step, &err), RC_NOT_FOUND); /* once only */
    struct principal copy = *principal;
    copy.name = STR("link");
    expect_ok(govern_write(sign_out, &copy, &err), &err);
    assert_null(session_of(step.in.cookie));
    assert_null(snapshot_find_session(snapshot_current(), STR("nothing"), 0));
}

static enum rc open_by_key(struct db_txn *txn, void *arg, struct err *err)
{
    return account_open_session_by_key(txn, &g.owner, &browser, arg, err);
}

static void test_session_ends_with_its_key(void **state)
{
    struct sign_in in;
    struct err err = {0};
    struct key_step revoke = {.id = g.owner.key, .revoke = true};

    UNUSED(state);
    expect_ok(govern_write(open_by_key, &in, &err), &err);
    assert_int_equal(session_of(in.cookie)->role, ROLE_OWNER);
    assert_null(
        snapshot_find_session(snapshot_current(), str_from(in.cookie), in.expires_wall_ns + 1));
    expect_ok(govern_write(key_run, &revoke, &err), &err);
    assert_null(session_of(in.cookie));
}

/* ---- invitations ---- */

struct invite_step {
    const struct principal *by;
    const char *email;
    enum role role;
    char token[ACCOUNT_SECRET_BYTES];
    struct invite_row row;
};

static enum rc invite(struct db_txn *txn, void *arg, struct err *err)
{
    struct invite_step *step = arg;
    const struct principal *by = step->by ? step->by : &g.owner;
    struct actor actor = principal_actor(by, STR("::1"));

    return account_invite(txn, by, &actor, str_from(step->email), step->role, step->token,
                          &step->row, err);
}

struct accept_step {
    const char *token, *email, *name, *password;
    const struct user_row *known;
    struct sign_in in;
};

static enum rc accept_invite(struct db_txn *txn, void *arg, struct err *err)
{
    struct accept_step *step = arg;
    struct str hash = STR_EMPTY;

    if (!step->known &&
        password_hash(str_from(step->password), &g.control.arena, &hash, err) != RC_OK)
        return RC_INVALID;
    return account_accept_invite(txn, str_from(step->token), str_from(step->email),
                                 str_from(step->name), hash, step->known, &browser,
                                 &g.control.arena, &step->in, err);
}

static struct principal join(const char *email, enum role role)
{
    struct err err = {0};
    struct invite_step step = {.email = email, .role = role};
    expect_ok(govern_write(invite, &step, &err), &err);
    struct accept_step accepted = {step.token, email, "Somebody", "correct horse battery",
                                   NULL,       {{0}}};
    expect_ok(govern_write(accept_invite, &accepted, &err), &err);
    struct principal principal = *session_of(accepted.in.cookie);
    principal.name = str_from(email);
    return principal;
}

static void test_invitation(void **state)
{
    struct err err = {0};
    struct invite_step step = {.email = "ben@example.org", .role = ROLE_EDITOR};

    UNUSED(state);
    expect_ok(govern_write(invite, &step, &err), &err);
    struct accept_step accepted = {
        step.token, "eve@example.org", "Eve", "correct horse battery", NULL, {{0}}};
    assert_int_equal(govern_write(accept_invite, &accepted, &err), RC_DENIED);
    accepted.email = "Ben@Example.org";
    accepted.password = "short";
    assert_int_equal(govern_write(accept_invite, &accepted, &err), RC_INVALID);
    accepted.password = "correct horse battery";
    expect_ok(govern_write(accept_invite, &accepted, &err), &err);
    assert_int_equal(session_of(accepted.in.cookie)->role, ROLE_EDITOR);
    assert_int_equal(govern_write(accept_invite, &accepted, &err), RC_NOT_FOUND);

    /* An editor cannot invite an admin. */
    struct principal editor = *session_of(accepted.in.cookie);
    editor.name = STR("ben");
    struct invite_step above = {.by = &editor, .email = "", .role = ROLE_ADMIN};
    assert_int_equal(govern_write(invite, &above, &err), RC_DENIED);
}

static void test_passwords(void **state)
{
    struct db_txn *txn;
    struct user_row user;
    struct err err = {0};

    UNUSED(state);
    join("ana@example.org", ROLE_VIEWER);
    assert_int_equal(db_read_begin(g.control.db, &txn, &err), RC_OK);
    expect_ok(account_check_password(txn, STR("ANA@example.org"), STR("correct horse battery"),
                                     browser.ip, &g.control.arena, &user, &err),
              &err);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(account_check_password(txn, STR("ana@example.org"), STR("wrong"),
                                                browser.ip, &g.control.arena, &user, &err),
                         RC_DENIED);
        assert_int_equal(err.code, ERR_UNAUTHENTICATED);
    }
    assert_int_equal(account_check_password(txn, STR("Ana@example.org"),
                                            STR("correct horse battery"), browser.ip,
                                            &g.control.arena, &user, &err),
                     RC_LIMIT);
    assert_true(err.retry_after_ms > 0);
    assert_int_equal(account_check_password(txn, STR("nobody@example.org"), STR("wrong"),
                                            browser.ip, &g.control.arena, &user, &err),
                     RC_DENIED);
    db_read_end(txn);
}

/* ---- roles ---- */

struct role_step {
    const struct principal *by;
    struct id user;
    enum role role; /* ROLE_NONE: remove */
};

static enum rc set_role(struct db_txn *txn, void *arg, struct err *err)
{
    struct role_step *step = arg;
    struct actor actor = principal_actor(step->by, STR("::1"));

    return step->role == ROLE_NONE
               ? account_remove_member(txn, step->by, &actor, step->user, &g.control.arena, err)
               : account_set_role(txn, step->by, &actor, step->user, step->role, &g.control.arena,
                                  err);
}

static void test_roles(void **state)
{
    struct principal owner = join("own@example.org", ROLE_OWNER),
                     admin = join("adm@example.org", ROLE_ADMIN);
    struct err err = {0};
    struct role_step step = {&admin, owner.user, ROLE_VIEWER};

    UNUSED(state);
    assert_int_equal(govern_write(set_role, &step, &err), RC_DENIED);
    step = (struct role_step){&admin, admin.user, ROLE_OWNER};
    assert_int_equal(govern_write(set_role, &step, &err), RC_DENIED);
    step = (struct role_step){&owner, owner.user, ROLE_NONE};
    assert_int_equal(govern_write(set_role, &step, &err), RC_CONFLICT); /* the last one */
    step = (struct role_step){&owner, admin.user, ROLE_VIEWER};
    expect_ok(govern_write(set_role, &step, &err), &err);
    step.role = ROLE_NONE;
    expect_ok(govern_write(set_role, &step, &err), &err);
    assert_int_equal(govern_write(set_role, &step, &err), RC_NOT_FOUND);
}

struct project_step {
    const struct principal *by;
    const char *name;
    struct id id;
    struct str secret;
};

static enum rc create_project(struct db_txn *txn, void *arg, struct err *err)
{
    struct project_step *step = arg;
    struct actor actor = principal_actor(step->by, STR("::1"));

    return account_create_project(txn, step->by, &actor, str_from(step->name), &g.control.arena,
                                  &step->id, &step->secret, err);
}

static enum rc switch_project(struct db_txn *txn, void *arg, struct err *err)
{
    struct project_step *step = arg;

    return account_switch_project(txn, step->by, str_from(step->name), &g.control.arena, err);
}

static void test_projects(void **state)
{
    struct principal owner = join("own@example.org", ROLE_OWNER),
                     viewer = join("vi@example.org", ROLE_VIEWER);
    struct project_step step = {.by = &owner, .name = "second"},
                        stranger = {.by = &viewer, .name = "second"};
    struct err err = {0};

    UNUSED(state);
    assert_int_equal(govern_write(create_project, &stranger, &err), RC_DENIED);
    expect_ok(govern_write(create_project, &step, &err), &err);
    assert_int_equal(govern_write(create_project, &step, &err), RC_CONFLICT);
    assert_non_null(snapshot_project(snapshot_current(), step.id));
    assert_int_equal(govern_write(switch_project, &stranger, &err), RC_NOT_FOUND);
    expect_ok(govern_write(switch_project, &step, &err), &err);
    assert_int_equal(step.secret.n, 0);
    struct project_step by_key = {.by = &g.owner, .name = "third"};
    expect_ok(govern_write(create_project, &by_key, &err), &err);
    struct key *key = snapshot_find_key(snapshot_current(), by_key.secret);
    assert_true(id_eq(key->principal.project, by_key.id));
    step.name = "Bad Name";
    assert_int_equal(govern_write(create_project, &step, &err), RC_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_run_link, start, govern_end),
        cmocka_unit_test_setup_teardown(test_session_ends_with_its_key, start, govern_end),
        cmocka_unit_test_setup_teardown(test_invitation, start, govern_end),
        cmocka_unit_test_setup_teardown(test_passwords, start, govern_end),
        cmocka_unit_test_setup_teardown(test_roles, start, govern_end),
        cmocka_unit_test_setup_teardown(test_projects, start, govern_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
