/* Who owns what in between: the session hands messages to the publisher and the inbox, which outlive it. */
#include "server/broker.h"

#include "base/log.h"

#include <assert.h>
#include <string.h>

#define CONNECT_TIMEOUT_MS 10000
#define LOSS_TIMEOUT_MS    10000
#define BACKOFF_MS         500
#define BACKOFF_MAX_MS     30000
#define BYTES_IN_FLIGHT    (8u << 20)

/* --- from the session --------------------------------------------------------------------------------------------- */

static void on_state(void *owner, const struct session_view *view)
{
    struct broker *broker = owner;
    publisher_on_state(broker->publisher, view);
}

static void on_published(void *owner, struct session_message *message)
{
    struct broker *broker = owner;
    publisher_on_published(broker->publisher, message);
}

static void on_message(void *owner, const char *topic, const void *payload, size_t payload_bytes, bool retained)
{
    struct broker *broker = owner;
    inbox_take(&broker->inbox, topic, payload, payload_bytes, retained);
}

static void publish(void *link, struct session_message *message)
{
    session_publish(link, message);
}

/* --- configuration ------------------------------------------------------------------------------------------------ */

static void override(const char **field, const char *text)
{
    if (text[0] != '\0') {
        *field = text;
    }
}

/* Topics and payload of one's own make a command one message: no preset's second part fits behind them. */
static void make_announce(struct announce *announce, const struct config *config)
{
    const struct announce *preset = announce_preset(config->mqtt_preset);
    assert(preset != NULL); /* config_read looked */
    *announce = *preset;
    if (config->command_topic[0] != '\0' || config->device_command_topic[0] != '\0' ||
        config->command_payload[0] != '\0') {
        announce->part_count = 1;
    }
    override(&announce->parts[0].type_topic, config->command_topic);
    override(&announce->parts[0].device_topic, config->device_command_topic);
    override(&announce->parts[0].payload, config->command_payload);
    override(&announce->status_topic, config->status_topic);
    override(&announce->online_topic, config->online_topic);
}

void broker_init(struct broker *broker, const struct config *config)
{
    char why[300];
    memset(broker, 0, sizeof *broker);
    make_announce(&broker->announce, config);
    if (config->mqtt[0] != '\0') {
        enum status status = broker_url_read(config->mqtt, &broker->url, why, sizeof why);
        assert(status == STATUS_OK); /* config_read looked */
        (void)status;
    }
}

static void start_session(struct broker *broker, uv_loop_t *loop, const struct config *config)
{
    static const struct session_callbacks callbacks = { on_state, on_published, on_message };
    char filters[2][SESSION_TOPIC_MAX + 1];
    struct session_config session = {
        .host = broker->url.host,
        .port = broker->url.port,
        .tls = broker->url.tls,
        .user = config->mqtt_user[0] != '\0' ? config->mqtt_user : broker->url.user,
        .password = config->mqtt_password[0] != '\0' ? config->mqtt_password : broker->url.password,
        .client_id = config->mqtt_client_id,
        .ca_file = config->mqtt_ca,
        .cert_file = config->mqtt_cert,
        .key_file = config->mqtt_key,
        .version = (enum session_version)config->mqtt_version,
        .keep_alive_ms = config->mqtt_keep_alive_ms,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .loss_timeout_ms = LOSS_TIMEOUT_MS,
        .backoff_ms = BACKOFF_MS,
        .backoff_max_ms = BACKOFF_MAX_MS,
        .online_topic = BROKER_ONLINE_TOPIC,
    };
    session.subscription_count = inbox_filters(&broker->inbox, filters);
    for (size_t i = 0; i < session.subscription_count; i++) {
        session.subscriptions[i] = filters[i];
    }
    broker->session = session_start(loop, &session, &callbacks, broker);
}

void broker_start(struct broker *broker, uv_loop_t *loop, const struct config *config, device_fact_fn on_fact,
                  void *owner)
{
    if (config->mqtt[0] == '\0') {
        LOG_EVENT(LOG_INFO, "mqtt_off", "why", "no broker is configured: devices are served when they ask", "remedy",
                  "--mqtt mqtt://host lets publish-update tell them");
        return;
    }
    struct publisher_config publisher = { .in_flight_max = (unsigned)config->mqtt_in_flight,
                                          .commands_max = config->mqtt_queue,
                                          .bytes_max = BYTES_IN_FLIGHT };
    broker->publisher = publisher_new(loop, &publisher);
    inbox_init(&broker->inbox, broker->announce.status_topic, broker->announce.online_topic, broker->announce.style,
               on_fact, owner);
    start_session(broker, loop, config);
    struct publisher_link link = { .publish = publish, .link = broker->session };
    publisher_connect(broker->publisher, &link);
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

static void on_publisher_closed(void *owner)
{
    struct broker *broker = owner;
    broker->publisher = NULL;
    broker->on_stopped(broker->owner);
}

static void on_session_stopped(void *owner)
{
    struct broker *broker = owner;
    broker->session = NULL;
    publisher_close(broker->publisher, on_publisher_closed, broker);
}

void broker_stop(struct broker *broker, void (*on_stopped)(void *owner), void *owner)
{
    broker->on_stopped = on_stopped;
    broker->owner = owner;
    if (broker->session == NULL) {
        on_stopped(owner);
    } else {
        session_stop(broker->session, on_session_stopped);
    }
}
