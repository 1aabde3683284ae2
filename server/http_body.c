/* What comes behind a head, and answers that come later than their request. What makes it hard: memory is given to
 * whoever announces a body, so the larger ones share a bounded room and have to keep coming; and a handler may still
 * read the body when the connection has gone.
 */
#include "server/http_conn_parts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_SMALL (64u << 10)
#define BODY_PACE  (16u << 10) /* that must come of a body within transfer_ms, or the rest of it */

/* A request that is answered when more is there: its head, which is parsed again then, and the body behind it. */
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

/* --- the room of all ---------------------------------------------------------------------------------------------- */

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

void conn_drop_body(struct http_conn *conn)
{
    collection_free(conn->server, conn->collection);
    conn->collection = NULL;
}

/* --- answers that come later -------------------------------------------------------------------------------------- */

struct http_later *http_later_new(void)
{
    struct http_later *later = calloc(1, sizeof *later);
    assert(later != NULL);
    return later;
}

void conn_await(struct http_conn *conn, struct http_later *later)
{
    *later = (struct http_later){ conn, conn->server, conn->collection };
    conn->later = later;
    conn->collection = NULL;
    conn->state = CONN_AWAITING;
    conn_wait_for(conn, HTTP_WAIT_ANSWER);
}

void conn_forget_later(struct http_conn *conn)
{
    if (conn->later != NULL) {
        conn->later->conn = NULL;
        conn->later = NULL;
    }
}

bool http_later_is_awaited(const struct http_later *later)
{
    return later->conn != NULL;
}

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
    conn_send_answer(conn, answer, conn->head_only);
    conn_resume(conn);
}

void conn_keep_request(struct http_conn *conn, const char *head, size_t n)
{
    conn->collection = malloc(sizeof *conn->collection + n);
    assert(conn->collection != NULL);
    *conn->collection = (struct collection){ .head_bytes = n };
    memcpy(conn->collection->bytes, head, n);
}

/* --- collecting --------------------------------------------------------------------------------------------------- */

void conn_begin_body(struct http_conn *conn, const char *head, size_t n, const struct http_request *request)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct http_server *server = conn->server;
    if (request->chunked) {
        conn_refuse(conn, 411, "a body is taken with a Content-Length only");
        return;
    }
    size_t room = server->limits.bodies_bytes_max - server->bodies_bytes;
    struct collection *collection =
        counted_bytes(request->body_bytes) <= room ? malloc(sizeof *collection + n + request->body_bytes) : NULL;
    if (collection == NULL) {
        conn_refuse(conn, 503, "too many bodies are being received: come again");
        return;
    }
    *collection = (struct collection){ .head_bytes = n, .wanted = request->body_bytes };
    memcpy(collection->bytes, head, n);
    server->bodies_bytes += counted_bytes(collection->wanted);
    conn->collection = collection;
    conn->state = CONN_COLLECTING;
    conn_wait_for(conn, HTTP_WAIT_BODY);
    /* So small, and nothing is queued before it: the system takes it whole, or the connection is dead. */
    struct stream *stream = conn_stream(conn);
    if (request->expects_continue &&
        stream->ops->send(stream, go_on, sizeof go_on - 1, NULL, 0, 0, false) != STREAM_SENT) {
        http_conn_close(conn, "reset by the client");
    }
}

/* What was waited for is there: the request is answered. `more`: bytes have come behind it. */
static void end_collection(struct http_conn *conn, bool more)
{
    struct http_server *server = conn->server;
    struct collection *collection = conn->collection;
    struct http_request request;
    struct http_answer answer;
    const char *why;
    unsigned status = http_request_parse(collection->bytes, collection->head_bytes, &request, &why);
    assert(status == 200); /* it was parsed before */
    (void)status;
    request.body = (struct slice){ collection->bytes + collection->head_bytes, collection->wanted };
    memset(&answer, 0, offsetof(struct http_answer, text));
    server->handlers->handle(server->owner, &request, conn_stream(conn), &answer);
    assert(answer.status != HTTP_SEND_BODY);
    conn->state = CONN_READING;
    conn_take_answer(conn, &request, &answer, more);
    conn_drop_body(conn);
}

void http_later_again(struct http_later *later)
{
    struct http_conn *conn = later->conn;
    struct collection *collection = later->collection;
    if (conn == NULL) {
        collection_free(later->server, collection);
        free(later);
        return;
    }
    free(later);
    assert(conn->state == CONN_AWAITING && collection != NULL);
    conn->later = NULL;
    conn->collection = collection;
    end_collection(conn, conn->input.used > 0);
    conn_resume(conn);
}

size_t conn_collect(struct http_conn *conn, const char *bytes, size_t n)
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

void conn_body_cut_short(struct http_conn *conn)
{
    char why[160];
    snprintf(why, sizeof why, "the body ended after %zu of the %zu bytes announced: send it whole, then end your side",
             conn->collection->used, conn->collection->wanted);
    conn_drop_body(conn);
    conn_refuse(conn, 400, why);
}

/* No byte renews the deadline of a body, or one a minute would hold its room for ever. */
void conn_look_at_body(struct http_conn *conn)
{
    struct collection *collection = conn->collection;
    if (collection->used - collection->looked < BODY_PACE) {
        conn_drop_body(conn);
        conn_refuse(conn, 408, "the request's body took too long");
    } else {
        collection->looked = collection->used;
        conn_wait_for(conn, HTTP_WAIT_BODY);
    }
}
