/* One connection's life. What makes it hard: an answer may be sent at once or over minutes, its image may have to be
 * loaded first, and the device may vanish at any point; so a connection is always in exactly one state, and every way
 * out goes through http_conn_close.
 *
 *   READING -> (LOADING ->) SENDING -> READING          kept
 *           -> (COLLECTING ->) (AWAITING ->) SENDING    a body is taken; the handler answers later
 *                                   -> FINISHING         image sent, closing: wait for the device's end
 *                                   -> LINGERING         refused: let the peer read the answer before it is reset
 */
#include "server/http_conn.h"

#include "base/buf.h"
#include "base/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_PAUSE (16u << 10) /* waiting input above which we stop reading */
#define INPUT_MAX   (64u << 10)
#define BODY_SMALL  (64u << 10)
#define BODY_PACE   (16u << 10) /* that must come of a body within transfer_ms, or the rest of it */

enum conn_state {
    CONN_READING,
    CONN_COLLECTING,
    CONN_AWAITING,
    CONN_LOADING,
    CONN_SENDING,
    CONN_FINISHING,
    CONN_LINGERING,
    CONN_CLOSED
};

/* A request whose body is being collected: its head, which is parsed again when all is there, and the body behind it.
 */
struct collection {
    size_t head_bytes, wanted, used;
    size_t looked; /* `used` when its progress was last looked at */
    char bytes[];
};

struct http_later {
    struct http_conn *conn; /* NULL = it has gone */
    struct http_server *server;
    struct collection *collection; /* what the handler may still read of the request's body; NULL = it had none */
};

/* An image on its way; made when an answer has one, gone when it is sent. */
struct transfer {
    struct blob_wait wait;
    struct http_conn *conn;
    bool later; /* the image had to be loaded: the answer is not sent from within the request's reading */
    struct blob *blob;
    struct image *image; /* counted */
    uint64_t started_ms;
    uint64_t sent_before; /* stream.sent_bytes when its body began */
    struct http_answer answer;
};

struct http_conn {
    struct stream_socket socket; /* first: the stream's callbacks find us by it */
    struct http_server *server;
    enum conn_state state;
    bool keep_alive; /* after the answer under way */
    bool peer_ended; /* it sends no more */
    bool paused;     /* we stopped reading */
    bool head_only;  /* of the request that waits for its answer */
    bool linger;     /* the answer under way refuses something the peer may still be sending */
    enum http_wait wait;
    struct wait_entry wait_entry;
    uint64_t acknowledged_mark; /* of the answer under way: bytes acknowledged, and when they last grew */
    uint64_t progress_ms;
    struct http_conn *next_free;
    struct http_scan scan;
    struct buf input; /* what came and is not consumed */
    struct transfer *transfer;
    struct collection *collection;
    struct http_later *later;
};

static struct http_conn *of_stream(struct stream *stream)
{
    return (struct http_conn *)stream;
}

static struct stream *stream_of(struct http_conn *conn)
{
    return &conn->socket.stream;
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

static void wait_for(struct http_conn *conn, enum http_wait wait)
{
    struct http_server *server = conn->server;
    wait_list_remove(&server->waits[conn->wait], &conn->wait_entry);
    conn->wait = wait;
    wait_list_append(&server->waits[wait], &conn->wait_entry, uv_now(server->loop));
}

/* An answer begins: from now on it has to make progress. */
static void wait_for_transfer(struct http_conn *conn)
{
    conn->acknowledged_mark = 0;
    conn->progress_ms = uv_now(conn->server->loop);
    wait_for(conn, HTTP_WAIT_TRANSFER);
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

static uint64_t acknowledged(struct http_conn *conn)
{
    struct stream *stream = stream_of(conn);
    uint64_t open = stream->ops->unacknowledged(stream);
    return open < stream->sent_bytes ? stream->sent_bytes - open : 0;
}

/* Ends the transfer and tells who asked for it. `why` NULL = nothing went wrong on our side. `handed`: what the system
 * has taken counts as arrived, since nothing more will be learned. */
static void transfer_end(struct http_conn *conn, const char *why, bool handed)
{
    struct transfer *transfer = conn->transfer;
    struct http_server *server = conn->server;
    if (transfer == NULL) {
        return;
    }
    conn->transfer = NULL;
    server->transfers--;
    blob_cancel(&transfer->wait);
    struct delivery_outcome outcome = { .begun = transfer->blob != NULL,
                                        .wanted = transfer->answer.length,
                                        .why = why };
    outcome.ms = uv_now(server->loop) - transfer->started_ms;
    if (transfer->blob != NULL) {
        uint64_t done = handed ? stream_of(conn)->sent_bytes : acknowledged(conn);
        done = done > transfer->sent_before ? done - transfer->sent_before : 0;
        /* The system counts the end of the connection as one byte more to acknowledge. */
        outcome.whole = conn->state != CONN_SENDING && done + (conn->state == CONN_FINISHING) >= outcome.wanted;
        outcome.bytes = outcome.whole ? outcome.wanted : done;
        if (!outcome.whole && why == NULL) {
            outcome.why = "ended by the device";
        }
        blob_release(transfer->blob);
    }
    if (transfer->answer.delivery != NULL) {
        server->handlers->delivered(server->owner, transfer->answer.delivery, &outcome);
    }
    image_unref(transfer->image);
    free(transfer);
}

/* Small bodies are bounded by the number of connections: only large ones take from the room of all. */
static size_t counted_bytes(uint64_t wanted)
{
    return wanted > BODY_SMALL ? (size_t)wanted : 0;
}

static void collection_free(struct http_server *server, struct collection *collection)
{
    if (collection != NULL) {
        server->bodies_bytes -= counted_bytes(collection->wanted);
        free(collection);
    }
}

static void collection_end(struct http_conn *conn)
{
    collection_free(conn->server, conn->collection);
    conn->collection = NULL;
}

void http_conn_close(struct http_conn *conn, const char *why)
{
    if (conn->state == CONN_CLOSED) {
        return;
    }
    transfer_end(conn, why, false);
    conn->state = CONN_CLOSED;
    collection_end(conn);
    if (conn->later != NULL) {
        conn->later->conn = NULL;
    }
    wait_list_remove(&conn->server->waits[conn->wait], &conn->wait_entry);
    buf_close(&conn->input);
    stream_of(conn)->ops->close(stream_of(conn));
}

static void on_closed(struct stream *stream)
{
    struct http_conn *conn = of_stream(stream);
    struct http_server *server = conn->server;
    conn->next_free = server->free_conns;
    server->free_conns = conn;
    server->connections--;
    server->on_left(server);
}

/* --- answering ---------------------------------------------------------------------------------------------------- */

/* All of the answer is handed to the system. */
static void answer_sent(struct http_conn *conn)
{
    struct stream *stream = stream_of(conn);
    bool over = conn->server->draining || (conn->peer_ended && conn->input.used == 0);
    if (conn->keep_alive && !over) {
        conn->state = CONN_READING;
        transfer_end(conn, NULL, true);
        wait_for(conn, HTTP_WAIT_IDLE);
        return;
    }
    conn->state = conn->transfer != NULL ? CONN_FINISHING : CONN_LINGERING;
    if (conn->transfer == NULL && (conn->peer_ended || !conn->linger)) {
        http_conn_close(conn, NULL);
        return;
    }
    /* The end of our side goes out; the device's own end, or its acknowledgement of the last byte, says that all
     * arrived. */
    stream->ops->shutdown(stream);
    wait_for(conn, conn->transfer != NULL ? HTTP_WAIT_FINISH : HTTP_WAIT_LINGER);
    if (conn->paused) {
        conn->paused = false;
        (void)stream->ops->read_start(stream);
    }
}

/* Sends the head and the text behind it in one piece; the stream copies what it cannot hand over at once. */
static enum stream_sent send_text(struct http_conn *conn, const struct http_answer *answer, bool with_body)
{
    char small[HTTP_REPLY_HEAD_MAX + sizeof answer->text];
    const char *text = answer->body != NULL ? answer->body : answer->text;
    size_t text_bytes = !with_body ? 0 : answer->body != NULL ? answer->body_bytes : answer->text_bytes;
    struct stream *stream = stream_of(conn);
    char *bytes = answer->body != NULL ? malloc(HTTP_REPLY_HEAD_MAX + text_bytes) : small;
    if (bytes == NULL) {
        return STREAM_BROKEN;
    }
    size_t n = http_reply_head(answer, conn->keep_alive, http_clock_date(&conn->server->clock), bytes);
    memcpy(bytes + n, text, text_bytes);
    enum stream_sent sent = stream->ops->send(stream, bytes, n + text_bytes, NULL, 0, 0, !conn->keep_alive);
    if (bytes != small) {
        free(bytes);
    }
    return sent;
}

static void send_answer(struct http_conn *conn, struct http_answer *answer, bool head_only)
{
    conn->linger = answer->close;
    conn->state = CONN_SENDING;
    enum stream_sent sent = send_text(conn, answer, answer->image == NULL && !head_only && answer->status != 304);
    free(answer->body);
    answer->body = NULL;
    switch (sent) {
    case STREAM_SENT:
        answer_sent(conn);
        break;
    case STREAM_PENDING:
        wait_for_transfer(conn);
        break;
    case STREAM_BROKEN:
        http_conn_close(conn, "reset by the device");
        break;
    }
}

/* The image cannot be had at this moment: what to say then is the handler's. */
static void answer_unavailable(struct http_conn *conn, enum status status)
{
    struct http_server *server = conn->server;
    struct transfer *transfer = conn->transfer;
    struct http_answer answer;
    memset(&answer, 0, offsetof(struct http_answer, text));
    server->handlers->unavailable(server->owner, transfer->image, transfer->answer.delivery, status, &answer);
    conn->state = CONN_SENDING;
    transfer_end(conn, "not loaded", false);
    send_answer(conn, &answer, false);
}

static void send_image(struct http_conn *conn, struct blob *blob)
{
    struct transfer *transfer = conn->transfer;
    struct stream *stream = stream_of(conn);
    char head[HTTP_REPLY_HEAD_MAX];
    transfer->blob = blob;
    if (transfer->answer.delivery != NULL) {
        conn->server->handlers->begun(conn->server->owner, transfer->answer.delivery);
    }
    size_t n = http_reply_head(&transfer->answer, conn->keep_alive, http_clock_date(&conn->server->clock), head);
    transfer->sent_before = stream->sent_bytes + n;
    conn->state = CONN_SENDING;
    switch (
        stream->ops->send(stream, head, n, blob, transfer->answer.first, transfer->answer.length, !conn->keep_alive)) {
    case STREAM_SENT:
        answer_sent(conn);
        break;
    case STREAM_PENDING:
        break;
    case STREAM_BROKEN:
        http_conn_close(conn, "reset by the device");
        break;
    }
}

static void resume(struct http_conn *conn);

static void on_blob_ready(struct blob_wait *wait, enum status status, struct blob *blob)
{
    struct transfer *transfer = (struct transfer *)wait; /* its first member */
    struct http_conn *conn = transfer->conn;
    bool later = transfer->later;
    if (status == STATUS_OK) {
        send_image(conn, blob);
    } else {
        answer_unavailable(conn, status);
    }
    if (later) {
        resume(conn);
    }
}

static void begin_transfer(struct http_conn *conn, const struct http_answer *answer)
{
    struct transfer *transfer = calloc(1, sizeof *transfer);
    assert(transfer != NULL);
    transfer->conn = conn;
    transfer->answer = *answer;
    transfer->image = answer->image;
    transfer->wait.ready = on_blob_ready;
    transfer->started_ms = uv_now(conn->server->loop);
    image_ref(answer->image);
    conn->transfer = transfer;
    conn->server->transfers++;
    conn->state = CONN_LOADING;
    wait_for_transfer(conn);
    blob_get(conn->server->blobs, transfer->image, &transfer->wait);
    if (conn->state == CONN_LOADING) {
        transfer->later = true;
    }
}

static void refuse(struct http_conn *conn, unsigned status, const char *why)
{
    struct http_answer answer = { .close = true };
    conn->keep_alive = false;
    if (conn->server->handlers->refused != NULL) {
        conn->server->handlers->refused(conn->server->owner, status, why, &answer);
    } else {
        http_answer_text(&answer, status, "%s\n", why);
    }
    LOG_EVENT(LOG_DEBUG, "request_refused", "why", why);
    send_answer(conn, &answer, false);
}

static void take_answer(struct http_conn *conn, const struct http_request *request, struct http_answer *answer,
                        bool more)
{
    struct http_server *server = conn->server;
    answer->close = answer->close || (request->has_body && request->body.at == NULL);
    conn->keep_alive = request->keep_alive && !answer->close && !server->draining && (!conn->peer_ended || more);
    conn->head_only = request->head_only;
    bool has_body = answer->image != NULL && (answer->status == 200 || answer->status == 206);
    if (answer->later != NULL) {
        conn->later = answer->later;
        *conn->later = (struct http_later){ conn, server, conn->collection };
        conn->collection = NULL;
        conn->state = CONN_AWAITING;
        wait_for(conn, HTTP_WAIT_ANSWER);
    } else if (has_body && !request->head_only) {
        begin_transfer(conn, answer);
    } else {
        assert(answer->delivery == NULL);
        send_answer(conn, answer, request->head_only);
    }
}

struct http_later *http_later_new(void)
{
    struct http_later *later = calloc(1, sizeof *later);
    assert(later != NULL);
    return later;
}

static void resume(struct http_conn *conn);

void http_later_answer(struct http_later *later, struct http_answer *answer)
{
    struct http_conn *conn = later->conn;
    collection_free(later->server, later->collection);
    free(later);
    if (conn == NULL) {
        free(answer->body);
        return;
    }
    assert(conn->state == CONN_AWAITING && answer->image == NULL && answer->later == NULL);
    conn->later = NULL;
    conn->keep_alive = conn->keep_alive && !answer->close && !conn->server->draining;
    send_answer(conn, answer, conn->head_only);
    resume(conn);
}

/* --- bodies ------------------------------------------------------------------------------------------------------- */

/* The handler wants the body that this head announces. */
static void begin_collection(struct http_conn *conn, const char *head, size_t n, const struct http_request *request)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct http_server *server = conn->server;
    if (request->chunked) {
        refuse(conn, 411, "a body is taken with a Content-Length only");
        return;
    }
    size_t room = server->limits.bodies_bytes_max - server->bodies_bytes;
    struct collection *collection =
        counted_bytes(request->body_bytes) <= room ? malloc(sizeof *collection + n + request->body_bytes) : NULL;
    if (collection == NULL) {
        refuse(conn, 503, "too many bodies are being received: come again");
        return;
    }
    *collection = (struct collection){ .head_bytes = n, .wanted = request->body_bytes };
    memcpy(collection->bytes, head, n);
    server->bodies_bytes += counted_bytes(collection->wanted);
    conn->collection = collection;
    conn->state = CONN_COLLECTING;
    wait_for(conn, HTTP_WAIT_BODY);
    /* So small, and nothing is queued before it: the system takes it whole, or the connection is dead. */
    struct stream *stream = stream_of(conn);
    if (request->expects_continue &&
        stream->ops->send(stream, go_on, sizeof go_on - 1, NULL, 0, 0, false) != STREAM_SENT) {
        http_conn_close(conn, "reset by the client");
    }
}

/* The body is there: its request is answered. `more`: bytes have come behind it. */
static void end_collection(struct http_conn *conn, bool more)
{
    struct http_server *server = conn->server;
    struct collection *collection = conn->collection;
    struct http_request *request = &server->request;
    struct http_answer answer;
    const char *why;
    unsigned status = http_request_parse(collection->bytes, collection->head_bytes, request, &why);
    assert(status == 200); /* it was parsed before */
    (void)status;
    request->body = (struct slice){ collection->bytes + collection->head_bytes, collection->wanted };
    memset(&answer, 0, offsetof(struct http_answer, text));
    server->handlers->handle(server->owner, request, stream_of(conn), &answer);
    assert(answer.status != HTTP_SEND_BODY);
    conn->state = CONN_READING;
    take_answer(conn, request, &answer, more);
    collection_end(conn);
}

/* Takes what belongs to the body. Returns the bytes consumed. */
static size_t collect(struct http_conn *conn, const char *bytes, size_t n)
{
    struct collection *collection = conn->collection;
    size_t rest = collection->wanted - collection->used;
    size_t taken = n < rest ? n : rest;
    memcpy(collection->bytes + collection->head_bytes + collection->used, bytes, taken);
    collection->used += taken;
    if (collection->used == collection->wanted) {
        end_collection(conn, taken < n);
    }
    return taken;
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

/* A whole head; `more`: bytes have come behind it. */
static void answer_request(struct http_conn *conn, const char *head, size_t n, bool more)
{
    struct http_server *server = conn->server;
    struct http_request *request = &server->request;
    struct http_answer answer;
    const char *why = "";
    unsigned status = http_request_parse(head, n, request, &why);
    if (status != 200) {
        refuse(conn, status, why);
        return;
    }
    if (request->has_body && request->get) {
        refuse(conn, 413, "no body is taken with this request");
        return;
    }
    memset(&answer, 0, offsetof(struct http_answer, text));
    server->handlers->handle(server->owner, request, stream_of(conn), &answer);
    if (answer.status == HTTP_SEND_BODY) {
        begin_collection(conn, head, n, request);
    } else {
        take_answer(conn, request, &answer, more);
    }
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

static bool is_taking(const struct http_conn *conn)
{
    return conn->state == CONN_READING || conn->state == CONN_COLLECTING;
}

/* Answers the requests that are whole in bytes[0..n), as long as each is answered at once. Returns the bytes consumed.
 */
static size_t process(struct http_conn *conn, const char *bytes, size_t n)
{
    size_t used = 0;
    while (is_taking(conn) && used < n) {
        if (conn->state == CONN_COLLECTING) {
            used += collect(conn, bytes + used, n - used);
            continue;
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
            refuse(conn, status, why);
            return n;
        }
        answer_request(conn, bytes + used + start, head_bytes - start, used + head_bytes < n);
        used += head_bytes;
    }
    return used;
}

/* Goes on with what was received while an answer was under way. */
static void resume(struct http_conn *conn)
{
    if (is_taking(conn) && conn->input.used > 0) {
        size_t used = process(conn, conn->input.bytes, conn->input.used);
        if (conn->state == CONN_CLOSED) {
            return;
        }
        buf_consume(&conn->input, used);
        if (conn->state == CONN_READING && conn->input.used > 0 && conn->wait == HTTP_WAIT_IDLE) {
            wait_for(conn, HTTP_WAIT_HEAD); /* of the next head; one under way has its deadline, which no byte renews */
        }
    }
    if (!is_taking(conn)) {
        return;
    }
    if (conn->peer_ended) {
        http_conn_close(conn, NULL);
    } else if (conn->paused) {
        conn->paused = false;
        if (!stream_of(conn)->ops->read_start(stream_of(conn))) {
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
    if (!is_taking(conn) && conn->input.used > INPUT_PAUSE) {
        conn->paused = true;
        stream_of(conn)->ops->read_stop(stream_of(conn));
    }
}

static void on_read(struct stream *stream, const char *bytes, size_t n)
{
    struct http_conn *conn = of_stream(stream);
    if (conn->state == CONN_FINISHING || conn->state == CONN_LINGERING || conn->state == CONN_CLOSED) {
        return; /* nothing will be answered any more */
    }
    if (conn->input.used > 0 || !is_taking(conn)) {
        keep_input(conn, bytes, n);
        resume(conn);
        return;
    }
    size_t used = process(conn, bytes, n);
    if (conn->state == CONN_CLOSED || conn->state == CONN_FINISHING || conn->state == CONN_LINGERING) {
        return;
    }
    if (used < n) {
        keep_input(conn, bytes + used, n - used);
        if (conn->state == CONN_READING && conn->wait == HTTP_WAIT_IDLE) {
            wait_for(conn, HTTP_WAIT_HEAD);
        }
    }
}

static void look_at_transfer(struct http_conn *conn)
{
    uint64_t now_ms = uv_now(conn->server->loop);
    uint64_t arrived = acknowledged(conn);
    if (arrived > conn->acknowledged_mark) {
        conn->acknowledged_mark = arrived;
        conn->progress_ms = now_ms;
    }
    /* Behind the last byte the system counts the end of the connection as one more. */
    if (conn->state == CONN_FINISHING && arrived + 1 >= stream_of(conn)->sent_bytes) {
        http_conn_close(conn, NULL);
    } else if (stream_of(conn)->ops->is_dead(stream_of(conn))) {
        http_conn_close(conn, "reset by the device");
    } else if (now_ms - conn->progress_ms >= conn->server->limits.transfer_ms) {
        http_conn_close(conn, "no progress");
    } else {
        wait_for(conn, conn->wait);
    }
}

static void on_end(struct stream *stream, bool broken)
{
    struct http_conn *conn = of_stream(stream);
    conn->peer_ended = true;
    switch (conn->state) {
    case CONN_LOADING:
    case CONN_SENDING:
    case CONN_FINISHING:
        if (broken) {
            http_conn_close(conn, "reset by the device");
        } else if (conn->state == CONN_FINISHING) {
            look_at_transfer(conn); /* mostly all has arrived, and this was its end */
        } else {
            wait_for(conn, HTTP_WAIT_FINISH); /* it may still read, but its death would not be heard: look often */
        }
        break;
    case CONN_AWAITING:
        if (broken) {
            http_conn_close(conn, "reset by the client");
        }
        break;
    case CONN_CLOSED:
        break;
    default:
        http_conn_close(conn, broken ? "reset by the device" : NULL);
    }
}

static void on_sent(struct stream *stream, bool broken)
{
    struct http_conn *conn = of_stream(stream);
    if (broken) {
        http_conn_close(conn, "reset by the device");
        return;
    }
    answer_sent(conn);
    resume(conn);
}

/* --- time --------------------------------------------------------------------------------------------------------- */

/* No byte renews the deadline of a body, or one a minute would hold its room for ever. */
static void look_at_body(struct http_conn *conn)
{
    struct collection *collection = conn->collection;
    if (collection->used - collection->looked < BODY_PACE) {
        collection_end(conn);
        refuse(conn, 408, "the request's body took too long");
    } else {
        collection->looked = collection->used;
        wait_for(conn, HTTP_WAIT_BODY);
    }
}

void http_conn_expire(struct http_conn *conn)
{
    switch (conn->wait) {
    case HTTP_WAIT_HEAD:
        if (conn->input.used > 0) {
            refuse(conn, 408, "the request's head took too long");
        } else {
            http_conn_close(conn, NULL);
        }
        break;
    case HTTP_WAIT_BODY:
        look_at_body(conn);
        break;
    case HTTP_WAIT_ANSWER:
        wait_for(conn, HTTP_WAIT_ANSWER);
        break;
    case HTTP_WAIT_TRANSFER:
    case HTTP_WAIT_FINISH:
        look_at_transfer(conn);
        break;
    default:
        http_conn_close(conn, NULL);
    }
}

/* --- life --------------------------------------------------------------------------------------------------------- */

struct http_conn *http_conn_new(struct http_server *server)
{
    struct http_conn *conn = server->free_conns;
    if (conn != NULL) {
        server->free_conns = conn->next_free;
    } else {
        conn = malloc(sizeof *conn);
        if (conn == NULL) {
            return NULL;
        }
    }
    memset(conn, 0, sizeof *conn);
    conn->server = server;
    buf_init(&conn->input, INPUT_MAX);
    stream_socket_init(&conn->socket, server->loop, &server->read_buffer, server->of_unix);
    struct stream *stream = stream_of(conn);
    stream->on_read = on_read;
    stream->on_end = on_end;
    stream->on_sent = on_sent;
    stream->on_closed = on_closed;
    conn->wait = HTTP_WAIT_HEAD;
    wait_list_append(&server->waits[HTTP_WAIT_HEAD], &conn->wait_entry, uv_now(server->loop));
    server->connections++;
    server->accepted++;
    return conn;
}

uv_stream_t *http_conn_socket(struct http_conn *conn)
{
    return &conn->socket.uv.stream;
}

void http_conn_start(struct http_conn *conn)
{
    if (!stream_of(conn)->ops->read_start(stream_of(conn))) {
        http_conn_close(conn, "cannot read");
    }
}

bool http_conn_progress(struct http_conn *conn, const struct delivery **delivery, uint64_t *bytes)
{
    const struct transfer *transfer = conn->transfer;
    if (transfer == NULL || transfer->blob == NULL || transfer->answer.delivery == NULL) {
        return false;
    }
    uint64_t done = acknowledged(conn);
    *delivery = transfer->answer.delivery;
    *bytes = done > transfer->sent_before ? done - transfer->sent_before : 0;
    *bytes = *bytes < transfer->answer.length ? *bytes : transfer->answer.length;
    return true;
}

bool http_conn_has_input(const struct http_conn *conn)
{
    return conn->input.used > 0;
}

struct http_conn *http_conn_of_wait(struct wait_entry *entry)
{
    return (struct http_conn *)((char *)entry - offsetof(struct http_conn, wait_entry));
}

void http_conn_free_all(struct http_conn *conns)
{
    while (conns != NULL) {
        struct http_conn *conn = conns;
        conns = conn->next_free;
        free(conn);
    }
}
