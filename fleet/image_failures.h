/* Images with which several devices failed within a day: what nobody sees who looks at one device, where no rollout
 * counts. Bounded: IMAGE_FAILURES_MAX images, the one longest without a failure forgotten first, and of each the last
 * IMAGE_FAILURES_DEVICES devices.
 */
#ifndef FLEET_IMAGE_FAILURES_H
#define FLEET_IMAGE_FAILURES_H

#include "base/text.h"
#include "proto/mac.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_FAILURES_MAX     64
#define IMAGE_FAILURES_DEVICES 32 /* so many or more are all the same */
#define IMAGE_FAILURES_FOR_S   (24 * 3600)

struct image_failure {
    struct mac mac;
    uint32_t unix_s;
};

struct failing_image {
    uint8_t md5[16]; /* run_md5[0] of the build */
    bool fs;
    char type[65]; /* as which the last of them asked */
    size_t device_count;
    struct image_failure devices[IMAGE_FAILURES_DEVICES];
};

struct image_failures {
    size_t count;
    struct failing_image images[IMAGE_FAILURES_MAX];
};

struct image_failures *image_failures_new(void);
void image_failures_free(struct image_failures *failures);

/* `failures` NULL: nobody counts. A device counts once, with its last failure. */
void image_failures_failed(struct image_failures *failures, const uint8_t md5[16], bool fs, struct slice type,
                           const struct mac *mac, uint32_t unix_s);
void image_failures_confirmed(struct image_failures *failures, const uint8_t md5[16], const struct mac *mac);
void image_failures_forget(struct image_failures *failures, const uint8_t md5[16]);

/* How many devices, within the last IMAGE_FAILURES_FOR_S. */
size_t failing_image_devices(const struct failing_image *image, uint32_t now_s);

#endif
