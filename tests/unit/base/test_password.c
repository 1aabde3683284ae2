/* Passwords at rest: against another program, and that nothing but the password fits. */
#include "base/password.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* python3: hashlib.pbkdf2_hmac("sha256", b"secret", bytes(range(16)), 1000).hex() */
#define SALT   "000102030405060708090a0b0c0d0e0f"
#define SECRET "pbkdf2-sha256$1000$" SALT "$4efb2bbb6d2eb58ea8deaed54417ae2fd87fd50a8a8568709363da60d4560606"

static void test_another_program_s_hash_fits(void **state)
{
    (void)state;
    struct password_hash hash;
    assert_true(password_hash_read(slice_of(SECRET), &hash));
    assert_int_equal(hash.rounds, 1000);
    assert_true(password_hash_fits(&hash, slice_of("secret")));
    assert_false(password_hash_fits(&hash, slice_of("Secret")));
    assert_false(password_hash_fits(&hash, slice_of("secret ")));
    assert_false(password_hash_fits(&hash, slice_of("")));
    char text[PASSWORD_HASH_TEXT_SIZE];
    password_hash_print(&hash, text);
    assert_string_equal(text, SECRET);
}

static void test_each_hash_has_a_salt_of_its_own(void **state)
{
    (void)state;
    struct password_hash one, other;
    assert_true(password_hash_make(slice_of("secret"), 1000, &one));
    assert_true(password_hash_make(slice_of("secret"), 1000, &other));
    assert_memory_not_equal(one.salt, other.salt, sizeof one.salt);
    assert_memory_not_equal(one.digest, other.digest, sizeof one.digest);
    assert_true(password_hash_fits(&one, slice_of("secret")));
}

/* A NUL or a byte beyond ASCII is part of a password like any other. */
static void test_any_bytes(void **state)
{
    (void)state;
    struct password_hash hash;
    assert_true(password_hash_make((struct slice){ "a\0b", 3 }, 1000, &hash));
    assert_true(password_hash_fits(&hash, (struct slice){ "a\0b", 3 }));
    assert_false(password_hash_fits(&hash, (struct slice){ "a\0c", 3 }));
    assert_false(password_hash_fits(&hash, slice_of("a")));
}

/* Else a slip in the file would be a user whom nobody can be, or one whom each guess is cheap of. */
static void test_what_is_no_hash(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "secret",
        "pbkdf2-sha256",
        "pbkdf2-sha256$1000$" SALT,
        "pbkdf2-sha256$999$" SALT "$4efb2bbb6d2eb58ea8deaed54417ae2fd87fd50a8a8568709363da60d4560606",
        "pbkdf2-sha256$2000001$" SALT "$4efb2bbb6d2eb58ea8deaed54417ae2fd87fd50a8a8568709363da60d4560606",
        "pbkdf2-sha256$99999999999999999999$" SALT "$4efb2bbb6d2eb58ea8deaed54417ae2fd87fd50a8a8568709363da60d4560606",
        "pbkdf2-sha256$$" SALT "$4efb2bbb6d2eb58ea8deaed54417ae2fd87fd50a8a8568709363da60d4560606",
        "pbkdf2-sha256$-1000$" SALT "$4efb2bbb6d2eb58ea8deaed54417ae2fd87fd50a8a8568709363da60d4560606",
        "pbkdf2-sha512$1000$" SALT "$4efb2bbb6d2eb58ea8deaed54417ae2fd87fd50a8a8568709363da60d4560606",
        "pbkdf2-sha256$1000$0001$4efb2bbb6d2eb58ea8deaed54417ae2fd87fd50a8a8568709363da60d4560606",
        SECRET "0",
        SECRET "$",
        " " SECRET,
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct password_hash hash;
        if (password_hash_read(slice_of(texts[i]), &hash)) {
            fail_msg("\"%s\" is read as a hash", texts[i]);
        }
    }
}

static void test_drawn_passwords(void **state)
{
    (void)state;
    char one[PASSWORD_DRAWN_SIZE], other[PASSWORD_DRAWN_SIZE];
    assert_true(password_draw(one) && password_draw(other));
    assert_int_equal(strlen(one), 22);
    assert_string_not_equal(one, other);
    assert_int_equal(strspn(one, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 22);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_another_program_s_hash_fits),
        cmocka_unit_test(test_each_hash_has_a_salt_of_its_own),
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_what_is_no_hash),
        cmocka_unit_test(test_drawn_passwords),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
