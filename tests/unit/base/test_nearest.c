/* Did you mean: a suggestion that is far off is worse than none. */
#include "base/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
    const char *wanted;
    const char *nearest; /* of "listen", "mqtt", "mqtt-user" and "status"; NULL = none */
} rows[] = {
    { "listen", "listen" },
    { "lisen", "listen" },
    { "listenn", "listen" },
    { "lixtem", "listen" },
    { "lstn", "listen" },
    { "lxxtxn", NULL },
    { "mqt", "mqtt" },
    { "mq", "mqtt" },
    { "m", NULL },
    { "mqtt-u", "mqtt-user" },
    { "stats", "status" },
    { "frobnicate", NULL },
    { "", NULL },
    { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL },
};

static void test_the_nearest_name(void **state)
{
    (void)state;
    static const char *const names[] = { "listen", "mqtt", "mqtt-user", "status" };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct nearest nearest = { .wanted = rows[i].wanted };
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            nearest_try(&nearest, names[k]);
        }
        if (rows[i].nearest == NULL) {
            assert_null(nearest.name);
        } else {
            assert_non_null(nearest.name);
            assert_string_equal(nearest.name, rows[i].nearest);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_the_nearest_name) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
