/* When devices were last seen: a check that changes nothing costs no row, is known after a kill when a minute has gone
 * by, and after an orderly end at once. What else changed is written as ever. A mistake here is a fleet that looks
 * silent after a restart, or a page of the disk for each check. */
#include "fleet/seen.h"

#include "tests/unit/fleet/journal_fixture.h"

#define DEVICES 1000u /* in three blocks */

static atomic_size_t seen_rows;

static enum status gate_pass(void *store, const struct store_change *const *changes, size_t count, bool durable,
                             char *message, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        atomic_fetch_add(&seen_rows, changes[i]->kind == STORE_SEEN && !changes[i]->row.seen.renewed);
    }
    return store_sqlite.write(store, changes, count, durable, message, size);
}

static void world_stop(struct world *world)
{
    settle(world);
    journal_end(world->fleet.journal);
    settle(world);
    world_kill(world);
}

/* Returns how many blocks were written meanwhile. */
static size_t seconds_pass(struct world *world, unsigned seconds)
{
    size_t before = atomic_load(&seen_rows);
    for (unsigned i = 0; i < seconds; i++) {
        journal_tick(world->fleet.journal);
    }
    settle(world);
    return atomic_load(&seen_rows) - before;
}

/* --- devices ------------------------------------------------------------------------------------------------------*/

static const struct device_request usual = { .client = CLIENT_ESP8266,
                                             .has_mac = true,
                                             .has_md5 = true,
                                             .sketch_md5 = { 1 },
                                             .chip = CHIP_ESP8266,
                                             .flash_bytes = 4194304,
                                             .free_bytes = 3000000,
                                             .sketch_bytes = 400000 };

static struct checkin usual_checkin(struct device_request *request, uint64_t number)
{
    *request = usual;
    request->mac = mac_of(number);
    request->label = slice_of("1.0");
    request->sdk = slice_of("2.2.2");
    return (struct checkin){ .request = request,
                             .type = slice_of("porch"),
                             .reason = REASON_UP_TO_DATE,
                             .detail = "",
                             .sent_is_known = true,
                             .flash_mode = 2,
                             .chip = CHIP_ESP8266,
                             .address = { [10] = 0xff, [11] = 0xff, [12] = 10 } };
}

static void checks_in(struct world *world, const struct checkin *checkin)
{
    struct outcome_verdict verdict;
    assert_non_null(fleet_checked_in(&world->fleet, checkin, &now, &verdict));
}

static void comes(struct world *world, uint64_t number)
{
    struct device_request request;
    struct checkin checkin = usual_checkin(&request, number);
    checks_in(world, &checkin);
}

static void all_come(struct world *world)
{
    for (unsigned i = 0; i < DEVICES; i++) {
        comes(world, 1 + i);
    }
}

/* A fleet that was known before, whose first round is over. */
static struct world *known_world(void)
{
    struct world *world = world_open();
    all_come(world);
    world_stop(world);
    world = world_open();
    (void)seconds_pass(world, SEEN_WRITTEN_S);
    now.unix_s += 100;
    return world;
}

static uint32_t seen_s(const struct world *world, uint64_t number)
{
    struct mac mac = mac_of(number);
    const struct device *device = devices_find(world->fleet.devices, &mac);
    return device != NULL ? device->seen_s : 0;
}

static int ask(const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open(state_file, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int number = sqlite3_column_int(statement, 0);
    (void)sqlite3_finalize(statement);
    (void)sqlite3_close(db);
    return number;
}

/* --- when it is written -------------------------------------------------------------------------------------------*/

static void test_a_block_once_however_often_they_came(void **state)
{
    (void)state;
    struct world *world = known_world();
    uint64_t written = store_queue_view(world->queue)->written;
    for (unsigned i = 0; i < 5000; i++) {
        comes(world, 1 + i % 300);
    }
    assert_int_equal(devices_dirty_count(world->fleet.devices), 0);
    assert_int_equal(seconds_pass(world, SEEN_WRITTEN_S), 1);
    assert_int_equal(store_queue_view(world->queue)->written, written + 1);
    assert_int_equal(seconds_pass(world, SEEN_WRITTEN_S), 0);
    world_kill(world);
    world = world_open();
    assert_int_equal(seen_s(world, 1), now.unix_s);
    assert_int_equal(seen_s(world, 300), now.unix_s);
    assert_int_equal(seen_s(world, 301), now.unix_s - 100);
    world_kill(world);
}

/* Whenever it came in the round. */
static void test_within_a_minute(void **state)
{
    (void)state;
    struct world *world = known_world();
    for (unsigned second = 0; second < SEEN_WRITTEN_S; second += 7) {
        (void)seconds_pass(world, second);
        now.unix_s++;
        comes(world, DEVICES);
        assert_int_equal(seconds_pass(world, SEEN_WRITTEN_S), 1);
        world_kill(world);
        world = world_open();
        assert_int_equal(seen_s(world, DEVICES), now.unix_s);
        (void)seconds_pass(world, SEEN_WRITTEN_S);
    }
    world_kill(world);
}

static void test_what_a_kill_may_cost(void **state)
{
    (void)state;
    struct world *world = known_world();
    all_come(world);
    settle(world);
    world_kill(world);
    world = world_open();
    assert_int_equal(seen_s(world, 1), now.unix_s - 100);
    (void)seconds_pass(world, SEEN_WRITTEN_S / 2);
    all_come(world);
    world_stop(world);
    world = world_open();
    for (unsigned i = 0; i < DEVICES; i++) {
        assert_int_equal(seen_s(world, 1 + i), now.unix_s);
    }
    world_kill(world);
}

static void test_spread_over_the_minute(void **state)
{
    (void)state;
    struct world *world = world_open();
    for (unsigned i = 0; i < 100 * STORE_SEEN_MAX; i++) {
        comes(world, 1 + i);
    }
    settle(world);
    size_t all = 0, most = 0;
    for (unsigned second = 0; second < SEEN_WRITTEN_S; second++) {
        size_t n = seconds_pass(world, 1);
        most = n > most ? n : most;
        all += n;
    }
    assert_int_equal(all, 100);
    assert_int_equal(most, 2);
    world_kill(world);
}

/* A row that was written behind the block, as something changed. */
static void test_the_later_of_both(void **state)
{
    (void)state;
    struct world *world = known_world();
    struct device_request request;
    struct checkin checkin = usual_checkin(&request, 1);
    comes(world, 1);
    (void)seconds_pass(world, SEEN_WRITTEN_S);
    now.unix_s += 100;
    request.label = slice_of("1.1");
    checks_in(world, &checkin);
    settle(world);
    world_kill(world);
    world = world_open();
    assert_int_equal(seen_s(world, 1), now.unix_s);
    world_kill(world);
}

/* --- what is more than that ---------------------------------------------------------------------------------------*/

static void other_type(struct checkin *checkin, struct device_request *request)
{
    (void)request;
    checkin->type = slice_of("garage");
}

static void other_reason(struct checkin *checkin, struct device_request *request)
{
    (void)request;
    checkin->reason = REASON_HELD_BACK;
}

static void other_address(struct checkin *checkin, struct device_request *request)
{
    (void)request;
    checkin->address[15] = 9;
}

static void other_way(struct checkin *checkin, struct device_request *request)
{
    (void)request;
    checkin->via_proxy = true;
}

static void other_flash_mode(struct checkin *checkin, struct device_request *request)
{
    (void)request;
    checkin->flash_mode = 3;
}

static void other_chip(struct checkin *checkin, struct device_request *request)
{
    (void)checkin;
    request->chip = CHIP_ESP32;
}

static void other_client(struct checkin *checkin, struct device_request *request)
{
    (void)checkin;
    request->client = CLIENT_ESP32;
}

static void other_md5(struct checkin *checkin, struct device_request *request)
{
    (void)checkin;
    request->sketch_md5[15] = 9;
}

static void other_version(struct checkin *checkin, struct device_request *request)
{
    (void)checkin;
    request->label = slice_of("1.1");
}

static void other_sdk(struct checkin *checkin, struct device_request *request)
{
    (void)checkin;
    request->sdk = slice_of("3.0");
}

static void other_flash(struct checkin *checkin, struct device_request *request)
{
    (void)checkin;
    request->flash_bytes = 1048576;
}

static void other_room(struct checkin *checkin, struct device_request *request)
{
    (void)checkin;
    request->free_bytes = 1;
}

static void other_size(struct checkin *checkin, struct device_request *request)
{
    (void)checkin;
    request->sketch_bytes = 1;
}

static void file_system(struct checkin *checkin, struct device_request *request)
{
    (void)checkin;
    request->mode = DEVICE_MODE_FS;
}

static void (*const changes[])(struct checkin *checkin, struct device_request *request) = {
    other_type, other_reason,  other_address, other_way,   other_flash_mode, other_chip, other_client,
    other_md5,  other_version, other_sdk,     other_flash, other_room,       other_size, file_system,
};

/* Each alone, and back again, is written as soon as ever. */
static void test_what_changed_is_marked(void **state)
{
    (void)state;
    struct world *world = known_world();
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct device_request request;
        struct checkin checkin = usual_checkin(&request, 1 + i);
        changes[i](&checkin, &request);
        checks_in(world, &checkin);
        if (devices_dirty_count(world->fleet.devices) != 1) {
            fail_msg("change %zu is not written", i);
        }
        settle(world);
        checks_in(world, &checkin);
        assert_int_equal(devices_dirty_count(world->fleet.devices), 0);
        comes(world, 1 + i);
        assert_int_equal(devices_dirty_count(world->fleet.devices), 1);
        settle(world);
    }
    world_kill(world);
}

/* Back with what it ran before: it says nothing new, and that is the verdict. */
static void test_a_verdict_is_marked(void **state)
{
    (void)state;
    struct world *world = known_world();
    struct mac mac = mac_of(1);
    uint8_t sent[16] = { 2 };
    struct sending sending = {
        .mac = &mac, .full = true, .file_md5 = sent, .run_md5 = sent, .version = "1.1", .served_max = 3
    };
    struct sending_end end = { .whole = true, .bytes = 1000, .of = 1000, .ms = 10 };
    fleet_sending_ended(&world->fleet, &sending, &end, &now);
    settle(world);
    comes(world, 1);
    settle(world);
    assert_int_equal(ask("SELECT count(*) FROM device WHERE outcome = 'old-build'"), 1);
    world_kill(world);
}

/* A clock that was ahead, and was put right. */
static void test_a_clock_goes_back(void **state)
{
    (void)state;
    struct world *world = known_world();
    all_come(world);
    (void)seconds_pass(world, SEEN_WRITTEN_S);
    now.unix_s -= 1000;
    comes(world, 1);
    (void)seconds_pass(world, SEEN_WRITTEN_S);
    world_kill(world);
    world = world_open();
    assert_int_equal(seen_s(world, 1), now.unix_s);
    world_kill(world);
}

/* --- one process after the other ----------------------------------------------------------------------------------*/

/* The numbers of devices change with a restart; a kill in the first round must not find half of it. */
static void test_restarts_in_any_order(void **state)
{
    (void)state;
    struct world *world = world_open();
    for (unsigned i = DEVICES; i > 0; i--) { /* the file has them by MAC */
        comes(world, i);
    }
    settle(world);
    now.unix_s += 100;
    all_come(world);
    world_stop(world);
    for (unsigned seconds = 0; seconds <= SEEN_WRITTEN_S; seconds += 12) {
        world = world_open();
        (void)seconds_pass(world, seconds);
        for (unsigned i = 0; i < DEVICES; i++) {
            assert_int_equal(seen_s(world, 1 + i), now.unix_s);
        }
        world_kill(world);
    }
    assert_int_equal(ask("SELECT count(*) FROM seen"), 3); /* those of earlier ones are gone */
    assert_int_equal(ask("SELECT max(length(devices)) FROM seen"), 10 * STORE_SEEN_MAX);
}

static void test_who_is_forgotten_is_gone_from_it(void **state)
{
    (void)state;
    struct world *world = known_world();
    struct mac mac = mac_of(1);
    uint64_t ticket;
    assert_int_equal(fleet_forget(&world->fleet, &mac, &now, &ticket), STATUS_OK);
    assert_int_equal(seconds_pass(world, SEEN_WRITTEN_S), 1);
    assert_int_equal(ask("SELECT sum(length(devices)) FROM seen"), 10 * (DEVICES - 1));
    world_kill(world);
    world = world_open();
    assert_int_equal(seen_s(world, 1), 0);
    assert_int_equal(devices_count(world->fleet.devices), DEVICES - 1);
    world_kill(world);
}

/* --- a store that is slow -----------------------------------------------------------------------------------------*/

static void fill_backlog(struct world *world)
{
    while (store_queue_room(world->queue) > STORE_BACKLOG_MAX / 2) {
        (void)store_queue_put(world->queue, full_event(1, 1), STORE_BEHIND);
    }
}

/* Later, and nothing is lost. */
static void test_no_room(void **state)
{
    (void)state;
    struct world *world = known_world();
    atomic_store(&gate_shut, true);
    all_come(world);
    fill_backlog(world);
    size_t backlog = store_queue_view(world->queue)->backlog;
    for (unsigned i = 0; i < 3 * SEEN_WRITTEN_S; i++) {
        journal_tick(world->fleet.journal);
    }
    journal_end(world->fleet.journal);
    assert_int_equal(store_queue_view(world->queue)->backlog, backlog);
    atomic_store(&gate_shut, false);
    settle(world);
    assert_int_equal(seconds_pass(world, SEEN_WRITTEN_S), 3);
    world_kill(world);
    world = world_open();
    assert_int_equal(seen_s(world, DEVICES), now.unix_s);
    world_kill(world);
}

/* Else a disk that fails for a day would find the same blocks again and again. */
static void test_a_failing_store_is_given_none(void **state)
{
    (void)state;
    struct world *world = known_world();
    atomic_store(&gate_shut, true);
    (void)store_queue_put(world->queue, full_event(1, 1), STORE_SOON);
    while (store_queue_view(world->queue)->health != STORE_FAILING) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    all_come(world);
    for (unsigned i = 0; i < 3 * SEEN_WRITTEN_S; i++) {
        journal_tick(world->fleet.journal);
    }
    assert_int_equal(store_queue_view(world->queue)->backlog, 1);
    atomic_store(&gate_shut, false);
    settle(world);
    assert_int_equal(seconds_pass(world, SEEN_WRITTEN_S), 3);
    world_kill(world);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_block_once_however_often_they_came),
        TEST(test_within_a_minute),
        TEST(test_what_a_kill_may_cost),
        TEST(test_the_later_of_both),
        TEST(test_spread_over_the_minute),
        TEST(test_what_changed_is_marked),
        TEST(test_a_verdict_is_marked),
        TEST(test_a_clock_goes_back),
        TEST(test_restarts_in_any_order),
        TEST(test_who_is_forgotten_is_gone_from_it),
        TEST(test_no_room),
        TEST(test_a_failing_store_is_given_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
