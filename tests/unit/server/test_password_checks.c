/* Passwords worked out one at a time: what is remembered, what waits, and that a failure takes as long for everyone.
 *
 * The digest is the test's: it counts rounds instead of working them, and finds right what the test says.
 */
#include "server/password_checks.h"

#include "server/attempts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>

#define SALT_OF(n)   "0" #n "000000000000000000000000000000"
#define ZEROS        "0000000000000000000000000000000000000000000000000000000000000000"
#define USERS        "quick:pbkdf2-sha256$1000$" SALT_OF(1) "$" ZEROS "\nslow:pbkdf2-sha256$500000$" SALT_OF(2) "$" ZEROS "\n"
#define ROUNDS_QUICK 1000
#define ROUNDS_MOST  500000

static char folder[] = "/tmp/test_password_checks.XXXXXX";
static uv_loop_t loop;
static struct password_checks *checks;
static unsigned long rounds; /* worked since they were last asked for; looked at only when no thread works */
static unsigned under_way, under_way_most;

/* In the place of OpenSSL's. The password "right" has a digest of zeros, every other one not. */
int PKCS5_PBKDF2_HMAC(const char *password, int password_bytes, const unsigned char *salt, int salt_bytes, int count,
                      const EVP_MD *digest, int digest_bytes, unsigned char *to)
{
    (void)salt;
    (void)salt_bytes;
    (void)digest;
    bool right = password_bytes == 5 && memcmp(password, "right", 5) == 0;
    under_way_most = ++under_way > under_way_most ? under_way : under_way_most;
    rounds += (unsigned long)count;
    memset(to, right ? 0 : 1, (size_t)digest_bytes);
    under_way--;
    return 1;
}

static void use(const char *text)
{
    char message[1000];
    struct device_users *users = NULL;
    FILE *file = fopen("users", "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(device_users_load("users", password_checks_users(checks), &users, message, sizeof message),
                     STATUS_OK);
    password_checks_use(checks, users);
}

static int set_up(void **state)
{
    (void)state;
    rounds = 0;
    under_way_most = 0;
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    if (mkdtemp(folder) == NULL || chdir(folder) != 0 || uv_loop_init(&loop) != 0) {
        return -1;
    }
    checks = password_checks_new(&loop);
    use(USERS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    uv_run(&loop, UV_RUN_DEFAULT);
    password_checks_free(checks);
    unlink("users");
    return uv_loop_close(&loop) != 0 || chdir("/") != 0 || rmdir(folder) != 0 ? -1 : 0;
}

static enum password_result ask_from(uint8_t host, const char *user, const char *password)
{
    struct basic_auth auth;
    const struct device_user *found = NULL;
    const char *why = NULL;
    struct http_later *later = NULL; /* of no connection: it is as if that had gone */
    struct client_address who = { .bytes = { [10] = 0xff, [11] = 0xff, [12] = 10, [15] = host } };
    memset(&auth, 0, sizeof auth);
    auth.used = (size_t)snprintf(auth.bytes, sizeof auth.bytes, "%s:%s", user, password);
    auth.user_bytes = strlen(user);
    enum password_result result = password_checks_ask(checks, &auth, &who, &found, &why, &later);
    assert_int_equal(result == PASSWORD_RIGHT, found != NULL);
    assert_int_equal(result == PASSWORD_LATER, later != NULL);
    assert_int_equal(result == PASSWORD_NOT_NOW, why != NULL);
    return result;
}

static enum password_result ask(const char *user, const char *password)
{
    return ask_from(1, user, password);
}

/* Until nothing waits any more. Returns the rounds that it took. */
static unsigned long work(void)
{
    uv_run(&loop, UV_RUN_DEFAULT);
    unsigned long worked = rounds;
    rounds = 0;
    assert_int_equal(password_checks_counts(checks).waiting, 0);
    assert_int_equal(password_checks_counts(checks).under_way, 0);
    return worked;
}

static void test_what_is_known_is_not_worked_out(void **state)
{
    (void)state;
    assert_int_equal(ask("quick", "right"), PASSWORD_LATER);
    assert_int_equal(work(), ROUNDS_QUICK);
    assert_int_equal(ask("quick", "right"), PASSWORD_RIGHT);
    assert_int_equal(ask("quick", "wrong"), PASSWORD_LATER);
    work();
    assert_int_equal(ask("quick", "wrong"), PASSWORD_WRONG);
    assert_int_equal(ask("quick", "right"), PASSWORD_RIGHT);
    assert_int_equal(password_checks_counts(checks).worked_out, 2);
}

/* Else whoever has a watch finds out which users there are. */
static void test_failing_takes_as_long_for_every_name(void **state)
{
    (void)state;
    static const char *const users[] = { "quick", "slow", "nobody", "" };
    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
        assert_int_equal(ask(users[i], "wrong"), PASSWORD_LATER);
        assert_int_equal(work(), ROUNDS_MOST);
        assert_int_equal(ask(users[i], "wrong"), PASSWORD_WRONG);
    }
    assert_int_equal(ask("nobody", "right"), PASSWORD_LATER);
    assert_int_equal(work(), ROUNDS_MOST);
    assert_int_equal(ask("nobody", "right"), PASSWORD_WRONG);
}

static void test_a_crowd_with_one_password_is_one_job(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PASSWORD_WAITERS_MAX; i++) {
        assert_int_equal(ask("quick", "right"), PASSWORD_LATER);
    }
    assert_int_equal(ask("quick", "right"), PASSWORD_NOT_NOW);
    assert_int_equal(password_checks_counts(checks).waiting, PASSWORD_WAITERS_MAX);
    assert_int_equal(work(), ROUNDS_QUICK);
}

static void test_few_wait_and_one_is_worked_out(void **state)
{
    (void)state;
    char password[20];
    unsigned later = 0;
    assert_int_equal(ask("quick", "right"), PASSWORD_LATER);
    work();
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(password, sizeof password, "guess%u", i);
        enum password_result result = ask_from((uint8_t)(i / 8), "quick", password);
        assert_true(result == PASSWORD_LATER || result == PASSWORD_NOT_NOW);
        later += result == PASSWORD_LATER;
        assert_int_equal(ask("quick", "right"), PASSWORD_RIGHT); /* whatever others do */
    }
    assert_int_equal(later, PASSWORD_JOBS_MAX);
    assert_int_equal(work(), PASSWORD_JOBS_MAX * (unsigned long)ROUNDS_MOST);
    assert_int_equal(under_way_most, 1);
}

static void test_an_address_has_so_many_failures(void **state)
{
    (void)state;
    char password[20];
    for (unsigned i = 0; i < attempts_of_devices.at_once; i++) {
        snprintf(password, sizeof password, "guess%u", i);
        assert_int_equal(ask("quick", password), PASSWORD_LATER);
        work();
    }
    assert_int_equal(ask("quick", "another"), PASSWORD_NOT_NOW);
    assert_int_equal(ask("quick", "guess0"), PASSWORD_WRONG); /* as before: that costs nothing */
    assert_int_equal(ask_from(2, "quick", "right"), PASSWORD_LATER);
    work();
    assert_int_equal(ask("quick", "right"), PASSWORD_RIGHT);
}

/* A site where each device has a password of its own comes back after a restart. */
static void test_right_ones_do_not_count(void **state)
{
    (void)state;
    char text[100 * 200], user[20];
    size_t used = 0;
    for (unsigned i = 0; i < 100; i++) {
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "u%u:pbkdf2-sha256$1000$" SALT_OF(1) "$" ZEROS "\n", i);
    }
    use(text);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(user, sizeof user, "u%u", i);
        assert_int_equal(ask(user, "right"), PASSWORD_LATER);
        work();
        assert_int_equal(ask(user, "right"), PASSWORD_RIGHT);
    }
}

/* What was found out for the users before says nothing of those there are now. */
static void test_other_users_while_one_is_worked_out(void **state)
{
    (void)state;
    assert_int_equal(ask("quick", "wrong"), PASSWORD_LATER);
    assert_int_equal(ask("slow", "right"), PASSWORD_LATER);
    use("slow:pbkdf2-sha256$1000$" SALT_OF(3) "$" ZEROS "\n");
    work();
    assert_int_equal(ask("slow", "right"), PASSWORD_LATER);
    assert_int_equal(ask("quick", "wrong"), PASSWORD_LATER);
    password_checks_use(checks, NULL);
    work();
}

static void test_the_end(void **state)
{
    (void)state;
    assert_int_equal(ask("quick", "a"), PASSWORD_LATER);
    assert_int_equal(ask("quick", "b"), PASSWORD_LATER);
    assert_int_equal(ask("quick", "c"), PASSWORD_LATER);
    password_checks_stop(checks);
    assert_int_equal(password_checks_counts(checks).waiting, 1);
    assert_int_equal(ask("quick", "right"), PASSWORD_NOT_NOW);
    assert_int_equal(work(), ROUNDS_MOST); /* of the one that had begun */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_known_is_not_worked_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failing_takes_as_long_for_every_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_crowd_with_one_password_is_one_job, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_few_wait_and_one_is_worked_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_address_has_so_many_failures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_right_ones_do_not_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_users_while_one_is_worked_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_end, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
