#include "server/device_gate.h"

#include <stdio.h>

/* Blocking goes before allowing. Returns the key that speaks against it; NULL = none does. */
static const char *barred_by_network(const struct device_api *api, const uint8_t *address)
{
    if (address == NULL) {
        return NULL;
    }
    bool is_left_out = api->allow.count > 0 && !client_networks_have(&api->allow, address);
    return client_networks_have(&api->block, address) ? "block-network" : is_left_out ? "allow-network" : NULL;
}

bool device_gate_opens(const struct device_api *api, const struct mac *mac, const uint8_t *address,
                       struct decision *decision)
{
    const struct fleet *fleet = api->sources.fleet;
    enum reason reason = REASON_BLOCKED;
    const char *key = barred_by_network(api, address);
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
