/* Parsing JSON into arenas, and typed look-ups. Pure functions, any thread. */
#include "text/json.h"
#include "base/limits.h"
#include <string.h>

static void *alc_malloc(void *ctx, size_t size) { return arena_alloc(ctx, size); }

static void *alc_realloc(void *ctx, void *old, size_t old_size, size_t size)
{
    if (size <= old_size)
        return old;
    void *grown = arena_alloc(ctx, size);
    if (grown)
        memcpy(grown, old, old_size);
    return grown;
}

static void alc_free(void *ctx, void *p)
{
    UNUSED(ctx);
    UNUSED(p);
}

yyjson_alc json_arena_alc(struct arena *arena)
{
    return (yyjson_alc){alc_malloc, alc_realloc, alc_free, arena};
}

static bool depth_allowed(yyjson_val *value, int depth)
{
    if (!yyjson_is_ctn(value))
        return true;
    if (depth == 0)
        return false;
    size_t index, count;
    yyjson_val *key, *item;
    if (yyjson_is_obj(value)) {
        yyjson_obj_foreach(value, index, count, key, item)
        {
            if (!depth_allowed(item, depth - 1))
                return false;
        }
    } else {
        yyjson_arr_foreach(value, index, count, item)
        {
            if (!depth_allowed(item, depth - 1))
                return false;
        }
    }
    return true;
}

enum rc json_read(struct str text, struct arena *arena, yyjson_doc **doc, struct err *err)
{
    yyjson_alc alc = json_arena_alc(arena);
    yyjson_read_err problem;
    if (text.n == 0)
        return err_set(err, ERR_BAD_JSON, "the body is empty: send a JSON object");
    /* Without YYJSON_READ_INSITU the text is copied, not changed. */
    *doc = yyjson_read_opts((char *)(uintptr_t)text.p, text.n, YYJSON_READ_NOFLAG, &alc, &problem);
    if (!*doc && problem.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION)
        return err_set(err, ERR_TOO_LARGE, "the JSON needs more memory than a request may use");
    if (!*doc)
        return err_set(err, ERR_BAD_JSON, "not valid JSON: %s at byte %zu", problem.msg,
                       problem.pos);
    if (!depth_allowed(yyjson_doc_get_root(*doc), LIMIT_JSON_DEPTH))
        return err_set(err, ERR_TOO_LARGE, "the JSON is nested deeper than %d levels",
                       LIMIT_JSON_DEPTH);
    return RC_OK;
}

struct str json_text(yyjson_val *value)
{
    return yyjson_is_str(value) ? str_make(yyjson_get_str(value), yyjson_get_len(value))
                                : STR_EMPTY;
}

struct str json_get_text(yyjson_val *object, const char *name)
{
    return json_text(yyjson_obj_get(object, name));
}

int64_t json_integer(yyjson_val *value, int64_t otherwise)
{
    if (yyjson_is_uint(value))
        return (int64_t)MIN(yyjson_get_uint(value), (uint64_t)INT64_MAX);
    if (yyjson_is_sint(value))
        return yyjson_get_sint(value);
    if (!yyjson_is_real(value))
        return otherwise;
    double real = yyjson_get_real(value);
    return real >= 9.2e18 ? INT64_MAX : real <= -9.2e18 ? INT64_MIN : (int64_t)real;
}

int64_t json_get_int(yyjson_val *object, const char *name, int64_t otherwise)
{
    return json_integer(yyjson_obj_get(object, name), otherwise);
}

double json_get_double(yyjson_val *object, const char *name, double otherwise)
{
    yyjson_val *value = yyjson_obj_get(object, name);
    return yyjson_is_num(value) ? yyjson_get_num(value) : otherwise;
}

bool json_get_bool(yyjson_val *object, const char *name, bool otherwise)
{
    yyjson_val *value = yyjson_obj_get(object, name);
    return yyjson_is_bool(value) ? yyjson_get_bool(value) : otherwise;
}

struct str json_write(yyjson_val *value, struct arena *arena)
{
    yyjson_alc alc = json_arena_alc(arena);
    size_t n = 0;
    char *text = yyjson_val_write_opts(value, YYJSON_WRITE_NOFLAG, &alc, &n, NULL);
    return text ? str_make(text, n) : STR_EMPTY;
}
