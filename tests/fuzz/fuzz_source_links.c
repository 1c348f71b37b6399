/* The links of any bytes, and each of them resolved: what comes out is an address that parses. */
#include "http/message.h"
#include "knowledge/source_private.h"
#include "knowledge/source_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct page_links links;
    struct arena arena;
    struct str url, base = STR("http://example.org/a/b?c");
    struct url parts;
    arena_init(&arena, 8 << 20);
    if (links_parse(str_make(data, n), &arena, &links, NULL) == RC_OK) {
        ASSERT(links.count <= PAGE_LINKS_MAX);
        if (links.base.p && source_url_resolve(base, links.base, 2048, &arena, &url) == RC_OK)
            base = url;
        for (size_t i = 0; i < links.count; i++) {
            if (source_url_resolve(base, links.references[i], 2048, &arena, &url) != RC_OK)
                continue;
            ASSERT(url.n <= 2048 && url_parse(url, &parts, NULL) == RC_OK);
            ASSERT(source_url_origin(url).n > 0 && source_url_path(url).p[0] == '/');
        }
    }
    arena_fini(&arena);
    return 0;
}
