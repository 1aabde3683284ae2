/* The store on a disk that fails, at every call of a batch, in every way: nothing half written, nothing lost that was
 * said to be written, and it goes on when the fault has gone. */
#include "tests/support/fault_vfs.h"
#include "tests/unit/fleet/store_fixture.h"

#include <errno.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/wait.h>

/* --- what a store holds, as a number ------------------------------------------------------------------------------*/

static uint64_t hash_bytes(uint64_t h, const void *bytes, size_t n)
{
    const uint8_t *b = bytes;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ b[i]) * 1099511628211u;
    }
    return h;
}

/* By SQL, so that it trusts no reader of ours. */
static uint64_t digest(const char *dir)
{
    static const char *const queries[] = {
        "SELECT * FROM device",  "SELECT * FROM seen",   "SELECT * FROM policy",
        "SELECT * FROM rollout", "SELECT * FROM member", "SELECT mac, at, word, text FROM event ORDER BY id"
    };
    char path[400];
    sqlite3 *db;
    uint64_t h = 14695981039346656037u;
    snprintf(path, sizeof path, "%s/updraft.db", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        sqlite3_stmt *statement;
        int code = sqlite3_prepare_v2(db, queries[i], -1, &statement, NULL);
        assert_int_equal(code, SQLITE_OK);
        while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
            for (int k = 0; k < sqlite3_column_count(statement); k++) {
                const void *bytes = sqlite3_column_blob(statement, k);
                h = hash_bytes(h, bytes != NULL ? bytes : "", (size_t)sqlite3_column_bytes(statement, k));
                h = hash_bytes(h, "|", 1);
            }
        }
        assert_int_equal(code, SQLITE_DONE);
        sqlite3_finalize(statement);
    }
    sqlite3_stmt *check;
    assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &check, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(check), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(check, 0), "ok");
    sqlite3_finalize(check);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return h;
}

/* As it would be found after a kill -9 now. */
static uint64_t digest_if_killed(void)
{
    char copy[64] = "/tmp/updraft-copy-XXXXXX";
    assert_non_null(mkdtemp(copy));
    copy_state(copy);
    uint64_t found = digest(copy);
    empty_folder(copy);
    (void)rmdir(copy);
    return found;
}

/* --- batches ------------------------------------------------------------------------------------------------------*/

#define BATCH_MAX   600
#define LOG_DEVICES 8400

/* All kinds, in an order and with keys that make each replace something of the one before. */
static size_t make_batch(unsigned number, size_t size, struct store_change *batch[BATCH_MAX])
{
    for (size_t i = 0; i < size; i++) {
        unsigned seed = number * 1000 + (unsigned)i;
        switch (i % 6) {
        case 0:
            batch[i] = full_device(1 + (unsigned)i);
            batch[i]->row.device.seen_s = seed;
            break;
        case 1:
            batch[i] = full_policy(1 + (unsigned)i);
            batch[i]->row.policy.unix_s = seed;
            batch[i]->row.policy.gone = number == 2 && i % 12 == 1;
            break;
        case 2:
            batch[i] = full_rollout(3); /* SKIPPED: not over */
            batch[i]->row.rollout.rollout.state = ROLLOUT_RUNNING;
            batch[i]->row.rollout.rollout.bytes = seed;
            break;
        case 3:
            batch[i] = full_member((unsigned)i, 3);
            batch[i]->row.member.unix_s = seed;
            break;
        default:
            batch[i] = full_event(seed, i % 3);
        }
    }
    return size;
}

static enum status write_batch(void *store, unsigned number, size_t size, bool durable, char message[MESSAGE_SIZE])
{
    struct store_change *batch[BATCH_MAX] = { NULL };
    return write_all(store, batch, make_batch(number, size, batch), durable, message);
}

/* So much that the next batch makes the log long enough to be carried over. */
static void fill_log(void *store)
{
    static struct store_change *devices[LOG_DEVICES];
    char message[MESSAGE_SIZE];
    for (unsigned i = 0; i < LOG_DEVICES; i++) {
        devices[i] = full_device(100000 + i);
    }
    assert_int_equal(write_all(store, devices, LOG_DEVICES, false, message), STATUS_OK);
}

/* The store with `before` batches, as it is before the one that fails. */
static void *begin(unsigned before, size_t size)
{
    char message[MESSAGE_SIZE];
    empty_folder(state_dir);
    void *store = open_store(state_dir);
    if (size == BATCH_MAX) {
        fill_log(store);
    }
    for (unsigned i = 1; i <= before; i++) {
        assert_int_equal(write_batch(store, i, size, false, message), STATUS_OK); /* quicker */
    }
    return store;
}

struct scene {
    unsigned before;
    size_t size;
    uint64_t digest_before, digest_after;
};

static struct scene make_scene(unsigned before, size_t size)
{
    struct scene scene = { .before = before, .size = size };
    store_sqlite.close(begin(before, size));
    scene.digest_before = digest(state_dir);
    store_sqlite.close(begin(before + 1, size));
    scene.digest_after = digest(state_dir);
    assert_true(scene.digest_before != scene.digest_after);
    return scene;
}

static const struct {
    const char *word;
    enum status status;
} said[FAULT_KINDS] = {
    [FAULT_DISK_FULL] = { "make room", STATUS_LIMIT },  [FAULT_WRITE_FAILS] = { "in order?", STATUS_IO },
    [FAULT_SHORT_WRITE] = { "in order?", STATUS_IO },   [FAULT_SYNC_FAILS] = { "in order?", STATUS_IO },
    [FAULT_READ_ONLY] = { "read-only", STATUS_DENIED },
};

static unsigned said_so; /* how often a batch was written, and its log not carried over */

/* The batch with its n-th call failing. Returns whether a call failed at all. */
static bool one_fault(const struct scene *scene, enum fault_kind kind, unsigned nth, bool lasting, bool durable)
{
    char message[MESSAGE_SIZE] = "";
    void *store = begin(scene->before, scene->size);
    fault_vfs_arm(kind, nth, lasting);
    enum status status = write_batch(store, scene->before + 1, scene->size, durable, message);
    unsigned hits = fault_vfs_hits();
    uint64_t killed = (fault_vfs_clear(), digest_if_killed());
    if (status == STATUS_OK) {
        assert_true(killed == scene->digest_after);
        assert_true((message[0] != '\0') == (hits > 0)); /* carried over it could not be, and that is said */
        if (hits > 0) {
            said_so++;
            assert_non_null(strstr(message, state_file));
            assert_non_null(strstr(message, said[kind].word));
            assert_int_equal(write_batch(store, scene->before + 1, 1, durable, message), STATUS_OK);
            assert_string_equal(message, ""); /* and no longer than it is so */
        }
    } else {
        assert_true(hits > 0);
        assert_true(killed == scene->digest_before || killed == scene->digest_after); /* never half */
        if (status != said[kind].status || strstr(message, said[kind].word) == NULL ||
            strstr(message, state_file) == NULL) {
            fail_msg("kind %d, call %u: %s: %s", (int)kind, nth, status_name(status), message);
        }
        if (lasting) { /* and as long as it lasts, it stays refused */
            fault_vfs_arm(kind, 1, true);
            enum status again = write_batch(store, scene->before + 1, scene->size, true, message);
            assert_int_not_equal(again, STATUS_OK);
            fault_vfs_clear();
        }
        assert_int_equal(write_batch(store, scene->before + 1, scene->size, durable, message), STATUS_OK);
    }
    assert_true(digest_if_killed() == scene->digest_after);
    store_sqlite.close(store);
    assert_true(digest(state_dir) == scene->digest_after);
    return hits > 0;
}

static void every_call(const struct scene *scene, unsigned stride, bool durable, unsigned least)
{
    for (int kind = FAULT_NONE + 1; kind < FAULT_KINDS; kind++) {
        for (int lasting = 0; lasting < 2; lasting++) {
            unsigned nth = 1, tried = 0;
            for (; one_fault(scene, (enum fault_kind)kind, nth, lasting != 0, durable); tried++) {
                nth += nth < 12 ? 1 : stride;
            }
            assert_true(kind == FAULT_SYNC_FAILS ? tried > 0 || !durable : tried >= least);
        }
    }
}

static void test_every_call_of_a_batch(void **state)
{
    (void)state;
    struct scene scene = make_scene(1, 24);
    every_call(&scene, 1, true, 10);
    every_call(&scene, 3, false, 10);
}

/* The first batch of all: the log is made, the database has one page of its own yet. */
static void test_every_call_of_the_first_batch(void **state)
{
    (void)state;
    struct scene scene = make_scene(0, 12);
    every_call(&scene, 1, true, 8);
}

/* A batch behind which the log is carried over into the database (a checkpoint): what fails then has been written; but
 * unless somebody is told, the log grows until the disk is full. */
static void test_calls_of_a_checkpoint(void **state)
{
    (void)state;
    struct scene scene = make_scene(1, BATCH_MAX);
    said_so = 0;
    every_call(&scene, 401, true, 12);
    assert_true(said_so > 5);
}

/* Whatever fails while it is made or opened: an answer with a remedy, and the next start finds it in order. */
static void test_every_call_of_opening(void **state)
{
    (void)state;
    char message[MESSAGE_SIZE];
    for (int kind = FAULT_NONE + 1; kind < FAULT_KINDS; kind++) {
        for (int lasting = 0; lasting < 2; lasting++) {
            unsigned refused = 0;
            for (unsigned nth = 1, hits = 1; hits > 0; nth++) {
                void *store = NULL;
                empty_folder(state_dir);
                fault_vfs_arm((enum fault_kind)kind, nth, lasting != 0);
                enum status status = store_sqlite.open(state_dir, &store, message, sizeof message);
                hits = fault_vfs_hits();
                fault_vfs_clear();
                if (status == STATUS_OK) {
                    store_sqlite.close(store);
                } else {
                    refused++;
                    assert_non_null(strstr(message, state_file));
                    assert_int_equal(status, said[kind].status);
                }
                store = open_store(state_dir);
                write_one(store, full_device(1));
                store_sqlite.close(store);
            }
            assert_true(refused > 0);
        }
    }
}

/* Reading goes on while nothing can be written. */
static void test_reads_while_it_cannot_be_written(void **state)
{
    (void)state;
    char message[MESSAGE_SIZE];
    struct store_event events[STORE_EVENTS_OF_DEVICE];
    struct mac mac = mac_of(1);
    size_t count;
    void *store = begin(1, 24);
    fault_vfs_arm(FAULT_WRITE_FAILS, 1, true);
    assert_int_equal(write_batch(store, 2, 24, true, message), STATUS_IO);
    assert_int_equal(store_sqlite.events(store, &mac, events, STORE_EVENTS_OF_DEVICE, &count, message, sizeof message),
                     STATUS_OK);
    assert_true(count > 0);
    fault_vfs_clear();
    store_sqlite.close(store);
}

/* --- a disk that is really full -----------------------------------------------------------------------------------*/

#define CANNOT 77

/* In a process of its own, with a mount that nobody else sees. */
static int on_a_small_disk(void)
{
    char message[MESSAGE_SIZE] = "", filler[400];
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", state_dir, "tmpfs", 0, "size=2m") != 0) {
        printf("no small disk: %s\n", strerror(errno));
        return CANNOT;
    }
    void *store = open_store(state_dir);
    assert_int_equal(write_batch(store, 1, BATCH_MAX, true, message), STATUS_OK);
    snprintf(filler, sizeof filler, "%s/filler", state_dir);
    int fd = open(filler, O_WRONLY | O_CREAT, 0600);
    while (write(fd, filler, sizeof filler) > 0) {
    }
    (void)close(fd);
    unsigned number = 2;
    enum status status;
    do {
        status = write_batch(store, number++, BATCH_MAX, true, message);
    } while (status == STATUS_OK);
    assert_int_equal(status, STATUS_LIMIT);
    assert_non_null(strstr(message, "make room"));
    assert_int_equal(write_batch(store, number - 1, BATCH_MAX, true, message), STATUS_LIMIT);
    assert_int_equal(unlink(filler), 0);
    assert_int_equal(write_batch(store, number - 1, BATCH_MAX, true, message), STATUS_OK);
    uint64_t killed = digest_if_killed();
    store_sqlite.close(store);
    assert_true(digest(state_dir) == killed);
    fd = open(filler, O_WRONLY | O_CREAT, 0600);
    while (write(fd, filler, sizeof filler) > 0) {
    }
    (void)close(fd);
    void *opened = NULL; /* a start on a full disk says so; nothing is lost by it */
    status = store_sqlite.open(state_dir, &opened, message, sizeof message);
    if (status == STATUS_OK) {
        store_sqlite.close(opened);
    } else {
        assert_int_equal(status, STATUS_LIMIT);
        assert_non_null(strstr(message, "make room"));
    }
    assert_int_equal(unlink(filler), 0);
    assert_true(digest(state_dir) == killed);
    /* And read-only of a sudden, as ext4 becomes when its disk fails. */
    store = open_store(state_dir);
    assert_int_equal(mount(NULL, state_dir, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0 ? 0 : errno, EBUSY);
    store_sqlite.close(store);
    assert_int_equal(mount(NULL, state_dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    assert_int_equal(store_sqlite.open(state_dir, &opened, message, sizeof message), STATUS_DENIED);
    assert_non_null(strstr(message, "read-only"));
    return 0;
}

static void test_a_small_disk(void **state)
{
    (void)state;
    int status;
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int code = on_a_small_disk();
        (void)fflush(NULL);
        _exit(code);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CANNOT) {
        skip(); /* the reason is printed: only root may mount */
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    fault_vfs_install();
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_state, remove_state)
    const struct CMUnitTest tests[] = {
        TEST(test_every_call_of_a_batch), TEST(test_every_call_of_the_first_batch),    TEST(test_calls_of_a_checkpoint),
        TEST(test_every_call_of_opening), TEST(test_reads_while_it_cannot_be_written), TEST(test_a_small_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
