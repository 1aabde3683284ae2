/* Rollouts of a type of which no device is known, and which nobody can be told of; and canaries that are not there:
 * what stands for them, how long, and what is said of it.
 */
#include "tests/unit/fleet/rollout_fixture.h"

/* `canary`, and the topics that there are. */
static struct world *world_of_strangers(unsigned canary, unsigned in_flight, bool topics)
{
    struct world *world = world_new();
    world->order.canary = canary;
    world->order.in_flight = in_flight;
    begin_as(world, ROLLOUT_ID);
    rollout_start(world->rollout, topics, topics, &world->now);
    return world;
}

/* Else everybody has the image at once, whatever the order says, because nobody was there when it came. */
static void test_held_to_the_window(void **unused)
{
    (void)unused;
    struct world *world = world_of_strangers(0, 2, false);
    assert_string_equal(word_of(world), "running");
    assert_string_equal(world->rollout->why, ROLLOUT_AWAITS);
    assert_true(asks(world, 0) && asks(world, 1));
    assert_false(asks(world, 2));
    begins(world, 0);
    ends(world, 0, true, NULL);
    runs_it(world, 0);
    assert_true(asks(world, 2));
    pass(world, 3600000);
    assert_string_equal(word_of(world), "running");
    pass(world, ROLLOUT_STAND_MS - 3600000);
    assert_string_equal(word_of(world), "done");
    world_free(world);
}

/* Nobody at all: not for ever. */
static void test_nobody_comes(void **unused)
{
    (void)unused;
    struct world *world = world_of_strangers(0, 0, false);
    pass(world, ROLLOUT_STAND_MS - 1);
    assert_string_equal(word_of(world), "running");
    pass(world, 1);
    assert_string_equal(word_of(world), "done");
    world_free(world);
}

/* Else a share or a group of a fleet that nobody knows yet is over before it came, and the rest has it too. */
static void test_a_share_of_strangers(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.percent = 50;
    world->order.in_flight = 200;
    begin_as(world, ROLLOUT_ID);
    rollout_start(world->rollout, true, true, &world->now);
    assert_string_equal(word_of(world), "running");
    assert_int_equal(world->told_count, 0);
    size_t served = 0;
    for (int i = 0; i < 200; i++) {
        struct mac mac = mac_of(i);
        served += rollout_selects(world->rollouts, world->rollout, &mac) && asks(world, i);
    }
    assert_in_range(served, 70, 130);
    assert_ptr_equal(rollouts_holding(world->rollouts, slice_of("porch"), false, target_md5), world->rollout);
    world_free(world);
}

/* Else a fleet that nobody knows is its own canary, all of it. */
static void test_the_first_are_canaries(void **unused)
{
    (void)unused;
    struct world *world = world_of_strangers(2, 10, false);
    struct rollout_permission permission;
    assert_string_equal(word_of(world), "canary");
    runs_it(world, 9); /* proves nothing */
    assert_true(asks(world, 0) && asks(world, 1));
    assert_false(asks(world, 2));
    struct mac mac = mac_of(3);
    rollout_permit(world->rollout, &mac, 3, &permission);
    assert_string_equal(permission.detail, "rollout " ROLLOUT_ID ": 0 of 2 canaries confirmed");
    for (int i = 0; i < 2; i++) {
        begins(world, i);
        ends(world, i, true, NULL);
        runs_it(world, i);
    }
    assert_string_equal(word_of(world), "running");
    assert_true(asks(world, 2));
    world_free(world);
}

/* Else two canaries of five are as good as five; or it waits for the others for ever. */
static void test_too_few_canaries_came(void **unused)
{
    (void)unused;
    struct world *world = world_of_strangers(5, 10, false);
    updates(world, 0);
    updates(world, 1);
    pass(world, ROLLOUT_STAND_MS - 1);
    assert_string_equal(word_of(world), "canary");
    pass(world, 1);
    assert_string_equal(word_of(world), "halted");
    assert_non_null(strstr(world->rollout->why, "2 of 5 canaries came within 7 days"));
    assert_int_equal(op_resume(world), STATUS_OK); /* they suffice, then */
    assert_string_equal(word_of(world), "done");
    world_free(world);
}

/* A pause does not make fewer canaries enough. */
static void test_paused_meanwhile(void **unused)
{
    (void)unused;
    struct world *world = world_of_strangers(5, 10, false);
    updates(world, 0);
    (void)op_pause(world);
    assert_non_null(strstr(world->rollout->why, ROLLOUT_AWAITS));
    (void)op_resume(world);
    assert_string_equal(word_of(world), "canary");
    assert_string_equal(world->rollout->why, ROLLOUT_AWAITS);
    world_free(world);
}

/* Else a fleet of sleepers is given what none of them has tried. */
static void test_all_who_could_try_it_are_away(void **unused)
{
    (void)unused;
    for (int comes = 0; comes <= 1; comes++) {
        struct world *world = world_new();
        world->order.canary = 1;
        begin_as(world, ROLLOUT_ID);
        for (int i = 0; i < 3; i++) {
            struct rollout_joiner joiner = { .mac = mac_of(i), .away = true };
            rollout_join(world->rollout, &joiner, &world->now);
        }
        start(world);
        assert_string_equal(word_of(world), "canary");
        pass(world, 3600000);
        assert_string_equal(word_of(world), "canary");
        if (comes) {
            (void)asks(world, 1);
            assert_int_equal(last_told(world)->device, 1);
            assert_true(member_of(world, 1).canary);
            updates(world, 1);
            assert_string_equal(word_of(world), "done"); /* the others are caught when they come */
        } else {
            pass(world, ROLLOUT_STAND_MS);
            assert_string_equal(word_of(world), "halted");
            assert_non_null(strstr(world->rollout->why, "0 of 1 canaries came"));
        }
        world_free(world);
    }
}

/* Else a restart makes it "done", and everybody may have it. */
static void test_over_a_restart(void **unused)
{
    (void)unused;
    struct world *world = world_of_strangers(0, 2, false);
    updates(world, 0);
    struct rollout as_written = *world->rollout;
    struct rollout_member member = member_of(world, 0);
    as_written.table = NULL;
    rollouts_free(world->rollouts);
    world_rollouts(world);
    world->rollout = rollouts_restore(world->rollouts, &as_written, &world->now);
    rollout_restore_member(world->rollout, &member, 0, &world->now);
    rollout_start(world->rollout, false, false, &world->now);
    assert_string_equal(word_of(world), "running");
    assert_true(asks(world, 1) && asks(world, 2));
    assert_false(asks(world, 3));
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_held_to_the_window),
        cmocka_unit_test(test_nobody_comes),
        cmocka_unit_test(test_a_share_of_strangers),
        cmocka_unit_test(test_the_first_are_canaries),
        cmocka_unit_test(test_too_few_canaries_came),
        cmocka_unit_test(test_paused_meanwhile),
        cmocka_unit_test(test_all_who_could_try_it_are_away),
        cmocka_unit_test(test_over_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
