/* A plain socket as a stream, TCP or Unix: libuv for readiness, sendfile for images. */
#ifndef SERVER_STREAM_SOCKET_H
#define SERVER_STREAM_SOCKET_H

#include "server/stream.h"

#include <uv.h>

struct stream_read_buffer {
    size_t size;
    char *bytes;
};

struct stream_socket {
    struct stream stream; /* first */
    struct stream_read_buffer *read_buffer;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    uv_write_t write;
    const struct blob *body; /* the send under way */
    uint64_t offset, remaining;
    char *head_rest; /* of a head that the system did not take at once */
    bool closing;
};

/* Initialises the handle and the stream; `read_buffer` is shared by all streams of the loop. */
void stream_socket_init(struct stream_socket *socket, uv_loop_t *loop, struct stream_read_buffer *read_buffer,
                        bool of_unix);

/* Takes over the descriptor of a connected socket. Returns false, leaving it the caller's, where it cannot be. */
bool stream_socket_open(struct stream_socket *socket, int fd);

/* Options that accepted connections inherit, set once on a listening socket. */
void stream_socket_prepare_listener(int fd);

/* "192.0.2.7:49152", "[2001:db8::7]:49152" */
void stream_socket_print_address(const struct sockaddr_storage *address, char *text, size_t size);

#endif
