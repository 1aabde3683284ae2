#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define NAME_SIZE 108

static void test_a_path_that_fits_is_its_own_name(void **state)
{
    char name[NAME_SIZE], longest[NAME_SIZE];
    (void)state;
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_true(file_socket_name(longest, name, sizeof name));
    assert_string_equal(name, longest);
}

/* The name must lead to the same place: bound by one, reached by the path. */
static void test_a_longer_path_goes_by_its_folder(void **state)
{
    char root[] = "/tmp/test_file_XXXXXX", path[512], folder[400];
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct stat found;
    (void)state;
    assert_non_null(mkdtemp(root));
    snprintf(folder, sizeof folder, "%s/%0150d", root, 7);
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(path, sizeof path, "%s/admin.sock", folder);
    assert_true(file_socket_name(path, address.sun_path, sizeof address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(stat(path, &found), 0);
    assert_true(S_ISSOCK(found.st_mode));
    close(fd);
    assert_int_equal(unlink(path) | rmdir(folder) | rmdir(root), 0);
}

static void test_what_cannot_be_named(void **state)
{
    char name[NAME_SIZE], path[512];
    (void)state;
    snprintf(path, sizeof path, "/nowhere/%0120d/s", 7);
    assert_false(file_socket_name(path, name, sizeof name)); /* no such folder */
    snprintf(path, sizeof path, "/tmp/%0108d", 7);
    assert_false(file_socket_name(path, name, sizeof name)); /* the name alone is too long */
    snprintf(path, sizeof path, "%0108d", 7);
    assert_false(file_socket_name(path, name, sizeof name)); /* without a folder */
}

static void test_syncing_a_folder(void **state)
{
    (void)state;
    assert_int_equal(file_sync_folder("/tmp/anything"), STATUS_OK);
    assert_int_equal(file_sync_folder("anything"), STATUS_OK); /* where we stand */
    assert_int_equal(file_sync_folder("/nowhere/anything"), STATUS_NOT_FOUND);
}

static void test_a_file_is_read_whole_or_not(void **state)
{
    char root[] = "/tmp/test_file_XXXXXX", path[64], *bytes = NULL;
    size_t n = 7;
    (void)state;
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof path, "%s/a", root);
    assert_int_equal(file_read(path, 100, &bytes, &n), STATUS_NOT_FOUND);
    assert_int_equal(file_read(root, 100, &bytes, &n), STATUS_INVALID);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(file_read(path, 100, &bytes, &n), STATUS_INVALID); /* at once, without a writer */
    assert_int_equal(unlink(path), 0);
    FILE *file = fopen(path, "w");
    assert_true(file != NULL && fputs("four", file) >= 0 && fclose(file) == 0);
    assert_int_equal(file_read(path, 3, &bytes, &n), STATUS_TOO_LONG);
    assert_true(bytes == NULL && n == 7); /* untouched */
    assert_int_equal(file_read(path, 4, &bytes, &n), STATUS_OK);
    assert_int_equal(n, 4);
    assert_string_equal(bytes, "four");
    file_forget(bytes, n);
    file_forget(NULL, 0);
    assert_int_equal(unlink(path) | rmdir(root), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_is_read_whole_or_not),
        cmocka_unit_test(test_a_path_that_fits_is_its_own_name),
        cmocka_unit_test(test_a_longer_path_goes_by_its_folder),
        cmocka_unit_test(test_what_cannot_be_named),
        cmocka_unit_test(test_syncing_a_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
