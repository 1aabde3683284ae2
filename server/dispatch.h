/* A rollout's way out: its devices gathered, in slices between turns of the loop; then each command as the rollout asks
 * for it (trigger_tell), and the broker's answer back to it; what is taken back when it pauses or is over.
 *
 * A command of several messages (Tasmota: the address, then the word) reaches its device whole or not at all: once its
 * first message has gone, it is finished. Only where nobody was told anything is it given up in between: nobody who was
 * told "aborted" shall find devices flashed later.
 */
#ifndef SERVER_DISPATCH_H
#define SERVER_DISPATCH_H

#include "server/trigger.h"

/* Gathers the devices that the order means, and starts the rollout. */
void dispatch_begin(struct trigger *trigger, const struct trigger_order *order, const struct trigger_plan *plan,
                    struct rollout *rollout);
/* Once a second: commands that still wait are written anew where the public URL is another; retained ones make room. */
void dispatch_tick(struct trigger *trigger);
struct dispatch *dispatch_find(const struct trigger *trigger, const char *id); /* of the rollout; NULL = none */

#endif
