/* What went wrong on disk, in words. What could fail unseen: a sentence that lacks its thing, its reason or its remedy,
 * or that is cut because a name in it is long.
 */
#include "repo/place_parts.h"

#include "tests/unit/repo/repo_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct place_site site = { .root = "/srv/fw", .path = "door/1.0.bin", .verb = "written" };

/* The same number is another thing at another place. */
static void test_by_step(void **state)
{
    (void)state;
    static const struct {
        enum place_step step;
        int error;
        const char *message;
    } rows[] = {
        { PLACE_AT_ROOT, ENOENT, "door/1.0.bin cannot be written: the repository /srv/fw is not there" },
        { PLACE_AT_FOLDER, ENOENT, "door/1.0.bin cannot be written: folder door is a link to nowhere" },
        { PLACE_AT_FILE, ENOENT, "door/1.0.bin cannot be written: it was taken away meanwhile" },
        { PLACE_AT_ROOT, ENOSPC, "door/1.0.bin cannot be written: the repository /srv/fw is on a disk that is full" },
        { PLACE_AT_FILE, ENOSPC, "door/1.0.bin cannot be written: folder door is on a disk that is full" },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct place_outcome outcome = { .result = PLACE_DONE };
        place_fail(&outcome, &site, rows[i].step, rows[i].error);
        assert_string_equal(outcome.message, rows[i].message);
        assert_int_equal(outcome.result, PLACE_FAILED);
        assert_int_equal(outcome.status, status_from_errno(rows[i].error));
    }
    struct place_site top = { .root = "/srv/fw", .path = "LABEL.bin", .verb = "removed" };
    struct place_outcome outcome = { .result = PLACE_DONE };
    place_fail(&outcome, &top, PLACE_AT_FILE, EROFS);
    assert_string_equal(outcome.message, "LABEL.bin cannot be removed: the repository /srv/fw is mounted read-only");
}

/* Whatever the system says, somewhere: also what no row knows. */
static void test_every_error(void **state)
{
    (void)state;
    for (int error = 1; error < 134; error++) {
        for (enum place_step step = PLACE_AT_ROOT; step <= PLACE_AT_FILE; step++) {
            struct place_outcome outcome = { .result = PLACE_DONE };
            place_fail(&outcome, &site, step, error);
            assert_int_equal(outcome.result, PLACE_FAILED);
            assert_int_not_equal(outcome.status, STATUS_OK);
            assert_non_null(strstr(outcome.message, "door/1.0.bin cannot be written: "));
            assert_true(strlen(outcome.message) > strlen("door/1.0.bin cannot be written: it is "));
            assert_true(strlen(outcome.remedy) > 10 && strlen(outcome.remedy) < sizeof outcome.remedy - 1);
        }
    }
    struct place_outcome outcome = { .result = PLACE_DONE };
    place_fail(&outcome, &site, PLACE_AT_FILE, ENOTTY);
    assert_non_null(strstr(outcome.message, strerror(ENOTTY)));
}

/* The longest path that an upload can have leaves room for the reason. */
static void test_long_names(void **state)
{
    (void)state;
    char path[PLACE_PATH_MAX];
    memset(path, 't', sizeof path);
    path[64] = '/';
    path[sizeof path - 1] = '\0';
    struct place_site wide = { .root = "/srv/fw", .path = path, .verb = "written" };
    struct place_outcome outcome = { .result = PLACE_DONE };
    place_fail(&outcome, &wide, PLACE_AT_FOLDER, EXDEV);
    assert_non_null(strstr(outcome.message, "is a link that may lead out of the repository"));
    assert_true(strlen(outcome.message) < sizeof outcome.message - 1);
}

static void test_in_the_way(void **state)
{
    (void)state;
    static const struct {
        mode_t mode;
        const char *text;
    } rows[] = {
        { S_IFDIR | 0755, "a folder lies under that name" },
        { S_IFIFO | 0600, "a FIFO lies" },
        { S_IFSOCK | 0600, "a socket lies" },
        { S_IFCHR | 0600, "a character device lies" },
        { S_IFBLK | 0600, "a block device lies" },
        { 0600, "something that is no file lies" },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct place_outcome outcome = { .result = PLACE_DONE };
        place_fail_in_the_way(&outcome, &site, rows[i].mode);
        assert_int_equal(outcome.result, PLACE_FAILED);
        assert_non_null(strstr(outcome.message, rows[i].text));
        assert_non_null(strstr(outcome.remedy, "by hand"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_step),
        cmocka_unit_test(test_every_error),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_in_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
