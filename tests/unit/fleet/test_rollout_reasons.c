/* Why devices were skipped, counted of all of them: an operator who left out a million reads why, though a thousand are
 * listed. rollout_check holds the sum against the number of those that are skipped, after every fact.
 */
#include "tests/unit/fleet/rollout_fixture.h"

static size_t skipped_for(const struct world *world, const char *word)
{
    for (size_t i = 0; i < ROLLOUT_REASONS_MAX; i++) {
        if (strcmp(world->rollout->skipped_for.all[i].word, word) == 0) {
            return world->rollout->skipped_for.all[i].count;
        }
    }
    return 0;
}

static void leave_out(struct world *world, int first, int count, const char *why)
{
    for (int i = first; i < first + count; i++) {
        struct rollout_joiner joiner = { .mac = mac_of(i), .skip_why = why };
        rollout_join(world->rollout, &joiner, &world->now);
    }
}

static void test_all_are_counted(void **state)
{
    struct world *world = world_new();
    (void)state;
    begin(world, 2000);
    leave_out(world, 2000, 3000, "runs it already");
    leave_out(world, 5000, 3, "wrong-chip: for an ESP32");
    leave_out(world, 5003, 4, "wrong-chip: for an ESP32-C3");
    start(world);
    is_withheld(world, 7, "pinned: 1.0");
    assert_int_equal(skipped_for(world, "runs it already"), 3000);
    assert_int_equal(skipped_for(world, "wrong-chip"), 7);
    assert_int_equal(skipped_for(world, "pinned"), 1);
    op_abort(world);
    assert_int_equal(skipped_for(world, "not told"), 2000 - 1 - 1); /* one is pinned, one under way */
    assert_int_equal(skipped_for(world, "runs it already"), 3000);
    world_free(world);
}

static void test_who_is_taken_in_after_all_counts_no_more(void **state)
{
    struct world *world = world_new();
    (void)state;
    set_going(world, 3);
    is_withheld(world, 2, "blocked");
    assert_int_equal(skipped_for(world, "blocked"), 1);
    world->order.in_flight = 3;
    begins(world, 2); /* it had been answered before it was blocked */
    assert_int_equal(skipped_for(world, "blocked"), world->rollout->devices[ROLLOUT_DEVICE_SKIPPED]);
    world_free(world);
}

static void test_more_reasons_than_there_is_room_for(void **state)
{
    struct world *world = world_new();
    char why[40];
    (void)state;
    set_going(world, 40);
    for (int i = 1; i < 40; i++) {
        snprintf(why, sizeof why, "reason-%d: of it", i);
        is_withheld(world, i, why);
    }
    assert_int_equal(skipped_for(world, "reason-1"), 1);
    assert_int_equal(skipped_for(world, ROLLOUT_REASON_OTHER), 39 - (ROLLOUT_REASONS_MAX - 1));
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_are_counted),
        cmocka_unit_test(test_who_is_taken_in_after_all_counts_no_more),
        cmocka_unit_test(test_more_reasons_than_there_is_room_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
