/* One connection's life. What makes it hard: an answer may be sent at once or over minutes, its image may have to be
 * loaded first, and the device may vanish at any point; so a connection is always in exactly one state, and every way
 * out goes through http_conn_close.
 *
 *   READING -> (LOADING ->) SENDING -> READING          kept
 *           -> (COLLECTING ->) (AWAITING ->) SENDING    a body is taken; the handler answers later
 *                                   -> FINISHING         image sent, closing: wait for the device's end
 *                                   -> LINGERING         refused: let the peer read the answer before it is reset
 */
#include "server/http_conn_parts.h"

#include "server/http_crowd.h"

#include <assert.h>
#include <netinet/in.h>
#include <string.h>

#define INPUT_PAUSE  (16u << 10) /* waiting input above which we stop reading */
#define INPUT_MAX    (64u << 10)
#define TURN_BYTES   (8u << 10) /* of input, or ... */
#define TURN_ANSWERS 16         /* ... answers at once, or ... */
#define TURN_NS      1000000    /* ... as long, then others have their turn; and all that wait for one, in a turn */
#define KEPT_MAX     1024       /* connections, and transfers, whose memory is kept for the next */

/* --- waiting ------------------------------------------------------------------------------------------------------ */

void conn_wait_for(struct http_conn *conn, enum http_wait wait)
{
    struct http_server *server = conn->server;
    wait_list_remove(&server->waits[conn->wait], &conn->wait_entry);
    conn->wait = wait;
    wait_list_append(&server->waits[wait], &conn->wait_entry, uv_now(server->loop));
    http_crowd_moved(conn);
}

void conn_wait_for_transfer(struct http_conn *conn)
{
    conn->acknowledged_mark = 0;
    conn->progress_ms = uv_now(conn->server->loop);
    conn_wait_for(conn, HTTP_WAIT_TRANSFER);
}

/* --- the beginning ------------------------------------------------------------------------------------------------ */

static void forget_fresh(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    for (size_t i = 0; conn->fresh && i < server->fresh_count; i++) {
        if (server->fresh[i] == conn) {
            server->fresh[i] = NULL;
        }
    }
    conn->fresh = false;
}

void http_conn_start_all(struct http_server *server)
{
    for (size_t i = 0; i < server->fresh_count; i++) {
        struct http_conn *conn = server->fresh[i];
        if (conn != NULL) {
            conn->fresh = false;
            http_conn_start(conn);
        }
    }
    server->fresh_count = 0;
    uv_check_stop(&server->after_poll);
}

static void on_polled(uv_check_t *check)
{
    http_conn_start_all(check->data);
}

void http_conn_start_soon(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    assert(server->fresh_count < HTTP_FRESH_MAX);
    conn->fresh = true;
    server->fresh[server->fresh_count++] = conn;
    uv_check_start(&server->after_poll, on_polled);
}

/* --- turns -------------------------------------------------------------------------------------------------------- */

static void end_yielding(struct http_conn *conn)
{
    if (conn->yields) {
        conn->yields = false;
        conn->server->yielding_count--;
        wait_list_remove(&conn->server->yielding, &conn->turn_entry);
    }
}

static void on_turn(uv_idle_t *idle)
{
    struct http_server *server = idle->data;
    uint64_t until_ns = uv_hrtime() + TURN_NS;
    for (size_t left = server->yielding_count; left > 0 && server->yielding.first != NULL && uv_hrtime() < until_ns;
         left--) {
        struct http_conn *conn =
            (struct http_conn *)((char *)server->yielding.first - offsetof(struct http_conn, turn_entry));
        end_yielding(conn);
        conn_resume(conn);
    }
    if (server->yielding.first == NULL) {
        uv_idle_stop(idle);
    }
}

/* Who asks much on one connection does not keep others waiting for all of it. */
static void yield_turn(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    conn->yields = conn->paused = true;
    conn_stream(conn)->ops->read_stop(conn_stream(conn));
    server->yielding_count++;
    wait_list_append(&server->yielding, &conn->turn_entry, 0);
    uv_idle_start(&server->next_turn, on_turn);
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

void http_conn_close(struct http_conn *conn, const char *why)
{
    if (conn->state == CONN_CLOSED) {
        return;
    }
    if (conn->transfer != NULL) {
        conn_end_transfer(conn, why, conn_acknowledged(conn));
    }
    conn->state = CONN_CLOSED;
    forget_fresh(conn);
    end_yielding(conn);
    http_crowd_left(conn);
    conn_drop_body(conn);
    conn_forget_later(conn);
    wait_list_remove(&conn->server->waits[conn->wait], &conn->wait_entry);
    buf_close(&conn->input);
    conn_stream(conn)->ops->close(conn_stream(conn));
}

static void on_closed(struct stream *stream)
{
    struct http_conn *conn = conn_of_stream(stream);
    struct http_server *server = conn->server;
    pool_give(&server->conns, conn);
    server->connections--;
    server->on_left(server);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

/* A whole head; `more`: bytes have come behind it. */
static void answer_request(struct http_conn *conn, const char *head, size_t n, bool more)
{
    struct http_server *server = conn->server;
    struct http_request request; /* its own: a handler may answer others, and so have their next requests handled */
    struct http_answer answer;
    const char *why = "";
    unsigned status = http_request_parse(head, n, &request, &why);
    if (status != 200) {
        conn_refuse(conn, status, why);
        return;
    }
    if (request.has_body && request.get) {
        conn_refuse(conn, 413, "no body is taken with this request");
        return;
    }
    memset(&answer, 0, offsetof(struct http_answer, text));
    server->handlers->handle(server->owner, &request, conn_stream(conn), &answer);
    if (answer.status == HTTP_SEND_BODY) {
        conn_begin_body(conn, head, n, &request);
    } else {
        if (answer.later != NULL && answer.again) {
            conn_keep_request(conn, head, n);
        }
        conn_take_answer(conn, &request, &answer, more);
    }
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* Answers the requests that are whole in bytes[0..n), as long as each is answered at once and the connection has its
 * turn. Returns the bytes consumed. */
static size_t process(struct http_conn *conn, const char *bytes, size_t n)
{
    size_t used = 0;
    unsigned answers = 0;
    uint64_t until_ns = 0; /* of several; one needs no clock */
    while (conn_is_taking(conn) && used < n) {
        if (conn->state == CONN_COLLECTING) {
            used += conn_collect(conn, bytes + used, n - used);
            continue;
        }
        if (answers++ == TURN_ANSWERS || (answers > 1 && uv_hrtime() >= until_ns)) {
            yield_turn(conn);
            break;
        }
        size_t head_bytes = 0;
        const char *why = "";
        unsigned status = http_request_scan(&conn->scan, bytes + used, n - used, &head_bytes, &why);
        if (status == 0) {
            break;
        }
        size_t start = conn->scan.start;
        conn->scan = (struct http_scan){ .looked = 0 };
        if (status != 200) {
            conn_refuse(conn, status, why);
            return n;
        }
        bool more = used + head_bytes < n;
        until_ns = answers == 1 && more ? uv_hrtime() + TURN_NS : until_ns;
        answer_request(conn, bytes + used + start, head_bytes - start, more);
        used += head_bytes;
    }
    return used;
}

/* The peer sends no more, and all that it sent has been looked at. */
static void end_of_input(struct http_conn *conn)
{
    if (conn->state == CONN_COLLECTING) {
        conn_body_cut_short(conn);
    } else {
        http_conn_close(conn, NULL);
    }
}

void conn_resume(struct http_conn *conn)
{
    if (conn_is_taking(conn) && !conn->yields && conn->input.used > 0) {
        size_t used = process(conn, conn->input.bytes, conn->input.used);
        if (conn->state == CONN_CLOSED) {
            return;
        }
        buf_consume(&conn->input, used);
        if (conn->state == CONN_READING && conn->input.used > 0 && conn->wait == HTTP_WAIT_IDLE) {
            /* Of the next head; one under way has its deadline, which no byte renews. */
            conn_wait_for(conn, HTTP_WAIT_HEAD);
        }
    }
    bool takes = conn_is_taking(conn);
    if (conn->state == CONN_CLOSED || conn->yields || (!takes && conn->input.used > INPUT_PAUSE)) {
        return;
    }
    if (conn->peer_ended && takes) {
        end_of_input(conn);
    } else if (conn->paused && !conn->peer_ended) {
        conn->paused = false;
        if (!conn_stream(conn)->ops->read_start(conn_stream(conn))) {
            http_conn_close(conn, "cannot read");
        }
    }
}

/* Keeps bytes for later. */
static void keep_input(struct http_conn *conn, const char *bytes, size_t n)
{
    if (!buf_add(&conn->input, bytes, n)) {
        http_conn_close(conn, "out of memory");
        return;
    }
    if (!conn_is_taking(conn) && conn->input.used > INPUT_PAUSE) {
        conn->paused = true;
        conn_stream(conn)->ops->read_stop(conn_stream(conn));
    }
}

static void take(struct http_conn *conn, const char *bytes, size_t n)
{
    if (conn->state == CONN_FINISHING || conn->state == CONN_LINGERING || conn->state == CONN_CLOSED) {
        return; /* nothing will be answered any more */
    }
    if (conn->input.used > 0 || !conn_is_taking(conn) || conn->yields) {
        keep_input(conn, bytes, n);
        conn_resume(conn);
        return;
    }
    size_t used = process(conn, bytes, n);
    if (conn->state == CONN_CLOSED || conn->state == CONN_FINISHING || conn->state == CONN_LINGERING) {
        return;
    }
    if (used < n) {
        keep_input(conn, bytes + used, n - used);
        if (conn->state == CONN_READING && conn->wait == HTTP_WAIT_IDLE) {
            conn_wait_for(conn, HTTP_WAIT_HEAD);
        }
    }
}

static void on_read(struct stream *stream, const char *bytes, size_t n)
{
    struct http_conn *conn = conn_of_stream(stream);
    take(conn, bytes, n);
    if (n >= TURN_BYTES && conn->state == CONN_READING && !conn->yields) {
        yield_turn(conn); /* libuv would read many such pieces before it comes to others */
    }
}

static void on_end(struct stream *stream, bool broken)
{
    struct http_conn *conn = conn_of_stream(stream);
    conn->peer_ended = true;
    switch (conn->state) {
    case CONN_LOADING:
    case CONN_SENDING:
    case CONN_FINISHING:
        if (broken) {
            http_conn_close(conn, "reset by the device");
        } else if (conn->state == CONN_FINISHING) {
            conn_look_at_transfer(conn); /* mostly all has arrived, and this was its end */
        } else {
            conn_wait_for(conn, HTTP_WAIT_FINISH); /* it may still read, but its death would not be heard: look often */
        }
        break;
    case CONN_AWAITING:
        if (broken) {
            http_conn_close(conn, "reset by the client");
        }
        break;
    case CONN_COLLECTING:
        if (broken) {
            http_conn_close(conn, "reset by the client");
        } else {
            end_of_input(conn);
        }
        break;
    case CONN_CLOSED:
        break;
    default:
        if (broken || !conn->yields) { /* else it is answered first */
            http_conn_close(conn, broken ? "reset by the device" : NULL);
        }
    }
}

static void on_sent(struct stream *stream, bool broken)
{
    struct http_conn *conn = conn_of_stream(stream);
    if (broken) {
        http_conn_close(conn, "reset by the device");
        return;
    }
    conn_answer_sent(conn);
    conn_resume(conn);
}

/* --- time --------------------------------------------------------------------------------------------------------- */

void http_conn_expire(struct http_conn *conn)
{
    switch (conn->wait) {
    case HTTP_WAIT_FIRST_HEAD:
    case HTTP_WAIT_HEAD:
        if (conn->input.used > 0) {
            conn_refuse(conn, 408, "the request's head took too long");
        } else {
            http_conn_close(conn, NULL);
        }
        break;
    case HTTP_WAIT_BODY:
        conn_look_at_body(conn);
        break;
    case HTTP_WAIT_ANSWER:
        conn_wait_for(conn, HTTP_WAIT_ANSWER);
        break;
    case HTTP_WAIT_IDLE:
        conn_end_rest(conn);
        break;
    case HTTP_WAIT_TRANSFER:
    case HTTP_WAIT_FINISH:
        conn_look_at_transfer(conn);
        break;
    default:
        http_conn_close(conn, NULL);
    }
}

/* --- life --------------------------------------------------------------------------------------------------------- */

struct http_conn *http_conn_new(struct http_server *server, struct tls_room *tls)
{
    struct http_conn *conn = pool_take(&server->conns);
    if (conn == NULL) {
        return NULL;
    }
    conn->server = server;
    buf_init(&conn->input, INPUT_MAX);
    conn->over_tls = tls != NULL;
    if (tls != NULL) {
        stream_tls_init(&conn->carrier.tls, server->loop, &server->read_buffer, &server->room, tls);
    } else {
        stream_socket_init(&conn->carrier.socket, server->loop, &server->read_buffer, &server->room, server->of_unix);
    }
    struct stream *stream = conn_stream(conn);
    stream->on_read = on_read;
    stream->on_end = on_end;
    stream->on_sent = on_sent;
    stream->on_closed = on_closed;
    conn->wait = HTTP_WAIT_FIRST_HEAD;
    wait_list_append(&server->waits[HTTP_WAIT_FIRST_HEAD], &conn->wait_entry, uv_now(server->loop));
    server->connections++;
    server->accepted++;
    return conn;
}

static struct http_peer peer_of(const struct sockaddr *address)
{
    struct http_peer peer = { .bytes = { 0 } };
    if (address->sa_family == AF_INET6) {
        memcpy(peer.bytes, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
    } else if (address->sa_family == AF_INET) {
        peer.bytes[10] = peer.bytes[11] = 0xff;
        memcpy(peer.bytes + 12, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
    }
    return peer;
}

void http_conn_open(struct http_conn *conn, int fd, const union stream_address *peer)
{
    if (conn->over_tls) {
        stream_tls_open(&conn->carrier.tls, fd, peer);
    } else {
        stream_socket_open(&conn->carrier.socket, fd, peer);
    }
    conn->peer = peer_of(conn_stream(conn)->ops->remote(conn_stream(conn)));
}

void http_conn_print_peer(struct http_conn *conn, char *text, size_t size)
{
    conn_stream(conn)->ops->peer(conn_stream(conn), text, size);
}

void http_conn_start(struct http_conn *conn)
{
    if (!conn_stream(conn)->ops->read_start(conn_stream(conn))) {
        http_conn_close(conn, "cannot read");
    }
}

bool http_conn_has_input(const struct http_conn *conn)
{
    return conn->input.used > 0;
}

bool http_conn_is_silent(const struct http_conn *conn)
{
    return conn->input.used == 0 && !(conn->over_tls && stream_tls_has_heard(&conn->carrier.tls));
}

struct http_conn *http_conn_of_wait(struct wait_entry *entry)
{
    return (struct http_conn *)((char *)entry - offsetof(struct http_conn, wait_entry));
}

void http_conn_make_pools(struct http_server *server)
{
    pool_init(&server->conns, sizeof(struct http_conn), KEPT_MAX);
    pool_init(&server->transfers_free, conn_transfer_bytes(), KEPT_MAX);
}
