/* The address of a machine without its dress: a socket of both families shows IPv4 in the clothes of IPv6. */
#ifndef SERVER_HOST_H
#define SERVER_HOST_H

#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define HOST_TEXT_SIZE 48 /* an IPv6 address in brackets */

struct host {
    int family; /* AF_INET, AF_INET6; 0 = none */
    uint8_t bytes[16];
    uint16_t port;
};

struct host host_of_address(const struct sockaddr *address);

/* As 16 bytes, IPv4 as ::ffff:a.b.c.d, and back; without the port. */
struct host host_of_bytes(const uint8_t bytes[16]);
void host_to_bytes(const struct host *host, uint8_t bytes[16]);

/* An address as text, perhaps in brackets; false where it is none (a name). */
bool host_read(struct slice text, struct host *host);

/* IPv6 in brackets, as it stands in a URL. */
void host_print(const struct host *host, char *to, size_t size);

bool host_is_same(const struct host *a, const struct host *b); /* whichever port */
bool host_is_loopback(const struct host *host);
bool host_is_any(const struct host *host);
bool host_is_link_local(const struct host *host);

/* 100.64.0.0/10, which providers and overlay networks use: no home's or site's own network. */
bool host_is_shared(const struct host *host);

#endif
