/* Who waits is told of room, a turn after the other, and of nothing once it left. */
#include "server/send_room.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct waiter {
    struct send_wait wait; /* first */
    struct waiter *ends;   /* in its turn */
    int pair[2];
    int turns;
};

static struct {
    uv_loop_t loop;
    uv_idle_t idle; /* keeps the loop alive, which who waits does not */
    struct send_room room;
    struct waiter one, two;
} world;

static void leave(struct waiter *waiter)
{
    send_room_leave(&world.room, &waiter->wait, waiter->pair[0]);
}

static void on_room(struct send_wait *wait)
{
    struct waiter *waiter = (struct waiter *)wait;
    waiter->turns++;
    if (waiter->ends != NULL) {
        leave(waiter->ends);
    }
}

static void open_waiter(struct waiter *waiter)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, waiter->pair), 0);
    waiter->wait.on_room = on_room;
}

static void close_waiter(struct waiter *waiter)
{
    leave(waiter);
    close(waiter->pair[0]);
    close(waiter->pair[1]);
}

static void fill(int fd)
{
    static const char bytes[4096];
    while (send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) > 0) {
    }
    assert_int_equal(errno, EAGAIN);
}

static void empty(int fd)
{
    static char bytes[65536];
    while (recv(fd, bytes, sizeof bytes, 0) > 0) {
    }
}

static void on_closed(struct send_room *room)
{
    (void)room;
}

static void on_idle(uv_idle_t *idle)
{
    (void)idle;
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    uv_loop_init(&world.loop);
    uv_idle_init(&world.loop, &world.idle);
    uv_idle_start(&world.idle, on_idle);
    send_room_init(&world.room, &world.loop);
    open_waiter(&world.one);
    open_waiter(&world.two);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close_waiter(&world.one);
    close_waiter(&world.two);
    send_room_close(&world.room, on_closed);
    uv_close((uv_handle_t *)&world.idle, NULL);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    return uv_loop_close(&world.loop);
}

static void turn(void)
{
    for (int i = 0; i < 3; i++) {
        uv_run(&world.loop, UV_RUN_NOWAIT);
    }
}

static void test_it_is_told_of_room_and_no_sooner(void **state)
{
    (void)state;
    fill(world.one.pair[0]);
    assert_true(send_room_join(&world.room, &world.one.wait, world.one.pair[0]));
    turn();
    assert_int_equal(world.one.turns, 0);
    empty(world.one.pair[1]);
    turn();
    assert_true(world.one.turns > 0);
}

static void test_it_is_told_until_it_leaves(void **state)
{
    (void)state;
    assert_true(send_room_join(&world.room, &world.one.wait, world.one.pair[0]));
    assert_true(send_room_join(&world.room, &world.one.wait, world.one.pair[0])); /* again is nothing */
    turn();
    int turns = world.one.turns;
    assert_true(turns > 1);
    leave(&world.one);
    leave(&world.one);
    turn();
    assert_int_equal(world.one.turns, turns);
}

/* Whoever comes first in the batch ends both: the other's owner may be gone. */
static void test_who_left_within_a_turn_is_not_told(void **state)
{
    (void)state;
    world.one.ends = &world.two;
    world.two.ends = &world.one;
    assert_true(send_room_join(&world.room, &world.one.wait, world.one.pair[0]));
    assert_true(send_room_join(&world.room, &world.two.wait, world.two.pair[0]));
    uv_run(&world.loop, UV_RUN_NOWAIT);
    assert_int_equal(world.one.turns + world.two.turns, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_it_is_told_of_room_and_no_sooner, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_is_told_until_it_leaves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_left_within_a_turn_is_not_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
