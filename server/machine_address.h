/* The addresses of this machine, and which of them lead out of it. */
#ifndef SERVER_MACHINE_ADDRESS_H
#define SERVER_MACHINE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* One address of this machine as its system lists it. */
struct machine_address {
    char interface[32];
    struct sockaddr_storage address;
    bool loopback;
    bool container_internal; /* the near end of a link out of this container, or a bridge to containers on this host */
};

/* Asks the system; reads /sys and /proc, so at start and at a reload only. Returns how many were written. */
size_t machine_addresses(struct machine_address *addresses, size_t max, bool *in_container);

#endif
