/* What the configuration says, put into effect: at the start, and again on SIGHUP, which drops no connection. */
#include "server/app_parts.h"
#include "server/app_signing.h"

#include "base/log.h"

#include <assert.h>
#include <sys/resource.h>

/* Descriptors that are no connections of devices: images in memory, the operator's connections, the loop's own. */
#define DESCRIPTORS_RESERVED (BLOBS_MAX + 2 * ADMIN_CONNECTIONS_MAX + 64)

#define REST_MS 2000 /* of a device between its requests, then another takes its place at a full door */

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
    return config->connections_max != 0 && config->connections_max < room ? config->connections_max : room;
}

/* Where it is the descriptors that are few; config_doubts speaks of the rest. */
static void say_limits(const struct config *config)
{
    size_t max = connections_max(config);
    const struct {
        const char *event;
        enum log_level level;
        uint64_t wanted, allowed;
    } rows[] = {
        { "connections_limited", LOG_WARN, config->connections_max, max },
        { "peer_connections_limited", LOG_INFO, config->peer_connections_max, config_peer_max(config, max) },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && max != config->connections_max; i++) {
        struct log_line line;
        if (rows[i].wanted <= rows[i].allowed) {
            continue;
        }
        log_begin(&line, rows[i].level, rows[i].event);
        log_number(&line, "wanted", (int64_t)rows[i].wanted);
        log_number(&line, "allowed", (int64_t)rows[i].allowed);
        log_text(&line, "remedy", "raise the descriptor limit (ulimit -n, LimitNOFILE=)");
        log_end(&line);
    }
}

struct http_limits app_http_limits(const struct app *app)
{
    const struct config *config = &app->config;
    size_t max = connections_max(config);
    return (struct http_limits){
        .head_ms = config->head_timeout_ms,
        .idle_ms = config->idle_timeout_ms,
        .transfer_ms = config->transfer_timeout_ms,
        .connections_max = max,
        .peer_max = config_peer_max(config, max),
        .rest_ms = REST_MS,
        .exempt = &app->device_api.proxies,
        .refusals_ms = 60000,
    };
}

static void read_networks(struct client_networks *networks, const struct config_list *list)
{
    static_assert(CLIENT_NETWORKS_MAX <= CONFIG_LIST_MAX, "all that a list holds");
    networks->count = 0;
    for (size_t i = 0; i < list->count; i++) {
        bool good = client_network_read(slice_of(list->texts[i]), &networks->networks[networks->count++]);
        assert(good); /* the configuration was read with it */
        (void)good;
    }
}

static void read_macs(struct mac_list *macs, const struct config_list *list)
{
    static_assert(MAC_LIST_MAX <= CONFIG_LIST_MAX, "all that a list holds");
    for (size_t i = 0; i < list->count; i++) {
        bool good = mac_prefix_read(slice_of(list->texts[i]), &macs->prefixes[macs->count++]);
        assert(good);
        (void)good;
    }
}

void app_apply_settings(struct app *app)
{
    static_assert((int)CERTIFICATE_MACS_NAMED == (int)CONFIG_TLS_MAC_NAMED &&
                      (int)CERTIFICATE_MACS_REQUIRED == (int)CONFIG_TLS_MAC_REQUIRED &&
                      (int)CERTIFICATE_MACS_ANY == (int)CONFIG_TLS_MAC_ANY,
                  "one order");
    app->fleet.settings =
        (struct fleet_settings){ .assignments = app->config.assignments,
                                 .offerings = app->config.offerings,
                                 .hold_unknown = app->config.unknown_devices != CONFIG_UNKNOWN_ALLOWED,
                                 .refuse_unknown = app->config.unknown_devices == CONFIG_UNKNOWN_REFUSED,
                                 .loop_guard_max = (unsigned)app->config.loop_guard_max };
    read_macs(&app->fleet.settings.block_macs, &app->config.block_macs);
    read_macs(&app->fleet.settings.allow_macs, &app->config.allow_macs);
    app->trigger.reboot_ms = app->config.reboot_timeout_ms;
    app->trigger.site_in_flight = (unsigned)app->config.site_in_flight;
    app->admin.max_failures = (unsigned)app->config.max_failures_percent;
    read_networks(&app->device_api.proxies, &app->config.trusted_proxies);
    read_networks(&app->device_api.block, &app->config.block_networks);
    read_networks(&app->device_api.allow, &app->config.allow_networks);
    app->device_api.used.plain_counts = config_is_plain(&app->config);
    app->device_api.certificate_macs = (enum certificate_macs)app->config.tls_client_mac;
    app->device_api.sources.fs_gzip = app->config.fs_gzip != 0;
    log_configure((enum log_level)app->config.log_level, (enum log_format)app->config.log_format);
    config_log_doubts(&app->config);
    say_limits(&app->config);
}

void app_reload(struct app *app)
{
    struct config config;
    enum config_action action;
    char message[CONFIG_MESSAGE_MAX];
    struct signature_keys *keys = NULL;
    struct device_users *users = NULL;
    if (config_read(&config, app->argc, app->argv, &action, message, sizeof message) != STATUS_OK ||
        app_signing_load(&config, &keys, message, sizeof message) != STATUS_OK ||
        app_passwords_load(app, &config, &users, message, sizeof message) != STATUS_OK) {
        signature_keys_unref(keys);
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
    app_apply_settings(app);
    app->http.limits = app_http_limits(app);
    app_tls_reload(app);
    app_passwords_use(app, users);
    app->address_count = machine_addresses(app->addresses, MACHINE_ADDRESSES_MAX, &app->in_container);
    blob_store_configure(&app->blobs, app->config.image_idle_ms, app->config.image_memory_bytes);
    watch_configure(app->watch, app->config.settle_ms, app->config.rescan_ms);
    app_signing_use(app, keys);
    app_on_room(app);
    struct log_line line;
    log_begin(&line, LOG_INFO, "reloaded");
    log_number(&line, "assignments", (int64_t)assignments_count(app->config.assignments));
    log_end(&line);
}
