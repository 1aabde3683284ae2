/* The session with brokers that no real one would play, and with a name server that hangs. What would break if these
 * failed: a server that cannot be ended, an operator who reads "error -1", or an old broker that brings the server
 * down. */
#include "tests/unit/mqtt/session_fixture.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <semaphore.h>
#include <sys/mman.h>

/* --- a broker of the test's own ---------------------------------------------------------------------------------- */

enum manner {
    SILENT,       /* takes connections and says nothing */
    HANGS_UP,     /* on everything */
    NO_BROKER,    /* answers as a web server */
    OLD,          /* refuses MQTT 5 as an MQTT 3.1.1 broker does: with two bytes */
    OLD_AND_RUDE, /* hangs up on MQTT 5 */
    BUSY,         /* refuses MQTT 5 with "server busy" */
    DEAF,         /* lets us in and acknowledges nothing */
    TAKES_OVER,   /* ends the session on the first message, because another client has its id */
    CHOOSY,       /* refuses subscriptions */
};

#define GUESTS 8

static struct {
    pthread_t thread;
    bool runs;
    int listener;
    uint16_t port;
    atomic_int manner; /* enum manner; a test may change its mind */
    atomic_bool ends, throws_out;
    int guests[GUESTS];
    bool guest_speaks_5[GUESTS];
    atomic_uint met_5, met_3_1_1;
} host;

static void host_drop(size_t i)
{
    if (host.guests[i] >= 0) {
        close(host.guests[i]);
    }
    host.guests[i] = -1;
}

static void host_say(size_t i, const void *bytes, size_t n)
{
    if (send(host.guests[i], bytes, n, MSG_NOSIGNAL) != (ssize_t)n) {
        host_drop(i);
    }
}

#define SAY(i, ...) host_say(i, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void host_greet(size_t i, uint8_t level)
{
    bool five = host.guest_speaks_5[i] = level == 5;
    atomic_fetch_add(five ? &host.met_5 : &host.met_3_1_1, 1);
    if (host.manner == HANGS_UP || (five && host.manner == OLD_AND_RUDE)) {
        host_drop(i);
    } else if (host.manner == NO_BROKER) {
        host_say(i, "HTTP/1.0 400 Bad Request\r\n\r\n", 28);
    } else if (five && host.manner == OLD) {
        SAY(i, 0x20, 2, 0, 1);
        host_drop(i);
    } else if (host.manner == BUSY) {
        SAY(i, 0x20, 3, 0, 0x89, 0);
    } else if (five) {
        SAY(i, 0x20, 3, 0, 0, 0);
    } else {
        SAY(i, 0x20, 2, 0, 0);
    }
}

static void host_answer(size_t i, uint8_t head, const uint8_t *rest, size_t n)
{
    bool five = host.guest_speaks_5[i];
    size_t topic_bytes = n > 2 ? (size_t)rest[0] << 8 | rest[1] : 0;
    const uint8_t *id = rest + 2 + topic_bytes;
    switch (head >> 4) {
    case 1: /* CONNECT */
        host_greet(i, rest[6]);
        break;
    case 3: /* PUBLISH */
        if (host.manner == TAKES_OVER) {
            SAY(i, 0xe0, 2, 0x8e, 0);
        } else if (host.manner != DEAF) {
            SAY(i, 0x40, 2, id[0], id[1]);
        }
        break;
    case 8: /* SUBSCRIBE, of one filter */
        if (five) {
            SAY(i, 0x90, 4, rest[0], rest[1], 0, host.manner == CHOOSY ? 0x87 : 1);
        } else {
            SAY(i, 0x90, 3, rest[0], rest[1], host.manner == CHOOSY ? 0x80 : 1);
        }
        break;
    case 14: /* DISCONNECT */
        host_drop(i);
        break;
    default:
        break;
    }
}

/* Packets of these tests are short: one byte of length. */
static void host_hear(size_t i)
{
    uint8_t head[2], rest[128];
    if (recv(host.guests[i], head, 2, MSG_WAITALL) != 2 || head[1] > sizeof rest ||
        recv(host.guests[i], rest, head[1], MSG_WAITALL) != head[1]) {
        host_drop(i);
    } else if (host.manner != SILENT) {
        host_answer(i, head[0], rest, head[1]);
    }
}

static void *host_main(void *unused)
{
    (void)unused;
    while (!atomic_load(&host.ends)) {
        if (atomic_exchange(&host.throws_out, false)) {
            for (size_t i = 0; i < GUESTS; i++) {
                host_drop(i);
            }
        }
        struct pollfd ready[GUESTS + 1];
        for (size_t i = 0; i < GUESTS; i++) {
            ready[i] = (struct pollfd){ .fd = host.guests[i], .events = POLLIN };
        }
        ready[GUESTS] = (struct pollfd){ .fd = host.listener, .events = POLLIN };
        poll(ready, GUESTS + 1, 10);
        for (size_t i = 0; i < GUESTS; i++) {
            if (ready[i].revents != 0) {
                host_hear(i);
            } else if (ready[GUESTS].revents != 0 && host.guests[i] < 0) {
                host.guests[i] = accept4(host.listener, NULL, NULL, SOCK_CLOEXEC);
                ready[GUESTS].revents = 0;
            }
        }
    }
    return NULL;
}

static void host_start(enum manner manner)
{
    memset(&host, 0, sizeof host);
    memset(host.guests, -1, sizeof host.guests);
    host.manner = manner;
    host.listener = listen_on_loopback(&host.port);
    assert_int_equal(pthread_create(&host.thread, NULL, host_main, NULL), 0);
    host.runs = true;
    configure(host.port);
    world.config.connect_timeout_ms = 500;
}

static int close_all(void **state)
{
    int rc = tear_down(state);
    if (host.runs) {
        host.runs = false;
        atomic_store(&host.ends, true);
        pthread_join(host.thread, NULL);
        for (size_t i = 0; i < GUESTS; i++) {
            host_drop(i);
        }
        close(host.listener);
    }
    return rc;
}

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

/* --- what is said ------------------------------------------------------------------------------------------------ */

static int saved_stderr, log_file;

static void capture_log(void)
{
    log_configure(LOG_DEBUG, LOG_LOGFMT);
    fflush(stderr);
    saved_stderr = dup(STDERR_FILENO);
    log_file = memfd_create("test_session_trouble", MFD_CLOEXEC);
    assert_true(saved_stderr >= 0 && log_file >= 0 && dup2(log_file, STDERR_FILENO) >= 0);
}

static const char *captured_log(void)
{
    static char text[65536];
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    ssize_t n = pread(log_file, text, sizeof text - 1, 0);
    assert_true(n >= 0);
    text[n] = '\0';
    close(log_file);
    log_configure(LOG_ERROR, LOG_LOGFMT);
    return text;
}

static unsigned count(const char *text, const char *word)
{
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++) {
        n++;
    }
    return n;
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
