/* Who is told when, and how many at once: the next when a slot comes free, sites in turns, and a window that narrows
 * where the network or the image is bad. (test_window.c: the window by itself.) */
#include "tests/unit/fleet/rollout_fixture.h"

/* Else the closed loop is open: the next trigger waits for a tick, or more are under way than were ordered. */
static void test_the_next_leaves_in_the_same_call(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 2;
    set_going(world, 5);
    assert_int_equal(world->told_count, 2);
    takes_it(world, 0);
    assert_int_equal(world->told_count, 2); /* FLASHED still has its slot */
    runs_it(world, 0);
    assert_int_equal(world->told_count, 3);
    assert_int_equal(last_told(world)->device, 2);
    fails(world, 1);
    assert_int_equal(world->told_count, 4);
    assert_int_equal(world->rollout->in_flight, 2);
    world_free(world);
}

/* Else whoever polls gets a slot that is taken, also while the image is still being loaded for another. */
static void test_pollers_take_free_slots_only(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 2;
    world->store_lags = true;
    begin(world, 6);
    rollout_start(world->rollout, false, true, &world->now);
    assert_true(asks(world, 4));
    assert_true(asks(world, 5));
    assert_false(asks(world, 3));
    store_catches_up(world);
    assert_int_equal(world->told_count, 0);
    begins(world, 4);
    begins(world, 3); /* an operator's pin: it is sent the file, and is nobody's business here */
    assert_string_equal(state_of(world, 3), "queued");
    assert_int_equal(world->rollout->in_flight, 2);
    pass(world, 60000); /* 5 asked, and never fetched it */
    assert_string_equal(state_of(world, 5), "silent");
    world_free(world);
}

/* Else a disk that is slow loses what was ordered: someone is told, and after a crash told again by another id. */
static void test_nobody_is_told_before_it_is_written(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 2;
    world->store_lags = true;
    begin(world, 4);
    rollout_start(world->rollout, false, true, &world->now);
    assert_int_equal(world->told_count, 0);
    rollouts_written(world->rollouts, world->ticket - 1, &world->now); /* all but the last that was armed */
    assert_int_equal(world->told_count, 1);
    rollouts_written(world->rollouts, world->ticket, &world->now);
    assert_int_equal(world->told_count, 2);
    world_free(world);
}

static void join_sites(struct world *world, int count, int of_site)
{
    begin_as(world, ROLLOUT_ID);
    for (int i = 0; i < count; i++) {
        join_at(world, i, (uint64_t)(i / of_site));
    }
    start(world);
}

/* Else one uplink carries the whole window, while others idle. */
static void test_sites_take_turns(void **unused)
{
    (void)unused;
    static const int order[] = { 0, 3, 6, 1, 4 };
    struct world *world = world_new();
    world->order.in_flight = 5;
    join_sites(world, 9, 3);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(world->told[i].device, order[i]);
    }
    world_free(world);
}

/* Else a caravan park behind one DSL line gets them all at once; canaries too. */
static void test_the_cap_of_a_site(void **unused)
{
    (void)unused;
    for (unsigned canary = 0; canary < 2; canary++) {
        struct world *world = world_new();
        world->order.in_flight = 8;
        world->order.site_in_flight = 2;
        world->order.canary = canary * 5;
        join_sites(world, 5, 5);
        assert_int_equal(world->told_count, 2);
        assert_false(may(world, 4));
        updates(world, world->told[0].device);
        assert_int_equal(world->told_count, 3);
        struct rollout_fact stranger = fact_of(9); /* of another site */
        rollouts_checked_in(world->rollouts, &stranger, &world->now);
        assert_int_equal(world->told_count, canary > 0 ? 3 : 4);
        world_free(world);
    }
}

/* Else a window that shrank calls devices back, or one that grew is not used. */
static void test_the_window_moves(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 0;
    set_going(world, 200);
    assert_int_equal(world->told_count, WINDOW_START);
    for (int i = 0; i < 10; i++) {
        takes_it(world, i);
    }
    assert_int_equal(window_size(&world->rollout->window), WINDOW_START + 10);
    assert_int_equal(world->told_count, WINDOW_START + 10);
    is_cut(world, 20);
    assert_int_equal(window_size(&world->rollout->window), (WINDOW_START + 10) / 2);
    assert_int_equal(world->rollout->in_flight, WINDOW_START + 9);
    assert_true(may(world, 21));
    runs_it(world, 0);
    assert_int_equal(world->told_count, WINDOW_START + 10);
    world_free(world);
}

/* Else the window stays as wide as it was wherever devices report over MQTT: they are faster than this end. */
static void test_a_cut_that_is_reported_narrows_the_window(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    struct mac mac = mac_of(0);
    world->order.in_flight = 0;
    set_going(world, 60);
    assert_true(asks(world, 0));
    begins(world, 0);
    rollouts_reported_failure(world->rollouts, &mac, "it reported: closed halfway", &world->now);
    assert_int_equal(window_size(&world->rollout->window), WINDOW_START / 2);
    ends(world, 0, false, "cut at 50 %");
    assert_int_equal(window_size(&world->rollout->window), WINDOW_START / 2);
    world_free(world);
}

/* Else a server that is short of room fails healthy devices, aborts, or does nothing else than try. */
static void test_no_room_for_a_command(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 2;
    set_going(world, 30);
    struct told first = world->told[0];
    no_room(world, 0);
    no_room(world, 1);
    assert_string_equal(state_of(world, 0), "queued");
    assert_int_equal(world->told_count, 2); /* not in the same breath */
    assert_true(world->rollout->commands == 0 && world->rollout->commands_failed == 0);
    pass(world, ROLLOUT_BUSY_MS - 1);
    assert_int_equal(world->told_count, 2);
    pass(world, 1);
    assert_int_equal(world->told_count, 4);
    assert_string_equal(word_of(world), "running");
    for (int i = 2; i < 30; i++) {
        broker_says(world, i, true);
        updates(world, i);
    }
    assert_true(times_told(world, 0) == 2 && times_told(world, 1) == 2);
    for (size_t i = 1; i < world->told_count; i++) { /* the one that never left, again */
        assert_true(world->told[i].device != 0 || strcmp(world->told[i].id, first.id) == 0);
    }
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_FAILED], 0);
    world_free(world);
}

static void test_no_room_for_the_command_to_all(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 4;
    begin(world, 3);
    rollout_start(world->rollout, true, true, &world->now);
    struct told first = *last_told(world);
    no_room(world, TO_THE_TYPE);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_QUEUED], 3);
    assert_int_equal(world->told_count, 1);
    pass(world, ROLLOUT_BUSY_MS);
    assert_int_equal(world->told_count, 2);
    assert_int_equal(last_told(world)->device, TO_THE_TYPE);
    assert_string_equal(last_told(world)->id, first.id);
    world_free(world);
}

/* Else hours of a stalled network leave the window as wide as it was. */
static void test_an_endless_download_narrows_the_window(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 0;
    set_going(world, 60);
    assert_true(asks(world, 0));
    begins(world, 0);
    assert_int_equal(window_size(&world->rollout->window), WINDOW_START);
    pass(world, ROLLOUT_DOWNLOAD_MS);
    assert_string_equal(state_of(world, 0), "silent");
    assert_int_equal(window_size(&world->rollout->window), WINDOW_START / 2);
    world_free(world);
}

/* An operator's word on a device goes before the window. Else an update of this rollout's image counts as none. */
static void test_served_by_an_operators_word(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    set_going(world, 4);
    assert_string_equal(state_of(world, 0), "triggered");
    for (int i = 2; i < 4; i++) { /* pinned to the target */
        struct rollout_fact fact = fact_of(i);
        fact.served = true;
        assert_false(may(world, i));
        check_in(world, &fact);
        begins(world, i);
        ends(world, i, true, NULL);
        assert_string_equal(state_of(world, i), "queued");
        assert_int_equal(world->rollout->in_flight, 1);
    }
    runs_it(world, 2);
    assert_string_equal(state_of(world, 2), "confirmed");
    fails(world, 3);
    assert_string_equal(state_of(world, 3), "failed");
    assert_int_equal(world->rollout->failures, 1);
    runs_it(world, 1);
    assert_string_equal(state_of(world, 1), "skipped");
    world_free(world);
}

/* So many of `count` come back with the old build, evenly spread, each long after the one before. */
static void fail_among(struct world *world, int first, int count, int bad)
{
    for (int i = first; i < first + count; i++) {
        if ((i - first + 1) * bad / count > (i - first) * bad / count) {
            flashes_in_vain(world, i);
        } else {
            updates(world, i);
        }
        pass(world, WINDOW_FREEZE_MS);
    }
}

/* Else a bad image runs into its halt at full speed. */
static void test_a_failing_image_narrows_the_window(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 0;
    world->order.timeout_ms = world->order.reboot_ms = 86400000;
    set_going(world, 200);
    fail_among(world, 0, 10, 2); /* of 20 at least: not above half of 20 % yet */
    uint32_t wide = window_size(&world->rollout->window);
    assert_true(wide > WINDOW_START);
    flashes_in_vain(world, 10);
    wide = window_size(&world->rollout->window);
    assert_true(wide <= (WINDOW_START + 11) / 2);
    flashes_in_vain(world, 11); /* of one cause */
    assert_int_equal(window_size(&world->rollout->window), wide);
    assert_string_equal(word_of(world), "running");
    pass(world, WINDOW_FREEZE_MS);
    flashes_in_vain(world, 12);
    assert_int_equal(window_size(&world->rollout->window), wide / 2);
    assert_string_equal(word_of(world), "halted");
    assert_int_equal(op_resume(world), STATUS_OK);
    pass(world, WINDOW_FREEZE_MS);
    flashes_in_vain(world, 13); /* what was forgiven counts no more */
    assert_int_equal(window_size(&world->rollout->window), wide / 2);
    world_free(world);
}

/* Else the few that fail in every fleet leave the window at its least. */
static void test_few_failures_leave_the_window(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 0;
    world->order.timeout_ms = world->order.reboot_ms = 86400000;
    set_going(world, 700);
    fail_among(world, 0, 300, 9); /* 3 % */
    assert_int_equal(world->rollout->failures, 9);
    assert_int_equal(window_size(&world->rollout->window), WINDOW_START + 300);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_next_leaves_in_the_same_call),
        cmocka_unit_test(test_pollers_take_free_slots_only),
        cmocka_unit_test(test_nobody_is_told_before_it_is_written),
        cmocka_unit_test(test_sites_take_turns),
        cmocka_unit_test(test_the_cap_of_a_site),
        cmocka_unit_test(test_the_window_moves),
        cmocka_unit_test(test_no_room_for_a_command),
        cmocka_unit_test(test_no_room_for_the_command_to_all),
        cmocka_unit_test(test_an_endless_download_narrows_the_window),
        cmocka_unit_test(test_served_by_an_operators_word),
        cmocka_unit_test(test_a_failing_image_narrows_the_window),
        cmocka_unit_test(test_few_failures_leave_the_window),
        cmocka_unit_test(test_a_cut_that_is_reported_narrows_the_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
