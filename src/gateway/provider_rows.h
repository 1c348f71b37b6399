/* The known providers: PROVIDER(name, title, base URL, path prefix, formats, credential, quirks,
 * chat's name for reasoning text, public source). Included several times, so it has no guard.
 * docs/providers.md is made from it; each row has a fixture in tests/data/providers/ and is tested
 * in test_provider_table.c. What is not written here is as OpenAI does it. */
PROVIDER("openai", "OpenAI", "https://api.openai.com/v1", "", CHAT | RESPONSES, BEARER, 0, "",
         "https://github.com/openai/openai-openapi")
PROVIDER("azure", "Azure OpenAI", "", "", CHAT | RESPONSES, API_KEY, 0, "",
         "https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle")
PROVIDER("mistral", "Mistral", "https://api.mistral.ai/v1", "", CHAT, BEARER,
         OLD_MAX_TOKENS | NO_DEVELOPER | USAGE_UNASKED | RANDOM_SEED | REQUIRED_IS_ANY |
             NO_LOGPROBS | STRICT_FIELDS | TOOL_ID_9 | THINKING_PARTS,
         "", "https://docs.mistral.ai/api/endpoint/chat")
PROVIDER("groq", "Groq", "https://api.groq.com/openai/v1", "", CHAT, BEARER,
         NO_DEVELOPER | NO_LOGPROBS | NO_N | NO_MESSAGE_NAME, "reasoning",
         "https://console.groq.com/docs/openai")
PROVIDER("together", "Together AI", "https://api.together.xyz/v1", "", CHAT, BEARER,
         OLD_MAX_TOKENS | NO_DEVELOPER | TAKES_TOP_K, "reasoning",
         "https://docs.together.ai/reference/chat-completions-1")
PROVIDER("fireworks", "Fireworks AI", "https://api.fireworks.ai/inference/v1", "", CHAT, BEARER,
         OLD_MAX_TOKENS | NO_DEVELOPER | TAKES_TOP_K, "reasoning_content",
         "https://docs.fireworks.ai/api-reference/post-chatcompletions")
PROVIDER("deepseek", "DeepSeek", "https://api.deepseek.com/v1", "", CHAT, BEARER,
         OLD_MAX_TOKENS | NO_DEVELOPER | NO_N | NO_JSON_SCHEMA, "reasoning_content",
         "https://api-docs.deepseek.com/api/create-chat-completion")
PROVIDER("xai", "xAI", "https://api.x.ai/v1", "", CHAT | RESPONSES, BEARER, REASONING_APART,
         "reasoning_content", "https://docs.x.ai/docs/api-reference")
PROVIDER("openrouter", "OpenRouter", "https://openrouter.ai/api/v1", "", CHAT, BEARER,
         NO_DEVELOPER | TAKES_TOP_K, "reasoning",
         "https://openrouter.ai/docs/api-reference/overview")
PROVIDER("vllm", "vLLM", "http://127.0.0.1:8000/v1", "", CHAT, BEARER, NO_DEVELOPER | TAKES_TOP_K,
         "reasoning", "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html")
PROVIDER("sglang", "SGLang", "http://127.0.0.1:30000/v1", "", CHAT, BEARER,
         OLD_MAX_TOKENS | NO_DEVELOPER | TAKES_TOP_K, "reasoning_content",
         "https://docs.sglang.ai/basic_usage/openai_api_completions.html")
PROVIDER("llamacpp", "llama.cpp server", "http://127.0.0.1:8080/v1", "", CHAT | ANTHROPIC, BEARER,
         OLD_MAX_TOKENS | NO_DEVELOPER | TAKES_TOP_K | LEAVES_RUNNING | USAGE_ONE_CHOICE,
         "reasoning_content",
         "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md")
PROVIDER("ollama", "Ollama", "http://127.0.0.1:11434/v1", "", CHAT, NONE,
         OLD_MAX_TOKENS | NO_DEVELOPER | NO_N | NO_TOOL_CHOICE, "reasoning",
         "https://docs.ollama.com/api/openai-compatibility")
PROVIDER("anthropic", "Anthropic", "https://api.anthropic.com", "/v1", ANTHROPIC, X_API_KEY, 0, "",
         "https://docs.claude.com/en/api/messages")
PROVIDER("engine", "local engine (llama-server, supervised)", "", "/v1", CHAT, BEARER,
         OLD_MAX_TOKENS | NO_DEVELOPER | TAKES_TOP_K | LEAVES_RUNNING | USAGE_ONE_CHOICE |
             TEMPLATE_TOOLS,
         "reasoning_content",
         "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md")
