/* What the tests of the store share: a state folder of their own, rows that fill every field, and what a store holds as
 * one number, so that two states of it can be compared. */
#ifndef TESTS_UNIT_FLEET_STORE_FIXTURE_H
#define TESTS_UNIT_FLEET_STORE_FIXTURE_H

#include "fleet/store_queue.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MESSAGE_SIZE 600

/* --- the state folder ---------------------------------------------------------------------------------------------*/

static char state_dir[64], state_file[96];

static inline int make_state(void **state)
{
    (void)state;
    snprintf(state_dir, sizeof state_dir, "/tmp/updraft-store-XXXXXX");
    assert_non_null(mkdtemp(state_dir));
    snprintf(state_file, sizeof state_file, "%s/updraft.db", state_dir);
    return 0;
}

static inline void empty_folder(const char *folder)
{
    char path[400];
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            (void)(unlink(path) != 0 && rmdir(path) != 0);
        }
    }
    (void)closedir(dir);
}

static inline int remove_state(void **state)
{
    (void)state;
    (void)chmod(state_dir, 0700);
    empty_folder(state_dir);
    (void)rmdir(state_dir);
    return 0;
}

/* The whole file; NULL = there is none. To be freed. */
static inline char *file_bytes(const char *path, size_t *size)
{
    struct stat found;
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        return NULL;
    }
    assert_int_equal(fstat(fd, &found), 0);
    *size = (size_t)found.st_size;
    char *bytes = malloc(*size + 1);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, *size), *size);
    (void)close(fd);
    return bytes;
}

static inline void write_file(const char *path, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    (void)close(fd);
}

/* As a machine finds it after its process was killed: the database and its log, without the shared memory. */
static inline void copy_state(const char *to)
{
    static const char *const names[] = { "updraft.db", "updraft.db-wal", "updraft.db-journal" };
    char from_path[400], to_path[400];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t size = 0;
        snprintf(from_path, sizeof from_path, "%s/%s", state_dir, names[i]);
        snprintf(to_path, sizeof to_path, "%s/%s", to, names[i]);
        char *bytes = file_bytes(from_path, &size);
        if (bytes != NULL) {
            write_file(to_path, bytes, size);
        }
        free(bytes);
    }
}

/* --- chance -------------------------------------------------------------------------------------------------------*/

static uint64_t random_state;

/* UPDRAFT_SEED brings the same again. */
static inline void seed_random(void)
{
    const char *seed = getenv("UPDRAFT_SEED");
    random_state = seed != NULL ? strtoull(seed, NULL, 10) : uv_hrtime();
    printf("UPDRAFT_SEED=%llu\n", (unsigned long long)random_state);
}

static inline uint32_t below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

/* --- rows ---------------------------------------------------------------------------------------------------------*/

static inline struct mac mac_of(uint64_t number)
{
    struct mac mac;
    for (int i = 5; i >= 0; i--, number >>= 8) {
        mac.bytes[i] = (uint8_t)number;
    }
    return mac;
}

static inline uint64_t mac_number(const struct mac *mac)
{
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof mac->bytes; i++) {
        number = number << 8 | mac->bytes[i];
    }
    return number;
}

/* All its bytes, no two neighbours alike, and others for another seed. What must not be any bytes (texts, words,
 * counts, bool) is set behind it: so a field that the store forgets comes back as zeros, and is found. */
static inline void fill(void *row, size_t size, unsigned seed)
{
    uint8_t *bytes = row;
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(1 + (i * 37 + seed * 101) % 255);
    }
}

static inline void fill_text(char *text, size_t size, const char *name, unsigned seed)
{
    memset(text, 0, size);
    snprintf(text, size, "%s %u", name, seed);
}

#define TEXT(row, field, seed) fill_text((row)->field, sizeof(row)->field, #field, seed)
#define FLAG(row, field, seed) ((row)->field = ((seed)*2654435761u >> (__COUNTER__ % 24) & 1) != 0)

static inline struct store_change *full_device(unsigned seed)
{
    struct store_change *change = store_change_new(STORE_DEVICE);
    struct store_device *row = &change->row.device;
    fill(row, sizeof *row, seed);
    row->gone = false;
    TEXT(row, type, seed);
    TEXT(row, version, seed);
    TEXT(row, fs_version, seed);
    TEXT(row, sdk, seed);
    TEXT(row, transfer.version, seed);
    TEXT(row, fs_transfer.version, seed);
    memset(row->sdk, 'x', sizeof row->sdk - 1); /* the longest */
    row->mac = mac_of(0xfedcba000000 + seed);
    row->gone = false;
    row->client = (uint8_t)(seed % (CLIENT_ESP32 + 1));
    row->reason = (uint8_t)(seed % REASON_COUNT);
    row->transfer.outcome = (uint8_t)(seed % OUTCOME_COUNT);
    row->fs_transfer.outcome = (uint8_t)((seed + 1) % OUTCOME_COUNT);
    FLAG(row, has_md5, seed);
    FLAG(row, reason_fs, seed);
    FLAG(row, came_back, seed);
    FLAG(row, via_proxy, seed);
    if (!row->has_md5) {
        memset(row->md5, 0, sizeof row->md5);
    }
    struct never_again_entry *failed = &row->never_again;
    failed->count = (uint8_t)(seed % (NEVER_AGAIN_OF_DEVICE + 1));
    failed->mac = row->mac;
    memset(failed->images + failed->count, 0, (NEVER_AGAIN_OF_DEVICE - failed->count) * sizeof failed->images[0]);
    for (size_t i = 0; i < failed->count; i++) {
        failed->images[i].rolled_back = (seed + i) % 2 == 0;
    }
    return change;
}

static inline struct store_change *full_policy(unsigned seed)
{
    struct store_change *change = store_change_new(STORE_POLICY);
    struct store_policy *row = &change->row.policy;
    fill(row, sizeof *row, seed);
    row->mac = mac_of(0xabcdef000000 + seed);
    row->gone = false;
    FLAG(row, blocked, seed);
    FLAG(row, approved, seed);
    TEXT(row, type, seed);
    TEXT(row, label, seed);
    TEXT(row, pin, seed);
    TEXT(row, note, seed);
    memset(row->groups, 0, sizeof row->groups);
    row->group_count = (uint8_t)(seed % (STORE_GROUPS_MAX + 1));
    for (size_t i = 0; i < row->group_count; i++) {
        memset(row->groups[i], 'a' + (int)i, STORE_TEXT_MAX); /* as long as they may be: all of them fit */
    }
    return change;
}

static inline void rollout_id(char id[ANNOUNCE_ID_SIZE], unsigned seed)
{
    snprintf(id, ANNOUNCE_ID_SIZE, "%016x", seed);
}

static inline struct store_change *full_rollout(unsigned seed)
{
    struct store_change *change = store_change_new(STORE_ROLLOUT);
    struct rollout *row = &change->row.rollout.rollout;
    struct rollout_order *order = &row->order;
    struct rollout_target *target = &order->target;
    fill(row, sizeof *row, seed);
    rollout_id(row->id, seed);
    rollout_id(row->supersedes, seed + 1000);
    rollout_id(row->superseded_by, seed + 2000);
    row->cause = (enum rollout_cause)(seed % ROLLOUT_CAUSES);
    FLAG(row, strangers, seed);
    TEXT(row, why, seed);
    TEXT(target, file, seed);
    TEXT(target, type, seed);
    TEXT(target, version, seed);
    TEXT(target, passed_over, seed);
    TEXT(order, group, seed);
    row->state = (enum rollout_state)(seed % ROLLOUT_STATES);
    row->before = (enum rollout_state)((seed + 1) % ROLLOUT_STATES);
    FLAG(row, distrusted, seed);
    row->word_only = false; /* its members are not kept */
    FLAG(row, gathered, seed);
    FLAG(row, told_type, seed);
    FLAG(row, window.stalled_once, seed);
    FLAG(target, fs, seed);
    FLAG(order, named, seed);
    target->image_count = 1 + seed % 2;
    target->run_md5_count = seed % 9;
    memset(target->md5[target->image_count], 0, (ROLLOUT_FORMS_MAX - target->image_count) * 16);
    memset(target->run_md5[target->run_md5_count], 0, (ROLLOUT_RUN_MD5_MAX - target->run_md5_count) * 16);
    for (size_t i = 0; i < ROLLOUT_DEVICE_STATES; i++) {
        row->devices[i] = (seed + i) % 3 > 0 ? 1 + seed * 1000003 + i : 0;
    }
    memset(&row->skipped_for, 0, sizeof row->skipped_for);
    for (size_t i = 0; i < seed % (ROLLOUT_REASONS_MAX + 1); i++) {
        row->skipped_for.all[i].count = 1 + seed * 1000003 + i;
        snprintf(row->skipped_for.all[i].word, ROLLOUT_REASON_SIZE, "reason %zu of %u", i, seed);
    }
    order->device_count = seed % 4 == 0 ? ROLLOUT_NAMED_MAX : seed % 4;
    order->devices = calloc(order->device_count + 1, sizeof(struct mac));
    assert_non_null(order->devices);
    fill(order->devices, order->device_count * sizeof(struct mac), seed);
    /* of the running process alone: follows from other fields, or begins anew */
    row->since_ms = row->news_ms = row->window.halved_ms = 0;
    row->window.flowed = 0;
    row->window.fixed = order->in_flight;
    row->in_flight = 0;
    row->table = NULL;
    return change;
}

static inline struct store_change *full_member(unsigned seed, unsigned rollout)
{
    struct store_change *change = store_change_new(STORE_MEMBER);
    struct store_member *row = &change->row.member;
    fill(row, sizeof *row, seed);
    rollout_id(row->rollout, rollout);
    row->mac = mac_of(0x123456000000 + seed);
    row->state = (uint8_t)(seed % ROLLOUT_DEVICE_STATES);
    row->mark = (uint8_t)(seed % ROLLOUT_MARKS);
    row->armed = row->state == ROLLOUT_DEVICE_QUEUED ? 1 + seed * 7919 % 1000 : 0;
    FLAG(row, canary, seed);
    TEXT(row, why, seed);
    return change;
}

static inline struct store_change *full_event(unsigned seed, uint64_t mac)
{
    struct store_change *change = store_change_new(STORE_EVENT);
    struct store_event *row = &change->row.event;
    fill(row, sizeof *row, seed);
    row->mac = mac_of(mac);
    TEXT(row, word, seed);
    TEXT(row, text, seed);
    return change;
}

/* --- a store ------------------------------------------------------------------------------------------------------*/

static inline bool ignore_row(void *owner, const struct store_change *row)
{
    (void)owner;
    (void)row;
    return true;
}

/* Opens and reads it, as a start does. */
static inline void *open_store(const char *dir)
{
    char message[MESSAGE_SIZE] = "";
    void *store = NULL;
    bool opened = store_sqlite.open(dir, &store, message, sizeof message) == STATUS_OK;
    if (!opened || store_sqlite.load(store, ignore_row, NULL, message, sizeof message) != STATUS_OK) {
        fail_msg("%s", message);
    }
    return store;
}

/* Writes and frees them. */
static inline enum status write_all(void *store, struct store_change **changes, size_t n, bool durable,
                                    char message[MESSAGE_SIZE])
{
    enum status status =
        store_sqlite.write(store, (const struct store_change *const *)changes, n, durable, message, MESSAGE_SIZE);
    for (size_t i = 0; i < n; i++) {
        store_change_free(changes[i]);
    }
    return status;
}

static inline void write_one(void *store, struct store_change *change)
{
    char message[MESSAGE_SIZE] = "";
    if (write_all(store, &change, 1, true, message) != STATUS_OK) {
        fail_msg("%s", message);
    }
}

/* Rows as they were read, in their order. */
struct loaded {
    struct store_change *rows[4096];
    size_t count;
};

static inline bool keep_row(void *owner, const struct store_change *row)
{
    struct loaded *loaded = owner;
    struct store_change *copy = store_change_new(row->kind);
    switch (row->kind) {
    case STORE_DEVICE:
        memcpy(&copy->row.device, &row->row.device, sizeof row->row.device);
        break;
    case STORE_POLICY:
        memcpy(&copy->row.policy, &row->row.policy, sizeof row->row.policy);
        break;
    case STORE_SEEN:
        memcpy(&copy->row.seen, &row->row.seen, sizeof row->row.seen);
        break;
    case STORE_MEMBER:
        memcpy(&copy->row.member, &row->row.member, sizeof row->row.member);
        break;
    default: {
        struct rollout_order *order = &copy->row.rollout.rollout.order;
        memcpy(&copy->row.rollout, &row->row.rollout, sizeof row->row.rollout);
        order->devices = calloc(order->device_count + 1, sizeof(struct mac));
        assert_non_null(order->devices);
        memcpy(order->devices, row->row.rollout.rollout.order.devices, order->device_count * sizeof(struct mac));
    }
    }
    assert_true(loaded->count < sizeof loaded->rows / sizeof loaded->rows[0]);
    loaded->rows[loaded->count++] = copy;
    return true;
}

static inline struct loaded *load_all(void *store)
{
    char message[MESSAGE_SIZE] = "";
    struct loaded *loaded = calloc(1, sizeof *loaded);
    assert_non_null(loaded);
    if (store_sqlite.load(store, keep_row, loaded, message, sizeof message) != STATUS_OK) {
        fail_msg("%s", message);
    }
    return loaded;
}

static inline void free_loaded(struct loaded *loaded)
{
    for (size_t i = 0; i < loaded->count; i++) {
        store_change_free(loaded->rows[i]);
    }
    free(loaded);
}

static inline size_t count_kind(const struct loaded *loaded, enum store_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; i < loaded->count; i++) {
        n += loaded->rows[i]->kind == kind;
    }
    return n;
}

#endif
