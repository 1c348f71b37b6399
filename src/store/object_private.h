/* What the files of versioned objects share. */
#pragma once
#include "store/object.h"
#include "store/sql.h"
#include "text/json_tree.h"

struct object_kind_row {
    const char *name;
    bool versions;
    const char *secrets, *hidden; /* members, separated by spaces */
};
const struct object_kind_row *object_kind_row(enum object_kind kind);

/* The definition to store: keys sorted, secrets sealed. `old` (may be NULL) gives back the secrets
 * that the new definition shows masked, or holds unchanged. */
enum rc object_seal(const struct secret_box *box, const struct object_change *change,
                    const struct object *old, struct arena *arena, struct str *spec,
                    struct err *err) MUST_CHECK;
enum rc object_show_text(const struct object *object, struct arena *arena, struct str *out,
                         struct err *err) MUST_CHECK;
enum rc object_version_add(struct db_txn *txn, const struct object *object,
                           struct err *err) MUST_CHECK;
enum rc object_labels_delete(struct db_txn *txn, const struct object *object,
                             struct err *err) MUST_CHECK;
