/* Answers from inside the process: see inner.h. What an answerer says is gathered and goes on at
 * the end of the loop's turn, as a stream of OpenAI chat chunks on the way that a target's bytes
 * take: formats, checks and the record need to know nothing of it. Gathering also means that an
 * answerer may speak from inside another call's callbacks. */
#include "gateway/inner_private.h"
#include "gateway/call_private.h"
#include "gateway/provider_table.h"
#include "text/json.h"
#include "text/json_writer.h"

#define PENDING_BYTES_STOP (32 * 1024)       /* past it the answerer is told to stop */
#define PENDING_BYTES_MAX  (4 * 1024 * 1024) /* past it its answer breaks off */
#define EXTRA_BYTES_MAX    (1024 * 1024)
#define PATIENCE_NS        (24 * 3600 * NS_PER_S) /* an answerer has deadlines of its own */

struct inner_call {
    struct call *call;
    const struct inner_model *model;
    struct scope scope;
    void *answer;       /* the answerer's; NULL: it has ended */
    struct buf pending; /* chunks that wait for the end of the turn */
    struct str id;      /* of the answer, "chatcmpl-…" */
    int64_t created_s;
    struct str extra; /* members for the last chunk, without braces */
    struct err *err;  /* why it ended, or NULL */
    bool begun;       /* a chunk was written */
    bool told_stop;   /* the answerer waits for `resume` */
    bool held;        /* the sink takes nothing */
    bool ended, overflow;
};

static struct {
    struct inner_model models[INNER_MODELS_MAX];
    size_t count;
} registered;

void gateway_register_inner(const struct inner_model *model)
{
    ASSERT(registered.count < INNER_MODELS_MAX && str_ends(model->prefix, STR("/")));
    registered.models[registered.count++] = *model;
}

const struct inner_model *inner_find(struct str model)
{
    for (size_t i = 0; i < registered.count; i++)
        if (str_starts(model, registered.models[i].prefix))
            return &registered.models[i];
    return NULL;
}

/* ---- a route for it ---- */

static const struct provider_row inner_row = {
    .name = STR_INIT("inner"),
    .title = STR_INIT("answered by Capstan itself"),
    .formats = 1u << WIRE_OPENAI_CHAT,
    .auth = PROVIDER_AUTH_NONE,
};

enum rc inner_route(const struct inner_model *model, struct str name, struct arena *arena,
                    const struct route **out)
{
    struct route *route = ARENA_NEW(arena, struct route);
    struct target *target = ARENA_NEW(arena, struct target);
    struct provider *provider = ARENA_NEW(arena, struct provider);

    if (!route || !target || !provider)
        return RC_LIMIT;
    *provider = (struct provider){.name = str_slice(model->prefix, 0, model->prefix.n - 1),
                                  .row = &inner_row,
                                  .inner = model};
    *target = (struct target){.provider = provider,
                              .model = str_slice(name, model->prefix.n, name.n),
                              .weight = 1,
                              .slot = SLOT_NONE};
    *route = (struct route){.name = name,
                            .targets = target,
                            .target_count = 1,
                            .first_token_ns = PATIENCE_NS,
                            .between_ns = PATIENCE_NS,
                            .total_ns = PATIENCE_NS};
    *out = route;
    return RC_OK;
}

/* ---- the request ---- */

static enum rc no_memory(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
}

static enum rc read_body(struct call *call, const struct wire_call *wire, yyjson_val **out,
                         struct err *err)
{
    struct arena *arena = call->scope->arena;
    struct str whole = STR_EMPTY;
    yyjson_doc *doc;

    for (size_t i = 0; i < wire->body_parts; i++) {
        whole = arena_concat(arena, whole, wire->body[i]);
        if (!whole.p)
            return no_memory(err);
    }
    enum rc rc = json_read(whole, arena, &doc, err);
    if (rc == RC_OK)
        *out = yyjson_doc_get_root(doc);
    return rc;
}

/* Calls made inside are children of this one's span. */
static void make_scope(const struct call *call, struct scope *scope)
{
    *scope = *call->scope;
    scope->inside = true;
    memcpy(scope->trace.parent_id, call->record->span_id, sizeof(scope->trace.parent_id));
}

enum rc inner_begin(struct call *call, const struct wire_call *wire, struct err *err)
{
    const struct inner_model *model = call->attempt.target->provider->inner;
    struct arena *arena = call->scope->arena;
    char id[ID_TEXT_BYTES_MAX];
    yyjson_val *body = NULL;

    if (call->request->operation != OPERATION_CHAT)
        return err_set_field(err, ERR_UNSUPPORTED, "model",
                             "'%.*s' answers chats only; this endpoint needs another model",
                             STR_ARG(call->wire.model));
    enum rc rc = read_body(call, wire, &body, err);
    if (rc != RC_OK)
        return rc;
    struct inner_call *inner = ARENA_NEW(arena, struct inner_call);
    size_t id_n = id_format(call->record->id, "chatcmpl", id);
    struct str id_text = arena_copy(arena, str_make(id, id_n));
    if (!inner || !id_text.p)
        return no_memory(err);
    *inner = (struct inner_call){.call = call,
                                 .model = model,
                                 .id = id_text,
                                 .created_s = loop_wall_ns(call->gateway->loop) / NS_PER_S};
    buf_init(&inner->pending, PENDING_BYTES_MAX);
    make_scope(call, &inner->scope);
    struct inner_request request = {
        .gateway = call->gateway,
        .scope = &inner->scope,
        .name = call->attempt.target->model,
        .body = body,
        .door_body = yyjson_doc_get_root(call->wire.doc),
        .session = call->record->session,
        .user = call->record->user,
    };
    call->attempt.inner = inner;
    void *answer = model->start(model->arg, inner, &request);
    if (!inner->ended)
        inner->answer = answer;
    return RC_OK;
}

/* ---- what the answerer says ---- */

static struct json_writer begin_chunk(struct inner_call *inner)
{
    struct json_writer w = json_writer_to(&inner->pending);

    json_append(&w, STR("data: "));
    json_begin_object(&w);
    json_put_string(&w, "id", inner->id);
    json_put_string(&w, "object", STR("chat.completion.chunk"));
    json_put_int(&w, "created", inner->created_s);
    json_put_string(&w, "model", inner->call->wire.model);
    return w;
}

static void end_chunk(struct inner_call *inner, struct json_writer *w)
{
    json_end_object(w);
    json_append(w, STR("\n\n"));
    if (w->rc != RC_OK)
        inner->overflow = true;
    call_post(inner->call);
}

/* text .p NULL: no content. */
static void put_choice(struct inner_call *inner, struct json_writer *w, struct str text,
                       const char *finish_reason)
{
    json_key(w, "choices");
    json_begin_array(w);
    json_begin_object(w);
    json_put_int(w, "index", 0);
    json_key(w, "delta");
    json_begin_object(w);
    if (!inner->begun)
        json_put_string(w, "role", STR("assistant"));
    if (text.p || !inner->begun)
        json_put_string(w, "content", text);
    json_end_object(w);
    json_put_text(w, "finish_reason", finish_reason);
    json_end_object(w);
    json_end_array(w);
    inner->begun = true;
}

enum proceed inner_text(struct inner_call *inner, struct str text)
{
    ASSERT(!inner->ended);
    if (text.n) {
        struct json_writer w = begin_chunk(inner);
        put_choice(inner, &w, text, NULL);
        end_chunk(inner, &w);
    }
    if (buf_len(&inner->pending) > PENDING_BYTES_STOP)
        inner->told_stop = true;
    return inner->told_stop ? STOP : PROCEED;
}

enum rc inner_search(struct inner_call *inner, const struct wire_search *search)
{
    struct arena *arena = inner->call->scope->arena;
    struct wire_search *copy = ARENA_NEW(arena, struct wire_search);
    struct wire_citation *citations =
        ARENA_NEW_ARRAY(arena, struct wire_citation, search->citation_count + 1);
    ASSERT(!inner->begun);
    if (!copy || !citations)
        return RC_LIMIT;
    bool ok = true;
    for (size_t i = 0; i < search->citation_count; i++) {
        citations[i].file_id = arena_copy(arena, search->citations[i].file_id);
        citations[i].filename = arena_copy(arena, search->citations[i].filename);
        ok &= citations[i].file_id.p && citations[i].filename.p;
    }
    *copy = (struct wire_search){.queries = arena_copy(arena, search->queries),
                                 .results = arena_copy(arena, search->results),
                                 .citations = citations,
                                 .citation_count = search->citation_count};
    if (!ok || !copy->queries.p || !copy->results.p)
        return RC_LIMIT;
    inner->call->wire.search = copy;
    return RC_OK;
}

void inner_extra(struct inner_call *inner, struct str json)
{
    json = str_trim(json);
    ASSERT(!inner->ended && str_starts(json, STR("{")) && str_ends(json, STR("}")));
    if (json.n <= EXTRA_BYTES_MAX)
        inner->extra =
            arena_copy(inner->call->scope->arena, str_trim(str_slice(json, 1, json.n - 1)));
}

static void put_usage(struct json_writer *w, uint64_t input_tokens, uint64_t output_tokens)
{
    json_key(w, "choices");
    json_begin_array(w);
    json_end_array(w);
    json_key(w, "usage");
    json_begin_object(w);
    json_put_uint(w, "prompt_tokens", input_tokens);
    json_put_uint(w, "completion_tokens", output_tokens);
    json_put_uint(w, "total_tokens", input_tokens + output_tokens);
    json_end_object(w);
}

void inner_end(struct inner_call *inner, const char *finish_reason, uint64_t input_tokens,
               uint64_t output_tokens, const struct err *err)
{
    ASSERT(!inner->ended);
    inner->ended = true;
    inner->answer = NULL;
    if (err) {
        inner->err = arena_alloc(inner->call->scope->arena, sizeof(*err));
        if (inner->err)
            *inner->err = *err;
        inner->overflow = !inner->err;
        call_post(inner->call);
        return;
    }
    struct json_writer w = begin_chunk(inner);
    if (inner->extra.n) {
        json_append(&w, STR(","));
        json_append(&w, inner->extra);
    }
    put_choice(inner, &w, STR_EMPTY, finish_reason);
    end_chunk(inner, &w);
    if (input_tokens || output_tokens) {
        w = begin_chunk(inner);
        put_usage(&w, input_tokens, output_tokens);
        end_chunk(inner, &w);
    }
    if (buf_append(&inner->pending, STR("data: [DONE]\n\n")) != RC_OK)
        inner->overflow = true;
}

/* ---- on its way, at the end of a turn ---- */

static void fail(struct inner_call *inner)
{
    struct call *call = inner->call;
    struct err err;

    err_set(&err, ERR_TOO_LARGE, "the answer needs more memory than it may have");
    inner_close(inner);
    answer_exchange.done(call, inner->err ? inner->err : &err, NULL);
}

/* False: nothing more can be done in this turn. */
static bool deliver(struct inner_call *inner)
{
    static const struct http_headers no_headers = {0};
    struct call *call = inner->call;

    if (buf_len(&inner->pending) == 0)
        return true;
    if (inner->held)
        return false;
    if (!call->attempt.status)
        answer_exchange.head(call, 200, &no_headers);
    inner->held = answer_exchange.data(call, buf_str(&inner->pending)) == STOP;
    buf_clear(&inner->pending);
    return !call->attempt.over; /* a check blocked it: call_step is on its way */
}

void inner_step(struct inner_call *inner)
{
    if (inner->overflow) {
        fail(inner);
    } else if (!deliver(inner)) {
        return;
    } else if (inner->ended) {
        answer_exchange.done(inner->call, inner->err, NULL);
    } else if (inner->told_stop && !inner->held) {
        inner->told_stop = false;
        inner->model->resume(inner->answer);
    }
}

void inner_resume(struct inner_call *inner)
{
    inner->held = false;
    call_post(inner->call);
}

void inner_close(struct inner_call *inner)
{
    void *answer = inner->answer;

    inner->answer = NULL;
    inner->ended = true;
    if (answer)
        inner->model->cancel(answer);
    buf_fini(&inner->pending);
}

/* A whole chat answer was put together by the translation, which knows nothing of the extra
 * members:
 * {"choices": …} becomes {"citations": …, "choices": …}. */
void inner_complete_whole(struct inner_call *inner)
{
    struct call *call = inner->call;
    struct arena *arena = call->scope->arena;

    if (inner->extra.n == 0 || call->head_sent || call->request->format != WIRE_OPENAI_CHAT ||
        !str_starts(call->whole, STR("{")))
        return;
    struct str head = arena_printf(arena, "{%.*s,", STR_ARG(inner->extra));
    struct str whole =
        head.p ? arena_concat(arena, head, str_slice(call->whole, 1, call->whole.n)) : STR_EMPTY;
    if (whole.p)
        call->whole = whole;
}
