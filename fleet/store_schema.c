/* What makes it hard is to change nothing in a file that is refused: SQLite recovers, checkpoints and switches modes on
 * its own accord. So the looks come first, and a database that one of them refuses is closed without a checkpoint.
 */
#include "fleet/store_schema.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BUSY_MS 2000 /* another program holds it; less than an operator waits, who is to hear why */

/* KiB: room for the pages that one batch may touch, each another device's. With less, SQLite writes some of them to the
 * log before the COMMIT, and reads the whole batch back to sum it up anew. */
#define CACHE_KIB "12000"
/* Sorting needs no folder of temporary files: there may be none that we may write to. */
#define SORT_IN_MEMORY "PRAGMA temp_store = MEMORY; "

/* Scripts from version i to i + 1: never changed once released, only added to. A new column comes last in its table,
 * because rows are read in the order of the columns (store_rows.c). Each gets a fixture in
 * tests/unit/fleet/store_schemas.h: a database as its version wrote it. */
static const char *const migrations[STORE_SCHEMA_VERSION] = {
    "CREATE TABLE device (mac INTEGER PRIMARY KEY, client TEXT, chip INTEGER, flash_mode INTEGER, reason TEXT,"
    " md5 BLOB, reason_fs INTEGER, came_back INTEGER, via_proxy INTEGER, address BLOB, first_seen INTEGER, seen"
    " INTEGER, flash_bytes INTEGER, free_bytes INTEGER, sketch_bytes INTEGER, type TEXT, version TEXT,"
    " fs_version TEXT, sdk TEXT, sent_at INTEGER, sent_md5 BLOB, sent_before BLOB, sent_bytes INTEGER, sent_of"
    " INTEGER, sent_ms INTEGER, sent_version TEXT, outcome TEXT, failures INTEGER, served INTEGER, fs_sent_at"
    " INTEGER, fs_sent_md5 BLOB, fs_sent_before BLOB, fs_sent_bytes INTEGER, fs_sent_of INTEGER, fs_sent_ms"
    " INTEGER, fs_sent_version TEXT, fs_outcome TEXT, fs_failures INTEGER, fs_served INTEGER, never_again BLOB);"
    "CREATE TABLE seen (block INTEGER PRIMARY KEY, devices BLOB);"
    "CREATE TABLE policy (mac INTEGER PRIMARY KEY, blocked INTEGER, approved INTEGER, type TEXT, label TEXT, pin TEXT,"
    " groups TEXT, note TEXT, at INTEGER);"
    "CREATE TABLE rollout (place INTEGER PRIMARY KEY, id TEXT UNIQUE, state TEXT, before TEXT, why TEXT,"
    " supersedes TEXT, file TEXT, type TEXT, version TEXT, fs INTEGER, bytes INTEGER, md5 BLOB, run_md5 BLOB,"
    " passed_over TEXT, named INTEGER, devices BLOB, grp TEXT, percent INTEGER, canary INTEGER, in_flight INTEGER,"
    " max_failures INTEGER, site_in_flight INTEGER, window_s INTEGER, timeout_ms INTEGER, reboot_ms INTEGER,"
    " broker_ms INTEGER, created INTEGER, ended INTEGER, since INTEGER, distrusted INTEGER, gathered INTEGER, "
    "told_type INTEGER,"
    " broadcasts INTEGER, window_size INTEGER, window_stalled INTEGER, members INTEGER, counts TEXT,"
    " canaries INTEGER, canaries_confirmed INTEGER, failures INTEGER, forgiven INTEGER, lost INTEGER,"
    " lost_forgiven INTEGER, anonymous INTEGER, commands INTEGER, acknowledged INTEGER, commands_failed INTEGER,"
    " sent_bytes INTEGER, took_ms INTEGER, rebooted_ms INTEGER, word_only INTEGER, strangers INTEGER,"
    " skipped_for TEXT, cause TEXT, superseded_by TEXT);"
    "CREATE TABLE member (rollout TEXT, mac INTEGER, state TEXT, attempts INTEGER, canary INTEGER, armed INTEGER,"
    " at INTEGER, why TEXT, mark TEXT, PRIMARY KEY (rollout, mac)) WITHOUT ROWID;"
    "CREATE INDEX member_listed ON member (rollout) WHERE state IN ('failed', 'silent', 'skipped');"
    "CREATE TABLE dropped (rollout TEXT PRIMARY KEY) WITHOUT ROWID;"
    "CREATE TABLE event (id INTEGER PRIMARY KEY, mac INTEGER, at INTEGER, word TEXT, text TEXT);"
    "CREATE INDEX event_of_device ON event (mac, id);",
};

/* --- failures -------------------------------------------------------------------------------------------------------
 */

#define NO_ROOM   "the disk is full: make room on it"
#define READ_ONLY "it, its folder or its disk is read-only: let the server's user write there"
#define NOT_OURS  "let the server's user read and write it and its folder"
#define HELD      "another program holds it: end that program"
#define RESTORE   "restore a copy"
#define ANEW                                                                                                           \
    "move updraft.db, updraft.db-wal and updraft.db-shm away together to begin anew without pins, assignments, "       \
    "groups "                                                                                                          \
    "and rollouts"

/* The system's word, where SQLite's own is only that input or output failed. */
static const struct {
    int error;
    enum status status;
    const char *remedy;
} errors[] = {
    { ENOSPC, STATUS_LIMIT, NO_ROOM },
    { EDQUOT, STATUS_LIMIT, "the user's share of the disk is used up: make room, or raise the quota" },
    { EROFS, STATUS_DENIED, READ_ONLY },
    { EACCES, STATUS_DENIED, NOT_OURS },
    { EPERM, STATUS_DENIED, NOT_OURS },
    { EMFILE, STATUS_LIMIT, "too many files are open: raise the server's limit (ulimit -n)" },
};

static const struct {
    int code;
    enum status status;
    const char *remedy;
} failures[] = {
    { SQLITE_FULL, STATUS_LIMIT, NO_ROOM },
    { SQLITE_READONLY, STATUS_DENIED, READ_ONLY },
    { SQLITE_CANTOPEN, STATUS_DENIED, NOT_OURS },
    { SQLITE_PERM, STATUS_DENIED, NOT_OURS },
    { SQLITE_AUTH, STATUS_DENIED, NOT_OURS },
    { SQLITE_BUSY, STATUS_BUSY, HELD },
    { SQLITE_LOCKED, STATUS_BUSY, HELD },
    { SQLITE_PROTOCOL, STATUS_BUSY, HELD },
    { SQLITE_NOMEM, STATUS_NO_MEMORY, "memory is short" },
    { SQLITE_CORRUPT, STATUS_CORRUPT,
      "it is damaged, and left as it is: " RESTORE ", save what is in it with `sqlite3 updraft.db .recover | sqlite3 "
      "saved.db` (then saved.db takes the place of all three files), or " ANEW },
    { SQLITE_NOTADB, STATUS_CORRUPT, "it is no database, and left as it is: " RESTORE ", or " ANEW },
};

static int errno_of_file(sqlite3 *db, int which)
{
    sqlite3_file *file = NULL;
    int error = 0;
    if (sqlite3_file_control(db, "main", which, &file) == SQLITE_OK && file != NULL && file->pMethods != NULL) {
        (void)file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error);
    }
    return error;
}

/* sqlite3_system_errno alone misses what fails in a COMMIT: the files know, the log first. */
static int errno_of(sqlite3 *db, int kind)
{
    int error = 0;
    if (kind == SQLITE_IOERR) {
        error = errno_of_file(db, SQLITE_FCNTL_JOURNAL_POINTER);
        error = error != 0 ? error : errno_of_file(db, SQLITE_FCNTL_FILE_POINTER);
    }
    return error != 0 || (kind != SQLITE_IOERR && kind != SQLITE_CANTOPEN) ? error : sqlite3_system_errno(db);
}

static enum status remedy_of(sqlite3 *db, int code, const char **remedy)
{
    int kind = code & 0xff;
    if (kind == SQLITE_CANTOPEN && db != NULL && sqlite3_db_readonly(db, "main") == 1) {
        kind = SQLITE_READONLY;
    }
    int error = db != NULL ? errno_of(db, kind) : 0;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        if (error == errors[i].error) {
            *remedy = errors[i].remedy;
            return errors[i].status;
        }
    }
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        if (failures[i].code == kind) {
            *remedy = failures[i].remedy;
            return failures[i].status;
        }
    }
    *remedy = "is its disk in order?";
    return STATUS_IO;
}

enum status store_explain(sqlite3 *db, const char *path, int code, const char *doing, char *message, size_t size)
{
    const char *remedy;
    enum status status = remedy_of(db, code, &remedy);
    bool is_last = db != NULL && (sqlite3_errcode(db) & 0xff) == (code & 0xff);
    snprintf(message, size, "%s: %s: %s; %s", path, doing, is_last ? sqlite3_errmsg(db) : sqlite3_errstr(code), remedy);
    return status;
}

/* --- looks: nothing is changed ---------------------------------------------------------------------------------------
 */

/* The first column of the first row, as a number or as a text. */
static int ask(sqlite3 *db, const char *sql, int *number, char text[16])
{
    sqlite3_stmt *statement;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_step(statement);
    }
    if (code == SQLITE_ROW) {
        const unsigned char *said = sqlite3_column_text(statement, 0);
        *number = sqlite3_column_int(statement, 0);
        snprintf(text, 16, "%s", said != NULL ? (const char *)said : "");
    }
    int ended = sqlite3_finalize(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : ended != SQLITE_OK ? ended : code;
}

static enum status look_at_place(const char *path, char *message, size_t size)
{
    struct stat found;
    if (stat(path, &found) == 0) {
        if (S_ISREG(found.st_mode)) {
            return STATUS_OK;
        }
        snprintf(message, size, "%s is no file: move it away, or choose another --state", path);
        return STATUS_INVALID;
    }
    int error = errno;
    const char *end = strrchr(path, '/');
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", end != NULL ? (int)(end - path) : 0, path);
    if (error == ENOTDIR || (error == ENOENT && end != NULL && stat(folder, &found) != 0 && errno == ENOENT)) {
        snprintf(message, size, "%s: its folder is not there: make it, or choose another --state", path);
        return STATUS_NOT_FOUND;
    }
    return STATUS_OK; /* whatever else is wrong, SQLite meets it too */
}

static enum status look_at_owner(sqlite3 *db, const char *path, int *version, char *message, size_t size)
{
    char text[16];
    int id = 0, tables = 0;
    int code = ask(db, "PRAGMA user_version", version, text);
    code = code == SQLITE_OK ? ask(db, "PRAGMA application_id", &id, text) : code;
    code = code == SQLITE_OK ? ask(db, "SELECT count(*) FROM sqlite_schema", &tables, text) : code;
    if (code != SQLITE_OK) {
        return store_explain(db, path, code, "reading its schema", message, size);
    }
    if (id != STORE_APPLICATION_ID && (id != 0 || tables > 0 || *version != 0)) {
        snprintf(message, size, "%s is another program's database: move it away, or choose another --state", path);
        return STATUS_INVALID;
    }
    if (*version > STORE_SCHEMA_VERSION) {
        snprintf(message, size,
                 "%s was written by a newer Updraft (schema %d, this one knows %d): start that one, or restore a copy "
                 "from before",
                 path, *version, STORE_SCHEMA_VERSION);
        return STATUS_TOO_NEW;
    }
    return STATUS_OK;
}

static enum status look_at_permission(sqlite3 *db, const char *path, char *message, size_t size)
{
    if (sqlite3_db_readonly(db, "main") == 1) {
        snprintf(message, size, "%s: opening it: permission denied; " READ_ONLY, path);
        return STATUS_DENIED;
    }
    return STATUS_OK;
}

/* All of it, where it is about to be changed: a damaged one is not migrated. It takes a while, and is rare. */
static enum status look_through(sqlite3 *db, const char *path, int version, char *message, size_t size)
{
    char mode[16] = "", found[16] = "ok";
    int number;
    int code = ask(db, "PRAGMA journal_mode", &number, mode);
    bool changes = version > 0 && (version < STORE_SCHEMA_VERSION || strcmp(mode, "wal") != 0);
    if (code == SQLITE_OK && changes) {
        code = ask(db, "PRAGMA quick_check(1)", &number, found);
    }
    code = code == SQLITE_OK && strcmp(found, "ok") != 0 ? SQLITE_CORRUPT : code;
    return code == SQLITE_OK ? STATUS_OK : store_explain(db, path, code, "looking through it", message, size);
}

/* --- changes --------------------------------------------------------------------------------------------------------
 */

static int run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

/* Each step in a transaction of its own, so that one that is cut off is done again. */
static int migrate(sqlite3 *db, int from)
{
    char pragmas[80];
    int code = SQLITE_OK;
    for (int version = from; version < STORE_SCHEMA_VERSION && code == SQLITE_OK; version++) {
        snprintf(pragmas, sizeof pragmas, "PRAGMA user_version = %d; PRAGMA application_id = %d", version + 1,
                 STORE_APPLICATION_ID);
        code = run(db, "BEGIN IMMEDIATE");
        code = code == SQLITE_OK ? run(db, migrations[version]) : code;
        code = code == SQLITE_OK ? run(db, pragmas) : code;
        code = code == SQLITE_OK ? run(db, "COMMIT") : code; /* else: rolled back as it is closed */
    }
    return code;
}

static enum status bring_up(sqlite3 *db, const char *path, bool *wal, char *message, size_t size)
{
    char mode[16] = "";
    int version = 0, number;
    enum status status = look_at_owner(db, path, &version, message, size);
    if (status == STATUS_OK) {
        status = look_at_permission(db, path, message, size);
    }
    if (status == STATUS_OK) {
        status = look_through(db, path, version, message, size);
    }
    if (status != STATUS_OK) {
        return status;
    }
    int code = ask(db, "PRAGMA journal_mode = WAL", &number, mode);
    code =
        code == SQLITE_OK ? run(db, SORT_IN_MEMORY "PRAGMA synchronous = FULL; PRAGMA cache_size = -" CACHE_KIB) : code;
    code = code == SQLITE_OK ? migrate(db, version) : code;
    if (code != SQLITE_OK) {
        return store_explain(db, path, code, "preparing it", message, size);
    }
    *wal = strcmp(mode, "wal") == 0;
    return STATUS_OK;
}

enum status store_schema_open(const char *path, sqlite3 **opened, bool *wal, char *message, size_t size)
{
    sqlite3 *db = NULL;
    enum status status = look_at_place(path, message, size);
    if (status != STATUS_OK) {
        return status;
    }
    int code = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) {
        (void)sqlite3_extended_result_codes(db, 1);
        (void)sqlite3_busy_timeout(db, BUSY_MS);
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        status = bring_up(db, path, wal, message, size);
    } else {
        status = store_explain(db, path, code, "opening it", message, size);
    }
    if (status != STATUS_OK) {
        (void)sqlite3_close(db);
        return status;
    }
    *opened = db;
    return STATUS_OK;
}

/* --- reading alone ---------------------------------------------------------------------------------------------------
 */

static bool has_log(const char *path)
{
    char log[PATH_MAX + 8];
    struct stat found;
    snprintf(log, sizeof log, "%s-wal", path);
    return stat(log, &found) == 0 && found.st_size > 0;
}

/* An address as SQLite wants it: what means something in it is escaped. */
static void print_uri(const char *path, const char *query, char *uri, size_t size)
{
    size_t used = (size_t)snprintf(uri, size, "file:");
    for (; *path != '\0' && used + 4 < size; path++) {
        used += (size_t)snprintf(uri + used, size - used, strchr("%?#", *path) != NULL ? "%%%02X" : "%c",
                                 (unsigned char)*path);
    }
    snprintf(uri + used, size - used, "%s", query);
}

/* How a database is read that cannot be opened, in the order in which they are tried. */
static const struct {
    int flags;
    const char *query, *pragma;
    bool for_check, with_log, without_log;
} ways[] = {
    /* The log's index in memory: nothing has to be made on a full disk. */
    { SQLITE_OPEN_READWRITE, "", "PRAGMA locking_mode = EXCLUSIVE", false, true, true },
    /* The log's index is there: of a server that runs, or was killed. */
    { SQLITE_OPEN_READONLY, "?readonly_shm=1", "", true, true, false },
    /* There is no log: it was closed in order. */
    { SQLITE_OPEN_READONLY, "?immutable=1", "", true, false, true },
};

static enum status read_one_way(const char *path, size_t way, sqlite3 **opened, char *message, size_t size)
{
    char uri[3 * PATH_MAX];
    sqlite3 *db = NULL;
    int version = 0;
    enum status status;
    print_uri(path, ways[way].query, uri, sizeof uri);
    int code = sqlite3_open_v2(uri, &db, ways[way].flags | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) {
        (void)sqlite3_extended_result_codes(db, 1);
        (void)sqlite3_busy_timeout(db, BUSY_MS);
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        code = run(db, SORT_IN_MEMORY);
        code = code == SQLITE_OK ? run(db, ways[way].pragma) : code;
    }
    status = code == SQLITE_OK ? look_at_owner(db, path, &version, message, size)
                               : store_explain(db, path, code, "reading it", message, size);
    if (status != STATUS_OK || version == 0) {
        (void)sqlite3_close(db);
        return status;
    }
    *opened = db;
    return STATUS_OK;
}

enum status store_schema_read(const char *path, bool for_check, sqlite3 **opened, char *message, size_t size)
{
    struct stat found;
    enum status status = look_at_place(path, message, size);
    *opened = NULL;
    if (status != STATUS_OK || (stat(path, &found) != 0 && errno == ENOENT) || (found.st_size == 0 && !has_log(path))) {
        return status;
    }
    status = STATUS_IO;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if ((for_check && !ways[i].for_check) || !(has_log(path) ? ways[i].with_log : ways[i].without_log)) {
            continue;
        }
        status = read_one_way(path, i, opened, message, size);
        if (status == STATUS_OK || status == STATUS_CORRUPT || status == STATUS_TOO_NEW || status == STATUS_INVALID) {
            break;
        }
    }
    return status;
}

void store_schema_trust(sqlite3 *db)
{
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
}
