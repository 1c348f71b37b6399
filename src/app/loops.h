/* The loop threads of `capstan serve`: each has its own listeners, connections, upstream pools and
 * doors, and shares nothing with the others but what decided.md (7) names. */
#pragma once
#include "api/api.h"
#include "io/stream.h"
#include "io/tls.h"

struct loops;

struct loops_options {
    const struct address *addresses;
    size_t address_count;
    const int *inherited_fds; /* listening sockets of the process before, count × address_count;
                                 NULL: open */
    struct tls_context *tls;  /* NULL: plain */
    struct api_services *services;
};

struct loops *loops_new(int count);
/* Pools, doors and listening sockets of every loop, on the calling thread, before loops_run. err
 * says which address failed and why. */
enum rc loops_open(struct loops *loops, const struct loops_options *options,
                   struct err *err) MUST_CHECK;
/* Loop 0 runs on the calling thread until loops_stop; the others on threads of their own. */
void loops_run(struct loops *loops);
void loops_stop(struct loops *loops); /* any thread */
/* After loops_run, when the other threads have ended: runs what they posted last. */
void loops_settle(struct loops *loops);
/* Servers, doors and clients go, and what was under way in them; timers may still be stopped. */
void loops_close(struct loops *loops);
void loops_free(struct loops *loops);

struct loop *loops_at(struct loops *loops, int index);
struct http_client *loops_client(struct loops *loops, int index); /* after loops_open */
struct gateway_loop *loops_gateway(struct loops *loops, int index);
int loops_count(const struct loops *loops);
uint16_t loops_port(const struct loops *loops, size_t address); /* as bound */
/* The listening sockets, for a process that takes over: `fds` has room for count × address_count;
 * -1: none. */
size_t loops_listener_fds(const struct loops *loops, int *fds);

/* Any thread. No new connections (or again); kept-alive ones go on. */
void loops_accept(struct loops *loops, bool accept);
/* Any thread, once. No new connections, no further requests on old ones; `drained` is called on
 * loop 0 when every loop's last answer is out, or after `grace_ns`. */
void loops_drain(struct loops *loops, int64_t grace_ns, void (*drained)(void *arg), void *arg);
