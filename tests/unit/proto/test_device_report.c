/* Reports: what each firmware says is understood, and what anyone else may write is bounded and does no harm. */
#include "proto/device_report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define UPDRAFT_STATUS  REPORT_UPDRAFT, REPORT_TOPIC_STATUS
#define UPDRAFT_ONLINE  REPORT_UPDRAFT, REPORT_TOPIC_ONLINE
#define TASMOTA_STATUS  REPORT_TASMOTA, REPORT_TOPIC_STATUS
#define TASMOTA_ONLINE  REPORT_TASMOTA, REPORT_TOPIC_ONLINE
#define HOMIE_STATUS    REPORT_HOMIE, REPORT_TOPIC_STATUS
#define HOMIE_ONLINE    REPORT_HOMIE, REPORT_TOPIC_ONLINE

static const struct {
    enum report_style style;
    enum report_topic topic;
    const char *payload;
    enum report_state state;
    const char *version, *error;
} understood[] = {
    { UPDRAFT_STATUS, "{\"state\":\"downloading\"}", REPORT_DOWNLOADING, "", "" },
    { UPDRAFT_STATUS, " {\"state\":\"flashed\",\"version\":\"0.4.10\"} ", REPORT_FLASHED, "0.4.10", "" },
    { UPDRAFT_STATUS, "{\"error\":\"MD5 mismatch\",\"state\":\"failed\"}", REPORT_FAILED, "", "MD5 mismatch" },
    { UPDRAFT_STATUS, "{\"state\":\"failed\",\"error\":-102}", REPORT_FAILED, "", "-102" },
    { UPDRAFT_STATUS, "{\"state\":\"running\",\"version\":\"1.0\",\"error\":null}", REPORT_RUNNING, "1.0", "" },
    { UPDRAFT_STATUS, "{\"state\":\"running\",\"version\":null,\"heap\":[1,{\"a\":[2]}]}", REPORT_RUNNING, "", "" },
    { UPDRAFT_STATUS, "{\"state\":\"running\",\"a\":[],\"b\":[],\"c\":{},\"d\":[],\"e\":{}}", REPORT_RUNNING, "", "" },
    { UPDRAFT_STATUS, "{\"state\":\"running\",\"version\":\"unknown\"}", REPORT_RUNNING, "", "" }, /* no version */
    { UPDRAFT_STATUS, "{\"x\":\"]}[{]}[{]}[{\\\"[[[[[\",\"state\":\"running\"}", REPORT_RUNNING, "", "" },
    { UPDRAFT_ONLINE, "1", REPORT_ONLINE, "", "" },
    { UPDRAFT_ONLINE, "0", REPORT_OFFLINE, "", "" },
    { TASMOTA_STATUS, "{\"Upgrade\":\"Successful. Restarting\"}", REPORT_FLASHED, "", "" },
    { TASMOTA_STATUS, "{\"Upgrade\":\"Failed Wrong HTTP code\"}", REPORT_FAILED, "", "Wrong HTTP code" },
    { TASMOTA_STATUS, "{\"Upgrade\":\"Version 13.4.0 from http://h/u\"}", REPORT_DOWNLOADING, "", "" },
    { TASMOTA_ONLINE, "Online", REPORT_ONLINE, "", "" },
    { TASMOTA_ONLINE, "Offline", REPORT_OFFLINE, "", "" },
    { HOMIE_STATUS, "202", REPORT_DOWNLOADING, "", "" },
    { HOMIE_STATUS, "206 1460/328704", REPORT_DOWNLOADING, "", "" },
    { HOMIE_STATUS, "200", REPORT_FLASHED, "", "" },
    { HOMIE_STATUS, "304", REPORT_RUNNING, "", "" },
    { HOMIE_STATUS, "400 BAD_CHECKSUM", REPORT_FAILED, "", "400 BAD_CHECKSUM" },
    { HOMIE_STATUS, "403", REPORT_FAILED, "", "403" },
    { HOMIE_STATUS, "500 FLASH_ERROR", REPORT_FAILED, "", "500 FLASH_ERROR" },
    { HOMIE_ONLINE, "ready", REPORT_ONLINE, "", "" },
    { HOMIE_ONLINE, "true", REPORT_ONLINE, "", "" },
    { HOMIE_ONLINE, "alert", REPORT_ONLINE, "", "" },
    { HOMIE_ONLINE, "lost", REPORT_OFFLINE, "", "" },
    { HOMIE_ONLINE, "disconnected", REPORT_OFFLINE, "", "" },
    { HOMIE_ONLINE, "sleeping", REPORT_OFFLINE, "", "" },
    { HOMIE_ONLINE, "false", REPORT_OFFLINE, "", "" },
};

static void test_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(understood); i++) {
        struct device_report report;
        const char *payload = understood[i].payload;
        enum report_result result =
            device_report_read(understood[i].style, understood[i].topic, payload, strlen(payload), &report);
        if (result != REPORT_RESULT_OK) {
            fail_msg("%s: %s", payload, report_result_word(result));
        }
        if (report.state != understood[i].state) {
            fail_msg("%s: %s", payload, report_state_word(report.state));
        }
        assert_string_equal(report.version.text, understood[i].version);
        assert_string_equal(report.error, understood[i].error);
    }
}

static const struct {
    enum report_style style;
    enum report_topic topic;
    const char *payload;
    enum report_result result;
} dropped[] = {
    { UPDRAFT_STATUS, "", REPORT_RESULT_IRRELEVANT }, /* a retained message was cleared */
    { UPDRAFT_ONLINE, "", REPORT_RESULT_IRRELEVANT },
    { UPDRAFT_STATUS, "flashed", REPORT_RESULT_NOT_JSON },
    { UPDRAFT_STATUS, "{\"state\":\"flashed\"", REPORT_RESULT_NOT_JSON },
    { UPDRAFT_STATUS, "{\"state\":\"flashed\"}}", REPORT_RESULT_NOT_JSON },
    { UPDRAFT_STATUS, "{\"state\":\"fl\xff\"}", REPORT_RESULT_NOT_JSON },
    { UPDRAFT_STATUS, "{\"state\":\"running\",\"error\":\"\\u0000\"}", REPORT_RESULT_NOT_JSON },
    { UPDRAFT_STATUS, "[\"flashed\"]", REPORT_RESULT_BAD_FIELD },
    { UPDRAFT_STATUS, "{}", REPORT_RESULT_BAD_FIELD },
    { UPDRAFT_STATUS, "{\"state\":1}", REPORT_RESULT_BAD_FIELD },
    { UPDRAFT_STATUS, "{\"state\":null}", REPORT_RESULT_BAD_FIELD },
    { UPDRAFT_STATUS, "{\"state\":\"online\"}", REPORT_RESULT_BAD_FIELD }, /* a word, of another topic */
    { UPDRAFT_STATUS, "{\"state\":\"Flashed\"}", REPORT_RESULT_BAD_FIELD },
    { UPDRAFT_STATUS, "{\"state\":\"failed\",\"state\":\"flashed\"}", REPORT_RESULT_BAD_FIELD },
    { UPDRAFT_STATUS, "{\"state\":\"running\",\"version\":[]}", REPORT_RESULT_BAD_FIELD },
    { UPDRAFT_STATUS, "{\"state\":\"running\",\"error\":{}}", REPORT_RESULT_BAD_FIELD },
    { UPDRAFT_STATUS, "{\"state\":\"running\",\"a\":[[[[]]]]}", REPORT_RESULT_TOO_DEEP },
    { UPDRAFT_STATUS, "[[[[[[[[[[", REPORT_RESULT_TOO_DEEP }, /* before the parser sees that it is no JSON */
    { UPDRAFT_ONLINE, "2", REPORT_RESULT_BAD_FIELD },
    { UPDRAFT_ONLINE, "10", REPORT_RESULT_BAD_FIELD },
    { UPDRAFT_ONLINE, "Online", REPORT_RESULT_BAD_FIELD }, /* another firmware's word */
    { TASMOTA_STATUS, "{\"OtaUrl\":\"http://h/u\"}", REPORT_RESULT_IRRELEVANT },
    { TASMOTA_STATUS, "{\"Upgrade\":\"1 or >13.4.0 to upgrade\"}", REPORT_RESULT_IRRELEVANT },
    { TASMOTA_STATUS, "{\"Upgrade\":1}", REPORT_RESULT_BAD_FIELD },
    { TASMOTA_STATUS, "Successful", REPORT_RESULT_NOT_JSON },
    { TASMOTA_ONLINE, "online", REPORT_RESULT_BAD_FIELD },
    { HOMIE_STATUS, "201", REPORT_RESULT_BAD_FIELD },
    { HOMIE_STATUS, "2000", REPORT_RESULT_BAD_FIELD },
    { HOMIE_STATUS, "   ", REPORT_RESULT_BAD_FIELD },
    { HOMIE_ONLINE, "init", REPORT_RESULT_IRRELEVANT },
    { HOMIE_ONLINE, "1", REPORT_RESULT_BAD_FIELD },
};

/* Else noise, or malice, would pass for news of a device; and a report half read must not be seen. */
static void test_dropped(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(dropped); i++) {
        struct device_report report;
        struct device_report before;
        memset(&report, 0x5a, sizeof report);
        before = report;
        enum report_result result = device_report_read(dropped[i].style, dropped[i].topic, dropped[i].payload,
                                                       strlen(dropped[i].payload), &report);
        if (result != dropped[i].result) {
            fail_msg("%s: %s, not %s", dropped[i].payload, report_result_word(result),
                     report_result_word(dropped[i].result));
        }
        assert_memory_equal(&report, &before, sizeof report);
    }
}

static void test_length_is_bounded(void **state)
{
    (void)state;
    struct device_report report;
    char payload[REPORT_BYTES_MAX + 1];
    memset(payload, ' ', sizeof payload);
    memcpy(payload, "{\"state\":\"running\"}", 19);
    assert_int_equal(device_report_read(UPDRAFT_STATUS, payload, REPORT_BYTES_MAX, &report), REPORT_RESULT_OK);
    assert_int_equal(device_report_read(UPDRAFT_STATUS, payload, REPORT_BYTES_MAX + 1, &report),
                     REPORT_RESULT_TOO_LONG);
    assert_int_equal(device_report_read(HOMIE_ONLINE, payload, REPORT_BYTES_MAX + 1, &report), REPORT_RESULT_TOO_LONG);
}

/* Four levels are allowed, and a bracket in a string is none. */
static void test_depth_is_bounded(void **state)
{
    (void)state;
    static const char deep[] = "{\"state\":\"running\",\"a\":[[[]]]}";
    struct device_report report;
    assert_int_equal(device_report_read(UPDRAFT_STATUS, deep, sizeof deep - 1, &report), REPORT_RESULT_OK);
}

/* Error texts end up in logs, tables and terminals. */
static void test_errors_are_escaped_and_cut(void **state)
{
    (void)state;
    static const char hostile[] = "{\"state\":\"failed\",\"error\":\"\\u001b[2J\\n\\\"\xc3\xa9\"}";
    struct device_report report;
    assert_int_equal(device_report_read(UPDRAFT_STATUS, hostile, sizeof hostile - 1, &report), REPORT_RESULT_OK);
    assert_string_equal(report.error, "\\x1b[2J\\x0a\\\"\\xc3\\xa9");

    char payload[REPORT_BYTES_MAX];
    int n = snprintf(payload, sizeof payload, "{\"state\":\"failed\",\"error\":\"%0500d\"}", 0);
    assert_int_equal(device_report_read(UPDRAFT_STATUS, payload, (size_t)n, &report), REPORT_RESULT_OK);
    assert_int_equal(strlen(report.error), sizeof report.error - 1);

    n = snprintf(payload, sizeof payload, "400 \x1b[2J");
    assert_int_equal(device_report_read(HOMIE_STATUS, payload, (size_t)n, &report), REPORT_RESULT_OK);
    assert_string_equal(report.error, "400 \\x1b[2J");
}

/* Payloads from a broker have no NUL behind them, and may have some inside. */
static void test_bytes_not_text(void **state)
{
    (void)state;
    struct device_report report;
    assert_int_equal(device_report_read(UPDRAFT_ONLINE, "1x", 1, &report), REPORT_RESULT_OK);
    assert_int_equal(device_report_read(UPDRAFT_ONLINE, "1\0", 2, &report), REPORT_RESULT_BAD_FIELD);
    assert_int_equal(device_report_read(UPDRAFT_STATUS, "{\"state\":\"running\"}\0", 20, &report),
                     REPORT_RESULT_NOT_JSON);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_understood),        cmocka_unit_test(test_dropped),
        cmocka_unit_test(test_length_is_bounded), cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_bytes_not_text),    cmocka_unit_test(test_errors_are_escaped_and_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
