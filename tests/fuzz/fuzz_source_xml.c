/* Sitemaps and S3's answers, from any bytes. */
#include "knowledge/source_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str xml = str_make(data, n), code, message;
    struct sitemap sitemap;
    struct bucket_page page;
    struct arena arena;
    struct err err = {0};
    arena_init(&arena, 32 << 20);
    if (sitemap_parse(xml, &arena, &sitemap, &err) == RC_OK) {
        for (size_t i = 0; i < sitemap.count; i++)
            ASSERT(sitemap.entries[i].url.n > 0);
    } else {
        ASSERT(err.message[0] != 0);
    }
    if (bucket_page_parse(xml, &arena, &page, NULL) == RC_OK)
        for (size_t i = 0; i < page.count; i++)
            ASSERT(page.objects[i].key.n > 0);
    bucket_error_parse(xml, &arena, &code, &message);
    arena_fini(&arena);
    return 0;
}
