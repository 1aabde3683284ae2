/* What became of a `publish-update`: which devices pulled the image since, and which came back with it. Facts in,
 * counts out; in memory.
 *
 * The proof of success is a check-in with the new digest (a file system's: with its version), nothing else; a transfer
 * that was cut, or a device that comes back with the old digest after a whole one, failed. What makes it hard: nobody
 * says how many devices will come. So a rollout knows the devices it expects (those named, or those of the type seen
 * before) and takes others as they come. Time is a parameter; the loop's.
 *
 * A newer order takes over where the two overlap, of the same type and mode. One to the whole type ends those under
 * way; one to named devices takes exactly these out of them, and the older goes on with the rest.
 *
 * A cut transfer is no end: the device may try again. So it keeps its rollout open for a grace time, counted from the
 * last cut: one minute, or three times what lies between two checks of its type's devices where that is known and
 * longer, and never longer than the rollout's timeout. Other failures are final (refused, came back without it, not
 * told, said by the device), though whoever comes again before the end is still counted.
 */
#ifndef FLEET_ROLLOUT_H
#define FLEET_ROLLOUT_H

#include "base/text.h"
#include "fleet/device.h"
#include "proto/announce.h"
#include "proto/device_report.h"
#include "proto/mac.h"
#include "proto/version.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROLLOUTS_MAX        32     /* remembered; the oldest that has ended is forgotten first */
#define ROLLOUT_DEVICES_MAX 200000 /* followed one by one; of more only the counts of bytes are kept (`untracked`) */
#define ROLLOUT_LISTED_MAX  1000   /* of a rollout that has ended: records of devices that are kept */
#define ROLLOUT_NOTES_MAX   16
#define ROLLOUT_GRACE_MS    60000 /* the least, see above */

/*    name              word */
#define ROLLOUT_STATE_LIST(X)                                                                                          \
    X(PUBLISHING, "publishing") /* not all commands are acknowledged by the broker */                                  \
    X(RUNNING, "running")                                                                                              \
    X(DONE, "done")                                                                                                    \
    X(FAILED, "failed") /* no command reached the broker: nothing was triggered; `why` says */

enum rollout_state {
#define X(name, word) ROLLOUT_##name,
    ROLLOUT_STATE_LIST(X)
#undef X
};

/*    name               word: of one device in a rollout */
#define ROLLOUT_DEVICE_LIST(X)                                                                                         \
    X(TRIGGERED, "triggered") /* expected; has not pulled yet */                                                       \
    X(DOWNLOADING, "downloading")                                                                                      \
    X(SENT, "sent")             /* has all bytes; flashing, restarting */                                              \
    X(CONFIRMED, "confirmed")   /* came back with it */                                                                \
    X(CURRENT, "current")       /* ran it already */                                                                   \
    X(FAILED, "failed")         /* cut, refused, or came back without it; may still try again */                       \
    X(SILENT, "silent")         /* the rollout ended without news of it */                                             \
    X(SUPERSEDED, "superseded") /* a newer order took it over before its end was known; `why` names that */

enum rollout_device_state {
#define X(name, word) ROLLOUT_DEVICE_##name,
    ROLLOUT_DEVICE_LIST(X)
#undef X
        ROLLOUT_DEVICE_STATES
};

const char *rollout_state_word(enum rollout_state state);
const char *rollout_device_word(enum rollout_device_state state);

/* What is rolled out. */
struct rollout_target {
    char file[192]; /* where the image lies, for people */
    char type[65];
    char version[VERSION_TEXT_MAX + 1];
    bool fs;
    uint64_t bytes;         /* of the image file */
    size_t image_count;     /* 1, or 2 where it lies compressed too: the same build in two forms */
    uint8_t md5[2][16];     /* of the files */
    uint8_t run_md5[8][16]; /* every digest with which a device may report that it runs the build (sketches) */
    size_t run_md5_count;
};

/* Whether a device that reports this digest of its sketch runs the target. */
bool rollout_target_runs(const struct rollout_target *target, const uint8_t md5[16]);

struct rollout_order {
    struct rollout_target target;
    bool whole_type; /* one command to the type's topic; else to each of the devices */
    uint32_t window_s;
    uint64_t timeout_ms; /* the broker must acknowledge within it; then: it ends after so long without news, the window
                            not counted */
    uint64_t check_ms;   /* what lies between two checks of one of the type's devices; 0 = not known */
    size_t about;        /* so many devices may be expected: room for them is made at once */
};

struct rollout {
    char id[ANNOUNCE_ID_SIZE];
    struct rollout_order order;
    enum rollout_state state;
    char why[160];                             /* of FAILED, or by whom it was superseded; "" else */
    uint64_t created_ms, running_ms, ended_ms; /* loop time; 0 = not yet */
    uint64_t news_ms;                          /* the last fact */
    size_t commands, acknowledged, commands_failed;
    size_t devices[ROLLOUT_DEVICE_STATES]; /* counts by state */
    size_t expected;  /* devices that it knew of at the beginning, CURRENT ones and those taken over not among them */
    size_t may_retry; /* of FAILED: cut, and not back yet */
    size_t untracked;
    uint64_t bytes; /* of transfers that ended, acknowledged by devices */
    size_t note_count;
    char *notes[ROLLOUT_NOTES_MAX]; /* sentences for the operator, see rollout_note */
};

struct rollouts;
typedef void (*rollout_changed_fn)(
    void *owner, struct rollout *rollout); /* its state changed: PUBLISHING -> RUNNING -> DONE, or FAILED */

struct rollouts *rollouts_new(rollout_changed_fn on_changed, void *owner);
void rollouts_free(struct rollouts *rollouts);

/* A new one; `id` is random hexadecimal digits from the caller. NULL where ROLLOUTS_MAX are under way. One to the whole
 * type ends those under way for the same type and mode (DONE, their devices without news SUPERSEDED). */
struct rollout *rollouts_begin(struct rollouts *rollouts, const char *id, const struct rollout_order *order,
                               uint64_t now_ms);

/* `newer`, to named devices, takes this one out of the older ones: SUPERSEDED there, unless its end is known; and
 * nothing of it concerns them any more. One to named devices of which none is left ends DONE. Writes those that lost
 * it; returns how many. */
size_t rollouts_take_over(struct rollouts *rollouts, const struct rollout *newer, const struct mac *mac,
                          uint64_t now_ms, struct rollout *losers[ROLLOUTS_MAX]);

/* A device it expects: CURRENT where `md5` (as last reported, may be NULL) shows that it runs the target. It may have
 * come already: then it is expected from now on. */
void rollout_expect(struct rollout *rollout, const struct mac *mac, const uint8_t *md5);

/* A sentence for the operator, copied; beyond ROLLOUT_NOTES_MAX it is dropped. */
void rollout_note(struct rollout *rollout, const char *sentence);

/* Commands on their way, then how each ended. When all are answered: RUNNING where at least one was acknowledged, else
 * FAILED with `why`. */
void rollout_commands(struct rollouts *rollouts, struct rollout *rollout, size_t count);
void rollout_command_ended(struct rollouts *rollouts, struct rollout *rollout, bool acknowledged, const char *why,
                           uint64_t now_ms);

/* The command to this device ended without reaching the broker: FAILED with `why`, where it has not come by itself. */
void rollout_not_told(struct rollout *rollout, const struct mac *mac, const char *why, uint64_t now_ms);

/* --- facts, of any device; each looks for the rollouts under way that it concerns --------------------------------- */

struct rollout_sighting {
    struct mac mac;
    struct slice type;
    bool fs;                    /* a file system check */
    const uint8_t *md5;         /* of the running sketch as reported; NULL = not said */
    bool up_to_date;            /* the server's decision: it runs what is offered... */
    const uint8_t *offered_md5; /* ...the file with this MD5; NULL = nothing was offered */
    const char *refused;        /* why it was not sent that file, which it does not run; NULL = it was, or runs it */
};
void rollouts_saw(struct rollouts *rollouts, const struct rollout_sighting *sighting, uint64_t now_ms);

/* A transfer of the file with this MD5 begins, and ends; `bytes` acknowledged. Devices of CLIENT_PLAIN have no MAC:
 * NULL, only bytes count. */
void rollouts_transfer_begins(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16],
                              uint64_t now_ms);
void rollouts_transfer_ended(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16], bool whole,
                             uint64_t bytes, uint64_t now_ms);

/* It reported over MQTT. FAILED is believed; RUNNING with the target's version confirms a file system; never needed. */
void rollouts_reported(struct rollouts *rollouts, const struct mac *mac, const struct device_report *report,
                       uint64_t now_ms);

/* To be called once a second: ends what is over. A rollout to named devices ends when each is CONFIRMED, CURRENT,
 * FAILED or SUPERSEDED, and out of its grace; one to a type, when all expected are and nobody else is on the way -
 * where none was expected, when at least one came and nothing was heard for 15 s and the window; either after
 * timeout_ms without news (and the window). */
void rollouts_tick(struct rollouts *rollouts, uint64_t now_ms);

/* Lets go of the devices of large rollouts that have ended, `records` at most. Returns whether there are more: call it
 * again, soon. */
bool rollouts_tidy(struct rollouts *rollouts, size_t records);

/* By id; NULL where there is none. By age: 0 is the newest. */
struct rollout *rollouts_find(const struct rollouts *rollouts, struct slice id);
struct rollout *rollouts_at(const struct rollouts *rollouts, size_t i);
size_t rollouts_count(const struct rollouts *rollouts);
bool rollout_is_over(const struct rollout *rollout);

/* The devices one by one, for a table: up to `max` of them from the i-th on, in the order they joined. Returns how many
 * were written. Of a rollout that has ended only those that FAILED, were SILENT or SUPERSEDED, in this order, and no
 * more than ROLLOUT_LISTED_MAX: rollout_unlisted says how many are left out. */
struct rollout_device_view {
    struct mac mac;
    enum rollout_device_state state;
    bool may_retry;  /* of FAILED */
    const char *why; /* of FAILED and SUPERSEDED; "" else; borrowed */
};
size_t rollout_devices(struct rollout *rollout, size_t first, struct rollout_device_view *views, size_t max);
size_t rollout_unlisted(struct rollout *rollout);

/* For tests: asserts that the counts are those of the devices one by one. Walks them all. */
void rollout_check(const struct rollout *rollout);

#endif
