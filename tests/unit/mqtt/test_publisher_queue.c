/* What waits: replaced by a newer one, taken back, or over before its turn; and what is on its way meanwhile. */
#include "tests/unit/mqtt/publisher_fixture.h"

static void test_kept_while_the_broker_is_away(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    send_plain(&fixture, "a", "1");
    send_plain(&fixture, "b", "2");
    send_plain(&fixture, "c", "3");
    turn(&fixture);
    assert_int_equal(fixture.sent_count, 0);
    assert_int_equal(publisher_counts(fixture.publisher)->waiting, 3);
    go_online(&fixture);
    sent_since(&fixture, 0, "1 2 3 ");
    assert_int_equal(publisher_counts(fixture.publisher)->waiting, 0);
    ack_all(&fixture);
    assert_int_equal(fixture.answer_count, 3);
    finish(&fixture);
}

/* Devices must not get yesterday's command before today's; and its caller learns that it was never sent. */
static void test_a_waiting_one_is_replaced(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    uint64_t old = send_plain(&fixture, "a", "old");
    uint64_t other = send_plain(&fixture, "b", "other");
    uint64_t new = send_plain(&fixture, "a", "new");
    turn(&fixture);
    answered(&fixture, old, PUBLISH_REPLACED);
    assert_int_equal(fixture.answer_count, 1);
    go_online(&fixture);
    sent_since(&fixture, 0, "other new ");
    ack_all(&fixture);
    answered(&fixture, other, PUBLISH_ACKNOWLEDGED);
    answered(&fixture, new, PUBLISH_ACKNOWLEDGED);
    finish(&fixture);
}

/* A sketch and a file system are two things, though one topic tells of both: each waits for its turn, in order. */
static void test_only_the_same_thing_is_replaced(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    uint64_t old = send_about(&fixture, "a", "d1 (sketch)", "sketch1");
    uint64_t fs = send_about(&fixture, "a", "d1 (fs)", "fs");
    uint64_t new = send_about(&fixture, "a", "d1 (sketch)", "sketch2");
    turn(&fixture);
    assert_int_equal(fixture.answer_count, 1);
    answered(&fixture, old, PUBLISH_REPLACED);
    assert_int_equal(publisher_counts(fixture.publisher)->waiting, 2);
    go_online(&fixture);
    sent_since(&fixture, 0, "fs "); /* two at once could overtake each other */
    cut(&fixture);
    go_online(&fixture);
    sent_since(&fixture, 1, "fs ");
    ack(&fixture);
    sent_since(&fixture, 1, "fs sketch2 ");
    ack_all(&fixture);
    answered(&fixture, fs, PUBLISH_ACKNOWLEDGED);
    answered(&fixture, new, PUBLISH_ACKNOWLEDGED);
    finish(&fixture);
}

/* Firmware whose topics name the image: an older order for the same device is older whatever its topic. */
static void test_the_same_thing_on_another_topic(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    uint64_t old = send_about(&fixture, "ota/aaaa", "d1 (sketch)", "old");
    uint64_t new = send_about(&fixture, "ota/bbbb", "d1 (sketch)", "new");
    turn(&fixture);
    answered(&fixture, old, PUBLISH_REPLACED);
    go_online(&fixture);
    sent_since(&fixture, 0, "new ");
    ack_all(&fixture);
    answered(&fixture, new, PUBLISH_ACKNOWLEDGED);
    finish(&fixture);
}

/* Who reads "replaced" must know by what, and that nothing is to be done. */
static void test_why_it_was_replaced(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    uint64_t away = send_about(&fixture, "a", "d1 (sketch)", "1");
    send_about(&fixture, "a", "d1 (sketch)", "2");
    turn(&fixture);
    assert_string_equal(why_of(&fixture, away),
                        "a newer command for d1 (sketch) came while the broker was away; that one "
                        "is sent when it is back");
    go_online(&fixture);
    uint64_t behind = send_about(&fixture, "a", "d1 (sketch)", "3");
    send_about(&fixture, "a", "d1 (sketch)", "4");
    turn(&fixture);
    assert_string_equal(why_of(&fixture, behind), "a newer command for d1 (sketch) came before this one was sent; that "
                                                  "one is sent in its place");
    finish(&fixture);
}

/* One that is on its way cannot be taken back, so a later one of its topic waits: two at once could overtake. */
static void test_one_on_its_way_is_waited_for(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    go_online(&fixture);
    uint64_t first = send_plain(&fixture, "a", "1");
    uint64_t second = send_plain(&fixture, "a", "2");
    uint64_t third = send_plain(&fixture, "a", "3");
    turn(&fixture);
    sent_since(&fixture, 0, "1 ");
    answered(&fixture, second, PUBLISH_REPLACED);
    ack(&fixture);
    sent_since(&fixture, 0, "1 3 ");
    ack_all(&fixture);
    answered(&fixture, first, PUBLISH_ACKNOWLEDGED);
    answered(&fixture, third, PUBLISH_ACKNOWLEDGED);
    finish(&fixture);
}

static void test_withdrawn(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    uint64_t first = send_plain(&fixture, "a", "1");
    uint64_t second = send_plain(&fixture, "b", "2");
    assert_true(publisher_withdraw(fixture.publisher, first));
    assert_false(publisher_withdraw(fixture.publisher, first)); /* it is no more */
    assert_int_equal(fixture.answer_count, 0);
    go_online(&fixture);
    sent_since(&fixture, 0, "2 ");
    assert_false(publisher_withdraw(fixture.publisher, second)); /* it may have arrived */
    cut(&fixture);
    assert_false(publisher_withdraw(fixture.publisher, second));
    go_online(&fixture);
    ack_all(&fixture);
    answered(&fixture, first, PUBLISH_WITHDRAWN);
    answered(&fixture, second, PUBLISH_ACKNOWLEDGED);
    assert_false(publisher_withdraw(fixture.publisher, second));
    assert_false(publisher_withdraw(fixture.publisher, 12345));
    finish(&fixture);
}

/* Who gave up must not find the device flashed next week: what is on its way is not sent again when the link breaks. */
static void test_abandoned(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    uint64_t waits = send_plain(&fixture, "a", "1");
    assert_true(publisher_abandon(fixture.publisher, waits));
    uint64_t acknowledged = send_plain(&fixture, "b", "2");
    go_online(&fixture);
    assert_false(publisher_abandon(fixture.publisher, acknowledged)); /* it may have arrived */
    ack_all(&fixture);
    uint64_t lost = send_plain(&fixture, "c", "3");
    assert_false(publisher_abandon(fixture.publisher, lost));
    cut(&fixture);
    size_t before = fixture.sent_count;
    go_online(&fixture);
    turn(&fixture);
    assert_int_equal(fixture.sent_count, before);
    answered(&fixture, waits, PUBLISH_WITHDRAWN);
    answered(&fixture, acknowledged, PUBLISH_ACKNOWLEDGED);
    answered(&fixture, lost, PUBLISH_WITHDRAWN);
    assert_true(publisher_abandon(fixture.publisher, lost)); /* it has ended */
    finish(&fixture);
}

/* An operator who gave up must not see devices update an hour later. */
static void test_expires_while_it_waits(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    uint64_t late = send_expiring(&fixture, "a", "late", 40);
    uint64_t soon = send_expiring(&fixture, "b", "soon", 15);
    uint64_t never = send_plain(&fixture, "c", "never");
    turn(&fixture);
    assert_int_equal(fixture.answer_count, 0);
    pass(&fixture, 20);
    answered(&fixture, soon, PUBLISH_EXPIRED);
    assert_int_equal(fixture.answer_count, 1);
    pass(&fixture, 25);
    answered(&fixture, late, PUBLISH_EXPIRED);
    go_online(&fixture);
    sent_since(&fixture, 0, "never ");
    ack_all(&fixture);
    answered(&fixture, never, PUBLISH_ACKNOWLEDGED);
    finish(&fixture);
}

/* On its way it can still arrive, so only the broker's answer decides; what is left of it is not sent any more. */
static void test_expires_on_its_way(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    go_online(&fixture);
    struct publisher_command parts = { .part_count = 2, .parts = { { "url", "u", NULL }, { "go", "g", NULL } } };
    parts.expires_ms = 10;
    uint64_t whole = send_expiring(&fixture, "a", "1", 10);
    uint64_t half = send_command(&fixture, &parts);
    uint64_t lost = send_expiring(&fixture, "b", "2", 10);
    pass(&fixture, 15);
    assert_int_equal(fixture.answer_count, 0);
    ack(&fixture);
    ack(&fixture);
    cut(&fixture);
    pass(&fixture, 2);
    sent_since(&fixture, 0, "1 u 2 ");
    answered(&fixture, whole, PUBLISH_ACKNOWLEDGED);
    answered(&fixture, half, PUBLISH_EXPIRED);
    answered(&fixture, lost, PUBLISH_EXPIRED);
    finish(&fixture);
}

/* The loop may be late with its timers: what is over by the clock is not sent. */
static void test_expires_before_the_timer(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    uint64_t ticket = send_expiring(&fixture, "a", "1", 10);
    clock_ms += 15;
    uv_update_time(&fixture.loop);
    go_online(&fixture);
    assert_int_equal(fixture.sent_count, 0);
    turn(&fixture);
    answered(&fixture, ticket, PUBLISH_EXPIRED);
    finish(&fixture);
}

/* One that came back in time expires like any that waits. */
static void test_expires_after_a_cut(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    go_online(&fixture);
    uint64_t ticket = send_expiring(&fixture, "a", "1", 30);
    cut(&fixture);
    turn(&fixture);
    assert_int_equal(fixture.answer_count, 0);
    pass(&fixture, 35);
    answered(&fixture, ticket, PUBLISH_EXPIRED);
    finish(&fixture);
}

/* A broker that holds it for a sleeping device must drop it when the caller does. */
static void test_carries_what_is_left(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    send_expiring(&fixture, "a", "1", 5000);
    send_expiring(&fixture, "b", "2", 5010);
    send_expiring(&fixture, "c", "3", UINT64_MAX - 5);
    send_plain(&fixture, "d", "4");
    go_online(&fixture);
    assert_int_equal(fixture.sent[0].expiry_s, 5);
    assert_int_equal(fixture.sent[1].expiry_s, 6);
    assert_true(fixture.sent[2].expiry_s == UINT32_MAX || fixture.sent[2].expiry_s == 0);
    assert_int_equal(fixture.sent[3].expiry_s, 0);
    cut(&fixture);
    pass(&fixture, 20);
    go_online(&fixture);
    assert_int_equal(fixture.sent[5].expiry_s, 5);
    finish(&fixture);
}

/* One that waits for room holds back those behind it; taken back, it must not go on doing so. */
static void test_withdrawn_makes_way(void **state)
{
    (void)state;
    struct fixture fixture;
    struct shared_bytes *large = shared_bytes_new(5000);
    memset(large->bytes, 'l', 5000);
    struct publisher_command command = image_command("b", large);
    start(&fixture);
    go_online(&fixture);
    send_plain(&fixture, "a", "1");
    uint64_t ticket = send_command(&fixture, &command);
    send_plain(&fixture, "c", "3");
    sent_since(&fixture, 0, "1 ");
    assert_true(publisher_withdraw(fixture.publisher, ticket));
    sent_since(&fixture, 0, "1 3 ");
    shared_bytes_unref(large);
    finish(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept_while_the_broker_is_away),
        cmocka_unit_test(test_a_waiting_one_is_replaced),
        cmocka_unit_test(test_only_the_same_thing_is_replaced),
        cmocka_unit_test(test_the_same_thing_on_another_topic),
        cmocka_unit_test(test_why_it_was_replaced),
        cmocka_unit_test(test_one_on_its_way_is_waited_for),
        cmocka_unit_test(test_withdrawn),
        cmocka_unit_test(test_abandoned),
        cmocka_unit_test(test_expires_while_it_waits),
        cmocka_unit_test(test_expires_on_its_way),
        cmocka_unit_test(test_expires_before_the_timer),
        cmocka_unit_test(test_expires_after_a_cut),
        cmocka_unit_test(test_carries_what_is_left),
        cmocka_unit_test(test_withdrawn_makes_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
