/* Work in slices: all of it is done, in order, and the loop has its turns in between.
 */
#include "server/turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define STEP_NS 20000

static struct world {
    uv_loop_t loop;
    struct turns turns;
    char done[16]; /* names of jobs, in the order of their end */
    size_t done_count;
} world;

struct work {
    struct turn_job job;
    char name;
    unsigned steps; /* left */
    unsigned slices;
    struct work *adds; /* at its end */
};

static void start(void)
{
    world = (struct world){ .done_count = 0 };
    uv_loop_init(&world.loop);
    world.turns.loop = &world.loop;
}

static void stop(void)
{
    turns_close(&world.turns);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world.loop), 0);
}

static bool on_step(void *owner, struct turn_budget *budget)
{
    struct work *work = owner;
    work->slices++;
    turns_run(&world.turns); /* from within: nothing */
    while (work->steps > 0) {
        uint64_t end_ns = uv_hrtime() + STEP_NS;
        while (uv_hrtime() < end_ns) {
        }
        work->steps--;
        turns_add(&world.turns, &work->job); /* it is at work: nothing */
        if (turn_is_spent(budget)) {
            return true;
        }
    }
    world.done[world.done_count++] = work->name;
    if (work->adds != NULL) {
        turns_add(&world.turns, &work->adds->job);
    }
    return false;
}

static struct work work_of(char name, unsigned steps)
{
    return (struct work){ .job = { .step = on_step }, .name = name, .steps = steps };
}

static void add(struct work *work)
{
    work->job.owner = work;
    turns_add(&world.turns, &work->job);
}

/* Small work is done when the call returns: the answer to an order has all of it. */
static void test_small_work_is_done_at_once(void **state)
{
    (void)state;
    start();
    struct work a = work_of('a', 3), b = work_of('b', 1), c = work_of('c', 0);
    a.adds = &c;
    c.job.owner = &c;
    add(&a);
    add(&a); /* waits already */
    add(&b);
    turns_run(&world.turns);
    assert_string_equal(world.done, "abc");
    assert_null(world.turns.first);
    uv_run(&world.loop, UV_RUN_DEFAULT); /* and the loop has nothing left to do */
    stop();
}

/* Else devices would wait for as long as a large fleet takes. */
static void test_large_work_lets_others_in(void **state)
{
    (void)state;
    start();
    struct work a = work_of('a', 1000), b = work_of('b', 500);
    add(&a);
    add(&b);
    turns_run(&world.turns);
    unsigned left = a.steps;
    assert_true(left < 1000 && left > 0 && b.slices == 0);
    turns_run(&world.turns); /* one slice at once is enough for a turn */
    assert_int_equal(a.steps, left);
    unsigned turns = 0;
    uint64_t longest_ns = 0;
    while (world.turns.first != NULL) {
        uint64_t begun_ns = uv_hrtime();
        uv_run(&world.loop, UV_RUN_NOWAIT);
        uint64_t took_ns = uv_hrtime() - begun_ns;
        longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
        turns++;
    }
    assert_true(turns >= 5 && a.slices >= 3 &&
                b.slices >= 2); /* 30 ms of work; a slow machine makes fewer steps in each */
    assert_string_equal(world.done, "ab");
    print_message("%u turns, the longest %.2f ms\n", turns, (double)longest_ns / 1e6);
    stop();
}

static void test_finish(void **state)
{
    (void)state;
    start();
    struct work a = work_of('a', 200), b = work_of('b', 200);
    add(&a);
    add(&b);
    turns_finish(&world.turns);
    assert_string_equal(world.done, "ab");
    assert_int_equal(a.slices, 1);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_work_is_done_at_once),
        cmocka_unit_test(test_large_work_lets_others_in),
        cmocka_unit_test(test_finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
