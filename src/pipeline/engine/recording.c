/* See recording.h. */
#include "pipeline/engine/recording.h"
#include "pipeline/engine/open_run.h"
#include "pipeline/engine/operations.h"
#include "text/json.h"
#include <stdio.h>
#include <stdlib.h>

#define RECORDING_BYTES_MAX (64 * 1024 * 1024)
#define PATH_DEPTH_MAX      32

void recording_free(struct map *recording)
{
    if (recording)
        replay_free(recording);
}

/* ---- paths ---- */

/* One part of "each#3/inner": a node, and which of its frames. */
struct part {
    size_t node; /* NO_NODE: the plan has none of that name */
    struct str frame;
};

static size_t split_path(const struct plan *plan, struct str path, struct part parts[])
{
    size_t count = 0;
    while (path.n && count < PATH_DEPTH_MAX) {
        ssize_t slash = str_find_char(path, '/');
        struct str piece = str_slice(path, 0, slash < 0 ? path.n : (size_t)slash);
        ssize_t hash = str_find_char(piece, '#');
        parts[count++] = (struct part){
            plan_find_node(plan, str_slice(piece, 0, hash < 0 ? piece.n : (size_t)hash)),
            hash < 0 ? STR_EMPTY : str_slice(piece, (size_t)hash + 1, piece.n)};
        path = slash < 0 ? STR_EMPTY : str_slice(path, (size_t)slash + 1, path.n);
    }
    return count;
}

static void mark_behind(const struct plan *plan, size_t node, bool *behind)
{
    for (size_t i = 0; i < plan->nodes[node].edge_count; i++) {
        size_t to = plan->nodes[node].edges[i].to;
        if (behind[to])
            continue;
        behind[to] = true;
        mark_behind(plan, to, behind);
    }
}

struct from {
    struct part parts[PATH_DEPTH_MAX];
    size_t count; /* 0: nothing is done again but what was not done */
    bool *behind; /* of each part: its nodes by index */
};

static bool frame_is_later(struct str frame, struct str than)
{
    uint64_t a, b;
    return str_to_u64(frame, &a) == RC_OK && str_to_u64(than, &b) == RC_OK && a > b;
}

/* Is the step the one from which the run is done again, one that holds it, or behind one of them?
 */
static bool is_done_again(const struct plan *plan, const struct from *from, struct str path)
{
    struct part parts[PATH_DEPTH_MAX];
    size_t count = split_path(plan, path, parts);
    for (size_t i = 0; i < from->count && i < count; i++) {
        const struct part *of = &from->parts[i];
        if (parts[i].node == NO_NODE)
            return true;
        if (parts[i].node != of->node)
            return from->behind[i * plan->node_count + parts[i].node];
        if (i + 1 == from->count || i + 1 == count)
            return true;
        if (!str_eq(parts[i].frame, of->frame)) /* a loop's later rounds stand on this one */
            return plan->nodes[of->node].kind == NODE_LOOP &&
                   frame_is_later(parts[i].frame, of->frame);
    }
    return false;
}

/* ---- what stands ---- */

/* A container whose inside writes conversation variables runs again, on what is known inside. */
static bool writes_conversation(const struct plan *plan, size_t container)
{
    for (size_t i = 0; i < plan->node_count; i++) {
        size_t at = i, item, n;
        yyjson_val *assignment;
        if (plan->nodes[i].kind != NODE_ASSIGNER)
            continue;
        while (at != NO_NODE && at != container)
            at = plan->document->nodes[at].parent;
        if (at == NO_NODE)
            continue;
        yyjson_arr_foreach(yyjson_obj_get(plan->document->nodes[i].config, "assignments"), item, n,
                           assignment) if (str_starts(json_get_text(assignment, "variable"),
                                                      STR("conversation."))) return true;
    }
    return false;
}

/* Nodes that only compute are computed again: what they change besides their outputs (variables,
 * the run's outputs) is in no recording. */
static bool stands(const struct plan *plan, size_t node, bool replay)
{
    const struct node_operations *operations = plan->nodes[node].operations;
    if (!operations)
        return false;
    if (operations->recorded || plan->nodes[node].kind == NODE_PIPELINE)
        return true;
    return !replay && operations->frame_ended && !writes_conversation(plan, node);
}

static enum err_code error_code(struct str name)
{
    for (int i = 0; i < ERR_CODE_COUNT; i++)
        if (str_eq(name, str_from(err_code_name((enum err_code)i))))
            return (enum err_code)i;
    return ERR_INTERNAL;
}

static struct value *make_result(struct str path, bool failed, struct str port, yyjson_val *outputs)
{
    struct arena arena;
    struct maker maker;
    arena_init(&arena, RECORDING_BYTES_MAX);
    maker_init(&maker, &arena);
    maker_object(&maker);
    maker_key(&maker, STR("p"));
    maker_text(&maker, path);
    if (failed) {
        maker_key(&maker, STR("err"));
        maker_object(&maker);
        maker_key(&maker, STR("code"));
        maker_int(&maker, error_code(json_get_text(outputs, "error_code")));
        maker_key(&maker, STR("message"));
        maker_text(&maker, json_get_text(outputs, "error_message"));
        maker_end(&maker);
    } else {
        maker_key(&maker, STR("port"));
        maker_text(&maker, port);
        maker_key(&maker, STR("out"));
        maker_tree(&maker, outputs);
    }
    maker_end(&maker);
    struct value *value = maker_pack(&maker);
    arena_fini(&arena);
    return value;
}

static void put_result(struct map *recording, struct value *value)
{
    if (value)
        value_unref(map_put(recording, json_get_text(value_json(value), "p"), value));
}

static void add_item(struct map *recording, const struct plan *plan, const struct from *from,
                     bool replay, yyjson_val *item)
{
    struct part parts[PATH_DEPTH_MAX];
    struct str path = json_get_text(item, "path"), status = json_get_text(item, "status");
    size_t count = split_path(plan, path, parts);
    bool done = str_eq(status, STR("done")),
         failed =
             str_eq(status, STR("failed")) && (replay || json_get_bool(item, "handled", false));
    if (!count || parts[count - 1].node == NO_NODE || (!done && !failed) ||
        !stands(plan, parts[count - 1].node, replay) || is_done_again(plan, from, path))
        return;
    yyjson_val *port = yyjson_obj_get(item, "port");
    put_result(recording, make_result(path, failed, port ? json_text(port) : STR("out"),
                                      yyjson_obj_get(item, "outputs")));
}

/* The start's are the new run's inputs: the caller has put them there. */
static enum rc add_values(struct map *recording, const struct plan *plan, yyjson_val *values,
                          struct err *err)
{
    size_t i, n;
    yyjson_val *key, *outputs;
    char field[100];
    yyjson_obj_foreach(values, i, n, key, outputs)
    {
        struct str id = json_text(key);
        size_t node = plan_find_node(plan, id);
        snprintf(field, sizeof(field), "values.%.*s", STR_ARG(id));
        if (node == NO_NODE || !plan->nodes[node].operations || plan->nodes[node].level != 0)
            return err_set_field(err, ERR_BAD_FIELD, field,
                                 "the pipeline has no node '%.*s' at its top", STR_ARG(id));
        if (!yyjson_is_obj(outputs))
            return err_set_field(err, ERR_BAD_FIELD, field, "a node's outputs are an object");
        if (plan->nodes[node].kind == NODE_START)
            continue;
        yyjson_val *known = value_json(map_get(recording, id)); /* it goes the way that it went */
        struct str port = yyjson_obj_get(known, "port") ? json_get_text(known, "port") : STR("out");
        struct value *value = make_result(id, false, port, outputs);
        put_result(recording, value);
    }
    return RC_OK;
}

static enum rc read_from(const struct plan *plan, struct str path, struct from *from,
                         struct err *err)
{
    from->count = split_path(plan, path, from->parts);
    from->behind = xcalloc(from->count * plan->node_count + 1, sizeof(bool));
    for (size_t i = 0; i < from->count; i++) {
        if (from->parts[i].node == NO_NODE || !plan->nodes[from->parts[i].node].operations)
            return err_set_field(err, ERR_BAD_FIELD, "from", "the pipeline has no node at '%.*s'",
                                 STR_ARG(path));
        mark_behind(plan, from->parts[i].node, from->behind + i * plan->node_count);
    }
    return RC_OK;
}

enum rc recording_read(const struct plan *plan, yyjson_val *run,
                       const struct recording_options *options, struct map **out, struct err *err)
{
    struct map *recording = xcalloc(1, sizeof(*recording));
    struct from from = {.count = 0};
    size_t i, n;
    yyjson_val *item;
    map_init(recording);
    enum rc rc = read_from(plan, options->from, &from, err);
    yyjson_arr_foreach(yyjson_obj_get(run, "nodes"), i, n, item)
    {
        if (rc == RC_OK)
            add_item(recording, plan, &from, options->replay, item);
    }
    if (rc == RC_OK)
        rc = add_values(recording, plan, options->values, err);
    free(from.behind);
    if (rc != RC_OK)
        recording_free(recording);
    else
        *out = recording;
    return rc;
}
