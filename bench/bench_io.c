/* What the loop costs: timers, posting between threads, echo of 1 KB over TCP beside a bare epoll
 * program that does only that, the same over TLS beside OpenSSL on blocking sockets, and memory of
 * idle streams. Figures are processor time of the calling thread, so a busy machine disturbs them
 * little. */
#include "base/clock.h"
#include "base/rand.h"
#include "io/stream.h"
#include "io/tls.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGE_BYTES 1024
#define TRIPS         100000
#define IDLE_STREAMS  4000

static struct loop *loop;
static FILE *report;

static void figure(const char *name, double value, const char *unit, const char *yardstick,
                   double beside)
{
    if (yardstick) {
        printf("%s %.4g %s, %s %.4g, ratio %.2f\n", name, value, unit, yardstick, beside,
               value / beside);
        fprintf(report, ",\n \"%s\": {\"value\": %.6g, \"unit\": \"%s\", \"%s\": %.6g}", name,
                value, unit, yardstick, beside);
    } else {
        printf("%s %.4g %s\n", name, value, unit);
        fprintf(report, ",\n \"%s\": {\"value\": %.6g, \"unit\": \"%s\"}", name, value, unit);
    }
}

/* ---- timers ---- */

static void never(struct timer *timer) { abort(); }

static void bench_timers(void)
{
    enum { COUNT = 10000, ROUNDS = 100 };
    static struct timer timers[COUNT];
    rand_seed(1);
    for (size_t i = 0; i < COUNT; i++)
        timer_init(&timers[i], never);
    int64_t start = clock_thread_cpu_ns();
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < COUNT; i++)
            timer_start(loop, &timers[i], (int64_t)(rand_u64() % (300 * NS_PER_S)) + NS_PER_S);
    int64_t took = clock_thread_cpu_ns() - start;
    for (size_t i = 0; i < COUNT; i++)
        timer_stop(&timers[i]);
    figure("timer_restart", (double)took / COUNT / ROUNDS, "ns", NULL, 0);
}

/* ---- posting ---- */

#define POSTS 1000000

static struct task *posts;
static size_t posts_seen;

static void post_seen(struct task *task)
{
    if (++posts_seen == POSTS)
        loop_stop(loop);
}

static void *post_all(void *arg)
{
    int64_t start = clock_thread_cpu_ns();
    for (size_t i = 0; i < POSTS; i++) {
        posts[i].run = post_seen;
        loop_post(loop, &posts[i]);
    }
    *(int64_t *)arg = clock_thread_cpu_ns() - start;
    return NULL;
}

static void bench_posts(void)
{
    int64_t took = 0;
    posts = xcalloc(POSTS, sizeof(*posts));
    pthread_t thread;
    pthread_create(&thread, NULL, post_all, &took);
    loop_run(loop);
    pthread_join(thread, NULL);
    free(posts);
    figure("post_from_thread", (double)took / POSTS, "ns", NULL, 0);
}

/* ---- echo on the loop ---- */

static struct listener *listener;
static struct stream *client, *server;
static int trips;

static void echo_ready(void *owner, struct stream *stream, unsigned events)
{
    char bytes[16384];
    size_t n;
    while (stream_read(stream, bytes, sizeof(bytes), &n) == RC_OK) {
        struct iovec part = {bytes, n};
        size_t written;
        if (stream == client && ++trips == TRIPS) {
            loop_stop(loop);
            return;
        }
        if (stream_write(stream, &part, 1, &written) != RC_OK || written != n)
            abort();
    }
}

static const struct stream_owner echo_calls = {.ready = echo_ready};

static void accepted(void *arg, struct stream *stream)
{
    server = stream;
    stream_set_owner(stream, &echo_calls, NULL);
}

static void connected(void *arg, struct stream *stream, const struct err *err)
{
    ASSERT(stream != NULL);
    client = stream;
    stream_set_owner(stream, &echo_calls, NULL);
    static char message[MESSAGE_BYTES];
    struct iovec part = {message, sizeof(message)};
    size_t n;
    enum rc rc = stream_write(stream, &part, 1, &n);
    ASSERT(rc == RC_OK);
}

/* Microseconds a round trip: two reads, two writes, and what leads to them. */
static double echo_us(struct tls_context *server_tls, struct tls_context *client_tls)
{
    struct address address = {.kind = ADDRESS_TCP, .host = STR("127.0.0.1")};
    listener = listener_new(loop, &address, server_tls, accepted, NULL, NULL);
    address.port = listener_port(listener);
    struct connect_options options = {
        .address = address, .tls = client_tls, .tls_server_name = STR("localhost")};
    trips = 0;
    stream_connect(loop, &options, connected, NULL);
    int64_t start = clock_thread_cpu_ns();
    loop_run(loop);
    int64_t took = clock_thread_cpu_ns() - start;
    stream_close(client);
    stream_close(server);
    listener_close(listener);
    return (double)took / TRIPS / 1000;
}

/* ---- yardsticks ---- */

static void socket_pair(int fds[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(at);
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT(bind(listening, (struct sockaddr *)&at, bytes) == 0 && listen(listening, 1) == 0);
    getsockname(listening, (struct sockaddr *)&at, &bytes);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT(connect(fds[0], (struct sockaddr *)&at, bytes) == 0);
    fds[1] = accept(listening, NULL, NULL);
    close(listening);
    for (int i = 0; i < 2; i++)
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

/* The least a program can do: epoll_wait, read, write. */
static double bare_epoll_us(void)
{
    int fds[2], epoll = epoll_create1(0);
    char bytes[16384] = {0};
    socket_pair(fds);
    for (int i = 0; i < 2; i++) {
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = fds[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
    }
    int64_t start = clock_thread_cpu_ns();
    ssize_t n = write(fds[0], bytes, MESSAGE_BYTES);
    for (int done = 0; done < TRIPS;) {
        struct epoll_event event;
        if (epoll_wait(epoll, &event, 1, -1) != 1)
            continue;
        n = read(event.data.fd, bytes, sizeof(bytes));
        done += event.data.fd == fds[0];
        n = write(event.data.fd, bytes, (size_t)n);
    }
    int64_t took = clock_thread_cpu_ns() - start;
    ASSERT(n == MESSAGE_BYTES);
    close(fds[0]);
    close(fds[1]);
    close(epoll);
    return (double)took / TRIPS / 1000;
}

struct tls_side {
    SSL *ssl;
    int64_t cpu_ns;
    bool first;
};

static void *bare_tls_side(void *arg)
{
    struct tls_side *side = arg;
    char bytes[MESSAGE_BYTES] = {0};
    if (SSL_do_handshake(side->ssl) != 1)
        abort();
    int64_t start = clock_thread_cpu_ns();
    if (side->first)
        SSL_write(side->ssl, bytes, sizeof(bytes));
    for (int i = 0; i < TRIPS; i++) {
        if (SSL_read(side->ssl, bytes, sizeof(bytes)) != sizeof(bytes))
            abort();
        if (!side->first || i + 1 < TRIPS)
            SSL_write(side->ssl, bytes, sizeof(bytes));
    }
    side->cpu_ns = clock_thread_cpu_ns() - start;
    return NULL;
}

static double bare_tls_us(const char *cert, const char *key)
{
    int fds[2];
    socket_pair(fds);
    SSL_CTX *server_ctx = SSL_CTX_new(TLS_server_method()),
            *client_ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_use_certificate_chain_file(server_ctx, cert);
    SSL_CTX_use_PrivateKey_file(server_ctx, key, SSL_FILETYPE_PEM);
    struct tls_side sides[2] = {{.ssl = SSL_new(client_ctx), .first = true},
                                {.ssl = SSL_new(server_ctx)}};
    pthread_t thread;
    SSL_set_fd(sides[0].ssl, fds[0]);
    SSL_set_fd(sides[1].ssl, fds[1]);
    SSL_set_connect_state(sides[0].ssl);
    SSL_set_accept_state(sides[1].ssl);
    pthread_create(&thread, NULL, bare_tls_side, &sides[1]);
    bare_tls_side(&sides[0]);
    pthread_join(thread, NULL);
    SSL_free(sides[0].ssl);
    SSL_free(sides[1].ssl);
    SSL_CTX_free(server_ctx);
    SSL_CTX_free(client_ctx);
    close(fds[0]);
    close(fds[1]);
    return (double)(sides[0].cpu_ns + sides[1].cpu_ns) / TRIPS / 1000;
}

/* ---- memory ---- */

static struct stream *idle[2 * IDLE_STREAMS];
static size_t idle_count;

static void keep_stream(struct stream *stream)
{
    idle[idle_count++] = stream;
    stream_set_owner(stream, NULL, NULL);
    if (idle_count == 2 * IDLE_STREAMS)
        loop_stop(loop);
}

static void keep_accepted(void *arg, struct stream *stream) { keep_stream(stream); }

static struct connect_options idle_options;

static void keep_connected(void *arg, struct stream *stream, const struct err *err)
{
    ASSERT(stream != NULL);
    keep_stream(stream);
    if ((size_t)(intptr_t)arg + 16 < IDLE_STREAMS)
        stream_connect(loop, &idle_options, keep_connected, (void *)((intptr_t)arg + 16));
}

static int64_t resident_bytes(void)
{
    long total, pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    ASSERT(file && fscanf(file, "%ld %ld", &total, &pages) == 2);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static double bytes_per_idle_stream(struct tls_context *server_tls, struct tls_context *client_tls)
{
    struct address address = {.kind = ADDRESS_TCP, .host = STR("127.0.0.1")};
    listener = listener_new(loop, &address, server_tls, keep_accepted, NULL, NULL);
    address.port = listener_port(listener);
    idle_options = (struct connect_options){
        .address = address, .tls = client_tls, .tls_server_name = STR("localhost")};
    idle_count = 0;
    int64_t before = resident_bytes();
    for (intptr_t i = 0; i < 16; i++)
        stream_connect(loop, &idle_options, keep_connected, (void *)i);
    loop_run(loop);
    double bytes = (double)(resident_bytes() - before) / (2 * IDLE_STREAMS);
    for (size_t i = 0; i < idle_count; i++)
        stream_close(idle[i]);
    listener_close(listener);
    return bytes;
}

/* ---- a certificate for localhost ---- */

static void make_certificate(const char *cert_path, const char *key_path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"bench", -1, -1, 0);
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
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(void)
{
    const char *folder = getenv("CAPSTAN_BENCH_FOLDER");
    char path[4096], cert[64], key[64];
    snprintf(path, sizeof(path), "%s/io.json", folder ? folder : ".");
    snprintf(cert, sizeof(cert), "/tmp/capstan-bench-%d.crt", (int)getpid());
    snprintf(key, sizeof(key), "/tmp/capstan-bench-%d.key", (int)getpid());
    report = fopen(path, "w");
    ASSERT(report != NULL);
    fprintf(report, "{\"openssl\": \"%s\", \"message_bytes\": %d", OpenSSL_version(OPENSSL_VERSION),
            MESSAGE_BYTES);
    raise_file_limit();
    make_certificate(cert, key);
    struct tls_context *server_tls = tls_server_new(str_from(cert), str_from(key), NULL);
    struct tls_context *client_tls = tls_client_new(str_from(cert), NULL);
    loop = loop_new(0);
    bench_timers();
    bench_posts();
    figure("echo_tcp", echo_us(NULL, NULL), "us", "bare epoll", bare_epoll_us());
    figure("echo_tls", echo_us(server_tls, client_tls), "us", "blocking OpenSSL",
           bare_tls_us(cert, key));
    figure("idle_stream_tcp", bytes_per_idle_stream(NULL, NULL), "bytes", NULL, 0);
    figure("idle_stream_tls", bytes_per_idle_stream(server_tls, client_tls), "bytes", NULL, 0);
    fprintf(report, "\n}\n");
    fclose(report);
    tls_unref(server_tls);
    tls_unref(client_tls);
    loop_free(loop);
    unlink(cert);
    unlink(key);
    return 0;
}
