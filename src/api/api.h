/* The management interface, /api/…: the frame in which handlers run.
 *
 * A request is matched against the route table (routes.h), its principal resolved from the
 * snapshot, permission and CSRF token checked, all on the loop; then the handler runs as a plain
 * synchronous function where its kind says: on a worker (READ, WORK), inside the control writer's
 * transaction (WRITE), or on the loop itself (LOOP, which answers by its own means). A handler
 * decodes, authorises, calls the domain and encodes; it has no logic of its own.
 *
 * A handler owns nothing: everything it needs and makes lives in `call->arena`, which outlives the
 * client's connection. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "gateway/snapshot.h"
#include "govern/principal.h"
#include "http/server.h"
#include "store/audit.h"
#include <yyjson.h>

struct db;
struct db_txn;
struct http_client;
struct gateway_loop;
struct trace_store;
struct engines;
struct models;
struct jobs;
struct worker_pool;
struct event_bus;
struct pipelines;
struct knowledge;

/* What handlers may call: made once by app/serve.c, the same for all loops. */
struct api_services {
    struct db *db;
    struct trace_store *trace;
    struct engines *engines;
    struct models *models;
    struct jobs *jobs;
    struct worker_pool *workers;
    struct event_bus *events;
    struct pipelines *pipelines;
    struct triggers *triggers;
    struct knowledge *knowledge;
    int64_t started_wall_ns;
    int loops;
    struct str data_directory, config_path; /* config_path empty: there is no file */
    struct str addresses[16];               /* as bound, for people */
    size_t address_count;
    enum rc (*reload)(struct api_services *services, struct err *err);  /* as SIGHUP; worker */
    enum rc (*upgrade)(struct api_services *services, struct err *err); /* as SIGUSR2; worker */
};

enum api_kind {
    API_READ,  /* worker, with a read transaction */
    API_WRITE, /* control writer, inside a transaction that is rolled back unless RC_OK */
    API_WORK,  /* worker, without a database: may block */
    API_LOOP,  /* the request's loop: `handle` gets it whole and answers itself */
};

#define API_PARAMS_MAX 4

struct api_call {
    struct api_services *services;
    const struct principal *principal; /* NULL only for public routes */
    struct arena *arena;
    struct str path, query;
    struct str params[API_PARAMS_MAX]; /* the pattern's {…}, decoded, in order */
    struct str raw_body, body_type;    /* body_type: its content type */
    struct str body_coding;            /* its content coding; the handler undoes it */
    enum capture capture;              /* of what the key stores: never CAPTURE_INHERIT */
    yyjson_val *body;                  /* parsed JSON object; NULL: there was none, or it is none */
    struct str *access_tags;           /* of the key that asks, "NAME=VALUE" */
    size_t access_tag_count;
    bool all_access;    /* a person, or a key that may change knowledge: sees every document */
    struct db_txn *txn; /* READ and WRITE */
    struct http_client *client;   /* LOOP: the loop's own */
    struct gateway_loop *gateway; /* LOOP */
    struct str client_ip, client_agent, cookie_session, base_url;
    bool tls;

    /* the answer */
    int status;              /* 200 unless set; 204 without an answer */
    yyjson_mut_doc *doc;     /* allocates from the arena */
    yyjson_mut_val *answer;  /* root value, or NULL */
    struct str content_type; /* set with raw_answer instead of JSON */
    struct str raw_answer;
    struct str set_cookie; /* whole header value, or empty */
    bool roll_back;        /* WRITE: answer, but undo what was written (a dry run) */
    struct err err;        /* filled when the handler fails */
};

typedef enum rc api_handler(struct api_call *call);

/* ---- helpers for handlers ---- */

/* Query values: empty when absent; a number that is none is ERR_BAD_FIELD naming it. */
struct str api_query(struct api_call *call, const char *name);
enum rc api_query_i64(struct api_call *call, const char *name, int64_t absent,
                      int64_t *out) MUST_CHECK;
/* `limit` (default 50, at most LIMIT_LIST_ITEMS). */
enum rc api_query_limit(struct api_call *call, size_t *out) MUST_CHECK;
/* The body, or ERR_MISSING_FIELD when there is none. */
enum rc api_need_body(struct api_call *call) MUST_CHECK;
/* Who makes the change, for the audit log. */
struct actor api_actor(const struct api_call *call);
/* Begins {"items": […], "next_cursor": …}; returns the array. An empty cursor becomes null. */
yyjson_mut_val *api_list_begin(struct api_call *call);
void api_list_end(struct api_call *call, struct str next_cursor);
/* Adds to object `o`: ISO time with milliseconds (0: null), exact dollars (COST_UNKNOWN: null),
 * milliseconds from ns (< 0: null), typed id (zero: null), text (.p NULL: null). */
void api_put_time(struct api_call *call, yyjson_mut_val *o, const char *key, int64_t wall_ns);
void api_put_cost(struct api_call *call, yyjson_mut_val *o, const char *key, __int128 pico);
void api_put_ms(struct api_call *call, yyjson_mut_val *o, const char *key, int64_t ns);
void api_put_id(struct api_call *call, yyjson_mut_val *o, const char *key, const char *prefix,
                struct id id);
void api_put_str(struct api_call *call, yyjson_mut_val *o, const char *key, struct str s);

/* The summary of a call that has ended, as an event. Its loop. */
struct event_bus;
void api_publish_call(struct event_bus *events, const struct call_record *record);

/* ---- the frame ---- */

struct api_loop; /* one per loop */
struct api_loop *api_loop_new(struct loop *loop, struct api_services *services,
                              struct http_client *client, struct gateway_loop *gateway);
void api_loop_free(struct api_loop *api);
/* Bound of the request's body once its head is there; -1: not of this interface. */
int64_t api_admit(const struct http_request *request);
/* True when the path is below /api/, or of an object that OpenAI's clients manage
 * (door_routes.h); it is answered now or later. */
bool api_handle(struct api_loop *api, struct http_request *request);

/* Who asks: Authorization: Bearer KEY (or x-api-key), else the session cookie. On success *out is
 * copied, texts live in the snapshot. `csrf_checked`: unsafe methods by cookie need the token.
 * Doors use it too. `key` is NULL when a session asked. */
enum rc api_authenticate(const struct http_request *request, const struct snapshot *snapshot,
                         struct principal *out, struct key **key, struct err *err) MUST_CHECK;
/* A cookie's value, or empty. */
struct str api_request_cookie(const struct http_request *request, struct str name);
