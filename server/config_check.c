/* What no key can tell alone: values that have a grammar of their own, and values that do not fit together. */
#include "server/config_parts.h"

#include "proto/announce.h"
#include "proto/template.h"
#include "server/broker_url.h"
#include "server/public_url.h"

#include <stdio.h>
#include <string.h>

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
            snprintf(message, size, "--%s %s: %s", rows[i].key, rows[i].text, why);
            return STATUS_INVALID;
        }
    }
    return STATUS_OK;
}

static enum status check_mqtt(const struct config *config, char *message, size_t size)
{
    struct broker_url url;
    char why[300];
    if (config->mqtt[0] != '\0' && broker_url_read(config->mqtt, &url, why, sizeof why) != STATUS_OK) {
        snprintf(message, size, "--mqtt: %s", why);
        return STATUS_INVALID;
    }
    if (announce_preset(config->mqtt_preset) == NULL) {
        snprintf(message, size, "--mqtt-preset %s: there are %s", config->mqtt_preset, announce_preset_names);
        return STATUS_INVALID;
    }
    if ((config->mqtt_cert[0] == '\0') != (config->mqtt_key[0] == '\0')) {
        snprintf(message, size, "--mqtt-cert and --mqtt-key belong together: give both or none");
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

enum status config_check(const struct config *config, char *message, size_t size)
{
    char why[300];
    if (config->public_url[0] != '\0' && public_url_check(config->public_url, why, sizeof why) != STATUS_OK) {
        snprintf(message, size, "--public-url %s: %s", config->public_url, why);
        return STATUS_INVALID;
    }
    if (config->admin_listen[0] != '\0' && !config_is_address(slice_of(config->admin_listen))) {
        snprintf(message, size, "--admin-listen %s: give an address and a port, such as 127.0.0.1:8090",
                 config->admin_listen);
        return STATUS_INVALID;
    }
    enum status status = check_mqtt(config, message, size);
    return status == STATUS_OK ? check_templates(config, message, size) : status;
}
