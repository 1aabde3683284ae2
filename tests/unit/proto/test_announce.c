/* The presets: each is sound by the check that a configuration has to pass, and says what its firmware understands. */
#include "proto/announce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static const char *const names[] = { "updraft", "tasmota", "homie" };

static const struct template_values values = { {
    [TEMPLATE_TYPE] = "d1_mini",
    [TEMPLATE_MAC] = "5ccf7fb1e042",
    [TEMPLATE_MAC_TAIL] = "B1E042",
    [TEMPLATE_VERSION] = "0_4_10",
    [TEMPLATE_URL] = "http://h/update/d1_mini",
    [TEMPLATE_MD5] = "d41d8cd98f00b204e9800998ecf8427e",
    [TEMPLATE_SIZE] = "328704",
    [TEMPLATE_MODE] = "sketch",
    [TEMPLATE_ID] = "00112233445566ff",
    [TEMPLATE_WINDOW] = "60",
} };

static void check(const char *text, enum template_use use)
{
    char why[300] = "";
    if (text != NULL && template_check(text, use, why, sizeof why) != STATUS_OK) {
        fail_msg("%s: %s", text, why);
    }
}

static void test_presets_pass_the_check(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const struct announce *announce = announce_preset(names[i]);
        assert_non_null(announce);
        assert_string_equal(announce->name, names[i]);
        assert_in_range(announce->part_count, 1, ANNOUNCE_PARTS_MAX);
        for (size_t k = 0; k < announce->part_count; k++) {
            assert_non_null(announce->parts[k].device_topic);
            check(announce->parts[k].type_topic, TEMPLATE_TOPIC_TYPE);
            check(announce->parts[k].device_topic, TEMPLATE_TOPIC_DEVICE);
            check(announce->parts[k].payload, TEMPLATE_PAYLOAD);
        }
        check(announce->status_topic, TEMPLATE_TOPIC_FROM);
        check(announce->online_topic, TEMPLATE_TOPIC_FROM);
    }
}

/* A complaint must list the names that there are. */
static void test_names(void **state)
{
    (void)state;
    char list[100] = "";
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        strcat(strcat(list, i > 0 ? ", " : ""), names[i]);
    }
    assert_string_equal(announce_preset_names, list);
    assert_null(announce_preset("esphome"));
    assert_null(announce_preset("Updraft"));
    assert_null(announce_preset(""));
    assert_null(announce_preset(NULL));
}

static void expand_to(const char *text, enum template_use use, const char *wanted)
{
    char to[512];
    assert_non_null(text);
    assert_true(template_expand(text, use, &values, to, sizeof to));
    assert_string_equal(to, wanted);
}

/* Devices in the field listen to exactly these. */
static void test_updraft_on_the_wire(void **state)
{
    (void)state;
    const struct announce *announce = announce_preset("updraft");
    assert_int_equal(announce->part_count, 1);
    expand_to(announce->parts[0].type_topic, TEMPLATE_TOPIC_TYPE, "updraft/d1_mini/update");
    expand_to(announce->parts[0].device_topic, TEMPLATE_TOPIC_DEVICE, "updraft/d1_mini/5ccf7fb1e042/update");
    expand_to(announce->parts[0].payload, TEMPLATE_PAYLOAD,
              "{\"id\":\"00112233445566ff\",\"version\":\"0_4_10\",\"url\":\"http://h/update/d1_mini\","
              "\"md5\":\"d41d8cd98f00b204e9800998ecf8427e\",\"size\":328704,\"mode\":\"sketch\",\"window_s\":60}");
    assert_int_equal(announce->style, REPORT_UPDRAFT);
    assert_string_equal(announce->status_topic, "updraft/{type}/{mac}/status");
    assert_string_equal(announce->online_topic, "updraft/{type}/{mac}/online");
}

/* Upgrade before OtaUrl would fetch from wherever the device was told to last. */
static void test_tasmota_on_the_wire(void **state)
{
    (void)state;
    const struct announce *announce = announce_preset("tasmota");
    assert_int_equal(announce->part_count, 2);
    expand_to(announce->parts[0].type_topic, TEMPLATE_TOPIC_TYPE, "cmnd/d1_mini/OtaUrl");
    expand_to(announce->parts[0].device_topic, TEMPLATE_TOPIC_DEVICE, "cmnd/tasmota_B1E042/OtaUrl");
    expand_to(announce->parts[0].payload, TEMPLATE_PAYLOAD, "http://h/update/d1_mini");
    expand_to(announce->parts[1].type_topic, TEMPLATE_TOPIC_TYPE, "cmnd/d1_mini/Upgrade");
    expand_to(announce->parts[1].device_topic, TEMPLATE_TOPIC_DEVICE, "cmnd/tasmota_B1E042/Upgrade");
    expand_to(announce->parts[1].payload, TEMPLATE_PAYLOAD, "1");
    assert_int_equal(announce->style, REPORT_TASMOTA);
    assert_string_equal(announce->status_topic, "stat/tasmota_{mac_tail}/UPGRADE");
    assert_string_equal(announce->online_topic, "tele/tasmota_{mac_tail}/LWT");
}

static void test_homie_on_the_wire(void **state)
{
    (void)state;
    const struct announce *announce = announce_preset("homie");
    assert_int_equal(announce->part_count, 1);
    assert_null(announce->parts[0].type_topic);
    assert_null(announce->parts[0].payload); /* the image itself */
    expand_to(announce->parts[0].device_topic, TEMPLATE_TOPIC_DEVICE,
              "homie/5ccf7fb1e042/$implementation/ota/firmware/d41d8cd98f00b204e9800998ecf8427e");
    assert_int_equal(announce->style, REPORT_HOMIE);
    assert_string_equal(announce->status_topic, "homie/{mac}/$implementation/ota/status");
    assert_string_equal(announce->online_topic, "homie/{mac}/$state");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets_pass_the_check), cmocka_unit_test(test_names),
        cmocka_unit_test(test_updraft_on_the_wire),    cmocka_unit_test(test_tasmota_on_the_wire),
        cmocka_unit_test(test_homie_on_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
