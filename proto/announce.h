/* What is said to devices over MQTT, and what they say: topics and payloads, by preset.
 *
 * A command is one message or several in order. Sources: Tasmota, command topics `cmnd/<topic>/OtaUrl` and
 * `cmnd/<topic>/Upgrade` (docs, Commands; tasmota.ino: default topic `tasmota_%06X` of the MAC's end, group topic for
 * many); homieiot/homie-esp8266, `$implementation/ota/firmware/<md5>`, device id = MAC as 12 lower-case digits.
 */
#ifndef PROTO_ANNOUNCE_H
#define PROTO_ANNOUNCE_H

#include "base/status.h"
#include "proto/device_report.h"
#include "proto/template.h"

#include <stdbool.h>
#include <stddef.h>

#define ANNOUNCE_PARTS_MAX 3

struct announce_part {
    const char *type_topic; /* NULL: this firmware has no topic that all of a type listen to */
    const char *device_topic;
    const char *payload; /* NULL: the bytes of the image itself */
};

/* How one firmware wants to be told. */
struct announce {
    const char *name; /* "updraft", "tasmota", "homie" */
    size_t part_count;
    struct announce_part parts[ANNOUNCE_PARTS_MAX];
    const char *status_topic; /* NULL = none */
    const char *online_topic;
    enum report_style style; /* how to read the payloads of these */
};

/* NULL where there is none of that name. The table: updraft (contract of this project), tasmota, homie. */
const struct announce *announce_preset(const char *name);
extern const char announce_preset_names[]; /* "updraft, tasmota, homie", for a complaint */

#define ANNOUNCE_ID_SIZE 17 /* 16 hexadecimal digits and NUL */

#endif
