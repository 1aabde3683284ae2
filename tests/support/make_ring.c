/* What newer libuvs do when a program makes its loop, for tests beside an older one: LD_PRELOAD it. They set up an
 * io_uring, if they can, and end the program where that is refused later (linux.c, uv__epoll_ctl_flush). */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int uv_loop_init(void *loop);

int uv_loop_init(void *loop)
{
    char parameters[256] = { 0 };
    int (*real)(void *) = NULL;
    long ring = syscall(SYS_io_uring_setup, 4, parameters);
    fprintf(stderr, "io_uring: %s\n", ring >= 0 ? "made" : strerror(errno));
    *(void **)&real = dlsym(RTLD_NEXT, "uv_loop_init");
    return real(loop);
}
