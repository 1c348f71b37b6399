/* Providers, routes and what belongs to them, as the hot path sees them: decoded once, immutable,
 * in the snapshot's arena. The decoders here are the only readers of the JSON form that the API,
 * the database and (turned into JSON) the configuration file share. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "base/map.h"
#include "govern/key.h"
#include <yyjson.h>

struct expression;   /* text/expression.h */
struct provider_row; /* gateway/provider_table.h: known differences of a compatible provider */

enum origin { ORIGIN_DATABASE, ORIGIN_FILE };

struct provider_key {
    struct str secret;
    uint32_t slot; /* index into the shared cool-down table: slot_assign(SLOT_PROVIDER_KEY, …) */
};

struct provider {
    struct str name;
    const struct provider_row
        *row;                  /* from `format`: openai, anthropic, engine, azure, mistral, … */
    struct str base_url;       /* without trailing slash; engine: empty */
    struct provider_key *keys; /* several: used in turn, each with a cool-down */
    size_t key_count;
    struct call_tag *headers; /* added to each request */
    size_t header_count;
    struct str ca_file, proxy;
    bool http2; /* https: offered by ALPN, the default; http: spoken without asking, only if so set
                 */
    bool public_only;
    const struct inner_model *inner; /* answered inside the process (inner.h); NULL: asked */
    char **command; /* supervised server (vLLM, SGLang), NULL-terminated; NULL: none */
    enum origin origin;
    uint32_t slot; /* index into shared state */
};

struct target {
    struct provider *provider;
    struct str model;
    uint32_t weight;
    struct str when;                  /* expression over headers, metadata, tags; empty: always */
    struct expression *when_compiled; /* by route_decode; NULL: always */
    struct str params;                /* JSON object merged over the request; empty: none */
    uint32_t slot; /* index into breaker and latency state: slot_assign(SLOT_TARGET, …) */
};

enum balance { BALANCE_WEIGHTED, BALANCE_ORDERED, BALANCE_LATENCY, BALANCE_STICKY };

/* Causes for which the next target is tried. */
enum {
    FALLBACK_RATE = 1,
    FALLBACK_OVERLOAD = 2,
    FALLBACK_CONTEXT = 4,
    FALLBACK_CONTENT_FILTER = 8,
    FALLBACK_ERROR = 16,
    FALLBACK_TIMEOUT = 32,
    FALLBACK_ANY = 63,
};

struct check {
    struct str name;
    enum { CHECK_REGEX, CHECK_JSON_SCHEMA, CHECK_PII } kind;
    enum { CHECK_INPUT = 1, CHECK_OUTPUT = 2 } on;
    enum { CHECK_BLOCK, CHECK_MASK, CHECK_FLAG } action;
    struct str pattern; /* regex; JSON schema; PII kinds, comma-separated */
    void *compiled;     /* owned by gateway/check.c */
};

struct route {
    struct str name, description;
    struct target *targets;
    size_t target_count;
    enum balance balance;
    int retry;         /* further tries at the same target before the next */
    unsigned fallback; /* FALLBACK_… */
    int64_t connect_ns, first_token_ns, between_ns,
        total_ns;         /* 0: the default of gateway/defaults.h */
    int64_t cache_ttl_ns; /* 0: off */
    struct check *checks;
    size_t check_count;
    enum capture capture;
    struct str *pass_headers;
    size_t pass_header_count;
    bool pass_credential; /* the client's own credential goes to the upstream */
    enum origin origin;
    uint64_t hash; /* of the definition: cache keys change with it */
};

/* Texts are copied into `arena`; slots (slots.h) are those of the project. `name` is checked too:
 * 1–128 of [A-Za-z0-9._:-]; slashes in routes allowed but for reserved prefixes. */
enum rc provider_decode(struct id project, struct str name, yyjson_val *json, struct arena *arena,
                        struct provider *out, struct err *err) MUST_CHECK;
/* Every project has the provider `local`, the models of this machine, unless it defines one of that
 * name. Puts it into the map (name → struct provider). */
enum rc provider_add_local(struct id project, struct map *providers, struct arena *arena,
                           struct err *err) MUST_CHECK;
/* `providers`: map name → struct provider; an unknown one is an error naming targets[i].provider.
 */
enum rc route_decode(struct id project, struct str name, yyjson_val *json,
                     const struct map *providers, struct arena *arena, struct route *out,
                     struct err *err) MUST_CHECK;
/* limits: {requests_per_minute, tokens_per_minute, parallel}; budget: {day, month} in dollars
 * (number or decimal string) or {day_usd, month_usd}. Either may be NULL. */
enum rc limits_decode(yyjson_val *limits, yyjson_val *budget, struct limits *out,
                      struct err *err) MUST_CHECK;
/* Member `capture` of an object: none, metadata, full; absent: CAPTURE_INHERIT. */
struct place;
enum rc capture_decode(const struct place *root, enum capture *out, struct err *err) MUST_CHECK;
