/* How often one came, whoever else came between. */
#include "server/frequency.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct frequency table;

static void test_each_has_its_own_minute(void **state)
{
    (void)state;
    frequency_init(&table);
    for (unsigned i = 1; i <= 5; i++) {
        assert_int_equal(frequency_count(&table, 1, 1, 1000 + i)->count, i);
    }
    assert_int_equal(frequency_count(&table, 1, 2, 1010)->count, 1);
    assert_int_equal(frequency_count(&table, 1, 1, 1001 + FREQUENCY_SPAN_MS)->count, 1);
}

/* Strangers may push each other out, and fill no memory; nobody is counted for another. */
static void test_a_flood_of_names(void **state)
{
    (void)state;
    frequency_init(&table);
    for (uint64_t i = 0; i < 10 * FREQUENCY_PLACES; i++) {
        assert_int_equal(frequency_count(&table, 7, i, 1000)->count, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_has_its_own_minute),
        cmocka_unit_test(test_a_flood_of_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
