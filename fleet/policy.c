/* Entries by MAC, each linked in the lists of its groups, so that asking for a group costs what it has. */
#include "fleet/policy.h"

#include "fleet/mac_hash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct group;

struct membership {
    struct group *group;
    struct entry *entry;
    uint64_t joined;                /* counts up */
    struct membership *prev, *next; /* of the group, in the order they joined */
};

struct group {
    word_id name;
    size_t count;
    struct membership *first, *last;
    struct membership *asked; /* last, by policies_group_next; NULL = none, or it has left */
    UT_hash_handle hh;
};

struct entry {
    struct policy_entry entry;
    struct membership memberships[POLICY_GROUPS_MAX];
    UT_hash_handle hh;
};

struct policies {
    struct words *words;
    struct mac_hash_seed seed;
    struct entry *entries;
    struct group *groups;
    uint64_t joins;
};

struct policies *policies_new(struct words *words)
{
    struct policies *policies = calloc(1, sizeof *policies);
    assert(policies != NULL);
    policies->words = words;
    policies->seed = mac_hash_seed_draw();
    return policies;
}

/* --- groups ---------------------------------------------------------------------------------------------------------
 */

static struct group *find_group(const struct policies *policies, word_id name)
{
    struct group *group = NULL;
    HASH_FIND(hh, policies->groups, &name, sizeof name, group);
    return group;
}

static void join(struct policies *policies, struct entry *entry, struct membership *membership, word_id name)
{
    struct group *group = find_group(policies, name);
    if (group == NULL) {
        group = calloc(1, sizeof *group);
        assert(group != NULL);
        group->name = name;
        HASH_ADD(hh, policies->groups, name, sizeof group->name, group);
    }
    *membership =
        (struct membership){ .group = group, .entry = entry, .joined = ++policies->joins, .prev = group->last };
    *(group->last != NULL ? &group->last->next : &group->first) = membership;
    group->last = membership;
    group->count++;
}

static void leave(struct policies *policies, struct membership *membership)
{
    struct group *group = membership->group;
    *(membership->prev != NULL ? &membership->prev->next : &group->first) = membership->next;
    *(membership->next != NULL ? &membership->next->prev : &group->last) = membership->prev;
    group->asked = group->asked == membership ? membership->prev : group->asked;
    if (--group->count == 0) {
        HASH_DEL(policies->groups, group);
        free(group);
    }
}

bool policy_in_group(const struct policy_entry *entry, word_id group)
{
    for (size_t i = 0; entry != NULL && group != 0 && i < entry->group_count; i++) {
        if (entry->groups[i] == group) {
            return true;
        }
    }
    return false;
}

size_t policies_group_count(const struct policies *policies, word_id name)
{
    const struct group *group = find_group(policies, name);
    return group != NULL ? group->count : 0;
}

bool policies_group_next(const struct policies *policies, word_id name, uint64_t *after, struct mac *mac)
{
    struct group *group = find_group(policies, name);
    if (group == NULL) {
        return false;
    }
    bool goes_on = group->asked != NULL && group->asked->joined <= *after;
    struct membership *membership = goes_on ? group->asked : group->first;
    while (membership != NULL && membership->joined <= *after) {
        membership = membership->next;
    }
    if (membership == NULL) {
        return false;
    }
    group->asked = membership;
    *after = membership->joined;
    *mac = membership->entry->entry.mac;
    return true;
}

struct named_group {
    const char *name;
    const struct group *group;
};

static int by_name(const void *a, const void *b)
{
    const struct named_group *left = a, *right = b;
    return strcmp(left->name, right->name);
}

size_t policies_groups(const struct policies *policies, size_t first, word_id *names, size_t *counts, size_t max,
                       size_t *total)
{
    size_t all = HASH_COUNT(policies->groups), i = 0, n = 0;
    struct named_group *sorted = calloc(all + 1, sizeof *sorted);
    assert(sorted != NULL);
    for (const struct group *group = policies->groups; group != NULL; group = group->hh.next) {
        sorted[i++] = (struct named_group){ words_text(policies->words, group->name), group };
    }
    qsort(sorted, all, sizeof sorted[0], by_name);
    for (i = first; i < all && n < max; i++, n++) {
        names[n] = sorted[i].group->name;
        counts[n] = sorted[i].group->count;
    }
    free(sorted);
    *total = all;
    return n;
}

/* --- entries --------------------------------------------------------------------------------------------------------
 */

static struct entry *find(const struct policies *policies, const struct mac *mac)
{
    struct entry *entry = NULL;
    HASH_FIND_BYHASHVALUE(hh, policies->entries, mac, sizeof *mac, mac_hash(&policies->seed, mac), entry);
    return entry;
}

/* Counts its words, or lets them go. */
static void hold_words(struct words *words, const struct policy_entry *entry, bool take)
{
    word_id held[3 + POLICY_GROUPS_MAX] = { entry->type, entry->label, entry->pin };
    memcpy(held + 3, entry->groups, entry->group_count * sizeof held[0]);
    for (size_t i = 0; i < 3u + entry->group_count; i++) {
        if (take && held[i] != 0) {
            word_id same = words_take(words, slice_of(words_text(words, held[i])));
            assert(same == held[i]);
            (void)same;
        } else if (!take) {
            words_drop(words, held[i]);
        }
    }
}

static void empty(struct policies *policies, struct entry *entry)
{
    for (size_t i = 0; i < entry->entry.group_count; i++) {
        leave(policies, &entry->memberships[i]);
    }
    hold_words(policies->words, &entry->entry, false);
}

static bool says_nothing(const struct policy_entry *entry)
{
    return !entry->blocked && !entry->approved && entry->type == 0 && entry->label == 0 && entry->pin == 0 &&
           entry->group_count == 0;
}

/* Who is in a group twice would be asked twice. */
static void keep_each_once(struct policy_entry *entry)
{
    uint8_t kept = 0;
    for (uint8_t i = 0; i < entry->group_count; i++) {
        uint8_t k = 0;
        while (k < kept && entry->groups[k] != entry->groups[i]) {
            k++;
        }
        if (k == kept && entry->groups[i] != 0) {
            entry->groups[kept++] = entry->groups[i];
        }
    }
    entry->group_count = kept;
}

enum status policies_set(struct policies *policies, const struct policy_entry *wanted)
{
    struct entry *entry = find(policies, &wanted->mac);
    assert(wanted->group_count <= POLICY_GROUPS_MAX);
    if (entry == NULL && !says_nothing(wanted)) {
        if (policies_count(policies) >= POLICIES_MAX) {
            return STATUS_LIMIT;
        }
        entry = calloc(1, sizeof *entry);
        assert(entry != NULL);
        entry->entry.mac = wanted->mac;
        HASH_ADD_BYHASHVALUE(hh, policies->entries, entry.mac, sizeof entry->entry.mac,
                             mac_hash(&policies->seed, &wanted->mac), entry);
    }
    if (entry == NULL) {
        return STATUS_OK;
    }
    struct policy_entry next = *wanted; /* it may lie in the entry that changes */
    keep_each_once(&next);
    hold_words(policies->words, &next, true);
    empty(policies, entry);
    entry->entry = next;
    for (size_t i = 0; i < next.group_count; i++) {
        join(policies, entry, &entry->memberships[i], next.groups[i]);
    }
    if (says_nothing(&next)) {
        HASH_DEL(policies->entries, entry);
        free(entry);
    }
    return STATUS_OK;
}

void policies_free(struct policies *policies)
{
    while (policies != NULL && policies->entries != NULL) {
        struct entry *entry = policies->entries;
        empty(policies, entry);
        HASH_DEL(policies->entries, entry);
        free(entry);
    }
    free(policies);
}

const struct policy_entry *policies_find(const struct policies *policies, const struct mac *mac)
{
    const struct entry *entry = find(policies, mac);
    return entry != NULL ? &entry->entry : NULL;
}

size_t policies_count(const struct policies *policies)
{
    return HASH_COUNT(policies->entries);
}

const struct policy_entry *policies_next(const struct policies *policies, const struct policy_entry *before)
{
    const struct entry *entry =
        before == NULL ? policies->entries : (const struct entry *)before; /* its first member */
    entry = before == NULL || entry == NULL ? entry : entry->hh.next;
    return entry != NULL ? &entry->entry : NULL;
}

/* --- for one device -------------------------------------------------------------------------------------------
 */

/* On /update any assignment speaks; on /update/<type> one that does not name another type. */
static bool speaks_for(const char *type, struct slice asked_type)
{
    return type[0] == '\0' || asked_type.len == 0 || slice_is(asked_type, type);
}

void policy_of(const struct words *words, const struct policy_entry *entry, const struct assignment *assignment,
               struct slice asked_type, bool hold_unknown, struct policy *policy)
{
    const char *own_type = entry != NULL ? words_text(words, entry->type) : "";
    const char *own_label = entry != NULL ? words_text(words, entry->label) : "";
    *policy = (struct policy){ .type = "", .wanted = "" };
    policy->blocked = entry != NULL && entry->blocked;
    policy->unapproved = hold_unknown && assignment == NULL && (entry == NULL || !entry->approved);
    if (own_type[0] != '\0' || own_label[0] != '\0') {
        if (speaks_for(own_type, asked_type)) {
            policy->type = own_type;
            policy->wanted = own_label;
            policy->by_operator = policy->assigned = true;
        }
    } else if (assignment != NULL && speaks_for(assignment->type, asked_type)) {
        policy->type = assignment->type;
        policy->wanted = assignment->label;
        policy->assigned = true;
    }
    if (entry != NULL && entry->pin != 0) {
        policy->wanted = words_text(words, entry->pin);
        policy->pinned = policy->by_operator = true;
    }
}

enum reason policy_refusal(const struct policy *policy)
{
    return policy->blocked || policy->barred ? REASON_BLOCKED
           : policy->refused                 ? REASON_UNKNOWN_DEVICE
           : policy->unapproved              ? REASON_UNAPPROVED
                                             : REASON_COUNT;
}
