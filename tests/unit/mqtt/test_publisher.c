/* The publisher against a link that the test moves: it acknowledges, breaks and refuses when the test says so. Each
 * command must be answered once, by what really became of it, and no device may see commands in another order.
 */
#include "mqtt/publisher.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LOG_MAX 64

struct sent {
    char topic[SESSION_TOPIC_MAX + 1];
    char payload[32];
    size_t payload_bytes;
    bool retain;
    uint32_t expiry_s;
};

struct answer {
    void *owner;
    uint64_t ticket;
    enum publish_result result;
    char why[120];
};

/* The broker and its link. Messages on their way stand in the order of their publishing. */
struct fixture {
    uv_loop_t loop;
    struct publisher *publisher;
    struct session_view view;
    struct session_message *on_way[LOG_MAX];
    size_t on_way_count;
    struct sent sent[LOG_MAX];
    size_t sent_count;
    struct answer answers[LOG_MAX];
    size_t answer_count;
    bool sending;      /* within publisher_send */
    bool acks_at_once; /* from within publish */
    bool closed;
};

static void on_publish(void *link, struct session_message *message)
{
    struct fixture *fixture = link;
    assert_true(fixture->sent_count < LOG_MAX && fixture->on_way_count < LOG_MAX);
    assert_int_equal(fixture->view.state, SESSION_CONNECTED);
    struct sent *sent = &fixture->sent[fixture->sent_count++];
    strcpy(sent->topic, message->topic);
    snprintf(sent->payload, sizeof sent->payload, "%.*s", (int)message->payload_bytes, (const char *)message->payload);
    sent->payload_bytes = message->payload_bytes;
    sent->retain = message->retain;
    sent->expiry_s = message->expiry_s;
    if (fixture->acks_at_once) {
        message->status = STATUS_OK;
        publisher_on_published(fixture->publisher, message);
    } else {
        fixture->on_way[fixture->on_way_count++] = message;
    }
}

static void on_done(void *owner, uint64_t ticket, enum publish_result result, const char *why)
{
    struct fixture *fixture = owner;
    assert_false(fixture->sending);
    assert_true(fixture->answer_count < LOG_MAX);
    struct answer *answer = &fixture->answers[fixture->answer_count++];
    answer->ticket = ticket;
    answer->result = result;
    snprintf(answer->why, sizeof answer->why, "%s", why);
}

static const struct publisher_config usual = { .in_flight_max = 4, .commands_max = 16, .bytes_max = 1000 };

static void start_with(struct fixture *fixture, const struct publisher_config *config)
{
    memset(fixture, 0, sizeof *fixture);
    uv_loop_init(&fixture->loop);
    fixture->publisher = publisher_new(&fixture->loop, config);
    fixture->view = (struct session_view){ .state = SESSION_WAITING, .receive_maximum = 65535 };
    publisher_connect(fixture->publisher, &(struct publisher_link){ on_publish, fixture });
}

static void start(struct fixture *fixture)
{
    start_with(fixture, &usual);
}

/* Lets answers and expiries happen. */
static void turn(struct fixture *fixture)
{
    for (int i = 0; i < 3; i++) {
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
    }
}

static void pass(struct fixture *fixture, unsigned ms)
{
    uv_sleep(ms);
    uv_update_time(&fixture->loop);
    turn(fixture);
}

static void go_online(struct fixture *fixture)
{
    fixture->view.state = SESSION_CONNECTED;
    fixture->view.connects++;
    publisher_on_state(fixture->publisher, &fixture->view);
}

static void go_offline(struct fixture *fixture)
{
    fixture->view.state = SESSION_WAITING;
    publisher_on_state(fixture->publisher, &fixture->view);
}

/* Message i of those on their way comes back. */
static void give_back(struct fixture *fixture, size_t i, enum status status, const char *why)
{
    assert_true(i < fixture->on_way_count);
    struct session_message *message = fixture->on_way[i];
    fixture->on_way_count--;
    memmove(fixture->on_way + i, fixture->on_way + i + 1, (fixture->on_way_count - i) * sizeof(void *));
    message->status = status;
    snprintf(message->why, sizeof message->why, "%s", why);
    publisher_on_published(fixture->publisher, message);
}

static void ack(struct fixture *fixture)
{
    give_back(fixture, 0, STATUS_OK, "");
}

static void ack_all(struct fixture *fixture)
{
    while (fixture->on_way_count > 0) {
        ack(fixture);
    }
    turn(fixture);
}

static void cut(struct fixture *fixture)
{
    go_offline(fixture);
    while (fixture->on_way_count > 0) {
        give_back(fixture, 0, STATUS_IO, "");
    }
}

static void on_closed(void *owner)
{
    struct fixture *fixture = owner;
    fixture->closed = true;
}

static void close_publisher(struct fixture *fixture)
{
    publisher_close(fixture->publisher, on_closed, fixture);
    assert_false(fixture->closed);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    assert_true(fixture->closed);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
}

/* As the session does, which brings back everything before it stops. */
static void finish(struct fixture *fixture)
{
    cut(fixture);
    close_publisher(fixture);
}

static uint64_t send_command(struct fixture *fixture, const struct publisher_command *command)
{
    uint64_t ticket = 0;
    fixture->sending = true;
    assert_int_equal(publisher_send(fixture->publisher, command, on_done, fixture, &ticket), STATUS_OK);
    fixture->sending = false;
    return ticket;
}

static struct publisher_command plain(const char *topic, const char *payload)
{
    return (struct publisher_command){ .part_count = 1, .parts = { { topic, payload, NULL } } };
}

static uint64_t send_plain(struct fixture *fixture, const char *topic, const char *payload)
{
    struct publisher_command command = plain(topic, payload);
    return send_command(fixture, &command);
}

static uint64_t send_retained(struct fixture *fixture, const char *topic, const char *payload)
{
    struct publisher_command command = plain(topic, payload);
    command.retain = true;
    return send_command(fixture, &command);
}

static uint64_t send_parts(struct fixture *fixture, const char *first, const char *second)
{
    struct publisher_command command = { .part_count = 2, .parts = { { "url", first, NULL }, { "go", second, NULL } } };
    return send_command(fixture, &command);
}

static uint64_t send_about(struct fixture *fixture, const char *topic, const char *about, const char *payload)
{
    struct publisher_command command = plain(topic, payload);
    command.about = about;
    return send_command(fixture, &command);
}

/* What the link saw from message `from` on: payloads, with a blank behind each. */
static void sent_since(const struct fixture *fixture, size_t from, const char *wanted)
{
    char seen[512] = "";
    for (size_t i = from; i < fixture->sent_count; i++) {
        strcat(strcat(seen, fixture->sent[i].payload), " ");
    }
    assert_string_equal(seen, wanted);
}

static void answered(const struct fixture *fixture, uint64_t ticket, enum publish_result result)
{
    size_t times = 0;
    for (size_t i = 0; i < fixture->answer_count; i++) {
        if (fixture->answers[i].ticket == ticket) {
            assert_string_equal(publish_result_word(fixture->answers[i].result), publish_result_word(result));
            times++;
        }
    }
    assert_int_equal(times, 1);
}

static const char *why_of(const struct fixture *fixture, uint64_t ticket)
{
    const char *why = "no answer";
    for (size_t i = 0; i < fixture->answer_count; i++) {
        why = fixture->answers[i].ticket == ticket ? fixture->answers[i].why : why;
    }
    return why;
}

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

static uint64_t send_expiring(struct fixture *fixture, const char *topic, const char *payload, uint64_t ms)
{
    struct publisher_command command = plain(topic, payload);
    command.expires_ms = ms;
    return send_command(fixture, &command);
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
    uv_sleep(15);
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

static struct publisher_command image_command(const char *topic, struct shared_bytes *image)
{
    return (struct publisher_command){ .part_count = 1, .parts = { { topic, NULL, image } } };
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

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
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
    uint64_t start_ms = now_ms();
    for (unsigned i = 0; i < COUNT + COUNT / 10; i++) {
        char topic[64];
        uint64_t ticket;
        snprintf(topic, sizeof topic, "updraft/d1_mini/%012x/update", i < COUNT ? i : (i - COUNT) * 10);
        struct publisher_command command = plain(topic, "{\"id\":\"00112233445566ff\"}");
        command.expires_ms = 1000000 + (i * 7919) % 100000;
        assert_int_equal(publisher_send(publisher, &command, on_done_count, &acknowledged, &ticket), STATUS_OK);
    }
    uint64_t sent_ms = now_ms();
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
    uint64_t end_ms = now_ms();
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
        cmocka_unit_test(test_kept_while_the_broker_is_away),
        cmocka_unit_test(test_a_waiting_one_is_replaced),
        cmocka_unit_test(test_only_the_same_thing_is_replaced),
        cmocka_unit_test(test_the_same_thing_on_another_topic),
        cmocka_unit_test(test_why_it_was_replaced),
        cmocka_unit_test(test_one_on_its_way_is_waited_for),
        cmocka_unit_test(test_parts_go_one_by_one),
        cmocka_unit_test(test_sent_again_after_a_cut),
        cmocka_unit_test(test_a_broken_link_is_left_alone),
        cmocka_unit_test(test_the_wait_for_news_ends),
        cmocka_unit_test(test_withdrawn),
        cmocka_unit_test(test_abandoned),
        cmocka_unit_test(test_expires_while_it_waits),
        cmocka_unit_test(test_expires_on_its_way),
        cmocka_unit_test(test_expires_before_the_timer),
        cmocka_unit_test(test_expires_after_a_cut),
        cmocka_unit_test(test_carries_what_is_left),
        cmocka_unit_test(test_the_window),
        cmocka_unit_test(test_bytes_are_bounded),
        cmocka_unit_test(test_withdrawn_makes_way),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_retained_is_sent_again),
        cmocka_unit_test(test_retained_old_never_after_new),
        cmocka_unit_test(test_retained_and_forgotten),
        cmocka_unit_test(test_forgotten_and_overwritten),
        cmocka_unit_test(test_forgotten_while_away),
        cmocka_unit_test(test_forgotten_on_its_way),
        cmocka_unit_test(test_retained_expires),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_left_behind),
        cmocka_unit_test(test_a_hundred_thousand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
