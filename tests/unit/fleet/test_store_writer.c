/* What becomes of it all while the store fails, or hangs: it is kept, tried again, and said once. */
#include "tests/unit/fleet/queue_fixture.h"

/* --- the store fails ----------------------------------------------------------------------------------------------*/

static void test_what_failed_is_kept_and_tried_again(void **state)
{
    (void)state;
    fail_store(true);
    for (uint32_t i = 1; i <= 3000; i++) {
        put(i, STORE_BEHIND);
    }
    run_until(is_failing, 5000);
    assert_int_equal(store_queue_view(at.queue)->backlog, 3000);
    assert_int_equal(memory.count, 0);
    assert_int_equal(at.written, 0);
    put(3001, STORE_BEHIND);
    fail_store(false);
    run_until(nothing_waits, 5000);
    assert_int_equal(memory.count, 3001);
    for (uint32_t i = 0; i < 3001; i++) {
        assert_int_equal(memory.kept[i], i + 1);
    }
    assert_true(store_queue_view(at.queue)->failures >= 1);
}

static bool failed_again(void)
{
    return atomic_load(&memory.attempts) >= 3;
}

static bool tells_the_new_reason(void)
{
    return strcmp(at.why, "failing 5") == 0;
}

/* An operator is told when it breaks, when it breaks otherwise, and when it is whole: not at each attempt. */
static void test_health_is_told_once_a_change(void **state)
{
    (void)state;
    fail_store(true);
    put(1, STORE_DURABLE);
    run_until(failed_again, 10000);
    assert_int_equal(at.health_told, 1);
    assert_int_equal(at.health, STORE_FAILING);
    assert_string_equal(at.why, "failing 0");
    assert_string_equal(store_queue_view(at.queue)->why, "failing 0");
    atomic_store(&memory.why, 5);
    run_until(tells_the_new_reason, 10000);
    assert_int_equal(at.health_told, 2);
    fail_store(false);
    run_until(is_good, 10000);
    assert_int_equal(at.health_told, 3);
    assert_string_equal(store_queue_view(at.queue)->why, "");
    put(2, STORE_DURABLE);
    run_until(nothing_waits, 5000);
    assert_int_equal(at.health_told, 3);
}

/* What is written is written, and who waits is answered so; but the operator is told what must be mended, once, and
 * when it is. */
static void test_ailing_is_told(void **state)
{
    (void)state;
    atomic_store(&memory.ails, true);
    for (unsigned i = 1; i <= 3; i++) {
        put(i, STORE_DURABLE);
        run_until(nothing_waits, 5000);
        assert_int_equal(at.health, STORE_AILING);
        assert_string_equal(at.why, "ailing");
        assert_int_equal(at.written, i);
    }
    assert_int_equal(at.health_told, 1);
    assert_int_equal(store_queue_view(at.queue)->failures, 0);
    atomic_store(&memory.ails, false);
    put(4, STORE_DURABLE);
    run_until(is_good, 5000);
    assert_int_equal(at.health_told, 2);
    assert_string_equal(store_queue_view(at.queue)->why, "");
}

/* Not after the eight seconds of its pause, for an operator waits. */
static void test_an_operators_word_ends_the_pause(void **state)
{
    (void)state;
    fail_store(true);
    put(1, STORE_BEHIND);
    run_until(failed_again, 15000); /* the next pause is 4 s */
    fail_store(false);
    uint64_t began_ns = uv_hrtime();
    put(2, STORE_DURABLE);
    run_until(nothing_waits, 3000);
    assert_true(uv_hrtime() - began_ns < UINT64_C(2000) * 1000000);
}

static void test_the_backlog_is_bounded(void **state)
{
    (void)state;
    fail_store(true);
    assert_int_equal(store_queue_room(at.queue), STORE_BACKLOG_MAX);
    for (uint32_t i = 1; i <= STORE_BACKLOG_MAX; i++) {
        assert_int_equal(put(i, STORE_BEHIND), i);
    }
    assert_int_equal(store_queue_room(at.queue), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(put(99, STORE_DURABLE), 0); /* whoever asks; and freed: the sanitizer tells */
    }
    run_until(is_failing, 5000);
    assert_int_equal(put(99, STORE_DURABLE), 0); /* what the writer holds counts too */
    assert_int_equal(store_queue_view(at.queue)->backlog, STORE_BACKLOG_MAX);
    fail_store(false);
    run_until(nothing_waits, 10000);
    assert_int_equal(store_queue_room(at.queue), STORE_BACKLOG_MAX);
    assert_int_equal(memory.count, STORE_BACKLOG_MAX);
    assert_int_equal(put(1, STORE_DURABLE), STORE_BACKLOG_MAX + 1); /* refused ones used no ticket */
    run_until(nothing_waits, 5000);
}

/* --- the store hangs ----------------------------------------------------------------------------------------------*/

#define HANG_MS 200 /* in these tests */

static bool is_inside(void)
{
    return atomic_load(&memory.inside);
}

/* Else rollouts wait for a ticket that never comes, and nobody says why. */
static void test_a_store_that_hangs_is_failing(void **state)
{
    (void)state;
    store_queue_hangs_after(at.queue, HANG_MS);
    atomic_store(&memory.hangs, true);
    put(1, STORE_DURABLE);
    run_until(is_inside, 5000);
    uint64_t began_ns = uv_hrtime();
    run_until(is_failing, 5000);
    assert_true(uv_hrtime() - began_ns >= HANG_MS / 2 * 1000000u);
    assert_non_null(strstr(at.why, "hangs"));
    assert_int_equal(at.health_told, 1);
    put(2, STORE_DURABLE); /* it goes on taking changes */
    atomic_store(&memory.hangs, false);
    run_until(is_good, 5000);
    run_until(nothing_waits, 5000);
    assert_int_equal(memory.count, 2);
    assert_string_equal(store_queue_view(at.queue)->why, "");
}

/* Else who looks at a device waits for ever; or is answered twice. */
static void test_who_reads_from_a_store_that_hangs_is_answered(void **state)
{
    (void)state;
    struct reading reading[3] = { 0 };
    struct mac mac = mac_of(42);
    readings = 0;
    store_queue_hangs_after(at.queue, HANG_MS);
    atomic_store(&memory.hangs, true);
    store_queue_events_of(at.queue, &mac, 1, on_events, &reading[0]); /* the one that hangs */
    store_queue_events_of(at.queue, &mac, 1, on_events, &reading[1]);
    run_until(is_failing, 5000);
    store_queue_events_of(at.queue, &mac, 1, on_events, &reading[2]);
    run_until(three_read, 5000);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(reading[i].status, STATUS_TIMEOUT);
    }
    atomic_store(&memory.hangs, false);
    run_until(is_good, 5000); /* a reading says nothing of health: what was heard last goes */
    put(1, STORE_DURABLE);
    run_until(nothing_waits, 5000);
    assert_int_equal(readings, 3);
}

/* Else a store that failed and then hung is called good before it is. */
static void test_what_failed_before_it_hung_is_failing_after_it(void **state)
{
    (void)state;
    struct reading reading = { 0 };
    struct mac mac = mac_of(42);
    readings = 0;
    store_queue_hangs_after(at.queue, HANG_MS);
    fail_store(true);
    put(1, STORE_DURABLE);
    run_until(is_failing, 5000);
    atomic_store(&memory.hangs, true);
    store_queue_events_of(at.queue, &mac, 1, on_events, &reading);
    run_until(one_read, 5000);
    assert_int_equal(reading.status, STATUS_TIMEOUT);
    assert_non_null(strstr(at.why, "hangs"));
    atomic_store(&memory.hangs, false);
    while (strstr(at.why, "hangs") != NULL) {
        (void)uv_run(&at.loop, UV_RUN_ONCE);
        assert_int_equal(at.health, STORE_FAILING);
    }
    fail_store(false);
    run_until(is_good, 10000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_what_failed_is_kept_and_tried_again),
        TEST(test_health_is_told_once_a_change),
        TEST(test_ailing_is_told),
        TEST(test_an_operators_word_ends_the_pause),
        TEST(test_the_backlog_is_bounded),
        TEST(test_a_store_that_hangs_is_failing),
        TEST(test_who_reads_from_a_store_that_hangs_is_answered),
        TEST(test_what_failed_before_it_hung_is_failing_after_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
