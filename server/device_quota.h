/* How much the log says of devices: whoever asks without end is named now and then, and what is left out is counted.
 * At --log-level debug all is said. */
#ifndef SERVER_DEVICE_QUOTA_H
#define SERVER_DEVICE_QUOTA_H

#include "proto/mac.h"
#include "proto/reason.h"
#include "server/frequency.h"

#include <stdbool.h>
#include <stdint.h>

#define QUOTA_ALIKE_MAX     10  /* lines a minute of one asker with one reason */
#define QUOTA_SENT_MAX      60  /* the same, where it is sent an image: many that name no device may share an address */
#define QUOTA_REFUSALS_MAX  600 /* lines a minute of refusals that cost a stranger nothing */
#define QUOTA_AT_ONCE_MAX   100000  /* lines of all together: of a command to a large fleet ... */
#define QUOTA_EVERY_MS      10      /* ... and then one in so long: names can be invented for any answer */
#define QUOTA_BUSY_MIN      120     /* asks within a minute that make a device busy */
#define QUOTA_BUSY_MAX      10      /* lines of busy devices a minute */
#define QUOTA_BUSY_AGAIN_MS 3600000 /* between two of one device */

struct device_quota {
    struct frequency lines, asks;
    uint64_t since_ms; /* begin of the minute */
    uint64_t full_ms;  /* when QUOTA_AT_ONCE_MAX lines will be there again: what is spent lies between now and then */
    uint32_t refusals, busy;
    uint64_t left_out; /* lines, not told yet */
};

void device_quota_init(struct device_quota *quota);

/* Who asked: its MAC, else its address. */
struct device_asker {
    const struct mac *mac;  /* NULL = it names none */
    const uint8_t *address; /* 16 bytes */
};

/* Whether a line of this reason is said, or counted as left out. */
bool device_quota_takes(struct device_quota *quota, const struct device_asker *asker, enum reason reason,
                        uint64_t now_ms);

/* The same of the line that says what its last update came to. */
bool device_quota_takes_outcome(struct device_quota *quota, const struct mac *mac, uint64_t now_ms);

/* A device asked once more. Returns how often within a minute where that is to be said, else 0. */
unsigned device_quota_asked(struct device_quota *quota, const struct mac *mac, uint64_t now_ms);

/* Once a second: tells how many lines were left out, once a minute. */
void device_quota_tick(struct device_quota *quota, uint64_t now_ms);

#endif
