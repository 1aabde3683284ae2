/* What vouches for an image: its signature, by keys that count. Where keys are configured, a file without one is a
 * rejection. A seal is the state of both, so that a verdict stands until one of them changes.
 */
#ifndef REPO_SEAL_H
#define REPO_SEAL_H

#include "proto/signature.h"
#include "repo/file_identity.h"

#include <stdbool.h>
#include <stdint.h>

#define SEAL_SUFFIX ".sig" /* behind the whole name of the image */

struct seal {
    uint8_t keys[SIGNATURE_PRINT_BYTES]; /* that counted; zero = no signature was asked for, and the rest is zero too */
    struct file_identity detached;       /* of the .sig; zero = there was no such file */
    struct signature_vouchers by;        /* what came of it: whose signatures were found good */
};

/* Whether what was found with the one stands with the other: whose signatures are good follows from the rest. */
bool seal_equal(const struct seal *a, const struct seal *b);

/* Whether a key that vouched is among these; NULL = none are asked for. */
bool seal_stands(const struct seal *seal, const struct signature_keys *keys);

/* The state as it is, without reading, so nobody has vouched; `entry` is the image's name in `folder`. `keys` NULL =
 * none are asked for. */
void seal_of(const struct signature_keys *keys, int folder, const char *entry, struct seal *seal);

/* Whether a signature vouches for the bytes, which image_check has accepted with `facts`; else *verdict: that of
 * signature_check, or UNREADABLE. *seal: what was read. With `keys` NULL everything passes. Blocking: for a worker
 * thread. */
bool seal_check(const struct signature_keys *keys, int folder, const char *entry, const uint8_t *bytes,
                const struct image_facts *facts, struct seal *seal, struct image_verdict *verdict);

#endif
