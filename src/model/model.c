/* A model's definition between its three forms: JSON in the database, a GGUF file on disk, and the
 * engine's spec. Any thread; model_read_file blocks. */
#include "model/model.h"
#include "base/hash.h"
#include "encoder/encoder.h"
#include "model/engine_private.h"
#include "model/gguf.h"
#include "text/decode.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODEL_TEXT_BYTES_MAX     1024
#define MODEL_CONTEXT_TOKENS_MIN 256
#define MODEL_CONTEXT_TOKENS_MAX (1 << 20)
#define MODEL_SLOTS_MAX          256
#define MODEL_THREADS_MAX        1024

static const char *const MEMBERS[] = {
    "kind",       "file",        "sha256",       "size",         "mtime_ns",
    "licence",    "source",      "architecture", "quantization", "pooling",
    "parameters", "context_max", "tools",        "context",      "slots",
    "threads",    "idle_stop",   "idle_stop_ms", "memory_max",   NULL,
};

enum rc model_check_name(struct str name, struct err *err)
{
    bool ok = name.n >= 1 && name.n <= 128 && name.p[0] != '.';
    for (size_t i = 0; ok && i < name.n; i++) {
        char c = name.p[i];
        ok = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
             c == '.' || c == '_' || c == ':' || c == '-';
    }
    if (!ok)
        return err_set_field(
            err, ERR_BAD_FIELD, "name",
            "a model's name has 1 to 128 letters, digits, and . _ : -, and does not "
            "begin with a dot");
    return RC_OK;
}

static enum rc decode_texts_of(const struct place *at, struct model *out, struct err *err)
{
    struct {
        const char *name;
        struct str *text;
    } texts[] = {
        {"sha256", &out->sha256},
        {"licence", &out->licence},
        {"source", &out->source},
        {"architecture", &out->architecture},
        {"quantization", &out->quantization},
        {"pooling", &out->pooling},
    };
    enum rc rc = decode_str(at, "file", DECODE_REQUIRED, MODEL_TEXT_BYTES_MAX, &out->file, err);
    for (size_t i = 0; i < COUNT_OF(texts) && rc == RC_OK; i++)
        rc = decode_str(at, texts[i].name, DECODE_OPTIONAL, MODEL_TEXT_BYTES_MAX, texts[i].text,
                        err);
    return rc;
}

static enum rc decode_number(const struct place *at, const char *name, int64_t min, int64_t max,
                             uint32_t *out, struct err *err)
{
    int64_t value = *out;
    enum rc rc = decode_i64(at, name, min, max, &value, err);
    if (rc == RC_OK)
        *out = (uint32_t)value;
    return rc;
}

static enum rc decode_settings(const struct place *at, struct model *out, struct err *err)
{
    enum rc rc;
    if ((rc = decode_number(at, "context", MODEL_CONTEXT_TOKENS_MIN, MODEL_CONTEXT_TOKENS_MAX,
                            &out->context_tokens, err)) ||
        (rc = decode_number(at, "slots", 1, MODEL_SLOTS_MAX, &out->slots, err)) ||
        (rc = decode_number(at, "threads", 0, MODEL_THREADS_MAX, &out->threads, err)) ||
        (rc = decode_duration(at, "idle_stop", &out->idle_stop_ns, err)) ||
        (rc = decode_i64(at, "memory_max", 0, INT64_MAX, &out->resident_bytes_max, err)))
        return rc;
    return RC_OK;
}

static enum rc copy_texts(struct model *model, struct arena *arena, struct err *err)
{
    struct str *texts[] = {&model->name,         &model->file,   &model->sha256,
                           &model->licence,      &model->source, &model->architecture,
                           &model->quantization, &model->pooling};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        if (!texts[i]->n)
            continue;
        *texts[i] = arena_copy(arena, *texts[i]);
        if (!texts[i]->p)
            return err_set(err, ERR_TOO_LARGE, "the model's definition is too large");
    }
    return RC_OK;
}

enum rc model_decode(struct str name, yyjson_val *json, struct arena *arena, struct model *out,
                     struct err *err)
{
    *out = (struct model){
        .name = name, .context_tokens = MODEL_CONTEXT_TOKENS_DEFAULT, .slots = MODEL_SLOTS_DEFAULT};
    static const char *const kinds[] = {"engine", "encoder", NULL};
    struct place at;
    int64_t parameters = 0;
    int kind = MODEL_ENGINE;
    decode_root(&at, json, "");
    enum rc rc;
    if ((rc = model_check_name(name, err)) || (rc = decode_expect_object(&at, err)) ||
        (rc = decode_only(&at, MEMBERS, err)) ||
        (rc = decode_word(&at, "kind", kinds, &kind, err)) ||
        (rc = decode_texts_of(&at, out, err)) ||
        (rc = decode_i64(&at, "size", 0, INT64_MAX, &out->bytes, err)) ||
        (rc = decode_i64(&at, "mtime_ns", 0, INT64_MAX, &out->mtime_ns, err)) ||
        (rc = decode_i64(&at, "parameters", 0, INT64_MAX, &parameters, err)) ||
        (rc = decode_number(&at, "context_max", 0, UINT32_MAX, &out->context_tokens_max, err)) ||
        (rc = decode_bool(&at, "tools", &out->template_has_tools, err)) ||
        (rc = decode_settings(&at, out, err)))
        return rc;
    out->kind = (enum model_kind)kind;
    out->parameters = (uint64_t)parameters;
    return copy_texts(out, arena, err);
}

static bool put_text(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name, struct str text)
{
    return yyjson_mut_obj_add_strncpy(doc, object, name, text.p ? text.p : "", text.n);
}

yyjson_mut_val *model_encode(const struct model *model, yyjson_mut_doc *doc)
{
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    bool ok =
        o &&
        put_text(doc, o, "kind", model->kind == MODEL_ENCODER ? STR("encoder") : STR("engine")) &&
        put_text(doc, o, "file", model->file) && put_text(doc, o, "sha256", model->sha256) &&
        yyjson_mut_obj_add_sint(doc, o, "size", model->bytes) &&
        yyjson_mut_obj_add_sint(doc, o, "mtime_ns", model->mtime_ns) &&
        put_text(doc, o, "licence", model->licence) && put_text(doc, o, "source", model->source) &&
        put_text(doc, o, "architecture", model->architecture) &&
        put_text(doc, o, "quantization", model->quantization) &&
        put_text(doc, o, "pooling", model->pooling) &&
        yyjson_mut_obj_add_uint(doc, o, "parameters", model->parameters) &&
        yyjson_mut_obj_add_uint(doc, o, "context_max", model->context_tokens_max) &&
        yyjson_mut_obj_add_bool(doc, o, "tools", model->template_has_tools) &&
        yyjson_mut_obj_add_uint(doc, o, "context", model->context_tokens) &&
        yyjson_mut_obj_add_uint(doc, o, "slots", model->slots) &&
        yyjson_mut_obj_add_uint(doc, o, "threads", model->threads) &&
        yyjson_mut_obj_add_sint(doc, o, "idle_stop_ms", model->idle_stop_ns / 1000000) &&
        yyjson_mut_obj_add_sint(doc, o, "memory_max", model->resident_bytes_max);
    return ok ? o : NULL;
}

/* The header says how much of the file counts; only those pages are read. */
static enum rc read_header(int fd, const struct stat *st, const char *path, struct arena *arena,
                           struct gguf_info *info, struct err *err)
{
    if (st->st_size == 0)
        return err_set(err, ERR_INVALID, "%s is empty", path);
    void *p = mmap(NULL, (size_t)st->st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return err_set(err, ERR_INTERNAL, "%s cannot be read: %s", path, strerror(errno));
    enum rc rc =
        gguf_read(str_make(p, (size_t)st->st_size), (uint64_t)st->st_size, arena, info, err);
    munmap(p, (size_t)st->st_size);
    if (rc)
        err_prefix(err, "%s: ", path);
    return rc;
}

static void take_defaults(struct model *model, const struct gguf_info *info,
                          const struct catalogue_entry *entry)
{
    model->slots = info->pooling.n ? 1 : MODEL_SLOTS_DEFAULT;
    model->context_tokens = entry ? entry->context_tokens : MODEL_CONTEXT_TOKENS_DEFAULT;
    if (info->context_tokens)
        model->context_tokens = MIN(model->context_tokens, info->context_tokens);
    model->context_tokens = MAX(model->context_tokens, MODEL_CONTEXT_TOKENS_MIN);
    model->licence = entry ? entry->licence : info->licence;
}

enum rc model_read_file(const char *path, const struct catalogue_entry *entry, struct arena *arena,
                        struct model *out, struct err *err)
{
    struct stat st;
    struct gguf_info info;
    *out = (struct model){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        int failure = errno;
        if (fd >= 0)
            close(fd);
        return err_set_field(err, ERR_BAD_FIELD, "file", "%s: %s", path,
                             fd < 0 ? strerror(failure) : "not a regular file");
    }
    enum rc rc = read_header(fd, &st, path, arena, &info, err);
    close(fd);
    if (rc)
        return rc;
    char hex[SHA256_HEX_BYTES];
    if ((rc = file_sha256(path, hex, err)))
        return rc;
    out->file = str_from(path);
    out->sha256 = str_from(hex);
    out->bytes = st.st_size;
    out->mtime_ns = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec;
    out->architecture = info.architecture;
    out->quantization = info.quantization;
    out->pooling = info.pooling;
    out->parameters = info.parameter_count;
    out->context_tokens_max = info.context_tokens;
    out->template_has_tools = info.template_has_tools;
    take_defaults(out, &info, entry);
    return copy_texts(out, arena, err);
}

enum rc model_read_folder(const char *path, const struct catalogue_entry *entry,
                          struct arena *arena, struct model *out, struct err *err)
{
    struct encoder *encoder;
    struct stat st;
    char hex[SHA256_HEX_BYTES], weights[PATH_MAX];
    *out = (struct model){0};
    enum rc rc = encoder_open(path, ENCODER_F32, &encoder, err);
    if (rc) {
        err_prefix(err, "%s", path);
        return rc;
    }
    hex_encode(encoder_sha256(encoder), SHA256_BYTES, hex);
    snprintf(weights, sizeof(weights), "%s/model.safetensors", path);
    if (stat(weights, &st) == 0)
        out->mtime_ns = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec;
    out->kind = MODEL_ENCODER;
    out->file = str_from(path);
    out->sha256 = str_from(hex);
    out->bytes = entry ? (int64_t)entry->bytes : (int64_t)st.st_size;
    out->architecture = STR("bert");
    out->pooling = str_from(encoder_pooling(encoder));
    out->parameters = encoder_parameters(encoder);
    out->context_tokens_max = encoder_window_tokens(encoder);
    out->context_tokens = MAX(out->context_tokens_max, MODEL_CONTEXT_TOKENS_MIN);
    out->slots = 1;
    out->licence = entry ? entry->licence : STR_EMPTY;
    encoder_close(encoder);
    return copy_texts(out, arena, err);
}

struct str model_path(const struct model *model, struct str directory, struct arena *arena)
{
    if (model->file.n && model->file.p[0] == '/')
        return arena_copy(arena, model->file);
    return arena_printf(arena, "%.*s/%.*s", STR_ARG(directory), STR_ARG(model->file));
}

enum rc model_engine_spec(const struct model *model, struct id project, struct str directory,
                          struct arena *arena, struct engine_spec *out)
{
    char key[ENGINE_KEY_TEXT_BYTES_MAX];
    size_t key_n = engine_key_format(project, false, model->name, key);
    struct str path = model_path(model, directory, arena);
    struct str key_copy = arena_copy(arena, str_make(key, key_n));
    if (!path.p || !key_copy.p)
        return RC_LIMIT;
    *out = (struct engine_spec){
        .key = key_copy,
        .name = model->name,
        .model_file = path,
        .sha256 = model->sha256,
        .file_bytes = model->bytes,
        .file_mtime_ns = model->mtime_ns,
        .pooling = model->pooling,
        .context_tokens = model->context_tokens,
        .slots = model->slots,
        .threads = model->threads,
        .idle_stop_ns = model->idle_stop_ns,
        .resident_bytes_max = model->resident_bytes_max,
        .template_has_tools = model->template_has_tools,
    };
    return RC_OK;
}
