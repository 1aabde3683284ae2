/* What the broker is to keep: put back where it has forgotten it, and cleared when it is no longer wanted. */
#include "tests/unit/mqtt/publisher_fixture.h"

/* A broker that was killed has forgotten what it kept: the last of each topic is put back, older ones are not. */
static void test_retained_is_sent_again(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    go_online(&fixture);
    send_retained(&fixture, "a", "a1");
    send_plain(&fixture, "b", "b1");
    ack_all(&fixture);
    send_retained(&fixture, "a", "a2");
    send_retained(&fixture, "c", "c1");
    ack_all(&fixture);
    assert_true(fixture.sent[0].retain);
    assert_false(fixture.sent[1].retain);
    size_t before = fixture.sent_count;
    cut(&fixture);
    go_online(&fixture);
    sent_since(&fixture, before, "a2 c1 ");
    assert_true(fixture.sent[before].retain);
    cut(&fixture); /* while they are on their way: again, once */
    before = fixture.sent_count;
    go_online(&fixture);
    sent_since(&fixture, before, "a2 c1 ");
    ack_all(&fixture);
    assert_int_equal(fixture.answer_count, 4); /* nobody asked about these */
    assert_int_equal(publisher_counts(fixture.publisher)->waiting, 0);
    publisher_on_state(fixture.publisher, &fixture.view); /* the same link: no reason */
    sent_since(&fixture, before, "a2 c1 ");
    finish(&fixture);
}

/* The old must not come after the new of its topic and stay there. */
static void test_retained_old_never_after_new(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    go_online(&fixture);
    send_retained(&fixture, "a", "old");
    ack_all(&fixture);
    cut(&fixture);
    send_retained(&fixture, "a", "new");
    size_t before = fixture.sent_count;
    go_online(&fixture);
    ack_all(&fixture);
    sent_since(&fixture, before, "old new ");

    send_retained(&fixture, "a", "newer"); /* on its way when the link breaks */
    cut(&fixture);
    before = fixture.sent_count;
    go_online(&fixture);
    ack_all(&fixture);
    sent_since(&fixture, before, "newer ");
    finish(&fixture);
}

static void test_retained_and_forgotten(void **state)
{
    (void)state;
    struct fixture fixture;
    struct publisher_command parts = { .part_count = 2,
                                       .parts = { { "url", "u", NULL }, { "go", "g", NULL } },
                                       .retain = true };
    start(&fixture);
    go_online(&fixture);
    send_command(&fixture, &parts);
    ack_all(&fixture);
    publisher_forget(fixture.publisher, &parts);
    ack_all(&fixture);
    assert_int_equal(fixture.sent_count, 4);
    for (size_t i = 2; i < 4; i++) {
        assert_string_equal(fixture.sent[i].topic, parts.parts[i - 2].topic);
        assert_int_equal(fixture.sent[i].payload_bytes, 0);
        assert_true(fixture.sent[i].retain);
    }
    cut(&fixture);
    go_online(&fixture);
    assert_int_equal(fixture.sent_count, 4);
    finish(&fixture);
}

/* A topic keeps one message: what a later command about something else put there is not the older one's to clear. */
static void test_forgotten_and_overwritten(void **state)
{
    (void)state;
    struct fixture fixture;
    struct publisher_command sketch = plain("a", "sketch");
    struct publisher_command fs = plain("a", "fs");
    sketch.about = "d1 (sketch)";
    fs.about = "d1 (fs)";
    sketch.retain = fs.retain = true;
    start(&fixture);
    go_online(&fixture);
    send_command(&fixture, &sketch);
    send_command(&fixture, &fs);
    ack_all(&fixture);
    publisher_forget(fixture.publisher, &sketch);
    sent_since(&fixture, 0, "sketch fs ");
    cut(&fixture);
    go_online(&fixture);
    ack_all(&fixture);
    sent_since(&fixture, 2, "fs ");
    send_command(&fixture, &sketch); /* on its way: it will be what the broker keeps */
    publisher_forget(fixture.publisher, &sketch);
    ack_all(&fixture);
    sent_since(&fixture, 3, "sketch  ");
    finish(&fixture);
}

/* Forgotten while the broker is away: it is cleared at the next connect, and a later one is not cleared with it. */
static void test_forgotten_while_away(void **state)
{
    (void)state;
    struct fixture fixture;
    struct publisher_command command = plain("a", "a1");
    start(&fixture);
    go_online(&fixture);
    send_retained(&fixture, "a", "a1");
    ack_all(&fixture);
    cut(&fixture);
    publisher_forget(fixture.publisher, &command);
    publisher_forget(fixture.publisher, &command);
    send_retained(&fixture, "a", "a2");
    size_t before = fixture.sent_count;
    go_online(&fixture);
    ack_all(&fixture);
    sent_since(&fixture, before, " a2 ");
    cut(&fixture);
    before = fixture.sent_count;
    go_online(&fixture);
    sent_since(&fixture, before, "a2 ");
    finish(&fixture);
}

/* The acknowledgement of the one to be cleared comes after the order to clear it: it must not be sent again. */
static void test_forgotten_on_its_way(void **state)
{
    (void)state;
    struct fixture fixture;
    struct publisher_command command = plain("a", "a1");
    start(&fixture);
    go_online(&fixture);
    send_retained(&fixture, "a", "a1");
    publisher_forget(fixture.publisher, &command);
    ack(&fixture);
    sent_since(&fixture, 0, "a1  ");
    cut(&fixture);
    go_online(&fixture);
    ack_all(&fixture);
    sent_since(&fixture, 0, "a1   ");
    finish(&fixture);
}

static void test_retained_expires(void **state)
{
    (void)state;
    struct fixture fixture;
    struct publisher_command command = plain("a", "a1");
    command.retain = true;
    command.expires_ms = 20;
    start(&fixture);
    go_online(&fixture);
    send_command(&fixture, &command);
    ack_all(&fixture);
    cut(&fixture);
    pass(&fixture, 25);
    go_online(&fixture);
    sent_since(&fixture, 0, "a1 ");
    finish(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retained_is_sent_again), cmocka_unit_test(test_retained_old_never_after_new),
        cmocka_unit_test(test_retained_and_forgotten), cmocka_unit_test(test_forgotten_and_overwritten),
        cmocka_unit_test(test_forgotten_while_away),   cmocka_unit_test(test_forgotten_on_its_way),
        cmocka_unit_test(test_retained_expires),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
