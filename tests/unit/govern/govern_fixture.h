/* A control database after its first start, and steps in transactions of their own. */
#pragma once
#include "../store/control_fixture.h"
#include "govern/account.h"
#include "govern/control.h"
#include "govern/definition.h"
#include "govern/key.h"

struct govern_fixture {
    struct control_fixture control;
    struct first_start first;
    struct principal owner;
};

static struct govern_fixture g;

struct write_step {
    enum rc (*run)(struct db_txn *txn, void *arg, struct err *err);
    void *arg;
};

static inline enum rc write_step_run(void *arg, struct db_txn *txn, struct err *err)
{
    struct write_step *step = arg;

    return step->run(txn, step->arg, err);
}

/* Runs `run` on the control writer; *err may be NULL. */
static inline enum rc govern_write(enum rc (*run)(struct db_txn *txn, void *arg, struct err *err),
                                   void *arg, struct err *err)
{
    struct write_step step = {run, arg};

    return db_write_wait(g.control.db, write_step_run, &step, err);
}

static inline enum rc govern_first(struct db_txn *txn, void *arg, struct err *err)
{
    UNUSED(arg);
    return account_first_start(txn, &g.control.arena, &g.first, err);
}

static inline int govern_start(void **state)
{
    struct err err = {0};
    char secrets[96];

    UNUSED(state);
    g = (struct govern_fixture){.control.folder = "/tmp/capstan-test-XXXXXX"};
    assert_non_null(mkdtemp(g.control.folder));
    snprintf(g.control.path, sizeof g.control.path, "%s/control.db", g.control.folder);
    snprintf(secrets, sizeof secrets, "%s/secret", g.control.folder);
    assert_int_equal(secret_box_open(secrets, &g.control.box, &err), RC_OK);
    arena_init(&g.control.arena, 256 * 1024 * 1024);
    fixture_open(&g.control);
    if (govern_write(govern_first, NULL, &err) != RC_OK)
        fail_msg("%s", err.message);
    if (control_start_publishing(g.control.db, &err) != RC_OK)
        fail_msg("%s", err.message);
    struct key *key = snapshot_find_key(snapshot_current(), g.first.key);
    assert_non_null(key);
    g.owner = key->principal;
    g.owner.name = STR("first key");
    return 0;
}

static inline int govern_end(void **state)
{
    UNUSED(state);
    snapshot_detach();
    snapshot_publish(NULL);
    fixture_end(&g.control);
    return 0;
}

/* ---- steps ---- */

struct define_step {
    const struct principal *principal;
    enum object_kind kind;
    const char *name, *json;
    enum { DEFINE_CREATE, DEFINE_PUT, DEFINE_PATCH, DEFINE_DELETE } how;
    struct object out;
};

static inline enum rc define_run(struct db_txn *txn, void *arg, struct err *err)
{
    struct define_step *step = arg;
    struct actor actor = principal_actor(step->principal, STR("127.0.0.1"));
    struct str name = str_from(step->name);
    yyjson_val *json = step->json ? fixture_json(&g.control, step->json) : NULL;
    struct arena *arena = &g.control.arena;

    switch (step->how) {
    case DEFINE_CREATE:
        return definition_create(txn, step->principal, &actor, step->kind, name, json, arena,
                                 &step->out, err);
    case DEFINE_PUT:
        return definition_put(txn, step->principal, &actor, step->kind, name, json, arena,
                              &step->out, err);
    case DEFINE_PATCH:
        return definition_patch(txn, step->principal, &actor, step->kind, name, json, arena,
                                &step->out, err);
    case DEFINE_DELETE:
        return definition_delete(txn, step->principal, &actor, step->kind, name, arena, err);
    }
    return RC_BUG;
}

#define define(how_, kind_, name_, json_, err_)                                                    \
    govern_write(define_run,                                                                       \
                 &(struct define_step){.principal = &g.owner,                                      \
                                       .kind = (kind_),                                            \
                                       .name = (name_),                                            \
                                       .json = (json_),                                            \
                                       .how = (how_)},                                             \
                 (err_))

struct key_step {
    const struct principal *principal;
    const char *json;
    struct id id;
    struct str secret;
    struct object out;
    bool revoke;
};

static inline enum rc key_run(struct db_txn *txn, void *arg, struct err *err)
{
    struct key_step *step = arg;
    const struct principal *principal = step->principal ? step->principal : &g.owner;
    struct actor actor = principal_actor(principal, STR("127.0.0.1"));
    struct arena *arena = &g.control.arena;

    if (step->revoke)
        return key_revoke(txn, principal, &actor, step->id, arena, err);
    yyjson_val *json = fixture_json(&g.control, step->json);
    if (!id_is_zero(step->id))
        return key_update(txn, principal, &actor, step->id, json, arena, &step->out, err);
    enum rc rc = key_create(txn, principal, &actor, json, arena, &step->secret, &step->out, err);
    return rc == RC_OK ? id_parse(step->out.name, "key", &step->id) : rc;
}
