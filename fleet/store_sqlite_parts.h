/* What the two halves of the store in SQLite share, and nobody else: store_sqlite.c, which opens it and writes, and
 * store_sqlite_read.c.
 */
#ifndef FLEET_STORE_SQLITE_PARTS_H
#define FLEET_STORE_SQLITE_PARTS_H

#include "fleet/store_rows.h"

enum query {
    PUT_DEVICE,
    DROP_DEVICE,
    DROP_EVENTS,
    PUT_POLICY,
    DROP_POLICY,
    PUT_ROLLOUT,
    DROP_ROLLOUT,
    PUT_DROPPED,
    GET_DROPPED,
    DROP_MEMBERS,
    DROP_DROPPED,
    PUT_MEMBER,
    PUT_EVENT,
    THIN_EVENTS,
    PUT_SEEN,
    DROP_SEEN,
    GET_EVENTS,
    GET_MEMBERS,
    GET_MEMBERS_OF_STATE,
    QUERIES
};

struct sqlite {
    sqlite3 *db;
    char path[4096];
    sqlite3_stmt *statements[QUERIES];
    bool wal, full_sync;
    sqlite3_int64 first_block;   /* of `seen` that is this process's; those below are of earlier ones */
    bool untidy;                 /* there may be members of rollouts that were dropped */
    bool is_failing;             /* it could not be opened: `db` is for load alone, and NULL behind it */
    char ailing[STORE_WHY_SIZE]; /* why the log could not be carried over; "" = it could */
};

/* The code of a failure, in words. */
enum status sqlite_explain(struct sqlite *store, int code, const char *doing, char *message, size_t size);
struct row_cursor sqlite_begin(struct sqlite *store, enum query query);
void sqlite_shut(struct sqlite *store);

/* As in store_ops. */
enum status sqlite_load(void *opened, store_row_fn on_row, void *owner, char *message, size_t size);
enum status sqlite_events(void *opened, const struct mac *mac, struct store_event *events, size_t max, size_t *count,
                          char *message, size_t size);
enum status sqlite_members(void *opened, const char *rollout, enum rollout_device_state state, size_t first,
                           struct store_member *members, size_t max, size_t *count, char *message, size_t size);

#endif
