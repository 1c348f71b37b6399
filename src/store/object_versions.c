/* Versions and labels of configuration objects. */
#include "store/object_private.h"
#include "base/limits.h"
#include <stdio.h>

enum rc object_version_add(struct db_txn *txn, const struct object *object, struct err *err)
{
    return sql_exec(txn,
                    "INSERT INTO object_versions(project, kind, name, version, hash, spec, author, "
                    "message, created_ns)"
                    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    SQL_BIND(sql_id(&object->project), sql_z(object_kind_name(object->kind)),
                             sql_text(object->name), sql_i64(object->version),
                             sql_blob(object->hash, sizeof object->hash), sql_text(object->spec),
                             sql_text(object->author), sql_text(object->message),
                             sql_i64(object->updated_ns)),
                    err);
}

#define VERSION_COLUMNS "version, hash, spec, author, message, created_ns"

static enum rc version_from_row(const struct sql_rows *rows, struct arena *arena,
                                struct object *out, struct err *err)
{
    struct str hash = sql_column_str(rows, 1);

    out->version = sql_column_i64(rows, 0);
    memcpy(out->hash, hash.p, MIN(hash.n, sizeof out->hash));
    out->created_ns = out->updated_ns = sql_column_i64(rows, 5);
    enum rc rc = sql_column_copy(rows, 2, arena, &out->spec, err);
    if (rc == RC_OK)
        rc = sql_column_copy(rows, 3, arena, &out->author, err);
    if (rc == RC_OK)
        rc = sql_column_copy(rows, 4, arena, &out->message, err);
    return rc;
}

enum rc object_versions(struct db_txn *txn, struct id project, enum object_kind kind,
                        struct str name, int64_t before, size_t limit, struct arena *arena,
                        struct object **out, size_t *count, struct err *err)
{
    struct sql_rows rows;
    struct object *items = ARENA_NEW_ARRAY(arena, struct object, limit + 1);

    *count = 0;
    *out = items;
    if (!items)
        return err_set(err, ERR_TOO_LARGE, "The answer is too large: ask for fewer items.");
    enum rc rc =
        sql_query(txn,
                  "SELECT " VERSION_COLUMNS " FROM object_versions WHERE project = ?1 AND kind = ?2"
                  " AND name = ?3 AND (?4 = 0 OR version < ?4) ORDER BY version DESC LIMIT ?5",
                  SQL_BIND(sql_id(&project), sql_z(object_kind_name(kind)), sql_text(name),
                           sql_i64(before), sql_i64((int64_t)limit)),
                  &rows, err);
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK) {
        items[*count] = (struct object){.project = project, .kind = kind, .name = name};
        rc = version_from_row(&rows, arena, &items[(*count)++], err);
    }
    sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

enum rc object_version_get(struct db_txn *txn, struct id project, enum object_kind kind,
                           struct str name, int64_t version, struct arena *arena,
                           struct object *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(
        &rows, txn,
        "SELECT " VERSION_COLUMNS " FROM object_versions WHERE project = ?1 AND kind = ?2"
        " AND name = ?3 AND version = ?4",
        SQL_BIND(sql_id(&project), sql_z(object_kind_name(kind)), sql_text(name), sql_i64(version)),
        err);

    *out = (struct object){.project = project, .kind = kind, .name = name};
    if (rc == RC_OK)
        rc = version_from_row(&rows, arena, out, err);
    sql_end(&rows);
    if (rc == RC_END)
        return err_set(err, ERR_NOT_FOUND, "The %s '%.*s' has no version %lld.",
                       object_kind_name(kind), STR_ARG(name), (long long)version);
    return rc;
}

enum rc object_diff(const struct object *from, const struct object *to, struct arena *arena,
                    yyjson_val **out, struct err *err)
{
    yyjson_val *a, *b;
    enum rc rc = object_show(from, arena, &a, err);

    if (rc == RC_OK)
        rc = object_show(to, arena, &b, err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_doc *frozen = doc ? json_freeze(json_diff(doc, a, b), arena) : NULL;
    *out = yyjson_doc_get_root(frozen);
    return frozen ? RC_OK : err_set(err, ERR_TOO_LARGE, "The difference is too large.");
}

/* ---- labels ---- */

enum rc object_labels_delete(struct db_txn *txn, const struct object *object, struct err *err)
{
    return sql_exec(txn, "DELETE FROM object_labels WHERE project = ?1 AND kind = ?2 AND name = ?3",
                    SQL_BIND(sql_id(&object->project), sql_z(object_kind_name(object->kind)),
                             sql_text(object->name)),
                    err);
}

static enum rc label_check(struct db_txn *txn, struct id project, enum object_kind kind,
                           struct str label, bool may_move_protected, struct err *err)
{
    int64_t protected;

    if (label.n == 0 || label.n > LIMIT_NAME_BYTES)
        return err_set_field(err, ERR_BAD_FIELD, "label", "A label has 1 to %d characters.",
                             LIMIT_NAME_BYTES);
    enum rc rc = sql_get_i64(
        txn,
        "SELECT COUNT(*) FROM protected_labels WHERE project = ?1 AND kind = ?2 AND label = ?3",
        SQL_BIND(sql_id(&project), sql_z(object_kind_name(kind)), sql_text(label)), 0, &protected,
        err);
    if (rc == RC_OK && protected && !may_move_protected)
        return err_set(err, ERR_FORBIDDEN,
                       "The label '%.*s' is protected: ask an admin to move it.", STR_ARG(label));
    return rc;
}

/* {"label": …, "targets": [{"version", "weight"}]} for the audit log. */
static struct str label_json(struct str label, const struct label_target *targets, size_t count,
                             struct arena *arena)
{
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *list = yyjson_mut_arr(doc);
    struct str out = STR_EMPTY;

    json_set_text(doc, root, "label", label);
    yyjson_mut_obj_add_val(doc, root, "targets", list);
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *target = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_int(doc, target, "version", targets[i].version);
        yyjson_mut_obj_add_uint(doc, target, "weight", targets[i].weight);
    }
    return json_write_tree(root, arena, &out, NULL) == RC_OK ? out : STR_EMPTY;
}

static enum rc label_target_write(struct db_txn *txn, struct id project, enum object_kind kind,
                                  struct str name, struct str label,
                                  const struct label_target *target, struct err *err)
{
    int64_t exists;

    if (target->weight == 0 || target->weight > 1000000)
        return err_set_field(err, ERR_BAD_FIELD, "weight",
                             "A weight is a whole number from 1 to 1000000.");
    enum rc rc = sql_get_i64(
        txn,
        "SELECT COUNT(*) FROM object_versions WHERE project = ?1 AND kind = ?2 AND name = ?3"
        " AND version = ?4",
        SQL_BIND(sql_id(&project), sql_z(object_kind_name(kind)), sql_text(name),
                 sql_i64(target->version)),
        0, &exists, err);
    if (rc == RC_OK && !exists)
        return err_set_field(err, ERR_NOT_FOUND, "version", "The %s '%.*s' has no version %lld.",
                             object_kind_name(kind), STR_ARG(name), (long long)target->version);
    if (rc != RC_OK)
        return rc;
    return sql_exec(txn,
                    "INSERT INTO object_labels(project, kind, name, label, version, weight)"
                    " VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    SQL_BIND(sql_id(&project), sql_z(object_kind_name(kind)), sql_text(name),
                             sql_text(label), sql_i64(target->version), sql_i64(target->weight)),
                    err);
}

static const struct label *label_find(const struct label *labels, size_t count, struct str name)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(labels[i].name, name))
            return &labels[i];
    return NULL;
}

enum rc object_label_set(struct db_txn *txn, const struct actor *actor, struct id project,
                         enum object_kind kind, struct str name, struct str label,
                         const struct label_target *targets, size_t target_count,
                         bool may_move_protected, struct err *err)
{
    struct arena arena;
    struct label *labels;
    size_t count;

    if (target_count > LABEL_TARGETS_MAX)
        return err_set(err, ERR_BAD_FIELD, "A label points to at most %d versions.",
                       LABEL_TARGETS_MAX);
    enum rc rc = label_check(txn, project, kind, label, may_move_protected, err);
    if (rc != RC_OK)
        return rc;
    arena_init(&arena, 1024 * 1024);
    rc = object_labels(txn, project, kind, name, &arena, &labels, &count, err);
    if (rc == RC_OK)
        rc = sql_exec(txn,
                      "DELETE FROM object_labels WHERE project = ?1 AND kind = ?2 AND name = ?3 "
                      "AND label = ?4",
                      SQL_BIND(sql_id(&project), sql_z(object_kind_name(kind)), sql_text(name),
                               sql_text(label)),
                      err);
    for (size_t i = 0; rc == RC_OK && i < target_count; i++)
        rc = label_target_write(txn, project, kind, name, label, &targets[i], err);
    if (rc == RC_OK) {
        const struct label *old = label_find(labels, count, label);
        rc = audit_write(
            txn, actor, project, "label", str_from(object_kind_name(kind)), name,
            old ? label_json(label, old->targets, old->target_count, &arena) : STR_EMPTY,
            target_count ? label_json(label, targets, target_count, &arena) : STR_EMPTY, err);
    }
    if (rc == RC_OK)
        db_txn_mark_changed(txn);
    arena_fini(&arena);
    return rc;
}

#define LABELS_MAX 256 /* of one object */

enum rc object_labels(struct db_txn *txn, struct id project, enum object_kind kind, struct str name,
                      struct arena *arena, struct label **out, size_t *count, struct err *err)
{
    struct sql_rows rows;
    struct label *labels = ARENA_NEW_ARRAY(arena, struct label, LABELS_MAX), *last = NULL;

    *out = labels;
    *count = 0;
    if (!labels)
        return err_set(err, ERR_TOO_LARGE, "The object has too many labels.");
    enum rc rc = sql_query(
        txn,
        "SELECT label, version, weight FROM object_labels WHERE project = ?1 AND kind = ?2"
        " AND name = ?3 ORDER BY label, version",
        SQL_BIND(sql_id(&project), sql_z(object_kind_name(kind)), sql_text(name)), &rows, err);
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK) {
        if (!last || !str_eq(last->name, sql_column_str(&rows, 0))) {
            if (*count == LABELS_MAX)
                break;
            last = &labels[(*count)++];
            last->targets = ARENA_NEW_ARRAY(arena, struct label_target, LABEL_TARGETS_MAX);
            rc = sql_column_copy(&rows, 0, arena, &last->name, err);
            if (rc != RC_OK || !last->targets)
                break;
        }
        if (last->target_count < LABEL_TARGETS_MAX)
            last->targets[last->target_count++] =
                (struct label_target){sql_column_i64(&rows, 1), (uint32_t)sql_column_i64(&rows, 2)};
    }
    sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

int64_t label_choose(const struct label *label, uint64_t share)
{
    uint64_t sum = 0, passed = 0;

    ASSERT(label->target_count > 0);
    for (size_t i = 0; i < label->target_count; i++)
        sum += label->targets[i].weight;
    uint64_t point = (uint64_t)((unsigned __int128)share * sum >> 64);
    for (size_t i = 0; i < label->target_count; i++) {
        passed += label->targets[i].weight;
        if (point < passed)
            return label->targets[i].version;
    }
    UNREACHABLE();
}

enum rc object_label_resolve(struct db_txn *txn, struct id project, enum object_kind kind,
                             struct str name, struct str label, uint64_t share, int64_t *version,
                             struct err *err)
{
    struct arena arena;
    struct label *labels;
    size_t count;

    arena_init(&arena, 1024 * 1024);
    enum rc rc = object_labels(txn, project, kind, name, &arena, &labels, &count, err);
    const struct label *found = rc == RC_OK ? label_find(labels, count, label) : NULL;
    if (found)
        *version = label_choose(found, share);
    else if (rc == RC_OK)
        rc = err_set(err, ERR_NOT_FOUND, "The %s '%.*s' has no label '%.*s'.",
                     object_kind_name(kind), STR_ARG(name), STR_ARG(label));
    arena_fini(&arena);
    return rc;
}

enum rc object_label_protect(struct db_txn *txn, const struct actor *actor, struct id project,
                             enum object_kind kind, struct str label, bool protect, struct err *err)
{
    struct sql_binds binds =
        SQL_BIND(sql_id(&project), sql_z(object_kind_name(kind)), sql_text(label));
    enum rc rc =
        protect
            ? sql_exec(txn,
                       "INSERT INTO protected_labels(project, kind, label) VALUES (?1, ?2, ?3)"
                       " ON CONFLICT(project, kind, label) DO NOTHING",
                       binds, err)
            : sql_exec(
                  txn,
                  "DELETE FROM protected_labels WHERE project = ?1 AND kind = ?2 AND label = ?3",
                  binds, err);

    if (rc != RC_OK)
        return rc;
    return audit_write(txn, actor, project, protect ? "protect_label" : "unprotect_label",
                       str_from(object_kind_name(kind)), label, STR_EMPTY, STR_EMPTY, err);
}
