/* The job "knowledge_tune": tries settings on a collection's judged questions, one after the other,
 * and says which did best. Chosen on the odd questions, shown on the even ones, which had no say.
 *
 *   parts and their fusion → BM25's k1 and b → rerank depth → (asked for) cutting and stemming
 *
 * Each row of settings begins from the best so far. What is only ranking is tried on the index in
 * force, with settings of the query alone: searches of others do not notice. Another cut needs an
 * index of its own, made beside in a generation that never comes into force and removed after.
 *
 * A run belongs to the jobs' loop; each step, one setting or one document, is a worker's task.
 * After a restart it begins anew. */
#include "base/clock.h"
#include "knowledge/evaluate.h"
#include "knowledge/knowledge_private.h"
#include "text/json_tree.h"
#include <math.h>
#include <stdlib.h>

#define TUNE_ARENA_BYTES  (256 * 1024 * 1024)
#define STEP_ARENA_BYTES  (256 * 1024 * 1024)
#define QUESTIONS_MIN     4
#define TRIALS_MAX        96
#define BETTER_MIN        0.001 /* less is noise: the simpler setting, tried before, stays */
#define EVALUATE_K        10
#define GENERATION_BESIDE 1000000 /* added to the one in force: never reached by rebuilds */

struct tune_setting {
    enum search_mode mode;
    enum index_fusion fusion;
    double text_weight; /* <0: the default */
    double k1, b;       /* 0: the defaults */
    size_t rerank_depth;
    unsigned tokens_max, overlap_tokens;
    struct str language;
    int64_t generation; /* of its index */
};

struct trial {
    struct tune_setting setting;
    struct measured odd;
};

enum tune_row { ROW_CURRENT, ROW_FUSION, ROW_WORDS, ROW_RERANK, ROW_CUT, ROW_SHOW, ROW_END };

struct tune {
    struct list node;
    struct knowledge *knowledge;
    struct job_run *job;
    struct id project, collection_id;
    bool cuts; /* settings that need another index, too */
    struct collection collection;
    struct collection beside; /* the index that is being made, or that the last cut made */
    struct id after;          /* the last document that was put into it */
    int64_t put;              /* how many */
    struct question *odd, *even;
    size_t odd_count, even_count;
    enum tune_row row;
    size_t column;             /* of the row: the next to be tried */
    struct tune_setting start; /* the best when the row began */
    struct trial trials[TRIALS_MAX];
    size_t count, best, planned;
    struct str result;
    struct work work;
    struct arena arena, step;
    volatile bool cancelled;
    bool begun, ended;
    enum rc rc;
    struct err err;
};

/* ---- what is tried ---- */

static const struct {
    enum search_mode mode;
    enum index_fusion fusion;
    double text_weight;
} fusions[] = {
    {SEARCH_TEXT, FUSION_RRF, -1},         {SEARCH_VECTOR, FUSION_RRF, -1},
    {SEARCH_HYBRID, FUSION_RRF, 0.3},      {SEARCH_HYBRID, FUSION_RRF, 0.4},
    {SEARCH_HYBRID, FUSION_RRF, 0.5},      {SEARCH_HYBRID, FUSION_RRF, 0.6},
    {SEARCH_HYBRID, FUSION_RRF, 0.7},      {SEARCH_HYBRID, FUSION_WEIGHTED, 0.2},
    {SEARCH_HYBRID, FUSION_WEIGHTED, 0.3}, {SEARCH_HYBRID, FUSION_WEIGHTED, 0.4},
    {SEARCH_HYBRID, FUSION_WEIGHTED, 0.5}, {SEARCH_HYBRID, FUSION_WEIGHTED, 0.6},
};
static const double k1s[] = {0.9, 1.2, 1.5, 2.0}, bs[] = {0.3, 0.5, 0.75, 0.9};
static const size_t rerank_depths[] = {10, 20, 50, 100};
static const struct {
    unsigned tokens_max, overlap_tokens;
    bool stems;
} cut_table[] = {{120, 0, true}, {250, 0, true}, {250, 50, true}, {500, 0, true}, {250, 0, false}};

static size_t row_columns(const struct tune *tune, enum tune_row row)
{
    const struct collection_spec *spec = &tune->collection.spec;
    switch (row) {
    case ROW_CURRENT: return 1;
    case ROW_FUSION: return collection_has_encoder(spec) ? COUNT_OF(fusions) : 0;
    case ROW_WORDS:
        return tune->count && tune->trials[tune->best].setting.mode == SEARCH_VECTOR
                   ? 0
                   : COUNT_OF(k1s) * COUNT_OF(bs);
    case ROW_RERANK: return spec->ranking.reranker.n ? COUNT_OF(rerank_depths) : 0;
    case ROW_CUT: return tune->cuts ? COUNT_OF(cut_table) : 0;
    case ROW_SHOW: return 1;
    case ROW_END: break;
    }
    return 0;
}

static struct tune_setting setting_of(const struct collection *collection)
{
    const struct collection_ranking *ranking = &collection->spec.ranking;
    return (struct tune_setting){
        .mode = collection_has_encoder(&collection->spec) ? ranking->mode : SEARCH_TEXT,
        .fusion = ranking->fusion,
        .text_weight = ranking->text_weight,
        .k1 = ranking->k1,
        .b = ranking->b,
        .rerank_depth = ranking->rerank_depth,
        .tokens_max = collection->spec.chunking.tokens_max,
        .overlap_tokens = collection->spec.chunking.overlap_tokens,
        .language = collection->spec.language,
        .generation = collection->row.generation,
    };
}

/* The setting that stands at this place, from the best when its row began. */
static struct tune_setting next_setting(const struct tune *tune)
{
    struct tune_setting setting = tune->start;
    size_t i = tune->column;
    switch (tune->row) {
    case ROW_FUSION:
        setting.mode = fusions[i].mode;
        setting.fusion = fusions[i].fusion;
        setting.text_weight = fusions[i].text_weight;
        break;
    case ROW_WORDS:
        setting.k1 = k1s[i / COUNT_OF(bs)];
        setting.b = bs[i % COUNT_OF(bs)];
        break;
    case ROW_RERANK: setting.rerank_depth = rerank_depths[i]; break;
    case ROW_CUT:
        setting.tokens_max = cut_table[i].tokens_max;
        setting.overlap_tokens = cut_table[i].overlap_tokens;
        setting.language = cut_table[i].stems ? tune->collection.spec.language : STR("none");
        setting.generation = tune->collection.row.generation + GENERATION_BESIDE + (int64_t)i;
        break;
    case ROW_CURRENT:
    case ROW_SHOW:
    case ROW_END: break;
    }
    return setting;
}

static bool same_cut(const struct tune_setting *a, const struct tune_setting *b)
{
    return a->tokens_max == b->tokens_max && a->overlap_tokens == b->overlap_tokens &&
           str_eq(a->language, b->language);
}

static bool same_setting(const struct tune_setting *a, const struct tune_setting *b)
{
    return a->mode == b->mode && a->fusion == b->fusion && a->text_weight == b->text_weight &&
           a->k1 == b->k1 && a->b == b->b && a->rerank_depth == b->rerank_depth && same_cut(a, b);
}

static bool was_tried(const struct tune *tune, const struct tune_setting *setting)
{
    for (size_t i = 0; i < tune->count; i++)
        if (same_setting(&tune->trials[i].setting, setting))
            return true;
    return false;
}

/* ---- worker: the questions ---- */

/* Odd and even by their place in the list. */
static enum rc split_questions(struct tune *tune, struct question *questions, size_t count)
{
    if (count < QUESTIONS_MIN)
        return err_set(&tune->err, ERR_CONFLICT,
                       "there are %zu accepted questions; tuning needs %d at least", count,
                       QUESTIONS_MIN);
    tune->odd = ARENA_NEW_ARRAY(&tune->arena, struct question, count);
    tune->even = ARENA_NEW_ARRAY(&tune->arena, struct question, count);
    if (!tune->odd || !tune->even)
        return err_set(&tune->err, ERR_OVERLOADED, "no memory for so many questions");
    for (size_t i = 0; i < count; i++) {
        if (i % 2 == 0)
            tune->odd[tune->odd_count++] = questions[i];
        else
            tune->even[tune->even_count++] = questions[i];
    }
    return RC_OK;
}

static enum rc begin(struct tune *tune)
{
    struct db_txn *txn;
    struct str text;
    yyjson_doc *doc;
    struct question *questions;
    size_t count;
    enum rc rc = db_read_begin(tune->knowledge->db, &txn, &tune->err);
    if (rc != RC_OK)
        return rc;
    rc = collection_get(txn, tune->project, tune->collection_id, &tune->arena, &tune->collection,
                        &tune->err);
    if (rc == RC_OK)
        rc = question_set_get(txn, tune->project, tune->collection_id, &tune->arena, &text,
                              &tune->err);
    db_read_end(txn);
    if (rc == RC_OK)
        rc = json_read(text, &tune->arena, &doc, &tune->err);
    if (rc == RC_OK)
        rc = questions_read(yyjson_doc_get_root(doc), &tune->arena, &questions, &count, &tune->err);
    if (rc == RC_OK)
        rc = questions_encode(tune->knowledge, &tune->collection, questions, count, &tune->arena,
                              &tune->err);
    if (rc == RC_OK)
        rc = split_questions(tune, questions, count);
    tune->start = setting_of(&tune->collection);
    for (enum tune_row row = ROW_CURRENT; row < ROW_END; row++)
        tune->planned += row_columns(tune, row);
    tune->begun = rc == RC_OK;
    return rc;
}

static enum rc measure(struct tune *tune, const struct tune_setting *setting,
                       const struct question *questions, size_t count, struct evaluation *out)
{
    struct retrieve_query how;
    bool beside = setting->generation != tune->collection.row.generation;
    retrieve_query_init(&how);
    how.project = tune->project;
    how.within = beside ? &tune->beside : &tune->collection;
    how.mode = (int)setting->mode;
    how.fusion = (int)setting->fusion;
    how.text_weight = setting->text_weight;
    how.k1 = setting->k1 > 0 ? setting->k1 : INDEX_K1_DEFAULT;
    how.b = setting->b > 0 ? setting->b : INDEX_B_DEFAULT;
    how.rerank_depth = setting->rerank_depth;
    how.all_tags = true;
    return knowledge_evaluate(tune->knowledge, &how, questions, count, EVALUATE_K, &tune->step, out,
                              &tune->err);
}

/* ---- worker: another cut ---- */

static bool beside_is_for(const struct tune *tune, const struct tune_setting *setting)
{
    return tune->beside.row.generation == setting->generation;
}

static void drop_beside(struct tune *tune)
{
    if (tune->beside.row.generation > tune->collection.row.generation)
        knowledge_forget_generation(tune->knowledge, tune->collection_id,
                                    tune->beside.row.generation);
    tune->beside.row.generation = 0;
}

static void begin_beside(struct tune *tune, const struct tune_setting *setting)
{
    drop_beside(tune);
    tune->beside = tune->collection;
    tune->beside.row.generation = setting->generation;
    tune->beside.spec.chunking.tokens_max = setting->tokens_max;
    tune->beside.spec.chunking.overlap_tokens = setting->overlap_tokens;
    tune->beside.spec.language = setting->language;
    tune->after = (struct id){{0}};
    tune->put = 0;
}

/* One more document; *complete: there was none. A document that cannot be cut is left out, as it is
 * in the index in force. */
static enum rc put_next(struct tune *tune, bool *complete)
{
    const struct document_filter filter = {.project = tune->project,
                                           .collection = tune->collection_id,
                                           .states = 1u << DOCUMENT_READY,
                                           .ascending = true};
    struct document_row *row;
    struct db_txn *txn;
    struct err why = {0};
    size_t count = 0;
    *complete = false;
    enum rc rc = db_read_begin(tune->knowledge->db, &txn, &tune->err);
    if (rc != RC_OK)
        return rc;
    rc = document_row_list(txn, &filter, tune->after, 1, &tune->step, &row, &count, &tune->err);
    db_read_end(txn);
    if (rc != RC_OK)
        return rc;
    *complete = count == 0;
    if (*complete)
        return RC_OK;
    tune->after = row->id;
    tune->put++;
    rc = ingest_beside(tune->knowledge, &tune->beside, row, &tune->cancelled, &why);
    if (rc != RC_CANCELLED && rc != RC_FULL)
        return RC_OK;
    tune->err = why;
    return rc;
}

/* ---- worker: the result ---- */

static void put_measured(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *name,
                         const struct measured *measured)
{
    yyjson_mut_val *m = yyjson_mut_obj_add_obj(doc, o, name);
    yyjson_mut_obj_add_real(doc, m, "mean", measured->mean);
    yyjson_mut_obj_add_real(doc, m, "low", measured->low);
    yyjson_mut_obj_add_real(doc, m, "high", measured->high);
}

static void put_setting(yyjson_mut_doc *doc, yyjson_mut_val *o, const struct tune_setting *setting)
{
    yyjson_mut_obj_add_str(doc, o, "mode", search_mode_name(setting->mode));
    if (setting->mode == SEARCH_HYBRID) {
        yyjson_mut_obj_add_str(doc, o, "fusion",
                               setting->fusion == FUSION_RRF ? "rrf" : "weighted");
        if (setting->text_weight >= 0)
            yyjson_mut_obj_add_real(doc, o, "text_weight", setting->text_weight);
    }
    yyjson_mut_obj_add_real(doc, o, "k1", setting->k1 > 0 ? setting->k1 : INDEX_K1_DEFAULT);
    yyjson_mut_obj_add_real(doc, o, "b", setting->b > 0 ? setting->b : INDEX_B_DEFAULT);
    yyjson_mut_obj_add_uint(doc, o, "rerank_depth", setting->rerank_depth);
    yyjson_mut_obj_add_uint(doc, o, "tokens_max", setting->tokens_max);
    yyjson_mut_obj_add_uint(doc, o, "overlap_tokens", setting->overlap_tokens);
    json_set_text(doc, o, "language", setting->language);
}

/* What PATCH /api/collections/{name} must be given, so that the collection is as the winner. */
static void put_patch(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct tune_setting *from,
                      const struct tune_setting *to)
{
    yyjson_mut_val *patch = yyjson_mut_obj_add_obj(doc, root, "patch");
    if (same_setting(from, to))
        return;
    yyjson_mut_val *ranking = yyjson_mut_obj_add_obj(doc, patch, "ranking");
    yyjson_mut_obj_add_str(doc, ranking, "mode", search_mode_name(to->mode));
    yyjson_mut_obj_add_str(doc, ranking, "fusion", to->fusion == FUSION_RRF ? "rrf" : "weighted");
    if (to->text_weight >= 0)
        yyjson_mut_obj_add_real(doc, ranking, "text_weight", to->text_weight);
    if (to->k1 > 0)
        yyjson_mut_obj_add_real(doc, ranking, "k1", to->k1);
    if (to->b > 0)
        yyjson_mut_obj_add_real(doc, ranking, "b", to->b);
    if (to->rerank_depth != from->rerank_depth)
        yyjson_mut_obj_add_uint(doc, ranking, "rerank_depth", to->rerank_depth);
    if (same_cut(from, to))
        return;
    yyjson_mut_val *chunking = yyjson_mut_obj_add_obj(doc, patch, "chunking");
    yyjson_mut_obj_add_uint(doc, chunking, "tokens_max", to->tokens_max);
    yyjson_mut_obj_add_uint(doc, chunking, "overlap_tokens", to->overlap_tokens);
    json_set_text(doc, patch, "language", to->language);
}

/* The winner and what is in force, on the even questions, and how much they differ, question by
 * question. The winner's index is still there: see step_row. */
static enum rc show(struct tune *tune)
{
    const struct trial *now = &tune->trials[0], *best = &tune->trials[tune->best];
    struct evaluation before, after;
    enum rc rc = measure(tune, &now->setting, tune->even, tune->even_count, &before);
    if (rc == RC_OK)
        rc = measure(tune, &best->setting, tune->even, tune->even_count, &after);
    yyjson_mut_doc *doc = rc == RC_OK ? json_tree_new(&tune->step) : NULL;
    double *differences = ARENA_NEW_ARRAY(&tune->step, double, tune->even_count + 1);
    if (rc == RC_OK && (!doc || !differences))
        return err_set(&tune->err, ERR_OVERLOADED, "no memory for the result");
    if (rc != RC_OK)
        return rc;
    for (size_t i = 0; i < tune->even_count; i++)
        differences[i] = after.scores[i].ndcg10 - before.scores[i].ndcg10;
    struct measured difference = measure_mean(differences, tune->even_count, sizeof(double), 4);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *tried;
    yyjson_mut_obj_add_uint(doc, root, "odd_questions", tune->odd_count);
    yyjson_mut_obj_add_uint(doc, root, "even_questions", tune->even_count);
    tried = yyjson_mut_obj_add_arr(doc, root, "tried");
    for (size_t i = 0; i < tune->count; i++) {
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, tried);
        put_setting(doc, o, &tune->trials[i].setting);
        put_measured(doc, o, "ndcg_at_10", &tune->trials[i].odd);
    }
    yyjson_mut_obj_add_uint(doc, root, "winner", tune->best);
    put_measured(doc, root, "current_even", &before.ndcg10);
    put_measured(doc, root, "winner_even", &after.ndcg10);
    put_measured(doc, root, "difference_even", &difference);
    yyjson_mut_obj_add_bool(doc, root, "rebuild", !same_cut(&now->setting, &best->setting));
    put_patch(doc, root, &now->setting, &best->setting);
    rc = json_write_tree(root, &tune->arena, &tune->result, &tune->err);
    tune->ended = rc == RC_OK;
    return rc;
}

/* ---- worker: a step ---- */

static enum rc try_setting(struct tune *tune, const struct tune_setting *setting)
{
    struct evaluation evaluation;
    ASSERT(tune->count < TRIALS_MAX);
    enum rc rc = measure(tune, setting, tune->odd, tune->odd_count, &evaluation);
    if (rc != RC_OK)
        return rc;
    tune->trials[tune->count] = (struct trial){*setting, evaluation.ndcg10};
    if (evaluation.ndcg10.mean > tune->trials[tune->best].odd.mean + BETTER_MIN)
        tune->best = tune->count;
    tune->count++;
    return RC_OK;
}

/* To the next place; rows that have none are passed over. */
static void advance(struct tune *tune)
{
    for (tune->column++; tune->row < ROW_END && tune->column >= row_columns(tune, tune->row);) {
        tune->row++;
        tune->column = 0;
        tune->start = tune->trials[tune->best].setting;
    }
}

static enum rc step_row(struct tune *tune)
{
    struct tune_setting setting = next_setting(tune);
    bool complete = true;
    enum rc rc = RC_OK;
    if (tune->row == ROW_SHOW) { /* a winner that is not the last cut is made once more */
        setting = tune->trials[tune->best].setting;
    } else if (was_tried(tune, &setting)) {
        advance(tune);
        return RC_OK;
    }
    if (setting.generation != tune->collection.row.generation) {
        if (!beside_is_for(tune, &setting))
            begin_beside(tune, &setting);
        rc = put_next(tune, &complete);
    }
    if (rc != RC_OK || !complete)
        return rc;
    rc = tune->row == ROW_SHOW ? show(tune) : try_setting(tune, &setting);
    if (rc == RC_OK)
        advance(tune);
    return rc;
}

static void step_work(struct work *work)
{
    struct tune *tune = CONTAINER_OF(work, struct tune, work);
    tune->rc = tune->begun ? step_row(tune) : begin(tune);
    if (tune->ended || tune->rc != RC_OK)
        drop_beside(tune);
}

/* ---- the run: jobs' loop ---- */

static void tune_free(struct tune *tune)
{
    list_remove(&tune->node);
    arena_fini(&tune->arena);
    free(tune);
}

static void tune_end(struct tune *tune)
{
    if (!tune->knowledge->stopping) {
        if (tune->rc != RC_OK && tune->err.code == ERR_NONE)
            err_set(&tune->err, tune->cancelled ? ERR_CANCELLED : ERR_INTERNAL, "%s",
                    rc_name(tune->rc));
        job_finish(tune->job, tune->result, tune->rc == RC_OK ? NULL : &tune->err);
    }
    tune_free(tune);
}

static void step_done(struct work *work);

static bool step_start(struct tune *tune)
{
    arena_init(&tune->step, STEP_ARENA_BYTES);
    tune->work = (struct work){.home = tune->knowledge->loop, .work = step_work, .done = step_done};
    if (worker_submit(tune->knowledge->workers, &tune->work) == RC_OK)
        return true;
    arena_fini(&tune->step);
    tune->rc = err_set(&tune->err, ERR_OVERLOADED, "the server was too busy");
    return false;
}

static void tell_progress(struct tune *tune)
{
    char message[96] = "trying settings";
    if (tune->beside.row.generation)
        snprintf(message, sizeof(message), "cutting by %u tokens: %lld documents",
                 tune->beside.spec.chunking.tokens_max, (long long)tune->put);
    job_progress(tune->job, (int64_t)tune->count, (int64_t)MAX(tune->planned, tune->count),
                 "settings", str_from(message));
}

static void step_done(struct work *work)
{
    struct tune *tune = CONTAINER_OF(work, struct tune, work);
    arena_fini(&tune->step);
    if (tune->rc == RC_OK && tune->cancelled && !tune->ended) {
        tune->rc = err_set(&tune->err, ERR_CANCELLED, "cancelled");
        drop_beside(tune);
    }
    tell_progress(tune);
    if (tune->rc != RC_OK || tune->ended || !step_start(tune))
        tune_end(tune);
}

static void *tune_start(void *arg, struct job_run *job, yyjson_val *params)
{
    struct tune *tune = xcalloc(1, sizeof(*tune));
    tune->knowledge = arg;
    tune->job = job;
    tune->project = job_run_project(job);
    tune->cuts = json_get_bool(params, "cuts", false);
    arena_init(&tune->arena, TUNE_ARENA_BYTES);
    list_push_back(&tune->knowledge->tunes, &tune->node);
    if (id_parse(json_get_text(params, "collection"), "coll", &tune->collection_id) != RC_OK)
        tune->rc = err_set(&tune->err, ERR_INVALID, "the job does not say which collection");
    if (tune->rc == RC_OK && step_start(tune))
        return tune;
    tune_end(tune);
    return NULL;
}

static void tune_cancel(void *arg, void *handle)
{
    UNUSED(arg);
    __atomic_store_n(&((struct tune *)handle)->cancelled, true, __ATOMIC_RELAXED);
}

void tune_stop_all(struct knowledge *knowledge)
{
    LIST_FOR_EACH (tune, &knowledge->tunes, struct tune, node) {
        __atomic_store_n(&tune->cancelled, true, __ATOMIC_RELAXED);
    }
}

void knowledge_register_tune(struct knowledge *knowledge)
{
    jobs_register(knowledge->jobs, &(struct job_kind){.name = "knowledge_tune",
                                                      .attempts_max = 3,
                                                      .parallel_max = 1,
                                                      .start = tune_start,
                                                      .cancel = tune_cancel,
                                                      .arg = knowledge});
}

/* ---- asking for it ---- */

struct request {
    struct knowledge *knowledge;
    const struct collection *collection;
    bool cuts;
    struct str author;
    struct arena *arena;
    struct job_row *job;
};

static enum rc request_write(void *arg, struct db_txn *txn, struct err *err)
{
    struct request *request = arg;
    const struct collection_row *row = &request->collection->row;
    char id[ID_TEXT_BYTES_MAX];
    id_format(row->id, "coll", id);
    struct str params = arena_printf(request->arena, "{\"collection\":\"%s\",\"cuts\":%s}", id,
                                     request->cuts ? "true" : "false");
    enum rc rc = job_table_find_open(txn, row->project, STR("knowledge_tune"), params,
                                     request->arena, request->job, err);
    return rc == RC_NOT_FOUND
               ? job_submit(request->knowledge->jobs, txn, row->project, "knowledge_tune", params,
                            request->author, request->arena, request->job, err)
               : rc;
}

enum rc knowledge_tune(struct knowledge *knowledge, const struct collection *collection, bool cuts,
                       struct str author, struct arena *arena, struct job_row *job, struct err *err)
{
    struct request request = {knowledge, collection, cuts, author, arena, job};
    if (collection->spec.dimension)
        return err_set(err, ERR_CONFLICT,
                       "the collection holds vectors that callers brought, no documents");
    return db_write_wait(knowledge->db, request_write, &request, err);
}
