/* What a person sees of a rollout, at any width; and what a pipe gets.
 *
 * The hard thing: one column too many, and a terminal folds the line, so that the next block is drawn one row too low.
 */
#include "cli/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* 3 devices of 1000 bytes each, half of the bytes there. */
static struct progress progress_running(void)
{
    struct progress progress = { .type = "d1_mini",
                                 .version = "0.4.10",
                                 .state = "running",
                                 .members = 3,
                                 .seconds_left = -1,
                                 .bytes = 1500,
                                 .bytes_expected = 3000,
                                 .commands = 1,
                                 .acknowledged = 1,
                                 .elapsed_s = 12.5,
                                 .timeout_s = 300,
                                 .broker_state = "connected" };
    progress.devices[COUNT_CONFIRMED] = 1;
    progress.devices[COUNT_DOWNLOADING] = 1;
    progress.devices[COUNT_TRIGGERED] = 1;
    return progress;
}

static struct progress progress_waiting(void)
{
    struct progress progress = progress_running();
    memset(progress.devices, 0, sizeof progress.devices);
    progress.acknowledged = progress.bytes = 0;
    strcpy(progress.state, "planned");
    strcpy(progress.broker_state, "waiting");
    strcpy(progress.broker_error, "connection refused");
    return progress;
}

/* Such a rollout, watched for a while: 100 B/s. */
static const struct progress_pace quick = { .begun = true, .bytes = 1500, .bytes_expected = 3000, .per_s = 100 };

/* --- lines -------------------------------------------------------------------------------------------------------- */

static void assert_line(const struct progress *progress, const char *expected)
{
    char line[256];
    progress_line(progress, line, sizeof line);
    assert_string_equal(line, expected);
}

static void test_a_line_says_what_there_is(void **state)
{
    (void)state;
    struct progress progress = progress_running();
    assert_line(&progress, "d1_mini 0.4.10: 1 confirmed, 1 downloading, 1 triggered of 3");
    progress.devices[COUNT_FAILED] = 4; /* more came than were members */
    assert_line(&progress, "d1_mini 0.4.10: 1 confirmed, 1 downloading, 1 triggered, 4 failed of 7");
    progress.anonymous = 2;
    assert_line(&progress, "d1_mini 0.4.10: 1 confirmed, 1 downloading, 1 triggered, 4 failed of 7, 2 without a name");
    progress.anonymous = 0;
    memset(progress.devices, 0, sizeof progress.devices);
    assert_line(&progress, "d1_mini 0.4.10: no device came yet");
    strcpy(progress.state, "done");
    assert_line(&progress, "d1_mini 0.4.10: no device came");
}

/* Who runs it already is none of those that are to get it: else a rollout would never look complete. */
static void test_skipped_devices_are_beside_the_whole(void **state)
{
    (void)state;
    struct progress progress = progress_running();
    progress.members = 5;
    progress.devices[COUNT_SKIPPED] = 2;
    assert_int_equal(progress_devices(&progress), 3);
    assert_line(&progress, "d1_mini 0.4.10: 1 confirmed, 1 downloading, 1 triggered of 3, 2 skipped");
    memset(progress.devices, 0, sizeof progress.devices);
    progress.devices[COUNT_SKIPPED] = 5;
    assert_line(&progress, "d1_mini 0.4.10: 5 skipped");
}

/* Else nobody could tell from a log why only a few devices move, or none. */
static void test_a_line_names_the_stage(void **state)
{
    (void)state;
    static const struct {
        const char *state, *line;
    } cases[] = {
        { "planned", "d1_mini 0.4.10: planned: 1 confirmed of 3" },
        { "canary", "d1_mini 0.4.10: canaries 1/2: 1 confirmed of 3" },
        { "running", "d1_mini 0.4.10: 1 confirmed of 3" },
        { "paused", "d1_mini 0.4.10: paused: 1 confirmed of 3" },
        { "halted", "d1_mini 0.4.10: halted: 1 confirmed of 3" },
        { "aborted", "d1_mini 0.4.10: aborted: 1 confirmed of 3" },
        { "done", "d1_mini 0.4.10: 1 confirmed of 3" },
    };
    struct progress progress = progress_running();
    progress.canaries = 2;
    progress.canaries_confirmed = 1;
    memset(progress.devices, 0, sizeof progress.devices);
    progress.devices[COUNT_CONFIRMED] = 1;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        strcpy(progress.state, cases[i].state);
        assert_line(&progress, cases[i].line);
    }
}

/* Else an operator would look for the fault in devices that nobody ever told. */
static void test_devices_that_nobody_told_are_not_called_silent(void **state)
{
    (void)state;
    struct block block;
    struct progress progress = progress_waiting();
    progress.acknowledged = 0;
    progress.bytes = 0;
    strcpy(progress.state, "aborted");
    assert_line(&progress, "d1_mini 0.4.10: aborted: no device was told");
    progress.devices[COUNT_SILENT] = 2;
    progress.devices[COUNT_SKIPPED] = 1;
    assert_line(&progress, "d1_mini 0.4.10: aborted: 2 not told of 2, 1 skipped");
    progress_block(&progress, &quick, "", 100, false, &block);
    assert_non_null(strstr(block.lines[1], "failed 0  not told 2"));
    assert_null(strstr(block.lines[1], "silent"));
    progress.acknowledged = 1; /* some were: then silence is silence */
    assert_line(&progress, "d1_mini 0.4.10: aborted: 2 silent of 2, 1 skipped");
}

/* Else a log would get a line every half second while nothing happens. */
static void test_a_line_changes_only_with_an_event(void **state)
{
    (void)state;
    char before[256], after[256];
    struct progress running = progress_running(), waiting = progress_waiting();
    struct progress *both[] = { &running, &waiting };
    for (size_t i = 0; i < 2; i++) {
        progress_line(both[i], before, sizeof before);
        both[i]->elapsed_s += 7;
        both[i]->bytes += i == 0 ? 10 : 0; /* nobody comes while nobody is told */
        progress_line(both[i], after, sizeof after);
        assert_string_equal(before, after);
    }
}

static void test_the_brokers_trouble_is_said(void **state)
{
    (void)state;
    struct progress progress = progress_waiting();
    assert_line(&progress, "d1_mini 0.4.10: waiting for the broker (connection refused)");
    progress.broker_error[0] = '\0';
    strcpy(progress.state, "running"); /* its stage is the server's affair: nobody was told */
    assert_line(&progress, "d1_mini 0.4.10: waiting for the broker (waiting)");
    progress.bytes = 1; /* somebody came by himself */
    assert_line(&progress, "d1_mini 0.4.10: no device came yet");
    progress.bytes = 0;
    strcpy(progress.state, "planned");
    strcpy(progress.broker_state, "connected");
    progress.acknowledged = 0;
    assert_line(&progress, "d1_mini 0.4.10: planned: the broker has 0 of 1 commands");
    progress.commands = 0;
    assert_line(&progress, "d1_mini 0.4.10: planned: its devices are being looked through");
    strcpy(progress.broker_state, "off"); /* a server without a broker waits for none */
    assert_line(&progress, "d1_mini 0.4.10: planned: its devices are being looked through");
}

static void test_the_summary_counts_all(void **state)
{
    (void)state;
    char line[256];
    struct progress progress = progress_running();
    strcpy(progress.state, "done");
    progress_summary(&progress, line, sizeof line);
    assert_string_equal(line, "d1_mini 0.4.10: done in 12 s: 1 confirmed, 1 downloading, 1 triggered of 3 devices, "
                              "1.5 KiB");
    memset(progress.devices, 0, sizeof progress.devices);
    progress_summary(&progress, line, sizeof line);
    assert_string_equal(line, "d1_mini 0.4.10: done in 12 s: no device came, 1.5 KiB");
    progress_summary(&progress, line, 20); /* cut, and terminated */
    assert_string_equal(line, "d1_mini 0.4.10: don");
}

/* --- the bar and the rate ----------------------------------------------------------------------------------------- */

static void test_the_bar_stays_within_its_ends(void **state)
{
    (void)state;
    static const struct {
        double part;
        const char *bar;
    } cases[] = { { 0, "[----]" }, { 0.5, "[##--]" }, { 0.99, "[###-]" }, /* full means all of it */
                  { 1, "[####]" }, { 7, "[####]" },   { -1, "[----]" } };
    char bar[8];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        progress_bar(cases[i].part, 6, bar, sizeof bar);
        assert_string_equal(bar, cases[i].bar);
    }
}

/* One look at the server: so many bytes, while so many devices download. */
static void look(struct progress_pace *pace, uint64_t bytes, uint64_t downloading, double now_s)
{
    struct progress progress = { .state = "running", .bytes = bytes, .bytes_expected = 100000 };
    progress.devices[COUNT_DOWNLOADING] = downloading;
    progress.devices[COUNT_FLASHED] = 1;
    progress_pace_update(pace, &progress, now_s);
}

/* Else the figure flickers between 0 and twice the truth, as pieces arrive in bursts. */
static void test_the_rate_is_smooth_and_true(void **state)
{
    (void)state;
    struct progress_pace pace = { 0 };
    uint64_t bytes = 0;
    double least = 1e9, most = 0;
    for (int i = 0; i < 300; i++) { /* 60 s: 400 bytes every 0.4 s */
        bytes += i % 2 == 0 ? 0 : 400;
        look(&pace, bytes, 1, 100 + i * 0.2);
        if (i > 150) {
            least = pace.per_s < least ? pace.per_s : least;
            most = pace.per_s > most ? pace.per_s : most;
        }
    }
    assert_true(least > 800 && most < 1200);
    for (int i = 300; i < 450; i++) {
        look(&pace, bytes, 1, 100 + i * 0.2);
    }
    assert_true(pace.per_s < 10); /* a download that has stood still for 30 s */
}

/* Else the rate sinks to nothing, and the time left grows, while devices only restart. */
static void test_the_rate_stays_while_nobody_downloads(void **state)
{
    (void)state;
    struct progress_pace pace = { 0 };
    double now_s = 0;
    for (int i = 0; i < 100; i++) {
        look(&pace, (uint64_t)i * 200, 1, now_s += 0.2);
    }
    double before = pace.per_s;
    for (int i = 0; i < 100; i++) {
        look(&pace, 99 * 200, 0, now_s += 0.2);
    }
    assert_true(before > 900 && pace.per_s == before);
    look(&pace, 99 * 200, 1, now_s += 0.2); /* the next begins; how long it has been downloading nobody knows */
    assert_true(pace.per_s == before);
    look(&pace, 100 * 200, 1, now_s += 0.2);
    assert_true(pace.per_s > 900 && pace.per_s < 1100);
}

static void test_no_figure_goes_back(void **state)
{
    (void)state;
    struct progress_pace pace = { 0 };
    look(&pace, 50000, 1, 5);
    assert_true(pace.per_s == 0); /* the first sight is no speed: it may be a rollout of long ago */
    look(&pace, 60000, 1, 5);     /* no time has passed */
    assert_int_equal(pace.bytes, 50000);
    look(&pace, 20000, 1, 6); /* a transfer that ends is counted a moment later */
    assert_true(progress_part(&pace) == 0.5 && pace.per_s == 0);
    look(&pace, 50100, 1, 7);
    assert_true(pace.per_s > 49 && pace.per_s < 51); /* 100 in 2 s: not what came twice */
}

/* 100 % with a device that has nothing yet would be a lie: those that were cut have their bytes counted too. */
static void test_the_whole_is_the_whole_only_when_nobody_is_to_come(void **state)
{
    (void)state;
    struct progress_pace pace = { 0 };
    look(&pace, 120000, 1, 1);
    assert_true(progress_part(&pace) == 0.99);
    look(&pace, 120000, 0, 2);
    assert_true(progress_part(&pace) == 1);
    pace.bytes_expected = 0;
    assert_true(progress_part(&pace) == 0);
}

/* --- the block ---------------------------------------------------------------------------------------------------- */

/* Columns that text takes on a terminal: escape sequences take none. */
static size_t columns_of(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        if (*text == '\x1b') {
            text += strcspn(text, "m");
        } else {
            n++;
        }
    }
    return n;
}

static void test_no_line_reaches_the_last_column(void **state)
{
    (void)state;
    struct block block;
    struct progress all[] = { progress_running(), progress_waiting(), progress_running() };
    memset(all[2].type, 't', 64);
    memset(all[2].version, '9', 64);
    memset(all[2].broker_error, 'e', sizeof all[2].broker_error - 1);
    strcpy(all[2].state, "planned");
    strcpy(all[2].broker_state, "waiting");
    for (size_t i = 0; i < PROGRESS_COUNTS; i++) {
        all[2].devices[i] = UINT32_MAX;
    }
    all[2].window = all[2].in_flight = all[2].canaries = all[2].failures = UINT32_MAX;
    for (size_t width = 20; width < 600; width++) {
        for (size_t i = 0; i < 6; i++) {
            progress_block(&all[i % 3], &quick, "", width, i < 3, &block);
            for (size_t k = 0; k < block.count; k++) {
                assert_true(columns_of(block.lines[k]) < width);
                assert_int_equal(columns_of(block.lines[k]), block.columns[k]);
            }
        }
    }
}

static void test_a_block_shows_bar_figures_and_counts(void **state)
{
    (void)state;
    struct block block;
    struct progress progress = progress_running();
    progress_block(&progress, &quick, "", 80, false, &block);
    assert_int_equal(block.count, 2);
    assert_string_equal(block.lines[0],
                        "d1_mini 0.4.10 [######------]  50%      1/3 devices       100 B/s     0:15 left");
    assert_string_equal(block.lines[1], "triggered 1  downloading 1  flashed 0  confirmed 1  failed 0  silent 0");
    progress.devices[COUNT_FAILED] = 1;
    progress_block(&progress, &quick, "", 80, true, &block);
    assert_non_null(strstr(block.lines[1], "\x1b[31m  failed 1\x1b[0m"));
}

/* Else the bar would jump to and fro with each digit that comes and goes. */
static void test_bar_and_figures_keep_their_columns(void **state)
{
    (void)state;
    static const struct progress_pace paces[] = {
        { .bytes_expected = 3000 },
        { .bytes = 1, .bytes_expected = 3000000, .per_s = 1023.94 * 1024 },
        { .bytes = 3000, .bytes_expected = 3000, .per_s = 5, .is_whole = true },
        { .bytes = 10, .bytes_expected = 0, .per_s = 1e9 },
    };
    struct progress progress = progress_running();
    for (size_t width = 40; width < 200; width++) {
        size_t ends[4];
        for (size_t i = 0; i < 4; i++) {
            struct block block;
            progress.members = i == 1 ? 999 : 3;
            strcpy(progress.state, i == 2 ? "done" : "running");
            progress_block(&progress, &paces[i], "", width, false, &block);
            ends[i] = strcspn(block.lines[0], "]");
            assert_int_equal(ends[i], ends[0]);
            assert_true(ends[i] >= strlen("d1_mini 0.4.10 [########"));
            const char *devices = strstr(block.lines[0], " devices");
            assert_true(devices == NULL || devices == block.lines[0] + ends[0] + 1 + 5 + 17 - strlen(" devices"));
        }
    }
}

/* The part is what cannot be seen elsewhere: it goes last. */
static void test_a_narrow_terminal_keeps_the_bar(void **state)
{
    (void)state;
    struct block block;
    struct progress progress = progress_running();
    progress_block(&progress, &quick, "", 34, false, &block);
    assert_string_equal(block.lines[0], "d1_mini 0.4.10 [#####------]  50%");
    progress_block(&progress, &quick, "", 50, false, &block);
    assert_string_equal(block.lines[0], "d1_mini 0.4.10 [#####-----]  50%      1/3 devices");
}

/* Else a large fleet's failed and silent ones would be beyond the edge. */
static void test_counts_that_do_not_fit_leave_out_nothings(void **state)
{
    (void)state;
    struct block block;
    struct progress progress = progress_running();
    progress.devices[COUNT_SILENT] = 7;
    progress_block(&progress, &quick, "", 72, false, &block);
    assert_string_equal(block.lines[1], "triggered 1  downloading 1  flashed 0  confirmed 1  failed 0  silent 7");
    progress_block(&progress, &quick, "", 70, false, &block);
    assert_string_equal(block.lines[1], "triggered 1  downloading 1  confirmed 1  silent 7");
    memset(progress.devices, 0, sizeof progress.devices);
    progress_block(&progress, &quick, "", 40, false, &block);
    assert_string_equal(block.lines[1], "");
}

/* Else an operator would stare at a bar that stands still, and not know why. */
static void test_a_block_says_what_it_waits_for(void **state)
{
    (void)state;
    struct block block;
    struct progress progress = progress_waiting();
    progress_block(&progress, &quick, "", 80, false, &block);
    assert_int_equal(block.count, 3);
    assert_string_equal(block.lines[2], "waiting for the broker, 4:48 left: connection refused");
    progress_block(&progress, &quick, "trying for 30 s more", 80, false, &block);
    assert_string_equal(block.lines[2], "trying for 30 s more");
    strcpy(progress.broker_error, "it refuses us: grant this user the right to write updraft/#");
    progress_block(&progress, &quick, "", 40, true, &block); /* a remedy that is cut is none */
    assert_int_equal(block.count, 5);
    assert_string_equal(block.lines[2], "\x1b[31mwaiting for the broker, 4:48 left: it\x1b[0m");
    assert_string_equal(block.lines[3], "\x1b[31mrefuses us: grant this user the right\x1b[0m");
    assert_string_equal(block.lines[4], "\x1b[31mto write updraft/#\x1b[0m");
    progress.elapsed_s = 1000; /* over its time */
    progress_block(&progress, &quick, "", 80, false, &block);
    assert_non_null(strstr(block.lines[2], ", 0:00 left"));
}

/* Else an operator who wonders why so few go at once, or how near it is to halting, would have to ask elsewhere. */
static void test_a_block_says_what_paces_it(void **state)
{
    (void)state;
    struct block block;
    struct progress progress = progress_running();
    progress.window = 32;
    progress.in_flight = 17;
    progress_block(&progress, &quick, "", 80, false, &block);
    assert_int_equal(block.count, 3);
    assert_string_equal(block.lines[2], "window 17/32");
    progress.adaptive = true;
    progress.canaries = 5;
    progress.canaries_confirmed = 3;
    progress.failures = 2;
    progress.max_failures = 20;
    progress_block(&progress, &quick, "a note", 80, true, &block);
    assert_string_equal(block.lines[2],
                        "window 17/32 (adaptive)  canaries 3/5\x1b[31m  failures 2, halts above 20 %\x1b[0m");
    assert_string_equal(block.lines[3], "\x1b[31ma note\x1b[0m");
    strcpy(progress.state, "paused");
    strcpy(progress.id, "00112233aabbccdd");
    progress_block(&progress, &quick, "", 80, false, &block);
    assert_string_equal(block.lines[3],
                        "paused by an operator: \"updraft rollouts resume 00112233aabbccdd\" lets it go on");
    strcpy(progress.state, "done");
    progress_block(&progress, &quick, "", 80, false, &block);
    assert_int_equal(block.count, 2);
}

/* The server knows how long restarts take; bytes alone do not. But what is halted is not nearly done. */
static void test_the_servers_time_left_goes_first(void **state)
{
    (void)state;
    struct block block;
    struct progress progress = progress_running();
    progress.seconds_left = 95;
    progress_block(&progress, &quick, "", 80, false, &block);
    assert_non_null(strstr(block.lines[0], " 1:35 left"));
    strcpy(progress.state, "canary");
    progress_block(&progress, &quick, "", 80, false, &block);
    assert_non_null(strstr(block.lines[0], " 1:35 left"));
    strcpy(progress.state, "halted");
    progress_block(&progress, &quick, "", 80, false, &block);
    assert_null(strstr(block.lines[0], "1:35"));
}

/* Nobody knows how many devices will come: then there is no part of a whole, and no time left. */
static void test_nothing_expected_claims_nothing(void **state)
{
    (void)state;
    struct block block;
    struct progress progress = progress_running();
    struct progress_pace pace = { .begun = true, .bytes = 1500, .per_s = 100 };
    progress.members = 0;
    progress.bytes_expected = 0;
    progress_block(&progress, &pace, "", 100, false, &block);
    assert_null(strstr(block.lines[0], "%"));
    assert_null(strstr(block.lines[0], "left"));
    assert_non_null(strstr(block.lines[0], "1/3 devices"));
}

/* --- drawing ------------------------------------------------------------------------------------------------------ */

static void test_a_drawing_goes_back_over_the_last(void **state)
{
    (void)state;
    char bytes[LIVE_BYTES];
    struct block none = { 0 }, two = { 2, { "one", "two" }, { 3, 3 } }, one = { 1, { "1" }, { 1 } };
    live_compose(&none, &two, 80, bytes, sizeof bytes);
    assert_string_equal(bytes, "one\x1b[K\ntwo\x1b[K\n\x1b[J");
    live_compose(&two, &one, 80, bytes, sizeof bytes);
    assert_string_equal(bytes, "\r\x1b[2A1\x1b[K\n\x1b[J");
    live_compose(&one, &none, 80, bytes, sizeof bytes);
    assert_string_equal(bytes, "\r\x1b[1A\x1b[J");
}

/* Else a narrowed window would be left with pieces of old blocks. */
static void test_a_drawing_counts_folded_rows(void **state)
{
    (void)state;
    char bytes[LIVE_BYTES];
    struct block wide = { 3, { "", "", "" }, { 41, 40, 0 } }, one = { 1, { "1" }, { 1 } };
    live_compose(&wide, &one, 20, bytes, sizeof bytes);
    assert_string_equal(bytes, "\r\x1b[6A1\x1b[K\n\x1b[J");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_says_what_there_is),
        cmocka_unit_test(test_skipped_devices_are_beside_the_whole),
        cmocka_unit_test(test_a_line_names_the_stage),
        cmocka_unit_test(test_devices_that_nobody_told_are_not_called_silent),
        cmocka_unit_test(test_a_line_changes_only_with_an_event),
        cmocka_unit_test(test_the_brokers_trouble_is_said),
        cmocka_unit_test(test_the_summary_counts_all),
        cmocka_unit_test(test_the_bar_stays_within_its_ends),
        cmocka_unit_test(test_the_rate_is_smooth_and_true),
        cmocka_unit_test(test_the_rate_stays_while_nobody_downloads),
        cmocka_unit_test(test_no_figure_goes_back),
        cmocka_unit_test(test_the_whole_is_the_whole_only_when_nobody_is_to_come),
        cmocka_unit_test(test_no_line_reaches_the_last_column),
        cmocka_unit_test(test_a_block_shows_bar_figures_and_counts),
        cmocka_unit_test(test_bar_and_figures_keep_their_columns),
        cmocka_unit_test(test_a_narrow_terminal_keeps_the_bar),
        cmocka_unit_test(test_counts_that_do_not_fit_leave_out_nothings),
        cmocka_unit_test(test_a_block_says_what_it_waits_for),
        cmocka_unit_test(test_a_block_says_what_paces_it),
        cmocka_unit_test(test_the_servers_time_left_goes_first),
        cmocka_unit_test(test_nothing_expected_claims_nothing),
        cmocka_unit_test(test_a_drawing_goes_back_over_the_last),
        cmocka_unit_test(test_a_drawing_counts_folded_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
