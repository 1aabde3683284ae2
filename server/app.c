/* Start: state folder, descriptors, sockets (so that mistakes show at once), images, connections, watching; the first
 * catalog then opens the doors. Stop: the same way back, each step begun by the end of the one before. */
#include "server/app.h"

#include "base/log.h"
#include "repo/blob.h"
#include "repo/watch.h"
#include "server/device_api.h"
#include "server/http_server.h"
#include "server/listener.h"
#include "server/router.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

/* Descriptors that are not connections: the images in memory, the loop's own, files being read. */
#define DESCRIPTORS_RESERVED (BLOBS_MAX + 64)

struct app {
    uv_loop_t loop;
    struct config config;
    int argc;
    char *const *argv;
    int exit_code;
    bool stopping;
    uv_signal_t signals[3];
    uv_timer_t drain_timer;
    size_t listener_count, listeners_open;
    struct listener listeners[CONFIG_LISTEN_MAX];
    struct blob_store blobs;
    struct http_server http;
    struct watch *watch;
    struct catalog *catalog;
    struct device_api device_api;
};

static int say_error(const char *message)
{
    fprintf(stderr, "updraftd: %s\n", message);
    return 1;
}

/* --- what the connections ask of us ------------------------------------------------------------------------------- */

static void handle(void *owner, const struct http_request *request, struct stream *stream, struct http_answer *answer)
{
    struct app *app = owner;
    router_answer(&app->device_api, request, stream, answer);
}

static void delivered(void *owner, struct delivery *delivery, const struct delivery_outcome *outcome)
{
    struct app *app = owner;
    device_api_delivered(&app->device_api, delivery, outcome);
}

static void unavailable(void *owner, const struct image *image, const struct delivery *delivery, enum status status,
                        struct http_answer *answer)
{
    struct app *app = owner;
    device_api_unavailable(delivery, image, status, answer);
    if (status == STATUS_CHANGED || status == STATUS_NOT_FOUND) {
        watch_rescan(app->watch);
    }
}

static const struct http_handlers handlers = { handle, delivered, unavailable };

static void on_room(void *owner)
{
    struct app *app = owner;
    for (size_t i = 0; i < app->listener_count; i++) {
        listener_resume(&app->listeners[i]);
    }
}

/* --- stopping ----------------------------------------------------------------------------------------------------- */

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
    if (app->catalog != NULL) {
        catalog_unref(app->catalog);
        app->catalog = NULL;
    }
    blob_store_stop(&app->blobs, on_blobs_stopped);
}

static void on_http_closed(void *owner)
{
    struct app *app = owner;
    watch_stop(app->watch, on_watch_stopped);
}

static void on_listener_closed(struct listener *listener)
{
    (void)listener;
}

static void on_http_empty(void *owner)
{
    struct app *app = owner;
    uv_close((uv_handle_t *)&app->drain_timer, NULL);
    http_server_close(&app->http, on_http_closed);
}

static void on_drain_timeout(uv_timer_t *timer)
{
    struct app *app = timer->data;
    struct log_line line;
    log_begin(&line, LOG_WARN, "drain_ended");
    log_number(&line, "cut", (int64_t)app->http.connections);
    log_text(&line, "remedy", "raise --drain-timeout where devices need longer");
    log_end(&line);
    http_server_abort(&app->http);
}

static void stop(struct app *app, const char *signal_name)
{
    if (app->stopping) {
        http_server_abort(&app->http); /* asked twice: at once */
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
    http_server_drain(&app->http);
}

/* --- configuration ------------------------------------------------------------------------------------------------ */

/* As many connections as there are descriptors for, and no more than asked. */
static size_t connections_max(const struct config *config)
{
    struct rlimit limit;
    uint64_t room = 1024;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        (void)getrlimit(RLIMIT_NOFILE, &limit);
        room = limit.rlim_cur == RLIM_INFINITY ? 1000000 : limit.rlim_cur;
    }
    room = room > 2 * DESCRIPTORS_RESERVED ? room - DESCRIPTORS_RESERVED : room / 2;
    if (config->connections_max > room) {
        struct log_line line;
        log_begin(&line, LOG_WARN, "connections_limited");
        log_number(&line, "wanted", (int64_t)config->connections_max);
        log_number(&line, "allowed", (int64_t)room);
        log_text(&line, "remedy", "raise the descriptor limit (ulimit -n, LimitNOFILE=)");
        log_end(&line);
    }
    return config->connections_max != 0 && config->connections_max < room ? config->connections_max : room;
}

static struct http_limits http_limits_of(const struct config *config)
{
    return (struct http_limits){
        .head_ms = config->head_timeout_ms,
        .idle_ms = config->idle_timeout_ms,
        .transfer_ms = config->transfer_timeout_ms,
        .connections_max = connections_max(config),
    };
}

static void apply_device_settings(struct app *app)
{
    app->device_api.assignments = app->config.assignments;
    app->device_api.loop_guard_max = (unsigned)app->config.loop_guard_max;
    app->device_api.fs_gzip = app->config.fs_gzip != 0;
    log_configure((enum log_level)app->config.log_level, (enum log_format)app->config.log_format);
}

static void reload(struct app *app)
{
    struct config config;
    enum config_action action;
    char message[1024];
    if (config_read(&config, app->argc, app->argv, &action, message, sizeof message) != STATUS_OK) {
        LOG_EVENT(LOG_ERROR, "reload_failed", "why", message, "remedy", "the configuration before stays in effect");
        config_close(&config);
        return;
    }
    char fixed[256];
    config_fixed_differences(&app->config, &config, fixed, sizeof fixed);
    if (fixed[0] != '\0') {
        LOG_EVENT(LOG_WARN, "reload_partial", "keys", fixed, "remedy", "these take effect at the next start");
    }
    config_close(&app->config);
    app->config = config;
    apply_device_settings(app);
    app->http.limits = http_limits_of(&app->config);
    blob_store_configure(&app->blobs, app->config.image_idle_ms, app->config.image_memory_bytes);
    watch_configure(app->watch, app->config.settle_ms, app->config.rescan_ms);
    watch_rescan(app->watch);
    on_room(app);
    struct log_line line;
    log_begin(&line, LOG_INFO, "reloaded");
    log_number(&line, "assignments", (int64_t)assignments_count(app->config.assignments));
    log_end(&line);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct app *app = handle->data;
    if (number != SIGHUP) {
        stop(app, number == SIGTERM ? "SIGTERM" : "SIGINT");
    } else if (!app->stopping) {
        reload(app);
    }
}

/* --- starting ----------------------------------------------------------------------------------------------------- */

/* The state folder, made where it is missing; the repository, which must be there. Returns 0, or 1 having said why not.
 */
static int check_folders(const struct config *config)
{
    char message[CONFIG_TEXT_MAX + 256];
    int repo = open(config->repo, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (repo < 0) {
        snprintf(message, sizeof message, "--repo %s: %s: make the folder readable, or name the one with your images",
                 config->repo, strerror(errno));
        return say_error(message);
    }
    close(repo);
    if (mkdir(config->state, 0750) != 0 && errno != EEXIST) {
        snprintf(message, sizeof message, "--state %s: %s: make its parent folder, or name another", config->state,
                 strerror(errno));
        return say_error(message);
    }
    int state = open(config->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (state < 0 || faccessat(state, ".", W_OK | X_OK, AT_EACCESS) != 0) {
        snprintf(message, sizeof message, "--state %s: %s: the server's user must be able to write there",
                 config->state, strerror(errno));
        if (state >= 0) {
            close(state);
        }
        return say_error(message);
    }
    close(state);
    return 0;
}

static int bind_listeners(struct app *app)
{
    char message[512];
    for (size_t i = 0; i < app->config.listen_count; i++) {
        app->listener_count++;
        if (listener_bind(&app->listeners[i], &app->loop, &app->http, app->config.listen[i], message, sizeof message) !=
            STATUS_OK) {
            return say_error(message);
        }
    }
    return 0;
}

/* The first catalog is there: open the doors, and say so on stdout, a line a listener, then `ready`. */
static void open_doors(struct app *app)
{
    for (size_t i = 0; i < app->listener_count; i++) {
        char address[128];
        if (listener_start(&app->listeners[i], address, sizeof address) != STATUS_OK) {
            char message[512];
            snprintf(message, sizeof message, "--listen %s: %s: another program has this port", app->config.listen[i],
                     address);
            app->exit_code = say_error(message);
            stop(app, "none: cannot listen");
            return;
        }
        printf("listening http %s\n", address);
    }
    printf("ready\n");
    fflush(stdout);
}

static void on_catalog(void *owner, struct catalog *catalog, bool first)
{
    struct app *app = owner;
    if (app->catalog != NULL) {
        catalog_unref(app->catalog);
    }
    app->catalog = catalog;
    app->device_api.catalog = catalog;
    if (first && !app->stopping) {
        open_doors(app);
    }
}

static void start_signals(struct app *app)
{
    static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uv_signal_init(&app->loop, &app->signals[i]);
        app->signals[i].data = app;
        uv_signal_start(&app->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&app->loop, &app->drain_timer);
    app->drain_timer.data = app;
}

static void start_watch(struct app *app)
{
    char cache_path[CONFIG_TEXT_MAX + 32];
    snprintf(cache_path, sizeof cache_path, "%s/digests.cache", app->config.state);
    struct watch_config config = {
        .root = app->config.repo,
        .cache_path = cache_path,
        .settle_ms = app->config.settle_ms,
        .rescan_ms = app->config.rescan_ms,
    };
    app->watch = watch_start(&app->loop, &config, on_catalog, app);
}

int app_run(struct config *config, int argc, char *const *argv)
{
    static struct app app; /* reachable to the end, whichever way it ends */
    app.config = *config;
    app.argc = argc;
    app.argv = argv;
    if (check_folders(&app.config) != 0) {
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&app.loop);
    app.loop.data = &app;
    apply_device_settings(&app);
    struct http_limits limits = http_limits_of(&app.config);
    http_server_init(&app.http, &app.loop, &app.blobs, &handlers, &app, &limits);
    app.http.on_room = on_room;
    app.http.on_empty = on_http_empty;
    if (bind_listeners(&app) != 0) {
        return 1;
    }
    log_start();
    blob_store_start(&app.blobs, &app.loop, app.config.repo, app.config.image_idle_ms, app.config.image_memory_bytes);
    app.device_api.loop = &app.loop;
    app.device_api.guard = loop_guard_new(LOOP_GUARD_DEVICES_MAX);
    start_signals(&app);
    start_watch(&app);
    uv_run(&app.loop, UV_RUN_DEFAULT);
    int error = uv_loop_close(&app.loop);
    assert(error == 0); /* every handle was closed */
    (void)error;
    loop_guard_free(app.device_api.guard);
    config_close(&app.config);
    log_event(LOG_INFO, "stopped", (char *)NULL);
    log_stop();
    return app.exit_code;
}
