/* One listening socket. At the connection limit it stops accepting; whoever waits does so in the kernel's queue. */
#ifndef SERVER_LISTENER_H
#define SERVER_LISTENER_H

#include "base/status.h"
#include "server/http_server.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct listener {
    uv_tcp_t tcp;
    struct http_server *server;
    bool waiting; /* a connection is there that has not been accepted yet */
    void (*on_closed)(struct listener *listener);
};

/* Binds "ADDR:PORT" (IPv6 in brackets). On failure `message` says why and what to do. To be closed in either case. */
enum status listener_bind(struct listener *listener, uv_loop_t *loop, struct http_server *server, const char *address,
                          char *message, size_t size);

/* Begins to accept; `address` receives what it listens on, with the real port. */
enum status listener_start(struct listener *listener, char *address, size_t size);

/* There may be room again. */
void listener_resume(struct listener *listener);

void listener_close(struct listener *listener, void (*on_closed)(struct listener *listener));

#endif
