/* One question to a model, for the nodes that ask: a call by the gateway's own function, as part of
 * the run's trace, under its key, deadline and budget. */
#pragma once
#include "pipeline/engine/run_private.h"
#include "text/json_writer.h"

struct json_schema;
struct ask; /* under way; kept in step->work */

struct ask_answer {
    struct str text; /* valid during the call */
    struct str model, finish_reason;
    yyjson_val *message;    /* of a whole answer; NULL: it was streamed */
    yyjson_val *tool_calls; /* as chat answers have them, streamed or not; NULL: none */
    const struct call_record *record;
};

struct ask_options {
    struct str body; /* the chat request, without `stream`; copied */
    bool stream;     /* its text shows in step->partial while it is being written */
    /* Streams: told of the text so far, instead of step->partial; may be NULL. */
    void (*grown)(struct step *step, void *arg, struct str text);
    int64_t budget_pico_max; /* 0: what is left of the run's */
    void *arg;               /* the node's, freed by `done` or by ask_cancel's caller */
    /* Once, later. err NULL: well. The ask is gone. */
    void (*done)(struct step *step, void *arg, const struct ask_answer *answer,
                 const struct err *err);
};

/* Sets step->work. */
void ask_start(struct step *step, const struct ask_options *options);
void *ask_cancel(struct step *step); /* returns its arg */
void ask_resume(struct step *step);
/* Where an answer came from, into an open object: "model", "finish_reason" and "usage". */
void ask_put_origin(struct maker *maker, const struct ask_answer *answer, struct arena *arena);
/* {"input_tokens", "output_tokens", "cost_usd", "call_id"} into an open object, under "usage". */
void ask_put_usage(struct maker *maker, const struct call_record *record, struct arena *arena);

/* ---- parts of a request ---- */
void ask_put_words(struct json_writer *w, const char *role, struct str words); /* a message */
void ask_put_schema(struct json_writer *w, struct str schema);                 /* response_format */
/* "variables" of a stored prompt. */
enum rc ask_put_variables(struct step *step, struct json_writer *w,
                          const struct assignments *variables, struct err *err) MUST_CHECK;
/* The JSON value in a model's text: the whole, or what stands between the first brace and the last,
 * as in a fenced block. NULL: none. */
yyjson_val *ask_read_json(struct str text, struct arena *arena);
/* An answer of the run passes its text on while it is being written. */
bool ask_wants_stream(const struct step *step);
/* For operations whose step->work is an ask with an `arg` that free takes. */
void ask_drop(struct step *step);

/* ---- questions whose answer is JSON of a schema ---- */
struct ask_shape {
    struct str schema_text;
    const struct json_schema *schema; /* both the plan's */
    /* Once, later. `json` fits the schema; err NULL: well. */
    void (*done)(struct step *step, yyjson_val *json, const struct ask_answer *answer,
                 const struct err *err);
};
/* A task for the system's message and a text for the user's. An answer that does not fit is asked
 * for once more. Cancelled by ask_drop. */
void ask_shaped(struct step *step, const struct ask_shape *shape, struct str model, struct str task,
                struct str text);

/* ---- node_model.c ---- */
/* What was said before, out of the messages that the run was called with (the last of them is the
 * question itself): `window` exchanges, into an open array of messages. */
void ask_put_history(struct step *step, struct json_writer *w, int64_t window);
