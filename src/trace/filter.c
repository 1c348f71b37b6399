/* Compiling and applying filters: see filter.h. Worker threads; touches nothing shared but the
 * rowset. */
#include "trace/filter.h"
#include <ctype.h>
#include <stdlib.h>

void trace_filter_init(struct trace_filter *filter)
{
    *filter = (struct trace_filter){.operation = -1,
                                    .latency_min_ns = -1,
                                    .latency_max_ns = -1,
                                    .cost_min_pico = -1,
                                    .cost_max_pico = -1};
}

static void add(struct filter *filter, struct predicate predicate)
{
    ASSERT(filter->count < PREDICATES_MAX);
    filter->predicates[filter->count++] = predicate;
}

static void add_range(struct filter *filter, enum column column, int64_t lo, int64_t hi)
{
    if (lo > hi)
        filter->nothing = true;
    else
        add(filter,
            (struct predicate){.kind = PREDICATE_RANGE, .column = column, .lo = lo, .hi = hi});
}

/* The code of a text in a dictionary, or -1. */
static enum rc find_code(const struct rowset *rows, enum text_column column, struct str text,
                         int64_t *code)
{
    uint32_t count;
    bool sorted;
    enum rc rc = rows->calls->texts(rows, column, &count, &sorted);
    *code = -1;
    if (rc != RC_OK)
        return rc;
    if (!sorted) {
        for (uint32_t i = 0; i < count && *code < 0; i++)
            if (str_eq(rows->calls->text(rows, column, i), text))
                *code = i;
        return RC_OK;
    }
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = str_cmp(rows->calls->text(rows, column, middle), text);
        if (order == 0) {
            *code = middle;
            return RC_OK;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return RC_OK;
}

static enum rc add_text(struct filter *filter, const struct rowset *rows, enum text_column column,
                        struct str text)
{
    if (text.n == 0 || filter->nothing)
        return RC_OK;
    int64_t code;
    enum rc rc = find_code(rows, column, text, &code);
    if (rc == RC_OK && code < 0)
        filter->nothing = true;
    else if (rc == RC_OK)
        add(filter,
            (struct predicate){.kind = PREDICATE_CODE, .column = column, .lo = code, .hi = code});
    return rc;
}

static enum rc add_model(struct filter *filter, const struct rowset *rows, struct str model)
{
    if (model.n == 0 || filter->nothing)
        return RC_OK;
    int64_t answered, requested;
    enum rc rc = find_code(rows, TEXT_MODEL, model, &answered);
    if (rc == RC_OK)
        rc = find_code(rows, TEXT_MODEL_REQUESTED, model, &requested);
    if (rc != RC_OK)
        return rc;
    if (answered < 0 && requested < 0)
        filter->nothing = true;
    else
        add(filter, (struct predicate){.kind = PREDICATE_EITHER,
                                       .column = TEXT_MODEL,
                                       .other = TEXT_MODEL_REQUESTED,
                                       .lo = answered,
                                       .hi = requested});
    return RC_OK;
}

static bool set_has_tag(struct str set, struct str name, struct str value)
{
    struct call_tag tag;
    while (tag_set_next(&set, &tag))
        if (str_eq(tag.name, name) && (value.n == 0 || str_eq(tag.value, value)))
            return true;
    return false;
}

/* "NAME@3" for "NAME", or the same. */
static bool is_of_prompt(struct str called, struct str prompt)
{
    ssize_t at = str_rfind_char(called, '@');
    return str_eq(called, prompt) || (at > 0 && str_eq(str_slice(called, 0, (size_t)at), prompt));
}

static enum rc add_prompt(struct filter *filter, const struct rowset *rows, struct str prompt)
{
    if (prompt.n == 0 || filter->nothing)
        return RC_OK;
    uint32_t count;
    bool sorted, any = false;
    enum rc rc = rows->calls->texts(rows, TEXT_PROMPT, &count, &sorted);
    if (rc != RC_OK)
        return rc;
    uint8_t *table = xcalloc(MAX(count, rows->row_count + 1), 1); /* as in add_tag */
    for (uint32_t code = 0; code < count; code++) {
        table[code] = is_of_prompt(rows->calls->text(rows, TEXT_PROMPT, code), prompt);
        any = any || table[code];
    }
    if (any) {
        add(filter,
            (struct predicate){.kind = PREDICATE_TABLE, .column = TEXT_PROMPT, .table = table});
    } else {
        free(table);
        filter->nothing = true;
    }
    return RC_OK;
}

static enum rc add_tag(struct filter *filter, const struct rowset *rows, struct str name,
                       struct str value)
{
    if (name.n == 0 || filter->nothing)
        return RC_OK;
    uint32_t count;
    bool sorted, any = false;
    enum rc rc = rows->calls->texts(rows, TEXT_TAGS, &count, &sorted);
    if (rc != RC_OK)
        return rc;
    /* A tail's dictionary may grow meanwhile; rows of the snapshot have codes below this count. */
    uint8_t *table = xcalloc(MAX(count, rows->row_count + 1), 1);
    for (uint32_t code = 0; code < count; code++) {
        table[code] = set_has_tag(rows->calls->text(rows, TEXT_TAGS, code), name, value);
        any = any || table[code];
    }
    if (any) {
        add(filter,
            (struct predicate){.kind = PREDICATE_TABLE, .column = TEXT_TAGS, .table = table});
    } else {
        free(table);
        filter->nothing = true;
    }
    return RC_OK;
}

static void add_numbers(struct filter *filter, const struct trace_filter *wanted)
{
    if (wanted->from_ns != 0 || wanted->to_ns != 0)
        add_range(filter, COLUMN_STARTED_NS, wanted->from_ns != 0 ? wanted->from_ns : INT64_MIN,
                  wanted->to_ns != 0 ? wanted->to_ns - 1 : INT64_MAX);
    if (wanted->rows == TRACE_ROWS_CALLS)
        add_range(filter, COLUMN_OPERATION, 0, OPERATION_SPAN - 1);
    if (wanted->rows == TRACE_ROWS_SPANS)
        add_range(filter, COLUMN_OPERATION, OPERATION_SPAN, OPERATION_SPAN);
    if (wanted->operation >= 0)
        add_range(filter, COLUMN_OPERATION, wanted->operation, wanted->operation);
    if (wanted->latency_min_ns >= 0 || wanted->latency_max_ns >= 0)
        add_range(filter, COLUMN_TOTAL_US,
                  wanted->latency_min_ns >= 0 ? (wanted->latency_min_ns + 999) / 1000 : 0,
                  wanted->latency_max_ns >= 0 ? wanted->latency_max_ns / 1000 : INT64_MAX);
    if (wanted->cost_min_pico >= 0 || wanted->cost_max_pico >= 0) {
        add_range(filter, COLUMN_COST_PICO,
                  wanted->cost_min_pico >= 0 ? wanted->cost_min_pico : INT64_MIN,
                  wanted->cost_max_pico >= 0 ? wanted->cost_max_pico : INT64_MAX);
        add_range(filter, COLUMN_PRICED, 1, 1);
    }
}

/* Statuses are few: a mask of one is a range, and so is every run of neighbours. */
static void add_status(struct filter *filter, unsigned mask)
{
    mask &= (1u << CALL_STATUS_COUNT) - 1;
    if (mask == 0)
        return;
    int first = __builtin_ctz(mask), last = 31 - __builtin_clz(mask);
    add_range(filter, COLUMN_STATUS, first, last);
    for (int status = first; status < last; status++)
        if (!(mask & 1u << status))
            add(filter,
                (struct predicate){.kind = PREDICATE_NOT, .column = COLUMN_STATUS, .lo = status});
}

enum rc filter_compile(struct filter *filter, const struct rowset *rows, struct id project,
                       const struct trace_filter *wanted)
{
    *filter = (struct filter){0};
    if (wanted->from_ns > rows->started_max_ns ||
        (wanted->to_ns != 0 && wanted->to_ns <= rows->started_min_ns)) {
        filter->nothing = true;
        return RC_OK;
    }
    /* Most selective first, as far as one can tell: the rest is skipped once no row is left. */
    enum rc rc = add_text(filter, rows, TEXT_PROJECT, str_make(project.bytes, 16));
    if (rc == RC_OK)
        rc = add_text(filter, rows, TEXT_TRACE, wanted->trace);
    if (rc == RC_OK)
        rc = add_text(filter, rows, TEXT_SPAN_NAME, wanted->span_name);
    if (rc == RC_OK)
        rc = add_text(filter, rows, TEXT_SESSION, wanted->session);
    if (rc == RC_OK)
        rc = add_text(filter, rows, TEXT_USER, wanted->user);
    if (rc == RC_OK && !id_is_zero(wanted->key))
        rc = add_text(filter, rows, TEXT_KEY, str_make(wanted->key.bytes, 16));
    if (rc == RC_OK)
        rc = add_model(filter, rows, wanted->model);
    if (rc == RC_OK)
        rc = add_text(filter, rows, TEXT_PROVIDER, wanted->provider);
    if (rc == RC_OK)
        rc = add_text(filter, rows, TEXT_ROUTE, wanted->route);
    if (rc == RC_OK)
        rc = add_prompt(filter, rows, wanted->prompt);
    if (rc == RC_OK)
        rc = add_tag(filter, rows, wanted->tag_name, wanted->tag_value);
    if (rc == RC_OK && !filter->nothing) {
        add_status(filter, wanted->status_mask);
        add_numbers(filter, wanted);
    }
    if (rc != RC_OK)
        filter_fini(filter);
    return rc;
}

void filter_fini(struct filter *filter)
{
    for (int i = 0; i < filter->count; i++)
        free(filter->predicates[i].table);
    filter->count = 0;
}

/* ---- applying ---- */

static int64_t divide_up(uint64_t value, uint64_t by)
{
    return (int64_t)(value / by + (value % by != 0));
}

/* An integer column: skipped where the zone says that all rows match. False: none can. */
static bool apply_range(const struct predicate *p, const struct column_view *view, uint32_t n,
                        uint8_t *mask)
{
    int64_t lo = MAX(p->lo, view->min), hi = MIN(p->hi, view->max);
    if (lo > hi)
        return false;
    if (lo == view->min && hi == view->max && view->min != INT64_MIN)
        return true;
    if (view->width == 8) {
        scan_range(mask, view, n, p->lo, p->hi);
        return true;
    }
    int64_t code_lo = divide_up((uint64_t)lo - (uint64_t)view->base, view->scale);
    int64_t code_hi = (int64_t)(((uint64_t)hi - (uint64_t)view->base) / view->scale);
    if (code_lo > code_hi)
        return false;
    scan_range(mask, view, n, code_lo, code_hi);
    return true;
}

/* A status that lies between wanted ones, but is not wanted. */
static void apply_not(const struct predicate *p, const struct column_view *view, uint32_t n,
                      uint8_t *mask)
{
    for (uint32_t i = 0; i < n; i++)
        mask[i] &= view_value(view, i) != p->lo;
}

static bool apply_code(const struct predicate *p, const struct column_view *view, uint32_t n,
                       uint8_t *mask)
{
    if (p->lo < view->min || p->lo > view->max)
        return false;
    if (view->min != view->max)
        scan_range(mask, view, n, p->lo, p->lo);
    return true;
}

static enum rc apply_one(const struct predicate *p, const struct rowset *rows, uint32_t granule,
                         uint32_t n, uint8_t *mask, bool *any)
{
    struct column_view view, other;
    *any = true;
    if (p->kind == PREDICATE_RANGE || p->kind == PREDICATE_NOT) {
        enum rc rc = rows->calls->view(rows, (enum column)p->column, granule, &view);
        if (rc != RC_OK)
            return rc;
        if (p->kind == PREDICATE_NOT)
            apply_not(p, &view, n, mask);
        else
            *any = apply_range(p, &view, n, mask);
        return RC_OK;
    }
    enum rc rc = rows->calls->text_view(rows, (enum text_column)p->column, granule, &view);
    if (rc != RC_OK)
        return rc;
    if (p->kind == PREDICATE_CODE) {
        *any = apply_code(p, &view, n, mask);
    } else if (p->kind == PREDICATE_TABLE) {
        scan_table(mask, &view, n, p->table);
    } else {
        rc = rows->calls->text_view(rows, (enum text_column)p->other, granule, &other);
        if (rc == RC_OK)
            scan_either(mask, &view, p->lo, &other, p->hi, n);
    }
    return rc;
}

enum rc filter_apply(const struct filter *filter, const struct rowset *rows, uint32_t granule,
                     uint32_t n, uint8_t mask[GRANULE_ROWS], uint32_t *count)
{
    *count = 0;
    if (filter->nothing)
        return RC_OK;
    memset(mask, 1, n);
    const atomic_uint_least64_t *deleted =
        atomic_load_explicit(&rows->deleted, memory_order_acquire);
    if (deleted)
        scan_deleted(mask, deleted + (size_t)granule * (GRANULE_ROWS / 64), n);
    for (int i = 0; i < filter->count; i++) {
        bool any;
        enum rc rc = apply_one(&filter->predicates[i], rows, granule, n, mask, &any);
        if (rc != RC_OK || !any)
            return rc;
        if (i + 1 < filter->count && i > 0 && !memchr(mask, 1, n))
            return RC_OK;
    }
    *count = scan_count(mask, n);
    return RC_OK;
}

/* ---- text search ---- */

bool text_contains(struct str haystack, struct str needle)
{
    if (needle.n == 0)
        return true;
    if (needle.n > haystack.n)
        return false;
    /* memchr finds candidates for the first character in either case. */
    int lower = (uint8_t)needle.p[0], upper = toupper(lower);
    const char *end = haystack.p + (haystack.n - needle.n) + 1;
    const char *next[2] = {haystack.p, haystack.p};
    const int wanted[2] = {lower, upper};
    for (int k = 0; k < 2; k++)
        next[k] =
            lower == upper && k ? NULL : memchr(haystack.p, wanted[k], (size_t)(end - haystack.p));
    while (next[0] || next[1]) {
        int k = !next[0] || (next[1] && next[1] < next[0]);
        const char *at = next[k];
        size_t i = 1;
        while (i < needle.n && tolower((uint8_t)at[i]) == (uint8_t)needle.p[i])
            i++;
        if (i == needle.n)
            return true;
        next[k] = at + 1 < end ? memchr(at + 1, wanted[k], (size_t)(end - at - 1)) : NULL;
    }
    return false;
}
