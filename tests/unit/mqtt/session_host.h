/* A broker of the test's own, that no real one would play. */
#ifndef TESTS_UNIT_MQTT_SESSION_HOST_H
#define TESTS_UNIT_MQTT_SESSION_HOST_H

#include "tests/support/captured_log.h"
#include "tests/unit/mqtt/session_fixture.h"

enum manner {
    SILENT,       /* takes connections and says nothing */
    HANGS_UP,     /* on everything */
    NO_BROKER,    /* answers as a web server */
    OLD,          /* refuses MQTT 5 as an MQTT 3.1.1 broker does: with two bytes */
    OLD_AND_RUDE, /* hangs up on MQTT 5 */
    BUSY,         /* refuses MQTT 5 with "server busy" */
    DEAF,         /* lets us in and acknowledges nothing */
    TAKES_OVER,   /* ends the session on the first message, because another client has its id */
    CHOOSY,       /* refuses subscriptions */
};

#define GUESTS 8

static struct {
    pthread_t thread;
    bool runs;
    int listener;
    uint16_t port;
    atomic_int manner; /* enum manner; a test may change its mind */
    atomic_bool ends, throws_out;
    int guests[GUESTS];
    bool guest_speaks_5[GUESTS];
    atomic_uint met_5, met_3_1_1, heard; /* heard: packets, of whatever kind */
} host;

static inline void host_drop(size_t i)
{
    if (host.guests[i] >= 0) {
        close(host.guests[i]);
    }
    host.guests[i] = -1;
}

static inline void host_say(size_t i, const void *bytes, size_t n)
{
    if (send(host.guests[i], bytes, n, MSG_NOSIGNAL) != (ssize_t)n) {
        host_drop(i);
    }
}

#define SAY(i, ...) host_say(i, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static inline void host_greet(size_t i, uint8_t level)
{
    bool five = host.guest_speaks_5[i] = level == 5;
    atomic_fetch_add(five ? &host.met_5 : &host.met_3_1_1, 1);
    if (host.manner == HANGS_UP || (five && host.manner == OLD_AND_RUDE)) {
        host_drop(i);
    } else if (host.manner == NO_BROKER) {
        host_say(i, "HTTP/1.0 400 Bad Request\r\n\r\n", 28);
    } else if (five && host.manner == OLD) {
        SAY(i, 0x20, 2, 0, 1);
        host_drop(i);
    } else if (host.manner == BUSY) {
        SAY(i, 0x20, 3, 0, 0x89, 0);
    } else if (five) {
        SAY(i, 0x20, 3, 0, 0, 0);
    } else {
        SAY(i, 0x20, 2, 0, 0);
    }
}

static inline void host_answer(size_t i, uint8_t head, const uint8_t *rest, size_t n)
{
    bool five = host.guest_speaks_5[i];
    size_t topic_bytes = n > 2 ? (size_t)rest[0] << 8 | rest[1] : 0;
    const uint8_t *id = rest + 2 + topic_bytes;
    switch (head >> 4) {
    case 1: /* CONNECT */
        host_greet(i, rest[6]);
        break;
    case 3: /* PUBLISH */
        if (host.manner == TAKES_OVER) {
            SAY(i, 0xe0, 2, 0x8e, 0);
        } else if (host.manner != DEAF) {
            SAY(i, 0x40, 2, id[0], id[1]);
        }
        break;
    case 8: /* SUBSCRIBE, of one filter */
        if (five) {
            SAY(i, 0x90, 4, rest[0], rest[1], 0, host.manner == CHOOSY ? 0x87 : 1);
        } else {
            SAY(i, 0x90, 3, rest[0], rest[1], host.manner == CHOOSY ? 0x80 : 1);
        }
        break;
    case 14: /* DISCONNECT */
        host_drop(i);
        break;
    default:
        break;
    }
}

/* Packets of these tests are short: one byte of length. */
static inline void host_hear(size_t i)
{
    uint8_t head[2], rest[128];
    if (recv(host.guests[i], head, 2, MSG_WAITALL) != 2 || head[1] > sizeof rest ||
        recv(host.guests[i], rest, head[1], MSG_WAITALL) != head[1]) {
        host_drop(i);
        return;
    }
    atomic_fetch_add(&host.heard, 1);
    if (host.manner != SILENT) {
        host_answer(i, head[0], rest, head[1]);
    }
}

static inline void *host_main(void *unused)
{
    (void)unused;
    while (!atomic_load(&host.ends)) {
        if (atomic_exchange(&host.throws_out, false)) {
            for (size_t i = 0; i < GUESTS; i++) {
                host_drop(i);
            }
        }
        struct pollfd ready[GUESTS + 1];
        for (size_t i = 0; i < GUESTS; i++) {
            ready[i] = (struct pollfd){ .fd = host.guests[i], .events = POLLIN };
        }
        ready[GUESTS] = (struct pollfd){ .fd = host.listener, .events = POLLIN };
        poll(ready, GUESTS + 1, 10);
        for (size_t i = 0; i < GUESTS; i++) {
            if (ready[i].revents != 0) {
                host_hear(i);
            } else if (ready[GUESTS].revents != 0 && host.guests[i] < 0) {
                host.guests[i] = accept4(host.listener, NULL, NULL, SOCK_CLOEXEC);
                ready[GUESTS].revents = 0;
            }
        }
    }
    return NULL;
}

static inline void host_start(enum manner manner)
{
    memset(&host, 0, sizeof host);
    memset(host.guests, -1, sizeof host.guests);
    host.manner = manner;
    host.listener = listen_on_loopback(&host.port);
    assert_int_equal(pthread_create(&host.thread, NULL, host_main, NULL), 0);
    host.runs = true;
    configure(host.port);
    world.config.connect_timeout_ms = manner == SILENT || manner == DEAF ? 500 : 10000; /* others answer */
}

static inline bool is_heard(void)
{
    return atomic_load(&host.heard) > 0;
}

static inline int close_all(void **state)
{
    int rc = tear_down(state);
    if (host.runs) {
        host.runs = false;
        atomic_store(&host.ends, true);
        pthread_join(host.thread, NULL);
        for (size_t i = 0; i < GUESTS; i++) {
            host_drop(i);
        }
        close(host.listener);
    }
    return rc;
}

#endif
