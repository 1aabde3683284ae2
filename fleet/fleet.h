/* The fleet's memory and judgement, as the server meets it: what is a device to be offered, may it have it now, and
 * what do its coming and its transfers mean. Puts together the rooms beside it: device, policy, never_again,
 * loop_guard, outcome, rollout; and writes down behind (fleet/journal).
 *
 * Asking changes nothing (`updraft explain` asks too); telling does. Time is a parameter.
 */
#ifndef FLEET_FLEET_H
#define FLEET_FLEET_H

#include "fleet/assignment.h"
#include "fleet/device.h"
#include "fleet/image_failures.h"
#include "fleet/journal.h"
#include "fleet/loop_guard.h"
#include "fleet/never_again.h"
#include "fleet/offering.h"
#include "fleet/outcome.h"
#include "fleet/policy.h"
#include "fleet/rollout.h"
#include "proto/device_report.h"
#include "proto/mac_list.h"

struct fleet_settings {
    const struct assignments *assignments; /* of the configuration; replaced at a reload */
    const struct offerings *offerings;
    bool hold_unknown;   /* unknown-devices = hold or refuse */
    bool refuse_unknown; /* ... = refuse */
    struct mac_list block_macs, allow_macs;
    unsigned loop_guard_max;
};

struct fleet {
    struct words *words;
    struct devices *devices;
    struct policies *policies;
    struct never_again *never_again;
    struct loop_guard *guard;
    struct rollouts *rollouts;
    struct image_failures *failures; /* outside rollouts; NULL = nobody counts */
    struct journal *journal;         /* NULL = nothing is written down */
    struct fleet_settings settings;
};

/* --- from start to end ----------------------------------------------------------------------------------------------
 */

/* Makes empty rooms that know so many devices. The settings stay as they are; who counts failures, and where all is
 * written down, is the caller's to add: NULL here. */
void fleet_init(struct fleet *fleet, size_t devices_max, const struct rollout_effects *effects);

/* For reading back what was written down, by the settings. *now is borrowed for as long. */
struct recall fleet_recall(const struct fleet *fleet, const struct moment *now);

/* Frees every room, those that the caller added too. */
void fleet_close(struct fleet *fleet);

/* --- asked ----------------------------------------------------------------------------------------------------------
 */

/* What the device is to be offered: the type and the version or label that the catalog is asked for. */
struct direction {
    struct slice type;
    const char *wanted; /* NULL = the newest */
    enum reason
        source; /* of `wanted`: PINNED, ASSIGNED, PUBLISHED(a rollout's or the type's word); NEWER = the newest */
    enum reason nothing; /* where nothing is to be offered: UNASSIGNED, UNPUBLISHED; REASON_COUNT = there is */
    bool by_operator;
    bool by_address;               /* `wanted` is the asker's own word: it asked for this version */
    const struct rollout *rollout; /* whose word it is; NULL = none */
    const char *unless_above;      /* `wanted` only where no version above this one is there; NULL = in any case */
    struct policy policy;
};
/* `asked_type` "" = it asked for none; `asked_version` NULL = none. A device without MAC: NULL. */
void fleet_direct(const struct fleet *fleet, const struct mac *mac, struct slice asked_type, bool fs,
                  const char *asked_version, struct direction *direction);

/* The configuration's lists: on block_macs, or not on allow_macs where that has any. Who names no MAC (NULL) is on
 * neither. *key (may be NULL): which of them. */
bool fleet_bars(const struct fleet_settings *settings, const struct mac *mac, const char **key);
/* Unknown devices are refused, and nobody approved this one; NULL = it names no MAC. */
bool fleet_refuses_unknown(const struct fleet *fleet, const struct mac *mac);

/* May it have this build now? `file_md5`s: of its forms; run_md5 names the build. */
struct permission {
    enum reason reason; /* REASON_COUNT = it may; else BLOCKED, UNAPPROVED, UNKNOWN_DEVICE, HELD_BACK, PAUSED,
                           LOOP_GUARD, NEVER_AGAIN */
    char detail[160];
};
struct candidate {
    struct slice type;
    bool fs;
    size_t form_count;
    const uint8_t *file_md5[2];
    const uint8_t *run_md5;
    const uint8_t *sketch_md5; /* fleet_digest of what the device reports now, or the outcome_version_key */
    unsigned served_max;
    bool is_blind;       /* what it says can never tell that it has it */
    bool by_name;        /* it asked for this image, whatever `direction` offers it */
    bool ignores_record; /* and gets it, whatever it proved with it; what is kept from all is kept from it, too */
};
void fleet_permit(const struct fleet *fleet, const struct mac *mac, uint64_t site, const struct direction *direction,
                  const struct candidate *candidate, const struct moment *now, struct permission *permission);

/* Where a rollout under way means the device, whether the file is one that was ordered; others of that version are not
 * given out within it. True where no rollout is. */
bool fleet_orders_form(const struct direction *direction, const uint8_t file_md5[16]);

/* Its record's part alone, as it stands while the device is not asking: false = LOOP_GUARD or NEVER_AGAIN. */
bool fleet_record_permits(const struct fleet *fleet, const struct mac *mac, const struct candidate *candidate,
                          const struct moment *now, struct permission *permission);

/* --- told -----------------------------------------------------------------------------------------------------------
 */

/* An update check, decided. */
struct checkin {
    const struct device_request *request; /* has_mac */
    struct slice type;
    enum reason reason;
    const char *detail;         /* of the decision; "" */
    bool serves;                /* it is answered with an image */
    bool is_aside;              /* for the version, the size, or another file by its name: no rollout's business */
    bool of_rollout;            /* which is the target of the rollout that means it */
    const uint8_t *running_md5; /* run_md5[0] of the image it runs; NULL = its digest is not known here */
    bool sent_is_known;         /* the image last sent to it is still in the catalog */
    uint8_t flash_mode;         /* by the digest's variant; FLASH_MODE_UNKNOWN */
    enum chip chip;             /* of the image it runs; CHIP_UNKNOWN */
    uint8_t address[16];        /* of the device: our peer's, or as a trusted proxy told */
    bool via_proxy;
};

/* What names the sketch that it runs, in its record and when it is judged: its MD5. Of a device that says its SHA-256
 * alone (the first ESP32 cores): the MD5 of the build that this is, or, where nobody knows that build, the first half
 * of it. NULL = it says neither. */
const uint8_t *fleet_digest(const struct device_request *request, const uint8_t *running_md5);

/* The record, judged and updated; the rollout that means it hears. *verdict: what the check-in proved, for the log.
 * Returns the record; NULL where there is no room for another device. */
struct device *fleet_checked_in(struct fleet *fleet, const struct checkin *checkin, const struct moment *now,
                                struct outcome_verdict *verdict);

struct sending {
    const struct mac *mac; /* NULL = a client that names no device */
    bool fs;
    bool full;               /* not a range of it */
    const uint8_t *file_md5; /* of the file */
    const uint8_t *run_md5;  /* run_md5[0] of its build */
    const uint8_t *asked_by; /* fleet_digest of who asked: another with its MAC may have come since. NULL = not said */
    const char *version;
    unsigned served_max;
};
struct sending_end {
    bool whole;
    uint64_t bytes, of, ms;
    const char *why; /* it broke off */
};
void fleet_sending_begins(struct fleet *fleet, const struct sending *sending, const struct moment *now);
void fleet_sending_ended(struct fleet *fleet, const struct sending *sending, const struct sending_end *end,
                         const struct moment *now);

/* Over MQTT. */
void fleet_reported(struct fleet *fleet, const struct mac *mac, const struct device_report *report,
                    const struct moment *now);
/* Who is kept out is not remembered for it. */
void fleet_said_online(struct fleet *fleet, const struct mac *mac, struct slice type, bool online,
                       const struct moment *now);

/* An operator's word on one device. *ticket is the journal's; JOURNAL_REFUSED: it goes, and is written down when there
 * is room. STATUS_BUSY: not even that, and nothing was changed; STATUS_LIMIT. */
enum status fleet_set_policy(struct fleet *fleet, const struct policy_entry *entry, const struct moment *now,
                             uint64_t *ticket);
/* Forgets what holds it back: loop guard and never-again. Returns how many images. */
size_t fleet_retry(struct fleet *fleet, const struct mac *mac, const struct moment *now);
/* Forgets the device and all that was said of it; what comes again is new. Rollouts keep their account of it.
 * STATUS_NOT_FOUND: there was nothing; STATUS_BUSY and *ticket as above. */
enum status fleet_forget(struct fleet *fleet, const struct mac *mac, const struct moment *now, uint64_t *ticket);

/* The outcome as of now: OPEN past reboot_ms is SILENT. */
enum outcome fleet_outcome(const struct device_transfer *sent, uint32_t reboot_s, const struct moment *now);

/* The site whose uplink an address shares. 0 = not known. A public IPv4 address is a site by itself: all that stand
 * behind its NAT show it, and its neighbours in the /24 are other homes. A private one (also link-local, loopback, a
 * provider's 100.64/10): its /24. IPv6: its /64; IPv4-mapped counts as IPv4. */
uint64_t fleet_site(const uint8_t address[16]);

#endif
