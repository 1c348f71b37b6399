/* Any bytes as OTLP's spans, in protobuf and in JSON: what is accepted can be encoded and read
 * again. */
#include "base/limits.h"
#include "text/json.h"
#include "trace/otlp.h"
#include "trace/record.h"
#include <stdlib.h>

static void encode(void *arg, struct call_record *record)
{
    struct call_record again;
    struct call_tag tags[LIMIT_TAGS];
    record->capture = CAPTURE_FULL;
    char *bytes = xmalloc(record_encode_bytes_max(record));
    size_t n = record_encode(record, bytes);
    ASSERT(n <= record_encode_bytes_max(record));
    ASSERT(record_decode(str_make(bytes, n), &again, tags, NULL) == RC_OK);
    ASSERT(memcmp(again.trace_id, record->trace_id, 16) == 0 && again.total_ns >= 0);
    free(bytes);
}

static void try_read(struct str bytes, bool json)
{
    struct arena arena;
    struct err err = {0};
    struct otlp_result result;
    yyjson_doc *doc;
    yyjson_val *message = NULL;
    arena_init(&arena, 16 * 1024 * 1024);
    enum rc rc;
    if (json) {
        rc = json_read(bytes, &arena, &doc, &err);
        message = rc == RC_OK ? yyjson_doc_get_root(doc) : NULL;
    } else {
        rc = otlp_from_protobuf(bytes, &arena, &message, &err);
    }
    if (rc == RC_OK && otlp_read(message, &arena, encode, NULL, &result, &err) == RC_OK)
        ASSERT((result.rejected > 0) == (result.reason != NULL));
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str bytes = str_make((const char *)data, size);
    try_read(bytes, false);
    try_read(bytes, true);
    return 0;
}
