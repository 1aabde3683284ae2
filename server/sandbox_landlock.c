/* Landlock by its system calls: C libraries have no functions for them. Newer rights than a kernel knows must not be
 * asked of it, and older headers lack the newer names (landlock(7)). */
#include "server/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ull << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ull << 14)
#endif

/* Of Linux 6.7, 6.10 and 6.12, for which Debian 12's headers are too old. */
#define ACCESS_FS_IOCTL_DEV    (1ull << 15)
#define SCOPE_ABSTRACT_SOCKET  (1ull << 0)
#define SCOPE_SIGNAL           (1ull << 1)
#define ACCESS_NET_BIND_TCP    (1ull << 0)
#define ACCESS_NET_CONNECT_TCP (1ull << 1)
#define RULE_NET_PORT          2

struct ruleset {
    uint64_t handled_access_fs, handled_access_net, scoped;
};

struct net_port {
    uint64_t allowed_access, port;
};

#define READS   (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define SOCKETS (LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define WRITES                                                                                                         \
    (READS | SOCKETS | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_MAKE_REG |     \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REFER)
/* What a rule for a file, rather than a folder, may name. */
#define OF_FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)

static const uint64_t rights[] = { [SANDBOX_READ] = READS, [SANDBOX_WRITE] = WRITES, [SANDBOX_SOCKET] = SOCKETS };

/* All that kernels of this kind know of files; what is not allowed somewhere is forbidden. */
static uint64_t rights_known(int abi)
{
    uint64_t known = WRITES | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;
#ifdef UPDRAFT_SANITIZED
    known &= ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE; /* a sanitizer's complaint starts its symbolizer */
#endif
    known &= abi < 2 ? ~(uint64_t)LANDLOCK_ACCESS_FS_REFER : ~0ull;
    known &= abi < 3 ? ~(uint64_t)LANDLOCK_ACCESS_FS_TRUNCATE : ~0ull;
    return abi < 5 ? known : known | ACCESS_FS_IOCTL_DEV;
}

bool sandbox_landlock_begin(struct sandbox_landlock *landlock)
{
    *landlock = (struct sandbox_landlock){ .ruleset = -1 };
    landlock->abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (landlock->abi < 1) {
        return false;
    }
    landlock->handled = rights_known(landlock->abi);
    landlock->handled_net = landlock->abi < 4 ? 0 : ACCESS_NET_BIND_TCP | ACCESS_NET_CONNECT_TCP;
    /* Of fields that are newer than a kernel it asks that they be zero. */
    struct ruleset ruleset = { landlock->handled, landlock->handled_net,
                               landlock->abi < 6 ? 0 : SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL };
    landlock->ruleset = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof ruleset, 0);
    return landlock->ruleset >= 0;
}

void sandbox_landlock_allow(struct sandbox_landlock *landlock, const char *path, enum sandbox_access access)
{
    struct stat found;
    struct landlock_path_beneath_attr place = {
        .allowed_access = rights[access] & landlock->handled,
        .parent_fd = open(path, O_PATH | O_CLOEXEC),
    };
    if (place.parent_fd < 0) {
        return; /* what cannot be reached now is not needed, or is missed by those who need it */
    }
    if (fstat(place.parent_fd, &found) == 0 && !S_ISDIR(found.st_mode)) {
        place.allowed_access &= OF_FILES;
    }
    if (syscall(SYS_landlock_add_rule, landlock->ruleset, LANDLOCK_RULE_PATH_BENEATH, &place, 0) != 0) {
        landlock->error = errno;
        snprintf(landlock->failed, sizeof landlock->failed, "%s", path);
    }
    close(place.parent_fd);
}

void sandbox_landlock_connect(struct sandbox_landlock *landlock, uint16_t port)
{
    struct net_port rule = { ACCESS_NET_CONNECT_TCP, port };
    if (landlock->handled_net != 0 && syscall(SYS_landlock_add_rule, landlock->ruleset, RULE_NET_PORT, &rule, 0) != 0) {
        landlock->error = errno;
        snprintf(landlock->failed, sizeof landlock->failed, "port %u", (unsigned)port);
    }
}

int sandbox_landlock_enforce(struct sandbox_landlock *landlock)
{
    int error = landlock->error;
    if (error == 0 && syscall(SYS_landlock_restrict_self, landlock->ruleset, 0) != 0) {
        error = errno;
    }
    close(landlock->ruleset);
    return error;
}
