/* Streams over real sockets: an echo server and clients on one loop, closing in every way. */
#include "base/clock.h"
#include "io/stream.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static struct loop *loop;

/* ---- an echo server that never holds more than it read ---- */

struct echo {
    struct stream *stream;
    char held[4096];
    size_t start, end;
};
static int echoes_open;

static void echo_ready(void *owner, struct stream *stream, unsigned events)
{
    struct echo *echo = owner;
    enum rc rc = RC_OK;
    while (rc == RC_OK) {
        if (echo->start == echo->end) {
            echo->start = 0;
            rc = stream_read(stream, echo->held, sizeof(echo->held), &echo->end);
            if (rc != RC_OK)
                echo->end = 0;
        } else {
            struct iovec part = {echo->held + echo->start, echo->end - echo->start};
            size_t n;
            rc = stream_write(stream, &part, 1, &n);
            echo->start += n;
        }
    }
    if (rc == RC_AGAIN)
        return;
    echoes_open--;
    stream_close(stream);
    free(echo);
}

static void echo_accepted(void *arg, struct stream *stream)
{
    static const struct stream_owner calls = {.ready = echo_ready};
    struct echo *echo = xcalloc(1, sizeof(*echo));
    echo->stream = stream;
    echoes_open++;
    stream_set_owner(stream, &calls, echo);
}

/* ---- a client that sends `total` bytes in random parts and checks what comes back ---- */

struct client {
    struct stream *stream;
    size_t total, sent, received;
    bool failed;
    struct err err;
};

static char pattern(size_t i) { return (char)(i * 7 + i / 251); }

static bool client_write(struct client *client)
{
    while (client->sent < client->total) {
        char bytes[3000];
        size_t n = MIN(sizeof(bytes), client->total - client->sent);
        for (size_t i = 0; i < n; i++)
            bytes[i] = pattern(client->sent + i);
        struct iovec parts[2] = {{bytes, n / 3}, {bytes + n / 3, n - n / 3}};
        size_t written;
        enum rc rc = stream_write(client->stream, parts, 2, &written);
        if (rc != RC_OK)
            return rc == RC_AGAIN;
        client->sent += written;
    }
    return true;
}

static bool client_read(struct client *client)
{
    char bytes[5000];
    size_t n;
    enum rc rc;
    while ((rc = stream_read(client->stream, bytes, sizeof(bytes), &n)) == RC_OK) {
        for (size_t i = 0; i < n; i++)
            if (bytes[i] != pattern(client->received + i))
                return false;
        client->received += n;
    }
    return rc == RC_AGAIN;
}

static void client_ready(void *owner, struct stream *stream, unsigned events)
{
    struct client *client = owner;
    if (!client_read(client) || !client_write(client))
        client->failed = true;
    if (client->failed || client->received == client->total) {
        stream_close(stream);
        client->stream = NULL;
        loop_stop(loop);
    }
}

static void client_connected(void *arg, struct stream *stream, const struct err *err)
{
    static const struct stream_owner calls = {.ready = client_ready};
    struct client *client = arg;
    if (stream == NULL) {
        client->failed = true;
        client->err = *err;
        loop_stop(loop);
        return;
    }
    assert_null(err);
    client->stream = stream;
    stream_set_owner(stream, &calls, client);
    if (!client_write(client))
        client->failed = true;
}

static void stop(struct timer *timer) { loop_stop(loop); }

static void run_for(int64_t ns)
{
    struct timer timer;
    timer_init(&timer, stop);
    timer_start(loop, &timer, ns);
    loop_run(loop);
}

static void transfers(struct str address_text, size_t total)
{
    struct address address;
    struct err err;
    assert_int_equal(address_parse(address_text, 0, &address), RC_OK);
    struct listener *listener = listener_new(loop, &address, NULL, echo_accepted, NULL, &err);
    assert_non_null(listener);
    address.port = listener_port(listener);
    struct client client = {.total = total};
    struct connect_options options = {.address = address, .timeout_ns = NS_PER_S};
    stream_connect(loop, &options, client_connected, &client);
    loop_run(loop);
    assert_false(client.failed);
    assert_int_equal(client.received, total);
    listener_close(listener);
    for (int i = 0; i < 100 && echoes_open; i++)
        run_for(2 * NS_PER_MS);
    assert_int_equal(echoes_open, 0);
}

static void over_tcp(void **state)
{
    transfers(STR("127.0.0.1:0"), 1);
    transfers(STR("127.0.0.1:0"), 5000000);
    transfers(STR("localhost:0"), 1000);
}

static void over_tcp6(void **state) { transfers(STR("[::1]:0"), 100000); }

static void over_unix(void **state)
{
    char path[64];
    snprintf(path, sizeof(path), "unix:/tmp/capstan-test-%d.sock", (int)getpid());
    transfers(str_from(path), 3000000);
    transfers(str_from(path), 10); /* the path left behind is taken over */
    unlink(path + 5);
}

static void fails_clearly(struct connect_options *options, enum err_code code)
{
    struct client client = {.total = 1};
    stream_connect(loop, options, client_connected, &client);
    loop_run(loop);
    assert_true(client.failed);
    assert_int_equal(client.err.code, code);
    assert_true(client.err.message[0] != '\0');
}

static void connect_failures(void **state)
{
    struct address any = {.kind = ADDRESS_TCP, .host = STR("127.0.0.1")};
    struct listener *listener = listener_new(loop, &any, NULL, echo_accepted, NULL, NULL);
    any.port = listener_port(listener);
    struct connect_options options = {.address = any, .timeout_ns = NS_PER_S, .public_only = true};
    fails_clearly(&options, ERR_FORBIDDEN);
    options.address.host = STR("localhost");
    fails_clearly(&options, ERR_FORBIDDEN);
    listener_close(listener);
    options.public_only = false;
    fails_clearly(&options, ERR_UPSTREAM);
    options.address = (struct address){.kind = ADDRESS_UNIX, .host = STR("/nonexistent/x.sock")};
    fails_clearly(&options, ERR_UPSTREAM);
}

static void cancelled(void *arg, struct stream *stream, const struct err *err) { fail(); }

static void cancel_tells_nothing(void **state)
{
    struct address any = {.kind = ADDRESS_TCP, .host = STR("127.0.0.1"), .port = 9};
    struct connect_options options = {.address = any, .timeout_ns = NS_PER_S};
    stream_connect_cancel(stream_connect(loop, &options, cancelled, NULL));
    options.address.host = STR("localhost");
    stream_connect_cancel(stream_connect(loop, &options, cancelled, NULL));
    run_for(20 * NS_PER_MS);
}

static void listen_failures(void **state)
{
    struct err err;
    struct address address = {.kind = ADDRESS_TCP, .host = STR("127.0.0.1")};
    struct listener *listener = listener_new(loop, &address, NULL, echo_accepted, NULL, &err);
    address.port = listener_port(listener);
    assert_null(listener_new(loop, &address, NULL, echo_accepted, NULL, &err));
    assert_int_equal(err.code, ERR_CONFLICT);
    struct loop *other = loop_new(1); /* another loop of the server shares the port */
    struct listener *shared = listener_new(other, &address, NULL, echo_accepted, NULL, &err);
    assert_non_null(shared);
    listener_close(shared);
    loop_free(other);
    listener_close(listener);
    address.host = STR("203.0.113.1");
    assert_null(listener_new(loop, &address, NULL, echo_accepted, NULL, &err));
    assert_int_equal(err.code, ERR_INVALID);
}

int main(void)
{
    loop = loop_new(0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_tcp),
        cmocka_unit_test(over_tcp6),
        cmocka_unit_test(over_unix),
        cmocka_unit_test(connect_failures),
        cmocka_unit_test(cancel_tells_nothing),
        cmocka_unit_test(listen_failures),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    loop_free(loop);
    return failed;
}
