/* Asks the system. What makes it hard is what an address does not say: the near end of a container's link looks like
 * any private address. So the kind of each interface is asked for, and the names that makers of containers give. */
#include "server/machine_address.h"

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
    *in_container = *in_container || runs_in_container(); /* a reload may no longer look at others' processes */
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
