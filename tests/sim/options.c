/* The flags, from one table: names, what they take, help. */
#include "tests/sim/options.h"

#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define YEAR_MS 31536000000u

/* Each reads one value; false: not possible. */
typedef bool (*option_fn)(struct options *options, const char *value);

static bool read_seconds(const char *value, uint64_t *ms)
{
    char *end;
    double number = strtod(value, &end);
    if (end != value && *end == '\0' && number >= 0 && number <= YEAR_MS / 1000.0) {
        *ms = (uint64_t)(number * 1000 + 0.5);
        return true;
    }
    return duration_parse(slice_of(value), YEAR_MS, ms);
}

static bool set_server(struct options *options, const char *value)
{
    struct url url;
    if (!url_parse(value, "http", 80, &url) || !slice_copy(slice_of(value), options->server, sizeof options->server)) {
        return false;
    }
    size_t n = strlen(options->server);
    if (options->server[n - 1] == '/') {
        options->server[n - 1] = '\0';
    }
    return true;
}

static bool set_mqtt(struct options *options, const char *value)
{
    options->has_mqtt = url_parse(value, "mqtt", 1883, &options->mqtt) && strcmp(options->mqtt.path, "/") == 0;
    return options->has_mqtt;
}

static bool set_devices(struct options *options, const char *value)
{
    return number_parse(slice_of(value), 1u << 24, &options->devices) && options->devices > 0;
}

static bool set_first(struct options *options, const char *value)
{
    return number_parse(slice_of(value), (1u << 24) - 1, &options->first);
}

static bool type_name_is_plain(const char *name)
{
    for (const char *c = name; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && strchr("_-.", *c) == NULL) {
            return false;
        }
    }
    return name[0] != '\0';
}

/* "d1_mini" or "d1_mini:3" */
static bool add_type(struct options *options, struct slice word)
{
    const char *colon = memchr(word.at, ':', word.len);
    struct slice name = { word.at, colon != NULL ? (size_t)(colon - word.at) : word.len };
    uint64_t weight = 1;
    if (options->type_count == OPTIONS_TYPES_MAX) {
        return false;
    }
    struct type_option *type = &options->types[options->type_count];
    if (!slice_copy(name, type->name, sizeof type->name) || !type_name_is_plain(type->name) ||
        (colon != NULL && !number_parse((struct slice){ colon + 1, word.len - name.len - 1 }, 1000000, &weight)) ||
        weight == 0) {
        return false;
    }
    type->weight = (uint32_t)weight;
    options->type_count++;
    return true;
}

static bool add_flash(struct options *options, struct slice word)
{
    uint64_t bytes;
    if (options->flash_count == OPTIONS_FLASH_MAX || !size_parse(word, 128u << 20, &bytes) || bytes < 256u << 10) {
        return false;
    }
    options->flash_bytes[options->flash_count++] = (uint32_t)bytes;
    return true;
}

static bool for_each_word(struct options *options, const char *value, bool (*add)(struct options *, struct slice))
{
    for (;;) {
        size_t n = strcspn(value, ",");
        if (!add(options, (struct slice){ value, n })) {
            return false;
        }
        if (value[n] == '\0') {
            return true;
        }
        value += n + 1;
    }
}

static bool set_types(struct options *options, const char *value)
{
    options->type_count = 0;
    return for_each_word(options, value, add_type);
}

static bool set_flash(struct options *options, const char *value)
{
    options->flash_count = 0;
    return for_each_word(options, value, add_flash);
}

/* The place of a word in a list that NULL ends. */
static bool find_word(const char *value, const char *const *words, unsigned *place)
{
    for (unsigned i = 0; words[i] != NULL; i++) {
        if (strcmp(value, words[i]) == 0) {
            *place = i;
            return true;
        }
    }
    return false;
}

static bool set_family(struct options *options, const char *value)
{
    static const char *const words[] = { "esp8266", "esp32", "mixed", NULL };
    unsigned place;
    bool found = find_word(value, words, &place);
    if (found) {
        options->family = (enum family)place;
    }
    return found;
}

static bool set_flash_mode(struct options *options, const char *value)
{
    static const char *const words[] = { "qio", "qout", "dio", "dout", "mixed", NULL };
    return find_word(value, words, &options->flash_mode);
}

static bool set_version(struct options *options, const char *value)
{
    options->version = value;
    return strlen(value) <= 64 && strpbrk(value, "\r\n") == NULL;
}

static bool add_image(struct options *options, const char *value)
{
    if (options->image_count == OPTIONS_IMAGES_MAX) {
        return false;
    }
    options->images[options->image_count++] = value;
    return true;
}

static bool set_seed(struct options *options, const char *value)
{
    options->has_seed = true;
    return number_parse(slice_of(value), UINT64_MAX, &options->seed);
}

static bool set_rate(struct options *options, const char *value)
{
    return size_parse(slice_of(value), 1u << 30, &options->rate);
}

static bool set_time_scale(struct options *options, const char *value)
{
    char *end;
    options->time_scale = strtod(value, &end);
    return end != value && *end == '\0' && options->time_scale >= 0 && options->time_scale <= 1000;
}

static bool set_ramp(struct options *options, const char *value)
{
    return number_parse(slice_of(value), 100000, &options->ramp) && options->ramp > 0;
}

static bool set_until(struct options *options, const char *value)
{
    struct slice text = slice_of(value);
    if (slice_starts_with(text, "confirmed=")) {
        options->until = UNTIL_CONFIRMED;
        return number_parse((struct slice){ text.at + 10, text.len - 10 }, 1u << 24, &options->until_count);
    }
    options->until = UNTIL_IDLE;
    return slice_is(text, "idle");
}

static bool set_faults(struct options *options, const char *value)
{
    return number_parse(slice_of(value), 1000000, &options->faults);
}

static bool set_json(struct options *options, const char *value)
{
    options->json = value;
    return value[0] != '\0';
}

#define SECONDS_OPTION(name, member)                                                                                   \
    static bool set_##name(struct options *options, const char *value)                                                 \
    {                                                                                                                  \
        return read_seconds(value, &options->member);                                                                  \
    }
SECONDS_OPTION(poll, poll_ms)
SECONDS_OPTION(flash_time, flash_ms)
SECONDS_OPTION(reboot_time, reboot_ms)
SECONDS_OPTION(stall_time, stall_ms)
SECONDS_OPTION(retry, retry_ms)
SECONDS_OPTION(http_timeout, http_timeout_ms)
SECONDS_OPTION(duration, duration_ms)
SECONDS_OPTION(idle, idle_ms)

#define FLAG_OPTION(name, member)                                                                                      \
    static bool set_##name(struct options *options, const char *value)                                                 \
    {                                                                                                                  \
        (void)value;                                                                                                   \
        options->member = true;                                                                                        \
        return true;                                                                                                   \
    }
FLAG_OPTION(no_mqtt, no_mqtt)
FLAG_OPTION(report, report)
FLAG_OPTION(check_in, check_in)
FLAG_OPTION(quiet, quiet)
FLAG_OPTION(json_devices, json_devices)
FLAG_OPTION(same_images, same_images)

static const struct {
    const char *name;
    const char *takes; /* NULL = nothing */
    option_fn set;
    const char *help;
} table[] = {
    { "server", "URL", set_server, "where devices ask that were not commanded: http://[USER:PASSWORD@]HOST[:PORT]" },
    { "mqtt", "URL", set_mqtt, "the broker: mqtt://[USER:PASSWORD@]HOST[:PORT] (mqtt://127.0.0.1:1883)" },
    { "no-mqtt", NULL, set_no_mqtt, "no broker: devices ask by themselves" },
    { "devices", "N", set_devices, "how many (10)" },
    { "first", "N", set_first, "number of the first device, the end of its MAC (1)" },
    { "types", "A,B:2,C", set_types, "round robin, by weight (d1_mini)" },
    { "family", "FAMILY", set_family,
      "esp8266, esp32, or mixed: types with 32 in their name are ESP32s, or every second type (esp8266)" },
    { "flash", "SIZE,SIZE", set_flash, "flash sizes, drawn (4M)" },
    { "flash-mode", "MODE", set_flash_mode, "an ESP8266's own: qio, qout, dio, dout or mixed (mixed)" },
    { "version", "TEXT", set_version, "label at the start; '' = the sketch gives none (0.1.0)" },
    { "image", "[TYPE=]FILE", add_image, "what they run at the start; else a build that nobody knows" },
    { "seed", "N", set_seed, "the same seed, the same story (random, printed)" },
    { "check-in-at-start", NULL, set_check_in, "ask once before anything else; a newer image is taken" },
    { "poll", "S", set_poll, "ask every S seconds without a command" },
    { "report", NULL, set_report, "publish status and online topics" },
    { "rate", "SIZE", set_rate, "bytes a second that a device takes (as fast as it goes)" },
    { "flash-time", "S", set_flash_time, "how long writing the image takes (2)" },
    { "reboot-time", "S", set_reboot_time, "from then until it asks again (3)" },
    { "time-scale", "X", set_time_scale, "multiplies windows, polls, retries, flash and reboot time (1)" },
    { "retry", "S", set_retry, "ask again so long after a failure, at most 5 times (never)" },
    { "http-timeout", "S", set_http_timeout, "patience for an answer's head (8)" },
    { "stall-time", "S", set_stall_time, "how long a stalled device keeps its socket (60)" },
    { "faults", "N", set_faults, "a device misbehaves N times, then behaves (always)" },
    { "ramp", "N", set_ramp, "connections to the broker under way at once (50)" },
    { "duration", "S", set_duration, "end after so long" },
    { "until", "WHAT", set_until, "end when confirmed=N devices are, or when all rest: idle" },
    { "idle", "S", set_idle, "how long nothing must happen for that (3)" },
    { "json", "FILE", set_json, "the summary as JSON; - = one line at the end" },
    { "json-devices", NULL, set_json_devices, "each device in the JSON, also above 1000" },
    { "same-images", NULL, set_same_images, "types may get the same image: do not take it for another's" },
    { "quiet", NULL, set_quiet, "neither changes nor summary in text" },
};
#define TABLE_COUNT (sizeof table / sizeof table[0])

static void print_help(void)
{
    puts("updraft-sim: simulated ESP8266 and ESP32 devices that obey MQTT commands, ask for updates as the real\n"
         "clients do, flash, reboot and come back. S: seconds, or 500ms, 5m. SIZE: bytes, or 64K, 4M.\n"
         "Exit: 0, or 1 where the server broke a promise (VIOLATION), 2 on wrong usage.\n");
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        char flag[48];
        snprintf(flag, sizeof flag, "--%s %s", table[i].name, table[i].takes != NULL ? table[i].takes : "");
        printf("  %-26s %s\n", flag, table[i].help);
    }
    puts("\nMisbehaviour, in % of the devices, chosen by the seed; a device has one at most:");
    for (unsigned i = 1; i < MISBEHAVIOUR_COUNT; i++) {
        char flag[48];
        snprintf(flag, sizeof flag, "--%s P", misbehaviour_word((enum misbehaviour)i));
        printf("  %-26s %s\n", flag, misbehaviour_text((enum misbehaviour)i));
    }
}

/* "20", or of --drop "20:75" */
static bool set_share(struct options *options, enum misbehaviour kind, const char *value)
{
    char *end;
    uint64_t at = 50;
    double percent = strtod(value, &end);
    bool ok = end != value && percent >= 0 && percent <= 100;
    if (*end == ':' && kind == MISBEHAVIOUR_DROP) {
        ok = ok && number_parse(slice_of(end + 1), 99, &at);
    } else {
        ok = ok && *end == '\0';
    }
    options->shares[kind] = (struct misbehaviour_share){ percent, (uint32_t)at };
    return ok;
}

/* *kind: the misbehaviour, or NONE and *row. */
static bool find_option(const char *name, size_t *row, enum misbehaviour *kind)
{
    *kind = MISBEHAVIOUR_NONE;
    for (*row = 0; *row < TABLE_COUNT; ++*row) {
        if (strcmp(name, table[*row].name) == 0) {
            return true;
        }
    }
    for (unsigned i = 1; i < MISBEHAVIOUR_COUNT; i++) {
        if (strcmp(name, misbehaviour_word((enum misbehaviour)i)) == 0) {
            *kind = (enum misbehaviour)i;
            return true;
        }
    }
    return false;
}

/* One flag, with its value behind a blank or a `=`. Returns the words used, or 0, having complained. */
static int take_option(struct options *options, int left, char **words)
{
    char name[32] = "";
    size_t row;
    enum misbehaviour kind;
    const char *equals = strchr(words[0], '=');
    struct slice word = { words[0], equals != NULL ? (size_t)(equals - words[0]) : strlen(words[0]) };
    bool known =
        slice_starts_with(word, "--") && slice_copy((struct slice){ word.at + 2, word.len - 2 }, name, sizeof name);
    if (!known || !find_option(name, &row, &kind)) {
        fprintf(stderr, "updraft-sim: %s: no such option; --help lists them\n", words[0]);
        return 0;
    }
    bool takes = kind != MISBEHAVIOUR_NONE || table[row].takes != NULL;
    const char *value = equals != NULL ? equals + 1 : takes && left > 1 ? words[1] : NULL;
    if (takes != (value != NULL)) {
        fprintf(stderr, "updraft-sim: --%s %s\n", name, takes ? "wants a value" : "takes no value");
        return 0;
    }
    if (!(kind != MISBEHAVIOUR_NONE ? set_share(options, kind, value) : table[row].set(options, value))) {
        fprintf(stderr, "updraft-sim: --%s %s: not a possible value; --help shows the form\n", name, value);
        return 0;
    }
    return takes && equals == NULL ? 2 : 1;
}

static void set_defaults(struct options *options)
{
    *options = (struct options){
        .devices = 10,
        .first = 1,
        .flash_mode = FLASH_MODE_MIXED,
        .version = "0.1.0",
        .flash_ms = 2000,
        .reboot_ms = 3000,
        .stall_ms = 60000,
        .http_timeout_ms = 8000, /* both clients' */
        .idle_ms = 3000,
        .time_scale = 1,
        .ramp = 50,
    };
}

/* What is right flag by flag may make no sense together. */
static bool check_options(struct options *options)
{
    double shares = 0;
    for (unsigned i = 0; i < MISBEHAVIOUR_COUNT; i++) {
        shares += options->shares[i].percent;
    }
    const char *wrong = NULL;
    if (shares > 100) {
        wrong = "the misbehaviours together are more than 100 % of the devices";
    } else if (options->no_mqtt && options->has_mqtt) {
        wrong = "--mqtt and --no-mqtt exclude each other";
    } else if ((options->check_in || options->poll_ms > 0) && options->server[0] == '\0') {
        wrong = "--check-in-at-start and --poll need --server: without it devices know no address before a command";
    } else if (options->no_mqtt && options->poll_ms == 0 && !options->check_in) {
        wrong = "with --no-mqtt nothing would happen; add --poll S or --check-in-at-start";
    } else if (options->until == UNTIL_CONFIRMED && options->until_count > options->devices) {
        wrong = "--until confirmed=N: there are fewer devices than that";
    }
    if (wrong != NULL) {
        fprintf(stderr, "updraft-sim: %s\n", wrong);
    }
    return wrong == NULL;
}

bool options_parse(struct options *options, int argc, char **argv)
{
    set_defaults(options);
    for (int i = 1; i < argc;) {
        if (strcmp(argv[i], "--help") == 0) {
            print_help();
            exit(0);
        }
        int used = take_option(options, argc - i, argv + i);
        if (used == 0) {
            return false;
        }
        i += used;
    }
    if (options->type_count == 0) {
        set_types(options, "d1_mini");
    }
    if (options->flash_count == 0) {
        set_flash(options, "4M");
    }
    if (!options->no_mqtt && !options->has_mqtt) {
        set_mqtt(options, "mqtt://127.0.0.1:1883");
    }
    return check_options(options);
}
