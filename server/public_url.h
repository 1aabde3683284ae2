/* What devices are told to fetch from. Wrong advice here is the classic failure: a server that advertises its
 * container's own address, or 127.0.0.1, and waits for ever.
 *
 * In this order: --public-url; the address at which most of the devices' check-ins arrived (used_addresses); the first
 * --listen, where it names one address; the machine's own address, where --listen says "any". A container's own address
 * is never used: no device can reach it. https:// where there is no plain door (--listen none): then --tls-listen
 * stands for --listen.
 *
 * Of two addresses to which about as many come, the one named before stays.
 *
 * A command names one address. Where devices come to two in numbers, the operator is told: whether those of one network
 * reach the address in the other, only they can know.
 */
#ifndef SERVER_PUBLIC_URL_H
#define SERVER_PUBLIC_URL_H

#include "base/status.h"
#include "server/machine_address.h"
#include "server/used_addresses.h"

#include <stdbool.h>
#include <stddef.h>

#define PUBLIC_URL_MAX 256

enum public_url_kind {
    PUBLIC_URL_CONFIGURED,
    PUBLIC_URL_USED,    /* devices came to it */
    PUBLIC_URL_LISTEN,  /* of --listen */
    PUBLIC_URL_MACHINE, /* an interface of this machine */
    PUBLIC_URL_UNKNOWN, /* nothing that could be told: .url is "" */
};

struct public_url {
    char url[PUBLIC_URL_MAX + 1]; /* "http://192.168.1.10:8080", without a slash at the end */
    enum public_url_kind kind;
    bool loopback;     /* no other machine reaches it */
    char warning[480]; /* for the log, `status` and publish-update, with the remedy; "" = none */
};

/* http:// or https://, a host, perhaps a port and a path; no query, blank or user. Without a slash at the end. */
enum status public_url_check(const char *url, char *why, size_t size);

struct public_url_input {
    const char *configured;            /* "" = none */
    const char *before;                /* the URL chosen last; "" = none */
    const struct used_addresses *used; /* where check-ins of updaters arrived */
    const char *listen;                /* the first listener as it was bound: "0.0.0.0:8080" with the real port */
    bool over_tls;                     /* it is one of TLS: there is no plain one */
    const struct machine_address *addresses;
    size_t address_count;
    bool in_container;
};

/* Pure: the same input, the same answer. */
void public_url_choose(const struct public_url_input *input, struct public_url *chosen);

#endif
