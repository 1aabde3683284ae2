/* If it failed: an object would carry what its last owner left in it, or a rush would keep its memory for ever. */
#include "base/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_comes_back_zeroed(void **state)
{
    struct pool pool;
    (void)state;
    pool_init(&pool, 40, 4);
    char *first = pool_take(&pool);
    assert_non_null(first);
    memset(first, 0xff, 40);
    pool_give(&pool, first);
    char *again = pool_take(&pool);
    assert_ptr_equal(again, first);
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(again[i], 0);
    }
    pool_give(&pool, again);
    pool_give(&pool, NULL);
    pool_close(&pool);
}

static void test_keeps_no_more_than_it_may(void **state)
{
    struct pool pool;
    void *objects[8];
    (void)state;
    pool_init(&pool, 1, 3); /* smaller than a pointer */
    for (size_t i = 0; i < 8; i++) {
        objects[i] = pool_take(&pool);
        assert_non_null(objects[i]);
    }
    for (size_t i = 0; i < 8; i++) {
        pool_give(&pool, objects[i]);
        assert_int_equal(pool.kept, i < 3 ? i + 1 : 3);
    }
    for (size_t i = 0; i < 3; i++) {
        objects[i] = pool_take(&pool);
    }
    assert_int_equal(pool.kept, 0);
    assert_true(objects[0] != objects[1] && objects[1] != objects[2] && objects[0] != objects[2]);
    pool_close(&pool);
    for (size_t i = 0; i < 3; i++) {
        pool_give(&pool, objects[i]); /* freed, or the leak check says so */
    }
    assert_int_equal(pool.kept, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comes_back_zeroed),
        cmocka_unit_test(test_keeps_no_more_than_it_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
