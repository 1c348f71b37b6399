/* Prices and costs: see price.h. The built-in table is constant data without pointers (offsets into
 * one text pool), so it costs no memory until it is looked at and no time at start. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "gateway/price.h"
#include "base/clock.h"
#include <ctype.h>
#include <pcre2.h>

struct price_text {
    uint32_t at;
    uint16_t n;
};

/* A rule that matches a name, in prefix order: AND and OR are followed by `n` nodes. */
enum price_op {
    PRICE_STARTS,
    PRICE_ENDS,
    PRICE_CONTAINS,
    PRICE_EQUALS,
    PRICE_REGEX,
    PRICE_AND,
    PRICE_OR
};

struct price_clause {
    uint8_t op;
    uint32_t at; /* of the text; AND, OR: how many nodes belong to it */
    uint16_t n;
};

struct price_rate {
    int64_t pico;   /* a token */
    uint32_t start; /* holds when the call's input tokens exceed this; 0: always */
    uint8_t bucket;
};

enum price_time { PRICE_ANY_TIME, PRICE_FROM_DAY, PRICE_HOURS };
enum price_when { PRICE_ALWAYS, PRICE_WHEN_SERVICE_TIER, PRICE_WHEN_SPEED };

/* Rates that hold together, and when. */
struct price_set {
    uint32_t rate_at, rate_count;
    uint16_t begin, end; /* day since 1970; or minutes of the day, UTC */
    uint8_t time, when;
    uint32_t value_at; /* what the context must be */
    uint16_t value_n;
};

struct price_model {
    uint32_t clause_at;
    uint32_t set_at, set_count, variant_count; /* standard sets, then variants */
    struct price_text id, name;
    uint32_t context_tokens;
    const struct price_rate *own; /* an override's rates, one a bucket at most; else NULL */
    size_t own_count;
};

struct price_provider {
    struct price_text id, url_pattern;
    int32_t clause_at; /* -1: none */
    uint32_t model_at, model_count;
    uint32_t fallback_at, fallback_count;
};

#include "gateway/price_data.h"

const char *price_table_version(void) { return PRICE_VERSION; }

static struct str text_of(struct price_text text) { return str_make(price_text + text.at, text.n); }

/* ---- matching names ---- */

static bool regex_matches(struct str pattern, struct str s, bool at_start)
{
    int error;
    size_t offset;
    uint32_t flags = at_start ? PCRE2_ANCHORED : 0;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)pattern.p, pattern.n, flags, &error, &offset, NULL);
    if (!code)
        return false;
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    bool found = match && pcre2_match(code, (PCRE2_SPTR)s.p, s.n, 0, 0, match, NULL) >= 0;
    pcre2_match_data_free(match);
    pcre2_code_free(code);
    return found;
}

static bool clause_matches(const struct price_clause *clause, struct str s);

/* Nodes that belong to a clause besides itself. */
static uint32_t clause_below(const struct price_clause *clause)
{
    return clause->op >= PRICE_AND ? clause->at : 0;
}

static bool group_matches(const struct price_clause *group, struct str s)
{
    bool is_and = group->op == PRICE_AND;
    const struct price_clause *end = group + 1 + group->at;
    for (const struct price_clause *item = group + 1; item < end; item += 1 + clause_below(item))
        if (clause_matches(item, s) != is_and)
            return !is_and;
    return is_and;
}

/* Depth is the generated table's: two or three. */
static bool clause_matches(const struct price_clause *clause, struct str s)
{
    struct str text =
        clause->op < PRICE_AND ? str_make(price_text + clause->at, clause->n) : STR_EMPTY;
    switch ((enum price_op)clause->op) {
    case PRICE_STARTS: return str_starts(s, text);
    case PRICE_ENDS: return str_ends(s, text);
    case PRICE_CONTAINS: return str_find(s, text) >= 0;
    case PRICE_EQUALS: return str_eq(s, text);
    case PRICE_REGEX: return regex_matches(text, s, false);
    case PRICE_AND:
    case PRICE_OR: return group_matches(clause, s);
    }
    UNREACHABLE();
}

#define NAME_BYTES_MAX 256

/* Lower case in `out`; empty when too long to be any name. */
static struct str lower(struct str s, char out[NAME_BYTES_MAX])
{
    if (s.n >= NAME_BYTES_MAX)
        return STR_EMPTY;
    for (size_t i = 0; i < s.n; i++)
        out[i] = (char)tolower((unsigned char)s.p[i]);
    return str_make(out, s.n);
}

static const struct price_provider *find_provider(struct str name, struct str base_url)
{
    for (size_t i = 0; base_url.n && i < COUNT_OF(price_providers); i++)
        if (regex_matches(text_of(price_providers[i].url_pattern), base_url, true))
            return &price_providers[i];
    for (size_t i = 0; name.n && i < COUNT_OF(price_providers); i++)
        if (str_eq(text_of(price_providers[i].id), name))
            return &price_providers[i];
    for (size_t i = 0; name.n && i < COUNT_OF(price_providers); i++)
        if (price_providers[i].clause_at >= 0 &&
            clause_matches(&price_clauses[price_providers[i].clause_at], name))
            return &price_providers[i];
    return NULL;
}

static const struct price_model *find_own_model(const struct price_provider *provider,
                                                struct str model)
{
    for (uint32_t i = 0; i < provider->model_count; i++) {
        const struct price_model *item = &price_models[provider->model_at + i];
        if (clause_matches(&price_clauses[item->clause_at], model))
            return item;
    }
    return NULL;
}

static const struct price_model *find_model(const struct price_provider *provider, struct str model)
{
    const struct price_model *found = find_own_model(provider, model);
    for (uint32_t i = 0; !found && i < provider->fallback_count; i++)
        found = find_own_model(&price_providers[price_fallbacks[provider->fallback_at + i]], model);
    return found;
}

/* "-20251211" at the end or before '-' or ':' becomes "-2025-12-11": false when there is none. */
static bool spread_date(struct str s, char out[NAME_BYTES_MAX + 2], struct str *spread)
{
    for (size_t i = 0; i + 9 <= s.n && s.n < NAME_BYTES_MAX; i++) {
        if (s.p[i] != '-' || s.p[i + 1] != '2' || s.p[i + 2] != '0')
            continue;
        size_t digits = 1;
        while (i + digits < s.n && isdigit((unsigned char)s.p[i + digits]))
            digits++;
        bool ends = i + 9 == s.n || s.p[i + 9] == '-' || s.p[i + 9] == ':';
        if (digits != 9 || !ends)
            continue;
        memcpy(out, s.p, i + 5);
        out[i + 5] = '-';
        memcpy(out + i + 6, s.p + i + 5, 2);
        out[i + 8] = '-';
        memcpy(out + i + 9, s.p + i + 7, s.n - i - 7);
        *spread = str_make(out, s.n + 2);
        return true;
    }
    return false;
}

const struct price_model *price_find(struct str provider_name, struct str base_url,
                                     struct str model)
{
    char name_text[NAME_BYTES_MAX], model_text[NAME_BYTES_MAX], spread_text[NAME_BYTES_MAX + 2];
    struct str name = lower(provider_name, name_text);
    struct str wanted = lower(model, model_text), spread;
    if (wanted.n == 0)
        return NULL;
    const struct price_provider *provider = find_provider(name, base_url);
    if (!provider)
        return NULL;
    const struct price_model *found = find_model(provider, wanted);
    if (!found && spread_date(wanted, spread_text, &spread))
        found = find_model(provider, spread);
    return found;
}

/* ---- prices at a time ---- */

static bool set_active(const struct price_set *set, int64_t wall_ns)
{
    int64_t minute = wall_ns % NS_PER_DAY / (60 * NS_PER_S);
    switch ((enum price_time)set->time) {
    case PRICE_ANY_TIME: return true;
    case PRICE_FROM_DAY: return wall_ns / NS_PER_DAY >= set->begin;
    case PRICE_HOURS:
        return set->end < set->begin ? minute >= set->begin || minute < set->end
                                     : minute >= set->begin && minute < set->end;
    }
    UNREACHABLE();
}

/* Writes the rates that hold for `input_total` where nothing stands yet. Rates of a bucket stand
 * together, by rising start. */
static void rates_apply(const struct price_rate *rates, size_t count, uint64_t input_total,
                        int64_t bucket_pico[USAGE_BUCKET_COUNT])
{
    bool ours[USAGE_BUCKET_COUNT] = {false};
    for (size_t i = 0; i < count; i++) {
        const struct price_rate *rate = &rates[i];
        if (bucket_pico[rate->bucket] != COST_UNKNOWN && !ours[rate->bucket])
            continue;
        if (rate->start > 0 && input_total <= rate->start)
            continue;
        bucket_pico[rate->bucket] = rate->pico;
        ours[rate->bucket] = true;
    }
}

static bool variant_applies(const struct price_set *set, int64_t wall_ns,
                            const struct price_context *context)
{
    struct str value = set->when == PRICE_WHEN_SPEED ? context->speed : context->service_tier;
    return value.n && str_eq(value, str_make(price_text + set->value_at, set->value_n)) &&
           set_active(set, wall_ns);
}

static void apply_parents(int64_t bucket_pico[USAGE_BUCKET_COUNT])
{
    static const struct {
        uint8_t bucket, parent;
    } parents[] = {
        {USAGE_CACHED_INPUT, USAGE_INPUT},         {USAGE_CACHE_WRITE, USAGE_INPUT},
        {USAGE_CACHE_WRITE_1H, USAGE_CACHE_WRITE}, {USAGE_AUDIO_INPUT, USAGE_INPUT},
        {USAGE_IMAGE_INPUT, USAGE_INPUT},          {USAGE_REASONING, USAGE_OUTPUT},
        {USAGE_AUDIO_OUTPUT, USAGE_OUTPUT},
    };
    for (size_t i = 0; i < COUNT_OF(parents); i++)
        if (bucket_pico[parents[i].bucket] == COST_UNKNOWN)
            bucket_pico[parents[i].bucket] = bucket_pico[parents[i].parent];
}

void price_at(const struct price_model *model, int64_t wall_ns, const struct price_context *context,
              uint64_t input_tokens_total, int64_t bucket_pico[USAGE_BUCKET_COUNT])
{
    for (size_t i = 0; i < USAGE_BUCKET_COUNT; i++)
        bucket_pico[i] = COST_UNKNOWN;
    if (!model)
        return;
    if (model->own) {
        rates_apply(model->own, model->own_count, input_tokens_total, bucket_pico);
        apply_parents(bucket_pico);
        return;
    }
    const struct price_set *sets = &price_sets[model->set_at], *standard = &sets[0];
    for (uint32_t i = model->set_count; i-- > 0;)
        if (set_active(&sets[i], wall_ns)) {
            standard = &sets[i];
            break;
        }
    for (uint32_t i = 0; context && i < model->variant_count; i++) {
        const struct price_set *variant = &sets[model->set_count + i];
        if (variant_applies(variant, wall_ns, context))
            rates_apply(&price_rates[variant->rate_at], variant->rate_count, input_tokens_total,
                        bucket_pico);
    }
    rates_apply(&price_rates[standard->rate_at], standard->rate_count, input_tokens_total,
                bucket_pico);
    apply_parents(bucket_pico);
}

int64_t price_cost(const struct usage *usage, const int64_t bucket_pico[USAGE_BUCKET_COUNT])
{
    __int128 sum = 0;
    for (size_t i = 0; i < USAGE_BUCKET_COUNT; i++) {
        if (usage->tokens[i] == 0)
            continue;
        if (bucket_pico[i] == COST_UNKNOWN)
            return COST_UNKNOWN;
        sum += (__int128)usage->tokens[i] * bucket_pico[i];
    }
    return sum > INT64_MAX ? COST_UNKNOWN : (int64_t)sum;
}

/* ---- overrides ---- */

struct price_table {
    struct map models; /* "provider/model" → struct price_model */
};

struct price_table *price_table_new(struct arena *arena)
{
    struct price_table *table = ARENA_NEW(arena, struct price_table);
    if (table)
        map_init(&table->models);
    return table;
}

void price_table_fini(struct price_table *table)
{
    if (table)
        map_fini(&table->models);
}

/* "2.50" → pico-dollars a token; six decimals at most, so that nothing is rounded. */
static enum rc parse_price(struct str s, int64_t *pico)
{
    ssize_t dot = str_find_char(s, '.');
    struct str whole = dot < 0 ? s : str_slice(s, 0, (size_t)dot);
    struct str fraction = dot < 0 ? STR_EMPTY : str_slice(s, (size_t)dot + 1, s.n);
    uint64_t dollars = 0, micro = 0;
    if (fraction.n > 6 || (whole.n == 0 && fraction.n == 0))
        return RC_INVALID;
    if (whole.n && str_to_u64(whole, &dollars) != RC_OK)
        return RC_INVALID;
    if (fraction.n && str_to_u64(fraction, &micro) != RC_OK)
        return RC_INVALID;
    for (size_t i = fraction.n; i < 6; i++)
        micro *= 10;
    if (dollars > 1000000)
        return RC_LIMIT;
    *pico = (int64_t)(dollars * 1000000 + micro);
    return RC_OK;
}

static enum rc read_price(yyjson_val *value, int64_t *pico)
{
    if (yyjson_is_str(value))
        return parse_price(str_make(yyjson_get_str(value), yyjson_get_len(value)), pico);
    if (!yyjson_is_num(value))
        return RC_INVALID;
    double dollars = yyjson_get_num(value);
    if (!(dollars >= 0 && dollars <= 1000000))
        return RC_INVALID;
    *pico = (int64_t)(dollars * 1000000.0 + 0.5);
    return RC_OK;
}

static int bucket_by_name(struct str name)
{
    for (int i = 0; i < USAGE_BUCKET_COUNT; i++)
        if (str_eq(name, str_from(usage_bucket_name((enum usage_bucket)i))))
            return i;
    return -1;
}

enum rc price_table_add(struct price_table *table, struct arena *arena, struct str provider,
                        struct str model, yyjson_val *prices, struct err *err)
{
    struct price_model *item = ARENA_NEW(arena, struct price_model);
    struct price_rate *rates = ARENA_NEW_ARRAY(arena, struct price_rate, USAGE_BUCKET_COUNT);
    struct str name = arena_printf(arena, "%.*s/%.*s", STR_ARG(provider), STR_ARG(model));
    if (!item || !rates || !name.p)
        return err_set(err, ERR_TOO_LARGE, "too many prices for the configuration's memory");
    if (!yyjson_is_obj(prices))
        return err_set(err, ERR_BAD_FIELD,
                       "prices must be an object of dollars per million tokens by bucket");
    size_t i, count;
    yyjson_val *key, *value;
    yyjson_obj_foreach(prices, i, count, key, value)
    {
        struct str bucket_name = str_make(yyjson_get_str(key), yyjson_get_len(key));
        int bucket = bucket_by_name(bucket_name);
        if (bucket < 0)
            return err_set_field(
                err, ERR_BAD_FIELD, yyjson_get_str(key),
                "no such token bucket; use input_tokens, output_tokens, cached_input_tokens, …");
        if (item->own_count == USAGE_BUCKET_COUNT ||
            read_price(value, &rates[item->own_count].pico) != RC_OK)
            return err_set_field(err, ERR_BAD_FIELD, yyjson_get_str(key),
                                 "a price is dollars per million tokens, a number or a decimal "
                                 "text with at most six decimals");
        rates[item->own_count++].bucket = (uint8_t)bucket;
    }
    item->own = rates;
    map_put(&table->models, name, item);
    return RC_OK;
}

const struct price_model *price_table_find(const struct price_table *table, struct str provider,
                                           struct str model)
{
    char text[2 * NAME_BYTES_MAX];
    if (!table || provider.n + model.n + 1 > sizeof(text))
        return NULL;
    memcpy(text, provider.p, provider.n);
    text[provider.n] = '/';
    memcpy(text + provider.n + 1, model.p, model.n);
    return map_get(&table->models, str_make(text, provider.n + 1 + model.n));
}

/* ---- the list ---- */

size_t price_row_count(void) { return COUNT_OF(price_models); }

void price_row_at(size_t index, int64_t wall_ns, struct price_row *out)
{
    ASSERT(index < COUNT_OF(price_models));
    const struct price_model *model = &price_models[index];
    *out = (struct price_row){.model = text_of(model->id),
                              .name = text_of(model->name),
                              .context_tokens = model->context_tokens};
    for (size_t i = 0; i < COUNT_OF(price_providers); i++)
        if (index - price_providers[i].model_at < price_providers[i].model_count)
            out->provider = text_of(price_providers[i].id);
    price_at(model, wall_ns, NULL, 0, out->bucket_pico);
    for (uint32_t i = 0; i < model->set_count; i++) {
        const struct price_set *set = &price_sets[model->set_at + i];
        for (uint32_t j = 0; j < set->rate_count; j++)
            out->tiered |= price_rates[set->rate_at + j].start > 0;
    }
}

size_t price_format_usd(int64_t pico, char out[PRICE_USD_BYTES])
{
    char digits[24];
    uint64_t rest = pico < 0 ? -(uint64_t)pico : (uint64_t)pico;
    int fraction = 12;
    while (fraction > 0 && rest % 10 == 0) {
        rest /= 10;
        fraction--;
    }
    /* Backwards: the fraction's digits, the point, at least one digit before it, the sign. */
    char *end = digits + sizeof(digits), *p = end;
    for (int i = 0; i < fraction; i++, rest /= 10)
        *--p = (char)('0' + rest % 10);
    if (fraction > 0)
        *--p = '.';
    do
        *--p = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (pico < 0)
        *--p = '-';
    memcpy(out, p, (size_t)(end - p));
    return (size_t)(end - p);
}
