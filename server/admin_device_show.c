/* One device over the API: what is known of it, with its time-line, and with what follows from the clock or from its
 * type's rollouts, and is written down nowhere.
 */
#include "server/admin_parts.h"
#include "server/check.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_SHOWN_MAX STORE_EVENTS_OF_DEVICE
#define SILENT           "silent"

struct events_call {
    struct admin_api *api;
    struct http_later *later;
    struct mac mac;
};

/* Silence is no event that was written down: it follows from the clock. It stands where it belongs, newest first. */
static void add_silence(const struct admin_api *api, const struct mac *mac, bool fs, const struct store_event *events,
                        size_t count, json_t *list)
{
    const struct device *device = devices_find(api->fleet->devices, mac);
    uint32_t reboot_s = (uint32_t)(api->trigger->reboot_ms / 1000);
    struct moment now = clock_moment(api->loop);
    char text[160];
    size_t i = 0;
    if (device == NULL || fleet_outcome(device_sent(device, fs), reboot_s, &now) != OUTCOME_SILENT) {
        return;
    }
    uint32_t at = device_sent(device, fs)->unix_s + reboot_s;
    while (i < count && events[i].unix_s > at) {
        i++;
    }
    for (size_t k = 0; k < count && events[k].unix_s >= device_sent(device, fs)->unix_s; k++) {
        if (strcmp(events[k].word, SILENT) == 0) { /* its rollout has noted it */
            return;
        }
    }
    snprintf(text, sizeof text, "it had all of %.64s, and did not come back within %u s",
             words_text(api->fleet->words, device_sent(device, fs)->version), (unsigned)reboot_s);
    json_array_insert_new(list, i,
                          json_pack("{s:o, s:s, s:o}", "at", admin_time(at), "word", SILENT, "text", admin_text(text)));
}

/* What a check of it would show of a type that stays on an older version. */
static json_t *kept_json(const struct admin_api *api, const struct mac *mac)
{
    const struct device *device = devices_find(api->fleet->devices, mac);
    struct check check;
    char text[600] = "";
    if (device != NULL) {
        check_init(&check, &api->device_api->sources);
        check.device.has_mac = true;
        check.device.mac = *mac;
        check.device.client = device->client != CLIENT_PLAIN ? (enum device_client)device->client : CLIENT_ESP8266;
        check.type = slice_of(words_text(api->fleet->words, device->type->name));
        check_update(&check, true, NULL);
        admin_kept_text(&check, text, sizeof text);
    }
    return admin_text(text);
}

static void on_events(void *owner, enum status status, const struct store_event *events, size_t count, const char *why)
{
    struct events_call *asked = owner;
    struct http_answer answer = { .status = 200 };
    json_t *json = admin_device_json(asked->api, &asked->mac), *list = json_array();
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        json_array_append_new(list, json_pack("{s:o, s:o, s:o}", "at", admin_time(events[i].unix_s), "word",
                                              admin_text(events[i].word), "text", admin_text(events[i].text)));
    }
    add_silence(asked->api, &asked->mac, false, events, count, list);
    add_silence(asked->api, &asked->mac, true, events, count, list);
    json_object_set_new(json, "events", list);
    json_object_set_new(json, "events_why", admin_text(status == STATUS_OK ? "" : why));
    json_object_set_new(json, "kept", kept_json(asked->api, &asked->mac));
    admin_answer(&answer, 200, json);
    admin_answer_later(asked->api, asked->later, &answer);
    free(asked);
}

void admin_get_device(struct admin_call *call)
{
    struct admin_api *api = call->api;
    struct mac mac;
    if (!admin_read_mac(call, &mac) || !admin_knows_device(call, &mac)) {
        return;
    }
    if (api->store == NULL) {
        json_t *json = admin_device_json(api, &mac);
        json_object_set_new(json, "events", json_array());
        json_object_set_new(json, "events_why", json_string("nothing is written down here"));
        json_object_set_new(json, "kept", kept_json(api, &mac));
        admin_answer(call->answer, 200, json);
        return;
    }
    struct events_call *asked = calloc(1, sizeof *asked);
    assert(asked != NULL);
    asked->api = api;
    asked->mac = mac;
    asked->later = call->answer->later = http_later_new();
    store_queue_events_of(api->store, &mac, EVENTS_SHOWN_MAX, on_events, asked);
}
