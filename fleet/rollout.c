/* Each fact about a device moves it from one state to another, or changes nothing; the two tables below say which. What
 * makes it hard is all that facts leave out: a transfer that dies is noticed minutes later, when the device has long
 * begun the next; two devices share a MAC; a device asks before it has restarted. So transfers under way are counted,
 * a proof outranks what came before, and what is already proven is never taken back.
 *
 * Nothing waits for ever: a device's changes count as news a bounded number of times, and there are boundedly many.
 */
#include "fleet/rollout.h"

#include "fleet/mac_hash.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define BLOCK_DEVICES   256
#define DEVICE_NEWS_MAX 16 /* about four tries: one that is cut again and again would else keep its rollout open */
#define STRANGERS_MS    15000

struct rollout_device {
    struct mac mac;
    uint8_t state;
    bool expected;
    uint8_t news;       /* how often a change of it was news */
    uint16_t transfers; /* under way, of all that use this MAC */
    char *why;          /* of FAILED; NULL else */
    UT_hash_handle hh;
};

/* A rollout with what only this room knows. Devices never leave, so the i-th that joined lies at a fixed place. */
struct followed {
    struct rollout rollout; /* the first member: a rollout is followed */
    struct version version; /* the target's; .text "" where it reads as none */
    struct mac_hash_seed seed;
    size_t expected_open;  /* devices expected, whose end is not known */
    char command_why[160]; /* of the last command that failed */
    struct rollout_device *blocks[ROLLOUT_DEVICES_MAX / BLOCK_DEVICES + 1];
};

struct rollouts {
    rollout_changed_fn on_changed;
    void *owner;
    size_t count;
    struct followed *items[ROLLOUTS_MAX]; /* the oldest first */
};

const char *rollout_state_word(enum rollout_state state)
{
    static const char *const words[] = {
#define X(name, word) [ROLLOUT_##name] = (word),
        ROLLOUT_STATE_LIST(X)
#undef X
    };
    assert((size_t)state < sizeof words / sizeof words[0]);
    return words[state];
}

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

/* --- the tables --------------------------------------------------------------------------------------------------- */

/* Where there is no word of it the end is not known: such devices are SILENT when the rollout ends. */
static const bool is_open[ROLLOUT_DEVICE_STATES] = {
    [ROLLOUT_DEVICE_TRIGGERED] = true,
    [ROLLOUT_DEVICE_DOWNLOADING] = true,
    [ROLLOUT_DEVICE_SENT] = true,
};

/* It is seen to run the target. Who never pulled ran it already. */
static const enum rollout_device_state after_proof[ROLLOUT_DEVICE_STATES] = {
    [ROLLOUT_DEVICE_TRIGGERED] = ROLLOUT_DEVICE_CURRENT, [ROLLOUT_DEVICE_DOWNLOADING] = ROLLOUT_DEVICE_CONFIRMED,
    [ROLLOUT_DEVICE_SENT] = ROLLOUT_DEVICE_CONFIRMED,    [ROLLOUT_DEVICE_CONFIRMED] = ROLLOUT_DEVICE_CONFIRMED,
    [ROLLOUT_DEVICE_CURRENT] = ROLLOUT_DEVICE_CURRENT,   [ROLLOUT_DEVICE_FAILED] = ROLLOUT_DEVICE_CONFIRMED,
    [ROLLOUT_DEVICE_SILENT] = ROLLOUT_DEVICE_SILENT,
};

/* It begins to pull. CURRENT ones do when what was known of them was out of date; CONFIRMED ones ask unconditionally,
 * or have a twin. */
static const enum rollout_device_state after_begin[ROLLOUT_DEVICE_STATES] = {
    [ROLLOUT_DEVICE_TRIGGERED] = ROLLOUT_DEVICE_DOWNLOADING, [ROLLOUT_DEVICE_DOWNLOADING] = ROLLOUT_DEVICE_DOWNLOADING,
    [ROLLOUT_DEVICE_SENT] = ROLLOUT_DEVICE_DOWNLOADING,      [ROLLOUT_DEVICE_CONFIRMED] = ROLLOUT_DEVICE_CONFIRMED,
    [ROLLOUT_DEVICE_CURRENT] = ROLLOUT_DEVICE_DOWNLOADING,   [ROLLOUT_DEVICE_FAILED] = ROLLOUT_DEVICE_DOWNLOADING,
    [ROLLOUT_DEVICE_SILENT] = ROLLOUT_DEVICE_SILENT,
};

/* --- devices of a rollout ----------------------------------------------------------------------------------------- */

static struct followed *followed_of(struct rollout *rollout)
{
    return (struct followed *)rollout;
}

static struct rollout_device *find_device(const struct followed *followed, const struct mac *mac)
{
    struct rollout_device *device = NULL;
    HASH_FIND_BYHASHVALUE(hh, followed->rollout.table, mac, sizeof *mac, mac_hash(&followed->seed, mac), device);
    return device;
}

static struct rollout_device *device_at(const struct followed *followed, size_t i)
{
    return &followed->blocks[i / BLOCK_DEVICES][i % BLOCK_DEVICES];
}

/* NULL where ROLLOUT_DEVICES_MAX are followed. */
static struct rollout_device *add_device(struct followed *followed, const struct mac *mac,
                                         enum rollout_device_state state, bool expected)
{
    size_t i = HASH_COUNT(followed->rollout.table);
    if (i >= ROLLOUT_DEVICES_MAX) {
        return NULL;
    }
    struct rollout_device **block = &followed->blocks[i / BLOCK_DEVICES];
    if (*block == NULL) {
        *block = calloc(BLOCK_DEVICES, sizeof **block);
        assert(*block != NULL);
    }
    struct rollout_device *device = device_at(followed, i);
    device->mac = *mac;
    device->state = (uint8_t)state;
    device->expected = expected;
    followed->rollout.devices[state]++;
    followed->expected_open += expected && is_open[state];
    HASH_ADD_BYHASHVALUE(hh, followed->rollout.table, mac, sizeof *mac, mac_hash(&followed->seed, mac), device);
    return device;
}

static void set_state(struct followed *followed, struct rollout_device *device, enum rollout_device_state state,
                      const char *why)
{
    followed->rollout.devices[device->state]--;
    followed->expected_open -= device->expected && is_open[device->state];
    device->state = (uint8_t)state;
    followed->rollout.devices[state]++;
    followed->expected_open += device->expected && is_open[state];
    free(device->why);
    device->why = why != NULL ? strdup(why) : NULL;
    assert(why == NULL || device->why != NULL);
}

static void news(struct followed *followed, struct rollout_device *device, uint64_t now_ms)
{
    if (device->news < DEVICE_NEWS_MAX) {
        device->news++;
        followed->rollout.news_ms = now_ms;
    }
}

static void move(struct followed *followed, struct rollout_device *device, enum rollout_device_state state,
                 const char *why, uint64_t now_ms)
{
    if (device->state != state || why != NULL) {
        set_state(followed, device, state, why);
        news(followed, device, now_ms);
    }
}

void rollout_check(const struct rollout *rollout)
{
    const struct followed *followed = (const struct followed *)rollout;
    size_t devices[ROLLOUT_DEVICE_STATES] = { 0 }, expected_open = 0;
    for (size_t i = 0; i < HASH_COUNT(rollout->table); i++) {
        const struct rollout_device *device = device_at(followed, i);
        assert(find_device(followed, &device->mac) == device);
        assert((device->state == ROLLOUT_DEVICE_FAILED) == (device->why != NULL));
        assert(!rollout_is_over(rollout) || !is_open[device->state]);
        devices[device->state]++;
        expected_open += device->expected && is_open[device->state];
    }
    assert(memcmp(devices, rollout->devices, sizeof devices) == 0 && expected_open == followed->expected_open);
    assert(rollout->acknowledged + rollout->commands_failed <= rollout->commands);
}

size_t rollout_devices(const struct rollout *rollout, size_t first, struct rollout_device_view *views, size_t max)
{
    size_t written = 0;
    for (size_t i = first; i < HASH_COUNT(rollout->table) && written < max; i++) {
        const struct rollout_device *device = device_at((const struct followed *)rollout, i);
        views[written++] = (struct rollout_device_view){
            .mac = device->mac,
            .state = (enum rollout_device_state)device->state,
            .why = device->why != NULL ? device->why : "",
        };
    }
    return written;
}

/* --- a rollout's life --------------------------------------------------------------------------------------------- */

bool rollout_is_over(const struct rollout *rollout)
{
    return rollout->state == ROLLOUT_DONE || rollout->state == ROLLOUT_FAILED;
}

static void run(struct rollouts *rollouts, struct rollout *rollout, uint64_t now_ms)
{
    rollout->state = ROLLOUT_RUNNING;
    rollout->running_ms = now_ms;
    rollout->news_ms = now_ms;
    rollouts->on_changed(rollouts->owner, rollout);
}

static void end(struct rollouts *rollouts, struct rollout *rollout, enum rollout_state state, uint64_t now_ms)
{
    struct followed *followed = followed_of(rollout);
    assert(!rollout_is_over(rollout));
    for (size_t i = 0; i < HASH_COUNT(rollout->table); i++) {
        struct rollout_device *device = device_at(followed, i);
        if (is_open[device->state]) {
            set_state(followed, device, ROLLOUT_DEVICE_SILENT, NULL);
        }
    }
    assert(followed->expected_open == 0);
    rollout->state = state;
    rollout->ended_ms = now_ms;
    rollouts->on_changed(rollouts->owner, rollout);
}

static void fail(struct rollouts *rollouts, struct rollout *rollout, const char *why, uint64_t now_ms)
{
    snprintf(rollout->why, sizeof rollout->why, "%s", why);
    end(rollouts, rollout, ROLLOUT_FAILED, now_ms);
}

static void forget(struct rollouts *rollouts, size_t i)
{
    struct followed *followed = rollouts->items[i];
    for (size_t d = 0; d < HASH_COUNT(followed->rollout.table); d++) {
        free(device_at(followed, d)->why);
    }
    HASH_CLEAR(hh, followed->rollout.table);
    for (size_t b = 0; b < sizeof followed->blocks / sizeof followed->blocks[0]; b++) {
        free(followed->blocks[b]);
    }
    free(followed);
    rollouts->count--;
    for (; i < rollouts->count; i++) {
        rollouts->items[i] = rollouts->items[i + 1];
    }
}

struct rollouts *rollouts_new(rollout_changed_fn on_changed, void *owner)
{
    struct rollouts *rollouts = calloc(1, sizeof *rollouts);
    assert(rollouts != NULL && on_changed != NULL);
    rollouts->on_changed = on_changed;
    rollouts->owner = owner;
    return rollouts;
}

void rollouts_free(struct rollouts *rollouts)
{
    while (rollouts->count > 0) {
        forget(rollouts, rollouts->count - 1);
    }
    free(rollouts);
}

static void supersede(struct rollouts *rollouts, const struct rollout_target *target, const char *id, uint64_t now_ms)
{
    for (size_t i = 0; i < rollouts->count; i++) {
        struct rollout *rollout = &rollouts->items[i]->rollout;
        const struct rollout_target *old = &rollout->order.target;
        if (!rollout_is_over(rollout) && old->fs == target->fs && strcmp(old->type, target->type) == 0) {
            snprintf(rollout->why, sizeof rollout->why, "superseded by %s", id);
            end(rollouts, rollout, ROLLOUT_DONE, now_ms);
        }
    }
}

static bool make_room(struct rollouts *rollouts)
{
    for (size_t i = 0; rollouts->count == ROLLOUTS_MAX && i < rollouts->count; i++) {
        if (rollout_is_over(&rollouts->items[i]->rollout)) {
            forget(rollouts, i);
        }
    }
    return rollouts->count < ROLLOUTS_MAX;
}

struct rollout *rollouts_begin(struct rollouts *rollouts, const char *id, const struct rollout_order *order,
                               uint64_t now_ms)
{
    const struct rollout_target *target = &order->target;
    assert(target->image_count >= 1 && target->image_count <= sizeof target->md5 / sizeof target->md5[0]);
    assert(target->run_md5_count <= sizeof target->run_md5 / sizeof target->run_md5[0]);
    assert(strlen(id) < ANNOUNCE_ID_SIZE);
    supersede(rollouts, target, id, now_ms);
    if (!make_room(rollouts)) {
        return NULL;
    }
    struct followed *followed = calloc(1, sizeof *followed);
    assert(followed != NULL);
    followed->seed = mac_hash_seed_draw();
    if (version_parse(slice_of(target->version), &followed->version) != STATUS_OK) {
        followed->version.text[0] = '\0';
    }
    struct rollout *rollout = &followed->rollout;
    snprintf(rollout->id, sizeof rollout->id, "%s", id);
    rollout->order = *order;
    rollout->created_ms = now_ms;
    rollout->news_ms = now_ms;
    rollouts->items[rollouts->count++] = followed;
    return rollout;
}

static bool is_run_md5(const struct rollout_target *target, const uint8_t *md5)
{
    bool found = false;
    for (size_t i = 0; !target->fs && i < target->run_md5_count; i++) {
        found = found || memcmp(target->run_md5[i], md5, 16) == 0;
    }
    return found;
}

static bool is_file(const struct rollout_target *target, const uint8_t *md5)
{
    return memcmp(target->md5[0], md5, 16) == 0 || (target->image_count > 1 && memcmp(target->md5[1], md5, 16) == 0);
}

void rollout_expect(struct rollout *rollout, const struct mac *mac, const uint8_t *md5)
{
    struct followed *followed = followed_of(rollout);
    assert(!rollout_is_over(rollout));
    if (find_device(followed, mac) != NULL) {
        return;
    }
    bool runs_it = md5 != NULL && is_run_md5(&rollout->order.target, md5);
    if (add_device(followed, mac, runs_it ? ROLLOUT_DEVICE_CURRENT : ROLLOUT_DEVICE_TRIGGERED, true) == NULL) {
        rollout->untracked++;
    } else if (!runs_it) {
        rollout->expected++;
    }
}

void rollout_commands(struct rollouts *rollouts, struct rollout *rollout, size_t count)
{
    (void)rollouts;
    rollout->commands += count;
}

void rollout_not_told(struct rollout *rollout, const struct mac *mac, const char *why, uint64_t now_ms)
{
    struct followed *followed = followed_of(rollout);
    struct rollout_device *device = find_device(followed, mac);
    if (!rollout_is_over(rollout) && device != NULL && device->state == ROLLOUT_DEVICE_TRIGGERED) {
        char text[160];
        snprintf(text, sizeof text, "not told: %s", why);
        move(followed, device, ROLLOUT_DEVICE_FAILED, text, now_ms);
    }
}

void rollout_command_ended(struct rollouts *rollouts, struct rollout *rollout, bool acknowledged, const char *why,
                           uint64_t now_ms)
{
    struct followed *followed = followed_of(rollout);
    assert(rollout->acknowledged + rollout->commands_failed < rollout->commands);
    if (acknowledged) {
        rollout->acknowledged++;
    } else {
        rollout->commands_failed++;
        bool says_why = why != NULL && why[0] != '\0';
        snprintf(followed->command_why, sizeof followed->command_why, "%s", says_why ? why : "the broker refused it");
    }
    if (rollout->state != ROLLOUT_PUBLISHING || rollout->acknowledged + rollout->commands_failed < rollout->commands) {
        return; /* also where the answer comes after the end */
    }
    if (rollout->acknowledged > 0) {
        run(rollouts, rollout, now_ms);
    } else {
        fail(rollouts, rollout, followed->command_why, now_ms);
    }
}

/* --- facts -------------------------------------------------------------------------------------------------------- */

enum verdict { SAYS_NOTHING, RUNS_TARGET, RUNS_ANOTHER };

/* A digest decides; where none is said, the server's decision. A file system check tells nothing against a sketch: the
 * device may ask before it restarts. And nothing against a file system: many devices never say which one they have. */
static enum verdict judge(const struct rollout_target *target, const struct rollout_sighting *sighting)
{
    bool offered = sighting->offered_md5 != NULL && is_file(target, sighting->offered_md5);
    if (target->fs) {
        return sighting->fs && sighting->up_to_date && offered ? RUNS_TARGET : SAYS_NOTHING;
    }
    if (sighting->md5 != NULL && is_run_md5(target, sighting->md5)) {
        return RUNS_TARGET;
    }
    if (sighting->fs) {
        return SAYS_NOTHING;
    }
    if (sighting->md5 != NULL) {
        return RUNS_ANOTHER;
    }
    return !offered ? SAYS_NOTHING : sighting->up_to_date ? RUNS_TARGET : RUNS_ANOTHER;
}

/* It came for the target and was not sent it. Said once: a device that polls is refused each time. */
static bool is_refused(const struct rollout_target *target, const struct rollout_device *device,
                       const struct rollout_sighting *sighting)
{
    return device != NULL && device->state == ROLLOUT_DEVICE_TRIGGERED && sighting->refused != NULL &&
           sighting->fs == target->fs && sighting->offered_md5 != NULL && is_file(target, sighting->offered_md5);
}

void rollouts_saw(struct rollouts *rollouts, const struct rollout_sighting *sighting, uint64_t now_ms)
{
    for (size_t i = 0; i < rollouts->count; i++) {
        struct followed *followed = rollouts->items[i];
        const struct rollout_target *target = &followed->rollout.order.target;
        if (rollout_is_over(&followed->rollout) || !slice_is(sighting->type, target->type)) {
            continue;
        }
        struct rollout_device *device = find_device(followed, &sighting->mac);
        enum verdict verdict = device != NULL ? judge(target, sighting) : SAYS_NOTHING;
        if (verdict == RUNS_TARGET) {
            move(followed, device, after_proof[device->state], NULL, now_ms);
        } else if (verdict == RUNS_ANOTHER && device->state == ROLLOUT_DEVICE_SENT) {
            move(followed, device, ROLLOUT_DEVICE_FAILED, "came back without it", now_ms);
        } else if (is_refused(target, device, sighting)) {
            move(followed, device, ROLLOUT_DEVICE_FAILED, sighting->refused, now_ms);
        }
    }
}

static bool distributes(const struct followed *followed, const uint8_t file_md5[16])
{
    return !rollout_is_over(&followed->rollout) && is_file(&followed->rollout.order.target, file_md5);
}

static bool is_known(const struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16])
{
    bool found = false;
    for (size_t i = 0; i < rollouts->count && !found; i++) {
        found = distributes(rollouts->items[i], file_md5) && find_device(rollouts->items[i], mac) != NULL;
    }
    return found;
}

static void begin_transfer(struct followed *followed, const struct mac *mac, uint64_t now_ms)
{
    struct rollout_device *device = find_device(followed, mac);
    if (device != NULL) {
        move(followed, device, after_begin[device->state], NULL, now_ms);
    } else {
        device = add_device(followed, mac, ROLLOUT_DEVICE_DOWNLOADING, false);
        if (device == NULL) {
            followed->rollout.untracked++;
            return;
        }
        news(followed, device, now_ms);
    }
    device->transfers += device->transfers < UINT16_MAX;
}

/* One file may serve several types, as a file system image does, and a transfer does not say which. So where one of the
 * file's rollouts knows the device, it is that one's alone. */
void rollouts_transfer_begins(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16],
                              uint64_t now_ms)
{
    bool known = mac != NULL && is_known(rollouts, mac, file_md5);
    for (size_t i = 0; i < rollouts->count && mac != NULL; i++) {
        struct followed *followed = rollouts->items[i];
        if (distributes(followed, file_md5) && (!known || find_device(followed, mac) != NULL)) {
            begin_transfer(followed, mac, now_ms);
        }
    }
}

static void print_cut(const struct rollout_target *target, const uint8_t file_md5[16], uint64_t bytes, char *to,
                      size_t size)
{
    bool size_is_known = target->bytes > 0 && memcmp(target->md5[0], file_md5, 16) == 0;
    if (size_is_known) {
        uint64_t percent = bytes < target->bytes ? bytes * 100 / target->bytes : 100;
        snprintf(to, size, "cut at %" PRIu64 " %%", percent);
    } else {
        snprintf(to, size, "cut after %" PRIu64 " bytes", bytes);
    }
}

/* Also of transfers that began before the rollout did: the device pulled its image all the same. */
static void end_transfer(struct followed *followed, const struct mac *mac, const char *cut, uint64_t now_ms)
{
    struct rollout_device *device = find_device(followed, mac);
    if (device == NULL) {
        device = add_device(followed, mac, ROLLOUT_DEVICE_DOWNLOADING, false);
    }
    if (device == NULL) {
        return; /* untracked; counted when it began */
    }
    device->transfers -= device->transfers > 0;
    if (device->state != ROLLOUT_DEVICE_DOWNLOADING && device->state != ROLLOUT_DEVICE_TRIGGERED) {
        return;
    }
    if (cut == NULL) {
        move(followed, device, ROLLOUT_DEVICE_SENT, NULL, now_ms);
    } else if (device->transfers == 0) { /* else it is the end of one that the device gave up for the next */
        move(followed, device, ROLLOUT_DEVICE_FAILED, cut, now_ms);
    }
}

void rollouts_transfer_ended(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16], bool whole,
                             uint64_t bytes, uint64_t now_ms)
{
    bool known = mac != NULL && is_known(rollouts, mac, file_md5);
    char cut[48];
    for (size_t i = 0; i < rollouts->count; i++) {
        struct followed *followed = rollouts->items[i];
        if (!distributes(followed, file_md5) || (known && find_device(followed, mac) == NULL)) {
            continue;
        }
        followed->rollout.bytes += bytes;
        print_cut(&followed->rollout.order.target, file_md5, bytes, cut, sizeof cut);
        if (mac != NULL) {
            end_transfer(followed, mac, whole ? NULL : cut, now_ms);
        }
    }
}

static bool is_pulling(const struct rollout_device *device)
{
    return device->state == ROLLOUT_DEVICE_DOWNLOADING || device->state == ROLLOUT_DEVICE_SENT;
}

static void hear_report(struct followed *followed, struct rollout_device *device, const struct device_report *report,
                        uint64_t now_ms)
{
    bool can_fail = is_open[device->state] || device->state == ROLLOUT_DEVICE_FAILED;
    if (report->state == REPORT_FAILED && can_fail) {
        move(followed, device, ROLLOUT_DEVICE_FAILED,
             report->error[0] != '\0' ? report->error : "the device reports a failure", now_ms);
    }
    /* A report does not say of what: a version proves a file system only where one has just been sent. */
    if (report->state == REPORT_RUNNING && followed->rollout.order.target.fs && device->state == ROLLOUT_DEVICE_SENT &&
        followed->version.text[0] != '\0' && report->version.text[0] != '\0' &&
        version_compare(&report->version, &followed->version) == 0) {
        move(followed, device, ROLLOUT_DEVICE_CONFIRMED, NULL, now_ms);
    }
}

void rollouts_reported(struct rollouts *rollouts, const struct mac *mac, const struct device_report *report,
                       uint64_t now_ms)
{
    struct rollout_device *found[ROLLOUTS_MAX] = { NULL };
    bool pulls = false; /* then the report is of what it pulls, not of another rollout that it waits for */
    for (size_t i = 0; i < rollouts->count; i++) {
        if (!rollout_is_over(&rollouts->items[i]->rollout)) {
            found[i] = find_device(rollouts->items[i], mac);
            pulls = pulls || (found[i] != NULL && is_pulling(found[i]));
        }
    }
    for (size_t i = 0; i < rollouts->count; i++) {
        if (found[i] != NULL && (!pulls || is_pulling(found[i]))) {
            hear_report(rollouts->items[i], found[i], report, now_ms);
        }
    }
}

/* --- time --------------------------------------------------------------------------------------------------------- */

static bool is_finished(const struct followed *followed, uint64_t quiet_ms, uint64_t window_ms)
{
    const struct rollout *rollout = &followed->rollout;
    size_t open = 0;
    for (size_t state = 0; state < ROLLOUT_DEVICE_STATES; state++) {
        open += is_open[state] ? rollout->devices[state] : 0;
    }
    if (!rollout->order.whole_type) {
        return followed->expected_open == 0;
    }
    bool came = HASH_COUNT(rollout->table) > 0;
    return open == 0 && (rollout->expected > 0 || (came && quiet_ms >= STRANGERS_MS + window_ms));
}

static void tick(struct rollouts *rollouts, struct followed *followed, uint64_t now_ms)
{
    struct rollout *rollout = &followed->rollout;
    const struct rollout_order *order = &rollout->order;
    if (rollout->state == ROLLOUT_PUBLISHING && now_ms - rollout->created_ms >= order->timeout_ms) {
        if (rollout->acknowledged > 0) {
            run(rollouts, rollout, now_ms);
        } else {
            char why[sizeof rollout->why];
            snprintf(why, sizeof why,
                     "the broker acknowledged no command within %" PRIu64 " s: see that it runs and lets us in",
                     order->timeout_ms / 1000);
            fail(rollouts, rollout, why, now_ms);
        }
    } else if (rollout->state == ROLLOUT_RUNNING) {
        uint64_t quiet_ms = now_ms - rollout->news_ms;
        uint64_t window_ms = (uint64_t)order->window_s * 1000;
        if (is_finished(followed, quiet_ms, window_ms) || quiet_ms >= order->timeout_ms + window_ms) {
            end(rollouts, rollout, ROLLOUT_DONE, now_ms);
        }
    }
}

void rollouts_tick(struct rollouts *rollouts, uint64_t now_ms)
{
    for (size_t i = 0; i < rollouts->count; i++) {
        tick(rollouts, rollouts->items[i], now_ms);
    }
}

/* --- looking ------------------------------------------------------------------------------------------------------ */

struct rollout *rollouts_find(const struct rollouts *rollouts, struct slice id)
{
    for (size_t i = 0; i < rollouts->count; i++) {
        if (slice_is(id, rollouts->items[i]->rollout.id)) {
            return &rollouts->items[i]->rollout;
        }
    }
    return NULL;
}

struct rollout *rollouts_at(const struct rollouts *rollouts, size_t i)
{
    assert(i < rollouts->count);
    return &rollouts->items[rollouts->count - 1 - i]->rollout;
}

size_t rollouts_count(const struct rollouts *rollouts)
{
    return rollouts->count;
}
