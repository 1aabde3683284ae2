/* Who failed to say who he is, how often, and how long his next answer is held for it.
 *
 * A table of addresses, bounded: the longest quiet gives way. It slows guessing and says so, once a minute an address;
 * it locks nobody out. A right token or password is to be answered at once whatever its address did before: behind one
 * NAT or proxy others' failures are not the holder's. So the room counts failures alone, and is never asked before.
 */
#ifndef SERVER_FAILED_LOGINS_H
#define SERVER_FAILED_LOGINS_H

#include "server/client_address.h"

#include <stddef.h>
#include <stdint.h>

#define FAILED_LOGINS_ADDRESSES    4096
#define FAILED_LOGINS_FREE         5   /* of an address, answered at once */
#define FAILED_LOGINS_DELAY_MS     250 /* of the next; each further one doubles it … */
#define FAILED_LOGINS_DELAY_MAX_MS 8000
#define FAILED_LOGINS_FORGET_MS    (15u * 60 * 1000) /* without a failure: it is as if there had been none */
#define FAILED_LOGINS_TELL_MS      60000u            /* between two lines in the log of one address */
#define FAILED_LOGINS_LINES        30                /* in the log, of all addresses, in so long */

struct failed_logins;

/* `door` is where they knock, in the log: "admin", "device"; borrowed. NULL: no memory. */
struct failed_logins *failed_logins_new(const char *door);
void failed_logins_free(struct failed_logins *failed);

/* One more failure of this address; of IPv6, of its /64, which one host has whole. Returns for how many milliseconds
 * its answer is to be held: 0 = not. */
uint64_t failed_logins_add(struct failed_logins *failed, const struct client_address *who, uint64_t now_ms);

size_t failed_logins_addresses(const struct failed_logins *failed); /* remembered */

#endif
