/* Of api_triggers.c, for api_pipelines.c. */
#pragma once
#include "api/api.h"

/* The triggers of a pipeline that is deleted go with it. */
enum rc api_triggers_delete_of(struct api_call *call, struct str pipeline) MUST_CHECK;
