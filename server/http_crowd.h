/* A door with few places: who must leave for whom. One peer can open more connections than there are places and say
 * nothing on them; who asks is served all the same. Whoever is at work stays; what is past its first request has been
 * let in, and stays until it has rested for limits.rest_ms. */
#ifndef SERVER_HTTP_CROWD_H
#define SERVER_HTTP_CROWD_H

#include "server/http_conn.h"

#include <stdbool.h>

void http_crowd_open(struct http_server *server);
void http_crowd_close(struct http_server *server); /* no connection is left */

/* The door is full and somebody waits: one of those leaves that are there without having been let in, the oldest
 * silent one before others, or that rest. Returns false where nobody does yet: to be asked again. Over a Unix socket
 * nobody ever does: who may open it is no stranger. */
bool http_crowd_make_room(struct http_server *server);

/* Of one connection's life, in this order: it was opened; it waits for something else now; it is gone. Its address is
 * counted, and of IPv6 the /64: whoever has one address there has them all. */
void http_crowd_came(struct http_conn *conn);
void http_crowd_moved(struct http_conn *conn);
void http_crowd_left(struct http_conn *conn);

/* A connection was just accepted: at limits.peer_max another of its address leaves for it. Returns false where none
 * can: it is to be closed. */
bool http_crowd_admit(struct http_server *server, struct http_conn *conn);

/* Now and then, and when the last connection has left: says what has not been said yet. */
void http_crowd_tell(struct http_server *server, bool at_once);

#endif
