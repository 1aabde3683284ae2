/* Counts what a program's first thread takes from the heap: LD_PRELOAD it, and name a file of at least eight bytes in
 * UPDRAFT_ALLOCATIONS. The file is mapped, and its first eight bytes are the number of allocations so far.
 *
 * The calls go on to glibc's own names, so that nothing needs to be looked up by an allocating dlsym. With a sanitizer,
 * which brings a heap of its own, there is nothing to count.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNTED __attribute__((visibility("default")))

static uint64_t *count;
static _Thread_local int is_first __attribute__((tls_model("initial-exec"))); /* no lazy TLS, which would allocate */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *old, size_t n);
void *__libc_memalign(size_t alignment, size_t n);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("UPDRAFT_ALLOCATIONS");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *mapped = fd >= 0 ? mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (fd >= 0) {
        close(fd);
    }
    if (mapped != MAP_FAILED) {
        count = mapped;
        is_first = 1;
    }
}

static void counted(void)
{
    if (is_first) {
        ++*(volatile uint64_t *)count;
    }
}

COUNTED void *malloc(size_t n)
{
    counted();
    return __libc_malloc(n);
}

COUNTED void *calloc(size_t n, size_t bytes)
{
    counted();
    return __libc_calloc(n, bytes);
}

COUNTED void *realloc(void *old, size_t n)
{
    counted();
    return __libc_realloc(old, n);
}

COUNTED void *aligned_alloc(size_t alignment, size_t n)
{
    counted();
    return __libc_memalign(alignment, n);
}

COUNTED int posix_memalign(void **to, size_t alignment, size_t n)
{
    counted();
    void *made = __libc_memalign(alignment, n);
    if (made == NULL) {
        return ENOMEM;
    }
    *to = made;
    return 0;
}
