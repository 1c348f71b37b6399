/* What is told of a run: live, as events with sequence numbers (job/event.h), and whole, as JSON.
 */
#include "base/clock.h"
#include "job/event.h"
#include "pipeline/engine/run_index.h"
#include "pipeline/engine/loop_private.h"
#include "text/json_writer.h"
#include <stdio.h>

#define EVENT_BYTES_MAX (64 * 1024)

/* An event's data is "NAME\nJSON": its reader takes it apart. */
void run_tell(struct run *run, const char *name, struct buf *data)
{
    struct buf text;
    if (!run->events)
        return;
    buf_init(&text, buf_len(data) + 64);
    if (buf_printf(&text, "%s\n", name) == RC_OK && buf_append(&text, buf_str(data)) == RC_OK)
        event_publish(run->events, run->principal.project, EVENT_RUN, buf_str(&text));
    buf_fini(&text);
}

static void put_error(struct json_writer *w, const struct err *err, struct str node)
{
    json_key(w, "error");
    if (!err) {
        json_null(w);
        return;
    }
    json_begin_object(w);
    json_put_text(w, "code", err_code_name(err->code));
    json_put_text(w, "message", err->message);
    if (err->field[0])
        json_put_text(w, "field", err->field);
    if (node.n)
        json_put_string(w, "node", node);
    json_end_object(w);
}

static void put_time(struct json_writer *w, const char *name, int64_t wall_ns)
{
    char iso[CLOCK_ISO_BYTES_MAX];
    if (wall_ns)
        json_put_string(w, name, str_make(iso, clock_format_iso(wall_ns, 3, iso)));
    else
        json_put_null(w, name);
}

static void put_dollars(struct json_writer *w, const char *name, int64_t pico)
{
    char text[48];
    snprintf(text, sizeof(text), "%lld.%012lld", (long long)(pico / PICO_PER_DOLLAR),
             (long long)(pico % PICO_PER_DOLLAR));
    json_put_text(w, name, text);
}

/* A span's id follows from the run's and the step's path (empty: the run itself), so that it need
 * not be kept: the same before and after a crash. */
static void span_id(struct id run, struct str path, uint8_t out[8])
{
    char text[16 + 1024];
    memcpy(text, run.bytes, 16);
    size_t n = MIN(path.n, sizeof(text) - 16);
    memcpy(text + 16, path.p, n);
    uint64_t hash = hash_xxh3(text, 16 + n) | 1; /* never zero */
    memcpy(out, &hash, 8);
}

struct trace_context step_trace(const struct step *step)
{
    struct trace_context trace = step->run->trace;
    struct buf path;
    buf_init(&path, 8192);
    step_path(step->frame, step->plan, &path);
    span_id(step->run->id, buf_str(&path), trace.parent_id);
    buf_fini(&path);
    return trace;
}

static void put_span(struct json_writer *w, const struct run *run, struct str path)
{
    uint8_t span[8];
    char hex[17];
    span_id(run->id, path, span);
    hex_encode(span, 8, hex);
    json_put_text(w, "span_id", hex);
}

static const char *const state_names[] = {
    [NODE_IDLE] = "idle", [NODE_READY] = "ready",   [NODE_RUNNING] = "running",
    [NODE_DONE] = "done", [NODE_FAILED] = "failed", [NODE_SKIPPED] = "skipped",
};

/* Thousandths of a millisecond, without a double's detour. */
static void put_ms(struct json_writer *w, const char *name, int64_t us)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%lld.%03d", (long long)(us / 1000), (int)(us % 1000));
    json_key(w, name);
    json_raw(w, str_make(text, (size_t)n));
}

/* The members of a node's state, into an open object. */
static void put_slot(struct json_writer *w, const struct plan_node *node,
                     const struct node_slot *slot, struct value *out)
{
    json_put_text(w, "status", state_names[slot->state]);
    if (slot->state == NODE_IDLE || slot->state == NODE_SKIPPED)
        return;
    json_put_int(w, "started_ms", slot->started_ms);
    if (slot->duration_us >= 0)
        put_ms(w, "duration_ms", slot->duration_us);
    if (slot->attempts > 1)
        json_put_int(w, "attempts", slot->attempts);
    if (slot->handled)
        json_put_bool(w, "handled", true);
    if (slot->port != SLOT_PORT_OUT)
        json_put_string(w, "port",
                        slot->port == SLOT_PORT_NONE ? STR("") : node->edges[slot->port - 1].port);
    if (out)
        json_put_value(w, "outputs", value_json(out));
}

void run_tell_node(struct step *step, const char *name)
{
    struct run *run = step->run;
    struct buf data, path;
    if (!run->events)
        return;
    const struct node_slot *slot = frame_slot(step->frame, step->plan);
    buf_init(&data, EVENT_BYTES_MAX);
    buf_init(&path, 8192);
    step_path(step->frame, step->plan, &path);
    for (bool whole = true;; whole = false) { /* large outputs are shown when it has ended */
        struct json_writer w = json_writer_to(&data);
        json_begin_object(&w);
        json_put_string(&w, "node", step->plan->id);
        json_put_string(&w, "path", buf_str(&path));
        put_slot(&w, step->plan, slot, whole ? slot->out : NULL);
        json_end_object(&w);
        if (w.rc == RC_OK || !whole)
            break;
        buf_clear(&data);
    }
    run_tell(run, name, &data);
    buf_fini(&data);
    buf_fini(&path);
}

/* ---- the whole ---- */

static void put_frame(struct json_writer *w, const struct run *run, const struct frame *frame,
                      const char *prefix)
{
    const struct plan *plan = frame->flow->plan;
    for (size_t i = 0; i < frame->level->node_count; i++) {
        const struct plan_node *node = &plan->nodes[frame->level->nodes[i]];
        const struct node_slot *slot = &frame->slots[i];
        char path[1024];
        if (slot->state == NODE_IDLE && frame->path)
            continue;
        snprintf(path, sizeof(path), "%s%.*s", prefix, STR_ARG(node->id));
        json_begin_object(w);
        json_put_text(w, "path", path);
        put_span(w, run, str_from(path));
        json_put_string(w, "node", node->id);
        json_put_text(w, "type", node->document->type->name.p);
        put_slot(w, node, slot, slot->out);
        json_end_object(w);
    }
}

static void put_nodes(struct json_writer *w, const struct run *run)
{
    json_key(w, "nodes");
    json_begin_array(w);
    LIST_FOR_EACH (frame, &run->frames, struct frame, node) {
        struct buf path;
        char prefix[1024] = "";
        if (frame->ended && frame->parent) { /* its owner's step may be gone */
            if (frame->path)
                put_frame(w, run, frame, frame->path);
            continue;
        }
        if (frame->owner) {
            buf_init(&path, sizeof(prefix));
            step_path(frame->parent, frame->owner->plan, &path);
            snprintf(prefix, sizeof(prefix), "%.*s#%u/", STR_ARG(buf_str(&path)), frame->index);
            buf_fini(&path);
        }
        put_frame(w, run, frame, prefix);
    }
    LIST_FOR_EACH (frame, &run->kept, struct frame, node)
        put_frame(w, run, frame, frame->path);
    json_end_array(w);
}

static void put_run(struct json_writer *w, const struct run *run, bool nodes)
{
    char id[ID_TEXT_BYTES_MAX], trace[33], hash[SHA256_HEX_BYTES];
    size_t n = id_format(run->id, "run", id);
    int64_t ran_ns =
        (run->ended_ns ? run->ended_ns : loop_now_ns(run->loop->loop)) - run->started_ns;
    hex_encode(run->trace.trace_id, 16, trace);
    hex_encode(run->flow.plan->hash, SHA256_BYTES, hash);
    json_begin_object(w);
    json_put_string(w, "id", str_make(id, n));
    json_put_string(w, "pipeline", run->pipeline);
    if (run->version)
        json_put_int(w, "version", run->version);
    else
        json_put_null(w, "version");
    if (!id_is_zero(run->origin))
        json_put_string(w, "origin", str_make(id, id_format(run->origin, "run", id)));
    json_put_text(w, "status", run_status_name(run->status));
    json_put_text(w, "trigger", run->trigger);
    json_put_string(w, "user", run->user);
    json_put_string(w, "session", run->session);
    put_time(w, "started_at", run->started_wall_ns);
    put_time(w, "ended_at", run->ended_ns ? loop_wall_ns(run->loop->loop) : 0);
    put_ms(w, "duration_ms", ran_ns / NS_PER_US);
    json_put_string(w, "text", run_text(run));
    json_key(w, "outputs");
    if (run->flow.outputs)
        json_value(w, value_json(run->flow.outputs));
    else
        json_raw(w, STR("{}"));
    if (run->flow.citations)
        json_put_value(w, "citations", value_json(run->flow.citations));
    put_error(w, run->err, str_from(run->failed_node));
    json_key(w, "usage");
    json_begin_object(w);
    json_put_uint(w, "input_tokens", run->input_tokens);
    json_put_uint(w, "output_tokens", run->output_tokens);
    put_dollars(w, "cost_usd", run->spent_pico);
    json_put_uint(w, "steps", run->steps_taken);
    json_end_object(w);
    json_put_text(w, "trace_id", trace);
    put_span(w, run, STR(""));
    json_put_text(w, "definition_hash", hash);
    if (nodes) {
        json_put_value(w, "inputs", value_json(run->start));
        json_put_string(w, "session", run->session);
        json_put_string(w, "user", run->user);
        json_put_value(w, "query", yyjson_obj_get(value_json(run->flow.sys), "query"));
        json_put_value(w, "messages", yyjson_obj_get(value_json(run->flow.sys), "messages"));
        put_nodes(w, run);
    }
    json_end_object(w);
}

void run_encode(const struct run *run, struct buf *out)
{
    size_t before = buf_len(out);
    struct json_writer w = json_writer_to(out);
    put_run(&w, run, true);
    if (w.rc == RC_OK)
        return;
    out->end -= buf_len(out) - before; /* larger than may be kept: without the nodes */
    w = json_writer_to(out);
    put_run(&w, run, false);
}

void run_encode_result(const struct run *run, struct buf *out)
{
    struct json_writer w = json_writer_to(out);
    put_run(&w, run, false);
}

static void tell_run(struct run *run, const char *name)
{
    struct buf data;
    if (!run->events)
        return;
    buf_init(&data, 2 * RUN_TEXT_BYTES_MAX);
    run_encode_result(run, &data);
    run_tell(run, name, &data);
    buf_fini(&data);
}

/* For lists that are watched: what a run is, in a few words. */
static void tell_all(struct run *run)
{
    struct event_bus *bus = run->loop->all->options.events;
    char text[512], id[ID_TEXT_BYTES_MAX];
    if (!bus || !event_wanted(bus, EVENT_RUN))
        return;
    id_format(run->id, "run", id);
    int n = snprintf(text, sizeof(text), "{\"id\":\"%s\",\"pipeline\":\"%.*s\",\"status\":\"%s\"}",
                     id, STR_ARG(run->pipeline), run_status_name(run->status));
    event_publish(bus, run->principal.project, EVENT_RUN,
                  str_make(text, MIN((size_t)n, sizeof(text) - 1)));
}

void run_tell_start(struct run *run)
{
    tell_run(run, "run_started");
    tell_all(run);
}

void run_tell_end(struct run *run)
{
    tell_run(run, "run_finished");
    tell_all(run);
}

struct event_bus *run_watch(struct run *run)
{
    if (!run->events)
        run->events = event_bus_new_small(EVENT_WINDOW_EVENTS, EVENT_WINDOW_BYTES);
    return run->events;
}

void run_events_close(struct run *run)
{
    if (run->events)
        event_bus_unref(run->events);
    run->events = NULL;
}
