/* The devices' records: found by MAC and by its end, counted by type, written down once, and bounded whatever comes. */
#include "fleet/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct table {
    struct words *words;
    struct devices *devices;
};

static struct table table_new(size_t max)
{
    struct table table = { .words = words_new() };
    table.devices = devices_new(table.words, max);
    return table;
}

static void table_free(struct table *table)
{
    devices_free(table->devices);
    words_free(table->words);
}

static struct mac mac_of(unsigned vendor, unsigned tail)
{
    return (struct mac){ { 0x5c, (uint8_t)(vendor >> 8), (uint8_t)vendor, (uint8_t)(tail >> 16), (uint8_t)(tail >> 8),
                           (uint8_t)tail } };
}

static struct device *take(const struct table *table, unsigned vendor, unsigned tail, const char *type)
{
    struct mac mac = mac_of(vendor, tail);
    return devices_take(table->devices, &mac, slice_of(type));
}

static size_t of_type(const struct table *table, const char *type)
{
    const struct device_type *found = devices_find_type(table->devices, slice_of(type));
    size_t listed = 0;
    for (const struct device *device = found != NULL ? found->first : NULL; device != NULL;
         device = device->next_of_type) {
        listed++;
    }
    assert_int_equal(listed, found != NULL ? found->device_count : 0);
    return listed;
}

/* Else a device is two, or moves to another type and is counted in both. */
static void test_found_and_counted(void **state)
{
    (void)state;
    struct table table = table_new(100);
    struct device *one = take(&table, 1, 1, "porch"), *two = take(&table, 1, 2, "porch");
    assert_ptr_equal(take(&table, 1, 1, "porch"), one);
    assert_ptr_not_equal(one, two);
    assert_int_equal(of_type(&table, "porch"), 2);
    assert_ptr_equal(take(&table, 1, 1, "garage"), one);
    assert_int_equal(of_type(&table, "porch"), 1);
    assert_int_equal(of_type(&table, "garage"), 1);
    (void)take(&table, 1, 2, "garage");
    assert_null(devices_find_type(table.devices, slice_of("porch"))); /* a type goes with its last device */
    assert_int_equal(words_count(table.words), 1);
    struct mac stranger = mac_of(1, 3);
    assert_null(devices_find(table.devices, &stranger));
    assert_int_equal(one->chip, CHIP_UNKNOWN);
    table_free(&table);
}

/* Else a stranger who invents MACs, or types, fills the memory. */
static void test_bounds(void **state)
{
    (void)state;
    char type[WORD_TEXT_MAX + 2];
    struct table table = table_new(3);
    for (unsigned i = 0; i < 5; i++) {
        assert_true((take(&table, 1, i, "porch") != NULL) == (i < 3));
    }
    assert_int_equal(devices_forgotten(table.devices), 2);
    assert_int_equal(words_count(table.words), 1);
    for (unsigned i = 0; i < 100000; i++) { /* one device of a hundred thousand types */
        snprintf(type, sizeof type, "type%u", i);
        assert_non_null(take(&table, 1, 0, type));
    }
    assert_int_equal(words_count(table.words), 2);
    memset(type, 'x', sizeof type - 1);
    type[sizeof type - 1] = '\0';
    assert_null(take(&table, 1, 0, type));
    assert_null(take(&table, 1, 0, ""));
    assert_int_equal(of_type(&table, "type99999"), 1); /* it stays what it was */
    table_free(&table);
}

/* Else a message on a topic that ends like two devices' MACs is taken for one of them. */
static void test_tails(void **state)
{
    (void)state;
    static const uint8_t tail[3] = { 0xb1, 0xe0, 0x42 };
    struct table table = table_new(100);
    assert_null(devices_find_tail(table.devices, tail));
    struct device *one = take(&table, 1, 0xb1e042, "porch");
    (void)take(&table, 1, 0xb2e042, "porch"); /* the same bucket */
    assert_ptr_equal(devices_find_tail(table.devices, tail), one);
    struct device *two = take(&table, 2, 0xb1e042, "porch");
    assert_null(devices_find_tail(table.devices, tail));
    struct device *three = take(&table, 3, 0xb1e042, "porch"); /* the index left this one out */
    devices_forget(table.devices, one);
    assert_null(devices_find_tail(table.devices, tail));
    devices_forget(table.devices, two);
    assert_ptr_equal(devices_find_tail(table.devices, tail), three);
    devices_forget(table.devices, three);
    assert_null(devices_find_tail(table.devices, tail));
    table_free(&table);
}

/* However many share a tail, and in whatever order they go: it names a device where one is left, and nobody else. */
static void test_crowded_tails(void **state)
{
    (void)state;
    enum { CROWD = 6 };
    static const uint8_t tail[3] = { 0, 0, 1 };
    srand(4);
    for (unsigned round = 0; round < 200; round++) {
        struct table table = table_new(100);
        struct device *crowd[CROWD] = { NULL };
        size_t count = 0;
        for (unsigned step = 0; step < 60; step++) {
            unsigned i = (unsigned)rand() % CROWD;
            if (crowd[i] == NULL) {
                crowd[i] = take(&table, i, 1, "porch");
                count++;
            } else {
                devices_forget(table.devices, crowd[i]);
                crowd[i] = NULL;
                count--;
            }
            struct device *left = NULL;
            for (i = 0; count == 1 && i < CROWD; i++) {
                left = crowd[i] != NULL ? crowd[i] : left;
            }
            assert_ptr_equal(devices_find_tail(table.devices, tail), left);
        }
        table_free(&table);
    }
}

/* Else a change is written twice, or never; or a forgotten device is. */
static void test_dirty(void **state)
{
    (void)state;
    struct table table = table_new(100);
    struct device *devices[4];
    for (unsigned i = 0; i < 4; i++) {
        devices[i] = take(&table, 1, i, "porch");
        devices_mark(table.devices, devices[i]);
        devices_mark(table.devices, devices[i]);
    }
    assert_int_equal(devices_dirty_count(table.devices), 4);
    devices_forget(table.devices, devices[1]); /* in the middle, and the last */
    devices_forget(table.devices, devices[3]);
    assert_ptr_equal(devices_next_dirty(table.devices), devices[0]);
    devices_mark(table.devices, devices[0]);
    assert_ptr_equal(devices_next_dirty(table.devices), devices[2]);
    assert_ptr_equal(devices_next_dirty(table.devices), devices[0]);
    assert_null(devices_next_dirty(table.devices));
    assert_int_equal(devices_dirty_count(table.devices), 0);
    devices_mark(table.devices, devices[2]);
    devices_forget(table.devices, devices[2]);
    assert_null(devices_next_dirty(table.devices));
    devices_mark(table.devices, devices[0]);
    assert_ptr_equal(devices_next_dirty(table.devices), devices[0]);
    table_free(&table);
}

static void see(const struct table *table, struct device *device, const struct device_request *request,
                const struct moment *now)
{
    struct device_sighting sighting = {
        .request = request, .flash_mode = FLASH_MODE_UNKNOWN, .chip = CHIP_UNKNOWN, .reason = REASON_UP_TO_DATE
    };
    device_saw(table->devices, device, &sighting, now);
}

/* Else what a device once said is lost when it says less, as with each file system check. */
static void test_what_is_not_said_stays(void **state)
{
    (void)state;
    struct table table = table_new(100);
    struct device *device = take(&table, 1, 1, "porch");
    struct moment first = { .ms = 1, .unix_s = 1000 }, second = { .ms = 2, .unix_s = 2000 };
    struct device_request said = { .client = CLIENT_ESP8266,
                                   .mode = DEVICE_MODE_SKETCH,
                                   .has_md5 = true,
                                   .sketch_md5 = { 9 },
                                   .chip = CHIP_ESP8266,
                                   .flash_bytes = 4194304,
                                   .free_bytes = 1000,
                                   .sketch_bytes = 400000,
                                   .label = slice_of("1.0"),
                                   .sdk = slice_of("2.2.2") };
    see(&table, device, &said, &first);
    struct device_request less = {
        .client = CLIENT_ESP8266, .mode = DEVICE_MODE_FS, .chip = CHIP_UNKNOWN, .label = slice_of("0.3")
    };
    see(&table, device, &less, &second);
    assert_true(device->has_md5 && device->md5[0] == 9);
    assert_int_equal(device->flash_bytes, 4194304);
    assert_int_equal(device->free_bytes, 1000);
    assert_int_equal(device->sketch_bytes, 400000);
    assert_int_equal(device->chip, CHIP_ESP8266);
    assert_string_equal(words_text(table.words, device->version), "1.0");
    assert_string_equal(words_text(table.words, device->fs_version), "0.3");
    assert_string_equal(words_text(table.words, device->sdk), "2.2.2");
    assert_true(device->reason_fs);
    assert_int_equal(device->first_seen_s, 1000);
    assert_int_equal(device->seen_s, 2000);
    devices_forget(table.devices, device);
    assert_int_equal(words_count(table.words), 0);
    table_free(&table);
}

/* Else a plan or an explanation judges another device than the one that will ask. */
static void test_asked_again(void **state)
{
    (void)state;
    struct table table = table_new(100);
    struct device *device = take(&table, 1, 1, "porch");
    struct moment now = { .ms = 1, .unix_s = 1000 };
    struct device_request again, said = { .client = CLIENT_ESP8266,
                                          .mode = DEVICE_MODE_SKETCH,
                                          .has_mac = true,
                                          .has_md5 = true,
                                          .mac = mac_of(1, 1),
                                          .sketch_md5 = { 1, 2, 3 },
                                          .free_bytes = 500000,
                                          .sketch_bytes = 400000,
                                          .flash_bytes = 1048576,
                                          .chip = CHIP_ESP8266,
                                          .label = slice_of("1.0") };
    see(&table, device, &said, &now);
    device_ask_again(table.devices, device, DEVICE_MODE_SKETCH, &again);
    assert_true(again.client == said.client && again.mode == said.mode && again.chip == said.chip);
    assert_true(again.has_mac && mac_equal(&again.mac, &said.mac));
    assert_true(again.has_md5 && memcmp(again.sketch_md5, said.sketch_md5, 16) == 0);
    assert_int_equal(again.free_bytes, said.free_bytes);
    assert_int_equal(again.sketch_bytes, said.sketch_bytes);
    assert_int_equal(again.flash_bytes, said.flash_bytes);
    assert_true(slice_is(again.label, "1.0"));
    device_ask_again(table.devices, device, DEVICE_MODE_FS, &again);
    assert_true(again.mode == DEVICE_MODE_FS && again.label.at != NULL && again.label.len == 0);
    table_free(&table);
}

/* Else `updraft status` counts who was read from the disk, one who asks often, or one who is forgotten. */
static void test_seen_since_the_start(void **state)
{
    (void)state;
    struct table table = table_new(100);
    struct device *one = take(&table, 1, 1, "porch"), *two = take(&table, 1, 2, "porch");
    struct device_request said = { .client = CLIENT_ESP8266 };
    struct moment now = { .ms = 1, .unix_s = 1000 };
    assert_int_equal(devices_seen(table.devices), 0);
    see(&table, one, &said, &now);
    see(&table, one, &said, &now);
    assert_int_equal(devices_seen(table.devices), 1);
    devices_forget(table.devices, two); /* who was not seen does not count backwards */
    assert_int_equal(devices_seen(table.devices), 1);
    devices_forget(table.devices, one);
    assert_int_equal(devices_seen(table.devices), 0);
    one = take(&table, 1, 1, "porch"); /* of the same record */
    assert_int_equal(devices_seen(table.devices), 0);
    see(&table, one, &said, &now);
    assert_int_equal(devices_seen(table.devices), 1);
    table_free(&table);
}

/* Against a plain array: taken, moved and forgotten at random. */
static void test_against_an_array(void **state)
{
    (void)state;
    enum { MACS = 700, TYPES = 5 };
    static const char *const types[TYPES] = { "a", "b", "c", "d", "e" };
    struct table table = table_new(MACS);
    int type_of[MACS];
    size_t count = 0;
    memset(type_of, -1, sizeof type_of);
    srand(3);
    for (int step = 0; step < 20000; step++) {
        unsigned i = (unsigned)rand() % MACS;
        int type = rand() % TYPES;
        struct mac mac = mac_of(i % 3, i / 3);
        struct device *device = devices_find(table.devices, &mac);
        assert_int_equal(device != NULL, type_of[i] >= 0);
        if (device != NULL && rand() % 3 == 0) {
            devices_forget(table.devices, device);
            type_of[i] = -1;
            count--;
        } else {
            count += device == NULL;
            device = take(&table, i % 3, i / 3, types[type]);
            assert_true(mac_equal(&device->mac, &mac));
            type_of[i] = type;
        }
        assert_int_equal(devices_count(table.devices), count);
        size_t at = count > 0 ? (size_t)rand() % count : 0;
        assert_true(count == 0 || devices_at(table.devices, at)->place == at);
    }
    for (int type = 0; type < TYPES; type++) {
        size_t n = 0;
        for (int i = 0; i < MACS; i++) {
            n += type_of[i] == type;
        }
        assert_int_equal(of_type(&table, types[type]), n);
    }
    table_free(&table);
}

/* 256 bytes a device at most, tables included; texts, which many share, are fleet/words', and file systems are sent to
 * few. */
static void test_bytes(void **state)
{
    (void)state;
    struct table table = table_new(DEVICES_MAX);
    for (unsigned i = 0; i < 120000; i++) {
        (void)take(&table, i / 65536, i * 7, "porch");
    }
    assert_in_range(devices_bytes(table.devices) / 120000, sizeof(struct device), 256);
    size_t bytes = devices_bytes(table.devices);
    for (unsigned i = 0; i < 1000; i++) {
        (void)devices_take_sent(table.devices, take(&table, 0, i * 7, "porch"), true);
        (void)devices_take_sent(table.devices, take(&table, 0, i * 7, "porch"), true);
    }
    assert_int_equal(devices_bytes(table.devices) - bytes, 64000);
    for (unsigned i = 0; i < 1000; i++) {
        devices_forget(table.devices, take(&table, 0, i * 7, "porch"));
    }
    assert_int_equal(devices_bytes(table.devices), bytes);
    table_free(&table);
}

/* Small blocks, the last of them, the huge pages behind: a record stands where its number says, and its place is used
 * again; else a fleet that grows and shrinks grows for ever. */
static void test_a_large_table(void **state)
{
    (void)state;
    enum { MANY = 40000 };
    struct table table = table_new(MANY);
    struct device **known = calloc(MANY, sizeof *known);
    assert_non_null(known);
    for (unsigned i = 0; i < MANY; i++) {
        known[i] = take(&table, i & 3, i >> 2, "porch");
        assert_int_equal((uintptr_t)known[i] % 64, 0); /* three lines of the cache, not four */
    }
    size_t bytes = devices_bytes(table.devices);
    for (unsigned i = 0; i < MANY; i += 3) {
        devices_forget(table.devices, known[i]);
    }
    for (unsigned i = 0; i < MANY; i++) {
        struct mac mac = mac_of(i & 3, i >> 2);
        assert_ptr_equal(devices_find(table.devices, &mac), i % 3 == 0 ? NULL : known[i]);
    }
    for (unsigned i = 0; i < MANY; i += 3) {
        assert_non_null(take(&table, 4, i, "garage"));
    }
    assert_int_equal(devices_bytes(table.devices), bytes);
    assert_int_equal(of_type(&table, "garage"), (MANY + 2) / 3);
    free(known);
    table_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_and_counted),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_tails),
        cmocka_unit_test(test_crowded_tails),
        cmocka_unit_test(test_dirty),
        cmocka_unit_test(test_what_is_not_said_stays),
        cmocka_unit_test(test_asked_again),
        cmocka_unit_test(test_seen_since_the_start),
        cmocka_unit_test(test_against_an_array),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_a_large_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
