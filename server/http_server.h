/* All connections together: their number, their deadlines, their end. */
#ifndef SERVER_HTTP_SERVER_H
#define SERVER_HTTP_SERVER_H

#include "server/http_conn.h"

#include <stdbool.h>
#include <uv.h>

void http_server_init(struct http_server *server, uv_loop_t *loop, struct blob_store *blobs,
                      const struct http_handlers *handlers, void *owner, const struct http_limits *limits);

bool http_server_is_full(const struct http_server *server);

/* A connection about to be accepted, under the deadlines from now on: the caller opens it, then starts
 * or closes it. NULL: no memory. */
struct http_conn *http_server_new_conn(struct http_server *server, struct tls_room *tls);

/* Takes over the descriptor of an accepted connection, whose other end is `peer` (NULL = ask the system); plain where
 * `tls` is NULL. It is read at the end of this turn of the loop. Returns false where no other is to follow in it;
 * without memory, having closed it. */
bool http_server_take(struct http_server *server, int fd, const union stream_address *peer, struct tls_room *tls);

void http_server_count_refusal(struct http_server *server, enum http_refusal refusal);

/* Tells how far each image on its way has come. It asks the system about each, so not more than now and then. */
typedef void (*http_progress_fn)(void *owner, const struct delivery *delivery, uint64_t bytes);
void http_server_progress(struct http_server *server, http_progress_fn on_progress, void *owner);

/* Takes no further request and lets transfers end; on_empty follows, at once where there is no connection. */
void http_server_drain(struct http_server *server);

/* Cuts what is left. */
void http_server_abort(struct http_server *server);

/* After on_empty: closes the timer; free after on_closed. */
void http_server_close(struct http_server *server, void (*on_closed)(void *owner));

#endif
