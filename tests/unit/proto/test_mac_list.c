/* How MACs begin: what is taken for a prefix, and who is meant by it. */
#include "proto/mac_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static const struct {
    const char *prefix;
    bool meant; /* 5c:cf:7f:b1:e0:42 */
} prefixes[] = {
    { "5c", true },
    { "5CCF7F", true },
    { "5c:cf:7f", true },
    { "5c-cf-7f-b1-e0", true },
    { "5C:CF:7F:B1:E0:42", true },
    { "5ccf.7fb1.e042", true },
    { "5c:cf:7e", false },
    { "cf:7f", false },
    { "5c:cf:7f:b1:e0:43", false },
};

static void test_who_is_meant(void **state)
{
    (void)state;
    struct mac mac;
    assert_true(mac_parse(slice_of("5ccf7fb1e042"), &mac));
    for (size_t i = 0; i < COUNT_OF(prefixes); i++) {
        struct mac_list list = { .count = 2 };
        assert_true(mac_prefix_read(slice_of("24:0a:c4"), &list.prefixes[0]));
        if (!mac_prefix_read(slice_of(prefixes[i].prefix), &list.prefixes[1])) {
            fail_msg("%s is a prefix", prefixes[i].prefix);
        }
        if (mac_list_has(&list, &mac) != prefixes[i].meant) {
            fail_msg("%s", prefixes[i].prefix);
        }
    }
}

static void test_an_empty_list_means_nobody(void **state)
{
    (void)state;
    struct mac_list list = { .count = 0 };
    struct mac mac = { { 0 } };
    assert_false(mac_list_has(&list, &mac));
}

static const char *const refused[] = {
    "",
    "5",                    /* half a byte */
    "5c:",                  /* and then? */
    "5c:cf:7",              /* half a byte */
    ":5c",                  /* before the first */
    "5c:cf-7f",             /* two kinds of separator */
    "5ccf:7f",              /* the first is the odd one */
    "5c.cf",                /* dots, but for a whole MAC */
    "5c::cf",               /* nothing between */
    "*",                    /* no pattern */
    "5c:cf:7f:00:00:0g",    /* no digit */
    "5c:cf:7f:00:00:00:00", /* too long */
    "00:00:00:00:00:00",    /* nobody */
    "ff:ff:ff:ff:ff:ff",    /* everybody */
    " 5c",
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct mac_prefix prefix = { .count = 42 };
        if (mac_prefix_read(slice_of(refused[i]), &prefix)) {
            fail_msg("\"%s\" is no prefix", refused[i]);
        }
        assert_int_equal(prefix.count, 42);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_meant),
        cmocka_unit_test(test_an_empty_list_means_nobody),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
