/* What no setting can tell alone: each complaint names where the value came from, the reason and the remedy. */
#include "tests/unit/server/config_fixture.h"

/* What no key can tell alone: each complaint names the flag, and what to do. */
static const struct {
    const char *args;
    const char *pieces[3];
} mismatches[] = {
    { "--mqtt broker", { "--mqtt: ", "begins with mqtt://" } },
    { "--mqtt mqtt://ann:hunter2@broker:0", { "--mqtt: ", "host or port", "mqtt://user:password@host:1883" } },
    { "--mqtt mqtt://ann:hunter2%@broker", { "--mqtt: ", "user or password" } },
    { "--mqtt-preset esphome", { "--mqtt-preset esphome: ", "updraft, tasmota, homie" } },
    { "--mqtt mqtts://broker --mqtt-cert a.pem", { "--mqtt-cert a.pem: ", "without its key", "give --mqtt-key" } },
    { "--mqtt mqtts://broker --mqtt-key a.key", { "--mqtt-key a.key: ", "its certificate", "give --mqtt-cert" } },
    { "--mqtt mqtt://broker --mqtt-ca ca.pem", { "--mqtt-ca ca.pem: ", "mqtts://", "take this away" } },
    { "--mqtt mqtt://broker --mqtt-cert a.pem --mqtt-key a.key", { "--mqtt-cert a.pem: ", "mqtts://" } },
    { "--mqtt mqtt://broker --mqtt-key a.key", { "--mqtt-key a.key: ", "mqtts://" } },
    { "--mqtt-ca ca.pem", { "--mqtt-ca ca.pem: no broker is named: give --mqtt" } },
    { "--mqtt-cert a.pem --mqtt-key a.key", { "--mqtt-cert a.pem: no broker is named: give --mqtt" } },
    { "--mqtt-key a.key", { "--mqtt-key a.key: no broker is named: give --mqtt" } },
    { "--mqtt-user ann", { "--mqtt-user ann: no broker is named: give --mqtt" } },
    { "--mqtt-user ann --mqtt-password hunter2", { "--mqtt-user ann: no broker is named: give --mqtt" } },
    { "--mqtt-password hunter2", { "--mqtt-password: no broker is named: give --mqtt" } },
    { "--mqtt mqtt://broker --mqtt-password hunter2",
      { "--mqtt-password: it is only sent with a user: give --mqtt-user, or take the password away" } },
    { "--mqtt mqtt://:hunter2@broker", { "--mqtt: its password is only sent with a user: write mqtt://user:" } },
    { "--public-url updraft.example", { "--public-url updraft.example: ", "http" } },
    { "--public-url http://a?b=c", { "--public-url http://a?b=c: " } },
    { "--admin-listen 8090", { "--admin-listen 8090: ", "127.0.0.1:8090" } },
    { "--admin-listen :8090", { "--admin-listen :8090: ", "127.0.0.1:8090" } },
    { "--tls-listen 0.0.0.0:1", { "--tls-listen 0.0.0.0:1: ", "needs a certificate", "--tls-cert and --tls-key" } },
    { "--tls-listen 0.0.0.0:1 --tls-cert a.pem", { "--tls-cert: give one --tls-key for each --tls-cert" } },
    { "--tls-listen 0.0.0.0:1 --tls-cert a.pem --tls-key a --tls-key b", { "--tls-key: give one --tls-key for each" } },
    { "--tls-cert a.pem --tls-key a.key", { "--tls-cert a.pem: nothing listens with it: give --tls-listen" } },
    { "--tls-client-ca ca.pem", { "--tls-client-ca ca.pem: only TLS has certificates: give --tls-listen" } },
    { "--listen none", { "--listen none: devices have no other door: give --tls-listen" } },
    { "--listen none --listen 0.0.0.0:1", { "--listen none: there are others beside it" } },
    { "--tls-listen none", { "--tls-listen none: give an address and a port" } },
    { "--command-topic updraft/{kind}", { "--command-topic updraft/{kind}: " } },
    { "--command-topic updraft/{mac}", { "--command-topic updraft/{mac}: " } },
    { "--command-topic updraft/+/update", { "--command-topic updraft/+/update: " } },
    { "--device-command-topic updraft/{type}", { "--device-command-topic updraft/{type}: " } },
    { "--command-payload {\"a\":{url}}", { "--command-payload {\"a\":{url}}: " } },
    { "--status-topic updraft/status", { "--status-topic updraft/status: " } },
    { "--online-topic {mac}/{mac}", { "--online-topic {mac}/{mac}: " } },
};

static void test_mismatches(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(mismatches); i++) {
        struct reading got;
        read_args(&got, mismatches[i].args);
        for (size_t k = 0; k < 3 && mismatches[i].pieces[k] != NULL; k++) {
            if (got.status == STATUS_OK || strstr(got.message, mismatches[i].pieces[k]) == NULL) {
                fail_msg("%s: %s \"%s\"", mismatches[i].args, status_name(got.status), got.message);
            }
        }
        assert_null(strstr(got.message, "hunter2"));
        config_close(&got.config);
    }
}

static const char *const matches[] = {
    "--listen none --tls-listen 0.0.0.0:1 --tls-cert a.pem --tls-key a.key",
    "--mqtt mqtt://broker --mqtt-user ann",
    "--mqtt mqtt://ann@broker --mqtt-password hunter2",
    "--mqtt mqtt://:hunter2@broker --mqtt-user ann",
    "--mqtt mqtts://broker --mqtt-ca ca.pem",
    "--mqtt mqtts://broker --mqtt-cert a.pem --mqtt-key a.key",
};

static const struct {
    const char *file, *variable, *value, *args;
    const char *message;
} blamed[] = {
    { "; c\nmqtt-preset = homy\n", NULL, NULL, "",
      "--config u.ini: line 2: mqtt-preset homy: there are updraft, tasmota, homie" },
    { "mqtt = mqtt://a\nmqtt-preset = homy\nmqtt-preset = homi\n", NULL, NULL, "",
      "--config u.ini: line 3: mqtt-preset homi: there are " },
    { "mqtt-preset = homy\n", "UPDRAFT_MQTT_PRESET", "homi", "", "UPDRAFT_MQTT_PRESET: mqtt-preset homi: there are " },
    { "mqtt-preset = homy\n", "UPDRAFT_MQTT_PRESET", "homi", "--mqtt-preset hom", "--mqtt-preset hom: there are " },
    { "mqtt = mqtts://a\nmqtt-cert = b\n", NULL, NULL, "", "--config u.ini: line 2: mqtt-cert b: a certificate is" },
    { "\nmqtt = mqtt://ann:hunter2@a:b\n", NULL, NULL, "",
      "--config u.ini: line 2: mqtt: host or port cannot be read: " },
    { "mqtt = mqtt://a\n", "UPDRAFT_MQTT_PASSWORD_FILE", "secret", "",
      "UPDRAFT_MQTT_PASSWORD_FILE: mqtt-password: it is only sent with a user: " },
    { "mqtt = mqtt://a\n", "UPDRAFT_MQTT_PASSWORD", "hunter2", "",
      "UPDRAFT_MQTT_PASSWORD: mqtt-password: it is only sent with a user: " },
    { "public-url = gr\xc3\xbc\xc3\x9f"
      "e\n",
      NULL, NULL, "",
      "--config u.ini: line 1: public-url gr\xc3\xbc\xc3\x9f"
      "e: " },
};

/* Else the operator would be told of a flag that nobody gave, and search a file of hundreds of lines for it. */
static void test_mismatches_name_where_the_value_came_from(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(blamed); i++) {
        struct reading got;
        char args[200];
        write_file("u.ini", blamed[i].file);
        write_file("secret", "hunter2\n");
        if (blamed[i].variable != NULL) {
            setenv(blamed[i].variable, blamed[i].value, 1);
        }
        snprintf(args, sizeof args, "--config u.ini %s", blamed[i].args);
        read_args(&got, args);
        forget_variables();
        if (got.status == STATUS_OK || strncmp(got.message, blamed[i].message, strlen(blamed[i].message)) != 0) {
            fail_msg("case %zu: %s \"%s\"", i, status_name(got.status), got.message);
        }
        assert_null(strstr(got.message, "hunter2"));
        config_close(&got.config);
    }
}

/* A remedy behind a thousand bytes would be cut off. */
static void test_long_values_leave_room_for_the_remedy(void **state)
{
    (void)state;
    struct reading got;
    char args[CONFIG_TEXT_MAX + 20] = "--mqtt-preset ";
    memset(args + strlen(args), 'a', CONFIG_TEXT_MAX - 1);
    read_args(&got, args);
    assert_non_null(strstr(got.message, "aaa: there are updraft, tasmota, homie"));
    config_close(&got.config);
}

/* A setting of the file that a flag overrules is not complained of, and one that stays is, whatever set it. */
static void test_mismatches_of_what_is_in_effect(void **state)
{
    (void)state;
    struct reading got;
    write_file("u.ini", "mqtt = broker\nmqtt-cert = a.pem\n");
    assert_reads(&got, "--config u.ini --mqtt mqtts://broker --mqtt-key a.key");
    config_close(&got.config);
    for (size_t i = 0; i < COUNT_OF(matches); i++) {
        assert_reads(&got, matches[i]);
        config_close(&got.config);
    }
    setenv("UPDRAFT_MQTT_PRESET", "homy", 1);
    read_args(&got, "");
    assert_int_equal(got.status, STATUS_INVALID);
    config_close(&got.config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_mismatches),
        IN_FOLDER(test_mismatches_name_where_the_value_came_from),
        IN_FOLDER(test_long_values_leave_room_for_the_remedy),
        IN_FOLDER(test_mismatches_of_what_is_in_effect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
