/* Asking the embedder instead of an engine: its answer goes the way that a target's takes, so the
 * record, usage and limits need to know nothing of it. */
#include "gateway/call_private.h"

struct embed_call {
    struct call *call;
    void *answer; /* the embedder's */
};

static struct embedder registered;

void gateway_register_embedder(const struct embedder *embedder) { registered = *embedder; }

enum rc embed_begin(struct call *call, const struct wire_call *wire, struct err *err)
{
    struct arena *arena = call->scope->arena;
    enum call_operation operation = call->request->operation;
    struct str body = STR_EMPTY;
    if (operation != OPERATION_EMBEDDING && operation != OPERATION_RERANK)
        return err_set_field(err, ERR_UNSUPPORTED, "model",
                             "'%.*s' is an encoder: it answers /v1/embeddings or /v1/rerank",
                             STR_ARG(call->wire.model));
    if (!registered.start)
        return err_set(err, ERR_ENGINE_MISSING, "encoders are not available in this process");
    for (size_t i = 0; i < wire->body_parts; i++)
        body = arena_concat(arena, body, wire->body[i]);
    struct embed_call *embed = ARENA_NEW(arena, struct embed_call);
    if (!embed || !body.p)
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    embed->call = call;
    embed->answer = registered.start(registered.arg, embed, operation == OPERATION_RERANK,
                                     call->attempt.target->model, body, err);
    if (!embed->answer)
        return err->rc;
    call->attempt.embed = embed;
    return RC_OK;
}

void embed_end(struct embed_call *embed, struct str json, const struct err *err)
{
    static struct http_header type = {STR_INIT("content-type"), STR_INIT("application/json")};
    static const struct http_headers headers = {.items = &type, .count = 1, .capacity = 1};
    struct call *call = embed->call;
    embed->answer = NULL;
    call->attempt.embed = NULL;
    if (err && err_http_status(err->code) < 500) {
        attempt_failed(call, FAILURE_REQUEST, err); /* no other target would answer */
        return;
    }
    if (err) {
        attempt_failed(call, err->code == ERR_OVERLOADED ? FAILURE_OVERLOAD : FAILURE_ERROR, err);
        return;
    }
    answer_exchange.head(call, 200, &headers);
    answer_exchange.data(call, json);
    if (!call->attempt.over)
        answer_exchange.done(call, NULL, NULL);
}

void embed_close(struct embed_call *embed)
{
    if (embed->answer)
        registered.cancel(embed->answer);
    embed->answer = NULL;
}
