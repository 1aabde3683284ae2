/* Persistence, as a table of functions: what one implementation (store_sqlite) does, and another could. All calls come
 * from one thread, the writer's (store_queue); none from the loop.
 *
 * Rows are plain and flat: a change carries all of what it says, so a batch can be written again, and the later of two
 * rows with the same key wins.
 */
#ifndef FLEET_STORE_H
#define FLEET_STORE_H

#include "base/status.h"
#include "fleet/device.h"
#include "fleet/never_again.h"
#include "fleet/rollout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_WHY_SIZE    768
#define STORE_TEXT_MAX    64
#define STORE_EVENT_MAX   200
#define STORE_GROUPS_MAX  8
#define STORE_GROUPS_TEXT (STORE_GROUPS_MAX * (STORE_TEXT_MAX + 1) + 1)

/* --- rows -----------------------------------------------------------------------------------------------------------
 */

struct store_transfer { /* struct device_transfer; unix_s 0 = there was none */
    uint8_t md5[16], before[8];
    uint32_t bytes, of, ms, unix_s;
    char version[STORE_TEXT_MAX + 1];
    uint8_t outcome, failures;
    uint16_t served;
};

struct store_device { /* key: mac; `gone`: the row is deleted, and its time-line */
    struct mac mac;
    bool gone;
    uint16_t chip;
    uint8_t client, flash_mode, reason;
    bool has_md5, reason_fs, came_back, via_proxy;
    uint8_t md5[16], address[16];
    uint32_t first_seen_s, seen_s, flash_bytes, free_bytes, sketch_bytes;
    char type[STORE_TEXT_MAX + 1], version[STORE_TEXT_MAX + 1], fs_version[STORE_TEXT_MAX + 1], sdk[STORE_TEXT_MAX + 1];
    struct store_transfer transfer, fs_transfer;
    struct never_again_entry never_again; /* count 0 = none */
};

/* Of devices that are neighbours in memory: later than their rows say, or not. */
#define STORE_SEEN_MAX 400 /* ten bytes each: a page */
struct store_seen_device {
    struct mac mac;
    uint32_t unix_s;
};
struct store_seen { /* key: block, of this process: those of earlier ones stay beside them */
    uint32_t block;
    uint16_t count;
    bool renewed; /* no block, but: all of this process are written, those of earlier ones are deleted */
    struct store_seen_device devices[STORE_SEEN_MAX];
};

struct store_policy { /* key: mac; `gone`: the row is deleted */
    struct mac mac;
    bool gone, blocked, approved;
    char type[STORE_TEXT_MAX + 1], label[STORE_TEXT_MAX + 1], pin[STORE_TEXT_MAX + 1];
    char groups[STORE_GROUPS_MAX][STORE_TEXT_MAX + 1];
    uint8_t group_count;
    char note[STORE_TEXT_MAX + 1];
    uint32_t unix_s;
};

struct store_rollout { /* key: id; `gone`: forgotten, with its members, which stay as long as it does. order.devices is
                          owned by the change */
    bool gone;
    struct rollout rollout; /* of it: id, order, state, before, why, cause, supersedes, superseded_by, strangers,
                               word_only, created_s, ended_s, since_s, gathered, told_type, broadcasts, window,
                               failures, lost, anonymous, commands…, bytes, transfer_ms, reboot_ms, devices[] */
};

struct store_member { /* key: rollout, mac */
    char rollout[ANNOUNCE_ID_SIZE];
    struct mac mac;
    uint8_t state, attempts, mark;
    bool canary;
    uint32_t armed, unix_s;
    char why[120];
};

/* A device's time-line: appended, the oldest of a device forgotten beyond STORE_EVENTS_OF_DEVICE. */
#define STORE_EVENTS_OF_DEVICE 50
struct store_event {
    struct mac mac;
    uint32_t unix_s;
    char word[24];              /* "told", "asked", "sent", "cut", "confirmed", "rolled-back", "pinned" … */
    char text[STORE_EVENT_MAX]; /* both sides of it, for people */
};

enum store_kind { STORE_DEVICE, STORE_POLICY, STORE_ROLLOUT, STORE_MEMBER, STORE_EVENT, STORE_SEEN, STORE_KINDS };

struct store_change {
    enum store_kind kind;
    union {
        struct store_device device;
        struct store_policy policy;
        struct store_rollout rollout;
        struct store_member member;
        struct store_event event;
        struct store_seen seen;
    } row;
};

/* --- the table ------------------------------------------------------------------------------------------------------
 */

/* Called for each row at the start, policies first, then devices, when these were seen,
 * rollouts, members: those that are still needed, and
 * of rollouts that are over and done with those that say why. Rows are borrowed until it returns; false ends the
 * reading. */
typedef bool (*store_row_fn)(void *owner, const struct store_change *row);

struct store_ops {
    const char *name;

    /* Opens or makes it in the state folder; older schemas are brought up. On failure `message` names the file, the
     * reason and the remedy: STATUS_CORRUPT (never overwritten), STATUS_TOO_NEW, STATUS_DENIED, STATUS_LIMIT (disk
     * full) … */
    enum status (*open)(const char *state_dir, void **store, char *message, size_t size);
    /* Where open could not, for a disk that is full or read-only, which passes: *store has what could be read, for
     * load, and its first `write` that succeeds has opened it. Not so where what is there cannot be read, or is
     * refused. May be NULL. */
    enum status (*open_failing)(const char *state_dir, enum status because, void **store, char *message, size_t size);
    /* Whether open and load would refuse what is there. Changes nothing, also beside a server that runs. */
    enum status (*check)(const char *state_dir, char *message, size_t size);
    enum status (*load)(void *store, store_row_fn on_row, void *owner, char *message, size_t size);

    /* All of it or nothing, in one transaction. `durable`: on the disk when it returns (else: safe against the death of
     * the process, not of the machine). Of no changes: whether it could write. On failure the batch can be given again,
     * when the cause has gone. STATUS_OK with a message: written, but the store is not in order, which must be mended
     * before it grows. */
    enum status (*write)(void *store, const struct store_change *const *changes, size_t count, bool durable,
                         char *message, size_t size);
    /* A piece of what a write has left to do; called while there is nothing to write. false = nothing is left, or it
     * cannot be done now. May be NULL. */
    bool (*tidy)(void *store);

    /* The time-line of one device, newest first: up to max. */
    enum status (*events)(void *store, const struct mac *mac, struct store_event *events, size_t max, size_t *count,
                          char *message, size_t size);
    /* Members of a rollout that is over, by MAC: of one state (ROLLOUT_DEVICE_STATES = of any), from the first-th on,
     * up to max. Who still waited at the end is SKIPPED. */
    enum status (*members)(void *store, const char *rollout, enum rollout_device_state state, size_t first,
                           struct store_member *members, size_t max, size_t *count, char *message, size_t size);
    void (*close)(void *store);
};

extern const struct store_ops store_sqlite;

#endif
