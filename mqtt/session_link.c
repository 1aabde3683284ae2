/* Paho's MQTTClient 1.3.12, and the care that it needs. What makes it hard: it runs callbacks on a thread of its own
 * and lets go of its locks where it should not, so four rules hold here. "It" is MQTTClient.c unless another file is
 * named.
 *
 * - A handle serves one connection: semaphores and packets of a failed attempt stay behind in it (MQTTClient_waitfor).
 *   A second, idle handle keeps the library from being torn down and set up each time.
 * - A call of ours that meets a broken MQTT 3.1.1 link frees all messages that have arrived, also the one that Paho's
 *   thread is just showing us (MQTTClient_closeSession). So only one of the two goes on at a time: the turn.
 * - Paho's thread looks at a message once more after we have taken it. So it is freed when the next one comes.
 * - While a message is half written, its record may be freed by its acknowledgement, and the token that is returned is
 *   then read from freed memory (MQTTClient_publish5). So tokens are counted here as well. */
#include "mqtt/session_link.h"

#include "base/log.h"
#include "mqtt/session_probe.h"

#include <MQTTClient.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURN_WAIT_NS    20000000u
#define YIELD_NS        90000000u /* MQTTClient_yield sleeps 100 ms: who took so long was held up */
#define RACE_MS         50
#define TOKEN_MAX       65535
#define PACKET_REST_MAX 268435455u /* what four bytes of length can say */
#define REFUSED         0x80       /* reason codes from here on say no */

/* --- Paho's threads ---------------------------------------------------------------------------------------------- */

/* On Paho's thread each callback proves that it is done with the message before. */
static void free_held(struct link *link)
{
    if (link->held_message != NULL) {
        MQTTClient_message *message = link->held_message;
        MQTTClient_freeMessage(&message);
        MQTTClient_free(link->held_topic);
        link->held_message = NULL;
    }
}

static void say_acked(struct link *link, int token, int code, const MQTTLenString *text)
{
    uv_mutex_lock(&link->turn);
    if (!link->abandoned) {
        link->callbacks->on_acked(link->owner, token, code, text != NULL ? text->data : NULL,
                                  text != NULL ? (size_t)text->len : 0);
    }
    uv_mutex_unlock(&link->turn);
}

static void on_acked_3_1_1(void *context, MQTTClient_deliveryToken token)
{
    struct link *link = context;
    free_held(link);
    say_acked(link, token, 0, NULL);
}

static void on_acked_5(void *context, int token, int packet_type, MQTTProperties *properties,
                       enum MQTTReasonCodes reason)
{
    (void)packet_type; /* at QoS 1 it is always PUBACK */
    struct link *link = context;
    free_held(link);
    MQTTProperty *text =
        reason >= REFUSED ? MQTTProperties_getProperty(properties, MQTTPROPERTY_CODE_REASON_STRING) : NULL;
    say_acked(link, token, (int)reason, text != NULL ? &text->value.data : NULL);
}

static void lose(struct link *link, int reason)
{
    if (atomic_exchange(&link->lost, true)) {
        return;
    }
    uv_mutex_lock(&link->turn);
    if (!link->abandoned) {
        link->callbacks->on_lost(link->owner, reason);
    }
    link->reported = true;
    uv_mutex_unlock(&link->turn); /* from here on it may be freed */
}

static void on_connection_lost(void *context, char *cause)
{
    (void)cause; /* never set */
    lose(context, LINK_REASON_LOST);
}

static void on_disconnected(void *context, MQTTProperties *properties, enum MQTTReasonCodes reason)
{
    (void)properties;
    lose(context, (int)reason);
}

/* Takes the turn for Paho's thread: then `turn` is locked. Not while a call of ours is held up: Paho's thread may be
 * what it waits for. */
static bool turn_take(struct link *link)
{
    uint64_t start_ns = uv_hrtime();
    uv_mutex_lock(&link->turn);
    while (link->calling && uv_hrtime() - start_ns < TURN_WAIT_NS) {
        (void)uv_cond_timedwait(&link->turn_passed, &link->turn, TURN_WAIT_NS);
    }
    if (link->calling || link->abandoned || atomic_load(&link->lost)) {
        uv_mutex_unlock(&link->turn);
        return false;
    }
    return true;
}

/* Returning 0 leaves the message with Paho, which shows it again when the next packet comes. */
static int on_message(void *context, char *topic, int topic_bytes, MQTTClient_message *message)
{
    struct link *link = context;
    if (!turn_take(link)) {
        return 0;
    }
    /* A topic with a NUL inside is shown as its length; no device of ours has one. */
    link->callbacks->on_message(link->owner, topic_bytes == 0 ? topic : "", message->payload,
                                (size_t)message->payloadlen, message->retained != 0);
    free_held(link);
    MQTTClient_free(message->payload); /* the large part at once; Paho does not mind if it is gone */
    message->payload = NULL;
    message->payloadlen = 0;
    link->held_message = message;
    link->held_topic = topic;
    uv_mutex_unlock(&link->turn);
    return 1;
}

static int on_tls_error(const char *text, size_t bytes, void *context)
{
    struct link *link = context;
    if (link->tls_error[0] == '\0') { /* the first is the cause */
        slice_copy((struct slice){ text, bytes < sizeof link->tls_error ? bytes : sizeof link->tls_error - 1 },
                   link->tls_error, sizeof link->tls_error);
        link->tls_error[strcspn(link->tls_error, "\n")] = '\0';
    }
    return 1;
}

/* --- our thread -------------------------------------------------------------------------------------------------- */

static void call_begin(struct link *link)
{
    uv_mutex_lock(&link->turn);
    link->calling = true;
    uv_mutex_unlock(&link->turn);
}

static void call_end(struct link *link, bool was_lost)
{
    if (!was_lost && atomic_load(&link->lost)) {
        link->closed_by_us = true; /* perhaps: then what is held may be freed already */
    }
    uv_mutex_lock(&link->turn);
    link->calling = false;
    uv_cond_signal(&link->turn_passed);
    uv_mutex_unlock(&link->turn);
}

void *link_library_open(void)
{
    MQTTClient idle = NULL;
    int rc = MQTTClient_create(&idle, "tcp://localhost:1883", "idle", MQTTCLIENT_PERSISTENCE_NONE, NULL);
    assert(rc == MQTTCLIENT_SUCCESS);
    return idle;
}

void link_library_close(void *library)
{
    MQTTClient_destroy(&library);
}

static void *create_client(const struct session_settings *settings, bool five)
{
    bool bare_ipv6 = strchr(settings->host, ':') != NULL;
    size_t size = strlen(settings->host) + 32;
    char *uri = malloc(size);
    assert(uri != NULL);
    snprintf(uri, size, "%s://%s%s%s:%u", settings->tls ? "ssl" : "tcp", bare_ipv6 ? "[" : "", settings->host,
             bare_ipv6 ? "]" : "", (unsigned)settings->port);
    MQTTClient_createOptions options = MQTTClient_createOptions_initializer;
    options.MQTTVersion = five ? MQTTVERSION_5 : MQTTVERSION_3_1_1;
    MQTTClient client = NULL;
    int rc =
        MQTTClient_createWithOptions(&client, uri, settings->client_id, MQTTCLIENT_PERSISTENCE_NONE, NULL, &options);
    free(uri);
    return rc == MQTTCLIENT_SUCCESS ? client : NULL;
}

static void fill_tls(struct link *link, MQTTClient_SSLOptions *tls)
{
    const struct session_settings *settings = link->settings;
    tls->verify = 1; /* the name in the certificate */
    tls->enableServerCertAuth = 1;
    tls->trustStore = settings->ca_file[0] != '\0' ? settings->ca_file : NULL; /* NULL: the system's */
    tls->keyStore = settings->cert_file[0] != '\0' ? settings->cert_file : NULL;
    tls->privateKey = settings->key_file[0] != '\0' ? settings->key_file : NULL;
    tls->ssl_error_cb = on_tls_error;
    tls->ssl_error_context = link;
}

static unsigned granted(MQTTProperties *properties, enum MQTTPropertyCodes code, unsigned otherwise)
{
    return properties != NULL && MQTTProperties_hasProperty(properties, code)
               ? (unsigned)MQTTProperties_getNumericValue(properties, code)
               : otherwise;
}

static void read_grants(struct link *link, MQTTProperties *properties)
{
    link->receive_maximum = granted(properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM, 65535);
    unsigned packet_max = granted(properties, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE, 0);
    link->packet_bytes_max = packet_max != 0 ? packet_max : UINT64_MAX;
    link->keep_alive_s = granted(properties, MQTTPROPERTY_CODE_SERVER_KEEP_ALIVE, 0);
}

static int connect_client(struct link *link, MQTTClient_connectOptions *options)
{
    if (!link->five) {
        read_grants(link, NULL);
        return MQTTClient_connect(link->client, options);
    }
    /* No Maximum Packet Size of ours: a broker that drops what is larger may still count it as on its way (mosquitto
     * 2.0.11 does), and after Receive Maximum of them nothing would come any more. What is too long is dropped here. */
    MQTTProperties properties = MQTTProperties_initializer, will_properties = MQTTProperties_initializer;
    MQTTResponse response = MQTTClient_connect5(link->client, options, &properties, &will_properties);
    int rc = (int)response.reasonCode;
    if (rc == MQTTCLIENT_SUCCESS) {
        read_grants(link, response.properties);
    }
    MQTTResponse_free(response);
    return rc;
}

static int connect_with_settings(struct link *link, unsigned keep_alive_s)
{
    const struct session_settings *settings = link->settings;
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions options5 = MQTTClient_connectOptions_initializer5;
    MQTTClient_willOptions will = MQTTClient_willOptions_initializer;
    MQTTClient_SSLOptions tls = MQTTClient_SSLOptions_initializer;
    if (link->five) {
        options = options5;
    } else {
        options.MQTTVersion = MQTTVERSION_3_1_1;
    }
    options.keepAliveInterval = (int)keep_alive_s;
    options.connectTimeout = (int)((settings->connect_timeout_ms + 999) / 1000);
    options.reliable = 0;
    options.maxInflightMessages = TOKEN_MAX; /* the window is the publisher's; Paho's would block */
    options.username = settings->user[0] != '\0' ? settings->user : NULL;
    options.password = options.username != NULL && settings->password[0] != '\0' ? settings->password : NULL;
    if (settings->online_topic[0] != '\0') {
        will.topicName = settings->online_topic;
        will.message = "0";
        will.retained = 1;
        will.qos = 1;
        options.will = &will;
    }
    if (settings->tls) {
        fill_tls(link, &tls);
        options.ssl = &tls;
    }
    return connect_client(link, &options);
}

/* The broker has let the probe in a moment ago, so this is rare. */
static void say_failed(const struct link *link, int rc, char error[SESSION_ERROR_MAX])
{
    const struct session_settings *settings = link->settings;
    if (rc > 0) {
        session_refusal(settings, link->five ? SESSION_VERSION_5 : SESSION_VERSION_3_1_1, rc, error);
    } else if (link->tls_error[0] != '\0') {
        snprintf(error, SESSION_ERROR_MAX, "TLS with %s failed: %s", settings->address, link->tls_error);
    } else {
        snprintf(error, SESSION_ERROR_MAX, "%s answered, but then did not take the connection (%d): look at its log",
                 settings->address, rc);
    }
}

static void link_free(struct link *link)
{
    if (link->client != NULL) {
        MQTTClient_destroy(&link->client);
    }
    uv_mutex_lock(&link->turn); /* who reported the loss may still be about to let go of it */
    uv_mutex_unlock(&link->turn);
    uv_cond_destroy(&link->turn_passed);
    uv_mutex_destroy(&link->turn);
    free(link);
}

struct link *link_open(const struct session_settings *settings, enum session_version version, unsigned keep_alive_s,
                       const struct link_callbacks *callbacks, void *owner, char error[SESSION_ERROR_MAX])
{
    struct link *link = calloc(1, sizeof *link);
    assert(link != NULL);
    link->settings = settings;
    link->callbacks = callbacks;
    link->owner = owner;
    link->five = version == SESSION_VERSION_5;
    int failed = uv_mutex_init(&link->turn) | uv_cond_init(&link->turn_passed);
    assert(failed == 0);
    link->client = create_client(settings, link->five);
    int rc = MQTTCLIENT_FAILURE;
    if (link->client != NULL) {
        MQTTClient_setCallbacks(link->client, link, on_connection_lost, on_message, link->five ? NULL : on_acked_3_1_1);
        if (link->five) {
            MQTTClient_setPublished(link->client, link, on_acked_5);
            MQTTClient_setDisconnected(link->client, link, on_disconnected);
        }
        rc = connect_with_settings(link, keep_alive_s);
    }
    if (rc != MQTTCLIENT_SUCCESS) {
        say_failed(link, rc, error);
        link_free(link);
        return NULL;
    }
    return link;
}

/* The whole PUBLISH as it goes over the wire (MQTT 5, 3.3). */
static uint64_t packet_bytes(const struct link *link, const struct link_publication *publication)
{
    uint64_t rest = 2 + strlen(publication->topic) + 2 + publication->payload_bytes;
    if (link->five) {
        rest += 1 + (publication->expiry_s != 0 ? 5 : 0);
    }
    if (rest > PACKET_REST_MAX) {
        return UINT64_MAX;
    }
    uint64_t head = 2;
    for (uint64_t left = rest >> 7; left > 0; left >>= 7) {
        head++;
    }
    return head + rest;
}

static int publish_with(struct link *link, const struct link_publication *publication, int *token)
{
    const char *topic = publication->topic;
    int bytes = (int)publication->payload_bytes;
    if (!link->five) {
        return MQTTClient_publish(link->client, topic, bytes, publication->payload, 1, publication->retain, token);
    }
    MQTTProperties properties = MQTTProperties_initializer;
    if (publication->expiry_s != 0) {
        MQTTProperty expiry = { .identifier = MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL,
                                .value = { .integer4 = publication->expiry_s } };
        MQTTProperties_add(&properties, &expiry);
    }
    MQTTResponse response = MQTTClient_publish5(link->client, topic, bytes, publication->payload, 1,
                                                publication->retain, &properties, token);
    int rc = (int)response.reasonCode;
    MQTTProperties_free(&properties);
    MQTTResponse_free(response);
    return rc;
}

enum status link_publish(struct link *link, const struct link_publication *publication, int *token)
{
    uint64_t bytes = packet_bytes(link, publication);
    if (bytes == UINT64_MAX || bytes > link->packet_bytes_max) {
        return STATUS_TOO_LONG;
    }
    if (!text_is_clean_utf8(slice_of(publication->topic))) {
        return STATUS_DENIED;
    }
    bool was_lost = atomic_load(&link->lost);
    uint64_t start_ns = uv_hrtime();
    int returned = 0;
    call_begin(link);
    int rc = publish_with(link, publication, &returned);
    call_end(link, was_lost);
    if (rc != MQTTCLIENT_SUCCESS) {
        return STATUS_IO;
    }
    int counted = link->last_id % TOKEN_MAX + 1;
    link->last_id = uv_hrtime() - start_ns < YIELD_NS ? returned : counted;
    *token = link->last_id;
    return STATUS_OK;
}

const char *link_reason_text(int code)
{
    const char *text = MQTTReasonCode_toString((enum MQTTReasonCodes)code);
    return text != NULL ? text : "no reason given";
}

static void log_refused(const struct link *link, const char *filter, int code)
{
    LOG_EVENT(LOG_WARN, "mqtt_subscription_refused", "broker", link->settings->address, "topic", filter, "why",
              link->five ? link_reason_text(code) : "no reason given", "remedy",
              "let this user subscribe to it in the broker's ACL");
}

bool link_subscribe(struct link *link)
{
    const struct session_settings *settings = link->settings;
    size_t n = settings->subscription_count;
    int qos[SESSION_SUBSCRIPTIONS_MAX];
    if (n == 0) {
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        qos[i] = 1;
    }
    /* All in one packet and the first of this connection: nothing arrives before it, so it needs no turn. */
    MQTTResponse response = MQTTClient_subscribeMany5(link->client, (int)n, settings->subscriptions, qos, NULL, NULL);
    link->last_id = link->last_id % TOKEN_MAX + 1;
    bool alive = (int)response.reasonCode >= 0;
    for (size_t i = 0; i < n && alive; i++) {
        int one = n == 1 ? (int)response.reasonCode : 0; /* Paho lists reasons only where there are several */
        int code = !link->five ? qos[i] : response.reasonCodes != NULL ? (int)response.reasonCodes[i] : one;
        if (code >= REFUSED) {
            log_refused(link, settings->subscriptions[i], code);
        }
    }
    MQTTResponse_free(response);
    return alive;
}

bool link_is_up(struct link *link)
{
    return MQTTClient_isConnected(link->client);
}

bool link_ends(struct link *link)
{
    if (atomic_load(&link->lost) || !link_is_up(link)) {
        return true;
    }
    /* It is refused while Paho works on a DISCONNECT of the broker's; once it is done, no such work begins. */
    if (MQTTClient_setDisconnected(link->client, NULL, NULL) != MQTTCLIENT_SUCCESS) {
        return true;
    }
    bool ends = !link_is_up(link);
    if (ends) { /* such work was done in between, and its thread calls what it finds here */
        MQTTClient_setDisconnected(link->client, link, on_disconnected);
    }
    return ends;
}

static void disconnect(struct link *link, bool will)
{
    call_begin(link);
    if (link->five) {
        MQTTClient_disconnect5(link->client, 0,
                               will ? MQTTREASONCODE_DISCONNECT_WITH_WILL_MESSAGE : MQTTREASONCODE_NORMAL_DISCONNECTION,
                               NULL);
    } else {
        MQTTClient_disconnect(link->client, 0);
    }
    call_end(link, true);
}

void link_close(struct link *link, bool will)
{
    if (!atomic_exchange(&link->lost, true)) { /* from here on on_lost is not called */
        link->closed_by_us = true;
        disconnect(link, will);
    } else if (link->five && link->closed_by_us) {
        uv_sleep(RACE_MS); /* a DISCONNECT may have come as well, whose thread still reads the handle */
    }
    /* Where a 3.1.1 connection ended within a call of ours, nobody can tell whether Paho has freed what is held: a
     * topic is left to it. */
    if (link->five || !link->closed_by_us) {
        free_held(link);
    }
    link_free(link);
}

void link_abandon(struct link *link)
{
    uv_mutex_lock(&link->turn);
    link->abandoned = true;
    uv_mutex_unlock(&link->turn);
    link->settings = NULL; /* the session's, which may end before */
}

bool link_has_reported(struct link *link)
{
    uv_mutex_lock(&link->turn);
    bool reported = link->reported;
    uv_mutex_unlock(&link->turn);
    return reported;
}
