/* Any headers from whoever asks, behind which a trusted proxy says whom it speaks to: that is who it is, or nobody but
 * the proxy; and without a trusted proxy it is the connection's other end, whatever they say.
 *
 * An input is two lines: what the client sends as X-Forwarded-For, and as Forwarded.
 */
#include "server/client_address.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OF_PLAIN = 1, OF_STANDARD = 2 }; /* which headers the proxy writes */

static struct header header_of(const char *name, char *line, struct slice sent, const char *added)
{
    memcpy(line, sent.at, sent.len);
    memcpy(line + sent.len, added, strlen(added));
    return (struct header){ slice_of(name), slice_trim((struct slice){ line, sent.len + strlen(added) }) };
}

static void look(struct slice plain, struct slice standard, unsigned written, const char *added, const uint8_t *who)
{
    struct sockaddr_in6 proxy = { .sin6_family = AF_INET6, .sin6_addr = { { { 0xfd, [15] = 1 } } } };
    struct sockaddr_storage peer = { .ss_family = AF_UNSPEC };
    struct client_networks none = { .count = 0 }, proxies = { .count = 1 };
    char *lines[2] = { malloc(plain.len + 100), malloc(standard.len + 100) };
    assert(lines[0] != NULL && lines[1] != NULL);
    struct header headers[] = {
        header_of("X-Forwarded-For", lines[0], plain, written & OF_PLAIN ? ", 2001:db8::99" : ""),
        header_of("Forwarded", lines[1], standard, written & OF_STANDARD ? added : ""),
    };
    memcpy(&peer, &proxy, sizeof proxy);
    bool good = client_network_read(slice_of("fd00::1"), &proxies.networks[0]);
    assert(good);
    (void)good;
    struct client_address client = client_address_find(&proxies, (const struct sockaddr *)&peer, headers, 2);
    assert(memcmp(client.bytes, client.forwarded ? who : proxy.sin6_addr.s6_addr, 16) == 0);
    client = client_address_find(&none, (const struct sockaddr *)&peer, headers, 2);
    assert(!client.forwarded && memcmp(client.bytes, proxy.sin6_addr.s6_addr, 16) == 0);
    free(lines[0]);
    free(lines[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t who[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 0x99 };
    static const char *const added[] = {
        ", for=\"[2001:db8::99]\"",
        ", for=\"[2001:db8::99]:4711\";proto=http;by=\"_a\"",
        ", by=\"[fd00::1]\";for=\"[2001:db8::99]\";host=\"a:80\"",
    };
    const char *text = (const char *)data, *end = size > 0 ? memchr(text, '\n', size) : NULL;
    size_t first = end != NULL ? (size_t)(end - text) : size;
    struct slice plain = { size > 0 ? text : "", first };
    struct slice standard = { end != NULL ? end + 1 : "", end != NULL ? size - first - 1 : 0 };
    for (unsigned written = OF_PLAIN; written <= (OF_PLAIN | OF_STANDARD); written++) {
        for (size_t i = 0; i < sizeof added / sizeof added[0]; i++) {
            look(plain, standard, written, added[i], who);
        }
    }
    return 0;
}
