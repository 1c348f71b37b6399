/* A loop, a server with a few handlers, and a client for it, for the tests of src/http. */
#pragma once
#include "../test.h"
#include "http/client.h"
#include "http/server.h"

struct rig {
    struct loop *loop;
    struct listener *listener;
    struct http_server *server;
    struct http_client *client;
    char url[64];
    unsigned handled, gone, ended;
    size_t stops; /* times a handler was told STOP */
    struct timer limit, check;
    const bool *until;
};

/* /whole "hello"; /echo the body; /later after 2 ms; /stream five parts, 1 ms apart; /big?N N
 * bytes, streamed as fast as they go; /large?N N bytes, whole; /hang never; /abort breaks off;
 * /close asks the client to be refused by admit (413); /info what the request says. */
void rig_init(struct rig *rig, struct loop *loop, const struct http_server_options *options);
void rig_fini(struct rig *rig);
/* Runs the loop until *until is true; fails the test after ten seconds. */
void rig_run(struct rig *rig, const bool *until);

/* ---- bytes in, bytes out ---- */
struct talk {
    struct stream *stream;
    struct connecting *connecting;
    struct str in; /* to be sent in pieces of piece_bytes, each in its own turn */
    size_t piece_bytes, sent;
    char *out; /* what came back, NUL-terminated */
    size_t out_bytes;
    bool closed; /* by the other side */
    bool paused; /* reads nothing */
    bool shut;   /* sends FIN behind the last byte */
    struct rig *rig;
    struct timer timer;
    size_t out_wanted; /* > 0: `enough` when so much came */
    bool enough;
};

void talk_start(struct talk *talk, struct rig *rig, const char *in, size_t piece_bytes);
void talk_end(struct talk *talk);
/* Start, wait until the server closes, end: *out is to be freed. */
char *talk_whole(struct rig *rig, const char *in, size_t piece_bytes);

/* ---- the client's side ---- */
struct fetch {
    struct http_exchange *exchange;
    int status;
    char *body;
    size_t body_bytes;
    char type[64];
    bool done, failed, reused;
    struct err err;
    enum proceed answer; /* what `data` says */
    bool cancel_in_head, cancel_in_data;
    bool cancelled;
    int64_t head_ns, between_ns; /* deadlines, 0: five seconds */
};
extern const struct http_exchange_owner fetch_calls;

void fetch_start(struct fetch *fetch, struct http_origin *origin, const char *method,
                 const char *path, struct str body);
void fetch_run(struct rig *rig, struct fetch *fetch, struct http_origin *origin, const char *method,
               const char *path, struct str body);
void fetch_fini(struct fetch *fetch);
struct http_origin *rig_origin(struct rig *rig);
