/* The growing buffer: bytes come out as they went in, and no input makes it larger than it may be. */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Else an idle connection would cost memory. */
static void test_empty_takes_no_memory(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 1000);
    assert_true(buf_add(&buf, NULL, 0));
    assert_null(buf.bytes);
    assert_true(buf_add(&buf, "abc", 3));
    buf_consume(&buf, 3);
    assert_null(buf.bytes); /* and gives it back */
    assert_int_equal(buf.used, 0);
    assert_true(buf_add(&buf, "d", 1)); /* and can be used again */
    buf_consume(&buf, 0);
    assert_int_equal(buf.used, 1);
    buf_close(&buf);
    assert_null(buf.bytes);
}

/* Else a head that arrives in pieces would be another one. */
static void test_bytes_keep_their_order(void **state)
{
    (void)state;
    struct buf buf;
    uint8_t next_in = 0, next_out = 0;
    buf_init(&buf, 5000);
    for (size_t round = 0; round < 200; round++) {
        uint8_t piece[97];
        size_t n = round % sizeof piece + 1;
        for (size_t i = 0; i < n; i++) {
            piece[i] = next_in++;
        }
        assert_true(buf_add(&buf, piece, n));
        size_t out = buf.used / 2;
        for (size_t i = 0; i < out; i++) {
            assert_int_equal((uint8_t)buf.bytes[i], next_out++);
        }
        buf_consume(&buf, out);
    }
    assert_true(buf.used > 0);
    buf_close(&buf);
}

/* Else a client decides how much memory is taken. */
static void test_limit(void **state)
{
    (void)state;
    struct buf buf;
    char bytes[700];
    memset(bytes, 'x', sizeof bytes);
    buf_init(&buf, 1000);
    assert_true(buf_add(&buf, bytes, 700));
    assert_false(buf_add(&buf, bytes, 301));
    assert_int_equal(buf.used, 700); /* all or nothing */
    assert_true(buf_add(&buf, bytes, 300));
    assert_int_equal(buf.used, 1000);
    assert_true(buf.size <= 1000);
    assert_false(buf_add(&buf, bytes, 1));
    assert_false(buf_add(&buf, bytes, SIZE_MAX)); /* used + n would wrap round */
    buf_close(&buf);
    assert_true(buf_add(&buf, bytes, 700)); /* the limit outlives a close */
    assert_false(buf_add(&buf, bytes, 301));
    buf_close(&buf);
}

static void test_limit_below_the_first_step(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 3);
    assert_true(buf_add(&buf, "abc", 3));
    assert_true(buf.size <= 3);
    assert_false(buf_add(&buf, "d", 1));
    buf_close(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_takes_no_memory),
        cmocka_unit_test(test_bytes_keep_their_order),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_limit_below_the_first_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
