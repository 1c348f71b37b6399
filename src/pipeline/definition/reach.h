/* What a pipeline may reach: its manifest, derived from the definition, shown beside it and in the
 * difference of two versions. What the definition names is all that its nodes can ask for; only
 * addresses are computed, and settings.hosts bounds those. */
#pragma once
#include "pipeline/definition/document.h"

/* {"hosts", "models", "prompts", "collections", "pipelines", "tools", "code": each a list of texts,
 * "cost_usd"}. A host "*" is any public one. */
yyjson_mut_val *reach_encode(const struct document *document, yyjson_mut_doc *doc);

/* Whether the host of an address is written in this template, so that no value can change it. */
bool reach_is_fixed(struct str url_template);
/* ERR_FORBIDDEN where settings.hosts does not name the host of an address that was computed. */
enum rc reach_check(const struct document *document, struct str url, struct err *err) MUST_CHECK;
