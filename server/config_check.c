/* What no key can tell alone: values that have a grammar of their own, and values that do not fit together. */
#include "server/config_parts.h"

#include "proto/announce.h"
#include "proto/template.h"
#include "server/broker_url.h"
#include "server/public_url.h"

#include <stdio.h>
#include <string.h>

static enum status refuse(const struct config *config, const char *name, const char *value, const char *why,
                          char *message, size_t size)
{
    char blame[CONFIG_BLAME_MAX], shown[200];
    config_blame(config, name, blame, sizeof blame);
    text_show(slice_of(value), shown, sizeof shown);
    snprintf(message, size, "%s%s%s: %s", blame, shown[0] != '\0' ? " " : "", shown, why);
    return STATUS_INVALID;
}

/* Each of these texts has a grammar of its own. */
static enum status check_templates(const struct config *config, char *message, size_t size)
{
    const struct {
        const char *key;
        const char *text;
        enum template_use use;
    } rows[] = {
        { "command-topic", config->command_topic, TEMPLATE_TOPIC_TYPE },
        { "device-command-topic", config->device_command_topic, TEMPLATE_TOPIC_DEVICE },
        { "command-payload", config->command_payload, TEMPLATE_PAYLOAD },
        { "status-topic", config->status_topic, TEMPLATE_TOPIC_FROM },
        { "online-topic", config->online_topic, TEMPLATE_TOPIC_FROM },
    };
    char why[300];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].text[0] != '\0' && template_check(rows[i].text, rows[i].use, why, sizeof why) != STATUS_OK) {
            return refuse(config, rows[i].key, rows[i].text, why, message, size);
        }
    }
    return STATUS_OK;
}

/* What a setting needs beside it to have any effect. Who gives it believes that it has. */
enum need { NEED_BROKER, NEED_TLS, NEED_USER, NEED_CERT, NEED_KEY, NEED_COUNT };

static const char *const needs_why[NEED_COUNT] = {
    [NEED_BROKER] = "no broker is named: give --mqtt, or take this away",
    [NEED_TLS] = "only mqtts:// uses it, and --mqtt is mqtt://: write mqtts://, or take this away",
    [NEED_USER] = "it is only sent with a user: give --mqtt-user, or take the password away",
    [NEED_CERT] = "a key is of no use without its certificate: give --mqtt-cert, or take this away",
    [NEED_KEY] = "a certificate is of no use without its key: give --mqtt-key, or take this away",
};

static const struct {
    const char *key;
    enum need need;
} needs[] = {
    { "mqtt-user", NEED_BROKER }, { "mqtt-password", NEED_BROKER }, { "mqtt-password", NEED_USER },
    { "mqtt-ca", NEED_BROKER },   { "mqtt-ca", NEED_TLS },          { "mqtt-cert", NEED_BROKER },
    { "mqtt-cert", NEED_TLS },    { "mqtt-cert", NEED_KEY },        { "mqtt-key", NEED_BROKER },
    { "mqtt-key", NEED_TLS },     { "mqtt-key", NEED_CERT },
};

static enum status check_needs(const struct config *config, const struct broker_url *url, char *message, size_t size)
{
    const bool met[NEED_COUNT] = {
        [NEED_BROKER] = config->mqtt[0] != '\0',
        [NEED_TLS] = url->tls,
        [NEED_USER] = config->mqtt_user[0] != '\0' || url->user[0] != '\0',
        [NEED_CERT] = config->mqtt_cert[0] != '\0',
        [NEED_KEY] = config->mqtt_key[0] != '\0',
    };
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        const struct config_key *key = config_key_find(needs[i].key);
        const char *value = config_text(config, key);
        if (value[0] != '\0' && !met[needs[i].need]) {
            return refuse(config, key->name, config_is_secret(key) ? "" : value, needs_why[needs[i].need], message,
                          size);
        }
    }
    if (url->password[0] != '\0' && !met[NEED_USER]) {
        return refuse(config, "mqtt", "", "its password is only sent with a user: write mqtt://user:password@host",
                      message, size);
    }
    return STATUS_OK;
}

static enum status check_mqtt(const struct config *config, char *message, size_t size)
{
    struct broker_url url = { .tls = false };
    char why[300];
    if (config->mqtt[0] != '\0' && broker_url_read(config->mqtt, &url, why, sizeof why) != STATUS_OK) {
        return refuse(config, "mqtt", "", why, message, size); /* its password is nobody's business */
    }
    if (announce_preset(config->mqtt_preset) == NULL) {
        snprintf(why, sizeof why, "there are %s", announce_preset_names);
        return refuse(config, "mqtt-preset", config->mqtt_preset, why, message, size);
    }
    return check_needs(config, &url, message, size);
}

static bool lists_none(const struct config_list *list)
{
    bool found = false;
    for (size_t i = 0; i < list->count; i++) {
        found = found || strcmp(list->texts[i], "none") == 0;
    }
    return found;
}

bool config_is_plain(const struct config *config)
{
    return config->listen.count > 0 && !lists_none(&config->listen);
}

uint64_t config_peer_max(const struct config *config, uint64_t connections)
{
    uint64_t most = connections - connections / 4;
    return config->peer_connections_max < most ? config->peer_connections_max : most;
}

static enum status check_tls(const struct config *config, char *message, size_t size)
{
    const struct {
        bool wrong;
        const char *key, *value, *why;
    } rows[] = {
        { config->listen.count > 1 && lists_none(&config->listen), "listen", "none",
          "there are others beside it: give it alone, for no plain door at all, or take it away" },
        { lists_none(&config->tls_listen), "tls-listen", "none",
          "give an address and a port, such as 0.0.0.0:8443, or take this away, for no TLS" },
        { !config_is_plain(config) && config->tls_listen.count == 0, "listen", "none",
          "devices have no other door: give --tls-listen" },
        { config->tls_listen.count > 0 && config->tls_certs.count == 0, "tls-listen", config->tls_listen.texts[0],
          "TLS needs a certificate: give --tls-cert and --tls-key" },
        { config->tls_certs.count != config->tls_keys.count,
          config->tls_certs.count > config->tls_keys.count ? "tls-cert" : "tls-key", "",
          "give one --tls-key for each --tls-cert, in the same order" },
        { config->tls_certs.count > 0 && config->tls_listen.count == 0, "tls-cert", config->tls_certs.texts[0],
          "nothing listens with it: give --tls-listen, such as 0.0.0.0:8443, or take this away" },
        { config->tls_client_ca[0] != '\0' && config->tls_listen.count == 0, "tls-client-ca", config->tls_client_ca,
          "only TLS has certificates: give --tls-listen, or take this away" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].wrong) {
            return refuse(config, rows[i].key, rows[i].value, rows[i].why, message, size);
        }
    }
    return STATUS_OK;
}

enum status config_check(const struct config *config, char *message, size_t size)
{
    char why[300];
    if (config->public_url[0] != '\0' && public_url_check(config->public_url, why, sizeof why) != STATUS_OK) {
        return refuse(config, "public-url", config->public_url, why, message, size);
    }
    if (config->admin_listen[0] != '\0' && !config_is_address(slice_of(config->admin_listen))) {
        return refuse(config, "admin-listen", config->admin_listen,
                      "give an address and a port, such as 127.0.0.1:8090", message, size);
    }
    enum status status = check_tls(config, message, size);
    status = status == STATUS_OK ? check_mqtt(config, message, size) : status;
    return status == STATUS_OK ? check_templates(config, message, size) : status;
}
