/* What a device says of itself over MQTT: hostile until read. A payload is bounded, its depth too, its words are those
 * of a list, and its free text is escaped before anyone sees it.
 */
#ifndef PROTO_DEVICE_REPORT_H
#define PROTO_DEVICE_REPORT_H

#include "base/text.h"
#include "proto/version.h"

#include <stdbool.h>
#include <stddef.h>

#define REPORT_BYTES_MAX 1024
#define REPORT_DEPTH_MAX 4

enum report_style { REPORT_UPDRAFT, REPORT_TASMOTA, REPORT_HOMIE };

/*    name           word */
#define REPORT_STATE_LIST(X)                                                                                           \
    X(DOWNLOADING, "downloading")                                                                                      \
    X(FLASHED, "flashed")                                                                                              \
    X(FAILED, "failed")                                                                                                \
    X(RUNNING, "running")                                                                                              \
    X(ONLINE, "online")                                                                                                \
    X(OFFLINE, "offline")

enum report_state {
#define X(name, word) REPORT_##name,
    REPORT_STATE_LIST(X)
#undef X
};

const char *report_state_word(enum report_state state);

struct device_report {
    enum report_state state;
    struct version version; /* .text "" = not said, or not readable */
    char error[120];        /* escaped; "" = none */
};

enum report_topic { REPORT_TOPIC_STATUS, REPORT_TOPIC_ONLINE };

/*    name        text: why a payload is no report; the words are labels of a metric */
#define REPORT_RESULT_LIST(X)                                                                                          \
    X(OK, "ok")                                                                                                        \
    X(IRRELEVANT, "irrelevant") /* well formed, and says nothing about updates (Tasmota's other results) */            \
    X(TOO_LONG, "too-long")                                                                                            \
    X(TOO_DEEP, "too-deep")                                                                                            \
    X(NOT_JSON, "not-json")                                                                                            \
    X(BAD_FIELD, "bad-field")                                                                                          \
    X(BAD_NAME, "bad-name") /* of the topic: no type, no MAC (mqtt/inbox) */

enum report_result {
#define X(name, text) REPORT_RESULT_##name,
    REPORT_RESULT_LIST(X)
#undef X
        REPORT_RESULT_COUNT
};

const char *report_result_word(enum report_result result);

/* *report is written on REPORT_RESULT_OK alone. */
enum report_result device_report_read(enum report_style style, enum report_topic topic, const void *payload, size_t n,
                                      struct device_report *report);

#endif
