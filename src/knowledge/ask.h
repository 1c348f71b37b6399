/* `knowledge/NAME` as a model: a question is answered from the collection's passages by a route,
 * with citations, streamed to any client. See gateway/inner.h. */
#pragma once
#include "knowledge/knowledge.h"

/* Before the loops run; `knowledge` outlives them. */
void knowledge_register_model(struct knowledge *knowledge);
