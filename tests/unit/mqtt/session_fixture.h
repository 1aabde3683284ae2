/* A session on a loop of the test's own, what came of it, and a relay between it and the broker that can be cut.
 *
 * The promises that every test holds it to are checked here, on each callback: a message comes back once and only
 * after it was handed over; those that come back unacknowledged come in the order of their publishing; and nothing of
 * an old connection is left when a new one is announced. */
#ifndef TESTS_UNIT_MQTT_SESSION_FIXTURE_H
#define TESTS_UNIT_MQTT_SESSION_FIXTURE_H

#include "base/log.h"
#include "mqtt/session.h"
#include "tests/support/broker.h"
#include "tests/support/mqtt_peer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 60000 /* who waits longer has found a defect, however slow the machine */
#define TICK_MS     5
#define ONLINE      "updraft/server/online"

struct sent {
    struct session_message message; /* first */
    char payload[64];
    uint64_t order; /* of the last handing over; 0 = not with the session */
    unsigned acknowledged, returned;
};

struct world {
    uv_loop_t loop;
    uv_timer_t tick;
    struct broker broker;
    struct session_config config;
    struct session *session;
    bool stopped;
    unsigned ticks;    /* of TICK_MS, as many as the loop had */
    unsigned failures; /* WAITING seen, of this session or since connect_session */
    char why[200];     /* the last one's */
    size_t out;        /* messages with the session */
    bool late;         /* the loop slept through a reconnect and hands over meanwhile */
    uint64_t orders, last_returned;
    void (*on_published)(struct sent *sent); /* a test's own, or NULL */
    unsigned inbound;
    size_t inbound_bytes;
    bool inbound_retained;
    char inbound_topic[SESSION_TOPIC_MAX + 1], inbound_payload[64];
};

static struct world world;

static inline uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

static inline void on_tick(uv_timer_t *timer)
{
    (void)timer;
    world.ticks++;
}

/* Time for limits: on a machine with too much to do less of it passes, as much as the loop comes late. */
static inline uint64_t turned_ms(void)
{
    return (uint64_t)world.ticks * TICK_MS;
}

/* --- servers of the test's own ----------------------------------------------------------------------------------- */

static inline int listen_on_loopback(uint16_t *port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = { .sin_family = AF_INET };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 64) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

#define RELAY_PAIRS 8

/* Between the session and the broker; can be cut at any time. */
struct relay {
    pthread_t thread;
    bool runs;
    int listener;
    uint16_t port, to_port;
    atomic_bool ends;
    atomic_uint cuts_wanted, cuts_made;
    int pairs[RELAY_PAIRS][2];
};

static inline void relay_drop(struct relay *relay, size_t i, bool reset)
{
    for (size_t side = 0; side < 2; side++) {
        struct linger linger = { .l_onoff = 1, .l_linger = 0 };
        if (reset) {
            setsockopt(relay->pairs[i][side], SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        }
        close(relay->pairs[i][side]);
        relay->pairs[i][side] = -1;
    }
}

static inline void relay_accept(struct relay *relay)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(relay->to_port) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int client = accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC);
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t i = 0;
    while (i < RELAY_PAIRS && relay->pairs[i][0] >= 0) {
        i++;
    }
    assert(i < RELAY_PAIRS);
    relay->pairs[i][0] = client;
    relay->pairs[i][1] = server;
    if (connect(server, (struct sockaddr *)&address, sizeof address) != 0) {
        relay_drop(relay, i, true);
    }
}

static inline void relay_move(struct relay *relay, size_t i, size_t side)
{
    char bytes[16384];
    ssize_t got = recv(relay->pairs[i][side], bytes, sizeof bytes, MSG_DONTWAIT);
    if (got == 0 || (got > 0 && send(relay->pairs[i][1 - side], bytes, (size_t)got, MSG_NOSIGNAL) != got)) {
        relay_drop(relay, i, false);
    }
}

static inline void *relay_main(void *arg)
{
    struct relay *relay = arg;
    while (!atomic_load(&relay->ends)) {
        struct pollfd ready[1 + 2 * RELAY_PAIRS];
        ready[0] = (struct pollfd){ .fd = relay->listener, .events = POLLIN };
        for (size_t i = 0; i < 2 * RELAY_PAIRS; i++) {
            ready[1 + i] = (struct pollfd){ .fd = relay->pairs[i / 2][i % 2], .events = POLLIN };
        }
        poll(ready, 1 + 2 * RELAY_PAIRS, 2);
        unsigned wanted = atomic_load(&relay->cuts_wanted);
        if (wanted != atomic_load(&relay->cuts_made)) {
            for (size_t i = 0; i < RELAY_PAIRS; i++) {
                if (relay->pairs[i][0] >= 0) {
                    relay_drop(relay, i, wanted % 2 == 0); /* one time by reset, one time politely */
                }
            }
            atomic_store(&relay->cuts_made, wanted);
            continue;
        }
        for (size_t i = 0; i < 2 * RELAY_PAIRS; i++) {
            if (ready[1 + i].revents != 0 && relay->pairs[i / 2][0] >= 0) {
                relay_move(relay, i / 2, i % 2);
            }
        }
        if (ready[0].revents != 0) {
            relay_accept(relay);
        }
    }
    return NULL;
}

static struct relay relay_of_test; /* static: a test that fails leaves its stack, not its thread */

static inline struct relay *relay_start(uint16_t to_port)
{
    struct relay *relay = &relay_of_test;
    memset(relay, 0, sizeof *relay);
    memset(relay->pairs, -1, sizeof relay->pairs);
    relay->to_port = to_port;
    relay->listener = listen_on_loopback(&relay->port);
    assert_int_equal(pthread_create(&relay->thread, NULL, relay_main, relay), 0);
    relay->runs = true;
    return relay;
}

/* All connections, now. */
static inline void relay_cut(struct relay *relay)
{
    atomic_fetch_add(&relay->cuts_wanted, 1);
    while (atomic_load(&relay->cuts_made) != atomic_load(&relay->cuts_wanted)) {
        usleep(100);
    }
}

static inline void relay_stop(struct relay *relay)
{
    if (!relay->runs) {
        return;
    }
    relay->runs = false;
    atomic_store(&relay->ends, true);
    pthread_join(relay->thread, NULL);
    for (size_t i = 0; i < RELAY_PAIRS; i++) {
        if (relay->pairs[i][0] >= 0) {
            relay_drop(relay, i, false);
        }
    }
    close(relay->listener);
}

/* --- the session ------------------------------------------------------------------------------------------------- */

static inline void on_state(void *owner, const struct session_view *view)
{
    assert_ptr_equal(owner, &world);
    assert_false(world.stopped);
    if (view->state == SESSION_CONNECTED) {
        assert_true(world.out == 0 || world.late);
        world.last_returned = 0;
    }
    if (view->state == SESSION_WAITING) {
        world.failures++;
        snprintf(world.why, sizeof world.why, "%s", view->error);
    }
}

static inline void on_published(void *owner, struct session_message *message)
{
    assert_ptr_equal(owner, &world);
    assert_false(world.stopped);
    struct sent *sent = (struct sent *)message;
    assert_ptr_equal(message->owner, sent);
    assert_int_not_equal(sent->order, 0); /* not twice */
    if (message->status == STATUS_IO) {
        assert_true(sent->order > world.last_returned);
        world.last_returned = sent->order;
        sent->returned++;
    }
    sent->acknowledged += message->status == STATUS_OK;
    sent->order = 0;
    world.out--;
    if (world.on_published != NULL) {
        world.on_published(sent);
    }
}

static inline void on_message(void *owner, const char *topic, const void *payload, size_t payload_bytes, bool retained)
{
    assert_ptr_equal(owner, &world);
    world.inbound++;
    world.inbound_bytes = payload_bytes;
    world.inbound_retained = retained;
    snprintf(world.inbound_topic, sizeof world.inbound_topic, "%s", topic);
    size_t kept = payload_bytes < sizeof world.inbound_payload - 1 ? payload_bytes : sizeof world.inbound_payload - 1;
    memcpy(world.inbound_payload, payload, kept);
    world.inbound_payload[kept] = '\0';
}

static inline void on_stopped(void *owner)
{
    assert_ptr_equal(owner, &world);
    assert_int_equal(world.out, 0); /* what is on its way comes back first */
    world.stopped = true;
    world.session = NULL;
}

/* To the broker, quick to try again; a test changes what it is about. */
static inline void configure(uint16_t port)
{
    world.config = (struct session_config){ .host = "127.0.0.1",
                                            .port = port,
                                            .client_id = "updraft-test",
                                            .version = SESSION_VERSION_AUTO,
                                            .keep_alive_ms = 30000,
                                            .connect_timeout_ms = 2000,
                                            .loss_timeout_ms = 10000,
                                            .backoff_ms = 20,
                                            .backoff_max_ms = 200,
                                            .online_topic = ONLINE };
}

static inline void start(void)
{
    static const struct session_callbacks callbacks = { on_state, on_published, on_message };
    world.stopped = false;
    world.failures = 0;
    world.session = session_start(&world.loop, &world.config, &callbacks, &world);
}

typedef bool (*condition_fn)(void);

static inline void run_until(condition_fn holds, const char *what)
{
    uint64_t end_ms = now_ms() + PATIENCE_MS;
    while (!holds()) {
        uv_run(&world.loop, UV_RUN_ONCE);
        if (now_ms() > end_ms) {
            fail_msg("waited %d ms in vain for %s; error: %s", PATIENCE_MS, what,
                     world.session != NULL ? session_view(world.session)->error : "");
        }
    }
}

static inline void run_for(uint64_t ms)
{
    for (uint64_t end_ms = now_ms() + ms; now_ms() < end_ms;) {
        uv_run(&world.loop, UV_RUN_ONCE);
    }
}

static inline bool is_connected(void)
{
    return session_view(world.session)->state == SESSION_CONNECTED;
}

/* It may be on its way to the next connection by now, or there. */
static inline bool has_failed(void)
{
    return world.failures > 0;
}

static inline bool has_stopped(void)
{
    return world.stopped;
}

static inline bool nothing_out(void)
{
    return world.out == 0;
}

static inline void connect_session(void)
{
    start();
    run_until(is_connected, "the connection");
    world.failures = 0;
}

static inline void stop(void)
{
    session_stop(world.session, on_stopped);
    run_until(has_stopped, "the stop");
}

static inline void hand_over(struct sent *sent)
{
    assert_int_equal(sent->order, 0);
    sent->message.owner = sent;
    sent->order = ++world.orders;
    world.out++;
    session_publish(world.session, &sent->message);
}

static inline void prepare(struct sent *sent, const char *topic, const char *payload)
{
    memset(sent, 0, sizeof *sent);
    snprintf(sent->message.topic, sizeof sent->message.topic, "%s", topic);
    snprintf(sent->payload, sizeof sent->payload, "%s", payload);
    sent->message.payload = sent->payload;
    sent->message.payload_bytes = strlen(payload);
}

#define assert_error_says(text)                                                                                        \
    do {                                                                                                               \
        const char *error_ = session_view(world.session)->error;                                                       \
        if (strstr(error_, text) == NULL) {                                                                            \
            fail_msg("\"%s\" does not say \"%s\"", error_, text);                                                      \
        }                                                                                                              \
    } while (0)

static inline int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    signal(SIGPIPE, SIG_IGN);
    log_configure(LOG_ERROR, LOG_LOGFMT);
    /* Containers are given this for HTTP; MQTT must not go there. */
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    uv_loop_init(&world.loop);
    uv_timer_init(&world.loop, &world.tick);
    uv_timer_start(&world.tick, on_tick, TICK_MS, TICK_MS);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    if (world.session != NULL) {
        session_stop(world.session, on_stopped);
        while (!world.stopped) {
            uv_run(&world.loop, UV_RUN_ONCE);
        }
    }
    relay_stop(&relay_of_test);
    uv_close((uv_handle_t *)&world.tick, NULL);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world.loop), 0);
    if (world.broker.folder[0] != '\0') {
        broker_close(&world.broker);
    }
    return 0;
}

#endif
