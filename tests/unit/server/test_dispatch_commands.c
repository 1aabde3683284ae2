/* Each command until it is answered, or taken back: retained ones, refused ones, those that are on their way when the
 * rollout or the server ends, and thousands at once.
 */
#include "tests/unit/server/trigger_fixture.h"

enum { NAMED = 9000 };

static size_t count_cleared(const char *topic_start)
{
    size_t count = 0;
    for (size_t i = 0; i < world.sent_count; i++) {
        const struct sent *sent = &world.sent[i];
        bool is_meant = strncmp(sent->topic, topic_start, strlen(topic_start)) == 0;
        count += is_meant && sent->retain && sent->payload_bytes == 0;
    }
    return count;
}

/* A retained command that outlives its rollout would update every device that ever connects again. */
static void test_retained_while_under_way(void **state)
{
    (void)state;
    start("tasmota");
    world.trigger.retain = true;
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(macs, 2);
    struct rollout *rollout = begin(&order);
    answer_all();
    assert_true(world.sent_count == 4 && world.sent[0].retain && world.sent[3].retain);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING);
    world.sent_count = 0;
    begin_all();
    answer_all();
    assert_true(rollout_is_over(rollout) && world.sent_count == 4 + 2);
    assert_int_equal(count_cleared("cmnd/tasmota_B1E04"), 4); /* both messages of both devices */
    world.sent_count = 0;
    begin_all();
    answer_all();
    assert_int_equal(world.sent_count, 4);
    assert_int_equal(count_cleared("cmnd/door/"), 2);
    assert_true(world.sent[0].payload_bytes == 0 && world.sent[3].payload_bytes > 0); /* the new one comes after it */
    stop();
}

/* Else the rest of a fleet is never told: its devices failed, for a bound of the server's own. */
static void test_more_retained_than_there_is_room_for(void **state)
{
    (void)state;
    start_with("updraft", 1);
    world.trigger.retain = true;
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(macs, 2);
    struct rollout *rollout = begin(&order);
    answer_all();
    trigger_tick(&world.trigger);
    turn();
    assert_true(world.sent_count == 1 && rollout->acknowledged == 1 && rollout->commands_failed == 0);
    assert_int_equal(rollout->in_flight, 2); /* the second waits for room */
    tick_in(2 * MINUTE_MS);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_SILENT], 1);
    world.sent_count = 0;
    trigger_tick(&world.trigger);
    turn();
    answer_all();
    assert_int_equal(count_cleared("updraft/door/"), 1);
    assert_true(world.sent_count == 2 && rollout->acknowledged == 2 && rollout->commands_failed == 0);
    world.sent_count = 0;
    rollout = begin(&order); /* in whose place is one kept already goes before who finds no room */
    trigger_tick(&world.trigger);
    turn();
    answer_all();
    assert_int_equal(rollout->acknowledged, 1);
    assert_int_equal(rollout->commands_failed, 0);
    order = order_to(macs + 2, 1);
    world.trigger.expires_ms = 20; /* and nobody waits for ever */
    rollout = begin(&order);
    for (int i = 0; i < PATIENCE_MS && rollout->commands_failed == 0; i++) {
        uv_run(&world.loop, UV_RUN_NOWAIT);
        trigger_tick(&world.trigger);
        uv_sleep(1);
    }
    assert_true(rollout->acknowledged == 0 && rollout->commands_failed == 1);
    stop();
}

static void test_refused_by_the_broker(void **state)
{
    (void)state;
    start("updraft");
    set_link(SESSION_CONNECTED);
    struct rollout *rollout = begin_all();
    answer(STATUS_DENIED);
    assert_int_equal(rollout->state, ROLLOUT_ABORTED);
    assert_string_equal(rollout->why, "no command reached the broker: refused: not authorized");
    stop();
}

static void test_link_that_breaks(void **state)
{
    (void)state;
    start("updraft");
    set_link(SESSION_CONNECTED);
    struct rollout *rollout = begin_all();
    answer(STATUS_IO);
    set_link(SESSION_WAITING);
    assert_int_equal(rollout->acknowledged, 0);
    set_link(SESSION_CONNECTED);
    assert_int_equal(world.sent_count, 2);
    assert_string_equal(world.sent[1].payload, world.sent[0].payload); /* the same id: the device knows it */
    answer(STATUS_OK);
    assert_true(rollout->state == ROLLOUT_RUNNING && rollout->acknowledged == 1);
    stop();
}

static void test_broker_that_stays_away(void **state)
{
    (void)state;
    start("updraft");
    struct rollout *late = begin_all();
    tick_in(2 * MINUTE_MS);
    assert_true(late->state == ROLLOUT_ABORTED && late->why[0] != '\0');
    turn();
    assert_int_equal(results(PUBLISH_WITHDRAWN), 1);
    world.trigger.expires_ms = 20;
    struct rollout *expired = begin_all();
    for (int i = 0; i < PATIENCE_MS && !rollout_is_over(expired); i++) {
        uv_run(&world.loop, UV_RUN_ONCE);
    }
    assert_int_equal(expired->state, ROLLOUT_ABORTED);
    assert_string_equal(expired->why, "no command reached the broker: expired");
    set_link(SESSION_CONNECTED);
    assert_int_equal(world.sent_count, 0);
    stop();
}

static char written_why[200];

static uint64_t write_why(void *owner, const struct rollout *rollout)
{
    (void)owner;
    snprintf(written_why, sizeof written_why, "%s", rollout->why);
    return 0;
}

/* Else who reads "aborted" after a restart wonders about devices that are flashed later. */
static void test_aborted_with_commands_on_their_way(void **state)
{
    (void)state;
    const char *why;
    const struct rollout_effects effects = { .trigger = whole_fleet_trigger,
                                             .withdraw = whole_fleet_withdraw,
                                             .changed = write_why,
                                             .member_changed = no_member_change,
                                             .owner = &world.trigger };
    start("updraft");
    rollouts_free(world.fleet.rollouts);
    world.fleet.rollouts = rollouts_new(&effects);
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(macs, 3);
    struct rollout *rollout = begin(&order);
    assert_int_equal(world.on_way_count, 3);
    struct moment now = clock_moment(&world.loop);
    assert_int_equal(rollout_abort(rollout, "by an operator", &now, &why), STATUS_OK);
    turn();
    assert_string_equal(rollout->why, "by an operator; 3 on their way may still arrive");
    assert_string_equal(written_why, rollout->why);
    stop();
}

/* SIGTERM with everything open: commands that wait, that are on their way, whose image is being loaded, retained. */
static void test_stop_with_everything_open(void **state)
{
    (void)state;
    for (int retain = 0; retain <= 1; retain++) {
        start("updraft");
        world.trigger.retain = retain != 0;
        set_link(SESSION_CONNECTED);
        struct trigger_order order = order_to(macs, 3);
        struct rollout *rollout = begin(&order);
        answer(STATUS_OK);
        struct trigger_order loading = order_to(macs, 3);
        loading.fs = true;
        world.trigger.announce = *announce_preset("homie");
        begin(&loading);
        stop();
        (void)rollout;
    }
}

/* A stop is no word on devices, nor on the image: after the restart they are told as if nothing had been. */
static void test_stop_with_commands_that_wait(void **state)
{
    (void)state;
    start_with("updraft", 2);
    struct trigger_order order = order_to(macs, 3);
    order.in_flight = 2;
    struct rollout *rollout = begin(&order);
    turn();
    trigger_stop(&world.trigger);
    close_publisher();
    assert_true(rollout->state == ROLLOUT_RUNNING && rollout->commands_failed == 0);
    assert_true(rollout->devices[ROLLOUT_DEVICE_TRIGGERED] == 2 && rollout->devices[ROLLOUT_DEVICE_QUEUED] == 1);
    stop();
}

/* Else the broker would tell it to whoever connects, for ever. */
static void test_retained_that_is_acknowledged_after_the_end(void **state)
{
    (void)state;
    const char *why;
    start("updraft");
    world.trigger.retain = true;
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(macs, 1);
    struct rollout *rollout = begin(&order);
    struct moment now = clock_moment(&world.loop);
    assert_int_equal(rollout_abort(rollout, "", &now, &why), STATUS_OK);
    turn();
    answer_all(); /* of the command, then of what clears it */
    assert_int_equal(world.sent_count, 2);
    assert_true(world.sent[1].retain && world.sent[1].payload_bytes == 0);
    stop();
}

/* Else an image that arrives when the publisher is gone would be handed to nobody. */
static void test_image_that_comes_after_the_publisher_is_gone(void **state)
{
    (void)state;
    for (int retain = 0; retain <= 1; retain++) {
        start("homie");
        world.trigger.retain = retain != 0;
        struct trigger_order order = order_to(macs, 3);
        world.publisher_closed = true; /* and the loop did not turn: the image is still on its way */
        struct publisher *publisher = world.publisher;
        struct rollout *rollout = begin(&order);
        world.trigger.publisher = NULL;
        wait_for_image();
        assert_true(rollout->state == ROLLOUT_RUNNING && rollout->commands_failed == 0);
        world.publisher_closed = false;
        world.publisher = publisher;
        stop();
    }
}

/* Whatever comes in between: nothing may go out twice, or for an order that is over; and each command is answered. */
static void test_many_commands_in_slices(void **state)
{
    (void)state;
    static struct mac named[NAMED];
    for (uint32_t i = 0; i < NAMED; i++) {
        named[i] = mac_of(i * 2654435761u); /* in no order */
    }
    for (int way = 0; way < 4; way++) {
        start_with("updraft", PUBLISHER_COMMANDS_MAX);
        struct trigger_order all = order_to(named, NAMED), half = order_to(named, NAMED / 2);
        all.in_flight = half.in_flight = NAMED;
        struct rollout *first = begin(&all), *second = NULL;
        for (int i = 0; i < PATIENCE_MS && first->in_flight < NAMED; i++) {
            uv_run(&world.loop, UV_RUN_NOWAIT);
        }
        size_t at_once = publisher_counts(world.publisher)->waiting;
        assert_true(at_once > 0 && at_once < NAMED); /* devices are served in between */
        turn_until_idle();
        assert_int_equal(publisher_counts(world.publisher)->waiting, NAMED);
        if (way == 0) { /* a newer one takes half of them, while the older still goes out */
            second = begin(&half);
            turn_until_idle();
            for (int i = 0; i < 100 && first->commands_failed < NAMED / 2; i++) {
                turn();
            }
            assert_int_equal(first->devices[ROLLOUT_DEVICE_SKIPPED], NAMED / 2);
            assert_int_equal(first->commands_failed, NAMED / 2);
            assert_int_equal(publisher_counts(world.publisher)->waiting, NAMED);
            assert_int_equal(second->members, NAMED / 2);
        } else if (way == 1) { /* one to all ends it */
            second = begin_all();
            turn_until_idle();
            turn_until_idle();
            assert_int_equal(first->state, ROLLOUT_ABORTED);
            assert_int_equal(publisher_counts(world.publisher)->waiting, 1);
        } else if (way == 2) { /* its time is over */
            tick_in(2 * MINUTE_MS);
            turn_until_idle();
            assert_int_equal(first->state, ROLLOUT_ABORTED);
            assert_int_equal(publisher_counts(world.publisher)->waiting, 0);
        } /* else: the server ends in the midst of it */
        for (int i = 0; way > 0 && way < 3 && i < 100; i++) {
            turn();
        }
        if (way == 1 || way == 2) {
            assert_int_equal(first->commands_failed, first->commands); /* who was never told is no command */
        }
        rollout_check(first);
        stop();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_commands_in_slices),
        cmocka_unit_test(test_retained_while_under_way),
        cmocka_unit_test(test_more_retained_than_there_is_room_for),
        cmocka_unit_test(test_refused_by_the_broker),
        cmocka_unit_test(test_link_that_breaks),
        cmocka_unit_test(test_broker_that_stays_away),
        cmocka_unit_test(test_aborted_with_commands_on_their_way),
        cmocka_unit_test(test_stop_with_everything_open),
        cmocka_unit_test(test_stop_with_commands_that_wait),
        cmocka_unit_test(test_retained_that_is_acknowledged_after_the_end),
        cmocka_unit_test(test_image_that_comes_after_the_publisher_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
