/* SQL inside src/store: statements with typed values, over whatever database stands behind db.h.
 * Statements keep to what SQLite and PostgreSQL share; their texts are literals, because the cache
 * of prepared statements knows them by address. */
#pragma once
#include "store/db.h"

struct sql_value {
    enum { SQL_VALUE_NULL, SQL_VALUE_I64, SQL_VALUE_REAL, SQL_VALUE_TEXT, SQL_VALUE_BLOB } type;
    struct str s; /* must live until the statement has ended */
    int64_t i;
    double real;
};

static inline struct sql_value sql_null(void)
{
    return (struct sql_value){SQL_VALUE_NULL, STR_EMPTY, 0, 0};
}
static inline struct sql_value sql_i64(int64_t i)
{
    return (struct sql_value){SQL_VALUE_I64, STR_EMPTY, i, 0};
}
static inline struct sql_value sql_real(double real)
{
    return (struct sql_value){SQL_VALUE_REAL, STR_EMPTY, 0, real};
}
static inline struct sql_value sql_text(struct str s)
{
    return (struct sql_value){SQL_VALUE_TEXT, s, 0, 0};
}
static inline struct sql_value sql_z(const char *z) { return sql_text(str_from(z)); }
static inline struct sql_value sql_blob(const void *p, size_t n)
{
    return (struct sql_value){SQL_VALUE_BLOB, str_make(p, n), 0, 0};
}
/* An id as 16 bytes; the pointer must outlive the statement. Zero ids are stored as NULL. */
static inline struct sql_value sql_id(const struct id *id)
{
    return id_is_zero(*id) ? sql_null() : sql_blob(id->bytes, sizeof id->bytes);
}

struct sql_binds {
    const struct sql_value *values;
    size_t count;
};
#define SQL_BIND(...)                                                                              \
    ((struct sql_binds){(const struct sql_value[]){__VA_ARGS__},                                   \
                        COUNT_OF(((const struct sql_value[]){__VA_ARGS__}))})
#define SQL_NO_BINDS ((struct sql_binds){NULL, 0})

/* Rows of a running query. End it with sql_end, or by reading to the end or to an error. */
struct sql_rows {
    struct db_txn *txn;
    void *statement; /* NULL: ended */
    void *cached;    /* where it goes back to, or NULL */
};

/* A statement without rows. RC_CONFLICT: a UNIQUE or foreign key constraint; RC_FULL; RC_IO. */
enum rc sql_exec(struct db_txn *txn, const char *text, struct sql_binds binds,
                 struct err *err) MUST_CHECK;
int64_t sql_changes(struct db_txn *txn); /* rows touched by the last sql_exec */

enum rc sql_query(struct db_txn *txn, const char *text, struct sql_binds binds,
                  struct sql_rows *rows, struct err *err) MUST_CHECK;
/* RC_OK: a row is there; RC_END: no more. Anything but RC_OK has ended the query. */
enum rc sql_next(struct sql_rows *rows, struct err *err) MUST_CHECK;
void sql_end(struct sql_rows *rows);
/* The first row only; RC_END when there is none. On RC_OK the caller ends `rows`. */
enum rc sql_first(struct sql_rows *rows, struct db_txn *txn, const char *text,
                  struct sql_binds binds, struct err *err) MUST_CHECK;
/* One integer from the first row; `absent` when there is none or it is NULL. */
enum rc sql_get_i64(struct db_txn *txn, const char *text, struct sql_binds binds, int64_t absent,
                    int64_t *out, struct err *err) MUST_CHECK;

/* Columns count from 0; texts are valid until the next row. */
bool sql_is_null(const struct sql_rows *rows, int column);
int64_t sql_column_i64(const struct sql_rows *rows, int column);
double sql_column_real(const struct sql_rows *rows, int column);
struct str sql_column_str(const struct sql_rows *rows, int column); /* text or blob */
struct id sql_column_id(const struct sql_rows *rows, int column);   /* zero for NULL */
/* Copied into the arena, ended by a NUL; NULL columns give an empty text. */
enum rc sql_column_copy(const struct sql_rows *rows, int column, struct arena *arena,
                        struct str *out, struct err *err) MUST_CHECK;
