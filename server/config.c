/* One table of keys, which parsing, printing, help and the comparison at a reload walk; and the sources, of which the
 * stronger win. */
#include "server/config_parts.h"

#include "base/ini.h"
#include "proto/mac_list.h"
#include "proto/signature.h"
#include "server/client_address.h"
#include "server/tls.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_MS 86400000ull

const struct config_key config_keys[] = {
#define FIELD(field) offsetof(struct config, field)
    { "config", KIND_TEXT, FIELD(config), "", 0, 0, true, "FILE",
      "INI file with the keys below; SIGHUP reads it again" },
    { "repo", KIND_TEXT, FIELD(repo), "./firmware", 0, 0, true, "DIR", "firmware repository" },
    { "state", KIND_TEXT, FIELD(state), "./state", 0, 0, true, "DIR", "runtime state; made where its parent is there" },
    { "listen", KIND_LISTEN, FIELD(listen), "0.0.0.0:8080", 0, CONFIG_LISTEN_MAX, true, "ADDR:PORT",
      "plain HTTP for devices; repeatable; port 0 picks one; none = no plain door" },
    { "tls-listen", KIND_LISTEN, FIELD(tls_listen), "", 0, CONFIG_LISTEN_MAX, true, "ADDR:PORT",
      "HTTPS for devices; repeatable; with --tls-cert and --tls-key" },
    { "tls-cert", KIND_FILES, FIELD(tls_certs), "", 0, TLS_CERTS_MAX, false, "FILE",
      "our certificate and its chain, PEM; repeatable: one ECDSA, one RSA" },
    { "tls-key", KIND_FILES, FIELD(tls_keys), "", 0, TLS_CERTS_MAX, false, "FILE",
      "the key of each certificate, in the same order, PEM" },
    { "tls-client-ca", KIND_TEXT, FIELD(tls_client_ca), "", 0, 0, false, "FILE",
      "authorities of devices' certificates, or these themselves; default: nobody is asked" },
    { "tls-client", KIND_CHOICE, FIELD(tls_client), "required", 0, 0, false, "required|optional",
      "whether a device must show a certificate of --tls-client-ca" },
    { "tls-client-mac", KIND_CHOICE, FIELD(tls_client_mac), "named", 0, 0, false, "named|required|any",
      "whether a MAC in a certificate binds it, must be there, or is nothing" },
    { "tls-ciphers", KIND_TEXT, FIELD(tls_ciphers), "DEFAULT", 0, 0, false, "LIST",
      "cipher suites of TLS 1.2, openssl-ciphers(1)" },
    { "tls-record-size", KIND_SIZE, FIELD(tls_record_bytes), "16K", 512, 16384, false, "SIZE",
      "largest TLS record sent; a device that asks for smaller ones gets them" },
    { "tls-handshakes", KIND_COUNT, FIELD(tls_handshakes_max), "1000", 1, 1000000, false, "N",
      "TLS handshakes under way at once; who comes beyond is turned away" },
    { "device-passwords", KIND_TEXT, FIELD(device_passwords), "", 0, 0, false, "FILE",
      "users whose passwords devices must send (updraft device-password); default: none" },
    { "signing-key", KIND_FILES, FIELD(signing_keys), "", 0, SIGNATURE_KEYS_MAX, false, "FILE",
      "public key, PEM; repeatable: images without a valid signature by one of them are rejected" },
    { "user", KIND_TEXT, FIELD(user), "", 0, 0, true, "NAME",
      "started as root: whom to become once the addresses are taken" },
    { "sandbox", KIND_CHOICE, FIELD(sandbox), "auto", 0, 0, true, "auto|on|off",
      "confine the process; auto = by what the kernel has, on = by all, or no start" },
    { "sandbox-read", KIND_FILES, FIELD(sandbox_read), "", 0, CONFIG_LIST_MAX, true, "DIR",
      "may be read too: where links in the repository lead out of it; repeatable" },
    { "trusted-proxy", KIND_NETWORKS, FIELD(trusted_proxies), "", 0, CLIENT_NETWORKS_MAX, false, "CIDR",
      "a proxy whose X-Forwarded-For or Forwarded is believed; repeatable (default: none)" },
    { "block-network", KIND_NETWORKS, FIELD(block_networks), "", 0, CLIENT_NETWORKS_MAX, false, "CIDR",
      "devices there are answered 403; repeatable; wins over --allow-network" },
    { "allow-network", KIND_NETWORKS, FIELD(allow_networks), "", 0, CLIENT_NETWORKS_MAX, false, "CIDR",
      "devices anywhere else are answered 403; repeatable (default: all are served)" },
    { "block-mac", KIND_MACS, FIELD(block_macs), "", 0, MAC_LIST_MAX, false, "MAC",
      "a MAC, or how MACs begin, such as 5c:cf:7f: these devices are answered 403; repeatable" },
    { "allow-mac", KIND_MACS, FIELD(allow_macs), "", 0, MAC_LIST_MAX, false, "MAC",
      "others, and who names no MAC, are answered 403; repeatable (default: all are served)" },
    { "public-url", KIND_TEXT, FIELD(public_url), "", 0, 0, false, "URL",
      "what devices are told to fetch from (default: worked out from the addresses in use)" },
    { "mqtt", KIND_SECRET_URL, FIELD(mqtt), "", 0, 0, true, "URL",
      "broker: mqtt://[user:pass@]host[:1883] or mqtts://host[:8883]; none = pull only" },
    { "mqtt-user", KIND_TEXT, FIELD(mqtt_user), "", 0, 0, true, "NAME", "user at the broker" },
    { "mqtt-password", KIND_SECRET, FIELD(mqtt_password), "", 0, 0, true, "TEXT",
      "its password; flags can be seen by all, so rather UPDRAFT_MQTT_PASSWORD_FILE" },
    { "mqtt-ca", KIND_TEXT, FIELD(mqtt_ca), "", 0, 0, true, "FILE",
      "certificates of authorities that mqtts:// trusts (default: the system's)" },
    { "mqtt-cert", KIND_TEXT, FIELD(mqtt_cert), "", 0, 0, true, "FILE", "our certificate for the broker" },
    { "mqtt-key", KIND_TEXT, FIELD(mqtt_key), "", 0, 0, true, "FILE", "its key" },
    { "mqtt-client-id", KIND_TEXT, FIELD(mqtt_client_id), "", 0, 0, true, "ID",
      "client id at the broker (default: a random one each start)" },
    { "mqtt-version", KIND_CHOICE, FIELD(mqtt_version), "auto", 0, 0, true, "auto|3.1.1|5",
      "MQTT version; auto = 5, or 3.1.1 where the broker knows no other" },
    { "mqtt-keep-alive", KIND_DURATION, FIELD(mqtt_keep_alive_ms), "30s", 1000, 3600000, true, "TIME",
      "how often a silent link is proved alive" },
    { "mqtt-in-flight", KIND_COUNT, FIELD(mqtt_in_flight), "64", 1, 1000, true, "N",
      "messages sent before the first is acknowledged; never more than the broker allows" },
    { "mqtt-queue", KIND_COUNT, FIELD(mqtt_queue), "20000", 1, 200000, true, "N",
      "commands kept while the broker is away" },
    { "mqtt-preset", KIND_TEXT, FIELD(mqtt_preset), "updraft", 0, 0, true, "NAME",
      "topics and payloads of a firmware: updraft, tasmota or homie" },
    { "command-topic", KIND_TEXT, FIELD(command_topic), "", 0, 0, true, "TEMPLATE",
      "where a type is told, such as updraft/{type}/update (default: the preset's)" },
    { "device-command-topic", KIND_TEXT, FIELD(device_command_topic), "", 0, 0, true, "TEMPLATE",
      "where one device is told, such as updraft/{type}/{mac}/update (default: the preset's)" },
    { "command-payload", KIND_TEXT, FIELD(command_payload), "", 0, 0, true, "TEMPLATE",
      "what they are told, with places such as {url} {version} {id}; the manual lists them" },
    { "status-topic", KIND_TEXT, FIELD(status_topic), "", 0, 0, true, "TEMPLATE",
      "where devices report, such as updraft/{type}/{mac}/status (default: the preset's)" },
    { "online-topic", KIND_TEXT, FIELD(online_topic), "", 0, 0, true, "TEMPLATE",
      "where devices say that they are there (default: the preset's)" },
    { "command-retain", KIND_BOOL, FIELD(command_retain), "no", 0, 0, true, "yes|no",
      "commands are retained while their rollout is under way" },
    { "command-expiry", KIND_DURATION, FIELD(command_expiry_ms), "1h", 0, 30ull * DAY_MS, true, "TIME",
      "how long a command is good for, here and (MQTT 5) at the broker; 0 = without end" },
    { "admin-socket", KIND_TEXT, FIELD(admin_socket), "", 0, 0, true, "PATH",
      "Unix socket of the admin API (default: STATE/admin.sock), mode 0660" },
    { "admin-listen", KIND_TEXT, FIELD(admin_listen), "", 0, 0, true, "ADDR:PORT",
      "admin API and metrics over TCP; needs a token (updraft token new); off by default" },
    { "drain-timeout", KIND_DURATION, FIELD(drain_timeout_ms), "30s", 0, DAY_MS, false, "TIME",
      "how long transfers may go on after SIGTERM" },
    { "head-timeout", KIND_DURATION, FIELD(head_timeout_ms), "10s", 100, DAY_MS, false, "TIME",
      "until a request's head must be whole" },
    { "idle-timeout", KIND_DURATION, FIELD(idle_timeout_ms), "30s", 100, DAY_MS, false, "TIME",
      "how long a connection may rest between requests" },
    { "transfer-timeout", KIND_DURATION, FIELD(transfer_timeout_ms), "60s", 400, DAY_MS, false, "TIME",
      "how long an answer may go on without progress" },
    { "connections-max", KIND_COUNT, FIELD(connections_max), "0", 0, 1000000, false, "N",
      "connections at once; 0 = as many as the descriptor limit allows" },
    { "peer-connections", KIND_COUNT, FIELD(peer_connections_max), "2000", 0, 1000000, false, "N",
      "devices' connections from one address (of IPv6: one /64) at once; 0 = any number" },
    { "settle-time", KIND_DURATION, FIELD(settle_ms), "400ms", 0, 60000, false, "TIME",
      "how long a file must have been unchanged to be served" },
    { "rescan-interval", KIND_DURATION, FIELD(rescan_ms), "60s", 1000, DAY_MS, false, "TIME",
      "full look at the repository even without an event (network drives send none)" },
    { "image-memory", KIND_SIZE, FIELD(image_memory_bytes), "256M", 32u << 20, 1ull << 40, false, "SIZE",
      "memory for the bytes of images being served" },
    { "image-idle", KIND_DURATION, FIELD(image_idle_ms), "60s", 0, DAY_MS, false, "TIME",
      "how long the bytes of an image stay in memory after use" },
    { "loop-guard", KIND_COUNT, FIELD(loop_guard_max), "3", 1, 1000, false, "N",
      "whole transfers of one image to one device before it has to wait" },
    { "offer", KIND_CHOICE, FIELD(offer), "newest", 0, 0, false, "newest|published",
      "new images are for whoever asks, or once published; by type: section [offer]" },
    { "unknown-devices", KIND_CHOICE, FIELD(unknown_devices), "allow", 0, 0, false, "allow|hold|refuse",
      "devices that nobody approved: served, held (304), or refused (403)" },
    { "store", KIND_CHOICE, FIELD(store), "sqlite", 0, 0, true, "sqlite|none",
      "where devices and rollouts are remembered; none = until the server ends" },
    { "reboot-timeout", KIND_DURATION, FIELD(reboot_timeout_ms), "180s", 1000, 7 * DAY_MS, false, "TIME",
      "from a device's image to its next check, before it counts as silent" },
    { "site-in-flight", KIND_COUNT, FIELD(site_in_flight), "0", 0, 200000, false, "N",
      "devices of one site being updated at once; 0 = no cap" },
    { "max-failures", KIND_PERCENT, FIELD(max_failures_percent), "20%", 0, 100, false, "PERCENT",
      "failures among the finished devices at which a rollout halts" },
    { "fs-gzip", KIND_BOOL, FIELD(fs_gzip), "no", 0, 0, false, "yes|no",
      "sketches in use inflate compressed file systems (ATOMIC_FS_UPDATE)" },
    { "log-level", KIND_LEVEL, FIELD(log_level), "info", 0, 0, false, "LEVEL", "error, warn, info or debug" },
    { "log-format", KIND_FORMAT, FIELD(log_format), "logfmt", 0, 0, false, "FORMAT", "logfmt or json" },
#undef FIELD
};

#define KEY_COUNT (sizeof config_keys / sizeof config_keys[0])

const size_t config_key_count = KEY_COUNT;

const struct config_flag config_flags[] = {
    { "check-config", CONFIG_CHECK, "read the configuration, print what is in effect, exit 0 or 1" },
    { "version", CONFIG_VERSION, "print the version" },
    { "help", CONFIG_HELP, "print this" },
};

#define FLAG_COUNT (sizeof config_flags / sizeof config_flags[0])

const size_t config_flag_count = FLAG_COUNT;

const struct config_key *config_key_find(const char *name)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (strcmp(config_keys[i].name, name) == 0) {
            return &config_keys[i];
        }
    }
    return NULL;
}

/* --- the sources, weakest first ----------------------------------------------------------------------------------- */

static enum status set(struct config *config, const struct config_key *key, const char *value,
                       struct config_source source, char *why, size_t size)
{
    struct slice text = slice_trim(slice_of(value));
    struct config_source *before = &config->sources[key - config_keys];
    struct config_list *list = config_is_list(key) ? config_list(config, key) : NULL;
    if (list != NULL && before->origin != source.origin) {
        list->count = 0; /* a stronger source replaces the list of a weaker one */
    }
    bool good = config_set(config, key, text);
    if (good && list != NULL) {
        list->lines[list->count - 1] = source.line;
    }
    *before = source;
    if (!good) {
        char wanted[240], shown[128];
        config_describe(key, wanted, sizeof wanted);
        text_escape(!config_is_secret(key) ? text : slice_of("(hidden)"), shown, sizeof shown);
        snprintf(why, size, "%s: \"%s\" is not usable: %s", key->name, shown, wanted);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

static void set_defaults(struct config *config)
{
    char why[256];
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (config_keys[i].fallback[0] != '\0') {
            struct config_source source = { .origin = CONFIG_OF_DEFAULT };
            enum status status = set(config, &config_keys[i], config_keys[i].fallback, source, why, sizeof why);
            assert(status == STATUS_OK);
            (void)status;
        }
    }
}

static enum status add_to_table(struct config *config, bool is_offer, const struct ini_pair *pair, char *why,
                                size_t size)
{
    const char *reason = "";
    struct slice key = slice_of(pair->key), value = slice_of(pair->value);
    enum status status = is_offer ? offerings_add_line(config->offerings, key, slice_trim(value), &reason)
                                  : assignments_add_line(config->assignments, key, value, &reason);
    if (status != STATUS_OK) {
        snprintf(why, size, "%s: %s", pair->key, reason);
    }
    return status;
}

static enum status on_pair(void *owner, const struct ini_pair *pair, char *why, size_t size)
{
    struct config *config = owner;
    bool is_offer = strcmp(pair->section, "offer") == 0;
    char shown[128];
    if (is_offer || strcmp(pair->section, "assign") == 0) {
        return add_to_table(config, is_offer, pair, why, size);
    }
    if (pair->section[0] != '\0') {
        text_show(slice_of(pair->section), shown, sizeof shown);
        snprintf(why, size,
                 "section [%s] is not known: keys stand before any section, devices in [assign], types in [offer]",
                 shown);
        return STATUS_INVALID;
    }
    const struct config_key *key = config_key_find(pair->key);
    if (key == NULL || strcmp(pair->key, "config") == 0) {
        text_show(slice_of(pair->key), shown, sizeof shown);
        snprintf(why, size, "key \"%s\" is not known: see updraftd --help for those that are", shown);
        return STATUS_INVALID;
    }
    struct config_source source = { CONFIG_OF_FILE, pair->line };
    return set(config, key, pair->value, source, why, size);
}

void config_variable(const struct config_key *key, char name[CONFIG_VARIABLE_MAX])
{
    snprintf(name, CONFIG_VARIABLE_MAX, "UPDRAFT_%s", key->name);
    for (char *c = name; *c != '\0'; c++) {
        *c = (char)(*c == '-' ? '_' : toupper((unsigned char)*c));
    }
}

/* One variable's value; of a list, which is separated by commas, each in turn. */
static enum status set_from_environment(struct config *config, const struct config_key *key, const char *name,
                                        const char *value, enum config_origin origin, char *message, size_t size)
{
    char why[400], list[CONFIG_TEXT_MAX * 2];
    enum status status = STATUS_TOO_LONG;
    snprintf(why, sizeof why, "longer than %zu characters", sizeof list - 1);
    if (slice_copy(slice_of(value), list, sizeof list)) {
        char *rest = list;
        do {
            char *piece = config_is_list(key) ? strsep(&rest, ",") : rest;
            status = set(config, key, piece, (struct config_source){ .origin = origin }, why, sizeof why);
        } while (status == STATUS_OK && config_is_list(key) && rest != NULL);
    }
    if (status != STATUS_OK) {
        snprintf(message, size, "%s: %s", name, why);
    }
    return status;
}

/* A secret in a file of its own, as container engines hand them over: its first line. */
static enum status read_secret(const char *name, const char *path, char *value, size_t value_size, char *message,
                               size_t size)
{
    struct stat found;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe would hold a reload, and the loop with it */
    FILE *file = fd >= 0 && fstat(fd, &found) == 0 && S_ISREG(found.st_mode) ? fdopen(fd, "r") : NULL;
    if (file == NULL) {
        snprintf(message, size, "%s: %s: %s: name a file that the server's user can read", name, path,
                 fd >= 0 ? "not a plain file" : strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return fd >= 0 ? STATUS_INVALID : status_from_errno(errno);
    }
    bool good = fgets(value, (int)value_size, file) != NULL;
    bool failed = ferror(file) != 0;
    fclose(file);
    value[good ? strcspn(value, "\r\n") : 0] = '\0';
    if (failed || value[0] == '\0') {
        snprintf(message, size, "%s: %s: nothing in its first line: write the secret there", name, path);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

static enum status read_variable(struct config *config, const struct config_key *key, char *message, size_t size)
{
    char name[CONFIG_VARIABLE_MAX], secret[CONFIG_TEXT_MAX + 1]; /* one that is too long is seen to be */
    config_variable(key, name);
    const char *value = getenv(name);
    bool has_value = value != NULL && value[0] != '\0';
    if (config_is_secret(key)) {
        char file_name[72];
        snprintf(file_name, sizeof file_name, "%s_FILE", name);
        const char *path = getenv(file_name);
        if (path != NULL && path[0] != '\0') {
            if (has_value) {
                snprintf(message, size, "%s and %s are both set: keep one of them", name, file_name);
                return STATUS_INVALID;
            }
            enum status status = read_secret(file_name, path, secret, sizeof secret, message, size);
            return status == STATUS_OK
                       ? set_from_environment(config, key, file_name, secret, CONFIG_OF_SECRET_FILE, message, size)
                       : status;
        }
    }
    return has_value ? set_from_environment(config, key, name, value, CONFIG_OF_VARIABLE, message, size) : STATUS_OK;
}

static enum status read_environment(struct config *config, char *message, size_t size)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < KEY_COUNT && status == STATUS_OK; i++) {
        status = read_variable(config, &config_keys[i], message, size);
    }
    return status;
}

/* Walks the flags; with `config` NULL it only looks for --config, which must be known before the file is read. */
static enum status read_flags(struct config *config, int argc, char *const *argv, const char **file,
                              enum config_action *action, char *message, size_t size)
{
    struct option options[KEY_COUNT + FLAG_COUNT + 1] = { { NULL, 0, NULL, 0 } };
    for (size_t i = 0; i < KEY_COUNT; i++) {
        options[i] = (struct option){ config_keys[i].name, required_argument, NULL, 0 };
    }
    for (size_t i = 0; i < FLAG_COUNT; i++) {
        options[KEY_COUNT + i] = (struct option){ config_flags[i].name, no_argument, NULL, 0 };
    }
    int index;
    optind = 0; /* getopt starts anew */
    opterr = 0;
    int at = 1; /* of the argument under way; `+`: in their order, so that this is the one which a mistake is in */
    for (int c; index = -1, (c = getopt_long(argc, argv, "+", options, &index)) != -1; at = optind) {
        if (c != 0 || index < 0) {
            snprintf(message, size, "%s: not known, or its value is missing: see updraftd --help", argv[at]);
            return STATUS_INVALID;
        }
        if ((size_t)index >= KEY_COUNT) {
            *action = config_flags[(size_t)index - KEY_COUNT].action;
        } else if (strcmp(config_keys[index].name, "config") == 0) {
            *file = optarg;
        }
        char why[400];
        if ((size_t)index < KEY_COUNT && config != NULL &&
            set(config, &config_keys[index], optarg, (struct config_source){ .origin = CONFIG_OF_FLAG }, why,
                sizeof why) != STATUS_OK) {
            snprintf(message, size, "--%s", why);
            return STATUS_INVALID;
        }
    }
    if (optind < argc) {
        snprintf(message, size, "%s: only flags are taken: see updraftd --help", argv[optind]);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

static enum status read_assignments(struct config *config, char *message, size_t size)
{
    char path[CONFIG_TEXT_MAX + 32];
    snprintf(path, sizeof path, "%s/assignments.ini", config->state);
    enum status status = assignments_load(config->assignments, path, message, size);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status config_read(struct config *config, int argc, char *const *argv, enum config_action *action, char *message,
                        size_t size)
{
    static_assert(KEY_COUNT <= sizeof config->sources / sizeof config->sources[0], "room for every key's source");
    memset(config, 0, sizeof *config);
    config->assignments = assignments_new();
    config->offerings = offerings_new(OFFER_NEWEST_TO_ALL);
    *action = CONFIG_RUN;
    const char *file = getenv("UPDRAFT_CONFIG");
    set_defaults(config);
    enum status status = read_flags(NULL, argc, argv, &file, action, message, size);
    if (status != STATUS_OK || *action == CONFIG_HELP || *action == CONFIG_VERSION) {
        return status;
    }
    if (file != NULL && file[0] != '\0') {
        char why[512];
        status = ini_read(file, on_pair, config, why, sizeof why);
        if (status != STATUS_OK) {
            bool missing = status == STATUS_NOT_FOUND || status == STATUS_DENIED;
            snprintf(message, size, "--config %s%s", why,
                     missing ? ": name a file that the server's user can read" : "");
        }
    }
    if (status == STATUS_OK) {
        status = read_environment(config, message, size);
    }
    if (status == STATUS_OK) {
        status = read_flags(config, argc, argv, &file, action, message, size);
    }
    if (status == STATUS_OK) {
        status = config_check(config, message, size);
    }
    offerings_set_fallback(config->offerings, (enum offering)config->offer); /* now that all sources are read */
    config->file_assignments = assignments_count(config->assignments);
    return status == STATUS_OK ? read_assignments(config, message, size) : status;
}

void config_close(struct config *config)
{
    if (config->assignments != NULL) {
        assignments_free(config->assignments);
        config->assignments = NULL;
    }
    offerings_free(config->offerings);
    config->offerings = NULL;
}

void config_keep_fixed(struct config *config, const struct config *before, char *names, size_t size)
{
    size_t used = 0;
    names[0] = '\0';
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        if (!key->fixed || config_same(config, before, key)) {
            continue;
        }
        if (used < size) {
            used += (size_t)snprintf(names + used, size - used, "%s%s", used > 0 ? ", " : "", key->name);
        }
        config->sources[i] = before->sources[i];
        config_copy(config, before, key);
    }
}
