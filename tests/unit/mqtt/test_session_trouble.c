/* The session with brokers that no real one would play, and with a name server that hangs. What would break if these
 * failed: a server that cannot be ended, an operator who reads "error -1", or an old broker that brings the server
 * down. */
#include "tests/unit/mqtt/session_host.h"

#include <dirent.h>
#include <dlfcn.h>
#include <netdb.h>
#include <semaphore.h>

/* --- a name server of the test's own ----------------------------------------------------------------------------- */

static enum { ANSWERS, KNOWS_NOTHING, HANGS } name_server;
static sem_t name_server_asked, name_server_goes_on;

/* In place of the C library's, for the session and for Paho. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
    memcpy(&real, &symbol, sizeof real);
    if (name_server == KNOWS_NOTHING) {
        return EAI_NONAME;
    }
    if (name_server == HANGS) {
        sem_post(&name_server_asked);
        sem_wait(&name_server_goes_on);
    }
    return real(name, service, hints, found);
}

/* --- brokers that do not let us in ------------------------------------------------------------------------------- */

/* Ends the session; the loop turns meanwhile. A slow machine counts with less of turned_ms, so the clock is asked too,
 * by far shorter than what the thread waits for: a loop that stood still through all of that counts no tick. */
static void stop_at_once(void)
{
    uint64_t turned_before_ms = turned_ms(), start_ms = now_ms();
    stop();
    assert_true(turned_ms() - turned_before_ms < 1000);
    assert_true(now_ms() - start_ms < 30000);
}

static void expect_failure(enum manner manner, const char *text)
{
    host_start(manner);
    uint64_t start_ms = turned_ms();
    start();
    run_until(has_failed, "the failure");
    assert_true(turned_ms() - start_ms < 1500);
    assert_error_says(text);
    stop_at_once();
}

static void test_broker_that_never_answers(void **state)
{
    (void)state;
    expect_failure(SILENT, "timed out");
}

static void test_broker_that_hangs_up(void **state)
{
    (void)state;
    expect_failure(HANGS_UP, "closed the connection without an answer");
}

static void test_no_broker_at_all(void **state)
{
    (void)state;
    expect_failure(NO_BROKER, "not as an MQTT broker");
}

static void test_broker_that_is_busy(void **state)
{
    (void)state;
    expect_failure(BUSY, "busy");
}

static void test_broker_that_acknowledges_nothing(void **state)
{
    (void)state;
    expect_failure(DEAF, "acknowledges nothing");
}

static void test_broker_without_mqtt_5(void **state)
{
    (void)state;
    host_start(OLD);
    world.config.version = SESSION_VERSION_5;
    start();
    run_until(has_failed, "the failure");
    assert_error_says("does not speak MQTT 5");
    assert_int_equal(atomic_load(&host.met_3_1_1), 0);
}

/* While the thread waits for an answer, the end does not. */
static void test_stop_does_not_wait_for_the_broker(void **state)
{
    (void)state;
    host_start(SILENT);
    world.config.connect_timeout_ms = 60000;
    start();
    run_until(is_heard, "its question");
    stop_at_once();
}

/* --- versions ---------------------------------------------------------------------------------------------------- */

static void test_falls_back_and_remembers(void **state)
{
    (void)state;
    host_start(OLD);
    connect_session();
    assert_int_equal(session_view(world.session)->version, SESSION_VERSION_3_1_1);
    assert_int_equal(atomic_load(&host.met_5), 1); /* ours; the library is not let near it */
    world.failures = 0;
    atomic_store(&host.throws_out, true);
    while (world.failures == 0) {
        uv_run(&world.loop, UV_RUN_ONCE);
    }
    run_until(is_connected, "the connection");
    assert_int_equal(atomic_load(&host.met_5), 1);
}

static void test_falls_back_where_the_broker_hangs_up(void **state)
{
    (void)state;
    host_start(OLD_AND_RUDE);
    connect_session();
    assert_int_equal(session_view(world.session)->version, SESSION_VERSION_3_1_1);
}

/* --- what operators read ----------------------------------------------------------------------------------------- */

static bool says_taken_over(void)
{
    return strstr(world.why, "another client with the id updraft-test") != NULL;
}

static void test_two_servers_with_one_client_id(void **state)
{
    (void)state;
    host_start(TAKES_OVER);
    world.config.online_topic = "";
    static struct sent sent;
    connect_session();
    prepare(&sent, "updraft/a", "1");
    hand_over(&sent);
    run_until(says_taken_over, "the reason");
    run_until(nothing_out, "the message");
    assert_int_equal(sent.returned, 1);
}

static void refuse_subscription(enum session_version version)
{
    host_start(CHOOSY);
    world.config.version = version;
    world.config.subscription_count = 1;
    world.config.subscriptions[0] = "updraft/+/+/status";
    capture_log(LOG_DEBUG);
    connect_session();
    const char *text = captured_log();
    assert_int_equal(count(text, "event=mqtt_subscription_refused"), 1);
    assert_int_equal(count(text, "topic=updraft/+/+/status"), 1);
    assert_int_equal(count(text, "event=mqtt_connected"), 1);
    stop();
}

static void test_refused_subscription_with_mqtt_5(void **state)
{
    (void)state;
    refuse_subscription(SESSION_VERSION_5);
}

static void test_refused_subscription_with_mqtt_3_1_1(void **state)
{
    (void)state;
    refuse_subscription(SESSION_VERSION_3_1_1);
}

static uint64_t attempts_wanted;

static bool has_tried(void)
{
    return session_view(world.session)->attempts > attempts_wanted;
}

static bool says_closed(void)
{
    return strstr(world.why, "closed the connection") != NULL;
}

/* One line for a broker that stays away, however often it is tried, and one more when the reason changes. */
static void test_log_does_not_repeat_itself(void **state)
{
    (void)state;
    host_start(BUSY);
    world.config.user = "updraft";
    world.config.password = "a-secret-word";
    capture_log(LOG_DEBUG);
    start();
    attempts_wanted = 4;
    run_until(has_tried, "more attempts");
    host.manner = HANGS_UP;
    run_until(says_closed, "the other failure");
    attempts_wanted = session_view(world.session)->attempts + 2;
    run_until(has_tried, "more attempts");
    const char *text = captured_log();
    assert_int_equal(count(text, "level=warn event=mqtt_failed"), 2);
    assert_int_equal(count(text, "busy"), 1);
    assert_int_equal(count(text, "a-secret-word"), 0);
}

/* --- names ------------------------------------------------------------------------------------------------------- */

static void test_name_that_does_not_resolve(void **state)
{
    (void)state;
    configure(1883);
    world.config.host = "broker.invalid";
    name_server = KNOWS_NOTHING;
    start();
    run_until(has_failed, "the failure");
    assert_error_says("broker.invalid, does not resolve");
    stop();
    name_server = ANSWERS;
}

static unsigned threads_before;

static unsigned threads(void)
{
    unsigned n = 0;
    DIR *folder = opendir("/proc/self/task");
    assert_non_null(folder);
    while (readdir(folder) != NULL) {
        n++;
    }
    closedir(folder);
    return n;
}

static bool is_thread_gone(void)
{
    return threads() <= threads_before;
}

/* Nothing can end a name's resolution: the thread is left behind, and cleans up should it come back. */
static void test_stop_while_a_name_is_resolved(void **state)
{
    (void)state;
    host_start(OLD);
    name_server = HANGS;
    threads_before = threads();
    start();
    sem_wait(&name_server_asked);
    uv_update_time(&world.loop);
    uint64_t start_ms = now_ms(), turned_before_ms = turned_ms();
    stop();
    assert_true(now_ms() - start_ms >= 1500 && turned_ms() - turned_before_ms <= 3000);
    assert_true(turned_ms() - turned_before_ms >= 4 * TICK_MS); /* a loop that waits itself has one */
    name_server = ANSWERS;
    sem_post(&name_server_goes_on);
    run_until(is_thread_gone, "what it held to be freed"); /* for the leak checker */
    assert_int_equal(atomic_load(&host.met_3_1_1), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, close_all)
    static const struct CMUnitTest tests[] = {
        TEST(test_broker_that_never_answers),
        TEST(test_broker_that_hangs_up),
        TEST(test_no_broker_at_all),
        TEST(test_broker_that_is_busy),
        TEST(test_broker_that_acknowledges_nothing),
        TEST(test_broker_without_mqtt_5),
        TEST(test_stop_does_not_wait_for_the_broker),
        TEST(test_falls_back_and_remembers),
        TEST(test_falls_back_where_the_broker_hangs_up),
        TEST(test_two_servers_with_one_client_id),
        TEST(test_refused_subscription_with_mqtt_5),
        TEST(test_refused_subscription_with_mqtt_3_1_1),
        TEST(test_log_does_not_repeat_itself),
        TEST(test_name_that_does_not_resolve),
        TEST(test_stop_while_a_name_is_resolved),
    };
    sem_init(&name_server_asked, 0, 0);
    sem_init(&name_server_goes_on, 0, 0);
    cmocka_set_test_filter(getenv("TEST_FILTER")); /* NULL: all */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
