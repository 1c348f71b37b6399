/* Storing and checking definitions. */
#include "govern/definition.h"
#include "base/limits.h"
#include "gateway/config.h"
#include "gateway/price.h"
#include "govern/key.h"
#include "pipeline/tools/tool.h"
#include "prompt/prompt.h"
#include "text/decode.h"
#include "text/json_tree.h"

#define SCRATCH_BYTES_MAX (16 * 1024 * 1024)

static enum rc full(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "The definition is too large.");
}

/* ---- checking ---- */

/* Routes need only know that their providers exist. */
static enum rc stand_in_provider(struct db_txn *txn, struct id project, struct str name,
                                 struct arena *arena, struct map *providers, struct err *err)
{
    struct object object;
    enum rc rc = object_get(txn, project, OBJECT_PROVIDER, name, arena, &object, err);

    if (rc == RC_NOT_FOUND) {
        if (err)
            *err = (struct err){0};
        return RC_OK; /* route_decode says it better */
    }
    if (rc != RC_OK || map_get(providers, name))
        return rc;
    struct provider *provider = ARENA_NEW(arena, struct provider);
    if (!provider)
        return full(err);
    provider->name = object.name;
    map_put(providers, provider->name, provider);
    return RC_OK;
}

static enum rc verify_route(struct db_txn *txn, const struct object *object, yyjson_val *json,
                            struct arena *arena, struct err *err)
{
    struct map providers;
    struct route route;
    size_t i, n;
    yyjson_val *target;
    enum rc rc = RC_OK;

    map_init(&providers);
    yyjson_arr_foreach(yyjson_obj_get(json, "targets"), i, n, target)
    {
        struct str name = json_get_text(target, "provider");
        if (rc == RC_OK && name.n)
            rc = stand_in_provider(txn, object->project, name, arena, &providers, err);
    }
    if (rc == RC_OK)
        rc = route_decode(object->project, object->name, json, &providers, arena, &route, err);
    map_fini(&providers);
    return rc;
}

static enum rc verify_limit(const struct object *object, yyjson_val *json, struct err *err)
{
    static const char *const members[] = {"limits", "budget", NULL};
    struct limits limits;
    struct place root;

    bool known = str_eq(object->name, STR("project")) || str_starts(object->name, STR("tag:")) ||
                 str_starts(object->name, STR("user:"));
    if (!known || object->name.n > 2 * LIMIT_TAG_BYTES + 8 ||
        (str_starts(object->name, STR("tag:")) && str_find_char(object->name, '=') < 5))
        return err_set_field(err, ERR_BAD_FIELD, "value",
                             "A limit is set on the project, a user, or a tag NAME=VALUE.");
    decode_root(&root, json, "");
    enum rc rc = decode_only(&root, members, err);
    return rc == RC_OK ? limits_decode(yyjson_obj_get(json, "limits"),
                                       yyjson_obj_get(json, "budget"), &limits, err)
                       : rc;
}

static enum rc verify_price(const struct object *object, yyjson_val *json, struct arena *arena,
                            struct err *err)
{
    ssize_t slash = str_find_char(object->name, '/');
    struct price_table *table = price_table_new(arena);

    if (!table)
        return full(err);
    enum rc rc = slash <= 0 || (size_t)slash + 1 == object->name.n
                     ? err_set_field(err, ERR_BAD_FIELD, "model",
                                     "A price belongs to a provider and a model.")
                     : price_table_add(table, arena, str_slice(object->name, 0, (size_t)slash),
                                       str_slice(object->name, (size_t)slash + 1, object->name.n),
                                       json, err);
    price_table_fini(table);
    return rc;
}

static enum rc verify_setting(yyjson_val *json, struct err *err)
{
    static const char *const members[] = {"capture", "retention_days", "retention_bytes", NULL};
    enum capture capture;
    int64_t number;
    struct place root;

    decode_root(&root, json, "");
    enum rc rc = decode_only(&root, members, err);
    if (rc == RC_OK)
        rc = capture_decode(&root, &capture, err);
    if (rc == RC_OK)
        rc = decode_i64(&root, "retention_days", 0, 36500, &number, err);
    if (rc == RC_OK)
        rc = decode_i64(&root, "retention_bytes", 0, INT64_MAX, &number, err);
    return rc;
}

static enum rc verify_revealed(struct db_txn *txn, const struct object *object, yyjson_val *json,
                               struct arena *arena, struct err *err)
{
    struct provider provider;
    struct tool *tool;
    struct key key;

    switch (object->kind) {
    case OBJECT_PROVIDER:
        return provider_decode(object->project, object->name, json, arena, &provider, err);
    case OBJECT_ROUTE: return verify_route(txn, object, json, arena, err);
    case OBJECT_KEY: return key_decode(object, json, arena, &key, err);
    case OBJECT_LIMIT: return verify_limit(object, json, err);
    case OBJECT_PRICE: return verify_price(object, json, arena, err);
    case OBJECT_SETTING: return verify_setting(json, err);
    case OBJECT_PROMPT: return prompt_check(json, err);
    case OBJECT_TOOL: return tool_decode(object->name, json, arena, &tool, err);
    default: return RC_OK;
    }
}

enum rc definition_verify(struct db_txn *txn, const struct object *object, struct err *err)
{
    struct arena scratch;
    yyjson_val *json;

    arena_init(&scratch, SCRATCH_BYTES_MAX);
    enum rc rc = object_reveal(db_txn_secrets(txn), object, &scratch, &json, err);
    if (rc == RC_OK)
        rc = verify_revealed(txn, object, json, &scratch, err);
    arena_fini(&scratch);
    return rc;
}

/* ---- what only those may set who run the server ---- */

static bool holds_reference(struct str text)
{
    return str_find(text, STR("${env:")) >= 0 || str_find(text, STR("${file:")) >= 0;
}

static enum rc guard_references(const struct principal *principal, yyjson_mut_val *spec,
                                struct arena *arena, struct err *err)
{
    struct str text;

    if (principal->permissions & PERMISSION_BIT(SERVER_WRITE))
        return RC_OK;
    enum rc rc = json_write_tree(spec, arena, &text, err);
    if (rc == RC_OK && holds_reference(text))
        rc = err_set(err, ERR_FORBIDDEN,
                     "Only who has the permission server.write may refer to this server's "
                     "environment and files.");
    return rc;
}

/* A provider makes this machine connect somewhere, read files, start programs. Who does not run the
 * server may reach public addresses only, and read nothing of it. */
static enum rc guard_provider(const struct principal *principal, yyjson_mut_doc *doc,
                              yyjson_mut_val *spec, struct arena *arena, struct err *err)
{
    static const char *const reserved[] = {"command", "ca_file", "proxy"};

    if (principal->permissions & PERMISSION_BIT(SERVER_WRITE))
        return RC_OK;
    for (size_t i = 0; i < COUNT_OF(reserved); i++)
        if (yyjson_mut_obj_get(spec, reserved[i]))
            return err_set_field(err, ERR_FORBIDDEN, reserved[i],
                                 "Only who has the permission server.write may set '%s'.",
                                 reserved[i]);
    yyjson_mut_val *url = yyjson_mut_obj_get(spec, "base_url");
    if (str_starts(str_make(yyjson_mut_get_str(url), yyjson_mut_get_len(url)), STR("unix:")))
        return err_set_field(err, ERR_FORBIDDEN, "base_url",
                             "Only who has the permission server.write may name a socket.");
    enum rc rc = guard_references(principal, spec, arena, err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_obj_remove_key(spec, "public_only");
    yyjson_mut_obj_add_true(doc, spec, "public_only");
    return RC_OK;
}

static bool same_text(yyjson_val *old, yyjson_mut_val *spec, const char *member)
{
    struct str text = json_get_text(old, member);
    yyjson_mut_val *value = yyjson_mut_obj_get(spec, member);
    return yyjson_mut_is_str(value) ? yyjson_mut_equals_strn(value, text.p, text.n)
                                    : !value && !yyjson_obj_get(old, member);
}

/* Whether the object has a secret that was given before and is not given again. */
static bool keeps_secret(yyjson_val *old, yyjson_mut_val *spec, const char *member,
                         struct arena *arena)
{
    yyjson_mut_val *list = yyjson_mut_obj_get(spec, member), *key, *value;
    size_t i, n;
    yyjson_mut_obj_foreach(list, i, n, key, value)
    {
        struct str name = str_make(yyjson_mut_get_str(key), yyjson_mut_get_len(key)), mask,
                   now = str_make(yyjson_mut_get_str(value), yyjson_mut_get_len(value)),
                   before = json_text(yyjson_obj_getn(yyjson_obj_get(old, member), name.p, name.n));
        if (secret_is_sealed(before) &&
            (str_eq(now, before) ||
             (secret_mask(before, arena, &mask, NULL) == RC_OK && str_eq(now, mask))))
            return true;
    }
    return false;
}

/* A secret goes where its giver meant it to go: with another address it must be given again, or
 * whoever may change the tool could have it sent to himself. */
static enum rc guard_tool(const struct principal *principal, yyjson_val *old, yyjson_mut_val *spec,
                          struct arena *arena, struct err *err)
{
    static const char *const addresses[] = {"url", "server", "document"}, *const secrets[] = {
                                                                              "headers", "fixed"};
    bool moved = false;
    for (size_t i = 0; i < COUNT_OF(addresses); i++)
        moved |= !same_text(old, spec, addresses[i]);
    for (size_t i = 0; moved && i < COUNT_OF(secrets); i++)
        if (keeps_secret(old, spec, secrets[i], arena))
            return err_set_field(err, ERR_BAD_FIELD, secrets[i],
                                 "With another address, give the secrets again.");
    return guard_references(principal, spec, arena, err);
}

/* ---- changing ---- */

/* `old` (NULL: none) with `body` merged in, without what is only shown. */
static enum rc merged_spec(const struct principal *principal, enum object_kind kind,
                           yyjson_val *old, yyjson_val *body, struct arena *arena, yyjson_val **out,
                           struct err *err)
{
    static const char *const shown[] = {"name",   "origin",     "version",
                                        "status", "created_at", "updated_at"};
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *empty = doc ? yyjson_mut_obj(doc) : NULL;
    yyjson_doc *nothing = empty ? json_freeze(empty, arena) : NULL;

    if (!nothing)
        return full(err);
    yyjson_mut_val *spec = yyjson_merge_patch(doc, old ? old : yyjson_doc_get_root(nothing), body);
    if (!spec)
        return full(err);
    for (size_t i = 0; i < COUNT_OF(shown); i++)
        yyjson_mut_obj_remove_key(spec, shown[i]);
    enum rc rc = kind == OBJECT_PROVIDER ? guard_provider(principal, doc, spec, arena, err)
                 : kind == OBJECT_TOOL   ? guard_tool(principal, old, spec, arena, err)
                                         : RC_OK;
    if (rc != RC_OK)
        return rc;
    yyjson_doc *frozen = json_freeze(spec, arena);
    *out = yyjson_doc_get_root(frozen);
    return frozen ? RC_OK : full(err);
}

static enum rc put_and_verify(struct db_txn *txn, const struct principal *principal,
                              const struct actor *actor, struct object_change *change,
                              yyjson_val *old, yyjson_val *body, struct arena *arena,
                              struct object *out, struct err *err)
{
    if (!yyjson_is_obj(body))
        return err_set(err, ERR_BAD_FIELD, "A %s must be an object.",
                       object_kind_name(change->kind));
    if (change->name.n == 0 || change->name.n > 3 * LIMIT_TAG_BYTES)
        return err_set_field(err, ERR_BAD_FIELD, "name", "A %s needs a name.",
                             object_kind_name(change->kind));
    change->project = principal->project;
    enum rc rc = merged_spec(principal, change->kind, old, body, arena, &change->spec, err);
    if (rc == RC_OK)
        rc = object_put(txn, actor, change, arena, out, err);
    return rc == RC_OK ? definition_verify(txn, out, err) : rc;
}

enum rc definition_create(struct db_txn *txn, const struct principal *principal,
                          const struct actor *actor, enum object_kind kind, struct str name,
                          yyjson_val *body, struct arena *arena, struct object *out,
                          struct err *err)
{
    struct object_change change = {.kind = kind, .name = name, .create_only = true};

    return put_and_verify(txn, principal, actor, &change, NULL, body, arena, out, err);
}

enum rc definition_put(struct db_txn *txn, const struct principal *principal,
                       const struct actor *actor, enum object_kind kind, struct str name,
                       yyjson_val *body, struct arena *arena, struct object *out, struct err *err)
{
    struct object_change change = {.kind = kind, .name = name};

    return put_and_verify(txn, principal, actor, &change, NULL, body, arena, out, err);
}

enum rc definition_patch(struct db_txn *txn, const struct principal *principal,
                         const struct actor *actor, enum object_kind kind, struct str name,
                         yyjson_val *patch, struct arena *arena, struct object *out,
                         struct err *err)
{
    struct object_change change = {.kind = kind, .name = name};
    struct object old;
    yyjson_doc *doc;
    enum rc rc = object_get(txn, principal->project, kind, name, arena, &old, err);

    if (rc == RC_OK)
        rc = json_read(old.spec, arena, &doc, err);
    if (rc != RC_OK)
        return rc;
    return put_and_verify(txn, principal, actor, &change, yyjson_doc_get_root(doc), patch, arena,
                          out, err);
}

struct search {
    struct str provider;
    struct str route; /* the first that names it, or empty */
    struct arena *arena;
};

static enum rc search_route(void *arg, const struct object *object, struct err *err)
{
    struct search *search = arg;
    struct arena scratch;
    yyjson_doc *doc;
    size_t i, n;
    yyjson_val *target;

    if (search->route.n || str_find(object->spec, search->provider) < 0)
        return RC_OK;
    arena_init(&scratch, SCRATCH_BYTES_MAX);
    enum rc rc = json_read(object->spec, &scratch, &doc, err);
    yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(rc == RC_OK ? doc : NULL), "targets"), i,
                       n, target)
    {
        if (str_eq(json_get_text(target, "provider"), search->provider))
            search->route = arena_copy(search->arena, object->name);
    }
    arena_fini(&scratch);
    return rc;
}

enum rc definition_delete(struct db_txn *txn, const struct principal *principal,
                          const struct actor *actor, enum object_kind kind, struct str name,
                          struct arena *arena, struct err *err)
{
    struct search search = {.provider = name, .arena = arena};
    enum rc rc = RC_OK;

    if (kind == OBJECT_PROVIDER)
        rc = object_each(txn, principal->project, OBJECT_ROUTE, search_route, &search, err);
    if (rc == RC_OK && search.route.n)
        return err_set(err, ERR_CONFLICT,
                       "The route '%.*s' still uses this provider: change or delete it first.",
                       STR_ARG(search.route));
    return rc == RC_OK
               ? object_delete(txn, actor, principal->project, kind, name, false, arena, err)
               : rc;
}
