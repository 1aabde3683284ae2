/* An independent MQTT client for tests: MQTT 3.1.1 in bare bytes on a blocking socket, so that what it sees owes
 * nothing to the libraries under test. It acknowledges nothing and subscribes with QoS 0. Every function fails the test
 * loudly where it cannot do its work.
 */
#ifndef TESTS_SUPPORT_MQTT_PEER_H
#define TESTS_SUPPORT_MQTT_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mqtt_peer {
    int fd;
};

struct mqtt_peer_message {
    bool retained;
    char topic[512];
    size_t payload_bytes;
    char payload[8192]; /* terminated; what is longer is cut */
};

void mqtt_peer_connect(struct mqtt_peer *peer, uint16_t port, const char *client_id);
void mqtt_peer_subscribe(struct mqtt_peer *peer, const char *filter);
void mqtt_peer_publish(struct mqtt_peer *peer, const char *topic, const void *payload, size_t payload_bytes,
                       bool retain);

/* The next message, false if none comes within the time. */
bool mqtt_peer_next(struct mqtt_peer *peer, struct mqtt_peer_message *message, unsigned timeout_ms);

void mqtt_peer_close(struct mqtt_peer *peer);

#endif
