/* The loop guard: an image that a device has been sent whole, and that it asks for again as if it had never come, is
 * not sent for ever. After `served_max` whole transfers of the same image the device waits, an hour at first, then
 * twice as long each time, up to a day. A new build, which is another image, is served at once. Over a restart the
 * device's record keeps the count (device_transfer.served).
 *
 * Time is a parameter. Bounded: of LOOP_GUARD_DEVICES_MAX devices the one served longest ago is forgotten first.
 */
#ifndef FLEET_LOOP_GUARD_H
#define FLEET_LOOP_GUARD_H

#include "proto/mac.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOOP_GUARD_DEVICES_MAX    65536
#define LOOP_GUARD_BACKOFF_MS     3600000u
#define LOOP_GUARD_BACKOFF_MAX_MS 86400000u

struct loop_guard;

struct loop_guard *loop_guard_new(size_t devices_max);
void loop_guard_free(struct loop_guard *guard);

/* Sketches and file systems are counted apart: `fs` tells which. */
struct loop_guard_key {
    struct mac mac;
    bool fs;
};

/* Whether the image with this MD5 has been sent often enough for now; *wait_ms: until it may be sent again. */
bool loop_guard_holds(const struct loop_guard *guard, const struct loop_guard_key *key, const uint8_t md5[16],
                      unsigned served_max, uint64_t now_ms, uint64_t *wait_ms);

/* How often this image was sent whole, of late. */
unsigned loop_guard_served(const struct loop_guard *guard, const struct loop_guard_key *key, const uint8_t md5[16]);

/* The image was sent whole. */
void loop_guard_sent(struct loop_guard *guard, const struct loop_guard_key *key, const uint8_t md5[16],
                     unsigned served_max, uint64_t now_ms);

/* The image was sent whole so often, the last time ago_ms before now: as it stood when the server ended. */
void loop_guard_restore(struct loop_guard *guard, const struct loop_guard_key *key, const uint8_t md5[16],
                        unsigned served, unsigned served_max, uint64_t ago_ms, uint64_t now_ms);

/* The device runs what it was sent: its count is forgotten. */
void loop_guard_forget(struct loop_guard *guard, const struct loop_guard_key *key);

size_t loop_guard_count(const struct loop_guard *guard);

#endif
