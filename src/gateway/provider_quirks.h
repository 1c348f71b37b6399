/* QUIRK(name, what is different, for people). Included several times, so it has no guard. */
QUIRK(OLD_MAX_TOKENS, "takes `max_tokens`, not `max_completion_tokens`: renamed")
QUIRK(NO_DEVELOPER, "does not know the role `developer`: sent as `system`")
QUIRK(USAGE_UNASKED, "refuses `stream_options` and sends usage at the end of each stream by itself")
QUIRK(RANDOM_SEED, "calls `seed` `random_seed`")
QUIRK(REQUIRED_IS_ANY, "calls the tool choice `required` `any`")
QUIRK(NO_LOGPROBS, "does not give log probabilities: `logprobs: true` is refused")
QUIRK(NO_N, "gives one choice only: `n` above 1 is refused")
QUIRK(NO_MESSAGE_NAME, "refuses `name` in messages: removed")
QUIRK(NO_JSON_SCHEMA, "knows `response_format: json_object` only: a schema is refused")
QUIRK(NO_TOOL_CHOICE, "ignores `tool_choice`: `required` and named tools are refused")
QUIRK(STRICT_FIELDS, "refuses fields that it does not know: OpenAI's own are removed")
QUIRK(TOOL_ID_9, "wants tool call ids of nine letters and digits: made from the original's hash")
QUIRK(THINKING_PARTS, "gives reasoning as content parts of type `thinking`")
QUIRK(REASONING_APART, "does not count reasoning in `completion_tokens`")
QUIRK(LEAVES_RUNNING,
      "goes on with a whole answer after its client has left: always asked for a stream")
QUIRK(USAGE_ONE_CHOICE,
      "reports the usage of one choice where `n` is above 1: added up from its timings")
QUIRK(TEMPLATE_TOOLS,
      "drops tools silently where the model's template has none: emulated by a schema")
QUIRK(TAKES_TOP_K, "takes `top_k`, which OpenAI does not know")
