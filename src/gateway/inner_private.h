/* Between inner.c and the gateway core. */
#pragma once
#include "gateway/inner.h"

struct call;
struct route;
struct wire_call;

/* The answerer for a model's name; NULL: none. */
const struct inner_model *inner_find(struct str model);
/* A made-up route with the answerer as its only target. RC_LIMIT: the arena is full. */
enum rc inner_route(const struct inner_model *model, struct str name, struct arena *arena,
                    const struct route **out) MUST_CHECK;
/* Asks the answerer of the attempt under way. */
enum rc inner_begin(struct call *call, const struct wire_call *wire, struct err *err) MUST_CHECK;
/* At the end of a turn in which it spoke or may go on (call_post). */
void inner_step(struct inner_call *inner);
/* The sink takes more. */
void inner_resume(struct inner_call *inner);
/* A whole answer is there: adds what inner_extra said. */
void inner_complete_whole(struct inner_call *inner);
/* Ends it: nothing comes any more. */
void inner_close(struct inner_call *inner);
