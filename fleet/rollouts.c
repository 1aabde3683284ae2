/* All rollouts: which there are, which gives way to which, and whose word goes for a device.
 *
 * Few (ROLLOUTS_MAX), so a list; each looks up its members by hash. A check walks the list once, past those of other
 * types.
 */
#include "fleet/rollout_parts.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rollouts *rollouts_new(const struct rollout_effects *effects)
{
    struct rollouts *rollouts = calloc(1, sizeof *rollouts);
    assert(rollouts != NULL);
    rollouts->effects = *effects;
    rollouts->seed = mac_hash_seed_draw();
    return rollouts;
}

static void unlink_rollout(struct rollouts *rollouts, struct rollout *rollout)
{
    struct rollout_table *table = rollout->table;
    *(table->older != NULL ? &table->older->table->newer : &rollouts->oldest) = table->newer;
    *(table->newer != NULL ? &table->newer->table->older : &rollouts->newest) = table->older;
    rollouts->count--;
}

static void free_rollout(struct rollouts *rollouts, struct rollout *rollout)
{
    unlink_rollout(rollouts, rollout);
    members_free(rollout);
    free(rollout->order.devices);
    free(rollout->table);
    free(rollout);
}

void rollouts_free(struct rollouts *rollouts)
{
    if (rollouts == NULL) {
        return;
    }
    while (rollouts->newest != NULL) {
        free_rollout(rollouts, rollouts->newest);
    }
    while (waste_sweep(rollouts)) {
    }
    free(rollouts);
}

struct rollout *rollouts_find(const struct rollouts *rollouts, struct slice id)
{
    struct rollout *rollout = rollouts->newest;
    while (rollout != NULL && !slice_is(id, rollout->id)) {
        rollout = rollout->table->older;
    }
    return rollout;
}

struct rollout *rollouts_at(const struct rollouts *rollouts, size_t i)
{
    struct rollout *rollout = rollouts->newest;
    while (rollout != NULL && i > 0) {
        rollout = rollout->table->older;
        i--;
    }
    return rollout;
}

size_t rollouts_count(const struct rollouts *rollouts)
{
    return rollouts->count;
}

/* --- whom it means ---------------------------------------------------------------------------------------------------
 */

/* SplitMix64's finalizer (Steele, Lea, Flood 2014): all bits of what goes in reach all that come out. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t hash(const struct rollout *rollout, const struct mac *mac, uint64_t salt)
{
    uint64_t device = 0;
    for (size_t i = 0; mac != NULL && i < sizeof mac->bytes; i++) {
        device = device << 8 | mac->bytes[i];
    }
    return mix(mix(strtoull(rollout->id, NULL, 16) + 0x9e3779b97f4a7c15u * (salt + 1)) ^ device);
}

void rollout_command_id(const struct rollout *rollout, const struct mac *device, unsigned attempt,
                        char id[ANNOUNCE_ID_SIZE])
{
    snprintf(id, ANNOUNCE_ID_SIZE, "%016" PRIx64, hash(rollout, device, attempt));
}

/* Asked at each check of the type, of up to ROLLOUT_NAMED_MAX devices: they are kept in order. */
static bool is_named(const struct rollout_order *order, const struct mac *mac)
{
    return order->device_count > 0 &&
           bsearch(mac, order->devices, order->device_count, sizeof order->devices[0], mac_compare) != NULL;
}

bool rollout_selects(const struct rollouts *rollouts, const struct rollout *rollout, const struct mac *mac)
{
    const struct rollout_order *order = &rollout->order;
    const struct rollout_effects *effects = &rollouts->effects;
    if (order->named) {
        return is_named(order, mac);
    }
    if (order->group[0] != '\0' && !effects->in_group(effects->owner, mac, order->group)) {
        return false;
    }
    return order->percent >= 100 || hash(rollout, mac, UINT32_MAX) % 10000 < (uint64_t)order->percent * 100;
}

bool rollout_means_all(const struct rollout_order *order)
{
    return !order->named && order->group[0] == '\0' && order->percent >= 100;
}

bool rollout_is_about(const struct rollout *rollout, struct slice type, bool fs)
{
    return rollout->order.target.fs == fs && slice_is(type, rollout->order.target.type);
}

/* A member that was left out or handed over is none any more. */
bool rollout_means(const struct rollouts *rollouts, const struct rollout *rollout, const struct mac *mac)
{
    const struct member *member = member_find(rollout, mac);
    return member != NULL ? !member->handed_over : rollout_selects(rollouts, rollout, mac);
}

const struct rollout *rollouts_for(const struct rollouts *rollouts, const struct mac *mac, struct slice type, bool fs,
                                   bool published)
{
    const struct rollout *word = NULL;
    for (const struct rollout *rollout = rollouts->newest; rollout != NULL; rollout = rollout->table->older) {
        if (!rollout_is_about(rollout, type, fs)) {
            continue;
        }
        if (!rollout_is_over(rollout) && mac != NULL && rollout_means(rollouts, rollout, mac)) {
            return rollout;
        }
        bool counts = rollout->state == ROLLOUT_DONE && word == NULL &&
                      (rollout_means_all(&rollout->order) || (mac != NULL && rollout_selects(rollouts, rollout, mac)));
        if (counts) {
            word = rollout;
        }
    }
    return word != NULL && (published || word->order.target.passed_over[0] != '\0') ? word : NULL;
}

/* The newest rollout with that image tells: an older one may have been halted, and the operator decided anew. */
const struct rollout *rollouts_holding(const struct rollouts *rollouts, struct slice type, bool fs,
                                       const uint8_t file_md5[16])
{
    for (const struct rollout *rollout = rollouts->newest; rollout != NULL; rollout = rollout->table->older) {
        const struct rollout_order *order = &rollout->order;
        bool same = false;
        for (size_t i = 0; i < order->target.image_count; i++) {
            same = same || memcmp(order->target.md5[i], file_md5, 16) == 0;
        }
        bool stopped = rollout->state == ROLLOUT_HALTED || (rollout->state == ROLLOUT_ABORTED && rollout->distrusted);
        if (!same || !rollout_is_about(rollout, type, fs) || (order->named && !stopped)) {
            continue;
        }
        return stopped || !rollout_is_over(rollout) ? rollout : NULL;
    }
    return NULL;
}

/* --- beginning -------------------------------------------------------------------------------------------------------
 */

/* What must not be forgotten: what is under way, the last word on a type, and what keeps an image back. */
static bool is_needed(const struct rollouts *rollouts, const struct rollout *rollout)
{
    if (!rollout_is_over(rollout) || !rollout->table->closed) {
        return true;
    }
    for (const struct rollout *newer = rollout->table->newer; newer != NULL; newer = newer->table->newer) {
        bool replaces = rollout_is_about(newer, slice_of(rollout->order.target.type), rollout->order.target.fs) &&
                        rollout_means_all(&newer->order) && newer->state == ROLLOUT_DONE;
        if (replaces) {
            return false;
        }
    }
    (void)rollouts;
    return rollout->state == ROLLOUT_DONE || rollout->distrusted;
}

/* Of more types than rollouts are remembered, the word spoken longest ago is forgotten; what is suspect goes last. */
static bool may_be_forgotten(const struct rollouts *rollouts, const struct rollout *rollout, int pass)
{
    return rollout_is_over(rollout) &&
           (pass == 2 || (pass == 1 && !rollout->distrusted) || !is_needed(rollouts, rollout));
}

static void make_room(struct rollouts *rollouts)
{
    for (int pass = 0; rollouts->count >= ROLLOUTS_MAX && pass <= 2; pass++) {
        struct rollout *newer;
        for (struct rollout *rollout = rollouts->oldest; rollout != NULL && rollouts->count >= ROLLOUTS_MAX;
             rollout = newer) {
            newer = rollout->table->newer;
            if (!may_be_forgotten(rollouts, rollout, pass)) {
                continue;
            }
            if (rollouts->effects.forgotten != NULL) {
                rollouts->effects.forgotten(rollouts->effects.owner, rollout);
            }
            free_rollout(rollouts, rollout);
        }
    }
    assert(rollouts->count < ROLLOUTS_MAX);
}

static struct rollout *add(struct rollouts *rollouts, const struct rollout *like)
{
    struct rollout *rollout = malloc(sizeof *rollout);
    struct rollout_table *table = calloc(1, sizeof *table);
    assert(rollout != NULL && table != NULL);
    *rollout = *like;
    rollout->table = table;
    table->rollouts = rollouts;
    table->index.seed = rollouts->seed;
    if (like->order.device_count > 0) {
        rollout->order.devices = malloc(like->order.device_count * sizeof(struct mac));
        assert(rollout->order.devices != NULL);
        memcpy(rollout->order.devices, like->order.devices, like->order.device_count * sizeof(struct mac));
        qsort(rollout->order.devices, like->order.device_count, sizeof(struct mac), mac_compare);
    } else {
        rollout->order.devices = NULL;
    }
    table->older = rollouts->newest;
    *(rollouts->newest != NULL ? &rollouts->newest->table->newer : &rollouts->oldest) = rollout;
    rollouts->newest = rollout;
    rollouts->count++;
    return rollout;
}

struct rollout *rollouts_begin(struct rollouts *rollouts, const char *id, const struct rollout_order *order,
                               const struct moment *now)
{
    struct rollout fresh = { .order = *order,
                             .state = ROLLOUT_PLANNED,
                             .created_s = now->unix_s,
                             .since_ms = now->ms,
                             .since_s = now->unix_s,
                             .news_ms = now->ms };
    assert(strlen(id) == ANNOUNCE_ID_SIZE - 1 && order->percent >= 1 && order->timeout_ms > 0);
    snprintf(fresh.id, sizeof fresh.id, "%s", id);
    window_init(&fresh.window, order->in_flight);
    if (rollouts_that_stay(rollouts, order) >= ROLLOUTS_MAX) {
        return NULL;
    }
    rollouts_give_way(rollouts, order, fresh.id, fresh.supersedes, now);
    make_room(rollouts);
    struct rollout *rollout = add(rollouts, &fresh);
    rollout->table->stands_ms = now->ms;
    (void)rollouts->effects.changed(rollouts->effects.owner, rollout);
    return rollout;
}

static void add_joiner(struct rollout *rollout, const struct rollout_joiner *joiner, const struct moment *now)
{
    const struct rollout *newer = rollout_newer_for(rollout, &joiner->mac);
    rollout_hand_over(rollout, &joiner->mac, now);
    struct member *member = member_add(rollout, &joiner->mac, joiner->site, now);
    if (newer != NULL) { /* it was ordered, or goes on, while this one's devices were still being gathered */
        (void)rollout_yields(rollout, member, now);
    } else if (joiner->skip_why != NULL) {
        member_leave_out(rollout, member, joiner->skip_why);
    } else if (joiner->away) {
        member_set(rollout, member, ROLLOUT_DEVICE_SILENT, "it said that it is gone", now);
    }
}

void rollout_join(struct rollouts *rollouts, struct rollout *rollout, const struct rollout_joiner *joiner,
                  const struct moment *now)
{
    (void)rollouts;
    struct member *member = member_find(rollout, &joiner->mac);
    if (rollout_is_over(rollout)) { /* an older one's end may come while it still gathers */
        return;
    }
    if (member == NULL && rollout->members < ROLLOUT_DEVICES_MAX) {
        add_joiner(rollout, joiner, now);
        member = member_find(rollout, &joiner->mac);
    }
    if (member != NULL) {
        member->came_back = joiner->came_back;
        member_set_stale(rollout, member, joiner->stale);
    }
}

/* --- the operator's word
 * ---------------------------------------------------------------------------------------------- */

enum status rollout_pause(struct rollouts *rollouts, struct rollout *rollout, const struct moment *now,
                          const char **why)
{
    (void)rollouts;
    if (rollout->state != ROLLOUT_CANARY && rollout->state != ROLLOUT_RUNNING) {
        *why = "only a rollout in canary or running can be paused";
        return STATUS_INVALID;
    }
    rollout_set(rollout, ROLLOUT_PAUSED, "by an operator", now);
    return STATUS_OK;
}

enum status rollout_resume(struct rollouts *rollouts, struct rollout *rollout, const struct moment *now,
                           const char **why)
{
    (void)rollouts;
    if (rollout->state != ROLLOUT_PAUSED && rollout->state != ROLLOUT_HALTED) {
        *why = "only a rollout that is paused or halted can be resumed";
        return STATUS_INVALID;
    }
    bool halted = rollout->state == ROLLOUT_HALTED;
    members_forgive(rollout);
    if (halted && rollout->before == ROLLOUT_CANARY) { /* those that are left must confirm, and suffice */
        rollout->order.canary = (unsigned)rollout->canaries;
    }
    rollout_set(rollout, rollout->before, "", now);
    rollout_step(rollout, now);
    return STATUS_OK;
}

enum status rollout_abort(struct rollouts *rollouts, struct rollout *rollout, const char *because,
                          const struct moment *now, const char **why)
{
    (void)rollouts;
    if (rollout_is_over(rollout)) {
        *why = "it is over";
        return STATUS_INVALID;
    }
    rollout->distrusted = true;
    rollout_end(rollout, ROLLOUT_ABORTED, because, now);
    return STATUS_OK;
}

void rollout_call_off(struct rollouts *rollouts, struct rollout *rollout, const char *because, const struct moment *now)
{
    (void)rollouts;
    if (!rollout_is_over(rollout)) {
        rollout_end(rollout, ROLLOUT_ABORTED, because, now);
    }
}

/* --- after a restart
 * -------------------------------------------------------------------------------------------------- */

/* On the loop's clock, which began anew: it may come out before zero, and differences to it are right nevertheless. A
 * calendar that was set back has passed nothing. */
static uint64_t loop_time_of(uint32_t unix_s, const struct moment *now)
{
    uint64_t ago_s = unix_s > 0 && now->unix_s > unix_s ? now->unix_s - unix_s : 0;
    return now->ms - ago_s * 1000;
}

struct rollout *rollouts_restore(struct rollouts *rollouts, const struct rollout *as_written, const struct moment *now)
{
    if (rollouts->count >= ROLLOUTS_MAX) {
        return NULL;
    }
    struct rollout *rollout = add(rollouts, as_written);
    rollout->since_ms = loop_time_of(rollout->since_s, now);
    rollout->news_ms = now->ms;
    rollout->table->stands_ms = loop_time_of(rollout->created_s, now);
    rollout->in_flight = 0;
    bool over = rollout_is_over(rollout), follows = false;
    for (size_t i = 0; i < ROLLOUT_DEVICE_STATES; i++) {
        follows =
            follows || (over && as_written->devices[i] > 0 && rollout_device_is_open((enum rollout_device_state)i));
    }
    rollout->table->closed = over && !follows;
    if (!over || follows) { /* they are counted again as they come; those of one that is closed stand */
        memset(rollout->devices, 0, sizeof rollout->devices);
        rollout->canaries = rollout->canaries_confirmed = 0;
    }
    if (!over) {
        memset(&rollout->skipped_for, 0, sizeof rollout->skipped_for);
    }
    rollout->members = over ? rollout->members : 0;
    if (follows) { /* whoever waited at the end, or was left out before, may not have been written down */
        rollout->devices[ROLLOUT_DEVICE_SKIPPED] = rollout->members;
    }
    return rollout;
}

/* One of those counted so far without a name. */
static void restore_followed(struct rollout *rollout, const struct rollout_member *as_written, uint64_t site,
                             const struct moment *now)
{
    struct rollout_member member = *as_written;
    if (rollout->devices[ROLLOUT_DEVICE_SKIPPED] == 0) {
        return;
    }
    rollout->devices[ROLLOUT_DEVICE_SKIPPED]--;
    rollout->members--;
    if (member.state == ROLLOUT_DEVICE_DOWNLOADING) { /* the server's end was the download's; or it had all of it */
        member.state = ROLLOUT_DEVICE_TRIGGERED;
    } else if (member.state == ROLLOUT_DEVICE_QUEUED) {
        member.state = ROLLOUT_DEVICE_SKIPPED;
    }
    member_restore(rollout, &member, site, now);
}

void rollout_restore_member(struct rollouts *rollouts, struct rollout *rollout, const struct rollout_member *as_written,
                            uint64_t site, const struct moment *now)
{
    (void)rollouts;
    bool closed = rollout->table->closed;
    bool listed = as_written->state == ROLLOUT_DEVICE_FAILED || as_written->state == ROLLOUT_DEVICE_SILENT ||
                  as_written->state == ROLLOUT_DEVICE_SKIPPED;
    size_t max = closed ? ROLLOUT_LISTED_MAX : ROLLOUT_DEVICES_MAX;
    if (rollout->table->member_count >= max || (closed && !listed) || member_find(rollout, &as_written->mac) != NULL) {
        return;
    }
    if (rollout_is_over(rollout) && !closed) {
        restore_followed(rollout, as_written, site, now);
        return;
    }
    struct rollout before = *rollout;
    member_restore(rollout, as_written, site, now);
    if (closed) { /* its counts stand; the member is for the list alone */
        *rollout = before;
    }
}
