/* A rollout: which devices are to get an image, who is allowed next, who has it, who failed, and when to stop. Facts
 * in, triggers and permissions out; in memory, on the loop; each change is told to whoever writes it down.
 *
 * The proof of success is a check-in with the new digest, nothing else. What makes it hard: everything happens to
 * everyone at any time, a device may come unasked, twice, under a stolen name or never. So each device is in exactly
 * one state, states change in one function (member_set), which keeps the counts, the slots and the deadlines; what does
 * not fit a state changes nothing.
 *
 * A slot is taken from TRIGGERED (told; or came by itself, and is answered with the image) until CONFIRMED, FAILED,
 * SILENT or SKIPPED. Never more than window_size() are taken; a slot that comes free is filled in the same call.
 */
#ifndef FLEET_ROLLOUT_H
#define FLEET_ROLLOUT_H

#include "base/clock.h"
#include "base/status.h"
#include "base/text.h"
#include "fleet/window.h"
#include "proto/announce.h"
#include "proto/mac.h"
#include "proto/reason.h"
#include "proto/version.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROLLOUTS_MAX             64   /* remembered with their members; see rollouts_begin */
#define ROLLOUT_WORDS_MAX        4096 /* of older ones, the words that stand: in all */
#define ROLLOUT_WORDS_OF_TYPE    64   /* to a part of one type */
#define ROLLOUT_FORMS_MAX        16   /* of a shared file system: those of the commonest flash sizes */
#define ROLLOUT_RUN_MD5_MAX      16   /* a flash mode of two forms, and the slots; or a flash size of a file system */
#define ROLLOUT_DEVICES_MAX      1000000  /* of one */
#define ROLLOUT_NAMED_MAX        10000    /* of --to */
#define ROLLOUT_ATTEMPTS_MAX     3        /* transfers that break off, before it has failed */
#define ROLLOUT_COMMANDS_MAX     10       /* to one device; then it is SILENT until it asks and can be served */
#define ROLLOUT_FAILURES_MIN     2        /* one device alone never halts, but for a canary */
#define ROLLOUT_SAMPLE_MIN       20       /* the share of failures is taken of at least so many (or all there are) */
#define ROLLOUT_QUIET_MS         15000    /* a fleet that nobody knew: over after so long without news */
#define ROLLOUT_UNKNOWN_WINDOW_S 30       /* where nobody is known and the order names no window */
#define ROLLOUT_DOWNLOAD_MS      3600000  /* no download takes longer */
#define ROLLOUT_RETRY_MS         5000     /* after a transfer that broke off, unless it asks before */
#define ROLLOUT_TELL_MS          86400000 /* the broker's side answers long before */
#define ROLLOUT_STAND_MS         604800000 /* devices that nobody can tell: they ask by themselves within it, or are silent */
#define ROLLOUT_BUSY_MS          1000       /* a command found no room to wait in: so long none follows */
#define ROLLOUT_PAUSE_MS         2592000000 /* paused or halted, and nobody came back to it: aborted */
#define ROLLOUT_WAIT_MS_MAX      604800000  /* for anything that an order sets */
#define ROLLOUT_LISTED_MAX       1000       /* members kept of one that is over: FAILED, SILENT, then SKIPPED */

#define ROLLOUT_SUPERSEDED "superseded by " /* and an id: of a rollout, or of a member handed over */
#define ROLLOUT_AWAITS     "no device was known, and none was told: it waits 7 days for those who ask by themselves"

/*    name              word, over */
#define ROLLOUT_STATE_LIST(X)                                                                                          \
    X(PLANNED, "planned", false) /* its devices are being gathered, or the first command waits for the broker */       \
    X(CANARY, "canary", false)   /* only the canaries are served */                                                    \
    X(RUNNING, "running", false)                                                                                       \
    X(PAUSED, "paused", false)  /* by an operator; what is under way ends */                                           \
    X(HALTED, "halted", false)  /* by itself; `why` says; waits for resume or abort */                                 \
    X(DONE, "done", true)       /* every device is confirmed, failed, silent or skipped */                             \
    X(ABORTED, "aborted", true) /* by an operator, superseded, or nobody could be told; `why` says. Nobody is told any \
                                   more; who was told, or is at it, is followed to its end */

/*    name                  word, takes a slot, final */
#define ROLLOUT_DEVICE_LIST(X)                                                                                         \
    X(QUEUED, "queued", false, false)                                                                                  \
    X(TRIGGERED, "triggered", true, false) /* told, or answered; has not pulled yet */                                 \
    X(DOWNLOADING, "downloading", true, false)                                                                         \
    X(FLASHED, "flashed", true, false)     /* has all bytes: it flashes and restarts */                                \
    X(CONFIRMED, "confirmed", false, true) /* came back with it */                                                     \
    X(FAILED, "failed", false, true)                                                                                   \
    X(SILENT, "silent", false, false)  /* nothing was heard by the deadline; counts when it comes after all */         \
    X(SKIPPED, "skipped", false, true) /* not for it; `why` says: runs it already, wrong-chip, pinned … */

/* enums rollout_state, rollout_device_state; words */
enum rollout_state {
#define X(name, word, over) ROLLOUT_##name,
    ROLLOUT_STATE_LIST(X)
#undef X
        ROLLOUT_STATES
};
enum rollout_device_state {
#define X(name, word, slot, final) ROLLOUT_DEVICE_##name,
    ROLLOUT_DEVICE_LIST(X)
#undef X
        ROLLOUT_DEVICE_STATES
};
const char *rollout_state_word(enum rollout_state state);
const char *rollout_device_word(enum rollout_device_state state);
bool rollout_device_from_word(struct slice word, enum rollout_device_state *state);

/* What follows from a reason; its text is for people alone.
 *    name, word (in the store) */
#define ROLLOUT_CAUSE_LIST(X)                                                                                          \
    X(ANY, "")                                                                                                         \
    X(SUPERSEDED, "superseded") /* ABORTED: a newer one took its place wholly */                                       \
    X(IMAGE_LOST, "image-lost") /* HALTED: the repository has none of its images any more */
#define ROLLOUT_MARK_LIST(X)                                                                                           \
    X(NONE, "")                                                                                                        \
    X(UNTOLD, "untold")         /* FAILED: no command reached it; nothing speaks against it, nor against the image */  \
    X(SUPERSEDED, "superseded") /* SKIPPED: it went to a newer rollout */                                              \
    X(BLIND, "blind")           /* SILENT: took all of it, and nobody can tell what it has */

/* enums rollout_cause, rollout_mark; words */
enum rollout_cause {
#define X(name, word) ROLLOUT_CAUSE_##name,
    ROLLOUT_CAUSE_LIST(X)
#undef X
        ROLLOUT_CAUSES
};
enum rollout_mark {
#define X(name, word) ROLLOUT_MARK_##name,
    ROLLOUT_MARK_LIST(X)
#undef X
        ROLLOUT_MARKS
};
const char *rollout_cause_word(enum rollout_cause cause);
const char *rollout_mark_word(enum rollout_mark mark);

/* What is rolled out. */
struct rollout_target {
    char file[192]; /* where the image lies, for people */
    char type[65];
    char version[VERSION_TEXT_MAX + 1];
    bool fs;
    uint64_t bytes;                     /* of the image file */
    size_t image_count;                 /* of its forms: as it is, compressed, the native SDK's two slots, a shared
                                           file system's for each flash size */
    uint8_t md5[ROLLOUT_FORMS_MAX][16]; /* of the files */
    uint8_t run_md5[ROLLOUT_RUN_MD5_MAX][16]; /* every digest with which a device may report that it runs the build
                                                 (sketches); the first names the build (never_again), and the slots
                                                 have one between them */
    size_t run_md5_count;
    char passed_over[VERSION_TEXT_MAX + 1]; /* the newest version when it was ordered, where the target is older: what
                                               is not newer than this is not offered again by itself; "" else */
};

struct rollout_order {
    struct rollout_target target;
    bool named; /* exactly `devices`; others are not concerned */
    size_t device_count;
    struct mac *devices;     /* copied by rollouts_begin, where named */
    char group[65];          /* only its members; "" = all */
    unsigned percent;        /* 1..100 of those, by a stable hash of MAC and rollout */
    unsigned canary;         /* so many first; 0 = none */
    unsigned in_flight;      /* 0 = adaptive */
    unsigned max_failures;   /* percent of those finished; above: halted */
    unsigned site_in_flight; /* of one site at once; 0 = no cap */
    uint32_t window_s;       /* devices wait a random time up to it */
    uint64_t timeout_ms;     /* a device that was told must ask within it (and the window); then it is silent */
    uint64_t reboot_ms;      /* a device that has it all must come back within it; then it is silent */
    uint64_t broker_ms;      /* the broker must take a first command within it, else ABORTED */
};

#define ROLLOUT_NOTE_SIZE 320 /* of a text for a time-line */

/* One device of a rollout, as others see it. */
struct rollout_member {
    struct mac mac;
    enum rollout_device_state state;
    bool canary;
    uint8_t attempts; /* commands, or downloads unasked */
    uint32_t armed;   /* QUEUED: position among those that are told next; 0 = not. Else: which of the rollout's commands
                         its last one was, so that a restart counts it; 0 = it had none of its own */
    uint32_t unix_s;  /* of the last change */
    const char *why;  /* of FAILED, SILENT, SKIPPED; "" else; borrowed */
    enum rollout_mark mark;
};

/* How many are SKIPPED, by what their `why` says up to a colon. */
#define ROLLOUT_REASONS_MAX  12
#define ROLLOUT_REASON_SIZE  40
#define ROLLOUT_REASON_OTHER "other reasons" /* those that came when the rest was taken */
struct rollout_reasons {
    struct rollout_reason {
        char word[ROLLOUT_REASON_SIZE]; /* "" = none, and none behind it */
        size_t count;
    } all[ROLLOUT_REASONS_MAX];
};

struct rollout {
    char id[ANNOUNCE_ID_SIZE];
    struct rollout_order order;
    enum rollout_state state;
    enum rollout_state before;            /* PAUSED, HALTED: where resume goes */
    char why[200];                        /* for people */
    enum rollout_cause cause;             /* of it */
    char supersedes[ANNOUNCE_ID_SIZE];    /* the last that gave way to it; "" = none */
    char superseded_by[ANNOUNCE_ID_SIZE]; /* the newer one that last took its place, or devices of it; "" = none */
    bool strangers;                       /* devices that nobody knew may come */
    uint32_t created_s, ended_s;          /* calendar; 0 = not yet */
    uint64_t since_ms;                    /* of the state; loop time */
    uint32_t since_s;                     /* the same, calendar: over restarts */
    uint64_t news_ms;                     /* the last fact */
    bool distrusted;                      /* aborted by an operator, or after a halt: its image is kept back until it is
                                             ordered again */
    bool word_only;      /* over, and left the list of ROLLOUTS_MAX: its members are forgotten, its word
                            stands */
    bool gathered;       /* all known devices have joined */
    bool told_type;      /* by one command to the type's topic */
    unsigned broadcasts; /* commands to the type's topic */
    struct window window;
    size_t in_flight;                      /* slots taken */
    size_t devices[ROLLOUT_DEVICE_STATES]; /* counts by state */
    struct rollout_reasons skipped_for;
    size_t members, canaries, canaries_confirmed;
    size_t failures;            /* the image's or the network's, not the broker's */
    size_t forgiven;            /* of them, when an operator last said resume */
    size_t lost, lost_forgiven; /* had it all, had come back from earlier updates, and did not this time */
    size_t anonymous;           /* transfers to clients that name no device */
    size_t commands, acknowledged, commands_failed; /* messages to the broker */
    uint64_t bytes;                                 /* of transfers that ended, acknowledged by devices */
    uint64_t transfer_ms, reboot_ms;                /* sums over confirmed devices, for the time left */
    struct rollout_table *table;                    /* the rooms' own */
};

/* What it has done by others. All are called from within the calls below; none may call back into rollouts. */
struct rollout_effects {
    /* Tell one device (or, NULL, the type): `attempt` counts from 1; the command's id follows from all three
     * (rollout_command_id). How it went: rollouts_told. */
    void (*trigger)(void *owner, struct rollout *rollout, const struct mac *device, unsigned attempt);
    /* Commands of it that still wait and are no longer wanted are taken back: all of them where it stands still or is
     * over, else those to devices that are not TRIGGERED any more. */
    void (*withdraw)(void *owner, struct rollout *rollout);
    /* The rollout, or one member of it, is to be written down. Returns a ticket (see rollouts_written); 0 = there is
     * nothing to wait for. */
    uint64_t (*changed)(void *owner, const struct rollout *rollout);
    uint64_t (*member_changed)(void *owner, const struct rollout *rollout, const struct rollout_member *member);
    void (*forgotten)(void *owner, const struct rollout *rollout); /* it leaves the memory */
    /* For the device's time-line. May be NULL. */
    void (*noted)(void *owner, const struct mac *device, const char *word, const char *text, const struct moment *now);
    /* Asked: whether the device belongs to the group. */
    bool (*in_group)(void *owner, const struct mac *mac, const char *group);
    void *owner;
};

struct rollouts;
struct rollouts *rollouts_new(const struct rollout_effects *effects);
void rollouts_free(struct rollouts *rollouts);

/* The id of a command: 16 hexadecimal digits that follow from the rollout, the device (NULL = the type) and the
 * attempt, so that one repeated after a crash is the same. */
void rollout_command_id(const struct rollout *rollout, const struct mac *device, unsigned attempt,
                        char id[ANNOUNCE_ID_SIZE]);

/* Whether the order means this device, a member or not: named, of the group, within the percentage. */
bool rollout_selects(const struct rollouts *rollouts, const struct rollout *rollout, const struct mac *mac);
bool rollout_means_all(const struct rollout_order *order); /* not some by name, group or percent */

/* --- from the operator ----------------------------------------------------------------------------------------------
 */

/* A new one, PLANNED. `id` is random hexadecimal digits from the caller. Those under way for the same type and mode
 * give way: wholly (ABORTED, "superseded by ID") where the new one means the whole type, else in the devices that both
 * mean (SKIPPED there, "superseded by ID"; `why` says it of the older one, `supersedes` of the new one): these are told
 * no more from now on. What has lost all its devices so is ABORTED. NULL where ROLLOUTS_MAX others are under way, or
 * there is no room for its word. Of those that are over, the oldest are forgotten; but the last word on a type, and
 * what keeps an image back, stay as `word_only`. */
struct rollout *rollouts_begin(struct rollouts *rollouts, const char *id, const struct rollout_order *order,
                               const struct moment *now);

/* Whether there is room for one more word: fewer than ROLLOUT_WORDS_MAX stand, or this order replaces one. */
bool rollouts_have_word_for(const struct rollouts *rollouts, const struct rollout_order *order);

/* A known device joins, QUEUED; `site` tells whose uplink it shares. Or it is SKIPPED at once, with why. One that is a
 * member already changes nothing. */
struct rollout_joiner {
    struct mac mac;
    uint64_t site;
    bool came_back;       /* it was confirmed after an earlier update: one that can be missed */
    bool stale;           /* not heard of lately: its turn is after those who were */
    bool away;            /* it said that it is gone: SILENT until it comes */
    const char *skip_why; /* NULL = it is to get the image */
};
void rollout_join(struct rollout *rollout, const struct rollout_joiner *joiner, const struct moment *now);
/* Whether one command to the type's topic, where there is one, tells those who are to get it: all of the type are
 * meant, no canary is asked, and everyone fits the window and the site, and is there; or nobody is known. Who is
 * skipped hears it too, and is refused when it asks. */
struct rollout_crowd {
    size_t members, skipped, waiting; /* neither skipped nor waiting: away, or at it already */
    size_t window;                    /* window_size */
    size_t site_most;                 /* of those waiting, the most that share a site */
};
bool rollout_suits_type(const struct rollout_order *order, const struct rollout_crowd *crowd);
/* All known have joined: canaries are chosen, and the first commands leave. `type_topic`, `device_topic`: what this
 * firmware can be told by. Where nobody is known, and nobody was told, it stands for ROLLOUT_STAND_MS, so that those
 * who come by themselves are held to the order; the first are its canaries. */
void rollout_start(struct rollout *rollout, bool type_topic, bool device_topic, const struct moment *now);

/* STATUS_OK, or STATUS_INVALID where its state does not allow it: *why then says so in a sentence. */
enum status rollout_pause(struct rollout *rollout, const struct moment *now, const char **why);
enum status rollout_resume(struct rollout *rollout, const struct moment *now, const char **why);
enum status rollout_abort(struct rollout *rollout, const char *because, const struct moment *now, const char **why);
/* ABORTED, and nobody has said a word against its image: it is as good as before. */
void rollout_call_off(struct rollout *rollout, const char *because, const struct moment *now);
/* Whether the repository still has any of its images, as each look at it finds. Where it has none, the rollout is
 * HALTED (one whose devices are being gathered: at its start) and cannot be resumed. One that waits for the repository
 * itself, after a restart, is not halted by this. */
void rollout_image_found(struct rollout *rollout, bool found, const struct moment *now);
/* The repository is being looked at anew, and whether it has its image is found then: until rollout_image_found it is
 * not halted for want of it, tells nobody more, and skips nobody who is refused. */
void rollout_image_awaited(struct rollout *rollout);
/* Its build came to lie there in one more form, which is given out like the others. Returns whether there is room. */
bool rollout_add_form(struct rollout *rollout, const uint8_t file_md5[16]);
/* Whether the file is one of its target's. */
bool rollout_has_file(const struct rollout *rollout, const uint8_t file_md5[16]);
/* Its file lies there, and is refused for this reason ("" = it is not): said where it halts for want of it. */
void rollout_image_refused(struct rollout *rollout, const char *reason);
/* HALTED, whichever state it is in: something else lies in its image's place. */
void rollout_image_lost(struct rollout *rollout, const struct moment *now);

/* --- asked before a device is answered; changes nothing ------------------------------------------------------------
 */

/* Which rollout's word goes for this device: one under way that means it, else the last of its type and mode that was
 * DONE and meant it: `published`, its target is what is offered; else only where it went back, and until a version
 * above `passed_over` comes. NULL = none. */
const struct rollout *rollouts_for(const struct rollouts *rollouts, const struct mac *mac, struct slice type, bool fs,
                                   bool published);

struct rollout_permission {
    bool granted;
    enum reason reason; /* else: HELD_BACK, PAUSED */
    char detail[160];   /* "12 of 20 canaries confirmed", "100 are under way, 340 wait" */
};
/* Whether it may have the target's image now: it holds a slot or could take one. */
void rollout_permit(const struct rollout *rollout, const struct mac *mac, uint64_t site,
                    struct rollout_permission *permission);

/* Whether nobody may have the file with this MD5 but who is let by a rollout: the one that was HALTED, or ABORTED by an
 * operator, or is being rolled out to some of the type only (under way; named devices do not keep it from others).
 * NULL = anyone may. */
const struct rollout *rollouts_holding(const struct rollouts *rollouts, struct slice type, bool fs,
                                       const uint8_t file_md5[16]);

/* --- facts ----------------------------------------------------------------------------------------------------------
 */

/* A check-in of a device that a rollout under way means (others are nobody's business here). */
struct rollout_fact {
    struct mac mac;
    struct slice type;
    bool fs;
    uint64_t site;
    bool runs_target;     /* by digest (a file system: by version): CONFIRMED, or SKIPPED where it never was told */
    const char *failed;   /* why its last transfer of the target failed for good; NULL = it did not. Counts where it was
                             answered with the image in this rollout */
    bool is_blind;        /* it says neither digest nor version: what it has cannot be told, now or ever */
    bool served;          /* it is answered with the image */
    const char *withheld; /* why it is not answered with the image for a reason that will not pass (wrong-chip, pinned,
                             never-again): SKIPPED; NULL = it is answered with it, or waits its turn */
};
void rollouts_checked_in(struct rollouts *rollouts, const struct rollout_fact *fact, const struct moment *now);

/* The rollout that was aborted and still follows this device, which had been told, or was at it; NULL = none. What its
 * coming means there is told apart: `served` is never true of it. */
const struct rollout *rollouts_following(const struct rollouts *rollouts, const struct mac *mac, struct slice type,
                                         bool fs);
void rollouts_came_after(struct rollouts *rollouts, const struct rollout_fact *fact, const struct moment *now);

/* A transfer of the file with this MD5 begins, and ends; mac NULL = a client that names no device. Neither whole nor
 * `why_cut`: a part of the file was sent, as ordered. */
void rollouts_transfer_begins(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16],
                              const struct moment *now);
void rollouts_transfer_ended(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16], bool whole,
                             uint64_t bytes, uint64_t ms, const char *why_cut, const struct moment *now);

/* Whose business the transfer of this file to the device is that is under way; NULL = none's. */
const struct rollout *rollouts_sending(const struct rollouts *rollouts, const struct mac *mac,
                                       const uint8_t file_md5[16]);

/* How a command went (device NULL = to the type): STATUS_OK, the broker has it; STATUS_BUSY, there was no room for it
 * to wait in, which is no device's fault: it is told later; anything else, with why: refused. */
void rollouts_told(struct rollout *rollout, const struct mac *device, enum status status, const char *why,
                   const struct moment *now);

/* More that is to be said of it, behind its `why`. */
void rollout_say_also(struct rollout *rollout, const char *words);

/* It said over MQTT that it failed. Before it had all of it, that is a transfer that broke off, perhaps told before
 * this end saw it: it counts once. */
void rollouts_reported_failure(struct rollouts *rollouts, const struct mac *mac, const char *why,
                               const struct moment *now);
/* It is there again, and does not ask by itself: one that was silent is told in its turn. */
void rollouts_came_online(struct rollouts *rollouts, const struct mac *mac, const struct moment *now);

/* What was changed up to this ticket is written down: who was armed with it may be told. */
void rollouts_written(struct rollouts *rollouts, uint64_t ticket, const struct moment *now);

/* Armed ones are written down again, and wait for that: the first time was refused. */
void rollout_write_armed(struct rollout *rollout);

/* To be called once a second: deadlines. */
void rollouts_tick(struct rollouts *rollouts, const struct moment *now);

/* --- after a restart ------------------------------------------------------------------------------------------------
 */

/* As it was written down, numbers brought within their bounds; deadlines begin anew. Then the members that were, then
 * rollout_join of all known, then rollout_start, which goes on where it stood. */
struct rollout *rollouts_restore(struct rollouts *rollouts, const struct rollout *as_written, const struct moment *now);
void rollout_restore_member(struct rollout *rollout, const struct rollout_member *member, uint64_t site,
                            const struct moment *now);

/* It cannot go on yet: said of it, unless something else is to be said of one that stands still. Returns whether that
 * is news. Ends with rollout_waits_no_more. */
bool rollout_waits(struct rollout *rollout, const char *why);
void rollout_waits_no_more(struct rollout *rollout);

/* --- looked at ------------------------------------------------------------------------------------------------------
 */

struct rollout *rollouts_find(const struct rollouts *rollouts, struct slice id);
struct rollout *rollouts_at(const struct rollouts *rollouts, size_t i); /* by age: 0 is the newest; no `word_only` */
size_t rollouts_count(const struct rollouts *rollouts);
/* All, the newest first, then the `word_only` ones; after NULL = the first. */
const struct rollout *rollouts_next(const struct rollouts *rollouts, const struct rollout *after);
/* All of one type and mode, the newest first. */
const struct rollout *rollouts_of_type(const struct rollouts *rollouts, struct slice type, bool fs);
const struct rollout *rollout_older_of_type(const struct rollout *rollout);
bool rollout_is_over(const struct rollout *rollout);
bool rollout_is_superseded(const struct rollout *rollout); /* wholly */
/* Nobody was known at the start and nobody can be told: it stands for those who come by themselves. */
bool rollout_awaits_strangers(const struct rollout *rollout);

/* Members one by one, of one state (ROLLOUT_DEVICE_STATES = of any), from the i-th on in the order they joined. */
size_t rollout_members(const struct rollout *rollout, enum rollout_device_state state, size_t first,
                       struct rollout_member *members, size_t max);
bool rollout_member(const struct rollout *rollout, const struct mac *mac, struct rollout_member *member);
/* Of one that halted while its canaries were tried: those that resume leaves, confirmed ones among them. */
size_t rollout_canaries_left(const struct rollout *rollout);
/* Seconds that the rest takes at the measured rate; -1 = nothing is measured yet. */
int64_t rollout_seconds_left(const struct rollout *rollout);

/* For tests: asserts that counts, slots, lists and states agree. Walks all. */
void rollout_check(const struct rollout *rollout);

#endif
