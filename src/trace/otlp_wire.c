/* OTLP's protobuf messages into their JSON form (otlp.h): tables of fields, and one reader of the
 * wire format (protobuf.dev/programming-guides/encoding). Unknown fields are skipped, nesting is
 * bounded, every length is checked against what is left. */
#include "trace/otlp.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "text/json_tree.h"

#define DEPTH_MAX 32

enum field_type {
    FIELD_TEXT,
    FIELD_HEX,    /* bytes of an id, as the JSON form writes them */
    FIELD_BYTES,  /* of a value: only how many is kept */
    FIELD_BOOL,   /* varint */
    FIELD_INT,    /* varint, signed */
    FIELD_FIXED,  /* fixed64, unsigned */
    FIELD_DOUBLE, /* fixed64 */
    FIELD_MESSAGE
};

enum message {
    MESSAGE_REQUEST,
    MESSAGE_RESOURCE_SPANS,
    MESSAGE_RESOURCE,
    MESSAGE_SCOPE_SPANS,
    MESSAGE_SCOPE,
    MESSAGE_SPAN,
    MESSAGE_EVENT,
    MESSAGE_LINK,
    MESSAGE_STATUS,
    MESSAGE_KEY_VALUE,
    MESSAGE_VALUE,
    MESSAGE_ARRAY,
    MESSAGE_KEY_VALUES,
};

struct field {
    enum message of;
    uint32_t number;
    const char *name;
    enum field_type type;
    bool repeated;
    enum message message;
};

static const struct field fields[] = {
    {MESSAGE_REQUEST, 1, "resourceSpans", FIELD_MESSAGE, true, MESSAGE_RESOURCE_SPANS},
    {MESSAGE_RESOURCE_SPANS, 1, "resource", FIELD_MESSAGE, false, MESSAGE_RESOURCE},
    {MESSAGE_RESOURCE_SPANS, 2, "scopeSpans", FIELD_MESSAGE, true, MESSAGE_SCOPE_SPANS},
    {MESSAGE_RESOURCE, 1, "attributes", FIELD_MESSAGE, true, MESSAGE_KEY_VALUE},
    {MESSAGE_SCOPE_SPANS, 1, "scope", FIELD_MESSAGE, false, MESSAGE_SCOPE},
    {MESSAGE_SCOPE_SPANS, 2, "spans", FIELD_MESSAGE, true, MESSAGE_SPAN},
    {MESSAGE_SCOPE, 1, "name", FIELD_TEXT, false, 0},
    {MESSAGE_SCOPE, 2, "version", FIELD_TEXT, false, 0},
    {MESSAGE_SPAN, 1, "traceId", FIELD_HEX, false, 0},
    {MESSAGE_SPAN, 2, "spanId", FIELD_HEX, false, 0},
    {MESSAGE_SPAN, 4, "parentSpanId", FIELD_HEX, false, 0},
    {MESSAGE_SPAN, 5, "name", FIELD_TEXT, false, 0},
    {MESSAGE_SPAN, 6, "kind", FIELD_INT, false, 0},
    {MESSAGE_SPAN, 7, "startTimeUnixNano", FIELD_FIXED, false, 0},
    {MESSAGE_SPAN, 8, "endTimeUnixNano", FIELD_FIXED, false, 0},
    {MESSAGE_SPAN, 9, "attributes", FIELD_MESSAGE, true, MESSAGE_KEY_VALUE},
    {MESSAGE_SPAN, 11, "events", FIELD_MESSAGE, true, MESSAGE_EVENT},
    {MESSAGE_SPAN, 13, "links", FIELD_MESSAGE, true, MESSAGE_LINK},
    {MESSAGE_SPAN, 15, "status", FIELD_MESSAGE, false, MESSAGE_STATUS},
    {MESSAGE_EVENT, 1, "timeUnixNano", FIELD_FIXED, false, 0},
    {MESSAGE_EVENT, 2, "name", FIELD_TEXT, false, 0},
    {MESSAGE_EVENT, 3, "attributes", FIELD_MESSAGE, true, MESSAGE_KEY_VALUE},
    {MESSAGE_LINK, 1, "traceId", FIELD_HEX, false, 0},
    {MESSAGE_LINK, 2, "spanId", FIELD_HEX, false, 0},
    {MESSAGE_LINK, 4, "attributes", FIELD_MESSAGE, true, MESSAGE_KEY_VALUE},
    {MESSAGE_STATUS, 2, "message", FIELD_TEXT, false, 0},
    {MESSAGE_STATUS, 3, "code", FIELD_INT, false, 0},
    {MESSAGE_KEY_VALUE, 1, "key", FIELD_TEXT, false, 0},
    {MESSAGE_KEY_VALUE, 2, "value", FIELD_MESSAGE, false, MESSAGE_VALUE},
    {MESSAGE_VALUE, 1, "stringValue", FIELD_TEXT, false, 0},
    {MESSAGE_VALUE, 2, "boolValue", FIELD_BOOL, false, 0},
    {MESSAGE_VALUE, 3, "intValue", FIELD_INT, false, 0},
    {MESSAGE_VALUE, 4, "doubleValue", FIELD_DOUBLE, false, 0},
    {MESSAGE_VALUE, 5, "arrayValue", FIELD_MESSAGE, false, MESSAGE_ARRAY},
    {MESSAGE_VALUE, 6, "kvlistValue", FIELD_MESSAGE, false, MESSAGE_KEY_VALUES},
    {MESSAGE_VALUE, 7, "bytesValue", FIELD_BYTES, false, 0},
    {MESSAGE_ARRAY, 1, "values", FIELD_MESSAGE, true, MESSAGE_VALUE},
    {MESSAGE_KEY_VALUES, 1, "values", FIELD_MESSAGE, true, MESSAGE_KEY_VALUE},
};

struct wire {
    yyjson_mut_doc *doc;
    struct arena *arena;
    int depth;
    bool full; /* the arena is */
};

/* What a field of the wire carries: a number, or bytes. */
struct wire_value {
    int type; /* 0 varint, 1 eight bytes, 2 bytes, 5 four bytes */
    uint64_t number;
    struct str bytes;
};

static bool take_varint(struct str *s, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && s->n > 0; shift += 7) {
        uint8_t byte = (uint8_t)*s->p;
        *s = str_make(s->p + 1, s->n - 1);
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

static bool take_bytes(struct str *s, size_t n, struct str *out)
{
    if (n > s->n)
        return false;
    *out = str_make(s->p, n);
    *s = str_make(s->p + n, s->n - n);
    return true;
}

static bool take_value(struct str *s, uint32_t *number, struct wire_value *value)
{
    uint64_t tag, n;
    *value = (struct wire_value){0};
    if (!take_varint(s, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
        return false;
    *number = (uint32_t)(tag >> 3);
    value->type = (int)(tag & 7);
    switch (value->type) {
    case 0: return take_varint(s, &value->number);
    case 1:
        if (!take_bytes(s, 8, &value->bytes))
            return false;
        memcpy(&value->number, value->bytes.p, 8);
        return true;
    case 2: return take_varint(s, &n) && take_bytes(s, n, &value->bytes);
    case 5: return take_bytes(s, 4, &value->bytes);
    default: return false; /* groups: older than OTLP */
    }
}

static const struct field *find_field(enum message of, uint32_t number)
{
    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (fields[i].of == of && fields[i].number == number)
            return &fields[i];
    return NULL;
}

static int wire_type_of(enum field_type type)
{
    switch (type) {
    case FIELD_BOOL:
    case FIELD_INT: return 0;
    case FIELD_FIXED:
    case FIELD_DOUBLE: return 1;
    default: return 2;
    }
}

static yyjson_mut_val *read_message(struct wire *w, enum message of, struct str bytes);

static yyjson_mut_val *hex_value(struct wire *w, struct str bytes)
{
    char *text = bytes.n <= 64 ? arena_alloc(w->arena, 2 * bytes.n + 1) : NULL;
    if (!text)
        return yyjson_mut_str(w->doc, "");
    hex_encode(bytes.p, bytes.n, text);
    return yyjson_mut_strn(w->doc, text, 2 * bytes.n);
}

static yyjson_mut_val *read_value(struct wire *w, const struct field *field,
                                  const struct wire_value *value)
{
    double number;
    switch (field->type) {
    case FIELD_TEXT: return utf8_valid(value->bytes) ? json_new_text(w->doc, value->bytes) : NULL;
    case FIELD_HEX: return hex_value(w, value->bytes);
    case FIELD_BYTES: {
        struct str text = arena_printf(w->arena, "(%zu bytes)", value->bytes.n);
        return json_new_text(w->doc, text);
    }
    case FIELD_BOOL: return yyjson_mut_bool(w->doc, value->number != 0);
    case FIELD_INT: return yyjson_mut_sint(w->doc, (int64_t)value->number);
    case FIELD_FIXED: return yyjson_mut_uint(w->doc, value->number);
    case FIELD_DOUBLE: memcpy(&number, &value->number, 8); return yyjson_mut_real(w->doc, number);
    case FIELD_MESSAGE: return read_message(w, field->message, value->bytes);
    }
    return NULL;
}

static bool put_field(struct wire *w, yyjson_mut_val *object, const struct field *field,
                      const struct wire_value *value)
{
    yyjson_mut_val *item = read_value(w, field, value);
    if (!item)
        return false;
    if (!field->repeated) { /* the last one counts, says protobuf */
        yyjson_mut_val *key = yyjson_mut_str(w->doc, field->name);
        w->full = w->full || !key || !yyjson_mut_obj_put(object, key, item);
        return !w->full;
    }
    yyjson_mut_val *list = yyjson_mut_obj_get(object, field->name);
    if (!list)
        list = yyjson_mut_obj_add_arr(w->doc, object, field->name);
    w->full = w->full || !list || !yyjson_mut_arr_append(list, item);
    return !w->full;
}

/* NULL: damaged, too deep, or the arena is full. */
static yyjson_mut_val *read_message(struct wire *w, enum message of, struct str bytes)
{
    yyjson_mut_val *object = yyjson_mut_obj(w->doc);
    w->full = w->full || !object;
    bool good = !w->full && ++w->depth <= DEPTH_MAX;
    while (good && bytes.n > 0) {
        uint32_t number;
        struct wire_value value;
        good = take_value(&bytes, &number, &value);
        const struct field *field = good ? find_field(of, number) : NULL;
        if (field && value.type == wire_type_of(field->type))
            good = put_field(w, object, field, &value);
    }
    w->depth--;
    return good ? object : NULL;
}

enum rc otlp_from_protobuf(struct str bytes, struct arena *arena, yyjson_val **message,
                           struct err *err)
{
    struct wire w = {.doc = json_tree_new(arena), .arena = arena};
    w.full = !w.doc;
    yyjson_mut_val *root = w.full ? NULL : read_message(&w, MESSAGE_REQUEST, bytes);
    yyjson_doc *frozen = root ? json_freeze(root, arena) : NULL;
    if (frozen) {
        *message = yyjson_doc_get_root(frozen);
        return RC_OK;
    }
    if (w.full || root)
        return err_set(err, ERR_TOO_LARGE, "the spans need more memory than a request may use");
    return err_set(err, ERR_BAD_FIELD, "the body is not an ExportTraceServiceRequest of OTLP");
}
