/* A device's MQTT session: libmosquitto's external-loop calls on a uv_poll, thousands in one thread.
 *
 * A link that is wanted comes back by itself, after 1, 2, 4 … 8 seconds. Connections are made in turns (fleet.h, the
 * ramp): a broker's listen queue is short, mosquitto's 100.
 */
#ifndef TESTS_SIM_MQTT_LINK_H
#define TESTS_SIM_MQTT_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device;
struct mqtt_session;

struct mqtt_link {
    struct mqtt_session *session; /* NULL = not connected, nor on the way */
    bool wanted;
    bool subscribed;
    uint8_t attempts;
    uint64_t retry_at_ms; /* 0 = not waiting */
};

/* To be called before any connection where descriptors are short: a session takes one then, not three. */
void mqtt_link_save_descriptors(void);

/* Connects now; device_linked or device_unlinked tells how it went. */
void mqtt_link_connect(struct device *device);

/* The power is gone: no DISCONNECT, so the broker publishes the last will. */
void mqtt_link_cut(struct device *device);

/* To be called once a second: keep-alive, and whatever libmosquitto wants to do. */
void mqtt_link_tick(struct device *device);

void mqtt_link_publish(struct device *device, const char *topic, const char *payload, bool retain);

#endif
