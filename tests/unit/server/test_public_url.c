/* The address that devices are told: which one wins, and that one that no device reaches is never told silently.
 *
 * The choice is pure, so machines and containers are lists written down here. "*" marks an address that does not lead
 * out of a container, or into one.
 */
#include "server/public_url.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define ADDRESSES_MAX   8

static struct sockaddr_storage address_of(const char *text, uint16_t port)
{
    struct sockaddr_storage address;
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    memset(&address, 0, sizeof address);
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
        memcpy(&address, &in, sizeof in);
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
        memcpy(&address, &in6, sizeof in6);
    }
    return address;
}

struct scene {
    const char *configured, *before, *used, *listen;
    bool in_container;
    bool over_tls;
    const char *addresses[ADDRESSES_MAX];
    uint16_t used_port; /* 0 = 8080 */
    struct {
        const char *address;
        uint64_t checks; /* `used` has one */
        uint16_t port;   /* 0 = 8080 */
    } came[4];
};

static struct public_url choose(const struct scene *scene)
{
    struct machine_address list[ADDRESSES_MAX];
    struct public_url chosen;
    size_t count = 0;
    memset(list, 0, sizeof list);
    for (; count < ADDRESSES_MAX && scene->addresses[count] != NULL; count++) {
        const char *text = scene->addresses[count];
        list[count].container_internal = text[0] == '*';
        list[count].address = address_of(text + (text[0] == '*'), 0);
        list[count].loopback = strcmp(text, "127.0.0.1") == 0 || strcmp(text, "::1") == 0;
    }
    struct used_addresses used = { .looked_ms = 0 };
    if (scene->used != NULL) {
        used.list[0].address = address_of(scene->used, scene->used_port != 0 ? scene->used_port : 8080);
        used.list[0].checks = 1;
    }
    for (size_t i = 0; i < COUNT_OF(scene->came) && scene->came[i].address != NULL; i++) { /* with a gap before */
        uint16_t port = scene->came[i].port != 0 ? scene->came[i].port : 8080;
        used.list[i + 2] = (struct used_address){ address_of(scene->came[i].address, port), scene->came[i].checks };
    }
    struct public_url_input input = {
        .configured = scene->configured != NULL ? scene->configured : "",
        .before = scene->before != NULL ? scene->before : "",
        .used = &used,
        .listen = scene->listen != NULL ? scene->listen : "0.0.0.0:8080",
        .addresses = list,
        .address_count = count,
        .in_container = scene->in_container,
        .over_tls = scene->over_tls,
    };
    public_url_choose(&input, &chosen);
    return chosen;
}

struct expected {
    const char *url;
    enum public_url_kind kind;
    const char *warning; /* a part of it; "" = there is none */
    bool loopback;
};

static void expect(size_t i, const struct scene *scene, const struct expected *expected)
{
    struct public_url chosen = choose(scene);
    bool warned =
        expected->warning[0] == '\0' ? chosen.warning[0] == '\0' : strstr(chosen.warning, expected->warning) != NULL;
    if (strcmp(chosen.url, expected->url) != 0 || chosen.kind != expected->kind ||
        chosen.loopback != expected->loopback || !warned) {
        fail_msg("row %zu: \"%s\", kind %d, loopback %d, warning \"%s\"", i, chosen.url, (int)chosen.kind,
                 chosen.loopback, chosen.warning);
    }
    if (chosen.warning[0] != '\0') { /* whole, and with the remedy */
        assert_true(strlen(chosen.warning) < sizeof chosen.warning - 1);
        assert_non_null(strstr(chosen.warning, "--public-url (UPDRAFT_PUBLIC_URL)"));
    }
}

/* --- which one wins ----------------------------------------------------------------------------------------------- */

/* Else the operator's word is overruled by a guess, or a guess by a worse one. */
static void test_order(void **state)
{
    (void)state;
    static const struct {
        struct scene scene;
        struct expected expected;
    } rows[] = {
        { { .configured = "https://ota.example.org/fw", .used = "10.0.0.5", .addresses = { "192.168.1.10" } },
          { "https://ota.example.org/fw", PUBLIC_URL_CONFIGURED, "", false } },
        { { .used = "10.0.0.5", .addresses = { "192.168.1.10", "10.0.0.5" } },
          { "http://10.0.0.5:8080", PUBLIC_URL_USED, "", false } },
        { { .used = "10.0.0.5", .listen = "192.168.1.10:8080", .addresses = { "192.168.1.10" } },
          { "http://10.0.0.5:8080", PUBLIC_URL_USED, "", false } },
        { { .listen = "192.168.1.10:9000", .addresses = { "10.0.0.5", "192.168.1.10" } },
          { "http://192.168.1.10:9000", PUBLIC_URL_LISTEN, "", false } },
        { { .addresses = { "127.0.0.1", "192.168.1.10", "10.0.0.5" } },
          { "http://192.168.1.10:8080", PUBLIC_URL_MACHINE, "", false } },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        expect(i, &rows[i].scene, &rows[i].expected);
    }
}

/* Else devices are sent to an address that is not theirs although a better one is there. */
static void test_which_address_of_the_machine(void **state)
{
    (void)state;
    static const struct {
        struct scene scene;
        struct expected expected;
    } rows[] = {
        { { .addresses = { "::1", "2001:db8::7", "192.168.1.10" }, .listen = "[::]:8080" },
          { "http://192.168.1.10:8080", PUBLIC_URL_MACHINE, "", false } },
        { { .addresses = { "169.254.7.7", "fe80::1", "10.0.0.5" } },
          { "http://10.0.0.5:8080", PUBLIC_URL_MACHINE, "", false } },
        { { .addresses = { "fe80::1", "fd00::7" }, .listen = "[::]:8080" },
          { "http://[fd00::7]:8080", PUBLIC_URL_MACHINE, "", false } },
        { { .addresses = { "100.101.102.103", "203.0.113.9" } },
          { "http://203.0.113.9:8080", PUBLIC_URL_MACHINE, "", false } },
        { { .addresses = { "100.101.102.103", "fd00::7" }, .listen = "[::]:8080" },
          { "http://100.101.102.103:8080", PUBLIC_URL_MACHINE, "", false } },
        { { .addresses = { "100.63.0.1", "10.0.0.5" } }, { "http://100.63.0.1:8080", PUBLIC_URL_MACHINE, "", false } },
        { { .addresses = { "*172.17.0.1", "192.168.1.10" } },
          { "http://192.168.1.10:8080", PUBLIC_URL_MACHINE, "", false } },
        /* what listens on IPv4 alone is not reached by IPv6 */
        { { .addresses = { "127.0.0.1", "fd00::7" } },
          { "http://127.0.0.1:8080", PUBLIC_URL_MACHINE, "no address but its loopback", true } },
        { { .addresses = { "127.0.0.1" }, .listen = "[::]:8080" },
          { "http://127.0.0.1:8080", PUBLIC_URL_MACHINE, "no address but its loopback", true } },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        expect(i, &rows[i].scene, &rows[i].expected);
    }
}

/* Else a device gets a URL that it cannot read, or one with another port than the server's. */
static void test_form(void **state)
{
    (void)state;
    static const struct {
        struct scene scene;
        struct expected expected;
    } rows[] = {
        { { .listen = "0.0.0.0:80", .addresses = { "10.0.0.5" } },
          { "http://10.0.0.5", PUBLIC_URL_MACHINE, "", false } },
        { { .listen = "0.0.0.0:443", .over_tls = true, .addresses = { "10.0.0.5" } },
          { "https://10.0.0.5", PUBLIC_URL_MACHINE, "", false } },
        { { .listen = "0.0.0.0:8443", .over_tls = true, .used = "10.0.0.5", .used_port = 8443 },
          { "https://10.0.0.5:8443", PUBLIC_URL_USED, "", false } },
        { { .listen = "127.0.0.1:8443", .over_tls = true },
          { "https://127.0.0.1:8443", PUBLIC_URL_LISTEN, "--tls-listen 127.0.0.1:8443 takes connections of", true } },
        { { .listen = "[2001:db8::7]:80" }, { "http://[2001:db8::7]", PUBLIC_URL_LISTEN, "", false } },
        { { .listen = "[2001:db8::7]:8081" }, { "http://[2001:db8::7]:8081", PUBLIC_URL_LISTEN, "", false } },
        { { .used = "2001:db8::7" }, { "http://[2001:db8::7]:8080", PUBLIC_URL_USED, "", false } },
        /* a socket of both families shows IPv4 so */
        { { .used = "::ffff:192.168.1.10", .listen = "[::]:8080" },
          { "http://192.168.1.10:8080", PUBLIC_URL_USED, "", false } },
        /* the second listener's port, where devices come to that one */
        { { .used = "192.168.1.10", .used_port = 8090 }, { "http://192.168.1.10:8090", PUBLIC_URL_USED, "", false } },
        { { .used = "192.168.1.10", .used_port = 80 }, { "http://192.168.1.10", PUBLIC_URL_USED, "", false } },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        expect(i, &rows[i].scene, &rows[i].expected);
    }
}

/* --- devices in several networks ---------------------------------------------------------------------------------- */

/* Else half of the fleet is told an address that it cannot reach, and nobody hears why it does not come. */
static void test_two_networks_are_told_of(void **state)
{
    (void)state;
    static const char *const machine[] = { "192.168.1.10", "10.0.0.5" };
    static const struct {
        struct scene scene;
        struct expected expected;
    } rows[] = {
        { { .came = { { "10.0.0.5", 38, 0 }, { "192.168.1.10", 62, 0 } } },
          { "http://192.168.1.10:8080", PUBLIC_URL_USED, "62 % to 192.168.1.10 and 38 % to 10.0.0.5, and", false } },
        { { .came = { { "10.0.0.5", 5, 0 }, { "192.168.1.10", 245, 0 } } },
          { "http://192.168.1.10:8080", PUBLIC_URL_USED, "98 % to 192.168.1.10 and 2 % to 10.0.0.5, and", false } },
        { { .came = { { "10.0.0.5", 300, 0 },
                      { "192.168.1.10", 500, 0 },
                      { "10.1.0.5", 100, 0 },
                      { "10.2.0.5", 99, 0 } } },
          { "http://192.168.1.10:8080", PUBLIC_URL_USED, "30 % to 10.0.0.5 (and others to 2 more), and", false } },
        /* somebody tries something out */
        { { .came = { { "10.0.0.5", 4, 0 }, { "192.168.1.10", 4, 0 } } },
          { "http://10.0.0.5:8080", PUBLIC_URL_USED, "", false } },
        { { .came = { { "10.0.0.5", 5, 0 }, { "192.168.1.10", 246, 0 } } },
          { "http://192.168.1.10:8080", PUBLIC_URL_USED, "", false } },
        /* one host all the same: two ports, and the two dresses of one address */
        { { .came = { { "10.0.0.5", 40, 8081 }, { "10.0.0.5", 60, 8082 } } },
          { "http://10.0.0.5:8082", PUBLIC_URL_USED, "", false } },
        { { .came = { { "::ffff:10.0.0.5", 40, 0 }, { "10.0.0.5", 40, 0 }, { "192.168.1.10", 60, 0 } } },
          { "http://10.0.0.5:8080", PUBLIC_URL_USED, "57 % to 10.0.0.5 and 43 % to 192.168.1.10", false } },
        /* said once, it stays until another has clearly more: else it is said again and again */
        { { .before = "http://10.0.0.5:8080", .came = { { "10.0.0.5", 100, 0 }, { "192.168.1.10", 124, 0 } } },
          { "http://10.0.0.5:8080", PUBLIC_URL_USED, "45 % to 10.0.0.5 and 55 % to 192.168.1.10, and", false } },
        { { .before = "http://10.0.0.5:8080", .came = { { "10.0.0.5", 100, 0 }, { "192.168.1.10", 125, 0 } } },
          { "http://192.168.1.10:8080", PUBLIC_URL_USED, "56 % to 192.168.1.10 and 44 % to 10.0.0.5, and", false } },
        { { .before = "http://10.1.0.5:8080",
            .came = { { "10.0.0.5", 90, 0 }, { "192.168.1.10", 99, 0 }, { "10.1.0.5", 80, 0 } } },
          { "http://10.1.0.5:8080", PUBLIC_URL_USED, "30 % to 10.1.0.5 and 37 % to 192.168.1.10 (", false } },
        { { .before = "http://10.9.0.5:8080", .came = { { "10.0.0.5", 9, 0 }, { "192.168.1.10", 10, 0 } } },
          { "http://192.168.1.10:8080", PUBLIC_URL_USED, "192.168.1.10 and 47 % to 10.0.0.5", false } },
        /* no network of devices: this machine itself, its containers */
        { { .came = { { "127.0.0.1", 90, 0 }, { "10.0.0.5", 10, 0 } } },
          { "http://10.0.0.5:8080", PUBLIC_URL_USED, "", false } },
        { { .came = { { "172.17.0.1", 90, 0 }, { "10.0.0.5", 10, 0 } }, .addresses = { "*172.17.0.1", "10.0.0.5" } },
          { "http://10.0.0.5:8080", PUBLIC_URL_USED, "", false } },
        { { .came = { { "172.17.0.2", 90, 0 } }, .in_container = true, .addresses = { "*172.17.0.2" } },
          { "", PUBLIC_URL_UNKNOWN, "172.17.0.2", false } },
        /* the operator's word is not doubted */
        { { .configured = "http://pi", .came = { { "10.0.0.5", 50, 0 }, { "192.168.1.10", 50, 0 } } },
          { "http://pi", PUBLIC_URL_CONFIGURED, "", false } },
        { { .came = { { "fd00:1111:2222:3333:4444:5555:6666:7777", 50, 0 },
                      { "fd00:1111:2222:3333:4444:5555:6666:8888", 51, 0 },
                      { "fd00:1111:2222:3333:4444:5555:6666:9999", 49, 0 } } },
          { "http://[fd00:1111:2222:3333:4444:5555:6666:8888]:8080", PUBLIC_URL_USED, "http://updraft.lan:8080",
            false } },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct scene scene = rows[i].scene;
        if (scene.addresses[0] == NULL) {
            memcpy(scene.addresses, machine, sizeof machine);
        }
        expect(i, &scene, &rows[i].expected);
    }
}

/* --- what no device reaches --------------------------------------------------------------------------------------- */

/* Else devices are told the container's own address, and the operator that all is well: the classic failure. */
static void test_a_container(void **state)
{
    (void)state;
    static const struct {
        struct scene scene;
        struct expected expected;
    } rows[] = {
        { { .in_container = true, .addresses = { "127.0.0.1", "*172.17.0.2" } },
          { "", PUBLIC_URL_UNKNOWN, "a container, whose own address (172.17.0.2) no", false } },
        { { .in_container = true, .used = "172.17.0.2", .addresses = { "127.0.0.1", "*172.17.0.2" } },
          { "", PUBLIC_URL_UNKNOWN, "172.17.0.2", false } },
        { { .in_container = true, .used = "::ffff:172.17.0.2", .addresses = { "127.0.0.1", "*172.17.0.2" } },
          { "", PUBLIC_URL_UNKNOWN, "172.17.0.2", false } },
        { { .in_container = true, .used = "127.0.0.1", .addresses = { "127.0.0.1", "*172.17.0.2" } },
          { "", PUBLIC_URL_UNKNOWN, "172.17.0.2", false } },
        /* a network joined after the list was made */
        { { .in_container = true, .used = "172.20.0.2", .addresses = { "*172.17.0.2" } },
          { "", PUBLIC_URL_UNKNOWN, "172.17.0.2", false } },
        { { .in_container = true, .listen = "172.17.0.2:8080", .addresses = { "*172.17.0.2", "10.0.0.5" } },
          { "", PUBLIC_URL_UNKNOWN, "172.17.0.2", false } },
        { { .in_container = true, .addresses = { "127.0.0.1" } },
          { "", PUBLIC_URL_UNKNOWN, "a container, whose own address no", false } },
        { { .in_container = true, .addresses = { "*fe80::5", "*fd00:172::2" } },
          { "", PUBLIC_URL_UNKNOWN, "([fd00:172::2])", false } },
        /* in the machine's own network (--network host) it is a machine */
        { { .in_container = true, .used = "192.168.1.10", .addresses = { "*172.17.0.1", "192.168.1.10" } },
          { "http://192.168.1.10:8080", PUBLIC_URL_USED, "", false } },
        { { .in_container = true, .addresses = { "*172.17.0.1", "192.168.1.10" } },
          { "http://192.168.1.10:8080", PUBLIC_URL_MACHINE, "", false } },
        { { .in_container = true, .configured = "http://192.168.1.10:8080", .addresses = { "*172.17.0.2" } },
          { "http://192.168.1.10:8080", PUBLIC_URL_CONFIGURED, "", false } },
        { { .in_container = true, .configured = "http://updraft:8080", .addresses = { "*172.17.0.2" } },
          { "http://updraft:8080", PUBLIC_URL_CONFIGURED, "", false } },
        { { .in_container = true, .configured = "http://172.17.0.2:8080", .addresses = { "*172.17.0.2" } },
          { "http://172.17.0.2:8080", PUBLIC_URL_CONFIGURED, "172.17.0.2, this container's own address", false } },
        { { .in_container = true, .configured = "http://[fd00::2]/a", .addresses = { "*fd00::2" } },
          { "http://[fd00::2]/a", PUBLIC_URL_CONFIGURED, "[fd00::2], this container's own address", false } },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        expect(i, &rows[i].scene, &rows[i].expected);
    }
}

/* Else a machine that runs containers advertises its end of their bridge. */
static void test_bridges_of_a_host(void **state)
{
    (void)state;
    static const struct {
        struct scene scene;
        struct expected expected;
    } rows[] = {
        { { .used = "172.17.0.1", .addresses = { "*172.17.0.1", "192.168.1.10" } },
          { "http://192.168.1.10:8080", PUBLIC_URL_MACHINE, "", false } },
        { { .listen = "172.17.0.1:8080", .addresses = { "*172.17.0.1", "192.168.1.10" } },
          { "", PUBLIC_URL_UNKNOWN, "--listen 172.17.0.1:8080 is at no address that devices reach", false } },
        { { .configured = "http://172.17.0.1", .addresses = { "*172.17.0.1" } },
          { "http://172.17.0.1", PUBLIC_URL_CONFIGURED, "a network for containers on this machine", false } },
        /* forwarded by a balancer on other addresses: not ours, yet devices came to it */
        { { .used = "10.9.9.9", .addresses = { "192.168.1.10" } },
          { "http://10.9.9.9:8080", PUBLIC_URL_USED, "", false } },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        expect(i, &rows[i].scene, &rows[i].expected);
    }
}

/* Else a try-out on one machine is refused, or what it taught is carried into the field without a word. */
static void test_loopback_is_used_and_warned_of(void **state)
{
    (void)state;
    static const struct {
        struct scene scene;
        struct expected expected;
    } rows[] = {
        { { .listen = "127.0.0.1:41234", .used = "127.0.0.1", .addresses = { "127.0.0.1", "192.168.1.10" } },
          { "http://127.0.0.1:41234", PUBLIC_URL_LISTEN, "--listen 127.0.0.1:41234", true } },
        { { .listen = "[::1]:8080" }, { "http://[::1]:8080", PUBLIC_URL_LISTEN, "--listen [::1]:8080", true } },
        { { .configured = "http://localhost:8080" },
          { "http://localhost:8080", PUBLIC_URL_CONFIGURED, "--public-url names localhost,", true } },
        { { .configured = "http://Updraft.localhost" },
          { "http://Updraft.localhost", PUBLIC_URL_CONFIGURED, "localhost", true } },
        { { .configured = "http://127.9.9.9:1/x" },
          { "http://127.9.9.9:1/x", PUBLIC_URL_CONFIGURED, "127.9.9.9", true } },
        { { .configured = "https://[::1]" }, { "https://[::1]", PUBLIC_URL_CONFIGURED, "[::1]", true } },
        { { .configured = "http://[::ffff:127.0.0.1]" },
          { "http://[::ffff:127.0.0.1]", PUBLIC_URL_CONFIGURED, "127.0.0.1", true } },
        { { .configured = "http://localhost.example.org" },
          { "http://localhost.example.org", PUBLIC_URL_CONFIGURED, "", false } },
        { { .configured = "http://128.0.0.1" }, { "http://128.0.0.1", PUBLIC_URL_CONFIGURED, "", false } },
        /* a proxy on this machine says nothing of where devices come */
        { { .used = "127.0.0.1", .addresses = { "127.0.0.1", "192.168.1.10" } },
          { "http://192.168.1.10:8080", PUBLIC_URL_MACHINE, "", false } },
        { { .used = "::1", .addresses = { "::1", "192.168.1.10" }, .listen = "[::]:8080" },
          { "http://192.168.1.10:8080", PUBLIC_URL_MACHINE, "", false } },
        /* needs a zone, which a URL of a device cannot have */
        { { .used = "fe80::5", .addresses = { "192.168.1.10" }, .listen = "[::]:8080" },
          { "http://192.168.1.10:8080", PUBLIC_URL_MACHINE, "", false } },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        expect(i, &rows[i].scene, &rows[i].expected);
    }
}

/* Else a listener of another kind in front makes up an address. */
static void test_what_is_no_listener_tells_nothing(void **state)
{
    (void)state;
    static const char *const listeners[] = { "", "8080", "eth0:8080", "192.168.1.10", "[::]" };
    for (size_t i = 0; i < COUNT_OF(listeners); i++) {
        struct scene scene = { .listen = listeners[i], .addresses = { "192.168.1.10" } };
        struct expected expected = { "", PUBLIC_URL_UNKNOWN, "at no address that devices reach", false };
        expect(i, &scene, &expected);
    }
}

/* Else a long name cuts the remedy off, or runs over. */
static void test_the_longest(void **state)
{
    (void)state;
    char url[PUBLIC_URL_MAX + 1] = "http://";
    memset(url + 7, 'a', 200);
    strcpy(url + 207, ".localhost/");
    memset(url + strlen(url), 'b', PUBLIC_URL_MAX - strlen(url));
    url[PUBLIC_URL_MAX] = '\0';
    char why[200] = "";
    assert_int_equal(public_url_check(url, why, sizeof why), STATUS_OK);
    struct scene scene = { .configured = url };
    struct expected expected = { url, PUBLIC_URL_CONFIGURED, "--public-url names aaa", true };
    expect(0, &scene, &expected);
    struct scene ipv6 = { .listen = "[::1]:65535" };
    struct expected of_ipv6 = { "http://[::1]:65535", PUBLIC_URL_LISTEN, "proxy that devices reach", true };
    expect(1, &ipv6, &of_ipv6);
    struct scene container = { .in_container = true, .addresses = { "*fd00:1111:2222:3333:4444:5555:6666:7777" } };
    struct expected of_container = { "", PUBLIC_URL_UNKNOWN, "e.g. http://192.168.1.10:8080", false };
    expect(2, &container, &of_container);
}

/* --- a URL that somebody wrote ------------------------------------------------------------------------------------ */

/* Else a URL that works is refused at start. */
static void test_good_urls(void **state)
{
    (void)state;
    static const char *const good[] = {
        "http://192.168.1.10:8080", "http://192.168.1.10",
        "https://ota.example.org",  "http://pi",
        "http://my_server.local:1", "http://pi:65535/updates",
        "http://[2001:db8::7]",     "https://[::ffff:10.0.0.5]:8443/a/b",
        "http://1.example.org",     "http://pi/a%20b/~x",
    };
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        char why[200] = "";
        if (public_url_check(good[i], why, sizeof why) != STATUS_OK) {
            fail_msg("%s: %s", good[i], why);
        }
    }
}

/* Else devices are handed what they cannot fetch from, and nobody is told before they fail. */
static void test_bad_urls(void **state)
{
    (void)state;
    static const struct {
        const char *url, *why;
    } bad[] = {
        { "", "http://" },
        { "192.168.1.10:8080", "http://" },
        { "ftp://pi", "http://" },
        { "HTTP://pi", "http://" },
        { "http:/pi", "http://" },
        { "http://", "host" },
        { "http://:8080", "host" },
        { "http:///a", "host" },
        { "http://pi..local", "host" },
        { "http://-pi", "host" },
        { "http://p\xc3\xa4", "host" },
        { "http://pi\"x", "host" },
        { "http://192.168.1", "host" },
        { "http://192.168.1.256", "host" },
        { "http://2001:db8::7", "host" },
        { "http://[2001:db8::7", "host" },
        { "http://[::1]x", "host" },
        { "http://[pi]", "host" },
        { "http://[10.0.0.5]", "host" },
        { "http://[fe80::1%eth0]", "host" },
        { "http://0.0.0.0:8080", "listening" },
        { "http://[::]:8080", "listening" },
        { "http://pi:", "port" },
        { "http://pi:0", "port" },
        { "http://pi:65536", "port" },
        { "http://pi:80a", "port" },
        { "http://me@pi", "user" },
        { "http://me:secret@pi", "user" },
        { "http://me:secret@pi:8080/a", "user" },
        { "http://pi/", "slash" },
        { "http://pi/a/", "slash" },
        { "http://pi/a?b=c", "query" },
        { "http://pi/#a", "fragment" },
        { "http://pi/a b", "blank" },
        { " http://pi", "blank" },
        { "http://pi/{type}", "percent-encoded" },
        { "http://pi/\"", "percent-encoded" },
        { "http://pi/\x01", "percent-encoded" },
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        char why[200] = "";
        assert_int_equal(public_url_check(bad[i].url, why, sizeof why), STATUS_INVALID);
        if (strstr(why, bad[i].why) == NULL || strstr(why, "give it like http://192.168.1.10:8080") == NULL) {
            fail_msg("%s: %s", bad[i].url, why);
        }
    }
    char longest[PUBLIC_URL_MAX + 2] = "http://pi/";
    memset(longest + 10, 'a', PUBLIC_URL_MAX - 9);
    longest[PUBLIC_URL_MAX + 1] = '\0';
    char why[200] = "";
    assert_int_equal(public_url_check(longest, why, sizeof why), STATUS_TOO_LONG);
    longest[PUBLIC_URL_MAX] = '\0';
    assert_int_equal(public_url_check(longest, why, sizeof why), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_which_address_of_the_machine),
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_two_networks_are_told_of),
        cmocka_unit_test(test_a_container),
        cmocka_unit_test(test_bridges_of_a_host),
        cmocka_unit_test(test_loopback_is_used_and_warned_of),
        cmocka_unit_test(test_what_is_no_listener_tells_nothing),
        cmocka_unit_test(test_the_longest),
        cmocka_unit_test(test_good_urls),
        cmocka_unit_test(test_bad_urls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
