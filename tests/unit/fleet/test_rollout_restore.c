/* A rollout over the end of its process: what was written down comes back, goes on where it stood, and tells nobody by
 * a new name.
 */
#include "tests/unit/fleet/rollout_fixture.h"

#define ROWS_MAX 64

/* What the store has: the last word on each. */
struct row {
    bool is_there;
    struct rollout_member member;
    char why[120];
};

struct store {
    struct world world; /* the first member */
    struct row rows[ROWS_MAX];
    struct rollout rollout;
    bool down; /* what is said now is lost */
};

static uint64_t on_row(void *owner, const struct rollout *rollout, const struct rollout_member *member)
{
    struct store *store = owner;
    (void)rollout;
    if (!store->down) {
        struct row *row = &store->rows[number_of(&member->mac)];
        row->is_there = true;
        row->member = *member;
        snprintf(row->why, sizeof row->why, "%s", member->why);
    }
    return 0;
}

static uint64_t on_rollout_row(void *owner, const struct rollout *rollout)
{
    struct store *store = owner;
    if (!store->down) {
        store->rollout = *rollout;
    }
    return 0;
}

static void open_store(struct store *store)
{
    struct rollout_effects effects = { .trigger = on_trigger,
                                       .withdraw = on_withdraw,
                                       .changed = on_rollout_row,
                                       .member_changed = on_row,
                                       .in_group = on_group,
                                       .owner = store };
    rollouts_free(store->world.rollouts);
    store->world.rollouts = rollouts_new(&effects);
}

static struct store *store_new(void)
{
    struct store *store = calloc(1, sizeof *store);
    struct world *world = world_new();
    store->world = *world;
    free(world);
    open_store(store);
    return store;
}

static void store_free(struct store *store)
{
    rollouts_free(store->world.rollouts);
    free(store);
}

/* kill -9, an hour in the dark, and up again: the rows. */
static void come_back(struct store *store)
{
    struct world *world = &store->world;
    open_store(store);
    store->down = false;
    world->now.unix_s += 3600;
    world->now.ms = 5000; /* the loop's clock begins anew */
    world->told_count = 0;
    struct rollout as_written = store->rollout;
    as_written.table = NULL;
    world->rollout = rollouts_restore(world->rollouts, &as_written, &world->now);
    assert_non_null(world->rollout);
    for (int i = 0; i < ROWS_MAX; i++) {
        struct rollout_member member = store->rows[i].member;
        member.why = store->rows[i].why;
        if (store->rows[i].is_there) {
            rollout_restore_member(world->rollout, &member, (uint64_t)i, &world->now);
        }
    }
}

/* Then all that are known, then on. */
static void crash(struct store *store, int known, bool type_topic, bool device_topic)
{
    struct world *world = &store->world;
    come_back(store);
    if (rollout_is_over(world->rollout)) {
        return;
    }
    for (int i = 0; i < known; i++) {
        join_at(world, i, (uint64_t)i);
    }
    rollout_start(world->rollout, type_topic, device_topic, &world->now);
    rollout_check(world->rollout);
}

/* Else a device is lost, told by a new name, or flashed again. */
static void test_each_state(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    world->order.in_flight = 4;
    world->order.max_failures = 100;
    set_going(world, 10);
    updates(world, 0);
    flashes_in_vain(world, 1);
    is_withheld(world, 2, "pinned: 1.0");
    takes_it(world, 3);
    pass(world, 120000); /* silent */
    takes_it(world, 4);
    assert_true(asks(world, 5));
    begins(world, 5);
    struct told before = { .device = -2 };
    for (size_t i = 0; i < world->told_count; i++) {
        before = world->told[i].device == 6 ? world->told[i] : before;
    }
    assert_int_equal(before.device, 6);
    crash(store, 10, false, true);
    static const char *const states[] = { "confirmed", "failed",    "skipped",   "silent",    "flashed",
                                          "queued",    "triggered", "triggered", "triggered", "queued" };
    for (int i = 0; i < 10; i++) {
        assert_string_equal(state_of(world, i), states[i]);
    }
    assert_string_equal(member_of(world, 2).why, "pinned: 1.0");
    assert_int_equal(world->rollout->in_flight, 4);
    assert_int_equal(world->told_count, 3); /* 6 and 7 again, as they were; 8 for 5, whose download was cut */
    assert_string_equal(world->told[0].id, before.id);
    assert_int_equal(world->rollout->failures, 1);
    assert_false(may(world, 4)); /* it has all of it: if it asks with another build, it failed */
    runs_it(world, 4);
    updates(world, 6);
    updates(world, 5);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_CONFIRMED], 4);
    assert_int_equal(times_told(world, 9), 1);
    store_free(store);
}

/* Else fewer commands are counted than went out: the rollout's own row is written when its state changes. */
static void test_commands_are_counted_over_a_kill(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    world->order.in_flight = 2;
    set_going(world, 9);
    updates(world, 0);
    updates(world, 1);
    takes_it(world, 2);
    assert_int_equal(world->rollout->commands, 4);
    crash(store, 9, false, true);
    assert_int_equal(world->rollout->commands, 4);
    assert_int_equal(world->told_count, 1); /* again, and no other */
    runs_it(world, 2);
    assert_int_equal(world->rollout->commands, 5);
    updates(world, 3);
    updates(world, 4);
    updates(world, 5);
    crash(store, 9, false, true);
    assert_int_equal(world->rollout->commands, 8);
    store_free(store);
}

/* Deadlines begin anew: nobody could ask while the server was down. And who may have answered just before it died is
 * asked once more, instead of being given up. */
static void test_deadlines_after(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    world->order.in_flight = 2;
    set_going(world, 2);
    takes_it(world, 0);
    crash(store, 2, false, true);
    struct told first = world->told[0];
    assert_int_equal(first.device, 1);
    broker_says(world, 1, true);
    pass(world, 59999);
    assert_int_equal(world->told_count, 1);
    pass(world, 1);
    assert_int_equal(times_told(world, 1), 2);
    assert_string_not_equal(last_told(world)->id, first.id);
    broker_says(world, 1, true);
    pass(world, 60000);
    assert_string_equal(state_of(world, 1), "silent");
    assert_int_equal(times_told(world, 0), 1); /* it has had all of it for two minutes */
    broker_says(world, 0, true);
    pass(world, 60000);
    assert_string_equal(state_of(world, 0), "silent");
    assert_string_equal(word_of(world), "done");
    store_free(store);
}

/* It may wait for a week until it can tell anybody: for a drive, an address, or an operator who sees that its file was
 * replaced. What its devices do meanwhile counts, and takes slots. */
static void test_before_it_goes_on(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    world->order.in_flight = 4;
    world->order.max_failures = 100;
    set_going(world, 9);
    takes_it(world, 0);
    takes_it(world, 1);
    come_back(store);
    runs_it(world, 0);
    fails(world, 1);
    assert_string_equal(state_of(world, 0), "confirmed");
    assert_string_equal(state_of(world, 1), "failed");
    assert_int_equal(world->rollout->in_flight, 2);
    assert_true(asks(world, 4) && asks(world, 5));
    begins(world, 4);
    assert_false(asks(world, 6)); /* four are under way */
    pass(world, 60000);
    assert_string_equal(state_of(world, 2), "queued"); /* whether it heard its command, nobody knows */
    assert_string_equal(state_of(world, 5), "silent");
    assert_string_equal(state_of(world, 4), "downloading");
    assert_int_equal(world->told_count, 0);
    for (int i = 0; i < 9; i++) {
        join_at(world, i, (uint64_t)i);
    }
    rollout_start(world->rollout, false, true, &world->now);
    rollout_check(world->rollout);
    assert_string_equal(state_of(world, 4), "downloading"); /* that one goes on */
    assert_int_equal(world->told_count, 3);
    ends(world, 4, true, NULL);
    runs_it(world, 4);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_CONFIRMED], 2);
    store_free(store);
}

static void test_halts_before_it_goes_on(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    world->order.in_flight = 4;
    set_going(world, 4);
    come_back(store);
    flashes_in_vain(world, 0);
    flashes_in_vain(world, 1);
    assert_string_equal(word_of(world), "halted");
    assert_false(asks(world, 2));
    store_free(store);
}

/* Else what a lagging store had not heard of makes 'runs it already' of a device that was just updated. */
static void test_what_the_store_had_not_heard(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    set_going(world, 3);
    store->down = true;
    takes_it(world, 0);
    crash(store, 3, false, true);
    assert_string_equal(state_of(world, 0), "triggered");
    runs_it(world, 0);
    assert_string_equal(state_of(world, 0), "confirmed");
    runs_it(world, 2); /* who was never told ran it before */
    assert_string_equal(state_of(world, 2), "skipped");
    store_free(store);
}

/* It was told just before the kill, came for it, and found no slot: the same command again would move nobody, and it
 * would hold its slot until its deadline. */
static void test_a_command_that_is_spent(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    world->order.in_flight = 1;
    set_going(world, 3);
    store->down = true;
    updates(world, 0);
    assert_int_equal(last_told(world)->device, 1);
    assert_int_equal(last_told(world)->attempt, 1);
    crash(store, 3, false, true);
    assert_string_equal(state_of(world, 0), "triggered");
    assert_false(asks(world, 1));
    assert_string_equal(state_of(world, 1), "queued");
    runs_it(world, 0);
    assert_int_equal(last_told(world)->device, 1);
    assert_int_equal(last_told(world)->attempt, 2);
    assert_int_equal(store->rows[1].member.attempts, 2); /* nor after another kill */
    updates(world, 1);
    assert_int_equal(last_told(world)->device, 2); /* who was not told, and has not asked, hears its first */
    assert_int_equal(last_told(world)->attempt, 1);
    store_free(store);
}

static void test_canaries_after(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    world->order.in_flight = 5;
    world->order.canary = 2;
    set_going(world, 6);
    updates(world, 0);
    crash(store, 6, false, true);
    assert_string_equal(word_of(world), "canary");
    assert_int_equal(world->rollout->canaries, 2);
    assert_int_equal(world->rollout->canaries_confirmed, 1);
    assert_int_equal(world->told_count, 1);
    assert_false(asks(world, 4));
    updates(world, 1);
    assert_string_equal(word_of(world), "running");
    assert_int_equal(world->told_count, 5);
    store_free(store);
}

/* Else a pause does not outlive the process, or those who were told are silent for ever. */
static void test_paused_over_it(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    char id[ANNOUNCE_ID_SIZE];
    world->order.in_flight = 1;
    set_going(world, 3);
    memcpy(id, world->told[0].id, sizeof id);
    (void)op_pause(world);
    crash(store, 3, false, true);
    assert_string_equal(word_of(world), "paused");
    assert_int_equal(world->told_count, 0);
    assert_string_equal(state_of(world, 0), "queued");
    pass(world, 600000);
    assert_int_equal(op_resume(world), STATUS_OK);
    assert_string_equal(word_of(world), "running");
    updates(world, 1);
    updates(world, 2);
    assert_int_equal(last_told(world)->device, 0);
    assert_string_not_equal(last_told(world)->id, id); /* it may have heard that one, and been told to wait */
    store_free(store);
}

/* Else one that is restarted every week stands for ever. */
static void test_patience_over_it(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    set_going(world, 3);
    (void)op_pause(world);
    pass(world, ROLLOUT_PAUSE_MS - 2 * 3600000u);
    crash(store, 3, false, true);
    pass(world, 3600000 - 60000);
    assert_string_equal(word_of(world), "paused");
    pass(world, 120000);
    assert_string_equal(word_of(world), "aborted");
    store_free(store);

    store = store_new();
    world = &store->world;
    begin(world, 2);
    rollout_start(world->rollout, false, false, &world->now); /* nothing can tell them */
    pass(world, ROLLOUT_STAND_MS - 2 * 3600000u);
    crash(store, 2, false, false);
    pass(world, 3600000 - 60000);
    assert_string_equal(state_of(world, 0), "queued");
    pass(world, 120000);
    assert_string_equal(word_of(world), "done");
    store_free(store);
}

/* Else one restart forgives what an operator has not, or forgets what he has. */
static void test_halted_over_it(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    world->order.max_failures = 0;
    set_going(world, 30);
    flashes_in_vain(world, 0);
    flashes_in_vain(world, 1);
    crash(store, 30, false, true);
    assert_string_equal(word_of(world), "halted");
    assert_false(asks(world, 5));
    assert_int_equal(op_resume(world), STATUS_OK);
    crash(store, 30, false, true);
    assert_string_equal(word_of(world), "running");
    flashes_in_vain(world, 2);
    assert_string_equal(word_of(world), "running");
    flashes_in_vain(world, 3);
    assert_string_equal(word_of(world), "halted");
    store_free(store);
}

/* Else a command to all is lost, or comes under a new name. */
static void test_told_all_over_it(void **unused)
{
    (void)unused;
    for (int devices = 0; devices <= 3; devices += 3) {
        struct store *store = store_new();
        struct world *world = &store->world;
        world->order.in_flight = 4;
        begin(world, devices);
        rollout_start(world->rollout, true, true, &world->now);
        struct told first = world->told[0];
        crash(store, devices, true, true);
        assert_int_equal(world->told_count, 1);
        assert_int_equal(world->told[0].device, TO_THE_TYPE);
        assert_string_equal(world->told[0].id, first.id);
        assert_int_equal(world->rollout->in_flight, devices);
        broker_says(world, TO_THE_TYPE, true);
        assert_string_equal(word_of(world), "running");
        store_free(store);
    }
}

/* The same where the type's topic is all there is. */
static void test_called_over_it(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    begin(world, 3);
    rollout_start(world->rollout, true, false, &world->now);
    struct told first = world->told[0];
    crash(store, 3, true, false);
    assert_int_equal(world->told_count, 1);
    assert_string_equal(world->told[0].id, first.id);
    assert_int_equal(world->rollout->broadcasts, 1);
    pass(world, 1000);
    assert_int_equal(world->told_count, 1);
    pass(world, 60000);
    assert_int_equal(world->told_count, 2);
    store_free(store);
}

/* Who was handed over to a newer rollout does not come back to the older one. */
static void test_handed_over_over_it(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    begin(world, 2);
    start(world);
    struct rollout *older = world->rollout;
    struct rollout older_row = store->rollout;
    snprintf(world->order.group, sizeof world->order.group, "upstairs");
    begin_as(world, "00000000000000bb");
    join_at(world, 0, 0);
    assert_ptr_not_equal(older, world->rollout);
    store->rollout = older_row;
    crash(store, 0, false, true);
    struct mac mac = mac_of(0);
    assert_string_equal(state_of(world, 0), "skipped");
    assert_null(rollouts_for(world->rollouts, &mac, slice_of("porch"), false, false));
    store_free(store);
}

/* Else what is over comes back with all its members, and with other counts. */
static void test_over(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    world->order.max_failures = 100;
    set_going(world, 5);
    updates(world, 0);
    updates(world, 1);
    flashes_in_vain(world, 2);
    updates(world, 3);
    takes_it(world, 4);
    pass(world, 120000);
    assert_string_equal(word_of(world), "done");
    crash(store, 5, false, true);
    struct rollout_member listed[8];
    assert_int_equal(rollout_members(world->rollout, ROLLOUT_DEVICE_STATES, 0, listed, 8), 2);
    assert_int_equal(world->rollout->members, 5);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_CONFIRMED], 3);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_FAILED], 1);
    assert_int_equal(world->rollout->in_flight, 0);
    store_free(store);
}

/* Else who was at it when the rollout was aborted stays at it for ever, where the server is killed meanwhile. */
static void test_followed_after(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    world->order.in_flight = 5;
    set_going(world, 20);
    updates(world, 0);
    is_withheld(world, 19, "wrong-chip");
    for (int i = 1; i < 6; i++) {
        broker_says(world, i, true);
    }
    for (int i = 1; i < 4; i++) {
        takes_it(world, i);
    }
    assert_true(asks(world, 4));
    begins(world, 4);
    assert_int_equal(op_abort(world), STATUS_OK);
    came_after(world, 1, true, NULL);
    assert_int_equal(world->rollout->in_flight, 4);
    crash(store, 0, false, true);
    rollout_check(world->rollout);
    assert_string_equal(word_of(world), "aborted");
    assert_int_equal(world->rollout->members, 20);
    assert_int_equal(world->rollout->in_flight, 4);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_CONFIRMED], 2);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_SKIPPED], 14);
    assert_int_equal(world->told_count, 0);
    came_after(world, 2, true, NULL);
    came_after(world, 3, false, NULL); /* it has another build, and its record knows no transfer */
    came_after(world, 4, true, NULL);  /* the last bytes had left before the kill */
    pass(world, 60000);
    assert_string_equal(state_of(world, 3), "failed");
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_CONFIRMED], 4);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_SILENT], 1);
    assert_int_equal(world->rollout->in_flight, 0);
    crash(store, 0, false, true); /* it stands as it ended */
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_CONFIRMED], 4);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_SKIPPED], 14);
    rollout_check(world->rollout);
    store_free(store);
}

/* Else nobody decides, after it, whom to tell. */
static void test_halted_before_anyone_was_told(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    begin(world, 0);
    rollout_image_lost(world->rollout, &world->now);
    crash(store, 0, true, true);
    assert_string_equal(word_of(world), "halted");
    assert_int_equal(world->told_count, 0);
    assert_int_equal(op_resume(world), STATUS_OK);
    assert_string_equal(word_of(world), "running");
    assert_true(world->told_count == 1 && last_told(world)->device == TO_THE_TYPE);
    store_free(store);
}

/* A database that somebody edited by hand ends no server. */
static void test_numbers_out_of_bounds(void **unused)
{
    (void)unused;
    struct store *store = store_new();
    struct world *world = &store->world;
    world->order.in_flight = 0;
    begin(world, 5);
    start(world);
    updates(world, 0);
    struct rollout *row = &store->rollout;
    row->window.size = 0;
    row->order.percent = 0;
    row->order.timeout_ms = row->order.reboot_ms = UINT64_MAX;
    row->order.max_failures = UINT32_MAX;
    row->failures = row->lost = 0;
    row->forgiven = row->lost_forgiven = 7;
    row->state = ROLLOUT_PAUSED;
    row->before = ROLLOUT_DONE;
    row->word_only = true;
    crash(store, 5, false, true);
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_CONFIRMED], 1); /* else the time left is not worked out */
    assert_true(rollout_seconds_left(world->rollout) <= 3600);
    assert_in_range(window_size(&world->rollout->window), WINDOW_MIN, WINDOW_MAX);
    assert_string_equal(word_of(world), "paused");
    assert_false(world->rollout->word_only);
    row = world->rollout;
    assert_int_equal(row->order.percent, 1);
    assert_int_equal(row->order.timeout_ms, ROLLOUT_WAIT_MS_MAX);
    assert_true(row->forgiven == 0 && row->lost_forgiven == 0 && row->before == ROLLOUT_RUNNING);
    store_free(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_state),
        cmocka_unit_test(test_commands_are_counted_over_a_kill),
        cmocka_unit_test(test_deadlines_after),
        cmocka_unit_test(test_what_the_store_had_not_heard),
        cmocka_unit_test(test_a_command_that_is_spent),
        cmocka_unit_test(test_canaries_after),
        cmocka_unit_test(test_paused_over_it),
        cmocka_unit_test(test_patience_over_it),
        cmocka_unit_test(test_halted_over_it),
        cmocka_unit_test(test_told_all_over_it),
        cmocka_unit_test(test_called_over_it),
        cmocka_unit_test(test_handed_over_over_it),
        cmocka_unit_test(test_over),
        cmocka_unit_test(test_followed_after),
        cmocka_unit_test(test_numbers_out_of_bounds),
        cmocka_unit_test(test_halted_before_anyone_was_told),
        cmocka_unit_test(test_before_it_goes_on),
        cmocka_unit_test(test_halts_before_it_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
