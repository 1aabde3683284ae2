/* What the rooms of TLS connections share; nobody else's: stream_tls.c (one connection's bytes), tls_handshake.c (its
 * beginning, in turn with others), tls_room.c (what all of them share). */
#ifndef SERVER_STREAM_TLS_PARTS_H
#define SERVER_STREAM_TLS_PARTS_H

#include "server/stream_tls.h"

#define TLS_INPUT_MAX   (64u << 10) /* of a connection whose handshake waits */
#define TLS_PLAIN_BYTES (48u << 10) /* what one read of the socket can come to */

static inline struct stream *tls_socket_of(struct stream_tls *tls)
{
    return &tls->socket.stream;
}

/* --- stream_tls.c ------------------------------------------------------------------------------------------------- */

/* What OpenSSL wrote goes out, or waits for its turn. */
enum stream_sent tls_flush(struct stream_tls *tls, bool last);

/* Bytes came: for the handshake, or behind it. */
void tls_take(struct stream_tls *tls, const char *bytes, size_t n);

/* The owner hears of the peer's end, once. */
void tls_tell_end(struct stream_tls *tls, bool broken);

/* --- tls_handshake.c ---------------------------------------------------------------------------------------------- */

/* Whoever says the first word. Returns false where no handshake can begin. */
bool tls_handshake_begin(struct stream_tls *tls);

/* It is over, however it ended. */
void tls_handshake_end(struct stream_tls *tls, enum tls_handshake how);

/* Whether the slice of this turn is used up: then it joins the queue, with what it said. */
bool tls_handshake_must_wait(const struct stream_tls *tls);
void tls_handshake_join_queue(struct stream_tls *tls, const char *bytes, size_t n);
void tls_handshake_leave_queue(struct stream_tls *tls);

/* Goes on with what is to be read. Returns true when it is over, and well. */
bool tls_handshake_go_on(struct stream_tls *tls);

/* A turn of the loop begins: a slice of it is for those who wait. */
void tls_handshake_on_turn(uv_idle_t *idle);

#endif
