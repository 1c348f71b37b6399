/* Scripts of the mock: reading them, and the errors they name. */
#include "app/mock.h"
#include "base/clock.h"
#include <stdio.h>

void mock_script_init(struct mock_script *script)
{
    *script = (struct mock_script){
#define MOCK_NS(name, meaning)             .name = 0,
#define MOCK_INT(name, otherwise, meaning) .name = otherwise,
#define MOCK_TEXT(name, meaning)
        MOCK_SETTINGS
#undef MOCK_NS
#undef MOCK_INT
#undef MOCK_TEXT
    };
}

void mock_script_print_help(void)
{
    puts("\nSettings of a script:");
#define MOCK_NS(name, meaning)             printf("  %-14s %s\n", #name, meaning);
#define MOCK_INT(name, otherwise, meaning) printf("  %-14s %s\n", #name, meaning);
#define MOCK_TEXT(name, meaning)           printf("  %-14s %s\n", #name, meaning);
    MOCK_SETTINGS
#undef MOCK_NS
#undef MOCK_INT
#undef MOCK_TEXT
}

static enum rc set(struct mock_script *script, struct str name, struct str value, bool *known)
{
    *known = true;
#define MOCK_NS(setting, meaning)                                                                  \
    if (str_eq(name, STR(#setting)))                                                               \
        return clock_parse_duration(value, &script->setting);
#define MOCK_INT(setting, otherwise, meaning)                                                      \
    if (str_eq(name, STR(#setting)))                                                               \
        return str_to_i64(value, &script->setting);
#define MOCK_TEXT(setting, meaning)                                                                \
    if (str_eq(name, STR(#setting))) {                                                             \
        script->setting = value;                                                                   \
        return RC_OK;                                                                              \
    }
    MOCK_SETTINGS
#undef MOCK_NS
#undef MOCK_INT
#undef MOCK_TEXT
    *known = false;
    return RC_INVALID;
}

/* The part before the next separator. */
static bool next_pair(struct str *rest, struct str *pair)
{
    if (rest->n == 0)
        return false;
    size_t n = 0;
    while (n < rest->n && !memchr("&;,", rest->p[n], 3))
        n++;
    *pair = str_trim(str_slice(*rest, 0, n));
    *rest = str_slice(*rest, n + 1, rest->n);
    return true;
}

enum rc mock_script_parse(struct mock_script *script, struct str text, struct arena *arena,
                          struct err *err)
{
    struct str pair;
    while (next_pair(&text, &pair)) {
        if (pair.n == 0)
            continue;
        struct str value = pair, name = STR_EMPTY;
        bool known = false;
        str_split(&value, '=', &name);
        value = http_percent_decode(value, true, arena);
        if (!value.p)
            value = STR("");
        if (set(script, name, value, &known) != RC_OK)
            return err_set(err, ERR_INVALID,
                           known ? "script: \"%.*s\" has a value that does not fit"
                                 : "script: there is no setting \"%.*s\"",
                           STR_ARG(name));
    }
    return RC_OK;
}

static const struct mock_error errors[] = {
    {429, 429, "rate", "requests", "rate_limit_exceeded", "rate_limit_error",
     "Rate limit reached for requests. Please try again later."},
    {429, 429, "quota", "insufficient_quota", "insufficient_quota", "rate_limit_error",
     "You exceeded your current quota, please check your plan and billing details."},
    {503, 529, "overload", "server_error", "overloaded", "overloaded_error", "Overloaded"},
    {400, 400, "context", "invalid_request_error", "context_length_exceeded",
     "invalid_request_error",
     "prompt is too long: this model's maximum context length is 8192 tokens."},
    {400, 400, "filter", "invalid_request_error", "content_filter", "invalid_request_error",
     "The response was filtered due to the prompt triggering the content management policy."},
    {401, 401, "auth", "invalid_request_error", "invalid_api_key", "authentication_error",
     "Incorrect API key provided."},
    {404, 404, "model", "invalid_request_error", "model_not_found", "not_found_error",
     "The model does not exist or you do not have access to it."},
    {400, 400, "invalid", "invalid_request_error", "invalid_value", "invalid_request_error",
     "The request is not valid."},
    {500, 500, "server", "server_error", "internal_error", "api_error",
     "The server had an error while processing your request."},
};

const struct mock_error *mock_error_of(const struct mock_script *script)
{
    const struct mock_error *server = &errors[COUNT_OF(errors) - 1];
    for (size_t i = 0; script->error.n && i < COUNT_OF(errors); i++)
        if (str_eq(script->error, str_from(errors[i].kind)))
            return &errors[i];
    if (script->status == 0)
        return script->error.n ? server : NULL;
    for (size_t i = 0; i < COUNT_OF(errors); i++)
        if (errors[i].status == script->status || errors[i].anthropic_status == script->status)
            return script->status == 400 ? &errors[COUNT_OF(errors) - 2] : &errors[i];
    return server;
}
