/* Templates: what the check lets through can be filled in with anything; what devices publish is read back right. */
#include "proto/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static const struct template_values usual = { {
    [TEMPLATE_TYPE] = "d1_mini",
    [TEMPLATE_MAC] = "5ccf7fb1e042",
    [TEMPLATE_MAC_TAIL] = "B1E042",
    [TEMPLATE_VERSION] = "0_4_10",
    [TEMPLATE_URL] = "http://192.168.1.10:8080/update/d1_mini",
    [TEMPLATE_MD5] = "d41d8cd98f00b204e9800998ecf8427e",
    [TEMPLATE_SIZE] = "328704",
    [TEMPLATE_MODE] = "sketch",
    [TEMPLATE_ID] = "00112233445566ff",
    [TEMPLATE_WINDOW] = "60",
} };

static const struct {
    const char *text;
    enum template_use use;
} accepted[] = {
    { "updraft/{type}/update", TEMPLATE_TOPIC_TYPE },
    { "everyone/update", TEMPLATE_TOPIC_TYPE },
    { "fw/{type}/{version}/{md5}", TEMPLATE_TOPIC_TYPE },
    { "{}/{A}/{type}", TEMPLATE_TOPIC_TYPE }, /* braces that are no place stand for themselves */
    { "cmnd/tasmota_{mac_tail}/OtaUrl", TEMPLATE_TOPIC_DEVICE },
    { "homie/{mac}/$implementation/ota/firmware/{md5}", TEMPLATE_TOPIC_DEVICE },
    { "a{type}b/{mac}", TEMPLATE_TOPIC_FROM },
    { "{mac}{type}{mac_tail}", TEMPLATE_TOPIC_FROM },
    { "{url}", TEMPLATE_PAYLOAD }, /* begins with a brace, and is no JSON */
    { "", TEMPLATE_PAYLOAD },
    { "1", TEMPLATE_PAYLOAD },
    { "{}", TEMPLATE_PAYLOAD },
    { "{\"a\":{\"b\":[{size}, {window} ,\"{size}\"]}}", TEMPLATE_PAYLOAD },
    { "{\"a\":\"{version} \\\" {md5}\",\"b\":{size}}", TEMPLATE_PAYLOAD },
};

/* Else an operator's sound configuration would keep the server from starting. */
static void test_accepted(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(accepted); i++) {
        char why[300] = "";
        if (template_check(accepted[i].text, accepted[i].use, why, sizeof why) != STATUS_OK) {
            fail_msg("\"%s\": %s", accepted[i].text, why);
        }
    }
}

static const struct {
    const char *text;
    enum template_use use;
    const char *why; /* part of it */
} refused[] = {
    { "", TEMPLATE_TOPIC_TYPE, "empty" },
    { "updraft/{typ}/update", TEMPLATE_TOPIC_TYPE,
      "{typ} has no meaning in the topic of a whole type; there are {type}" },
    { "updraft/{type}/{mac}", TEMPLATE_TOPIC_TYPE, "{mac} has no meaning" },
    { "updraft/{type}/{mac_tail}", TEMPLATE_TOPIC_TYPE, "{mac_tail} has no meaning" },
    { "updraft/{version}", TEMPLATE_TOPIC_TYPE, "put {type} into it" },
    { "updraft/{type}/{url}", TEMPLATE_TOPIC_TYPE, "{url} has no meaning" },
    { "updraft/+/update", TEMPLATE_TOPIC_TYPE, "wildcard" },
    { "updraft/#", TEMPLATE_TOPIC_TYPE, "wildcard" },
    { "updraft/\x01", TEMPLATE_TOPIC_TYPE, "control" },
    { "updraft/\xff", TEMPLATE_TOPIC_TYPE, "UTF-8" },
    { "updraft/{type}/update", TEMPLATE_TOPIC_DEVICE, "put {mac} or {mac_tail} into it" },
    { "updraft/{type}/status", TEMPLATE_TOPIC_FROM, "put {mac} or {mac_tail} into it" },
    { "updraft/{version}/{mac}", TEMPLATE_TOPIC_FROM, "there are {type}, {mac}, {mac_tail}" },
    { "{mac}/{type}/{type}", TEMPLATE_TOPIC_FROM, "{type} stands twice" },
    { "{mac}/{mac}", TEMPLATE_TOPIC_FROM, "{mac} stands twice" },
    { "{urls}", TEMPLATE_PAYLOAD, "{urls} has no meaning in a payload" },
    { "{", TEMPLATE_PAYLOAD, "no JSON object" },
    { "{\"a\":1,}", TEMPLATE_PAYLOAD, "no JSON object" },
    { "{\"a\":1} x", TEMPLATE_PAYLOAD, "no JSON object" },
    { "{\"a\":1,\"a\":2}", TEMPLATE_PAYLOAD, "no JSON object" },
    { "{\"a\":{version}}", TEMPLATE_PAYLOAD, "write \"{version}\"" },
    { "{\"a\":1{size}}", TEMPLATE_PAYLOAD, "no JSON object" }, /* 1 and 0 would make 10 */
    { "{\"a\":-{size}}", TEMPLATE_PAYLOAD, "no JSON object" }, /* -0 is a number, -"007" none */
    { "{\"a\":{size}{window}}", TEMPLATE_PAYLOAD, "no JSON object" },
    { "{\"a\":\"\\{type}\"}", TEMPLATE_PAYLOAD, "no JSON object" },        /* \n of "node" */
    { "{\"a\":\"\\u00{mac_tail}\"}", TEMPLATE_PAYLOAD, "no JSON object" }, /* digits of the MAC as a character */
    { "{\"{type}\":1,\"version\":2}", TEMPLATE_PAYLOAD, "name of a member" },
    { "{\"{type}\" :1}", TEMPLATE_PAYLOAD, "name of a member" },
    { "\t{url}", TEMPLATE_PAYLOAD, "control" },
};

/* Else a command would go to the wrong devices, or be one that no device can read. */
static void test_refused_with_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        char why[300] = "";
        if (template_check(refused[i].text, refused[i].use, why, sizeof why) != STATUS_INVALID) {
            fail_msg("\"%s\" was let through", refused[i].text);
        }
        if (strstr(why, refused[i].why) == NULL) {
            fail_msg("\"%s\": \"%s\" says nothing of \"%s\"", refused[i].text, why, refused[i].why);
        }
    }
}

/* Brokers and the session end at 256 bytes: what could pass it with a long type is refused at start, not at night. */
static void test_topics_are_measured_at_their_longest(void **state)
{
    (void)state;
    char text[300] = "{mac}";
    char why[300] = "";
    memset(text + 5, 'x', 256 - 12);
    text[5 + 256 - 12] = '\0';
    assert_int_equal(template_check(text, TEMPLATE_TOPIC_DEVICE, why, sizeof why), STATUS_OK);
    strcat(text, "x");
    assert_int_equal(template_check(text, TEMPLATE_TOPIC_DEVICE, why, sizeof why), STATUS_TOO_LONG);
    assert_non_null(strstr(why, "257 bytes"));
}

static void test_payloads_are_measured_too(void **state)
{
    (void)state;
    char text[TEMPLATE_TEXT_MAX + 2];
    char why[300];
    memset(text, 'x', TEMPLATE_TEXT_MAX);
    text[TEMPLATE_TEXT_MAX] = '\0';
    assert_int_equal(template_check(text, TEMPLATE_PAYLOAD, why, sizeof why), STATUS_OK);
    strcat(text, "x");
    assert_int_equal(template_check(text, TEMPLATE_PAYLOAD, why, sizeof why), STATUS_TOO_LONG);
    text[0] = '\0';
    for (int i = 0; i < 7; i++) {
        strcat(text, "{url}"); /* 7 of 640 bytes */
    }
    assert_int_equal(template_check(text, TEMPLATE_PAYLOAD, why, sizeof why), STATUS_TOO_LONG);
    static const char json[] = "{\"a\":[\"{url}\",\"{url}\",\"{url}\",\"{url}\"]}"; /* each byte may be escaped */
    assert_int_equal(template_check(json, TEMPLATE_PAYLOAD, why, sizeof why), STATUS_TOO_LONG);
    assert_int_equal(template_check(json + 1, TEMPLATE_PAYLOAD, why, sizeof why), STATUS_OK);
}

static void expand_to(const char *text, enum template_use use, const struct template_values *values, const char *wanted)
{
    char to[512];
    if (!template_expand(text, use, values, to, sizeof to)) {
        fail_msg("\"%s\" was not filled in", text);
    }
    assert_string_equal(to, wanted);
}

static void test_filled_in(void **state)
{
    (void)state;
    expand_to("updraft/{type}/{mac}/update", TEMPLATE_TOPIC_DEVICE, &usual, "updraft/d1_mini/5ccf7fb1e042/update");
    expand_to("{\"v\":\"{version}\",\"s\":{size},\"w\":{window},\"m\":\"{mode}\",\"i\":\"{id}\"}", TEMPLATE_PAYLOAD,
              &usual, "{\"v\":\"0_4_10\",\"s\":328704,\"w\":60,\"m\":\"sketch\",\"i\":\"00112233445566ff\"}");
    expand_to("{url}", TEMPLATE_PAYLOAD, &usual, "http://192.168.1.10:8080/update/d1_mini");
    expand_to("{}{x {mac_tail}}", TEMPLATE_TOPIC_DEVICE, &usual, "{}{x B1E042}");
}

/* Else a version with a quote in it would end the string, and say what it likes to the device. */
static void test_json_strings_are_escaped(void **state)
{
    (void)state;
    struct template_values values = usual;
    values.texts[TEMPLATE_VERSION] = "1\",\"url\":\"\\";
    expand_to("{\"v\":\"{version}\"}", TEMPLATE_PAYLOAD, &values, "{\"v\":\"1\\\",\\\"url\\\":\\\"\\\\\"}");
    expand_to("v={version}", TEMPLATE_PAYLOAD, &values, "v=1\",\"url\":\"\\"); /* no JSON, no escapes */
}

/* A value that would break what the check promised fills nothing in. */
static void test_unfit_values(void **state)
{
    static const struct {
        const char *text;
        enum template_use use;
        enum template_place place;
        const char *value;
    } cases[] = {
        { "u/{type}/{mac}", TEMPLATE_TOPIC_DEVICE, TEMPLATE_MAC, NULL },
        { "u/{type}", TEMPLATE_TOPIC_TYPE, TEMPLATE_TYPE, "" },
        { "u/{type}", TEMPLATE_TOPIC_TYPE, TEMPLATE_TYPE, "a/b" },
        { "u/{type}/{version}", TEMPLATE_TOPIC_TYPE, TEMPLATE_VERSION, "1.0+7" },
        { "u/{type}/{version}", TEMPLATE_TOPIC_TYPE, TEMPLATE_VERSION, "#" },
        { "{\"s\":{size}}", TEMPLATE_PAYLOAD, TEMPLATE_SIZE, "" },
        { "{\"s\":{size}}", TEMPLATE_PAYLOAD, TEMPLATE_SIZE, "007" },
        { "{\"s\":{size}}", TEMPLATE_PAYLOAD, TEMPLATE_SIZE, "1,\"x\":2" },
        { "{\"s\":{size}}", TEMPLATE_PAYLOAD, TEMPLATE_SIZE, "1234567890123456" },
        { "{\"v\":\"{version}\"}", TEMPLATE_PAYLOAD, TEMPLATE_VERSION, "\n" },
        { "{\"v\":\"{version}\"}", TEMPLATE_PAYLOAD, TEMPLATE_VERSION, "\xc3" },
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct template_values values = usual;
        char to[64] = "before";
        values.texts[cases[i].place] = cases[i].value;
        if (template_expand(cases[i].text, cases[i].use, &values, to, sizeof to)) {
            fail_msg("%s with \"%s\" became \"%s\"", cases[i].text, cases[i].value, to);
        }
        assert_string_equal(to, "");
    }
}

static void test_too_small_a_place_for_it(void **state)
{
    (void)state;
    char to[8];
    assert_true(template_expand("{type}", TEMPLATE_TOPIC_TYPE, &usual, to, 8)); /* d1_mini and NUL */
    assert_false(template_expand("{type}", TEMPLATE_TOPIC_TYPE, &usual, to, 7));
    assert_string_equal(to, "");
}

/* A wrong filter hears nothing, or everything of the broker. */
static void test_filters(void **state)
{
    static const char *const cases[][2] = {
        { "updraft/{type}/{mac}/status", "updraft/+/+/status" },
        { "stat/tasmota_{mac_tail}/UPGRADE", "stat/+/UPGRADE" },
        { "homie/{mac}/$state", "homie/+/$state" },
        { "{mac}", "+" },
        { "/{mac}//", "/+//" },
        { "{}/{mac}", "{}/+" },
    };
    (void)state;
    char to[64];
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_true(template_filter(cases[i][0], to, sizeof to));
        assert_string_equal(to, cases[i][1]);
    }
    assert_true(template_filter("a/{mac}", to, 4));
    assert_false(template_filter("a/{mac}", to, 3));
    assert_string_equal(to, "");
}

static const struct {
    const char *text, *topic;
    const char *type; /* NULL = none */
    const char *mac, *tail;
} matches[] = {
    { "updraft/{type}/{mac}/status", "updraft/d1_mini/5ccf7fb1e042/status", "d1_mini", "5ccf7fb1e042", NULL },
    { "updraft/{type}/{mac}/status", "updraft/server/5CCF7FB1E042/status", "server", "5ccf7fb1e042", NULL },
    { "stat/tasmota_{mac_tail}/UPGRADE", "stat/tasmota_B1E042/UPGRADE", NULL, NULL, "b1e042" },
    { "{mac_tail}{type}{mac}", "b1e042x5ccf7fb1e042", "x", "5ccf7fb1e042", "b1e042" },
    { "/{mac}/", "/5ccf7fb1e042/", NULL, "5ccf7fb1e042", NULL },
    { "a{type}b/{mac}", "aab/5ccf7fb1e042", "a", "5ccf7fb1e042", NULL },
};

static void test_topics_read_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(matches); i++) {
        struct template_match match;
        char text[MAC_TEXT_SIZE];
        if (!template_match(matches[i].text, slice_of(matches[i].topic), &match)) {
            fail_msg("\"%s\" is a topic of \"%s\"", matches[i].topic, matches[i].text);
        }
        assert_true(matches[i].type != NULL ? slice_is(match.type, matches[i].type) : match.type.at == NULL);
        assert_int_equal(match.has_mac, matches[i].mac != NULL);
        assert_int_equal(match.has_mac_tail, matches[i].tail != NULL);
        if (matches[i].mac != NULL) {
            mac_print(&match.mac, text);
            assert_string_equal(text, matches[i].mac);
        }
        if (matches[i].tail != NULL) {
            hex_encode(match.mac_tail, 3, text);
            assert_string_equal(text, matches[i].tail);
        }
    }
}

/* Else a fact would be written down for a device that never spoke. */
static void test_other_topics(void **state)
{
    static const char *const cases[][2] = {
        { "updraft/{type}/{mac}/status", "updraft/d1_mini/5ccf7fb1e042" },
        { "updraft/{type}/{mac}/status", "updraft/d1_mini/5ccf7fb1e042/status/" },
        { "updraft/{type}/{mac}/status", "updraft/d1_mini/5ccf7fb1e042/online" },
        { "updraft/{type}/{mac}/status", "updraft//5ccf7fb1e042/status" },
        { "updraft/{type}/{mac}/status", "updraft/.hidden/5ccf7fb1e042/status" },
        { "updraft/{type}/{mac}/status", "updraft/d1 mini/5ccf7fb1e042/status" },
        { "updraft/{type}/{mac}/status", "updraft/d1_mini/5ccf7fb1e04/status" },
        { "updraft/{type}/{mac}/status", "updraft/d1_mini/5ccf7fb1e0421/status" },
        { "updraft/{type}/{mac}/status", "updraft/d1_mini/ffffffffffff/status" },
        { "updraft/{type}/{mac}/status", "updraft/d1_mini/5c:cf:7f:b1:e0:42/status" },
        { "updraft/{type}/{mac}/status",
          "updraft/ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt/5ccf7fb1e042/status" }, /* 65 */
        { "stat/tasmota_{mac_tail}/UPGRADE", "stat/tasmota_B1E04/UPGRADE" },
        { "stat/tasmota_{mac_tail}/UPGRADE", "stat/kitchen/UPGRADE" },
        { "{mac}/{mac_tail}", "5ccf7fb1e042/b1e043" }, /* says two devices */
        { "{mac}", "" },
        { "/{mac}", "5ccf7fb1e042" },
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct template_match match = { .has_mac = true, .mac = { { 7 } } };
        if (template_match(cases[i][0], slice_of(cases[i][1]), &match)) {
            fail_msg("\"%s\" is no topic of \"%s\"", cases[i][1], cases[i][0]);
        }
        assert_int_equal(match.mac.bytes[0], 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_refused_with_a_reason),
        cmocka_unit_test(test_topics_are_measured_at_their_longest),
        cmocka_unit_test(test_payloads_are_measured_too),
        cmocka_unit_test(test_filled_in),
        cmocka_unit_test(test_json_strings_are_escaped),
        cmocka_unit_test(test_unfit_values),
        cmocka_unit_test(test_too_small_a_place_for_it),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_topics_read_back),
        cmocka_unit_test(test_other_topics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
