#include "server/device_gate.h"

#include <stdio.h>

/* Blocking goes before allowing. Returns the key that speaks against it; NULL = none does. */
static const char *barred_by_network(struct visit *visit)
{
    const struct device_api *api = visit->api;
    if (api->block.count == 0 && api->allow.count == 0) {
        return NULL;
    }
    const uint8_t *address = visit_client(visit)->bytes;
    bool is_left_out = api->allow.count > 0 && !client_networks_have(&api->allow, address);
    return client_networks_have(&api->block, address) ? "block-network" : is_left_out ? "allow-network" : NULL;
}

bool device_gate_opens(struct visit *visit, enum reason *reason)
{
    const struct fleet *fleet = visit->api->sources.fleet;
    const struct device_request *device = &visit->check.device;
    const struct mac *mac = device->has_mac ? &device->mac : NULL;
    const char *key = barred_by_network(visit);
    if (key != NULL || fleet_bars(&fleet->settings, mac, &key)) {
        *reason = REASON_BLOCKED;
    } else if (fleet_refuses_unknown(fleet, mac)) {
        *reason = REASON_UNKNOWN_DEVICE;
        key = "unknown-devices";
    } else {
        return true;
    }
    snprintf(visit->check.decision.detail, sizeof visit->check.decision.detail, "%s", key);
    return false;
}
