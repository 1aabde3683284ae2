/* Images that a device is not offered again: when it is held, when it is free again, and what is forgotten first. */
#include "fleet/never_again.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define NOW 1000000000u

static struct mac device(unsigned i)
{
    return (struct mac){ { 0x5c, 0xcf, 0x7f, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i } };
}

static const uint8_t *image(uint8_t i)
{
    static uint8_t md5s[8][16];
    md5s[i % 8][0] = i;
    return md5s[i % 8];
}

static void fail_with(struct never_again *never_again, unsigned i, uint8_t of, bool rolled_back)
{
    struct mac mac = device(i);
    never_again_failed(never_again, &mac, image(of), rolled_back, NOW);
}

static bool holds(const struct never_again *never_again, unsigned i, uint8_t of)
{
    struct mac mac = device(i);
    return never_again_holds(never_again, &mac, image(of)) != NULL;
}

/* Else a device is flashed with what it cannot run, again and again; or gives up after one flicker of the mains. */
static void test_twice_or_rolled_back(void **state)
{
    (void)state;
    struct never_again *never_again = never_again_new(10);
    fail_with(never_again, 1, 1, false);
    assert_false(holds(never_again, 1, 1));
    fail_with(never_again, 1, 1, false);
    assert_true(holds(never_again, 1, 1));
    assert_false(holds(never_again, 1, 2)); /* a new build is another image */
    assert_false(holds(never_again, 2, 1));
    fail_with(never_again, 2, 1, true);
    assert_true(holds(never_again, 2, 1));
    fail_with(never_again, 2, 1, false); /* once rolled back, always */
    struct mac mac = device(2);
    assert_true(never_again_holds(never_again, &mac, image(1))->rolled_back);
    never_again_free(never_again);
}

/* Else a device that runs it is refused it; or one word frees another's. */
static void test_free_again(void **state)
{
    (void)state;
    struct never_again *never_again = never_again_new(10);
    struct mac one = device(1), two = device(2);
    for (unsigned i = 1; i <= 2; i++) {
        fail_with(never_again, i, 1, true);
        fail_with(never_again, i, 2, true);
        fail_with(never_again, i, 3, false);
    }
    never_again_confirmed(never_again, &one, image(1));
    assert_false(holds(never_again, 1, 1));
    assert_true(holds(never_again, 1, 2));
    never_again_confirmed(never_again, &one, image(4)); /* never failed */
    assert_int_equal(never_again_find(never_again, &one)->count, 2);
    assert_int_equal(never_again_forget(never_again, &two), 3);
    assert_false(holds(never_again, 2, 2));
    assert_int_equal(never_again_forget(never_again, &two), 0);
    never_again_confirmed(never_again, &one, image(2));
    never_again_confirmed(never_again, &one, image(3));
    assert_null(never_again_find(never_again, &one));
    assert_int_equal(never_again_count(never_again), 0);
    never_again_free(never_again);
}

/* Else it grows with each build, or forgets the newest. */
static void test_bounds(void **state)
{
    (void)state;
    struct never_again *never_again = never_again_new(3);
    for (uint8_t i = 1; i <= NEVER_AGAIN_OF_DEVICE + 1; i++) {
        fail_with(never_again, 1, i, true);
    }
    assert_false(holds(never_again, 1, 1));
    assert_true(holds(never_again, 1, 2) && holds(never_again, 1, NEVER_AGAIN_OF_DEVICE + 1));
    fail_with(never_again, 2, 1, true);
    fail_with(never_again, 3, 1, true);
    fail_with(never_again, 1, 2, true); /* the first is the youngest again */
    fail_with(never_again, 4, 1, true);
    assert_int_equal(never_again_count(never_again), 3);
    assert_true(holds(never_again, 1, 2) && holds(never_again, 3, 1) && holds(never_again, 4, 1));
    assert_false(holds(never_again, 2, 1));
    never_again_free(never_again);
}

/* Else the count of failures runs over, and the device is free again. */
static void test_many_failures(void **state)
{
    (void)state;
    struct never_again *never_again = never_again_new(3);
    for (unsigned i = 0; i < 300; i++) {
        fail_with(never_again, 1, 1, false);
    }
    assert_true(holds(never_again, 1, 1));
    never_again_free(never_again);
}

/* Else a restart frees them all, or a torn row writes past its end. */
static void test_restore(void **state)
{
    (void)state;
    struct never_again *before = never_again_new(3), *after = never_again_new(3);
    struct mac mac = device(1);
    fail_with(before, 1, 1, true);
    fail_with(before, 1, 2, false);
    struct never_again_entry row = *never_again_find(before, &mac);
    never_again_restore(after, &row);
    assert_true(holds(after, 1, 1));
    assert_false(holds(after, 1, 2));
    fail_with(after, 1, 2, false);
    assert_true(holds(after, 1, 2));
    struct never_again_entry torn = { .mac = device(2), .count = NEVER_AGAIN_OF_DEVICE + 1 };
    never_again_restore(after, &torn);
    torn.count = 0;
    never_again_restore(after, &torn);
    assert_int_equal(never_again_count(after), 1);
    never_again_free(before);
    never_again_free(after);
    never_again_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_twice_or_rolled_back), cmocka_unit_test(test_free_again), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_many_failures),        cmocka_unit_test(test_restore),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
