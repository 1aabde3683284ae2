/* How many devices may be under way at once, found out by trying: one more as long as transfers flow, half as many when
 * they stall, or when the image fails so often that it is on its way to a halt (AIMD, as TCP finds its rate). Pure;
 * between bounds.
 */
#ifndef FLEET_WINDOW_H
#define FLEET_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define WINDOW_START     32
#define WINDOW_MIN       4
#define WINDOW_MAX       2048
#define WINDOW_FREEZE_MS 10000 /* of stalls and failures within it, only the first halves: they have one cause */

struct window {
    uint32_t fixed;    /* 0 = adaptive */
    uint32_t size;     /* how many */
    uint32_t flowed;   /* since it last grew */
    bool stalled_once; /* until the first stall every success adds one; then a window full of them */
    uint64_t halved_ms;
};

void window_init(struct window *window, uint32_t fixed); /* fixed: as ordered; 0 = adaptive, from WINDOW_START */
void window_flowed(struct window *window);               /* a whole transfer while the window was full */
/* A transfer was cut, stalled, or not ended within the hour; or a device failed where many do (rollout_fails_often). */
void window_stalled(struct window *window, uint64_t now_ms);
static inline uint32_t window_size(const struct window *window)
{
    return window->fixed > 0 ? window->fixed : window->size;
}

#endif
