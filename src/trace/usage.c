/* Names and sums of token buckets. Pure functions, any thread. */
#include "trace/usage.h"

static const char *const bucket_names[USAGE_BUCKET_COUNT] = {
#define USAGE_BUCKET(name, key, text) [USAGE_##name] = key,
#include "trace/usage_buckets.h"
#undef USAGE_BUCKET
};

const char *usage_bucket_name(enum usage_bucket bucket)
{
    ASSERT(bucket < USAGE_BUCKET_COUNT);
    return bucket_names[bucket];
}

uint64_t usage_input_total(const struct usage *usage)
{
    return usage->tokens[USAGE_INPUT] + usage->tokens[USAGE_CACHED_INPUT] +
           usage->tokens[USAGE_CACHE_WRITE] + usage->tokens[USAGE_CACHE_WRITE_1H] +
           usage->tokens[USAGE_AUDIO_INPUT] + usage->tokens[USAGE_IMAGE_INPUT];
}

uint64_t usage_output_total(const struct usage *usage)
{
    return usage->tokens[USAGE_OUTPUT] + usage->tokens[USAGE_REASONING] +
           usage->tokens[USAGE_AUDIO_OUTPUT];
}

void usage_add(struct usage *into, const struct usage *more)
{
    for (int i = 0; i < USAGE_BUCKET_COUNT; i++)
        into->tokens[i] += more->tokens[i];
    into->known = into->known || more->known;
    into->estimated = into->estimated || more->estimated;
}
