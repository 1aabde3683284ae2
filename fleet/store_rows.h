/* How the store's rows lie in SQLite: which field is which column. Shared by what writes and what reads; nobody else's.
 */
#ifndef FLEET_STORE_ROWS_H
#define FLEET_STORE_ROWS_H

#include "fleet/store.h"

#include <sqlite3.h>

/* Binds parameters one after the other, or reads columns likewise. What is bound must live until the statement is
 * reset.
 */
struct row_cursor {
    sqlite3_stmt *statement;
    int next;
};

sqlite3_int64 row_mac_number(const struct mac *mac);
void row_put_number(struct row_cursor *cursor, sqlite3_int64 number);
void row_put_text(struct row_cursor *cursor, const char *text);
sqlite3_int64 row_get_number(struct row_cursor *cursor);
void row_get_text(struct row_cursor *cursor, char *to, size_t size);
/* `images` takes those of its never_again. */
#define ROW_IMAGE_BYTES  22
#define ROW_IMAGES_BYTES (NEVER_AGAIN_OF_DEVICE * ROW_IMAGE_BYTES)
void row_put_device(struct row_cursor *to, const struct store_device *row, uint8_t images[ROW_IMAGES_BYTES]);
void row_get_device(struct row_cursor *from, struct store_device *row);
/* `packed` takes the devices of it. */
#define ROW_SEEN_BYTES       10
#define ROW_SEEN_BLOCK_BYTES (STORE_SEEN_MAX * ROW_SEEN_BYTES)
void row_put_seen(struct row_cursor *to, const struct store_seen *row, sqlite3_int64 first,
                  uint8_t packed[ROW_SEEN_BLOCK_BYTES]);
void row_get_seen(struct row_cursor *from, struct store_seen *row);
void row_put_policy(struct row_cursor *to, const struct store_policy *row, char groups[STORE_GROUPS_TEXT]);
void row_get_policy(struct row_cursor *from, struct store_policy *row);
/* Takes what is written as texts: how many of its devices are in each state, and are skipped for each reason. */
struct row_counts {
    char states[ROLLOUT_DEVICE_STATES * 40];
    char reasons[ROLLOUT_REASONS_MAX * (ROLLOUT_REASON_SIZE + 24)];
};
void row_put_rollout(struct row_cursor *to, const struct rollout *row, struct row_counts *counts);
void row_get_rollout(struct row_cursor *from, struct rollout *row, struct mac *devices);
void row_put_member(struct row_cursor *to, const struct store_member *row);
void row_get_member(struct row_cursor *from, struct store_member *row);

#endif
