/* Slabs recycle, clear and bound their objects. */
#include "base/slab.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void recycles(void **state)
{
    struct slab slab;
    slab_init(&slab, 64, 3);
    char *a = slab_take(&slab), *b = slab_take(&slab), *c = slab_take(&slab);
    assert_true(a && b && c);
    assert_null(slab_take(&slab));
    memset(b, 0xff, 64);
    slab_give(&slab, b);
    b = slab_take(&slab);
    assert_non_null(b);
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(b[i], 0);
    slab_give(&slab, a);
    slab_give(&slab, b);
    slab_give(&slab, c);
    assert_int_equal(slab.count, 0);
    slab_fini(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(recycles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
