/* The store of call records against a plain model of the same records: lists, filters, statistics,
 * spend, over tail and parts, before and after opening again; erasing, retention, full disks,
 * hand-over. */
#include "make_record.h"
#include "trace/store.h"
#include "trace/stream_pack.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define RECORDS 9000

static struct trace_store *open_store(struct file_system *fs, uint32_t tail_rows)
{
    struct trace_options options = {
        .fs = fs, .directory = "/data/trace", .no_threads = true, .tail_rows_max = tail_rows};
    struct trace_store *store;
    struct err err = {0};
    if (trace_open(&options, &store, &err) != RC_OK)
        fail_msg("trace_open: %s", err.message);
    return store;
}

static struct file_system *make_fs(uint64_t seed)
{
    struct file_system *fs = file_system_memory_new(seed);
    assert_int_equal(file_make_directory(fs, "/data"), RC_OK);
    assert_int_equal(file_sync_directory(fs, ""), RC_OK);
    return fs;
}

static void submit(struct trace_store *store, uint64_t from, uint64_t to)
{
    struct made_record m;
    for (uint64_t i = from; i < to; i++) {
        make_record(i, &m);
        trace_submit(store, &m.call, NULL);
        if (i % 1000 == 0) {
            trace_step_write(store);
            while (trace_step_keep(store))
                ;
        }
    }
    assert_int_equal(trace_flush(store, NS_PER_S), RC_OK);
    while (trace_step_keep(store))
        ;
}

/* ---- the model ---- */

static bool model_matches(const struct call_record *c, struct id project,
                          const struct trace_filter *f)
{
    if (!id_eq(c->project, project))
        return false;
    if (f->model.n && !str_eq(c->model, f->model) && !str_eq(c->model_requested, f->model))
        return false;
    if ((f->provider.n && !str_eq(c->provider, f->provider)) ||
        (f->route.n && !str_eq(c->route, f->route)) || (f->user.n && !str_eq(c->user, f->user)) ||
        (f->session.n && !str_eq(c->session, f->session)))
        return false;
    if (!id_is_zero(f->key) && !id_eq(c->key, f->key))
        return false;
    if (f->status_mask && !(f->status_mask & 1u << c->status))
        return false;
    if (f->operation >= 0 && c->operation != (enum call_operation)f->operation)
        return false;
    if ((f->from_ns && c->started_wall_ns < f->from_ns) ||
        (f->to_ns && c->started_wall_ns >= f->to_ns))
        return false;
    if ((f->latency_min_ns >= 0 && c->total_ns < f->latency_min_ns) ||
        (f->latency_max_ns >= 0 && c->total_ns > f->latency_max_ns))
        return false;
    if ((f->cost_min_pico >= 0 || f->cost_max_pico >= 0) && c->cost_pico == COST_UNKNOWN)
        return false;
    if ((f->cost_min_pico >= 0 && c->cost_pico < f->cost_min_pico) ||
        (f->cost_max_pico >= 0 && c->cost_pico > f->cost_max_pico))
        return false;
    bool tag = f->tag_name.n == 0;
    for (size_t i = 0; i < c->tag_count; i++)
        tag = tag || (str_eq(c->tags[i].name, f->tag_name) &&
                      (f->tag_value.n == 0 || str_eq(c->tags[i].value, f->tag_value)));
    return tag;
}

static void random_filter(struct trace_filter *f)
{
    trace_filter_init(f);
    static const char *const models[] = {"gpt-5", "smart", "smollm2", "absent"};
    if (rand_below(3) == 0)
        f->model = str_from(models[rand_below(4)]);
    if (rand_below(5) == 0)
        f->provider = STR("openai");
    if (rand_below(6) == 0)
        f->route = STR("smart");
    if (rand_below(6) == 0)
        f->user = STR("user-7");
    if (rand_below(8) == 0)
        f->session = STR("session-1234");
    if (rand_below(6) == 0)
        f->key = make_key(rand_below(8));
    if (rand_below(4) == 0)
        f->status_mask = (unsigned)rand_below(32);
    if (rand_below(6) == 0)
        f->operation = OPERATION_EMBEDDING;
    if (rand_below(3) == 0)
        f->from_ns = MAKE_START_NS + (int64_t)rand_below(RECORDS) * 1500 * NS_PER_MS;
    if (rand_below(3) == 0)
        f->to_ns = MAKE_START_NS + (int64_t)rand_below(RECORDS) * 1500 * NS_PER_MS;
    if (rand_below(4) == 0)
        f->latency_min_ns = (int64_t)rand_below(5000) * NS_PER_MS;
    if (rand_below(4) == 0)
        f->latency_max_ns = (int64_t)rand_below(5000) * NS_PER_MS;
    if (rand_below(5) == 0)
        f->cost_min_pico = (int64_t)rand_below(4000) * 2500000;
    if (rand_below(5) == 0)
        f->cost_max_pico = (int64_t)rand_below(4000) * 2500000;
    if (rand_below(5) == 0) {
        f->tag_name = STR("env");
        f->tag_value = rand_below(2) ? STR("test") : STR_EMPTY;
    }
}

static void same_row(const struct call_record *got, const struct call_record *want)
{
    assert_true(id_eq(got->id, want->id));
    assert_true(id_eq(got->key, want->key));
    assert_true(str_eq(got->model, want->model) &&
                str_eq(got->model_requested, want->model_requested));
    assert_true(str_eq(got->user, want->user) && str_eq(got->session, want->session));
    assert_true(str_eq(got->route, want->route) && str_eq(got->finish_reason, want->finish_reason));
    assert_int_equal(got->status, want->status);
    assert_int_equal(got->error, want->error);
    assert_int_equal(got->http_status, want->http_status);
    assert_int_equal(got->cost_pico, want->cost_pico);
    assert_int_equal(got->total_ns / 1000, want->total_ns / 1000);
    assert_int_equal(got->started_wall_ns, want->started_wall_ns);
    assert_memory_equal(got->usage.tokens, want->usage.tokens, sizeof(want->usage.tokens));
    assert_int_equal(got->tag_count, want->tag_count);
    for (size_t i = 0; i < got->tag_count; i++)
        assert_true(str_eq(got->tags[i].value, want->tags[i].value));
}

/* Pages through everything that matches and compares with the model, newest first. */
static void compare_list(struct trace_store *store, const struct trace_filter *f, uint64_t last)
{
    struct arena arena;
    struct made_record *m = malloc(sizeof(*m));
    uint64_t before = 0, at = last, count = 0;
    arena_init(&arena, 64 << 20);
    do {
        struct trace_page page;
        struct err err = {0};
        arena_reset(&arena);
        assert_int_equal(trace_list(store, make_project(0), f, before, 300, &arena, &page, &err),
                         RC_OK);
        for (size_t i = 0; i < page.count; i++, count++) {
            do {
                assert_true(at > 0);
                make_record(--at, m);
            } while (!model_matches(&m->call, make_project(0), f));
            same_row(&page.rows[i]->call, &m->call);
        }
        before = page.next_seq;
    } while (before != 0);
    while (at > 0) {
        make_record(--at, m);
        assert_false(model_matches(&m->call, make_project(0), f));
    }
    uint64_t counted;
    assert_int_equal(trace_count(store, make_project(0), f, &counted, NULL), RC_OK);
    assert_int_equal(counted, count);
    arena_fini(&arena);
    free(m);
}

static void compare_stats(struct trace_store *store, const struct trace_filter *f, uint64_t last)
{
    struct arena arena;
    struct made_record *m = malloc(sizeof(*m));
    struct trace_stats_query q = {.filter = *f, .group_by = TRACE_GROUP_MODEL};
    struct trace_stats stats;
    struct err err = {0};
    arena_init(&arena, 64 << 20);
    assert_int_equal(trace_stats(store, make_project(0), &q, &arena, &stats, &err), RC_OK);
    struct trace_sums sums = {0}, gpt = {0};
    for (uint64_t i = 0; i < last; i++) {
        make_record(i, m);
        if (!model_matches(&m->call, make_project(0), f))
            continue;
        struct trace_sums *both[] = {&sums, str_eq(m->call.model, STR("gpt-5")) ? &gpt : NULL};
        for (int k = 0; k < 2 && both[k]; k++) {
            both[k]->calls++;
            both[k]->errors += m->call.status == CALL_ERROR;
            both[k]->calls_unpriced += m->call.cost_pico == COST_UNKNOWN;
            both[k]->cost_pico += m->call.cost_pico == COST_UNKNOWN ? 0 : m->call.cost_pico;
            for (int t = 0; t < USAGE_BUCKET_COUNT; t++)
                both[k]->tokens[t] += m->call.usage.tokens[t];
        }
    }
    const struct trace_sums *pairs[2][2] = {{&stats.totals, &sums}, {NULL, &gpt}};
    for (size_t i = 0; i < stats.group_count; i++)
        if (str_eq(stats.groups[i].name, STR("gpt-5")))
            pairs[1][0] = &stats.groups[i].sums;
    assert_true(pairs[1][0] || gpt.calls == 0);
    for (int k = 0; k < 2 && pairs[k][0]; k++) {
        assert_int_equal(pairs[k][0]->calls, pairs[k][1]->calls);
        assert_int_equal(pairs[k][0]->errors, pairs[k][1]->errors);
        assert_int_equal(pairs[k][0]->calls_unpriced, pairs[k][1]->calls_unpriced);
        assert_true(pairs[k][0]->cost_pico == pairs[k][1]->cost_pico);
        assert_memory_equal(pairs[k][0]->tokens, pairs[k][1]->tokens, sizeof(gpt.tokens));
    }
    arena_fini(&arena);
    free(m);
}

static void compare_all(struct trace_store *store, uint64_t last)
{
    struct trace_filter f;
    trace_filter_init(&f);
    compare_list(store, &f, last);
    compare_stats(store, &f, last);
    for (int i = 0; i < 40; i++) {
        random_filter(&f);
        compare_list(store, &f, last);
        compare_stats(store, &f, last);
    }
}

static void compare_spend(struct trace_store *store, uint64_t last)
{
    struct made_record *m = malloc(sizeof(*m));
    __int128 cost = 0, cost_user = 0;
    uint64_t calls_tag = 0, tokens = 0;
    int32_t day = (int32_t)(MAKE_START_NS / NS_PER_DAY);
    for (uint64_t i = 0; i < last; i++) {
        make_record(i, m);
        if (!id_eq(m->call.project, make_project(0)))
            continue;
        int64_t pico = m->call.cost_pico == COST_UNKNOWN ? 0 : m->call.cost_pico;
        cost += pico;
        cost_user += str_eq(m->call.user, STR("user-3")) ? pico : 0;
        tokens += usage_input_total(&m->call.usage);
        calls_tag += m->call.tag_count > 0 && str_eq(m->call.tags[0].value, STR("prod")) &&
                     m->call.started_wall_ns / NS_PER_DAY == day;
    }
    struct spend_sum sum;
    struct id project = make_project(0);
    assert_int_equal(
        trace_spend_sum(store, project, SPEND_BY_PROJECT, STR_EMPTY, 0, INT32_MAX, &sum), RC_OK);
    assert_true(sum.cost_pico == cost);
    assert_int_equal(sum.tokens_in, tokens);
    assert_int_equal(
        trace_spend_sum(store, project, SPEND_BY_USER, STR("user-3"), day, day + 400, &sum), RC_OK);
    assert_true(sum.cost_pico == cost_user);
    assert_int_equal(trace_spend_sum(store, project, SPEND_BY_TAG, STR("env=prod"), day, day, &sum),
                     RC_OK);
    assert_int_equal(sum.calls, calls_tag);
    struct arena arena;
    struct spend_entry *entries;
    size_t count;
    arena_init(&arena, 1 << 20);
    assert_int_equal(trace_spend_list(store, project, SPEND_BY_MODEL, false, 0, INT32_MAX, &arena,
                                      &entries, &count),
                     RC_OK);
    __int128 total = 0;
    for (size_t i = 0; i < count; i++)
        total += entries[i].sum.cost_pico;
    assert_true(total == cost);
    arena_fini(&arena);
    free(m);
}

static void answers_like_the_model(void **state)
{
    rand_seed(11);
    struct file_system *fs = make_fs(1);
    struct trace_store *store = open_store(fs, 1000);
    submit(store, 0, RECORDS);
    struct trace_counters counters;
    trace_counters(store, &counters);
    assert_true(counters.segments >= 2 && counters.segments < 9); /* sealed, and merged */
    assert_int_equal(counters.rows, RECORDS);
    compare_all(store, RECORDS);
    compare_spend(store, RECORDS);
    trace_close(store);
    store = open_store(fs, 4000);
    submit(store, RECORDS, RECORDS + 500);
    compare_all(store, RECORDS + 500);
    compare_spend(store, RECORDS + 500);
    trace_close(store);
    file_system_free(fs);
}

static void gets_whole_records(void **state)
{
    struct file_system *fs = make_fs(2);
    struct trace_store *store = open_store(fs, 1000);
    submit(store, 0, 1500);
    struct made_record *m = malloc(sizeof(*m));
    struct call_record *call = malloc(sizeof(*call));
    struct arena arena;
    arena_init(&arena, 1 << 20);
    for (uint64_t i = 0; i < 1500; i += 7) {
        arena_reset(&arena);
        make_record(i, m);
        struct id other = make_project(!id_eq(m->call.project, make_project(1)));
        struct err err = {0};
        assert_int_equal(trace_get(store, other, m->call.id, &arena, call, &err), RC_NOT_FOUND);
        assert_int_equal(trace_get(store, m->call.project, m->call.id, &arena, call, &err), RC_OK);
        same_row(call, &m->call);
        assert_true(str_eq(call->request_body, m->call.request_body));
        assert_true(str_eq(call->response_body, m->call.response_body));
        assert_true(str_eq(call->error_message, m->call.error_message));
        assert_int_equal(call->attempt_count, 1);
        assert_true(str_eq(call->attempts[0].model, m->call.model));
        assert_memory_equal(call->bucket_price_pico, m->call.bucket_price_pico,
                            sizeof(call->bucket_price_pico));
        assert_int_equal(call->total_ns, m->call.total_ns);
    }
    arena_fini(&arena);
    free(m);
    free(call);
    trace_close(store);
    file_system_free(fs);
}

static void searches_bodies(void **state)
{
    struct file_system *fs = make_fs(2);
    struct trace_store *store = open_store(fs, 1000);
    submit(store, 0, 1500);
    struct trace_filter f;
    struct trace_page page;
    struct arena arena;
    arena_init(&arena, 4 << 20);
    trace_filter_init(&f);
    f.text = STR("QUESTION number 77 ");
    assert_int_equal(trace_list(store, make_project(0), &f, 0, 10, &arena, &page, NULL), RC_OK);
    assert_int_equal(page.count, 1);
    assert_true(id_eq(page.rows[0]->call.id, make_id(77)));
    assert_int_equal(page.next_seq, 0);
    f.text = STR("upstream SAID");
    assert_int_equal(trace_list(store, make_project(0), &f, 0, 10, &arena, &page, NULL), RC_OK);
    assert_int_equal(page.count, 10);
    assert_int_not_equal(page.next_seq, 0);
    arena_fini(&arena);
    trace_close(store);
    file_system_free(fs);
}

/* Who reads or searches a call does not notice that its answer was kept packed. */
static void unpacks_streamed_answers(void **state)
{
    static const char answer[] = "data: {\"text\":\"first\"}\n\ndata: {\"text\":\"Needle\"}\n\n";
    struct file_system *fs = make_fs(2);
    struct trace_store *store = open_store(fs, 1000);
    struct made_record *m = malloc(sizeof(*m));
    struct call_record *call = malloc(sizeof(*call));
    make_record(3, m);
    struct stream_pack pack;
    stream_pack_init(&pack, 1 << 20);
    assert_int_equal(stream_pack_add(&pack, str_from(answer)), RC_OK);
    m->call.capture = CAPTURE_FULL;
    m->call.response_body = STR_EMPTY;
    m->call.response_events = buf_str(&pack.out);
    trace_submit(store, &m->call, NULL);
    stream_pack_fini(&pack);

    struct arena arena;
    struct trace_filter f;
    struct trace_page page;
    struct err err = {0};
    arena_init(&arena, 1 << 20);
    assert_int_equal(trace_get(store, m->call.project, m->call.id, &arena, call, &err), RC_OK);
    assert_true(str_eq(call->response_body, str_from(answer)));
    trace_filter_init(&f);
    f.text = STR("needle\"}");
    assert_int_equal(trace_list(store, m->call.project, &f, 0, 10, &arena, &page, NULL), RC_OK);
    assert_int_equal(page.count, 1);
    f.text = STR("needles");
    assert_int_equal(trace_list(store, m->call.project, &f, 0, 10, &arena, &page, NULL), RC_OK);
    assert_int_equal(page.count, 0);
    arena_fini(&arena);
    free(m);
    free(call);
    trace_close(store);
    file_system_free(fs);
}

static uint64_t count_of(struct trace_store *store, struct str user)
{
    struct trace_filter f;
    uint64_t count;
    trace_filter_init(&f);
    f.user = user;
    assert_int_equal(trace_count(store, make_project(0), &f, &count, NULL), RC_OK);
    return count;
}

/* Calls counted to the end user: since the first day, and by the table of totals. */
static void assert_spend_calls(struct trace_store *store, struct str user, uint64_t calls)
{
    struct spend_sum days, ever;
    struct id project = make_project(0);
    assert_int_equal(trace_spend_sum(store, project, SPEND_BY_USER, user, 1, INT32_MAX - 1, &days),
                     RC_OK);
    assert_int_equal(trace_spend_sum(store, project, SPEND_BY_USER, user, 0, INT32_MAX, &ever),
                     RC_OK);
    assert_int_equal(days.calls, calls);
    assert_int_equal(ever.calls, calls);
}

/* The book's files themselves, as one that never heard of the erasing reads them. */
static void assert_not_on_disk(struct trace_store *store, struct str user)
{
    struct spend_book book = store->book;
    book.forgotten_count = 0;
    assert_true(book.count > 1);
    for (size_t i = 0; i < book.count; i++) {
        struct spend_book_entry entry = book.entries[i];
        struct spend_sum sum = {0};
        struct spend *spend;
        bool own;
        entry.loaded = NULL;
        assert_int_equal(spend_book_read(&book, &entry, &spend, &own, NULL), RC_OK);
        spend_sum_days(spend, make_project(0), SPEND_BY_USER, user, INT32_MIN, INT32_MAX, &sum);
        assert_int_equal(sum.calls, 0);
        spend_free(spend);
    }
}

static void erases_for_good(void **state)
{
    struct file_system *fs = make_fs(3);
    struct trace_store *store = open_store(fs, 1000);
    submit(store, 0, 2600);
    struct err err = {0};
    uint64_t before = count_of(store, STR("user-5")), erased, all = count_of(store, STR_EMPTY);
    assert_true(before > 20);
    assert_int_equal(trace_erase_user(store, make_project(0), STR("user-5"), &erased, &err), RC_OK);
    assert_int_equal(erased, before);
    assert_int_equal(count_of(store, STR("user-5")), 0);
    assert_spend_calls(store, STR("user-5"), 0);
    assert_int_equal(trace_erase_call(store, make_project(0), make_id(101), &err), RC_OK);
    assert_int_equal(trace_erase_call(store, make_project(0), make_id(101), &err), RC_NOT_FOUND);
    assert_int_equal(count_of(store, STR_EMPTY), all - before - 1);
    compare_spend(store, 2600);

    file_system_crash(fs); /* before anything was rewritten */
    trace_close(store);
    store = open_store(fs, 1000);
    assert_int_equal(count_of(store, STR("user-5")), 0);
    assert_int_equal(count_of(store, STR_EMPTY), all - before - 1);
    assert_spend_calls(store, STR("user-5"), 0);
    compare_spend(store, 2600);
    while (trace_step_keep(store))
        ;
    assert_not_on_disk(store, STR("user-5"));
    submit(store, 3000, 4100); /* seals the tail that held some of them, and rewrites parts */
    for (size_t i = 0; i < store->part_count; i++)
        assert_int_equal(part_rows(store->parts[i].part)->deleted_count, 0);
    uint64_t again = count_of(store, STR("user-5"));
    assert_true(again > 0); /* of the later calls */
    trace_close(store);
    store = open_store(fs, 1000);
    assert_int_equal(count_of(store, STR("user-5")), again);
    assert_spend_calls(store, STR("user-5"), again);
    trace_close(store);
    file_system_free(fs);
}

static int64_t fake_now_ns;
static int64_t fake_wall(void *arg) { return fake_now_ns; }
static int64_t fake_monotonic(void *arg) { return fake_now_ns; }

static void retires_by_age_and_size(void **state)
{
    struct file_system *fs = make_fs(4);
    struct trace_store *store = open_store(fs, 1000);
    submit(store, 0, 5000);
    uint64_t all = count_of(store, STR_EMPTY);
    /* Keep the last 2000 records' time, which is 3000 s. */
    fake_now_ns = MAKE_START_NS + 5000 * 1500 * NS_PER_MS;
    clock_override(fake_wall, fake_monotonic, NULL);
    trace_set_retention(store, make_project(0), 2000 * 1500 * NS_PER_MS, 0);
    while (trace_step_keep(store))
        ;
    uint64_t left = count_of(store, STR_EMPTY);
    assert_true(left > 1500 && left < 2300 && left < all);
    struct trace_counters counters;
    trace_counters(store, &counters);
    compare_spend(store, 5000);
    trace_set_retention(store, make_project(0), 0, counters.segment_bytes / 3);
    while (trace_step_keep(store))
        ;
    uint64_t less = count_of(store, STR_EMPTY);
    assert_true(less < left && less > 100);
    clock_override(NULL, NULL, NULL);
    trace_close(store);
    store = open_store(fs, 1000);
    assert_int_equal(count_of(store, STR_EMPTY), less);
    compare_spend(store, 5000);
    trace_close(store);
    file_system_free(fs);
}

static void series_and_groups_add_up(void **state)
{
    struct file_system *fs = make_fs(5);
    struct trace_store *store = open_store(fs, 1000);
    submit(store, 0, 3000);
    for (int by = TRACE_GROUP_NONE; by < TRACE_GROUP_COUNT; by++) {
        struct arena arena;
        struct trace_stats stats;
        struct err err = {0};
        struct trace_stats_query q = {
            .step_ns = 60 * NS_PER_S, .group_by = (enum trace_group)by, .groups_max = 3};
        trace_filter_init(&q.filter);
        q.filter.from_ns = MAKE_START_NS;
        q.filter.to_ns = MAKE_START_NS + 3000 * 1500 * NS_PER_MS;
        arena_init(&arena, 64 << 20);
        assert_int_equal(trace_stats(store, make_project(0), &q, &arena, &stats, &err), RC_OK);
        assert_int_equal(stats.series_count, 75);
        uint64_t calls = 0, in_groups = 0;
        for (size_t i = 0; i < stats.series_count; i++)
            calls += stats.series[i].sums.calls;
        for (size_t i = 0; i < stats.group_count; i++)
            in_groups += stats.groups[i].sums.calls;
        assert_int_equal(calls, stats.totals.calls);
        assert_true(calls > 2500);
        assert_true(by == TRACE_GROUP_NONE || in_groups == calls);
        assert_true(stats.group_count <= 4);
        /* Latencies are uniform over 5 s. */
        assert_true(llabs(stats.totals.latency.p50_ns - 2500 * NS_PER_MS) < 150 * NS_PER_MS);
        assert_true(llabs(stats.totals.latency.p99_ns - 4950 * NS_PER_MS) < 150 * NS_PER_MS);
        assert_true(llabs(stats.totals.first_token.p50_ns - 200 * NS_PER_MS) < 20 * NS_PER_MS);
        arena_fini(&arena);
    }
    trace_close(store);
    file_system_free(fs);
}

struct counted_waiter {
    struct trace_waiter waiter;
    int *told;
};

static void count_told(struct task *task)
{
    struct counted_waiter *w = CONTAINER_OF(task, struct counted_waiter, waiter.task);
    w->told[w->waiter.result == RC_OK ? 0 : 1]++;
}

static void bounds_memory_when_the_disk_is_full(void **state)
{
    struct file_system *fs = make_fs(6);
    struct trace_options options = {
        .fs = fs, .directory = "/data/trace", .no_threads = true, .queue_bytes_max = 100000};
    struct trace_store *store;
    assert_int_equal(trace_open(&options, &store, NULL), RC_OK);
    file_system_set_space(fs, 50000);
    int told[2] = {0};
    struct counted_waiter waiters[500];
    for (int i = 0; i < 500; i++) {
        struct made_record m;
        make_record((uint64_t)i, &m);
        waiters[i] = (struct counted_waiter){.waiter.task.run = count_told, .told = told};
        trace_submit(store, &m.call, &waiters[i].waiter);
        trace_step_write(store);
        trace_step_sync(store);
    }
    struct trace_counters counters;
    trace_counters(store, &counters);
    assert_true(counters.queue_bytes <= 100000);
    assert_true(counters.lost_queue > 0 && counters.disk_full);
    assert_int_equal(told[0] + told[1], 500); /* nobody waits for ever */
    assert_true(told[0] > 20 && told[1] > 100);
    file_system_set_space(fs, -1);
    assert_int_equal(trace_flush(store, NS_PER_S), RC_OK);
    trace_counters(store, &counters);
    assert_false(counters.disk_full);
    assert_int_equal(counters.stored + counters.lost_queue, 500);
    assert_int_equal(counters.rows, counters.stored);
    trace_close(store);
    file_system_free(fs);
}

static void keep_forwarded(void *arg, struct str bytes, struct trace_waiter *waiter)
{
    struct trace_store *to = arg;
    assert_int_equal(trace_submit_encoded(to, bytes, waiter), RC_OK);
}

static void hands_the_writers_role_over(void **state)
{
    struct file_system *fs = make_fs(7);
    struct trace_store *old = open_store(fs, 1000), *next;
    struct trace_options options = {.fs = fs, .directory = "/data/trace", .no_threads = true};
    struct err err = {0};
    submit(old, 0, 500);
    assert_int_equal(trace_open(&options, &next, &err), RC_CONFLICT);
    struct trace_store *target = NULL;
    struct made_record m;
    /* The new process opens once the role is free, then gets what the old one still ends. */
    assert_int_equal(trace_release(old, keep_forwarded, &target, &err), RC_OK);
    assert_int_equal(trace_open(&options, &next, &err), RC_OK);
    old->forward_arg = next;
    make_record(500, &m);
    trace_submit(old, &m.call, NULL);
    assert_int_equal(trace_flush(next, NS_PER_S), RC_OK);
    compare_all(next, 501);
    trace_close(old);
    trace_close(next);
    file_system_free(fs);
}

static void keeps_only_spend_without_capture(void **state)
{
    struct file_system *fs = make_fs(8);
    struct trace_store *store = open_store(fs, 1000);
    struct made_record m;
    make_record(1, &m);
    m.call.capture = CAPTURE_NONE;
    trace_submit(store, &m.call, NULL);
    make_record(2, &m);
    m.call.capture = CAPTURE_METADATA;
    m.call.project = make_project(0);
    trace_submit(store, &m.call, NULL);
    assert_int_equal(trace_flush(store, NS_PER_S), RC_OK);
    trace_close(store);
    store = open_store(fs, 1000);
    struct trace_counters counters;
    trace_counters(store, &counters);
    assert_int_equal(counters.rows, 1);
    struct arena arena;
    struct call_record *call = malloc(sizeof(*call));
    arena_init(&arena, 1 << 20);
    assert_int_equal(trace_get(store, make_project(0), m.call.id, &arena, call, NULL), RC_OK);
    assert_int_equal(call->request_body.n + call->response_body.n + call->request_headers.n, 0);
    assert_true(str_eq(call->session, m.call.session));
    struct spend_sum sum;
    assert_int_equal(
        trace_spend_sum(store, make_project(0), SPEND_BY_PROJECT, STR_EMPTY, 0, INT32_MAX, &sum),
        RC_OK);
    assert_int_equal(sum.calls, 2);
    arena_fini(&arena);
    free(call);
    trace_close(store);
    file_system_free(fs);
}

/* With its threads, on a real disk: visible at once, durable soon, and there after opening again.
 */
static void runs_with_threads(void **state)
{
    char root[] = "/tmp/capstan-trace-XXXXXX", directory[64], command[96];
    assert_non_null(mkdtemp(root));
    snprintf(directory, sizeof(directory), "%s/trace", root);
    struct trace_options options = {.directory = directory, .tail_rows_max = 6000};
    struct trace_store *store;
    struct err err = {0};
    assert_int_equal(trace_open(&options, &store, &err), RC_OK);
    struct made_record *m = malloc(sizeof(*m));
    for (uint64_t i = 0; i < 20000; i++) {
        make_record(i, m);
        trace_submit(store, &m->call, NULL);
        if (i % 5000 == 77) {
            struct arena arena;
            struct call_record *call = malloc(sizeof(*call));
            arena_init(&arena, 1 << 20);
            assert_int_equal(trace_get(store, m->call.project, m->call.id, &arena, call, &err),
                             RC_OK);
            arena_fini(&arena);
            free(call);
        }
    }
    assert_int_equal(trace_flush(store, 20 * NS_PER_S), RC_OK);
    compare_spend(store, 20000);
    trace_close(store);
    assert_int_equal(trace_open(&options, &store, &err), RC_OK);
    struct trace_counters counters;
    trace_counters(store, &counters);
    assert_int_equal(counters.rows, 20000);
    assert_int_equal(counters.lost_queue + counters.lost_disk, 0);
    compare_spend(store, 20000);
    trace_close(store);
    free(m);
    snprintf(command, sizeof(command), "rm -rf %s", root);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_like_the_model),
        cmocka_unit_test(gets_whole_records),
        cmocka_unit_test(searches_bodies),
        cmocka_unit_test(unpacks_streamed_answers),
        cmocka_unit_test(erases_for_good),
        cmocka_unit_test(retires_by_age_and_size),
        cmocka_unit_test(series_and_groups_add_up),
        cmocka_unit_test(bounds_memory_when_the_disk_is_full),
        cmocka_unit_test(hands_the_writers_role_over),
        cmocka_unit_test(keeps_only_spend_without_capture),
        cmocka_unit_test(runs_with_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
