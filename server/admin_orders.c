/* `publish-update` over the API: an order in; what it would come to, or a rollout out. */
#include "server/admin_parts.h"

#include "server/survey.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_S_DEFAULT 300
#define TIMEOUT_S_MAX     86400
#define WINDOW_S_MAX      86400
#define CANARY_MAX        10000
#define IN_FLIGHT_MAX     100000

/* --- reading ----------------------------------------------------------------------------------------------------- */

struct order_body {
    struct trigger_order order; /* its texts are the body's */
    struct mac *devices;
    bool plan;
};

static bool refuse_member(struct admin_call *call, const char *member, const char *remedy)
{
    admin_refuse(call->answer, 400, "bad-request", remedy, "member \"%s\" is missing or cannot be read", member);
    return false;
}

static bool read_number(struct admin_call *call, const json_t *body, const char *member, uint64_t least, uint64_t most,
                        uint64_t *number)
{
    const json_t *value = json_object_get(body, member);
    char remedy[80];
    if (value == NULL) {
        return true;
    }
    if (json_is_integer(value) && json_integer_value(value) >= (json_int_t)least &&
        json_integer_value(value) <= (json_int_t)most) {
        *number = (uint64_t)json_integer_value(value);
        return true;
    }
    snprintf(remedy, sizeof remedy, "give a whole number from %llu to %llu", (unsigned long long)least,
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

/* Who of the type, how many first, and how many at once. */
static bool read_stages(struct admin_call *call, const json_t *body, struct order_body *read)
{
    static const char *const others[] = { "group", "percent", "canary" };
    const json_t *group = json_object_get(body, "group");
    uint64_t percent = 100, canary = 0, in_flight = 0, max_failures = call->api->max_failures;
    for (size_t i = 0; i < sizeof others / sizeof others[0] && read->order.device_count > 0; i++) {
        if (json_object_get(body, others[i]) != NULL) {
            return refuse_member(call, others[i], "an order names its devices (to), or chooses among the type's");
        }
    }
    if (group != NULL &&
        (!json_is_string(group) || json_string_length(group) == 0 || json_string_length(group) > WORD_TEXT_MAX)) {
        return refuse_member(call, "group", "give the name of a group, or leave it out");
    }
    if (!read_number(call, body, "percent", 1, 100, &percent) ||
        !read_number(call, body, "canary", 0, CANARY_MAX, &canary) ||
        !read_number(call, body, "in_flight", 0, IN_FLIGHT_MAX, &in_flight) ||
        !read_number(call, body, "max_failures", 0, 100, &max_failures)) {
        return false;
    }
    read->order.group = json_string_value(group);
    read->order.percent = (unsigned)percent;
    read->order.canary = (unsigned)canary;
    read->order.in_flight = (unsigned)in_flight;
    read->order.max_failures = (unsigned)max_failures;
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
    if (!read_number(call, body, "window_s", 0, WINDOW_S_MAX, &window_s) ||
        !read_number(call, body, "timeout_s", 1, TIMEOUT_S_MAX, &timeout_s)) {
        return false;
    }
    read->order = (struct trigger_order){ .type = slice_of(json_string_value(type)),
                                          .version = json_string_value(version),
                                          .fs = strcmp(mode_text, "fs") == 0,
                                          .window_s = (uint32_t)window_s,
                                          .timeout_ms = timeout_s * 1000 };
    read->plan = json_is_true(plan);
    return read_devices(call, body, read) && read_stages(call, body, read);
}

static void refuse_order(struct admin_call *call, const struct trigger_problem *problem)
{
    admin_refuse(call->answer, trigger_refusal_status(problem->refusal), trigger_refusal_word(problem->refusal),
                 problem->remedy, "%s", problem->message);
}

/* Of those selected, so many get it: a percentage is of whoever is met. */
static size_t to_update(const struct survey *survey)
{
    return ((survey->met - survey->skipped) * survey->order->percent + 50) / 100;
}

static size_t first_count(const struct survey *survey)
{
    size_t getting = survey->met - survey->skipped;
    return getting < SURVEY_FIRST ? getting : SURVEY_FIRST;
}

/* The messages as they would go out: to the type, or to the first devices that get it; the id is only made when they
 * do. */
static json_t *messages_json(const struct survey *survey, const struct trigger_order *order, bool to_type)
{
    struct trigger_message message;
    const struct trigger_plan *plan = survey->plan;
    json_t *list = json_array();
    size_t commands = to_type ? 1 : plan->device_topic ? first_count(survey) : 0;
    for (size_t i = 0; i < commands && json_array_size(list) < SURVEY_FIRST; i++) {
        const struct mac *device = to_type ? NULL : &survey->first[i];
        for (size_t part = 0; part < survey->trigger->announce.part_count; part++) {
            if (trigger_message(survey->trigger, order, plan, "(made when sent)", device, part, &message)) {
                char bytes[64];
                snprintf(bytes, sizeof bytes, "<%llu bytes of the image>", (unsigned long long)plan->target.bytes);
                json_array_append_new(list, json_pack("{s:o, s:o}", "topic", admin_text(message.topic), "payload",
                                                      admin_text(message.is_image ? bytes : message.payload)));
            }
        }
    }
    return list;
}

/* Who gets it, by name; not where they are drawn by lot when the rollout begins. */
static json_t *first_json(const struct survey *survey)
{
    char mac[MAC_TEXT_SIZE];
    json_t *list = json_array();
    for (size_t i = 0; survey->order->percent == 100 && i < first_count(survey); i++) {
        mac_print(&survey->first[i], mac);
        json_array_append_new(list, json_string(mac));
    }
    return list;
}

static void on_note(void *owner, const char *sentence)
{
    json_array_append_new(owner, admin_text(sentence));
}

static json_t *skipped_json(const struct survey *survey)
{
    char mac[MAC_TEXT_SIZE];
    json_t *list = json_array();
    for (size_t i = 0; i < survey->found_count; i++) {
        const struct survey_found *found = &survey->found[i];
        const char *reason = found->reason != REASON_COUNT         ? reason_word(found->reason)
                             : found->finding == SURVEY_OTHER_TYPE ? "other-type"
                                                                   : NULL;
        if (reason == NULL) {
            continue;
        }
        json_t *first = json_array();
        for (size_t k = 0; k < found->count && k < SURVEY_NAMED; k++) {
            mac_print(&found->first[k], mac);
            json_array_append_new(first, json_string(mac));
        }
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:o, s:o}", "reason", reason, "count", (json_int_t)found->count,
                                        "detail", admin_text(found->text), "first", first));
    }
    return list;
}

static void print_duration(uint64_t seconds, char *to, size_t size)
{
    if (seconds < 120) {
        snprintf(to, size, "%llu s", (unsigned long long)seconds);
    } else if (seconds < 7200) {
        snprintf(to, size, "%llu min", (unsigned long long)((seconds + 30) / 60));
    } else {
        snprintf(to, size, "%llu h", (unsigned long long)((seconds + 1800) / 3600));
    }
}

/* From the command to the check-in that proves it, of those of the type that were updated lately; 0 = none was. */
static uint64_t measured_ms(const struct admin_api *api, const struct trigger_order *order)
{
    uint64_t sum_ms = 0, confirmed = 0;
    for (size_t i = 0; i < rollouts_count(api->fleet->rollouts); i++) {
        const struct rollout *rollout = rollouts_at(api->fleet->rollouts, i);
        if (slice_is(order->type, rollout->order.target.type) && rollout->order.target.fs == order->fs) {
            sum_ms += rollout->transfer_ms + rollout->reboot_ms;
            confirmed += rollout->devices[ROLLOUT_DEVICE_CONFIRMED];
        }
    }
    return confirmed == 0 ? 0 : sum_ms / confirmed > 0 ? sum_ms / confirmed : 1;
}

static uint64_t rounds(uint64_t devices, uint64_t window)
{
    return (devices + window - 1) / window;
}

/* How long it takes at the measured rate; null = nobody knows. */
static void add_seconds(json_t *json, const struct admin_api *api, const struct survey *survey)
{
    const struct trigger_order *order = survey->order;
    char text[160], duration[32];
    uint64_t each_ms = measured_ms(api, order), devices = to_update(survey);
    uint64_t window = order->in_flight > 0 ? order->in_flight : WINDOW_START;
    uint64_t canaries = order->canary < devices ? order->canary : devices;
    json_t *seconds = json_null();
    if (survey->met == 0) {
        snprintf(text, sizeof text, "nobody knows: no device of it was seen yet");
    } else if (devices == 0) {
        seconds = json_integer(0);
        snprintf(text, sizeof text, "no time: there is nobody to update");
    } else if (each_ms == 0) {
        snprintf(text, sizeof text, "nothing was measured yet: the first rollout of the type to confirm a device does");
    } else {
        each_ms += (uint64_t)order->window_s * 500; /* that is the mean */
        window = devices < window ? devices : window;
        uint64_t ms = (rounds(canaries, window) + rounds(devices - canaries, window)) * each_ms;
        seconds = json_integer((json_int_t)((ms + 999) / 1000));
        print_duration((uint64_t)json_integer_value(seconds), duration, sizeof duration);
        snprintf(text, sizeof text, "about %s at %llu devices a minute%s", duration,
                 (unsigned long long)(window * 60000 / each_ms),
                 order->in_flight == 0 && devices > window ? ", less as more go at once" : "");
    }
    json_object_set_new(json, "seconds", seconds);
    json_object_set_new(json, "seconds_text", json_string(text));
}

static json_t *plan_json(const struct admin_api *api, const struct survey *survey)
{
    const struct trigger_plan *plan = survey->plan;
    const struct trigger_order *order = survey->order;
    bool to_type = plan->type_topic && (survey_suits_type(survey) || !plan->device_topic);
    bool told = to_type || (plan->device_topic && survey->met > 0);
    struct trigger_order told_order = *order;
    if (to_type && survey->met == 0 && order->window_s == 0) {
        told_order.window_s = ROLLOUT_UNKNOWN_WINDOW_S; /* as rollout_start has it */
    }
    json_t *notes = json_array(), *image = admin_target_json(&plan->target);
    json_object_set_new(image, "chip", json_string(chip_text(plan->image->build.facts.chip)));
    json_t *json = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "type", plan->target.type, "version",
                             plan->target.version, "mode", plan->target.fs ? "fs" : "sketch", "image", image, "url",
                             admin_text(plan->public_url.url[0] != '\0' ? plan->url : ""), "public_url_warning",
                             admin_text(plan->public_url.warning));
    size_t commands = !told ? 0 : to_type ? 1 : to_update(survey);
    json_object_set_new(json, "messages", told ? messages_json(survey, &told_order, to_type) : json_array());
    json_object_set_new(json, "message_count",
                        json_integer((json_int_t)commands * (json_int_t)api->trigger->announce.part_count));
    json_object_set_new(json, "how",
                        json_string(!told     ? "nobody can be told: they get it when they ask"
                                    : to_type ? "one command to the type's topic"
                                              : "a command to each device, as its turn comes"));
    json_object_set_new(json, "devices",
                        json_pack("{s:I, s:I, s:I, s:I, s:I}", "known", (json_int_t)survey->known, "current",
                                  (json_int_t)survey->current, "to_update", (json_int_t)(survey->met - survey->skipped),
                                  "chosen", (json_int_t)to_update(survey), "away", (json_int_t)survey->away));
    json_object_set_new(json, "selected",
                        json_pack("{s:I, s:o, s:o, s:i, s:i, s:o}", "members", (json_int_t)survey->met, "first",
                                  first_json(survey), "skipped", skipped_json(survey), "canary", (int)order->canary,
                                  "percent", (int)order->percent, "group",
                                  admin_text(order->group != NULL ? order->group : "")));
    json_object_set_new(json, "in_flight", json_integer(order->in_flight));
    add_seconds(json, api, survey);
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

/* An order that was taken: the operator is told when it is written down. */
struct begun_call {
    struct admin_api *api;
    struct http_later *later;
    char id[ANNOUNCE_ID_SIZE];
};

static void on_written(void *owner, enum status status, const char *why)
{
    struct begun_call *begun = owner;
    struct http_answer answer = { .status = 202 };
    struct rollout *rollout = rollouts_find(begun->api->fleet->rollouts, slice_of(begun->id));
    struct moment now = clock_moment(begun->api->loop);
    if (status == STATUS_OK && rollout != NULL) {
        snprintf(answer.location, sizeof answer.location, "/api/v1/rollouts/%s", begun->id);
        admin_answer(&answer, 202, admin_rollout_json(begun->api, rollout));
    } else {
        if (rollout != NULL) {
            rollout_call_off(rollout, "it could not be written down", &now);
        }
        admin_refuse(&answer, 503, "store-failing", "mend that, and give the order again",
                     "the order was not taken, for it cannot be written down: %s", why);
    }
    admin_answer_later(begun->api, begun->later, &answer);
    free(begun);
}

static void answer_begin(struct admin_call *call, const struct order_body *read)
{
    struct admin_api *api = call->api;
    struct trigger_problem problem;
    uint64_t ticket = 0;
    if (admin_store_is_failing(call)) {
        return;
    }
    const struct rollout *rollout = trigger_begin(api->trigger, &read->order, &ticket, &problem);
    if (rollout == NULL) {
        refuse_order(call, &problem);
        return;
    }
    if (ticket == 0) { /* nothing is written down here */
        snprintf(call->answer->location, sizeof call->answer->location, "/api/v1/rollouts/%s", rollout->id);
        admin_answer(call->answer, 202, admin_rollout_json(api, rollout));
        return;
    }
    struct begun_call *begun = calloc(1, sizeof *begun);
    assert(begun != NULL);
    begun->api = api;
    snprintf(begun->id, sizeof begun->id, "%s", rollout->id);
    begun->later = call->answer->later = http_later_new();
    store_queue_when(api->store, ticket, ADMIN_STORE_WAIT_MS, on_written, begun);
}

void admin_begin_rollout(struct admin_call *call)
{
    static const char *const members[] = { "type",   "version",   "mode",         "to",       "group",     "percent",
                                           "canary", "in_flight", "max_failures", "window_s", "timeout_s", "plan" };
    struct order_body read = { .plan = false };
    json_t *body = admin_read_body(call, members, sizeof members / sizeof members[0]);
    if (body == NULL) {
        return;
    }
    if (read_order(call, body, &read)) {
        if (read.plan) {
            call->only_asks = true;
            answer_plan(call, &read);
        } else {
            answer_begin(call, &read);
        }
    }
    free(read.devices);
    json_decref(body);
}
