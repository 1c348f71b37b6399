/* Addresses: parsing, text, and what counts as public. */
#include "io/endpoint.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void parses_addresses(void **state)
{
    static const struct {
        const char *text, *host;
        int port; /* -1: refused */
    } cases[] = {
        {"127.0.0.1:4100", "127.0.0.1", 4100},
        {"[::1]:4100", "::1", 4100},
        {"[::1]", "::1", 80},
        {"::1", "::1", 80},
        {":4100", "", 4100},
        {"localhost:0", "localhost", 0},
        {"example.org", "example.org", 80},
        {"", NULL, -1},
        {"a:65536", NULL, -1},
        {"a:", NULL, -1},
        {"a:-1", NULL, -1},
        {"[::1:80", NULL, -1},
        {"unix:", NULL, -1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct address address;
        enum rc rc = address_parse(str_from(cases[i].text), 80, &address);
        assert_int_equal(rc, cases[i].port < 0 ? RC_INVALID : RC_OK);
        if (rc == RC_OK) {
            assert_true(str_eq(address.host, str_from(cases[i].host)));
            assert_int_equal(address.port, cases[i].port);
        }
    }
    struct address address;
    assert_int_equal(address_parse(STR("unix:/run/x.sock"), 0, &address), RC_OK);
    assert_int_equal(address.kind, ADDRESS_UNIX);
    assert_true(str_eq(address.host, STR("/run/x.sock")));
}

static void knows_public_addresses(void **state)
{
    static const char *const public[] = {"8.8.8.8",          "2606:4700::1111", "::ffff:8.8.8.8",
                                         "64:ff9b::808:808", "100.63.0.1",      "172.32.0.1",
                                         "2a00::1"};
    static const char *const private[] = {"127.0.0.1",
                                          "127.9.9.9",
                                          "10.1.2.3",
                                          "172.16.0.1",
                                          "172.31.255.255",
                                          "192.168.1.1",
                                          "169.254.169.254",
                                          "0.0.0.0",
                                          "100.64.0.1",
                                          "224.0.0.1",
                                          "255.255.255.255",
                                          "198.18.0.1",
                                          "192.0.2.1",
                                          "::1",
                                          "::",
                                          "fe80::1",
                                          "fc00::1",
                                          "fd12::1",
                                          "ff02::1",
                                          "::ffff:127.0.0.1",
                                          "::ffff:10.0.0.1",
                                          "64:ff9b::7f00:1",
                                          "64:ff9b:1::808:808",
                                          "2002:7f00:1::",
                                          "2001:db8::1",
                                          "::127.0.0.1",
                                          "2001::1"};
    struct endpoint endpoint;
    for (size_t i = 0; i < COUNT_OF(public); i++) {
        assert_true(endpoint_from_literal(str_from(public[i]), 1, &endpoint));
        assert_true(endpoint_is_public(&endpoint));
    }
    for (size_t i = 0; i < COUNT_OF(private); i++) {
        assert_true(endpoint_from_literal(str_from(private[i]), 1, &endpoint));
        if (endpoint_is_public(&endpoint))
            fail_msg("%s is taken for public", private[i]);
    }
    assert_int_equal(endpoint_from_path(STR("/x"), &endpoint), RC_OK);
    assert_false(endpoint_is_public(&endpoint));
    assert_false(endpoint_from_literal(STR("example.org"), 1, &endpoint));
    assert_false(endpoint_from_literal(STR("0x7f.1"), 1, &endpoint));
    assert_false(endpoint_from_literal(STR("127.1"), 1, &endpoint));
}

static void writes_text(void **state)
{
    char text[ENDPOINT_TEXT_BYTES_MAX];
    struct endpoint endpoint;
    endpoint_from_literal(STR("::1"), 443, &endpoint);
    endpoint_text(&endpoint, text);
    assert_string_equal(text, "[::1]:443");
    endpoint_from_literal(STR("::ffff:1.2.3.4"), 443, &endpoint);
    endpoint_text(&endpoint, text);
    assert_string_equal(text, "1.2.3.4:443");
    char path[200];
    memset(path, 'x', sizeof(path));
    assert_int_equal(endpoint_from_path(str_make(path, 107), &endpoint), RC_OK);
    endpoint_text(&endpoint, text);
    assert_int_equal(endpoint_from_path(str_make(path, 108), &endpoint), RC_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_addresses),
        cmocka_unit_test(knows_public_addresses),
        cmocka_unit_test(writes_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
