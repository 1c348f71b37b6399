/* Pipelines as app/serve.c wires them: one `struct pipelines` for the process, one `pipeline_loop`
 * for each loop. */
#pragma once
#include "base/map.h"
#include "gateway/gateway.h"
#include "io/file.h"
#include "io/worker.h"
#include "pipeline/engine/gate.h"
#include "pipeline/tools/presets.h"
#include "pipeline/engine/run.h"

struct db;
struct mcp_stdio_server;
struct event_bus;
struct knowledge;
struct pipelines;
struct run_journal;

struct pipelines_options {
    struct db *db; /* NULL: plans come only from the caller (tests, benches) */
    struct worker_pool *workers;
    struct event_bus *events;    /* may be NULL */
    struct knowledge *knowledge; /* NULL: retrieval nodes fail */
    struct str node, python;     /* interpreters of code nodes; empty: as PATH has them */
    int code_children;           /* at most; 0: as code_pool.h says */
    struct file_system *fs;      /* of the journal; NULL: the real one */
    const char *directory;       /* of the journal; NULL: runs are not recorded (tests, benches) */
    const struct str *allowed_hosts; /* globs of HOST:PORT that HTTP nodes may reach although they
                                        are not public; the administrator's */
    size_t allowed_host_count;
    struct gate_limits limits;
    const struct mcp_stdio_server *mcp_servers; /* the configuration file's (mcp_client.h) */
    size_t mcp_server_count;
    struct preset_services services; /* that presets ask; the configuration file's */
    bool no_threads;                 /* simulation: the owner calls journal_step */
};

enum rc pipelines_open(const struct pipelines_options *options, struct pipelines **out,
                       struct err *err) MUST_CHECK;
/* The loops have stopped: what runs told the journal is written; replies are posted to the loops,
 * which must run once more. */
void pipelines_settle(struct pipelines *pipelines);
/* After that, when the pipeline_loops are freed and the loops have run what these posted. */
void pipelines_close(struct pipelines *pipelines);

/* Before the loop runs, or on it. */
struct pipeline_loop *pipeline_loop_new(struct pipelines *pipelines, struct loop *loop,
                                        struct http_client *client, struct gateway_loop *gateway);
/* Runs under way end where they are; recorded ones go on with the next process. The memory goes
 * with pipelines_close. */
void pipeline_loop_free(struct pipeline_loop *loop);
struct pipeline_loop *pipelines_loop(struct pipelines *pipelines, int index);
/* Another process takes over: recorded runs end here, where their callers are told so, and go on
 * there; the journal is let go. Blocks; a worker's thread while the loops run. */
void pipelines_release(struct pipelines *pipelines);
/* Before the loops run and connections are taken: what an earlier process left open can be asked
 * for from here on; each loop takes its runs up first of all. */
void pipelines_begin(struct pipelines *pipelines);

/* Told on the loop, once, later or from within. err NULL: `plan` is referenced for the callee. */
typedef void plan_found(void *arg, struct plan *plan, int64_t version, const struct err *err);
/* `selector`: a version's number, a label, "latest", "draft"; empty: production where that label
 * exists, else latest. `share` chooses among a label's versions. */
void plan_find(struct pipeline_loop *loop, struct id project, struct str name, struct str selector,
               uint64_t share, plan_found *found, void *arg);

struct run_index;
struct run_index *pipelines_index(struct pipelines *pipelines); /* index.h */
/* The administrator's, that tools may ask by name (mcp_client.h). */
const struct mcp_stdio_server *pipelines_mcp_servers(const struct pipelines *pipelines,
                                                     size_t *count);
const struct preset_services *pipelines_services(const struct pipelines *pipelines);
struct loop *pipeline_loop_loop(struct pipeline_loop *loop);
/* A run under way on this loop; its own thread. NULL: there is none. */
struct run *pipeline_loop_find(struct pipeline_loop *loop, struct id id);
/* An ended run as it was told to the journal; the caller frees *block. RC_NOT_FOUND, RC_CORRUPT. */
enum rc pipelines_read_run(struct pipelines *pipelines, uint64_t location, struct str *json,
                           void **block) MUST_CHECK;
/* Makes "pipeline/NAME" a model. Once, before the loops run. */
void pipelines_register_model(struct pipelines *pipelines);
