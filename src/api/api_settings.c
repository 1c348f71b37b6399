/* /api/settings, /api/prices, /api/audit: the project's rules and its history. */
#include "api/handlers.h"
#include "api/objects.h"
#include "base/clock.h"
#include "gateway/price.h"
#include "text/json_tree.h"
#include "trace/trace.h"

/* ---- settings ---- */

#define SETTINGS_NAME STR("project")

static enum rc answer_settings(struct api_call *call)
{
    struct object object;
    enum rc rc = object_get(call->txn, call->principal->project, OBJECT_SETTING, SETTINGS_NAME,
                            call->arena, &object, &call->err);

    if (rc == RC_NOT_FOUND) { /* never set: the defaults */
        call->err = (struct err){0};
        call->answer = yyjson_mut_obj(call->doc);
        api_put_str(call, call->answer, "origin", STR("database"));
    } else if (rc != RC_OK || !(call->answer = api_encode_object(call, &object))) {
        return rc != RC_OK ? rc : call->err.rc;
    }
    yyjson_mut_obj_remove_key(call->answer, "name");
    if (!yyjson_mut_obj_get(call->answer, "capture"))
        api_put_str(call, call->answer, "capture", STR("full"));
    static const char *const bounds[] = {"retention_days", "retention_bytes"};
    for (size_t i = 0; i < COUNT_OF(bounds); i++)
        if (!yyjson_mut_obj_get(call->answer, bounds[i]))
            yyjson_mut_obj_add_null(call->doc, call->answer, bounds[i]);
    return RC_OK;
}

enum rc api_settings_get(struct api_call *call) { return answer_settings(call); }

static void apply_retention(struct api_call *call, const struct object *object)
{
    yyjson_doc *doc;

    if (!call->services->trace || json_read(object->spec, call->arena, &doc, NULL) != RC_OK)
        return;
    yyjson_val *spec = yyjson_doc_get_root(doc);
    trace_set_retention(call->services->trace, object->project,
                        json_get_int(spec, "retention_days", 0) * NS_PER_DAY,
                        json_get_int(spec, "retention_bytes", 0));
}

enum rc api_settings_patch(struct api_call *call)
{
    struct actor actor = api_actor(call);
    struct object object;
    enum rc rc = api_need_body(call);

    if (rc == RC_OK)
        rc = definition_patch(call->txn, call->principal, &actor, OBJECT_SETTING, SETTINGS_NAME,
                              call->body, call->arena, &object, &call->err);
    if (rc == RC_NOT_FOUND) {
        call->err = (struct err){0};
        rc = definition_create(call->txn, call->principal, &actor, OBJECT_SETTING, SETTINGS_NAME,
                               call->body, call->arena, &object, &call->err);
    }
    if (rc != RC_OK)
        return rc;
    apply_retention(call, &object);
    return answer_settings(call);
}

/* ---- prices ---- */

/* Dollars a million tokens, by bucket; buckets without a price are left out. */
static void put_buckets(struct api_call *call, yyjson_mut_val *o,
                        const int64_t bucket_pico[USAGE_BUCKET_COUNT])
{
    yyjson_mut_val *prices = yyjson_mut_obj_add_obj(call->doc, o, "prices");

    for (int i = 0; i < USAGE_BUCKET_COUNT; i++)
        if (bucket_pico[i] != COST_UNKNOWN)
            api_put_cost(call, prices, usage_bucket_name((enum usage_bucket)i),
                         (__int128)bucket_pico[i] * 1000000);
}

static enum rc put_overrides(struct api_call *call, yyjson_mut_val *items, struct str provider,
                             struct str search)
{
    struct object_page page;
    enum rc rc = object_list(call->txn, call->principal->project, OBJECT_PRICE, STR_EMPTY, search,
                             1000, call->arena, &page, &call->err);

    for (size_t i = 0; rc == RC_OK && i < page.count; i++) {
        struct str name = page.items[i].name;
        ssize_t slash = str_find_char(name, '/');
        yyjson_val *shown;
        struct str owner = str_slice(name, 0, slash < 0 ? 0 : (size_t)slash);
        if (provider.n && !str_eq(owner, provider))
            continue;
        rc = object_show(&page.items[i], call->arena, &shown, &call->err);
        if (rc != RC_OK)
            return rc;
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, items);
        api_put_str(call, o, "provider", owner);
        api_put_str(call, o, "model", str_slice(name, (size_t)slash + 1, name.n));
        yyjson_mut_obj_add_val(call->doc, o, "prices", yyjson_val_mut_copy(call->doc, shown));
        api_put_str(call, o, "origin", page.items[i].from_file ? STR("file") : STR("database"));
    }
    return rc;
}

static bool contains_nocase(struct str s, struct str part)
{
    for (size_t i = 0; i + part.n <= s.n; i++)
        if (str_eq_nocase(str_slice(s, i, i + part.n), part))
            return true;
    return part.n == 0;
}

/* The project's own prices first, then the built-in list; the cursor is a place in the latter. */
enum rc api_prices_list(struct api_call *call)
{
    struct str provider = api_query(call, "provider"), search = api_query(call, "q");
    size_t limit, shown = 0;
    int64_t at;
    enum rc rc = api_query_limit(call, &limit);

    if (rc == RC_OK)
        rc = api_query_i64(call, "cursor", 0, &at);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    if (at <= 0)
        rc = put_overrides(call, items, provider, search);
    size_t i = at > 0 ? (size_t)at : 0, count = price_row_count();
    for (; rc == RC_OK && i < count && shown < limit; i++) {
        struct price_row row;
        price_row_at(i, clock_wall_ns(), &row);
        if ((provider.n && !str_eq(row.provider, provider)) ||
            !(contains_nocase(row.model, search) || contains_nocase(row.provider, search)))
            continue;
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, items);
        api_put_str(call, o, "provider", row.provider);
        api_put_str(call, o, "model", row.model);
        put_buckets(call, o, row.bucket_pico);
        yyjson_mut_obj_add_bool(call->doc, o, "tiered", row.tiered);
        if (row.context_tokens)
            yyjson_mut_obj_add_uint(call->doc, o, "context_tokens", row.context_tokens);
        api_put_str(call, o, "origin", STR("built-in"));
        shown++;
    }
    api_list_end(call, i < count ? arena_printf(call->arena, "%zu", i) : STR_EMPTY);
    api_put_str(call, call->answer, "source", str_from(price_table_version()));
    return rc;
}

static struct str price_name(struct api_call *call)
{
    return arena_printf(call->arena, "%.*s/%.*s", STR_ARG(call->params[0]),
                        STR_ARG(call->params[1]));
}

enum rc api_prices_put(struct api_call *call)
{
    struct actor actor = api_actor(call);
    struct object object;
    enum rc rc = api_need_body(call);

    if (rc != RC_OK)
        return rc;
    yyjson_val *prices = yyjson_obj_get(call->body, "prices");
    rc = definition_put(call->txn, call->principal, &actor, OBJECT_PRICE, price_name(call),
                        prices ? prices : call->body, call->arena, &object, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_val *shown;
    rc = object_show(&object, call->arena, &shown, &call->err);
    call->answer = yyjson_mut_obj(call->doc);
    api_put_str(call, call->answer, "provider", call->params[0]);
    api_put_str(call, call->answer, "model", call->params[1]);
    if (rc == RC_OK)
        yyjson_mut_obj_add_val(call->doc, call->answer, "prices",
                               yyjson_val_mut_copy(call->doc, shown));
    api_put_str(call, call->answer, "origin", STR("database"));
    return rc;
}

enum rc api_prices_delete(struct api_call *call)
{
    return api_objects_delete(call, OBJECT_PRICE, price_name(call));
}

/* ---- audit ---- */

static void put_json(struct api_call *call, yyjson_mut_val *o, const char *key, struct str json)
{
    yyjson_doc *doc;

    if (json.n && json_read(json, call->arena, &doc, NULL) == RC_OK)
        yyjson_mut_obj_add_val(call->doc, o, key,
                               yyjson_val_mut_copy(call->doc, yyjson_doc_get_root(doc)));
    else
        yyjson_mut_obj_add_null(call->doc, o, key);
}

static void put_audit_entry(struct api_call *call, yyjson_mut_val *o,
                            const struct audit_entry *entry)
{
    char hex[SHA256_HEX_BYTES];
    const char *prefix = str_eq(entry->actor_type, STR("key"))    ? "key"
                         : str_eq(entry->actor_type, STR("user")) ? "usr"
                                                                  : "ses";

    yyjson_mut_obj_add_sint(call->doc, o, "id", entry->seq);
    api_put_time(call, o, "at", entry->at_ns);
    yyjson_mut_val *actor = yyjson_mut_obj_add_obj(call->doc, o, "actor");
    api_put_str(call, actor, "kind", entry->actor_type);
    api_put_id(call, actor, "id", prefix, entry->actor_id);
    api_put_str(call, actor, "name", entry->actor_name);
    api_put_str(call, o, "action", entry->action);
    api_put_str(call, o, "kind", entry->kind);
    api_put_str(call, o, "object", entry->name);
    put_json(call, o, "before", entry->before);
    put_json(call, o, "after", entry->after);
    api_put_str(call, o, "ip", entry->client_ip.n ? entry->client_ip : STR_EMPTY);
    hex_encode(entry->hash, sizeof entry->hash, hex);
    api_put_str(call, o, "hash", str_from(hex));
}

enum rc api_audit_list(struct api_call *call)
{
    struct audit_filter filter = {.kind = api_query(call, "kind"),
                                  .name = api_query(call, "object"),
                                  .actor = api_query(call, "actor")};
    struct audit_entry *entries;
    size_t count;
    int64_t next;
    enum rc rc = api_query_limit(call, &filter.limit);

    if (rc == RC_OK)
        rc = api_query_i64(call, "cursor", 0, &filter.before_seq);
    if (rc == RC_OK)
        rc = audit_list(call->txn, call->principal->project, &filter, call->arena, &entries, &count,
                        &next, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++)
        put_audit_entry(call, yyjson_mut_arr_add_obj(call->doc, items), &entries[i]);
    api_list_end(call, next ? arena_printf(call->arena, "%lld", (long long)next) : STR_EMPTY);
    return RC_OK;
}

/* Whether the chain is whole: nothing was changed or taken out. */
enum rc api_audit_verify(struct api_call *call)
{
    int64_t seq = 0;
    enum rc rc = audit_verify(call->txn, &seq, &call->err);

    if (rc != RC_OK && rc != RC_CORRUPT)
        return rc;
    call->err = (struct err){0};
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_bool(call->doc, call->answer, "ok", rc == RC_OK);
    if (rc == RC_OK)
        yyjson_mut_obj_add_null(call->doc, call->answer, "first_bad_entry");
    else
        yyjson_mut_obj_add_sint(call->doc, call->answer, "first_bad_entry", seq);
    return RC_OK;
}
