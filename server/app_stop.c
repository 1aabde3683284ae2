/* Stop: whatever talks to the outside ends first, all at once; when the last of it has, the rest follows, each step
 * begun by the end of the one before. A second signal does not wait for transfers. */
#include "server/app_parts.h"

#include "base/log.h"

#include <assert.h>

static void on_blobs_stopped(struct blob_store *store)
{
    /* The last: the loop ends by itself. Until here a second signal must not kill us, which would be no exit 0. */
    struct app *app = store->loop->data;
    for (size_t i = 0; i < sizeof app->signals / sizeof app->signals[0]; i++) {
        uv_close((uv_handle_t *)&app->signals[i], NULL);
    }
}

static void on_watch_stopped(void *owner)
{
    struct app *app = owner;
    catalog_unref(app->catalog);
    app->catalog = NULL;
    blob_store_stop(&app->blobs, on_blobs_stopped);
}

void app_part_closed(void *owner)
{
    struct app *app = owner;
    assert(app->parts_open > 0);
    if (--app->parts_open > 0) {
        return;
    }
    if (!app->fleet_stopped) { /* nobody comes or asks any more: what is known now is the last word */
        app->fleet_stopped = true;
        app->parts_open = 1;
        app_fleet_stop(app);
        return;
    }
    trigger_close(&app->trigger);
    uv_close((uv_handle_t *)&app->tick, NULL);
    uv_close((uv_handle_t *)&app->drain_timer, NULL);
    held_answers_close(&app->held);
    watch_stop(app->watch, on_watch_stopped);
}

/* The publisher is gone: nobody may ask it any more. */
static void on_broker_stopped(void *owner)
{
    struct app *app = owner;
    app->trigger.publisher = app->admin.publisher = NULL;
    app_part_closed(app);
}

static void on_entry_closed(void *owner)
{
    struct admin_entry *entry = owner;
    app_part_closed(entry->app);
}

void app_on_entry_empty(void *owner)
{
    struct admin_entry *entry = owner;
    http_server_close(&entry->http, on_entry_closed);
}

static void on_listener_closed(struct listener *listener)
{
    (void)listener;
}

static void on_tls_closed(struct tls_room *room)
{
    app_part_closed((char *)room - offsetof(struct app, tls_room));
}

void app_on_http_empty(void *owner)
{
    struct app *app = owner;
    if (app->has_tls) {
        app->parts_open++;
        app->admin.tls = NULL;
        tls_room_close(&app->tls_room, on_tls_closed);
    }
    http_server_close(&app->http, app_part_closed);
}

static void abort_connections(struct app *app)
{
    http_server_abort(&app->http);
    for (size_t i = 0; i < ADMIN_ENTRIES; i++) {
        if (app->entries[i].used) {
            http_server_abort(&app->entries[i].http);
        }
    }
}

static void on_drain_timeout(uv_timer_t *timer)
{
    struct app *app = timer->data;
    struct log_line line;
    log_begin(&line, LOG_WARN, "drain_ended");
    log_number(&line, "cut", (int64_t)app->http.connections);
    log_text(&line, "remedy", "raise --drain-timeout where devices need longer");
    log_end(&line);
    abort_connections(app);
}

void app_stop(struct app *app, const char *signal_name)
{
    if (app->stopping) {
        abort_connections(app); /* asked twice: at once */
        return;
    }
    app->stopping = true;
    struct log_line line;
    log_begin(&line, LOG_INFO, "stopping");
    log_text(&line, "signal", signal_name);
    log_number(&line, "transfers", (int64_t)app->http.transfers);
    log_end(&line);
    for (size_t i = 0; i < app->listener_count; i++) {
        listener_close(&app->listeners[i], on_listener_closed);
    }
    uv_timer_start(&app->drain_timer, on_drain_timeout, app->config.drain_timeout_ms, 0);
    uv_timer_start(&app->tick, app_on_tick, STOPPING_TICK_MS, STOPPING_TICK_MS);
    app->parts_open = 3; /* the devices' connections, the broker, changes of the repository */
    app->changes_awaited = true;
    admin_api_close(&app->admin);
    held_answers_release(&app->held);
    for (size_t i = 0; i < ADMIN_ENTRIES; i++) {
        app->parts_open += app->entries[i].used;
    }
    for (size_t i = 0; i < ADMIN_ENTRIES; i++) {
        if (app->entries[i].used) {
            listener_close(&app->entries[i].listener, on_listener_closed);
            http_server_drain(&app->entries[i].http);
        }
    }
    app->admin.session = NULL; /* gone before the last requests of the operator may be */
    trigger_stop(&app->trigger);
    broker_stop(&app->broker, on_broker_stopped, app);
    password_checks_stop(app->device_api.passwords);
    http_server_drain(&app->http);
}
