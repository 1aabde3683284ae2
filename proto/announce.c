/* How each known firmware is told to update itself: one table.
 *
 * What makes it hard: only the updraft preset speaks of types. Tasmota has one topic a device and group topics for
 * many, so a fleet's GroupTopic must be its type; Homie has no topic for many at all.
 */
#include "proto/announce.h"

#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static const struct announce presets[] = {
    {
        .name = "updraft",
        .part_count = 1,
        .parts = { { "updraft/{type}/update", "updraft/{type}/{mac}/update",
                     "{\"id\":\"{id}\",\"version\":\"{version}\",\"url\":\"{url}\",\"md5\":\"{md5}\",\"size\":{size},"
                     "\"mode\":\"{mode}\",\"window_s\":{window}}" } },
        .status_topic = "updraft/{type}/{mac}/status",
        .online_topic = "updraft/{type}/{mac}/online",
        .style = REPORT_UPDRAFT,
    },
    {
        /* OtaUrl first: Upgrade uses the address that the device has by then. The operator sets GroupTopic to the type
         * (Tasmota, docs: MQTT, "GroupTopic"); the device's own topic is its default, tasmota_%06X. */
        .name = "tasmota",
        .part_count = 2,
        .parts = { { "cmnd/{type}/OtaUrl", "cmnd/tasmota_{mac_tail}/OtaUrl", "{url}" },
                   { "cmnd/{type}/Upgrade", "cmnd/tasmota_{mac_tail}/Upgrade", "1" } },
        .status_topic = "stat/tasmota_{mac_tail}/UPGRADE",
        .online_topic = "tele/tasmota_{mac_tail}/LWT",
        .style = REPORT_TASMOTA,
    },
    {
        /* homieiot/homie-esp8266, BootNormal.cpp: the image itself is the payload, its MD5 the topic's end. */
        .name = "homie",
        .part_count = 1,
        .parts = { { NULL, "homie/{mac}/$implementation/ota/firmware/{md5}", NULL } },
        .status_topic = "homie/{mac}/$implementation/ota/status",
        .online_topic = "homie/{mac}/$state",
        .style = REPORT_HOMIE,
    },
};

const char announce_preset_names[] = "updraft, tasmota, homie";

const struct announce *announce_preset(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(presets); i++) {
        if (name != NULL && strcmp(name, presets[i].name) == 0) {
            return &presets[i];
        }
    }
    return NULL;
}
