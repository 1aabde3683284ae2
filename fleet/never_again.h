/* Images that a device is not offered again: those it rolled back from, and those it failed with twice. By device and
 * digest; a new build is another digest, and an operator's word (`updraft devices retry MAC`) forgets them.
 *
 * Bounded: NEVER_AGAIN_OF_DEVICE a device, the oldest forgotten first, and NEVER_AGAIN_DEVICES_MAX devices.
 */
#ifndef FLEET_NEVER_AGAIN_H
#define FLEET_NEVER_AGAIN_H

#include "proto/mac.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NEVER_AGAIN_OF_DEVICE   4
#define NEVER_AGAIN_FAILURES    2 /* as many failures with one image make it one */
#define NEVER_AGAIN_DEVICES_MAX 262144

struct never_again_image {
    uint8_t md5[16]; /* run_md5[0] of the build: the same in all its forms */
    uint8_t failures;
    bool rolled_back;
    uint32_t unix_s; /* of the last one */
};

struct never_again_entry {
    struct mac mac;
    uint8_t count;
    struct never_again_image images[NEVER_AGAIN_OF_DEVICE];
};

struct never_again;
struct never_again *never_again_new(size_t devices_max);
void never_again_free(struct never_again *never_again);

/* It took all of the image and came back with the old build, or said that it failed. */
void never_again_failed(struct never_again *never_again, const struct mac *mac, const uint8_t md5[16], bool rolled_back,
                        uint32_t unix_s);
/* The image that holds it back; NULL = it may have this one. */
const struct never_again_image *never_again_holds(const struct never_again *never_again, const struct mac *mac,
                                                  const uint8_t md5[16]);
/* It runs the image after all. */
void never_again_confirmed(struct never_again *never_again, const struct mac *mac, const uint8_t md5[16]);
/* An operator's word. Returns how many images were forgotten. */
size_t never_again_forget(struct never_again *never_again, const struct mac *mac);

/* For the store: the entry of a device (NULL = none), and one as it was read. */
const struct never_again_entry *never_again_find(const struct never_again *never_again, const struct mac *mac);
void never_again_restore(struct never_again *never_again, const struct never_again_entry *entry);
size_t never_again_count(const struct never_again *never_again);

#endif
