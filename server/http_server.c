/* One timer for all deadlines: it walks the heads of the lists, so it costs what is due and nothing else. */
#include "server/http_server.h"

#include "server/http_crowd.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_MS        100
#define READ_BYTES     (16u << 10)
#define LINGER_MS      2000
#define FINISH_LOOK_MS 250
#define ANSWER_LOOK_MS 60000
#define TRANSFER_LOOKS 4 /* at a transfer's progress within transfer_ms */

const char *http_refusal_word(enum http_refusal refusal)
{
    static const char *const words[] = {
#define X(name, word) word,
        HTTP_REFUSAL_LIST(X)
#undef X
    };
    assert(refusal < HTTP_REFUSAL_COUNT);
    return words[refusal];
}

static uint64_t wait_ms(const struct http_server *server, enum http_wait wait)
{
    switch (wait) {
    case HTTP_WAIT_FIRST_HEAD:
        return server->limits.first_head_ms != 0 && server->limits.first_head_ms < server->limits.head_ms
                   ? server->limits.first_head_ms
                   : server->limits.head_ms;
    case HTTP_WAIT_HEAD:
        return server->limits.head_ms;
    case HTTP_WAIT_IDLE:
        return server->limits.idle_ms;
    case HTTP_WAIT_BODY:
        return server->limits.transfer_ms;
    case HTTP_WAIT_ANSWER:
        return ANSWER_LOOK_MS;
    case HTTP_WAIT_TRANSFER:
        return server->limits.transfer_ms / TRANSFER_LOOKS;
    case HTTP_WAIT_FINISH:
        return FINISH_LOOK_MS;
    default:
        return LINGER_MS;
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    uint64_t now_ms = uv_now(server->loop);
    for (enum http_wait wait = 0; wait < HTTP_WAIT_COUNT; wait++) {
        uint64_t limit_ms = wait_ms(server, wait);
        struct wait_entry *due;
        while ((due = wait_list_due(&server->waits[wait], limit_ms, now_ms)) != NULL) {
            http_conn_expire(http_conn_of_wait(due));
        }
    }
    http_crowd_tell(server, false);
    if (http_server_is_full(server) && !server->draining) {
        server->on_room(server->owner); /* whoever waits looks again who may leave by now */
    }
}

static void on_left(struct http_server *server)
{
    if (server->connections == 0) {
        uv_timer_stop(&server->tick);
        http_crowd_tell(server, true);
    }
    if (!server->draining) {
        server->on_room(server->owner);
    } else if (server->connections == 0) {
        server->on_empty(server->owner);
    }
}

void http_server_init(struct http_server *server, uv_loop_t *loop, struct blob_store *blobs,
                      const struct http_handlers *handlers, void *owner, const struct http_limits *limits)
{
    memset(server, 0, sizeof *server);
    server->loop = loop;
    server->blobs = blobs;
    server->handlers = handlers;
    server->owner = owner;
    server->limits = *limits;
    server->on_left = on_left;
    server->read_buffer.size = READ_BYTES;
    server->read_buffer.bytes = malloc(READ_BYTES);
    assert(server->read_buffer.bytes != NULL);
    send_room_init(&server->room, loop);
    uv_check_init(loop, &server->after_poll);
    server->after_poll.data = server;
    uv_idle_init(loop, &server->next_turn);
    server->next_turn.data = server;
    http_conn_make_pools(server);
    http_crowd_open(server);
    uv_timer_init(loop, &server->tick);
    server->tick.data = server;
}

bool http_server_is_full(const struct http_server *server)
{
    return server->connections >= server->limits.connections_max;
}

struct http_conn *http_server_new_conn(struct http_server *server, struct tls_room *tls)
{
    struct http_conn *conn = http_conn_new(server, tls);
    if (conn != NULL && !uv_is_active((uv_handle_t *)&server->tick)) {
        uv_timer_start(&server->tick, on_tick, TICK_MS, TICK_MS);
    }
    return conn;
}

bool http_server_take(struct http_server *server, int fd, const union stream_address *peer, struct tls_room *tls)
{
    if (server->fresh_count == HTTP_FRESH_MAX) { /* of another door, in the same turn */
        http_conn_start_all(server);
    }
    struct http_conn *conn = http_server_new_conn(server, tls);
    if (conn == NULL) {
        close(fd);
        return false;
    }
    http_conn_open(conn, fd, peer);
    http_crowd_came(conn);
    if (http_crowd_admit(server, conn)) {
        http_conn_start_soon(conn);
    } else {
        http_conn_close(conn, "not accepted");
    }
    return server->fresh_count < HTTP_FRESH_MAX;
}

void http_server_count_refusal(struct http_server *server, enum http_refusal refusal)
{
    if (server->refused != NULL) {
        server->refused[refusal]++;
    }
}

void http_server_progress(struct http_server *server, http_progress_fn on_progress, void *owner)
{
    static const enum http_wait sending[] = { HTTP_WAIT_TRANSFER, HTTP_WAIT_FINISH };
    for (size_t i = 0; i < sizeof sending / sizeof sending[0]; i++) {
        for (struct wait_entry *entry = server->waits[sending[i]].first; entry != NULL; entry = entry->next) {
            const struct delivery *delivery;
            uint64_t bytes;
            if (http_conn_progress(http_conn_of_wait(entry), &delivery, &bytes)) {
                on_progress(owner, delivery, bytes);
            }
        }
    }
}

void http_server_drain(struct http_server *server)
{
    server->draining = true;
    if (server->connections == 0) {
        server->on_empty(server->owner);
        return;
    }
    /* Who is between requests is told at once; who has begun one is answered. */
    static const enum http_wait resting[] = { HTTP_WAIT_IDLE, HTTP_WAIT_FIRST_HEAD, HTTP_WAIT_HEAD };
    for (size_t i = 0; i < sizeof resting / sizeof resting[0]; i++) {
        struct wait_entry *next;
        for (struct wait_entry *entry = server->waits[resting[i]].first; entry != NULL; entry = next) {
            next = entry->next;
            struct http_conn *conn = http_conn_of_wait(entry);
            if (!http_conn_has_input(conn)) {
                http_conn_close(conn, NULL);
            }
        }
    }
}

void http_server_abort(struct http_server *server)
{
    for (enum http_wait wait = 0; wait < HTTP_WAIT_COUNT; wait++) {
        while (server->waits[wait].first != NULL) {
            http_conn_close(http_conn_of_wait(server->waits[wait].first), "shutting down");
        }
    }
}

static void on_room_closed(struct send_room *room)
{
    struct http_server *server = (struct http_server *)((char *)room - offsetof(struct http_server, room));
    pool_close(&server->conns);
    pool_close(&server->transfers_free);
    http_crowd_close(server);
    free(server->read_buffer.bytes);
    server->on_empty(server->owner);
}

static void on_turn_closed(uv_handle_t *handle)
{
    struct http_server *server = handle->data;
    send_room_close(&server->room, on_room_closed);
}

static void on_check_closed(uv_handle_t *handle)
{
    struct http_server *server = handle->data;
    uv_close((uv_handle_t *)&server->next_turn, on_turn_closed);
}

static void on_tick_closed(uv_handle_t *handle)
{
    struct http_server *server = handle->data;
    uv_close((uv_handle_t *)&server->after_poll, on_check_closed);
}

void http_server_close(struct http_server *server, void (*on_closed)(void *owner))
{
    server->on_empty = on_closed;
    uv_close((uv_handle_t *)&server->tick, on_tick_closed);
}
