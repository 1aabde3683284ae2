/* What a check-in proves about the last transfer. Pure.
 *
 * The proof of success is the digest and nothing else: a device that came back with a digest of the build it was sent
 * is confirmed, whatever it calls itself. What makes it hard is what devices do not say: a file system has no digest
 * (its version judges), a native-SDK slot neither (the version that it asks with), and a client without a MAC is
 * nobody.
 */
#ifndef FLEET_OUTCOME_H
#define FLEET_OUTCOME_H

#include "fleet/device.h"

#include <stdbool.h>
#include <stdint.h>

/* What the judge is shown: the record as it was before the check-in, and the check-in. */
struct outcome_case {
    const struct device_transfer *sent; /* the last sending of the kind that is checked for, as it was */
    const uint8_t *md5_before;          /* of the sketch that ran at the check-in before; NULL = not said */
    bool fs;                            /* a file system check */
    const uint8_t *md5;                 /* of the running sketch; NULL = not said */
    bool runs_sent;              /* the digest (a file system: the version) is one of the image last sent to it */
    struct slice version;        /* as said; "" = not */
    struct slice version_before; /* as said at the check-in before */
    struct slice sent_version;   /* of the image last sent */
    bool knows_sent; /* the image last sent is still in the catalog: all digests that it may be reported by are known */
};

struct outcome_verdict {
    enum outcome outcome; /* OUTCOME_NONE: proves nothing new */
    bool wrong_label;     /* confirmed by digest, and calls itself by another version than the file's name says */
    char detail[160];     /* both sides of it, for people; "" = the word says all */
};

void outcome_judge(const struct outcome_case *the_case, struct outcome_verdict *verdict);

#define OUTCOME_KEY_BYTES 8 /* as much as a record has room for */
/* Stands for the digest of a sketch whose device tells none (the native SDK): what it ran before is known by its
 * version. */
void outcome_version_key(struct slice version, uint8_t key[OUTCOME_KEY_BYTES]);

/* Whether it did not come to run what it was sent: it counts in its failures in a row. */
bool outcome_is_failure(enum outcome outcome); /* OLD_BUILD, ROLLED_BACK, CUT, REPORTED, OTHER_BUILD */
/* Whether the image may be why, and neither the network nor somebody with a cable: it counts for never-again. */
bool outcome_is_images_fault(enum outcome outcome); /* OLD_BUILD, ROLLED_BACK, REPORTED */

#endif
