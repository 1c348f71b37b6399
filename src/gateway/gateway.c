/* One loop's gateway: what its calls share. Everything here but gateway_init runs on the loop. */
#include "gateway/call_private.h"
#include <stdlib.h>

#define PRICES_MAX         8192 /* cached look-ups a snapshot: callers can make up names */
#define TICK_NS            NS_PER_S
#define GATHERED_BYTES_MAX (LIMIT_RESPONSE_BYTES + LIMIT_SSE_EVENT_BYTES)

struct gateway_options gateway_options;

static void restore_spend(void *arg, struct id project, enum limit_kind kind, struct str value,
                          int64_t *day_pico, int64_t *month_pico)
{
    static const enum spend_by by[LIMIT_KIND_COUNT] = {SPEND_BY_KEY, SPEND_BY_TAG, SPEND_BY_USER,
                                                       SPEND_BY_PROJECT};
    struct trace_store *trace = arg;
    int64_t wall_ns = clock_wall_ns();
    int32_t today = (int32_t)(wall_ns / NS_PER_DAY);
    int32_t first = limit_month_first_day(wall_ns);
    struct spend_sum day, month;
    if (trace_spend_sum(trace, project, by[kind], value, today, today, &day) != RC_OK ||
        trace_spend_sum(trace, project, by[kind], value, first, today, &month) != RC_OK)
        return;
    *day_pico = (int64_t)day.cost_pico;
    *month_pico = (int64_t)month.cost_pico;
}

enum rc gateway_init(const struct gateway_options *options, struct err *err)
{
    gateway_options = *options;
    cache_init(options->cache_bytes_max);
    limit_init(&(struct limit_options){
        .restore = options->trace ? restore_spend : NULL,
        .arg = options->trace,
    });
    return RC_OK;
}

void gateway_fini(void)
{
    cache_clear();
    limit_reset_all();
}

static void gateway_tick(struct timer *timer)
{
    struct gateway_loop *gateway = CONTAINER_OF(timer, struct gateway_loop, tick);
    limit_tick(loop_wall_ns(gateway->loop));
    timer_start(gateway->loop, &gateway->tick, TICK_NS);
}

void call_post(struct call *call)
{
    struct gateway_loop *gateway = call->gateway;
    if (!list_detached(&call->ready_node))
        return;
    /* Not "the list is empty": a call that was cancelled has left it, its step is still to come. */
    if (!gateway->step_posted)
        loop_defer(gateway->loop, &gateway->step);
    gateway->step_posted = true;
    list_push_back(&gateway->ready, &call->ready_node);
}

static void gateway_step(struct task *task)
{
    struct gateway_loop *gateway = CONTAINER_OF(task, struct gateway_loop, step);
    gateway->step_posted = false;
    /* Calls that are posted meanwhile wait for the next turn. */
    struct list now;
    list_init(&now);
    while (!list_empty(&gateway->ready)) {
        struct list *node = gateway->ready.next;
        list_remove(node);
        list_push_back(&now, node);
    }
    while (!list_empty(&now)) {
        struct call *call = LIST_FIRST(&now, struct call, ready_node);
        list_remove(&call->ready_node);
        call_step(call);
    }
}

struct gateway_loop *gateway_loop_new(struct loop *loop, struct http_client *client)
{
    struct gateway_loop *gateway = xcalloc(1, sizeof(*gateway));
    gateway->loop = loop;
    gateway->client = client;
    gateway->metrics = metrics_loop_new();
    list_init(&gateway->calls);
    list_init(&gateway->ready);
    list_init(&gateway->flowing);
    slab_init(&gateway->slab, sizeof(struct call), 0);
    timer_init(&gateway->park, park_timer_fired);
    gateway->step.run = gateway_step;
    buf_init(&gateway->gathered, GATHERED_BYTES_MAX);
    timer_init(&gateway->tick, gateway_tick);
    if (loop_index(loop) == 0)
        timer_start(loop, &gateway->tick, TICK_NS);
    return gateway;
}

void gateway_loop_free(struct gateway_loop *gateway)
{
    while (!list_empty(&gateway->calls))
        gateway_call_cancel(LIST_FIRST(&gateway->calls, struct call, node));
    timer_stop(&gateway->tick);
    timer_stop(&gateway->park);
    slab_fini(&gateway->slab);
    if (gateway->hold) {
        gateway->hold->calls++; /* so that giving frees it */
        struct snapshot_hold *hold = gateway->hold;
        gateway->hold = NULL;
        hold_give(gateway, hold);
    }
    buf_fini(&gateway->gathered);
    metrics_loop_free(gateway->metrics);
    free(gateway);
}

size_t gateway_loop_calls(const struct gateway_loop *gateway) { return gateway->call_count; }

/* ---- snapshots ---- */

static void prices_clear(struct snapshot_hold *hold)
{
    MAP_FOR_EACH (slot, &hold->prices)
        free(slot->value);
    map_fini(&hold->prices);
    map_init(&hold->prices);
}

static void origins_clear(struct snapshot_hold *hold)
{
    MAP_FOR_EACH (slot, &hold->origins)
        free((void *)slot->key.p);
    map_fini(&hold->origins);
}

static void hold_free(struct snapshot_hold *hold)
{
    prices_clear(hold);
    map_fini(&hold->prices);
    origins_clear(hold);
    snapshot_unref(hold->snapshot);
    free(hold);
}

struct snapshot_hold *hold_take(struct gateway_loop *gateway)
{
    struct snapshot *now = snapshot_current();
    struct snapshot_hold *before = gateway->hold;
    if (UNLIKELY(!before || before->snapshot != now)) {
        gateway->hold = xcalloc(1, sizeof(*gateway->hold));
        gateway->hold->snapshot = snapshot_ref(now);
        map_init(&gateway->hold->prices);
        map_init(&gateway->hold->origins);
        if (before && before->calls == 0)
            hold_free(before);
    }
    gateway->hold->calls++;
    return gateway->hold;
}

void hold_give(struct gateway_loop *gateway, struct snapshot_hold *hold)
{
    ASSERT(hold->calls > 0);
    if (--hold->calls == 0 && hold != gateway->hold)
        hold_free(hold);
}

/* ---- what is looked up once ---- */

struct http_origin *gateway_origin(struct call *call, const struct provider *provider,
                                   struct str base_url, struct err *err)
{
    /* An engine's address changes with each start: those are looked up by their whole options. */
    bool keep = provider->base_url.n && provider->base_url.p == base_url.p;
    struct str key = str_make(&provider, sizeof(provider));
    struct http_origin *origin = keep ? map_get(&call->hold->origins, key) : NULL;
    if (LIKELY(origin != NULL))
        return origin;
    struct http_origin_options options = {
        .url = base_url,
        .ca_file = provider->ca_file,
        .proxy = provider->proxy,
        .http2 = provider->http2,
        .public_only = provider->public_only,
    };
    origin = http_client_origin(call->gateway->client, &options, err);
    if (origin && keep) {
        char *copy = xmalloc(key.n);
        memcpy(copy, key.p, key.n);
        map_put(&call->hold->origins, str_make(copy, key.n), origin);
    }
    return origin;
}

struct price_entry {
    const struct price_model *price;
    char key[]; /* what the map's key points to */
};

const struct price_model *gateway_price(struct call *call, const struct target *target)
{
    struct map *prices = &call->hold->prices;
    char text[sizeof(void *) + LIMIT_NAME_BYTES * 2];
    size_t model_n = MIN(target->model.n, sizeof(text) - sizeof(void *));
    /* A made-up provider lives in a call's arena: its address says nothing, and it has no price. */
    const struct provider *provider = target->provider;
    if (provider->slot == SLOT_NONE && provider->base_url.n == 0)
        return price_table_find(call->project->price_overrides, provider->name, target->model);
    memcpy(text, &provider, sizeof(provider));
    memcpy(text + sizeof(provider), target->model.p, model_n);
    struct str key = str_make(text, sizeof(provider) + model_n);
    struct price_entry *entry = map_get(prices, key);
    if (LIKELY(entry != NULL))
        return entry->price;
    if (prices->count >= PRICES_MAX)
        prices_clear(call->hold);
    entry = xmalloc(sizeof(*entry) + key.n);
    memcpy(entry->key, key.p, key.n);
    entry->price = price_table_find(call->project->price_overrides, provider->name, target->model);
    if (!entry->price)
        entry->price = price_find(provider->name, provider->base_url, target->model);
    map_put(prices, str_make(entry->key, key.n), entry);
    return entry->price;
}
