/* What makes it hard is the time between: a command may wait for the broker while catalogs come and go, so a dispatch
 * keeps its own copy of the order and counts its image. And the rollout must not be called back from within its own
 * calls (fleet/rollout.h): what goes wrong at once is told in the next turn.
 */
#include "server/dispatch_parts.h"

#include "base/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct rollout *dispatch_rollout(const struct dispatch *dispatch)
{
    return rollouts_find(dispatch->trigger->fleet->rollouts, slice_of(dispatch->id));
}

bool dispatch_is_over(const struct dispatch *dispatch)
{
    const struct rollout *rollout = dispatch_rollout(dispatch);
    return rollout == NULL || rollout_is_over(rollout);
}

struct dispatch *dispatch_find(const struct trigger *trigger, const char *id)
{
    struct dispatch *dispatch = trigger->dispatches;
    while (dispatch != NULL && strcmp(dispatch->id, id) != 0) {
        dispatch = dispatch->next;
    }
    return dispatch;
}

void dispatch_go_on(struct dispatch *dispatch)
{
    turns_add(trigger_turns(dispatch->trigger), &dispatch->job);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

/* Lets go of all but the notes. */
static void rest(struct dispatch *dispatch)
{
    if (dispatch->stage == DISPATCH_RESTS) {
        return;
    }
    commands_drop(dispatch);
    if (dispatch->image_bytes != NULL) {
        shared_bytes_unref(dispatch->image_bytes);
    }
    if (dispatch->stage == DISPATCH_GATHERS) {
        survey_end(&dispatch->survey);
    }
    image_unref(dispatch->plan.image);
    kept_order_drop(&dispatch->kept);
    dispatch->stage = DISPATCH_RESTS;
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
    const struct dispatch *dispatch = dispatch_find(trigger, id);
    return dispatch != NULL && i < dispatch->note_count ? dispatch->notes[i] : NULL;
}

static void on_note(void *owner, const char *sentence)
{
    struct dispatch *dispatch = owner;
    if (dispatch->note_count < DISPATCH_NOTES_MAX) {
        dispatch->notes[dispatch->note_count] = strdup(sentence);
        assert(dispatch->notes[dispatch->note_count] != NULL);
        dispatch->note_count++;
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
    struct rollout *rollout = dispatch_rollout(dispatch);
    struct moment now = clock_moment(dispatch->trigger->loop);
    dispatch->stage = DISPATCH_RUNS;
    if (rollout != NULL && !rollout_is_over(rollout)) {
        log_begun(dispatch, rollout);
        rollout_start(rollout, dispatch->plan.type_topic, dispatch->plan.device_topic, &now);
    }
}

static void on_blob(struct blob_wait *wait, enum status status, struct blob *blob)
{
    struct dispatch *dispatch = (struct dispatch *)wait; /* its first member */
    dispatch->loading = false;
    bool wanted = !dispatch_is_over(dispatch) && dispatch->trigger->publisher != NULL;
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
    dispatch_go_on(dispatch);
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
    dispatch->stage = DISPATCH_LOADS;
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
        blob_get(trigger->blobs, dispatch->plan.image, &dispatch->wait); /* perhaps at once: then it DISPATCH_RUNS */
    } else {
        start(dispatch);
    }
}

static void gather_next(struct dispatch *dispatch)
{
    struct surveyed surveyed;
    struct rollout *rollout = dispatch_rollout(dispatch);
    struct moment now = clock_moment(dispatch->trigger->loop);
    enum survey_step step = dispatch_is_over(dispatch) ? SURVEY_DONE : survey_next(&dispatch->survey, &surveyed);
    if (step == SURVEY_DONE) {
        end_gathering(dispatch);
    } else if (step == SURVEY_MET) {
        rollout_join(rollout, &surveyed.joiner, &now);
    }
}

static bool on_turn(void *owner, struct turn_budget *budget)
{
    struct dispatch *dispatch = owner;
    if (dispatch->stage == DISPATCH_RESTS) {
        return false;
    }
    do {
        if (dispatch->stage == DISPATCH_GATHERS) {
            gather_next(dispatch);
        } else if (!commands_tend(dispatch)) {
            bool idle = dispatch->stage == DISPATCH_RUNS && commands_are_gone(dispatch) && !dispatch->loading;
            if (idle && dispatch_is_over(dispatch)) {
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
        if (dispatch->stage == DISPATCH_RESTS && !dispatch->job.queued && dispatch_rollout(dispatch) == NULL) {
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
    dispatch->began_ms = uv_now(trigger->loop);
    dispatch->job = (struct turn_job){ .step = on_turn, .owner = dispatch };
    dispatch->round = 1;
    dispatch->plan = *plan;
    image_ref(plan->image);
    kept_order_make(&dispatch->kept, order);
    snprintf(dispatch->id, sizeof dispatch->id, "%s", rollout->id);
    dispatch->next = trigger->dispatches;
    trigger->dispatches = dispatch;
    survey_begin(&dispatch->survey, trigger, &dispatch->kept.order, &dispatch->plan);
    dispatch->survey.rollout = rollout;
    dispatch_go_on(dispatch);
    turns_run(trigger_turns(trigger));
}

void trigger_give_up_late(struct trigger *trigger, const struct moment *now)
{
    char why[160];
    for (struct dispatch *dispatch = trigger->dispatches; dispatch != NULL; dispatch = dispatch->next) {
        bool begins = dispatch->stage == DISPATCH_GATHERS || dispatch->stage == DISPATCH_LOADS;
        if (begins && !dispatch_is_over(dispatch) && now->ms - dispatch->began_ms >= TRIGGER_BEGIN_MS) {
            snprintf(why, sizeof why, "%s within %d minutes: order it again",
                     dispatch->stage == DISPATCH_LOADS
                         ? "its image could not be read (does the disk of the repository answer?)"
                         : "its devices could not be gathered (is the server overloaded?)",
                     TRIGGER_BEGIN_MS / 60000);
            rollout_call_off(dispatch_rollout(dispatch), why, now);
        }
    }
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

void trigger_stop(struct trigger *trigger)
{
    trigger->stopping = true;
    turns_finish(trigger_turns(trigger));
    for (struct dispatch *dispatch = trigger->dispatches; dispatch != NULL; dispatch = dispatch->next) {
        commands_forget_retained(dispatch);
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
