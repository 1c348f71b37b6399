/* A test stand for calls: on one real loop a scripted upstream, the doors, and a client that asks
 * them. */
#pragma once
#include "api/door.h"
#include "base/hash.h"
#include "gateway/breaker.h"
#include "gateway/provider_table.h"
#include "gateway/slots.h"
#include "gateway/snapshot.h"
#include "http/client.h"
#include "http/server.h"
#include "io/loop.h"

#define STAND_SECRET      "cap_test_secret"
#define STAND_TARGETS_MAX 4

/* What the upstream does with a request: answers, some time. */
typedef void stand_script(struct http_request *request, int nth);

struct stand {
    struct loop *loop;
    struct http_client *client, *gateway_client;
    struct http_server *upstream, *front;
    struct listener *upstream_listener, *front_listener;
    struct gateway_loop *gateway;
    struct snapshot *snapshot;
    struct project *project;
    struct key *key;
    struct provider providers[STAND_TARGETS_MAX];
    struct target targets[STAND_TARGETS_MAX];
    struct route route;
    stand_script *script;
    int upstream_requests, upstream_gone;
    char upstream_body[65536]; /* of the last request */
    struct str upstream_headers[8];

    /* the client's last answer */
    int status;
    struct arena arena;
    struct http_headers headers;
    char body[1 << 20];
    size_t body_n, data_count;
    bool failed, stop_reading;
    struct http_exchange *exchange;

    /* the record of the last call that ended */
    struct call_record record;
    struct call_attempt attempts[CALL_ATTEMPTS_MAX];
    int records;
    char record_model[64], record_error[512], record_request[512], record_user[64];
};

/* Everything up, streams parked as soon as they flow, one route "smart" with `target_count` targets
 * p0/m0, p1/m1 … at the scripted upstream. */
struct stand *stand_new(stand_script *script, size_t target_count);
void stand_free(struct stand *stand);
/* POSTs and runs the loop until the answer is complete. */
void stand_post(struct stand *stand, const char *path, const char *body);
void stand_get(struct stand *stand, const char *path);
/* The same without waiting; stand_run waits. */
void stand_begin(struct stand *stand, const char *method, const char *path, const char *body);
void stand_run(struct stand *stand);
void stand_run_for(struct stand *stand, int64_t ns);
/* Runs until `count` records have been seen. */
void stand_run_until_records(struct stand *stand, int count);
struct str stand_header(const struct stand *stand, const char *name);
/* The snapshot's next version, so that changes of stand->route and others are seen. */
extern const char chat_body[], chat_stream_body[], chat_answer[];
