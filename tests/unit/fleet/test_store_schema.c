/* What is not ours, too new or damaged is refused and left as it was; what is older is brought up. A mistake here is a
 * database that is overwritten.
 */
#include "fleet/store_schema.h"
#include "tests/unit/fleet/store_fixture.h"
#include "tests/unit/fleet/store_schemas.h"

#include <sqlite3.h>

/* --- opening ------------------------------------------------------------------------------------------------------*/

/* Opens and reads, as a start does. */
static enum status start(const char *dir, char message[MESSAGE_SIZE])
{
    void *store = NULL;
    message[0] = '\0';
    enum status status = store_sqlite.open(dir, &store, message, MESSAGE_SIZE);
    if (status == STATUS_OK) {
        status = store_sqlite.load(store, ignore_row, NULL, message, MESSAGE_SIZE);
        store_sqlite.close(store);
    }
    return status;
}

static void fill_store(void)
{
    void *store = open_store(state_dir);
    for (unsigned seed = 0; seed < 400; seed++) {
        write_one(store, full_device(seed));
    }
    write_one(store, full_policy(1));
    write_one(store, full_rollout(1));
    store_sqlite.close(store);
}

/* Refused with that status and all these words, and every file of the folder as it was. */
static void assert_refused(enum status expected, const char *reason, const char *remedy)
{
    static const char *const names[] = { "updraft.db", "updraft.db-wal" };
    char message[MESSAGE_SIZE], path[400], *before[2], *after;
    size_t size[2] = { 0 }, size_after = 0;
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", state_dir, names[i]);
        before[i] = file_bytes(path, &size[i]);
    }
    for (int attempt = 0; attempt < 2; attempt++) {
        assert_int_equal(start(state_dir, message), expected);
        assert_non_null(strstr(message, state_file));
        if (strstr(message, reason) == NULL || strstr(message, remedy) == NULL) {
            fail_msg("\"%s\" names neither %s nor %s", message, reason, remedy);
        }
    }
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", state_dir, names[i]);
        after = file_bytes(path, &size_after);
        assert_true(before[i] == NULL || after != NULL);
        if (before[i] != NULL) {
            assert_int_equal(size_after, size[i]);
            assert_memory_equal(after, before[i], size_after);
        }
        free(before[i]);
        free(after);
    }
}

static void sql(const char *statements)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(state_file, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, statements, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Leaves a log beside the database, as a process does that is killed. */
static void sql_killed(const char *statements)
{
    char copy[64] = "/tmp/updraft-copy-XXXXXX", command[400];
    sqlite3 *db;
    assert_non_null(mkdtemp(copy));
    assert_int_equal(sqlite3_open(state_file, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, statements, NULL, NULL, NULL), SQLITE_OK);
    copy_state(copy);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    empty_folder(state_dir);
    snprintf(command, sizeof command, "%s", state_dir);
    snprintf(state_dir, sizeof state_dir, "%s", copy);
    copy_state(command);
    empty_folder(copy);
    (void)rmdir(copy);
    snprintf(state_dir, sizeof state_dir, "%s", command);
}

static void test_opened_twice_it_is_the_same(void **state)
{
    (void)state;
    char message[MESSAGE_SIZE];
    fill_store();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(start(state_dir, message), STATUS_OK);
    }
    void *store = open_store(state_dir);
    struct loaded *loaded = load_all(store);
    assert_int_equal(loaded->count, 402);
    free_loaded(loaded);
    store_sqlite.close(store);
}

static void test_another_programs_database(void **state)
{
    (void)state;
    sql("CREATE TABLE songs (title TEXT); INSERT INTO songs VALUES ('Yesterday');");
    assert_refused(STATUS_INVALID, "another program's", "move it away");
    empty_folder(state_dir);
    sql("PRAGMA application_id = 77"); /* empty, and somebody's */
    assert_refused(STATUS_INVALID, "another program's", "move it away");
    empty_folder(state_dir);
    sql_killed("PRAGMA journal_mode = WAL; CREATE TABLE songs (title TEXT)");
    assert_refused(STATUS_INVALID, "another program's", "move it away");
}

static void test_a_newer_schema(void **state)
{
    (void)state;
    char pragma[60];
    snprintf(pragma, sizeof pragma, "PRAGMA user_version = %d", STORE_SCHEMA_VERSION + 1);
    fill_store();
    sql(pragma);
    assert_refused(STATUS_TOO_NEW, "newer Updraft", "restore a copy");
    sql("PRAGMA user_version = 1");
    sql_killed(pragma); /* it stands in the log alone */
    assert_refused(STATUS_TOO_NEW, "newer Updraft", "restore a copy");
}

static void damage(size_t from, size_t size)
{
    size_t all = 0;
    char *bytes = file_bytes(state_file, &all);
    assert_true(bytes != NULL && from + size <= all);
    for (size_t i = 0; i < size; i++) {
        bytes[from + i] ^= (char)0xa5;
    }
    write_file(state_file, bytes, all);
    free(bytes);
}

static void test_a_damaged_file(void **state)
{
    (void)state;
    fill_store();
    damage(0, 100);
    assert_refused(STATUS_CORRUPT, "no database", "restore a copy");
    empty_folder(state_dir);
    fill_store();
    size_t size = 0;
    free(file_bytes(state_file, &size));
    assert_true(size > 20 * 4096);
    damage(size / 2 / 4096 * 4096, 4096);
    assert_refused(STATUS_CORRUPT, "damaged", ".recover");
    empty_folder(state_dir);
    write_file(state_file,
               "these are my notes, not a database; and they are long enough for a header of one, too: "
               "a hundred bytes at the least, which this is",
               130);
    assert_refused(STATUS_CORRUPT, "no database", "away together");
}

/* Such a one comes from a copy that was made while it was written to. */
static void test_half_a_file(void **state)
{
    (void)state;
    size_t size = 0;
    fill_store();
    char *bytes = file_bytes(state_file, &size);
    write_file(state_file, bytes, size / 2 / 4096 * 4096);
    free(bytes);
    assert_refused(STATUS_CORRUPT, "damaged", "restore a copy");
}

/* A damaged database in an older mode or of an older schema would be changed by opening it: it is looked through first.
 */
static void test_a_damaged_file_is_not_brought_up(void **state)
{
    (void)state;
    size_t size = 0;
    fill_store();
    sql("PRAGMA journal_mode = DELETE");
    free(file_bytes(state_file, &size));
    damage(size / 2 / 4096 * 4096, 4096);
    assert_refused(STATUS_CORRUPT, "damaged", "restore a copy");
}

static void test_a_damaged_file_with_a_log(void **state)
{
    (void)state;
    size_t size = 0;
    fill_store();
    sql_killed("UPDATE policy SET note = 'changed'");
    free(file_bytes(state_file, &size));
    damage(size / 2 / 4096 * 4096, 4096);
    assert_refused(STATUS_CORRUPT, "damaged", "restore a copy");
}

static void test_a_folder_in_its_place(void **state)
{
    (void)state;
    char message[MESSAGE_SIZE];
    assert_int_equal(mkdir(state_file, 0700), 0);
    assert_int_equal(start(state_dir, message), STATUS_INVALID);
    assert_non_null(strstr(message, state_file));
    assert_non_null(strstr(message, "move it away"));
    assert_int_equal(rmdir(state_file), 0); /* nothing was put into it */
}

static void test_no_folder(void **state)
{
    (void)state;
    char message[MESSAGE_SIZE], dir[200], longest[5000];
    snprintf(dir, sizeof dir, "%s/not-there", state_dir);
    assert_int_equal(start(dir, message), STATUS_NOT_FOUND);
    assert_non_null(strstr(message, dir));
    assert_non_null(strstr(message, "make it"));
    write_file(dir, "", 0);
    assert_int_equal(start(dir, message), STATUS_NOT_FOUND);
    assert_non_null(strstr(message, "--state"));
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(start(longest, message), STATUS_TOO_LONG);
    assert_non_null(strstr(message, "--state"));
}

/* As a user who may not write; root may write everywhere, so it becomes nobody for a moment. */
static void refused_by_permission(mode_t dir_mode, mode_t file_mode)
{
    char message[MESSAGE_SIZE];
    assert_int_equal(chmod(state_dir, dir_mode), 0);
    (void)chmod(state_file, file_mode);
    bool root = geteuid() == 0;
    assert_true(!root || seteuid(65534) == 0);
    enum status status = start(state_dir, message);
    assert_true(!root || seteuid(0) == 0);
    if (status != STATUS_DENIED) {
        fail_msg("folder %o, file %o: %s: %s", (unsigned)dir_mode, (unsigned)file_mode, status_name(status), message);
    }
    if (strstr(message, "server's user") == NULL || strstr(message, state_file) == NULL) {
        fail_msg("%s", message);
    }
}

static void test_permissions(void **state)
{
    (void)state;
    size_t size = 0, size_after = 0;
    refused_by_permission(0555, 0644); /* nothing there, and nothing may be made */
    assert_int_equal(chmod(state_dir, 0700), 0);
    fill_store();
    char *before = file_bytes(state_file, &size);
    refused_by_permission(0555, 0666); /* the file may be written, its log not made */
    refused_by_permission(0555, 0444);
    refused_by_permission(0777, 0444);
    refused_by_permission(0777, 0000);
    refused_by_permission(0000, 0666);
    assert_int_equal(chmod(state_dir, 0700), 0);
    assert_int_equal(chmod(state_file, 0600), 0);
    char *after = file_bytes(state_file, &size_after);
    assert_int_equal(size_after, size);
    assert_memory_equal(before, after, size);
    free(before);
    free(after);
}

/* --- schemas ------------------------------------------------------------------------------------------------------*/

/* The tables and indexes as SQLite has them. */
static void schema_text(char *text, size_t size)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    size_t used = 0;
    assert_int_equal(sqlite3_open(state_file, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db, "SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name", -1, &statement, NULL),
        SQLITE_OK);
    while (sqlite3_step(statement) == SQLITE_ROW) {
        used += (size_t)snprintf(text + used, size - used, "%s;\n", (const char *)sqlite3_column_text(statement, 0));
        assert_true(used < size);
    }
    sqlite3_finalize(statement);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Every version that was ever released opens, with what is in it; and afterwards it is as one that was made today. */
static void test_every_earlier_schema(void **state)
{
    (void)state;
    static char fresh[20000], brought_up[20000];
    char message[MESSAGE_SIZE];
    assert_int_equal(start(state_dir, message), STATUS_OK);
    schema_text(fresh, sizeof fresh);
    /* A new migration needs its fixture: see store_schemas.h. */
    assert_int_equal(sizeof store_schemas / sizeof store_schemas[0], STORE_SCHEMA_VERSION + 1);
    for (int version = 0; version <= STORE_SCHEMA_VERSION; version++) {
        for (int wal = 0; wal < 2; wal++) {
            empty_folder(state_dir);
            write_file(state_file, "", 0);
            sql(wal ? "PRAGMA journal_mode = WAL" : "PRAGMA journal_mode = DELETE");
            sql(store_schemas[version].sql);
            assert_int_equal(start(state_dir, message), STATUS_OK);
            schema_text(brought_up, sizeof brought_up);
            assert_string_equal(brought_up, fresh);
            void *store = open_store(state_dir);
            struct loaded *loaded = load_all(store);
            store_schemas[version].check(loaded);
            free_loaded(loaded);
            write_one(store, full_rollout(12)); /* and it can be used */
            write_one(store, full_event(12, 12));
            store_sqlite.close(store);
        }
    }
}

static void test_a_file_of_no_bytes_is_begun(void **state)
{
    (void)state;
    char message[MESSAGE_SIZE];
    write_file(state_file, "", 0);
    assert_int_equal(start(state_dir, message), STATUS_OK);
    void *store = open_store(state_dir);
    write_one(store, full_device(1));
    store_sqlite.close(store);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_state, remove_state)
    const struct CMUnitTest tests[] = {
        TEST(test_opened_twice_it_is_the_same),
        TEST(test_another_programs_database),
        TEST(test_a_newer_schema),
        TEST(test_a_damaged_file),
        TEST(test_half_a_file),
        TEST(test_a_damaged_file_is_not_brought_up),
        TEST(test_a_damaged_file_with_a_log),
        TEST(test_a_folder_in_its_place),
        TEST(test_no_folder),
        TEST(test_permissions),
        TEST(test_every_earlier_schema),
        TEST(test_a_file_of_no_bytes_is_begun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
