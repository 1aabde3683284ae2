/* What a session was told, checked and copied once; from then on read by its thread and never changed. Private to
 * mqtt/.
 */
#ifndef MQTT_SESSION_SETTINGS_H
#define MQTT_SESSION_SETTINGS_H

#include "mqtt/session.h"

#define SESSION_ERROR_MAX sizeof((struct session_view *)0)->error

struct session_settings { /* no string is NULL; "" = not used */
    char *host, *user, *password, *client_id;
    char *ca_file, *cert_file, *key_file;
    char *online_topic;
    char *address; /* "host:port" as people read it */
    uint16_t port;
    bool tls;
    enum session_version version;
    unsigned keep_alive_s;
    uint64_t connect_timeout_ms, loss_timeout_ms, backoff_ms, backoff_max_ms;
    size_t subscription_count;
    char *subscriptions[SESSION_SUBSCRIPTIONS_MAX];
};

void session_settings_init(struct session_settings *settings, const struct session_config *config);
void session_settings_close(struct session_settings *settings);

#endif
