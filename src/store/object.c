/* The current state of configuration objects, and the one way to change it. */
#include "store/object_private.h"
#include "base/limits.h"
#include <stdio.h>

static const struct object_kind_row KINDS[] = {
#define OBJECT_KIND(name, text, versions, secrets, hidden)                                         \
    [OBJECT_##name] = {text, versions, secrets, hidden},
#include "store/object_kinds.h"
#undef OBJECT_KIND
};

const struct object_kind_row *object_kind_row(enum object_kind kind)
{
    ASSERT((size_t)kind < OBJECT_KIND_COUNT);
    return &KINDS[kind];
}

const char *object_kind_name(enum object_kind kind) { return object_kind_row(kind)->name; }

enum rc object_kind_parse(struct str s, enum object_kind *out)
{
    for (size_t i = 0; i < OBJECT_KIND_COUNT; i++) {
        if (!str_eq(s, str_from(KINDS[i].name)))
            continue;
        *out = (enum object_kind)i;
        return RC_OK;
    }
    return RC_INVALID;
}

/* ---- rows ---- */

#define OBJECT_COLUMNS                                                                             \
    "project, id, name, origin, version, hash, spec, author, message, created_ns, updated_ns, "    \
    "kind"

/* Texts are those of the row. */
static void object_from_row(const struct sql_rows *rows, enum object_kind kind, struct object *out)
{
    struct str hash = sql_column_str(rows, 5);

    *out = (struct object){
        .project = sql_column_id(rows, 0),
        .id = sql_column_id(rows, 1),
        .kind = kind,
        .name = sql_column_str(rows, 2),
        .from_file = str_eq(sql_column_str(rows, 3), STR("file")),
        .version = sql_column_i64(rows, 4),
        .spec = sql_column_str(rows, 6),
        .author = sql_column_str(rows, 7),
        .message = sql_column_str(rows, 8),
        .created_ns = sql_column_i64(rows, 9),
        .updated_ns = sql_column_i64(rows, 10),
    };
    memcpy(out->hash, hash.p, MIN(hash.n, sizeof out->hash));
}

static enum rc object_keep(struct object *object, struct arena *arena, struct err *err)
{
    struct str *texts[] = {&object->name, &object->spec, &object->author, &object->message};

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        *texts[i] = arena_copy(arena, texts[i]->n ? *texts[i] : STR(""));
        if (!texts[i]->p)
            return err_set(err, ERR_TOO_LARGE, "The answer is too large: ask for fewer items.");
    }
    return RC_OK;
}

/* ---- reading ---- */

/* RC_END when there is none. */
static enum rc object_find(struct db_txn *txn, struct id project, enum object_kind kind,
                           struct str name, struct arena *arena, struct object *out,
                           struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(
        &rows, txn,
        "SELECT " OBJECT_COLUMNS " FROM objects WHERE project = ?1 AND kind = ?2 AND name = ?3",
        SQL_BIND(sql_id(&project), sql_z(object_kind_name(kind)), sql_text(name)), err);

    if (rc == RC_OK) {
        object_from_row(&rows, kind, out);
        rc = object_keep(out, arena, err);
    }
    sql_end(&rows);
    return rc;
}

enum rc object_get(struct db_txn *txn, struct id project, enum object_kind kind, struct str name,
                   struct arena *arena, struct object *out, struct err *err)
{
    enum rc rc = object_find(txn, project, kind, name, arena, out, err);

    if (rc == RC_END)
        return err_set(err, ERR_NOT_FOUND, "There is no %s '%.*s'.", object_kind_name(kind),
                       STR_ARG(name));
    return rc;
}

enum rc object_list(struct db_txn *txn, struct id project, enum object_kind kind, struct str after,
                    struct str search, size_t limit, struct arena *arena, struct object_page *page,
                    struct err *err)
{
    struct sql_rows rows;

    *page = (struct object_page){.items = ARENA_NEW_ARRAY(arena, struct object, limit + 1)};
    if (!page->items)
        return err_set(err, ERR_TOO_LARGE, "The answer is too large: ask for fewer items.");
    enum rc rc = sql_query(
        txn,
        "SELECT " OBJECT_COLUMNS " FROM objects WHERE project = ?1 AND kind = ?2 AND name > ?3"
        " AND (?4 = '' OR lower(name) LIKE '%' || lower(?4) || '%') ORDER BY name LIMIT ?5",
        SQL_BIND(sql_id(&project), sql_z(object_kind_name(kind)), sql_text(after), sql_text(search),
                 sql_i64((int64_t)limit + 1)),
        &rows, err);
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK) {
        if (page->count == limit) {
            page->next = limit ? page->items[limit - 1].name : STR_EMPTY;
            break;
        }
        object_from_row(&rows, kind, &page->items[page->count]);
        rc = object_keep(&page->items[page->count++], arena, err);
    }
    sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

enum rc object_each(struct db_txn *txn, struct id project, enum object_kind kind,
                    enum rc (*each)(void *arg, const struct object *object, struct err *err),
                    void *arg, struct err *err)
{
    struct sql_rows rows;
    enum rc rc =
        sql_query(txn,
                  "SELECT name, origin, version, spec FROM objects WHERE project = ?1 AND kind = ?2"
                  " ORDER BY name",
                  SQL_BIND(sql_id(&project), sql_z(object_kind_name(kind))), &rows, err);

    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK) {
        struct object object = {
            .project = project,
            .kind = kind,
            .name = sql_column_str(&rows, 0),
            .from_file = str_eq(sql_column_str(&rows, 1), STR("file")),
            .version = sql_column_i64(&rows, 2),
            .spec = sql_column_str(&rows, 3),
        };
        rc = each(arg, &object, err);
    }
    sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

enum rc object_each_name(struct db_txn *txn, struct id project, enum object_kind kind,
                         bool from_file,
                         enum rc (*each)(void *arg, struct str name, struct err *err), void *arg,
                         struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_query(txn,
                           "SELECT name FROM objects WHERE project = ?1 AND kind = ?2"
                           " AND origin = ?3 ORDER BY name",
                           SQL_BIND(sql_id(&project), sql_z(object_kind_name(kind)),
                                    sql_z(from_file ? "file" : "database")),
                           &rows, err);

    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK)
        rc = each(arg, sql_column_str(&rows, 0), err);
    sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

/* ---- changing ---- */

static enum rc check_allowed(const struct object_change *change, const struct object *old,
                             struct err *err)
{
    const char *kind = object_kind_name(change->kind);

    if (old && change->create_only)
        return err_set_field(err, ERR_CONFLICT, "name", "There is already a %s '%.*s'.", kind,
                             STR_ARG(change->name));
    if (old && old->from_file && !change->from_file)
        return err_set(err, ERR_FILE_OWNED,
                       "The %s '%.*s' belongs to the configuration file: change it there, or take "
                       "it out there first.",
                       kind, STR_ARG(change->name));
    if (old && !old->from_file && change->from_file)
        return err_set(err, ERR_CONFLICT,
                       "The %s '%.*s' is in the configuration file and in the database: rename or "
                       "delete one of them.",
                       kind, STR_ARG(change->name));
    if (change->version_expected && (!old || old->version != change->version_expected))
        return err_set(err, ERR_CONFLICT,
                       "The %s '%.*s' was changed meanwhile: load it again and repeat your change.",
                       kind, STR_ARG(change->name));
    return RC_OK;
}

/* One above the highest there ever was, so that versions of a deleted namesake stay apart. */
static enum rc next_version(struct db_txn *txn, const struct object_change *change,
                            const struct object *old, int64_t *version, struct err *err)
{
    enum rc rc = sql_get_i64(
        txn,
        "SELECT MAX(version) FROM object_versions WHERE project = ?1 AND kind = ?2 AND name = ?3",
        SQL_BIND(sql_id(&change->project), sql_z(object_kind_name(change->kind)),
                 sql_text(change->name)),
        0, version, err);

    *version = MAX(*version, old ? old->version : 0) + 1;
    return rc;
}

static enum rc object_write(struct db_txn *txn, const struct object *object, struct err *err)
{
    return sql_exec(
        txn,
        "INSERT INTO objects(" OBJECT_COLUMNS ")"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
        " ON CONFLICT(project, kind, name) DO UPDATE SET origin = excluded.origin,"
        " version = excluded.version, hash = excluded.hash, spec = excluded.spec,"
        " author = excluded.author, message = excluded.message, updated_ns = excluded.updated_ns",
        SQL_BIND(sql_id(&object->project), sql_id(&object->id), sql_text(object->name),
                 sql_z(object->from_file ? "file" : "database"), sql_i64(object->version),
                 sql_blob(object->hash, sizeof object->hash), sql_text(object->spec),
                 sql_text(object->author), sql_text(object->message), sql_i64(object->created_ns),
                 sql_i64(object->updated_ns), sql_z(object_kind_name(object->kind))),
        err);
}

/* The entry in the audit log; `before` or `after` may be NULL. */
static enum rc object_record(struct db_txn *txn, const struct actor *actor,
                             const struct object *before, const struct object *after,
                             struct arena *arena, struct err *err)
{
    const struct object *object = after ? after : before;
    struct str texts[2] = {STR_EMPTY, STR_EMPTY};
    enum rc rc = RC_OK;

    if (before)
        rc = object_show_text(before, arena, &texts[0], err);
    if (rc == RC_OK && after)
        rc = object_show_text(after, arena, &texts[1], err);
    if (rc != RC_OK)
        return rc;
    return audit_write(txn, actor, object->project,
                       !before ? "create"
                       : after ? "update"
                               : "delete",
                       str_from(object_kind_name(object->kind)), object->name, texts[0], texts[1],
                       err);
}

enum rc object_put(struct db_txn *txn, const struct actor *actor,
                   const struct object_change *change, struct arena *arena, struct object *out,
                   struct err *err)
{
    struct object old, new;
    struct str spec;
    enum rc rc = object_find(txn, change->project, change->kind, change->name, arena, &old, err);
    bool exists = rc == RC_OK;

    if (rc == RC_END)
        rc = RC_OK;
    if (rc == RC_OK)
        rc = check_allowed(change, exists ? &old : NULL, err);
    if (rc == RC_OK)
        rc = object_seal(db_txn_secrets(txn), change, exists ? &old : NULL, arena, &spec, err);
    if (rc != RC_OK)
        return rc;
    new = (struct object){
        .project = change->project,
        .id = exists ? old.id : id_new(),
        .kind = change->kind,
        .name = change->name,
        .from_file = change->from_file,
        .spec = spec,
        .author = actor->name.n ? actor->name : str_from(actor->type),
        .message = change->message,
        .created_ns = exists ? old.created_ns : db_txn_now_ns(txn),
        .updated_ns = db_txn_now_ns(txn),
    };
    hash_sha256(spec.p, spec.n, new.hash);
    if (exists && memcmp(new.hash, old.hash, sizeof new.hash) == 0) {
        if (out)
            *out = old;
        return RC_OK;
    }
    rc = next_version(txn, change, exists ? &old : NULL, &new.version, err);
    if (rc == RC_OK)
        rc = object_write(txn, &new, err);
    if (rc == RC_OK && object_kind_row(change->kind)->versions)
        rc = object_version_add(txn, &new, err);
    if (rc == RC_OK)
        rc = object_record(txn, actor, exists ? &old : NULL, &new, arena, err);
    if (rc != RC_OK)
        return rc;
    db_txn_mark_object(txn, new.project, (int)new.kind, new.name);
    if (out)
        *out = new;
    return RC_OK;
}

enum rc object_delete(struct db_txn *txn, const struct actor *actor, struct id project,
                      enum object_kind kind, struct str name, bool by_file, struct arena *arena,
                      struct err *err)
{
    struct object_change change = {
        .project = project, .kind = kind, .name = name, .from_file = by_file};
    struct object old;
    enum rc rc = object_get(txn, project, kind, name, arena, &old, err);

    if (rc == RC_OK)
        rc = check_allowed(&change, &old, err);
    if (rc == RC_OK)
        rc = sql_exec(txn, "DELETE FROM objects WHERE project = ?1 AND kind = ?2 AND name = ?3",
                      SQL_BIND(sql_id(&project), sql_z(object_kind_name(kind)), sql_text(name)),
                      err);
    if (rc == RC_OK)
        rc = object_labels_delete(txn, &old, err);
    if (rc == RC_OK)
        rc = object_record(txn, actor, &old, NULL, arena, err);
    if (rc == RC_OK)
        db_txn_mark_object(txn, project, (int)kind, name);
    return rc;
}

enum rc object_restore(struct db_txn *txn, const struct actor *actor, struct id project,
                       enum object_kind kind, struct str name, int64_t version, struct str message,
                       struct arena *arena, struct object *out, struct err *err)
{
    struct object old;
    yyjson_doc *doc;
    enum rc rc = object_version_get(txn, project, kind, name, version, arena, &old, err);

    if (rc == RC_OK)
        rc = json_read(old.spec, arena, &doc, err);
    if (rc != RC_OK)
        return rc;
    struct object_change change = {.project = project,
                                   .kind = kind,
                                   .name = name,
                                   .spec = yyjson_doc_get_root(doc),
                                   .message = message};
    return object_put(txn, actor, &change, arena, out, err);
}
