/* Start: folders, sockets (so that mistakes show at once), images, connections, watching; the first catalog then opens
 * the doors and connects the broker. Here everyone is made known to those who ask them; app_doors, app_settings,
 * app_tick and app_stop have the rest of the life. */
#include "server/app.h"

#include "base/log.h"
#include "server/app_parts.h"
#include "server/folders.h"
#include "server/router.h"

#include <assert.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

int app_say_error(const char *message)
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

/* A device said something over MQTT. Tasmota's topics carry only the end of its MAC. */
static void on_fact(void *owner, const struct device_fact *fact)
{
    struct app *app = owner;
    struct moment now = clock_moment(&app->loop);
    const struct device *known = fact->device.has_mac ? devices_find(app->fleet.devices, &fact->device.mac)
                                                      : devices_find_tail(app->fleet.devices, fact->device.mac_tail);
    const struct mac *mac = known != NULL ? &known->mac : fact->device.has_mac ? &fact->device.mac : NULL;
    if (mac == NULL) {
        return;
    }
    struct slice type = fact->device.type.at != NULL ? fact->device.type
                        : known != NULL              ? slice_of(words_text(app->fleet.words, known->type->name))
                                                     : slice_of("");
    if (fact->report.state == REPORT_ONLINE || fact->report.state == REPORT_OFFLINE) {
        bool stranger_left =
            known == NULL && fact->report.state == REPORT_OFFLINE; /* an old broker keeps such for ever */
        if (type.len > 0 && !stranger_left && catalog_has_type(app->catalog, type)) {
            fleet_said_online(&app->fleet, mac, type, fact->report.state == REPORT_ONLINE, &now);
        }
    } else if (!fact->retained) {
        fleet_reported(&app->fleet, mac, &fact->report, &now);
    }
}

/* --- starting ----------------------------------------------------------------------------------------------------- */

static void find_public_url(void *owner, struct public_url *url)
{
    struct app *app = owner;
    struct public_url_input input = {
        .configured = app->config.public_url,
        .before = app->said_url,
        .used = &app->device_api.used,
        .listen = app->first_listener,
        .over_tls = !config_is_plain(&app->config),
        .addresses = app->addresses,
        .address_count = app->address_count,
        .in_container = app->in_container,
    };
    public_url_choose(&input, url);
}

void app_say_public_url(struct app *app)
{
    struct public_url url;
    find_public_url(app, &url);
    bool warns = url.warning[0] != '\0';
    if (app->url_said && strcmp(url.url, app->said_url) == 0 && (!warns || app->url_warned)) {
        return;
    }
    app->url_said = true;
    app->url_warned = warns;
    snprintf(app->said_url, sizeof app->said_url, "%s", url.url);
    if (warns) {
        LOG_EVENT(LOG_WARN, "public_url", "url", url.url, "why", url.warning);
    } else {
        LOG_EVENT(LOG_INFO, "public_url", "url", url.url);
    }
}

/* The first catalog is there. */
static void open_up(struct app *app)
{
    if (!app_open_doors(app)) {
        return;
    }
    app_say_public_url(app);
    broker_start(&app->broker, &app->loop, &app->config, on_fact, app);
    app->trigger.publisher = app->admin.publisher = app->broker.publisher;
    app->admin.session = app->broker.session;
    trigger_restore(&app->trigger);
    printf("ready\n");
    fflush(stdout);
}

static void on_catalog(void *owner, struct catalog *catalog, enum watch_news news)
{
    struct app *app = owner;
    catalog_unref(app->catalog);
    app->catalog = catalog;
    app->device_api.sources.catalog = catalog;
    app->trigger.catalog = catalog;
    app->admin.catalog = catalog;
    app->admin.scans++;
    if (news == CATALOG_FOR_NOW) {
        trigger_await_images(&app->trigger);
        return;
    }
    trigger_look_for_images(&app->trigger);
    if (news == CATALOG_FIRST && !app->stopping) {
        open_up(app);
    }
    admin_api_catalog_changed(&app->admin);
}

/* What lets operators in, and what is noted of them. */
static int open_access(struct app *app)
{
    char path[CONFIG_TEXT_MAX + 32], message[CONFIG_TEXT_MAX + 512];
    snprintf(path, sizeof path, "%s/tokens", app->config.state);
    if (tokens_load(path, &app->tokens, message, sizeof message) != STATUS_OK) {
        return app_say_error(message);
    }
    snprintf(path, sizeof path, "%s/audit.log", app->config.state);
    if (audit_open(path, &app->loop, &app->audit, message, sizeof message) != STATUS_OK) {
        return app_say_error(message);
    }
    app->failed_logins = attempts_new(&attempts_of_operators);
    app->admin.tokens = app->tokens;
    app->admin.audit = app->audit;
    app->admin.failed_logins = app->failed_logins;
    return app->failed_logins != NULL ? 0 : app_say_error("out of memory");
}

/* Tokens of before there were roles go on as they were, and that is not what anybody would choose today. */
static void say_old_tokens(const struct app *app)
{
    struct token_view view;
    for (size_t i = 0; tokens_at(app->tokens, i, &view); i++) {
        if (view.role_unsaid) {
            LOG_EVENT(LOG_WARN, "token_without_role", "name", view.name, "role", role_word(view.role), "remedy",
                      "`updraft token new --role read|operate|admin` makes one that may less; then revoke this one");
        }
    }
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
    app->device_api.sources.loop = &app->loop;
    app->device_api.sources.fleet = &app->fleet;
    app->device_api.fleet = &app->fleet;
    app->device_api.metrics = &app->metrics;
    device_api_open(&app->device_api);
    app->trigger = (struct trigger){ .loop = &app->loop,
                                     .fleet = &app->fleet,
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
                                     .fleet = &app->fleet,
                                     .trigger = &app->trigger,
                                     .inbox = &app->broker.inbox,
                                     .broker = app->broker.url,
                                     .device_http = &app->http,
                                     .blobs = &app->blobs,
                                     .metrics = &app->metrics,
                                     .held = &app->held,
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
    uv_timer_start(&app->tick, app_on_tick, TICK_MS, TICK_MS);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct app *app = handle->data;
    if (number != SIGHUP) {
        app_stop(app, number == SIGTERM ? "SIGTERM" : "SIGINT");
    } else if (!app->stopping) {
        app_reload(app);
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
}

static void start_watch(struct app *app)
{
    char cache_path[CONFIG_TEXT_MAX + 32];
    snprintf(cache_path, sizeof cache_path, "%s/digests.cache", app->config.state);
    struct watch_config config = {
        .root = app->config.repo,
        .cache_path = cache_path,
        .keys = app->admin.signing_keys,
        .settle_ms = app->config.settle_ms,
        .rescan_ms = app->config.rescan_ms,
    };
    app->watch = watch_start(&app->loop, &config, on_catalog, app);
}

/* The folders and what of them is needed at once. */
static int open_folders(struct app *app)
{
    char message[FOLDERS_MESSAGE_MAX];
    if (folders_prepare(&app->config, message, sizeof message) != STATUS_OK ||
        folders_lock(&app->config, message, sizeof message) != STATUS_OK) {
        return app_say_error(message);
    }
    return open_access(app);
}

/* What can be wrong is found here, before anything runs: first what may need root, then, as the user, what makes files,
 * then, confined, what begins threads. Returns 0, or 1 having said what. */
static int prepare(struct app *app)
{
    signal(SIGPIPE, SIG_IGN);
    /* A file that is larger than a limit allows is an error of its upload, not our end. */
    signal(SIGXFSZ, SIG_IGN);
    json_object_seed(0); /* here, where opening /dev/urandom delays nobody */
    app_begin_sandbox(app);
    uv_loop_init(&app->loop);
    (void)uv_loop_configure(&app->loop, UV_METRICS_IDLE_TIME);
    app->loop.data = app;
    introduce(app);
    app_apply_settings(app);
    struct http_limits limits = app_http_limits(app);
    http_server_init(&app->http, &app->loop, &app->blobs, &handlers, app, &limits);
    app->http.refused = app->metrics.families[METRIC_REFUSED];
    app->http.on_room = app_on_room;
    app->http.on_empty = app_on_http_empty;
    if (app_tls_open(app) != 0 || app_passwords_open(app) != 0 || app_signing_open(app) != 0 ||
        app_bind_addresses(app) != 0 || app_become_user(app) != 0) {
        return 1;
    }
    if (open_folders(app) != 0 || app_bind_socket(app) != 0 || app_confine(app) != 0) {
        return 1;
    }
    int failed = app_fleet_open(app);
    app->admin.store = app->store;
    return failed;
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
    app_say_sandbox(&app);
    blob_store_start(&app.blobs, &app.loop, app.config.repo, app.config.image_idle_ms, app.config.image_memory_bytes);
    say_old_tokens(&app);
    held_answers_init(&app.held, &app.loop, ADMIN_HELD_MAX, ADMIN_HELD_PEER_MAX);
    start_timers(&app);
    start_signals(&app);
    start_watch(&app);
    admin_api_start(&app.admin);
    uv_run(&app.loop, UV_RUN_DEFAULT);
    int error = uv_loop_close(&app.loop);
    assert(error == 0); /* every handle was closed */
    (void)error;
    audit_close(app.audit);
    device_api_close(&app.device_api);
    password_checks_free(app.device_api.passwords);
    fleet_close(&app.fleet);
    tokens_free(app.tokens);
    attempts_free(app.failed_logins);
    signature_keys_unref(app.admin.signing_keys);
    config_close(&app.config);
    log_event(LOG_INFO, "stopped", (char *)NULL);
    log_stop();
    return app.exit_code;
}
