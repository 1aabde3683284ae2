/* The devices of one rollout: a table by MAC, counts by state that always agree with it, and what is left of it all
 * once the rollout has ended.
 *
 * What makes it hard is number. 200,000 records must be found at once, so there is an index that no stranger can steer
 * (fleet/mac_hash.h) and that grows seldom; and nobody may wait while they are let go, so an end moves only counts, and
 * the records go later, some at a time.
 */
#include "fleet/rollout_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE_NEWS_MAX 16 /* about four tries: one that is cut again and again would else keep its rollout open */
#define INDEX_SIZE_MIN  64

/* Where there is no word of it the end is not known: such devices are SILENT when the rollout ends. */
static const bool is_open[ROLLOUT_DEVICE_STATES] = {
    [ROLLOUT_DEVICE_TRIGGERED] = true,
    [ROLLOUT_DEVICE_DOWNLOADING] = true,
    [ROLLOUT_DEVICE_SENT] = true,
};

const char *rollout_device_word(enum rollout_device_state state)
{
    static const char *const words[] = {
#define X(name, word) [ROLLOUT_DEVICE_##name] = (word),
        ROLLOUT_DEVICE_LIST(X)
#undef X
    };
    assert((size_t)state < sizeof words / sizeof words[0]);
    return words[state];
}

bool rollout_device_is_open(enum rollout_device_state state)
{
    return is_open[state];
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

static struct rollout_device *device_at(const struct followed *followed, size_t i)
{
    return &followed->blocks[i / ROLLOUT_BLOCK_DEVICES][i % ROLLOUT_BLOCK_DEVICES];
}

/* Where the MAC stands in the index, or would stand. */
static uint32_t *index_place(const struct followed *followed, const struct mac *mac)
{
    size_t mask = followed->index_size - 1;
    size_t at = mac_hash(&followed->seed, mac) & mask;
    while (followed->index[at] != 0 && !mac_equal(&device_at(followed, followed->index[at] - 1)->mac, mac)) {
        at = (at + 1) & mask;
    }
    return &followed->index[at];
}

void followed_make_room(struct followed *followed, size_t devices)
{
    size_t size = followed->index_size > 0 ? followed->index_size : INDEX_SIZE_MIN;
    while (size < 2 * devices) {
        size *= 2;
    }
    if (size == followed->index_size) {
        return;
    }
    free(followed->index);
    followed->index = calloc(size, sizeof *followed->index);
    assert(followed->index != NULL);
    followed->index_size = size;
    for (size_t i = 0; i < followed->count; i++) {
        *index_place(followed, &device_at(followed, i)->mac) = (uint32_t)(i + 1);
    }
}

struct rollout_device *followed_find(const struct followed *followed, const struct mac *mac)
{
    uint32_t place = followed->index_size > 0 ? *index_place(followed, mac) : 0;
    return place > 0 ? device_at(followed, place - 1) : NULL;
}

/* Adds the device to the counts, or (-1) takes it out of them. */
static void count(struct followed *followed, const struct rollout_device *device, int by)
{
    struct rollout *rollout = &followed->rollout;
    rollout->devices[device->state] += (size_t)by;
    rollout->may_retry += device->may_retry ? (size_t)by : 0;
    followed->expected_open += device->expected && is_open[device->state] ? (size_t)by : 0;
    followed->expected_retrying += device->expected && device->may_retry ? (size_t)by : 0;
    rollout->expected += device->awaited ? (size_t)by : 0;
}

struct rollout_device *followed_add(struct followed *followed, const struct mac *mac, enum rollout_device_state state)
{
    size_t i = followed->count;
    if (i >= ROLLOUT_DEVICES_MAX) {
        return NULL;
    }
    struct rollout_device **block = &followed->blocks[i / ROLLOUT_BLOCK_DEVICES];
    if (*block == NULL) {
        *block = calloc(ROLLOUT_BLOCK_DEVICES, sizeof **block);
        assert(*block != NULL);
    }
    followed_make_room(followed, i + 1);
    struct rollout_device *device = device_at(followed, i);
    device->mac = *mac;
    device->state = (uint8_t)state;
    *index_place(followed, mac) = (uint32_t)(i + 1);
    followed->count++;
    count(followed, device, 1);
    return device;
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

static void set_state(struct followed *followed, struct rollout_device *device, enum rollout_device_state state,
                      const char *why)
{
    char *copy = why != NULL ? strdup(why) : NULL;
    assert(why == NULL || copy != NULL);
    count(followed, device, -1);
    device->state = (uint8_t)state;
    device->may_retry = false;
    count(followed, device, 1);
    free(device->why);
    device->why = copy;
}

void followed_expect(struct followed *followed, struct rollout_device *device)
{
    count(followed, device, -1);
    device->expected = true;
    device->awaited = device->state != ROLLOUT_DEVICE_CURRENT;
    count(followed, device, 1);
}

void followed_news(struct followed *followed, struct rollout_device *device, uint64_t now_ms)
{
    if (device->news < DEVICE_NEWS_MAX) {
        device->news++;
        followed->rollout.news_ms = now_ms;
    }
}

void followed_move(struct followed *followed, struct rollout_device *device, enum rollout_device_state state,
                   const char *why, uint64_t now_ms)
{
    if (device->state != state || why != NULL) {
        set_state(followed, device, state, why);
        followed_news(followed, device, now_ms);
    }
}

void followed_fail(struct followed *followed, struct rollout_device *device, const char *why, bool may_retry,
                   uint64_t now_ms)
{
    if (may_retry && device->news < DEVICE_NEWS_MAX) {
        followed->cut_ms = now_ms;
    }
    followed_move(followed, device, ROLLOUT_DEVICE_FAILED, why, now_ms);
    count(followed, device, -1);
    device->may_retry = may_retry;
    count(followed, device, 1);
}

/* What is proven, or has finally failed, stays as it is. */
void followed_take(struct followed *followed, struct rollout_device *device, const char *why)
{
    bool has_ended = !is_open[device->state] && !device->may_retry;
    if (!has_ended) {
        set_state(followed, device, ROLLOUT_DEVICE_SUPERSEDED, why);
    }
    count(followed, device, -1);
    device->expected = device->expected && has_ended;
    device->awaited = device->awaited && has_ended;
    device->taken = true;
    count(followed, device, 1);
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

void followed_close(struct followed *followed, enum rollout_device_state became)
{
    size_t *devices = followed->rollout.devices;
    followed->open_became = became;
    for (size_t state = 0; state < ROLLOUT_DEVICE_STATES; state++) {
        if (is_open[state]) {
            devices[became] += devices[state];
            devices[state] = 0;
        }
    }
    followed->expected_open = 0;
    free(followed->index);
    followed->index = NULL;
    followed->index_size = 0;
}

static const int kept_as[ROLLOUT_DEVICE_STATES] = {
    [ROLLOUT_DEVICE_TRIGGERED] = -1,
    [ROLLOUT_DEVICE_DOWNLOADING] = -1,
    [ROLLOUT_DEVICE_SENT] = -1,
    [ROLLOUT_DEVICE_CONFIRMED] = -1,
    [ROLLOUT_DEVICE_CURRENT] = -1,
    [ROLLOUT_DEVICE_FAILED] = ROLLOUT_KEPT_FAILED,
    [ROLLOUT_DEVICE_SILENT] = ROLLOUT_KEPT_SILENT,
    [ROLLOUT_DEVICE_SUPERSEDED] = ROLLOUT_KEPT_SUPERSEDED,
};

/* Keeps what the operator may want to see of it; `why` goes with it. */
static void keep_or_drop(struct followed *followed, struct rollout_device *device)
{
    if (is_open[device->state]) {
        device->state = (uint8_t)followed->open_became;
        if (device->state == ROLLOUT_DEVICE_SUPERSEDED) {
            device->why = strdup(followed->rollout.why);
            assert(device->why != NULL);
        }
    }
    int kind = kept_as[device->state];
    if (kind < 0 || followed->kept_count[kind] == ROLLOUT_LISTED_MAX) {
        free(device->why);
        return;
    }
    size_t n = followed->kept_count[kind];
    if (n == 0 || (n & (n - 1)) == 0) { /* full at each power of two */
        followed->kept[kind] = realloc(followed->kept[kind], (n == 0 ? 1 : 2 * n) * sizeof *followed->kept[kind]);
        assert(followed->kept[kind] != NULL);
    }
    followed->kept[kind][followed->kept_count[kind]++] = *device;
}

size_t followed_tidy(struct followed *followed, size_t records)
{
    size_t first = followed->tidied;
    while (followed->tidied < followed->count && followed->tidied - first < records) {
        keep_or_drop(followed, device_at(followed, followed->tidied++));
        if (followed->tidied % ROLLOUT_BLOCK_DEVICES == 0 || followed->tidied == followed->count) {
            struct rollout_device **block = &followed->blocks[(followed->tidied - 1) / ROLLOUT_BLOCK_DEVICES];
            free(*block);
            *block = NULL;
        }
    }
    return followed->tidied - first;
}

void followed_free(struct followed *followed)
{
    struct rollout *rollout = &followed->rollout;
    for (size_t i = followed->tidied; i < followed->count; i++) {
        free(device_at(followed, i)->why);
    }
    for (size_t b = 0; b < sizeof followed->blocks / sizeof followed->blocks[0]; b++) {
        free(followed->blocks[b]);
    }
    for (size_t kind = 0; kind < ROLLOUT_KEPT_KINDS; kind++) {
        for (size_t i = 0; i < followed->kept_count[kind]; i++) {
            free(followed->kept[kind][i].why);
        }
        free(followed->kept[kind]);
    }
    for (size_t i = 0; i < rollout->note_count; i++) {
        free(rollout->notes[i]);
    }
    free(followed->index);
    free(followed);
}

/* --- looking ------------------------------------------------------------------------------------------------------ */

/* Of one that has ended, the i-th of those that are kept; NULL behind the last. */
static const struct rollout_device *kept_at(const struct followed *followed, size_t i)
{
    size_t kind = 0, at = i;
    while (kind < ROLLOUT_KEPT_KINDS && at >= followed->kept_count[kind]) {
        at -= followed->kept_count[kind++];
    }
    return kind < ROLLOUT_KEPT_KINDS && i < ROLLOUT_LISTED_MAX ? &followed->kept[kind][at] : NULL;
}

static const struct rollout_device *shown_at(const struct followed *followed, size_t i)
{
    if (rollout_is_over(&followed->rollout)) {
        return kept_at(followed, i);
    }
    return i < followed->count ? device_at(followed, i) : NULL;
}

/* Who asks for the devices of a rollout in the moment in which it ended has them: nobody could tell why some are
 * missing. */
static void tidy_up(struct followed *followed)
{
    if (rollout_is_over(&followed->rollout)) {
        (void)followed_tidy(followed, SIZE_MAX);
    }
}

size_t rollout_devices(struct rollout *rollout, size_t first, struct rollout_device_view *views, size_t max)
{
    struct followed *followed = followed_of(rollout);
    const struct rollout_device *device;
    size_t written = 0;
    tidy_up(followed);
    while (written < max && (device = shown_at(followed, first + written)) != NULL) {
        views[written++] = (struct rollout_device_view){
            .mac = device->mac,
            .state = (enum rollout_device_state)device->state,
            .may_retry = device->may_retry,
            .why = device->why != NULL ? device->why : "",
        };
    }
    return written;
}

size_t rollout_unlisted(struct rollout *rollout)
{
    struct followed *followed = followed_of(rollout);
    size_t listed = 0;
    tidy_up(followed);
    for (size_t kind = 0; kind < ROLLOUT_KEPT_KINDS; kind++) {
        listed += followed->kept_count[kind];
    }
    listed = listed < ROLLOUT_LISTED_MAX ? listed : ROLLOUT_LISTED_MAX;
    return rollout_is_over(rollout) ? followed->count - listed : 0;
}

static void check_open(const struct followed *followed)
{
    struct followed sums = { .count = 0 };
    for (size_t i = 0; i < followed->count; i++) {
        const struct rollout_device *device = device_at(followed, i);
        bool has_why = device->state == ROLLOUT_DEVICE_FAILED || device->state == ROLLOUT_DEVICE_SUPERSEDED;
        assert(followed_find(followed, &device->mac) == device);
        assert(has_why == (device->why != NULL));
        assert(!device->may_retry || device->state == ROLLOUT_DEVICE_FAILED);
        assert(device->state != ROLLOUT_DEVICE_SUPERSEDED || device->taken);
        count(&sums, device, 1);
    }
    assert(memcmp(sums.rollout.devices, followed->rollout.devices, sizeof sums.rollout.devices) == 0);
    assert(sums.expected_open == followed->expected_open && sums.expected_retrying == followed->expected_retrying);
    assert(sums.rollout.may_retry == followed->rollout.may_retry);
    assert(sums.rollout.expected == followed->rollout.expected);
}

void rollout_check(const struct rollout *rollout)
{
    const struct followed *followed = (const struct followed *)rollout;
    size_t devices = 0;
    for (size_t state = 0; state < ROLLOUT_DEVICE_STATES; state++) {
        assert(!is_open[state] || !rollout_is_over(rollout) || rollout->devices[state] == 0);
        devices += rollout->devices[state];
    }
    assert(devices == followed->count && followed->tidied <= followed->count);
    assert(rollout->acknowledged + rollout->commands_failed <= rollout->commands);
    if (!rollout_is_over(rollout)) {
        check_open(followed);
    }
}
