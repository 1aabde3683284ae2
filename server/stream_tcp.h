/* Plain TCP as a stream: libuv for readiness, sendfile for images. */
#ifndef SERVER_STREAM_TCP_H
#define SERVER_STREAM_TCP_H

#include "server/stream.h"

#include <uv.h>

struct stream_read_buffer {
    size_t size;
    char *bytes;
};

struct stream_tcp {
    struct stream stream; /* first */
    struct stream_read_buffer *read_buffer;
    uv_tcp_t tcp;
    uv_write_t write;
    const struct blob *body; /* the send under way */
    uint64_t offset, remaining;
    char *head_rest; /* of a head that the system did not take at once */
    bool closing;
};

/* Initialises the handle and the stream; `read_buffer` is shared by all streams of the loop. */
void stream_tcp_init(struct stream_tcp *tcp, uv_loop_t *loop, struct stream_read_buffer *read_buffer);

/* Options that accepted connections inherit, set once on a listening socket. */
void stream_tcp_prepare_listener(uv_tcp_t *listener);

#endif
