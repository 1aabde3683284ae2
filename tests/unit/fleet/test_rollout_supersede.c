/* Two rollouts of one type: who goes to the newer, when, and that both say so; wherever the older one stands.
 */
#include "tests/unit/fleet/rollout_fixture.h"

#define ID_A "00000000000000aa"
#define ID_B "00000000000000bb"

#define OF_B      "superseded by " ID_B
#define IN_PART_B OF_B " in the devices that both mean"

static struct rollout *rollout_of(const struct world *world, const char *id)
{
    struct rollout *rollout = rollouts_find(world->rollouts, slice_of(id));
    assert_non_null(rollout);
    return rollout;
}

static struct rollout_member member_in(const struct world *world, const char *id, int device)
{
    struct rollout_member member;
    struct mac mac = mac_of(device);
    assert_true(rollout_member(rollout_of(world, id), &mac, &member));
    return member;
}

/* The older one, of `count` devices; then whoever is ordered next means those of the group. */
static struct world *world_with_older(unsigned in_flight, int count)
{
    struct world *world = world_new();
    world->order.in_flight = in_flight;
    begin_as(world, ID_A);
    for (int i = 0; i < count; i++) {
        join_at(world, i, (uint64_t)i);
    }
    start(world);
    snprintf(world->order.group, sizeof world->order.group, "upstairs");
    return world;
}

static void join(struct world *world, int first, int last)
{
    for (int i = first; i <= last; i++) {
        join_at(world, i, (uint64_t)i);
    }
}

/* Else a group's order ends the whole type's without a word to either, or with one. */
static void test_both_say_so(void **unused)
{
    (void)unused;
    struct world *world = world_with_older(1, 6);
    world->group_first = world->group_last = 4;
    begin_as(world, ID_B);
    assert_string_equal(rollout_of(world, ID_A)->why, ""); /* nobody has gone yet */
    join(world, 4, 4);
    unsigned written = world->written_rollouts;
    const struct rollout *older = rollout_of(world, ID_A);
    assert_int_equal(older->state, ROLLOUT_RUNNING);
    assert_string_equal(older->why, IN_PART_B "; it goes on with the rest");
    assert_string_equal(rollout_of(world, ID_B)->supersedes, ID_A);
    start(world);
    world->group_last = 5;
    join(world, 5, 5);
    assert_in_range(world->written_rollouts, written, written + 1); /* not once for each device */
    world->rollout = rollout_of(world, ID_A);
    (void)op_pause(world);
    assert_string_equal(older->why, "by an operator; " IN_PART_B);
    (void)op_resume(world);
    assert_string_equal(older->why, IN_PART_B "; it goes on with the rest");
    for (int i = 0; i < 4; i++) {
        updates(world, i);
    }
    assert_int_equal(older->state, ROLLOUT_DONE);
    assert_string_equal(older->why, IN_PART_B);
    world_free(world);
}

/* Else each device that is handed over makes room for a command of the older image to the next, which is the newer's
 * too: all are told of both. */
static void test_none_is_told_of_the_older_any_more(void **unused)
{
    (void)unused;
    struct world *world = world_with_older(2, 40);
    assert_int_equal(world->told_count, 2);
    world->group_last = 37;
    begin_as(world, ID_B);
    join(world, 0, 37); /* the newer gathers: in slices, in a big fleet */
    assert_int_equal(world->told_count, 4);
    assert_true(world->told[2].device == 38 && world->told[3].device == 39);
    assert_int_equal(rollout_of(world, ID_A)->devices[ROLLOUT_DEVICE_SKIPPED], 38);
    start(world);
    assert_int_equal(last_told(world)->device, 1);
    world_free(world);
}

/* The same where only one of many has joined the newer as yet: the rest are known to be its own by its order. */
static void test_not_before_they_join_either(void **unused)
{
    (void)unused;
    struct world *world = world_with_older(1, 6);
    world->group_first = 1;
    world->group_last = 4;
    begin_as(world, ID_B);
    struct rollout *newer = world->rollout;
    world->rollout = rollout_of(world, ID_A);
    updates(world, 0);
    assert_int_equal(last_told(world)->device, 5);
    assert_string_equal(state_of(world, 3), "skipped");
    assert_string_equal(member_in(world, ID_A, 3).why, OF_B);
    assert_string_equal(newer->supersedes, ID_A);
    world_free(world);
}

/* Else it takes the loop for a whole fleet's time. */
static void test_they_go_some_at_a_time(void **unused)
{
    (void)unused;
    struct world *world = world_with_older(1, 1000);
    world->group_first = 1;
    world->group_last = 1000;
    begin_as(world, ID_B);
    world->rollout = rollout_of(world, ID_A);
    updates(world, 0);
    assert_in_range(world->rollout->devices[ROLLOUT_DEVICE_SKIPPED], 1, 100);
    for (int i = 0; i < 20; i++) {
        pass(world, 1000);
    }
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_SKIPPED], 999);
    assert_int_equal(world->told_count, 1);
    assert_int_equal(world->rollout->state, ROLLOUT_DONE);
    world_free(world);
}

/* Else an older rollout whose command goes to all tells the newer's devices, too. */
static void test_the_type_is_not_told(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 10;
    begin_as(world, ID_A);
    join(world, 0, 3);
    struct rollout *older = world->rollout;
    snprintf(world->order.group, sizeof world->order.group, "upstairs");
    world->group_first = world->group_last = 2;
    begin_as(world, ID_B);
    world->rollout = older;
    rollout_start(older, true, true, &world->now);
    assert_int_equal(times_told(world, TO_THE_TYPE), 0);
    assert_int_equal(world->told_count, 3);
    assert_int_equal(times_told(world, 2), 0);
    world_free(world);
}

/* Else "done" is said of a rollout whose devices all went to another, and nobody has its image. */
static void test_nothing_is_left(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    struct mac two[] = { mac_of(0), mac_of(1) };
    world->order.named = true;
    world->order.devices = two;
    world->order.device_count = 2;
    begin_as(world, ID_A);
    join(world, 0, 1);
    start(world);
    begin_as(world, ID_B);
    assert_int_equal(rollout_of(world, ID_A)->state, ROLLOUT_RUNNING);
    join(world, 0, 0); /* the other is not told any more, and so is the newer's too */
    assert_int_equal(rollout_of(world, ID_A)->state, ROLLOUT_ABORTED);
    assert_string_equal(rollout_of(world, ID_A)->why, OF_B);
    assert_false(rollout_of(world, ID_A)->distrusted);
    world_free(world);
}

/* But the whole type's word stands for those who come later. */
static void test_the_types_word_is_left(void **unused)
{
    (void)unused;
    struct world *world = world_with_older(2, 2);
    world->group_last = 1;
    begin_as(world, ID_B);
    join(world, 0, 1);
    assert_int_equal(rollout_of(world, ID_A)->state, ROLLOUT_DONE);
    assert_string_equal(rollout_of(world, ID_A)->why, IN_PART_B);
    world_free(world);
}

/* Else a device that took the older image and was lost counts twice, or not at all. */
static void test_a_lost_one_goes(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 3;
    begin_as(world, ID_A);
    for (int i = 0; i < 30; i++) {
        struct rollout_joiner joiner = { .mac = mac_of(i), .came_back = true };
        rollout_join(world->rollout, &joiner, &world->now);
    }
    start(world);
    takes_it(world, 0);
    pass(world, world->order.reboot_ms);
    assert_int_equal(world->rollout->lost, 1);
    snprintf(world->order.group, sizeof world->order.group, "upstairs");
    begin_as(world, ID_B);
    join(world, 0, 0);
    rollout_check(rollout_of(world, ID_A));
    assert_int_equal(rollout_of(world, ID_A)->lost, 1);
    world_free(world);
}

/* Else a full table refuses the very order that ends what fills it. */
static void test_what_gives_way_makes_room(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    char id[ANNOUNCE_ID_SIZE];
    for (unsigned i = 0; i < ROLLOUTS_MAX; i++) {
        snprintf(id, sizeof id, "%016x", i + 1);
        snprintf(world->order.target.type, sizeof world->order.target.type, "type%u", i);
        begin_as(world, id);
        join(world, 0, 0);
        start(world);
    }
    snprintf(world->order.target.type, sizeof world->order.target.type, "type7");
    snprintf(world->order.group, sizeof world->order.group, "upstairs");
    assert_null(rollouts_begin(world->rollouts, ID_A, &world->order, &world->now)); /* it ends none */
    assert_int_equal(rollout_of(world, "0000000000000008")->state, ROLLOUT_RUNNING);
    world->order.group[0] = '\0';
    begin_as(world, ID_B);
    assert_string_equal(world->rollout->supersedes, "0000000000000008");
    assert_null(rollouts_find(world->rollouts, slice_of("0000000000000008")));
    assert_true(world->forgotten == 1 && rollouts_count(world->rollouts) == ROLLOUTS_MAX);
    world_free(world);
}

/* Else an image that one rollout halted over goes on being given by another, which has not met the cause yet. */
static void test_a_halt_is_for_all_of_the_image(void **unused)
{
    (void)unused;
    struct world *world = world_with_older(2, 10);
    world->order.canary = 1;
    world->group_first = 20;
    world->group_last = 25;
    begin_as(world, ID_B);
    join(world, 20, 25);
    start(world);
    flashes_in_vain(world, 20);
    assert_int_equal(rollout_of(world, ID_B)->state, ROLLOUT_HALTED);
    const struct rollout *older = rollout_of(world, ID_A);
    assert_int_equal(older->state, ROLLOUT_HALTED);
    assert_string_equal(older->why, "rollout " ID_B " of the same image halted: canary 5ccf7f000014 failed: came back "
                                    "with the old build");
    world->rollout = rollout_of(world, ID_A);
    assert_int_equal(op_resume(world), STATUS_OK); /* an operator has seen why */
    assert_true(asks(world, 0));
    world_free(world);
}

/* Else one that is being gathered when the image proves bad begins to give it a moment later, or one that was paused
 * does so when it is resumed, and nobody has read why the other halted; or one that knows another form of the build. */
static void test_a_halt_is_for_those_that_do_not_trigger(void **unused)
{
    enum { PLANNED, PAUSED, OTHER_FORM, SAME_BUILD, WAYS };
    (void)unused;
    for (int way = 0; way < WAYS; way++) {
        struct world *world = world_with_older(2, 10);
        struct rollout_target *target = &world->order.target;
        rollout_of(world, ID_A)->order.max_failures = 0;
        rollout_of(world, ID_A)->order.target.run_md5_count = 1;
        world->group_first = 20;
        world->group_last = 25;
        if (way == OTHER_FORM) { /* it was compressed, too, when this was ordered */
            target->image_count = 2;
            target->md5[0][0] ^= 1;
            memcpy(target->md5[1], target_md5, sizeof target_md5);
        } else if (way == SAME_BUILD) {
            target->run_md5_count = 1;
            target->md5[0][0] ^= 1;
        }
        begin_as(world, ID_B);
        join(world, 20, 25);
        if (way != PLANNED) {
            start(world);
        }
        if (way == PAUSED) {
            (void)op_pause(world);
        }
        size_t told = times_told(world, 20) + times_told(world, 21);
        world->rollout = rollout_of(world, ID_A);
        flashes_in_vain(world, 0);
        flashes_in_vain(world, 1);
        assert_string_equal(word_of(world), "halted");
        world->rollout = rollout_of(world, ID_B);
        assert_string_equal(word_of(world), "halted");
        assert_non_null(strstr(world->rollout->why, "rollout " ID_A " of the same image halted: "));
        if (way == PLANNED) {
            start(world);
        }
        assert_string_equal(word_of(world), "halted");
        assert_int_equal(times_told(world, 20) + times_told(world, 21), told);
        assert_int_equal(op_resume(world), STATUS_OK);
        assert_string_equal(word_of(world), "running");
        assert_true(times_told(world, 20) > 0);
        world_free(world);
    }
}

/* Another image of the type is another story. */
static void test_a_halt_is_for_the_image_alone(void **unused)
{
    (void)unused;
    struct world *world = world_with_older(2, 10);
    world->order.canary = 1;
    world->order.target.md5[0][0] ^= 1;
    world->group_first = 20;
    world->group_last = 25;
    begin_as(world, ID_B);
    join(world, 20, 25);
    start(world);
    pass(world, 1000);
    broker_says(world, 20, true);
    pass(world, 60000);
    assert_int_equal(rollout_of(world, ID_B)->state, ROLLOUT_HALTED);
    assert_int_equal(rollout_of(world, ID_A)->state, ROLLOUT_RUNNING);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_say_so),
        cmocka_unit_test(test_none_is_told_of_the_older_any_more),
        cmocka_unit_test(test_not_before_they_join_either),
        cmocka_unit_test(test_they_go_some_at_a_time),
        cmocka_unit_test(test_the_type_is_not_told),
        cmocka_unit_test(test_nothing_is_left),
        cmocka_unit_test(test_the_types_word_is_left),
        cmocka_unit_test(test_a_lost_one_goes),
        cmocka_unit_test(test_what_gives_way_makes_room),
        cmocka_unit_test(test_a_halt_is_for_all_of_the_image),
        cmocka_unit_test(test_a_halt_is_for_those_that_do_not_trigger),
        cmocka_unit_test(test_a_halt_is_for_the_image_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
