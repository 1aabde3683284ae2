/* The commands of a rollout, from its beginning to the last answer: who is told, in slices between turns of the loop;
 * what is acknowledged, or not; what is taken back when it is no longer wanted.
 *
 * A command of several messages (Tasmota: the address, then the word) reaches its device whole or not at all when a
 * newer order takes over: once its first message has gone, it is finished. Only what has FAILED is given up in between:
 * nobody who was told "failed" shall find devices flashed later.
 */
#ifndef SERVER_DISPATCH_H
#define SERVER_DISPATCH_H

#include "server/trigger.h"

/* Gathers the devices that the rollout expects, takes them out of older rollouts, and tells them; a slice of it at
 * once. The rollout's `commands` are counted already. */
void dispatch_begin(struct trigger *trigger, const struct trigger_order *order, const struct trigger_plan *plan,
                    struct rollout *rollout);

#endif
