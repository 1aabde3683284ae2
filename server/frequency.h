/* How often each of many came within a minute: a table of fixed size, so that strangers fill no memory. Of two keys
 * that meet in one place it is kept by the one that comes more often: the other is not counted, and costs it one. So
 * too little is counted, never too much, and who comes without end is known among any number of others (Misra and Gries
 * 1982). */
#ifndef SERVER_FREQUENCY_H
#define SERVER_FREQUENCY_H

#include "fleet/mac_hash.h"

#include <stdbool.h>
#include <stdint.h>

#define FREQUENCY_PLACES  4096
#define FREQUENCY_SPAN_MS 60000

struct frequency_place {
    uint32_t key; /* a hash; 0 with since_ms 0 = empty */
    uint32_t count;
    uint64_t since_ms; /* begin of its minute */
    uint64_t told_ms;  /* 0 = never */
};

struct frequency {
    struct mac_hash_seed seed;
    struct frequency_place passing; /* of whoever finds its place kept by another */
    struct frequency_place places[FREQUENCY_PLACES];
};

void frequency_init(struct frequency *frequency);

/* One more of `high`, `low`. Its place counts those of its minute, this one among them; valid until the next. */
struct frequency_place *frequency_count(struct frequency *frequency, uint64_t high, uint64_t low, uint64_t now_ms);

#endif
