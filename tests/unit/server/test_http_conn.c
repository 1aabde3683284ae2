/* Turns of connections that ask much at once, with streams and a clock of the test's own: what comes in is handed to
 * the connection, what goes out is counted, and an answer takes as long as the test says. */
#include "tests/unit/server/http_fixture.h"

#include <stdio.h>

#define CLIENTS      10
#define TURN_ANSWERS 16 /* of one connection */

static struct {
    struct http_fixture http;
    struct http_conn *clients[CLIENTS];
    bool reads[CLIENTS];
    unsigned answers[CLIENTS];
    char order[64]; /* 'a' for the first client: whose answers, those that follow each other told once */
    uint64_t now_ns, answer_ns;
    struct http_later *later; /* of who waits for its answer */
    char methods[8];          /* of what was asked, once it was handled: 'H'ead or 'G'et */
} world;

/* In place of libuv's, for the server: the loop's own time is another. */
uint64_t uv_hrtime(void)
{
    return world.now_ns;
}

static size_t client_of(const struct stream *stream)
{
    size_t i = 0;
    while (i < CLIENTS && &world.clients[i]->carrier.stream != stream) {
        i++;
    }
    assert_true(i < CLIENTS);
    return i;
}

static void handle(void *owner, const struct http_request *request, struct stream *stream, struct http_answer *answer)
{
    size_t i = client_of(stream), told = strlen(world.order);
    (void)owner, (void)request;
    world.now_ns += world.answer_ns;
    world.answers[i]++;
    if (told == 0 || world.order[told - 1] != (char)('a' + i)) {
        assert_true(told + 1 < sizeof world.order);
        world.order[told] = (char)('a' + i);
    }
    http_answer_text(answer, 200, "ok\n");
}

/* A list waits for its answer, which comes from within the next request that is none. */
static void handle_and_answer_others(void *owner, const struct http_request *request, struct stream *stream,
                                     struct http_answer *answer)
{
    struct http_later *later = world.later;
    (void)owner, (void)stream;
    if (slice_is(request->path, "/list")) {
        answer->later = world.later = http_later_new();
        return;
    }
    if (later != NULL) {
        struct http_answer others;
        memset(&others, 0, offsetof(struct http_answer, text));
        world.later = NULL;
        http_answer_text(&others, 200, "ok\n");
        http_later_answer(later, &others);
    }
    world.methods[strlen(world.methods)] = request->head_only ? 'H' : 'G';
    http_answer_text(answer, 200, "ok\n");
}

static const struct http_handlers handlers = { .handle = handle };

static bool read_start(struct stream *stream)
{
    world.reads[client_of(stream)] = true;
    return true;
}

static void read_stop(struct stream *stream)
{
    world.reads[client_of(stream)] = false;
}

static enum stream_sent send_all(struct stream *stream, const char *head, size_t head_bytes, const struct blob *body,
                                 uint64_t first, uint64_t length, bool last)
{
    (void)head, (void)body, (void)first, (void)length;
    assert_false(last);
    stream->sent_bytes += head_bytes;
    return STREAM_SENT;
}

static const struct http_fixture_stream streams = { read_start, read_stop, send_all };

static int set_up(void **state)
{
    static const struct http_limits limits = { .head_ms = 10000, .idle_ms = 60000, .connections_max = 64 };
    (void)state;
    memset(&world, 0, sizeof world);
    http_fixture_open(&world.http, &handlers, &limits);
    http_fixture_add(&world.http, &streams, world.clients, CLIENTS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_fixture_abort(&world.http);
    http_fixture_close(&world.http);
    return 0;
}

/* So many requests in one piece, each with so much in a header. */
static void asks(size_t client, unsigned times, size_t padding)
{
    static char piece[16384];
    size_t n = 0;
    struct stream *stream = conn_stream(world.clients[client]);
    for (unsigned i = 0; i < times; i++) {
        n += (size_t)snprintf(piece + n, sizeof piece - n, "GET / HTTP/1.1\r\nHost: u\r\nX: %0*d\r\n\r\n", (int)padding,
                              0);
        assert_true(n < sizeof piece);
    }
    assert_true(world.reads[client]);
    stream->on_read(stream, piece, n);
}

static void turn(void)
{
    uv_run(&world.http.loop, UV_RUN_NOWAIT);
}

static void assert_answered(const char *order)
{
    assert_string_equal(world.order, order);
    memset(world.order, 0, sizeof world.order);
}

/* And whoever asks little is answered in between. */
static void test_sixteen_answers_a_turn(void **state)
{
    (void)state;
    asks(0, 2 * TURN_ANSWERS + 8, 1);
    assert_int_equal(world.answers[0], TURN_ANSWERS);
    assert_false(world.reads[0]); /* what it says meanwhile waits in the system */
    asks(1, 1, 1);
    assert_true(world.reads[1]);
    turn();
    assert_int_equal(world.answers[0], 2 * TURN_ANSWERS);
    asks(2, 1, 1);
    turn();
    assert_answered("abaca");
    assert_int_equal(world.answers[0], 2 * TURN_ANSWERS + 8);
    assert_true(world.reads[0]);
}

/* Whose requests are all answered within the turn has had it as well: libuv would go on reading what it floods. */
static void test_eight_kibibytes_a_turn(void **state)
{
    (void)state;
    asks(0, 4, 1900); /* 7.7 KiB */
    assert_int_equal(world.answers[0], 4);
    assert_true(world.reads[0]);
    asks(0, 5, 1900);
    assert_int_equal(world.answers[0], 9);
    assert_false(world.reads[0]);
    turn();
    assert_true(world.reads[0]);
}

/* However many want more at once: a turn ends, and others who come are heard. */
static void test_a_millisecond_for_all_together(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLIENTS; i++) {
        asks(i, 3 * TURN_ANSWERS, 1);
    }
    assert_answered("abcdefghij");
    world.answer_ns = 1000000 / TURN_ANSWERS; /* so that one has it all */
    turn();
    assert_answered("a");
    turn();
    turn();
    assert_answered("bc");
    world.answer_ns /= 4;
    turn();
    assert_answered("defg");
    world.answer_ns = 0;
    turn();
    assert_answered("hijabcdefg"); /* in the order of their coming, each once */
    turn();
    assert_answered("hij");
    turn();
    assert_answered("");
    for (size_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(world.answers[i], 3 * TURN_ANSWERS);
        assert_true(world.reads[i]);
    }
}

/* Or one that floods has sixteen of the dearest. */
static void test_a_millisecond_for_one(void **state)
{
    (void)state;
    world.answer_ns = 600000;
    asks(0, TURN_ANSWERS, 1);
    assert_int_equal(world.answers[0], 2);
    turn();
    assert_int_equal(world.answers[0], 4);
}

/* Whose list is whole while another asks is answered then, and what it asked behind it is handled: the other's request
 * stays what it was. */
static void test_a_request_within_another(void **state)
{
    static const struct http_handlers others = { .handle = handle_and_answer_others };
    static const char get[] = "GET /list HTTP/1.1\r\nHost: u\r\n\r\nGET /next HTTP/1.1\r\nHost: u\r\n\r\n";
    static const char head[] = "HEAD /other HTTP/1.1\r\nHost: u\r\n\r\n";
    (void)state;
    world.http.server.handlers = &others;
    conn_stream(world.clients[0])->on_read(conn_stream(world.clients[0]), get, sizeof get - 1);
    assert_non_null(world.later);
    conn_stream(world.clients[1])->on_read(conn_stream(world.clients[1]), head, sizeof head - 1);
    assert_string_equal(world.methods, "GH");
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_sixteen_answers_a_turn),         CASE(test_eight_kibibytes_a_turn),
        CASE(test_a_millisecond_for_all_together), CASE(test_a_millisecond_for_one),
        CASE(test_a_request_within_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
