/* MCP over the standard streams of a child: one message a line. The child is started when it is
 * first needed, and again by the next request after it has ended; what it writes to its standard
 * error goes to the log. */
#include "base/clock.h"
#include "base/log.h"
#include "pipeline/tools/mcp_private.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define END_GRACE_NS  (2 * NS_PER_S)
#define OUT_BYTES_MAX (16 * 1024 * 1024)

struct mcp_child {
    struct mcp_session *session; /* NULL: nobody wants it any more */
    struct loop *loop;
    struct child *child;
    struct watch out;
    bool watched;
    struct buf unsent, line; /* line: of the child's, what is there of it */
    bool too_long;
};

static void stop_writing(struct mcp_child *child)
{
    if (child->watched)
        loop_unwatch(child->loop, &child->out);
    child->watched = false;
}

static void write_some(struct mcp_child *child)
{
    while (buf_len(&child->unsent)) {
        struct str rest = buf_str(&child->unsent);
        ssize_t n = write(child_stdin(child->child), rest.p, rest.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            buf_clear(&child->unsent); /* it has closed its input: its end is told */
        if (n < 0)
            break;
        buf_consume(&child->unsent, (size_t)n);
    }
    bool more = buf_len(&child->unsent) > 0;
    if (!more) {
        stop_writing(child);
    } else if (!child->watched) {
        enum rc rc = loop_watch(child->loop, &child->out, LOOP_WRITE);
        child->watched = rc == RC_OK;
    }
}

static void on_writable(struct watch *watch, unsigned events)
{
    UNUSED(events);
    write_some(CONTAINER_OF(watch, struct mcp_child, out));
}

/* A long line comes in pieces of CHILD_LINE_BYTES_MAX; a shorter one ends it. */
static void on_line(void *owner, struct child *from, bool is_stderr, struct str line)
{
    struct mcp_child *child = owner;
    UNUSED(from);
    if (!child->session)
        return;
    if (is_stderr) {
        log_event(LOG_DEBUG, "mcp_server_said", LOG_STR("server", child->session->stdio->name),
                  LOG_STR("line", line));
        return;
    }
    child->too_long |= buf_append(&child->line, line) != RC_OK;
    if (line.n == CHILD_LINE_BYTES_MAX)
        return;
    if (!child->too_long && buf_len(&child->line))
        mcp_take_message(child->session, buf_str(&child->line));
    child->too_long = false;
    buf_clear(&child->line);
}

static void on_ended(void *owner, struct child *from, int status, const char *reason)
{
    struct mcp_child *child = owner;
    struct mcp_session *session = child->session;
    UNUSED(from);
    stop_writing(child);
    if (session) {
        struct err err = {0};
        err_set(&err, ERR_UPSTREAM, "the MCP server '%.*s' has ended",
                STR_ARG(session->stdio->name));
        log_event(LOG_WARN, "mcp_server_ended", LOG_STR("server", session->stdio->name),
                  LOG_I64("status", status), LOG_Z("reason", reason ? reason : ""));
        session->child = NULL;
        mcp_session_failed(session, &err);
    }
    buf_fini(&child->unsent);
    buf_fini(&child->line);
    free(child);
}

static enum rc start(struct mcp_session *session, struct err *err)
{
    static const struct child_owner calls = {on_line, on_ended};
    const struct child_options options = {
        .argv = session->stdio->argv, .envp = session->stdio->envp, .stdin_pipe = true};
    struct mcp_child *child = xcalloc(1, sizeof(*child));
    child->session = session;
    child->loop = session->loop->loop;
    buf_init(&child->unsent, OUT_BYTES_MAX);
    buf_init(&child->line, FETCH_BODY_BYTES_MAX);
    child->child = child_start(child->loop, &options, &calls, child, err);
    if (!child->child) {
        free(child);
        return err->rc;
    }
    child->out = (struct watch){.fd = child_stdin(child->child), .ready = on_writable};
    session->child = child;
    return RC_OK;
}

enum rc mcp_stdio_send(struct mcp_session *session, struct str message, struct err *err)
{
    enum rc rc = session->child ? RC_OK : start(session, err);
    if (rc != RC_OK)
        return rc;
    struct mcp_child *child = session->child;
    if (buf_append(&child->unsent, message) != RC_OK ||
        buf_append(&child->unsent, STR("\n")) != RC_OK)
        return err_set(err, ERR_OVERLOADED, "the MCP server does not read what it is sent");
    write_some(child);
    return RC_OK;
}

void mcp_stdio_close(struct mcp_session *session)
{
    struct mcp_child *child = session->child;
    session->child = NULL;
    if (!child)
        return;
    child->session = NULL;
    child_end(child->child, END_GRACE_NS);
}
