/* Who is turned away at the devices' door, whatever is asked there: by network, by MAC, and strangers where these are
 * refused. They are answered, and not reset: a device then says "forbidden" and not "no connection", which would send
 * its owner to look at the network. Nothing of the repository is told, and nothing remembered. */
#ifndef SERVER_DEVICE_GATE_H
#define SERVER_DEVICE_GATE_H

#include "server/device_api.h"

/* `mac` NULL = it names none; `client` NULL = not known, and not judged. Returns false with the reason in
 * *decision, and the key that speaks against it in its detail. */
bool device_gate_opens(const struct device_api *api, const struct mac *mac, const struct client_address *client,
                       struct decision *decision);

#endif
