/* Forms on any bytes: the first line is the content type, the rest the body. */
#include "http/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str text = str_make(data, n), value;
    ssize_t line = str_find_char(text, '\n');
    if (line < 0)
        return 0;
    struct str boundary = multipart_boundary(str_make(text.p, (size_t)line));
    if (boundary.n == 0)
        return 0;
    struct str body = str_slice(text, (size_t)line + 1, n);
    if (multipart_find(body, boundary, STR("model"), &value) == RC_OK)
        ASSERT(value.p >= body.p && value.p + value.n <= body.p + body.n);
    return 0;
}
