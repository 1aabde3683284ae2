/* Who must leave for whom. What makes it hard is to harm nobody who means it. Only connections that were not let in yet
 * leave: first those that were answered already, then those that have sent nothing. But whoever was accepted a moment
 * ago has sent nothing either, as far as we have read: it gets that moment, unless a flood leaves nobody the time. */
#include "server/http_crowd.h"

#include "base/log.h"
#include "server/http_server.h"

#include <stdio.h>
#include <string.h>

#define TELL_MS   1000 /* between two lines in the log, however many knock */
#define MOMENT_MS 100  /* for a head to come behind its connection */
#define FLOOD_MIN 8    /* connections without a head, above which none has a moment */

static bool is_of(struct http_conn *conn, const struct http_peer *peer)
{
    return peer == NULL || memcmp(http_conn_peer(conn), peer, sizeof *peer) == 0;
}

static size_t count_in(struct http_server *server, enum http_wait wait, const struct http_peer *peer)
{
    size_t count = 0;
    for (struct wait_entry *entry = server->waits[wait].first; entry != NULL; entry = entry->next) {
        count += is_of(http_conn_of_wait(entry), peer);
    }
    return count;
}

static size_t count_of(struct http_server *server, const struct http_peer *peer)
{
    size_t count = 0;
    for (enum http_wait wait = 0; wait < HTTP_WAIT_COUNT; wait++) {
        count += count_in(server, wait, peer);
    }
    return count;
}

/* The first to go in one list, of one peer (NULL = of any) but not `except`. */
static struct http_conn *first_in(struct http_server *server, enum http_wait wait, const struct http_peer *peer,
                                  const struct http_conn *except, bool is_silent, uint64_t rest_ms)
{
    uint64_t now_ms = uv_now(server->loop);
    for (struct wait_entry *entry = server->waits[wait].first; entry != NULL; entry = entry->next) {
        struct http_conn *conn = http_conn_of_wait(entry);
        if (now_ms - entry->since_ms < rest_ms) {
            return NULL; /* nobody behind it has waited longer */
        }
        if (conn != except && is_of(conn, peer) && (!is_silent || !http_conn_has_input(conn))) {
            return conn;
        }
    }
    return NULL;
}

static struct http_conn *next_to_go(struct http_server *server, const struct http_peer *peer,
                                    const struct http_conn *except)
{
    bool is_flood = count_in(server, HTTP_WAIT_FIRST_HEAD, peer) > FLOOD_MIN;
    struct http_conn *conn = first_in(server, HTTP_WAIT_LINGER, peer, except, false, 0);
    if (conn == NULL) {
        conn = first_in(server, HTTP_WAIT_FIRST_HEAD, peer, except, true, MOMENT_MS);
    }
    if (conn == NULL) {
        conn = first_in(server, HTTP_WAIT_FIRST_HEAD, peer, except, false, is_flood ? 0 : MOMENT_MS);
    }
    return conn;
}

void http_crowd_tell(struct http_server *server, bool at_once)
{
    struct http_crowd *crowd = &server->crowd;
    uint64_t now_ms = uv_now(server->loop);
    struct log_line line;
    if (crowd->untold == 0 || (!at_once && crowd->told_ms != 0 && now_ms - crowd->told_ms < TELL_MS)) {
        return;
    }
    log_begin(&line, LOG_WARN, "connection_refused");
    log_text(&line, "why", http_refusal_word(crowd->why));
    log_text(&line, "peer", crowd->peer);
    log_number(&line, "connections", (int64_t)crowd->untold); /* since the last line, this one among them */
    log_text(&line, "remedy", "connections that ask nothing make room for others: see what opens them at that address");
    log_end(&line);
    crowd->told_ms = now_ms;
    crowd->untold = 0;
}

static void refuse(struct http_server *server, struct http_conn *conn, enum http_refusal why)
{
    struct http_crowd *crowd = &server->crowd;
    http_conn_print_peer(conn, crowd->peer, sizeof crowd->peer);
    crowd->why = why;
    crowd->untold++;
    http_server_count_refusal(server, why);
    http_crowd_tell(server, false);
}

bool http_crowd_make_room(struct http_server *server)
{
    struct http_conn *conn = server->limits.peer_max != 0 ? next_to_go(server, NULL, NULL) : NULL;
    if (conn != NULL) {
        refuse(server, conn, HTTP_REFUSED_MADE_ROOM);
        http_conn_close(conn, "made room");
    }
    return conn != NULL;
}

bool http_crowd_admit(struct http_server *server, struct http_conn *conn)
{
    const struct http_peer *peer = http_conn_peer(conn);
    if (server->limits.peer_max == 0 || count_of(server, peer) <= server->limits.peer_max) {
        return true;
    }
    struct http_conn *other = next_to_go(server, peer, conn);
    if (other == NULL) {
        refuse(server, conn, HTTP_REFUSED_PEER_FULL);
        return false;
    }
    refuse(server, other, HTTP_REFUSED_MADE_ROOM);
    http_conn_close(other, "made room");
    return true;
}
