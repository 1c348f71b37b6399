/* The byte queue against a plain model, and its bound. */
#include "base/buf.h"
#include "base/rand.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void agrees_with_a_model(void **state)
{
    struct buf buf;
    buf_init(&buf, 5000);
    static char model[5000];
    size_t n = 0;
    rand_seed(1);
    for (int step = 0; step < 20000; step++) {
        char chunk[300];
        size_t k = (size_t)rand_below(sizeof(chunk));
        if (rand_below(2)) {
            memset(chunk, 'a' + step % 26, k);
            enum rc rc = buf_append(&buf, str_make(chunk, k));
            assert_int_equal(rc, n + k > sizeof(model) ? RC_LIMIT : RC_OK);
            if (rc == RC_OK) {
                memcpy(model + n, chunk, k);
                n += k;
            }
        } else {
            k = MIN(k, n);
            buf_consume(&buf, k);
            memmove(model, model + k, n - k);
            n -= k;
        }
        assert_true(str_eq(buf_str(&buf), str_make(model, n)));
        assert_true(buf.capacity <= buf.bytes_max);
    }
    buf_fini(&buf);
}

static void formats(void **state)
{
    struct buf buf;
    buf_init(&buf, 400);
    for (int i = 0; i < 39; i++)
        assert_int_equal(buf_printf(&buf, "%010d", i), RC_OK);
    assert_int_equal(buf_len(&buf), 390);
    assert_int_equal(buf_printf(&buf, "%020d", 1), RC_LIMIT);
    assert_int_equal(buf_len(&buf), 390);
    buf_clear(&buf);
    assert_int_equal(buf_append_char(&buf, 'x'), RC_OK);
    assert_true(str_eq(buf_str(&buf), STR("x")));
    buf_release(&buf);
    assert_int_equal(buf.capacity, 0);
    assert_int_equal(buf_append(&buf, STR("again")), RC_OK);
    buf_fini(&buf);
}

static void reserves(void **state)
{
    struct buf buf;
    buf_init(&buf, 1000);
    char *p;
    assert_int_equal(buf_reserve(&buf, 1001, &p), RC_LIMIT);
    assert_int_equal(buf_reserve(&buf, SIZE_MAX, &p), RC_LIMIT);
    assert_int_equal(buf_reserve(&buf, 1000, &p), RC_OK);
    memset(p, 'x', 1000);
    buf_added(&buf, 1000);
    assert_int_equal(buf_reserve(&buf, 1, &p), RC_LIMIT);
    assert_int_equal(buf_append(&buf, STR_EMPTY), RC_OK);
    buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_a_model),
        cmocka_unit_test(formats),
        cmocka_unit_test(reserves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
