/* What makes it hard is what an address does not say. A socket that takes both families reports IPv4 in the clothes of
 * IPv6, inside a container nothing tells at which address of the machine outside its port was published, and of two
 * networks nothing tells whether one reaches the other. So an address counts only where nothing speaks against it, and
 * otherwise the operator is asked.
 */
#include "server/public_url.h"

#include "base/text.h"
#include "server/host.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    if (host_read(host, &address)) {
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
    } else if (host_read(parts.host, &address) && host_is_any(&address)) {
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

static void print_url(const struct public_url_input *input, const struct host *host, uint16_t port,
                      struct public_url *url)
{
    char text[HOST_TEXT_SIZE];
    const char *scheme = input->over_tls ? "https" : "http";
    host_print(host, text, sizeof text);
    if (port == (input->over_tls ? 443 : 80)) {
        snprintf(url->url, sizeof url->url, "%s://%s", scheme, text);
    } else {
        snprintf(url->url, sizeof url->url, "%s://%s:%u", scheme, text, port);
    }
}

/* Which flag opened the first door. */
static const char *flag_of(const struct public_url_input *input)
{
    return input->over_tls ? "tls-listen" : "listen";
}

#define REMEDY "set --public-url (UPDRAFT_PUBLIC_URL) to what devices reach, e.g. http://192.168.1.10:8080"

static const struct machine_address *find_address(const struct public_url_input *input, const struct host *host)
{
    for (size_t i = 0; i < input->address_count; i++) {
        struct host listed = host_of_address((const struct sockaddr *)&input->addresses[i].address);
        if (host_is_same(&listed, host)) {
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
    bool is_address = host_read(parts.host, &host);
    url->loopback = is_address ? host_is_loopback(&host)
                               : slice_is_nocase(parts.host, "localhost") || slice_ends_with(parts.host, ".localhost");
    if (url->loopback) {
        snprintf(url->warning, sizeof url->warning,
                 "--public-url names %.*s, which to a device is itself: only simulated ones on this machine reach the "
                 "server; " REMEDY,
                 parts.host.len < 60 ? (int)parts.host.len : 60, parts.host.at);
    } else if (is_address && is_internal(input, &host)) {
        char text[HOST_TEXT_SIZE];
        host_print(&host, text, sizeof text);
        snprintf(url->warning, sizeof url->warning, "--public-url names %s, %s, which no device reaches; " REMEDY, text,
                 input->in_container ? "this container's own address"
                                     : "an address of a network for containers on this machine");
    }
}

/* --- the addresses that devices came to --------------------------------------------------------------------------- */

#define USED_FEW     5  /* check-ins at an address, below which somebody only tries something out... */
#define USED_FEW_PER 50 /* ...or fewer than one in so many */

/* Check-ins at one host, whichever port they came to. */
struct tally {
    struct host host; /* with the port that most of them came to */
    uint64_t checks, of_port;
};

struct tallies {
    struct tally list[USED_ADDRESSES_MAX];
    size_t count;
    uint64_t checks;
};

/* Not those that show only how somebody on this machine came. Inside a container an address that is not listed may be a
 * link made since, so it does not count. */
static bool is_reached(const struct public_url_input *input, const struct host *host)
{
    bool needs_zone = host->family == AF_INET6 && host_is_link_local(host);
    return host->family != 0 && !host_is_any(host) && !host_is_loopback(host) && !needs_zone &&
           !is_internal(input, host) && (!input->in_container || find_address(input, host) != NULL);
}

static void add_tally(struct tallies *tallies, const struct host *host, uint64_t checks)
{
    size_t i = 0;
    while (i < tallies->count && !host_is_same(&tallies->list[i].host, host)) {
        i++;
    }
    struct tally *tally = &tallies->list[i];
    tallies->count += i == tallies->count;
    tallies->checks += checks;
    tally->checks += checks;
    if (checks > tally->of_port) {
        tally->of_port = checks;
        tally->host = *host;
    }
}

static int compare_tallies(const void *a, const void *b)
{
    const struct tally *first = a, *second = b;
    return first->checks < second->checks ? 1 : first->checks > second->checks ? -1 : 0;
}

/* By host, the one with most check-ins first. */
static void tally_used(const struct public_url_input *input, struct tallies *tallies)
{
    *tallies = (struct tallies){ .count = 0 };
    for (size_t i = 0; i < USED_ADDRESSES_MAX; i++) {
        const struct used_address *used = &input->used->list[i];
        struct host host = host_of_address((const struct sockaddr *)&used->address);
        if (used->checks > 0 && is_reached(input, &host)) {
            add_tally(tallies, &host, used->checks);
        }
    }
    qsort(tallies->list, tallies->count, sizeof tallies->list[0], compare_tallies);
}

static bool is_in_numbers(const struct tallies *tallies, size_t i)
{
    uint64_t checks = i < tallies->count ? tallies->list[i].checks : 0;
    return checks >= USED_FEW && checks * USED_FEW_PER >= tallies->checks;
}

/* "62 % to 192.168.1.10" */
static void print_share(const struct tallies *tallies, size_t i, char *to, size_t size)
{
    char text[HOST_TEXT_SIZE];
    uint64_t percent = (100 * tallies->list[i].checks + tallies->checks / 2) / tallies->checks;
    host_print(&tallies->list[i].host, text, sizeof text);
    snprintf(to, size, "%" PRIu64 " %% to %s", percent, text);
}

static void warn_of_split(const struct tallies *tallies, struct public_url *url)
{
    char first[80], second[80], more[60] = "";
    size_t others = 0;
    for (size_t i = 2; i < tallies->count; i++) {
        others += is_in_numbers(tallies, i);
    }
    if (others > 0) {
        snprintf(more, sizeof more, " (and others to %zu more)", others);
    }
    print_share(tallies, 0, first, sizeof first);
    print_share(tallies, 1, second, sizeof second);
    snprintf(url->warning, sizeof url->warning,
             "devices' checks come to several addresses of this server, %s and %s%s, and a command can name only one: "
             "devices that reach only another will not come; set --public-url (UPDRAFT_PUBLIC_URL) to an address or "
             "name that all of them reach, e.g. http://updraft.lan:8080",
             first, second, more);
}

/* Two networks that come equally often take turns in coming more often: the address would change each second, with a
 * line in the log, and commands that wait would be written anew. So another must have a quarter more. */
static void prefer(const struct public_url_input *input, struct tallies *tallies, uint16_t port)
{
    struct public_url url;
    for (size_t i = 1; i < tallies->count; i++) {
        struct tally stays = tallies->list[i];
        print_url(input, &stays.host, stays.host.port != 0 ? stays.host.port : port, &url);
        if (strcmp(url.url, input->before) == 0 && tallies->list[0].checks * 4 < stays.checks * 5) {
            memmove(tallies->list + 1, tallies->list, i * sizeof tallies->list[0]);
            tallies->list[0] = stays;
        }
    }
}

static bool choose_used(const struct public_url_input *input, uint16_t port, struct public_url *url)
{
    struct tallies tallies;
    tally_used(input, &tallies);
    if (tallies.count == 0) {
        return false;
    }
    prefer(input, &tallies, port);
    const struct host *host = &tallies.list[0].host;
    url->kind = PUBLIC_URL_USED;
    print_url(input, host, host->port != 0 ? host->port : port, url);
    if (is_in_numbers(&tallies, 1)) {
        warn_of_split(&tallies, url);
    }
    return true;
}

/* --- where none came ---------------------------------------------------------------------------------------------- */

/* A listener on one address is reached there or nowhere. */
static bool choose_listen(const struct public_url_input *input, const struct host *listen, struct public_url *url)
{
    if (is_internal(input, listen)) {
        return false;
    }
    url->kind = PUBLIC_URL_LISTEN;
    url->loopback = host_is_loopback(listen);
    print_url(input, listen, listen->port, url);
    if (url->loopback) {
        snprintf(url->warning, sizeof url->warning,
                 "--%s %s takes connections of this machine alone: no device reaches %s; listen on 0.0.0.0:%u, or "
                 "set --public-url (UPDRAFT_PUBLIC_URL) to the proxy that devices reach",
                 flag_of(input), input->listen, url->url, listen->port);
    }
    return true;
}

/* How good an address of this machine is for devices: 0 is best, 3 and above is none. A listener of IPv4 alone cannot
 * be reached by IPv6. */
static unsigned rank_of(const struct machine_address *address, const struct host *host, int listen_family)
{
    if (address->loopback || host_is_loopback(host) || address->container_internal || host_is_any(host) ||
        host_is_link_local(host) || host->family == 0 || (host->family == AF_INET6 && listen_family == AF_INET)) {
        return 3;
    }
    return host->family == AF_INET6 ? 2 : host_is_shared(host) ? 1 : 0;
}

static bool choose_machine(const struct public_url_input *input, const struct host *listen, struct public_url *url)
{
    unsigned best = 3;
    for (size_t i = 0; i < input->address_count; i++) {
        struct host host = host_of_address((const struct sockaddr *)&input->addresses[i].address);
        unsigned rank = rank_of(&input->addresses[i], &host, listen->family);
        if (rank < best) {
            best = rank;
            url->kind = PUBLIC_URL_MACHINE;
            print_url(input, &host, listen->port, url);
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
    print_url(input, &loopback, listen->port, url);
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
        struct host host = host_of_address((const struct sockaddr *)&input->addresses[i].address);
        if (input->addresses[i].container_internal && host.family != 0 && !host_is_link_local(&host)) {
            char text[HOST_TEXT_SIZE];
            host_print(&host, text, sizeof text);
            snprintf(to, size, " (%s)", text);
        }
    }
}

static void choose_none(const struct public_url_input *input, struct public_url *url)
{
    url->kind = PUBLIC_URL_UNKNOWN;
    if (input->in_container) {
        char own[HOST_TEXT_SIZE + 3];
        print_own_address(input, own, sizeof own);
        snprintf(url->warning, sizeof url->warning,
                 "the server runs in a container, whose own address%s no device reaches; " REMEDY, own);
    } else {
        snprintf(url->warning, sizeof url->warning,
                 "--%s %s is at no address that devices reach (a network for containers, or none); " REMEDY,
                 flag_of(input), input->listen);
    }
}

/* "0.0.0.0:8080", "[::]:8080" */
static struct host read_listen(const char *listen)
{
    struct host host = { .family = 0 };
    uint64_t port;
    const char *colon = strrchr(listen, ':');
    if (colon == NULL || !number_parse(slice_of(colon + 1), 65535, &port) ||
        !host_read((struct slice){ listen, (size_t)(colon - listen) }, &host)) {
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
    if (!host_is_any(listen)) {
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
