/* The process confines itself: another user, no new privileges, of the file system what it needs (Landlock), of the
 * system calls those that it makes (seccomp). Whoever takes it over has no more than that.
 *
 * Rights of threads begun earlier stay as they were, so all of it comes before the first thread. app_sandbox.c says
 * what updraftd needs.
 */
#ifndef SERVER_SANDBOX_H
#define SERVER_SANDBOX_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- the user ----------------------------------------------------------------------------------------------------- */

/* Drops from root to the user `name` and its groups, for good; nothing happens where it is who runs us. On failure
 * `message` says why, and what to do. */
enum status sandbox_become(const char *name, char *message, size_t size);

/* Who we are: a name, or a number where it has none. */
void sandbox_user_name(char *to, size_t size);

/* For good: no program that we might start gets more rights than we have. */
bool sandbox_no_new_privileges(void);

/* Gives up all capabilities but that of read leases on others' files (repo/scan.c), which the systemd unit grants; root
 * keeps his. Returns 0, or an errno where some are left. */
int sandbox_drop_capabilities(void);

/* Whether this is the only thread. True where nobody can say (no /proc). */
bool sandbox_is_one_thread(void);

/* --- files and TCP: Landlock (Linux 5.13; TCP 6.7; abstract sockets and signals 6.12) ----------------------------- */

enum sandbox_access {
    SANDBOX_READ,
    SANDBOX_WRITE,  /* and read, make and remove; links and devices excepted */
    SANDBOX_SOCKET, /* make a Unix socket in this folder, and remove it */
};

struct sandbox_landlock {
    int ruleset;
    int abi; /* what the kernel can do, by landlock(7)'s numbers */
    uint64_t handled, handled_net;
    int error;        /* an errno: a place could not be allowed, */
    char failed[200]; /* this one, or a port */
};

/* Begins a set of places and ports. Returns false with errno where the kernel has no Landlock, or forbids it. */
bool sandbox_landlock_begin(struct sandbox_landlock *landlock);

/* The place and all below, as it is now: a folder that is made anew under the same name is another. One that is not
 * there is passed over. */
void sandbox_landlock_allow(struct sandbox_landlock *landlock, const char *path, enum sandbox_access access);

/* A port to which a connection may be made. None may be taken, but those that are. */
void sandbox_landlock_connect(struct sandbox_landlock *landlock, uint16_t port);

/* From now on, and for good. Returns 0, or an errno where nothing is enforced; then `failed` is the place, or "". */
int sandbox_landlock_enforce(struct sandbox_landlock *landlock);

/* --- system calls: seccomp ---------------------------------------------------------------------------------------- */

/* For good: what libraries would rather use, and have other ways for, is not there (ENOSYS). To be called before a
 * library finds it there, as libuv does when a loop is made. Needs sandbox_no_new_privileges, as does what follows.
 * Returns 0 or an errno. */
int sandbox_calls_hide(void);

/* From now on, and for good: all others fail with EPERM. After sandbox_calls_hide. Returns 0 or an errno. */
int sandbox_calls_enforce(void);

/* The names of those that are allowed: NULL behind the last. An architecture has some of them. */
const char *sandbox_call_name(size_t i);

/* Writes the filter for another architecture (libseccomp's SCMP_ARCH_…), as the kernel takes it. Returns 0 or an errno.
 */
int sandbox_calls_write(uint32_t architecture, int fd);

#endif
