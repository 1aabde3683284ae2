/* Additive increase, multiplicative decrease; before the first stall, one more for every success. */
#include "fleet/window.h"

#include <string.h>

void window_init(struct window *window, uint32_t fixed)
{
    memset(window, 0, sizeof *window);
    window->fixed = fixed;
    window->size = WINDOW_START;
}

void window_flowed(struct window *window)
{
    window->flowed++;
    if (window->size < WINDOW_MAX && (!window->stalled_once || window->flowed >= window->size)) {
        window->size++;
        window->flowed = 0;
    }
}

void window_stalled(struct window *window, uint64_t now_ms)
{
    if (window->stalled_once && now_ms - window->halved_ms < WINDOW_FREEZE_MS) {
        return;
    }
    window->stalled_once = true;
    window->halved_ms = now_ms;
    window->flowed = 0;
    window->size = window->size / 2 > WINDOW_MIN ? window->size / 2 : WINDOW_MIN;
}
