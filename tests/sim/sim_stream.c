/* Streams on a bad network: clients send a pattern, end their side, and must get the same back and
 * then the end, over plain streams and TLS. Where connections are lost, each must still end, with
 * an error, and without a wrong byte. Shows that the simulated loop keeps the interface's promises,
 * and that TLS over it does. */
#include "base/clock.h"
#include "io/stream.h"
#include "io/tls.h"
#include "sim.h"
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLIENTS_MAX 5

static struct tls_context *server_tls, *client_tls;

struct echo {
    struct stream *stream;
    char held[700];
    size_t start, end;
    bool ended, closed;
};

struct client {
    struct test *test;
    struct stream *stream;
    size_t total, sent, received;
    bool closed, done, succeeded;
};

struct test {
    struct loop *loop;
    struct client clients[CLIENTS_MAX];
    size_t count, done, echoes;
    bool lazy; /* a short transfer counts as RC_AGAIN, as the interface allows */
};

static char pattern(size_t i) { return (char)(i * 7 + i / 251); }

static struct test *current;

/* ---- server ---- */

static enum rc echo_write(struct echo *echo)
{
    while (echo->start < echo->end) {
        struct iovec part = {echo->held + echo->start, echo->end - echo->start};
        size_t n;
        enum rc rc = stream_write(echo->stream, &part, 1, &n);
        if (rc != RC_OK)
            return rc;
        SIM_CHECK(n > 0 && n <= part.iov_len);
        echo->start += n;
        if (current->lazy && n < part.iov_len)
            return RC_AGAIN;
    }
    return RC_OK;
}

static void echo_ready(void *owner, struct stream *stream, unsigned events)
{
    struct echo *echo = owner;
    echo->closed |= (events & STREAM_CLOSED) != 0;
    enum rc rc = echo_write(echo);
    while (rc == RC_OK) {
        echo->start = 0;
        rc = stream_read(stream, echo->held, sizeof(echo->held), &echo->end);
        if (rc == RC_OK) {
            SIM_CHECK(echo->end > 0 && echo->end <= sizeof(echo->held));
            bool drained = current->lazy && !echo->closed && echo->end < sizeof(echo->held);
            rc = echo_write(echo);
            if (rc == RC_OK && drained)
                rc = RC_AGAIN;
        } else {
            echo->end = 0;
        }
    }
    if (rc == RC_AGAIN)
        return;
    if (rc == RC_END && !echo->ended) {
        echo->ended = true;
        stream_shutdown(stream);
        stream_close(stream);
    } else {
        stream_close(stream);
    }
    current->echoes--;
    free(echo);
}

static void echo_accepted(void *arg, struct stream *stream)
{
    static const struct stream_owner calls = {.ready = echo_ready};
    struct echo *echo = xcalloc(1, sizeof(*echo));
    echo->stream = stream;
    current->echoes++;
    stream_set_owner(stream, &calls, echo);
}

/* ---- client ---- */

static void client_end(struct client *client, bool succeeded)
{
    client->done = true;
    client->succeeded = succeeded;
    client->test->done++;
    if (client->stream)
        stream_close(client->stream);
    client->stream = NULL;
}

static enum rc client_write(struct client *client)
{
    while (client->sent < client->total) {
        char bytes[1000];
        size_t n = MIN(sizeof(bytes), client->total - client->sent);
        for (size_t i = 0; i < n; i++)
            bytes[i] = pattern(client->sent + i);
        struct iovec parts[2] = {{bytes, n / 2}, {bytes + n / 2, n - n / 2}};
        enum rc rc = stream_write(client->stream, parts, 2, &n);
        if (rc != RC_OK)
            return rc;
        bool full = current->lazy && n < parts[0].iov_len + parts[1].iov_len;
        client->sent += n;
        if (client->sent == client->total)
            stream_shutdown(client->stream);
        if (full)
            return RC_AGAIN;
    }
    return RC_OK;
}

static void client_ready(void *owner, struct stream *stream, unsigned events)
{
    struct client *client = owner;
    char bytes[900];
    size_t n;
    enum rc rc;
    SIM_CHECK(events != 0);
    client->closed |= (events & STREAM_CLOSED) != 0;
    while ((rc = stream_read(stream, bytes, sizeof(bytes), &n)) == RC_OK) {
        for (size_t i = 0; i < n; i++)
            SIM_CHECK(bytes[i] == pattern(client->received + i));
        client->received += n;
        SIM_CHECK(client->received <= client->sent);
        if (current->lazy && !client->closed && n < sizeof(bytes)) {
            rc = RC_AGAIN;
            break;
        }
    }
    if (rc == RC_END) {
        client_end(client, client->received == client->total);
        return;
    }
    if (rc == RC_AGAIN)
        rc = client_write(client);
    if (rc != RC_OK && rc != RC_AGAIN)
        client_end(client, false);
}

static void client_connected(void *arg, struct stream *stream, const struct err *err)
{
    static const struct stream_owner calls = {.ready = client_ready};
    struct client *client = arg;
    SIM_CHECK((stream == NULL) == (err != NULL));
    client->stream = stream;
    if (stream == NULL) {
        client_end(client, false);
        return;
    }
    stream_set_owner(stream, &calls, client);
    enum rc rc = client_write(client);
    if (rc != RC_OK && rc != RC_AGAIN)
        client_end(client, false);
}

static bool all_done(void *arg)
{
    struct test *test = arg;
    return test->done == test->count && test->echoes == 0;
}

static void run(uint64_t seed)
{
    struct sim_faults faults = SIM_FAULTS_DEFAULT;
    struct test test = {.loop = loop_sim_new(seed, &faults)};
    bool lossy, tls = loop_sim_below(test.loop, 2);
    faults = sim_faults_for(test.loop, &lossy);
    if (tls)
        faults.window_bytes_min = 1000; /* or the handshake's time is up */
    loop_sim_set_faults(test.loop, &faults);
    current = &test;
    test.lazy = loop_sim_below(test.loop, 2);
    struct address address = {.kind = ADDRESS_TCP, .host = STR("localhost"), .port = 443};
    struct listener *listener =
        listener_new(test.loop, &address, tls ? server_tls : NULL, echo_accepted, NULL, NULL);
    test.count = 1 + loop_sim_below(test.loop, CLIENTS_MAX);
    struct connect_options options = {
        .address = address, .tls = tls ? client_tls : NULL, .timeout_ns = 300 * NS_PER_S};
    for (size_t i = 0; i < test.count; i++) {
        test.clients[i] = (struct client){
            .test = &test, .total = 1 + loop_sim_below(test.loop, lossy ? 5000 : 20000)};
        stream_connect(test.loop, &options, client_connected, &test.clients[i]);
    }
    enum sim_end end = loop_sim_run(test.loop, all_done, &test, 100000 * NS_PER_S);
    SIM_CHECK(end == SIM_DONE);
    for (size_t i = 0; i < test.count; i++)
        SIM_CHECK(lossy || test.clients[i].succeeded);
    listener_close(listener);
    loop_sim_run(test.loop, NULL, NULL, 1000 * NS_PER_S);
    loop_free(test.loop);
}

/* ---- a certificate for localhost ---- */

static void make_contexts(void)
{
    char cert_path[64], key_path[64];
    snprintf(cert_path, sizeof(cert_path), "/tmp/capstan-sim-%d.crt", (int)getpid());
    snprintf(key_path, sizeof(key_path), "/tmp/capstan-sim-%d.key", (int)getpid());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"sim", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost");
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
    server_tls = tls_server_new(str_from(cert_path), str_from(key_path), NULL);
    client_tls = tls_client_new(str_from(cert_path), NULL);
    ASSERT(server_tls && client_tls);
    unlink(cert_path);
    unlink(key_path);
}

int main(void)
{
    make_contexts();
    int status = sim_main(run, 300);
    tls_unref(server_tls);
    tls_unref(client_tls);
    return status;
}
