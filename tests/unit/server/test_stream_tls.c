/* The end of TLS towards a peer that reads late: on a socket of the test's own, which is full when the test says so,
 * and before an OpenSSL client, to which all must be whole and ended in order. */
#include "server/stream_tls.h"

#include "tests/unit/server/tls_fixture.h"

#define BODY_BYTES 100000

static struct {
    struct ground ground;
    struct stream_tls tls;
    struct stream_ops socket_ops;
    struct buf on_wire, held; /* held: by a socket that is full */
    bool is_full, is_shut;
    unsigned sent; /* on_sent calls */
    SSL_CTX *client_context;
    SSL *client;
    BIO *from_server, *to_server;
    char heard[2 * BODY_BYTES];
    size_t heard_bytes;
    uint8_t body[BODY_BYTES];
} world;

/* --- the socket --------------------------------------------------------------------------------------------------- */

static bool read_start(struct stream *stream)
{
    (void)stream;
    return true;
}

static void read_stop(struct stream *stream)
{
    (void)stream;
}

static enum stream_sent send_some(struct stream *stream, const char *head, size_t head_bytes, const struct blob *body,
                                  uint64_t first, uint64_t length, bool last)
{
    (void)first, (void)length, (void)last;
    assert_false(world.is_shut);
    assert_true(body == NULL && world.held.used == 0);
    stream->sent_bytes += world.is_full ? 0 : head_bytes;
    assert_true(buf_add(world.is_full ? &world.held : &world.on_wire, head, head_bytes));
    return world.is_full ? STREAM_PENDING : STREAM_SENT;
}

static void shut(struct stream *stream)
{
    (void)stream;
    assert_int_equal(world.held.used, 0); /* it would be cut off */
    assert_false(world.is_shut);
    world.is_shut = true;
}

/* The peer has read: what was held goes out, and the socket is as full as before. Returns false where none was. */
static bool has_room(void)
{
    struct stream *socket = &world.tls.socket.stream;
    size_t n = world.held.used;
    if (n == 0) {
        return false;
    }
    assert_true(buf_add(&world.on_wire, world.held.bytes, n));
    buf_consume(&world.held, n);
    socket->sent_bytes += n;
    socket->on_sent(socket, false);
    return true;
}

/* --- the owner ---------------------------------------------------------------------------------------------------- */

static void on_read(struct stream *stream, const char *bytes, size_t n)
{
    (void)stream, (void)bytes, (void)n;
}

static void on_end(struct stream *stream, bool broken)
{
    (void)stream, (void)broken;
    fail_msg("nothing has ended the connection");
}

static void on_sent(struct stream *stream, bool broken)
{
    (void)stream;
    assert_false(broken);
    world.sent++;
}

static void on_closed(struct stream *stream)
{
    (void)stream;
}

/* --- the client --------------------------------------------------------------------------------------------------- */

static void say(void)
{
    char bytes[16384];
    struct stream *socket = &world.tls.socket.stream;
    int n;
    while ((n = BIO_read(world.to_server, bytes, sizeof bytes)) > 0) {
        socket->on_read(socket, bytes, (size_t)n);
    }
}

/* What is on the wire. Returns SSL_ERROR_WANT_READ, or _ZERO_RETURN behind the end; or what is wrong. */
static int hear(void)
{
    size_t n;
    int good = 1;
    if (world.on_wire.used > 0) {
        assert_int_equal(BIO_write(world.from_server, world.on_wire.bytes, (int)world.on_wire.used),
                         world.on_wire.used);
        buf_consume(&world.on_wire, world.on_wire.used);
    }
    while (good == 1) {
        good = SSL_read_ex(world.client, world.heard + world.heard_bytes, sizeof world.heard - world.heard_bytes, &n);
        world.heard_bytes += good == 1 ? n : 0;
    }
    return SSL_get_error(world.client, good);
}

static void shake_hands(void)
{
    while (SSL_do_handshake(world.client) != 1 || world.ground.counts[TLS_HANDSHAKE_FULL] == 0) {
        say();
        uv_run(&world.ground.loop, UV_RUN_NOWAIT);
        (void)hear();
    }
    assert_int_equal(hear(), SSL_ERROR_WANT_READ);
}

/* Which the server has to answer: it has something to say, though the owner has not. */
static void want_new_keys(void)
{
    assert_int_equal(SSL_key_update(world.client, SSL_KEY_UPDATE_REQUESTED), 1);
    assert_int_equal(SSL_do_handshake(world.client), 1);
    say();
}

/* --- its life ----------------------------------------------------------------------------------------------------- */

static void connect_client(void)
{
    world.client_context = SSL_CTX_new(TLS_client_method());
    world.client = SSL_new(world.client_context);
    world.from_server = BIO_new(BIO_s_mem());
    world.to_server = BIO_new(BIO_s_mem());
    assert_true(world.client != NULL && world.from_server != NULL && world.to_server != NULL);
    SSL_set_bio(world.client, world.from_server, world.to_server);
    SSL_set_connect_state(world.client);
    shake_hands();
}

static int set_up(void **state)
{
    struct stream *stream = &world.tls.stream, *socket = &world.tls.socket.stream;
    (void)state;
    memset(&world, 0, sizeof world);
    ground_open(&world.ground, 4);
    buf_init(&world.on_wire, SIZE_MAX);
    buf_init(&world.held, SIZE_MAX);
    for (size_t i = 0; i < BODY_BYTES; i++) {
        world.body[i] = (uint8_t)(i * 31 >> 3);
    }
    ground_carry(&world.ground, &world.tls);
    stream->on_read = on_read;
    stream->on_end = on_end;
    stream->on_sent = on_sent;
    stream->on_closed = on_closed;
    world.socket_ops = *socket->ops;
    world.socket_ops.read_start = read_start;
    world.socket_ops.read_stop = read_stop;
    world.socket_ops.send = send_some;
    world.socket_ops.shutdown = shut;
    socket->ops = &world.socket_ops;
    assert_true(stream->ops->read_start(stream));
    connect_client();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world.tls.stream.ops->close(&world.tls.stream);
    SSL_free(world.client);
    SSL_CTX_free(world.client_context);
    buf_close(&world.on_wire);
    buf_close(&world.held);
    return ground_close(&world.ground);
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

static enum stream_sent send_answer(const char *text, const struct blob *body, bool last)
{
    struct stream *stream = &world.tls.stream;
    return stream->ops->send(stream, text, strlen(text), body, 0, body != NULL ? body->size : 0, last);
}

static void end_our_side(void)
{
    world.tls.stream.ops->shutdown(&world.tls.stream);
}

/* Of a kept connection, whose answer may have been the last that the socket took. */
static void test_the_end_waits_for_room(void **state)
{
    (void)state;
    assert_int_equal(send_answer("304", NULL, false), STREAM_SENT);
    world.is_full = true;
    end_our_side();
    assert_false(world.is_shut);
    assert_int_equal(hear(), SSL_ERROR_WANT_READ);
    assert_true(has_room());
    assert_true(world.is_shut);
    assert_int_equal(hear(), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(world.heard_bytes, 3);
    assert_int_equal(world.sent, 0); /* the owner waits for nothing */
}

static void test_the_end_stands_behind_what_waits(void **state)
{
    (void)state;
    assert_int_equal(send_answer("304", NULL, false), STREAM_SENT);
    world.is_full = true;
    for (unsigned times = 0; times < 3; times++) { /* OpenSSL answers the first with the second */
        want_new_keys();
    }
    assert_true(world.held.used > 0 && world.tls.output.used > 0);
    end_our_side();
    for (unsigned left = 3; left > 0; left--) {
        assert_false(world.is_shut);
        assert_int_equal(hear(), SSL_ERROR_WANT_READ);
        assert_true(has_room());
    }
    assert_true(world.is_shut);
    assert_int_equal(hear(), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(world.heard_bytes, 3);
}

static void test_the_end_stands_behind_an_image(void **state)
{
    const struct blob image = { .fd = -1, .bytes = world.body, .size = BODY_BYTES };
    (void)state;
    world.is_full = true;
    assert_int_equal(send_answer("200", &image, true), STREAM_PENDING);
    while (world.sent == 0) {
        assert_int_equal(hear(), SSL_ERROR_WANT_READ);
        assert_true(has_room());
    }
    end_our_side();
    assert_true(world.is_shut);
    assert_int_equal(hear(), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(world.heard_bytes, 3 + BODY_BYTES);
    assert_memory_equal(world.heard + 3, world.body, BODY_BYTES);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_the_end_waits_for_room),
        CASE(test_the_end_stands_behind_what_waits),
        CASE(test_the_end_stands_behind_an_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
