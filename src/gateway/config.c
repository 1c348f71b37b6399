/* The decoders of providers, routes and limits: the only readers of their JSON form. Everything is
 * checked here, once, so that the hot path need not; unknown members are refused, since they are
 * typing errors. */
#include "gateway/config.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "gateway/check.h"
#include "gateway/defaults.h"
#include "gateway/provider_table.h"
#include "gateway/slots.h"
#include "text/decode.h"
#include "text/expression.h"
#include "text/json.h"
#include <stdio.h>
#include <stdlib.h>

#define URL_BYTES_MAX     2048
#define SECRET_BYTES_MAX  16384
#define TARGETS_MAX       64
#define CHECKS_MAX        32
#define KEYS_MAX          64
#define HEADERS_MAX       32
#define COMMAND_WORDS_MAX 256
#define WEIGHT_MAX        1000000
#define RETRY_MAX         10

static enum rc full(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE,
                   "The configuration is larger than this server keeps in memory.");
}

static enum rc keep(struct arena *arena, struct str *text, struct err *err)
{
    if (!text->n)
        return RC_OK;
    *text = arena_copy(arena, *text);
    return text->p ? RC_OK : full(err);
}

static bool name_byte_allowed(char c, bool slash)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("._:-", c)) || (slash && c == '/');
}

static bool name_reserved(struct str name)
{
    return str_starts(name, STR("prompt/")) || str_starts(name, STR("pipeline/")) ||
           str_starts(name, STR("knowledge/"));
}

static enum rc name_check(struct str name, const char *what, bool slash, struct err *err)
{
    bool good =
        name.n > 0 && name.n <= LIMIT_NAME_BYTES && name.p[0] != '/' && name.p[name.n - 1] != '/';

    for (size_t i = 0; i < name.n; i++)
        good = good && name_byte_allowed(name.p[i], slash);
    if (!good)
        return err_set_field(
            err, ERR_BAD_FIELD, "name",
            "The name of a %s has 1 to %d characters out of A-Z a-z 0-9 . _ : -%s.", what,
            LIMIT_NAME_BYTES, slash ? " and / inside" : "");
    return RC_OK;
}

/* ---- providers ---- */

static enum rc url_check(const struct place *place, struct str url, struct err *err)
{
    struct str rest;

    if (str_starts(url, STR("unix:/")))
        return RC_OK;
    if (str_starts(url, STR("https://")))
        rest = str_slice(url, 8, url.n);
    else if (str_starts(url, STR("http://")))
        rest = str_slice(url, 7, url.n);
    else
        return decode_refuse(place, err, "must begin with https://, http:// or unix:/.");
    if (!rest.n || rest.p[0] == '/' || rest.p[0] == ':')
        return decode_refuse(place, err, "names no host.");
    for (size_t i = 0; i < rest.n; i++)
        if ((unsigned char)rest.p[i] <= ' ' || rest.p[i] == 0x7f || strchr("@?#\\\"<>", rest.p[i]))
            return decode_refuse(place, err,
                                 "holds a character that a base address cannot: no spaces, "
                                 "credentials, query or fragment.");
    return RC_OK;
}

static enum rc decode_url(const struct place *object, const char *name, struct arena *arena,
                          struct str *out, struct err *err)
{
    struct place place;
    struct str url = STR_EMPTY;
    enum rc rc = decode_str(object, name, DECODE_OPTIONAL, URL_BYTES_MAX, &url, err);

    if (rc != RC_OK || !url.n)
        return rc;
    rc = decode_member(object, name, DECODE_OPTIONAL, &place, err);
    if (rc == RC_OK)
        rc = url_check(&place, url, err);
    while (url.n && url.p[url.n - 1] == '/')
        url.n--;
    *out = url;
    return rc == RC_OK ? keep(arena, out, err) : rc;
}

/* A credential goes into a header: printable, no spaces at its ends. */
static enum rc secret_check(const struct place *place, struct str secret, struct err *err)
{
    for (size_t i = 0; i < secret.n; i++)
        if ((unsigned char)secret.p[i] <= ' ' || (unsigned char)secret.p[i] >= 0x7f)
            return decode_refuse(
                place, err, "holds a character that a key cannot: spaces, line ends or non-ASCII.");
    return RC_OK;
}

static enum rc decode_provider_keys(struct id project, const struct place *root,
                                    struct arena *arena, struct provider *out, struct err *err)
{
    struct str single = STR_EMPTY, *several = NULL;
    struct place place;
    size_t count = 0;
    enum rc rc = decode_str(root, "api_key", DECODE_OPTIONAL, SECRET_BYTES_MAX, &single, err);

    if (rc == RC_OK)
        rc = decode_texts(root, "api_keys", KEYS_MAX, SECRET_BYTES_MAX, arena, &several, &count,
                          err);
    if (rc == RC_OK)
        rc = keep(arena, &single, err);
    if (rc != RC_OK || count + (single.n > 0) == 0)
        return rc;
    out->keys = ARENA_NEW_ARRAY(arena, struct provider_key, count + 1);
    if (!out->keys)
        return full(err);
    if (single.n)
        out->keys[out->key_count++].secret = single;
    for (size_t i = 0; i < count; i++)
        if (several[i].n)
            out->keys[out->key_count++].secret = several[i];
    decode_root(&place, NULL, "api_key");
    for (size_t i = 0; rc == RC_OK && i < out->key_count; i++) {
        struct str slot_name = arena_printf(arena, "%.*s#%zu", STR_ARG(out->name), i);
        if (!slot_name.p)
            return full(err);
        rc = secret_check(&place, out->keys[i].secret, err);
        out->keys[i].slot = slot_assign(SLOT_PROVIDER_KEY, project, slot_name);
    }
    return rc;
}

static bool header_name_valid(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] <= ' ' || (unsigned char)name.p[i] >= 0x7f ||
            strchr("()<>@,;:\\\"/[]?={}", name.p[i]))
            return false;
    return name.n > 0 && name.n <= LIMIT_NAME_BYTES;
}

static bool header_value_valid(struct str value)
{
    for (size_t i = 0; i < value.n; i++)
        if (((unsigned char)value.p[i] < ' ' && value.p[i] != '\t') || value.p[i] == 0x7f)
            return false;
    return value.n <= SECRET_BYTES_MAX;
}

static enum rc decode_headers(const struct place *root, struct arena *arena, struct provider *out,
                              struct err *err)
{
    struct place place;
    size_t i, n;
    yyjson_val *key, *value;
    enum rc rc = decode_member(root, "headers", DECODE_OPTIONAL, &place, err);

    if (rc == RC_OK)
        rc = decode_expect_object(&place, err);
    if (rc != RC_OK || !place.value)
        return rc;
    if (yyjson_obj_size(place.value) > HEADERS_MAX)
        return decode_refuse(&place, err, "has more than %d entries.", HEADERS_MAX);
    out->headers = ARENA_NEW_ARRAY(arena, struct call_tag, yyjson_obj_size(place.value) + 1);
    if (!out->headers)
        return full(err);
    yyjson_obj_foreach(place.value, i, n, key, value)
    {
        struct call_tag header = {json_text(key), json_text(value)};
        if (!header_name_valid(header.name) || !yyjson_is_str(value) ||
            !header_value_valid(header.value))
            return decode_refuse(&place, err, "holds '%.*s', which is not a valid header.",
                                 (int)MIN(header.name.n, 60), header.name.p);
        if (keep(arena, &header.name, err) != RC_OK || keep(arena, &header.value, err) != RC_OK)
            return full(err);
        out->headers[out->header_count++] = header;
    }
    return RC_OK;
}

static enum rc decode_command(const struct place *root, struct arena *arena, struct provider *out,
                              struct err *err)
{
    struct str *words = NULL;
    size_t count = 0;
    enum rc rc =
        decode_texts(root, "command", COMMAND_WORDS_MAX, URL_BYTES_MAX, arena, &words, &count, err);

    if (rc != RC_OK || count == 0)
        return rc;
    out->command = ARENA_NEW_ARRAY(arena, char *, count + 1);
    if (!out->command)
        return full(err);
    for (size_t i = 0; i < count; i++)
        out->command[i] = (char *)words[i].p; /* arena_copy ends texts with a NUL */
    return RC_OK;
}

static enum rc decode_format(const struct place *root, struct provider *out, struct err *err)
{
    struct str format;
    struct place place;
    enum rc rc = decode_str(root, "format", DECODE_REQUIRED, LIMIT_NAME_BYTES, &format, err);

    if (rc != RC_OK)
        return rc;
    out->row = provider_row_find(format);
    if (out->row)
        return RC_OK;
    rc = decode_member(root, "format", DECODE_OPTIONAL, &place, err);
    return rc == RC_OK ? decode_refuse(
                             &place, err,
                             "names no known format. Use openai for whatever speaks its interface, "
                             "anthropic, engine, or another of `capstan provider formats`.")
                       : rc;
}

static enum rc provider_check(const struct provider *provider, struct err *err)
{
    bool engine = str_eq(provider->row->name, STR("engine"));

    if (provider->command && !provider->base_url.n)
        return err_set_field(err, ERR_MISSING_FIELD, "base_url",
                             "'base_url' is missing: it says where the command listens.");
    if (!engine && !provider->base_url.n)
        return err_set_field(err, ERR_MISSING_FIELD, "base_url",
                             "'base_url' is missing: format %.*s has no default.",
                             STR_ARG(provider->row->name));
    return RC_OK;
}

enum rc provider_decode(struct id project, struct str name, yyjson_val *json, struct arena *arena,
                        struct provider *out, struct err *err)
{
    static const char *const members[] = {"format",  "base_url",    "api_key", "api_keys",
                                          "headers", "ca_file",     "proxy",   "http2",
                                          "command", "public_only", NULL};
    struct place root;

    *out = (struct provider){.name = name};
    decode_root(&root, json, "");
    enum rc rc = name_check(name, "provider", false, err);
    if (rc == RC_OK && (str_eq(name, STR("prompt")) || str_eq(name, STR("pipeline")) ||
                        str_eq(name, STR("knowledge"))))
        rc = err_set_field(err, ERR_BAD_FIELD, "name", "The name '%.*s' is reserved.",
                           STR_ARG(name));
    if (rc == RC_OK)
        rc = json ? decode_only(&root, members, err)
                  : err_set(err, ERR_BAD_FIELD, "A provider must be an object.");
    if (rc == RC_OK)
        rc = decode_format(&root, out, err);
    if (rc == RC_OK)
        rc = keep(arena, &out->name, err);
    if (rc == RC_OK)
        rc = decode_url(&root, "base_url", arena, &out->base_url, err);
    if (rc == RC_OK && !out->base_url.n)
        out->base_url = out->row->base_url;
    if (rc == RC_OK)
        rc = decode_url(&root, "proxy", arena, &out->proxy, err);
    if (rc == RC_OK)
        rc = decode_str(&root, "ca_file", DECODE_OPTIONAL, URL_BYTES_MAX, &out->ca_file, err);
    if (rc == RC_OK)
        rc = keep(arena, &out->ca_file, err);
    out->http2 =
        str_starts(out->base_url, STR("https:")); /* offered; without TLS it must be said */
    if (rc == RC_OK)
        rc = decode_bool(&root, "http2", &out->http2, err);
    if (rc == RC_OK)
        rc = decode_bool(&root, "public_only", &out->public_only, err);
    if (rc == RC_OK)
        rc = decode_provider_keys(project, &root, arena, out, err);
    if (rc == RC_OK)
        rc = decode_headers(&root, arena, out, err);
    if (rc == RC_OK)
        rc = decode_command(&root, arena, out, err);
    if (rc == RC_OK)
        rc = provider_check(out, err);
    if (rc == RC_OK)
        out->slot = slot_assign(SLOT_PROVIDER, project, out->name);
    return rc;
}

/* ---- routes ---- */

struct route_decoding {
    struct id project;
    const struct map *providers;
    struct arena *arena;
    struct route *out;
    struct err *err;
};

static enum rc decode_when(struct route_decoding *d, const struct place *root,
                           struct target *target)
{
    struct place place;
    enum rc rc =
        decode_str(root, "when", DECODE_OPTIONAL, EXPRESSION_BYTES_MAX, &target->when, d->err);

    if (rc != RC_OK || !target->when.n)
        return rc;
    rc = keep(d->arena, &target->when, d->err);
    if (rc == RC_OK)
        rc = decode_member(root, "when", DECODE_OPTIONAL, &place, d->err);
    if (rc != RC_OK)
        return rc;
    struct err problem = {0};
    rc = expression_parse(target->when, d->arena, &target->when_compiled, &problem);
    return rc == RC_OK ? RC_OK
                       : decode_refuse(&place, d->err, "is not an expression: %s", problem.message);
}

static enum rc decode_target(struct route_decoding *d, const struct place *root,
                             struct target *target)
{
    static const char *const members[] = {"provider", "model", "weight", "when", "params", NULL};
    struct str provider;
    struct place place, params;
    int64_t weight = 1;
    enum rc rc = root->value ? decode_only(root, members, d->err)
                             : decode_refuse(root, d->err, "must be an object.");

    if (rc == RC_OK)
        rc = decode_str(root, "provider", DECODE_REQUIRED, LIMIT_NAME_BYTES, &provider, d->err);
    if (rc != RC_OK)
        return rc;
    target->provider = map_get(d->providers, provider);
    rc = decode_member(root, "provider", DECODE_OPTIONAL, &place, d->err);
    if (rc == RC_OK && !target->provider)
        rc = decode_refuse(&place, d->err, "names no provider: there is no '%.*s'.",
                           STR_ARG(provider));
    if (rc == RC_OK)
        rc = decode_str(root, "model", DECODE_REQUIRED, 2 * LIMIT_NAME_BYTES, &target->model,
                        d->err);
    if (rc == RC_OK)
        rc = keep(d->arena, &target->model, d->err);
    if (rc == RC_OK)
        rc = decode_i64(root, "weight", 0, WEIGHT_MAX, &weight, d->err);
    if (rc == RC_OK)
        rc = decode_when(d, root, target);
    if (rc == RC_OK)
        rc = decode_member(root, "params", DECODE_OPTIONAL, &params, d->err);
    if (rc == RC_OK)
        rc = decode_expect_object(&params, d->err);
    if (rc != RC_OK)
        return rc;
    if (yyjson_obj_size(params.value) > 0) {
        target->params = json_write(params.value, d->arena);
        if (!target->params.p)
            return full(d->err);
    }
    target->weight = (uint32_t)weight;
    struct str slot_name = arena_printf(d->arena, "%.*s/%.*s", STR_ARG(target->provider->name),
                                        STR_ARG(target->model));
    if (!slot_name.p)
        return full(d->err);
    target->slot = slot_assign(SLOT_TARGET, d->project, slot_name);
    return RC_OK;
}

static enum rc decode_targets(struct route_decoding *d, const struct place *root)
{
    struct place list, element;
    size_t i, n;
    yyjson_val *value;
    enum rc rc = decode_member(root, "targets", DECODE_REQUIRED, &list, d->err);

    if (rc == RC_OK)
        rc = decode_expect_list(&list, TARGETS_MAX, d->err);
    if (rc != RC_OK)
        return rc;
    if (yyjson_arr_size(list.value) == 0)
        return decode_refuse(&list, d->err, "is empty: a route needs at least one target.");
    d->out->targets = ARENA_NEW_ARRAY(d->arena, struct target, yyjson_arr_size(list.value));
    if (!d->out->targets)
        return full(d->err);
    yyjson_arr_foreach(list.value, i, n, value)
    {
        decode_element(&list, i, value, &element);
        rc = decode_target(d, &element, &d->out->targets[i]);
        if (rc != RC_OK)
            return rc;
    }
    d->out->target_count = n;
    return RC_OK;
}

static enum rc fallback_word(struct str word, unsigned *bits)
{
    static const struct {
        struct str word;
        unsigned bits;
    } words[] = {
        {STR_INIT("rate"), FALLBACK_RATE},
        {STR_INIT("overload"), FALLBACK_OVERLOAD},
        {STR_INIT("context"), FALLBACK_CONTEXT},
        {STR_INIT("content_filter"), FALLBACK_CONTENT_FILTER},
        {STR_INIT("error"), FALLBACK_ERROR},
        {STR_INIT("timeout"), FALLBACK_TIMEOUT},
        {STR_INIT("any"), FALLBACK_ANY},
    };

    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (!str_eq(word, words[i].word))
            continue;
        *bits |= words[i].bits;
        return RC_OK;
    }
    return RC_INVALID;
}

/* {"on": […]}; absent: what another target is likely to do better. An empty list: never. */
static enum rc decode_fallback(struct route_decoding *d, const struct place *root)
{
    static const char *const members[] = {"on", NULL};
    struct place object, list, element;
    size_t i, n;
    yyjson_val *value;
    unsigned bits = 0;
    enum rc rc = decode_member(root, "fallback", DECODE_OPTIONAL, &object, d->err);

    d->out->fallback = FALLBACK_RATE | FALLBACK_OVERLOAD | FALLBACK_ERROR | FALLBACK_TIMEOUT;
    if (rc == RC_OK)
        rc = decode_only(&object, members, d->err);
    if (rc == RC_OK)
        rc = decode_member(&object, "on", DECODE_OPTIONAL, &list, d->err);
    if (rc == RC_OK)
        rc = decode_expect_list(&list, 16, d->err);
    if (rc != RC_OK || !list.value)
        return rc;
    yyjson_arr_foreach(list.value, i, n, value)
    {
        decode_element(&list, i, value, &element);
        if (fallback_word(json_text(value), &bits) != RC_OK)
            return decode_refuse(
                &element, d->err,
                "must be one of: rate, overload, context, content_filter, error, timeout, any.");
    }
    d->out->fallback = bits;
    return RC_OK;
}

static enum rc decode_timeouts(struct route_decoding *d, const struct place *root)
{
    static const char *const members[] = {"connect",        "connect_ms", "first_token",
                                          "first_token_ms", "between",    "between_ms",
                                          "total",          "total_ms",   NULL};
    struct route *out = d->out;
    struct place object;
    enum rc rc = decode_member(root, "timeout", DECODE_OPTIONAL, &object, d->err);

    if (rc == RC_OK)
        rc = decode_only(&object, members, d->err);
    if (rc == RC_OK)
        rc = decode_duration(&object, "connect", &out->connect_ns, d->err);
    if (rc == RC_OK)
        rc = decode_duration(&object, "first_token", &out->first_token_ns, d->err);
    if (rc == RC_OK)
        rc = decode_duration(&object, "between", &out->between_ns, d->err);
    if (rc == RC_OK)
        rc = decode_duration(&object, "total", &out->total_ns, d->err);
    return rc;
}

static enum rc decode_cache(struct route_decoding *d, const struct place *root)
{
    static const char *const members[] = {"ttl", "ttl_s", NULL};
    struct place object;
    int64_t seconds = 0;
    enum rc rc = decode_member(root, "cache", DECODE_OPTIONAL, &object, d->err);

    if (rc == RC_OK)
        rc = decode_only(&object, members, d->err);
    if (rc == RC_OK)
        rc = decode_i64(&object, "ttl_s", 0, 366 * 86400, &seconds, d->err);
    d->out->cache_ttl_ns = seconds * NS_PER_S;
    if (rc == RC_OK)
        rc = decode_duration(&object, "ttl", &d->out->cache_ttl_ns, d->err);
    return rc;
}

static enum rc decode_check(struct route_decoding *d, const struct place *root, struct check *check)
{
    static const char *const members[] = {"name", "on", "kind", "pattern", "action", NULL};
    static const char *const kinds[] = {"regex", "json_schema", "pii", NULL};
    static const char *const sides[] = {"input", "output", "both", NULL};
    static const char *const actions[] = {"block", "mask", "flag", NULL};
    int kind = CHECK_REGEX, side = 2, action = CHECK_BLOCK;
    struct str pattern = STR_EMPTY;
    struct place place;
    enum rc rc = root->value ? decode_only(root, members, d->err)
                             : decode_refuse(root, d->err, "must be an object.");

    if (rc == RC_OK)
        rc = decode_str(root, "name", DECODE_REQUIRED, LIMIT_NAME_BYTES, &check->name, d->err);
    if (rc == RC_OK)
        rc = decode_word(root, "kind", kinds, &kind, d->err);
    if (rc == RC_OK)
        rc = decode_word(root, "on", sides, &side, d->err);
    if (rc == RC_OK)
        rc = decode_word(root, "action", actions, &action, d->err);
    if (rc == RC_OK)
        rc = decode_member(root, "pattern", DECODE_OPTIONAL, &place, d->err);
    if (rc != RC_OK)
        return rc;
    if (yyjson_is_obj(place.value) && kind == CHECK_JSON_SCHEMA) { /* a schema may stand as it is */
        pattern = json_write(place.value, d->arena);
        if (!pattern.p)
            return full(d->err);
    } else {
        rc = decode_str(root, "pattern", kind == CHECK_PII ? DECODE_OPTIONAL : DECODE_REQUIRED,
                        64 * 1024, &pattern, d->err);
        if (rc == RC_OK)
            rc = keep(d->arena, &pattern, d->err);
    }
    if (rc == RC_OK)
        rc = keep(d->arena, &check->name, d->err);
    if (rc != RC_OK)
        return rc;
    check->kind = kind;
    check->on = side + 1; /* input 1, output 2, both 3 */
    check->action = action;
    check->pattern = pattern;
    struct err problem = {0};
    rc = check_compile(check, d->arena, &problem);
    return rc == RC_OK ? RC_OK
                       : decode_refuse(&place, d->err, "cannot be used: %s", problem.message);
}

static enum rc decode_checks(struct route_decoding *d, const struct place *root)
{
    struct place list, element;
    size_t i, n;
    yyjson_val *value;
    enum rc rc = decode_member(root, "checks", DECODE_OPTIONAL, &list, d->err);

    if (rc == RC_OK)
        rc = decode_expect_list(&list, CHECKS_MAX, d->err);
    if (rc != RC_OK || yyjson_arr_size(list.value) == 0)
        return rc;
    d->out->checks = ARENA_NEW_ARRAY(d->arena, struct check, yyjson_arr_size(list.value));
    if (!d->out->checks)
        return full(d->err);
    yyjson_arr_foreach(list.value, i, n, value)
    {
        decode_element(&list, i, value, &element);
        rc = decode_check(d, &element, &d->out->checks[i]);
        if (rc != RC_OK)
            return rc;
    }
    d->out->check_count = n;
    return RC_OK;
}

enum rc capture_decode(const struct place *root, enum capture *out, struct err *err)
{
    static const char *const words[] = {"none", "metadata", "full", NULL};
    int word = -1;
    enum rc rc = decode_word(root, "capture", words, &word, err);

    *out = word < 0 ? CAPTURE_INHERIT : CAPTURE_NONE + word;
    return rc;
}

static enum rc decode_route_settings(struct route_decoding *d, const struct place *root)
{
    static const char *const balances[] = {"weighted", "ordered", "latency", "sticky", NULL};
    struct route *out = d->out;
    int balance = BALANCE_WEIGHTED;
    int64_t retry = DEFAULT_RETRY;
    enum rc rc = decode_str(root, "description", DECODE_OPTIONAL, 4096, &out->description, d->err);

    if (rc == RC_OK)
        rc = keep(d->arena, &out->description, d->err);
    if (rc == RC_OK)
        rc = decode_word(root, "balance", balances, &balance, d->err);
    if (rc == RC_OK)
        rc = decode_i64(root, "retry", 0, RETRY_MAX, &retry, d->err);
    if (rc == RC_OK)
        rc = capture_decode(root, &out->capture, d->err);
    if (rc == RC_OK)
        rc = decode_bool(root, "pass_credential", &out->pass_credential, d->err);
    if (rc == RC_OK)
        rc = decode_texts(root, "pass_headers", HEADERS_MAX, LIMIT_NAME_BYTES, d->arena,
                          &out->pass_headers, &out->pass_header_count, d->err);
    for (size_t i = 0; rc == RC_OK && i < out->pass_header_count; i++)
        if (!header_name_valid(out->pass_headers[i]))
            rc = err_set_field(d->err, ERR_BAD_FIELD, "pass_headers",
                               "'%.*s' is not a header's name.", STR_ARG(out->pass_headers[i]));
    out->balance = (enum balance)balance;
    out->retry = (int)retry;
    return rc;
}

static enum rc route_hash(yyjson_val *json, uint64_t *hash, struct err *err)
{
    size_t n;
    char *text = yyjson_val_write(json, YYJSON_WRITE_NOFLAG, &n);

    if (!text)
        return full(err);
    *hash = hash_xxh3(text, n);
    free(text);
    return RC_OK;
}

enum rc route_decode(struct id project, struct str name, yyjson_val *json,
                     const struct map *providers, struct arena *arena, struct route *out,
                     struct err *err)
{
    static const char *const members[] = {
        "description", "targets", "balance", "retry",        "fallback",        "timeout",
        "cache",       "checks",  "capture", "pass_headers", "pass_credential", NULL};
    struct route_decoding decoding = {project, providers, arena, out, err};
    struct place root;

    *out = (struct route){.name = name};
    decode_root(&root, json, "");
    enum rc rc = name_check(name, "route", true, err);
    if (rc == RC_OK && name_reserved(name))
        rc = err_set_field(err, ERR_BAD_FIELD, "name",
                           "Names that begin with prompt/, pipeline/ or knowledge/ are reserved.");
    if (rc == RC_OK)
        rc = json ? decode_only(&root, members, err)
                  : err_set(err, ERR_BAD_FIELD, "A route must be an object.");
    if (rc == RC_OK)
        rc = keep(arena, &out->name, err);
    if (rc == RC_OK)
        rc = decode_targets(&decoding, &root);
    if (rc == RC_OK)
        rc = decode_route_settings(&decoding, &root);
    if (rc == RC_OK)
        rc = decode_fallback(&decoding, &root);
    if (rc == RC_OK)
        rc = decode_timeouts(&decoding, &root);
    if (rc == RC_OK)
        rc = decode_cache(&decoding, &root);
    if (rc == RC_OK)
        rc = decode_checks(&decoding, &root);
    if (rc == RC_OK)
        rc = route_hash(json, &out->hash, err);
    return rc;
}

/* ---- limits ---- */

static enum rc decode_budget(const struct place *root, const char *period, int64_t *pico,
                             struct err *err)
{
    char with_unit[32];
    enum rc rc = decode_dollars(root, period, pico, err);

    snprintf(with_unit, sizeof with_unit, "%s_usd", period);
    return rc == RC_OK ? decode_dollars(root, with_unit, pico, err) : rc;
}

enum rc limits_decode(yyjson_val *limits, yyjson_val *budget, struct limits *out, struct err *err)
{
    static const char *const limit_members[] = {"requests_per_minute", "tokens_per_minute",
                                                "parallel", NULL};
    static const char *const budget_members[] = {"day", "day_usd", "month", "month_usd", NULL};
    static const int64_t highest = 1000000000000;
    struct place rates, money;

    *out = (struct limits){.budget_day_pico = COST_UNKNOWN, .budget_month_pico = COST_UNKNOWN};
    decode_root(&rates, yyjson_is_null(limits) ? NULL : limits, "limits");
    decode_root(&money, yyjson_is_null(budget) ? NULL : budget, "budget");
    enum rc rc = decode_only(&rates, limit_members, err);
    if (rc == RC_OK)
        rc = decode_i64(&rates, "requests_per_minute", 0, highest, &out->requests_per_minute, err);
    if (rc == RC_OK)
        rc = decode_i64(&rates, "tokens_per_minute", 0, highest, &out->tokens_per_minute, err);
    if (rc == RC_OK)
        rc = decode_i64(&rates, "parallel", 0, highest, &out->parallel, err);
    if (rc == RC_OK)
        rc = decode_only(&money, budget_members, err);
    if (rc == RC_OK)
        rc = decode_budget(&money, "day", &out->budget_day_pico, err);
    if (rc == RC_OK)
        rc = decode_budget(&money, "month", &out->budget_month_pico, err);
    return rc;
}

enum rc provider_add_local(struct id project, struct map *providers, struct arena *arena,
                           struct err *err)
{
    static const char definition[] = "{\"format\":\"engine\"}";
    struct provider *provider = ARENA_NEW(arena, struct provider);
    yyjson_doc *doc;
    enum rc rc = json_read(str_from(definition), arena, &doc, err);

    if (rc == RC_OK && !provider)
        rc = err_set(err, ERR_TOO_LARGE, "The configuration is too large.");
    if (rc == RC_OK)
        rc = provider_decode(project, STR("local"), yyjson_doc_get_root(doc), arena, provider, err);
    if (rc == RC_OK)
        map_put(providers, provider->name, provider);
    return rc;
}
