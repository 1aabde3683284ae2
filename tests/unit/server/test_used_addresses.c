/* Where check-ins arrive, counted: the fleet's own network must show, whoever else comes, and a new one in time. */
#include "server/used_addresses.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct used_addresses used;

static struct sockaddr_storage address(uint32_t host)
{
    struct sockaddr_storage storage;
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(8080), .sin_addr = { htonl(host) } };
    memset(&storage, 0, sizeof storage);
    memcpy(&storage, &in, sizeof in);
    return storage;
}

static void come(uint32_t host, unsigned times)
{
    struct sockaddr_storage storage = address(host);
    while (times-- > 0) {
        used_addresses_count(&used, &storage);
    }
}

static uint64_t checks(uint32_t host)
{
    struct sockaddr_storage storage = address(host);
    uint64_t sum = 0;
    for (size_t i = 0; i < USED_ADDRESSES_MAX; i++) {
        bool is_it = memcmp(&used.list[i].address, &storage, sizeof storage) == 0;
        sum += is_it ? used.list[i].checks : 0;
    }
    return sum;
}

static int empty(void **state)
{
    (void)state;
    memset(&used, 0, sizeof used);
    return 0;
}

static void test_each_is_counted(void **state)
{
    (void)state;
    come(1, 3);
    come(2, 2);
    come(1, 1);
    assert_int_equal(checks(1), 4);
    assert_int_equal(checks(2), 2);
}

/* Else a machine that has moved tells devices for years where it was. */
static void test_a_new_network_wins_in_time(void **state)
{
    (void)state;
    come(1, 1000000);
    assert_true(checks(1) < USED_ADDRESSES_SUM_MAX);
    come(2, USED_ADDRESSES_SUM_MAX);
    assert_true(checks(2) > checks(1));
    come(2, 20 * USED_ADDRESSES_SUM_MAX);
    assert_int_equal(checks(1), 0);
}

/* Else a flood of addresses overruns the list, or keeps the fleet's own out of it for good. */
static void test_more_than_there_is_room_for(void **state)
{
    (void)state;
    for (uint32_t host = 1; host <= 3 * USED_ADDRESSES_MAX; host++) {
        come(host, 1);
    }
    assert_int_equal(checks(USED_ADDRESSES_MAX), 1);
    assert_int_equal(checks(USED_ADDRESSES_MAX + 1), 0);
    come(1, USED_ADDRESSES_SUM_MAX);
    come(99, 1);
    assert_int_equal(checks(99), 1);
    come(1, 10); /* whose place is the first, behind which others have become free */
    come(99, 1);
    assert_int_equal(checks(99), 2);
}

/* Else two entries of one address share its check-ins, and neither shows. */
static void test_a_place_before_it_becomes_free(void **state)
{
    (void)state;
    come(1, 1);
    come(2, USED_ADDRESSES_SUM_MAX - 1);
    assert_int_equal(checks(1), 0);
    uint64_t before = checks(2);
    come(2, 1);
    assert_int_equal(checks(2), before + 1);
    assert_int_equal(used.list[0].checks, 0);
}

static bool at_8443(struct stream *stream, struct sockaddr_storage *to)
{
    (void)stream;
    *to = address(1);
    ((struct sockaddr_in *)to)->sin_port = htons(8443);
    return true;
}

/* Else devices that cannot TLS are sent to its port, by http://. */
static void test_the_port_of_tls(void **state)
{
    (void)state;
    static const struct stream_ops ops = { .local = at_8443 };
    struct stream stream = { .ops = &ops, .over_tls = true };
    static const struct {
        bool over_tls, plain_counts;
        uint16_t port;
    } rows[] = { { true, true, 0 }, { true, false, 8443 }, { false, true, 8443 } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        used = (struct used_addresses){ .plain_counts = rows[i].plain_counts };
        stream.over_tls = rows[i].over_tls;
        used_addresses_hear(&used, &stream, 1000);
        assert_int_equal(used.list[0].checks, 1);
        assert_int_equal(ntohs(((struct sockaddr_in *)&used.list[0].address)->sin_port), rows[i].port);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_each_is_counted, empty),
        cmocka_unit_test_setup(test_a_new_network_wins_in_time, empty),
        cmocka_unit_test_setup(test_more_than_there_is_room_for, empty),
        cmocka_unit_test_setup(test_a_place_before_it_becomes_free, empty),
        cmocka_unit_test_setup(test_the_port_of_tls, empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
