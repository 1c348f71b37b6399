/* Configuration objects: JSON definitions by (project, kind, name). Everything that management
 * changes and that has no table of its own goes through object_put and object_delete, which write
 * the audit entry, seal the secrets inside and keep the version in the same transaction.
 *
 * A version is immutable and never deleted; its hash is that of the definition with sorted keys.
 * Labels point to versions, one or several by weight; protected labels need a right of their own.
 * Objects of the configuration file (ORIGIN "file") are changed by the file only. */
#pragma once
#include "base/hash.h"
#include "store/audit.h"
#include "store/secret.h"
#include <yyjson.h>

enum object_kind {
#define OBJECT_KIND(name, text, versions, secrets, hidden) OBJECT_##name,
#include "store/object_kinds.h"
#undef OBJECT_KIND
    OBJECT_KIND_COUNT
};

const char *object_kind_name(enum object_kind kind);
enum rc object_kind_parse(struct str s, enum object_kind *out) MUST_CHECK;

struct object {
    struct id project, id;
    enum object_kind kind;
    struct str name;
    bool from_file;
    int64_t version; /* 1, 2, … over all changes, deletions included */
    uint8_t hash[SHA256_BYTES];
    struct str spec; /* JSON, secrets sealed */
    struct str author, message;
    int64_t created_ns, updated_ns;
};

/* ---- changing: write transactions ---- */

struct object_change {
    struct id project;
    enum object_kind kind;
    struct str name;
    yyjson_val *spec; /* secrets plain, as references, or as shown (masked: the old one stays) */
    bool from_file;   /* the configuration file says so */
    bool create_only; /* ERR_CONFLICT when it exists */
    int64_t version_expected; /* 0: any; else ERR_CONFLICT when another change came between */
    struct str message;       /* why, or empty */
};

/* Makes or replaces it; no change and no audit entry when the definition is the same. *out (may be
 * NULL) lives in the arena. ERR_FILE_OWNED, ERR_CONFLICT. */
enum rc object_put(struct db_txn *txn, const struct actor *actor,
                   const struct object_change *change, struct arena *arena, struct object *out,
                   struct err *err) MUST_CHECK;
enum rc object_delete(struct db_txn *txn, const struct actor *actor, struct id project,
                      enum object_kind kind, struct str name, bool by_file, struct arena *arena,
                      struct err *err) MUST_CHECK;
/* Puts the definition of an old version again, as a new version. */
enum rc object_restore(struct db_txn *txn, const struct actor *actor, struct id project,
                       enum object_kind kind, struct str name, int64_t version, struct str message,
                       struct arena *arena, struct object *out, struct err *err) MUST_CHECK;

/* ---- reading ---- */

/* ERR_NOT_FOUND with kind and name. */
enum rc object_get(struct db_txn *txn, struct id project, enum object_kind kind, struct str name,
                   struct arena *arena, struct object *out, struct err *err) MUST_CHECK;

struct object_page {
    struct object *items;
    size_t count;
    struct str next; /* name to pass as `after`; empty: no more */
};

/* By name, those after `after`; `search` (empty: all) is part of the name. */
enum rc object_list(struct db_txn *txn, struct id project, enum object_kind kind, struct str after,
                    struct str search, size_t limit, struct arena *arena, struct object_page *page,
                    struct err *err) MUST_CHECK;
/* Every object of a kind by name, without copying: texts are valid during the call. Of each only
 * name, origin, version and definition are set. */
enum rc object_each(struct db_txn *txn, struct id project, enum object_kind kind,
                    enum rc (*each)(void *arg, const struct object *object, struct err *err),
                    void *arg, struct err *err) MUST_CHECK;

/* The names of those with this origin, by name; texts are valid during the call. */
enum rc object_each_name(struct db_txn *txn, struct id project, enum object_kind kind,
                         bool from_file,
                         enum rc (*each)(void *arg, struct str name, struct err *err), void *arg,
                         struct err *err) MUST_CHECK;

/* The definition as it may be shown: secrets masked, hidden members left out. */
enum rc object_show(const struct object *object, struct arena *arena, yyjson_val **out,
                    struct err *err) MUST_CHECK;
/* The definition as it takes effect: secrets opened, references read. For the snapshot only. */
enum rc object_reveal(const struct secret_box *box, const struct object *object,
                      struct arena *arena, yyjson_val **out, struct err *err) MUST_CHECK;

/* ---- versions and labels ---- */

/* Newest first, below `before` (0: from the newest). `name` and ids of the items are set, too. */
enum rc object_versions(struct db_txn *txn, struct id project, enum object_kind kind,
                        struct str name, int64_t before, size_t limit, struct arena *arena,
                        struct object **out, size_t *count, struct err *err) MUST_CHECK;
enum rc object_version_get(struct db_txn *txn, struct id project, enum object_kind kind,
                           struct str name, int64_t version, struct arena *arena,
                           struct object *out, struct err *err) MUST_CHECK;
/* What changed from one version to another: [{"path", "before", "after"}], secrets masked. */
enum rc object_diff(const struct object *from, const struct object *to, struct arena *arena,
                    yyjson_val **out, struct err *err) MUST_CHECK;

struct label_target {
    int64_t version;
    uint32_t weight; /* 1 … 1000000 */
};

struct label {
    struct str name;
    struct label_target *targets;
    size_t target_count;
};

#define LABEL_TARGETS_MAX 8

/* Points the label to these versions (all must exist); no targets: removes it.
 * `may_move_protected`: the principal has the right to; else ERR_FORBIDDEN for a protected label.
 */
enum rc object_label_set(struct db_txn *txn, const struct actor *actor, struct id project,
                         enum object_kind kind, struct str name, struct str label,
                         const struct label_target *targets, size_t target_count,
                         bool may_move_protected, struct err *err) MUST_CHECK;
enum rc object_labels(struct db_txn *txn, struct id project, enum object_kind kind, struct str name,
                      struct arena *arena, struct label **out, size_t *count,
                      struct err *err) MUST_CHECK;
/* The version the label points to; among several, `share` (0 … 2^64-1, a hash of the session or
 * user) chooses by weight, always the same one. */
enum rc object_label_resolve(struct db_txn *txn, struct id project, enum object_kind kind,
                             struct str name, struct str label, uint64_t share, int64_t *version,
                             struct err *err) MUST_CHECK;
/* For the snapshot, which resolves without the database. */
int64_t label_choose(const struct label *label, uint64_t share);
enum rc object_label_protect(struct db_txn *txn, const struct actor *actor, struct id project,
                             enum object_kind kind, struct str label, bool protect,
                             struct err *err) MUST_CHECK;
