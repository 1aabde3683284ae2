/* The session with a real mosquitto. What would break if these failed: an operator told "published" for a command that
 * no broker ever had, a command lost or doubled with a broken link, or a server that needs a restart when the broker
 * had one. */
#include "tests/unit/mqtt/session_fixture.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

/* Paho may keep a topic where a 3.1.1 link breaks within a call (session_link.c), and forgets where when it is set up
 * anew, as it is for each test here. */
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libpaho-mqtt3cs";
}

const char *__lsan_default_options(void);

const char *__lsan_default_options(void)
{
    return "print_suppressions=0";
}

static void start_broker(const struct broker_options *options)
{
    broker_start(&world.broker, options);
    configure(world.broker.port);
}

static struct mqtt_peer witness(const char *filter)
{
    struct mqtt_peer peer;
    mqtt_peer_connect(&peer, world.broker.port, "witness");
    mqtt_peer_subscribe(&peer, filter);
    return peer;
}

static void expect_message(struct mqtt_peer *peer, const char *topic, const char *payload, bool retained)
{
    struct mqtt_peer_message message;
    assert_true(mqtt_peer_next(peer, &message, 5000));
    assert_string_equal(message.topic, topic);
    assert_string_equal(message.payload, payload);
    assert_int_equal(message.retained, retained);
}

/* --- publishing -------------------------------------------------------------------------------------------------- */

#define MANY 300

/* Every message is acknowledged once, and a stranger to our libraries sees each byte for byte, in order. */
static void publish_many(enum session_version version)
{
    static struct sent sent[MANY];
    start_broker(&(struct broker_options){ .receive_maximum = MANY });
    world.config.version = version;
    connect_session();
    assert_int_equal(session_view(world.session)->version, version);
    struct mqtt_peer peer = witness("updraft/d1_mini/#");
    for (size_t i = 0; i < MANY; i++) {
        char topic[64], payload[64];
        snprintf(topic, sizeof topic, "updraft/d1_mini/%zu", i);
        snprintf(payload, sizeof payload, "{\"id\":\"%zu\"}", i);
        prepare(&sent[i], topic, payload);
        hand_over(&sent[i]);
    }
    run_until(nothing_out, "the acknowledgements");
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(sent[i].acknowledged, 1);
        expect_message(&peer, sent[i].message.topic, sent[i].payload, false);
    }
    mqtt_peer_close(&peer);
}

static void test_publishes_with_mqtt_5(void **state)
{
    (void)state;
    publish_many(SESSION_VERSION_5);
    assert_int_equal(session_view(world.session)->receive_maximum, MANY);
}

static void test_publishes_with_mqtt_3_1_1(void **state)
{
    (void)state;
    publish_many(SESSION_VERSION_3_1_1);
    assert_int_equal(session_view(world.session)->receive_maximum, 65535);
}

static struct mqtt_peer device;

static bool nothing_out_while_device_talks(void)
{
    mqtt_peer_publish(&device, "updraft/a/b/status", "{}", 2, false);
    return world.out == 0;
}

/* A payload larger than the socket takes at once is half written for a while. What comes in meanwhile lets Paho's
 * thread go on, and the acknowledgement may be there before the publishing returns: it must still find its message. */
static void test_large_payloads_are_acknowledged(void **state)
{
    (void)state;
    static struct sent sent[6];
    static char large[8000000];
    start_broker(&(struct broker_options){ .receive_maximum = 100 });
    world.config.subscription_count = 1;
    world.config.subscriptions[0] = "updraft/a/b/status";
    connect_session();
    mqtt_peer_connect(&device, world.broker.port, "device");
    memset(large, 'x', sizeof large);
    for (size_t i = 0; i < 6; i++) {
        prepare(&sent[i], "updraft/large", "small");
        if (i % 2 == 0) {
            sent[i].message.payload = large;
            sent[i].message.payload_bytes = sizeof large;
            broker_freeze(&world.broker);
        }
        hand_over(&sent[i]);
        usleep(20000);
        broker_thaw(&world.broker);
        run_until(nothing_out_while_device_talks, "the acknowledgement");
        assert_int_equal(sent[i].acknowledged, 1);
    }
    mqtt_peer_close(&device);
}

/* Retained where asked; and gone when its time is up, which a broker knows with MQTT 5 alone. */
static void test_retains_and_expires(void **state)
{
    (void)state;
    static struct sent lasting, passing;
    start_broker(&(struct broker_options){ 0 });
    connect_session();
    prepare(&passing, "updraft/a/passing", "1");
    prepare(&lasting, "updraft/a/lasting", "2");
    passing.message.retain = lasting.message.retain = true;
    passing.message.expiry_s = 1;
    lasting.message.expiry_s = 3600;
    hand_over(&passing);
    hand_over(&lasting);
    run_until(nothing_out, "the acknowledgements");
    run_for(2100);
    struct mqtt_peer peer = witness("updraft/a/#");
    struct mqtt_peer_message message;
    expect_message(&peer, "updraft/a/lasting", "2", true);
    assert_false(mqtt_peer_next(&peer, &message, 100));
    mqtt_peer_close(&peer);
}

/* A broker whose ACL has these lines. */
static void start_broker_with_acl(const char *lines, const char *user, const char *more)
{
    char acl[] = "/tmp/updraft-acl-XXXXXX", options[100];
    int fd = mkstemp(acl);
    assert_true(fd >= 0 && write(fd, lines, strlen(lines)) == (ssize_t)strlen(lines));
    close(fd);
    snprintf(options, sizeof options, "acl_file %s\n%s", acl, more);
    start_broker(&(struct broker_options){ .more = options, .user = user, .password = user });
    world.config.user = world.config.password = user;
    unlink(acl);
}

/* What the broker refuses is answered with the reason and the remedy, and the session lives on. */
static void test_refused_messages(void **state)
{
    (void)state;
    static struct sent denied, large, good, crooked;
    static char bytes[3000];
    start_broker_with_acl("topic readwrite updraft/#\n", NULL, "max_packet_size 2000");
    connect_session();
    assert_int_equal(session_view(world.session)->packet_bytes_max, 2000);
    prepare(&denied, "secret/a", "1");
    prepare(&large, "updraft/a", "1");
    prepare(&crooked, "updraft/\xff", "1");
    prepare(&good, "updraft/a", "1");
    large.message.payload = bytes;
    large.message.payload_bytes = sizeof bytes;
    hand_over(&denied);
    hand_over(&large);
    hand_over(&crooked);
    hand_over(&good);
    run_until(nothing_out, "the answers");
    assert_int_equal(denied.message.status, STATUS_DENIED);
    assert_string_equal(denied.message.why,
                        "the broker's ACL denies publishing to secret/a: grant clients without a user "
                        "name write on it");
    assert_int_equal(large.message.status, STATUS_TOO_LONG);
    assert_int_equal(crooked.message.status, STATUS_DENIED);
    assert_int_equal(good.message.status, STATUS_OK);
    assert_int_equal(session_view(world.session)->connects, 1);
}

static void test_refused_to_a_user(void **state)
{
    (void)state;
    static struct sent denied;
    char topic[SESSION_TOPIC_MAX + 1];
    memset(topic, 't', sizeof topic - 1);
    topic[sizeof topic - 1] = '\0';
    start_broker_with_acl("user updraft\ntopic readwrite updraft/#\n", "updraft", "");
    connect_session();
    prepare(&denied, topic, "1"); /* the longest still leaves room for the remedy */
    hand_over(&denied);
    run_until(nothing_out, "the answer");
    assert_int_equal(denied.message.status, STATUS_DENIED);
    assert_non_null(strstr(denied.message.why, "tt: grant the user updraft write on it"));
}

/* MQTT 3.1.1 has no word for it: it looks like an acknowledgement, and docs/mqtt.md says so. */
static void test_refused_without_a_word(void **state)
{
    (void)state;
    static struct sent denied;
    start_broker_with_acl("topic readwrite updraft/#\n", NULL, "");
    world.config.version = SESSION_VERSION_3_1_1;
    connect_session();
    prepare(&denied, "secret/a", "1");
    hand_over(&denied);
    run_until(nothing_out, "the answer");
    assert_int_equal(denied.message.status, STATUS_OK);
}

/* The largest packet that the broker takes goes through and one byte more does not leave us: our count is the wire's.
 */
static void test_largest_packet(void **state)
{
    (void)state;
    static struct sent fits, larger;
    static char bytes[4000];
    start_broker(&(struct broker_options){ .packet_bytes_max = 2000 });
    connect_session();
    prepare(&fits, "updraft/a", "");
    fits.message.expiry_s = 60;
    fits.message.payload = bytes;
    fits.message.payload_bytes = 2000 - 3 - 2 - strlen("updraft/a") - 2 - 6;
    prepare(&larger, "updraft/a", "");
    larger.message = fits.message;
    larger.message.payload_bytes++;
    hand_over(&larger);
    hand_over(&fits);
    run_until(nothing_out, "the answers");
    assert_int_equal(larger.message.status, STATUS_TOO_LONG);
    assert_int_equal(fits.message.status, STATUS_OK);
}

/* --- broken links ------------------------------------------------------------------------------------------------ */

static void test_broker_that_is_away_at_start(void **state)
{
    (void)state;
    start_broker(&(struct broker_options){ 0 });
    broker_kill(&world.broker);
    start();
    run_until(has_failed, "a failed attempt");
    assert_error_says("connection refused");
    assert_error_says("is the broker running");
    run_for(300);
    assert_true(session_view(world.session)->attempts > 2);
    broker_restart(&world.broker);
    run_until(is_connected, "the connection");
    assert_int_equal(session_view(world.session)->connects, 1);
    assert_int_equal(session_view(world.session)->attempts, 0);
    assert_string_equal(session_view(world.session)->error, "");
}

#define OUTSTANDING 50

/* Commands outstanding when the broker dies come back once, in order (the fixture looks), and not as acknowledged. */
static void kill_with_outstanding(enum session_version version)
{
    static struct sent sent[OUTSTANDING];
    start_broker(&(struct broker_options){ .receive_maximum = 100 });
    world.config.version = version;
    connect_session();
    broker_freeze(&world.broker);
    for (size_t i = 0; i < OUTSTANDING; i++) {
        prepare(&sent[i], "updraft/a", "1");
        hand_over(&sent[i]);
    }
    run_for(100);
    assert_int_equal(world.out, OUTSTANDING);
    broker_kill(&world.broker);
    run_until(nothing_out, "the messages");
    for (size_t i = 0; i < OUTSTANDING; i++) {
        assert_int_equal(sent[i].returned, 1);
        assert_int_equal(sent[i].acknowledged, 0);
    }
    run_until(has_failed, "the loss");
    broker_restart(&world.broker);
    run_until(is_connected, "the connection");
    struct mqtt_peer peer = witness(ONLINE);
    expect_message(&peer, ONLINE, "1", true); /* the new broker knew nothing */
    mqtt_peer_close(&peer);
}

static void test_broker_killed_with_mqtt_5(void **state)
{
    (void)state;
    kill_with_outstanding(SESSION_VERSION_5);
}

static void test_broker_killed_with_mqtt_3_1_1(void **state)
{
    (void)state;
    kill_with_outstanding(SESSION_VERSION_3_1_1);
}

#define WINDOW 20
#define CUTS   12

static struct sent traffic[WINDOW];
static bool traffic_ends;
static uint64_t traffic_handed_over;

/* All that is not on its way, again and again. */
static void send_traffic(void)
{
    for (size_t i = 0; i < WINDOW && is_connected() && !traffic_ends; i++) {
        if (traffic[i].order == 0) {
            hand_over(&traffic[i]);
            traffic_handed_over++;
        }
    }
}

static void on_traffic(struct sent *sent)
{
    (void)sent;
    send_traffic();
}

static void turn(uint64_t ms)
{
    for (uint64_t end_ms = now_ms() + ms; now_ms() < end_ms;) {
        mqtt_peer_publish(&device, "updraft/a/5ccf7f000001/status", "{\"state\":\"running\"}", 19, false);
        send_traffic();
        uv_run(&world.loop, UV_RUN_NOWAIT);
        usleep(200);
    }
}

/* With messages going out and coming in, the link is cut again and again. */
static void cut_many_times(enum session_version version)
{
    start_broker(&(struct broker_options){ .receive_maximum = WINDOW });
    struct relay *relay = relay_start(world.broker.port);
    configure(relay->port);
    world.config.version = version;
    world.config.backoff_max_ms = 20;
    world.config.subscription_count = 1;
    world.config.subscriptions[0] = "updraft/+/+/status";
    world.on_published = on_traffic;
    traffic_ends = false;
    traffic_handed_over = 0;
    for (size_t i = 0; i < WINDOW; i++) {
        prepare(&traffic[i], "updraft/a", "{\"id\":\"1\"}");
    }
    mqtt_peer_connect(&device, world.broker.port, "device");
    connect_session();
    for (unsigned cut = 1; cut <= CUTS; cut++) {
        turn(20 + cut * 7 % 30);
        relay_cut(relay);
        run_until(has_failed, "the loss");
        world.failures = 0;
        run_until(is_connected, "the connection");
        assert_int_equal(session_view(world.session)->connects, 1 + cut);
    }
    traffic_ends = true;
    run_until(nothing_out, "the last acknowledgements");
    uint64_t acknowledged = 0, returned = 0;
    for (size_t i = 0; i < WINDOW; i++) {
        acknowledged += traffic[i].acknowledged;
        returned += traffic[i].returned;
    }
    assert_int_equal(acknowledged + returned, traffic_handed_over);
    assert_true(acknowledged > 10 * CUTS && returned >= CUTS && world.inbound > CUTS);
    mqtt_peer_close(&device);
}

static void test_cut_many_times_with_mqtt_5(void **state)
{
    (void)state;
    cut_many_times(SESSION_VERSION_5);
}

static void test_cut_many_times_with_mqtt_3_1_1(void **state)
{
    (void)state;
    cut_many_times(SESSION_VERSION_3_1_1);
}

/* A broker that stands still is no broker; nobody waits for it longer than the keep-alive allows. */
static void test_frozen_broker_is_noticed(void **state)
{
    (void)state;
    static struct sent sent[3];
    start_broker(&(struct broker_options){ 0 });
    world.config.keep_alive_ms = 1000;
    connect_session();
    broker_freeze(&world.broker);
    uint64_t start_ms = now_ms();
    for (size_t i = 0; i < 3; i++) {
        prepare(&sent[i], "updraft/a", "1");
        hand_over(&sent[i]);
    }
    run_until(nothing_out, "the messages");
    assert_true(now_ms() - start_ms < 6000);
    assert_int_equal(sent[0].returned, 1);
    run_until(has_failed, "the loss");
    broker_thaw(&world.broker);
    run_until(is_connected, "the connection");
}

/* --- what others see --------------------------------------------------------------------------------------------- */

static void test_online_and_last_will(void **state)
{
    (void)state;
    start_broker(&(struct broker_options){ 0 });
    struct relay *relay = relay_start(world.broker.port);
    configure(relay->port);
    struct mqtt_peer peer = witness(ONLINE);
    connect_session();
    expect_message(&peer, ONLINE, "1", false);
    relay_cut(relay);
    expect_message(&peer, ONLINE, "0", false);
    run_until(is_connected, "the connection");
    expect_message(&peer, ONLINE, "1", false);
    stop();
    expect_message(&peer, ONLINE, "0", false);
    struct mqtt_peer late;
    mqtt_peer_connect(&late, world.broker.port, "late");
    mqtt_peer_subscribe(&late, ONLINE);
    expect_message(&late, ONLINE, "0", true);
    mqtt_peer_close(&late);
    mqtt_peer_close(&peer);
}

/* The loop slept while the link broke and was made anew, and hands over what it thinks is next: it comes back like
 * those before it, so that it cannot overtake them. */
static void test_message_for_a_connection_that_is_gone(void **state)
{
    (void)state;
    static struct sent sent;
    start_broker(&(struct broker_options){ 0 });
    struct relay *relay = relay_start(world.broker.port);
    configure(relay->port);
    struct mqtt_peer peer = witness(ONLINE);
    connect_session();
    expect_message(&peer, ONLINE, "1", false);
    relay_cut(relay);
    expect_message(&peer, ONLINE, "0", false);
    expect_message(&peer, ONLINE, "1", false);
    usleep(100000); /* until it serves again */
    prepare(&sent, "updraft/a", "1");
    world.late = true;
    hand_over(&sent);
    run_until(nothing_out, "the message");
    assert_int_equal(sent.returned, 1);
    assert_true(is_connected());
    world.late = false;
    hand_over(&sent);
    run_until(nothing_out, "the acknowledgement");
    assert_int_equal(sent.acknowledged, 1);
    mqtt_peer_close(&peer);
}

/* A broker that does not answer any more cannot hold up the end; what it owes comes back. */
static void test_stop_with_a_full_window(void **state)
{
    (void)state;
    static struct sent sent[5];
    start_broker(&(struct broker_options){ .receive_maximum = 5 });
    connect_session();
    assert_int_equal(session_view(world.session)->receive_maximum, 5);
    struct mqtt_peer peer = witness(ONLINE);
    expect_message(&peer, ONLINE, "1", true);
    broker_freeze(&world.broker);
    for (size_t i = 0; i < 5; i++) {
        prepare(&sent[i], "updraft/a", "1");
        hand_over(&sent[i]);
    }
    run_for(50);
    uint64_t start_ms = now_ms();
    stop();
    assert_true(now_ms() - start_ms < 1800); /* nor is the thread left behind */
    assert_int_equal(sent[4].returned, 1);
    broker_thaw(&world.broker);
    expect_message(&peer, ONLINE, "0", false);
    mqtt_peer_close(&peer);
}

/* --- subscriptions ----------------------------------------------------------------------------------------------- */

static bool has_inbound(void)
{
    return world.inbound > 0;
}

static void listen_for_status(void)
{
    world.config.subscription_count = 2;
    world.config.subscriptions[0] = "updraft/+/+/status";
    world.config.subscriptions[1] = "updraft/+/+/online";
}

static void receive_and_reconnect(enum session_version version)
{
    struct mqtt_peer peer;
    start_broker(&(struct broker_options){ 0 });
    world.config.version = version;
    listen_for_status();
    mqtt_peer_connect(&peer, world.broker.port, "device");
    mqtt_peer_publish(&peer, "updraft/a/5ccf7f000001/online", "1", 1, true);
    connect_session();
    run_until(has_inbound, "the retained message");
    assert_string_equal(world.inbound_topic, "updraft/a/5ccf7f000001/online");
    assert_string_equal(world.inbound_payload, "1");
    assert_true(world.inbound_retained);
    mqtt_peer_close(&peer);
    world.failures = world.inbound = 0;
    broker_kill(&world.broker);
    run_until(has_failed, "the loss");
    broker_restart(&world.broker);
    run_until(is_connected, "the connection");
    mqtt_peer_connect(&peer, world.broker.port, "device");
    mqtt_peer_publish(&peer, "updraft/a/5ccf7f000001/status", "{}", 2, false);
    run_until(has_inbound, "the message");
    assert_string_equal(world.inbound_topic, "updraft/a/5ccf7f000001/status");
    assert_false(world.inbound_retained);
    mqtt_peer_close(&peer);
}

static void test_subscribes_again_with_mqtt_5(void **state)
{
    (void)state;
    receive_and_reconnect(SESSION_VERSION_5);
}

static void test_subscribes_again_with_mqtt_3_1_1(void **state)
{
    (void)state;
    receive_and_reconnect(SESSION_VERSION_3_1_1);
}

static bool has_dropped_two(void)
{
    return session_dropped(world.session) == 2;
}

static void test_too_long_messages_are_dropped(void **state)
{
    (void)state;
    static char bytes[SESSION_INBOUND_BYTES_MAX + 1];
    char topic[SESSION_TOPIC_MAX + 64];
    struct mqtt_peer peer;
    start_broker(&(struct broker_options){ 0 });
    listen_for_status();
    connect_session();
    mqtt_peer_connect(&peer, world.broker.port, "device");
    snprintf(topic, sizeof topic, "updraft/a/%0300d/status", 1);
    mqtt_peer_publish(&peer, "updraft/a/b/status", bytes, sizeof bytes, false);
    mqtt_peer_publish(&peer, topic, "1", 1, false);
    run_until(has_dropped_two, "the count");
    mqtt_peer_publish(&peer, "updraft/a/b/status", bytes, sizeof bytes - 1, false);
    run_until(has_inbound, "the longest one");
    assert_int_equal(world.inbound, 1);
    assert_int_equal(world.inbound_bytes, SESSION_INBOUND_BYTES_MAX);
    mqtt_peer_close(&peer);
}

#define FLOOD 12000

static bool is_flood_over(void)
{
    return world.inbound + session_dropped(world.session) == FLOOD;
}

/* While the loop does not look, no more than the bound is kept; the rest is counted. */
static void test_flood_is_bounded(void **state)
{
    (void)state;
    struct mqtt_peer peer;
    start_broker(&(struct broker_options){ 0 });
    listen_for_status();
    connect_session();
    mqtt_peer_connect(&peer, world.broker.port, "device");
    for (unsigned i = 0; i < FLOOD; i++) {
        mqtt_peer_publish(&peer, "updraft/a/b/status", "{\"state\":\"running\"}", 19, false);
    }
    for (uint64_t end_ms = now_ms() + PATIENCE_MS; session_dropped(world.session) < FLOOD - SESSION_INBOUND_MAX;) {
        assert_true(now_ms() < end_ms);
        usleep(10000);
    }
    run_until(is_flood_over, "the rest");
    assert_int_equal(world.inbound, SESSION_INBOUND_MAX);
    mqtt_peer_publish(&peer, "updraft/a/b/status", "{}", 2, false); /* and there is room again */
    world.inbound = 0;
    run_until(has_inbound, "one more");
    mqtt_peer_close(&peer);
}

/* --- being let in ------------------------------------------------------------------------------------------------ */

static void test_password(void **state)
{
    (void)state;
    start_broker(&(struct broker_options){ .user = "updraft", .password = "right horse" });
    world.config.user = "updraft";
    world.config.password = "wrong horse";
    for (size_t i = 0; i < 2; i++) {
        world.config.version = i == 0 ? SESSION_VERSION_5 : SESSION_VERSION_3_1_1;
        start();
        run_until(has_failed, "the refusal");
        assert_error_says("refuses user or password");
        assert_null(strstr(session_view(world.session)->error, "horse"));
        stop();
    }
    world.config.password = "right horse";
    connect_session();
}

static void test_broker_wants_more_pings(void **state)
{
    (void)state;
    start_broker(&(struct broker_options){ .keep_alive_s_max = 10 });
    connect_session();
    assert_true(broker_logged(&world.broker, "(p5, c1, k10)"));
}

static char ca_file[128], cert_file[128], key_file[128];

static void start_tls_broker(const struct broker_options *options)
{
    start_broker(options);
    world.config.tls = true;
    snprintf(ca_file, sizeof ca_file, "%s", broker_file(&world.broker, "ca.pem"));
    snprintf(cert_file, sizeof cert_file, "%s", broker_file(&world.broker, "client.pem"));
    snprintf(key_file, sizeof key_file, "%s", broker_file(&world.broker, "client.key"));
    world.config.ca_file = ca_file;
}

static void test_tls(void **state)
{
    (void)state;
    static struct sent sent;
    start_tls_broker(&(struct broker_options){ .tls = true });
    connect_session();
    prepare(&sent, "updraft/a", "1");
    hand_over(&sent);
    run_until(nothing_out, "the acknowledgement");
    assert_int_equal(sent.message.status, STATUS_OK);
}

static void expect_failure(const char *text)
{
    start();
    run_until(has_failed, "the failure");
    assert_error_says(text);
    assert_int_equal(session_view(world.session)->connects, 0);
    stop();
}

static void test_tls_that_cannot_be_trusted(void **state)
{
    (void)state;
    start_tls_broker(&(struct broker_options){ .tls = true });
    snprintf(ca_file, sizeof ca_file, "%s", broker_file(&world.broker, "other-ca.pem"));
    expect_failure("does not match the CA");
    world.config.ca_file = ""; /* the system's CAs did not sign it either */
    expect_failure("mqtt-ca");
    world.config.ca_file = "/nonexistent/ca.pem";
    expect_failure("mqtt-ca = /nonexistent/ca.pem cannot be used");
    snprintf(ca_file, sizeof ca_file, "%s", broker_file(&world.broker, "ca.pem"));
    world.config.ca_file = ca_file;
    world.config.host = "localhost"; /* the certificate is made out to 127.0.0.1 */
    expect_failure("another name");
    world.config.host = "127.0.0.1";
    world.config.tls = false;
    expect_failure("TLS");
}

static void test_tls_on_a_plain_port(void **state)
{
    (void)state;
    start_broker(&(struct broker_options){ 0 });
    world.config.tls = true;
    world.config.connect_timeout_ms = 500;
    expect_failure("TLS");
}

static void test_expired_certificate(void **state)
{
    (void)state;
    start_tls_broker(&(struct broker_options){ .tls = true, .expired = true });
    expect_failure("has expired");
}

static void test_client_certificate(void **state)
{
    (void)state;
    start_tls_broker(&(struct broker_options){ .tls = true, .client_certificates = true });
    expect_failure("client certificate");
    world.config.cert_file = cert_file;
    expect_failure("mqtt-key");
    world.config.key_file = key_file;
    connect_session();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(test_publishes_with_mqtt_5),
        TEST(test_publishes_with_mqtt_3_1_1),
        TEST(test_large_payloads_are_acknowledged),
        TEST(test_retains_and_expires),
        TEST(test_refused_messages),
        TEST(test_refused_to_a_user),
        TEST(test_refused_without_a_word),
        TEST(test_largest_packet),
        TEST(test_broker_that_is_away_at_start),
        TEST(test_broker_killed_with_mqtt_5),
        TEST(test_broker_killed_with_mqtt_3_1_1),
        TEST(test_cut_many_times_with_mqtt_5),
        TEST(test_cut_many_times_with_mqtt_3_1_1),
        TEST(test_frozen_broker_is_noticed),
        TEST(test_online_and_last_will),
        TEST(test_message_for_a_connection_that_is_gone),
        TEST(test_stop_with_a_full_window),
        TEST(test_subscribes_again_with_mqtt_5),
        TEST(test_subscribes_again_with_mqtt_3_1_1),
        TEST(test_too_long_messages_are_dropped),
        TEST(test_flood_is_bounded),
        TEST(test_password),
        TEST(test_broker_wants_more_pings),
        TEST(test_tls),
        TEST(test_tls_that_cannot_be_trusted),
        TEST(test_tls_on_a_plain_port),
        TEST(test_expired_certificate),
        TEST(test_client_certificate),
    };
#ifdef __GLIBC__
    mallopt(M_PERTURB, 0xa5); /* what is freed is spoilt: see test_large_payloads_are_acknowledged */
#endif
    cmocka_set_test_filter(getenv("TEST_FILTER")); /* NULL: all */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
