/* From an order to messages and to what becomes of them: with a real repository, a real publisher and a link that the
 * test moves. What makes it hard is the time between: the broker is away, the image is still being loaded, a newer
 * order comes, the catalog changes; a command must neither be lost, nor go out when nobody wants it any more, nor be
 * touched when it is gone (the sanitizers look).
 */
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

/* --- fixture ------------------------------------------------------------------------------------------------------ */

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

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void on_publish(void *link, struct session_message *message)
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

static void find_public_url(void *owner, struct public_url *url)
{
    (void)owner;
    *url = world.public_url;
}

/* Looks at the folder as it is now; the catalog before is let go. */
static void scan_again(uint64_t settle_ms)
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

static void fill_folder(void)
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

static void start_with(const char *preset, size_t commands_max)
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

static void start(const char *preset)
{
    start_with(preset, 100);
}

static void turn(void)
{
    for (int i = 0; i < 4; i++) {
        uv_run(&world.loop, UV_RUN_NOWAIT);
    }
}

static void run_until(const bool *holds)
{
    uint64_t end_ms = uv_hrtime() / 1000000 + PATIENCE_MS;
    while (!*holds) {
        uv_run(&world.loop, UV_RUN_ONCE);
        assert_true(uv_hrtime() / 1000000 < end_ms);
    }
}

/* Until the image is loaded, or cannot be. */
static void wait_for_image(void)
{
    for (int i = 0; i < PATIENCE_MS && world.blobs.bytes_used == 0; i++) {
        uv_sleep(1);
    }
    for (int i = 0; i < 300; i++) {
        uv_run(&world.loop, UV_RUN_ONCE); /* a millisecond each, at most */
    }
}

static void set_link(enum session_state state)
{
    world.view.state = state;
    world.view.connects += state == SESSION_CONNECTED;
    publisher_on_state(world.publisher, &world.view);
}

/* The oldest message on its way comes back. */
static void answer(enum status status)
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

static void answer_all(void)
{
    while (world.on_way_count > 0) {
        answer(STATUS_OK);
    }
}

static void on_publisher_closed(void *owner)
{
    (void)owner;
    world.publisher_closed = true;
    world.trigger.publisher = NULL;
}

static void on_blobs_stopped(struct blob_store *store)
{
    (void)store;
    world.blobs_stopped = true;
}

static void close_publisher(void)
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
static void stop(void)
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
    whole_fleet_drop(&world.fleet);
    offerings_free(world.offerings);
    assignments_free(world.assignments);
    free(world.image);
    folder_remove(&world.folder, "");
}

static struct trigger_order order_of(const char *type)
{
    return (
        struct trigger_order){ .type = slice_of(type), .percent = 100, .max_failures = 20, .timeout_ms = MINUTE_MS };
}

static struct trigger_order order_to(const struct mac *devices, size_t count)
{
    struct trigger_order order = order_of("door");
    order.devices = devices;
    order.device_count = count;
    return order;
}

static struct rollout *begin(const struct trigger_order *order)
{
    uint64_t ticket;
    struct trigger_problem problem;
    struct rollout *rollout = trigger_begin(&world.trigger, order, &ticket, &problem);
    if (rollout == NULL) {
        fail_msg("%s: %s", trigger_refusal_word(problem.refusal), problem.message);
    }
    return rollout;
}

static struct rollout *begin_all(void)
{
    struct trigger_order order = order_of("door");
    return begin(&order);
}

static const struct mac macs[] = { { { 0x5c, 0xcf, 0x7f, 0xb1, 0xe0, 0x42 } },
                                   { { 0x5c, 0xcf, 0x7f, 0xb1, 0xe0, 0x43 } },
                                   { { 0x5c, 0xcf, 0x7f, 0xb1, 0xe0, 0xab } } };

/* As if so much time had passed. */
static void tick_in(uint64_t ms)
{
    struct moment then = clock_moment(&world.loop);
    then.ms += ms;
    rollouts_tick(world.fleet.rollouts, &then);
}

/* A device as its check-ins left it; run_md5 NULL = it did not say what it runs. */
static struct device *saw_device(const struct mac *mac, const char *type, const uint8_t *run_md5)
{
    struct device *device = devices_take(world.fleet.devices, mac, slice_of(type));
    assert_non_null(device);
    device->has_md5 = run_md5 != NULL;
    if (run_md5 != NULL) {
        memcpy(device->md5, run_md5, sizeof device->md5);
    }
    return device;
}

static uint64_t results(enum publish_result result)
{
    return publisher_counts(world.publisher)->results[result];
}

/* --- what is said ------------------------------------------------------------------------------------------------- */

static void assert_member(json_t *json, const char *name, const char *expected)
{
    assert_string_equal(json_string_value(json_object_get(json, name)), expected);
}

/* Else a device would be told of another image than the one that it can fetch. */
static void test_command_to_a_type(void **state)
{
    (void)state;
    char md5[33], id[ANNOUNCE_ID_SIZE];
    start("updraft");
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_of("door");
    order.window_s = 90;
    struct rollout *rollout = begin(&order);
    assert_int_equal(world.sent_count, 1);
    assert_string_equal(world.sent[0].topic, "updraft/door/update");
    assert_true(!world.sent[0].retain && world.sent[0].expiry_s == 3600);
    json_t *json = json_loads(world.sent[0].payload, 0, NULL);
    assert_non_null(json);
    hex_encode(catalog_find_path(world.catalog, slice_of("door/2.0.bin"))->build.facts.md5, 16, md5);
    rollout_command_id(rollout, NULL, 1, id);
    assert_member(json, "id", id);
    assert_member(json, "version", "2.0");
    assert_member(json, "url", URL "/update/door");
    assert_member(json, "md5", md5);
    assert_member(json, "mode", "sketch");
    assert_int_equal(json_integer_value(json_object_get(json, "size")), world.image_bytes);
    assert_int_equal(json_integer_value(json_object_get(json, "window_s")), 90);
    assert_int_equal(json_object_size(json), 7);
    json_decref(json);
    assert_int_equal(rollout->acknowledged, 0); /* handed over is not acknowledged */
    answer(STATUS_OK);
    assert_true(rollout->state == ROLLOUT_RUNNING && rollout->acknowledged == 1);
    assert_int_equal(world.metrics.histograms[METRIC_HISTOGRAM_COMMAND_SECONDS].count, 1);
    tick_in(3 * MINUTE_MS); /* nobody came */
    assert_int_equal(rollout->state, ROLLOUT_DONE);
    stop();
}

/* Else thousands that nobody knew, and nobody counted, come all at once. */
static void test_command_to_those_whom_nobody_knows(void **state)
{
    (void)state;
    start("updraft");
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_of("door");
    const struct rollout *rollout = begin(&order);
    assert_int_equal(rollout->order.window_s, ROLLOUT_UNKNOWN_WINDOW_S);
    json_t *json = json_loads(world.sent[0].payload, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(json, "window_s")), ROLLOUT_UNKNOWN_WINDOW_S);
    json_decref(json);
    stop();
}

static void test_command_to_devices(void **state)
{
    (void)state;
    start("updraft");
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(macs, 3);
    struct rollout *rollout = begin(&order);
    assert_string_equal(world.sent[0].topic, "updraft/door/5ccf7fb1e042/update");
    assert_string_equal(world.sent[2].topic, "updraft/door/5ccf7fb1e0ab/update");
    assert_true(rollout->commands == 3 && rollout->members == 3 && rollout->order.named);
    answer(STATUS_OK);
    answer(STATUS_OK);
    assert_int_equal(rollout->acknowledged, 2);
    answer(STATUS_OK);
    assert_true(rollout->state == ROLLOUT_RUNNING && rollout->acknowledged == 3);
    stop();
}

/* Upgrade before the broker has OtaUrl would have the device fetch from the address that it had before. */
static void test_tasmota(void **state)
{
    (void)state;
    start("tasmota");
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(&macs[2], 1);
    struct rollout *rollout = begin(&order);
    assert_int_equal(world.sent_count, 1);
    assert_string_equal(world.sent[0].topic, "cmnd/tasmota_B1E0AB/OtaUrl");
    assert_string_equal(world.sent[0].payload, URL "/update/door");
    answer(STATUS_OK);
    assert_int_equal(world.sent_count, 2);
    assert_string_equal(world.sent[1].topic, "cmnd/tasmota_B1E0AB/Upgrade");
    assert_string_equal(world.sent[1].payload, "1");
    assert_int_equal(rollout->acknowledged, 0);
    answer(STATUS_OK);
    assert_true(rollout->state == ROLLOUT_RUNNING && rollout->acknowledged == 1);
    stop();
}

/* The bytes must be the file's, whole, and those that the topic's MD5 speaks of. */
static void test_homie(void **state)
{
    (void)state;
    char topic[200] = "homie/5ccf7fb1e042/$implementation/ota/firmware/";
    start("homie");
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(macs, 3);
    struct rollout *rollout = begin(&order);
    assert_int_equal(world.sent_count, 0);
    wait_for_image();
    assert_int_equal(world.sent_count, 3);
    hex_encode(catalog_find_path(world.catalog, slice_of("door/2.0.bin"))->build.facts.md5, 16, topic + strlen(topic));
    assert_string_equal(world.sent[0].topic, topic);
    assert_true(world.sent[0].is_image && world.sent[1].is_image && world.sent[2].is_image);
    answer_all();
    assert_true(rollout->state == ROLLOUT_RUNNING && rollout->acknowledged == 3);
    begin(&order); /* now the image is in memory: sent from within the call */
    assert_int_equal(world.sent_count, 6);
    answer_all();
    stop();
}

/* A named version stands in the address, as an address can carry it; the newest does not. */
static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *version, *url, *said;
        bool fs;
    } rows[] = {
        { NULL, URL "/update/door", "2.0", false },
        { "2.0", URL "/update/door?version=2.0", "2.0", false },
        { "2_0", URL "/update/door?version=2.0", "2.0", false }, /* in the file's own spelling */
        { "1.0+b", URL "/update/door?version=1.0%2Bb", "1.0+b", false },
        { NULL, URL "/update/door", "1.5", true },
    };
    start("updraft");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct trigger_order order = order_of("door");
        struct trigger_plan plan;
        struct trigger_problem problem;
        order.version = rows[i].version;
        order.fs = rows[i].fs;
        assert_true(trigger_plan(&world.trigger, &order, &plan, &problem));
        assert_string_equal(plan.url, rows[i].url);
        assert_string_equal(plan.target.version, rows[i].said);
        assert_int_equal(plan.target.fs, rows[i].fs);
    }
    assert_int_equal(rollouts_count(world.fleet.rollouts), 0);
    stop();
}

/* The compressed form is the same build: a device that was sent either is confirmed by the same digests. */
static void test_both_forms_are_the_target(void **state)
{
    (void)state;
    start("updraft");
    struct rollout *rollout = begin_all();
    const struct rollout_target *target = &rollout->order.target;
    assert_string_equal(target->file, "door/2.0.bin");
    assert_int_equal(target->image_count, 2);
    assert_int_equal(target->run_md5_count, 4); /* one a flash mode, not eight */
    assert_int_equal(target->bytes, world.image_bytes);
    stop();
}

/* What a plan finds in the fleet. */
static struct seen {
    unsigned times;
    size_t known, current, notes;
    bool suits_type;
    char note[8][700];
} seen;

static void on_note(void *owner, const char *sentence)
{
    (void)owner;
    assert_true(seen.notes < COUNT_OF(seen.note));
    snprintf(seen.note[seen.notes++], sizeof seen.note[0], "%s", sentence);
}

static void on_surveyed(void *owner, const struct survey *survey)
{
    assert_ptr_equal(owner, &world);
    seen.times++;
    seen.known = survey->known;
    seen.current = survey->current;
    seen.suits_type = survey_suits_type(survey);
    survey_say(survey, on_note, NULL);
}

static void look_over(const struct trigger_order *order)
{
    struct trigger_plan plan;
    struct trigger_problem problem;
    seen = (struct seen){ .times = 0 };
    assert_true(trigger_plan(&world.trigger, order, &plan, &problem));
    survey_run(&world.trigger, order, &plan, on_surveyed, &world);
}

/* Else the operator would be shown devices to update that run it already, or none of those that are there. */
static void test_devices_that_are_known(void **state)
{
    (void)state;
    start("updraft");
    const struct image *image = catalog_find_path(world.catalog, slice_of("door/2.0.bin"));
    saw_device(&macs[0], "door", image->build.facts.run_md5[2]);
    saw_device(&macs[1], "door", NULL);
    saw_device(&macs[2], "hut", NULL);
    struct trigger_order order = order_of("door");
    look_over(&order);
    assert_true(seen.times == 1 && seen.known == 2 && seen.current == 1 && seen.notes == 0);
    struct rollout *rollout = begin(&order);
    assert_true(rollout->members == 2 && rollout->devices[ROLLOUT_DEVICE_SKIPPED] == 1);
    order = order_to(macs, 3);
    look_over(&order);
    assert_true(seen.times == 1 && seen.known == 3 && seen.current == 1);
    stop();
}

static void assert_told_together(const struct trigger_order *order, bool together)
{
    look_over(order);
    assert_true(seen.times == 1 && seen.suits_type == together);
    assert_true(begin(order)->told_type == together);
}

/* Else a plan says other messages than those that go out. */
static void test_planned_as_told(void **state)
{
    (void)state;
    start("updraft");
    set_link(SESSION_CONNECTED);
    const struct image *image = catalog_find_path(world.catalog, slice_of("door/2.0.bin"));
    struct trigger_order order = order_of("door");
    assert_told_together(&order, true); /* a fleet that nobody knows */
    saw_device(&macs[0], "door", image->build.facts.run_md5[2]);
    assert_told_together(&order, false); /* nobody is to get it */
    saw_device(&macs[1], "door", NULL);
    assert_told_together(&order, true);
    saw_device(&macs[2], "door", NULL);
    world.trigger.site_in_flight = 1;
    assert_told_together(&order, false);
    struct policy_entry pinned = { .mac = macs[2], .pin = words_take(world.fleet.words, slice_of("1.0+b")) };
    assert_int_equal(policies_set(world.fleet.policies, &pinned), STATUS_OK);
    assert_told_together(&order, true); /* it hears it, too, and is refused when it asks */
    words_drop(world.fleet.words, pinned.pin);
    order.in_flight = 2;
    assert_told_together(&order, false);
    order.in_flight = 3;
    order.canary = 1;
    assert_told_together(&order, false);
    order.canary = 0;
    order.percent = 99;
    assert_told_together(&order, false);
    order.percent = 100;
    saw_device(&macs[1], "door", NULL)->said_online = true; /* and gone */
    assert_told_together(&order, false);
    stop();
}

/* --- refusals ----------------------------------------------------------------------------------------------------- */

static void assert_refused(const struct trigger_order *order, enum trigger_refusal refusal, const char *about)
{
    struct trigger_problem problem;
    uint64_t ticket;
    assert_null(trigger_begin(&world.trigger, order, &ticket, &problem));
    if (problem.refusal != refusal || problem.remedy[0] == '\0' ||
        (strstr(problem.message, about) == NULL && strstr(problem.remedy, about) == NULL)) {
        fail_msg("%s: %s: %s", trigger_refusal_word(problem.refusal), problem.message, problem.remedy);
    }
    assert_int_equal(rollouts_count(world.fleet.rollouts), 0); /* nothing has begun */
    assert_null(world.trigger.dispatches);
}

static void test_refusals_by_the_repository(void **state)
{
    (void)state;
    static const struct {
        const char *type, *version;
        bool fs;
        enum trigger_refusal refusal;
        const char *about;
    } rows[] = {
        { "doro", NULL, false, TRIGGER_UNKNOWN_TYPE, "types there are: door, hut" },
        { "", NULL, false, TRIGGER_UNKNOWN_TYPE, "door" },
        { "a\x1b\xff", NULL, false, TRIGGER_UNKNOWN_TYPE, "a\\x1b\\xff" },
        { "door", "3.0", false, TRIGGER_UNKNOWN_VERSION, "there are: 2.0, 1.0+b" },
        { "door", "2.0", true, TRIGGER_UNKNOWN_VERSION, "there are: 1.5" },
        { "door", "DOOR-7", false, TRIGGER_UNKNOWN_VERSION, "DOOR-7" }, /* served to those assigned to it alone */
        { "hut", NULL, false, TRIGGER_NO_IMAGE, "no sketch" },
        { "bad", NULL, false, TRIGGER_REJECTED, "firmware rejected" },
    };
    start("updraft");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct trigger_order order = order_of(rows[i].type);
        order.version = rows[i].version;
        order.fs = rows[i].fs;
        assert_refused(&order, rows[i].refusal, rows[i].about);
    }
    scan_again(MINUTE_MS); /* all files are too young */
    struct trigger_order order = order_of("door");
    assert_refused(&order, TRIGGER_NOT_YET, "still being copied");
    stop();
}

static void test_refusals_for_want_of_a_way(void **state)
{
    (void)state;
    static const struct announce endless = {
        .part_count = 1,
        .parts = { { "{type}", "{mac}",
                     "{url}{url}{url}{url}{url}{url}{url}{url}{url}{url}{url}{url}"
                     "{url}{url}{url}{url}{url}{url}" } },
    };
    struct trigger_order order = order_of("door");
    start("homie");
    order.group = "kitchen";
    assert_refused(&order, TRIGGER_NO_GROUP, "kitchen");
    order.group = NULL;
    world.trigger.announce = endless;
    memset(world.public_url.url, 'u', PUBLIC_URL_MAX);
    assert_refused(&order, TRIGGER_TOO_LONG, "shorten");
    world.public_url = (struct public_url){ .warning = "all addresses are this container's own" };
    assert_refused(&order, TRIGGER_NO_PUBLIC_URL, "container's own");
    stop();
}

static void assert_noted(const struct rollout *rollout, const char *part)
{
    const char *note = trigger_note(&world.trigger, rollout->id, 0);
    if (note == NULL || strstr(note, part) == NULL) {
        fail_msg("not noted: %s", part);
    }
}

/* Devices that nobody can tell get it when they ask; the operator must hear that nobody was told. */
static void test_nobody_can_be_told(void **state)
{
    (void)state;
    start("homie");
    struct rollout *rollout = begin_all();
    wait_for_image();
    assert_int_equal(rollout->state, ROLLOUT_RUNNING);
    assert_string_equal(rollout->why, ROLLOUT_AWAITS);
    assert_noted(rollout, "--to");
    world.trigger.publisher = NULL;
    saw_device(&macs[0], "door", NULL);
    rollout = begin_all();
    assert_true(rollout->state == ROLLOUT_RUNNING && rollout->devices[ROLLOUT_DEVICE_QUEUED] == 1);
    assert_noted(rollout, "--mqtt");
    world.trigger.publisher = world.publisher;
    stop();
}

static void test_refusal_when_busy(void **state)
{
    (void)state;
    uint64_t ticket;
    struct trigger_problem problem;
    struct image_make wish = { .kind = IMAGE_MAKE_ESP8266 };
    char path[40], type[ROLLOUTS_MAX + 1][20];
    start("updraft");
    for (size_t i = 0; i <= ROLLOUTS_MAX; i++) {
        snprintf(type[i], sizeof type[i], "type%zu", i);
        snprintf(path, sizeof path, "%s/1.0.bin", type[i]);
        folder_put(&world.folder, path, &wish);
    }
    scan_again(0);
    for (size_t i = 0; i < ROLLOUTS_MAX; i++) {
        struct trigger_order order = order_of(type[i]);
        begin(&order);
    }
    struct trigger_order one_more = order_of(type[ROLLOUTS_MAX]);
    assert_null(trigger_begin(&world.trigger, &one_more, &ticket, &problem));
    assert_int_equal(problem.refusal, TRIGGER_BUSY);
    assert_int_equal(publisher_counts(world.publisher)->waiting, ROLLOUTS_MAX);
    stop();
}

static enum status no_open(const char *state_dir, void **store, char *message, size_t size)
{
    (void)state_dir, (void)message, (void)size;
    *store = &world;
    return STATUS_OK;
}

static enum status no_load(void *store, store_row_fn on_row, void *owner, char *message, size_t size)
{
    (void)store, (void)on_row, (void)owner, (void)message, (void)size;
    return STATUS_OK;
}

static enum status no_write(void *store, const struct store_change *const *changes, size_t count, bool durable,
                            char *message, size_t size)
{
    (void)store, (void)changes, (void)count, (void)durable;
    snprintf(message, size, "the disk is full");
    return STATUS_LIMIT;
}

static void no_close(void *store)
{
    (void)store;
}

static void on_store_closed(void *owner)
{
    *(bool *)owner = true;
}

/* What an operator is told is on the disk, or is not told; and nothing gives way to an order that was not taken. */
static void test_refusal_when_it_cannot_be_written_down(void **state)
{
    (void)state;
    static const struct store_ops full_disk = {
        .name = "full", .open = no_open, .load = no_load, .write = no_write, .close = no_close
    };
    static const struct store_queue_events events;
    char message[STORE_WHY_SIZE];
    bool closed = false;
    start("updraft");
    struct trigger_order order = order_of("door");
    struct store_queue *queue =
        store_queue_open(&world.loop, &full_disk, "", &events, NULL, NULL, message, sizeof message);
    world.fleet.journal = journal_new(world.fleet.devices, world.fleet.policies, world.fleet.never_again, queue);
    struct rollout *taken = begin(&order);
    while (store_queue_room(queue) > 0) {
        (void)store_queue_put(queue, store_change_new(STORE_EVENT), STORE_BEHIND);
    }
    struct trigger_problem problem;
    uint64_t ticket;
    assert_null(trigger_begin(&world.trigger, &order, &ticket, &problem));
    assert_int_equal(trigger_refusal_status(problem.refusal), 503);
    assert_non_null(strstr(problem.message, "the store's backlog is full"));
    assert_true(rollouts_count(world.fleet.rollouts) == 1 && !rollout_is_over(taken));
    store_queue_close(queue, 0, on_store_closed, &closed);
    run_until(&closed);
    journal_free(world.fleet.journal);
    stop();
}

/* --- in between --------------------------------------------------------------------------------------------------- */

/* The queue's end is the server's own affair: no device has failed by it. Who waits, whosever rollout it is of, goes
 * out when there is room, in order. */
static void test_queue_that_is_full(void **state)
{
    (void)state;
    start_with("updraft", 2);
    struct trigger_order order = order_to(macs, 3), other = order_of("door");
    other.fs = true;
    struct rollout *some = begin(&order), *more = begin(&other);
    turn();
    assert_true(some->state == ROLLOUT_RUNNING && some->in_flight == 3 && some->commands_failed == 0);
    assert_true(more->state == ROLLOUT_RUNNING && more->commands_failed == 0);
    assert_int_equal(publisher_counts(world.publisher)->waiting, 2);
    set_link(SESSION_CONNECTED);
    answer_all();
    assert_true(some->acknowledged == 3 && more->acknowledged == 1);
    assert_int_equal(world.sent_count, 4);
    stop();
}

/* Nobody waits for ever: it is good for as long as if it had been taken. */
static void test_queue_that_stays_full(void **state)
{
    (void)state;
    start_with("updraft", 1);
    world.trigger.expires_ms = 50;
    struct trigger_order order = order_to(macs, 2);
    struct rollout *rollout = begin(&order);
    for (int i = 0; i < 200 && rollout->state == ROLLOUT_RUNNING; i++) {
        uv_run(&world.loop, UV_RUN_ONCE);
    }
    assert_int_equal(rollout->state, ROLLOUT_ABORTED);
    assert_int_equal(results(PUBLISH_EXPIRED), 1); /* the other never came so far */
    assert_non_null(strstr(rollout->why, "expired while the queue of commands was full (--mqtt-queue)"));
    stop();
}

static bool names_url(size_t sent, const char *url)
{
    return strstr(world.sent[sent].payload, url) != NULL;
}

/* A server that started before its network must not send devices to its loopback until the rollout ends. */
static void test_address_that_shows_later(void **state)
{
    (void)state;
    static const char other[] = "http://192.0.2.9";
    start("updraft");
    struct trigger_order order = order_to(macs, 3);
    order.in_flight = 2;
    struct rollout *rollout = begin(&order); /* two wait for the broker, one for its turn */
    snprintf(world.public_url.url, sizeof world.public_url.url, "%s", other);
    turn();
    trigger_tick(&world.trigger); /* once a second */
    turn();
    assert_true(rollout->in_flight == 2 && publisher_counts(world.publisher)->waiting == 2);
    set_link(SESSION_CONNECTED);
    assert_int_equal(world.sent_count, 2);
    assert_true(names_url(0, other) && names_url(1, other));
    trigger_tick(&world.trigger);
    turn();
    assert_int_equal(publisher_counts(world.publisher)->in_flight, 2);
    answer_all();
    assert_true(rollout->acknowledged == 2 && rollout->commands == 2 && rollout->commands_failed == 0);
    snprintf(world.public_url.url, sizeof world.public_url.url, URL);
    for (int i = 0; i < 3; i++) {
        uv_run(&world.loop, UV_RUN_ONCE); /* it is asked for once in a millisecond */
    }
    tick_in(2 * MINUTE_MS); /* both are silent */
    turn();
    assert_int_equal(world.sent_count, 3);
    assert_true(names_url(2, URL));
    world.public_url.url[0] = '\0'; /* nobody can tell now */
    trigger_tick(&world.trigger);
    turn();
    answer_all();
    assert_int_equal(world.sent_count, 3);
    stop();
}

/* What waits for room when its rollout is paused must not go out when there is room. */
static void test_queue_that_is_full_and_a_pause(void **state)
{
    (void)state;
    const char *why;
    start_with("updraft", 1);
    struct trigger_order order = order_to(macs, 3);
    struct rollout *rollout = begin(&order);
    struct moment now = clock_moment(&world.loop);
    assert_int_equal(rollout_pause(rollout, &now, &why), STATUS_OK);
    turn();
    assert_true(rollout->devices[ROLLOUT_DEVICE_QUEUED] == 3 && rollout->commands_failed == 0);
    set_link(SESSION_CONNECTED);
    turn();
    assert_int_equal(world.sent_count, 0);
    assert_int_equal(rollout_resume(rollout, &now, &why), STATUS_OK);
    turn();
    answer_all();
    assert_true(rollout->acknowledged == 3 && world.sent_count == 3);
    stop();
}

/* Else a broker that comes back would have devices told of a build that its operator has replaced. */
static void test_superseded_while_the_broker_is_away(void **state)
{
    (void)state;
    start("updraft");
    struct trigger_order old = order_to(macs, 2);
    old.version = "1.0+b";
    struct rollout *first = begin(&old);
    struct rollout *second = begin_all();
    assert_int_equal(first->state, ROLLOUT_ABORTED);
    assert_string_equal(second->supersedes, first->id);
    turn();
    assert_int_equal(results(PUBLISH_WITHDRAWN), 2);
    set_link(SESSION_CONNECTED);
    assert_int_equal(world.sent_count, 1);
    assert_string_equal(world.sent[0].topic, "updraft/door/update");
    answer_all();
    assert_int_equal(second->state, ROLLOUT_RUNNING);
    stop();
}

static void test_superseded_on_its_way(void **state)
{
    (void)state;
    start("updraft");
    set_link(SESSION_CONNECTED);
    struct rollout *first = begin_all();
    struct rollout *second = begin_all();
    assert_int_equal(first->state, ROLLOUT_ABORTED);
    assert_int_equal(world.sent_count, 1); /* the second waits for the first's acknowledgement */
    answer(STATUS_OK);
    assert_int_equal(first->acknowledged, 1);
    assert_int_equal(world.sent_count, 2);
    answer(STATUS_OK);
    assert_int_equal(second->state, ROLLOUT_RUNNING);
    stop();
}

/* Nothing of the first may go out: it is no longer wanted when its image is there. */
static void test_superseded_while_its_image_is_loaded(void **state)
{
    (void)state;
    start("homie");
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(&macs[0], 1);
    order.version = "1.0+b";
    struct rollout *first = begin(&order);
    order.version = NULL;
    struct rollout *second = begin(&order);
    assert_int_equal(first->devices[ROLLOUT_DEVICE_SKIPPED], 1);
    wait_for_image();
    assert_int_equal(first->state, ROLLOUT_ABORTED);
    assert_int_equal(world.sent_count, 1);
    assert_non_null(strstr(world.sent[0].topic, "5ccf7fb1e042"));
    assert_true(world.sent[0].is_image);
    answer_all();
    assert_true(second->state == ROLLOUT_RUNNING && first->acknowledged == 0);
    stop();
}

/* Else a disk that hangs leaves it planned for ever; and what comes too late goes out after all. */
static void test_an_image_that_does_not_come(void **state)
{
    (void)state;
    start("homie");
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(&macs[0], 1);
    struct rollout *rollout = begin(&order);
    struct moment then = clock_moment(&world.loop);
    then.ms += TRIGGER_BEGIN_MS - 1;
    trigger_give_up_late(&world.trigger, &then);
    assert_int_equal(rollout->state, ROLLOUT_PLANNED);
    then.ms++;
    trigger_give_up_late(&world.trigger, &then);
    assert_true(rollout->state == ROLLOUT_ABORTED && !rollout->distrusted);
    assert_non_null(strstr(rollout->why, "its image could not be read"));
    wait_for_image();
    assert_int_equal(world.sent_count, 0);
    struct rollout *again = begin(&order);
    turn();
    answer_all();
    assert_int_equal(again->state, ROLLOUT_RUNNING);
    then.ms += TRIGGER_BEGIN_MS;
    trigger_give_up_late(&world.trigger, &then);
    assert_int_equal(again->state, ROLLOUT_RUNNING);
    stop();
}

/* Only what the newer order names: the older one's other devices would else never be told. */
static void test_superseded_in_part(void **state)
{
    (void)state;
    start("updraft");
    struct trigger_order old = order_to(macs, 3), new = order_to(&macs[1], 1);
    old.version = "1.0+b";
    struct rollout *first = begin(&old), *second = begin(&new);
    turn();
    assert_true(first->state == ROLLOUT_RUNNING && first->commands_failed == 1);
    assert_true(first->devices[ROLLOUT_DEVICE_SKIPPED] == 1 && first->devices[ROLLOUT_DEVICE_TRIGGERED] == 2);
    set_link(SESSION_CONNECTED);
    answer_all();
    assert_int_equal(world.sent_count, 3);
    for (size_t i = 0; i < 3; i++) {
        bool is_newer = strstr(world.sent[i].topic, "5ccf7fb1e043") != NULL;
        assert_true((strstr(world.sent[i].payload, "\"version\":\"2.0\"") != NULL) == is_newer);
    }
    assert_true(first->state == ROLLOUT_RUNNING && second->state == ROLLOUT_RUNNING && second->acknowledged == 1);
    struct trigger_order rest = order_to(macs, 3); /* the second's, too, and nothing is left of either */
    struct rollout *third = begin(&rest);
    assert_true(first->state == ROLLOUT_ABORTED && second->state == ROLLOUT_ABORTED);
    assert_true(strcmp(third->supersedes, first->id) == 0 || strcmp(third->supersedes, second->id) == 0);
    answer_all();
    stop();
}

/* Nor may the older one's command reach a device that waits for its turn in the newer. */
static void test_superseded_before_its_turn(void **state)
{
    (void)state;
    start("updraft");
    struct trigger_order old = order_to(macs, 3), new = order_to(macs, 2);
    old.version = "1.0+b";
    new.in_flight = 1;
    struct rollout *first = begin(&old), *second = begin(&new);
    turn();
    assert_int_equal(results(PUBLISH_WITHDRAWN), 1);
    assert_true(first->devices[ROLLOUT_DEVICE_TRIGGERED] == 1 && second->devices[ROLLOUT_DEVICE_QUEUED] == 1);
    set_link(SESSION_CONNECTED);
    answer_all();
    assert_int_equal(world.sent_count, 2);
    for (size_t i = 0; i < 2; i++) {
        bool is_newer = strstr(world.sent[i].topic, "5ccf7fb1e042") != NULL;
        assert_true((strstr(world.sent[i].payload, "\"version\":\"2.0\"") != NULL) == is_newer);
    }
    stop();
}

/* A device that was told its address gets the word as well: else it would fetch from there at some later command. */
static void test_superseded_when_half_told(void **state)
{
    (void)state;
    static const enum status ways[] = { STATUS_OK, STATUS_IO };
    for (int i = 0; i < 4; i++) {
        bool to_type = i >= 2;
        start("tasmota");
        set_link(SESSION_CONNECTED);
        struct trigger_order order = order_to(macs, 2);
        struct rollout *first = begin(&order);
        answer(ways[i % 2]); /* of the first device's address; it may have come */
        if (ways[i % 2] == STATUS_IO) {
            set_link(SESSION_WAITING);
        }
        order = to_type ? order_of("door") : order_to(&macs[0], 1);
        struct rollout *second = begin(&order);
        assert_int_equal(first->state, to_type ? ROLLOUT_ABORTED : ROLLOUT_RUNNING);
        set_link(SESSION_CONNECTED);
        answer_all();
        unsigned addresses = 0, words = 0;
        for (size_t k = 0; k < world.sent_count; k++) {
            addresses += strcmp(world.sent[k].topic, "cmnd/tasmota_B1E042/OtaUrl") == 0;
            words += strcmp(world.sent[k].topic, "cmnd/tasmota_B1E042/Upgrade") == 0;
            assert_true(words <= addresses);
        }
        assert_int_equal(words, to_type ? 1 : 2); /* the newer one's own, too */
        assert_int_equal(second->state, ROLLOUT_RUNNING);
        stop();
    }
}

/* A retained word of the newer order must outlive the end of the older, whose topic it was before. */
static void test_superseded_in_part_and_retained(void **state)
{
    (void)state;
    start("updraft");
    world.trigger.retain = true;
    set_link(SESSION_CONNECTED);
    struct trigger_order old = order_to(macs, 2), new = order_to(&macs[0], 1);
    struct rollout *first = begin(&old);
    answer_all();
    begin(&new);
    answer_all();
    world.sent_count = 0;
    first->order.timeout_ms = 1;
    tick_in(1000);
    turn();
    assert_int_equal(first->state, ROLLOUT_DONE);
    answer_all();
    assert_int_equal(world.sent_count, 1);
    assert_string_equal(world.sent[0].topic, "updraft/door/5ccf7fb1e043/update");
    assert_int_equal(world.sent[0].payload_bytes, 0);
    stop();
}

/* While the older one's image is loaded, a newer one takes a device: it must not get both. */
static void test_superseded_in_part_while_its_image_is_loaded(void **state)
{
    (void)state;
    start("homie");
    set_link(SESSION_CONNECTED);
    struct trigger_order old = order_to(macs, 2), new = order_to(&macs[0], 1);
    old.version = "1.0+b";
    struct rollout *first = begin(&old), *second = begin(&new);
    wait_for_image();
    answer_all();
    assert_int_equal(world.sent_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(world.sent[i].is_image == (strstr(world.sent[i].topic, "5ccf7fb1e042") != NULL));
    }
    assert_true(first->state == ROLLOUT_RUNNING && first->acknowledged == 1 && first->commands == 1);
    assert_int_equal(second->state, ROLLOUT_RUNNING);
    stop();
}

/* --- large fleets ------------------------------------------------------------------------------------------------- */

enum { MANY = 30000, NAMED = 9000 };

static struct mac mac_of(uint32_t number)
{
    return (struct mac){ { 0x5c, 0xcf, (uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                           (uint8_t)number } };
}

static void fill_fleet(void)
{
    for (uint32_t i = 0; i < MANY; i++) {
        struct mac mac = mac_of(i);
        saw_device(&mac, "door", NULL);
    }
}

static void turn_until_idle(void)
{
    for (int i = 0; i < PATIENCE_MS && world.trigger.turns.first != NULL; i++) {
        uv_run(&world.loop, UV_RUN_NOWAIT);
    }
    assert_null(world.trigger.turns.first);
}

/* Devices come while the rollout still learns whom it expects; and the command waits until it knows. */
static void test_a_large_fleet_in_slices(void **state)
{
    (void)state;
    start("updraft");
    set_link(SESSION_CONNECTED);
    fill_fleet();
    struct rollout *rollout = begin_all();
    assert_true(rollout->state == ROLLOUT_PLANNED && rollout->members > 1 && rollout->members < MANY);
    assert_int_equal(world.sent_count, 0);
    struct mac moves = mac_of(1), stranger = mac_of(MANY);
    saw_device(&moves, "hut", NULL); /* it was met already */
    saw_device(&stranger, "door", NULL);
    struct trigger_order plan = order_of("door");
    look_over(&plan);
    assert_int_equal(seen.times, 0);
    turn_until_idle();
    assert_int_equal(rollout->members, MANY + 1);
    assert_int_equal(rollout->in_flight, window_size(&rollout->window));
    assert_true(seen.times == 1 && seen.known == MANY);
    rollout_check(rollout);
    answer_all();
    assert_int_equal(world.sent_count, rollout->in_flight);
    struct rollout *newer = begin_all(); /* and so it ends, in slices too */
    assert_true(rollout->state == ROLLOUT_ABORTED && rollout->devices[ROLLOUT_DEVICE_SKIPPED] == MANY + 1);
    turn_until_idle();
    assert_int_equal(newer->members, MANY);
    static struct rollout_member listed[ROLLOUT_LISTED_MAX + 1];
    assert_int_equal(rollout_members(rollout, ROLLOUT_DEVICE_STATES, 0, listed, COUNT_OF(listed)), ROLLOUT_LISTED_MAX);
    stop();
}

static size_t member_missing(const struct rollout *rollout, uint32_t from)
{
    struct rollout_member member;
    size_t missing = 0;
    for (uint32_t i = from; i < MANY; i++) {
        struct mac mac = mac_of(i);
        missing += !rollout_member(rollout, &mac, &member);
    }
    return missing;
}

/* Else one who is forgotten, or leaves the group, while others are gathered takes somebody else with it. */
static void test_forgotten_while_others_are_gathered(void **state)
{
    (void)state;
    enum { GONE = 50 };
    for (int way = 0; way < 2; way++) {
        start("updraft");
        fill_fleet();
        struct fleet *fleet = &world.fleet;
        struct trigger_order order = order_of("door");
        word_id name = words_take(fleet->words, slice_of("some"));
        for (uint32_t i = 0; way == 1 && i < MANY; i++) {
            struct policy_entry entry = { .mac = mac_of(i), .group_count = 1, .groups = { name } };
            assert_int_equal(policies_set(fleet->policies, &entry), STATUS_OK);
        }
        order.group = way == 1 ? "some" : NULL;
        struct rollout *rollout = begin(&order);
        assert_true(rollout->state == ROLLOUT_PLANNED && rollout->members >= GONE && rollout->members < MANY - GONE);
        for (uint32_t i = 0; i < GONE; i++) { /* met already */
            struct policy_entry nothing = { .mac = mac_of(i) };
            if (way == 1) {
                assert_int_equal(policies_set(fleet->policies, &nothing), STATUS_OK);
            } else {
                devices_forget(fleet->devices, devices_find(fleet->devices, &nothing.mac));
            }
        }
        struct mac later = mac_of(MANY - 1);
        if (way == 0) {
            devices_forget(fleet->devices, devices_find(fleet->devices, &later));
        }
        turn_until_idle();
        assert_int_equal(member_missing(rollout, GONE), way == 0);
        rollout_check(rollout);
        words_drop(fleet->words, name);
        stop();
    }
}

/* Whatever comes in between: nothing may go out twice, or for an order that is over; and each command is answered. */
static void test_many_commands_in_slices(void **state)
{
    (void)state;
    static struct mac named[NAMED];
    for (uint32_t i = 0; i < NAMED; i++) {
        named[i] = mac_of(i * 2654435761u); /* in no order */
    }
    for (int way = 0; way < 4; way++) {
        start_with("updraft", PUBLISHER_COMMANDS_MAX);
        struct trigger_order all = order_to(named, NAMED), half = order_to(named, NAMED / 2);
        all.in_flight = half.in_flight = NAMED;
        struct rollout *first = begin(&all), *second = NULL;
        for (int i = 0; i < PATIENCE_MS && first->in_flight < NAMED; i++) {
            uv_run(&world.loop, UV_RUN_NOWAIT);
        }
        size_t at_once = publisher_counts(world.publisher)->waiting;
        assert_true(at_once > 0 && at_once < NAMED); /* devices are served in between */
        turn_until_idle();
        assert_int_equal(publisher_counts(world.publisher)->waiting, NAMED);
        if (way == 0) { /* a newer one takes half of them, while the older still goes out */
            second = begin(&half);
            turn_until_idle();
            for (int i = 0; i < 100 && first->commands_failed < NAMED / 2; i++) {
                turn();
            }
            assert_int_equal(first->devices[ROLLOUT_DEVICE_SKIPPED], NAMED / 2);
            assert_int_equal(first->commands_failed, NAMED / 2);
            assert_int_equal(publisher_counts(world.publisher)->waiting, NAMED);
            assert_int_equal(second->members, NAMED / 2);
        } else if (way == 1) { /* one to all ends it */
            second = begin_all();
            turn_until_idle();
            turn_until_idle();
            assert_int_equal(first->state, ROLLOUT_ABORTED);
            assert_int_equal(publisher_counts(world.publisher)->waiting, 1);
        } else if (way == 2) { /* its time is over */
            tick_in(2 * MINUTE_MS);
            turn_until_idle();
            assert_int_equal(first->state, ROLLOUT_ABORTED);
            assert_int_equal(publisher_counts(world.publisher)->waiting, 0);
        } /* else: the server ends in the midst of it */
        for (int i = 0; way > 0 && way < 3 && i < 100; i++) {
            turn();
        }
        if (way == 1 || way == 2) {
            assert_int_equal(first->commands_failed, first->commands); /* who was never told is no command */
        }
        rollout_check(first);
        stop();
    }
}

/* --- notes -------------------------------------------------------------------------------------------------------- */

static struct device *saw(size_t i, const char *type, uint32_t flash_bytes, uint32_t free_bytes)
{
    struct device *device = saw_device(&macs[i], type, NULL);
    device->client = CLIENT_ESP8266;
    device->chip = CHIP_ESP8266;
    device->flash_bytes = flash_bytes;
    device->free_bytes = free_bytes;
    return device;
}

static void assert_notes(const struct trigger_order *order, size_t count, const char *const *expected)
{
    look_over(order);
    assert_int_equal(seen.notes, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(seen.note[i], expected[i]);
    }
    struct rollout *rollout = begin(order); /* says the same */
    assert_null(trigger_note(&world.trigger, rollout->id, count));
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(trigger_note(&world.trigger, rollout->id, i), expected[i]);
    }
}

/* What a typing error in --to looks like, said before a rollout has waited for it in vain. */
static void test_notes_of_named_devices(void **state)
{
    (void)state;
    start("updraft");
    struct trigger_order order = order_to(macs, 3);
    saw(0, "hut", 4u << 20, 1u << 20);
    saw(1, "door", 4u << 20, 10000);
    static const char never_seen[] = "5ccf7fb1e0ab was never seen here: it hears the command only if its topic is "
                                     "updraft/door/5ccf7fb1e0ab/update";
    static const char *const notes[] = {
        "5ccf7fb1e042 asks as hut, not door: check the MAC, or publish to hut",
        "5ccf7fb1e043 would be refused, does-not-fit: image has 20000 bytes, device has room for 10000",
        never_seen,
    };
    look_over(&order);
    assert_string_equal(seen.note[0], notes[0]);
    assert_notes(&order, 3, notes);
    stop();
}

static void test_notes_of_many_alike(void **state)
{
    (void)state;
    struct mac many[6];
    start("updraft");
    for (uint32_t i = 0; i < 6; i++) {
        many[i] = mac_of(i);
    }
    static const char notes[] =

        "5ccf00000000, 5ccf00000001, 5ccf00000002 and 3 others were never seen here: "
        "each hears the command only if its topic is like updraft/door/5ccf00000000/update";
    struct trigger_order order = order_to(many, 6);
    assert_notes(&order, 1, (const char *const[]){ notes });
    saw(0, "door", 4u << 20, 10000);
    saw(1, "door", 4u << 20, 9000);
    saw(2, "door", 4u << 20, 1u << 19);
    static const char refused[] =

        "5ccf7fb1e042 and 5ccf7fb1e043 would be refused, does-not-fit: image has 20000 bytes, device has "
        "room for 10000 (the first of them)";
    order = order_of("door");
    assert_notes(&order, 1, (const char *const[]){ refused });
    const struct image *image = catalog_find_path(world.catalog, slice_of("door/2.0.bin"));
    for (size_t i = 0; i < 2; i++) { /* who runs it already needs no room */
        saw_device(&macs[i], "door", image->build.facts.run_md5[0]);
    }
    assert_notes(&order, 0, NULL);
    stop();
}

/* 10,000 mistakes make no 10,000 sentences, nor do 10,000 types. */
static void test_notes_are_bounded(void **state)
{
    (void)state;
    struct mac many[40];
    char type[16];
    start("updraft");
    for (uint32_t i = 0; i < 40; i++) {
        many[i] = mac_of(i);
        snprintf(type, sizeof type, "t%u", (unsigned)i);
        saw_device(&many[i], type, NULL);
    }
    struct trigger_order order = order_to(many, 40);
    struct rollout *rollout = begin(&order);
    turn_until_idle();
    assert_int_equal(rollout->state, ROLLOUT_DONE); /* nobody is to get it; why is still to be read */
    assert_non_null(trigger_note(&world.trigger, rollout->id, SURVEY_FINDINGS_MAX - 1));
    assert_null(trigger_note(&world.trigger, rollout->id, SURVEY_FINDINGS_MAX));
    stop();
}

static void test_image_that_cannot_be_loaded(void **state)
{
    (void)state;
    start("homie");
    set_link(SESSION_CONNECTED);
    folder_remove(&world.folder, "door/2.0.bin");
    struct trigger_order order = order_to(macs, 3);
    struct rollout *rollout = begin(&order);
    wait_for_image();
    assert_int_equal(rollout->state, ROLLOUT_ABORTED);
    assert_string_equal(rollout->why, "no command reached the broker: the image cannot be loaded");
    assert_int_equal(world.sent_count, 0);
    stop();
}

/* What waits for the broker outlives the catalog that it was found in, and the texts of its order. */
static void test_catalog_that_changes(void **state)
{
    (void)state;
    char type[] = "door", version[] = "1.0+b";
    struct mac device = macs[0];
    start("updraft");
    struct trigger_order order = order_to(&device, 1);
    order.type = slice_of(type);
    order.version = version;
    world.trigger.retain = true;
    struct rollout *rollout = begin(&order);
    memset(type, 'x', sizeof type - 1);
    memset(version, 'x', sizeof version - 1);
    memset(&device, 0xff, sizeof device);
    folder_remove(&world.folder, "door/1.0+b.bin");
    scan_again(0);
    set_link(SESSION_CONNECTED);
    assert_string_equal(world.sent[0].topic, "updraft/door/5ccf7fb1e042/update");
    assert_non_null(strstr(world.sent[0].payload, "\"version\":\"1.0+b\""));
    answer_all();
    tick_in(2 * MINUTE_MS); /* written once more: to be cleared */
    turn();
    assert_true(rollout_is_over(rollout) && world.sent_count == 2);
    assert_string_equal(world.sent[1].topic, world.sent[0].topic);
    answer_all();
    stop();
}

/* --- ends --------------------------------------------------------------------------------------------------------- */

static size_t count_cleared(const char *topic_start)
{
    size_t count = 0;
    for (size_t i = 0; i < world.sent_count; i++) {
        const struct sent *sent = &world.sent[i];
        bool is_meant = strncmp(sent->topic, topic_start, strlen(topic_start)) == 0;
        count += is_meant && sent->retain && sent->payload_bytes == 0;
    }
    return count;
}

/* A retained command that outlives its rollout would update every device that ever connects again. */
static void test_retained_while_under_way(void **state)
{
    (void)state;
    start("tasmota");
    world.trigger.retain = true;
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(macs, 2);
    struct rollout *rollout = begin(&order);
    answer_all();
    assert_true(world.sent_count == 4 && world.sent[0].retain && world.sent[3].retain);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING);
    world.sent_count = 0;
    begin_all();
    answer_all();
    assert_true(rollout_is_over(rollout) && world.sent_count == 4 + 2);
    assert_int_equal(count_cleared("cmnd/tasmota_B1E04"), 4); /* both messages of both devices */
    world.sent_count = 0;
    begin_all();
    answer_all();
    assert_int_equal(world.sent_count, 4);
    assert_int_equal(count_cleared("cmnd/door/"), 2);
    assert_true(world.sent[0].payload_bytes == 0 && world.sent[3].payload_bytes > 0); /* the new one comes after it */
    stop();
}

/* Else the rest of a fleet is never told: its devices failed, for a bound of the server's own. */
static void test_more_retained_than_there_is_room_for(void **state)
{
    (void)state;
    start_with("updraft", 1);
    world.trigger.retain = true;
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(macs, 2);
    struct rollout *rollout = begin(&order);
    answer_all();
    trigger_tick(&world.trigger);
    turn();
    assert_true(world.sent_count == 1 && rollout->acknowledged == 1 && rollout->commands_failed == 0);
    assert_int_equal(rollout->in_flight, 2); /* the second waits for room */
    tick_in(2 * MINUTE_MS);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_SILENT], 1);
    world.sent_count = 0;
    trigger_tick(&world.trigger);
    turn();
    answer_all();
    assert_int_equal(count_cleared("updraft/door/"), 1);
    assert_true(world.sent_count == 2 && rollout->acknowledged == 2 && rollout->commands_failed == 0);
    world.sent_count = 0;
    rollout = begin(&order); /* in whose place is one kept already goes before who finds no room */
    trigger_tick(&world.trigger);
    turn();
    answer_all();
    assert_int_equal(rollout->acknowledged, 1);
    assert_int_equal(rollout->commands_failed, 0);
    order = order_to(macs + 2, 1);
    world.trigger.expires_ms = 20; /* and nobody waits for ever */
    rollout = begin(&order);
    for (int i = 0; i < PATIENCE_MS && rollout->commands_failed == 0; i++) {
        uv_run(&world.loop, UV_RUN_NOWAIT);
        trigger_tick(&world.trigger);
        uv_sleep(1);
    }
    assert_true(rollout->acknowledged == 0 && rollout->commands_failed == 1);
    stop();
}

static void test_refused_by_the_broker(void **state)
{
    (void)state;
    start("updraft");
    set_link(SESSION_CONNECTED);
    struct rollout *rollout = begin_all();
    answer(STATUS_DENIED);
    assert_int_equal(rollout->state, ROLLOUT_ABORTED);
    assert_string_equal(rollout->why, "no command reached the broker: refused: not authorized");
    stop();
}

static void test_link_that_breaks(void **state)
{
    (void)state;
    start("updraft");
    set_link(SESSION_CONNECTED);
    struct rollout *rollout = begin_all();
    answer(STATUS_IO);
    set_link(SESSION_WAITING);
    assert_int_equal(rollout->acknowledged, 0);
    set_link(SESSION_CONNECTED);
    assert_int_equal(world.sent_count, 2);
    assert_string_equal(world.sent[1].payload, world.sent[0].payload); /* the same id: the device knows it */
    answer(STATUS_OK);
    assert_true(rollout->state == ROLLOUT_RUNNING && rollout->acknowledged == 1);
    stop();
}

static void test_broker_that_stays_away(void **state)
{
    (void)state;
    start("updraft");
    struct rollout *late = begin_all();
    tick_in(2 * MINUTE_MS);
    assert_true(late->state == ROLLOUT_ABORTED && late->why[0] != '\0');
    turn();
    assert_int_equal(results(PUBLISH_WITHDRAWN), 1);
    world.trigger.expires_ms = 20;
    struct rollout *expired = begin_all();
    for (int i = 0; i < PATIENCE_MS && !rollout_is_over(expired); i++) {
        uv_run(&world.loop, UV_RUN_ONCE);
    }
    assert_int_equal(expired->state, ROLLOUT_ABORTED);
    assert_string_equal(expired->why, "no command reached the broker: expired");
    set_link(SESSION_CONNECTED);
    assert_int_equal(world.sent_count, 0);
    stop();
}

static char written_why[200];

static uint64_t write_why(void *owner, const struct rollout *rollout)
{
    (void)owner;
    snprintf(written_why, sizeof written_why, "%s", rollout->why);
    return 0;
}

/* Else who reads "aborted" after a restart wonders about devices that are flashed later. */
static void test_aborted_with_commands_on_their_way(void **state)
{
    (void)state;
    const char *why;
    const struct rollout_effects effects = { .trigger = whole_fleet_trigger,
                                             .withdraw = whole_fleet_withdraw,
                                             .changed = write_why,
                                             .member_changed = whole_fleet_member_changed,
                                             .owner = &world.trigger };
    start("updraft");
    rollouts_free(world.fleet.rollouts);
    world.fleet.rollouts = rollouts_new(&effects);
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(macs, 3);
    struct rollout *rollout = begin(&order);
    assert_int_equal(world.on_way_count, 3);
    struct moment now = clock_moment(&world.loop);
    assert_int_equal(rollout_abort(rollout, "by an operator", &now, &why), STATUS_OK);
    turn();
    assert_string_equal(rollout->why, "by an operator; 3 on their way may still arrive");
    assert_string_equal(written_why, rollout->why);
    stop();
}

/* SIGTERM with everything open: commands that wait, that are on their way, whose image is being loaded, retained. */
static void test_stop_with_everything_open(void **state)
{
    (void)state;
    for (int retain = 0; retain <= 1; retain++) {
        start("updraft");
        world.trigger.retain = retain != 0;
        set_link(SESSION_CONNECTED);
        struct trigger_order order = order_to(macs, 3);
        struct rollout *rollout = begin(&order);
        answer(STATUS_OK);
        struct trigger_order loading = order_to(macs, 3);
        loading.fs = true;
        world.trigger.announce = *announce_preset("homie");
        begin(&loading);
        stop();
        (void)rollout;
    }
}

/* A stop is no word on devices, nor on the image: after the restart they are told as if nothing had been. */
static void test_stop_with_commands_that_wait(void **state)
{
    (void)state;
    start_with("updraft", 2);
    struct trigger_order order = order_to(macs, 3);
    order.in_flight = 2;
    struct rollout *rollout = begin(&order);
    turn();
    trigger_stop(&world.trigger);
    close_publisher();
    assert_true(rollout->state == ROLLOUT_RUNNING && rollout->commands_failed == 0);
    assert_true(rollout->devices[ROLLOUT_DEVICE_TRIGGERED] == 2 && rollout->devices[ROLLOUT_DEVICE_QUEUED] == 1);
    stop();
}

/* Else the broker would tell it to whoever connects, for ever. */
static void test_retained_that_is_acknowledged_after_the_end(void **state)
{
    (void)state;
    const char *why;
    start("updraft");
    world.trigger.retain = true;
    set_link(SESSION_CONNECTED);
    struct trigger_order order = order_to(macs, 1);
    struct rollout *rollout = begin(&order);
    struct moment now = clock_moment(&world.loop);
    assert_int_equal(rollout_abort(rollout, "", &now, &why), STATUS_OK);
    turn();
    answer_all(); /* of the command, then of what clears it */
    assert_int_equal(world.sent_count, 2);
    assert_true(world.sent[1].retain && world.sent[1].payload_bytes == 0);
    stop();
}

/* Else an image that arrives when the publisher is gone would be handed to nobody. */
static void test_image_that_comes_after_the_publisher_is_gone(void **state)
{
    (void)state;
    for (int retain = 0; retain <= 1; retain++) {
        start("homie");
        world.trigger.retain = retain != 0;
        struct trigger_order order = order_to(macs, 3);
        world.publisher_closed = true; /* and the loop did not turn: the image is still on its way */
        struct publisher *publisher = world.publisher;
        struct rollout *rollout = begin(&order);
        world.trigger.publisher = NULL;
        wait_for_image();
        assert_true(rollout->state == ROLLOUT_RUNNING && rollout->commands_failed == 0);
        world.publisher_closed = false;
        world.publisher = publisher;
        stop();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command_to_a_type),
        cmocka_unit_test(test_command_to_those_whom_nobody_knows),
        cmocka_unit_test(test_command_to_devices),
        cmocka_unit_test(test_tasmota),
        cmocka_unit_test(test_homie),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_both_forms_are_the_target),
        cmocka_unit_test(test_devices_that_are_known),
        cmocka_unit_test(test_planned_as_told),
        cmocka_unit_test(test_refusals_by_the_repository),
        cmocka_unit_test(test_refusals_for_want_of_a_way),
        cmocka_unit_test(test_nobody_can_be_told),
        cmocka_unit_test(test_refusal_when_busy),
        cmocka_unit_test(test_refusal_when_it_cannot_be_written_down),
        cmocka_unit_test(test_address_that_shows_later),
        cmocka_unit_test(test_queue_that_is_full),
        cmocka_unit_test(test_queue_that_stays_full),
        cmocka_unit_test(test_queue_that_is_full_and_a_pause),
        cmocka_unit_test(test_superseded_while_the_broker_is_away),
        cmocka_unit_test(test_superseded_on_its_way),
        cmocka_unit_test(test_superseded_while_its_image_is_loaded),
        cmocka_unit_test(test_an_image_that_does_not_come),
        cmocka_unit_test(test_superseded_in_part),
        cmocka_unit_test(test_superseded_before_its_turn),
        cmocka_unit_test(test_superseded_when_half_told),
        cmocka_unit_test(test_superseded_in_part_and_retained),
        cmocka_unit_test(test_superseded_in_part_while_its_image_is_loaded),
        cmocka_unit_test(test_a_large_fleet_in_slices),
        cmocka_unit_test(test_forgotten_while_others_are_gathered),
        cmocka_unit_test(test_many_commands_in_slices),
        cmocka_unit_test(test_notes_of_named_devices),
        cmocka_unit_test(test_notes_of_many_alike),
        cmocka_unit_test(test_notes_are_bounded),
        cmocka_unit_test(test_image_that_cannot_be_loaded),
        cmocka_unit_test(test_catalog_that_changes),
        cmocka_unit_test(test_retained_while_under_way),
        cmocka_unit_test(test_more_retained_than_there_is_room_for),
        cmocka_unit_test(test_refused_by_the_broker),
        cmocka_unit_test(test_link_that_breaks),
        cmocka_unit_test(test_broker_that_stays_away),
        cmocka_unit_test(test_aborted_with_commands_on_their_way),
        cmocka_unit_test(test_stop_with_everything_open),
        cmocka_unit_test(test_stop_with_commands_that_wait),
        cmocka_unit_test(test_retained_that_is_acknowledged_after_the_end),
        cmocka_unit_test(test_image_that_comes_after_the_publisher_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
