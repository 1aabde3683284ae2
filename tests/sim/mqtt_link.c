/* libmosquitto owns the socket and closes it inside of its calls. The hazard: a descriptor number is used anew at once,
 * so the watch on it must be taken back right after the call that closed it, before anything is opened. */
#include "tests/sim/mqtt_link.h"

#include "tests/sim/device.h"
#include "tests/sim/fleet.h"

#include <assert.h>
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define KEEP_ALIVE_S    60
#define PACKETS_AT_ONCE 16

struct mqtt_session {
    uv_poll_t poll;
    struct mosquitto *mosq;
    struct device *device;
    int events;
    bool polling;
    bool in_call; /* of libmosquitto's: its callbacks must not end the session under its feet */
    bool failed;  /* said by a callback; acted upon when the call has returned */
};

static void on_poll_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void session_end(struct mqtt_session *session)
{
    struct device *device = session->device;
    device->fleet->mqtt.connected -= device->link.subscribed;
    device->link.session = NULL;
    device->link.subscribed = false;
    if (session->polling) {
        uv_close((uv_handle_t *)&session->poll, on_poll_closed);
    }
    mosquitto_destroy(session->mosq);
    if (!session->polling) {
        free(session);
    }
}

void mqtt_link_cut(struct device *device)
{
    device->link.wanted = false;
    device->link.retry_at_ms = 0;
    if (device->link.session != NULL) {
        session_end(device->link.session);
    }
}

static void session_lost(struct mqtt_session *session)
{
    struct device *device = session->device;
    session_end(session);
    device->fleet->mqtt.lost++;
    fleet_unreached(device->fleet);
    unsigned shift = device->link.attempts < 3 ? device->link.attempts++ : 3;
    device->link.retry_at_ms = uv_now(device->fleet->loop) + (1000u << shift);
    device_unlinked(device);
}

static void on_event(uv_poll_t *poll, int status, int events);

/* After each call: is it over, and does it want to write? */
static void session_check(struct mqtt_session *session, int result)
{
    if (result != MOSQ_ERR_SUCCESS || session->failed || mosquitto_socket(session->mosq) < 0) {
        session_lost(session);
        return;
    }
    int events = UV_READABLE | (mosquitto_want_write(session->mosq) ? UV_WRITABLE : 0);
    if (events != session->events) {
        session->events = events;
        uv_poll_start(&session->poll, events, on_event);
    }
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    struct mqtt_session *session = poll->data;
    int result = status < 0 ? MOSQ_ERR_ERRNO : MOSQ_ERR_SUCCESS;
    session->in_call = true;
    if (result == MOSQ_ERR_SUCCESS && (events & UV_READABLE) != 0) {
        result = mosquitto_loop_read(session->mosq, PACKETS_AT_ONCE);
    }
    if (result == MOSQ_ERR_SUCCESS && (events & UV_WRITABLE) != 0) {
        result = mosquitto_loop_write(session->mosq, PACKETS_AT_ONCE);
    }
    session->in_call = false;
    session_check(session, result);
}

/* --- callbacks: inside of a call, so nothing is ended here ----------------------------------------------------------
 */

static void on_connect(struct mosquitto *mosq, void *context, int code)
{
    struct mqtt_session *session = context;
    struct device *device = session->device;
    char topics[2][DEVICE_TOPIC_SIZE];
    char *list[2] = { topics[0], topics[1] };
    if (code != 0) {
        session->failed = true;
        fleet_refused(device->fleet, mosquitto_connack_string(code));
        return;
    }
    device_topic(device, "update", topics[1]);
    snprintf(topics[0], sizeof topics[0], "updraft/%s/update", device->type->name);
    session->failed = mosquitto_subscribe_multiple(mosq, NULL, 2, list, 1, 0, NULL) != MOSQ_ERR_SUCCESS;
}

static void on_subscribe(struct mosquitto *mosq, void *context, int mid, int count, const int *granted)
{
    struct mqtt_session *session = context;
    struct device *device = session->device;
    (void)mosq;
    (void)mid;
    for (int i = 0; i < count; i++) {
        if (granted[i] > 2) {
            fleet_refused(device->fleet, "a subscription");
        }
    }
    device->link.subscribed = true;
    device->link.attempts = 0;
    device->fleet->mqtt.connects++;
    device->fleet->mqtt.connected++;
    device_linked(device);
}

static void on_message(struct mosquitto *mosq, void *context, const struct mosquitto_message *message)
{
    struct mqtt_session *session = context;
    (void)mosq;
    device_commanded(session->device, message->topic, message->payload,
                     message->payloadlen > 0 ? (size_t)message->payloadlen : 0);
}

static void on_disconnect(struct mosquitto *mosq, void *context, int code)
{
    struct mqtt_session *session = context;
    (void)mosq;
    (void)code;
    session->failed = true;
}

/* --- connecting -----------------------------------------------------------------------------------------------------
 */

static void set_up(struct mqtt_session *session, const struct options *options)
{
    struct mosquitto *mosq = session->mosq;
    mosquitto_connect_callback_set(mosq, on_connect);
    mosquitto_subscribe_callback_set(mosq, on_subscribe);
    mosquitto_message_callback_set(mosq, on_message);
    mosquitto_disconnect_callback_set(mosq, on_disconnect);
    char user[sizeof options->mqtt.user];
    snprintf(user, sizeof user, "%s", options->mqtt.user);
    char *password = strchr(user, ':');
    if (password != NULL) {
        *password++ = '\0';
    }
    if (user[0] != '\0') {
        mosquitto_username_pw_set(mosq, user, password);
    }
    if (options->report) {
        char topic[DEVICE_TOPIC_SIZE];
        device_topic(session->device, "online", topic);
        mosquitto_will_set(mosq, topic, 1, "0", 0, true);
    }
}

static bool saves_descriptors;

void mqtt_link_save_descriptors(void)
{
    saves_descriptors = true;
}

/* libmosquitto opens a pair of sockets for each client, to wake a thread of its own that we do not have. Where it
 * cannot, it goes on without; so for this moment it cannot. (A name being looked up by libuv's threads just then may
 * fail: that is why it is done only in need.) */
static struct mosquitto *mosquitto_new_without_pair(const char *name, struct mqtt_session *session)
{
    struct rlimit limit, none;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return mosquitto_new(name, true, session);
    }
    none = limit;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    struct mosquitto *mosq = mosquitto_new(name, true, session);
    setrlimit(RLIMIT_NOFILE, &limit);
    return mosq;
}

/* Twins share a MAC, so the name has the number too: two clients of one name would throw each other out for ever. */
static struct mqtt_session *session_new(struct device *device)
{
    struct mqtt_session *session = calloc(1, sizeof *session);
    char name[64];
    assert(session != NULL);
    snprintf(name, sizeof name, "sim-%s-%u", device->mac_text, (unsigned)device->number);
    session->device = device;
    session->mosq = saves_descriptors ? mosquitto_new_without_pair(name, session) : mosquitto_new(name, true, session);
    assert(session->mosq != NULL);
    set_up(session, device->fleet->options);
    device->link.session = session;
    return session;
}

void mqtt_link_connect(struct device *device)
{
    assert(device->link.session == NULL);
    struct mqtt_session *session = session_new(device);
    const struct url *url = &device->fleet->options->mqtt;
    device->link.retry_at_ms = 0;
    int result = mosquitto_connect_async(session->mosq, url->host, url->port, KEEP_ALIVE_S);
    int fd = mosquitto_socket(session->mosq);
    if (result == MOSQ_ERR_SUCCESS && fd >= 0 && uv_poll_init(device->fleet->loop, &session->poll, fd) == 0) {
        session->polling = true;
        session->poll.data = session;
        session_check(session, MOSQ_ERR_SUCCESS);
    } else {
        session_lost(session);
    }
}

void mqtt_link_tick(struct device *device)
{
    struct mqtt_session *session = device->link.session;
    if (session != NULL) {
        session_check(session, mosquitto_loop_misc(session->mosq));
    }
}

void mqtt_link_publish(struct device *device, const char *topic, const char *payload, bool retain)
{
    struct mqtt_session *session = device->link.session;
    if (session == NULL || !device->link.subscribed || session->failed) {
        return;
    }
    mosquitto_publish(session->mosq, NULL, topic, (int)strlen(payload), payload, 0, retain);
    if (!session->in_call) { /* else whoever called checks */
        session_check(session, MOSQ_ERR_SUCCESS);
    }
}
