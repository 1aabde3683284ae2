/* All rollouts: which there are, which gives way to which, and whose word goes for a device.
 *
 * Few (ROLLOUTS_MAX), so a list; each looks up its members by hash. What leaves the list and still has a word to say
 * goes to another, without its members (rollout_words.c).
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

static void link_rollout(struct rollout_list *list, struct rollout *rollout)
{
    struct rollout_table *table = rollout->table;
    table->older = list->newest;
    table->newer = NULL;
    *(list->newest != NULL ? &list->newest->table->newer : &list->oldest) = rollout;
    list->newest = rollout;
    list->count++;
}

static void unlink_rollout(struct rollout_list *list, struct rollout *rollout)
{
    struct rollout_table *table = rollout->table;
    *(table->older != NULL ? &table->older->table->newer : &list->oldest) = table->newer;
    *(table->newer != NULL ? &table->newer->table->older : &list->newest) = table->older;
    list->count--;
}

static struct rollout_list *list_of(struct rollouts *rollouts, const struct rollout *rollout)
{
    return rollout->word_only ? &rollouts->words : &rollouts->recent;
}

static void free_rollout(struct rollouts *rollouts, struct rollout *rollout)
{
    unlink_rollout(list_of(rollouts, rollout), rollout);
    words_remove(rollouts, rollout);
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
    while (rollouts->recent.newest != NULL) {
        free_rollout(rollouts, rollouts->recent.newest);
    }
    while (rollouts->words.newest != NULL) {
        free_rollout(rollouts, rollouts->words.newest);
    }
    while (waste_sweep(rollouts)) {
    }
    free(rollouts);
}

static struct rollout *find_in(const struct rollout_list *list, struct slice id)
{
    struct rollout *rollout = list->newest;
    while (rollout != NULL && !slice_is(id, rollout->id)) {
        rollout = rollout->table->older;
    }
    return rollout;
}

struct rollout *rollouts_find(const struct rollouts *rollouts, struct slice id)
{
    struct rollout *rollout = find_in(&rollouts->recent, id);
    return rollout != NULL ? rollout : find_in(&rollouts->words, id);
}

struct rollout *rollouts_at(const struct rollouts *rollouts, size_t i)
{
    struct rollout *rollout = rollouts->recent.newest;
    while (rollout != NULL && i > 0) {
        rollout = rollout->table->older;
        i--;
    }
    return rollout;
}

size_t rollouts_count(const struct rollouts *rollouts)
{
    return rollouts->recent.count;
}

const struct rollout *rollouts_next(const struct rollouts *rollouts, const struct rollout *after)
{
    const struct rollout *next = after != NULL ? after->table->older : rollouts->recent.newest;
    return next == NULL && (after == NULL || !after->word_only) ? rollouts->words.newest : next;
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

/* --- beginning -------------------------------------------------------------------------------------------------------
 */

/* Its word stands, its members go: see ROLLOUT_WORDS_MAX. */
static void keep_word(struct rollouts *rollouts, struct rollout *rollout)
{
    struct rollout_table *table = rollout->table;
    unlink_rollout(&rollouts->recent, rollout);
    rollout->word_only = table->closed = true;
    rollout->in_flight = 0;
    link_rollout(&rollouts->words, rollout);
    members_free(rollout);
    table->whys = NULL;
    table->why_count = 0;
}

static void forget(struct rollouts *rollouts, struct rollout *rollout)
{
    if (rollouts->effects.forgotten != NULL) {
        rollouts->effects.forgotten(rollouts->effects.owner, rollout);
    }
    free_rollout(rollouts, rollout);
}

static struct rollout *oldest_over(const struct rollouts *rollouts, bool followed)
{
    struct rollout *rollout = rollouts->recent.oldest;
    while (rollout != NULL && !(rollout_is_over(rollout) && (followed || rollout->table->closed))) {
        rollout = rollout->table->newer;
    }
    return rollout;
}

bool rollouts_drop_oldest(struct rollouts *rollouts)
{
    struct rollout *rollout = oldest_over(rollouts, true);
    if (rollout != NULL) {
        keep_word(rollouts, rollout);
    }
    return rollout != NULL;
}

static void make_room(struct rollouts *rollouts)
{
    while (rollouts->recent.count >= ROLLOUTS_MAX) {
        struct rollout *rollout = oldest_over(rollouts, false);
        rollout = rollout != NULL ? rollout : oldest_over(rollouts, true);
        assert(rollout != NULL); /* fewer than so many are under way */
        if (word_is_needed(rollout)) {
            keep_word(rollouts, rollout);
            (void)rollouts->effects.changed(rollouts->effects.owner, rollout);
        } else {
            forget(rollouts, rollout);
        }
    }
}

/* What a newer word has taken the place of. */
static void forget_words(struct rollouts *rollouts)
{
    struct rollout *older;
    for (struct rollout *rollout = rollouts->words.newest; rollout != NULL; rollout = older) {
        older = rollout->table->older;
        if (!word_is_needed(rollout)) {
            forget(rollouts, rollout);
        }
    }
}

struct rollout *rollouts_add(struct rollouts *rollouts, const struct rollout *like)
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
    link_rollout(list_of(rollouts, rollout), rollout);
    words_add(rollouts, rollout);
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
    while (waste_sweep(rollouts) && rollouts->waste_blocks > WASTE_BLOCKS_MAX) {
    }
    forget_words(rollouts);
    if (rollouts_that_stay(rollouts, order) >= ROLLOUTS_MAX || !rollouts_have_word_for(rollouts, order)) {
        return NULL;
    }
    rollouts_give_way(rollouts, order, fresh.id, fresh.supersedes, now);
    make_room(rollouts);
    struct rollout *rollout = rollouts_add(rollouts, &fresh);
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

void rollout_join(struct rollout *rollout, const struct rollout_joiner *joiner, const struct moment *now)
{
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

enum status rollout_pause(struct rollout *rollout, const struct moment *now, const char **why)
{
    if (rollout->state != ROLLOUT_CANARY && rollout->state != ROLLOUT_RUNNING) {
        *why = "only a rollout in canary or running can be paused";
        return STATUS_INVALID;
    }
    rollout_set(rollout, ROLLOUT_PAUSED, "by an operator", now);
    return STATUS_OK;
}

enum status rollout_resume(struct rollout *rollout, const struct moment *now, const char **why)
{
    if (rollout->state != ROLLOUT_PAUSED && rollout->state != ROLLOUT_HALTED) {
        *why = "only a rollout that is paused or halted can be resumed";
        return STATUS_INVALID;
    }
    if (rollout->table->image_gone) {
        *why = rollout->table->image_refused[0] != '\0'
                   ? "its file is refused (`updraft firmware rejected` says why): mend that, or order it again"
                   : "its image is not in the repository: put the file back as it was ordered, or order it again";
        return STATUS_INVALID;
    }
    bool saw_failures = rollout->state == ROLLOUT_HALTED && rollout->cause != ROLLOUT_CAUSE_IMAGE_LOST;
    if (saw_failures) { /* what came while it was paused, nobody was told of: it may halt at once */
        members_forgive(rollout);
    }
    if (saw_failures && rollout->before == ROLLOUT_CANARY) { /* those that are left must confirm, and suffice */
        rollout->order.canary = (unsigned)rollout->canaries;
    }
    rollout->table->started_ms = now->ms; /* the broker has its time anew */
    if (rollout->before == ROLLOUT_PLANNED && rollout->table->started) {
        rollout_open(rollout, now);
    } else { /* where its devices are still being gathered, rollout_start goes on */
        rollout_set(rollout, rollout->before, "", now);
    }
    rollout_step(rollout, now);
    return STATUS_OK;
}

enum status rollout_abort(struct rollout *rollout, const char *because, const struct moment *now, const char **why)
{
    if (rollout_is_over(rollout)) {
        *why = "it is over";
        return STATUS_INVALID;
    }
    rollout->distrusted = true;
    rollout_end(rollout, ROLLOUT_ABORTED, because, now);
    return STATUS_OK;
}

void rollout_call_off(struct rollout *rollout, const char *because, const struct moment *now)
{
    if (!rollout_is_over(rollout)) {
        rollout_end(rollout, ROLLOUT_ABORTED, because, now);
    }
}

void rollout_image_refused(struct rollout *rollout, const char *reason)
{
    snprintf(rollout->table->image_refused, sizeof rollout->table->image_refused, "%s", reason);
}

void rollout_image_lost(struct rollout *rollout, const struct moment *now)
{
    char why[sizeof rollout->why];
    rollout->table->image_gone = true;
    if (rollout_is_over(rollout) || rollout->state == ROLLOUT_HALTED) {
        return;
    }
    snprintf(why, sizeof why,
             "its file %.90s was replaced or removed after it was ordered: put it back and resume, or order it again",
             rollout->order.target.file);
    if (rollout->table->image_refused[0] != '\0') {
        snprintf(why, sizeof why, "its file %.50s is refused: %s (see `firmware rejected`); mend that and resume",
                 rollout->order.target.file, rollout->table->image_refused);
    }
    rollout_set_for(rollout, ROLLOUT_HALTED, ROLLOUT_CAUSE_IMAGE_LOST, why, now);
}

void rollout_image_found(struct rollout *rollout, bool found, const struct moment *now)
{
    rollout->table->image_awaited = false;
    rollout->table->image_gone = !found;
    if (!found && rollout->table->started) {
        rollout_image_lost(rollout, now);
    }
}

void rollout_image_awaited(struct rollout *rollout)
{
    rollout->table->image_awaited = true;
}

bool rollout_add_form(struct rollout *rollout, const uint8_t file_md5[16])
{
    const struct rollout_effects *effects = &rollout->table->rollouts->effects;
    struct rollout_target *target = &rollout->order.target;
    if (target->image_count == ROLLOUT_FORMS_MAX) {
        return false;
    }
    memcpy(target->md5[target->image_count++], file_md5, sizeof target->md5[0]);
    (void)effects->changed(effects->owner, rollout);
    return true;
}
