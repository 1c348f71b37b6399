/* The Anthropic door: its paths and rate-limit headers.
 * https://docs.anthropic.com/en/api/messages, https://docs.anthropic.com/en/api/rate-limits */
#include "api/door.h"
#include "base/clock.h"
#include "gateway/limit.h"

static const struct door_path paths[] = {
    {STR_INIT("/v1/messages"), WIRE_ANTHROPIC, OPERATION_CHAT, DOOR_ANTHROPIC_MESSAGES, {NULL, 0}},
    {STR_INIT("/v1/messages/count_tokens"), WIRE_ANTHROPIC, OPERATION_COUNT_TOKENS,
     DOOR_ANTHROPIC_MESSAGES, STR_INIT("/count_tokens")},
};

/* Here a reset is a time, not a duration. */
static void put_time(struct door_lines *lines, struct str name, int64_t wall_ns)
{
    char text[CLOCK_ISO_BYTES_MAX];
    door_put(lines, name, str_make(text, clock_format_iso(wall_ns, 0, text)));
}

static void limit_headers(const struct limit_state *state, int64_t wall_ns,
                          struct door_lines *lines)
{
    if (state->requests_limit) {
        door_put_number(lines, STR("anthropic-ratelimit-requests-limit"), state->requests_limit,
                        STR(""));
        door_put_number(lines, STR("anthropic-ratelimit-requests-remaining"), state->requests_left,
                        STR(""));
        put_time(lines, STR("anthropic-ratelimit-requests-reset"),
                 wall_ns + state->requests_reset_ns);
    }
    if (state->tokens_limit) {
        door_put_number(lines, STR("anthropic-ratelimit-tokens-limit"), state->tokens_limit,
                        STR(""));
        door_put_number(lines, STR("anthropic-ratelimit-tokens-remaining"), state->tokens_left,
                        STR(""));
        put_time(lines, STR("anthropic-ratelimit-tokens-reset"), wall_ns + state->tokens_reset_ns);
    }
}

const struct door door_anthropic = {
    .paths = paths,
    .path_count = COUNT_OF(paths),
    .limit_headers = limit_headers,
};
