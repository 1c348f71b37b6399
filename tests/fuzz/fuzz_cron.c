/* Cron expressions on any text; where one is understood, its times go forward and hold. */
#include "text/cron.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct cron cron;
    struct err err = {0};
    struct zone zone = {.has_rule = true};
    if (cron_parse(str_make(data, n), &cron, &err) != RC_OK) {
        ASSERT(err.message[0] != 0);
        return 0;
    }
    if (zone_rule_parse(STR("CET-1CEST,M3.5.0,M10.5.0/3"), &zone.rule) != RC_OK)
        ASSERT(false);
    int64_t at = 1774738800; /* a day before clocks go forward */
    for (int i = 0; i < 50; i++) {
        int64_t next = cron_next_s(&cron, &zone, at);
        ASSERT(next > at);
        if (next == INT64_MAX)
            break;
        at = next;
    }
    return 0;
}
