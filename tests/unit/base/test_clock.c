/* The two clocks: one that never stands at 0, and one that is the calendar's. */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

/* Else "never" and "now" are one, or a device was last seen in 1970. */
static void test_both(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    time_t before = time(NULL);
    struct moment first = clock_moment(&loop);
    assert_true(first.ms > 0 && first.ms >= uv_now(&loop));
    assert_in_range(first.unix_s, (uint32_t)before - 1, (uint32_t)before + 5);
    uv_sleep(20);
    uv_update_time(&loop);
    struct moment second = clock_moment(&loop);
    assert_in_range(second.ms - first.ms, 15, 5000);
    assert_true(second.unix_s >= first.unix_s);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_both) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
