/* What is taken and yet looks like a mistake. None of it stops a server: a fleet is better served by one that runs. */
#include "server/config_parts.h"

#include "base/nearest.h"
#include "proto/announce.h"
#include "server/broker_url.h"
#include "server/host.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct doubts {
    const struct config *config;
    config_doubt_fn on_doubt;
    void *owner;
};

static void say(const struct doubts *doubts, const char *name, const char *why)
{
    char blame[CONFIG_BLAME_MAX], text[CONFIG_MESSAGE_MAX];
    config_blame(doubts->config, name, blame, sizeof blame);
    snprintf(text, sizeof text, "%s: %s", blame, why);
    doubts->on_doubt(doubts->owner, false, text);
}

/* --- settings without effect -------------------------------------------------------------------------------------- */

static bool is_default(const struct config *config, const struct config_key *key)
{
    struct config fresh;
    memset(&fresh, 0, sizeof fresh);
    if (key->fallback[0] != '\0') {
        (void)config_set(&fresh, key, slice_of(key->fallback));
    }
    return config_same(config, &fresh, key);
}

/* All in one sentence: who takes the broker out of a file for a day wants to be told, and not thirteen times. */
static void doubt_without_broker(const struct doubts *doubts)
{
    static const char *const names[] = { "mqtt-client-id",  "mqtt-version", "mqtt-keep-alive", "mqtt-in-flight",
                                         "mqtt-queue",      "mqtt-preset",  "command-topic",   "device-command-topic",
                                         "command-payload", "status-topic", "online-topic",    "command-retain",
                                         "command-expiry" };
    char text[CONFIG_MESSAGE_MAX];
    size_t used = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!is_default(doubts->config, config_key_find(names[i]))) {
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used > 0 ? ", " : "", names[i]);
        }
    }
    if (used > 0) {
        snprintf(text + used, sizeof text - used, ": without effect, because no broker is named: give --mqtt");
        doubts->on_doubt(doubts->owner, false, text);
    }
}

static void doubt_mqtt(const struct doubts *doubts)
{
    const struct config *config = doubts->config;
    struct broker_url url = { .tls = false };
    char why[300];
    (void)broker_url_read(config->mqtt, &url, why, sizeof why);
    if (url.user[0] != '\0' && config->mqtt_user[0] != '\0') {
        say(doubts, "mqtt-user", "wins over the user in --mqtt: take one of them away");
    }
    if (url.password[0] != '\0' && config->mqtt_password[0] != '\0') {
        say(doubts, "mqtt-password", "wins over the password in --mqtt: take one of them away");
    }
    bool own_topic = config->command_topic[0] != '\0' || config->device_command_topic[0] != '\0';
    if (own_topic && config->command_payload[0] == '\0' && announce_preset(config->mqtt_preset)->part_count > 1) {
        say(doubts, config->command_topic[0] != '\0' ? "command-topic" : "device-command-topic",
            "a topic of your own makes a command one message, and the preset sends several: give --command-payload, "
            "too, or leave topics to the preset");
    }
    if (config->command_retain != 0 && config->command_expiry_ms == 0) {
        say(doubts, "command-retain",
            "with command-expiry 0 a command may stay at the broker for ever, should this server die, and update "
            "whoever connects next year: give --command-expiry");
    }
}

/* Whether others than this machine reach the plain door; one that they do not is for a proxy. */
static bool is_plain_open(const struct config *config)
{
    bool is_open = false;
    for (size_t i = 0; config_is_plain(config) && i < config->listen.count; i++) {
        struct host host;
        const char *text = config->listen.texts[i], *port = strrchr(text, ':');
        struct slice name = { text, port != NULL ? (size_t)(port - text) : 0 };
        bool is_ours = slice_is(name, "localhost") || (host_read(name, &host) && host_is_loopback(&host));
        is_open = is_open || !is_ours;
    }
    return is_open;
}

static void doubt_passwords(const struct doubts *doubts)
{
    if (doubts->config->device_passwords[0] != '\0' && is_plain_open(doubts->config)) {
        say(doubts, "device-passwords",
            "over plain HTTP whoever is in the network can read them: give --tls-listen, and --listen none");
    }
}

/* --- numbers that do not fit together ----------------------------------------------------------------------------- */

/* `name` should not be below `other`; 0 is without end. */
static const struct {
    const char *name, *other;
    bool of_broker;
    const char *why;
} orders[] = {
    { "command-expiry", "mqtt-keep-alive", true, "a command is over before a dead link to the broker is noticed" },
    { "mqtt-queue", "mqtt-in-flight", true, "fewer commands are kept than may be on their way" },
    { "rescan-interval", "settle-time", false,
      "the repository is looked through more often than a file can come to rest" },
};

static void doubt_orders(const struct doubts *doubts)
{
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        const struct config_key *key = config_key_find(orders[i].name), *other = config_key_find(orders[i].other);
        uint64_t number = *config_number(doubts->config, key), floor = *config_number(doubts->config, other);
        if (number == 0 || number >= floor || (orders[i].of_broker && doubts->config->mqtt[0] == '\0')) {
            continue;
        }
        char is[32], least[32], why[300];
        config_number_print(key, number, is, sizeof is);
        config_number_print(other, floor, least, sizeof least);
        snprintf(why, sizeof why, "%s is less than %s, which is %s: %s: raise the one, or lower the other", is,
                 other->name, least, orders[i].why);
        say(doubts, key->name, why);
    }
}

/* With 2000, the default, nobody asked for anything. */
static void doubt_share(const struct doubts *doubts)
{
    const struct config *config = doubts->config;
    const struct config_key *key = config_key_find("peer-connections");
    uint64_t share = config_peer_max(config, config->connections_max);
    char why[300];
    if (config->connections_max != 0 && share < config->peer_connections_max && !is_default(config, key)) {
        snprintf(why, sizeof why,
                 "one address gets %" PRIu64 " at most, three quarters of connections-max, which is %" PRIu64
                 ": raise that, or lower this",
                 share, config->connections_max);
        say(doubts, key->name, why);
    }
}

/* --- variables that nobody reads ---------------------------------------------------------------------------------- */

#define PREFIX "UPDRAFT_"

/* Read by others: the command line, compose.yaml, the scripts and tests of a checkout; and what Kubernetes and Docker's
 * links set in every container beside a service called "updraft" (those with a * begin so). */
static const char *const foreign[] = { "SERVER",    "TOKEN", "TOKEN_FILE", "IMAGE", "BIN",  "BOOTSTRAP",
                                       "SERVICE_*", "PORT",  "PORT_*",     "NAME",  "ENV_*" };

static bool is_foreign(const char *name)
{
    name += strlen(PREFIX);
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        size_t n = strcspn(foreign[i], "*");
        if (strncmp(name, foreign[i], n) == 0 && (foreign[i][n] == '*' || name[n] == '\0')) {
            return true;
        }
    }
    return false;
}

/* The key whose variable it is, with or without _FILE behind it. */
static const struct config_key *key_of_variable(const char *name, bool *is_file)
{
    for (size_t i = 0; i < config_key_count; i++) {
        char variable[CONFIG_VARIABLE_MAX];
        config_variable(&config_keys[i], variable);
        size_t n = strlen(variable);
        *is_file = strncmp(name, variable, n) == 0 && strcmp(name + n, "_FILE") == 0;
        if (*is_file || strcmp(name, variable) == 0) {
            return &config_keys[i];
        }
    }
    return NULL;
}

static void name_nearest(const char *name, char *to, size_t size)
{
    char wanted[CONFIG_VARIABLE_MAX], variables[2][CONFIG_VARIABLE_MAX];
    size_t next = 0;
    snprintf(wanted, sizeof wanted, "%s", name);
    for (char *c = wanted; *c != '\0'; c++) {
        *c = (char)toupper((unsigned char)*c);
    }
    struct nearest nearest = { .wanted = wanted };
    for (size_t i = 0; i < config_key_count; i++) {
        config_variable(&config_keys[i], variables[next]);
        nearest_try(&nearest, variables[next]);
        next = nearest.name == variables[next] ? 1 - next : next; /* the best one so far stays */
    }
    if (nearest.name != NULL) {
        snprintf(to, size, "did you mean %s?", nearest.name);
    } else {
        snprintf(to, size, "updraftd --help lists those that there are");
    }
}

static void doubt_variable(const struct doubts *doubts, const char *entry)
{
    char name[CONFIG_VARIABLE_MAX], shown[4 * CONFIG_VARIABLE_MAX], remedy[160], text[600];
    size_t n = strcspn(entry, "=");
    bool is_file, is_whole = slice_copy((struct slice){ entry, n }, name, sizeof name);
    if (strncmp(entry, PREFIX, strlen(PREFIX)) != 0 || entry[n] == '\0' || entry[n + 1] == '\0' /* not set */) {
        return;
    }
    const struct config_key *key = is_whole ? key_of_variable(name, &is_file) : NULL;
    if ((key != NULL && (!is_file || config_is_secret(key))) || (is_whole && is_foreign(name))) {
        return;
    }
    if (key != NULL) {
        snprintf(remedy, sizeof remedy, "only secrets are read from files of their own: set %.*s",
                 (int)(n - strlen("_FILE")), name);
    } else {
        name_nearest(name, remedy, sizeof remedy);
    }
    text_show((struct slice){ entry, n }, shown, sizeof shown);
    snprintf(text, sizeof text, "%s: no setting is called so, and it has no effect: %s", shown, remedy);
    doubts->on_doubt(doubts->owner, true, text);
}

static void doubt_tls(const struct doubts *doubts)
{
    const struct config *config = doubts->config;
    if (config->tls_client_ca[0] != '\0' && config->tls_client == CONFIG_TLS_CLIENT_REQUIRED &&
        config_is_plain(config)) {
        say(doubts, "tls-client-ca",
            "a certificate is required over TLS, and who has none comes by the plain --listen: give --listen none");
    }
    if (!config_is_plain(config) && strncmp(config->public_url, "http://", strlen("http://")) == 0) {
        say(doubts, "public-url",
            "devices are told http://, and there is no plain door: write https://, unless a proxy takes them in");
    }
    const char *const names[] = { "tls-client", "tls-client-mac" };
    for (size_t i = 0; config->tls_client_ca[0] == '\0' && i < sizeof names / sizeof names[0]; i++) {
        if (!is_default(config, config_key_find(names[i]))) {
            say(doubts, names[i], "without effect, because no device is asked for a certificate: give --tls-client-ca");
        }
    }
}

void config_doubts(const struct config *config, config_doubt_fn on_doubt, void *owner)
{
    struct doubts doubts = { config, on_doubt, owner };
    doubt_tls(&doubts);
    if (config->mqtt[0] == '\0') {
        doubt_without_broker(&doubts);
    } else {
        doubt_mqtt(&doubts);
    }
    doubt_passwords(&doubts);
    doubt_orders(&doubts);
    doubt_share(&doubts);
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        doubt_variable(&doubts, *entry);
    }
}

static void log_doubt(void *owner, bool is_mistake, const char *text)
{
    (void)owner;
    (void)is_mistake;
    LOG_EVENT(LOG_WARN, "config_doubtful", "why", text);
}

void config_log_doubts(const struct config *config)
{
    config_doubts(config, log_doubt, NULL);
}
