/* What each fact does to a device of a rollout in each state, who is told when, and what is left at the end. */
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
    enum rollout_state state = ROLLOUT_STATES;
    enum rollout_device_state device = ROLLOUT_DEVICE_STATES;
    for (unsigned i = 0; i < ROLLOUT_STATES; i++) {
        assert_true(rollout_state_from_word(slice_of(rollout_state_word((enum rollout_state)i)), &state));
        assert_int_equal(state, i);
    }
    for (unsigned i = 0; i < ROLLOUT_DEVICE_STATES; i++) {
        assert_true(rollout_device_from_word(slice_of(rollout_device_word((enum rollout_device_state)i)), &device));
        assert_int_equal(device, i);
    }
    assert_false(rollout_state_from_word(slice_of("queued"), &state));
    assert_false(rollout_device_from_word(slice_of(""), &device));
}

/* --- the window ----------------------------------------------------------------------------------------------------
 */

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

/* --- the end --------------------------------------------------------------------------------------------------------
 */

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

/* --- texts that look like the server's own ---------------------------------------------------------------------------
 */

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
        cmocka_unit_test(test_the_next_leaves_in_the_same_call),
        cmocka_unit_test(test_pollers_take_free_slots_only),
        cmocka_unit_test(test_nobody_is_told_before_it_is_written),
        cmocka_unit_test(test_sites_take_turns),
        cmocka_unit_test(test_the_cap_of_a_site),
        cmocka_unit_test(test_the_window_moves),
        cmocka_unit_test(test_three_cuts),
        cmocka_unit_test(test_commands_are_no_cuts),
        cmocka_unit_test(test_commands_to_one_device_end),
        cmocka_unit_test(test_two_devices_with_one_mac),
        cmocka_unit_test(test_a_stale_connection),
        cmocka_unit_test(test_silent_and_caught),
        cmocka_unit_test(test_silent_with_all_of_it),
        cmocka_unit_test(test_failed_before),
        cmocka_unit_test(test_the_broker_takes_its_time),
        cmocka_unit_test(test_nobody_could_be_told),
        cmocka_unit_test(test_no_room_for_a_command),
        cmocka_unit_test(test_no_room_for_the_command_to_all),
        cmocka_unit_test(test_an_endless_download_narrows_the_window),
        cmocka_unit_test(test_served_by_an_operators_word),
        cmocka_unit_test(test_a_failing_image_narrows_the_window),
        cmocka_unit_test(test_few_failures_leave_the_window),
        cmocka_unit_test(test_done),
        cmocka_unit_test(test_a_cut_that_is_reported),
        cmocka_unit_test(test_a_cut_that_is_reported_narrows_the_window),
        cmocka_unit_test(test_a_cut_one_that_asks),
        cmocka_unit_test(test_an_untold_one_that_asks),
        cmocka_unit_test(test_a_silent_one_comes_online),
        cmocka_unit_test(test_who_cannot_say_what_it_has),
        cmocka_unit_test(test_what_is_kept_is_bounded),
        cmocka_unit_test(test_what_an_abort_leaves),
        cmocka_unit_test(test_many_are_late),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_seconds_left),
        cmocka_unit_test(test_an_abort_that_says_superseded),
        cmocka_unit_test(test_a_failure_that_says_not_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
