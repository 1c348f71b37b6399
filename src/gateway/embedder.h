/* Models that turn texts into vectors or scores inside the process: local models of the kind
 * encoder. The gateway does for them what it does for every model — key, limits, record — and asks
 * here where it would ask an engine. */
#pragma once
#include "base/err.h"

struct embed_call; /* one answer under way; the gateway's */

/* On the call's loop. */
struct embedder {
    /* Begins; what it returns is passed to cancel. The end comes by embed_end on the same loop,
     * never from within; NULL and err: it cannot begin. Copies what it needs. */
    void *(*start)(void *arg, struct embed_call *call, bool rerank, struct str model,
                   struct str body, struct err *err);
    void (*cancel)(void *answer); /* nobody wants it any more: no embed_end afterwards */
    void *arg;
};

/* Before the loops run. */
void gateway_register_embedder(const struct embedder *embedder);
/* The whole answer as JSON (copied before this returns), or why there is none. */
void embed_end(struct embed_call *call, struct str json, const struct err *err);
