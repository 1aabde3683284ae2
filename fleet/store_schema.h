/* The database file: opened, recognised, brought up to today's schema; and its failures in words. Shared by the rooms
 * of the SQLite store; nobody else's.
 */
#ifndef FLEET_STORE_SCHEMA_H
#define FLEET_STORE_SCHEMA_H

#include "base/status.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

#define STORE_SCHEMA_VERSION 1
#define STORE_APPLICATION_ID 0x55706472 /* "Updr": `file` and others tell by it whose database this is */

/* Opens or makes it. What is not ours, too new or damaged is refused before anything in it is changed; to stay so, it
 * is closed without a checkpoint until store_schema_trust. `*wal` false: its file system has no shared memory, so it
 * has a rollback journal. On failure nothing is left open, and `message` names the file, the reason and the remedy;
 * statuses as of store_ops.open. */
enum status store_schema_open(const char *path, sqlite3 **db, bool *wal, char *message, size_t size);

/* Opens it to be read, and makes nothing beside it: where the disk is full or read-only; `for_check` also beside a
 * server that runs, and without a lock on it. *db NULL: there is none, or nothing in it. To be closed without a
 * checkpoint, as above. */
enum status store_schema_read(const char *path, bool for_check, sqlite3 **db, char *message, size_t size);

/* All of it could be read. */
void store_schema_trust(sqlite3 *db);

/* What SQLite's `code` means, for people and as a status. `doing`: "writing to it". */
enum status store_explain(sqlite3 *db, const char *path, int code, const char *doing, char *message, size_t size);

#endif
