#include "server/used_addresses.h"

#include <netinet/in.h>
#include <string.h>

#define LOOK_MS 200

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6) {
        const struct in6_addr *in6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
        return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
    }
    return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
}

void used_addresses_hear(struct used_addresses *used, struct stream *stream, uint64_t now_ms)
{
    struct sockaddr_storage address;
    memset(&address, 0, sizeof address);
    if (stream == NULL || now_ms - used->looked_ms < LOOK_MS) {
        return;
    }
    used->looked_ms = now_ms;
    if (!stream->ops->local(stream, &address) || address.ss_family == AF_UNIX || is_loopback(&address)) {
        return;
    }
    for (size_t i = 0; i < USED_ADDRESSES_MAX; i++) {
        struct used_address *one = &used->list[i];
        if (one->checks == 0 || memcmp(&one->address, &address, sizeof address) == 0) {
            one->address = address;
            one->checks++;
            return;
        }
    }
}

const struct sockaddr_storage *used_addresses_most(const struct used_addresses *used)
{
    const struct used_address *most = &used->list[0];
    for (size_t i = 1; i < USED_ADDRESSES_MAX; i++) {
        most = used->list[i].checks > most->checks ? &used->list[i] : most;
    }
    return most->checks > 0 ? &most->address : NULL;
}
