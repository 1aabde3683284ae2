/* The list of system calls, as it comes out on the architectures that we cannot run here: the filter's own program is
 * carried out on them. What it does to a process is in test_sandbox.c. */
#include "server/sandbox.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

enum { X86_64 = 1, ARM64 = 2, ARMHF = 4, ALL = 7 };

static const struct {
    int bit;
    uint32_t id;
} architectures[] = { { X86_64, SCMP_ARCH_X86_64 }, { ARM64, SCMP_ARCH_AARCH64 }, { ARMHF, SCMP_ARCH_ARM } };

struct program {
    struct sock_filter steps[4096];
    size_t count;
};

static void program_of(uint32_t architecture, struct program *program)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(sandbox_calls_write(architecture, fd), 0);
    ssize_t n = pread(fd, program->steps, sizeof program->steps, 0);
    assert_true(n > 0 && n < (ssize_t)sizeof program->steps);
    program->count = (size_t)n / sizeof program->steps[0];
    close(fd);
}

static bool jumps(const struct sock_filter *step, uint32_t loaded)
{
    switch (BPF_OP(step->code)) {
    case BPF_JEQ:
        return loaded == step->k;
    case BPF_JGT:
        return loaded > step->k;
    case BPF_JGE:
        return loaded >= step->k;
    default:
        assert_int_equal(BPF_OP(step->code), BPF_JSET);
        return (loaded & step->k) != 0;
    }
}

/* What the kernel would say: SECCOMP_RET_…; all of BPF that libseccomp writes. */
static uint32_t carry_out(const struct program *program, const struct seccomp_data *call)
{
    uint32_t loaded = 0;
    for (size_t at = 0; at < program->count; at++) {
        const struct sock_filter *step = &program->steps[at];
        if (BPF_CLASS(step->code) == BPF_RET) {
            return step->k;
        } else if (step->code == (BPF_LD | BPF_W | BPF_ABS)) {
            memcpy(&loaded, (const char *)call + step->k, sizeof loaded);
        } else if (step->code == (BPF_ALU | BPF_AND | BPF_K)) {
            loaded &= step->k;
        } else if (step->code == (BPF_JMP | BPF_JA)) {
            at += step->k;
        } else {
            assert_int_equal(BPF_CLASS(step->code), BPF_JMP);
            at += jumps(step, loaded) ? step->jt : step->jf;
        }
    }
    fail_msg("a program without an end");
    return 0;
}

/* The answer to a call by its name, whose first argument is as said. Where there is none on the architecture: that of
 * an unknown number. */
static uint32_t answer(const struct program *program, uint32_t architecture, const char *name, uint64_t argument)
{
    int number = seccomp_syscall_resolve_name_arch(architecture, name);
    if (number == __NR_SCMP_ERROR) {
        fail_msg("%s is no system call", name);
    }
    struct seccomp_data call = { .nr = number, .arch = architecture, .args = { argument } };
    return carry_out(program, &call);
}

/* What C libraries make of what we do: those of Debian 12 and 13 (glibc 2.36, 2.41), and musl's. */
static const struct {
    const char *name;
    int on;
} needed[] = {
    { "openat", ALL },
    { "openat2", ALL },
    { "close", ALL },
    { "close_range", ALL },
    { "read", ALL },
    { "pread64", ALL },
    { "writev", ALL },
    { "sendfile", X86_64 | ARM64 },
    { "sendfile64", ARMHF },
    { "newfstatat", X86_64 | ARM64 },
    { "fstatat64", ARMHF },
    { "fstat", X86_64 | ARM64 },
    { "fstat64", ARMHF },
    { "statx", ALL },
    { "stat", X86_64 },
    { "lseek", ALL },
    { "_llseek", ARMHF },
    { "getdents64", ALL },
    { "unlinkat", ALL },
    { "unlink", X86_64 | ARMHF },
    { "renameat", ALL },
    { "renameat2", ALL },
    { "linkat", ALL },
    { "mkdirat", ALL },
    { "fsync", ALL },
    { "fdatasync", ALL },
    { "ftruncate", ALL },
    { "ftruncate64", ARMHF },
    { "flock", ALL },
    { "fcntl", ALL },
    { "fcntl64", ARMHF },
    { "faccessat", ALL },
    { "faccessat2", ALL },
    { "memfd_create", ALL },
    { "epoll_create1", ALL },
    { "epoll_pwait", ALL },
    { "epoll_wait", X86_64 | ARMHF },
    { "epoll_ctl", ALL },
    { "eventfd2", ALL },
    { "pipe2", ALL },
    { "inotify_init1", ALL },
    { "poll", X86_64 | ARMHF },
    { "ppoll", ALL },
    { "ppoll_time64", ARMHF },
    { "select", X86_64 },
    { "_newselect", ARMHF },
    { "pselect6", ALL },
    { "pselect6_time64", ARMHF },
    { "accept4", ALL },
    { "recvmmsg", ALL },
    { "recvmmsg_time64", ARMHF },
    { "sendmmsg", ALL },
    { "sendto", ALL },
    { "recvfrom", ALL },
    { "setsockopt", ALL },
    { "brk", ALL },
    { "munmap", ALL },
    { "mremap", ALL },
    { "madvise", ALL },
    { "futex", ALL },
    { "futex_time64", ARMHF },
    { "futex_waitv", ALL },
    { "rseq", ALL },
    { "set_robust_list", ALL },
    { "membarrier", ALL },
    { "rt_sigprocmask", ALL },
    { "rt_sigreturn", ALL },
    { "rt_sigtimedwait_time64", ARMHF },
    { "sigreturn", ARMHF },
    { "restart_syscall", ALL },
    { "clock_gettime", ALL },
    { "clock_gettime64", ARMHF },
    { "clock_nanosleep", ALL },
    { "clock_nanosleep_time64", ARMHF },
    { "gettimeofday", ALL },
    { "time", X86_64 },
    { "timerfd_settime64", ARMHF },
    { "fchmod", ALL },
    { "fchown", ALL },
    { "fchown32", ARMHF },
    { "getrandom", ALL },
    { "geteuid", ALL },
    { "geteuid32", ARMHF },
    { "ugetrlimit", ARMHF },
    { "exit_group", ALL },
    { "uname", ALL },
};

static void what_each_architecture_needs(void **state)
{
    (void)state;
    static struct program program;
    for (size_t i = 0; i < COUNT_OF(architectures); i++) {
        uint32_t id = architectures[i].id;
        program_of(id, &program);
        for (size_t k = 0; k < COUNT_OF(needed); k++) {
            if ((needed[k].on & architectures[i].bit) != 0 &&
                answer(&program, id, needed[k].name, 0) != SECCOMP_RET_ALLOW) {
                fail_msg("%s is refused on architecture %x", needed[k].name, id);
            }
        }
    }
}

/* A number that means something harmless on one architecture means another call elsewhere. */
static void what_none_is_given(void **state)
{
    (void)state;
    static const char *const refused[] = { "execve",
                                           "execveat",
                                           "ptrace",
                                           "process_vm_readv",
                                           "mount",
                                           "setns",
                                           "unshare",
                                           "bpf",
                                           "init_module",
                                           "finit_module",
                                           "io_uring_register",
                                           "io_uring_enter",
                                           "keyctl",
                                           "setuid",
                                           "setresuid",
                                           "setgroups",
                                           "kill",
                                           "tkill",
                                           "pidfd_open",
                                           "pidfd_getfd",
                                           "mknodat",
                                           "chmod",
                                           "chown",
                                           "lchown",
                                           "fchmodat",
                                           "fchownat",
                                           "utimes",
                                           "utimensat",
                                           "setxattr",
                                           "symlinkat",
                                           "chroot",
                                           "pivot_root",
                                           "userfaultfd",
                                           "perf_event_open",
                                           "seccomp",
                                           "personality",
                                           "capset",
                                           "reboot",
                                           "kexec_load",
                                           "swapon" };
    static struct program program;
    for (size_t i = 0; i < COUNT_OF(architectures); i++) {
        uint32_t id = architectures[i].id;
        program_of(id, &program);
        for (size_t k = 0; k < COUNT_OF(refused); k++) {
            if (answer(&program, id, refused[k], 0) != (SECCOMP_RET_ERRNO | EPERM)) {
                fail_msg("%s is allowed on architecture %x", refused[k], id);
            }
        }
        assert_int_equal(answer(&program, id, "socket", AF_INET), SECCOMP_RET_ALLOW);
        assert_int_equal(answer(&program, id, "socket", AF_PACKET), SECCOMP_RET_ERRNO | EPERM);
        assert_int_equal(answer(&program, id, "prlimit64", 0), SECCOMP_RET_ALLOW);
        assert_int_equal(answer(&program, id, "prlimit64", 1), SECCOMP_RET_ERRNO | EPERM);
        struct seccomp_data foreign = { .nr = 0, .arch = architectures[(i + 1) % COUNT_OF(architectures)].id };
        assert_int_not_equal(carry_out(&program, &foreign), SECCOMP_RET_ALLOW);
    }
}

/* A name that is misspelt is a call that is refused, on a machine that we never see. */
static void names_are_known(void **state)
{
    (void)state;
    static const char *const newer_than_libseccomp_2_5[] = { "mseal" };
    const char *name;
    for (size_t i = 0; (name = sandbox_call_name(i)) != NULL; i++) {
        bool newer = false;
        for (size_t k = 0; k < COUNT_OF(newer_than_libseccomp_2_5); k++) {
            newer = newer || strcmp(name, newer_than_libseccomp_2_5[k]) == 0;
        }
        if (!newer && seccomp_syscall_resolve_name(name) == __NR_SCMP_ERROR) {
            fail_msg("%s is no system call", name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_known),
        cmocka_unit_test(what_each_architecture_needs),
        cmocka_unit_test(what_none_is_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
