/* Interpreters for code nodes: children behind the walls of io/sandbox's CODE profile, kept warm.
 *
 * A child is blank until its first call, and from then on belongs to that project and that script:
 * it may be used again for these alone, so nothing that a script leaves in it is seen by another.
 * One call at a time in a child. At most `children_max` live at once; one that is not used for some
 * minutes goes. A blank one is kept ready for each language that is in use.
 *
 * The children belong to a thread of the pool's own, with a loop of its own, since starting one may
 * take long. It starts with the first call. */
#pragma once
#include "base/err.h"
#include "base/id.h"
#include "io/loop.h"

enum code_language { CODE_JAVASCRIPT, CODE_PYTHON, CODE_LANGUAGE_COUNT };

#define CODE_SOURCE_BYTES_MAX (256 * 1024)
#define CODE_INPUT_BYTES_MAX  (4 * 1024 * 1024)
#define CODE_OUTPUT_BYTES_MAX (1024 * 1024)
#define CODE_MEMORY_BYTES_MAX (512ll * 1024 * 1024) /* private memory of a child */
#define CODE_CALLS_MAX        1000                  /* of a child, then a new one takes its place */
#define CODE_WAITING_MAX      1024
#define CODE_TIME_NS          (10 * NS_PER_S) /* of a call, unless its node says otherwise */
#define CODE_TIME_NS_MAX      (60 * NS_PER_S)

struct code_pool;
struct code_call;

struct code_pool_options {
    struct str
        programs[CODE_LANGUAGE_COUNT]; /* empty: the system's `node` and `python3`, else PATH's */
    int children_max;                  /* 0: twice the processors, 4 to 16 */
};

struct code_pool *code_pool_new(const struct code_pool_options *options);
/* Ends all children; calls under way are not told. The loops that called have stopped. */
void code_pool_stop(struct code_pool *pool);
/* After that, when all calls were told or cancelled. NULL passes. */
void code_pool_free(struct code_pool *pool);

struct code_request {
    enum code_language language;
    struct id project;
    struct str source, inputs; /* inputs: a JSON object; both are copied */
    int64_t time_ns;           /* of the call itself, not of waiting for a child; 0: CODE_TIME_NS */
};

/* On the loop that called, later, once. `json`: what main returned, an object; `log`: what it
 * printed, also when it failed. err NULL: well. Texts are valid during the call. */
typedef void code_told(void *arg, struct str json, struct str log, const struct err *err);

/* On a loop; `told` comes back there. NULL: the pool has stopped, too much waits, or the request is
 * too large; err tells. ERR_FORBIDDEN is told where the sandbox does not hold, with the reason. */
struct code_call *code_call_start(struct code_pool *pool, const struct code_request *request,
                                  code_told *told, void *arg, struct err *err);
/* Not told any more; its child is ended if it is at work. */
void code_call_cancel(struct code_call *call);

/* How many children it has started so far; any thread. */
uint64_t code_pool_started(const struct code_pool *pool);
