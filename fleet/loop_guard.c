/* A table that is also a queue: uthash keeps its entries in the order of insertion, so re-inserting on each transfer
 * makes the first entry the one served longest ago. */
#include "fleet/loop_guard.h"

#include "fleet/mac_hash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define KEY_BYTES 7

struct entry {
    uint8_t key[KEY_BYTES]; /* MAC and what was served: sketch or file system */
    uint8_t md5[16];
    unsigned served; /* whole transfers of this image */
    uint64_t free_at_ms;
    uint64_t backoff_ms;
    UT_hash_handle hh;
};

struct loop_guard {
    struct mac_hash_seed seed;
    struct entry *entries;
    size_t devices_max;
};

struct loop_guard *loop_guard_new(size_t devices_max)
{
    struct loop_guard *guard = calloc(1, sizeof *guard);
    assert(guard != NULL && devices_max > 0);
    guard->seed = mac_hash_seed_draw();
    guard->devices_max = devices_max;
    return guard;
}

void loop_guard_free(struct loop_guard *guard)
{
    struct entry *entry, *next;
    HASH_ITER(hh, guard->entries, entry, next)
    {
        HASH_DEL(guard->entries, entry);
        free(entry);
    }
    free(guard);
}

static unsigned hash(const struct loop_guard *guard, const uint8_t key[KEY_BYTES])
{
    struct mac mac;
    memcpy(mac.bytes, key, sizeof mac.bytes);
    return mac_hash(&guard->seed, &mac) + key[KEY_BYTES - 1];
}

static struct entry *find(const struct loop_guard *guard, const struct loop_guard_key *key)
{
    uint8_t bytes[KEY_BYTES];
    struct entry *entry = NULL;
    memcpy(bytes, key->mac.bytes, 6);
    bytes[6] = key->fs;
    HASH_FIND_BYHASHVALUE(hh, guard->entries, bytes, sizeof bytes, hash(guard, bytes), entry);
    return entry;
}

bool loop_guard_holds(const struct loop_guard *guard, const struct loop_guard_key *key, const uint8_t md5[16],
                      unsigned served_max, uint64_t now_ms, uint64_t *wait_ms)
{
    const struct entry *entry = find(guard, key);
    if (entry == NULL || memcmp(entry->md5, md5, 16) != 0 || entry->served < served_max ||
        now_ms >= entry->free_at_ms) {
        return false;
    }
    *wait_ms = entry->free_at_ms - now_ms;
    return true;
}

unsigned loop_guard_served(const struct loop_guard *guard, const struct loop_guard_key *key, const uint8_t md5[16])
{
    const struct entry *entry = find(guard, key);
    return entry != NULL && memcmp(entry->md5, md5, 16) == 0 ? entry->served : 0;
}

static struct entry *entry_new(const struct loop_guard_key *key)
{
    struct entry *entry = calloc(1, sizeof *entry);
    assert(entry != NULL);
    memcpy(entry->key, key->mac.bytes, 6);
    entry->key[6] = key->fs;
    return entry;
}

/* The device's entry, of this image, the youngest from now on; the caller puts it in. */
static struct entry *take(struct loop_guard *guard, const struct loop_guard_key *key, const uint8_t md5[16])
{
    struct entry *entry = find(guard, key);
    if (entry != NULL) {
        HASH_DEL(guard->entries, entry);
    } else {
        entry = entry_new(key);
    }
    if (memcmp(entry->md5, md5, 16) != 0) {
        memcpy(entry->md5, md5, 16);
        entry->served = 0;
        entry->backoff_ms = 0;
    }
    return entry;
}

static void put(struct loop_guard *guard, struct entry *entry)
{
    if (HASH_COUNT(guard->entries) >= guard->devices_max) {
        struct entry *oldest = guard->entries;
        HASH_DEL(guard->entries, oldest);
        free(oldest);
    }
    HASH_ADD_BYHASHVALUE(hh, guard->entries, key, sizeof entry->key, hash(guard, entry->key), entry);
}

static void back_off(struct entry *entry)
{
    uint64_t next = entry->backoff_ms == 0 ? LOOP_GUARD_BACKOFF_MS : entry->backoff_ms * 2;
    entry->backoff_ms = next < LOOP_GUARD_BACKOFF_MAX_MS ? next : LOOP_GUARD_BACKOFF_MAX_MS;
}

void loop_guard_sent(struct loop_guard *guard, const struct loop_guard_key *key, const uint8_t md5[16],
                     unsigned served_max, uint64_t now_ms)
{
    struct entry *entry = take(guard, key, md5);
    if (++entry->served >= served_max) {
        back_off(entry);
        entry->free_at_ms = now_ms + entry->backoff_ms;
    }
    put(guard, entry);
}

void loop_guard_restore(struct loop_guard *guard, const struct loop_guard_key *key, const uint8_t md5[16],
                        unsigned served, unsigned served_max, uint64_t ago_ms, uint64_t now_ms)
{
    struct entry *entry = take(guard, key, md5);
    unsigned beyond = served >= served_max && served > entry->served ? served - served_max + 1 : 0;
    for (unsigned i = 0; i < beyond && entry->backoff_ms < LOOP_GUARD_BACKOFF_MAX_MS; i++) {
        back_off(entry);
    }
    entry->served = served > entry->served ? served : entry->served;
    entry->free_at_ms = ago_ms < entry->backoff_ms ? now_ms + (entry->backoff_ms - ago_ms) : 0;
    put(guard, entry);
}

void loop_guard_forget(struct loop_guard *guard, const struct loop_guard_key *key)
{
    struct entry *entry = find(guard, key);
    if (entry != NULL) {
        HASH_DEL(guard->entries, entry);
        free(entry);
    }
}

size_t loop_guard_count(const struct loop_guard *guard)
{
    return HASH_COUNT(guard->entries);
}
