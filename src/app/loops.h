/* The loop threads of `capstan serve`: each has its own listeners, connections, upstream pools and
 * doors, and shares nothing with the others but what decided.md (7) names. */
#pragma once
#include "api/api.h"
#include "io/stream.h"
#include "io/tls.h"

struct loops;

struct loops_options {
    int count;
    const struct address *addresses;
    size_t address_count;
    const int *inherited_fds; /* listening sockets of the process before, count × address_count; NULL: open */
    struct tls_context *tls;  /* NULL: plain */
    struct api_services *services;
    void (*on_turn)(struct loop *loop, void *arg); /* each loop, each turn: the snapshot */
    void *arg;
};

/* Makes the loops and opens the listening sockets, on the calling thread; nothing runs yet. NULL: err says
 * which address and why. */
struct loops *loops_new(const struct loops_options *options, struct err *err);
/* Loop 0 runs on the calling thread until loops_stop; the others on threads of their own. */
void loops_run(struct loops *loops);
struct loop *loops_at(struct loops *loops, int index);
int loops_count(const struct loops *loops);
uint16_t loops_port(const struct loops *loops, size_t address); /* as bound */
/* The listening sockets, for a process that takes over: `fds` has room for count × address_count. */
size_t loops_listener_fds(const struct loops *loops, int *fds);
/* Any thread. No new connections (or again); kept-alive ones go on. */
void loops_accept(struct loops *loops, bool accept);
/* Any thread, once. No new connections, no further requests on old ones; stops each loop when its last
 * answer is out, or after `grace_ns`. */
void loops_drain(struct loops *loops, int64_t grace_ns);
void loops_free(struct loops *loops); /* after loops_run has returned */
