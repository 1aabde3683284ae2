/* Two ways to find a device: by its MAC, and by the last three bytes of it, which is all that some firmware's topics
 * say. What makes it hard: whoever can reach the server chooses both. So the hash of MACs is seeded, and the index of
 * tails is a plain table that stays short whatever comes: there are 2^24 tails, so at most 256 in each of its 2^16
 * buckets, and of those that share a tail two are enough to know that it names nobody.
 *
 * Records stay where they are for as long as they live, and each has a number, which is what the index of MACs keeps:
 * so a check-in touches the index and the record, nothing between. A type goes with its last device.
 */
#include "fleet/device.h"

#include "fleet/huge_page.h"
#include "fleet/mac_index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define CACHE_LINE           64
#define BLOCK_RECORDS        256
#define BLOCKS               40 /* so many small ones; a fleet that fills them is large, and so is each page that follows */
#define PAGE_RECORDS         (HUGE_PAGE_BYTES / sizeof(struct record))
#define TAIL_BUCKETS         65536
#define FS_TRANSFER_OVERHEAD (2 * sizeof(size_t)) /* what glibc keeps beside 48 bytes */

struct record {
    struct device device; /* the first member: a device is its record */
    struct record *next_of_tail;
} __attribute__((aligned(CACHE_LINE)));

struct type_entry {
    struct device_type type; /* the first member */
    UT_hash_handle hh;
};

struct devices {
    struct words *words;
    struct type_entry *types; /* by word */
    struct record **all;
    size_t count, all_room;
    struct mac_index index; /* of numbers */
    struct record *blocks[BLOCKS], **pages;
    size_t numbers, page_count, page_room;
    struct record *free_records; /* whose numbers are used again; linked by next_of_tail */
    struct record **tails;       /* TAIL_BUCKETS lists, of at most two records a tail */
    struct device *dirty, *last_dirty;
    size_t dirty_count;
    size_t devices_max;
    size_t seen;
    size_t fs_transfers; /* so many have one */
    uint64_t forgotten;
};

struct devices *devices_new(struct words *words, size_t devices_max)
{
    struct devices *devices = calloc(1, sizeof *devices);
    assert(devices != NULL && devices_max > 0);
    devices->words = words;
    devices->index.seed = mac_hash_seed_draw();
    devices->tails = calloc(TAIL_BUCKETS, sizeof(struct record *));
    assert(devices->tails != NULL);
    devices->devices_max = devices_max;
    return devices;
}

static void drop_fs_transfer(struct devices *devices, struct device *device)
{
    devices->fs_transfers -= device->fs_transfer != NULL;
    free(device->fs_transfer);
    device->fs_transfer = NULL;
}

void devices_free(struct devices *devices)
{
    struct type_entry *type, *next_type;
    if (devices == NULL) {
        return;
    }
    mac_index_clear(&devices->index);
    HASH_ITER(hh, devices->types, type, next_type)
    {
        HASH_DEL(devices->types, type);
        free(type);
    }
    for (size_t i = 0; i < devices->count && devices->fs_transfers > 0; i++) {
        drop_fs_transfer(devices, &devices->all[i]->device);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        free(devices->blocks[i]);
    }
    for (size_t i = 0; i < devices->page_count; i++) {
        free(devices->pages[i]);
    }
    free(devices->pages);
    free(devices->all);
    free(devices->tails);
    free(devices);
}

/* --- types -------------------------------------------------------------------------------------------------------- */

static struct type_entry *find_type(const struct devices *devices, struct slice name)
{
    struct type_entry *entry = NULL;
    word_id word = words_find(devices->words, name);
    if (word != 0) {
        HASH_FIND(hh, devices->types, &word, sizeof word, entry);
    }
    return entry;
}

/* The type of that name, made where there was none; NULL where it cannot be. */
static struct device_type *take_type(struct devices *devices, struct slice name)
{
    struct type_entry *entry = find_type(devices, name);
    if (entry != NULL) {
        return &entry->type;
    }
    if (name.len == 0 || name.len > WORD_TEXT_MAX || HASH_COUNT(devices->types) >= DEVICE_TYPES_MAX) {
        return NULL;
    }
    entry = calloc(1, sizeof *entry);
    assert(entry != NULL);
    entry->type.name = words_take(devices->words, name);
    HASH_ADD(hh, devices->types, type.name, sizeof entry->type.name, entry);
    return &entry->type;
}

static void leave_type(struct devices *devices, struct device *device)
{
    struct device_type *type = device->type;
    *(device->previous_of_type != NULL ? &device->previous_of_type->next_of_type : &type->first) = device->next_of_type;
    if (device->next_of_type != NULL) {
        device->next_of_type->previous_of_type = device->previous_of_type;
    }
    if (--type->device_count == 0) { /* else one device that invents types would use them all up */
        struct type_entry *entry = (struct type_entry *)type;
        words_drop(devices->words, type->name);
        HASH_DEL(devices->types, entry);
        free(entry);
    }
}

static void join_type(struct device *device, struct device_type *type)
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

const struct device_type *devices_find_type(const struct devices *devices, struct slice type)
{
    const struct type_entry *entry = find_type(devices, type);
    return entry != NULL ? &entry->type : NULL;
}

/* --- tails -------------------------------------------------------------------------------------------------------- */

static struct record **tail_bucket(const struct devices *devices, const uint8_t tail[3])
{
    return &devices->tails[(size_t)tail[1] << 8 | tail[2]];
}

/* How many of the bucket end so, of the two that it keeps at most; *last is one of them. */
static unsigned count_tail(const struct devices *devices, const uint8_t tail[3], struct record **last)
{
    unsigned count = 0;
    for (struct record *record = *tail_bucket(devices, tail); record != NULL; record = record->next_of_tail) {
        if (memcmp(record->device.mac.bytes + 3, tail, 3) == 0) {
            count++;
            *last = record;
        }
    }
    return count;
}

static void index_tail(struct devices *devices, struct record *record)
{
    const uint8_t *tail = record->device.mac.bytes + 3;
    struct record *last = NULL;
    if (count_tail(devices, tail, &last) < 2) {
        struct record **bucket = tail_bucket(devices, tail);
        record->device.tail_crowded = last != NULL && last->device.tail_crowded;
        record->next_of_tail = *bucket;
        *bucket = record;
    } else {
        last->device.tail_crowded = true;
    }
}

/* A third of the same tail, which the index left out, may now be one of two. To find it all are looked through, which
 * takes a while among a million: an operator's word on one of three such devices is rare enough. */
static void unindex_tail(struct devices *devices, struct record *record)
{
    const uint8_t *tail = record->device.mac.bytes + 3;
    struct record **link = tail_bucket(devices, tail);
    while (*link != NULL && *link != record) {
        link = &(*link)->next_of_tail;
    }
    if (*link == NULL) {
        return;
    }
    *link = record->next_of_tail;
    struct record *kept = NULL;
    if (count_tail(devices, tail, &kept) == 0 || !(record->device.tail_crowded || kept->device.tail_crowded)) {
        return; /* none was left out */
    }
    kept->device.tail_crowded = true; /* there may be a fourth */
    for (size_t i = 0; i < devices_count(devices); i++) {
        struct record *other = devices->all[i];
        if (other != record && other != kept && memcmp(other->device.mac.bytes + 3, tail, 3) == 0) {
            index_tail(devices, other);
            return;
        }
    }
    kept->device.tail_crowded = false;
}

struct device *devices_find_tail(const struct devices *devices, const uint8_t tail[3])
{
    struct record *record = NULL;
    return count_tail(devices, tail, &record) == 1 ? &record->device : NULL;
}

/* --- what is to be written down ----------------------------------------------------------------------------------- */

void devices_mark(struct devices *devices, struct device *device)
{
    if (!device->dirty) {
        device->dirty = true;
        device->previous_dirty = devices->last_dirty;
        device->next_dirty = NULL;
        *(devices->last_dirty != NULL ? &devices->last_dirty->next_dirty : &devices->dirty) = device;
        devices->last_dirty = device;
        devices->dirty_count++;
    }
}

void devices_unmark(struct devices *devices, struct device *device)
{
    if (device->dirty) {
        struct device *previous = device->previous_dirty, *next = device->next_dirty;
        *(previous != NULL ? &previous->next_dirty : &devices->dirty) = next;
        *(next != NULL ? &next->previous_dirty : &devices->last_dirty) = previous;
        device->dirty = false;
        devices->dirty_count--;
    }
}

struct device *devices_next_dirty(struct devices *devices)
{
    struct device *device = devices->dirty;
    if (device != NULL) {
        devices_unmark(devices, device);
    }
    return device;
}

size_t devices_dirty_count(const struct devices *devices)
{
    return devices->dirty_count;
}

/* --- devices ------------------------------------------------------------------------------------------------------ */

static struct record *record_at(const struct devices *devices, size_t number)
{
    if (number < (size_t)BLOCKS * BLOCK_RECORDS) {
        return &devices->blocks[number / BLOCK_RECORDS][number % BLOCK_RECORDS];
    }
    number -= (size_t)BLOCKS * BLOCK_RECORDS;
    return &devices->pages[number / PAGE_RECORDS][number % PAGE_RECORDS];
}

/* All of the record is wanted soon: its lines come together instead of one after the other. */
static const struct mac *mac_at(const void *owner, uint32_t number)
{
    const struct record *record = record_at(owner, number);
    for (size_t at = CACHE_LINE; at < sizeof *record; at += CACHE_LINE) {
        __builtin_prefetch((const char *)record + at, 1);
    }
    return &record->device.mac;
}

struct device *devices_find(const struct devices *devices, const struct mac *mac)
{
    uint32_t number = mac_index_find(&devices->index, mac, mac_at, devices);
    return number != MAC_INDEX_NONE ? &record_at(devices, number)->device : NULL;
}

static void add_page(struct devices *devices)
{
    if (devices->page_count == devices->page_room) {
        devices->page_room = devices->page_room > 0 ? 2 * devices->page_room : 16;
        devices->pages = realloc(devices->pages, devices->page_room * sizeof(struct record *));
        assert(devices->pages != NULL);
    }
    devices->pages[devices->page_count] = huge_alloc(HUGE_PAGE_BYTES);
    assert(devices->pages[devices->page_count] != NULL);
    devices->page_count++;
}

static struct record *number_record(struct devices *devices)
{
    const size_t small = (size_t)BLOCKS * BLOCK_RECORDS;
    size_t number = devices->numbers++;
    if (number < small && number % BLOCK_RECORDS == 0) {
        struct record *block = aligned_alloc(CACHE_LINE, BLOCK_RECORDS * sizeof *block);
        assert(block != NULL);
        devices->blocks[number / BLOCK_RECORDS] = block;
    } else if (number >= small && (number - small) % PAGE_RECORDS == 0) {
        add_page(devices);
    }
    struct record *record = record_at(devices, number);
    record->device.number = (uint32_t)number;
    return record;
}

static struct record *new_record(struct devices *devices)
{
    struct record *record = devices->free_records;
    if (record != NULL) {
        devices->free_records = record->next_of_tail;
    } else {
        record = number_record(devices);
    }
    record->device = (struct device){ .number = record->device.number };
    record->next_of_tail = NULL;
    return record;
}

static struct device *add(struct devices *devices, const struct mac *mac, struct device_type *type)
{
    size_t count = devices_count(devices);
    struct record *record = new_record(devices);
    if (count == devices->all_room) {
        devices->all_room = count > 0 ? count + count / 4 : BLOCK_RECORDS;
        devices->all = realloc(devices->all, devices->all_room * sizeof(struct record *));
        assert(devices->all != NULL);
    }
    devices->all[count] = record;
    record->device.place = (uint32_t)count;
    record->device.mac = *mac;
    record->device.chip = CHIP_UNKNOWN;
    record->device.flash_mode = FLASH_MODE_UNKNOWN;
    join_type(&record->device, type);
    index_tail(devices, record);
    mac_index_add(&devices->index, mac, record->device.number);
    devices->count++;
    return &record->device;
}

struct device *devices_take(struct devices *devices, const struct mac *mac, struct slice type_name)
{
    struct device *device = devices_find(devices, mac);
    if (device != NULL && slice_is(type_name, words_text(devices->words, device->type->name))) {
        return device;
    }
    struct device_type *type =
        device == NULL && devices_count(devices) >= devices->devices_max ? NULL : take_type(devices, type_name);
    if (type == NULL) {
        devices->forgotten++;
        return NULL;
    }
    if (device == NULL) {
        return add(devices, mac, type);
    }
    leave_type(devices, device);
    join_type(device, type);
    devices_mark(devices, device);
    return device;
}

static void drop_words(struct words *words, struct device *device)
{
    word_id *const held[] = { &device->version, &device->fs_version, &device->sdk, &device->transfer.version };
    for (size_t i = 0; i < sizeof held / sizeof held[0]; i++) {
        words_drop(words, *held[i]);
        *held[i] = 0;
    }
    words_drop(words, device_sent(device, true)->version);
}

void devices_forget(struct devices *devices, struct device *device)
{
    struct record *record = (struct record *)device;
    size_t count = devices_count(devices);
    devices_unmark(devices, device);
    devices->seen -= device->seen;
    unindex_tail(devices, record);
    leave_type(devices, device);
    drop_words(devices->words, device);
    drop_fs_transfer(devices, device);
    mac_index_remove(&devices->index, &device->mac, record->device.number);
    devices->all[device->place] = devices->all[count - 1]; /* the last takes its place */
    devices->all[device->place]->device.place = device->place;
    devices->count--;
    record->next_of_tail = devices->free_records;
    devices->free_records = record;
}

void device_saw(struct devices *devices, struct device *device, const struct device_sighting *sighting,
                const struct moment *now)
{
    const struct device_request *request = sighting->request;
    bool fs = request->mode == DEVICE_MODE_FS;
    devices->seen += !device->seen;
    device->seen = true;
    device->client = (uint8_t)request->client;
    device->reason = (uint8_t)sighting->reason;
    device->reason_fs = fs;
    device->via_proxy = sighting->via_proxy;
    memcpy(device->address, sighting->address, sizeof device->address);
    device->first_seen_s = device->first_seen_s > 0 ? device->first_seen_s : now->unix_s;
    device->seen_s = now->unix_s;
    if (request->has_md5) {
        device->has_md5 = true;
        memcpy(device->md5, request->sketch_md5, sizeof device->md5);
    }
    if (request->chip != CHIP_UNKNOWN || sighting->chip != CHIP_UNKNOWN) {
        device->chip = (uint16_t)(request->chip != CHIP_UNKNOWN ? request->chip : sighting->chip);
    }
    if (sighting->flash_mode != FLASH_MODE_UNKNOWN) {
        device->flash_mode = sighting->flash_mode;
    }
    device->flash_bytes = request->flash_bytes > 0 ? (uint32_t)request->flash_bytes : device->flash_bytes;
    device->free_bytes = request->free_bytes > 0 ? (uint32_t)request->free_bytes : device->free_bytes;
    device->sketch_bytes = request->sketch_bytes > 0 ? (uint32_t)request->sketch_bytes : device->sketch_bytes;
    if (request->label.at != NULL) {
        words_set(devices->words, fs ? &device->fs_version : &device->version, request->label);
    }
    if (request->sdk.len > 0) {
        words_set(devices->words, &device->sdk, request->sdk);
    }
}

struct device_transfer *devices_take_sent(struct devices *devices, struct device *device, bool fs)
{
    if (fs && device->fs_transfer == NULL) {
        device->fs_transfer = calloc(1, sizeof *device->fs_transfer);
        assert(device->fs_transfer != NULL);
        devices->fs_transfers++;
    }
    return fs ? device->fs_transfer : &device->transfer;
}

/* --- all ---------------------------------------------------------------------------------------------------------- */

struct device *devices_at(const struct devices *devices, size_t i)
{
    assert(i < devices_count(devices));
    return &devices->all[i]->device;
}

bool devices_walk(const struct devices *devices, uint64_t *number, struct device **device)
{
    bool more = *number < devices->numbers;
    struct record *record = more ? record_at(devices, (*number)++) : NULL; /* one forgotten has another in its place */
    bool lives = more && record->device.place < devices->count && devices->all[record->device.place] == record;
    *device = lives ? &record->device : NULL;
    return more;
}

size_t devices_count(const struct devices *devices)
{
    return devices->count;
}

size_t devices_seen(const struct devices *devices)
{
    return devices->seen;
}

uint64_t devices_forgotten(const struct devices *devices)
{
    return devices->forgotten;
}

size_t devices_bytes(const struct devices *devices)
{
    size_t blocks = (devices->numbers + BLOCK_RECORDS - 1) / BLOCK_RECORDS;
    blocks = blocks < BLOCKS ? blocks : BLOCKS;
    return blocks * BLOCK_RECORDS * sizeof(struct record) + devices->page_count * HUGE_PAGE_BYTES +
           (devices->page_room + devices->all_room + TAIL_BUCKETS) * sizeof(struct record *) +
           devices->index.size * sizeof devices->index.slots[0] +
           devices->fs_transfers * (sizeof(struct device_transfer) + FS_TRANSFER_OVERHEAD);
}

struct words *devices_words(const struct devices *devices)
{
    return devices->words;
}
