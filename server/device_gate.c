#include "server/device_gate.h"

#include <stdio.h>

/* Blocking goes before allowing. Whoever has a proxy's headers contradict each other, with one of his own, must not be
 * judged by the proxy's address instead of his. Returns the key that speaks against it; NULL = none does. */
static const char *barred_by_network(const struct device_api *api, const struct client_address *client)
{
    if (client == NULL || api->allow.count + api->block.count == 0) {
        return NULL;
    }
    bool is_left_out = api->allow.count > 0 && !client_networks_have(&api->allow, client->bytes);
    return client->in_doubt                                   ? "trusted-proxy"
           : client_networks_have(&api->block, client->bytes) ? "block-network"
           : is_left_out                                      ? "allow-network"
                                                              : NULL;
}

bool device_gate_opens(const struct device_api *api, const struct mac *mac, const struct client_address *client,
                       struct decision *decision)
{
    const struct fleet *fleet = api->sources.fleet;
    enum reason reason = REASON_BLOCKED;
    const char *key = barred_by_network(api, client);
    if (key == NULL && !fleet_bars(&fleet->settings, mac, &key)) {
        if (!fleet_refuses_unknown(fleet, mac)) {
            return true;
        }
        reason = REASON_UNKNOWN_DEVICE;
        key = "unknown-devices";
    }
    *decision = (struct decision){ .reason = reason };
    snprintf(decision->detail, sizeof decision->detail, "%s", key);
    return false;
}
