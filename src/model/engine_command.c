/* The command line and environment of an engine. Whatever llama-server does by default that a
 * server must not (8 GiB of prompt cache, a web interface, the key on the command line, as many
 * slots as it likes) is said explicitly here. */
#include "model/engine_private.h"
#include <stdlib.h>
#include <unistd.h>

#define CACHE_RAM_MIB                                                                              \
    "0" /* prompts of a conversation stay in their slot; no second cache beside it */
#define UBATCH_TOKENS 512

/* What a child may know of the server's environment: how to find programs and libraries, and which
 * devices to use. Credentials are never among it. */
static const char *const PASSED_NAMES[] = {
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_PATH",
    "CUDA_DEVICE_ORDER",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ROCM_PATH",
    "GGML_VK_VISIBLE_DEVICES",
    "ONEAPI_DEVICE_SELECTOR",
    "HF_HOME",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
};

struct builder {
    struct engine_command *out;
    struct arena *arena;
    size_t argc;
    bool failed;
};

static void add(struct builder *b, const char *text)
{
    if (!text || b->argc == ENGINE_ARGV_MAX)
        b->failed = true;
    else
        b->out->argv[b->argc++] = text;
}

static void add_str(struct builder *b, struct str text) { add(b, arena_copy(b->arena, text).p); }

static void add_pair(struct builder *b, const char *name, struct str value)
{
    add(b, name);
    add_str(b, value);
}

static void add_number(struct builder *b, const char *name, uint64_t value)
{
    add(b, name);
    add(b, arena_printf(b->arena, "%llu", (unsigned long long)value).p);
}

enum rc engine_environment(struct arena *arena, const char **envp, size_t envp_max, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < COUNT_OF(PASSED_NAMES); i++) {
        const char *value = getenv(PASSED_NAMES[i]);
        if (!value)
            continue;
        if (*count == envp_max)
            return RC_LIMIT;
        envp[*count] = arena_printf(arena, "%s=%s", PASSED_NAMES[i], value).p;
        if (!envp[(*count)++])
            return RC_LIMIT;
    }
    envp[*count] = NULL;
    return RC_OK;
}

static void add_flag(struct builder *b, const struct found_program *program, enum engine_flag flag,
                     const char *text, const char *value)
{
    if (!program->flags[flag])
        return;
    add(b, text);
    if (value)
        add(b, value);
}

static void add_llama(struct builder *b, const struct engine_spec *spec,
                      const struct found_program *program, const char *socket_path)
{
    uint32_t slots = MAX(spec->slots, 1);
    uint32_t threads = spec->threads;
    if (!threads)
        threads = (uint32_t)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1);
    add(b, program->is.path);
    add_pair(b, "--model", spec->model_file);
    add_pair(b, "--alias", spec->name);
    add_pair(b, "--host", str_from(socket_path));
    add_number(b, "--ctx-size", (uint64_t)spec->context_tokens * slots);
    add_number(b, "--parallel", slots);
    add_number(b, "--threads", threads);
    /* One thread a call, some for health and counting tokens while all slots are busy. */
    add_number(b, "--threads-http", slots + 4);
    /* Embeddings beside chat: a chat model answers both, at no cost for chat (measured). */
    add(b, "--embeddings");
    add_pair(b, "--pooling", spec->pooling.n ? spec->pooling : STR("mean"));
    if (spec->pooling.n && spec->context_tokens > UBATCH_TOKENS) {
        /* An embedding is made of one batch: a longer text would be refused. */
        add_number(b, "--ubatch-size", spec->context_tokens);
        add_number(b, "--batch-size", spec->context_tokens);
    }
    add_flag(b, program, ENGINE_FLAG_NO_UI, "--no-ui", NULL);
    if (!program->flags[ENGINE_FLAG_NO_UI])
        add_flag(b, program, ENGINE_FLAG_NO_WEBUI, "--no-webui", NULL);
    add_flag(b, program, ENGINE_FLAG_CACHE_RAM, "--cache-ram", CACHE_RAM_MIB);
    add_flag(b, program, ENGINE_FLAG_OFFLINE, "--offline", NULL);
    add_flag(b, program, ENGINE_FLAG_NO_WARMUP, "--no-warmup", NULL);
    add_flag(b, program, ENGINE_FLAG_LOG_COLORS, "--log-colors", "off");
    add_flag(b, program, ENGINE_FLAG_NO_SLOTS, "--no-slots", NULL);
    add_flag(b, program, ENGINE_FLAG_JINJA, "--jinja", NULL);
    add_flag(b, program, ENGINE_FLAG_NO_CONTEXT_SHIFT, "--no-context-shift", NULL);
    add_flag(b, program, ENGINE_FLAG_CORS_ORIGINS, "--cors-origins", "http://localhost");
}

enum rc engine_command_make(const struct engine_spec *spec, const struct found_program *program,
                            const char *socket_path, const char *api_key, struct arena *arena,
                            struct engine_command *out)
{
    struct builder b = {.out = out, .arena = arena};
    if (spec->command_count)
        for (size_t i = 0; i < spec->command_count; i++)
            add_str(&b, spec->command[i]);
    else
        add_llama(&b, spec, program, socket_path);
    out->argv[b.argc] = NULL;

    size_t count;
    enum rc rc = engine_environment(arena, out->envp, ENGINE_ENVP_MAX - 1, &count);
    if (rc)
        return rc;
    if (!spec->command_count) {
        out->envp[count] = arena_printf(arena, "LLAMA_API_KEY=%s", api_key).p;
        b.failed |= !out->envp[count++];
    }
    out->envp[count] = NULL;
    return b.failed ? RC_LIMIT : RC_OK;
}
