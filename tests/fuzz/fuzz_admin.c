/* The operator's side under fuzzed bytes: real sockets, the real loop, a small real catalog, every room behind the
 * door. Its repository and its state lie nowhere, so what would write is refused on the way, by the worker, later.
 *
 * Input: `u` or `t` for the door (Unix, or TCP, where a token is needed), then the bytes of a connection, in which 0xff
 * lets the loop run and 0xfe ends our side. Held: every answer is whole and well formed, every refusal is JSON with
 * code, message and remedy, without a token nobody gets in, and nothing is left behind.
 */
#include "base/log.h"
#include "repo/scan.h"
#include "server/admin_api.h"
#include "server/password_checks.h"
#include "tests/support/whole_fleet.h"
#include "tests/unit/repo/repo_fixture.h"

#include <assert.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RUN       0xff
#define END       0xfe
#define TURNS_MAX 5000

static struct {
    bool ready;
    uv_loop_t loop;
    struct config config;
    struct blob_store blobs;
    struct http_server http, device_http;
    struct device_api device_api;
    struct fleet fleet;
    struct offerings *offerings;
    struct metrics metrics;
    struct trigger trigger;
    struct tokens *tokens;
    struct admin_api api;
    struct admin_door door;
    char output[1 << 20];
    size_t output_bytes;
} world;

/* --- the world ---------------------------------------------------------------------------------------------------- */

static void find_public_url(void *owner, struct public_url *url)
{
    (void)owner;
    *url = (struct public_url){ .url = "http://192.0.2.1:8080" };
}

static void rescan(void *owner)
{
    (void)owner;
    assert(!"nothing can be placed or removed here");
}

static void on_room(void *owner)
{
    (void)owner;
}

static void on_publish(void *link, struct session_message *message)
{
    (void)link;
    (void)message;
    assert(!"the broker is away");
}

static struct catalog *make_catalog(void)
{
    static const struct {
        const char *name;
        struct image_make wish;
    } files[] = { { "truc_0_5_0.ino.d1_mini.bin", { .bytes = 8192 } },
                  { "littlefs_1.0_4M.bin", { .kind = IMAGE_MAKE_LITTLEFS } },
                  { "bad_1_0.ino.bad.bin", { .kind = IMAGE_MAKE_HTML } } };
    struct folder folder;
    struct scan_result result;
    folder_make(&folder);
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        folder_put(&folder, files[i].name, &files[i].wish);
    }
    struct digest_cache *cache = digest_cache_new();
    struct scan_input input = { .root = folder.path, .cache = cache, .settle_ms = 0 };
    enum status status = scan_run(&input, &result);
    assert(status == STATUS_OK && catalog_image_count(result.catalog) == 2);
    (void)status;
    catalog_adopt(result.catalog);
    scan_result_close(&result);
    digest_cache_free(cache);
    folder_remove(&folder, "");
    return result.catalog;
}

static void make_rooms(struct catalog *catalog)
{
    struct publisher_config publisher = { .in_flight_max = 4, .commands_max = 100, .bytes_max = 1u << 20 };
    world.device_api = (struct device_api){
        .sources = { .loop = &world.loop, .catalog = catalog, .fleet = &world.fleet },
        .fleet = &world.fleet,
        .metrics = &world.metrics,
        .passwords = password_checks_new(&world.loop),
    };
    world.config.assignments = assignments_new();
    world.offerings = offerings_new(OFFER_NEWEST_TO_ALL);
    world.trigger = (struct trigger){ .loop = &world.loop,
                                      .catalog = catalog,
                                      .fleet = &world.fleet,
                                      .publisher = publisher_new(&world.loop, &publisher),
                                      .blobs = &world.blobs,
                                      .metrics = &world.metrics,
                                      .announce = *announce_preset("updraft"),
                                      .reboot_ms = 300000,
                                      .find_public_url = find_public_url };
    publisher_connect(world.trigger.publisher, &(struct publisher_link){ on_publish, NULL });
    world.api = (struct admin_api){ .loop = &world.loop,
                                    .config = &world.config,
                                    .catalog = catalog,
                                    .device_api = &world.device_api,
                                    .fleet = &world.fleet,
                                    .trigger = &world.trigger,
                                    .publisher = world.trigger.publisher,
                                    .device_http = &world.device_http,
                                    .blobs = &world.blobs,
                                    .metrics = &world.metrics,
                                    .tokens = world.tokens,
                                    .rescan = rescan,
                                    .find_public_url = find_public_url };
}

static void make_world(void)
{
    struct http_limits limits = {
        .head_ms = 10000, .idle_ms = 30000, .transfer_ms = 60000, .connections_max = 16, .bodies_bytes_max = 1u << 20
    };
    char message[300];
    log_configure(LOG_ERROR, LOG_LOGFMT);
    uv_loop_init(&world.loop);
    snprintf(world.config.repo, sizeof world.config.repo, "/nowhere/firmware");
    enum status status = tokens_load("/nowhere/tokens", &world.tokens, message, sizeof message);
    assert(status == STATUS_OK);
    (void)status;
    blob_store_start(&world.blobs, &world.loop, world.config.repo, 60000, 64u << 20);
    make_rooms(make_catalog());
    world.door = (struct admin_door){ .api = &world.api };
    http_server_init(&world.http, &world.loop, &world.blobs, &admin_handlers, &world.door, &limits);
    world.http.on_room = on_room;
    http_server_init(&world.device_http, &world.loop, &world.blobs, &admin_handlers, &world.door, &limits);
    world.ready = true;
}

/* --- what came back ----------------------------------------------------------------------------------------------- */

static void check_error(const json_t *json)
{
    static const char *const members[] = { "code", "message", "remedy" };
    const json_t *error = json_object_get(json, "error");
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        const char *text = json_string_value(json_object_get(error, members[i]));
        assert(text != NULL && text[0] != '\0');
        (void)text;
    }
}

static void check_body(unsigned status, bool is_json, const char *body, size_t n)
{
    json_t *json = is_json ? json_loadb(body, n, JSON_REJECT_DUPLICATES, NULL) : NULL;
    assert(json != NULL || (status == 200 && body[0] == '#')); /* the metrics alone are none */
    if (status >= 400) {
        check_error(json);
    }
    json_decref(json);
}

/* One answer at `at`. Returns its bytes, 0 where it is not whole. */
static size_t check_answer(const char *at, size_t n)
{
    static const char start[] = "HTTP/1.1 ", length_name[] = "\r\nContent-Length: ";
    const char *end = memmem(at, n, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }
    size_t head_bytes = (size_t)(end + 4 - at);
    assert(head_bytes > sizeof start && memcmp(at, start, sizeof start - 1) == 0);
    unsigned status = (unsigned)strtoul(at + sizeof start - 1, NULL, 10);
    if (status == 100) {
        assert(!world.door.needs_token && head_bytes == strlen("HTTP/1.1 100 Continue\r\n\r\n"));
        return head_bytes;
    }
    assert(status >= 200 && status < 600 && (!world.door.needs_token || status >= 400));
    const char *length = memmem(at, head_bytes, length_name, sizeof length_name - 1);
    assert(length != NULL && memmem(at, head_bytes, "\r\nTransfer-Encoding:", 20) == NULL);
    size_t body_bytes = strtoul(length + sizeof length_name - 1, NULL, 10);
    assert(body_bytes > 0);
    bool to_head = n == head_bytes || at[head_bytes] == 'H'; /* no body begins so: it was asked with HEAD */
    if (to_head || n - head_bytes < body_bytes) {
        return to_head ? head_bytes : 0;
    }
    bool is_json = memmem(at, head_bytes, "\r\nContent-Type: application/json\r\n", 34) != NULL;
    check_body(status, is_json, at + head_bytes, body_bytes);
    return head_bytes + body_bytes;
}

static void check_output(bool ended)
{
    size_t at = 0;
    for (size_t n = 1; at < world.output_bytes && n > 0; at += n) {
        n = check_answer(world.output + at, world.output_bytes - at);
    }
    assert(at == world.output_bytes || !ended || world.output_bytes == sizeof world.output);
}

static void drain(int peer)
{
    static char rest[65536];
    ssize_t n;
    do {
        size_t room = sizeof world.output - world.output_bytes;
        n = recv(peer, room > 0 ? world.output + world.output_bytes : rest, room > 0 ? room : sizeof rest,
                 MSG_DONTWAIT);
        world.output_bytes += n > 0 && room > 0 ? (size_t)n : 0;
    } while (n > 0);
}

/* --- one input ---------------------------------------------------------------------------------------------------- */

static void feed(int peer, const uint8_t *data, size_t size)
{
    size_t begun = 0;
    for (size_t i = 0; i <= size; i++) {
        bool is_mark = i == size || data[i] == RUN || data[i] == END;
        if (is_mark && i > begun && send(peer, data + begun, i - begun, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
            return;
        }
        if (is_mark) {
            begun = i + 1;
            uv_run(&world.loop, UV_RUN_NOWAIT);
            drain(peer);
        }
        if (i < size && data[i] == END) {
            shutdown(peer, SHUT_WR);
            return;
        }
    }
}

/* Ends what the input began, so that the next one finds the world as this one did. */
static void end_rollouts(void)
{
    struct moment now = clock_moment(&world.loop);
    const char *why;
    for (size_t i = 0; i < rollouts_count(world.fleet.rollouts); i++) {
        (void)rollout_abort(rollouts_at(world.fleet.rollouts, i), "the input ended", &now, &why);
    }
    for (int turn = 0; world.trigger.turns.first != NULL || publisher_counts(world.trigger.publisher)->waiting > 0;
         turn++) {
        assert(turn < TURNS_MAX);
        uv_run(&world.loop, UV_RUN_NOWAIT);
    }
    assert(publisher_counts(world.trigger.publisher)->waiting == 0);
    fleet_close(&world.fleet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int pair[2];
    if (!world.ready) {
        make_world();
    }
    if (size == 0) {
        return 0;
    }
    world.output_bytes = 0;
    world.door.needs_token = data[0] == 't';
    whole_fleet_make(&world.fleet, 64, world.config.assignments, world.offerings, &world.trigger);
    int made = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
    assert(made == 0);
    (void)made;
    struct http_conn *conn = http_server_new_conn(&world.http, NULL);
    http_conn_open(conn, pair[0], NULL);
    http_conn_start(conn);
    feed(pair[1], data + 1, size - 1);
    for (int turn = 0; turn < 10 || world.api.changes != NULL; turn++) {
        assert(turn < TURNS_MAX);
        uv_run(&world.loop, world.api.changes != NULL ? UV_RUN_ONCE : UV_RUN_NOWAIT);
        drain(pair[1]);
    }
    check_output(world.http.connections == 0);
    close(pair[1]);
    for (int turn = 0; world.http.connections > 0 || world.api.changes != NULL; turn++) {
        assert(turn < TURNS_MAX);
        uv_run(&world.loop, UV_RUN_ONCE);
    }
    assert(world.http.bodies_bytes == 0);
    end_rollouts();
    return 0;
}
