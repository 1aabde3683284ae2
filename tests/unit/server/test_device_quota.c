/* What the log says of who asks without end, and of many who ask under new names. */
#include "server/device_quota.h"

#include "server/device_parts.h"
#include "tests/support/captured_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MINUTE_MS 60000

static struct device_quota quota;
static const uint8_t nowhere[16];

static int set_up(void **state)
{
    (void)state;
    log_configure(LOG_INFO, LOG_LOGFMT);
    device_quota_init(&quota);
    return 0;
}

static struct mac mac_of(uint32_t number)
{
    struct mac mac = { { 0x5c, 0xcf } };
    memcpy(mac.bytes + 2, &number, sizeof number);
    return mac;
}

static unsigned lines(uint32_t number, enum reason reason, unsigned asks, uint64_t now_ms)
{
    struct mac mac = mac_of(number);
    struct device_asker asker = { .mac = &mac, .address = nowhere };
    unsigned said = 0;
    for (unsigned i = 0; i < asks; i++) {
        said += device_quota_takes(&quota, &asker, reason, now_ms);
    }
    return said;
}

static void test_one_asker(void **state)
{
    (void)state;
    assert_int_equal(lines(1, REASON_UNKNOWN_TYPE, 1000, 1000), QUOTA_ALIKE_MAX);
    assert_int_equal(lines(1, REASON_NO_IMAGE, 1, 1000), 1); /* something else of the same */
    assert_int_equal(lines(2, REASON_UNKNOWN_TYPE, 1, 1000), 1);
    assert_int_equal(quota.left_out, 1000 - QUOTA_ALIKE_MAX);
    assert_int_equal(lines(1, REASON_UNKNOWN_TYPE, 1, 1001 + MINUTE_MS), 1);
    assert_int_equal(quota.left_out, 0); /* it was told */
}

static uint64_t told_in(const char *text)
{
    static const char start[] = "event=checks_left_out lines=";
    uint64_t told = 0;
    for (const char *at = text; (at = strstr(at, start)) != NULL; at += sizeof start - 1) {
        told += strtoull(at + sizeof start - 1, NULL, 10);
    }
    return told;
}

/* Each line is said or counted, and what was counted is told once: by whoever has the next minute's first line, or by
 * the tick where nobody has. */
static void test_what_is_told_is_what_was_left_out(void **state)
{
    (void)state;
    struct mac mac = mac_of(7);
    unsigned said = 0, all = 0;
    capture_log(LOG_INFO);
    for (uint64_t minute = 0; minute < 5; minute++) {
        for (uint32_t i = 0; i < 100; i++) {
            unsigned times = 1 + i % 17;
            said += lines(i, i % 3 == 0 ? REASON_NEWER : REASON_UNKNOWN_TYPE, times, 1000 + minute * MINUTE_MS + i);
            said += device_quota_takes_outcome(&quota, &mac, 1000 + minute * MINUTE_MS + i);
            all += times + 1;
        }
        device_quota_tick(&quota, 2000 + minute * MINUTE_MS);
    }
    device_quota_tick(&quota, 1000 + 5 * MINUTE_MS);
    device_quota_tick(&quota, 1000 + 6 * MINUTE_MS);
    const char *text = captured_log();
    assert_int_equal(count(text, "checks_left_out"), 5);
    assert_int_equal(told_in(text), all - said);
    assert_true(said > 0 && all > said);
}

/* Where the check of an image had no line, what became of the image has none either. */
static void test_a_transfer_is_left_out_with_its_check(void **state)
{
    static struct device_api api;
    const struct delivery_outcome outcome = { .begun = true, .whole = true };
    static char path[] = "door/1.0.bin";
    const struct image image = { .path = path };
    struct delivery delivery = { .type = "door" };
    (void)state;
    device_quota_init(&api.quota);
    capture_log(LOG_INFO);
    device_log_ended(&api, &delivery, &outcome);
    device_log_unavailable(&api, &delivery, &image, STATUS_LIMIT, 503);
    assert_int_equal(api.quota.left_out, 0);
    delivery.is_left_out = true;
    device_log_ended(&api, &delivery, &outcome);
    device_log_unavailable(&api, &delivery, &image, STATUS_LIMIT, 503);
    assert_int_equal(api.quota.left_out, 2);
    assert_int_equal(count(captured_log(), "\n"), 2);
}

static void test_strangers_together(void **state)
{
    (void)state;
    unsigned said = 0;
    for (uint32_t i = 0; i < 5 * QUOTA_REFUSALS_MAX; i++) {
        said += lines(i, REASON_UNKNOWN_TYPE, 1, 1000);
    }
    assert_int_equal(said, QUOTA_REFUSALS_MAX);
    assert_int_equal(quota.left_out, 4 * QUOTA_REFUSALS_MAX);
}

/* A rollout over a large fleet is the day's story. */
static void test_what_is_sent_is_said(void **state)
{
    (void)state;
    unsigned said = 0;
    for (uint32_t i = 0; i < 5 * QUOTA_REFUSALS_MAX; i++) {
        said += lines(i, REASON_NEWER, 1, 1000);
    }
    assert_int_equal(said, 5 * QUOTA_REFUSALS_MAX);
}

/* But whoever invents names gets such answers, too. */
static void test_all_together(void **state)
{
    (void)state;
    unsigned said = 0;
    for (uint32_t i = 0; i < 2 * QUOTA_AT_ONCE_MAX; i++) {
        said += lines(i, i % 2 == 0 ? REASON_NEWER : REASON_DOES_NOT_FIT, 1, 1000);
    }
    assert_int_equal(said, QUOTA_AT_ONCE_MAX);
    for (uint32_t i = 0; i < QUOTA_AT_ONCE_MAX; i++) {
        said += lines(i, REASON_HELD_BACK, 1, 1000 + MINUTE_MS);
    }
    assert_int_equal(said, QUOTA_AT_ONCE_MAX + MINUTE_MS / QUOTA_EVERY_MS);
}

static void test_outcomes(void **state)
{
    (void)state;
    struct mac mac = mac_of(1);
    unsigned said = 0;
    for (unsigned i = 0; i < 1000; i++) {
        said += device_quota_takes_outcome(&quota, &mac, 1000);
    }
    assert_int_equal(said, QUOTA_ALIKE_MAX);
    assert_int_equal(lines(1, REASON_NEWER, 1, 1000), 1);
    assert_int_equal(quota.left_out, 1000 - QUOTA_ALIKE_MAX);
}

static void test_at_debug_all_is_said(void **state)
{
    (void)state;
    log_configure(LOG_DEBUG, LOG_LOGFMT);
    assert_int_equal(lines(1, REASON_UNKNOWN_TYPE, 1000, 1000), 1000);
}

static unsigned asks(uint32_t number, unsigned count, uint64_t now_ms)
{
    struct mac mac = mac_of(number);
    unsigned told = 0;
    for (unsigned i = 0; i < count; i++) {
        told += device_quota_asked(&quota, &mac, now_ms) != 0;
    }
    return told;
}

static void test_a_busy_device_is_named_once_an_hour(void **state)
{
    (void)state;
    assert_int_equal(asks(1, QUOTA_BUSY_MIN - 1, 1000), 0);
    assert_int_equal(asks(1, 1000, 1001), 1);
    for (uint64_t minute = 1; minute < 60; minute++) {
        assert_int_equal(asks(1, 1000, 1001 + minute * MINUTE_MS), 0);
    }
    assert_int_equal(asks(1, 1000, 1001 + 60 * MINUTE_MS), 1);
}

static void test_busy_devices_in_numbers(void **state)
{
    (void)state;
    unsigned told = 0;
    for (uint32_t i = 0; i < 100; i++) {
        told += asks(i, 1000, 1000);
    }
    assert_int_equal(told, QUOTA_BUSY_MAX);
}

#define CASE(test) cmocka_unit_test_setup(test, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_one_asker),
        CASE(test_what_is_told_is_what_was_left_out),
        CASE(test_a_transfer_is_left_out_with_its_check),
        CASE(test_strangers_together),
        CASE(test_what_is_sent_is_said),
        CASE(test_all_together),
        CASE(test_outcomes),
        CASE(test_at_debug_all_is_said),
        CASE(test_a_busy_device_is_named_once_an_hour),
        CASE(test_busy_devices_in_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
