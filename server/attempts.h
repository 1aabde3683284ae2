/* How often an address failed, and what it meets for it: a table of addresses, and rules that are a value.
 *
 * Two doors, two rules. To find a device's password out costs work, so attempts are taken before (attempts_take): so
 * many at once, then one after the other in its time; what was right is given back. To look at a token costs nothing,
 * so failures are counted behind (attempts_failed), and the answer is held the longer the more there were: a right
 * one is to be answered at once whatever its address did before, since behind one NAT or proxy others' failures are not
 * the holder's.
 *
 * Of fixed size, in sets found by a hash that strangers cannot steer; who is forgiven first in a set gives way. Of IPv6
 * the /64 counts, which one host has whole.
 */
#ifndef SERVER_ATTEMPTS_H
#define SERVER_ATTEMPTS_H

#include "server/client_address.h"

#include <stdbool.h>
#include <stdint.h>

#define ATTEMPTS_SETS    512
#define ATTEMPTS_WAYS    8
#define ATTEMPTS_TELL_MS 60000u /* between two lines in the log of one address */
#define ATTEMPTS_LINES   30     /* in the log, of all addresses, in so long */

struct attempts_rules {
    const char *door; /* where they knock, in the log of failures; NULL where attempts are taken before */
    uint32_t at_once; /* failures that cost nothing yet */
    uint64_t forgive_ms;
    bool one_by_one;   /* each is forgiven in so long, behind the one before; else all, so long after the last */
    uint64_t delay_ms; /* of the first answer above `at_once`; each further one doubles it … */
    uint64_t delay_max_ms;
};

extern const struct attempts_rules attempts_of_devices;   /* … at their passwords */
extern const struct attempts_rules attempts_of_operators; /* … at tokens */

struct attempts;

/* `rules` are borrowed. NULL: no memory. */
struct attempts *attempts_new(const struct attempts_rules *rules);
void attempts_free(struct attempts *attempts);

/* Takes one. False: there is none left for this address. */
bool attempts_take(struct attempts *attempts, const struct client_address *who, uint64_t now_ms);

/* It was right after all. */
void attempts_give_back(struct attempts *attempts, const struct client_address *who, uint64_t now_ms);

/* One more failure, which the log may say. Returns for how many milliseconds its answer is to be held: 0 = not. */
uint64_t attempts_failed(struct attempts *attempts, const struct client_address *who, uint64_t now_ms);

#endif
