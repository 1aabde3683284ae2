/* A rollout from its beginning to its end, and those that meet: a newer order takes over from an older one.
 *
 * Nothing waits for ever: a device's changes count as news a bounded number of times, there are boundedly many, and
 * without news each rollout ends.
 */
#include "fleet/rollout.h"

#include "fleet/rollout_parts.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRANGERS_MS    15000
#define TIDY_AT_ONCE    4096 /* records of a rollout that ends: a fraction of a millisecond */
#define GRACE_OF_CHECKS 3

const char *rollout_state_word(enum rollout_state state)
{
    static const char *const words[] = {
#define X(name, word) [ROLLOUT_##name] = (word),
        ROLLOUT_STATE_LIST(X)
#undef X
    };
    assert((size_t)state < sizeof words / sizeof words[0]);
    return words[state];
}

bool rollout_is_over(const struct rollout *rollout)
{
    return rollout->state == ROLLOUT_DONE || rollout->state == ROLLOUT_FAILED;
}

/* --- states ------------------------------------------------------------------------------------------------------- */

static void run(struct rollouts *rollouts, struct rollout *rollout, uint64_t now_ms)
{
    rollout->state = ROLLOUT_RUNNING;
    rollout->running_ms = now_ms;
    rollout->news_ms = now_ms;
    rollouts->on_changed(rollouts->owner, rollout);
}

static void end(struct rollouts *rollouts, struct rollout *rollout, enum rollout_state state,
                enum rollout_device_state open_become, uint64_t now_ms)
{
    struct followed *followed = followed_of(rollout);
    assert(!rollout_is_over(rollout));
    rollout->state = state;
    rollout->ended_ms = now_ms;
    followed_close(followed, open_become);
    if (followed->count <= TIDY_AT_ONCE) {
        (void)followed_tidy(followed, TIDY_AT_ONCE);
    }
    rollouts->on_changed(rollouts->owner, rollout);
}

static void fail(struct rollouts *rollouts, struct rollout *rollout, const char *why, uint64_t now_ms)
{
    snprintf(rollout->why, sizeof rollout->why, "%s", why);
    end(rollouts, rollout, ROLLOUT_FAILED, ROLLOUT_DEVICE_SILENT, now_ms);
}

static void end_superseded(struct rollouts *rollouts, struct rollout *rollout, const char *by, uint64_t now_ms)
{
    snprintf(rollout->why, sizeof rollout->why, "superseded by %s", by);
    end(rollouts, rollout, ROLLOUT_DONE, ROLLOUT_DEVICE_SUPERSEDED, now_ms);
}

static void forget(struct rollouts *rollouts, size_t i)
{
    followed_free(rollouts->items[i]);
    rollouts->count--;
    for (; i < rollouts->count; i++) {
        rollouts->items[i] = rollouts->items[i + 1];
    }
}

struct rollouts *rollouts_new(rollout_changed_fn on_changed, void *owner)
{
    struct rollouts *rollouts = calloc(1, sizeof *rollouts);
    assert(rollouts != NULL && on_changed != NULL);
    rollouts->on_changed = on_changed;
    rollouts->owner = owner;
    return rollouts;
}

void rollouts_free(struct rollouts *rollouts)
{
    while (rollouts->count > 0) {
        forget(rollouts, rollouts->count - 1);
    }
    free(rollouts);
}

bool rollouts_tidy(struct rollouts *rollouts, size_t records)
{
    bool more = false;
    for (size_t i = 0; i < rollouts->count && !more; i++) {
        if (rollout_is_over(&rollouts->items[i]->rollout)) {
            records -= followed_tidy(rollouts->items[i], records);
            more = records == 0;
        }
    }
    return more;
}

/* --- beginning ---------------------------------------------------------------------------------------------------- */

/* Under way, and to devices of the same type for the same part of their flash. */
static bool competes(const struct followed *older, const struct rollout_target *target)
{
    const struct rollout_target *old = &older->rollout.order.target;
    return !rollout_is_over(&older->rollout) && old->fs == target->fs && strcmp(old->type, target->type) == 0;
}

static bool make_room(struct rollouts *rollouts)
{
    for (size_t i = 0; rollouts->count == ROLLOUTS_MAX && i < rollouts->count; i++) {
        if (rollout_is_over(&rollouts->items[i]->rollout)) {
            forget(rollouts, i);
        }
    }
    return rollouts->count < ROLLOUTS_MAX;
}

struct rollout *rollouts_begin(struct rollouts *rollouts, const char *id, const struct rollout_order *order,
                               uint64_t now_ms)
{
    const struct rollout_target *target = &order->target;
    assert(target->image_count >= 1 && target->image_count <= sizeof target->md5 / sizeof target->md5[0]);
    assert(target->run_md5_count <= sizeof target->run_md5 / sizeof target->run_md5[0]);
    assert(strlen(id) < ANNOUNCE_ID_SIZE);
    for (size_t i = 0; i < rollouts->count && order->whole_type; i++) {
        if (competes(rollouts->items[i], target)) {
            end_superseded(rollouts, &rollouts->items[i]->rollout, id, now_ms);
        }
    }
    if (!make_room(rollouts)) {
        return NULL;
    }
    struct followed *followed = calloc(1, sizeof *followed);
    assert(followed != NULL);
    followed->seed = mac_hash_seed_draw();
    followed_make_room(followed, order->about < ROLLOUT_DEVICES_MAX ? order->about : ROLLOUT_DEVICES_MAX);
    if (version_parse(slice_of(target->version), &followed->version) != STATUS_OK) {
        followed->version.text[0] = '\0';
    }
    struct rollout *rollout = &followed->rollout;
    snprintf(rollout->id, sizeof rollout->id, "%s", id);
    rollout->order = *order;
    rollout->created_ms = now_ms;
    rollout->news_ms = now_ms;
    rollouts->items[rollouts->count++] = followed;
    return rollout;
}

/* A rollout to the whole type goes on even when all that it knows are taken: it is for those, too, who are yet to come.
 * For the same reason it remembers who was taken of whom it had not heard. */
static bool take_from(struct rollouts *rollouts, struct followed *older, const char *by, const struct mac *mac,
                      uint64_t now_ms)
{
    struct rollout *rollout = &older->rollout;
    struct rollout_device *device = followed_find(older, mac);
    char why[40];
    bool had_it = device != NULL && !device->taken;
    if (device == NULL && rollout->order.whole_type) {
        device = followed_add(older, mac, ROLLOUT_DEVICE_TRIGGERED);
    }
    if (device == NULL || device->taken) {
        return false;
    }
    snprintf(why, sizeof why, "superseded by %s", by);
    snprintf(older->taken_by, sizeof older->taken_by, "%s", by);
    followed_take(older, device, why);
    if (!rollout->order.whole_type && rollout->devices[ROLLOUT_DEVICE_SUPERSEDED] == older->count) {
        end_superseded(rollouts, rollout, by, now_ms);
    }
    return had_it;
}

size_t rollouts_take_over(struct rollouts *rollouts, const struct rollout *newer, const struct mac *mac,
                          uint64_t now_ms, struct rollout *losers[ROLLOUTS_MAX])
{
    size_t lost = 0;
    assert(!newer->order.whole_type);
    for (size_t i = 0; i < rollouts->count && &rollouts->items[i]->rollout != newer; i++) {
        struct followed *older = rollouts->items[i];
        if (competes(older, &newer->order.target) && take_from(rollouts, older, newer->id, mac, now_ms)) {
            losers[lost++] = &older->rollout;
        }
    }
    return lost;
}

bool rollout_target_runs(const struct rollout_target *target, const uint8_t md5[16])
{
    bool found = false;
    for (size_t i = 0; !target->fs && i < target->run_md5_count; i++) {
        found = found || memcmp(target->run_md5[i], md5, 16) == 0;
    }
    return found;
}

void rollout_expect(struct rollout *rollout, const struct mac *mac, const uint8_t *md5)
{
    struct followed *followed = followed_of(rollout);
    struct rollout_device *device = followed_find(followed, mac);
    assert(!rollout_is_over(rollout));
    if (device == NULL) {
        bool runs_it = md5 != NULL && rollout_target_runs(&rollout->order.target, md5);
        device = followed_add(followed, mac, runs_it ? ROLLOUT_DEVICE_CURRENT : ROLLOUT_DEVICE_TRIGGERED);
    }
    if (device == NULL) {
        rollout->untracked++;
    } else if (!device->expected && !device->taken) {
        followed_expect(followed, device);
    }
}

void rollout_note(struct rollout *rollout, const char *sentence)
{
    if (rollout->note_count < ROLLOUT_NOTES_MAX) {
        char *copy = strdup(sentence);
        assert(copy != NULL);
        rollout->notes[rollout->note_count++] = copy;
    }
}

/* --- commands ----------------------------------------------------------------------------------------------------- */

void rollout_commands(struct rollouts *rollouts, struct rollout *rollout, size_t count)
{
    (void)rollouts;
    rollout->commands += count;
}

void rollout_not_told(struct rollout *rollout, const struct mac *mac, const char *why, uint64_t now_ms)
{
    struct followed *followed = followed_of(rollout);
    struct rollout_device *device = rollout_is_over(rollout) ? NULL : followed_find(followed, mac);
    if (device != NULL && !device->taken && device->state == ROLLOUT_DEVICE_TRIGGERED) {
        char text[160];
        snprintf(text, sizeof text, "not told: %s", why);
        followed_fail(followed, device, text, false, now_ms);
    }
}

void rollout_command_ended(struct rollouts *rollouts, struct rollout *rollout, bool acknowledged, const char *why,
                           uint64_t now_ms)
{
    struct followed *followed = followed_of(rollout);
    assert(rollout->acknowledged + rollout->commands_failed < rollout->commands);
    if (acknowledged) {
        rollout->acknowledged++;
    } else {
        rollout->commands_failed++;
        bool says_why = why != NULL && why[0] != '\0';
        snprintf(followed->command_why, sizeof followed->command_why, "%s", says_why ? why : "the broker refused it");
    }
    if (rollout->state != ROLLOUT_PUBLISHING || rollout->acknowledged + rollout->commands_failed < rollout->commands) {
        return; /* also where the answer comes after the end */
    }
    if (rollout->acknowledged > 0) {
        run(rollouts, rollout, now_ms);
    } else {
        fail(rollouts, rollout, followed->command_why, now_ms);
    }
}

/* --- time --------------------------------------------------------------------------------------------------------- */

static bool is_in_grace(const struct followed *followed, uint64_t now_ms)
{
    const struct rollout *rollout = &followed->rollout;
    const struct rollout_order *order = &rollout->order;
    size_t retrying = order->whole_type ? rollout->may_retry : followed->expected_retrying;
    uint64_t grace_ms = order->check_ms > UINT64_MAX / GRACE_OF_CHECKS ? UINT64_MAX : GRACE_OF_CHECKS * order->check_ms;
    grace_ms = grace_ms > ROLLOUT_GRACE_MS ? grace_ms : ROLLOUT_GRACE_MS;
    grace_ms = grace_ms < order->timeout_ms ? grace_ms : order->timeout_ms;
    return retrying > 0 && now_ms - followed->cut_ms < grace_ms;
}

static bool is_finished(const struct followed *followed, uint64_t now_ms)
{
    const struct rollout *rollout = &followed->rollout;
    size_t open = 0;
    for (size_t state = 0; state < ROLLOUT_DEVICE_STATES; state++) {
        open += rollout_device_is_open((enum rollout_device_state)state) ? rollout->devices[state] : 0;
    }
    if (is_in_grace(followed, now_ms)) {
        return false;
    }
    if (!rollout->order.whole_type) {
        return followed->expected_open == 0;
    }
    uint64_t quiet_ms = now_ms - rollout->news_ms, window_ms = (uint64_t)rollout->order.window_s * 1000;
    bool came = followed->count > rollout->devices[ROLLOUT_DEVICE_SUPERSEDED];
    return open == 0 && (rollout->expected > 0 || (came && quiet_ms >= STRANGERS_MS + window_ms));
}

static void finish(struct rollouts *rollouts, struct followed *followed, uint64_t now_ms)
{
    struct rollout *rollout = &followed->rollout;
    if (followed->count > 0 && rollout->devices[ROLLOUT_DEVICE_SUPERSEDED] == followed->count) {
        end_superseded(rollouts, rollout, followed->taken_by, now_ms);
    } else {
        end(rollouts, rollout, ROLLOUT_DONE, ROLLOUT_DEVICE_SILENT, now_ms);
    }
}

static void tick(struct rollouts *rollouts, struct followed *followed, uint64_t now_ms)
{
    struct rollout *rollout = &followed->rollout;
    const struct rollout_order *order = &rollout->order;
    if (rollout->state == ROLLOUT_PUBLISHING && now_ms - rollout->created_ms >= order->timeout_ms) {
        if (rollout->acknowledged > 0) {
            run(rollouts, rollout, now_ms);
        } else {
            char why[sizeof rollout->why];
            snprintf(why, sizeof why,
                     "the broker acknowledged no command within %" PRIu64 " s: see that it runs and lets us in",
                     order->timeout_ms / 1000);
            fail(rollouts, rollout, why, now_ms);
        }
    } else if (rollout->state == ROLLOUT_RUNNING) {
        uint64_t patience_ms = order->timeout_ms + (uint64_t)order->window_s * 1000;
        if (is_finished(followed, now_ms) || now_ms - rollout->news_ms >= patience_ms) {
            finish(rollouts, followed, now_ms);
        }
    }
}

void rollouts_tick(struct rollouts *rollouts, uint64_t now_ms)
{
    for (size_t i = 0; i < rollouts->count; i++) {
        tick(rollouts, rollouts->items[i], now_ms);
    }
}

/* --- looking ------------------------------------------------------------------------------------------------------ */

struct rollout *rollouts_find(const struct rollouts *rollouts, struct slice id)
{
    for (size_t i = 0; i < rollouts->count; i++) {
        if (slice_is(id, rollouts->items[i]->rollout.id)) {
            return &rollouts->items[i]->rollout;
        }
    }
    return NULL;
}

struct rollout *rollouts_at(const struct rollouts *rollouts, size_t i)
{
    assert(i < rollouts->count);
    return &rollouts->items[rollouts->count - 1 - i]->rollout;
}

size_t rollouts_count(const struct rollouts *rollouts)
{
    return rollouts->count;
}
