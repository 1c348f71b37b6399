/* One question to a model, for the nodes that ask: a call by the gateway's own function, as part of
 * the run's trace, under its key, deadline and budget. */
#pragma once
#include "pipeline/run_private.h"
#include "text/json_writer.h"

struct ask; /* under way; kept in step->work */

struct ask_answer {
    struct str text; /* valid during the call */
    struct str model, finish_reason;
    yyjson_val *message; /* of a whole answer; NULL: it was streamed */
    const struct call_record *record;
};

struct ask_options {
    struct str body; /* the chat request, without `stream`; copied */
    bool stream;     /* its text shows in step->partial while it is being written */
    void *arg;       /* the node's, freed by `done` or by ask_cancel's caller */
    /* Once, later. err NULL: well. The ask is gone. */
    void (*done)(struct step *step, void *arg, const struct ask_answer *answer,
                 const struct err *err);
};

/* Sets step->work. */
void ask_start(struct step *step, const struct ask_options *options);
void *ask_cancel(struct step *step); /* returns its arg */
void ask_resume(struct step *step);
/* {"input_tokens", "output_tokens", "cost_usd", "call_id"} into an open object, under "usage". */
void ask_put_usage(struct maker *maker, const struct call_record *record, struct arena *arena);
