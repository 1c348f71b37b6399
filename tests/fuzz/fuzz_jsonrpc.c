/* Any bytes as a JSON-RPC message: what is accepted has the members of its kind. */
#include "text/jsonrpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jsonrpc_message message;
    struct arena arena;
    struct err err = {0};
    arena_init(&arena, 4 * 1024 * 1024);
    if (jsonrpc_read(str_make((const char *)data, size), &arena, &message, &err) == RC_OK) {
        bool calls = message.kind == JSONRPC_REQUEST || message.kind == JSONRPC_NOTIFICATION;
        ASSERT(message.id || message.kind == JSONRPC_NOTIFICATION || message.kind == JSONRPC_ERROR);
        ASSERT(calls || !message.params);
        ASSERT((message.result != NULL) == (message.kind == JSONRPC_RESULT));
    }
    arena_fini(&arena);
    return 0;
}
