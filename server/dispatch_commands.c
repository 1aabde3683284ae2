/* A dispatch's commands, each in one list at a time (enum told_place). What makes it hard: rollouts call from within
 * their own calls and must not be called back there (fleet/rollout.h), so what goes wrong at once is told in a later
 * turn; and a large window opens at once, while the loop serves devices and the publisher's queue has an end.
 */
#include "server/dispatch_parts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define AT_ONCE_MAX 64 /* commands handed over within the call, of a turn of the loop: the rest follows in slices */

/* --- where they lie ----------------------------------------------------------------------------------------------- */

static void put(struct told *told, enum told_place place)
{
    told->place = (uint8_t)place;
    DL_APPEND(told->dispatch->tolds[place], told);
}

static void move(struct told *told, enum told_place place)
{
    DL_DELETE(told->dispatch->tolds[told->place], told);
    put(told, place);
}

static void drop(struct told *told)
{
    DL_DELETE(told->dispatch->tolds[told->place], told);
    free(told);
}

bool commands_are_gone(const struct dispatch *dispatch)
{
    bool gone = true;
    for (int place = 0; place < TOLD_PLACES; place++) {
        gone = gone && dispatch->tolds[place] == NULL;
    }
    return gone;
}

void commands_drop(struct dispatch *dispatch)
{
    for (int place = 0; place < TOLD_PLACES; place++) {
        while (dispatch->tolds[place] != NULL) {
            drop(dispatch->tolds[place]);
        }
    }
}

static void give_up(struct told *told, const char *why)
{
    told->why = why;
    move(told, TOLD_FAILED);
    dispatch_go_on(told->dispatch);
}

/* --- a command ---------------------------------------------------------------------------------------------------- */

/* As the publisher wants it, and the texts that it borrows. */
struct written {
    struct publisher_command command;
    struct trigger_message messages[ANNOUNCE_PARTS_MAX];
    char about[TYPE_TEXT_MAX + MAC_TEXT_SIZE + 16];
};

/* It is good for so long from its telling on, however long it waited here; 0 = without end. */
static bool is_expired(const struct told *told)
{
    const struct trigger *trigger = told->dispatch->trigger;
    return trigger->expires_ms > 0 && uv_now(trigger->loop) - told->began_ms >= trigger->expires_ms;
}

static uint64_t left_ms(const struct told *told)
{
    const struct trigger *trigger = told->dispatch->trigger;
    return trigger->expires_ms > 0 ? trigger->expires_ms - (uv_now(trigger->loop) - told->began_ms) : 0;
}

/* Once a turn of the loop is enough. */
static void renew_url(struct dispatch *dispatch)
{
    struct trigger *trigger = dispatch->trigger;
    if (dispatch->url_ms != uv_now(trigger->loop)) {
        dispatch->url_ms = uv_now(trigger->loop);
        dispatch->url += trigger_plan_renew(trigger, &dispatch->kept.order, &dispatch->plan);
    }
}

static void write_command(struct dispatch *dispatch, const struct told *told, struct written *written)
{
    struct trigger *trigger = dispatch->trigger;
    const struct rollout *rollout = dispatch_rollout(dispatch);
    struct trigger_order order = dispatch->kept.order;
    const struct mac *device = told->to_type ? NULL : &told->mac;
    struct publisher_command *command = &written->command;
    struct trigger_message *messages = written->messages;
    char mac[MAC_TEXT_SIZE] = "", id[ANNOUNCE_ID_SIZE];
    if (device != NULL) {
        mac_print(device, mac);
    }
    order.window_s = rollout->order.window_s; /* where the order named none, rollout_start chose it */
    rollout_command_id(rollout, device, told->attempt, id);
    snprintf(written->about, sizeof written->about, "%.*s%s%s (%s)", (int)order.type.len, order.type.at,
             device != NULL ? " " : "", mac, order.fs ? "fs" : "sketch");
    *command = (struct publisher_command){
        .about = written->about,
        .part_count = trigger->announce.part_count,
        .retain = trigger->retain,
        .expires_ms = left_ms(told),
    };
    for (size_t part = 0; part < command->part_count; part++) {
        bool good = trigger_message(trigger, &order, &dispatch->plan, id, device, part, &messages[part]);
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
    struct rollout *rollout = dispatch_rollout(dispatch);
    struct mac mac = told->mac;
    bool to_type = told->to_type;
    if (acknowledged) {
        metrics_observe(trigger->metrics, METRIC_HISTOGRAM_COMMAND_SECONDS, (double)(now.ms - told->began_ms) / 1000.0);
    }
    if (acknowledged && trigger->retain) {
        told->looked = dispatch->sweep;
        move(told, TOLD_KEPT);
    } else {
        drop(told);
    }
    if (rollout != NULL) {
        rollouts_told(rollout, to_type ? NULL : &mac, acknowledged ? STATUS_OK : STATUS_DENIED, why, &now);
    }
    dispatch_go_on(dispatch); /* perhaps it was the last */
}

/* The publisher's queue has room again, whoever's command left it. */
static void wake_all(struct trigger *trigger)
{
    for (struct dispatch *dispatch = trigger->dispatches; dispatch != NULL; dispatch = dispatch->next) {
        if (dispatch->full) {
            dispatch->full = false;
            dispatch_go_on(dispatch);
        }
    }
}

static void try_again(struct trigger *trigger)
{
    for (struct dispatch *dispatch = trigger->dispatches; dispatch != NULL; dispatch = dispatch->next) {
        dispatch->round++;
        if (dispatch->tolds[TOLD_WAITS] != NULL) {
            dispatch_go_on(dispatch);
        }
    }
}

static void on_published(void *owner, uint64_t ticket, enum publish_result result, const char *why)
{
    struct told *told = owner;
    char text[400];
    (void)ticket;
    wake_all(told->dispatch->trigger);
    if (told->again && result == PUBLISH_WITHDRAWN) {
        told->again = false;
        move(told, TOLD_WAITS);
        dispatch_go_on(told->dispatch);
        return;
    }
    if (result == PUBLISH_STOPPED) { /* the server's end is no word on the device: it is told after the restart */
        drop(told);
        return;
    }
    snprintf(text, sizeof text, "%s%s%s", publish_result_word(result), why[0] != '\0' ? ": " : "", why);
    answer(told, result == PUBLISH_ACKNOWLEDGED, text);
}

/* Waits on where the publisher's queue has no room. */
static void hand_over(struct told *told)
{
    struct dispatch *dispatch = told->dispatch;
    struct written written;
    if (is_expired(told)) {
        give_up(told, "expired while the queue of commands was full (--mqtt-queue)");
        return;
    }
    renew_url(dispatch);
    told->url = dispatch->url;
    write_command(dispatch, told, &written);
    enum status status =
        publisher_send(dispatch->trigger->publisher, &written.command, on_published, told, &told->ticket);
    if (status == STATUS_OK) {
        move(told, TOLD_SENT);
    } else if (status == STATUS_BUSY) {
        dispatch->full = true;
    } else if (status == STATUS_LIMIT) { /* others may go: those that take the place of one that is kept */
        dispatch->trigger->lacks_room = true;
        told->round = dispatch->round;
        move(told, TOLD_WAITS);
    } else {
        give_up(told, status_text(status));
    }
}

static bool may_go_at_once(struct trigger *trigger)
{
    uint64_t now_ms = uv_now(trigger->loop);
    trigger->told_at_once = trigger->told_ms == now_ms ? trigger->told_at_once + 1 : 1;
    trigger->told_ms = now_ms;
    return trigger->told_at_once <= AT_ONCE_MAX;
}

void trigger_tell(struct trigger *trigger, struct rollout *rollout, const struct mac *device, unsigned attempt)
{
    struct dispatch *dispatch = dispatch_find(trigger, rollout->id);
    assert(dispatch != NULL); /* it is begun with the rollout, and goes after it */
    if (trigger->stopping || trigger->publisher == NULL) {
        return; /* the server ends */
    }
    struct told *told = calloc(1, sizeof *told);
    assert(told != NULL);
    *told = (struct told){ .dispatch = dispatch,
                           .to_type = device == NULL,
                           .attempt = attempt,
                           .looked = dispatch->look,
                           .began_ms = uv_now(trigger->loop) };
    if (device != NULL) {
        told->mac = *device;
    }
    bool is_first = dispatch->tolds[TOLD_WAITS] == NULL;
    put(told, TOLD_WAITS);
    if (dispatch->unsendable != NULL) {
        give_up(told, dispatch->unsendable);
    } else if (is_first && may_go_at_once(trigger)) {
        hand_over(told);
    } else if (!dispatch->full) {
        dispatch_go_on(dispatch);
    }
}

/* --- taking back -------------------------------------------------------------------------------------------------- */

static void look_again(struct dispatch *dispatch)
{
    dispatch->look++;
    dispatch->looks = true;
    dispatch->on_their_way = 0;
    dispatch_go_on(dispatch);
}

void trigger_withdraw(struct trigger *trigger, struct rollout *rollout)
{
    struct dispatch *dispatch = dispatch_find(trigger, rollout->id);
    if (dispatch != NULL && !trigger->stopping) {
        look_again(dispatch);
    }
}

static void renew_url_of_all(struct dispatch *dispatch)
{
    renew_url(dispatch);
    if (dispatch->url_looked != dispatch->url) {
        dispatch->url_looked = dispatch->url;
        look_again(dispatch);
    }
}

void dispatch_tick(struct trigger *trigger)
{
    if (trigger->publisher == NULL || trigger->stopping) {
        return;
    }
    for (struct dispatch *dispatch = trigger->dispatches; dispatch != NULL; dispatch = dispatch->next) {
        if (dispatch->stage == DISPATCH_RUNS && dispatch->tolds[TOLD_SENT] != NULL && !dispatch_is_over(dispatch)) {
            renew_url_of_all(dispatch);
        }
        if (trigger->lacks_room && dispatch->tolds[TOLD_KEPT] != NULL) {
            dispatch->sweep++;
            dispatch->sweeps = true;
            dispatch_go_on(dispatch);
        }
    }
    if (trigger->lacks_room) {
        trigger->lacks_room = false;
        try_again(trigger); /* what has expired meanwhile says so */
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
    return newer != NULL && newer != dispatch_rollout(dispatch) && !rollout_is_over(newer) && !newer->told_type &&
           rollout_member(newer, &told->mac, &member) && member.attempts > 0;
}

static void forget_retained(struct dispatch *dispatch, const struct told *told)
{
    struct written written;
    if (dispatch->trigger->retain && dispatch->trigger->publisher != NULL && dispatch_rollout(dispatch) != NULL &&
        !is_replaced(dispatch, told)) {
        write_command(dispatch, told, &written);
        publisher_forget(dispatch->trigger->publisher, &written.command);
    }
}

/* Who has come needs it no more; who is silent gets it when it asks. One told again has one topic. */
static bool is_worth_keeping(const struct dispatch *dispatch, const struct told *told)
{
    const struct rollout *rollout = dispatch_rollout(dispatch);
    struct rollout_member member;
    return rollout != NULL && (told->to_type || (rollout_member(rollout, &told->mac, &member) &&
                                                 member.state == ROLLOUT_DEVICE_TRIGGERED));
}

static void sweep_next(struct dispatch *dispatch)
{
    struct told *told = dispatch->tolds[TOLD_KEPT];
    if (told == NULL || told->looked == dispatch->sweep) {
        dispatch->sweeps = false;
        try_again(dispatch->trigger);
        return;
    }
    told->looked = dispatch->sweep;
    if (is_worth_keeping(dispatch, told)) {
        move(told, TOLD_KEPT);
    } else {
        forget_retained(dispatch, told);
        drop(told);
    }
}

/* While the rollout goes on, a device may have been handed over to a newer one, or have come before it was told. */
static bool is_wanted(const struct dispatch *dispatch, const struct told *told)
{
    const struct rollout *rollout = dispatch_rollout(dispatch);
    struct rollout_member member;
    return rollout != NULL && (rollout->state == ROLLOUT_CANARY || rollout->state == ROLLOUT_RUNNING) &&
           (told->to_type || (rollout_member(rollout, &told->mac, &member) &&
                              member.state == ROLLOUT_DEVICE_TRIGGERED && member.attempts == told->attempt));
}

/* Over, nobody was told, and nobody will be: who reads "aborted" shall not find devices flashed later. */
static bool is_given_up(const struct rollout *rollout)
{
    return rollout == NULL ||
           (rollout->state == ROLLOUT_ABORTED && rollout->acknowledged == 0 && !rollout_is_superseded(rollout));
}

/* A command of several messages reaches its device whole or not at all, unless its rollout is given up: then what has
 * begun is, too. Returns false where it is on its way; else on_published follows, later. */
static bool take_back(const struct told *told)
{
    const struct dispatch *dispatch = told->dispatch;
    struct publisher *publisher = dispatch->trigger->publisher;
    bool whole = dispatch->trigger->announce.part_count > 1 && !is_given_up(dispatch_rollout(dispatch));
    return publisher == NULL ||
           (whole ? publisher_withdraw(publisher, told->ticket) : publisher_abandon(publisher, told->ticket));
}

/* Who reads "aborted" must not wonder about devices that are flashed later. */
static void say_what_goes_on(const struct dispatch *dispatch)
{
    struct rollout *rollout = dispatch_rollout(dispatch);
    char words[60];
    if (rollout != NULL && is_given_up(rollout) && dispatch->on_their_way > 0) {
        snprintf(words, sizeof words, "%zu on their way may still arrive", dispatch->on_their_way);
        rollout_say_also(rollout, words);
    }
}

/* It waits with another URL than there is now: it comes back, and is written anew. */
static void renew(struct told *told)
{
    struct publisher *publisher = told->dispatch->trigger->publisher;
    if (told->place == TOLD_SENT && told->url != told->dispatch->url && publisher != NULL) {
        told->again = publisher_withdraw(publisher, told->ticket) || told->again;
    }
}

/* One that may have to be taken back; what has been looked at stands behind. Returns whether there was any. */
static bool look_at_next(struct dispatch *dispatch)
{
    static const enum told_place places[] = { TOLD_WAITS, TOLD_SENT };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct told *told = dispatch->tolds[places[i]];
        if (told == NULL || told->looked == dispatch->look) {
            continue;
        }
        told->looked = dispatch->look;
        move(told, places[i]);
        if (is_wanted(dispatch, told)) {
            renew(told);
            return true;
        }
        if (places[i] == TOLD_WAITS) {
            give_up(told, publish_result_word(PUBLISH_WITHDRAWN));
        } else {
            dispatch->on_their_way += !take_back(told);
        }
        return true;
    }
    return false;
}

/* --- in turns ----------------------------------------------------------------------------------------------------- */

static bool hand_over_next(struct dispatch *dispatch)
{
    struct told *told = dispatch->tolds[TOLD_WAITS];
    if (told == NULL || dispatch->full || told->round == dispatch->round || dispatch->trigger->stopping ||
        dispatch->trigger->publisher == NULL) {
        return false;
    }
    if (is_wanted(dispatch, told)) {
        hand_over(told);
    } else {
        give_up(told, publish_result_word(PUBLISH_WITHDRAWN));
    }
    return true;
}

bool commands_tend(struct dispatch *dispatch)
{
    struct told *kept = dispatch->tolds[TOLD_KEPT];
    if (dispatch->tolds[TOLD_FAILED] != NULL) {
        answer(dispatch->tolds[TOLD_FAILED], false, dispatch->tolds[TOLD_FAILED]->why);
        return true;
    }
    if (dispatch->looks) {
        if (!look_at_next(dispatch)) {
            dispatch->looks = false;
            say_what_goes_on(dispatch);
        }
        return true;
    }
    if (dispatch->sweeps) {
        sweep_next(dispatch);
        return true;
    }
    if (kept != NULL && dispatch_is_over(dispatch)) {
        forget_retained(dispatch, kept);
        drop(kept);
        return true;
    }
    return hand_over_next(dispatch);
}

void commands_forget_retained(struct dispatch *dispatch)
{
    static const enum told_place places[] = { TOLD_SENT, TOLD_KEPT };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        for (const struct told *told = dispatch->tolds[places[i]]; told != NULL; told = told->next) {
            forget_retained(dispatch, told);
        }
    }
}
