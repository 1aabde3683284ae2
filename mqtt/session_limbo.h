/* Connections that are over for us, but of which the library has not said so: nobody knows whether a thread of its own
 * is still at one, so they stay until that thread has spoken. Of all sessions of the process; from any thread. Private
 * to mqtt/.
 */
#ifndef MQTT_SESSION_LIMBO_H
#define MQTT_SESSION_LIMBO_H

#include "mqtt/session_link.h"

/* Takes an abandoned link over. */
void limbo_keep(struct link *link);

/* Frees those that have spoken. Returns how many are left. May wait for Paho. */
size_t limbo_sweep(void);

#endif
