/* Event streams on any bytes, whole and in pieces: the events must be the same. */
#include "base/hash.h"
#include "http/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct seen {
    size_t count;
    uint64_t hash;
};

static enum rc note(void *arg, const struct sse_event *event)
{
    struct seen *seen = arg;
    seen->count++;
    const struct str texts[] = {event->name, event->id, event->data};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        uint64_t parts[] = {seen->hash, texts[i].n,
                            texts[i].n ? hash_xxh3(texts[i].p, texts[i].n) : 0};
        seen->hash = hash_xxh3(parts, sizeof(parts));
    }
    return RC_OK;
}

static struct seen parse(const uint8_t *data, size_t n, size_t piece)
{
    struct sse_parser parser;
    struct seen seen = {0};
    sse_parser_init(&parser);
    for (size_t at = 0; at < n; at += piece)
        if (sse_parse(&parser, str_make(data + at, MIN(piece, n - at)), note, &seen) != RC_OK)
            break;
    sse_parser_fini(&parser);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct seen whole = parse(data, n, n ? n : 1), single = parse(data, n, 1),
                some = parse(data, n, n ? data[0] % 16 + 1 : 1);
    ASSERT(whole.count == single.count && whole.hash == single.hash);
    ASSERT(whole.count == some.count && whole.hash == some.hash);
    return 0;
}
