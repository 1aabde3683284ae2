/* The fleet's memory: who is found, under which type, and who is not remembered.
 */
#include "fleet/device.h"

#include "fleet/mac_hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW 1000u

static const uint8_t old_md5[16] = { 1 };
static const uint8_t new_md5[16] = { 2 };

/* The vendor is the upper half of the number, the tail the lower. */
static struct mac mac_of(uint64_t number)
{
    struct mac mac;
    for (int i = 5; i >= 0; i--, number >>= 8) {
        mac.bytes[i] = (uint8_t)number;
    }
    return mac;
}

static struct device *saw(struct fleet *fleet, uint64_t number, const char *type)
{
    struct mac mac = mac_of(number);
    return fleet_saw(fleet, &mac, slice_of(type), old_md5, NOW);
}

static void said(struct fleet *fleet, uint64_t number, const char *type, bool online)
{
    struct mac mac = mac_of(number);
    fleet_said_online(fleet, &mac, slice_of(type), online);
}

static struct device *find(const struct fleet *fleet, uint64_t number)
{
    struct mac mac = mac_of(number);
    return fleet_find(fleet, &mac);
}

static struct device *find_tail(const struct fleet *fleet, uint64_t number)
{
    struct mac mac = mac_of(number);
    return fleet_find_tail(fleet, mac.bytes + 3);
}

static uint64_t number_of(const struct device *device)
{
    uint64_t number = 0;
    for (int i = 0; device != NULL && i < 6; i++) {
        number = number << 8 | device->mac.bytes[i];
    }
    return number; /* 0 = none */
}

/* Numbers of the type's devices, as its list has them; holds the list's links to each other. */
static size_t list(const struct fleet *fleet, const char *name, uint64_t *numbers, size_t max)
{
    const struct fleet_type *type = fleet_find_type(fleet, slice_of(name));
    const struct device *previous = NULL;
    size_t count = 0;
    for (const struct device *d = type != NULL ? type->first : NULL; d != NULL; d = d->next_of_type) {
        assert_true(d->previous_of_type == previous && d->type == type && count < max);
        numbers[count++] = number_of(d);
        previous = d;
    }
    assert_int_equal(count, type != NULL ? type->device_count : 0);
    assert_true(type == NULL || (count > 0 && strcmp(type->name, name) == 0));
    return count;
}

/* Else a rollout would take a device for one that does not yet run the target, or the other way round. */
static void test_remembers_what_was_said(void **state)
{
    (void)state;
    struct fleet *fleet = fleet_new(10);
    struct mac mac = mac_of(1);
    assert_null(find(fleet, 1));
    const struct device *device = fleet_saw(fleet, &mac, slice_of("d1"), NULL, 7);
    assert_true(device != NULL && !device->has_md5 && device->seen_ms == 7 && !device->said_online);
    assert_true(fleet_saw(fleet, &mac, slice_of("d1"), old_md5, 8) == device);
    assert_true(device->has_md5 && device->seen_ms == 8);
    (void)fleet_saw(fleet, &mac, slice_of("d1"), NULL, 9); /* not said: what it said before stays */
    assert_true(device->has_md5 && device->seen_ms == 9);
    assert_memory_equal(device->md5, old_md5, 16);
    (void)fleet_saw(fleet, &mac, slice_of("d1"), new_md5, 9);
    assert_memory_equal(device->md5, new_md5, 16);
    assert_true(find(fleet, 1) == device && mac_equal(&device->mac, &mac));
    assert_null(find(fleet, 2));
    assert_int_equal(fleet_count(fleet), 1);
    fleet_free(fleet);
}

/* Else a device would be expected in the rollout of a type that it has left. */
static void test_moves_to_the_type_it_asks_for(void **state)
{
    (void)state;
    uint64_t numbers[4];
    struct fleet *fleet = fleet_new(10);
    saw(fleet, 1, "d1");
    saw(fleet, 2, "d1");
    saw(fleet, 3, "d1");
    saw(fleet, 2, "d1"); /* seen again is not first seen */
    assert_int_equal(list(fleet, "d1", numbers, 4), 3);
    assert_true(numbers[0] == 3 && numbers[1] == 2 && numbers[2] == 1);
    saw(fleet, 2, "porch");
    assert_int_equal(list(fleet, "d1", numbers, 4), 2);
    assert_true(numbers[0] == 3 && numbers[1] == 1);
    assert_int_equal(list(fleet, "porch", numbers, 4), 1);
    assert_int_equal(numbers[0], 2);
    assert_null(fleet_find_type(fleet, slice_of("d")));
    assert_null(fleet_find_type(fleet, (struct slice){ NULL, 0 }));
    assert_int_equal(fleet_count(fleet), 3);
    fleet_free(fleet);
}

/* Else invented MACs would take memory without end. */
static void test_bounded_in_devices(void **state)
{
    (void)state;
    struct fleet *fleet = fleet_new(2);
    assert_non_null(saw(fleet, 1, "d1"));
    assert_non_null(saw(fleet, 2, "d1"));
    assert_int_equal(fleet_forgotten(fleet), 0);
    assert_null(saw(fleet, 3, "d1"));
    assert_null(saw(fleet, 3, "porch"));
    assert_int_equal(fleet_forgotten(fleet), 2);
    said(fleet, 4, "d1", true); /* no check-in */
    assert_int_equal(fleet_forgotten(fleet), 2);
    assert_null(find(fleet, 3));
    assert_null(find(fleet, 4));
    assert_null(fleet_find_type(fleet, slice_of("porch"))); /* none that has no device */
    assert_non_null(saw(fleet, 1, "porch"));                /* who is known goes on being known */
    assert_int_equal(fleet_count(fleet), 2);
    fleet_free(fleet);
}

/* Else one device that invents types would keep all others out, or take memory without end. */
static void test_bounded_in_types(void **state)
{
    (void)state;
    struct fleet *fleet = fleet_new(FLEET_TYPES_MAX + 10);
    char name[80];
    for (unsigned i = 0; i < FLEET_TYPES_MAX + 10; i++) { /* one device: one type at a time */
        snprintf(name, sizeof name, "t%u", i);
        assert_non_null(saw(fleet, 1, name));
    }
    for (unsigned i = 2; i <= FLEET_TYPES_MAX; i++) {
        snprintf(name, sizeof name, "u%u", i);
        assert_non_null(saw(fleet, i, name));
    }
    assert_null(saw(fleet, FLEET_TYPES_MAX + 1, "one-too-many"));
    assert_null(saw(fleet, 2, "one-too-many"));
    assert_string_equal(find(fleet, 2)->type->name, "u2"); /* it stays where it was */
    assert_int_equal(fleet_forgotten(fleet), 2);
    assert_non_null(saw(fleet, FLEET_TYPES_MAX + 1, "u2"));
    fleet_free(fleet);
}

static void test_names_of_types(void **state)
{
    (void)state;
    struct fleet *fleet = fleet_new(10);
    char name[66];
    memset(name, 'x', 65);
    name[65] = '\0';
    assert_null(saw(fleet, 1, name));
    assert_null(saw(fleet, 1, ""));
    struct mac mac = mac_of(1);
    assert_null(fleet_saw(fleet, &mac, (struct slice){ NULL, 0 }, NULL, NOW));
    assert_int_equal(fleet_forgotten(fleet), 3);
    name[64] = '\0';
    assert_string_equal(saw(fleet, 1, name)->type->name, name);
    for (int i = 0; i < 2; i++) { /* not a name at all, and yet it must not be let go while it is used */
        assert_non_null(fleet_saw(fleet, &mac, (struct slice){ "a\0b", 3 }, NULL, NOW));
    }
    assert_int_equal(find(fleet, 1)->type->device_count, 1);
    fleet_free(fleet);
}

/* Else the operator would see devices as online that are gone, or a topic would overrule what a device asks for. */
static void test_online(void **state)
{
    (void)state;
    struct fleet *fleet = fleet_new(10);
    said(fleet, 1, "", true); /* who never checked in is remembered only with a type */
    assert_null(find(fleet, 1));
    said(fleet, 1, "d1", true);
    const struct device *device = find(fleet, 1);
    assert_true(device != NULL && device->online && device->said_online && device->seen_ms == 0 && !device->has_md5);
    said(fleet, 1, "", false);
    assert_true(!device->online && device->said_online);
    said(fleet, 1, "porch", true);
    assert_string_equal(device->type->name, "porch");
    said(fleet, 1, "a-name-of-more-than-64-characters-that-can-be-no-type-of-anything-at-all", false);
    assert_false(device->online);
    assert_string_equal(device->type->name, "porch");
    said(fleet, 1, "", true);
    assert_true(saw(fleet, 1, "gate") == device);
    assert_true(device->online && device->seen_ms == NOW);
    said(fleet, 1, "porch", false);
    assert_string_equal(device->type->name, "gate");
    assert_false(device->online);
    fleet_free(fleet);
}

/* Else a report of one device would be taken for another's. */
static void test_tails(void **state)
{
    (void)state;
    struct fleet *fleet = fleet_new(10);
    assert_null(find_tail(fleet, 0x010203));
    struct device *first = saw(fleet, 0xaaaaaa010203, "d1");
    struct device *same_bucket = saw(fleet, 0xaaaaaa990203, "d1");
    assert_true(find_tail(fleet, 0x010203) == first && find_tail(fleet, 0x990203) == same_bucket);
    saw(fleet, 0xaaaaaa010203, "porch"); /* itself again */
    assert_true(find_tail(fleet, 0x010203) == first);
    saw(fleet, 0xbbbbbb010203, "d1");
    assert_null(find_tail(fleet, 0x010203));
    saw(fleet, 0xcccccc010203, "d1");
    saw(fleet, 0xdddddd010203, "d1");
    assert_null(find_tail(fleet, 0x010203));
    assert_true(find_tail(fleet, 0x990203) == same_bucket);
    assert_null(find_tail(fleet, 0x020203));
    fleet_free(fleet);
}

/* Devices that all end alike: were each looked at, this would take minutes, and so would the server's loop. */
static void test_a_flood_of_one_tail(void **state)
{
    (void)state;
    enum { DEVICES = 400000 };
    struct fleet *fleet = fleet_new(DEVICES + 1);
    for (uint64_t i = 1; i <= DEVICES; i++) {
        assert_non_null(saw(fleet, i << 25 | 0x010203, "d1"));
        assert_true((find_tail(fleet, 0x010203) == NULL) == (i > 1));
    }
    struct device *same_bucket = saw(fleet, 0x990203, "d1");
    for (int i = 0; i < DEVICES; i++) {
        assert_true(find_tail(fleet, 0x990203) == same_bucket);
    }
    fleet_free(fleet);
}

/* Else a stranger could compute MACs that all meet in one bucket; or the MACs of one maker would. */
static void test_the_hash_is_secret_and_spreads(void **state)
{
    (void)state;
    enum { MACS = 4096, BUCKETS = 1024 };
    struct mac_hash_seed one = mac_hash_seed_draw(), other = mac_hash_seed_draw();
    unsigned differ = 0, used = 0;
    static bool bucket_used[BUCKETS];
    for (uint64_t i = 0; i < MACS; i++) {
        struct mac mac = mac_of(0x5ccf7f000000 + i);
        uint32_t hash = mac_hash(&one, &mac);
        assert_int_equal(hash, mac_hash(&one, &mac));
        differ += hash != mac_hash(&other, &mac);
        used += !bucket_used[hash % BUCKETS];
        bucket_used[hash % BUCKETS] = true;
    }
    assert_true(differ > MACS * 9 / 10);
    assert_true(used > BUCKETS * 9 / 10); /* chance would leave 19 of them empty */
}

/* Thousands of check-ins of a small fleet, held against a table that is searched from end to end. */
/* A walk rests between two turns of the loop: a step into another type's list would tell that type's devices to update.
 */
static void test_a_walk_while_devices_move(void **state)
{
    (void)state;
    struct fleet *fleet = fleet_new(100);
    struct fleet_walk walk, other;
    for (uint64_t number = 1; number <= 6; number++) {
        saw(fleet, number, "d1");
    }
    saw(fleet, 7, "porch");
    fleet_walk_begin(fleet, &walk, slice_of("d1"));
    fleet_walk_begin(fleet, &other, slice_of("d1"));
    assert_int_equal(number_of(fleet_walk_next(&walk)), 6);
    saw(fleet, 5, "porch"); /* whose turn it is */
    saw(fleet, 4, "gate");
    saw(fleet, 6, "porch"); /* whose turn it was */
    saw(fleet, 8, "d1");    /* new */
    saw(fleet, 4, "d1");    /* and back: new, too */
    assert_int_equal(number_of(fleet_walk_next(&walk)), 3);
    saw(fleet, 2, "porch");
    saw(fleet, 1, "porch");
    assert_null(fleet_walk_next(&walk));
    assert_null(fleet_walk_next(&walk));
    fleet_walk_end(&walk);
    assert_int_equal(number_of(fleet_walk_next(&other)), 3); /* and no other came before */
    saw(fleet, 3, "porch");
    fleet_walk_end(&other);
    fleet_walk_begin(fleet, &walk, slice_of("none"));
    assert_null(fleet_walk_next(&walk));
    fleet_walk_end(&walk);
    fleet_free(fleet);
}

/* Else a rollout would wait for a device that tries again far too long, or not long enough. */
static void test_how_often_a_type_checks(void **state)
{
    (void)state;
    struct fleet *fleet = fleet_new(100);
    struct mac mac = mac_of(1);
    uint64_t now_ms = 1000;
    fleet_saw(fleet, &mac, slice_of("d1"), NULL, now_ms);
    const struct fleet_type *type = fleet_find_type(fleet, slice_of("d1"));
    fleet_saw(fleet, &mac, slice_of("d1"), NULL, now_ms += 4999); /* its file system, perhaps */
    assert_int_equal(type->check_ms, 0);
    fleet_saw(fleet, &mac, slice_of("d1"), NULL, now_ms += 3600000);
    assert_int_equal(type->check_ms, 3600000);
    for (int i = 0; i < 200; i++) {
        uint64_t gap_ms = i % 20 == 7 ? 604800000 : 50000 + (uint64_t)(i % 5) * 5000;
        fleet_saw(fleet, &mac, slice_of("d1"), NULL, now_ms += gap_ms);
    }
    assert_in_range(type->check_ms, 50000, 80000);
    fleet_free(fleet);
}

static void test_what_it_can_take(void **state)
{
    (void)state;
    struct fleet *fleet = fleet_new(100);
    struct mac mac = mac_of(1);
    struct device_request said = { .client = CLIENT_ESP8266, .chip = CHIP_ESP8266, .flash_bytes = 4194304 }, recalled;
    said.free_bytes = 3u << 20;
    said.sketch_bytes = DEVICE_NUMBER_MAX;
    struct device *device = fleet_saw(fleet, &mac, slice_of("d1"), old_md5, 5);
    assert_false(device_recall(device, &recalled));
    device_learn(device, &said);
    assert_true(device_recall(device, &recalled));
    assert_true(recalled.client == said.client && recalled.chip == said.chip && mac_equal(&recalled.mac, &mac));
    assert_true(recalled.flash_bytes == said.flash_bytes && recalled.free_bytes == said.free_bytes);
    assert_int_equal(recalled.sketch_bytes, UINT32_MAX);
    assert_true(recalled.has_md5 && recalled.mode == DEVICE_MODE_SKETCH);
    assert_memory_equal(recalled.sketch_md5, old_md5, 16);
    fleet_free(fleet);
}

/* Else a device that runs a build of no file here is taken for one that runs nobody knows what, or its file system's
 * version for its sketch's. */
static void test_what_it_says_it_runs(void **state)
{
    (void)state;
    char longest[DEVICE_LABEL_SIZE + 1];
    struct fleet *fleet = fleet_new(100);
    struct mac mac = mac_of(1);
    struct device_request said = { .client = CLIENT_ESP32, .label = slice_of("0.4.9") }, recalled;
    struct device *device = fleet_saw(fleet, &mac, slice_of("d1"), NULL, 5);
    device_learn(device, &said);
    said.mode = DEVICE_MODE_FS;
    said.label = slice_of("1.2");
    device_learn(device, &said);
    assert_true(device_recall(device, &recalled));
    assert_true(slice_is(recalled.label, "0.4.9") && strcmp(recalled.version.text, "0.4.9") == 0);
    assert_string_equal(device->fs_label, "1.2");
    memset(longest, 'a', sizeof longest);
    said.mode = DEVICE_MODE_SKETCH;
    said.label = (struct slice){ longest, sizeof longest };
    device_learn(device, &said); /* no part of a version is one */
    assert_true(device_recall(device, &recalled));
    assert_true(recalled.label.at == NULL && recalled.version.text[0] == '\0');
    said.label = (struct slice){ NULL, 0 };
    device_learn(device, &said);
    assert_string_equal(device->sketch_label, "");
    fleet_free(fleet);
}

static void test_a_long_random_life(void **state)
{
    (void)state;
    enum { NUMBERS = 60, STEPS = 20000, DEVICES_MAX = 50, TYPES = 5 };
    static const char *const types[TYPES] = { "d1", "porch", "gate", "door", "bell" };
    struct fleet *fleet = fleet_new(DEVICES_MAX);
    int type_of[NUMBERS]; /* -1 = not known */
    size_t count = 0;
    unsigned seed = 4;
    memset(type_of, -1, sizeof type_of);
    for (int step = 0; step < STEPS; step++) {
        unsigned number = (unsigned)rand_r(&seed) % NUMBERS, type = (unsigned)rand_r(&seed) % TYPES;
        const struct device *device = saw(fleet, number + 1, types[type]);
        bool room = type_of[number] >= 0 || count < DEVICES_MAX;
        assert_true((device != NULL) == room);
        count += room && type_of[number] < 0;
        type_of[number] = room ? (int)type : -1;
        for (int t = 0; t < TYPES && step % 50 == 0; t++) {
            uint64_t numbers[NUMBERS];
            size_t listed = list(fleet, types[t], numbers, NUMBERS), expected = 0;
            for (size_t i = 0; i < listed; i++) {
                assert_int_equal(type_of[numbers[i] - 1], t);
            }
            for (int i = 0; i < NUMBERS; i++) {
                expected += type_of[i] == t;
            }
            assert_int_equal(listed, expected);
        }
        assert_int_equal(fleet_count(fleet), count);
    }
    fleet_free(fleet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remembers_what_was_said),
        cmocka_unit_test(test_moves_to_the_type_it_asks_for),
        cmocka_unit_test(test_bounded_in_devices),
        cmocka_unit_test(test_bounded_in_types),
        cmocka_unit_test(test_names_of_types),
        cmocka_unit_test(test_online),
        cmocka_unit_test(test_tails),
        cmocka_unit_test(test_a_flood_of_one_tail),
        cmocka_unit_test(test_the_hash_is_secret_and_spreads),
        cmocka_unit_test(test_a_walk_while_devices_move),
        cmocka_unit_test(test_how_often_a_type_checks),
        cmocka_unit_test(test_what_it_can_take),
        cmocka_unit_test(test_what_it_says_it_runs),
        cmocka_unit_test(test_a_long_random_life),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
