/* In which order a route's targets are tried. */
#pragma once
#include "gateway/config.h"
#include "gateway/scope.h"

#define BALANCE_TARGETS_MAX 64

struct balance_options {
    struct str sticky_key; /* session, else end user, else the key's id: the same one goes to the
                              same target */
    /* Whether a target's `when` holds; NULL: all do. */
    bool (*eligible)(void *arg, const struct target *target);
    void *arg;
};

/* Writes the indices of eligible targets in the order to try and returns how many (at most
 * BALANCE_TARGETS_MAX). Weights say how often a target comes first; weight 0 is tried last.
 *   weighted  at random by weight, each time anew
 *   ordered   as written
 *   latency   by moving average of the time to first content; unknown ones first; one call in 32 at
 * random sticky    rendezvous hashing by weight: when a target joins or leaves, only its own share
 * moves */
size_t balance_order(const struct route *route, const struct balance_options *options,
                     uint8_t order[BALANCE_TARGETS_MAX]);

/* The provider's key to use: the next in turn that does not cool down, or -1 with *until_ns, the
 * time when the first of them will be usable again. `turn` is the loop's own counter. Providers
 * without keys: 0. */
int balance_pick_key(const struct provider *provider, uint32_t *turn, int64_t now_ns,
                     int64_t *until_ns);
