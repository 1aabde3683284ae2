/* Orders and their messages, with a real repository, a real publisher and a link that the test moves. */
#ifndef TESTS_UNIT_SERVER_TRIGGER_FIXTURE_H
#define TESTS_UNIT_SERVER_TRIGGER_FIXTURE_H

#include "server/trigger.h"

#include "base/log.h"
#include "repo/scan.h"
#include "server/survey.h"
#include "tests/support/whole_fleet.h"
#include "tests/unit/repo/repo_fixture.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define PATIENCE_MS 30000
#define SENT_MAX    64
#define URL         "http://192.0.2.1:8080"
#define MINUTE_MS   60000

struct sent {
    char topic[SESSION_TOPIC_MAX + 1];
    char payload[2048]; /* the beginning of it */
    size_t payload_bytes;
    bool is_image; /* the bytes of door/2.0.bin */
    bool retain;
    uint32_t expiry_s;
};

static struct world {
    struct folder folder;
    uv_loop_t loop;
    uv_timer_t tick; /* keeps the loop turning */
    struct catalog *catalog;
    struct blob_store blobs;
    struct publisher *publisher;
    struct session_view view;
    struct metrics metrics;
    struct trigger trigger;
    struct fleet fleet;
    struct assignments *assignments;
    struct offerings *offerings;
    struct public_url public_url;
    uint8_t *image; /* door/2.0.bin */
    size_t image_bytes;
    struct session_message *on_way[SENT_MAX]; /* in the order of their publishing */
    size_t on_way_count;
    struct sent sent[SENT_MAX];
    size_t sent_count;
    bool publisher_closed, blobs_stopped;
} world;

static inline void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static inline void on_publish(void *link, struct session_message *message)
{
    struct sent *sent = &world.sent[world.sent_count++];
    assert_ptr_equal(link, &world);
    assert_true(world.sent_count <= SENT_MAX && world.view.state == SESSION_CONNECTED);
    snprintf(sent->topic, sizeof sent->topic, "%s", message->topic);
    snprintf(sent->payload, sizeof sent->payload, "%.*s", (int)message->payload_bytes, (const char *)message->payload);
    sent->payload_bytes = message->payload_bytes;
    sent->is_image =
        message->payload_bytes == world.image_bytes && memcmp(message->payload, world.image, world.image_bytes) == 0;
    sent->retain = message->retain;
    sent->expiry_s = message->expiry_s;
    world.on_way[world.on_way_count++] = message;
}

static inline void find_public_url(void *owner, struct public_url *url)
{
    (void)owner;
    *url = world.public_url;
}

/* Looks at the folder as it is now; the catalog before is let go. */
static inline void scan_again(uint64_t settle_ms)
{
    struct scan_result result;
    struct digest_cache *cache = digest_cache_new();
    struct scan_input input = { .root = world.folder.path, .cache = cache, .settle_ms = settle_ms };
    assert_int_equal(scan_run(&input, &result), STATUS_OK);
    catalog_adopt(result.catalog);
    scan_result_close(&result);
    digest_cache_free(cache);
    if (world.catalog != NULL) {
        catalog_unref(world.catalog);
    }
    world.catalog = result.catalog;
    world.trigger.catalog = result.catalog;
}

static inline void fill_folder(void)
{
    static const struct {
        const char *path;
        struct image_make wish;
    } files[] = {
        { "door/1.0+b.bin", { .seed = 1 } },
        { "door/2.0.bin", { .seed = 2, .bytes = 20000 } },
        { "door/2.0.bin.gz", { .seed = 2, .bytes = 20000, .gzip = true } },
        { "door/1.5.fs.bin", { .kind = IMAGE_MAKE_LITTLEFS } },
        { "hut/1.0.fs.bin", { .kind = IMAGE_MAKE_LITTLEFS, .seed = 3 } },
        { "bad/1.0.bin", { .kind = IMAGE_MAKE_HTML } },
        { "DOOR-7.bin", { .seed = 4 } },
    };
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        folder_put(&world.folder, files[i].path, &files[i].wish);
    }
    world.image = image_make(&files[1].wish, &world.image_bytes);
}

static inline void start_with(const char *preset, size_t commands_max)
{
    struct publisher_config config = { .in_flight_max = 4, .commands_max = commands_max, .bytes_max = 1u << 20 };
    memset(&world, 0, sizeof world);
    log_configure(LOG_ERROR, LOG_LOGFMT);
    folder_make(&world.folder);
    fill_folder();
    uv_loop_init(&world.loop);
    uv_timer_init(&world.loop, &world.tick);
    uv_timer_start(&world.tick, on_tick, 1, 1);
    blob_store_start(&world.blobs, &world.loop, world.folder.path, MINUTE_MS, 64u << 20);
    world.publisher = publisher_new(&world.loop, &config);
    publisher_connect(world.publisher, &(struct publisher_link){ on_publish, &world });
    world.view = (struct session_view){ .state = SESSION_WAITING, .receive_maximum = 65535 };
    snprintf(world.public_url.url, sizeof world.public_url.url, URL);
    world.trigger = (struct trigger){ .loop = &world.loop,
                                      .fleet = &world.fleet,
                                      .publisher = world.publisher,
                                      .blobs = &world.blobs,
                                      .metrics = &world.metrics,
                                      .announce = *announce_preset(preset),
                                      .expires_ms = 3600000,
                                      .reboot_ms = 5 * MINUTE_MS,
                                      .find_public_url = find_public_url };
    world.assignments = assignments_new();
    world.offerings = offerings_new(OFFER_NEWEST_TO_ALL);
    whole_fleet_make(&world.fleet, 100000, world.assignments, world.offerings, &world.trigger);
    scan_again(0);
}

static inline void start(const char *preset)
{
    start_with(preset, 100);
}

static inline void turn(void)
{
    for (int i = 0; i < 4; i++) {
        uv_run(&world.loop, UV_RUN_NOWAIT);
    }
}

static inline void run_until(const bool *holds)
{
    uint64_t end_ms = uv_hrtime() / 1000000 + PATIENCE_MS;
    while (!*holds) {
        uv_run(&world.loop, UV_RUN_ONCE);
        assert_true(uv_hrtime() / 1000000 < end_ms);
    }
}

/* Until the image is loaded, or cannot be. */
static inline void wait_for_image(void)
{
    for (int i = 0; i < PATIENCE_MS && world.blobs.bytes_used == 0; i++) {
        uv_sleep(1);
    }
    for (int i = 0; i < 300; i++) {
        uv_run(&world.loop, UV_RUN_ONCE); /* a millisecond each, at most */
    }
}

static inline void set_link(enum session_state state)
{
    world.view.state = state;
    world.view.connects += state == SESSION_CONNECTED;
    publisher_on_state(world.publisher, &world.view);
}

/* The oldest message on its way comes back. */
static inline void answer(enum status status)
{
    assert_true(world.on_way_count > 0);
    struct session_message *message = world.on_way[0];
    world.on_way_count--;
    memmove(world.on_way, world.on_way + 1, world.on_way_count * sizeof world.on_way[0]);
    message->status = status;
    if (status == STATUS_DENIED) {
        snprintf(message->why, sizeof message->why, "not authorized");
    }
    publisher_on_published(world.publisher, message);
    turn();
}

static inline void answer_all(void)
{
    while (world.on_way_count > 0) {
        answer(STATUS_OK);
    }
}

static inline void on_publisher_closed(void *owner)
{
    (void)owner;
    world.publisher_closed = true;
    world.trigger.publisher = NULL;
}

static inline void on_blobs_stopped(struct blob_store *store)
{
    (void)store;
    world.blobs_stopped = true;
}

static inline void close_publisher(void)
{
    world.view.state = SESSION_STOPPED;
    publisher_on_state(world.publisher, &world.view);
    while (world.on_way_count > 0) {
        answer(STATUS_IO); /* as a session that stops gives them back */
    }
    publisher_close(world.publisher, on_publisher_closed, NULL);
    run_until(&world.publisher_closed);
}

/* In the order of the app's. */
static inline void stop(void)
{
    if (!world.publisher_closed) {
        close_publisher();
    }
    trigger_close(&world.trigger);
    assert_null(world.trigger.dispatches);
    catalog_unref(world.catalog);
    blob_store_stop(&world.blobs, on_blobs_stopped);
    run_until(&world.blobs_stopped);
    uv_close((uv_handle_t *)&world.tick, NULL);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world.loop), 0);
    fleet_close(&world.fleet);
    offerings_free(world.offerings);
    assignments_free(world.assignments);
    free(world.image);
    folder_remove(&world.folder, "");
}

static inline struct trigger_order order_of(const char *type)
{
    return (
        struct trigger_order){ .type = slice_of(type), .percent = 100, .max_failures = 20, .timeout_ms = MINUTE_MS };
}

static inline struct trigger_order order_to(const struct mac *devices, size_t count)
{
    struct trigger_order order = order_of("door");
    order.devices = devices;
    order.device_count = count;
    return order;
}

static inline struct rollout *begin(const struct trigger_order *order)
{
    uint64_t ticket;
    struct trigger_problem problem;
    struct rollout *rollout = trigger_begin(&world.trigger, order, &ticket, &problem);
    if (rollout == NULL) {
        fail_msg("%s: %s", trigger_refusal_word(problem.refusal), problem.message);
    }
    return rollout;
}

static inline struct rollout *begin_all(void)
{
    struct trigger_order order = order_of("door");
    return begin(&order);
}

static const struct mac macs[] = { { { 0x5c, 0xcf, 0x7f, 0xb1, 0xe0, 0x42 } },
                                   { { 0x5c, 0xcf, 0x7f, 0xb1, 0xe0, 0x43 } },
                                   { { 0x5c, 0xcf, 0x7f, 0xb1, 0xe0, 0xab } } };

/* As if so much time had passed. */
static inline void tick_in(uint64_t ms)
{
    struct moment then = clock_moment(&world.loop);
    then.ms += ms;
    rollouts_tick(world.fleet.rollouts, &then);
}

/* A device as its check-ins left it; run_md5 NULL = it did not say what it runs. */
static inline struct device *saw_device(const struct mac *mac, const char *type, const uint8_t *run_md5)
{
    struct device *device = devices_take(world.fleet.devices, mac, slice_of(type));
    assert_non_null(device);
    device->has_md5 = run_md5 != NULL;
    if (run_md5 != NULL) {
        memcpy(device->md5, run_md5, sizeof device->md5);
    }
    return device;
}

static inline uint64_t results(enum publish_result result)
{
    return publisher_counts(world.publisher)->results[result];
}

/* --- a fleet -------------------------------------------------------------------------------------------------------
 */

/* What a plan finds in the fleet. */
static struct seen {
    unsigned times;
    size_t known, current, notes;
    bool suits_type;
    char note[8][700];
} seen;

static inline void on_note(void *owner, const char *sentence)
{
    (void)owner;
    assert_true(seen.notes < COUNT_OF(seen.note));
    snprintf(seen.note[seen.notes++], sizeof seen.note[0], "%s", sentence);
}

static inline void on_surveyed(void *owner, const struct survey *survey)
{
    assert_ptr_equal(owner, &world);
    seen.times++;
    seen.known = survey->known;
    seen.current = survey->current;
    seen.suits_type = survey_suits_type(survey);
    survey_say(survey, on_note, NULL);
}

static inline void look_over(const struct trigger_order *order)
{
    struct trigger_plan plan;
    struct trigger_problem problem;
    seen = (struct seen){ .times = 0 };
    assert_true(trigger_plan(&world.trigger, order, &plan, &problem));
    survey_run(&world.trigger, order, &plan, on_surveyed, &world);
}

static inline struct mac mac_of(uint32_t number)
{
    return (struct mac){ { 0x5c, 0xcf, (uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                           (uint8_t)number } };
}

static inline void turn_until_idle(void)
{
    for (int i = 0; i < PATIENCE_MS && world.trigger.turns.first != NULL; i++) {
        uv_run(&world.loop, UV_RUN_NOWAIT);
    }
    assert_null(world.trigger.turns.first);
}

#endif
