/* The formats' finish reasons, and their usage objects, read into disjoint buckets. Totals that
 * include others are split up; what does not add up (a detail larger than its total) is clamped, so
 * that no bucket wraps around. */
#include "gateway/wire_internal.h"

static uint64_t count_of(yyjson_val *object, const char *name)
{
    return (uint64_t)MAX(json_get_int(object, name, 0), 0);
}

static uint64_t take(uint64_t *total, uint64_t part)
{
    part = MIN(part, *total);
    *total -= part;
    return part;
}

/* prompt_tokens and completion_tokens; the details have several spellings among the compatible. */
static void read_chat(const struct provider_row *row, yyjson_val *usage, struct usage *out)
{
    yyjson_val *in = yyjson_obj_get(usage, "prompt_tokens_details");
    yyjson_val *made = yyjson_obj_get(usage, "completion_tokens_details");
    uint64_t input = count_of(usage, "prompt_tokens"),
             output = count_of(usage, "completion_tokens");
    uint64_t cached = count_of(in, "cached_tokens");
    if (!cached)
        cached = count_of(usage, "prompt_cache_hit_tokens"); /* DeepSeek */
    if (!cached)
        cached = count_of(usage, "cached_tokens"); /* Together */
    uint64_t reasoning = count_of(made, "reasoning_tokens");
    if (!reasoning)
        reasoning = count_of(usage, "reasoning_tokens");
    out->tokens[USAGE_CACHED_INPUT] = take(&input, cached);
    out->tokens[USAGE_CACHE_WRITE] = take(&input, count_of(in, "cache_write_tokens"));
    out->tokens[USAGE_AUDIO_INPUT] = take(&input, count_of(in, "audio_tokens"));
    out->tokens[USAGE_IMAGE_INPUT] = take(&input, count_of(in, "image_tokens"));
    out->tokens[USAGE_INPUT] = input;
    if (row && (row->quirks & PROVIDER_REASONING_APART))
        out->tokens[USAGE_REASONING] = reasoning;
    else
        out->tokens[USAGE_REASONING] = take(&output, reasoning);
    out->tokens[USAGE_AUDIO_OUTPUT] = take(&output, count_of(made, "audio_tokens"));
    out->tokens[USAGE_OUTPUT] = output;
}

static void read_responses(yyjson_val *usage, struct usage *out)
{
    yyjson_val *in = yyjson_obj_get(usage, "input_tokens_details");
    yyjson_val *made = yyjson_obj_get(usage, "output_tokens_details");
    uint64_t input = count_of(usage, "input_tokens"), output = count_of(usage, "output_tokens");
    out->tokens[USAGE_CACHED_INPUT] = take(&input, count_of(in, "cached_tokens"));
    out->tokens[USAGE_CACHE_WRITE] = take(&input, count_of(in, "cache_write_tokens"));
    out->tokens[USAGE_IMAGE_INPUT] = take(&input, count_of(in, "image_tokens"));
    out->tokens[USAGE_INPUT] = input;
    out->tokens[USAGE_REASONING] = take(&output, count_of(made, "reasoning_tokens"));
    out->tokens[USAGE_OUTPUT] = output;
}

/* input_tokens excludes what the cache gave or took. A message_delta's counts are cumulative and
 * may leave the input's away: then what message_start said stays. */
static void read_anthropic(yyjson_val *usage, struct usage *out)
{
    yyjson_val *creation = yyjson_obj_get(usage, "cache_creation");
    if (yyjson_is_num(yyjson_obj_get(usage, "input_tokens")))
        out->tokens[USAGE_INPUT] = count_of(usage, "input_tokens");
    if (yyjson_is_num(yyjson_obj_get(usage, "cache_read_input_tokens")))
        out->tokens[USAGE_CACHED_INPUT] = count_of(usage, "cache_read_input_tokens");
    if (yyjson_is_num(yyjson_obj_get(usage, "cache_creation_input_tokens")) && !creation) {
        uint64_t written = count_of(usage, "cache_creation_input_tokens");
        out->tokens[USAGE_CACHE_WRITE] = written - MIN(written, out->tokens[USAGE_CACHE_WRITE_1H]);
    }
    if (yyjson_is_obj(creation)) {
        out->tokens[USAGE_CACHE_WRITE] = count_of(creation, "ephemeral_5m_input_tokens");
        out->tokens[USAGE_CACHE_WRITE_1H] = count_of(creation, "ephemeral_1h_input_tokens");
    }
    if (yyjson_is_num(yyjson_obj_get(usage, "output_tokens"))) {
        uint64_t output = count_of(usage, "output_tokens");
        uint64_t thinking =
            count_of(yyjson_obj_get(usage, "output_tokens_details"), "thinking_tokens");
        out->tokens[USAGE_REASONING] = take(&output, thinking);
        out->tokens[USAGE_OUTPUT] = output;
    }
}

void wire_read_usage(enum wire_format format, const struct provider_row *row, yyjson_val *usage,
                     struct usage *out)
{
    if (!yyjson_is_obj(usage))
        return;
    out->known = true;
    if (format == WIRE_ANTHROPIC)
        read_anthropic(usage, out);
    else if (yyjson_obj_get(usage, "prompt_tokens"))
        read_chat(row, usage, out);
    else
        read_responses(usage, out); /* also images, audio: input_tokens, output_tokens */
}

struct str wire_finish_name(struct str reason)
{
    static const struct {
        struct str theirs, ours;
    } names[] = {
        {STR_INIT("end_turn"), STR_INIT("stop")},
        {STR_INIT("stop_sequence"), STR_INIT("stop")},
        {STR_INIT("pause_turn"), STR_INIT("stop")},
        {STR_INIT("max_tokens"), STR_INIT("length")},
        {STR_INIT("max_output_tokens"), STR_INIT("length")},
        {STR_INIT("model_context_window_exceeded"), STR_INIT("length")},
        {STR_INIT("model_length"), STR_INIT("length")},
        {STR_INIT("tool_use"), STR_INIT("tool_calls")},
        {STR_INIT("function_call"), STR_INIT("tool_calls")},
        {STR_INIT("refusal"), STR_INIT("content_filter")},
    };
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eq(names[i].theirs, reason))
            return names[i].ours;
    return reason;
}

struct str wire_responses_finish(yyjson_val *response)
{
    struct str type =
        json_get_text(yyjson_arr_get_last(yyjson_obj_get(response, "output")), "type");
    bool call = str_eq(type, STR("function_call")) || str_eq(type, STR("custom_tool_call"));
    return call ? STR("tool_calls") : STR("stop");
}
