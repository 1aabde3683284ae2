/* One connection: one after the other it reads a request, has it answered, sends, and goes on or ends.
 *
 * It knows neither routes nor devices: handlers answer. struct http_server is what all connections share, and
 * server/http_server owns it. All of it is the loop's.
 */
#ifndef SERVER_HTTP_CONN_H
#define SERVER_HTTP_CONN_H

#include "base/pool.h"
#include "fleet/mac_hash.h"
#include "repo/blob.h"
#include "server/http_reply.h"
#include "server/http_request.h"
#include "server/stream_socket.h"
#include "server/wait_list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* How the sending of an image ended. */
struct delivery_outcome {
    bool begun;      /* the image was there to be sent */
    bool whole;      /* every byte of the answer is acknowledged by the device, or handed over on a kept connection */
    uint64_t bytes;  /* of the image, acknowledged */
    uint64_t wanted; /* of the image, in the answer */
    uint64_t ms;     /* since the answer was decided */
    const char *why; /* of a cut: "reset by the device", "no progress", "shutting down", "not loaded" */
};

struct http_handlers {
    /* Answers a well-formed request; *answer is zeroed but for its text. `stream` tells the peer. A request that
     * announces a body comes first without it: answered HTTP_SEND_BODY (it is then collected, and the request comes
     * again with it), or with a refusal. What cannot be answered yet is answered later: answer->later =
     * http_later_new(). */
    void (*handle)(void *owner, const struct http_request *request, struct stream *stream, struct http_answer *answer);
    /* The image of an answer is there, and its bytes go out now. */
    void (*begun)(void *owner, struct delivery *delivery);
    /* Takes back the delivery of an answer, exactly once. */
    void (*delivered)(void *owner, struct delivery *delivery, const struct delivery_outcome *outcome);
    /* An image that was to be sent cannot be had: STATUS_CHANGED, STATUS_NOT_FOUND (its file is another or gone),
     * STATUS_LIMIT (memory), STATUS_IO …. Fills *answer (zeroed but for its text); `delivered` follows. */
    void (*unavailable)(void *owner, const struct image *image, const struct delivery *delivery, enum status status,
                        struct http_answer *answer);
    /* Words a refusal of the connection's own: malformed, too long, too late. NULL = one line of text. */
    void (*refused)(void *owner, unsigned status, const char *why, struct http_answer *answer);
};

struct http_limits {
    uint64_t head_ms;       /* from the first byte of a request, or from the connection, to the end of its head */
    uint64_t first_head_ms; /* the same of a connection's first head, where that is less; 0 = no less */
    uint64_t idle_ms;       /* between requests */
    uint64_t transfer_ms;   /* of an answer, without a byte acknowledged */
    size_t connections_max;
    size_t peer_max;                      /* connections of one address; 0 = any number */
    uint64_t rest_ms;                     /* between requests, then a connection makes room for others */
    const struct client_networks *exempt; /* from it: of proxies, whose connections are many people's; NULL = none */
    uint64_t refusals_ms;                 /* between two lines in the log of connections closed unheard */
    size_t bodies_bytes_max;              /* of all larger bodies being collected; over: 503 */
};

struct client_networks;
struct http_conn;

/* An answer that comes later. The handler keeps it and calls http_later_answer exactly once, never from within
 * `handle`, also where the connection has gone meanwhile. Until then the body of the request stays. */
struct http_later *http_later_new(void);
void http_later_answer(struct http_later *later, struct http_answer *answer);
bool http_later_is_awaited(const struct http_later *later); /* false: its connection has gone */

/* Instead, where the answer said `again`: the request comes to `handle` once more. */
void http_later_again(struct http_later *later);

/* What a connection waits for; each has a list in which all wait equally long. */
enum http_wait {
    HTTP_WAIT_FIRST_HEAD, /* for the first head: whoever is here may be anyone */
    HTTP_WAIT_HEAD,
    HTTP_WAIT_IDLE,
    HTTP_WAIT_BODY,     /* for the next bytes of a body */
    HTTP_WAIT_ANSWER,   /* for a handler that answers later: without a limit, it does */
    HTTP_WAIT_TRANSFER, /* for the next look at its progress */
    HTTP_WAIT_FINISH,   /* all is sent: for the next look whether all has arrived */
    HTTP_WAIT_LINGER,
    HTTP_WAIT_COUNT
};

/* Why a connection was closed unheard. */
#define HTTP_REFUSAL_LIST(X)                                                                                           \
    X(NO_DESCRIPTOR, "no-descriptor") /* the process has none left, or no memory */                                    \
    X(PEER_FULL, "peer-full")         /* its address has all the connections that one may have */                      \
    X(MADE_ROOM, "made-room")         /* it asked nothing, and another needed its place */

enum http_refusal {
#define X(name, word) HTTP_REFUSED_##name,
    HTTP_REFUSAL_LIST(X)
#undef X
        HTTP_REFUSAL_COUNT
};
const char *http_refusal_word(enum http_refusal refusal);

/* Whose connection it is: the address without the port, IPv4 as ::ffff:a.b.c.d; zeros = over a Unix socket. */
struct http_peer {
    uint8_t bytes[16];
};

/* http_crowd's: one address and its connections, while it has any; and who was sent away, as far as the log has not
 * said it. */
struct http_peers;
struct http_crowd {
    struct http_peers *peers;
    struct mac_hash_seed seed;
    uint64_t told_ms, untold;
    enum http_refusal why; /* of the last of them */
    char peer[64];
    struct wait_list resting; /* of the peers, those that have no connection now */
    size_t resting_count;
    struct pool peers_free;
};

#define HTTP_FRESH_MAX 64 /* connections accepted in one turn of the loop */

/* What all connections share; server/http_server owns it. */
struct http_server {
    uv_loop_t *loop;
    struct blob_store *blobs;
    const struct http_handlers *handlers;
    void *owner;
    void (*on_left)(struct http_server *server); /* a connection is gone */
    struct http_limits limits;
    bool of_unix;      /* its connections come over a Unix socket */
    uint64_t accepted; /* connections so far */
    uint64_t *refused; /* connections by enum http_refusal; NULL = nobody counts them */
    size_t connections, transfers;
    size_t bodies_bytes; /* of bodies being collected */
    bool draining;
    struct http_crowd crowd;
    struct wait_list waits[HTTP_WAIT_COUNT];
    struct pool conns, transfers_free;
    struct stream_read_buffer read_buffer;
    struct send_room room;
    struct http_clock clock;
    uv_timer_t tick;
    uv_check_t after_poll; /* while there are new connections */
    struct http_conn *fresh[HTTP_FRESH_MAX];
    size_t fresh_count;
    struct wait_list yielding; /* connections that go on in the next turn of the loop */
    size_t yielding_count;
    uv_idle_t next_turn;           /* while there are such */
    void (*on_room)(void *owner);  /* http_server's: a connection left, the listeners may accept again */
    void (*on_empty)(void *owner); /* http_server's: the last connection left, while draining */
};

struct tls_room;

/* A connection about to begin: the caller opens it, then starts or closes it. Over TLS, or plain (NULL). NULL: no
 * memory. */
struct http_conn *http_conn_new(struct http_server *server, struct tls_room *tls);
void http_conn_open(struct http_conn *conn, int fd, const union stream_address *peer); /* see stream_socket_open */
void http_conn_start(struct http_conn *conn); /* it may be answered and gone when this returns */

/* Starts it after the events of this turn of the loop; call it while fresh_count is below HTTP_FRESH_MAX. A device that
 * comes again has ended its last connection before, and that must have been heard when it is answered. */
void http_conn_start_soon(struct http_conn *conn);
void http_conn_start_all(struct http_server *server); /* those */

/* Ends it, whatever it is doing; `why` is for a delivery that is cut by it. */
void http_conn_close(struct http_conn *conn, const char *why);

/* Its time in the list of `wait` is over: closes it, or puts it to the end of a list. */
void http_conn_expire(struct http_conn *conn);

/* The image it is sending: its delivery and the bytes acknowledged so far. Returns false where it sends none. */
bool http_conn_progress(struct http_conn *conn, const struct delivery **delivery, uint64_t *bytes);

void http_conn_print_peer(struct http_conn *conn, char *text, size_t size);
bool http_conn_has_input(const struct http_conn *conn); /* a part of a request is there */
bool http_conn_is_silent(const struct http_conn *conn); /* nothing came, be it a part of a TLS handshake */
struct http_conn *http_conn_of_wait(struct wait_entry *entry);
void http_conn_make_pools(struct http_server *server); /* of the memory that connections take */

#endif
