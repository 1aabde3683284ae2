/* Each case is tried by a child, since what it gives up it never gets back. */
#include "tests/unit/server/sandbox_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char home[] = "/tmp/updraft-sandbox-XXXXXX";

/* `name` below the test's folder. The texts of the last few calls are kept. */
static const char *at(const char *name)
{
    static char texts[4][128];
    static int next;
    next = (next + 1) % 4;
    snprintf(texts[next], sizeof texts[next], "%s/%s", home, name);
    return texts[next];
}

static void write_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0 && write(fd, "text", 4) == 4);
    close(fd);
}

/* A folder to write, one to read, one for a socket, and one that is nobody's business. */
static int set_up(void **state)
{
    (void)state;
    static const char *const folders[] = { "state", "certs", "run", "secret" };
    assert_non_null(mkdtemp(home));
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char file[160];
        assert_int_equal(mkdir(at(folders[i]), 0755), 0);
        snprintf(file, sizeof file, "%s/file", at(folders[i]));
        write_file(file);
    }
    assert_int_equal(symlink("../secret/file", at("state/out")), 0);
    assert_int_equal(symlink("file", at("state/in")), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s", home);
    return system(command);
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static bool has_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, 1) > 0;
}

static void confine_files(void)
{
    struct sandbox_landlock landlock;
    if (!sandbox_no_new_privileges() || !sandbox_landlock_begin(&landlock)) {
        _exit(2);
    }
    sandbox_landlock_allow(&landlock, at("state"), SANDBOX_WRITE);
    sandbox_landlock_allow(&landlock, at("certs"), SANDBOX_READ);
    sandbox_landlock_allow(&landlock, at("run"), SANDBOX_SOCKET);
    sandbox_landlock_allow(&landlock, at("nowhere"), SANDBOX_READ);
    sandbox_landlock_connect(&landlock, 9);
    sandbox_landlock_allow(&landlock, "/dev/null", SANDBOX_WRITE); /* a file, of which fewer rights can be given */
    if (sandbox_landlock_enforce(&landlock) != 0) {
        _exit(3);
    }
}

/* A sanitizer may start its symbolizer. */
static void try_starting(const char *program)
{
#ifndef UPDRAFT_SANITIZED
    EXPECT(execl(program, "program", (char *)NULL), EACCES);
#else
    (void)program;
#endif
}

static void try_writing(void)
{
    confine_files();
    EXPECT(open(at("state/file"), O_RDWR | O_TRUNC), 0);
    EXPECT(open(at("state/new"), O_WRONLY | O_CREAT, 0600), 0);
    EXPECT(mkdir(at("state/folder"), 0700), 0);
    EXPECT(rename(at("state/new"), at("state/folder/new")), 0);
    EXPECT(link(at("state/file"), at("state/linked")), 0);
    EXPECT(truncate(at("state/linked"), 1), 0);
    EXPECT(unlink(at("state/folder/new")), 0);
    EXPECT(rmdir(at("state/folder")), 0);
    EXPECT(open("/dev/null", O_RDWR), 0);
    EXPECT(mknod(at("state/device"), S_IFCHR | 0600, 0), EACCES);
    EXPECT(symlink("/etc", at("state/link")), EACCES);
    EXPECT(chmod(at("state/file"), 0755), 0);
    try_starting(at("state/file"));
}

static void try_reading(void)
{
    confine_files();
    EXPECT(open(at("certs"), O_RDONLY | O_DIRECTORY), 0);
    EXPECT(open(at("certs/file"), O_RDONLY), 0);
    EXPECT(open(at("certs/file"), O_RDWR), EACCES);
    EXPECT(open(at("certs/new"), O_WRONLY | O_CREAT, 0600), EACCES);
    EXPECT(unlink(at("certs/file")), EACCES);
    EXPECT(truncate(at("certs/file"), 0), EACCES);
}

static void try_outside(void)
{
    confine_files();
    EXPECT(open(at("secret/file"), O_RDONLY), EACCES);
    EXPECT(open(at("secret"), O_RDONLY | O_DIRECTORY), EACCES);
    EXPECT(open("/etc/passwd", O_RDONLY), EACCES);
    EXPECT(open("/", O_RDONLY | O_DIRECTORY), EACCES);
    EXPECT(open("/proc/1/environ", O_RDONLY), EACCES);
    try_starting("/bin/true");
    EXPECT(open(at("state/in"), O_RDONLY), 0);
    EXPECT(open(at("state/out"), O_RDONLY), EACCES);
    EXPECT(rename(at("state/file"), at("secret/file2")), EACCES);
}

static void try_sockets(void)
{
    confine_files();
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", at("run/socket"));
    EXPECT(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    EXPECT(unlink(at("run/socket")), 0);
    EXPECT(open(at("run/file"), O_RDONLY), EACCES);
    EXPECT(open(at("run/new"), O_WRONLY | O_CREAT, 0600), EACCES);
}

/* Nobody listens at either. Ports taken before stay ours. */
static void try_ports(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int before = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT(bind(before, (struct sockaddr *)&address, sizeof address), 0);
    confine_files();
    EXPECT(listen(before, 1), 0);
    EXPECT(bind(fd, (struct sockaddr *)&address, sizeof address), EACCES);
    address.sin_port = htons(9);
    EXPECT(connect(fd, (struct sockaddr *)&address, sizeof address), ECONNREFUSED);
    address.sin_port = htons(10);
    EXPECT(connect(fd, (struct sockaddr *)&address, sizeof address), EACCES);
}

/* Of our parent, who listens at an abstract address, and whom root could otherwise reach by signals. */
static void try_scopes(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), pair[2];
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "updraft-test-%d", (int)getppid());
    EXPECT(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    confine_files();
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT(connect(fd, (struct sockaddr *)&address, sizeof address), EPERM);
    EXPECT(kill(getppid(), 0), EPERM);
    EXPECT(kill(getpid(), 0), 0);
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
}

static void others_are_out_of_reach(void **state)
{
    (void)state;
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 6) {
        skip();
    }
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "updraft-test-%d", (int)getpid());
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 4), 0);
    in_child(try_scopes);
    close(fd);
}

static void ports_are_confined(void **state)
{
    (void)state;
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 4) {
        skip();
    }
    in_child(try_ports);
}

static void files_are_confined(void **state)
{
    (void)state;
    if (!has_landlock()) {
        skip();
    }
    in_child(try_writing);
    in_child(try_reading);
    in_child(try_outside);
    in_child(try_sockets);
}

/* A set that cannot be had is said, and nothing is enforced. */
static void try_broken_set(void)
{
    struct sandbox_landlock landlock;
    if (!sandbox_no_new_privileges() || !sandbox_landlock_begin(&landlock)) {
        _exit(2);
    }
    int ruleset = landlock.ruleset;
    landlock.ruleset = open("/dev/null", O_RDONLY);
    sandbox_landlock_allow(&landlock, "/etc", SANDBOX_READ);
    close(ruleset);
    if (sandbox_landlock_enforce(&landlock) == 0 || strcmp(landlock.failed, "/etc") != 0) {
        _exit(3);
    }
    EXPECT(open("/etc/passwd", O_RDONLY), 0);
}

static void a_place_that_cannot_be_allowed(void **state)
{
    (void)state;
    if (!has_landlock()) {
        skip();
    }
    in_child(try_broken_set);
}

/* --- system calls ------------------------------------------------------------------------------------------------- */

static void confine_calls(void)
{
    if (!sandbox_no_new_privileges() || sandbox_calls_hide() != 0 || sandbox_calls_enforce() != 0) {
        _exit(2);
    }
}

static void try_programs(void)
{
    confine_calls();
    EXPECT(execl("/bin/true", "true", (char *)NULL), EPERM);
    EXPECT(syscall(SYS_execveat, AT_FDCWD, "/bin/true", NULL, NULL, 0), EPERM);
    EXPECT(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0), EPERM); /* a process */
    EXPECT(syscall(SYS_clone3, NULL, 0), ENOSYS);
    EXPECT(syscall(SYS_io_uring_setup, 0, NULL), ENOSYS);
#ifdef SYS_fork
    EXPECT(syscall(SYS_fork), EPERM);
#endif
}

static void try_others(void)
{
    confine_calls();
    EXPECT(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL), EPERM);
    EXPECT(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0), EPERM);
    EXPECT(kill(getppid(), 0), EPERM);
    EXPECT(syscall(SYS_tgkill, getppid(), getppid(), 0), EPERM);
    EXPECT(syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), 0), 0);
    EXPECT(syscall(SYS_pidfd_open, getppid(), 0), EPERM);
    struct rlimit limit;
    EXPECT(prlimit(getppid(), RLIMIT_NOFILE, NULL, &limit), EPERM);
    EXPECT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void try_powers(void)
{
    static const long calls[] = { SYS_setresuid,       SYS_setgroups,   SYS_mount,      SYS_umount2,
                                  SYS_chroot,          SYS_unshare,     SYS_setns,      SYS_bpf,
                                  SYS_perf_event_open, SYS_init_module, SYS_kexec_load, SYS_keyctl,
                                  SYS_io_uring_enter,  SYS_userfaultfd, SYS_reboot,     SYS_seccomp,
                                  SYS_personality,     SYS_mknodat,     SYS_symlinkat,  SYS_process_vm_writev,
                                  SYS_fchmodat,        SYS_fchownat,    SYS_utimensat,  SYS_setxattr };
    confine_calls();
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        EXPECT(syscall(calls[i], -1, -1, -1, -1, -1, -1), EPERM);
    }
    EXPECT(prctl(PR_SET_DUMPABLE, 1), EPERM);
    EXPECT(prctl(PR_SET_NAME, "name"), 0);
}

static void try_families(void)
{
    static const int open_ones[] = { AF_INET, AF_INET6, AF_UNIX },
                     shut_ones[] = { AF_PACKET, AF_VSOCK, AF_ALG, AF_KEY };
    confine_calls();
    for (size_t i = 0; i < sizeof open_ones / sizeof open_ones[0]; i++) {
        EXPECT(socket(open_ones[i], SOCK_STREAM, 0), 0);
    }
    EXPECT(socket(AF_NETLINK, SOCK_RAW, 0), 0);
    for (size_t i = 0; i < sizeof shut_ones / sizeof shut_ones[0]; i++) {
        EXPECT(socket(shut_ones[i], SOCK_RAW, 0), EPERM);
    }
}

static int map(int protection)
{
    void *at_ = mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at_ == MAP_FAILED ? -1 : 0;
}

static void try_memory(void)
{
    confine_calls();
    EXPECT(map(PROT_READ | PROT_WRITE), 0);
    EXPECT(map(PROT_READ | PROT_EXEC), 0);
    EXPECT(map(PROT_READ | PROT_WRITE | PROT_EXEC), EPERM);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(mprotect(page, 4096, PROT_READ), 0);
    EXPECT(mprotect(page, 4096, PROT_READ | PROT_EXEC), EPERM);
}

static void *answer(void *owner)
{
    return owner;
}

static void try_everyday(void)
{
    static int mark;
    pthread_t thread;
    void *said = NULL;
    confine_calls();
    EXPECT(-pthread_create(&thread, NULL, answer, &mark), 0);
    EXPECT(-pthread_join(thread, &said), 0);
    int file = open("/etc/passwd", O_RDONLY | O_CLOEXEC), pair[2];
    EXPECT(file, 0);
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    EXPECT(sendfile(pair[0], file, NULL, 10), 0);
    EXPECT(said == &mark ? 0 : -1, 0);
    abort();
}

static void calls_are_confined(void **state)
{
    (void)state;
    in_child(try_programs);
    in_child(try_others);
    in_child(try_powers);
    in_child(try_families);
    in_child(try_memory);
}

/* What the server does all day goes on, to the end by a broken promise. */
static void everyday_calls_go_on(void **state)
{
    (void)state;
    int status;
    pid_t child = fork();
    if (child == 0) {
        try_everyday();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_confined),      cmocka_unit_test(ports_are_confined),
        cmocka_unit_test(others_are_out_of_reach), cmocka_unit_test(a_place_that_cannot_be_allowed),
        cmocka_unit_test(calls_are_confined),      cmocka_unit_test(everyday_calls_go_on),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
