/* Answers' heads on any bytes. */
#include "http/head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct http_head head;
    struct str text = str_make(data, n);
    size_t scanned = 0, end = http_head_find_end(text, &scanned);
    if (end == 0 || http_head_parse_response(&head, str_slice(text, 0, end), n & 1) != RC_OK)
        return 0;
    ASSERT(head.status >= 100 && head.status <= 999);
    for (size_t i = 0; i < head.headers.count; i++)
        ASSERT(http_is_token(head.items[i].name) && http_is_field_value(head.items[i].value));
    return 0;
}
