/* A door, TCP or Unix. At the connection limit it stops accepting; whoever waits does so in the kernel's
 * queue. Where the process has no descriptor left, whoever comes is closed unheard. */
#ifndef SERVER_LISTENER_H
#define SERVER_LISTENER_H

#include "base/status.h"
#include "server/http_server.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#define LISTENER_QUEUES_MAX 4

/* A socket of a door, with its queue in the kernel. */
struct listener_queue {
    uv_poll_t poll;
    int fd;    /* -1 = none */
    bool open; /* it listens */
    struct listener *listener;
};

struct listener {
    struct listener_queue queues[LISTENER_QUEUES_MAX];
    unsigned queue_count; /* to be closed */
    unsigned first;       /* to be heard, modulo queue_count */
    uv_timer_t retry;     /* while no descriptor is left */
    int spare_fd;         /* given up for a moment where no other descriptor is left; -1 = that, too, is gone */
    struct http_server *server;
    char path[108];                /* of a Unix socket; "" = TCP */
    bool for_crowds;               /* listener_for_crowds */
    bool is_ours;                  /* the file at `path` */
    bool open;                     /* listener_start was successful */
    bool paused;                   /* whoever comes waits in the kernel's queue */
    uint64_t told_ms, turned_away; /* the last line about it in the log, and how many since */
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

/* Thousands may come at once, and each asks at once. Several queues of the kernel take them, so that none overflows
 * while the loop is kept from accepting; and connections come only when their first bytes have come, or a second later:
 * who is accepted can be answered at once (tcp(7), TCP_DEFER_ACCEPT). Behind bind, and while ports may be taken. */
void listener_for_crowds(struct listener *listener);

/* Begins to accept; `address` receives what it listens on, with the real port. On failure: why. */
enum status listener_start(struct listener *listener, char *address, size_t size);

/* There may be room again. */
void listener_resume(struct listener *listener);

/* Removes a Unix socket's file, too. */
void listener_close(struct listener *listener, void (*on_closed)(struct listener *listener));

#endif
