/* What the MCP client's transports share: mcp_client.c (sessions, HTTP) and mcp_stdio.c. */
#pragma once
#include "http/sse.h"
#include "io/child.h"
#include "pipeline/tools/connector.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/tools/mcp_client.h"
#include "text/jsonrpc.h"

enum mcp_state {
    MCP_CLOSED,     /* the next request begins it */
    MCP_OPENING,    /* `initialize` is under way */
    MCP_CONFIRMING, /* `notifications/initialized` is */
    MCP_READY,
};

struct mcp_session {
    struct arena arena; /* this lies in it, with the key and the peer */
    struct pipeline_loop *loop;
    struct str key;   /* in the map */
    struct tool peer; /* url and headers: tools come and go while the session stays */
    enum mcp_state state;
    int64_t generation; /* how often it was begun */
    int64_t next_id;
    struct list requests; /* mcp_request: that wait for the session, or for their answers */
    size_t request_count;
    struct mcp_request *opener; /* `initialize`; not in the list */
    char id[256], protocol[32];
    struct mcp_child *child;              /* stdio; NULL: HTTP, or not running */
    const struct mcp_stdio_server *stdio; /* NULL: HTTP */
};

struct mcp_request {
    struct list node;
    struct mcp_session *session;
    struct arena arena; /* this lies in it */
    const char *method;
    struct str params;
    int64_t id;         /* -1: a notification */
    int64_t generation; /* the session's when it was sent */
    mcp_answered *done;
    void *arg;
    struct timer timer;
    struct task task; /* ends it, when the answer is there */
    bool posted, sent, again, is_opener;
    struct fetch *fetch;
    struct sse_parser parser;
    bool streams; /* the answer is a stream of events */
    bool answered;
    struct jsonrpc_message answer;
    struct err err;
};

/* The message as it is sent; .p NULL: too large. */
struct str mcp_encode(struct mcp_request *request);
/* A message that came: an answer to one of the session's requests, or something else. */
void mcp_take_message(struct mcp_session *session, struct str text);
/* Ends the request later, with request->err or request->answer. */
void mcp_end_soon(struct mcp_request *request);
/* All requests end with this error, and the session is begun anew by the next. */
void mcp_session_failed(struct mcp_session *session, const struct err *err);

/* ---- mcp_stdio.c ---- */
enum rc mcp_stdio_send(struct mcp_session *session, struct str message, struct err *err) MUST_CHECK;
void mcp_stdio_close(struct mcp_session *session);
