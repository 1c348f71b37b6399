/* TLS streams: transfers, resumption, certificate checks, ALPN, ends with and without close_notify.
 */
#include "base/clock.h"
#include "io/tls_private.h"
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static struct loop *loop;
static char cert_path[64], key_path[64];
static struct tls_context *server_tls, *client_tls;

/* A self-signed certificate for localhost and 127.0.0.1. */
static void make_certificate(void)
{
    snprintf(cert_path, sizeof(cert_path), "/tmp/capstan-test-%d.crt", (int)getpid());
    snprintf(key_path, sizeof(key_path), "/tmp/capstan-test-%d.key", (int)getpid());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_EXTENSION *names =
        X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    X509_add_ext(cert, names, -1);
    X509_EXTENSION_free(names);
    ASSERT(X509_sign(cert, key, EVP_sha256()) > 0);
    FILE *file = fopen(cert_path, "w");
    PEM_write_X509(file, cert);
    fclose(file);
    file = fopen(key_path, "w");
    PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
}

/* ---- a server that sends back what it gets, in parts ---- */

struct echo {
    struct stream *stream;
    char held[50000];
    size_t start, end;
};
static int echoes_open;
static enum rc echo_end;
static bool echo_pauses; /* does not read */
static struct echo *last_echo;

static void echo_ready(void *owner, struct stream *stream, unsigned events)
{
    struct echo *echo = owner;
    enum rc rc = RC_OK;
    while (rc == RC_OK && !echo_pauses) {
        if (echo->start == echo->end) {
            echo->start = 0;
            rc = stream_read(stream, echo->held, sizeof(echo->held), &echo->end);
            if (rc != RC_OK)
                echo->end = 0;
        } else {
            size_t n = echo->end - echo->start;
            struct iovec parts[3] = {{echo->held + echo->start, n / 5},
                                     {echo->held + echo->start + n / 5, n / 2},
                                     {echo->held + echo->start + n / 5 + n / 2, n - n / 5 - n / 2}};
            rc = stream_write(stream, parts, 3, &n);
            echo->start += n;
        }
    }
    if (rc == RC_AGAIN || echo_pauses)
        return;
    echo_end = rc;
    echoes_open--;
    stream_close(stream);
    free(echo);
}

static void echo_accepted(void *arg, struct stream *stream)
{
    static const struct stream_owner calls = {.ready = echo_ready};
    struct echo *echo = xcalloc(1, sizeof(*echo));
    echo->stream = stream;
    last_echo = echo;
    echoes_open++;
    stream_set_owner(stream, &calls, echo);
}

/* ---- client ---- */

static struct client {
    struct stream *stream;
    size_t total, sent, received;
    bool failed, resumed;
    char alpn[16];
    struct err err;
} client;

static char pattern(size_t i) { return (char)(i * 7 + i / 251); }

static void client_write(void)
{
    enum rc rc = RC_OK;
    while (client.sent < client.total && rc == RC_OK) {
        static char bytes[40000];
        size_t n = MIN(sizeof(bytes), client.total - client.sent), written;
        for (size_t i = 0; i < n; i++)
            bytes[i] = pattern(client.sent + i);
        struct iovec parts[2] = {{bytes, n / 3}, {bytes + n / 3, n - n / 3}};
        rc = stream_write(client.stream, parts, 2, &written);
        client.sent += written;
    }
    client.failed |= rc != RC_OK && rc != RC_AGAIN;
}

static void client_ready(void *owner, struct stream *stream, unsigned events)
{
    char bytes[5000];
    size_t n;
    enum rc rc;
    while ((rc = stream_read(stream, bytes, sizeof(bytes), &n)) == RC_OK) {
        for (size_t i = 0; i < n; i++)
            client.failed |= bytes[i] != pattern(client.received + i);
        client.received += n;
    }
    client.failed |= rc != RC_AGAIN;
    client_write();
    if (client.failed || client.received == client.total) {
        stream_close(stream);
        client.stream = NULL;
        loop_stop(loop);
    }
}

static void client_connected(void *arg, struct stream *stream, const struct err *err)
{
    static const struct stream_owner calls = {.ready = client_ready};
    if (stream == NULL) {
        client.failed = true;
        client.err = *err;
        loop_stop(loop);
        return;
    }
    client.stream = stream;
    client.resumed = tls_stream_resumed(stream);
    snprintf(client.alpn, sizeof(client.alpn), "%.*s", STR_ARG(stream_alpn(stream)));
    stream_set_owner(stream, &calls, NULL);
    client_write();
}

static void stop(struct timer *timer) { loop_stop(loop); }

static void run_for(int64_t ns)
{
    struct timer timer;
    timer_init(&timer, stop);
    timer_start(loop, &timer, ns);
    loop_run(loop);
    timer_stop(&timer);
}

static struct listener *listener;

static void transfer(const char *host, const char *name, size_t total, struct tls_context *tls)
{
    client = (struct client){.total = total};
    struct connect_options options = {
        .address = {.kind = ADDRESS_TCP, .host = str_from(host), .port = listener_port(listener)},
        .tls = tls,
        .tls_server_name = str_from(name),
        .offer_h2 = true,
        .timeout_ns = 5 * NS_PER_S,
    };
    stream_connect(loop, &options, client_connected, NULL);
    loop_run(loop);
    for (int i = 0; i < 100 && echoes_open; i++)
        run_for(2 * NS_PER_MS);
    assert_int_equal(echoes_open, 0);
}

static int set_up(void **state)
{
    struct address address = {.kind = ADDRESS_TCP, .host = STR("127.0.0.1")};
    server_tls = tls_server_new(str_from(cert_path), str_from(key_path), NULL);
    client_tls = tls_client_new(str_from(cert_path), NULL);
    assert_true(server_tls && client_tls);
    listener = listener_new(loop, &address, server_tls, echo_accepted, NULL, NULL);
    assert_non_null(listener);
    return 0;
}

static int tear_down(void **state)
{
    listener_close(listener);
    tls_unref(server_tls);
    tls_unref(client_tls);
    return 0;
}

static void transfers_and_resumes(void **state)
{
    transfer("127.0.0.1", "localhost", 1000, client_tls);
    assert_false(client.failed);
    assert_int_equal(client.received, 1000);
    assert_false(client.resumed);
    assert_string_equal(client.alpn, "http/1.1");
    assert_int_equal(echo_end, RC_END); /* close_notify was sent */
    transfer("127.0.0.1", "localhost", 3000000, client_tls);
    assert_false(client.failed);
    assert_true(client.resumed);
    transfer("127.0.0.1", "", 100, client_tls); /* the certificate names the address too */
    assert_false(client.failed);
    assert_false(client.resumed);
}

static void certificates_are_checked(void **state)
{
    transfer("127.0.0.1", "other.example", 10, client_tls);
    assert_true(client.failed);
    assert_non_null(strstr(client.err.message, "other.example"));
    assert_int_equal(client.err.code, ERR_UPSTREAM);
    struct tls_context *system = tls_client_new(STR_EMPTY, NULL);
    assert_non_null(system);
    transfer("127.0.0.1", "localhost", 10, system);
    assert_true(client.failed);
    assert_non_null(strstr(client.err.message, "self-signed"));
    tls_unref(system);
    setenv("SSL_CERT_FILE", cert_path, 1);
    system = tls_client_new(STR_EMPTY, NULL);
    transfer("127.0.0.1", "localhost", 10, system);
    assert_false(client.failed);
    tls_unref(system);
    unsetenv("SSL_CERT_FILE");
}

static void context_failures(void **state)
{
    struct err err;
    assert_null(tls_client_new(STR("/nonexistent.pem"), &err));
    assert_string_equal(err.field, "ca_file");
    assert_null(tls_server_new(STR("/nonexistent.pem"), str_from(key_path), &err));
    assert_string_equal(err.field, "cert_file");
    assert_null(tls_server_new(str_from(cert_path), STR("/nonexistent.pem"), &err));
    assert_string_equal(err.field, "key_file");
}

static void plain_accepted(void *arg, struct stream *stream) { *(struct stream **)arg = stream; }

/* A peer that takes the connection and says nothing, one that closes, and one that talks nonsense.
 */
static void handshakes_fail_clearly(void **state)
{
    struct stream *peer = NULL;
    struct address address = {.kind = ADDRESS_TCP, .host = STR("127.0.0.1")};
    struct listener *plain = listener_new(loop, &address, NULL, plain_accepted, &peer, NULL);
    address.port = listener_port(plain);
    struct connect_options options = {
        .address = address, .tls = client_tls, .timeout_ns = 50 * NS_PER_MS};
    client = (struct client){0};
    stream_connect(loop, &options, client_connected, NULL);
    loop_run(loop);
    assert_int_equal(client.err.code, ERR_TIMEOUT);
    assert_non_null(strstr(client.err.message, "handshake"));
    stream_close(peer);
    peer = NULL;
    for (int nonsense = 0; nonsense < 2; nonsense++) {
        client = (struct client){0};
        options.timeout_ns = NS_PER_S;
        stream_connect(loop, &options, client_connected, NULL);
        while (peer == NULL)
            run_for(NS_PER_MS);
        size_t n;
        struct iovec part = {(void *)"HTTP/1.1 400 Bad Request\r\n\r\n", 28};
        if (nonsense)
            assert_int_equal(stream_write(peer, &part, 1, &n), RC_OK);
        stream_close(peer);
        peer = NULL;
        loop_run(loop);
        assert_int_equal(client.err.code, ERR_UPSTREAM);
    }
    listener_close(plain);
    run_for(5 * NS_PER_MS);
}

/* A server that does not read: what is held for it stays bounded, and all arrives once it reads. */
static void back_pressure(void **state)
{
    echo_pauses = true;
    client = (struct client){.total = 8000000};
    struct connect_options options = {
        .address = {.kind = ADDRESS_TCP, .host = STR("localhost"), .port = listener_port(listener)},
        .tls = client_tls,
    };
    stream_connect(loop, &options, client_connected, NULL);
    run_for(100 * NS_PER_MS);
    assert_true(client.sent < client.total);
    assert_false(client.failed);
    echo_pauses = false;
    echo_ready(last_echo, last_echo->stream, STREAM_READABLE); /* as the owner who paused would */
    loop_run(loop);
    assert_false(client.failed);
    assert_int_equal(client.received, client.total);
    run_for(20 * NS_PER_MS);
    assert_int_equal(echoes_open, 0);
}

int main(void)
{
    make_certificate();
    loop = loop_new(0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(transfers_and_resumes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(certificates_are_checked, set_up, tear_down),
        cmocka_unit_test(context_failures),
        cmocka_unit_test_setup_teardown(handshakes_fail_clearly, set_up, tear_down),
        cmocka_unit_test_setup_teardown(back_pressure, set_up, tear_down),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    loop_free(loop);
    unlink(cert_path);
    unlink(key_path);
    return failed;
}
