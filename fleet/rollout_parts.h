/* What the rooms of a rollout share: rollout (its life), rollout_facts (what is heard), rollout_devices (its devices).
 * Nobody else's. */
#ifndef FLEET_ROLLOUT_PARTS_H
#define FLEET_ROLLOUT_PARTS_H

#include "fleet/mac_hash.h"
#include "fleet/rollout.h"

#define ROLLOUT_BLOCK_DEVICES 256

struct rollout_device {
    struct mac mac;
    uint8_t state;
    bool expected : 1;
    bool awaited : 1;   /* expected, and not CURRENT when it became so: it counts in rollout.expected */
    bool taken : 1;     /* by a newer order: nothing of it concerns this rollout any more */
    bool may_retry : 1; /* FAILED by a cut */
    uint8_t news;       /* how often a change of it was news */
    uint16_t transfers; /* under way, of all that use this MAC */
    char *why;          /* of FAILED and SUPERSEDED; NULL else */
};

enum rollout_kept { ROLLOUT_KEPT_FAILED, ROLLOUT_KEPT_SILENT, ROLLOUT_KEPT_SUPERSEDED, ROLLOUT_KEPT_KINDS };

/* A rollout with what only these rooms know. Devices never leave while it is under way, so the i-th that joined lies at
 * a fixed place. */
struct followed {
    struct rollout rollout; /* the first member: a rollout is followed */
    struct version version; /* the target's; .text "" where it reads as none */
    struct mac_hash_seed seed;
    size_t count;             /* of devices */
    size_t expected_open;     /* devices expected, whose end is not known */
    size_t expected_retrying; /* devices expected that may_retry */
    uint64_t cut_ms;          /* the last cut after which a device may try again */
    char command_why[160];    /* of the last command that failed */
    char taken_by[ANNOUNCE_ID_SIZE];
    uint32_t *index;   /* by MAC: 1 + the device's place; 0 = free */
    size_t index_size; /* a power of two, or 0 */
    struct rollout_device *blocks[ROLLOUT_DEVICES_MAX / ROLLOUT_BLOCK_DEVICES + 1];

    /* once it is over */
    enum rollout_device_state open_became;
    size_t tidied; /* devices let go, or kept: */
    struct rollout_device *kept[ROLLOUT_KEPT_KINDS];
    size_t kept_count[ROLLOUT_KEPT_KINDS];
};

struct rollouts {
    rollout_changed_fn on_changed;
    void *owner;
    size_t count;
    struct followed *items[ROLLOUTS_MAX]; /* the oldest first */
};

static inline struct followed *followed_of(struct rollout *rollout)
{
    return (struct followed *)rollout;
}

/* Whether the end of a device in this state is not known yet. */
bool rollout_device_is_open(enum rollout_device_state state);

struct rollout_device *followed_find(const struct followed *followed, const struct mac *mac);

/* NULL where ROLLOUT_DEVICES_MAX are followed. */
struct rollout_device *followed_add(struct followed *followed, const struct mac *mac, enum rollout_device_state state);

/* Makes the index large enough for so many: growing it later costs a walk over all. */
void followed_make_room(struct followed *followed, size_t devices);

/* The device is expected from now on. */
void followed_expect(struct followed *followed, struct rollout_device *device);

/* A change of state is news; of a device only a bounded number of times. `why` is copied. */
void followed_news(struct followed *followed, struct rollout_device *device, uint64_t now_ms);
void followed_move(struct followed *followed, struct rollout_device *device, enum rollout_device_state state,
                   const char *why, uint64_t now_ms);
void followed_fail(struct followed *followed, struct rollout_device *device, const char *why, bool may_retry,
                   uint64_t now_ms);

/* A newer order takes it. */
void followed_take(struct followed *followed, struct rollout_device *device, const char *why);

/* The end: devices without one become `became`, and what is large is let go later, by followed_tidy. */
void followed_close(struct followed *followed, enum rollout_device_state became);

/* Returns how many records it went through, `records` at most; 0 = it is tidy. */
size_t followed_tidy(struct followed *followed, size_t records);

void followed_free(struct followed *followed);

#endif
