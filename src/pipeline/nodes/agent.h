/* What the agent's files share: the state of an agent node between its steps. */
#pragma once
#include "pipeline/tools/tool_call.h"
#include "text/json_writer.h"

#define AGENT_FUNCTIONS_MAX    128
#define AGENT_CALLS_MAX        32    /* of one answer */
#define AGENT_RESULT_BYTES_MAX 20000 /* of a tool's result, as the model reads it */

enum agent_strategy { AGENT_FUNCTION_CALLING, AGENT_REACT };

/* A tool as the node names it. */
struct agent_tool {
    struct str name; /* of the project's tools; or of the inline one */
    struct tool *inline_tool;
    yyjson_val *only; /* names of functions, or NULL: all */
};

struct agent_config {
    yyjson_val *json;
    struct str model;
    struct plan_text instruction, query;
    enum agent_strategy strategy;
    struct agent_tool *tools;
    size_t tool_count;
    uint32_t steps_max;
    int64_t tokens_max, cost_pico_max; /* 0: none */
    int64_t window;                    /* exchanges of memory; 0: none */
    bool parallel;
    struct plan *inner; /* two levels: a question to the model, and a call of a tool */
};

/* A function that the model may call. */
struct agent_function {
    struct str shown; /* the name that the model knows; unique */
    struct str name, description, parameters;
    const struct tool *tool;
    const struct tool_function *function; /* NULL: the other side checks */
    bool safe;
};

struct agent_call {
    struct str id, name;
    yyjson_val *arguments;                 /* object; NULL: they are none */
    const struct agent_function *function; /* NULL: there is none of that name */
    struct value *result;                  /* NULL: failed, `error` tells */
    char error[ERR_MESSAGE_BYTES_MAX];
    struct str seen; /* what the model reads of it */
};

struct agent {
    struct step *step;
    struct arena arena;
    struct flow *flow;         /* of the inner frames */
    struct snapshot *snapshot; /* that tools by name lie in; NULL: none */
    struct agent_function *functions;
    size_t function_count, bound; /* bound: tools of the config that were asked for theirs */
    struct tool_listing *listing;
    struct buf messages; /* of the conversation so far, JSON objects parted by commas */
    struct buf steps;    /* the output of that name, in the same form */
    struct buf said;     /* the words of all steps */
    size_t said_before;  /* those of the earlier steps */
    uint32_t round;
    struct value *turn; /* the model's last answer: calls point into it */
    struct agent_call calls[AGENT_CALLS_MAX];
    uint32_t call_count, calls_open;
    int64_t input_tokens, output_tokens, cost_pico, model_calls, tool_calls;
};

/* ---- ReAct (agent_react.c): tools as plain text ---- */

/* How to answer, and with which tools: behind the instruction. */
void agent_react_describe(const struct agent *agent, struct json_writer *w);
/* Where the final answer begins in what the model wrote; -1: it does not, or not yet. */
ssize_t agent_react_final(struct str text);
/* The call that the text asks for; false: none. `input` is what stands behind "Action Input:". */
bool agent_react_action(struct str text, struct str *name, struct str *input);
