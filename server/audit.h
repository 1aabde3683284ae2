/* Who did what: each act of an operator that changes something, and each that a token's holder was refused, is a line
 * of STATE/audit.log and one of the log.
 *
 * A worker thread writes, so that no disk delays an act. Where the file cannot be written, acts go on: on a full
 * disk `abort` is what an operator needs most, and the log has the same line. It is said once, and counted; lines wait
 * for the disk as long as there is room.
 */
#ifndef SERVER_AUDIT_H
#define SERVER_AUDIT_H

#include "base/status.h"
#include "server/audit_file.h"
#include "server/role.h"
#include "server/tokens.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#define AUDIT_WAITING_BYTES (256u << 10) /* for the disk */
#define AUDIT_QUEUE         1024         /* acts on their way to the worker */
#define AUDIT_SINCE_SIZE    32

struct audit_act {
    char token[TOKEN_NAME_MAX + 1]; /* who; "" = over the Unix socket */
    bool has_ids;                   /* there */
    uid_t uid;
    gid_t gid;
    enum role role;
    char from[64];    /* the address; "socket" */
    const char *act;  /* "rollout-abort"; a literal */
    char object[320]; /* what of: an id, a name, a query; as it came */
    char order[1024]; /* the JSON that came with it, long lists and texts cut */
    unsigned status;  /* of the answer */
    char code[64];    /* of a refusal: "wrong-state" */
    char why[320];
    uint64_t unsaid; /* refusals since the last line that had none of their own */
};

struct audit;

/* Opens the file; else `message` says what is wrong with it. The loop may be begun later. */
enum status audit_open(const char *path, uv_loop_t *loop, struct audit **audit, char *message, size_t size);
void audit_close(struct audit *audit); /* when the loop has ended, which all writing under way delays */

/* Copies it. */
void audit_add(struct audit *audit, const struct audit_act *act);

/* A page of what there is, all acts before this call among it: on_read follows, later, with what audit_file_read
 * found (taken over; NULL = no memory). Returns false where another is being read. */
typedef void (*audit_read_fn)(void *owner, json_t *found);
bool audit_read(struct audit *audit, const struct audit_page *page, audit_read_fn on_read, void *owner);

void audit_tick(struct audit *audit); /* now and then: tries again what could not be written */

/* What is wrong with the file, or NULL; and how many lines it lacks for good. */
const char *audit_trouble(const struct audit *audit);
uint64_t audit_lost(const struct audit *audit);

#endif
