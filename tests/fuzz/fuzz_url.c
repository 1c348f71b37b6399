/* URLs, proxy lists and query strings on any bytes. */
#include "http/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str text = str_make(data, n);
    struct url url;
    struct err err = {0};
    if (url_parse(text, &url, &err) == RC_OK) {
        ASSERT(http_is_field_value(url.host) && url.host.n > 0);
        ASSERT(url.path.n > 0 && url.path.p[0] == '/' && http_is_field_value(url.path));
    } else {
        ASSERT(err.message[0] != 0);
    }
    struct arena arena;
    arena_init(&arena, 1 << 20);
    (void)http_query_get(text, STR("a"), &arena);
    (void)proxy_list_covers(text, STR("api.example.com"), 443);
    (void)proxy_list_covers(text, STR("fd00::1"), 443);
    arena_fini(&arena);
    return 0;
}
