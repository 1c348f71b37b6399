/* The chain: hash = SHA-256(previous hash, then every field with its length in front). A digest
 * over the fields, not over a rendering, so that no change of the rendering breaks old chains. */
#include "store/audit.h"
#include "base/hash.h"
#include "store/sql.h"

#define AUDIT_JSON_BYTES_MAX (256 * 1024)

static void put_field(struct sha256 *sha, struct str s)
{
    uint8_t length[8];

    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)s.n >> (8 * i));
    sha256_update(sha, length, sizeof length);
    sha256_update(sha, s.p, s.n);
}

static void put_number(struct sha256 *sha, int64_t value)
{
    uint8_t bytes[8];

    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)((uint64_t)value >> (8 * i));
    put_field(sha, str_make(bytes, sizeof bytes));
}

static void entry_digest(const struct audit_entry *entry, const uint8_t previous[SHA256_BYTES],
                         uint8_t out[SHA256_BYTES])
{
    struct sha256 *sha = sha256_new();

    sha256_update(sha, previous, SHA256_BYTES);
    put_number(sha, entry->seq);
    put_field(sha, str_make(entry->project.bytes, sizeof entry->project.bytes));
    put_number(sha, entry->at_ns);
    put_field(sha, entry->actor_type);
    put_field(sha, str_make(entry->actor_id.bytes, sizeof entry->actor_id.bytes));
    put_field(sha, entry->actor_name);
    put_field(sha, entry->client_ip);
    put_field(sha, entry->action);
    put_field(sha, entry->kind);
    put_field(sha, entry->name);
    put_field(sha, entry->before);
    put_field(sha, entry->after);
    sha256_final(sha, out);
}

static enum rc chain_head(struct db_txn *txn, int64_t *seq, uint8_t hash[SHA256_BYTES],
                          struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn, "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1",
                           SQL_NO_BINDS, err);

    *seq = 0;
    memset(hash, 0, SHA256_BYTES);
    if (rc == RC_OK) {
        struct str bytes = sql_column_str(&rows, 1);
        *seq = sql_column_i64(&rows, 0);
        memcpy(hash, bytes.p, MIN(bytes.n, SHA256_BYTES));
    }
    sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

static struct sql_value text_or_null(struct str s) { return s.n ? sql_text(s) : sql_null(); }

enum rc audit_write(struct db_txn *txn, const struct actor *actor, struct id project,
                    const char *action, struct str kind, struct str name, struct str before,
                    struct str after, struct err *err)
{
    static const struct str cut = STR_INIT("\"(too large for the audit log)\"");
    uint8_t previous[SHA256_BYTES], hash[SHA256_BYTES];
    int64_t seq;

    ASSERT(db_txn_writes(txn));
    enum rc rc = chain_head(txn, &seq, previous, err);
    if (rc != RC_OK)
        return rc;
    struct audit_entry entry = {
        .seq = seq + 1,
        .project = project,
        .at_ns = db_txn_now_ns(txn),
        .actor_type = str_from(actor->type),
        .actor_id = actor->id,
        .actor_name = actor->name,
        .client_ip = actor->client_ip,
        .action = str_from(action),
        .kind = kind,
        .name = name,
        .before = before.n > AUDIT_JSON_BYTES_MAX ? cut : before,
        .after = after.n > AUDIT_JSON_BYTES_MAX ? cut : after,
    };
    entry_digest(&entry, previous, hash);
    return sql_exec(txn,
                    "INSERT INTO audit(seq, project, at_ns, actor_type, actor_id, actor_name, "
                    "client_ip, action,"
                    " kind, name, before_json, after_json, previous, hash)"
                    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
                    SQL_BIND(sql_i64(entry.seq), sql_blob(project.bytes, sizeof project.bytes),
                             sql_i64(entry.at_ns), sql_text(entry.actor_type),
                             sql_id(&entry.actor_id), sql_text(entry.actor_name),
                             sql_text(entry.client_ip), sql_text(entry.action), sql_text(kind),
                             sql_text(name), text_or_null(entry.before), text_or_null(entry.after),
                             sql_blob(previous, sizeof previous), sql_blob(hash, sizeof hash)),
                    err);
}

#define AUDIT_COLUMNS                                                                              \
    "seq, project, at_ns, actor_type, actor_id, actor_name, client_ip, action, kind, name,"        \
    " before_json, after_json, hash, previous"

/* Texts are those of the row: valid until the next. */
static void entry_from_row(const struct sql_rows *rows, struct audit_entry *out)
{
    struct str hash = sql_column_str(rows, 12);

    *out = (struct audit_entry){
        .seq = sql_column_i64(rows, 0),
        .project = sql_column_id(rows, 1),
        .at_ns = sql_column_i64(rows, 2),
        .actor_type = sql_column_str(rows, 3),
        .actor_id = sql_column_id(rows, 4),
        .actor_name = sql_column_str(rows, 5),
        .client_ip = sql_column_str(rows, 6),
        .action = sql_column_str(rows, 7),
        .kind = sql_column_str(rows, 8),
        .name = sql_column_str(rows, 9),
        .before = sql_column_str(rows, 10),
        .after = sql_column_str(rows, 11),
    };
    memcpy(out->hash, hash.p, MIN(hash.n, sizeof out->hash));
}

static enum rc entry_keep(struct audit_entry *entry, struct arena *arena, struct err *err)
{
    struct str *texts[] = {&entry->actor_type, &entry->actor_name, &entry->client_ip,
                           &entry->action,     &entry->kind,       &entry->name,
                           &entry->before,     &entry->after};

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        *texts[i] = arena_copy(arena, texts[i]->n ? *texts[i] : STR(""));
        if (!texts[i]->p)
            return err_set(err, ERR_TOO_LARGE, "The answer is too large: ask for fewer entries.");
    }
    return RC_OK;
}

enum rc audit_list(struct db_txn *txn, struct id project, const struct audit_filter *filter,
                   struct arena *arena, struct audit_entry **entries, size_t *count,
                   int64_t *next_seq, struct err *err)
{
    struct sql_rows rows;
    size_t limit = filter->limit;
    struct audit_entry *list = ARENA_NEW_ARRAY(arena, struct audit_entry, limit + 1);

    *count = 0;
    *next_seq = 0;
    if (!list)
        return err_set(err, ERR_TOO_LARGE, "The answer is too large: ask for fewer entries.");
    *entries = list;
    enum rc rc = sql_query(
        txn,
        "SELECT " AUDIT_COLUMNS " FROM audit WHERE project = ?1 AND (?2 = 0 OR seq < ?2)"
        " AND (?3 = '' OR kind = ?3) AND (?4 = '' OR name = ?4)"
        " AND (?5 = '' OR lower(actor_name) LIKE '%' || lower(?5) || '%')"
        " ORDER BY seq DESC LIMIT ?6",
        SQL_BIND(sql_id(&project), sql_i64(filter->before_seq), sql_text(filter->kind),
                 sql_text(filter->name), sql_text(filter->actor), sql_i64((int64_t)limit + 1)),
        &rows, err);
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK) {
        if (*count == limit) {
            *next_seq = limit ? list[limit - 1].seq : 0;
            break;
        }
        entry_from_row(&rows, &list[*count]);
        rc = entry_keep(&list[(*count)++], arena, err);
    }
    sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

enum rc audit_verify(struct db_txn *txn, int64_t *seq, struct err *err)
{
    uint8_t previous[SHA256_BYTES] = {0}, hash[SHA256_BYTES];
    struct sql_rows rows;
    struct audit_entry entry;
    int64_t expected = 1;
    enum rc rc = sql_query(txn, "SELECT " AUDIT_COLUMNS " FROM audit ORDER BY seq", SQL_NO_BINDS,
                           &rows, err);

    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK) {
        struct str stored_previous = sql_column_str(&rows, 13);
        entry_from_row(&rows, &entry);
        entry_digest(&entry, previous, hash);
        if (entry.seq != expected || memcmp(hash, entry.hash, sizeof hash) != 0 ||
            !str_eq(stored_previous, str_make(previous, sizeof previous))) {
            *seq = expected;
            sql_end(&rows);
            err_set(err, ERR_INTERNAL, "The audit log was changed at entry %lld.",
                    (long long)expected);
            return RC_CORRUPT;
        }
        memcpy(previous, hash, sizeof previous);
        expected++;
    }
    return rc == RC_END ? RC_OK : rc;
}
