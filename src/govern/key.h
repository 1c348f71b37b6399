/* API keys as the hot path sees them: looked up by SHA-256 of the secret in the snapshot. */
#pragma once
#include "base/hash.h"
#include "govern/principal.h"
#include "trace/call.h"

/* 0 everywhere means: no bound. */
struct limits {
    int64_t requests_per_minute, tokens_per_minute, parallel;
    int64_t budget_day_pico, budget_month_pico; /* COST_UNKNOWN: no budget */
};

struct key {
    struct id id;
    uint8_t secret_sha256[SHA256_BYTES];
    struct str name;
    struct principal principal;
    struct str *model_globs; /* count 0: none allowed */
    size_t model_glob_count;
    int64_t expires_wall_ns; /* 0: never */
    bool revoked;
    struct limits limits;
    struct str user; /* default end user */
    struct call_tag *tags;
    size_t tag_count;
    enum capture capture;
};

bool key_allows_model(const struct key *key, struct str model);
