/* The session with brokers that no real one would play, and with a name server that hangs. What would break if these
 * failed: a server that cannot be ended, an operator who reads "error -1", or an old broker that brings the server
 * down. */
#include "tests/unit/mqtt/session_host.h"

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

static void expect_failure(enum manner manner, const char *text)
{
    host_start(manner);
    uint64_t start_ms = now_ms();
    start();
    run_until(is_waiting, "the failure");
    assert_true(now_ms() - start_ms < 1500);
    assert_error_says(text);
    start_ms = now_ms();
    stop();
    assert_true(now_ms() - start_ms < 1000);
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
    run_until(is_waiting, "the failure");
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
    run_for(200);
    uint64_t start_ms = now_ms();
    stop();
    assert_true(now_ms() - start_ms < 1000);
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
    capture_log();
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

/* One line for a broker that stays away, however often it is tried, and one more when the reason changes. */
static void test_log_does_not_repeat_itself(void **state)
{
    (void)state;
    host_start(BUSY);
    world.config.user = "updraft";
    world.config.password = "a-secret-word";
    capture_log();
    start();
    run_for(600);
    assert_true(session_view(world.session)->attempts > 3);
    host.manner = HANGS_UP;
    run_for(400);
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
    run_until(is_waiting, "the failure");
    assert_error_says("broker.invalid, does not resolve");
    stop();
    name_server = ANSWERS;
}

/* Nothing can end a name's resolution: the thread is left behind, and cleans up should it come back. */
static void test_stop_while_a_name_is_resolved(void **state)
{
    (void)state;
    host_start(OLD);
    name_server = HANGS;
    start();
    sem_wait(&name_server_asked);
    uint64_t start_ms = now_ms();
    stop();
    assert_in_range(now_ms() - start_ms, 1500, 3000);
    name_server = ANSWERS;
    sem_post(&name_server_goes_on);
    usleep(300000); /* for the leak checker: what it held is freed by now */
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
