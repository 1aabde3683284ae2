#include "server/client_address.h"

#include "server/host.h"

#include <ctype.h>
#include <string.h>

/* --- whom to believe ---------------------------------------------------------------------------------------------- */

#define V4_BITS 96 /* of the prefix ::ffff:0:0 */

static bool has_prefix(const uint8_t bytes[16], const uint8_t prefix[16], unsigned bits)
{
    uint8_t mask = (uint8_t)(0xff00 >> bits % 8);
    return memcmp(bytes, prefix, bits / 8) == 0 && (mask == 0 || ((bytes[bits / 8] ^ prefix[bits / 8]) & mask) == 0);
}

bool client_network_read(struct slice text, struct client_network *network)
{
    static const struct host any_v4 = { .family = AF_INET };
    static const uint8_t none[16];
    const char *slash = text.len > 0 ? memchr(text.at, '/', text.len) : NULL;
    struct slice address = { text.at, slash != NULL ? (size_t)(slash - text.at) : text.len };
    bool is_v6 = address.len > 0 && memchr(address.at, ':', address.len) != NULL;
    uint64_t bits = is_v6 ? 128 : 128 - V4_BITS, most = bits;
    struct host host;
    if (!host_read(address, &host) ||
        (slash != NULL && !number_parse((struct slice){ slash + 1, text.len - address.len - 1 }, most, &bits))) {
        return false;
    }
    struct client_network read = { .bits = (unsigned)(is_v6 ? bits : bits + V4_BITS) };
    uint8_t rest[16], v4[16];
    host_to_bytes(&host, read.bytes);
    host_to_bytes(&any_v4, v4);
    memcpy(rest, read.bytes, sizeof rest);
    memset(rest, 0, read.bits / 8);
    if (read.bits < 128) {
        rest[read.bits / 8] &= (uint8_t)(0xff >> read.bits % 8);
    }
    if (memcmp(rest, none, sizeof rest) != 0 || (read.bits <= V4_BITS && has_prefix(v4, read.bytes, read.bits))) {
        return false;
    }
    *network = read;
    return true;
}

bool client_networks_have(const struct client_networks *list, const uint8_t bytes[16])
{
    for (size_t i = 0; i < list->count; i++) {
        if (has_prefix(bytes, list->networks[i].bytes, list->networks[i].bits)) {
            return true;
        }
    }
    return false;
}

/* --- what the headers say ----------------------------------------------------------------------------------------- */

#define HOPS_MAX 16 /* looked at, from the end on: whoever asks may send thousands */

/* The nodes that one kind of header names, over all of its lines; the last HOPS_MAX. */
struct chain {
    size_t count;
    bool broken;
    struct slice nodes[HOPS_MAX];
};

static void add_node(struct chain *chain, struct slice node)
{
    chain->nodes[chain->count++ % HOPS_MAX] = node;
}

/* X-Forwarded-For: "203.0.113.7, 10.0.0.2"; empty pieces say nothing. */
static void read_plain(struct chain *chain, struct slice rest)
{
    while (rest.len > 0) {
        const char *comma = memchr(rest.at, ',', rest.len);
        struct slice piece = { rest.at, comma != NULL ? (size_t)(comma - rest.at) : rest.len };
        size_t taken = piece.len + (comma != NULL);
        rest = (struct slice){ rest.at + taken, rest.len - taken };
        piece = slice_trim(piece);
        if (piece.len > 0) {
            add_node(chain, piece);
        }
    }
}

static bool is_next(const struct slice *rest, char c)
{
    return rest->len > 0 && rest->at[0] == c;
}

static struct slice take(struct slice *rest, size_t n)
{
    struct slice taken = { rest->at, n };
    *rest = (struct slice){ rest->at + n, rest->len - n };
    return taken;
}

static struct slice take_token(struct slice *rest, const char *also)
{
    size_t n = 0;
    while (n < rest->len &&
           (isalnum((unsigned char)rest->at[n]) || (rest->at[n] != '\0' && strchr(also, rest->at[n]) != NULL))) {
        n++;
    }
    return take(rest, n);
}

/* Behind a `"`: up to the next that no backslash is before. Escapes stay: no address has any. */
static bool take_quoted(struct slice *rest, struct slice *value)
{
    size_t n = 0;
    while (n < rest->len && rest->at[n] != '"') {
        n += rest->at[n] == '\\' ? 2 : 1;
    }
    if (n >= rest->len) {
        return false;
    }
    *value = take(rest, n);
    take(rest, 1);
    return true;
}

#define TOKEN_SIGNS "!#$%&'*+-.^_`|~"

/* `for=192.0.2.7` or another pair, whose value is NULL; or nothing at all. */
static bool take_pair(struct slice *rest, bool *is_there, struct slice *node)
{
    struct slice name = take_token(rest, TOKEN_SIGNS), value;
    *is_there = name.len > 0;
    *node = (struct slice){ NULL, 0 };
    if (!*is_there) {
        return true;
    }
    if (!is_next(rest, '=')) {
        return false;
    }
    take(rest, 1);
    if (is_next(rest, '"')) {
        take(rest, 1);
        if (!take_quoted(rest, &value)) {
            return false;
        }
    } else {
        value = take_token(rest, TOKEN_SIGNS ":[]"); /* of addresses: they should be quoted, and often are not */
    }
    *node = slice_is_nocase(name, "for") ? value : *node;
    return true;
}

static void skip_blanks(struct slice *rest)
{
    while (is_next(rest, ' ') || is_next(rest, '\t')) {
        take(rest, 1);
    }
}

/* Forwarded: `for=192.0.2.7;proto=http, for="[2001:db8::7]:4711"`. Strict about what stands where: a quote that whoever
 * asks left open, and that swallows what a proxy adds behind it, must break the line and not shift its meaning. */
static bool read_standard(struct chain *chain, struct slice rest)
{
    struct slice node = { NULL, 0 }, said;
    bool any = false, is_there;
    for (;; take(&rest, 1)) {
        skip_blanks(&rest);
        if (!take_pair(&rest, &is_there, &said) || (said.at != NULL && node.at != NULL)) {
            return false;
        }
        any = any || is_there;
        node = said.at != NULL ? said : node;
        skip_blanks(&rest);
        if (is_next(&rest, ';')) {
            continue;
        }
        if (rest.len > 0 && !is_next(&rest, ',')) {
            return false;
        }
        if (any) {
            add_node(chain, node); /* of no client: then nobody is named, and nobody before it is believed */
        }
        if (rest.len == 0) {
            return true;
        }
        any = false;
        node = (struct slice){ NULL, 0 };
    }
}

/* --- whom they name ----------------------------------------------------------------------------------------------- */

/* An address, perhaps with a port: "192.0.2.7:4711", "[2001:db8::7]:4711". "unknown" and "_hidden" are none. */
static bool read_node(struct slice text, uint8_t bytes[16])
{
    struct host host;
    if (!host_read(text, &host)) {
        size_t n = text.len;
        uint64_t port;
        while (n > 0 && text.at[n - 1] != ':') {
            n--;
        }
        if (n == 0 || !number_parse((struct slice){ text.at + n, text.len - n }, 65535, &port)) {
            return false;
        }
        struct slice name = { text.at, n - 1 };
        if (!host_read(name, &host) || (host.family == AF_INET6 && !slice_starts_with(name, "["))) {
            return false;
        }
    }
    host_to_bytes(&host, bytes);
    return !host_is_any(&host);
}

enum found { FOUND_NOTHING, FOUND_NONSENSE, FOUND_CLIENT };

static enum found find_client(const struct chain *chain, const struct client_networks *proxies, uint8_t bytes[16])
{
    if (chain->broken) {
        return FOUND_NONSENSE;
    }
    for (size_t i = 0; i < chain->count; i++) {
        if (i == HOPS_MAX || !read_node(chain->nodes[(chain->count - 1 - i) % HOPS_MAX], bytes)) {
            return FOUND_NONSENSE;
        }
        if (!client_networks_have(proxies, bytes)) {
            return FOUND_CLIENT;
        }
    }
    return chain->count > 0 ? FOUND_CLIENT : FOUND_NOTHING;
}

/* A proxy that writes one of the two headers hands on the other as whoever asked has sent it: they must agree. */
static enum found find_forwarded(const struct client_networks *proxies, const struct header *headers, size_t n,
                                 uint8_t bytes[16])
{
    struct chain plain = { .count = 0 }, standard = { .count = 0 };
    uint8_t other[16] = { 0 };
    for (size_t i = 0; i < n; i++) {
        if (slice_is_nocase(headers[i].name, "X-Forwarded-For")) {
            read_plain(&plain, headers[i].value);
        } else if (slice_is_nocase(headers[i].name, "Forwarded") && !read_standard(&standard, headers[i].value)) {
            standard.broken = true;
        }
    }
    enum found by_plain = find_client(&plain, proxies, bytes), by_standard = find_client(&standard, proxies, other);
    if (by_plain == FOUND_NOTHING) {
        memcpy(bytes, other, sizeof other);
        return by_standard;
    }
    bool agree =
        by_standard == FOUND_NOTHING || (by_standard == FOUND_CLIENT && memcmp(bytes, other, sizeof other) == 0);
    return agree ? by_plain : FOUND_NONSENSE;
}

struct client_address client_address_find(const struct client_networks *proxies, const struct sockaddr *peer,
                                          const struct header *headers, size_t n)
{
    struct client_address client = { .forwarded = false };
    struct host host = host_of_address(peer);
    uint8_t named[16] = { 0 };
    if (host.family == 0) {
        return client;
    }
    host_to_bytes(&host, client.bytes);
    if (proxies->count == 0 || !client_networks_have(proxies, client.bytes)) {
        return client;
    }
    enum found found = find_forwarded(proxies, headers, n, named);
    if (found == FOUND_CLIENT) {
        memcpy(client.bytes, named, sizeof client.bytes);
    }
    client.forwarded = found == FOUND_CLIENT;
    client.in_doubt = found == FOUND_NONSENSE;
    return client;
}

struct client_address client_address_network(const struct client_address *client)
{
    struct client_address network = *client;
    if (network.bytes[0] != 0) {
        memset(network.bytes + 8, 0, 8);
    }
    return network;
}

uint64_t client_address_key(const uint8_t bytes[16])
{
    uint64_t key;
    memcpy(&key, bytes[0] != 0 ? bytes : bytes + 8, sizeof key);
    return key;
}

void client_address_print(const struct client_address *client, char *to, size_t size)
{
    struct host host = host_of_bytes(client->bytes);
    host_print(&host, to, size);
}
