/* The audit log as acts come: that none is lost while the disk works, however many come at once.
 *
 * Each test runs in an empty folder of its own.
 */
#include "server/audit.h"
#include "tests/support/captured_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/test_audit.XXXXXX";
static uv_loop_t loop;
static struct audit *audit;

static int set_up(void **state)
{
    (void)state;
    char message[300];
    log_configure(LOG_ERROR, LOG_LOGFMT);
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    return mkdtemp(folder) == NULL || chdir(folder) != 0 || uv_loop_init(&loop) != 0 ||
           audit_open("audit.log", &loop, &audit, message, sizeof message) != STATUS_OK;
}

static int tear_down(void **state)
{
    (void)state;
    char command[100];
    audit_close(audit);
    snprintf(command, sizeof command, "rm -r %s", folder);
    return uv_loop_close(&loop) != 0 || chdir("/") != 0 || system(command) != 0 ? -1 : 0;
}

static size_t lines_of(const char *name)
{
    FILE *file = fopen(name, "r");
    size_t lines = 0;
    for (int c = 0; file != NULL && (c = fgetc(file)) != EOF;) {
        lines += c == '\n';
    }
    if (file != NULL) {
        fclose(file);
    }
    return lines;
}

/* Else who orders much in a moment hides one order among it: what waits for the disk has less room than what comes. */
static void test_a_crowd_of_acts_is_written_whole(void **state)
{
    (void)state;
    struct audit_act act = { .token = "ci", .role = ROLE_OPERATE, .from = "192.0.2.7", .act = "device-change" };
    memset(act.order, 'x', sizeof act.order - 1);
    for (unsigned i = 0; i < AUDIT_QUEUE; i++) {
        act.status = 200;
        audit_add(audit, &act);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(audit_lost(audit), 0);
    assert_null(audit_trouble(audit));
    assert_int_equal(lines_of("audit.log") + lines_of("audit.log.1"), AUDIT_QUEUE);
}

/* Beyond what waits for a disk that hangs acts are lost to the file, and that is said. */
static void test_what_is_lost_is_said(void **state)
{
    (void)state;
    struct audit_act act = { .token = "ci", .from = "192.0.2.7", .act = "device-change", .status = 200 };
    for (unsigned i = 0; i < 1 + AUDIT_QUEUE + 3; i++) { /* one is being written, three are too many */
        audit_add(audit, &act);
    }
    capture_log(LOG_ERROR);
    audit_tick(audit);
    audit_tick(audit);
    const char *said = captured_log();
    assert_int_equal(count(said, "event=audit_lost file=audit.log lines=3 "), 1);
    assert_int_equal(count(said, "audit_lost"), 1);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(audit_lost(audit), 3);
    assert_int_equal(lines_of("audit.log"), 1 + AUDIT_QUEUE);
}

/* How many refusals had no line stands in the next, however much an operator has to say in it. */
static void test_what_was_left_out_is_said_before_what_may_be_cut(void **state)
{
    (void)state;
    struct audit_act act = { .token = "ci", .from = "192.0.2.7", .act = "device-change", .status = 200, .unsaid = 20 };
    memset(act.object, '\n', sizeof act.object - 1); /* four bytes each */
    memset(act.order, '"', sizeof act.order - 1);
    capture_log(LOG_INFO);
    audit_add(audit, &act);
    act.unsaid = 0;
    audit_add(audit, &act);
    const char *said = captured_log();
    assert_int_equal(count(said, "event=operator_act"), 2);
    assert_int_equal(count(said, " cut=1\n"), 2);
    assert_int_equal(count(said, " unsaid=20 "), 1);
    assert_int_equal(count(said, "unsaid="), 1);
    uv_run(&loop, UV_RUN_DEFAULT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_crowd_of_acts_is_written_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_lost_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_left_out_is_said_before_what_may_be_cut, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
