/* What syncs read from outside: addresses, robots.txt, pages, XML; S3's signature; definitions. */
#include "base/clock.h"
#include "knowledge/source_private.h"
#include "knowledge/source_url.h"
#include "text/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct arena arena;

static int teardown(void **state)
{
    UNUSED(state);
    arena_fini(&arena);
    arena_init(&arena, 64 << 20);
    return 0;
}

static void assert_str(struct str s, const char *wanted)
{
    assert_int_equal(s.n, strlen(wanted));
    assert_memory_equal(s.p, wanted, s.n);
}

static void assert_resolved(const char *base, const char *reference, const char *wanted)
{
    struct str out;
    enum rc rc = source_url_resolve(str_from(base), str_from(reference), 2048, &arena, &out);
    if (!wanted) {
        assert_int_not_equal(rc, RC_OK);
        return;
    }
    assert_int_equal(rc, RC_OK);
    assert_str(out, wanted);
}

/* RFC 3986, 5.4, as far as it speaks of http. */
static void test_urls(void **state)
{
    static const struct {
        const char *reference, *wanted;
    } cases[] = {
        {"g", "http://a/b/c/g"},
        {"./g", "http://a/b/c/g"},
        {"g/", "http://a/b/c/g/"},
        {"/g", "http://a/g"},
        {"//g", "http://g/"},
        {"?y", "http://a/b/c/d;p?y"},
        {"g?y", "http://a/b/c/g?y"},
        {"#s", "http://a/b/c/d;p?q"},
        {"g#s", "http://a/b/c/g"},
        {"", "http://a/b/c/d;p?q"},
        {".", "http://a/b/c/"},
        {"./", "http://a/b/c/"},
        {"..", "http://a/b/"},
        {"../g", "http://a/b/g"},
        {"../..", "http://a/"},
        {"../../g", "http://a/g"},
        {"../../../g", "http://a/g"},
        {"g;x=1/../y", "http://a/b/c/y"},
        {"g?y/../x", "http://a/b/c/g?y/../x"},
        {"HTTPS://Host:443/A b", "https://host/A%20b"},
        {"http://h:80", "http://h/"},
        {"http://h:8080/x", "http://h:8080/x"},
        {" \n/t\ta ", "http://a/ta"},
        {"/ä", "http://a/%C3%A4"},
        {"mailto:x@y", NULL},
        {"javascript:void(0)", NULL},
        {"unix:/run/x", NULL},
        {"http://", NULL},
    };
    UNUSED(state);
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_resolved("http://a/b/c/d;p?q", cases[i].reference, cases[i].wanted);
    assert_str(source_url_origin(STR("https://h:8443/x?y")), "https://h:8443");
    assert_str(source_url_path(STR("https://h:8443/x?y")), "/x?y");
    assert_str(source_url_path(STR("https://h")), "/");
}

static bool allowed(const char *robots_txt, const char *path)
{
    struct robots robots;
    assert_int_equal(robots_parse(str_from(robots_txt), STR("capstan"), &arena, &robots, NULL),
                     RC_OK);
    return robots_allow(&robots, str_from(path));
}

static void test_robots(void **state)
{
    static const char groups[] = "User-agent: *\nDisallow: /\n\n"
                                 "User-agent: other\nUser-agent: Capstan/2.0\n"
                                 "Disallow: /a # not this\nAllow: /a/b\nDisallow: /*.pdf$\n";
    struct robots robots;
    UNUSED(state);
    assert_true(allowed("", "/x"));
    assert_true(allowed(groups, "/x"));
    assert_false(allowed(groups, "/a/c"));
    assert_true(allowed(groups, "/a/b/c")); /* the longer pattern */
    assert_false(allowed(groups, "/x/y.pdf"));
    assert_true(allowed(groups, "/x/y.pdf?z"));
    assert_true(allowed("User-agent: other\nDisallow: /\n", "/x"));
    assert_false(allowed("User-agent: *\r\nDisallow: /p\r\n", "/page"));
    assert_true(allowed("User-agent: *\nDisallow:\n", "/page"));
    assert_true(allowed("User-agent: *\nDisallow: /p\nAllow: /p\n", "/p")); /* a draw */
    assert_int_equal(robots_parse(STR("User-agent: *\nCrawl-delay: 5\nDisallow: /x"),
                                  STR("capstan"), &arena, &robots, NULL),
                     RC_OK);
    assert_true(robots.delay_s == 5);
}

static void test_links(void **state)
{
    static const char page[] =
        "<base href='/docs/'><a href=\"a?x=1&amp;y=2\">a</a><A class=q HREF=b>b</A>"
        "<!-- <a href=no> --><script>var x = '<a href=no>';</script><style>a{}</style>"
        "<a rel=\"noopener nofollow\" href=no><area href='c&#x2f;d'><a name=x>no</a><a href=''>";
    struct page_links links;
    UNUSED(state);
    assert_int_equal(links_parse(str_from(page), &arena, &links, NULL), RC_OK);
    assert_str(links.base, "/docs/");
    assert_int_equal(links.count, 4);
    assert_str(links.references[0], "a?x=1&y=2");
    assert_str(links.references[1], "b");
    assert_str(links.references[2], "c/d");
    assert_int_equal(links.references[3].n, 0);
    assert_false(links.noindex || links.nofollow);
    assert_int_equal(links_parse(STR("<meta name=\"ROBOTS\" content=\"NOINDEX\"><a href=x>"),
                                 &arena, &links, NULL),
                     RC_OK);
    assert_true(links.noindex && !links.nofollow && links.count == 1);
}

static void test_sitemap(void **state)
{
    struct sitemap map;
    struct err err = {0};
    UNUSED(state);
    assert_int_equal(
        sitemap_parse(STR("<s:urlset xmlns:s='x'><s:url><s:loc>\n http://h/a&amp;b </s:loc>"
                          "<s:lastmod>2026-01-02</s:lastmod><s:image><s:loc>http://h/i</s:loc>"
                          "</s:image></s:url><s:url><s:lastmod>x</s:lastmod></s:url></s:urlset>"),
                      &arena, &map, &err),
        RC_OK);
    assert_false(map.is_index);
    assert_int_equal(map.count, 1);
    assert_str(map.entries[0].url, "http://h/a&b");
    assert_str(map.entries[0].modified, "2026-01-02");
    assert_int_equal(
        sitemap_parse(STR("<!DOCTYPE x [<!ENTITY a 'b'>]><urlset/>"), &arena, &map, &err),
        RC_INVALID);
    assert_non_null(strstr(err.message, "document type"));
    assert_int_equal(sitemap_parse(STR("<urlset><url>"), &arena, &map, &err), RC_INVALID);
}

static void test_bucket_page(void **state)
{
    struct bucket_page page;
    struct str code, message;
    UNUSED(state);
    assert_int_equal(
        bucket_page_parse(STR("<ListBucketResult xmlns='x'><IsTruncated>true</IsTruncated>"
                              "<Contents><Key> a &amp; b</Key><ETag>&quot;e&quot;</ETag>"
                              "<Size>12</Size><Owner><ID>1</ID></Owner></Contents>"
                              "<NextContinuationToken>t=</NextContinuationToken>"
                              "</ListBucketResult>"),
                          &arena, &page, NULL),
        RC_OK);
    assert_int_equal(page.count, 1);
    assert_str(page.objects[0].key, " a & b");
    assert_str(page.objects[0].etag, "\"e\"");
    assert_int_equal(page.objects[0].bytes, 12);
    assert_str(page.next, "t=");
    bucket_error_parse(STR("<Error><Code>NoSuchBucket</Code><Message>m</Message></Error>"), &arena,
                       &code, &message);
    assert_str(code, "NoSuchBucket");
    bucket_error_parse(STR("not XML"), &arena, &code, &message);
    assert_int_equal(code.n, 0);
}

/* The examples of AWS's page on signature calculations. */
static void test_s3_signature(void **state)
{
    struct s3_request request = {.method = STR("GET"),
                                 .host = STR("examplebucket.s3.amazonaws.com"),
                                 .path = STR("/"),
                                 .query = STR("lifecycle="),
                                 .region = STR("us-east-1"),
                                 .access_key_id = STR("AKIAIOSFODNN7EXAMPLE"),
                                 .secret_access_key =
                                     STR("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")};
    struct s3_signature signature;
    UNUSED(state);
    assert_int_equal(clock_parse_iso(STR("2013-05-24T00:00:00Z"), &request.now_ns), RC_OK);
    assert_int_equal(s3_sign(&request, &arena, &signature, NULL), RC_OK);
    assert_string_equal(signature.date, "20130524T000000Z");
    assert_true(str_ends(
        signature.authorization,
        STR("Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")));
    request.query = STR("max-keys=2&prefix=J");
    assert_int_equal(s3_sign(&request, &arena, &signature, NULL), RC_OK);
    assert_true(str_ends(
        signature.authorization,
        STR("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")));
}

static enum rc decode(const char *json, struct source_spec *spec, struct err *err)
{
    yyjson_doc *doc;
    assert_int_equal(json_read(str_from(json), &arena, &doc, NULL), RC_OK);
    return source_decode(yyjson_doc_get_root(doc), &arena, spec, err);
}

static void test_definitions(void **state)
{
    struct source_spec spec;
    struct err err = {0};
    UNUSED(state);
    assert_int_equal(decode("{\"kind\":\"crawl\",\"name\":\"web\",\"url\":\"https://h/\","
                            "\"every\":\"6h\",\"exclude\":[\"*.pdf\"]}",
                            &spec, &err),
                     RC_OK);
    assert_int_equal(spec.every_ns, 6 * 3600 * NS_PER_S);
    assert_int_equal(spec.items_max, 500);
    assert_true(source_wants(&spec, STR("https://h/a")));
    assert_false(source_wants(&spec, STR("https://h/a.pdf")));
    static const struct {
        const char *json, *field;
    } bad[] = {
        {"{\"name\":\"x\"}", "kind"},
        {"{\"kind\":\"crawl\",\"url\":\"http://h\"}", "name"},
        {"{\"kind\":\"crawl\",\"name\":\"../x\",\"url\":\"http://h\"}", "name"},
        {"{\"kind\":\"crawl\",\"name\":\"x\",\"url\":\"file:///etc\"}", "url"},
        {"{\"kind\":\"crawl\",\"name\":\"x\",\"url\":\"http://u:p@h\"}", "url"},
        {"{\"kind\":\"git\",\"name\":\"x\",\"url\":\"ext::sh\"}", "url"},
        {"{\"kind\":\"git\",\"name\":\"x\",\"url\":\"https://h/r\",\"branch\":\"a:b\"}", "branch"},
        {"{\"kind\":\"directory\",\"name\":\"x\",\"path\":\"a\"}", "path"},
        {"{\"kind\":\"s3\",\"name\":\"x\",\"endpoint\":\"http://h\"}", "bucket"},
        {"{\"kind\":\"crawl\",\"name\":\"x\",\"url\":\"http://h\",\"every\":\"1s\"}", "every"},
        {"{\"kind\":\"crawl\",\"name\":\"x\",\"url\":\"http://h\",\"rate_per_second\":0}",
         "rate_per_second"},
        {"{\"kind\":\"crawl\",\"name\":\"x\",\"url\":\"http://h\",\"dept\":1}", "dept"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        err = (struct err){0};
        assert_int_equal(decode(bad[i].json, &spec, &err), RC_INVALID);
        assert_string_equal(err.field, bad[i].field);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_urls, teardown),
        cmocka_unit_test_teardown(test_robots, teardown),
        cmocka_unit_test_teardown(test_links, teardown),
        cmocka_unit_test_teardown(test_sitemap, teardown),
        cmocka_unit_test_teardown(test_bucket_page, teardown),
        cmocka_unit_test_teardown(test_s3_signature, teardown),
        cmocka_unit_test_teardown(test_definitions, teardown),
    };
    arena_init(&arena, 64 << 20);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
