/* Parking: a stream that flows needs its call's struct and its answer's; the request, the record
 * and what the limits hold are not looked at until its end. So once a stream has flowed for a while
 * its arena is parked (base/arena.h), and woken by whatever is not the flow: its end, an error, a
 * deadline, the client's leaving. Short streams never pay for it.
 *
 * What may be touched while parked: struct call, wire_answer, the snapshot. Nothing that lies in
 * scope->arena: call->request, call->record, call->limits, and targets made for one call. A door's
 * sink keeps to that, too; callers inside the process keep things of their own in the arena. */
#include "gateway/call_private.h"

#define PARK_TURN_MAX 16        /* calls parked in one turn: some 20 us each */
#define PARK_TURN_NS  NS_PER_MS /* until the next ones */

static int64_t park_after_ns(void)
{
    return gateway_options.park_after_ns ? gateway_options.park_after_ns : DEFAULT_PARK_AFTER_NS;
}

void park_later(struct call *call)
{
    struct gateway_loop *gateway = call->gateway;
    ASSERT(!call->may_park);
    if (call->request->door == DOOR_INTERNAL)
        return;
    call->may_park = true;
    list_push_back(&gateway->flowing, &call->flowing_node);
    if (!timer_armed(&gateway->park))
        timer_start(gateway->loop, &gateway->park, park_after_ns());
}

void park_forget(struct call *call)
{
    if (call->may_park)
        list_remove(&call->flowing_node);
    call->may_park = false;
}

/* Translations look into the request for as long as they last, and an exchange into the body until
 * it is sent. */
static bool can_park(const struct call *call)
{
    const struct attempt *attempt = &call->attempt;
    return call->state == CALL_RELAYING && attempt->answer && attempt->exchange &&
           !attempt->complete && !attempt->over && !call->wire.doc &&
           !wire_answer_needs_document(attempt->answer) && http_exchange_is_sent(attempt->exchange);
}

void park_timer_fired(struct timer *timer)
{
    struct gateway_loop *gateway = CONTAINER_OF(timer, struct gateway_loop, park);
    int64_t now_ns = loop_now_ns(gateway->loop);
    for (size_t parked = 0; !list_empty(&gateway->flowing); parked++) {
        struct call *call = LIST_FIRST(&gateway->flowing, struct call, flowing_node);
        int64_t due_ns = call->attempt.first_content_ns + park_after_ns();
        if (due_ns > now_ns || parked == PARK_TURN_MAX) {
            timer_start(gateway->loop, timer, MAX(due_ns - now_ns, PARK_TURN_NS));
            return;
        }
        park_forget(call);
        if (can_park(call) && arena_park(call->scope->arena))
            gateway->metrics->calls_parked++;
    }
}
