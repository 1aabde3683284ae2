/* Which devices an order means, and what speaks against them: found in slices, while the fleet goes on. */
#include "tests/unit/server/trigger_fixture.h"

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

enum { MANY = 30000 };

static void fill_fleet(void)
{
    for (uint32_t i = 0; i < MANY; i++) {
        struct mac mac = mac_of(i);
        saw_device(&mac, "door", NULL);
    }
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
        for (int i = 0; i < PATIENCE_MS && rollout->members < GONE; i++) { /* a busy machine's slices are short */
            uv_run(&world.loop, UV_RUN_NOWAIT);
        }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_devices_that_are_known),
        cmocka_unit_test(test_a_large_fleet_in_slices),
        cmocka_unit_test(test_forgotten_while_others_are_gathered),
        cmocka_unit_test(test_notes_of_named_devices),
        cmocka_unit_test(test_notes_of_many_alike),
        cmocka_unit_test(test_notes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
