/* What is taken and yet looks like a mistake is said, once, and nothing else is. */
#include "tests/unit/server/config_fixture.h"

struct heard {
    size_t count, mistakes;
    char text[4000];
};

static void hear(void *owner, bool is_mistake, const char *text)
{
    struct heard *heard = owner;
    size_t used = strlen(heard->text);
    heard->count++;
    heard->mistakes += is_mistake;
    snprintf(heard->text + used, sizeof heard->text - used, "%s\n", text);
}

static void assert_doubts(const char *args, bool is_mistake, const char *text)
{
    struct reading got;
    struct heard heard = { .count = 0 };
    assert_reads(&got, args);
    config_doubts(&got.config, hear, &heard);
    config_close(&got.config);
    if (heard.count != (text != NULL) || heard.mistakes != (text != NULL && is_mistake) ||
        (text != NULL && strstr(heard.text, text) == NULL)) {
        fail_msg("%s: %zu doubts, %zu mistakes:\n%s", args, heard.count, heard.mistakes, heard.text);
    }
}

static const struct {
    const char *args;
    const char *text; /* NULL = no doubt */
} doubtful[] = {
    { "", NULL },
#define TLS "--tls-listen 0.0.0.0:1 --tls-cert a --tls-key b "
    { TLS, NULL },
    { TLS "--tls-client-ca c --listen none", NULL },
    { TLS "--tls-client-ca c", "--tls-client-ca: a certificate is required over TLS, and who has none comes by the" },
    { TLS "--tls-client-ca c --tls-client optional", NULL },
    { TLS "--listen none --public-url https://a", NULL },
    { TLS "--listen none --public-url http://a", "--public-url: devices are told http://, and there is no plain door" },
    { TLS "--public-url http://a", NULL },
    { TLS "--tls-client-mac required", "--tls-client-mac: without effect, because no device is asked for" },
    { "--device-passwords p", "--device-passwords: over plain HTTP whoever is in the network can read them" },
    { "--device-passwords p --listen 192.168.1.10:80", "can read them" },
    { "--device-passwords p --listen 127.0.0.1:80 --listen :::80", "can read them" },
    { "--device-passwords p --listen 127.0.0.1:80 --listen [::1]:80 --listen localhost:81", NULL },
    { TLS "--device-passwords p", "can read them" },
    { TLS "--device-passwords p --listen none", NULL },
    { "--mqtt mqtt://b", NULL },
    { "--mqtt-version 5 --mqtt-queue 5 --status-topic a/{mac} --command-expiry 2h",
      "mqtt-version, mqtt-queue, status-topic, command-expiry: without effect, because no broker is named: give "
      "--mqtt" },
    { "--mqtt-version auto --command-expiry 60m --mqtt-preset updraft", NULL }, /* as they are by default */
    { "--mqtt mqtt://b --mqtt-version 5 --mqtt-queue 500", NULL },
    { "--mqtt mqtt://ann@b --mqtt-user bob", "--mqtt-user: wins over the user in --mqtt: take one" },
    { "--mqtt mqtt://ann:hunter2@b --mqtt-password hunter3", "--mqtt-password: wins over the password in --mqtt" },
    { "--mqtt mqtt://:hunter2@b --mqtt-user bob", NULL },
    { "--mqtt mqtt://b --mqtt-preset tasmota --command-topic a/{type}", "--command-topic: a topic of your own" },
    { "--mqtt mqtt://b --mqtt-preset tasmota --device-command-topic a/{mac}", "--device-command-topic: a topic of" },
    { "--mqtt mqtt://b --mqtt-preset tasmota --command-topic a/{type} --command-payload {url}", NULL },
    { "--mqtt mqtt://b --command-topic a/{type}", NULL },
    { "--mqtt mqtt://b --command-retain yes --command-expiry 0s", "--command-retain: with command-expiry 0" },
    { "--mqtt mqtt://b --command-retain yes", NULL },
    { "--mqtt mqtt://b --command-expiry 0s", NULL },
    { "--mqtt mqtt://b --command-expiry 29s",
      "--command-expiry: 29s is less than mqtt-keep-alive, which is 30s: a command is over before a dead link to the "
      "broker is noticed: raise the one, or lower the other" },
    { "--mqtt mqtt://b --command-expiry 30s", NULL },
    { "--mqtt mqtt://b --mqtt-queue 63", "--mqtt-queue: 63 is less than mqtt-in-flight, which is 64" },
    { "--settle-time 2s --rescan-interval 1s", "--rescan-interval: 1s is less than settle-time, which is 2s" },
    { "--settle-time 1s --rescan-interval 1s", NULL },
    { "--connections-max 1000 --peer-connections 751", "--peer-connections: one address gets 750 at most, three "
                                                       "quarters of connections-max, which is 1000: raise that" },
    { "--connections-max 1000 --peer-connections 750", NULL },
    { "--connections-max 1000 --peer-connections 0", NULL },
    { "--connections-max 1000", NULL },
    { "--peer-connections 100000", NULL },
};

/* Each is heard once, and none without a reason: who is warned in vain reads no warnings. */
static void test_doubts(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(doubtful); i++) {
        assert_doubts(doubtful[i].args, false, doubtful[i].text);
    }
}

static const struct {
    const char *name, *value;
    const char *text; /* NULL = somebody's */
} variables_of_others[] = {
    { "UPDRAFT_REPOO", "a",
      "UPDRAFT_REPOO: no setting is called so, and it has no effect: did you mean UPDRAFT_REPO?\n" },
    { "UPDRAFT_Listen", "a", "did you mean UPDRAFT_LISTEN?\n" },
    { "UPDRAFT_LOGLEVEL", "a", "did you mean UPDRAFT_LOG_LEVEL?\n" },
    { "UPDRAFT_FROBNICATE", "a", "has no effect: updraftd --help lists those that there are\n" },
    { "UPDRAFT_CHECK_CONFIG", "yes", "UPDRAFT_CHECK_CONFIG: no setting" },
    { "UPDRAFT_", "a", "UPDRAFT_: no setting" },
    { "UPDRAFT_REPO_FILE", "a", "has no effect: only secrets are read from files of their own: set UPDRAFT_REPO\n" },
    { "UPDRAFT_\x1b[2J", "a", "UPDRAFT_\\x1b[2J: no setting" },
    { "UPDRAFT_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "a",
      "no setting" },
    { "UPDRAFT_REPOO", "", NULL }, /* empty is not set */
    { "UPDRAFT_SERVER", "a", NULL },
    { "UPDRAFT_TOKEN", "a", NULL },
    { "UPDRAFT_TOKEN_FILE", "a", NULL },
    { "UPDRAFT_IMAGE", "a", NULL },
    { "UPDRAFT_ADMIN_SOCKET", "a", NULL },
    { "UPDRAFT_SERVICE_HOST", "10.0.0.1", NULL },
    { "UPDRAFT_PORT_8080_TCP_ADDR", "10.0.0.1", NULL },
    { "UPDRAFT_PORT", "tcp://10.0.0.1:8080", NULL },
    { "UPDRAFT_PORTS", "1", "UPDRAFT_PORTS: no setting" },
    { "UPDRAFTY", "1", NULL },
};

/* Else a mistyped variable would leave the default in effect, and nobody would know. */
static void test_variables_that_nobody_reads(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(variables_of_others); i++) {
        setenv(variables_of_others[i].name, variables_of_others[i].value, 1);
        assert_doubts("", true, variables_of_others[i].text);
        unsetenv(variables_of_others[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_doubts),
        IN_FOLDER(test_variables_that_nobody_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
