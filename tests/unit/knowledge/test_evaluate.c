/* Metrics against numbers worked out by hand, intervals, and the support of sentences. */
#include "knowledge/evaluate.h"
#include "knowledge/support.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_metrics(void **state)
{
    struct judgement judgements[] = {{STR("a"), 1}, {STR("b"), 1}, {STR("c"), -1}, {STR("d"), 1}};
    const struct question question = {STR("1"), STR("?"), judgements, COUNT_OF(judgements)};
    const struct str found[] = {STR("c"), STR("a"), STR("x"), STR("b")};
    struct question_score score;
    UNUSED(state);
    question_judge(&question, found, COUNT_OF(found), 2, &score);
    double ideal = 1 + 1 / log2(3) + 1 / log2(4);
    assert_true(fabs(score.ndcg10 - (1 / log2(3) + 1 / log2(5)) / ideal) < 1e-12);
    assert_true(fabs(score.recall - 1.0 / 3) < 1e-12);
    assert_true(score.reciprocal_rank == 0.5);
}

static void test_grades_count(void **state)
{
    struct judgement judgements[] = {{STR("a"), 1}, {STR("b"), 3}};
    const struct question question = {STR("1"), STR("?"), judgements, COUNT_OF(judgements)};
    const struct str best_first[] = {STR("b"), STR("a")}, worst_first[] = {STR("a"), STR("b")};
    struct question_score right, wrong, none;
    UNUSED(state);
    question_judge(&question, best_first, 2, 10, &right);
    question_judge(&question, worst_first, 2, 10, &wrong);
    question_judge(&question, NULL, 0, 10, &none);
    assert_true(right.ndcg10 == 1);
    assert_true(wrong.ndcg10 < 1 && wrong.ndcg10 > 0.5);
    assert_true(none.ndcg10 == 0 && none.recall == 0 && none.reciprocal_rank == 0);
}

static void test_interval(void **state)
{
    double values[200];
    UNUSED(state);
    for (size_t i = 0; i < COUNT_OF(values); i++)
        values[i] = (double)(i % 2);
    struct measured a = measure_mean(values, COUNT_OF(values), sizeof(double), 7),
                    b = measure_mean(values, COUNT_OF(values), sizeof(double), 7);
    assert_true(fabs(a.mean - 0.5) < 1e-12);
    assert_true(a.low > 0.4 && a.low < 0.47 && a.high > 0.53 && a.high < 0.6);
    assert_true(a.low == b.low && a.high == b.high);
}

static void test_support(void **state)
{
    const struct str passages[] = {
        STR("The server listens on port 4100 unless the configuration says otherwise."),
        STR("Backups are made while the server runs."),
    };
    struct supported_sentence *sentences;
    struct arena arena;
    UNUSED(state);
    arena_init(&arena, 1 << 20);
    size_t count = support_check(
        STR("The server listens on port 4100 [1]. It listens on port 8080 by configuration. "
            "Elephants migrate towards distant rivers. Yes."),
        passages, COUNT_OF(passages), &arena, &sentences);
    assert_int_equal(count, 3); /* "Yes." has nothing to check */
    assert_true(sentences[0].supported && sentences[0].passage == 0);
    assert_false(sentences[1].supported); /* another number */
    assert_false(sentences[2].supported);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_grades_count),
        cmocka_unit_test(test_interval),
        cmocka_unit_test(test_support),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
