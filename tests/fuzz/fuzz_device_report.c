/* A digit for firmware and topic, then the payload as it came from the broker: what is taken for a report is complete
 * and printable, and nothing deeper than allowed was parsed for it.
 */
#include "proto/device_report.h"

#include <assert.h>
#include <jansson.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t depth_of(const json_t *value)
{
    size_t deepest = 0;
    size_t i;
    const char *name;
    json_t *member;
    json_array_foreach(value, i, member)
    {
        size_t depth = depth_of(member);
        deepest = depth > deepest ? depth : deepest;
    }
    json_object_foreach((json_t *)(uintptr_t)value, name, member)
    {
        size_t depth = depth_of(member);
        deepest = depth > deepest ? depth : deepest;
    }
    return json_is_object(value) || json_is_array(value) ? deepest + 1 : 0;
}

static void check_report(const struct device_report *report, enum report_topic topic)
{
    bool online_word = report->state == REPORT_ONLINE || report->state == REPORT_OFFLINE;
    assert(online_word == (topic == REPORT_TOPIC_ONLINE));
    assert(report_state_word(report->state)[0] != '\0');
    assert(memchr(report->error, '\0', sizeof report->error) != NULL);
    for (const char *c = report->error; *c != '\0'; c++) {
        assert(*c >= 0x20 && *c < 0x7f);
    }
    assert(topic == REPORT_TOPIC_STATUS || (report->error[0] == '\0' && report->version.text[0] == '\0'));
    if (report->version.text[0] != '\0') {
        struct version again;
        assert(version_parse(slice_of(report->version.text), &again) == STATUS_OK);
        assert(version_compare(&again, &report->version) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || data[0] < '0' || data[0] > '5') {
        return 0;
    }
    enum report_style style = (enum report_style)((data[0] - '0') / 2);
    enum report_topic topic = (enum report_topic)((data[0] - '0') % 2);
    const char *payload = (const char *)data + 1;
    size_t n = size - 1;
    struct device_report report;
    struct device_report before;
    memset(&report, 0x5a, sizeof report);
    before = report;
    enum report_result result = device_report_read(style, topic, payload, n, &report);
    assert(result < REPORT_RESULT_COUNT && result != REPORT_RESULT_BAD_NAME && report_result_word(result)[0] != '\0');
    assert((result == REPORT_RESULT_TOO_LONG) == (n > REPORT_BYTES_MAX));
    if (result == REPORT_RESULT_OK) {
        check_report(&report, topic);
    } else {
        assert(memcmp(&report, &before, sizeof report) == 0);
    }

    bool is_json = topic == REPORT_TOPIC_STATUS && style != REPORT_HOMIE && n > 0 && n <= REPORT_BYTES_MAX;
    json_t *value = is_json ? json_loadb(payload, n, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (value != NULL) { /* what the parser can read, it was kept from or not by its true depth */
        assert((depth_of(value) > REPORT_DEPTH_MAX) == (result == REPORT_RESULT_TOO_DEEP));
        json_decref(value);
    }
    return 0;
}
