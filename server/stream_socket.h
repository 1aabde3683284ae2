/* A plain socket as a stream, TCP or Unix: libuv tells what comes in, send_room when more can go out; sendfile for
 * images.
 *
 * Most devices send their request in the packet behind the handshake, hear 304 and are gone. So a new socket is read
 * once before libuv hears of it: whoever is answered and closed by then costs accept, recv, send and close, no more.
 */
#ifndef SERVER_STREAM_SOCKET_H
#define SERVER_STREAM_SOCKET_H

#include "server/send_room.h"
#include "server/stream.h"

#include <netinet/in.h>
#include <uv.h>

struct stream_read_buffer {
    size_t size;
    char *bytes;
};

/* The address of a peer, as accept gave it. */
union stream_address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

struct stream_socket {
    struct stream stream; /* first */
    struct stream_read_buffer *read_buffer;
    struct send_room *room;
    uv_loop_t *loop;
    union stream_address peer;
    int fd; /* -1 = none */
    bool of_unix;
    bool reads;    /* on_read is wanted */
    bool at_first; /* within the first read */
    bool watched;  /* `uv` is a handle of the loop */
    bool is_uvs;   /* and closes the descriptor */
    bool closing;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct send_wait wait;
    const struct blob *body; /* the send under way */
    uint64_t offset, remaining;
    char *head_rest; /* of a head that the system did not take at once, from head_sent to head_bytes */
    size_t head_sent, head_bytes;
    bool more;   /* the owner sends on as soon as there is room: a segment begun may wait for it */
    bool quick;  /* the peer has proved it */
    bool little; /* hold_little; it is on trial since `little_ms`, when `little_from` bytes were sent */
    uint64_t little_ms, little_from;
};

/* Initialises the stream; `read_buffer` and `room` are shared by all streams of the loop. */
void stream_socket_init(struct stream_socket *socket, uv_loop_t *loop, struct stream_read_buffer *read_buffer,
                        struct send_room *room, bool of_unix);

/* Takes over the descriptor of a connected socket, which must be non-blocking; `peer` (NULL = ask the system) as accept
 * gave it. */
void stream_socket_open(struct stream_socket *socket, int fd, const union stream_address *peer);

/* on_sent comes when there is room, and others had their turn. Between two sends. */
enum stream_sent stream_socket_wait(struct stream_socket *socket);

/* Options that accepted connections inherit, set once on a listening socket. */
void stream_socket_prepare_listener(int fd);

/* "192.0.2.7:49152", "[2001:db8::7]:49152" */
void stream_socket_print_address(const struct sockaddr *address, char *text, size_t size);

#endif
