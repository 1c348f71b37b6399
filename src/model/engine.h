/* The engine supervisor: one child process per local model that is in use, llama.cpp's
 * `llama-server` or a command that a provider names (vLLM, SGLang). An engine is started on first
 * use, watched, restarted with backoff and stopped when idle; what happens to it costs its own
 * calls a clear error and nothing else.
 *
 * All engines belong to one loop, the supervisor's. Other loops talk to it by messages: acquire and
 * release may be called on any loop and answer there. A call leases the engine while it uses it;
 * the HTTP exchange itself is the caller's business (always streamed: a whole call to llama-server
 * goes on after its client has left). */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "base/id.h"
#include "io/loop.h"
#include "io/worker.h"

struct engines;
struct engine_lease;
struct engine_request;

enum engine_state {
#define ENGINE_STATE(name, text) ENGINE_##name,
#include "model/engine_states.h"
#undef ENGINE_STATE
    ENGINE_STATE_COUNT
};

const char *engine_state_name(enum engine_state state);

/* What to run for a model. Texts are copied. */
struct engine_spec {
    struct str key;        /* names the engine: engine_key_format */
    struct str name;       /* of the model, as callers say it */
    struct str model_file; /* GGUF, served by llama-server; empty: `command` */
    struct str sha256;     /* hex, of the file when it had this size and time; empty: not checked */
    int64_t file_bytes, file_mtime_ns;
    struct str pooling; /* of an embedding model ("mean", "cls", "last", …); empty: a chat model */
    uint32_t context_tokens;    /* of one slot */
    uint32_t slots;             /* calls served at the same time */
    uint32_t threads;           /* 0: as many as cores */
    int64_t idle_stop_ns;       /* 0: never */
    int64_t health_timeout_ns;  /* silent for so long, three times: it hangs; 0: 3 s */
    int64_t resident_bytes_max; /* 0: none; passed: the engine is killed and says why */
    bool template_has_tools;    /* the chat template can render tool definitions */
    /* A supervised command instead of a model file. */
    const struct str *command;
    size_t command_count;
    struct str base_url;    /* where the command listens, http://127.0.0.1:8000 */
    struct str health_path; /* answers 200 when ready; empty: /health */
    struct str api_key;     /* what the command expects; empty: none */
};

/* "prj_…/model/NAME", or "prj_…/command/NAME" for a provider's command: names an engine over all
 * projects. Returns the length. */
#define ENGINE_KEY_TEXT_BYTES_MAX 256
size_t engine_key_format(struct id project, bool is_command, struct str name,
                         char out[ENGINE_KEY_TEXT_BYTES_MAX]);

struct engines_options {
    struct loop *loop;           /* the supervisor's */
    struct worker_pool *workers; /* file checks run there */
    const char *directory;       /* of installed engines and sockets, data/engine; it exists */
    const char *server_path;     /* the setting; NULL: PATH, then `directory` */
};

/* Where llama-server comes from. */
struct engine_program {
    char path[512];  /* "": there is none */
    char origin[64]; /* "setting", "PATH", "Debian forky, packages", "built from source" */
    char version[64];
};

struct engines *engines_new(const struct engines_options *options);
/* On the supervisor's loop: ends all engines (TERM, KILL after 2 s), then calls `stopped`. */
void engines_stop(struct engines *engines, void (*stopped)(void *arg), void *arg);
void engines_free(struct engines *engines); /* after `stopped` */

/* Any thread. Adds an engine, or changes it: a running one goes on with the old spec until its
 * calls have ended, then starts anew. */
void engines_define(struct engines *engines, const struct engine_spec *spec);
void engines_remove(struct engines *engines, struct str key);
/* Any thread: without waiting for a call. The state tells what became of it. */
void engines_start(struct engines *engines, struct str key);
void engines_end(struct engines *engines, struct str key);
/* Any thread: looks again for llama-server, after an installation. */
void engines_find_program(struct engines *engines);

/* ---- use: on any loop; `done` comes on the same loop, exactly once, never from inside the call
 * ---- */

/* An engine that is ready. Valid while the lease is held. */
struct engine_endpoint {
    struct str url;     /* for http_client_origin: unix:/path.sock or http://127.0.0.1:8000 */
    struct str api_key; /* Authorization: Bearer; empty: none */
    uint32_t context_tokens;
    uint32_t slots;
    bool is_llama; /* llama-server with the traps that go with it */
    bool template_has_tools;
};

/* Starts the engine if need be. On failure `lease` is NULL and err tells: ENGINE_MISSING (install
 * one), MODEL_NOT_FOUND, ENGINE_FAILED (with the engine's own last words), OVERLOADED (too many
 * wait). The caller's deadline is the caller's: cancel when it passes. */
struct engine_request *engine_acquire(struct engines *engines, struct str key,
                                      void (*done)(void *arg, struct engine_lease *lease,
                                                   const struct err *err),
                                      void *arg);
/* No `done` comes any more. */
void engine_request_cancel(struct engine_request *request);
const struct engine_endpoint *engine_lease_endpoint(const struct engine_lease *lease);
/* On the loop that acquired. `broken`: the exchange failed in a way that only a dead or hung engine
 * explains; its health is checked at once. */
void engine_release(struct engine_lease *lease, bool broken);

/* ---- watching: any thread ---- */

struct engine_status {
    struct str key, name;
    enum engine_state state;
    struct str error; /* why it failed last, or empty */
    struct str url;
    int64_t resident_bytes;              /* -1: not running */
    int64_t ready_wall_ns, used_wall_ns; /* 0: not (yet) */
    uint32_t leases, restarts;
    pid_t pid;     /* 0: not running */
    bool is_llama; /* else a supervised command */
};

/* Copies of the last published states, in the arena, sorted by name. */
size_t engines_list(struct engines *engines, struct arena *arena, const struct engine_status **out);
bool engines_get(struct engines *engines, struct str key, struct arena *arena,
                 struct engine_status *out);
void engines_program(struct engines *engines, struct engine_program *out);
/* Called on the supervisor's loop after each change of a state (for the event stream). */
void engines_on_change(struct engines *engines,
                       void (*changed)(void *arg, const struct engine_status *), void *arg);
