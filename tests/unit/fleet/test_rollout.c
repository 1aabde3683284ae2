/* What a rollout makes of facts: line by line, and then thousands of them in disorder, held against a naive model.
 *
 * Build n of any type: file {n, 1}, compressed {n, 2}; a device that runs it says {n, 11} or, in another flash mode,
 * {n, 12}. Time is a number here.
 */
#include "fleet/rollout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TIMEOUT_MS   300000u
#define STRANGERS_MS 15000u /* as the header says */
#define GRACE_MS     60000u

struct world {
    struct rollouts *rollouts;
    uint64_t now_ms;
    unsigned changes;
    enum rollout_state last_state;
    char last_id[ANNOUNCE_ID_SIZE];
};

static void on_changed(void *owner, struct rollout *rollout)
{
    struct world *world = owner;
    world->changes++;
    world->last_state = rollout->state;
    snprintf(world->last_id, sizeof world->last_id, "%s", rollout->id);
    rollout_check(rollout);
}

static void world_open(struct world *world)
{
    *world = (struct world){ .now_ms = 1000000 };
    world->rollouts = rollouts_new(on_changed, world);
}

static void world_close(struct world *world)
{
    for (size_t i = 0; i < rollouts_count(world->rollouts); i++) {
        rollout_check(rollouts_at(world->rollouts, i));
    }
    rollouts_free(world->rollouts);
}

static struct mac mac_of(uint32_t number)
{
    struct mac mac = { { 0x5c, 0xcf } };
    for (int i = 5; i >= 2; i--, number >>= 8) {
        mac.bytes[i] = (uint8_t)number;
    }
    return mac;
}

/* A digest, good until sixteen more were made. */
static const uint8_t *md5_of(unsigned build, unsigned form)
{
    static uint8_t md5s[16][16];
    static unsigned next;
    uint8_t *md5 = md5s[next++ % 16];
    memset(md5, 0, 16);
    md5[0] = (uint8_t)build;
    md5[1] = (uint8_t)form;
    return md5;
}

#define PLAIN 1u
#define GZIP  2u
#define RUNS  11u /* and 12 */

static struct rollout_order order_of(const char *type, bool fs, unsigned build)
{
    struct rollout_order order = { .whole_type = true, .timeout_ms = TIMEOUT_MS };
    struct rollout_target *target = &order.target;
    snprintf(target->type, sizeof target->type, "%s", type);
    snprintf(target->version, sizeof target->version, "1.%u", build);
    target->fs = fs;
    target->bytes = 1000;
    target->image_count = 2;
    memcpy(target->md5[0], md5_of(build, PLAIN), 16);
    memcpy(target->md5[1], md5_of(build, GZIP), 16);
    target->run_md5_count = 2; /* of a file system, too: they say nothing there */
    memcpy(target->run_md5[0], md5_of(build, RUNS), 16);
    memcpy(target->run_md5[1], md5_of(build, RUNS + 1), 16);
    return order;
}

static struct rollout *begin(struct world *world, const char *id, const struct rollout_order *order)
{
    struct rollout *rollout = rollouts_begin(world->rollouts, id, order, world->now_ms);
    if (rollout != NULL) {
        rollout_commands(world->rollouts, rollout, 1);
    }
    return rollout;
}

static void acknowledge(struct world *world, struct rollout *rollout)
{
    rollout_command_ended(world->rollouts, rollout, true, NULL, world->now_ms);
}

/* The usual one: build 2 to all d1, published. */
static struct rollout *begin_usual(struct world *world)
{
    struct rollout_order order = order_of("d1", false, 2);
    struct rollout *rollout = begin(world, "usual", &order);
    acknowledge(world, rollout);
    return rollout;
}

static struct rollout *begin_usual_fs(struct world *world)
{
    struct rollout_order order = order_of("d1", true, 2);
    struct rollout *rollout = begin(world, "fs", &order);
    acknowledge(world, rollout);
    return rollout;
}

static void expect(struct rollout *rollout, uint32_t number, const uint8_t *md5)
{
    struct mac mac = mac_of(number);
    rollout_expect(rollout, &mac, md5);
}

/* The same for an order that names it; returns how many older ones lost it. */
static size_t name(struct world *world, struct rollout *rollout, uint32_t number, const uint8_t *md5)
{
    struct mac mac = mac_of(number);
    struct rollout *losers[ROLLOUTS_MAX];
    size_t lost = rollouts_take_over(world->rollouts, rollout, &mac, world->now_ms, losers);
    rollout_expect(rollout, &mac, md5);
    return lost;
}

static void saw(struct world *world, uint32_t number, const uint8_t *md5)
{
    struct rollout_sighting sighting = { .mac = mac_of(number), .type = slice_of("d1"), .md5 = md5 };
    rollouts_saw(world->rollouts, &sighting, world->now_ms);
}

/* A check of a device that names no digest, or of a file system. */
static void saw_decision(struct world *world, uint32_t number, bool fs, bool up_to_date, const uint8_t *offered_md5)
{
    struct rollout_sighting sighting = {
        .mac = mac_of(number), .type = slice_of("d1"), .fs = fs, .up_to_date = up_to_date, .offered_md5 = offered_md5
    };
    rollouts_saw(world->rollouts, &sighting, world->now_ms);
}

static void pulls(struct world *world, uint32_t number)
{
    struct mac mac = mac_of(number);
    rollouts_transfer_begins(world->rollouts, &mac, md5_of(2, PLAIN), world->now_ms);
}

static void ends(struct world *world, uint32_t number, bool whole, uint64_t bytes)
{
    struct mac mac = mac_of(number);
    rollouts_transfer_ended(world->rollouts, &mac, md5_of(2, PLAIN), whole, bytes, world->now_ms);
}

static void has_it(struct world *world, uint32_t number)
{
    pulls(world, number);
    ends(world, number, true, 1000);
}

static void reports(struct world *world, uint32_t number, enum report_state state, const char *version,
                    const char *error)
{
    struct mac mac = mac_of(number);
    struct device_report report = { .state = state };
    snprintf(report.error, sizeof report.error, "%s", error);
    if (version[0] != '\0') {
        assert_int_equal(version_parse(slice_of(version), &report.version), STATUS_OK);
    }
    rollouts_reported(world->rollouts, &mac, &report, world->now_ms);
}

static void tick_after(struct world *world, uint64_t ms)
{
    world->now_ms += ms;
    rollouts_tick(world->rollouts, world->now_ms);
}

#define NOT_THERE ROLLOUT_DEVICE_STATES

static struct rollout_device_view view_of(struct rollout *rollout, uint32_t number)
{
    struct rollout_device_view view;
    struct mac mac = mac_of(number);
    rollout_check(rollout);
    for (size_t i = 0; rollout_devices(rollout, i, &view, 1) == 1; i++) {
        if (mac_equal(&view.mac, &mac)) {
            return view;
        }
    }
    return (struct rollout_device_view){ .state = NOT_THERE, .why = "" };
}

#define assert_device(rollout, number, expected)                                                                       \
    assert_int_equal(view_of((rollout), (number)).state, ROLLOUT_DEVICE_##expected)
#define assert_not_there(rollout, number)  assert_int_equal(view_of((rollout), (number)).state, NOT_THERE)
#define assert_why(rollout, number, words) assert_string_equal(view_of((rollout), (number)).why, words)

/* --- devices ------------------------------------------------------------------------------------------------------ */

/* The whole way; were a step left out, the operator's bar would not move. */
static void test_the_good_way(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    expect(rollout, 1, md5_of(1, RUNS));
    assert_device(rollout, 1, TRIGGERED);
    saw(&world, 1, md5_of(1, RUNS));
    assert_device(rollout, 1, TRIGGERED);
    pulls(&world, 1);
    assert_device(rollout, 1, DOWNLOADING);
    ends(&world, 1, true, 1000);
    assert_device(rollout, 1, SENT);
    saw(&world, 1, md5_of(2, RUNS + 1)); /* its flash mode's variant */
    assert_device(rollout, 1, CONFIRMED);
    assert_int_equal(rollout->bytes, 1000);
    assert_int_equal(rollout->expected, 1);
    saw(&world, 1, md5_of(1, RUNS)); /* proven is proven: a twin of its MAC asks */
    has_it(&world, 1);
    assert_device(rollout, 1, CONFIRMED);
    world_close(&world);
}

/* Else the operator would wait for devices that have nothing to do. */
static void test_who_runs_it_already(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    expect(rollout, 1, md5_of(2, RUNS));
    expect(rollout, 2, md5_of(1, RUNS));
    expect(rollout, 3, NULL);
    expect(rollout, 3, NULL); /* named twice */
    assert_device(rollout, 1, CURRENT);
    assert_device(rollout, 2, TRIGGERED);
    assert_int_equal(rollout->expected, 2);
    saw(&world, 2, md5_of(2, RUNS)); /* never pulled */
    assert_device(rollout, 2, CURRENT);
    saw_decision(&world, 3, false, true, md5_of(2, PLAIN));
    assert_device(rollout, 3, CURRENT);
    assert_int_equal(rollout->expected, 2); /* as it was at the beginning */
    pulls(&world, 1);                       /* what was known of it was out of date */
    assert_device(rollout, 1, DOWNLOADING);
    world_close(&world);
}

/* Else each device that merely polls would be counted as one that came for the update. */
static void test_a_stranger_joins_when_it_pulls(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    saw(&world, 1, md5_of(1, RUNS));
    saw(&world, 1, md5_of(2, RUNS));
    reports(&world, 1, REPORT_FAILED, "", "no room");
    assert_not_there(rollout, 1);
    pulls(&world, 1);
    assert_device(rollout, 1, DOWNLOADING);
    assert_int_equal(rollout->expected, 0);
    ends(&world, 2, true, 1000); /* it began before the rollout did */
    assert_device(rollout, 2, SENT);
    ends(&world, 3, false, 10);
    assert_device(rollout, 3, FAILED);
    world_close(&world);
}

/* Success said of a device that kept its old image is the worst that this file could do. */
static void test_came_back_without_it(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    has_it(&world, 1);
    saw(&world, 1, md5_of(1, RUNS));
    assert_device(rollout, 1, FAILED);
    assert_why(rollout, 1, "came back without it");
    has_it(&world, 1); /* it tries again */
    assert_device(rollout, 1, SENT);
    assert_why(rollout, 1, "");
    saw(&world, 1, md5_of(2, RUNS));
    assert_device(rollout, 1, CONFIRMED);
    pulls(&world, 2);
    saw(&world, 2, md5_of(1, RUNS)); /* it cannot have restarted with it */
    assert_device(rollout, 2, DOWNLOADING);
    world_close(&world);
}

/* Else a device that has failed once would stay failed, whatever it runs. */
static void test_a_digest_proves_whatever_came_before(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    pulls(&world, 1);
    saw(&world, 1, md5_of(2, RUNS));
    assert_device(rollout, 1, CONFIRMED);
    pulls(&world, 2);
    ends(&world, 2, false, 999);
    saw(&world, 2, md5_of(2, RUNS));
    assert_device(rollout, 2, CONFIRMED);
    ends(&world, 1, false, 5); /* news of long ago */
    assert_device(rollout, 1, CONFIRMED);
    world_close(&world);
}

static void test_other_types_and_files_change_nothing(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    struct mac mac = mac_of(1);
    expect(rollout, 1, NULL);
    struct rollout_sighting sighting = { .mac = mac, .type = slice_of("d2"), .md5 = md5_of(2, RUNS) };
    rollouts_saw(world.rollouts, &sighting, world.now_ms);
    rollouts_transfer_begins(world.rollouts, &mac, md5_of(3, PLAIN), world.now_ms);
    rollouts_transfer_ended(world.rollouts, &mac, md5_of(3, PLAIN), true, 7, world.now_ms);
    assert_device(rollout, 1, TRIGGERED);
    assert_int_equal(rollout->bytes, 0);
    world_close(&world);
}

/* Cores before 2.4 say no digest: else none of their devices would ever be confirmed, or judged. */
static void test_without_a_digest_the_decision_counts(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    for (uint32_t number = 1; number <= 4; number++) {
        has_it(&world, number);
    }
    saw_decision(&world, 1, false, true, md5_of(2, GZIP));
    assert_device(rollout, 1, CONFIRMED);
    saw_decision(&world, 2, false, false, md5_of(2, PLAIN));
    assert_device(rollout, 2, FAILED);
    saw_decision(&world, 3, false, true, md5_of(3, PLAIN)); /* of another build */
    saw_decision(&world, 3, false, false, md5_of(3, PLAIN));
    saw_decision(&world, 3, false, true, NULL);
    saw_decision(&world, 3, true, false, md5_of(2, PLAIN)); /* a file system's */
    saw_decision(&world, 3, true, true, md5_of(2, PLAIN));
    assert_device(rollout, 3, SENT);
    world_close(&world);
}

/* Else a device that asks for its file system before it restarts would count as failed. */
static void test_a_file_system_check_tells_nothing_against_a_sketch(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    struct rollout_sighting sighting = {
        .mac = mac_of(1), .type = slice_of("d1"), .fs = true, .md5 = md5_of(1, RUNS), .offered_md5 = md5_of(9, PLAIN)
    };
    has_it(&world, 1);
    rollouts_saw(world.rollouts, &sighting, world.now_ms);
    assert_device(rollout, 1, SENT);
    sighting.md5 = md5_of(2, RUNS);
    rollouts_saw(world.rollouts, &sighting, world.now_ms);
    assert_device(rollout, 1, CONFIRMED);
    world_close(&world);
}

/* A file system has no digest that its device could say: only the server's decision, or a report, proves it. */
static void test_file_systems(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual_fs(&world);
    expect(rollout, 1, md5_of(2, RUNS)); /* the sketch's */
    assert_device(rollout, 1, TRIGGERED);
    has_it(&world, 1);
    saw(&world, 1, md5_of(2, RUNS));
    saw_decision(&world, 1, false, true, md5_of(2, PLAIN)); /* of the sketch */
    saw_decision(&world, 1, true, true, md5_of(3, PLAIN));
    saw_decision(&world, 1, true, false, md5_of(2, PLAIN)); /* it may never say which one it has */
    assert_device(rollout, 1, SENT);
    saw_decision(&world, 1, true, true, md5_of(2, PLAIN));
    assert_device(rollout, 1, CONFIRMED);

    expect(rollout, 2, NULL);
    reports(&world, 2, REPORT_RUNNING, "1.2", ""); /* which may be its sketch */
    assert_device(rollout, 2, TRIGGERED);
    has_it(&world, 2);
    reports(&world, 2, REPORT_RUNNING, "", "");
    reports(&world, 2, REPORT_RUNNING, "1.1", "");
    assert_device(rollout, 2, SENT);
    reports(&world, 2, REPORT_RUNNING, "v1.2.0", "");
    assert_device(rollout, 2, CONFIRMED);
    world_close(&world);
}

static void test_a_cut_says_where(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    struct mac mac = mac_of(2);
    pulls(&world, 1);
    ends(&world, 1, false, 404);
    assert_device(rollout, 1, FAILED);
    assert_why(rollout, 1, "cut at 40 %");
    rollouts_transfer_begins(world.rollouts, &mac, md5_of(2, GZIP), world.now_ms); /* whose size is another */
    rollouts_transfer_ended(world.rollouts, &mac, md5_of(2, GZIP), false, 404, world.now_ms);
    assert_why(rollout, 2, "cut after 404 bytes");
    pulls(&world, 1);
    assert_device(rollout, 1, DOWNLOADING);
    assert_int_equal(rollout->bytes, 808);
    world_close(&world);
}

/* A device that gave up and asks again is not failed when the server notices the first end at last; nor are two
 * devices with one MAC two. */
static void test_transfers_of_one_mac(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    pulls(&world, 1);
    pulls(&world, 1);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_DOWNLOADING], 1);
    ends(&world, 1, false, 100);
    assert_device(rollout, 1, DOWNLOADING);
    ends(&world, 1, false, 300);
    assert_device(rollout, 1, FAILED);
    assert_why(rollout, 1, "cut at 30 %");
    pulls(&world, 1);
    pulls(&world, 1);
    ends(&world, 1, true, 1000);
    assert_device(rollout, 1, SENT);
    ends(&world, 1, false, 100);
    assert_device(rollout, 1, SENT);
    assert_int_equal(rollout->bytes, 1500);
    pulls(&world, 1); /* it asked again, and was sent it again */
    assert_device(rollout, 1, DOWNLOADING);
    world_close(&world);
}

/* Who says no name: its bytes count, it does not. */
static void test_a_client_without_mac(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    rollouts_transfer_begins(world.rollouts, NULL, md5_of(2, PLAIN), world.now_ms);
    rollouts_transfer_ended(world.rollouts, NULL, md5_of(2, PLAIN), true, 1000, world.now_ms);
    assert_int_equal(rollout->bytes, 1000);
    assert_int_equal(rollout->untracked, 0);
    struct rollout_device_view view;
    assert_int_equal(rollout_devices(rollout, 0, &view, 1), 0);
    world_close(&world);
}

static void test_reports_of_failure(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    for (uint32_t number = 1; number <= 3; number++) {
        expect(rollout, number, NULL);
    }
    reports(&world, 1, REPORT_FAILED, "", "no room");
    assert_device(rollout, 1, FAILED);
    assert_why(rollout, 1, "no room");
    has_it(&world, 2);
    reports(&world, 2, REPORT_RUNNING, "1.2", ""); /* proves no sketch */
    assert_device(rollout, 2, SENT);
    reports(&world, 2, REPORT_FAILED, "", "");
    assert_device(rollout, 2, FAILED);
    assert_why(rollout, 2, "the device reports a failure");
    pulls(&world, 3);
    reports(&world, 3, REPORT_FAILED, "", "md5 differs"); /* before we hear how the transfer ended */
    ends(&world, 3, true, 1000);
    assert_why(rollout, 3, "md5 differs");
    saw(&world, 3, md5_of(2, RUNS)); /* the proof outranks it, before and after */
    reports(&world, 3, REPORT_FAILED, "", "md5 differs");
    assert_device(rollout, 3, CONFIRMED);
    world_close(&world);
}

/* A report does not say of what: what the device pulls is meant, not what it still waits for. */
static void test_a_report_is_of_what_it_pulls(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *sketch = begin_usual(&world);
    struct rollout_order order = order_of("d1", true, 7);
    struct rollout *fs = begin(&world, "fs", &order);
    expect(sketch, 1, NULL);
    expect(fs, 1, NULL);
    pulls(&world, 1);
    reports(&world, 1, REPORT_FAILED, "", "no room");
    assert_device(sketch, 1, FAILED);
    assert_device(fs, 1, TRIGGERED);
    world_close(&world);
}

/* One file of a file system serves each type with that much flash: whoever is expected by one rollout is not counted by
 * the other. */
static void test_a_file_of_two_types(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual_fs(&world);
    struct rollout_order order = order_of("porch", true, 2);
    struct rollout *other = begin(&world, "porch", &order);
    expect(rollout, 1, NULL);
    expect(other, 2, NULL);
    has_it(&world, 1);
    has_it(&world, 2);
    assert_device(rollout, 1, SENT);
    assert_not_there(rollout, 2);
    assert_device(other, 2, SENT);
    assert_not_there(other, 1);
    assert_int_equal(rollout->bytes, 1000);
    assert_int_equal(other->bytes, 1000);
    world_close(&world);
}

/* Else a fleet larger than the table, or invented MACs, would take memory without end; or the bytes would be lost. */
static void test_bounded_in_devices(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    for (uint32_t number = 1; number <= ROLLOUT_DEVICES_MAX; number++) {
        expect(rollout, number, NULL);
    }
    expect(rollout, ROLLOUT_DEVICES_MAX + 1, NULL);
    assert_int_equal(rollout->untracked, 1);
    has_it(&world, ROLLOUT_DEVICES_MAX + 2);
    assert_int_equal(rollout->untracked, 2);
    assert_int_equal(rollout->expected, ROLLOUT_DEVICES_MAX);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_TRIGGERED], ROLLOUT_DEVICES_MAX);
    assert_int_equal(rollout->bytes, 1000);
    has_it(&world, ROLLOUT_DEVICES_MAX);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_SENT], 1);
    struct rollout_device_view views[3];
    assert_int_equal(rollout_devices(rollout, ROLLOUT_DEVICES_MAX - 2, views, 3), 2);
    struct mac last = mac_of(ROLLOUT_DEVICES_MAX);
    assert_true(mac_equal(&views[1].mac, &last) && views[1].state == ROLLOUT_DEVICE_SENT);
    assert_int_equal(rollout_devices(rollout, ROLLOUT_DEVICES_MAX, views, 3), 0);
    assert_int_equal(rollout_devices(rollout, 0, views, 2), 2);
    struct mac first = mac_of(1);
    assert_true(mac_equal(&views[0].mac, &first));
    tick_after(&world, TIMEOUT_MS);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_SILENT], ROLLOUT_DEVICES_MAX);
    world_close(&world);
}

/* --- publishing --------------------------------------------------------------------------------------------------- */

static void test_runs_when_all_commands_are_answered(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout_order order = order_of("d1", false, 2);
    struct rollout *rollout = rollouts_begin(world.rollouts, "a1", &order, world.now_ms);
    rollout_commands(world.rollouts, rollout, 2);
    assert_int_equal(rollout->state, ROLLOUT_PUBLISHING);
    expect(rollout, 1, NULL);
    pulls(&world, 1); /* the device may be faster than the broker's answer */
    assert_device(rollout, 1, DOWNLOADING);
    acknowledge(&world, rollout);
    assert_int_equal(rollout->state, ROLLOUT_PUBLISHING);
    assert_int_equal(world.changes, 0);
    world.now_ms += 5;
    rollout_command_ended(world.rollouts, rollout, false, "refused", world.now_ms);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING);
    assert_true(world.changes == 1 && world.last_state == ROLLOUT_RUNNING);
    assert_true(rollout->running_ms == world.now_ms && rollout->ended_ms == 0);
    assert_true(rollout->acknowledged == 1 && rollout->commands_failed == 1);
    assert_string_equal(rollout->why, "");
    world_close(&world);
}

static void test_fails_when_no_command_arrives(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout_order order = order_of("d1", false, 2);
    struct rollout *rollout = begin(&world, "a1", &order);
    expect(rollout, 1, NULL);
    rollout_command_ended(world.rollouts, rollout, false, "the queue is full", world.now_ms);
    assert_true(rollout->state == ROLLOUT_FAILED && world.last_state == ROLLOUT_FAILED && world.changes == 1);
    assert_string_equal(rollout->why, "the queue is full");
    assert_true(rollout->ended_ms == world.now_ms && rollout_is_over(rollout));
    assert_device(rollout, 1, SILENT);
    has_it(&world, 1); /* nothing happens to what is over */
    assert_device(rollout, 1, SILENT);
    assert_int_equal(rollout->bytes, 0);
    world_close(&world);
}

/* Else a broker that never comes would leave the operator waiting for ever. */
static void test_the_broker_has_a_deadline(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout_order order = order_of("d1", false, 2), other = order_of("porch", false, 3);
    struct rollout *none = begin(&world, "none", &order), *some = begin(&world, "some", &other);
    rollout_commands(world.rollouts, some, 1);
    acknowledge(&world, some);
    tick_after(&world, TIMEOUT_MS - 1);
    assert_true(none->state == ROLLOUT_PUBLISHING && some->state == ROLLOUT_PUBLISHING);
    tick_after(&world, 1);
    assert_true(none->state == ROLLOUT_FAILED && some->state == ROLLOUT_RUNNING);
    assert_non_null(strstr(none->why, "within 300 s"));
    rollout_command_ended(world.rollouts, none, false, "withdrawn", world.now_ms); /* late answers are counted only */
    acknowledge(&world, some);
    assert_true(none->state == ROLLOUT_FAILED && none->commands_failed == 1 && some->acknowledged == 2);
    assert_non_null(strstr(none->why, "within 300 s"));
    assert_int_equal(world.changes, 2);
    world_close(&world);
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

static void test_named_devices_end_it(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout_order order = order_of("d1", false, 2);
    order.whole_type = false;
    struct rollout *rollout = begin(&world, "a1", &order);
    for (uint32_t number = 1; number <= 3; number++) {
        expect(rollout, number, number == 3 ? md5_of(2, RUNS) : NULL);
    }
    acknowledge(&world, rollout);
    has_it(&world, 1);
    pulls(&world, 2);
    pulls(&world, 9); /* nobody named it */
    saw(&world, 1, md5_of(2, RUNS));
    tick_after(&world, 1000);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING);
    ends(&world, 2, false, 10);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING); /* facts end nothing */
    reports(&world, 2, REPORT_FAILED, "", "link lost");
    tick_after(&world, GRACE_MS - 1);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING); /* it may try again */
    tick_after(&world, 1);
    assert_true(rollout->state == ROLLOUT_DONE && rollout->ended_ms == world.now_ms);
    assert_true(world.changes == 2 && world.last_state == ROLLOUT_DONE);
    assert_device(rollout, 9, SILENT);
    world_close(&world);
}

static void test_a_known_type_ends_it(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    expect(rollout, 1, NULL);
    has_it(&world, 1);
    has_it(&world, 2);
    saw(&world, 1, md5_of(2, RUNS));
    tick_after(&world, 1000);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING); /* somebody else is on the way */
    saw(&world, 2, md5_of(2, RUNS));
    tick_after(&world, 0);
    assert_int_equal(rollout->state, ROLLOUT_DONE);
    world_close(&world);
}

/* Of a type that nobody has seen yet: else it would end before the first comes, or between two of them. */
static void test_an_unknown_type_ends_when_it_is_quiet(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout_order order = order_of("d1", false, 2);
    order.window_s = 60;
    struct rollout *rollout = begin(&world, "a1", &order);
    acknowledge(&world, rollout);
    tick_after(&world, STRANGERS_MS + 60000);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING); /* nobody came */
    has_it(&world, 1);
    tick_after(&world, STRANGERS_MS + 60000);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING); /* it is flashing */
    saw(&world, 1, md5_of(2, RUNS));
    tick_after(&world, STRANGERS_MS + 60000 - 1);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING);
    tick_after(&world, 1);
    assert_int_equal(rollout->state, ROLLOUT_DONE);
    world_close(&world);
}

/* A type of which each known device runs it already has nothing to wait for but strangers. */
static void test_a_type_that_is_up_to_date(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    expect(rollout, 1, md5_of(2, RUNS));
    tick_after(&world, STRANGERS_MS - 1);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING);
    tick_after(&world, 1);
    assert_int_equal(rollout->state, ROLLOUT_DONE);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_CURRENT], 1);
    world_close(&world);
}

static void test_ends_without_news(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout_order order = order_of("d1", false, 2);
    order.window_s = 60;
    struct rollout *rollout = begin(&world, "a1", &order);
    acknowledge(&world, rollout);
    for (uint32_t number = 1; number <= 3; number++) {
        expect(rollout, number, NULL);
    }
    tick_after(&world, 100000);
    pulls(&world, 1); /* news */
    has_it(&world, 2);
    tick_after(&world, 1000);
    saw(&world, 3, md5_of(1, RUNS)); /* a poll that changes nothing is none */
    tick_after(&world, TIMEOUT_MS + 60000 - 1001);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING);
    tick_after(&world, 1);
    assert_int_equal(rollout->state, ROLLOUT_DONE);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_SILENT], 3);
    world_close(&world);
}

/* Else one device with a bad link would keep a rollout open for as long as it lives. */
static void test_one_that_is_always_cut_is_no_news_for_ever(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    expect(rollout, 1, NULL); /* and never comes */
    unsigned tries = 0;
    for (; !rollout_is_over(rollout) && tries < 1000; tries++) {
        pulls(&world, 2);
        ends(&world, 2, false, 10);
        tick_after(&world, 60000);
    }
    assert_true(tries > 8 && tries < 20);
    world_close(&world);
}

/* It came and the server knows why it got nothing: "silent" would send the operator to look at its Wi-Fi. */
static void test_who_came_and_was_refused_failed(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    struct rollout_sighting sighting = { .mac = mac_of(1),
                                         .type = slice_of("d1"),
                                         .refused = "wrong-flash: qio, dout" };
    expect(rollout, 1, NULL);
    rollouts_saw(world.rollouts, &sighting, world.now_ms); /* of another image than the target's */
    assert_device(rollout, 1, TRIGGERED);
    sighting.fs = true;
    sighting.offered_md5 = md5_of(2, GZIP);
    rollouts_saw(world.rollouts, &sighting, world.now_ms); /* of its file system */
    assert_device(rollout, 1, TRIGGERED);
    sighting.fs = false;
    rollouts_saw(world.rollouts, &sighting, world.now_ms);
    assert_device(rollout, 1, FAILED);
    struct rollout_device_view view;
    assert_int_equal(rollout_devices(rollout, 0, &view, 1), 1);
    assert_string_equal(view.why, "wrong-flash: qio, dout");
    pulls(&world, 1); /* it may still try again */
    assert_device(rollout, 1, DOWNLOADING);
    world_close(&world);
}

static void test_who_could_not_be_told_failed(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    struct mac told = mac_of(1), came = mac_of(2);
    expect(rollout, 1, NULL);
    expect(rollout, 2, NULL);
    pulls(&world, 2);
    rollout_not_told(rollout, &told, "the queue is full", world.now_ms);
    rollout_not_told(rollout, &came, "the queue is full", world.now_ms); /* it came by itself */
    assert_device(rollout, 1, FAILED);
    assert_device(rollout, 2, DOWNLOADING);
    struct rollout_device_view view;
    assert_int_equal(rollout_devices(rollout, 0, &view, 1), 1);
    assert_string_equal(view.why, "not told: the queue is full");
    world_close(&world);
}

static void test_a_newer_rollout_supersedes(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world), *fs = begin_usual_fs(&world);
    struct rollout_order porch = order_of("porch", false, 2), again = order_of("d1", false, 3);
    struct rollout *other = begin(&world, "porch", &porch);
    expect(rollout, 1, NULL);
    has_it(&world, 2);
    world.changes = 0;
    struct rollout *newer = begin(&world, "newer", &again);
    assert_true(rollout->state == ROLLOUT_DONE && world.changes == 1);
    assert_string_equal(world.last_id, "usual");
    assert_string_equal(rollout->why, "superseded by newer");
    assert_device(rollout, 1, SUPERSEDED);
    assert_why(rollout, 2, "superseded by newer");
    assert_true(!rollout_is_over(fs) && !rollout_is_over(other) && !rollout_is_over(newer));
    struct rollout_order once_more = order_of("d1", false, 4);
    (void)begin(&world, "newest", &once_more); /* of one that is not yet published, too */
    assert_int_equal(newer->state, ROLLOUT_DONE);
    world_close(&world);
}

static struct rollout *begin_named(struct world *world, const char *id, unsigned build)
{
    struct rollout_order order = order_of("d1", false, build);
    order.whole_type = false;
    return begin(world, id, &order);
}

/* `--to A`, then `--to B`: else the second order would leave A untold, or unwatched. */
static void test_named_orders_take_over_what_they_name(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *older = begin_named(&world, "older", 2);
    for (uint32_t number = 1; number <= 4; number++) {
        assert_int_equal(name(&world, older, number, number == 4 ? md5_of(2, RUNS) : NULL), 0);
    }
    acknowledge(&world, older);
    struct rollout *other = begin_named(&world, "other", 3);
    assert_int_equal(name(&world, other, 9, NULL), 0);
    assert_true(!rollout_is_over(older) && older->devices[ROLLOUT_DEVICE_TRIGGERED] == 3);
    has_it(&world, 3);
    saw(&world, 3, md5_of(2, RUNS));
    pulls(&world, 1);

    struct rollout *newer = begin_named(&world, "newer", 3);
    assert_int_equal(name(&world, newer, 1, NULL), 1);
    assert_int_equal(name(&world, newer, 3, NULL), 1); /* its end was known */
    assert_int_equal(name(&world, newer, 3, NULL), 0);
    assert_device(older, 1, SUPERSEDED);
    assert_why(older, 1, "superseded by newer");
    assert_device(older, 3, CONFIRMED);
    assert_device(newer, 1, TRIGGERED);
    assert_int_equal(older->expected, 2);
    ends(&world, 1, true, 1000); /* the transfer that was under way */
    saw(&world, 1, md5_of(2, RUNS));
    assert_device(older, 1, SUPERSEDED);
    assert_int_equal(older->bytes, 2000);
    tick_after(&world, 1000);
    assert_false(rollout_is_over(older)); /* 2 is still to come */
    has_it(&world, 2);
    saw(&world, 2, md5_of(2, RUNS));
    tick_after(&world, 1000);
    assert_true(older->state == ROLLOUT_DONE && !rollout_is_over(newer) && !rollout_is_over(other));
    assert_string_equal(older->why, "");
    world_close(&world);
}

/* Else an order of which nothing is left would wait for its timeout, for nobody. */
static void test_superseded_when_none_is_left(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *older = begin_named(&world, "older", 2);
    name(&world, older, 1, NULL);
    name(&world, older, 2, NULL);
    pulls(&world, 2);
    ends(&world, 2, false, 10); /* it might have tried again */
    struct rollout *first = begin_named(&world, "first", 3), *second = begin_named(&world, "second", 4);
    name(&world, first, 1, NULL);
    assert_false(rollout_is_over(older));
    name(&world, second, 2, NULL);
    assert_int_equal(older->state, ROLLOUT_DONE);
    assert_string_equal(older->why, "superseded by second");
    assert_string_equal(world.last_id, "older");
    assert_why(older, 1, "superseded by first");
    assert_why(older, 2, "superseded by second");
    assert_int_equal(older->may_retry, 0);
    world_close(&world);
}

/* The rest of the type goes on, also those of whom nobody has heard yet; who was named is not of it any more. */
static void test_named_devices_leave_their_type(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *older = begin_usual(&world);
    expect(older, 1, NULL);
    struct rollout *newer = begin_named(&world, "newer", 2); /* the same file */
    assert_int_equal(name(&world, newer, 1, NULL), 1);
    assert_int_equal(name(&world, newer, 2, NULL), 0); /* not heard of until now */
    acknowledge(&world, newer);
    tick_after(&world, STRANGERS_MS);
    assert_false(rollout_is_over(older));
    has_it(&world, 1);
    has_it(&world, 2);
    has_it(&world, 3);
    assert_device(older, 1, SUPERSEDED);
    assert_device(older, 2, SUPERSEDED);
    assert_device(older, 3, SENT);
    assert_device(newer, 2, SENT);
    assert_true(older->bytes == 1000 && newer->bytes == 2000);
    expect(older, 2, NULL); /* the older learns of it only now */
    assert_true(older->expected == 0 && newer->expected == 2);
    saw(&world, 3, md5_of(2, RUNS));
    tick_after(&world, STRANGERS_MS);
    assert_true(older->state == ROLLOUT_DONE && older->why[0] == '\0');

    struct rollout *all = begin_usual(&world);
    assert_true(newer->state == ROLLOUT_DONE && strcmp(newer->why, "superseded by usual") == 0);
    struct rollout *last = begin_named(&world, "last", 2);
    expect(all, 1, NULL);
    name(&world, last, 1, NULL);
    tick_after(&world, TIMEOUT_MS); /* nobody else came */
    assert_string_equal(all->why, "superseded by last");
    world_close(&world);
}

/* Of a large fleet the rollout learns in pieces: who came meanwhile is expected all the same. */
static void test_who_came_before_it_was_expected(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    has_it(&world, 1);
    has_it(&world, 2);
    saw(&world, 2, md5_of(2, RUNS));
    expect(rollout, 1, NULL);
    expect(rollout, 2, md5_of(2, RUNS));
    expect(rollout, 3, md5_of(2, RUNS));
    assert_int_equal(rollout->expected, 2);
    assert_device(rollout, 2, CONFIRMED);
    saw(&world, 1, md5_of(2, RUNS));
    tick_after(&world, 0);
    assert_int_equal(rollout->state, ROLLOUT_DONE);
    world_close(&world);
}

/* A retry that comes after the end is a success that nobody sees. */
static void test_a_cut_has_its_grace(void **state)
{
    (void)state;
    static const struct {
        uint64_t check_ms, timeout_ms, grace_ms;
    } rows[] = {
        { 0, TIMEOUT_MS, GRACE_MS },         { 10000, TIMEOUT_MS, GRACE_MS },        { 30000, TIMEOUT_MS, 90000 },
        { 3600000, TIMEOUT_MS, TIMEOUT_MS }, { UINT64_MAX, TIMEOUT_MS, TIMEOUT_MS }, { 0, 5000, 5000 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world world;
        world_open(&world);
        struct rollout_order order = order_of("d1", false, 2);
        order.check_ms = rows[i].check_ms;
        order.timeout_ms = rows[i].timeout_ms;
        struct rollout *rollout = begin(&world, "a1", &order);
        acknowledge(&world, rollout);
        expect(rollout, 1, NULL);
        expect(rollout, 2, NULL);
        pulls(&world, 2);
        ends(&world, 2, false, 10);
        pulls(&world, 1);
        tick_after(&world, 1000);
        ends(&world, 1, false, 10);
        assert_int_equal(rollout->may_retry, 2);
        assert_true(view_of(rollout, 1).may_retry);
        tick_after(&world, rows[i].grace_ms - 1); /* counted from the last */
        assert_int_equal(rollout->state, ROLLOUT_RUNNING);
        tick_after(&world, 1);
        assert_int_equal(rollout->state, ROLLOUT_DONE);
        world_close(&world);
    }
}

static void test_a_retry_within_its_grace_counts(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    expect(rollout, 1, NULL);
    pulls(&world, 1);
    ends(&world, 1, false, 10);
    tick_after(&world, GRACE_MS - 1);
    has_it(&world, 1);
    assert_int_equal(rollout->may_retry, 0);
    tick_after(&world, GRACE_MS);
    assert_int_equal(rollout->state, ROLLOUT_RUNNING); /* it flashes */
    saw(&world, 1, md5_of(1, RUNS));
    assert_false(view_of(rollout, 1).may_retry); /* it had it whole: that is final */
    tick_after(&world, 0);
    assert_int_equal(rollout->state, ROLLOUT_DONE);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_FAILED], 1);
    world_close(&world);
}

/* 32 rollouts that have ended would else hold all their devices: hundreds of megabytes for what nobody looks at. */
static void test_what_is_kept_of_one_that_has_ended(void **state)
{
    (void)state;
    struct world world;
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    for (uint32_t number = 1; number <= 10000; number++) {
        expect(rollout, number, number % 2 == 0 ? md5_of(2, RUNS) : NULL);
    }
    for (uint32_t number = 9001; number < 9021; number += 2) {
        has_it(&world, number);
        saw(&world, number, md5_of(1, RUNS));
    }
    assert_int_equal(rollout_unlisted(rollout), 0);
    tick_after(&world, TIMEOUT_MS);
    assert_int_equal(rollout->state, ROLLOUT_DONE);
    unsigned turns = 1; /* and not all at once */
    for (; rollouts_tidy(world.rollouts, 1000); turns++) {
        assert_true(turns <= 11);
    }
    assert_int_equal(turns, 11);
    struct rollout_device_view views[1001];
    assert_int_equal(rollout_devices(rollout, 0, views, 1001), ROLLOUT_LISTED_MAX);
    assert_true(views[9].state == ROLLOUT_DEVICE_FAILED && strcmp(views[9].why, "came back without it") == 0);
    assert_true(views[10].state == ROLLOUT_DEVICE_SILENT && views[999].state == ROLLOUT_DEVICE_SILENT);
    assert_int_equal(rollout_devices(rollout, 995, views, 1001), 5);
    assert_int_equal(rollout_unlisted(rollout), 9000);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_SILENT], 4990);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_CURRENT], 5000);

    rollout = begin_usual(&world);
    for (uint32_t number = 1; number <= 5000; number++) {
        expect(rollout, number, NULL);
    }
    struct rollout_order again = order_of("d1", false, 3);
    begin(&world, "newer", &again);
    assert_int_equal(rollout_devices(rollout, 999, views, 10), 1); /* asked before it is tidy */
    assert_true(views[0].state == ROLLOUT_DEVICE_SUPERSEDED && strcmp(views[0].why, "superseded by newer") == 0);
    rollout = begin_usual(&world);
    for (uint32_t number = 1; number <= 5000; number++) {
        expect(rollout, number, NULL);
        reports(&world, number, REPORT_FAILED, "", "no");
    }
    tick_after(&world, TIMEOUT_MS); /* and it is freed before it is tidy */
    world_close(&world);
}

static void test_notes(void **state)
{
    (void)state;
    struct world world;
    char sentence[] = "a";
    world_open(&world);
    struct rollout *rollout = begin_usual(&world);
    for (int i = 0; i < ROLLOUT_NOTES_MAX + 2; i++) {
        rollout_note(rollout, sentence);
        sentence[0]++;
    }
    assert_int_equal(rollout->note_count, ROLLOUT_NOTES_MAX);
    assert_string_equal(rollout->notes[1], "b");
    world_close(&world);
}

static void test_bounded_in_number(void **state)
{
    (void)state;
    struct world world;
    struct rollout *rollouts[ROLLOUTS_MAX];
    char name[32];
    world_open(&world);
    for (unsigned i = 0; i < ROLLOUTS_MAX; i++) {
        snprintf(name, sizeof name, "t%u", i);
        struct rollout_order order = order_of(name, false, i + 1);
        rollouts[i] = begin(&world, name, &order);
        assert_true(rollouts_at(world.rollouts, 0) == rollouts[i]);
    }
    struct rollout_order order = order_of("one-more", false, 99);
    assert_null(begin(&world, "more", &order));
    assert_int_equal(rollouts_count(world.rollouts), ROLLOUTS_MAX);
    rollout_command_ended(world.rollouts, rollouts[9], false, "", world.now_ms);
    rollout_command_ended(world.rollouts, rollouts[5], false, "", world.now_ms);
    assert_string_equal(rollouts[9]->why, "the broker refused it");
    assert_non_null(begin(&world, "more", &order));
    assert_null(rollouts_find(world.rollouts, slice_of("t5"))); /* the older of the two that are over */
    assert_true(rollouts_find(world.rollouts, slice_of("t9")) == rollouts[9]);
    assert_true(rollouts_find(world.rollouts, slice_of("t6")) == rollouts[6]);
    assert_true(rollouts_at(world.rollouts, 1) == rollouts[31] && rollouts_at(world.rollouts, 31) == rollouts[0]);
    assert_null(rollouts_find(world.rollouts, slice_of("t")));
    struct rollout_order again = order_of("t0", false, 50);
    assert_non_null(begin(&world, "again", &again));
    assert_non_null(begin(&world, "and-again", &again)); /* all others under way: the one it supersedes makes room */
    assert_int_equal(rollouts_count(world.rollouts), ROLLOUTS_MAX);
    world_close(&world);
}

/* --- a long history ----------------------------------------------------------------------------------------------- */

enum { DEVICES = 8, KINDS = 4, BUILDS = 3, STEPS = 12000, HISTORIES = 8, REMEMBERED = 2000, NEWS_MAX = 16 };

static const char *const kinds[KINDS] = { "d1", "porch", "d1", "porch" }; /* the last two: file systems */

struct model_device {
    bool in, expected, awaited, proven, taken, may_retry;
    enum rollout_device_state state;
    unsigned transfers, news;
};

struct model {
    char id[ANNOUNCE_ID_SIZE];
    bool forgotten, whole_type;
    unsigned kind, build;
    enum rollout_state state;
    uint64_t created_ms, news_ms, cut_ms, bytes;
    size_t commands, acknowledged, failed, expected;
    struct model_device devices[DEVICES];
};

struct history {
    struct world world;
    unsigned seed;
    size_t count;
    struct model models[REMEMBERED];
};

static unsigned draw(struct history *history, unsigned n)
{
    return (unsigned)rand_r(&history->seed) % n;
}

static bool model_is_over(const struct model *model)
{
    return model->state == ROLLOUT_DONE || model->state == ROLLOUT_FAILED;
}

static bool model_is_fs(const struct model *model)
{
    return model->kind >= 2;
}

static bool is_on_the_way(enum rollout_device_state state)
{
    return state == ROLLOUT_DEVICE_TRIGGERED || state == ROLLOUT_DEVICE_DOWNLOADING || state == ROLLOUT_DEVICE_SENT;
}

static void model_end(struct model *model, enum rollout_state state, enum rollout_device_state open_become)
{
    model->state = state;
    for (int d = 0; d < DEVICES; d++) {
        if (model->devices[d].in && is_on_the_way(model->devices[d].state)) {
            model->devices[d].state = open_become;
        }
    }
}

static bool model_is_all_superseded(const struct model *model)
{
    unsigned in = 0, superseded = 0;
    for (int d = 0; d < DEVICES; d++) {
        in += model->devices[d].in;
        superseded += model->devices[d].in && model->devices[d].state == ROLLOUT_DEVICE_SUPERSEDED;
    }
    return in > 0 && in == superseded;
}

/* A newer one to named devices: what is on the way, or may try again, is no longer of the older. */
static void model_take(struct model *older, unsigned d)
{
    struct model_device *device = &older->devices[d];
    if (!device->in && older->whole_type) {
        *device = (struct model_device){ .in = true, .state = ROLLOUT_DEVICE_TRIGGERED };
    }
    if (!device->in || device->taken) {
        return;
    }
    device->taken = true;
    if (is_on_the_way(device->state) || device->may_retry) {
        device->state = ROLLOUT_DEVICE_SUPERSEDED;
        older->expected -= device->awaited;
        device->may_retry = device->expected = device->awaited = false;
    }
    if (!older->whole_type && model_is_all_superseded(older)) {
        model_end(older, ROLLOUT_DONE, ROLLOUT_DEVICE_SUPERSEDED);
    }
}

static void model_set(struct history *history, struct model *model, struct model_device *device,
                      enum rollout_device_state state)
{
    if (device->state != state || state == ROLLOUT_DEVICE_FAILED) {
        device->may_retry = device->may_retry && state == ROLLOUT_DEVICE_FAILED;
        device->state = state;
        if (device->news++ < NEWS_MAX) {
            model->news_ms = history->world.now_ms;
        }
    }
}

static size_t count_under_way(const struct history *history)
{
    size_t count = 0;
    for (size_t i = 0; i < history->count; i++) {
        count += !model_is_over(&history->models[i]);
    }
    return count;
}

/* The newest learns of devices: those of its type that are known, or those named. */
static void step_name(struct history *history, struct model *model, struct rollout *rollout)
{
    for (uint32_t d = 0; d < DEVICES; d++) {
        struct model_device *device = &model->devices[d];
        unsigned runs = draw(history, BUILDS + 1); /* 0 = not said */
        if (draw(history, 3) != 0) {
            continue;
        }
        for (struct model *older = history->models; older < model && !model->whole_type; older++) {
            if (older->kind == model->kind && !model_is_over(older)) {
                model_take(older, d);
            }
        }
        if (!device->in) {
            bool current = runs == model->build && !model_is_fs(model);
            device->state = current ? ROLLOUT_DEVICE_CURRENT : ROLLOUT_DEVICE_TRIGGERED;
        }
        device->awaited = device->expected ? device->awaited : device->state != ROLLOUT_DEVICE_CURRENT;
        model->expected += !device->expected && device->awaited;
        device->in = device->expected = true;
        const uint8_t *md5 = runs != 0 ? md5_of(runs, RUNS) : NULL;
        if (model->whole_type) {
            expect(rollout, d, md5);
        } else {
            name(&history->world, rollout, d, md5);
        }
    }
}

static void step_late_names(struct history *history)
{
    struct model *model = &history->models[history->count - 1];
    if (!model_is_over(model) && draw(history, 20) == 0) {
        step_name(history, model, rollouts_find(history->world.rollouts, slice_of(model->id)));
    }
}

static void step_begin(struct history *history)
{
    struct world *world = &history->world;
    unsigned kind = draw(history, KINDS), build = 1 + draw(history, BUILDS);
    struct model *model = &history->models[history->count];
    bool whole_type = draw(history, 2) == 0;
    for (size_t i = 0; i < history->count && whole_type; i++) {
        if (history->models[i].kind == kind && !model_is_over(&history->models[i])) {
            model_end(&history->models[i], ROLLOUT_DONE, ROLLOUT_DEVICE_SUPERSEDED);
        }
    }
    *model = (struct model){ .kind = kind, .build = build, .whole_type = whole_type };
    model->commands = 1 + draw(history, 3);
    model->created_ms = model->news_ms = world->now_ms;
    snprintf(model->id, sizeof model->id, "%zx", history->count);
    struct rollout_order order = order_of(kinds[kind], kind >= 2, build);
    order.whole_type = model->whole_type;
    struct rollout *rollout = rollouts_begin(world->rollouts, model->id, &order, world->now_ms);
    if (rollout == NULL) {
        assert_int_equal(count_under_way(history), ROLLOUTS_MAX);
        return;
    }
    rollout_commands(world->rollouts, rollout, model->commands);
    history->count++;
    step_name(history, model, rollout); /* of a large fleet the rest follows later, when facts have come */
}

static void step_command(struct history *history)
{
    struct model *model = &history->models[history->count - 1];
    struct rollout *rollout = rollouts_find(history->world.rollouts, slice_of(model->id));
    bool good = draw(history, 3) != 0;
    if (model->acknowledged + model->failed == model->commands) {
        return;
    }
    *(good ? &model->acknowledged : &model->failed) += 1;
    if (model->state == ROLLOUT_PUBLISHING && model->acknowledged + model->failed == model->commands) {
        if (model->acknowledged > 0) {
            model->state = ROLLOUT_RUNNING;
            model->news_ms = history->world.now_ms;
        } else {
            model_end(model, ROLLOUT_FAILED, ROLLOUT_DEVICE_SILENT);
        }
    }
    rollout_command_ended(history->world.rollouts, rollout, good, "no", history->world.now_ms);
}

static void model_saw(struct history *history, struct model *model, const struct rollout_sighting *sighting,
                      struct model_device *device)
{
    const uint8_t *said = sighting->md5, *offered = sighting->offered_md5;
    bool same_offered = offered != NULL && offered[0] == model->build;
    bool proof = said != NULL ? said[0] == model->build : !sighting->fs && same_offered && sighting->up_to_date;
    bool other = said != NULL ? !proof : !sighting->fs && same_offered && !sighting->up_to_date;
    if (model_is_fs(model)) {
        proof = sighting->fs && same_offered && sighting->up_to_date;
        other = false;
    }
    if (proof && device->state == ROLLOUT_DEVICE_TRIGGERED) {
        model_set(history, model, device, ROLLOUT_DEVICE_CURRENT);
    } else if (proof && device->state != ROLLOUT_DEVICE_CURRENT) {
        device->proven = true;
        model_set(history, model, device, ROLLOUT_DEVICE_CONFIRMED);
    } else if (other && !sighting->fs && device->state == ROLLOUT_DEVICE_SENT) {
        model_set(history, model, device, ROLLOUT_DEVICE_FAILED);
    }
}

static void step_saw(struct history *history)
{
    unsigned d = draw(history, DEVICES), type = draw(history, 2), runs = draw(history, BUILDS + 1);
    unsigned offered = draw(history, BUILDS + 1);
    struct rollout_sighting sighting = { .mac = mac_of(d),
                                         .type = slice_of(kinds[type]),
                                         .fs = draw(history, 2) == 0,
                                         .md5 = runs != 0 ? md5_of(runs, RUNS + draw(history, 2)) : NULL,
                                         .up_to_date = draw(history, 2) == 0,
                                         .offered_md5 = offered != 0 ? md5_of(offered, PLAIN) : NULL };
    for (size_t i = 0; i < history->count; i++) {
        struct model *model = &history->models[i];
        if (!model_is_over(model) && model->kind % 2 == type && model->devices[d].in && !model->devices[d].taken) {
            model_saw(history, model, &sighting, &model->devices[d]);
        }
    }
    rollouts_saw(history->world.rollouts, &sighting, history->world.now_ms);
}

/* Which of the rollouts a transfer of this build is of: those that know the device, else those to a whole type, else
 * all. */
static size_t models_of_transfer(struct history *history, unsigned d, unsigned build, struct model **found)
{
    size_t ranks[3] = { 0 };
    for (int rank = 0; rank < 3 && (rank == 0 || ranks[rank - 1] == 0); rank++) {
        for (size_t i = 0; i < history->count; i++) {
            struct model *model = &history->models[i];
            bool own = model->devices[d].in && !model->devices[d].taken;
            if (!model_is_over(model) && model->build == build &&
                (own || rank == 2 || (rank == 1 && model->whole_type))) {
                found[ranks[rank]++] = model;
            }
        }
    }
    return ranks[0] + ranks[1] + ranks[2];
}

static void step_transfer_begins(struct history *history)
{
    unsigned d = draw(history, DEVICES), build = 1 + draw(history, BUILDS);
    struct model *found[ROLLOUTS_MAX];
    size_t count = models_of_transfer(history, d, build, found);
    struct mac mac = mac_of(d);
    for (size_t i = 0; i < count; i++) {
        struct model_device *device = &found[i]->devices[d];
        if (!device->in) {
            device->in = true;
            device->state = ROLLOUT_DEVICE_SILENT; /* so that it changes */
            model_set(history, found[i], device, ROLLOUT_DEVICE_DOWNLOADING);
        } else if (device->state != ROLLOUT_DEVICE_CONFIRMED && !device->taken) {
            model_set(history, found[i], device, ROLLOUT_DEVICE_DOWNLOADING);
        }
        device->transfers++;
    }
    rollouts_transfer_begins(history->world.rollouts, &mac, md5_of(build, PLAIN + draw(history, 2)),
                             history->world.now_ms);
}

static void step_transfer_ends(struct history *history)
{
    unsigned d = draw(history, DEVICES), build = 1 + draw(history, BUILDS), bytes = draw(history, 1000);
    bool whole = draw(history, 2) == 0;
    struct model *found[ROLLOUTS_MAX];
    size_t count = models_of_transfer(history, d, build, found);
    struct mac mac = mac_of(d);
    for (size_t i = 0; i < count; i++) {
        struct model_device *device = &found[i]->devices[d];
        found[i]->bytes += bytes;
        if (!device->in) {
            device->in = true;
            device->state = ROLLOUT_DEVICE_DOWNLOADING;
        }
        device->transfers -= device->transfers > 0 ? 1 : 0;
        if (device->taken) {
            continue;
        }
        if (device->state == ROLLOUT_DEVICE_DOWNLOADING || device->state == ROLLOUT_DEVICE_TRIGGERED) {
            if (whole) {
                model_set(history, found[i], device, ROLLOUT_DEVICE_SENT);
            } else if (device->transfers == 0) {
                found[i]->cut_ms = device->news < NEWS_MAX ? history->world.now_ms : found[i]->cut_ms;
                model_set(history, found[i], device, ROLLOUT_DEVICE_FAILED);
                device->may_retry = true;
            }
        }
    }
    rollouts_transfer_ended(history->world.rollouts, &mac, md5_of(build, PLAIN), whole, bytes, history->world.now_ms);
}

static void step_report(struct history *history)
{
    unsigned d = draw(history, DEVICES), build = 1 + draw(history, BUILDS);
    bool failed = draw(history, 2) == 0, pulling = false;
    char version[8];
    for (size_t i = 0; i < history->count; i++) {
        const struct model_device *device = &history->models[i].devices[d];
        pulling = pulling || (device->in && (device->state == ROLLOUT_DEVICE_DOWNLOADING ||
                                             device->state == ROLLOUT_DEVICE_SENT)); /* never of one that is over */
    }
    for (size_t i = 0; i < history->count; i++) {
        struct model *model = &history->models[i];
        struct model_device *device = &model->devices[d];
        if (model_is_over(model) || !device->in || device->taken ||
            (pulling && device->state != ROLLOUT_DEVICE_DOWNLOADING && device->state != ROLLOUT_DEVICE_SENT)) {
            continue;
        }
        if (failed && device->state != ROLLOUT_DEVICE_CONFIRMED && device->state != ROLLOUT_DEVICE_CURRENT) {
            bool prolongs = device->may_retry && device->news < NEWS_MAX;
            model->cut_ms = prolongs ? history->world.now_ms : model->cut_ms;
            model_set(history, model, device, ROLLOUT_DEVICE_FAILED);
        } else if (!failed && model_is_fs(model) && device->state == ROLLOUT_DEVICE_SENT && build == model->build) {
            device->proven = true;
            model_set(history, model, device, ROLLOUT_DEVICE_CONFIRMED);
        }
    }
    snprintf(version, sizeof version, "1.%u", build);
    reports(&history->world, d, failed ? REPORT_FAILED : REPORT_RUNNING, version, "broke");
}

static bool model_is_finished(const struct model *model, uint64_t now_ms)
{
    unsigned expected_open = 0, open = 0, in = 0, retrying = 0;
    uint64_t quiet_ms = now_ms - model->news_ms;
    for (int d = 0; d < DEVICES; d++) {
        const struct model_device *device = &model->devices[d];
        bool is_open = device->in && is_on_the_way(device->state);
        in += device->in && device->state != ROLLOUT_DEVICE_SUPERSEDED;
        retrying += device->may_retry && (model->whole_type || device->expected);
        open += is_open;
        expected_open += is_open && device->expected;
    }
    if (retrying > 0 && now_ms - model->cut_ms < GRACE_MS) {
        return false;
    }
    if (!model->whole_type) {
        return expected_open == 0;
    }
    return open == 0 && (model->expected > 0 || (in > 0 && quiet_ms >= STRANGERS_MS));
}

static void step_tick(struct history *history, uint64_t ms)
{
    uint64_t now_ms = history->world.now_ms + ms;
    for (size_t i = 0; i < history->count; i++) {
        struct model *model = &history->models[i];
        if (model->state == ROLLOUT_PUBLISHING && now_ms >= model->created_ms + TIMEOUT_MS) {
            if (model->acknowledged > 0) {
                model->state = ROLLOUT_RUNNING;
                model->news_ms = now_ms;
            } else {
                model_end(model, ROLLOUT_FAILED, ROLLOUT_DEVICE_SILENT);
            }
        } else if (model->state == ROLLOUT_RUNNING &&
                   (now_ms >= model->news_ms + TIMEOUT_MS || model_is_finished(model, now_ms))) {
            model_end(model, ROLLOUT_DONE, ROLLOUT_DEVICE_SILENT);
        }
    }
    tick_after(&history->world, ms);
}

static void hold_device(struct rollout *rollout, const struct model_device *model, uint32_t d)
{
    struct rollout_device_view view = view_of(rollout, d);
    bool is_kept = !rollout_is_over(rollout) || model->state == ROLLOUT_DEVICE_FAILED ||
                   model->state == ROLLOUT_DEVICE_SILENT || model->state == ROLLOUT_DEVICE_SUPERSEDED;
    bool has_why = view.state == ROLLOUT_DEVICE_FAILED || view.state == ROLLOUT_DEVICE_SUPERSEDED;
    assert_int_equal(view.state, model->in && is_kept ? model->state : NOT_THERE);
    assert_true((view.why[0] != '\0') == has_why);
    assert_true(model->state != ROLLOUT_DEVICE_CONFIRMED || !model->in || model->proven);
}

static void hold_counts(struct rollout *rollout, const struct model *model)
{
    size_t counts[ROLLOUT_DEVICE_STATES] = { 0 }, listed = 0, in = 0;
    for (int d = 0; d < DEVICES; d++) {
        in += model->devices[d].in;
        counts[model->devices[d].state] += model->devices[d].in;
    }
    listed = counts[ROLLOUT_DEVICE_FAILED] + counts[ROLLOUT_DEVICE_SILENT] + counts[ROLLOUT_DEVICE_SUPERSEDED];
    assert_memory_equal(counts, rollout->devices, sizeof counts);
    assert_int_equal(rollout_unlisted(rollout), rollout_is_over(rollout) ? in - listed : 0);
}

static void hold_against_models(struct history *history)
{
    size_t under_way[KINDS] = { 0 }, remembered = 0;
    for (size_t i = 0; i < history->count; i++) {
        struct model *model = &history->models[i];
        if (model->forgotten) {
            continue;
        }
        struct rollout *rollout = rollouts_find(history->world.rollouts, slice_of(model->id));
        if (rollout == NULL) {
            assert_true(model_is_over(model) && rollouts_count(history->world.rollouts) == ROLLOUTS_MAX);
            model->forgotten = true;
            continue;
        }
        remembered++;
        under_way[model->kind] += !rollout_is_over(rollout) && model->whole_type;
        assert_int_equal(rollout->state, model->state);
        assert_true(rollout->why[0] != '\0' ? rollout_is_over(rollout) : rollout->state != ROLLOUT_FAILED);
        assert_true(rollout->bytes == model->bytes && rollout->news_ms == model->news_ms);
        assert_true(rollout->expected == model->expected && rollout->untracked == 0);
        for (uint32_t d = 0; d < DEVICES; d++) {
            hold_device(rollout, &model->devices[d], d);
        }
        hold_counts(rollout, model);
    }
    for (int kind = 0; kind < KINDS; kind++) {
        assert_true(under_way[kind] <= 1);
    }
    assert_int_equal(remembered, rollouts_count(history->world.rollouts));
}

static void live(struct history *history)
{
    static void (*const steps[])(struct history *) = { step_saw,           step_saw,    step_transfer_begins,
                                                       step_transfer_ends, step_report, step_command,
                                                       step_late_names };
    step_begin(history);
    for (int i = 0; i < STEPS; i++) {
        unsigned chance = draw(history, 100);
        if (chance == 0 && history->count < REMEMBERED) {
            step_begin(history);
        } else if (chance < 5) {
            step_tick(history, draw(history, 8) == 0 ? draw(history, 2 * TIMEOUT_MS) : draw(history, 3000));
        } else {
            steps[draw(history, sizeof steps / sizeof steps[0])](history);
        }
        if (i % 7 == 0) {
            hold_against_models(history);
        }
    }
    step_tick(history, TIMEOUT_MS); /* nothing waits for ever: what was not published fails or runs, */
    step_tick(history, TIMEOUT_MS); /* and what ran is over */
    hold_against_models(history);
    for (size_t i = 0; i < rollouts_count(history->world.rollouts); i++) {
        assert_true(rollout_is_over(rollouts_at(history->world.rollouts, i)));
    }
}

static void test_long_random_histories(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= HISTORIES; seed++) {
        struct history *history = calloc(1, sizeof *history);
        assert_non_null(history);
        history->seed = seed;
        world_open(&history->world);
        live(history);
        world_close(&history->world);
        free(history);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_good_way),
        cmocka_unit_test(test_who_runs_it_already),
        cmocka_unit_test(test_a_stranger_joins_when_it_pulls),
        cmocka_unit_test(test_came_back_without_it),
        cmocka_unit_test(test_a_digest_proves_whatever_came_before),
        cmocka_unit_test(test_other_types_and_files_change_nothing),
        cmocka_unit_test(test_without_a_digest_the_decision_counts),
        cmocka_unit_test(test_a_file_system_check_tells_nothing_against_a_sketch),
        cmocka_unit_test(test_file_systems),
        cmocka_unit_test(test_a_cut_says_where),
        cmocka_unit_test(test_transfers_of_one_mac),
        cmocka_unit_test(test_a_client_without_mac),
        cmocka_unit_test(test_reports_of_failure),
        cmocka_unit_test(test_a_report_is_of_what_it_pulls),
        cmocka_unit_test(test_a_file_of_two_types),
        cmocka_unit_test(test_bounded_in_devices),
        cmocka_unit_test(test_runs_when_all_commands_are_answered),
        cmocka_unit_test(test_fails_when_no_command_arrives),
        cmocka_unit_test(test_the_broker_has_a_deadline),
        cmocka_unit_test(test_named_devices_end_it),
        cmocka_unit_test(test_a_known_type_ends_it),
        cmocka_unit_test(test_an_unknown_type_ends_when_it_is_quiet),
        cmocka_unit_test(test_a_type_that_is_up_to_date),
        cmocka_unit_test(test_ends_without_news),
        cmocka_unit_test(test_one_that_is_always_cut_is_no_news_for_ever),
        cmocka_unit_test(test_who_came_and_was_refused_failed),
        cmocka_unit_test(test_who_could_not_be_told_failed),
        cmocka_unit_test(test_a_newer_rollout_supersedes),
        cmocka_unit_test(test_named_orders_take_over_what_they_name),
        cmocka_unit_test(test_superseded_when_none_is_left),
        cmocka_unit_test(test_named_devices_leave_their_type),
        cmocka_unit_test(test_who_came_before_it_was_expected),
        cmocka_unit_test(test_a_cut_has_its_grace),
        cmocka_unit_test(test_a_retry_within_its_grace_counts),
        cmocka_unit_test(test_what_is_kept_of_one_that_has_ended),
        cmocka_unit_test(test_notes),
        cmocka_unit_test(test_bounded_in_number),
        cmocka_unit_test(test_long_random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
