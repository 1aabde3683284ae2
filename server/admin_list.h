/* A long list as an answer, looked through and written a little at each turn of the loop (server/turns.h): devices come
 * and ask meanwhile, so it shows each member as it was when its turn came.
 */
#ifndef SERVER_ADMIN_LIST_H
#define SERVER_ADMIN_LIST_H

#include "base/buf.h"
#include "server/admin_parts.h"

#define ADMIN_LIST_MAX 1000 /* members in one answer */

struct admin_list;

enum admin_list_look { ADMIN_LIST_END, ADMIN_LIST_OTHER, ADMIN_LIST_COUNTS };

struct admin_list_kind {
    const char *name;                                      /* what the answer calls it: "devices" */
    enum admin_list_look (*look)(struct admin_list *list); /* at the next one: is there any, and is it one of those? */
    json_t *(*show)(struct admin_list *list);              /* the one looked at */
    json_t *(*end)(struct admin_list *list);               /* what else the answer says; called once, and last */
};

/* The first member of what a kind needs, which is freed with it. */
struct admin_list {
    const struct admin_list_kind *kind;
    struct admin_api *api;
    struct moment now;      /* of this turn */
    uint64_t offset, limit; /* of those that count */
    size_t matched, shown;
    /* admin_list.c's: */
    struct turn_job job;
    struct http_answer *answer; /* while the call lasts */
    struct http_later *later;   /* then */
    bool done;
    struct buf text;
};

/* Answers with it, now or later. `kind`, offset and limit are set, the rest is zero; `list`, from the heap, is taken
 * over. */
void admin_list_answer(struct admin_call *call, struct admin_list *list);

#endif
