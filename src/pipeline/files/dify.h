/* Apps that Dify has exported (its DSL, versions 0.3 and later; modes workflow and advanced-chat),
 * turned into definitions. Data only: nothing runs, nothing is fetched, no name is looked up. What
 * has no counterpart is left out, stays visible as a note on the canvas, and is told. */
#pragma once
#include "pipeline/files/file.h"

#define DIFY_NODES_MAX 500

bool dify_is_file(yyjson_val *root);
enum rc dify_read(yyjson_val *root, const struct import_options *options, struct arena *arena,
                  struct pipeline_file *out, struct err *err) MUST_CHECK;
