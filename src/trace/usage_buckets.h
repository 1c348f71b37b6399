/* USAGE_BUCKET(name, JSON key, what it counts): the disjoint token buckets. Order is on disk:
 * append only. */
USAGE_BUCKET(INPUT, "input_tokens", "text tokens read at the full price")
USAGE_BUCKET(CACHED_INPUT, "cached_input_tokens", "tokens read from the provider's prompt cache")
USAGE_BUCKET(CACHE_WRITE, "cache_write_tokens",
             "tokens written to the provider's prompt cache (5 minutes)")
USAGE_BUCKET(CACHE_WRITE_1H, "cache_write_1h_tokens",
             "tokens written to the provider's prompt cache (1 hour)")
USAGE_BUCKET(AUDIO_INPUT, "audio_input_tokens", "audio tokens read")
USAGE_BUCKET(IMAGE_INPUT, "image_input_tokens",
             "image tokens read, where the provider reports them apart")
USAGE_BUCKET(OUTPUT, "output_tokens", "text tokens written")
USAGE_BUCKET(REASONING, "reasoning_tokens", "tokens of reasoning written but not shown")
USAGE_BUCKET(AUDIO_OUTPUT, "audio_output_tokens", "audio tokens written")
