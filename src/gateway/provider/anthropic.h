/* What the files of the Anthropic format share; nothing else includes this. */
#pragma once
#include "gateway/provider/format.h"

enum rc anthropic_read_event(struct event_reader *reader, const struct sse_event *event);
enum rc anthropic_read_whole(struct event_reader *reader, yyjson_val *root);
enum rc anthropic_read_end(struct event_reader *reader);
enum rc anthropic_write_event(struct event_writer *writer, const struct event *event);
enum rc anthropic_write_whole(struct event_writer *writer, const struct event_answer *answer);
