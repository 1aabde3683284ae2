/* What each fact does to a device of a rollout in each state. (test_rollout_slots.c: who is told when;
 * test_rollout_end.c: what is left.) */
#include "tests/unit/fleet/rollout_fixture.h"

/* --- facts and states ----------------------------------------------------------------------------------------------
 */

/* A device brought into a state, with a slot to spare, and a store that keeps everything else as it is. */
static struct world *world_with(enum rollout_device_state state)
{
    struct world *world = world_new();
    world->order.in_flight = 3;
    world->order.max_failures = 100;
    begin(world, 3);
    world->store_lags = state == ROLLOUT_DEVICE_QUEUED;
    rollout_start(world->rollout, false, true, &world->now);
    world->store_lags = true;
    switch (state) {
    case ROLLOUT_DEVICE_TRIGGERED:
        break;
    case ROLLOUT_DEVICE_DOWNLOADING:
        assert_true(asks(world, 0));
        begins(world, 0);
        break;
    case ROLLOUT_DEVICE_FLASHED:
        takes_it(world, 0);
        break;
    case ROLLOUT_DEVICE_CONFIRMED:
        updates(world, 0);
        break;
    case ROLLOUT_DEVICE_FAILED:
        flashes_in_vain(world, 0);
        break;
    case ROLLOUT_DEVICE_SILENT:
        takes_it(world, 0);
        pass(world, 120000);
        break;
    case ROLLOUT_DEVICE_SKIPPED:
        is_withheld(world, 0, "wrong-chip");
        break;
    default:
        break;
    }
    assert_int_equal(member_of(world, 0).state, state);
    return world;
}

static void held(struct world *world)
{
    struct rollout_fact fact = fact_of(0);
    check_in(world, &fact);
}

static void served(struct world *world)
{
    struct rollout_fact fact = fact_of(0);
    fact.served = true;
    check_in(world, &fact);
}

static void runs(struct world *world)
{
    runs_it(world, 0);
}

static void failed(struct world *world)
{
    fails(world, 0);
}

static void withheld(struct world *world)
{
    is_withheld(world, 0, "pinned: 1.0");
}

static void begun(struct world *world)
{
    begins(world, 0);
}

static void whole(struct world *world)
{
    ends(world, 0, true, NULL);
}

static void cut(struct world *world)
{
    ends(world, 0, false, "cut at 50 %");
}

static void part(struct world *world)
{
    ends(world, 0, false, NULL);
}

static void reported(struct world *world)
{
    struct mac mac = mac_of(0);
    rollouts_reported_failure(world->rollouts, &mac, "it reported: flash", &world->now);
}

static void acknowledged(struct world *world)
{
    broker_says(world, 0, true);
}

static void refused(struct world *world)
{
    broker_says(world, 1, true);
    broker_says(world, 0, false);
}

static void late(struct world *world)
{
    broker_says(world, 0, true);
    pass(world, ROLLOUT_DOWNLOAD_MS);
}

#define Q ROLLOUT_DEVICE_QUEUED
#define T ROLLOUT_DEVICE_TRIGGERED
#define D ROLLOUT_DEVICE_DOWNLOADING
#define F ROLLOUT_DEVICE_FLASHED
#define C ROLLOUT_DEVICE_CONFIRMED
#define X ROLLOUT_DEVICE_FAILED
#define S ROLLOUT_DEVICE_SILENT
#define O ROLLOUT_DEVICE_SKIPPED

static const struct {
    const char *name;
    void (*happens)(struct world *world);
    enum rollout_device_state from[8], to[8];
} facts[] = {
    { "asks, and is held back", held, { Q, T, D, F, C, X, S, O }, { Q, Q, D, F, C, X, Q, O } },
    { "asks, and is served", served, { Q, T, D, F, C, X, S, O }, { T, T, D, F, C, X, S, T } },
    { "runs it", runs, { Q, T, D, F, C, X, S, O }, { O, O, C, C, C, C, C, O } },
    { "came back with the old build", failed, { Q, T, D, F, C, X, S, O }, { Q, Q, X, X, X, X, X, O } },
    { "will not get it", withheld, { Q, T, D, F, C, X, S, O }, { O, O, D, F, C, X, O, O } },
    { "begins", begun, { Q, T, D, F, C, X, S, O }, { D, D, D, D, C, X, S, D } },
    { "has all of it", whole, { Q, T, D, F, C, X, S, O }, { Q, T, F, F, C, X, S, O } },
    { "is cut", cut, { Q, T, D, F, C, X, S, O }, { Q, T, Q, F, C, X, S, O } },
    { "has a part of it", part, { Q, T, D, F, C, X, S, O }, { Q, T, D, F, C, X, S, O } },
    { "says that it failed", reported, { Q, T, D, F, C, X, S, O }, { Q, X, Q, X, C, X, S, O } },
    { "was told", acknowledged, { Q, T, D, F, C, X, S, O }, { Q, T, D, F, C, X, S, O } },
    { "could not be told", refused, { Q, T, D, F, C, X, S, O }, { Q, X, D, F, C, X, S, O } },
    { "is late", late, { Q, T, D, F, C, X, S, O }, { Q, S, S, S, C, X, S, O } },
};

/* Else a late, double or false word moves a device out of its state, and the account is wrong. */
static void test_each_fact_in_each_state(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        for (size_t k = 0; k < ROLLOUT_DEVICE_STATES; k++) {
            struct world *world = world_with(facts[i].from[k]);
            facts[i].happens(world);
            if (member_of(world, 0).state != facts[i].to[k]) {
                fail_msg("a device that is %s and %s becomes %s, not %s", rollout_device_word(facts[i].from[k]),
                         facts[i].name, state_of(world, 0), rollout_device_word(facts[i].to[k]));
            }
            rollout_check(world->rollout);
            world_free(world);
        }
    }
}

/* Else words in the store, the API and the code drift apart. */
static void test_words(void **unused)
{
    (void)unused;
    enum rollout_device_state device = ROLLOUT_DEVICE_STATES;
    for (unsigned i = 0; i < ROLLOUT_DEVICE_STATES; i++) {
        assert_true(rollout_device_from_word(slice_of(rollout_device_word((enum rollout_device_state)i)), &device));
        assert_int_equal(device, i);
    }
    assert_false(rollout_device_from_word(slice_of(""), &device));
}

/* --- transfers that break off, devices that do not come --------------------------------------------------------------
 */

/* Else the first cut is final, or it is tried for ever, or at once while the network is still down. */
static void test_three_cuts(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    set_going(world, 2);
    is_cut(world, 0);
    assert_string_equal(state_of(world, 0), "queued");
    assert_int_equal(last_told(world)->device, 1); /* the slot is the next one's meanwhile */
    updates(world, 1);
    pass(world, ROLLOUT_RETRY_MS - 1);
    assert_int_equal(times_told(world, 0), 1);
    pass(world, 1);
    assert_int_equal(times_told(world, 0), 2);
    is_cut(world, 0);
    pass(world, ROLLOUT_RETRY_MS);
    is_cut(world, 0);
    assert_string_equal(state_of(world, 0), "failed");
    assert_string_equal(member_of(world, 0).why, "cut at 50 %");
    assert_int_equal(world->rollout->failures, 1);
    world_free(world);
}

/* Else who slept through two commands fails at its first cut. */
static void test_commands_are_no_cuts(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    set_going(world, 1);
    for (int i = 0; i < 4; i++) {
        broker_says(world, 0, true);
        held(world);
        pass(world, ROLLOUT_RETRY_MS);
    }
    assert_int_equal(times_told(world, 0), 5);
    is_cut(world, 0);
    assert_string_equal(state_of(world, 0), "queued");
    world_free(world);
}

/* Else a device that asks and can never be served is told every five seconds for ever. */
static void test_commands_to_one_device_end(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 2;
    set_going(world, 2);
    broker_says(world, 1, true);
    for (int i = 0; i < 11; i++) {
        held(world);
        pass(world, ROLLOUT_RETRY_MS);
    }
    assert_int_equal(times_told(world, 0), ROLLOUT_COMMANDS_MAX);
    assert_string_equal(state_of(world, 0), "silent");
    takes_it(world, 0); /* and caught when it can be */
    world_free(world);
}

/* Else two devices with one MAC end each other's downloads. */
static void test_two_devices_with_one_mac(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    set_going(world, 2);
    assert_true(asks(world, 0));
    begins(world, 0);
    begins(world, 0);
    cut(world);
    assert_string_equal(state_of(world, 0), "downloading");
    whole(world);
    assert_string_equal(state_of(world, 0), "flashed");
    runs_it(world, 0);
    begins(world, 0);
    begins(world, 0);
    whole(world);
    assert_string_equal(state_of(world, 0), "confirmed");
    world_free(world);
}

/* Else a connection that hung on makes a cut of what its device has long taken whole. */
static void test_a_stale_connection(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    set_going(world, 2);
    assert_true(asks(world, 0));
    begins(world, 0);
    begins(world, 0);
    whole(world);
    cut(world);
    assert_string_equal(state_of(world, 0), "flashed");
    world_free(world);
}

/* Else a silent device keeps its slot, counts as failed, or is lost though it comes after all. */
static void test_silent_and_caught(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.window_s = 10;
    set_going(world, 2);
    broker_says(world, 0, true);
    pass(world, 69999);
    assert_string_equal(state_of(world, 0), "triggered");
    pass(world, 1);
    assert_string_equal(state_of(world, 0), "silent");
    assert_int_equal(world->rollout->failures, 0);
    assert_int_equal(last_told(world)->device, 1);
    struct rollout_fact fact = fact_of(0);
    check_in(world, &fact); /* no slot: it will be told */
    updates(world, 1);
    assert_int_equal(times_told(world, 0), 2);
    updates(world, 0);
    assert_string_equal(word_of(world), "done");
    world_free(world);
}

/* Else who took all of it, was silent, and comes back without it is served in the very check that proves his failure.
 */
static void test_silent_with_all_of_it(void **unused)
{
    (void)unused;
    struct world *world = world_with(ROLLOUT_DEVICE_SILENT);
    assert_false(may(world, 0));
    fails(world, 0);
    assert_string_equal(state_of(world, 0), "failed");
    world_free(world);

    world = world_with(ROLLOUT_DEVICE_SILENT);
    assert_false(asks(world, 0)); /* nothing is proved: then it has its chance again */
    assert_string_equal(state_of(world, 0), "queued");
    takes_it(world, 0);
    world_free(world);
}

/* Else a device that failed with this image before counts against the rollout that has not given it to anyone. */
static void test_failed_before(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    set_going(world, 2);
    struct rollout_fact fact = fact_of(0);
    fact.failed = "came back with the old build";
    fact.served = true;
    check_in(world, &fact);
    assert_string_equal(state_of(world, 0), "triggered");
    assert_int_equal(world->rollout->failures, 0);
    check_in(world, &fact);
    assert_string_equal(state_of(world, 0), "failed");
    world_free(world);
}

/* The deadline counts from the broker's word: what waits in its queue is nobody's silence. */
static void test_the_broker_takes_its_time(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    set_going(world, 2);
    world->rollout->acknowledged = 1; /* another's */
    pass(world, 3600000);
    assert_string_equal(state_of(world, 0), "triggered");
    broker_says(world, 0, true);
    pass(world, 60000);
    assert_string_equal(state_of(world, 0), "silent");
    pass(world, ROLLOUT_TELL_MS);
    assert_string_equal(state_of(world, 1), "failed");
    assert_int_equal(world->rollout->failures, 0); /* the broker's, not the image's */
    assert_string_equal(word_of(world), "done");
    world_free(world);
}

/* Else one download that broke off is a failure where the device says so, and three are for the others. */
static void test_a_cut_that_is_reported(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    struct mac mac = mac_of(0);
    set_going(world, 2);
    for (int i = 0; i < ROLLOUT_ATTEMPTS_MAX; i++) {
        assert_string_equal(state_of(world, 0), "triggered");
        assert_true(asks(world, 0));
        begins(world, 0);
        rollouts_reported_failure(world->rollouts, &mac, "it reported: closed halfway", &world->now);
        ends(world, 0, false, "cut at 50 %"); /* this end saw it later: the same */
        rollouts_reported_failure(world->rollouts, &mac, "it reported: closed halfway", &world->now);
        pass(world, ROLLOUT_RETRY_MS);
        no_room(world, 1); /* the other one waits */
        pass(world, ROLLOUT_BUSY_MS);
    }
    assert_string_equal(state_of(world, 0), "failed");
    assert_int_equal(world->rollout->failures, 1);
    world_free(world);
}

/* Else the slots stay empty at the end while those that were cut sit out their rest, though they ask. */
static void test_a_cut_one_that_asks(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 1;
    set_going(world, 2);
    is_cut(world, 0);
    assert_int_equal(last_told(world)->device, 1);
    held(world);
    updates(world, 1);
    assert_int_equal(times_told(world, 0), 2);
    world_free(world);
}

/* Else a broker's outage that outlasts the commands shuts the whole fleet out. */
static void test_an_untold_one_that_asks(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    world->order.in_flight = 2;
    set_going(world, 2);
    broker_says(world, 1, true);
    broker_says(world, 0, false);
    assert_string_equal(state_of(world, 0), "failed");
    assert_true(may(world, 0));
    updates(world, 0);
    assert_string_equal(state_of(world, 0), "confirmed");
    world_free(world);
}

/* Else who only hears commands, and was off when it was ordered, never gets it. */
static void test_a_silent_one_comes_online(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    struct mac mac = mac_of(0);
    world->order.in_flight = 2;
    set_going(world, 2);
    broker_says(world, 0, true);
    pass(world, world->order.timeout_ms);
    assert_string_equal(state_of(world, 0), "silent");
    rollouts_came_online(world->rollouts, &mac, &world->now);
    store_catches_up(world);
    assert_string_equal(state_of(world, 0), "triggered");
    assert_int_equal(times_told(world, 0), 2);
    rollouts_came_online(world->rollouts, &mac, &world->now); /* says it twice */
    assert_int_equal(times_told(world, 0), 2);
    world_free(world);
}

/* Else healthy devices whose file systems bear no version halt the rollout as lost. */
static void test_who_cannot_say_what_it_has(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    struct rollout_fact blind = fact_of(0);
    set_going(world, 2);
    takes_it(world, 0);
    blind.is_blind = true;
    blind.withheld = "loop-guard: sent whole once";
    for (int i = 0; i < 2; i++) {
        rollouts_checked_in(world->rollouts, &blind, &world->now);
        assert_string_equal(state_of(world, 0), "silent");
        assert_string_equal(member_of(world, 0).why,
                            "took all of it, and asks without a version: nobody can tell what it has");
    }
    assert_int_equal(world->rollout->lost, 0);
    world_free(world);
}

/* Else a device's own words make its failure one that nobody counts. */
static void test_a_failure_that_says_not_told(void **unused)
{
    (void)unused;
    struct world *world = world_new();
    struct mac mac = mac_of(0);
    struct rollout_permission permission;
    begin(world, 1);
    start(world);
    rollouts_told(world->rollout, &mac, STATUS_OK, "", &world->now);
    rollouts_reported_failure(world->rollouts, &mac, "not told: by its flash", &world->now);
    assert_int_equal(world->rollout->failures, 1);
    rollout_permit(world->rollout, &mac, 0, &permission);
    assert_true(rollout_is_over(world->rollout) || !permission.granted);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_fact_in_each_state),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_three_cuts),
        cmocka_unit_test(test_commands_are_no_cuts),
        cmocka_unit_test(test_commands_to_one_device_end),
        cmocka_unit_test(test_two_devices_with_one_mac),
        cmocka_unit_test(test_a_stale_connection),
        cmocka_unit_test(test_silent_and_caught),
        cmocka_unit_test(test_silent_with_all_of_it),
        cmocka_unit_test(test_failed_before),
        cmocka_unit_test(test_the_broker_takes_its_time),
        cmocka_unit_test(test_a_cut_that_is_reported),
        cmocka_unit_test(test_a_cut_one_that_asks),
        cmocka_unit_test(test_an_untold_one_that_asks),
        cmocka_unit_test(test_a_silent_one_comes_online),
        cmocka_unit_test(test_who_cannot_say_what_it_has),
        cmocka_unit_test(test_a_failure_that_says_not_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
