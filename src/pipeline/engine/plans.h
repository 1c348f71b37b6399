/* Plans by name: NAME@label to a compiled version, without the database in the usual case. What was
 * found is kept until the configuration changes (gateway/snapshot.h counts that). */
#pragma once
#include "pipeline/engine/pipeline.h"

struct plan_cache *plan_cache_new(void);
void plan_cache_free(struct plan_cache *cache);
