/* Who the process is, and what of root's power it keeps. */
#include "tests/unit/server/sandbox_fixture.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static void try_nobody(void)
{
    char message[300], name[64];
    gid_t groups[8];
    if (sandbox_become("nobody", message, sizeof message) != STATUS_OK) {
        _exit(2);
    }
    sandbox_user_name(name, sizeof name);
    if (strcmp(name, "nobody") != 0 || getuid() == 0 || getgid() == 0 || getgroups(8, groups) != 1 || groups[0] == 0) {
        _exit(3);
    }
    EXPECT(setuid(0), EPERM);
    EXPECT(open("/etc/shadow", O_RDONLY), EACCES);
    if (sandbox_become("nobody", message, sizeof message) != STATUS_OK ||
        sandbox_become("root", message, sizeof message) != STATUS_DENIED || strstr(message, "start as root") == NULL) {
        _exit(4);
    }
}

static void the_user_is_dropped_to(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    in_child(try_nobody);
}

/* Of /proc/self/status, a set of capabilities. */
static uint64_t capabilities(const char *name)
{
    char line[256];
    uint64_t set = ~0ull;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            set = strtoull(line + strlen(name) + 1, NULL, 16);
        }
    }
    assert_non_null(status);
    fclose(status);
    return set;
}

static void keep_as_nobody(uint32_t kept)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct sets[2] = { { kept, kept, kept }, { 0 } };
    EXPECT(prctl(PR_SET_KEEPCAPS, 1), 0);
    EXPECT(setresgid(65534, 65534, 65534), 0);
    EXPECT(setresuid(65534, 65534, 65534), 0);
    EXPECT(syscall(SYS_capset, &head, sets), 0);
    for (int i = 0; i < 32; i++) {
        if ((kept >> i & 1) != 0) {
            EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0), 0);
        }
    }
}

/* As a unit with too many AmbientCapabilities= starts it. */
static void try_capabilities(void)
{
    keep_as_nobody(1u << CAP_LEASE | 1u << CAP_NET_BIND_SERVICE | 1u << CAP_DAC_OVERRIDE);
    EXPECT(-sandbox_drop_capabilities(), 0);
    if (capabilities("CapEff") != 1u << CAP_LEASE || capabilities("CapPrm") != 1u << CAP_LEASE ||
        capabilities("CapInh") != 0 || capabilities("CapAmb") != 0) {
        _exit(5);
    }
}

static void capabilities_are_given_up(void **state)
{
    (void)state;
    if (geteuid() != 0 || capabilities("CapEff") >> CAP_DAC_OVERRIDE == 0) {
        skip();
    }
    in_child(try_capabilities);
    assert_int_equal(sandbox_drop_capabilities(), 0); /* root keeps his */
    assert_int_not_equal(capabilities("CapEff"), 0);
}

static void *wait_for_word(void *owner)
{
    char word;
    assert_int_equal(read(*(int *)owner, &word, 1), 1);
    return NULL;
}

static void threads_are_counted(void **state)
{
    (void)state;
    int ends[2];
    pthread_t thread;
    assert_int_equal(pipe(ends), 0);
    bool alone = sandbox_is_one_thread();
    assert_int_equal(pthread_create(&thread, NULL, wait_for_word, &ends[0]), 0);
    assert_false(sandbox_is_one_thread());
    assert_int_equal(write(ends[1], "x", 1), 1);
    pthread_join(thread, NULL);
    close(ends[0]);
    close(ends[1]);
#ifndef UPDRAFT_SANITIZED
    assert_true(alone);
#endif
    (void)alone;
}

static void a_user_that_is_not_there(void **state)
{
    (void)state;
    char message[300];
    assert_int_equal(sandbox_become("no-such-user", message, sizeof message), STATUS_NOT_FOUND);
    assert_non_null(strstr(message, "--user no-such-user: there is no such user"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_user_is_dropped_to),
        cmocka_unit_test(capabilities_are_given_up),
        cmocka_unit_test(threads_are_counted),
        cmocka_unit_test(a_user_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
