/* An answer on its way. What makes it hard: it may be handed over at once or take minutes, its image may have to be
 * loaded first, and what the system has taken has not arrived yet: an image is judged by acknowledged bytes.
 */
#include "server/http_conn_parts.h"

#include "base/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define MANY_TRANSFERS 128 /* at once: above, what the system holds for each is bounded more tightly */

/* An image on its way; made when an answer has one, gone when it is sent. */
struct transfer {
    struct blob_wait wait;
    struct http_conn *conn;
    bool later; /* the image had to be loaded: the answer is not sent from within the request's reading */
    struct blob *blob;
    struct image *image; /* counted */
    uint64_t started_ms;
    uint64_t sent_before;      /* stream.sent_bytes when its body began */
    struct http_answer answer; /* last, and not all of it: an image's answer has no text */
};

size_t conn_transfer_bytes(void)
{
    return offsetof(struct transfer, answer) + offsetof(struct http_answer, text);
}

/* --- an image on its way ------------------------------------------------------------------------------------------ */

uint64_t conn_acknowledged(struct http_conn *conn)
{
    struct stream *stream = conn_stream(conn);
    uint64_t open = stream->ops->unacknowledged(stream);
    return open < stream->sent_bytes ? stream->sent_bytes - open : 0;
}

/* Of the first `done` bytes of all that was sent: how many are the image's. Once our side has ended, the system counts
 * that end as a byte more which is not acknowledged yet. */
static uint64_t image_bytes(const struct http_conn *conn, const struct transfer *transfer, uint64_t done)
{
    done += conn->state == CONN_FINISHING;
    done = done > transfer->sent_before ? done - transfer->sent_before : 0;
    return done < transfer->answer.length ? done : transfer->answer.length;
}

void conn_end_transfer(struct http_conn *conn, const char *why, uint64_t arrived)
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
        outcome.bytes = image_bytes(conn, transfer, arrived);
        outcome.whole = conn->state != CONN_SENDING && outcome.bytes == outcome.wanted;
        if (!outcome.whole && why == NULL) {
            outcome.why = "ended by the device";
        }
        blob_release(transfer->blob);
    }
    if (transfer->answer.delivery != NULL) {
        server->handlers->delivered(server->owner, transfer->answer.delivery, &outcome);
    }
    image_unref(transfer->image);
    pool_give(&server->transfers_free, transfer);
}

bool http_conn_progress(struct http_conn *conn, const struct delivery **delivery, uint64_t *bytes)
{
    const struct transfer *transfer = conn->transfer;
    if (transfer == NULL || transfer->blob == NULL || transfer->answer.delivery == NULL) {
        return false;
    }
    *delivery = transfer->answer.delivery;
    *bytes = image_bytes(conn, transfer, conn_acknowledged(conn));
    return true;
}

void conn_look_at_transfer(struct http_conn *conn)
{
    uint64_t now_ms = uv_now(conn->server->loop);
    uint64_t arrived = conn_acknowledged(conn);
    if (arrived > conn->acknowledged_mark) {
        conn->acknowledged_mark = arrived;
        conn->progress_ms = now_ms;
    }
    /* Behind the last byte the system counts the end of the connection as one more. */
    if (conn->state == CONN_FINISHING && arrived + 1 >= conn_stream(conn)->sent_bytes) {
        conn_end_transfer(conn, NULL, arrived);
        http_conn_close(conn, NULL);
    } else if (conn_stream(conn)->ops->is_dead(conn_stream(conn))) {
        http_conn_close(conn, "reset by the device");
    } else if (now_ms - conn->progress_ms >= conn->server->limits.transfer_ms) {
        conn_stream(conn)->ops->discard(conn_stream(conn));
        http_conn_close(conn, "no progress");
    } else {
        conn_wait_for(conn, conn->wait);
    }
}

void conn_end_rest(struct http_conn *conn)
{
    struct stream *stream = conn_stream(conn);
    if (stream->ops->unacknowledged(stream) == 0) {
        http_conn_close(conn, NULL);
        return;
    }
    conn->state = CONN_FINISHING;
    stream->ops->shutdown(stream);
    conn_wait_for_transfer(conn);
    conn_wait_for(conn, HTTP_WAIT_FINISH);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

void conn_answer_sent(struct http_conn *conn)
{
    struct stream *stream = conn_stream(conn);
    bool over = conn->server->draining || (conn->peer_ended && conn->input.used == 0);
    if (conn->keep_alive && !over) {
        conn->state = CONN_READING;
        conn_end_transfer(conn, NULL, conn_stream(conn)->sent_bytes); /* nothing more will be learned */
        conn_wait_for(conn, HTTP_WAIT_IDLE);
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
    conn_wait_for(conn, conn->transfer != NULL ? HTTP_WAIT_FINISH : HTTP_WAIT_LINGER);
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
    struct stream *stream = conn_stream(conn);
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

void conn_send_answer(struct http_conn *conn, struct http_answer *answer, bool head_only)
{
    conn->linger = answer->close;
    conn->state = CONN_SENDING;
    enum stream_sent sent = send_text(conn, answer, answer->image == NULL && !head_only && answer->status != 304);
    free(answer->body);
    answer->body = NULL;
    switch (sent) {
    case STREAM_SENT:
        conn_answer_sent(conn);
        break;
    case STREAM_PENDING:
        conn_wait_for_transfer(conn);
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
    conn_end_transfer(conn, "not loaded", 0);
    conn_send_answer(conn, &answer, false);
}

static void send_image(struct http_conn *conn, struct blob *blob)
{
    struct transfer *transfer = conn->transfer;
    struct stream *stream = conn_stream(conn);
    char head[HTTP_REPLY_HEAD_MAX];
    transfer->blob = blob;
    if (transfer->answer.delivery != NULL) {
        conn->server->handlers->begun(conn->server->owner, transfer->answer.delivery);
    }
    size_t n = http_reply_head(&transfer->answer, conn->keep_alive, http_clock_date(&conn->server->clock), head);
    transfer->sent_before = stream->sent_bytes + n;
    conn->state = CONN_SENDING;
    if (conn->server->transfers > MANY_TRANSFERS) {
        stream->ops->hold_little(stream);
    }
    switch (
        stream->ops->send(stream, head, n, blob, transfer->answer.first, transfer->answer.length, !conn->keep_alive)) {
    case STREAM_SENT:
        conn_answer_sent(conn);
        break;
    case STREAM_PENDING:
        break;
    case STREAM_BROKEN:
        http_conn_close(conn, "reset by the device");
        break;
    }
}

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
        conn_resume(conn);
    }
}

static void begin_transfer(struct http_conn *conn, const struct http_answer *answer)
{
    struct transfer *transfer = pool_take(&conn->server->transfers_free);
    assert(transfer != NULL);
    transfer->conn = conn;
    memcpy(&transfer->answer, answer, offsetof(struct http_answer, text));
    transfer->image = answer->image;
    transfer->wait.ready = on_blob_ready;
    transfer->started_ms = uv_now(conn->server->loop);
    image_ref(answer->image);
    conn->transfer = transfer;
    conn->server->transfers++;
    conn->state = CONN_LOADING;
    conn_wait_for_transfer(conn);
    blob_get(conn->server->blobs, transfer->image, &transfer->wait);
    if (conn->state == CONN_LOADING) {
        transfer->later = true;
    }
}

/* --- what to say -------------------------------------------------------------------------------------------------- */

void conn_refuse(struct http_conn *conn, unsigned status, const char *why)
{
    struct http_answer answer = { .close = true };
    conn->keep_alive = false;
    if (conn->server->handlers->refused != NULL) {
        conn->server->handlers->refused(conn->server->owner, status, why, &answer);
    } else {
        http_answer_text(&answer, status, "%s\n", why);
    }
    LOG_EVENT(LOG_DEBUG, "request_refused", "why", why);
    conn_send_answer(conn, &answer, false);
}

void conn_take_answer(struct http_conn *conn, const struct http_request *request, struct http_answer *answer, bool more)
{
    struct http_server *server = conn->server;
    answer->close = answer->close || (request->has_body && request->body.at == NULL);
    conn->keep_alive = request->keep_alive && !answer->close && !server->draining && (!conn->peer_ended || more) &&
                       !conn_stream(conn)->ops->must_come_anew(conn_stream(conn));
    conn->head_only = request->head_only;
    bool has_body = answer->image != NULL && (answer->status == 200 || answer->status == 206);
    if (answer->later != NULL) {
        conn_await(conn, answer->later);
    } else if (has_body && !request->head_only) {
        begin_transfer(conn, answer);
    } else {
        assert(answer->delivery == NULL);
        conn_send_answer(conn, answer, request->head_only);
    }
}
