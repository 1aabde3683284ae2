#include "server/used_addresses.h"

#include <netinet/in.h>
#include <string.h>

#define LOOK_MS 200

static struct used_address *find_place(struct used_addresses *used, const struct sockaddr_storage *address)
{
    struct used_address *free_place = NULL;
    for (size_t i = 0; i < USED_ADDRESSES_MAX; i++) {
        struct used_address *one = &used->list[i];
        if (one->checks > 0 && memcmp(&one->address, address, sizeof *address) == 0) {
            return one;
        }
        free_place = free_place == NULL && one->checks == 0 ? one : free_place;
    }
    return free_place;
}

void used_addresses_count(struct used_addresses *used, const struct sockaddr_storage *address)
{
    struct used_address *place = find_place(used, address);
    uint64_t sum = 0;
    if (place == NULL) {
        return;
    }
    place->address = *address;
    place->checks++;
    for (size_t i = 0; i < USED_ADDRESSES_MAX; i++) {
        sum += used->list[i].checks;
    }
    for (size_t i = 0; sum >= USED_ADDRESSES_SUM_MAX && i < USED_ADDRESSES_MAX; i++) {
        used->list[i].checks /= 2;
    }
}

static void forget_port(struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)address)->sin6_port = 0;
    } else {
        ((struct sockaddr_in *)address)->sin_port = 0;
    }
}

void used_addresses_hear(struct used_addresses *used, struct stream *stream, uint64_t now_ms)
{
    struct sockaddr_storage address;
    memset(&address, 0, sizeof address);
    if (stream == NULL || now_ms - used->looked_ms < LOOK_MS) {
        return;
    }
    used->looked_ms = now_ms;
    if (stream->ops->local(stream, &address) && (address.ss_family == AF_INET || address.ss_family == AF_INET6)) {
        if (stream->over_tls && used->plain_counts) {
            forget_port(&address);
        }
        used_addresses_count(used, &address);
    }
}
