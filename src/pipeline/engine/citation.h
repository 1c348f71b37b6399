/* Citations: the passages that a text may rest on. A retrieval node puts them out, numbered; a
 * model's text and an answer pass on those of the retrievals that their variables come from,
 * however many nodes stand between, each marked whether the text names its number ("[2]"). A run
 * shows those of its answers. */
#pragma once
#include "pipeline/engine/run_private.h"

#define CITATION_TEXT_BYTES_MAX 2000
#define CITATIONS_MAX           100 /* of a run */

/* At the end of compiling: finds node->cites of models and answers. */
enum rc citations_plan(struct plan *plan, struct err *err) MUST_CHECK;
/* The citations of `node`'s text as a list, into the open object under "citations"; nothing when
 * it has none. */
void citations_put(struct maker *maker, struct frame *frame, const struct plan_node *node,
                   struct str text);
/* An answer was given: its citations become its flow's. */
void citations_pass_on(struct step *step, struct str text);
