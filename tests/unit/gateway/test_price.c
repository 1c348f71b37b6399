/* Prices against figures that the package's own calculation gives (checked with genai-prices
 * 0.2.3). */
#include "gateway/price.h"
#include "base/clock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define NOVEMBER_2026 (1795910400ll * NS_PER_S) /* 2026-11-29 */

static const struct price_model *find(const char *provider, const char *url, const char *model)
{
    return price_find(str_from(provider), str_from(url), str_from(model));
}

static int64_t price_of(const struct price_model *model, enum usage_bucket bucket,
                        uint64_t input_total)
{
    int64_t prices[USAGE_BUCKET_COUNT];
    price_at(model, NOVEMBER_2026, NULL, input_total, prices);
    return prices[bucket];
}

static void test_finds_provider_by_url_then_name(void **state)
{
    const struct price_model *model = find("anything", "https://api.openai.com/v1", "gpt-4o");
    assert_non_null(model);
    assert_ptr_equal(model, find("openai", "http://127.0.0.1:9/v1", "gpt-4o"));
    assert_ptr_equal(model, find("OpenAI-eu", "", "GPT-4o"));
    assert_null(find("my-vllm", "http://127.0.0.1:9/v1", "gpt-4o"));
    assert_null(find("openai", "", "no-such-model"));
    assert_null(find("openai", "", ""));
}

static void test_buckets_are_exact(void **state)
{
    const struct price_model *model = find("openai", "", "gpt-4o");
    assert_int_equal(price_of(model, USAGE_INPUT, 1), 2500000);
    assert_int_equal(price_of(model, USAGE_CACHED_INPUT, 1), 1250000);
    assert_int_equal(price_of(model, USAGE_OUTPUT, 1), 10000000);
    assert_int_equal(price_of(model, USAGE_REASONING, 1), 10000000); /* as output */

    struct usage usage = {.known = true};
    usage.tokens[USAGE_INPUT] = 1000;
    usage.tokens[USAGE_CACHED_INPUT] = 24;
    usage.tokens[USAGE_OUTPUT] = 7;
    int64_t prices[USAGE_BUCKET_COUNT];
    price_at(model, NOVEMBER_2026, NULL, 1024, prices);
    assert_int_equal(price_cost(&usage, prices),
                     1000 * 2500000ll + 24 * 1250000ll + 7 * 10000000ll);
}

static void test_anthropic_cache_writes(void **state)
{
    const struct price_model *model = find("anthropic", "", "claude-sonnet-4-5-20250929");
    assert_non_null(model);
    assert_int_equal(price_of(model, USAGE_INPUT, 1), 3000000);
    assert_int_equal(price_of(model, USAGE_CACHE_WRITE, 1), 3750000);
    assert_int_equal(price_of(model, USAGE_CACHE_WRITE_1H, 1), 6000000);
    assert_int_equal(price_of(model, USAGE_CACHED_INPUT, 1), 300000);
}

static void test_tiers_apply_to_the_whole_call(void **state)
{
    const struct price_model *model = find("google", "", "gemini-2.5-pro");
    assert_non_null(model);
    assert_int_equal(price_of(model, USAGE_INPUT, 200000), 1250000);
    assert_int_equal(price_of(model, USAGE_INPUT, 200001), 2500000);
}

static void test_unknown_is_not_zero(void **state)
{
    int64_t prices[USAGE_BUCKET_COUNT];
    price_at(NULL, NOVEMBER_2026, NULL, 0, prices);
    struct usage usage = {.known = true};
    assert_int_equal(price_cost(&usage, prices),
                     0); /* no tokens cost nothing, whatever the price */
    usage.tokens[USAGE_OUTPUT] = 1;
    assert_true(price_cost(&usage, prices) == COST_UNKNOWN);
}

static void test_service_tier(void **state)
{
    const struct price_model *model = find("openai", "", "gpt-5");
    int64_t standard[USAGE_BUCKET_COUNT], flex[USAGE_BUCKET_COUNT];
    price_at(model, NOVEMBER_2026, NULL, 1, standard);
    struct price_context context = {.service_tier = STR("flex")};
    price_at(model, NOVEMBER_2026, &context, 1, flex);
    assert_int_equal(standard[USAGE_INPUT], 1250000);
    assert_true(flex[USAGE_INPUT] <= standard[USAGE_INPUT]);
}

static void test_overrides(void **state)
{
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct price_table *table = price_table_new(&arena);
    const char *json = "{\"input_tokens\": \"0.000001\", \"output_tokens\": 2.5}";
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    struct err err = {0};
    assert_int_equal(
        price_table_add(table, &arena, STR("lab"), STR("m"), yyjson_doc_get_root(doc), &err),
        RC_OK);
    yyjson_doc_free(doc);
    const struct price_model *model = price_table_find(table, STR("lab"), STR("m"));
    assert_non_null(model);
    assert_int_equal(price_of(model, USAGE_INPUT, 1), 1);
    assert_int_equal(price_of(model, USAGE_CACHED_INPUT, 1), 1);
    assert_int_equal(price_of(model, USAGE_OUTPUT, 1), 2500000);
    assert_null(price_table_find(table, STR("lab"), STR("n")));

    static const char *const bad[] = {"{\"tokens\": 1}", "{\"input_tokens\": \"0.0000001\"}",
                                      "{\"input_tokens\": -1}", "{\"input_tokens\": \"1e3\"}"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        doc = yyjson_read(bad[i], strlen(bad[i]), 0);
        assert_int_not_equal(
            price_table_add(table, &arena, STR("lab"), STR("x"), yyjson_doc_get_root(doc), &err),
            RC_OK);
        yyjson_doc_free(doc);
    }
    price_table_fini(table);
    arena_fini(&arena);
}

static void test_rows_have_providers(void **state)
{
    assert_true(price_row_count() > 1000);
    for (size_t i = 0; i < price_row_count(); i++) {
        struct price_row row;
        price_row_at(i, NOVEMBER_2026, &row);
        assert_true(row.provider.n > 0 && row.model.n > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_provider_by_url_then_name),
        cmocka_unit_test(test_buckets_are_exact),
        cmocka_unit_test(test_anthropic_cache_writes),
        cmocka_unit_test(test_tiers_apply_to_the_whole_call),
        cmocka_unit_test(test_unknown_is_not_zero),
        cmocka_unit_test(test_service_tier),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_rows_have_providers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
