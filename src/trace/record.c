/* Encoding of call records. Pure functions, any thread; little-endian machines only, as the rest of
 * the formats (asserted below). Decoding trusts nothing: it is fuzzed (tests/fuzz/fuzz_record.c).
 */
#include "trace/record.h"
#include "base/utf8.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "formats are little-endian");

enum { RECORD_WHEN_ALWAYS, RECORD_WHEN_METADATA, RECORD_WHEN_FULL };

/* Fields that are not texts. On disk: append only. */
enum { FIELD_ERROR = 32, FIELD_TOKENS = 33, FIELD_PRICES = 34, FIELD_TAG = 35, FIELD_ATTEMPT = 36 };

enum {
    FLAG_STREAM = 1,
    FLAG_USAGE_KNOWN = 2,
    FLAG_USAGE_ESTIMATED = 4,
    FLAG_REQUEST_CUT = 8,
    FLAG_RESPONSE_CUT = 16,
    FLAG_PRICED = 32,
};

struct head_disk {
    uint16_t version, flags;
    uint16_t http_status;
    uint8_t door, operation, status, cache, capture, reserved;
    uint32_t head_bytes; /* a newer minor version may append to the head */
    uint8_t id[16], project[16], key[16], user_account[16];
    uint8_t trace_id[16], span_id[8], parent_id[8];
    int64_t started_wall_ns, queue_ns, connect_ns, first_token_ns, total_ns;
    int64_t cost_pico;
};
_Static_assert(sizeof(struct head_disk) == 160, "format");

struct text_row {
    uint8_t number, when;
    size_t offset, bytes_max;
};

/* By field number; those that are no texts have `bytes_max` 0. */
static const struct text_row text_rows[] = {
#define RECORD_TEXT(field, member, most, condition)                                                \
    [field] = {field, RECORD_WHEN_##condition, offsetof(struct call_record, member), most},
#include "trace/record_texts.h"
#undef RECORD_TEXT
};

static const struct str *record_text(const struct call_record *record, const struct text_row *row)
{
    return (const struct str *)((const char *)record + row->offset);
}

/* How much of a record its capture lets through, in terms of RECORD_WHEN_…. */
static int record_detail(const struct call_record *record)
{
    switch (record->capture) {
    case CAPTURE_NONE: return RECORD_WHEN_ALWAYS;
    case CAPTURE_FULL: return RECORD_WHEN_FULL;
    case CAPTURE_INHERIT:
    case CAPTURE_METADATA: break;
    }
    return RECORD_WHEN_METADATA;
}

enum record_type record_type_of(const struct call_record *record)
{
    return record->capture == CAPTURE_NONE ? RECORD_SPEND : RECORD_CALL;
}

/* ---- writing ---- */

static char *put_varint(char *at, uint64_t value)
{
    while (value >= 128) {
        *at++ = (char)(value | 128);
        value >>= 7;
    }
    *at++ = (char)value;
    return at;
}

static size_t varint_bytes(uint64_t value)
{
    return (size_t)(64 - __builtin_clzll(value | 1) + 6) / 7;
}

static char *put_bytes(char *at, struct str s)
{
    at = put_varint(at, s.n);
    if (s.n > 0)
        memcpy(at, s.p, s.n);
    return at + s.n;
}

static char *put_field(char *at, uint8_t number, struct str s)
{
    *at++ = (char)number;
    return put_bytes(at, s);
}

/* Zigzag, shifted by one so that 0 says "unknown". */
static uint64_t price_encode(int64_t price)
{
    if (price == COST_UNKNOWN)
        return 0;
    return (((uint64_t)price << 1) ^ (uint64_t)(price >> 63)) + 1;
}

static int64_t price_decode(uint64_t value)
{
    if (value == 0)
        return COST_UNKNOWN;
    value--;
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

static char *put_numbers(char *at, uint8_t number, const uint64_t *values, int count)
{
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += varint_bytes(values[i]);
    *at++ = (char)number;
    at = put_varint(at, n);
    for (int i = 0; i < count; i++)
        at = put_varint(at, values[i]);
    return at;
}

static struct str tag_part(struct str s) { return str_make(s.p, utf8_cut(s, LIMIT_TAG_BYTES)); }

static char *put_tag(char *at, const struct call_tag *tag)
{
    struct str name = tag_part(tag->name), value = tag_part(tag->value);
    *at++ = FIELD_TAG;
    at = put_varint(at, varint_bytes(name.n) + name.n + value.n);
    at = put_bytes(at, name);
    if (value.n > 0)
        memcpy(at, value.p, value.n);
    return at + value.n;
}

#define ATTEMPT_TEXT_BYTES_MAX 512

static char *put_attempt(char *at, const struct call_attempt *attempt)
{
    char body[4 * (ATTEMPT_TEXT_BYTES_MAX + 10) + 40];
    char *to = body;
    const struct str texts[] = {attempt->provider, attempt->model, attempt->reason,
                                str_from(err_code_name(attempt->error))};
    to = put_varint(to, (uint64_t)MAX(attempt->started_ns, 0));
    to = put_varint(to, (uint64_t)MAX(attempt->duration_ns, 0));
    to = put_varint(to, (uint64_t)MAX(attempt->http_status, 0));
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        to = put_bytes(to, str_make(texts[i].p, utf8_cut(texts[i], ATTEMPT_TEXT_BYTES_MAX)));
    return put_field(at, FIELD_ATTEMPT, str_make(body, (size_t)(to - body)));
}

size_t record_encode_bytes_max(const struct call_record *record)
{
    size_t n = sizeof(struct head_disk) + 64 + 2 * (10 * USAGE_BUCKET_COUNT + 12);
    for (size_t i = 1; i < COUNT_OF(text_rows); i++)
        n += MIN(record_text(record, &text_rows[i])->n, text_rows[i].bytes_max) + 6;
    for (size_t i = 0; i < MIN(record->tag_count, LIMIT_TAGS); i++)
        n += MIN(record->tags[i].name.n, LIMIT_TAG_BYTES) +
             MIN(record->tags[i].value.n, LIMIT_TAG_BYTES) + 16;
    for (size_t i = 0; i < MIN(record->attempt_count, CALL_ATTEMPTS_MAX); i++) {
        const struct call_attempt *a = &record->attempts[i];
        n += MIN(a->provider.n, ATTEMPT_TEXT_BYTES_MAX) + MIN(a->model.n, ATTEMPT_TEXT_BYTES_MAX) +
             MIN(a->reason.n, ATTEMPT_TEXT_BYTES_MAX) + 160;
    }
    return n;
}

static char *put_head(char *at, const struct call_record *record, int detail)
{
    struct head_disk head = {.version = RECORD_VERSION,
                             .http_status = (uint16_t)record->http_status,
                             .door = (uint8_t)record->door,
                             .operation = (uint8_t)record->operation,
                             .status = (uint8_t)record->status,
                             .cache = (uint8_t)record->cache,
                             .capture = (uint8_t)record->capture,
                             .head_bytes = sizeof(struct head_disk),
                             .started_wall_ns = record->started_wall_ns,
                             .queue_ns = record->queue_ns,
                             .connect_ns = record->connect_ns,
                             .first_token_ns = record->first_token_ns,
                             .total_ns = record->total_ns};
    bool priced = record->cost_pico != COST_UNKNOWN;
    head.cost_pico = priced ? record->cost_pico : 0;
    head.flags = (uint16_t)((record->stream ? FLAG_STREAM : 0) | (priced ? FLAG_PRICED : 0) |
                            (record->usage.known ? FLAG_USAGE_KNOWN : 0) |
                            (record->usage.estimated ? FLAG_USAGE_ESTIMATED : 0) |
                            (record->request_cut ? FLAG_REQUEST_CUT : 0) |
                            (record->response_cut ? FLAG_RESPONSE_CUT : 0));
    memcpy(head.project, record->project.bytes, 16);
    memcpy(head.key, record->key.bytes, 16);
    if (detail >= RECORD_WHEN_METADATA) {
        memcpy(head.id, record->id.bytes, 16);
        memcpy(head.user_account, record->user_account.bytes, 16);
        memcpy(head.trace_id, record->trace_id, 16);
        memcpy(head.span_id, record->span_id, 8);
        memcpy(head.parent_id, record->parent_id, 8);
    }
    memcpy(at, &head, sizeof(head));
    return at + sizeof(head);
}

size_t record_encode(const struct call_record *record, char *out)
{
    int detail = record_detail(record);
    char *at = put_head(out, record, detail);
    for (size_t i = 1; i < COUNT_OF(text_rows); i++) {
        struct str s = *record_text(record, &text_rows[i]);
        if (s.n > text_rows[i].bytes_max)
            s.n = utf8_cut(s, text_rows[i].bytes_max);
        if (s.n > 0 && text_rows[i].when <= detail)
            at = put_field(at, text_rows[i].number, s);
    }
    if (record->error != ERR_NONE)
        at = put_field(at, FIELD_ERROR, str_from(err_code_name(record->error)));
    at = put_numbers(at, FIELD_TOKENS, record->usage.tokens, USAGE_BUCKET_COUNT);
    if (record->cost_pico != COST_UNKNOWN) {
        uint64_t prices[USAGE_BUCKET_COUNT];
        for (int i = 0; i < USAGE_BUCKET_COUNT; i++)
            prices[i] = price_encode(record->bucket_price_pico[i]);
        at = put_numbers(at, FIELD_PRICES, prices, USAGE_BUCKET_COUNT);
    }
    for (size_t i = 0; i < MIN(record->tag_count, LIMIT_TAGS); i++)
        at = put_tag(at, &record->tags[i]);
    if (detail >= RECORD_WHEN_METADATA)
        for (size_t i = 0; i < MIN(record->attempt_count, CALL_ATTEMPTS_MAX); i++)
            at = put_attempt(at, &record->attempts[i]);
    return (size_t)(at - out);
}

/* ---- reading ---- */

static bool take_varint(struct str *s, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (s->n == 0)
            return false;
        uint8_t byte = (uint8_t)*s->p;
        *s = str_make(s->p + 1, s->n - 1);
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

static bool take_bytes(struct str *s, struct str *out)
{
    uint64_t n;
    if (!take_varint(s, &n) || n > s->n)
        return false;
    *out = str_make(s->p, n);
    *s = str_make(s->p + n, s->n - n);
    return true;
}

static enum err_code error_from_name(struct str name)
{
    for (int code = 0; code < ERR_CODE_COUNT; code++)
        if (str_eq(name, str_from(err_code_name((enum err_code)code))))
            return (enum err_code)code;
    return ERR_INTERNAL; /* of a newer version */
}

static bool take_attempt(struct str body, struct call_attempt *attempt)
{
    uint64_t started, duration, status;
    struct str error;
    if (!take_varint(&body, &started) || !take_varint(&body, &duration) ||
        !take_varint(&body, &status) || !take_bytes(&body, &attempt->provider) ||
        !take_bytes(&body, &attempt->model) || !take_bytes(&body, &attempt->reason) ||
        !take_bytes(&body, &error))
        return false;
    attempt->started_ns = (int64_t)started;
    attempt->duration_ns = (int64_t)duration;
    attempt->http_status = (int)status;
    attempt->error = error_from_name(error);
    return true;
}

/* Buckets that the writer did not know stay as they are. */
static bool take_numbers(struct str body, uint64_t values[USAGE_BUCKET_COUNT], int *count)
{
    *count = 0;
    while (body.n > 0 && *count < USAGE_BUCKET_COUNT)
        if (!take_varint(&body, &values[(*count)++]))
            return false;
    return true;
}

static bool take_text(struct call_record *record, uint8_t number, struct str body)
{
    if (number >= COUNT_OF(text_rows) || text_rows[number].bytes_max == 0)
        return false;
    *(struct str *)((char *)record + text_rows[number].offset) = body;
    return true;
}

static bool take_field(struct call_record *record, struct call_tag *tags,
                       struct call_attempt *attempts, uint8_t number, struct str body)
{
    uint64_t numbers[USAGE_BUCKET_COUNT];
    int count;
    if (take_text(record, number, body))
        return true;
    switch (number) {
    case FIELD_ERROR: record->error = error_from_name(body); return true;
    case FIELD_TOKENS: return take_numbers(body, record->usage.tokens, &count);
    case FIELD_PRICES:
        if (!take_numbers(body, numbers, &count))
            return false;
        for (int i = 0; i < count; i++)
            record->bucket_price_pico[i] = price_decode(numbers[i]);
        return true;
    case FIELD_TAG:
        if (record->tag_count == LIMIT_TAGS)
            return true;
        struct call_tag *tag = &tags[record->tag_count++];
        if (!take_bytes(&body, &tag->name))
            return false;
        tag->value = body;
        return true;
    case FIELD_ATTEMPT:
        if (!attempts || record->attempt_count == CALL_ATTEMPTS_MAX)
            return true;
        attempts[record->attempt_count] = (struct call_attempt){0};
        return take_attempt(body, &attempts[record->attempt_count++]);
    default: return true;
    }
}

static enum rc take_head(struct str *bytes, struct call_record *record)
{
    struct head_disk head;
    if (bytes->n < sizeof(head))
        return RC_CORRUPT;
    memcpy(&head, bytes->p, sizeof(head));
    if (head.version > RECORD_VERSION)
        return RC_INVALID;
    if (head.version == 0 || head.head_bytes < sizeof(head) || head.head_bytes > bytes->n ||
        head.door >= DOOR_COUNT || head.operation >= OPERATION_COUNT ||
        head.status >= CALL_STATUS_COUNT || head.cache > CALL_CACHE_HIT ||
        head.capture > CAPTURE_FULL)
        return RC_CORRUPT;
    record->door = head.door;
    record->operation = head.operation;
    record->status = head.status;
    record->cache = head.cache;
    record->capture = head.capture;
    record->http_status = head.http_status;
    record->stream = head.flags & FLAG_STREAM;
    record->usage.known = head.flags & FLAG_USAGE_KNOWN;
    record->usage.estimated = head.flags & FLAG_USAGE_ESTIMATED;
    record->request_cut = head.flags & FLAG_REQUEST_CUT;
    record->response_cut = head.flags & FLAG_RESPONSE_CUT;
    record->cost_pico = head.flags & FLAG_PRICED ? head.cost_pico : COST_UNKNOWN;
    record->started_wall_ns = head.started_wall_ns;
    record->queue_ns = head.queue_ns;
    record->connect_ns = head.connect_ns;
    record->first_token_ns = head.first_token_ns;
    record->total_ns = head.total_ns;
    memcpy(record->id.bytes, head.id, 16);
    memcpy(record->project.bytes, head.project, 16);
    memcpy(record->key.bytes, head.key, 16);
    memcpy(record->user_account.bytes, head.user_account, 16);
    memcpy(record->trace_id, head.trace_id, 16);
    memcpy(record->span_id, head.span_id, 8);
    memcpy(record->parent_id, head.parent_id, 8);
    *bytes = str_make(bytes->p + head.head_bytes, bytes->n - head.head_bytes);
    return RC_OK;
}

enum rc record_decode(struct str bytes, struct call_record *record,
                      struct call_tag tags[LIMIT_TAGS], struct call_attempt *attempts)
{
    memset(record, 0, sizeof(*record));
    for (int i = 0; i < USAGE_BUCKET_COUNT; i++)
        record->bucket_price_pico[i] = COST_UNKNOWN;
    record->tags = tags;
    record->attempts = attempts;
    enum rc rc = take_head(&bytes, record);
    if (rc != RC_OK)
        return rc;
    while (bytes.n > 0) {
        uint8_t number = (uint8_t)*bytes.p;
        struct str body;
        bytes = str_make(bytes.p + 1, bytes.n - 1);
        if (!take_bytes(&bytes, &body) || !take_field(record, tags, attempts, number, body))
            return RC_CORRUPT;
    }
    return RC_OK;
}

/* ---- erasures ---- */

size_t record_erase_encode(const struct record_erase *erase, char out[RECORD_ERASE_BYTES_MAX])
{
    ASSERT(erase->user.n <= 1024);
    memcpy(out, erase->project.bytes, 16);
    memcpy(out + 16, erase->call.bytes, 16);
    if (erase->user.n > 0)
        memcpy(out + 32, erase->user.p, erase->user.n);
    return 32 + erase->user.n;
}

enum rc record_erase_decode(struct str bytes, struct record_erase *erase)
{
    if (bytes.n < 32 || bytes.n > RECORD_ERASE_BYTES_MAX)
        return RC_CORRUPT;
    memcpy(erase->project.bytes, bytes.p, 16);
    memcpy(erase->call.bytes, bytes.p + 16, 16);
    erase->user = str_make(bytes.p + 32, bytes.n - 32);
    return RC_OK;
}
