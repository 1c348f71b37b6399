/* What the engine's files share: engine.c (states), engine_program.c (which llama-server, and what
 * it can do), engine_command.c (its command line and environment). Everything here is used on the
 * supervisor's loop only, but `published`, which board_lock protects. */
#pragma once
#include "http/client.h"
#include "io/child.h"
#include "model/engine.h"
#include <pthread.h>
#include <sys/un.h>

#define ENGINE_MAGIC            0x656e676e
#define ENGINE_ERROR_BYTES_MAX  ERR_MESSAGE_BYTES_MAX
#define ENGINE_WAITING_MAX      1000 /* calls that wait for one engine */
#define ENGINE_WORDS_MAX        8    /* of its output, kept to explain a failure */
#define ENGINE_WORD_BYTES_MAX   256
#define ENGINE_KEY_BYTES        32 /* of randomness in a start's secret */
#define ENGINE_SOCKET_BYTES_MAX (sizeof(((struct sockaddr_un *)0)->sun_path))

/* Arguments that only some versions know; what --help lists is used. */
enum engine_flag {
#define ENGINE_FLAG(name, text) ENGINE_FLAG_##name,
#include "model/engine_flags.h"
#undef ENGINE_FLAG
    ENGINE_FLAG_COUNT
};

/* ---- engine_program.c ---- */

struct program_search; /* a running search */

struct found_program {
    struct engine_program is;
    bool flags[ENGINE_FLAG_COUNT];
    char error[ENGINE_ERROR_BYTES_MAX]; /* why there is none */
};

/* Looks for llama-server, runs its --version and --help, and calls `found` once. */
struct program_search *program_search_start(struct loop *loop, const char *setting,
                                            const char *directory,
                                            void (*found)(void *arg, const struct found_program *),
                                            void *arg);
/* Kills what it runs: `found` comes soon. */
void program_search_hurry(struct program_search *search);

/* ---- engine_command.c ---- */

#define ENGINE_ARGV_MAX 64
#define ENGINE_ENVP_MAX 32

/* argv and envp for a child, in the arena; both end with NULL. */
struct engine_command {
    const char *argv[ENGINE_ARGV_MAX + 1];
    const char *envp[ENGINE_ENVP_MAX + 1];
};

enum rc engine_command_make(const struct engine_spec *spec, const struct found_program *program,
                            const char *socket_path, const char *api_key, struct arena *arena,
                            struct engine_command *out) MUST_CHECK;
/* The environment that children of ours get: a few names of the server's own, and nothing else. */
enum rc engine_environment(struct arena *arena, const char **envp, size_t envp_max,
                           size_t *count) MUST_CHECK;

/* ---- engine_check.c ---- */

/* Compares a model file with what is on record, on a worker. */
struct file_check {
    struct work work;
    char *path;
    struct str sha256;                 /* hex; empty: only that the file is there */
    int64_t file_bytes, file_mtime_ns; /* on record */
    void (*done)(struct file_check *check);
    void *arg;
    struct err err; /* ERR_NONE: the file is as recorded */
    int64_t seen_bytes, seen_mtime_ns;
};
void file_check_run(struct work *work);

/* ---- objects ---- */

struct endpoint_texts {
    char url[ENGINE_SOCKET_BYTES_MAX + 64];
    char api_key[ENGINE_KEY_BYTES * 2 + 1];
};

/* What other threads may see of an engine: a copy, made by engine_publish. */
struct published {
    enum engine_state state;
    char error[ENGINE_ERROR_BYTES_MAX];
    char url[ENGINE_SOCKET_BYTES_MAX + 64];
    int64_t resident_bytes, ready_wall_ns, used_wall_ns;
    uint32_t leases, restarts;
    pid_t pid;
};

struct engine {
    uint32_t magic;
    struct list node; /* engines->list */
    struct engines *owner;
    struct engine_spec spec; /* texts in `arena` */
    struct arena arena;
    struct arena *next_arena; /* a new spec that waits for the engine to stop; NULL: none */
    struct engine_spec next_spec;
    enum engine_state state;
    bool start_again; /* wanted while it was stopping */
    bool stop_wanted; /* while a worker still reads its file */
    bool remove;      /* to be freed when stopped */

    struct child *child;
    struct http_exchange *health; /* under way, or NULL */
    int health_status;
    uint32_t health_failures; /* in a row */
    struct file_check *check; /* on a worker, or NULL */
    struct timer timer;       /* what is due next in this state */
    struct endpoint_texts endpoint;
    uint32_t generation; /* of the child: leases of earlier ones do not count */
    uint32_t leases;     /* of this generation */
    uint32_t
        references;    /* leases of all generations: the engine is not freed while there are any */
    uint32_t failures; /* starts in a row that never became ready, or ended soon */
    uint32_t restarts;
    int64_t started_ns, ready_ns, used_ns; /* monotonic */
    int64_t ready_wall_ns, used_wall_ns;
    struct list waiting; /* engine_request.node */
    size_t waiting_count;
    char words[ENGINE_WORDS_MAX][ENGINE_WORD_BYTES_MAX]; /* ring of its last telling lines */
    uint32_t word_count;
    char error[ENGINE_ERROR_BYTES_MAX];
    enum err_code error_code;

    struct published published; /* under owner->board_lock */
};

struct engines {
    struct loop *loop;
    struct worker_pool *workers;
    struct http_client *client;
    char *directory, *server_path, *run_directory;
    struct list list;
    struct program_search *search; /* under way, or NULL */
    struct found_program program;
    bool program_known;
    bool stopping;
    void (*stopped)(void *arg);
    void *stopped_arg;
    void (*changed)(void *arg, const struct engine_status *status);
    void *changed_arg;

    pthread_mutex_t
        board_lock; /* list membership for readers, published copies, program_published */
    struct engine_program program_published;
};

/* A call that wants an engine: made on `home`, answered there, held by the supervisor in between.
 */
struct engine_request {
    struct task task;
    struct list node;
    struct engines *engines;
    struct loop *home;
    char *key;
    bool cancelled; /* home's thread only */
    void (*done)(void *arg, struct engine_lease *lease, const struct err *err);
    void *arg;
    struct engine_lease *lease;
    struct err err;
};

struct engine_lease {
    struct task task;
    struct engines *engines;
    struct engine *engine; /* lives while it has leases of any generation: `references` */
    uint32_t generation;
    bool broken;
    struct engine_endpoint endpoint;
    struct endpoint_texts texts;
};

/* ---- states: engine.c ---- */

void engine_init(struct engine *engine, struct engines *owner);
void engine_program_changed(struct engine *engine); /* a search for llama-server began or ended */
/* A new spec waits in next_arena: takes it at once, or stops the engine first. */
void engine_spec_changed(struct engine *engine);
/* The calls that wait get an error. */
void engine_refuse_waiting(struct engine *engine, enum err_code code, const char *message);

/* On the supervisor's loop. */
void engine_want(struct engine *engine);                  /* starts it if need be */
void engine_stop(struct engine *engine, const char *why); /* on purpose; `why` goes to the log */
void engine_admit(struct engine *engine,
                  struct engine_request *request); /* leases, queues or fails */
void engine_return(struct engine *engine, uint32_t generation, bool broken);

/* ---- engines.c ---- */

/* After it came to rest: frees one that was removed; ends the supervisor's own stop. */
void engine_rested(struct engine *engine);
/* The spec that waits becomes the engine's. */
void engine_take_spec(struct engine *engine);
/* Copies what others may see, and tells the listener when the state changed. */
void engine_publish(struct engine *engine);
/* Ends the request with a lease of a ready engine, or with request->err. */
void engine_request_answer(struct engine_request *request, struct engine *engine);

/* SHA-256 of a file in pieces, as lower-case hex; blocks. */
enum rc file_sha256(const char *path, char out[65], struct err *err) MUST_CHECK;
