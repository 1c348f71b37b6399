/* Does an engine do its work? Asks one model for what Capstan relies on: a whole answer with usage,
 * a stream with its end, an answer in a JSON schema, an embedding, and a tool call where the
 * model's template has tools. On the supervisor's loop. */
#pragma once
#include "model/engine.h"

struct selftest;

/* NULL: there is no local model to ask. `done` exactly once, later: err NULL: passed; else it names
 * what failed. */
struct selftest *selftest_start(struct engines *engines, struct loop *loop,
                                void (*done)(void *arg, const struct err *err), void *arg);
/* `done` comes with ERR_CANCELLED. */
void selftest_cancel(struct selftest *selftest);
