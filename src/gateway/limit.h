/* Limits and budgets: requests and tokens a minute, parallel calls, money a day and a month (UTC),
 * on a key, a tag, an end user and a project. A call reserves an estimate with every meter that
 * concerns it, all or none, and settles the actual at its end.
 *
 * Meters are shared by all loops and made of atomics; nothing here takes a lock but the making of a
 * new meter. Exactness: parallel           never passed. requests a minute  never passed in any 60
 * s: the window is the last 60 to 62 s, in steps of 2 s. tokens a minute    the same for what was
 * reserved; what a call used beyond its estimate is counted when it ends and holds back later
 * calls. budgets            a call starts only while spent + reserved + its own estimate stay
 * within the budget; what an answer costs beyond its estimate is the overshoot. The day and the
 * month begin anew within a second of midnight UTC. */
#pragma once
#include "base/err.h"
#include "base/id.h"
#include "govern/key.h"

enum limit_kind { LIMIT_KEY, LIMIT_TAG, LIMIT_USER, LIMIT_PROJECT, LIMIT_KIND_COUNT };

const char *limit_kind_name(enum limit_kind kind); /* "key", "tag", … */

#define LIMIT_METERS_MAX 65536 /* in the process */
#define LIMIT_HOLDS_MAX  8     /* meters of one call: key, user, project and up to five tags */

struct meter;

/* What was spent before this process started, when a meter with a budget is made: asked once a
 * meter. `value`: the key's 16 bytes, NAME=VALUE of a tag, the user, or empty. NULL: nothing is
 * restored. */
struct limit_options {
    void (*restore)(void *arg, struct id project, enum limit_kind kind, struct str value,
                    int64_t *day_pico, int64_t *month_pico);
    void *arg;
};
void limit_init(const struct limit_options *options);
void limit_reset_all(void); /* tests: forgets every meter */

/* Found or made; NULL when the table is full. Stays valid as long as the process. */
struct meter *meter_get(struct id project, enum limit_kind kind, struct str value, bool has_budget,
                        int64_t wall_ns);

/* What one call holds: part of the call, starts zeroed. */
struct limit_holds {
    struct {
        struct meter *meter;
        const struct limits *limits;
        enum limit_kind kind;
    } items[LIMIT_HOLDS_MAX];
    size_t count;
    uint64_t tokens_reserved;
    int64_t cost_reserved_pico;
    int64_t minute_ns; /* when it was reserved */
    bool held;
};

/* Adds a meter that concerns the call; meters without any bound may be left out. ERR_OVERLOADED:
 * table full. */
enum rc limit_add(struct limit_holds *holds, struct id project, enum limit_kind kind,
                  struct str value, const struct limits *limits, int64_t wall_ns,
                  struct err *err) MUST_CHECK;
/* Reserves with all of them or none. ERR_RATE_LIMIT or ERR_BUDGET with retry_after_ms, the subject
 * and the remedy. `cost_pico` may be COST_UNKNOWN: counts 0. */
enum rc limit_reserve(struct limit_holds *holds, uint64_t tokens, int64_t cost_pico, int64_t now_ns,
                      int64_t wall_ns, struct err *err) MUST_CHECK;
/* The call ended: what it really used. Harmless when nothing is held. */
void limit_settle(struct limit_holds *holds, uint64_t tokens, int64_t cost_pico, int64_t now_ns);

/* For the rate-limit headers: the tightest of the call's bounds after it was reserved. */
struct limit_state {
    int64_t requests_limit, requests_left, tokens_limit, tokens_left; /* limit 0: none */
    int64_t requests_reset_ns, tokens_reset_ns; /* until all of it is there again */
};
void limit_state_of(const struct limit_holds *holds, int64_t now_ns, struct limit_state *out);

/* What a meter has counted; for the API. Zero when there is no such meter. */
struct meter_reading {
    int64_t requests_minute, tokens_minute, parallel, day_pico, month_pico;
};
void limit_read(struct id project, enum limit_kind kind, struct str value, int64_t now_ns,
                int64_t wall_ns, struct meter_reading *out);
/* Days since 1970 of the first day of that time's month, UTC. */
int32_t limit_month_first_day(int64_t wall_ns);
/* Once a second from one loop: starts new days and months. */
void limit_tick(int64_t wall_ns);
