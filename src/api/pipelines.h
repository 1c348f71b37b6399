/* What the handlers of pipelines share (api_pipelines.c). */
#pragma once
#include "api/handlers.h"
#include "store/object.h"
#include "store/pipeline_table.h"

enum rc pipelines_check_name(struct api_call *call, struct str name) MUST_CHECK;
/* "problems" and "publishable" of a definition into `o`. */
enum rc pipelines_put_problems(struct api_call *call, yyjson_mut_val *o,
                               yyjson_val *definition) MUST_CHECK;
/* A version of pipeline params[0] by number, label, "latest" or "draft". */
enum rc pipelines_find_version(struct api_call *call, struct str which,
                               struct object *out) MUST_CHECK;
/* Saves `draft` as the next revision, unless another came between (the body's "revision"). */
enum rc pipelines_save_draft(struct api_call *call, struct pipeline_row *row,
                             struct str draft) MUST_CHECK;
enum rc pipelines_audit(struct api_call *call, const char *action, struct str name,
                        struct str before, struct str after) MUST_CHECK;
