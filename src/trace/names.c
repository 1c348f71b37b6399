/* See names.h. */
#include "trace/names.h"

const char *call_door_name(enum call_door door)
{
    static const char *const names[DOOR_COUNT] = {"openai_chat", "openai_responses",
                                                  "anthropic_messages", "openai_other", "internal"};
    ASSERT(door < DOOR_COUNT);
    return names[door];
}

const char *call_operation_name(enum call_operation operation)
{
    static const char *const names[OPERATION_COUNT] = {
        "chat",  "completion", "embedding", "count_tokens", "audio",
        "image", "moderation", "rerank",    "other",        "span"};
    ASSERT(operation < OPERATION_COUNT);
    return names[operation];
}

const char *call_cache_name(enum call_cache cache)
{
    static const char *const names[] = {"off", "miss", "hit"};
    ASSERT(cache < COUNT_OF(names));
    return names[cache];
}

static const char *const capture_names[] = {"inherit", "none", "metadata", "full"};

const char *capture_name(enum capture capture)
{
    ASSERT(capture < COUNT_OF(capture_names));
    return capture_names[capture];
}

enum rc capture_parse(struct str s, enum capture *out)
{
    for (int i = CAPTURE_NONE; i <= CAPTURE_FULL; i++)
        if (str_eq(s, str_from(capture_names[i]))) {
            *out = (enum capture)i;
            return RC_OK;
        }
    return RC_INVALID;
}
