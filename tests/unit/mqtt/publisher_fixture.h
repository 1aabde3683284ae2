/* The publisher against a link that the test moves. */
#ifndef TESTS_UNIT_MQTT_PUBLISHER_FIXTURE_H
#define TESTS_UNIT_MQTT_PUBLISHER_FIXTURE_H

#include "mqtt/publisher.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define LOG_MAX 64

static uint64_t clock_ms = 1000;

/* In place of the C library's, for libuv: the loop's time passes when a test says so, however slow the machine. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    *now = (struct timespec){ .tv_sec = (time_t)(clock_ms / 1000), .tv_nsec = (long)(clock_ms % 1000) * 1000000 };
    return 0;
}

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

static inline void on_publish(void *link, struct session_message *message)
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

static inline void on_done(void *owner, uint64_t ticket, enum publish_result result, const char *why)
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

static inline void start_with(struct fixture *fixture, const struct publisher_config *config)
{
    memset(fixture, 0, sizeof *fixture);
    uv_loop_init(&fixture->loop);
    fixture->publisher = publisher_new(&fixture->loop, config);
    fixture->view = (struct session_view){ .state = SESSION_WAITING, .receive_maximum = 65535 };
    publisher_connect(fixture->publisher, &(struct publisher_link){ on_publish, fixture });
}

static inline void start(struct fixture *fixture)
{
    start_with(fixture, &usual);
}

/* Lets answers and expiries happen. */
static inline void turn(struct fixture *fixture)
{
    for (int i = 0; i < 3; i++) {
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
    }
}

static inline void pass(struct fixture *fixture, unsigned ms)
{
    clock_ms += ms;
    uv_update_time(&fixture->loop);
    turn(fixture);
}

static inline void go_online(struct fixture *fixture)
{
    fixture->view.state = SESSION_CONNECTED;
    fixture->view.connects++;
    publisher_on_state(fixture->publisher, &fixture->view);
}

static inline void go_offline(struct fixture *fixture)
{
    fixture->view.state = SESSION_WAITING;
    publisher_on_state(fixture->publisher, &fixture->view);
}

/* Message i of those on their way comes back. */
static inline void give_back(struct fixture *fixture, size_t i, enum status status, const char *why)
{
    assert_true(i < fixture->on_way_count);
    struct session_message *message = fixture->on_way[i];
    fixture->on_way_count--;
    memmove(fixture->on_way + i, fixture->on_way + i + 1, (fixture->on_way_count - i) * sizeof(void *));
    message->status = status;
    snprintf(message->why, sizeof message->why, "%s", why);
    publisher_on_published(fixture->publisher, message);
}

static inline void ack(struct fixture *fixture)
{
    give_back(fixture, 0, STATUS_OK, "");
}

static inline void ack_all(struct fixture *fixture)
{
    while (fixture->on_way_count > 0) {
        ack(fixture);
    }
    turn(fixture);
}

static inline void cut(struct fixture *fixture)
{
    go_offline(fixture);
    while (fixture->on_way_count > 0) {
        give_back(fixture, 0, STATUS_IO, "");
    }
}

static inline void on_closed(void *owner)
{
    struct fixture *fixture = owner;
    fixture->closed = true;
}

static inline void close_publisher(struct fixture *fixture)
{
    publisher_close(fixture->publisher, on_closed, fixture);
    assert_false(fixture->closed);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    assert_true(fixture->closed);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
}

/* As the session does, which brings back everything before it stops. */
static inline void finish(struct fixture *fixture)
{
    cut(fixture);
    close_publisher(fixture);
}

static inline uint64_t send_command(struct fixture *fixture, const struct publisher_command *command)
{
    uint64_t ticket = 0;
    fixture->sending = true;
    assert_int_equal(publisher_send(fixture->publisher, command, on_done, fixture, &ticket), STATUS_OK);
    fixture->sending = false;
    return ticket;
}

static inline struct publisher_command plain(const char *topic, const char *payload)
{
    return (struct publisher_command){ .part_count = 1, .parts = { { topic, payload, NULL } } };
}

static inline uint64_t send_plain(struct fixture *fixture, const char *topic, const char *payload)
{
    struct publisher_command command = plain(topic, payload);
    return send_command(fixture, &command);
}

static inline uint64_t send_retained(struct fixture *fixture, const char *topic, const char *payload)
{
    struct publisher_command command = plain(topic, payload);
    command.retain = true;
    return send_command(fixture, &command);
}

static inline uint64_t send_parts(struct fixture *fixture, const char *first, const char *second)
{
    struct publisher_command command = { .part_count = 2, .parts = { { "url", first, NULL }, { "go", second, NULL } } };
    return send_command(fixture, &command);
}

static inline uint64_t send_about(struct fixture *fixture, const char *topic, const char *about, const char *payload)
{
    struct publisher_command command = plain(topic, payload);
    command.about = about;
    return send_command(fixture, &command);
}

static inline uint64_t send_expiring(struct fixture *fixture, const char *topic, const char *payload, uint64_t ms)
{
    struct publisher_command command = plain(topic, payload);
    command.expires_ms = ms;
    return send_command(fixture, &command);
}

static inline struct publisher_command image_command(const char *topic, struct shared_bytes *image)
{
    return (struct publisher_command){ .part_count = 1, .parts = { { topic, NULL, image } } };
}

/* What the link saw from message `from` on: payloads, with a blank behind each. */
static inline void sent_since(const struct fixture *fixture, size_t from, const char *wanted)
{
    char seen[512] = "";
    for (size_t i = from; i < fixture->sent_count; i++) {
        strcat(strcat(seen, fixture->sent[i].payload), " ");
    }
    assert_string_equal(seen, wanted);
}

static inline void answered(const struct fixture *fixture, uint64_t ticket, enum publish_result result)
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

static inline const char *why_of(const struct fixture *fixture, uint64_t ticket)
{
    const char *why = "no answer";
    for (size_t i = 0; i < fixture->answer_count; i++) {
        why = fixture->answers[i].ticket == ticket ? fixture->answers[i].why : why;
    }
    return why;
}

#endif
