/* A rollout of very many devices, on a loop that others wait for: no fact, and no tick, looks at all of them. */
#include "fleet/rollout_parts.h"
#include "tests/unit/fleet/rollout_fixture.h"

#include <time.h>

static double cpu_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Without rollout_check, which looks at all by itself. */
static void asks_in_vain(struct world *world, int device)
{
    struct rollout_fact fact = fact_of(device);
    rollouts_checked_in(world->rollouts, &fact, &world->now);
}

/* All wait behind one site's slot, while devices of the fleet come and ask. Looking at each canary at each of these
 * took a minute. */
static void test_canaries_of_a_full_site(void **state)
{
    (void)state;
    enum { CANARIES = 10000, FACTS = 100000 };
    struct world *world = world_new();
    world->order.in_flight = 100;
    world->order.site_in_flight = 1;
    world->order.canary = CANARIES;
    begin_as(world, ROLLOUT_ID);
    for (int i = 0; i < CANARIES; i++) {
        join_at(world, i, 7);
    }
    start(world);
    assert_int_equal(world->told_count, 1);
    double began_s = cpu_s();
    for (int i = 0; i < FACTS; i++) {
        asks_in_vain(world, 1 + i % (CANARIES - 1));
    }
    assert_true(cpu_s() - began_s < 1.5);
    assert_int_equal(world->told_count, 1);
    world_free(world);
}

/* The slot that comes free is the next canary's, in turn with those of other sites. */
static void test_canaries_of_two_sites_take_turns(void **state)
{
    (void)state;
    static const int told[] = { 0, 2, 1, 3 };
    struct world *world = world_new();
    world->order.in_flight = 1;
    world->order.canary = 4;
    begin_as(world, ROLLOUT_ID);
    for (int i = 0; i < 4; i++) {
        join_at(world, i, (uint64_t)(i / 2));
    }
    start(world);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(last_told(world)->device, told[i]);
        broker_says(world, told[i], true);
        takes_it(world, told[i]);
        runs_it(world, told[i]);
    }
    assert_int_equal(world->rollout->canaries_confirmed, 4);
    world_free(world);
}

/* Those that are perhaps not there share their site's uplink, too, when one command tells all. */
static void test_one_command_does_not_pass_a_sites_cap(void **state)
{
    (void)state;
    for (int of_site = 1; of_site <= 2; of_site++) {
        struct world *world = world_new();
        world->order.in_flight = 10;
        world->order.site_in_flight = 1;
        begin_as(world, ROLLOUT_ID);
        for (int i = 0; i < of_site; i++) {
            struct rollout_joiner joiner = { .mac = mac_of(i), .site = 7, .stale = true };
            rollout_join(world->rollout, &joiner, &world->now);
        }
        rollout_start(world->rollout, true, true, &world->now);
        assert_int_equal(world->told_count, 1);
        assert_int_equal(world->told[0].device, of_site == 1 ? TO_THE_TYPE : 0);
        world_free(world);
    }
}

static void test_who_cannot_be_told_falls_silent_in_pieces(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    struct world *world = world_new();
    begin(world, COUNT);
    rollout_start(world->rollout, false, false, &world->now);
    pass(world, (uint64_t)8 * 86400 * 1000);
    size_t silent = world->rollout->devices[ROLLOUT_DEVICE_SILENT];
    assert_true(silent > 0 && silent < COUNT / 2);
    for (int i = 0; i < 3; i++) {
        pass(world, 1000);
    }
    assert_int_equal(world->rollout->devices[ROLLOUT_DEVICE_SILENT], COUNT);
    world_free(world);
}

/* Each takes the place of the one before, whose members are let go: else memory grows with each order, as long as they
 * come faster than ticks. */
static void test_members_of_many_orders_are_let_go(void **state)
{
    (void)state;
    struct world *world = world_new();
    for (unsigned i = 1; i <= 200; i++) {
        char id[ANNOUNCE_ID_SIZE];
        snprintf(id, sizeof id, "%016x", i);
        begin_as(world, id);
        for (int device = 0; device < 40; device++) {
            join_at(world, device, (uint64_t)device);
        }
        assert_true(world->rollouts->waste_blocks <= 4);
    }
    pass(world, 1000);
    assert_null(world->rollouts->waste);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canaries_of_a_full_site),
        cmocka_unit_test(test_canaries_of_two_sites_take_turns),
        cmocka_unit_test(test_one_command_does_not_pass_a_sites_cap),
        cmocka_unit_test(test_who_cannot_be_told_falls_silent_in_pieces),
        cmocka_unit_test(test_members_of_many_orders_are_let_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
