/* The doors: /v1/…, where calls come in by HTTP. Each path's format, operation and style of errors
 * stand in the tables of door_openai.c and door_anthropic.c; door.c connects a request with a call
 * of the gateway. On loops. */
#pragma once
#include "gateway/gateway.h"
#include "http/server.h"

/* Bound of the request's body once its head is there; -1: not a door's path. */
int64_t door_admit(struct gateway_loop *gateway, struct http_request *request);
/* True when the path is a door's: it is answered, now or later. */
bool door_handle(struct gateway_loop *gateway, struct http_request *request);

/* ---- one file a door ---- */
struct door_lines; /* below */

struct door_path {
    struct str path;
    enum wire_format format;
    enum call_operation operation;
    enum call_door door;
    struct str suffix; /* call_request.path_suffix */
};

struct door {
    const struct door_path *paths;
    size_t path_count;
    /* Answers what is not a call: lists of models. NULL: none. */
    bool (*handle_other)(const struct door *door, struct gateway_loop *gateway,
                         struct http_request *request);
    /* Rate-limit headers in the door's words. */
    void (*limit_headers)(const struct limit_state *state, int64_t wall_ns,
                          struct door_lines *lines);
};

extern const struct door door_openai, door_anthropic;

/* ---- shared by them (door.c) ---- */
enum rc door_authenticate(struct http_request *request, struct principal *principal,
                          struct key **key, struct err *err) MUST_CHECK;
void door_respond_error(struct http_request *request, enum wire_format format,
                        const struct err *err);
/* Headers of an answer, gathered: one hand-over to the server instead of a dozen. What does not
 * fit, or could start another line, is left out. */
#define DOOR_LINES_BYTES 1536
struct door_lines {
    size_t n;
    char text[DOOR_LINES_BYTES];
};
void door_put(struct door_lines *lines, struct str name, struct str value);
void door_put_number(struct door_lines *lines, struct str name, int64_t value, struct str unit);
