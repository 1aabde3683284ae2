/* What the rooms of one connection share; nobody else's: http_conn.c (reading, time, its end), http_body.c (what comes
 * behind a head, answers that come later), http_send.c (an answer on its way). */
#ifndef SERVER_HTTP_CONN_PARTS_H
#define SERVER_HTTP_CONN_PARTS_H

#include "base/buf.h"
#include "server/http_conn.h"
#include "server/stream_tls.h"

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

struct collection;
struct transfer;

struct http_conn {
    union { /* first: the stream's callbacks find us by it */
        struct stream stream;
        struct stream_socket socket;
        struct stream_tls tls;
    } carrier;
    struct http_server *server;
    struct http_peer peer;
    enum conn_state state;
    bool over_tls;
    bool keep_alive; /* after the answer under way */
    bool peer_ended; /* it sends no more */
    bool paused;     /* we stopped reading */
    bool head_only;  /* of the request that waits for its answer */
    bool fresh;      /* accepted in this turn of the loop, and not read yet */
    bool yields;     /* it has had its turn, and goes on in the next */
    bool linger;     /* the answer under way refuses something the peer may still be sending */
    enum http_wait wait;
    struct wait_entry wait_entry, turn_entry;
    struct http_peers *of_peer;   /* http_crowd's: its address; NULL = nobody counts it */
    struct wait_list *peer_list;  /* of those of its address that may have to leave; NULL = it is in none */
    struct wait_entry peer_entry; /* there */
    uint64_t acknowledged_mark;   /* of the answer under way: bytes acknowledged, and when they last grew */
    uint64_t progress_ms;
    struct http_scan scan;
    struct buf input; /* what came and is not consumed */
    struct transfer *transfer;
    struct collection *collection;
    struct http_later *later;
};

static inline struct http_conn *conn_of_stream(struct stream *stream)
{
    return (struct http_conn *)stream;
}

static inline struct stream *conn_stream(struct http_conn *conn)
{
    return &conn->carrier.stream;
}

static inline bool conn_is_taking(const struct http_conn *conn)
{
    return conn->state == CONN_READING || conn->state == CONN_COLLECTING;
}

/* --- http_conn.c -------------------------------------------------------------------------------------------------- */

void conn_wait_for(struct http_conn *conn, enum http_wait wait);

/* An answer begins: from now on it has to make progress. */
void conn_wait_for_transfer(struct http_conn *conn);

/* Goes on with what was received while an answer was under way. */
void conn_resume(struct http_conn *conn);

/* --- http_send.c -------------------------------------------------------------------------------------------------- */

/* What the handler said, for a request whose body, where it has one, is there; `more`: bytes have come behind it. */
void conn_take_answer(struct http_conn *conn, const struct http_request *request, struct http_answer *answer,
                      bool more);

void conn_send_answer(struct http_conn *conn, struct http_answer *answer, bool head_only);

/* All of the answer is handed to the system. */
void conn_answer_sent(struct http_conn *conn);

/* Refuses what the peer sends, and closes. */
void conn_refuse(struct http_conn *conn, unsigned status, const char *why);

/* Its transfer's time for a look: closes it where all has arrived, or nothing moves any more. */
void conn_look_at_transfer(struct http_conn *conn);

/* A kept connection has rested long enough. What it was answered it may not have taken yet: it goes on being watched
 * then, and counted as its address's. */
void conn_end_rest(struct http_conn *conn);

/* The memory of a transfer. */
size_t conn_transfer_bytes(void);

/* Of all that was sent on it: bytes that the peer's system has acknowledged. */
uint64_t conn_acknowledged(struct http_conn *conn);

/* Ends the transfer, if there is one, and tells who asked for it. `why` NULL = nothing went wrong on our side;
 * `arrived` of all that was sent. */
void conn_end_transfer(struct http_conn *conn, const char *why, uint64_t arrived);

/* --- http_body.c -------------------------------------------------------------------------------------------------- */

/* The handler wants the body that this head announces. */
void conn_begin_body(struct http_conn *conn, const char *head, size_t n, const struct http_request *request);

/* Takes what belongs to the body, and has the request answered when it is whole. Returns the bytes consumed. */
size_t conn_collect(struct http_conn *conn, const char *bytes, size_t n);

/* The peer has ended its side within the body: refuses it. */
void conn_body_cut_short(struct http_conn *conn);

/* Its time for a look at the body: refuses what comes too slowly. */
void conn_look_at_body(struct http_conn *conn);

/* The handler wants to be asked again later, with this head. */
void conn_keep_request(struct http_conn *conn, const char *head, size_t n);

/* The handler answers later; the body goes with the answer. */
void conn_await(struct http_conn *conn, struct http_later *later);

/* Lets go of the body under way. */
void conn_drop_body(struct http_conn *conn);

/* The connection goes: whoever answers later answers nobody. */
void conn_forget_later(struct http_conn *conn);

#endif
