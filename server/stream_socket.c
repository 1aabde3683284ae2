/* Sending goes straight to the socket; when it is full, it waits for room in a set beside the loop's own. */
#include "server/stream_socket.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

#define TURN_BYTES_MAX    (1u << 20)  /* handed over in one go before other connections get their turn */
#define SEND_BUFFER_BYTES (272 << 10) /* the kernel doubles it: 512 KiB and a head fit in one go */
#define LITTLE_BYTES      (32 << 10)  /* of a piece, and not sent yet, beyond what is on its way */
#define QUICK_BYTES       (64 << 10)  /* so many taken ... */
#define QUICK_MS          50          /* ... within it: over 1 MiB/s, which no ESP reaches */

static struct stream_socket *of_stream(struct stream *stream)
{
    return (struct stream_socket *)stream;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct stream_socket *socket = handle->data;
    (void)suggested;
    buffer->base = socket->read_buffer->bytes;
    buffer->len = socket->read_buffer->size;
}

static void on_read(uv_stream_t *handle, ssize_t n, const uv_buf_t *buffer)
{
    struct stream_socket *socket = handle->data;
    if (n > 0) {
        socket->stream.on_read(&socket->stream, buffer->base, (size_t)n);
    } else if (n < 0) {
        socket->stream.on_end(&socket->stream, n != UV_EOF);
    }
}

/* From here on libuv tells when there is something to read. */
static bool watch(struct stream_socket *socket)
{
    if (socket->watched) {
        return true;
    }
    socket->uv.handle.data = socket;
    if (socket->of_unix) {
        uv_pipe_init(socket->loop, &socket->uv.pipe, 0);
    } else {
        uv_tcp_init(socket->loop, &socket->uv.tcp);
    }
    socket->watched = true;
    int error = socket->of_unix ? uv_pipe_open(&socket->uv.pipe, socket->fd) : uv_tcp_open(&socket->uv.tcp, socket->fd);
    socket->is_uvs = error == 0;
    return error == 0;
}

static void finish_closing(struct stream_socket *socket)
{
    if (socket->fd >= 0 && !socket->is_uvs) {
        close(socket->fd);
    }
    socket->stream.on_closed(&socket->stream);
}

/* What is there already. The owner may answer and close from within. */
static void read_at_first(struct stream_socket *socket)
{
    ssize_t n;
    do {
        n = recv(socket->fd, socket->read_buffer->bytes, socket->read_buffer->size, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        socket->stream.on_read(&socket->stream, socket->read_buffer->bytes, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
        socket->stream.on_end(&socket->stream, n < 0);
    }
}

/* Returns false where the connection ended, and is gone. */
static bool outlives_first_read(struct stream_socket *socket)
{
    socket->at_first = true;
    read_at_first(socket);
    socket->at_first = false;
    if (socket->closing && !socket->watched) {
        finish_closing(socket); /* *socket may be another's from here on */
        return false;
    }
    return !socket->closing;
}

static bool socket_read_start(struct stream *stream)
{
    struct stream_socket *socket = of_stream(stream);
    socket->reads = true;
    if (socket->at_first || (!socket->watched && !outlives_first_read(socket))) {
        return true;
    }
    int error = !watch(socket) ? UV_ENOMEM : socket->reads ? uv_read_start(&socket->uv.stream, on_alloc, on_read) : 0;
    return error == 0 || error == UV_EALREADY;
}

static void socket_read_stop(struct stream *stream)
{
    struct stream_socket *socket = of_stream(stream);
    socket->reads = false;
    if (socket->watched) {
        uv_read_stop(&socket->uv.stream);
    }
}

/* --- sending ----------------------------------------------------------------------------------------------------- */

static enum stream_sent wait_for_room(struct stream_socket *socket)
{
    return send_room_join(socket->room, &socket->wait, socket->fd) ? STREAM_PENDING : STREAM_BROKEN;
}

/* In one go no more than a piece: the others have their turn, too. */
static enum stream_sent send_body(struct stream_socket *socket)
{
    size_t turn = socket->little ? LITTLE_BYTES : TURN_BYTES_MAX;
    while (socket->remaining > 0 && turn > 0) {
        off_t offset = (off_t)socket->offset;
        size_t want = socket->remaining < turn ? (size_t)socket->remaining : turn;
        ssize_t n = sendfile(socket->fd, socket->body->fd, &offset, want);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return wait_for_room(socket);
        }
        if (n <= 0) {
            return STREAM_BROKEN;
        }
        turn = (size_t)n < want ? 0 : turn - want; /* it is full where it took less */
        socket->offset += (uint64_t)n;
        socket->remaining -= (uint64_t)n;
        socket->stream.sent_bytes += (uint64_t)n;
    }
    return socket->remaining > 0 ? wait_for_room(socket) : STREAM_SENT;
}

/* Full segments only, until the end of the connection pushes out the last, with the FIN on it. Not on a kept
 * connection, where the last piece would wait; nor where little is held: a piece smaller than a segment (64 KiB on
 * loopback, 9 KiB in jumbo frames) would never be sent, and room for more never come. */
static void send_full_segments(struct stream_socket *socket)
{
    int on = 1;
    (void)setsockopt(socket->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
}

static void set_unsent_max(struct stream_socket *socket, int bytes)
{
    (void)setsockopt(socket->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}

static void begin_trial(struct stream_socket *socket)
{
    socket->little_ms = uv_now(socket->loop);
    socket->little_from = socket->stream.sent_bytes;
}

static void socket_hold_little(struct stream *stream)
{
    struct stream_socket *socket = of_stream(stream);
    if (socket->quick) {
        return;
    }
    socket->little = true;
    begin_trial(socket);
    set_unsent_max(socket, LITTLE_BYTES);
}

/* For a quick peer small pieces cost more than they save. */
static void judge_pace(struct stream_socket *socket)
{
    if (!socket->little || socket->stream.sent_bytes - socket->little_from < QUICK_BYTES) {
        return;
    }
    socket->quick = uv_now(socket->loop) - socket->little_ms <= QUICK_MS;
    if (socket->quick) {
        socket->little = false;
        set_unsent_max(socket, INT_MAX);
    } else {
        begin_trial(socket);
    }
}

static enum stream_sent send_rest_of_head(struct stream_socket *socket)
{
    size_t n = socket->head_bytes - socket->head_sent;
    ssize_t sent = send(socket->fd, socket->head_rest + socket->head_sent, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) {
        return STREAM_BROKEN;
    }
    if (sent > 0) {
        socket->head_sent += (size_t)sent;
        socket->stream.sent_bytes += (uint64_t)sent;
    }
    if (socket->head_sent < socket->head_bytes) {
        return wait_for_room(socket);
    }
    free(socket->head_rest);
    socket->head_rest = NULL;
    return send_body(socket);
}

static enum stream_sent keep_rest_of_head(struct stream_socket *socket, const char *bytes, size_t n)
{
    socket->head_rest = malloc(n);
    if (socket->head_rest == NULL) {
        return STREAM_BROKEN;
    }
    memcpy(socket->head_rest, bytes, n);
    socket->head_sent = 0;
    socket->head_bytes = n;
    return wait_for_room(socket);
}

static void on_room(struct send_wait *wait)
{
    struct stream_socket *socket = (struct stream_socket *)((char *)wait - offsetof(struct stream_socket, wait));
    judge_pace(socket);
    enum stream_sent sent = socket->head_rest != NULL ? send_rest_of_head(socket) : send_body(socket);
    if (sent != STREAM_PENDING) {
        send_room_leave(socket->room, &socket->wait, socket->fd);
        socket->stream.on_sent(&socket->stream, sent == STREAM_BROKEN);
    }
}

static enum stream_sent socket_send(struct stream *stream, const char *head, size_t head_bytes, const struct blob *body,
                                    uint64_t first, uint64_t length, bool last)
{
    struct stream_socket *socket = of_stream(stream);
    assert(socket->head_rest == NULL && socket->remaining == 0);
    socket->body = body;
    socket->offset = first;
    socket->remaining = body != NULL ? length : 0;
    if (last && socket->remaining > 0 && !socket->of_unix && !socket->little) {
        send_full_segments(socket);
    }
    /* MSG_MORE: the head rides in the segment of the first body bytes, of what the owner has next, or of the end of
     * the connection. */
    int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (socket->remaining > 0 || last || socket->more ? MSG_MORE : 0);
    ssize_t n;
    do {
        n = send(socket->fd, head, head_bytes, flags);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        return STREAM_BROKEN;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    stream->sent_bytes += sent;
    if (sent < head_bytes) {
        return keep_rest_of_head(socket, head + sent, head_bytes - sent);
    }
    return send_body(socket);
}

/* --- the rest ---------------------------------------------------------------------------------------------------- */

static void socket_shutdown(struct stream *stream)
{
    (void)shutdown(of_stream(stream)->fd, SHUT_WR);
}

static uint64_t socket_unacknowledged(struct stream *stream)
{
    int bytes = 0;
    return ioctl(of_stream(stream)->fd, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? (uint64_t)bytes : 0;
}

static bool socket_is_dead(struct stream *stream)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    int fd = of_stream(stream)->fd;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == TCP_CLOSE;
}

/* socket(7): a linger time of zero. */
static void socket_discard(struct stream *stream)
{
    struct linger at_once = { .l_onoff = 1 };
    (void)setsockopt(of_stream(stream)->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

void stream_socket_print_address(const struct sockaddr *address, char *text, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
        uv_ip6_name(in6, host, sizeof host);
        snprintf(text, size, "[%s]:%u", host, (unsigned)ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)(const void *)address;
        uv_ip4_name(in4, host, sizeof host);
        snprintf(text, size, "%s:%u", host, (unsigned)ntohs(in4->sin_port));
    }
}

static bool socket_credentials(struct stream *stream, uid_t *uid, gid_t *gid)
{
    const struct stream_socket *socket = of_stream(stream);
    struct ucred who;
    socklen_t who_size = sizeof who;
    if (!socket->of_unix || getsockopt(socket->fd, SOL_SOCKET, SO_PEERCRED, &who, &who_size) != 0) {
        return false;
    }
    *uid = who.uid;
    *gid = who.gid;
    return true;
}

static void socket_peer(struct stream *stream, char *text, size_t size)
{
    const struct stream_socket *socket = of_stream(stream);
    uid_t uid;
    gid_t gid;
    if (socket->peer.any.sa_family == AF_INET || socket->peer.any.sa_family == AF_INET6) {
        stream_socket_print_address(&socket->peer.any, text, size);
    } else if (socket_credentials(stream, &uid, &gid)) {
        snprintf(text, size, "unix uid=%u", (unsigned)uid);
    } else {
        snprintf(text, size, socket->of_unix ? "unix" : "?");
    }
}

static const struct sockaddr *socket_remote(const struct stream *stream)
{
    return &((const struct stream_socket *)stream)->peer.any;
}

static bool socket_local(struct stream *stream, struct sockaddr_storage *address)
{
    socklen_t length = sizeof *address;
    return getsockname(of_stream(stream)->fd, (struct sockaddr *)address, &length) == 0;
}

static bool socket_certificate(struct stream *stream, stream_name_fn on_name, void *owner)
{
    (void)stream, (void)on_name, (void)owner;
    return false;
}

static bool socket_must_come_anew(struct stream *stream)
{
    (void)stream;
    return false;
}

static void on_closed(uv_handle_t *handle)
{
    finish_closing(handle->data);
}

static void socket_close(struct stream *stream)
{
    struct stream_socket *socket = of_stream(stream);
    assert(!socket->closing);
    socket->closing = true;
    send_room_leave(socket->room, &socket->wait, socket->fd);
    free(socket->head_rest);
    socket->head_rest = NULL;
    if (socket->watched) {
        uv_close(&socket->uv.handle, on_closed);
    } else if (!socket->at_first) {
        finish_closing(socket);
    }
}

static const struct stream_ops socket_ops = {
    .read_start = socket_read_start,
    .read_stop = socket_read_stop,
    .send = socket_send,
    .hold_little = socket_hold_little,
    .shutdown = socket_shutdown,
    .unacknowledged = socket_unacknowledged,
    .is_dead = socket_is_dead,
    .peer = socket_peer,
    .credentials = socket_credentials,
    .remote = socket_remote,
    .local = socket_local,
    .certificate = socket_certificate,
    .must_come_anew = socket_must_come_anew,
    .discard = socket_discard,
    .close = socket_close,
};

void stream_socket_init(struct stream_socket *socket, uv_loop_t *loop, struct stream_read_buffer *read_buffer,
                        struct send_room *room, bool of_unix)
{
    memset(socket, 0, sizeof *socket);
    socket->read_buffer = read_buffer;
    socket->room = room;
    socket->wait.on_room = on_room;
    socket->stream.ops = &socket_ops;
    socket->loop = loop;
    socket->of_unix = of_unix;
    socket->fd = -1;
}

void stream_socket_open(struct stream_socket *socket, int fd, const union stream_address *peer)
{
    socklen_t length = sizeof socket->peer;
    socket->fd = fd;
    if (peer != NULL) {
        socket->peer = *peer;
    } else if (getpeername(fd, &socket->peer.any, &length) != 0) {
        socket->peer.any.sa_family = AF_UNSPEC;
    }
}

enum stream_sent stream_socket_wait(struct stream_socket *socket)
{
    assert(socket->head_rest == NULL && socket->remaining == 0);
    return wait_for_room(socket);
}

void stream_socket_prepare_listener(int fd)
{
    int on = 1;
    int send_buffer = SEND_BUFFER_BYTES;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
}
