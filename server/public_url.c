/* The choice, which is pure, and the questions to the system that feed it.
 *
 * What makes it hard is what an address does not say. The near end of a container's link looks like any private
 * address, a socket that takes both families reports IPv4 in the clothes of IPv6, and inside a container nothing tells
 * at which address of the machine outside its port was published. So an address counts only where nothing speaks
 * against it, and otherwise the operator is asked.
 */
#include "server/public_url.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <uv.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* --- addresses ---------------------------------------------------------------------------------------------------- */

/* One address without its dress: IPv4 in IPv6 is IPv4. */
struct host {
    int family; /* AF_INET, AF_INET6; 0 = none */
    uint8_t bytes[16];
    uint16_t port;
};

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

static bool is_loopback(const struct host *host)
{
    static const struct range v4 = { { 127 }, 8 }, v6 = { { [15] = 1 }, 128 };
    return in_range(host, AF_INET, &v4) || in_range(host, AF_INET6, &v6);
}

static bool is_any(const struct host *host)
{
    static const struct range v4 = { { 0 }, 8 }, v6 = { { 0 }, 128 };
    return in_range(host, AF_INET, &v4) || in_range(host, AF_INET6, &v6);
}

static bool is_link_local(const struct host *host)
{
    static const struct range v4 = { { 169, 254 }, 16 }, v6 = { { 0xfe, 0x80 }, 10 };
    return in_range(host, AF_INET, &v4) || in_range(host, AF_INET6, &v6);
}

/* 100.64.0.0/10, which providers and overlay networks use: no home's or site's own network. */
static bool is_shared(const struct host *host)
{
    static const struct range v4 = { { 100, 64 }, 10 };
    return in_range(host, AF_INET, &v4);
}

static struct host host_of(const struct sockaddr_storage *address)
{
    static const struct range mapped = { { [10] = 0xff, [11] = 0xff }, 96 };
    struct host host = { .family = 0 };
    if (address->ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        host.family = AF_INET;
        host.port = ntohs(in.sin_port);
        memcpy(host.bytes, &in.sin_addr, 4);
    } else if (address->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof in6);
        host.family = AF_INET6;
        host.port = ntohs(in6.sin6_port);
        memcpy(host.bytes, &in6.sin6_addr, 16);
        if (in_range(&host, AF_INET6, &mapped)) {
            host.family = AF_INET;
            memmove(host.bytes, host.bytes + 12, 4);
            memset(host.bytes + 4, 0, 12);
        }
    }
    return host;
}

static bool is_same(const struct host *a, const struct host *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* An address as text, perhaps in brackets; false where it is none (a name). */
static bool read_host(struct slice text, struct host *host)
{
    char copy[INET6_ADDRSTRLEN];
    struct sockaddr_storage address = { .ss_family = AF_INET6 };
    struct in6_addr in6;
    bool bracketed = slice_starts_with(text, "[") && slice_ends_with(text, "]");
    if (bracketed) {
        text = (struct slice){ text.at + 1, text.len - 2 };
    }
    *host = (struct host){ .family = 0 };
    if (!slice_copy(text, copy, sizeof copy)) {
        return false;
    }
    if (!bracketed && inet_pton(AF_INET, copy, host->bytes) == 1) {
        host->family = AF_INET;
        return true;
    }
    if (inet_pton(AF_INET6, copy, &in6) != 1) {
        return false;
    }
    memcpy((char *)&address + offsetof(struct sockaddr_in6, sin6_addr), &in6, sizeof in6);
    *host = host_of(&address);
    return true;
}

/* IPv6 in brackets, as it stands in a URL. */
static void print_host(const struct host *host, char *to, size_t size)
{
    char text[INET6_ADDRSTRLEN] = "";
    assert(host->family != 0);
    inet_ntop(host->family, host->bytes, text, sizeof text);
    snprintf(to, size, host->family == AF_INET6 ? "[%s]" : "%s", text);
}

static void print_url(const struct host *host, uint16_t port, struct public_url *url)
{
    char text[INET6_ADDRSTRLEN + 2];
    print_host(host, text, sizeof text);
    if (port == 80) {
        snprintf(url->url, sizeof url->url, "http://%s", text);
    } else {
        snprintf(url->url, sizeof url->url, "http://%s:%u", text, port);
    }
}

/* --- a URL that somebody wrote ------------------------------------------------------------------------------------ */

/* The parts of http://host:port/path, borrowed. */
struct url_parts {
    struct slice host; /* with the brackets of an IPv6 address */
    struct slice port; /* absent = none */
    struct slice path; /* with its slash; may be empty */
};

static bool split_url(const char *url, struct url_parts *parts)
{
    struct slice rest = slice_of(url);
    if (!slice_starts_with(rest, "http://") && !slice_starts_with(rest, "https://")) { /* the cores want lower case */
        return false;
    }
    size_t scheme = strcspn(url, "/") + 2;
    rest = (struct slice){ rest.at + scheme, rest.len - scheme };
    size_t authority = strcspn(rest.at, "/");
    const char *bracket = memchr(rest.at, ']', authority);
    size_t host = bracket != NULL ? (size_t)(bracket - rest.at) + 1 : strcspn(rest.at, ":/");
    if (host < authority && rest.at[host] != ':') {
        return false;
    }
    parts->host = (struct slice){ rest.at, host };
    parts->port = host < authority ? (struct slice){ rest.at + host + 1, authority - host - 1 } : (struct slice){ 0 };
    parts->path = (struct slice){ rest.at + authority, rest.len - authority };
    return true;
}

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS  "0123456789"

/* An address, or a name of DNS (with `_`, which local names have). What looks like an IPv4 address must be one. */
static bool is_host(struct slice host)
{
    struct host address;
    if (read_host(host, &address)) {
        return true;
    }
    size_t n = strspn(host.at, LETTERS DIGITS "-._");
    return host.len > 0 && host.len <= 253 && n >= host.len && strspn(host.at, DIGITS ".") < host.len &&
           host.at[0] != '.' && host.at[0] != '-' && memmem(host.at, host.len, "..", 2) == NULL;
}

enum status public_url_check(const char *url, char *why, size_t size)
{
    struct url_parts parts;
    struct host address;
    uint64_t port = 80;
    const char *wrong = NULL;
    if (strlen(url) > PUBLIC_URL_MAX) {
        snprintf(why, size, "it is longer than %d bytes; give a shorter path or name", PUBLIC_URL_MAX);
        return STATUS_TOO_LONG;
    }
    if (strpbrk(url, "?# \t\r\n") != NULL) {
        wrong = "has a query, a fragment or a blank: what is asked for is put behind it";
    } else if (!split_url(url, &parts)) {
        wrong = "does not begin with http:// or https:// and a host";
    } else if (memchr(parts.host.at, '@', parts.host.len + parts.port.len + 1) != NULL) {
        wrong = "has a user, which devices do not send";
    } else if (!is_host(parts.host)) {
        wrong = "has no valid host: a name, an IPv4 address, or an IPv6 address in brackets";
    } else if (read_host(parts.host, &address) && is_any(&address)) {
        wrong = "names no address: 0.0.0.0 and [::] are for listening";
    } else if (parts.port.at != NULL && (!number_parse(parts.port, 65535, &port) || port == 0)) {
        wrong = "has no valid port: 1 to 65535";
    } else if (strspn(parts.path.at, LETTERS DIGITS "-._~!$&'()*+,;=:@%/") != parts.path.len) {
        wrong = "has a path with characters that must be percent-encoded";
    } else if (slice_ends_with(parts.path, "/")) {
        wrong = "ends in a slash, which is put there for you";
    }
    if (wrong != NULL) {
        snprintf(why, size, "it %s; give it like http://192.168.1.10:8080", wrong);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

/* --- the choice --------------------------------------------------------------------------------------------------- */

#define REMEDY "set --public-url (UPDRAFT_PUBLIC_URL) to what devices reach, e.g. http://192.168.1.10:8080"

static const struct machine_address *find_address(const struct public_url_input *input, const struct host *host)
{
    for (size_t i = 0; i < input->address_count; i++) {
        struct host listed = host_of(&input->addresses[i].address);
        if (is_same(&listed, host)) {
            return &input->addresses[i];
        }
    }
    return NULL;
}

static bool is_internal(const struct public_url_input *input, const struct host *host)
{
    const struct machine_address *address = find_address(input, host);
    return address != NULL && address->container_internal;
}

static void choose_configured(const struct public_url_input *input, struct public_url *url)
{
    struct url_parts parts;
    struct host host;
    url->kind = PUBLIC_URL_CONFIGURED;
    snprintf(url->url, sizeof url->url, "%s", input->configured);
    bool split = split_url(input->configured, &parts);
    assert(split); /* public_url_check has passed it */
    bool is_address = read_host(parts.host, &host);
    url->loopback = is_address ? is_loopback(&host)
                               : slice_is_nocase(parts.host, "localhost") || slice_ends_with(parts.host, ".localhost");
    if (url->loopback) {
        snprintf(url->warning, sizeof url->warning,
                 "--public-url names %.*s, which to a device is itself: only simulated ones on this machine reach the "
                 "server; " REMEDY,
                 parts.host.len < 60 ? (int)parts.host.len : 60, parts.host.at);
    } else if (is_address && is_internal(input, &host)) {
        char text[INET6_ADDRSTRLEN + 2];
        print_host(&host, text, sizeof text);
        snprintf(url->warning, sizeof url->warning, "--public-url names %s, %s, which no device reaches; " REMEDY, text,
                 input->in_container ? "this container's own address"
                                     : "an address of a network for containers on this machine");
    }
}

/* The address that devices came to, unless it shows only how somebody on this machine came. Inside a container an
 * address that is not listed may be a link made since, so it does not count. */
static bool choose_used(const struct public_url_input *input, uint16_t port, struct public_url *url)
{
    if (input->used == NULL) {
        return false;
    }
    struct host host = host_of(input->used);
    bool needs_zone = host.family == AF_INET6 && is_link_local(&host);
    if (host.family == 0 || is_any(&host) || is_loopback(&host) || needs_zone || is_internal(input, &host) ||
        (input->in_container && find_address(input, &host) == NULL)) {
        return false;
    }
    url->kind = PUBLIC_URL_USED;
    print_url(&host, host.port != 0 ? host.port : port, url);
    return true;
}

/* A listener on one address is reached there or nowhere. */
static bool choose_listen(const struct public_url_input *input, const struct host *listen, struct public_url *url)
{
    if (is_internal(input, listen)) {
        return false;
    }
    url->kind = PUBLIC_URL_LISTEN;
    url->loopback = is_loopback(listen);
    print_url(listen, listen->port, url);
    if (url->loopback) {
        snprintf(url->warning, sizeof url->warning,
                 "--listen %s takes connections of this machine alone: no device reaches %s; listen on 0.0.0.0:%u, or "
                 "set --public-url (UPDRAFT_PUBLIC_URL) to the proxy that devices reach",
                 input->listen, url->url, listen->port);
    }
    return true;
}

/* How good an address of this machine is for devices: 0 is best, 3 and above is none. A listener of IPv4 alone cannot
 * be reached by IPv6. */
static unsigned rank_of(const struct machine_address *address, const struct host *host, int listen_family)
{
    if (address->loopback || is_loopback(host) || address->container_internal || is_any(host) || is_link_local(host) ||
        host->family == 0 || (host->family == AF_INET6 && listen_family == AF_INET)) {
        return 3;
    }
    return host->family == AF_INET6 ? 2 : is_shared(host) ? 1 : 0;
}

static bool choose_machine(const struct public_url_input *input, const struct host *listen, struct public_url *url)
{
    unsigned best = 3;
    for (size_t i = 0; i < input->address_count; i++) {
        struct host host = host_of(&input->addresses[i].address);
        unsigned rank = rank_of(&input->addresses[i], &host, listen->family);
        if (rank < best) {
            best = rank;
            url->kind = PUBLIC_URL_MACHINE;
            print_url(&host, listen->port, url);
        }
    }
    return best < 3;
}

/* A machine that is in no network, as when somebody tries this out on the way: simulated devices do reach it. */
static bool choose_offline(const struct public_url_input *input, const struct host *listen, struct public_url *url)
{
    static const struct host loopback = { .family = AF_INET, .bytes = { 127, 0, 0, 1 } };
    if (input->in_container) {
        return false;
    }
    url->kind = PUBLIC_URL_MACHINE;
    url->loopback = true;
    print_url(&loopback, listen->port, url);
    snprintf(url->warning, sizeof url->warning,
             "this machine has no address but its loopback: no device reaches %s; connect it to the devices' network "
             "and send SIGHUP, or " REMEDY,
             url->url);
    return true;
}

/* " (172.17.0.2)", or nothing. */
static void print_own_address(const struct public_url_input *input, char *to, size_t size)
{
    to[0] = '\0';
    for (size_t i = 0; i < input->address_count && to[0] == '\0'; i++) {
        struct host host = host_of(&input->addresses[i].address);
        if (input->addresses[i].container_internal && host.family != 0 && !is_link_local(&host)) {
            char text[INET6_ADDRSTRLEN + 2];
            print_host(&host, text, sizeof text);
            snprintf(to, size, " (%s)", text);
        }
    }
}

static void choose_none(const struct public_url_input *input, struct public_url *url)
{
    url->kind = PUBLIC_URL_UNKNOWN;
    if (input->in_container) {
        char own[INET6_ADDRSTRLEN + 5];
        print_own_address(input, own, sizeof own);
        snprintf(url->warning, sizeof url->warning,
                 "the server runs in a container, whose own address%s no device reaches; " REMEDY, own);
    } else {
        snprintf(url->warning, sizeof url->warning,
                 "--listen %s is at no address that devices reach (a network for containers, or none); " REMEDY,
                 input->listen);
    }
}

/* "0.0.0.0:8080", "[::]:8080" */
static struct host read_listen(const char *listen)
{
    struct host host = { .family = 0 };
    uint64_t port;
    const char *colon = strrchr(listen, ':');
    if (colon == NULL || !number_parse(slice_of(colon + 1), 65535, &port) ||
        !read_host((struct slice){ listen, (size_t)(colon - listen) }, &host)) {
        host.family = 0;
        return host;
    }
    host.port = (uint16_t)port;
    return host;
}

/* Where --listen says which, or any of this machine's addresses. */
static bool choose_by_listen(const struct public_url_input *input, const struct host *listen, struct public_url *url)
{
    if (listen->family == 0) {
        return false;
    }
    if (!is_any(listen)) {
        return choose_listen(input, listen, url);
    }
    return choose_machine(input, listen, url) || choose_offline(input, listen, url);
}

void public_url_choose(const struct public_url_input *input, struct public_url *chosen)
{
    struct host listen = read_listen(input->listen);
    *chosen = (struct public_url){ .kind = PUBLIC_URL_UNKNOWN };
    if (input->configured[0] != '\0') {
        choose_configured(input, chosen);
    } else if (!choose_used(input, listen.port, chosen) && !choose_by_listen(input, &listen, chosen)) {
        choose_none(input, chosen);
    }
}

/* --- what the system says ----------------------------------------------------------------------------------------- */

/* Reads up to size - 1 bytes of a file of /proc or /sys and ends them; -1 where it cannot be read. */
static ssize_t read_some(const char *path, char *to, size_t size)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = descriptor < 0 ? -1 : read(descriptor, to, size - 1);
    if (descriptor >= 0) {
        close(descriptor);
    }
    to[n > 0 ? n : 0] = '\0';
    return n;
}

/* Docker's mark, Podman's, and the variable by which most others say it (systemd.io/CONTAINER_INTERFACE); a pod's
 * processes have Kubernetes' own. The first process of another user may not be looked at: ours may have inherited it.
 */
static bool runs_in_container(void)
{
    char environment[65536];
    if (access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0 || getenv("container") != NULL ||
        getenv("KUBERNETES_SERVICE_HOST") != NULL) {
        return true;
    }
    ssize_t n = read_some("/proc/1/environ", environment, sizeof environment);
    for (ssize_t at = 0; at < n; at += (ssize_t)strlen(environment + at) + 1) {
        if (strncmp(environment + at, "container=", 10) == 0) {
            return true;
        }
    }
    return false;
}

static long read_index(const char *interface, const char *file)
{
    char path[100], digits[32];
    snprintf(path, sizeof path, "/sys/class/net/%s/%s", interface, file);
    return read_some(path, digits, sizeof digits) > 0 ? strtol(digits, NULL, 10) : -1;
}

/* The kernel's word for the kind of an interface; "" where it does not say. No right is needed to ask. */
static void read_driver(const char *interface, char *driver, size_t size)
{
    struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
    struct ifreq request = { .ifr_data = (char *)&info };
    int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", interface);
    if (descriptor < 0 || ioctl(descriptor, SIOCETHTOOL, &request) != 0) {
        info.driver[0] = '\0';
    }
    if (descriptor >= 0) {
        close(descriptor);
    }
    snprintf(driver, size, "%.*s", (int)sizeof info.driver, info.driver);
}

/* Whether an interface inside a container leads no further than its host. A veth pair does, and so do the taps of
 * containers without root (slirp4netns, pasta); macvlan and ipvlan give a container an address of the devices' own
 * network. Of others: whether its other end has another number, as the near end of a pair has. */
static bool leads_to_host_alone(const char *interface)
{
    static const struct {
        const char *driver;
        bool to_host_alone;
    } drivers[] = {
        { "veth", true }, { "tun", true }, { "macvlan", false }, { "ipvlan", false }, { "802.1Q VLAN Support", false },
    };
    char driver[40];
    read_driver(interface, driver, sizeof driver);
    for (size_t i = 0; i < COUNT_OF(drivers); i++) {
        if (strcmp(driver, drivers[i].driver) == 0) {
            return drivers[i].to_host_alone;
        }
    }
    return read_index(interface, "iflink") != read_index(interface, "ifindex");
}

/* Bridges to containers and virtual machines of this machine, by the names that their makers give them. */
static bool is_bridge_to_containers(const char *interface)
{
    static const char *const prefixes[] = { "docker", "virbr", "cni", "podman", "veth", "lxc", "lxdbr", "incusbr" };
    for (size_t i = 0; i < COUNT_OF(prefixes); i++) {
        if (strncmp(interface, prefixes[i], strlen(prefixes[i])) == 0) {
            return true;
        }
    }
    return strncmp(interface, "br-", 3) == 0 && strlen(interface) == 15 &&
           strspn(interface + 3, "0123456789abcdef") == 12;
}

static void fill_address(const uv_interface_address_t *from, bool in_container, struct machine_address *to)
{
    *to = (struct machine_address){ .loopback = from->is_internal != 0 };
    snprintf(to->interface, sizeof to->interface, "%s", from->name);
    to->interface[strcspn(to->interface, ":")] = '\0'; /* "eth0:1" is a second address of eth0 */
    if (from->address.address4.sin_family == AF_INET6) {
        memcpy(&to->address, &from->address.address6, sizeof from->address.address6);
    } else {
        memcpy(&to->address, &from->address.address4, sizeof from->address.address4);
    }
    to->container_internal = !to->loopback && (is_bridge_to_containers(to->interface) ||
                                               (in_container && leads_to_host_alone(to->interface)));
}

size_t machine_addresses(struct machine_address *addresses, size_t max, bool *in_container)
{
    uv_interface_address_t *list;
    int count;
    *in_container = runs_in_container();
    if (uv_interface_addresses(&list, &count) != 0) {
        return 0;
    }
    size_t used = 0;
    for (; used < max && used < (size_t)count; used++) {
        fill_address(&list[used], *in_container, &addresses[used]);
    }
    uv_free_interface_addresses(list, count);
    return used;
}
