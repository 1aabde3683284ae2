/* Whether the certificate that a device shows is its own: one that names a MAC is good for that device alone, so that
 * what is read out of one device is of no use to be another. */
#include "server/device_parts.h"

#include <stdio.h>
#include <string.h>

struct names {
    const struct mac *wanted; /* NULL = the request names none */
    bool found, any;
    struct mac first; /* where `any` */
};

/* A name is a MAC whole, or in its first label: "5ccf7fb1e042", "5c-cf-7f-b1-e0-42.devices.example". */
static void on_name(void *owner, const char *name, size_t n)
{
    struct names *names = owner;
    const char *dot = n > 0 ? memchr(name, '.', n) : NULL;
    struct mac mac;
    if (!mac_parse((struct slice){ name, n }, &mac) &&
        (dot == NULL || !mac_parse((struct slice){ name, (size_t)(dot - name) }, &mac))) {
        return;
    }
    names->first = names->any ? names->first : mac;
    names->any = true;
    names->found = names->found || (names->wanted != NULL && mac_equal(&mac, names->wanted));
}

bool device_shows_own_certificate(struct visit *visit)
{
    const struct device_request *device = &visit->check.device;
    struct names names = { .wanted = device->has_mac ? &device->mac : NULL };
    char *detail = visit->check.decision.detail, text[MAC_TEXT_SIZE];
    size_t size = sizeof visit->check.decision.detail;
    bool required = visit->api->certificate_macs == CERTIFICATE_MACS_REQUIRED;
    if (visit->api->certificate_macs == CERTIFICATE_MACS_ANY || visit->stream == NULL ||
        !visit->stream->ops->certificate(visit->stream, on_name, &names)) {
        return true;
    }
    if (names.found || (!required && (!names.any || names.wanted == NULL))) {
        return true;
    }
    if (!names.any) {
        snprintf(detail, size, "its certificate names no MAC");
    } else {
        mac_print(&names.first, text);
        snprintf(detail, size, "its certificate is for %s%s", text,
                 names.wanted == NULL ? ", and the request names no MAC" : "");
    }
    return false;
}
