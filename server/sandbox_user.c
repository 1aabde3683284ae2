/* Root is needed to take ports below 1024 and to read keys that are root's; then no more. */
#include "server/sandbox.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static enum status find_user(const char *name, const struct passwd **user, char *message, size_t size)
{
    errno = 0;
    *user = getpwnam(name);
    if (*user == NULL) {
        snprintf(message, size, "--user %s: %s", name,
                 errno == 0 || errno == ENOENT ? "there is no such user: make it (useradd --system), or name another"
                                               : strerror(errno));
        return STATUS_NOT_FOUND;
    }
    if (geteuid() != 0 && geteuid() != (*user)->pw_uid) {
        snprintf(message, size, "--user %s: only root can become another user: start as root, or take this away", name);
        return STATUS_DENIED;
    }
    return STATUS_OK;
}

enum status sandbox_become(const char *name, char *message, size_t size)
{
    const struct passwd *user;
    enum status status = find_user(name, &user, message, size);
    if (status != STATUS_OK || geteuid() == user->pw_uid) {
        return status;
    }
    uid_t uid = user->pw_uid;
    gid_t gid = user->pw_gid;
    if (initgroups(name, gid) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0) {
        snprintf(message, size, "--user %s: %s: start with the capabilities SETUID and SETGID, or as that user", name,
                 strerror(errno));
        return STATUS_DENIED;
    }
    if (setresuid(0, 0, 0) == 0 || getegid() != gid) { /* a kernel or container that only pretends */
        snprintf(message, size, "--user %s: the way back to root stays open here: start as that user", name);
        return STATUS_DENIED;
    }
    return STATUS_OK;
}

void sandbox_user_name(char *to, size_t size)
{
    const struct passwd *user = getpwuid(geteuid());
    if (user != NULL) {
        snprintf(to, size, "%s", user->pw_name);
    } else {
        snprintf(to, size, "%ju", (uintmax_t)geteuid());
    }
}

bool sandbox_no_new_privileges(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

/* By its system calls: libc has no functions for them. None is made where there is nothing to give up, as under the
 * systemd unit, whose own filter does not know them. */
int sandbox_drop_capabilities(void)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = { { 0 } };
    const uint32_t lease = 1u << CAP_LEASE;
    static_assert(CAP_LEASE < 32, "in the first word");
    if (geteuid() == 0) {
        return 0;
    }
    if (syscall(SYS_capget, &head, sets) != 0) {
        return errno;
    }
    if ((sets[0].permitted & ~lease) == 0 && sets[1].permitted == 0) {
        return 0;
    }
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* what is not permitted is not ambient either */
    sets[0].permitted &= lease;
    sets[0].effective = sets[0].permitted;
    sets[0].inheritable = 0;
    memset(&sets[1], 0, sizeof sets[1]);
    return syscall(SYS_capset, &head, sets) == 0 ? 0 : errno;
}

bool sandbox_is_one_thread(void)
{
    struct stat tasks;
    return stat("/proc/self/task", &tasks) != 0 || tasks.st_nlink <= 3; /* "." and "..", and a folder a thread */
}
