/* TLS over a plain socket, as a stream: what the HTTP code sees is the same table.
 *
 * What makes it hard: a handshake costs the loop as much as thirty checks, and thousands of devices may begin one at
 * once. So in each turn of the loop handshakes get a slice of time and the rest wait in a queue, while transfers and
 * checks go on; and no more than so many are under way. A connection that has not said a word yet costs nothing here.
 *
 * Memory: OpenSSL lends from and writes into buffers that all connections share; what the system does not take at once
 * is copied, 64 KiB at most, 16 once a peer has proved to be slow.
 */
#ifndef SERVER_STREAM_TLS_H
#define SERVER_STREAM_TLS_H

#include "base/buf.h"
#include "fleet/mac_hash.h"
#include "server/stream_socket.h"
#include "server/tls.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct stream_tls;

#define TLS_ADDRESSES 4096 /* that are told apart, more or less, where one begins many handshakes */

/* What all of them share, of one loop. */
struct tls_room {
    struct tls *tls; /* for who comes from now on; owned */
    size_t handshakes, handshakes_max;
    uint32_t of_address[TLS_ADDRESSES]; /* of the handshakes, by a hash of the peer's address */
    struct mac_hash_seed seed;
    uint64_t *counts;                /* by enum tls_handshake */
    uv_idle_t turn;                  /* while some wait, and once more */
    uint64_t slice_ns;               /* spent on handshakes in this turn of the loop */
    struct stream_tls *first, *last; /* in the queue */
    BIO *bio;
    const char *in; /* of the call under way: what is left to read */
    size_t in_bytes;
    struct buf out; /* what it wrote */
    char *plain;
    uint64_t told_ms, untold; /* the last line in the log about a handshake that failed, and how many since */
    uint64_t told_full_ms;    /* about one that was turned away */
    void (*on_closed)(struct tls_room *room);
};

void tls_room_init(struct tls_room *room, uv_loop_t *loop, struct tls *tls, size_t handshakes_max);
void tls_room_use(struct tls_room *room, struct tls *tls); /* instead of the one before, which it lets go */
void tls_room_close(struct tls_room *room, void (*on_closed)(struct tls_room *room)); /* no connection is left */

struct stream_tls {
    struct stream stream; /* first: the owner's */
    struct stream_socket socket;
    struct tls_room *room;
    SSL *ssl;                           /* NULL = it has not said a word */
    bool shaken;                        /* the handshake is over */
    bool queued;                        /* its handshake waits for its turn */
    bool reads;                         /* the owner wants to hear */
    bool closing;                       /* by the owner */
    bool ended;                         /* the owner knows that the peer sends no more */
    bool busy;                          /* the socket has a send under way */
    bool dead;                          /* it takes nothing any more */
    bool sending;                       /* the owner has; it is told */
    bool last;                          /* nothing follows it */
    bool ends;                          /* our side, once the socket has taken what it has */
    bool slow;                          /* the socket was full before: small batches */
    unsigned late_messages;             /* of the peer's handshake, behind its end */
    struct stream_tls *next, *previous; /* in the queue */
    struct buf input;                   /* read, while it waits for its turn */
    struct buf output;                  /* written, while the socket was busy */
    uint64_t given;                     /* bytes given to the socket */
    const struct blob *body;            /* the send under way */
    uint64_t offset, remaining;
};

/* Whether the peer has said something: a part of its handshake, or all of it. */
bool stream_tls_has_heard(const struct stream_tls *tls);

/* As stream_socket_init and _open. */
void stream_tls_init(struct stream_tls *tls, uv_loop_t *loop, struct stream_read_buffer *read_buffer,
                     struct send_room *send_room, struct tls_room *room);
void stream_tls_open(struct stream_tls *tls, int fd, const union stream_address *peer);

#endif
