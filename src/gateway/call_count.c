/* count_tokens for targets that have no endpoint for it: counted here, with the model's vocabulary.
 * That can take long (a vocabulary is unpacked at its first use, a body may have megabytes), so a
 * worker does it, on a copy of the body: the call may be cancelled meanwhile. */
#include "gateway/call_private.h"
#include "io/worker.h"
#include <stdlib.h>

#define COUNT_ARENA_BYTES_MAX (8 * LIMIT_BODY_BYTES)

struct count {
    struct work work;
    struct call *call; /* NULL: nobody waits any more */
    enum wire_format format;
    struct str model, body; /* in `bytes` */
    uint64_t tokens;
    bool estimated;
    enum rc rc;
    struct err err;
    char bytes[];
};

static void count_work(struct work *work)
{
    struct count *count = CONTAINER_OF(work, struct count, work);
    struct arena arena;
    struct wire_request request;
    arena_init(&arena, COUNT_ARENA_BYTES_MAX);
    count->rc = wire_read_request(count->format, count->body, &arena, &request, &count->err);
    if (count->rc == RC_OK)
        count->rc = wire_count_tokens(&request, count->model, &arena, &count->tokens,
                                      &count->estimated, &count->err);
    arena_fini(&arena);
}

static void count_done(struct work *work)
{
    struct count *count = CONTAINER_OF(work, struct count, work);
    struct call *call = count->call;
    if (call) {
        CHECK_MAGIC(call, CALL_MAGIC);
        call->count = NULL;
        struct err err = count->err;
        if (count->rc == RC_OK) {
            call->whole =
                wire_write_token_count(count->tokens, count->estimated, call->scope->arena);
            call->content_type = STR("application/json");
            if (!call->whole.p)
                count->rc = err_set(&err, ERR_OVERLOADED, "there is no memory for the answer");
        }
        call_finish(call, count->rc == RC_OK ? NULL : &err);
    }
    free(count);
}

void count_begin(struct call *call)
{
    struct str model = call->attempt.target->model, body = call->wire.body;
    struct count *count = malloc(sizeof(*count) + model.n + body.n);
    struct err err;
    call_move(call, CALL_COUNTING);
    if (!count) {
        err_set(&err, ERR_OVERLOADED, "there is no memory to count this request");
        call_finish(call, &err);
        return;
    }
    *count = (struct count){.call = call, .format = call->request->format};
    memcpy(count->bytes, model.p, model.n);
    memcpy(count->bytes + model.n, body.p, body.n);
    count->model = str_make(count->bytes, model.n);
    count->body = str_make(count->bytes + model.n, body.n);
    count->work.work = count_work;
    count->work.done = count_done;
    count->work.home = call->gateway->loop;
    call->count = count;
    if (gateway_options.workers && worker_submit(gateway_options.workers, &count->work) == RC_OK)
        return;
    call->count = NULL;
    free(count);
    err_set(&err, ERR_OVERLOADED, "too much is waiting to be counted; try again");
    call_finish(call, &err);
}

void count_cancel(struct call *call)
{
    if (call->count)
        call->count->call = NULL;
    call->count = NULL;
}
