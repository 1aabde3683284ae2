/* The file of device-passwords: who is let in where, and that what cannot be read opens nothing. */
#include "server/device_users.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define HASH   "pbkdf2-sha256$1000$000102030405060708090a0b0c0d0e0f$" DIGEST
#define HASH2  "pbkdf2-sha256$5000$000102030405060708090a0b0c0d0e0f$" DIGEST
#define DIGEST "00000000000000000000000000000000000000000000000000000000000000ff"

static char folder[] = "/tmp/test_device_users.XXXXXX";

static int set_up(void **state)
{
    (void)state;
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    return mkdtemp(folder) == NULL || chdir(folder) != 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink("users");
    return chdir("/") != 0 || rmdir(folder) != 0 ? -1 : 0;
}

static enum status load(const char *text, const struct device_users *before, struct device_users **users,
                        char message[1000])
{
    FILE *file = fopen("users", "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return device_users_load("users", before, users, message, 1000);
}

static struct device_users *load_good(const char *text, const struct device_users *before)
{
    char message[1000] = "";
    struct device_users *users = NULL;
    if (load(text, before, &users, message) != STATUS_OK) {
        fail_msg("%s", message);
    }
    return users;
}

static void test_users_by_type(void **state)
{
    (void)state;
    struct device_users *users = load_good("# site\n\nroof:" HASH2 ":esp32,d1_mini\r\n  garden:" HASH ":d1_mini", NULL);
    assert_int_equal(device_users_count(users), 2);
    assert_int_equal(device_users_rounds_max(users), 5000);
    assert_true(device_users_cover(users, slice_of("d1_mini")));
    assert_true(device_users_cover(users, slice_of("esp32")));
    assert_false(device_users_cover(users, slice_of("esp3")));
    assert_false(device_users_cover(users, slice_of("esp32,d1_mini")));
    assert_false(device_users_cover(users, slice_of("")));
    const struct device_user *garden = device_users_find(users, slice_of("garden"));
    assert_non_null(garden);
    assert_true(device_user_is_for(garden, slice_of("d1_mini")));
    assert_false(device_user_is_for(garden, slice_of("esp32")));
    assert_false(device_user_is_for(garden, slice_of("")));
    const struct device_user *roof = device_users_find(users, slice_of("roof"));
    assert_true(device_user_is_for(roof, slice_of("d1_mini")) && device_user_is_for(roof, slice_of("esp32")));
    assert_null(device_users_find(users, slice_of("Garden")));
    assert_null(device_users_find(users, slice_of("")));
    assert_null(device_users_find(users, (struct slice){ "garden\0x", 8 }));
    device_users_free(users);
}

static void test_a_user_of_all_types_closes_all(void **state)
{
    (void)state;
    struct device_users *users = load_good("garden:" HASH ":d1_mini\nall:" HASH "\n", NULL);
    assert_true(device_users_cover(users, slice_of("whatever")));
    assert_true(device_users_cover(users, slice_of("")));
    assert_true(device_user_is_for(device_users_find(users, slice_of("all")), slice_of("whatever")));
    assert_false(device_user_is_for(device_users_find(users, slice_of("garden")), slice_of("whatever")));
    device_users_free(users);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {
        { "", "no user is in it" },
        { "#garden:" HASH "\n", "no user is in it" },
        { "a:" HASH "\ngarden\n", "users:2: " },
        { "a:" HASH "\n\n:" HASH "\n", "users:3: " },
        { "a:" HASH ":\n", "users:1: " },
        { "a:" HASH ":x:y\n", "users:1: " },
        { "a:" HASH ":x,\n", "users:1: " },
        { "a:" HASH ":.x\n", "users:1: " },
        { "a:" HASH ":x y\n", "users:1: " },
        { "a:" HASH " :x\n", "users:1: " },
        { "a :" HASH "\n", "users:1: " },
        { "\xc3\xa4:" HASH "\n", "users:1: " },
        { "b:" HASH "\na:" HASH "\nb:" HASH "\n", "users:3: the line has a name that line 1 has" },
        { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:" HASH "\n", "users:1: " },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char message[1000] = "";
        struct device_users *users = NULL;
        assert_int_not_equal(load(rows[i].text, NULL, &users, message), STATUS_OK);
        assert_null(users);
        if (strstr(message, rows[i].says) == NULL || strstr(message, DIGEST) != NULL) {
            fail_msg("\"%s\" of \"%s\"", message, rows[i].text);
        }
    }
}

static void test_what_is_no_file(void **state)
{
    (void)state;
    char message[1000];
    struct device_users *users = NULL;
    assert_int_equal(device_users_load("missing", NULL, &users, message, sizeof message), STATUS_NOT_FOUND);
    assert_int_equal(device_users_load(".", NULL, &users, message, sizeof message), STATUS_INVALID);
    assert_int_equal(mkfifo("users", 0600), 0); /* must not be waited for */
    assert_int_equal(device_users_load("users", NULL, &users, message, sizeof message), STATUS_INVALID);
    assert_null(users);
}

/* What was proven stays so while name and hash are the same, and not a moment longer. */
static void test_what_is_taken_over(void **state)
{
    (void)state;
    struct device_users *before = load_good("a:" HASH "\nb:" HASH "\nc:" HASH "\n", NULL);
    for (const char *name = "abc"; *name != '\0'; name++) {
        struct device_user *user = device_users_find(before, (struct slice){ name, 1 });
        assert_false(user->is_proven);
        user->is_proven = true;
        memset(user->proven, *name, sizeof user->proven);
    }
    struct device_users *users = load_good("d:" HASH "\nc:" HASH2 "\na:" HASH ":x\n", before);
    const struct device_user *a = device_users_find(users, slice_of("a"));
    assert_true(a->is_proven && a->proven[0] == 'a');
    assert_false(device_users_find(users, slice_of("c"))->is_proven);
    assert_false(device_users_find(users, slice_of("d"))->is_proven);
    device_users_free(before);
    device_users_free(users);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_users_by_type, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_user_of_all_types_closes_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_no_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_taken_over, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
