/* Whose request it is: trusted proxies are believed as far as they wrote the headers, and nobody else ever is. */
#include "server/client_address.h"

#include "server/host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define TEN             "1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1"
#define FIFTEEN_TRUSTED                                                                                                \
    "10.0.0.9,10.0.0.9,10.0.0.9,10.0.0.9,10.0.0.9,10.0.0.9,10.0.0.9,10.0.0.9,10.0.0.9,10.0.0.9,10.0.0.9,10.0.0.9,"     \
    "10.0.0.9,10.0.0.9,10.0.0.9"

static struct sockaddr_storage address_of(const char *text)
{
    struct sockaddr_storage address;
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(49152) };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(49152) };
    memset(&address, 0, sizeof address);
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
        memcpy(&address, &in, sizeof in);
    } else if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1) {
        memcpy(&address, &in6, sizeof in6);
    } else {
        address.ss_family = AF_UNIX;
    }
    return address;
}

/* `networks` and headers as text: "10.0.0.0/8 fd00::/8", "X-Forwarded-For: a\nForwarded: b". */
static struct client_address find(const char *networks, const char *peer, const char *lines)
{
    struct client_networks proxies = { .count = 0 };
    struct header headers[8];
    size_t n = 0;
    struct slice words = slice_of(networks);
    for (struct slice word; (word = slice_next_word(&words)).len > 0;) {
        assert_true(client_network_read(word, &proxies.networks[proxies.count++]));
    }
    while (lines[0] != '\0') {
        size_t line = strcspn(lines, "\n"), name = strcspn(lines, ":");
        assert_true(n < COUNT_OF(headers));
        headers[n].name = (struct slice){ lines, name };
        headers[n++].value = slice_trim((struct slice){ lines + name + 1, line - name - 1 });
        lines += line + (lines[line] == '\n');
    }
    struct sockaddr_storage address = address_of(peer);
    return client_address_find(&proxies, (const struct sockaddr *)&address, headers, n);
}

static void assert_found(size_t row, const char *networks, const char *peer, const char *lines, const char *expected)
{
    char shown[HOST_TEXT_SIZE];
    struct client_address client = find(networks, peer, lines);
    client_address_print(&client, shown, sizeof shown);
    if (strcmp(shown, expected != NULL ? expected : peer) != 0 || client.forwarded != (expected != NULL)) {
        fail_msg("row %zu, %s: %s%s", row, lines, shown, client.forwarded ? ", forwarded" : "");
    }
}

/* --- whom to believe ---------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *address; /* NULL: refused */
    unsigned bits;
} networks[] = {
    { "10.0.0.1", "10.0.0.1", 128 },
    { "10.0.0.1/32", "10.0.0.1", 128 },
    { "10.0.0.0/8", "10.0.0.0", 104 },
    { "128.0.0.0/1", "128.0.0.0", 97 },
    { "192.168.1.128/25", "192.168.1.128", 121 },
    { "::1", "[::1]", 128 },
    { "fd00::/8", "[fd00::]", 8 },
    { "2001:db8::/33", "[2001:db8::]", 33 },
    { "::ffff:10.0.0.0/104", "10.0.0.0", 104 },
    { "", NULL, 0 },
    { "/8", NULL, 0 },
    { "proxy", NULL, 0 },
    { "10.0.0", NULL, 0 },
    { "10.0.0.1:8080", NULL, 0 },
    { "10.0.0.0/", NULL, 0 },
    { "10.0.0.0/33", NULL, 0 },
    { "10.0.0.0/-1", NULL, 0 },
    { "10.0.0.0/8/8", NULL, 0 },
    { "10.0.0.0/255.0.0.0", NULL, 0 },
    { "10.0.0.0 /8", NULL, 0 },
    { "fd00::/129", NULL, 0 },
    { "fe80::1%lo", NULL, 0 },
    { "10.0.0.1/8", NULL, 0 }, /* the network, or the address? */
    { "192.168.1.128/24", NULL, 0 },
    { "2001:db8::1/64", NULL, 0 },
    { "::ffff:10.0.0.0/8", NULL, 0 },
    { "0.0.0.0/0", NULL, 0 }, /* everybody */
    { "::/0", NULL, 0 },
    { "::/64", NULL, 0 }, /* holds ::ffff:0:0/96, which is all of IPv4 */
    { "::ffff:0:0/96", NULL, 0 },
};

/* Else another network than the operator means is believed. */
static void test_networks(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(networks); i++) {
        struct client_network network, before;
        memset(&before, 0x5a, sizeof before);
        network = before;
        bool good = client_network_read(slice_of(networks[i].text), &network);
        if (good != (networks[i].address != NULL)) {
            fail_msg("%s is %s", networks[i].text, good ? "taken" : "refused");
        }
        if (!good) {
            assert_memory_equal(&network, &before, sizeof network);
            continue;
        }
        char shown[HOST_TEXT_SIZE];
        struct host host = host_of_bytes(network.bytes);
        host_print(&host, shown, sizeof shown);
        assert_string_equal(shown, networks[i].address);
        assert_int_equal(network.bits, networks[i].bits);
    }
    struct client_network network;
    assert_false(client_network_read((struct slice){ "10.0.0.1\0/8", 11 }, &network)); /* no end of a text */
    assert_false(client_network_read((struct slice){ "10.0.0.1\0x", 10 }, &network));
}

static const struct {
    const char *networks, *peer;
    bool trusted;
} peers[] = {
    { "", "10.0.0.1", false },
    { "10.0.0.1", "10.0.0.1", true },
    { "10.0.0.1", "10.0.0.2", false },
    { "10.0.0.1", "::ffff:10.0.0.1", true }, /* as a socket of both families shows it */
    { "::ffff:10.0.0.1", "10.0.0.1", true },
    { "10.0.0.0/8", "10.255.255.255", true },
    { "10.0.0.0/8", "11.0.0.0", false },
    { "10.16.0.0/12", "10.31.255.255", true },
    { "10.16.0.0/12", "10.32.0.0", false },
    { "10.16.0.0/12", "10.15.255.255", false },
    { "fd00::/8", "fdff::1", true },
    { "fd00::/8", "fe00::1", false },
    { "192.0.2.1 10.0.0.0/8", "10.0.0.1", true },
    { "8000::/1", "192.0.2.1", false },
    { "fd00::/8", "unix", false },
};

/* Nobody outside a trusted proxy can forge an address. */
static void test_only_proxies_are_believed(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(peers); i++) {
        struct client_address client =
            find(peers[i].networks, peers[i].peer, "X-Forwarded-For: 203.0.113.7\nForwarded: for=203.0.113.7");
        if (client.forwarded != peers[i].trusted) {
            fail_msg("%s of %s", peers[i].peer, peers[i].networks);
        }
    }
    static const uint8_t unknown[16];
    assert_memory_equal(find("", "unix", "").bytes, unknown, sizeof unknown);
    static const uint8_t v4[16] = { [10] = 0xff, [11] = 0xff, [12] = 192, [13] = 0, [14] = 2, [15] = 7 };
    assert_memory_equal(find("", "192.0.2.7", "").bytes, v4, sizeof v4);
    assert_memory_equal(find("", "::ffff:192.0.2.7", "").bytes, v4, sizeof v4);
}

/* --- what they say ------------------------------------------------------------------------------------------------ */

static const struct {
    const char *value;
    const char *expected; /* NULL: the peer's */
} plain[] = {
    { "203.0.113.7", "203.0.113.7" },
    { "203.0.113.7:4711", "203.0.113.7" },
    { "2001:db8::7", "[2001:db8::7]" },
    { "[2001:db8::7]", "[2001:db8::7]" },
    { "[2001:db8::7]:4711", "[2001:db8::7]" },
    { "::ffff:203.0.113.7", "203.0.113.7" },
    { "\t203.0.113.7\t", "203.0.113.7" },
    { "8.8.8.8, 203.0.113.7", "203.0.113.7" }, /* the first was in the client's own header */
    { "8.8.8.8,203.0.113.7,10.0.0.9,10.1.0.9", "203.0.113.7" },
    { "10.0.0.5, 203.0.113.7, 10.0.0.9", "203.0.113.7" }, /* no way to claim a trusted network's address */
    { "10.0.0.5, 10.0.0.9", "10.0.0.5" },                 /* all of them trusted */
    { "10.0.0.5", "10.0.0.5" },
    { "nonsense, 203.0.113.7", "203.0.113.7" }, /* what a client invents is not looked at */
    { "8.8.8.8,,203.0.113.7, ,", "203.0.113.7" },
    { TEN "," TEN ",203.0.113.7", "203.0.113.7" },
    { "203.0.113.7," FIFTEEN_TRUSTED, "203.0.113.7" },
    { "203.0.113.7,10.0.0.9," FIFTEEN_TRUSTED, NULL },
    { "203.0.113.7, nonsense", NULL },
    { "203.0.113.7, nonsense, 10.0.0.9", NULL },
    { "", NULL },
    { ",,", NULL },
    { "unknown", NULL },
    { "203.0.113.7.", NULL },
    { "203.0.113.7 10.0.0.9", NULL },
    { "203.0.113.7:65536", NULL },
    { "203.0.113.7:", NULL },
    { ":4711", NULL },
    { "[203.0.113.7]", NULL },
    { "[2001:db8::7", NULL },
    { "2001:db8:1:2:3:4:5:6:4711", NULL },
    { "\"203.0.113.7\"", NULL },
    { "0.0.0.0", NULL },
    { "::", NULL },
};

static void test_x_forwarded_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(plain); i++) {
        char line[1000];
        snprintf(line, sizeof line, "Accept: */*\nx-forwarded-FOR: %s", plain[i].value);
        assert_found(i, "10.0.0.0/8", "10.0.0.1", line, plain[i].expected);
        assert_found(i, "172.16.0.0/12", "10.0.0.1", line, NULL);
    }
}

static const struct {
    const char *value;
    const char *expected; /* NULL: the peer's */
} standard[] = {
    /* RFC 7239, 4 and 6.3 */
    { "for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60" },
    { "For=\"[2001:db8:cafe::17]:4711\"", "[2001:db8:cafe::17]" },
    { "for=192.0.2.43, for=198.51.100.17", "198.51.100.17" },
    { "for=192.0.2.43, for=\"[2001:db8:cafe::17]\"", "[2001:db8:cafe::17]" },
    { "for=192.0.2.43,for=198.51.100.17;by=203.0.113.60;proto=http;host=example.com", "198.51.100.17" },
    { "by=203.0.113.43 ; for=192.0.2.60", "192.0.2.60" },
    { "for=\"192.0.2.60:4711\"", "192.0.2.60" },
    { "for=192.0.2.60:4711", "192.0.2.60" }, /* to be quoted, and often is not */
    { "for=192.0.2.60, for=10.0.0.9, for=10.0.0.8", "192.0.2.60" },
    { "for=10.0.0.5, for=10.0.0.9", "10.0.0.5" },
    { "for=nonsense, for=192.0.2.60", "192.0.2.60" },
    { "host=\"a, for=8.8.8.8;\";for=192.0.2.60", "192.0.2.60" }, /* commas within quotes are none */
    { "host=\"a\\\",for=8.8.8.8\";for=192.0.2.60", "192.0.2.60" },
    { ", for=192.0.2.60;, ,", "192.0.2.60" },
    { "for=unknown", NULL },
    { "for=_hidden", NULL },
    { "for=\"_gazonk\"", NULL },
    { "for=", NULL },
    { "for=192.0.2.60, proto=http", NULL }, /* a proxy that names nobody */
    { "for=192.0.2.60;for=192.0.2.61", NULL },
    { "for=192.0.2.60;FOR=192.0.2.60", NULL },
    { "for", NULL },
    { "for=192.0.2.60;proto", NULL },
    { "for=192.0.2.60 proto=http", NULL },
    { "for = 192.0.2.60", NULL },
    { "for=\"192.0.2.60", NULL },
    { "for=\"192.0.2.60\\", NULL },
    { "for=\"192.0.2.60\\\"", NULL },
    { "for=\"192.0.2.60\"x", NULL },
    { "=192.0.2.60", NULL },
    { "192.0.2.60", NULL },
    { "", NULL },
    /* A client leaves a quote open; the proxy adds its part behind: */
    { "for=8.8.8.8;x=\", for=\"[2001:db8::7]\"", NULL },
    { "for=8.8.8.8;x=\", for=192.0.2.60;by=\"_a\"", NULL },
    { "for=8.8.8.8;x=\", for=192.0.2.60", NULL },
    { "for=8.8.8.8;x=\", for=192.0.2.60;host=\",x=\\\"y\"", NULL },
};

static void test_forwarded(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(standard); i++) {
        char line[300];
        snprintf(line, sizeof line, "forwarded: %s", standard[i].value);
        assert_found(i, "10.0.0.0/8", "10.0.0.1", line, standard[i].expected);
        assert_found(i, "172.16.0.0/12", "10.0.0.1", line, NULL);
    }
}

/* The headers together. Proxies write one of the two, and hand on the other as a client invented it. */
static const struct {
    const char *lines;
    const char *expected; /* NULL: the peer's */
} lines[] = {
    { "", NULL },
    { "X-Forwarded-Host: 203.0.113.7\nX-Real-IP: 203.0.113.7\nVia: 203.0.113.7", NULL },
    { "X-Forwarded-For: 8.8.8.8\nX-Forwarded-For: 203.0.113.7", "203.0.113.7" }, /* one list in two lines */
    { "X-Forwarded-For: 203.0.113.7\nX-Forwarded-For: 10.0.0.9", "203.0.113.7" },
    { "Forwarded: for=203.0.113.7\nForwarded: for=10.0.0.9", "203.0.113.7" },
    { "Forwarded: for=8.8.8.8\nForwarded: for=203.0.113.7", "203.0.113.7" },
    { "X-Forwarded-For: 203.0.113.7\nForwarded: for=\"203.0.113.7:4711\"", "203.0.113.7" },
    { "X-Forwarded-For: 203.0.113.7\nForwarded: for=8.8.8.8", NULL },
    { "X-Forwarded-For: 8.8.8.8\nForwarded: for=203.0.113.7", NULL },
    { "X-Forwarded-For: 203.0.113.7\nForwarded: for=", NULL },
    { "X-Forwarded-For: 203.0.113.7\nForwarded: for=\"", NULL },
    { "X-Forwarded-For: nonsense\nForwarded: for=203.0.113.7", NULL },
    { "X-Forwarded-For: 203.0.113.7\nForwarded:", "203.0.113.7" }, /* an empty line says nothing */
    { "X-Forwarded-For:\nForwarded: for=203.0.113.7", "203.0.113.7" },
    { "Forwarded: for=\"8.8.8.8\nForwarded: for=203.0.113.7", NULL },
};

static void test_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        assert_found(i, "10.0.0.0/8", "10.0.0.1", lines[i].lines, lines[i].expected);
    }
}

/* --- by networks ----------------------------------------------------------------------------------------------------
 */

static uint64_t key_of(const char *text)
{
    struct sockaddr_storage address = address_of(text);
    struct host host = host_of_address((const struct sockaddr *)&address);
    struct client_address client = { .forwarded = false }, network;
    host_to_bytes(&host, client.bytes);
    network = client_address_network(&client);
    assert_int_equal(client_address_key(client.bytes), client_address_key(network.bytes));
    return client_address_key(network.bytes);
}

/* Of IPv6 the /64 counts; IPv4 as it is, in whatever clothes. */
static void test_networks_of_clients(void **state)
{
    (void)state;
    assert_int_equal(key_of("2001:db8::1"), key_of("2001:db8::ffff:0:0:2"));
    assert_int_not_equal(key_of("2001:db8::1"), key_of("2001:db8:0:1::1"));
    assert_int_equal(key_of("192.0.2.7"), key_of("::ffff:192.0.2.7"));
    assert_int_not_equal(key_of("192.0.2.7"), key_of("192.0.2.8"));
    assert_int_not_equal(key_of("64:ff9b::192.0.2.7"), key_of("64:ff9b::192.0.2.8")); /* RFC 6052: translated */
    assert_int_not_equal(key_of("::1"), key_of("unix"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),        cmocka_unit_test(test_only_proxies_are_believed),
        cmocka_unit_test(test_x_forwarded_for), cmocka_unit_test(test_forwarded),
        cmocka_unit_test(test_lines),           cmocka_unit_test(test_networks_of_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
