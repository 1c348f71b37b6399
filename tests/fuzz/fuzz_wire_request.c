/* Requests of the three doors, read and written for each upstream. What is written must be JSON
 * where it was translated, and the request's own bytes but for splices where not. */
#include "gateway/provider_table.h"
#include "gateway/wire.h"
#include "text/json.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void write_for(const struct wire_request *request, enum wire_format format, const char *row,
                      bool tools, struct arena *arena)
{
    struct wire_upstream upstream = {.format = format,
                                     .row = provider_row_find(str_from(row)),
                                     .model = STR("claude-\"x"),
                                     .stream = true,
                                     .params = STR("{\"temperature\":0.5,\"seed\":null}"),
                                     .template_has_tools = tools};
    struct wire_call call;
    struct err err = {0};
    yyjson_doc *doc;
    if (wire_write_request(request, &upstream, STR("key"), arena, &call, &err) != RC_OK) {
        ASSERT(err.code != ERR_NONE);
        return;
    }
    struct str body = STR("");
    for (size_t i = 0; i < call.body_parts && body.p; i++)
        body = arena_concat(arena, body, call.body[i]);
    if (body.p && json_read(body, arena, &doc, &err) != RC_OK)
        ASSERT(err.code == ERR_TOO_LARGE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const enum wire_format doors[] = {WIRE_OPENAI_CHAT, WIRE_ANTHROPIC,
                                             WIRE_OPENAI_RESPONSES};
    struct arena arena;
    arena_init(&arena, 64 << 20);
    for (size_t d = 0; d < COUNT_OF(doors); d++) {
        struct wire_request request;
        struct err err = {0};
        uint64_t tokens;
        bool estimated;
        struct str body = str_make(data, n);
        if (wire_read_request(doors[d], body, &arena, &request, &err) != RC_OK) {
            ASSERT(err.code != ERR_NONE);
            continue;
        }
        write_for(&request, WIRE_OPENAI_CHAT, "mistral", true, &arena);
        write_for(&request, WIRE_OPENAI_CHAT, "groq", true, &arena);
        write_for(&request, WIRE_OPENAI_CHAT, "engine", false, &arena);
        write_for(&request, WIRE_ANTHROPIC, "anthropic", true, &arena);
        write_for(&request, WIRE_OPENAI_RESPONSES, "openai", true, &arena);
        (void)!wire_count_tokens(&request, STR("gpt-5"), &arena, &tokens, &estimated, &err);
    }
    arena_fini(&arena);
    return 0;
}
