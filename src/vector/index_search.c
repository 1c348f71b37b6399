/* A query: each part is asked by vector and by words under one bitmap of allowed rows; the best of
 * all parts are ranked, the two rankings fused, then grouped, spread and cut. */
#include "vector/index_private.h"
#include "text/json.h"
#include <math.h>
#include <stdlib.h>

#define RECALL_DEFAULT       0.95
#define TEXT_WEIGHT_DEFAULT  0.5 /* of the ranks */
#define SCORE_WEIGHT_DEFAULT 0.4 /* of the text's scores: FUSION_WEIGHTED */
#define RRF_RANK_BASE        60.0
#define DEPTH_MIN            100 /* of each ranking that is fused */
#define DEPTH_SPREAD         5   /* MMR chooses among k times this */
#define WORK_BYTES_MAX       (512u * 1024 * 1024)

struct candidate {
    uint32_t part, row;
    double score, vector_score, text_score; /* NAN: not found by it */
};

struct search {
    struct index *index;
    const struct index_query *query;
    struct index_view *view;
    struct index_scratch *scratch;
    struct words_ranking ranking;
    struct arena work;  /* what does not outlive the search */
    uint64_t **allowed; /* by part; NULL: all rows */
    size_t *allowed_count;
    float *vector; /* at unit length where the metric wants it */
    struct err *err;
    struct candidate *by_vector, *by_text;
    size_t by_vector_count, by_text_count;
};

/* ---- scratches ---- */

struct index_scratch *index_scratch_take(struct index *index)
{
    pthread_mutex_lock(&index->viewing);
    struct index_scratch *scratch = index->scratches;
    if (scratch)
        index->scratches = scratch->next;
    pthread_mutex_unlock(&index->viewing);
    if (scratch)
        return scratch;
    scratch = xcalloc(1, sizeof(*scratch));
    scratch->dense = dense_scratch_new();
    scratch->words = words_scratch_new();
    /* The language was good when the index was opened. */
    ASSERT(analyzer_new(index->config.language, &scratch->analyzer, NULL) == RC_OK);
    return scratch;
}

void index_scratch_give(struct index *index, struct index_scratch *scratch)
{
    pthread_mutex_lock(&index->viewing);
    scratch->next = index->scratches;
    index->scratches = scratch;
    pthread_mutex_unlock(&index->viewing);
}

void index_scratch_free(struct index_scratch *scratch)
{
    dense_scratch_free(scratch->dense);
    words_scratch_free(scratch->words);
    analyzer_free(scratch->analyzer);
    free(scratch);
}

/* ---- by vector ---- */

static int by_score(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* The allowed rows as the part's vectors are numbered. In a tail vectors may be newer than the
 * view, so there it always bounds them. */
static enum rc allowed_slots(struct search *s, size_t part, const struct index_slots *slots,
                             const uint64_t **out, size_t *count)
{
    const struct index_view_part *vp = &s->view->parts[part];
    const uint64_t *rows = s->allowed[part];
    *out = rows;
    *count = s->allowed_count[part];
    if (vp->part->segment && slots->identity)
        return RC_OK;
    size_t capacity = vp->part->tail ? vp->part->tail->rows_max : slots->count;
    uint64_t *bits = ARENA_NEW_ARRAY(&s->work, uint64_t, capacity / 64 + 1);
    if (!bits)
        return RC_LIMIT;
    *count = 0;
    for (uint32_t slot = 0; slot < MIN(slots->count, (uint32_t)capacity); slot++) {
        uint32_t row = slots->identity ? slot : slots->rows[slot];
        if (row >= vp->rows)
            break;
        if (!rows || bitmap_get(rows, row)) {
            bitmap_set(bits, slot);
            ++*count;
        }
    }
    *out = bits;
    return RC_OK;
}

static enum rc search_part_vectors(struct search *s, size_t p, size_t depth, struct dense_hit *hits,
                                   size_t *found)
{
    const struct index_part *part = s->view->parts[p].part;
    size_t field = s->query->vector_field;
    const struct index_slots *own =
        part->tail ? &part->tail->slots[field] : &part->segment->slots[field];
    struct index_slots slots = {.rows = own->rows, .identity = own->identity};
    struct dense_query query = {.vector = s->vector,
                                .k = depth,
                                .recall = s->query->recall > 0 ? s->query->recall : RECALL_DEFAULT};
    if (part->tail)
        slots.count = (uint32_t)dense_tail_count(part->tail->dense[field]);
    else if (part->segment->dense[field])
        slots.count = own->count;
    else
        return RC_OK;
    enum rc rc = allowed_slots(s, p, &slots, &query.allowed, &query.allowed_count);
    if (rc != RC_OK || query.allowed_count == 0)
        return rc;
    if (part->tail)
        *found = dense_tail_search(part->tail->dense[field], &query, s->scratch->dense, hits);
    else
        *found = dense_search(part->segment->dense[field], &query, s->scratch->dense, hits);
    if (slots.identity)
        return RC_OK;
    for (size_t i = 0; i < *found; i++)
        hits[i].slot = slots.rows[hits[i].slot];
    return RC_OK;
}

static enum rc search_vectors(struct search *s, size_t depth)
{
    struct dense_hit *hits = ARENA_NEW_ARRAY(&s->work, struct dense_hit, depth);
    size_t capacity = depth * 2, count = 0;
    struct candidate *all = ARENA_NEW_ARRAY(&s->work, struct candidate, capacity);
    if (!hits || !all)
        return RC_LIMIT;
    for (size_t p = 0; p < s->view->count; p++) {
        size_t found = 0;
        if (s->allowed_count[p] == 0)
            continue;
        enum rc rc = search_part_vectors(s, p, depth, hits, &found);
        if (rc != RC_OK)
            return rc;
        for (size_t i = 0; i < found; i++)
            all[count++] = (struct candidate){.part = (uint32_t)p,
                                              .row = hits[i].slot,
                                              .score = (double)hits[i].score,
                                              .vector_score = (double)hits[i].score,
                                              .text_score = NAN};
        qsort(all, count, sizeof(*all), by_score);
        count = MIN(count, depth);
    }
    s->by_vector = all;
    s->by_vector_count = count;
    return RC_OK;
}

/* ---- by words ---- */

static enum rc prepare_part(struct search *s, size_t p, const struct words_query *words,
                            struct words_stats *total, struct words_part **out)
{
    struct index_view_part *vp = &s->view->parts[p];
    struct index_tail *tail = vp->part->tail;
    struct words_stats stats;
    struct words_source source = {.rows = vp->rows};
    if (tail) {
        source.memory = tail->words;
        pthread_rwlock_rdlock(&tail->lock);
        words_memory_stats(tail->words, &stats);
    } else {
        source.segment = vp->part->segment->words;
        words_segment_stats(source.segment, &stats);
    }
    enum rc rc = words_part_prepare(&source, words, s->ranking.fields, &s->work, out);
    if (tail)
        pthread_rwlock_unlock(&tail->lock);
    total->rows += stats.rows;
    for (size_t f = 0; f < s->ranking.fields; f++) {
        total->field_rows[f] += stats.field_rows[f];
        total->lengths[f] += stats.lengths[f];
    }
    return rc;
}

static enum rc search_words(struct search *s, size_t depth)
{
    struct words_query words;
    struct words_stats total = {0};
    struct words_plan *plan;
    struct words_part **parts = ARENA_NEW_ARRAY(&s->work, struct words_part *, s->view->count + 1);
    struct words_top top = {.k = depth};
    top.hits = ARENA_NEW_ARRAY(&s->work, struct words_hit, depth);
    if (!parts || !top.hits)
        return RC_LIMIT;
    enum rc rc = words_query_parse(s->query->text, s->scratch->analyzer, &s->work, &words);
    for (size_t p = 0; rc == RC_OK && p < s->view->count; p++)
        rc = prepare_part(s, p, &words, &total, &parts[p]);
    if (rc == RC_OK)
        rc = words_plan_make(parts, s->view->count, &words, &total, &s->ranking, &s->work, &plan);
    for (size_t p = 0; rc == RC_OK && p < s->view->count; p++)
        if (s->allowed_count[p] > 0)
            rc = words_part_search(parts[p], (uint32_t)p, plan, s->allowed[p], &s->work,
                                   s->scratch->words, &top);
    if (rc != RC_OK)
        return rc;
    words_top_sort(&top);
    s->by_text = ARENA_NEW_ARRAY(&s->work, struct candidate, top.count + 1);
    if (!s->by_text)
        return RC_LIMIT;
    for (size_t i = 0; i < top.count; i++) {
        double score = words_plan_score(plan, top.hits[i].score);
        s->by_text[i] = (struct candidate){.part = top.hits[i].part,
                                           .row = top.hits[i].row,
                                           .score = score,
                                           .vector_score = NAN,
                                           .text_score = score};
    }
    s->by_text_count = top.count;
    return RC_OK;
}

/* ---- fusion ---- */

static int by_place(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* The score of each ranking: from the rank, or from the score between the list's ends. */
static void score_list(struct candidate *list, size_t count, enum index_fusion fusion,
                       double weight)
{
    double best = count ? list[0].score : 0, worst = count ? list[count - 1].score : 0;
    for (size_t i = 0; i < count; i++) {
        if (fusion == FUSION_RRF)
            list[i].score = 2 * weight / (RRF_RANK_BASE + 1 + (double)i);
        else
            list[i].score = weight * (best > worst ? (list[i].score - worst) / (best - worst) : 1);
    }
}

static enum rc fuse(struct search *s, struct candidate **out, size_t *count)
{
    enum index_fusion fusion = s->query->fusion;
    double weight = s->query->text_weight;
    if (!(weight >= 0))
        weight = fusion == FUSION_RRF ? TEXT_WEIGHT_DEFAULT : SCORE_WEIGHT_DEFAULT;
    weight = MIN(weight, 1.0);
    score_list(s->by_vector, s->by_vector_count, fusion, 1 - weight);
    score_list(s->by_text, s->by_text_count, fusion, weight);
    size_t n = s->by_vector_count + s->by_text_count, kept = 0;
    struct candidate *all = ARENA_NEW_ARRAY(&s->work, struct candidate, n + 1);
    if (!all)
        return RC_LIMIT;
    memcpy(all, s->by_vector, s->by_vector_count * sizeof(*all));
    memcpy(all + s->by_vector_count, s->by_text, s->by_text_count * sizeof(*all));
    qsort(all, n, sizeof(*all), by_place);
    for (size_t i = 0; i < n; i++) {
        struct candidate *last = kept ? &all[kept - 1] : NULL;
        if (!last || by_place(last, &all[i]) != 0) {
            all[kept++] = all[i];
            continue;
        }
        last->score += all[i].score;
        last->vector_score = isnan(last->vector_score) ? all[i].vector_score : last->vector_score;
        last->text_score = isnan(last->text_score) ? all[i].text_score : last->text_score;
    }
    qsort(all, kept, sizeof(*all), by_score);
    *out = all;
    *count = kept;
    return RC_OK;
}

/* ---- after ranking ---- */

static size_t cut_low(const struct candidate *list, size_t count, double score_min)
{
    while (count > 0 && !(list[count - 1].score >= score_min))
        count--;
    return count;
}

/* The grouping member's value as text that tells values apart; empty: the row is its own group. */
static enum rc group_value(struct search *s, const struct candidate *c, struct str *out)
{
    struct str name = s->query->group_by;
    yyjson_val *payload;
    enum rc rc = index_part_payload(s->view->parts[c->part].part, c->row, &s->work, &payload);
    yyjson_val *value = rc == RC_OK ? yyjson_obj_getn(payload, name.p, name.n) : NULL;
    *out = value && !yyjson_is_null(value) ? json_write(value, &s->work) : STR_EMPTY;
    return rc;
}

static enum rc group(struct search *s, struct candidate *list, size_t *count)
{
    struct map seen; /* value → how many + 1 */
    size_t kept = 0, size = MAX(s->query->group_size, (size_t)1);
    if (s->query->group_by.n == 0)
        return RC_OK;
    map_init(&seen);
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < *count; i++) {
        struct str value;
        rc = group_value(s, &list[i], &value);
        uintptr_t had = value.n ? (uintptr_t)map_get(&seen, value) : 0;
        if (had >= size)
            continue;
        if (value.n)
            map_put(&seen, value, (void *)(had + 1));
        list[kept++] = list[i];
    }
    map_fini(&seen);
    *count = kept;
    return rc;
}

/* The row's vector as stored; NULL: it has none, or it cannot be read. */
static const float *vector_of(struct search *s, const struct candidate *c)
{
    struct index_row row;
    enum rc rc = index_part_row(s->view->parts[c->part].part, c->row, &row);
    return rc == RC_OK ? row.vectors[s->query->vector_field] : NULL;
}

static double cosine(const float *a, const float *b, unsigned dimension)
{
    double ab = 0, aa = 0, bb = 0;
    for (unsigned d = 0; d < dimension; d++) {
        ab += (double)a[d] * b[d];
        aa += (double)a[d] * a[d];
        bb += (double)b[d] * b[d];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

/* Maximal marginal relevance (Carbonell and Goldstein 1998): each next hit is the one that is good
 * and unlike those before it. Scores count between the ends of the list. */
static enum rc spread(struct search *s, struct candidate *list, size_t count)
{
    double diversity = s->query->diversity;
    if (!(diversity > 0) || count < 3 || s->index->config.vector_count == 0)
        return RC_OK;
    unsigned dimension = s->index->config.vectors[s->query->vector_field].dimension;
    double best = list[0].score, range = list[0].score - list[count - 1].score;
    double *alike = ARENA_NEW_ARRAY(&s->work, double, count);
    if (!alike)
        return RC_LIMIT;
    for (size_t chosen = 1; chosen < MIN(count, s->query->k); chosen++) {
        const float *last = vector_of(s, &list[chosen - 1]);
        size_t next = chosen;
        double next_value = -INFINITY;
        for (size_t i = chosen; i < count; i++) {
            const float *vector = vector_of(s, &list[i]);
            if (last && vector)
                alike[i] = MAX(alike[i], cosine(last, vector, dimension));
            double good = range > 0 ? 1 - (best - list[i].score) / range : 1;
            double value = (1 - diversity) * good - diversity * alike[i];
            if (value > next_value) {
                next_value = value;
                next = i;
            }
        }
        struct candidate swap = list[chosen];
        double swap_alike = alike[chosen];
        list[chosen] = list[next];
        list[next] = swap;
        alike[next] = swap_alike;
    }
    return RC_OK;
}

static enum rc give(struct search *s, const struct candidate *list, size_t count,
                    struct arena *arena, struct index_hits *out)
{
    out->items = ARENA_NEW_ARRAY(arena, struct index_hit, count + 1);
    if (!out->items)
        return RC_LIMIT;
    for (size_t i = 0; i < count; i++) {
        struct index_hit *hit = &out->items[i];
        struct index_row row;
        enum rc rc = index_part_row(s->view->parts[list[i].part].part, list[i].row, &row);
        if (rc != RC_OK)
            return rc;
        hit->score = list[i].score;
        hit->vector_score = list[i].vector_score;
        hit->text_score = list[i].text_score;
        hit->id = arena_copy(arena, row.id);
        hit->payload = arena_copy(arena, row.payload);
        bool good = hit->id.p && hit->payload.p;
        for (size_t t = 0; t < s->index->config.text_count; t++) {
            hit->texts[t] = arena_copy(arena, row.texts[t]);
            good &= hit->texts[t].p != NULL;
        }
        if (!good)
            return RC_LIMIT;
    }
    out->count = count;
    return RC_OK;
}

/* ---- the whole ---- */

static enum rc check_query(struct search *s)
{
    const struct index_query *q = s->query;
    const struct index_config *config = &s->index->config;
    if (q->k == 0 || q->k > INDEX_K_MAX)
        return err_set_field(s->err, ERR_BAD_FIELD, "k", "must be 1 to %d", INDEX_K_MAX);
    if (q->vector && q->vector_field >= config->vector_count)
        return err_set_field(s->err, ERR_BAD_FIELD, "vector", "the index has no such vector");
    if (q->text.n && config->text_count == 0)
        return err_set_field(s->err, ERR_BAD_FIELD, "text", "the index holds no texts");
    if (!q->vector && !q->text.n)
        return err_set_field(s->err, ERR_BAD_FIELD, "query", "needs a vector or a text");
    if (q->recall < 0 || q->recall > 1 || isnan(q->recall))
        return err_set_field(s->err, ERR_BAD_FIELD, "recall", "must be 0 to 1");
    if (q->diversity < 0 || q->diversity > 1 || isnan(q->diversity))
        return err_set_field(s->err, ERR_BAD_FIELD, "diversity", "must be 0 to 1");
    if (!(q->k1 >= 0) || !(q->b >= 0 && q->b <= 1))
        return err_set_field(s->err, ERR_BAD_FIELD, "b", "k1 is 0 or more, b is 0 to 1");
    if (!q->vector)
        return RC_OK;
    const struct index_vector_field *field = &config->vectors[q->vector_field];
    double sum = 0;
    for (unsigned d = 0; d < field->dimension; d++)
        sum += (double)q->vector[d] * q->vector[d];
    if (!isfinite(sum) || (sum == 0 && field->metric == METRIC_COSINE))
        return err_set_field(s->err, ERR_BAD_FIELD, "vector",
                             sum == 0 ? "is zero, which has no direction"
                                      : "holds a number that is not finite");
    s->vector = ARENA_NEW_ARRAY(&s->work, float, field->dimension);
    if (!s->vector)
        return RC_LIMIT;
    float scale = field->metric == METRIC_COSINE ? (float)(1 / sqrt(sum)) : 1;
    for (unsigned d = 0; d < field->dimension; d++)
        s->vector[d] = q->vector[d] * scale;
    return RC_OK;
}

static enum rc match_parts(struct search *s)
{
    const struct index_query *q = s->query;
    struct index_matcher matcher = {
        .filter = q->filter, .tags = q->tags, .tag_count = q->tag_count, .all_tags = q->all_tags};
    s->allowed = ARENA_NEW_ARRAY(&s->work, uint64_t *, s->view->count + 1);
    s->allowed_count = ARENA_NEW_ARRAY(&s->work, size_t, s->view->count + 1);
    if (!s->allowed || !s->allowed_count)
        return RC_LIMIT;
    for (size_t p = 0; p < s->view->count; p++) {
        enum rc rc = index_match(&s->view->parts[p], &matcher, &s->work, &s->allowed[p],
                                 &s->allowed_count[p]);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

/* How many of each ranking are wanted, so that what is dropped later leaves k. */
static size_t depth_of(const struct index_query *q, size_t more)
{
    size_t depth = q->k;
    if ((q->vector && q->text.n) || q->diversity > 0)
        depth = MAX((size_t)DEPTH_MIN, q->k * (q->diversity > 0 ? DEPTH_SPREAD : 1));
    return MIN(depth * more, (size_t)INDEX_K_MAX);
}

static enum rc rank(struct search *s, size_t depth, struct candidate **list, size_t *count)
{
    const struct index_query *q = s->query;
    enum rc rc = RC_OK;
    if (q->vector)
        rc = search_vectors(s, depth);
    if (rc == RC_OK && q->text.n)
        rc = search_words(s, depth);
    if (rc == RC_OK && q->vector && q->text.n)
        return fuse(s, list, count);
    *list = q->vector ? s->by_vector : s->by_text;
    *count = q->vector ? s->by_vector_count : s->by_text_count;
    return rc;
}

static enum rc search_run(struct search *s, struct arena *arena, struct index_hits *out)
{
    struct candidate *list = NULL;
    size_t count = 0, depth = 0;
    enum rc rc = check_query(s);
    if (rc == RC_OK)
        rc = match_parts(s);
    /* Grouping drops hits: look deeper until there are enough or no more. */
    for (size_t more = 1; rc == RC_OK; more *= 4) {
        size_t found;
        depth = depth_of(s->query, more);
        rc = rank(s, depth, &list, &count);
        found = count;
        if (rc == RC_OK)
            rc = group(s, list, &count);
        if (rc != RC_OK || s->query->group_by.n == 0 || count >= s->query->k || found < depth ||
            depth == INDEX_K_MAX)
            break;
    }
    if (rc == RC_OK) {
        count = cut_low(list, count, s->query->score_min);
        rc = spread(s, list, count);
    }
    if (rc == RC_OK)
        rc = give(s, list, MIN(count, s->query->k), arena, out);
    if (rc == RC_LIMIT)
        return err_set(s->err, ERR_TOO_LARGE, "the query needs more memory than it may use");
    return rc;
}

static enum rc search_once(struct index *index, const struct index_query *query,
                           struct arena *arena, struct index_hits *out, struct err *err)
{
    struct search s = {.index = index, .query = query, .err = err};
    *out = (struct index_hits){0};
    arena_init(&s.work, WORK_BYTES_MAX);
    s.scratch = index_scratch_take(index);
    s.view = index_view_take(index);
    pthread_mutex_lock(&index->viewing);
    s.ranking = index->ranking;
    pthread_mutex_unlock(&index->viewing);
    s.ranking.k1 = query->k1 > 0 ? query->k1 : s.ranking.k1;
    s.ranking.b = query->b > 0 ? query->b : s.ranking.b;
    enum rc rc = search_run(&s, arena, out);
    index_view_release(s.view);
    index_scratch_give(index, s.scratch);
    arena_fini(&s.work);
    return rc;
}

enum rc index_search(struct index *index, const struct index_query *query, struct arena *arena,
                     struct index_hits *out, struct err *err)
{
    enum rc rc = search_once(index, query, arena, out, err);
    if (rc != RC_CORRUPT)
        return rc;
    /* Words can be made again from the rows; if it is the rows, the second try says so. */
    rc = index_repair(index, err);
    if (rc == RC_OK)
        rc = search_once(index, query, arena, out, err);
    if (rc == RC_CORRUPT)
        err_set(err, ERR_INTERNAL, "rows of the index are damaged on disk");
    return rc;
}
