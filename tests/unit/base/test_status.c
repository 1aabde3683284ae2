/* Failures: every one has a name and a text of its own, and an errno becomes the one that tells what to do. */
#include "base/status.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static const enum status all[] = {
#define X(name, text) STATUS_##name,
    STATUS_LIST(X)
#undef X
};

/* Else two failures could not be told apart in a message. */
static void test_names_and_texts_are_unique(void **state)
{
    (void)state;
    assert_string_equal(status_name(STATUS_NOT_FOUND), "NOT_FOUND");
    assert_string_equal(status_text(STATUS_NOT_FOUND), "not found");
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        assert_true(status_name(all[i])[0] != '\0' && status_text(all[i])[0] != '\0');
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(status_name(all[i]), status_name(all[k]));
            assert_string_not_equal(status_text(all[i]), status_text(all[k]));
        }
    }
}

/* Else a message about a broken status would itself crash. */
static void test_foreign_values_have_a_text(void **state)
{
    (void)state;
    assert_non_null(status_name((enum status)COUNT_OF(all)));
    assert_non_null(status_text((enum status)COUNT_OF(all)));
    assert_non_null(status_text((enum status) - 1));
}

static const struct {
    int error;
    enum status status;
} errors[] = {
    { 0, STATUS_OK },
    { ENOENT, STATUS_NOT_FOUND },
    { ENOTDIR, STATUS_NOT_FOUND }, /* a parent is a file: the name is not there */
    { EACCES, STATUS_DENIED },
    { EROFS, STATUS_DENIED },
    { EADDRINUSE, STATUS_BUSY },
    { EMFILE, STATUS_LIMIT },
    { ENOMEM, STATUS_NO_MEMORY },
    { ENAMETOOLONG, STATUS_TOO_LONG },
    { EINVAL, STATUS_INVALID },
    { EIO, STATUS_IO },
    { ENOSPC, STATUS_DISK_FULL },
    { -1, STATUS_IO }, /* what nobody knows is still a failure */
};

/* Else "no such file", which is fine for many files, could not be told from "may not be read", which never is. */
static void test_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        if (status_from_errno(errors[i].error) != errors[i].status) {
            fail_msg("errno %d became %s", errors[i].error, status_name(status_from_errno(errors[i].error)));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_texts_are_unique),
        cmocka_unit_test(test_foreign_values_have_a_text),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
