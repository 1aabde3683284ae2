/* Connections whose end the library never reports, or reports late. It tells of an end on a thread that it makes for
 * it: here the system grants none, as where `ulimit -u` or a container's pids.max is reached, or grants it when all is
 * over. What would break if these failed: a server that aborts, commands that are lost, or a late report that reaches
 * what has been freed. */
#include "tests/unit/mqtt/session_host.h"

#include <dlfcn.h>
#include <errno.h>

#define HELD_MAX 32

/* --- a system that is short of threads --------------------------------------------------------------------------- */

typedef void *(*thread_fn)(void *arg);
typedef int (*create_fn)(pthread_t *thread, const pthread_attr_t *attributes, thread_fn run, void *arg);

enum { GRANTED, REFUSED, HELD }; /* HELD: they run when the test says so */

static atomic_int threads;
static atomic_uint unreported; /* threads to tell of an end that were not granted */
static atomic_uint held_count;
static struct {
    thread_fn run;
    void *arg;
} held[HELD_MAX];

/* The first one that the library makes is the one that receives; the others tell. */
static bool is_to_tell(thread_fn run)
{
    static _Atomic(thread_fn) receives;
    Dl_info info;
    void *address;
    memcpy(&address, &run, sizeof address);
    if (dladdr(address, &info) == 0 || info.dli_fname == NULL || strstr(info.dli_fname, "paho") == NULL) {
        return false;
    }
    thread_fn none = NULL;
    return !atomic_compare_exchange_strong(&receives, &none, run) && atomic_load(&receives) != run;
}

static create_fn real_create(void)
{
    create_fn real;
    void *symbol = dlsym(RTLD_DEFAULT, "__interceptor_pthread_create"); /* a sanitizer that is part of the program */
    symbol = symbol != NULL ? symbol : dlsym(RTLD_NEXT, "pthread_create");
    memcpy(&real, &symbol, sizeof real);
    return real;
}

/* In place of the C library's. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, thread_fn run, void *arg)
{
    int mode = atomic_load(&threads);
    if (mode == GRANTED || !is_to_tell(run)) {
        (void)is_to_tell(run); /* to have seen the first */
        return real_create()(thread, attributes, run, arg);
    }
    if (mode == HELD) {
        unsigned i = atomic_load(&held_count);
        assert(i < HELD_MAX);
        held[i].run = run;
        held[i].arg = arg;
        atomic_store(&held_count, i + 1);
    }
    atomic_fetch_add(&unreported, 1);
    return mode == HELD ? 0 : EAGAIN;
}

/* Those that were held tell now, and are done on return. */
static void release_held(void)
{
    atomic_store(&threads, GRANTED);
    for (unsigned i = 0; i < atomic_load(&held_count); i++) {
        pthread_t thread;
        assert_int_equal(real_create()(&thread, NULL, held[i].run, held[i].arg), 0);
        pthread_join(thread, NULL);
    }
    atomic_store(&held_count, 0);
}

static int set_up_threads(void **state)
{
    atomic_store(&threads, GRANTED);
    atomic_store(&unreported, 0);
    atomic_store(&held_count, 0);
    return set_up(state);
}

/* --- a connection that ends -------------------------------------------------------------------------------------- */

static struct sent first, second;

static bool loss_is_unreported(void)
{
    return atomic_load(&unreported) > 0;
}

static bool is_back(void)
{
    return first.order == 0 && second.order == 0;
}

/* To a broker that ends the session at the first message. */
static void connect_to_ending(void)
{
    host_start(TAKES_OVER);
    world.config.online_topic = "";
    world.config.loss_timeout_ms = 200;
    connect_session();
    prepare(&first, "updraft/a", "1");
    prepare(&second, "updraft/a", "2");
}

static void end_connection(int mode)
{
    atomic_store(&threads, mode);
    hand_over(&first);
    run_until(loss_is_unreported, "the end of the connection");
}

static uint64_t left_behind(void)
{
    return session_view(world.session)->left_behind;
}

static void go_on(void)
{
    atomic_store(&host.manner, CHOOSY);
    run_until(is_connected, "the next connection");
    hand_over(&first);
    hand_over(&second);
    run_until(is_back, "the acknowledgements");
    assert_int_equal(first.acknowledged, 1);
    assert_int_equal(second.acknowledged, 1);
}

/* Both come back in the order of their handing over (the fixture looks), and go over the next connection. */
static void test_noticed_by_a_message(void **state)
{
    (void)state;
    capture_log(LOG_DEBUG);
    connect_to_ending();
    end_connection(REFUSED);
    hand_over(&second);
    run_until(has_failed, "the failure");
    run_until(is_back, "the messages");
    assert_int_equal(first.returned, 1);
    assert_int_equal(second.returned, 1);
    assert_int_equal(left_behind(), 1);
    go_on();
    assert_int_equal(session_view(world.session)->connects, 2);
    stop();
    const char *text = captured_log();
    assert_int_equal(count(text, "level=warn event=mqtt_loss_unreported"), 1);
    assert_int_equal(count(text, "left_behind=1"), 1);
}

/* Nobody publishes: devices would be heard no more, and the broker would tell that we are away. */
static void test_noticed_in_a_silence(void **state)
{
    (void)state;
    connect_to_ending();
    end_connection(REFUSED);
    uint64_t start_ms = turned_ms();
    run_until(has_failed, "the failure");
    assert_true(turned_ms() - start_ms < 2000);
    run_until(is_back, "the message");
    assert_int_equal(first.returned, 1);
    go_on();
}

/* The report concerns nobody any more, and what it reaches is there. */
static void test_reported_late(void **state)
{
    (void)state;
    connect_to_ending();
    uint64_t before = left_behind();
    end_connection(HELD);
    hand_over(&second);
    run_until(has_failed, "the failure");
    run_until(is_back, "the messages");
    assert_int_equal(left_behind(), before + 1);
    go_on();
    release_held();
    run_for(200);
    assert_true(is_connected());
    assert_int_equal(session_view(world.session)->connects, 2);
    world.failures = 0;
    atomic_store(&host.throws_out, true); /* on the way to the next connection what has spoken is freed */
    while (world.failures == 0) {
        uv_run(&world.loop, UV_RUN_ONCE);
    }
    run_until(is_connected, "the connection");
    assert_int_equal(left_behind(), before);
}

/* The session that knew the connection is gone, with its thread. */
static void test_reported_after_the_end(void **state)
{
    (void)state;
    connect_to_ending();
    uint64_t before = left_behind();
    end_connection(HELD);
    hand_over(&second);
    run_until(has_failed, "the failure");
    stop();
    release_held();
    atomic_store(&host.manner, CHOOSY);
    connect_session();
    assert_int_equal(left_behind(), before);
}

/* A link that breaks without a word of the broker's: another way through the library, which waits 5 s for its thread.
 */
static void test_broken_link(void **state)
{
    (void)state;
    connect_to_ending();
    atomic_store(&host.manner, DEAF);
    atomic_store(&host.heard, 0);
    hand_over(&first);
    run_until(is_heard, "the message");
    atomic_store(&threads, REFUSED);
    atomic_store(&host.throws_out, true);
    run_until(loss_is_unreported, "the end of the connection");
    run_until(has_failed, "the failure");
    run_until(is_back, "the message");
    assert_int_equal(first.returned, 1);
    go_on();
}

static bool gave_up(void)
{
    return strstr(world.why, "restart updraftd") != NULL;
}

/* What is held is bounded: then no further connection is made, the operator reads why, and when the library speaks all
 * goes on. */
static void test_too_many(void **state)
{
    (void)state;
    host_start(TAKES_OVER);
    world.config.connect_timeout_ms = 50;
    world.config.loss_timeout_ms = 20;
    world.config.backoff_max_ms = 20;
    world.config.version = SESSION_VERSION_5;
    atomic_store(&threads, HELD);
    start();
    run_until(gave_up, "the bound");
    unsigned ended = atomic_load(&unreported);
    assert_int_equal(left_behind(), 8);
    run_for(300);
    assert_int_equal(atomic_load(&unreported), ended);
    release_held();
    atomic_store(&host.manner, CHOOSY);
    run_until(is_connected, "the connection");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_threads, close_all)
    static const struct CMUnitTest tests[] = {
        TEST(test_noticed_by_a_message),   TEST(test_noticed_in_a_silence), TEST(test_reported_late),
        TEST(test_reported_after_the_end), TEST(test_broken_link),          TEST(test_too_many),
    };
    cmocka_set_test_filter(getenv("TEST_FILTER")); /* NULL: all */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
