/* What an operator has said of devices: run this, be of that type, belong to these groups, get nothing.
 *
 * A device may be named here before it was ever seen, so this is no part of its record. An operator's word (the admin
 * API) goes before the configuration's [assign]: an assignment as a whole, for a type without a label means its newest
 * build; a pin before any label. policy_of tells where each came from.
 */
#ifndef FLEET_POLICY_H
#define FLEET_POLICY_H

#include "base/status.h"
#include "base/text.h"
#include "fleet/assignment.h"
#include "fleet/words.h"
#include "proto/mac.h"
#include "proto/reason.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POLICY_GROUPS_MAX 8 /* of one device */
#define POLICIES_MAX      1000000

/* An operator's word of one device. An entry that says nothing is forgotten. */
struct policy_entry {
    struct mac mac;
    bool blocked;
    bool approved;       /* where unknown devices are held; who has an assignment in the configuration is known */
    word_id type, label; /* assigned; 0 = not */
    word_id pin;         /* exactly this version or label; 0 = none */
    word_id groups[POLICY_GROUPS_MAX]; /* the first group_count */
    uint8_t group_count;
    char note[65];   /* why, as the operator said; "" */
    uint32_t unix_s; /* when last changed */
};

struct policies;

struct policies *policies_new(struct words *words);
void policies_free(struct policies *policies);

/* The entry, or NULL; valid until it is set. policies_set replaces it whole (words are counted here); an entry that
 * says nothing is removed. STATUS_LIMIT: POLICIES_MAX. */
const struct policy_entry *policies_find(const struct policies *policies, const struct mac *mac);
enum status policies_set(struct policies *policies, const struct policy_entry *entry);
size_t policies_count(const struct policies *policies);
/* One after the other, in the order they were made; `before` NULL = the first. */
const struct policy_entry *policies_next(const struct policies *policies, const struct policy_entry *before);

bool policy_in_group(const struct policy_entry *entry, word_id group); /* entry may be NULL */
/* How many devices are in a group; 0 = there is no such group. And one after the other: *after is 0 for the first, and
 * set by each; who leaves or joins in between puts nobody else out of the way. Returns false behind the last. */
size_t policies_group_count(const struct policies *policies, word_id group);
bool policies_group_next(const struct policies *policies, word_id group, uint64_t *after, struct mac *mac);
/* Groups with their counts, by name, up to max from the first-th on; *total: how many there are. */
size_t policies_groups(const struct policies *policies, size_t first, word_id *groups, size_t *counts, size_t max,
                       size_t *total);

/* --- for one device --------------------------------------------------------------------------------------- */

struct policy {
    bool blocked;
    bool barred;        /* by the configuration's lists of MACs */
    bool refused;       /* unapproved, and such are refused */
    bool unapproved;    /* unknown devices are held, and nobody approved this one */
    const char *type;   /* assigned; "" = none */
    const char *wanted; /* exactly this version or label; "" = none */
    bool assigned;      /* there is an assignment that speaks for this check */
    bool pinned;        /* `wanted` is a pin; else an assignment's label */
    bool by_operator;   /* `type` or `wanted` was said over the admin API; else it stands in the configuration */
};

/* `entry` may be NULL, `assignment` too. `asked_type`: the type in its address, "" = it asked for none; an assignment
 * that names another type does not speak for it. */
void policy_of(const struct words *words, const struct policy_entry *entry, const struct assignment *assignment,
               struct slice asked_type, bool hold_unknown, struct policy *policy);

/* Whether it may have anything: BLOCKED, UNKNOWN_DEVICE, UNAPPROVED; REASON_COUNT = nothing speaks against it. */
enum reason policy_refusal(const struct policy *policy);

#endif
