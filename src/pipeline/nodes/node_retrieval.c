/* Knowledge retrieval: the collections are searched at the same time, each by its own ranking, on
 * workers; what they find is put into one order here. A search sees what the run's caller may see.
 *
 * Scores of different collections mean different things (another encoder, another fusion), so hits
 * are ordered by the reranker where one is named, which judges all alike, else by their ranks:
 * weight / (60 + rank), summed up for a passage that several found. */
#include "base/utf8.h"
#include "gateway/snapshot.h"
#include "knowledge/retrieve.h"
#include "pipeline/engine/citation.h"
#include "pipeline/engine/loop_private.h"
#include "text/json_tree.h"
#include <math.h>
#include <stdlib.h>

#define SEARCHES_MAX       8
#define SEARCH_ARENA_BYTES (64 * 1024 * 1024)
#define QUERY_BYTES_MAX    (256 * 1024)
#define RANK_CONSTANT      60.0 /* of reciprocal ranks: Cormack et al. 2009 */
#define PASSAGE_BYTES_MAX  (1024 * 1024)

struct condition {
    struct str attribute, operator;
    struct plan_expression value;
};

struct retrieval_config {
    struct plan_text query;
    yyjson_val *collections; /* [{name, weight}] */
    struct condition *conditions;
    size_t condition_count;
    bool any; /* of the conditions, not all */
    size_t k;
    int64_t first_number;
    int mode; /* enum search_mode, or -1 */
    double text_weight, score_min;
    struct str reranker;
};

struct search {
    struct retrieval_work *work;
    struct retrieval *retrieval; /* under way */
    struct arena arena;          /* the worker's meanwhile */
    struct retrieve_result found;
    double weight;
};

/* Lives until the last search has let go of it, longer than its step perhaps. */
struct retrieval_work {
    struct step *step; /* NULL: nobody waits any more */
    struct arena arena;
    struct str query;
    struct search searches[SEARCHES_MAX];
    size_t count, under_way;
};

struct ranked {
    const struct retrieve_hit *hit;
    const struct search *search;
    double rank; /* what it is ordered by */
};

/* ---- compiling ---- */

static enum rc no_room(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the definition is too large");
}

static enum rc read_conditions(struct plan_build *build, yyjson_val *list,
                               struct retrieval_config *config, struct err *err)
{
    size_t i, n;
    yyjson_val *item;
    config->conditions =
        ARENA_NEW_ARRAY(&build->plan->arena, struct condition, yyjson_arr_size(list) + 1);
    if (!config->conditions)
        return no_room(err);
    yyjson_arr_foreach(list, i, n, item)
    {
        struct condition *condition = &config->conditions[config->condition_count++];
        condition->attribute = json_get_text(item, "attribute");
        condition->operator= json_get_text(item, "operator");
        enum rc rc =
            plan_expression_compile(build, json_get_text(item, "value"), &condition->value, err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

static enum rc retrieval_compile(struct plan_build *build, struct err *err)
{
    yyjson_val *json = build->node->document->config;
    struct retrieval_config *config = build->node->config =
        ARENA_NEW(&build->plan->arena, struct retrieval_config);
    enum search_mode mode;
    if (!config)
        return no_room(err);
    struct str mode_name = json_get_text(json, "mode");
    config->collections = yyjson_obj_get(json, "collections");
    config->any = str_eq(json_get_text(json, "match"), STR("any"));
    config->k = (size_t)json_get_int(json, "k", 0);
    config->first_number = json_get_int(json, "first_number", 1);
    config->mode = mode_name.n && search_mode_parse(mode_name, &mode) == RC_OK ? (int)mode : -1;
    config->text_weight = json_get_double(json, "text_weight", -2);
    config->score_min = json_get_double(json, "score_min", (double)NAN);
    config->reranker = json_get_text(json, "reranker");
    enum rc rc = plan_text_compile(build, json_get_text(json, "query"), &config->query, err);
    return rc == RC_OK ? read_conditions(build, yyjson_obj_get(json, "conditions"), config, err)
                       : rc;
}

/* ---- the filter ---- */

/* A literal of the expression language, from a value of the run: never its syntax. */
static enum rc put_literal(yyjson_val *value, struct arena *arena, struct buf *out)
{
    size_t i, n;
    yyjson_val *item;
    enum rc rc = RC_OK;
    if (!yyjson_is_arr(value)) {
        struct str text =
            yyjson_is_ctn(value) ? STR_EMPTY : json_write(value, arena); /* JSON's are ours */
        return text.n ? buf_append(out, text) : RC_INVALID;
    }
    rc = buf_append_char(out, '[');
    yyjson_arr_foreach(value, i, n, item)
    {
        if (rc == RC_OK && i > 0)
            rc = buf_append(out, STR(", "));
        if (rc == RC_OK)
            rc = yyjson_is_ctn(item) ? RC_INVALID : put_literal(item, arena, out);
    }
    return rc == RC_OK ? buf_append_char(out, ']') : rc;
}

/* How an operator is written around attribute and value. */
static const struct {
    const char *name, *before, *between, *after;
} operators[] = {
    {"eq", "", " == ", ""},
    {"ne", "", " != ", ""},
    {"gt", "", " > ", ""},
    {"ge", "", " >= ", ""},
    {"lt", "", " < ", ""},
    {"le", "", " <= ", ""},
    {"in", "", " in ", ""},
    {"not_in", "", " not in ", ""},
    {"contains", "contains(", ", ", ")"},
    {"not_contains", "not contains(", ", ", ")"},
    {"starts_with", "starts_with(", ", ", ")"},
    {"ends_with", "ends_with(", ", ", ")"},
    {"exists", "exists(", NULL, ")"},
    {"missing", "not exists(", NULL, ")"},
};

/* RC_END: its value is null, so it says nothing. */
static enum rc put_condition(struct step *step, const struct condition *condition,
                             struct arena *arena, struct buf *out, struct err *err)
{
    struct expression_value value;
    struct maker maker;
    size_t i = 0;
    while (i + 1 < COUNT_OF(operators) && !str_eq(condition->operator, str_from(operators[i].name)))
        i++;
    const char *between = operators[i].between;
    enum rc rc = run_evaluate(step->frame, &condition->value, NULL, arena, &value, err);
    if (rc != RC_OK)
        return rc;
    if (between && value.type == EXPRESSION_NULL)
        return RC_END;
    maker_init(&maker, arena);
    maker_expression(&maker, &value);
    yyjson_val *json = maker_take(&maker);
    rc = buf_printf(out, "%s%.*s%s", operators[i].before, STR_ARG(condition->attribute),
                    between ? between : "");
    if (rc == RC_OK && between)
        rc = json ? put_literal(json, arena, out) : RC_LIMIT;
    if (rc == RC_INVALID)
        return err_set(err, ERR_BAD_FIELD,
                       "the condition on '%.*s' compares with an object: give a text, a number, a "
                       "boolean or a list of these",
                       STR_ARG(condition->attribute));
    if (rc == RC_OK)
        rc = buf_append(out, str_from(operators[i].after));
    return rc == RC_OK ? rc : err_set(err, ERR_TOO_LARGE, "the filter is too long");
}

static enum rc make_filter(struct retrieval_work *work, struct str *out, struct err *err)
{
    const struct retrieval_config *config = work->step->plan->config;
    struct buf buf;
    bool first = true;
    enum rc rc = RC_OK;
    buf_init(&buf, EXPRESSION_BYTES_MAX);
    for (size_t i = 0; rc == RC_OK && i < config->condition_count; i++) {
        size_t before = buf_len(&buf);
        if (!first && buf_append(&buf, config->any ? STR(" or ") : STR(" and ")) != RC_OK)
            rc = err_set(err, ERR_TOO_LARGE, "the filter is too long");
        if (rc == RC_OK)
            rc = put_condition(work->step, &config->conditions[i], &work->arena, &buf, err);
        if (rc == RC_END)
            buf.end -= buf_len(&buf) - before;
        else
            first = false;
        rc = rc == RC_END ? RC_OK : rc;
    }
    *out = arena_copy(&work->arena, buf_str(&buf));
    buf_fini(&buf);
    return rc;
}

/* ---- the searches ---- */

static void work_free(struct retrieval_work *work)
{
    for (size_t i = 0; i < work->count; i++)
        arena_fini(&work->searches[i].arena);
    arena_fini(&work->arena);
    free(work);
}

static void on_released(void *arg)
{
    struct search *search = arg;
    if (--search->work->under_way == 0)
        work_free(search->work);
}

/* Nobody waits: it goes when the workers are through with it. */
static void work_drop(struct retrieval_work *work)
{
    work->step = NULL;
    for (size_t i = 0; i < work->count; i++) {
        if (work->searches[i].retrieval)
            retrieval_cancel(work->searches[i].retrieval, on_released);
        work->searches[i].retrieval = NULL;
    }
    if (work->under_way == 0)
        work_free(work);
}

static void retrieval_end(struct step *step, struct retrieval_work *work);

static void on_found(void *arg, const struct retrieve_result *result, const struct err *failure)
{
    struct search *search = arg;
    struct retrieval_work *work = search->work;
    struct step *step = work->step;
    search->retrieval = NULL;
    work->under_way--;
    if (failure) {
        struct err err = *failure;
        yyjson_val *collection =
            yyjson_arr_get(((const struct retrieval_config *)step->plan->config)->collections,
                           (size_t)(search - work->searches));
        err_prefix(&err, "%.*s", STR_ARG(json_get_text(collection, "name")));
        work_drop(work);
        step_failed(step, &err);
        return;
    }
    search->found = *result;
    if (work->under_way == 0)
        retrieval_end(step, work);
}

/* Access tags of the key that the run was started with; a person sees everything. */
static enum rc fill_access(struct retrieval_work *work, struct retrieve_query *query,
                           struct err *err)
{
    const struct run *run = work->step->run;
    struct snapshot *snapshot = NULL;
    const struct key *key;
    enum rc rc = run_find_key(run, &snapshot, &key, err);
    if (rc == RC_OK && key) {
        struct str *tags = ARENA_NEW_ARRAY(&work->arena, struct str, key->tag_count + 1);
        for (size_t i = 0; tags && i < key->tag_count; i++) {
            tags[query->tag_count] = arena_printf(
                &work->arena, "%.*s=%.*s", STR_ARG(key->tags[i].name), STR_ARG(key->tags[i].value));
            query->tag_count += tags[query->tag_count].p != NULL;
        }
        query->tags = tags;
    }
    query->all_tags = !key || (run->principal.permissions & PERMISSION_BIT(KNOWLEDGE_WRITE)) != 0;
    if (snapshot)
        snapshot_unref(snapshot);
    return rc;
}

static enum rc fill_query(struct retrieval_work *work, struct retrieve_query *query,
                          struct err *err)
{
    struct step *step = work->step;
    const struct retrieval_config *config = step->plan->config;
    struct buf text;
    retrieve_query_init(query);
    buf_init(&text, QUERY_BYTES_MAX);
    enum rc rc = run_render(step->frame, &config->query, &step->run->loop->scratch, &text, err);
    query->text = arena_copy(&work->arena, str_trim(buf_str(&text)));
    buf_fini(&text);
    query->project = step->run->principal.project;
    query->k = config->k;
    query->mode = config->mode;
    query->text_weight = config->text_weight;
    query->score_min = config->score_min;
    query->reranker = arena_copy(&work->arena, config->reranker); /* it may outlive the plan */
    if (rc == RC_OK)
        rc = make_filter(work, &query->filter, err);
    return rc == RC_OK ? fill_access(work, query, err) : rc;
}

static void retrieval_run(struct step *step)
{
    const struct retrieval_config *config = step->plan->config;
    struct knowledge *knowledge = step->run->loop->all->options.knowledge;
    struct retrieval_work *work = xcalloc(1, sizeof(*work));
    struct retrieve_query query;
    struct err err = {0};
    size_t i, n;
    yyjson_val *item;
    work->step = step;
    arena_init(&work->arena, SEARCH_ARENA_BYTES);
    if (!knowledge)
        err_set(&err, ERR_UNSUPPORTED, "there are no collections here");
    else if (fill_query(work, &query, &err) == RC_OK)
        yyjson_arr_foreach(config->collections, i, n, item)
        {
            struct search *search = &work->searches[work->count++];
            search->work = work;
            search->weight = json_get_double(item, "weight", 1);
            arena_init(&search->arena, SEARCH_ARENA_BYTES);
            query.collection = arena_copy(&work->arena, json_get_text(item, "name"));
            search->retrieval =
                knowledge_retrieve(knowledge, &query, &search->arena, on_found, search);
            work->under_way += search->retrieval != NULL;
            if (!search->retrieval) {
                err_set(&err, ERR_OVERLOADED, "too many searches wait; try again soon");
                break;
            }
        }
    if (err.code != ERR_NONE) {
        work_drop(work);
        step_failed(step, &err);
        return;
    }
    step->work = work;
}

static void retrieval_node_cancel(struct step *step)
{
    struct retrieval_work *work = step->work;
    step->work = NULL;
    if (work)
        work_drop(work);
}

/* ---- one order ---- */

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->rank < y->rank ? 1 : x->rank > y->rank ? -1 : 0;
}

/* How good a hit is beside those of other collections. */
static double rank_of(const struct search *search, const struct retrieve_hit *hit, bool reranked)
{
    if (reranked && !isnan(hit->rerank_score)) /* a cross-encoder's are logits */
        return search->weight / (1 + exp(-hit->rerank_score));
    return search->weight / (RANK_CONSTANT + 1 + (double)(hit - search->found.hits));
}

static size_t merge(struct retrieval_work *work, struct ranked **out)
{
    const struct retrieval_config *config = work->step->plan->config;
    bool reranked = config->reranker.n && !str_eq(config->reranker, STR("none"));
    size_t count = 0, k = config->k;
    for (size_t s = 0; s < work->count; s++)
        count += work->searches[s].found.count;
    struct ranked *all = *out = ARENA_NEW_ARRAY(&work->arena, struct ranked, count + 1);
    if (!all)
        return 0;
    count = 0;
    for (size_t s = 0; s < work->count; s++) {
        const struct search *search = &work->searches[s];
        for (size_t h = 0; h < search->found.count; h++)
            all[count++] = (struct ranked){&search->found.hits[h], search,
                                           rank_of(search, &search->found.hits[h], reranked)};
        if (config->k == 0)
            k = MAX(k, search->found.count);
    }
    if (work->count > 1)
        qsort(all, count, sizeof(*all), by_rank);
    return MIN(count, k);
}

/* ---- outputs ---- */

static void put_text(struct maker *maker, const char *name, struct str text)
{
    maker_key(maker, str_from(name));
    maker_text(maker, text);
}

static void put_place(struct maker *maker, const char *name, int64_t value)
{
    maker_key(maker, str_from(name));
    if (value >= 0)
        maker_int(maker, value);
    else
        maker_null(maker);
}

static void put_score(struct maker *maker, double score)
{
    maker_key(maker, STR("score"));
    if (isfinite(score))
        maker_number(maker, score);
    else
        maker_null(maker);
}

/* Which passage it is: the same members in a result and in a citation. */
static void put_source(struct maker *maker, const struct ranked *ranked, int64_t number)
{
    const struct retrieve_hit *hit = ranked->hit;
    maker_key(maker, STR("number"));
    maker_int(maker, number);
    put_text(maker, "collection", ranked->search->found.collection.row.name);
    put_text(maker, "document", hit->name);
    put_text(maker, "document_id", hit->document);
    put_text(maker, "chunk_id", hit->id);
    put_place(maker, "page", hit->page);
    put_place(maker, "begin", hit->begin);
    put_place(maker, "end", hit->end);
    put_score(maker, isnan(hit->rerank_score) ? hit->score : hit->rerank_score);
}

/* The document's attributes, and what flows written for other programs look for. */
static void put_metadata(struct maker *maker, const struct ranked *ranked, int64_t position)
{
    const struct retrieve_hit *hit = ranked->hit;
    size_t i, n;
    yyjson_val *key, *value;
    maker_key(maker, STR("metadata"));
    maker_object(maker);
    put_text(maker, "_source", STR("knowledge"));
    put_text(maker, "dataset_name", ranked->search->found.collection.row.name);
    put_text(maker, "document_id", hit->document);
    put_text(maker, "document_name", hit->name);
    put_text(maker, "segment_id", hit->id);
    put_score(maker, isnan(hit->rerank_score) ? hit->score : hit->rerank_score);
    maker_key(maker, STR("position"));
    maker_int(maker, position);
    yyjson_obj_foreach(hit->payload, i, n, key, value)
    {
        struct str name = json_text(key);
        if (name.p[0] == '_' || str_eq(name, STR("tags")))
            continue;
        maker_key(maker, name);
        maker_tree(maker, value);
    }
    maker_end(maker);
}

static void put_results(struct maker *maker, const struct ranked *all, size_t count, int64_t first)
{
    maker_key(maker, STR("result"));
    maker_array(maker);
    for (size_t i = 0; i < count; i++) {
        maker_object(maker);
        put_text(maker, "content", all[i].hit->context);
        put_text(maker, "title", all[i].hit->title.n ? all[i].hit->title : all[i].hit->name);
        put_source(maker, &all[i], first + (int64_t)i);
        put_metadata(maker, &all[i], (int64_t)i + 1);
        maker_end(maker);
    }
    maker_end(maker);
    maker_key(maker, STR("citations"));
    maker_array(maker);
    for (size_t i = 0; i < count; i++) {
        struct str text = all[i].hit->text;
        maker_object(maker);
        put_source(maker, &all[i], first + (int64_t)i);
        put_text(maker, "text", str_slice(text, 0, utf8_cut(text, CITATION_TEXT_BYTES_MAX)));
        maker_end(maker);
    }
    maker_end(maker);
}

/* "[1] handbook.pdf, page 3\n…": for a prompt. A passage past the bound is left out, and so are
 * those after it. */
static struct str numbered_text(struct retrieval_work *work, const struct ranked *all, size_t count,
                                int64_t first)
{
    struct buf out;
    bool room = true;
    buf_init(&out, PASSAGE_BYTES_MAX);
    for (size_t i = 0; room && i < count; i++) {
        const struct retrieve_hit *hit = all[i].hit;
        size_t before = buf_len(&out);
        room = buf_printf(&out, "%s[%lld] %.*s", i ? "\n\n" : "", (long long)(first + (int64_t)i),
                          STR_ARG(hit->name)) == RC_OK;
        if (room && hit->page > 0)
            room = buf_printf(&out, ", page %lld", (long long)hit->page) == RC_OK;
        if (room)
            room = buf_printf(&out, "\n%.*s", STR_ARG(hit->context)) == RC_OK;
        if (!room)
            out.end -= buf_len(&out) - before;
    }
    struct str text = arena_copy(&work->arena, buf_str(&out));
    buf_fini(&out);
    return text;
}

static void retrieval_end(struct step *step, struct retrieval_work *work)
{
    const struct retrieval_config *config = step->plan->config;
    struct ranked *all;
    struct maker maker;
    size_t count = merge(work, &all);
    maker_init(&maker, &work->arena);
    maker_object(&maker);
    put_results(&maker, all, count, config->first_number);
    put_text(&maker, "text", numbered_text(work, all, count, config->first_number));
    maker_key(&maker, STR("count"));
    maker_int(&maker, (int64_t)count);
    maker_end(&maker);
    struct value *out = maker_pack(&maker);
    work_free(work);
    step_done(step, out, STR("out"));
}

/* The documents may have changed when a run is taken up again: the result is written down. */
const struct node_operations retrieval_operations = {.compile = retrieval_compile,
                                                     .run = retrieval_run,
                                                     .cancel = retrieval_node_cancel,
                                                     .recorded = true};
