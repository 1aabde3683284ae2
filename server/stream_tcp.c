/* Sending goes straight to the socket; libuv is only asked when the socket is full. A queued uv_write of a small piece
 * of the mapping then doubles as the notification that there is room again, which costs no second watcher. */
#include "server/stream_tcp.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <linux/sockios.h>

#define PIECE_BYTES       (16u << 10) /* sent through libuv when the socket is full */
#define TURN_BYTES_MAX    (1u << 20)  /* handed over in one go before other connections get their turn */
#define SEND_BUFFER_BYTES (256 << 10) /* the kernel doubles it; bounds what a slow device holds */

static struct stream_tcp *of_stream(struct stream *stream)
{
    return (struct stream_tcp *)stream;
}

static int descriptor_of(struct stream_tcp *tcp)
{
    uv_os_fd_t fd = -1;
    (void)uv_fileno((uv_handle_t *)&tcp->tcp, &fd);
    return fd;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct stream_tcp *tcp = handle->data;
    (void)suggested;
    buffer->base = tcp->read_buffer->bytes;
    buffer->len = tcp->read_buffer->size;
}

static void on_read(uv_stream_t *handle, ssize_t n, const uv_buf_t *buffer)
{
    struct stream_tcp *tcp = handle->data;
    if (n > 0) {
        tcp->stream.on_read(&tcp->stream, buffer->base, (size_t)n);
    } else if (n < 0) {
        tcp->stream.on_end(&tcp->stream, n != UV_EOF);
    }
}

static bool tcp_read_start(struct stream *stream)
{
    int error = uv_read_start((uv_stream_t *)&of_stream(stream)->tcp, on_alloc, on_read);
    return error == 0 || error == UV_EALREADY;
}

static void tcp_read_stop(struct stream *stream)
{
    uv_read_stop((uv_stream_t *)&of_stream(stream)->tcp);
}

/* --- sending ----------------------------------------------------------------------------------------------------- */

static void on_written(uv_write_t *write, int error);

static enum stream_sent wait_with(struct stream_tcp *tcp, const char *bytes, size_t n)
{
    uv_buf_t piece = uv_buf_init((char *)(uintptr_t)bytes, (unsigned)n);
    tcp->stream.sent_bytes += n;
    if (uv_write(&tcp->write, (uv_stream_t *)&tcp->tcp, &piece, 1, on_written) != 0) {
        return STREAM_BROKEN;
    }
    return STREAM_PENDING;
}

static enum stream_sent wait_with_piece(struct stream_tcp *tcp)
{
    size_t n = tcp->remaining < PIECE_BYTES ? (size_t)tcp->remaining : PIECE_BYTES;
    const char *bytes = (const char *)tcp->body->bytes + tcp->offset;
    tcp->offset += n;
    tcp->remaining -= n;
    return wait_with(tcp, bytes, n);
}

static enum stream_sent send_body(struct stream_tcp *tcp)
{
    int fd = descriptor_of(tcp);
    size_t turn = 0;
    while (tcp->remaining > 0) {
        if (turn >= TURN_BYTES_MAX) {
            return wait_with_piece(tcp);
        }
        off_t offset = (off_t)tcp->offset;
        size_t want = tcp->remaining < TURN_BYTES_MAX ? (size_t)tcp->remaining : TURN_BYTES_MAX;
        ssize_t n = sendfile(fd, tcp->body->fd, &offset, want);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return wait_with_piece(tcp);
        }
        if (n <= 0) {
            return STREAM_BROKEN;
        }
        turn += (size_t)n;
        tcp->offset += (uint64_t)n;
        tcp->remaining -= (uint64_t)n;
        tcp->stream.sent_bytes += (uint64_t)n;
    }
    return STREAM_SENT;
}

static void on_written(uv_write_t *write, int error)
{
    struct stream_tcp *tcp = write->handle->data;
    free(tcp->head_rest);
    tcp->head_rest = NULL;
    if (tcp->closing) {
        return;
    }
    enum stream_sent sent = error != 0 ? STREAM_BROKEN : send_body(tcp);
    if (sent != STREAM_PENDING) {
        tcp->stream.on_sent(&tcp->stream, sent == STREAM_BROKEN);
    }
}

static enum stream_sent send_rest_of_head(struct stream_tcp *tcp, const char *bytes, size_t n)
{
    tcp->head_rest = malloc(n);
    if (tcp->head_rest == NULL) {
        return STREAM_BROKEN;
    }
    memcpy(tcp->head_rest, bytes, n);
    enum stream_sent sent = wait_with(tcp, tcp->head_rest, n);
    if (sent == STREAM_BROKEN) {
        free(tcp->head_rest);
        tcp->head_rest = NULL;
    }
    return sent;
}

static enum stream_sent tcp_send(struct stream *stream, const char *head, size_t head_bytes, const struct blob *body,
                                 uint64_t first, uint64_t length, bool last)
{
    struct stream_tcp *tcp = of_stream(stream);
    assert(tcp->head_rest == NULL && tcp->remaining == 0);
    tcp->body = body;
    tcp->offset = first;
    tcp->remaining = body != NULL ? length : 0;
    /* MSG_MORE: the head rides in the segment of the first body bytes, or of the end of the connection. */
    int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (tcp->remaining > 0 || last ? MSG_MORE : 0);
    ssize_t n;
    do {
        n = send(descriptor_of(tcp), head, head_bytes, flags);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        return STREAM_BROKEN;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    stream->sent_bytes += sent;
    if (sent < head_bytes) {
        return send_rest_of_head(tcp, head + sent, head_bytes - sent);
    }
    return send_body(tcp);
}

/* --- the rest ---------------------------------------------------------------------------------------------------- */

static void tcp_shutdown(struct stream *stream)
{
    /* All is handed over, so nothing is queued in libuv that uv_shutdown would wait for. */
    (void)shutdown(descriptor_of(of_stream(stream)), SHUT_WR);
}

static uint64_t tcp_unacknowledged(struct stream *stream)
{
    int bytes = 0;
    size_t queued = uv_stream_get_write_queue_size((const uv_stream_t *)&of_stream(stream)->tcp);
    if (ioctl(descriptor_of(of_stream(stream)), SIOCOUTQ, &bytes) != 0 || bytes < 0) {
        return queued;
    }
    return (uint64_t)bytes + queued;
}

static bool tcp_is_dead(struct stream *stream)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    int fd = descriptor_of(of_stream(stream));
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == TCP_CLOSE;
}

static void tcp_peer(struct stream *stream, char *text, size_t size)
{
    struct sockaddr_storage address;
    int length = sizeof address;
    char host[INET6_ADDRSTRLEN] = "?";
    if (uv_tcp_getpeername(&of_stream(stream)->tcp, (struct sockaddr *)&address, &length) != 0) {
        snprintf(text, size, "?");
        return;
    }
    if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
        uv_ip6_name(in6, host, sizeof host);
        snprintf(text, size, "[%s]:%u", host, (unsigned)ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)&address;
        uv_ip4_name(in4, host, sizeof host);
        snprintf(text, size, "%s:%u", host, (unsigned)ntohs(in4->sin_port));
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct stream_tcp *tcp = handle->data;
    tcp->stream.on_closed(&tcp->stream);
}

static void tcp_close(struct stream *stream)
{
    struct stream_tcp *tcp = of_stream(stream);
    assert(!tcp->closing);
    tcp->closing = true;
    uv_close((uv_handle_t *)&tcp->tcp, on_closed);
}

static const struct stream_ops tcp_ops = {
    .read_start = tcp_read_start,
    .read_stop = tcp_read_stop,
    .send = tcp_send,
    .shutdown = tcp_shutdown,
    .unacknowledged = tcp_unacknowledged,
    .is_dead = tcp_is_dead,
    .peer = tcp_peer,
    .close = tcp_close,
};

void stream_tcp_init(struct stream_tcp *tcp, uv_loop_t *loop, struct stream_read_buffer *read_buffer)
{
    memset(tcp, 0, sizeof *tcp);
    tcp->read_buffer = read_buffer;
    tcp->stream.ops = &tcp_ops;
    uv_tcp_init(loop, &tcp->tcp);
    tcp->tcp.data = tcp;
}

void stream_tcp_prepare_listener(uv_tcp_t *listener)
{
    uv_os_fd_t fd = -1;
    int on = 1;
    int send_buffer = SEND_BUFFER_BYTES;
    if (uv_fileno((uv_handle_t *)listener, &fd) == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
    }
}
