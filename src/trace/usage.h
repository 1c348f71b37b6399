/* Tokens and money of a call. Buckets are disjoint: a token is counted in exactly one, so that a
 * cost is the sum over buckets of tokens × price. Providers that report totals (OpenAI's
 * prompt_tokens includes cached ones) are split up when read. */
#pragma once
#include "base/base.h"

enum usage_bucket {
#define USAGE_BUCKET(name, key, text) USAGE_##name,
#include "trace/usage_buckets.h"
#undef USAGE_BUCKET
    USAGE_BUCKET_COUNT
};

struct usage {
    uint64_t tokens[USAGE_BUCKET_COUNT];
    bool known;     /* the upstream (or the engine) reported it */
    bool estimated; /* counted by us, not reported */
};

const char *usage_bucket_name(enum usage_bucket bucket); /* "cached_input_tokens" */
uint64_t
usage_input_total(const struct usage *usage); /* input + cached + cache writes + audio/image in */
uint64_t usage_output_total(const struct usage *usage); /* output + reasoning + audio out */
void usage_add(struct usage *into, const struct usage *more);

/* Money: pico-dollars (1e-12 USD) in 64 bits, ±9.2 million dollars a call; sums in 128 bits. */
#define COST_UNKNOWN    INT64_MIN
#define PICO_PER_DOLLAR 1000000000000LL
