/* Which proxy a target goes through, as the environment says. */
#include "http/proxy.h"
#include "../test.h"
#include <stdlib.h>

static void lists_cover_hosts(void **state)
{
    static const struct {
        const char *list, *host;
        uint16_t port;
        bool want;
    } cases[] = {
        {"*", "a", 80, true},
        {"", "a", 80, false},
        {"example.com", "example.com", 443, true},
        {"example.com", "api.Example.com", 443, true},
        {"example.com", "badexample.com", 443, false},
        {".example.com", "api.example.com", 443, true},
        {"*.example.com", "api.example.com", 443, true},
        {"example.com:8080", "example.com", 8080, true},
        {"example.com:8080", "example.com", 80, false},
        {"a, b ,c", "b", 80, true},
        {"10.0.0.0/8", "10.200.3.4", 80, true},
        {"10.0.0.0/8", "11.0.0.1", 80, false},
        {"192.168.1.128/25", "192.168.1.127", 80, false},
        {"192.168.1.128/25", "192.168.1.129", 80, true},
        {"fd00::/8", "fd12::1", 80, true},
        {"fd00::/8", "::1", 80, false},
        {"127.0.0.1:81", "127.0.0.1", 81, true},
        {"[::1]:81", "::1", 81, true},
        {"::1", "::1", 81, true},
        {"10.0.0.0/99", "10.0.0.1", 80, false},
        {"10.0.0.0/x", "10.0.0.1", 80, false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (proxy_list_covers(str_from(cases[i].list), str_from(cases[i].host), cases[i].port) !=
            cases[i].want)
            fail_msg("%s for %s:%u", cases[i].list, cases[i].host, cases[i].port);
}

static void the_environment_chooses(void **state)
{
    setenv("http_proxy", "http://plain:3128", 1);
    setenv("HTTPS_PROXY", "secure:3129", 1);
    setenv("NO_PROXY", "internal.example", 1);
    struct proxy_settings *settings = proxy_settings_new();
    struct url url;
    struct proxy proxy;
    struct err err = {0};
    assert_int_equal(url_parse(STR("http://a.example"), &url, &err), RC_OK);
    assert_int_equal(proxy_choose(settings, &url, STR_EMPTY, &proxy, &err), RC_OK);
    assert_int_equal(proxy.kind, PROXY_FORWARD);
    assert_true(str_eq(proxy.parts.host, STR("plain")));
    assert_int_equal(proxy_choose(settings, &url, STR("none"), &proxy, &err), RC_OK);
    assert_int_equal(proxy.kind, PROXY_NONE);
    assert_int_equal(proxy_choose(settings, &url, STR("http://own:1"), &proxy, &err), RC_OK);
    assert_int_equal(proxy.parts.port, 1);
    assert_int_equal(proxy_choose(settings, &url, STR("socks5://own:1"), &proxy, &err), RC_INVALID);
    assert_int_equal(url_parse(STR("https://a.example"), &url, &err), RC_OK);
    assert_int_equal(proxy_choose(settings, &url, STR_EMPTY, &proxy, &err), RC_OK);
    assert_int_equal(proxy.kind, PROXY_TUNNEL);
    assert_int_equal(proxy.parts.port, 3129);
    static const char *const direct[] = {"https://x.internal.example", "http://localhost:1",
                                         "http://127.1.2.3", "http://[::1]:80", "unix:/run/x"};
    for (size_t i = 0; i < COUNT_OF(direct); i++) {
        assert_int_equal(url_parse(str_from(direct[i]), &url, &err), RC_OK);
        assert_int_equal(proxy_choose(settings, &url, STR_EMPTY, &proxy, &err), RC_OK);
        assert_int_equal(proxy.kind, PROXY_NONE);
    }
    proxy_settings_free(settings);
    unsetenv("http_proxy");
    unsetenv("HTTPS_PROXY");
    unsetenv("NO_PROXY");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_cover_hosts),
        cmocka_unit_test(the_environment_chooses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
