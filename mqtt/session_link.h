/* One connection to the broker through Eclipse Paho's MQTTClient, from connect to loss; the next connection is a new
 * one. Private to mqtt/; the only room that knows Paho.
 *
 * All functions are the session thread's. The callbacks come on threads of Paho's, which must not wait there. One
 * session a process: Paho has one thread for all connections, and where it has only ours, it ends with it.
 */
#ifndef MQTT_SESSION_LINK_H
#define MQTT_SESSION_LINK_H

#include "mqtt/session_settings.h"

#include <stdatomic.h>

#define LINK_REASON_LOST (-1) /* the connection broke without a word */

struct link_callbacks {
    /* The broker answered the message with this token. `code`: 0, or MQTT 5's reason; `text`: its words, or NULL. */
    void (*on_acked)(void *owner, int token, int code, const char *text, size_t text_bytes);
    void (*on_message)(void *owner, const char *topic, const void *payload, size_t payload_bytes, bool retained);
    void (*on_lost)(void *owner, int reason); /* once, if link_open succeeded; LINK_REASON_LOST, or the code of MQTT 5's
                                                 DISCONNECT. Not for link_close, nor after link_abandon. */
};

struct link { /* on the heap: one that is abandoned stays */
    const struct session_settings *settings;
    const struct link_callbacks *callbacks;
    void *owner;
    void *client; /* Paho's handle */
    bool five;
    int last_id;
    atomic_bool lost;
    bool abandoned;         /* with the turn: nothing reaches the owner any more */
    bool reported;          /* with the turn: on_lost is over */
    struct link *next_kept; /* session_limbo.c */
    bool closed_by_us;      /* the connection ended within a call of ours, not on Paho's thread */
    /* Who uses the connection: a call of ours, or Paho's thread with a message that arrived (session_link.c). */
    uv_mutex_t turn;
    uv_cond_t turn_passed;
    bool calling;
    char *held_topic;
    void *held_message;
    char tls_error[120];
    /* what the broker granted */
    unsigned receive_maximum;
    uint64_t packet_bytes_max;
    unsigned keep_alive_s; /* that the broker wants instead of ours; 0 = ours is good */
};

/* What a reason code of MQTT 5 says. */
const char *link_reason_text(int code);

/* Keeps the library set up from one connection to the next. */
void *link_library_open(void);
void link_library_close(void *library);

/* Writes `error` where it returns NULL. Else link_close or link_abandon frees it. */
struct link *link_open(const struct session_settings *settings, enum session_version version, unsigned keep_alive_s,
                       const struct link_callbacks *callbacks, void *owner, char error[SESSION_ERROR_MAX]);

struct link_publication {
    const char *topic;
    const void *payload;
    size_t payload_bytes;
    bool retain;
    uint32_t expiry_s;
};

/* QoS 1. STATUS_OK: handed over, *token names it in on_acked, which may have come before this returns. STATUS_IO: the
 * link is broken, on_lost comes or has come. STATUS_TOO_LONG, STATUS_DENIED: not handed over, again is no use. */
enum status link_publish(struct link *link, const struct link_publication *publication, int *token);

/* All filters of the settings at once; a refused one is logged. Returns false where the link broke. */
bool link_subscribe(struct link *link);

/* Whether the library still calls it connected. */
bool link_is_up(struct link *link);

/* Whether on_lost has come or should come. Otherwise it does not come any more, and link_close must follow. */
bool link_ends(struct link *link);

/* Disconnects where the link is up, and frees. Where link_ends, only after on_lost has come. `will`: MQTT 5 only, the
 * broker is to publish the last will all the same. */
void link_close(struct link *link, bool will);

/* From the return on no callback comes. Where on_lost should have come long ago; link_close may follow once it would
 * have. */
void link_abandon(struct link *link);
bool link_has_reported(struct link *link);

#endif
