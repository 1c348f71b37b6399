/* `knowledge/NAME`: find passages, number them in a prompt, let a route answer, stream what it
 * says, and tell at the end where each passage stands and which sentences no passage supports.
 *
 *   start → search (worker) → call of the route → text goes on as it comes → citations, end
 *
 * An `answer` belongs to the call's loop. Its arena is the worker's while the search is under way.
 * It is freed when the inner call has ended, or after a cancel as soon as the worker is done. */
#include "knowledge/ask.h"
#include "base/clock.h"
#include "base/limits.h"
#include "gateway/gateway.h"
#include "gateway/inner.h"
#include "gateway/snapshot.h"
#include "gateway/wire.h"
#include "http/sse.h"
#include "knowledge/filter.h"
#include "knowledge/retrieve.h"
#include "knowledge/support.h"
#include "model/model.h"
#include "text/json_tree.h"
#include <math.h>
#include <stdlib.h>

#define ANSWER_ARENA_BYTES (64 * 1024 * 1024)
#define ANSWER_TEXT_BYTES  (4 * 1024 * 1024) /* judged at the end; more is streamed, not judged */
#define PASSAGES_BYTES_MAX (256 * 1024)
#define QUOTE_BYTES_MAX    2000
#define STORES_MAX         20 /* of a file_search */
#define RESULTS_DEFAULT    10
#define RESULTS_MAX        50

static const struct str instructions_default =
    STR_INIT("Answer the question from the numbered passages below and from nothing else. After "
             "each statement write the numbers of the passages that support it, like [1] or "
             "[2][3]. If the passages do not hold the answer, say so in one sentence. Answer in "
             "the language of the question.");

/* For Responses' file_search tool: the question need not be answered from the passages alone. */
static const struct str instructions_search =
    STR_INIT("Numbered passages that a search of the user's files found for the last question "
             "stand below. Where they help, answer from them, and after each statement that one "
             "supports write its number, like [1] or [2][3]. Where they do not help, say so.");

struct answer {
    struct knowledge *knowledge;
    struct str model;  /* file_search: what answers; else empty */
    bool with_results; /* file_search: the passages are asked for */
    struct inner_call *inner;
    struct gateway_loop *gateway;
    struct scope scope; /* of the route's call */
    struct arena arena, call_arena;
    struct retrieve_query query;
    struct retrieval *retrieval; /* under way */
    struct retrieve_result found;
    struct call *call; /* under way */
    struct sse_parser sse;
    struct buf text; /* all that was said, for judging */
    struct str body; /* of the request, as JSON */
    struct str finish;
    uint64_t input_tokens, output_tokens;
    int status;
    bool stop;
};

static void answer_free(struct answer *answer)
{
    sse_parser_fini(&answer->sse);
    buf_fini(&answer->text);
    arena_fini(&answer->call_arena);
    arena_fini(&answer->arena);
    free(answer);
}

static void answer_end(struct answer *answer, const struct err *err)
{
    inner_end(answer->inner,
              err                ? NULL
              : answer->finish.n ? answer->finish.p
                                 : "stop",
              answer->input_tokens, answer->output_tokens, err);
    answer_free(answer);
}

/* ---- the question ---- */

/* A message's content: a text, or parts of which the texts count. */
static struct str content_text(yyjson_val *message, struct arena *arena)
{
    yyjson_val *content = yyjson_obj_get(message, "content"), *part;
    struct str all = STR_EMPTY;
    size_t i, n;
    if (yyjson_is_str(content))
        return json_text(content);
    yyjson_arr_foreach(content, i, n, part)
    {
        struct str text = json_get_text(part, "text");
        if (text.n)
            all = all.n ? arena_printf(arena, "%.*s\n%.*s", STR_ARG(all), STR_ARG(text)) : text;
    }
    return all;
}

/* What the user said last is what is searched for. */
static struct str last_question(yyjson_val *body, struct arena *arena)
{
    yyjson_val *messages = yyjson_obj_get(body, "messages");
    for (size_t i = yyjson_arr_size(messages); i-- > 0;) {
        yyjson_val *message = yyjson_arr_get(messages, i);
        if (str_eq(json_get_text(message, "role"), STR("user")))
            return arena_copy(arena, content_text(message, arena));
    }
    return STR_EMPTY;
}

/* Access tags of the key that asks; a person sees everything. */
static void fill_access(struct answer *answer, const struct scope *scope)
{
    const struct key *key = scope->key;
    struct retrieve_query *query = &answer->query;
    query->all_tags =
        !key || (scope->principal->permissions & PERMISSION_BIT(KNOWLEDGE_WRITE)) != 0;
    struct str *tags = ARENA_NEW_ARRAY(&answer->arena, struct str, key ? key->tag_count + 1 : 1);
    for (size_t i = 0; tags && key && i < key->tag_count; i++) {
        tags[i] = arena_printf(&answer->arena, "%.*s=%.*s", STR_ARG(key->tags[i].name),
                               STR_ARG(key->tags[i].value));
        query->tag_count += tags[i].p != NULL;
    }
    query->tags = tags;
}

/* ---- the prompt ---- */

static void append_passage(struct buf *out, size_t number, const struct retrieve_hit *hit)
{
    bool ok = buf_printf(out, "\n\n[%zu] %.*s", number, STR_ARG(hit->name)) == RC_OK;
    if (ok && hit->page > 0)
        ok = buf_printf(out, ", page %lld", (long long)hit->page) == RC_OK;
    if (ok)
        ok = buf_printf(out, "\n%.*s", STR_ARG(hit->context)) == RC_OK;
    UNUSED(ok); /* past the bound a passage is left out, and so are those after it */
}

static struct str system_prompt(struct answer *answer)
{
    const struct collection_spec *spec = &answer->found.collection.spec;
    struct str instructions = answer->model.n               ? instructions_search
                              : spec->answer.instructions.n ? spec->answer.instructions
                                                            : instructions_default;
    struct buf buf;
    buf_init(&buf, PASSAGES_BYTES_MAX);
    if (buf_append(&buf, instructions) != RC_OK ||
        buf_append(&buf, STR("\n\nPassages:")) != RC_OK) {
        buf_fini(&buf);
        return STR_EMPTY;
    }
    if (answer->found.count == 0)
        (void)!buf_append(&buf, STR("\n\n(none was found)"));
    for (size_t i = 0; i < answer->found.count; i++)
        append_passage(&buf, i + 1, &answer->found.hits[i]);
    struct str text = arena_copy(&answer->call_arena, buf_str(&buf));
    buf_fini(&buf);
    return text;
}

/* The collection's route, else the first local model that talks. Empty: none. */
static struct str choose_route(struct answer *answer)
{
    struct str route = answer->model.n ? answer->model : answer->found.collection.spec.answer.route,
               first = STR_EMPTY;
    const struct project *project =
        snapshot_project(snapshot_current(), answer->scope.principal->project);
    if (route.n || !project)
        return route;
    MAP_FOR_EACH (slot, &project->local_models) {
        const struct model *model = slot->value;
        bool embeds = model->pooling.n > 0 || str_find(model->architecture, STR("bert")) >= 0;
        if (!embeds && (first.n == 0 || str_cmp(slot->key, first) < 0))
            first = slot->key;
    }
    return first.n ? arena_copy(&answer->call_arena, first) : first;
}

/* The request's own messages after ours; its system messages come along as they are. */
static yyjson_mut_val *make_messages(struct answer *answer, yyjson_mut_doc *doc, yyjson_val *body)
{
    yyjson_val *message;
    size_t i, n;
    yyjson_mut_val *messages = yyjson_mut_arr(doc);
    yyjson_mut_val *system = yyjson_mut_arr_add_obj(doc, messages);
    yyjson_mut_obj_add_str(doc, system, "role", "system");
    json_set_text(doc, system, "content", system_prompt(answer));
    yyjson_arr_foreach(yyjson_obj_get(body, "messages"), i, n, message)
        yyjson_mut_arr_append(messages, yyjson_val_mut_copy(doc, message));
    return messages;
}

static enum rc make_body(struct answer *answer, struct str route, struct str *out, struct err *err)
{
    static const char *const passed[] = {
        "temperature",           "top_p", "max_tokens",      "seed",
        "max_completion_tokens", "stop",  "reasoning_effort"};
    struct arena *arena = &answer->call_arena;
    yyjson_doc *parsed;
    enum rc rc = json_read(answer->body, arena, &parsed, err);
    if (rc != RC_OK)
        return rc;
    yyjson_val *body = yyjson_doc_get_root(parsed);
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *root = doc ? yyjson_mut_obj(doc) : NULL;
    if (!root)
        return err_set(err, ERR_TOO_LARGE, "the question is too large");
    json_set_text(doc, root, "model", route);
    yyjson_mut_obj_add_val(doc, root, "messages", make_messages(answer, doc, body));
    for (size_t i = 0; i < COUNT_OF(passed); i++) {
        yyjson_val *value = yyjson_obj_get(body, passed[i]);
        if (value)
            yyjson_mut_obj_add_val(doc, root, passed[i], yyjson_val_mut_copy(doc, value));
    }
    yyjson_mut_obj_add_true(doc, root, "stream");
    yyjson_mut_val *options = yyjson_mut_obj_add_obj(doc, root, "stream_options");
    yyjson_mut_obj_add_true(doc, options, "include_usage");
    return json_write_tree(root, arena, out, err);
}

/* ---- the route's answer ---- */

static void call_head(void *arg, const struct call_head *head)
{
    struct answer *answer = arg;
    answer->status = head->status;
}

static enum rc on_event(void *arg, const struct sse_event *event)
{
    struct answer *answer = arg;
    struct arena scratch;
    yyjson_doc *doc;
    arena_init(&scratch, LIMIT_SSE_EVENT_BYTES * 2);
    if (event->data.n && json_read(event->data, &scratch, &doc, NULL) == RC_OK) {
        yyjson_val *root = yyjson_doc_get_root(doc), *usage = yyjson_obj_get(root, "usage");
        yyjson_val *choice = yyjson_arr_get_first(yyjson_obj_get(root, "choices"));
        struct str text = json_get_text(yyjson_obj_get(choice, "delta"), "content");
        struct str finish = json_get_text(choice, "finish_reason");
        if (text.n) {
            (void)!buf_append(&answer->text, text);
            if (inner_text(answer->inner, text) == STOP)
                answer->stop = true;
        }
        if (finish.n)
            answer->finish = arena_copy(&answer->call_arena, finish);
        if (yyjson_is_obj(usage)) {
            answer->input_tokens = (uint64_t)json_get_int(usage, "prompt_tokens", 0);
            answer->output_tokens = (uint64_t)json_get_int(usage, "completion_tokens", 0);
        }
    }
    arena_fini(&scratch);
    return RC_OK;
}

static enum proceed call_data(void *arg, struct str bytes)
{
    struct answer *answer = arg;
    if (answer->status / 100 != 2)
        return PROCEED;
    (void)!sse_parse(&answer->sse, bytes, on_event, answer);
    return answer->stop ? STOP : PROCEED;
}

/* ---- citations ---- */

static bool is_cited(struct str text, size_t number)
{
    char mark[24];
    snprintf(mark, sizeof(mark), "[%zu]", number);
    return str_find(text, str_from(mark)) >= 0;
}

static void put_number(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *name, int64_t value)
{
    if (value >= 0)
        yyjson_mut_obj_add_sint(doc, o, name, value);
    else
        yyjson_mut_obj_add_null(doc, o, name);
}

static void put_citation(struct answer *answer, yyjson_mut_doc *doc, yyjson_mut_val *list,
                         size_t index)
{
    const struct retrieve_hit *hit = &answer->found.hits[index];
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, list);
    yyjson_mut_obj_add_uint(doc, o, "number", index + 1);
    json_set_text(doc, o, "collection", answer->found.collection.row.name);
    json_set_text(doc, o, "chunk_id", hit->id);
    json_set_text(doc, o, "document_id", hit->document);
    json_set_text(doc, o, "document", hit->name);
    put_number(doc, o, "page", hit->page);
    put_number(doc, o, "begin", hit->begin);
    put_number(doc, o, "end", hit->end);
    if (isfinite(hit->score))
        yyjson_mut_obj_add_real(doc, o, "score", hit->score);
    yyjson_mut_obj_add_bool(doc, o, "cited", is_cited(buf_str(&answer->text), index + 1));
    json_set_text(doc, o, "text", str_slice(hit->text, 0, QUOTE_BYTES_MAX));
}

static void put_sentences(struct answer *answer, yyjson_mut_doc *doc, yyjson_mut_val *root)
{
    struct supported_sentence *sentences;
    struct str *passages =
        ARENA_NEW_ARRAY(&answer->call_arena, struct str, answer->found.count + 1);
    for (size_t i = 0; passages && i < answer->found.count; i++)
        passages[i] = answer->found.hits[i].context;
    size_t count = passages ? support_check(buf_str(&answer->text), passages, answer->found.count,
                                            &answer->call_arena, &sentences)
                            : 0;
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "sentences");
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_uint(doc, o, "begin", sentences[i].begin);
        yyjson_mut_obj_add_uint(doc, o, "end", sentences[i].end);
        yyjson_mut_obj_add_bool(doc, o, "supported", sentences[i].supported);
        yyjson_mut_obj_add_real(doc, o, "share", sentences[i].share);
        put_number(doc, o, "passage", sentences[i].passage < 0 ? -1 : sentences[i].passage + 1);
    }
}

static void tell_citations(struct answer *answer)
{
    struct str json;
    yyjson_mut_doc *doc = json_tree_new(&answer->call_arena);
    yyjson_mut_val *root = doc ? yyjson_mut_obj(doc) : NULL;
    yyjson_mut_val *list = root ? yyjson_mut_obj_add_arr(doc, root, "citations") : NULL;
    for (size_t i = 0; list && i < answer->found.count; i++)
        put_citation(answer, doc, list, i);
    if (list)
        put_sentences(answer, doc, root);
    if (json_write_tree(root, &answer->call_arena, &json, NULL) == RC_OK)
        inner_extra(answer->inner, json);
}

static void call_done(void *arg, const struct call_record *record, const struct err *err)
{
    struct answer *answer = arg;
    struct err refused = {0};
    UNUSED(record);
    answer->call = NULL;
    if (!err && answer->status / 100 != 2) {
        err_set(&refused, ERR_UPSTREAM, "the route answered with status %d", answer->status);
        err = &refused;
    }
    if (!err && answer->model.n == 0)
        tell_citations(answer);
    answer_end(answer, err);
}

static const struct call_sink call_calls = {call_head, call_data, call_done};

/* ---- file_search ---- */

/* A document that was made of no uploaded file stands for itself. */
static struct str file_id(struct answer *answer, const struct retrieve_hit *hit)
{
    char id[ID_TEXT_BYTES_MAX];
    if (id_is_zero(hit->file))
        return hit->document;
    size_t n = id_format(hit->file, "file", id);
    id[4] = '-';
    return arena_copy(&answer->call_arena, str_make(id, n));
}

static void put_found(struct answer *answer, yyjson_mut_doc *doc, yyjson_mut_val *list,
                      const struct retrieve_hit *hit)
{
    size_t i, n;
    yyjson_val *key, *value;
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, list);
    json_set_text(doc, o, "file_id", file_id(answer, hit));
    json_set_text(doc, o, "filename", hit->name);
    yyjson_mut_obj_add_real(doc, o, "score", isfinite(hit->score) ? hit->score : 0);
    json_set_text(doc, o, "text", hit->text);
    yyjson_mut_val *attributes = yyjson_mut_obj_add_obj(doc, o, "attributes");
    yyjson_obj_foreach(hit->payload, i, n, key, value)
    {
        if (yyjson_get_str(key)[0] != '_' && !yyjson_equals_str(key, "tags"))
            yyjson_mut_obj_add(attributes, yyjson_val_mut_copy(doc, key),
                               yyjson_val_mut_copy(doc, value));
    }
}

static enum rc tell_search(struct answer *answer, struct err *err)
{
    struct arena *arena = &answer->call_arena;
    struct wire_citation *citations =
        ARENA_NEW_ARRAY(arena, struct wire_citation, answer->found.count + 1);
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *queries = doc ? yyjson_mut_arr(doc) : NULL,
                   *results = doc ? yyjson_mut_arr(doc) : NULL;
    struct wire_search search = {.results = STR("null"), .citations = citations};
    if (!citations || !results)
        return err_set(err, ERR_OVERLOADED, "no memory for this request");
    yyjson_mut_arr_append(queries, json_new_text(doc, answer->query.text));
    for (size_t i = 0; i < answer->found.count; i++) {
        const struct retrieve_hit *hit = &answer->found.hits[i];
        citations[search.citation_count++] =
            (struct wire_citation){file_id(answer, hit), hit->name};
        put_found(answer, doc, results, hit);
    }
    enum rc rc = json_write_tree(queries, arena, &search.queries, err);
    if (rc == RC_OK && answer->with_results)
        rc = json_write_tree(results, arena, &search.results, err);
    if (rc == RC_OK && inner_search(answer->inner, &search) != RC_OK)
        rc = err_set(err, ERR_OVERLOADED, "no memory for this request");
    return rc;
}

/* The tools of the request: searches in vector stores, and nothing beside them. */
static enum rc read_tools(struct answer *answer, yyjson_val *body, struct err *err)
{
    size_t i, n, j, m;
    yyjson_val *tool, *one, *include;
    struct arena *arena = &answer->call_arena;
    struct id *stores = ARENA_NEW_ARRAY(arena, struct id, STORES_MAX);
    enum rc rc = RC_OK;
    if (!stores)
        return err_set(err, ERR_OVERLOADED, "no memory for this request");
    answer->query.stores = stores;
    answer->query.k = RESULTS_DEFAULT;
    yyjson_arr_foreach(yyjson_obj_get(body, "tools"), i, n, tool)
    {
        yyjson_val *ids = yyjson_obj_get(tool, "vector_store_ids");
        if (!str_eq(json_get_text(tool, "type"), STR("file_search")))
            return err_set_field(err, ERR_UNSUPPORTED, "tools",
                                 "file_search stands alone here: send no other tool with it");
        yyjson_arr_foreach(ids, j, m, one)
        {
            if (answer->query.store_count >= STORES_MAX ||
                id_parse(json_text(one), "vs", &stores[answer->query.store_count]) != RC_OK)
                return err_set_field(err, ERR_BAD_FIELD, "tools[].vector_store_ids",
                                     "names at most %d vector stores", STORES_MAX);
            answer->query.store_count++;
        }
        int64_t k = json_get_int(tool, "max_num_results", RESULTS_DEFAULT);
        answer->query.k = (size_t)MIN(MAX(k, 1), RESULTS_MAX);
        rc = filter_read(yyjson_obj_get(tool, "filters"), "tools[].filters", arena,
                         &answer->query.filter, err);
        if (rc != RC_OK)
            return rc;
    }
    yyjson_arr_foreach(yyjson_obj_get(body, "include"), i, n, include)
    {
        answer->with_results |=
            str_eq(json_text(include), STR("file_search_call.results")) ||
            str_eq(json_text(include), STR("output[*].file_search_call.search_results"));
    }
    return RC_OK;
}

/* ---- the steps ---- */

static enum rc start_call(struct answer *answer, struct err *err)
{
    struct str route = choose_route(answer), body;
    if (route.n == 0)
        return err_set(err, ERR_NO_TARGET,
                       "the collection names no route to answer with and there is no local model: "
                       "set answer.route, or pull a model");
    enum rc rc = make_body(answer, route, &body, err);
    if (rc != RC_OK)
        return rc;
    answer->scope.arena = &answer->call_arena;
    struct call_request *request = ARENA_NEW(&answer->call_arena, struct call_request);
    if (!request)
        return err_set(err, ERR_OVERLOADED, "no memory for this request");
    int64_t now = clock_monotonic_ns();
    *request = (struct call_request){.door = DOOR_INTERNAL,
                                     .operation = OPERATION_CHAT,
                                     .format = WIRE_OPENAI_CHAT,
                                     .content_type = STR("application/json"),
                                     .body = body,
                                     .started_ns = now,
                                     .received_ns = now};
    answer->call =
        gateway_call_start(answer->gateway, &answer->scope, request, &call_calls, answer);
    return answer->call ? RC_OK : err_set(err, ERR_OVERLOADED, "no memory for this request");
}

static void on_found(void *arg, const struct retrieve_result *result, const struct err *failure)
{
    struct answer *answer = arg;
    struct err err = {0};
    answer->retrieval = NULL;
    if (!failure) {
        answer->found = *result;
        if ((answer->model.n == 0 || tell_search(answer, &err) == RC_OK) &&
            start_call(answer, &err) == RC_OK)
            return;
        failure = &err;
    }
    answer_end(answer, failure);
}

/* The end must not come from within `start`: a failure waits for the next turn. */
struct late_end {
    struct task task;
    struct answer *answer;
    struct err err;
};

static void run_late_end(struct task *task)
{
    struct late_end *late = CONTAINER_OF(task, struct late_end, task);
    if (late->answer->inner) /* else it was cancelled meanwhile */
        answer_end(late->answer, &late->err);
    else
        answer_free(late->answer);
    free(late);
}

static void end_later(struct answer *answer, enum err_code code, const char *message)
{
    struct late_end *late = xcalloc(1, sizeof(*late));
    late->task.run = run_late_end;
    late->answer = answer;
    err_set(&late->err, code, "%s", message);
    loop_defer(loop_current(), &late->task);
}

static struct answer *answer_new(void *arg, struct inner_call *call,
                                 const struct inner_request *request)
{
    struct answer *answer = xcalloc(1, sizeof(*answer));
    answer->knowledge = arg;
    answer->inner = call;
    answer->gateway = request->gateway;
    answer->scope = *request->scope;
    arena_init(&answer->arena, ANSWER_ARENA_BYTES);
    arena_init(&answer->call_arena, ANSWER_ARENA_BYTES);
    sse_parser_init(&answer->sse);
    buf_init(&answer->text, ANSWER_TEXT_BYTES);
    retrieve_query_init(&answer->query);
    answer->query.project = request->scope->principal->project;
    answer->query.text = last_question(request->body, &answer->call_arena);
    answer->query.for_answer = true;
    answer->body = json_write(request->body, &answer->call_arena);
    fill_access(answer, request->scope);
    return answer;
}

static void *begin_search(struct answer *answer)
{
    if (answer->query.text.n == 0 || !answer->body.p) {
        end_later(answer, ERR_MISSING_FIELD, "messages: there is no question of a user's in it");
        return answer;
    }
    answer->retrieval =
        knowledge_retrieve(answer->knowledge, &answer->query, &answer->arena, on_found, answer);
    if (!answer->retrieval)
        end_later(answer, ERR_OVERLOADED, "too many searches wait; try again soon");
    return answer;
}

static void *answer_start(void *arg, struct inner_call *call, const struct inner_request *request)
{
    struct answer *answer = answer_new(arg, call, request);
    ssize_t at = str_find_char(request->name, '@');
    answer->query.collection = arena_copy(
        &answer->call_arena, at < 0 ? request->name : str_slice(request->name, 0, (size_t)at));
    return begin_search(answer);
}

static void *search_start(void *arg, struct inner_call *call, const struct inner_request *request)
{
    struct answer *answer = answer_new(arg, call, request);
    struct err err = {0};
    answer->model = arena_copy(&answer->call_arena, request->name);
    if (read_tools(answer, request->door_body, &err) == RC_OK)
        return begin_search(answer);
    end_later(answer, err.code, err.message);
    return answer;
}

static void answer_resume(void *arg)
{
    struct answer *answer = arg;
    answer->stop = false;
    if (answer->call)
        gateway_call_resume(answer->call);
}

static void on_released(void *arg) { answer_free(arg); }

static void answer_cancel(void *arg)
{
    struct answer *answer = arg;
    answer->inner = NULL;
    if (answer->retrieval) {
        retrieval_cancel(answer->retrieval, on_released);
    } else if (answer->call) {
        gateway_call_cancel(answer->call);
        answer_free(answer);
    } /* else a late end is on its way and frees it */
}

void knowledge_register_model(struct knowledge *knowledge)
{
    gateway_register_inner(&(struct inner_model){.prefix = STR("knowledge/"),
                                                 .start = answer_start,
                                                 .resume = answer_resume,
                                                 .cancel = answer_cancel,
                                                 .arg = knowledge});
    gateway_register_inner(&(struct inner_model){.prefix = STR(INNER_FILE_SEARCH),
                                                 .start = search_start,
                                                 .resume = answer_resume,
                                                 .cancel = answer_cancel,
                                                 .arg = knowledge});
}
