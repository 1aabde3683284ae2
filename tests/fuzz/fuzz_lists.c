/* Any words as entries of the lists that say who is served, by MAC and by network: an entry is taken in the forms that
 * it can be written in, and no other, and the list then has what the entry says and nothing beside it.
 *
 * An input is a word a line. Its first bytes are a MAC, and an address, too.
 */
#include "proto/mac_list.h"
#include "server/client_address.h"
#include "server/host.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- by MAC ------------------------------------------------------------------------------------------------------- */

#define FORMS        5 /* none, `:`, `-`, `.`, and a `.` every two bytes */
#define MAC_FORM_MAX 18

static void write_form(const uint8_t *bytes, size_t n, unsigned form, char text[MAC_FORM_MAX])
{
    static const char separators[FORMS] = { '\0', ':', '-', '.', '.' };
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && form > 0 && (form < FORMS - 1 || i % 2 == 0)) {
            text[used++] = separators[form];
        }
        snprintf(text + used, 3, "%02x", bytes[i]);
        used += 2;
    }
    text[used] = '\0';
}

static bool has_form(struct slice word, const uint8_t *bytes, size_t n)
{
    char text[MAC_FORM_MAX];
    bool found = false;
    for (unsigned form = 0; form < FORMS; form++) {
        write_form(bytes, n, form, text);
        found = found || slice_is_nocase(word, text);
    }
    return found;
}

static void try_mac(struct slice word)
{
    struct mac mac;
    struct mac_list list = { .count = 1 };
    struct mac_prefix *prefix = &list.prefixes[0];
    bool whole = mac_parse(word, &mac), taken = mac_prefix_read(word, prefix);
    assert(!whole || (taken && prefix->count == 6 && memcmp(prefix->bytes, mac.bytes, 6) == 0));
    if (!taken) {
        return;
    }
    assert(prefix->count >= 1 && (prefix->count < 6 || whole));
    assert(has_form(word, prefix->bytes, prefix->count));
    memset(mac.bytes, 0x5a, sizeof mac.bytes);
    memcpy(mac.bytes, prefix->bytes, prefix->count);
    assert(mac_list_has(&list, &mac));
    mac.bytes[prefix->count - 1] ^= 1;
    assert(!mac_list_has(&list, &mac));
}

/* Each form of a device's MAC is that MAC. */
static void try_forms(const uint8_t bytes[6])
{
    static const uint8_t none[6];
    bool is_device = (bytes[0] & 1) == 0 && memcmp(bytes, none, 6) != 0;
    for (unsigned form = 0; form < FORMS; form++) {
        char text[MAC_FORM_MAX];
        struct mac mac;
        write_form(bytes, 6, form, text);
        bool taken = mac_parse(slice_of(text), &mac);
        assert(taken == is_device && (!taken || memcmp(mac.bytes, bytes, 6) == 0));
        (void)taken;
    }
    (void)is_device;
}

/* --- by network --------------------------------------------------------------------------------------------------- */

/* As inet_pton reads what stands before the slash; false where that is no address. */
static bool read_address(struct slice word, uint8_t bytes[16])
{
    static const uint8_t v4[12] = { [10] = 0xff, [11] = 0xff };
    char text[64];
    const char *slash = word.len > 0 ? memchr(word.at, '/', word.len) : NULL;
    word.len = slash != NULL ? (size_t)(slash - word.at) : word.len;
    if (slice_starts_with(word, "[") && slice_ends_with(word, "]")) {
        word = (struct slice){ word.at + 1, word.len - 2 };
    }
    if ((word.len > 0 && memchr(word.at, '\0', word.len) != NULL) || !slice_copy(word, text, sizeof text)) {
        return false;
    }
    memcpy(bytes, v4, sizeof v4);
    return inet_pton(AF_INET, text, bytes + 12) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static void flip(uint8_t bytes[16], unsigned bit)
{
    bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
}

static void try_network(struct slice word)
{
    struct client_networks list = { .count = 1 };
    struct client_network *network = &list.networks[0];
    uint8_t bytes[16], other[16];
    if (!client_network_read(word, network)) {
        return;
    }
    bool is_address = read_address(word, bytes);
    assert(is_address && network->bits > 0 && network->bits <= 128 && memcmp(network->bytes, bytes, 16) == 0);
    (void)is_address;
    for (unsigned bit = 0; bit < 128; bit++) {
        memcpy(other, bytes, 16);
        flip(other, bit);
        assert(client_networks_have(&list, other) == (bit >= network->bits));
        assert(bit < network->bits || (bytes[bit / 8] & (0x80 >> bit % 8)) == 0);
    }
}

/* An address is taken as it is printed, and as the network of its first so many bits. */
static void try_printed(uint8_t bytes[16], unsigned bits)
{
    char text[HOST_TEXT_SIZE], with_bits[HOST_TEXT_SIZE + 8];
    struct host host = host_of_bytes(bytes), again;
    struct client_network network;
    host_print(&host, text, sizeof text);
    assert(host_read(slice_of(text), &again) && host_is_same(&host, &again));
    unsigned most = host.family == AF_INET ? 32 : 128;
    bits = 1 + bits % most;
    for (unsigned bit = bits; bit < most; bit++) {
        unsigned at = bit + 128 - most;
        bytes[at / 8] &= (uint8_t) ~(0x80 >> at % 8);
    }
    host = host_of_bytes(bytes);
    host_print(&host, text, sizeof text);
    snprintf(with_bits, sizeof with_bits, "%s/%u", text, bits);
    bool taken = (host.family == AF_INET) == (most == 32) && client_network_read(slice_of(with_bits), &network);
    assert(!taken || (network.bits == bits + 128 - most && memcmp(network.bytes, bytes, 16) == 0));
    assert(taken || host.family != AF_INET || most == 128);
    (void)taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + 1); /* so that a byte read behind it is found */
    uint8_t bytes[16] = { 0 };
    assert(copy != NULL);
    memcpy(copy, data, size);
    for (struct slice rest = { copy, size }; rest.len > 0;) {
        const char *end = memchr(rest.at, '\n', rest.len);
        size_t n = end != NULL ? (size_t)(end - rest.at) : rest.len;
        struct slice word = { rest.at, n };
        try_mac(word);
        try_network(word);
        n += end != NULL;
        rest = (struct slice){ rest.at + n, rest.len - n };
    }
    free(copy);
    memcpy(bytes, data, size < 16 ? size : 16);
    try_forms(bytes);
    try_printed(bytes, size > 16 ? data[16] : (unsigned)size);
    return 0;
}
