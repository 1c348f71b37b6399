/* An upgrade without a dropped stream. The serving process starts its successor (the program as it
 * stands on the disk now) and talks with it over a pair of sockets:
 *
 *   old → new   SOCKETS: the listening sockets
 *   new → old   TAKE: the configuration is good, give me the writers' roles
 *   old → new   RELEASED: stores are closed; no file ever has two writers
 *   new → old   READY: I serve
 *
 * Between TAKE and READY new connections wait in the kernel's queue of sockets that both hold. A
 * successor that dies before TAKE changes nothing; one that dies between TAKE and READY is replaced
 * by a new one, of the program that runs here. If the old process dies, the new one finds the
 * stores free and goes on. Then the old process finishes its streams and sends their records
 * (delivery.h). */
#pragma once
#include "base/err.h"
#include "io/stream.h"
#include <sys/types.h>

#define HANDOVER_SOCKETS_MAX 253 /* what one message can carry */

/* Listening sockets: loops × addresses, by loop; -1: none there. */
struct handover_sockets {
    int loops;
    size_t address_count;
    int fds[HANDOVER_SOCKETS_MAX];
};

/* ---- the old process: loop 0 ---- */
struct handover;

struct handover_owner {
    /* Gives the writers' roles up, then calls handover_released. Once. */
    void (*release)(void *arg);
    void (*succeeded)(void *arg, pid_t successor);
    void *arg;
};

struct handover *handover_new(struct loop *loop, const struct handover_owner *owner);
void handover_free(struct handover *handover);
/* Starts the successor. The sockets are copied. ERR_CONFLICT: one is being started;
 * ERR_UNSUPPORTED: more sockets than can be handed over. */
enum rc handover_start(struct handover *handover, const struct handover_sockets *sockets,
                       const struct address *addresses, struct err *err) MUST_CHECK;
void handover_released(struct handover *handover);

/* ---- the new process: blocks, before its loops run ---- */
struct inheritance {
    int fd; /* to the old process; -1: there is none, or it has died */
    bool taken;
    struct handover_sockets sockets;
};

/* Whether this process was started as a successor: if so, gets the sockets and the roles.
 * `addresses`: what the configuration says; other ones than the old process listens on are refused.
 */
enum rc inheritance_take(struct inheritance *inheritance, const struct address *addresses,
                         size_t address_count, struct err *err) MUST_CHECK;
void inheritance_ready(struct inheritance *inheritance);
