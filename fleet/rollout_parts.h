/* What the rooms of a rollout share, and nobody else: its members one by one, where each lies (rollout_table.c), and
 * where each is linked (rollout_members.c).
 *
 * A member is in one list at a time: the queue of its site, the armed ones (told next), or the list of its state, whose
 * members all wait equally long, so that the first is due first.
 */
#ifndef FLEET_ROLLOUT_PARTS_H
#define FLEET_ROLLOUT_PARTS_H

#include "fleet/mac_index.h"
#include "fleet/rollout.h"

#include <uthash.h>
#include <utlist.h>

#define ARMED_MAX 64 /* written down ahead, so that a trigger need not wait for the disk */

struct member_list {
    struct member *head;
    size_t count;
};

/* Who waits at a site, in three kinds: canaries, those heard of lately, and those who are perhaps not there. In its
 * kind's ring while it has any, and the site may have one more under way. */
enum site_kind { SITE_CANARIES, SITE_FRESH, SITE_STALE, SITE_KINDS };
struct site_queue {
    struct member_list members;
    bool in_ring;
    struct site_queue *prev, *next; /* ring */
};

/* Whose uplink is shared. */
struct site {
    uint64_t key;
    struct site_queue queues[SITE_KINDS];
    size_t taken; /* slots, and armed ones */
    UT_hash_handle hh;
};

struct member { /* stays where it is until the rollout is over */
    struct mac mac;
    uint8_t state;
    uint8_t attempts;
    uint8_t cuts;      /* transfers that broke off */
    uint8_t transfers; /* at this moment: two devices may call themselves the same */
    uint8_t mark;      /* enum rollout_mark */
    bool canary : 1;
    bool stale : 1;       /* not heard of lately: its turn is after the others' */
    bool told : 1;        /* TRIGGERED: the broker has taken the command, or it came by itself */
    bool withdrawn : 1;   /* its command was taken back, and the broker's side has not answered yet */
    bool took : 1;        /* was answered with the image, in this rollout */
    bool has_all : 1;     /* and took all of it, and has not asked since */
    bool handed_over : 1; /* to a newer rollout */
    bool came_back : 1;   /* has come back from an update before: one that can be missed */
    bool lost : 1;        /* counts among the rollout's lost, not forgiven yet */
    bool unwritten : 1;   /* SKIPPED before the start: written down if it is listed at the end */
    bool unsure : 1;      /* stands as it stood at a restart: what came last may not have been written down */
    bool failed : 1;      /* counts among its failures, not forgiven yet */
    uint32_t armed;       /* position; 0 = not */
    uint32_t command;     /* its last, counted by the rollout; 0 = none */
    uint32_t unix_s;
    uint32_t why; /* index of the rollout's texts; 0 = "" */
    uint64_t armed_ticket;
    uint64_t since_ms;
    struct site *site;
    struct member_list *list;   /* it is in; NULL = none */
    struct member *prev, *next; /* of that list */
};

#define MEMBER_BLOCK 256
#define NOT_TOLD     "not told: " /* and why */

struct why_text {
    char text[120];
};

/* What a resume forgives. */
struct refusals {
    size_t count;
    char why[60]; /* of the last */
};

struct rollout_table {
    struct rollouts *rollouts;
    struct member **blocks; /* of MEMBER_BLOCK, in the order they joined */
    size_t member_count;    /* of them; once it is over, fewer than rollout.members */
    struct mac_index index;
    struct site *sites;                   /* hash by key */
    struct site_queue *rings[SITE_KINDS]; /* the next to be asked first */
    struct member_list armed;
    struct member_list resting; /* QUEUED again after a transfer that broke off */
    struct member_list telling; /* TRIGGERED, and the broker has not answered */
    struct member_list of_state[ROLLOUT_DEVICE_STATES];
    size_t canaries_of[ROLLOUT_DEVICE_STATES];
    uint32_t armed_last;
    struct why_text *whys;
    size_t why_count;
    bool image_gone;               /* the repository has none of its images */
    bool image_awaited;            /* it is not known whether it has */
    char image_refused[80];        /* why its file is not served that lies there; "" = that is not so */
    bool type_topic, device_topic; /* what it can be told by */
    bool started;
    bool closed;          /* over, and nobody is followed any more */
    size_t failures_read; /* members that were read as such; the rollout's own row may be older than theirs */
    bool type_open;       /* a command to the type waits for the broker's answer */
    bool type_withdrawn;  /* and was taken back */
    bool type_untold;     /* it never went out, and is to be repeated */
    uint64_t started_ms, called_ms;
    uint64_t stands_ms; /* since it was ordered, restarts or not: for ROLLOUT_STAND_MS */
    uint64_t moves;     /* of members, so far */
    struct {            /* where the last page of members ended */
        uint64_t moves;
        enum rollout_device_state state;
        size_t passed, at;
    } page;
    struct rollout *older, *newer;                 /* of its list */
    struct rollout *older_of_type, *newer_of_type; /* of the same type and mode, in whichever list */
    char waits[160];                               /* for what, since the restart; "" = it does not */
    size_t untellable_next;                        /* where its tick looks on (check_untellable) */
    size_t yielded;                                /* members that went to newer ones unfinished */
    struct refusals refused_canaries; /* by what is known of the device, since the start or the last resume */
    uint64_t busy_until_ms;           /* no command leaves before: the broker's side had no room */
};

/* Members of rollouts that are over: let go some at a time. */
struct waste {
    struct member **blocks;
    size_t block_count;
    struct site *sites; /* linked by hh.next, in no table any more */
    struct waste *next;
};

struct rollout_list {
    struct rollout *newest, *oldest;
    size_t count;
};

struct type_words;

struct rollouts {
    struct rollout_effects effects;
    struct rollout_list recent;
    struct rollout_list words; /* `word_only` */
    struct type_words *types;  /* hash by type */
    uint64_t written_ticket;
    struct mac_hash_seed seed;
    struct waste *waste;
    size_t waste_blocks; /* in all of it */
};

/* --- rollout_table.c: where they lie --------------------------------------------------------------------------------
 */

struct member *member_find(const struct rollout *rollout, const struct mac *mac);
struct member *member_at(const struct rollout_table *table, size_t i);     /* in the order they joined */
struct member *member_lay(struct rollout *rollout, const struct mac *mac); /* zeroed, in no list */
/* Lets go of all members but (at most ROLLOUT_LISTED_MAX) FAILED and SILENT ones, and SKIPPED ones as far as there is
 * room: each says why. The work is done by waste_sweep. */
void members_thin(struct rollout *rollout);
void members_free(struct rollout *rollout);
struct site *site_take(struct rollout *rollout, uint64_t key); /* a new one where there is none */
/* In its rings or not, as its queues and its slots now are. */
void site_place(struct rollout *rollout, struct site *site);
/* The next in turn of all sites, which have one of this kind and may have one more under way; NULL = nobody. */
struct member *sites_next(struct rollout *rollout, enum site_kind kind);
/* Of those that are no canaries, the stale ones last. */
struct member *sites_next_plain(struct rollout *rollout);
/* Frees a piece of what was put aside, of one rollout or of several small ones; false = there is none left. At each
 * tick, and where a rollout begins, for orders may come faster than ticks. Not where a member is still looked at. */
#define WASTE_BLOCKS_MAX 4096 /* above, whoever begins a rollout waits until it is less */
bool waste_sweep(struct rollouts *rollouts);

/* --- rollout_members.c: who is in which list ------------------------------------------------------------------------
 */

/* A new member, QUEUED, in its site's queue. */
struct member *member_add(struct rollout *rollout, const struct mac *mac, uint64_t site, const struct moment *now);
/* The one place where a state changes: counts, slots, lists, and who writes it down. `why` NULL = "". */
void member_set(struct rollout *rollout, struct member *member, enum rollout_device_state state, const char *why,
                const struct moment *now);
/* The same, with a mark. */
void member_set_as(struct rollout *rollout, struct member *member, enum rollout_device_state state,
                   enum rollout_mark mark, const char *why, const struct moment *now);
/* SKIPPED before the start: it follows from the order, so nobody writes it down before the end. */
void member_leave_out(struct rollout *rollout, struct member *member, const char *why);
void member_write_left_out(struct rollout *rollout, size_t max);
/* Its turn is after, or among, the others'. */
void member_set_stale(struct rollout *rollout, struct member *member, bool stale);
/* QUEUED again: at the end of its site's queue, or resting first. */
void member_requeue(struct rollout *rollout, struct member *member, bool rest, const struct moment *now);
void member_rested(struct rollout *rollout, struct member *member);
void member_make_canary(struct rollout *rollout, struct member *member);
/* Takes the next from the sites in turn (or the canaries) into the armed ones. false = nobody may be. */
bool member_arm_next(struct rollout *rollout, const struct moment *now);
/* An armed one asked after a restart, and may not be served yet. If its command went out before, this was its answer:
 * it does not obey the same a second time, so the next is another. */
void member_spend(struct rollout *rollout, struct member *member);
/* The next armed one that is written down; NULL = none. */
struct member *member_next_armed(const struct rollout *rollout);
void member_told(struct rollout *rollout, struct member *member, const struct moment *now);
void member_untold(struct rollout *rollout, struct member *member); /* TRIGGERED: the command goes out again */
bool rollout_device_is_open(enum rollout_device_state state);       /* takes a slot */
bool member_takes_slot(const struct member *member);
const char *member_why(const struct rollout *rollout, const struct member *member);
/* As it was written down; no one writes it down again. */
void member_restore(struct rollout *rollout, const struct rollout_member *as_written, uint64_t site,
                    const struct moment *now);
/* What failed or was lost so far counts no more; canaries among them are none any more. */
void members_forgive(struct rollout *rollout);
bool member_site_is_full(const struct rollout *rollout, const struct site *site);
const struct site *member_site(const struct rollout *rollout, uint64_t key);
void member_view(const struct rollout *rollout, const struct member *member, struct rollout_member *view);

/* --- rollout.c: the rollout's own states -----------------------------------------------------------------------------
 */

/* `why` "": what is to be said of it in any case (rollout_say). */
void rollout_set(struct rollout *rollout, enum rollout_state state, const char *why, const struct moment *now);
void rollout_set_for(struct rollout *rollout, enum rollout_state state, enum rollout_cause cause, const char *why,
                     const struct moment *now);
/* PLANNED (or it was, when it was halted), and all known have joined: whom it tells first, the type or one by one. */
void rollout_open(struct rollout *rollout, const struct moment *now);
/* By itself: so many have failed, or a canary has. */
void rollout_halt(struct rollout *rollout, const char *why, const struct moment *now);
/* Writes into `why` that it waits for strangers, that devices of it went to a newer one; what stopped it stays. */
void rollout_say(struct rollout *rollout);
/* Fills free slots, and looks whether it is to halt, to go on, or over. After every fact. */
void rollout_step(struct rollout *rollout, const struct moment *now);
void rollout_call_all(struct rollout *rollout, const struct moment *now);

/* More than half the share with which it halts, of as many: the window shrinks with each that follows. */
bool rollout_fails_often(const struct rollout *rollout);
bool rollout_may_trigger(const struct rollout *rollout);  /* its state is CANARY or RUNNING */
bool rollout_stands_still(const struct rollout *rollout); /* PAUSED or HALTED */

/* --- rollout_canaries.c ---------------------------------------------------------------------------------------------
 */

/* Strangers are canaries, as long as there are too few. */
bool rollout_lacks_canaries(const struct rollout *rollout);
/* In CANARY: chooses those that are missing; halts, or goes on to all, when they have said enough. */
void rollout_judge_canaries(struct rollout *rollout, const struct moment *now);

/* --- rollout_reasons.c ----------------------------------------------------------------------------------------------
 */

void reasons_add(struct rollout_reasons *reasons, const char *why, size_t count);
void reasons_take(struct rollout_reasons *reasons, const char *why); /* one that was added */

/* --- rollout_story.c ------------------------------------------------------------------------------------------------
 */

/* Its command leaves; the broker's word may come after the device. Or it did not leave, and will later. */
void story_told(const struct rollout *rollout, const struct member *member, const struct moment *now);
void story_untold(const struct rollout *rollout, const struct member *member, const char *why,
                  const struct moment *now);
void story_moved(const struct rollout *rollout, const struct member *member, const struct moment *now);
/* It is paused, halted or aborted: noted with who is under way. */
void story_stopped(const struct rollout *rollout, const struct moment *now);

/* --- rollout_end.c --------------------------------------------------------------------------------------------------
 */

/* Over, at once: who waits is SKIPPED; who was told, or is at it, keeps its deadline, and facts go on to count. */
void rollout_end(struct rollout *rollout, enum rollout_state state, const char *why, const struct moment *now);
/* ABORTED: the newer one with this id took its place. */
void rollout_end_superseded(struct rollout *rollout, const char *by, const struct moment *now);
/* Where the last one that was followed has come to its end: members are let go. */
void rollout_close(struct rollout *rollout);
/* Facts and deadlines count: its devices are gathered (before a restart, perhaps, after which it waits for what it
 * needs to tell anyone), and it is not over or still follows somebody. */
bool rollout_is_followed(const struct rollout *rollout);
/* FAILED because no command reached it: nothing speaks against it, nor against the image. */
bool member_is_untold(const struct member *member);
/* SKIPPED, for the rollout is over. */
void member_give_up(struct rollout *rollout, struct member *member, const struct moment *now);
/* As others see it: who still waits when the rollout is over is SKIPPED. */
enum rollout_device_state member_state(const struct rollout *rollout, const struct member *member);

/* --- rollout_facts.c ------------------------------------------------------------------------------------------------
 */

/* The image's or the network's fault: counts. */
void member_fail(struct rollout *rollout, struct member *member, const char *why, const struct moment *now);
/* It is there: what was believed lost is not. */
void member_find_again(struct rollout *rollout, struct member *member);
/* It is answered with the image: the slot is its own from now on, though the image may first have to be loaded. By an
 * operator's word on this device, which goes before rollouts, it is answered without a slot; what comes of it counts.
 */
void member_reserve(struct rollout *rollout, struct member *member, const struct moment *now);

/* --- rollout_told.c -------------------------------------------------------------------------------------------------
 */

/* By a command or without one: devices can reach it. */
bool rollout_somebody_came(const struct rollout *rollout);

/* --- rollouts.c ------------------------------------------------------------------------------------------------------
 */

struct rollout *rollouts_add(struct rollouts *rollouts, const struct rollout *like); /* the newest */
bool rollouts_drop_oldest(struct rollouts *rollouts); /* that is over: its word stays. false = there is none */
bool rollout_is_about(const struct rollout *rollout, struct slice type, bool fs);
/* A member that was left out or handed over is none any more. */
bool rollout_means(const struct rollouts *rollouts, const struct rollout *rollout, const struct mac *mac);

/* --- rollout_words.c ------------------------------------------------------------------------------------------------
 */

void words_add(struct rollouts *rollouts, struct rollout *rollout); /* the newest of its type */
void words_remove(struct rollouts *rollouts, struct rollout *rollout);
/* Of one that is over: its word on its type, or on its image, has not been replaced. Of words to a part of a type, only
 * the newest ROLLOUT_WORDS_OF_TYPE are needed. */
bool word_is_needed(const struct rollout *rollout);

/* --- rollout_supersede.c ---------------------------------------------------------------------------------------------
 */

/* How many are under way, without those that end when this is ordered. */
size_t rollouts_that_stay(const struct rollouts *rollouts, const struct rollout_order *order);
/* These end; writes the newest's id, where there is any. */
void rollouts_give_way(struct rollouts *rollouts, const struct rollout_order *order, const char *id,
                       char supersedes[ANNOUNCE_ID_SIZE], const struct moment *now);
/* The newer rollout under way that means the device; NULL = none. */
struct rollout *rollout_newer_for(const struct rollout *rollout, const struct mac *mac);
/* Whether any newer one under way may have a say in this one's devices. */
bool rollout_has_newer(const struct rollout *rollout);
/* The member goes to the newer one that means it. false = there is none. */
bool rollout_yields(struct rollout *rollout, struct member *member, const struct moment *now);
/* Older rollouts lose the device; a download of an older image that is under way ends as it ends. */
void rollout_hand_over(struct rollout *newer, const struct mac *mac, const struct moment *now);

#endif
