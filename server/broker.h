/* The MQTT side put together: what the configuration says, the session, the publisher in front of it, the inbox behind
 * it.
 */
#ifndef SERVER_BROKER_H
#define SERVER_BROKER_H

#include "mqtt/inbox.h"
#include "mqtt/publisher.h"
#include "mqtt/session.h"
#include "proto/announce.h"
#include "server/broker_url.h"
#include "server/config.h"

#include <stdbool.h>
#include <uv.h>

#define BROKER_ONLINE_TOPIC "updraft/server/online"

struct broker {
    struct broker_url url;
    struct announce announce; /* the preset, with what the configuration says otherwise */
    struct session *session;  /* NULL = no broker is configured */
    struct publisher *publisher;
    struct inbox inbox;
    void (*on_stopped)(void *owner);
    void *owner;
};

/* Fills url and announce from a configuration that was checked; opens nothing. */
void broker_init(struct broker *broker, const struct config *config);

/* Begins to connect, where a broker is configured. */
void broker_start(struct broker *broker, uv_loop_t *loop, const struct config *config, device_fact_fn on_fact,
                  void *owner);

/* Says that the server is gone, and ends; on_stopped follows, also where nothing was started. */
void broker_stop(struct broker *broker, void (*on_stopped)(void *owner), void *owner);

#endif
