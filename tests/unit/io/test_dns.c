/* Looking names up, against a name server of our own: cache, refresh, failures, sharing of a query.
 */
#include "base/clock.h"
#include "io/epoll.h"
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- a name server: answers A queries for NAME.test, refuses the rest ---- */

static struct loop *loop;
static struct watch server;
static int questions, broken, ttl_s;
static uint8_t last_byte = 7;

static size_t answer(uint8_t *packet, size_t n)
{
    size_t end = 12;
    while (end < n && packet[end])
        end += packet[end] + 1u;
    uint8_t type = packet[end + 2];
    bool known = memmem(packet, n, "\4test", 6) != NULL && !memmem(packet, n, "missing", 7);
    packet[2] = 0x81;
    packet[3] = broken ? 0x82 : known ? 0x80 : 0x83; /* server failure, no error, no such name */
    memset(packet + 6, 0, 6);
    n = end + 5;
    if (known && type == 1 && !broken) {
        packet[7] = 1;
        const uint8_t record[] = {0xc0,           12, 0, 1,   0, 1, 0,        0, 0,
                                  (uint8_t)ttl_s, 0,  4, 192, 0, 2, last_byte};
        memcpy(packet + n, record, sizeof(record));
        n += sizeof(record);
        questions++;
    }
    return n;
}

static void server_ready(struct watch *watch, unsigned events)
{
    uint8_t packet[600];
    struct sockaddr_in from;
    socklen_t from_bytes = sizeof(from);
    ssize_t n = recvfrom(watch->fd, packet, 512, 0, (struct sockaddr *)&from, &from_bytes);
    assert_true(n > 16);
    size_t out = answer(packet, (size_t)n);
    sendto(watch->fd, packet, out, 0, (struct sockaddr *)&from, from_bytes);
}

static void start_server(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(at);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    ASSERT(bind(fd, (struct sockaddr *)&at, bytes) == 0);
    ASSERT(getsockname(fd, (struct sockaddr *)&at, &bytes) == 0);
    server = (struct watch){.fd = fd, .ready = server_ready};
    ASSERT(loop_watch(loop, &server, LOOP_READ) == RC_OK);
    char text[32];
    snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(at.sin_port));
    resolver_set_server(loop, str_from(text));
}

/* ---- lookups ---- */

static int told, wanted;
static char found[ENDPOINT_TEXT_BYTES_MAX];
static struct err last_err;
static size_t found_count;

static void done(void *arg, const struct endpoint *endpoints, size_t count, const struct err *err)
{
    found_count = count;
    found[0] = '\0';
    if (count)
        endpoint_text(&endpoints[0], found);
    else
        last_err = *err;
    if (++told == wanted)
        loop_stop(loop);
}

static void look_up(const char *name, int times)
{
    told = 0;
    wanted = times;
    for (int i = 0; i < times; i++)
        resolver_lookup(loop, str_from(name), 443, done, NULL);
    assert_int_equal(told, 0); /* never at once */
    loop_run(loop);
}

static void finds_and_caches(void **state)
{
    ttl_s = 60;
    look_up("one.test", 5);
    assert_string_equal(found, "192.0.2.7:443");
    assert_int_equal(questions, 1);
    look_up("ONE.test.", 1);
    assert_string_equal(found, "192.0.2.7:443");
    assert_int_equal(questions, 1);
    look_up("two.test", 1);
    assert_int_equal(questions, 2);
}

static void knows_this_machine(void **state)
{
    look_up("localhost", 1);
    assert_string_equal(found, "127.0.0.1:443");
    assert_int_equal(found_count, 2);
    look_up("a.LOCALHOST", 1);
    assert_int_equal(found_count, 2);
}

static void fails_clearly(void **state)
{
    look_up("missing.test", 2);
    assert_int_equal(found_count, 0);
    assert_int_equal(last_err.code, ERR_UPSTREAM);
    assert_non_null(strstr(last_err.message, "missing.test"));
    look_up("with space", 1);
    assert_int_equal(found_count, 0);
    char long_name[300];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[299] = '\0';
    look_up(long_name, 1);
    assert_int_equal(found_count, 0);
}

static int64_t skipped_ns;
static int64_t later(void *arg)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec + skipped_ns;
}

static int64_t later_wall(void *arg) { return later(NULL); }

static void stop(struct timer *timer) { loop_stop(loop); }

/* So that the loop reads the clock and background answers come in. */
static void run_for(int64_t ns)
{
    struct timer timer;
    timer_init(&timer, stop);
    timer_start(loop, &timer, ns);
    loop_run(loop);
}

static void refreshes_in_the_background(void **state)
{
    ttl_s = 100;
    look_up("three.test", 1);
    int before = questions;
    last_byte = 8;
    skipped_ns += 85 * NS_PER_S;
    run_for(NS_PER_MS);
    look_up("three.test", 1);
    assert_string_equal(found, "192.0.2.7:443"); /* at once, the old one */
    run_for(20 * NS_PER_MS);
    assert_int_equal(questions, before + 1);
    look_up("three.test", 1);
    assert_string_equal(found, "192.0.2.8:443");
}

static void old_answers_serve_when_asking_fails(void **state)
{
    ttl_s = 60;
    look_up("four.test", 1);
    broken = 1;
    skipped_ns += 100 * NS_PER_S;
    run_for(NS_PER_MS);
    look_up("four.test", 1);
    assert_string_equal(found, "192.0.2.8:443");
    look_up("new.test", 1);
    assert_int_equal(found_count, 0);
    skipped_ns += 2000 * NS_PER_S; /* but not for ever */
    run_for(NS_PER_MS);
    look_up("four.test", 1);
    assert_int_equal(found_count, 0);
    broken = 0;
}

static void cancelled(void *arg, const struct endpoint *endpoints, size_t count,
                      const struct err *err)
{
    fail();
}

static void cancels(void **state)
{
    resolver_cancel(resolver_lookup(loop, STR("five.test"), 1, cancelled, NULL));
    resolver_cancel(resolver_lookup(loop, STR("localhost"), 1, cancelled, NULL));
    run_for(20 * NS_PER_MS);
}

int main(void)
{
    clock_override(later_wall, later, NULL);
    loop = loop_new(0);
    start_server();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_and_caches),
        cmocka_unit_test(knows_this_machine),
        cmocka_unit_test(fails_clearly),
        cmocka_unit_test(refreshes_in_the_background),
        cmocka_unit_test(old_answers_serve_when_asking_fails),
        cmocka_unit_test(cancels),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    loop_unwatch(loop, &server);
    loop_free(loop);
    close(server.fd);
    return failed;
}
