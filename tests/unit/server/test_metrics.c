/* The metrics: that what was counted is what Prometheus reads, under names that it takes.
 *
 * The text is read back line by line here; tests/integration has it read by other programs.
 */
#include "server/metrics.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static struct metrics metrics;
static char *text;

static int set_up(void **state)
{
    (void)state;
    memset(&metrics, 0, sizeof metrics);
    text = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(text);
    return 0;
}

static void print(void)
{
    size_t size = 0;
    free(text);
    text = metrics_text(&metrics, "0.1.0", &size);
    assert_non_null(text);
    assert_int_equal(size, strlen(text));
    assert_int_equal(text[size - 1], '\n');
}

/* What stands behind a name with its labels, at the beginning of a line; fails where it is not there exactly once. */
static const char *value_of(const char *name)
{
    static char value[64];
    char wanted[160];
    snprintf(wanted, sizeof wanted, "\n%s ", name);
    const char *at = strstr(text, wanted);
    if (at == NULL || strstr(at + 1, wanted) != NULL) {
        fail_msg("not once: %s", name);
    }
    sscanf(at + strlen(wanted), "%63[^\n]", value);
    return value;
}

static void assert_value(const char *name, const char *value)
{
    if (strcmp(value_of(name), value) != 0) {
        fail_msg("%s is %s, not %s", name, value_of(name), value);
    }
}

/* The names of all metrics, as their TYPE lines have them. */
static size_t read_names(char names[][100], char types[][20], size_t max)
{
    size_t count = 0;
    for (const char *at = strstr(text, "\n# TYPE "); at != NULL; at = strstr(at + 1, "\n# TYPE ")) {
        assert_true(count < max);
        assert_int_equal(sscanf(at, "\n# TYPE %99s %19s", names[count], types[count]), 2);
        count++;
    }
    return count;
}

/* --- counts ------------------------------------------------------------------------------------------------------- */

/* Else a check is booked under another reason than its answer had. */
static void test_families_by_label(void **state)
{
    (void)state;
    metrics_count(&metrics, METRIC_CHECKS, REASON_NEWER);
    metrics_count(&metrics, METRIC_CHECKS, REASON_NEWER);
    metrics_count(&metrics, METRIC_CHECKS, REASON_BAD_HEADER);
    metrics_count(&metrics, METRIC_TRANSFERS, METRIC_TRANSFER_NOT_LOADED);
    metrics_count(&metrics, METRIC_COMMANDS, PUBLISH_EXPIRED);
    metrics_count(&metrics, METRIC_REPORTS, REPORT_RESULT_BAD_NAME);
    metrics_count(&metrics, METRIC_ADMIN, METRIC_STATUS_4XX);
    print();
    assert_value("updraft_checks_total{reason=\"newer\"}", "2");
    assert_value("updraft_checks_total{reason=\"bad-header\"}", "1");
    assert_value("updraft_checks_total{reason=\"same-digest\"}", "0");
    assert_value("updraft_transfers_total{result=\"not-loaded\"}", "1");
    assert_value("updraft_transfers_total{result=\"whole\"}", "0");
    assert_value("updraft_mqtt_commands_total{result=\"expired\"}", "1");
    assert_value("updraft_mqtt_reports_total{result=\"bad-name\"}", "1");
    assert_value("updraft_admin_requests_total{class=\"4xx\"}", "1");
}

/* Else a value that is not there yet makes alerts on rates miss the first event. */
static void test_all_labels_are_there_from_the_start(void **state)
{
    (void)state;
    char name[160];
    print();
    for (unsigned i = 0; i < REASON_COUNT; i++) {
        snprintf(name, sizeof name, "updraft_checks_total{reason=\"%s\"}", reason_word(i));
        assert_value(name, "0");
    }
    for (unsigned i = 0; i < PUBLISH_RESULT_COUNT; i++) {
        snprintf(name, sizeof name, "updraft_mqtt_commands_total{result=\"%s\"}", publish_result_word(i));
        assert_value(name, "0");
    }
    assert_value("updraft_build_info{version=\"0.1.0\"}", "1");
}

/* Else large counts lose their last digits, as a double would. */
static void test_counters(void **state)
{
    (void)state;
    metrics.counters[METRIC_COUNT_IMAGE_BYTES] = UINT64_MAX;
    metrics.counters[METRIC_COUNT_SCANS] = 7;
    print();
    assert_value("updraft_image_bytes_total", "18446744073709551615");
    assert_value("updraft_scans_total", "7");
    assert_value("updraft_connections_total", "0");
}

/* Else figures are rounded away, or written in a way that the parser refuses. */
static void test_gauges(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *printed;
    } cases[] = {
        { 0, "0" },
        { 0.5, "0.5" },
        { 0.03, "0.03" },
        { 0.000000001, "0.000000001" },
        { 1.999999999, "1.999999999" },
        { 0.9999999999, "1" },
        { -2.25, "-2.25" },
        { 1795244400.125, "1795244400.125" },
        { 123456789012345.0, "123456789012345" },
        { 4e15, "4000000000000000" },
        { INFINITY, "+Inf" },
        { -INFINITY, "-Inf" },
        { NAN, "NaN" },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        metrics.gauges[METRIC_GAUGE_LOOP_BUSY] = cases[i].value;
        print();
        assert_value("updraft_loop_busy_ratio", cases[i].printed);
    }
}

/* --- histograms --------------------------------------------------------------------------------------------------- */

/* Else quantiles are nonsense: buckets must be cumulative, a bound belongs to its bucket, and the last has all. */
static void test_histogram(void **state)
{
    (void)state;
    static const double seconds[] = { 0, 0.1, 0.1001, 5, 300, 301, -1 };
    for (size_t i = 0; i < COUNT_OF(seconds); i++) {
        metrics_observe(&metrics, METRIC_HISTOGRAM_TRANSFER_SECONDS, seconds[i]);
    }
    print();
    assert_value("updraft_transfer_seconds_bucket{le=\"0.1\"}", "3");
    assert_value("updraft_transfer_seconds_bucket{le=\"0.5\"}", "4");
    assert_value("updraft_transfer_seconds_bucket{le=\"2\"}", "4");
    assert_value("updraft_transfer_seconds_bucket{le=\"5\"}", "5");
    assert_value("updraft_transfer_seconds_bucket{le=\"120\"}", "5");
    assert_value("updraft_transfer_seconds_bucket{le=\"300\"}", "6");
    assert_value("updraft_transfer_seconds_bucket{le=\"+Inf\"}", "7");
    assert_value("updraft_transfer_seconds_count", "7");
    assert_value("updraft_transfer_seconds_sum", "606.2001");
    assert_value("updraft_mqtt_command_seconds_bucket{le=\"0.001\"}", "0");
    assert_value("updraft_mqtt_command_seconds_count", "0");
}

/* Else a bound out of order makes its bucket unreachable. */
static void test_bounds_ascend(void **state)
{
    (void)state;
    char name[100] = "";
    double before = 0;
    size_t buckets = 0;
    print();
    for (const char *at = strstr(text, "_bucket{le=\""); at != NULL; at = strstr(at + 1, "_bucket{le=\"")) {
        const char *start = at;
        while (start[-1] != '\n') {
            start--;
        }
        if (strncmp(name, start, (size_t)(at - start)) != 0 || name[0] == '\0') {
            snprintf(name, sizeof name, "%.*s", (int)(at - start), start);
            before = 0;
        }
        double bound = strtod(at + strlen("_bucket{le=\""), NULL);
        assert_true(bound > before);
        before = bound;
        buckets++;
    }
    assert_true(buckets > 10);
}

/* --- names -------------------------------------------------------------------------------------------------------- */

static bool is_metric_name(const char *name)
{
    for (const char *c = name; *c != '\0'; c++) {
        if (!islower((unsigned char)*c) && *c != '_' && (c == name || !isdigit((unsigned char)*c))) {
            return false;
        }
    }
    return name[0] != '\0';
}

/* Else the whole scrape is refused, and with it every metric: names once, of its alphabet, counters end in _total, and
 * are not another's name without it, as OpenMetrics and some client libraries call a counter. */
static void test_names(void **state)
{
    (void)state;
    static char names[100][100], types[100][20];
    print();
    size_t count = read_names(names, types, COUNT_OF(names));
    assert_int_equal(count,
                     1 + METRIC_FAMILY_COUNT + METRIC_COUNTER_COUNT + METRIC_GAUGE_COUNT + METRIC_HISTOGRAM_COUNT);
    for (size_t i = 0; i < count; i++) {
        bool is_total = strlen(names[i]) > 6 && strcmp(names[i] + strlen(names[i]) - 6, "_total") == 0;
        bool ours = strncmp(names[i], "updraft_", 8) == 0 || strncmp(names[i], "process_", 8) == 0;
        if (!is_metric_name(names[i]) || !ours || is_total != (strcmp(types[i], "counter") == 0)) {
            fail_msg("%s is a bad name of a %s", names[i], types[i]);
        }
        names[i][strlen(names[i]) - (is_total ? 6 : 0)] = '\0';
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(names[i], names[j]);
        }
    }
}

/* Else a word of some list, or a version, breaks its line. */
static void test_labels_are_escaped(void **state)
{
    (void)state;
    size_t size;
    free(text);
    text = metrics_text(&metrics, "1\"2\\3\n4", &size);
    assert_value("updraft_build_info{version=\"1\\\"2\\\\3\\n4\"}", "1");
}

/* Else a line of the text is none that its grammar knows: a comment, or a name, labels, a blank and a number. */
static void test_every_line_has_its_form(void **state)
{
    (void)state;
    print();
    char *rest = text;
    size_t lines = 0;
    for (char *line = strsep(&rest, "\n"); line != NULL && rest != NULL; line = strsep(&rest, "\n"), lines++) {
        if (line[0] == '#') {
            assert_true(strncmp(line, "# HELP ", 7) == 0 || strncmp(line, "# TYPE ", 7) == 0);
            assert_null(strchr(line, '\\'));
            continue;
        }
        char *end;
        const char *value = strrchr(line, ' ');
        assert_non_null(value);
        (void)strtod(value + 1, &end);
        assert_true(end != value + 1 && *end == '\0');
    }
    assert_true(lines > 100);
}

/* Else a reason added to its list writes beyond the table; the compiler holds it too. */
static void test_labels_fit(void **state)
{
    (void)state;
#define X(name, metric, label, count, word, help) assert_in_range(count, 1, METRIC_LABELS_MAX);
    METRIC_FAMILY_LIST(X)
#undef X
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_families_by_label),
        TEST(test_all_labels_are_there_from_the_start),
        TEST(test_counters),
        TEST(test_gauges),
        TEST(test_histogram),
        TEST(test_bounds_ascend),
        TEST(test_names),
        TEST(test_labels_are_escaped),
        TEST(test_every_line_has_its_form),
        TEST(test_labels_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
