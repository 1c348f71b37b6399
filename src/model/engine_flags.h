/* ENGINE_FLAG(name, the argument): arguments of llama-server that came or went between versions.
 * Included several times, so it has no guard. */
ENGINE_FLAG(NO_UI, "--no-ui")
ENGINE_FLAG(NO_WEBUI, "--no-webui")
ENGINE_FLAG(CACHE_RAM, "--cache-ram")
ENGINE_FLAG(OFFLINE, "--offline")
ENGINE_FLAG(NO_WARMUP, "--no-warmup")
ENGINE_FLAG(LOG_COLORS, "--log-colors")
ENGINE_FLAG(NO_SLOTS, "--no-slots")
ENGINE_FLAG(JINJA, "--jinja")
ENGINE_FLAG(NO_CONTEXT_SHIFT, "--no-context-shift")
ENGINE_FLAG(CORS_ORIGINS, "--cors-origins")
