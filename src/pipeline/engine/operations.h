/* What each type of node does: one row of functions per type. `run` works on a step, which is one
 * execution of a node in a frame; it ends the step by step_done or step_failed, at once or later.
 */
#pragma once
#include "pipeline/definition/plan.h"

struct step;
struct frame;

struct node_operations {
    /* Fills node->config from its document; may be NULL. */
    enum rc (*compile)(struct plan_build *build, struct err *err);
    void (*run)(struct step *step);
    /* Nothing is wanted of it any more: frees what step->work holds. NULL: it never waits. */
    void (*cancel)(struct step *step);
    /* What streams and was told to stop goes on; may be NULL. */
    void (*resume)(struct step *step);
    /* Containers: a frame that the step began has ended; err NULL: well. The frame is freed or kept
     * afterwards by the engine. */
    void (*frame_ended)(struct step *step, struct frame *frame, const struct err *err);
    bool recorded; /* not a function of its inputs: its result goes to the journal */
};

const struct node_operations *node_operations(enum node_kind kind); /* NULL: passive */

/* For the check at save: what of a guard's config a schema cannot say. err->field: where. */
enum rc guard_check_config(yyjson_val *config, struct arena *arena, struct err *err) MUST_CHECK;

extern const struct node_operations start_operations, end_operations, answer_operations,
    if_else_operations, template_operations, aggregator_operations, assigner_operations,
    list_operations, iteration_operations, loop_operations, llm_operations, classifier_operations,
    extractor_operations, retrieval_operations, document_operations, code_operations,
    prompt_operations, guard_operations, judge_operations, http_operations, human_operations,
    wait_operations, pipeline_operations, tool_operations, agent_operations;
