/* API keys: their definition, and what may be done to them. A key is an object of kind "key" whose
 * stored definition adds to what its maker said: `prefix` (the secret's first characters, to
 * recognise it by), `secret_sha256` and, once revoked, `revoked_at`. */
#include "govern/key.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/rand.h"
#include "gateway/config.h"
#include "text/decode.h"
#include "text/json_tree.h"
#include <stdio.h>

#define SECRET_CHARACTERS     40 /* of 62: 238 bits */
#define SECRET_CHARACTERS_MIN 16 /* of a key in the configuration file */
#define PREFIX_CHARACTERS     8
#define GLOBS_MAX             256
#define SCOPES_MAX            8

bool key_allows_model(const struct key *key, struct str model)
{
    for (size_t i = 0; i < key->model_glob_count; i++)
        if (str_matches_glob(model, key->model_globs[i]))
            return true;
    return false;
}

/* ---- decoding ---- */

static enum rc full(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "The key's definition is too large.");
}

static enum rc keep(struct arena *arena, struct str *text, struct err *err)
{
    *text = arena_copy(arena, text->n ? *text : STR(""));
    return text->p ? RC_OK : full(err);
}

static enum rc decode_scopes(const struct place *root, struct arena *arena, struct principal *out,
                             struct err *err)
{
    static const struct {
        struct str scope;
        enum role role;
    } known[] = {{STR_INIT("call"), ROLE_NONE},
                 {STR_INIT("read"), ROLE_VIEWER},
                 {STR_INIT("write"), ROLE_EDITOR},
                 {STR_INIT("admin"), ROLE_ADMIN},
                 {STR_INIT("owner"), ROLE_OWNER}};
    struct str *scopes = NULL;
    size_t count = 0;
    enum rc rc =
        decode_texts(root, "scopes", SCOPES_MAX, LIMIT_NAME_BYTES, arena, &scopes, &count, err);

    out->role = ROLE_NONE;
    out->permissions = count == 0 ? PERMISSION_BIT(CALL_MAKE) : 0;
    for (size_t i = 0; rc == RC_OK && i < count; i++) {
        size_t at = 0;
        while (at < COUNT_OF(known) && !str_eq(scopes[i], known[at].scope))
            at++;
        if (at == COUNT_OF(known))
            return err_set_field(err, ERR_BAD_FIELD, "scopes",
                                 "'%.*s' is no scope: call, read, write and admin are.",
                                 (int)MIN(scopes[i].n, 60), scopes[i].p);
        out->role = MAX(out->role, known[at].role);
        out->permissions |= at == 0 ? PERMISSION_BIT(CALL_MAKE) : role_permissions(known[at].role);
    }
    return rc;
}

static enum rc decode_models(const struct place *root, struct arena *arena, struct key *out,
                             struct err *err)
{
    struct place place;
    enum rc rc = decode_member(root, "models", DECODE_OPTIONAL, &place, err);

    if (rc == RC_OK && !place.value) { /* not told: all; an empty list means none */
        out->model_globs = ARENA_NEW_ARRAY(arena, struct str, 1);
        if (!out->model_globs)
            return full(err);
        out->model_globs[0] = STR("*");
        out->model_glob_count = 1;
        return RC_OK;
    }
    return rc == RC_OK ? decode_texts(root, "models", GLOBS_MAX, 2 * LIMIT_NAME_BYTES, arena,
                                      &out->model_globs, &out->model_glob_count, err)
                       : rc;
}

static enum rc decode_tags(const struct place *root, struct arena *arena, struct key *out,
                           struct err *err)
{
    struct place place;
    size_t i, n;
    yyjson_val *key, *value;
    enum rc rc = decode_member(root, "tags", DECODE_OPTIONAL, &place, err);

    if (rc == RC_OK)
        rc = decode_expect_object(&place, err);
    if (rc != RC_OK || !place.value)
        return rc;
    if (yyjson_obj_size(place.value) > LIMIT_TAGS)
        return decode_refuse(&place, err, "has more than %d entries.", LIMIT_TAGS);
    out->tags = ARENA_NEW_ARRAY(arena, struct call_tag, yyjson_obj_size(place.value) + 1);
    if (!out->tags)
        return full(err);
    yyjson_obj_foreach(place.value, i, n, key, value)
    {
        struct call_tag tag = {json_text(key), json_text(value)};
        if (!tag.name.n || tag.name.n > LIMIT_TAG_BYTES || !yyjson_is_str(value) ||
            tag.value.n > LIMIT_TAG_BYTES)
            return decode_refuse(&place, err, "must hold names and texts of at most %d bytes.",
                                 LIMIT_TAG_BYTES);
        if (keep(arena, &tag.name, err) != RC_OK || keep(arena, &tag.value, err) != RC_OK)
            return full(err);
        out->tags[out->tag_count++] = tag;
    }
    return RC_OK;
}

static enum rc decode_time(const struct place *root, const char *name, int64_t *wall_ns,
                           struct err *err)
{
    struct str text = STR_EMPTY;
    struct place place;
    enum rc rc = decode_str(root, name, DECODE_OPTIONAL, 64, &text, err);

    if (rc != RC_OK || !text.n)
        return rc;
    rc = decode_member(root, name, DECODE_OPTIONAL, &place, err);
    if (rc == RC_OK && clock_parse_iso(text, wall_ns) != RC_OK)
        rc = decode_refuse(&place, err, "must be a time such as 2027-01-31T12:00:00Z, or a date.");
    return rc;
}

static enum rc decode_identity(const struct place *root, struct key *out, struct arena *arena,
                               struct err *err)
{
    struct str digest = STR_EMPTY;
    int64_t revoked_ns = 0;
    enum rc rc = decode_str(root, "name", DECODE_REQUIRED, LIMIT_NAME_BYTES, &out->name, err);

    if (rc == RC_OK)
        rc = keep(arena, &out->name, err);
    if (rc == RC_OK)
        rc = decode_str(root, "secret_sha256", DECODE_OPTIONAL, 2 * SHA256_BYTES, &digest, err);
    if (rc == RC_OK && digest.n && hex_decode(digest, out->secret_sha256, SHA256_BYTES) != RC_OK)
        rc = err_set_field(err, ERR_BAD_FIELD, "secret_sha256",
                           "'secret_sha256' must be 64 hex digits.");
    if (rc == RC_OK)
        rc = decode_time(root, "revoked_at", &revoked_ns, err);
    out->revoked = revoked_ns != 0;
    return rc;
}

enum rc key_decode(const struct object *object, yyjson_val *json, struct arena *arena,
                   struct key *out, struct err *err)
{
    static const char *const members[] = {
        "name", "scopes",  "models", "expires_at",    "limits",     "budget", "tags",
        "user", "capture", "prefix", "secret_sha256", "revoked_at", NULL};
    struct place root;

    *out = (struct key){0};
    decode_root(&root, json, "");
    enum rc rc = json ? decode_only(&root, members, err)
                      : err_set(err, ERR_BAD_FIELD, "A key must be an object.");
    if (rc == RC_OK)
        rc = id_parse(object->name, "key", &out->id);
    if (rc == RC_OK)
        rc = decode_identity(&root, out, arena, err);
    if (rc == RC_OK)
        rc = decode_scopes(&root, arena, &out->principal, err);
    if (rc == RC_OK)
        rc = decode_models(&root, arena, out, err);
    if (rc == RC_OK)
        rc = decode_time(&root, "expires_at", &out->expires_wall_ns, err);
    if (rc == RC_OK)
        rc = limits_decode(yyjson_obj_get(json, "limits"), yyjson_obj_get(json, "budget"),
                           &out->limits, err);
    if (rc == RC_OK)
        rc = decode_tags(&root, arena, out, err);
    if (rc == RC_OK)
        rc = decode_str(&root, "user", DECODE_OPTIONAL, LIMIT_TAG_BYTES, &out->user, err);
    if (rc == RC_OK)
        rc = keep(arena, &out->user, err);
    if (rc == RC_OK)
        rc = capture_decode(&root, &out->capture, err);
    out->principal.project = object->project;
    out->principal.key = out->id;
    out->principal.name = out->name;
    return rc;
}

/* ---- changing ---- */

static void secret_make(char out[4 + SECRET_CHARACTERS + 1])
{
    static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint8_t random[64];
    size_t n = 4, at = sizeof random;

    memcpy(out, "cap_", 4);
    while (n < 4 + SECRET_CHARACTERS) {
        if (at == sizeof random) {
            rand_secret(random, sizeof random);
            at = 0;
        }
        if (random[at] < 4 * 62) /* the rest would favour the first letters */
            out[n++] = alphabet[random[at] % 62];
        at++;
    }
    out[n] = 0;
}

/* The maker's members and the given secret's traces, as a tree. */
static enum rc definition_with_secret(yyjson_val *definition, struct str secret,
                                      struct arena *arena, yyjson_val **out, struct err *err)
{
    static const char *const mine[] = {"prefix", "secret_sha256", "revoked_at"};
    char hex[SHA256_HEX_BYTES];
    uint8_t digest[SHA256_BYTES];
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *root = doc ? yyjson_val_mut_copy(doc, definition) : NULL;

    if (!root)
        return full(err);
    for (size_t i = 0; i < COUNT_OF(mine); i++)
        if (yyjson_mut_obj_get(root, mine[i]))
            return err_set_field(err, ERR_BAD_FIELD, mine[i], "'%s' cannot be set.", mine[i]);
    hash_sha256(secret.p, secret.n, digest);
    hex_encode(digest, sizeof digest, hex);
    json_set_text(doc, root, "prefix", str_slice(secret, 0, PREFIX_CHARACTERS));
    json_set_text(doc, root, "secret_sha256", str_make(hex, 2 * SHA256_BYTES));
    yyjson_doc *frozen = json_freeze(root, arena);
    *out = yyjson_doc_get_root(frozen);
    return frozen ? RC_OK : full(err);
}

/* Nobody makes a key that may do more than himself. */
static enum rc check_no_escalation(const struct principal *principal, const struct key *key,
                                   struct err *err)
{
    uint64_t beyond = key->principal.permissions & ~principal->permissions;

    if (!beyond)
        return RC_OK;
    return err_set_field(err, ERR_FORBIDDEN, "scopes",
                         "The key would have the permission %s, which you do not have yourself.",
                         permission_name((enum permission)__builtin_ctzll(beyond)));
}

static enum rc key_store(struct db_txn *txn, const struct actor *actor,
                         const struct principal *principal, const struct object_change *change,
                         struct arena *arena, struct object *out, struct err *err)
{
    struct object object = {.project = change->project, .kind = OBJECT_KEY, .name = change->name};
    struct key key;
    enum rc rc = key_decode(&object, change->spec, arena, &key, err);

    if (rc == RC_OK && principal)
        rc = check_no_escalation(principal, &key, err);
    return rc == RC_OK ? object_put(txn, actor, change, arena, out, err) : rc;
}

enum rc key_create(struct db_txn *txn, const struct principal *principal, const struct actor *actor,
                   yyjson_val *definition, struct arena *arena, struct str *secret,
                   struct object *out, struct err *err)
{
    char text[4 + SECRET_CHARACTERS + 1], name[ID_TEXT_BYTES_MAX];
    yyjson_val *spec;

    if (!yyjson_is_obj(definition))
        return err_set(err, ERR_BAD_FIELD, "A key must be an object.");
    secret_make(text);
    *secret = arena_copy(arena, str_from(text));
    if (!secret->p)
        return full(err);
    size_t n = id_format(id_new(), "key", name);
    struct str id_text = arena_copy(arena, str_make(name, n));
    enum rc rc = definition_with_secret(definition, *secret, arena, &spec, err);
    if (rc != RC_OK || !id_text.p)
        return rc == RC_OK ? full(err) : rc;
    struct object_change change = {.project = principal->project,
                                   .kind = OBJECT_KEY,
                                   .name = id_text,
                                   .spec = spec,
                                   .create_only = true};
    return key_store(txn, actor, principal, &change, arena, out, err);
}

/* The same in every installation and after every restart: the first 16 bytes of a digest. */
struct id key_file_id(struct id project, struct str name)
{
    uint8_t digest[SHA256_BYTES];
    struct id id;

    hash_hmac_sha256(str_make(project.bytes, sizeof project.bytes), name, digest);
    memcpy(id.bytes, digest, sizeof id.bytes);
    return id;
}

enum rc key_put_from_file(struct db_txn *txn, const struct actor *actor, struct id project,
                          struct str secret, yyjson_val *definition, struct arena *arena,
                          struct object *out, struct err *err)
{
    char name[ID_TEXT_BYTES_MAX];
    yyjson_val *spec;

    if (secret.n < SECRET_CHARACTERS_MIN)
        return err_set_field(err, ERR_BAD_FIELD, "key",
                             "The key is shorter than %d characters: make one with "
                             "`openssl rand -hex 24`.",
                             SECRET_CHARACTERS_MIN);
    size_t n = id_format(key_file_id(project, json_get_text(definition, "name")), "key", name);
    struct str id_text = arena_copy(arena, str_make(name, n));
    enum rc rc = definition_with_secret(definition, secret, arena, &spec, err);
    if (rc != RC_OK || !id_text.p)
        return rc == RC_OK ? full(err) : rc;
    struct object_change change = {
        .project = project, .kind = OBJECT_KEY, .name = id_text, .spec = spec, .from_file = true};
    return key_store(txn, actor, NULL, &change, arena, out, err);
}

static enum rc key_load(struct db_txn *txn, const struct principal *principal, struct id id,
                        struct arena *arena, struct object *out, yyjson_val **spec, struct err *err)
{
    char name[ID_TEXT_BYTES_MAX];
    struct key key;
    yyjson_doc *doc;
    size_t n = id_format(id, "key", name);
    enum rc rc =
        object_get(txn, principal->project, OBJECT_KEY, str_make(name, n), arena, out, err);

    if (rc == RC_OK)
        rc = json_read(out->spec, arena, &doc, err);
    if (rc != RC_OK)
        return rc;
    *spec = yyjson_doc_get_root(doc);
    rc = key_decode(out, *spec, arena, &key, err);
    /* Else an editor could take over an admin's key by changing or revoking it. */
    return rc == RC_OK ? check_no_escalation(principal, &key, err) : rc;
}

static enum rc key_merge(struct db_txn *txn, const struct principal *principal,
                         const struct actor *actor, const struct object *old, yyjson_val *spec,
                         yyjson_val *patch, struct arena *arena, struct object *out,
                         struct err *err)
{
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_doc *merged = doc ? json_freeze(yyjson_merge_patch(doc, spec, patch), arena) : NULL;

    if (!merged)
        return full(err);
    struct object_change change = {.project = old->project,
                                   .kind = OBJECT_KEY,
                                   .name = old->name,
                                   .spec = yyjson_doc_get_root(merged)};
    return key_store(txn, actor, principal, &change, arena, out, err);
}

enum rc key_update(struct db_txn *txn, const struct principal *principal, const struct actor *actor,
                   struct id id, yyjson_val *patch, struct arena *arena, struct object *out,
                   struct err *err)
{
    static const char *const allowed[] = {"name",   "scopes", "models", "expires_at", "limits",
                                          "budget", "tags",   "user",   "capture",    NULL};
    struct object old;
    yyjson_val *spec;
    struct place root;

    decode_root(&root, patch, "");
    enum rc rc = decode_only(&root, allowed, err);
    if (rc == RC_OK)
        rc = key_load(txn, principal, id, arena, &old, &spec, err);
    return rc == RC_OK ? key_merge(txn, principal, actor, &old, spec, patch, arena, out, err) : rc;
}

enum rc key_revoke(struct db_txn *txn, const struct principal *principal, const struct actor *actor,
                   struct id id, struct arena *arena, struct err *err)
{
    char at[CLOCK_ISO_BYTES_MAX], text[64];
    struct object old;
    yyjson_val *spec;
    yyjson_doc *patch;
    enum rc rc = key_load(txn, principal, id, arena, &old, &spec, err);

    if (rc != RC_OK || yyjson_obj_get(spec, "revoked_at"))
        return rc;
    clock_format_iso(db_txn_now_ns(txn), 3, at);
    int n = snprintf(text, sizeof text, "{\"revoked_at\":\"%s\"}", at);
    rc = json_read(str_make(text, (size_t)n), arena, &patch, err);
    return rc == RC_OK ? key_merge(txn, principal, actor, &old, spec, yyjson_doc_get_root(patch),
                                   arena, NULL, err)
                       : rc;
}
