/* The audit log's files: what is in them when a disk is full, when they are, and when somebody else was at them.
 *
 * Each test runs in an empty folder of its own. write is the test's: it takes as much as there is room for.
 */
#include "server/audit_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>

static char folder[] = "/tmp/test_audit_file.XXXXXX";
static struct audit_file file;
static size_t room = SIZE_MAX; /* on the disk */

ssize_t write(int descriptor, const void *bytes, size_t n)
{
    if (n > 0 && room == 0) {
        errno = ENOSPC;
        return -1;
    }
    n = n < room ? n : room;
    room -= room == SIZE_MAX ? 0 : n;
    return (ssize_t)syscall(SYS_write, descriptor, bytes, n);
}

static void open_file(void)
{
    char message[300] = "";
    if (audit_file_open(&file, "audit.log", message, sizeof message) != STATUS_OK) {
        fail_msg("%s", message);
    }
}

static int set_up(void **state)
{
    (void)state;
    room = SIZE_MAX;
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    if (mkdtemp(folder) == NULL || chdir(folder) != 0) {
        return -1;
    }
    open_file();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[100];
    audit_file_close(&file);
    snprintf(command, sizeof command, "rm -r %s", folder);
    return chdir("/") != 0 || system(command) != 0 ? -1 : 0;
}

static size_t line_of(unsigned number, char *line, size_t size)
{
    return (size_t)snprintf(line, size, "{\"time\":\"2026-11-21T07:%02u:%02u.000Z\",\"act\":\"a\",\"n\":%u}\n",
                            number / 60 % 60, number % 60, number);
}

static enum status append(unsigned number)
{
    char line[100];
    size_t written, n = line_of(number, line, sizeof line);
    enum status status = audit_file_append(&file, line, n, &written);
    assert_true(status != STATUS_OK || written == n);
    return status;
}

/* "3 2 1", and "…" where there are more. */
static void assert_page(const char *since, size_t offset, size_t limit, const char *wanted)
{
    char found[600] = "";
    size_t i, used = 0;
    const json_t *act;
    struct audit_page page = { since, offset, limit };
    json_t *json = audit_file_read(&file, &page);
    assert_non_null(json);
    json_array_foreach(json_object_get(json, "acts"), i, act)
    {
        used += (size_t)snprintf(found + used, sizeof found - used, "%s%d", i > 0 ? " " : "",
                                 (int)json_integer_value(json_object_get(act, "n")));
    }
    snprintf(found + used, sizeof found - used, "%s", json_is_true(json_object_get(json, "more")) ? "…" : "");
    json_decref(json);
    assert_string_equal(found, wanted);
}

static void test_the_newest_first_page_by_page(void **state)
{
    (void)state;
    assert_page("", 0, 10, "");
    for (unsigned i = 1; i <= 5; i++) {
        assert_int_equal(append(i), STATUS_OK);
    }
    assert_page("", 0, 10, "5 4 3 2 1");
    assert_page("", 0, 5, "5 4 3 2 1");
    assert_page("", 0, 2, "5 4…");
    assert_page("", 2, 2, "3 2…");
    assert_page("", 4, 2, "1");
    assert_page("", 0, 0, "…");
    assert_page("2026-11-21T07:00:04Z", 0, 10, "5");
    assert_page("2026-11-21T07:00:04", 0, 10, "5 4");
    struct stat stat_now;
    assert_int_equal(stat("audit.log", &stat_now), 0);
    assert_int_equal(stat_now.st_mode & 07777, 0600);
}

/* Else it grows until the disk is full; or the newest go instead of the oldest. */
static void test_full_files_are_kept_as_many_as_are_said(void **state)
{
    (void)state;
    char line[100];
    file.bytes_max = 3 * line_of(100, line, sizeof line);
    for (unsigned i = 100; i < 132; i++) {
        assert_int_equal(append(i), STATUS_OK);
    }
    assert_page("", 0, 4, "131 130 129 128…");
    assert_page("", 27, 10, "104 103"); /* ten files, of which the newest has two lines */
    assert_int_equal(access("audit.log.9", F_OK), 0);
    assert_int_equal(access("audit.log.10", F_OK), -1);
    audit_file_close(&file);
    open_file();
    assert_page("", 28, 10, "103");
}

/* More lines than a file takes come at once after an outage of the disk. */
static void test_many_lines_at_once_are_spread(void **state)
{
    (void)state;
    char lines[4000];
    size_t n = 0, written;
    for (unsigned i = 100; i < 120; i++) {
        n += line_of(i, lines + n, sizeof lines - n);
    }
    file.bytes_max = 200;
    assert_int_equal(audit_file_append(&file, lines, n, &written), STATUS_OK);
    assert_int_equal(written, n);
    assert_page("", 0, 3, "119 118 117…");
    struct stat stat_now;
    assert_int_equal(stat("audit.log.1", &stat_now), 0);
    assert_in_range(stat_now.st_size, 1, 200);
}

/* Else the line that was cut takes the next one with it, or is there twice. */
static void test_a_line_that_was_cut_is_gone_on_with(void **state)
{
    (void)state;
    char line[100];
    size_t n = line_of(7, line, sizeof line), written;
    assert_int_equal(append(6), STATUS_OK);
    room = 20;
    assert_int_equal(audit_file_append(&file, line, n, &written), STATUS_DISK_FULL);
    assert_int_equal(written, 20);
    assert_page("", 0, 10, "6");
    file.bytes_max = 10; /* no new file within a line */
    room = SIZE_MAX;
    assert_int_equal(audit_file_append(&file, line + 20, n - 20, &written), STATUS_OK);
    assert_page("", 0, 10, "7 6");
    assert_int_equal(append(8), STATUS_OK);
    assert_page("", 0, 10, "8 7 6");
    assert_int_equal(access("audit.log.1", F_OK), 0);
}

static void test_what_a_crash_cut_spoils_nothing_behind_it(void **state)
{
    (void)state;
    assert_int_equal(append(1), STATUS_OK);
    assert_int_equal(write(file.descriptor, "{\"time\":\"20", 11), 11);
    audit_file_close(&file);
    open_file();
    assert_int_equal(append(2), STATUS_OK);
    assert_int_equal(write(file.descriptor, "garbage\n\n{}\n[1]\n{\"time\":5,\"act\":\"a\"}\n", 36), 36);
    assert_page("", 0, 10, "2 1");
}

/* Else the first line of a server that starts on a full disk is a part of the half one before, and neither is read. */
static void test_what_a_crash_cut_is_ended_when_there_is_room(void **state)
{
    (void)state;
    assert_int_equal(append(1), STATUS_OK);
    assert_int_equal(write(file.descriptor, "{\"time\":\"20", 11), 11);
    audit_file_close(&file);
    room = 0;
    open_file();
    assert_int_equal(append(2), STATUS_DISK_FULL);
    room = SIZE_MAX;
    assert_int_equal(append(3), STATUS_OK);
    assert_int_equal(append(4), STATUS_OK);
    assert_page("", 0, 10, "4 3 1");
}

static void test_a_file_that_is_taken_away_is_made_again(void **state)
{
    (void)state;
    assert_int_equal(append(1), STATUS_OK);
    assert_int_equal(rename("audit.log", "taken"), 0);
    assert_int_equal(append(2), STATUS_OK); /* as logrotate has it: into the one that it moved */
    assert_int_equal(unlink("taken"), 0);
    assert_int_equal(append(3), STATUS_OK);
    assert_page("", 0, 10, "3");
    assert_int_equal(truncate("audit.log", 0), 0);
    assert_int_equal(append(4), STATUS_OK);
    assert_page("", 0, 10, "4");
}

/* Else what somebody put there is followed to a file of somebody else's, or a pipe stops the thread for ever. */
static void test_what_is_no_file_is_refused(void **state)
{
    (void)state;
    struct audit_file other;
    char message[300] = "";
    assert_int_equal(symlink("audit.log", "link"), 0);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    assert_int_equal(mkdir("folder", 0700), 0);
    static const char *const names[] = { "link", "pipe", "folder", "not/there" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_not_equal(audit_file_open(&other, names[i], message, sizeof message), STATUS_OK);
        assert_non_null(strstr(message, names[i]));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_the_newest_first_page_by_page),
        TEST(test_full_files_are_kept_as_many_as_are_said),
        TEST(test_many_lines_at_once_are_spread),
        TEST(test_a_line_that_was_cut_is_gone_on_with),
        TEST(test_what_a_crash_cut_spoils_nothing_behind_it),
        TEST(test_what_a_crash_cut_is_ended_when_there_is_room),
        TEST(test_a_file_that_is_taken_away_is_made_again),
        TEST(test_what_is_no_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
