/* What is read back: all of it at the start, and a piece where an operator asks. */
#include "fleet/store_schema.h"
#include "fleet/store_sqlite_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

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
        case STORE_SEEN:
            row_get_seen(&cursor, &row->row.seen);
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
        code == SQLITE_OK || code == SQLITE_DONE ? STATUS_OK : sqlite_explain(store, code, "reading it", message, size);
    sqlite3_finalize(cursor.statement);
    free(named);
    free(row);
    return status;
}

/* Nobody of it is followed any more. */
#define IS_CLOSED                                                                                                      \
    "(r.state IN ('done', 'aborted') AND r.counts NOT LIKE '%triggered%' AND r.counts NOT LIKE '%downloading%'"        \
    " AND r.counts NOT LIKE '%flashed%')"

enum status sqlite_load(void *opened, store_row_fn on_row, void *owner, char *message, size_t size)
{
    static const struct {
        const char *sql;
        enum store_kind kind;
    } tables[] = {
        { "SELECT * FROM policy", STORE_POLICY },
        { "SELECT * FROM device", STORE_DEVICE },
        { "SELECT * FROM seen", STORE_SEEN },
        { "SELECT * FROM rollout ORDER BY place", STORE_ROLLOUT },
        /* unsorted: there may be a million */
        { "SELECT m.* FROM rollout r CROSS JOIN member m ON m.rollout = r.id WHERE m.armed = 0 AND NOT " IS_CLOSED,
          STORE_MEMBER },
        { "SELECT m.* FROM rollout r CROSS JOIN member m ON m.rollout = r.id WHERE m.armed > 0 AND NOT " IS_CLOSED
          " ORDER BY m.rollout, m.armed",
          STORE_MEMBER },
        { "SELECT m.* FROM rollout r CROSS JOIN member m INDEXED BY member_listed ON m.rollout = r.id"
          " WHERE m.state IN ('failed', 'silent', 'skipped') AND " IS_CLOSED,
          STORE_MEMBER },
    };
    struct sqlite *store = opened;
    enum status status = STATUS_OK;
    for (size_t i = 0; store->db != NULL && i < sizeof tables / sizeof tables[0] && status == STATUS_OK; i++) {
        status = read_table(store, tables[i].sql, tables[i].kind, on_row, owner, message, size);
    }
    if (store->is_failing) {
        sqlite_shut(store); /* its lock would keep us from opening it */
    } else if (status == STATUS_OK) {
        store_schema_trust(store->db);
    }
    return status;
}

enum status sqlite_events(void *opened, const struct mac *mac, struct store_event *events, size_t max, size_t *count,
                          char *message, size_t size)
{
    struct sqlite *store = opened;
    int code;
    *count = 0;
    if (store->is_failing) {
        snprintf(message, size, "%s: it could not be opened yet", store->path);
        return STATUS_BUSY;
    }
    struct row_cursor cursor = sqlite_begin(store, GET_EVENTS);
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
                             : sqlite_explain(store, code, "reading a time-line", message, size);
    (void)sqlite3_reset(cursor.statement);
    return status;
}

enum status sqlite_members(void *opened, const char *rollout, enum rollout_device_state state, size_t first,
                           struct store_member *members, size_t max, size_t *count, char *message, size_t size)
{
    struct sqlite *store = opened;
    enum query query = state == ROLLOUT_DEVICE_STATES ? GET_MEMBERS : GET_MEMBERS_OF_STATE;
    int code;
    *count = 0;
    if (store->is_failing) {
        snprintf(message, size, "%s: it could not be opened yet", store->path);
        return STATUS_BUSY;
    }
    struct row_cursor cursor = sqlite_begin(store, query);
    row_put_text(&cursor, rollout);
    row_put_number(&cursor, (sqlite3_int64)max);
    row_put_number(&cursor, (sqlite3_int64)first);
    if (state != ROLLOUT_DEVICE_STATES) {
        row_put_text(&cursor, rollout_device_word(state));
    }
    while ((code = sqlite3_step(cursor.statement)) == SQLITE_ROW && *count < max) {
        struct store_member *member = &members[(*count)++];
        cursor.next = 0;
        row_get_member(&cursor, member);
        member->state = member->state == ROLLOUT_DEVICE_QUEUED ? ROLLOUT_DEVICE_SKIPPED : member->state;
    }
    enum status status = code == SQLITE_DONE || code == SQLITE_ROW
                             ? STATUS_OK
                             : sqlite_explain(store, code, "reading a rollout's devices", message, size);
    (void)sqlite3_reset(cursor.statement);
    return status;
}
