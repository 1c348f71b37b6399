/* OpenAI's shapes for files and vector stores: ids, times, pages. */
#pragma once
#include "api/api_knowledge.h"

/* Vector stores are "vs_…", batches "vsfb_…", files as knowledge.h says. */
struct door_page {
    size_t limit;
    struct id after;
    bool ascending;
};
/* limit (default 20, at most 100), order, after. `prefix` NULL: file ids. */
enum rc door_read_page(struct api_call *call, const char *prefix, size_t limit_max,
                       struct door_page *out) MUST_CHECK;
/* {"object": "list", "data": [], …}: returns the array. */
yyjson_mut_val *door_list_begin(struct api_call *call);
void door_list_end(struct api_call *call, struct str first, struct str last, bool more);
void door_put_seconds(struct api_call *call, yyjson_mut_val *o, const char *name, int64_t ns);
/* {"id", "object", "deleted": true} */
void door_answer_deleted(struct api_call *call, struct str id, const char *object);
