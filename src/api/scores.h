/* What the doors to scores share: the management routes and Langfuse's. */
#pragma once
#include "api/api.h"
#include "store/score_table.h"

/* {"id": a run's or call's, "value": "up" or "down", true or false, a number, or a category,
 * "comment", "corrected", "name"} into *out, texts in the call's arena; the target is looked for.
 */
enum rc scores_read_feedback(struct api_services *services, struct id project, yyjson_val *body,
                             struct str author, const char *source, struct arena *arena,
                             struct score_row *out, struct err *err) MUST_CHECK;
