/* Who is turned away at the devices' door, whatever is asked there: by network, by MAC, and strangers where these are
 * refused. They are answered, and not reset: a device then says "forbidden" and not "no connection", which would send
 * its owner to look at the network. Nothing of the repository is told, and nothing remembered. */
#ifndef SERVER_DEVICE_GATE_H
#define SERVER_DEVICE_GATE_H

#include "server/device_parts.h"

/* What the device said has been read. Returns false with the reason, and which setting it was in
 * visit->check.decision.detail. */
bool device_gate_opens(struct visit *visit, enum reason *reason);

#endif
