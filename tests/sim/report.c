/* The same facts twice: a short text for people, JSON for programs. Both are made at the end, from the devices as they
 * stand. */
#include "tests/sim/report.h"

#include "base/text.h"
#include "tests/sim/device.h"
#include "tests/sim/fleet.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/resource.h>

#define LISTED_DEVICES 1000 /* more are listed only on demand */

static const struct {
    const char *word;
    const char *text;
} violation_facts[] = {
#define X(name, word, text) { word, text },
    VIOLATION_LIST(X)
#undef X
};

static const struct {
    const char *word;
    const char *text;
} remark_facts[] = {
#define X(name, word, text) { word, text },
    REMARK_LIST(X)
#undef X
};

const char *remark_text(enum remark remark)
{
    assert(remark < REMARK_COUNT);
    return remark_facts[remark].text;
}

void report_answer(struct counts *counts, unsigned status, const char *reason)
{
    for (unsigned i = 0; i < counts->answer_count; i++) {
        if (counts->answers[i].status == status && strcmp(counts->answers[i].reason, reason) == 0) {
            counts->answers[i].n++;
            return;
        }
    }
    if (counts->answer_count < ANSWERS_MAX) {
        struct answer_count *answer = &counts->answers[counts->answer_count++];
        answer->status = status;
        answer->n = 1;
        snprintf(answer->reason, sizeof answer->reason, "%s", reason);
    }
}

void report_violation(struct device *device, enum violation violation, const char *detail)
{
    struct fleet *fleet = device->fleet;
    fleet->violations[violation]++;
    if (fleet->seen_count < VIOLATIONS_KEPT_MAX) {
        struct violation_seen *seen = &fleet->seen[fleet->seen_count++];
        seen->violation = violation;
        memcpy(seen->mac, device->mac_text, sizeof seen->mac);
        memcpy(seen->type, device->type->name, sizeof seen->type);
        snprintf(seen->detail, sizeof seen->detail, "%s", detail);
    }
}

static size_t devices_in(const struct fleet *fleet, const struct device_type *type, enum device_state state)
{
    size_t n = 0;
    for (size_t i = 0; i < fleet->count; i++) {
        n += fleet->devices[i].type == type && fleet->devices[i].state == state;
    }
    return n;
}

static double seconds(uint64_t from_ms, uint64_t to_ms)
{
    return to_ms > from_ms ? (double)(to_ms - from_ms) / 1000.0 : 0;
}

static uint64_t memory_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

/* --- for people --------------------------------------------------------------------------------------------------- */

/* "  name       12 word", then what of `rows` is not zero. */
struct row {
    const char *text;
    uint64_t number;
};

static void print_rows(const char *name, uint64_t number, const char *word, const struct row *rows, size_t n,
                       FILE *file)
{
    fprintf(file, "  %-10s %" PRIu64 " %s", name, number, word);
    for (size_t i = 0; i < n; i++) {
        if (rows[i].number > 0) {
            fprintf(file, ", %" PRIu64 " %s", rows[i].number, rows[i].text);
        }
    }
    fputc('\n', file);
}

static void print_checks(const struct counts *counts, FILE *file)
{
    struct row rows[ANSWERS_MAX + HTTP_END_COUNT];
    char texts[ANSWERS_MAX][4 * sizeof counts->answers[0].reason + 24];
    size_t n = 0;
    for (unsigned i = 0; i < counts->answer_count; i++) {
        const struct answer_count *answer = &counts->answers[i];
        int used = snprintf(texts[i], sizeof texts[i], "answered %u ", answer->status);
        text_escape(slice_of(answer->reason[0] != '\0' ? answer->reason : "without a reason"), texts[i] + used,
                    sizeof texts[i] - (size_t)used);
        rows[n++] = (struct row){ texts[i], answer->n };
    }
    for (unsigned i = 0; i < HTTP_END_COUNT; i++) {
        rows[n++] = (struct row){ http_end_text((enum http_end)i), counts->failures[i] };
    }
    print_rows("checks", counts->checks, "in all", rows, n, file);
}

static void print_states(const struct fleet *fleet, const struct device_type *type, FILE *file)
{
    fprintf(file, "  at the end");
    for (unsigned i = 0, shown = 0; i < DEVICE_STATE_COUNT; i++) {
        size_t n = devices_in(fleet, type, (enum device_state)i);
        if (n > 0) {
            fprintf(file, "%s %zu %s", shown++ > 0 ? "," : "", n, device_state_word((enum device_state)i));
        }
    }
    fputc('\n', file);
}

static void print_type(const struct fleet *fleet, const struct device_type *type, FILE *file)
{
    const struct counts *counts = &type->counts;
    const struct row commands[] = {
        { "of them came again", counts->duplicates },
        { "of them lost in a reboot or behind a newer one", counts->lost },
        { "more that could not be read", counts->malformed },
        { "of them ignored (--silent)", counts->ignored },
    };
    const struct row downloads[] = {
        { "cut", counts->cut },
        { "with a wrong MD5, for another chip or not to be unpacked", counts->bad },
        { "refused by the device", counts->refused },
        { "bytes", counts->bytes },
    };
    fprintf(file, "%s: %zu devices (%s)\n", type->name, type->devices, type->esp32 ? "ESP32" : "ESP8266");
    print_rows("commands", counts->commands, "heard", commands, sizeof commands / sizeof commands[0], file);
    print_checks(counts, file);
    print_rows("downloads", counts->whole, "whole", downloads, sizeof downloads / sizeof downloads[0], file);
    for (unsigned i = 0; i < REMARK_COUNT; i++) {
        if (counts->remarks[i] > 0) {
            fprintf(file, "  remark     %" PRIu64 " times: %s\n", counts->remarks[i], remark_facts[i].text);
        }
    }
    print_rows("confirmed", counts->confirmations, "came back with the new image, and the server agreed", NULL, 0,
               file);
    print_states(fleet, type, file);
}

static void print_violations(const struct fleet *fleet, FILE *file)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < VIOLATION_COUNT; i++) {
        count += fleet->violations[i];
    }
    fprintf(file, "violations: %" PRIu64 "%s\n", count, count > fleet->seen_count ? ", of which the first:" : "");
    for (size_t i = 0; i < fleet->seen_count; i++) {
        const struct violation_seen *seen = &fleet->seen[i];
        char detail[4 * sizeof seen->detail];
        text_escape(slice_of(seen->detail), detail, sizeof detail);
        fprintf(file, "VIOLATION %s %s: %s (%s)\n", seen->mac, seen->type, violation_facts[seen->violation].text,
                detail);
    }
}

void report_text(const struct fleet *fleet, FILE *file)
{
    for (size_t i = 0; i < fleet->type_count; i++) {
        print_type(fleet, &fleet->types[i], file);
    }
    if (fleet->options->has_mqtt) {
        fprintf(file,
                "mqtt: %" PRIu64 " connected at the end; %" PRIu64 " connects, %" PRIu64 " lost, %" PRIu64 " refused\n",
                fleet->mqtt.connected, fleet->mqtt.connects, fleet->mqtt.lost, fleet->mqtt.refused);
    }
    fprintf(file, "time: %.2f s", seconds(fleet->started_ms, fleet->ended_ms));
    if (fleet->ready_ms != 0) {
        fprintf(file, ", ready after %.2f s", seconds(fleet->started_ms, fleet->ready_ms));
    }
    if (fleet->first_command_ms != 0 && fleet->last_confirmation_ms != 0) {
        fprintf(file, ", first command to last confirmation %.2f s",
                seconds(fleet->first_command_ms, fleet->last_confirmation_ms));
    }
    fprintf(file, "; memory at most %" PRIu64 " KiB\n", memory_bytes() / 1024);
    print_violations(fleet, file);
}

/* --- for programs ------------------------------------------------------------------------------------------------- */

static void set_number(json_t *object, const char *key, uint64_t number)
{
    json_object_set_new(object, key, json_integer((json_int_t)number));
}

/* Foreign text: what is no UTF-8 is left out. */
static void set_text(json_t *object, const char *key, const char *text)
{
    json_t *string = json_string(text);
    json_object_set_new(object, key, string != NULL ? string : json_string(""));
}

static void add_number(json_t *object, const char *key, uint64_t number)
{
    set_number(object, key, (uint64_t)json_integer_value(json_object_get(object, key)) + number);
}

static void set_answers(json_t *object, const struct counts *counts)
{
    json_t *by_status = json_object(), *by_reason = json_object(), *failures = json_object();
    for (unsigned i = 0; i < counts->answer_count; i++) {
        char status[16];
        snprintf(status, sizeof status, "%u", counts->answers[i].status);
        add_number(by_status, status, counts->answers[i].n);
        add_number(by_reason, counts->answers[i].reason, counts->answers[i].n);
    }
    for (unsigned i = 0; i < HTTP_END_COUNT; i++) {
        if (counts->failures[i] > 0) {
            set_number(failures, http_end_word((enum http_end)i), counts->failures[i]);
        }
    }
    json_object_set_new(object, "by_status", by_status);
    json_object_set_new(object, "by_reason", by_reason);
    json_object_set_new(object, "failures", failures);
}

static json_t *counts_json(const struct counts *counts)
{
    const struct {
        const char *key;
        uint64_t number;
    } rows[] = {
        { "commands", counts->commands }, { "duplicates", counts->duplicates },
        { "lost", counts->lost },         { "malformed", counts->malformed },
        { "ignored", counts->ignored },   { "checks", counts->checks },
        { "whole", counts->whole },       { "cut", counts->cut },
        { "bad", counts->bad },           { "refused", counts->refused },
        { "bytes", counts->bytes },       { "confirmed", counts->confirmations },
    };
    json_t *object = json_object(), *remarks = json_object();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        set_number(object, rows[i].key, rows[i].number);
    }
    set_answers(object, counts);
    for (unsigned i = 0; i < REMARK_COUNT; i++) {
        if (counts->remarks[i] > 0) {
            set_number(remarks, remark_facts[i].word, counts->remarks[i]);
        }
    }
    json_object_set_new(object, "remarks", remarks);
    return object;
}

static json_t *type_json(const struct fleet *fleet, const struct device_type *type)
{
    json_t *object = counts_json(&type->counts), *states = json_object();
    set_number(object, "devices", type->devices);
    json_object_set_new(object, "family", json_string(type->esp32 ? "esp32" : "esp8266"));
    for (unsigned i = 0; i < DEVICE_STATE_COUNT; i++) {
        size_t n = devices_in(fleet, type, (enum device_state)i);
        if (n > 0) {
            set_number(states, device_state_word((enum device_state)i), n);
        }
    }
    json_object_set_new(object, "states", states);
    return object;
}

static json_t *device_json(const struct device *device)
{
    char md5[33];
    json_t *object = json_object(), *commands = json_array();
    hex_encode(device->running.md5, 16, md5);
    set_text(object, "mac", device->mac_text);
    set_text(object, "type", device->type->name);
    set_text(object, "state", device_state_word(device->state));
    set_text(object, "error", device->state == DEVICE_FAILED ? device->error : "");
    set_text(object, "version", device->running.version);
    set_text(object, "fs_version", device->fs_version);
    set_text(object, "md5", md5);
    set_number(object, "flash_mode", device->flash_mode);
    set_number(object, "flash_bytes", device->flash_bytes);
    set_text(object, "misbehaviour", misbehaviour_word(device->misbehaviour));
    set_number(object, "checks", device->checks);
    set_number(object, "last_status", device->last_status);
    set_text(object, "last_reason", device->last_reason);
    set_number(object, "whole", device->whole);
    set_number(object, "cut", device->cut);
    set_number(object, "bad", device->bad);
    set_number(object, "confirmed", device->confirmations);
    for (size_t i = 0; i < device->command_count; i++) {
        json_array_append_new(commands, json_string(device->commands[i]->id));
    }
    json_object_set_new(object, "commands", commands);
    return object;
}

static void set_times(json_t *object, const struct fleet *fleet)
{
    const struct {
        const char *key;
        uint64_t ms;
    } rows[] = {
        { "elapsed_s", fleet->ended_ms },
        { "ready_s", fleet->ready_ms },
        { "first_command_s", fleet->first_command_ms },
        { "last_confirmation_s", fleet->last_confirmation_ms },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_object_set_new(object, rows[i].key,
                            rows[i].ms != 0 ? json_real(seconds(fleet->started_ms, rows[i].ms)) : json_null());
    }
}

static void set_violations(json_t *object, const struct fleet *fleet)
{
    json_t *list = json_array();
    uint64_t count = 0;
    for (size_t i = 0; i < fleet->seen_count; i++) {
        const struct violation_seen *seen = &fleet->seen[i];
        json_t *one = json_object();
        set_text(one, "violation", violation_facts[seen->violation].word);
        set_text(one, "mac", seen->mac);
        set_text(one, "type", seen->type);
        set_text(one, "detail", seen->detail);
        json_array_append_new(list, one);
    }
    for (unsigned i = 0; i < VIOLATION_COUNT; i++) {
        count += fleet->violations[i];
    }
    set_number(object, "violation_count", count);
    json_object_set_new(object, "violations", list);
}

static json_t *fleet_json(const struct fleet *fleet)
{
    const struct options *options = fleet->options;
    json_t *object = json_object(), *types = json_object(), *list = json_array();
    char seed[24];
    snprintf(seed, sizeof seed, "%" PRIu64, options->seed); /* as text: many readers take numbers for doubles */
    set_text(object, "seed", seed);
    set_number(object, "devices", fleet->count);
    set_number(object, "confirmed_devices", fleet->confirmed);
    set_times(object, fleet);
    set_number(object, "memory_bytes", memory_bytes());
    json_object_set_new(object, "mqtt",
                        json_pack("{s:I,s:I,s:I,s:I}", "connected", (json_int_t)fleet->mqtt.connected, "connects",
                                  (json_int_t)fleet->mqtt.connects, "lost", (json_int_t)fleet->mqtt.lost, "refused",
                                  (json_int_t)fleet->mqtt.refused));
    for (size_t i = 0; i < fleet->type_count; i++) {
        json_object_set_new(types, fleet->types[i].name, type_json(fleet, &fleet->types[i]));
    }
    json_object_set_new(object, "types", types);
    set_violations(object, fleet);
    for (size_t i = 0; i < fleet->count && (fleet->count <= LISTED_DEVICES || options->json_devices); i++) {
        json_array_append_new(list, device_json(&fleet->devices[i]));
    }
    json_object_set_new(object, "device_list", list);
    return object;
}

bool report_json(const struct fleet *fleet, const char *path)
{
    bool on_stdout = strcmp(path, "-") == 0;
    FILE *file = on_stdout ? stdout : fopen(path, "w");
    json_t *object = fleet_json(fleet);
    bool ok = file != NULL &&
              json_dumpf(object, file, (on_stdout ? JSON_COMPACT : JSON_INDENT(1)) | JSON_REAL_PRECISION(6)) == 0;
    ok = ok && fputc('\n', file) != EOF && fflush(file) == 0;
    if (!ok) {
        fprintf(stderr, "updraft-sim: --json %s: %s\n", path, strerror(errno));
    }
    if (file != NULL && !on_stdout) {
        fclose(file);
    }
    json_decref(object);
    return ok;
}
