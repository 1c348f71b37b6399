/* See manifest.h. */
#include "govern/manifest.h"
#include "base/limits.h"
#include "gateway/config.h"
#include "gateway/price.h"
#include "govern/key.h"
#include "pipeline/tools/tool.h"
#include "text/decode.h"
#include "text/json_tree.h"
#include <stdio.h>

#define ITEMS_MAX        50000
#define DETAIL_BYTES_MAX 400

const char *const MANIFEST_SECTIONS[] = {"providers", "routes", "keys",     "limits",
                                         "prices",    "tools",  "settings", NULL};

/* ---- reading ---- */

struct reading {
    struct manifest *out;
    struct arena *arena;
    struct err *err;
};

static enum rc add_item(struct reading *r, struct manifest_item item, yyjson_val *spec)
{
    if (r->out->count == ITEMS_MAX)
        return err_set(r->err, ERR_TOO_LARGE, "more than %d objects", ITEMS_MAX);
    if (!yyjson_is_obj(spec))
        return err_set_field(r->err, ERR_BAD_FIELD, item.path.p, "this must be an object");
    item.spec = spec;
    r->out->items[r->out->count++] = item;
    return RC_OK;
}

/* The definition as it is checked and stored: without the secret. */
static enum rc own_spec(const struct manifest_item *item, struct arena *arena, yyjson_val **out,
                        struct err *err)
{
    *out = item->spec;
    if (item->kind != OBJECT_KEY || !yyjson_obj_get(item->spec, "key"))
        return RC_OK;
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *copy = doc ? yyjson_val_mut_copy(doc, item->spec) : NULL;
    yyjson_mut_obj_remove_key(copy, "key");
    yyjson_doc *frozen = json_freeze(copy, arena);
    *out = yyjson_doc_get_root(frozen);
    return frozen ? RC_OK : err_set(err, ERR_TOO_LARGE, "too large");
}

/* A section that maps names to definitions. */
static enum rc read_named(struct reading *r, yyjson_val *section, const char *title,
                          enum object_kind kind)
{
    size_t i, n;
    yyjson_val *key, *value;
    if (!yyjson_is_obj(section))
        return err_set_field(r->err, ERR_BAD_FIELD, title, "'%s' must map names to definitions",
                             title);
    yyjson_obj_foreach(section, i, n, key, value)
    {
        struct manifest_item item = {.kind = kind, .name = json_text(key)};
        item.path = arena_printf(r->arena, "%s.%.*s", title, STR_ARG(item.name));
        enum rc rc = item.path.p ? add_item(r, item, value) : RC_LIMIT;
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

static enum rc read_prices(struct reading *r, yyjson_val *section)
{
    size_t i, n, j, m;
    yyjson_val *provider, *models, *model, *prices;
    yyjson_obj_foreach(section, i, n, provider, models)
    {
        yyjson_obj_foreach(models, j, m, model, prices)
        {
            struct manifest_item item = {.kind = OBJECT_PRICE};
            struct str by = json_text(provider), of = json_text(model);
            item.name = arena_printf(r->arena, "%.*s/%.*s", STR_ARG(by), STR_ARG(of));
            item.path = arena_printf(r->arena, "prices.%.*s.%.*s", STR_ARG(by), STR_ARG(of));
            enum rc rc = item.path.p ? add_item(r, item, prices) : RC_LIMIT;
            if (rc != RC_OK)
                return rc;
        }
    }
    return RC_OK;
}

static enum rc read_keys(struct reading *r, yyjson_val *section)
{
    size_t i, n;
    yyjson_val *value;
    if (!yyjson_is_arr(section))
        return err_set_field(r->err, ERR_BAD_FIELD, "keys",
                             "'keys' must be a list of keys, each with a name");
    yyjson_arr_foreach(section, i, n, value)
    {
        struct manifest_item item = {.kind = OBJECT_KEY, .name = json_get_text(value, "name")};
        item.secret = json_get_text(value, "key");
        item.path = arena_printf(r->arena, "keys[%zu]", i);
        if (!item.name.n)
            return err_set_field(r->err, ERR_MISSING_FIELD, item.path.p, "a key needs a 'name'");
        enum rc rc = add_item(r, item, value);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

/* {kind: tag, value: team=a, limits: …} is the object "tag:team=a" {limits: …}. */
static enum rc read_limits(struct reading *r, yyjson_val *section)
{
    static const char *const members[] = {"kind", "value", "limits", "budget", NULL};
    size_t i, n;
    yyjson_val *value;
    yyjson_arr_foreach(section, i, n, value)
    {
        struct manifest_item item = {.kind = OBJECT_LIMIT,
                                     .path = arena_printf(r->arena, "limits[%zu]", i)};
        struct str kind = json_get_text(value, "kind"), subject = json_get_text(value, "value");
        struct place place;
        decode_root(&place, value, item.path.p);
        enum rc rc = decode_only(&place, members, r->err);
        if (rc != RC_OK)
            return rc;
        bool project = str_eq(kind, STR("project"));
        if (!project && (!subject.n || (!str_eq(kind, STR("tag")) && !str_eq(kind, STR("user")))))
            return decode_refuse(&place, r->err,
                                 "needs a 'kind' of tag, user or project, and a 'value'");
        item.name =
            project ? kind : arena_printf(r->arena, "%.*s:%.*s", STR_ARG(kind), STR_ARG(subject));
        yyjson_mut_doc *doc = json_tree_new(r->arena);
        yyjson_mut_val *spec = yyjson_mut_obj(doc);
        for (const char *const *name = &members[2]; *name; name++)
            if (yyjson_obj_get(value, *name))
                yyjson_mut_obj_add_val(doc, spec, *name,
                                       yyjson_val_mut_copy(doc, yyjson_obj_get(value, *name)));
        yyjson_doc *frozen = json_freeze(spec, r->arena);
        rc = frozen ? add_item(r, item, yyjson_doc_get_root(frozen)) : RC_LIMIT;
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

static size_t count_items(yyjson_val *root)
{
    size_t count = 1, i, n;
    yyjson_val *key, *value;
    for (const char *const *name = MANIFEST_SECTIONS; *name; name++)
        count += yyjson_get_len(yyjson_obj_get(root, *name));
    yyjson_obj_foreach(yyjson_obj_get(root, "prices"), i, n, key, value) count +=
        yyjson_obj_size(value);
    return MIN(count, ITEMS_MAX);
}

enum rc manifest_read(yyjson_val *root, struct arena *arena, struct manifest *out, struct err *err)
{
    struct reading r = {out, arena, err};
    yyjson_val *section;
    enum rc rc = RC_OK;
    *out =
        (struct manifest){.items = ARENA_NEW_ARRAY(arena, struct manifest_item, count_items(root))};
    if (!out->items)
        return err_set(err, ERR_TOO_LARGE, "too many objects");
    if (rc == RC_OK && (section = yyjson_obj_get(root, "providers")))
        rc = read_named(&r, section, "providers", OBJECT_PROVIDER);
    if (rc == RC_OK && (section = yyjson_obj_get(root, "routes")))
        rc = read_named(&r, section, "routes", OBJECT_ROUTE);
    if (rc == RC_OK && (section = yyjson_obj_get(root, "keys")))
        rc = read_keys(&r, section);
    if (rc == RC_OK && (section = yyjson_obj_get(root, "limits")))
        rc = read_limits(&r, section);
    if (rc == RC_OK && (section = yyjson_obj_get(root, "prices")))
        rc = read_prices(&r, section);
    if (rc == RC_OK && (section = yyjson_obj_get(root, "tools")))
        rc = read_named(&r, section, "tools", OBJECT_TOOL);
    if (rc == RC_OK && (section = yyjson_obj_get(root, "settings")))
        rc = add_item(&r,
                      (struct manifest_item){
                          .kind = OBJECT_SETTING, .name = STR("project"), .path = STR("settings")},
                      section);
    if (rc == RC_LIMIT && err->code == ERR_NONE)
        err_set(err, ERR_TOO_LARGE, "the definitions are too large");
    return rc;
}

/* ---- checking ---- */

struct checking {
    struct id project;
    struct map providers; /* name → struct provider */
    struct price_table *prices;
    struct arena *arena;
};

static enum rc check_item(struct checking *c, const struct manifest_item *item, struct err *err)
{
    struct provider *provider;
    struct route route;
    struct limits limits;
    struct tool *tool;
    struct key key;
    struct object object = {.project = c->project, .kind = OBJECT_KEY};
    char id[ID_TEXT_BYTES_MAX];
    yyjson_val *spec;
    ssize_t slash;
    enum rc rc;
    if (item->in_force && item->kind != OBJECT_PROVIDER) /* routes refer to those */
        return RC_OK;
    switch (item->kind) {
    case OBJECT_PROVIDER:
        provider = ARENA_NEW(c->arena, struct provider);
        if (!provider ||
            provider_decode(c->project, item->name, item->spec, c->arena, provider, err) != RC_OK)
            return provider ? err->rc : err_set(err, ERR_TOO_LARGE, "too many providers");
        map_put(&c->providers, provider->name, provider);
        return RC_OK;
    case OBJECT_ROUTE:
        return route_decode(c->project, item->name, item->spec, &c->providers, c->arena, &route,
                            err);
    case OBJECT_LIMIT:
        return limits_decode(yyjson_obj_get(item->spec, "limits"),
                             yyjson_obj_get(item->spec, "budget"), &limits, err);
    case OBJECT_KEY:
        object.name = str_make(id, id_format(key_file_id(c->project, item->name), "key", id));
        rc = own_spec(item, c->arena, &spec, err);
        return rc == RC_OK ? key_decode(&object, spec, c->arena, &key, err) : rc;
    case OBJECT_PRICE:
        slash = str_find_char(item->name, '/');
        return price_table_add(c->prices, c->arena, str_slice(item->name, 0, (size_t)slash),
                               str_slice(item->name, (size_t)slash + 1, item->name.n), item->spec,
                               err);
    case OBJECT_TOOL: return tool_decode(item->name, item->spec, c->arena, &tool, err);
    default: return RC_OK;
    }
}

/* "routes.smart" before the field, so that the place is known in the whole tree. */
static enum rc at_item(struct err *err, const struct manifest_item *item)
{
    char field[ERR_FIELD_BYTES_MAX];
    snprintf(field, sizeof(field), "%.*s%s%s", STR_ARG(item->path), err->field[0] ? "." : "",
             err->field);
    memcpy(err->field, field, sizeof(field));
    return err->rc;
}

static enum rc check_items(struct checking *c, const struct manifest *manifest, struct err *err)
{
    for (size_t i = 0; i < manifest->count; i++)
        if (check_item(c, &manifest->items[i], err) != RC_OK)
            return at_item(err, &manifest->items[i]);
    return RC_OK;
}

static enum rc checking_begin(struct checking *c, struct id project, struct arena *arena,
                              struct err *err)
{
    *c = (struct checking){.project = project, .arena = arena, .prices = price_table_new(arena)};
    map_init(&c->providers);
    if (!c->prices)
        return err_set(err, ERR_TOO_LARGE, "no memory");
    return provider_add_local(project, &c->providers, arena, err);
}

static void checking_end(struct checking *c)
{
    if (c->prices)
        price_table_fini(c->prices);
    map_fini(&c->providers);
}

enum rc manifest_check(const struct manifest *manifest, struct arena *arena, struct err *err)
{
    struct checking c;
    enum rc rc = checking_begin(&c, (struct id){{0}}, arena, err);
    if (rc == RC_OK)
        rc = check_items(&c, manifest, err);
    checking_end(&c);
    return rc;
}

/* ---- applying ---- */

struct applying {
    struct db_txn *txn;
    const struct principal *principal;
    const struct actor *actor;
    struct id project;
    const struct manifest_options *options;
    struct arena *arena;
    struct manifest_change *changes;
    size_t count, capacity;
    struct err *err;
};

static enum rc add_change(struct applying *a, struct manifest_change change)
{
    if (a->count == a->capacity) {
        size_t capacity = MAX(64, 2 * a->capacity);
        struct manifest_change *more =
            arena_alloc(a->arena, capacity * sizeof(struct manifest_change));
        if (!more)
            return err_set(a->err, ERR_TOO_LARGE, "no memory for this change");
        if (a->count)
            memcpy(more, a->changes, a->count * sizeof(*more));
        a->changes = more;
        a->capacity = capacity;
    }
    a->changes[a->count++] = change;
    return RC_OK;
}

/* One line of what differs: "retry: 1 → 2; targets[0].weight: 3 → 1". */
static struct str describe(struct applying *a, const struct object *from, const struct object *to)
{
    yyjson_val *diff, *line;
    size_t i, n, at = 0;
    char *out = arena_alloc(a->arena, DETAIL_BYTES_MAX);
    struct err ignored = {0};
    if (!out || object_diff(from, to, a->arena, &diff, &ignored) != RC_OK)
        return STR_EMPTY;
    yyjson_arr_foreach(diff, i, n, line)
    {
        struct str before = json_write(yyjson_obj_get(line, "before"), a->arena);
        struct str after = json_write(yyjson_obj_get(line, "after"), a->arena);
        struct str path = json_text(yyjson_obj_get(line, "path"));
        int added = snprintf(out + at, DETAIL_BYTES_MAX - at, "%s%.*s: %.*s → %.*s", i ? "; " : "",
                             STR_ARG(path), STR_ARG(before), STR_ARG(after));
        at = MIN(at + (size_t)added, DETAIL_BYTES_MAX - 1);
    }
    return str_make(out, at);
}

static enum rc put_object(struct applying *a, const struct manifest_item *item, struct str name)
{
    struct object before = {0}, after;
    struct err missing = {0};
    bool existed =
        object_get(a->txn, a->project, item->kind, name, a->arena, &before, &missing) == RC_OK;
    const struct object_change change = {
        .project = a->project,
        .kind = item->kind,
        .name = name,
        .spec = item->spec,
        .from_file = a->options->from_file,
    };
    enum rc rc = object_put(a->txn, a->actor, &change, a->arena, &after, a->err);
    if (rc == RC_OK && (!existed || after.version != before.version))
        rc = add_change(a, (struct manifest_change){
                               existed ? "update" : "create", item->kind, item->name,
                               existed ? describe(a, &before, &after) : STR_EMPTY, STR_EMPTY});
    return rc;
}

/* A key of the file: its id follows from its name. RC_NOT_FOUND: it is new. */
static enum rc find_file_key(struct applying *a, struct str name, struct object *out, struct id *id)
{
    char text[ID_TEXT_BYTES_MAX];
    struct err none; /* that it is new is no error */
    *id = key_file_id(a->project, name);
    struct str id_text = str_make(text, id_format(*id, "key", text));
    return object_get(a->txn, a->project, OBJECT_KEY, id_text, a->arena, out, &none);
}

/* A live key of that name, or RC_NOT_FOUND. */
static enum rc find_key(struct applying *a, struct str name, struct object *out, struct id *id)
{
    struct object_page page;
    struct str after = STR_EMPTY;
    if (a->options->from_file)
        return find_file_key(a, name, out, id);
    do {
        enum rc rc = object_list(a->txn, a->project, OBJECT_KEY, after, STR_EMPTY, 1000, a->arena,
                                 &page, a->err);
        if (rc != RC_OK)
            return rc;
        for (size_t i = 0; i < page.count; i++) {
            yyjson_doc *doc;
            if (json_read(page.items[i].spec, a->arena, &doc, a->err) != RC_OK)
                return RC_CORRUPT;
            yyjson_val *spec = yyjson_doc_get_root(doc);
            if (!str_eq(json_get_text(spec, "name"), name) || json_get_text(spec, "revoked_at").n)
                continue;
            *out = page.items[i];
            return id_parse(out->name, "key", id);
        }
        after = page.next;
    } while (after.n);
    return RC_NOT_FOUND;
}

static enum rc put_key(struct applying *a, const struct manifest_item *item)
{
    struct object before = {0}, after;
    struct str secret = STR_EMPTY;
    struct id id;
    yyjson_val *spec;
    enum rc rc = find_key(a, item->name, &before, &id);
    bool existed = rc == RC_OK;
    if (rc == RC_OK || rc == RC_NOT_FOUND)
        rc = own_spec(item, a->arena, &spec, a->err);
    if (rc != RC_OK)
        return rc;
    if (a->options->from_file) {
        rc = secret_expand(item->secret, a->arena, &secret, a->err);
        if (rc == RC_OK)
            rc = key_put_from_file(a->txn, a->actor, a->project, secret, spec, a->arena, &after,
                                   a->err);
        secret = STR_EMPTY;
    } else if (item->secret.n) {
        return err_set_field(
            a->err, ERR_BAD_FIELD, "key",
            "keys' secrets do not travel: leave 'key' out; a new key's secret is told once");
    } else if (existed) {
        rc = key_update(a->txn, a->principal, a->actor, id, spec, a->arena, &after, a->err);
    } else {
        rc = key_create(a->txn, a->principal, a->actor, spec, a->arena, &secret, &after, a->err);
    }
    if (rc == RC_OK && (!existed || after.version != before.version))
        rc = add_change(a, (struct manifest_change){
                               existed ? "update" : "create", OBJECT_KEY, item->name,
                               existed ? describe(a, &before, &after) : STR_EMPTY, secret});
    return rc;
}

/* The names that the manifest's objects of a kind have in the database. */
static enum rc manifest_names(struct applying *a, const struct manifest *manifest,
                              enum object_kind kind, struct map *names)
{
    char id[ID_TEXT_BYTES_MAX];
    for (size_t i = 0; i < manifest->count; i++) {
        const struct manifest_item *item = &manifest->items[i];
        struct str name = item->name;
        if (item->kind != kind)
            continue;
        if (kind == OBJECT_KEY) {
            size_t n = id_format(key_file_id(a->project, item->name), "key", id);
            name = arena_copy(a->arena, str_make(id, n));
        }
        if (!name.p)
            return err_set(a->err, ERR_TOO_LARGE, "no memory for this change");
        map_put(names, name, (void *)item);
    }
    return RC_OK;
}

struct pruning {
    struct applying *a;
    const struct map *names;
    struct str *gone;
    size_t count, capacity;
};

static enum rc find_gone(void *arg, struct str name, struct err *err)
{
    struct pruning *p = arg;
    if (map_get(p->names, name))
        return RC_OK;
    if (p->count == p->capacity) {
        size_t capacity = MAX(16, 2 * p->capacity);
        struct str *more = arena_alloc(p->a->arena, capacity * sizeof(*more));
        if (!more)
            return err_set(err, ERR_TOO_LARGE, "too many objects would be deleted at once");
        if (p->count)
            memcpy(more, p->gone, p->count * sizeof(*more));
        p->gone = more;
        p->capacity = capacity;
    }
    p->gone[p->count] = arena_copy(p->a->arena, name);
    return p->gone[p->count++].p
               ? RC_OK
               : err_set(err, ERR_TOO_LARGE, "too many objects would be deleted at once");
}

static enum rc prune_others(struct applying *a, enum object_kind kind, const struct map *names)
{
    struct pruning p = {.a = a, .names = names};
    enum rc rc =
        object_each_name(a->txn, a->project, kind, a->options->from_file, find_gone, &p, a->err);
    for (size_t i = 0; rc == RC_OK && i < p.count; i++) {
        rc = object_delete(a->txn, a->actor, a->project, kind, p.gone[i], a->options->from_file,
                           a->arena, a->err);
        if (rc == RC_OK)
            rc = add_change(
                a, (struct manifest_change){"delete", kind, p.gone[i], STR_EMPTY, STR_EMPTY});
    }
    return rc;
}

/* Deletes what the same owner has and the manifest has not. Keys that the database owns are never
 * pruned: they are revoked by hand. */
static enum rc prune_kind(struct applying *a, const struct manifest *manifest,
                          enum object_kind kind)
{
    struct map names;
    if (kind == OBJECT_KEY && !a->options->from_file)
        return RC_OK;
    map_init(&names);
    enum rc rc = manifest_names(a, manifest, kind, &names);
    if (rc == RC_OK)
        rc = prune_others(a, kind, &names);
    map_fini(&names);
    return rc;
}

static const enum object_kind KINDS[] = {OBJECT_ROUTE, OBJECT_PROVIDER, OBJECT_KEY,    OBJECT_LIMIT,
                                         OBJECT_PRICE, OBJECT_TOOL,     OBJECT_SETTING};

/* Providers that the database has besides the manifest's: routes may refer to them. */
static enum rc add_stored_providers(struct checking *c, struct db_txn *txn, struct err *err)
{
    struct object_page page;
    struct str after = STR_EMPTY;
    do {
        enum rc rc = object_list(txn, c->project, OBJECT_PROVIDER, after, STR_EMPTY, 1000, c->arena,
                                 &page, err);
        for (size_t i = 0; rc == RC_OK && i < page.count; i++) {
            struct provider *provider = ARENA_NEW(c->arena, struct provider);
            yyjson_doc *doc;
            rc = provider ? json_read(page.items[i].spec, c->arena, &doc, err) : RC_LIMIT;
            if (rc == RC_OK)
                rc = provider_decode(c->project, page.items[i].name, yyjson_doc_get_root(doc),
                                     c->arena, provider, err);
            if (rc == RC_OK)
                map_put(&c->providers, provider->name, provider);
        }
        if (rc != RC_OK)
            return rc;
        after = page.next;
    } while (after.n);
    return RC_OK;
}

static enum rc check_against_database(struct applying *a, const struct manifest *manifest)
{
    struct checking c;
    enum rc rc = checking_begin(&c, a->project, a->arena, a->err);
    if (rc == RC_OK)
        rc = add_stored_providers(&c, a->txn, a->err);
    if (rc == RC_OK)
        rc = check_items(&c, manifest, a->err);
    checking_end(&c);
    return rc;
}

enum rc manifest_apply(struct db_txn *txn, const struct principal *principal,
                       const struct actor *actor, struct id project,
                       const struct manifest *manifest, const struct manifest_options *options,
                       struct arena *arena, struct manifest_change **changes, size_t *count,
                       struct err *err)
{
    struct applying a = {txn, principal, actor, project, options, arena, .err = err};
    enum rc rc = check_against_database(&a, manifest);
    for (size_t i = 0; rc == RC_OK && i < manifest->count; i++) {
        const struct manifest_item *item = &manifest->items[i];
        if (item->in_force)
            continue;
        rc = item->kind == OBJECT_KEY ? put_key(&a, item) : put_object(&a, item, item->name);
        if (rc != RC_OK)
            at_item(err, item);
    }
    for (size_t i = 0; rc == RC_OK && options->prune && i < COUNT_OF(KINDS); i++)
        rc = prune_kind(&a, manifest, KINDS[i]);
    *changes = a.changes;
    *count = a.count;
    return rc;
}

/* ---- exporting ---- */

static void export_object(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct object *object,
                          yyjson_val *shown)
{
    yyjson_mut_val *spec = yyjson_val_mut_copy(doc, shown);
    ssize_t at;
    switch (object->kind) {
    case OBJECT_PROVIDER:
    case OBJECT_TOOL:
    case OBJECT_ROUTE: {
        const char *section = object->kind == OBJECT_PROVIDER ? "providers"
                              : object->kind == OBJECT_TOOL   ? "tools"
                                                              : "routes";
        if (!yyjson_mut_obj_get(root, section))
            yyjson_mut_obj_add_obj(doc, root, section);
        yyjson_mut_obj_add(yyjson_mut_obj_get(root, section), json_new_text(doc, object->name),
                           spec);
        break;
    }
    case OBJECT_KEY:
        if (json_get_text(shown, "revoked_at").n)
            break;
        yyjson_mut_obj_remove_key(spec, "prefix");
        if (!yyjson_mut_obj_get(root, "keys"))
            yyjson_mut_obj_add_arr(doc, root, "keys");
        yyjson_mut_arr_append(yyjson_mut_obj_get(root, "keys"), spec);
        break;
    case OBJECT_LIMIT:
        at = str_find_char(object->name, ':');
        json_set_text(doc, spec, "kind",
                      at < 0 ? object->name : str_slice(object->name, 0, (size_t)at));
        if (at >= 0)
            json_set_text(doc, spec, "value",
                          str_slice(object->name, (size_t)at + 1, object->name.n));
        if (!yyjson_mut_obj_get(root, "limits"))
            yyjson_mut_obj_add_arr(doc, root, "limits");
        yyjson_mut_arr_append(yyjson_mut_obj_get(root, "limits"), spec);
        break;
    case OBJECT_PRICE: {
        at = str_find_char(object->name, '/');
        struct str provider = str_slice(object->name, 0, (size_t)at);
        yyjson_mut_val *prices = yyjson_mut_obj_get(root, "prices");
        if (!prices)
            prices = yyjson_mut_obj_add_obj(doc, root, "prices");
        yyjson_mut_val *models = yyjson_mut_obj_getn(prices, provider.p, provider.n);
        if (!models) {
            models = yyjson_mut_obj(doc);
            yyjson_mut_obj_add(prices, json_new_text(doc, provider), models);
        }
        yyjson_mut_obj_add(
            models, json_new_text(doc, str_slice(object->name, (size_t)at + 1, object->name.n)),
            spec);
        break;
    }
    case OBJECT_SETTING: yyjson_mut_obj_add_val(doc, root, "settings", spec); break;
    default: break;
    }
}

enum rc manifest_export(struct db_txn *txn, struct id project, struct arena *arena,
                        yyjson_val **out, struct err *err)
{
    static const enum object_kind order[] = {OBJECT_PROVIDER, OBJECT_ROUTE, OBJECT_KEY,
                                             OBJECT_LIMIT,    OBJECT_PRICE, OBJECT_TOOL,
                                             OBJECT_SETTING};
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    for (size_t k = 0; k < COUNT_OF(order); k++) {
        struct object_page page;
        struct str after = STR_EMPTY;
        do {
            enum rc rc =
                object_list(txn, project, order[k], after, STR_EMPTY, 1000, arena, &page, err);
            for (size_t i = 0; rc == RC_OK && i < page.count; i++) {
                yyjson_val *shown;
                rc = object_show(&page.items[i], arena, &shown, err);
                if (rc == RC_OK)
                    export_object(doc, root, &page.items[i], shown);
            }
            if (rc != RC_OK)
                return rc;
            after = page.next;
        } while (after.n);
    }
    yyjson_doc *frozen = json_freeze(root, arena);
    *out = yyjson_doc_get_root(frozen);
    return frozen ? RC_OK : err_set(err, ERR_TOO_LARGE, "too many objects to export");
}
