/* Who leaves for whom, with connections whose age and peer are set: nothing is sent. */
#include "server/http_crowd.h"

#include "server/client_address.h"
#include "tests/unit/server/http_fixture.h"

#include <sys/socket.h>
#include <unistd.h>

#define PEER_MAX 12
#define LONG_MS  5000 /* there for longer than any moment */
#define REST_MS  2000

static struct {
    struct http_fixture http;
    uint64_t refused[HTTP_REFUSAL_COUNT];
} world;

static int set_up(void **state)
{
    static const struct http_limits limits = {
        .head_ms = 10000, .connections_max = 64, .peer_max = PEER_MAX, .rest_ms = REST_MS
    };
    (void)state;
    memset(&world, 0, sizeof world);
    http_fixture_open(&world.http, NULL, &limits);
    world.http.server.refused = world.refused;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_fixture_abort(&world.http);
    http_fixture_close(&world.http);
    return 0;
}

static struct http_conn *comes_from(struct http_peer peer, uint64_t age_ms)
{
    struct http_conn *conn = http_server_new_conn(&world.http.server, NULL);
    assert_non_null(conn);
    conn->peer = peer;
    conn->wait_entry.since_ms = uv_now(&world.http.loop) - age_ms;
    http_crowd_came(conn);
    return conn;
}

/* A connection of the address that ends in `peer`, there for `age_ms`; those that are there for longest come first. */
static struct http_conn *comes(uint8_t peer, uint64_t age_ms)
{
    return comes_from((struct http_peer){ .bytes = { [15] = peer } }, age_ms);
}

static void sends(struct http_conn *conn)
{
    assert_true(buf_add(&conn->input, "GET /", 5));
}

static void waits(struct http_conn *conn, enum http_wait wait)
{
    conn_wait_for(conn, wait);
}

static bool is_gone(const struct http_conn *conn)
{
    return conn->state == CONN_CLOSED;
}

static void test_the_oldest_silent_one_leaves(void **state)
{
    (void)state;
    struct http_conn *let_in = comes(1, LONG_MS), *part = comes(1, LONG_MS), *first = comes(2, LONG_MS),
                     *second = comes(1, LONG_MS);
    waits(let_in, HTTP_WAIT_IDLE);
    sends(part);
    assert_true(http_crowd_make_room(&world.http.server));
    assert_true(is_gone(first));
    assert_true(http_crowd_make_room(&world.http.server));
    assert_true(is_gone(second) && !is_gone(part));
    assert_true(http_crowd_make_room(&world.http.server));
    assert_true(is_gone(part));
    assert_false(http_crowd_make_room(&world.http.server));
    assert_false(is_gone(let_in));
    assert_int_equal(world.refused[HTTP_REFUSED_MADE_ROOM], 3);
}

static void test_who_was_answered_leaves_before_the_silent(void **state)
{
    (void)state;
    struct http_conn *silent = comes(1, LONG_MS), *answered = comes(1, 0);
    waits(answered, HTTP_WAIT_LINGER);
    assert_true(http_crowd_make_room(&world.http.server));
    assert_true(is_gone(answered) && !is_gone(silent));
}

/* Else a client that means it loses its place before its head is read. */
static void test_who_came_this_moment_stays(void **state)
{
    (void)state;
    struct http_conn *conn = comes(1, 20);
    assert_false(http_crowd_make_room(&world.http.server));
    assert_false(is_gone(conn));
}

/* A part of a head does not protect a flood against whoever has just come. */
static void test_who_came_this_moment_stays_before_parts_of_heads(void **state)
{
    (void)state;
    struct http_conn *part = comes(1, LONG_MS), *fresh = comes(2, 20);
    sends(part);
    assert_true(http_crowd_make_room(&world.http.server));
    assert_true(is_gone(part) && !is_gone(fresh));
}

static void test_in_a_flood_the_oldest_leaves_however_young(void **state)
{
    (void)state;
    struct http_conn *crowd[10];
    for (size_t i = 0; i < 10; i++) {
        crowd[i] = comes(1, 20 - i);
    }
    assert_true(http_crowd_make_room(&world.http.server));
    assert_true(is_gone(crowd[0]) && !is_gone(crowd[9]));
}

static void test_an_address_has_its_share(void **state)
{
    (void)state;
    struct http_conn *other = comes(2, LONG_MS), *crowd[PEER_MAX];
    for (size_t i = 0; i < PEER_MAX; i++) {
        crowd[i] = comes(1, LONG_MS);
        assert_true(http_crowd_admit(&world.http.server, crowd[i]));
        assert_int_equal(world.refused[HTTP_REFUSED_MADE_ROOM], 0);
    }
    assert_true(http_crowd_admit(&world.http.server, comes(1, 0)));
    assert_true(is_gone(crowd[0]) && !is_gone(crowd[1]));
    assert_true(http_crowd_admit(&world.http.server, comes(3, 0)));
    assert_false(is_gone(crowd[1]) || is_gone(other));
}

static void test_a_share_of_those_who_were_let_in(void **state)
{
    (void)state;
    for (size_t i = 0; i < PEER_MAX; i++) {
        waits(comes(1, LONG_MS), HTTP_WAIT_IDLE);
    }
    assert_false(http_crowd_admit(&world.http.server, comes(1, 0)));
    assert_true(http_crowd_admit(&world.http.server, comes(2, 0)));
    assert_int_equal(world.refused[HTTP_REFUSED_PEER_FULL], 1);
}

/* Whoever has one address of a /64 has 2^64 of them. */
static void test_a_network_of_ipv6_has_one_share(void **state)
{
    struct http_peer peer = { .bytes = { 0x20, 0x01, 0x0d, 0xb8, [7] = 1 } };
    (void)state;
    for (uint8_t i = 0; i < PEER_MAX; i++) {
        peer.bytes[8] = peer.bytes[15] = i;
        waits(comes_from(peer, LONG_MS), HTTP_WAIT_IDLE);
    }
    peer.bytes[15] = PEER_MAX;
    assert_false(http_crowd_admit(&world.http.server, comes_from(peer, 0)));
    peer.bytes[7] = 2;
    assert_true(http_crowd_admit(&world.http.server, comes_from(peer, 0)));
}

static void rests(struct http_conn *conn, enum http_wait wait, uint64_t ms)
{
    waits(conn, wait);
    conn->wait_entry.since_ms -= ms;
}

/* Else a flood has but to ask once on each connection, and again before --idle-timeout. */
static void test_who_rests_leaves(void **state)
{
    (void)state;
    struct http_conn *first = comes(1, LONG_MS), *second = comes(2, LONG_MS), *third = comes(3, LONG_MS);
    rests(first, HTTP_WAIT_IDLE, LONG_MS);
    rests(second, HTTP_WAIT_HEAD, LONG_MS); /* a byte of the next request is no request */
    rests(third, HTTP_WAIT_IDLE, REST_MS - 1);
    assert_true(http_crowd_make_room(&world.http.server));
    assert_true(is_gone(first) && !is_gone(second));
    assert_true(http_crowd_make_room(&world.http.server));
    assert_true(is_gone(second));
    assert_false(http_crowd_make_room(&world.http.server));
    assert_false(is_gone(third));
}

/* It is sent an answer. Returns the other end, which has not read it. */
static int is_answered(struct http_conn *conn)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    http_conn_open(conn, pair[0], NULL);
    assert_int_equal(conn_stream(conn)->ops->send(conn_stream(conn), "304", 3, NULL, 0, 0, false), STREAM_SENT);
    return pair[1];
}

/* Closed, the rest of it would lie in the system, where nobody counts it. */
static void test_who_takes_its_answer_stays(void **state)
{
    char answer[3];
    (void)state;
    world.http.server.limits.rest_ms = REST_MS;
    world.http.server.limits.transfer_ms = 4 * LONG_MS;
    struct http_conn *taking = comes(1, LONG_MS), *resting = comes(2, LONG_MS);
    int peer = is_answered(taking);
    rests(taking, HTTP_WAIT_IDLE, LONG_MS);
    rests(resting, HTTP_WAIT_IDLE, LONG_MS);
    assert_true(http_crowd_make_room(&world.http.server));
    assert_true(is_gone(resting) && !is_gone(taking));
    assert_int_equal(taking->wait, HTTP_WAIT_FINISH); /* it is not asked again */
    assert_false(http_crowd_make_room(&world.http.server));
    http_conn_expire(taking); /* the time to look at it */
    assert_false(is_gone(taking));
    assert_int_equal(read(peer, answer, sizeof answer), sizeof answer);
    http_conn_expire(taking);
    assert_true(is_gone(taking)); /* its rest is over: it has its answer, and its end */
    assert_int_equal(read(peer, answer, sizeof answer), 0);
    close(peer);
}

/* A radio that shakes hands for seconds would lose as much at its next try; who rests loses a new connection. */
static void test_who_rests_leaves_before_who_is_slow(void **state)
{
    (void)state;
    struct http_conn *slow = comes(1, 2 * LONG_MS), *resting = comes(2, LONG_MS);
    sends(slow);
    rests(resting, HTTP_WAIT_IDLE, LONG_MS);
    assert_true(http_crowd_make_room(&world.http.server));
    assert_true(is_gone(resting) && !is_gone(slow));
}

static void test_who_is_at_work_stays(void **state)
{
    static const enum http_wait busy[] = { HTTP_WAIT_BODY, HTTP_WAIT_ANSWER, HTTP_WAIT_TRANSFER, HTTP_WAIT_FINISH };
    (void)state;
    for (size_t i = 0; i < sizeof busy / sizeof busy[0]; i++) {
        rests(comes(1, LONG_MS), busy[i], LONG_MS);
    }
    assert_false(http_crowd_make_room(&world.http.server));
}

#define PROXY_KEEPS 500

/* A proxy keeps connections for whoever comes next, and takes it for a failure of ours when one ends. */
static void test_a_proxy_may_rest(void **state)
{
    static const struct client_networks proxies = { .count = 1,
                                                    .networks = { { .bytes = { [15] = 7 }, .bits = 128 } } };
    (void)state;
    world.http.server.limits.exempt = &proxies;
    struct http_conn *proxy = comes(7, LONG_MS);
    rests(proxy, HTTP_WAIT_IDLE, LONG_MS);
    for (size_t i = 0; i < PROXY_KEEPS; i++) { /* which do not hide those behind them */
        rests(comes(7, LONG_MS), HTTP_WAIT_IDLE, LONG_MS);
    }
    struct http_conn *other = comes(8, LONG_MS);
    rests(other, HTTP_WAIT_IDLE, LONG_MS);
    assert_true(http_crowd_make_room(&world.http.server));
    assert_true(is_gone(other));
    assert_false(http_crowd_make_room(&world.http.server));
    assert_false(is_gone(proxy));
}

static void test_of_one_address_the_longest_at_rest_leaves(void **state)
{
    (void)state;
    struct http_conn *crowd[PEER_MAX];
    for (size_t i = 0; i < PEER_MAX; i++) {
        crowd[i] = comes(1, LONG_MS);
        rests(crowd[i], HTTP_WAIT_IDLE, LONG_MS);
    }
    rests(crowd[0], HTTP_WAIT_IDLE, REST_MS); /* it asked again */
    assert_true(http_crowd_admit(&world.http.server, comes(1, 0)));
    assert_true(is_gone(crowd[1]) && !is_gone(crowd[0]));
}

/* --peer-connections 0: as many as it likes, and yet they hold no full door. */
static void test_doors_without_a_share(void **state)
{
    (void)state;
    world.http.server.limits.peer_max = 0;
    struct http_conn *silent = comes(1, LONG_MS), *resting = comes(1, LONG_MS);
    rests(resting, HTTP_WAIT_IDLE, REST_MS);
    for (size_t i = 0; i < 3 * PEER_MAX; i++) {
        struct http_conn *busy = comes(1, LONG_MS);
        assert_true(http_crowd_admit(&world.http.server, busy));
        waits(busy, HTTP_WAIT_TRANSFER);
    }
    assert_true(http_crowd_make_room(&world.http.server));
    assert_true(is_gone(silent) && !is_gone(resting));
    assert_true(http_crowd_make_room(&world.http.server));
    assert_true(is_gone(resting));
    assert_false(http_crowd_make_room(&world.http.server));
}

static void test_over_a_unix_socket_nobody_leaves(void **state)
{
    (void)state;
    world.http.server.of_unix = true;
    struct http_conn *silent = comes(0, LONG_MS), *resting = comes(0, LONG_MS);
    rests(resting, HTTP_WAIT_IDLE, LONG_MS);
    assert_false(http_crowd_make_room(&world.http.server));
    assert_false(is_gone(silent) || is_gone(resting));
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_the_oldest_silent_one_leaves),
        CASE(test_who_was_answered_leaves_before_the_silent),
        CASE(test_who_came_this_moment_stays),
        CASE(test_who_came_this_moment_stays_before_parts_of_heads),
        CASE(test_in_a_flood_the_oldest_leaves_however_young),
        CASE(test_an_address_has_its_share),
        CASE(test_a_share_of_those_who_were_let_in),
        CASE(test_a_network_of_ipv6_has_one_share),
        CASE(test_who_rests_leaves),
        CASE(test_who_takes_its_answer_stays),
        CASE(test_who_rests_leaves_before_who_is_slow),
        CASE(test_who_is_at_work_stays),
        CASE(test_a_proxy_may_rest),
        CASE(test_of_one_address_the_longest_at_rest_leaves),
        CASE(test_doors_without_a_share),
        CASE(test_over_a_unix_socket_nobody_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
