/* From an order to messages: what is said to whom, and what is refused. (test_survey.c: what is known of the devices
 * that an order means; test_dispatch.c, test_dispatch_commands.c: what becomes of its commands.)
 */
#include "tests/unit/server/trigger_fixture.h"

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
    stop();
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
        cmocka_unit_test(test_planned_as_told),
        cmocka_unit_test(test_refusals_by_the_repository),
        cmocka_unit_test(test_refusals_for_want_of_a_way),
        cmocka_unit_test(test_nobody_can_be_told),
        cmocka_unit_test(test_refusal_when_busy),
        cmocka_unit_test(test_refusal_when_it_cannot_be_written_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
