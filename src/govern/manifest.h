/* Objects as a tree that people keep in Git: the sections of the configuration file, of `capstan
 * export` and of `capstan apply`.
 *
 *   providers: {NAME: {…}}      routes: {NAME: {…}}      keys: [{name: …, …}]
 *   limits: [{kind: tag|user|project, value: …, limits: {…}, budget: {…}}]
 *   prices: {PROVIDER: {MODEL: {…}}}      settings: {capture: …, …}
 *
 * Objects of the configuration file are written to the database with each load, marked as the
 * file's; so there is one source for the snapshot, and a name that the database owns is refused. */
#pragma once
#include "base/arena.h"
#include "govern/principal.h"
#include "store/object.h"

struct manifest_digest {
    uint8_t bytes[16];
};

struct manifest_item {
    enum object_kind kind;
    struct str name;               /* of the object; of a key: its name, not its id */
    yyjson_val *spec;              /* without `kind` and `value`; with a key's `key` */
    struct str secret;             /* keys: the member `key`, or empty */
    struct str path;               /* where it stands in the tree: "routes.smart" */
    struct manifest_digest digest; /* of the file's items (applied.h) */
    bool in_force; /* stands in the database as it is here: neither checked nor written again */
};

struct manifest {
    struct manifest_item *items; /* in the order in which they can be made */
    size_t count;
};

/* The names of the sections, NULL-terminated: what a manifest's root may hold. */
extern const char *const MANIFEST_SECTIONS[];

/* err->field is the path of what is wrong. Members of `root` that are no section are passed over.
 */
enum rc manifest_read(yyjson_val *root, struct arena *arena, struct manifest *out,
                      struct err *err) MUST_CHECK;
/* Decodes every definition, routes against the manifest's own providers. For a file that is
 * complete in itself; no database. */
enum rc manifest_check(const struct manifest *manifest, struct arena *arena,
                       struct err *err) MUST_CHECK;

struct manifest_options {
    bool from_file; /* objects become the file's; else the database's */
    bool prune;     /* delete objects of the same owner that are not in the manifest */
};

struct manifest_change {
    const char *action; /* "create", "update", "delete" */
    enum object_kind kind;
    struct str name;
    struct str detail; /* "retry: 1 → 2", or empty */
    struct str secret; /* of a key that was made, told this once */
};

/* Makes the project's objects as the manifest says, all or none (the caller's transaction).
 * `principal` NULL: the program itself, on behalf of the file. *changes lists what was done, in
 * order. */
enum rc manifest_apply(struct db_txn *txn, const struct principal *principal,
                       const struct actor *actor, struct id project,
                       const struct manifest *manifest, const struct manifest_options *options,
                       struct arena *arena, struct manifest_change **changes, size_t *count,
                       struct err *err) MUST_CHECK;
/* The project's objects as a tree, in a stable order, secrets masked. */
enum rc manifest_export(struct db_txn *txn, struct id project, struct arena *arena,
                        yyjson_val **out, struct err *err) MUST_CHECK;
