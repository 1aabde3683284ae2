/* The store in one SQLite file, STATE/updraft.db: WAL, so that a process that is killed loses nothing it had written,
 * and synchronous=FULL for what must survive the machine.
 *
 * Words, not numbers, stand for states and reasons, so that a list in the code may be reordered. A table's columns are
 * one list each, from which its statements follow.
 */
#include "fleet/store_rows.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define APPLICATION_ID 0x55706472 /* "Updr": `file` and others tell by it whose database this is */
#define BUSY_MS        5000

/* --- schema ---------------------------------------------------------------------------------------------------------
 */

/* Scripts from version i to i + 1: never changed once released, only added to. */
static const char *const migrations[] = {
    "CREATE TABLE device (mac INTEGER PRIMARY KEY, client TEXT, chip INTEGER, flash_mode INTEGER, reason TEXT,"
    " outcome TEXT, failures INTEGER, md5 BLOB, reason_fs INTEGER, transfer_fs INTEGER, came_back INTEGER,"
    " via_proxy INTEGER, address BLOB, first_seen INTEGER, seen INTEGER, flash_bytes INTEGER, free_bytes INTEGER,"
    " type TEXT, version TEXT, fs_version TEXT, sdk TEXT, transfer_md5 BLOB, transfer_before BLOB,"
    " transfer_bytes INTEGER, transfer_of INTEGER, transfer_ms INTEGER, transfer_at INTEGER, transfer_version TEXT,"
    " never_again BLOB);"
    "CREATE TABLE policy (mac INTEGER PRIMARY KEY, blocked INTEGER, approved INTEGER, type TEXT, label TEXT, pin TEXT,"
    " groups TEXT, note TEXT, at INTEGER);"
    "CREATE TABLE rollout (id TEXT PRIMARY KEY, state TEXT, before TEXT, why TEXT, supersedes TEXT, file TEXT,"
    " type TEXT, version TEXT, fs INTEGER, bytes INTEGER, md5 BLOB, run_md5 BLOB, passed_over TEXT, named INTEGER,"
    " devices BLOB, grp TEXT, percent INTEGER, canary INTEGER, in_flight INTEGER, max_failures INTEGER,"
    " site_in_flight INTEGER, window_s INTEGER, timeout_ms INTEGER, reboot_ms INTEGER, broker_ms INTEGER,"
    " created INTEGER, ended INTEGER, distrusted INTEGER, gathered INTEGER, told_type INTEGER, broadcasts INTEGER,"
    " window_size INTEGER, window_stalled INTEGER, members INTEGER, counts BLOB, canaries INTEGER,"
    " canaries_confirmed INTEGER, failures INTEGER, forgiven INTEGER, lost INTEGER, lost_forgiven INTEGER,"
    " anonymous INTEGER, commands INTEGER, acknowledged INTEGER, commands_failed INTEGER, sent_bytes INTEGER,"
    " took_ms INTEGER, rebooted_ms INTEGER);"
    "CREATE TABLE member (rollout TEXT, mac INTEGER, state TEXT, attempts INTEGER, canary INTEGER, armed INTEGER,"
    " at INTEGER, why TEXT, PRIMARY KEY (rollout, mac)) WITHOUT ROWID;"
    "CREATE TABLE event (id INTEGER PRIMARY KEY, mac INTEGER, at INTEGER, word TEXT, text TEXT);"
    "CREATE INDEX event_of_device ON event (mac, id);",
};

#define SCHEMA_VERSION ((int)(sizeof migrations / sizeof migrations[0]))

enum query {
    PUT_DEVICE,
    PUT_POLICY,
    DROP_POLICY,
    PUT_ROLLOUT,
    DROP_ROLLOUT,
    DROP_MEMBERS,
    THIN_MEMBERS,
    PUT_MEMBER,
    PUT_EVENT,
    THIN_EVENTS,
    GET_EVENTS,
    QUERIES
};

static const char *const queries[QUERIES] = {
    [PUT_DEVICE] = "REPLACE INTO device VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,"
                   "?20,?21,?22,?23,?24,?25,?26,?27,?28,?29)",
    [PUT_POLICY] = "REPLACE INTO policy VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)",
    [DROP_POLICY] = "DELETE FROM policy WHERE mac = ?1",
    [PUT_ROLLOUT] = "REPLACE INTO rollout VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,"
                    "?20,?21,?22,?23,?24,?25,?26,?27,?28,?29,?30,?31,?32,?33,?34,?35,?36,?37,?38,?39,?40,?41,?42,?43,"
                    "?44,?45,?46,?47,?48)",
    [DROP_ROLLOUT] = "DELETE FROM rollout WHERE id = ?1",
    [DROP_MEMBERS] = "DELETE FROM member WHERE rollout = ?1",
    [THIN_MEMBERS] = "DELETE FROM member WHERE rollout = ?1 AND state NOT IN ('failed', 'silent')",
    [PUT_MEMBER] = "REPLACE INTO member VALUES (?1,?2,?3,?4,?5,?6,?7,?8)",
    [PUT_EVENT] = "INSERT INTO event (mac, at, word, text) VALUES (?1,?2,?3,?4)",
    [THIN_EVENTS] = "DELETE FROM event WHERE mac = ?1 AND id <= (SELECT id FROM event WHERE mac = ?1"
                    " ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    [GET_EVENTS] = "SELECT at, word, text FROM event WHERE mac = ?1 ORDER BY id DESC LIMIT ?2",
};

struct sqlite {
    sqlite3 *db;
    char path[4096];
    sqlite3_stmt *statements[QUERIES];
    bool full_sync;
};

/* --- failures -------------------------------------------------------------------------------------------------------
 */

static const struct {
    int code;
    enum status status;
    const char *remedy;
} failures[] = {
    { SQLITE_FULL, STATUS_LIMIT, "the disk is full: make room on it" },
    { SQLITE_READONLY, STATUS_DENIED, "it, its folder or its disk is read-only: let the server's user write there" },
    { SQLITE_CANTOPEN, STATUS_DENIED, "it cannot be opened: let the server's user read and write its folder" },
    { SQLITE_PERM, STATUS_DENIED, "let the server's user read and write it" },
    { SQLITE_AUTH, STATUS_DENIED, "let the server's user read and write it" },
    { SQLITE_BUSY, STATUS_BUSY, "another program holds it: end that program" },
    { SQLITE_LOCKED, STATUS_BUSY, "another program holds it: end that program" },
    { SQLITE_NOMEM, STATUS_NO_MEMORY, "memory is short" },
    { SQLITE_CORRUPT, STATUS_CORRUPT,
      "it is left as it is: restore a copy, or save what is in it with `sqlite3 FILE .recover`, or move it away to "
      "begin "
      "anew without pins, assignments, groups and rollouts" },
    { SQLITE_NOTADB, STATUS_CORRUPT,
      "it is no database, and is left as it is: restore a copy, or move it away to begin anew without pins, "
      "assignments, "
      "groups and rollouts" },
};

/* Translates the last failure; `doing` says at what. */
static enum status explain(struct sqlite *store, int code, const char *doing, char *message, size_t size)
{
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        if (failures[i].code == (code & 0xff)) {
            snprintf(message, size, "%s: %s: %s; %s", store->path, doing,
                     store->db != NULL ? sqlite3_errmsg(store->db) : sqlite3_errstr(code), failures[i].remedy);
            return failures[i].status;
        }
    }
    snprintf(message, size, "%s: %s: %s; is its disk in order?", store->path, doing,
             store->db != NULL ? sqlite3_errmsg(store->db) : sqlite3_errstr(code));
    return STATUS_IO;
}

/* --- opening --------------------------------------------------------------------------------------------------------
 */

static int read_pragma(struct sqlite *store, const char *pragma, int *value)
{
    sqlite3_stmt *statement;
    int code = sqlite3_prepare_v2(store->db, pragma, -1, &statement, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_step(statement);
        *value = code == SQLITE_ROW ? sqlite3_column_int(statement, 0) : 0;
        code = code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
    }
    sqlite3_finalize(statement);
    return code;
}

static int run(struct sqlite *store, const char *sql)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL);
}

/* Each step in a transaction of its own, so that one that is cut off is done again. */
static int migrate(struct sqlite *store, int from)
{
    char pragma[80];
    int code = SQLITE_OK;
    for (int version = from; version < SCHEMA_VERSION && code == SQLITE_OK; version++) {
        snprintf(pragma, sizeof pragma, "PRAGMA user_version = %d; PRAGMA application_id = %d", version + 1,
                 APPLICATION_ID);
        code = run(store, "BEGIN IMMEDIATE");
        code = code == SQLITE_OK ? run(store, migrations[version]) : code;
        code = code == SQLITE_OK ? run(store, pragma) : code;
        code = code == SQLITE_OK ? run(store, "COMMIT") : code;
        if (code != SQLITE_OK) {
            (void)run(store, "ROLLBACK");
        }
    }
    return code;
}

static enum status check_schema(struct sqlite *store, int *version, char *message, size_t size)
{
    int id = 0, tables = 0;
    int code = read_pragma(store, "PRAGMA user_version", version);
    code = code == SQLITE_OK ? read_pragma(store, "PRAGMA application_id", &id) : code;
    code = code == SQLITE_OK ? read_pragma(store, "SELECT count(*) FROM sqlite_schema", &tables) : code;
    if (code != SQLITE_OK) {
        return explain(store, code, "reading its schema", message, size);
    }
    if (id != APPLICATION_ID && (tables > 0 || *version != 0)) {
        snprintf(message, size, "%s is another program's database: move it away, or choose another --state",
                 store->path);
        return STATUS_INVALID;
    }
    if (*version > SCHEMA_VERSION) {
        snprintf(message, size,
                 "%s was written by a newer Updraft (schema %d, this one knows %d): start that one, or restore a copy "
                 "from before",
                 store->path, *version, SCHEMA_VERSION);
        return STATUS_TOO_NEW;
    }
    return STATUS_OK;
}

static void close_sqlite(void *opened)
{
    struct sqlite *store = opened;
    for (size_t i = 0; i < QUERIES; i++) {
        sqlite3_finalize(store->statements[i]);
    }
    (void)sqlite3_close(store->db);
    free(store);
}

static enum status open_schema(struct sqlite *store, char *message, size_t size)
{
    int version = 0;
    int code = sqlite3_open_v2(store->path, &store->db,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK) {
        return explain(store, code, "opening it", message, size);
    }
    (void)sqlite3_extended_result_codes(store->db, 1);
    (void)sqlite3_busy_timeout(store->db, BUSY_MS);
    enum status status = check_schema(store, &version, message, size);
    if (status != STATUS_OK) {
        return status;
    }
    code = run(store, "PRAGMA journal_mode = WAL");
    code = code == SQLITE_OK ? migrate(store, version) : code;
    for (size_t i = 0; i < QUERIES && code == SQLITE_OK; i++) {
        code = sqlite3_prepare_v3(store->db, queries[i], -1, SQLITE_PREPARE_PERSISTENT, &store->statements[i], NULL);
    }
    return code == SQLITE_OK ? STATUS_OK : explain(store, code, "preparing it", message, size);
}

static enum status open_sqlite(const char *state_dir, void **opened, char *message, size_t size)
{
    struct sqlite *store = calloc(1, sizeof *store);
    assert(store != NULL);
    snprintf(store->path, sizeof store->path, "%s/updraft.db", state_dir);
    store->full_sync = true; /* SQLite's own default */
    enum status status = open_schema(store, message, size);
    if (status != STATUS_OK) {
        close_sqlite(store);
        return status;
    }
    *opened = store;
    return STATUS_OK;
}

/* --- writing --------------------------------------------------------------------------------------------------------
 */

static int step(struct sqlite *store, enum query query)
{
    int code = sqlite3_step(store->statements[query]);
    int reset = sqlite3_reset(store->statements[query]);
    return code == SQLITE_DONE || code == SQLITE_ROW ? SQLITE_OK : reset;
}

static struct row_cursor begin(struct sqlite *store, enum query query)
{
    (void)sqlite3_reset(store->statements[query]);
    return (struct row_cursor){ .statement = store->statements[query] };
}

static int write_keyed(struct sqlite *store, enum query query, const char *id, const struct mac *mac)
{
    struct row_cursor cursor = begin(store, query);
    if (id != NULL) {
        row_put_text(&cursor, id);
    } else {
        row_put_number(&cursor, row_mac_number(mac));
    }
    return step(store, query);
}

static int write_rollout(struct sqlite *store, const struct store_rollout *row)
{
    uint32_t counts[ROLLOUT_DEVICE_STATES];
    int code;
    if (row->gone) {
        code = write_keyed(store, DROP_ROLLOUT, row->rollout.id, NULL);
        return code == SQLITE_OK ? write_keyed(store, DROP_MEMBERS, row->rollout.id, NULL) : code;
    }
    struct row_cursor cursor = begin(store, PUT_ROLLOUT);
    row_put_rollout(&cursor, &row->rollout, counts);
    code = step(store, PUT_ROLLOUT);
    bool over = row->rollout.state == ROLLOUT_DONE || row->rollout.state == ROLLOUT_ABORTED;
    return code == SQLITE_OK && over ? write_keyed(store, THIN_MEMBERS, row->rollout.id, NULL) : code;
}

static int write_event(struct sqlite *store, const struct store_event *row)
{
    struct row_cursor cursor = begin(store, PUT_EVENT);
    row_put_number(&cursor, row_mac_number(&row->mac));
    row_put_number(&cursor, row->unix_s);
    row_put_text(&cursor, row->word);
    row_put_text(&cursor, row->text);
    int code = step(store, PUT_EVENT);
    if (code != SQLITE_OK) {
        return code;
    }
    cursor = begin(store, THIN_EVENTS);
    row_put_number(&cursor, row_mac_number(&row->mac));
    row_put_number(&cursor, STORE_EVENTS_OF_DEVICE);
    return step(store, THIN_EVENTS);
}

static int write_policy(struct sqlite *store, const struct store_policy *row)
{
    char groups[STORE_GROUPS_TEXT];
    if (row->gone) {
        return write_keyed(store, DROP_POLICY, NULL, &row->mac);
    }
    struct row_cursor cursor = begin(store, PUT_POLICY);
    row_put_policy(&cursor, row, groups);
    return step(store, PUT_POLICY);
}

static int write_one(struct sqlite *store, const struct store_change *change)
{
    struct row_cursor cursor;
    switch (change->kind) {
    case STORE_DEVICE:
        cursor = begin(store, PUT_DEVICE);
        row_put_device(&cursor, &change->row.device);
        return step(store, PUT_DEVICE);
    case STORE_POLICY:
        return write_policy(store, &change->row.policy);
    case STORE_ROLLOUT:
        return write_rollout(store, &change->row.rollout);
    case STORE_MEMBER:
        cursor = begin(store, PUT_MEMBER);
        row_put_member(&cursor, &change->row.member);
        return step(store, PUT_MEMBER);
    case STORE_EVENT:
        return write_event(store, &change->row.event);
    default:
        assert(!"a kind of change that is in the list");
        return SQLITE_MISUSE;
    }
}

static int set_sync(struct sqlite *store, bool full)
{
    int code = store->full_sync == full
                   ? SQLITE_OK
                   : run(store, full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
    store->full_sync = code == SQLITE_OK ? full : store->full_sync;
    return code;
}

static enum status write_sqlite(void *opened, const struct store_change *const *changes, size_t count, bool durable,
                                char *message, size_t size)
{
    struct sqlite *store = opened;
    int code = set_sync(store, durable);
    code = code == SQLITE_OK ? run(store, "BEGIN IMMEDIATE") : code;
    for (size_t i = 0; i < count && code == SQLITE_OK; i++) {
        code = write_one(store, changes[i]);
    }
    code = code == SQLITE_OK ? run(store, "COMMIT") : code;
    if (code == SQLITE_OK) {
        return STATUS_OK;
    }
    enum status status = explain(store, code, "writing to it", message, size); /* before ROLLBACK has its own say */
    (void)run(store, "ROLLBACK");
    return status;
}

/* --- reading --------------------------------------------------------------------------------------------------------
 */

static enum status read_table(struct sqlite *store, const char *sql, enum store_kind kind, store_row_fn on_row,
                              void *owner, char *message, size_t size)
{
    struct store_change *row = malloc(sizeof *row);
    struct mac *named = malloc(ROLLOUT_NAMED_MAX * sizeof *named);
    struct row_cursor cursor = { 0 };
    bool goes_on = true;
    assert(row != NULL && named != NULL);
    int code = sqlite3_prepare_v2(store->db, sql, -1, &cursor.statement, NULL);
    while (code == SQLITE_OK && goes_on) {
        code = sqlite3_step(cursor.statement);
        if (code != SQLITE_ROW) {
            break;
        }
        memset(row, 0, sizeof *row);
        row->kind = kind;
        cursor.next = 0;
        switch (kind) {
        case STORE_DEVICE:
            row_get_device(&cursor, &row->row.device);
            break;
        case STORE_POLICY:
            row_get_policy(&cursor, &row->row.policy);
            break;
        case STORE_ROLLOUT:
            row_get_rollout(&cursor, &row->row.rollout.rollout, named);
            break;
        default:
            row_get_member(&cursor, &row->row.member);
        }
        goes_on = on_row(owner, row);
        code = SQLITE_OK;
    }
    enum status status =
        code == SQLITE_OK || code == SQLITE_DONE ? STATUS_OK : explain(store, code, "reading it", message, size);
    sqlite3_finalize(cursor.statement);
    free(named);
    free(row);
    return status;
}

static enum status load_sqlite(void *opened, store_row_fn on_row, void *owner, char *message, size_t size)
{
    static const struct {
        const char *sql;
        enum store_kind kind;
    } tables[] = {
        { "SELECT * FROM policy", STORE_POLICY },
        { "SELECT * FROM device", STORE_DEVICE },
        { "SELECT * FROM rollout ORDER BY created, rowid", STORE_ROLLOUT },
        { "SELECT * FROM member ORDER BY rollout, armed", STORE_MEMBER },
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0] && status == STATUS_OK; i++) {
        status = read_table(opened, tables[i].sql, tables[i].kind, on_row, owner, message, size);
    }
    return status;
}

static enum status events_sqlite(void *opened, const struct mac *mac, struct store_event *events, size_t max,
                                 size_t *count, char *message, size_t size)
{
    struct sqlite *store = opened;
    struct row_cursor cursor = begin(store, GET_EVENTS);
    int code;
    *count = 0;
    row_put_number(&cursor, row_mac_number(mac));
    row_put_number(&cursor, (sqlite3_int64)max);
    while ((code = sqlite3_step(cursor.statement)) == SQLITE_ROW && *count < max) {
        struct store_event *event = &events[(*count)++];
        cursor.next = 0;
        event->mac = *mac;
        event->unix_s = (uint32_t)row_get_number(&cursor);
        row_get_text(&cursor, event->word, sizeof event->word);
        row_get_text(&cursor, event->text, sizeof event->text);
    }
    enum status status = code == SQLITE_DONE || code == SQLITE_ROW
                             ? STATUS_OK
                             : explain(store, code, "reading a time-line", message, size);
    (void)sqlite3_reset(cursor.statement);
    return status;
}

const struct store_ops store_sqlite = {
    .name = "sqlite",
    .open = open_sqlite,
    .load = load_sqlite,
    .write = write_sqlite,
    .events = events_sqlite,
    .close = close_sqlite,
};
