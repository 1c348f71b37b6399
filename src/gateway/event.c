/* The event model's lists, and what a sequence of events adds up to. */
#include "gateway/event.h"
#include "base/limits.h"

struct message *event_add_message(struct event_request *request, struct arena *arena,
                                  enum event_role role)
{
    struct message *message = ARENA_NEW(arena, struct message);
    if (!message)
        return NULL;
    struct message **at = request->last_message ? &request->last_message->next : &request->messages;
    *at = request->last_message = message;
    message->role = role;
    return message;
}

struct message *event_assistant(struct event_request *request, struct arena *arena)
{
    struct message *last = request->last_message;
    return last && last->role == ROLE_ASSISTANT ? last
                                                : event_add_message(request, arena, ROLE_ASSISTANT);
}

struct part *event_add_part(struct part **list, struct arena *arena, enum part_kind kind)
{
    struct part *part = ARENA_NEW(arena, struct part);
    if (!part)
        return NULL;
    while (*list)
        list = &(*list)->next;
    *list = part;
    part->kind = kind;
    return part;
}

struct tool *event_add_tool(struct event_request *request, struct arena *arena)
{
    struct tool *tool = ARENA_NEW(arena, struct tool);
    if (!tool)
        return NULL;
    struct tool **at = request->last_tool ? &request->last_tool->next : &request->tools;
    *at = request->last_tool = tool;
    request->tool_count++;
    return tool;
}

const struct tool *event_find_tool(const struct event_request *request, struct str name)
{
    for (const struct tool *tool = request->tools; tool; tool = tool->next)
        if (str_eq(tool->name, name))
            return tool;
    return NULL;
}

struct str event_join_text(const struct part *parts, struct arena *arena)
{
    struct str text = STR("");
    bool first = true;
    for (; parts && text.p; parts = parts->next) {
        if (parts->kind != PART_TEXT && parts->kind != PART_REFUSAL)
            continue;
        if (first && !parts->next)
            return parts->text.p ? parts->text : STR("");
        if (!first)
            text = arena_concat(arena, text, STR("\n"));
        if (text.p)
            text = arena_concat(arena, text, parts->text);
        first = false;
    }
    return text;
}

/* The budgets that clients and gateways commonly use for the three words. */
int64_t event_budget_of_effort(struct str effort)
{
    if (str_eq(effort, STR("minimal")) || str_eq(effort, STR("low")))
        return 2048;
    if (str_eq(effort, STR("medium")))
        return 8192;
    if (str_eq(effort, STR("high")))
        return 16384;
    return effort.n && !str_eq(effort, STR("none")) ? 32768 : 0;
}

struct str event_effort_of_budget(int64_t budget_tokens)
{
    return budget_tokens <= 0      ? STR_EMPTY
           : budget_tokens <= 4096 ? STR("low")
           : budget_tokens < 16384 ? STR("medium")
                                   : STR("high");
}

struct str event_finish_name(enum finish finish)
{
    switch (finish) {
    case FINISH_LENGTH: return STR("length");
    case FINISH_TOOL_CALLS: return STR("tool_calls");
    case FINISH_CONTENT_FILTER: return STR("content_filter");
    default: return STR("stop");
    }
}

/* ---- answers ---- */

void event_answer_init(struct event_answer *answer, struct arena *arena, unsigned text_kinds)
{
    *answer = (struct event_answer){.arena = arena, .text_kinds = text_kinds};
}

void event_answer_fini(struct event_answer *answer)
{
    for (size_t i = 0; i < answer->choice_count; i++) {
        struct answer_choice *choice = &answer->choices[i];
        for (size_t k = 0; k < choice->part_count; k++)
            buf_fini(&choice->parts[k].text);
        buf_fini(&choice->logprobs);
    }
    answer->choice_count = 0;
}

/* Room for one more item; NULL: the arena's cap. */
static void *grown(struct arena *arena, void *items, size_t count, size_t *capacity,
                   size_t item_bytes)
{
    if (count < *capacity)
        return items;
    size_t wanted = *capacity ? *capacity * 2 : 4;
    void *more = arena_calloc(arena, wanted * item_bytes);
    if (!more)
        return NULL;
    if (count)
        memcpy(more, items, count * item_bytes);
    *capacity = wanted;
    return more;
}

static struct answer_choice *choice_of(struct event_answer *answer, int index)
{
    if (index < 0 || index >= ANSWER_CHOICES_MAX)
        return NULL;
    while (answer->choice_count <= (size_t)index) {
        struct answer_choice *choices = grown(answer->arena, answer->choices, answer->choice_count,
                                              &answer->choice_capacity, sizeof(*choices));
        if (!choices)
            return NULL;
        answer->choices = choices;
        struct answer_choice *choice = &choices[answer->choice_count++];
        *choice = (struct answer_choice){0};
        buf_init(&choice->logprobs, LIMIT_RESPONSE_BYTES);
    }
    return &answer->choices[index];
}

static struct str kept(struct event_answer *answer, struct str s)
{
    return s.n ? arena_copy(answer->arena, s) : STR_EMPTY;
}

static enum rc add_part(struct event_answer *answer, struct answer_choice *choice,
                        const struct event *event)
{
    if ((size_t)event->part != choice->part_count)
        return RC_INVALID;
    if (choice->part_count == ANSWER_PARTS_MAX)
        return RC_LIMIT;
    struct answer_part *parts = grown(answer->arena, choice->parts, choice->part_count,
                                      &choice->part_capacity, sizeof(*parts));
    if (!parts)
        return RC_LIMIT;
    choice->parts = parts;
    struct answer_part *part = &parts[choice->part_count++];
    *part = (struct answer_part){.kind = event->part_kind,
                                 .redacted = event->redacted,
                                 .custom = event->custom,
                                 .id = kept(answer, event->id),
                                 .name = kept(answer, event->name),
                                 .signature = kept(answer, event->signature),
                                 .signed_by = event->signed_by};
    buf_init(&part->text, LIMIT_RESPONSE_BYTES);
    return RC_OK;
}

static enum rc add_delta(struct event_answer *answer, struct answer_choice *choice,
                         struct answer_part *part, const struct event *event)
{
    enum rc rc = RC_OK;
    part->has_text = part->has_text || event->text.n;
    if (!(answer->text_kinds & (1u << part->kind)))
        return RC_OK;
    answer->text_bytes += event->text.n + event->logprobs.n;
    if (answer->text_bytes > LIMIT_RESPONSE_BYTES)
        return RC_LIMIT;
    if (event->text.n)
        rc = buf_append(&part->text, event->text);
    if (rc || event->logprobs.n <= 2)
        return rc;
    if (buf_len(&choice->logprobs))
        rc = buf_append_char(&choice->logprobs, ',');
    return rc ? rc
              : buf_append(&choice->logprobs, str_slice(event->logprobs, 1, event->logprobs.n - 1));
}

static enum rc add_to_choice(struct event_answer *answer, const struct event *event)
{
    struct answer_choice *choice = choice_of(answer, event->choice);
    if (!choice)
        return RC_LIMIT;
    if (event->kind == EVENT_PART_BEGIN)
        return add_part(answer, choice, event);
    if (event->kind == EVENT_FINISH) {
        choice->finish = event->finish;
        choice->stop_sequence = kept(answer, event->stop_sequence);
        return RC_OK;
    }
    if (event->part < 0 || (size_t)event->part >= choice->part_count)
        return RC_INVALID;
    struct answer_part *part = &choice->parts[event->part];
    if (event->kind == EVENT_PART_DELTA)
        return add_delta(answer, choice, part, event);
    if (event->kind == EVENT_PART_SIGN) {
        part->signature = kept(answer, event->signature);
        part->signed_by = event->signed_by;
        if (event->id.n)
            part->id = kept(answer, event->id);
    } else {
        part->ended = true;
    }
    return RC_OK;
}

enum rc event_answer_add(struct event_answer *answer, const struct event *event)
{
    switch (event->kind) {
    case EVENT_START:
        answer->started = true;
        answer->response_id = kept(answer, event->response_id);
        answer->model = kept(answer, event->model);
        return RC_OK;
    case EVENT_USAGE: answer->usage = event->usage; return RC_OK;
    case EVENT_DONE: answer->done = true; return RC_OK;
    default: return add_to_choice(answer, event);
    }
}
