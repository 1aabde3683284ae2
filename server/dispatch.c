/* What makes it hard is the time between: a command may wait for the broker while catalogs come and go, so a dispatch
 * keeps its own copy of the order and counts its image; and any call into the rollouts or the publisher may end the
 * rollout, which comes back here through trigger_rollout_changed. So a dispatch is held by who works with it, and looks
 * anew after each step.
 */
#include "server/dispatch.h"

#include "base/log.h"
#include "server/survey.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIDY_RECORDS 256 /* microseconds */

/* One command on its way; the publisher's callback carries it. */
struct dispatched {
    struct dispatch *dispatch;
    uint64_t ticket;
    bool open;
    bool sent;  /* to the publisher */
    bool taken; /* its device, by a newer order: the topic is that one's */
};

enum stage {
    GATHERS, /* devices that are expected */
    LOADS,   /* the image, where it is the payload */
    SENDS,
    WAITS, /* for answers */
};

struct dispatch {
    struct blob_wait wait; /* first */
    struct turn_job job;
    struct trigger *trigger;
    struct dispatch *next;
    char id[ANNOUNCE_ID_SIZE];
    struct rollout *rollout; /* NULL once it is over */
    struct kept_order kept;
    struct trigger_plan plan; /* its image is counted */
    struct survey survey;
    struct shared_bytes *image_bytes;
    const char *unsendable; /* why none can be sent; NULL = they can */
    uint64_t started_ms;
    enum stage stage;
    bool loading, over, withdrawn;
    unsigned holds;    /* calls that still need it */
    size_t open;       /* commands without an answer */
    size_t at;         /* the next command to be sent; once it is over: to be taken back */
    size_t on_its_way; /* commands that could not be */
    struct dispatched *commands;
};

/* --- life --------------------------------------------------------------------------------------------------------- */

static void dispatch_free(struct dispatch *dispatch)
{
    struct dispatch **at = &dispatch->trigger->dispatches;
    while (*at != dispatch) {
        at = &(*at)->next;
    }
    *at = dispatch->next;
    if (dispatch->image_bytes != NULL) {
        shared_bytes_unref(dispatch->image_bytes);
    }
    if (dispatch->stage == GATHERS) {
        survey_end(&dispatch->survey);
    }
    image_unref(dispatch->plan.image);
    kept_order_drop(&dispatch->kept);
    free(dispatch->commands);
    free(dispatch);
}

/* Ends a hold. Goes when nothing is on its way any more, and nothing retained has to be taken back. */
static void dispatch_release(struct dispatch *dispatch)
{
    bool is_done = dispatch->over ? dispatch->withdrawn : dispatch->stage == WAITS && !dispatch->trigger->retain;
    bool is_busy = --dispatch->holds > 0 || dispatch->open > 0 || dispatch->loading || dispatch->job.queued;
    if (is_done && !is_busy) {
        dispatch_free(dispatch);
    }
}

static struct dispatch *find_dispatch(const struct trigger *trigger, const char *id)
{
    struct dispatch *dispatch = trigger->dispatches;
    while (dispatch != NULL && strcmp(dispatch->id, id) != 0) {
        dispatch = dispatch->next;
    }
    return dispatch;
}

static void go_on(struct dispatch *dispatch)
{
    turns_add(trigger_turns(dispatch->trigger), &dispatch->job);
    turns_run(trigger_turns(dispatch->trigger));
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

/* The rollout's state may change within: hold the dispatch. */
static void command_ended(struct dispatched *command, bool acknowledged, const char *why)
{
    struct dispatch *dispatch = command->dispatch;
    struct trigger *trigger = dispatch->trigger;
    uint64_t now_ms = uv_now(trigger->loop);
    assert(command->open && dispatch->open > 0);
    command->open = false;
    dispatch->open--;
    struct rollout *rollout = rollouts_find(trigger->rollouts, slice_of(dispatch->id));
    if (acknowledged) {
        metrics_observe(trigger->metrics, METRIC_HISTOGRAM_COMMAND_SECONDS,
                        (double)(now_ms - dispatch->started_ms) / 1000.0);
    }
    if (rollout != NULL && !acknowledged && dispatch->kept.order.device_count > 0) {
        rollout_not_told(rollout, &dispatch->kept.devices[command - dispatch->commands], why, now_ms);
    }
    if (rollout != NULL) {
        rollout_command_ended(trigger->rollouts, rollout, acknowledged, why, now_ms);
    }
}

static void on_published(void *owner, uint64_t ticket, enum publish_result result, const char *why)
{
    struct dispatched *command = owner;
    struct dispatch *dispatch = command->dispatch;
    char text[160];
    (void)ticket;
    snprintf(text, sizeof text, "%s%s%s", publish_result_word(result), why[0] != '\0' ? ": " : "", why);
    dispatch->holds++;
    command_ended(command, result == PUBLISH_ACKNOWLEDGED, text);
    dispatch_release(dispatch);
}

/* --- taking back -------------------------------------------------------------------------------------------------- */

/* Returns false where it has gone, or is going: on_published follows in any case. */
static bool take_back(struct dispatch *dispatch, const struct dispatched *command)
{
    const struct trigger *trigger = dispatch->trigger;
    const struct rollout *rollout = rollouts_find(trigger->rollouts, slice_of(dispatch->id));
    bool is_given_up = rollout == NULL || rollout->state == ROLLOUT_FAILED;
    if (trigger->announce.part_count > 1 && !is_given_up) {
        return publisher_withdraw(trigger->publisher, command->ticket);
    }
    return publisher_abandon(trigger->publisher, command->ticket);
}

/* A newer rollout has taken a device: its command is no longer wanted, nor this one's word on its topic. */
static void lose_device(struct trigger *trigger, const struct rollout *rollout, const struct mac *mac)
{
    struct dispatch *dispatch = find_dispatch(trigger, rollout->id);
    const struct mac *found = NULL;
    if (dispatch != NULL && dispatch->kept.order.device_count > 0) {
        found = bsearch(mac, dispatch->kept.devices, dispatch->kept.order.device_count, sizeof *mac, mac_compare);
    }
    if (found == NULL) {
        return;
    }
    struct dispatched *command = &dispatch->commands[found - dispatch->kept.devices];
    dispatch->holds++;
    command->taken = true;
    if (command->open && !command->sent) {
        command_ended(command, false, "a newer order took the device over");
    } else if (command->open && trigger->publisher != NULL) {
        (void)take_back(dispatch, command);
    }
    dispatch_release(dispatch);
}

/* A command as the publisher wants it, and the texts that it borrows. */
struct written {
    struct publisher_command command;
    struct trigger_message messages[ANNOUNCE_PARTS_MAX];
    char about[TYPE_TEXT_MAX + MAC_TEXT_SIZE + 16];
};

/* The i-th one. */
static void write_command(struct dispatch *dispatch, size_t i, struct written *written)
{
    struct trigger *trigger = dispatch->trigger;
    const struct trigger_order *order = &dispatch->kept.order;
    const struct mac *device = order->device_count > 0 ? &order->devices[i] : NULL;
    struct publisher_command *command = &written->command;
    struct trigger_message *messages = written->messages;
    char mac[MAC_TEXT_SIZE] = "";
    if (device != NULL) {
        mac_print(device, mac);
    }
    snprintf(written->about, sizeof written->about, "%.*s%s%s (%s)", (int)order->type.len, order->type.at,
             device != NULL ? " " : "", mac, order->fs ? "fs" : "sketch");
    *command = (struct publisher_command){
        .about = written->about,
        .part_count = trigger->announce.part_count,
        .retain = trigger->retain,
        .expires_ms = trigger->expires_ms,
    };
    for (size_t part = 0; part < command->part_count; part++) {
        bool good = trigger_message(trigger, order, &dispatch->plan, dispatch->id, device, part, &messages[part]);
        assert(good); /* trigger_plan tried one just like it */
        (void)good;
        command->parts[part] = (struct publisher_part){
            .topic = messages[part].topic,
            .payload = messages[part].is_image ? NULL : messages[part].payload,
            .image = messages[part].is_image ? dispatch->image_bytes : NULL,
        };
    }
}

static void forget_retained(struct dispatch *dispatch, size_t i)
{
    struct written written;
    const struct trigger *trigger = dispatch->trigger;
    if (trigger->retain && trigger->publisher != NULL && dispatch->commands[i].sent && !dispatch->commands[i].taken) {
        write_command(dispatch, i, &written);
        publisher_forget(trigger->publisher, &written.command);
    }
}

/* Once all are taken back that could be. */
static void tell_what_goes_on(struct dispatch *dispatch)
{
    struct rollout *rollout = rollouts_find(dispatch->trigger->rollouts, slice_of(dispatch->id));
    if (rollout != NULL && rollout->state == ROLLOUT_FAILED && dispatch->on_its_way > 0) {
        size_t used = strlen(rollout->why);
        snprintf(rollout->why + used, sizeof rollout->why - used, "; %zu on their way may still arrive",
                 dispatch->on_its_way);
    }
}

static bool withdraw_next(struct dispatch *dispatch)
{
    if (dispatch->at == dispatch->plan.commands) {
        dispatch->withdrawn = true;
        tell_what_goes_on(dispatch);
        return false;
    }
    size_t i = dispatch->at++;
    struct dispatched *command = &dispatch->commands[i];
    if (command->open && !command->sent) {
        command_ended(command, false, "no longer wanted");
    } else if (command->open && dispatch->trigger->publisher != NULL) {
        dispatch->on_its_way += !take_back(dispatch, command);
    }
    forget_retained(dispatch, i);
    return true;
}

/* --- going out ---------------------------------------------------------------------------------------------------- */

static void log_begun(const struct dispatch *dispatch)
{
    const struct trigger_plan *plan = &dispatch->plan;
    struct log_line line;
    log_begin(&line, LOG_INFO, "rollout_begun");
    log_text(&line, "id", dispatch->id);
    log_text(&line, "type", plan->target.type);
    log_text(&line, "to", plan->target.version);
    log_text(&line, "mode", plan->target.fs ? "fs" : "sketch");
    log_text(&line, "image", plan->image->path);
    log_text(&line, "url", plan->url);
    log_number(&line, "commands", (int64_t)plan->commands);
    log_number(&line, "devices", (int64_t)dispatch->rollout->expected);
    log_end(&line);
}

static bool sends_image(const struct trigger *trigger)
{
    bool found = false;
    for (size_t part = 0; part < trigger->announce.part_count; part++) {
        found = found || trigger->announce.parts[part].payload == NULL;
    }
    return found;
}

static void on_blob(struct blob_wait *wait, enum status status, struct blob *blob)
{
    struct dispatch *dispatch = (struct dispatch *)wait; /* its first member */
    dispatch->loading = false;
    dispatch->holds++;
    /* Meanwhile the rollout may have ended, or the server may be ending. */
    bool wanted = !dispatch->over && dispatch->trigger->publisher != NULL;
    if (status == STATUS_OK) {
        dispatch->image_bytes = wanted ? shared_bytes_new(blob->size) : NULL;
        if (dispatch->image_bytes != NULL) {
            memcpy(dispatch->image_bytes->bytes, blob->bytes, blob->size);
        }
        blob_release(blob);
    }
    if (dispatch->image_bytes == NULL) {
        dispatch->unsendable = !wanted               ? "no longer wanted"
                               : status == STATUS_OK ? "out of memory"
                                                     : "the image cannot be loaded";
    }
    dispatch->stage = SENDS;
    go_on(dispatch);
    dispatch_release(dispatch);
}

static void on_note(void *owner, const char *sentence)
{
    rollout_note(owner, sentence);
}

/* All are known: on with the image, or with the commands. */
static bool end_gathering(struct dispatch *dispatch)
{
    survey_say(&dispatch->survey, on_note, dispatch->rollout);
    survey_end(&dispatch->survey);
    dispatch->stage = SENDS;
    log_begun(dispatch);
    if (sends_image(dispatch->trigger)) {
        dispatch->stage = LOADS;
        dispatch->loading = true;
        dispatch->wait.ready = on_blob;
        blob_get(dispatch->trigger->blobs, dispatch->plan.image, &dispatch->wait); /* perhaps at once: then SENDS */
    }
    return dispatch->stage != LOADS;
}

static bool gather_next(struct dispatch *dispatch)
{
    struct trigger *trigger = dispatch->trigger;
    struct rollout *losers[ROLLOUTS_MAX];
    struct mac mac;
    const struct device *device = NULL;
    enum survey_step step = survey_next(&dispatch->survey, &mac, &device);
    if (step == SURVEY_DONE) {
        return end_gathering(dispatch);
    }
    if (step == SURVEY_MET) {
        size_t lost = 0;
        if (!dispatch->rollout->order.whole_type) {
            lost = rollouts_take_over(trigger->rollouts, dispatch->rollout, &mac, uv_now(trigger->loop), losers);
        }
        for (size_t i = 0; i < lost; i++) {
            lose_device(trigger, losers[i], &mac);
        }
        rollout_expect(dispatch->rollout, &mac, device != NULL && device->has_md5 ? device->md5 : NULL);
    }
    return true;
}

static bool send_next(struct dispatch *dispatch)
{
    struct written written;
    struct publisher *publisher = dispatch->trigger->publisher;
    if (dispatch->at == dispatch->plan.commands) {
        dispatch->stage = WAITS;
        return false;
    }
    struct dispatched *one = &dispatch->commands[dispatch->at];
    if (!one->open) { /* its device was taken over meanwhile */
        dispatch->at++;
        return true;
    }
    const char *why = dispatch->unsendable != NULL ? dispatch->unsendable : "no longer wanted";
    enum status status = STATUS_CHANGED;
    if (dispatch->unsendable == NULL && publisher != NULL) {
        write_command(dispatch, dispatch->at, &written);
        status = publisher_send(publisher, &written.command, on_published, one, &one->ticket);
        why = status == STATUS_LIMIT ? "the queue of commands is full" : status_text(status);
    }
    dispatch->at++;
    one->sent = status == STATUS_OK;
    if (!one->sent) {
        command_ended(one, false, why);
    }
    return true;
}

static bool on_turn(void *owner, struct turn_budget *budget)
{
    static bool (*const steps[])(struct dispatch *) = {
        [GATHERS] = gather_next,
        [SENDS] = send_next,
    };
    struct dispatch *dispatch = owner;
    bool more = true;
    dispatch->holds++;
    do {
        bool has_step = dispatch->stage == GATHERS || dispatch->stage == SENDS;
        more = dispatch->over ? !dispatch->withdrawn && withdraw_next(dispatch)
                              : has_step && steps[dispatch->stage](dispatch);
    } while (more && !turn_is_spent(budget));
    dispatch_release(dispatch);
    return more;
}

void dispatch_begin(struct trigger *trigger, const struct trigger_order *order, const struct trigger_plan *plan,
                    struct rollout *rollout)
{
    struct dispatch *dispatch = calloc(1, sizeof *dispatch);
    assert(dispatch != NULL);
    dispatch->trigger = trigger;
    dispatch->rollout = rollout;
    dispatch->job = (struct turn_job){ .step = on_turn, .owner = dispatch };
    dispatch->plan = *plan;
    image_ref(plan->image);
    kept_order_make(&dispatch->kept, order);
    dispatch->commands = calloc(plan->commands, sizeof *dispatch->commands);
    assert(dispatch->commands != NULL);
    for (size_t i = 0; i < plan->commands; i++) {
        dispatch->commands[i] = (struct dispatched){ .dispatch = dispatch, .open = true };
    }
    dispatch->open = plan->commands;
    dispatch->started_ms = uv_now(trigger->loop);
    snprintf(dispatch->id, sizeof dispatch->id, "%s", rollout->id);
    dispatch->next = trigger->dispatches;
    trigger->dispatches = dispatch;
    survey_begin(&dispatch->survey, trigger, &dispatch->kept.order, &dispatch->plan);
    go_on(dispatch);
}

/* --- the rollout goes on ------------------------------------------------------------------------------------------ */

static void log_changed(const struct rollout *rollout, uint64_t now_ms)
{
    struct log_line line;
    if (rollout->state == ROLLOUT_PUBLISHING) {
        return;
    }
    log_begin(&line, rollout->state == ROLLOUT_FAILED ? LOG_WARN : LOG_INFO,
              rollout->state == ROLLOUT_RUNNING ? "rollout_published" : "rollout_ended");
    log_text(&line, "id", rollout->id);
    log_text(&line, "type", rollout->order.target.type);
    log_text(&line, "state", rollout_state_word(rollout->state));
    if (rollout->why[0] != '\0') {
        log_text(&line, "why", rollout->why);
    }
    if (rollout_is_over(rollout)) {
        for (int state = 0; state < ROLLOUT_DEVICE_STATES; state++) {
            log_number(&line, rollout_device_word((enum rollout_device_state)state), (int64_t)rollout->devices[state]);
        }
        log_number(&line, "bytes", (int64_t)rollout->bytes);
    }
    log_number(&line, "ms", (int64_t)(now_ms - rollout->created_ms));
    log_end(&line);
}

static bool on_tidying(void *owner, struct turn_budget *budget)
{
    struct trigger *trigger = owner;
    bool more = true;
    while (more && !turn_is_spent(budget)) {
        more = rollouts_tidy(trigger->rollouts, TIDY_RECORDS);
    }
    return more;
}

void trigger_rollout_changed(struct trigger *trigger, struct rollout *rollout)
{
    struct dispatch *dispatch = find_dispatch(trigger, rollout->id);
    if (dispatch != NULL && rollout_is_over(rollout)) {
        dispatch->holds++;
        if (dispatch->stage == GATHERS) {
            survey_end(&dispatch->survey);
            dispatch->stage = SENDS;
        }
        dispatch->over = true;
        dispatch->rollout = NULL;
        dispatch->at = 0;
        go_on(dispatch);
        dispatch_release(dispatch);
    }
    log_changed(rollout, uv_now(trigger->loop));
    if (rollout_is_over(rollout)) {
        trigger->tidying.step = on_tidying;
        trigger->tidying.owner = trigger;
        turns_add(trigger_turns(trigger), &trigger->tidying);
    }
}

void trigger_stop(struct trigger *trigger)
{
    turns_finish(trigger_turns(trigger));
    for (struct dispatch *dispatch = trigger->dispatches; dispatch != NULL; dispatch = dispatch->next) {
        for (size_t i = 0; i < dispatch->plan.commands && !dispatch->over; i++) {
            forget_retained(dispatch, i);
        }
    }
}

void trigger_close(struct trigger *trigger)
{
    turns_finish(trigger_turns(trigger));
    while (trigger->dispatches != NULL) {
        if (trigger->dispatches->loading) {
            blob_cancel(&trigger->dispatches->wait);
        }
        dispatch_free(trigger->dispatches);
    }
    turns_close(trigger_turns(trigger));
}
