/* Lists that take several turns of the loop, asked for over connections whose streams, and whose clock, are the test's
 * own: at each look at the clock more than half a slice is over. */
#include "server/admin_list.h"

#include "tests/support/whole_fleet.h"
#include "tests/unit/repo/catalog_fixture.h"
#include "tests/unit/server/http_fixture.h"

#define LOOK_NS  600000
#define CLIENTS  2
#define TEXT_MAX 65536

static struct {
    uint64_t now_ns;
    struct http_fixture http;
    struct http_conn *clients[CLIENTS];
    char said[CLIENTS][TEXT_MAX];
    struct metrics metrics;
    struct trigger trigger;
    struct fleet fleet;
    struct admin_api api;
} world;

/* In place of libuv's, for the server: the loop's own time is another. */
uint64_t uv_hrtime(void)
{
    return world.now_ns += LOOK_NS;
}

static size_t client_of(const struct stream *stream)
{
    return &world.clients[0]->carrier.stream == stream ? 0 : 1;
}

static void handle(void *owner, const struct http_request *request, struct stream *stream, struct http_answer *answer)
{
    struct admin_call call = { .api = &world.api, .request = request, .answer = answer };
    (void)owner, (void)stream;
    (slice_is(request->path, "/firmware") ? admin_get_firmware : admin_get_rollouts)(&call);
}

static const struct http_handlers handlers = { .handle = handle };

static bool read_start(struct stream *stream)
{
    (void)stream;
    return true;
}

static void read_stop(struct stream *stream)
{
    (void)stream;
}

static enum stream_sent send_all(struct stream *stream, const char *head, size_t head_bytes, const struct blob *body,
                                 uint64_t first, uint64_t length, bool last)
{
    (void)body, (void)first, (void)length, (void)last;
    assert_true(head_bytes < TEXT_MAX);
    memcpy(world.said[client_of(stream)], head, head_bytes);
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
    world.trigger = (struct trigger){ .loop = &world.http.loop, .fleet = &world.fleet, .metrics = &world.metrics };
    whole_fleet_make(&world.fleet, 100, NULL, NULL, NULL);
    world.api = (struct admin_api){ .loop = &world.http.loop,
                                    .fleet = &world.fleet,
                                    .trigger = &world.trigger,
                                    .device_http = &world.http.server,
                                    .metrics = &world.metrics };
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_fixture_abort(&world.http);
    turns_finish(&world.trigger.turns);
    turns_close(&world.trigger.turns);
    http_fixture_close(&world.http);
    fleet_close(&world.fleet);
    return 0;
}

/* The first slice is over when it returns, and the list is not. */
static void ask(size_t client, const char *path)
{
    char request[100];
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: u\r\n\r\n", path);
    struct stream *stream = conn_stream(world.clients[client]);
    stream->on_read(stream, request, (size_t)n);
    assert_string_equal(world.said[client], "");
    assert_non_null(world.trigger.turns.first);
}

static void turn(void)
{
    uv_run(&world.http.loop, UV_RUN_NOWAIT);
}

static void finish(void)
{
    for (int i = 0; i < 100 && world.trigger.turns.first != NULL; i++) {
        turn();
    }
    assert_null(world.trigger.turns.first);
}

/* Its members by one text of each, one after the other; the answer is whole. */
static void assert_listed(size_t client, const char *list, const char *by, const char *expected)
{
    char texts[400] = "";
    const char *body = strstr(world.said[client], "\r\n\r\n");
    json_t *json = body != NULL ? json_loads(body + 4, 0, NULL) : NULL, *members = json_object_get(json, list), *member;
    assert_non_null(json);
    size_t i, used = 0;
    json_array_foreach(members, i, member)
    {
        const char *text = json_string_value(json_object_get(member, by));
        used += (size_t)snprintf(texts + used, sizeof texts - used, "%s%s", i > 0 ? " " : "", text);
    }
    assert_string_equal(texts, expected);
    assert_int_equal(json_integer_value(json_object_get(json, "total")), json_array_size(members));
    json_decref(json);
}

/* A catalog of five, asked for by one client; and the newest is another. Returns an image of the five, counted. */
static struct image *ask_for_five(size_t client)
{
    world.api.catalog = CATALOG("a/1.bin", "b/1.bin", "c/1.bin", "d/1.bin", "e/1.bin");
    struct image *image = catalog_image_at(world.api.catalog, 4);
    image_ref(image);
    ask(client, "/firmware");
    catalog_unref(world.api.catalog);
    world.api.catalog = CATALOG("z/1.bin");
    return image;
}

static void test_files_are_of_one_catalog(void **state)
{
    (void)state;
    struct image *image = ask_for_five(0);
    turn();
    assert_string_equal(world.said[0], "");
    assert_int_equal(image->refs, 2);
    finish();
    assert_listed(0, "images", "type", "a b c d e");
    assert_int_equal(image->refs, 1);
    image_unref(image);
    catalog_unref(world.api.catalog);
}

/* Else who asks and leaves, again and again, makes work without end, and has everybody wait behind it. */
static void test_nobody_waits_for_it_any_more(void **state)
{
    (void)state;
    struct image *image = ask_for_five(0);
    ask(1, "/firmware?type=z");
    http_conn_close(world.clients[0], "");
    turn(); /* a slice has room for two members, and this one for both lists */
    assert_null(world.trigger.turns.first);
    assert_int_equal(image->refs, 1);
    assert_listed(1, "images", "type", "z");
    assert_string_equal(world.said[0], "");
    image_unref(image);
    catalog_unref(world.api.catalog);
}

static const struct rollout *begin(const char *type)
{
    static unsigned count;
    char id[ANNOUNCE_ID_SIZE];
    struct moment now = clock_moment(&world.http.loop);
    struct rollout_order order = { .percent = 100, .max_failures = 20, .timeout_ms = 60000 };
    snprintf(order.target.type, sizeof order.target.type, "%s", type);
    snprintf(order.target.version, sizeof order.target.version, "1");
    snprintf(id, sizeof id, "%016u", ++count);
    struct rollout *rollout = rollouts_begin(world.fleet.rollouts, id, &order, &now);
    assert_non_null(rollout);
    return rollout;
}

/* It moves all others by one place. */
static void test_a_rollout_begins_meanwhile(void **state)
{
    (void)state;
    for (char name[] = "a"; name[0] <= 'e'; name[0]++) {
        begin(name);
    }
    ask(0, "/rollouts");
    begin("f");
    finish();
    assert_listed(0, "rollouts", "type", "e d c b a");
}

static void test_a_rollout_is_forgotten_meanwhile(void **state)
{
    (void)state;
    char old[ANNOUNCE_ID_SIZE];
    memcpy(old, begin("a")->id, sizeof old); /* over when the next one takes its place */
    for (char name[] = "a"; name[0] <= 'e'; name[0]++) {
        begin(name);
    }
    ask(0, "/rollouts");
    for (unsigned i = 6; i <= ROLLOUTS_MAX; i++) {
        char name[8];
        snprintf(name, sizeof name, "%u", i);
        begin(name);
    }
    assert_null(rollouts_find(world.fleet.rollouts, slice_of(old)));
    finish();
    assert_listed(0, "rollouts", "type", "e d c b a");
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_files_are_of_one_catalog),
        CASE(test_nobody_waits_for_it_any_more),
        CASE(test_a_rollout_begins_meanwhile),
        CASE(test_a_rollout_is_forgotten_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
