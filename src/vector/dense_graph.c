/* Building the graph: a Vamana graph in one pass. Each vector is searched for in the graph so far;
 * of what the walk meets, the neighbours kept are those that no kept one is clearly nearer to
 * (distances times ALPHA), so that links point in many directions and some of them far. Links are
 * made in both directions; a node with too many is pruned the same way.
 *
 * All distances here are those of the codes: the guide's in the walk, the 8-bit codes' for what is
 * kept. The exact vectors are read once, when they come. */
#include "vector/dense_private.h"
#include <stdlib.h>
#include <string.h>

#define ALPHA           1.2F
#define LINKS_IN_MIN    12 /* links to a node that are not given up for others */
#define DEGREE_MIN      40
#define BUILD_BEAM      160
#define DEGREE          60 /* links wanted of a node */
#define DEGREE_BUILDING 76 /* links at which it is pruned back */
#define ENTRIES         64
#define CANDIDATES_MAX  256

struct graph_builder {
    struct codes graph, finished;
    uint32_t count_max;
    unsigned degree; /* in the finished graph */
    struct dense_scratch *scratch;
    uint16_t *links_in; /* of each node, so that none loses its last ways in */
    /* of a pruning */
    float norm2[CANDIDATES_MAX], fine[CANDIDATES_MAX];
    bool dead[CANDIDATES_MAX];
    uint32_t kept[CANDIDATES_MAX], rows[CANDIDATES_MAX], places[CANDIDATES_MAX];
    int32_t sums[CANDIDATES_MAX];
};

struct graph_builder *graph_builder_new(const struct codec *codec, uint32_t count)
{
    struct graph_builder *builder = xcalloc(1, sizeof(*builder));
    size_t building = codes_stride(codec, DEGREE_BUILDING), stride = codes_stride(codec, DEGREE);
    builder->count_max = count;
    builder->degree = DEGREE;
    codes_shape(&builder->graph, codec, DEGREE_BUILDING, building);
    codes_shape(&builder->finished, codec, DEGREE, stride);
    builder->graph.records = pages_new(count * building);
    builder->graph.fine = pages_new((size_t)count * codec->padded);
    builder->links_in = xcalloc(MAX(count, 1), sizeof(builder->links_in[0]));
    builder->scratch = dense_scratch_new();
    scratch_query(builder->scratch, codec->padded);
    return builder;
}

void graph_builder_free(struct graph_builder *builder)
{
    if (!builder)
        return;
    size_t fine_bytes = (size_t)builder->count_max * builder->graph.codec->padded;
    pages_free(builder->graph.records, builder->count_max * builder->graph.stride);
    pages_free(builder->graph.fine, fine_bytes);
    pages_free(builder->finished.records, builder->count_max * builder->finished.stride);
    pages_free(builder->finished.fine, fine_bytes);
    free(builder->links_in);
    dense_scratch_free(builder->scratch);
    free(builder);
}

static const int8_t *fine_of(const struct graph_builder *builder, uint32_t node)
{
    return builder->graph.fine + (size_t)node * builder->graph.codec->padded;
}

/* Marks the candidates after `at` that are nearer to it than to the node they are for. */
static void prune_shadowed(struct graph_builder *builder, const struct found *candidates,
                           size_t count, size_t at)
{
    const struct codec *codec = builder->graph.codec;
    uint32_t *rows = builder->rows, *places = builder->places;
    size_t alive = 0;
    for (size_t i = at + 1; i < count; i++)
        if (!builder->dead[i]) {
            rows[alive] = candidates[i].node;
            places[alive++] = (uint32_t)i;
        }
    codec->kernels->dot_i8_rows(fine_of(builder, candidates[at].node),
                                (const uint8_t *)builder->graph.fine, codec->padded, rows, alive,
                                codec->padded, builder->sums);
    for (size_t i = 0; i < alive; i++) {
        size_t other = places[i];
        float distance = builder->norm2[at] + builder->norm2[other] -
                         builder->fine[at] * builder->fine[other] * 0.5F * (float)builder->sums[i];
        builder->dead[other] = ALPHA * distance <= candidates[other].distance;
    }
}

/* Of candidates in the order of their distance, the links of `node`. */
static void prune(struct graph_builder *builder, uint32_t node, const struct found *candidates,
                  size_t count, size_t degree)
{
    size_t kept = 0;
    struct record *owner = codes_record(&builder->graph, node);
    count = MIN(count, CANDIDATES_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct record *record = codes_record(&builder->graph, candidates[i].node);
        builder->norm2[i] = record->norm2;
        builder->fine[i] = record->fine;
        builder->dead[i] = candidates[i].node == node;
    }
    for (size_t i = 0; i < count && kept < degree; i++) {
        if (builder->dead[i])
            continue;
        builder->kept[kept++] = candidates[i].node;
        builder->dead[i] = false;
        if (kept < degree)
            prune_shadowed(builder, candidates, count, i);
    }
    for (size_t i = 0; i < count && kept < degree; i++)
        if (builder->dead[i] && candidates[i].node != node &&
            (kept < DEGREE_MIN ||
             (owner->degree > 0 && builder->links_in[candidates[i].node] <= LINKS_IN_MIN)))
            builder->kept[kept++] = candidates[i].node;
    for (size_t i = 0; i < owner->degree; i++)
        builder->links_in[codes_links(&builder->graph, node)[i]]--;
    for (size_t i = 0; i < kept; i++)
        builder->links_in[builder->kept[i]]++;
    memcpy(codes_links(&builder->graph, node), builder->kept, kept * sizeof(builder->kept[0]));
    owner->degree = (uint16_t)kept;
}

/* The links of a node and one more, in the order of their distance to it. */
static void prune_again(struct graph_builder *builder, uint32_t node, uint32_t more)
{
    const struct codec *codec = builder->graph.codec;
    const struct record *record = codes_record(&builder->graph, node);
    uint32_t nodes[DEGREE_BUILDING + 1];
    int32_t sums[DEGREE_BUILDING + 1];
    struct found candidates[DEGREE_BUILDING + 1], spare[DEGREE_BUILDING + 1];
    size_t count = record->degree;
    memcpy(nodes, codes_links(&builder->graph, node), count * sizeof(nodes[0]));
    if (more != NODE_NONE)
        nodes[count++] = more;
    codec->kernels->dot_i8_rows(fine_of(builder, node), (const uint8_t *)builder->graph.fine,
                                codec->padded, nodes, count, codec->padded, sums);
    for (size_t i = 0; i < count; i++) {
        const struct record *other = codes_record(&builder->graph, nodes[i]);
        candidates[i] = (struct found){record->norm2 + other->norm2 -
                                           record->fine * other->fine * 0.5F * (float)sums[i],
                                       nodes[i]};
    }
    found_sort(candidates, count, spare);
    prune(builder, node, candidates, count, builder->degree);
}

static void link_back(struct graph_builder *builder, uint32_t from, uint32_t to)
{
    struct record *record = codes_record(&builder->graph, from);
    if (record->degree < builder->graph.degree_max) {
        codes_links(&builder->graph, from)[record->degree++] = to;
        builder->links_in[to]++;
    } else {
        prune_again(builder, from, to);
    }
}

void graph_builder_add(struct graph_builder *builder, const float *vector, uint32_t slot)
{
    struct codes *graph = &builder->graph;
    struct query_codes *query = &builder->scratch->query;
    uint32_t node = graph->count;
    ASSERT(node < builder->count_max);
    struct record *record = codes_record(graph, node);
    codec_rotate(graph->codec, vector, true, query->rotated);
    codec_encode(graph->codec, query->rotated, record, (uint8_t *)(record + 1),
                 (int8_t *)fine_of(builder, node));
    record->slot = slot;
    if (node > 0) {
        query_codes_prepare(query, graph->codec);
        const struct walk_limits limits = {
            .k = BUILD_BEAM, .beam = BUILD_BEAM, .keep = BUILD_BEAM, .estimates_max = UINT64_MAX};
        walk(graph, builder->scratch, &limits, NODE_NONE);
        refine(graph, builder->scratch, BUILD_BEAM);
        prune(builder, node, builder->scratch->pool, builder->scratch->pool_count, builder->degree);
    }
    graph->count++;
    graph->entries = MIN(graph->count, ENTRIES);
    uint32_t links[DEGREE_BUILDING];
    size_t degree = record->degree;
    memcpy(links, codes_links(graph, node), degree * sizeof(links[0]));
    for (size_t i = 0; i < degree; i++)
        link_back(builder, links[i], node);
}

/* ---- finishing ---- */

/* Makes a node reachable: one of its neighbours gives it its last link. */
static void make_reachable(struct graph_builder *builder, uint32_t node)
{
    struct record *record = codes_record(&builder->graph, node);
    uint32_t from = record->degree > 0 ? codes_links(&builder->graph, node)[0] : 0;
    struct record *giver = codes_record(&builder->graph, from);
    if (giver->degree < builder->degree)
        giver->degree++;
    codes_links(&builder->graph, from)[giver->degree - 1] = node;
}

/* New numbers in breadth-first order, so that what a walk meets together lies together. */
static void number_breadth_first(struct graph_builder *builder, uint32_t *order, uint32_t *number)
{
    const struct codes *graph = &builder->graph;
    uint32_t numbered = 0, expanded = 0, unseen = 0;
    memset(number, 0xff, graph->count * sizeof(number[0]));
    for (uint32_t node = 0; node < graph->entries; node++) {
        number[node] = numbered;
        order[numbered++] = node;
    }
    while (numbered < graph->count) {
        for (; expanded < numbered; expanded++) {
            const uint32_t *links = codes_links(graph, order[expanded]);
            size_t degree = codes_record(graph, order[expanded])->degree;
            for (size_t i = 0; i < degree; i++)
                if (number[links[i]] == NODE_NONE) {
                    number[links[i]] = numbered;
                    order[numbered++] = links[i];
                }
        }
        while (unseen < graph->count && number[unseen] != NODE_NONE)
            unseen++;
        if (unseen < graph->count) {
            make_reachable(builder, unseen);
            number[unseen] = numbered;
            order[numbered++] = unseen;
        }
    }
}

const struct codes *graph_builder_finish(struct graph_builder *builder)
{
    struct codes *from = &builder->graph, *to = &builder->finished;
    size_t padded = from->codec->padded;
    uint32_t *order = xmalloc(2 * MAX(from->count, 1) * sizeof(order[0])),
             *number = order + from->count;
    for (uint32_t node = 0; node < from->count; node++)
        if (codes_record(from, node)->degree > builder->degree)
            prune_again(builder, node, NODE_NONE);
    number_breadth_first(builder, order, number);
    to->records = pages_new(builder->count_max * to->stride);
    to->fine = pages_new(builder->count_max * padded);
    to->count = from->count;
    to->entries = from->entries;
    for (uint32_t node = 0; node < from->count; node++) {
        const struct record *record = codes_record(from, order[node]);
        memcpy(codes_record(to, node), record, to->links_at);
        memcpy(to->fine + node * padded, fine_of(builder, order[node]), padded);
        for (size_t i = 0; i < record->degree; i++)
            codes_links(to, node)[i] = number[codes_links(from, order[node])[i]];
    }
    free(order);
    return to;
}
