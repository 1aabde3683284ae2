/* The window: how it grows, how it shrinks, and that it stays between its bounds. */
#include "fleet/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct window window_of(uint32_t fixed)
{
    struct window window;
    window_init(&window, fixed);
    return window;
}

static void flow(struct window *window, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        window_flowed(window);
    }
}

/* Else what an operator ordered is overruled. */
static void test_fixed(void **state)
{
    (void)state;
    struct window window = window_of(7);
    flow(&window, 100);
    window_stalled(&window, 1000);
    assert_int_equal(window_size(&window), 7);
}

/* Else a large fleet takes days at the window's first size; or the window has no end. */
static void test_grows(void **state)
{
    (void)state;
    struct window window = window_of(0);
    assert_int_equal(window_size(&window), WINDOW_START);
    flow(&window, 10);
    assert_int_equal(window_size(&window), WINDOW_START + 10);
    flow(&window, 10000);
    assert_int_equal(window_size(&window), WINDOW_MAX);
}

/* Else it oscillates: after the first stall, it takes a window full of successes to grow by one. */
static void test_grows_slowly_after_a_stall(void **state)
{
    (void)state;
    struct window window = window_of(0);
    window_stalled(&window, 5);
    assert_int_equal(window_size(&window), WINDOW_START / 2);
    flow(&window, WINDOW_START / 2 - 1);
    assert_int_equal(window_size(&window), WINDOW_START / 2);
    flow(&window, 1);
    assert_int_equal(window_size(&window), WINDOW_START / 2 + 1);
    flow(&window, WINDOW_START / 2);
    assert_int_equal(window_size(&window), WINDOW_START / 2 + 1);
    flow(&window, 1);
    assert_int_equal(window_size(&window), WINDOW_START / 2 + 2);
}

/* Else one power cut of twenty devices counts as twenty stalls; or nothing shrinks it any more. */
static void test_stalls_with_one_cause(void **state)
{
    (void)state;
    struct window window = window_of(0);
    window_stalled(&window, 1); /* early in the life of the process, too */
    window_stalled(&window, WINDOW_FREEZE_MS);
    assert_int_equal(window_size(&window), WINDOW_START / 2);
    window_stalled(&window, WINDOW_FREEZE_MS + 1);
    assert_int_equal(window_size(&window), WINDOW_START / 4);
    for (uint64_t i = 2; i < 20; i++) {
        window_stalled(&window, i * WINDOW_FREEZE_MS + 1);
    }
    assert_int_equal(window_size(&window), WINDOW_MIN);
    flow(&window, WINDOW_MIN);
    assert_int_equal(window_size(&window), WINDOW_MIN + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixed),
        cmocka_unit_test(test_grows),
        cmocka_unit_test(test_grows_slowly_after_a_stall),
        cmocka_unit_test(test_stalls_with_one_cause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
