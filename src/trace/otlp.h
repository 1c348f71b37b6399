/* Spans of other origin: OTLP's ExportTraceServiceRequest (opentelemetry/proto/collector/trace/v1,
 * version 1.x), as protobuf or JSON, becomes call records of OPERATION_SPAN. Worker threads; the
 * bytes are a client's and are trusted in nothing. */
#pragma once
#include "base/arena.h"
#include "trace/call.h"
#include <yyjson.h>

#define OTLP_SPANS_MAX 10000 /* of one request; the rest is refused, and that is answered */

struct otlp_result {
    uint32_t accepted, rejected;
    const char *reason; /* of the last that was refused; NULL: none was */
};

/* The message in its JSON form, from protobuf: one reader for both. ERR_BAD_FIELD: not such a
 * message; ERR_TOO_LARGE: it does not fit into the arena. */
enum rc otlp_from_protobuf(struct str bytes, struct arena *arena, yyjson_val **message,
                           struct err *err) MUST_CHECK;

/* Calls `each` with every span that is whole: names, times, ids, what attributes say of user,
 * session, model, tokens, cost, input and output (OpenTelemetry's GenAI conventions, Langfuse's and
 * OpenInference's names). `record->project`, `key` and `capture` are the caller's. The record lives
 * until `each` returns. ERR_BAD_FIELD: the message has not the shape. */
enum rc otlp_read(yyjson_val *message, struct arena *arena,
                  void (*each)(void *arg, struct call_record *record), void *arg,
                  struct otlp_result *result, struct err *err) MUST_CHECK;
