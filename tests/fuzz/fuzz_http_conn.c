/* A whole connection under fuzzed bytes: real sockets, the real loop, a real image, the device API behind it.
 *
 * Input: pieces, each led by a byte: its low 7 bits are the piece's length (0 = end our side), its high bit lets the
 * loop run before the next piece. Held: every answer is well formed, and no connection outlives its peer. */
#include "base/log.h"
#include "repo/scan.h"
#include "server/device_api.h"
#include "server/http_server.h"
#include "server/password_checks.h"
#include "server/router.h"
#include "tests/support/image_make.h"
#include "tests/support/whole_fleet.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    bool ready;
    uv_loop_t loop;
    struct blob_store blobs;
    struct http_server http;
    struct device_api api;
    struct fleet fleet;
    struct metrics metrics;
    char output[1 << 18];
    size_t output_bytes;
} world;

static void handle(void *owner, const struct http_request *request, struct stream *stream, struct http_answer *answer)
{
    (void)owner;
    router_answer(&world.api, request, stream, answer);
}

static void begun(void *owner, struct delivery *delivery)
{
    (void)owner;
    device_api_begun(&world.api, delivery);
}

static void delivered(void *owner, struct delivery *delivery, const struct delivery_outcome *outcome)
{
    (void)owner;
    assert(outcome->bytes <= outcome->wanted);
    device_api_delivered(&world.api, delivery, outcome);
}

static void unavailable(void *owner, const struct image *image, const struct delivery *delivery, enum status status,
                        struct http_answer *answer)
{
    (void)owner;
    (void)image;
    (void)delivery;
    (void)status;
    (void)answer;
    assert(!"the image is there");
}

static void on_room(void *owner)
{
    (void)owner;
}

static const struct http_handlers handlers = { handle, begun, delivered, unavailable, NULL };

static char folder[] = "/tmp/updraft-fuzz-XXXXXX", path[64]; /* the repository, and its image */

static void remove_repository(void)
{
    unlink(path);
    rmdir(folder);
}

static void write_image(void)
{
    struct image_make options = { .kind = IMAGE_MAKE_ESP8266, .bytes = 8192 };
    size_t n;
    uint8_t *bytes = image_make(&options, &n);
    assert(bytes != NULL);
    snprintf(path, sizeof path, "%s/truc_0_5_0.ino.d1_mini.bin", folder);
    FILE *file = fopen(path, "wb");
    assert(file != NULL && fwrite(bytes, 1, n, file) == n);
    fclose(file);
    free(bytes);
}

static void make_world(void)
{
    struct scan_result result;
    struct http_limits limits = { .head_ms = 10000, .idle_ms = 30000, .transfer_ms = 60000, .connections_max = 16 };
    char *made = mkdtemp(folder);
    assert(made != NULL);
    (void)made;
    atexit(remove_repository);
    write_image();
    log_configure(LOG_ERROR, LOG_LOGFMT);
    uv_loop_init(&world.loop);
    struct digest_cache *cache = digest_cache_new();
    struct scan_input input = { .root = folder, .cache = cache, .settle_ms = 0 };
    enum status status = scan_run(&input, &result);
    assert(status == STATUS_OK && catalog_image_count(result.catalog) == 1);
    catalog_adopt(result.catalog);
    scan_result_close(&result);
    digest_cache_free(cache);
    blob_store_start(&world.blobs, &world.loop, folder, 60000, 64u << 20);
    world.api = (struct device_api){
        .passwords = password_checks_new(&world.loop),
        .sources = { .loop = &world.loop, .catalog = result.catalog, .fleet = &world.fleet },
        .fleet = &world.fleet,
        .metrics = &world.metrics,
    };
    device_api_open(&world.api);
    whole_fleet_make(&world.fleet, 64, assignments_new(), offerings_new(OFFER_NEWEST_TO_ALL), NULL);
    http_server_init(&world.http, &world.loop, &world.blobs, &handlers, NULL, &limits);
    world.http.on_room = on_room;
    world.ready = true;
}

/* Takes what the server sent, so that its socket never fills for good. */
static void drain(int peer)
{
    ssize_t n;
    while ((n = recv(peer, world.output + world.output_bytes, sizeof world.output - world.output_bytes, MSG_DONTWAIT)) >
           0) {
        world.output_bytes += (size_t)n;
        if (world.output_bytes == sizeof world.output) {
            world.output_bytes = sizeof world.output / 2; /* enough was checked */
        }
    }
}

static void check_output(void)
{
    static const char start[] = "HTTP/1.1 ";
    if (world.output_bytes == 0) {
        return;
    }
    assert(world.output_bytes >= sizeof start - 1 && memcmp(world.output, start, sizeof start - 1) == 0);
    assert(memmem(world.output, world.output_bytes, "\r\n\r\n", 4) != NULL);
    assert(memmem(world.output, world.output_bytes, "\r\nTransfer-Encoding:", 20) == NULL);
}

static void feed(int peer, const uint8_t *data, size_t size)
{
    bool ended = false;
    for (size_t i = 0; i < size && !ended;) {
        size_t n = data[i] & 0x7f;
        bool run = (data[i++] & 0x80) != 0;
        n = n < size - i ? n : size - i;
        if (n == 0) {
            shutdown(peer, SHUT_WR);
            ended = true;
        } else if (send(peer, data + i, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
            ended = true;
        }
        i += n;
        if (run) {
            uv_run(&world.loop, UV_RUN_NOWAIT);
            drain(peer);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int pair[2];
    if (!world.ready) {
        make_world();
    }
    world.output_bytes = 0;
    int made = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
    assert(made == 0);
    struct http_conn *conn = http_server_new_conn(&world.http, NULL);
    http_conn_open(conn, pair[0], NULL);
    /* The first piece is there when the connection comes, as with most devices. */
    size_t first = size == 0 ? 0 : 1u + (data[0] & 0x7f);
    first = first < size ? first : size;
    feed(pair[1], data, first);
    http_conn_start(conn);
    feed(pair[1], data + first, size - first);
    for (int turn = 0; turn < 20; turn++) {
        bool loads = world.http.transfers > 0 && world.output_bytes == 0; /* the image; not: looks whether it arrived */
        uv_run(&world.loop, loads && turn < 3 ? UV_RUN_ONCE : UV_RUN_NOWAIT);
        drain(pair[1]);
    }
    check_output();
    close(pair[1]);
    /* Whatever it was doing, it ends with its peer; only an image being loaded is waited for, and
     * the next look at whether all has arrived. */
    for (int turn = 0; world.http.connections > 0; turn++) {
        assert(turn < 100);
        uv_run(&world.loop, UV_RUN_ONCE);
    }
    return 0;
}
