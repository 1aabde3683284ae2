/* `publish-update` over the API: an order in, a rollout out, and how it goes on. */
#include "server/admin_parts.h"

#include "server/survey.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEVICE_LIST_MAX   1000
#define MESSAGES_SHOWN    20
#define PROGRESS_LOOK_MS  250
#define TIMEOUT_S_DEFAULT 300
#define TIMEOUT_S_MAX     86400
#define WINDOW_S_MAX      86400

/* --- showing ------------------------------------------------------------------------------------------------------ */

static void on_progress(void *owner, const struct delivery *delivery, uint64_t bytes)
{
    struct admin_api *api = owner;
    const uint8_t *md5 = device_api_delivery_md5(delivery);
    for (size_t i = 0; i < rollouts_count(api->fleet->rollouts) && i < ROLLOUTS_MAX; i++) {
        const struct rollout *rollout = rollouts_at(api->fleet->rollouts, i);
        for (size_t k = 0; k < rollout->order.target.image_count && !rollout_is_over(rollout); k++) {
            if (memcmp(rollout->order.target.md5[k], md5, 16) == 0) {
                api->progress[i].bytes += bytes;
            }
        }
    }
}

/* Asking the system about each transfer costs: so for all rollouts at once, and not at each request. What has ended is
 * counted at the same moment: else a transfer that ends between two looks would count twice, and the sum fall back. */
static void look_at_progress(struct admin_api *api)
{
    uint64_t now_ms = uv_now(api->loop);
    if (now_ms - api->progress_ms < PROGRESS_LOOK_MS) {
        return;
    }
    api->progress_ms = now_ms;
    memset(api->progress, 0, sizeof api->progress);
    for (size_t i = 0; i < rollouts_count(api->fleet->rollouts) && i < ROLLOUTS_MAX; i++) {
        const struct rollout *rollout = rollouts_at(api->fleet->rollouts, i);
        memcpy(api->progress[i].id, rollout->id, ANNOUNCE_ID_SIZE);
        api->progress[i].bytes = rollout->bytes;
    }
    http_server_progress(api->device_http, on_progress, api);
}

/* Of transfers that ended, and of those under way. */
static uint64_t bytes_acknowledged(struct admin_api *api, const struct rollout *rollout)
{
    uint64_t bytes = rollout->bytes;
    look_at_progress(api);
    for (size_t i = 0; i < ROLLOUTS_MAX; i++) {
        bool is_it = !rollout_is_over(rollout) && strcmp(api->progress[i].id, rollout->id) == 0;
        bytes = is_it && api->progress[i].bytes > bytes ? api->progress[i].bytes : bytes;
    }
    return bytes;
}

static json_t *image_json(const struct rollout_target *target)
{
    return json_pack("{s:o, s:I, s:o}", "file", admin_text(target->file), "bytes", (json_int_t)target->bytes, "md5",
                     admin_hex(target->md5[0], 16));
}

static json_t *devices_json(const struct rollout *rollout)
{
    json_t *json = json_object();
    json_object_set_new(json, "expected", json_integer((json_int_t)rollout->expected));
    for (int state = 0; state < ROLLOUT_DEVICE_STATES; state++) {
        json_object_set_new(json, rollout_device_word((enum rollout_device_state)state),
                            json_integer((json_int_t)rollout->devices[state]));
    }
    json_object_set_new(json, "may_retry", json_integer((json_int_t)rollout->may_retry));
    json_object_set_new(json, "untracked", json_integer((json_int_t)rollout->untracked));
    return json;
}

static json_t *notes_json(const struct rollout *rollout)
{
    json_t *list = json_array();
    for (size_t i = 0; i < rollout->note_count; i++) {
        json_array_append_new(list, admin_text(rollout->notes[i]));
    }
    return list;
}

/* What all devices together will have received: those expected, or those that came where more did. */
static uint64_t bytes_expected(const struct rollout *rollout)
{
    const size_t *devices = rollout->devices;
    size_t came = devices[ROLLOUT_DEVICE_DOWNLOADING] + devices[ROLLOUT_DEVICE_SENT] +
                  devices[ROLLOUT_DEVICE_CONFIRMED] + devices[ROLLOUT_DEVICE_TRIGGERED];
    return (came > rollout->expected ? came : rollout->expected) * rollout->order.target.bytes;
}

static json_t *rollout_json(struct admin_api *api, const struct rollout *rollout)
{
    const struct rollout_target *target = &rollout->order.target;
    uint64_t now_ms = uv_now(api->loop);
    uint64_t end_ms = rollout_is_over(rollout) ? rollout->ended_ms : now_ms;
    json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "id", rollout->id, "type", target->type, "version",
                             target->version, "mode", target->fs ? "fs" : "sketch", "state",
                             rollout_state_word(rollout->state), "why", admin_text(rollout->why));
    json_object_set_new(json, "image", image_json(target));
    json_object_set_new(json, "created",
                        admin_time(api->started_s + (time_t)((rollout->created_ms - api->started_ms) / 1000)));
    json_object_set_new(json, "elapsed_s", json_real((double)(end_ms - rollout->created_ms) / 1000.0));
    json_object_set_new(json, "window_s", json_integer(rollout->order.window_s));
    json_object_set_new(json, "timeout_s", json_integer((json_int_t)(rollout->order.timeout_ms / 1000)));
    json_object_set_new(json, "commands",
                        json_pack("{s:I, s:I, s:I}", "sent", (json_int_t)rollout->commands, "acknowledged",
                                  (json_int_t)rollout->acknowledged, "failed", (json_int_t)rollout->commands_failed));
    json_object_set_new(json, "devices", devices_json(rollout));
    json_object_set_new(json, "bytes", json_integer((json_int_t)bytes_acknowledged(api, rollout)));
    json_object_set_new(json, "bytes_expected", json_integer((json_int_t)bytes_expected(rollout)));
    json_object_set_new(json, "notes", notes_json(rollout));
    json_object_set_new(json, "broker", admin_broker_json(api));
    return json;
}

void admin_get_rollouts(struct admin_call *call)
{
    struct admin_api *api = call->api;
    if (!admin_read_query(call, NULL, 0)) {
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < rollouts_count(api->fleet->rollouts); i++) {
        json_array_append_new(list, rollout_json(api, rollouts_at(api->fleet->rollouts, i)));
    }
    admin_answer(call->answer, 200,
                 json_pack("{s:I, s:o}", "total", (json_int_t)rollouts_count(api->fleet->rollouts), "rollouts", list));
}

static json_t *device_list_json(struct rollout *rollout, size_t offset, size_t limit)
{
    static struct rollout_device_view views[DEVICE_LIST_MAX]; /* the loop's */
    char mac[MAC_TEXT_SIZE];
    json_t *list = json_array();
    size_t count = rollout_devices(rollout, offset, views, limit);
    for (size_t i = 0; i < count; i++) {
        mac_print(&views[i].mac, mac);
        json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:o}", "mac", mac, "state",
                                              rollout_device_word(views[i].state), "may_retry", views[i].may_retry,
                                              "why", admin_text(views[i].why)));
    }
    return list;
}

void admin_get_rollout(struct admin_call *call)
{
    struct admin_api *api = call->api;
    bool devices = false;
    uint64_t offset = 0, limit = DEVICE_LIST_MAX;
    const struct admin_parameter parameters[] = {
        { "devices", ADMIN_YES_NO, &devices, 0, NULL },
        { "offset", ADMIN_NUMBER, &offset, ROLLOUT_DEVICES_MAX, NULL },
        { "limit", ADMIN_NUMBER, &limit, DEVICE_LIST_MAX, NULL },
    };
    if (!admin_read_query(call, parameters, sizeof parameters / sizeof parameters[0])) {
        return;
    }
    struct rollout *rollout = rollouts_find(api->fleet->rollouts, call->rest);
    if (rollout == NULL) {
        admin_refuse(call->answer, 404, "unknown-rollout",
                     "GET /api/v1/rollouts lists those that are remembered; a restart forgets them",
                     "there is no such rollout");
        return;
    }
    json_t *json = rollout_json(api, rollout);
    if (devices) {
        json_object_set_new(json, "device_list", device_list_json(rollout, offset, limit));
        json_object_set_new(json, "unlisted", json_integer((json_int_t)rollout_unlisted(rollout)));
    }
    admin_answer(call->answer, 200, json);
}

/* --- ordering ----------------------------------------------------------------------------------------------------- */

struct order_body {
    struct trigger_order order;
    struct mac *devices;
    bool plan;
};

static bool refuse_member(struct admin_call *call, const char *member, const char *remedy)
{
    admin_refuse(call->answer, 400, "bad-request", remedy, "member \"%s\" is missing or cannot be read", member);
    return false;
}

static bool read_seconds(struct admin_call *call, const json_t *body, const char *member, uint64_t least, uint64_t most,
                         uint64_t *seconds)
{
    const json_t *value = json_object_get(body, member);
    char remedy[80];
    if (value == NULL) {
        return true;
    }
    if (json_is_integer(value) && json_integer_value(value) >= (json_int_t)least &&
        json_integer_value(value) <= (json_int_t)most) {
        *seconds = (uint64_t)json_integer_value(value);
        return true;
    }
    snprintf(remedy, sizeof remedy, "give a whole number of seconds from %llu to %llu", (unsigned long long)least,
             (unsigned long long)most);
    return refuse_member(call, member, remedy);
}

/* The devices named; each once. */
static bool read_devices(struct admin_call *call, const json_t *body, struct order_body *read)
{
    const json_t *list = json_object_get(body, "to");
    size_t count = json_array_size(list);
    if (list == NULL) {
        return true;
    }
    if (count == 0 || count > TRIGGER_DEVICES_MAX) {
        return refuse_member(call, "to", "give a list of 1 to 10000 MACs, or leave it out for all of the type");
    }
    read->devices = calloc(count, sizeof *read->devices);
    if (read->devices == NULL) {
        return refuse_member(call, "to", "name fewer devices");
    }
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (text == NULL || !mac_parse(slice_of(text), &read->devices[i])) {
            return refuse_member(call, "to", "a MAC has 12 hexadecimal digits, such as 5c:cf:7f:b1:e0:42");
        }
    }
    qsort(read->devices, count, sizeof *read->devices, mac_compare);
    for (size_t i = 1; i < count; i++) {
        if (mac_equal(&read->devices[i - 1], &read->devices[i])) {
            return refuse_member(call, "to", "name each device once");
        }
    }
    read->order.devices = read->devices;
    read->order.device_count = count;
    return true;
}

static bool read_order(struct admin_call *call, const json_t *body, struct order_body *read)
{
    const json_t *type = json_object_get(body, "type");
    const json_t *version = json_object_get(body, "version");
    const json_t *mode = json_object_get(body, "mode");
    const json_t *plan = json_object_get(body, "plan");
    uint64_t window_s = 0, timeout_s = TIMEOUT_S_DEFAULT;
    if (!json_is_string(type)) {
        return refuse_member(call, "type", "give the device type, such as \"d1_mini\"");
    }
    if (version != NULL && (!json_is_string(version) || json_string_length(version) == 0 ||
                            json_string_length(version) > VERSION_TEXT_MAX)) {
        return refuse_member(call, "version", "give a version, or leave it out for the newest");
    }
    const char *mode_text = mode == NULL ? "sketch" : json_string_value(mode);
    if (mode_text == NULL || (strcmp(mode_text, "sketch") != 0 && strcmp(mode_text, "fs") != 0)) {
        return refuse_member(call, "mode", "give \"sketch\" or \"fs\"");
    }
    if (plan != NULL && !json_is_boolean(plan)) {
        return refuse_member(call, "plan", "give true or false");
    }
    if (!read_seconds(call, body, "window_s", 0, WINDOW_S_MAX, &window_s) ||
        !read_seconds(call, body, "timeout_s", 1, TIMEOUT_S_MAX, &timeout_s)) {
        return false;
    }
    read->order = (struct trigger_order){ .type = slice_of(json_string_value(type)),
                                          .version = json_string_value(version),
                                          .fs = strcmp(mode_text, "fs") == 0,
                                          .window_s = (uint32_t)window_s,
                                          .timeout_ms = timeout_s * 1000 };
    read->plan = json_is_true(plan);
    return read_devices(call, body, read);
}

static void refuse_order(struct admin_call *call, const struct trigger_problem *problem)
{
    admin_refuse(call->answer, trigger_refusal_status(problem->refusal), trigger_refusal_word(problem->refusal),
                 problem->remedy, "%s", problem->message);
}

/* The messages as they would go out; the id is only made when they do. */
static json_t *messages_json(const struct trigger *trigger, const struct trigger_order *order,
                             const struct trigger_plan *plan)
{
    struct trigger_message message;
    json_t *list = json_array();
    for (size_t i = 0; i < plan->commands && json_array_size(list) < MESSAGES_SHOWN; i++) {
        const struct mac *device = order->device_count > 0 ? &order->devices[i] : NULL;
        for (size_t part = 0; part < trigger->announce.part_count; part++) {
            if (trigger_message(trigger, order, plan, "(made when sent)", device, part, &message)) {
                char bytes[64];
                snprintf(bytes, sizeof bytes, "<%llu bytes of the image>", (unsigned long long)plan->target.bytes);
                json_array_append_new(list, json_pack("{s:o, s:o}", "topic", admin_text(message.topic), "payload",
                                                      admin_text(message.is_image ? bytes : message.payload)));
            }
        }
    }
    return list;
}

static void on_note(void *owner, const char *sentence)
{
    json_array_append_new(owner, admin_text(sentence));
}

static json_t *plan_json(const struct admin_api *api, const struct survey *survey)
{
    const struct trigger_plan *plan = survey->plan;
    const struct trigger_order *order = survey->order;
    json_t *notes = json_array(), *image = image_json(&plan->target);
    json_object_set_new(image, "chip", json_string(chip_text(plan->image->build.facts.chip)));
    json_t *json = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "type", plan->target.type, "version",
                             plan->target.version, "mode", plan->target.fs ? "fs" : "sketch", "image", image, "url",
                             admin_text(plan->url), "public_url_warning", admin_text(plan->public_url.warning));
    size_t named = order->device_count > 0 ? order->device_count : survey->known;
    json_object_set_new(json, "messages", messages_json(api->trigger, order, plan));
    size_t messages = plan->commands * api->trigger->announce.part_count;
    json_object_set_new(json, "message_count", json_integer((json_int_t)messages));
    json_object_set_new(json, "devices",
                        json_pack("{s:I, s:I, s:I}", "known", (json_int_t)survey->known, "current",
                                  (json_int_t)survey->current, "to_update", (json_int_t)(named - survey->current)));
    survey_say(survey, on_note, notes);
    json_object_set_new(json, "notes", notes);
    json_object_set_new(json, "broker", admin_broker_json(api));
    return json_pack("{s:o}", "plan", json);
}

/* A plan that is asked for: a large fleet takes more than a turn of the loop to look through. */
struct plan_call {
    struct admin_api *api;
    struct http_answer *answer; /* while the call lasts */
    struct http_later *later;
    bool done;
};

static void on_surveyed(void *owner, const struct survey *survey)
{
    struct plan_call *plan_call = owner;
    json_t *json = plan_json(plan_call->api, survey);
    if (plan_call->answer != NULL) {
        admin_answer(plan_call->answer, 200, json);
        plan_call->done = true;
        return;
    }
    struct http_answer answer = { .status = 200 };
    admin_answer(&answer, 200, json);
    admin_answer_later(plan_call->api, plan_call->later, &answer);
    free(plan_call);
}

static void answer_plan(struct admin_call *call, const struct order_body *read)
{
    struct trigger_plan plan;
    struct trigger_problem problem;
    if (!trigger_plan(call->api->trigger, &read->order, &plan, &problem)) {
        refuse_order(call, &problem);
        return;
    }
    struct plan_call *plan_call = calloc(1, sizeof *plan_call);
    assert(plan_call != NULL);
    plan_call->api = call->api;
    plan_call->answer = call->answer;
    survey_run(call->api->trigger, &read->order, &plan, on_surveyed, plan_call);
    plan_call->answer = NULL;
    if (plan_call->done) {
        free(plan_call);
    } else {
        plan_call->later = call->answer->later = http_later_new();
    }
}

static void answer_begin(struct admin_call *call, const struct order_body *read)
{
    struct trigger_problem problem;
    const struct rollout *rollout = trigger_begin(call->api->trigger, &read->order, &problem);
    if (rollout == NULL) {
        refuse_order(call, &problem);
        return;
    }
    snprintf(call->answer->location, sizeof call->answer->location, "/api/v1/rollouts/%s", rollout->id);
    admin_answer(call->answer, 202, rollout_json(call->api, rollout));
}

void admin_begin_rollout(struct admin_call *call)
{
    static const char *const members[] = { "type", "version", "mode", "to", "window_s", "timeout_s", "plan" };
    struct order_body read = { .plan = false };
    json_t *body = admin_read_body(call, members, sizeof members / sizeof members[0]);
    if (body == NULL) {
        return;
    }
    if (read_order(call, body, &read)) {
        if (read.plan) {
            answer_plan(call, &read);
        } else {
            answer_begin(call, &read);
        }
    }
    free(read.devices);
    json_decref(body);
}
