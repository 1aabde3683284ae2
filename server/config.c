/* One table of keys; parsing, printing, help and the comparison at a reload walk it. */
#include "server/config.h"

#include "base/ini.h"
#include "proto/announce.h"
#include "proto/template.h"
#include "server/broker_url.h"
#include "server/public_url.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind {
    KIND_TEXT,
    KIND_SECRET,     /* a text that is never printed; UPDRAFT_…_FILE names a file that holds it */
    KIND_SECRET_URL, /* the same, shown without user and password */
    KIND_LISTEN,
    KIND_DURATION,
    KIND_SIZE,
    KIND_COUNT,
    KIND_BOOL,
    KIND_CHOICE, /* one of the words of `argument`; its place is the number */
    KIND_LEVEL,
    KIND_FORMAT,
};

#define DAY_MS 86400000u

static const struct key {
    const char *name; /* --name, UPDRAFT_NAME, `name =` */
    enum kind kind;
    size_t offset;
    const char *fallback;
    uint64_t min, max;
    bool fixed; /* read at start only */
    const char *argument;
    const char *help;
} keys[] = {
#define FIELD(field) offsetof(struct config, field)
    { "config", KIND_TEXT, FIELD(config), "", 0, 0, true, "FILE",
      "INI file with the keys below; SIGHUP reads it again" },
    { "repo", KIND_TEXT, FIELD(repo), "./firmware", 0, 0, true, "DIR", "firmware repository" },
    { "state", KIND_TEXT, FIELD(state), "./state", 0, 0, true, "DIR", "runtime state; made where its parent is there" },
    { "listen", KIND_LISTEN, FIELD(listen), "0.0.0.0:8080", 0, 0, true, "ADDR:PORT",
      "plain HTTP for devices; repeatable; port 0 picks one" },
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
    { "fs-gzip", KIND_BOOL, FIELD(fs_gzip), "no", 0, 0, false, "yes|no",
      "sketches in use inflate compressed file systems (ATOMIC_FS_UPDATE)" },
    { "log-level", KIND_LEVEL, FIELD(log_level), "info", 0, 0, false, "LEVEL", "error, warn, info or debug" },
    { "log-format", KIND_FORMAT, FIELD(log_format), "logfmt", 0, 0, false, "FORMAT", "logfmt or json" },
#undef FIELD
};

#define KEY_COUNT (sizeof keys / sizeof keys[0])

static const struct {
    const char *name;
    enum config_action action;
    const char *help;
} actions[] = {
    { "check-config", CONFIG_CHECK, "read the configuration, print what is in effect, exit 0 or 1" },
    { "version", CONFIG_VERSION, "print the version" },
    { "help", CONFIG_HELP, "print this" },
};

#define ACTION_COUNT (sizeof actions / sizeof actions[0])

/* --- one value ---------------------------------------------------------------------------------------------------- */

static bool is_secret(const struct key *key)
{
    return key->kind == KIND_SECRET || key->kind == KIND_SECRET_URL;
}

static bool is_text(const struct key *key)
{
    return key->kind == KIND_TEXT || is_secret(key);
}

static uint64_t *number_of(const struct config *config, const struct key *key)
{
    return (uint64_t *)((uintptr_t)config + key->offset);
}

static char *text_of(const struct config *config, const struct key *key)
{
    return (char *)((uintptr_t)config + key->offset);
}

static bool is_address(struct slice value)
{
    size_t port_at = value.len;
    uint64_t port;
    while (port_at > 0 && value.at[port_at - 1] != ':') {
        port_at--;
    }
    return port_at > 1 && number_parse((struct slice){ value.at + port_at, value.len - port_at }, 65535, &port);
}

/* The words of a choice stand in `argument`, separated by `|`: the number is the word's place. */
static bool find_choice(const struct key *key, struct slice value, uint64_t *number)
{
    const char *word = key->argument;
    for (uint64_t i = 0;; i++) {
        size_t n = strcspn(word, "|");
        if (value.len == n && memcmp(value.at, word, n) == 0) {
            *number = i;
            return true;
        }
        if (word[n] == '\0') {
            return false;
        }
        word += n + 1;
    }
}

static void print_choice(const struct key *key, uint64_t number, char *to, size_t size)
{
    const char *word = key->argument;
    while (number-- > 0) {
        word += strcspn(word, "|") + 1;
    }
    snprintf(to, size, "%.*s", (int)strcspn(word, "|"), word);
}

static bool set_number(struct config *config, const struct key *key, struct slice value)
{
    uint64_t number = 0;
    enum log_level level;
    enum log_format format;
    bool good = false;
    switch (key->kind) {
    case KIND_DURATION:
        good = duration_parse(value, key->max, &number) && number >= key->min;
        break;
    case KIND_SIZE:
        good = size_parse(value, key->max, &number) && number >= key->min;
        break;
    case KIND_COUNT:
        good = number_parse(value, key->max, &number) && number >= key->min;
        break;
    case KIND_BOOL:
        number = slice_is(value, "yes");
        good = number == 1 || slice_is(value, "no");
        break;
    case KIND_CHOICE:
        good = find_choice(key, value, &number);
        break;
    case KIND_LEVEL:
        good = log_level_parse(value, &level);
        number = good ? level : 0;
        break;
    case KIND_FORMAT:
        good = log_format_parse(value, &format);
        number = good ? format : 0;
        break;
    default:
        break;
    }
    if (good) {
        *number_of(config, key) = number;
    }
    return good;
}

static void print_number(const struct key *key, uint64_t number, char *to, size_t size)
{
    switch (key->kind) {
    case KIND_DURATION:
        duration_print(number, to, size);
        break;
    case KIND_SIZE:
        size_print(number, to, size);
        break;
    case KIND_BOOL:
        snprintf(to, size, "%s", number ? "yes" : "no");
        break;
    case KIND_CHOICE:
        print_choice(key, number, to, size);
        break;
    case KIND_LEVEL:
        snprintf(to, size, "%s", log_level_name((enum log_level)number));
        break;
    case KIND_FORMAT:
        snprintf(to, size, "%s", log_format_name((enum log_format)number));
        break;
    default:
        snprintf(to, size, "%" PRIu64, number);
    }
}

/* What a value must look like, for the complaint. */
static void describe_key(const struct key *key, char *to, size_t size)
{
    char least[24], most[24];
    print_number(key, key->min, least, sizeof least);
    print_number(key, key->max, most, sizeof most);
    switch (key->kind) {
    case KIND_DURATION:
        snprintf(to, size, "give a time from %s to %s, such as 500ms, 10s or 5m", least, most);
        break;
    case KIND_SIZE:
        snprintf(to, size, "give a size from %s to %s, such as 64M", least, most);
        break;
    case KIND_COUNT:
        snprintf(to, size, "give a number from %s to %s", least, most);
        break;
    case KIND_LISTEN:
        snprintf(to, size, "give an address and a port, such as 0.0.0.0:8080 or [::]:8080; at most %d of them",
                 CONFIG_LISTEN_MAX);
        break;
    case KIND_TEXT:
    case KIND_SECRET:
    case KIND_SECRET_URL:
        snprintf(to, size, "give a text of 1 to %d bytes", CONFIG_TEXT_MAX - 1);
        break;
    default:
        snprintf(to, size, "give %s",
                 key->kind == KIND_BOOL     ? "yes or no"
                 : key->kind == KIND_CHOICE ? key->argument
                                            : key->help);
    }
}

static bool add_listen(struct config *config, struct slice value)
{
    if (config->listen_count == CONFIG_LISTEN_MAX || !is_address(value)) {
        return false;
    }
    return slice_copy(value, config->listen[config->listen_count++], sizeof config->listen[0]);
}

static enum status set(struct config *config, const struct key *key, const char *value, const char *source, char *why,
                       size_t size)
{
    struct slice text = slice_trim(slice_of(value));
    size_t index = (size_t)(key - keys);
    bool good;
    if (key->kind == KIND_LISTEN) {
        if (config->sources[index] != source) {
            config->listen_count = 0; /* a stronger source replaces the list of a weaker one */
        }
        good = add_listen(config, text);
    } else if (is_text(key)) {
        good = text.len > 0 && slice_copy(text, text_of(config, key), CONFIG_TEXT_MAX);
    } else {
        good = set_number(config, key, text);
    }
    config->sources[index] = source;
    if (!good) {
        char wanted[160], shown[128];
        describe_key(key, wanted, sizeof wanted);
        text_escape(!is_secret(key) ? text : slice_of("(hidden)"), shown, sizeof shown);
        snprintf(why, size, "%s: \"%s\" is not usable: %s", key->name, shown, wanted);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

static const struct key *find_key(const char *name)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (strcmp(keys[i].name, name) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

/* --- the sources, weakest first ----------------------------------------------------------------------------------- */

static const char from_default[] = "default";
static const char from_file[] = "file";
static const char from_environment[] = "environment";
static const char from_flag[] = "flag";

static void set_defaults(struct config *config)
{
    char why[256];
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (keys[i].fallback[0] != '\0') {
            enum status status = set(config, &keys[i], keys[i].fallback, from_default, why, sizeof why);
            assert(status == STATUS_OK);
            (void)status;
        }
        config->sources[i] = from_default;
    }
}

static enum status on_line(void *owner, const char *section, const char *name, const char *value, char *why,
                           size_t size)
{
    struct config *config = owner;
    if (strcmp(section, "assign") == 0) {
        const char *reason = "";
        enum status status = assignments_add_line(config->assignments, slice_of(name), slice_of(value), &reason);
        if (status != STATUS_OK) {
            snprintf(why, size, "%s: %s", name, reason);
        }
        return status;
    }
    char shown[128];
    if (section[0] != '\0') {
        text_escape(slice_of(section), shown, sizeof shown);
        snprintf(why, size, "section [%s] is not known: keys stand before any section, devices in [assign]", shown);
        return STATUS_INVALID;
    }
    const struct key *key = find_key(name);
    if (key == NULL || strcmp(name, "config") == 0) {
        text_escape(slice_of(name), shown, sizeof shown);
        snprintf(why, size, "key \"%s\" is not known: see updraftd --help for those that are", shown);
        return STATUS_INVALID;
    }
    return set(config, key, value, from_file, why, size);
}

static void variable_name(const struct key *key, char name[64])
{
    snprintf(name, 64, "UPDRAFT_%s", key->name);
    for (char *c = name; *c != '\0'; c++) {
        *c = (char)(*c == '-' ? '_' : toupper((unsigned char)*c));
    }
}

/* One variable's value; of a list, which is separated by commas, each in turn. */
static enum status set_from_environment(struct config *config, const struct key *key, const char *name,
                                        const char *value, char *message, size_t size)
{
    char why[400], list[CONFIG_TEXT_MAX * 2];
    enum status status = STATUS_TOO_LONG;
    snprintf(why, sizeof why, "longer than %zu characters", sizeof list - 1);
    if (slice_copy(slice_of(value), list, sizeof list)) {
        char *rest = list;
        do {
            char *piece = key->kind == KIND_LISTEN ? strsep(&rest, ",") : rest;
            status = set(config, key, piece, from_environment, why, sizeof why);
        } while (status == STATUS_OK && key->kind == KIND_LISTEN && rest != NULL);
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

static enum status read_variable(struct config *config, const struct key *key, char *message, size_t size)
{
    char name[64], secret[CONFIG_TEXT_MAX + 1]; /* one that is too long is seen to be */
    variable_name(key, name);
    const char *value = getenv(name);
    bool has_value = value != NULL && value[0] != '\0';
    if (is_secret(key)) {
        char file_name[72];
        snprintf(file_name, sizeof file_name, "%s_FILE", name);
        const char *path = getenv(file_name);
        if (path != NULL && path[0] != '\0') {
            if (has_value) {
                snprintf(message, size, "%s and %s are both set: keep one of them", name, file_name);
                return STATUS_INVALID;
            }
            enum status status = read_secret(file_name, path, secret, sizeof secret, message, size);
            return status == STATUS_OK ? set_from_environment(config, key, file_name, secret, message, size) : status;
        }
    }
    return has_value ? set_from_environment(config, key, name, value, message, size) : STATUS_OK;
}

static enum status read_environment(struct config *config, char *message, size_t size)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < KEY_COUNT && status == STATUS_OK; i++) {
        status = read_variable(config, &keys[i], message, size);
    }
    return status;
}

/* Walks the flags; with `config` NULL it only looks for --config, which must be known before the file is read. */
static enum status read_flags(struct config *config, int argc, char *const *argv, const char **file,
                              enum config_action *action, char *message, size_t size)
{
    struct option options[KEY_COUNT + ACTION_COUNT + 1] = { { NULL, 0, NULL, 0 } };
    for (size_t i = 0; i < KEY_COUNT; i++) {
        options[i] = (struct option){ keys[i].name, required_argument, NULL, 0 };
    }
    for (size_t i = 0; i < ACTION_COUNT; i++) {
        options[KEY_COUNT + i] = (struct option){ actions[i].name, no_argument, NULL, 0 };
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
            *action = actions[(size_t)index - KEY_COUNT].action;
        } else if (strcmp(keys[index].name, "config") == 0) {
            *file = optarg;
        }
        char why[400];
        if ((size_t)index < KEY_COUNT && config != NULL &&
            set(config, &keys[index], optarg, from_flag, why, sizeof why) != STATUS_OK) {
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

/* --- what no key can tell alone ----------------------------------------------------------------------------------- */

/* Each of these texts has a grammar of its own. */
static enum status check_templates(const struct config *config, char *message, size_t size)
{
    const struct {
        const char *key;
        const char *text;
        enum template_use use;
    } rows[] = {
        { "command-topic", config->command_topic, TEMPLATE_TOPIC_TYPE },
        { "device-command-topic", config->device_command_topic, TEMPLATE_TOPIC_DEVICE },
        { "command-payload", config->command_payload, TEMPLATE_PAYLOAD },
        { "status-topic", config->status_topic, TEMPLATE_TOPIC_FROM },
        { "online-topic", config->online_topic, TEMPLATE_TOPIC_FROM },
    };
    char why[300];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].text[0] != '\0' && template_check(rows[i].text, rows[i].use, why, sizeof why) != STATUS_OK) {
            snprintf(message, size, "--%s %s: %s", rows[i].key, rows[i].text, why);
            return STATUS_INVALID;
        }
    }
    return STATUS_OK;
}

static enum status check_mqtt(const struct config *config, char *message, size_t size)
{
    struct broker_url url;
    char why[300];
    if (config->mqtt[0] != '\0' && broker_url_read(config->mqtt, &url, why, sizeof why) != STATUS_OK) {
        snprintf(message, size, "--mqtt: %s", why);
        return STATUS_INVALID;
    }
    if (announce_preset(config->mqtt_preset) == NULL) {
        snprintf(message, size, "--mqtt-preset %s: there are %s", config->mqtt_preset, announce_preset_names);
        return STATUS_INVALID;
    }
    if ((config->mqtt_cert[0] == '\0') != (config->mqtt_key[0] == '\0')) {
        snprintf(message, size, "--mqtt-cert and --mqtt-key belong together: give both or none");
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

static enum status check_together(const struct config *config, char *message, size_t size)
{
    char why[300];
    if (config->public_url[0] != '\0' && public_url_check(config->public_url, why, sizeof why) != STATUS_OK) {
        snprintf(message, size, "--public-url %s: %s", config->public_url, why);
        return STATUS_INVALID;
    }
    if (config->admin_listen[0] != '\0' && !is_address(slice_of(config->admin_listen))) {
        snprintf(message, size, "--admin-listen %s: give an address and a port, such as 127.0.0.1:8090",
                 config->admin_listen);
        return STATUS_INVALID;
    }
    enum status status = check_mqtt(config, message, size);
    return status == STATUS_OK ? check_templates(config, message, size) : status;
}

enum status config_read(struct config *config, int argc, char *const *argv, enum config_action *action, char *message,
                        size_t size)
{
    static_assert(KEY_COUNT <= sizeof config->sources / sizeof config->sources[0], "room for every key's source");
    memset(config, 0, sizeof *config);
    config->assignments = assignments_new();
    *action = CONFIG_RUN;
    const char *file = getenv("UPDRAFT_CONFIG");
    set_defaults(config);
    enum status status = read_flags(NULL, argc, argv, &file, action, message, size);
    if (status != STATUS_OK || *action == CONFIG_HELP || *action == CONFIG_VERSION) {
        return status;
    }
    if (file != NULL && file[0] != '\0') {
        char why[512];
        status = ini_read(file, on_line, config, why, sizeof why);
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
        status = check_together(config, message, size);
    }
    return status == STATUS_OK ? read_assignments(config, message, size) : status;
}

void config_close(struct config *config)
{
    if (config->assignments != NULL) {
        assignments_free(config->assignments);
        config->assignments = NULL;
    }
}

/* --- showing ------------------------------------------------------------------------------------------------------ */

/* What is not set has no line; what is secret is not shown. */
static void print_text(const struct config *config, const struct key *key, const char *source, FILE *to)
{
    const char *text = text_of(config, key);
    struct broker_url url;
    char shown[300], why[300];
    if (text[0] == '\0') {
        return;
    }
    switch (key->kind) {
    case KIND_TEXT:
        fprintf(to, "%s = %s ; %s\n", key->name, text, source);
        break;
    case KIND_SECRET:
        fprintf(to, "; %s is set and not shown ; %s\n", key->name, source);
        break;
    default:
        (void)broker_url_read(text, &url, why, sizeof why);
        broker_url_print(&url, shown, sizeof shown);
        fprintf(to, "%s = %s ; %s%s\n", key->name, shown, source,
                url.user[0] != '\0' ? "; user and password are not shown" : "");
        break;
    }
}

void config_print(const struct config *config, FILE *to)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        char number[32];
        if (strcmp(keys[i].name, "config") == 0) {
            continue; /* a file does not name itself */
        }
        if (keys[i].kind == KIND_LISTEN) {
            for (size_t k = 0; k < config->listen_count; k++) {
                fprintf(to, "%s = %s ; %s\n", keys[i].name, config->listen[k], config->sources[i]);
            }
        } else if (is_text(&keys[i])) {
            print_text(config, &keys[i], config->sources[i], to);
        } else {
            print_number(&keys[i], *number_of(config, &keys[i]), number, sizeof number);
            fprintf(to, "%s = %s ; %s\n", keys[i].name, number, config->sources[i]);
        }
    }
    fprintf(to, "; %zu devices have an assignment\n", assignments_count(config->assignments));
}

void config_print_help(FILE *to)
{
    fputs("updraftd - serves firmware updates to ESP8266 and ESP32 devices\n\n"
          "usage: updraftd [--flag VALUE ...]\n\n"
          "Each flag is also a key of the file (repo = DIR) and a variable (UPDRAFT_REPO). Flags win over the\n"
          "environment, the environment over the file, the file over the defaults shown in brackets.\n\n",
          to);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "--%s %s", keys[i].name, keys[i].argument);
        fprintf(to, "  %-28s %s%s%s%s\n", flag, keys[i].help, keys[i].fallback[0] != '\0' ? " [" : "", keys[i].fallback,
                keys[i].fallback[0] != '\0' ? "]" : "");
    }
    for (size_t i = 0; i < ACTION_COUNT; i++) {
        fprintf(to, "  --%-26s %s\n", actions[i].name, actions[i].help);
    }
    fputs("\nSIGTERM: transfers in flight end, then exit 0. SIGHUP: read configuration and assignments again.\n"
          "Devices are assigned to an exact build in the file's section [assign] or in STATE/assignments.ini:\n"
          "  5C:CF:7F:B1:E0:42 = door DOOR-7-g14f53a19\n",
          to);
}

static bool same_listen(const struct config *a, const struct config *b)
{
    bool same = a->listen_count == b->listen_count;
    for (size_t i = 0; same && i < a->listen_count; i++) { /* behind a text lie the bytes of weaker sources */
        same = strcmp(a->listen[i], b->listen[i]) == 0;
    }
    return same;
}

static bool same_value(const struct config *a, const struct config *b, const struct key *key)
{
    if (key->kind == KIND_LISTEN) {
        return same_listen(a, b);
    }
    return is_text(key) ? strcmp(text_of(a, key), text_of(b, key)) == 0 : *number_of(a, key) == *number_of(b, key);
}

void config_keep_fixed(struct config *config, const struct config *before, char *names, size_t size)
{
    size_t used = 0;
    names[0] = '\0';
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const struct key *key = &keys[i];
        if (!key->fixed || same_value(config, before, key)) {
            continue;
        }
        if (used < size) {
            used += (size_t)snprintf(names + used, size - used, "%s%s", used > 0 ? ", " : "", key->name);
        }
        config->sources[i] = before->sources[i];
        if (key->kind == KIND_LISTEN) {
            config->listen_count = before->listen_count;
            memcpy(config->listen, before->listen, sizeof config->listen);
        } else if (is_text(key)) {
            memcpy(text_of(config, key), text_of(before, key), CONFIG_TEXT_MAX);
        } else {
            *number_of(config, key) = *number_of(before, key);
        }
    }
}
