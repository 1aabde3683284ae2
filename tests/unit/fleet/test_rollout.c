/* A rollout's own states: canaries, when it halts and when not, what an operator may say, and how it tells all at once.
 */
#include "tests/unit/fleet/rollout_fixture.h"

/* --- canaries ------------------------------------------------------------------------------------------------------
 */

static struct world *world_with_canaries(unsigned canary, int devices)
{
    struct world *world = world_new();
    world->order.in_flight = 10;
    world->order.canary = canary;
    set_going(world, devices);
    assert_string_equal(word_of(world), "canary");
    return world;
}

/* Else the whole fleet gets what nobody has tried. */
static void test_canaries_first(void **unused)
{
    (void)unused;
    struct world *world = world_with_canaries(2, 6);
    assert_int_equal(world->told_count, 2);
    assert_false(asks(world, 4));
    assert_true(member_of(world, 0).canary && member_of(world, 1).canary && !member_of(world, 2).canary);
    updates(world, 0);
    assert_string_equal(word_of(world), "canary");
    assert_int_equal(world->told_count, 2);
    updates(world, 1);
    assert_string_equal(word_of(world), "running");
    assert_int_equal(world->told_count, 6);
    assert_int_equal(world->rollout->canaries_confirmed, 2);
    world_free(world);
}

/* Else two of sites in one house are tried, and none elsewhere. */
static void test_canaries_of_several_sites(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.canary = 2;
    begin_as(world, ROLLOUT_ID);
    for (int i = 0; i < 6; i++) {
        join_at(world, i, i < 4);
    }
    start(world);
    assert_true(member_of(world, 0).canary && member_of(world, 4).canary);
    world_free(world);
}

/* One canary is enough to halt: no threshold saves an image that the first to take it did not survive. */
static void test_a_canary_fails(void **unused)
{
    (void)unused;
    struct world *world = world_with_canaries(1, 30);
    flashes_in_vain(world, 0);
    assert_string_equal(word_of(world), "halted");
    assert_string_equal(world->rollout->why, "canary 5ccf7f000000 failed: came back with the old build");
    assert_false(asks(world, 5));
    assert_int_equal(op_resume(world), STATUS_OK);
    assert_false(member_of(world, 0).canary);
    assert_string_equal(word_of(world), "running"); /* no other is under way */
    world_free(world);
}

/* Else who resumes after a canary failed sees others take its place, and the next of them halts it again. */
static void test_resume_needs_those_that_are_left(void **unused)
{
    (void)unused;
    struct world *world = world_with_canaries(3, 30);
    flashes_in_vain(world, 0);
    assert_string_equal(word_of(world), "halted");
    assert_int_equal(op_resume(world), STATUS_OK);
    for (int i = 0; i < 3; i++) { /* taken back, and told anew */
        no_room(world, i);
    }
    pass(world, ROLLOUT_BUSY_MS);
    assert_string_equal(word_of(world), "canary");
    assert_int_equal(world->rollout->canaries, 2);
    updates(world, 1);
    assert_string_equal(word_of(world), "canary");
    for (int i = 3; i < 30; i++) {
        assert_int_equal(times_told(world, i), 0);
    }
    updates(world, 2);
    assert_string_equal(word_of(world), "running");
    world_free(world);
}

/* Else a whole fleet that cannot take the image is asked one by one, as canaries, and it ends as if all were well. */
static void test_canaries_that_are_refused(void **unused)
{
    (void)unused;
    struct world *world = world_with_canaries(2, 30);
    for (int i = 0; i < 2; i++) {
        is_withheld(world, i, "loop-guard: sent whole 3 times");
        assert_false(member_of(world, i).canary);
        assert_int_equal(world->rollout->canaries, 2);
        assert_string_equal(word_of(world), "canary");
    }
    is_withheld(world, 2, "loop-guard: sent whole 3 times");
    assert_string_equal(word_of(world), "halted");
    assert_string_equal(world->rollout->why,
                        "3 canaries were refused, 2 were asked for; the last: loop-guard: sent whole 3 times");
    assert_int_equal(op_resume(world), STATUS_OK);
    assert_string_equal(word_of(world), "canary");
    updates(world, 3);
    assert_string_equal(word_of(world), "running");
    world_free(world);
}

static void test_a_canary_is_silent(void **unused)
{
    (void)unused;
    struct world *world = world_with_canaries(1, 30);
    broker_says(world, 0, true);
    pass(world, 60000);
    assert_string_equal(word_of(world), "halted");
    assert_string_equal(world->rollout->why, "canary 5ccf7f000000 is silent: was told, and has not asked");
    assert_false(asks(world, 0)); /* it was asleep; and what is halted stays so until somebody looks */
    assert_string_equal(word_of(world), "halted");
    world_free(world);
}

/* Else an image is let go by a canary that ran it before, or never took it. */
static void test_a_canary_is_none(void **unused)
{
    (void)unused;
    struct world *world = world_with_canaries(2, 4);
    runs_it(world, 0);
    is_withheld(world, 1, "wrong-chip");
    assert_string_equal(word_of(world), "canary");
    assert_int_equal(world->told_count, 4);
    updates(world, 2);
    assert_string_equal(word_of(world), "canary");
    flashes_in_vain(world, 3);
    assert_string_equal(word_of(world), "halted");
    world_free(world);
}

/* A canary that is cut is tried again: it is the network's fault, twice. */
static void test_a_canary_is_cut(void **unused)
{
    (void)unused;
    struct world *world = world_with_canaries(1, 3);
    is_cut(world, 0);
    assert_string_equal(word_of(world), "canary");
    pass(world, ROLLOUT_RETRY_MS);
    assert_int_equal(world->told_count, 2);
    assert_int_equal(last_told(world)->device, 0);
    updates(world, 0);
    assert_string_equal(word_of(world), "running");
    world_free(world);
}

/* A canary that was confirmed, and then went back. */
static void test_a_canary_rolls_back(void **unused)
{
    (void)unused;
    struct world *world = world_with_canaries(2, 6);
    updates(world, 0);
    fails(world, 0);
    assert_string_equal(word_of(world), "halted");
    assert_int_equal(world->rollout->canaries_confirmed, 0);
    world_free(world);
}

/* --- halting ------------------------------------------------------------------------------------------------------ */

/* Of `devices` the first `failing` have failed, one after the other. */
static struct world *world_of_failures(int devices, unsigned max_failures, int failing)
{
    struct world *world = world_new();
    world->order.max_failures = max_failures;
    world->order.in_flight = 1;
    set_going(world, devices);
    for (int i = 0; i < failing; i++) {
        assert_string_equal(word_of(world), "running");
        flashes_in_vain(world, i);
    }
    return world;
}

static const struct {
    const char *name;
    int devices;
    unsigned max_failures;
    int failing;
    const char *then;
} thresholds[] = {
    { "one alone never halts", 30, 0, 1, "running" },
    { "two do, where none may fail", 30, 0, 2, "halted" },
    { "a fifth of twenty is not more than a fifth", 30, 20, 4, "running" },
    { "a fifth of twenty and one is", 30, 20, 5, "halted" },
    { "a small fleet is its own sample", 10, 20, 2, "running" },
    { "a small fleet is its own sample, and halts", 10, 20, 3, "halted" },
    { "all may fail", 30, 100, 29, "running" },
};

/* Else it halts over nothing, or flashes on while devices die. */
static void test_thresholds(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof thresholds / sizeof thresholds[0]; i++) {
        struct world *world =
            world_of_failures(thresholds[i].devices, thresholds[i].max_failures, thresholds[i].failing);
        if (strcmp(word_of(world), thresholds[i].then) != 0) {
            fail_msg("%s: it is %s", thresholds[i].name, word_of(world));
        }
        world_free(world);
    }
}

/* Else a long rollout halts at its fifth failure, or a late one never: the share is of those finished. */
static void test_the_share_is_of_those_finished(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.max_failures = 10;
    set_going(world, 200);
    for (int i = 0; i < 90; i++) {
        updates(world, i);
    }
    for (int i = 90; i < 100; i++) { /* ten of a hundred */
        flashes_in_vain(world, i);
        assert_string_equal(word_of(world), "running");
    }
    flashes_in_vain(world, 100);
    assert_string_equal(word_of(world), "halted");
    assert_non_null(strstr(world->rollout->why,
                           "11 failed of 101 finished; the limit is 10 % of at least 20; the last: "
                           "5ccf7f000064, came back with the old build"));
    world_free(world);
}

/* Else devices go on being told, or served, after the halt. */
static void test_after_a_halt(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.max_failures = 0;
    world->order.in_flight = 4;
    set_going(world, 30);
    takes_it(world, 0);
    takes_it(world, 1);
    assert_true(asks(world, 2));
    begins(world, 2);
    fails(world, 0);
    size_t told = world->told_count;
    fails(world, 1);
    assert_string_equal(word_of(world), "halted");
    assert_int_equal(world->withdrawals, 1);
    assert_false(asks(world, 3)); /* was told before */
    assert_false(asks(world, 29));
    ends(world, 2, true, NULL); /* what is under way ends */
    runs_it(world, 2);
    pass(world, 600000);
    assert_int_equal(world->told_count, told);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_CONFIRMED], 1);
    world_free(world);
}

/* Else devices long gone hold the few slots there are, for minutes each, while others wait. */
static void test_those_heard_of_lately_first(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 2;
    begin_as(world, ROLLOUT_ID);
    for (int i = 0; i < 8; i++) { /* 0 to 3 are gone: two at the site of the others, two at their own */
        struct rollout_joiner joiner = { .mac = mac_of(i), .site = i == 2 || i == 3 ? (uint64_t)i : 9, .stale = i < 4 };
        rollout_join(world->rollout, &joiner, &world->now);
    }
    start(world);
    for (int i = 4; i < 7; i++) {
        assert_int_equal(times_told(world, i - 4), 0);
        updates(world, i);
    }
    assert_int_equal(times_told(world, 7), 1);
    updates(world, 7);
    size_t told = 0;
    for (int i = 0; i < 4; i++) {
        told += times_told(world, i);
    }
    assert_int_equal(told, 2); /* now it is their turn */
    world_free(world);
}

/* Else one resume is not enough, or the next failure halts at once. */
static void test_resume_forgives(void **unused)
{
    (void)unused;
    struct world *world = world_of_failures(30, 0, 2);
    assert_string_equal(word_of(world), "halted");
    assert_int_equal(op_resume(world), STATUS_OK);
    assert_string_equal(word_of(world), "running");
    flashes_in_vain(world, 2);
    assert_string_equal(word_of(world), "running");
    runs_it(world, 0); /* a forgiven one, after all */
    flashes_in_vain(world, 3);
    assert_string_equal(word_of(world), "halted");
    assert_int_equal(world->rollout->failures, 4);
    world_free(world);
}

/* Else who pauses, looks at something else and resumes gives a bad image to others, and never hears that it is one. */
static void test_failures_during_a_pause(void **unused)
{
    (void)unused;
    struct world *world = world_with_canaries(2, 30);
    takes_it(world, 0);
    takes_it(world, 1);
    assert_int_equal(op_pause(world), STATUS_OK);
    fails(world, 0);
    fails(world, 1);
    assert_string_equal(word_of(world), "paused");
    assert_int_equal(op_resume(world), STATUS_OK);
    assert_string_equal(word_of(world), "halted");
    assert_non_null(strstr(world->rollout->why, "failed: came back with the old build"));
    assert_int_equal(world->told_count, 2);
    assert_int_equal(op_resume(world), STATUS_OK); /* now they were seen */
    assert_string_equal(word_of(world), "running");
    world_free(world);

    world = world_of_failures(30, 0, 1);
    takes_it(world, 1);
    assert_int_equal(op_pause(world), STATUS_OK);
    fails(world, 1);
    assert_int_equal(op_resume(world), STATUS_OK);
    assert_string_equal(word_of(world), "halted");
    assert_int_equal(op_resume(world), STATUS_OK);
    assert_string_equal(word_of(world), "running");
    world_free(world);
}

/* Nor is it forgiven by who puts its file back. */
static void test_failures_while_its_file_is_gone(void **unused)
{
    (void)unused;
    struct world *world = world_with_canaries(2, 30);
    takes_it(world, 0);
    rollout_image_found(world->rollout, false, &world->now);
    fails(world, 0);
    rollout_image_found(world->rollout, true, &world->now);
    assert_int_equal(op_resume(world), STATUS_OK);
    assert_string_equal(word_of(world), "halted");
    assert_string_equal(world->rollout->why, "canary 5ccf7f000000 failed: came back with the old build");
    assert_int_equal(op_resume(world), STATUS_OK);
    assert_string_equal(word_of(world), "canary");
    world_free(world);
}

/* Else a device that needed its second boot counts as broken. */
static void test_a_failure_that_was_none(void **unused)
{
    (void)unused;
    struct world *world = world_of_failures(30, 0, 1);
    runs_it(world, 0);
    assert_string_equal(state_of(world, 0), "confirmed");
    assert_int_equal(world->rollout->failures, 0);
    flashes_in_vain(world, 1);
    assert_string_equal(word_of(world), "running");
    world_free(world);
}

static struct world *world_of_lost(int count, bool came_back)
{
    struct world *world = world_new();
    world->order.max_failures = 0;
    world->order.in_flight = 5;
    begin_as(world, ROLLOUT_ID);
    for (int i = 0; i < 30; i++) {
        struct rollout_joiner joiner = { .mac = mac_of(i), .site = 1, .came_back = came_back };
        rollout_join(world->rollout, &joiner, &world->now);
    }
    start(world);
    for (int i = 0; i < count; i++) {
        takes_it(world, i);
    }
    pass(world, 120000);
    return world;
}

/* A bricked device says nothing. Those that always came back, and do not now, are what a bad image looks like. */
static void test_lost_devices_halt(void **unused)
{
    (void)unused;
    struct world *world = world_of_lost(2, true);
    assert_string_equal(word_of(world), "halted");
    assert_non_null(strstr(world->rollout->why, "2 of 2 devices that have come back from updates before"));
    assert_int_equal(world->rollout->failures, 0);
    runs_it(world, 0);
    assert_int_equal(world->rollout->lost, 1);
    assert_int_equal(op_resume(world), STATUS_OK);
    assert_string_equal(word_of(world), "running");
    runs_it(world, 1);
    assert_int_equal(world->rollout->lost, 1); /* that one was forgiven */
    world_free(world);

    world = world_of_lost(1, true);
    assert_string_equal(word_of(world), "running");
    assert_int_equal(world->rollout->lost, 1);
    runs_it(world, 0);
    assert_int_equal(world->rollout->lost, 0);
    world_free(world);

    world = world_of_lost(5, false); /* who never came back before sleeps, perhaps */
    assert_string_equal(word_of(world), "running");
    world_free(world);
}

/* --- an operator ---------------------------------------------------------------------------------------------------
 */

/* Else what an operator may say depends on what nobody told. */
static void test_words_that_are_refused(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    begin(world, 2);
    assert_int_equal(op_pause(world), STATUS_INVALID); /* planned */
    assert_int_equal(op_resume(world), STATUS_INVALID);
    start(world);
    assert_int_equal(op_resume(world), STATUS_INVALID);
    assert_int_equal(op_pause(world), STATUS_OK);
    assert_int_equal(op_pause(world), STATUS_INVALID);
    assert_int_equal(op_abort(world), STATUS_OK);
    assert_int_equal(op_abort(world), STATUS_INVALID);
    assert_int_equal(op_resume(world), STATUS_INVALID);
    world_free(world);
}

/* Else a command that was taken back is lost, or comes twice under two names. */
static void test_pause_repeats_the_same_command(void **unused)
{
    (void)unused;
    for (int late = 0; late < 2; late++) { /* the broker's side answers after the pause, or after the resume */
        struct world *world = world_new();
        set_going(world, 2);
        struct told first = *last_told(world);
        assert_int_equal(op_pause(world), STATUS_OK);
        assert_int_equal(world->withdrawals, 1);
        if (!late) {
            broker_says(world, 0, false);
            assert_string_equal(state_of(world, 0), "queued");
        }
        assert_false(late ? false : asks(world, 1));
        assert_int_equal(op_resume(world), STATUS_OK);
        if (late) {
            broker_says(world, 0, false);
        }
        assert_string_equal(word_of(world), "running");
        updates(world, 1);
        assert_int_equal(times_told(world, 0), 2);
        assert_int_equal(last_told(world)->attempt, first.attempt);
        assert_string_equal(last_told(world)->id, first.id);
        assert_int_equal(world->rollout->commands_failed, 0);
        world_free(world);
    }
}

/* Else one that was paused over lunch is aborted a second after it goes on, where the broker needs two. */
static void test_the_brokers_patience_after_a_pause(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    set_going(world, 2);
    assert_int_equal(op_pause(world), STATUS_OK);
    broker_says(world, 0, false); /* taken back */
    pass(world, world->order.broker_ms);
    assert_int_equal(op_resume(world), STATUS_OK);
    pass(world, world->order.broker_ms - 1);
    assert_string_equal(word_of(world), "running");
    pass(world, 1);
    assert_string_equal(word_of(world), "aborted");
    world_free(world);
}

/* Else a device that asks during a pause is served, or forgotten. */
static void test_paused(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    struct rollout_permission permission;
    struct mac mac = mac_of(0);
    set_going(world, 2);
    broker_says(world, 0, true);
    (void)op_pause(world);
    rollout_permit(world->rollout, &mac, 0, &permission);
    assert_false(permission.granted);
    assert_int_equal(permission.reason, REASON_PAUSED);
    assert_false(asks(world, 0));
    assert_string_equal(state_of(world, 0), "queued");
    pass(world, ROLLOUT_RETRY_MS);
    (void)op_resume(world);
    assert_int_equal(world->told_count, 2);
    world_free(world);
}

/* Else what was stopped for a reason goes out to all a month later. */
static void test_nobody_came_back_to_it(void **unused)
{
    (void)unused;
    for (int halted = 0; halted < 2; halted++) {
        struct world *world = halted ? world_of_failures(30, 0, 2) : world_new();
        if (!halted) {
            set_going(world, 2);
            (void)op_pause(world);
        }
        pass(world, ROLLOUT_PAUSE_MS - 1);
        assert_false(rollout_is_over(world->rollout));
        pass(world, 1);
        assert_string_equal(word_of(world), "aborted");
        assert_ptr_equal(rollouts_holding(world->rollouts, slice_of("porch"), false, target_md5), world->rollout);
        world_free(world);
    }
}

/* --- one command for all --------------------------------------------------------------------------------------------
 */

static struct world *world_of_type(int devices, bool device_topic)
{
    struct world *world = world_new();
    world->order.in_flight = 4;
    begin(world, devices);
    rollout_start(world->rollout, true, device_topic, &world->now);
    return world;
}

/* Else a small fleet is told one by one, or a window is overrun by one command to all. */
static void test_all_fit_the_window(void **unused)
{
    (void)unused;
    struct world *world = world_of_type(4, true);
    assert_int_equal(world->told_count, 1);
    assert_int_equal(world->told[0].device, TO_THE_TYPE);
    assert_int_equal(world->rollout->in_flight, 4);
    broker_says(world, TO_THE_TYPE, true);
    updates(world, 0);
    updates(world, 1);
    pass(world, 60000);
    assert_string_equal(state_of(world, 2), "silent");
    assert_string_equal(word_of(world), "done");
    world_free(world);

    world = world_of_type(5, true);
    assert_int_equal(world->told_count, 4);
    assert_int_equal(times_told(world, TO_THE_TYPE), 0);
    world_free(world);
}

static const struct {
    const char *name;
    unsigned canary, percent, site;
    const char *group;
    bool away;
} partial[] = {
    { "canaries are asked for", 1, 100, 0, "", false },
    { "some are meant", 0, 99, 0, "", false },
    { "a group is meant", 0, 100, 0, "upstairs", false },
    { "a site has a cap", 0, 100, 1, "", false },
    { "one is away", 0, 100, 0, "", true },
};

/* Else one command reaches who is not meant. */
static void test_not_all_at_once(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof partial / sizeof partial[0]; i++) {
        struct world *world = world_new();
        world->order.in_flight = 4;
        world->order.canary = partial[i].canary;
        world->order.percent = partial[i].percent;
        world->order.site_in_flight = partial[i].site;
        snprintf(world->order.group, sizeof world->order.group, "%s", partial[i].group);
        begin_as(world, ROLLOUT_ID);
        for (int k = 0; k < 3; k++) {
            struct rollout_joiner joiner = { .mac = mac_of(k), .away = partial[i].away && k == 2 };
            rollout_join(world->rollout, &joiner, &world->now);
        }
        rollout_start(world->rollout, true, true, &world->now);
        if (times_told(world, TO_THE_TYPE) > 0) {
            fail_msg("told all, though %s", partial[i].name);
        }
        world_free(world);
    }
}

/* Else a fleet that was never seen gets nothing, or all of it at the same moment. */
static void test_strangers(void **unused)
{
    (void)unused;
    struct world *world = world_of_type(0, true);
    assert_int_equal(world->told_count, 1);
    assert_int_equal(world->rollout->order.window_s, ROLLOUT_UNKNOWN_WINDOW_S);
    broker_says(world, TO_THE_TYPE, true);
    pass(world, 80000);
    assert_string_equal(word_of(world), "running");
    updates(world, 1);
    updates(world, 2);
    pass(world, (ROLLOUT_QUIET_MS + ROLLOUT_UNKNOWN_WINDOW_S * 1000) - 1);
    assert_string_equal(word_of(world), "running");
    pass(world, 1);
    assert_string_equal(word_of(world), "done");
    assert_int_equal(world->rollout->members, 2);
    assert_int_equal(world->told_count, 1); /* who came was not told again */
    world_free(world);

    world = world_of_type(0, true);
    broker_says(world, TO_THE_TYPE, true);
    pass(world, 89999);
    assert_string_equal(word_of(world), "running");
    pass(world, 1);
    assert_string_equal(word_of(world), "done");
    world_free(world);
}

/* Else a fleet that asks every few seconds is never quiet, and its rollout never over. */
static void test_strangers_who_go_on_asking(void **unused)
{
    (void)unused;
    struct world *world = world_of_type(0, true);
    broker_says(world, TO_THE_TYPE, true);
    updates(world, 1);
    updates(world, 2);
    for (int i = 0; i < (ROLLOUT_QUIET_MS / 1000 + ROLLOUT_UNKNOWN_WINDOW_S) / 5; i++) {
        assert_string_equal(word_of(world), "running");
        pass(world, 5000);
        runs_it(world, 1);
    }
    assert_string_equal(word_of(world), "done");
    world_free(world);
}

/* Else a command to all that a pause took back never goes out. */
static void test_pause_repeats_the_command_to_all(void **unused)
{
    (void)unused;
    for (int devices = 0; devices <= 3; devices += 3) {
        struct world *world = world_of_type(devices, true);
        struct told first = *last_told(world);
        (void)op_pause(world);
        broker_says(world, TO_THE_TYPE, false);
        (void)op_resume(world);
        assert_int_equal(world->told_count, 2);
        assert_int_equal(last_told(world)->device, TO_THE_TYPE);
        assert_string_equal(last_told(world)->id, first.id);
        assert_int_equal(world->rollout->in_flight, devices);
        broker_says(world, TO_THE_TYPE, true);
        (void)op_pause(world);
        (void)op_resume(world);
        pass(world, 1000);
        assert_int_equal(times_told(world, TO_THE_TYPE), 2); /* what the broker had is not repeated */
        world_free(world);
    }
}

/* Else firmware that listens to its type's topic alone is updated in part, or by a storm of commands. */
static void test_no_topic_of_their_own(void **unused)
{
    (void)unused;
    struct world *world = world_of_type(6, false);
    assert_int_equal(world->told_count, 1);
    broker_says(world, TO_THE_TYPE, true);
    for (int i = 0; i < 4; i++) {
        takes_it(world, i);
    }
    assert_false(asks(world, 4));
    for (int i = 0; i < 4; i++) {
        runs_it(world, i);
    }
    pass(world, 1000);
    assert_int_equal(world->told_count, 1);
    pass(world, 59000); /* all had the time to ask: the rest is called again */
    assert_int_equal(world->told_count, 2);
    assert_int_equal(world->rollout->broadcasts, 2);
    assert_string_not_equal(world->told[0].id, world->told[1].id);
    broker_says(world, TO_THE_TYPE, true);
    updates(world, 4);
    updates(world, 5);
    assert_string_equal(word_of(world), "done");
    world_free(world);
}

/* Else a rollout that nobody can be told of stands for ever, or is over before anyone asked. */
static void test_no_topic_at_all(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 2;
    begin(world, 3);
    rollout_start(world->rollout, false, false, &world->now);
    assert_int_equal(world->told_count, 0);
    updates(world, 2);
    pass(world, ROLLOUT_STAND_MS - 1);
    assert_string_equal(word_of(world), "running");
    pass(world, 1);
    assert_string_equal(word_of(world), "done");
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_SILENT], 2);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canaries_first),
        cmocka_unit_test(test_canaries_of_several_sites),
        cmocka_unit_test(test_a_canary_fails),
        cmocka_unit_test(test_resume_needs_those_that_are_left),
        cmocka_unit_test(test_canaries_that_are_refused),
        cmocka_unit_test(test_a_canary_is_silent),
        cmocka_unit_test(test_a_canary_is_none),
        cmocka_unit_test(test_a_canary_is_cut),
        cmocka_unit_test(test_a_canary_rolls_back),
        cmocka_unit_test(test_thresholds),
        cmocka_unit_test(test_the_share_is_of_those_finished),
        cmocka_unit_test(test_after_a_halt),
        cmocka_unit_test(test_those_heard_of_lately_first),
        cmocka_unit_test(test_resume_forgives),
        cmocka_unit_test(test_failures_during_a_pause),
        cmocka_unit_test(test_failures_while_its_file_is_gone),
        cmocka_unit_test(test_a_failure_that_was_none),
        cmocka_unit_test(test_lost_devices_halt),
        cmocka_unit_test(test_words_that_are_refused),
        cmocka_unit_test(test_pause_repeats_the_same_command),
        cmocka_unit_test(test_the_brokers_patience_after_a_pause),
        cmocka_unit_test(test_paused),
        cmocka_unit_test(test_nobody_came_back_to_it),
        cmocka_unit_test(test_all_fit_the_window),
        cmocka_unit_test(test_not_all_at_once),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_strangers_who_go_on_asking),
        cmocka_unit_test(test_pause_repeats_the_command_to_all),
        cmocka_unit_test(test_no_topic_of_their_own),
        cmocka_unit_test(test_no_topic_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
