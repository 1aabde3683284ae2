/* One measurement of publishing at QoS 1: how many messages a second the broker acknowledges, and this process's CPU
 * time for each. Either by Eclipse Paho alone, as its documentation would have it, or by the server's own room
 * (publisher and session, the loop included) on top of the same library. publish.py sets them beside each other.
 *
 *     bench_publish paho|publisher PORT 3|5 WINDOW MESSAGES PAYLOAD_BYTES
 *
 * Prints "RATE CPU_US WINDOW"; the last is what was really on its way at once. */
#include "mqtt/publisher.h"
#include "mqtt/session.h"

#include <MQTTClient.h>
#include <assert.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define KEEP_ALIVE_S  60
#define PATIENCE_S    60
#define TOPIC_SIZE    64
#define PAYLOAD_MAX   4096
#define ARGUMENTS     7
#define TOPIC_PATTERN "updraft/door/%012zx/update"

struct task {
    uint16_t port;
    bool five;
    unsigned window;
    size_t messages, payload_bytes;
    char payload[PAYLOAD_MAX + 1];
};

struct stopwatch {
    double wall_s, cpu_s;
};

static void fail(const char *what)
{
    fprintf(stderr, "bench_publish: %s\n", what);
    exit(1);
}

static struct stopwatch look(void)
{
    struct timespec now;
    struct rusage used;
    clock_gettime(CLOCK_MONOTONIC, &now);
    getrusage(RUSAGE_SELF, &used);
    return (struct stopwatch){ (double)now.tv_sec + (double)now.tv_nsec / 1e9,
                               (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                                   (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6 };
}

static void report(const struct task *task, const struct stopwatch *begin, unsigned window)
{
    struct stopwatch end = look();
    printf("%.0f %.2f %u\n", (double)task->messages / (end.wall_s - begin->wall_s),
           (end.cpu_s - begin->cpu_s) * 1e6 / (double)task->messages, window);
}

/* --- Paho alone --------------------------------------------------------------------------------------------------- */

static sem_t room; /* in the window */

static void on_acked_3(void *context, MQTTClient_deliveryToken token)
{
    (void)context;
    (void)token;
    sem_post(&room);
}

static void on_acked_5(void *context, int token, int type, MQTTProperties *properties, enum MQTTReasonCodes reason)
{
    (void)type;
    (void)properties;
    if (reason >= MQTTREASONCODE_UNSPECIFIED_ERROR) {
        fail("the broker refused a message");
    }
    on_acked_3(context, token);
}

static int on_arrived(void *context, char *topic, int topic_bytes, MQTTClient_message *message)
{
    (void)context;
    (void)topic_bytes;
    MQTTClient_freeMessage(&message);
    MQTTClient_free(topic);
    return 1;
}

static void on_lost(void *context, char *cause)
{
    (void)context;
    (void)cause;
    fail("the connection broke");
}

static unsigned receive_maximum(const MQTTResponse *response)
{
    bool said = response->properties != NULL &&
                MQTTProperties_hasProperty(response->properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM);
    return said ? (unsigned)MQTTProperties_getNumericValue(response->properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM)
                : UINT16_MAX;
}

/* Returns the window: the broker may want a smaller one. */
static unsigned paho_connect(const struct task *task, MQTTClient client)
{
    MQTTClient_connectOptions three = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions five = MQTTClient_connectOptions_initializer5;
    MQTTClient_connectOptions *options = task->five ? &five : &three;
    options->keepAliveInterval = KEEP_ALIVE_S;
    options->reliable = 0;
    options->maxInflightMessages = UINT16_MAX; /* Paho's own limit blocks */
    if (!task->five) {
        options->MQTTVersion = MQTTVERSION_3_1_1;
        if (MQTTClient_connect(client, options) != MQTTCLIENT_SUCCESS) {
            fail("no connection to the broker");
        }
        return task->window;
    }
    MQTTResponse response = MQTTClient_connect5(client, options, NULL, NULL);
    if (response.reasonCode != MQTTREASONCODE_SUCCESS) {
        fail("no connection to the broker");
    }
    unsigned most = receive_maximum(&response);
    MQTTResponse_free(response);
    return task->window < most ? task->window : most;
}

static int paho_publish(const struct task *task, MQTTClient client, const char *topic)
{
    MQTTClient_deliveryToken token;
    int bytes = (int)task->payload_bytes;
    if (!task->five) {
        return MQTTClient_publish(client, topic, bytes, task->payload, 1, 0, &token);
    }
    MQTTResponse response = MQTTClient_publish5(client, topic, bytes, task->payload, 1, 0, NULL, &token);
    int rc = (int)response.reasonCode;
    MQTTResponse_free(response);
    return rc;
}

static void wait_room(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    while (sem_trywait(&room) != 0) {
        if (sem_timedwait(&room, &until) == 0) {
            return;
        }
        fail("the broker acknowledges nothing");
    }
}

static void measure_paho(const struct task *task)
{
    char uri[64];
    MQTTClient client;
    MQTTClient_createOptions options = MQTTClient_createOptions_initializer;
    options.MQTTVersion = task->five ? MQTTVERSION_5 : MQTTVERSION_3_1_1;
    snprintf(uri, sizeof uri, "tcp://127.0.0.1:%u", (unsigned)task->port);
    if (MQTTClient_createWithOptions(&client, uri, "bench", MQTTCLIENT_PERSISTENCE_NONE, NULL, &options) != 0) {
        fail("Paho makes no client");
    }
    MQTTClient_setCallbacks(client, NULL, on_lost, on_arrived, task->five ? NULL : on_acked_3);
    if (task->five) {
        MQTTClient_setPublished(client, NULL, on_acked_5);
    }
    unsigned window = paho_connect(task, client);
    sem_init(&room, 0, window);
    struct stopwatch begin = look();
    for (size_t i = 0; i < task->messages; i++) {
        char topic[TOPIC_SIZE];
        snprintf(topic, sizeof topic, TOPIC_PATTERN, i);
        wait_room();
        if (paho_publish(task, client, topic) != MQTTCLIENT_SUCCESS) {
            fail("Paho takes no message");
        }
    }
    for (unsigned i = 0; i < window; i++) {
        wait_room();
    }
    report(task, &begin, window);
    MQTTClient_disconnect(client, 0);
    MQTTClient_destroy(&client);
}

/* --- the server's room -------------------------------------------------------------------------------------------- */

struct host {
    const struct task *task;
    uv_loop_t loop;
    struct session *session;
    struct publisher *publisher;
    struct stopwatch begin;
    size_t acknowledged;
    size_t most; /* in flight at once */
    bool began;
};

static void on_publisher_closed(void *owner)
{
    struct host *host = owner;
    host->publisher = NULL;
}

static void on_stopped(void *owner)
{
    struct host *host = owner;
    publisher_close(host->publisher, on_publisher_closed, host);
}

static void on_done(void *owner, uint64_t ticket, enum publish_result result, const char *why)
{
    struct host *host = owner;
    (void)ticket;
    if (result != PUBLISH_ACKNOWLEDGED) {
        fail(why[0] != '\0' ? why : publish_result_word(result));
    }
    if (++host->acknowledged == host->task->messages) {
        report(host->task, &host->begin, (unsigned)host->most);
        session_stop(host->session, on_stopped);
    }
}

static void send_all(struct host *host)
{
    host->begin = look();
    for (size_t i = 0; i < host->task->messages; i++) {
        char topic[TOPIC_SIZE];
        uint64_t ticket;
        snprintf(topic, sizeof topic, TOPIC_PATTERN, i);
        struct publisher_command command = { .part_count = 1, .parts = { { topic, host->task->payload, NULL } } };
        if (publisher_send(host->publisher, &command, on_done, host, &ticket) != STATUS_OK) {
            fail("the publisher takes no message");
        }
    }
    host->most = publisher_counts(host->publisher)->in_flight;
}

static void on_state(void *owner, const struct session_view *view)
{
    struct host *host = owner;
    publisher_on_state(host->publisher, view);
    if (view->state == SESSION_CONNECTED && !host->began) {
        host->began = true;
        send_all(host);
    } else if (view->state == SESSION_WAITING) {
        fail(view->error);
    }
}

static void on_published(void *owner, struct session_message *message)
{
    struct host *host = owner;
    publisher_on_published(host->publisher, message);
}

static void on_message(void *owner, const char *topic, const void *payload, size_t payload_bytes, bool retained)
{
    (void)owner;
    (void)topic;
    (void)payload;
    (void)payload_bytes;
    (void)retained;
}

static void publish(void *link, struct session_message *message)
{
    session_publish(link, message);
}

static void measure_publisher(const struct task *task)
{
    static const struct session_callbacks callbacks = { on_state, on_published, on_message };
    struct host host = { .task = task };
    struct publisher_config config = { task->window, PUBLISHER_COMMANDS_MAX, 8u << 20 };
    struct session_config session = { .host = "127.0.0.1",
                                      .port = task->port,
                                      .version = task->five ? SESSION_VERSION_5 : SESSION_VERSION_3_1_1,
                                      .keep_alive_ms = KEEP_ALIVE_S * 1000,
                                      .connect_timeout_ms = 10000,
                                      .loss_timeout_ms = 10000,
                                      .backoff_ms = 500,
                                      .backoff_max_ms = 30000 };
    uv_loop_init(&host.loop);
    host.publisher = publisher_new(&host.loop, &config);
    host.session = session_start(&host.loop, &session, &callbacks, &host);
    struct publisher_link link = { publish, host.session };
    publisher_connect(host.publisher, &link);
    uv_run(&host.loop, UV_RUN_DEFAULT);
    uv_loop_close(&host.loop);
}

int main(int argc, char **argv)
{
    if (argc != ARGUMENTS || (strcmp(argv[1], "paho") != 0 && strcmp(argv[1], "publisher") != 0)) {
        fprintf(stderr, "usage: bench_publish paho|publisher PORT 3|5 WINDOW MESSAGES PAYLOAD_BYTES\n");
        return 2;
    }
    struct task task = { .port = (uint16_t)atoi(argv[2]),
                         .five = atoi(argv[3]) == 5,
                         .window = (unsigned)atoi(argv[4]),
                         .messages = (size_t)atol(argv[5]),
                         .payload_bytes = (size_t)atol(argv[6]) };
    if (task.window == 0 || task.messages == 0 || task.messages > PUBLISHER_COMMANDS_MAX ||
        task.payload_bytes > PAYLOAD_MAX) {
        fail("numbers: a window and messages of at least 1, at most 200000 messages of 4096 bytes");
    }
    memset(task.payload, 'x', task.payload_bytes);
    (strcmp(argv[1], "paho") == 0 ? measure_paho : measure_publisher)(&task);
    return 0;
}
