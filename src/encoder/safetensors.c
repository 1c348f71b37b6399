/* The safetensors reader. The header is JSON of at most SAFETENSORS_HEADER_BYTES_MAX; a tensor's
 * bytes must lie within the data and be as many as its shape and type say. */
#include "encoder/safetensors.h"
#include "text/json.h"
#include <stdarg.h>
#include <stdio.h>

#define SAFETENSORS_HEADER_BYTES_MAX (16 << 20)
#define SAFETENSORS_COUNT_MAX        65536

PRINTF_LIKE(2, 3)
static enum rc corrupt(struct err *err, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    err_set(err, ERR_INVALID, "not a sound safetensors file: %s", text);
    return RC_CORRUPT;
}

static enum safetensors_type type_of(struct str name, unsigned *bytes)
{
    static const struct {
        struct str name;
        enum safetensors_type type;
        unsigned bytes;
    } TYPES[] = {
        {STR_INIT("F32"), SAFETENSORS_F32, 4},   {STR_INIT("F16"), SAFETENSORS_F16, 2},
        {STR_INIT("BF16"), SAFETENSORS_BF16, 2}, {STR_INIT("F64"), SAFETENSORS_OTHER, 8},
        {STR_INIT("I64"), SAFETENSORS_OTHER, 8}, {STR_INIT("I32"), SAFETENSORS_OTHER, 4},
        {STR_INIT("I16"), SAFETENSORS_OTHER, 2}, {STR_INIT("I8"), SAFETENSORS_OTHER, 1},
        {STR_INIT("U8"), SAFETENSORS_OTHER, 1},  {STR_INIT("BOOL"), SAFETENSORS_OTHER, 1},
        {STR_INIT("U64"), SAFETENSORS_OTHER, 8}, {STR_INIT("U32"), SAFETENSORS_OTHER, 4},
        {STR_INIT("U16"), SAFETENSORS_OTHER, 2},
    };
    *bytes = 0; /* a type of later versions: its size is not known */
    for (size_t i = 0; i < COUNT_OF(TYPES); i++)
        if (str_eq(TYPES[i].name, name)) {
            *bytes = TYPES[i].bytes;
            return TYPES[i].type;
        }
    return SAFETENSORS_OTHER;
}

static enum rc read_shape(yyjson_val *shape, struct safetensor *out, struct err *err)
{
    size_t count = yyjson_arr_size(shape);
    if (!yyjson_is_arr(shape) || count > SAFETENSORS_DIMENSIONS_MAX)
        return corrupt(err, "%.*s has a shape of %zu dimensions", STR_ARG(out->name), count);
    out->dimension_count = (unsigned)count;
    out->elements = 1;
    for (size_t i = 0; i < count; i++) {
        yyjson_val *value = yyjson_arr_get(shape, i);
        if (!yyjson_is_uint(value) ||
            __builtin_mul_overflow(out->elements, yyjson_get_uint(value), &out->elements))
            return corrupt(err, "the shape of %.*s", STR_ARG(out->name));
        out->shape[i] = yyjson_get_uint(value);
    }
    return RC_OK;
}

static enum rc read_tensor(yyjson_val *value, struct str data, struct safetensor *out,
                           struct err *err)
{
    unsigned element_bytes;
    out->type = type_of(json_get_text(value, "dtype"), &element_bytes);
    enum rc rc = read_shape(yyjson_obj_get(value, "shape"), out, err);
    if (rc)
        return rc;
    yyjson_val *place = yyjson_obj_get(value, "data_offsets");
    yyjson_val *from = yyjson_arr_get(place, 0), *to = yyjson_arr_get(place, 1);
    uint64_t begin = yyjson_get_uint(from), end = yyjson_get_uint(to), bytes;
    if (yyjson_arr_size(place) != 2 || !yyjson_is_uint(from) || !yyjson_is_uint(to) ||
        begin > end || end > data.n)
        return corrupt(err, "%.*s does not lie within the file: it may be cut off",
                       STR_ARG(out->name));
    if (element_bytes &&
        (__builtin_mul_overflow(out->elements, element_bytes, &bytes) || bytes != end - begin))
        return corrupt(err, "%.*s has %llu bytes, its shape says otherwise", STR_ARG(out->name),
                       (unsigned long long)(end - begin));
    out->data = (const uint8_t *)data.p + begin;
    out->bytes = end - begin;
    return RC_OK;
}

enum rc safetensors_read(struct str file, struct arena *arena, struct safetensors *out,
                         struct err *err)
{
    *out = (struct safetensors){0};
    uint64_t header_bytes = 0;
    if (file.n < 8)
        return corrupt(err, "it has %zu bytes", file.n);
    memcpy(&header_bytes, file.p, 8); /* little-endian, as every machine Capstan runs on */
    if (header_bytes > SAFETENSORS_HEADER_BYTES_MAX || header_bytes > file.n - 8)
        return corrupt(err, "the header's length is wrong");
    yyjson_doc *doc;
    if (json_read(str_slice(file, 8, 8 + header_bytes), arena, &doc, err))
        return corrupt(err, "the header is not JSON");
    yyjson_val *root = yyjson_doc_get_root(doc);
    struct str data = str_slice(file, 8 + header_bytes, file.n);
    size_t count = yyjson_obj_size(root);
    if (!yyjson_is_obj(root) || count > SAFETENSORS_COUNT_MAX)
        return corrupt(err, "the header lists %zu tensors", count);
    out->tensors = ARENA_NEW_ARRAY(arena, struct safetensor, count + 1);
    if (!out->tensors)
        return err_set(err, ERR_TOO_LARGE, "the header is too large");
    yyjson_obj_iter iter = yyjson_obj_iter_with(root);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter));) {
        struct safetensor *tensor = &out->tensors[out->count];
        tensor->name = json_text(key);
        if (str_eq(tensor->name, STR("__metadata__")))
            continue;
        enum rc rc = read_tensor(yyjson_obj_iter_get_val(key), data, tensor, err);
        if (rc)
            return rc;
        out->count++;
    }
    return RC_OK;
}

const struct safetensor *safetensors_find(const struct safetensors *tensors, struct str name)
{
    for (size_t i = 0; i < tensors->count; i++)
        if (str_eq(tensors->tensors[i].name, name))
            return &tensors->tensors[i];
    return NULL;
}

/* IEEE 754 binary16: sign, five bits of exponent, ten of fraction. */
static float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31;
    uint32_t fraction = half & 0x3FF, bits;
    if (exponent == 0) { /* zero and what is below the normal range */
        float value = (float)fraction * 0x1p-24f;
        return sign ? -value : value;
    }
    bits = sign | (exponent == 31 ? 0xFFu : exponent + 112) << 23 | fraction << 13;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

void safetensors_to_f32(const struct safetensor *tensor, float *out)
{
    ASSERT(tensor->type != SAFETENSORS_OTHER);
    if (tensor->type == SAFETENSORS_F32) {
        memcpy(out, tensor->data, tensor->bytes);
        return;
    }
    for (uint64_t i = 0; i < tensor->elements; i++) {
        uint16_t half;
        memcpy(&half, tensor->data + 2 * i, sizeof(half));
        if (tensor->type == SAFETENSORS_F16) {
            out[i] = half_to_float(half);
        } else {
            uint32_t bits = (uint32_t)half << 16;
            memcpy(&out[i], &bits, sizeof(bits));
        }
    }
}
