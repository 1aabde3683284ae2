/* Who relies on an image: the devices that an operator has pinned or assigned to it, where the repository has nothing
 * else for them. Of a million words, so they are looked through in steps (server/turns.h).
 */
#ifndef SERVER_RELIANCE_H
#define SERVER_RELIANCE_H

#include "fleet/fleet.h"
#include "repo/catalog.h"
#include "server/turns.h"

#define RELIANCE_NAMED 3

struct reliance {
    const struct fleet *fleet;
    struct catalog *const *catalog; /* the newest, whenever it is looked at */
    char path[4096];                /* of the image */
    bool fs;
    struct turns *turns;
    void (*on_done)(void *owner);
    void *owner;
    /* its own */
    struct turn_job job;
    struct mac at; /* the last that was looked at, where has_at */
    bool has_at, is_part;
    unsigned begun; /* how often it began anew, because the last one was gone */
    size_t count;
    struct mac first[RELIANCE_NAMED];
};

/* on_done: within the call where little was said, else later; exactly once. *reliance stays until then. */
void reliance_count(struct reliance *reliance);

/* A sentence for the operator; "" where nobody relies on it. */
void reliance_text(const struct reliance *reliance, char *text, size_t size);

#endif
