/* robots.txt of any bytes; its first line is the path that is asked about. */
#include "knowledge/source_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct robots robots;
    struct arena arena;
    struct str text = str_make(data, n), path;
    arena_init(&arena, 4 << 20);
    if (!str_split(&text, '\n', &path))
        path = STR("/");
    if (robots_parse(text, STR("capstan"), &arena, &robots, NULL) == RC_OK) {
        bool allowed = robots_allow(&robots, path);
        ASSERT(allowed || robots.count > 0);
        ASSERT(robots.delay_s >= 0 && robots.delay_s <= 60);
    }
    arena_fini(&arena);
    return 0;
}
