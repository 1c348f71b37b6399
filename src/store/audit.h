/* The audit log: who changed what, from what, to what. Written in the change's own transaction;
 * each entry holds the digest of the one before it, so that none can be changed or taken out
 * unseen. Entries of all projects form one chain. Secrets never get here: callers pass masked
 * definitions. */
#pragma once
#include "store/db.h"

/* Who makes a change. */
struct actor {
    const char *type; /* "user", "key", "session", "file", "system" */
    struct id id;     /* of the user, key or session; zero: none */
    struct str name;  /* e-mail, key's name … */
    struct str client_ip;
};

#define ACTOR_SYSTEM ((struct actor){.type = "system", .name = STR_INIT("capstan")})

struct audit_entry {
    int64_t seq;
    struct id project;
    int64_t at_ns;
    struct str actor_type;
    struct id actor_id;
    struct str actor_name, client_ip;
    struct str action; /* "create", "update", "delete", "sign_in", … */
    struct str kind, name;
    struct str before, after; /* JSON; empty: none */
    uint8_t hash[32];
};

/* What every management change calls, directly or through object_put and its kin. `before` and
 * `after` are JSON or empty. */
enum rc audit_write(struct db_txn *txn, const struct actor *actor, struct id project,
                    const char *action, struct str kind, struct str name, struct str before,
                    struct str after, struct err *err) MUST_CHECK;

struct audit_filter {
    struct str kind, name, actor; /* empty: any; actor: part of the actor's name */
    int64_t before_seq;           /* 0: from the newest */
    size_t limit;
};

/* Newest first. *next_seq: cursor of the next page, 0: no more. */
enum rc audit_list(struct db_txn *txn, struct id project, const struct audit_filter *filter,
                   struct arena *arena, struct audit_entry **entries, size_t *count,
                   int64_t *next_seq, struct err *err) MUST_CHECK;
/* Recomputes the chain from its start. RC_CORRUPT: *seq is the first entry that does not fit. */
enum rc audit_verify(struct db_txn *txn, int64_t *seq, struct err *err) MUST_CHECK;
