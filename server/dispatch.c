/* What makes it hard is the time between: a command may wait for the broker while catalogs come and go, so a dispatch
 * keeps its own copy of the order and counts its image. And the rollout must not be called back from within its own
 * calls (fleet/rollout.h): what goes wrong at once is told in the next turn.
 */
#include "server/dispatch.h"

#include "base/log.h"
#include "server/survey.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define NOTES_MAX 16

/* One command: on its way, or (retained ones) there until the rollout is over. */
struct told {
    struct dispatch *dispatch;
    struct mac mac;
    bool to_type;
    unsigned attempt;
    uint64_t ticket, began_ms;
    bool open;       /* no answer yet */
    const char *why; /* it could not even be handed over; NULL = it was */
    struct told *prev, *next;
};

enum stage {
    GATHERS, /* devices that are meant */
    LOADS,   /* the image, where it is the payload */
    RUNS,
    RESTS, /* the rollout is over: only its notes are left, as long as it is remembered */
};

struct dispatch {
    struct blob_wait wait; /* first */
    struct turn_job job;
    struct trigger *trigger;
    struct dispatch *next;
    char id[ANNOUNCE_ID_SIZE];
    struct kept_order kept;
    struct trigger_plan plan; /* its image is counted */
    struct survey survey;
    struct shared_bytes *image_bytes;
    const char *unsendable; /* why none can be sent; NULL = they can */
    enum stage stage;
    bool loading;
    bool takes_back; /* what still waits is to be withdrawn */
    struct told *tolds;
    size_t unsent; /* of them: what could not be handed over, and the rollout has not heard yet */
    char *notes[NOTES_MAX];
    size_t note_count;
};

static struct rollout *rollout_of(const struct dispatch *dispatch)
{
    return rollouts_find(dispatch->trigger->fleet->rollouts, slice_of(dispatch->id));
}

static bool is_over(const struct dispatch *dispatch)
{
    const struct rollout *rollout = rollout_of(dispatch);
    return rollout == NULL || rollout_is_over(rollout);
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
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void drop_told(struct dispatch *dispatch, struct told *told)
{
    DL_DELETE(dispatch->tolds, told);
    dispatch->unsent -= told->open && told->why != NULL;
    free(told);
}

/* Lets go of all but the notes. */
static void rest(struct dispatch *dispatch)
{
    if (dispatch->stage == RESTS) {
        return;
    }
    while (dispatch->tolds != NULL) {
        drop_told(dispatch, dispatch->tolds);
    }
    if (dispatch->image_bytes != NULL) {
        shared_bytes_unref(dispatch->image_bytes);
    }
    if (dispatch->stage == GATHERS) {
        survey_end(&dispatch->survey);
    }
    image_unref(dispatch->plan.image);
    kept_order_drop(&dispatch->kept);
    dispatch->stage = RESTS;
}

static void dispatch_free(struct dispatch *dispatch)
{
    struct dispatch **at = &dispatch->trigger->dispatches;
    while (*at != dispatch) {
        at = &(*at)->next;
    }
    *at = dispatch->next;
    rest(dispatch);
    for (size_t i = 0; i < dispatch->note_count; i++) {
        free(dispatch->notes[i]);
    }
    free(dispatch);
}

const char *trigger_note(const struct trigger *trigger, const char *id, size_t i)
{
    const struct dispatch *dispatch = find_dispatch(trigger, id);
    return dispatch != NULL && i < dispatch->note_count ? dispatch->notes[i] : NULL;
}

static void on_note(void *owner, const char *sentence)
{
    struct dispatch *dispatch = owner;
    if (dispatch->note_count < NOTES_MAX) {
        dispatch->notes[dispatch->note_count] = strdup(sentence);
        assert(dispatch->notes[dispatch->note_count] != NULL);
        dispatch->note_count++;
    }
}

/* --- a command ---------------------------------------------------------------------------------------------------- */

/* As the publisher wants it, and the texts that it borrows. */
struct written {
    struct publisher_command command;
    struct trigger_message messages[ANNOUNCE_PARTS_MAX];
    char about[TYPE_TEXT_MAX + MAC_TEXT_SIZE + 16];
};

static void write_command(struct dispatch *dispatch, const struct told *told, struct written *written)
{
    struct trigger *trigger = dispatch->trigger;
    const struct trigger_order *order = &dispatch->kept.order;
    const struct mac *device = told->to_type ? NULL : &told->mac;
    struct publisher_command *command = &written->command;
    struct trigger_message *messages = written->messages;
    char mac[MAC_TEXT_SIZE] = "", id[ANNOUNCE_ID_SIZE];
    if (device != NULL) {
        mac_print(device, mac);
    }
    rollout_command_id(rollout_of(dispatch), device, told->attempt, id);
    snprintf(written->about, sizeof written->about, "%.*s%s%s (%s)", (int)order->type.len, order->type.at,
             device != NULL ? " " : "", mac, order->fs ? "fs" : "sketch");
    *command = (struct publisher_command){
        .about = written->about,
        .part_count = trigger->announce.part_count,
        .retain = trigger->retain,
        .expires_ms = trigger->expires_ms,
    };
    for (size_t part = 0; part < command->part_count; part++) {
        bool good = trigger_message(trigger, order, &dispatch->plan, id, device, part, &messages[part]);
        assert(good); /* trigger_plan tried one just like it */
        (void)good;
        command->parts[part] = (struct publisher_part){
            .topic = messages[part].topic,
            .payload = messages[part].is_image ? NULL : messages[part].payload,
            .image = messages[part].is_image ? dispatch->image_bytes : NULL,
        };
    }
}

/* The rollout hears how it went; it may end within. */
static void answer(struct told *told, bool acknowledged, const char *why)
{
    struct dispatch *dispatch = told->dispatch;
    struct trigger *trigger = dispatch->trigger;
    struct moment now = clock_moment(trigger->loop);
    struct rollout *rollout = rollout_of(dispatch);
    struct mac mac = told->mac;
    bool to_type = told->to_type;
    if (acknowledged) {
        metrics_observe(trigger->metrics, METRIC_HISTOGRAM_COMMAND_SECONDS, (double)(now.ms - told->began_ms) / 1000.0);
    }
    if (acknowledged && trigger->retain) {
        told->open = false; /* taken back when the rollout is over */
    } else {
        drop_told(dispatch, told);
    }
    if (rollout != NULL) {
        rollouts_told(trigger->fleet->rollouts, rollout, to_type ? NULL : &mac,
                      acknowledged ? STATUS_OK : STATUS_DENIED, why, &now);
    }
    go_on(dispatch); /* perhaps it was the last */
}

static void on_published(void *owner, uint64_t ticket, enum publish_result result, const char *why)
{
    char text[400];
    (void)ticket;
    snprintf(text, sizeof text, "%s%s%s", publish_result_word(result), why[0] != '\0' ? ": " : "", why);
    answer(owner, result == PUBLISH_ACKNOWLEDGED, text);
}

void trigger_tell(struct trigger *trigger, struct rollout *rollout, const struct mac *device, unsigned attempt)
{
    struct dispatch *dispatch = find_dispatch(trigger, rollout->id);
    struct written written;
    assert(dispatch != NULL); /* it is begun with the rollout, and goes after it */
    struct told *told = calloc(1, sizeof *told);
    assert(told != NULL);
    *told = (struct told){ .dispatch = dispatch,
                           .to_type = device == NULL,
                           .attempt = attempt,
                           .began_ms = uv_now(trigger->loop),
                           .open = true,
                           .why = dispatch->unsendable };
    if (device != NULL) {
        told->mac = *device;
    }
    DL_APPEND(dispatch->tolds, told);
    if (told->why == NULL && trigger->publisher == NULL) {
        told->why = "the server ends";
    }
    if (told->why == NULL) {
        write_command(dispatch, told, &written);
        enum status status = publisher_send(trigger->publisher, &written.command, on_published, told, &told->ticket);
        told->why = status == STATUS_LIMIT ? "the queue of commands is full"
                    : status != STATUS_OK  ? status_text(status)
                                           : NULL;
    }
    if (told->why != NULL) {
        dispatch->unsent++;
        go_on(dispatch);
    }
}

/* --- taking back -------------------------------------------------------------------------------------------------- */

void trigger_withdraw(struct trigger *trigger, struct rollout *rollout)
{
    struct dispatch *dispatch = find_dispatch(trigger, rollout->id);
    if (dispatch != NULL) {
        dispatch->takes_back = true;
        go_on(dispatch);
    }
}

/* A newer rollout has told this device: what lies on its topic is that one's. */
static bool is_replaced(const struct dispatch *dispatch, const struct told *told)
{
    const struct trigger_order *order = &dispatch->kept.order;
    struct rollout_member member;
    const struct rollout *newer =
        told->to_type ? NULL
                      : rollouts_for(dispatch->trigger->fleet->rollouts, &told->mac, order->type, order->fs, false);
    return newer != NULL && newer != rollout_of(dispatch) && !rollout_is_over(newer) && !newer->told_type &&
           rollout_member(newer, &told->mac, &member) && member.attempts > 0;
}

static void forget_retained(struct dispatch *dispatch, const struct told *told)
{
    struct written written;
    if (dispatch->trigger->retain && dispatch->trigger->publisher != NULL && rollout_of(dispatch) != NULL &&
        !is_replaced(dispatch, told)) {
        write_command(dispatch, told, &written);
        publisher_forget(dispatch->trigger->publisher, &written.command);
    }
}

/* While the rollout goes on, a device may have been handed over to a newer one, or have come before it was told. */
static bool is_wanted(const struct dispatch *dispatch, const struct told *told)
{
    const struct rollout *rollout = rollout_of(dispatch);
    struct rollout_member member;
    return rollout != NULL && (rollout->state == ROLLOUT_CANARY || rollout->state == ROLLOUT_RUNNING) &&
           (told->to_type || (rollout_member(rollout, &told->mac, &member) &&
                              member.state == ROLLOUT_DEVICE_TRIGGERED && member.attempts == told->attempt));
}

/* Over, nobody was told, and nobody will be: who reads "aborted" shall not find devices flashed later. */
static bool is_given_up(const struct rollout *rollout)
{
    bool superseded = rollout != NULL && strncmp(rollout->why, ROLLOUT_SUPERSEDED, strlen(ROLLOUT_SUPERSEDED)) == 0;
    return rollout == NULL || (rollout->state == ROLLOUT_ABORTED && rollout->acknowledged == 0 && !superseded);
}

/* A command of several messages reaches its device whole or not at all, unless its rollout is given up: then what has
 * begun is, too. Returns false where it is on its way. */
static bool take_back(struct dispatch *dispatch, struct told *told)
{
    bool whole = dispatch->trigger->announce.part_count > 1 && !is_given_up(rollout_of(dispatch));
    if (told->open && told->why == NULL && dispatch->trigger->publisher != NULL) {
        return !whole ? publisher_abandon(dispatch->trigger->publisher, told->ticket)
                      : publisher_withdraw(dispatch->trigger->publisher, told->ticket);
    }
    return true;
}

/* Who reads "aborted" must not wonder about devices that are flashed later. */
static void say_what_goes_on(struct dispatch *dispatch, size_t on_their_way)
{
    struct rollout *rollout = rollout_of(dispatch);
    if (rollout != NULL && is_given_up(rollout) && on_their_way > 0) {
        size_t used = strlen(rollout->why);
        snprintf(rollout->why + used, sizeof rollout->why - used, "; %zu on their way may still arrive", on_their_way);
    }
}

/* --- in turns ----------------------------------------------------------------------------------------------------- */

static void log_begun(const struct dispatch *dispatch, const struct rollout *rollout)
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
    log_number(&line, "members", (int64_t)rollout->members);
    log_number(&line, "canaries", (int64_t)rollout->order.canary);
    log_number(&line, "in_flight", (int64_t)window_size(&rollout->window));
    log_end(&line);
}

static void start(struct dispatch *dispatch)
{
    struct rollout *rollout = rollout_of(dispatch);
    struct moment now = clock_moment(dispatch->trigger->loop);
    dispatch->stage = RUNS;
    if (rollout != NULL && !rollout_is_over(rollout)) {
        log_begun(dispatch, rollout);
        rollout_start(dispatch->trigger->fleet->rollouts, rollout, dispatch->plan.type_topic,
                      dispatch->plan.device_topic, &now);
    }
}

static void on_blob(struct blob_wait *wait, enum status status, struct blob *blob)
{
    struct dispatch *dispatch = (struct dispatch *)wait; /* its first member */
    dispatch->loading = false;
    bool wanted = !is_over(dispatch) && dispatch->trigger->publisher != NULL;
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
    start(dispatch);
    go_on(dispatch);
}

static bool sends_image(const struct trigger *trigger)
{
    bool found = false;
    for (size_t part = 0; part < trigger->announce.part_count; part++) {
        found = found || trigger->announce.parts[part].payload == NULL;
    }
    return found && trigger->publisher != NULL;
}

static void end_gathering(struct dispatch *dispatch)
{
    struct trigger *trigger = dispatch->trigger;
    survey_say(&dispatch->survey, on_note, dispatch);
    survey_end(&dispatch->survey);
    dispatch->stage = LOADS;
    if (trigger->publisher == NULL) {
        on_note(dispatch, "no MQTT broker is configured (--mqtt): nobody is told, devices get it when they ask");
    } else if (dispatch->plan.public_url.kind == PUBLIC_URL_USED && dispatch->plan.public_url.warning[0] != '\0') {
        on_note(dispatch, dispatch->plan.public_url.warning); /* devices in two networks; of others the log has told */
    }
    if (trigger->publisher != NULL && !dispatch->plan.type_topic && dispatch->survey.met == 0) {
        on_note(dispatch, "no device of the type is known, and this firmware has no topic for all of a type: nobody is "
                          "told; name devices with --to");
    }
    if (sends_image(trigger)) {
        dispatch->loading = true;
        dispatch->wait.ready = on_blob;
        blob_get(trigger->blobs, dispatch->plan.image, &dispatch->wait); /* perhaps at once: then it RUNS */
    } else {
        start(dispatch);
    }
}

static void gather_next(struct dispatch *dispatch)
{
    struct surveyed surveyed;
    struct rollout *rollout = rollout_of(dispatch);
    struct moment now = clock_moment(dispatch->trigger->loop);
    enum survey_step step = is_over(dispatch) ? SURVEY_DONE : survey_next(&dispatch->survey, &surveyed);
    if (step == SURVEY_DONE) {
        end_gathering(dispatch);
    } else if (step == SURVEY_MET) {
        rollout_join(dispatch->trigger->fleet->rollouts, rollout, &surveyed.joiner, &now);
    }
}

/* What could not be handed over; what is to be taken back. Returns whether there was any. */
static bool tend_commands(struct dispatch *dispatch)
{
    struct told *told, *next;
    for (told = dispatch->unsent > 0 ? dispatch->tolds : NULL; told != NULL; told = told->next) {
        if (told->open && told->why != NULL) {
            answer(told, false, told->why);
            return true;
        }
    }
    if (!dispatch->takes_back) {
        return false;
    }
    dispatch->takes_back = false;
    bool over = is_over(dispatch);
    size_t on_their_way = 0;
    for (told = dispatch->tolds; told != NULL; told = next) {
        next = told->next;
        if (over && !told->open) {
            forget_retained(dispatch, told);
            drop_told(dispatch, told);
        } else if (!is_wanted(dispatch, told)) {
            on_their_way += !take_back(dispatch, told); /* on_published follows, later */
        }
    }
    say_what_goes_on(dispatch, on_their_way);
    return true;
}

static bool on_turn(void *owner, struct turn_budget *budget)
{
    struct dispatch *dispatch = owner;
    if (dispatch->stage == RESTS) {
        return false;
    }
    do {
        if (dispatch->stage == GATHERS) {
            gather_next(dispatch);
        } else if (!tend_commands(dispatch)) {
            bool idle = dispatch->stage == RUNS && dispatch->tolds == NULL && !dispatch->loading;
            if (idle && is_over(dispatch)) {
                rest(dispatch);
            }
            return false;
        }
    } while (!turn_is_spent(budget));
    return true;
}

static void drop_forgotten(struct trigger *trigger)
{
    struct dispatch *next;
    for (struct dispatch *dispatch = trigger->dispatches; dispatch != NULL; dispatch = next) {
        next = dispatch->next;
        if (dispatch->stage == RESTS && !dispatch->job.queued && rollout_of(dispatch) == NULL) {
            dispatch_free(dispatch);
        }
    }
}

void dispatch_begin(struct trigger *trigger, const struct trigger_order *order, const struct trigger_plan *plan,
                    struct rollout *rollout)
{
    struct dispatch *dispatch = calloc(1, sizeof *dispatch);
    assert(dispatch != NULL);
    drop_forgotten(trigger);
    dispatch->trigger = trigger;
    dispatch->job = (struct turn_job){ .step = on_turn, .owner = dispatch };
    dispatch->plan = *plan;
    image_ref(plan->image);
    kept_order_make(&dispatch->kept, order);
    snprintf(dispatch->id, sizeof dispatch->id, "%s", rollout->id);
    dispatch->next = trigger->dispatches;
    trigger->dispatches = dispatch;
    survey_begin(&dispatch->survey, trigger, &dispatch->kept.order, &dispatch->plan);
    dispatch->survey.rollout = rollout;
    go_on(dispatch);
    turns_run(trigger_turns(trigger));
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

void trigger_stop(struct trigger *trigger)
{
    turns_finish(trigger_turns(trigger));
    for (struct dispatch *dispatch = trigger->dispatches; dispatch != NULL; dispatch = dispatch->next) {
        for (const struct told *told = dispatch->tolds; told != NULL; told = told->next) {
            forget_retained(dispatch, told);
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
