/* The system calls that updraftd and its libraries make, of all C libraries and architectures that it is built for:
 * gathered from the tests, and from the sources of what they do not reach. A name that an architecture does not have is
 * passed over. What is left out is what somebody who has taken the process over would want: to start programs, to look
 * into other processes, to become someone, to mount, to load; to change files by their paths alone, of which Landlock
 * knows nothing (SQLite changes what it has opened); and io_uring, behind which the kernel asks no filter.
 *
 * Calls whose arguments do not matter cost next to nothing: the kernel (5.11) keeps a bitmap of them. So a call that
 * is made for each request has no rule about its arguments.
 */
#include "server/sandbox.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const allowed[] = {
    /* connections */
    "accept",
    "accept4",
    "bind",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "listen",
    "recv",
    "recvfrom",
    "recvmmsg",
    "recvmmsg_time64",
    "recvmsg",
    "send",
    "sendfile",
    "sendfile64",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socketpair",
    /* the loop */
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd",
    "eventfd2",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "pipe",
    "pipe2",
    "poll",
    "ppoll",
    "ppoll_time64",
    "pselect6",
    "pselect6_time64",
    "select",
    "_newselect",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_settime64",
    /* files */
    "access",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fadvise64_64",
    "arm_fadvise64_64",
    "fallocate",
    "fchmod",
    "fchown",
    "fchown32",
    "fcntl",
    "fcntl64",
    "fdatasync",
    "flock",
    "fstat",
    "fstat64",
    "fstatat64",
    "fstatfs",
    "fstatfs64",
    "fsync",
    "ftruncate",
    "ftruncate64",
    "getcwd",
    "getdents",
    "getdents64",
    "link",
    "linkat",
    "_llseek",
    "lseek",
    "lstat",
    "lstat64",
    "memfd_create",
    "mkdir",
    "mkdirat",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pread64",
    "preadv",
    "pwrite64",
    "pwritev",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "stat",
    "stat64",
    "statfs",
    "statfs64",
    "statx",
    "sync_file_range",
    "sync_file_range2",
    "arm_sync_file_range",
    "truncate",
    "truncate64",
    "umask",
    "unlink",
    "unlinkat",
    "write",
    "writev",
    /* memory */
    "brk",
    "madvise",
    "mincore",
    "mremap",
    "mseal",
    "msync",
    "munmap",
    /* threads, and this one's end */
    "exit",
    "exit_group",
    "futex",
    "futex_time64",
    "futex_waitv",
    "get_robust_list",
    "getpid",
    "gettid",
    "membarrier",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_sigtimedwait_time64",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "sigreturn",
    /* time, chance, and who and where we are */
    "clock_getres",
    "clock_getres_time64",
    "clock_gettime",
    "clock_gettime64",
    "clock_nanosleep",
    "clock_nanosleep_time64",
    "getegid",
    "getegid32",
    "geteuid",
    "geteuid32",
    "getgid",
    "getgid32",
    "getgroups",
    "getgroups32",
    "getppid",
    "getrandom",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "gettimeofday",
    "getuid",
    "getuid32",
    "nanosleep",
    "setrlimit",
    "sysinfo",
    "time",
    "times",
    "ugetrlimit",
    "uname",
};

/* Those that are only allowed with an argument, by number, that is as said. */
static const struct {
    const char *name;
    struct scmp_arg_cmp argument;
} allowed_with[] = {
    { "socket", { 0, SCMP_CMP_EQ, AF_INET, 0 } },
    { "socket", { 0, SCMP_CMP_EQ, AF_INET6, 0 } },
    { "socket", { 0, SCMP_CMP_EQ, AF_UNIX, 0 } },
    { "socket", { 0, SCMP_CMP_EQ, AF_NETLINK, 0 } }, /* this machine's addresses */
    { "clone", { 0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD } },
    { "prctl", { 0, SCMP_CMP_EQ, PR_SET_NAME, 0 } },
    { "prlimit64", { 0, SCMP_CMP_EQ, 0, 0 } }, /* of ourselves */
    { "ioctl", { 1, SCMP_CMP_EQ, FIONBIO, 0 } },
    { "ioctl", { 1, SCMP_CMP_EQ, FIONREAD, 0 } },
    { "ioctl", { 1, SCMP_CMP_EQ, SIOCOUTQ, 0 } },
    { "ioctl", { 1, SCMP_CMP_EQ, SIOCETHTOOL, 0 } },
    { "ioctl", { 1, SCMP_CMP_EQ, TCGETS, 0 } }, /* isatty */
    /* Memory is written or executed, not both; libraries of the name service are executed from their files. */
    { "mmap", { 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0 } },
    { "mmap", { 2, SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE, PROT_EXEC } },
    { "mmap2", { 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0 } },
    { "mmap2", { 2, SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE, PROT_EXEC } },
    { "mprotect", { 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0 } },
};

static int allow(scmp_filter_ctx filter, uint32_t action, const char *name, unsigned count,
                 const struct scmp_arg_cmp *argument)
{
    int call = seccomp_syscall_resolve_name(name);
    return call == __NR_SCMP_ERROR ? 0 : seccomp_rule_add_array(filter, action, call, count, argument);
}

/* clone3's flags lie in memory, where no filter can look; told that there is no such call, C libraries take clone. And
 * libuv 1.45 and newer makes an io_uring with its loop, which it would only use once that is refused, and abort. Both
 * are asked for again at each thread or use, so it is a filter of its own, whose refusals are not in the kernel's log.
 */
static const char *const hidden[] = { "clone3", "io_uring_setup" };

static int answer_hidden(scmp_filter_ctx filter, uint32_t action)
{
    int error = 0;
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0] && error == 0; i++) {
        error = allow(filter, action, hidden[i], 0, NULL);
    }
    return error;
}

static int fill(scmp_filter_ctx filter)
{
    int error = 0;
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0] && error == 0; i++) {
        error = allow(filter, SCMP_ACT_ALLOW, allowed[i], 0, NULL);
    }
    for (size_t i = 0; i < sizeof allowed_with / sizeof allowed_with[0] && error == 0; i++) {
        error = allow(filter, SCMP_ACT_ALLOW, allowed_with[i].name, 1, &allowed_with[i].argument);
    }
    /* abort: an assertion that fails ends us, and nobody else. */
    struct scmp_arg_cmp self = { 0, SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0 };
    error = error == 0 ? allow(filter, SCMP_ACT_ALLOW, "tgkill", 1, &self) : error;
    /* Of what two filters say the stricter counts: that of fill_hidden. */
    error = error == 0 ? answer_hidden(filter, SCMP_ACT_ALLOW) : error;
    /* Refusals are in the kernel's log, where library and kernel can: each is a bug, or an attack. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
    return error;
}

static int fill_hidden(scmp_filter_ctx filter)
{
    return answer_hidden(filter, SCMP_ACT_ERRNO(ENOSYS));
}

const char *sandbox_call_name(size_t i)
{
    const size_t plain = sizeof allowed / sizeof allowed[0], more = sizeof allowed_with / sizeof allowed_with[0];
    return i < plain ? allowed[i] : i < plain + more ? allowed_with[i - plain].name : NULL;
}

int sandbox_calls_write(uint32_t architecture, int fd)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (filter == NULL) {
        return ENOMEM;
    }
    int error = seccomp_arch_remove(filter, seccomp_arch_native());
    error = error == 0 ? seccomp_arch_add(filter, architecture) : error;
    error = error == 0 ? fill(filter) : error;
    error = error == 0 ? seccomp_export_bpf(filter, fd) : error;
    seccomp_release(filter);
    return -error;
}

static int enforce(uint32_t otherwise, int (*fill_filter)(scmp_filter_ctx filter))
{
    scmp_filter_ctx filter = seccomp_init(otherwise);
    if (filter == NULL) {
        return ENOMEM;
    }
    int error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0); /* sandbox_no_new_privileges */
    error = error == 0 ? seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) : error;
    error = error == 0 ? fill_filter(filter) : error;
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, for calls that the bitmap does not know */
    error = error == 0 ? seccomp_load(filter) : error;
    seccomp_release(filter);
    return -error;
}

int sandbox_calls_hide(void)
{
    return enforce(SCMP_ACT_ALLOW, fill_hidden);
}

/* Refusals are errors, not our end: libraries have ways around most of what they cannot have. */
int sandbox_calls_enforce(void)
{
    return enforce(SCMP_ACT_ERRNO(EPERM), fill);
}
