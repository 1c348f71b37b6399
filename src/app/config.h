/* capstan.yaml: the server's settings, and objects (providers, routes, keys …) that Git owns. The
 * whole file is checked before anything of it takes effect. docs/configuration.md describes every
 * member. */
#pragma once
#include "govern/applied.h"
#include "io/stream.h"
#include "pipeline/tools/presets.h"
#include "trace/trace.h"

#define CONFIG_ADDRESSES_MAX 16
#define CONFIG_PORT_DEFAULT  4100

struct mcp_stdio_server; /* pipeline/tools/mcp_client.h */

struct config_project {
    struct str name;
    struct manifest manifest;
};

struct config {
    struct arena arena;   /* everything below but the projects */
    struct arena objects; /* the projects, and the file's text and tree */
    struct str path;      /* of the file; empty: there is none */
    struct str data;      /* the data folder */
    struct address addresses[CONFIG_ADDRESSES_MAX];
    size_t address_count;
    struct str public_url;        /* how others reach it, for links; empty: as asked */
    struct str tls_cert, tls_key; /* PEM files; empty: plain */
    int loops;                    /* threads; 0: one per core */
    int workers;                  /* 0: twice the cores */
    enum trace_durability durability;
    int64_t retention_ns, retention_bytes; /* default of all projects; 0: none */
    size_t cache_bytes_max;
    struct str engine_server; /* path of llama-server; empty: PATH, then what was installed */
    struct str *http_allow;   /* globs of HOST:PORT that pipelines may reach although not public */
    size_t http_allow_count;
    struct mcp_stdio_server *mcp_servers; /* that pipelines may start */
    size_t mcp_server_count;
    struct preset_services services; /* base addresses of what presets ask */
    struct str *source_allow;        /* the same for knowledge sources */
    size_t source_allow_count;
    struct str *source_directories; /* folders below which directory sources may read */
    size_t source_directory_count;
    int64_t runs_max, project_runs_max;      /* of pipelines, under way at once; 0: no limit */
    int64_t run_queue_max;                   /* of a project, waiting for a place; 0: as it is */
    int64_t drain_ns;                        /* how long answers may go on after SIGTERM */
    struct str node_program, python_program; /* of code nodes; empty: as PATH has them */
    int code_children;                       /* 0: by the number of processors */
    struct config_project *projects;
    size_t project_count;
    size_t in_force; /* objects that stand in the database as they are here */
};

/* What the command line and the environment say; empty: what the file says, else the default. */
struct config_overrides {
    struct str data, listen;
};

/* Reads and checks the file, but for what `applied` (may be NULL) says is in force; `path` empty:
 * ./capstan.yaml if there is one, else the defaults. The message of an error is "capstan.yaml:12:
 * routes.smart.targets[0].provider: …". */
enum rc config_load(struct str path, const struct config_overrides *overrides,
                    const struct applied *applied, struct config **out, struct err *err) MUST_CHECK;
void config_free(struct config *config);
/* Writes the file's objects to the database, as its own, and deletes those that it no longer has.
 * `applied`: as config_load was given it. */
enum rc config_sync(struct db_txn *txn, const struct config *config, const struct applied *applied,
                    struct arena *arena, struct err *err) MUST_CHECK;
/* Once config_sync has been committed: its objects are what is in force, and gives back their
 * memory. The settings stay. */
void config_synced(struct config *config, struct applied *applied);
