/* The Authorization header, as clients send it and as they should not. */
#include "proto/basic_auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static enum basic_auth_result read_one(const char *value, struct basic_auth *auth)
{
    struct header headers[] = { { slice_of("Host"), slice_of("u") }, { slice_of("authorization"), slice_of(value) } };
    return basic_auth_read(headers, 2, auth);
}

static void test_credentials(void **state)
{
    (void)state;
    static const struct {
        const char *value, *user, *password;
    } rows[] = {
        { "Basic Z2FyZGVuOnNlY3JldA==", "garden", "secret" },
        { "Basic Z2FyZGVuOnNlY3JldA", "garden", "secret" }, /* padding says nothing */
        { "basic \t Z2FyZGVuOnNlY3JldA==", "garden", "secret" },
        { "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin", "open sesame" }, /* RFC 7617 */
        { "Basic dGVzdDoxMjPCow==", "test", "123\xc2\xa3" },                /* the same, in UTF-8 */
        { "Basic YTpiOmM=", "a", "b:c" },
        { "Basic YTo=", "a", "" },
        { "Basic Og==", "", "" },
        { "Basic Oj8/Pz4+Pn5+fg==", "", "\?\?\?>>>~~~" },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct basic_auth auth;
        assert_int_equal(read_one(rows[i].value, &auth), BASIC_AUTH_GIVEN);
        assert_true(slice_is(basic_auth_user(&auth), rows[i].user));
        assert_true(slice_is(basic_auth_password(&auth), rows[i].password));
    }
}

static void test_what_cannot_be_read(void **state)
{
    (void)state;
    static const char *const values[] = {
        "",
        "Basic",
        "Basic ",
        "Basic =",
        "Basic ====",
        "Z2FyZGVuOnNlY3JldA==",
        "Bearer a",
        "Basic garden",
        "Basic Z2FyZGVu",
        "Basic Z2Fy ZG",
        "Basic Z2FyZGVuOnN=ZZ",
        "Basic YTpi\nOmM=",
        "BasicYTo=",
        "Basic YTo_",
        "Basic YTo=, Basic YTo=",
        "Digest username=\"a\"",
        "Basic YTpiA===",
    };
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        struct basic_auth auth;
        if (read_one(values[i], &auth) != BASIC_AUTH_UNREADABLE) {
            fail_msg("\"%s\" is read", values[i]);
        }
    }
}

static void test_none_and_two(void **state)
{
    (void)state;
    struct basic_auth auth;
    struct header headers[] = { { slice_of("Authorization"), slice_of("Basic YTpi") },
                                { slice_of("AUTHORIZATION"), slice_of("Basic YTpi") } };
    assert_int_equal(basic_auth_read(headers, 0, &auth), BASIC_AUTH_NONE);
    assert_int_equal(basic_auth_read(headers, 1, &auth), BASIC_AUTH_GIVEN);
    assert_int_equal(basic_auth_read(headers, 2, &auth), BASIC_AUTH_UNREADABLE);
}

/* Base64 of user_bytes times 'a', a colon, password_bytes times 'a'. */
static enum basic_auth_result read_long(size_t user_bytes, size_t password_bytes, struct basic_auth *auth)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char plain[2000], value[3000] = "Basic ";
    size_t n = user_bytes + 1 + password_bytes, at = strlen(value);
    memset(plain, 'a', sizeof plain);
    plain[user_bytes] = ':';
    for (size_t bit = 0; bit < 8 * n; bit += 6) {
        unsigned six = 0;
        for (size_t i = bit; i < bit + 6; i++) {
            six = six << 1 | (i < 8 * n ? (unsigned)(unsigned char)plain[i / 8] >> (7 - i % 8) & 1 : 0);
        }
        value[at++] = letters[six];
    }
    value[at] = '\0';
    return read_one(value, auth);
}

static void test_the_longest(void **state)
{
    (void)state;
    struct basic_auth auth;
    assert_int_equal(read_long(BASIC_AUTH_USER_MAX, BASIC_AUTH_PASSWORD_MAX, &auth), BASIC_AUTH_GIVEN);
    assert_int_equal(auth.used, BASIC_AUTH_BYTES_MAX);
    assert_int_equal(read_long(BASIC_AUTH_USER_MAX + 1, 1, &auth), BASIC_AUTH_TOO_LONG);
    assert_int_equal(read_long(1, BASIC_AUTH_PASSWORD_MAX + 1, &auth), BASIC_AUTH_TOO_LONG);
    for (size_t n = BASIC_AUTH_BYTES_MAX - 3; n < BASIC_AUTH_BYTES_MAX + 6; n++) {
        assert_int_equal(read_long(0, n, &auth), BASIC_AUTH_TOO_LONG);
    }
    assert_int_equal(read_long(0, 1900, &auth), BASIC_AUTH_TOO_LONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_credentials),
        cmocka_unit_test(test_what_cannot_be_read),
        cmocka_unit_test(test_none_and_two),
        cmocka_unit_test(test_the_longest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
