/* What tails and parts have in common: references, deleted rows, rows to columns and back. */
#include "trace/rowset.h"
#include "base/clock.h"
#include <stdlib.h>
#include <zstd.h>

void rowset_ref(struct rowset *rows) { atomic_fetch_add(&rows->references, 1); }

void rowset_unref(struct rowset *rows)
{
    if (!rows || atomic_fetch_sub(&rows->references, 1) > 1)
        return;
    free((void *)atomic_load(&rows->deleted));
    rows->free(rows);
}

bool rowset_is_deleted(const struct rowset *rows, uint32_t row)
{
    const atomic_uint_least64_t *deleted =
        atomic_load_explicit(&rows->deleted, memory_order_acquire);
    return deleted &&
           (atomic_load_explicit(&deleted[row / 64], memory_order_relaxed) >> row % 64 & 1);
}

bool rowset_delete(struct rowset *rows, uint32_t row)
{
    ASSERT(row < rows->row_count);
    atomic_uint_least64_t *deleted = atomic_load(&rows->deleted);
    if (!deleted) {
        /* Whole granules, so that a scan can read a granule's words without looking at the end. */
        size_t words = (size_t)granule_count(rows->row_count) * (GRANULE_ROWS / 64);
        deleted = xcalloc(words, sizeof(*deleted));
        atomic_store_explicit(&rows->deleted, deleted, memory_order_release);
    }
    uint64_t bit = (uint64_t)1 << row % 64;
    if (atomic_fetch_or(&deleted[row / 64], bit) & bit)
        return false;
    atomic_fetch_add(&rows->deleted_count, 1);
    return true;
}

enum rc rowset_value(const struct rowset *rows, enum column column, uint32_t row, int64_t *value)
{
    struct column_view view;
    enum rc rc = rows->calls->view(rows, column, row / GRANULE_ROWS, &view);
    if (rc == RC_OK)
        *value = view_value(&view, row % GRANULE_ROWS);
    return rc;
}

enum rc rowset_text(const struct rowset *rows, enum text_column column, uint32_t row,
                    struct str *text)
{
    struct column_view view;
    enum rc rc = rows->calls->text_view(rows, column, row / GRANULE_ROWS, &view);
    if (rc == RC_OK)
        *text = rows->calls->text(rows, column, (uint32_t)view_code(&view, row % GRANULE_ROWS));
    return rc;
}

void record_reader_init(struct record_reader *reader) { *reader = (struct record_reader){0}; }

void record_reader_fini(struct record_reader *reader)
{
    free(reader->block);
    log_window_fini(&reader->log);
    ZSTD_freeDCtx(reader->decompressor);
}

/* ---- tags ---- */

#define TAG_END '\x1f'

struct str tag_set_make(const struct call_tag *tags, size_t count, char out[TAG_SET_BYTES_MAX])
{
    char *at = out;
    for (size_t i = 0; i < MIN(count, LIMIT_TAGS); i++) {
        struct str name = str_slice(tags[i].name, 0, LIMIT_TAG_BYTES);
        struct str value = str_slice(tags[i].value, 0, LIMIT_TAG_BYTES);
        if (name.n > 0)
            memcpy(at, name.p, name.n);
        at[name.n] = '=';
        at += name.n + 1;
        if (value.n > 0)
            memcpy(at, value.p, value.n);
        at[value.n] = TAG_END;
        at += value.n + 1;
    }
    return str_make(out, (size_t)(at - out));
}

bool tag_set_next(struct str *set, struct call_tag *tag)
{
    struct str part;
    if (set->n == 0 || !str_split(set, TAG_END, &part))
        return false;
    ssize_t equals = str_find_char(part, '=');
    size_t n = equals < 0 ? part.n : (size_t)equals;
    tag->name = str_slice(part, 0, n);
    tag->value = str_slice(part, MIN(n + 1, part.n), part.n);
    return true;
}

/* ---- records to columns ---- */

static int64_t duration_us(int64_t ns) { return ns < 0 ? -1 : ns / NS_PER_US; }

void row_ints(const struct call_record *call, const struct row_extra *extra,
              int64_t out[COLUMN_INT_COUNT])
{
#define COLUMN_INT(name, expression) out[COLUMN_##name] = (expression);
#define COLUMN_TEXT(name, expression)
#include "trace/columns.h"
#undef COLUMN_INT
#undef COLUMN_TEXT
}

void row_texts(const struct call_record *call, const struct row_extra *extra,
               struct str out[TEXT_COUNT])
{
#define COLUMN_INT(name, expression)
#define COLUMN_TEXT(name, expression) out[TEXT_##name] = (expression);
#include "trace/columns.h"
#undef COLUMN_INT
#undef COLUMN_TEXT
}

/* ---- columns to records ---- */

static int64_t duration_ns(int64_t us)
{
    return us < 0 ? -1 : us > INT64_MAX / NS_PER_US ? INT64_MAX : us * NS_PER_US;
}

static struct id id_from_text(struct str s)
{
    struct id id = {{0}};
    if (s.n == sizeof(id.bytes))
        memcpy(id.bytes, s.p, s.n);
    return id;
}

/* Checksums guard the columns; an enumeration must be one even so, since names are looked up by it.
 */
static bool ints_valid(const int64_t v[COLUMN_INT_COUNT])
{
    return (uint64_t)v[COLUMN_DOOR] < DOOR_COUNT &&
           (uint64_t)v[COLUMN_OPERATION] < OPERATION_COUNT &&
           (uint64_t)v[COLUMN_STATUS] < CALL_STATUS_COUNT &&
           (uint64_t)v[COLUMN_CACHE] <= CALL_CACHE_HIT &&
           (uint64_t)v[COLUMN_CAPTURE] <= CAPTURE_FULL;
}

static void call_from_ints(const int64_t v[COLUMN_INT_COUNT], struct call_record *call)
{
    call->started_wall_ns = v[COLUMN_STARTED_NS];
    call->door = (enum call_door)v[COLUMN_DOOR];
    call->operation = (enum call_operation)v[COLUMN_OPERATION];
    call->status = (enum call_status)v[COLUMN_STATUS];
    call->http_status = (int)v[COLUMN_HTTP_STATUS];
    call->stream = v[COLUMN_STREAM] != 0;
    call->cache = (enum call_cache)v[COLUMN_CACHE];
    call->capture = (enum capture)v[COLUMN_CAPTURE];
    call->usage.known = v[COLUMN_USAGE_STATE] & 1;
    call->usage.estimated = v[COLUMN_USAGE_STATE] & 2;
    call->queue_ns = duration_ns(v[COLUMN_QUEUE_US]);
    call->connect_ns = duration_ns(v[COLUMN_CONNECT_US]);
    call->first_token_ns = duration_ns(v[COLUMN_FIRST_TOKEN_US]);
    call->total_ns = duration_ns(v[COLUMN_TOTAL_US]);
    call->cost_pico = v[COLUMN_PRICED] ? v[COLUMN_COST_PICO] : COST_UNKNOWN;
    for (int i = 0; i < USAGE_BUCKET_COUNT; i++)
        call->usage.tokens[i] = (uint64_t)v[COLUMN_TOKENS_INPUT + i];
}
_Static_assert(COLUMN_TOKENS_AUDIO_OUTPUT - COLUMN_TOKENS_INPUT + 1 == USAGE_BUCKET_COUNT,
               "a column for each bucket, in their order");

static void call_from_texts(const struct str t[TEXT_COUNT], struct call_record *call)
{
    call->project = id_from_text(t[TEXT_PROJECT]);
    call->model_requested = t[TEXT_MODEL_REQUESTED];
    call->route = t[TEXT_ROUTE];
    call->prompt = t[TEXT_PROMPT];
    call->provider = t[TEXT_PROVIDER];
    call->model = t[TEXT_MODEL];
    call->finish_reason = t[TEXT_FINISH_REASON];
    call->key = id_from_text(t[TEXT_KEY]);
    call->key_name = t[TEXT_KEY_NAME];
    call->user_account = id_from_text(t[TEXT_USER_ACCOUNT]);
    call->user = t[TEXT_USER];
    call->session = t[TEXT_SESSION];
    call->span_name = t[TEXT_SPAN_NAME];
    call->span_kind = t[TEXT_SPAN_KIND];
    if (t[TEXT_TRACE].n == sizeof(call->trace_id))
        memcpy(call->trace_id, t[TEXT_TRACE].p, sizeof(call->trace_id));
    for (int code = 0; code < ERR_CODE_COUNT && t[TEXT_ERROR].n > 0; code++)
        if (str_eq(t[TEXT_ERROR], str_from(err_code_name((enum err_code)code))))
            call->error = (enum err_code)code;
}

enum rc rowset_row(const struct rowset *rows, uint32_t row, uint64_t *seq, struct call_record *call,
                   struct call_tag tags[LIMIT_TAGS])
{
    int64_t ints[COLUMN_INT_COUNT];
    struct str texts[TEXT_COUNT];
    enum rc rc = RC_OK;
    for (int c = 0; c < COLUMN_INT_COUNT && rc == RC_OK; c++)
        rc = rowset_value(rows, (enum column)c, row, &ints[c]);
    for (int c = 0; c < TEXT_COUNT && rc == RC_OK; c++)
        rc = rowset_text(rows, (enum text_column)c, row, &texts[c]);
    const uint8_t(*ids)[16];
    if (rc == RC_OK)
        rc = rows->calls->ids(rows, row / GRANULE_ROWS, &ids);
    if (rc == RC_OK && !ints_valid(ints))
        rc = RC_CORRUPT;
    if (rc != RC_OK)
        return rc;
    memset(call, 0, sizeof(*call));
    call_from_ints(ints, call);
    call_from_texts(texts, call);
    memcpy(call->id.bytes, ids[row % GRANULE_ROWS], 16);
    call->tags = tags;
    struct str set = texts[TEXT_TAGS];
    while (call->tag_count < LIMIT_TAGS && tag_set_next(&set, &tags[call->tag_count]))
        call->tag_count++;
    *seq = (uint64_t)ints[COLUMN_SEQ];
    return RC_OK;
}
