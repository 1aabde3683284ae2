/* Rollouts over the API: how they go on, and an operator's word to them. */
#include "server/admin_list.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMED_SHOWN      100
#define PROGRESS_LOOK_MS 250

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

json_t *admin_target_json(const struct rollout_target *target)
{
    return json_pack("{s:o, s:I, s:o}", "file", admin_text(target->file), "bytes", (json_int_t)target->bytes, "md5",
                     admin_hex(target->md5[0], 16));
}

static json_t *devices_json(const struct rollout *rollout)
{
    json_t *json = json_pack("{s:I}", "members", (json_int_t)rollout->members);
    for (int state = 0; state < ROLLOUT_DEVICE_STATES; state++) {
        json_object_set_new(json, rollout_device_word((enum rollout_device_state)state),
                            json_integer((json_int_t)rollout->devices[state]));
    }
    json_object_set_new(json, "anonymous", json_integer((json_int_t)rollout->anonymous));
    return json;
}

static json_t *skipped_json(const struct rollout *rollout)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ROLLOUT_REASONS_MAX; i++) {
        const struct rollout_reason *reason = &rollout->skipped_for.all[i];
        if (reason->count > 0) {
            json_array_append_new(
                list, json_pack("{s:o, s:I}", "reason", admin_text(reason->word), "count", (json_int_t)reason->count));
        }
    }
    return list;
}

static json_t *notes_json(const struct admin_api *api, const struct rollout *rollout)
{
    const char *note;
    json_t *list = json_array();
    for (size_t i = 0; (note = trigger_note(api->trigger, rollout->id, i)) != NULL; i++) {
        json_array_append_new(list, admin_text(note));
    }
    return list;
}

static json_t *order_json(const struct rollout_order *order)
{
    char mac[MAC_TEXT_SIZE];
    json_t *to = order->named ? json_array() : json_null();
    for (size_t i = 0; i < order->device_count && i < NAMED_SHOWN; i++) {
        mac_print(&order->devices[i], mac);
        json_array_append_new(to, json_string(mac));
    }
    return json_pack("{s:o, s:I, s:o, s:i, s:i, s:i, s:i}", "to", to, "to_count", (json_int_t)order->device_count,
                     "group", admin_text(order->group), "percent", (int)order->percent, "canary", (int)order->canary,
                     "in_flight", (int)order->in_flight, "max_failures", (int)order->max_failures);
}

/* What all devices together will have received: those that are meant. */
static uint64_t bytes_expected(const struct rollout *rollout)
{
    return (rollout->members - rollout->devices[ROLLOUT_DEVICE_SKIPPED]) * rollout->order.target.bytes;
}

static json_t *seconds_left_json(const struct rollout *rollout)
{
    bool stands_still = rollout->state == ROLLOUT_HALTED || rollout->state == ROLLOUT_PAUSED;
    int64_t seconds = rollout_is_over(rollout) ? 0 : stands_still ? -1 : rollout_seconds_left(rollout);
    size_t waited_for = rollout->in_flight + rollout->devices[ROLLOUT_DEVICE_QUEUED];
    if (seconds == 0 && !rollout_is_over(rollout) && waited_for > 0) {
        return json_null(); /* they take longer than others did */
    }
    return seconds >= 0 ? json_integer((json_int_t)seconds) : json_null();
}

/* Of one that halted at its canaries: what resume would do, which its name does not say; else "". */
static void resume_text(const struct rollout *rollout, char *text, size_t size)
{
    text[0] = '\0';
    bool over_canaries = rollout->state == ROLLOUT_HALTED && rollout->before == ROLLOUT_CANARY &&
                         rollout->cause != ROLLOUT_CAUSE_IMAGE_LOST;
    if (!over_canaries) {
        return;
    }
    size_t left = rollout_canaries_left(rollout), open = left - rollout->canaries_confirmed;
    if (open == 0) {
        snprintf(text, size, "resume goes on with all %zu devices that wait, without %scanaries",
                 rollout->devices[ROLLOUT_DEVICE_QUEUED], left > 0 ? "more " : "");
    } else {
        snprintf(text, size, "resume goes on with the rest when the %zu %s confirmed", open,
                 open == 1 ? "canary that is left has" : "canaries that are left have");
    }
}

json_t *admin_rollout_json(struct admin_api *api, const struct rollout *rollout)
{
    const struct rollout_target *target = &rollout->order.target;
    uint32_t now_s = clock_moment(api->loop).unix_s;
    uint32_t end_s = rollout_is_over(rollout) ? rollout->ended_s : now_s;
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:s}", "id", rollout->id, "type", target->type, "version",
                  target->version, "mode", target->fs ? "fs" : "sketch", "state", rollout_state_word(rollout->state),
                  "why", admin_text(rollout->why), "supersedes", rollout->supersedes);
    json_object_set_new(json, "superseded_by",
                        json_string(rollout_is_superseded(rollout) ? rollout->superseded_by : ""));
    json_object_set_new(json, "awaits_devices",
                        json_boolean(!rollout_is_over(rollout) && rollout_awaits_strangers(rollout)));
    json_object_set_new(json, "image", admin_target_json(target));
    json_object_set_new(json, "created", admin_time(rollout->created_s));
    json_object_set_new(json, "ended", rollout->ended_s > 0 ? admin_time(rollout->ended_s) : json_null());
    json_object_set_new(json, "elapsed_s", json_integer(end_s > rollout->created_s ? end_s - rollout->created_s : 0));
    json_object_set_new(json, "window_s", json_integer(rollout->order.window_s));
    json_object_set_new(json, "timeout_s", json_integer((json_int_t)(rollout->order.timeout_ms / 1000)));
    json_object_set_new(json, "order", order_json(&rollout->order));
    json_object_set_new(json, "window",
                        json_pack("{s:i, s:b, s:I}", "size", (int)window_size(&rollout->window), "adaptive",
                                  rollout->order.in_flight == 0, "in_flight", (json_int_t)rollout->in_flight));
    json_object_set_new(json, "commands",
                        json_pack("{s:I, s:I, s:I}", "sent", (json_int_t)rollout->commands, "acknowledged",
                                  (json_int_t)rollout->acknowledged, "failed", (json_int_t)rollout->commands_failed));
    json_object_set_new(json, "devices", devices_json(rollout));
    json_object_set_new(json, "skipped", skipped_json(rollout));
    json_object_set_new(json, "canaries",
                        json_pack("{s:I, s:I}", "members", (json_int_t)rollout->canaries, "confirmed",
                                  (json_int_t)rollout->canaries_confirmed));
    json_object_set_new(json, "failures", json_integer((json_int_t)rollout->failures));
    json_object_set_new(json, "lost", json_integer((json_int_t)rollout->lost));
    json_object_set_new(json, "bytes", json_integer((json_int_t)bytes_acknowledged(api, rollout)));
    json_object_set_new(json, "bytes_expected", json_integer((json_int_t)bytes_expected(rollout)));
    json_object_set_new(json, "seconds_left", seconds_left_json(rollout));
    json_object_set_new(json, "notes", notes_json(api, rollout));
    char resume[120];
    resume_text(rollout, resume, sizeof resume);
    json_object_set_new(json, "resume", json_string(resume));
    json_object_set_new(json, "broker", admin_broker_json(api));
    json_object_set_new(json, "store", admin_store_json(api));
    return json;
}

/* Those there were when it was asked for, whichever begin and are forgotten meanwhile. */
struct rollout_list {
    struct admin_list list;
    const struct rollout *rollout; /* looked at */
    size_t next, count;
    char ids[][ANNOUNCE_ID_SIZE];
};

static enum admin_list_look look(struct admin_list *list)
{
    struct rollout_list *rollouts = (struct rollout_list *)list;
    if (rollouts->next == rollouts->count) {
        return ADMIN_LIST_END;
    }
    rollouts->rollout = rollouts_find(list->api->fleet->rollouts, slice_of(rollouts->ids[rollouts->next++]));
    return rollouts->rollout != NULL ? ADMIN_LIST_COUNTS : ADMIN_LIST_OTHER;
}

static json_t *show(struct admin_list *list)
{
    return admin_rollout_json(list->api, ((const struct rollout_list *)list)->rollout);
}

static json_t *end(struct admin_list *list)
{
    return json_pack("{s:I}", "total", (json_int_t)list->matched);
}

void admin_get_rollouts(struct admin_call *call)
{
    static const struct admin_list_kind kind = { "rollouts", look, show, end };
    const struct rollouts *all = call->api->fleet->rollouts;
    size_t count = rollouts_count(all);
    struct rollout_list *rollouts = calloc(1, sizeof *rollouts + count * sizeof rollouts->ids[0]);
    assert(rollouts != NULL);
    rollouts->list = (struct admin_list){ .kind = &kind, .limit = ADMIN_LIST_MAX };
    rollouts->count = count;
    for (size_t i = 0; i < count; i++) {
        snprintf(rollouts->ids[i], sizeof rollouts->ids[i], "%s", rollouts_at(all, i)->id);
    }
    admin_list_answer(call, &rollouts->list);
}

struct rollout *admin_find_rollout(struct admin_call *call, struct slice id)
{
    struct rollout *rollout = rollouts_find(call->api->fleet->rollouts, id);
    if (rollout == NULL) {
        admin_refuse(call->answer, 404, "unknown-rollout", "GET /api/v1/rollouts lists those that are remembered",
                     "there is no such rollout");
    }
    return rollout;
}

/* --- an operator's word ------------------------------------------------------------------------------------------- */

struct changed_call {
    struct admin_api *api;
    struct http_later *later;
    char id[ANNOUNCE_ID_SIZE];
    char done[240]; /* what it came to; "" = what was said */
};

/* `unwritten`: why it could not be written down; "" = it is. */
static json_t *changed_json(struct admin_api *api, const struct rollout *rollout, const char *done,
                            const char *unwritten)
{
    json_t *json = admin_rollout_json(api, rollout);
    if (done[0] != '\0' || unwritten[0] != '\0') {
        char warning[700];
        snprintf(warning, sizeof warning, "%s%s%s%s", done, done[0] != '\0' && unwritten[0] != '\0' ? "; " : "",
                 unwritten[0] != '\0' ? "not written down yet, a restart would forget it: " : "", unwritten);
        json_object_set_new(json, "warning", admin_sentence(warning));
    }
    return json;
}

/* It acts whether or not it could be written down: stopping must not wait for a disk. */
static void on_written(void *owner, enum status status, const char *why)
{
    struct changed_call *changed = owner;
    struct http_answer answer = { .status = 200 };
    const struct rollout *rollout = rollouts_find(changed->api->fleet->rollouts, slice_of(changed->id));
    if (rollout == NULL) {
        admin_refuse(&answer, 404, "unknown-rollout", "nothing", "it was forgotten meanwhile");
    } else {
        admin_answer(&answer, 200, changed_json(changed->api, rollout, changed->done, status == STATUS_OK ? "" : why));
    }
    admin_answer_later(changed->api, changed->later, &answer);
    free(changed);
}

static void answer_changed(struct admin_call *call, const struct rollout *rollout, const char *done)
{
    struct admin_api *api = call->api;
    uint64_t ticket = journal_rollout(api->fleet->journal, rollout, true);
    if (ticket == 0 || ticket == JOURNAL_REFUSED) {
        const char *unwritten = ticket == JOURNAL_REFUSED ? "the store's backlog is full" : "";
        admin_answer(call->answer, 200, changed_json(api, rollout, done, unwritten));
        return;
    }
    struct changed_call *changed = calloc(1, sizeof *changed);
    assert(changed != NULL);
    changed->api = api;
    snprintf(changed->id, sizeof changed->id, "%s", rollout->id);
    snprintf(changed->done, sizeof changed->done, "%s", done);
    changed->later = call->answer->later = http_later_new();
    bool failing = store_queue_view(api->store)->health == STORE_FAILING; /* who stops updates does not wait for it */
    store_queue_when(api->store, ticket, failing ? 0 : ADMIN_STORE_WAIT_MS, on_written, changed);
}

/* Whose rollout, and why, where it says so. Returns the body, which is the caller's; NULL with the refusal. */
static json_t *read_word(struct admin_call *call, struct rollout **rollout, const char **because)
{
    static const char *const members[] = { "why" };
    *rollout = admin_find_rollout(call, call->rest);
    json_t *body = *rollout != NULL ? admin_read_body(call, members, 1) : NULL;
    const json_t *why = json_object_get(body, "why");
    *because = json_string_value(why);
    if (why != NULL && *because == NULL) {
        admin_refuse(call->answer, 400, "bad-request", "give a text, or leave it out", "member \"why\" cannot be read");
        json_decref(body);
        return NULL;
    }
    return body;
}

static void answer_word(struct admin_call *call, const struct rollout *rollout, enum status status, const char *why,
                        const char *done)
{
    if (status != STATUS_OK) {
        admin_refuse(call->answer, 409, "wrong-state", why, "the rollout is %s", rollout_state_word(rollout->state));
    } else {
        answer_changed(call, rollout, done);
    }
}

void admin_pause_rollout(struct admin_call *call)
{
    struct moment now = clock_moment(call->api->loop);
    struct rollout *rollout;
    const char *because, *why = "";
    json_t *body = read_word(call, &rollout, &because);
    if (body != NULL) {
        enum status status = rollout_pause(rollout, &now, &why);
        answer_word(call, rollout, status, why, "");
        json_decref(body);
    }
}

void admin_resume_rollout(struct admin_call *call)
{
    struct moment now = clock_moment(call->api->loop);
    struct rollout *rollout;
    const char *because, *why = "";
    json_t *body = read_word(call, &rollout, &because);
    if (body != NULL) {
        char done[240];
        resume_text(rollout, done, sizeof done);
        enum status status = rollout_resume(rollout, &now, &why);
        if (status == STATUS_OK && rollout->state == ROLLOUT_HALTED) {
            snprintf(done, sizeof done, "it halts at once: %s", rollout->why);
        }
        answer_word(call, rollout, status, why, done);
        json_decref(body);
    }
}

void admin_abort_rollout(struct admin_call *call)
{
    struct moment now = clock_moment(call->api->loop);
    struct rollout *rollout;
    const char *because, *why = "";
    json_t *body = read_word(call, &rollout, &because);
    if (body != NULL) {
        because = because != NULL && because[0] != '\0' ? because : "by an operator";
        enum status status = rollout_abort(rollout, because, &now, &why);
        answer_word(call, rollout, status, why, "");
        json_decref(body);
    }
}
