/* What the files of the chat format share; nothing else includes this. */
#pragma once
#include "gateway/provider/format.h"

/* Content of a message: a text or parts, appended to `list`. */
enum rc openai_chat_read_content(yyjson_val *content, struct part **list, struct arena *arena,
                                 const char *field, struct err *err);
/* Replaces the tools by a JSON schema that makes the model write {"name": …, "arguments": …}, for
 * engines whose template has no tools. ERR_UNSUPPORTED where the model would have to decide by
 * itself. */
enum rc openai_chat_emulate_tools(struct event_request *request, struct arena *arena,
                                  struct err *err);

enum rc openai_chat_read_event(struct event_reader *reader, const struct sse_event *event);
enum rc openai_chat_read_whole(struct event_reader *reader, yyjson_val *root);
enum rc openai_chat_read_end(struct event_reader *reader);
enum rc openai_chat_write_event(struct event_writer *writer, const struct event *event);
enum rc openai_chat_write_whole(struct event_writer *writer, const struct event_answer *answer);
