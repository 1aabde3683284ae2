/* Which images fail on several devices: each device once, for a day, within bounds. */
#include "fleet/image_failures.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define NOON 1000000000u

static struct mac mac_of(unsigned i)
{
    return (struct mac){ { 0x5c, 0xcf, 0x7f, 0, (uint8_t)(i >> 8), (uint8_t)i } };
}

static void fail_with(struct image_failures *failures, unsigned image, unsigned device, uint32_t unix_s)
{
    uint8_t md5[16] = { (uint8_t)image };
    struct mac mac = mac_of(device);
    image_failures_failed(failures, md5, false, slice_of("door"), &mac, unix_s);
}

/* Of an image, as of a moment; 0 where nothing is known of it. */
static size_t devices_of(const struct image_failures *failures, unsigned image, uint32_t now_s)
{
    for (size_t i = 0; i < failures->count; i++) {
        if (failures->images[i].md5[0] == image) {
            return failing_image_devices(&failures->images[i], now_s);
        }
    }
    return 0;
}

static void test_a_device_counts_once(void **state)
{
    (void)state;
    struct image_failures *failures = image_failures_new();
    for (unsigned i = 0; i < 9; i++) {
        fail_with(failures, 1, i % 3, NOON + i);
    }
    fail_with(failures, 2, 0, NOON);
    assert_int_equal(devices_of(failures, 1, NOON + 9), 3);
    assert_int_equal(devices_of(failures, 2, NOON + 9), 1);
    assert_string_equal(failures->images[0].type, "door");
    image_failures_free(failures);
    fail_with(NULL, 1, 1, NOON);
}

static void test_for_a_day(void **state)
{
    (void)state;
    struct image_failures *failures = image_failures_new();
    fail_with(failures, 1, 1, NOON);
    fail_with(failures, 1, 2, NOON + 3600);
    assert_int_equal(devices_of(failures, 1, NOON + IMAGE_FAILURES_FOR_S), 2);
    assert_int_equal(devices_of(failures, 1, NOON + IMAGE_FAILURES_FOR_S + 1), 1);
    assert_int_equal(devices_of(failures, 1, NOON - 7200), 2); /* the calendar was set back */
    image_failures_free(failures);
}

static void test_who_has_it_after_all(void **state)
{
    (void)state;
    struct image_failures *failures = image_failures_new();
    const uint8_t md5[16] = { 1 }, other[16] = { 2 };
    struct mac first = mac_of(1), second = mac_of(2);
    fail_with(failures, 1, 1, NOON);
    fail_with(failures, 1, 2, NOON);
    image_failures_confirmed(failures, other, &first);
    image_failures_confirmed(failures, md5, &first);
    image_failures_confirmed(failures, md5, &first);
    assert_int_equal(devices_of(failures, 1, NOON), 1);
    image_failures_confirmed(failures, md5, &second);
    assert_int_equal(failures->count, 0);
    fail_with(failures, 1, 1, NOON);
    image_failures_forget(failures, other);
    assert_int_equal(failures->count, 1);
    image_failures_forget(failures, md5);
    assert_int_equal(failures->count, 0);
    image_failures_free(failures);
}

static void test_bounds(void **state)
{
    (void)state;
    struct image_failures *failures = image_failures_new();
    for (unsigned i = 0; i < IMAGE_FAILURES_DEVICES + 10; i++) {
        fail_with(failures, 0, i, NOON + i);
    }
    assert_int_equal(devices_of(failures, 0, NOON + 60), IMAGE_FAILURES_DEVICES);
    for (unsigned i = 1; i <= IMAGE_FAILURES_MAX;
         i++) { /* one too many: the one longest without goes, and 0 is newer */
        fail_with(failures, i, 1, i == 7 ? NOON - 60 : NOON + 60);
        assert_true(failures->count <= IMAGE_FAILURES_MAX);
    }
    assert_int_equal(failures->count, IMAGE_FAILURES_MAX);
    assert_int_equal(devices_of(failures, 7, NOON + 60), 0);
    assert_int_equal(devices_of(failures, 0, NOON + 60), IMAGE_FAILURES_DEVICES);
    assert_int_equal(devices_of(failures, IMAGE_FAILURES_MAX, NOON + 60), 1);
    image_failures_free(failures);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_device_counts_once),
        cmocka_unit_test(test_for_a_day),
        cmocka_unit_test(test_who_has_it_after_all),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
