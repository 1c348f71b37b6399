/* Counting a request's tokens where the target cannot: the texts with the model's vocabulary, and
 * what chat templates put around them. An estimate in all cases but OpenAI's own text-only chats.
 */
#include "gateway/provider/format.h"
#include "gateway/wire_internal.h"
#include "text/tokenizer.h"

/* OpenAI's published rule for chats: 3 tokens around each message, 1 for a name, 3 before the
 * answer. */
#define TOKENS_PER_MESSAGE      3
#define TOKENS_PER_NAME         1
#define TOKENS_OF_ANSWER        3
#define TOKENS_PER_TOOL         8
#define TOKENS_PER_IMAGE        800
#define BYTES_PER_TOKEN_OF_FILE 20 /* base64 of a PDF's pages: a very rough guess */

static uint64_t count_parts(enum tokenizer tokenizer, const struct part *parts, bool *estimated)
{
    uint64_t tokens = 0;
    for (const struct part *part = parts; part; part = part->next) {
        tokens += tokenizer_count(tokenizer, part->text) + tokenizer_count(tokenizer, part->name);
        if (part->kind == PART_IMAGE)
            tokens += TOKENS_PER_IMAGE;
        else if (part->kind == PART_FILE || part->kind == PART_AUDIO)
            tokens += part->data.n / BYTES_PER_TOKEN_OF_FILE;
        if (part->kind != PART_TEXT)
            *estimated = true;
        tokens += count_parts(tokenizer, part->parts, estimated);
    }
    return tokens;
}

enum rc wire_count_tokens(const struct wire_request *request, struct str model, struct arena *arena,
                          uint64_t *tokens, bool *estimated, struct err *err)
{
    const struct provider_format *format = provider_format_of(request->format);
    struct event_request *read = ARENA_NEW(arena, struct event_request);
    bool exact;
    if (!format)
        return err_set(err, ERR_UNSUPPORTED, "tokens of this kind of request cannot be counted");
    enum rc rc = read ? format->read_request(request, arena, read, err) : format_out_of_memory(err);
    if (rc)
        return rc;
    enum tokenizer tokenizer = tokenizer_of_model(model, &exact);
    *estimated = !exact || read->tools;
    *tokens = TOKENS_OF_ANSWER;
    for (const struct message *message = read->messages; message; message = message->next) {
        *tokens += TOKENS_PER_MESSAGE + 1 + count_parts(tokenizer, message->parts, estimated);
        if (message->name.n)
            *tokens += TOKENS_PER_NAME + tokenizer_count(tokenizer, message->name);
    }
    for (const struct tool *tool = read->tools; tool; tool = tool->next)
        *tokens += TOKENS_PER_TOOL + tokenizer_count(tokenizer, tool->name) +
                   tokenizer_count(tokenizer, tool->description) +
                   tokenizer_count(tokenizer, tool->parameters);
    return RC_OK;
}

struct str wire_write_token_count(uint64_t tokens, bool estimated, struct arena *arena)
{
    return arena_printf(arena, "{\"input_tokens\":%llu%s}", (unsigned long long)tokens,
                        estimated ? ",\"estimated\":true" : "");
}
