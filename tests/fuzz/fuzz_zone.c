/* TZif files and POSIX TZ texts on any bytes; what is understood answers for any time. */
#include "text/zone.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void ask(const struct zone *zone)
{
    for (int64_t at = -4000000000; at < 6000000000; at += 86400 * 61 + 1234) {
        int32_t offset = zone_offset_s(zone, at);
        ASSERT(offset >= -ZONE_OFFSET_S_MAX && offset <= ZONE_OFFSET_S_MAX);
        (void)zone_from_local_s(zone, at);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena arena;
    struct zone zone;
    arena_init(&arena, 1 << 20);
    if (zone_parse(str_make(data, n), &arena, &zone) == RC_OK)
        ask(&zone);
    zone = (struct zone){.has_rule = true};
    if (zone_rule_parse(str_make(data, n), &zone.rule) == RC_OK)
        ask(&zone);
    arena_fini(&arena);
    return 0;
}
