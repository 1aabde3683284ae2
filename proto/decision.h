/* The decision: request + offered build + assignment + permission -> one reason and, where it serves, the build.
 *
 * Pure. Its heart is a list of rules in order, of which the first that holds decides; read decision.c from its table.
 * The principle: a digest that we know names the running build, whatever the version header says or lacks; the
 * version decides only where the digest is unknown.
 */
#ifndef PROTO_DECISION_H
#define PROTO_DECISION_H

#include "proto/device_request.h"
#include "proto/image.h"
#include "proto/reason.h"
#include "proto/version.h"

#include <stdbool.h>
#include <stdint.h>

#define BUILD_LABEL_MAX 64

/* An image as a decision sees it: what its name promises, and what its bytes are. */
struct build {
    struct version version;          /* .text "" where only the label names it */
    char label[BUILD_LABEL_MAX + 1]; /* exact label, else "" */
    uint32_t flash_mib;              /* file system for every type with that much flash; 0 = of one type */
    struct image_facts facts;
};

/* One version, as it lies in the repository: uncompressed, compressed, or both. */
struct offer {
    const struct build *plain;
    const struct build *gzip;
};

struct decision_input {
    const struct device_request *request;
    struct offer offer;          /* what this device would get; empty = nothing, see `missing` */
    enum reason missing;         /* why the offer is empty: UNKNOWN_TYPE, NO_IMAGE, REJECTED, UNASSIGNED, NOT_YET … */
    const struct build *running; /* the build that the reported digest names; NULL = digest unknown, or not said */
    uint8_t running_flash_mode;  /* the variant that matched: the mode that the device's flash runs in */
    const char *assigned;        /* the label or version that this device is to run; NULL = follow the newest */
    enum reason assigned_by;     /* where it is: ASSIGNED, PINNED or PUBLISHED */
    bool unconditional;          /* the simple updater: whatever it runs, it asked for this image */
    bool withheld;               /* it may not have it now, were it to get it... */
    enum reason withheld_by;     /* ...for this reason: LOOP_GUARD, HELD_BACK, BLOCKED … */
    const char *withheld_why;    /* the figures, for `detail` */
    bool fs_gzip;                /* configuration: sketches inflate compressed file systems (ATOMIC_FS_UPDATE) */
};

struct decision {
    enum reason reason;
    const struct build *build; /* the build meant, also where it is refused; NULL = none */
    char detail[160];          /* both figures of a refusal, for the log and the text; "" = the reason says all */
};

/* Whether the request is answered with the build's bytes. */
bool decision_serves(const struct decision *decision);

void decision_make(const struct decision_input *input, struct decision *decision);

/* Whether a device that runs a build with this digest runs `build`; *flash_mode tells which variant matched. */
bool build_runs_md5(const struct build *build, const uint8_t md5[16], uint8_t *flash_mode);

#endif
