/* Short lists, looked through: failures are rare. */
#include "fleet/image_failures.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct image_failures *image_failures_new(void)
{
    struct image_failures *failures = calloc(1, sizeof *failures);
    assert(failures != NULL);
    return failures;
}

void image_failures_free(struct image_failures *failures)
{
    free(failures);
}

static struct failing_image *find_image(struct image_failures *failures, const uint8_t md5[16])
{
    for (size_t i = 0; i < failures->count; i++) {
        if (memcmp(failures->images[i].md5, md5, 16) == 0) {
            return &failures->images[i];
        }
    }
    return NULL;
}

static struct image_failure *find_device(struct failing_image *image, const struct mac *mac)
{
    for (size_t i = 0; i < image->device_count; i++) {
        if (mac_equal(&image->devices[i].mac, mac)) {
            return &image->devices[i];
        }
    }
    return NULL;
}

static uint32_t last_failure(const struct failing_image *image)
{
    uint32_t last_s = 0;
    for (size_t i = 0; i < image->device_count; i++) {
        last_s = image->devices[i].unix_s > last_s ? image->devices[i].unix_s : last_s;
    }
    return last_s;
}

static struct failing_image *take_image(struct image_failures *failures, const uint8_t md5[16])
{
    struct failing_image *image = find_image(failures, md5);
    if (image != NULL) {
        return image;
    }
    if (failures->count < IMAGE_FAILURES_MAX) {
        image = &failures->images[failures->count++];
    } else {
        image = &failures->images[0];
        for (size_t i = 1; i < failures->count; i++) {
            struct failing_image *other = &failures->images[i];
            image = last_failure(other) < last_failure(image) ? other : image;
        }
    }
    *image = (struct failing_image){ .device_count = 0 };
    memcpy(image->md5, md5, sizeof image->md5);
    return image;
}

/* Its place, or a new one, or that of the oldest. */
static struct image_failure *take_device(struct failing_image *image, const struct mac *mac)
{
    struct image_failure *device = find_device(image, mac);
    if (device != NULL) {
        return device;
    }
    if (image->device_count < IMAGE_FAILURES_DEVICES) {
        device = &image->devices[image->device_count++];
    } else {
        device = &image->devices[0];
        for (size_t i = 1; i < image->device_count; i++) {
            device = image->devices[i].unix_s < device->unix_s ? &image->devices[i] : device;
        }
    }
    device->mac = *mac;
    return device;
}

void image_failures_failed(struct image_failures *failures, const uint8_t md5[16], bool fs, struct slice type,
                           const struct mac *mac, uint32_t unix_s)
{
    if (failures == NULL) {
        return;
    }
    struct failing_image *image = take_image(failures, md5);
    image->fs = fs;
    (void)slice_copy(type, image->type, sizeof image->type);
    take_device(image, mac)->unix_s = unix_s;
}

static void forget_image(struct image_failures *failures, struct failing_image *image)
{
    *image = failures->images[--failures->count];
}

void image_failures_confirmed(struct image_failures *failures, const uint8_t md5[16], const struct mac *mac)
{
    struct failing_image *image = failures != NULL ? find_image(failures, md5) : NULL;
    struct image_failure *device = image != NULL ? find_device(image, mac) : NULL;
    if (device != NULL) {
        *device = image->devices[--image->device_count];
    }
    if (device != NULL && image->device_count == 0) {
        forget_image(failures, image);
    }
}

void image_failures_forget(struct image_failures *failures, const uint8_t md5[16])
{
    struct failing_image *image = failures != NULL ? find_image(failures, md5) : NULL;
    if (image != NULL) {
        forget_image(failures, image);
    }
}

size_t failing_image_devices(const struct failing_image *image, uint32_t now_s)
{
    size_t count = 0;
    for (size_t i = 0; i < image->device_count; i++) {
        uint32_t then_s = image->devices[i].unix_s;
        count += then_s > now_s || now_s - then_s <= IMAGE_FAILURES_FOR_S;
    }
    return count;
}
