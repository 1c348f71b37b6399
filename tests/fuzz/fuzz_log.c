/* The log's reader over arbitrary bytes: header, records, and what a record holds. */
#include "store/log.h"
#include "trace/record.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void decode(struct str payload)
{
    static struct call_record call;
    static struct call_attempt attempts[CALL_ATTEMPTS_MAX];
    struct call_tag tags[LIMIT_TAGS];
    struct record_erase erase;
    if (record_decode(payload, &call, tags, attempts) == RC_OK) {
        char *again = malloc(record_encode_bytes_max(&call));
        ASSERT(record_encode(&call, again) <= record_encode_bytes_max(&call));
        free(again);
    }
    if (record_erase_decode(payload, &erase) == RC_OK)
        ASSERT(erase.user.n <= payload.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str rest = str_make(data, n);
    struct log_header header = {0};
    struct log_record record;
    size_t bytes;
    decode(rest);
    if (log_parse_header(rest, &header) == RC_OK)
        rest = str_make(rest.p + LOG_HEADER_BYTES, rest.n - LOG_HEADER_BYTES);
    while (log_parse_record(rest, header.salt, &record, &bytes) == RC_OK) {
        ASSERT(bytes >= LOG_RECORD_HEADER_BYTES && bytes <= rest.n);
        decode(record.payload);
        rest = str_make(rest.p + bytes, rest.n - bytes);
    }
    return 0;
}
