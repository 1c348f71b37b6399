/* The GGUF reader. One cursor walks the header; every read is checked against the bytes that are
 * there, and what a count promises is checked before it is looped over. Nothing is kept but the few
 * keys that Capstan uses. Any thread. */
#include "model/gguf.h"

#define GGUF_KEYS_MAX        100000
#define GGUF_TENSORS_MAX     1000000
#define GGUF_DIMENSIONS_MAX  8
#define GGUF_ARRAY_DEPTH_MAX 4
#define GGUF_ALIGNMENT       32

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
};

/* Bytes of a value; 0: has no fixed size. */
static const uint8_t TYPE_BYTES[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

/* Weights of a tensor type are stored in blocks (ggml.c, type_traits). Types that are not listed
 * are taken to be of unknown size. */
static const struct {
    uint16_t weights, bytes;
} BLOCKS[] = {
    [0] = {1, 4},      [1] = {1, 2},      [2] = {32, 18},    [3] = {32, 20},    [6] = {32, 22},
    [7] = {32, 24},    [8] = {32, 34},    [9] = {32, 36},    [10] = {256, 84},  [11] = {256, 110},
    [12] = {256, 144}, [13] = {256, 176}, [14] = {256, 210}, [15] = {256, 292}, [16] = {256, 66},
    [17] = {256, 74},  [18] = {256, 98},  [19] = {256, 50},  [20] = {32, 18},   [21] = {256, 110},
    [22] = {256, 82},  [23] = {256, 136}, [24] = {1, 1},     [25] = {1, 2},     [26] = {1, 4},
    [27] = {1, 8},     [28] = {1, 8},     [29] = {256, 56},  [30] = {1, 2},     [34] = {256, 54},
    [35] = {256, 66},  [39] = {32, 17},
};

/* general.file_type (llama.h, llama_ftype). */
static const char *const FILE_TYPES[] = {
    [0] = "F32",      [1] = "F16",      [2] = "Q4_0",    [3] = "Q4_1",    [7] = "Q8_0",
    [8] = "Q5_0",     [9] = "Q5_1",     [10] = "Q2_K",   [11] = "Q3_K_S", [12] = "Q3_K_M",
    [13] = "Q3_K_L",  [14] = "Q4_K_S",  [15] = "Q4_K_M", [16] = "Q5_K_S", [17] = "Q5_K_M",
    [18] = "Q6_K",    [19] = "IQ2_XXS", [20] = "IQ2_XS", [21] = "Q2_K_S", [22] = "IQ3_XS",
    [23] = "IQ3_XXS", [24] = "IQ1_S",   [25] = "IQ4_NL", [26] = "IQ3_S",  [27] = "IQ3_M",
    [28] = "IQ2_S",   [29] = "IQ2_M",   [30] = "IQ4_XS", [31] = "IQ1_M",  [32] = "BF16",
    [36] = "TQ1_0",   [37] = "TQ2_0",   [38] = "MXFP4",
};

/* ARCHITECTURE.pooling_type (llama.h, llama_pooling_type); 0 is none. */
static const char *const POOLINGS[] = {NULL, "mean", "cls", "last", "rank"};

struct cursor {
    const uint8_t *p;
    size_t n, at;
    bool short_of; /* a read wanted more than there is */
};

/* What is read before it is known which architecture's keys count. */
struct header {
    uint32_t version;
    uint64_t tensor_count, key_count, alignment;
    struct gguf_info *info;
    uint64_t tokens; /* length of tokenizer.ggml.tokens */
};

static uint64_t read_number(struct cursor *c, size_t bytes)
{
    if (bytes > c->n - c->at) {
        c->short_of = true;
        c->at = c->n;
        return 0;
    }
    uint64_t value = 0;
    memcpy(&value, c->p + c->at, bytes); /* little-endian, as every machine Capstan runs on */
    c->at += bytes;
    return value;
}

static struct str read_bytes(struct cursor *c, uint64_t n)
{
    if (n > c->n - c->at) {
        c->short_of = true;
        c->at = c->n;
        return STR_EMPTY;
    }
    struct str s = str_make(c->p + c->at, (size_t)n);
    c->at += (size_t)n;
    return s;
}

static struct str read_string(struct cursor *c) { return read_bytes(c, read_number(c, 8)); }

/* Skips a value. False: an unknown type, or nested too deep. */
static bool skip_value(struct cursor *c, uint32_t type, int depth, uint64_t *array_length)
{
    if (type >= GGUF_TYPE_COUNT)
        return false;
    if (type == GGUF_STRING) {
        read_string(c);
        return true;
    }
    if (type != GGUF_ARRAY) {
        read_bytes(c, TYPE_BYTES[type]);
        return true;
    }
    if (depth == GGUF_ARRAY_DEPTH_MAX)
        return false;
    uint32_t element = (uint32_t)read_number(c, 4);
    uint64_t count = read_number(c, 8);
    if (array_length)
        *array_length = count;
    if (element >= GGUF_TYPE_COUNT)
        return false;
    if (TYPE_BYTES[element]) {
        if (count > (c->n - c->at) / TYPE_BYTES[element])
            c->short_of = true;
        else
            read_bytes(c, count * TYPE_BYTES[element]);
        return true;
    }
    /* Each element takes at least its length field, so the loop ends with the bytes. */
    for (uint64_t i = 0; i < count && !c->short_of; i++)
        if (!skip_value(c, element, depth + 1, NULL))
            return false;
    return true;
}

static bool key_is(struct str key, const char *name) { return str_eq(key, str_from(name)); }

/* "llama.context_length": the part after the architecture's name. Keys of other parts of a model
 * ("clip.…") have other names in front, so the architecture is compared. */
static bool arch_key_is(const struct gguf_info *info, struct str key, const char *name)
{
    struct str arch = info->architecture;
    return arch.n && key.n > arch.n && str_starts(key, arch) && key.p[arch.n] == '.' &&
           str_eq(str_slice(key, arch.n + 1, key.n), str_from(name));
}

static void take_string(struct header *h, struct str key, struct str value)
{
    struct gguf_info *info = h->info;
    if (key_is(key, "general.architecture"))
        info->architecture = value;
    else if (key_is(key, "general.name"))
        info->name = value;
    else if (key_is(key, "general.license"))
        info->licence = value;
    else if (key_is(key, "tokenizer.chat_template"))
        info->chat_template = value;
    else if (key_is(key, "tokenizer.chat_template.tool_use"))
        info->template_has_tools = true;
}

static void take_number(struct header *h, struct str key, uint64_t value)
{
    struct gguf_info *info = h->info;
    if (key_is(key, "general.file_type")) {
        if (value < COUNT_OF(FILE_TYPES) && FILE_TYPES[value])
            info->quantization = str_from(FILE_TYPES[value]);
    } else if (key_is(key, "general.alignment")) {
        h->alignment = value;
    } else if (arch_key_is(info, key, "context_length")) {
        info->context_tokens = (uint32_t)MIN(value, UINT32_MAX);
    } else if (arch_key_is(info, key, "embedding_length")) {
        info->embedding_length = (uint32_t)MIN(value, UINT32_MAX);
    } else if (arch_key_is(info, key, "pooling_type")) {
        if (value < COUNT_OF(POOLINGS) && POOLINGS[value])
            info->pooling = str_from(POOLINGS[value]);
    }
}

static enum rc read_pair(struct cursor *c, struct header *h, struct err *err)
{
    struct str key = read_string(c);
    uint32_t type = (uint32_t)read_number(c, 4);
    if (c->short_of)
        return RC_OK; /* told by the caller */
    if (type == GGUF_STRING) {
        take_string(h, key, read_string(c));
    } else if (type == GGUF_U32 || type == GGUF_U64 || type == GGUF_I32) {
        take_number(h, key, read_number(c, TYPE_BYTES[type]));
    } else {
        uint64_t length = 0;
        if (!skip_value(c, type, 0, &length)) {
            err_set(err, ERR_INVALID, "the GGUF header has a value of an unknown type %u", type);
            return RC_CORRUPT;
        }
        if (key_is(key, "tokenizer.ggml.tokens"))
            h->tokens = length;
    }
    return RC_OK;
}

/* Adds a tensor's weights; *end is where its data ends, counted from the start of the data. */
static enum rc read_tensor(struct cursor *c, struct gguf_info *info, uint64_t *end, struct err *err)
{
    read_string(c);
    uint32_t dimensions = (uint32_t)read_number(c, 4);
    if (dimensions > GGUF_DIMENSIONS_MAX) {
        err_set(err, ERR_INVALID, "the GGUF header has a tensor of %u dimensions", dimensions);
        return RC_CORRUPT;
    }
    uint64_t weights = 1;
    bool overflow = false;
    for (uint32_t i = 0; i < dimensions; i++)
        overflow |= __builtin_mul_overflow(weights, read_number(c, 8), &weights);
    uint32_t type = (uint32_t)read_number(c, 4);
    uint64_t offset = read_number(c, 8);
    uint64_t bytes = 0;
    if (type < COUNT_OF(BLOCKS) && BLOCKS[type].weights)
        overflow |=
            __builtin_mul_overflow(weights / BLOCKS[type].weights, BLOCKS[type].bytes, &bytes);
    overflow |= __builtin_add_overflow(offset, bytes, end);
    overflow |= __builtin_add_overflow(info->parameter_count, weights, &info->parameter_count);
    if (overflow) {
        err_set(err, ERR_INVALID, "the GGUF header has a tensor of impossible size");
        return RC_CORRUPT;
    }
    return RC_OK;
}

static enum rc read_tensors(struct cursor *c, struct header *h, struct err *err)
{
    uint64_t data_bytes = 0;
    for (uint64_t i = 0; i < h->tensor_count && !c->short_of; i++) {
        uint64_t end;
        enum rc rc = read_tensor(c, h->info, &end, err);
        if (rc)
            return rc;
        data_bytes = MAX(data_bytes, end);
    }
    if (h->alignment == 0 || (h->alignment & (h->alignment - 1)) || h->alignment > 1 << 20) {
        err_set(err, ERR_INVALID, "the GGUF header has an alignment of %llu",
                (unsigned long long)h->alignment);
        return RC_CORRUPT;
    }
    uint64_t start = ALIGN_UP((uint64_t)c->at, h->alignment);
    if (__builtin_add_overflow(start, data_bytes, &h->info->tensor_bytes_end)) {
        err_set(err, ERR_INVALID, "the GGUF header has a tensor of impossible size");
        return RC_CORRUPT;
    }
    return RC_OK;
}

static enum rc read_header(struct cursor *c, struct header *h, struct err *err)
{
    if (!str_eq(read_bytes(c, 4), STR("GGUF")))
        return err_set(err, ERR_INVALID, "this is not a GGUF model file");
    h->version = (uint32_t)read_number(c, 4);
    if (h->version != 2 && h->version != 3)
        return err_set(err, ERR_INVALID, "GGUF version %u (little-endian 2 and 3 are understood)",
                       h->version);
    h->tensor_count = read_number(c, 8);
    h->key_count = read_number(c, 8);
    if (h->tensor_count > GGUF_TENSORS_MAX || h->key_count > GGUF_KEYS_MAX) {
        err_set(err, ERR_INVALID, "the GGUF header promises too many tensors or keys");
        return RC_CORRUPT;
    }
    for (uint64_t i = 0; i < h->key_count && !c->short_of; i++) {
        enum rc rc = read_pair(c, h, err);
        if (rc)
            return rc;
    }
    return read_tensors(c, h, err);
}

/* The texts point into the file: copies, which outlive it. */
static enum rc copy_texts(struct gguf_info *info, struct arena *arena, struct err *err)
{
    struct str *texts[] = {&info->architecture, &info->name, &info->licence, &info->chat_template};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        if (!texts[i]->n)
            continue;
        *texts[i] = arena_copy(arena, *texts[i]);
        if (!texts[i]->p)
            return err_set(err, ERR_TOO_LARGE, "the GGUF header's texts are too long");
    }
    return RC_OK;
}

enum rc gguf_read(struct str data, uint64_t file_bytes, struct arena *arena, struct gguf_info *out,
                  struct err *err)
{
    *out = (struct gguf_info){0};
    struct cursor cursor = {.p = (const uint8_t *)data.p, .n = data.n};
    struct header header = {.alignment = GGUF_ALIGNMENT, .info = out};
    enum rc rc = read_header(&cursor, &header, err);
    if (rc)
        return rc;
    if (cursor.short_of || out->tensor_bytes_end > file_bytes) {
        err_set(err, ERR_INVALID, "the model file is cut off: it has %llu bytes%s; fetch it again",
                (unsigned long long)file_bytes,
                cursor.short_of ? ", less than its header" : ", fewer than its tensors take");
        return RC_CORRUPT;
    }
    if (!out->architecture.n) {
        err_set(err, ERR_INVALID, "the GGUF header does not name the model's architecture");
        return RC_CORRUPT;
    }
    out->vocabulary = (uint32_t)MIN(header.tokens, UINT32_MAX);
    if (str_find(out->chat_template, STR("tools")) >= 0)
        out->template_has_tools = true;
    return copy_texts(out, arena, err);
}
