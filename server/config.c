/* One table of keys; parsing, printing, help and the comparison at a reload walk it. */
#include "server/config.h"

#include "base/ini.h"

#include <assert.h>
#include <ctype.h>
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum kind { KIND_TEXT, KIND_LISTEN, KIND_DURATION, KIND_SIZE, KIND_COUNT, KIND_BOOL, KIND_LEVEL, KIND_FORMAT };

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
        snprintf(to, size, "give a name of 1 to %d bytes", CONFIG_TEXT_MAX - 1);
        break;
    default:
        snprintf(to, size, "give %s", key->kind == KIND_BOOL ? "yes or no" : key->help);
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
    } else if (key->kind == KIND_TEXT) {
        good = text.len > 0 && slice_copy(text, text_of(config, key), CONFIG_TEXT_MAX);
    } else {
        good = set_number(config, key, text);
    }
    config->sources[index] = source;
    if (!good) {
        char wanted[160], shown[128];
        describe_key(key, wanted, sizeof wanted);
        text_escape(text, shown, sizeof shown);
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

static enum status read_environment(struct config *config, char *message, size_t size)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        char name[64], why[400], list[CONFIG_TEXT_MAX * 2];
        variable_name(&keys[i], name);
        const char *value = getenv(name);
        if (value == NULL || value[0] == '\0') {
            continue;
        }
        enum status status = STATUS_TOO_LONG;
        snprintf(why, sizeof why, "longer than %zu characters", sizeof list - 1);
        if (slice_copy(slice_of(value), list, sizeof list)) {
            /* A list is separated by commas; other values may have them. */
            char *rest = list;
            do {
                char *piece = keys[i].kind == KIND_LISTEN ? strsep(&rest, ",") : rest;
                status = set(config, &keys[i], piece, from_environment, why, sizeof why);
            } while (status == STATUS_OK && keys[i].kind == KIND_LISTEN && rest != NULL);
        }
        if (status != STATUS_OK) {
            snprintf(message, size, "%s: %s", name, why);
            return status;
        }
    }
    return STATUS_OK;
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
        } else if (keys[i].kind == KIND_TEXT) {
            fprintf(to, "%s = %s ; %s\n", keys[i].name, text_of(config, &keys[i]), config->sources[i]);
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

void config_fixed_differences(const struct config *a, const struct config *b, char *names, size_t size)
{
    size_t used = 0;
    names[0] = '\0';
    for (size_t i = 0; i < KEY_COUNT; i++) {
        bool differs = keys[i].kind == KIND_TEXT ? strcmp(text_of(a, &keys[i]), text_of(b, &keys[i])) != 0
                                                 : keys[i].kind == KIND_LISTEN && !same_listen(a, b);
        if (keys[i].fixed && differs && used < size) {
            used += (size_t)snprintf(names + used, size - used, "%s%s", used > 0 ? ", " : "", keys[i].name);
        }
    }
}
