/* What the rooms of a rollout share, and nobody else: its members one by one, and where each is linked.
 *
 * A member is in one list at a time: the queue of its site, the armed ones (told next), or the list of its state, whose
 * members all wait equally long, so that the first is due first.
 */
#ifndef FLEET_ROLLOUT_PARTS_H
#define FLEET_ROLLOUT_PARTS_H

#include "fleet/rollout.h"

#include <uthash.h>
#include <utlist.h>

#define ARMED_MAX 64 /* written down ahead, so that a trigger need not wait for the disk */

struct member_list {
    struct member *head;
    size_t count;
};

/* Whose uplink is shared. In the ring while it has a queue and may have one more under way. */
struct site {
    uint64_t key;
    struct member_list queue;
    size_t taken; /* slots, and armed ones */
    bool in_ring;
    struct site *prev, *next; /* ring */
    UT_hash_handle hh;
};

struct member {
    struct mac mac;
    uint8_t state;
    uint8_t attempts;
    uint8_t transfers; /* at this moment: two devices may call themselves the same */
    bool canary;
    bool told;        /* TRIGGERED: the broker has taken the command */
    bool took;        /* a download of it began, in this rollout */
    bool handed_over; /* to a newer rollout */
    bool came_back;   /* has come back from an update before: one that can be missed */
    uint32_t armed;   /* position; 0 = not */
    uint32_t unix_s;
    uint32_t why; /* index of the rollout's texts; 0 = "" */
    uint64_t armed_ticket;
    uint64_t since_ms;
    struct site *site;
    struct member_list *list;   /* it is in; NULL = none */
    struct member *prev, *next; /* of that list */
    struct member *next_joined;
    UT_hash_handle hh;
};

struct why_text {
    char text[120];
};

struct rollout_table {
    struct rollouts *rollouts;
    struct member *members; /* hash by mac */
    struct member *joined, **joined_end;
    struct site *sites;          /* hash by key */
    struct site *ring;           /* the next to be asked first */
    struct member_list canaries; /* queued ones */
    struct member_list armed;
    struct member_list resting; /* QUEUED again after a transfer that broke off */
    struct member_list telling; /* TRIGGERED, and the broker has not answered */
    struct member_list of_state[ROLLOUT_DEVICE_STATES];
    uint32_t armed_last;
    struct why_text *whys;
    size_t why_count;
    bool type_topic, device_topic; /* what it can be told by */
    bool started;
    bool strangers; /* nobody was known when it started */
    uint64_t started_ms, called_ms;
    struct rollout *older, *newer; /* of all */
};

struct rollouts {
    struct rollout_effects effects;
    struct rollout *newest, *oldest;
    size_t count;
    uint64_t written_ticket;
};

/* --- rollout_members.c: who is in which list ------------------------------------------------------------------------
 */

struct member *member_find(const struct rollout *rollout, const struct mac *mac);
/* A new member, QUEUED, in its site's queue. */
struct member *member_add(struct rollout *rollout, const struct mac *mac, uint64_t site, const struct moment *now);
/* The one place where a state changes: counts, slots, lists, and who writes it down. `why` NULL = "". */
void member_set(struct rollout *rollout, struct member *member, enum rollout_device_state state, const char *why,
                const struct moment *now);
/* QUEUED again: at the end of its site's queue, or resting first. */
void member_requeue(struct rollout *rollout, struct member *member, bool rest, const struct moment *now);
void member_rested(struct rollout *rollout, struct member *member);
void member_make_canary(struct rollout *rollout, struct member *member);
/* Takes the next from the sites in turn (or the canaries) into the armed ones. false = nobody may be. */
bool member_arm_next(struct rollout *rollout, const struct moment *now);
/* The next armed one that is written down; NULL = none. */
struct member *member_next_armed(const struct rollout *rollout);
void member_told(struct rollout *rollout, struct member *member, const struct moment *now);
void member_untold(struct rollout *rollout, struct member *member); /* TRIGGERED: the command goes out again */
bool member_takes_slot(const struct member *member);
const char *member_why(const struct rollout *rollout, const struct member *member);
/* As it was written down; no one writes it down again. */
void member_restore(struct rollout *rollout, const struct rollout_member *as_written, uint64_t site,
                    const struct moment *now);
/* Canaries that failed or are silent are none any more: others take their places. */
void members_forgive_canaries(struct rollout *rollout);
bool member_site_is_full(const struct rollout *rollout, const struct site *site);
const struct site *member_site(const struct rollout *rollout, uint64_t key);
/* Lets go of all members but (at most ROLLOUT_LISTED_MAX) FAILED and SILENT ones. */
void members_thin(struct rollout *rollout);
void members_free(struct rollout *rollout);
void member_view(const struct rollout *rollout, const struct member *member, struct rollout_member *view);

/* --- rollout.c: the rollout's own states -----------------------------------------------------------------------------
 */

void rollout_set(struct rollout *rollout, enum rollout_state state, const char *why, const struct moment *now);
/* Fills free slots, and looks whether it is to halt, to go on, or over. After every fact. */
void rollout_step(struct rollout *rollout, const struct moment *now);
void rollout_call_all(struct rollout *rollout, const struct moment *now);
void rollout_end(struct rollout *rollout, enum rollout_state state, const char *why, const struct moment *now);

#endif
