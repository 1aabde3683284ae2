/* The loop guard: who holds back for how long, and whom it must never hold back.
 *
 * Time is a number here, so a day passes in a line.
 */
#include "fleet/loop_guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define HOUR     3600000ull
#define MOST     3u
#define START_MS 1000000ull

static const uint8_t image[16] = { 1 };
static const uint8_t other_image[16] = { 2 };

static struct loop_guard_key key_of(uint32_t device, bool fs)
{
    struct loop_guard_key key = { .fs = fs };
    key.mac.bytes[0] = 0x5c;
    memcpy(key.mac.bytes + 2, &device, sizeof device);
    return key;
}

static const uint64_t untouched = 4711;

/* How long the device has to wait; 0 = not at all. */
static uint64_t wait_of(const struct loop_guard *guard, const struct loop_guard_key *key, const uint8_t md5[16],
                        unsigned most, uint64_t now_ms)
{
    uint64_t wait_ms = untouched;
    bool holds = loop_guard_holds(guard, key, md5, most, now_ms, &wait_ms);
    assert_true(holds ? wait_ms > 0 && wait_ms <= LOOP_GUARD_BACKOFF_MAX_MS : wait_ms == untouched);
    return holds ? wait_ms : 0;
}

static void send(struct loop_guard *guard, const struct loop_guard_key *key, const uint8_t md5[16], unsigned times,
                 uint64_t now_ms)
{
    for (unsigned i = 0; i < times; i++) {
        loop_guard_sent(guard, key, md5, MOST, now_ms);
    }
}

/* Else a device that fails to start an image is flashed until its flash is worn out; or one is held back too early. */
static void test_holds_after_the_last_transfer(void **state)
{
    (void)state;
    struct loop_guard *guard = loop_guard_new(10);
    struct loop_guard_key key = key_of(1, false);
    for (unsigned i = 0; i < MOST; i++) {
        assert_int_equal(wait_of(guard, &key, image, MOST, START_MS), 0);
        send(guard, &key, image, 1, START_MS);
    }
    assert_int_equal(wait_of(guard, &key, image, MOST, START_MS), HOUR);
    assert_int_equal(wait_of(guard, &key, image, MOST, START_MS + HOUR - 1), 1);
    assert_int_equal(wait_of(guard, &key, image, MOST, START_MS + HOUR), 0);
    loop_guard_free(guard);
}

/* Else a device that can never start it would be flashed every hour for years, or be forgotten for ever. */
static void test_waits_double_up_to_a_day(void **state)
{
    (void)state;
    static const unsigned hours[] = { 1, 2, 4, 8, 16, 24, 24, 24 };
    struct loop_guard *guard = loop_guard_new(10);
    struct loop_guard_key key = key_of(1, false);
    uint64_t now_ms = START_MS;
    send(guard, &key, image, MOST - 1, now_ms);
    for (size_t i = 0; i < sizeof hours / sizeof hours[0]; i++) {
        send(guard, &key, image, 1, now_ms);
        assert_int_equal(wait_of(guard, &key, image, MOST, now_ms), hours[i] * HOUR);
        now_ms += hours[i] * HOUR;
        assert_int_equal(wait_of(guard, &key, image, MOST, now_ms), 0);
    }
    loop_guard_free(guard);
}

/* Else a repaired build would wait a day for the device that needs it most. */
static void test_a_new_image_is_free_at_once(void **state)
{
    (void)state;
    struct loop_guard *guard = loop_guard_new(10);
    struct loop_guard_key key = key_of(1, false);
    send(guard, &key, image, MOST + 3, START_MS);
    assert_int_equal(wait_of(guard, &key, other_image, MOST, START_MS), 0);
    send(guard, &key, other_image, MOST - 1, START_MS);
    assert_int_equal(wait_of(guard, &key, other_image, MOST, START_MS), 0);
    send(guard, &key, other_image, 1, START_MS);
    assert_int_equal(wait_of(guard, &key, other_image, MOST, START_MS), HOUR); /* the first wait again */
    loop_guard_free(guard);
}

static void test_devices_and_kinds_are_counted_apart(void **state)
{
    (void)state;
    struct loop_guard *guard = loop_guard_new(10);
    struct loop_guard_key key = key_of(1, false), neighbour = key_of(2, false), fs = key_of(1, true);
    send(guard, &key, image, MOST, START_MS);
    assert_int_equal(wait_of(guard, &neighbour, image, MOST, START_MS), 0);
    assert_int_equal(wait_of(guard, &fs, image, MOST, START_MS), 0);
    send(guard, &fs, image, 1, START_MS);
    assert_int_equal(loop_guard_count(guard), 2);
    assert_int_equal(wait_of(guard, &key, image, MOST, START_MS), HOUR); /* not pushed out by its file system */
    loop_guard_free(guard);
}

/* A file system without version may be sent once: the caller passes 1. */
static void test_one_transfer_may_be_all(void **state)
{
    (void)state;
    struct loop_guard *guard = loop_guard_new(10);
    struct loop_guard_key key = key_of(1, true);
    assert_int_equal(wait_of(guard, &key, image, 1, START_MS), 0);
    loop_guard_sent(guard, &key, image, 1, START_MS);
    assert_int_equal(wait_of(guard, &key, image, 1, START_MS), HOUR);
    loop_guard_free(guard);
}

/* Else an operator who raises the limit would still have to wait. */
static void test_a_raised_limit_counts_at_once(void **state)
{
    (void)state;
    struct loop_guard *guard = loop_guard_new(10);
    struct loop_guard_key key = key_of(1, false);
    send(guard, &key, image, MOST, START_MS);
    assert_int_equal(wait_of(guard, &key, image, MOST + 1, START_MS), 0);
    assert_int_equal(wait_of(guard, &key, image, MOST, START_MS), HOUR);
    loop_guard_free(guard);
}

/* Else a device that was once in trouble would be held back at its next update. */
static void test_forgotten_when_it_runs(void **state)
{
    (void)state;
    struct loop_guard *guard = loop_guard_new(10);
    struct loop_guard_key key = key_of(1, false), stranger = key_of(2, false);
    send(guard, &key, image, MOST, START_MS);
    loop_guard_forget(guard, &stranger); /* nothing to forget */
    assert_int_equal(loop_guard_count(guard), 1);
    loop_guard_forget(guard, &key);
    assert_int_equal(loop_guard_count(guard), 0);
    assert_int_equal(wait_of(guard, &key, image, MOST, START_MS), 0);
    send(guard, &key, image, MOST - 1, START_MS);
    assert_int_equal(wait_of(guard, &key, image, MOST, START_MS), 0);
    loop_guard_free(guard);
}

/* Else invented MACs would take memory without end, or push out the device that is in a loop right now. */
static void test_bounded_the_oldest_goes_first(void **state)
{
    (void)state;
    struct loop_guard *guard = loop_guard_new(3);
    struct loop_guard_key first = key_of(1, false), second = key_of(2, false), third = key_of(3, false);
    send(guard, &first, image, MOST, START_MS);
    send(guard, &second, image, MOST, START_MS);
    send(guard, &third, image, MOST, START_MS);
    send(guard, &first, image, 1, START_MS); /* now the second is the one served longest ago */
    assert_int_equal(loop_guard_count(guard), 3);
    struct loop_guard_key fourth = key_of(4, false);
    send(guard, &fourth, image, MOST, START_MS);
    assert_int_equal(loop_guard_count(guard), 3);
    assert_int_equal(wait_of(guard, &second, image, MOST, START_MS), 0);
    assert_int_equal(wait_of(guard, &first, image, MOST, START_MS), 2 * HOUR);
    assert_int_equal(wait_of(guard, &third, image, MOST, START_MS), HOUR);
    assert_int_equal(wait_of(guard, &fourth, image, MOST, START_MS), HOUR);
    loop_guard_free(guard);
}

static void test_a_flood_of_devices(void **state)
{
    (void)state;
    struct loop_guard *guard = loop_guard_new(1000);
    for (uint32_t i = 0; i < 20000; i++) {
        struct loop_guard_key key = key_of(i, i % 3 == 0);
        send(guard, &key, image, 1, START_MS + i);
        assert_int_equal(loop_guard_count(guard), i < 1000 ? i + 1 : 1000);
    }
    loop_guard_free(guard);
}

/* Else a restart lets every device have the image once more, or makes it wait anew. */
static void test_restored(void **state)
{
    (void)state;
    for (unsigned served = 1; served < 10; served++) {
        struct loop_guard *before = loop_guard_new(10), *after = loop_guard_new(10);
        struct loop_guard_key key = key_of(1, true);
        send(before, &key, image, served, START_MS);
        uint64_t wait_ms = wait_of(before, &key, image, MOST, START_MS);
        loop_guard_restore(after, &key, image, served, MOST, 1000, 5000);
        assert_int_equal(loop_guard_served(after, &key, image), served);
        assert_int_equal(wait_of(after, &key, image, MOST, 5000), wait_ms > 0 ? wait_ms - 1000 : 0);
        loop_guard_restore(after, &key, image, served, MOST, 100 * HOUR, 5000); /* long ago: it counts, and is over */
        assert_int_equal(wait_of(after, &key, image, MOST, 5000), 0);
        send(before, &key, image, 1, START_MS);
        send(after, &key, image, 1, 5000);
        assert_int_equal(wait_of(after, &key, image, MOST, 5000), wait_of(before, &key, image, MOST, START_MS));
        loop_guard_free(before);
        loop_guard_free(after);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holds_after_the_last_transfer),
        cmocka_unit_test(test_waits_double_up_to_a_day),
        cmocka_unit_test(test_a_new_image_is_free_at_once),
        cmocka_unit_test(test_devices_and_kinds_are_counted_apart),
        cmocka_unit_test(test_one_transfer_may_be_all),
        cmocka_unit_test(test_a_raised_limit_counts_at_once),
        cmocka_unit_test(test_forgotten_when_it_runs),
        cmocka_unit_test(test_restored),
        cmocka_unit_test(test_bounded_the_oldest_goes_first),
        cmocka_unit_test(test_a_flood_of_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
