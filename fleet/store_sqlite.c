/* The store in one SQLite file, STATE/updraft.db: WAL, so that a process that is killed loses nothing it had written,
 * and synchronous=FULL for what must survive the machine.
 *
 * What makes it hard is a disk that fails half-way: nothing counts before its COMMIT has succeeded, and a batch that
 * failed is given again. Behind a COMMIT the log is carried over into the database (a checkpoint); where that fails
 * nothing is lost, but the log grows for ever, and SQLite itself would say nothing.
 */
#include "fleet/store_rows.h"
#include "fleet/store_schema.h"
#include "fleet/store_sqlite_parts.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#define FULL_BYTES (64 * 1024) /* a disk with less is full: a log and its index do not go on it */
#define LOG_PAGES  1000        /* so long it may become, as SQLite's own default has it */
#define PIECE      4096 /* members that are deleted at a time, however slow the disk: well within STORE_HANG_MS */

#define NOT_DROPPED " AND NOT EXISTS (SELECT 1 FROM dropped WHERE rollout = ?1)"

static const char *const queries[QUERIES] = {
    [PUT_DEVICE] = "REPLACE INTO device VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,"
                   "?20,?21,?22,?23,?24,?25,?26,?27,?28,?29,?30,?31,?32,?33,?34,?35,?36,?37,?38,?39,?40)",
    [DROP_DEVICE] = "DELETE FROM device WHERE mac = ?1",
    [DROP_EVENTS] = "DELETE FROM event WHERE mac = ?1",
    [PUT_POLICY] = "REPLACE INTO policy VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)",
    [DROP_POLICY] = "DELETE FROM policy WHERE mac = ?1",
    /* It keeps the place that it got when it was new: they are read in the order they were made, whatever the clock
     * said. */
    [PUT_ROLLOUT] = "REPLACE INTO rollout VALUES ((SELECT place FROM rollout WHERE id = ?1),?1,?2,?3,?4,?5,?6,?7,?8,?9,"
                    "?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22,?23,?24,?25,?26,?27,?28,?29,?30,?31,?32,?33,"
                    "?34,?35,?36,?37,?38,?39,?40,?41,?42,?43,?44,?45,?46,?47,?48,?49,?50,?51,"
                    "?52,?53,?54)",
    [DROP_ROLLOUT] = "DELETE FROM rollout WHERE id = ?1",
    [PUT_DROPPED] = "REPLACE INTO dropped VALUES (?1)",
    [GET_DROPPED] = "SELECT rollout FROM dropped LIMIT 1",
    [DROP_MEMBERS] = "DELETE FROM member WHERE rollout = ?1 AND mac IN"
                     " (SELECT mac FROM member WHERE rollout = ?1 LIMIT ?2)",
    [DROP_DROPPED] = "DELETE FROM dropped WHERE rollout = ?1",
    [PUT_MEMBER] = "REPLACE INTO member VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)",
    [PUT_EVENT] = "INSERT INTO event (mac, at, word, text) VALUES (?1,?2,?3,?4)",
    [THIN_EVENTS] = "DELETE FROM event WHERE mac = ?1 AND id <= (SELECT id FROM event WHERE mac = ?1"
                    " ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    [PUT_SEEN] = "REPLACE INTO seen VALUES (?1,?2)",
    [DROP_SEEN] = "DELETE FROM seen WHERE block < ?1",
    [GET_EVENTS] = "SELECT at, word, text FROM event WHERE mac = ?1 ORDER BY id DESC LIMIT ?2",
    [GET_MEMBERS] = "SELECT * FROM member WHERE rollout = ?1" NOT_DROPPED " ORDER BY mac LIMIT ?2 OFFSET ?3",
    /* Who waited when it ended was not written again. */
    [GET_MEMBERS_OF_STATE] =
        "SELECT * FROM member WHERE rollout = ?1" NOT_DROPPED " AND (state = ?4 OR (?4 = 'skipped' AND state = "
        "'queued')) ORDER BY mac LIMIT ?2 OFFSET ?3",
};

enum status sqlite_explain(struct sqlite *store, int code, const char *doing, char *message, size_t size)
{
    return store_explain(store->db, store->path, code, doing, message, size);
}

static int run(struct sqlite *store, const char *sql)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL);
}

/* --- opening --------------------------------------------------------------------------------------------------------
 */

static enum status prepare(struct sqlite *store, char *message, size_t size)
{
    for (size_t i = 0; i < QUERIES; i++) {
        int code =
            sqlite3_prepare_v3(store->db, queries[i], -1, SQLITE_PREPARE_PERSISTENT, &store->statements[i], NULL);
        if (code != SQLITE_OK) {
            return sqlite_explain(store, code, "preparing it", message, size);
        }
    }
    return STATUS_OK;
}

/* The return value would be taken for that of the COMMIT, which has succeeded. */
static int on_log_grown(void *owner, sqlite3 *db, const char *schema, int pages)
{
    struct sqlite *store = owner;
    if (pages < LOG_PAGES) {
        return SQLITE_OK;
    }
    int code = sqlite3_wal_checkpoint_v2(db, schema, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (code == SQLITE_OK) {
        store->ailing[0] = '\0';
    } else if (code != SQLITE_BUSY) { /* another program is at it */
        (void)sqlite_explain(store, code, "carrying its log over into it", store->ailing, sizeof store->ailing);
    }
    return SQLITE_OK;
}

static struct sqlite *new_sqlite(const char *state_dir, char *message, size_t size)
{
    struct sqlite *store = calloc(1, sizeof *store);
    assert(store != NULL);
    if ((size_t)snprintf(store->path, sizeof store->path, "%s/updraft.db", state_dir) >= sizeof store->path) {
        snprintf(message, size, "%.200s...: longer than a path may be: choose another --state", state_dir);
        free(store);
        return NULL;
    }
    return store;
}

void sqlite_shut(struct sqlite *store)
{
    for (size_t i = 0; i < QUERIES; i++) {
        sqlite3_finalize(store->statements[i]);
        store->statements[i] = NULL;
    }
    (void)sqlite3_close(store->db);
    store->db = NULL;
}

static void close_sqlite(void *opened)
{
    sqlite_shut(opened);
    free(opened);
}

/* Behind all that others wrote. */
static enum status find_first_block(struct sqlite *store, char *message, size_t size)
{
    sqlite3_stmt *statement;
    int code = sqlite3_prepare_v2(store->db, "SELECT max(block) + 1 FROM seen", -1, &statement, NULL);
    code = code == SQLITE_OK ? sqlite3_step(statement) : code;
    store->first_block = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_finalize(statement);
    return code == SQLITE_ROW ? STATUS_OK : sqlite_explain(store, code, "reading it", message, size);
}

/* On failure it is shut again. */
static enum status open_to_write(struct sqlite *store, char *message, size_t size)
{
    store->full_sync = true; /* as it is opened */
    enum status status = store_schema_open(store->path, &store->db, &store->wal, message, size);
    status = status == STATUS_OK ? prepare(store, message, size) : status;
    status = status == STATUS_OK ? find_first_block(store, message, size) : status;
    if (status != STATUS_OK) {
        sqlite_shut(store);
        return status;
    }
    (void)sqlite3_wal_hook(store->db, on_log_grown, store);
    store->untidy = true; /* the last process may not have come to an end with it */
    return STATUS_OK;
}

static enum status open_sqlite(const char *state_dir, void **opened, char *message, size_t size)
{
    struct sqlite *store = new_sqlite(state_dir, message, size);
    enum status status = store != NULL ? open_to_write(store, message, size) : STATUS_TOO_LONG;
    if (status != STATUS_OK) {
        free(store);
        return status;
    }
    *opened = store;
    return STATUS_OK;
}

/* It passes: somebody makes room, or mends the disk. A mistake in who may write there does not. */
static bool may_pass(const char *state_dir, enum status because)
{
    struct statvfs disk;
    bool is_known = statvfs(state_dir, &disk) == 0;
    bool read_only = is_known && (disk.f_flag & ST_RDONLY) != 0;
    bool full = is_known && (uint64_t)disk.f_bavail * disk.f_frsize < FULL_BYTES;
    return because == STATUS_LIMIT ||
           ((because == STATUS_DENIED || because == STATUS_IO || because == STATUS_BUSY) && (read_only || full));
}

static enum status open_failing_sqlite(const char *state_dir, enum status because, void **opened, char *message,
                                       size_t size)
{
    struct sqlite *store = may_pass(state_dir, because) ? new_sqlite(state_dir, message, size) : NULL;
    enum status status = store != NULL ? store_schema_read(store->path, false, &store->db, message, size) : because;
    if (status != STATUS_OK) {
        free(store);
        return status;
    }
    store->is_failing = true;
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

struct row_cursor sqlite_begin(struct sqlite *store, enum query query)
{
    (void)sqlite3_reset(store->statements[query]);
    return (struct row_cursor){ .statement = store->statements[query] };
}

static int write_keyed(struct sqlite *store, enum query query, const char *id, const struct mac *mac)
{
    struct row_cursor cursor = sqlite_begin(store, query);
    if (id != NULL) {
        row_put_text(&cursor, id);
    } else {
        row_put_number(&cursor, row_mac_number(mac));
    }
    return step(store, query);
}

/* There may be a million, so they go piece by piece, later. */
static int drop_members(struct sqlite *store, const char *rollout)
{
    store->untidy = true;
    return write_keyed(store, PUT_DROPPED, rollout, NULL);
}

static int write_rollout(struct sqlite *store, const struct store_rollout *row)
{
    struct row_counts counts;
    if (row->gone) {
        int code = write_keyed(store, DROP_ROLLOUT, row->rollout.id, NULL);
        return code == SQLITE_OK ? drop_members(store, row->rollout.id) : code;
    }
    struct row_cursor cursor = sqlite_begin(store, PUT_ROLLOUT);
    row_put_rollout(&cursor, &row->rollout, &counts);
    int code = step(store, PUT_ROLLOUT);
    return code == SQLITE_OK && row->rollout.word_only ? drop_members(store, row->rollout.id) : code;
}

static int write_event(struct sqlite *store, const struct store_event *row)
{
    struct row_cursor cursor = sqlite_begin(store, PUT_EVENT);
    row_put_number(&cursor, row_mac_number(&row->mac));
    row_put_number(&cursor, row->unix_s);
    row_put_text(&cursor, row->word);
    row_put_text(&cursor, row->text);
    int code = step(store, PUT_EVENT);
    if (code != SQLITE_OK) {
        return code;
    }
    cursor = sqlite_begin(store, THIN_EVENTS);
    row_put_number(&cursor, row_mac_number(&row->mac));
    row_put_number(&cursor, STORE_EVENTS_OF_DEVICE);
    return step(store, THIN_EVENTS);
}

static int write_device(struct sqlite *store, const struct store_device *row)
{
    if (row->gone) {
        int code = write_keyed(store, DROP_DEVICE, NULL, &row->mac);
        return code == SQLITE_OK ? write_keyed(store, DROP_EVENTS, NULL, &row->mac) : code;
    }
    uint8_t images[ROW_IMAGES_BYTES];
    struct row_cursor cursor = sqlite_begin(store, PUT_DEVICE);
    row_put_device(&cursor, row, images);
    return step(store, PUT_DEVICE);
}

static int write_policy(struct sqlite *store, const struct store_policy *row)
{
    char groups[STORE_GROUPS_TEXT];
    if (row->gone) {
        return write_keyed(store, DROP_POLICY, NULL, &row->mac);
    }
    struct row_cursor cursor = sqlite_begin(store, PUT_POLICY);
    row_put_policy(&cursor, row, groups);
    return step(store, PUT_POLICY);
}

static int write_seen(struct sqlite *store, const struct store_seen *row)
{
    uint8_t packed[ROW_SEEN_BLOCK_BYTES];
    struct row_cursor cursor = sqlite_begin(store, row->renewed ? DROP_SEEN : PUT_SEEN);
    if (row->renewed) {
        row_put_number(&cursor, store->first_block);
        return step(store, DROP_SEEN);
    }
    row_put_seen(&cursor, row, store->first_block, packed);
    return step(store, PUT_SEEN);
}

static int write_one(struct sqlite *store, const struct store_change *change)
{
    struct row_cursor cursor;
    switch (change->kind) {
    case STORE_DEVICE:
        return write_device(store, &change->row.device);
    case STORE_POLICY:
        return write_policy(store, &change->row.policy);
    case STORE_ROLLOUT:
        return write_rollout(store, &change->row.rollout);
    case STORE_MEMBER:
        cursor = sqlite_begin(store, PUT_MEMBER);
        row_put_member(&cursor, &change->row.member);
        return step(store, PUT_MEMBER);
    case STORE_EVENT:
        return write_event(store, &change->row.event);
    case STORE_SEEN:
        return write_seen(store, &change->row.seen);
    default:
        assert(!"a kind of change that is in the list");
        return SQLITE_MISUSE;
    }
}

/* A rollback journal that is not synced may damage the database when the machine dies; a WAL cannot. */
static int set_sync(struct sqlite *store, bool full)
{
    full = full || !store->wal;
    int code = store->full_sync == full
                   ? SQLITE_OK
                   : run(store, full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
    store->full_sync = code == SQLITE_OK ? full : store->full_sync;
    return code;
}

/* Moved, what is written would be found by nobody. */
static enum status get_ready(struct sqlite *store, char *message, size_t size)
{
    int moved = 0;
    if (store->is_failing) {
        enum status status = open_to_write(store, message, size);
        if (status != STATUS_OK) {
            return status;
        }
        store_schema_trust(store->db); /* it was read, or there was none */
        store->is_failing = false;
    }
    (void)sqlite3_file_control(store->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    if (moved != 0) {
        snprintf(
            message, size,
            "%s: it was removed or replaced while the server runs: put the old one back, with its -wal and -shm; or "
            "restart the server, which begins with what lies there then",
            store->path);
        return STATUS_NOT_FOUND;
    }
    snprintf(message, size, "%s", store->ailing);
    return STATUS_OK;
}

static enum status write_sqlite(void *opened, const struct store_change *const *changes, size_t count, bool durable,
                                char *message, size_t size)
{
    struct sqlite *store = opened;
    enum status ready = get_ready(store, message, size);
    if (ready != STATUS_OK || count == 0) {
        return ready;
    }
    int code = set_sync(store, durable);
    code = code == SQLITE_OK ? run(store, "BEGIN IMMEDIATE") : code;
    for (size_t i = 0; i < count && code == SQLITE_OK; i++) {
        code = write_one(store, changes[i]);
    }
    code = code == SQLITE_OK ? run(store, "COMMIT") : code;
    if (code == SQLITE_OK) {
        snprintf(message, size, "%s", store->ailing);
        return STATUS_OK;
    }
    enum status status =
        sqlite_explain(store, code, "writing to it", message, size); /* before ROLLBACK has its own say */
    if (sqlite3_get_autocommit(store->db) == 0) { /* SQLite rolls back by itself when the disk fails */
        (void)run(store, "ROLLBACK");
    }
    return status;
}

/* --- tidying --------------------------------------------------------------------------------------------------------
 */

static int find_dropped(struct sqlite *store, char id[ANNOUNCE_ID_SIZE])
{
    struct row_cursor cursor = sqlite_begin(store, GET_DROPPED);
    int code = sqlite3_step(cursor.statement);
    id[0] = '\0';
    if (code == SQLITE_ROW) {
        row_get_text(&cursor, id, ANNOUNCE_ID_SIZE);
    }
    int reset = sqlite3_reset(cursor.statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : reset;
}

static int drop_piece(struct sqlite *store, const char *rollout)
{
    struct row_cursor cursor = sqlite_begin(store, DROP_MEMBERS);
    row_put_text(&cursor, rollout);
    row_put_number(&cursor, PIECE);
    int code = step(store, DROP_MEMBERS);
    bool last = sqlite3_changes(store->db) < PIECE;
    return code == SQLITE_OK && last ? write_keyed(store, DROP_DROPPED, rollout, NULL) : code;
}

/* A failure is not told: the next write meets it, too. */
static bool tidy_sqlite(void *opened)
{
    struct sqlite *store = opened;
    char id[ANNOUNCE_ID_SIZE];
    if (store->is_failing || !store->untidy) {
        return false;
    }
    int code = find_dropped(store, id);
    if (code != SQLITE_OK || id[0] == '\0') {
        store->untidy = code != SQLITE_OK;
        return false;
    }
    code = set_sync(store, false);
    code = code == SQLITE_OK ? run(store, "BEGIN IMMEDIATE") : code;
    code = code == SQLITE_OK ? drop_piece(store, id) : code;
    code = code == SQLITE_OK ? run(store, "COMMIT") : code;
    if (code != SQLITE_OK && sqlite3_get_autocommit(store->db) == 0) {
        (void)run(store, "ROLLBACK");
    }
    return code == SQLITE_OK;
}

/* --- looking --------------------------------------------------------------------------------------------------------
 */

static bool pass_over(void *owner, const struct store_change *row)
{
    (void)owner;
    (void)row;
    return true;
}

static enum status check_sqlite(const char *state_dir, char *message, size_t size)
{
    struct sqlite *store = new_sqlite(state_dir, message, size);
    enum status status =
        store != NULL ? store_schema_read(store->path, true, &store->db, message, size) : STATUS_TOO_LONG;
    if (status == STATUS_OK) {
        store->is_failing = true; /* read, and left alone */
        status = sqlite_load(store, pass_over, NULL, message, size);
    }
    free(store);
    return status;
}

const struct store_ops store_sqlite = {
    .name = "sqlite",
    .open = open_sqlite,
    .open_failing = open_failing_sqlite,
    .check = check_sqlite,
    .load = sqlite_load,
    .write = write_sqlite,
    .tidy = tidy_sqlite,
    .events = sqlite_events,
    .members = sqlite_members,
    .close = close_sqlite,
};
