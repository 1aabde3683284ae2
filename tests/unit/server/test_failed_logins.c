/* How long the answer to a failed login is held, by address. */
#include "server/failed_logins.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

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

static int set_up(void **state)
{
    *state = failed_logins_new("test");
    return *state == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    failed_logins_free(*state);
    return 0;
}

static uint64_t fail_times(struct failed_logins *failed, struct client_address who, unsigned times, uint64_t now_ms)
{
    uint64_t delay_ms = 0;
    for (unsigned i = 0; i < times; i++) {
        delay_ms = failed_logins_add(failed, &who, now_ms);
    }
    return delay_ms;
}

static void test_the_first_are_free_then_it_doubles_to_a_bound(void **state)
{
    static const uint64_t held_ms[] = { 0, 0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000, 8000 };
    struct client_address who = v4(0xc0000207);
    for (size_t i = 0; i < sizeof held_ms / sizeof held_ms[0]; i++) {
        assert_int_equal(failed_logins_add(*state, &who, 1000 + i), held_ms[i]);
    }
    assert_int_equal(fail_times(*state, who, 100, 2000), FAILED_LOGINS_DELAY_MAX_MS);
}

static void test_a_quiet_quarter_of_an_hour_is_a_new_start(void **state)
{
    struct client_address who = v4(1);
    assert_int_equal(fail_times(*state, who, 6, 1000), 250);
    assert_int_equal(failed_logins_add(*state, &who, 1000 + FAILED_LOGINS_FORGET_MS - 1), 500);
    assert_int_equal(failed_logins_add(*state, &who, 1000 + 2 * FAILED_LOGINS_FORGET_MS - 1), 0);
}

static void test_each_address_for_itself(void **state)
{
    assert_int_equal(fail_times(*state, v4(1), 6, 1), 250);
    assert_int_equal(fail_times(*state, v4(2), 1, 1), 0);
    assert_int_equal(fail_times(*state, v6(1, 1), 1, 1), 0);
}

/* One host has a whole /64 and could take a new address for each guess. */
static void test_of_ipv6_the_network_counts(void **state)
{
    for (uint8_t host = 1; host <= 5; host++) {
        assert_int_equal(fail_times(*state, v6(1, host), 1, 1), 0);
    }
    assert_int_equal(fail_times(*state, v6(1, 77), 1, 1), 250);
    assert_int_equal(fail_times(*state, v6(2, 77), 1, 1), 0);
    assert_int_equal(failed_logins_addresses(*state), 2);
}

/* Strangers cannot make it grow; who was quiet the longest is forgotten, and nobody else. */
static void test_the_table_is_bounded(void **state)
{
    struct failed_logins *failed = *state;
    assert_int_equal(fail_times(failed, v4(1), 6, 1), 250);
    assert_int_equal(fail_times(failed, v4(2), 6, 2), 250);
    for (uint32_t i = 0; i < FAILED_LOGINS_ADDRESSES - 1; i++) { /* one too many */
        assert_int_equal(fail_times(failed, v4(1000 + i), 1, 3), 0);
    }
    assert_int_equal(failed_logins_addresses(failed), FAILED_LOGINS_ADDRESSES);
    assert_int_equal(fail_times(failed, v4(2), 1, 4), 500);
    assert_int_equal(fail_times(failed, v4(1), 1, 5), 0);
    for (uint32_t i = 0; i < 10 * FAILED_LOGINS_ADDRESSES; i++) {
        fail_times(failed, v4(0x0a000000 + i * 7919), 1, 6);
    }
    assert_int_equal(failed_logins_addresses(failed), FAILED_LOGINS_ADDRESSES);
}

/* What the log says meanwhile: the room writes to stderr, which is a file here. */
static size_t lines_of(struct failed_logins *failed, uint32_t addresses, unsigned times, uint64_t now_ms, char *last)
{
    FILE *file = tmpfile();
    char line[1024];
    size_t lines = 0;
    assert_non_null(file);
    int kept = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    for (uint32_t i = 0; i < addresses; i++) {
        fail_times(failed, v4(0xc0000200 + i), times, now_ms);
    }
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    while (fgets(line, sizeof line, file) != NULL) {
        assert_non_null(strstr(line, "event=login_failed door=test peer=192.0.2."));
        strcpy(last, line);
        lines++;
    }
    fclose(file);
    return lines;
}

static void test_a_line_a_minute_of_an_address(void **state)
{
    char last[1024];
    assert_int_equal(lines_of(*state, 1, 100, 1000, last), 1);
    assert_non_null(strstr(last, "failures=1 "));
    assert_int_equal(lines_of(*state, 1, 100, 60999, last), 0);
    assert_int_equal(lines_of(*state, 1, 1, 61000, last), 1);
    assert_non_null(strstr(last, "failures=200 "));
}

static void test_and_not_a_line_for_each_of_many(void **state)
{
    char last[1024];
    assert_int_equal(lines_of(*state, 200, 3, 1000, last), FAILED_LOGINS_LINES);
    assert_int_equal(lines_of(*state, 200, 1, 61000, last), FAILED_LOGINS_LINES);
    assert_null(strstr(last, "of_others_unsaid"));
    assert_int_equal(lines_of(*state, 1, 1, 121000, last), 1);
    assert_non_null(strstr(last, "of_others_unsaid="));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_the_first_are_free_then_it_doubles_to_a_bound),
        TEST(test_a_quiet_quarter_of_an_hour_is_a_new_start),
        TEST(test_each_address_for_itself),
        TEST(test_of_ipv6_the_network_counts),
        TEST(test_the_table_is_bounded),
        TEST(test_a_line_a_minute_of_an_address),
        TEST(test_and_not_a_line_for_each_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
