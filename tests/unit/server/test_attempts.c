/* How often an address may try, and how long the answer to a failure is held. */
#include "server/attempts.h"
#include "tests/support/captured_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ADDRESSES (ATTEMPTS_SETS * ATTEMPTS_WAYS)

static const struct attempts_rules *const devices = &attempts_of_devices, *const operators = &attempts_of_operators;
static struct attempts *attempts;

static struct client_address v4(uint32_t number)
{
    struct client_address who = { .bytes = { [10] = 0xff, [11] = 0xff } };
    for (unsigned i = 0; i < 4; i++) {
        who.bytes[12 + i] = (uint8_t)(number >> (24 - 8 * i));
    }
    return who;
}

static struct client_address v6(uint8_t network, uint8_t host)
{
    return (struct client_address){ .bytes = { 0x20, 0x01, 0x0d, 0xb8, [7] = network, [15] = host } };
}

static int set_up_devices(void **state)
{
    (void)state;
    attempts = attempts_new(devices);
    return attempts == NULL ? -1 : 0;
}

static int set_up_operators(void **state)
{
    (void)state;
    attempts = attempts_new(operators);
    return attempts == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    attempts_free(attempts);
    return 0;
}

/* --- taken before ------------------------------------------------------------------------------------------------- */

static unsigned take_all(struct client_address who, uint64_t now_ms)
{
    unsigned n = 0;
    while (attempts_take(attempts, &who, now_ms)) {
        n++;
    }
    return n;
}

static void test_so_many_at_once_then_one_by_one(void **state)
{
    (void)state;
    assert_int_equal(take_all(v4(1), 1000), devices->at_once);
    assert_int_equal(take_all(v4(1), 1000 + devices->forgive_ms - 1), 0);
    assert_int_equal(take_all(v4(1), 1000 + devices->forgive_ms), 1);
    assert_int_equal(take_all(v4(1), 1000 + 4 * devices->forgive_ms), 3);
    assert_int_equal(take_all(v4(1), 1000 + 1000 * devices->forgive_ms), devices->at_once);
}

/* One host has a whole /64 and could take a new address for each guess. */
static void test_each_network_takes_for_itself(void **state)
{
    (void)state;
    assert_int_equal(take_all(v4(1), 1000), devices->at_once);
    assert_int_equal(take_all(v4(2), 1000), devices->at_once);
    assert_int_equal(take_all(v6(1, 1), 1000), devices->at_once);
    assert_int_equal(take_all(v6(1, 2), 1000), 0);
    assert_int_equal(take_all(v6(2, 1), 1000), devices->at_once);
}

/* A site whose passwords are right never waits, however many devices it has. */
static void test_what_was_right_costs_nothing(void **state)
{
    (void)state;
    struct client_address who = v4(1);
    for (unsigned i = 0; i < 1000; i++) {
        assert_true(attempts_take(attempts, &who, 1000));
        attempts_give_back(attempts, &who, 1000);
    }
    assert_int_equal(take_all(who, 1000), devices->at_once);
    attempts_give_back(attempts, &who, 1000);
    assert_int_equal(take_all(who, 1000), 1);
    /* Later than all were there again: no more than all. */
    attempts_give_back(attempts, &who, 1000 + 1000 * devices->forgive_ms);
    assert_int_equal(take_all(who, 1000 + 1000 * devices->forgive_ms), devices->at_once);
}

/* Strangers with many addresses cannot make it grow, and do not get those off that failed most. */
static void test_who_is_forgiven_first_gives_way(void **state)
{
    (void)state;
    assert_int_equal(take_all(v4(1), 1000), devices->at_once);
    for (uint32_t i = 0; i < 4 * ADDRESSES; i++) {
        struct client_address who = v4(0x0a000000 + i * 7919);
        assert_true(attempts_take(attempts, &who, 1000));
    }
    assert_int_equal(take_all(v4(1), 1000), 0);
}

/* --- counted behind ----------------------------------------------------------------------------------------------- */

static uint64_t fail_times(struct client_address who, unsigned times, uint64_t now_ms)
{
    uint64_t delay_ms = 0;
    for (unsigned i = 0; i < times; i++) {
        delay_ms = attempts_failed(attempts, &who, now_ms);
    }
    return delay_ms;
}

static void test_the_first_are_free_then_it_doubles_to_a_bound(void **state)
{
    (void)state;
    static const uint64_t held_ms[] = { 0, 0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000, 8000 };
    for (size_t i = 0; i < sizeof held_ms / sizeof held_ms[0]; i++) {
        assert_int_equal(fail_times(v4(0xc0000207), 1, 1000 + i), held_ms[i]);
    }
    assert_int_equal(fail_times(v4(0xc0000207), 100, 2000), operators->delay_max_ms);
}

static void test_a_quiet_quarter_of_an_hour_is_a_new_start(void **state)
{
    (void)state;
    assert_int_equal(fail_times(v4(1), 6, 1000), 250);
    assert_int_equal(fail_times(v4(1), 1, 1000 + operators->forgive_ms - 1), 500);
    assert_int_equal(fail_times(v4(1), 1, 1000 + 2 * operators->forgive_ms - 1), 0);
}

static void test_each_network_fails_for_itself(void **state)
{
    (void)state;
    assert_int_equal(fail_times(v4(1), 6, 1), 250);
    assert_int_equal(fail_times(v4(2), 1, 1), 0);
    for (uint8_t host = 1; host <= 5; host++) {
        assert_int_equal(fail_times(v6(1, host), 1, 1), 0);
    }
    assert_int_equal(fail_times(v6(1, 77), 1, 1), 250);
    assert_int_equal(fail_times(v6(2, 77), 1, 1), 0);
}

/* Strangers cannot make it grow; who was quiet the longest is forgotten. */
static void test_who_was_quiet_the_longest_is_forgotten(void **state)
{
    (void)state;
    assert_int_equal(fail_times(v4(1), 6, 1), 250);
    for (uint32_t i = 0; i < 10 * ADDRESSES; i++) {
        fail_times(v4(0x0a000000 + i * 7919), 1, 2);
    }
    assert_int_equal(fail_times(v4(1), 6, 3), 250); /* as if there had been none */
    assert_int_equal(fail_times(v4(1), 1, 4), 500);
}

static const char *log_of(uint32_t addresses, unsigned times, uint64_t now_ms)
{
    capture_log(LOG_INFO);
    for (uint32_t i = 0; i < addresses; i++) {
        fail_times(v4(0xc0000200 + i), times, now_ms);
    }
    return captured_log();
}

static unsigned lines(const char *text)
{
    unsigned n = count(text, "\n");
    assert_int_equal(count(text, "event=login_failed door=admin peer=192.0.2."), n);
    return n;
}

static void test_a_line_a_minute_of_an_address(void **state)
{
    (void)state;
    const char *text = log_of(1, 100, 1000);
    assert_int_equal(lines(text), 1);
    assert_non_null(strstr(text, "failures=1 "));
    assert_int_equal(lines(log_of(1, 100, 60999)), 0);
    text = log_of(1, 1, 61000);
    assert_int_equal(lines(text), 1);
    assert_non_null(strstr(text, "failures=200 "));
}

#define MANY 200

/* Each failure that had no line is counted in the next line that there is, once. */
static void test_and_not_a_line_for_each_of_many(void **state)
{
    (void)state;
    char unsaid[64];
    const char *text = log_of(MANY, 3, 1000);
    assert_int_equal(lines(text), ATTEMPTS_LINES);
    assert_null(strstr(text, "of_others_unsaid"));
    text = log_of(MANY, 1, 61000);
    assert_int_equal(lines(text), ATTEMPTS_LINES);
    snprintf(unsaid, sizeof unsaid, " of_others_unsaid=%d\n", (MANY - ATTEMPTS_LINES) * 3);
    assert_int_equal(count(text, unsaid), 1);
    assert_int_equal(count(text, "of_others_unsaid"), 1);
    text = log_of(1, 1, 121000);
    assert_int_equal(lines(text), 1);
    snprintf(unsaid, sizeof unsaid, " of_others_unsaid=%d\n", MANY - ATTEMPTS_LINES);
    assert_int_equal(count(text, unsaid), 1);
}

int main(void)
{
#define OF_DEVICES(name)   cmocka_unit_test_setup_teardown(name, set_up_devices, tear_down)
#define OF_OPERATORS(name) cmocka_unit_test_setup_teardown(name, set_up_operators, tear_down)
    const struct CMUnitTest tests[] = {
        OF_DEVICES(test_so_many_at_once_then_one_by_one),
        OF_DEVICES(test_each_network_takes_for_itself),
        OF_DEVICES(test_what_was_right_costs_nothing),
        OF_DEVICES(test_who_is_forgiven_first_gives_way),
        OF_OPERATORS(test_the_first_are_free_then_it_doubles_to_a_bound),
        OF_OPERATORS(test_a_quiet_quarter_of_an_hour_is_a_new_start),
        OF_OPERATORS(test_each_network_fails_for_itself),
        OF_OPERATORS(test_who_was_quiet_the_longest_is_forgotten),
        OF_OPERATORS(test_a_line_a_minute_of_an_address),
        OF_OPERATORS(test_and_not_a_line_for_each_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
