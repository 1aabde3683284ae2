/* A message for the session, and what it belongs to until it comes back. Private to mqtt/.
 *
 * It counts its content itself: a session that is left behind keeps both.
 */
#ifndef MQTT_PUBLISHER_OUTGOING_H
#define MQTT_PUBLISHER_OUTGOING_H

#include "mqtt/publisher_queue.h"

struct outgoing {
    struct session_message message; /* first; its owner is the outgoing */
    struct command *command;
    struct content *content;
    uint64_t connects; /* the link that it was handed to */
    struct outgoing *next_free;
};

/* Those that came back, to be used again; all zero = none. */
struct outgoing_pool {
    struct outgoing *first;
};

/* The next part of the command, as it goes out now. */
struct outgoing *outgoing_new(struct outgoing_pool *pool, struct command *command, uint64_t connects, uint64_t now_ms);
void outgoing_free(struct outgoing_pool *pool, struct outgoing *outgoing);
void outgoing_pool_close(struct outgoing_pool *pool);

#endif
