/* Who must leave for whom. What makes it hard is to harm nobody who means it. First those leave that were answered, and
 * let read it; then those that have sent nothing, or not a whole head in a long time. But whoever was accepted a moment
 * ago has sent nothing either, as far as we have read: it gets that moment, unless a flood leaves nobody the time. And
 * whoever has asked once could rest on its place for ever, with a request now and then: it must not (limits.rest_ms),
 * which costs it no more than a new connection. */
#include "server/http_crowd.h"

#include "base/log.h"
#include "server/client_address.h"
#include "server/http_conn_parts.h"
#include "server/http_server.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define MOMENT_MS  100  /* for a head to come behind its connection */
#define SLOW_MS    5000 /* for the rest of it, where others need the place; a TLS handshake is a part of it */
#define FLOOD_MIN  8    /* connections without a head, above which none has a moment */
#define LOOKS_MAX  64   /* at connections, for one that has sent nothing: a flood must not cost more than it brings */
#define PASSES_MAX 4096 /* of such as never leave, before those that may */

/* --- who is there ------------------------------------------------------------------------------------------------- */

struct http_peers {
    uint64_t key;
    size_t count;
    struct wait_list waits[HTTP_WAIT_COUNT]; /* of its connections, those that may have to leave */
    struct wait_entry rest;                  /* while it has no connection */
    UT_hash_handle hh;
};

#define RESTING_MAX 1024 /* addresses without a connection that are kept for when they come again */

void http_crowd_open(struct http_server *server)
{
    server->crowd.seed = mac_hash_seed_draw();
    pool_init(&server->crowd.peers_free, sizeof(struct http_peers), RESTING_MAX);
}

static void forget_longest_resting(struct http_crowd *crowd)
{
    struct http_peers *peer = (struct http_peers *)((char *)crowd->resting.first - offsetof(struct http_peers, rest));
    wait_list_remove(&crowd->resting, &peer->rest);
    crowd->resting_count--;
    HASH_DEL(crowd->peers, peer);
    pool_give(&crowd->peers_free, peer);
}

void http_crowd_close(struct http_server *server)
{
    while (server->crowd.resting_count > 0) {
        forget_longest_resting(&server->crowd);
    }
    pool_close(&server->crowd.peers_free);
}

void http_crowd_came(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    struct http_crowd *crowd = &server->crowd;
    const struct client_networks *exempt = server->limits.exempt;
    struct http_peers *peer = NULL;
    if (server->of_unix || (exempt != NULL && client_networks_have(exempt, conn->peer.bytes))) {
        return;
    }
    uint64_t key = client_address_key(conn->peer.bytes);
    uint32_t hash = seeded_hash(&crowd->seed, key >> 32, key & UINT32_MAX);
    HASH_FIND_BYHASHVALUE(hh, crowd->peers, &key, sizeof key, hash, peer);
    if (peer == NULL) {
        peer = pool_take(&crowd->peers_free);
        assert(peer != NULL);
        peer->key = key;
        HASH_ADD_BYHASHVALUE(hh, crowd->peers, key, sizeof peer->key, hash, peer);
    } else if (peer->count == 0) {
        wait_list_remove(&crowd->resting, &peer->rest);
        crowd->resting_count--;
    }
    peer->count++;
    conn->of_peer = peer;
    http_crowd_moved(conn);
}

void http_crowd_moved(struct http_conn *conn)
{
    static const bool leaves[HTTP_WAIT_COUNT] = {
        [HTTP_WAIT_FIRST_HEAD] = true, [HTTP_WAIT_HEAD] = true, [HTTP_WAIT_IDLE] = true, [HTTP_WAIT_LINGER] = true
    };
    struct http_peers *peer = conn->of_peer;
    if (peer == NULL) {
        return;
    }
    struct wait_list *list = leaves[conn->wait] ? &peer->waits[conn->wait] : NULL;
    if (conn->peer_list == list && (list == NULL || list->last == &conn->peer_entry)) {
        return;
    }
    if (conn->peer_list != NULL) {
        wait_list_remove(conn->peer_list, &conn->peer_entry);
    }
    if (list != NULL) {
        wait_list_append(list, &conn->peer_entry, 0);
    }
    conn->peer_list = list;
}

void http_crowd_left(struct http_conn *conn)
{
    struct http_peers *peer = conn->of_peer;
    if (peer == NULL) {
        return;
    }
    if (conn->peer_list != NULL) {
        wait_list_remove(conn->peer_list, &conn->peer_entry);
    }
    conn->peer_list = NULL;
    conn->of_peer = NULL;
    struct http_crowd *crowd = &conn->server->crowd;
    if (--peer->count == 0) {
        wait_list_append(&crowd->resting, &peer->rest, 0);
        if (++crowd->resting_count > RESTING_MAX) {
            forget_longest_resting(crowd);
        }
    }
}

/* --- who leaves --------------------------------------------------------------------------------------------------- */

/* Of all, or of one address. */
struct candidates {
    const struct http_server *server;
    const struct wait_list *waits; /* by enum http_wait */
    struct http_conn *(*conn_of)(struct wait_entry *entry);
    const struct http_conn *except;
};

static struct http_conn *conn_of_peer_entry(struct wait_entry *entry)
{
    return (struct http_conn *)((char *)entry - offsetof(struct http_conn, peer_entry));
}

static bool is_flood(const struct wait_list *list)
{
    size_t count = 0;
    for (struct wait_entry *entry = list->first; entry != NULL && count <= FLOOD_MIN; entry = entry->next) {
        count++;
    }
    return count > FLOOD_MIN;
}

/* Of a proxy, say, which would not expect it: others than those of an address that is counted never leave. */
static bool may_leave(const struct http_conn *conn, enum http_wait wait)
{
    return conn->of_peer != NULL || wait == HTTP_WAIT_FIRST_HEAD || wait == HTTP_WAIT_LINGER;
}

/* Its answer is still on the way: it keeps its place until it has all of it, as a download does. Closed, the rest would
 * lie in the system, where nobody counts it. */
static bool takes_its_answer(struct http_conn *conn, enum http_wait wait)
{
    if (wait != HTTP_WAIT_IDLE || conn_stream(conn)->ops->unacknowledged(conn_stream(conn)) == 0) {
        return false;
    }
    conn_end_rest(conn);
    return true;
}

/* The first to go of those that wait so. */
static struct http_conn *first_in(const struct candidates *all, enum http_wait wait, bool only_silent,
                                  uint64_t waited_ms)
{
    unsigned looks = 0, passes = 0;
    struct wait_entry *next;
    for (struct wait_entry *entry = all->waits[wait].first; entry != NULL; entry = next) {
        struct http_conn *conn = all->conn_of(entry);
        next = entry->next;
        if (uv_now(all->server->loop) - conn->wait_entry.since_ms < waited_ms) {
            return NULL; /* nobody behind it has waited longer */
        }
        if (conn == all->except || !may_leave(conn, wait)) {
            if (++passes == PASSES_MAX) {
                return NULL;
            }
            continue;
        }
        if ((!only_silent || http_conn_is_silent(conn)) && !takes_its_answer(conn, wait)) {
            return conn;
        }
        if (++looks == LOOKS_MAX) {
            return NULL;
        }
    }
    return NULL;
}

static struct http_conn *next_to_go(const struct candidates *all)
{
    uint64_t rest_ms = all->server->limits.rest_ms;
    const struct {
        enum http_wait wait;
        bool only_silent;
        uint64_t waited_ms;
    } order[] = {
        { HTTP_WAIT_LINGER, false, 0 },
        { HTTP_WAIT_FIRST_HEAD, true, MOMENT_MS },
        { HTTP_WAIT_IDLE, false, rest_ms },
        { HTTP_WAIT_FIRST_HEAD, false, SLOW_MS },
        { HTTP_WAIT_HEAD, false, rest_ms },
        { HTTP_WAIT_FIRST_HEAD, false, is_flood(&all->waits[HTTP_WAIT_FIRST_HEAD]) ? 0 : MOMENT_MS },
    };
    struct http_conn *conn = NULL;
    for (size_t i = 0; i < sizeof order / sizeof order[0] && conn == NULL; i++) {
        conn = first_in(all, order[i].wait, order[i].only_silent, order[i].waited_ms);
    }
    return conn;
}

void http_crowd_tell(struct http_server *server, bool at_once)
{
    struct http_crowd *crowd = &server->crowd;
    uint64_t now_ms = uv_now(server->loop);
    struct log_line line;
    if (crowd->untold == 0 ||
        (!at_once && crowd->told_ms != 0 && now_ms - crowd->told_ms < server->limits.refusals_ms)) {
        return;
    }
    log_begin(&line, LOG_WARN, "connection_refused");
    log_text(&line, "why", http_refusal_word(crowd->why));
    log_text(&line, "peer", crowd->peer);
    log_number(&line, "connections", (int64_t)crowd->untold); /* since the last line, this one among them */
    log_text(&line, "remedy",
             "connections that ask nothing make room for others: see what opens them at that address; where many "
             "devices are behind it, raise --peer-connections (one address has three quarters of all at most: "
             "--connections-max, ulimit -n), or name their proxy as --trusted-proxy");
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
    struct candidates all = { .server = server, .waits = server->waits, .conn_of = http_conn_of_wait };
    struct http_conn *conn = server->of_unix ? NULL : next_to_go(&all);
    if (conn != NULL) {
        refuse(server, conn, HTTP_REFUSED_MADE_ROOM);
        http_conn_close(conn, "made room");
    }
    return conn != NULL;
}

bool http_crowd_admit(struct http_server *server, struct http_conn *conn)
{
    struct http_peers *peer = conn->of_peer;
    if (peer == NULL || server->limits.peer_max == 0 || peer->count <= server->limits.peer_max) {
        return true;
    }
    struct candidates own = { .server = server, .waits = peer->waits, .conn_of = conn_of_peer_entry, .except = conn };
    struct http_conn *other = next_to_go(&own);
    if (other == NULL) {
        refuse(server, conn, HTTP_REFUSED_PEER_FULL);
        return false;
    }
    refuse(server, other, HTTP_REFUSED_MADE_ROOM);
    http_conn_close(other, "made room");
    return true;
}
