/* MAC addresses: every accepted form gives the same bytes, and nothing else is taken for an address. */
#include "proto/mac.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static const char *const forms[] = {
    "5CCF7FB1E042",      "5ccf7fb1e042",      "5C:CF:7F:B1:E0:42", "5c:cf:7f:b1:e0:42",
    "5C-CF-7F-B1-E0-42", "5c.cf.7f.b1.e0.42", "5ccf.7fb1.e042",    "5cCf.7Fb1.e042",
};

/* Else the same device would be two in the fleet, depending on who wrote its address. */
static void test_forms_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        struct mac mac;
        char text[MAC_TEXT_SIZE];
        if (!mac_parse(slice_of(forms[i]), &mac)) {
            fail_msg("\"%s\" is an address", forms[i]);
        }
        mac_print(&mac, text);
        assert_string_equal(text, "5ccf7fb1e042");
    }
}

static const char *const refused[] = {
    "",
    "5ccf7fb1e04",        /* eleven digits */
    "5ccf7fb1e0420",      /* thirteen */
    "5ccf7fb1e04g",       /* no digit */
    "0x5ccf7fb1e0",       /* a prefix */
    "5C:CF:7F:B1:E0-42",  /* two kinds of separator */
    "5C-CF:7F:B1:E0:42",  /* the first is the odd one */
    "5C CF 7F B1 E0 42",  /* blanks */
    "5C::CF7F:B1:E0:42",  /* a digit's place */
    "5C:CF:7F:B1:E0:4",   /* too short */
    "5C:CF:7F:B1:E0:42:", /* too long */
    " 5C:CF:7F:B1:E0:42", /* a blank in front */
    "5ccf:7fb1:e042",     /* groups of four take dots */
    "5ccf-7fb1-e042",
    "5ccf.7fb1e.042",
    "000000000000", /* nobody */
    "00:00:00:00:00:00",
    "ff:ff:ff:ff:ff:ff", /* everybody */
    "01:00:5e:00:00:fb", /* a group */
    "5dcf7fb1e042",
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct mac mac = { { 1, 2, 3, 4, 5, 6 } };
        struct mac before = mac;
        if (mac_parse(slice_of(refused[i]), &mac)) {
            fail_msg("\"%s\" is no address", refused[i]);
        }
        assert_true(mac_equal(&mac, &before));
    }
    assert_false(mac_parse((struct slice){ NULL, 0 }, &(struct mac){ { 0 } }));
    assert_false(mac_parse((struct slice){ "5ccf7fb1\0"
                                           "042",
                                           12 },
                           &(struct mac){ { 0 } }));
}

/* The AP address of an ESP8266 has the local bit set: it is a device's address like any other. */
static void test_local_addresses_count(void **state)
{
    (void)state;
    struct mac mac;
    assert_true(mac_parse(slice_of("5E:CF:7F:B1:E0:42"), &mac));
}

static void test_equality_sees_every_byte(void **state)
{
    (void)state;
    const struct mac mac = { { 0x5c, 0xcf, 0x7f, 0xb1, 0xe0, 0x42 } };
    for (size_t i = 0; i < sizeof mac.bytes; i++) {
        struct mac other = mac;
        assert_true(mac_equal(&mac, &other));
        other.bytes[i] ^= 2;
        assert_false(mac_equal(&mac, &other));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms_agree),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_local_addresses_count),
        cmocka_unit_test(test_equality_sees_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
