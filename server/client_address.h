/* Whose request it is: the other end of the connection; or, where that is a proxy which the operator trusts, whom the
 * proxy names in X-Forwarded-For, or in Forwarded (RFC 7239).
 *
 * What makes it hard: all of these headers but the end that trusted proxies wrote comes from whoever asks. They are
 * read from the end on, to the first address that is no trusted proxy (as nginx does with real_ip_recursive); where
 * all are trusted, that is the first. What cannot be read, or says one thing in one header and another in the other,
 * says nothing: then it is the connection's end.
 */
#ifndef SERVER_CLIENT_ADDRESS_H
#define SERVER_CLIENT_ADDRESS_H

#include "base/text.h"
#include "proto/device_request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define CLIENT_NETWORKS_MAX 64

/* "10.0.0.1", "10.0.0.0/8", "fd00::/8". */
struct client_network {
    uint8_t bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned bits;     /* of 128 */
};

struct client_networks {
    size_t count;
    struct client_network networks[CLIENT_NETWORKS_MAX];
};

struct client_address {
    uint8_t bytes[16]; /* without the port, IPv4 as ::ffff:a.b.c.d; zeros = not known */
    bool forwarded;    /* a trusted proxy says so */
    bool in_doubt;     /* a trusted proxy brought it and names somebody, but nobody can tell whom: this is the proxy */
};

/* False, writing nothing, where it is none, where bits behind the prefix are set (is the network meant, or the
 * address?), and where it holds all of IPv4, or everything: then everybody would be believed. */
bool client_network_read(struct slice text, struct client_network *network);

bool client_networks_have(const struct client_networks *list, const uint8_t bytes[16]);

/* `peer` is the connection's other end. Headers are looked at only where it is one of `proxies`. */
struct client_address client_address_find(const struct client_networks *proxies, const struct sockaddr *peer,
                                          const struct header *headers, size_t n);

/* The address; of IPv6 its /64, which one host has whole. (Of what begins with zeros, as IPv4 does in the clothes of
 * IPv6, translated IPv4 and ::1, nobody has that: it counts as it is.) */
struct client_address client_address_network(const struct client_address *client);

/* The same as one number, to tell such as come from there by. */
uint64_t client_address_key(const uint8_t bytes[16]);

/* "192.0.2.7", "[2001:db8::7]"; `to` has room for HOST_TEXT_SIZE bytes. */
void client_address_print(const struct client_address *client, char *to, size_t size);

#endif
