/* Prices and costs. The table is made at build time from the PyPI package genai-prices
 * (scripts/prices), never typed by hand; a project may override single models. Prices are
 * pico-dollars a token, so that
 * $/million tokens is exact to six decimals, and a cost is a sum of integers: tokens × price over
 * the disjoint buckets of usage.h.
 *
 * A bucket without a price of its own costs what its parent costs (cached and audio input: input;
 * one-hour cache writes: five-minute ones; reasoning: output). Tokens in a bucket for which that
 * leads nowhere make the cost COST_UNKNOWN, never 0. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "base/map.h"
#include "trace/usage.h"
#include <yyjson.h>

struct price_model; /* the price list of one model: built-in or overridden; immutable */
struct price_table; /* a project's overrides; lives in the snapshot's arena */

/* "genai-prices 0.2.3" */
const char *price_table_version(void);

/* Where a model is asked, and how. */
struct price_context {
    struct str service_tier; /* the request's: "priority", "flex", …; empty: standard */
    struct str speed;        /* Anthropic's "fast" */
};

/* The built-in price list. The provider is found by base URL, else by name ("openai", "my-azure");
 * the model by the package's own rules (aliases, dated names), with its fall-back providers. NULL:
 * no price known. Some microseconds to a millisecond: cache the answer. Any thread. */
const struct price_model *price_find(struct str provider_name, struct str base_url,
                                     struct str model);

/* Prices in force for a call: pico-dollars a token; COST_UNKNOWN where none. Depends on the time
 * (start dates, hours), the context, and the total of input tokens (tiers apply to the whole call).
 * NULL model: all unknown. */
void price_at(const struct price_model *model, int64_t wall_ns, const struct price_context *context,
              uint64_t input_tokens_total, int64_t bucket_pico[USAGE_BUCKET_COUNT]);
/* Sum over buckets; COST_UNKNOWN when a bucket with tokens has no price, or it does not fit. */
int64_t price_cost(const struct usage *usage, const int64_t bucket_pico[USAGE_BUCKET_COUNT]);

/* ---- overrides ---- */
/* Give it back with price_table_fini before its arena. */
struct price_table *price_table_new(struct arena *arena);
void price_table_fini(struct price_table *table);
/* {"input_tokens": "2.50", "output_tokens": 10, …}: dollars a million tokens by bucket name, number
 * or decimal string, at most six decimals. ERR_BAD_FIELD names the bucket. */
enum rc price_table_add(struct price_table *table, struct arena *arena, struct str provider,
                        struct str model, yyjson_val *prices, struct err *err) MUST_CHECK;
/* NULL: not overridden. `table` may be NULL. */
const struct price_model *price_table_find(const struct price_table *table, struct str provider,
                                           struct str model);

/* ---- for the API: the built-in list ---- */
struct price_row {
    struct str provider, model, name;        /* ids as the package writes them */
    int64_t bucket_pico[USAGE_BUCKET_COUNT]; /* now, standard, first tier */
    bool tiered;
    uint32_t context_tokens; /* 0: not told */
};
size_t price_row_count(void);
void price_row_at(size_t index, int64_t wall_ns, struct price_row *out);

#define PRICE_USD_BYTES 32
/* Exact dollars of an amount, without trailing zeros: "0.0000125"; returns the length. */
size_t price_format_usd(int64_t pico, char out[PRICE_USD_BYTES]);
