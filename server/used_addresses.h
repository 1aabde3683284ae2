/* Where devices' check-ins arrive: our ends of their connections, which nobody can forge as a Host header can be. They
 * are counted, since a stranger's request through another network must not turn the fleet there; and older ones count
 * less and less, since networks change.
 */
#ifndef SERVER_USED_ADDRESSES_H
#define SERVER_USED_ADDRESSES_H

#include "server/stream.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define USED_ADDRESSES_MAX 8

struct used_address {
    struct sockaddr_storage address;
    uint64_t checks; /* 0 = the place is free */
};

#define USED_ADDRESSES_SUM_MAX 1000 /* check-ins remembered of all together: then all count half */

/* Zeroed before the first use. */
struct used_addresses {
    struct used_address list[USED_ADDRESSES_MAX];
    uint64_t looked_ms;
    bool plain_counts; /* there is a plain door: the port of TLS is not the one to name (port 0) */
};

/* A check-in of an updater over this stream. Asking the system costs, so it is done now and then. */
void used_addresses_hear(struct used_addresses *used, struct stream *stream, uint64_t now_ms);

/* The counting alone. `address` must be zeroed behind what it says. */
void used_addresses_count(struct used_addresses *used, const struct sockaddr_storage *address);

#endif
