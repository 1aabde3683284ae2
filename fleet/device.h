/* The devices that were seen since the start: who, of which type, what it runs and can take, when. In memory, bounded;
 * what it does not know it learns from the next check-in. Time is a parameter.
 */
#ifndef FLEET_DEVICE_H
#define FLEET_DEVICE_H

#include "base/text.h"
#include "proto/device_request.h"
#include "proto/mac.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLEET_DEVICES_MAX 1000000
#define FLEET_TYPES_MAX   65535
#define DEVICE_LABEL_SIZE 40 /* a longer version is not remembered */

struct fleet_type { /* its devices in a list, newest first seen first */
    char name[65];
    size_t device_count;
    struct device *first;
    uint64_t check_ms; /* what lies between two checks of one device, as a rule; 0 = not known */
};

struct device {
    struct mac mac;
    bool has_md5;
    bool online;      /* said over MQTT */
    bool said_online; /* ever */
    uint8_t md5[16];  /* of the running sketch, as last reported */
    uint64_t seen_ms; /* last check-in; 0 = known from MQTT alone */
    /* as its last check-in said, see struct device_request; CLIENT_PLAIN = it has said nothing of this */
    uint8_t client;
    uint16_t chip;
    uint32_t flash_bytes, free_bytes, sketch_bytes;
    char sketch_label[DEVICE_LABEL_SIZE], fs_label[DEVICE_LABEL_SIZE]; /* its version header's bytes; "" = none */
    struct fleet_type *type;
    struct device *next_of_type, *previous_of_type;
};

struct fleet;

struct fleet *fleet_new(size_t devices_max);
void fleet_free(struct fleet *fleet);

/* A check-in: the device's record, made where there was none. A device that asks for another type than before moves to
 * it. `md5` NULL = not said (what it said before stays). NULL where devices_max or FLEET_TYPES_MAX is reached: the
 * device is served, and not remembered; counted. */
struct device *fleet_saw(struct fleet *fleet, const struct mac *mac, struct slice type, const uint8_t *md5,
                         uint64_t now_ms);

/* What the device said of itself when it asked is remembered with it; and put back into a request for a sketch as it
 * would make it (client, chip, sizes, digest, version; its label borrows from the record), for a decision made without
 * it. Returns false where it has never said anything. */
void device_learn(struct device *device, const struct device_request *request);
bool device_recall(const struct device *device, struct device_request *request);

/* It said over MQTT that it is there or gone. A device never seen at a check-in is remembered only with a type. */
void fleet_said_online(struct fleet *fleet, const struct mac *mac, struct slice type, bool online);

struct device *fleet_find(const struct fleet *fleet, const struct mac *mac);

/* The one device whose MAC ends so; NULL where there is none, or more than one. */
struct device *fleet_find_tail(const struct fleet *fleet, const uint8_t tail[3]);

const struct fleet_type *fleet_find_type(const struct fleet *fleet, struct slice type);

/* A walk over the devices of a type that may rest between two steps, while devices come and move to other types: those
 * that come after its beginning are not met, nor those that left before their turn. */
struct fleet_walk {
    struct fleet *fleet;
    struct device *next;
    struct fleet_walk *next_walk;
};
void fleet_walk_begin(struct fleet *fleet, struct fleet_walk *walk, struct slice type);
struct device *fleet_walk_next(struct fleet_walk *walk); /* NULL behind the last */
void fleet_walk_end(struct fleet_walk *walk);            /* also before its last */

size_t fleet_count(const struct fleet *fleet);
uint64_t fleet_forgotten(const struct fleet *fleet); /* check-ins that found no room */

#endif
