/* The members of a rollout: who is in which state, list and slot.
 *
 * What makes it hard is that four things must agree at every moment: a member's state, the list it is linked in, the
 * counts of the rollout, and the slots of its site. So all of them change in one function (move), and rollout_check
 * walks all members to see that they do.
 */
#include "fleet/rollout_parts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *word;
    bool slot;
} device_states[] = {
#define X(name, word, slot, final) { word, slot },
    ROLLOUT_DEVICE_LIST(X)
#undef X
};

const char *rollout_device_word(enum rollout_device_state state)
{
    return device_states[state].word;
}

bool rollout_device_from_word(struct slice word, enum rollout_device_state *state)
{
    for (unsigned i = 0; i < ROLLOUT_DEVICE_STATES; i++) {
        if (slice_is(word, device_states[i].word)) {
            *state = (enum rollout_device_state)i;
            return true;
        }
    }
    return false;
}

bool rollout_device_is_open(enum rollout_device_state state)
{
    return device_states[state].slot;
}

bool member_takes_slot(const struct member *member)
{
    return device_states[member->state].slot;
}

/* --- texts: many members share few ----------------------------------------------------------------------------------
 */

#define WHYS_MAX 4096

static uint32_t find_why(struct rollout_table *table, const char *text)
{
    if (text == NULL || text[0] == '\0') {
        return 0;
    }
    for (size_t i = table->why_count; i > 0 && i + 64 > table->why_count; i--) { /* the newest are the likeliest */
        if (strncmp(table->whys[i - 1].text, text, sizeof table->whys[0].text - 1) == 0) {
            return (uint32_t)i;
        }
    }
    if (table->why_count == WHYS_MAX) {
        return WHYS_MAX;
    }
    if ((table->why_count & (table->why_count - 1)) == 0) {
        size_t room = table->why_count > 0 ? 2 * table->why_count : 1;
        table->whys = realloc(table->whys, room * sizeof table->whys[0]);
        assert(table->whys != NULL);
    }
    snprintf(table->whys[table->why_count].text, sizeof table->whys[0].text, "%s",
             table->why_count + 1 == WHYS_MAX ? "too many different reasons to keep; the log has each" : text);
    return (uint32_t)++table->why_count;
}

const char *member_why(const struct rollout *rollout, const struct member *member)
{
    return member->why > 0 ? rollout->table->whys[member->why - 1].text : "";
}

/* --- lists ----------------------------------------------------------------------------------------------------------
 */

static struct member_list *site_list(const struct member *member)
{
    enum site_kind kind = member->canary ? SITE_CANARIES : member->stale ? SITE_STALE : SITE_FRESH;
    return &member->site->queues[kind].members;
}

/* The list that its state and marks ask for; NULL = none. */
static struct member_list *list_for(struct rollout *rollout, struct member *member, bool rests)
{
    struct rollout_table *table = rollout->table;
    if (member->state == ROLLOUT_DEVICE_TRIGGERED && !member->told) {
        return &table->telling;
    }
    if (member->state != ROLLOUT_DEVICE_QUEUED) {
        return &table->of_state[member->state];
    }
    return member->armed > 0 ? &table->armed : rests ? &table->resting : site_list(member);
}

static bool takes_site(const struct member *member)
{
    return member_takes_slot(member) || member->armed > 0;
}

static void leave(struct rollout *rollout, struct member *member)
{
    if (member->list != NULL) {
        DL_DELETE(member->list->head, member);
        member->list->count--;
        member->list = NULL;
    }
    rollout->devices[member->state]--;
    rollout->table->canaries_of[member->state] -= member->canary;
    rollout->in_flight -= member_takes_slot(member);
    member->site->taken -= takes_site(member);
}

static void enter(struct rollout *rollout, struct member *member, bool rests)
{
    member->list = list_for(rollout, member, rests);
    DL_APPEND(member->list->head, member);
    member->list->count++;
    rollout->devices[member->state]++;
    rollout->table->canaries_of[member->state] += member->canary;
    rollout->table->moves++;
    rollout->in_flight += member_takes_slot(member);
    member->site->taken += takes_site(member);
    site_place(rollout, member->site);
}

static uint64_t write_down(struct rollout *rollout, const struct member *member)
{
    const struct rollout_effects *effects = &rollout->table->rollouts->effects;
    struct rollout_member view;
    member_view(rollout, member, &view);
    return effects->member_changed(effects->owner, rollout, &view);
}

/* --- members --------------------------------------------------------------------------------------------------------
 */

struct member *member_add(struct rollout *rollout, const struct mac *mac, uint64_t site, const struct moment *now)
{
    assert(rollout->members < ROLLOUT_DEVICES_MAX);
    struct member *member = member_lay(rollout, mac);
    member->site = site_take(rollout, site);
    member->since_ms = now->ms;
    member->unix_s = now->unix_s;
    rollout->members++;
    enter(rollout, member, false);
    return member;
}

static void move(struct rollout *rollout, struct member *member, enum rollout_device_state state, uint32_t armed,
                 bool rests)
{
    leave(rollout, member);
    member->state = (uint8_t)state;
    member->armed = armed;
    enter(rollout, member, rests);
}

/* It is no canary any more. */
static void unmark(struct rollout *rollout, struct member *member)
{
    rollout->canaries -= member->canary;
    rollout->table->canaries_of[member->state] -= member->canary;
    member->canary = false;
}

void member_set(struct rollout *rollout, struct member *member, enum rollout_device_state state, const char *why,
                const struct moment *now)
{
    member_set_as(rollout, member, state, ROLLOUT_MARK_NONE, why, now);
}

void member_set_as(struct rollout *rollout, struct member *member, enum rollout_device_state state,
                   enum rollout_mark mark, const char *why, const struct moment *now)
{
    member->mark = (uint8_t)mark;
    member->told = member->withdrawn = member->unsure = member->unwritten = false;
    if (member->state == ROLLOUT_DEVICE_SKIPPED) {
        reasons_take(&rollout->skipped_for, member_why(rollout, member));
    }
    member->why = find_why(rollout->table, why);
    member->since_ms = now->ms;
    member->unix_s = now->unix_s;
    if (state == ROLLOUT_DEVICE_SKIPPED) { /* it proves nothing: another takes its place */
        unmark(rollout, member);
        reasons_add(&rollout->skipped_for, member_why(rollout, member), 1);
    }
    move(rollout, member, state, 0, false);
    rollout->canaries_confirmed = rollout->table->canaries_of[ROLLOUT_DEVICE_CONFIRMED];
    (void)write_down(rollout, member);
    story_moved(rollout, member, now);
}

void member_leave_out(struct rollout *rollout, struct member *member, const char *why)
{
    member->why = find_why(rollout->table, why);
    member->unwritten = true;
    reasons_add(&rollout->skipped_for, member_why(rollout, member), 1);
    move(rollout, member, ROLLOUT_DEVICE_SKIPPED, 0, false);
}

void member_write_left_out(struct rollout *rollout, size_t max)
{
    struct member *member = rollout->table->of_state[ROLLOUT_DEVICE_SKIPPED].head;
    for (size_t i = 0; member != NULL && i < max; i++, member = member->next) {
        if (member->unwritten) {
            member->unwritten = false;
            (void)write_down(rollout, member);
        }
    }
}

void member_requeue(struct rollout *rollout, struct member *member, bool rest, const struct moment *now)
{
    if (rollout_is_over(rollout)) { /* its turn will not come again */
        member_give_up(rollout, member, now);
        return;
    }
    member->told = member->withdrawn = member->unsure = false;
    member->why = 0;
    member->mark = ROLLOUT_MARK_NONE;
    member->since_ms = now->ms;
    member->unix_s = now->unix_s;
    move(rollout, member, ROLLOUT_DEVICE_QUEUED, 0, rest);
    (void)write_down(rollout, member);
}

void member_set_stale(struct rollout *rollout, struct member *member, bool stale)
{
    bool waits = member->site != NULL && member->list == site_list(member);
    if (waits) {
        leave(rollout, member);
    }
    member->stale = stale;
    if (waits) {
        enter(rollout, member, false);
    }
}

void member_rested(struct rollout *rollout, struct member *member)
{
    move(rollout, member, ROLLOUT_DEVICE_QUEUED, 0, false);
}

void member_told(struct rollout *rollout, struct member *member, const struct moment *now)
{
    assert(member->state == ROLLOUT_DEVICE_TRIGGERED);
    member->told = true;
    member->withdrawn = false;
    member->since_ms = now->ms;
    move(rollout, member, ROLLOUT_DEVICE_TRIGGERED, 0, false);
}

void member_make_canary(struct rollout *rollout, struct member *member)
{
    assert(!member->canary);
    leave(rollout, member);
    member->canary = true;
    rollout->canaries++;
    enter(rollout, member, false);
    (void)write_down(rollout, member);
}

void member_untold(struct rollout *rollout, struct member *member)
{
    assert(member->state == ROLLOUT_DEVICE_TRIGGERED);
    member->told = false;
    move(rollout, member, ROLLOUT_DEVICE_TRIGGERED, 0, false);
}

static struct member *pick(struct rollout *rollout)
{
    struct member *canary = sites_next(rollout, SITE_CANARIES);
    return canary != NULL || rollout->state == ROLLOUT_CANARY ? canary : sites_next_plain(rollout);
}

bool member_arm_next(struct rollout *rollout, const struct moment *now)
{
    struct rollout_table *table = rollout->table;
    struct member *member = pick(rollout);
    if (member == NULL) {
        return false;
    }
    member->since_ms = now->ms;
    move(rollout, member, ROLLOUT_DEVICE_QUEUED, ++table->armed_last, false);
    member->armed_ticket = write_down(rollout, member);
    return true;
}

void rollout_write_armed(struct rollout *rollout)
{
    for (struct member *member = rollout->table->armed.head; member != NULL; member = member->next) {
        member->armed_ticket = write_down(rollout, member);
    }
}

void member_spend(struct rollout *rollout, struct member *member)
{
    member->unsure = false;
    member->attempts += member->attempts < UINT8_MAX;
    member->armed_ticket = write_down(rollout, member);
}

struct member *member_next_armed(const struct rollout *rollout)
{
    struct member *member = rollout->table->armed.head;
    return member != NULL && member->armed_ticket <= rollout->table->rollouts->written_ticket ? member : NULL;
}

void members_forgive(struct rollout *rollout)
{
    for (size_t i = 0; i < rollout->table->member_count; i++) {
        struct member *member = member_at(rollout->table, i);
        bool bad = member->state == ROLLOUT_DEVICE_FAILED || member->state == ROLLOUT_DEVICE_SILENT;
        member->failed = member->lost = false;
        if (member->canary && bad) {
            unmark(rollout, member);
            (void)write_down(rollout, member);
        }
    }
    rollout->table->refused_canaries.count = 0;
    rollout->forgiven = rollout->failures;
    rollout->lost_forgiven = rollout->lost;
}

bool member_is_untold(const struct member *member)
{
    return member->state == ROLLOUT_DEVICE_FAILED && member->mark == ROLLOUT_MARK_UNTOLD;
}

void member_restore(struct rollout *rollout, const struct rollout_member *as_written, uint64_t site,
                    const struct moment *now)
{
    struct member *member = member_add(rollout, &as_written->mac, site, now);
    leave(rollout, member);
    member->state = (uint8_t)as_written->state;
    member->canary = as_written->canary && as_written->state != ROLLOUT_DEVICE_SKIPPED;
    member->attempts = as_written->attempts;
    /* who was told, or was about to be, has perhaps taken it while nobody could write that down */
    member->took = as_written->attempts > 0 || as_written->armed > 0;
    member->has_all = as_written->state == ROLLOUT_DEVICE_FLASHED;
    member->mark = (uint8_t)as_written->mark;
    member->handed_over = as_written->state == ROLLOUT_DEVICE_SKIPPED && as_written->mark == ROLLOUT_MARK_SUPERSEDED;
    rollout->table->yielded += member->handed_over;
    rollout->table->failures_read += as_written->state == ROLLOUT_DEVICE_FAILED && !member_is_untold(member);
    rollout->failures =
        rollout->failures > rollout->table->failures_read ? rollout->failures : rollout->table->failures_read;
    *(as_written->state == ROLLOUT_DEVICE_QUEUED ? &member->armed : &member->command) = as_written->armed;
    rollout->commands = rollout->commands > member->command ? rollout->commands : member->command;
    member->told = as_written->state == ROLLOUT_DEVICE_TRIGGERED;
    member->unsure = member_takes_slot(member) || member->armed > 0;
    member->unix_s = as_written->unix_s;
    member->why = find_why(rollout->table, as_written->why);
    if (member->state == ROLLOUT_DEVICE_SKIPPED && !rollout_is_over(rollout)) { /* else they were counted at the end */
        reasons_add(&rollout->skipped_for, member_why(rollout, member), 1);
    }
    rollout->canaries += member->canary;
    rollout->table->armed_last =
        member->armed > rollout->table->armed_last ? member->armed : rollout->table->armed_last;
    enter(rollout, member, false);
    rollout->canaries_confirmed = rollout->table->canaries_of[ROLLOUT_DEVICE_CONFIRMED];
}

/* --- looked at ------------------------------------------------------------------------------------------------------
 */

void member_view(const struct rollout *rollout, const struct member *member, struct rollout_member *view)
{
    *view = (struct rollout_member){
        .mac = member->mac,
        .state = member_state(rollout, member),
        .canary = member->canary,
        .attempts = member->attempts,
        .armed = member->state == ROLLOUT_DEVICE_QUEUED ? member->armed : member->command,
        .unix_s = member->unix_s,
        .why = member_why(rollout, member),
        .mark = (enum rollout_mark)member->mark,
    };
}

bool rollout_member(const struct rollout *rollout, const struct mac *mac, struct rollout_member *view)
{
    const struct member *member = member_find(rollout, mac);
    if (member != NULL) {
        member_view(rollout, member, view);
    }
    return member != NULL;
}

/* QUEUED ones lie in many lists, so all are found along the order of joining; the next page goes on where the one
 * before ended, as long as nobody has moved. */
size_t rollout_members(const struct rollout *rollout, enum rollout_device_state state, size_t first,
                       struct rollout_member *views, size_t max)
{
    struct rollout_table *table = rollout->table;
    bool goes_on = table->page.moves == table->moves && table->page.state == state && table->page.passed == first;
    size_t at = goes_on ? table->page.at : 0, passed = goes_on ? first : 0, written = 0;
    for (; at < table->member_count && written < max; at++) {
        const struct member *member = member_at(table, at);
        if (state != ROLLOUT_DEVICE_STATES && member_state(rollout, member) != state) {
            continue;
        }
        if (passed++ >= first) {
            member_view(rollout, member, &views[written++]);
        }
    }
    table->page.moves = table->moves;
    table->page.state = state;
    table->page.passed = passed;
    table->page.at = at;
    return written;
}

/* --- for tests ------------------------------------------------------------------------------------------------------
 */

static void check_lists(const struct rollout *rollout)
{
    const struct rollout_table *table = rollout->table;
    const struct member_list *lists[] = { &table->armed, &table->resting, &table->telling };
    size_t listed = 0, ring = 0, in_ring = 0;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        listed += lists[i]->count;
    }
    for (size_t i = 0; i < ROLLOUT_DEVICE_STATES; i++) {
        listed += table->of_state[i].count;
    }
    for (const struct site *site = table->sites; site != NULL; site = site->hh.next) {
        for (size_t i = 0; i < SITE_KINDS; i++) {
            const struct site_queue *queue = &site->queues[i];
            size_t queued = 0;
            for (const struct member *member = queue->members.head; member != NULL; member = member->next) {
                assert(site_list(member) == &queue->members);
                queued++;
            }
            assert(queued == queue->members.count);
            assert(queue->in_ring == (queued > 0 && !member_site_is_full(rollout, site)));
            listed += queued;
            in_ring += queue->in_ring;
        }
    }
    for (size_t i = 0; i < SITE_KINDS; i++) {
        const struct site_queue *first = table->rings[i];
        for (const struct site_queue *at = first; at != NULL; at = at->next != first ? at->next : NULL) {
            ring++;
        }
    }
    assert(listed == table->member_count && ring == in_ring);
}

void rollout_check(const struct rollout *rollout)
{
    const struct rollout_table *table = rollout->table;
    size_t counts[ROLLOUT_DEVICE_STATES] = { 0 }, in_flight = 0, taken = 0, canaries = 0, failed = 0, lost = 0,
           reasons = 0;
    if (rollout_is_over(rollout) && table->closed) {
        assert(table->member_count <= ROLLOUT_LISTED_MAX);
        return;
    }
    for (size_t i = 0; i < table->member_count; i++) {
        const struct member *member = member_at(table, i);
        counts[member_state(rollout, member)]++;
        in_flight += member_takes_slot(member);
        taken += takes_site(member);
        canaries += member->canary;
        failed += member->failed;
        lost += member->lost;
        assert(member->list != NULL && (member->armed == 0 || member->state == ROLLOUT_DEVICE_QUEUED));
        assert(!member->lost || member->state == ROLLOUT_DEVICE_SILENT);
    }
    size_t nameless =
        rollout->members - table->member_count; /* of one that ended before a restart: see rollouts_restore */
    assert(rollout->members >= table->member_count && (nameless == 0 || rollout_is_over(rollout)));
    counts[ROLLOUT_DEVICE_SKIPPED] += nameless;
    for (size_t i = 0; i < ROLLOUT_DEVICE_STATES; i++) {
        assert(counts[i] == rollout->devices[i]);
    }
    for (size_t i = 0; i < ROLLOUT_REASONS_MAX; i++) {
        reasons += rollout->skipped_for.all[i].count;
    }
    assert(reasons == rollout->devices[ROLLOUT_DEVICE_SKIPPED] || rollout_is_over(rollout));
    for (const struct site *site = table->sites; site != NULL; site = site->hh.next) {
        taken -= site->taken;
    }
    assert(in_flight == rollout->in_flight && taken == 0);
    assert(canaries == rollout->canaries &&
           table->canaries_of[ROLLOUT_DEVICE_CONFIRMED] == rollout->canaries_confirmed);
    assert(rollout->failures >= rollout->forgiven + failed && rollout->lost >= rollout->lost_forgiven + lost);
    check_lists(rollout);
}
