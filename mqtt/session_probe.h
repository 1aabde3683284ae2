/* Asks the broker before the library does: whether it is there, lets us in, and speaks which version. Private to mqtt/.
 *
 * Two reasons. MQTTClient tells "refused", "no such name", "wrong certificate" and "no answer" apart by one -1, and
 * people need to know which. And an MQTT 3.1.1 broker answers a CONNECT of version 5 with two bytes, from which Paho
 * 1.3.12 makes a list of properties out of uninitialised memory (MQTTPacketOut.c, MQTTPacket_connack) and frees it:
 * so version 5 is tried here, not there.
 */
#ifndef MQTT_SESSION_PROBE_H
#define MQTT_SESSION_PROBE_H

#include "mqtt/session_settings.h"

#include <stdatomic.h>

enum probe_result {
    PROBE_ACCEPTED,
    PROBE_OTHER_VERSION, /* the broker refuses this version */
    PROBE_CLOSED,        /* it hung up without a word, as some do on a version that they do not know */
    PROBE_FAILED,        /* anything else; error says what */
};

/* Connects, sends CONNECT, reads the answer and leaves again. Blocks: for a name's resolution as long as that takes,
 * for each further step until connect_timeout_ms have passed in all, or until *stop. Writes `error`, with the
 * remedy, on all but PROBE_ACCEPTED. */
enum probe_result session_probe(const struct session_settings *settings, enum session_version version,
                                const atomic_bool *stop, char error[SESSION_ERROR_MAX]);

/* What the broker answers to CONNECT of that version, by the first bytes, as far as they were read: four, and a fifth
 * where session_connack_bytes says so of those. `error` as above. */
#define SESSION_CONNACK_MAX 5
size_t session_connack_bytes(const uint8_t *head);
enum probe_result session_connack(const struct session_settings *settings, enum session_version version,
                                  const uint8_t *bytes, char error[SESSION_ERROR_MAX]);

/* What a CONNACK's code says, with the remedy. */
void session_refusal(const struct session_settings *settings, enum session_version version, int code,
                     char error[SESSION_ERROR_MAX]);

#endif
