/* Time, as a parameter: whoever decides by time is told it, so that a test can turn it.
 *
 * Two clocks, because neither does both: deadlines run on the loop's, which never jumps; what people read and what
 * outlives the process is the calendar's, which may jump (a small computer without a battery wakes up in 1970).
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <uv.h>

struct moment {
    uint64_t ms;     /* monotonic, of this process; never 0 */
    uint32_t unix_s; /* seconds since 1970 */
};

struct moment clock_moment(const uv_loop_t *loop);

#endif
