/* The table of operations. */
#include "pipeline/engine/operations.h"

const struct node_operations *node_operations(enum node_kind kind)
{
    static const struct node_operations *const table[NODE_KIND_COUNT] = {
        [NODE_START] = &start_operations,         [NODE_END] = &end_operations,
        [NODE_ANSWER] = &answer_operations,       [NODE_LLM] = &llm_operations,
        [NODE_PROMPT] = &prompt_operations,       [NODE_IF_ELSE] = &if_else_operations,
        [NODE_TEMPLATE] = &template_operations,   [NODE_AGGREGATOR] = &aggregator_operations,
        [NODE_ASSIGNER] = &assigner_operations,   [NODE_LIST] = &list_operations,
        [NODE_ITERATION] = &iteration_operations, [NODE_LOOP] = &loop_operations,
        [NODE_HTTP] = &http_operations,           [NODE_TOOL] = &tool_operations,
        [NODE_AGENT] = &agent_operations,         [NODE_CLASSIFIER] = &classifier_operations,
        [NODE_EXTRACTOR] = &extractor_operations, [NODE_RETRIEVAL] = &retrieval_operations,
        [NODE_DOCUMENT] = &document_operations,   [NODE_CODE] = &code_operations,
        [NODE_GUARD] = &guard_operations,         [NODE_JUDGE] = &judge_operations,
        [NODE_HUMAN] = &human_operations,         [NODE_WAIT] = &wait_operations,
        [NODE_PIPELINE] = &pipeline_operations,
    };
    return table[kind];
}
