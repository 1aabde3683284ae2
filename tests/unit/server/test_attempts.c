/* How often an address may try. */
#include "server/attempts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct attempts attempts;

struct address {
    uint8_t bytes[16];
};

static struct address v4(uint32_t number)
{
    struct address address = { { [10] = 0xff, [11] = 0xff } };
    for (unsigned i = 0; i < 4; i++) {
        address.bytes[12 + i] = (uint8_t)(number >> (24 - 8 * i));
    }
    return address;
}

static struct address v6(uint8_t network, uint8_t host)
{
    return (struct address){ { 0x20, 0x01, 0x0d, 0xb8, [7] = network, [15] = host } };
}

static unsigned take_all(struct address address, uint64_t now_ms)
{
    unsigned n = 0;
    while (attempts_take(&attempts, address.bytes, now_ms)) {
        n++;
    }
    return n;
}

static int set_up(void **state)
{
    (void)state;
    attempts_init(&attempts);
    return 0;
}

static void test_so_many_at_once_then_one_by_one(void **state)
{
    (void)state;
    assert_int_equal(take_all(v4(1), 1000), ATTEMPTS_AT_ONCE);
    assert_int_equal(take_all(v4(1), 1000 + ATTEMPTS_EVERY_MS - 1), 0);
    assert_int_equal(take_all(v4(1), 1000 + ATTEMPTS_EVERY_MS), 1);
    assert_int_equal(take_all(v4(1), 1000 + 4 * ATTEMPTS_EVERY_MS), 3);
    assert_int_equal(take_all(v4(1), 1000 + 1000ull * ATTEMPTS_EVERY_MS), ATTEMPTS_AT_ONCE);
}

static void test_each_address_for_itself(void **state)
{
    (void)state;
    assert_int_equal(take_all(v4(1), 1000), ATTEMPTS_AT_ONCE);
    assert_int_equal(take_all(v4(2), 1000), ATTEMPTS_AT_ONCE);
}

/* One host has a whole /64 and could take a new address for each guess. */
static void test_of_ipv6_the_network_counts(void **state)
{
    (void)state;
    assert_int_equal(take_all(v6(1, 1), 1000), ATTEMPTS_AT_ONCE);
    assert_int_equal(take_all(v6(1, 2), 1000), 0);
    assert_int_equal(take_all(v6(2, 1), 1000), ATTEMPTS_AT_ONCE);
}

/* A site whose passwords are right never waits, however many devices it has. */
static void test_what_was_right_costs_nothing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        assert_true(attempts_take(&attempts, v4(1).bytes, 1000));
        attempts_give_back(&attempts, v4(1).bytes, 1000);
    }
    assert_int_equal(take_all(v4(1), 1000), ATTEMPTS_AT_ONCE);
    attempts_give_back(&attempts, v4(1).bytes, 1000);
    assert_int_equal(take_all(v4(1), 1000), 1);
    /* Later than all were there again: no more than all. */
    attempts_give_back(&attempts, v4(1).bytes, 1000 + 1000ull * ATTEMPTS_EVERY_MS);
    assert_int_equal(take_all(v4(1), 1000 + 1000ull * ATTEMPTS_EVERY_MS), ATTEMPTS_AT_ONCE);
}

/* Strangers with many addresses cannot make it grow, and do not get those off that failed last. */
static void test_who_was_quiet_the_longest_gives_way(void **state)
{
    (void)state;
    assert_int_equal(take_all(v4(1), 1000), ATTEMPTS_AT_ONCE);
    for (uint32_t i = 0; i < 4 * ATTEMPTS_SETS * ATTEMPTS_WAYS; i++) {
        assert_true(attempts_take(&attempts, v4(0x0a000000 + i * 7919).bytes, 1000));
    }
    assert_int_equal(take_all(v4(1), 1000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_so_many_at_once_then_one_by_one, set_up),
        cmocka_unit_test_setup(test_each_address_for_itself, set_up),
        cmocka_unit_test_setup(test_of_ipv6_the_network_counts, set_up),
        cmocka_unit_test_setup(test_what_was_right_costs_nothing, set_up),
        cmocka_unit_test_setup(test_who_was_quiet_the_longest_gives_way, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
