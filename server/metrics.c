/* The lists of metrics.h as tables, and the tables as text.
 *
 * What makes it hard is what the reader takes literally: buckets are cumulative there and not here, a decimal comma of
 * some locale would break every line, and a quote in a label ends it. Numbers are therefore printed from integers.
 */
#include "server/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

const char *metric_transfer_word(enum metric_transfer result)
{
    static const char *const words[] = { "whole", "cut", "not-loaded" };
    _Static_assert(COUNT_OF(words) == METRIC_TRANSFER_COUNT, "a word for each");
    assert(result < METRIC_TRANSFER_COUNT);
    return words[result];
}

const char *metric_status_word(enum metric_status status)
{
    static const char *const words[] = { "2xx", "4xx", "5xx" };
    _Static_assert(COUNT_OF(words) == METRIC_STATUS_COUNT, "a word for each");
    assert(status < METRIC_STATUS_COUNT);
    return words[status];
}

/* The word functions take enums of their own, so each gets a function of one type. */
#define X(name, text, label, count, word, help)                                                                        \
    _Static_assert((unsigned)(count) <= METRIC_LABELS_MAX, "raise METRIC_LABELS_MAX");                                 \
    static const char *label_of_##name(unsigned i)                                                                     \
    {                                                                                                                  \
        return word(i);                                                                                                \
    }
METRIC_FAMILY_LIST(X)
#undef X

static const struct {
    const char *name, *label, *help;
    unsigned count;
    const char *(*label_of)(unsigned i);
} families[] = {
#define X(name, text, label, count, word, help) { text, label, help, count, label_of_##name },
    METRIC_FAMILY_LIST(X)
#undef X
};

static const struct {
    const char *name, *help;
} counters[] = {
#define X(name, text, help) { text, help },
    METRIC_COUNTER_LIST(X)
#undef X
}, gauges[] = {
#define X(name, text, help) { text, help },
    METRIC_GAUGE_LIST(X)
#undef X
};

#define X(name, text, help, ...)                                                                                       \
    static const double bounds_of_##name[] = { __VA_ARGS__ };                                                          \
    _Static_assert(COUNT_OF(bounds_of_##name) <= METRIC_BUCKETS_MAX, "raise METRIC_BUCKETS_MAX");
METRIC_HISTOGRAM_LIST(X)
#undef X

static const struct {
    const char *name, *help;
    const double *bounds; /* ascending */
    size_t bound_count;
} histograms[] = {
#define X(name, text, help, ...) { text, help, bounds_of_##name, COUNT_OF(bounds_of_##name) },
    METRIC_HISTOGRAM_LIST(X)
#undef X
};

void metrics_observe(struct metrics *metrics, enum metric_histogram histogram, double seconds)
{
    assert(histogram < METRIC_HISTOGRAM_COUNT && !isnan(seconds));
    seconds = seconds > 0 ? seconds : 0;
    for (size_t i = 0; i < histograms[histogram].bound_count; i++) {
        if (seconds <= histograms[histogram].bounds[i]) {
            metrics->histograms[histogram].buckets[i]++;
            break;
        }
    }
    metrics->histograms[histogram].count++;
    metrics->histograms[histogram].sum += seconds;
}

/* --- the text ----------------------------------------------------------------------------------------------------- */

/* To nine places, which is more than anything here is measured to; `%f` and `%g` would ask the locale for a point. */
static void print_number(FILE *to, double value)
{
    if (!isfinite(value)) {
        fputs(isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf", to);
        return;
    }
    const char *sign = value < 0 ? "-" : "";
    value = fabs(value);
    if (value >= 1e15) { /* nothing behind the point is left to print */
        fprintf(to, "%s%.0f", sign, value);
        return;
    }
    uint64_t units = (uint64_t)value;
    uint64_t billionths = (uint64_t)((value - (double)units) * 1e9 + 0.5);
    units += billionths / 1000000000;
    billionths %= 1000000000;
    fprintf(to, "%s%" PRIu64, sign, units);
    if (billionths != 0) {
        int places = 9;
        for (; billionths % 10 == 0; places--) {
            billionths /= 10;
        }
        fprintf(to, ".%0*" PRIu64, places, billionths);
    }
}

/* As a label's value, where a backslash, a quote and a line's end have a form of their own. */
static void print_label(FILE *to, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '\n') {
            fputs("\\n", to);
        } else {
            fprintf(to, "%s%c", *value == '"' || *value == '\\' ? "\\" : "", *value);
        }
    }
}

static void print_head(FILE *to, const char *name, const char *type, const char *help)
{
    fprintf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_family(FILE *to, const struct metrics *metrics, size_t family)
{
    print_head(to, families[family].name, "counter", families[family].help);
    for (unsigned i = 0; i < families[family].count; i++) {
        fprintf(to, "%s{%s=\"", families[family].name, families[family].label);
        print_label(to, families[family].label_of(i));
        fprintf(to, "\"} %" PRIu64 "\n", metrics->families[family][i]);
    }
}

static void print_histogram(FILE *to, const struct metrics *metrics, size_t histogram)
{
    const char *name = histograms[histogram].name;
    uint64_t up_to = 0;
    print_head(to, name, "histogram", histograms[histogram].help);
    for (size_t i = 0; i < histograms[histogram].bound_count; i++) {
        up_to += metrics->histograms[histogram].buckets[i];
        fprintf(to, "%s_bucket{le=\"", name);
        print_number(to, histograms[histogram].bounds[i]);
        fprintf(to, "\"} %" PRIu64 "\n", up_to);
    }
    uint64_t count = metrics->histograms[histogram].count;
    fprintf(to, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum ", name, count, name);
    print_number(to, metrics->histograms[histogram].sum);
    fprintf(to, "\n%s_count %" PRIu64 "\n", name, count);
}

static void print_all(FILE *to, const struct metrics *metrics, const char *version)
{
    print_head(to, "updraft_build_info", "gauge", "1; the label says which version runs.");
    fputs("updraft_build_info{version=\"", to);
    print_label(to, version);
    fputs("\"} 1\n", to);
    for (size_t i = 0; i < METRIC_FAMILY_COUNT; i++) {
        print_family(to, metrics, i);
    }
    for (size_t i = 0; i < METRIC_COUNTER_COUNT; i++) {
        print_head(to, counters[i].name, "counter", counters[i].help);
        fprintf(to, "%s %" PRIu64 "\n", counters[i].name, metrics->counters[i]);
    }
    for (size_t i = 0; i < METRIC_GAUGE_COUNT; i++) {
        print_head(to, gauges[i].name, "gauge", gauges[i].help);
        fprintf(to, "%s ", gauges[i].name);
        print_number(to, metrics->gauges[i]);
        fputc('\n', to);
    }
    for (size_t i = 0; i < METRIC_HISTOGRAM_COUNT; i++) {
        print_histogram(to, metrics, i);
    }
}

char *metrics_text(const struct metrics *metrics, const char *version, size_t *size)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *to = open_memstream(&text, &bytes);
    if (to == NULL) {
        return NULL;
    }
    print_all(to, metrics, version);
    bool failed = ferror(to) != 0;
    if (fclose(to) != 0 || failed) {
        free(text);
        return NULL;
    }
    *size = bytes;
    return text;
}
