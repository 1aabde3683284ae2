/* Two ways to find a device: by its MAC, and by the last three bytes of it, which is all that some firmware's topics
 * say. What makes it hard: whoever can reach the server chooses both. So the hash of MACs is seeded, and the index of
 * tails is a plain table that stays short whatever comes: there are 2^24 tails, so at most 256 in each of its 2^16
 * buckets, and of those that share a tail two are enough to know that it names nobody.
 *
 * Records lie in blocks and stay where they are for as long as the fleet lives; a type goes with its last device.
 */
#include "fleet/device.h"

#include "fleet/mac_hash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define BLOCK_RECORDS  128
#define TAIL_BUCKETS   65536
#define CHECK_LEAST_MS 5000 /* sooner than that it only asks for its sketch and then for its file system */
#define CHECK_STEP     16

struct record {
    struct device device; /* the first member: a device is its record */
    struct record *next_of_tail;
    UT_hash_handle hh;
};

struct block {
    struct block *next;
    struct record records[BLOCK_RECORDS];
};

struct type_entry {
    struct fleet_type type; /* the first member */
    UT_hash_handle hh;
};

struct fleet {
    struct mac_hash_seed seed;
    struct record *records; /* by MAC */
    struct type_entry *types;
    struct block *blocks;  /* the newest first, the only one with room */
    struct record **tails; /* TAIL_BUCKETS lists, of at most two records a tail */
    size_t devices_max;
    uint64_t forgotten;
    struct fleet_walk *walks;
};

struct fleet *fleet_new(size_t devices_max)
{
    struct fleet *fleet = calloc(1, sizeof *fleet);
    assert(fleet != NULL && devices_max > 0 && devices_max <= FLEET_DEVICES_MAX);
    fleet->seed = mac_hash_seed_draw();
    fleet->tails = calloc(TAIL_BUCKETS, sizeof(struct record *));
    assert(fleet->tails != NULL);
    fleet->devices_max = devices_max;
    return fleet;
}

void fleet_free(struct fleet *fleet)
{
    struct type_entry *type, *next_type;
    HASH_CLEAR(hh, fleet->records);
    HASH_ITER(hh, fleet->types, type, next_type)
    {
        HASH_DEL(fleet->types, type);
        free(type);
    }
    while (fleet->blocks != NULL) {
        struct block *block = fleet->blocks;
        fleet->blocks = block->next;
        free(block);
    }
    free(fleet->tails);
    free(fleet);
}

/* --- types -------------------------------------------------------------------------------------------------------- */

static struct type_entry *find_type(const struct fleet *fleet, struct slice name)
{
    struct type_entry *entry = NULL;
    if (name.len > 0) {
        HASH_FIND(hh, fleet->types, name.at, name.len, entry);
    }
    return entry;
}

/* The type of that name, made where there was none; NULL where it cannot be. */
static struct fleet_type *intern_type(struct fleet *fleet, struct slice name)
{
    struct type_entry *entry = find_type(fleet, name);
    if (entry != NULL) {
        return &entry->type;
    }
    if (name.len == 0 || name.len >= sizeof entry->type.name || HASH_COUNT(fleet->types) >= FLEET_TYPES_MAX) {
        return NULL;
    }
    entry = calloc(1, sizeof *entry);
    assert(entry != NULL);
    memcpy(entry->type.name, name.at, name.len);
    HASH_ADD_KEYPTR(hh, fleet->types, entry->type.name, name.len, entry);
    return &entry->type;
}

static void leave_type(struct fleet *fleet, struct device *device)
{
    struct fleet_type *type = device->type;
    for (struct fleet_walk *walk = fleet->walks; walk != NULL; walk = walk->next_walk) {
        walk->next = walk->next == device ? device->next_of_type : walk->next;
    }
    *(device->previous_of_type != NULL ? &device->previous_of_type->next_of_type : &type->first) = device->next_of_type;
    if (device->next_of_type != NULL) {
        device->next_of_type->previous_of_type = device->previous_of_type;
    }
    if (--type->device_count == 0) { /* else one device that invents types would use them all up */
        struct type_entry *entry = (struct type_entry *)type;
        HASH_DEL(fleet->types, entry);
        free(entry);
    }
}

static void join_type(struct device *device, struct fleet_type *type)
{
    device->type = type;
    device->previous_of_type = NULL;
    device->next_of_type = type->first;
    if (type->first != NULL) {
        type->first->previous_of_type = device;
    }
    type->first = device;
    type->device_count++;
}

/* --- tails -------------------------------------------------------------------------------------------------------- */

static struct record **tail_bucket(const struct fleet *fleet, const uint8_t tail[3])
{
    return &fleet->tails[(size_t)tail[1] << 8 | tail[2]];
}

/* How many of the bucket end so, of the two that it keeps at most; *last is one of them. */
static unsigned count_tail(const struct fleet *fleet, const uint8_t tail[3], struct record **last)
{
    unsigned count = 0;
    for (struct record *record = *tail_bucket(fleet, tail); record != NULL; record = record->next_of_tail) {
        if (memcmp(record->device.mac.bytes + 3, tail, 3) == 0) {
            count++;
            *last = record;
        }
    }
    return count;
}

static void index_tail(struct fleet *fleet, struct record *record)
{
    const uint8_t *tail = record->device.mac.bytes + 3;
    struct record *last = NULL;
    if (count_tail(fleet, tail, &last) < 2) {
        struct record **bucket = tail_bucket(fleet, tail);
        record->next_of_tail = *bucket;
        *bucket = record;
    }
}

/* --- devices ------------------------------------------------------------------------------------------------------ */

static struct record *new_record(struct fleet *fleet)
{
    size_t used = HASH_COUNT(fleet->records) % BLOCK_RECORDS;
    if (used == 0) { /* none yet, or the newest block is full */
        struct block *block = calloc(1, sizeof *block);
        assert(block != NULL);
        block->next = fleet->blocks;
        fleet->blocks = block;
    }
    return &fleet->blocks->records[used];
}

static struct device *add(struct fleet *fleet, const struct mac *mac, struct fleet_type *type)
{
    struct record *record = new_record(fleet);
    record->device.mac = *mac;
    join_type(&record->device, type);
    index_tail(fleet, record);
    HASH_ADD_BYHASHVALUE(hh, fleet->records, device.mac, sizeof *mac, mac_hash(&fleet->seed, mac), record);
    return &record->device;
}

/* The device, known to be of this type from now on; NULL where there is no room for it or its type. */
static struct device *place(struct fleet *fleet, const struct mac *mac, struct slice type_name)
{
    struct device *device = fleet_find(fleet, mac);
    if (device != NULL && slice_is(type_name, device->type->name)) {
        return device;
    }
    if (device == NULL && fleet_count(fleet) >= fleet->devices_max) {
        return NULL;
    }
    struct fleet_type *type = intern_type(fleet, type_name);
    if (type == NULL) {
        return NULL;
    }
    if (device == NULL) {
        return add(fleet, mac, type);
    }
    if (device->type != type) {
        leave_type(fleet, device);
        join_type(device, type);
    }
    return device;
}

/* Half of all gaps are longer, half are shorter, once it has found its level: so a device that was off for a week
 * hardly moves it. */
static void hear_gap(struct fleet_type *type, uint64_t gap_ms)
{
    if (gap_ms < CHECK_LEAST_MS) {
        return;
    }
    uint64_t step_ms = type->check_ms / CHECK_STEP;
    type->check_ms = type->check_ms == 0       ? gap_ms
                     : gap_ms > type->check_ms ? type->check_ms + step_ms
                                               : type->check_ms - step_ms;
}

struct device *fleet_saw(struct fleet *fleet, const struct mac *mac, struct slice type, const uint8_t *md5,
                         uint64_t now_ms)
{
    struct device *device = place(fleet, mac, type);
    if (device == NULL) {
        fleet->forgotten++;
        return NULL;
    }
    if (device->seen_ms != 0) {
        hear_gap(device->type, now_ms - device->seen_ms);
    }
    device->seen_ms = now_ms;
    if (md5 != NULL) {
        device->has_md5 = true;
        memcpy(device->md5, md5, sizeof device->md5);
    }
    return device;
}

static uint32_t narrow(uint64_t bytes)
{
    return bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
}

void device_learn(struct device *device, const struct device_request *request)
{
    device->client = (uint8_t)request->client;
    device->chip = (uint16_t)request->chip;
    device->flash_bytes = narrow(request->flash_bytes);
    device->free_bytes = narrow(request->free_bytes);
    device->sketch_bytes = narrow(request->sketch_bytes);
    (void)slice_copy(request->label, request->mode == DEVICE_MODE_FS ? device->fs_label : device->sketch_label,
                     DEVICE_LABEL_SIZE);
}

bool device_recall(const struct device *device, struct device_request *request)
{
    *request = (struct device_request){
        .client = (enum device_client)device->client,
        .has_mac = true,
        .has_md5 = device->has_md5,
        .mac = device->mac,
        .free_bytes = device->free_bytes,
        .sketch_bytes = device->sketch_bytes,
        .flash_bytes = device->flash_bytes,
        .chip = (enum chip)device->chip,
    };
    memcpy(request->sketch_md5, device->md5, sizeof request->sketch_md5);
    if (device->sketch_label[0] != '\0') {
        request->label = slice_of(device->sketch_label);
        (void)version_parse(request->label, &request->version);
    }
    return device->client != CLIENT_PLAIN;
}

void fleet_said_online(struct fleet *fleet, const struct mac *mac, struct slice type, bool online)
{
    struct device *device = fleet_find(fleet, mac);
    if (device == NULL || (device->seen_ms == 0 && type.len > 0)) { /* what it asks for counts more than a topic */
        struct device *placed = place(fleet, mac, type);
        device = placed != NULL ? placed : device;
    }
    if (device != NULL) {
        device->online = online;
        device->said_online = true;
    }
}

struct device *fleet_find(const struct fleet *fleet, const struct mac *mac)
{
    struct record *record = NULL;
    HASH_FIND_BYHASHVALUE(hh, fleet->records, mac, sizeof *mac, mac_hash(&fleet->seed, mac), record);
    return record != NULL ? &record->device : NULL;
}

struct device *fleet_find_tail(const struct fleet *fleet, const uint8_t tail[3])
{
    struct record *record = NULL;
    return count_tail(fleet, tail, &record) == 1 ? &record->device : NULL;
}

const struct fleet_type *fleet_find_type(const struct fleet *fleet, struct slice type)
{
    const struct type_entry *entry = find_type(fleet, type);
    return entry != NULL ? &entry->type : NULL;
}

void fleet_walk_begin(struct fleet *fleet, struct fleet_walk *walk, struct slice type)
{
    const struct type_entry *entry = find_type(fleet, type);
    *walk = (struct fleet_walk){ .fleet = fleet, .next = entry != NULL ? entry->type.first : NULL };
    walk->next_walk = fleet->walks;
    fleet->walks = walk;
}

struct device *fleet_walk_next(struct fleet_walk *walk)
{
    struct device *device = walk->next;
    walk->next = device != NULL ? device->next_of_type : NULL;
    return device;
}

void fleet_walk_end(struct fleet_walk *walk)
{
    struct fleet_walk **at = &walk->fleet->walks;
    while (*at != walk) {
        at = &(*at)->next_walk;
    }
    *at = walk->next_walk;
}

size_t fleet_count(const struct fleet *fleet)
{
    return HASH_COUNT(fleet->records);
}

uint64_t fleet_forgotten(const struct fleet *fleet)
{
    return fleet->forgotten;
}
