/* ReAct: an agent for models that know no tools. The model is told to write Thought, Action and
 * Action Input, and gets an Observation (Yao et al., 2022, arXiv 2210.03629). What it writes is
 * somebody else's text: read line by line, never further than it goes. */
#include "pipeline/nodes/agent.h"

void agent_react_describe(const struct agent *agent, struct json_writer *w)
{
    json_append_escaped(w, STR("You can use these tools:\n"));
    for (size_t i = 0; i < agent->function_count; i++) {
        const struct agent_function *function = &agent->functions[i];
        json_append_escaped(w, STR("- "));
        json_append_escaped(w, function->shown);
        json_append_escaped(w, STR(": "));
        json_append_escaped(w, function->description);
        json_append_escaped(w, STR(" Input: JSON of the schema "));
        json_append_escaped(w, function->parameters);
        json_append_escaped(w, STR("\n"));
    }
    json_append_escaped(
        w, STR("\nAnswer in this form:\n"
               "Thought: what you think about what to do next\n"
               "Action: the name of one tool\n"
               "Action Input: its input as one JSON object\n"
               "Then stop: you get a line that begins with \"Observation:\". Repeat this as often "
               "as you need. When you know the answer, write instead:\n"
               "Thought: I know the answer\n"
               "Final Answer: the answer to the question"));
}

/* Where the line begins that starts with `mark`; -1: there is none. */
static ssize_t find_line(struct str text, struct str mark)
{
    for (size_t at = 0; at < text.n;) {
        struct str rest = str_slice(text, at, text.n);
        size_t blank = 0;
        while (blank < rest.n && (rest.p[blank] == ' ' || rest.p[blank] == '*'))
            blank++; /* models like to print these words in bold */
        if (str_starts(str_slice(rest, blank, rest.n), mark))
            return (ssize_t)(at + blank);
        ssize_t end = str_find_char(rest, '\n');
        if (end < 0)
            return -1;
        at += (size_t)end + 1;
    }
    return -1;
}

/* What stands behind the mark. */
static struct str behind(struct str text, ssize_t at, struct str mark)
{
    struct str rest = str_slice(text, (size_t)at + mark.n, text.n);
    while (rest.n && (rest.p[0] == ' ' || rest.p[0] == '*'))
        rest = str_slice(rest, 1, rest.n);
    return rest;
}

ssize_t agent_react_final(struct str text)
{
    ssize_t at = find_line(text, STR("Final Answer:"));
    return at < 0 ? -1 : behind(text, at, STR("Final Answer:")).p - text.p;
}

bool agent_react_action(struct str text, struct str *name, struct str *input)
{
    ssize_t at = find_line(text, STR("Action:"));
    if (at < 0)
        return false;
    struct str rest = behind(text, at, STR("Action:"));
    ssize_t end = str_find_char(rest, '\n');
    *name = str_trim(str_slice(rest, 0, end < 0 ? rest.n : (size_t)end));
    rest = str_slice(rest, end < 0 ? rest.n : (size_t)end + 1, rest.n);
    at = find_line(rest, STR("Action Input:"));
    *input = at < 0 ? STR_EMPTY : behind(rest, at, STR("Action Input:"));
    ssize_t more = find_line(*input, STR("Observation:")); /* it went on by itself */
    if (more >= 0)
        *input = str_slice(*input, 0, (size_t)more);
    *input = str_trim(*input);
    return name->n > 0;
}
