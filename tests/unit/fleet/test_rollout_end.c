/* When a rollout is over, what becomes of those who were at it, and what is kept and shown of it. */
#include "tests/unit/fleet/rollout_fixture.h"

/* Else a rollout whose broker is gone stands for ever. */
static void test_nobody_could_be_told(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    set_going(world, 3);
    pass(world, 299999);
    assert_string_equal(word_of(world), "running");
    pass(world, 1);
    assert_string_equal(word_of(world), "aborted");
    assert_false(world->rollout->distrusted);
    world_free(world);

    world = world_new();
    world->order.in_flight = 3;
    set_going(world, 3);
    broker_says(world, 0, false);
    broker_says(world, 1, false);
    assert_string_equal(word_of(world), "running");
    broker_says(world, 2, false);
    assert_string_equal(word_of(world), "aborted");
    assert_string_equal(world->rollout->why, "no command reached the broker: denied");
    world_free(world);
}

/* Else what ended is not over, or is over too early. */
static void test_done(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    begin(world, 3);
    struct rollout_joiner skipped = { .mac = mac_of(7), .skip_why = "wrong-chip" };
    struct rollout_joiner away = { .mac = mac_of(8), .away = true };
    rollout_join(world->rollout, &skipped, &world->now);
    rollout_join(world->rollout, &away, &world->now);
    rollout_join(world->rollout, &away, &world->now);
    start(world);
    assert_int_equal(world->rollout->members, 5);
    updates(world, 0);
    flashes_in_vain(world, 1);
    takes_it(world, 2);
    assert_string_equal(word_of(world), "running");
    runs_it(world, 2);
    assert_string_equal(word_of(world), "done");
    assert_int_equal(world->rollout->ended_s, world->now.unix_s);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_CONFIRMED], 2);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_SKIPPED], 1);
    struct rollout_member listed[8];
    assert_int_equal(rollout_members(world->rollout, ROLLOUT_DEVICE_STATES, 0, listed, 8), 3);
    assert_int_equal(number_of(&listed[0].mac), 1);
    assert_int_equal(number_of(&listed[1].mac), 8);
    assert_int_equal(number_of(&listed[2].mac), 7);
    assert_string_equal(listed[1].why, "it said that it is gone");
    assert_string_equal(listed[2].why, "wrong-chip");
    assert_true(may(world, 2)); /* it is the type's word */
    world_free(world);
}

/* Else the memory of what is over grows with the fleet, or the loop stands still while it goes. */
static void test_what_is_kept_is_bounded(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 10;
    set_going(world, 5000);
    is_withheld(world, 4999, "pinned: 1.0");
    unsigned written = world->written_members;
    assert_int_equal(op_abort(world), STATUS_OK);
    assert_int_equal(world->rollout->members, 5000);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_SKIPPED], 4990);
    assert_int_equal(world->rollout->in_flight, 10);
    assert_in_range(world->written_members - written, 1, ROLLOUT_LISTED_MAX);
    assert_string_equal(state_of(world, 4998), "skipped"); /* not by its own row */
    for (int i = 0; i < 10; i++) {
        broker_says(world, i, false);
    }
    struct rollout_member *listed = calloc(5000, sizeof *listed);
    assert_int_equal(rollout_members(world->rollout, ROLLOUT_DEVICE_STATES, 0, listed, 5000), ROLLOUT_LISTED_MAX);
    free(listed);
    for (int i = 0; i < 10; i++) {
        pass(world, 1000);
    }
    world_free(world);
}

/* Else thousands of deadlines that are due together hold up the loop. */
static void test_many_are_late(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 1200;
    set_going(world, 1200);
    for (int i = 0; i < 1200; i++) {
        broker_says(world, i, true);
    }
    pass(world, 60000);
    assert_in_range(world->rollout->devices[ROLLOUT_DEVICE_SILENT], 100, 600);
    pass(world, 1000);
    pass(world, 1000);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_SILENT], 1200);
    assert_string_equal(word_of(world), "done");
    world_free(world);
}

/* Else an abort calls silent who was never told, and what those did who were at it is never known. */
static void test_what_an_abort_leaves(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 6;
    set_going(world, 9);
    updates(world, 0);
    for (int i = 1; i < 7; i++) {
        broker_says(world, i, i != 6);
    }
    world->now.ms += 1000;
    takes_it(world, 1);
    takes_it(world, 2);
    assert_true(asks(world, 3));
    begins(world, 3);
    assert_true(asks(world, 4));
    begins(world, 4);
    assert_int_equal(op_abort(world), STATUS_OK);
    assert_string_equal(word_of(world), "aborted");
    static const char *const at_once[] = { "confirmed", "flashed", "flashed",   "downloading", "downloading",
                                           "triggered", "failed",  "triggered", "skipped" };
    for (int i = 0; i < 9; i++) {
        assert_string_equal(state_of(world, i), at_once[i]);
    }
    assert_string_equal(member_of(world, 8).why, "not told: the rollout was aborted");
    assert_int_equal(world->rollout->in_flight, 6);
    broker_says(world, 7, false); /* taken back in time */
    assert_string_equal(state_of(world, 7), "skipped");
    assert_string_equal(member_of(world, 7).why, "not told: the rollout was aborted");
    ends(world, 3, true, NULL);
    ends(world, 4, false, "cut at 50 %");
    assert_string_equal(member_of(world, 4).why, "the rollout was aborted");
    came_after(world, 1, true, NULL);
    came_after(world, 2, false, "came back with the old build");
    assert_string_equal(state_of(world, 1), "confirmed");
    assert_string_equal(state_of(world, 2), "failed");
    came_after(world, 3, false, NULL); /* it may ask besides */
    assert_string_equal(state_of(world, 3), "flashed");
    came_after(world, 5, false, NULL); /* it has heard, and is held back */
    assert_string_equal(state_of(world, 5), "skipped");
    size_t told = world->told_count;
    pass(world, 120000);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_SILENT], 1); /* 3 never came back */
    assert_int_equal(world->rollout->in_flight, 0);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_CONFIRMED], 2);
    assert_int_equal(world->told_count, told);
    assert_int_equal(op_resume(world), STATUS_INVALID);
    world_free(world);
}

/* Else who is shown page by page sees some twice and others never. */
static void test_pages(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 400;
    set_going(world, 1000);
    struct rollout_member page[7];
    int next = 0;
    size_t n;
    while ((n = rollout_members(world->rollout, ROLLOUT_DEVICE_TRIGGERED, (size_t)next, page, 7)) > 0) {
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(number_of(&page[i].mac), next++);
        }
    }
    assert_int_equal(next, 400);
    assert_int_equal(rollout_members(world->rollout, ROLLOUT_DEVICE_TRIGGERED, 7, page, 7), 7);
    assert_int_equal(number_of(&page[0].mac), 7);
    runs_it(world, 10);
    assert_int_equal(rollout_members(world->rollout, ROLLOUT_DEVICE_TRIGGERED, 14, page, 7), 7);
    assert_int_equal(number_of(&page[0].mac), 15);
    world_free(world);
}

/* Else the operator is promised what nobody has measured. */
static void test_seconds_left(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 2;
    set_going(world, 10);
    assert_int_equal(rollout_seconds_left(world->rollout), -1);
    takes_it(world, 0);
    world->now.ms += 9100; /* 0.9 s for the transfer */
    runs_it(world, 0);
    assert_int_equal(rollout_seconds_left(world->rollout), 50); /* 9 left, two at a time */
    world_free(world);
}

/* Else who says so in `rollouts abort --why` has those that were told neither followed nor counted. */
static void test_an_abort_that_says_superseded(void **unused)
{
    (void)unused;
    const char *why;
    struct world *world = world_new();
    begin(world, 2);
    start(world);
    enum status status = rollout_abort(world->rollout, "superseded by 00000000000000bb", &world->now, &why);
    assert_int_equal(status, STATUS_OK);
    assert_false(rollout_is_superseded(world->rollout));
    assert_string_equal(state_of(world, 0), "triggered"); /* it was told, and is followed */
    assert_string_equal(member_of(world, 1).why, "not told: the rollout was aborted");
    assert_int_equal(member_of(world, 1).mark, ROLLOUT_MARK_NONE);
    assert_true(world->rollout->distrusted);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_could_be_told),
        cmocka_unit_test(test_done),
        cmocka_unit_test(test_what_is_kept_is_bounded),
        cmocka_unit_test(test_what_an_abort_leaves),
        cmocka_unit_test(test_many_are_late),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_seconds_left),
        cmocka_unit_test(test_an_abort_that_says_superseded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
