/* One MQTT session that never gives up: connects, says that the server is there, subscribes, publishes, and begins
 * again when the link breaks.
 *
 * Everything of the library happens on one thread of the session's own (connecting resolves names and may take
 * seconds) and on the library's receiving thread; they and the loop meet in two mailboxes alone. No type of the library
 * shows here. It is Eclipse Paho's MQTTClient with a clean session and not MQTTAsync, which in 1.3.12 frees messages
 * twice on a broken write at QoS 1 (upstream #1592, #1401, #1621) and stalls at its in-flight limit (PR #1457).
 *
 * Nothing that was handed over is lost or kept: each message comes back exactly once, acknowledged or not. What to do
 * with the latter is the publisher's to say.
 */
#ifndef MQTT_SESSION_H
#define MQTT_SESSION_H

#include "base/mailbox.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define SESSION_TOPIC_MAX         256
#define SESSION_WHY_SIZE          (SESSION_TOPIC_MAX + 200)
#define SESSION_SUBSCRIPTIONS_MAX 8
#define SESSION_INBOUND_BYTES_MAX 4096  /* a longer payload is counted and dropped before it is copied */
#define SESSION_INBOUND_MAX       10000 /* that wait for the loop; more are counted and dropped */

enum session_version { SESSION_VERSION_AUTO, SESSION_VERSION_3_1_1, SESSION_VERSION_5 }; /* AUTO: 5, else 3.1.1 */

struct session_config { /* strings are copied; "" or NULL = not used */
    const char *host;
    uint16_t port;
    bool tls;
    const char *user, *password;
    const char *client_id; /* "" = "updraft-" and 12 random hexadecimal digits, chosen once a process */
    const char *ca_file;   /* of TLS; "" = the system's trust store */
    const char *cert_file, *key_file;
    enum session_version version;
    uint64_t keep_alive_ms;      /* at least 1 s */
    uint64_t connect_timeout_ms; /* until a broker that accepts must have answered */
    uint64_t loss_timeout_ms;    /* until the library must have reported that a connection ended */
    uint64_t backoff_ms;         /* the first pause; doubles, with jitter of a half, up to backoff_max_ms */
    uint64_t backoff_max_ms;
    const char *online_topic; /* retained, QoS 1: "1" after each connect, "0" as last will and on an orderly end */
    size_t subscription_count;
    const char *subscriptions[SESSION_SUBSCRIPTIONS_MAX]; /* QoS 1, made again after each connect */
};

/* What the operator reads; names and texts from one list. */
#define SESSION_STATE_LIST(X)                                                                                          \
    X(CONNECTING, "connecting")                                                                                        \
    X(CONNECTED, "connected")                                                                                          \
    X(WAITING, "waiting") /* before the next attempt */                                                                \
    X(STOPPED, "stopped")

enum session_state {
#define X(name, word) SESSION_##name,
    SESSION_STATE_LIST(X)
#undef X
};

const char *session_state_word(enum session_state state);

/* As last heard of on the loop. */
struct session_view {
    enum session_state state;
    enum session_version version; /* once connected: the one agreed on */
    unsigned receive_maximum;  /* messages that the broker takes before it acknowledges; 65535 where it does not say */
    uint64_t packet_bytes_max; /* as the broker says; UINT64_MAX where it does not */
    uint64_t since_ms;         /* loop time of the last change of state */
    uint64_t attempts;         /* connects tried since the last success */
    uint64_t connects;         /* successes in all */
    uint64_t left_behind;      /* connections whose end the library has not reported: held until it does */
    char error[200];           /* why the last attempt failed or the link broke, with the remedy; "" = nothing yet */
};

/* A message on its way. The caller's until session_publish, the session's until on_published. */
struct session_message {
    struct mail mail; /* first */
    void *owner;      /* the publisher's word; the session does not look */
    char topic[SESSION_TOPIC_MAX + 1];
    const void *payload; /* must stay until on_published */
    size_t payload_bytes;
    bool retain;
    uint32_t expiry_s; /* MQTT 5 message expiry; 0 = none */
    /* the session's: */
    int token;
    enum status status;
    char why[SESSION_WHY_SIZE];
};

struct session_callbacks { /* all on the loop */
    void (*on_state)(void *owner, const struct session_view *view);
    /* The message is the caller's again. STATUS_OK: the broker has acknowledged it. STATUS_IO: the link broke first, it
     * may have arrived or not; messages that come back together come back in the order of their publishing.
     * STATUS_DENIED: the broker refused this message, again is no use; message->why says what to do. MQTT 3.1.1 cannot
     * refuse: what such a broker's ACL denies is acknowledged and dropped. STATUS_TOO_LONG: larger than the
     * broker takes. */
    void (*on_published)(void *owner, struct session_message *message);
    /* A message of a subscription; borrowed. `retained`: it is not new. */
    void (*on_message)(void *owner, const char *topic, const void *payload, size_t payload_bytes, bool retained);
};

struct session;

/* Starts the thread; a broker that is away is no error. Never NULL. One session at a time in a process. Takes
 * http_proxy and https_proxy out of the environment: the library would send MQTT there. */
struct session *session_start(uv_loop_t *loop, const struct session_config *config,
                              const struct session_callbacks *callbacks, void *owner);

/* Hands a message over. Only while the view says CONNECTED, and no more than receive_maximum at once: the publisher's
 * duty. Where the link is gone already, it comes back with STATUS_IO. */
void session_publish(struct session *session, struct session_message *message);

const struct session_view *session_view(const struct session *session);

/* Messages that the threads dropped because they were too long, or because too many waited. */
uint64_t session_dropped(const struct session *session);

/* Publishes "0", disconnects and ends the thread. The view says STOPPED at once, and on_state tells it. What is on its
 * way comes back first. on_stopped follows within about 2 s, even where the thread hangs in a connect or in a name's
 * resolution: then it is left behind with what it holds, which the end of the process takes. */
void session_stop(struct session *session, void (*on_stopped)(void *owner));

#endif
