/* Request heads and chunked bodies on any bytes: whatever is taken must be unambiguous. */
#include "http/head.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_request(struct str text)
{
    static struct http_head head;
    if (http_head_parse_request(&head, text) != RC_OK) {
        ASSERT(head.refusal >= 400 && head.refusal <= 599 && head.reason);
        return;
    }
    unsigned lengths = 0, codings = 0;
    for (size_t i = 0; i < head.headers.count; i++) {
        struct http_header header = head.items[i];
        ASSERT(http_is_token(header.name) && http_is_field_value(header.value));
        ASSERT(header.name.p >= text.p && header.value.p + header.value.n <= text.p + text.n);
        lengths += str_eq_nocase(header.name, STR("content-length"));
        codings += str_eq_nocase(header.name, STR("transfer-encoding"));
    }
    ASSERT(lengths + codings <= 1);
    ASSERT((head.framing == HTTP_BODY_LENGTH) == (lengths == 1));
    ASSERT((head.framing == HTTP_BODY_CHUNKED) == (codings == 1));
}

/* The same bytes in one piece and in two must give the same body. */
static void check_chunks(struct str text, size_t cut)
{
    char *copy = malloc(text.n + 1), *body = malloc(text.n + 1);
    size_t bytes[2] = {0, 0}, used;
    bool done[2];
    enum rc rc[2] = {RC_OK, RC_OK};
    for (int split = 0; split < 2; split++) {
        struct http_chunks chunks;
        http_chunks_init(&chunks);
        memcpy(copy, text.p, text.n);
        size_t ends[2] = {split ? cut : text.n, text.n}, at = 0;
        for (int i = 0; i < 2 && rc[split] == RC_OK && !chunks.done; i++) {
            size_t n;
            if (ends[i] == at)
                continue;
            rc[split] = http_chunks_decode(&chunks, copy + at, ends[i] - at, &used, &n);
            if (rc[split] == RC_OK && split == 0)
                memcpy(body, copy + at, n);
            else if (rc[split] == RC_OK)
                ASSERT(bytes[0] >= bytes[1] + n && memcmp(body + bytes[1], copy + at, n) == 0);
            bytes[split] += rc[split] == RC_OK ? n : 0;
            at = ends[i];
        }
        done[split] = chunks.done;
        if (rc[0] != RC_OK)
            break;
    }
    if (rc[0] == RC_OK)
        ASSERT(rc[1] == RC_LIMIT || (rc[1] == RC_OK && bytes[0] == bytes[1] && done[0] == done[1]));
    free(copy);
    free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str text = str_make(data, n);
    size_t scanned = 0, piecewise = 0;
    size_t end = http_head_find_end(text, &scanned);
    for (size_t i = 0; i <= n && n < 4096; i++) {
        size_t found = http_head_find_end(str_slice(text, 0, i), &piecewise);
        ASSERT(found == 0 || found == end);
        if (found)
            break;
    }
    check_request(str_slice(text, 0, end ? end : n));
    if (n > 0)
        check_chunks(str_slice(text, end, n), data[0] % (n - end + 1));
    return 0;
}
