/* A device's MAC address: six bytes, however the device or an operator writes it. */
#ifndef PROTO_MAC_H
#define PROTO_MAC_H

#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

struct mac {
    uint8_t bytes[6];
};

#define MAC_TEXT_SIZE 13 /* 12 lower-case digits and a NUL: the form of topics, logs and tables */

/* Twelve hexadecimal digits in either case, with `:`, `-` or `.` between bytes or none at all (the Cisco form
 * aabb.ccdd.eeff too); one kind of separator at a time. All zeros and group addresses name no device.
 * Returns false, writing nothing, on anything else. */
bool mac_parse(struct slice text, struct mac *mac);

void mac_print(const struct mac *mac, char text[MAC_TEXT_SIZE]);
bool mac_equal(const struct mac *a, const struct mac *b);
int mac_compare(const void *a, const void *b); /* of two struct mac, for qsort and bsearch */

#endif
