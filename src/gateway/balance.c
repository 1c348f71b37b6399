/* Order of targets: see balance.h. Stateless but for the moving averages of breaker.c. */
#include "gateway/balance.h"
#include "base/hash.h"
#include "base/rand.h"
#include "gateway/breaker.h"
#include <math.h>

struct ranked {
    uint8_t index;
    double score; /* higher is tried earlier */
};

/* Weighted order without replacement: u^(1/w) for uniform u (Efraimidis and Spirakis 2006); in
 * logarithms, log(u)/w. With a hash of (key, target) in place of chance it is weighted rendezvous
 * hashing. */
static double weighted_score(double unit, uint32_t weight)
{
    return weight == 0 ? -INFINITY : log(unit) / (double)weight;
}

static double sticky_unit(struct str key, const struct target *target)
{
    uint64_t parts[3] = {hash_xxh3(key.p, key.n),
                         hash_xxh3(target->provider->name.p, target->provider->name.n),
                         hash_xxh3(target->model.p, target->model.n)};
    return (double)((hash_xxh3(parts, sizeof(parts)) >> 11) + 1) / (double)(1ull << 53);
}

static double target_score(const struct route *route, const struct balance_options *options,
                           uint8_t index, bool explore)
{
    const struct target *target = &route->targets[index];
    switch (route->balance) {
    case BALANCE_ORDERED: return -(double)index;
    case BALANCE_LATENCY: return explore ? rand_unit() : -(double)breaker_latency_ns(target->slot);
    case BALANCE_STICKY:
        if (options->sticky_key.n)
            return weighted_score(sticky_unit(options->sticky_key, target), target->weight);
        break;
    case BALANCE_WEIGHTED: break;
    }
    return weighted_score(1.0 - rand_unit(), target->weight);
}

size_t balance_order(const struct route *route, const struct balance_options *options,
                     uint8_t order[BALANCE_TARGETS_MAX])
{
    struct ranked ranked[BALANCE_TARGETS_MAX];
    size_t count = 0, total = MIN(route->target_count, (size_t)BALANCE_TARGETS_MAX);
    bool explore = route->balance == BALANCE_LATENCY && total > 1 && rand_below(32) == 0;
    for (size_t i = 0; i < total; i++) {
        if (options->eligible && !options->eligible(options->arg, &route->targets[i]))
            continue;
        struct ranked item = {(uint8_t)i, 0};
        if (total > 1)
            item.score = target_score(route, options, (uint8_t)i, explore);
        size_t at = count++;
        for (; at > 0 && ranked[at - 1].score < item.score; at--)
            ranked[at] = ranked[at - 1];
        ranked[at] = item;
    }
    for (size_t i = 0; i < count; i++)
        order[i] = ranked[i].index;
    return count;
}

int balance_pick_key(const struct provider *provider, uint32_t *turn, int64_t now_ns,
                     int64_t *until_ns)
{
    if (provider->key_count == 0)
        return 0;
    uint32_t first = (*turn)++;
    int64_t soonest_ns = INT64_MAX;
    for (size_t i = 0; i < provider->key_count; i++) {
        size_t index = (first + i) % provider->key_count;
        int64_t usable_ns = cooldown_until_ns(provider->keys[index].slot);
        if (usable_ns <= now_ns)
            return (int)index;
        soonest_ns = MIN(soonest_ns, usable_ns);
    }
    *until_ns = soonest_ns;
    return -1;
}
