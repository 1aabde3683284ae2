/* What goes over the session's connection: opened and closed here, messages handed over, answered or given back.
 * Private to mqtt/.
 *
 * All functions are the session thread's but for those that say otherwise.
 */
#ifndef MQTT_SESSION_TRAFFIC_H
#define MQTT_SESSION_TRAFFIC_H

#include "mqtt/session_letter.h"
#include "mqtt/session_link.h"

#include <stdatomic.h>

#define TRAFFIC_PAUSE_MS 50 /* Paho's thread must have ended before the next connect (session_link.c) */

struct traffic {
    const struct session_settings *settings;
    struct mailbox box; /* to the thread */
    bool (*tell)(void *owner, struct mail_list *letters);
    void *owner;
    atomic_uint_fast64_t dropped;
    atomic_size_t waiting; /* messages that the loop has not taken */
    /* the thread's own */
    struct link *link; /* NULL = none is open */
    bool broken;       /* we found the link broken: the report is on its way */
    bool lost;         /* the report has come */
    int lost_reason;
    struct mail_list sent;     /* handed to the library and not answered, oldest first */
    struct mail_list answered; /* on their way to the loop, together */
    uint64_t connections;      /* opened in all; the last one's number */
    bool serving;              /* the loop may use it */
    bool returned;             /* all that was handed over for it has been given back, and what comes late is at once */
    size_t left_behind;        /* connections whose end the library has not reported */
};

/* In memory of zeros. `tell` posts a letter to the loop, from any thread; where it cannot, it frees the letter and
 * returns false. */
void traffic_init(struct traffic *traffic, const struct session_settings *settings,
                  bool (*tell)(void *owner, struct mail_list *letters), void *owner);
void traffic_close(struct traffic *traffic);

/* From any thread: to the session's. */
void traffic_post(struct traffic *traffic, struct letter *letter);

/* Opens the next connection. A broker that wants to be pinged more often than `*keep_alive_s` changes that. */
bool traffic_open(struct traffic *traffic, enum session_version version, unsigned *keep_alive_s,
                  char error[SESSION_ERROR_MAX]);

/* Afterwards no acknowledgement comes any more, and all that came have been read. Nothing where none is open. Where the
 * library does not report the end in time, the connection is left behind with all it holds. */
void traffic_shut(struct traffic *traffic, bool will);

/* Reads what has come, waiting so long for it. Returns whether something has. */
bool traffic_read(struct traffic *traffic, uint64_t timeout_ms);

/* After a silence: notices that the connection has ended, should nobody have said so. */
void traffic_look(struct traffic *traffic);

/* Publishes it as what the server is, where the settings have a topic for that. */
void traffic_publish_online(struct traffic *traffic, const char *payload);

/* Until all that was sent is answered, the link is lost, the time is up, or `*stops`; NULL = never. Returns whether all
 * is answered. */
bool traffic_settle(struct traffic *traffic, uint64_t timeout_ns, const atomic_bool *stops);

/* What is not answered goes back to the loop, oldest first. */
void traffic_give_back(struct traffic *traffic);

#endif
