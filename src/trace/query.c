/* Lists, counts and single records: see trace.h. Each query takes a snapshot, compiles its filter
 * for each rowset and goes through the granules; the newest come first. Worker threads. */
#include "trace/query.h"
#include "trace/filter.h"
#include "trace/part_read.h"
#include "trace/store.h"
#include "trace/stream_pack.h"
#include <stdlib.h>

/* What one request may spend on searching bodies; the answer then says where to go on. */
#define SEARCH_BYTES_MAX      (512ll * 1024 * 1024)
#define SEARCH_TEXT_BYTES_MAX 1024

/* ---- by id and by user ---- */

static enum rc in_project(const struct rowset *rows, uint32_t row, struct id project, bool *is)
{
    struct str text;
    enum rc rc = rowset_text(rows, TEXT_PROJECT, row, &text);
    *is = rc == RC_OK && str_eq(text, str_make(project.bytes, 16));
    return rc;
}

enum rc query_each_of_id(const struct rowset *rows, uint32_t n, struct id project, struct id id,
                         enum rc (*each)(void *arg, uint32_t row), void *arg)
{
    uint64_t prefix = id_prefix(id.bytes);
    for (uint32_t g = 0; g < granule_count(n); g++) {
        if (!rows->calls->may_hold_id(rows, g, prefix))
            continue;
        const uint8_t(*ids)[16];
        enum rc rc = rows->calls->ids(rows, g, &ids);
        for (uint32_t i = 0; i < granule_rows(n, g) && rc == RC_OK; i++) {
            uint32_t row = g * GRANULE_ROWS + i;
            bool is = false;
            if (memcmp(ids[i], id.bytes, 16) != 0 || rowset_is_deleted(rows, row))
                continue;
            rc = in_project(rows, row, project, &is);
            if (is)
                rc = each(arg, row);
        }
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

enum rc query_each_of_user(const struct rowset *rows, uint32_t n, struct id project,
                           struct str user, enum rc (*each)(void *arg, uint32_t row), void *arg)
{
    struct trace_filter wanted;
    struct filter filter;
    trace_filter_init(&wanted);
    wanted.rows = TRACE_ROWS_ALL;
    wanted.user = user;
    enum rc rc = filter_compile(&filter, rows, project, &wanted);
    if (rc != RC_OK)
        return rc;
    uint8_t mask[GRANULE_ROWS];
    for (uint32_t g = 0; g < granule_count(n) && !filter.nothing && rc == RC_OK; g++) {
        uint32_t count, in_granule = granule_rows(n, g);
        rc = filter_apply(&filter, rows, g, in_granule, mask, &count);
        for (uint32_t i = 0; i < in_granule && count > 0 && rc == RC_OK; i++)
            if (mask[i])
                rc = each(arg, g * GRANULE_ROWS + i);
    }
    filter_fini(&filter);
    return rc;
}

/* ---- one record ---- */

struct found {
    bool any;
    uint32_t row;
};

static enum rc note_found(void *arg, uint32_t row)
{
    *(struct found *)arg = (struct found){true, row};
    return RC_OK;
}

static enum rc unpack_answer(struct arena *arena, struct call_record *record)
{
    size_t n;
    if (record->response_events.n == 0)
        return RC_OK;
    enum rc rc = stream_unpacked_bytes(record->response_events, LIMIT_CAPTURE_BYTES, &n);
    char *bytes = rc == RC_OK ? arena_alloc(arena, n) : NULL;
    if (!bytes)
        return rc == RC_OK ? RC_LIMIT : rc;
    stream_unpack(record->response_events, bytes);
    record->response_body = str_make(bytes, n);
    record->response_events = STR_EMPTY;
    return RC_OK;
}

/* The record with its texts in the arena. */
static enum rc read_whole(const struct rowset *rows, uint32_t row, struct arena *arena,
                          struct call_record *record)
{
    struct record_reader reader;
    struct str bytes = STR_EMPTY;
    record_reader_init(&reader);
    enum rc rc = rows->calls->record(rows, row, &reader, &bytes);
    if (rc == RC_OK)
        bytes = arena_copy(arena, bytes);
    record_reader_fini(&reader);
    struct call_tag *tags = ARENA_NEW_ARRAY(arena, struct call_tag, LIMIT_TAGS);
    struct call_attempt *attempts = ARENA_NEW_ARRAY(arena, struct call_attempt, CALL_ATTEMPTS_MAX);
    if (!tags || !attempts || (rc == RC_OK && !bytes.p))
        return RC_LIMIT;
    if (rc == RC_OK)
        rc = record_decode(bytes, record, tags, attempts);
    return rc == RC_OK ? unpack_answer(arena, record) : rc;
}

static bool copy_text(struct arena *arena, struct str *s)
{
    if (s->n == 0)
        return true;
    *s = arena_copy(arena, *s);
    return s->p != NULL;
}

/* Texts of a row point into its rowset, which may go away after the query. */
static bool copy_row_texts(struct arena *arena, struct call_record *call, struct call_tag *tags)
{
    struct str *texts[] = {&call->model_requested, &call->route,    &call->provider, &call->model,
                           &call->finish_reason,   &call->key_name, &call->user,     &call->session,
                           &call->span_name,       &call->span_kind};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (!copy_text(arena, texts[i]))
            return false;
    for (size_t i = 0; i < call->tag_count; i++)
        if (!copy_text(arena, &tags[i].name) || !copy_text(arena, &tags[i].value))
            return false;
    return true;
}

/* Where the record itself is damaged, what its columns say. */
static enum rc read_columns(const struct rowset *rows, uint32_t row, struct arena *arena,
                            struct call_record *record)
{
    struct call_tag *tags = ARENA_NEW_ARRAY(arena, struct call_tag, LIMIT_TAGS);
    uint64_t seq;
    if (!tags)
        return RC_LIMIT;
    enum rc rc = rowset_row(rows, row, &seq, record, tags);
    return rc != RC_OK ? rc : copy_row_texts(arena, record, tags) ? RC_OK : RC_LIMIT;
}

enum rc trace_get(struct trace_store *store, struct id project, struct id call, struct arena *arena,
                  struct call_record *record, struct err *err)
{
    struct trace_snapshot *snapshot = trace_snapshot_take(store);
    enum rc rc = RC_NOT_FOUND;
    for (size_t i = snapshot->view->count; i-- > 0 && rc == RC_NOT_FOUND;) {
        struct rowset *rows = snapshot->view->rows[i];
        struct found found = {0};
        if (atomic_load(&rows->damaged))
            continue;
        enum rc looked =
            query_each_of_id(rows, snapshot->counts[i], project, call, note_found, &found);
        if (looked == RC_CORRUPT)
            trace_mark_damaged(store, rows);
        if (!found.any)
            continue;
        rc = read_whole(rows, found.row, arena, record);
        if (rc != RC_OK && rc != RC_LIMIT)
            rc = read_columns(rows, found.row, arena, record);
    }
    trace_snapshot_free(snapshot);
    if (rc == RC_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "there is no such call");
    if (rc == RC_LIMIT)
        err_set(err, ERR_TOO_LARGE, "the call's record is larger than this request may use");
    else if (rc != RC_OK)
        err_set(err, ERR_INTERNAL, "the call's record cannot be read (%s)", rc_name(rc));
    return rc;
}

/* ---- lists ---- */

struct listing {
    struct trace_store *store;
    const struct trace_filter *wanted;
    struct id project;
    uint64_t before_seq;
    size_t limit;
    struct arena *arena;
    struct trace_page *page;
    char text_bytes[SEARCH_TEXT_BYTES_MAX];
    struct str text; /* in lower case */
    struct record_reader reader;
    int64_t searched_bytes;
    bool done;
};

static bool events_contain(struct str packed, struct str text)
{
    size_t n;
    if (packed.n == 0 || stream_unpacked_bytes(packed, LIMIT_CAPTURE_BYTES, &n) != RC_OK)
        return false;
    char *bytes = xmalloc(n);
    stream_unpack(packed, bytes);
    bool contains = text_contains(str_make(bytes, n), text);
    free(bytes);
    return contains;
}

static enum rc matches_text(struct listing *l, const struct rowset *rows, uint32_t row,
                            bool *matches)
{
    *matches = true;
    if (l->text.n == 0)
        return RC_OK;
    struct str bytes = STR_EMPTY;
    struct call_tag tags[LIMIT_TAGS];
    enum rc rc = rows->calls->record(rows, row, &l->reader, &bytes);
    *matches = false;
    if (rc != RC_OK)
        return rc == RC_LIMIT ? rc : RC_OK; /* without a body there is nothing to find */
    l->searched_bytes += (int64_t)bytes.n;
    struct call_record *call = xmalloc(sizeof(*call));
    rc = record_decode(bytes, call, tags, NULL);
    *matches = rc == RC_OK && (text_contains(call->request_body, l->text) ||
                               text_contains(call->response_body, l->text) ||
                               events_contain(call->response_events, l->text) ||
                               text_contains(call->error_message, l->text));
    free(call);
    return RC_OK;
}

/* Where a row stands in its trace: only its record says so. */
static enum rc read_links(struct listing *l, const struct rowset *rows, uint32_t row,
                          struct call_record *out)
{
    struct str bytes = STR_EMPTY;
    struct call_tag tags[LIMIT_TAGS];
    enum rc rc = rows->calls->record(rows, row, &l->reader, &bytes);
    if (rc != RC_OK)
        return rc == RC_LIMIT ? rc : RC_OK; /* a damaged one stands at the top */
    struct call_record *call = xmalloc(sizeof(*call));
    if (record_decode(bytes, call, tags, NULL) == RC_OK) {
        memcpy(out->span_id, call->span_id, sizeof(out->span_id));
        memcpy(out->parent_id, call->parent_id, sizeof(out->parent_id));
        out->error_message = arena_copy(l->arena, call->error_message);
    }
    free(call);
    return RC_OK;
}

static enum rc add_row(struct listing *l, const struct rowset *rows, uint32_t row)
{
    struct trace_row *out = ARENA_NEW(l->arena, struct trace_row);
    if (!out)
        return RC_LIMIT;
    enum rc rc = rowset_row(rows, row, &out->seq, &out->call, out->tags);
    if (rc != RC_OK)
        return rc;
    if (!copy_row_texts(l->arena, &out->call, out->tags))
        return RC_LIMIT;
    if (l->wanted->links)
        rc = read_links(l, rows, row, &out->call);
    if (rc != RC_OK)
        return rc;
    l->page->rows[l->page->count++] = out;
    return RC_OK;
}

/* One row that the columns' filter lets through. */
static enum rc list_row(struct listing *l, const struct rowset *rows, uint32_t row)
{
    int64_t seq;
    bool matches;
    enum rc rc = rowset_value(rows, COLUMN_SEQ, row, &seq);
    if (rc != RC_OK || (l->before_seq != 0 && (uint64_t)seq >= l->before_seq))
        return rc;
    if (l->searched_bytes > SEARCH_BYTES_MAX) {
        l->page->incomplete = true;
        l->page->next_seq = (uint64_t)seq + 1;
        l->done = true;
        return RC_OK;
    }
    rc = matches_text(l, rows, row, &matches);
    if (rc != RC_OK || !matches)
        return rc;
    if (l->page->count == l->limit) { /* there is one more, at least */
        l->page->next_seq = l->page->rows[l->limit - 1]->seq;
        l->done = true;
        return RC_OK;
    }
    return add_row(l, rows, row);
}

static enum rc list_granule(struct listing *l, const struct rowset *rows,
                            const struct filter *filter, uint32_t granule, uint32_t n)
{
    uint8_t mask[GRANULE_ROWS];
    uint16_t selected[GRANULE_ROWS + 1];
    struct column_view seqs;
    uint32_t count;
    enum rc rc = rows->calls->view(rows, COLUMN_SEQ, granule, &seqs);
    if (rc != RC_OK)
        return rc;
    if (l->before_seq != 0 && seqs.min != INT64_MIN && (uint64_t)seqs.min >= l->before_seq)
        return RC_OK;
    l->page->rows_scanned += n;
    rc = filter_apply(filter, rows, granule, n, mask, &count);
    if (rc != RC_OK || count == 0)
        return rc;
    for (uint32_t i = scan_select(mask, n, selected); i-- > 0 && rc == RC_OK && !l->done;)
        rc = list_row(l, rows, granule * GRANULE_ROWS + selected[i]);
    return rc;
}

static enum rc list_rowset(struct listing *l, const struct rowset *rows, uint32_t n)
{
    struct filter filter;
    if (n == 0 || atomic_load(&rows->damaged) ||
        (l->before_seq != 0 && rows->first_seq >= l->before_seq))
        return RC_OK;
    enum rc rc = filter_compile(&filter, rows, l->project, l->wanted);
    if (rc != RC_OK)
        return rc;
    for (uint32_t g = granule_count(n); g-- > 0 && rc == RC_OK && !l->done && !filter.nothing;)
        rc = list_granule(l, rows, &filter, g, granule_rows(n, g));
    filter_fini(&filter);
    return rc;
}

static enum rc list_all(struct listing *l)
{
    struct trace_snapshot *snapshot = trace_snapshot_take(l->store);
    enum rc rc = RC_OK;
    for (size_t i = snapshot->view->count; i-- > 0 && rc == RC_OK && !l->done;) {
        rc = list_rowset(l, snapshot->view->rows[i], snapshot->counts[i]);
        if (rc == RC_CORRUPT) {
            trace_mark_damaged(l->store, snapshot->view->rows[i]);
            rc = RC_OK;
        }
    }
    /* The reader may hold a block of a rowset that goes away with the snapshot. */
    record_reader_fini(&l->reader);
    trace_snapshot_free(snapshot);
    return rc;
}

enum rc trace_list(struct trace_store *store, struct id project, const struct trace_filter *filter,
                   uint64_t before_seq, size_t limit, struct arena *arena, struct trace_page *page,
                   struct err *err)
{
    if (filter->text.n > SEARCH_TEXT_BYTES_MAX)
        return err_set_field(err, ERR_BAD_FIELD, "text", "search for at most %d bytes",
                             SEARCH_TEXT_BYTES_MAX);
    limit = MAX(MIN(limit, LIMIT_LIST_ITEMS), 1);
    *page = (struct trace_page){.rows = ARENA_NEW_ARRAY(arena, struct trace_row *, limit)};
    struct listing *l = xcalloc(1, sizeof(*l));
    l->store = store;
    l->wanted = filter;
    l->project = project;
    l->before_seq = before_seq;
    l->limit = limit;
    l->arena = arena;
    l->page = page;
    for (size_t i = 0; i < filter->text.n; i++) {
        char c = filter->text.p[i];
        l->text_bytes[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    l->text = str_make(l->text_bytes, filter->text.n);
    record_reader_init(&l->reader);
    enum rc rc = page->rows ? list_all(l) : RC_LIMIT;
    free(l);
    if (rc == RC_LIMIT)
        err_set(err, ERR_TOO_LARGE,
                "the page is larger than this request may use: ask for fewer rows");
    else if (rc != RC_OK)
        err_set(err, ERR_INTERNAL, "calls cannot be listed (%s)", rc_name(rc));
    return rc;
}

/* ---- counts ---- */

static enum rc count_rowset(const struct rowset *rows, uint32_t n, struct id project,
                            const struct trace_filter *wanted, uint64_t *sum)
{
    struct filter filter;
    if (n == 0 || atomic_load(&rows->damaged))
        return RC_OK;
    enum rc rc = filter_compile(&filter, rows, project, wanted);
    if (rc != RC_OK)
        return rc;
    uint8_t mask[GRANULE_ROWS];
    uint64_t found = 0;
    for (uint32_t g = 0; g < granule_count(n) && rc == RC_OK && !filter.nothing; g++) {
        uint32_t count;
        rc = filter_apply(&filter, rows, g, granule_rows(n, g), mask, &count);
        found += count;
    }
    filter_fini(&filter);
    if (rc == RC_OK)
        *sum += found;
    return rc;
}

enum rc trace_count(struct trace_store *store, struct id project, const struct trace_filter *filter,
                    uint64_t *count, struct err *err)
{
    ASSERT(filter->text.n == 0);
    struct trace_snapshot *snapshot = trace_snapshot_take(store);
    enum rc rc = RC_OK;
    *count = 0;
    for (size_t i = 0; i < snapshot->view->count && rc == RC_OK; i++) {
        rc = count_rowset(snapshot->view->rows[i], snapshot->counts[i], project, filter, count);
        if (rc == RC_CORRUPT) {
            trace_mark_damaged(store, snapshot->view->rows[i]);
            rc = RC_OK;
        }
    }
    trace_snapshot_free(snapshot);
    if (rc != RC_OK)
        err_set(err, ERR_INTERNAL, "calls cannot be counted (%s)", rc_name(rc));
    return rc;
}
