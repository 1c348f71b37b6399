/* The answer while it is being written: the answers of the top level, in the order in which it
 * becomes certain that they are reached, and within each its pieces in order. A piece goes out as
 * soon as its value is there; a model's text while the model writes it.
 *
 * Answers inside containers add their text when they run. */
#include "pipeline/engine/run_private.h"
#include "pipeline/engine/loop_private.h"
#include "text/json.h"
#include "text/json_writer.h"

static bool is_certain(const struct run *run, struct answer_state *state,
                       const struct plan_answer *answer)
{
    const struct plan_node *nodes = run->flow.plan->nodes;
    while (state->decider < answer->decider_count) {
        const struct plan_node *node = &nodes[answer->deciders[state->decider]];
        uint8_t at = frame_slot(run->flow.frame, node)->state;
        if (at != NODE_DONE && at != NODE_FAILED && at != NODE_SKIPPED)
            return false;
        state->decider++;
    }
    return true;
}

void answers_begin(struct run *run)
{
    size_t count = run->flow.plan->answer_count;
    if (count == 0)
        return;
    run->answers = xcalloc(count, sizeof(*run->answers));
    run->answer_queue = xcalloc(count, sizeof(*run->answer_queue));
}

void answers_emit(struct run *run, struct str text)
{
    if (text.n == 0 || buf_append(&run->flow.text, text) != RC_OK)
        return;
    if (run->events) {
        struct json_writer w;
        struct buf data;
        buf_init(&data, 2 * text.n * 6 + 256);
        w = json_writer_to(&data);
        json_begin_object(&w);
        json_put_int(&w, "at", (int64_t)(buf_len(&run->flow.text) - text.n));
        json_put_string(&w, "text", text);
        json_end_object(&w);
        run_tell(run, "text", &data);
        buf_fini(&data);
    }
    if (run->owner.text && run->owner.text(run->owner.arg, text) == STOP)
        LIST_FOR_EACH (step, &run->steps, struct step, node)
            step->paused = true;
}

static const struct step *find_step(const struct run *run, const struct plan_node *node)
{
    LIST_FOR_EACH (step, &run->steps, struct step, node)
        if (step->plan == node && step->frame == run->flow.frame)
            return step;
    return NULL;
}

/* A path in an answer. False: its value is not there yet. */
static bool emit_path(struct run *run, struct answer_state *state,
                      const struct text_segment *segment)
{
    struct frame *top = run->flow.frame;
    struct str text;
    if (segment->source.kind == SOURCE_NODE && segment->source.node != NO_NODE) {
        const struct plan_node *node = &run->flow.plan->nodes[segment->source.node];
        uint8_t at = frame_slot(top, node)->state;
        const struct step *step =
            node->feeds_answer && at == NODE_RUNNING ? find_step(run, node) : NULL;
        if (step && step->partial.n > state->sent) {
            answers_emit(run, str_slice(step->partial, state->sent, step->partial.n));
            state->sent = step->partial.n;
        }
        if (at != NODE_DONE && at != NODE_SKIPPED && !frame_slot(top, node)->handled)
            return false;
    } else if (segment->source.kind == SOURCE_CONVERSATION) {
        return false; /* it may change until the answer runs */
    }
    if (!plain_text(run_path(top, &segment->source, segment->path, &run->loop->scratch),
                    &run->loop->scratch, &text))
        return false; /* the engine writes it, when the answer runs */
    answers_emit(run, str_slice(text, MIN(state->sent, text.n), text.n));
    return true;
}

/* What has not gone out of an answer that has run: its text behind what was sent. */
static void emit_rest(struct run *run, const struct plan_node *node, size_t sent)
{
    yyjson_val *out = value_json(frame_slot(run->flow.frame, node)->out);
    struct str text = json_get_text(out, "text");
    answers_emit(run, str_slice(text, MIN(sent, text.n), text.n));
}

/* True: it is complete. */
static bool advance_one(struct run *run, struct answer_state *state, const struct plan_node *node)
{
    const struct plan_text *text = node->config;
    uint8_t at = frame_slot(run->flow.frame, node)->state;
    if (at == NODE_SKIPPED || at == NODE_FAILED)
        return true;
    if (at == NODE_DONE) {
        emit_rest(run, node, buf_len(&run->flow.text) - run->answer_begun);
        return true;
    }
    while (text->segments && state->segment < text->segment_count) {
        const struct text_segment *segment = &text->segments[state->segment];
        if (!segment->path)
            answers_emit(run, segment->literal);
        else if (!emit_path(run, state, segment))
            return false;
        state->segment++;
        state->sent = 0;
    }
    return false; /* its step will say that it is complete */
}

void answers_advance(struct run *run)
{
    const struct plan *plan = run->flow.plan;
    for (size_t i = 0; i < plan->answer_count; i++) {
        if (run->answers[i].queued || !is_certain(run, &run->answers[i], &plan->answers[i]))
            continue;
        run->answers[i].queued = true;
        run->answer_queue[run->answer_queued++] = (uint32_t)i;
    }
    while (run->answer_at < run->answer_queued) {
        size_t i = run->answer_queue[run->answer_at];
        if (!advance_one(run, &run->answers[i], &plan->nodes[plan->answers[i].node]))
            return;
        run->answer_at++;
        run->answer_begun = buf_len(&run->flow.text);
    }
}
