/* One listening socket, TCP or Unix. At the connection limit it stops accepting; whoever waits does so in the kernel's
 * queue. */
#ifndef SERVER_LISTENER_H
#define SERVER_LISTENER_H

#include "base/status.h"
#include "server/http_server.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct listener {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct http_server *server;
    char path[108]; /* of a Unix socket; "" = TCP */
    bool waiting;   /* a connection is there that has not been accepted yet */
    void (*on_closed)(struct listener *listener);
};

/* Binds "ADDR:PORT" (IPv6 in brackets); `flag` is the setting it came from, for the complaint. On failure `message`
 * says why and what to do. To be closed in either case. */
enum status listener_bind(struct listener *listener, uv_loop_t *loop, struct http_server *server, const char *flag,
                          const char *address, char *message, size_t size);

/* Binds a Unix socket with mode 0660. One that a server left behind when it was killed is replaced; one that somebody
 * still listens on is STATUS_BUSY. */
enum status listener_bind_unix(struct listener *listener, uv_loop_t *loop, struct http_server *server, const char *flag,
                               const char *path, char *message, size_t size);

/* Begins to accept; `address` receives what it listens on, with the real port. On failure: why. */
enum status listener_start(struct listener *listener, char *address, size_t size);

/* There may be room again. */
void listener_resume(struct listener *listener);

/* Removes a Unix socket's file, too. */
void listener_close(struct listener *listener, void (*on_closed)(struct listener *listener));

#endif
