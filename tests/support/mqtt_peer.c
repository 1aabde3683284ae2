/* MQTT 3.1.1, as much of it as a witness needs. What makes it hard: nothing, and it should stay so. */
#include "tests/support/mqtt_peer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 5000
#define TYPE(byte)  ((byte) >> 4)
enum { CONNACK = 2, PUBLISH = 3, SUBACK = 9 };

static void expect(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "mqtt_peer: %s (%s)\n", what, strerror(errno));
        abort();
    }
}

static void send_bytes(struct mqtt_peer *peer, const void *bytes, size_t n)
{
    for (const char *at = bytes; n > 0;) {
        ssize_t sent = send(peer->fd, at, n, MSG_NOSIGNAL);
        expect(sent > 0, "the broker hung up");
        at += sent;
        n -= (size_t)sent;
    }
}

static void send_packet(struct mqtt_peer *peer, uint8_t head, const void *rest, size_t n)
{
    uint8_t start[5] = { head };
    size_t used = 1;
    for (size_t left = n; used == 1 || left > 0; left >>= 7) {
        start[used++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    }
    send_bytes(peer, start, used);
    send_bytes(peer, rest, n);
}

static bool readable(struct mqtt_peer *peer, unsigned timeout_ms)
{
    struct pollfd ready = { .fd = peer->fd, .events = POLLIN };
    return poll(&ready, 1, (int)timeout_ms) > 0;
}

static void receive_bytes(struct mqtt_peer *peer, void *to, size_t n)
{
    for (char *at = to; n > 0;) {
        ssize_t got = recv(peer->fd, at, n, 0);
        expect(got > 0, "the broker hung up");
        at += got;
        n -= (size_t)got;
    }
}

/* A whole packet behind its length; to be freed. */
static uint8_t *receive_packet(struct mqtt_peer *peer, uint8_t *head, size_t *n)
{
    uint8_t byte;
    receive_bytes(peer, head, 1);
    *n = 0;
    for (unsigned shift = 0; shift < 28; shift += 7) {
        receive_bytes(peer, &byte, 1);
        *n |= (size_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            break;
        }
    }
    uint8_t *rest = malloc(*n + 1);
    assert(rest != NULL);
    receive_bytes(peer, rest, *n);
    return rest;
}

static size_t put_string(uint8_t *to, const char *text)
{
    size_t n = strlen(text);
    to[0] = (uint8_t)(n >> 8);
    to[1] = (uint8_t)n;
    memcpy(to + 2, text, n);
    return n + 2;
}

static void expect_answer(struct mqtt_peer *peer, int type, size_t code_at)
{
    uint8_t head;
    size_t n;
    expect(readable(peer, PATIENCE_MS), "the broker does not answer");
    uint8_t *rest = receive_packet(peer, &head, &n);
    expect(TYPE(head) == type && n > code_at && rest[code_at] < 0x80, "the broker answers otherwise");
    expect(type != CONNACK || rest[code_at] == 0, "the broker refuses the connection");
    free(rest);
}

void mqtt_peer_connect(struct mqtt_peer *peer, uint16_t port, const char *client_id)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    expect(peer->fd >= 0 && connect(peer->fd, (struct sockaddr *)&address, sizeof address) == 0, "no connection");
    uint8_t rest[256];
    size_t n = put_string(rest, "MQTT");
    static const uint8_t middle[] = { 4, 2, 0, 0 }; /* version, clean session, no keep-alive */
    memcpy(rest + n, middle, sizeof middle);
    n += sizeof middle;
    assert(strlen(client_id) < 200);
    n += put_string(rest + n, client_id);
    send_packet(peer, 0x10, rest, n);
    expect_answer(peer, CONNACK, 1);
}

void mqtt_peer_subscribe(struct mqtt_peer *peer, const char *filter)
{
    uint8_t rest[600] = { 0, 1 };
    assert(strlen(filter) < 512);
    size_t n = 2 + put_string(rest + 2, filter);
    rest[n++] = 0;
    send_packet(peer, 0x82, rest, n);
    expect_answer(peer, SUBACK, 2);
}

void mqtt_peer_publish(struct mqtt_peer *peer, const char *topic, const void *payload, size_t payload_bytes,
                       bool retain)
{
    uint8_t *rest = malloc(2 + strlen(topic) + payload_bytes);
    assert(rest != NULL);
    size_t n = put_string(rest, topic);
    if (payload_bytes > 0) {
        memcpy(rest + n, payload, payload_bytes);
    }
    send_packet(peer, (uint8_t)(0x30 | (retain ? 1 : 0)), rest, n + payload_bytes);
    free(rest);
}

bool mqtt_peer_next(struct mqtt_peer *peer, struct mqtt_peer_message *message, unsigned timeout_ms)
{
    if (!readable(peer, timeout_ms)) {
        return false;
    }
    uint8_t head;
    size_t n;
    uint8_t *rest = receive_packet(peer, &head, &n);
    expect(TYPE(head) == PUBLISH && n >= 2, "the broker sends something else");
    size_t topic_bytes = (size_t)rest[0] << 8 | rest[1];
    expect(n >= 2 + topic_bytes && topic_bytes < sizeof message->topic, "a topic too long");
    memcpy(message->topic, rest + 2, topic_bytes);
    message->topic[topic_bytes] = '\0';
    message->retained = head & 1;
    message->payload_bytes = n - 2 - topic_bytes;
    size_t kept =
        message->payload_bytes < sizeof message->payload ? message->payload_bytes : sizeof message->payload - 1;
    memcpy(message->payload, rest + 2 + topic_bytes, kept);
    message->payload[kept] = '\0';
    free(rest);
    return true;
}

void mqtt_peer_close(struct mqtt_peer *peer)
{
    close(peer->fd);
    peer->fd = -1;
}
