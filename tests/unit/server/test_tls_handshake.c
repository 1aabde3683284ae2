/* Handshakes in turn: the time that a turn of the loop has for them is set, and sockets take all and tell what they
 * took. */
#include "server/stream_tls_parts.h"

#include "tests/unit/server/tls_fixture.h"

#define MANY 5

static struct {
    struct ground ground;
    struct stream_ops socket_ops;
    struct stream_tls all[MANY];
    char hello[2048];
    size_t hello_bytes;
} world;

/* --- sockets ------------------------------------------------------------------------------------------------------ */

static bool read_start(struct stream *stream)
{
    ((struct stream_socket *)stream)->reads = true;
    return true;
}

static void read_stop(struct stream *stream)
{
    ((struct stream_socket *)stream)->reads = false;
}

static enum stream_sent send_all(struct stream *stream, const char *head, size_t head_bytes, const struct blob *body,
                                 uint64_t first, uint64_t length, bool last)
{
    (void)head, (void)body, (void)first, (void)length, (void)last;
    stream->sent_bytes += head_bytes;
    return STREAM_SENT;
}

/* --- the owner ---------------------------------------------------------------------------------------------------- */

static void on_read(struct stream *stream, const char *bytes, size_t n)
{
    (void)stream, (void)bytes, (void)n;
    fail_msg("no handshake is ended here");
}

static void on_end(struct stream *stream, bool broken)
{
    (void)stream, (void)broken;
    fail_msg("nothing has ended the connection");
}

static void on_closed(struct stream *stream)
{
    (void)stream;
}

static void open_one(struct stream_tls *tls)
{
    ground_carry(&world.ground, tls);
    tls->stream.on_read = on_read;
    tls->stream.on_end = on_end;
    tls->stream.on_closed = on_closed;
    tls_socket_of(tls)->ops = &world.socket_ops;
    assert_true(tls->stream.ops->read_start(&tls->stream));
}

static void close_one(struct stream_tls *tls)
{
    if (!tls->closing) {
        tls->stream.ops->close(&tls->stream);
    }
}

/* --- the world ---------------------------------------------------------------------------------------------------- */

static void make_hello(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *client = SSL_new(context);
    BIO *out = BIO_new(BIO_s_mem());
    assert_true(client != NULL && out != NULL);
    SSL_set_bio(client, BIO_new(BIO_s_mem()), out);
    assert_int_equal(SSL_connect(client), -1);
    int n = BIO_read(out, world.hello, sizeof world.hello);
    assert_true(n > 0);
    world.hello_bytes = (size_t)n;
    SSL_free(client);
    SSL_CTX_free(context);
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    ground_open(&world.ground, 2 * MANY); /* of one address three quarters */
    make_hello();
    ground_carry(&world.ground, &world.all[0]);
    world.socket_ops = *tls_socket_of(&world.all[0])->ops;
    world.socket_ops.read_start = read_start;
    world.socket_ops.read_stop = read_stop;
    world.socket_ops.send = send_all;
    for (size_t i = 0; i < MANY; i++) {
        open_one(&world.all[i]);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < MANY; i++) {
        close_one(&world.all[i]);
    }
    assert_int_equal(world.ground.room.handshakes, 0);
    return ground_close(&world.ground);
}

/* --- turns -------------------------------------------------------------------------------------------------------- */

static void use_up_the_turn(void)
{
    world.ground.room.slice_ns = UINT64_MAX / 2;
}

static void next_turn(void)
{
    tls_handshake_on_turn(&world.ground.room.turn);
}

static void comes(struct stream_tls *tls)
{
    struct stream *socket = tls_socket_of(tls);
    socket->on_read(socket, world.hello, world.hello_bytes);
}

static bool is_answered(const struct stream_tls *tls)
{
    return tls->socket.stream.sent_bytes > 0;
}

static void test_who_comes_within_the_slice_is_answered_at_once(void **state)
{
    (void)state;
    comes(&world.all[0]);
    assert_true(is_answered(&world.all[0]) && !world.all[0].queued && world.all[0].socket.reads);
    assert_true(world.ground.room.slice_ns > 0);
}

/* Those through the door would wait for all of them. */
static void test_who_comes_behind_it_waits(void **state)
{
    struct stream_tls *tls = &world.all[0];
    (void)state;
    use_up_the_turn();
    comes(tls);
    assert_true(tls->queued && !is_answered(tls));
    assert_false(tls->socket.reads); /* what it says more stays with the system */
    assert_int_equal(world.ground.room.handshakes, 1);
    next_turn();
    assert_true(is_answered(tls) && !tls->queued && tls->socket.reads);
}

/* However many handshakes a turn has time for. */
static void test_they_come_to_their_turn_in_order(void **state)
{
    (void)state;
    use_up_the_turn();
    for (size_t i = 0; i < MANY; i++) {
        comes(&world.all[i]);
    }
    for (size_t done = 0, turns = 1; done < MANY; turns++) {
        next_turn();
        while (done < MANY && is_answered(&world.all[done])) {
            done++;
        }
        assert_true(done >= turns);
        for (size_t i = done; i < MANY; i++) {
            assert_true(world.all[i].queued && !is_answered(&world.all[i]));
        }
        use_up_the_turn();
    }
    assert_null(world.ground.room.first);
    assert_null(world.ground.room.last);
}

static void test_who_leaves_the_queue_leaves_the_others_in_it(void **state)
{
    (void)state;
    use_up_the_turn();
    for (size_t i = 0; i < MANY; i++) {
        comes(&world.all[i]);
    }
    close_one(&world.all[2]);
    close_one(&world.all[0]);
    close_one(&world.all[MANY - 1]);
    assert_int_equal(world.ground.counts[TLS_HANDSHAKE_LEFT], 3);
    for (size_t turns = 0; turns < MANY; turns++) {
        next_turn();
    }
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(is_answered(&world.all[i]), i == 1 || i == 3);
    }
}

/* --- whose they are ----------------------------------------------------------------------------------------------- */

/* Of IPv6 a /64 counts as one address: whoever has one there has them all. */
static void test_a_network_of_ipv6_begins_as_one_address(void **state)
{
    uint32_t most = 0;
    (void)state;
    use_up_the_turn();
    for (uint8_t i = 0; i < MANY; i++) {
        struct sockaddr_in6 peer = { .sin6_family = AF_INET6,
                                     .sin6_addr.s6_addr = { 0x20, 0x01, 0x0d, 0xb8, [8] = i, [15] = i } };
        world.all[i].socket.peer.in6 = peer;
        comes(&world.all[i]);
    }
    for (size_t i = 0; i < TLS_ADDRESSES; i++) {
        most = world.ground.room.of_address[i] > most ? world.ground.room.of_address[i] : most;
    }
    assert_int_equal(most, MANY);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_who_comes_within_the_slice_is_answered_at_once),
        CASE(test_who_comes_behind_it_waits),
        CASE(test_they_come_to_their_turn_in_order),
        CASE(test_who_leaves_the_queue_leaves_the_others_in_it),
        CASE(test_a_network_of_ipv6_begins_as_one_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
