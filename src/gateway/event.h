/* The event model: what a request and an answer are, whatever the wire format. Each file in
 * provider/ reads its format into this and writes its format from this; nothing here is one
 * provider's own.
 *
 * A request is a list of messages of typed parts, tools, and sampling parameters. An answer is a
 * sequence of events: START, then for each part of each choice BEGIN, DELTAs, END, then FINISH per
 * choice, USAGE, DONE. Whole answers are read into the same sequence and written from what it adds
 * up to (struct event_answer).
 *
 * Room for other formats: a part carries an opaque `signature` with the format it came from
 * (Anthropic's signed and redacted thinking, Responses' encrypted reasoning, Gemini's thought
 * signatures, also on tool calls); media are data or URL with a type (Gemini's inline and file
 * data, Bedrock's bytes); JSON values that only pass through stay text. Texts point into the
 * request's arena or, in events, into memory that is valid during the call. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "gateway/wire.h"
#include "text/json_writer.h"
#include "trace/usage.h"

enum event_role { ROLE_SYSTEM, ROLE_DEVELOPER, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL };

enum part_kind {
    PART_TEXT,
    PART_REFUSAL,
    PART_REASONING,
    PART_IMAGE,
    PART_AUDIO,
    PART_FILE,
    PART_TOOL_CALL,
    PART_TOOL_RESULT,
    PART_KIND_COUNT
};

struct part {
    struct part *next;
    enum part_kind kind;
    struct str text;       /* text, refusal, reasoning; a tool call's arguments as JSON text */
    struct str id;         /* of the tool call (also in its result), the uploaded file */
    struct str name;       /* the tool's, the file's */
    struct str media_type; /* image, audio, file: image/png, application/pdf …; audio: wav, mp3 */
    struct str data;       /* base64 */
    struct str url;
    struct str detail; /* image: low, high, auto */
    struct str
        signature; /* opaque proof by the format in `signed_by`; goes back to that one only */
    enum wire_format signed_by;
    bool redacted;      /* reasoning without text: `signature` is all there is */
    bool is_error;      /* tool result */
    bool custom;        /* a tool call whose input is free text, not JSON */
    struct part *parts; /* tool result: text, images … */
    struct str cache;   /* cache breakpoint after this part, as JSON text */
};

struct message {
    struct message *next;
    enum event_role role;
    struct str name;
    struct part *parts;
};

struct tool {
    struct tool *next;
    struct str name, description;
    struct str parameters; /* JSON schema as JSON text; empty: none */
    enum { STRICT_UNSET, STRICT_NO, STRICT_YES } strict;
    bool custom;      /* its input is free text */
    struct str cache; /* cache breakpoint after this tool, as JSON text */
};

enum tool_choice {
    TOOL_CHOICE_UNSET,
    TOOL_CHOICE_AUTO,
    TOOL_CHOICE_NONE,
    TOOL_CHOICE_REQUIRED,
    TOOL_CHOICE_NAMED
};
enum response_shape { SHAPE_TEXT, SHAPE_JSON_OBJECT, SHAPE_JSON_SCHEMA };

/* Values that only pass through are JSON text; empty: not given. */
struct event_request {
    struct message *messages, *last_message;
    struct tool *tools, *last_tool;
    size_t tool_count;
    enum tool_choice tool_choice;
    struct str tool_choice_name;
    struct str parallel_tool_calls; /* true, false */

    int64_t output_tokens_max; /* 0: not given */
    struct str temperature, top_p, top_k, frequency_penalty, presence_penalty, seed, logit_bias;
    struct str *stops; /* not JSON: the sequences themselves */
    size_t stop_count;
    int choices;
    bool logprobs;
    int top_logprobs;

    enum response_shape shape;
    struct str schema, schema_name, schema_description; /* schema: JSON text */
    bool schema_strict;

    struct str
        reasoning_effort; /* none, minimal, low, medium, high, xhigh, max; empty: not given */
    int64_t reasoning_budget_tokens; /* Anthropic's budget; 0: not given */
    bool reasoning_shown;            /* a summary was asked for */
    bool reasoning_encrypted;        /* signatures were asked for (Responses' include) */

    struct str user;         /* not JSON */
    struct str verbosity;    /* not JSON: low, medium, high */
    struct str service_tier; /* not JSON */
    bool stream, usage_asked;
};

/* Appends in order. NULL: the arena's cap. */
struct message *event_add_message(struct event_request *request, struct arena *arena,
                                  enum event_role role);
/* The assistant's message that is last, or a new one: formats whose turns are lists of items. */
struct message *event_assistant(struct event_request *request, struct arena *arena);
struct part *event_add_part(struct part **list, struct arena *arena, enum part_kind kind);
struct tool *event_add_tool(struct event_request *request, struct arena *arena);
const struct tool *event_find_tool(const struct event_request *request, struct str name);
/* All text parts joined (by a line feed between parts). .p NULL: the arena's cap; n 0: none. */
struct str event_join_text(const struct part *parts, struct arena *arena);
/* The budget of reasoning tokens that goes with an effort, and back. */
int64_t event_budget_of_effort(struct str effort);
struct str event_effort_of_budget(int64_t budget_tokens);

/* ---- answers ---- */

enum event_kind {
    EVENT_START,      /* response_id, model */
    EVENT_PART_BEGIN, /* choice, part, part_kind; tool call: id, name; reasoning: redacted +
                         signature */
    EVENT_PART_DELTA, /* text; logprobs; the first delta of a part comes after its BEGIN */
    EVENT_PART_SIGN,  /* signature of the part, once, before its END */
    EVENT_PART_END,
    EVENT_FINISH, /* choice, finish, stop_sequence */
    EVENT_USAGE,  /* so far, cumulative: a later one replaces it */
    EVENT_DONE,   /* the upstream has ended in order */
};

enum finish {
    FINISH_NONE,
    FINISH_STOP,
    FINISH_STOP_SEQUENCE,
    FINISH_LENGTH,
    FINISH_TOOL_CALLS,
    FINISH_CONTENT_FILTER,
    FINISH_PAUSE, /* the upstream wants the conversation sent back to go on */
};

struct event {
    enum event_kind kind;
    int choice; /* from 0 */
    int part;   /* number of the part within its choice, from 0, in order of BEGIN */
    enum part_kind part_kind;
    bool redacted, custom;
    struct str id, name; /* tool call */
    struct str response_id, model;
    struct str text; /* delta: text, or a piece of a tool call's arguments */
    struct str signature;
    enum wire_format signed_by;
    struct str logprobs; /* JSON array of chat's token objects, for this delta */
    enum finish finish;
    struct str stop_sequence;
    struct usage usage;
};

/* OpenAI's words: stop, length, tool_calls, content_filter. */
struct str event_finish_name(enum finish finish);

#define PART_KINDS_ALL ((1u << PART_KIND_COUNT) - 1)

/* What an answer adds up to. Texts grow outside of the arena, up to LIMIT_RESPONSE_BYTES together.
 */
struct answer_part {
    enum part_kind kind;
    bool redacted, custom, ended, has_text;
    struct str id, name, signature; /* in the arena */
    enum wire_format signed_by;
    struct buf text;
};

struct answer_choice {
    struct answer_part *parts;
    size_t part_count, part_capacity;
    enum finish finish;
    struct str stop_sequence;
    struct buf logprobs; /* items of the array, joined by commas */
};

#define ANSWER_CHOICES_MAX 128
#define ANSWER_PARTS_MAX   4096 /* of one choice */

struct event_answer {
    struct arena *arena;
    unsigned text_kinds; /* bits 1 << enum part_kind whose texts are kept; a stream's door may need
                            none */
    struct str response_id, model;
    struct answer_choice *choices;
    size_t choice_count, choice_capacity;
    struct usage usage;
    size_t text_bytes;
    bool started, done;
};

void event_answer_init(struct event_answer *answer, struct arena *arena, unsigned text_kinds);
void event_answer_fini(struct event_answer *answer);
/* Adds one event. RC_LIMIT: too long; RC_INVALID: out of order (a delta of a part that never
 * began). */
enum rc event_answer_add(struct event_answer *answer, const struct event *event) MUST_CHECK;
