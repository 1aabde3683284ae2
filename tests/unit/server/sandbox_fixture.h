/* What a process gives up is tried by a child, since it never gets it back. */
#ifndef TESTS_UNIT_SERVER_SANDBOX_FIXTURE_H
#define TESTS_UNIT_SERVER_SANDBOX_FIXTURE_H

#include "server/sandbox.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* What a child says of a call: 0 or its errno. */
#define TRIED(call) ((call) >= 0 ? 0 : errno)

#define EXPECT(call, wanted)                                                                                           \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        int said_ = TRIED(call);                                                                                       \
        if (said_ != (wanted)) {                                                                                       \
            fprintf(stderr, "%s:%d: %s: %s, not %s\n", __FILE__, __LINE__, #call, strerror(said_), strerror(wanted));  \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

static inline void in_child(void (*act)(void))
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        act();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

#endif
