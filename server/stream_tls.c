/* What OpenSSL reads comes from the socket's read buffer, what it writes goes to one buffer that all share and from
 * there to the socket at once: both through one BIO, since only one connection is at work at a time. */
#include "server/stream_tls_parts.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_BYTES    (64u << 10) /* made ready for the socket in one go ... */
#define SMALL_BYTES    (16u << 10) /* ... for a slow peer, of which it may have to be kept */
#define TURN_BYTES_MAX (1u << 20)  /* then others have their turn */
#define OUTPUT_MAX     (64u << 10) /* what a peer can have us say without reading it */

/* Handshake messages of a peer behind its handshake, in a connection's life: new keys once in 2^24 records, that is
 * gigabytes; or attempts at renegotiation, each refused. */
#define LATE_MESSAGES_MAX 16

static struct stream_tls *of_stream(struct stream *stream)
{
    return (struct stream_tls *)stream;
}

static struct stream_tls *of_socket(struct stream *stream)
{
    return (struct stream_tls *)((char *)stream - offsetof(struct stream_tls, socket));
}

/* --- to the socket ------------------------------------------------------------------------------------------------ */

/* What was written goes out, or waits for its turn. */
enum stream_sent tls_flush(struct stream_tls *tls, bool last)
{
    struct buf *out = &tls->room->out;
    enum stream_sent sent = STREAM_SENT;
    if (tls->dead) {
        out->used = 0;
        return STREAM_BROKEN;
    }
    if (out->used == 0) {
        return tls->busy ? STREAM_PENDING : STREAM_SENT;
    }
    if (tls->busy) {
        sent = buf_add(&tls->output, out->bytes, out->used) ? STREAM_PENDING : STREAM_BROKEN;
    } else {
        tls->given += out->used;
        tls->socket.more = tls->remaining > 0 && !tls->socket.little; /* a little may be less than a segment */
        sent = tls_socket_of(tls)->ops->send(tls_socket_of(tls), out->bytes, out->used, NULL, 0, 0, last);
        tls->busy = sent == STREAM_PENDING;
    }
    out->used = 0;
    tls->dead = sent == STREAM_BROKEN;
    return sent;
}

/* The next batch of the send under way, with the end of our side behind the last of a connection. */
static bool encrypt_batch(struct stream_tls *tls)
{
    size_t batch = tls->slow || tls->socket.little ? SMALL_BYTES : BATCH_BYTES;
    size_t n = tls->remaining < batch ? (size_t)tls->remaining : batch, written = 0;
    if (n > 0 && SSL_write_ex(tls->ssl, tls->body->bytes + tls->offset, n, &written) != 1) {
        return false;
    }
    assert(written == n);
    tls->offset += n;
    tls->remaining -= n;
    tls->stream.sent_bytes += n;
    if (tls->remaining == 0 && tls->last) {
        (void)SSL_shutdown(tls->ssl);
    }
    return true;
}

static enum stream_sent send_body(struct stream_tls *tls)
{
    if (tls->busy && tls->remaining > 0) { /* only the head waits behind what is on its way; the body is read then */
        return tls_flush(tls, false);
    }
    uint64_t turn_end = tls->stream.sent_bytes + (tls->socket.little ? 2 * SMALL_BYTES : TURN_BYTES_MAX);
    for (;;) {
        if (!encrypt_batch(tls)) {
            tls->room->out.used = 0;
            return STREAM_BROKEN;
        }
        enum stream_sent sent = tls_flush(tls, tls->last && tls->remaining == 0);
        tls->slow = tls->slow || sent == STREAM_PENDING;
        if (sent != STREAM_SENT || tls->remaining == 0) {
            return sent;
        }
        if (tls->stream.sent_bytes >= turn_end) {
            sent = stream_socket_wait(&tls->socket);
            tls->busy = sent == STREAM_PENDING;
            tls->dead = sent == STREAM_BROKEN;
            return sent;
        }
    }
}

static enum stream_sent tls_send(struct stream *stream, const char *head, size_t head_bytes, const struct blob *body,
                                 uint64_t first, uint64_t length, bool last)
{
    struct stream_tls *tls = of_stream(stream);
    size_t written;
    assert(!tls->sending && tls->remaining == 0);
    ERR_clear_error();
    if (!tls->shaken || SSL_write_ex(tls->ssl, head, head_bytes, &written) != 1) {
        tls->room->out.used = 0;
        return STREAM_BROKEN;
    }
    stream->sent_bytes += head_bytes;
    tls->body = body;
    tls->offset = first;
    tls->remaining = body != NULL ? length : 0;
    tls->last = last;
    enum stream_sent sent = send_body(tls);
    tls->sending = sent == STREAM_PENDING;
    return sent;
}

void tls_tell_end(struct stream_tls *tls, bool broken)
{
    if (!tls->ended && !tls->closing) {
        tls->ended = true;
        tls->stream.on_end(&tls->stream, broken);
    }
}

static void tls_shutdown(struct stream *stream);

static void on_socket_sent(struct stream *socket, bool broken)
{
    struct stream_tls *tls = of_socket(socket);
    enum stream_sent sent = broken ? STREAM_BROKEN : STREAM_SENT;
    tls->busy = false;
    tls->dead = tls->dead || broken;
    if (!broken && tls->output.used > 0) {
        bool good = buf_add(&tls->room->out, tls->output.bytes, tls->output.used);
        buf_close(&tls->output);
        sent = good ? tls_flush(tls, false) : STREAM_BROKEN;
    }
    if (sent == STREAM_SENT && tls->sending && tls->remaining > 0) {
        ERR_clear_error();
        sent = send_body(tls);
    }
    if (sent == STREAM_PENDING) {
        return;
    }
    if (tls->ends && sent == STREAM_SENT) {
        tls_shutdown(&tls->stream);
    } else if (tls->sending) {
        tls->sending = false;
        tls->stream.on_sent(&tls->stream, sent == STREAM_BROKEN);
    } else if (sent == STREAM_BROKEN) {
        tls_tell_end(tls, true);
    }
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* Who asks for new keys again and again costs us some for each few bytes of its own. */
static void on_message(int is_ours, int version, int type, const void *bytes, size_t n, SSL *ssl, void *owner)
{
    struct stream_tls *tls = owner;
    (void)version, (void)bytes, (void)n, (void)ssl;
    bool counts = is_ours ? type == SSL3_RT_ALERT : type == SSL3_RT_HANDSHAKE; /* renegotiation is seen as our alert */
    if (counts && tls->shaken && ++tls->late_messages > LATE_MESSAGES_MAX) {
        tls->room->in_bytes = 0; /* it reads no further */
    }
}

/* All that is to be had, in pieces. */
static void read_all(struct stream_tls *tls)
{
    struct tls_room *room = tls->room;
    int error = SSL_ERROR_NONE;
    SSL_set_msg_callback(tls->ssl, on_message);
    SSL_set_msg_callback_arg(tls->ssl, tls);
    while (error == SSL_ERROR_NONE && !tls->closing) {
        size_t used = 0, n = 0;
        while (used < TLS_PLAIN_BYTES && error == SSL_ERROR_NONE) {
            ERR_clear_error();
            if (SSL_read_ex(tls->ssl, room->plain + used, TLS_PLAIN_BYTES - used, &n) == 1) {
                used += n;
            } else {
                error = SSL_get_error(tls->ssl, 0);
            }
        }
        bool broken = tls_flush(tls, false) == STREAM_BROKEN;
        if (used > 0 && !tls->ended) {
            tls->stream.on_read(&tls->stream, room->plain, used);
        }
        if (broken) {
            tls_tell_end(tls, true);
        }
    }
    if (!tls->closing && tls->late_messages > LATE_MESSAGES_MAX) {
        tls_tell_end(tls, true);
    } else if (!tls->closing && error != SSL_ERROR_WANT_READ) {
        tls_tell_end(tls, error != SSL_ERROR_ZERO_RETURN);
    }
}

void tls_take(struct stream_tls *tls, const char *bytes, size_t n)
{
    struct tls_room *room = tls->room;
    if (tls->ended || (tls->ssl == NULL && !tls_handshake_begin(tls))) {
        tls_tell_end(tls, true);
        return;
    }
    if (!tls->shaken && tls_handshake_must_wait(tls)) {
        tls_handshake_join_queue(tls, bytes, n);
        return;
    }
    assert(room->in_bytes == 0 && room->out.used == 0); /* one at a time */
    room->in = bytes;
    room->in_bytes = n;
    if (tls->shaken || tls_handshake_go_on(tls)) {
        read_all(tls);
    }
    room->in_bytes = 0;
}

static void on_socket_read(struct stream *socket, const char *bytes, size_t n)
{
    struct stream_tls *tls = of_socket(socket);
    if (!tls->closing) {
        tls_take(tls, bytes, n);
    }
}

static void on_socket_end(struct stream *socket, bool broken)
{
    of_socket(socket)->dead = of_socket(socket)->dead || broken;
    tls_tell_end(of_socket(socket), broken);
}

static bool tls_read_start(struct stream *stream)
{
    struct stream_tls *tls = of_stream(stream);
    tls->reads = true;
    return tls->queued || tls_socket_of(tls)->ops->read_start(tls_socket_of(tls));
}

static void tls_read_stop(struct stream *stream)
{
    struct stream_tls *tls = of_stream(stream);
    tls->reads = false;
    tls_socket_of(tls)->ops->read_stop(tls_socket_of(tls));
}

/* --- the rest ----------------------------------------------------------------------------------------------------- */

static void tls_hold_little(struct stream *stream)
{
    tls_socket_of(of_stream(stream))->ops->hold_little(tls_socket_of(of_stream(stream)));
}

/* The end of our side, where it was not said yet: without it a peer must take what it got for cut short. */
static void say_end(struct stream_tls *tls)
{
    if (tls->shaken && !tls->busy && !tls->dead && (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN) == 0) {
        ERR_clear_error();
        (void)SSL_shutdown(tls->ssl);
        (void)tls_flush(tls, true);
    }
}

/* Behind what the socket still has to take, if it is full: a peer that misses the last word must take it for cut short.
 */
static void tls_shutdown(struct stream *stream)
{
    struct stream_tls *tls = of_stream(stream);
    say_end(tls);
    tls->ends = tls->busy;
    if (tls->ends) {
        return;
    }
    tls_socket_of(tls)->ops->shutdown(tls_socket_of(tls));
}

/* Of encrypted bytes, with what records add: never less than of our own, and 0 at the same time. */
static uint64_t tls_unacknowledged(struct stream *stream)
{
    struct stream_tls *tls = of_stream(stream);
    return tls_socket_of(tls)->ops->unacknowledged(tls_socket_of(tls)) + (tls->given - tls_socket_of(tls)->sent_bytes) +
           tls->output.used;
}

static bool tls_is_dead(struct stream *stream)
{
    return tls_socket_of(of_stream(stream))->ops->is_dead(tls_socket_of(of_stream(stream)));
}

static void tls_discard(struct stream *stream)
{
    tls_socket_of(of_stream(stream))->ops->discard(tls_socket_of(of_stream(stream)));
}

static bool tls_credentials(struct stream *stream, uid_t *uid, gid_t *gid)
{
    return tls_socket_of(of_stream(stream))->ops->credentials(tls_socket_of(of_stream(stream)), uid, gid);
}

static void tls_peer(struct stream *stream, char *text, size_t size)
{
    tls_socket_of(of_stream(stream))->ops->peer(tls_socket_of(of_stream(stream)), text, size);
}

static const struct sockaddr *tls_remote(const struct stream *stream)
{
    const struct stream *socket = &((const struct stream_tls *)stream)->socket.stream;
    return socket->ops->remote(socket);
}

static bool tls_local(struct stream *stream, struct sockaddr_storage *address)
{
    return tls_socket_of(of_stream(stream))->ops->local(tls_socket_of(of_stream(stream)), address);
}

/* A session that ended so may be resumed. */
static void let_go(struct stream_tls *tls)
{
    say_end(tls);
    if (tls->shaken) {
        SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    } else if (tls->ssl != NULL) {
        tls_handshake_end(tls, TLS_HANDSHAKE_LEFT);
    }
    SSL_free(tls->ssl);
    tls->ssl = NULL;
}

static void tls_close(struct stream *stream)
{
    struct stream_tls *tls = of_stream(stream);
    assert(!tls->closing);
    tls->closing = true;
    tls_handshake_leave_queue(tls);
    let_go(tls);
    buf_close(&tls->input);
    buf_close(&tls->output);
    tls_socket_of(tls)->ops->close(tls_socket_of(tls));
}

static void on_socket_closed(struct stream *socket)
{
    struct stream_tls *tls = of_socket(socket);
    tls->stream.on_closed(&tls->stream);
}

/* --- who the peer is ---------------------------------------------------------------------------------------------- */

/* In whichever letters it is written there. */
static void tell_common_names(const X509 *certificate, stream_name_fn on_name, void *owner)
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    for (int at = -1; (at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0;) {
        unsigned char *text;
        int n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
        if (n >= 0) {
            on_name(owner, (const char *)text, (size_t)n);
            OPENSSL_free(text);
        }
    }
}

static bool tls_certificate(struct stream *stream, stream_name_fn on_name, void *owner)
{
    struct stream_tls *tls = of_stream(stream);
    const X509 *certificate = tls->shaken ? SSL_get0_peer_certificate(tls->ssl) : NULL;
    if (certificate == NULL) {
        return false;
    }
    tell_common_names(certificate, on_name, owner);
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_DNS || name->type == GEN_URI) {
            on_name(owner, (const char *)ASN1_STRING_get0_data(name->d.ia5), (size_t)ASN1_STRING_length(name->d.ia5));
        }
    }
    GENERAL_NAMES_free(names);
    return true;
}

static bool stream_must_come_anew(struct stream *stream)
{
    struct stream_tls *tls = of_stream(stream);
    return tls->shaken && tls_must_come_anew(tls->room->tls, tls->ssl);
}

static const struct stream_ops tls_ops = {
    .read_start = tls_read_start,
    .read_stop = tls_read_stop,
    .send = tls_send,
    .hold_little = tls_hold_little,
    .shutdown = tls_shutdown,
    .unacknowledged = tls_unacknowledged,
    .is_dead = tls_is_dead,
    .peer = tls_peer,
    .credentials = tls_credentials,
    .remote = tls_remote,
    .local = tls_local,
    .certificate = tls_certificate,
    .must_come_anew = stream_must_come_anew,
    .discard = tls_discard,
    .close = tls_close,
};

bool stream_tls_has_heard(const struct stream_tls *tls)
{
    return tls->ssl != NULL;
}

void stream_tls_init(struct stream_tls *tls, uv_loop_t *loop, struct stream_read_buffer *read_buffer,
                     struct send_room *send_room, struct tls_room *room)
{
    memset(tls, 0, sizeof *tls);
    stream_socket_init(&tls->socket, loop, read_buffer, send_room, false);
    tls->stream.ops = &tls_ops;
    tls->stream.over_tls = true;
    tls->room = room;
    buf_init(&tls->input, TLS_INPUT_MAX);
    buf_init(&tls->output, OUTPUT_MAX);
    struct stream *socket = tls_socket_of(tls);
    socket->on_read = on_socket_read;
    socket->on_end = on_socket_end;
    socket->on_sent = on_socket_sent;
    socket->on_closed = on_socket_closed;
}

void stream_tls_open(struct stream_tls *tls, int fd, const union stream_address *peer)
{
    stream_socket_open(&tls->socket, fd, peer);
}
