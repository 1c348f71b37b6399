/* Checks over streams: however a text is cut, what comes out is the same as from the whole. */
#include "gateway/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct str streamed(const struct check *checks, size_t count, struct str text, size_t piece,
                           struct arena *arena)
{
    struct check_report report = {0};
    struct str all = STR(""), out;
    struct check_stream *stream = check_stream_new(checks, count, CHECK_OUTPUT, arena);
    enum rc rc = stream ? RC_OK : RC_LIMIT;
    for (size_t at = 0; rc == RC_OK && at < text.n; at += piece) {
        rc = check_stream_push(stream, str_slice(text, at, at + piece), &out, &report);
        if (rc == RC_OK)
            all = arena_concat(arena, all, out);
    }
    if (rc == RC_OK)
        rc = check_stream_finish(stream, &out, &report);
    if (rc == RC_OK)
        all = arena_concat(arena, all, out);
    if (stream)
        check_stream_fini(stream);
    return rc == RC_OK ? all : STR_EMPTY;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena arena;
    struct check checks[] = {{.kind = CHECK_PII, .on = CHECK_OUTPUT, .action = CHECK_MASK},
                             {.kind = CHECK_REGEX,
                              .on = CHECK_OUTPUT,
                              .action = CHECK_MASK,
                              .pattern = STR_INIT("(?i)\\bsecret \\w{1,20}")}};
    arena_init(&arena, 256 << 20);
    for (size_t i = 0; i < COUNT_OF(checks); i++)
        if (check_compile(&checks[i], &arena, NULL) != RC_OK)
            __builtin_trap();
    struct str text = str_make(data, MIN(n, (size_t)CHECK_WINDOW_BYTES));
    struct str whole = streamed(checks, COUNT_OF(checks), text, n + 1, &arena);
    struct str cut = streamed(checks, COUNT_OF(checks), text, 1 + n % 5, &arena);
    if (whole.p && cut.p)
        ASSERT(str_eq(whole, cut));
    arena_fini(&arena);
    return 0;
}
