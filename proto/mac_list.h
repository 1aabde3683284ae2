/* Devices named by how their MACs begin: a whole MAC, or the bytes of a maker. What a device says of itself is a claim;
 * a list keeps out who does not lie. */
#ifndef PROTO_MAC_LIST_H
#define PROTO_MAC_LIST_H

#include "proto/mac.h"

#include <stddef.h>

#define MAC_LIST_MAX 64

struct mac_prefix {
    uint8_t bytes[6];
    uint8_t count; /* of them, 1 to 6 */
};

struct mac_list {
    size_t count;
    struct mac_prefix prefixes[MAC_LIST_MAX];
};

/* "5c:cf:7f", "5CCF7F", or what mac_parse takes. Returns false, writing nothing, on anything else. */
bool mac_prefix_read(struct slice text, struct mac_prefix *prefix);

bool mac_list_has(const struct mac_list *list, const struct mac *mac);

#endif
