/* The store in SQLite: what is written is read again, every field of it. A mistake here is an operator's pin that is
 * forgotten. (test_store_schema.c: what is opened, and what is refused.)
 */
#include "tests/unit/fleet/store_fixture.h"

#include <sqlite3.h>

/* --- rows ---------------------------------------------------------------------------------------------------------*/

/* Gaps between fields are no fields. Only gcc can tell (from 11 on); elsewhere the whole is not compared. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
#define CLEAR_GAPS(row) __builtin_clear_padding(row)
#endif
#endif

#ifdef CLEAR_GAPS
#define COMPARES_ALL true
#else
#define CLEAR_GAPS(row) ((void)(row))
#define COMPARES_ALL    false
#endif

static void same_bytes(const char *what, const void *a, const void *b, size_t size)
{
    const uint8_t *left = a, *right = b;
    for (size_t i = 0; COMPARES_ALL && i < size; i++) {
        if (left[i] != right[i]) {
            fail_msg("%s: byte %zu was written as %02x and read as %02x: the field there is forgotten in store_rows.c, "
                     "or the one beside it is too short",
                     what, i, left[i], right[i]);
        }
    }
}

/* gcc 12 passes over gaps at the end of a word within a struct within a struct: those are cleared by themselves. */
static void clear_device(struct store_device *row)
{
    CLEAR_GAPS(row);
    CLEAR_GAPS(&row->never_again);
}

static void clear_rollout(struct rollout *row)
{
    CLEAR_GAPS(row);
    CLEAR_GAPS(&row->order);
    CLEAR_GAPS(&row->order.target);
    CLEAR_GAPS(&row->window);
}

static void assert_same(struct store_change *written, struct store_change *read)
{
    assert_int_equal(written->kind, read->kind);
    switch (written->kind) {
    case STORE_DEVICE:
        clear_device(&written->row.device);
        clear_device(&read->row.device);
        same_bytes("device", &written->row.device, &read->row.device, sizeof read->row.device);
        break;
    case STORE_POLICY:
        CLEAR_GAPS(&written->row.policy);
        CLEAR_GAPS(&read->row.policy);
        same_bytes("policy", &written->row.policy, &read->row.policy, sizeof read->row.policy);
        break;
    case STORE_MEMBER:
        CLEAR_GAPS(&written->row.member);
        CLEAR_GAPS(&read->row.member);
        same_bytes("member", &written->row.member, &read->row.member, sizeof read->row.member);
        break;
    default: {
        struct rollout *left = &written->row.rollout.rollout, *right = &read->row.rollout.rollout;
        assert_int_equal(left->order.device_count, right->order.device_count);
        same_bytes("named", left->order.devices, right->order.devices, left->order.device_count * sizeof(struct mac));
        struct mac *devices = right->order.devices;
        right->order.devices = left->order.devices; /* the pointer itself */
        clear_rollout(left);
        clear_rollout(right);
        same_bytes("rollout", left, right, sizeof *left);
        right->order.devices = devices;
    }
    }
}

static void write_members(void *store, unsigned rollout, unsigned first, unsigned count, int state)
{
    char message[MESSAGE_SIZE];
    for (unsigned seed = first; seed < first + count;) {
        struct store_change *batch[100];
        for (size_t i = 0; i < 100; i++) {
            batch[i] = full_member(seed++, rollout);
            batch[i]->row.member.state = state >= 0 ? (uint8_t)state : batch[i]->row.member.state;
        }
        assert_int_equal(write_all(store, batch, 100, false, message), STATUS_OK);
    }
}

static void write_rollout_in(void *store, unsigned seed, enum rollout_state state, bool follows)
{
    struct store_change *rollout = full_rollout(seed);
    struct rollout *row = &rollout->row.rollout.rollout;
    row->state = state;
    row->devices[ROLLOUT_DEVICE_TRIGGERED] = follows;
    row->devices[ROLLOUT_DEVICE_DOWNLOADING] = row->devices[ROLLOUT_DEVICE_FLASHED] = 0;
    write_one(store, rollout);
}

static struct store_change *(*const makers[])(unsigned seed) = { full_device, full_policy, full_rollout };

/* Else a restart forgets a field. */
static void test_every_field_comes_back(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 96; seed++) {
        empty_folder(state_dir);
        void *store = open_store(state_dir);
        struct store_change *row = seed % 4 < 3 ? makers[seed % 4](seed) : full_member(seed, 5);
        struct store_change *written = seed % 4 < 3 ? makers[seed % 4](seed) : full_member(seed, 5);
        bool is_member = written->kind == STORE_MEMBER;
        if (is_member) {
            write_rollout_in(store, 5, ROLLOUT_RUNNING, false);
        }
        write_one(store, row);
        store_sqlite.close(store);
        store = open_store(state_dir);
        struct loaded *loaded = load_all(store);
        assert_int_equal(loaded->count, 1 + is_member);
        assert_same(written, loaded->rows[is_member]);
        store_change_free(written);
        free_loaded(loaded);
        store_sqlite.close(store);
    }
}

/* The same rows for each word of a state, a reason or an outcome: a list that is longer than a reader believes would
 * come back as its first word. */
static void test_every_word_comes_back(void **state)
{
    (void)state;
    void *store = open_store(state_dir);
    unsigned n = 0;
    for (unsigned i = 0; i < REASON_COUNT; i++, n++) {
        struct store_change *row = full_device(1000 + n);
        row->row.device.reason = (uint8_t)i;
        row->row.device.transfer.outcome = (uint8_t)(i % OUTCOME_COUNT);
        row->row.device.client = (uint8_t)(i % (CLIENT_ESP32 + 1));
        write_one(store, row);
    }
    for (unsigned i = 0; i < ROLLOUT_DEVICE_STATES; i++) {
        struct store_change *row = full_member(2000 + i, 3000);
        row->row.member.state = (uint8_t)i;
        row->row.member.armed = 0;
        write_one(store, row);
    }
    for (unsigned i = 0; i < ROLLOUT_STATES; i++) {
        struct store_change *row = full_rollout(3000 + i);
        row->row.rollout.rollout.state = row->row.rollout.rollout.before = (enum rollout_state)i;
        write_one(store, row);
    }
    struct loaded *loaded = load_all(store);
    unsigned next[STORE_KINDS] = { 0 };
    for (size_t i = 0; i < loaded->count; i++) {
        const struct store_change *row = loaded->rows[i];
        unsigned k = next[row->kind]++;
        if (row->kind == STORE_DEVICE) {
            assert_int_equal(row->row.device.reason, k);
            assert_int_equal(row->row.device.transfer.outcome, k % OUTCOME_COUNT);
            assert_int_equal(row->row.device.client, k % (CLIENT_ESP32 + 1));
        } else if (row->kind == STORE_MEMBER) {
            assert_int_equal(row->row.member.state, k);
        } else {
            assert_int_equal(row->row.rollout.rollout.state, k);
            assert_int_equal(row->row.rollout.rollout.before, k);
        }
    }
    assert_int_equal(next[STORE_DEVICE], REASON_COUNT);
    assert_int_equal(next[STORE_ROLLOUT], ROLLOUT_STATES);
    free_loaded(loaded);
    store_sqlite.close(store);
}

/* A batch that is tried again, and a device that changed twice in one: the last word counts. */
static void test_the_later_row_wins(void **state)
{
    (void)state;
    char message[MESSAGE_SIZE];
    void *store = open_store(state_dir);
    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++) {
        struct store_change *early = makers[i](7), *late = makers[i](7), *batch[] = { early, late };
        if (early->kind == STORE_DEVICE) {
            early->row.device.seen_s = 1;
        } else if (early->kind == STORE_POLICY) {
            early->row.policy.unix_s = 1;
        } else {
            early->row.rollout.rollout.bytes = 1;
        }
        assert_int_equal(write_all(store, batch, 2, false, message), STATUS_OK);
    }
    struct loaded *loaded = load_all(store);
    assert_int_equal(loaded->count, 3);
    for (size_t i = 0; i < 3; i++) {
        struct store_change *last = makers[loaded->rows[i]->kind == STORE_DEVICE   ? 0
                                           : loaded->rows[i]->kind == STORE_POLICY ? 1
                                                                                   : 2](7);
        assert_same(last, loaded->rows[i]);
        store_change_free(last);
    }
    free_loaded(loaded);
    store_sqlite.close(store);
}

static void write_gone(void *store, enum store_kind kind, unsigned seed)
{
    struct store_change *change = store_change_new(kind);
    if (kind == STORE_POLICY) {
        change->row.policy.gone = true;
        change->row.policy.mac = mac_of(0xabcdef000000 + seed);
    } else {
        change->row.rollout.gone = true;
        rollout_id(change->row.rollout.rollout.id, seed);
    }
    write_one(store, change);
}

static void test_gone_is_gone_with_its_members(void **state)
{
    (void)state;
    void *store = open_store(state_dir);
    for (unsigned seed = 8; seed < 10; seed++) {
        struct store_change *rollout = full_rollout(seed);
        rollout->row.rollout.rollout.state = ROLLOUT_RUNNING;
        write_one(store, rollout);
        write_one(store, full_policy(seed));
        write_one(store, full_member(seed, seed));
        write_one(store, full_member(seed + 100, seed));
    }
    write_gone(store, STORE_POLICY, 8);
    write_gone(store, STORE_ROLLOUT, 8);
    write_gone(store, STORE_ROLLOUT, 77); /* there was none */
    write_gone(store, STORE_POLICY, 77);
    struct loaded *loaded = load_all(store);
    assert_int_equal(count_kind(loaded, STORE_POLICY), 1);
    assert_int_equal(count_kind(loaded, STORE_ROLLOUT), 1);
    assert_int_equal(count_kind(loaded, STORE_MEMBER), 2);
    for (size_t i = 0; i < loaded->count; i++) {
        if (loaded->rows[i]->kind == STORE_MEMBER) {
            assert_string_equal(loaded->rows[i]->row.member.rollout, "0000000000000009");
        }
    }
    free_loaded(loaded);
    store_sqlite.close(store);
}

/* Else what was forgotten comes back at the next start, or its time-line with the next device of that MAC. */
static void test_a_device_is_gone_with_its_time_line(void **state)
{
    (void)state;
    struct store_event events[4];
    char message[400];
    size_t count = 0;
    void *store = open_store(state_dir);
    struct store_change *kept = full_device(9), *gone = store_change_new(STORE_DEVICE);
    struct store_change *device = full_device(8);
    gone->row.device.mac = device->row.device.mac;
    gone->row.device.gone = true;
    struct mac mac = gone->row.device.mac;
    write_one(store, device);
    write_one(store, kept);
    struct store_change *event = full_event(1, 1);
    event->row.event.mac = mac;
    write_one(store, event);
    write_one(store, gone);
    struct loaded *loaded = load_all(store);
    assert_int_equal(count_kind(loaded, STORE_DEVICE), 1);
    assert_int_equal(store_sqlite.events(store, &mac, events, 4, &count, message, sizeof message), STATUS_OK);
    assert_int_equal(count, 0);
    free_loaded(loaded);
    store_sqlite.close(store);
}

/* Else a start would read every device of sixty-four rollouts that nobody follows any more; or one that follows some
 * would not know them. */
static void test_whose_members_are_loaded(void **state)
{
    (void)state;
    static const unsigned each = 300, all = 300 * ROLLOUT_DEVICE_STATES;
    static const struct {
        enum rollout_state state;
        bool follows;
        unsigned loaded;
    } steps[] = { { ROLLOUT_HALTED, true, all }, { ROLLOUT_ABORTED, true, all }, { ROLLOUT_ABORTED, false, 3 * each } };
    void *store = open_store(state_dir);
    write_members(store, 1, 0, all, -1);
    for (size_t k = 0; k < sizeof steps / sizeof steps[0]; k++) {
        write_rollout_in(store, 1, steps[k].state, steps[k].follows);
        struct loaded *loaded = load_all(store);
        assert_int_equal(count_kind(loaded, STORE_MEMBER), steps[k].loaded);
        for (size_t i = 0; i < loaded->count; i++) {
            const struct store_member *row = &loaded->rows[i]->row.member;
            bool is_listed = row->state == ROLLOUT_DEVICE_FAILED || row->state == ROLLOUT_DEVICE_SILENT ||
                             row->state == ROLLOUT_DEVICE_SKIPPED;
            assert_true(loaded->rows[i]->kind != STORE_MEMBER || is_listed || steps[k].loaded == all);
        }
        free_loaded(loaded);
    }
    store_sqlite.close(store);
}

static uint64_t number_of(const struct mac *mac)
{
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof mac->bytes; i++) {
        number = number << 8 | mac->bytes[i];
    }
    return number;
}

/* Whoever was confirmed is found when the rollout is over, page by page, and each once. */
static void test_members_are_read_in_pages(void **state)
{
    (void)state;
    static struct store_member members[1000];
    char message[MESSAGE_SIZE];
    size_t count, found = 0;
    uint64_t last = 0;
    void *store = open_store(state_dir);
    write_members(store, 1, 0, 2400, ROLLOUT_DEVICE_CONFIRMED);
    write_members(store, 2, 0, 100, ROLLOUT_DEVICE_CONFIRMED);
    do {
        assert_int_equal(store_sqlite.members(store, "0000000000000001", ROLLOUT_DEVICE_CONFIRMED, found, members, 1000,
                                              &count, message, sizeof message),
                         STATUS_OK);
        for (size_t i = 0; i < count; i++) {
            assert_true(number_of(&members[i].mac) > last);
            last = number_of(&members[i].mac);
        }
        found += count;
    } while (count == 1000);
    assert_int_equal(found, 2400);
    store_sqlite.close(store);
}

static int member_rows(void)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open(state_file, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM member", -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int rows = sqlite3_column_int(statement, 0);
    assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return rows;
}

static size_t members_listed(void *store, const char *rollout)
{
    struct store_member members[10];
    char message[MESSAGE_SIZE];
    size_t of_all = 0, of_state = 0;
    assert_int_equal(
        store_sqlite.members(store, rollout, ROLLOUT_DEVICE_STATES, 0, members, 10, &of_all, message, sizeof message),
        STATUS_OK);
    assert_int_equal(store_sqlite.members(store, rollout, ROLLOUT_DEVICE_CONFIRMED, 0, members, 10, &of_state, message,
                                          sizeof message),
                     STATUS_OK);
    assert_int_equal(of_all, of_state);
    return of_all;
}

/* A million rows at once would keep a memory card busy for so long that the store seems to hang. */
static void test_many_members_go_in_pieces(void **state)
{
    (void)state;
    void *store = open_store(state_dir);
    write_members(store, 1, 0, 10000, ROLLOUT_DEVICE_CONFIRMED);
    write_members(store, 2, 0, 10000, ROLLOUT_DEVICE_CONFIRMED);
    write_members(store, 3, 0, 100, ROLLOUT_DEVICE_CONFIRMED);
    assert_false(store_sqlite.tidy(store));
    write_gone(store, STORE_ROLLOUT, 1);
    struct store_change *word = full_rollout(2);
    word->row.rollout.rollout.word_only = true;
    write_one(store, word);
    assert_int_equal(members_listed(store, "0000000000000001"), 0); /* they are as good as gone */
    assert_int_equal(members_listed(store, "0000000000000002"), 0);
    int rows = member_rows(), pieces = 0;
    assert_int_equal(rows, 20100);
    while (store_sqlite.tidy(store)) {
        int left = member_rows();
        assert_true(left <= rows && rows - left <= 5000);
        rows = left;
        if (++pieces == 2) { /* whoever comes next goes on with it */
            store_sqlite.close(store);
            store = open_store(state_dir);
        }
    }
    assert_int_equal(rows, 100);
    assert_int_equal(members_listed(store, "0000000000000003"), 10);
    store_sqlite.close(store);
}

/* The last word on those that waited when it ended, before their turn. */
static void test_who_waited_at_the_end_was_skipped(void **state)
{
    (void)state;
    static const struct {
        enum rollout_device_state state;
        size_t count;
    } wanted[] = { { ROLLOUT_DEVICE_SKIPPED, 200 }, { ROLLOUT_DEVICE_FAILED, 0 }, { ROLLOUT_DEVICE_STATES, 300 } };
    static struct store_member members[1000];
    char message[MESSAGE_SIZE];
    size_t count;
    void *store = open_store(state_dir);
    write_members(store, 1, 0, 100, ROLLOUT_DEVICE_QUEUED);
    write_members(store, 1, 100, 100, ROLLOUT_DEVICE_SKIPPED);
    write_members(store, 1, 200, 100, ROLLOUT_DEVICE_CONFIRMED);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        assert_int_equal(store_sqlite.members(store, "0000000000000001", wanted[i].state, 0, members, 1000, &count,
                                              message, sizeof message),
                         STATUS_OK);
        assert_int_equal(count, wanted[i].count);
        for (size_t k = 0; k < count; k++) {
            assert_int_not_equal(members[k].state, ROLLOUT_DEVICE_QUEUED);
        }
    }
    store_sqlite.close(store);
}

/* The newer of two rollouts is the type's word, whatever the clock said meanwhile, and however often each was written
 * again; and armed devices are told in the order they were armed. */
static void test_read_in_order(void **state)
{
    (void)state;
    static const unsigned ids[] = { 5, 3, 9, 1 };
    void *store = open_store(state_dir);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 4; i++) {
            size_t k = round == 0 ? i : 3 - i;
            struct store_change *rollout = full_rollout(ids[k]);
            rollout->row.rollout.rollout.state = ROLLOUT_RUNNING;
            rollout->row.rollout.rollout.created_s = 4 - (uint32_t)k;
            write_one(store, rollout);
        }
    }
    for (unsigned seed = 0; seed < 40; seed++) {
        struct store_change *member = full_member(seed, ids[seed % 2]);
        member->row.member.state = ROLLOUT_DEVICE_QUEUED;
        member->row.member.armed = seed * 7 % 40;
        write_one(store, member);
    }
    struct loaded *loaded = load_all(store);
    size_t rollouts = 0;
    const struct store_member *before = NULL;
    for (size_t i = 0; i < loaded->count; i++) {
        const struct store_change *row = loaded->rows[i];
        if (row->kind == STORE_ROLLOUT) {
            char id[ANNOUNCE_ID_SIZE];
            rollout_id(id, ids[rollouts++]);
            assert_string_equal(row->row.rollout.rollout.id, id);
        } else {
            const struct store_member *member = &row->row.member;
            assert_int_equal(rollouts, 4); /* a member has its rollout before it */
            assert_true(before == NULL || member->armed == 0 || strcmp(before->rollout, member->rollout) < 0 ||
                        before->armed < member->armed);
            before = member;
        }
    }
    free_loaded(loaded);
    store_sqlite.close(store);
}

/* What comes first is what later rows refer to. */
static void test_policies_then_devices_then_rollouts(void **state)
{
    (void)state;
    void *store = open_store(state_dir);
    write_one(store, full_member(4, 2));
    write_one(store, full_rollout(2));
    write_one(store, full_device(1));
    write_one(store, full_policy(1));
    struct loaded *loaded = load_all(store);
    static const enum store_kind order[] = { STORE_POLICY, STORE_DEVICE, STORE_ROLLOUT, STORE_MEMBER };
    assert_int_equal(loaded->count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(loaded->rows[i]->kind, order[i]);
    }
    free_loaded(loaded);
    store_sqlite.close(store);
}

/* --- the time-line ------------------------------------------------------------------------------------------------*/

static void test_a_time_line_is_bounded(void **state)
{
    (void)state;
    char message[MESSAGE_SIZE];
    struct store_event events[60];
    size_t count;
    struct mac mac = mac_of(1), other = mac_of(2), nobody = mac_of(3);
    void *store = open_store(state_dir);
    for (unsigned seed = 0; seed < 70; seed++) {
        write_one(store, full_event(seed, 1));
        if (seed % 10 == 0) {
            write_one(store, full_event(seed, 2));
        }
    }
    assert_int_equal(store_sqlite.events(store, &mac, events, 60, &count, message, sizeof message), STATUS_OK);
    assert_int_equal(count, STORE_EVENTS_OF_DEVICE);
    for (size_t i = 0; i < count; i++) {
        struct store_change *written = full_event(69 - (unsigned)i, 1);
        CLEAR_GAPS(&written->row.event);
        CLEAR_GAPS(&events[i]);
        assert_string_equal(events[i].text, written->row.event.text);
        assert_string_equal(events[i].word, written->row.event.word);
        assert_int_equal(events[i].unix_s, written->row.event.unix_s);
        assert_memory_equal(&events[i].mac, &mac, sizeof mac);
        store_change_free(written);
    }
    assert_int_equal(store_sqlite.events(store, &mac, events, 3, &count, message, sizeof message), STATUS_OK);
    assert_int_equal(count, 3);
    assert_string_equal(events[0].text, "text 69");
    assert_int_equal(store_sqlite.events(store, &other, events, 60, &count, message, sizeof message), STATUS_OK);
    assert_int_equal(count, 7);
    assert_int_equal(store_sqlite.events(store, &nobody, events, 60, &count, message, sizeof message), STATUS_OK);
    assert_int_equal(count, 0);
    store_sqlite.close(store);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_state, remove_state)
    const struct CMUnitTest tests[] = {
        TEST(test_every_field_comes_back),
        TEST(test_every_word_comes_back),
        TEST(test_the_later_row_wins),
        TEST(test_gone_is_gone_with_its_members),
        TEST(test_a_device_is_gone_with_its_time_line),
        TEST(test_whose_members_are_loaded),
        TEST(test_members_are_read_in_pages),
        TEST(test_many_members_go_in_pieces),
        TEST(test_who_waited_at_the_end_was_skipped),
        TEST(test_read_in_order),
        TEST(test_policies_then_devices_then_rollouts),
        TEST(test_a_time_line_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
