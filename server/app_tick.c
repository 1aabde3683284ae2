/* Once a second: how busy the loop is, and what waits for time to pass. While stopping, more often. */
#include "server/app_parts.h"

#include <time.h>

#define BUSY_SMOOTHING 0.2 /* what the last second counts */

static void look_at_busy(struct app *app)
{
    uint64_t now_ns = uv_hrtime();
    uint64_t idle_ns = uv_metrics_idle_time(&app->loop);
    if (app->looked_ns != 0 && now_ns > app->looked_ns) {
        double busy = 1.0 - (double)(idle_ns - app->idle_ns) / (double)(now_ns - app->looked_ns);
        busy = busy < 0 ? 0 : busy > 1 ? 1 : busy;
        app->admin.loop_busy += BUSY_SMOOTHING * (busy - app->admin.loop_busy);
    }
    app->looked_ns = now_ns;
    app->idle_ns = idle_ns;
}

void app_on_tick(uv_timer_t *timer)
{
    struct app *app = timer->data;
    if (app->catalog != NULL) {
        admin_api_tick(&app->admin);
    }
    audit_tick(app->audit);
    if (!app->stopping) {
        look_at_busy(app);
        app_tls_tick(app);
        tokens_save_used(app->tokens, &app->loop, (int64_t)time(NULL));
        struct moment now = clock_moment(&app->loop);
        device_quota_tick(&app->device_api.quota, now.ms);
        rollouts_tick(app->fleet.rollouts, &now);
        trigger_give_up_late(&app->trigger, &now);
        journal_tick(app->fleet.journal);
        heap_trim_tick(&app->heap, &app->loop);
        if (app->url_said) { /* the doors are open */
            app_say_public_url(app);
            trigger_tick(&app->trigger);
        }
    } else if (app->changes_awaited && app->admin.changes == NULL) {
        app->changes_awaited = false;
        app_part_closed(app);
    }
}
