/* The time between an order and its messages: the broker is away, the image is still being loaded, a newer order comes,
 * the catalog changes. A command must neither be lost, nor go out when nobody wants it any more, nor be touched when it
 * is gone (the sanitizers look).
 */
#include "tests/unit/server/trigger_fixture.h"

/* The queue's end is the server's own affair: no device has failed by it. Who waits, whosever rollout it is of, goes
 * out when there is room, in order. */
static void test_queue_that_is_full(void **state)
{
    (void)state;
    start_with("updraft", 2);
    struct trigger_order order = order_to(macs, 3), other = order_of("door");
    other.fs = true;
    struct rollout *some = begin(&order), *more = begin(&other);
    turn();
    assert_true(some->state == ROLLOUT_RUNNING && some->in_flight == 3 && some->commands_failed == 0);
    assert_true(more->state == ROLLOUT_RUNNING && more->commands_failed == 0);
    assert_int_equal(publisher_counts(world.publisher)->waiting, 2);
    set_link(SESSION_CONNECTED);
    answer_all();
    assert_true(some->acknowledged == 3 && more->acknowledged == 1);
    assert_int_equal(world.sent_count, 4);
    stop();
}

/* Nobody waits for ever: it is good for as long as if it had been taken. */
static void test_queue_that_stays_full(void **state)
{
    (void)state;
    start_with("updraft", 1);
    world.trigger.expires_ms = 50;
    struct trigger_order order = order_to(macs, 2);
    struct rollout *rollout = begin(&order);
    for (int i = 0; i < 200 && rollout->state == ROLLOUT_RUNNING; i++) {
        uv_run(&world.loop, UV_RUN_ONCE);
    }
    assert_int_equal(rollout->state, ROLLOUT_ABORTED);
    assert_int_equal(results(PUBLISH_EXPIRED), 1); /* the other never came so far */
    assert_non_null(strstr(rollout->why, "expired while the queue of commands was full (--mqtt-queue)"));
    stop();
}

static bool names_url(size_t sent, const char *url)
{
    return strstr(world.sent[sent].payload, url) != NULL;
}

/* A server that started before its network must not send devices to its loopback until the rollout ends. */
static void test_address_that_shows_later(void **state)
{
    (void)state;
    static const char other[] = "http://192.0.2.9";
    start("updraft");
    struct trigger_order order = order_to(macs, 3);
    order.in_flight = 2;
    struct rollout *rollout = begin(&order); /* two wait for the broker, one for its turn */
    snprintf(world.public_url.url, sizeof world.public_url.url, "%s", other);
    turn();
    trigger_tick(&world.trigger); /* once a second */
    turn();
    assert_true(rollout->in_flight == 2 && publisher_counts(world.publisher)->waiting == 2);
    set_link(SESSION_CONNECTED);
    assert_int_equal(world.sent_count, 2);
    assert_true(names_url(0, other) && names_url(1, other));
    trigger_tick(&world.trigger);
    turn();
    assert_int_equal(publisher_counts(world.publisher)->in_flight, 2);
    answer_all();
    assert_true(rollout->acknowledged == 2 && rollout->commands == 2 && rollout->commands_failed == 0);
    snprintf(world.public_url.url, sizeof world.public_url.url, URL);
    for (int i = 0; i < 3; i++) {
        uv_run(&world.loop, UV_RUN_ONCE); /* it is asked for once in a millisecond */
    }
    tick_in(2 * MINUTE_MS); /* both are silent */
    turn();
    assert_int_equal(world.sent_count, 3);
    assert_true(names_url(2, URL));
    world.public_url.url[0] = '\0'; /* nobody can tell now */
    trigger_tick(&world.trigger);
    turn();
    answer_all();
    assert_int_equal(world.sent_count, 3);
    stop();
}

/* What waits for room when its rollout is paused must not go out when there is room. */
static void test_queue_that_is_full_and_a_pause(void **state)
{
    (void)state;
    const char *why;
    start_with("updraft", 1);
    struct trigger_order order = order_to(macs, 3);
    struct rollout *rollout = begin(&order);
    struct moment now = clock_moment(&world.loop);
    assert_int_equal(rollout_pause(rollout, &now, &why), STATUS_OK);
    turn();
    assert_true(rollout->devices[ROLLOUT_DEVICE_QUEUED] == 3 && rollout->commands_failed == 0);
    set_link(SESSION_CONNECTED);
    turn();
    assert_int_equal(world.sent_count, 0);
    assert_int_equal(rollout_resume(rollout, &now, &why), STATUS_OK);
    turn();
    answer_all();
    assert_true(rollout->acknowledged == 3 && world.sent_count == 3);
    stop();
}

/* Else a broker that comes back would have devices told of a build that its operator has replaced. */
static void test_superseded_while_the_broker_is_away(void **state)
{
    (void)state;
    start("updraft");
    struct trigger_order old = order_to(macs, 2);
    old.version = "1.0+b";
    struct rollout *first = begin(&old);
    struct rollout *second = begin_all();
    assert_int_equal(first->state, ROLLOUT_ABORTED);
    assert_string_equal(second->supersedes, first->id);
    turn();
    assert_int_equal(results(PUBLISH_WITHDRAWN), 2);
    set_link(SESSION_CONNECTED);
    assert_int_equal(world.sent_count, 1);
    assert_string_equal(world.sent[0].topic, "updraft/door/update");
    answer_all();
    assert_int_equal(second->state, ROLLOUT_RUNNING);
    stop();
}

static void test_superseded_on_its_way(void **state)
{
    (void)state;
    start("updraft");
    set_link(SESSION_CONNECTED);
    struct rollout *first = begin_all();
    struct rollout *second = begin_all();
    assert_int_equal(first->state, ROLLOUT_ABORTED);
    assert_int_equal(world.sent_count, 1); /* the second waits for the first's acknowledgement */
    answer(STATUS_OK);
    assert_int_equal(first->acknowledged, 1);
    assert_int_equal(world.sent_count, 2);
    answer(STATUS_OK);
    assert_int_equal(second->state, ROLLOUT_RUNNING);
    stop();
}

/* Nothing of the first may go out: it is no longer wanted when its image is there. */
static void test_superseded_while_its_image_is_loaded(void **state)
{
    (void)state;
    start("homie");
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(&macs[0], 1);
    order.version = "1.0+b";
    struct rollout *first = begin(&order);
    order.version = NULL;
    struct rollout *second = begin(&order);
    assert_int_equal(first->devices[ROLLOUT_DEVICE_SKIPPED], 1);
    wait_for_image();
    assert_int_equal(first->state, ROLLOUT_ABORTED);
    assert_int_equal(world.sent_count, 1);
    assert_non_null(strstr(world.sent[0].topic, "5ccf7fb1e042"));
    assert_true(world.sent[0].is_image);
    answer_all();
    assert_true(second->state == ROLLOUT_RUNNING && first->acknowledged == 0);
    stop();
}

/* Else a disk that hangs leaves it planned for ever; and what comes too late goes out after all. */
static void test_an_image_that_does_not_come(void **state)
{
    (void)state;
    start("homie");
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(&macs[0], 1);
    struct rollout *rollout = begin(&order);
    struct moment then = clock_moment(&world.loop);
    then.ms += TRIGGER_BEGIN_MS - 1;
    trigger_give_up_late(&world.trigger, &then);
    assert_int_equal(rollout->state, ROLLOUT_PLANNED);
    then.ms++;
    trigger_give_up_late(&world.trigger, &then);
    assert_true(rollout->state == ROLLOUT_ABORTED && !rollout->distrusted);
    assert_non_null(strstr(rollout->why, "its image could not be read"));
    wait_for_image();
    assert_int_equal(world.sent_count, 0);
    struct rollout *again = begin(&order);
    turn();
    answer_all();
    assert_int_equal(again->state, ROLLOUT_RUNNING);
    then.ms += TRIGGER_BEGIN_MS;
    trigger_give_up_late(&world.trigger, &then);
    assert_int_equal(again->state, ROLLOUT_RUNNING);
    stop();
}

/* Only what the newer order names: the older one's other devices would else never be told. */
static void test_superseded_in_part(void **state)
{
    (void)state;
    start("updraft");
    struct trigger_order old = order_to(macs, 3), new = order_to(&macs[1], 1);
    old.version = "1.0+b";
    struct rollout *first = begin(&old), *second = begin(&new);
    turn();
    assert_true(first->state == ROLLOUT_RUNNING && first->commands_failed == 1);
    assert_true(first->devices[ROLLOUT_DEVICE_SKIPPED] == 1 && first->devices[ROLLOUT_DEVICE_TRIGGERED] == 2);
    set_link(SESSION_CONNECTED);
    answer_all();
    assert_int_equal(world.sent_count, 3);
    for (size_t i = 0; i < 3; i++) {
        bool is_newer = strstr(world.sent[i].topic, "5ccf7fb1e043") != NULL;
        assert_true((strstr(world.sent[i].payload, "\"version\":\"2.0\"") != NULL) == is_newer);
    }
    assert_true(first->state == ROLLOUT_RUNNING && second->state == ROLLOUT_RUNNING && second->acknowledged == 1);
    struct trigger_order rest = order_to(macs, 3); /* the second's, too, and nothing is left of either */
    struct rollout *third = begin(&rest);
    assert_true(first->state == ROLLOUT_ABORTED && second->state == ROLLOUT_ABORTED);
    assert_true(strcmp(third->supersedes, first->id) == 0 || strcmp(third->supersedes, second->id) == 0);
    answer_all();
    stop();
}

/* Nor may the older one's command reach a device that waits for its turn in the newer. */
static void test_superseded_before_its_turn(void **state)
{
    (void)state;
    start("updraft");
    struct trigger_order old = order_to(macs, 3), new = order_to(macs, 2);
    old.version = "1.0+b";
    new.in_flight = 1;
    struct rollout *first = begin(&old), *second = begin(&new);
    turn();
    assert_int_equal(results(PUBLISH_WITHDRAWN), 1);
    assert_true(first->devices[ROLLOUT_DEVICE_TRIGGERED] == 1 && second->devices[ROLLOUT_DEVICE_QUEUED] == 1);
    set_link(SESSION_CONNECTED);
    answer_all();
    assert_int_equal(world.sent_count, 2);
    for (size_t i = 0; i < 2; i++) {
        bool is_newer = strstr(world.sent[i].topic, "5ccf7fb1e042") != NULL;
        assert_true((strstr(world.sent[i].payload, "\"version\":\"2.0\"") != NULL) == is_newer);
    }
    stop();
}

/* A device that was told its address gets the word as well: else it would fetch from there at some later command. */
static void test_superseded_when_half_told(void **state)
{
    (void)state;
    static const enum status ways[] = { STATUS_OK, STATUS_IO };
    for (int i = 0; i < 4; i++) {
        bool to_type = i >= 2;
        start("tasmota");
        set_link(SESSION_CONNECTED);
        struct trigger_order order = order_to(macs, 2);
        struct rollout *first = begin(&order);
        answer(ways[i % 2]); /* of the first device's address; it may have come */
        if (ways[i % 2] == STATUS_IO) {
            set_link(SESSION_WAITING);
        }
        order = to_type ? order_of("door") : order_to(&macs[0], 1);
        struct rollout *second = begin(&order);
        assert_int_equal(first->state, to_type ? ROLLOUT_ABORTED : ROLLOUT_RUNNING);
        set_link(SESSION_CONNECTED);
        answer_all();
        unsigned addresses = 0, words = 0;
        for (size_t k = 0; k < world.sent_count; k++) {
            addresses += strcmp(world.sent[k].topic, "cmnd/tasmota_B1E042/OtaUrl") == 0;
            words += strcmp(world.sent[k].topic, "cmnd/tasmota_B1E042/Upgrade") == 0;
            assert_true(words <= addresses);
        }
        assert_int_equal(words, to_type ? 1 : 2); /* the newer one's own, too */
        assert_int_equal(second->state, ROLLOUT_RUNNING);
        stop();
    }
}

/* A retained word of the newer order must outlive the end of the older, whose topic it was before. */
static void test_superseded_in_part_and_retained(void **state)
{
    (void)state;
    start("updraft");
    world.trigger.retain = true;
    set_link(SESSION_CONNECTED);
    struct trigger_order old = order_to(macs, 2), new = order_to(&macs[0], 1);
    struct rollout *first = begin(&old);
    answer_all();
    begin(&new);
    answer_all();
    world.sent_count = 0;
    first->order.timeout_ms = 1;
    tick_in(1000);
    turn();
    assert_int_equal(first->state, ROLLOUT_DONE);
    answer_all();
    assert_int_equal(world.sent_count, 1);
    assert_string_equal(world.sent[0].topic, "updraft/door/5ccf7fb1e043/update");
    assert_int_equal(world.sent[0].payload_bytes, 0);
    stop();
}

/* While the older one's image is loaded, a newer one takes a device: it must not get both. */
static void test_superseded_in_part_while_its_image_is_loaded(void **state)
{
    (void)state;
    start("homie");
    set_link(SESSION_CONNECTED);
    struct trigger_order old = order_to(macs, 2), new = order_to(&macs[0], 1);
    old.version = "1.0+b";
    struct rollout *first = begin(&old), *second = begin(&new);
    wait_for_image();
    answer_all();
    assert_int_equal(world.sent_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(world.sent[i].is_image == (strstr(world.sent[i].topic, "5ccf7fb1e042") != NULL));
    }
    assert_true(first->state == ROLLOUT_RUNNING && first->acknowledged == 1 && first->commands == 1);
    assert_int_equal(second->state, ROLLOUT_RUNNING);
    stop();
}

static void test_image_that_cannot_be_loaded(void **state)
{
    (void)state;
    start("homie");
    set_link(SESSION_CONNECTED);
    folder_remove(&world.folder, "door/2.0.bin");
    struct trigger_order order = order_to(macs, 3);
    struct rollout *rollout = begin(&order);
    wait_for_image();
    assert_int_equal(rollout->state, ROLLOUT_ABORTED);
    assert_string_equal(rollout->why, "no command reached the broker: the image cannot be loaded");
    assert_int_equal(world.sent_count, 0);
    stop();
}

/* What waits for the broker outlives the catalog that it was found in, and the texts of its order. */
static void test_catalog_that_changes(void **state)
{
    (void)state;
    char type[] = "door", version[] = "1.0+b";
    struct mac device = macs[0];
    start("updraft");
    struct trigger_order order = order_to(&device, 1);
    order.type = slice_of(type);
    order.version = version;
    world.trigger.retain = true;
    struct rollout *rollout = begin(&order);
    memset(type, 'x', sizeof type - 1);
    memset(version, 'x', sizeof version - 1);
    memset(&device, 0xff, sizeof device);
    folder_remove(&world.folder, "door/1.0+b.bin");
    scan_again(0);
    set_link(SESSION_CONNECTED);
    assert_string_equal(world.sent[0].topic, "updraft/door/5ccf7fb1e042/update");
    assert_non_null(strstr(world.sent[0].payload, "\"version\":\"1.0+b\""));
    answer_all();
    tick_in(2 * MINUTE_MS); /* written once more: to be cleared */
    turn();
    assert_true(rollout_is_over(rollout) && world.sent_count == 2);
    assert_string_equal(world.sent[1].topic, world.sent[0].topic);
    answer_all();
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address_that_shows_later),
        cmocka_unit_test(test_queue_that_is_full),
        cmocka_unit_test(test_queue_that_stays_full),
        cmocka_unit_test(test_queue_that_is_full_and_a_pause),
        cmocka_unit_test(test_superseded_while_the_broker_is_away),
        cmocka_unit_test(test_superseded_on_its_way),
        cmocka_unit_test(test_superseded_while_its_image_is_loaded),
        cmocka_unit_test(test_an_image_that_does_not_come),
        cmocka_unit_test(test_superseded_in_part),
        cmocka_unit_test(test_superseded_before_its_turn),
        cmocka_unit_test(test_superseded_when_half_told),
        cmocka_unit_test(test_superseded_in_part_and_retained),
        cmocka_unit_test(test_superseded_in_part_while_its_image_is_loaded),
        cmocka_unit_test(test_image_that_cannot_be_loaded),
        cmocka_unit_test(test_catalog_that_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
