/* How often one came, whoever else came between. */
#include "server/frequency.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct frequency table;

/* Keys have 32 bits, 12 of which are the place: who comes into another's is taken for him one time in 2^20. */
#define ALIKE_MAX 8

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
    uint32_t taken_for_another = 0;
    frequency_init(&table);
    for (uint64_t i = 0; i < 10 * FREQUENCY_PLACES; i++) {
        taken_for_another += frequency_count(&table, 7, i, 1000)->count != 1;
    }
    assert_in_range(taken_for_another, 0, ALIKE_MAX);
}

/* Else nobody is ever busy in a large fleet. */
static void test_one_among_many(void **state)
{
    (void)state;
    uint32_t most = 0, taken_for_another = 0;
    frequency_init(&table);
    for (uint64_t i = 0; i < 1000; i++) {
        uint32_t count = frequency_count(&table, 1, 0, 1000)->count;
        most = count > most ? count : most;
        for (uint64_t k = 0; k < FREQUENCY_PLACES / 16; k++) {
            taken_for_another += frequency_count(&table, 2, i * FREQUENCY_PLACES + k, 1000)->count != 1;
        }
    }
    assert_in_range(most, 800, 1000);
    assert_in_range(taken_for_another, 0, ALIKE_MAX);
}

/* Whoever knew where names meet could have one forgotten for another. */
static void test_no_two_tables_are_alike(void **state)
{
    (void)state;
    struct frequency_place *places[2];
    unsigned alike = 0;
    for (uint64_t i = 0; i < 16; i++) {
        for (unsigned k = 0; k < 2; k++) {
            frequency_init(&table);
            places[k] = frequency_count(&table, 7, i, 1000);
        }
        alike += places[0] == places[1];
    }
    assert_in_range(alike, 0, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_has_its_own_minute),
        cmocka_unit_test(test_a_flood_of_names),
        cmocka_unit_test(test_one_among_many),
        cmocka_unit_test(test_no_two_tables_are_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
