/* The publisher against a link that the test moves: it acknowledges, breaks and refuses when the test says so. Each
 * command must be answered once, by what really became of it, and no device may see commands in another order.
 * (test_publisher_queue.c: whose turn it is; test_publisher_retained.c: what the broker keeps.) */
#include "tests/unit/mqtt/publisher_fixture.h"

#include <sys/resource.h>

/* The hand-over proves nothing: a broker that dies would have taken the answer with it. */
static void test_answered_by_the_acknowledgement(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    go_online(&fixture);
    uint64_t ticket = send_plain(&fixture, "a", "1");
    turn(&fixture);
    sent_since(&fixture, 0, "1 ");
    assert_int_equal(fixture.answer_count, 0);
    assert_int_equal(publisher_counts(fixture.publisher)->in_flight, 1);
    ack(&fixture);
    turn(&fixture);
    answered(&fixture, ticket, PUBLISH_ACKNOWLEDGED);
    assert_int_equal(publisher_counts(fixture.publisher)->in_flight, 0);
    assert_int_equal(publisher_counts(fixture.publisher)->results[PUBLISH_ACKNOWLEDGED], 1);
    finish(&fixture);
}

/* A caller that is answered while it still sends would find its ticket unwritten. */
static void test_never_answered_from_within_send(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    fixture.acks_at_once = true;
    go_online(&fixture);
    uint64_t first = send_plain(&fixture, "a", "1");
    uint64_t second = send_parts(&fixture, "u", "g");
    assert_int_equal(fixture.answer_count, 0);
    turn(&fixture);
    answered(&fixture, first, PUBLISH_ACKNOWLEDGED);
    answered(&fixture, second, PUBLISH_ACKNOWLEDGED);
    sent_since(&fixture, 0, "1 u g ");
    finish(&fixture);
}

/* Tasmota starts its upgrade at the second: it must know the address by then. */
static void test_parts_go_one_by_one(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    go_online(&fixture);
    uint64_t first = send_parts(&fixture, "u1", "g1");
    uint64_t second = send_parts(&fixture, "u2", "g2");
    sent_since(&fixture, 0, "u1 ");
    ack(&fixture);
    sent_since(&fixture, 0, "u1 g1 ");
    assert_string_equal(fixture.sent[1].topic, "go");
    turn(&fixture);
    assert_int_equal(fixture.answer_count, 0);
    ack(&fixture);
    sent_since(&fixture, 0, "u1 g1 u2 ");
    turn(&fixture);
    answered(&fixture, first, PUBLISH_ACKNOWLEDGED);
    ack_all(&fixture);
    answered(&fixture, second, PUBLISH_ACKNOWLEDGED);
    sent_since(&fixture, 0, "u1 g1 u2 g2 ");
    finish(&fixture);
}

/* What a broken link brings back goes out first and in its order; only the part that was lost. */
static void test_sent_again_after_a_cut(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    go_online(&fixture);
    send_parts(&fixture, "u", "g");
    send_plain(&fixture, "a", "1");
    send_plain(&fixture, "b", "2");
    send_plain(&fixture, "c", "3");
    send_plain(&fixture, "d", "4");
    send_plain(&fixture, "a", "5");
    ack(&fixture); /* u; so g and then 4 wait for room: g takes it */
    sent_since(&fixture, 0, "u 1 2 3 g ");
    cut(&fixture);
    assert_int_equal(publisher_counts(fixture.publisher)->in_flight, 0);
    assert_int_equal(publisher_counts(fixture.publisher)->waiting, 6);
    turn(&fixture);
    assert_int_equal(fixture.answer_count, 0);
    go_online(&fixture);
    sent_since(&fixture, 5, "g 1 2 3 ");
    assert_int_equal(publisher_counts(fixture.publisher)->retried, 4);
    ack(&fixture);
    sent_since(&fixture, 9, "4 ");
    cut(&fixture); /* in the middle of it */
    go_online(&fixture);
    sent_since(&fixture, 10, "1 2 3 4 ");
    ack_all(&fixture);
    sent_since(&fixture, 14, "5 ");
    assert_int_equal(fixture.answer_count, 6);
    assert_int_equal(publisher_counts(fixture.publisher)->results[PUBLISH_ACKNOWLEDGED], 6);
    finish(&fixture);
}

/* The first message may be back before the news that the link is gone: sending into it would go round in circles. */
static void test_a_broken_link_is_left_alone(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    go_online(&fixture);
    send_plain(&fixture, "a", "1");
    send_plain(&fixture, "b", "2");
    give_back(&fixture, 0, STATUS_IO, "");
    send_plain(&fixture, "c", "3");
    turn(&fixture);
    sent_since(&fixture, 0, "1 2 ");
    give_back(&fixture, 0, STATUS_IO, "");
    go_offline(&fixture);
    go_online(&fixture);
    sent_since(&fixture, 2, "1 2 3 ");

    go_offline(&fixture); /* a straggler of the link before, told of when the next one stands: no reason to wait */
    fixture.view.state = SESSION_CONNECTED;
    fixture.view.connects++;
    publisher_on_state(fixture.publisher, &fixture.view);
    give_back(&fixture, 2, STATUS_IO, "");
    sent_since(&fixture, 5, "3 ");
    ack_all(&fixture);
    assert_int_equal(fixture.answer_count, 3);
    finish(&fixture);
}

/* Should the news never come, the queue must not stand for ever. */
static void test_the_wait_for_news_ends(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    go_online(&fixture);
    send_plain(&fixture, "a", "1");
    give_back(&fixture, 0, STATUS_IO, "");
    sent_since(&fixture, 0, "1 ");
    pass(&fixture, 1010);
    sent_since(&fixture, 0, "1 1 ");
    ack_all(&fixture);
    finish(&fixture);
}

static void test_the_window(void **state)
{
    (void)state;
    static const char *const topics[] = { "a", "b", "c", "d", "e", "f" };
    struct fixture fixture;
    start(&fixture);
    for (size_t i = 0; i < 6; i++) {
        send_plain(&fixture, topics[i], topics[i]);
    }
    fixture.view.receive_maximum = 2; /* the broker's is the smaller one */
    go_online(&fixture);
    assert_int_equal(fixture.on_way_count, 2);
    ack(&fixture);
    assert_int_equal(fixture.on_way_count, 2);
    cut(&fixture);
    fixture.view.receive_maximum = 65535; /* our own is: 4 */
    go_online(&fixture);
    assert_int_equal(fixture.on_way_count, 4);
    ack_all(&fixture);
    assert_int_equal(fixture.answer_count, 6);
    finish(&fixture);
}

/* Images on their way are held in memory, by us and by the library: not many at once, but one must pass. */
static void test_bytes_are_bounded(void **state)
{
    (void)state;
    struct fixture fixture;
    struct shared_bytes *half = shared_bytes_new(500);
    struct shared_bytes *large = shared_bytes_new(5000);
    memset(half->bytes, 'h', 500);
    memset(large->bytes, 'l', 5000);
    struct publisher_command commands[] = {
        image_command("a", half),  image_command("b", half), image_command("c", half),
        image_command("d", large), plain("e", "small"),
    };
    start(&fixture);
    go_online(&fixture);
    for (size_t i = 0; i < 5; i++) {
        send_command(&fixture, &commands[i]);
    }
    assert_int_equal(fixture.on_way_count, 2);
    ack(&fixture);
    assert_int_equal(fixture.on_way_count, 2); /* c */
    ack(&fixture);
    assert_int_equal(fixture.on_way_count, 1); /* d is too large beside c; e does not overtake */
    ack(&fixture);
    assert_int_equal(fixture.on_way_count, 1);
    assert_int_equal(fixture.sent[3].payload_bytes, 5000);
    ack(&fixture);
    assert_string_equal(fixture.sent[4].payload, "small");
    ack_all(&fixture);
    assert_int_equal(fixture.answer_count, 5);
    assert_int_equal(half->refs, 1); /* else images would stay in memory for ever, or go too early */
    assert_int_equal(large->refs, 1);
    shared_bytes_unref(half);
    shared_bytes_unref(large);
    finish(&fixture);
}

/* Again is no use: the caller learns what the broker said, and the next of the topic has its turn. */
static void test_refused(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    go_online(&fixture);
    uint64_t denied = send_plain(&fixture, "a", "1");
    uint64_t too_long = send_plain(&fixture, "b", "2");
    uint64_t next = send_plain(&fixture, "a", "3");
    give_back(&fixture, 0, STATUS_DENIED, "not authorized");
    give_back(&fixture, 0, STATUS_TOO_LONG, "");
    turn(&fixture);
    answered(&fixture, denied, PUBLISH_REFUSED);
    answered(&fixture, too_long, PUBLISH_REFUSED);
    assert_string_equal(fixture.answers[0].why, "not authorized");
    assert_string_not_equal(fixture.answers[1].why, "");
    ack_all(&fixture);
    answered(&fixture, next, PUBLISH_ACKNOWLEDGED);
    assert_string_equal(fixture.answers[2].why, "");
    finish(&fixture);
}

static void test_limits(void **state)
{
    (void)state;
    struct fixture fixture;
    const struct publisher_config config = { .in_flight_max = 1, .commands_max = 2, .bytes_max = 1000 };
    char topic[SESSION_TOPIC_MAX + 2];
    struct publisher_command command = plain("c", "3");
    uint64_t ticket = 77;
    start_with(&fixture, &config);
    send_plain(&fixture, "a", "1");
    uint64_t second = send_plain(&fixture, "b", "2");
    assert_int_equal(publisher_send(fixture.publisher, &command, on_done, &fixture, &ticket), STATUS_BUSY);
    assert_int_equal(ticket, 77);
    send_plain(&fixture, "b", "replaces"); /* takes no more room */
    turn(&fixture);
    answered(&fixture, second, PUBLISH_REPLACED);
    go_online(&fixture); /* one is on its way, which counts */
    assert_int_equal(publisher_send(fixture.publisher, &command, on_done, &fixture, &ticket), STATUS_BUSY);
    ack_all(&fixture);
    send_command(&fixture, &command);

    memset(topic, 't', sizeof topic - 1);
    topic[SESSION_TOPIC_MAX + 1] = '\0';
    command.parts[0].topic = topic;
    assert_int_equal(publisher_send(fixture.publisher, &command, on_done, &fixture, &ticket), STATUS_TOO_LONG);
    topic[SESSION_TOPIC_MAX] = '\0';
    ack_all(&fixture);
    send_command(&fixture, &command);
    finish(&fixture);
}

/* Nobody may wait for an answer that never comes. */
static void test_stopped(void **state)
{
    (void)state;
    struct fixture fixture;
    struct shared_bytes *image = shared_bytes_new(3);
    struct publisher_command command = image_command("c", image);
    memcpy(image->bytes, "img", 3);
    start(&fixture);
    uint64_t tickets[] = { send_plain(&fixture, "a", "1"), send_expiring(&fixture, "b", "2", 100000),
                           send_command(&fixture, &command) };
    publisher_close(fixture.publisher, on_closed, &fixture);
    assert_int_equal(fixture.answer_count, 0);
    uint64_t ticket;
    assert_int_equal(publisher_send(fixture.publisher, &command, on_done, &fixture, &ticket), STATUS_LIMIT);
    uv_run(&fixture.loop, UV_RUN_DEFAULT);
    assert_true(fixture.closed);
    for (size_t i = 0; i < 3; i++) {
        answered(&fixture, tickets[i], PUBLISH_STOPPED);
    }
    assert_int_equal(image->refs, 1);
    shared_bytes_unref(image);
    assert_int_equal(uv_loop_close(&fixture.loop), 0);
}

/* A session that hangs is left behind with what it holds: that must stay readable when the publisher is gone. */
static void test_left_behind(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    go_online(&fixture);
    uint64_t ticket = send_plain(&fixture, "a", "still here");
    static struct session_message *message; /* the session's, so LeakSanitizer must see it */
    message = fixture.on_way[0];
    publisher_close(fixture.publisher, on_closed, &fixture);
    assert_int_equal(publisher_counts(fixture.publisher)->waiting, 0);
    uv_run(&fixture.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&fixture.loop), 0);
    answered(&fixture, ticket, PUBLISH_STOPPED);
    assert_memory_equal(message->payload, "still here", 10);
}

/* Of this process: what others on the machine take is not counted. */
static uint64_t worked_ms(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
           (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000;
}

static void on_done_count(void *owner, uint64_t ticket, enum publish_result result, const char *why)
{
    (void)ticket;
    (void)why;
    if (result == PUBLISH_ACKNOWLEDGED) {
        (*(size_t *)owner)++;
    }
}

struct ring {
    struct session_message *messages[256];
    size_t first, count, sent;
};

static void on_publish_ring(void *link, struct session_message *message)
{
    struct ring *ring = link;
    assert_true(ring->count < 256);
    ring->messages[(ring->first + ring->count++) % 256] = message;
    ring->sent++;
}

/* One command for each of 100,000 devices while the broker is away, every tenth replaced, with a cut in between. Work
 * that grows with the queue would take minutes. */
static void test_a_hundred_thousand(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    const struct publisher_config config = { .in_flight_max = 200, .commands_max = COUNT, .bytes_max = 1 << 20 };
    struct ring ring = { { NULL }, 0, 0, 0 };
    struct session_view view = { .state = SESSION_WAITING, .receive_maximum = 65535 };
    size_t acknowledged = 0;
    uv_loop_t loop;
    uv_loop_init(&loop);
    struct publisher *publisher = publisher_new(&loop, &config);
    publisher_connect(publisher, &(struct publisher_link){ on_publish_ring, &ring });
    uint64_t start_ms = worked_ms();
    for (unsigned i = 0; i < COUNT + COUNT / 10; i++) {
        char topic[64];
        uint64_t ticket;
        snprintf(topic, sizeof topic, "updraft/d1_mini/%012x/update", i < COUNT ? i : (i - COUNT) * 10);
        struct publisher_command command = plain(topic, "{\"id\":\"00112233445566ff\"}");
        command.expires_ms = 1000000 + (i * 7919) % 100000;
        assert_int_equal(publisher_send(publisher, &command, on_done_count, &acknowledged, &ticket), STATUS_OK);
    }
    uint64_t sent_ms = worked_ms();
    for (size_t links = 1; links <= 2; links++) {
        view = (struct session_view){ .state = SESSION_CONNECTED, .receive_maximum = 65535, .connects = links };
        publisher_on_state(publisher, &view);
        while (ring.count > 0 && (links == 2 || ring.sent < COUNT / 2)) {
            struct session_message *message = ring.messages[ring.first++ % 256];
            ring.count--;
            message->status = STATUS_OK;
            publisher_on_published(publisher, message);
            uv_run(&loop, UV_RUN_NOWAIT);
        }
        view.state = SESSION_WAITING;
        publisher_on_state(publisher, &view);
        while (ring.count > 0) {
            struct session_message *message = ring.messages[ring.first++ % 256];
            ring.count--;
            message->status = STATUS_IO;
            publisher_on_published(publisher, message);
        }
    }
    uint64_t end_ms = worked_ms();
    printf("    100,000 commands: accepted in %d ms, acknowledged in %d ms\n", (int)(sent_ms - start_ms),
           (int)(end_ms - sent_ms));
    publisher_close(publisher, NULL, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(acknowledged, COUNT);
    assert_true(end_ms - start_ms < 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answered_by_the_acknowledgement),
        cmocka_unit_test(test_never_answered_from_within_send),
        cmocka_unit_test(test_parts_go_one_by_one),
        cmocka_unit_test(test_sent_again_after_a_cut),
        cmocka_unit_test(test_a_broken_link_is_left_alone),
        cmocka_unit_test(test_the_wait_for_news_ends),
        cmocka_unit_test(test_the_window),
        cmocka_unit_test(test_bytes_are_bounded),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_left_behind),
        cmocka_unit_test(test_a_hundred_thousand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
