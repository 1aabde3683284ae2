/* A rollout's own states: who is triggered next, when it halts, goes on, and is over. rollout_step reads as the rules
 * do.
 */
#include "fleet/rollout_parts.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *word;
    bool over;
} states[] = {
#define X(name, word, over) { word, over },
    ROLLOUT_STATE_LIST(X)
#undef X
};

const char *rollout_state_word(enum rollout_state state)
{
    return states[state].word;
}

bool rollout_is_over(const struct rollout *rollout)
{
    return states[rollout->state].over;
}

bool rollout_may_trigger(const struct rollout *rollout)
{
    return rollout->state == ROLLOUT_CANARY || rollout->state == ROLLOUT_RUNNING;
}

bool rollout_stands_still(const struct rollout *rollout)
{
    return rollout->state == ROLLOUT_PAUSED || rollout->state == ROLLOUT_HALTED;
}

static void add_words(char *to, size_t size, const char *words)
{
    size_t used = strlen(to);
    snprintf(to + used, size - used, "%s%s", used > 0 ? "; " : "", words);
}

const char *rollout_mark_word(enum rollout_mark mark)
{
    static const char *const words[] = {
#define X(name, word) word,
        ROLLOUT_MARK_LIST(X)
#undef X
    };
    return words[mark];
}

const char *rollout_cause_word(enum rollout_cause cause)
{
    static const char *const words[] = {
#define X(name, word) word,
        ROLLOUT_CAUSE_LIST(X)
#undef X
    };
    return words[cause];
}

void rollout_say(struct rollout *rollout)
{
    char words[120];
    bool goes_on = rollout_may_trigger(rollout) || rollout->state == ROLLOUT_PLANNED;
    if (goes_on) {
        rollout->why[0] = '\0';
    }
    if ((goes_on || rollout->state == ROLLOUT_PAUSED) && rollout_awaits_strangers(rollout)) {
        add_words(rollout->why, sizeof rollout->why, ROLLOUT_AWAITS);
    }
    const char *newer = rollout->superseded_by;
    if (newer[0] != '\0' && rollout->state != ROLLOUT_ABORTED) {
        snprintf(words, sizeof words, ROLLOUT_SUPERSEDED "%s in the devices that both mean%s", newer,
                 goes_on ? "; it goes on with the rest" : "");
        add_words(rollout->why, sizeof rollout->why, words);
    }
}

void rollout_say_also(struct rollout *rollout, const char *words)
{
    const struct rollout_effects *effects = &rollout->table->rollouts->effects;
    add_words(rollout->why, sizeof rollout->why, words);
    (void)effects->changed(effects->owner, rollout);
}

void rollout_set(struct rollout *rollout, enum rollout_state state, const char *why, const struct moment *now)
{
    rollout_set_for(rollout, state, ROLLOUT_CAUSE_ANY, why, now);
}

void rollout_set_for(struct rollout *rollout, enum rollout_state state, enum rollout_cause cause, const char *why,
                     const struct moment *now)
{
    const struct rollout_effects *effects = &rollout->table->rollouts->effects;
    bool stands = state == ROLLOUT_PAUSED || state == ROLLOUT_HALTED;
    bool stops = rollout_may_trigger(rollout) && stands;
    rollout->before = stands && !rollout_stands_still(rollout) ? rollout->state : rollout->before;
    rollout->state = state;
    rollout->cause = cause;
    rollout->since_ms = rollout->news_ms = now->ms;
    rollout->since_s = now->unix_s;
    snprintf(rollout->why, sizeof rollout->why, "%s", why);
    rollout_say(rollout);
    (void)effects->changed(effects->owner, rollout);
    if (stops) {
        for (struct member *member = rollout->table->telling.head; member != NULL; member = member->next) {
            member->withdrawn = true;
        }
        rollout->table->type_withdrawn = rollout->table->type_open;
        effects->withdraw(effects->owner, rollout);
    }
    if (stops || state == ROLLOUT_ABORTED) {
        story_stopped(rollout, now);
    }
}

/* --- halting --------------------------------------------------------------------------------------------------------
 */

static size_t sample_of(const struct rollout *rollout, size_t finished)
{
    size_t least =
        rollout->members < ROLLOUT_SAMPLE_MIN && rollout->members > 0 ? rollout->members : ROLLOUT_SAMPLE_MIN;
    return finished > least ? finished : least;
}

static bool exceeds(const struct rollout *rollout, size_t count, size_t finished)
{
    return count >= ROLLOUT_FAILURES_MIN &&
           count * 100 > (size_t)rollout->order.max_failures * sample_of(rollout, finished);
}

bool rollout_fails_often(const struct rollout *rollout)
{
    size_t failures = rollout->failures - rollout->forgiven;
    size_t finished = rollout->devices[ROLLOUT_DEVICE_CONFIRMED] + failures;
    return failures * 200 > (size_t)rollout->order.max_failures * sample_of(rollout, finished);
}

static void name_failure(const struct rollout *rollout, char *text, size_t size)
{
    char mac[MAC_TEXT_SIZE];
    const struct member *last = rollout->table->of_state[ROLLOUT_DEVICE_FAILED].head;
    last = last != NULL ? last->prev : NULL; /* utlist: the head's prev is the tail */
    text[0] = '\0';
    if (last != NULL) {
        mac_print(&last->mac, mac);
        snprintf(text, size, "; the last: %s, %s", mac, member_why(rollout, last));
    }
}

static bool have_one_in_common(const uint8_t (*left)[16], size_t left_count, const uint8_t (*right)[16],
                               size_t right_count)
{
    for (size_t i = 0; i < left_count * right_count; i++) {
        if (memcmp(left[i / right_count], right[i % right_count], 16) == 0) {
            return true;
        }
    }
    return false;
}

/* In whichever forms: the repository may have had more of them, or fewer, when the other was ordered. */
static bool gives_same(const struct rollout_target *left, const struct rollout_target *right)
{
    return have_one_in_common(left->md5, left->image_count, right->md5, right->image_count) ||
           have_one_in_common(left->run_md5, left->run_md5_count, right->run_md5, right->run_md5_count);
}

/* What one rollout found out of an image goes for all that give it, now or later: whoever resumes one of them has seen
 * why. */
void rollout_halt(struct rollout *rollout, const char *why, const struct moment *now)
{
    char other_why[200];
    const struct rollout_target *target = &rollout->order.target;
    snprintf(other_why, sizeof other_why, "rollout %s of the same image halted: %.140s", rollout->id, why);
    rollout_set(rollout, ROLLOUT_HALTED, why, now);
    for (struct rollout *other = rollout->table->rollouts->recent.newest; other != NULL; other = other->table->older) {
        bool same =
            rollout_is_about(other, slice_of(target->type), target->fs) && gives_same(&other->order.target, target);
        if (same && !rollout_is_over(other) && other->state != ROLLOUT_HALTED) {
            rollout_set(other, ROLLOUT_HALTED, other_why, now);
        }
    }
}

/* Returns whether it halts, with the reason. */
static bool is_to_halt(const struct rollout *rollout, char *why, size_t size)
{
    size_t failures = rollout->failures - rollout->forgiven, lost = rollout->lost - rollout->lost_forgiven;
    size_t finished = rollout->devices[ROLLOUT_DEVICE_CONFIRMED] + failures;
    size_t returned = rollout->devices[ROLLOUT_DEVICE_CONFIRMED] + lost;
    char last[120];
    if (exceeds(rollout, failures, finished)) {
        name_failure(rollout, last, sizeof last);
        snprintf(why, size, "%zu failed of %zu finished; the limit is %u %% of at least %zu%s", failures, finished,
                 rollout->order.max_failures, sample_of(rollout, 0), last);
        return true;
    }
    if (exceeds(rollout, lost, returned)) {
        snprintf(why, size,
                 "%zu of %zu devices that have come back from updates before took this image and did not come back",
                 lost, returned);
        return true;
    }
    return false;
}

/* --- going on -------------------------------------------------------------------------------------------------------
 */

static bool is_busy(const struct rollout *rollout, const struct moment *now)
{
    return now->ms < rollout->table->busy_until_ms || rollout->table->image_awaited;
}

static void call_type(struct rollout *rollout, bool again)
{
    const struct rollout_effects *effects = &rollout->table->rollouts->effects;
    rollout->broadcasts += !again;
    rollout->commands++;
    rollout->table->type_open = true;
    rollout->table->type_untold = false;
    (void)effects->changed(effects->owner, rollout);
    effects->trigger(effects->owner, rollout, NULL, rollout->broadcasts);
}

/* One command tells all that wait. */
static void trigger_type(struct rollout *rollout, bool again, const struct moment *now)
{
    for (size_t i = 0; i < rollout->table->member_count; i++) {
        struct member *member = member_at(rollout->table, i);
        if (member->state == ROLLOUT_DEVICE_QUEUED) {
            member->attempts += member->attempts < UINT8_MAX;
            member_set(rollout, member, ROLLOUT_DEVICE_TRIGGERED, "", now);
            story_told(rollout, member, now);
        }
    }
    call_type(rollout, again);
}

/* A command to the type that was taken back, or that perhaps never left before a crash, goes out again as it was, where
 * those who wait still fit the window; else they are told one by one. */
static void repeat_type(struct rollout *rollout, const struct moment *now)
{
    bool fits = rollout->in_flight + rollout->devices[ROLLOUT_DEVICE_QUEUED] <= window_size(&rollout->window);
    if (rollout->told_type && fits && !rollout_has_newer(rollout)) {
        trigger_type(rollout, true, now);
    } else if (!rollout->table->device_topic) {
        rollout->table->called_ms = now->ms;
        call_type(rollout, true);
    }
    rollout->table->type_untold = false;
}

static void fill_window(struct rollout *rollout, const struct moment *now)
{
    const struct rollout_effects *effects = &rollout->table->rollouts->effects;
    struct rollout_table *table = rollout->table;
    if (!table->device_topic) {
        return;
    }
    size_t armed_max = window_size(&rollout->window) < ARMED_MAX ? window_size(&rollout->window) : ARMED_MAX;
    size_t yielded = 0; /* of a whole fleet, not all in one call */
    for (bool moved = true; moved && yielded < ARMED_MAX;) {
        moved = false;
        while (table->armed.count < armed_max && member_arm_next(rollout, now)) {
            moved = true;
        }
        struct member *member;
        while (rollout->in_flight < window_size(&rollout->window) && (member = member_next_armed(rollout)) != NULL) {
            moved = true;
            if (rollout_yields(rollout, member, now)) {
                yielded++;
                continue;
            }
            member->attempts += member->attempts < UINT8_MAX;
            unsigned attempt = member->attempts;
            struct mac mac = member->mac;
            member->command = (uint32_t)++rollout->commands; /* its row tells: the rollout's is written seldom */
            member_set(rollout, member, ROLLOUT_DEVICE_TRIGGERED, "", now);
            story_told(rollout, member, now);
            effects->trigger(effects->owner, rollout, &mac, attempt);
        }
    }
}

/* Where devices can only be told all together, all are, whenever nobody is under way: who asks first has the slots, the
 * rest is held back until the next time. */
void rollout_call_all(struct rollout *rollout, const struct moment *now)
{
    struct rollout_table *table = rollout->table;
    uint64_t pause_ms = rollout->order.timeout_ms + (uint64_t)rollout->order.window_s * 1000;
    bool due = table->called_ms == 0 || now->ms - table->called_ms >= pause_ms;
    if (table->device_topic || !table->type_topic || !rollout_may_trigger(rollout) || rollout->in_flight > 0 ||
        rollout->devices[ROLLOUT_DEVICE_QUEUED] == 0 || !due || is_busy(rollout, now)) {
        return;
    }
    table->called_ms = now->ms;
    call_type(rollout, false);
}

/* A fleet that nobody knew is over when it has been quiet; or when nobody came at all. */
static bool is_quiet(const struct rollout *rollout, const struct moment *now)
{
    uint64_t window_ms = (uint64_t)rollout->order.window_s * 1000;
    uint64_t wait_ms = rollout->members > 0 ? ROLLOUT_QUIET_MS + window_ms : rollout->order.timeout_ms + window_ms;
    return now->ms - rollout->news_ms >= wait_ms;
}

static bool is_finished(const struct rollout *rollout, const struct moment *now)
{
    bool open = rollout->in_flight > 0 || rollout->devices[ROLLOUT_DEVICE_QUEUED] > 0;
    if (open || !rollout->gathered) {
        return false;
    }
    if (rollout_awaits_strangers(rollout)) {
        return now->ms - rollout->table->stands_ms >= ROLLOUT_STAND_MS;
    }
    return !rollout->strangers || is_quiet(rollout, now);
}

bool rollout_awaits_strangers(const struct rollout *rollout)
{
    return rollout->strangers && !rollout->told_type;
}

/* "done" would say of one that lost all its devices that they have it. */
static void finish(struct rollout *rollout, const struct moment *now)
{
    const struct rollout_table *table = rollout->table;
    if (table->yielded > 0 && table->yielded == rollout->members && !rollout_means_all(&rollout->order)) {
        rollout_end_superseded(rollout, rollout->superseded_by, now);
    } else {
        rollout_end(rollout, ROLLOUT_DONE, "", now);
    }
}

void rollout_step(struct rollout *rollout, const struct moment *now)
{
    char why[200];
    rollout_close(rollout);
    if (!rollout_may_trigger(rollout)) {
        return;
    }
    if (is_to_halt(rollout, why, sizeof why)) {
        rollout_halt(rollout, why, now);
        return;
    }
    if (!rollout->table->started) { /* after a restart: it cannot tell anybody yet */
        return;
    }
    if (rollout->state == ROLLOUT_CANARY) {
        rollout_judge_canaries(rollout, now);
    }
    bool tells = rollout_may_trigger(rollout) && !is_busy(rollout, now);
    if (tells && rollout->table->type_untold) {
        repeat_type(rollout, now);
    }
    if (tells) {
        fill_window(rollout, now);
    }
    if (rollout->state == ROLLOUT_RUNNING && is_finished(rollout, now)) {
        finish(rollout, now);
    }
}

bool rollout_suits_type(const struct rollout_order *order, const struct rollout_crowd *crowd)
{
    bool fits = crowd->members <= crowd->window && crowd->waiting > 0 &&
                crowd->members - crowd->skipped == crowd->waiting &&
                (order->site_in_flight == 0 || crowd->site_most <= order->site_in_flight);
    return rollout_means_all(order) && order->canary == 0 && (fits || crowd->members == 0);
}

static bool may_tell_type(const struct rollout *rollout)
{
    struct rollout_crowd crowd = { .members = rollout->members,
                                   .skipped = rollout->devices[ROLLOUT_DEVICE_SKIPPED],
                                   .waiting = rollout->devices[ROLLOUT_DEVICE_QUEUED],
                                   .window = window_size(&rollout->window) };
    for (const struct site *site = rollout->table->sites; site != NULL; site = site->hh.next) {
        size_t waiting = site->queues[SITE_FRESH].members.count + site->queues[SITE_STALE].members.count;
        crowd.site_most = waiting > crowd.site_most ? waiting : crowd.site_most;
    }
    return rollout->table->type_topic && rollout_suits_type(&rollout->order, &crowd) && !rollout_has_newer(rollout);
}

/* After a restart nobody knows which commands reached the broker: they go out again, with the ids they had. Who has
 * come since by itself is no longer unsure. */
static void tell_again(struct rollout *rollout, const struct moment *now)
{
    const struct rollout_effects *effects = &rollout->table->rollouts->effects;
    struct rollout_table *table = rollout->table;
    struct member_list *triggered = &table->of_state[ROLLOUT_DEVICE_TRIGGERED];
    struct member_list *downloading = &table->of_state[ROLLOUT_DEVICE_DOWNLOADING];
    struct member *next;
    for (struct member *member = downloading->head; member != NULL; member = next) {
        next = member->next;
        if (member->unsure) { /* the server's end was the download's */
            member_requeue(rollout, member, true, now);
        }
    }
    bool to_type = rollout->broadcasts > 0 && (rollout->told_type || !table->device_topic);
    table->type_untold = to_type && table->type_topic && rollout->acknowledged == 0;
    if (rollout_may_trigger(rollout) && to_type && table->type_topic) {
        return; /* rollout_step repeats it; or the broker had it */
    }
    for (struct member *member = triggered->head; member != NULL; member = next) {
        next = member->next;
        if (!member->unsure || rollout_yields(rollout, member, now)) {
            continue;
        }
        if (rollout_may_trigger(rollout) && table->device_topic) {
            member_untold(rollout, member);
            effects->trigger(effects->owner, rollout, &member->mac, member->attempts);
        } else { /* it may have heard that command, in vain: when the rollout goes on, it is told anew */
            member_requeue(rollout, member, false, now);
        }
    }
}

void rollout_open(struct rollout *rollout, const struct moment *now)
{
    if (rollout->strangers && rollout->order.window_s == 0) {
        rollout->order.window_s = ROLLOUT_UNKNOWN_WINDOW_S;
    }
    bool to_type = may_tell_type(rollout);
    rollout->told_type = to_type;
    rollout_set(rollout, rollout->order.canary > 0 ? ROLLOUT_CANARY : ROLLOUT_RUNNING, "", now);
    if (to_type) {
        trigger_type(rollout, false, now);
    }
}

void rollout_start(struct rollout *rollout, bool type_topic, bool device_topic, const struct moment *now)
{
    struct rollout_table *table = rollout->table;
    assert(!table->started && !rollout_is_over(rollout));
    table->started = true;
    table->type_topic = type_topic;
    table->device_topic = device_topic;
    table->started_ms = now->ms;
    rollout->strangers = rollout->strangers || rollout->members == 0 || rollout->told_type;
    rollout->gathered = true;
    if (table->image_gone) { /* while they were gathered */
        rollout_image_lost(rollout, now);
    }
    if (rollout->state == ROLLOUT_PLANNED) {
        rollout_open(rollout, now);
    } else {
        tell_again(rollout, now);
    }
    rollout_step(rollout, now);
    rollout_call_all(rollout, now);
}
