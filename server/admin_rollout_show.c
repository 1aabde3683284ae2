/* One rollout over the API, with its devices. While it goes on they are in memory; of one that is over they lie in the
 * store, all of them, and are read there by its own thread.
 */
#include "server/admin_parts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define DEVICE_LIST_MAX STORE_MEMBERS_MAX

struct devices_call {
    struct admin_api *api;
    struct http_later *later;
    struct store_members_asked asked;
};

static void add_device(json_t *list, const struct rollout_member *member)
{
    char mac[MAC_TEXT_SIZE];
    mac_print(&member->mac, mac);
    json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:i, s:o, s:o}", "mac", mac, "state",
                                          rollout_device_word(member->state), "canary", member->canary, "attempts",
                                          member->attempts, "at", admin_time(member->unix_s), "why",
                                          admin_text(member->why)));
}

static json_t *from_memory(const struct rollout *rollout, const struct store_members_asked *asked)
{
    static struct rollout_member members[DEVICE_LIST_MAX]; /* the loop's */
    json_t *list = json_array();
    size_t count = rollout_members(rollout, asked->state, asked->first, members, asked->max);
    for (size_t i = 0; i < count; i++) {
        add_device(list, &members[i]);
    }
    return list;
}

/* `why`: the list is not from the store, as it should be; "" = it is, or need not. */
static json_t *with_devices(struct admin_api *api, const struct rollout *rollout,
                            const struct store_members_asked *asked, json_t *list, const char *why)
{
    json_t *json = admin_rollout_json(api, rollout);
    size_t of = asked->state == ROLLOUT_DEVICE_STATES ? rollout->members : rollout->devices[asked->state];
    size_t shown = asked->first + json_array_size(list);
    json_object_set_new(json, "unlisted", json_integer((json_int_t)(of > shown ? of - shown : 0)));
    json_object_set_new(json, "device_list", list);
    json_object_set_new(json, "device_list_why", admin_text(why));
    return json;
}

static json_t *from_store(const struct store_member *members, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct store_member *row = &members[i];
        struct rollout_member member = { .mac = row->mac,
                                         .state = (enum rollout_device_state)row->state,
                                         .canary = row->canary,
                                         .attempts = row->attempts,
                                         .unix_s = row->unix_s,
                                         .why = row->why };
        add_device(list, &member);
    }
    return list;
}

static void on_members(void *owner, enum status status, const struct store_member *members, size_t count,
                       const char *why)
{
    struct devices_call *call = owner;
    struct http_answer answer = { .status = 200 };
    const struct rollout *rollout = rollouts_find(call->api->fleet->rollouts, slice_of(call->asked.rollout));
    if (rollout == NULL) {
        admin_refuse(&answer, 404, "unknown-rollout", "nothing", "it was forgotten meanwhile");
    } else {
        bool read = status == STATUS_OK;
        json_t *list = read ? from_store(members, count) : from_memory(rollout, &call->asked);
        admin_answer(&answer, 200, with_devices(call->api, rollout, &call->asked, list, read ? "" : why));
    }
    admin_answer_later(call->api, call->later, &answer);
    free(call);
}

static void answer_with_devices(struct admin_call *call, const struct rollout *rollout,
                                const struct store_members_asked *asked)
{
    struct admin_api *api = call->api;
    bool is_closed = rollout_is_over(rollout) && rollout->in_flight == 0;
    if (!is_closed || api->store == NULL) {
        admin_answer(call->answer, 200, with_devices(api, rollout, asked, from_memory(rollout, asked), ""));
        return;
    }
    struct devices_call *later = calloc(1, sizeof *later);
    assert(later != NULL);
    later->api = api;
    later->asked = *asked;
    later->later = call->answer->later = http_later_new();
    store_queue_members_of(api->store, asked, on_members, later);
}

void admin_get_rollout(struct admin_call *call)
{
    bool devices = false;
    char word[HTTP_PARAMETER_MAX + 1] = "";
    struct store_members_asked asked = { .state = ROLLOUT_DEVICE_STATES };
    uint64_t offset = 0, limit = DEVICE_LIST_MAX;
    const struct admin_parameter parameters[] = {
        { "devices", ADMIN_YES_NO, &devices, 0, NULL },
        { "state", ADMIN_TEXT, word, 0, NULL },
        { "offset", ADMIN_NUMBER, &offset, ROLLOUT_DEVICES_MAX, NULL },
        { "limit", ADMIN_NUMBER, &limit, DEVICE_LIST_MAX, NULL },
    };
    if (!admin_read_query(call, parameters, sizeof parameters / sizeof parameters[0])) {
        return;
    }
    if (word[0] != '\0' && !rollout_device_from_word(slice_of(word), &asked.state)) {
        admin_refuse(call->answer, 400, "bad-request",
                     "a device is queued, triggered, downloading, flashed, confirmed, failed, silent or skipped",
                     "state=%s is not known", admin_show(word).text);
        return;
    }
    const struct rollout *rollout = admin_find_rollout(call, call->rest);
    if (rollout == NULL) {
        return;
    }
    snprintf(asked.rollout, sizeof asked.rollout, "%s", rollout->id);
    asked.first = offset;
    asked.max = limit;
    if (devices) {
        answer_with_devices(call, rollout, &asked);
    } else {
        admin_answer(call->answer, 200, admin_rollout_json(call->api, rollout));
    }
}
