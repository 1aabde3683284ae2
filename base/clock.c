/* The two clocks, read together. */
#include "base/clock.h"

#include <time.h>

struct moment clock_moment(const uv_loop_t *loop)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME_COARSE, &now); /* to a tick of the kernel; it cannot fail for this clock */
    uint64_t ms = uv_now(loop);
    return (struct moment){ .ms = ms > 0 ? ms : 1, .unix_s = (uint32_t)now.tv_sec };
}
