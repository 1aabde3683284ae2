/* What a device type may be called: what is taken here becomes a folder, a topic and a part of a line. */
#include "proto/type.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define TEXT_64         "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz01"

static void test_type_is_valid(void **state)
{
    (void)state;
    static const char *const valid[] = { "d1_mini", "ESP32-C3", "a.b", "-", "_", TEXT_64 };
    static const char *const invalid[] = { "", ".", ".a", "a b", "a/b", "a\xc3\xa4", "a%", "a\\", TEXT_64 "2" };
    for (size_t i = 0; i < COUNT_OF(valid); i++) {
        assert_true(type_is_valid(slice_of(valid[i])));
    }
    for (size_t i = 0; i < COUNT_OF(invalid); i++) {
        assert_false(type_is_valid(slice_of(invalid[i])));
    }
    assert_false(type_is_valid((struct slice){ NULL, 0 }));
    assert_false(type_is_valid((struct slice){ "a\0b", 3 }));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_type_is_valid) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
