/* Start: state folder, descriptors, sockets (so that mistakes show at once), images, connections, watching; the first
 * catalog then opens the doors and connects the broker. Stop: whatever talks to the outside ends first, all at once;
 * when the last of it has, the rest follows, each step begun by the end of the one before. */
#include "server/app.h"

#include "base/log.h"
#include "repo/blob.h"
#include "repo/watch.h"
#include "server/admin_api.h"
#include "server/broker.h"
#include "server/device_api.h"
#include "server/folders.h"
#include "server/http_server.h"
#include "server/listener.h"
#include "server/public_url.h"
#include "server/router.h"
#include "server/tokens.h"
#include "server/trigger.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define ADMIN_CONNECTIONS_MAX 64
#define ADMIN_BODIES_MAX      (96u << 20)
#define MACHINE_ADDRESSES_MAX 64
#define TICK_MS               1000
#define STOPPING_TICK_MS      20

/* Descriptors that are no connections of devices: images in memory, the operator's connections, the loop's own. */
#define DESCRIPTORS_RESERVED (BLOBS_MAX + 2 * ADMIN_CONNECTIONS_MAX + 64)

/* One way in for the operator. */
struct admin_entry {
    struct admin_door door; /* first: what the http_server's callbacks get */
    struct app *app;
    struct http_server http;
    struct listener listener;
    bool used;
};

enum { ADMIN_UNIX, ADMIN_TCP, ADMIN_ENTRIES };

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
    struct fleet *fleet;
    struct rollouts *rollouts;
    struct metrics metrics;
    struct broker broker;
    struct trigger trigger;
    struct admin_api admin;
    struct admin_entry entries[ADMIN_ENTRIES];
    struct tokens *tokens;
    char admin_socket[CONFIG_TEXT_MAX + 32];
    char first_listener[128]; /* as it was bound: what the public URL is worked out from */
    struct machine_address addresses[MACHINE_ADDRESSES_MAX];
    size_t address_count;
    bool in_container;
    uv_timer_t tick;
    uint64_t idle_ns, looked_ns; /* of the loop, when its busy share was last worked out */
    unsigned parts_open;         /* of what talks to the outside, while stopping */
    bool changes_awaited;        /* one of them: changes of the repository under way */
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

static void begun(void *owner, struct delivery *delivery)
{
    struct app *app = owner;
    device_api_begun(&app->device_api, delivery);
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
    device_api_unavailable(&app->device_api, delivery, image, status, answer);
    if (status == STATUS_CHANGED || status == STATUS_NOT_FOUND) {
        watch_rescan(app->watch);
    }
}

static const struct http_handlers handlers = { handle, begun, delivered, unavailable, NULL };

static void on_entry_room(void *owner)
{
    struct admin_entry *entry = owner;
    listener_resume(&entry->listener);
}

/* A device said something over MQTT. Tasmota's topics carry only the end of its MAC. */
static void on_fact(void *owner, const struct device_fact *fact)
{
    struct app *app = owner;
    const struct device *known = fact->device.has_mac ? fleet_find(app->fleet, &fact->device.mac)
                                                      : fleet_find_tail(app->fleet, fact->device.mac_tail);
    const struct mac *mac = known != NULL ? &known->mac : fact->device.has_mac ? &fact->device.mac : NULL;
    if (mac == NULL) {
        return;
    }
    struct slice type = fact->device.type.at != NULL ? fact->device.type
                        : known != NULL              ? slice_of(known->type->name)
                                                     : slice_of("");
    if (fact->report.state == REPORT_ONLINE || fact->report.state == REPORT_OFFLINE) {
        if (type.len > 0 && catalog_has_type(app->catalog, type)) {
            fleet_said_online(app->fleet, mac, type, fact->report.state == REPORT_ONLINE);
        }
    } else if (!fact->retained) {
        rollouts_reported(app->rollouts, mac, &fact->report, uv_now(&app->loop));
    }
}

static void on_rollout_changed(void *owner, struct rollout *rollout)
{
    struct app *app = owner;
    trigger_rollout_changed(&app->trigger, rollout);
}

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

static void part_closed(void *owner)
{
    struct app *app = owner;
    assert(app->parts_open > 0);
    if (--app->parts_open > 0) {
        return;
    }
    trigger_close(&app->trigger);
    uv_close((uv_handle_t *)&app->tick, NULL);
    uv_close((uv_handle_t *)&app->drain_timer, NULL);
    watch_stop(app->watch, on_watch_stopped);
}

/* The publisher is gone: nobody may ask it any more. */
static void on_broker_stopped(void *owner)
{
    struct app *app = owner;
    app->trigger.publisher = app->admin.publisher = NULL;
    part_closed(app);
}

static void on_entry_closed(void *owner)
{
    struct admin_entry *entry = owner;
    part_closed(entry->app);
}

static void on_entry_empty(void *owner)
{
    struct admin_entry *entry = owner;
    http_server_close(&entry->http, on_entry_closed);
}

static void on_listener_closed(struct listener *listener)
{
    (void)listener;
}

static void on_http_empty(void *owner)
{
    struct app *app = owner;
    http_server_close(&app->http, part_closed);
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

static void on_tick(uv_timer_t *timer);

static void stop(struct app *app, const char *signal_name)
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
    uv_timer_start(&app->tick, on_tick, STOPPING_TICK_MS, STOPPING_TICK_MS);
    app->parts_open = 3; /* the devices' connections, the broker, changes of the repository */
    app->changes_awaited = true;
    admin_api_close(&app->admin);
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
    http_server_drain(&app->http);
}

/* --- time --------------------------------------------------------------------------------------------------------- */

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

static void on_tick(uv_timer_t *timer)
{
    struct app *app = timer->data;
    if (app->catalog != NULL) {
        admin_api_tick(&app->admin);
    }
    if (!app->stopping) {
        look_at_busy(app);
        rollouts_tick(app->rollouts, uv_now(&app->loop));
    } else if (app->changes_awaited && app->admin.changes == NULL) {
        app->changes_awaited = false;
        part_closed(app);
    }
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
    app->device_api.sources.assignments = app->config.assignments;
    app->device_api.sources.loop_guard_max = (unsigned)app->config.loop_guard_max;
    app->device_api.sources.fs_gzip = app->config.fs_gzip != 0;
    log_configure((enum log_level)app->config.log_level, (enum log_format)app->config.log_format);
    config_log_doubts(&app->config);
}

static void reload(struct app *app)
{
    struct config config;
    enum config_action action;
    char message[CONFIG_MESSAGE_MAX];
    if (config_read(&config, app->argc, app->argv, &action, message, sizeof message) != STATUS_OK) {
        LOG_EVENT(LOG_ERROR, "reload_failed", "why", message, "remedy", "the configuration before stays in effect");
        config_close(&config);
        return;
    }
    char fixed[256];
    config_keep_fixed(&config, &app->config, fixed, sizeof fixed);
    if (fixed[0] != '\0') {
        LOG_EVENT(LOG_WARN, "reload_partial", "keys", fixed, "remedy", "these take effect at the next start");
    }
    config_close(&app->config);
    app->config = config;
    apply_device_settings(app);
    app->http.limits = http_limits_of(&app->config);
    app->address_count = machine_addresses(app->addresses, MACHINE_ADDRESSES_MAX, &app->in_container);
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

static int bind_listeners(struct app *app)
{
    char message[512];
    for (size_t i = 0; i < app->config.listen_count; i++) {
        app->listener_count++;
        if (listener_bind(&app->listeners[i], &app->loop, &app->http, "listen", app->config.listen[i], message,
                          sizeof message) != STATUS_OK) {
            return say_error(message);
        }
    }
    return 0;
}

static void find_public_url(void *owner, struct public_url *url)
{
    struct app *app = owner;
    struct public_url_input input = {
        .configured = app->config.public_url,
        .used = used_addresses_most(&app->device_api.used),
        .listen = app->first_listener,
        .addresses = app->addresses,
        .address_count = app->address_count,
        .in_container = app->in_container,
    };
    public_url_choose(&input, url);
}

static void log_public_url(struct app *app)
{
    struct public_url url;
    find_public_url(app, &url);
    if (url.warning[0] != '\0') {
        LOG_EVENT(LOG_WARN, "public_url", "url", url.url, "why", url.warning);
    } else {
        LOG_EVENT(LOG_INFO, "public_url", "url", url.url);
    }
}

/* Opens one door, says so, and returns true; else everything stops. */
static bool open_door(struct app *app, struct listener *listener, const char *flag, const char *kind,
                      const char *configured, char address[128])
{
    if (listener_start(listener, address, 128) != STATUS_OK) {
        char message[CONFIG_TEXT_MAX + 256];
        snprintf(message, sizeof message, "--%s %s: %s: another program has this address", flag, configured, address);
        app->exit_code = say_error(message);
        stop(app, "none: cannot listen");
        return false;
    }
    printf("listening %s %s\n", kind, listener->path[0] != '\0' ? configured : address);
    return true;
}

static bool open_admin_doors(struct app *app)
{
    static const char *const flags[] = { [ADMIN_UNIX] = "admin-socket", [ADMIN_TCP] = "admin-listen" };
    char address[128];
    for (size_t i = 0; i < ADMIN_ENTRIES; i++) {
        const char *configured = i == ADMIN_UNIX ? app->admin_socket : app->config.admin_listen;
        if (app->entries[i].used &&
            !open_door(app, &app->entries[i].listener, flags[i], "admin", configured, address)) {
            return false;
        }
    }
    return true;
}

/* The first catalog is there: open the doors, and say so on stdout, a line a listener, then `ready`. */
static void open_doors(struct app *app)
{
    char address[128];
    for (size_t i = 0; i < app->listener_count; i++) {
        if (!open_door(app, &app->listeners[i], "listen", "http", app->config.listen[i], address)) {
            return;
        }
        if (i == 0) {
            snprintf(app->first_listener, sizeof app->first_listener, "%s", address);
        }
        snprintf(app->admin.listeners[app->admin.listener_count++], sizeof app->admin.listeners[0], "http %s", address);
    }
    if (!open_admin_doors(app)) {
        return;
    }
    log_public_url(app);
    broker_start(&app->broker, &app->loop, &app->config, on_fact, app);
    app->trigger.publisher = app->admin.publisher = app->broker.publisher;
    app->admin.session = app->broker.session;
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
    app->device_api.sources.catalog = catalog;
    app->trigger.catalog = catalog;
    app->admin.catalog = catalog;
    app->admin.scans++;
    if (first && !app->stopping) {
        open_doors(app);
    }
    admin_api_catalog_changed(&app->admin);
}

static enum status bind_entry(struct app *app, size_t i, char *message, size_t size)
{
    struct admin_entry *entry = &app->entries[i];
    struct http_limits limits = http_limits_of(&app->config);
    limits.connections_max = ADMIN_CONNECTIONS_MAX;
    limits.bodies_bytes_max = ADMIN_BODIES_MAX;
    entry->app = app;
    entry->used = true;
    entry->door = (struct admin_door){ .api = &app->admin, .needs_token = i == ADMIN_TCP };
    http_server_init(&entry->http, &app->loop, &app->blobs, &admin_handlers, entry, &limits);
    entry->http.of_unix = i == ADMIN_UNIX;
    entry->http.on_room = on_entry_room;
    entry->http.on_empty = on_entry_empty;
    return i == ADMIN_UNIX ? listener_bind_unix(&entry->listener, &app->loop, &entry->http, "admin-socket",
                                                app->admin_socket, message, size)
                           : listener_bind(&entry->listener, &app->loop, &entry->http, "admin-listen",
                                           app->config.admin_listen, message, size);
}

static int bind_entries(struct app *app)
{
    char message[CONFIG_TEXT_MAX + 256];
    if (app->config.admin_socket[0] != '\0') {
        snprintf(app->admin_socket, sizeof app->admin_socket, "%s", app->config.admin_socket);
    } else {
        snprintf(app->admin_socket, sizeof app->admin_socket, "%s/admin.sock", app->config.state);
    }
    for (size_t i = 0; i < ADMIN_ENTRIES; i++) {
        bool wanted = i == ADMIN_UNIX || app->config.admin_listen[0] != '\0';
        if (wanted && bind_entry(app, i, message, sizeof message) != STATUS_OK) {
            return say_error(message);
        }
    }
    return 0;
}

/* Two servers on one state folder would overwrite each other's work. The lock goes with the process. */
static int lock_state(const struct config *config)
{
    char path[CONFIG_TEXT_MAX + 16], message[CONFIG_TEXT_MAX + 256];
    snprintf(path, sizeof path, "%s/lock", config->state);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        return 0;
    }
    if (fd >= 0 && errno == EWOULDBLOCK) {
        snprintf(message, sizeof message,
                 "--state %s: another updraftd uses this folder: stop it, or give each its own", config->state);
    } else {
        snprintf(message, sizeof message, "--state %s: %s: %s: the server's user must be able to write there",
                 config->state, path, strerror(errno));
    }
    return say_error(message);
}

static int load_tokens(struct app *app)
{
    char path[CONFIG_TEXT_MAX + 32], message[CONFIG_TEXT_MAX + 512];
    snprintf(path, sizeof path, "%s/tokens", app->config.state);
    return tokens_load(path, &app->tokens, message, sizeof message) == STATUS_OK ? 0 : say_error(message);
}

static void rescan(void *owner)
{
    struct app *app = owner;
    watch_rescan(app->watch);
}

/* Makes everyone known to those who ask them. */
static void introduce(struct app *app)
{
    broker_init(&app->broker, &app->config);
    app->fleet = fleet_new(FLEET_DEVICES_MAX);
    app->rollouts = rollouts_new(on_rollout_changed, app);
    app->device_api.sources.loop = &app->loop;
    app->device_api.sources.guard = loop_guard_new(LOOP_GUARD_DEVICES_MAX);
    app->device_api.fleet = app->fleet;
    app->device_api.rollouts = app->rollouts;
    app->device_api.metrics = &app->metrics;
    app->trigger = (struct trigger){ .loop = &app->loop,
                                     .fleet = app->fleet,
                                     .rollouts = app->rollouts,
                                     .blobs = &app->blobs,
                                     .metrics = &app->metrics,
                                     .announce = app->broker.announce,
                                     .retain = app->config.command_retain != 0,
                                     .expires_ms = app->config.command_expiry_ms,
                                     .find_public_url = find_public_url,
                                     .owner = app };
    app->admin = (struct admin_api){ .loop = &app->loop,
                                     .config = &app->config,
                                     .device_api = &app->device_api,
                                     .fleet = app->fleet,
                                     .rollouts = app->rollouts,
                                     .trigger = &app->trigger,
                                     .inbox = &app->broker.inbox,
                                     .broker = app->broker.url,
                                     .device_http = &app->http,
                                     .blobs = &app->blobs,
                                     .metrics = &app->metrics,
                                     .tokens = app->tokens,
                                     .started_s = time(NULL),
                                     .started_ms = uv_now(&app->loop),
                                     .rescan = rescan,
                                     .find_public_url = find_public_url,
                                     .owner = app };
    app->address_count = machine_addresses(app->addresses, MACHINE_ADDRESSES_MAX, &app->in_container);
}

static void start_timers(struct app *app)
{
    uv_timer_init(&app->loop, &app->drain_timer);
    app->drain_timer.data = app;
    uv_timer_init(&app->loop, &app->tick);
    app->tick.data = app;
    uv_timer_start(&app->tick, on_tick, TICK_MS, TICK_MS);
}

static void start_signals(struct app *app)
{
    static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uv_signal_init(&app->loop, &app->signals[i]);
        app->signals[i].data = app;
        uv_signal_start(&app->signals[i], on_signal, numbers[i]);
    }
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

/* What can be wrong is found here, before anything runs. Returns 0, or 1 having said what. */
static int prepare(struct app *app)
{
    char message[CONFIG_TEXT_MAX + 1024];
    if (folders_prepare(&app->config, message, sizeof message) != STATUS_OK) {
        return say_error(message);
    }
    if (lock_state(&app->config) != 0 || load_tokens(app) != 0) {
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    json_object_seed(0); /* here, where opening /dev/urandom delays nobody */
    uv_loop_init(&app->loop);
    (void)uv_loop_configure(&app->loop, UV_METRICS_IDLE_TIME);
    app->loop.data = app;
    introduce(app);
    apply_device_settings(app);
    struct http_limits limits = http_limits_of(&app->config);
    http_server_init(&app->http, &app->loop, &app->blobs, &handlers, app, &limits);
    app->http.on_room = on_room;
    app->http.on_empty = on_http_empty;
    return bind_listeners(app) != 0 || bind_entries(app) != 0;
}

int app_run(struct config *config, int argc, char *const *argv)
{
    static struct app app; /* reachable to the end, whichever way it ends */
    app.config = *config;
    app.argc = argc;
    app.argv = argv;
    if (prepare(&app) != 0) {
        return 1;
    }
    log_start();
    blob_store_start(&app.blobs, &app.loop, app.config.repo, app.config.image_idle_ms, app.config.image_memory_bytes);
    start_timers(&app);
    start_signals(&app);
    start_watch(&app);
    uv_run(&app.loop, UV_RUN_DEFAULT);
    int error = uv_loop_close(&app.loop);
    assert(error == 0); /* every handle was closed */
    (void)error;
    loop_guard_free(app.device_api.sources.guard);
    rollouts_free(app.rollouts);
    fleet_free(app.fleet);
    tokens_free(app.tokens);
    config_close(&app.config);
    log_event(LOG_INFO, "stopped", (char *)NULL);
    log_stop();
    return app.exit_code;
}
