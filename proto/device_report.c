/* Reads what a device says of itself over MQTT.
 *
 * What makes it hard: anyone who may publish writes these bytes. So length and depth are checked before a parser sees
 * them, words are those of a table, and free text leaves escaped. And the firmwares differ in what they call success.
 */
#include "proto/device_report.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

const char *report_state_word(enum report_state state)
{
    static const char *const words[] = {
#define X(name, word) word,
        REPORT_STATE_LIST(X)
#undef X
    };
    assert((size_t)state < COUNT_OF(words));
    return words[state];
}

const char *report_result_word(enum report_result result)
{
    static const char *const words[] = {
#define X(name, text) text,
        REPORT_RESULT_LIST(X)
#undef X
    };
    assert((size_t)result < COUNT_OF(words));
    return words[result];
}

/* REPORT_RESULT_OK: *object is the caller's to json_decref. */
static enum report_result read_object(struct slice text, json_t **object)
{
    if (json_is_deeper(text, REPORT_DEPTH_MAX)) {
        return REPORT_RESULT_TOO_DEEP;
    }
    json_error_t error;
    json_t *value = json_loadb(text.at, text.len, JSON_REJECT_DUPLICATES, &error);
    if (value == NULL) {
        return json_error_code(&error) == json_error_duplicate_key ? REPORT_RESULT_BAD_FIELD : REPORT_RESULT_NOT_JSON;
    }
    if (!json_is_object(value)) {
        json_decref(value);
        return REPORT_RESULT_BAD_FIELD;
    }
    *object = value;
    return REPORT_RESULT_OK;
}

/* A member's text; absent where the member is, or is null. False where it is something else. */
static bool get_text(const json_t *object, const char *name, struct slice *text)
{
    const json_t *value = json_object_get(object, name);
    *text = (struct slice){ NULL, 0 };
    if (json_is_string(value)) {
        *text = (struct slice){ json_string_value(value), json_string_length(value) };
        return true;
    }
    return value == NULL || json_is_null(value);
}

/* Words and the states that they mean. */
struct meaning {
    const char *word;
    enum report_state state;
};

static bool find_meaning(const struct meaning *meanings, size_t n, struct slice word, enum report_state *state)
{
    for (size_t i = 0; i < n; i++) {
        if (slice_is(word, meanings[i].word)) {
            *state = meanings[i].state;
            return true;
        }
    }
    return false;
}

static void set_error(struct device_report *report, struct slice text)
{
    text_escape(slice_trim(text), report->error, sizeof report->error);
}

/* The texts of a status that may be there or not. A number is an error too: getLastError() of the updaters gives one.
 */
static enum report_result read_details(const json_t *object, struct device_report *report)
{
    struct slice version;
    struct slice error;
    const json_t *code = json_object_get(object, "error");
    if (json_is_integer(code)) {
        snprintf(report->error, sizeof report->error, "%" JSON_INTEGER_FORMAT, json_integer_value(code));
    } else if (get_text(object, "error", &error)) {
        set_error(report, error);
    } else {
        return REPORT_RESULT_BAD_FIELD;
    }
    if (!get_text(object, "version", &version)) {
        return REPORT_RESULT_BAD_FIELD;
    }
    if (version.at != NULL) {
        (void)version_parse(version, &report->version); /* unreadable: as if not said */
    }
    return REPORT_RESULT_OK;
}

static enum report_result read_updraft_status(struct slice payload, struct device_report *report)
{
    static const struct meaning meanings[] = {
        { "downloading", REPORT_DOWNLOADING },
        { "flashed", REPORT_FLASHED },
        { "failed", REPORT_FAILED },
        { "running", REPORT_RUNNING },
    };
    json_t *object;
    struct slice state;
    enum report_result result = read_object(payload, &object);
    if (result != REPORT_RESULT_OK) {
        return result;
    }
    if (!get_text(object, "state", &state) || !find_meaning(meanings, COUNT_OF(meanings), state, &report->state)) {
        result = REPORT_RESULT_BAD_FIELD;
    } else {
        result = read_details(object, report);
    }
    json_decref(object);
    return result;
}

/* "Successful. Restarting", which Tasmota says of a 304 too; "Failed Wrong MD5"; "Version 13.4.0 from http://…" as it
 * begins. */
static enum report_result read_tasmota_upgrade(struct slice text, struct device_report *report)
{
    static const struct meaning beginnings[] = {
        { "Successful", REPORT_FLASHED },
        { "Failed", REPORT_FAILED },
        { "Version ", REPORT_DOWNLOADING },
    };
    for (size_t i = 0; i < COUNT_OF(beginnings); i++) {
        if (slice_starts_with(text, beginnings[i].word)) {
            size_t n = strlen(beginnings[i].word);
            report->state = beginnings[i].state;
            if (report->state == REPORT_FAILED) {
                set_error(report, (struct slice){ text.at + n, text.len - n });
            }
            return REPORT_RESULT_OK;
        }
    }
    return REPORT_RESULT_IRRELEVANT;
}

static enum report_result read_tasmota_status(struct slice payload, struct device_report *report)
{
    json_t *object;
    struct slice text;
    enum report_result result = read_object(payload, &object);
    if (result != REPORT_RESULT_OK) {
        return result;
    }
    if (!get_text(object, "Upgrade", &text)) {
        result = REPORT_RESULT_BAD_FIELD;
    } else {
        result = read_tasmota_upgrade(text, report);
    }
    json_decref(object);
    return result;
}

/* "206 1460/328704", "400 BAD_CHECKSUM", "200": homieiot/homie-esp8266, BootNormal.cpp. */
static enum report_result read_homie_status(struct slice payload, struct device_report *report)
{
    static const struct meaning codes[] = {
        { "202", REPORT_DOWNLOADING }, { "206", REPORT_DOWNLOADING }, { "200", REPORT_FLASHED },
        { "304", REPORT_RUNNING },     { "400", REPORT_FAILED },      { "403", REPORT_FAILED },
        { "500", REPORT_FAILED },
    };
    struct slice rest = payload;
    struct slice code = slice_next_word(&rest);
    if (!find_meaning(codes, COUNT_OF(codes), code, &report->state)) {
        return REPORT_RESULT_BAD_FIELD;
    }
    if (report->state == REPORT_FAILED) {
        set_error(report, payload);
    }
    return REPORT_RESULT_OK;
}

static enum report_result read_word(const struct meaning *meanings, size_t n, struct slice payload,
                                    struct device_report *report)
{
    return find_meaning(meanings, n, payload, &report->state) ? REPORT_RESULT_OK : REPORT_RESULT_BAD_FIELD;
}

static enum report_result read_updraft_online(struct slice payload, struct device_report *report)
{
    static const struct meaning words[] = { { "1", REPORT_ONLINE }, { "0", REPORT_OFFLINE } };
    return read_word(words, COUNT_OF(words), payload, report);
}

static enum report_result read_tasmota_online(struct slice payload, struct device_report *report)
{
    static const struct meaning words[] = { { "Online", REPORT_ONLINE }, { "Offline", REPORT_OFFLINE } };
    return read_word(words, COUNT_OF(words), payload, report);
}

/* `$state` of Homie 3 and later, and the payloads of `$online` before it. */
static enum report_result read_homie_online(struct slice payload, struct device_report *report)
{
    static const struct meaning words[] = {
        { "ready", REPORT_ONLINE },  { "alert", REPORT_ONLINE },         { "true", REPORT_ONLINE },
        { "lost", REPORT_OFFLINE },  { "disconnected", REPORT_OFFLINE }, { "sleeping", REPORT_OFFLINE },
        { "false", REPORT_OFFLINE },
    };
    if (slice_is(payload, "init")) {
        return REPORT_RESULT_IRRELEVANT; /* neither; `ready` follows */
    }
    return read_word(words, COUNT_OF(words), payload, report);
}

typedef enum report_result (*read_fn)(struct slice payload, struct device_report *report);

enum report_result device_report_read(enum report_style style, enum report_topic topic, const void *payload, size_t n,
                                      struct device_report *report)
{
    static const read_fn readers[][2] = {
        [REPORT_UPDRAFT] = { [REPORT_TOPIC_STATUS] = read_updraft_status, [REPORT_TOPIC_ONLINE] = read_updraft_online },
        [REPORT_TASMOTA] = { [REPORT_TOPIC_STATUS] = read_tasmota_status, [REPORT_TOPIC_ONLINE] = read_tasmota_online },
        [REPORT_HOMIE] = { [REPORT_TOPIC_STATUS] = read_homie_status, [REPORT_TOPIC_ONLINE] = read_homie_online },
    };
    assert((size_t)style < COUNT_OF(readers) && (size_t)topic < COUNT_OF(readers[0]));
    if (n > REPORT_BYTES_MAX) {
        return REPORT_RESULT_TOO_LONG;
    }
    if (n == 0) {
        return REPORT_RESULT_IRRELEVANT; /* a retained message was cleared */
    }
    struct device_report read;
    memset(&read, 0, sizeof read);
    enum report_result result = readers[style][topic]((struct slice){ payload, n }, &read);
    if (result == REPORT_RESULT_OK) {
        *report = read;
    }
    return result;
}
