/* URLs are cut up, and what is none is refused. */
#include "../test.h"
#include "http/message.h"

static void check(const char *text, const char *scheme, const char *host, int port,
                  const char *path)
{
    struct url url;
    struct err err = {0};
    assert_int_equal(url_parse(str_from(text), &url, &err), RC_OK);
    assert_true(str_eq(url.scheme, str_from(scheme)));
    assert_true(str_eq(url.host, str_from(host)));
    assert_int_equal(url.port, port);
    assert_true(str_eq(url.path, str_from(path)));
}

static void parses_urls(void **state)
{
    check("http://example.com", "http", "example.com", 80, "/");
    check("https://api.openai.com/v1", "https", "api.openai.com", 443, "/v1");
    check("HTTPS://h:8443/a?b=c", "https", "h", 8443, "/a?b=c");
    check("http://[::1]:4100/x", "http", "::1", 4100, "/x");
    check("http://127.0.0.1:1", "http", "127.0.0.1", 1, "/");
    check("unix:/run/x.sock", "unix", "/run/x.sock", 0, "/");
    check("http://user:pa%40ss@proxy:3128", "http", "proxy", 3128, "/");
}

static void refuses_what_is_no_url(void **state)
{
    static const char *const bad[] = {
        "",
        "example.com",
        "ftp://x",
        "http://",
        "http:///x",
        "http://a b",
        "http://a:0",
        "http://a:65536",
        "http://a:x",
        "http://[::1",
        "http://[]",
        "http://a\r\nb",
        "http://a/\n",
        "http://a?b",
        "http://a/#f",
        "unix:",
        "unix:relative",
        "http://a:80:80",
        "http://h\x7f/",
        "http://a/b c",
        "http://a\\b/",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct url url;
        struct err err = {0};
        assert_int_equal(url_parse(str_from(bad[i]), &url, &err), RC_INVALID);
        assert_true(err.message[0] != 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_urls),
        cmocka_unit_test(refuses_what_is_no_url),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
