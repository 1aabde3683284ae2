/* Devices over the API: what is known of each, and which there are. */
#include "server/admin_list.h"
#include "server/check.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS_SHOWN_MAX  1000
#define GROUPS_OFFSET_MAX 1000000
#define SEEN_WITHIN_MAX_S UINT32_MAX

/* --- one device --------------------------------------------------------------------------------------------------- */

static json_t *time_or_null(uint32_t unix_s)
{
    return unix_s > 0 ? admin_time(unix_s) : json_null();
}

static json_t *word_json(const struct admin_api *api, word_id word)
{
    return admin_text(words_text(api->fleet->words, word));
}

static json_t *address_json(const uint8_t address[16])
{
    static const uint8_t none[16], ipv4[12] = { [10] = 0xff, [11] = 0xff };
    char text[INET6_ADDRSTRLEN] = "";
    bool is_ipv4 = memcmp(address, ipv4, sizeof ipv4) == 0;
    if (memcmp(address, none, sizeof none) != 0) {
        inet_ntop(is_ipv4 ? AF_INET : AF_INET6, is_ipv4 ? address + sizeof ipv4 : address, text, sizeof text);
    }
    return json_string(text);
}

static json_t *transfer_json(const struct admin_api *api, const struct device *device, bool fs)
{
    const struct device_transfer *transfer = device_sent(device, fs);
    if (transfer->unix_s == 0) {
        return json_null();
    }
    return json_pack("{s:o, s:I, s:I, s:I, s:o, s:s}", "version", word_json(api, transfer->version), "bytes",
                     (json_int_t)transfer->bytes, "of", (json_int_t)transfer->of, "ms", (json_int_t)transfer->ms, "at",
                     admin_time(transfer->unix_s), "mode", fs ? "fs" : "sketch");
}

/* An operator's word goes before the configuration's, as in policy_of. */
static json_t *assigned_json(const struct admin_api *api, const struct policy_entry *entry, const struct mac *mac)
{
    const struct assignment *assignment = assignments_find(api->fleet->settings.assignments, mac);
    if (entry->type != 0 || entry->label != 0) {
        return json_pack("{s:o, s:o, s:s}", "type", word_json(api, entry->type), "label", word_json(api, entry->label),
                         "source", "operator");
    }
    return json_pack("{s:o, s:o, s:s}", "type", admin_text(assignment != NULL ? assignment->type : ""), "label",
                     admin_text(assignment != NULL ? assignment->label : ""), "source",
                     assignment != NULL ? "configuration" : "");
}

static json_t *policy_json(const struct admin_api *api, const struct mac *mac)
{
    static const struct policy_entry nothing;
    const struct policy_entry *entry = policies_find(api->fleet->policies, mac);
    entry = entry != NULL ? entry : &nothing;
    json_t *groups = json_array();
    for (size_t i = 0; i < entry->group_count; i++) {
        json_array_append_new(groups, word_json(api, entry->groups[i]));
    }
    return json_pack("{s:b, s:b, s:o, s:o, s:o, s:o, s:o}", "blocked", entry->blocked, "approved", entry->approved,
                     "pin", word_json(api, entry->pin), "assigned", assigned_json(api, entry, mac), "groups", groups,
                     "note", admin_text(entry->note), "at", time_or_null(entry->unix_s));
}

static json_t *never_again_json(const struct admin_api *api, const struct mac *mac)
{
    const struct never_again_entry *entry = never_again_find(api->fleet->never_again, mac);
    json_t *list = json_array();
    for (size_t i = 0; entry != NULL && i < entry->count; i++) {
        const struct never_again_image *image = &entry->images[i];
        uint8_t mode;
        const struct image *file = catalog_find_md5(api->catalog, image->md5, slice_of(""), &mode);
        json_array_append_new(
            list, json_pack("{s:o, s:i, s:b, s:b, s:o, s:o, s:o}", "md5", admin_hex(image->md5, 16), "failures",
                            (int)image->failures, "rolled_back", image->rolled_back, "held",
                            never_again_holds(api->fleet->never_again, mac, image->md5) != NULL, "file",
                            admin_text(file != NULL ? file->path : ""), "version",
                            admin_text(file != NULL ? build_name(&file->build) : ""), "at", admin_time(image->unix_s)));
    }
    return list;
}

static json_t *memberships_json(const struct admin_api *api, const struct mac *mac)
{
    struct rollout_member member;
    json_t *list = json_array();
    for (size_t i = 0; i < rollouts_count(api->fleet->rollouts); i++) {
        const struct rollout *rollout = rollouts_at(api->fleet->rollouts, i);
        if (rollout_member(rollout, mac, &member)) {
            json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:s, s:o}", "id", rollout->id, "state",
                                                  rollout_state_word(rollout->state), "version",
                                                  admin_text(rollout->order.target.version), "member",
                                                  rollout_device_word(member.state), "why", admin_text(member.why)));
        }
    }
    return list;
}

/* What it said of itself; of one that was never seen, nothing. */
static void add_said(json_t *json, const struct admin_api *api, const struct device *device)
{
    const char *chip = device->chip != CHIP_UNKNOWN ? chip_text((enum chip)device->chip) : "";
    const char *mode = device->flash_mode != FLASH_MODE_UNKNOWN ? flash_mode_text(device->flash_mode) : "";
    json_object_set_new(json, "type", device->type != NULL ? word_json(api, device->type->name) : json_string(""));
    json_object_set_new(json, "client", json_string(device_client_text((enum device_client)device->client)));
    json_object_set_new(json, "chip", json_string(chip));
    json_object_set_new(json, "flash_bytes", json_integer(device->flash_bytes));
    json_object_set_new(json, "flash_mode", json_string(mode));
    json_object_set_new(json, "free_bytes", json_integer(device->free_bytes));
    json_object_set_new(json, "sketch_bytes", json_integer(device->sketch_bytes));
    json_object_set_new(json, "version", word_json(api, device->version));
    json_object_set_new(json, "fs_version", word_json(api, device->fs_version));
    json_object_set_new(json, "md5", device->has_md5 ? admin_hex(device->md5, 16) : json_string(""));
    json_object_set_new(json, "sdk", word_json(api, device->sdk));
    json_object_set_new(json, "address", address_json(device->address));
    json_object_set_new(json, "via_proxy", json_boolean(device->via_proxy));
}

json_t *admin_device_json(const struct admin_api *api, const struct mac *mac)
{
    static const struct device never_seen = { .chip = CHIP_UNKNOWN, .flash_mode = FLASH_MODE_UNKNOWN };
    const struct device *device = devices_find(api->fleet->devices, mac);
    struct moment now = clock_moment(api->loop);
    char text[MAC_TEXT_SIZE];
    mac_print(mac, text);
    device = device != NULL ? device : &never_seen;
    json_t *json = json_pack("{s:s}", "mac", text);
    add_said(json, api, device);
    json_object_set_new(json, "first_seen", time_or_null(device->first_seen_s));
    json_object_set_new(json, "last_seen", time_or_null(device->seen_s));
    json_object_set_new(json, "online", device->said_online ? json_boolean(device->online) : json_null());
    json_object_set_new(json, "reason",
                        json_string(device->seen_s > 0 ? reason_word((enum reason)device->reason) : ""));
    json_object_set_new(json, "reason_mode", json_string(device->reason_fs ? "fs" : "sketch"));
    for (int fs = 0; fs < 2; fs++) {
        const struct device_transfer *sent = device_sent(device, fs);
        enum outcome outcome = fleet_outcome(sent, (uint32_t)(api->trigger->reboot_ms / 1000), &now);
        json_object_set_new(json, fs ? "fs_transfer" : "transfer", transfer_json(api, device, fs));
        json_object_set_new(json, fs ? "fs_outcome" : "outcome", json_string(outcome_word(outcome)));
        json_object_set_new(json, fs ? "fs_failures" : "failures", json_integer(sent->failures));
    }
    json_object_set_new(json, "policy", policy_json(api, mac));
    json_object_set_new(json, "never_again", never_again_json(api, mac));
    json_object_set_new(json, "rollouts", memberships_json(api, mac));
    return json;
}

bool admin_read_mac(struct admin_call *call, struct mac *mac)
{
    char text[HTTP_PARAMETER_MAX + 1] = "";
    if (slice_copy(call->rest, text, sizeof text) && mac_parse(call->rest, mac)) {
        return true;
    }
    admin_refuse(call->answer, 400, "bad-request", "a MAC has 12 hexadecimal digits, such as 5c:cf:7f:b1:e0:42",
                 "%s is no MAC", admin_show(text).text);
    return false;
}

bool admin_knows_device(struct admin_call *call, const struct mac *mac)
{
    const struct fleet *fleet = call->api->fleet;
    if (devices_find(fleet->devices, mac) != NULL || policies_find(fleet->policies, mac) != NULL) {
        return true;
    }
    admin_refuse(call->answer, 404, "unknown-device",
                 "`updraft devices` lists those that are known; is it the MAC that the device itself prints?",
                 "no device with this MAC has ever asked, and nothing was said of it");
    return false;
}

/* --- many of them ------------------------------------------------------------------------------------------------- */

struct device_filter {
    char type[HTTP_PARAMETER_MAX + 1], group[HTTP_PARAMETER_MAX + 1], part[HTTP_PARAMETER_MAX + 1];
    bool of_type, of_group, of_outcome, of_reason, of_online, online, of_seen;
    enum outcome outcome;
    enum reason reason;
    uint64_t seen_within_s;
};

struct device_list {
    struct admin_list list;
    struct device_filter filter;
    bool any; /* the filter lets everybody pass */
    size_t next;
};

/* Its last sketch or its last file system; "none" is who was sent neither. */
static bool came_to(const struct device_list *devices, const struct device *device)
{
    const struct moment *now = &devices->list.now;
    uint32_t reboot_s = (uint32_t)(devices->list.api->trigger->reboot_ms / 1000);
    enum outcome sketch = fleet_outcome(device_sent(device, false), reboot_s, now);
    enum outcome fs = fleet_outcome(device_sent(device, true), reboot_s, now), wanted = devices->filter.outcome;
    return wanted == OUTCOME_NONE ? sketch == wanted && fs == wanted : sketch == wanted || fs == wanted;
}

static bool matches(const struct device_list *devices, const struct device *device)
{
    const struct device_filter *filter = &devices->filter;
    const struct fleet *fleet = devices->list.api->fleet;
    char mac[MAC_TEXT_SIZE];
    if (devices->any) {
        return true;
    }
    if (filter->of_type && strcmp(words_text(fleet->words, device->type->name), filter->type) != 0) {
        return false;
    }
    if (filter->of_reason && (device->seen_s == 0 || device->reason != filter->reason)) {
        return false;
    }
    if (filter->of_outcome && !came_to(devices, device)) {
        return false;
    }
    if (filter->of_online && (!device->said_online || device->online != filter->online)) {
        return false;
    }
    if (filter->of_seen && (device->seen_s == 0 || device->seen_s + filter->seen_within_s < devices->list.now.unix_s)) {
        return false;
    }
    if (filter->of_group && !policy_in_group(policies_find(fleet->policies, &device->mac),
                                             words_find(fleet->words, slice_of(filter->group)))) {
        return false;
    }
    if (filter->part[0] == '\0') {
        return true;
    }
    mac_print(&device->mac, mac);
    return strstr(mac, filter->part) != NULL;
}

static enum admin_list_look look(struct admin_list *list)
{
    struct device_list *devices = (struct device_list *)list;
    const struct devices *known = list->api->fleet->devices;
    if (devices->any && list->shown >= list->limit) { /* who comes then needs no look */
        list->matched = devices_count(known);
        return ADMIN_LIST_END;
    }
    if (devices->next >= devices_count(known)) { /* who was forgotten meanwhile leaves fewer */
        return ADMIN_LIST_END;
    }
    return matches(devices, devices_at(known, devices->next++)) ? ADMIN_LIST_COUNTS : ADMIN_LIST_OTHER;
}

static json_t *show(struct admin_list *list)
{
    const struct device_list *devices = (const struct device_list *)list;
    return admin_device_json(list->api, &devices_at(list->api->fleet->devices, devices->next - 1)->mac);
}

static json_t *end(struct admin_list *list)
{
    return json_pack("{s:I}", "total", (json_int_t)list->matched);
}

/* "none, open, …": all of them. */
static void list_outcomes(char *to, size_t size)
{
    size_t used = (size_t)snprintf(to, size, "give one of ");
    for (enum outcome i = 0; i < OUTCOME_COUNT && used < size; i++) {
        used += (size_t)snprintf(to + used, size - used, "%s%s", i > 0 ? ", " : "", outcome_word(i));
    }
}

static bool refuse_word(struct admin_call *call, const char *name, const char *value, const char *remedy)
{
    admin_refuse(call->answer, 400, "bad-request", remedy, "%s=%s is not known", name, admin_show(value).text);
    return false;
}

static bool read_words(struct admin_call *call, struct device_filter *filter, const char *outcome, const char *reason)
{
    while (filter->of_outcome && filter->outcome < OUTCOME_COUNT &&
           strcmp(outcome_word(filter->outcome), outcome) != 0) {
        filter->outcome++;
    }
    while (filter->of_reason && filter->reason < REASON_COUNT && strcmp(reason_word(filter->reason), reason) != 0) {
        filter->reason++;
    }
    if (filter->outcome == OUTCOME_COUNT) {
        char remedy[200];
        list_outcomes(remedy, sizeof remedy);
        return refuse_word(call, "outcome", outcome, remedy);
    }
    if (filter->reason == REASON_COUNT) {
        return refuse_word(call, "reason", reason, "docs/reasons.md lists the reasons");
    }
    return true;
}

/* The digits of a MAC's part, however they are written. */
static bool read_part(struct admin_call *call, const char *q, char *part)
{
    size_t used = 0;
    for (const char *at = q; *at != '\0'; at++) {
        char c = *at >= 'A' && *at <= 'F' ? (char)(*at + 'a' - 'A') : *at;
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')) {
            part[used++] = c;
        } else if (strchr(":-.", c) == NULL) {
            return refuse_word(call, "q", q, "give a part of a MAC: hexadecimal digits, with or without colons");
        }
    }
    part[used] = '\0';
    return true;
}

static bool read_list(struct admin_call *call, struct device_list *devices)
{
    char outcome[HTTP_PARAMETER_MAX + 1] = "", reason[HTTP_PARAMETER_MAX + 1] = "", q[HTTP_PARAMETER_MAX + 1] = "";
    struct device_filter *filter = &devices->filter;
    const struct admin_parameter parameters[] = {
        { "type", ADMIN_TEXT, filter->type, 0, &filter->of_type },
        { "group", ADMIN_TEXT, filter->group, 0, &filter->of_group },
        { "outcome", ADMIN_TEXT, outcome, 0, &filter->of_outcome },
        { "reason", ADMIN_TEXT, reason, 0, &filter->of_reason },
        { "online", ADMIN_YES_NO, &filter->online, 0, &filter->of_online },
        { "seen_within_s", ADMIN_NUMBER, &filter->seen_within_s, SEEN_WITHIN_MAX_S, &filter->of_seen },
        { "q", ADMIN_TEXT, q, 0, NULL },
        { "offset", ADMIN_NUMBER, &devices->list.offset, DEVICES_MAX, NULL },
        { "limit", ADMIN_NUMBER, &devices->list.limit, ADMIN_LIST_MAX, NULL },
    };
    if (!admin_read_query(call, parameters, sizeof parameters / sizeof parameters[0]) ||
        !read_words(call, filter, outcome, reason) || !read_part(call, q, filter->part)) {
        return false;
    }
    devices->any = !filter->of_type && !filter->of_group && !filter->of_outcome && !filter->of_reason &&
                   !filter->of_online && !filter->of_seen && filter->part[0] == '\0';
    return true;
}

void admin_get_devices(struct admin_call *call)
{
    static const struct admin_list_kind kind = { "devices", look, show, end };
    struct device_list *devices = calloc(1, sizeof *devices);
    assert(devices != NULL);
    devices->list = (struct admin_list){ .kind = &kind, .limit = ADMIN_LIST_MAX };
    if (!read_list(call, devices)) {
        free(devices);
        return;
    }
    if (devices->any) { /* those before it need no look */
        size_t count = devices_count(call->api->fleet->devices);
        devices->next = devices->list.matched = devices->list.offset < count ? (size_t)devices->list.offset : count;
    }
    admin_list_answer(call, &devices->list);
}

/* --- groups ------------------------------------------------------------------------------------------------------- */

void admin_get_groups(struct admin_call *call)
{
    static word_id names[GROUPS_SHOWN_MAX]; /* the loop's, as are their counts */
    static size_t counts[GROUPS_SHOWN_MAX];
    uint64_t offset = 0, limit = GROUPS_SHOWN_MAX;
    size_t total;
    const struct admin_parameter parameters[] = {
        { "offset", ADMIN_NUMBER, &offset, GROUPS_OFFSET_MAX, NULL },
        { "limit", ADMIN_NUMBER, &limit, GROUPS_SHOWN_MAX, NULL },
    };
    if (!admin_read_query(call, parameters, sizeof parameters / sizeof parameters[0])) {
        return;
    }
    json_t *list = json_array();
    size_t count = policies_groups(call->api->fleet->policies, offset, names, counts, limit, &total);
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(
            list, json_pack("{s:o, s:I}", "name", word_json(call->api, names[i]), "devices", (json_int_t)counts[i]));
    }
    admin_answer(call->answer, 200, json_pack("{s:I, s:o}", "total", (json_int_t)total, "groups", list));
}
