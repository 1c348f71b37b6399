/* What the files of the Responses format share; nothing else includes this. */
#pragma once
#include "gateway/provider/format.h"

enum rc openai_responses_read_event(struct event_reader *reader, const struct sse_event *event);
enum rc openai_responses_read_whole(struct event_reader *reader, yyjson_val *root);
enum rc openai_responses_read_end(struct event_reader *reader);
enum rc openai_responses_write_event(struct event_writer *writer, const struct event *event);
enum rc openai_responses_write_whole(struct event_writer *writer,
                                     const struct event_answer *answer);
