/* What is heard of devices, and what it means for the rollouts under way. A table tells which fact moves a member from
 * which state to which; what is not in it changes nothing.
 */
#include "fleet/rollout_parts.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The rollout under way that means this device, and the member; it joins where it is a stranger. */
static struct rollout *find_rollout(struct rollouts *rollouts, const struct mac *mac, struct slice type, bool fs)
{
    const struct rollout *found = rollouts_for(rollouts, mac, type, fs, false);
    return found != NULL && found->table->started ? rollouts_find(rollouts, slice_of(found->id)) : NULL;
}

static struct member *take_member(struct rollout *rollout, const struct mac *mac, uint64_t site,
                                  const struct moment *now)
{
    struct member *member = member_find(rollout, mac);
    if (member == NULL && rollout->members < ROLLOUT_DEVICES_MAX) {
        rollout_hand_over(rollout, mac, now);
        bool tries_it = rollout_lacks_canaries(rollout);
        member = member_add(rollout, mac, site, now);
        if (tries_it) {
            member_make_canary(rollout, member);
        }
    }
    return member;
}

static void fail(struct rollout *rollout, struct member *member, const char *why, const struct moment *now)
{
    if (member->state != ROLLOUT_DEVICE_FAILED && member->state != ROLLOUT_DEVICE_SKIPPED) {
        member_set(rollout, member, ROLLOUT_DEVICE_FAILED, why, now);
        member->failed = true;
        rollout->failures++;
        if (rollout_fails_often(rollout)) {
            window_stalled(&rollout->window, now->ms);
        }
    }
}

#define SAYS_NOTHING "took all of it, and asks without a version: nobody can tell what it has"

/* It is there: what was believed lost is not. */
static void find_again(struct rollout *rollout, struct member *member)
{
    rollout->lost -= member->lost;
    member->lost = false;
}

/* --- check-ins ------------------------------------------------------------------------------------------------------
 */

/* It runs the target. Who never took it here ran it before. */
static void confirm(struct rollout *rollout, struct member *member, const struct moment *now)
{
    if (member->state == ROLLOUT_DEVICE_CONFIRMED || member->state == ROLLOUT_DEVICE_SKIPPED) {
        return;
    }
    if (member->state == ROLLOUT_DEVICE_FLASHED) {
        rollout->reboot_ms += now->ms - member->since_ms;
    }
    rollout->failures -= member->failed; /* it runs it after all */
    member->failed = false;
    member_set(rollout, member, member->took ? ROLLOUT_DEVICE_CONFIRMED : ROLLOUT_DEVICE_SKIPPED,
               member->took ? "" : "runs it already", now);
}

static void skip(struct rollout *rollout, struct member *member, const char *why, const struct moment *now)
{
    bool waits = member->state == ROLLOUT_DEVICE_QUEUED || member->state == ROLLOUT_DEVICE_TRIGGERED ||
                 member->state == ROLLOUT_DEVICE_SILENT;
    if (waits) {
        if (member->canary) {
            struct refusals *refusals = &rollout->table->refused_canaries;
            refusals->count++;
            snprintf(refusals->why, sizeof refusals->why, "%s", why);
        }
        member_set(rollout, member, ROLLOUT_DEVICE_SKIPPED, why, now);
    }
}

/* It is answered with the image: the slot is its own from now on, though the image may first have to be loaded. By an
 * operator's word on this device, which goes before rollouts, it is answered without a slot; what comes of it counts.
 */
static void reserve(struct rollout *rollout, struct member *member, const struct moment *now)
{
    struct rollout_permission permission;
    member->took = true;
    if (!member_takes_slot(member)) {
        rollout_permit(rollout, &member->mac, 0, &permission);
        if (!permission.granted) {
            return;
        }
        member->attempts += member->attempts < UINT8_MAX; /* it came by itself */
        member_set(rollout, member, ROLLOUT_DEVICE_TRIGGERED, "", now);
        member_told(rollout, member, now);
    }
}

/* It is there, and could not be served: it will be told, or told again. */
static void wait_again(struct rollout *rollout, struct member *member, const struct moment *now)
{
    if (member->list == &rollout->table->resting) { /* after a cut; it is back */
        member_rested(rollout, member);
        return;
    }
    bool triggered = member->state == ROLLOUT_DEVICE_TRIGGERED;
    if (!triggered && member->state != ROLLOUT_DEVICE_SILENT && !member_is_untold(rollout, member)) {
        return;
    }
    if (member->attempts < ROLLOUT_COMMANDS_MAX) {
        member_requeue(rollout, member, triggered, now);
    } else if (triggered) {
        member_set(rollout, member, ROLLOUT_DEVICE_SILENT, "was told again and again, and could never be served", now);
    }
}

static bool has_taken_all(const struct rollout *rollout, const struct member *member)
{
    return member->state == ROLLOUT_DEVICE_FLASHED ||
           (member->state == ROLLOUT_DEVICE_SILENT && strcmp(member_why(rollout, member), SAYS_NOTHING) == 0);
}

static void take_fact(struct rollout *rollout, struct member *member, const struct rollout_fact *fact,
                      const struct moment *now)
{
    uint64_t moves_before = rollout->table->moves;
    find_again(rollout, member);
    member_set_stale(rollout, member, false);
    if (fact->runs_target) {
        confirm(rollout, member, now);
    } else if (fact->failed != NULL && member->took) { /* what failed before this rollout is another story */
        fail(rollout, member, fact->failed, now);
    } else if (member->unsure && member->state == ROLLOUT_DEVICE_FLASHED) { /* its record knows no transfer any more */
        fail(rollout, member, "took all of it, and asks with another build", now);
    } else if (fact->is_blind && has_taken_all(rollout, member)) {
        if (member->state == ROLLOUT_DEVICE_FLASHED) {
            member_set(rollout, member, ROLLOUT_DEVICE_SILENT, SAYS_NOTHING, now);
        }
    } else if (fact->withheld != NULL) {
        skip(rollout, member, fact->withheld, now);
    } else if (fact->served) {
        reserve(rollout, member, now);
    } else {
        wait_again(rollout, member, now);
    }
    member->has_all = member->has_all && member->state == ROLLOUT_DEVICE_FLASHED; /* nothing was proved */
    if (rollout->table->moves != moves_before) { /* that one who has it asks every minute is no news */
        rollout->news_ms = now->ms;
    }
    rollout_step(rollout, now);
}

void rollouts_checked_in(struct rollouts *rollouts, const struct rollout_fact *fact, const struct moment *now)
{
    struct rollout *rollout = find_rollout(rollouts, &fact->mac, fact->type, fact->fs);
    struct member *member = rollout != NULL ? take_member(rollout, &fact->mac, fact->site, now) : NULL;
    if (member != NULL) {
        take_fact(rollout, member, fact, now);
    }
}

void rollouts_came_after(struct rollouts *rollouts, const struct rollout_fact *fact, const struct moment *now)
{
    const struct rollout *found = rollouts_following(rollouts, &fact->mac, fact->type, fact->fs);
    struct rollout *rollout = found != NULL ? rollouts_find(rollouts, slice_of(found->id)) : NULL;
    struct member *member = rollout != NULL ? member_find(rollout, &fact->mac) : NULL;
    if (member != NULL && (member_takes_slot(member) || fact->runs_target)) {
        take_fact(rollout, member, fact, now);
    }
}

/* --- transfers ------------------------------------------------------------------------------------------------------
 */

bool rollout_has_file(const struct rollout *rollout, const uint8_t file_md5[16])
{
    for (size_t i = 0; i < rollout->order.target.image_count; i++) {
        if (memcmp(rollout->order.target.md5[i], file_md5, 16) == 0) {
            return true;
        }
    }
    return false;
}

/* The member whose transfer of this file is the rollout's business; NULL = it is not. */
static struct member *find_transfer(struct rollout *rollout, const struct mac *mac, const uint8_t file_md5[16])
{
    struct member *member = mac != NULL && rollout_is_followed(rollout) && rollout_has_file(rollout, file_md5)
                                ? member_find(rollout, mac)
                                : NULL;
    return member != NULL && !member->handed_over ? member : NULL;
}

void rollouts_transfer_begins(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16],
                              const struct moment *now)
{
    for (struct rollout *rollout = rollouts->newest; rollout != NULL; rollout = rollout->table->older) {
        struct member *member = find_transfer(rollout, mac, file_md5);
        if (member == NULL) {
            continue;
        }
        find_again(rollout, member);
        reserve(rollout, member, now);
        if (member_takes_slot(member)) {
            member->transfers += member->transfers < UINT8_MAX;
            member->has_all = false;
            rollout->news_ms = now->ms;
            member_set(rollout, member, ROLLOUT_DEVICE_DOWNLOADING, "", now);
        }
    }
}

static void break_off(struct rollout *rollout, struct member *member, const char *why, const struct moment *now)
{
    if (++member->cuts >= ROLLOUT_ATTEMPTS_MAX) {
        fail(rollout, member, why, now);
    } else {
        member_requeue(rollout, member, true, now);
    }
}

static void end_download(struct rollout *rollout, struct member *member, bool whole, uint64_t ms, const char *why,
                         const struct moment *now)
{
    if (whole) {
        if (rollout->in_flight >= window_size(&rollout->window)) {
            window_flowed(&rollout->window);
        }
        rollout->transfer_ms += ms;
        member->has_all = true;
        member_set(rollout, member, ROLLOUT_DEVICE_FLASHED, "", now);
        return;
    }
    window_stalled(&rollout->window, now->ms);
    break_off(rollout, member, why, now);
}

void rollouts_transfer_ended(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16], bool whole,
                             uint64_t bytes, uint64_t ms, const char *why_cut, const struct moment *now)
{
    struct rollout *older;
    for (struct rollout *rollout = rollouts->newest; rollout != NULL; rollout = older) {
        struct member *member = find_transfer(rollout, mac, file_md5);
        older = rollout->table->older;
        if (!rollout_is_followed(rollout) || !rollout_has_file(rollout, file_md5)) {
            continue;
        }
        rollout->bytes += bytes;
        rollout->anonymous += mac == NULL && whole;
        rollout->news_ms = now->ms;
        if (member == NULL) {
            continue;
        }
        member->transfers -= member->transfers > 0;
        bool ends = whole || (why_cut != NULL && member->transfers == 0);
        if (member->state == ROLLOUT_DEVICE_DOWNLOADING && ends) {
            end_download(rollout, member, whole, ms, why_cut, now);
        }
        rollout_step(rollout, now);
    }
}

/* --- the broker's answers --------------------------------------------------------------------------------------------
 */

static bool somebody_came(const struct rollout *rollout)
{
    return rollout->devices[ROLLOUT_DEVICE_DOWNLOADING] + rollout->devices[ROLLOUT_DEVICE_FLASHED] +
               rollout->devices[ROLLOUT_DEVICE_CONFIRMED] + rollout->anonymous >
           0;
}

static bool stands_still(const struct rollout *rollout)
{
    return rollout->state == ROLLOUT_PAUSED || rollout->state == ROLLOUT_HALTED;
}

static void tell_failed(struct rollout *rollout, struct member *member, enum status status, const char *why,
                        const struct moment *now)
{
    char text[120];
    if (member == NULL || member->state != ROLLOUT_DEVICE_TRIGGERED) {
        return;
    }
    if (status == STATUS_BUSY || stands_still(rollout) || member->withdrawn) { /* the same command goes out later */
        member->attempts -= member->attempts > 0;
        story_untold(rollout, member, why, now);
        member_requeue(rollout, member, false, now);
        return;
    }
    snprintf(text, sizeof text, NOT_TOLD "%s", why);
    member_set(rollout, member, ROLLOUT_DEVICE_FAILED, text, now);
}

static void tell_succeeded(struct rollout *rollout, struct member *member, const struct moment *now)
{
    if (member != NULL && member->state == ROLLOUT_DEVICE_TRIGGERED && !member->told) {
        member_told(rollout, member, now);
    }
}

/* Not refused: there was no room for it, or a pause overtook it. */
static bool never_left(const struct rollout *rollout, const struct mac *device, enum status status)
{
    const struct member *member = device != NULL ? member_find(rollout, device) : NULL;
    return status == STATUS_BUSY || stands_still(rollout) || (device == NULL && rollout->table->type_withdrawn) ||
           (member != NULL && member->withdrawn);
}

static void tell_all(struct rollout *rollout, enum status status, const char *why, const struct moment *now)
{
    struct rollout_table *table = rollout->table;
    struct member *next;
    table->type_untold = status == STATUS_BUSY || (status != STATUS_OK && table->type_withdrawn);
    table->type_open = table->type_withdrawn = false;
    for (struct member *member = table->telling.head; member != NULL; member = next) {
        next = member->next;
        status == STATUS_OK ? tell_succeeded(rollout, member, now) : tell_failed(rollout, member, status, why, now);
    }
}

void rollouts_told(struct rollouts *rollouts, struct rollout *rollout, const struct mac *device, enum status status,
                   const char *why, const struct moment *now)
{
    bool acknowledged = status == STATUS_OK;
    (void)rollouts;
    if (!acknowledged && never_left(rollout, device, status)) {
        rollout->commands -= rollout->commands > 0; /* it is none, then */
    } else {
        *(acknowledged ? &rollout->acknowledged : &rollout->commands_failed) += 1;
    }
    if (!rollout_is_followed(rollout)) {
        return;
    }
    bool nobody = !rollout_is_over(rollout) && rollout->acknowledged == 0 && rollout->commands_failed > 0 &&
                  rollout->commands_failed >= rollout->commands && !somebody_came(rollout) && !stands_still(rollout);
    if (nobody) {
        char text[200];
        snprintf(text, sizeof text, "no command reached the broker: %s", why);
        rollout_end(rollout, ROLLOUT_ABORTED, text, now);
        return;
    }
    if (status == STATUS_BUSY) {
        rollout->table->busy_until_ms = now->ms + ROLLOUT_BUSY_MS;
    }
    if (device != NULL) {
        struct member *member = member_find(rollout, device);
        acknowledged ? tell_succeeded(rollout, member, now) : tell_failed(rollout, member, status, why, now);
    } else {
        tell_all(rollout, status, why, now);
    }
    rollout->news_ms = now->ms;
    rollout_step(rollout, now);
}

void rollouts_reported_failure(struct rollouts *rollouts, const struct mac *mac, const char *why,
                               const struct moment *now)
{
    struct rollout *older;
    for (struct rollout *rollout = rollouts->newest; rollout != NULL; rollout = older) {
        struct member *member = rollout_is_followed(rollout) ? member_find(rollout, mac) : NULL;
        older = rollout->table->older;
        if (member != NULL && !member->handed_over && member_takes_slot(member)) {
            rollout->news_ms = now->ms;
            bool is_cut =
                member->state == ROLLOUT_DEVICE_DOWNLOADING; /* here, too, in a moment: it is one try of some */
            is_cut ? break_off(rollout, member, why, now) : fail(rollout, member, why, now);
            rollout_step(rollout, now);
        }
    }
}

void rollouts_came_online(struct rollouts *rollouts, const struct mac *mac, const struct moment *now)
{
    struct rollout *older;
    for (struct rollout *rollout = rollouts->newest; rollout != NULL; rollout = older) {
        bool goes_on = !rollout_is_over(rollout) && rollout->table->started;
        struct member *member = goes_on ? member_find(rollout, mac) : NULL;
        older = rollout->table->older;
        if (member != NULL && member->state == ROLLOUT_DEVICE_SILENT) {
            find_again(rollout, member);
            member_set_stale(rollout, member, false);
            wait_again(rollout, member, now);
            rollout->news_ms = now->ms;
            rollout_step(rollout, now);
        }
    }
}

/* --- deadlines ------------------------------------------------------------------------------------------------------
 */

#define DUE_MAX 512 /* at a time: thousands that fall silent together are not looked at in one turn of the loop */

static struct member *due(const struct member_list *list, uint64_t wait_ms, const struct moment *now)
{
    return list->head != NULL && now->ms - list->head->since_ms >= wait_ms ? list->head : NULL;
}

static void check_deadlines(struct rollout *rollout, const struct moment *now)
{
    const struct rollout_effects *effects = &rollout->table->rollouts->effects;
    struct rollout_table *table = rollout->table;
    size_t lost_before = rollout->lost;
    const struct {
        struct member_list *list;
        uint64_t wait_ms;
        enum rollout_device_state to;
        const char *why;
    } deadlines[] = {
        { &table->telling, ROLLOUT_TELL_MS, ROLLOUT_DEVICE_FAILED, NOT_TOLD "the broker never answered" },
        { &table->of_state[ROLLOUT_DEVICE_TRIGGERED],
          rollout->order.timeout_ms + (uint64_t)rollout->order.window_s * 1000, ROLLOUT_DEVICE_SILENT,
          "was told, and has not asked" },
        { &table->of_state[ROLLOUT_DEVICE_DOWNLOADING], ROLLOUT_DOWNLOAD_MS, ROLLOUT_DEVICE_SILENT,
          "its download has not ended for an hour" },
        { &table->of_state[ROLLOUT_DEVICE_FLASHED], rollout->order.reboot_ms, ROLLOUT_DEVICE_SILENT,
          "took all of it, and has not come back" },
    };
    struct member *member;
    size_t count = 0;
    for (size_t i = 0; i < sizeof deadlines / sizeof deadlines[0]; i++) {
        while (count < DUE_MAX && (member = due(deadlines[i].list, deadlines[i].wait_ms, now)) != NULL) {
            count++;
            if (member->unsure && table->device_topic &&
                !rollout_is_over(rollout)) { /* it may have come: asked again, it says so */
                member_requeue(rollout, member, false, now);
                continue;
            }
            if (member->state == ROLLOUT_DEVICE_DOWNLOADING) {
                window_stalled(&rollout->window, now->ms);
            }
            member->lost = member->state == ROLLOUT_DEVICE_FLASHED && member->came_back;
            rollout->lost += member->lost;
            member_set(rollout, member, deadlines[i].to, deadlines[i].why, now);
        }
    }
    if (rollout->lost != lost_before) { /* no member tells that it is missed */
        (void)effects->changed(effects->owner, rollout);
    }
    while ((member = due(&table->resting, ROLLOUT_RETRY_MS, now)) != NULL) {
        member_rested(rollout, member);
    }
}

#define UNTELLABLE_LOOKED_AT 4096 /* at a time, of perhaps a million */

/* Devices that nobody can tell one by one ask by themselves, or never. */
static void check_untellable(struct rollout *rollout, const struct moment *now)
{
    struct rollout_table *table = rollout->table;
    bool runs = rollout->state == ROLLOUT_RUNNING || rollout->state == ROLLOUT_CANARY;
    if (table->device_topic || !runs || now->ms - table->stands_ms < ROLLOUT_STAND_MS) {
        return;
    }
    for (size_t i = 0; i < UNTELLABLE_LOOKED_AT && i < table->member_count; i++) {
        size_t at = table->untellable_next < table->member_count ? table->untellable_next : 0;
        struct member *member = member_at(table, at);
        table->untellable_next = at + 1;
        if (member->state == ROLLOUT_DEVICE_QUEUED) {
            member_set(rollout, member, ROLLOUT_DEVICE_SILENT, "has not asked by itself, and nothing can tell it", now);
        }
    }
}

static bool end_of_patience(struct rollout *rollout, const struct moment *now)
{
    char why[200];
    bool stands = stands_still(rollout);
    if (rollout_is_over(rollout)) {
        return false;
    }
    if (stands && now->ms - rollout->since_ms >= ROLLOUT_PAUSE_MS) {
        snprintf(why, sizeof why, "%s for a month, and nobody came back to it", rollout_state_word(rollout->state));
        rollout->distrusted = true; /* who stopped it had a reason */
    } else if (!stands && rollout->commands > 0 && rollout->acknowledged == 0 && !somebody_came(rollout) &&
               now->ms - rollout->table->started_ms >= rollout->order.broker_ms) {
        snprintf(why, sizeof why, "the broker took no command within %" PRIu64 " s", rollout->order.broker_ms / 1000);
    } else {
        return false;
    }
    rollout_end(rollout, ROLLOUT_ABORTED, why, now);
    return true;
}

void rollouts_tick(struct rollouts *rollouts, const struct moment *now)
{
    struct rollout *older;
    (void)waste_sweep(rollouts);
    for (struct rollout *rollout = rollouts->newest; rollout != NULL; rollout = older) {
        older = rollout->table->older;
        if (!rollout_is_followed(rollout) || end_of_patience(rollout, now)) {
            continue;
        }
        check_deadlines(rollout, now);
        check_untellable(rollout, now);
        rollout_step(rollout, now);
        rollout_call_all(rollout, now);
    }
}

void rollouts_written(struct rollouts *rollouts, uint64_t ticket, const struct moment *now)
{
    struct rollout *older;
    rollouts->written_ticket = ticket > rollouts->written_ticket ? ticket : rollouts->written_ticket;
    for (struct rollout *rollout = rollouts->newest; rollout != NULL; rollout = older) {
        older = rollout->table->older;
        if (rollout->table->started && !rollout_is_over(rollout)) {
            rollout_step(rollout, now);
        }
    }
}
