#include "server/host.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

struct range {
    uint8_t bytes[16];
    unsigned bits;
};

static bool in_range(const struct host *host, int family, const struct range *range)
{
    unsigned whole = range->bits / 8;
    if (host->family != family || memcmp(host->bytes, range->bytes, whole) != 0) {
        return false;
    }
    uint8_t mask = (uint8_t)(0xff00 >> range->bits % 8);
    return mask == 0 || ((host->bytes[whole] ^ range->bytes[whole]) & mask) == 0;
}

bool host_is_loopback(const struct host *host)
{
    static const struct range v4 = { { 127 }, 8 }, v6 = { { [15] = 1 }, 128 };
    return in_range(host, AF_INET, &v4) || in_range(host, AF_INET6, &v6);
}

bool host_is_any(const struct host *host)
{
    static const struct range v4 = { { 0 }, 8 }, v6 = { { 0 }, 128 };
    return in_range(host, AF_INET, &v4) || in_range(host, AF_INET6, &v6);
}

bool host_is_link_local(const struct host *host)
{
    static const struct range v4 = { { 169, 254 }, 16 }, v6 = { { 0xfe, 0x80 }, 10 };
    return in_range(host, AF_INET, &v4) || in_range(host, AF_INET6, &v6);
}

bool host_is_shared(const struct host *host)
{
    static const struct range v4 = { { 100, 64 }, 10 };
    return in_range(host, AF_INET, &v4);
}

static const struct range mapped = { { [10] = 0xff, [11] = 0xff }, 96 };

struct host host_of_bytes(const uint8_t bytes[16])
{
    struct host host = { .family = AF_INET6 };
    memcpy(host.bytes, bytes, 16);
    if (in_range(&host, AF_INET6, &mapped)) {
        host.family = AF_INET;
        memmove(host.bytes, host.bytes + 12, 4);
        memset(host.bytes + 4, 0, 12);
    }
    return host;
}

void host_to_bytes(const struct host *host, uint8_t bytes[16])
{
    bool is_v4 = host->family == AF_INET;
    memcpy(bytes, is_v4 ? mapped.bytes : host->bytes, 16);
    memcpy(bytes + 12, is_v4 ? host->bytes : host->bytes + 12, 4);
}

struct host host_of_address(const struct sockaddr *address)
{
    struct host host = { .family = 0 };
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        host.family = AF_INET;
        host.port = ntohs(in.sin_port);
        memcpy(host.bytes, &in.sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof in6);
        host = host_of_bytes(in6.sin6_addr.s6_addr);
        host.port = ntohs(in6.sin6_port);
    }
    return host;
}

bool host_is_same(const struct host *a, const struct host *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

bool host_read(struct slice text, struct host *host)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr in6;
    bool bracketed = slice_starts_with(text, "[") && slice_ends_with(text, "]");
    if (bracketed) {
        text = (struct slice){ text.at + 1, text.len - 2 };
    }
    *host = (struct host){ .family = 0 };
    if (!slice_copy(text, copy, sizeof copy) || strlen(copy) != text.len) { /* inet_pton ends at a NUL */
        return false;
    }
    if (!bracketed && inet_pton(AF_INET, copy, host->bytes) == 1) {
        host->family = AF_INET;
        return true;
    }
    if (inet_pton(AF_INET6, copy, &in6) != 1) {
        return false;
    }
    *host = host_of_bytes(in6.s6_addr);
    return true;
}

void host_print(const struct host *host, char *to, size_t size)
{
    char text[INET6_ADDRSTRLEN] = "";
    assert(host->family != 0);
    inet_ntop(host->family, host->bytes, text, sizeof text);
    snprintf(to, size, host->family == AF_INET6 ? "[%s]" : "%s", text);
}
