/* From the fleet's memory to the store and back: a restart gives back what was known; a store that is slow or fails
 * costs time-lines and nothing else. A mistake here is a fleet that forgets, or a server that grows without bound. */
#include "fleet/journal.h"

#include "tests/unit/fleet/journal_fixture.h"

#define DEVICES 4000u

static atomic_int kill_after = -1; /* so many rows, each a transaction of its own; < 0 = never */

static enum status gate_pass(void *store, const struct store_change *const *changes, size_t count, bool durable,
                             char *message, size_t size)
{
    for (size_t i = 0; i < count && atomic_load(&kill_after) >= 0; i++) {
        if (atomic_fetch_sub(&kill_after, 1) == 0) {
            atomic_store(&kill_after, 0);
            return STATUS_IO;
        }
        enum status status = store_sqlite.write(store, &changes[i], 1, false, message, size);
        if (status != STATUS_OK || i + 1 == count) {
            return status;
        }
    }
    return store_sqlite.write(store, changes, count, durable, message, size);
}

/* --- random records -----------------------------------------------------------------------------------------------*/

static void random_bytes(void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ((uint8_t *)bytes)[i] = (uint8_t)below(256);
    }
}

static struct slice random_text(char text[80], const char *name, uint32_t of)
{
    snprintf(text, 80, "%s %u \xc3\xa4\xff '; DROP", name, (unsigned)below(of)); /* devices say anything */
    return slice_of(text);
}

static void random_transfer(struct words *words, struct device_transfer *sent)
{
    char text[80];
    random_bytes(sent->md5, 16);
    random_bytes(sent->before, 8);
    sent->bytes = below(UINT32_MAX);
    sent->of = below(UINT32_MAX);
    sent->ms = below(UINT32_MAX);
    sent->unix_s = 1 + below(UINT32_MAX - 1);
    words_set(words, &sent->version, random_text(text, "sent", 50));
    sent->outcome = (uint8_t)below(OUTCOME_COUNT);
    sent->failures = (uint8_t)below(256);
    sent->served = (uint16_t)below(UINT16_MAX);
}

static struct device *random_device(struct world *world, uint64_t number)
{
    char text[80];
    struct mac mac = mac_of(number);
    struct words *words = world->fleet.words;
    struct device *device = devices_take(world->fleet.devices, &mac, random_text(text, "type", 20));
    assert_non_null(device);
    device->chip = (uint16_t)below(65536);
    device->client = (uint8_t)below(CLIENT_ESP32 + 1);
    device->flash_mode = (uint8_t)below(256);
    device->reason = (uint8_t)below(REASON_COUNT);
    device->has_md5 = below(2) == 0;
    device->reason_fs = below(2) == 0;
    device->came_back = below(2) == 0;
    device->via_proxy = below(2) == 0;
    random_bytes(device->md5, 16);
    memset(device->md5, 0, device->has_md5 ? 0 : 16);
    random_bytes(device->address, 16);
    device->first_seen_s = below(UINT32_MAX);
    device->seen_s = below(UINT32_MAX);
    device->flash_bytes = below(UINT32_MAX);
    device->free_bytes = below(UINT32_MAX);
    device->sketch_bytes = below(UINT32_MAX);
    words_set(words, &device->version, random_text(text, "version", 50));
    words_set(words, &device->fs_version, below(2) == 0 ? slice_of("") : random_text(text, "fs", 50));
    words_set(words, &device->sdk, random_text(text, "sdk", 9));
    for (int fs = 0; fs < 2; fs++) {
        if (below(2) == 0) {
            random_transfer(words, devices_take_sent(world->fleet.devices, device, fs));
        }
    }
    for (uint32_t i = below(20) == 0 ? below(7) : 0; i > 0; i--) {
        uint8_t md5[16];
        random_bytes(md5, 16);
        never_again_failed(world->fleet.never_again, &mac, md5, below(2) == 0, below(UINT32_MAX));
    }
    devices_mark(world->fleet.devices, device);
    return device;
}

static void random_policy(struct world *world, uint64_t number)
{
    char text[80];
    uint64_t ticket;
    struct words *words = world->fleet.words;
    struct policy_entry entry = { .mac = mac_of(number), .blocked = below(4) == 0, .approved = below(2) == 0 };
    entry.type = words_take(words, below(2) == 0 ? slice_of("") : random_text(text, "type", 20));
    entry.label = words_take(words, below(2) == 0 ? slice_of("") : random_text(text, "label", 20));
    entry.pin = words_take(words, below(2) == 0 ? slice_of("") : random_text(text, "pin", 20));
    for (uint32_t i = below(POLICY_GROUPS_MAX + 1); i > 0; i--) {
        snprintf(text, sizeof text, "group %u of %u", (unsigned)i, (unsigned)below(5));
        entry.groups[entry.group_count++] = words_take(words, slice_of(text));
    }
    snprintf(entry.note, sizeof entry.note, "note %u", (unsigned)below(1000));
    assert_int_equal(fleet_set_policy(&world->fleet, &entry, &now, &ticket), STATUS_OK);
    word_id held[3 + POLICY_GROUPS_MAX] = { entry.type, entry.label, entry.pin };
    memcpy(held + 3, entry.groups, sizeof entry.groups);
    for (size_t i = 0; i < 3 + POLICY_GROUPS_MAX; i++) {
        words_drop(words, held[i]);
    }
}

static struct rollout_order order_of(const char *type, unsigned canary, unsigned in_flight)
{
    struct rollout_order order = { .percent = 100,
                                   .canary = canary,
                                   .in_flight = in_flight,
                                   .max_failures = 100,
                                   .timeout_ms = 60000,
                                   .reboot_ms = 60000,
                                   .broker_ms = 60000 };
    snprintf(order.target.type, sizeof order.target.type, "%s", type);
    snprintf(order.target.version, sizeof order.target.version, "1.0");
    snprintf(order.target.file, sizeof order.target.file, "%s/1.0.bin", type);
    order.target.image_count = order.target.run_md5_count = 1;
    memset(order.target.md5[0], type[0], 16);
    memset(order.target.run_md5[0], type[0] + 1, 16);
    return order;
}

static struct rollout *begin_rollout(struct world *world, const char *id, const struct rollout_order *order,
                                     uint64_t first, size_t members)
{
    struct rollout *rollout = rollouts_begin(world->fleet.rollouts, id, order, &now);
    assert_non_null(rollout);
    for (size_t i = 0; i < members; i++) {
        struct rollout_joiner joiner = { .mac = mac_of(first + i), .site = i % 7 };
        joiner.skip_why = i % 50 == 49 ? "wrong-chip: of another kind" : NULL;
        rollout_join(rollout, &joiner, &now);
    }
    rollout_start(rollout, false, true, &now);
    return rollout;
}

/* What a device in a rollout may do next. */
static void random_fact(struct world *world, struct rollout *rollout, uint64_t number)
{
    struct rollouts *rollouts = world->fleet.rollouts;
    const uint8_t *file = rollout->order.target.md5[0];
    struct mac mac = mac_of(number);
    struct rollout_member member;
    if (!rollout_member(rollout, &mac, &member)) {
        return;
    }
    struct rollout_fact fact = { .mac = mac, .type = slice_of(rollout->order.target.type), .site = number % 7 };
    switch (member.state) {
    case ROLLOUT_DEVICE_TRIGGERED:
        rollouts_told(rollout, &mac, STATUS_OK, "", &now);
        fact.served = true;
        rollouts_checked_in(rollouts, &fact, &now);
        rollouts_transfer_begins(rollouts, &mac, file, &now);
        break;
    case ROLLOUT_DEVICE_DOWNLOADING:
        rollouts_transfer_ended(rollouts, &mac, file, below(30) > 0, 1000, 10, "cut at 40 %", &now);
        break;
    case ROLLOUT_DEVICE_FLASHED:
        fact.runs_target = below(4) > 0;
        fact.failed = fact.runs_target ? NULL : "it came back with the old build";
        rollouts_checked_in(rollouts, &fact, &now);
        break;
    default:
        break;
    }
}

/* --- the same? ----------------------------------------------------------------------------------------------------*/

static void same_word(const struct world *a, word_id left, const struct world *b, word_id right)
{
    assert_string_equal(words_text(a->fleet.words, left), words_text(b->fleet.words, right));
}

static void same_transfer(const struct world *a, const struct device_transfer *left, const struct world *b,
                          const struct device_transfer *right)
{
    same_word(a, left->version, b, right->version);
    assert_memory_equal(left->md5, right->md5, 16);
    assert_memory_equal(left->before, right->before, 8);
    assert_int_equal(left->bytes, right->bytes);
    assert_int_equal(left->of, right->of);
    assert_int_equal(left->ms, right->ms);
    assert_int_equal(left->unix_s, right->unix_s);
    assert_int_equal(left->outcome, right->outcome);
    assert_int_equal(left->failures, right->failures);
    assert_int_equal(left->served, right->served);
}

static void same_device(const struct world *a, const struct device *left, const struct world *b)
{
    const struct device *right = devices_find(b->fleet.devices, &left->mac);
    assert_non_null(right);
    same_word(a, left->type->name, b, right->type->name);
    same_word(a, left->version, b, right->version);
    same_word(a, left->fs_version, b, right->fs_version);
    same_word(a, left->sdk, b, right->sdk);
    same_transfer(a, &left->transfer, b, &right->transfer);
    assert_int_equal(left->fs_transfer != NULL, right->fs_transfer != NULL);
    same_transfer(a, device_sent(left, true), b, device_sent(right, true));
#define SAME(field) assert_int_equal(left->field, right->field)
    SAME(chip);
    SAME(client);
    SAME(flash_mode);
    SAME(reason);
    SAME(has_md5);
    SAME(reason_fs);
    SAME(came_back);
    SAME(via_proxy);
    SAME(first_seen_s);
    SAME(seen_s);
    SAME(flash_bytes);
    SAME(free_bytes);
    SAME(sketch_bytes);
    assert_memory_equal(left->md5, right->md5, 16);
    assert_memory_equal(left->address, right->address, 16);
    assert_false(right->dirty); /* what was read is not written again */
    const struct never_again_entry *failed = never_again_find(a->fleet.never_again, &left->mac);
    const struct never_again_entry *again = never_again_find(b->fleet.never_again, &left->mac);
    assert_int_equal(failed != NULL, again != NULL);
    for (size_t i = 0; failed != NULL && i < failed->count; i++) {
        assert_int_equal(failed->count, again->count);
        assert_memory_equal(failed->images[i].md5, again->images[i].md5, 16);
        assert_int_equal(failed->images[i].failures, again->images[i].failures);
        assert_int_equal(failed->images[i].rolled_back, again->images[i].rolled_back);
        assert_int_equal(failed->images[i].unix_s, again->images[i].unix_s);
    }
}

static void same_policy(const struct world *a, const struct policy_entry *left, const struct world *b)
{
    const struct policy_entry *right = policies_find(b->fleet.policies, &left->mac);
    assert_non_null(right);
    SAME(blocked);
    SAME(approved);
    SAME(unix_s);
    SAME(group_count);
    same_word(a, left->type, b, right->type);
    same_word(a, left->label, b, right->label);
    same_word(a, left->pin, b, right->pin);
    assert_string_equal(left->note, right->note);
    for (size_t i = 0; i < left->group_count; i++) {
        same_word(a, left->groups[i], b, right->groups[i]);
    }
}

static void same_rollout(const struct rollout *left, const struct rollout *right)
{
    static struct rollout_member members[DEVICES * 8];
    assert_string_equal(left->id, right->id);
    SAME(state);
    SAME(before);
    SAME(created_s);
    SAME(members);
    SAME(canaries);
    SAME(canaries_confirmed);
    SAME(in_flight);
    SAME(order.in_flight);
    assert_string_equal(left->why, right->why);
    assert_string_equal(left->supersedes, right->supersedes);
    rollout_check(right);
    size_t n = rollout_members(left, ROLLOUT_DEVICE_STATES, 0, members, sizeof members / sizeof members[0]);
    for (size_t i = 0; i < n; i++) {
        const struct rollout_member *before = &members[i];
        struct rollout_member after;
        bool is_there = rollout_member(right, &before->mac, &after);
        if (n >= ROLLOUT_LISTED_MAX && before->state == ROLLOUT_DEVICE_SKIPPED && !is_there) {
            continue; /* of more than are kept, the store may keep others */
        }
        assert_true(is_there);
        bool is_cut = before->state == ROLLOUT_DEVICE_DOWNLOADING && rollout_is_over(left); /* by the server's end */
        assert_int_equal(is_cut ? ROLLOUT_DEVICE_TRIGGERED : before->state, after.state);
        assert_int_equal(before->attempts, after.attempts);
        assert_int_equal(before->armed, after.armed);
        assert_int_equal(before->canary, after.canary);
        bool joined_again = before->state == ROLLOUT_DEVICE_QUEUED || before->state == ROLLOUT_DEVICE_SKIPPED;
        if (!joined_again || rollout_is_over(left)) { /* else these were not written */
            assert_int_equal(before->unix_s, after.unix_s);
        }
        assert_string_equal(before->why, after.why);
    }
}
#undef SAME

/* QUEUED members that nobody wrote down join again, as fleets do at a start; and so do those who are left out. */
static void join_again(struct rollout *restored, const struct rollout *before)
{
    static struct rollout_member members[DEVICES * 8];
    size_t n = rollout_members(before, ROLLOUT_DEVICE_STATES, 0, members, sizeof members / sizeof members[0]);
    for (size_t i = 0; i < n && !rollout_is_over(restored); i++) {
        struct rollout_joiner joiner = { .mac = members[i].mac };
        joiner.skip_why = members[i].state == ROLLOUT_DEVICE_SKIPPED ? members[i].why : NULL;
        rollout_join(restored, &joiner, &now);
    }
}

static void assert_remembered(const struct world *before, struct world *after)
{
    assert_int_equal(devices_count(before->fleet.devices), devices_count(after->fleet.devices));
    for (size_t i = 0; i < devices_count(before->fleet.devices); i++) {
        same_device(before, devices_at(before->fleet.devices, i), after);
    }
    assert_int_equal(policies_count(before->fleet.policies), policies_count(after->fleet.policies));
    for (const struct policy_entry *entry = NULL; (entry = policies_next(before->fleet.policies, entry)) != NULL;) {
        same_policy(before, entry, after);
    }
    assert_int_equal(never_again_count(before->fleet.never_again), never_again_count(after->fleet.never_again));
    assert_int_equal(rollouts_count(before->fleet.rollouts), rollouts_count(after->fleet.rollouts));
    for (size_t i = 0; i < rollouts_count(before->fleet.rollouts); i++) {
        const struct rollout *left = rollouts_at(before->fleet.rollouts, i);
        struct rollout *right = rollouts_at(after->fleet.rollouts, i); /* the same order: the newest word counts */
        join_again(right, left);
        same_rollout(left, right);
    }
    const struct rollout *left = rollouts_next(before->fleet.rollouts, NULL), *right;
    for (right = rollouts_next(after->fleet.rollouts, NULL); right != NULL;
         right = rollouts_next(after->fleet.rollouts, right)) {
        assert_string_equal(left->id, right->id);
        assert_true(left->state == right->state && left->word_only == right->word_only);
        left = rollouts_next(before->fleet.rollouts, left);
    }
    assert_null(left);
    assert_int_equal(devices_dirty_count(after->fleet.devices), 0);
}

/* Another world beside it, read from what it has written so far. */
static void assert_a_restart_forgets_nothing(struct world *world)
{
    struct world *after = world_open();
    assert_remembered(world, after);
    world_kill(after);
}

/* --- tests --------------------------------------------------------------------------------------------------------*/

static void test_a_fleet_comes_back(void **state)
{
    (void)state;
    seed_random();
    struct world *world = world_open();
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < DEVICES; i++) {
            random_device(world, 1 + below(DEVICES));
        }
        for (unsigned i = 0; i < DEVICES / 4; i++) {
            random_policy(world, below(DEVICES / 2)); /* some of devices that nobody has seen */
        }
        struct rollout_order orders[] = { order_of("lamp", 0, 100), order_of("door", 5, 20), order_of("lamp", 0, 0) };
        struct rollout *rollouts[3];
        for (unsigned i = 0; i < 3; i++) {
            char id[ANNOUNCE_ID_SIZE];
            snprintf(id, sizeof id, "%016x", round * 3 + i + 1);
            now.unix_s -= 100; /* a clock that runs backwards changes no order */
            rollouts[i] = begin_rollout(world, id, &orders[i], 1, DEVICES / 2);
        }
        for (unsigned i = 0; i < 8000; i++) {
            now.ms += 10;
            random_fact(world, rollouts[below(3)], 1 + below(300)); /* those whose turn comes */
            if (i % 40 == 0) {
                turn(world);
            }
        }
        settle(world);
        settle(world);
        assert_int_equal(world->refused, 0);
        assert_true(world->triggers > 30);
        assert_a_restart_forgets_nothing(world);
    }
    world_kill(world);
}

/* Each as often as it was marked would be a write a check-in; and never would be a fleet that forgets. */
static void test_marked_often_written_once(void **state)
{
    (void)state;
    struct world *world = world_open();
    for (unsigned i = 0; i < 1000; i++) {
        random_device(world, 1 + i % 10);
    }
    journal_flush(world->fleet.journal, world->fleet.rollouts);
    assert_int_equal(store_queue_view(world->queue)->backlog, 10);
    settle(world);
    journal_flush(world->fleet.journal, world->fleet.rollouts);
    assert_int_equal(store_queue_view(world->queue)->backlog, 0);
    world_kill(world);
}

static void test_marks_survive_a_full_backlog(void **state)
{
    (void)state;
    const size_t many = 30000;
    struct world *world = world_open();
    atomic_store(&gate_shut, true);
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < many; i++) {
            random_device(world, 1 + i);
        }
        for (int i = 0; i < 20; i++) {
            turn(world);
        }
        size_t backlog = store_queue_view(world->queue)->backlog;
        assert_true(backlog <= STORE_BACKLOG_MAX - STORE_BACKLOG_MAX / 4); /* room for what is urgent */
        assert_true(devices_dirty_count(world->fleet.devices) + backlog >= many);
    }
    atomic_store(&gate_shut, false);
    settle(world);
    assert_a_restart_forgets_nothing(world);
    world_kill(world);
}

static void test_events_are_dropped_and_counted(void **state)
{
    (void)state;
    struct world *world = world_open();
    struct mac mac = mac_of(1);
    atomic_store(&gate_shut, true);
    const size_t many = STORE_BACKLOG_MAX;
    for (size_t i = 0; i < many; i++) {
        journal_event(world->fleet.journal, &mac, &now, "cut", "at %zu of %u", i, 100u);
    }
    size_t backlog = store_queue_view(world->queue)->backlog;
    assert_true(backlog >= many / 2 && backlog <= many / 2 + 1);
    assert_int_equal(journal_events_dropped(world->fleet.journal), many - backlog);
    atomic_store(&gate_shut, false);
    settle(world);
    world_kill(world);
    void *store = open_store(state_dir);
    struct store_event events[STORE_EVENTS_OF_DEVICE];
    char message[MESSAGE_SIZE], last[60];
    size_t count;
    assert_int_equal(store_sqlite.events(store, &mac, events, STORE_EVENTS_OF_DEVICE, &count, message, sizeof message),
                     STATUS_OK);
    assert_int_equal(count, STORE_EVENTS_OF_DEVICE);
    snprintf(last, sizeof last, "at %zu of 100", backlog - 1);
    assert_string_equal(events[0].text, last);
    assert_string_equal(events[0].word, "cut");
    store_sqlite.close(store);
}

static void fill_backlog(struct world *world)
{
    while (store_queue_room(world->queue) > 0) {
        assert_true(store_queue_put(world->queue, full_event(1, 99), STORE_BEHIND) > 0);
    }
}

/* Everything about rollouts that found no room is written when there is, though it is more than the backlog holds; and
 * who was armed meanwhile is told after all. */
static void test_rollouts_are_written_again(void **state)
{
    (void)state;
    const size_t members = 20000;
    struct world *world = world_open();
    struct rollout_order lamp = order_of("lamp", 0, 3000), door = order_of("door", 3, 10), type = order_of("car", 0, 0);
    struct rollout *big = begin_rollout(world, "00000000000000b1", &lamp, 1, members);
    settle(world);
    atomic_store(&gate_shut, true);
    fill_backlog(world);
    for (unsigned i = 0; i < 60000; i++) { /* polls: who asks is served as slots come free */
        struct rollout_fact fact = { .mac = mac_of(1 + i % members), .type = slice_of("lamp"), .served = true };
        struct rollout_permission permission;
        rollout_permit(big, &fact.mac, 0, &permission);
        if (permission.granted && i < members) {
            rollouts_checked_in(world->fleet.rollouts, &fact, &now);
            rollouts_transfer_begins(world->fleet.rollouts, &fact.mac, lamp.target.md5[0], &now);
            rollouts_transfer_ended(world->fleet.rollouts, &fact.mac, lamp.target.md5[0], true, 1000, 10, "", &now);
            fact.served = false;
            fact.runs_target = true;
            rollouts_checked_in(world->fleet.rollouts, &fact, &now);
        }
    }
    assert_true(big->devices[ROLLOUT_DEVICE_CONFIRMED] > members / 2);
    (void)begin_rollout(world, "00000000000000b2", &door, 1, 500);
    (void)begin_rollout(world, "00000000000000b3", &type, 1, 100);
    assert_true(world->refused > STORE_BACKLOG_MAX);
    assert_int_equal(store_queue_view(world->queue)->backlog, STORE_BACKLOG_MAX);
    size_t triggers = world->triggers;
    for (int i = 0; i < 5; i++) {
        turn(world);
    }
    assert_int_equal(world->triggers, triggers); /* nobody is told what is not written down */
    atomic_store(&gate_shut, false);
    for (int i = 0; i < 3; i++) {
        settle(world);
    }
    assert_true(world->triggers > triggers);
    assert_a_restart_forgets_nothing(world);
    turn(world);
    assert_int_equal(store_queue_view(world->queue)->backlog, 0); /* and once is enough */
    world_kill(world);
}

/* Rollouts that were forgotten while the store failed would come back, and keep newer ones out. */
static void test_forgotten_rollouts_stay_forgotten(void **state)
{
    (void)state;
    const char *why;
    struct world *world = world_open();
    struct rollout_order order = order_of("lamp", 0, 1);
    for (unsigned i = 0; i < ROLLOUTS_MAX + 5; i++) {
        char id[ANNOUNCE_ID_SIZE];
        snprintf(id, sizeof id, "%016x", i + 1);
        if (i == ROLLOUTS_MAX) {
            settle(world);
            atomic_store(&gate_shut, true);
            fill_backlog(world);
        }
        struct rollout *rollout = begin_rollout(world, id, &order, 1, 2);
        assert_int_equal(rollout_abort(rollout, "a test", &now, &why), STATUS_OK);
        rollout->distrusted = false;
    }
    assert_int_equal(rollouts_count(world->fleet.rollouts), ROLLOUTS_MAX);
    assert_true(world->refused > 5);
    atomic_store(&gate_shut, false);
    for (int i = 0; i < 3; i++) {
        settle(world);
    }
    assert_a_restart_forgets_nothing(world);
    world_kill(world);
}

/* Else what is published to the first of many types is unpublished by a restart. */
static void test_words_of_many_types_come_back(void **state)
{
    (void)state;
    struct world *world = world_open();
    for (unsigned i = 0; i < 200; i++) {
        char id[ANNOUNCE_ID_SIZE], type[20];
        snprintf(id, sizeof id, "%016x", i + 1);
        snprintf(type, sizeof type, "type%u", i);
        struct rollout_order order = order_of(type, 0, 1);
        struct rollout *rollout = begin_rollout(world, id, &order, 1, 2);
        for (size_t device = 1; device <= 2; device++) {
            struct rollout_fact fact = { .mac = mac_of(device), .type = slice_of(type), .runs_target = true };
            rollouts_checked_in(world->fleet.rollouts, &fact, &now);
        }
        assert_int_equal(rollout->state, ROLLOUT_DONE);
    }
    settle(world);
    struct world *after = world_open();
    assert_remembered(world, after);
    const struct mac mac = mac_of(9);
    const struct rollout *word = rollouts_for(after->fleet.rollouts, &mac, slice_of("type0"), false, true);
    assert_non_null(word);
    assert_string_equal(word->id, "0000000000000001");
    world_kill(after);
    world_kill(world);
}

static enum status block(struct world *world, uint64_t number, uint64_t *ticket)
{
    struct policy_entry entry = { .mac = mac_of(number), .blocked = true };
    return fleet_set_policy(&world->fleet, &entry, &now, ticket);
}

static enum status say_nothing_of(struct world *world, uint64_t number, uint64_t *ticket)
{
    struct policy_entry nothing = { .mac = mac_of(number) };
    return fleet_set_policy(&world->fleet, &nothing, &now, ticket);
}

/* Else what stops updates, which goes though the store fails, is forgotten at the next start; or a device that was
 * forgotten is known again. */
static void test_words_that_found_no_room_are_written(void **state)
{
    (void)state;
    uint64_t ticket;
    struct world *world = world_open();
    for (uint64_t i = 1; i <= 3; i++) {
        random_device(world, i);
    }
    assert_int_equal(block(world, 5, &ticket), STATUS_OK);
    settle(world);
    atomic_store(&gate_shut, true);
    fill_backlog(world);
    assert_int_equal(say_nothing_of(world, 5, &ticket), STATUS_OK); /* gone */
    assert_true(ticket == JOURNAL_REFUSED);
    for (unsigned i = 0; i < 3 * JOURNAL_OWED_MAX; i++) { /* of one device it is owed once */
        assert_int_equal(block(world, 6, &ticket), STATUS_OK);
    }
    assert_int_equal(block(world, 7, &ticket), STATUS_OK);
    assert_int_equal(say_nothing_of(world, 7, &ticket), STATUS_OK); /* as it stands then */
    struct mac gone = mac_of(1), back = mac_of(2);
    assert_int_equal(fleet_forget(&world->fleet, &gone, &now, &ticket), STATUS_OK);
    assert_true(ticket == JOURNAL_REFUSED);
    assert_int_equal(fleet_forget(&world->fleet, &back, &now, &ticket), STATUS_OK);
    random_device(world, 2);
    turn(world);
    assert_int_equal(store_queue_room(world->queue), 0);
    atomic_store(&gate_shut, false);
    settle(world);
    settle(world);
    assert_null(devices_find(world->fleet.devices, &gone));
    assert_non_null(devices_find(world->fleet.devices, &back));
    assert_int_equal(policies_count(world->fleet.policies), 1);
    assert_a_restart_forgets_nothing(world);
    turn(world);
    assert_int_equal(store_queue_view(world->queue)->backlog, 0); /* and once is enough */
    world_kill(world);
}

/* Two rows: what is said of the device, and its own. Where one would be lost, nothing is forgotten. */
static void test_a_device_is_forgotten_whole_or_not_at_all(void **state)
{
    (void)state;
    uint64_t ticket;
    uint8_t md5[16] = { 1 };
    struct world *world = world_open();
    struct mac mac = mac_of(1);
    (void)random_device(world, 1);
    never_again_failed(world->fleet.never_again, &mac, md5, true, now.unix_s);
    assert_int_equal(block(world, 1, &ticket), STATUS_OK);
    settle(world);
    atomic_store(&gate_shut, true);
    fill_backlog(world);
    for (uint64_t i = 2; i <= JOURNAL_OWED_MAX; i++) {
        assert_int_equal(block(world, i, &ticket), STATUS_OK);
    }
    assert_true(journal_takes_words(world->fleet.journal, 1) && !journal_takes_words(world->fleet.journal, 2));
    assert_int_equal(fleet_forget(&world->fleet, &mac, &now, &ticket), STATUS_BUSY);
    assert_non_null(devices_find(world->fleet.devices, &mac));
    assert_non_null(policies_find(world->fleet.policies, &mac));
    assert_non_null(never_again_find(world->fleet.never_again, &mac));
    atomic_store(&gate_shut, false);
    for (int i = 0; i < 20 || store_queue_view(world->queue)->backlog > 0; i++) {
        settle(world);
    }
    assert_a_restart_forgets_nothing(world);
    assert_int_equal(fleet_forget(&world->fleet, &mac, &now, &ticket), STATUS_OK);
    settle(world);
    assert_a_restart_forgets_nothing(world);
    world_kill(world);
}

/* An operator who was told no finds it as it was, now and after a restart. */
static void test_a_word_that_cannot_even_be_owed_is_refused(void **state)
{
    (void)state;
    uint64_t ticket;
    struct world *world = world_open();
    settle(world);
    atomic_store(&gate_shut, true);
    fill_backlog(world);
    for (uint64_t i = 1; i <= JOURNAL_OWED_MAX; i++) {
        assert_true(journal_takes_words(world->fleet.journal, 1));
        assert_int_equal(block(world, i, &ticket), STATUS_OK);
    }
    assert_false(journal_takes_words(world->fleet.journal, 1));
    assert_int_equal(block(world, JOURNAL_OWED_MAX + 1, &ticket), STATUS_BUSY);
    assert_int_equal(say_nothing_of(world, 1, &ticket), STATUS_BUSY);
    assert_int_equal(policies_count(world->fleet.policies), JOURNAL_OWED_MAX);
    atomic_store(&gate_shut, false);
    for (int i = 0; i < 20 || store_queue_view(world->queue)->backlog > 0; i++) {
        settle(world);
    }
    assert_a_restart_forgets_nothing(world);
    assert_int_equal(say_nothing_of(world, 1, &ticket), STATUS_OK);
    assert_true(ticket > 0 && ticket != JOURNAL_REFUSED);
    settle(world);
    assert_a_restart_forgets_nothing(world);
    world_kill(world);
}

/* A device at once, for an operator's word; and no more often for it. */
static void test_a_device_at_once(void **state)
{
    (void)state;
    struct world *world = world_open();
    struct device *device = random_device(world, 1);
    uint64_t ticket = journal_device(world->fleet.journal, device);
    assert_true(ticket > 0 && ticket != JOURNAL_REFUSED);
    assert_int_equal(store_queue_view(world->queue)->backlog, 1);
    (void)devices_next_dirty(world->fleet.devices);
    settle(world);
    assert_a_restart_forgets_nothing(world);
    atomic_store(&gate_shut, true);
    fill_backlog(world);
    device->flash_mode ^= 1;
    assert_true(journal_device(world->fleet.journal, device) == JOURNAL_REFUSED); /* who asks keeps its mark */
    devices_mark(world->fleet.devices, device);
    atomic_store(&gate_shut, false);
    settle(world);
    assert_a_restart_forgets_nothing(world);
    world_kill(world);
}

/* All of it: what is said of it, what it proved, its record; here and on the disk. A stranger's MAC changes nothing. */
static void test_a_device_is_forgotten(void **state)
{
    (void)state;
    uint64_t ticket;
    uint8_t md5[16] = { 1 };
    struct world *world = world_open();
    struct mac mac = mac_of(1), stranger = mac_of(9), named = mac_of(3);
    struct device *device = random_device(world, 1);
    random_device(world, 2);
    never_again_failed(world->fleet.never_again, &mac, md5, true, now.unix_s);
    assert_int_equal(block(world, 1, &ticket), STATUS_OK);
    assert_int_equal(block(world, 3, &ticket), STATUS_OK); /* never seen */
    devices_mark(world->fleet.devices, device);
    settle(world);
    devices_mark(world->fleet.devices, device); /* and is not written once more behind */
    assert_int_equal(fleet_forget(&world->fleet, &stranger, &now, &ticket), STATUS_NOT_FOUND);
    assert_int_equal(ticket, 0);
    assert_int_equal(fleet_forget(&world->fleet, &mac, &now, &ticket), STATUS_OK);
    assert_true(ticket > 0 && ticket != JOURNAL_REFUSED);
    assert_int_equal(fleet_forget(&world->fleet, &named, &now, &ticket), STATUS_OK);
    assert_null(devices_find(world->fleet.devices, &mac));
    assert_null(policies_find(world->fleet.policies, &mac));
    assert_null(never_again_find(world->fleet.never_again, &mac));
    assert_int_equal(devices_count(world->fleet.devices), 1);
    assert_int_equal(policies_count(world->fleet.policies), 0);
    settle(world);
    assert_a_restart_forgets_nothing(world);
    world_kill(world);
}

static void is_sent(struct world *world, const struct mac *mac, bool fs, const uint8_t md5[16], unsigned served_max)
{
    struct sending sending = {
        .mac = mac, .fs = fs, .full = true, .file_md5 = md5, .run_md5 = md5, .version = "1.0", .served_max = served_max
    };
    struct sending_end end = { .whole = true, .bytes = 1000, .of = 1000, .ms = 10 };
    fleet_sending_ended(&world->fleet, &sending, &end, &now);
}

/* Else a device that names no version of its file system is sent the whole of it after each restart, and one that never
 * takes its sketch k times more. */
static void test_the_loop_guard_holds_over_a_restart(void **state)
{
    (void)state;
    static const uint8_t image[16] = { 7 };
    uint64_t wait_ms = 0;
    struct world *world = world_open();
    struct mac blind = mac_of(1), sketch = mac_of(2), forgiven = mac_of(3);
    for (uint64_t i = 1; i <= 3; i++) {
        struct mac mac = mac_of(i);
        (void)devices_take(world->fleet.devices, &mac, slice_of("porch"));
    }
    is_sent(world, &blind, true, image, 1);
    is_sent(world, &forgiven, true, image, 1);
    for (unsigned i = 0; i < 4; i++) {
        is_sent(world, &sketch, false, image, 3);
    }
    (void)fleet_retry(&world->fleet, &forgiven, &now);
    settle(world);
    uint64_t sent_ms = now.ms;
    now.ms = 77; /* the machine's clock begins anew with it, the calendar does not */
    now.unix_s += 600;
    struct world *after = world_open();
    struct loop_guard_key keys[] = { { blind, true }, { blind, false }, { sketch, false }, { forgiven, true } };
    assert_true(loop_guard_holds(after->fleet.guard, &keys[0], image, 1, now.ms, &wait_ms));
    assert_int_equal(wait_ms, 3000000);
    assert_false(loop_guard_holds(after->fleet.guard, &keys[1], image, 1, now.ms, &wait_ms));
    assert_true(loop_guard_holds(after->fleet.guard, &keys[2], image, 3, now.ms, &wait_ms));
    assert_int_equal(wait_ms, 2 * 3600000 - 600000);
    assert_false(loop_guard_holds(after->fleet.guard, &keys[3], image, 1, now.ms, &wait_ms));
    world_kill(after);
    now.ms = sent_ms;
    now.unix_s -= 600;
    world_kill(world);
}

/* --- killed between any two rows -----------------------------------------------------------------------------------*/

#define KILLED_DEVICES 3u

static const uint8_t old_md5[16] = { 1 },
                     new_md5[16] = { 'p' + 1, 'p' + 1, 'p' + 1, 'p' + 1, 'p' + 1, 'p' + 1, 'p' + 1, 'p' + 1,
                                     'p' + 1, 'p' + 1, 'p' + 1, 'p' + 1, 'p' + 1, 'p' + 1, 'p' + 1, 'p' + 1 };

static void comes(struct world *world, uint64_t number, bool serves)
{
    struct device_request request = { .has_mac = true, .mac = mac_of(number), .has_md5 = true };
    struct checkin checkin = { .request = &request, .type = slice_of("porch"), .serves = serves, .of_rollout = serves };
    struct outcome_verdict verdict;
    checkin.reason = serves ? REASON_PUBLISHED : REASON_SAME_DIGEST;
    checkin.detail = "";
    checkin.running_md5 = serves ? old_md5 : new_md5;
    memcpy(request.sketch_md5, checkin.running_md5, 16);
    assert_non_null(fleet_checked_in(&world->fleet, &checkin, &now, &verdict));
    assert_int_equal(verdict.outcome, serves ? OUTCOME_NONE : OUTCOME_CONFIRMED);
}

static void takes_all(struct world *world, const struct rollout *rollout, uint64_t number)
{
    struct mac mac = mac_of(number);
    struct sending sending = { .mac = &mac,
                               .full = true,
                               .file_md5 = rollout->order.target.md5[0],
                               .run_md5 = rollout->order.target.run_md5[0],
                               .version = "1.0",
                               .served_max = 3 };
    struct sending_end end = { .whole = true, .bytes = 1000, .of = 1000, .ms = 10 };
    fleet_sending_begins(&world->fleet, &sending, &now);
    fleet_sending_ended(&world->fleet, &sending, &end, &now);
}

/* How many rows of the database, as it lies there, say what the device's own does not know. */
static int count_contradictions(void)
{
    static const char query[] =
        "SELECT (SELECT count(*) FROM event e WHERE e.word IN ('first-seen', 'sent', 'confirmed') AND NOT EXISTS"
        " (SELECT 1 FROM device d WHERE d.mac = e.mac AND d.first_seen > 0 AND (e.word = 'first-seen' OR"
        " d.sent_at > 0) AND (e.word <> 'confirmed' OR (d.outcome = 'confirmed' AND d.md5 = ?1))))"
        " + (SELECT count(*) FROM member m WHERE m.state IN ('flashed', 'confirmed') AND NOT EXISTS"
        " (SELECT 1 FROM device d WHERE d.mac = m.mac AND d.sent_at > 0 AND"
        " (m.state = 'flashed' OR (d.outcome = 'confirmed' AND d.md5 = ?1))))";
    sqlite3 *db;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open(state_file, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, query, -1, &statement, NULL), SQLITE_OK);
    (void)sqlite3_bind_blob(statement, 1, new_md5, 16, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int count = sqlite3_column_int(statement, 0);
    (void)sqlite3_finalize(statement);
    (void)sqlite3_close(db);
    return count;
}

/* Returns whether the kill came before the end. */
static bool run_until_killed(int rows)
{
    struct world *world = world_open();
    struct rollout_order order = order_of("porch", 0, 10);
    struct rollout *rollout = begin_rollout(world, "00000000000000aa", &order, 1, KILLED_DEVICES + 1); /* one is away */
    atomic_store(&kill_after, rows);
    for (uint64_t i = 1; i <= KILLED_DEVICES; i++) {
        comes(world, i, true);
        if (i == 1) { /* in other batches, and in the same */
            turn(world);
        }
        takes_all(world, rollout, i);
        if (i == 2) {
            turn(world);
        }
        comes(world, i, false);
        assert_int_equal(rollout->devices[ROLLOUT_DEVICE_CONFIRMED], i);
    }
    for (unsigned i = 0; i < 400 && atomic_load(&kill_after) != 0 && store_queue_view(world->queue)->backlog > 0; i++) {
        turn(world);
    }
    bool killed = atomic_load(&kill_after) == 0;
    world_kill(world);
    atomic_store(&kill_after, -1);
    return killed;
}

/* Else a device stays for ever on what it ran before, while its time-line and the rollout say that it is done. */
static void test_killed_between_any_two_rows(void **state)
{
    (void)state;
    int rows = 0;
    while (run_until_killed(rows)) {
        if (count_contradictions() > 0) {
            fail_msg("killed after %d rows, the store contradicts itself", rows);
        }
        empty_folder(state_dir);
        rows++;
    }
    assert_int_equal(count_contradictions(), 0);
    assert_true(rows > 20);
}

static void test_without_a_store(void **state)
{
    (void)state;
    struct world *world = world_open();
    struct journal *kept = world->fleet.journal;
    struct journal *nothing[] = { NULL, journal_new(world->fleet.devices, world->fleet.policies,
                                                    world->fleet.never_again, NULL) };
    struct mac mac = mac_of(1);
    for (size_t i = 0; i < 2; i++) {
        world->fleet.journal = nothing[i];
        random_device(world, 1);
        random_policy(world, 1);
        struct rollout_order order = order_of("lamp", 0, 5);
        struct rollout *rollout = begin_rollout(world, i == 0 ? "00000000000000c1" : "00000000000000c2", &order, 1, 9);
        assert_true(rollout->in_flight > 0); /* nothing to wait for */
        journal_event(nothing[i], &mac, &now, "cut", "%s", "");
        journal_flush(nothing[i], world->fleet.rollouts);
        assert_int_equal(journal_events_dropped(nothing[i]), 0);
        assert_true(journal_takes_words(nothing[i], 1));
        assert_null(journal_queue(nothing[i]));
        journal_free(nothing[i]);
    }
    world->fleet.journal = kept;
    assert_int_equal(store_queue_view(world->queue)->backlog, 0);
    world_kill(world);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_fleet_comes_back),
        TEST(test_marked_often_written_once),
        TEST(test_marks_survive_a_full_backlog),
        TEST(test_events_are_dropped_and_counted),
        TEST(test_rollouts_are_written_again),
        TEST(test_forgotten_rollouts_stay_forgotten),
        TEST(test_words_of_many_types_come_back),
        TEST(test_words_that_found_no_room_are_written),
        TEST(test_a_word_that_cannot_even_be_owed_is_refused),
        TEST(test_a_device_is_forgotten_whole_or_not_at_all),
        TEST(test_a_device_at_once),
        TEST(test_a_device_is_forgotten),
        TEST(test_the_loop_guard_holds_over_a_restart),
        TEST(test_killed_between_any_two_rows),
        TEST(test_without_a_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
