/* What is known of each device: who it is, what it runs, when it came, what became of its last update. In memory, on
 * the loop; fleet/journal writes it down behind.
 *
 * What makes it hard is a million of them: a record is flat, shares its texts (fleet/words), and asks 256 bytes at most
 * with its share of the tables; a check-in touches its own record alone. Only who was sent a file system has a second
 * piece.
 */
#ifndef FLEET_DEVICE_H
#define FLEET_DEVICE_H

#include "base/clock.h"
#include "base/text.h"
#include "fleet/words.h"
#include "proto/device_request.h"
#include "proto/mac.h"
#include "proto/reason.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEVICES_MAX      1000000 /* default of the table's bound */
#define DEVICE_TYPES_MAX 65535

/*    name                 word: what the last update came to */
#define OUTCOME_LIST(X)                                                                                                \
    X(NONE, "none")               /* nothing was sent yet */                                                           \
    X(OPEN, "open")               /* sent whole; the next check-in will tell */                                        \
    X(CONFIRMED, "confirmed")     /* came back with it */                                                              \
    X(OLD_BUILD, "old-build")     /* came back with what it ran before: it did not flash, or rolled back */            \
    X(ROLLED_BACK, "rolled-back") /* it ran the new one, and then the old one again */                                 \
    X(OTHER_BUILD, "other-build") /* came back with a third build: somebody else flashed it, or the file is gone */    \
    X(CUT, "cut")                 /* the transfer broke off: network */                                                \
    X(REPORTED, "reported")       /* it said over MQTT that it failed */                                               \
    X(SILENT, "silent")           /* OPEN past its deadline: in no record, see fleet_outcome */

enum outcome {
#define X(name, word) OUTCOME_##name,
    OUTCOME_LIST(X)
#undef X
        OUTCOME_COUNT
};
const char *outcome_word(enum outcome outcome);

struct device_type { /* its devices in a list, newest first seen first */
    word_id name;
    uint32_t device_count;
    struct device *first;
};

/* The last sending of an image to it, and what it came to. Sketches and file systems apart: one says nothing of the
 * other. */
struct device_transfer {
    uint8_t md5[16];    /* run_md5[0] of the build sent: names it, whatever its form */
    uint8_t before[8];  /* the first half of the digest that it ran before, or outcome_version_key; zeros = not known */
    uint32_t bytes, of; /* acknowledged, of so many */
    uint32_t ms;        /* it took */
    uint32_t unix_s;    /* its end; 0 = there was none */
    word_id version;    /* of the image */
    uint8_t outcome;    /* enum outcome */
    uint8_t failures;   /* in a row, at most 255 */
    uint16_t served;    /* whole, this image, since the device last proved that it has it: fleet/loop_guard */
};

struct device {
    struct mac mac;
    uint16_t chip;      /* enum chip: of its image's where the device does not say */
    uint8_t client;     /* enum device_client */
    uint8_t flash_mode; /* deduced from the digest variant; FLASH_MODE_UNKNOWN */
    uint8_t reason;     /* enum reason: of the last answer */
    bool has_md5 : 1;
    bool online : 1, said_online : 1;               /* over MQTT */
    bool reason_fs : 1;                             /* the last answer: of a file system */
    bool came_back : 1;                             /* was confirmed at least once: such a one can be missed */
    bool seen : 1;                                  /* since the start */
    bool dirty : 1;                                 /* is in the list of what is to be written down */
    bool via_proxy : 1;                             /* `address` was told by a trusted proxy */
    bool tail_crowded : 1;                          /* others with the same tail are not in the index of tails */
    uint8_t md5[16];                                /* of the running sketch, as last reported */
    uint8_t address[16];                            /* IPv6, or IPv4 mapped */
    uint32_t first_seen_s, seen_s;                  /* seen_s 0 = known from MQTT alone */
    uint32_t flash_bytes, free_bytes, sketch_bytes; /* 0 = not said */
    word_id version, fs_version, sdk;
    struct device_transfer transfer;     /* of a sketch */
    struct device_transfer *fs_transfer; /* of a file system; NULL = there was none, as with most devices */
    uint32_t place;                      /* in the list of all */
    uint32_t number;                     /* of its record, as long as the table lives */
    struct device_type *type;            /* never NULL */
    struct device *next_of_type, *previous_of_type, *next_dirty, *previous_dirty;
};

struct devices;

struct devices *devices_new(struct words *words, size_t devices_max);
void devices_free(struct devices *devices);

struct device *devices_find(const struct devices *devices, const struct mac *mac);

/* Found or made; a device that asks as another type than before moves to it, and is marked. NULL where devices_max or
 * DEVICE_TYPES_MAX is reached: the device is served, and not remembered; counted. */
struct device *devices_take(struct devices *devices, const struct mac *mac, struct slice type);
void devices_forget(struct devices *devices, struct device *device); /* an operator's word */

/* What a check-in says goes into the record; what it does not say stays. Does not judge, nor mark dirty. */
struct device_sighting {
    const struct device_request *request;
    uint8_t flash_mode; /* FLASH_MODE_UNKNOWN = nothing new */
    enum chip chip;     /* of the image it runs; CHIP_UNKNOWN = nothing new */
    enum reason reason;
    uint8_t address[16];
    bool via_proxy;
};
void device_saw(struct devices *devices, struct device *device, const struct device_sighting *sighting,
                const struct moment *now);

/* The last sending of that kind; its unix_s is 0 where there was none. The second makes a place for it. */
const struct device_transfer *device_sent(const struct device *device, bool fs);
struct device_transfer *devices_take_sent(struct devices *devices, struct device *device, bool fs);

/* The other way: *request as the device would ask now, by its record. Its label is borrowed from the record's words. */
void device_ask_again(const struct devices *devices, const struct device *device, enum device_mode mode,
                      struct device_request *request);

/* The one device whose MAC ends so; NULL where there is none, or more than one. */
struct device *devices_find_tail(const struct devices *devices, const uint8_t tail[3]);

const struct device_type *devices_find_type(const struct devices *devices, struct slice type);

/* What has changed and is to be written down; oldest first. */
void devices_mark(struct devices *devices, struct device *device);
void devices_unmark(struct devices *devices, struct device *device); /* it is */
struct device *devices_next_dirty(struct devices *devices);          /* takes it out of the list; NULL = none */
size_t devices_dirty_count(const struct devices *devices);

/* All of them, 0 .. count-1; the order lasts until one is forgotten. */
struct device *devices_at(const struct devices *devices, size_t i);
size_t devices_count(const struct devices *devices);
/* One after the other, whoever comes or is forgotten in between: *number is 0 for the first, and set by each. *device
 * NULL = that was one who is forgotten. Returns false behind the last. */
bool devices_walk(const struct devices *devices, uint64_t *number, struct device **device);
size_t devices_seen(const struct devices *devices);        /* of them, since the start */
uint64_t devices_forgotten(const struct devices *devices); /* check-ins that found no room */
size_t devices_bytes(const struct devices *devices);       /* memory of all this, tables included */
struct words *devices_words(const struct devices *devices);

#endif
