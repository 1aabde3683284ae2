/* What the system says of its addresses. What is inside a container is for a test that makes one
 * (tests/integration/test_networks.py). */
#include "server/machine_address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* Else nothing at all is learned of the machine. */
static void test_the_machine_is_asked(void **state)
{
    (void)state;
    static struct machine_address addresses[256];
    bool in_container = false;
    size_t count = machine_addresses(addresses, COUNT_OF(addresses), &in_container);
    size_t loopbacks = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(addresses[i].interface[0] != '\0');
        assert_true(addresses[i].address.ss_family == AF_INET || addresses[i].address.ss_family == AF_INET6);
        loopbacks += addresses[i].loopback;
        assert_false(addresses[i].loopback && addresses[i].container_internal);
    }
    if (count > 0) { /* a namespace whose loopback is down has none */
        assert_true(loopbacks > 0);
        assert_int_equal(machine_addresses(addresses, 1, &in_container), 1);
    }
    assert_int_equal(machine_addresses(addresses, 0, &in_container), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_machine_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
