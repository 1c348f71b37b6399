/* Helpers of handlers: query values in, JSON out. See api.h. */
#include "api/api.h"
#include "base/clock.h"
#include "base/limits.h"
#include "trace/usage.h"
#include <stdio.h>

struct str api_query(struct api_call *call, const char *name)
{
    struct str value = http_query_get(call->query, str_from(name), call->arena);
    return value.p ? value : STR_EMPTY;
}

enum rc api_query_i64(struct api_call *call, const char *name, int64_t absent, int64_t *out)
{
    struct str value = api_query(call, name);
    *out = absent;
    if (value.n == 0)
        return RC_OK;
    if (str_to_i64(value, out) != RC_OK)
        return err_set_field(&call->err, ERR_BAD_FIELD, name, "'%s' must be a whole number", name);
    return RC_OK;
}

enum rc api_query_limit(struct api_call *call, size_t *out)
{
    int64_t limit;
    if (api_query_i64(call, "limit", 50, &limit) != RC_OK)
        return RC_INVALID;
    if (limit < 1 || limit > LIMIT_LIST_ITEMS)
        return err_set_field(&call->err, ERR_BAD_FIELD, "limit", "'limit' must be 1 to %d",
                             LIMIT_LIST_ITEMS);
    *out = (size_t)limit;
    return RC_OK;
}

enum rc api_need_body(struct api_call *call)
{
    if (call->body)
        return RC_OK;
    return err_set(&call->err, ERR_MISSING_FIELD, "this request needs a JSON object as its body");
}

struct actor api_actor(const struct api_call *call)
{
    return principal_actor(call->principal, call->client_ip);
}

yyjson_mut_val *api_list_begin(struct api_call *call)
{
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_val *items = yyjson_mut_arr(call->doc);
    yyjson_mut_obj_add_val(call->doc, call->answer, "items", items);
    return items;
}

void api_list_end(struct api_call *call, struct str next_cursor)
{
    api_put_str(call, call->answer, "next_cursor", next_cursor.n ? next_cursor : STR_EMPTY);
}

void api_put_str(struct api_call *call, yyjson_mut_val *o, const char *key, struct str s)
{
    if (s.p)
        yyjson_mut_obj_add_strncpy(call->doc, o, key, s.p, s.n);
    else
        yyjson_mut_obj_add_null(call->doc, o, key);
}

void api_put_time(struct api_call *call, yyjson_mut_val *o, const char *key, int64_t wall_ns)
{
    char text[CLOCK_ISO_BYTES_MAX];
    if (wall_ns == 0)
        api_put_str(call, o, key, STR_EMPTY);
    else
        api_put_str(call, o, key, str_make(text, clock_format_iso(wall_ns, 3, text)));
}

/* Dollars with all twelve digits that a pico-dollar sum can have, trailing zeros cut but for cents.
 */
static size_t format_dollars(__int128 pico, char out[64])
{
    bool negative = pico < 0;
    unsigned __int128 magnitude = negative ? -(unsigned __int128)pico : (unsigned __int128)pico;
    unsigned long long dollars = (unsigned long long)(magnitude / PICO_PER_DOLLAR);
    unsigned long long fraction = (unsigned long long)(magnitude % PICO_PER_DOLLAR);
    int n = snprintf(out, 64, "%s%llu.%012llu", negative ? "-" : "", dollars, fraction);
    while (out[n - 1] == '0' && out[n - 3] != '.')
        n--;
    return (size_t)n;
}

void api_put_cost(struct api_call *call, yyjson_mut_val *o, const char *key, __int128 pico)
{
    char text[64];
    if (pico == COST_UNKNOWN)
        api_put_str(call, o, key, STR_EMPTY);
    else
        api_put_str(call, o, key, str_make(text, format_dollars(pico, text)));
}

void api_put_ms(struct api_call *call, yyjson_mut_val *o, const char *key, int64_t ns)
{
    if (ns < 0)
        yyjson_mut_obj_add_null(call->doc, o, key);
    else
        yyjson_mut_obj_add_real(call->doc, o, key, (double)(ns / NS_PER_US) / 1000.0);
}

void api_put_id(struct api_call *call, yyjson_mut_val *o, const char *key, const char *prefix,
                struct id id)
{
    char text[ID_TEXT_BYTES_MAX];
    if (id_is_zero(id))
        api_put_str(call, o, key, STR_EMPTY);
    else
        api_put_str(call, o, key, str_make(text, id_format(id, prefix, text)));
}
