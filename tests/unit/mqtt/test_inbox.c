/* The inbox: facts reach the owner with the right device; all else is counted under its reason and goes nowhere. */
#include "mqtt/inbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const char status_topic[] = "updraft/{type}/{mac}/status";
static const char online_topic[] = "updraft/{type}/{mac}/online";

struct fixture {
    struct inbox inbox;
    unsigned facts;
    char type[65];
    char mac[MAC_TEXT_SIZE];
    enum report_state state;
    bool retained;
};

static void on_fact(void *owner, const struct device_fact *fact)
{
    struct fixture *fixture = owner;
    fixture->facts++;
    slice_copy(fact->device.type, fixture->type, sizeof fixture->type);
    mac_print(&fact->device.mac, fixture->mac);
    fixture->state = fact->report.state;
    fixture->retained = fact->retained;
}

static void start(struct fixture *fixture)
{
    memset(fixture, 0, sizeof *fixture);
    inbox_init(&fixture->inbox, status_topic, online_topic, REPORT_UPDRAFT, on_fact, fixture);
}

static void take(struct fixture *fixture, const char *topic, const char *payload, bool retained)
{
    inbox_take(&fixture->inbox, topic, payload, strlen(payload), retained);
}

/* A status read as "online", or the other way round, would be no fact at all. */
static void test_facts_by_topic(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    take(&fixture, "updraft/d1_mini/5CCF7FB1E042/status", "{\"state\":\"flashed\"}", false);
    assert_int_equal(fixture.facts, 1);
    assert_string_equal(fixture.type, "d1_mini");
    assert_string_equal(fixture.mac, "5ccf7fb1e042");
    assert_int_equal(fixture.state, REPORT_FLASHED);
    assert_false(fixture.retained);
    take(&fixture, "updraft/porch/5ccf7fb1e043/online", "0", true);
    assert_int_equal(fixture.facts, 2);
    assert_string_equal(fixture.type, "porch");
    assert_string_equal(fixture.mac, "5ccf7fb1e043");
    assert_int_equal(fixture.state, REPORT_OFFLINE);
    assert_true(fixture.retained);
    assert_int_equal(fixture.inbox.counts.results[REPORT_RESULT_OK], 2);
}

/* Each message counts once, under the first thing that is wrong with it, and the owner never sees it. */
static void test_the_rest_is_counted(void **state)
{
    static const struct {
        const char *topic, *payload;
        enum report_result result;
    } cases[] = {
        { "updraft/d1_mini/5ccf7fb1e042/update", "{\"state\":\"flashed\"}", REPORT_RESULT_BAD_NAME },
        { "updraft/server/online", "1", REPORT_RESULT_BAD_NAME },
        { "updraft/d1_mini/ffffffffffff/online", "1", REPORT_RESULT_BAD_NAME },
        { "updraft/\xff/5ccf7fb1e042/online", "[[[[[[", REPORT_RESULT_BAD_NAME },
        { "", "1", REPORT_RESULT_BAD_NAME },
        { "updraft/d1_mini/5ccf7fb1e042/online", "{\"state\":\"flashed\"}", REPORT_RESULT_BAD_FIELD },
        { "updraft/d1_mini/5ccf7fb1e042/online", "", REPORT_RESULT_IRRELEVANT },
        { "updraft/d1_mini/5ccf7fb1e042/status", "1", REPORT_RESULT_NOT_JSON },
        { "updraft/d1_mini/5ccf7fb1e042/status", "[[[[[[", REPORT_RESULT_TOO_DEEP },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture fixture;
        start(&fixture);
        take(&fixture, cases[i].topic, cases[i].payload, false);
        assert_int_equal(fixture.facts, 0);
        for (size_t k = 0; k < REPORT_RESULT_COUNT; k++) {
            assert_int_equal(fixture.inbox.counts.results[k], k == cases[i].result);
        }
    }
}

static void test_too_long_is_counted(void **state)
{
    (void)state;
    static const char payload[REPORT_BYTES_MAX + 1] = "1";
    struct fixture fixture;
    start(&fixture);
    inbox_take(&fixture.inbox, "updraft/d1_mini/5ccf7fb1e042/online", payload, sizeof payload, false);
    assert_int_equal(fixture.facts, 0);
    assert_int_equal(fixture.inbox.counts.results[REPORT_RESULT_TOO_LONG], 1);
}

static void filters_are(const char *status, const char *online, size_t count, const char *first, const char *second)
{
    struct inbox inbox;
    char filters[2][SESSION_TOPIC_MAX + 1];
    inbox_init(&inbox, status, online, REPORT_UPDRAFT, on_fact, NULL);
    assert_int_equal(inbox_filters(&inbox, filters), count);
    if (count > 0) {
        assert_string_equal(filters[0], first);
    }
    if (count > 1) {
        assert_string_equal(filters[1], second);
    }
}

/* Subscribing to the wrong thing hears nothing; to one filter twice, everything twice. */
static void test_filters(void **state)
{
    (void)state;
    filters_are(status_topic, online_topic, 2, "updraft/+/+/status", "updraft/+/+/online");
    filters_are(NULL, online_topic, 1, "updraft/+/+/online", NULL);
    filters_are(status_topic, NULL, 1, "updraft/+/+/status", NULL);
    filters_are(NULL, NULL, 0, NULL, NULL);
    filters_are("dev/status-{mac}", "dev/online-{mac}", 1, "dev/+", NULL);
}

/* A firmware without one of the topics: nothing may match what is not there. */
static void test_one_topic_only(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    fixture.inbox.status_topic = NULL;
    take(&fixture, "updraft/d1_mini/5ccf7fb1e042/online", "1", false);
    take(&fixture, "updraft/d1_mini/5ccf7fb1e042/status", "{\"state\":\"flashed\"}", false);
    fixture.inbox.online_topic = NULL;
    take(&fixture, "updraft/d1_mini/5ccf7fb1e042/online", "1", false);
    assert_int_equal(fixture.facts, 1);
    assert_int_equal(fixture.inbox.counts.results[REPORT_RESULT_BAD_NAME], 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts_by_topic),      cmocka_unit_test(test_the_rest_is_counted),
        cmocka_unit_test(test_too_long_is_counted), cmocka_unit_test(test_filters),
        cmocka_unit_test(test_one_topic_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
